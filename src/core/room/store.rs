//! The keys of a session: how they are written, and what becomes of them by themselves.

use std::borrow::Cow;

use super::*;
use crate::core::limits::{LARGER_ON_THE_WAY, MAX_TRANSACTION_PARTS, MAX_TTL_MS};
use crate::core::merge::{self, Merge};
use crate::core::write::{Check, Expiry, Operation};

/// What a key is about to become.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    /// `null`: the key is removed.
    pub value: Value,
    pub cause: Cause,
    /// When it goes by itself; 0: never.
    pub deadline: Time,
    /// With whom it goes.
    pub owner: Option<PeerHandle>,
}

/// What a key is, as far as a write looks at it.
struct Current<'a> {
    /// `None` while it is absent.
    value: Option<&'a Value>,
    version: u64,
    deadline: Time,
    owner: Option<PeerHandle>,
}

/// One key of a transaction, after the writes so far.
struct Part<'a> {
    key: Cow<'a, str>,
    staged: Staged,
    /// Whether any write changed something.
    changed: bool,
    /// The number of the last write.
    nth: usize,
}

impl Room {
    pub(super) fn write(
        &mut self,
        now: Time,
        peer: PeerHandle,
        write: Write<'_>,
        lock: Option<LockGuard<'_>>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Error> {
        let limits = &*self.limits;
        let session = Session::of(&mut self.session, peer)?;
        check_writable(&write.key)?;
        if let Some(lock) = &lock {
            session.check_lock(lock)?;
        }
        let slot = session.key_index.get(&write.key);
        let entry = slot.map(|slot| &session.keys[slot.index as usize]);
        let before = entry.and_then(|entry| entry.state.clone());
        let absent = || Arc::new(Change::absent((&*write.key).into()));
        let current = Current {
            value: before.as_ref().map(|before| &before.value),
            version: before.as_ref().map_or(0, |before| before.version),
            deadline: entry.map_or(0, |entry| entry.deadline),
            owner: entry.and_then(|entry| entry.owner),
        };
        session.check_write(Actor::Peer(peer), &write, current.value.is_some())?;
        if write.expected.is_some_and(|expected| expected != current.version) {
            return Err(session.conflict(Actor::Peer(peer), &before.unwrap_or_else(absent)));
        }
        let (actor, most) = (Actor::Peer(peer), limits.max_value_bytes);
        let Some(staged) = stage(now, actor, write.operation, write.expiry, write.bound, &current, most)? else {
            return Ok(Reply::State(before.unwrap_or_else(absent)));
        };
        let freed = before.as_ref().map_or(0, |before| before.value.json().len() + write.key.len());
        let used = if staged.value.is_null() { 0 } else { staged.value.json().len() + write.key.len() };
        session.check_growth(session.stored + usize::from(before.is_none()), session.bytes - freed + used, limits)?;
        let slot = slot.unwrap_or_else(|| session.add_key(&write.key));
        let author = session.peers[peer.slot as usize].identity.clone();
        session.revision += 1;
        Ok(Reply::State(session.commit(now, slot, staged, Some(author), false, events)))
    }

    pub(super) fn transact(
        &mut self,
        now: Time,
        actor: Actor<'_>,
        transaction: Transaction<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Error> {
        let limits = self.limits.clone();
        let Transaction { checks, writes } = transaction;
        let parts = checks.len() + writes.len();
        if parts > MAX_TRANSACTION_PARTS {
            let message = format!("{parts} checks and writes; a transaction has {MAX_TRANSACTION_PARTS} at most");
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        let session = self.session_for(actor)?;
        for (nth, check) in checks.iter().enumerate() {
            session.check(actor, check).map_err(|error| error.at_check(nth))?;
        }
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut places: BTreeMap<Cow<'_, str>, usize> = BTreeMap::new();
        for (nth, write) in writes.into_iter().enumerate() {
            let place = places.get(&write.key).copied();
            let so_far = place.and_then(|place| parts.get(place));
            let (key, part) =
                session.stage_part(now, actor, nth, write, so_far, &limits).map_err(|e| e.at_write(nth))?;
            match place {
                Some(place) => parts[place] = Part { changed: parts[place].changed || part.changed, ..part },
                None => {
                    places.insert(key, parts.len());
                    parts.push(part);
                }
            }
        }
        // Set and removed in one go is as if nothing had been.
        parts.iter_mut().for_each(|part| part.changed &= !part.staged.value.is_null() || session.is_set(&part.key));
        let (mut stored, mut bytes) = (session.stored, session.bytes);
        for part in parts.iter().filter(|part| part.changed) {
            let before = session.state(&part.key);
            check_size(&part.staged.value, before.map(|before| &before.value), limits.max_value_bytes)
                .map_err(|error| error.at_write(part.nth))?;
            if let Some(before) = before {
                stored -= 1;
                bytes -= part.key.len() + before.value.json().len();
            }
            if !part.staged.value.is_null() {
                stored += 1;
                bytes += part.key.len() + part.staged.value.json().len();
            }
        }
        session.check_growth(stored, bytes, &limits)?;
        let author = session.author(actor);
        let mut left = parts.iter().filter(|part| part.changed).count();
        session.revision += u64::from(left > 0);
        let mut states = Vec::with_capacity(parts.len());
        for part in parts {
            if !part.changed {
                states.push(
                    session.state(&part.key).cloned().unwrap_or_else(|| Arc::new(Change::absent((&*part.key).into()))),
                );
                continue;
            }
            left -= 1;
            let slot = session.key_index.get(&part.key).unwrap_or_else(|| session.add_key(&part.key));
            states.push(session.commit(now, slot, part.staged, Some(author.clone()), left > 0, events));
        }
        Ok(Reply::States { revision: session.revision, states })
    }

    pub(super) fn read(&mut self, actor: Actor<'_>, keys: &[&str], prefixes: &[&str]) -> Result<Reply, Error> {
        let session = self.session_for(actor)?;
        keys.iter().try_for_each(|key| names::check_key(key))?;
        prefixes.iter().try_for_each(|prefix| names::check_prefix(prefix))?;
        let most = session.keys.len() + MAX_TRANSACTION_PARTS;
        if keys.len() > most {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{} keys at once; {most} are enough", keys.len()),
            ));
        }
        keys.iter().try_for_each(|key| session.check_right(actor, Right::Read, key))?;
        let named = keys.iter().map(|key| session.state(key).cloned().ok_or(*key));
        let mut states: Vec<Arc<Change>> =
            named.map(|state| state.unwrap_or_else(|key| Arc::new(Change::absent(key.into())))).collect();
        let is_meant = |key: &str| {
            prefixes.iter().any(|prefix| names::begins_with(key, prefix)) && session.may(actor, Right::Read, key)
        };
        let matching = session.key_index.iter().filter(|(key, _)| is_meant(key) && !keys.contains(&&***key));
        states.extend(matching.filter_map(|(_, slot)| session.keys[slot.index as usize].state.clone()));
        Ok(Reply::States { revision: session.revision, states })
    }
}

/// A key that peers may write.
#[inline]
fn check_writable(key: &str) -> Result<(), Error> {
    names::check_key(key)?;
    if key.starts_with(LOCK_KEY_PREFIX) {
        return Err(ErrorCode::ReservedKey.into());
    }
    Ok(())
}

/// Removing must work however small the limits: its `null` is not kept. So must what leaves a value as it is, which may
/// be of a time when more was allowed.
#[inline]
fn check_size(value: &Value, before: Option<&Value>, most: usize) -> Result<(), Error> {
    let size = value.json().len();
    if size > most && !value.is_null() && before != Some(value) {
        let message = format!("the value has {size} bytes; at most {most} are allowed");
        return Err(Error::new(ErrorCode::ValueTooLarge, message));
    }
    Ok(())
}

/// What a key becomes by a write, of at most so many bytes; `None` when that is what it is already, which only a
/// set that stores something never says.
fn stage(
    now: Time,
    actor: Actor<'_>,
    operation: Operation,
    expiry: Option<Expiry>,
    bound: Option<bool>,
    current: &Current<'_>,
    most: usize,
) -> Result<Option<Staged>, Error> {
    let replaces = matches!(operation, Operation::Set(_));
    let value = match operation {
        Operation::Set(value) => value,
        Operation::Merge(merge) => merge.apply(current.value.unwrap_or(&Value::null()))?,
        Operation::Touch => current.value.ok_or(ErrorCode::KeyAbsent)?.clone(),
    };
    let deadline = match expiry {
        Some(Expiry::After(ms)) if !(1..=MAX_TTL_MS).contains(&ms) => {
            let message = format!("a key lives for 1 to {MAX_TTL_MS} ms, or for ever");
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        Some(Expiry::After(ms)) => now.saturating_add(ms),
        Some(Expiry::Never) => 0,
        Some(Expiry::Keep) => current.deadline,
        None if replaces => 0,
        None => current.deadline,
    };
    check_size(&value, current.value, most)?;
    if value.is_null() {
        let staged = Staged { value, cause: Cause::Written, deadline: 0, owner: None };
        return Ok(current.value.map(|_| staged));
    }
    let owner = match bound {
        Some(true) => Some(actor.peer()?),
        Some(false) => None,
        None if replaces => None,
        None => current.owner,
    };
    let stays = !replaces && Some(&value) == current.value && (deadline, owner) == (current.deadline, current.owner);
    Ok((!stays).then_some(Staged { value, cause: Cause::Written, deadline, owner }))
}

impl Session {
    pub(super) fn state(&self, key: &str) -> Option<&Arc<Change>> {
        self.key_index.get(key).and_then(|slot| self.keys[slot.index as usize].state.as_ref())
    }

    fn is_set(&self, key: &str) -> bool {
        self.state(key).is_some()
    }

    fn check(&self, actor: Actor<'_>, check: &Check<'_>) -> Result<(), Error> {
        let key = match check {
            Check::Lock(lock) => return self.check_lock(lock).map(drop),
            Check::Version { key, .. } | Check::Exists { key } | Check::Absent { key } | Check::Equals { key, .. } => {
                key
            }
        };
        names::check_key(key)?;
        self.check_right(actor, Right::Read, key)?;
        let state = self.state(key);
        let holds = match check {
            Check::Version { version, .. } => state.map_or(0, |state| state.version) == *version,
            Check::Exists { .. } => state.is_some(),
            Check::Equals { value, .. } => state.map_or(value.is_null(), |state| merge::is_same(value, &state.value)),
            Check::Absent { .. } | Check::Lock(_) => state.is_none(),
        };
        if holds {
            return Ok(());
        }
        let current = self.state(key).cloned().unwrap_or_else(|| Arc::new(Change::absent((&**key).into())));
        Err(Error::from(ErrorCode::CheckFailed).with_current(current))
    }

    /// What the rules say of a write: who merges must be able to read as well, because the result tells the
    /// value.
    fn check_write(&self, actor: Actor<'_>, write: &Write<'_>, exists: bool) -> Result<(), Error> {
        if self.rules.is_none() {
            return Ok(());
        }
        let right = match &write.operation {
            Operation::Set(value) | Operation::Merge(Merge::Patch(value)) if value.is_null() => Right::Remove,
            _ if exists => Right::Write,
            _ => Right::Create,
        };
        let may = |right| self.may(actor, right, &write.key);
        if right == Right::Write && !may(Right::Write) && !may(Right::Create) && !may(Right::Read) {
            // That there is something to change must not be told to one who may not know of it.
            return self.check_right(actor, Right::Create, &write.key);
        }
        self.check_right(actor, right, &write.key)?;
        match write.operation {
            Operation::Set(_) => Ok(()),
            Operation::Merge(_) | Operation::Touch => self.check_right(actor, Right::Read, &write.key),
        }
    }

    /// A conflict, with what the key holds for one who may read it.
    fn conflict(&self, actor: Actor<'_>, current: &Arc<Change>) -> Error {
        if self.may(actor, Right::Read, &current.key) {
            return Error::conflict(current.clone());
        }
        ErrorCode::VersionConflict.into()
    }

    fn stage_part<'a>(
        &self,
        now: Time,
        actor: Actor<'_>,
        nth: usize,
        write: Write<'a>,
        so_far: Option<&Part<'_>>,
        limits: &Limits,
    ) -> Result<(Cow<'a, str>, Part<'a>), Error> {
        check_writable(&write.key)?;
        let slot = self.key_index.get(&write.key);
        let entry = slot.map(|slot| &self.keys[slot.index as usize]);
        let current = match so_far {
            Some(Part { staged, changed, .. }) => Current {
                value: (!staged.value.is_null()).then_some(&staged.value),
                // The revision that the transaction will have, should it have one.
                version: match (changed, staged.value.is_null()) {
                    (_, true) => 0,
                    (true, false) => self.revision + 1,
                    (false, false) => self.state(&write.key).map_or(0, |state| state.version),
                },
                deadline: staged.deadline,
                owner: staged.owner,
            },
            None => {
                let state = entry.and_then(|entry| entry.state.as_ref());
                Current {
                    value: state.map(|state| &state.value),
                    version: state.map_or(0, |state| state.version),
                    deadline: entry.map_or(0, |entry| entry.deadline),
                    owner: entry.and_then(|entry| entry.owner),
                }
            }
        };
        self.check_write(actor, &write, current.value.is_some())?;
        if write.expected.is_some_and(|expected| expected != current.version) {
            if so_far.is_some_and(|so_far| so_far.changed) {
                // What the room holds is not what it was compared with, and a retry with that would fail too.
                let message = "an earlier write of this transaction has changed the key: its version is known \
                               afterwards";
                return Err(Error::new(ErrorCode::VersionConflict, message));
            }
            let state = self.state(&write.key).cloned();
            let state = state.unwrap_or_else(|| Arc::new(Change::absent((&*write.key).into())));
            return Err(self.conflict(actor, &state));
        }
        let most = limits.max_value_bytes.saturating_mul(LARGER_ON_THE_WAY);
        let staged = stage(now, actor, write.operation, write.expiry, write.bound, &current, most)?;
        let changed = staged.is_some();
        let staged = staged.unwrap_or_else(|| Staged {
            value: current.value.cloned().unwrap_or(Value::null()),
            cause: Cause::Written,
            deadline: current.deadline,
            owner: current.owner,
        });
        Ok((write.key.clone(), Part { key: write.key, staged, changed, nth }))
    }

    /// Refuses what would take the store beyond its limits. It may be beyond them already, if they were higher when it
    /// was kept: then it may shrink, and change.
    fn check_growth(&self, stored: usize, bytes: usize, limits: &Limits) -> Result<(), Error> {
        let Limits { max_keys, max_store_bytes, .. } = *limits;
        if stored > max_keys && stored > self.stored {
            let message = format!("the store would have {stored} keys; at most {max_keys} are allowed");
            return Err(Error::new(ErrorCode::TooManyKeys, message));
        }
        if bytes > max_store_bytes && bytes > self.bytes {
            let message =
                format!("keys and values together would have {bytes} bytes; at most {max_store_bytes} are allowed");
            return Err(Error::new(ErrorCode::StoreFull, message));
        }
        Ok(())
    }

    /// Gives a key its new state, in the current revision.
    pub(super) fn commit(
        &mut self,
        now: Time,
        slot: KeySlot,
        staged: Staged,
        author: Option<Arc<Author>>,
        more: bool,
        events: &mut Vec<Event>,
    ) -> Arc<Change> {
        let Staged { value, cause, deadline, owner } = staged;
        self.set_deadline(slot, deadline);
        let entry = &mut self.keys[slot.index as usize];
        let shows_lock = entry.key.starts_with(LOCK_KEY_PREFIX);
        self.owned = self.owned + usize::from(owner.is_some()) - usize::from(entry.owner.is_some());
        let owner_before = std::mem::replace(&mut entry.owner, owner);
        let before = entry.state.as_ref().map(|before| entry.key.len() + before.value.json().len());
        let after = (!value.is_null()).then(|| entry.key.len() + value.json().len());
        let (count, bytes) = match shows_lock {
            // What the room itself keeps does not count.
            true => (&mut self.locks, None),
            false => (&mut self.stored, Some(&mut self.bytes)),
        };
        *count = *count + usize::from(after.is_some()) - usize::from(before.is_some());
        if let Some(bytes) = bytes {
            *bytes = *bytes + after.unwrap_or(0) - before.unwrap_or(0);
        }
        let change = Arc::new(Change {
            key: entry.key.clone(),
            value,
            version: self.revision,
            updated_at: now,
            author,
            cause,
            // Renewing a lock is nobody's business but its holder's.
            expires_at: if shows_lock { 0 } else { deadline },
        });
        entry.state = after.map(|_| change.clone());
        if after.is_none() && before.is_some() {
            self.remember_removal(change.clone());
        }
        events.push(Event::Changed { slot, change: change.clone(), more });
        if shows_lock {
            owner_before.into_iter().for_each(|peer| self.count_for(peer, |peer| peer.locks -= 1));
            owner.into_iter().for_each(|peer| self.count_for(peer, |peer| peer.locks += 1));
        }
        if after.is_none() {
            self.forget_key_if_unused(slot);
        }
        change
    }

    fn remember_removal(&mut self, removal: Arc<Change>) {
        if self.removals.len() == MAX_REMOVALS {
            let oldest = self.removals.pop_front();
            self.removals_forgotten = oldest.map_or(0, |oldest| oldest.version);
        }
        self.removals.push_back(removal);
    }

    /// Sets when a key goes by itself; 0: never.
    #[inline]
    pub(super) fn set_deadline(&mut self, slot: KeySlot, deadline: Time) {
        let entry = &mut self.keys[slot.index as usize];
        let before = std::mem::replace(&mut entry.deadline, deadline);
        if before == deadline {
            return;
        }
        if before != 0 {
            self.timers.remove(&(before, Due::Key(slot)));
        }
        if deadline != 0 {
            self.timers.insert((deadline, Due::Key(slot)));
        }
    }

    /// A key's time has come.
    pub(super) fn expire(&mut self, at: Time, slot: KeySlot, events: &mut Vec<Event>) {
        self.revision += 1;
        if self.keys[slot.index as usize].lock.is_some() {
            let granted = self.pass_on(at, slot, Cause::Expired, None, false, events);
            return events.extend(granted);
        }
        let staged = Staged { value: Value::null(), cause: Cause::Expired, deadline: 0, owner: None };
        self.commit(at, slot, staged, None, false, events);
    }

    /// The peer goes, and what is bound to it: its keys are removed and its locks passed on, all in one
    /// revision.
    pub(super) fn remove_what_goes_with(&mut self, now: Time, peer: PeerHandle, events: &mut Vec<Event>) {
        if self.owned == 0 {
            return;
        }
        let is_its = |slot: &KeySlot| self.keys[slot.index as usize].owner == Some(peer);
        let slots: Vec<KeySlot> = self.key_index.slots().filter(is_its).collect();
        if slots.is_empty() {
            return;
        }
        self.revision += 1;
        let author = self.peers[peer.slot as usize].identity.clone();
        let mut granted = Vec::new();
        for (nth, slot) in slots.iter().enumerate() {
            let (more, author) = (nth + 1 < slots.len(), Some(author.clone()));
            if self.keys[slot.index as usize].lock.is_some() {
                granted.extend(self.pass_on(now, *slot, Cause::PeerLeft, author, more, events));
            } else {
                let staged = Staged { value: Value::null(), cause: Cause::PeerLeft, deadline: 0, owner: None };
                self.commit(now, *slot, staged, author, more, events);
            }
        }
        events.append(&mut granted);
    }
}
