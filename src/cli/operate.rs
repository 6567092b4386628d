//! `sstore prepare`, `kick`, `close` and `unlock`: what operators do to a room without joining it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::api::{read_file, room_path, segment, ApiArguments};
use super::exit::Failure;
use super::output;
use super::span::Span;
use crate::core::names;
use crate::{Error, ErrorCode};

/// Open a room before anybody joins, with values in it
///
/// Its session waits for its first peer, and ends if nobody comes in time. A room that has a session already is left as
/// it is, and this fails. Needs a token with the scope write.
#[derive(Debug, Args)]
pub(super) struct PrepareArguments {
    /// The room
    room: String,
    /// What it begins with, as JSON: topic='"Welcome"' votes=0. A key that has = in its name needs --values
    #[arg(value_name = "KEY=VALUE", value_parser = value)]
    keys: Vec<(String, Box<RawValue>)>,
    /// Read them from a file, one JSON object of keys and values; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "keys")]
    values: Option<PathBuf>,
    /// How long it waits for its first peer [default: 10m]
    #[arg(long, value_name = "TIME")]
    keep: Option<Span>,
    /// Print the room as one JSON object, as the HTTP API has it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArguments,
}

/// A key and its value, as an argument.
fn value(text: &str) -> Result<(String, Box<RawValue>), String> {
    let (key, json) = text.split_once('=').ok_or("it looks like votes=0")?;
    let json = serde_json::from_str(json)
        .map_err(|error| format!("what follows = is not JSON: {error}; text needs quotes: '\"text\"'"))?;
    Ok((key.to_owned(), json))
}

pub(super) fn prepare(arguments: &PrepareArguments) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Prepared<'a> {
        values: &'a BTreeMap<String, Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        keep_ms: Option<u64>,
    }
    let values: BTreeMap<String, Box<RawValue>> = match &arguments.values {
        None => {
            let values: BTreeMap<_, _> = arguments.keys.iter().cloned().collect();
            if values.len() < arguments.keys.len() {
                return Err(Failure::usage("a key is given twice; a room begins with one value of each"));
            }
            values
        }
        Some(path) => serde_json::from_str(&read_file(path)?).map_err(|error| {
            let message = format!("{} is no JSON object of keys and values: {error}", path.display());
            Error::new(ErrorCode::InvalidJson, message)
        })?,
    };
    names::check_room(&arguments.room)?;
    values.keys().try_for_each(|key| names::check_key(key))?;
    let prepared = Prepared { values: &values, keep_ms: arguments.keep.map(Span::ms) };
    let room = arguments.api.run(async |api| api.post(&room_path(&arguments.room), &prepared).await)?;
    match arguments.json {
        true => output::print_line(&output::printable(&room)),
        false => Ok(()),
    }
}

/// Remove a peer from a room
///
/// It is told so, and does not come back by itself; its token stays good. Needs a token with the scope manage.
#[derive(Debug, Args)]
pub(super) struct KickArguments {
    /// The room
    room: String,
    /// The peer's id, as `sstore room` lists it
    peer: String,
    /// What it is told
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    api: ApiArguments,
}

pub(super) fn kick(arguments: &KickArguments) -> Result<(), Failure> {
    names::check_room(&arguments.room)?;
    names::check_peer_id(&arguments.peer)?;
    let KickArguments { room, peer, reason, api } = arguments;
    let path = format!("{}/peers/{}{}", room_path(room), segment(peer), why(reason.as_deref()));
    api.run(async |api| api.delete(&path).await)
}

/// Close a room
///
/// Its session ends and its store is cleared. Everybody in it is told so, and does not come back by themselves. Needs a
/// token with the scope manage.
#[derive(Debug, Args)]
pub(super) struct CloseArguments {
    /// The room
    room: String,
    /// What they are told
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    api: ApiArguments,
}

pub(super) fn close(arguments: &CloseArguments) -> Result<(), Failure> {
    names::check_room(&arguments.room)?;
    let path = format!("{}{}", room_path(&arguments.room), why(arguments.reason.as_deref()));
    arguments.api.run(async |api| api.delete(&path).await)
}

/// Take a lock from whoever holds it
///
/// Who waits for it gets it, and what the old holder still writes with its token is refused. Needs a token with the
/// scope manage.
#[derive(Debug, Args)]
pub(super) struct UnlockArguments {
    /// The room
    room: String,
    /// The lock's name
    lock: String,
    #[command(flatten)]
    api: ApiArguments,
}

pub(super) fn unlock(arguments: &UnlockArguments) -> Result<(), Failure> {
    names::check_room(&arguments.room)?;
    names::check_lock(&arguments.lock)?;
    let path = format!("{}/locks/{}", room_path(&arguments.room), segment(&arguments.lock));
    arguments.api.run(async |api| api.delete(&path).await)
}

fn why(reason: Option<&str>) -> String {
    reason.map(|reason| format!("?reason={}", segment(reason))).unwrap_or_default()
}
