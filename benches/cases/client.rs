//! The client: what it writes, and its replica.

use std::hint::black_box;
use std::sync::Arc;

use sessionstore::core::replica::{Notice, Replica};
use sessionstore::core::room::Change;
use sessionstore::core::wire;

use super::{full_room, text, Cases, Work, KEY, NOW, STATE_KEYS, VALUE_BYTES};

pub const WRITE: Cases = &[("write a request to set", writing)];

pub const CASES: Cases = &[
    ("apply a change to the replica, one listener", || changing(1)),
    ("apply a change to the replica, 100 listeners", || changing(100)),
    ("come back to a session, 100 keys unchanged", coming_back),
    ("come back to another session, 100 keys changed", meeting_another),
    ("read the replica", reading),
];

fn writing() -> Work {
    let (value, mut out) = (text(VALUE_BYTES), Vec::new());
    Box::new(move || {
        out.clear();
        wire::write_set(&mut out, 12_345, black_box(KEY), &value, None);
        out.len()
    })
}

fn state(key: &str, version: u64) -> Arc<Change> {
    Arc::new(Change { value: text(VALUE_BYTES), version, updated_at: NOW, ..Change::absent(key.into()) })
}

fn changing(listeners: u64) -> Work {
    let (mut replica, mut notices) = (Replica::default(), Vec::new());
    replica.joined("session", 0, true);
    for listener in 0..listeners {
        replica.add(listener, &[KEY], &[], &mut notices);
    }
    let first = state(KEY, 1);
    replica.snapshot(replica.generation(), vec![(first.clone(), 0)], &mut notices);
    let mut version = 1;
    Box::new(move || {
        notices.clear();
        version += 1;
        let (key, value) = (first.key.clone(), first.value.clone());
        let change = Arc::new(Change { value, version, updated_at: NOW, ..Change::absent(key) });
        replica.notified(black_box(&[(change, 0)]), &mut notices);
        assert_eq!(notices.len() as u64, listeners);
        notices.len()
    })
}

/// As a snapshot brings them: each with how many older ones it stands for.
type States = Vec<(Arc<Change>, u64)>;

/// A replica of a full store, and the states of all its keys.
fn replica_of_all() -> (Replica, States, Vec<Notice>) {
    let (room, _) = full_room();
    let states: States = room.entries().map(|change| (change.clone(), 0)).collect();
    let (mut replica, mut notices) = (Replica::default(), Vec::new());
    replica.joined("session", 0, true);
    let keys: Vec<&str> = states.iter().map(|(change, _)| &*change.key).collect();
    replica.add(1, &keys, &[], &mut notices);
    replica.snapshot(replica.generation(), states.clone(), &mut notices);
    assert_eq!(notices.len(), STATE_KEYS + 1);
    (replica, states, notices)
}

fn coming_back() -> Work {
    let (mut replica, states, mut notices) = replica_of_all();
    Box::new(move || {
        notices.clear();
        replica.joined("session", 0, true);
        replica.snapshot(replica.generation(), black_box(states.clone()), &mut notices);
        assert!(notices.is_empty());
        states.len()
    })
}

fn meeting_another() -> Work {
    let (mut replica, states, mut notices) = replica_of_all();
    let others: States = states.iter().map(|(change, _)| (state(&change.key, change.version), 0)).collect();
    let mut is_other = false;
    Box::new(move || {
        notices.clear();
        is_other = !is_other;
        let (session, states) = if is_other { ("another", &others) } else { ("session", &states) };
        replica.joined(session, 0, true);
        replica.snapshot(replica.generation(), black_box(states.clone()), &mut notices);
        assert_eq!(notices.len(), STATE_KEYS);
        notices.len()
    })
}

fn reading() -> Work {
    let (replica, _, _) = replica_of_all();
    Box::new(move || replica.cached(black_box("k77")).map_or(0, |change| change.version as usize))
}
