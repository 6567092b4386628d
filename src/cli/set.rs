//! `sstore set`

use clap::Args;

use super::exit::Failure;
use super::output;
use super::store::Ttl;
use super::write::{WriteArguments, Written};
use crate::core::names;
use crate::{Error, ErrorCode, Value, Write};

/// Set a key
///
/// This joins the room, sets the key and leaves. A room's store lives only as long as somebody is
/// in the room: if nobody else is, what was set is gone again when this command ends (a hint on
/// stderr says so). Keep a `sstore watch` open, or start the server with --linger.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The key
    key: String,
    /// The value, as JSON: 42, true, '{"a":1}', '"text"'; null removes the key
    #[arg(allow_negative_numbers = true)]
    value: String,
    /// The value is plain text, not JSON
    #[arg(long)]
    string: bool,
    /// The key goes after this time, such as 30s; never (which is what happens otherwise), or keep
    #[arg(long, value_name = "TIME")]
    ttl: Option<Ttl>,
    #[command(flatten)]
    write: WriteArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    names::check_key(&arguments.key)?;
    let value = match arguments.string {
        true => Value::from(&*arguments.value),
        false => Value::parse(&arguments.value).map_err(|error| {
            let message = format!("{}; for plain text add --string", error.message());
            Error::new(ErrorCode::InvalidJson, message)
        })?,
    };
    let kept = !value.is_null();
    let write = Write { expiry: arguments.ttl.map(|ttl| ttl.0), ..Write::set(&arguments.key, value) };
    let Written { alone, .. } = arguments.write.make(write)?;
    if alone && kept {
        output::tell(
            "sstore: hint: nobody else is in the room, and its store goes with the last peer: unless the server \
             lingers, the key is gone again; keep a `sstore watch` open",
        );
    }
    Ok(())
}
