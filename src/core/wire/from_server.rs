//! What a server says: as it writes it, and as the client parses it.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::core::canonical;
use crate::core::error::{Error, ErrorCode};
use crate::core::names;
use crate::core::room::{Author, Cause, Change, Peer, PeerHandle, Room, Time};
use crate::core::value::Value;

use super::{number, object, read, request_number, string, write_key_array, Text, PROTOCOL_VERSION, REQUEST_BEGIN};

/// The object of one key's state, its braces included; `replaced` > 0 is added as a field.
pub fn write_state(out: &mut Vec<u8>, change: &Change, replaced: u64) {
    put!(out, "{\"key\":");
    string(out, &change.key);
    put!(out, ",\"data\":", change.value.json(), ",\"change_version\":");
    number(out, change.version);
    if let Some(author) = &change.author {
        put!(out, ",\"updated_by\":");
        string(out, &author.peer_id);
        put!(out, ",\"author\":{\"user_id\":");
        string(out, &author.user_id);
        put!(out, ",\"name\":");
        string(out, &author.name);
        put!(out, "}");
    }
    if change.updated_at > 0 {
        put!(out, ",\"updated_at\":");
        number(out, change.updated_at);
    }
    if change.expires_at > 0 {
        put!(out, ",\"expires_at\":");
        number(out, change.expires_at);
    }
    if let Some(reason) = reason(change.cause) {
        put!(out, ",\"reason\":\"", reason, "\"");
    }
    if replaced > 0 {
        put!(out, ",\"replaced\":");
        number(out, replaced);
    }
    put!(out, "}");
}

/// What the wire calls a cause; writes are nothing special.
pub fn reason(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::Written => None,
        Cause::Expired => Some("expired"),
        Cause::PeerLeft => Some("peer-left"),
        Cause::Cleared => Some("cleared"),
    }
}

/// The cause that the wire calls so. One that a later version may have is a write as any other.
pub(in crate::core) fn cause(reason: &str) -> Cause {
    match reason {
        "expired" => Cause::Expired,
        "peer-left" => Cause::PeerLeft,
        "cleared" => Cause::Cleared,
        _ => Cause::Written,
    }
}

/// `on-metadata-change` with one change. Returns how long the text of its state is, and how much of the
/// message follows it: the answer to the writer has the same text.
pub fn write_change(out: &mut Vec<u8>, change: &Change) -> (usize, usize) {
    put!(out, CHANGES_BEGIN);
    let begin = out.len();
    write_state(out, change, 0);
    let length = out.len() - begin;
    put!(out, CHANGES_END);
    (length, CHANGES_END.len())
}

pub(in crate::core) const CHANGES_BEGIN: &str = "{\"method\":\"on-metadata-change\",\"params\":{\"values\":[";
pub(in crate::core) const CHANGES_END: &str = "]}}";
pub(in crate::core) const SNAPSHOT_END: &str = "],\"snapshot\":true}}";

/// `on-metadata-change` with one or many states. `snapshot` marks the answer to a listen, which
/// has every key of the set, absent ones included.
pub fn write_changes<'a>(out: &mut Vec<u8>, states: impl Iterator<Item = (&'a Change, u64)>, snapshot: bool) {
    put!(out, CHANGES_BEGIN);
    for (index, (change, replaced)) in states.enumerate() {
        if index > 0 {
            put!(out, ",");
        }
        write_state(out, change, replaced);
    }
    put!(out, if snapshot { SNAPSHOT_END } else { CHANGES_END });
}

pub(super) fn result(out: &mut Vec<u8>, id: &RawValue, body: impl FnOnce(&mut Vec<u8>)) {
    put!(out, REQUEST_BEGIN, id.get(), ",\"result\":");
    body(out);
    put!(out, "}");
}

/// The answer to a set or get.
pub fn write_state_result(out: &mut Vec<u8>, id: &RawValue, change: &Change) {
    result(out, id, |out| write_state(out, change, 0));
}

/// The same for a state that is written already.
pub fn write_written_state_result(out: &mut Vec<u8>, id: &RawValue, state: &[u8]) {
    result(out, id, |out| out.extend_from_slice(state));
}

/// The answer `{}`.
pub fn write_empty_result(out: &mut Vec<u8>, id: &RawValue) {
    result(out, id, |out| put!(out, "{}"));
}

/// The answer to a ping.
pub fn write_pong(out: &mut Vec<u8>, id: &RawValue, timestamp: Option<&RawValue>) {
    result(out, id, |out| put!(out, "{\"timestamp\":", timestamp.map_or("null", RawValue::get), "}"));
}

/// The answer to a join: who one is, the session, and its revision, the largest message that is taken, and whether
/// requests that come again are answered as they were the first time.
pub fn write_join_result(
    out: &mut Vec<u8>,
    id: &RawValue,
    room: &Room,
    peer: &Peer,
    returned: bool,
    max_message_bytes: usize,
) {
    result(out, id, |out| {
        put!(out, "{\"peer_id\":");
        string(out, &peer.identity.peer_id);
        put!(out, ",\"session_id\":");
        string(out, room.session_id().map_or("", |id| id));
        put!(out, ",\"revision\":");
        number(out, room.revision());
        put!(out, ",\"returned\":", if returned { "true" } else { "false" }, ",\"protocol\":");
        number(out, u64::from(PROTOCOL_VERSION));
        put!(out, ",\"peer_number\":");
        number(out, u64::from(peer.number()));
        put!(out, ",\"max_message_bytes\":");
        number(out, max_message_bytes as u64);
        put!(out, if peer.resumes() { ",\"resumes\":true}" } else { "}" });
    });
}

/// An error. Without an id it answers what could not be understood, with `"id":null`.
pub fn write_error(out: &mut Vec<u8>, id: Option<&RawValue>, error: &Error) {
    write_error_as(out, id, error.code().number() as u64, error);
}

/// The same, where the receiver calls the error by another number.
pub fn write_error_as(out: &mut Vec<u8>, id: Option<&RawValue>, code: u64, error: &Error) {
    put!(out, REQUEST_BEGIN, id.map_or("null", RawValue::get), ",\"error\":{\"code\":");
    number(out, code);
    put!(out, ",\"message\":");
    string(out, error.message());
    put!(out, ",\"data\":{\"name\":");
    string(out, error.code().name());
    let part = |part: Option<usize>| part.map(|part| part as u64);
    let numbers = [
        (",\"check\":", part(error.check())),
        (",\"write\":", part(error.write())),
        (",\"retry_after_ms\":", error.retry_after_ms()),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            put!(out, name);
            number(out, value);
        }
    }
    if let Some(current) = error.current() {
        put!(out, ",\"current\":");
        write_state(out, current, 0);
    }
    put!(out, "}}}");
}

/// The object of one peer, in the shape of the original: `tracks` and `groups` are always empty.
pub fn write_peer(out: &mut Vec<u8>, peer: &Peer) {
    put!(out, "{\"peer_id\":");
    string(out, &peer.identity.peer_id);
    put!(out, ",\"role\":");
    string(out, &peer.role);
    put!(out, ",\"info\":{\"name\":");
    string(out, &peer.identity.name);
    put!(out, ",\"data\":");
    string(out, &peer.metadata);
    put!(out, ",\"user_id\":");
    string(out, &peer.identity.user_id);
    put!(out, ",\"type\":\"regular\"},\"tracks\":{},\"groups\":[],\"realtime\":true,\"joined_at\":");
    number(out, peer.joined_at);
    put!(out, "}");
}

/// `on-peer-join`
pub fn write_peer_join(out: &mut Vec<u8>, peer: &Peer) {
    put!(out, "{\"method\":\"on-peer-join\",\"params\":");
    write_peer(out, peer);
    put!(out, "}");
}

/// `on-peer-update`
pub fn write_peer_update(out: &mut Vec<u8>, peer: &Peer) {
    put!(out, "{\"method\":\"on-peer-update\",\"params\":");
    write_peer(out, peer);
    put!(out, "}");
}

/// `on-peer-leave`
pub fn write_peer_leave(out: &mut Vec<u8>, peer_id: &str, connection_lost: bool) {
    put!(out, "{\"method\":\"on-peer-leave\",\"params\":{\"peer_id\":");
    string(out, peer_id);
    put!(out, ",\"reason\":", if connection_lost { "\"connection-lost\"" } else { "\"left\"" }, "}}");
}

fn peer_list_body(out: &mut Vec<u8>, room: &Room, only: Option<PeerHandle>) {
    put!(out, "{\"peers\":{");
    let told = room.peers().filter(|(handle, _)| only.is_none_or(|only| *handle == only));
    for (index, (_, peer)) in told.enumerate() {
        if index > 0 {
            put!(out, ",");
        }
        write_peer_list_entry(out, peer);
    }
    peers_end(out, room);
}

fn peers_end(out: &mut Vec<u8>, room: &Room) {
    put!(out, "},\"room\":{\"name\":");
    string(out, room.name());
    put!(out, ",\"session_id\":");
    string(out, room.session_id().map_or("", |id| id));
    put!(out, ",\"started_at\":");
    number(out, room.started_at().unwrap_or(0));
    put!(out, "}}");
}

/// `on-peer-leave-request`: what a client of the original is told that an operator removes, or whose room is closed.
pub fn write_leave_request(out: &mut Vec<u8>, reason: &str, room_ends: bool) {
    put!(out, "{\"method\":\"on-peer-leave-request\",\"params\":{\"requested_by\":\"\",\"reason\":");
    string(out, reason);
    put!(out, ",\"room_end\":", if room_ends { "true" } else { "false" }, "}}");
}

/// `peer-list` as a notification: everybody in the room, the receiver included; or the receiver alone, if it
/// may not know of others.
pub fn write_peer_list(out: &mut Vec<u8>, room: &Room, only: Option<PeerHandle>) {
    put!(out, "{\"method\":\"peer-list\",\"params\":");
    peer_list_body(out, room, only);
    put!(out, "}");
}

/// The notification `peer-list` up to the first peer: for who keeps the text of the peers, which takes the longest.
/// It goes on with [entries](write_peer_list_entry), with commas between them, and with the [end](write_peer_list_end).
pub const PEER_LIST_BEGIN: &str = "{\"method\":\"peer-list\",\"params\":{\"peers\":{";

/// One peer of a list, with its id.
pub fn write_peer_list_entry(out: &mut Vec<u8>, peer: &Peer) {
    string(out, &peer.identity.peer_id);
    put!(out, ":");
    write_peer(out, peer);
}

/// The notification `peer-list` from behind the last peer on.
pub fn write_peer_list_end(out: &mut Vec<u8>, room: &Room) {
    peers_end(out, room);
    put!(out, "}");
}

/// The same as the answer to a request.
pub fn write_peer_list_result(out: &mut Vec<u8>, id: &RawValue, room: &Room, only: Option<PeerHandle>) {
    result(out, id, |out| peer_list_body(out, room, only));
}

/// `on-listen-revoked`: the rules do not allow to read these keys, or no longer; they are not listened to.
/// The error is that of the first.
pub fn write_listen_revoked<'a>(out: &mut Vec<u8>, keys: impl Iterator<Item = &'a str>, error: &Error) {
    put!(out, "{\"method\":\"on-listen-revoked\",\"params\":{\"keys\":");
    write_key_array(out, keys);
    put!(out, ",\"code\":");
    number(out, error.code().number() as u64);
    put!(out, ",\"message\":");
    string(out, error.message());
    put!(out, "}}");
}

/// `on-lock-lost`: an operator has taken this lock from the peer, whoever has it now.
pub fn write_lock_lost(out: &mut Vec<u8>, name: &str, token: u64) {
    put!(out, "{\"method\":\"on-lock-lost\",\"params\":{\"name\":");
    string(out, name);
    put!(out, ",\"token\":");
    number(out, token);
    put!(out, "}}");
}

/// `on-token-expiring`: when the connection will end unless it is given a fresh token.
pub fn write_token_expiring(out: &mut Vec<u8>, expires_at: Time) {
    put!(out, "{\"method\":\"on-token-expiring\",\"params\":{\"expires_at\":");
    number(out, expires_at);
    put!(out, "}}");
}

/// `on-server-stop`: the server stops, and a client should come back after so many milliseconds.
pub fn write_server_stop(out: &mut Vec<u8>, come_back_ms: u64) {
    put!(out, "{\"method\":\"on-server-stop\",\"params\":{\"come_back_ms\":");
    number(out, come_back_ms);
    put!(out, "}}");
}

/// `on-error`, for the original's client: it leaves, and tells the app. `code` is its number for the error.
pub fn write_connection_error(out: &mut Vec<u8>, code: u64, error: &Error) {
    put!(out, "{\"method\":\"on-error\",\"params\":{\"code\":");
    number(out, code);
    put!(out, ",\"message\":");
    string(out, error.message());
    put!(out, "}}");
}

/// The answer to `renew-token`.
pub fn write_token_result(out: &mut Vec<u8>, id: &RawValue, expires_at: Time) {
    result(out, id, |out| {
        put!(out, "{\"expires_at\":");
        number(out, expires_at);
        put!(out, "}");
    });
}

/// `on-policy-change`, which the original's web client waits for before it joins: its role and those of others, which
/// neither publish nor subscribe to media. Of roles it does not know it shows nothing.
pub fn write_policy<'a>(out: &mut Vec<u8>, role: &'a str, others: impl Iterator<Item = &'a str>) {
    put!(out, "{\"method\":\"on-policy-change\",\"params\":{\"name\":");
    string(out, role);
    put!(out, ",\"known_roles\":{");
    for (index, known) in std::iter::once(role).chain(others.filter(|other| *other != role)).enumerate() {
        if index > 0 {
            put!(out, ",");
        }
        string(out, known);
        put!(out, ":{\"name\":");
        string(out, known);
        put!(out, ",\"publishParams\":{},\"subscribeParams\":{}}");
    }
    put!(out, "}}}");
}

// ------------------------------------------------------------------ parsed

/// States of keys as a server tells them, each with how many older ones it replaced. Nearly always
/// one, which then needs no memory of its own.
pub type States = SmallVec<[(Arc<Change>, u64); 1]>;

/// What a client hears.
#[derive(Debug)]
pub enum ServerMessage<'a> {
    /// The answer to a request of ours.
    Result {
        /// The request's id.
        id: u64,
        /// What was answered; see [`parse_state`], [`parse_welcome`].
        body: Body<'a>,
    },
    /// A request of ours was refused.
    Refused {
        /// The request's id; none when the server could not tell.
        id: Option<u64>,
        /// Why.
        error: Error,
    },
    /// Keys have new states, in order; each with how many states it replaced.
    Changes {
        /// The states.
        states: States,
        /// Whether these are the current states of all keys listened to.
        snapshot: bool,
    },
    /// These keys may not be read, or no longer, and are not listened to.
    ListenRevoked {
        /// The keys.
        keys: Vec<String>,
        /// Why the first of them may not.
        error: Error,
    },
    /// An operator has taken a lock away.
    LockLost {
        /// Its name.
        name: String,
        /// The token of the grant that is over.
        token: u64,
    },
    /// The token expires, and the connection ends with it unless a fresh one is handed in.
    TokenExpiring {
        /// When, in server time.
        expires_at: Time,
    },
    /// The server stops, and closes the connection next.
    ServerStops {
        /// After how many milliseconds to come back.
        come_back_ms: u64,
    },
    /// Everybody in the room.
    PeerList(Vec<PeerInfo>),
    /// A new peer.
    PeerJoined(PeerInfo),
    /// A peer's name or metadata changed.
    PeerUpdated(PeerInfo),
    /// A peer is gone.
    PeerLeft {
        /// Its id.
        peer_id: Arc<str>,
    },
    /// Something this version has no use for.
    Other,
}

/// What a request of ours was answered.
#[derive(Debug)]
pub enum Body<'a> {
    /// The state of a key, which is read already.
    State(Change),
    /// Whatever it is: who asked knows.
    Json(&'a RawValue),
}

/// A peer as a client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Unique in the room.
    pub peer_id: Arc<str>,
    /// From its token; empty when the server is open.
    pub user_id: Arc<str>,
    /// Its name now.
    pub name: Arc<str>,
    /// Its role.
    pub role: Arc<str>,
    /// Its metadata.
    pub metadata: Arc<str>,
    /// Server time of its join, in milliseconds since 1970.
    pub joined_at: Time,
}

/// The answer to a join.
#[derive(Debug, Deserialize)]
pub struct Welcome {
    /// This client's peer id.
    pub peer_id: String,
    /// The session that was joined.
    pub session_id: String,
    /// The store's revision.
    pub revision: u64,
    /// Whether the peer was in the room already.
    #[serde(default)]
    pub returned: bool,
    /// Which of the peers of the room it is: one that left and joined again has another number. Whoever was not
    /// there when it joined cannot tell by `returned` whether that is the peer it was before.
    #[serde(default)]
    pub peer_number: u32,
    /// Whether requests may be sent again after a broken connection, and are applied once.
    #[serde(default)]
    pub resumes: bool,
    /// The largest message that the server takes, in bytes; `None`: it does not say.
    pub max_message_bytes: Option<usize>,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Text<'a>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<WireError<'a>>,
}

#[derive(Deserialize)]
struct WireError<'a> {
    code: i64,
    #[serde(borrow)]
    message: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireErrorData<'a> {
    #[serde(borrow)]
    current: Option<WireState<'a>>,
    check: Option<usize>,
    write: Option<usize>,
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct WireState<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    change_version: u64,
    #[serde(borrow)]
    updated_by: Option<Text<'a>>,
    #[serde(borrow)]
    author: Option<WireAuthor<'a>>,
    #[serde(default)]
    updated_at: u64,
    #[serde(default)]
    expires_at: u64,
    #[serde(borrow)]
    reason: Option<Text<'a>>,
    #[serde(default)]
    replaced: u64,
}

#[derive(Deserialize, Default)]
struct WireAuthor<'a> {
    #[serde(borrow, default)]
    user_id: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct WireChanges<'a> {
    #[serde(borrow)]
    values: Vec<WireState<'a>>,
    #[serde(default)]
    snapshot: bool,
}

#[derive(Deserialize)]
struct WirePeer<'a> {
    #[serde(borrow)]
    peer_id: Cow<'a, str>,
    #[serde(borrow, default)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    info: WirePeerInfo<'a>,
    #[serde(default)]
    joined_at: u64,
}

#[derive(Deserialize, Default)]
struct WirePeerInfo<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Cow<'a, str>,
    #[serde(borrow, default)]
    user_id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct WirePeerList<'a> {
    #[serde(borrow)]
    peers: std::collections::BTreeMap<Cow<'a, str>, WirePeer<'a>>,
}

#[derive(Deserialize)]
struct WireRevoked {
    keys: Vec<String>,
    code: i32,
    message: String,
}

#[derive(Deserialize)]
struct WireLockLost {
    name: String,
    token: u64,
}

#[derive(Deserialize)]
struct WireStop {
    come_back_ms: u64,
}

#[derive(Deserialize)]
struct WireExpiry {
    expires_at: u64,
}

#[derive(Deserialize)]
struct WirePeerLeave<'a> {
    #[serde(borrow)]
    peer_id: Cow<'a, str>,
}

/// Texts that come again and again: the keys and authors of the changes a client hears. They are
/// shared with the changes before, instead of being copied for each.
#[derive(Debug, Default)]
pub struct Known {
    keys: Vec<Option<Arc<str>>>,
    authors: Vec<Option<Arc<Author>>>,
    /// The author of the last change, with the text that named it.
    last: Option<(String, Arc<Author>)>,
}

/// Places for keys; as many as a store has keys, unless its limits were raised.
const KNOWN_KEYS: usize = 128;
/// Places for authors: those who write at about the same time.
const KNOWN_AUTHORS: usize = 32;

impl Known {
    pub(in crate::core) fn key(&mut self, key: &str) -> Result<Arc<str>, Error> {
        self.keys.resize(KNOWN_KEYS, None);
        let place = &mut self.keys[place_of(key) % KNOWN_KEYS];
        match place {
            Some(known) if **known == *key => Ok(known.clone()),
            _ => {
                names::check_key(key)?;
                Ok(place.insert(key.into()).clone())
            }
        }
    }

    /// The author of the last change, and how long the text is that named it, if `text` begins with
    /// that: mostly one writes several times in a row.
    pub(in crate::core) fn same_author(&self, text: &str) -> Option<(Arc<Author>, usize)> {
        let (named, author) = self.last.as_ref()?;
        text.starts_with(&**named).then(|| (author.clone(), named.len()))
    }

    /// Remembers the text that names an author. It must end where no other author's can go on.
    pub(in crate::core) fn last_author(&mut self, text: &str, author: &Arc<Author>) {
        let (mut named, _) = self.last.take().unwrap_or_else(|| (String::new(), author.clone()));
        named.clear();
        named.push_str(text);
        self.last = Some((named, author.clone()));
    }

    pub(in crate::core) fn author(&mut self, peer_id: &str, user_id: &str, name: &str) -> Arc<Author> {
        self.authors.resize(KNOWN_AUTHORS, None);
        let place = &mut self.authors[place_of(peer_id) % KNOWN_AUTHORS];
        match place {
            Some(known) if *known.peer_id == *peer_id && *known.user_id == *user_id && *known.name == *name => {
                known.clone()
            }
            _ => {
                let author = Author { peer_id: peer_id.into(), user_id: user_id.into(), name: name.into() };
                place.insert(Arc::new(author)).clone()
            }
        }
    }
}

/// Where a text is kept: names that are counted up, and ids that end in random digits, differ in
/// their last bytes.
fn place_of(text: &str) -> usize {
    text.bytes().rev().take(8).fold(text.len(), |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)))
}

/// Parses one text frame from a server. Never panics, whatever the bytes.
pub fn parse_server_message<'a>(text: &'a str, known: &mut Known) -> Result<ServerMessage<'a>, Error> {
    if let Some((states, snapshot)) = canonical::changes(text, known) {
        return Ok(ServerMessage::Changes { states, snapshot });
    }
    if let Some((id, state)) = canonical::answer(text, known) {
        return Ok(ServerMessage::Result { id, body: Body::State(state) });
    }
    let incoming: Incoming<'_> = object("the frame", text)?;
    let id = || incoming.id.and_then(request_number);
    if let Some(error) = incoming.error {
        return Ok(ServerMessage::Refused { id: id(), error: refusal(error)? });
    }
    if let Some(body) = incoming.result {
        return Ok(id().map_or(ServerMessage::Other, |id| ServerMessage::Result { id, body: Body::Json(body) }));
    }
    let (Some(method), Some(params)) = (incoming.method, incoming.params) else { return Ok(ServerMessage::Other) };
    let (method, params) = (&*method.0, Some(params));
    Ok(match method {
        "on-metadata-change" => {
            let WireChanges { values, snapshot } = read(method, params)?;
            ServerMessage::Changes { states: changes(values, known)?, snapshot }
        }
        "on-listen-revoked" => {
            let WireRevoked { keys, code, message } = read(method, params)?;
            let code = ErrorCode::from_number(code).unwrap_or(ErrorCode::Unknown);
            ServerMessage::ListenRevoked { keys, error: Error::new(code, message) }
        }
        "on-lock-lost" => {
            let WireLockLost { name, token } = read(method, params)?;
            ServerMessage::LockLost { name, token }
        }
        "on-token-expiring" => {
            ServerMessage::TokenExpiring { expires_at: read::<WireExpiry>(method, params)?.expires_at }
        }
        "on-server-stop" => ServerMessage::ServerStops { come_back_ms: read::<WireStop>(method, params)?.come_back_ms },
        "peer-list" => ServerMessage::PeerList(peer_list(read(method, params)?)),
        "on-peer-join" => ServerMessage::PeerJoined(read::<WirePeer<'_>>(method, params)?.info()),
        "on-peer-update" => ServerMessage::PeerUpdated(read::<WirePeer<'_>>(method, params)?.info()),
        "on-peer-leave" => {
            ServerMessage::PeerLeft { peer_id: read::<WirePeerLeave<'_>>(method, params)?.peer_id.into() }
        }
        _ => ServerMessage::Other,
    })
}

fn changes(states: Vec<WireState<'_>>, known: &mut Known) -> Result<States, Error> {
    states
        .into_iter()
        .map(|state| Ok((state.replaced, state.change(known)?)))
        .map(|state: Result<_, Error>| {
            let (replaced, change) = state?;
            Ok((Arc::new(change), replaced))
        })
        .collect()
}

/// Reads the result of a set or get.
pub fn parse_state(body: Body<'_>, known: &mut Known) -> Result<Change, Error> {
    match body {
        Body::State(state) => Ok(state),
        Body::Json(body) => read::<WireState<'_>>("the result", Some(body))?.change(known),
    }
}

/// Reads the result of a join.
pub fn parse_welcome(body: Body<'_>) -> Result<Welcome, Error> {
    body.read("join")
}

/// Reads the result of a `peer-list` request.
pub fn parse_peer_list(body: Body<'_>) -> Result<Vec<PeerInfo>, Error> {
    body.read("peer-list").map(peer_list)
}

fn peer_list(list: WirePeerList<'_>) -> Vec<PeerInfo> {
    list.peers.into_values().map(WirePeer::info).collect()
}

impl<'a> Body<'a> {
    /// Reads the result of a request that is not answered with a key's state.
    pub(super) fn read<T: Deserialize<'a>>(self, method: &str) -> Result<T, Error> {
        match self {
            Body::Json(body) => read(method, Some(body)),
            Body::State(_) => {
                Err(Error::new(ErrorCode::MalformedMessage, format!("{method}: the answer is the state of a key")))
            }
        }
    }
}

fn refusal(error: WireError<'_>) -> Result<Error, Error> {
    let code = i32::try_from(error.code).ok().and_then(ErrorCode::from_number).unwrap_or(ErrorCode::Unknown);
    let message = error.message.map_or(String::new(), |text| text.0.into_owned());
    let message = if code == ErrorCode::Unknown { format!("{message} (code {})", error.code) } else { message };
    let refused = Error::new(code, message);
    // What other servers put there is theirs; the refusal counts all the same.
    let data = error.data.and_then(|data| serde_json::from_str::<WireErrorData<'_>>(data.get()).ok());
    let Some(data) = data else { return Ok(refused) };
    let refused = match (data.check, data.write) {
        (Some(check), _) => refused.at_check(check),
        (None, Some(write)) => refused.at_write(write),
        (None, None) => refused,
    };
    let refused = match data.retry_after_ms {
        Some(time) => refused.with_retry_after_ms(time),
        None => refused,
    };
    match data.current.and_then(|current| current.change(&mut Known::default()).ok()) {
        Some(current) => Ok(refused.with_current(Arc::new(current))),
        None => Ok(refused),
    }
}

impl WireState<'_> {
    pub(super) fn change(self, known: &mut Known) -> Result<Change, Error> {
        let key = known.key(&self.key)?;
        let author = self.author.unwrap_or_default();
        let author = self.updated_by.map(|peer_id| known.author(&peer_id.0, &author.user_id, &author.name));
        Ok(Change {
            key,
            value: self.data.map_or(Ok(Value::null()), Value::from_raw)?,
            version: self.change_version,
            updated_at: self.updated_at,
            author,
            cause: self.reason.map_or(Cause::Written, |reason| cause(&reason.0)),
            expires_at: self.expires_at,
        })
    }
}

impl WirePeer<'_> {
    fn info(self) -> PeerInfo {
        PeerInfo {
            peer_id: self.peer_id.into(),
            user_id: self.info.user_id.into(),
            name: self.info.name.into(),
            role: self.role.into(),
            metadata: self.info.data.into(),
            joined_at: self.joined_at,
        }
    }
}
