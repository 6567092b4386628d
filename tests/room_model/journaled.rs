//! A room that is rebuilt from what was kept of it is the room it was, whatever happened to it: commands of every
//! kind at random times, with checkpoints in between.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sessionstore::core::journal::{self, Origin};
use sessionstore::core::limits::{Limits, MAX_LOCKS_PER_PEER};
use sessionstore::core::names::KeyList;
use sessionstore::core::room::{Action, Command, Event, Introduction, Operator, PeerHandle, Reply, Room, Time};
use sessionstore::core::rules::{Right, Rule, Rules};
use sessionstore::core::secret::Secret;
use sessionstore::{Check, Error, ErrorCode, Expiry, LockGuard, Merge, Transaction, Value, Write};

const KEYS: [&str; 6] = ["pinned", "spotlight", "board/1", "board/2", "hand/ann", "votes"];
const IDS: [&str; 4] = ["ann", "bob", "eve", "zoe"];

/// A room, and what is kept of it.
struct Kept {
    room: Room,
    limits: Arc<Limits>,
    /// `None`: the entries begin with the first command.
    checkpoint: Option<Vec<u8>>,
    entries: Vec<u8>,
    events: Vec<Event>,
}

impl Kept {
    fn new(limits: Limits) -> Kept {
        let limits = Arc::new(limits);
        let room = Room::new("lobby", limits.clone());
        Kept { room, limits, checkpoint: None, entries: Vec::new(), events: Vec::new() }
    }

    fn apply(&mut self, now: Time, origin: Origin, command: Command<'_>) -> Result<Reply, Error> {
        self.events.clear();
        journal::apply(&mut self.room, &mut self.entries, now, origin, command, &mut self.events)
    }

    fn rebuilt(&self) -> Room {
        let mut room = match &self.checkpoint {
            Some(checkpoint) => Room::restore("lobby", checkpoint).expect("a checkpoint"),
            None => Room::new("lobby", self.limits.clone()),
        };
        journal::replay(&mut room, &self.entries).expect("entries of this room");
        room
    }
}

fn one<'a>(random: &mut StdRng, of: &[&'a str]) -> &'a str {
    of[random.random_range(0..of.len())]
}

fn rules(random: &mut StdRng) -> Option<Arc<Rules>> {
    let all = Right::ALL.to_vec();
    let rule = |name: &str, roles: &str, keys: &str, allow: &[Right]| Rule {
        name: name.into(),
        roles: vec![roles.into()],
        keys: vec![keys.into()],
        allow: allow.to_vec(),
        deny: Vec::new(),
    };
    let rules = match random.random_range(0..4) {
        0 => return None,
        1 => vec![rule("all", "*", "*", &all)],
        2 => vec![rule("hosts", "host", "*", &all), rule("boards", "*", "board/*", &all)],
        _ => vec![rule("own", "*", "hand/{peer_id}", &all), rule("see", "*", "*", &[Right::Read, Right::Lock])],
    };
    Some(Arc::new(Rules::new(rules, Some(vec!["host".into()])).expect("rules")))
}

fn value(random: &mut StdRng) -> Value {
    match random.random_range(0..6) {
        0 => Value::null(),
        1 => Value::from("hello"),
        2 => Value::parse(r#"["a",{"b":1.50}]"#).expect("JSON"),
        _ => Value::from(random.random_range(0..5i64)),
    }
}

fn write<'a>(random: &mut StdRng, room: &Room) -> Write<'a> {
    let key = one(random, &KEYS);
    let write = match random.random_range(0..5) {
        0 => Write::merge(key, Merge::Add(1.into())),
        1 => Write::merge(key, Merge::Append { values: vec![2.into()], cap: Some(3) }),
        2 => Write::touch(key, Expiry::After(random.random_range(1..300))),
        _ => Write::set(key, value(random)),
    };
    let expiry = match random.random_range(0..4) {
        0 => Some(Expiry::After(random.random_range(1..300))),
        1 => Some(Expiry::Keep),
        _ => write.expiry,
    };
    let expected = (random.random_range(0..4) == 0).then(|| room.state(key).version);
    Write { expiry, expected, bound: random.random_range(0..3u8).checked_sub(1).map(|bound| bound == 0), ..write }
}

fn lock(random: &mut StdRng, room: &Room) -> LockGuard<'static> {
    let name = one(random, &["turn", "door"]);
    LockGuard { name: name.into(), token: room.state(&format!("$lock/{name}")).version }
}

/// One random command. Returns whether it was refused.
fn act(kept: &mut Kept, random: &mut StdRng, now: Time, request: u64) -> Result<Reply, Error> {
    let peers: Vec<PeerHandle> = kept.room.peers().map(|(peer, _)| peer).collect();
    let kind = random.random_range(0..21);
    if kind == 20 {
        return operate(kept, random, now);
    }
    if peers.is_empty() || kind == 0 {
        let peer_id = one(random, &IDS);
        let secret = (peer_id != "zoe").then(|| Secret::new([peer_id.as_bytes()[0]; 16]));
        let metadata = random.random_bool(0.5).then_some("{}");
        let role = one(random, &["host", "viewer"]);
        let peer = Introduction { peer_id, user_id: "", name: Some(peer_id), role, metadata, secret };
        return kept.apply(now, Origin::Once, Command::Join { peer, new_session_id: &format!("s{now}") });
    }
    let peer = peers[random.random_range(0..peers.len())];
    let origin = match random.random_range(0..3) {
        0 => Origin::Once,
        // Sometimes one that was asked before.
        1 => Origin::Request { peer, id: request.saturating_sub(random.random_range(0..4)) },
        _ => Origin::Request { peer, id: request },
    };
    let key = one(random, &KEYS);
    let room = &kept.room;
    match kind {
        1 => kept.apply(now, Origin::Once, Command::Return { peer_id: one(random, &IDS), user_id: "" }),
        2 => kept.apply(now, Origin::Once, Command::Leave { peer }),
        3 => kept.apply(now, Origin::Once, Command::ConnectionLost { peer }),
        4 => kept.apply(now, Origin::Once, Command::UpdatePeer { peer, name: Some(key), metadata: None }),
        5 => kept.apply(now, Origin::Once, Command::SetRules { rules: rules(random) }),
        6 => kept.apply(now, Origin::Once, Command::ChangeRole { peer, role: one(random, &["host", "viewer"]) }),
        7 | 8 => {
            let keys: Vec<&str> = (0..random.random_range(0..3)).map(|_| one(random, &KEYS)).collect();
            let prefixes: &[&str] = match random.random_range(0..4) {
                0 => &[""],
                1 => &["board/", "$lock/"],
                _ => &[],
            };
            let (keys, prefixes) = (KeyList::of(&keys), KeyList::of(prefixes));
            kept.apply(now, Origin::Once, Command::Listen { peer, keys: &keys, prefixes: &prefixes })
        }
        9 => {
            let writes = (0..random.random_range(1..4)).map(|_| write(random, room)).collect();
            let checks = match random.random_range(0..3) {
                0 => vec![Check::Exists { key: key.into() }],
                1 => vec![Check::Lock(lock(random, room))],
                _ => vec![],
            };
            kept.apply(now, origin, Command::Transact { peer, transaction: Transaction { checks, writes } })
        }
        10 | 11 => {
            let (ttl_ms, wait_ms) = (1_000, if random.random_bool(0.6) { 700 } else { 0 });
            kept.apply(now, origin, Command::Acquire { peer, name: one(random, &["turn", "door"]), ttl_ms, wait_ms })
        }
        12 => {
            let lock = lock(random, room);
            kept.apply(now, Origin::Once, Command::Renew { peer, lock, ttl_ms: 1_500 })
        }
        13 => {
            let lock = lock(random, room);
            kept.apply(now, origin, Command::Release { peer, lock })
        }
        14 => {
            let through = request.saturating_sub(random.random_range(0..20));
            kept.apply(now, Origin::Once, Command::Answered { peer, through, except: &[through] })
        }
        15 => kept.apply(now, Origin::Once, Command::Tick),
        16 => kept.apply(now, Origin::Once, Command::Get { peer, key }),
        17 => {
            let (value, expected) = (value(random), random.random_bool(0.2).then_some(0));
            kept.apply(now, origin, Command::Set { peer, key, value, expected })
        }
        _ => {
            let write = write(random, room);
            let lock = random.random_bool(0.2).then(|| lock(random, room));
            kept.apply(now, origin, Command::Write { peer, write, lock })
        }
    }
}

fn operate(kept: &mut Kept, random: &mut StdRng, now: Time) -> Result<Reply, Error> {
    let role = random.random_bool(0.3).then_some("viewer");
    let operator = Operator { user_id: one(random, &["", "backend"]), name: "Back end", role };
    let writes = (0..random.random_range(0..3)).map(|_| write(random, &kept.room)).collect();
    let transaction = Transaction { checks: Vec::new(), writes };
    let session_id = format!("s{now}");
    let action = match random.random_range(0..8) {
        0 => Action::Kick { peer_id: one(random, &IDS) },
        1 => Action::Close,
        2 | 3 => Action::Release { lock: one(random, &["turn", "door"]) },
        4 => Action::Open { session_id: &session_id, keep_ms: random.random_range(0..300), transaction },
        _ => Action::Transact(transaction),
    };
    kept.apply(now, Origin::Once, Command::Operate { operator, action })
}

fn limits(random: &mut StdRng) -> Limits {
    let (grace_ms, linger_ms) = (random.random_range(0..400), if random.random_bool(0.5) { 0 } else { 150 });
    Limits { grace_ms, linger_ms, max_keys: 5, ..Limits::default() }
}

/// With `SESSIONSTORE_SEEDS_DIR`, seeds for the fuzz target `journal` are written there, which are checked in: to be
/// done anew when what is kept looks different.
fn write_seed(seed: u64, kept: &Kept) {
    let Ok(directory) = std::env::var("SESSIONSTORE_SEEDS_DIR") else { return };
    let checkpoint = kept.checkpoint.as_deref().unwrap_or_default();
    let length = u16::try_from(checkpoint.len()).expect("a small checkpoint").to_le_bytes();
    let bytes = [&length[..], checkpoint, &kept.entries].concat();
    std::fs::write(format!("{directory}/room-{seed}"), bytes).expect("a seed is written");
}

#[test]
fn a_room_that_is_rebuilt_is_the_room_it_was() {
    let (mut done, mut refused, mut checkpoints, mut sessions) = (0, 0, 0, 0);
    for seed in 0..100 {
        let random = &mut StdRng::seed_from_u64(seed);
        let mut kept = Kept::new(limits(random));
        let mut now = 1_000;
        for step in 0..150 {
            now += if random.random_bool(0.1) { random.random_range(0..500) } else { random.random_range(0..20) };
            match act(&mut kept, random, now, step) {
                Ok(_) => done += 1,
                Err(error) => {
                    assert!(error != ErrorCode::Internal, "{error}");
                    refused += 1;
                }
            }
            sessions += kept.events.iter().filter(|event| matches!(event, Event::SessionStarted)).count();
            let rebuilt = kept.rebuilt();
            let looks_same =
                rebuilt.next_deadline() == kept.room.next_deadline() && rebuilt.usage() == kept.room.usage();
            if !looks_same || rebuilt.checkpoint() != kept.room.checkpoint() {
                let (is, was) = (format!("{rebuilt:#?}"), format!("{:#?}", kept.room));
                let differs = is.lines().zip(was.lines()).find(|(is, was)| is != was);
                panic!("seed {seed}, step {step}: {differs:?}\n{is}\n\ninstead of\n\n{was}");
            }
            if step == 120 && seed % 10 == 0 {
                write_seed(seed, &kept);
            }
            if random.random_bool(0.02) {
                // What follows shows whether all that is made anew is as it was.
                kept.room = rebuilt;
            }
            if let Some(checkpoint) = kept.room.checkpoint().filter(|_| random.random_bool(0.05)) {
                (kept.checkpoint, kept.entries) = (Some(checkpoint), Vec::new());
                checkpoints += 1;
            }
        }
    }
    assert!(
        done > 5_000 && refused > 1_000 && checkpoints > 250 && sessions > 100,
        "{done} {refused} {checkpoints} {sessions}"
    );
}

#[test]
fn the_locks_of_a_peer_count_on_when_its_room_is_rebuilt() {
    let mut kept = Kept::new(Limits::default());
    let join = |kept: &mut Kept, peer_id: &str| {
        let peer = Introduction { peer_id, user_id: "", name: None, role: "host", metadata: None, secret: None };
        match kept.apply(0, Origin::Once, Command::Join { peer, new_session_id: "s" }) {
            Ok(Reply::Joined { peer, .. }) => peer,
            other => panic!("{other:?}"),
        }
    };
    let (ann, bob) = (join(&mut kept, "ann"), join(&mut kept, "bob"));
    let acquire = |kept: &mut Kept, peer, nth: u32, wait_ms| {
        let command = Command::Acquire { peer, name: &format!("l{nth}"), ttl_ms: 10_000, wait_ms };
        kept.apply(0, Origin::Once, command).map(drop).map_err(|error| error.code())
    };
    for nth in 0..MAX_LOCKS_PER_PEER {
        acquire(&mut kept, ann, nth, 0).expect("granted");
        acquire(&mut kept, bob, nth, 1_000).expect("he waits");
    }
    kept.checkpoint = kept.room.checkpoint();
    kept.entries = Vec::new();
    kept.room = kept.rebuilt();
    for peer in [ann, bob] {
        assert_eq!(acquire(&mut kept, peer, 99, 0), Err(ErrorCode::TooManyLocks));
    }
    kept.apply(0, Origin::Once, Command::ConnectionLost { peer: bob }).expect("he waits no more");
    kept.apply(0, Origin::Once, Command::Leave { peer: ann }).expect("she has none any more");
    let peer = Introduction { peer_id: "bob", user_id: "", name: None, role: "host", metadata: None, secret: None };
    kept.apply(0, Origin::Once, Command::Join { peer, new_session_id: "s" }).expect("he comes back");
    (0..MAX_LOCKS_PER_PEER).for_each(|nth| acquire(&mut kept, bob, nth, 0).expect("granted"));
    assert_eq!(acquire(&mut kept, bob, 99, 0), Err(ErrorCode::TooManyLocks));
}
