//! `sstore remove`

use clap::Args;

use super::exit::Failure;
use super::write::WriteArguments;
use crate::core::names;
use crate::{Value, Write};

/// Remove a key
///
/// That it was absent already is fine.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The key
    key: String,
    #[command(flatten)]
    write: WriteArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    names::check_key(&arguments.key)?;
    arguments.write.make(Write::set(&arguments.key, Value::null())).map(drop)
}
