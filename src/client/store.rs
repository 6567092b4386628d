//! `Store`: what is shared by everyone in the room.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::api::{Action, Shared, Subscription};
use super::dispatch::{lock, ListenerCell};
use super::listener::KeyChangeListener;
use super::lock::{Acquire, Lock, LockOptions, Wanted, Wanting};
use super::moment::Moment;
use super::requests::{Answer, Expected, RequestKind};
use super::update::Update;
use crate::core::merge::Merge;
use crate::core::names;
use crate::core::room::Change;
use crate::core::value::Value;
use crate::core::wire::{self, Snapshot, Usage};
use crate::core::write::{Check, Expiry, LockGuard, Transaction, Write};
use crate::{Error, ErrorCode};

/// The store of the room a client is in. Cloning shares it; it may outlive its client, and then
/// answers `CLOSED`.
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

/// Which keys are listened to, or read.
///
/// ```
/// use sessionstore::Selector;
/// let hands_and_pin = Selector::keys(["pinned"]).and_prefix("hand/");
/// assert_eq!(hands_and_pin, Selector { keys: vec!["pinned".into()], prefixes: vec!["hand/".into()] });
/// assert_eq!(Selector::all(), Selector::prefix(""));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Single keys, absent ones included.
    pub keys: Vec<String>,
    /// And every key that is set and begins with one of these. Keys that show locks (`$lock/...`) are
    /// meant only by a prefix that begins with `$`.
    pub prefixes: Vec<String>,
}

impl Selector {
    /// Single keys.
    pub fn keys<K: Into<String>>(keys: impl IntoIterator<Item = K>) -> Selector {
        Selector { keys: keys.into_iter().map(Into::into).collect(), prefixes: Vec::new() }
    }

    /// All keys that begin with a text.
    pub fn prefix(prefix: impl Into<String>) -> Selector {
        Selector::default().and_prefix(prefix)
    }

    /// All keys.
    pub fn all() -> Selector {
        Selector::prefix("")
    }

    /// These keys, and all that begin with a text.
    pub fn and_prefix(mut self, prefix: impl Into<String>) -> Selector {
        self.prefixes.push(prefix.into());
        self
    }

    fn check(&self) -> Result<(), Error> {
        if self.keys.is_empty() && self.prefixes.is_empty() {
            return Err(Error::new(ErrorCode::InvalidArgument, "no key and no prefix is named"));
        }
        self.keys.iter().try_for_each(|key| names::check_key(key))?;
        self.prefixes.iter().try_for_each(|prefix| names::check_prefix(prefix))
    }
}

impl Store {
    /// Sets a key; `null` removes it. The result is the key's new state. A set replaces: a time to live or
    /// a peer it was bound to are forgotten.
    ///
    /// Refused with `INVALID_KEY`, `VALUE_TOO_LARGE`, `TOO_MANY_KEYS`, `STORE_FULL`, `FORBIDDEN`, changing
    /// nothing.
    pub fn set(&self, key: &str, value: Value) -> Action<Arc<Change>> {
        self.send_set(key, value, None)
    }

    /// Sets a key only if it has this version now, 0 meaning that it is absent. Otherwise
    /// `VERSION_CONFLICT` has what the key holds: [`Error::current`].
    pub fn set_if(&self, key: &str, value: Value, version: u64) -> Action<Arc<Change>> {
        self.send_set(key, value, Some(version))
    }

    /// Removes a key. That it was absent already is fine.
    pub fn remove(&self, key: &str) -> Action<Arc<Change>> {
        self.send_set(key, Value::null(), None)
    }

    /// Adds an integer to a key's number, exactly; an absent key counts as 0. However many peers add at
    /// once, none of it is lost. The result has the sum.
    ///
    /// Refused with `WRONG_TYPE` when the key holds something else, `NUMBER_OVERFLOW`, and as a set is.
    pub fn add(&self, key: &str, amount: i64) -> Action<Arc<Change>> {
        self.merge(key, Merge::Add(amount.into()))
    }

    /// Merges into a key's value on the server; see [`Merge`] for what there is. The result is the key's
    /// new state. A time to live, and the peer it is bound to, stay as they are.
    pub fn merge(&self, key: &str, merge: Merge) -> Action<Arc<Change>> {
        self.write(Write::merge(key, merge), None)
    }

    /// Gives a key another time to live and leaves its value; `KEY_ABSENT` if there is none.
    pub fn touch(&self, key: &str, expiry: Expiry) -> Action<Arc<Change>> {
        self.write(Write::touch(key, expiry), None)
    }

    /// Writes a key with everything that can be said of a write: the version it must have, how long it
    /// lives, whether it goes with this peer; and, with a lock's [`guard`](Lock::guard), only while that
    /// lock is held (`LOCK_LOST` otherwise).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use sessionstore::{Store, core::write::{Expiry, Write}};
    /// # fn example(store: &Store) -> Result<(), sessionstore::Error> {
    /// let hand = Write { bound: Some(true), ..Write::set("hand/p1", true.into()) };
    /// store.write(hand, None).wait(Duration::from_secs(10))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn write(&self, write: Write<'_>, lock: Option<LockGuard<'_>>) -> Action<Arc<Change>> {
        let checked = names::check_key(&write.key);
        // What is written is taken along as the text it is sent as.
        let mut text = Vec::new();
        wire::write_write(&mut text, &write, lock.as_ref());
        let is_guarded = lock.is_some() || is_version(write.expected);
        self.send_write(checked, is_guarded, wire::write_method(&write), text, Expected::State, state)
    }

    /// Checks and writes several keys in one revision, or changes nothing. The result has the state of
    /// each key written.
    ///
    /// Refused with `CHECK_FAILED` (or `LOCK_LOST`) and the number of the first check that failed
    /// ([`Error::check`]); with what a write of it would be refused with, and its number
    /// ([`Error::write`]); with `INVALID_ARGUMENT` for more than 200 checks and writes.
    pub fn transact(&self, transaction: Transaction<'_>) -> Action<Snapshot> {
        let mut text = Vec::new();
        wire::write_transact(&mut text, &transaction);
        let is_guard = |check: &Check<'_>| match check {
            Check::Version { version, .. } => is_version(Some(*version)),
            Check::Lock(_) => true,
            Check::Exists { .. } | Check::Absent { .. } | Check::Equals { .. } => false,
        };
        let is_guarded = transaction.checks.iter().any(is_guard)
            || transaction.writes.iter().any(|write| is_version(write.expected));
        self.send_write(Ok(()), is_guarded, "transact", text, Expected::States, states)
    }

    /// Reads a key, computes its new value, and sets it if nobody changed it meanwhile; otherwise again,
    /// with what it holds by then.
    ///
    /// `change` is given the current state and returns the new value, or `None` to leave the key as it is.
    /// It may be called many times, so it should do nothing but compute; it runs where the result is told:
    /// on a dispatch thread, or, with [`Update::wait`], on the thread that waits.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use sessionstore::{Change, Store};
    /// # fn example(store: &Store) -> Result<(), sessionstore::Error> {
    /// let doubled = |state: &Change| Some((state.value.as_integer().unwrap_or(1) * 2).into());
    /// store.update("stakes", doubled).wait(Duration::from_secs(10))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn update(&self, key: &str, mut change: impl FnMut(&Change) -> Option<Value> + Send + 'static) -> Update {
        self.update_shared(key, move |state| change(state))
    }

    /// The same for one who keeps the states.
    pub(crate) fn update_shared(
        &self,
        key: &str,
        change: impl FnMut(&Arc<Change>) -> Option<Value> + Send + 'static,
    ) -> Update {
        Update::new(self.clone(), key, Box::new(change))
    }

    /// Asks the server for a key's current state. An absent key has the value `null`.
    pub fn get(&self, key: &str) -> Action<Arc<Change>> {
        let (checked, key) = (names::check_key(key), key.to_owned());
        let write = move |out: &mut Vec<u8>, id| wire::write_get(out, id, &key);
        Action::new(&self.shared, RequestKind::Read(Expected::State), checked, write, state)
    }

    /// Asks the server for the states of several keys at one revision.
    pub fn read(&self, selector: &Selector) -> Action<Snapshot> {
        let Selector { keys, prefixes } = selector.clone();
        let write = move |out: &mut Vec<u8>, id| wire::write_read(out, id, &keys, &prefixes);
        Action::new(&self.shared, RequestKind::Read(Expected::States), selector.check(), write, states)
    }

    /// Asks the server for the keys that are set and begin with a text, in alphabetical order.
    pub fn keys(&self, prefix: &str) -> Action<Vec<String>> {
        let (checked, prefix) = (names::check_prefix(prefix), prefix.to_owned());
        let write = move |out: &mut Vec<u8>, id| wire::write_key_list(out, id, &prefix);
        let keys = |answer| if let Answer::Keys(keys) = answer { Ok(keys) } else { Err(unexpected()) };
        Action::new(&self.shared, RequestKind::Read(Expected::Keys), checked, write, keys)
    }

    /// Asks the server how much of its limits the store uses.
    pub fn usage(&self) -> Action<Usage> {
        let write = |out: &mut Vec<u8>, id| wire::write_bare(out, id, "usage");
        let usage = |answer| if let Answer::Usage(usage) = answer { Ok(usage) } else { Err(unexpected()) };
        Action::new(&self.shared, RequestKind::Read(Expected::Usage), Ok(()), write, usage)
    }

    /// What this client knows of a key it listens to, without asking the server; `None` when no
    /// listener has it or its first value is still under way.
    #[inline]
    pub fn cached(&self, key: &str) -> Option<Arc<Change>> {
        lock(&self.shared.listening).replica.cached(key)
    }

    /// Takes a lock, which is this client's until it is released, lost, or dropped. Who holds it is shown
    /// to everybody by the key `$lock/` and its name, which can be listened to as any other.
    ///
    /// `lost` is called, once and on a dispatch thread, if the lock is lost: with `LOCK_LOST` when it could
    /// not be renewed in time or an operator took it away, `FORBIDDEN` when the rules do not allow it any
    /// more, `SESSION_LOST`, or `CLOSED`. It is dropped when the lock is released, and when it is refused: before the result is told,
    /// or `wait` returns.
    ///
    /// Refused with `LOCK_HELD` ([`Error::current`] shows by whom), after as much waiting as was asked for;
    /// `INVALID_LOCK`, `INVALID_ARGUMENT`, `TOO_MANY_LOCKS`, `FORBIDDEN`. After `TIMEOUT` and
    /// `SESSION_LOST` the lock is given back, or ends with its time.
    pub fn lock(&self, name: &str, options: LockOptions, lost: impl FnOnce(Error) + Send + 'static) -> Action<Lock> {
        let LockOptions { ttl_ms, wait_ms } = options;
        let acquire = Acquire {
            ttl: Duration::from_millis(ttl_ms),
            asked_at: Moment::now(),
            waits: wait_ms > 0,
            wanted: Wanted::new(Box::new(lost)),
        };
        let wanted = Wanting::new(&self.shared, &acquire);
        let (checked, name) = (names::check_lock(name), name.to_owned());
        let write = move |out: &mut Vec<u8>, id| wire::write_acquire(out, id, &name, ttl_ms, wait_ms);
        let shared = self.shared.clone();
        let held = move |answer| match answer {
            Answer::Lock(held) => Ok(wanted.lock(shared, held)),
            _ => Err(unexpected()),
        };
        let action = Action::new(&self.shared, RequestKind::Acquire(acquire), checked, write, held);
        action.within(Duration::from_millis(wait_ms))
    }

    /// Listens to keys: first their current values (`null` when absent), then
    /// [`SnapshotEnd`](super::KeyChange::SnapshotEnd), then each change, this peer's own included.
    ///
    /// Errors: `INVALID_KEY`; `INVALID_ARGUMENT` without keys; `CLOSED`. The listener is then
    /// dropped before this returns.
    pub fn listen(&self, keys: &[&str], listener: impl KeyChangeListener + 'static) -> Result<Subscription, Error> {
        self.listen_to(&Selector::keys(keys.iter().copied()), listener)
    }

    /// The same for keys, prefixes, or everything. Of a prefix the keys that are set come first, then
    /// every key that comes, changes, or goes.
    pub fn listen_to(
        &self,
        selector: &Selector,
        listener: impl KeyChangeListener + 'static,
    ) -> Result<Subscription, Error> {
        selector.check()?;
        let mut listening = lock(&self.shared.listening);
        if listening.closed {
            return Err(ErrorCode::Closed.into());
        }
        listening.last_id += 1;
        let cell = ListenerCell::new(listening.last_id, Box::new(listener));
        listening.cells.insert(cell.id, cell.clone());
        let mut notices = Vec::new();
        let keys: Vec<&str> = selector.keys.iter().map(String::as_str).collect();
        let prefixes: Vec<&str> = selector.prefixes.iter().map(String::as_str).collect();
        let grown = listening.replica.add(cell.id, &keys, &prefixes, &mut notices);
        self.shared.queue_notices(&listening, &mut notices);
        drop(listening);
        self.shared.dispatcher.announce();
        if grown {
            self.shared.work.notify_one();
        }
        Ok(Subscription::new(self.shared.clone(), cell))
    }

    /// The room's name as this client was told it; empty when only the token knows.
    pub fn room(&self) -> &str {
        &self.shared.options.room
    }

    /// The id of the current session.
    pub fn session_id(&self) -> Arc<str> {
        lock(&self.shared.status).session_id.clone()
    }

    fn send_set(&self, key: &str, value: Value, expected: Option<u64>) -> Action<Arc<Change>> {
        let (checked, key) = (names::check_key(key), key.to_owned());
        let write = move |out: &mut Vec<u8>, id| wire::write_set(out, id, &key, &value, expected);
        Action::new(&self.shared, change(is_version(expected), Expected::State), checked, write, state)
    }

    /// Sends params that are written already.
    fn send_write<T: 'static>(
        &self,
        checked: Result<(), Error>,
        is_guarded: bool,
        method: &'static str,
        params: Vec<u8>,
        expected: Expected,
        convert: fn(Answer) -> Result<T, Error>,
    ) -> Action<T> {
        let write = move |out: &mut Vec<u8>, id| wire::write_request(out, id, method, &params);
        Action::new(&self.shared, change(is_guarded, expected), checked, write, convert)
    }
}

/// Whether a key must have a version, which means something in one session only. That it must be absent means
/// the same in all.
fn is_version(expected: Option<u64>) -> bool {
    expected.is_some_and(|version| version > 0)
}

fn change(is_guarded: bool, expected: Expected) -> RequestKind {
    if is_guarded {
        RequestKind::Guarded(expected)
    } else {
        RequestKind::Write(expected)
    }
}

fn state(answer: Answer) -> Result<Arc<Change>, Error> {
    match answer {
        Answer::State(state) => Ok(state),
        _ => Err(unexpected()),
    }
}

fn states(answer: Answer) -> Result<Snapshot, Error> {
    match answer {
        Answer::States(snapshot) => Ok(snapshot),
        _ => Err(unexpected()),
    }
}

/// Each request says what its answer is, so this is a fault.
fn unexpected() -> Error {
    Error::new(ErrorCode::Internal, "the answer is to another question")
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("room", &self.room()).finish_non_exhaustive()
    }
}
