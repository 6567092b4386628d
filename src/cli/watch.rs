//! `sstore watch`

use std::io;

use clap::Args;
use tokio::sync::mpsc::{unbounded_channel, UnboundedSender};

use super::connection::ConnectionArguments;
use super::exit::Failure;
use super::output;
use super::signals::Signals;
use crate::core::names;
use crate::{ConnectionState, Error, ErrorCode, KeyChange, KeyChangeListener, KeyEvent, Selector, UpdateListener};

/// Print the changes of keys as they happen
///
/// First the current value of each key (null when absent), then one line per change: time (UTC),
/// version, author, key and value. Runs until SIGINT or SIGTERM; reconnects by itself, and says so
/// on stderr. If the output is read too slowly, older changes of a key give way to newer ones; the
/// newest is never missed.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The keys; $lock/NAME shows who holds a lock
    #[arg(required_unless_present_any = ["prefix", "all"], value_name = "KEY")]
    keys: Vec<String>,
    /// Every key that begins with this, those to come included; may be given several times
    #[arg(long, value_name = "PREFIX")]
    prefix: Vec<String>,
    /// Every key
    #[arg(long)]
    all: bool,
    /// Print each change as one JSON object a line: key, value, version, updated_at (ms since
    /// 1970), author, expires_at, reason (expired, peer-left or cleared, for a key that is gone and was
    /// not removed), snapshot (a current value rather than a change), replaced (older changes that this
    /// one stands for)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
}

/// What ends a watch by itself.
enum End {
    /// The client closed, or the server refused to listen.
    Closed(Error),
    /// A line could not be written.
    Output(io::Error),
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.keys.iter().try_for_each(|key| names::check_key(key))?;
    arguments.prefix.iter().try_for_each(|prefix| names::check_prefix(prefix))?;
    let mut selector = Selector { keys: arguments.keys.clone(), prefixes: arguments.prefix.clone() };
    selector.prefixes.extend(arguments.all.then(String::new));
    let (ended, mut ends) = unbounded_channel();
    let reporter = Reporter { ended: ended.clone(), lost: false };
    // Until it has joined, a signal ends this process as it ends any other.
    let connection = arguments.connection.join(false, reporter)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::system("starting", &error))?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(|error| Failure::system("watching for signals", &error))?;
        let printer = Printer { json: arguments.json, ended };
        connection.store.listen_to(&selector, printer).map_err(Failure::from)?.detach();
        let outcome = tokio::select! {
            _ = signals.next() => Ok(()),
            // The next line would find out as well, but may be long in coming.
            () = output::reader_gone() => Ok(()),
            end = ends.recv() => match end {
                Some(End::Closed(error)) => Err(error.into()),
                // The reader has gone: `sstore watch ... | head -1`.
                Some(End::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                Some(End::Output(error)) => Err(Failure::system("writing to stdout", &error)),
                None => Err(Failure::from(Error::from(ErrorCode::Closed))),
            },
        };
        connection.leave();
        outcome
    })
}

/// Prints changes, each as one line.
struct Printer {
    json: bool,
    ended: UnboundedSender<End>,
}

impl Printer {
    fn print(&self, event: &KeyEvent) -> io::Result<()> {
        match self.json {
            true => output::write_line(&output::event_json(event)?),
            false => output::write_styled(&output::event_line(event)),
        }
    }
}

impl KeyChangeListener for Printer {
    fn on_change(&mut self, change: KeyChange<'_>) {
        let end = match change {
            KeyChange::Event(event) => self.print(event).err().map(End::Output),
            KeyChange::SnapshotEnd => None,
            KeyChange::Refused(error) => Some(End::Closed(error.clone())),
        };
        if let Some(end) = end {
            // Fails when this watch is ending already.
            let _ = self.ended.send(end);
        }
    }
}

/// Says on stderr how the connection fares.
struct Reporter {
    ended: UnboundedSender<End>,
    lost: bool,
}

impl UpdateListener for Reporter {
    fn on_connection_state(&mut self, state: ConnectionState, error: Option<&Error>) {
        let why = error.map(|error| format!(": {error}")).unwrap_or_default();
        match state {
            // Reported once, not with each attempt.
            ConnectionState::Reconnecting if !std::mem::replace(&mut self.lost, true) => {
                output::tell(format_args!("sstore: the connection broke, reconnecting{why}"));
            }
            ConnectionState::Connected if std::mem::replace(&mut self.lost, false) => {
                output::tell("sstore: connected again");
            }
            ConnectionState::Closed => {
                let reason = error.cloned().unwrap_or_else(|| ErrorCode::Closed.into());
                // Fails when this watch is ending already.
                let _ = self.ended.send(End::Closed(reason));
            }
            _ => {}
        }
    }

    fn on_error(&mut self, error: &Error) {
        output::tell(format_args!("sstore: {error}"));
    }
}
