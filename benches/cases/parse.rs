//! Messages read, on both sides.

use std::hint::black_box;

use sessionstore::core::wire::{self, ClientMessage, ServerMessage};

use super::{change, full_room, text, utf8, Cases, Work, KEY, STATE_KEYS, VALUE_BYTES};

pub const REQUESTS: Cases = &[
    ("parse a request to set", || request(|out| wire::write_set(out, 12_345, KEY, &text(VALUE_BYTES), None))),
    ("parse a request to set on a version", || {
        request(|out| wire::write_set(out, 12_345, KEY, &text(VALUE_BYTES), Some(678)))
    }),
    ("parse a request to listen to 100 keys", || {
        let keys: Vec<String> = (0..STATE_KEYS).map(|index| format!("k{index:02}")).collect();
        request(|out| wire::write_listen(out, 12_345, keys.iter().map(String::as_str), std::iter::empty()))
    }),
];

pub const MESSAGES: Cases = &[
    ("parse a notification", notification),
    ("parse an answer to a set", answer),
    ("parse a snapshot of 64 KB", snapshot),
];

fn request(write: impl FnOnce(&mut Vec<u8>)) -> Work {
    let mut request = Vec::new();
    write(&mut request);
    let request = utf8(request);
    Box::new(move || {
        let parsed = wire::parse_request(black_box(&request));
        match black_box(parsed.message) {
            Ok(ClientMessage::Set { value, .. }) => value.json().len(),
            Ok(ClientMessage::Listen { keys, .. }) => keys.len(),
            other => panic!("a request was read as {other:?}"),
        }
    })
}

fn message(write: impl FnOnce(&mut Vec<u8>)) -> Work {
    let mut message = Vec::new();
    write(&mut message);
    let (message, mut known) = (utf8(message), wire::Known::default());
    Box::new(move || match black_box(wire::parse_server_message(black_box(&message), &mut known)) {
        Ok(ServerMessage::Changes { states, .. }) => states.len(),
        Ok(ServerMessage::Result { body, .. }) => {
            wire::parse_state(body, &mut known).expect("a state").version as usize
        }
        other => panic!("a message was read as {other:?}"),
    })
}

fn notification() -> Work {
    let change = change();
    message(|out| wire::write_changes(out, std::iter::once((&*change, 0)), false))
}

fn answer() -> Work {
    let (change, id) = (change(), serde_json::value::to_raw_value("12345").expect("a string is JSON"));
    message(|out| wire::write_state_result(out, &id, &change))
}

fn snapshot() -> Work {
    let (room, _) = full_room();
    message(|out| wire::write_changes(out, room.entries().map(|change| (&**change, 0)), true))
}
