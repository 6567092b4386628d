//! Just enough HTTP/1.1: one request head is read, and answered once.

use std::borrow::Cow;

use crate::core::error::{Error, ErrorCode};

use super::options::MAX_HEADERS;

/// As [`FULL_RETRY_MS`](super::options::FULL_RETRY_MS) says, in seconds.
const RETRY_AFTER: &str = "Retry-After: 5\r\n";

/// What is needed of a request head, borrowed from its bytes.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub method: &'a str,
    /// HTTP/1.x
    pub minor_version: u8,
    pub path: &'a str,
    pub query: &'a str,
    headers: Vec<(&'a str, &'a [u8])>,
    /// Bytes of the head, the empty line included.
    pub size: usize,
}

/// Why a head cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    Malformed,
    TooManyHeaders,
}

impl<'a> Head<'a> {
    /// Parses a head; `None` when it is not complete.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<Head<'a>>, BadHead> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let size = match request.parse(bytes) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooManyHeaders),
            Err(_) => return Err(BadHead::Malformed),
        };
        let (Some(method), Some(target), Some(minor_version)) = (request.method, request.path, request.version) else {
            return Err(BadHead::Malformed);
        };
        let target = origin_form(target);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = request.headers.iter().map(|header| (header.name, header.value)).collect();
        Ok(Some(Head { method, minor_version, path, query, headers, size }))
    }

    /// The first header of that name, if it is text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok().map(str::trim)
    }

    /// The same, and empty if it is not text: for what must not pass because it cannot be read.
    pub fn header_or_empty(&self, name: &str) -> Option<&'a str> {
        let is_there = self.headers.iter().any(|(have, _)| have.eq_ignore_ascii_case(name));
        is_there.then(|| self.header(name).unwrap_or(""))
    }

    /// Whether a header that lists words has this one.
    pub fn header_has(&self, name: &str, word: &str) -> bool {
        let mut headers = self.headers.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name));
        headers.any(|(_, value)| {
            let text = std::str::from_utf8(value).unwrap_or("");
            text.split(',').any(|have| have.trim().eq_ignore_ascii_case(word))
        })
    }
}

/// A request's target without scheme and host, with which proxies may write it (RFC 9112, 3.2.2).
fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            rest.find(['/', '?']).and_then(|end| rest.get(end..)).unwrap_or("/")
        }
        _ => target,
    }
}

/// What HTTP calls an error (RFC 9110, 15; RFC 6585). Whoever may try again unchanged is told so: by 429 where
/// this client asked too much, by a status from 500 on where the server is at fault.
pub(super) fn status(code: ErrorCode) -> u16 {
    use ErrorCode as Code;
    match code {
        Code::Unauthorized | Code::TokenExpired => 401,
        Code::Forbidden | Code::OriginNotAllowed | Code::ReservedKey | Code::Kicked => 403,
        Code::UnknownMethod | Code::KeyAbsent | Code::NotFound => 404,
        Code::NotJoined
        | Code::PeerInUse
        | Code::PeerMismatch
        | Code::LockHeld
        | Code::LockLost
        | Code::OutcomeUnknown
        | Code::TooManyKeys
        | Code::StoreFull
        | Code::TooManyLocks
        | Code::TooManyListenedKeys
        | Code::RoomOpen => 409,
        Code::SessionLost | Code::RoomClosed => 410,
        Code::VersionConflict | Code::CheckFailed => 412,
        Code::ValueTooLarge | Code::MessageTooLarge => 413,
        Code::RateLimited | Code::TooManyConnections => 429,
        Code::RoomFull | Code::ServerFull | Code::TooManyRooms | Code::ShuttingDown => 503,
        Code::Internal | Code::Panic | Code::OutOfResources | Code::Unknown => 500,
        _ => 400,
    }
}

/// A whole answer, after which the connection is closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub status: u16,
    /// Why, if it is a refusal.
    pub reason: Option<ErrorCode>,
    pub content_type: &'static str,
    /// Header lines beside the usual ones, each with its line end.
    pub extra: Cow<'static, str>,
    pub body: String,
    /// Whether it answers a HEAD, and so says only how long its body is.
    pub is_head: bool,
}

impl Response {
    /// A body in JSON.
    pub fn json(status: u16, body: impl Into<String>) -> Response {
        let (content_type, extra, body) = ("application/json", "".into(), body.into());
        Response { status, reason: None, content_type, extra, body, is_head: false }
    }

    /// A refusal, with the error as its body.
    pub fn refusal(status: u16, error: &Error) -> Response {
        let mut body = serde_json::json!({"code": error.code().number(), "message": error.message()});
        if let Some(time) = error.retry_after_ms() {
            body["retry_after_ms"] = time.into();
        }
        Response { reason: Some(error.code()), ..Response::json(status, body.to_string()) }
    }

    pub fn with(self, extra: impl Into<Cow<'static, str>>) -> Response {
        Response { extra: extra.into(), ..self }
    }

    /// A refusal because there is too much of something now.
    pub fn too_much(error: &Error) -> Response {
        let status = if error.code() == ErrorCode::TooManyConnections { 429 } else { 503 };
        Response::refusal(status, error).with(RETRY_AFTER)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let Response { status, content_type, extra, body, is_head, .. } = self;
        let reason = match status {
            200 => "OK",
            204 => "No Content",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            426 => "Upgrade Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Error",
        };
        // RFC 9110, 8.6: not with a 204.
        let content = match status {
            204 => String::new(),
            _ => format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len()),
        };
        let body = if *is_head { "" } else { body };
        format!(
            "HTTP/1.1 {status} {reason}\r\n{content}Cache-Control: no-store\r\nConnection: close\r\n{extra}\r\n{body}"
        )
        .into_bytes()
    }
}

/// The head that turns the connection into a WebSocket.
pub(super) fn write_upgrade(out: &mut Vec<u8>, accept_key: &str) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept_key.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_head_and_leaves_what_follows() {
        let bytes = b"GET /ws?room=a%20b HTTP/1.1\r\nHost: x\r\nconnection: keep-alive, UPGRADE\r\n\r\nrest";
        let head = Head::parse(bytes).expect("valid").expect("complete");
        assert_eq!((head.method, head.path, head.query, head.minor_version), ("GET", "/ws", "room=a%20b", 1));
        assert_eq!(&bytes[head.size..], b"rest");
        assert!(head.header_has("Connection", "upgrade"));
        assert_eq!(head.header("HOST"), Some("x"));
        assert_eq!(head.header("absent"), None);
        assert!(Head::parse(&bytes[..40]).expect("valid so far").is_none());
        assert_eq!(Head::parse(b"\x16\x03\x01\x02\x00").expect_err("TLS"), BadHead::Malformed);
    }

    #[test]
    fn a_target_may_be_a_whole_url() {
        let targets = [
            ("http://example.org/ws?url=http://x/y", ("/ws", "url=http://x/y")),
            ("HTTPS://example.org:8443/v1/rooms", ("/v1/rooms", "")),
            ("http://example.org", ("/", "")),
            ("http://example.org?room=a/b", ("", "room=a/b")),
            ("/ws?url=http://x/y", ("/ws", "url=http://x/y")),
            ("ftp://example.org/ws", ("ftp://example.org/ws", "")),
        ];
        for (target, expected) in targets {
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            let head = Head::parse(bytes.as_bytes()).expect("valid").expect("complete");
            assert_eq!((head.path, head.query), expected, "{target}");
        }
    }

    #[test]
    fn both_ways_to_say_when_to_come_back_say_the_same() {
        let seconds = RETRY_AFTER.trim().strip_prefix("Retry-After: ").and_then(|text| text.parse::<u64>().ok());
        assert_eq!(seconds.map(|seconds| seconds * 1_000), Some(crate::server::options::FULL_RETRY_MS));
    }

    #[test]
    fn the_documented_statuses_are_those_of_the_table() {
        let text = include_str!("../../docs/protocol.md");
        let (_, table) = text.split_once("| code | errors |").expect("the table");
        let (table, _) = table.split_once("| 400 | all others |").expect("its end");
        let mut documented = std::collections::BTreeMap::new();
        for line in table.lines().filter(|line| line.contains('`')) {
            let mut cells = line.split('|').skip(1);
            let status: u16 = cells.next().expect("a status").trim().parse().expect("a number");
            let names = cells.next().expect("the errors").split('`').skip(1).step_by(2);
            documented.extend(names.map(|name| (name, status)));
        }
        for code in ErrorCode::ALL {
            assert_eq!(status(*code), documented.remove(code.name()).unwrap_or(400), "{}", code.name());
        }
        assert!(documented.is_empty(), "{documented:?}");
    }

    #[test]
    fn answers_with_the_error_as_json() {
        let error = Error::new(crate::ErrorCode::Unauthorized, "no \"token\"");
        let text = String::from_utf8(Response::refusal(401, &error).bytes()).expect("text");
        assert!(text.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n{\"code\":200,\"message\":\"no \\\"token\\\"\"}"), "{text}");
    }
}
