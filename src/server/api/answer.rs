//! What requests bring and what they are answered with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::Json;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::Context;
use crate::core::error::{Error, ErrorCode};
use crate::core::limits::Limits;
use crate::core::room::{Change, Time};
use crate::core::wire;
use crate::server::http::status;
use crate::server::operate::{LockView, PeerView, RoomView, States};
use crate::server::options::MAX_API_BODY_BYTES;

// ------------------------------------------------------------------ refusals

/// An error as an answer.
pub(super) struct Refusal {
    status: u16,
    error: Error,
}

/// Why a request was refused; nothing was changed.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct Told<'a> {
    /// The number of the error
    code: i32,
    /// Its name, such as `VERSION_CONFLICT`
    name: &'a str,
    /// A sentence for people
    message: &'a str,
    /// After how many milliseconds to try again
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// After a conflict, what the key holds now
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<State>,
    /// Which check of a transaction failed, from 0
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<usize>,
    /// Which write of a transaction was refused, from 0
    #[serde(skip_serializing_if = "Option::is_none")]
    write: Option<usize>,
}

impl Refusal {
    pub fn new(status: u16, code: ErrorCode, message: &'static str) -> Refusal {
        Refusal { status, error: Error::new(code, message) }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal { status: status(error.code()), error }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal { status, error } = self;
        let told = Told {
            code: error.code().number(),
            name: error.code().name(),
            message: error.message(),
            retry_after_ms: error.retry_after_ms(),
            current: error.current().cloned().map(State),
            check: error.check(),
            write: error.write(),
        };
        let mut response = Json(told).into_response();
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == 401 {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(ms) = error.retry_after_ms() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
        response
    }
}

// ------------------------------------------------------------------ what is read

/// The body of a request: JSON.
pub(super) struct Sent<T>(pub T);

/// The same, as it came.
pub(super) struct SentText(pub String);

impl FromRequest<Arc<Context>> for SentText {
    type Rejection = Refusal;

    async fn from_request(request: Request, context: &Arc<Context>) -> Result<SentText, Refusal> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        // Pages of other origins cannot send this without asking first.
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            let message = "the body is not JSON; say Content-Type: application/json";
            return Err(Refusal::new(415, ErrorCode::MalformedMessage, message));
        }
        let body = Limited::new(request.into_body(), MAX_API_BODY_BYTES).collect();
        let limit = Duration::from_millis(context.shared.options.handshake_timeout_ms);
        let Ok(read) = tokio::time::timeout(limit, body).await else {
            return Err(Refusal::new(408, ErrorCode::Timeout, "the body did not come in time"));
        };
        let bytes = read.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => {
                let message = format!("the body has more than {MAX_API_BODY_BYTES} bytes");
                Error::new(ErrorCode::MessageTooLarge, message)
            }
            None => Error::new(ErrorCode::MalformedMessage, "the body is not complete"),
        })?;
        let text = String::from_utf8(bytes.to_bytes().into());
        text.map(SentText).map_err(|_| Error::from(ErrorCode::InvalidUtf8).into())
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<Context>> for Sent<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, context: &Arc<Context>) -> Result<Sent<T>, Refusal> {
        let SentText(text) = SentText::from_request(request, context).await?;
        let malformed = |error: serde_json::Error| {
            // Its sentence names fields and places, and repeats no value but of the wrong type: so only these.
            let message = match error.classify() {
                serde_json::error::Category::Data => format!(
                    "the body does not have the right fields, at line {} column {}",
                    error.line(),
                    error.column()
                ),
                _ => format!("the body is not JSON, at line {} column {}", error.line(), error.column()),
            };
            Error::new(ErrorCode::MalformedMessage, message)
        };
        serde_json::from_str(&text).map(Sent).map_err(|error| malformed(error).into())
    }
}

/// The variable parts of a path.
pub(super) struct Parted<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Context>> for Parted<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Parted<T>, Refusal> {
        match Path::<T>::from_request_parts(parts, context).await {
            Ok(Path(read)) => Ok(Parted(read)),
            Err(_) => Err(Error::new(ErrorCode::InvalidUtf8, "a part of the path is not UTF-8").into()),
        }
    }
}

/// What follows the path.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Context>> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Asked<T>, Refusal> {
        match Query::<T>::from_request_parts(parts, context).await {
            Ok(Query(read)) => Ok(Asked(read)),
            Err(_) => {
                let message = "a parameter of the query is unknown, or has a value that it cannot have";
                Err(Error::new(ErrorCode::InvalidArgument, message).into())
            }
        }
    }
}

// ------------------------------------------------------------------ what is answered

/// The state of a key, as the wire has it.
#[derive(Clone)]
pub(super) struct State(pub Arc<Change>);

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Vec::new();
        wire::write_state(&mut text, &self.0, 0);
        let text = String::from_utf8(text).map_err(serde::ser::Error::custom)?;
        RawValue::from_string(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl PartialSchema for State {
    fn schema() -> RefOr<Schema> {
        StateFields::schema()
    }
}

impl ToSchema for State {
    fn name() -> std::borrow::Cow<'static, str> {
        "State".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("AuthorFields".into(), AuthorFields::schema()));
        StateFields::schemas(schemas);
    }
}

/// The state of a key: what was written, by whom and when.
#[derive(ToSchema)]
#[allow(dead_code)] // It describes what `write_state` writes.
struct StateFields {
    /// The key
    key: String,
    /// Its value, any JSON; `null`: it is absent
    #[schema(value_type = Value, nullable)]
    data: (),
    /// The revision of the store that this made; 0 for a key that was never set
    change_version: u64,
    /// The id of the peer that wrote it; empty for an operator
    updated_by: Option<String>,
    /// Who that was
    author: Option<AuthorFields>,
    /// When, in milliseconds since 1970
    updated_at: Option<u64>,
    /// When it goes by itself, in milliseconds since 1970
    expires_at: Option<u64>,
    /// Why it is absent, if nobody removed it: `expired`, `peer-left`
    reason: Option<String>,
}

/// Who wrote something, captured when it was written.
#[derive(ToSchema)]
#[allow(dead_code)]
struct AuthorFields {
    /// The user id from its token
    user_id: String,
    /// The name it had
    name: String,
}

/// States of keys at one revision.
#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    /// The store's revision
    revision: u64,
    /// The keys, in the order of their names
    keys: Vec<State>,
}

impl From<States> for Keys {
    fn from(States { revision, states }: States) -> Keys {
        Keys { revision, keys: states.into_iter().map(State).collect() }
    }
}

/// What a transaction wrote.
#[derive(Serialize, ToSchema)]
pub(super) struct Written {
    /// The store's revision from then on
    revision: u64,
    /// The keys it wrote, in the order in which it named them first
    states: Vec<State>,
}

impl From<States> for Written {
    fn from(States { revision, states }: States) -> Written {
        Written { revision, states: states.into_iter().map(State).collect() }
    }
}

/// A room that has a session, in short.
#[derive(Serialize, ToSchema)]
pub(super) struct Room {
    /// Its name
    pub room: String,
    /// The id of its session
    session_id: String,
    /// When the session began, in milliseconds since 1970
    started_at: Time,
    /// How many changes its store has seen
    revision: u64,
    /// How many peers are in it, those in their grace period included
    peers: usize,
    /// How many connections it has
    connections: usize,
    /// How many keys are set
    keys: usize,
    /// Bytes of keys and values together
    bytes: usize,
}

impl From<RoomView> for Room {
    fn from(view: RoomView) -> Room {
        let RoomView { room, session_id, started_at, revision, peers, connections, keys, bytes } = view;
        let (room, session_id) = (room.to_string(), session_id.to_string());
        Room { room, session_id, started_at, revision, peers, connections, keys, bytes }
    }
}

/// One peer of a room.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Peer {
    /// Unique in its room
    peer_id: String,
    /// From its token; empty when the server is open
    user_id: String,
    /// As others see it
    name: String,
    /// Its role
    role: String,
    /// Any text, usually JSON
    metadata: String,
    /// When, in milliseconds since 1970
    joined_at: Time,
    /// Whether it has a connection; otherwise it is in its grace period
    connected: bool,
}

impl From<PeerView> for Peer {
    fn from(view: PeerView) -> Peer {
        let PeerView { peer_id, user_id, name, role, metadata, joined_at, connected } = view;
        Peer {
            peer_id: peer_id.to_string(),
            user_id: user_id.to_string(),
            name: name.to_string(),
            role: role.to_string(),
            metadata: metadata.to_string(),
            joined_at,
            connected,
        }
    }
}

/// A lock that is held.
#[derive(Serialize, ToSchema)]
pub(super) struct Lock {
    /// Its name
    name: String,
    /// The fencing token of the grant
    token: u64,
    /// By whom
    held_by: Holder,
    /// When it is lost unless it is renewed, in milliseconds since 1970
    expires_at: Time,
}

/// The peer that holds a lock.
#[derive(Serialize, ToSchema)]
pub(super) struct Holder {
    peer_id: String,
    user_id: String,
    name: String,
}

impl From<LockView> for Lock {
    fn from(LockView { name, state, expires_at }: LockView) -> Lock {
        let part = |part: fn(&crate::core::room::Author) -> &Arc<str>| {
            state.author.as_deref().map(|author| part(author).to_string()).unwrap_or_default()
        };
        let held_by = Holder {
            peer_id: part(|author| &author.peer_id),
            user_id: part(|author| &author.user_id),
            name: part(|author| &author.name),
        };
        Lock { name, token: state.version, held_by, expires_at }
    }
}

/// What bounds a room.
#[derive(Serialize, ToSchema)]
pub(super) struct Bounds {
    /// Bytes of one value
    max_value_bytes: usize,
    /// Keys of a store
    max_keys: usize,
    /// Bytes of keys and values together
    max_store_bytes: usize,
    /// Peers of a room
    max_peers: usize,
    /// How long a peer whose connection broke stays, in milliseconds
    grace_ms: u64,
    /// How long a store outlives its last peer, in milliseconds
    linger_ms: u64,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Bounds {
        let Limits { max_value_bytes, max_keys, max_store_bytes, max_peers, grace_ms, linger_ms, .. } = *limits;
        Bounds { max_value_bytes, max_keys, max_store_bytes, max_peers, grace_ms, linger_ms }
    }
}

/// Values by their keys.
pub(super) type Values = BTreeMap<String, Box<RawValue>>;
