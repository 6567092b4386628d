//! A client's copy of the keys it listens to.
//!
//! Many listeners, each with its own keys, become one listen set on the wire; what comes back is
//! compared with what is known, and only real differences reach the listeners. Pure: it is told
//! what arrived and answers with notices, which the client then delivers.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::names;
use super::room::{Cause, Change};

/// Names a listener of this client; never used again.
pub type ListenerId = u64;

/// One state of a key on its way to a listener.
#[derive(Clone, Debug)]
pub struct KeyEvent {
    /// The state: key, value, version, author, time.
    pub change: Arc<Change>,
    /// How many older states of this key this one stands for, which this listener missed because
    /// it, or the connection, did not keep up. Usually 0.
    pub replaced: u64,
    /// Whether this is a current value from before the end-of-snapshot mark.
    pub snapshot: bool,
}

/// What a listener is to be told.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A key has this state.
    Changed {
        /// Who is told.
        listener: ListenerId,
        /// What.
        event: KeyEvent,
    },
    /// All current values were given; what follows are changes.
    SnapshotEnd {
        /// Who is told.
        listener: ListenerId,
    },
}

#[derive(Debug)]
struct Tracked {
    /// `None` until the server has said what the key holds.
    state: Option<Arc<Change>>,
    /// The session the state is from: versions of different sessions do not compare.
    session: u64,
    /// The generation of the listen set that first had this key.
    since: u64,
    /// How many of the listeners name this key; the others listen to a prefix of it.
    named_by: u32,
    listeners: Vec<ListenerId>,
}

/// A prefix that is listened to.
#[derive(Debug)]
struct Covered {
    /// The generation of the listen set that first had it.
    since: u64,
    /// Whether a snapshot has said which keys there are.
    answered: bool,
    listeners: Vec<ListenerId>,
}

#[derive(Debug)]
struct Listener {
    /// The keys it names.
    keys: Vec<Arc<str>>,
    prefixes: Vec<Arc<str>>,
    /// Whether it has been given its snapshot.
    live: bool,
}

/// The replica of one client.
///
/// ```
/// use std::sync::Arc;
/// use sessionstore::core::{replica::{Notice, Replica}, room::Change};
/// let mut replica = Replica::default();
/// let mut notices = Vec::new();
/// replica.add(1, &["spotlight"], &[], &mut notices);
/// let generation = replica.generation();              // sent with the listen request
/// let absent = Arc::new(Change::absent("spotlight".into()));
/// replica.snapshot(generation, vec![(absent, 0)], &mut notices);
/// assert!(matches!(notices[..], [Notice::Changed { .. }, Notice::SnapshotEnd { listener: 1 }]));
/// assert!(replica.cached("spotlight").is_some());
/// ```
#[derive(Debug, Default)]
pub struct Replica {
    /// Looked up for every change, so hashed fast and without a random seed: whoever chose keys that
    /// collide would slow down nobody but this client, which chooses its keys itself.
    keys: FxHashMap<Arc<str>, Tracked>,
    prefixes: BTreeMap<Arc<str>, Covered>,
    listeners: BTreeMap<ListenerId, Listener>,
    generation: u64,
    session: u64,
    session_id: Option<Arc<str>>,
    /// The revision of the store at the last join, which all that is told from then on includes.
    joined_at: u64,
    /// The newest revision that was told.
    told: u64,
    /// The generation of the listen set that the last snapshot was of.
    whole: Option<u64>,
}

impl Replica {
    /// Adds a listener to keys and to all keys that begin with a prefix. Keys that are known already are
    /// answered from here; if all are, its snapshot is complete at once. Returns whether the listen set
    /// has grown and must be sent.
    pub fn add(&mut self, listener: ListenerId, keys: &[&str], prefixes: &[&str], notices: &mut Vec<Notice>) -> bool {
        let mut grown = false;
        let mut own: Vec<Arc<str>> = Vec::with_capacity(keys.len());
        for &key in keys {
            if own.iter().any(|have| **have == *key) {
                continue;
            }
            if let Some((known, _)) = self.keys.get_key_value(key) {
                own.push(known.clone());
            } else {
                let key: Arc<str> = key.into();
                self.track(&key);
                own.push(key);
            }
        }
        for key in &own {
            if let Some(tracked) = self.keys.get_mut(key) {
                tracked.listeners.push(listener);
                // Found by a prefix it was not asked for by name.
                grown |= tracked.named_by == 0;
                tracked.named_by += 1;
            }
        }
        let mut covers: Vec<Arc<str>> = Vec::with_capacity(prefixes.len());
        for &prefix in prefixes {
            if covers.iter().any(|have| **have == *prefix) {
                continue;
            }
            let since = self.generation + 1;
            let prefix = self.prefixes.get_key_value(prefix).map_or_else(|| prefix.into(), |(known, _)| known.clone());
            let covered = self.prefixes.entry(prefix.clone()).or_insert_with(|| {
                grown = true;
                Covered { since, answered: false, listeners: Vec::new() }
            });
            covered.listeners.push(listener);
            let meant = self.keys.iter_mut().filter(|(key, _)| names::begins_with(key, &prefix));
            for (_, tracked) in meant {
                if !tracked.listeners.contains(&listener) {
                    tracked.listeners.push(listener);
                }
            }
            covers.push(prefix);
        }
        self.generation += u64::from(grown);
        self.listeners.insert(listener, Listener { keys: own, prefixes: covers, live: false });
        self.complete_snapshot(listener, notices);
        grown
    }

    /// Begins to track a key that the next listen set has, or that a prefix has found.
    fn track(&mut self, key: &Arc<str>) {
        let covering = self.prefixes.iter().filter(|(prefix, _)| names::begins_with(key, prefix));
        let mut listeners: Vec<ListenerId> = covering.flat_map(|(_, covered)| covered.listeners.clone()).collect();
        listeners.sort_unstable();
        listeners.dedup();
        let since = self.generation + 1;
        let fresh = Tracked { state: None, session: self.session, since, named_by: 0, listeners };
        self.keys.insert(key.clone(), fresh);
    }

    /// Removes a listener. Returns whether the listen set has shrunk and must be sent.
    pub fn remove(&mut self, listener: ListenerId) -> bool {
        let Some(gone) = self.listeners.remove(&listener) else { return false };
        let mut shrunk = false;
        for key in &gone.keys {
            if let Some(tracked) = self.keys.get_mut(key) {
                tracked.named_by -= 1;
                shrunk |= tracked.named_by == 0;
            }
        }
        for prefix in &gone.prefixes {
            if let Some(covered) = self.prefixes.get_mut(prefix) {
                covered.listeners.retain(|other| *other != listener);
                if covered.listeners.is_empty() {
                    self.prefixes.remove(prefix);
                    shrunk = true;
                }
            }
        }
        let forget = |tracked: &mut Tracked| {
            tracked.listeners.retain(|other| *other != listener);
            tracked.is_idle()
        };
        if gone.prefixes.is_empty() {
            for key in &gone.keys {
                if self.keys.get_mut(key).is_some_and(forget) {
                    self.keys.remove(key);
                }
            }
        } else {
            self.keys.retain(|_, tracked| !forget(tracked));
        }
        self.generation += u64::from(shrunk);
        shrunk
    }

    /// The keys to listen to, in alphabetical order: clients that listen to the same keys ask for
    /// them in the same words.
    pub fn listen_set(&self) -> impl Iterator<Item = &str> {
        let named = self.keys.iter().filter(|(_, tracked)| tracked.named_by > 0);
        let mut keys: Vec<&str> = named.map(|(key, _)| &**key).collect();
        keys.sort_unstable();
        keys.into_iter()
    }

    /// The prefixes to listen to, in alphabetical order.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.prefixes.keys().map(|prefix| &**prefix)
    }

    /// Counts the changes of the listen set, to tell which of them a snapshot answers.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A session was joined at a revision of its store, or come back to: `returned` says whether as the same
    /// peer. Returns whether it is another session than before, in which case versions start anew and only values
    /// are compared.
    pub fn joined(&mut self, session_id: &str, revision: u64, returned: bool) -> bool {
        self.joined_at = revision;
        let before = self.session_id.as_deref();
        if before == Some(session_id) {
            self.whole = self.whole.filter(|_| returned);
            return false;
        }
        let lost = before.is_some();
        self.session_id = Some(session_id.into());
        self.session += 1;
        (self.told, self.whole) = (0, None);
        lost
    }

    /// The revision up to which this replica knows everything about the listen set as it is now: who comes back
    /// need be told only the rest. `None` if the last snapshot was of another listen set.
    pub fn known_up_to(&self) -> Option<u64> {
        (self.whole == Some(self.generation)).then_some(self.told)
    }

    /// The server's answer to the listen set of a generation: the state of each of its keys, and of each
    /// key that begins with one of its prefixes.
    pub fn snapshot(
        &mut self,
        generation: u64,
        states: impl IntoIterator<Item = (Arc<Change>, u64)>,
        notices: &mut Vec<Notice>,
    ) {
        let mut newest = 0;
        let mut waiting = Vec::new();
        for covered in self.prefixes.values_mut().filter(|covered| covered.since <= generation) {
            if !covered.answered {
                covered.answered = true;
                waiting.extend_from_slice(&covered.listeners);
            }
        }
        // What is not in the snapshot though a prefix means it is gone.
        let mut found = FxHashSet::default();
        for (change, replaced) in states {
            newest = change.version.max(newest);
            if self.prefixes.is_empty() {
                // As a rule keys are listened to by their names.
                self.answered(change, replaced, generation, &mut waiting, notices);
                continue;
            }
            if !self.keys.contains_key(&change.key) && self.is_covered(&change.key, generation) {
                self.track(&change.key);
                if let Some(tracked) = self.keys.get_mut(&change.key) {
                    tracked.since = generation;
                }
            }
            found.insert(change.key.clone());
            self.answered(change, replaced, generation, &mut waiting, notices);
        }
        if !self.prefixes.is_empty() {
            let is_gone = |key: &Arc<str>, tracked: &Tracked| {
                tracked.named_by == 0 && !found.contains(key) && self.is_covered(key, generation)
            };
            let mut gone: Vec<Arc<str>> =
                self.keys.iter().filter(|(key, tracked)| is_gone(key, tracked)).map(|(key, _)| key.clone()).collect();
            gone.sort_unstable();
            for key in gone {
                self.answered(Arc::new(Change::absent(key)), 0, generation, &mut waiting, notices);
            }
            self.keys.retain(|_, tracked| !tracked.is_idle());
        }
        // It is later than all that was told before, and than the join.
        self.told = self.told.max(newest).max(self.joined_at);
        self.whole = Some(generation);
        for listener in waiting {
            self.complete_snapshot(listener, notices);
        }
    }

    /// Whether a prefix that a snapshot of this generation answers means a key.
    fn is_covered(&self, key: &str, generation: u64) -> bool {
        let mut prefixes = self.prefixes.iter().filter(|(_, covered)| covered.since <= generation);
        prefixes.any(|(prefix, _)| names::begins_with(key, prefix))
    }

    /// What a snapshot says of one key.
    fn answered(
        &mut self,
        change: Arc<Change>,
        replaced: u64,
        generation: u64,
        waiting: &mut Vec<ListenerId>,
        notices: &mut Vec<Notice>,
    ) {
        // What an answered prefix means is known, even if it was named only after this was asked.
        let is_covered = !self.prefixes.is_empty() && self.is_covered(&change.key, generation);
        let Some(tracked) = self.keys.get_mut(&change.key) else { return };
        if tracked.since > generation && !is_covered {
            return;
        }
        let same_session = tracked.session == self.session;
        let first = tracked.state.is_none();
        // A key that a prefix finds only now is new to those who have had their snapshot.
        let differs = match &tracked.state {
            Some(known) => differs(known, &change, same_session),
            None => !change.value.is_null(),
        };
        // It went with the session it was set in.
        let is_cleared = differs && !same_session && change.value.is_null() && change.version == 0;
        let change = if is_cleared {
            Arc::new(Change { cause: Cause::Cleared, ..Change::absent(change.key.clone()) })
        } else {
            change
        };
        tracked.session = self.session;
        // Of a key that is gone the server may not know since when, but this replica may.
        let is_known = same_session && !differs && !first && change.version == 0;
        if !is_known {
            tracked.state = Some(change.clone());
        }
        for &listener in &tracked.listeners {
            match self.listeners.get(&listener) {
                Some(one) if one.live && differs => {
                    let event = KeyEvent { change: change.clone(), replaced, snapshot: false };
                    notices.push(Notice::Changed { listener, event });
                }
                Some(one) if !one.live && first && !waiting.contains(&listener) => waiting.push(listener),
                _ => {}
            }
        }
    }

    /// The server told of changes, in the order of their revisions: each with how many states it replaced.
    pub fn notified(&mut self, states: &[(Arc<Change>, u64)], notices: &mut Vec<Notice>) {
        let mut newest = 0;
        for (change, replaced) in states {
            newest = change.version.max(newest);
            self.changed(change, *replaced, notices);
        }
        self.told = self.told.max(newest);
    }

    /// A request of this client was answered with a state, which is told here if it was not notified before.
    pub fn acknowledged(&mut self, change: &Arc<Change>, notices: &mut Vec<Notice>) {
        // An answer that was lost and is given again may be older than what was told at the join.
        if change.version > self.joined_at {
            self.changed(change, 0, notices);
        }
    }

    fn changed(&mut self, change: &Arc<Change>, replaced: u64, notices: &mut Vec<Notice>) {
        if !self.prefixes.is_empty() && !self.find(change) {
            return;
        }
        let Some(tracked) = self.keys.get_mut(&change.key) else { return };
        let newer = match &tracked.state {
            // Before the snapshot nothing is told: the snapshot will hold this change or a newer one.
            None => false,
            Some(known) => tracked.session == self.session && change.version > known.version,
        };
        if !newer {
            return;
        }
        tracked.state = Some(change.clone());
        for &listener in &tracked.listeners {
            if self.listeners.get(&listener).is_some_and(|one| one.live) {
                let event = KeyEvent { change: change.clone(), replaced, snapshot: false };
                notices.push(Notice::Changed { listener, event });
            }
        }
        if tracked.is_idle() {
            self.keys.remove(&change.key);
        }
    }

    /// Tracks a key that a prefix means, now that it is there. Returns whether a change of it matters.
    fn find(&mut self, change: &Change) -> bool {
        if self.keys.contains_key(&change.key) {
            return true;
        }
        let mut answered = self.prefixes.iter().filter(|(_, covered)| covered.answered);
        // Before its snapshot a prefix has no keys; and what is gone already is no news.
        if change.value.is_null() || !answered.any(|(prefix, _)| names::begins_with(&change.key, prefix)) {
            return false;
        }
        self.track(&change.key);
        if let Some(tracked) = self.keys.get_mut(&change.key) {
            tracked.state = Some(Arc::new(Change::absent(change.key.clone())));
        }
        true
    }

    /// What the replica holds of a key; `None` if no listener has it, or nothing is known yet.
    #[inline]
    pub fn cached(&self, key: &str) -> Option<Arc<Change>> {
        match self.keys.get(key) {
            Some(tracked) => tracked.state.clone(),
            None => self.cached_by_prefix(key),
        }
    }

    /// A key that no answered prefix has found is absent.
    fn cached_by_prefix(&self, key: &str) -> Option<Arc<Change>> {
        let mut answered = self.prefixes.iter().filter(|(_, covered)| covered.answered);
        answered.any(|(prefix, _)| names::begins_with(key, prefix)).then(|| Arc::new(Change::absent(key.into())))
    }

    /// Listeners that still wait for keys of this generation or an older one: those that a
    /// refused listen request concerns.
    pub fn waiting(&self, generation: u64) -> Vec<ListenerId> {
        let waits = |key: &Arc<str>| {
            self.keys.get(key).is_some_and(|tracked| tracked.state.is_none() && tracked.since <= generation)
        };
        let prefix_waits = |prefix: &Arc<str>| {
            self.prefixes.get(prefix).is_some_and(|covered| !covered.answered && covered.since <= generation)
        };
        let waiting = self
            .listeners
            .iter()
            .filter(|(_, one)| !one.live && (one.keys.iter().any(waits) || one.prefixes.iter().any(prefix_waits)));
        waiting.map(|(id, _)| *id).collect()
    }

    /// Listeners that name one of these keys.
    pub fn naming(&self, keys: &[String]) -> Vec<ListenerId> {
        let names = |one: &Listener| one.keys.iter().any(|own| keys.iter().any(|key| **key == **own));
        self.listeners.iter().filter(|(_, one)| names(one)).map(|(id, _)| *id).collect()
    }

    fn complete_snapshot(&mut self, listener: ListenerId, notices: &mut Vec<Notice>) {
        let Some(one) = self.listeners.get_mut(&listener) else { return };
        let known = |key: &Arc<str>| self.keys.get(key).and_then(|tracked| tracked.state.clone());
        let mut states: Vec<Arc<Change>> = one.keys.iter().filter_map(known).collect();
        let is_answered = |prefix: &Arc<str>| self.prefixes.get(prefix).is_some_and(|covered| covered.answered);
        if one.live || states.len() < one.keys.len() || !one.prefixes.iter().all(is_answered) {
            return;
        }
        one.live = true;
        if !one.prefixes.is_empty() {
            let is_meant = |state: &Arc<Change>| {
                let by_prefix = one.prefixes.iter().any(|prefix| names::begins_with(&state.key, prefix));
                by_prefix && !state.value.is_null() && !one.keys.contains(&state.key)
            };
            let found = self.keys.values().filter_map(|tracked| tracked.state.as_ref()).filter(|state| is_meant(state));
            let named = states.len();
            states.extend(found.cloned());
            states[named..].sort_unstable_by(|a, b| a.key.cmp(&b.key));
        }
        notices.extend(states.into_iter().map(|change| {
            let event = KeyEvent { change, replaced: 0, snapshot: true };
            Notice::Changed { listener, event }
        }));
        notices.push(Notice::SnapshotEnd { listener });
    }
}

impl Tracked {
    /// Whether nobody asks for it any more: no listener is left, or those that are listen to a prefix of a
    /// key that is not there.
    fn is_idle(&self) -> bool {
        self.named_by == 0 && (self.listeners.is_empty() || self.state.as_ref().is_some_and(|s| s.value.is_null()))
    }
}

/// Whether two states of a key differ for somebody who saw only these two.
fn differs(known: &Change, now: &Change, same_session: bool) -> bool {
    if known.value.is_null() && now.value.is_null() {
        return false;
    }
    if same_session {
        known.version != now.version
    } else {
        known.value != now.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::value::Value;

    fn state(key: &str, value: i64, version: u64) -> Arc<Change> {
        let (author, cause, expires_at) = (None, Cause::Written, 0);
        let (key, value) = (key.into(), Value::from(value));
        Arc::new(Change { key, value, version, updated_at: version, author, cause, expires_at })
    }

    fn absent(key: &str) -> Arc<Change> {
        Arc::new(Change::absent(key.into()))
    }

    /// Notices as short text: `1:a=7`, `1:a=null`, `1:end`.
    fn told(notices: &mut Vec<Notice>) -> Vec<String> {
        let show = |notice| match notice {
            Notice::Changed { listener, event } => {
                format!("{listener}:{}={}", event.change.key, event.change.value.json())
            }
            Notice::SnapshotEnd { listener } => format!("{listener}:end"),
        };
        notices.drain(..).map(show).collect()
    }

    #[test]
    fn a_snapshot_comes_first_then_each_change_once() {
        let (mut replica, mut notices) = (Replica::default(), Vec::new());
        assert!(!replica.joined("s1", 0, true));
        assert!(replica.add(1, &["a", "b", "a"], &[], &mut notices));
        replica.notified(&[(state("a", 9, 9), 0)], &mut notices);
        assert!(told(&mut notices).is_empty(), "nothing before the snapshot");
        replica.snapshot(replica.generation(), vec![(state("a", 9, 9), 0), (absent("b"), 0)], &mut notices);
        assert_eq!(told(&mut notices), ["1:a=9", "1:b=null", "1:end"]);
        replica.notified(&[(state("a", 10, 10), 0)], &mut notices);
        replica.notified(&[(state("a", 10, 10), 0)], &mut notices);
        replica.notified(&[(state("a", 8, 8), 0)], &mut notices);
        replica.notified(&[(state("c", 11, 11), 0)], &mut notices);
        assert_eq!(told(&mut notices), ["1:a=10"]);
        assert_eq!(replica.cached("a").unwrap().version, 10);
        assert!(replica.cached("c").is_none());
    }

    #[test]
    fn a_second_listener_is_answered_from_here_or_waits_for_what_is_new() {
        let (mut replica, mut notices) = (Replica::default(), Vec::new());
        replica.joined("s1", 0, true);
        replica.add(1, &["a"], &[], &mut notices);
        replica.snapshot(1, vec![(state("a", 1, 1), 0)], &mut notices);
        notices.clear();
        assert!(!replica.add(2, &["a"], &[], &mut notices));
        assert_eq!(told(&mut notices), ["2:a=1", "2:end"]);
        assert!(replica.add(3, &["a", "b"], &[], &mut notices));
        assert!(told(&mut notices).is_empty());
        // A late answer to the first listen does not make b known.
        replica.snapshot(1, vec![(state("a", 1, 1), 0), (absent("b"), 0)], &mut notices);
        assert!(told(&mut notices).is_empty());
        replica.notified(&[(state("a", 2, 2), 0)], &mut notices);
        assert_eq!(told(&mut notices), ["1:a=2", "2:a=2"]);
        replica.snapshot(2, vec![(state("a", 2, 2), 0), (absent("b"), 0)], &mut notices);
        assert_eq!(told(&mut notices), ["3:a=2", "3:b=null", "3:end"]);
        assert!(!replica.remove(1) && !replica.remove(2) && replica.remove(3));
        assert_eq!(replica.listen_set().count(), 0);
        assert!(replica.cached("a").is_none());
    }

    #[test]
    fn coming_back_reports_only_real_differences() {
        let (mut replica, mut notices) = (Replica::default(), Vec::new());
        replica.joined("s1", 0, true);
        replica.add(1, &["a", "b", "c", "d"], &[], &mut notices);
        let first = vec![(state("a", 1, 1), 0), (state("b", 2, 2), 0), (state("c", 3, 3), 0), (absent("d"), 0)];
        replica.snapshot(1, first, &mut notices);
        notices.clear();
        assert!(!replica.joined("s1", 0, true), "the same session goes on");
        let again = vec![(state("a", 1, 1), 0), (state("b", 5, 5), 0), (absent("c"), 0), (absent("d"), 0)];
        replica.snapshot(1, again, &mut notices);
        assert_eq!(told(&mut notices), ["1:b=5", "1:c=null"]);
        assert!(replica.joined("s2", 0, true), "another session");
        replica.notified(&[(state("a", 7, 70), 0)], &mut notices);
        assert!(told(&mut notices).is_empty(), "nothing of the new session before its snapshot");
        let anew = vec![(state("a", 1, 9), 0), (state("b", 6, 1), 0), (absent("c"), 0), (state("d", 4, 2), 0)];
        replica.snapshot(1, anew, &mut notices);
        assert_eq!(told(&mut notices), ["1:b=6", "1:d=4"]);
        replica.notified(&[(state("b", 7, 10), 0)], &mut notices);
        assert_eq!(told(&mut notices), ["1:b=7"]);
    }

    #[test]
    fn a_prefix_finds_what_is_there_and_what_comes_and_forgets_what_goes() {
        let (mut replica, mut notices) = (Replica::default(), Vec::new());
        replica.joined("s1", 0, true);
        assert!(replica.add(1, &["pin"], &["hand/"], &mut notices));
        assert_eq!(
            (replica.listen_set().collect::<Vec<_>>(), replica.prefixes().collect::<Vec<_>>()),
            (vec!["pin"], vec!["hand/"])
        );
        replica.notified(&[(state("hand/z", 1, 1), 0)], &mut notices);
        assert!(replica.cached("hand/z").is_none());
        replica.snapshot(
            1,
            vec![(absent("pin"), 0), (state("hand/b", 1, 1), 0), (state("hand/a", 2, 2), 0)],
            &mut notices,
        );
        assert_eq!(told(&mut notices), ["1:pin=null", "1:hand/a=2", "1:hand/b=1", "1:end"]);
        assert!(replica.cached("hand/none").unwrap().value.is_null(), "known to be absent");
        assert!(replica.cached("other").is_none());
        replica.notified(&[(state("hand/c", 3, 3), 0)], &mut notices);
        replica.notified(&[(state("other", 4, 4), 0)], &mut notices);
        let gone = Arc::new(Change { version: 5, cause: Cause::PeerLeft, ..Change::absent("hand/b".into()) });
        replica.notified(&[(gone.clone(), 0)], &mut notices);
        replica.notified(&[(gone.clone(), 0)], &mut notices);
        assert_eq!(told(&mut notices), ["1:hand/c=3", "1:hand/b=null"]);
        // A listener that another's prefix answers has its snapshot at once; naming a key widens the set.
        assert!(!replica.add(2, &[], &["hand/", "hand/"], &mut notices));
        assert_eq!(told(&mut notices), ["2:hand/a=2", "2:hand/c=3", "2:end"]);
        assert!(replica.add(3, &["hand/a"], &[], &mut notices));
        assert_eq!(told(&mut notices), ["3:hand/a=2", "3:end"]);
        assert!(!replica.remove(1) || replica.listen_set().eq(["hand/a"]));
        assert!(replica.remove(2), "the last with this prefix");
        assert!(replica.cached("hand/c").is_none() && replica.cached("hand/a").is_some());
        assert!(replica.remove(3));
        assert_eq!(replica.listen_set().count() + replica.prefixes().count(), 0);
    }

    #[test]
    fn a_key_that_is_named_while_its_prefix_is_asked_for_is_in_the_snapshot() {
        let (mut replica, mut notices) = (Replica::default(), Vec::new());
        replica.joined("s1", 0, true);
        assert!(replica.add(1, &[], &[""], &mut notices));
        assert!(replica.add(2, &["a", "none"], &[], &mut notices));
        replica.snapshot(1, vec![(state("a", 1, 1), 0), (state("b", 2, 2), 0)], &mut notices);
        assert_eq!(told(&mut notices), ["1:a=1", "1:b=2", "1:end"]);
        replica.snapshot(2, vec![(state("a", 1, 1), 0), (absent("none"), 0), (state("b", 2, 2), 0)], &mut notices);
        assert_eq!(told(&mut notices), ["2:a=1", "2:none=null", "2:end"]);
    }

    #[test]
    fn what_a_snapshot_leaves_out_is_gone() {
        let (mut replica, mut notices) = (Replica::default(), Vec::new());
        replica.joined("s1", 0, true);
        replica.add(1, &[], &[""], &mut notices);
        replica.snapshot(1, vec![(state("a", 1, 1), 0), (state("b", 2, 2), 0)], &mut notices);
        notices.clear();
        replica.snapshot(1, vec![(state("b", 2, 2), 0), (state("c", 3, 3), 1)], &mut notices);
        assert_eq!(told(&mut notices), ["1:c=3", "1:a=null"]);
        assert!(replica.joined("s2", 0, true), "another session");
        replica.snapshot(1, vec![(state("b", 2, 1), 0)], &mut notices);
        assert!(matches!(&notices[..], [Notice::Changed { event, .. }] if event.change.cause == Cause::Cleared));
        assert_eq!(told(&mut notices), ["1:c=null"]);
    }

    #[test]
    fn keys_that_show_locks_are_found_only_by_who_asks_for_them() {
        let (mut replica, mut notices) = (Replica::default(), Vec::new());
        replica.joined("s1", 0, true);
        replica.add(1, &[], &[""], &mut notices);
        replica.add(2, &[], &["$lock/"], &mut notices);
        replica.snapshot(2, vec![(state("$lock/a", 1, 1), 0)], &mut notices);
        assert_eq!(told(&mut notices), ["1:end", "2:$lock/a=1", "2:end"]);
    }

    #[test]
    fn an_old_answer_that_is_given_again_does_not_bring_back_what_is_gone() {
        for (keys, prefixes) in [(&["a"][..], &[][..]), (&[], &["a"])] {
            let (mut replica, mut notices) = (Replica::default(), Vec::new());
            replica.joined("s1", 0, false);
            replica.add(1, keys, prefixes, &mut notices);
            replica.snapshot(1, keys.iter().map(|key| (absent(key), 0)), &mut notices);
            notices.clear();
            // A set of this client made revision 5, somebody's removal 6, and the answer was lost.
            replica.joined("s1", 6, true);
            replica.notified(&[(Arc::new(Change { version: 6, ..Change::absent("a".into()) }), 0)], &mut notices);
            notices.clear();
            replica.acknowledged(&state("a", 1, 5), &mut notices);
            assert!(told(&mut notices).is_empty());
            replica.acknowledged(&state("a", 2, 7), &mut notices);
            assert_eq!(told(&mut notices), ["1:a=2"]);
        }
    }

    #[test]
    fn what_is_known_is_of_the_listen_set_as_it_is() {
        let (mut replica, mut notices) = (Replica::default(), Vec::new());
        replica.joined("s1", 9, false);
        assert_eq!(replica.known_up_to(), None);
        replica.add(1, &["a"], &[], &mut notices);
        replica.notified(&[(state("a", 8, 8), 0)], &mut notices);
        assert_eq!(replica.known_up_to(), None, "not before the snapshot");
        replica.snapshot(1, [(state("a", 8, 8), 0)], &mut notices);
        replica.acknowledged(&state("a", 20, 20), &mut notices);
        assert_eq!(replica.known_up_to(), Some(9), "what comes before one's own write may be under way");
        replica.notified(&[(state("a", 20, 20), 0)], &mut notices);
        replica.joined("s1", 30, true);
        assert_eq!(replica.known_up_to(), Some(20));
        replica.add(2, &["b"], &[], &mut notices);
        assert_eq!(replica.known_up_to(), None);
        replica.snapshot(2, [(state("a", 20, 20), 0), (state("b", 5, 5), 0)], &mut notices);
        assert_eq!(replica.known_up_to(), Some(30), "a snapshot is of the join or later");
        replica.joined("s1", 30, false);
        assert_eq!(replica.known_up_to(), None, "another peer may not read the same");
    }
}
