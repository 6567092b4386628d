//! What the server writes.

use std::hint::black_box;

use sessionstore::core::wire;

use super::{change, full_room, room, Cases, Work, PEERS, STATE_KEYS, STATE_VALUE_BYTES};

pub const CASES: Cases = &[
    ("encode a notification", notification),
    ("encode the answer to a set", answer),
    ("encode a snapshot of 64 KB", snapshot),
    ("encode the list of 1,000 peers", peer_list),
];

/// Work that writes into a buffer that is there already, as the server has it.
fn writing(least: usize, mut write: impl FnMut(&mut Vec<u8>) + 'static) -> Work {
    let mut out = Vec::new();
    write(&mut out);
    assert!(out.len() >= least, "{} bytes", out.len());
    Box::new(move || {
        out.clear();
        write(&mut out);
        black_box(&out).len()
    })
}

fn notification() -> Work {
    let change = change();
    writing(200, move |out| wire::write_changes(out, std::iter::once((&**black_box(&change), 0)), false))
}

fn answer() -> Work {
    let (change, id) = (change(), serde_json::value::to_raw_value("12345").expect("a string is JSON"));
    writing(200, move |out| wire::write_state_result(out, &id, black_box(&change)))
}

fn snapshot() -> Work {
    let (room, _) = full_room();
    writing(STATE_KEYS * STATE_VALUE_BYTES, move |out| {
        wire::write_changes(out, black_box(&room).entries().map(|change| (&**change, 0)), true);
    })
}

fn peer_list() -> Work {
    let (room, _) = room(PEERS);
    writing(PEERS * 200, move |out| wire::write_peer_list(out, black_box(&room), None))
}
