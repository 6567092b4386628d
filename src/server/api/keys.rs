//! What a room's store holds.

use axum::extract::State;
use axum::Json;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::answer::{Asked, Keys, Parted, Refusal, Sent, SentText, State as KeyState, Told, Written};
use super::caller::{Caller, Scope};
use super::{Context, Shown};
use crate::core::error::{Error, ErrorCode};
use crate::core::value::Value;
use crate::core::wire;
use crate::core::write::{Expiry, Transaction, Write};
use crate::server::operate::in_room;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PrefixQuery {
    /// Only keys that begin with this. Those that show locks (`$lock/`) are listed by a prefix that begins with `$`
    #[serde(default)]
    prefix: String,
}

/// List a room's keys with their values
#[utoipa::path(get, path = "/v1/rooms/{room}/keys", tag = "keys",
    params(("room" = String, Path, description = "The room's name"), PrefixQuery), responses(
        (status = 200, description = "The keys that the token may read", body = Keys),
        (status = 400, description = "This cannot be a room's name, or a prefix", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token lacks the scope `read`, or is for another room", body = Told),
        (status = 404, description = "The room has no session", body = Told)))]
pub(super) async fn list(
    State(context): Shown,
    caller: Caller,
    Parted(room): Parted<String>,
    Asked(PrefixQuery { prefix }): Asked<PrefixQuery>,
) -> Result<Json<Keys>, Refusal> {
    caller.needs(Scope::Read, &room)?;
    let read = in_room(&context.shared, room, move |inner, now| inner.look(now, &caller.who, &[], &[&prefix])).await?;
    Ok(Json(read.into()))
}

/// Read a key
#[utoipa::path(get, path = "/v1/rooms/{room}/keys/{key}", tag = "keys",
    params(("room" = String, Path, description = "The room's name"), ("key" = String, Path, description = "The key, one part of the path: `/` is `%2F`")),
    responses(
        (status = 200, description = "Its state; of an absent key, `data` is null", body = KeyState),
        (status = 400, description = "This cannot be a room's name, or a key", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token or the room's rules do not allow it", body = Told),
        (status = 404, description = "The room has no session", body = Told)))]
pub(super) async fn get(
    State(context): Shown,
    caller: Caller,
    Parted((room, key)): Parted<(String, String)>,
) -> Result<Json<KeyState>, Refusal> {
    caller.needs(Scope::Read, &room)?;
    let read = in_room(&context.shared, room, move |inner, now| inner.look(now, &caller.who, &[&key], &[])).await?;
    only(read.states)
}

fn only(states: Vec<std::sync::Arc<crate::core::room::Change>>) -> Result<Json<KeyState>, Refusal> {
    let state = states.into_iter().next().ok_or_else(|| Error::from(ErrorCode::Internal))?;
    Ok(Json(KeyState(state)))
}

/// What a key is set to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ToSet {
    /// Any JSON; `null` removes the key
    #[schema(value_type = Value, nullable)]
    data: Box<RawValue>,
    /// Only if the key has this version; 0: only if it is absent
    if_change_version: Option<u64>,
    /// The key goes by itself after so many milliseconds
    #[schema(minimum = 1, maximum = 31536000000_u64)]
    ttl_ms: Option<u64>,
}

/// Set a key
#[utoipa::path(put, path = "/v1/rooms/{room}/keys/{key}", tag = "keys",
    params(("room" = String, Path, description = "The room's name"), ("key" = String, Path, description = "The key, one part of the path: `/` is `%2F`")),
    request_body = ToSet, responses(
        (status = 200, description = "Its new state", body = KeyState),
        (status = 400, description = "Something cannot be as it was sent", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token, the room's rules or the kind of key do not allow it", body = Told),
        (status = 404, description = "The room has no session", body = Told),
        (status = 408, description = "The body did not come in time", body = Told),
        (status = 409, description = "The store is full", body = Told),
        (status = 412, description = "The key has another version; `current` is what it holds", body = Told),
        (status = 413, description = "The body or the value is too large", body = Told),
        (status = 415, description = "The body is not JSON", body = Told)))]
pub(super) async fn put(
    State(context): Shown,
    caller: Caller,
    Parted((room, key)): Parted<(String, String)>,
    Sent(sent): Sent<ToSet>,
) -> Result<Json<KeyState>, Refusal> {
    let value = Value::from_raw(&sent.data)?;
    write(&context, caller, room, key, value, sent.if_change_version, sent.ttl_ms.map(Expiry::After)).await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VersionQuery {
    /// Only if the key has this version
    if_change_version: Option<u64>,
}

/// Remove a key
#[utoipa::path(delete, path = "/v1/rooms/{room}/keys/{key}", tag = "keys",
    params(("room" = String, Path, description = "The room's name"), ("key" = String, Path, description = "The key, one part of the path: `/` is `%2F`"), VersionQuery),
    responses(
        (status = 200, description = "Its state: absent", body = KeyState),
        (status = 400, description = "This cannot be a room's name, a key or a version", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token, the room's rules or the kind of key do not allow it", body = Told),
        (status = 404, description = "The room has no session", body = Told),
        (status = 412, description = "The key has another version; `current` is what it holds", body = Told)))]
pub(super) async fn remove(
    State(context): Shown,
    caller: Caller,
    Parted((room, key)): Parted<(String, String)>,
    Asked(query): Asked<VersionQuery>,
) -> Result<Json<KeyState>, Refusal> {
    write(&context, caller, room, key, Value::null(), query.if_change_version, None).await
}

async fn write(
    context: &Context,
    caller: Caller,
    room: String,
    key: String,
    value: Value,
    expected: Option<u64>,
    expiry: Option<Expiry>,
) -> Result<Json<KeyState>, Refusal> {
    caller.needs(Scope::Write, &room)?;
    let written = in_room(&context.shared, room, move |inner, now| {
        let write = Write { expected, expiry, ..Write::set(&key, value) };
        inner.transact_as(now, &caller.who, Transaction { checks: Vec::new(), writes: vec![write] })
    });
    only(written.await?.states)
}

/// Checks and writes of several keys.
#[derive(ToSchema)]
#[allow(dead_code)] // It describes what the wire's `transact` takes.
pub(super) struct Transacted {
    /// All must hold: `{key, change_version}`, `{key, exists}`, `{key, equals}` or `{lock: {name, token}}`
    #[schema(value_type = Option<Vec<Object>>)]
    checks: Option<()>,
    /// `{op, key, data?, if_change_version?, ttl_ms?, cap?}`, where `op` is `set`, `add`, `patch`, `set-add`, `set-remove`, `append` or `touch`
    #[schema(value_type = Option<Vec<Object>>)]
    writes: Option<()>,
}

/// Check and write several keys in one revision, or nothing
///
/// As `transact` on the wire: docs/protocol.md.
#[utoipa::path(post, path = "/v1/rooms/{room}/transactions", tag = "keys", params(("room" = String, Path, description = "The room's name")),
    request_body = Transacted, responses(
        (status = 200, description = "Everything was written", body = Written),
        (status = 400, description = "Something cannot be as it was sent", body = Told),
        (status = 401, description = "No token, or a wrong one", body = Told),
        (status = 403, description = "The token, the room's rules or the kind of key do not allow it", body = Told),
        (status = 404, description = "The room has no session, or a key that is to live longer is absent", body = Told),
        (status = 408, description = "The body did not come in time", body = Told),
        (status = 409, description = "The store would be too full, or a lock is not held", body = Told),
        (status = 412, description = "A check does not hold, or a key has another version", body = Told),
        (status = 413, description = "The body or a value is too large", body = Told),
        (status = 415, description = "The body is not JSON", body = Told)))]
pub(super) async fn transact(
    State(context): Shown,
    caller: Caller,
    Parted(room): Parted<String>,
    SentText(text): SentText,
) -> Result<Json<Written>, Refusal> {
    caller.needs(Scope::Write, &room)?;
    let written = in_room(&context.shared, room, move |inner, now| {
        let transaction =
            wire::parse_transaction(&text).map_err(|error| error.with_code(ErrorCode::MalformedMessage))?;
        inner.transact_as(now, &caller.who, transaction)
    });
    Ok(Json(written.await?.into()))
}
