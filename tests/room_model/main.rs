//! The room against a naive model of it: random commands at random times, everything compared
//! after each (promises P1 to P7 as far as the core keeps them), planted faults to show that the
//! comparison bites, and named scenarios in simulated time.

mod check;
mod journaled;
mod missed;
mod model;
mod mutants;
mod operator;
mod ruled;
mod scenarios;
mod sharing;
mod steps;
mod writes;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use check::{check, Trace};
use mutants::{Fault, Mutant};
use sessionstore::core::limits::Limits;
use sessionstore::core::room::Room;
use steps::{small_limits, Expect, Op, Step, Who, KEYS, PEERS, TEXTS, USERS, VALUES};

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![6 => (0..4usize).prop_map(Who::Peer), 1 => any::<u8>().prop_map(|n| Who::Handle(n.into()))]
}

fn key() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 0..5usize, 1 => 5..KEYS.len()]
}

fn text() -> impl Strategy<Value = Option<usize>> {
    proptest::option::of(0..TEXTS.len())
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        4 => Just(Expect::Nothing),
        1 => Just(Expect::Absent),
        1 => Just(Expect::Current),
        1 => (0..8u64).prop_map(Expect::Version),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let peer = || prop_oneof![20 => 0..4usize, 1 => 4..PEERS.len()];
    let user = || prop_oneof![6 => Just(0usize), 1 => 1..USERS.len()];
    prop_oneof![
        6 => (peer(), user(), text(), text(), any::<bool>())
            .prop_map(|(peer, user, name, metadata, role)| Op::Join { peer, user, name, metadata, role }),
        2 => (peer(), user()).prop_map(|(peer, user)| Op::Return { peer, user }),
        2 => who().prop_map(Op::Leave),
        3 => who().prop_map(Op::ConnectionLost),
        2 => (who(), text(), text()).prop_map(|(who, name, metadata)| Op::Update { who, name, metadata }),
        12 => (who(), key(), 0..VALUES.len(), expect())
            .prop_map(|(who, key, value, expect)| Op::Set { who, key, value, expect }),
        3 => (who(), key()).prop_map(|(who, key)| Op::Get { who, key }),
        5 => (who(), vec(key(), 0..5)).prop_map(|(who, keys)| Op::Listen { who, keys }),
        1 => Just(Op::Tick),
        2 => Just(Op::TickWhenDue),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![4 => 0..4u64, 1 => 0..40u64];
    vec((wait, any::<bool>(), op()).prop_map(|(wait, tick_first, op)| Step { wait, tick_first, op }), 1..80)
}

fn limits() -> impl Strategy<Value = Limits> {
    (prop_oneof![Just(0u64), Just(1), Just(20)], prop_oneof![Just(0u64), Just(15)])
        .prop_map(|(grace_ms, linger_ms)| small_limits(grace_ms, linger_ms))
}

proptest! {
    // 256 runs unless PROPTEST_CASES says otherwise.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_room_does_what_the_model_does(limits in limits(), steps in steps()) {
        let mut traces = [Trace::new(), Trace::new()];
        for trace in &mut traces {
            let room = &mut Room::new("lobby", limits.clone().into());
            check(room, &limits, &steps, Some(trace)).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(&traces[0], &traces[1], "the same commands gave another room");
    }
}

/// How many random runs the checker gets to find a planted fault. The seed is fixed, so that
/// the answer is the same each time.
const RUNS_TO_FIND_A_FAULT: usize = 400;

#[test]
fn every_planted_fault_is_found() {
    for fault in Fault::ALL {
        let mut runner = TestRunner::deterministic();
        let found = (0..RUNS_TO_FIND_A_FAULT).find_map(|_| {
            let (limits, steps) = (limits(), steps()).new_tree(&mut runner).expect("a run").current();
            let mut mutant = Mutant::new(Room::new("lobby", limits.clone().into()), fault);
            check(&mut mutant, &limits, &steps, None).err()
        });
        assert!(found.is_some(), "a room that {fault:?} passed {RUNS_TO_FIND_A_FAULT} runs unnoticed");
    }
}

/// The random runs reach what they are meant to test; a generator that only makes refusals of
/// one kind would let the comparison pass without comparing much.
#[test]
fn random_runs_reach_every_refusal_and_event() {
    let mut runner = TestRunner::deterministic();
    let mut all = String::new();
    for _ in 0..RUNS_TO_FIND_A_FAULT {
        let (limits, steps) = (limits(), steps()).new_tree(&mut runner).expect("a run").current();
        let mut trace = Trace::new();
        let room = &mut Room::new("lobby", limits.clone().into());
        check(room, &limits, &steps, Some(&mut trace)).expect("the room and the model agree");
        for line in trace {
            // The reply and the events; the dump that follows is not needed.
            all.push_str(line.split("Room {").next().unwrap_or_default());
        }
    }
    for wanted in [
        "NotJoined",
        "PeerMismatch",
        "RoomFull",
        "InvalidPeer",
        "InvalidKey",
        "ValueTooLarge",
        "TooManyKeys",
        "StoreFull",
        "VersionConflict",
        "TooManyListenedKeys",
        "returned: true",
        "SessionStarted",
        "SessionEnded",
        "PeerUpdated",
        "connection_lost: true",
        "connection_lost: false",
        "value: \"null\"",
    ] {
        assert!(all.contains(wanted), "no random run had {wanted}");
    }
}
