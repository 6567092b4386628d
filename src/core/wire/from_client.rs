//! What a client says: as the server parses it, and as the client writes it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::core::canonical;
use crate::core::error::{Error, ErrorCode};
use crate::core::limits::MAX_REQUEST_ID_BYTES;
use crate::core::value::Value;
use crate::core::write::{LockGuard, Operation, Transaction, Write};

use super::store::{AcquireParams, HeldParams, PrefixParams, ReadParams, TransactParams, WriteParams};
use super::{number, object, read, string, write_key_array, Text, REQUEST_BEGIN};

/// A request as it came: its id as raw JSON, to be echoed, and what it asks.
#[derive(Debug)]
pub struct Request<'a> {
    /// `None` for a notification, which gets no answer.
    pub id: Option<&'a RawValue>,
    /// What is asked, or why that cannot be understood.
    pub message: Result<ClientMessage<'a>, Error>,
}

/// What a client can ask.
#[derive(Debug)]
pub enum ClientMessage<'a> {
    /// `join {name?, data?}`
    Join {
        /// The peer's name.
        name: Option<Cow<'a, str>>,
        /// The peer's metadata.
        metadata: Option<Cow<'a, str>>,
    },
    /// `leave {}`
    Leave,
    /// `set-metadata {key, data?, if_change_version?}`
    Set {
        /// The key.
        key: Cow<'a, str>,
        /// The value; `null` removes.
        value: Value,
        /// Only if the key has this version.
        expected: Option<u64>,
    },
    /// A write on further conditions: `set-metadata`, `merge-metadata {key, op, data, cap?}`,
    /// `touch-metadata {key, ttl_ms}`, each with `if_change_version?, ttl_ms?, bind?, lock?`
    Write {
        /// What is written.
        write: Write<'a>,
        /// Only while this lock is held.
        lock: Option<LockGuard<'a>>,
    },
    /// `transact {checks, writes}`
    Transact(Transaction<'a>),
    /// `lock-acquire {name, ttl_ms?, wait_ms?}`
    Acquire {
        /// The lock's name.
        name: Cow<'a, str>,
        /// How long it is held unless it is renewed.
        ttl_ms: u64,
        /// How long to wait for it.
        wait_ms: u64,
    },
    /// `lock-renew {name, token, ttl_ms?}`
    Renew {
        /// Which grant.
        lock: LockGuard<'a>,
        /// How long from now.
        ttl_ms: u64,
    },
    /// `lock-release {name, token}`
    Release {
        /// Which grant.
        lock: LockGuard<'a>,
    },
    /// `read-metadata {keys?, prefixes?}`
    Read {
        /// Keys, absent ones included.
        keys: Vec<Text<'a>>,
        /// And all that begin with one of these.
        prefixes: Vec<Text<'a>>,
    },
    /// `key-list {prefix?}`
    Keys {
        /// What they begin with.
        prefix: Cow<'a, str>,
    },
    /// `usage {}`
    Usage,
    /// `renew-token {token}`
    RenewToken {
        /// A fresh token.
        token: Cow<'a, str>,
    },
    /// `answered {through, except?}`
    Answered {
        /// The client has the answers to its requests with this id or a lower one,
        through: u64,
        /// but for these.
        except: Vec<u64>,
    },
    /// `get-metadata {key}`
    Get {
        /// The key.
        key: Cow<'a, str>,
    },
    /// `listen-metadata-change {keys?, prefixes?}`
    Listen {
        /// The whole set.
        keys: Vec<Text<'a>>,
        /// And all keys that begin with one of these.
        prefixes: Vec<Text<'a>>,
    },
    /// `peer-update {name?, data?}`
    PeerUpdate {
        /// The new name.
        name: Option<Cow<'a, str>>,
        /// The new metadata.
        metadata: Option<Cow<'a, str>>,
    },
    /// `peer-list {}`
    PeerList,
    /// `ping {timestamp?}`
    Ping {
        /// Echoed.
        timestamp: Option<&'a RawValue>,
    },
    /// `track-update`: the original's web client says so of its media when it comes back, instead of a join.
    Tracks,
    /// Something else it says of its media, which does not concern the store.
    Ignored,
}

impl ClientMessage<'_> {
    /// The method, as it is on the wire; `""` for one that does not concern the store.
    pub fn method(&self) -> &'static str {
        match self {
            ClientMessage::Join { .. } => "join",
            ClientMessage::Leave => "leave",
            ClientMessage::Set { .. } => "set-metadata",
            ClientMessage::Write { write, .. } => match write.operation {
                Operation::Set(_) => "set-metadata",
                Operation::Merge(_) => "merge-metadata",
                Operation::Touch => "touch-metadata",
            },
            ClientMessage::Transact(_) => "transact",
            ClientMessage::Acquire { .. } => "lock-acquire",
            ClientMessage::Renew { .. } => "lock-renew",
            ClientMessage::Release { .. } => "lock-release",
            ClientMessage::Read { .. } => "read-metadata",
            ClientMessage::Keys { .. } => "key-list",
            ClientMessage::Usage => "usage",
            ClientMessage::RenewToken { .. } => "renew-token",
            ClientMessage::Answered { .. } => "answered",
            ClientMessage::Get { .. } => "get-metadata",
            ClientMessage::Listen { .. } => "listen-metadata-change",
            ClientMessage::PeerUpdate { .. } => "peer-update",
            ClientMessage::PeerList => "peer-list",
            ClientMessage::Ping { .. } => "ping",
            ClientMessage::Tracks => "track-update",
            ClientMessage::Ignored => "",
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Text<'a>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PeerParams<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct KeyParams<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
}

#[derive(Deserialize)]
struct TokenParams<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
}

#[derive(Deserialize)]
struct AnsweredParams {
    through: u64,
    #[serde(default)]
    except: Vec<u64>,
}

#[derive(Deserialize)]
struct PingParams<'a> {
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

/// Parses one text frame from a client. Never panics, whatever the bytes.
pub fn parse_request(text: &str) -> Request<'_> {
    if let Some(request) = canonical::set(text) {
        return request;
    }
    let envelope: Envelope<'_> = match object("the frame", text) {
        Ok(envelope) => envelope,
        Err(error) => return Request { id: None, message: Err(error) },
    };
    let id = match envelope.id {
        Some(id) if id.get().len() > MAX_REQUEST_ID_BYTES || id.get().starts_with(['{', '[', 't', 'f']) => {
            let message = format!("an id is a string or number of at most {MAX_REQUEST_ID_BYTES} bytes");
            return Request { id: None, message: Err(Error::new(ErrorCode::MalformedMessage, message)) };
        }
        id => id,
    };
    let message = match &envelope.method {
        Some(method) => parse_method(&method.0, envelope.params),
        None => Err(Error::new(ErrorCode::MalformedMessage, "the message has no method")),
    };
    Request { id, message }
}

fn parse_method<'a>(method: &str, params: Option<&'a RawValue>) -> Result<ClientMessage<'a>, Error> {
    match method {
        "set-metadata" => {
            let params: WriteParams<'_> = read(method, params)?;
            params.set()
        }
        "merge-metadata" => {
            let params: WriteParams<'_> = read(method, params)?;
            params.write("")
        }
        "touch-metadata" => {
            let params: WriteParams<'_> = read(method, params)?;
            params.write("touch")
        }
        "transact" => {
            let params: TransactParams<'_> = read(method, params)?;
            params.read().map(ClientMessage::Transact)
        }
        "lock-acquire" => read::<AcquireParams<'_>>(method, params).map(ClientMessage::from),
        "lock-renew" => read::<HeldParams<'_>>(method, params).map(HeldParams::renew),
        "lock-release" => read::<HeldParams<'_>>(method, params).map(HeldParams::release),
        "read-metadata" => {
            let (keys, prefixes) = read::<ReadParams<'_>>(method, params)?.read()?;
            Ok(ClientMessage::Read { keys, prefixes })
        }
        "key-list" => {
            let PrefixParams { prefix } = read(method, params)?;
            Ok(ClientMessage::Keys { prefix })
        }
        "usage" => Ok(ClientMessage::Usage),
        "renew-token" => {
            let TokenParams { token } = read(method, params)?;
            Ok(ClientMessage::RenewToken { token })
        }
        "answered" => {
            let AnsweredParams { through, except } = read(method, params)?;
            Ok(ClientMessage::Answered { through, except })
        }
        "get-metadata" => {
            let KeyParams { key } = read(method, params)?;
            Ok(ClientMessage::Get { key })
        }
        "listen-metadata-change" => {
            let (keys, prefixes) = read::<ReadParams<'_>>(method, params)?.read()?;
            Ok(ClientMessage::Listen { keys, prefixes })
        }
        "join" => {
            let PeerParams { name, data } = read(method, params)?;
            Ok(ClientMessage::Join { name: name.map(|t| t.0), metadata: data.map(|t| t.0) })
        }
        "peer-update" => {
            let PeerParams { name, data } = read(method, params)?;
            Ok(ClientMessage::PeerUpdate { name: name.map(|t| t.0), metadata: data.map(|t| t.0) })
        }
        "ping" => match params {
            Some(_) => read::<PingParams<'_>>(method, params).map(|p| ClientMessage::Ping { timestamp: p.timestamp }),
            None => Ok(ClientMessage::Ping { timestamp: None }),
        },
        "leave" => Ok(ClientMessage::Leave),
        "peer-list" => Ok(ClientMessage::PeerList),
        "track-update" => Ok(ClientMessage::Tracks),
        "analytics" | "trickle" | "answer" | "offer" => Ok(ClientMessage::Ignored),
        _ => Err(Error::new(ErrorCode::UnknownMethod, "the server has no such method")),
    }
}

// ------------------------------------------------------------------ written

pub(super) fn request(out: &mut Vec<u8>, id: u64, method: &str, params: impl FnOnce(&mut Vec<u8>)) {
    put!(out, REQUEST_BEGIN, "\"");
    number(out, id);
    put!(out, "\",\"method\":\"", method, "\",\"params\":{");
    params(out);
    put!(out, "}}");
}

/// Writes a request whose params are written already, without their braces.
pub fn write_request(out: &mut Vec<u8>, id: u64, method: &str, params: &[u8]) {
    request(out, id, method, |out| out.extend_from_slice(params));
}

/// Writes `set-metadata`.
pub fn write_set(out: &mut Vec<u8>, id: u64, key: &str, value: &Value, expected: Option<u64>) {
    request(out, id, "set-metadata", |out| {
        put!(out, "\"key\":");
        string(out, key);
        put!(out, ",\"data\":", value.json());
        if let Some(expected) = expected {
            put!(out, ",\"if_change_version\":");
            number(out, expected);
        }
    });
}

/// Writes `get-metadata`.
pub fn write_get(out: &mut Vec<u8>, id: u64, key: &str) {
    request(out, id, "get-metadata", |out| {
        put!(out, "\"key\":");
        string(out, key);
    });
}

/// Writes `listen-metadata-change` with the whole set.
pub fn write_listen<'a>(
    out: &mut Vec<u8>,
    id: u64,
    keys: impl Iterator<Item = &'a str>,
    prefixes: impl Iterator<Item = &'a str>,
) {
    request(out, id, "listen-metadata-change", |out| {
        put!(out, "\"keys\":");
        write_key_array(out, keys);
        let mut prefixes = prefixes.peekable();
        if prefixes.peek().is_some() {
            put!(out, ",\"prefixes\":");
            write_key_array(out, prefixes);
        }
    });
}

/// Writes `join` or `peer-update`, which take the same fields.
pub fn write_introduction(out: &mut Vec<u8>, id: u64, method: &str, name: Option<&str>, metadata: Option<&str>) {
    request(out, id, method, |out| {
        if let Some(name) = name {
            put!(out, "\"name\":");
            string(out, name);
        }
        if let Some(metadata) = metadata {
            put!(out, if name.is_some() { ",\"data\":" } else { "\"data\":" });
            string(out, metadata);
        }
    });
}

/// Writes `renew-token`.
pub fn write_renew_token(out: &mut Vec<u8>, id: u64, token: &str) {
    request(out, id, "renew-token", |out| {
        put!(out, "\"token\":");
        string(out, token);
    });
}

/// Writes `answered`, a notification: nothing answers it.
pub fn write_answered(out: &mut Vec<u8>, through: u64, except: &[u64]) {
    put!(out, "{\"jsonrpc\":\"2.0\",\"method\":\"answered\",\"params\":{\"through\":");
    number(out, through);
    if !except.is_empty() {
        put!(out, ",\"except\":");
        let _ = serde_json::to_writer(&mut *out, except);
    }
    put!(out, "}}");
}

/// Writes `leave`, `peer-list` or `ping`, which need nothing.
pub fn write_bare(out: &mut Vec<u8>, id: u64, method: &str) {
    request(out, id, method, |_| {});
}
