//! What operators do to a room, in simulated time.

use std::sync::Arc;

use sessionstore::core::limits::{Limits, MAX_KEEP_MS};
use sessionstore::core::room::{Action, Change, Command, Operator, Reply, Room, Time};
use sessionstore::core::rules::{Right, Rule, Rules};
use sessionstore::{Check, Error, ErrorCode, Transaction, Value, Write};

use crate::scenarios::{code, Scene};

const BACK_END: Operator<'static> = Operator { user_id: "backend", name: "Back end", role: None };

fn operate(scene: &mut Scene, now: Time, action: Action<'_>) -> Result<Reply, Error> {
    scene.apply(now, Command::Operate { operator: BACK_END, action })
}

fn set<'a>(key: &'a str, value: impl Into<Value>) -> Transaction<'a> {
    Transaction { checks: Vec::new(), writes: vec![Write::set(key, value.into())] }
}

fn states(reply: Reply) -> Vec<Arc<Change>> {
    match reply {
        Reply::States { states, .. } => states,
        other => panic!("answered with {other:?}"),
    }
}

fn open<'a>(keep_ms: u64, transaction: Transaction<'a>) -> Action<'a> {
    Action::Open { session_id: "prepared", keep_ms, transaction }
}

#[test]
fn a_room_that_is_prepared_waits_for_its_first_peer() {
    let mut scene = Scene::new(Limits::default());
    let written = operate(&mut scene, 10, open(500, set("pinned", "Welcome"))).expect("opened");
    let author = states(written)[0].author.clone().expect("an author");
    assert_eq!((&*author.peer_id, &*author.user_id, &*author.name), ("", "backend", "Back end"));
    assert_eq!(code(operate(&mut scene, 11, open(500, set("pinned", "again")))), ErrorCode::RoomOpen);

    let ann = scene.join(509, "ann");
    scene.listen(509, ann, &["pinned"]).expect("listens");
    assert_eq!(scene.snapshot(ann), [("pinned".to_owned(), "\"Welcome\"".to_owned())]);
    assert_eq!(scene.room.session_id().map(|id| &**id), Some("prepared"));
    scene.apply(5_000, Command::Tick).expect("time passes");
    assert!(scene.room.is_open(), "somebody is in it");
    scene.apply(5_001, Command::Leave { peer: ann }).expect("left");
    assert!(!scene.room.is_open(), "it ends as any session");
}

#[test]
fn a_room_that_is_prepared_for_nobody_ends() {
    let mut scene = Scene::new(Limits::default());
    operate(&mut scene, 10, open(500, set("pinned", 1))).expect("opened");
    assert_eq!(scene.room.next_deadline(), Some(510));
    scene.apply(510, Command::Tick).expect("time passes");
    assert_eq!(scene.story(), ["session started", "pinned=1 #1 to []", "session ended"]);
}

#[test]
fn a_room_that_is_prepared_waits_as_long_when_its_server_is_another() {
    let limits = Limits { grace_ms: 50, ..Limits::default() };
    let mut scene = Scene::new(limits.clone());
    operate(&mut scene, 10, open(500, set("pinned", 1))).expect("opened");
    for lost in [None, Some("another")] {
        for (now, until) in [(100, 510), (480, 530)] {
            let mut room = Room::restore("lobby", &scene.room.checkpoint().expect("it is open")).expect("restored");
            room.resume(now, Arc::new(limits.clone()), lost, &mut Vec::new());
            assert_eq!(room.next_deadline(), Some(until), "at {now}, with {lost:?}");
        }
    }
}

#[test]
fn a_room_is_prepared_wholly_or_not_at_all() {
    let mut scene = Scene::new(Limits { max_keys: 1, ..Limits::default() });
    let mut two = set("a", 1);
    two.writes.push(Write::set("b", 2.into()));
    assert_eq!(code(operate(&mut scene, 0, open(500, two))), ErrorCode::TooManyKeys);
    for keep_ms in [0, MAX_KEEP_MS + 1] {
        assert_eq!(code(operate(&mut scene, 0, open(keep_ms, set("a", 1)))), ErrorCode::InvalidArgument);
    }
    assert!(!scene.room.is_open() && scene.story().is_empty(), "nothing has happened");
    assert_eq!(scene.room.next_deadline(), None);
}

#[test]
fn what_an_operator_writes_is_a_change_as_any_other() {
    let mut scene = Scene::new(Limits::default());
    let ann = scene.join(0, "ann");
    scene.listen(0, ann, &["pinned"]).expect("listens");
    scene.set(1, ann, "pinned", "1").expect("set");
    scene.story();
    let conditional = |expected| {
        let write = Write { expected: Some(expected), ..Write::set("pinned", 2.into()) };
        Action::Transact(Transaction { checks: Vec::new(), writes: vec![write] })
    };
    let error = operate(&mut scene, 2, conditional(9)).expect_err("a conflict");
    assert_eq!((error.code(), error.write()), (ErrorCode::VersionConflict, Some(0)));
    assert_eq!(error.current().map(|state| state.version), Some(1));
    operate(&mut scene, 3, conditional(1)).expect("written");
    assert_eq!(scene.story(), ["pinned=2 #2 to [ann]"]);
    let bound = Write { bound: Some(true), ..Write::set("hand", true.into()) };
    let bound = Transaction { checks: Vec::new(), writes: vec![bound] };
    assert_eq!(code(operate(&mut scene, 4, Action::Transact(bound))), ErrorCode::InvalidArgument);
    let keys = ["pinned", "absent"];
    let look = Command::Look { operator: BACK_END, keys: &keys, prefixes: &[] };
    let read = states(scene.apply(5, look).expect("read"));
    assert_eq!(read.iter().map(|state| state.value.json()).collect::<Vec<_>>(), ["2", "null"]);
}

#[test]
fn who_is_kicked_has_left() {
    let mut scene = Scene::new(Limits::default());
    let (ann, _bob) = (scene.join(0, "ann"), scene.join(0, "bob"));
    let bound = Write { bound: Some(true), ..Write::set("hand", true.into()) };
    scene.apply(1, Command::Write { peer: ann, write: bound, lock: None }).expect("written");
    scene.apply(1, Command::Acquire { peer: ann, name: "turn", ttl_ms: 5_000, wait_ms: 0 }).expect("held");
    scene.story();
    operate(&mut scene, 2, Action::Kick { peer_id: "ann" }).expect("kicked");
    assert_eq!(scene.story(), ["$lock/turn=null #3 peer left to []", "hand=null #3 peer left to []", "ann left"]);
    assert_eq!(code(operate(&mut scene, 3, Action::Kick { peer_id: "ann" })), ErrorCode::NotFound);
    operate(&mut scene, 4, Action::Kick { peer_id: "bob" }).expect("kicked");
    assert!(!scene.room.is_open(), "nobody is left");
}

#[test]
fn a_lock_that_is_taken_away_goes_to_who_waits() {
    let mut scene = Scene::new(Limits::default());
    let (ann, bob) = (scene.join(0, "ann"), scene.join(0, "bob"));
    let acquire = |peer, wait_ms| Command::Acquire { peer, name: "turn", ttl_ms: 5_000, wait_ms };
    scene.apply(1, acquire(ann, 0)).expect("held");
    scene.apply(1, acquire(bob, 1_000)).expect("waits");
    scene.story();
    operate(&mut scene, 2, Action::Release { lock: "turn" }).expect("released");
    let taken = "$lock/turn={\"holder\":\"bob\",\"token\":2} #2 to []";
    assert_eq!(scene.story(), ["ann lost turn with 1", taken, "bob holds turn as 2 (wait 1)"]);
    operate(&mut scene, 3, Action::Release { lock: "turn" }).expect("released");
    assert_eq!(scene.story(), ["bob lost turn with 2", "$lock/turn=null #3 to []"]);
    assert_eq!(code(operate(&mut scene, 4, Action::Release { lock: "turn" })), ErrorCode::NotFound);
    assert_eq!(code(operate(&mut scene, 4, Action::Release { lock: "" })), ErrorCode::InvalidLock);
}

#[test]
fn a_room_that_is_closed_is_over_for_everybody() {
    let mut scene = Scene::new(Limits { linger_ms: 1_000, ..Limits::default() });
    let ann = scene.join(0, "ann");
    scene.set(1, ann, "pinned", "1").expect("set");
    scene.story();
    operate(&mut scene, 2, Action::Close).expect("closed");
    assert_eq!(scene.story(), ["session ended"]);
    assert_eq!(code(scene.set(3, ann, "pinned", "2")), ErrorCode::NotJoined);
    for action in [Action::Close, Action::Kick { peer_id: "ann" }, Action::Transact(set("a", 1))] {
        assert_eq!(code(operate(&mut scene, 4, action)), ErrorCode::NotFound);
    }
    let ann = scene.join(5, "ann");
    scene.listen(5, ann, &["pinned"]).expect("listens");
    assert_eq!(scene.snapshot(ann), [("pinned".to_owned(), "null".to_owned())]);
}

#[test]
fn an_operator_with_a_role_may_what_the_role_may() {
    let rule = Rule {
        name: "own".into(),
        roles: vec!["support".into()],
        keys: vec!["ticket/{user_id}".into()],
        allow: vec![Right::Read, Right::Create],
        deny: Vec::new(),
    };
    let mut scene = Scene::new(Limits::default());
    scene
        .apply(0, Command::SetRules { rules: Some(Arc::new(Rules::new(vec![rule], None).expect("rules"))) })
        .expect("set");
    scene.join(0, "ann");
    let support = Operator { user_id: "u7", name: "", role: Some("support") };
    let mut act = |operator, transaction| {
        scene.apply(1, Command::Operate { operator, action: Action::Transact(transaction) }).map(drop)
    };
    act(support, set("ticket/u7", 1)).expect("it may create it");
    let refused = act(support, set("ticket/u7", 2)).expect_err("but not change it");
    assert!(refused == ErrorCode::Forbidden && refused.message().contains("support"), "{refused}");
    act(BACK_END, set("ticket/u7", 3)).expect("without a role no rule holds it back");
    act(BACK_END, set("secret", 4)).expect("nowhere");
    let check = Transaction { checks: vec![Check::Exists { key: "secret".into() }], writes: Vec::new() };
    assert_eq!(code(act(support, check)), ErrorCode::Forbidden);
    assert!(scene.room.shows(support, "ticket/u7") && !scene.room.shows(support, "secret"));
    let look = Command::Look { operator: support, keys: &[], prefixes: &[""] };
    assert_eq!(states(scene.apply(2, look).expect("read")).len(), 1);
    let nameless = Operator { role: Some(""), ..support };
    let refused = scene.apply(3, Command::Operate { operator: nameless, action: Action::Close });
    assert_eq!(code(refused), ErrorCode::InvalidPeer);
}
