//! `sstore serve`

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Args};

use super::exit::Failure;
use super::logs;
use super::output;
use super::settings::Settings;
use super::signals::{Reload, Signals};
use crate::{Error, ErrorCode, Server, ServerOptions};

/// What stopping may take beyond the time that connections and webhooks are given: threads end after it.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// Descriptors that a server needs besides its connections: the listening socket, its event
/// queues, the standard streams, with room to spare.
const OTHER_DESCRIPTORS: u64 = 64;

/// Host rooms
///
/// When connections are accepted, one line with the server's URL is printed on stdout; logs go to
/// stderr. SIGHUP reads the rules and the certificate again. SIGTERM or SIGINT stops the server: clients are told to come back in a moment, and the
/// exit code is 0. A second signal ends it at once, with 128 and the signal's number.
///
/// Every setting can be given as a flag, as an environment variable, or in a TOML file (its name
/// there has _ for -, as in max_keys = 100). Flags count before the environment, that before the
/// file, and that before the defaults. Times look like 250ms, 30s or 5m.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// TOML file with settings. Unknown names in it are errors
    #[arg(long, env = "SSTORE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(mut arguments: Arguments, matches: Option<&ArgMatches>) -> Result<(), Failure> {
    let matches = matches.ok_or_else(|| Error::from(ErrorCode::Internal))?;
    if let Some(path) = &arguments.config {
        arguments.settings.read_file(path, matches)?;
    }
    let settings = &arguments.settings;
    let options = settings.server_options(matches)?;
    // Before the runtime, so that it goes after it.
    let _traces = logs::start(settings.log_format, &settings.log_level)?;
    if options.secret.is_none() {
        tracing::warn!("there is no secret: everybody may join every room");
    }
    raise_descriptor_limit(options.max_connections);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::system("starting", &error))?;
    runtime.block_on(serve(options, settings))
}

async fn serve(options: ServerOptions, settings: &Settings) -> Result<(), Failure> {
    // First, so that a signal that comes right after the line on stdout is not missed.
    let failed = |error: io::Error| Failure::system("watching for signals", &error);
    let (mut signals, mut reload) = (Signals::new().map_err(failed)?, Reload::new().map_err(failed)?);
    let patience = patience(&options);
    let speaks_tls = options.tls.is_some();
    let server = Arc::new(Server::start(options)?);
    let (tell, mut ended) = tokio::sync::oneshot::channel();
    let watched = server.clone();
    // A thread of its own: the runtime would wait for it, also when the server does not stop in time.
    let watcher = std::thread::Builder::new().spawn(move || tell.send(watched.wait()));
    watcher.map_err(|error| Failure::system("watching the server", &error))?;
    match output::write_line(&server.url()) {
        // Nobody wants to know: `sstore serve >&-`.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tracing::warn!(%error, "the URL could not be written to stdout");
        }
        _ => {}
    }
    loop {
        tokio::select! {
            _ = signals.next() => break,
            Ok(Err(failure)) = &mut ended => return Err(failure.into()),
            () = reload.next() => {
                match settings.rules() {
                    Ok(rules) => {
                        tracing::info!(rules = rules.is_some(), "the rules were read again");
                        server.set_rules(rules);
                    }
                    Err(failure) => tracing::error!(%failure, "the old rules stay in force"),
                }
                match server.reload_tls() {
                    Ok(()) => tracing::info!("the certificate was read again"),
                    Err(_) if !speaks_tls => {}
                    Err(error) => tracing::error!(error = error.message(), "the old certificate stays in force"),
                }
            }
        }
    }
    tracing::info!("stopping; another signal ends this at once");
    let stopped = tokio::task::spawn_blocking(move || server.stop_wait(patience));
    tokio::select! {
        stopped = stopped => stopped.unwrap_or_else(|_| Err(ErrorCode::Internal.into()))?,
        code = signals.next() => std::process::exit(code.into()),
    }
    tracing::info!("stopped");
    Ok(())
}

/// How long stopping may take: connections have their time, and after them webhooks as much again.
fn patience(options: &ServerOptions) -> Duration {
    Duration::from_millis(options.shutdown_ms.saturating_mul(2)) + STOP_MARGIN
}

/// The usual limit of descriptors, 1,024, is for programs that use select(); the hard limit is
/// what the administrator meant.
#[cfg(unix)]
fn raise_descriptor_limit(connections: usize) {
    let needed = (connections as u64).saturating_add(OTHER_DESCRIPTORS);
    match rlimit::increase_nofile_limit(needed) {
        Ok(have) if have < needed => tracing::warn!(
            descriptors = have,
            needed,
            "the system allows fewer file descriptors than max_connections needs; raise the hard limit"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the number of file descriptors cannot be raised"),
    }
}

#[cfg(not(unix))]
fn raise_descriptor_limit(_connections: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_takes_what_it_was_given_is_waited_for() {
        // The manual gives connections that time and then webhooks as much again.
        for shutdown_ms in [0, 2_000, 30_000, 366 * 86_400_000] {
            let options = ServerOptions { shutdown_ms, ..Default::default() };
            let given = Duration::from_millis(shutdown_ms) * 2;
            assert!(patience(&options) >= given + STOP_MARGIN, "{shutdown_ms}");
        }
    }
}
