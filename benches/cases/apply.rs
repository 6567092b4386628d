//! The room: commands applied.

use std::hint::black_box;

use sessionstore::core::names::KeyList;
use sessionstore::core::room::{Command, Event, PeerHandle, Reply, Room};

use super::{full_room, join, listen, room, set, text, Cases, Work, KEY, NOW, PEERS, STATE_KEYS, VALUE_BYTES};

pub const CASES: Cases = &[
    ("apply a set, one peer listens", || setting(room(1))),
    ("apply a set, 1,000 peers listen", || setting(room(PEERS))),
    ("apply a set, 1,000 peers listen each to keys of their own too", || setting(room_of_many_sets())),
    ("walk the 1,000 peers who listen", walking),
    ("apply a set on a version", setting_on_a_version),
    ("refuse a set on an old version", refusing),
    ("apply a set of a new key and its removal, 100 keys", adding_and_removing),
    ("apply a get", getting),
    ("apply a join and a leave, alone", || joining(Room::new("bench", Default::default()))),
    ("apply a join and a leave, 1,000 peers", || joining(room(PEERS).0)),
    ("apply a listen to 100 keys that others listen to", listening),
];

fn apply(room: &mut Room, command: Command<'_>, events: &mut Vec<Event>) -> Reply {
    events.clear();
    room.apply(NOW, command, events).expect("a command within the limits")
}

fn setting((mut room, peer): (Room, PeerHandle)) -> Work {
    let (value, mut events) = (text(VALUE_BYTES), Vec::new());
    Box::new(move || {
        let set = Command::Set { peer, key: black_box(KEY), value: value.clone(), expected: None };
        black_box(apply(&mut room, set, &mut events));
        events.len()
    })
}

/// No two peers have the same listen set.
fn room_of_many_sets() -> (Room, PeerHandle) {
    let (mut room, first) = room(1);
    for index in 1..PEERS {
        let peer = join(&mut room, index);
        listen(&mut room, peer, &[KEY, &format!("own-{index}")]);
    }
    (room, first)
}

fn walking() -> Work {
    let (room, peer) = room(PEERS);
    let slot = room.listen_set(peer).next().expect("the key that everybody listens to");
    assert_eq!(room.listeners(slot).count(), PEERS);
    Box::new(move || room.listeners(black_box(slot)).map(|slot| slot as usize).sum())
}

fn setting_on_a_version() -> Work {
    let (mut room, peer) = room(1);
    let (value, mut events) = (text(VALUE_BYTES), Vec::new());
    Box::new(move || {
        let expected = Some(room.revision());
        let set = Command::Set { peer, key: black_box(KEY), value: value.clone(), expected };
        black_box(apply(&mut room, set, &mut events));
        events.len()
    })
}

fn refusing() -> Work {
    let (mut room, peer) = room(1);
    let (value, mut events) = (text(VALUE_BYTES), Vec::new());
    set(&mut room, peer, KEY, value.clone(), None);
    Box::new(move || {
        let set = Command::Set { peer, key: black_box(KEY), value: value.clone(), expected: Some(0) };
        let refused = room.apply(NOW, set, &mut events).expect_err("the key has a version");
        refused.message().len()
    })
}

fn adding_and_removing() -> Work {
    let (mut room, peer) = full_room();
    set(&mut room, peer, "k50", sessionstore::Value::null(), None);
    let (value, mut events) = (text(VALUE_BYTES), Vec::new());
    Box::new(move || {
        for value in [value.clone(), sessionstore::Value::null()] {
            let set = Command::Set { peer, key: black_box("new"), value, expected: None };
            black_box(apply(&mut room, set, &mut events));
        }
        events.len()
    })
}

fn getting() -> Work {
    let (mut room, peer) = full_room();
    let mut events = Vec::new();
    Box::new(move || match apply(&mut room, Command::Get { peer, key: black_box("k77") }, &mut events) {
        Reply::State(change) => change.version as usize,
        other => panic!("a get was answered with {other:?}"),
    })
}

fn joining(mut room: Room) -> Work {
    let mut events = Vec::new();
    Box::new(move || {
        let peer = join(&mut room, black_box(PEERS));
        listen(&mut room, peer, &[KEY]);
        black_box(apply(&mut room, Command::Leave { peer }, &mut events));
        events.len()
    })
}

fn listening() -> Work {
    let (mut room, first) = full_room();
    let keys: Vec<String> = (0..STATE_KEYS).map(|index| format!("k{index:02}")).collect();
    let peer = join(&mut room, 1);
    assert_eq!(room.listen_set(first).count(), STATE_KEYS);
    let mut events = Vec::new();
    Box::new(move || {
        let (keys, nothing) = (keys.iter().map(String::as_str).collect::<KeyList>(), KeyList::default());
        apply(&mut room, Command::Listen { peer, keys: black_box(&keys), prefixes: &nothing }, &mut events);
        apply(&mut room, Command::Listen { peer, keys: black_box(&nothing), prefixes: &nothing }, &mut events);
        keys.len()
    })
}
