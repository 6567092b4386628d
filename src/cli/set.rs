//! `sstore set`

use clap::Args;

use super::connection::ConnectionArguments;
use super::exit::Failure;
use super::output;
use super::store::Ttl;
use crate::core::names;
use crate::{Error, ErrorCode, LockGuard, Value, Write};

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
    /// Only if the key has this version; 0: only if it is absent
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    /// The key goes after this time, such as 30s; never (which is what happens otherwise), or keep
    #[arg(long, value_name = "TIME")]
    ttl: Option<Ttl>,
    /// Only while this lock is held under this token
    #[arg(long, value_name = "NAME:TOKEN", value_parser = guard)]
    lock: Option<LockGuard<'static>>,
    /// Print the key's new state as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
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
    let (state, alone) = arguments.connection.once(|room| {
        let write = Write {
            expected: arguments.if_version,
            expiry: arguments.ttl.map(|ttl| ttl.0),
            ..Write::set(&arguments.key, value)
        };
        let state = room.store.write(write, arguments.lock.clone()).wait(room.time_left())?;
        // The list of peers came before the answer.
        Ok((state, room.client.peers().len() == 1))
    })?;
    if arguments.json {
        output::print_state(&state)?;
    }
    if alone && kept {
        eprintln!(
            "sstore: hint: nobody else is in the room, and its store goes with the last peer: unless the server \
             lingers, the key is gone again; keep a `sstore watch` open"
        );
    }
    Ok(())
}

/// A lock's name and token. The name may have colons, the token has none.
fn guard(text: &str) -> Result<LockGuard<'static>, String> {
    let (name, token) = text.rsplit_once(':').ok_or("it looks like presenter:17")?;
    let token = token.parse().map_err(|_| "the token is a number")?;
    Ok(LockGuard { name: name.to_owned().into(), token })
}
