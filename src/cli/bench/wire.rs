//! What the generator says and hears: the floor's length-prefixed frames, WebSocket by hand, and
//! the protocols of the peers that people would otherwise bend to this job.
//!
//! Reading is by byte search, not by a JSON parser, so that a delivery costs the generator much
//! the same on both sides and the server is what is measured.

mod mqtt;
mod redis;

use std::io::Write as _;
use std::sync::{Arc, LazyLock};

use memchr::memmem::Finder;

use crate::core::room::{Author, Change};
use crate::core::wire::write_changes;
use crate::Value;

/// The key that the fan-out workloads set.
pub(crate) const KEY: &str = "spotlight";
/// Bytes of a value in the fan-out workloads, its quotes included.
pub(crate) const VALUE_BYTES: usize = 100;
/// Keys of the state that a join receives.
pub(crate) const STATE_KEYS: usize = 100;
/// Bytes of each of its values, quotes included: with their keys just under a store's 65,536.
pub(crate) const STATE_VALUE_BYTES: usize = 640;

/// First byte of a floor frame: a writer joins.
pub(crate) const FLOOR_WRITE: u8 = b'W';
/// An observer joins.
pub(crate) const FLOOR_OBSERVE: u8 = b'O';
/// An observer joins and wants 64 KB of state.
pub(crate) const FLOOR_STATE: u8 = b'F';
/// A set; the observers receive the same bytes.
pub(crate) const FLOOR_SET: u8 = b'S';
/// A client leaves: the floor ends the connection.
pub(crate) const FLOOR_LEAVE: u8 = b'L';
/// The answer to a set.
pub(crate) const FLOOR_ACK: u8 = b'A';
/// The answer to a join, with the state where that was asked for.
pub(crate) const FLOOR_JOINED: u8 = b'J';

/// RFC 6455 wants an unpredictable mask against confused proxies; here one that is not zero is
/// enough to make the server do the work.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The request id of a join.
const JOIN_ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":"j","#;
const ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":"#;
const CHANGE: &[u8] = br#"{"method":"on-metadata-change","#;
const SNAPSHOT_END: &[u8] = br#""snapshot":true}}"#;

static STATE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#"{"key":"spotlight","data":""#));
static ANY_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#"{"key":""#));
static RESULT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#","result":"#));
static REPLACED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""replaced":"#));

/// How the generator speaks.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    /// A u32, big-endian, then as many bytes.
    Floor,
    /// Our protocol; `host` is for the handshake, `path` is the address without its query.
    WebSocket {
        /// Host and port.
        host: String,
        /// Usually `/ws`.
        path: String,
    },
    /// Redis, with a channel and keys for each room.
    Redis,
    /// MQTT, with topics for each room.
    Mqtt,
}

/// What a connection asks for when it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observe {
    /// Nothing: it only writes.
    Nothing,
    /// The key of the fan-out workloads.
    Key,
    /// All the keys of the 64 KB state.
    State,
}

/// What a frame is to the generator.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The join is answered; what was asked for with it may still come.
    Welcome,
    /// From now on the key is observed.
    Subscribed,
    /// The state is here, or what else completes any join.
    Joined,
    /// One key of the state, where each is a message of its own.
    StatePart,
    /// A value is stored; where somebody observes it, the acknowledgement follows.
    Stored,
    /// Keys have changed; [`Wire::states`] has which.
    Change,
    /// A set is acknowledged.
    Ack,
    /// A request is refused.
    Refused,
    /// To be answered with a pong of the same payload.
    Ping,
    /// The server closes the connection.
    Close,
    /// Not what is measured: peers coming and going.
    Other,
}

/// A whole frame: what it is, its payload, and how many bytes it takes with its header.
pub(crate) type Frame<'a> = (Heard, &'a [u8], usize);

/// One state as delivered: which set it was, in which room, and how many it stands for besides itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) sequence: u64,
    pub(crate) room: u64,
    pub(crate) replaced: u64,
}

/// The value of a set: JSON of exactly [`VALUE_BYTES`] that says which set and which room it is of.
fn value(out: &mut Vec<u8>, sequence: u64, room: usize) {
    let start = out.len();
    // Writing into memory cannot fail.
    let _ = write!(out, "\"seq-{sequence:012}-{room:06}-");
    out.resize(start + VALUE_BYTES - 1, b'x');
    out.push(b'"');
}

fn parse_value(bytes: &[u8]) -> Option<(u64, u64)> {
    let digits = |bytes: &[u8]| {
        bytes.iter().try_fold(0u64, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
    };
    let text = bytes.strip_prefix(b"seq-")?;
    Some((digits(text.get(..12)?)?, digits(text.get(13..19)?)?))
}

/// The names of the keys of the 64 KB state.
pub(crate) fn state_key(index: usize) -> String {
    format!("k{index:02}")
}

impl Wire {
    /// Appends what a connection sends first.
    pub(crate) fn join(&self, out: &mut Vec<u8>, room: &str, peer: &str, observe: Observe) {
        match self {
            Wire::Floor => {
                let kind = match observe {
                    Observe::Nothing => FLOOR_WRITE,
                    Observe::Key => FLOOR_OBSERVE,
                    Observe::State => FLOOR_STATE,
                };
                floor_frame(out, kind, room.as_bytes());
            }
            Wire::Redis => redis::join(out, room, observe),
            Wire::Mqtt => mqtt::join(out, room, peer, observe),
            Wire::WebSocket { host, path } => {
                let _ = write!(out, "GET {path}?room={room}&peer={peer}&name=bench&join=j");
                match observe {
                    Observe::Nothing => {}
                    Observe::Key => drop(write!(out, "&listen=%5B%22{KEY}%22%5D")),
                    Observe::State => {
                        let _ = write!(out, "&listen={}", *STATE_LISTEN_SET);
                    }
                }
                let _ = write!(
                    out,
                    " HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2Vzc2lvbnN0b3JlLWJlbg==\r\n\r\n"
                );
            }
        }
    }

    /// Appends a set of [`KEY`] in the room of this name and number.
    pub(crate) fn set(&self, out: &mut Vec<u8>, sequence: u64, room: usize, name: &str, is_observed: bool) {
        let mut body = Vec::with_capacity(256);
        match self {
            Wire::Redis => {
                value(&mut body, sequence, room);
                redis::set(out, name, &body, is_observed);
            }
            Wire::Mqtt => {
                value(&mut body, sequence, room);
                mqtt::set(out, name, sequence, &body);
            }
            Wire::Floor => {
                value(&mut body, sequence, room);
                floor_frame(out, FLOOR_SET, &body);
            }
            Wire::WebSocket { .. } => {
                let _ = write!(
                    body,
                    r#"{{"jsonrpc":"2.0","id":"{sequence}","method":"set-metadata","params":{{"key":"{KEY}","data":"#
                );
                value(&mut body, sequence, room);
                body.extend_from_slice(b"}}");
                client_frame(out, OPCODE_TEXT, &body);
            }
        }
    }

    /// Appends a set of one key of the 64 KB state. The floor has its state already.
    pub(crate) fn set_state_key(&self, out: &mut Vec<u8>, index: usize, room: &str) {
        let (key, value) = (state_key(index), format!("\"{}\"", "x".repeat(STATE_VALUE_BYTES - 2)));
        match self {
            Wire::Floor => {}
            Wire::Redis => redis::set_state_key(out, room, &key, value.as_bytes()),
            Wire::Mqtt => mqtt::set_state_key(out, room, index, &key, value.as_bytes()),
            Wire::WebSocket { .. } => {
                let body = format!(
                    r#"{{"jsonrpc":"2.0","id":"{index}","method":"set-metadata","params":{{"key":"{key}","data":{value}}}}}"#
                );
                client_frame(out, OPCODE_TEXT, body.as_bytes());
            }
        }
    }

    /// Appends what a client says when it goes; here a leave that wants no answer, and its close
    /// frame. Every server closes first: otherwise the generator would run out of ports, as a closed connection
    /// keeps the port of who closed first for a while.
    pub(crate) fn leave(&self, out: &mut Vec<u8>) {
        match self {
            Wire::Floor => floor_frame(out, FLOOR_LEAVE, b""),
            Wire::Redis => redis::leave(out),
            Wire::Mqtt => mqtt::leave(out),
            Wire::WebSocket { .. } => {
                client_frame(out, OPCODE_TEXT, br#"{"jsonrpc":"2.0","method":"leave","params":{}}"#);
                client_frame(out, OPCODE_CLOSE, &1000u16.to_be_bytes());
            }
        }
    }

    /// Appends the answer to a ping.
    pub(crate) fn pong(&self, out: &mut Vec<u8>, payload: &[u8]) {
        client_frame(out, OPCODE_PONG, payload);
    }

    /// Whether the server answers the connection before its first frame.
    pub(crate) fn has_handshake(&self) -> bool {
        matches!(self, Wire::WebSocket { .. })
    }

    /// Whether this is the floor, which has its state from the beginning.
    pub(crate) fn is_floor(&self) -> bool {
        matches!(self, Wire::Floor)
    }

    /// The first frame in `bytes`; `None` while it is incomplete, an error when it is none.
    pub(crate) fn frame<'a>(&self, bytes: &'a [u8]) -> Result<Option<Frame<'a>>, String> {
        match self {
            Wire::Floor => {
                let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
                let end = 4 + u32::from_be_bytes(*length) as usize;
                let Some(frame) = bytes.get(4..end) else { return Ok(None) };
                let (kind, payload) = frame.split_first().ok_or("the floor sent an empty frame")?;
                let heard = match *kind {
                    FLOOR_SET => Heard::Change,
                    FLOOR_ACK => Heard::Ack,
                    FLOOR_JOINED => Heard::Joined,
                    other => return Err(format!("the floor sent a frame of kind {other}")),
                };
                Ok(Some((heard, payload, end)))
            }
            Wire::Redis => redis::frame(bytes),
            Wire::Mqtt => mqtt::frame(bytes),
            Wire::WebSocket { .. } => {
                let Some((opcode, start, length)) = server_frame(bytes)? else { return Ok(None) };
                let Some(payload) = bytes.get(start..start + length) else { return Ok(None) };
                let heard = match opcode {
                    OPCODE_TEXT => classify(payload),
                    OPCODE_PING => Heard::Ping,
                    OPCODE_CLOSE => Heard::Close,
                    OPCODE_PONG => Heard::Other,
                    other => return Err(format!("the server sent a frame of opcode {other}")),
                };
                Ok(Some((heard, payload, start + length)))
            }
        }
    }

    /// Calls `each` with every state of [`KEY`] in the payload of a [`Heard::Change`]. An error
    /// when there is none.
    pub(crate) fn states(&self, payload: &[u8], mut each: impl FnMut(Delivery)) -> Result<(), &'static str> {
        const UNKNOWN: &str = "a delivery was not of the key or not of the value that was set";
        if !matches!(self, Wire::WebSocket { .. }) {
            // The value alone.
            let text = payload.get(1..).unwrap_or_default();
            let (sequence, room) = parse_value(text).filter(|_| payload.len() == VALUE_BYTES).ok_or(UNKNOWN)?;
            each(Delivery { sequence, room, replaced: 0 });
            return Ok(());
        }
        let mut rest = payload;
        let mut at = STATE.find(rest).ok_or(UNKNOWN)?;
        loop {
            rest = rest.get(at + STATE.needle().len()..).unwrap_or_default();
            let (sequence, room) = parse_value(rest).ok_or(UNKNOWN)?;
            // The value ends where it should, so none of it was cut.
            if rest.get(VALUE_BYTES - 2) != Some(&b'"') {
                return Err(UNKNOWN);
            }
            rest = rest.get(VALUE_BYTES - 1..).unwrap_or_default();
            let next = STATE.find(rest);
            let own = rest.get(..next.unwrap_or(rest.len())).unwrap_or_default();
            each(Delivery { sequence, room, replaced: replaced(own) });
            match next {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
    }

    /// Whether the payload of a [`Heard::Joined`] has the whole 64 KB state.
    pub(crate) fn is_whole_state(&self, payload: &[u8]) -> bool {
        match self {
            Wire::Floor => payload.len() >= STATE_KEYS * STATE_VALUE_BYTES,
            Wire::Redis => payload.len() > STATE_KEYS * STATE_VALUE_BYTES && redis::state_keys(payload) == STATE_KEYS,
            // Its parts are counted.
            Wire::Mqtt => true,
            Wire::WebSocket { .. } => {
                payload.len() > STATE_KEYS * STATE_VALUE_BYTES && ANY_KEY.find_iter(payload).count() == STATE_KEYS
            }
        }
    }
}

/// The bytes of the message that brings the state to who joins ours: the values, and what is said of each.
pub(crate) fn our_state_bytes() -> usize {
    // As the generator sets it.
    let author = Arc::new(Author { peer_id: "peer-1".into(), user_id: "".into(), name: "bench".into() });
    let changes: Vec<Change> = (0..STATE_KEYS)
        .map(|index| Change {
            value: Value::from(&*"x".repeat(STATE_VALUE_BYTES - 2)),
            version: index as u64 + 1,
            author: Some(author.clone()),
            // Any time of this century has as many digits.
            updated_at: 1_700_000_000_000,
            ..Change::absent(state_key(index).into())
        })
        .collect();
    let mut message = Vec::new();
    write_changes(&mut message, changes.iter().map(|change| (change, 0)), true);
    message.len()
}

/// The keys of the state, as they stand in a query.
static STATE_LISTEN_SET: LazyLock<String> = LazyLock::new(|| {
    let keys: Vec<String> = (0..STATE_KEYS).map(|index| format!("%22{}%22", state_key(index))).collect();
    format!("%5B{}%5D", keys.join("%2C"))
});

pub(crate) const OPCODE_TEXT: u8 = 1;
const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;
const OPCODE_PONG: u8 = 10;

fn replaced(state: &[u8]) -> u64 {
    let Some(at) = REPLACED.find(state) else { return 0 };
    let digits = state.get(at + REPLACED.needle().len()..).unwrap_or_default();
    digits.iter().map_while(|byte| byte.is_ascii_digit().then(|| u64::from(byte - b'0'))).fold(0, |n, d| n * 10 + d)
}

fn classify(payload: &[u8]) -> Heard {
    if payload.starts_with(CHANGE) {
        if payload.ends_with(SNAPSHOT_END) {
            return Heard::Joined;
        }
        return Heard::Change;
    }
    if payload.starts_with(ANSWER) {
        // The answer to a join without keys is its last word; with keys the snapshot is.
        let head = payload.get(..payload.len().min(200)).unwrap_or_default();
        return match RESULT.find(head) {
            None => Heard::Refused,
            Some(_) if payload.starts_with(JOIN_ANSWER) => Heard::Welcome,
            Some(_) => Heard::Ack,
        };
    }
    Heard::Other
}

/// Opcode, start and length of the payload of the frame that `bytes` begin with.
fn server_frame(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, String> {
    let Some(&[first, second]) = bytes.first_chunk::<2>() else { return Ok(None) };
    if first & 0x80 == 0 || second & 0x80 != 0 {
        return Err("the server sent a fragmented or masked frame".into());
    }
    let (start, length) = match second {
        126 => match bytes.get(2..4).and_then(<[u8]>::first_chunk) {
            Some(length) => (4, usize::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(<[u8]>::first_chunk) {
            Some(length) => (10, u64::from_be_bytes(*length) as usize),
            None => return Ok(None),
        },
        short => (2, usize::from(short)),
    };
    // Larger than anything a room of 20,000 peers is told; the length is not to be believed.
    if length > 64 << 20 {
        return Err(format!("the server sent a frame of {length} bytes"));
    }
    Ok(Some((first & 0x0f, start, length)))
}

/// Appends a masked frame of fewer than 64 KB.
pub(crate) fn client_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match u8::try_from(payload.len()) {
        Ok(length @ 0..126) => out.push(0x80 | length),
        _ => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends a frame of the floor.
pub(crate) fn floor_frame(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32 + 1).to_be_bytes());
    out.push(kind);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Wire {
        Wire::WebSocket { host: "localhost".into(), path: "/ws".into() }
    }

    fn server_text(text: &str) -> Vec<u8> {
        let mut frame = vec![0x81, 126];
        frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    fn state(sequence: u64, more: &str) -> String {
        let mut text = Vec::new();
        value(&mut text, sequence, 42);
        let text = String::from_utf8(text).unwrap();
        format!(r#"{{"key":"spotlight","data":{text},"change_version":9{more}}}"#)
    }

    fn deliveries(payload: &[u8]) -> Vec<(u64, u64, u64)> {
        let mut all = Vec::new();
        ours().states(payload, |d| all.push((d.sequence, d.room, d.replaced))).unwrap();
        all
    }

    #[test]
    fn a_set_is_valid_for_the_server() {
        let mut frame = Vec::new();
        ours().set(&mut frame, 7, 42, "room", true);
        assert_eq!(frame[..2], [0x81, 0x80 | 126]);
        let text: Vec<u8> = frame[8..].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let request = crate::core::wire::parse_request(std::str::from_utf8(&text).unwrap());
        let Ok(crate::core::wire::ClientMessage::Set { key, value, .. }) = request.message else { panic!() };
        assert_eq!(key, KEY);
        assert_eq!(value.json().len(), VALUE_BYTES);
        assert_eq!(parse_value(&value.json().as_bytes()[1..]), Some((7, 42)));
    }

    #[test]
    fn our_state_is_what_a_join_brings() {
        // A snapshot that was read from a socket, without the header of its frame.
        assert_eq!(our_state_bytes(), 77_061);
    }

    #[test]
    fn every_state_of_a_notification_is_found() {
        let text = format!(
            r#"{{"method":"on-metadata-change","params":{{"values":[{},{}]}}}}"#,
            state(3, r#","replaced":2"#),
            state(4, "")
        );
        let frame = server_text(&text);
        for cut in 0..frame.len() {
            assert!(ours().frame(&frame[..cut]).unwrap().is_none(), "{cut}");
        }
        let (heard, payload, used) = ours().frame(&frame).unwrap().unwrap();
        assert_eq!((heard, used), (Heard::Change, frame.len()));
        assert_eq!(deliveries(payload), [(3, 42, 2), (4, 42, 0)]);
    }

    #[test]
    fn another_key_or_value_is_not_taken_for_a_delivery() {
        let other = br#"{"method":"on-metadata-change","params":{"values":[{"key":"spotlights","data":"seq-"}]}}"#;
        assert!(ours().states(other, |_| {}).is_err());
        let short = br#"{"method":"on-metadata-change","params":{"values":[{"key":"spotlight","data":"seq-000000000001-000001-x"}]}}"#;
        assert!(ours().states(short, |_| {}).is_err());
        assert!(Wire::Floor.states(b"\"seq-000000000001-000001-", |_| {}).is_err());
    }

    #[test]
    fn answers_snapshots_and_refusals_are_told_apart() {
        assert_eq!(classify(br#"{"jsonrpc":"2.0","id":"9","result":{"key":"spotlight"}}"#), Heard::Ack);
        assert_eq!(classify(br#"{"jsonrpc":"2.0","id":"9","error":{"code":202}}"#), Heard::Refused);
        assert_eq!(classify(br#"{"jsonrpc":"2.0","id":"j","result":{}}"#), Heard::Welcome);
        assert_eq!(
            classify(br#"{"method":"on-metadata-change","params":{"values":[],"snapshot":true}}"#),
            Heard::Joined
        );
        assert_eq!(classify(br#"{"method":"on-peer-leave","params":{}}"#), Heard::Other);
    }
}
