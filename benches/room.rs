//! What the room itself costs, without a network: applying, parsing, writing.

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use sessionstore::core::room::{Command, Event, Introduction, PeerHandle, Reply, Room};
use sessionstore::core::wire;
use sessionstore::Value;

/// Members of the room; a key's listeners are walked by the server, not by the room.
const PEERS: usize = 1000;
/// A store as full as the limits allow: 100 keys, 64 KB.
const STATE_KEYS: usize = 100;
const STATE_VALUE_BYTES: usize = 640;

fn text(bytes: usize) -> Value {
    Value::from("x".repeat(bytes - 2).as_str())
}

fn room(peers: usize) -> (Room, PeerHandle) {
    let mut room = Room::new("bench", Default::default());
    let mut events = Vec::new();
    let mut first = None;
    for index in 0..peers {
        let peer_id = format!("6f1c3a52-0000-4000-8000-{index:012}");
        let peer = Introduction { peer_id: &peer_id, user_id: "", name: Some("Ada"), role: "guest", metadata: None };
        let joined = room.apply(1, Command::Join { peer, new_session_id: "session" }, &mut events);
        let Ok(Reply::Joined { peer, .. }) = joined else { panic!("{joined:?}") };
        room.apply(1, Command::Listen { peer, keys: &["spotlight"] }, &mut events).unwrap();
        first.get_or_insert(peer);
    }
    (room, first.expect("a room of at least one"))
}

fn set(room: &mut Room, now: u64, peer: PeerHandle, value: Value, events: &mut Vec<Event>) {
    let set = Command::Set { peer, key: "spotlight", value, expected: None };
    room.apply(now, set, events).expect("a set within the limits");
}

fn full_room() -> (Room, PeerHandle) {
    let (mut room, peer) = room(1);
    for index in 0..STATE_KEYS {
        let key = format!("k{index:02}");
        let set = Command::Set { peer, key: &key, value: text(STATE_VALUE_BYTES), expected: None };
        room.apply(2, set, &mut Vec::new()).expect("a set within the limits");
    }
    (room, peer)
}

fn apply(c: &mut Criterion) {
    let value = text(100);
    let (mut room, peer) = room(PEERS);
    let (mut events, mut out, mut now) = (Vec::new(), Vec::new(), 1_700_000_000_000);
    c.bench_function("apply a set of 100 bytes", |b| {
        b.iter(|| {
            now += 1;
            events.clear();
            set(&mut room, now, peer, black_box(value.clone()), &mut events);
            black_box(events.len())
        })
    });
    c.bench_function("apply it and write its notification", |b| {
        b.iter(|| {
            now += 1;
            events.clear();
            out.clear();
            set(&mut room, now, peer, black_box(value.clone()), &mut events);
            for event in &events {
                if let Event::Changed { change, .. } = event {
                    wire::write_changes(&mut out, std::iter::once((&**change, 0)), false);
                }
            }
            black_box(out.len())
        })
    });
}

fn parse(c: &mut Criterion) {
    let mut request = Vec::new();
    wire::write_set(&mut request, 12_345, "spotlight", &text(100), None);
    let request = String::from_utf8(request).unwrap();
    assert!(wire::parse_request(&request).message.is_ok());
    c.bench_function("parse a request to set 100 bytes", |b| {
        b.iter(|| black_box(wire::parse_request(black_box(&request))))
    });

    let (mut room, peer) = room(1);
    let mut events = Vec::new();
    set(&mut room, 1_700_000_000_000, peer, text(100), &mut events);
    let mut message = Vec::new();
    wire::write_changes(&mut message, std::iter::once((&*room.state("spotlight"), 0)), false);
    let message = String::from_utf8(message).unwrap();
    let mut known = wire::Known::default();
    assert!(matches!(wire::parse_server_message(&message, &mut known), Ok(wire::ServerMessage::Changes { .. })));
    c.bench_function("parse a notification of 100 bytes", |b| {
        b.iter(|| black_box(wire::parse_server_message(black_box(&message), &mut known).is_ok()))
    });
}

fn snapshot(c: &mut Criterion) {
    let (room, _) = full_room();
    let mut out = Vec::new();
    let mut write = || {
        out.clear();
        wire::write_changes(&mut out, room.entries().map(|change| (&**change, 0)), true);
        out.len()
    };
    let bytes = write();
    assert!(bytes > STATE_KEYS * STATE_VALUE_BYTES);
    let mut group = c.benchmark_group("snapshot");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("write 64 KB", |b| b.iter(|| black_box(write())));
    group.finish();
}

criterion_group!(benches, apply, parse, snapshot);
criterion_main!(benches);
