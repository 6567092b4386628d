//! `sstore rooms` and `room`: what a server has, as operators see it.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::{self, room_path, segment, Api, ApiArguments, Bounds, Peer, Room};
use super::exit::Failure;
use super::output;
use crate::core::names;
use crate::{Error, ErrorCode};

/// Rooms that are asked for at once: as many as a server lists.
const PAGE: usize = 1_000;

/// List the rooms of a server
///
/// Every room that has a session, in the order of their names. This needs a token of `sstore token --api`.
#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Only rooms whose names begin with this
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// Print each room as one JSON object a line, as the HTTP API has it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArguments,
}

pub(super) fn list(arguments: &ListArguments) -> Result<(), Failure> {
    let found = arguments.api.run(async |api| all_rooms(&api, &arguments.prefix).await)?;
    if arguments.json {
        return found.iter().try_for_each(|room| output::print_line(&output::printable(room.get())));
    }
    let rooms: Vec<Room> = found.iter().map(|room| api::parse(room.get())).collect::<Result<_, _>>()?;
    let rows = rooms.iter().map(|room| {
        let [peers, connections, keys, bytes] =
            [room.peers, room.connections, room.keys, room.bytes].map(|count| count.to_string());
        let (started, revision) = (output::time(room.started_at), room.revision.to_string());
        [started, peers, connections, keys, bytes, revision, output::cell(&room.room)]
    });
    output::print_line(&output::table(["STARTED", "PEERS", "CONNECTIONS", "KEYS", "BYTES", "REVISION", "ROOM"], rows))
}

/// All rooms whose names begin with this, page by page, as they came.
pub(super) async fn all_rooms(api: &Api, prefix: &str) -> Result<Vec<Box<RawValue>>, Failure> {
    #[derive(Deserialize)]
    struct Page {
        rooms: Vec<Box<RawValue>>,
        next: Option<String>,
    }
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut path = format!("/v1/rooms?limit={PAGE}&prefix={}", segment(prefix));
        if let Some(after) = &after {
            path += &format!("&after={}", segment(after));
        }
        let page: Page = api.get(&path).await?;
        all.extend(page.rooms);
        match page.next {
            None => return Ok(all),
            // Otherwise this might never end.
            next if next <= after => return Err(Error::from(ErrorCode::Internal).into()),
            next => after = next,
        }
    }
}

/// Show a room in full
///
/// Its session, its peers, the locks that are held, and how much of its limits it uses; the room is not joined. The
/// values of its keys are shown by `sstore top`, and by `sstore watch --all`, which joins it.
#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// The room
    room: String,
    /// Print one JSON object, as the HTTP API has it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArguments,
}

pub(super) fn show(arguments: &ShowArguments) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct InFull {
        #[serde(flatten)]
        room: Room,
        peers_list: Vec<Peer>,
        locks: Vec<Lock>,
        limits: Bounds,
    }
    #[derive(Deserialize)]
    struct Lock {
        name: String,
        token: u64,
        held_by: Holder,
        expires_at: u64,
    }
    #[derive(Deserialize)]
    struct Holder {
        peer_id: String,
        name: String,
    }
    names::check_room(&arguments.room)?;
    let text = arguments.api.run(async |api| api.text(&room_path(&arguments.room)).await)?;
    if arguments.json {
        return output::print_line(&output::printable(&text));
    }
    let InFull { room, peers_list, locks, limits } = api::parse(&text)?;
    let mut lines = vec![
        format!("room         {}", output::cell(&room.room)),
        format!("session      {}", output::cell(&room.session_id)),
        format!("started      {}", output::time(room.started_at)),
        format!("revision     {}", room.revision),
        format!("keys         {} of {}", room.keys, limits.max_keys),
        format!("bytes        {} of {}", room.bytes, limits.max_store_bytes),
        format!("peers        {} of {}", room.peers, limits.max_peers),
        format!("connections  {}", room.connections),
    ];
    if !peers_list.is_empty() {
        let rows = peers_list.iter().map(|peer| {
            let [role, id, user, name] =
                [&peer.role, &peer.peer_id, &peer.user_id, &peer.name].map(|text| output::cell(text));
            let connected = if peer.connected { "yes" } else { "no" };
            [output::time(peer.joined_at), connected.to_owned(), role, id, user, name]
        });
        lines.push(String::new());
        lines.push(output::table(["JOINED", "CONNECTED", "ROLE", "PEER", "USER", "NAME"], rows));
    }
    if !locks.is_empty() {
        let rows = locks.iter().map(|lock| {
            let [id, name, lock_name] =
                [&lock.held_by.peer_id, &lock.held_by.name, &lock.name].map(|text| output::cell(text));
            [output::time(lock.expires_at), lock.token.to_string(), id, name, lock_name]
        });
        lines.push(String::new());
        lines.push(output::table(["UNTIL", "TOKEN", "PEER", "NAME", "LOCK"], rows));
    }
    output::print_line(&lines.join("\n"))
}
