//! A client's copy of the keys it listens to.
//!
//! Many listeners, each with its own keys, become one listen set on the wire; what comes back is
//! compared with what is known, and only real differences reach the listeners. Pure: it is told
//! what arrived and answers with notices, which the client then delivers.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::room::Change;

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
    listeners: Vec<ListenerId>,
}

#[derive(Debug)]
struct Listener {
    keys: Vec<Arc<str>>,
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
/// replica.add(1, &["spotlight"], &mut notices);
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
    listeners: BTreeMap<ListenerId, Listener>,
    generation: u64,
    session: u64,
    session_id: Option<Arc<str>>,
}

impl Replica {
    /// Adds a listener. Keys that are known already are answered from here; if all are, its
    /// snapshot is complete at once. Returns whether the listen set has grown and must be sent.
    pub fn add(&mut self, listener: ListenerId, keys: &[&str], notices: &mut Vec<Notice>) -> bool {
        let mut own: Vec<Arc<str>> = Vec::with_capacity(keys.len());
        let mut grown = false;
        for &key in keys {
            if own.iter().any(|have| **have == *key) {
                continue;
            }
            if let Some((known, _)) = self.keys.get_key_value(key) {
                own.push(known.clone());
            } else {
                let key: Arc<str> = key.into();
                let since = self.generation + 1;
                let fresh = Tracked { state: None, session: self.session, since, listeners: Vec::new() };
                self.keys.insert(key.clone(), fresh);
                own.push(key);
                grown = true;
            }
        }
        for key in &own {
            if let Some(tracked) = self.keys.get_mut(key) {
                tracked.listeners.push(listener);
            }
        }
        self.generation += u64::from(grown);
        self.listeners.insert(listener, Listener { keys: own, live: false });
        self.complete_snapshot(listener, notices);
        grown
    }

    /// Removes a listener. Returns whether the listen set has shrunk and must be sent.
    pub fn remove(&mut self, listener: ListenerId) -> bool {
        let Some(gone) = self.listeners.remove(&listener) else { return false };
        let mut shrunk = false;
        for key in gone.keys {
            if let Some(tracked) = self.keys.get_mut(&key) {
                tracked.listeners.retain(|other| *other != listener);
                if tracked.listeners.is_empty() {
                    self.keys.remove(&key);
                    shrunk = true;
                }
            }
        }
        self.generation += u64::from(shrunk);
        shrunk
    }

    /// The keys to listen to, in alphabetical order: clients that listen to the same keys ask for
    /// them in the same words.
    pub fn listen_set(&self) -> impl Iterator<Item = &str> {
        let mut keys: Vec<&str> = self.keys.keys().map(|key| &**key).collect();
        keys.sort_unstable();
        keys.into_iter()
    }

    /// Counts the changes of the listen set, to tell which of them a snapshot answers.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A session was joined or come back to. Returns whether it is another one than before, in
    /// which case versions start anew and only values are compared.
    pub fn join_session(&mut self, session_id: &str) -> bool {
        let before = self.session_id.as_deref();
        if before == Some(session_id) {
            return false;
        }
        let lost = before.is_some();
        self.session_id = Some(session_id.into());
        self.session += 1;
        lost
    }

    /// The server's answer to the listen set of a generation: the state of each of its keys.
    pub fn snapshot(
        &mut self,
        generation: u64,
        states: impl IntoIterator<Item = (Arc<Change>, u64)>,
        notices: &mut Vec<Notice>,
    ) {
        let mut waiting = Vec::new();
        for (change, replaced) in states {
            let Some(tracked) = self.keys.get_mut(&change.key) else { continue };
            if tracked.since > generation {
                continue;
            }
            let same_session = tracked.session == self.session;
            let differs = tracked.state.as_ref().is_none_or(|known| differs(known, &change, same_session));
            let first = tracked.state.is_none();
            tracked.session = self.session;
            tracked.state = Some(change.clone());
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
        for listener in waiting {
            self.complete_snapshot(listener, notices);
        }
    }

    /// A change was notified, or acknowledged to this client; whichever comes first counts.
    pub fn changed(&mut self, change: &Arc<Change>, replaced: u64, notices: &mut Vec<Notice>) {
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
    }

    /// What the replica holds of a key; `None` if no listener has it, or nothing is known yet.
    #[inline]
    pub fn cached(&self, key: &str) -> Option<Arc<Change>> {
        self.keys.get(key)?.state.clone()
    }

    /// Listeners that still wait for keys of this generation or an older one: those that a
    /// refused listen request concerns.
    pub fn waiting(&self, generation: u64) -> Vec<ListenerId> {
        let waits = |key: &Arc<str>| {
            self.keys.get(key).is_some_and(|tracked| tracked.state.is_none() && tracked.since <= generation)
        };
        let waiting = self.listeners.iter().filter(|(_, one)| !one.live && one.keys.iter().any(waits));
        waiting.map(|(id, _)| *id).collect()
    }

    fn complete_snapshot(&mut self, listener: ListenerId, notices: &mut Vec<Notice>) {
        let Some(one) = self.listeners.get_mut(&listener) else { return };
        let known = |key: &Arc<str>| self.keys.get(key).and_then(|tracked| tracked.state.clone());
        let states: Vec<Arc<Change>> = one.keys.iter().filter_map(known).collect();
        if one.live || states.len() < one.keys.len() {
            return;
        }
        one.live = true;
        notices.extend(states.into_iter().map(|change| {
            let event = KeyEvent { change, replaced: 0, snapshot: true };
            Notice::Changed { listener, event }
        }));
        notices.push(Notice::SnapshotEnd { listener });
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
        let author = None;
        Arc::new(Change { key: key.into(), value: Value::from(value), version, updated_at: version, author })
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
        assert!(!replica.join_session("s1"));
        assert!(replica.add(1, &["a", "b", "a"], &mut notices));
        replica.changed(&state("a", 9, 9), 0, &mut notices);
        assert!(told(&mut notices).is_empty(), "nothing before the snapshot");
        replica.snapshot(replica.generation(), vec![(state("a", 9, 9), 0), (absent("b"), 0)], &mut notices);
        assert_eq!(told(&mut notices), ["1:a=9", "1:b=null", "1:end"]);
        replica.changed(&state("a", 10, 10), 0, &mut notices);
        replica.changed(&state("a", 10, 10), 0, &mut notices);
        replica.changed(&state("a", 8, 8), 0, &mut notices);
        replica.changed(&state("c", 11, 11), 0, &mut notices);
        assert_eq!(told(&mut notices), ["1:a=10"]);
        assert_eq!(replica.cached("a").unwrap().version, 10);
        assert!(replica.cached("c").is_none());
    }

    #[test]
    fn a_second_listener_is_answered_from_here_or_waits_for_what_is_new() {
        let (mut replica, mut notices) = (Replica::default(), Vec::new());
        replica.join_session("s1");
        replica.add(1, &["a"], &mut notices);
        replica.snapshot(1, vec![(state("a", 1, 1), 0)], &mut notices);
        notices.clear();
        assert!(!replica.add(2, &["a"], &mut notices));
        assert_eq!(told(&mut notices), ["2:a=1", "2:end"]);
        assert!(replica.add(3, &["a", "b"], &mut notices));
        assert!(told(&mut notices).is_empty());
        // A late answer to the first listen does not make b known.
        replica.snapshot(1, vec![(state("a", 1, 1), 0), (absent("b"), 0)], &mut notices);
        assert!(told(&mut notices).is_empty());
        replica.changed(&state("a", 2, 2), 0, &mut notices);
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
        replica.join_session("s1");
        replica.add(1, &["a", "b", "c", "d"], &mut notices);
        let first = vec![(state("a", 1, 1), 0), (state("b", 2, 2), 0), (state("c", 3, 3), 0), (absent("d"), 0)];
        replica.snapshot(1, first, &mut notices);
        notices.clear();
        assert!(!replica.join_session("s1"), "the same session goes on");
        let again = vec![(state("a", 1, 1), 0), (state("b", 5, 5), 0), (absent("c"), 0), (absent("d"), 0)];
        replica.snapshot(1, again, &mut notices);
        assert_eq!(told(&mut notices), ["1:b=5", "1:c=null"]);
        assert!(replica.join_session("s2"), "another session");
        replica.changed(&state("a", 7, 70), 0, &mut notices);
        assert!(told(&mut notices).is_empty(), "nothing of the new session before its snapshot");
        let anew = vec![(state("a", 1, 9), 0), (state("b", 6, 1), 0), (absent("c"), 0), (state("d", 4, 2), 0)];
        replica.snapshot(1, anew, &mut notices);
        assert_eq!(told(&mut notices), ["1:b=6", "1:d=4"]);
        replica.changed(&state("b", 7, 10), 0, &mut notices);
        assert_eq!(told(&mut notices), ["1:b=7"]);
    }
}
