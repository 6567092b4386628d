//! `sstore get`

use clap::Args;

use super::connection::ConnectionArguments;
use super::exit::Failure;
use super::output;
use crate::{Kind, Selector};

/// Print the value of a key
///
/// The value is printed as compact JSON. An absent key prints nothing and exits with 5. Several keys are read at
/// one revision of the store, and printed one a line; of those that are absent, null.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The key, or several
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// Print a string as plain text, without quotes and escapes; other values as JSON. Control characters are
    /// escaped on a terminal only
    #[arg(long)]
    string: bool,
    /// Print key, value, version, time and author as one JSON object
    #[arg(long, conflicts_with = "string")]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let selector = Selector::keys(arguments.keys.iter());
    let read = arguments.connection.once(|room| room.store.read(&selector).wait(room.time_left()))?;
    for state in &read.states {
        match state.value.kind() {
            _ if arguments.json => output::print_state(state)?,
            Kind::Null if read.states.len() == 1 => {}
            Kind::String if arguments.string => output::print_text(&state.value.as_text()?)?,
            _ => output::print_line(&output::printable(state.value.json()))?,
        }
    }
    match read.states.iter().find(|state| state.value.is_null()) {
        Some(absent) => Err(Failure::absent(&absent.key)),
        None => Ok(()),
    }
}
