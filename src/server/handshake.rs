//! From a request head to an admission: who wants into which room, and whether it may.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;
use tungstenite::handshake::derive_accept_key;

#[cfg(feature = "http")]
use super::api;
use super::connection::Dialect;
use super::http::{status, Head, Response};
use super::init::{self, Endpoint};
use super::origin::Origins;
use super::room_host::shown;
use super::token::Verifier;
use crate::core::error::{Error, ErrorCode};
use crate::core::limits::{Limits, MAX_REQUEST_ID_BYTES};
use crate::core::names::{self, KeyList};
use crate::core::room::Time;
use crate::core::secret::Secret;

/// What a request head asks for.
#[derive(Debug)]
pub(super) enum Asked {
    Health,
    Ready,
    Metrics,
    /// An answer that only says something.
    Told(Response),
    Join(Arc<Admission>),
    /// It is for the API.
    #[cfg(feature = "http")]
    Api,
    Refused(Response),
}

/// A connection that may become a WebSocket.
#[derive(Debug)]
pub(super) struct Admission {
    pub room: String,
    /// Chosen by the client, or made here.
    pub peer_id: String,
    pub user_id: String,
    pub role: String,
    /// When the token expires; `Time::MAX` without one.
    pub expires_at: Time,
    pub name: Option<String>,
    pub metadata: Option<String>,
    /// The id of the join that is part of the query, as JSON.
    pub join: Option<Box<RawValue>>,
    /// The keys to listen to at once.
    pub listen: Option<KeyList>,
    /// And the prefixes.
    pub prefixes: Option<KeyList>,
    /// By which the peer comes back as itself.
    pub secret: Option<Secret>,
    /// The session that it comes back to, and the last revision it knows.
    pub since: Option<(String, u64)>,
    pub accept_key: String,
    pub dialect: Dialect,
}

impl Admission {
    /// The id of the join, for the log.
    pub fn shown_id(&self) -> impl std::fmt::Display + '_ {
        shown(self.join.as_deref())
    }
}

pub(super) const DEFAULT_ROLE: &str = "guest";

/// The listen set that was asked for last, as it was written. As a rule everybody's program listens to
/// the same keys, and reading a hundred of them takes longer than all else in a handshake.
#[derive(Default)]
pub(super) struct LastListen(Option<(String, KeyList)>);

/// Decides what to do with a request.
pub(super) fn read(
    head: &Head<'_>,
    origins: &Origins,
    verifier: Option<&Verifier>,
    limits: &Limits,
    last: &mut LastListen,
    endpoint: &Endpoint,
) -> Asked {
    match head.path {
        "/init" => match init::read(head, origins, verifier, endpoint) {
            Ok(response) => Asked::Told(response),
            Err(response) => Asked::Refused(response),
        },
        "/ws" if head.method != "GET" => {
            let error = Error::new(ErrorCode::MalformedMessage, "only GET is possible here");
            Asked::Refused(Response::refusal(405, &error).with("Allow: GET\r\n"))
        }
        "/healthz" | "/readyz" | "/metrics" if !matches!(head.method, "GET" | "HEAD") => {
            let error = Error::new(ErrorCode::MalformedMessage, "only GET and HEAD are possible here");
            Asked::Refused(Response::refusal(405, &error).with("Allow: GET, HEAD\r\n"))
        }
        "/healthz" => Asked::Health,
        "/readyz" => Asked::Ready,
        "/metrics" => Asked::Metrics,
        // Before the token is looked at: a page that may not connect learns nothing about one.
        "/ws" if !origins.allow(head.header_or_empty("origin")) => {
            Asked::Refused(Response::refusal(403, &ErrorCode::OriginNotAllowed.into()))
        }
        "/ws" => match upgrade(head).and_then(|key| admission(head, key, verifier, limits, last)) {
            Ok(admission) => Asked::Join(Arc::new(admission)),
            Err(response) => Asked::Refused(response),
        },
        #[cfg(feature = "http")]
        path if api::has_path(path) => Asked::Api,
        _ => Asked::Refused(nothing_here()),
    }
}

/// The answer for a path that there is not.
pub(super) fn nothing_here() -> Response {
    let error = Error::new(ErrorCode::MalformedMessage, "nothing is here; the WebSocket is at /ws");
    Response::refusal(404, &error)
}

/// The answer to the client's key.
fn upgrade(head: &Head<'_>) -> Result<String, Response> {
    let refuse =
        |status, message: &'static str| Response::refusal(status, &Error::new(ErrorCode::MalformedMessage, message));
    if head.minor_version < 1 || !head.header_has("upgrade", "websocket") || !head.header_has("connection", "upgrade") {
        let response = refuse(426, "this is a WebSocket; ask for an upgrade");
        return Err(response.with("Upgrade: websocket\r\n"));
    }
    if head.header("sec-websocket-version") != Some("13") {
        let response = refuse(426, "the WebSocket version must be 13");
        return Err(response.with("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"));
    }
    match head.header("sec-websocket-key") {
        Some(key) if !key.is_empty() => Ok(derive_accept_key(key.as_bytes())),
        _ => Err(refuse(400, "the header Sec-WebSocket-Key is missing")),
    }
}

#[derive(Default)]
struct Query<'a> {
    room: Option<Cow<'a, str>>,
    role: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    user_id: Option<Cow<'a, str>>,
    peer: Option<Cow<'a, str>>,
    token: Option<Cow<'a, str>>,
    join: Option<Cow<'a, str>>,
    data: Option<Cow<'a, str>>,
    /// As it was written.
    listen: Option<&'a str>,
    prefixes: Option<Cow<'a, str>>,
    secret: Option<Cow<'a, str>>,
    session: Option<Cow<'a, str>>,
    since: Option<Cow<'a, str>>,
    dialect: Option<Cow<'a, str>>,
}

/// The value of a parameter with its name. What is not UTF-8 would be replaced, and different names could become one.
fn decoded(pair: &str) -> Result<Cow<'_, str>, Error> {
    let value = form_urlencoded::parse(pair.as_bytes()).next().map_or(Cow::Borrowed(""), |(_, value)| value);
    // The sign that stands for it may be meant, too.
    if value.contains(char::REPLACEMENT_CHARACTER) && !pair.to_ascii_uppercase().contains("%EF%BF%BD") {
        return Err(Error::new(ErrorCode::InvalidUtf8, "a parameter of the URL is not UTF-8"));
    }
    Ok(value)
}

fn query(text: &str) -> Result<Query<'_>, Error> {
    let mut query = Query::default();
    // Most texts stand for themselves.
    let is_plain = |text: &str| !text.bytes().any(|byte| matches!(byte, b'%' | b'+'));
    for pair in text.split('&') {
        let (name, written) = pair.split_once('=').unwrap_or((pair, ""));
        let name = match is_plain(name) {
            true => Cow::Borrowed(name),
            false => form_urlencoded::parse(name.as_bytes()).next().map_or(Cow::Borrowed(""), |(name, _)| name),
        };
        let field = match &*name {
            "listen" => {
                query.listen = Some(written);
                continue;
            }
            "prefixes" => &mut query.prefixes,
            "secret" => &mut query.secret,
            "session" => &mut query.session,
            "since" => &mut query.since,
            "dialect" => &mut query.dialect,
            "room" => &mut query.room,
            "role" => &mut query.role,
            "name" => &mut query.name,
            "user_id" => &mut query.user_id,
            "peer" => &mut query.peer,
            "token" => &mut query.token,
            "join" => &mut query.join,
            "data" => &mut query.data,
            // Other clients send more, such as user_agent_v2.
            _ => continue,
        };
        *field = match is_plain(written) {
            true => Some(Cow::Borrowed(written)),
            false => Some(decoded(pair)?),
        };
    }
    Ok(query)
}

fn admission(
    head: &Head<'_>,
    accept_key: String,
    verifier: Option<&Verifier>,
    limits: &Limits,
    last: &mut LastListen,
) -> Result<Admission, Response> {
    let query = query(head.query).map_err(bad_parameter)?;
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    let (room, user_id, role, expires_at) = match verifier {
        Some(verifier) => {
            let bearer = head.header("authorization").and_then(bearer);
            let token = bearer.or(query.token.as_deref());
            let unauthorized = |error: Error| Response::refusal(401, &error).with("WWW-Authenticate: Bearer\r\n");
            let token = token.ok_or_else(|| {
                unauthorized(Error::new(ErrorCode::Unauthorized, "this server wants a token, and there is none"))
            })?;
            let claims = verifier.verify(token).map_err(unauthorized)?;
            if query.room.as_ref().is_some_and(|room| **room != *claims.room_id) {
                let error = Error::new(ErrorCode::Unauthorized, "the token is for another room");
                return Err(unauthorized(error));
            }
            let expires_at = claims.expires_at();
            (claims.room_id, claims.user_id, claims.role, expires_at)
        }
        None => {
            let role = query.role.map_or_else(|| DEFAULT_ROLE.to_owned(), Cow::into_owned);
            (owned(query.room).unwrap_or_default(), owned(query.user_id).unwrap_or_default(), role, Time::MAX)
        }
    };
    let admission = Admission {
        room,
        peer_id: match owned(query.peer) {
            Some(id) => id,
            None => crate::ids::uuid().map_err(|error| Response::refusal(status(error.code()), &error))?,
        },
        user_id,
        role,
        expires_at,
        name: owned(query.name),
        metadata: owned(query.data),
        join: query.join.as_deref().map(join_id).transpose().map_err(bad_parameter)?,
        listen: query.listen.map(|written| last.read(written)).transpose().map_err(bad_parameter)?,
        prefixes: query.prefixes.as_deref().map(prefixes).transpose().map_err(bad_parameter)?,
        secret: query.secret.as_deref().map(secret).transpose().map_err(bad_parameter)?,
        since: since(query.session, query.since.as_deref()).map_err(bad_parameter)?,
        accept_key,
        dialect: match query.dialect.as_deref() {
            Some(init::DIALECT) => Dialect::Original,
            _ => Dialect::Own,
        },
    };
    check(&admission, limits).map_err(bad_parameter)?;
    Ok(admission)
}

fn bad_parameter(error: Error) -> Response {
    Response::refusal(400, &error)
}

pub(super) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// All that the room would check, checked before the connection becomes a WebSocket.
fn check(admission: &Admission, limits: &Limits) -> Result<(), Error> {
    names::check_room(&admission.room)?;
    names::check_role(&admission.role)?;
    names::check_user_id(&admission.user_id)?;
    names::check_peer_id(&admission.peer_id)?;
    admission.name.as_deref().map_or(Ok(()), names::check_peer_name)?;
    admission.metadata.as_deref().map_or(Ok(()), names::check_peer_metadata)?;
    if (admission.listen.is_some() || admission.prefixes.is_some()) && admission.join.is_none() {
        return Err(Error::new(ErrorCode::InvalidArgument, "listen needs join: only who is in the room can listen"));
    }
    let listened = admission.listen.as_ref().map_or(0, |keys| keys.len())
        + admission.prefixes.as_ref().map_or(0, |prefixes| prefixes.len());
    let most = limits.max_listened_keys;
    if listened > most {
        let message = format!("{listened} keys at once; at most {most} are allowed");
        return Err(Error::new(ErrorCode::TooManyListenedKeys, message));
    }
    Ok(())
}

/// The `session` and `since` parameters, which mean something together only.
fn since(session: Option<Cow<'_, str>>, since: Option<&str>) -> Result<Option<(String, u64)>, Error> {
    let wrong = |_| Error::new(ErrorCode::InvalidArgument, "since is not a revision");
    let revision: Option<u64> = since.map(str::parse).transpose().map_err(wrong)?;
    Ok(session.map(Cow::into_owned).zip(revision))
}

/// The `secret` parameter.
fn secret(text: &str) -> Result<Secret, Error> {
    let wrong = || Error::new(ErrorCode::InvalidArgument, "secret is not 32 hexadecimal digits");
    Secret::parse(text).ok_or_else(wrong)
}

/// The `prefixes` parameter.
fn prefixes(json: &str) -> Result<KeyList, Error> {
    let wrong = |_| Error::new(ErrorCode::InvalidArgument, "prefixes is not a JSON array of prefixes");
    let prefixes: KeyList = serde_json::from_str(json).map_err(wrong)?;
    prefixes.iter().try_for_each(names::check_prefix)?;
    Ok(prefixes)
}

impl LastListen {
    /// The keys of the `listen` parameter.
    fn read(&mut self, written: &str) -> Result<KeyList, Error> {
        if let Some((_, keys)) = self.0.as_ref().filter(|(last, _)| last == written) {
            return Ok(keys.clone());
        }
        let wrong = || Error::new(ErrorCode::InvalidArgument, "listen is not a JSON array of keys");
        let pair = format!("listen={written}");
        let json = decoded(&pair)?;
        let keys: KeyList = serde_json::from_str(&json).map_err(|_| wrong())?;
        keys.iter().try_for_each(names::check_key)?;
        self.0 = Some((written.to_owned(), keys.clone()));
        Ok(keys)
    }
}

/// The id, as the JSON string that is echoed.
fn join_id(text: &str) -> Result<Box<RawValue>, Error> {
    let id = serde_json::value::to_raw_value(text).map_err(|_| ErrorCode::InvalidArgument)?;
    if id.get().len() > MAX_REQUEST_ID_BYTES {
        let message = format!("join is an id of at most {} bytes", MAX_REQUEST_ID_BYTES - 2);
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn ask(line: &str, headers: &str) -> Asked {
        let bytes = format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let head = Head::parse(bytes.as_bytes()).expect("valid").expect("complete");
        let endpoint = Endpoint::new(None, false).expect("read");
        read(&head, &Origins::default(), None, &Limits::default(), &mut LastListen::default(), &endpoint)
    }

    fn refused(line: &str, headers: &str) -> (u16, String) {
        match ask(line, headers) {
            Asked::Refused(response) => (response.status, response.body),
            other => panic!("{line} gave {other:?}"),
        }
    }

    #[test]
    fn reads_everything_from_the_query() {
        let line = "GET /ws?room=my%20room&name=Ada+L&peer=p1&join=7&listen=%5B%22a%22%2C%22b%22%5D&data=%7B%7D&x=y";
        let Asked::Join(admission) = ask(line, UPGRADE) else { panic!("refused") };
        assert_eq!((&*admission.room, admission.name.as_deref()), ("my room", Some("Ada L")));
        assert_eq!((&*admission.role, &*admission.peer_id), ("guest", "p1"));
        assert_eq!(admission.join.as_ref().map(|id| id.get()), Some("\"7\""));
        assert_eq!(admission.listen.as_ref().map(|keys| keys.iter().collect()), Some(vec!["a", "b"]));
        assert_eq!(admission.metadata.as_deref(), Some("{}"));
        // The example of RFC 6455, 1.3.
        assert_eq!(admission.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_last_listen_set_is_taken_for_no_other() {
        let mut last = LastListen::default();
        let keys = |keys: KeyList| keys.iter().map(String::from).collect::<Vec<_>>();
        for _ in 0..2 {
            assert_eq!(keys(last.read("%5B%22a%22%2C%22+b%22%5D").expect("a set")), ["a", " b"]);
            assert!(last.read("%5B%22a%22%2C%22%22%5D").is_err());
            assert_eq!(keys(last.read("[]").expect("a set")), [""; 0]);
        }
    }

    #[test]
    fn refuses_with_the_status_that_says_why() {
        assert_eq!(refused("GET /", UPGRADE).0, 404);
        assert_eq!(refused("POST /ws?room=r", UPGRADE).0, 405);
        assert_eq!(refused("DELETE /healthz", "").0, 405);
        assert_eq!(refused("POST /readyz", "").0, 405);
        assert_eq!(refused("GET /ws?room=r", "").0, 426);
        assert_eq!(refused("GET /ws?room=r", &UPGRADE.replace("13", "8")).0, 426);
        assert_eq!(refused("GET /ws?room=r", &UPGRADE.replace("-Key", "-Kex")).0, 400);
        let long = format!("GET /ws?room={}", "r".repeat(129));
        let bad = [
            ("GET /ws", "\"code\":6"),
            ("GET /ws?room=", "\"code\":6"),
            ("GET /ws?room=a%ff", "\"code\":3"),
            ("GET /ws?room=r&join=1&listen=[%22%ff%22]", "\"code\":3"),
            (&*long, "\"code\":6"),
            ("GET /ws?room=r&peer=", "\"code\":7"),
            ("GET /ws?room=r&role=", "\"code\":7"),
            ("GET /ws?room=r&join=1&listen=%5B%22%22%5D", "\"code\":5"),
            ("GET /ws?room=r&join=1&listen=%5B1%5D", "\"code\":2"),
            ("GET /ws?room=r&join=1&listen=", "\"code\":2"),
            ("GET /ws?room=r&join=1&listen", "\"code\":2"),
            ("GET /ws?room=r&listen=%5B%5D", "\"code\":2"),
            ("GET /ws?room=r&join=1&secret=secret", "\"code\":2"),
            ("GET /ws?room=r&join=1&session=s&since=-1", "\"code\":2"),
        ];
        for (line, code) in bad {
            let (status, body) = refused(line, UPGRADE);
            assert_eq!(status, 400, "{line}");
            assert!(body.contains(code), "{line}: {body}");
        }
    }
}
