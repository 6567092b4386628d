//! What the product does all the time, each as a piece of work that can be repeated. `costs` takes
//! the time of each, `instructions` counts what the processor executes for it.

mod apply;
mod client;
mod decode;
mod encode;
mod parse;

use sessionstore::core::names::KeyList;
use sessionstore::core::room::{Change, Command, Introduction, PeerHandle, Reply, Room};
use sessionstore::{Limits, Value};
use std::sync::Arc;

/// Peers of the large room.
pub const PEERS: usize = 1_000;
/// A store as full as the limits allow: 100 keys, 64 KB.
pub const STATE_KEYS: usize = 100;
const STATE_VALUE_BYTES: usize = 640;
/// A value of ordinary length, its quotes included.
const VALUE_BYTES: usize = 100;
/// What the fan-out sets.
const KEY: &str = "spotlight";
/// 2023-11-14: as many digits as times of today have.
const NOW: u64 = 1_700_000_000_000;

/// One round of the work; returns something that depends on it, so that it cannot be left out.
pub type Work = Box<dyn FnMut() -> usize>;

/// A piece of work by its name.
pub struct Case {
    /// What is done, the way `docs/performance.md` says it.
    pub name: &'static str,
    /// Makes everything that the work needs and that is not to be measured.
    pub prepare: fn() -> Work,
}

/// All of them, in the order in which a change meets them on its way.
pub fn all() -> Vec<Case> {
    [client::WRITE, decode::CASES, parse::REQUESTS, apply::CASES, encode::CASES, parse::MESSAGES, client::CASES]
        .into_iter()
        .flatten()
        .map(|&(name, prepare)| Case { name, prepare })
        .collect()
}

type Cases = &'static [(&'static str, fn() -> Work)];

fn text(bytes: usize) -> Value {
    Value::from("x".repeat(bytes - 2).as_str())
}

fn join(room: &mut Room, index: usize) -> PeerHandle {
    let peer_id = format!("6f1c3a52-0000-4000-8000-{index:012}");
    let peer =
        Introduction { peer_id: &peer_id, user_id: "", name: Some("Ada"), role: "guest", metadata: None, secret: None };
    match room.apply(NOW, Command::Join { peer, new_session_id: "session" }, &mut Vec::new()) {
        Ok(Reply::Joined { peer, .. }) => peer,
        other => panic!("a room within its limits refused a peer: {other:?}"),
    }
}

/// A room whose peers all listen to one key, and its first peer.
fn room(peers: usize) -> (Room, PeerHandle) {
    let mut room = Room::new("bench", Arc::new(Limits::default()));
    let first = join(&mut room, 0);
    listen(&mut room, first, &[KEY]);
    for index in 1..peers {
        let peer = join(&mut room, index);
        listen(&mut room, peer, &[KEY]);
    }
    (room, first)
}

/// A room with a full store, and its peer, who listens to all of it.
fn full_room() -> (Room, PeerHandle) {
    let (mut room, peer) = room(1);
    let keys: Vec<String> = (0..STATE_KEYS).map(|index| format!("k{index:02}")).collect();
    for key in &keys {
        set(&mut room, peer, key, text(STATE_VALUE_BYTES), None);
    }
    listen(&mut room, peer, &keys.iter().map(String::as_str).collect::<Vec<_>>());
    (room, peer)
}

fn listen(room: &mut Room, peer: PeerHandle, keys: &[&str]) {
    let (keys, prefixes) = (KeyList::of(keys), KeyList::default());
    room.apply(NOW, Command::Listen { peer, keys: &keys, prefixes: &prefixes }, &mut Vec::new())
        .expect("a listen set within the limits");
}

fn set(room: &mut Room, peer: PeerHandle, key: &str, value: Value, expected: Option<u64>) -> Arc<Change> {
    let reply = room.apply(NOW, Command::Set { peer, key, value, expected }, &mut Vec::new());
    match reply {
        Ok(Reply::State(change)) => change,
        other => panic!("a set within the limits was refused: {other:?}"),
    }
}

/// One change of an ordinary value.
fn change() -> Arc<Change> {
    let (mut room, peer) = room(1);
    set(&mut room, peer, KEY, text(VALUE_BYTES), None)
}

fn utf8(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("messages are UTF-8")
}
