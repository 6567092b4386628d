//! `sstore get`

use clap::Args;

use super::connection::ConnectionArguments;
use super::exit::Failure;
use super::output;
use crate::core::names;
use crate::Kind;

/// Print the value of a key
///
/// The value is printed as compact JSON. An absent key prints nothing and exits with 5.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The key
    key: String,
    /// Print a string as plain text, without quotes and escapes; other values as JSON
    #[arg(long)]
    string: bool,
    /// Print key, value, version, time and author as one JSON object
    #[arg(long, conflicts_with = "string")]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    names::check_key(&arguments.key)?;
    let state = arguments.connection.once(|room| room.store.get(&arguments.key).wait(room.time_left()))?;
    if arguments.json {
        output::print_state(&state)?;
    }
    if state.value.is_null() {
        return Err(Failure::absent(&arguments.key));
    }
    if arguments.json {
        return Ok(());
    }
    match state.value.kind() {
        Kind::String if arguments.string => output::print_line(&state.value.as_text()?),
        _ => output::print_line(&output::printable(state.value.json())),
    }
}
