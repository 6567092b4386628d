//! Redis, as one would use it for this: RESP3, so that a subscriber can write too; a key and a
//! channel for what is fanned out, a hash for the state that joins receive.
//!
//! A set is `SET` and `PUBLISH` in one write. They are not wrapped in `MULTI`: that would make them
//! one, but costs Redis two commands more, and each alone is what its users write.

use std::io::Write as _;

use super::{Heard, Observe, KEY};

/// Appends a command.
fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    // Writing into memory cannot fail.
    let _ = write!(out, "*{}\r\n", words.len());
    for word in words {
        let _ = write!(out, "${}\r\n", word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn state_of(room: &str) -> String {
    format!("{room}:state")
}

pub(super) fn join(out: &mut Vec<u8>, room: &str, observe: Observe) {
    command(out, &[b"HELLO", b"3"]);
    if observe != Observe::Nothing {
        command(out, &[b"SUBSCRIBE", room.as_bytes()]);
    }
    if observe == Observe::State {
        command(out, &[b"HGETALL", state_of(room).as_bytes()]);
    }
}

pub(super) fn set(out: &mut Vec<u8>, room: &str, value: &[u8], is_observed: bool) {
    command(out, &[b"SET", format!("{room}:{KEY}").as_bytes(), value]);
    if is_observed {
        command(out, &[b"PUBLISH", room.as_bytes(), value]);
    }
}

pub(super) fn set_state_key(out: &mut Vec<u8>, room: &str, key: &str, value: &[u8]) {
    command(out, &[b"HSET", state_of(room).as_bytes(), key.as_bytes(), value]);
}

pub(super) fn leave(out: &mut Vec<u8>) {
    command(out, &[b"QUIT"]);
}

/// The first reply or push in `bytes`, if it is whole: what it is, its payload, its length.
pub(super) fn frame(bytes: &[u8]) -> Result<Option<super::Frame<'_>>, String> {
    let Some(length) = length(bytes)? else { return Ok(None) };
    let whole = bytes.get(..length).unwrap_or_default();
    let (heard, payload) = match whole.first() {
        // What it stored is not observed; what it published, the next reply acknowledges.
        Some(b'+') => (Heard::Stored, &b""[..]),
        Some(b':') => (Heard::Ack, &b""[..]),
        Some(b'-') => (Heard::Refused, &b""[..]),
        Some(b'%') if whole.windows(6).take(64).any(|part| part == b"server") => (Heard::Welcome, &b""[..]),
        Some(b'%') => (Heard::Joined, whole),
        Some(b'>') if whole.starts_with(b">3\r\n$7\r\nmessage\r\n") => (Heard::Change, last_text(whole)?),
        Some(b'>') if whole.starts_with(b">3\r\n$9\r\nsubscribe\r\n") => (Heard::Subscribed, &b""[..]),
        _ => return Err("Redis sent something unexpected".into()),
    };
    Ok(Some((heard, payload, length)))
}

/// How long the first value is, if it is whole.
fn length(bytes: &[u8]) -> Result<Option<usize>, String> {
    // Values that are still to come before the first one is whole.
    let (mut at, mut due) = (0, 1u64);
    while due > 0 {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', rest) else { return Ok(None) };
        let line = rest.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or("a line of Redis ends wrongly")?;
        let (kind, text) = line.split_first().ok_or("Redis sent an empty line")?;
        at += end + 1;
        due -= 1;
        let count = || -> Result<u64, String> {
            let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
            // Minus one stands for nothing at all. The rest is a bound against nonsense.
            number
                .filter(|number| (-1..1 << 30).contains(number))
                .map(|number| number.max(0) as u64)
                .ok_or_else(|| "Redis sent a length that is none".to_string())
        };
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' => {}
            b'$' if text == b"-1" => {}
            b'$' => at += count()? as usize + 2,
            b'*' | b'>' | b'~' => due += count()?,
            b'%' => due += 2 * count()?,
            other => return Err(format!("Redis sent a value of kind {:?}", char::from(*other))),
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// The payload of a message: the last text of the push.
fn last_text(push: &[u8]) -> Result<&[u8], String> {
    let cut = || "Redis sent a message that is none".to_string();
    let mut rest = push;
    for _ in 0..5 {
        // The push's own line; then length and text of its kind and its channel.
        let end = memchr::memchr(b'\n', rest).ok_or_else(cut)?;
        rest = rest.get(end + 1..).ok_or_else(cut)?;
    }
    let end = memchr::memchr(b'\n', rest).ok_or_else(cut)?;
    rest.get(end + 1..).and_then(|text| text.strip_suffix(b"\r\n")).ok_or_else(cut)
}

/// How many values a reply to `HGETALL` has.
pub(super) fn state_keys(payload: &[u8]) -> usize {
    let line = payload.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.strip_prefix(b"%").and_then(|count| std::str::from_utf8(count).ok()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_and_pushes_are_read_whole_or_not_at_all() {
        let all: [(&[u8], Heard, &[u8]); 7] = [
            (b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nmodules\r\n*0\r\n", Heard::Welcome, b""),
            (b">3\r\n$9\r\nsubscribe\r\n$4\r\nroom\r\n:1\r\n", Heard::Subscribed, b""),
            (b"+OK\r\n", Heard::Stored, b""),
            (b":12\r\n", Heard::Ack, b""),
            (b"-ERR wrong\r\n", Heard::Refused, b""),
            (b">3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$9\r\n\"va\r\nlue\"\r\n", Heard::Change, b"\"va\r\nlue\""),
            (b"%1\r\n$3\r\nk00\r\n$1\r\n7\r\n", Heard::Joined, b"%1\r\n$3\r\nk00\r\n$1\r\n7\r\n"),
        ];
        for (bytes, heard, payload) in all {
            for cut in 0..bytes.len() {
                assert_eq!(frame(&bytes[..cut]).unwrap(), None, "{cut} of {bytes:?}");
            }
            let followed = [bytes, b"+OK\r\n"].concat();
            assert_eq!(frame(&followed).unwrap(), Some((heard, payload, bytes.len())));
        }
        assert_eq!(state_keys(b"%100\r\n$3\r\nk00"), 100);
        for wrong in [&b"hello\r\n"[..], b"\r\n", b"$x\r\n", b"*-7\r\n", b"$99999999999\r\n", b"*1\r\n:1\r\n", b"+a\n"]
        {
            assert!(frame(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn commands_are_written_as_arrays_of_texts() {
        let mut out = Vec::new();
        set(&mut out, "r", b"\"v\"", false);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$11\r\nr:spotlight\r\n$3\r\n\"v\"\r\n");
    }
}
