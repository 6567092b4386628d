//! A room with rules against one without: what a naive reading of the rules allows is answered alike, and all else is
//! `FORBIDDEN` and changes nothing. Rules and roles change on the way.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use sessionstore::core::limits::Limits;
use sessionstore::core::names::KeyList;
use sessionstore::core::room::{Command, Introduction, PeerHandle, Reply, Room};
use sessionstore::core::rules::{Right, Rule, Rules};
use sessionstore::core::write::{Check, Expiry, Operation, Transaction, Write};
use sessionstore::{Error, ErrorCode, Merge, Value};

const PEERS: [&str; 2] = ["ada", "bob"];
const ROLES: [&str; 2] = ["host", "viewer"];
const KEYS: [&str; 4] = ["a", "b/1", "own/ada", "own/bob"];
/// With what each means, of the keys above and the locks of the same names.
const PATTERNS: [&str; 5] = ["*", "a", "b/*", "own/{peer_id}", "*/*"];

fn naive_match(pattern: &str, peer: usize, key: &str) -> bool {
    match pattern {
        "*" => true,
        "a" => key == "a",
        "b/*" => key.starts_with("b/"),
        "own/{peer_id}" => key == format!("own/{}", PEERS[peer]),
        "*/*" => key.contains('/'),
        other => panic!("{other}"),
    }
}

#[derive(Clone, Debug)]
struct OneRule {
    /// `None`: any.
    role: Option<usize>,
    pattern: usize,
    rights: BTreeSet<Right>,
    denies: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Set(usize, Option<i64>, Option<u64>),
    Add(usize),
    Touch(usize),
    /// Removes by a patch.
    PatchAway(usize),
    Get(usize),
    ReadAll,
    Transact {
        check: usize,
        set: usize,
        remove: usize,
    },
    Lock(usize),
    Listen(usize),
    Role(usize),
    Rules(Option<Vec<OneRule>>),
}

/// Who has which role, and which rules there are.
struct Naive {
    rules: Option<Vec<OneRule>>,
    roles: [usize; PEERS.len()],
}

impl Naive {
    fn speaks(&self, peer: usize, right: Right, key: &str) -> bool {
        let Some(rules) = &self.rules else { return true };
        for rule in rules {
            let is_meant = rule.role.is_none_or(|role| role == self.roles[peer]);
            if is_meant && rule.rights.contains(&right) && naive_match(PATTERNS[rule.pattern], peer, key) {
                return !rule.denies;
            }
        }
        false
    }

    fn may(&self, peer: usize, right: Right, key: &str) -> bool {
        let shows = key.strip_prefix("$lock/").filter(|_| right == Right::Read);
        self.speaks(peer, right, key) || shows.is_some_and(|name| self.speaks(peer, Right::Lock, name))
    }

    fn may_set(&self, peer: usize, key: &str, is_set: bool) -> bool {
        self.may(peer, if is_set { Right::Write } else { Right::Create }, key)
    }
}

fn compile(rules: &[OneRule]) -> Arc<Rules> {
    let rule = |(nth, rule): (usize, &OneRule)| {
        let rights: Vec<Right> = rule.rights.iter().copied().collect();
        let (allow, deny) = if rule.denies { (vec![], rights) } else { (rights, vec![]) };
        let role = rule.role.map_or("*", |role| ROLES[role]);
        Rule { name: nth.to_string(), roles: vec![role.into()], keys: vec![PATTERNS[rule.pattern].into()], allow, deny }
    };
    Arc::new(Rules::new(rules.iter().enumerate().map(rule).collect(), None).expect("rules"))
}

/// A room and its peers.
struct Side {
    room: Room,
    peers: Vec<PeerHandle>,
}

impl Side {
    fn new() -> Side {
        let mut room = Room::new("r", Limits::default().into());
        let join = |peer_id: &&str| {
            let peer = Introduction { peer_id, user_id: "", name: None, role: ROLES[0], metadata: None, secret: None };
            match room.apply(0, Command::Join { peer, new_session_id: "s" }, &mut Vec::new()) {
                Ok(Reply::Joined { peer, .. }) => peer,
                other => panic!("a join was answered with {other:?}"),
            }
        };
        let peers = PEERS.iter().map(join).collect();
        Side { room, peers }
    }

    fn apply(&mut self, now: u64, command: Command<'_>) -> Result<String, Error> {
        Ok(match self.room.apply(now, command, &mut Vec::new())? {
            Reply::State(state) => format!("{state:?}"),
            Reply::States { revision, states } => format!("{revision} {states:?}"),
            Reply::Lock(lease) => format!("{lease:?}"),
            Reply::Waiting(_) | Reply::Joined { .. } => panic!("nobody waits or joins here"),
            Reply::Done => "done".into(),
        })
    }

    /// Everything that is set, locks included.
    fn all(&self) -> Vec<String> {
        self.room.entries().map(|state| format!("{state:?}")).collect()
    }
}

/// Does the same in both rooms, if it is allowed. Returns whether it was.
fn step(now: u64, peer: usize, op: &Op, naive: &mut Naive, ruled: &mut Side, free: &mut Side) -> Result<bool, String> {
    let handle = ruled.peers[peer];
    let is_set = |key: &str| !free.room.state(key).value.is_null();
    let may = |right, key: &str| naive.may(peer, right, key);
    let guard = |write: Write<'static>| Command::Write { peer: handle, write, lock: None };
    let (named, begun);
    let (command, allowed) = match op {
        Op::Set(key, value, expected) => {
            let key = KEYS[*key];
            let allowed = if value.is_none() { may(Right::Remove, key) } else { naive.may_set(peer, key, is_set(key)) };
            let value = value.map_or(Value::null(), Value::from);
            (Command::Set { peer: handle, key, value, expected: *expected }, allowed)
        }
        Op::Add(key) | Op::Touch(key) => {
            let key = KEYS[*key];
            let write = match op {
                Op::Add(_) => Write::merge(key, Merge::Add(1.into())),
                _ => Write::touch(key, Expiry::Never),
            };
            (guard(write), naive.may_set(peer, key, is_set(key)) && may(Right::Read, key))
        }
        Op::PatchAway(key) => {
            let key = KEYS[*key];
            let allowed = may(Right::Remove, key) && may(Right::Read, key);
            (guard(Write::merge(key, Merge::Patch(Value::null()))), allowed)
        }
        Op::Get(key) => (Command::Get { peer: handle, key: KEYS[*key] }, may(Right::Read, KEYS[*key])),
        Op::ReadAll => {
            // No right is needed, and what may not be read is not there.
            let command = Command::Read { peer: handle, keys: &[], prefixes: &["", "$lock/"] };
            let Ok(Reply::States { states, .. }) = ruled.room.apply(now, command, &mut Vec::new()) else {
                return Err("it may always ask".into());
            };
            let read: Vec<String> = states.iter().map(|state| format!("{state:?}")).collect();
            let readable = free.room.entries().filter(|state| may(Right::Read, &state.key));
            let expected: Vec<String> = readable.map(|state| format!("{state:?}")).collect();
            return if read == expected { Ok(true) } else { Err(format!("{read:?}, not {expected:?}")) };
        }
        Op::Transact { check, set, remove } => {
            let (check, set, remove) = (KEYS[*check], KEYS[*set], KEYS[*remove]);
            let checks = vec![Check::Version { key: check.into(), version: free.room.state(check).version }];
            let writes = vec![
                Write::set(set, 1.into()),
                Write { operation: Operation::Set(Value::null()), ..Write::set(remove, Value::null()) },
            ];
            let allowed =
                may(Right::Read, check) && naive.may_set(peer, set, is_set(set)) && may(Right::Remove, remove);
            (Command::Transact { peer: handle, transaction: Transaction { checks, writes } }, allowed)
        }
        Op::Lock(name) => {
            let name = KEYS[*name];
            (Command::Acquire { peer: handle, name, ttl_ms: 1_000, wait_ms: 0 }, may(Right::Lock, name))
        }
        Op::Listen(key) => {
            let key = KEYS[*key];
            (named, begun) = (KeyList::of(&[key]), KeyList::of(&["", "$lock/"]));
            (Command::Listen { peer: handle, keys: &named, prefixes: &begun }, may(Right::Read, key))
        }
        Op::Role(role) => {
            naive.roles[peer] = *role;
            (Command::ChangeRole { peer: handle, role: ROLES[*role] }, true)
        }
        Op::Rules(rules) => {
            naive.rules = rules.clone();
            let rules = rules.as_deref().map(compile);
            ruled.apply(now, Command::SetRules { rules }).map_err(|error| error.to_string())?;
            return Ok(true);
        }
    };
    let before = ruled.all();
    let given = ruled.apply(now, command.clone());
    if !allowed {
        return match given {
            Err(error) if error == ErrorCode::Forbidden && error.current().is_none() && ruled.all() == before => {
                Ok(false)
            }
            other => Err(format!("{other:?} where the rules deny it")),
        };
    }
    let expected = free.apply(now, command);
    let is_conflict = expected.as_ref().is_err_and(|error| error == &ErrorCode::VersionConflict);
    let shown = |outcome: &Result<String, Error>| match outcome {
        // What a conflict tells depends on what may be read.
        Err(error) if is_conflict => format!("{:?} {:?}", error.code(), error.write()),
        outcome => format!("{outcome:?}"),
    };
    if is_conflict {
        let Op::Set(key, ..) = op else { return Err("only a set expects a version".into()) };
        let tells = given.as_ref().is_err_and(|error| error.current().is_some());
        if tells != naive.may(peer, Right::Read, KEYS[*key]) {
            return Err(format!("a conflict told {tells} what is there"));
        }
    }
    match shown(&given) == shown(&expected) {
        true => Ok(true),
        false => Err(format!("{given:?}, not {expected:?}")),
    }
}

/// Runs all; how many steps were allowed and how many were not.
fn compare(steps: &[(usize, Op)]) -> Result<(usize, usize), String> {
    let (mut ruled, mut free) = (Side::new(), Side::new());
    let mut naive = Naive { rules: None, roles: [0; PEERS.len()] };
    let mut counts = (0, 0);
    // Under which key each peer listens by name, beside everything; it ends with the right to read it.
    let mut named: [Option<usize>; PEERS.len()] = Default::default();
    let mut listens = [false; PEERS.len()];
    for (nth, (peer, op)) in steps.iter().enumerate() {
        let now = nth as u64 * 300;
        let told = |error: String| format!("step {nth}, {op:?} by {}: {error}", PEERS[*peer]);
        for side in [&mut free, &mut ruled] {
            side.apply(now, Command::Tick).map_err(|error| error.to_string())?;
        }
        let allowed = step(now, *peer, op, &mut naive, &mut ruled, &mut free).map_err(told)?;
        counts = (counts.0 + usize::from(allowed), counts.1 + usize::from(!allowed));
        if let (Op::Listen(key), true) = (op, allowed) {
            (named[*peer], listens[*peer]) = (Some(*key), true);
        }
        if ruled.all() != free.all() {
            return Err(told(format!("the room has {:?}, not {:?}", ruled.all(), free.all())));
        }
        // Everybody listens to what it may read by now, and to nothing else.
        for (peer, name) in named.iter_mut().enumerate() {
            *name = name.filter(|key| naive.may(peer, Right::Read, KEYS[*key]));
            let keys = ruled.room.listen_set(ruled.peers[peer]).filter_map(|slot| ruled.room.state_of(slot));
            let heard: BTreeSet<String> = keys.map(|state| state.key.to_string()).collect();
            let set = free.room.entries().map(|state| state.key.to_string()).filter(|_| listens[peer]);
            let mut expected: BTreeSet<String> = set.filter(|key| naive.may(peer, Right::Read, key)).collect();
            expected.extend(name.map(|key| KEYS[key].to_owned()));
            if heard != expected {
                return Err(told(format!("{} listens to {heard:?}, not {expected:?}", PEERS[peer])));
            }
        }
    }
    Ok(counts)
}

fn rules() -> impl Strategy<Value = Vec<OneRule>> {
    let rights = proptest::sample::subsequence(Right::ALL.to_vec(), 1..=Right::ALL.len());
    let role = prop_oneof![2 => Just(None), 1 => (0..ROLES.len()).prop_map(Some)];
    let rule = (role, 0..PATTERNS.len(), rights, prop_oneof![3 => Just(false), 1 => Just(true)]);
    let rule = rule.prop_map(|(role, pattern, rights, denies)| OneRule {
        role,
        pattern,
        rights: rights.into_iter().collect(),
        denies,
    });
    proptest::collection::vec(rule, 1..5)
}

fn steps() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let key = || 0..KEYS.len();
    let op = prop_oneof![
        6 => (key(), proptest::option::weighted(0.8, 0i64..9), proptest::option::weighted(0.2, 0u64..4))
            .prop_map(|(key, value, expected)| Op::Set(key, value, expected)),
        2 => key().prop_map(Op::Add),
        1 => key().prop_map(Op::Touch),
        1 => key().prop_map(Op::PatchAway),
        2 => key().prop_map(Op::Get),
        2 => Just(Op::ReadAll),
        2 => (key(), key(), key()).prop_map(|(check, set, remove)| Op::Transact { check, set, remove }),
        2 => key().prop_map(Op::Lock),
        2 => key().prop_map(Op::Listen),
        1 => (0..ROLES.len()).prop_map(Op::Role),
        2 => proptest::option::weighted(0.9, rules()).prop_map(Op::Rules),
    ];
    proptest::collection::vec((0..PEERS.len(), op), 1..50)
}

proptest! {
    #[test]
    fn a_room_allows_what_its_rules_allow_and_nothing_else(steps in steps()) {
        compare(&steps).map_err(TestCaseError::fail)?;
    }
}

/// The random runs have enough of both.
#[test]
fn random_runs_are_allowed_and_forbidden() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut allowed, mut forbidden) = (0, 0);
    for _ in 0..50 {
        let steps = proptest::strategy::ValueTree::current(&steps().new_tree(&mut runner).expect("a run"));
        let counts = compare(&steps).expect("they agree");
        (allowed, forbidden) = (allowed + counts.0, forbidden + counts.1);
    }
    assert!(allowed > 100 && forbidden > 100, "{allowed} were allowed, {forbidden} were not");
}
