//! The messages: JSON-RPC 2.0 in WebSocket text frames, parsed and written.
//!
//! `docs/protocol.md` is the description for people who write a client; this is the code of both
//! ends. Writers append the JSON text to a buffer, so that a message is written once and shared
//! by everybody who receives it.
//!
//! | module | what it holds |
//! |---|---|
//! | `from_client` | requests, as the server parses and the client writes them |
//! | `from_server` | answers and notifications, as the server writes and the client parses them |
//! | `store` | both of what is asked of a store beyond setting, getting and listening |

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::core::error::{Error, ErrorCode};

/// Writes a literal or a field's text, then whatever a writer adds.
macro_rules! put {
    ($out:expr, $($text:expr),+) => {{ $( $out.extend_from_slice($text.as_bytes()); )+ }};
}

mod from_client;
mod from_server;
mod store;

pub use from_client::*;
pub use from_server::*;
pub use store::*;

/// The version of the protocol, sent in the answer to `join`. Clients of another major number
/// are told so at the handshake.
pub const PROTOCOL_VERSION: u32 = 1;

/// How requests and their answers begin; the id follows.
pub(in crate::core) const REQUEST_BEGIN: &str = "{\"jsonrpc\":\"2.0\",\"id\":";

/// The number that a request's id is: our clients count theirs. `None` for other ids.
pub fn request_number(id: &RawValue) -> Option<u64> {
    id.get().trim_matches('"').parse().ok()
}

/// A string borrowed from the message where it has no escapes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

fn read<'a, T: Deserialize<'a>>(method: &str, params: Option<&'a RawValue>) -> Result<T, Error> {
    object(format_args!("the params of {method}"), params.map_or("{}", RawValue::get))
}

/// serde would also fill a struct from an array, field by field in their order; the protocol has
/// objects only.
fn object<'a, T: Deserialize<'a>>(what: impl fmt::Display, text: &'a str) -> Result<T, Error> {
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(Error::new(ErrorCode::MalformedMessage, format!("{what}: not a JSON object")));
    }
    serde_json::from_str(text).map_err(|error| malformed(what, &error))
}

/// serde_json's own text may quote the input, which stays out of messages; its position does not.
fn malformed(what: impl fmt::Display, error: &serde_json::Error) -> Error {
    let reason = match error.classify() {
        serde_json::error::Category::Data => "do not have the fields or types the method takes",
        _ => "are not valid JSON",
    };
    let message = format!("{what}: the contents {reason} (line {}, column {})", error.line(), error.column());
    Error::new(ErrorCode::MalformedMessage, message)
}

fn string(out: &mut Vec<u8>, text: &str) {
    // All bytes are looked at, so that many can be at once.
    let is_plain = text.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'));
    if is_plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        return out.push(b'"');
    }
    // Writing JSON into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn number(out: &mut Vec<u8>, number: u64) {
    let _ = serde_json::to_writer(out, &number);
}

/// A JSON array of keys, also used in the query of the handshake.
pub fn write_key_array<'a>(out: &mut Vec<u8>, keys: impl Iterator<Item = &'a str>) {
    put!(out, "[");
    for (index, key) in keys.enumerate() {
        if index > 0 {
            put!(out, ",");
        }
        string(out, key);
    }
    put!(out, "]");
}
