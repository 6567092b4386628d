//! `sstore merge`, `touch`, `transact`, `keys` and `usage`: what can be asked of a store beyond setting
//! and getting one key.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::api::read_file;
use super::connection::ConnectionArguments;
use super::exit::Failure;
use super::output;
use super::span::Span;
use super::write::{WriteArguments, Written};
use crate::core::wire;
use crate::{Error, ErrorCode, Expiry, Kind, Merge, Value, Write};

/// When a key goes by itself, as it is written: `never`, `keep`, or a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ttl(pub Expiry);

impl std::str::FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Ttl, String> {
        match text {
            "never" => Ok(Ttl(Expiry::Never)),
            "keep" => Ok(Ttl(Expiry::Keep)),
            time => Ok(Ttl(Expiry::After(time.parse::<Span>()?.ms()))),
        }
    }
}

/// What a merge does.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MergeKind {
    /// Add a number to a number
    Add,
    /// JSON merge patch (RFC 7396): set members of an object, remove those that are null
    Patch,
    /// Add values to an array unless they are in it
    SetAdd,
    /// Remove values from an array
    SetRemove,
    /// Append values to an array
    Append,
}

/// Merge into a key's value on the server
///
/// Nobody's work is lost, however many do this at once. An absent key counts as 0, {} or []. The new
/// value is printed.
#[derive(Debug, Args)]
pub(super) struct MergeArguments {
    /// The key
    key: String,
    /// What to do
    #[arg(value_enum)]
    operation: MergeKind,
    /// What is merged, as JSON; of set-add, set-remove and append one value, or several
    #[arg(required = true, allow_negative_numbers = true, value_name = "VALUE")]
    values: Vec<String>,
    /// append: keep at most so many values, the newest
    #[arg(long, value_name = "COUNT")]
    cap: Option<usize>,
    /// The key goes after this time; never, or keep, which is what happens otherwise
    #[arg(long, value_name = "TIME")]
    ttl: Option<Ttl>,
    #[command(flatten)]
    write: WriteArguments,
}

pub(super) fn merge(arguments: &MergeArguments) -> Result<(), Failure> {
    let values: Vec<Value> = arguments.values.iter().map(|text| Value::parse(text)).collect::<Result<_, _>>()?;
    let one = || match &*values {
        [one] => Ok(one.clone()),
        _ => Err(Failure::usage("this operation takes one value")),
    };
    let merge = match arguments.operation {
        MergeKind::Add => Merge::Add(one().and_then(number)?),
        MergeKind::Patch => Merge::Patch(one()?),
        MergeKind::SetAdd => Merge::SetAdd(values),
        MergeKind::SetRemove => Merge::SetRemove(values),
        MergeKind::Append => Merge::Append { values, cap: arguments.cap },
    };
    if arguments.cap.is_some() && !matches!(arguments.operation, MergeKind::Append) {
        return Err(Failure::usage("--cap is for append"));
    }
    let write = Write { expiry: arguments.ttl.map(|ttl| ttl.0), ..Write::merge(&arguments.key, merge) };
    let Written { state, .. } = arguments.write.make(write)?;
    match arguments.write.json {
        true => Ok(()),
        false => output::print_line(&output::printable(state.value.json())),
    }
}

/// What can be added, whatever the key holds.
fn number(value: Value) -> Result<Value, Failure> {
    match value.kind() {
        Kind::Integer | Kind::Number => Ok(value),
        _ => Err(Failure::usage("only a number can be added")),
    }
}

/// Give a key another time to live
///
/// Its value stays. An absent key is refused.
#[derive(Debug, Args)]
pub(super) struct TouchArguments {
    /// The key
    key: String,
    /// The time, such as 30s, or never
    ttl: Ttl,
    /// Print the key's new state as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
}

pub(super) fn touch(arguments: &TouchArguments) -> Result<(), Failure> {
    if arguments.ttl.0 == Expiry::Keep {
        return Err(Failure::usage("to keep the time that it has changes nothing; say another, or never"));
    }
    let touch =
        |room: &super::connection::Connection| room.store.touch(&arguments.key, arguments.ttl.0).wait(room.time_left());
    let state = arguments.connection.once(touch)?;
    match arguments.json {
        true => output::print_state(&state),
        false => Ok(()),
    }
}

/// Check and write several keys in one revision, or change nothing
///
/// The transaction is JSON as docs/protocol.md has it:
/// {"checks":[{"key":"turn","equals":"x"}],"writes":[{"op":"set","key":"turn","data":"o"}]}.
/// The new states are printed as JSON objects, one a line.
#[derive(Debug, Args)]
pub(super) struct TransactArguments {
    /// The file it is in; - is stdin
    file: PathBuf,
    #[command(flatten)]
    connection: ConnectionArguments,
}

pub(super) fn transact(arguments: &TransactArguments) -> Result<(), Failure> {
    let text = read_file(&arguments.file)?;
    let transaction = wire::parse_transaction(&text).map_err(|error| error.with_code(ErrorCode::InvalidArgument))?;
    let done = arguments.connection.once(|room| room.store.transact(transaction).wait(room.time_left()))?;
    done.states.iter().try_for_each(|state| output::print_state(state))
}

/// List the keys that are set
#[derive(Debug, Args)]
pub(super) struct KeysArguments {
    /// Only those that begin with this; $lock/ lists the locks that are held
    #[arg(default_value = "")]
    prefix: String,
    /// Print the states of the keys as JSON objects, one a line, all of the same revision
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
}

pub(super) fn keys(arguments: &KeysArguments) -> Result<(), Failure> {
    if arguments.json {
        let selector = crate::Selector::prefix(&arguments.prefix);
        let read = arguments.connection.once(|room| room.store.read(&selector).wait(room.time_left()))?;
        return read.states.iter().try_for_each(|state| output::print_state(state));
    }
    let keys = arguments.connection.once(|room| room.store.keys(&arguments.prefix).wait(room.time_left()))?;
    keys.iter().try_for_each(|key| output::print_text(key))
}

/// Show how much of its limits a store uses
#[derive(Debug, Args)]
pub(super) struct UsageArguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
}

pub(super) fn usage(arguments: &UsageArguments) -> Result<(), Failure> {
    let usage = arguments.connection.once(|room| room.store.usage().wait(room.time_left()))?;
    if arguments.json {
        let json = serde_json::to_string(&usage).map_err(|_| Error::from(ErrorCode::Internal))?;
        return output::print_line(&json);
    }
    output::print_line(&format!("revision  {}", usage.revision))?;
    output::print_line(&format!("keys      {} of {}", usage.keys, usage.max_keys))?;
    output::print_line(&format!("bytes     {} of {}", usage.bytes, usage.max_bytes))?;
    output::print_line(&format!("a value   at most {} bytes", usage.max_value_bytes))
}
