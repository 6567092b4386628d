//! Merges, transactions, expiry, belonging, locks and prefixes, as named scenarios in simulated time.

use std::sync::Arc;

use sessionstore::core::limits::{Limits, MAX_LOCKS_PER_PEER, MAX_TRANSACTION_PARTS};
use sessionstore::core::names::KeyList;
use sessionstore::core::room::{Cause, Change, Command, Lease, PeerHandle, Reply, Room, Time};
use sessionstore::core::rules::{Right, Rule, Rules};
use sessionstore::core::write::{Check, Expiry, LockGuard, Transaction, Write};
use sessionstore::{Error, ErrorCode, Merge, Value};

use crate::scenarios::{code, Scene};

fn held(lease: &Lease) -> LockGuard<'static> {
    LockGuard { name: lease.name.to_string().into(), token: lease.token }
}

impl Scene {
    fn write(&mut self, now: Time, peer: PeerHandle, write: Write<'_>) -> Result<Arc<Change>, Error> {
        match self.apply(now, Command::Write { peer, write, lock: None })? {
            Reply::State(state) => Ok(state),
            other => panic!("a write was answered with {other:?}"),
        }
    }

    fn transact(&mut self, peer: PeerHandle, checks: Vec<Check<'_>>, writes: Vec<Write<'_>>) -> Result<u64, Error> {
        match self.apply(0, Command::Transact { peer, transaction: Transaction { checks, writes } })? {
            Reply::States { revision, .. } => Ok(revision),
            other => panic!("a transaction was answered with {other:?}"),
        }
    }

    fn acquire(&mut self, now: Time, peer: PeerHandle, name: &str, wait_ms: u64) -> Result<Reply, Error> {
        self.apply(now, Command::Acquire { peer, name, ttl_ms: 10_000, wait_ms })
    }

    fn lock(&mut self, now: Time, peer: PeerHandle, name: &str) -> Lease {
        match self.acquire(now, peer, name, 0).expect("free") {
            Reply::Lock(lease) => lease,
            other => panic!("a free lock was answered with {other:?}"),
        }
    }

    fn json(&self, key: &str) -> String {
        self.room.state(key).value.json().to_owned()
    }

    fn listen_to(&mut self, peer: PeerHandle, keys: &[&str], prefixes: &[&str]) {
        let (keys, prefixes) = (KeyList::of(keys), KeyList::of(prefixes));
        self.apply(0, Command::Listen { peer, keys: &keys, prefixes: &prefixes }).expect("listens");
    }
}

fn two() -> (Scene, PeerHandle, PeerHandle) {
    let mut scene = Scene::new(Limits::default());
    let (ada, bob) = (scene.join(0, "ada"), scene.join(0, "bob"));
    scene.story();
    (scene, ada, bob)
}

#[test]
fn merges_lose_nobodys_work_and_make_one_revision_each() {
    let (mut scene, ada, bob) = two();
    scene.write(0, ada, Write::merge("blocked", Merge::SetAdd(vec!["eve".into()]))).expect("merged");
    scene.write(0, bob, Write::merge("blocked", Merge::SetAdd(vec!["mallory".into()]))).expect("merged");
    assert_eq!(scene.json("blocked"), r#"["eve","mallory"]"#);
    let sum = scene.write(0, ada, Write::merge("votes", Merge::Add(3.into()))).expect("merged");
    assert_eq!((sum.value.json(), sum.version), ("3", 3));
    // What changes nothing is no change.
    let again = scene.write(0, bob, Write::merge("blocked", Merge::SetAdd(vec!["eve".into()]))).expect("merged");
    assert_eq!((again.version, scene.room.revision()), (2, 3));
    let refused = scene.write(0, ada, Write::merge("blocked", Merge::Add(1.into())));
    assert_eq!(code(refused), ErrorCode::WrongType);
    let large = "x".repeat(1_000);
    let write = Write::merge("blocked", Merge::Append { values: vec![large.as_str().into(); 2], cap: None });
    assert_eq!(code(scene.write(0, ada, write)), ErrorCode::ValueTooLarge);
    assert_eq!(scene.room.revision(), 3);
    let patched = scene.write(0, bob, Write::merge("blocked", Merge::Patch(Value::null()))).expect("merged");
    assert!(patched.value.is_null() && scene.room.usage().0 == 1, "a patch of null removes");
}

#[test]
fn a_merge_can_have_a_version_to_expect() {
    let (mut scene, ada, _) = two();
    scene.set(0, ada, "votes", "1").expect("set");
    let write = Write { expected: Some(7), ..Write::merge("votes", Merge::Add(1.into())) };
    let error = scene.write(0, ada, write).expect_err("a conflict");
    assert_eq!(error, ErrorCode::VersionConflict);
    assert_eq!(error.current().map(|state| state.version), Some(1));
}

#[test]
fn a_transaction_is_one_revision_or_nothing() {
    let (mut scene, ada, bob) = two();
    scene.listen_to(bob, &["a", "b", "c"], &[]);
    scene.set(0, ada, "a", "1").expect("set");
    scene.story();
    let checks = vec![
        Check::Version { key: "a".into(), version: 1 },
        Check::Exists { key: "a".into() },
        Check::Absent { key: "b".into() },
        Check::Version { key: "b".into(), version: 0 },
        Check::Equals { key: "a".into(), value: 1.into() },
        Check::Equals { key: "b".into(), value: Value::null() },
    ];
    let writes = vec![
        Write::merge("a", Merge::Add(1.into())),
        Write::set("b", "x".into()),
        Write::merge("a", Merge::Add(1.into())),
        Write::set("c", 1.into()),
        Write::set("c", Value::null()),
    ];
    assert_eq!(scene.transact(ada, checks.clone(), writes.clone()).expect("committed"), 2);
    assert_eq!(scene.story(), ["a=3 #2 to [bob]", "b=\"x\" #2 to [bob]"], "c came and went unseen");
    let error = scene.transact(ada, checks, writes).expect_err("the first check fails");
    assert_eq!((error.code(), error.check(), error.write()), (ErrorCode::CheckFailed, Some(0), None));
    assert_eq!(error.current().map(|state| state.version), Some(2));
    let writes = vec![Write::set("b", 1.into()), Write::merge("b", Merge::SetAdd(vec![]))];
    let error = scene.transact(ada, vec![], writes).expect_err("b is no array by then");
    assert_eq!((error.code(), error.check(), error.write()), (ErrorCode::WrongType, None, Some(1)));
    assert_eq!((scene.json("b").as_str(), scene.room.revision()), ("\"x\"", 2));
    assert!(scene.story().is_empty());
    // Nothing to do is no revision.
    assert_eq!(scene.transact(bob, vec![], vec![Write::set("never", Value::null())]).expect("committed"), 2);
}

#[test]
fn a_condition_on_what_a_transaction_itself_has_written_is_no_conflict_with_the_room() {
    let (mut scene, ada, _) = two();
    scene.set(0, ada, "k", "1").expect("set");
    let on = |version, value: Value| Write { expected: Some(version), ..Write::set("k", value) };
    let error = scene.transact(ada, vec![], vec![on(1, 2.into()), on(1, 3.into())]).expect_err("it is changed by then");
    assert_eq!((error.code(), error.write()), (ErrorCode::VersionConflict, Some(1)));
    assert!(error.current().is_none(), "what the room holds would be refused again");
    assert!(error.message().contains("earlier write of this transaction"), "{error}");
    // What changes nothing, or removes, leaves a version that is known.
    let same = Write { expected: Some(1), ..Write::merge("k", Merge::Add(0.into())) };
    scene.transact(ada, vec![], vec![same, on(1, Value::null()), on(0, 2.into())]).expect("committed");
    assert_eq!(scene.json("k"), "2");
}

/// A server that is started anew may have lower limits than the one that kept the room.
#[test]
fn a_room_beyond_its_limits_may_change_and_shrink_but_not_grow() {
    let (mut scene, ada, _) = two();
    for key in ["a", "b", "c"] {
        scene.set(0, ada, key, "\"0123456789\"").expect("set");
    }
    scene.room = Room::restore("lobby", &scene.room.checkpoint().expect("it is open")).expect("restored");
    let lower = Limits { max_keys: 2, max_value_bytes: 11, max_store_bytes: 20, ..Limits::default() };
    scene.room.resume(0, lower.into(), None, &mut Vec::new());
    let ada = scene.join(0, "ada");
    let touch = Write::touch("a", Expiry::After(500));
    scene.write(0, ada, touch.clone()).expect("its value stays");
    scene.transact(ada, vec![], vec![touch]).expect("its value stays");
    assert_eq!(code(scene.set(0, ada, "a", "\"987654321x\"")), ErrorCode::ValueTooLarge);
    scene.set(0, ada, "a", "\"987654321\"").expect("it is smaller");
    assert_eq!(code(scene.set(0, ada, "d", "1")), ErrorCode::TooManyKeys);
    let error = scene.transact(ada, vec![], vec![Write::set("d", 1.into()), Write::set("e", 1.into())]);
    let error = error.expect_err("two more");
    assert!(error.message().contains("would have 5 keys; at most 2"), "{error}");
    scene.transact(ada, vec![], vec![Write::set("a", Value::null()), Write::set("d", 1.into())]).expect("fits");
    scene.set(0, ada, "d", "\"123456789\"").map(drop).expect_err("no byte more");
    scene.set(0, ada, "b", "null").expect("removed");
    scene.set(0, ada, "d", "2").expect("as many as allowed");
}

#[test]
fn the_limits_hold_for_a_transaction_as_a_whole() {
    let mut scene = Scene::new(Limits { max_keys: 2, ..Limits::default() });
    let ada = scene.join(0, "ada");
    scene.set(0, ada, "a", "1").expect("set");
    scene.set(0, ada, "b", "1").expect("set");
    let over = vec![Write::set("c", 1.into())];
    assert_eq!(code(scene.transact(ada, vec![], over)), ErrorCode::TooManyKeys);
    // More than fits on the way, not at the end.
    let swap = vec![Write::set("c", 1.into()), Write::set("a", Value::null())];
    scene.transact(ada, vec![], swap).expect("fits");
    assert_eq!(scene.room.usage(), (2, 4));
    // A value may be too large on the way, too.
    let list = |count: usize| vec![Value::from(&*"x".repeat(500)); count];
    let longer = Merge::Append { values: list(3), cap: None };
    scene
        .transact(ada, vec![], vec![Write::merge("l", longer.clone()), Write::set("c", Value::null())])
        .expect_err("large");
    let then_shorter = Merge::Append { values: vec![1.into()], cap: Some(2) };
    let both = vec![Write::set("c", Value::null()), Write::merge("l", longer.clone()), Write::merge("l", then_shorter)];
    scene.transact(ada, vec![], both).expect("fits in the end");
    assert_eq!(scene.json("l").len(), 506);
    // The write after which it is too large in the end is named.
    let large = |bytes: usize| Write::set("l", Value::from(&*"x".repeat(bytes)));
    let too_large = vec![large(2_000), Write::set("b", 2.into()), large(1_100)];
    let error = scene.transact(ada, vec![], too_large).expect_err("too large");
    assert_eq!((error.code(), error.write()), (ErrorCode::ValueTooLarge, Some(2)));
    assert_eq!((scene.json("l").len(), scene.json("b").as_str()), (506, "1"));
    scene.transact(ada, vec![], vec![Write::set("l", Value::null()), Write::set("c", 1.into())]).expect("fits");
    let many = vec![Write::set("c", 1.into()); MAX_TRANSACTION_PARTS + 1];
    assert_eq!(code(scene.transact(ada, vec![], many)), ErrorCode::InvalidArgument);
    let reserved = scene.transact(ada, vec![], vec![Write::set("$lock/a", 1.into())]).expect_err("refused");
    assert_eq!((reserved.code(), reserved.write()), (ErrorCode::ReservedKey, Some(0)));
    let bad = scene.transact(ada, vec![Check::Exists { key: "".into() }], vec![]).expect_err("refused");
    assert_eq!((bad.code(), bad.check()), (ErrorCode::InvalidKey, Some(0)));
}

#[test]
fn a_key_expires_at_its_time_unless_a_write_says_otherwise() {
    let (mut scene, ada, bob) = two();
    scene.listen_to(bob, &["timer"], &[]);
    let timer = |expiry| Write { expiry, ..Write::set("timer", 1.into()) };
    let set = scene.write(0, ada, timer(Some(Expiry::After(100)))).expect("set");
    assert_eq!((set.expires_at, scene.room.next_deadline()), (100, Some(100)));
    // A set replaces: without a word the key stays for ever.
    scene.write(50, ada, timer(None)).expect("set");
    assert_eq!(scene.room.next_deadline(), None);
    scene.write(50, ada, timer(Some(Expiry::After(100)))).expect("set");
    scene.write(60, ada, timer(Some(Expiry::Keep))).expect("set");
    // A merge changes the value where it is, and a touch only the time.
    scene.write(70, ada, Write::merge("timer", Merge::Add(1.into()))).expect("merged");
    assert_eq!(scene.room.next_deadline(), Some(150));
    let touched = scene.write(80, ada, Write::touch("timer", Expiry::After(100))).expect("touched");
    assert_eq!((touched.value.json(), touched.expires_at, touched.version), ("2", 180, 6));
    scene.story();
    scene.apply(179, Command::Tick).expect("ticked");
    assert!(scene.story().is_empty());
    scene.apply(180, Command::Tick).expect("ticked");
    assert_eq!(scene.story(), ["timer=null #7 expired to [bob]"]);
    assert_eq!((scene.room.next_deadline(), scene.room.usage()), (None, (0, 0)));
    assert_eq!(code(scene.write(190, ada, Write::touch("timer", Expiry::Never))), ErrorCode::KeyAbsent);
    assert_eq!(code(scene.write(190, ada, timer(Some(Expiry::After(0))))), ErrorCode::InvalidArgument);
    assert_eq!(code(scene.write(190, ada, timer(Some(Expiry::After(u64::MAX))))), ErrorCode::InvalidArgument);
    // Whoever writes after the time finds the key gone, tick or no tick.
    scene.write(200, ada, timer(Some(Expiry::After(10)))).expect("set");
    let late = Write { expected: Some(0), ..Write::set("timer", 9.into()) };
    assert_eq!(scene.write(210, bob, late).expect("absent by then").version, 10);
    scene.write(220, ada, timer(Some(Expiry::After(10)))).expect("set");
    scene.write(221, ada, Write::touch("timer", Expiry::Never)).expect("touched");
    scene.write(222, ada, Write::set("timer", Value::null())).expect("removed");
    assert_eq!(scene.room.next_deadline(), None);
}

#[test]
fn bound_keys_go_with_their_peer_in_one_revision() {
    let (mut scene, ada, bob) = two();
    scene.listen_to(bob, &["hand/ada", "typing/ada", "pinned"], &[]);
    let bound = |key| Write { bound: Some(true), ..Write::set(key, true.into()) };
    scene.write(0, ada, bound("hand/ada")).expect("set");
    scene.write(0, ada, bound("typing/ada")).expect("set");
    scene.write(0, ada, Write::set("pinned", 1.into())).expect("set");
    // Whoever sets it without binding it makes it everybody's.
    scene.write(0, ada, bound("pinned")).expect("set");
    scene.set(0, bob, "pinned", "2").expect("set");
    scene.story();
    scene.apply(10, Command::ConnectionLost { peer: ada }).expect("lost");
    assert!(scene.story().is_empty(), "not before the grace period ends");
    scene.apply(10 + Limits::default().grace_ms, Command::Tick).expect("ticked");
    let story = scene.story();
    let gone = ["hand/ada=null #6 peer left to [bob]", "typing/ada=null #6 peer left to [bob]", "ada lost"];
    assert_eq!(story, gone);
    assert_eq!(scene.json("pinned"), "2");
}

#[test]
fn a_lock_has_one_holder_at_a_time_and_tokens_that_grow() {
    let (mut scene, ada, bob) = two();
    scene.listen_to(bob, &["$lock/presenter"], &[]);
    let first = scene.lock(0, ada, "presenter");
    assert_eq!((first.token, first.expires_at), (1, 10_000));
    assert_eq!(scene.story(), [r#"$lock/presenter={"holder":"ada","token":1} #1 to [bob]"#]);
    for peer in [ada, bob] {
        let error = scene.acquire(1, peer, "presenter", 0).expect_err("held");
        assert_eq!(error, ErrorCode::LockHeld);
        assert_eq!(error.current().map(|state| state.version), Some(first.token));
    }
    // Locks are no part of what the limits bound, and nobody writes their keys.
    assert_eq!(scene.room.usage(), (0, 0));
    assert_eq!(code(scene.set(1, ada, "$lock/presenter", "1")), ErrorCode::ReservedKey);
    // Renewing is told to nobody; only the holder can, and only with its token.
    let renew = |peer, lock| Command::Renew { peer, lock, ttl_ms: 20_000 };
    scene.apply(5_000, renew(ada, held(&first))).expect("renewed");
    assert_eq!(scene.room.next_deadline(), Some(25_000));
    assert_eq!(code(scene.apply(5_000, renew(bob, held(&first)))), ErrorCode::LockLost);
    let other = LockGuard { token: 2, ..held(&first) };
    assert_eq!(code(scene.apply(5_000, renew(ada, other.clone()))), ErrorCode::LockLost);
    assert_eq!(code(scene.apply(5_000, Command::Release { peer: bob, lock: held(&first) })), ErrorCode::LockLost);
    assert!(scene.story().is_empty());
    scene.apply(6_000, Command::Release { peer: ada, lock: held(&first) }).expect("released");
    assert_eq!(scene.story(), ["$lock/presenter=null #2 to [bob]"]);
    assert_eq!(code(scene.apply(6_000, Command::Release { peer: ada, lock: held(&first) })), ErrorCode::LockLost);
    let second = scene.lock(7_000, bob, "presenter");
    assert!(second.token > first.token);
    // Nobody renews it.
    scene.story();
    scene.apply(17_000, Command::Tick).expect("ticked");
    assert_eq!(scene.story(), ["$lock/presenter=null #4 expired to [bob]"]);
    assert_eq!(scene.room.next_deadline(), None);
}

#[test]
fn who_waits_for_a_lock_gets_it_in_turn() {
    let (mut scene, ada, bob) = two();
    let carl = scene.join(0, "carl");
    scene.listen_to(carl, &["$lock/l"], &[]);
    let first = scene.lock(0, ada, "l");
    let wait = |scene: &mut Scene, peer, ms| match scene.acquire(1, peer, "l", ms).expect("may wait") {
        Reply::Waiting(number) => number,
        other => panic!("waiting was answered with {other:?}"),
    };
    assert_eq!(
        (wait(&mut scene, bob, 5_000), wait(&mut scene, carl, 60_000), wait(&mut scene, bob, 60_000)),
        (1, 2, 3)
    );
    scene.story();
    scene.apply(5_001, Command::Tick).expect("ticked");
    assert_eq!(scene.story(), ["bob gave up wait 1: LOCK_HELD (213)"]);
    scene.apply(6_000, Command::Release { peer: ada, lock: held(&first) }).expect("released");
    assert_eq!(
        scene.story(),
        [r#"$lock/l={"holder":"carl","token":2} #2 to [carl]"#, "carl holds l as 2 (wait 2)"],
        "the lock was never seen free"
    );
    // It passes on at the end of the lease too, to who is still there.
    scene.apply(16_000, Command::Tick).expect("ticked");
    assert_eq!(scene.story(), [r#"$lock/l={"holder":"bob","token":3} #3 to [carl]"#, "bob holds l as 3 (wait 3)"]);
    let waiting = wait(&mut scene, carl, 60_000);
    scene.apply(17_000, Command::ConnectionLost { peer: carl }).expect("lost");
    scene.apply(17_001, Command::Leave { peer: bob }).expect("left");
    assert_eq!(scene.story(), ["$lock/l=null #4 peer left to [carl]", "bob left"], "wait {waiting} ended unheard");
    let far = 300_001;
    assert_eq!(code(scene.acquire(17_002, ada, "l", far)), ErrorCode::InvalidArgument);
    let long = "l".repeat(1_024);
    assert_eq!(code(scene.acquire(17_002, ada, &long, 0)), ErrorCode::InvalidLock);
    for ttl_ms in [0, 999, 300_001] {
        let command = Command::Acquire { peer: ada, name: "l", ttl_ms, wait_ms: 0 };
        assert_eq!(code(scene.apply(17_002, command)), ErrorCode::InvalidArgument);
    }
}

#[test]
fn a_holder_that_leaves_passes_its_locks_on_with_its_keys_in_one_revision() {
    let (mut scene, ada, bob) = two();
    scene.listen_to(bob, &[], &["", "$lock/"]);
    scene.lock(0, ada, "x");
    scene.lock(0, ada, "y");
    scene.write(0, ada, Write { bound: Some(true), ..Write::set("hand", true.into()) }).expect("set");
    scene.acquire(0, bob, "y", 1_000).expect("waits");
    scene.story();
    scene.apply(1, Command::Leave { peer: ada }).expect("left");
    assert_eq!(
        scene.story(),
        [
            "$lock/x=null #4 peer left to [bob]",
            r#"$lock/y={"holder":"bob","token":4} #4 to [bob]"#,
            "hand=null #4 peer left to [bob]",
            "bob holds y as 4 (wait 1)",
            "ada left",
        ]
    );
}

#[test]
fn a_write_can_require_a_lock() {
    let (mut scene, ada, bob) = two();
    let lease = scene.lock(0, ada, "presenter");
    let guarded = |scene: &mut Scene, now, peer, lock| {
        scene.apply(now, Command::Write { peer, write: Write::set("slide", 1.into()), lock: Some(lock) })
    };
    guarded(&mut scene, 0, ada, held(&lease)).expect("held");
    // The lease runs out, another gets it: a late write with the old token does nothing.
    assert_eq!(code(guarded(&mut scene, 10_000, ada, held(&lease))), ErrorCode::LockLost);
    let next = scene.lock(10_000, bob, "presenter");
    assert_eq!(code(guarded(&mut scene, 10_001, ada, held(&lease))), ErrorCode::LockLost);
    guarded(&mut scene, 10_001, bob, held(&next)).expect("held");
    let checks = vec![Check::Exists { key: "slide".into() }, Check::Lock(held(&lease))];
    let error = scene.transact(ada, checks, vec![]).expect_err("lost");
    assert_eq!((error.code(), error.check()), (ErrorCode::LockLost, Some(1)));
    scene.transact(bob, vec![Check::Lock(held(&next))], vec![Write::set("slide", 2.into())]).expect("held");
    let nonsense = LockGuard { name: "\n".into(), token: 1 };
    assert_eq!(code(guarded(&mut scene, 10_001, ada, nonsense)), ErrorCode::InvalidLock);
}

#[test]
fn a_prefix_hears_of_keys_that_come_and_go() {
    let (mut scene, ada, bob) = two();
    scene.set(0, ada, "hand/ada", "true").expect("set");
    scene.set(0, ada, "pinned", "1").expect("set");
    scene.listen_to(bob, &["pinned", "none"], &["hand/", "hand/a"]);
    let snapshot = scene.snapshot(bob);
    assert_eq!(
        snapshot.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
        ["hand/ada=true", "none=null", "pinned=1"]
    );
    scene.story();
    let steps = [
        ("hand/carl", "true", "hand/carl=true #3 to [bob]"),
        ("other", "1", "other=1 #4 to []"),
        ("hand/carl", "null", "hand/carl=null #5 to [bob]"),
        ("hand/ada", "null", "hand/ada=null #6 to [bob]"),
    ];
    for (key, json, told) in steps {
        scene.set(0, ada, key, json).expect("set");
        // Who is to be told of a removal is known until the next command.
        assert_eq!(scene.story(), [told]);
    }
    // A key that goes by itself is told of as well.
    let brief = Write { expiry: Some(Expiry::After(5)), ..Write::set("hand/brief", 1.into()) };
    scene.write(0, ada, brief).expect("set");
    scene.story();
    scene.apply(5, Command::Tick).expect("ticked");
    assert_eq!(scene.story(), ["hand/brief=null #8 expired to [bob]"]);
    // Nothing is kept of keys that nobody names.
    scene.apply(0, Command::Tick).expect("ticked");
    assert_eq!(scene.room.listen_set(bob).count(), 2);
    scene.set(0, ada, "hand/carl", "1").expect("set");
    assert_eq!(scene.story(), ["hand/carl=1 #9 to [bob]"]);
    // Everything, but no locks.
    scene.lock(0, ada, "l");
    scene.listen_to(ada, &[], &[""]);
    let all: Vec<String> = scene.snapshot(ada).into_iter().map(|(key, _)| key).collect();
    assert_eq!(all, ["hand/carl", "other", "pinned"]);
    let long = "x".repeat(257);
    let (keys, prefixes) = (KeyList::default(), KeyList::of(&[&long]));
    let refused = scene.apply(0, Command::Listen { peer: ada, keys: &keys, prefixes: &prefixes });
    assert_eq!(code(refused), ErrorCode::InvalidKey);
}

#[test]
fn several_keys_are_read_at_one_revision() {
    let (mut scene, ada, _) = two();
    for key in ["hand/b", "hand/a", "pinned", "other"] {
        scene.set(0, ada, key, "1").expect("set");
    }
    let read = Command::Read { peer: ada, keys: &["none", "pinned", "hand/b"], prefixes: &["hand/"] };
    let Ok(Reply::States { revision: 4, states }) = scene.apply(0, read) else { panic!("not the states") };
    let keys: Vec<&str> = states.iter().map(|state| &*state.key).collect();
    assert_eq!(keys, ["none", "pinned", "hand/b", "hand/a"]);
    assert_eq!(states[0].version, 0);
    assert!(states.iter().all(|state| state.cause == Cause::Written));
}

#[test]
fn one_peer_holds_and_waits_for_so_many_locks_and_no_more() {
    let (mut scene, ada, bob) = two();
    let most = u64::from(MAX_LOCKS_PER_PEER);
    let name = |nth: u64| format!("lock-{nth}");
    let too_many = |reply: Result<Reply, Error>| assert_eq!(code(reply), ErrorCode::TooManyLocks);
    let leases: Vec<Lease> = (0..most).map(|nth| scene.lock(0, ada, &name(nth))).collect();
    too_many(scene.acquire(0, ada, "one more", 0));
    too_many(scene.acquire(0, ada, &name(0), 1_000));
    // What is held is simply held, however many others one has.
    assert_eq!(code(scene.acquire(0, ada, &name(0), 0)), ErrorCode::LockHeld);
    // Others are not concerned. They wait for what she has; their waits count, and come to an end.
    (0..most).for_each(|nth| drop(scene.acquire(0, bob, &name(nth), 1_000 + nth).expect("he waits")));
    too_many(scene.acquire(0, bob, "free", 0));
    // A lock that is released makes place for one; it goes to him who waited, for whom nothing changes.
    scene.apply(10, Command::Release { peer: ada, lock: held(&leases[0]) }).expect("released");
    scene.lock(10, ada, "one more");
    too_many(scene.acquire(10, ada, "two more", 0));
    too_many(scene.acquire(10, bob, "free", 0));
    // He gives up waiting, by and by.
    scene.apply(1_001, Command::Tick).expect("time passes");
    scene.lock(1_001, bob, "free");
    too_many(scene.acquire(1_001, bob, "free too", 0));
    scene.apply(2_000, Command::Tick).expect("time passes");
    (0..most - 2).for_each(|nth| drop(scene.lock(2_000, bob, &format!("his-{nth}"))));
    too_many(scene.acquire(2_000, bob, "last", 0));
    // Whose connection breaks waits no more, and keeps its locks.
    let eve = scene.join(2_000, "eve");
    (1..=most).for_each(|nth| drop(scene.acquire(2_000, eve, &name(nth % (most - 1) + 1), 60_000).expect("she waits")));
    too_many(scene.acquire(2_000, eve, "hers", 0));
    scene.apply(2_001, Command::ConnectionLost { peer: eve }).expect("lost");
    let peer = sessionstore::core::room::Introduction {
        peer_id: "eve",
        user_id: "",
        name: None,
        role: "guest",
        metadata: None,
        secret: None,
    };
    scene.introduce(2_002, peer).expect("she comes back");
    (0..most).for_each(|nth| drop(scene.lock(2_002, eve, &format!("hers-{nth}"))));
    too_many(scene.acquire(2_002, eve, "hers", 0));
    // Leases that end count no more.
    scene.apply(13_000, Command::Tick).expect("time passes");
    (0..most).for_each(|nth| drop(scene.lock(13_000, ada, &format!("new-{nth}"))));
    too_many(scene.acquire(13_000, ada, "one more", 0));
}

/// Rules under which these may take locks.
fn lockers(roles: &[&str]) -> Command<'static> {
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    let rule = |name: &str, roles: Vec<String>, allow| Rule {
        name: name.into(),
        roles,
        keys: vec!["*".into()],
        allow,
        ..Rule::default()
    };
    let rules = vec![rule("lockers", roles, vec![Right::Lock]), rule("readers", vec!["*".into()], vec![Right::Read])];
    Command::SetRules { rules: Some(Arc::new(Rules::new(rules, None).expect("rules"))) }
}

#[test]
fn who_may_no_longer_lock_waits_in_vain_and_holds_no_longer_than_its_lease() {
    let (mut scene, ada, bob) = two();
    let role = |peer, role| Command::ChangeRole { peer, role };
    scene.apply(0, role(ada, "host")).expect("changed");
    scene.apply(0, lockers(&["host", "guest"])).expect("set");
    let first = scene.lock(0, ada, "l");
    scene.acquire(0, bob, "l", 60_000).expect("waits");
    scene.acquire(0, bob, "l", 60_000).expect("waits");
    scene.story();
    scene.apply(1, lockers(&["host"])).expect("set");
    assert_eq!(scene.story(), ["bob gave up wait 1: FORBIDDEN (211)", "bob gave up wait 2: FORBIDDEN (211)"]);
    scene.apply(2, role(bob, "host")).expect("changed");
    scene.acquire(2, bob, "l", 60_000).expect("waits");
    // Whose right is taken away goes on holding what it was granted, so that nobody else does meanwhile, but not for longer.
    scene.apply(3, role(ada, "guest")).expect("changed");
    scene.story();
    let renew = Command::Renew { peer: ada, lock: held(&first), ttl_ms: 10_000 };
    let refused = scene.apply(4, renew).expect_err("it may not");
    assert_eq!(refused, ErrorCode::Forbidden);
    assert!(refused.message().contains("to take this lock"), "{refused}");
    scene.apply(9_999, Command::Tick).expect("ticked");
    assert!(scene.story().is_empty());
    scene.apply(10_000, Command::Tick).expect("ticked");
    assert_eq!(scene.story()[1], "bob holds l as 2 (wait 3)");
    // And gives it up when it likes.
    scene.apply(10_001, role(bob, "guest")).expect("changed");
    let second = LockGuard { name: "l".into(), token: 2 };
    scene.apply(10_002, Command::Release { peer: bob, lock: second }).expect("released");
    // Who may wait still does when rules change for others.
    scene.apply(10_003, role(ada, "host")).expect("changed");
    let third = scene.lock(10_003, ada, "l");
    scene.apply(10_003, role(bob, "host")).expect("changed");
    scene.acquire(10_003, bob, "l", 60_000).expect("waits");
    scene.apply(10_004, lockers(&["host", "nobody"])).expect("set");
    scene.story();
    scene.apply(10_005, Command::Release { peer: ada, lock: held(&third) }).expect("released");
    assert_eq!(scene.story()[1], "bob holds l as 5 (wait 4)");
}
