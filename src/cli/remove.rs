//! `sstore remove`

use clap::Args;

use super::connection::ConnectionArguments;
use super::exit::Failure;
use super::output;
use crate::core::names;

/// Remove a key
///
/// That it was absent already is fine.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The key
    key: String,
    /// Print the key's new state as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    names::check_key(&arguments.key)?;
    let state = arguments.connection.once(|room| room.store.remove(&arguments.key).wait(room.time_left()))?;
    match arguments.json {
        true => output::print_state(&state),
        false => Ok(()),
    }
}
