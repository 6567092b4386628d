//! MQTT 3.1.1, as one would use it for this: retained messages, so that a joiner has the state;
//! published with quality 1, which is acknowledged, and delivered with quality 0.

use super::{Heard, Observe, KEY};

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const DISCONNECT: u8 = 0xE0;
/// Flags of `PUBLISH`: quality 1, retained.
const ACKNOWLEDGED: u8 = 0x02;
const RETAINED: u8 = 0x01;

/// Appends a packet: its first byte, its length, and what `write` appends.
fn packet(out: &mut Vec<u8>, first: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    out.push(first);
    let mut length = body.len();
    loop {
        let low = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    out.append(&mut body);
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn join(out: &mut Vec<u8>, room: &str, peer: &str, observe: Observe) {
    packet(out, CONNECT, |out| {
        text(out, "MQTT");
        // Version 3.1.1, a clean session, no keep-alive.
        out.extend_from_slice(&[4, 2, 0, 0]);
        text(out, peer);
    });
    let filter = match observe {
        Observe::Nothing => return,
        Observe::Key => format!("{room}/{KEY}"),
        Observe::State => format!("{room}/state/#"),
    };
    packet(out, SUBSCRIBE, |out| {
        out.extend_from_slice(&1u16.to_be_bytes());
        text(out, &filter);
        out.push(0);
    });
}

fn publish(out: &mut Vec<u8>, topic: &str, number: u64, value: &[u8]) {
    packet(out, PUBLISH | ACKNOWLEDGED | RETAINED, |out| {
        text(out, topic);
        // Zero is no packet id.
        out.extend_from_slice(&((number % 65_535) as u16 + 1).to_be_bytes());
        out.extend_from_slice(value);
    });
}

pub(super) fn set(out: &mut Vec<u8>, room: &str, sequence: u64, value: &[u8]) {
    publish(out, &format!("{room}/{KEY}"), sequence, value);
}

pub(super) fn set_state_key(out: &mut Vec<u8>, room: &str, index: usize, key: &str, value: &[u8]) {
    publish(out, &format!("{room}/state/{key}"), index as u64, value);
}

pub(super) fn leave(out: &mut Vec<u8>) {
    packet(out, DISCONNECT, |_| {});
}

/// The first packet in `bytes`, if it is whole: what it is, its payload, its length.
pub(super) fn frame(bytes: &[u8]) -> Result<Option<super::Frame<'_>>, String> {
    let (mut length, mut size) = (0usize, 1);
    loop {
        let Some(byte) = bytes.get(size) else { return Ok(None) };
        // Four bytes at most (3.1.1, 2.2.3).
        if size > 4 {
            return Err("the MQTT server sent a length that is none".into());
        }
        length |= usize::from(byte & 0x7f) << (7 * (size - 1));
        size += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (Some(first), Some(body)) = (bytes.first(), bytes.get(size..size + length)) else { return Ok(None) };
    let (heard, payload) = match first & 0xf0 {
        CONNACK if body.get(1) == Some(&0) => (Heard::Welcome, &b""[..]),
        CONNACK => (Heard::Refused, &b""[..]),
        SUBACK if body.get(2) == Some(&0) => (Heard::Subscribed, &b""[..]),
        SUBACK => (Heard::Refused, &b""[..]),
        PUBACK => (Heard::Ack, &b""[..]),
        // What a subscription finds is marked as retained; what comes later is not.
        PUBLISH => {
            let topic = body.first_chunk::<2>().map(|length| usize::from(u16::from_be_bytes(*length)));
            let value = topic.and_then(|topic| body.get(2 + topic..)).ok_or("the MQTT server cut a message short")?;
            (if first & RETAINED == 0 { Heard::Change } else { Heard::StatePart }, value)
        }
        other => return Err(format!("the MQTT server sent a packet of kind {other:#x}")),
    };
    Ok(Some((heard, payload, size + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_whole_or_not_at_all() {
        let long = [&[0x30, 0xca, 0x01, 0, 3][..], b"r/k", &[b'x'; 197]].concat();
        let all: [(&[u8], Heard, &[u8]); 6] = [
            (&[0x20, 2, 0, 0], Heard::Welcome, b""),
            (&[0x20, 2, 0, 5], Heard::Refused, b""),
            (&[0x90, 3, 0, 1, 0], Heard::Subscribed, b""),
            (&[0x40, 2, 0, 9], Heard::Ack, b""),
            (&[0x31, 5, 0, 1, b'r', b'4', b'2'], Heard::StatePart, b"42"),
            (&long, Heard::Change, &[b'x'; 197]),
        ];
        for (bytes, heard, payload) in all {
            for cut in 0..bytes.len() {
                assert_eq!(frame(&bytes[..cut]).unwrap(), None, "{cut} of {bytes:?}");
            }
            let followed = [bytes, &[0x40]].concat();
            assert_eq!(frame(&followed).unwrap(), Some((heard, payload, bytes.len())));
        }
        for wrong in [&[0x30, 1, 0][..], &[0x30, 2, 0, 9], &[0, 0], &[0x30, 0xff, 0xff, 0xff, 0xff, 1]] {
            assert!(frame(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_published_is_read_back() {
        let mut out = Vec::new();
        set(&mut out, "room", 65_535, &[b'v'; 300]);
        let (heard, payload, length) = frame(&out).unwrap().unwrap();
        // As it is sent, it has a packet id and the mark of a retained message.
        assert_eq!((heard, payload.len(), length), (Heard::StatePart, 302, out.len()));
        assert_eq!(payload[..2], [0, 1]);
    }
}
