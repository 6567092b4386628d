//! The server, its rooms, their peers and their locks.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::{Asked, Bounds, Lock, Parted, Peer, Refusal, Room, Sent, Told, Values};
use super::caller::{Caller, Scope};
use super::Shown;
use crate::core::error::{Error, ErrorCode};
use crate::core::limits::MAX_KEEP_MS;
use crate::core::room::{Action, Time};
use crate::core::value::Value;
use crate::core::write::{Transaction, Write};
use crate::server::operate::{ask, in_any_room, in_room, RoomView};
use crate::server::room_host::MAX_CLOSE_REASON_BYTES;

/// How many rooms are listed unless said otherwise, and at most: a page for people, and a page for programs.
const LISTED: usize = 100;
const MAX_LISTED: usize = 1_000;

/// How long a session that is prepared waits for its first peer unless said otherwise, in milliseconds: ten minutes,
/// as who prepares a meeting does so shortly before it.
const KEEP_MS: u64 = 600_000;

// ------------------------------------------------------------------ the server

/// The server, and what the token may.
#[derive(Serialize, ToSchema)]
pub(super) struct Server {
    /// The version of SessionStore
    version: &'static str,
    /// The server's clock, in milliseconds since 1970
    now: Time,
    /// When it started, in milliseconds since 1970
    started_at: Time,
    /// Rooms with a session
    rooms: usize,
    /// Peers in all rooms, those in their grace period included
    peers: usize,
    /// Open WebSocket connections
    connections: usize,
    /// Sockets of any kind
    sockets: usize,
    /// What bounds each room
    limits: Bounds,
    /// What the token may
    scopes: Vec<Scope>,
    /// The only room it is for
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    /// By whose rules it reads and writes keys
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    /// Who is named as the author of what it writes
    sub: String,
}

/// How much is going on, and what the token may
#[utoipa::path(get, path = "/v1/server", tag = "server", responses(
    (status = 200, description = "The server", body = Server),
    (status = 401, description = "No token, or a wrong one", body = Told),
    (status = 403, description = "The token lacks the scope `read`", body = Told)))]
pub(super) async fn server(State(context): Shown, caller: Caller) -> Result<Json<Server>, Refusal> {
    caller.needs_scope(Scope::Read)?;
    let shared = &context.shared;
    // Who may know of one room only is not told of the others.
    let count = |counter: &std::sync::atomic::AtomicUsize| match caller.room {
        None => counter.load(Ordering::Relaxed),
        Some(_) => 0,
    };
    Ok(Json(Server {
        version: env!("CARGO_PKG_VERSION"),
        now: shared.clock.now(),
        started_at: context.started_at,
        rooms: count(&shared.rooms),
        peers: count(&shared.peers),
        connections: count(&shared.connections),
        sockets: count(&shared.sockets),
        limits: Bounds::from(&*shared.limits),
        scopes: caller.scopes,
        room: caller.room,
        role: caller.who.role.map(|role| role.to_string()),
        sub: caller.who.user_id.to_string(),
    }))
}

// ------------------------------------------------------------------ rooms

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only rooms whose names begin with this
    #[serde(default)]
    prefix: String,
    /// Only rooms whose names come after this one: `next` of the page before
    after: Option<String>,
    /// At most so many, 100 unless said otherwise
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Rooms, in the order of their names.
#[derive(Serialize, ToSchema)]
pub(super) struct Rooms {
    rooms: Vec<Room>,
    /// There are more, after this name
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// List rooms
#[utoipa::path(get, path = "/v1/rooms", tag = "rooms", params(ListQuery), responses(
    (status = 200, description = "A page of them", body = Rooms),
    (status = 400, description = "A parameter has a value that it cannot have", body = Told),
    (status = 401, description = "No token, or a wrong one", body = Told),
    (status = 403, description = "The token lacks the scope `read`", body = Told)))]
pub(super) async fn list(
    State(context): Shown,
    caller: Caller,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Rooms>, Refusal> {
    caller.needs_scope(Scope::Read)?;
    let limit = query.limit.unwrap_or(LISTED);
    if !(1..=MAX_LISTED).contains(&limit) {
        let message = format!("limit is 1 to {MAX_LISTED}");
        return Err(Error::new(ErrorCode::InvalidArgument, message).into());
    }
    let only: Option<Arc<str>> = caller.room.map(Arc::from);
    let (prefix, after): (Arc<str>, Option<Arc<str>>) = (query.prefix.into(), query.after.map(Arc::from));
    let mut views: Vec<RoomView> = Vec::new();
    for shard in 0..context.shared.shards.len() {
        let (only, prefix, after) = (only.clone(), prefix.clone(), after.clone());
        let some = ask(&context.shared, shard, move |shard| {
            let is_meant = |name: &str| {
                only.as_deref().is_none_or(|only| only == name)
                    && name.starts_with(&*prefix)
                    && after.as_deref().is_none_or(|after| name > after)
            };
            let mut hosts = shard.all_rooms();
            hosts.retain(|host| is_meant(&host.name));
            hosts.sort_by(|a, b| a.name.cmp(&b.name));
            // One more than is asked for, which says that there are more.
            hosts.iter().filter_map(|host| host.view()).take(limit + 1).collect::<Vec<_>>()
        });
        views.extend(some.await?);
    }
    views.sort_by(|a, b| a.room.cmp(&b.room));
    let has_more = views.len() > limit;
    views.truncate(limit);
    let next = views.last().filter(|_| has_more).map(|last| last.room.to_string());
    Ok(Json(Rooms { rooms: views.into_iter().map(Room::from).collect(), next }))
}

/// A room with who is in it.
#[derive(Serialize, ToSchema)]
pub(super) struct RoomInFull {
    #[serde(flatten)]
    room: Room,
    /// The peers, in the order in which they joined
    peers_list: Vec<Peer>,
    /// The locks that are held
    locks: Vec<Lock>,
    /// What bounds it
    limits: Bounds,
}

/// Look at a room
#[utoipa::path(get, path = "/v1/rooms/{room}", tag = "rooms", params(("room" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The room", body = RoomInFull),
        (status = 400, description = "This cannot be a room's name", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token lacks the scope `read`, or is for another room", body = Told),
        (status = 404, description = "The room has no session", body = Told)))]
pub(super) async fn get(
    State(context): Shown,
    caller: Caller,
    Parted(room): Parted<String>,
) -> Result<Json<RoomInFull>, Refusal> {
    caller.needs(Scope::Read, &room)?;
    let who = caller.who;
    let found = in_room(&context.shared, room, move |inner, _| {
        let view = inner.view().ok_or(ErrorCode::Internal)?;
        Ok((view, inner.peers_for(&who), inner.locks_for(&who), inner.limits()))
    });
    let (view, peers, locks, limits) = found.await?;
    Ok(Json(RoomInFull {
        room: view.into(),
        peers_list: peers.into_iter().map(Peer::from).collect(),
        locks: locks.into_iter().map(Lock::from).collect(),
        limits: Bounds::from(&limits),
    }))
}

/// What a room begins with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Prepared {
    /// Keys and their values
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Value>)]
    values: Values,
    /// How long the session waits for its first peer, in milliseconds; ten minutes unless said otherwise
    #[schema(minimum = 1, maximum = 86400000)]
    keep_ms: Option<u64>,
}

/// Prepare a room
///
/// Begins a session before its first peer, with these values. It ends unless somebody joins in time.
#[utoipa::path(post, path = "/v1/rooms/{room}", tag = "rooms", params(("room" = String, Path, description = "Its name")),
    request_body = Prepared, responses(
        (status = 201, description = "The session has begun", body = Room),
        (status = 400, description = "Something cannot be as it was sent", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token or the room's rules do not allow it", body = Told),
        (status = 408, description = "The body did not come in time", body = Told),
        (status = 409, description = "There is a session already, or too much was sent for one", body = Told),
        (status = 413, description = "The body or a value is too large", body = Told),
        (status = 415, description = "The body is not JSON", body = Told),
        (status = 503, description = "There are as many rooms as there may be", body = Told)))]
pub(super) async fn prepare(
    State(context): Shown,
    caller: Caller,
    Parted(room): Parted<String>,
    Sent(prepared): Sent<Prepared>,
) -> Result<(StatusCode, Json<Room>), Refusal> {
    caller.needs(Scope::Write, &room)?;
    let keep_ms = prepared.keep_ms.unwrap_or(KEEP_MS.min(MAX_KEEP_MS));
    let values = prepared.values.into_iter();
    let values: Vec<(String, Value)> =
        values.map(|(key, value)| Ok((key, Value::from_raw(&value)?))).collect::<Result<_, Error>>()?;
    let session_id = crate::ids::uuid()?;
    let who = caller.who;
    let begun = in_any_room(&context.shared, room, move |inner, now| {
        let writes = values.iter().map(|(key, value)| Write::set(key, value.clone())).collect();
        let transaction = Transaction { checks: Vec::new(), writes };
        inner.prepare(now, &who, &session_id, keep_ms, transaction)
    });
    Ok((StatusCode::CREATED, Json(begun.await?.into())))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhyQuery {
    /// What those concerned are told, 120 bytes at most
    #[serde(default)]
    #[param(max_length = 120)]
    reason: String,
}

impl WhyQuery {
    fn check(self) -> Result<String, Error> {
        if self.reason.len() > MAX_CLOSE_REASON_BYTES || self.reason.chars().any(char::is_control) {
            let message = format!("a reason has {MAX_CLOSE_REASON_BYTES} bytes at most, and no control characters");
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        Ok(self.reason)
    }
}

/// Close a room
///
/// Ends its session. Everybody in it is told so by `ROOM_CLOSED`, and does not come back by itself.
#[utoipa::path(delete, path = "/v1/rooms/{room}", tag = "rooms", params(("room" = String, Path, description = "Its name"), WhyQuery),
    responses(
        (status = 204, description = "It is closed"),
        (status = 400, description = "This cannot be a room's name, or a reason", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token lacks the scope `manage`, or is for another room", body = Told),
        (status = 404, description = "The room has no session", body = Told)))]
pub(super) async fn close(
    State(context): Shown,
    caller: Caller,
    Parted(room): Parted<String>,
    Asked(why): Asked<WhyQuery>,
) -> Result<StatusCode, Refusal> {
    caller.needs(Scope::Manage, &room)?;
    let (who, reason) = (caller.who, why.check()?);
    in_room(&context.shared, room, move |inner, now| inner.close_room(now, &who, &reason)).await?;
    Ok(StatusCode::NO_CONTENT)
}

// ------------------------------------------------------------------ peers

/// Who is in a room.
#[derive(Serialize, ToSchema)]
pub(super) struct Peers {
    /// In the order in which they joined
    peers: Vec<Peer>,
}

/// List a room's peers
#[utoipa::path(get, path = "/v1/rooms/{room}/peers", tag = "rooms", params(("room" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The peers", body = Peers),
        (status = 400, description = "This cannot be a room's name", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token lacks the scope `read`, or is for another room", body = Told),
        (status = 404, description = "The room has no session", body = Told)))]
pub(super) async fn peers(
    State(context): Shown,
    caller: Caller,
    Parted(room): Parted<String>,
) -> Result<Json<Peers>, Refusal> {
    caller.needs(Scope::Read, &room)?;
    let peers = in_room(&context.shared, room, move |inner, _| Ok(inner.peers_for(&caller.who))).await?;
    Ok(Json(Peers { peers: peers.into_iter().map(Peer::from).collect() }))
}

/// Remove a peer
///
/// It is told so by `KICKED`, and does not come back by itself. Its token is still good: who must not join again
/// is not given another when it has expired.
#[utoipa::path(delete, path = "/v1/rooms/{room}/peers/{peer_id}", tag = "rooms",
    params(("room" = String, Path, description = "The room's name"), ("peer_id" = String, Path, description = "Its id"), WhyQuery),
    responses(
        (status = 204, description = "It has gone"),
        (status = 400, description = "This cannot be a room's name, or a reason", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token lacks the scope `manage`, or is for another room", body = Told),
        (status = 404, description = "There is no such peer", body = Told)))]
pub(super) async fn kick(
    State(context): Shown,
    caller: Caller,
    Parted((room, peer_id)): Parted<(String, String)>,
    Asked(why): Asked<WhyQuery>,
) -> Result<StatusCode, Refusal> {
    caller.needs(Scope::Manage, &room)?;
    let (who, reason) = (caller.who, why.check()?);
    in_room(&context.shared, room, move |inner, now| inner.kick(now, &who, &peer_id, &reason)).await?;
    Ok(StatusCode::NO_CONTENT)
}

// ------------------------------------------------------------------ locks

/// The locks that are held in a room.
#[derive(Serialize, ToSchema)]
pub(super) struct Locks {
    /// In the order of their names
    locks: Vec<Lock>,
}

/// List the locks that are held
#[utoipa::path(get, path = "/v1/rooms/{room}/locks", tag = "rooms", params(("room" = String, Path, description = "The room's name")),
    responses(
        (status = 200, description = "The locks", body = Locks),
        (status = 400, description = "This cannot be a room's name", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token lacks the scope `read`, or is for another room", body = Told),
        (status = 404, description = "The room has no session", body = Told)))]
pub(super) async fn locks(
    State(context): Shown,
    caller: Caller,
    Parted(room): Parted<String>,
) -> Result<Json<Locks>, Refusal> {
    caller.needs(Scope::Read, &room)?;
    let locks = in_room(&context.shared, room, move |inner, _| Ok(inner.locks_for(&caller.who))).await?;
    Ok(Json(Locks { locks: locks.into_iter().map(Lock::from).collect() }))
}

/// Take a lock from its holder
///
/// Who waits for it gets it. Whatever the holder still writes with its fencing token is refused.
#[utoipa::path(delete, path = "/v1/rooms/{room}/locks/{name}", tag = "rooms",
    params(("room" = String, Path, description = "The room's name"), ("name" = String, Path, description = "The lock's name")),
    responses(
        (status = 204, description = "It is no longer held by who held it"),
        (status = 400, description = "This cannot be a name", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token lacks the scope `manage`, or is for another room", body = Told),
        (status = 404, description = "Nobody holds such a lock", body = Told)))]
pub(super) async fn release(
    State(context): Shown,
    caller: Caller,
    Parted((room, name)): Parted<(String, String)>,
) -> Result<StatusCode, Refusal> {
    caller.needs(Scope::Manage, &room)?;
    let who = caller.who;
    in_room(&context.shared, room, move |inner, now| {
        inner.operate(now, &who, Action::Release { lock: &name }).map(drop)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
