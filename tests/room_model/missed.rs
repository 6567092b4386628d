//! Whoever knows the room as it was at a revision, and is told what it missed since, knows it as it is; and what
//! is listened to and read is what a naive selection of all keys finds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use sessionstore::core::limits::{Limits, MAX_REMOVALS};
use sessionstore::core::names::KeyList;
use sessionstore::core::room::{Change, Command, PeerHandle, Reply};
use sessionstore::core::rules::Rules;
use sessionstore::core::write::{Expiry, Write};
use sessionstore::Value;

use super::scenarios::Scene;

const KEYS: [&str; 7] = ["a", "b", "hand/1", "hand/2", "hand/secret", "other", "$lock/turn"];

/// What a peer knows: the states of the keys that are set.
type Copy = BTreeMap<Arc<str>, Arc<Change>>;

fn copy(scene: &Scene, peer: PeerHandle) -> Copy {
    let states = scene.room.listen_set(peer).filter_map(|slot| scene.room.state_of(slot));
    states.filter(|state| !state.value.is_null()).map(|state| (state.key.clone(), state)).collect()
}

/// What a selection means, said as plainly as can be.
fn meant(scene: &Scene, keys: &[&str], prefixes: &[&str], hidden: &str) -> Copy {
    let is_meant = |key: &str| {
        let begins = |prefix: &&str| key.starts_with(prefix) && (!key.starts_with("$lock/") || prefix.starts_with('$'));
        key != hidden && (keys.contains(&key) || prefixes.iter().any(begins))
    };
    scene.room.entries().filter(|one| is_meant(&one.key)).map(|one| (one.key.clone(), one.clone())).collect()
}

fn told(mut known: Copy, changes: Vec<Arc<Change>>) -> Copy {
    let mut before = 0;
    for change in changes {
        assert!(change.version >= before, "in the order of revisions");
        before = change.version;
        if change.value.is_null() {
            known.remove(&change.key);
        } else {
            known.insert(change.key.clone(), change);
        }
    }
    known
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, i64),
    Remove(usize),
    Expire(usize, u64),
    Lock,
    /// Another set of keys and prefixes.
    Listen(usize),
    Rules(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6usize, 0..9i64).prop_map(|(key, value)| Step::Set(key, value)),
        4 => (0..6usize).prop_map(Step::Remove),
        2 => (0..6usize, 1..6u64).prop_map(|(key, ttl)| Step::Expire(key, ttl)),
        1 => Just(Step::Lock),
        1 => (0..4usize).prop_map(Step::Listen),
        1 => any::<bool>().prop_map(Step::Rules),
    ]
}

/// Runs the steps; returns how often what was missed could be told.
fn run(steps: &[Step]) -> usize {
    let rules = Rules::from_toml(
        "[[rule]]\nname = \"no secrets\"\nroles = [\"guest\"]\nkeys = [\"hand/secret\"]\ndeny = [\"read\"]\n\
         [[rule]]\nname = \"all\"\nroles = [\"guest\"]\nkeys = [\"*\"]\n\
         allow = [\"read\", \"write\", \"create\", \"remove\", \"lock\"]\n",
    )
    .expect("rules");
    let rules = Arc::new(rules);
    let sets: [(&[&str], &[&str]); 4] =
        [(&["a", "hand/1"], &[]), (&["b"], &["hand/"]), (&[], &["", "$lock/"]), (&[], &["hand/", "o"])];
    let mut scene = Scene::new(Limits::default());
    let (writer, reader) = (scene.join(0, "writer"), scene.join(0, "reader"));
    let mut moments: Vec<(u64, Copy)> = Vec::new();
    let mut tellings = 0;
    let lists = sets.map(|(keys, prefixes)| (KeyList::of(keys), KeyList::of(prefixes)));
    let (mut listens_to, mut hidden): ((&[&str], &[&str]), &str) = ((&[], &[]), "");
    for (now, step) in (1..).zip(steps) {
        let write = |key: usize| Write::set(KEYS[key], Value::null());
        let command = match *step {
            Step::Set(key, value) => {
                Command::Write { peer: writer, write: Write { ..Write::set(KEYS[key], value.into()) }, lock: None }
            }
            Step::Remove(key) => Command::Write { peer: writer, write: write(key), lock: None },
            Step::Expire(key, ttl) => {
                let write = Write { expiry: Some(Expiry::After(ttl)), ..Write::set(KEYS[key], 7.into()) };
                Command::Write { peer: writer, write, lock: None }
            }
            Step::Lock => Command::Acquire { peer: writer, name: "turn", ttl_ms: 1_000, wait_ms: 0 },
            Step::Listen(set) => {
                let (keys, prefixes) = &lists[set];
                // What was known of another set is not asked for.
                moments.clear();
                listens_to = sets[set];
                Command::Listen { peer: reader, keys, prefixes }
            }
            Step::Rules(some) => {
                hidden = if some { "hand/secret" } else { "" };
                Command::SetRules { rules: some.then(|| rules.clone()) }
            }
        };
        let _ = scene.apply(now, command);
        scene.story();
        let (keys, prefixes) = listens_to;
        assert_eq!(copy(&scene, reader), meant(&scene, keys, prefixes, hidden), "{step:?}");
        let (keys, prefixes) = (&["a", "hand/secret", "b"][..now as usize % 3], sets[now as usize % 4].1);
        if !keys.is_empty() || !prefixes.is_empty() {
            match scene.apply(now, Command::Read { peer: reader, keys, prefixes }) {
                Ok(Reply::States { revision, states }) => {
                    assert_eq!(revision, scene.room.revision());
                    assert_eq!(keys, states.iter().take(keys.len()).map(|state| &*state.key).collect::<Vec<_>>());
                    let read = states.iter().filter(|state| !state.value.is_null());
                    let read: Copy = read.map(|state| (state.key.clone(), state.clone())).collect();
                    assert_eq!(read, meant(&scene, keys, prefixes, hidden), "{keys:?} {prefixes:?}");
                }
                refused => assert!(refused.is_err() && keys.contains(&hidden), "{refused:?}"),
            }
        }
        for (revision, known) in &moments {
            if let Some(changes) = scene.room.changes_since(reader, *revision) {
                let keys: BTreeSet<_> = changes.iter().map(|change| &change.key).collect();
                assert_eq!(keys.len(), changes.len(), "each key once");
                assert!(changes.iter().all(|change| change.version > *revision));
                assert_eq!(told(known.clone(), changes), copy(&scene, reader), "since {revision}: {step:?}");
                tellings += 1;
            }
        }
        // What is known is known of a revision that was told: not of one at which only the rules changed.
        if !matches!(step, Step::Rules(_)) {
            moments.push((scene.room.revision(), copy(&scene, reader)));
        }
    }
    tellings
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_missed_makes_the_old_the_new(steps in proptest::collection::vec(step(), 1..60)) {
        run(&steps);
    }
}

#[test]
fn what_was_missed_is_told_from_as_far_back_as_removals_are_known() {
    let mut scene = Scene::new(Limits::default());
    let (writer, reader) = (scene.join(0, "writer"), scene.join(0, "reader"));
    let (keys, prefixes) = (KeyList::of(&["named"]), KeyList::of(&["hand/"]));
    scene.apply(0, Command::Listen { peer: reader, keys: &keys, prefixes: &prefixes }).expect("listens");
    scene.set(0, writer, "other", "1").expect("set");
    let versions = |scene: &Scene, since| {
        let changes = scene.room.changes_since(reader, since)?;
        Some(changes.iter().map(|change| (change.version, change.value.is_null())).collect::<Vec<_>>())
    };
    assert_eq!(versions(&scene, 0), Some(vec![]), "nothing that concerns it");
    for _ in 0..MAX_REMOVALS {
        scene.set(1, writer, "hand/1", "1").expect("set");
        scene.set(1, writer, "hand/1", "null").expect("removed");
    }
    let last = scene.room.revision();
    assert_eq!(versions(&scene, 0), Some(vec![(last, true)]), "the net change is the last");
    scene.set(2, writer, "named", "1").expect("set");
    scene.set(2, writer, "named", "null").expect("removed");
    assert_eq!(versions(&scene, 2), None, "a removal at revision 3 is no longer known");
    assert_eq!(versions(&scene, 3), Some(vec![(last, true), (last + 2, true)]));
    assert_eq!(versions(&scene, last + 3), None, "a revision that has not been");
    let steps: Vec<Step> = (0..40).map(|nth| if nth % 2 == 0 { Step::Set(2, nth) } else { Step::Remove(2) }).collect();
    assert!(run(&[vec![Step::Listen(1)], steps].concat()) > 500, "nothing could be told: this tests nothing");
}
