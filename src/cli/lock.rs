//! `sstore lock`

use std::process::ExitStatus;

use clap::Args;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::connection::ConnectionArguments;
use super::exit::Failure;
use super::signals::Signals;
use super::span::Span;
use crate::{Error, LockOptions};

/// Run a command while holding a lock
///
/// The lock is renewed while the command runs and released when it ends; its exit code is that of this
/// program. If the lock is lost meanwhile, the command is sent SIGTERM. It finds the fencing token in the
/// environment as SSTORE_LOCK_TOKEN, and hands it on with `sstore set --lock NAME:TOKEN`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The lock's name
    #[arg(value_name = "NAME")]
    lock: String,
    /// How long to wait for it behind those who came before
    #[arg(long, value_name = "TIME", default_value_t = Span::from_ms(0))]
    wait: Span,
    /// How long the lock outlives this program should it be cut off, 1s to 5m
    #[arg(long, value_name = "TIME", default_value_t = Span::from_ms(15_000))]
    ttl: Span,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    #[command(flatten)]
    connection: ConnectionArguments,
}

/// What the command's end gives this program: the exit code of the command.
pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let connection = arguments.connection.join(true, ())?;
    let (lost, mut loss) = oneshot::channel();
    let options = LockOptions { ttl_ms: arguments.ttl.ms(), wait_ms: arguments.wait.ms() };
    let acquire = connection.store.lock(&arguments.lock, options, move |error| drop(lost.send(error)));
    let held = match acquire.wait(arguments.wait.duration() + connection.time_left()) {
        Ok(lock) => lock,
        Err(error) => {
            connection.leave();
            return Err(error.into());
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::system("starting", &error))?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new().map_err(|error| Failure::system("watching for signals", &error))?;
        let (program, rest) = arguments.command.split_first().ok_or_else(|| Failure::usage("there is no command"))?;
        let mut command = Command::new(program);
        command.args(rest).env("SSTORE_LOCK_TOKEN", held.token().to_string());
        let mut child = command.spawn().map_err(|error| Failure::usage(format!("{program}: {error}")))?;
        let mut lost: Option<Error> = None;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                // From a terminal the command gets it as well; otherwise it is passed on.
                _ = signals.next() => terminate(&child),
                error = &mut loss, if lost.is_none() => {
                    terminate(&child);
                    lost = Some(error.unwrap_or_else(|_| crate::ErrorCode::Closed.into()));
                }
            }
        };
        let status = status.map_err(|error| Failure::system("waiting for the command", &error))?;
        match lost {
            Some(error) => Err(Failure::from(error)),
            None => Ok(code_of(status)),
        }
    });
    drop(held);
    connection.leave();
    outcome
}

/// Asks the command to end.
fn terminate(child: &Child) {
    #[cfg(unix)]
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // SAFETY: no memory is concerned; the child has not been waited for, so the id is its own.
        unsafe { libc::kill(id, libc::SIGTERM) };
    }
    #[cfg(not(unix))]
    let _ = child;
}

fn code_of(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128_u8.saturating_add(u8::try_from(signal).unwrap_or(0));
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
