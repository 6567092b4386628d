//! Locks: named leases of one peer at a time, each grant with a fencing token.
//!
//! Who holds a lock is shown by a key of its own, `$lock/` and the lock's name, which only the room
//! writes: so a lock is listened to, read and checked as any key is, and its changes have their place
//! among all others. The token of a grant is the version of that key, so tokens grow as long as the
//! session lasts.

use std::collections::VecDeque;

use super::store::Staged;
use super::*;
use crate::core::limits::{LOCK_TTL_MS, MAX_LOCKS, MAX_LOCKS_PER_PEER, MAX_LOCK_WAITS, MAX_LOCK_WAIT_MS};

/// A grant of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The lock's name.
    pub name: Arc<str>,
    /// Larger than that of every grant before it in this session.
    pub token: u64,
    /// Server time at which the lock is lost unless it is renewed.
    pub expires_at: Time,
}

/// A lock that is held.
#[derive(Debug, Default)]
pub(super) struct Lock {
    /// Who gets it next, in the order in which they came.
    pub queue: VecDeque<Waiter>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub number: u64,
    pub peer: PeerHandle,
    pub ttl_ms: u64,
    pub until: Time,
}

/// The key that shows a lock.
fn key_of(name: &str) -> String {
    format!("{LOCK_KEY_PREFIX}{name}")
}

fn lost(name: &str) -> Error {
    Error::new(ErrorCode::LockLost, format!("the lock \"{name}\" is not held with this token"))
}

fn check_ttl(ttl_ms: u64) -> Result<(), Error> {
    if LOCK_TTL_MS.contains(&ttl_ms) {
        return Ok(());
    }
    let message = format!("a lock is held for {} to {} ms at a time", LOCK_TTL_MS.start(), LOCK_TTL_MS.end());
    Err(Error::new(ErrorCode::InvalidArgument, message))
}

impl Room {
    pub(super) fn acquire(
        &mut self,
        now: Time,
        peer: PeerHandle,
        name: &str,
        ttl_ms: u64,
        wait_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Error> {
        let session = self.session_of(peer)?;
        names::check_lock(name)?;
        check_ttl(ttl_ms)?;
        if wait_ms > MAX_LOCK_WAIT_MS {
            let message = format!("a lock is waited for {MAX_LOCK_WAIT_MS} ms at most");
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        session.check_right(peer, Right::Lock, name)?;
        let key = key_of(name);
        let slot = session.key_index.get(&key);
        if let Some(held) = slot.and_then(|slot| session.keys[slot.index as usize].state.clone()) {
            if wait_ms == 0 {
                return Err(Error::new(ErrorCode::LockHeld, "the lock is held").with_current(held));
            }
            if session.waiting >= MAX_LOCK_WAITS {
                return Err(Error::new(ErrorCode::TooManyLocks, format!("{MAX_LOCK_WAITS} peers wait for locks")));
            }
            session.check_locks_of(peer)?;
            let slot = slot.unwrap_or_else(|| session.add_key(&key));
            return Ok(Reply::Waiting(session.wait(slot, peer, ttl_ms, now.saturating_add(wait_ms))));
        }
        if session.locks >= MAX_LOCKS {
            return Err(Error::new(ErrorCode::TooManyLocks, format!("{MAX_LOCKS} locks are held")));
        }
        session.check_locks_of(peer)?;
        let slot = slot.unwrap_or_else(|| session.add_key(&key));
        session.revision += 1;
        Ok(Reply::Lock(session.grant(now, slot, peer, ttl_ms, false, events)))
    }

    pub(super) fn renew(
        &mut self,
        now: Time,
        peer: PeerHandle,
        lock: &LockGuard<'_>,
        ttl_ms: u64,
    ) -> Result<Reply, Error> {
        let session = self.session_of(peer)?;
        names::check_lock(&lock.name)?;
        check_ttl(ttl_ms)?;
        let slot = session.held_by(peer, lock)?;
        // Who may not take it any more keeps what it was granted, so that nobody else has it meanwhile, but no longer.
        session.check_right(peer, Right::Lock, &lock.name)?;
        let expires_at = now.saturating_add(ttl_ms);
        session.set_deadline(slot, expires_at);
        Ok(Reply::Lock(Lease { name: (&*lock.name).into(), token: lock.token, expires_at }))
    }

    pub(super) fn release(
        &mut self,
        now: Time,
        peer: PeerHandle,
        lock: &LockGuard<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Error> {
        let session = self.session_of(peer)?;
        names::check_lock(&lock.name)?;
        let slot = session.held_by(peer, lock)?;
        let author = Some(session.peers[peer.slot as usize].identity.clone());
        session.revision += 1;
        let granted = session.pass_on(now, slot, Cause::Written, author, false, events);
        events.extend(granted);
        Ok(Reply::Done)
    }
}

impl Session {
    /// Refuses with `LOCK_LOST` unless the lock is held with this token.
    pub(super) fn check_lock(&self, lock: &LockGuard<'_>) -> Result<KeySlot, Error> {
        names::check_lock(&lock.name)?;
        let slot = self.key_index.get(&key_of(&lock.name));
        let state = slot.and_then(|slot| self.keys[slot.index as usize].state.as_ref());
        match (slot, state) {
            (Some(slot), Some(state)) if state.version == lock.token => Ok(slot),
            _ => Err(lost(&lock.name)),
        }
    }

    /// The lock of this name, if somebody holds it.
    pub(super) fn held(&self, name: &str) -> Option<KeySlot> {
        let slot = self.key_index.get(&key_of(name))?;
        self.keys[slot.index as usize].state.as_ref().map(|_| slot)
    }

    fn held_by(&self, peer: PeerHandle, lock: &LockGuard<'_>) -> Result<KeySlot, Error> {
        let slot = self.check_lock(lock)?;
        match self.keys[slot.index as usize].owner {
            Some(owner) if owner == peer => Ok(slot),
            _ => Err(lost(&lock.name)),
        }
    }

    /// Refuses one more lock to a peer that has as many as one may have.
    fn check_locks_of(&self, peer: PeerHandle) -> Result<(), Error> {
        let Peer { locks, waits, .. } = &self.peers[peer.slot as usize];
        if locks + waits < MAX_LOCKS_PER_PEER {
            return Ok(());
        }
        let message =
            format!("this peer holds {locks} locks and waits for {waits}; at most {MAX_LOCKS_PER_PEER} at once");
        Err(Error::new(ErrorCode::TooManyLocks, message))
    }

    /// Counts for a peer, unless it has gone.
    pub(super) fn count_for(&mut self, peer: PeerHandle, count: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.get_mut(peer.slot as usize).filter(|found| found.serial == peer.serial) {
            count(peer);
        }
    }

    fn wait(&mut self, slot: KeySlot, peer: PeerHandle, ttl_ms: u64, until: Time) -> u64 {
        self.next_wait += 1;
        let number = self.next_wait;
        let lock = self.keys[slot.index as usize].lock.get_or_insert_default();
        lock.queue.push_back(Waiter { number, peer, ttl_ms, until });
        self.waiting += 1;
        self.count_for(peer, |peer| peer.waits += 1);
        self.timers.insert((until, Due::Wait(slot, number)));
        number
    }

    /// Gives a lock that is free, in the current revision.
    fn grant(
        &mut self,
        now: Time,
        slot: KeySlot,
        peer: PeerHandle,
        ttl_ms: u64,
        more: bool,
        events: &mut Vec<Event>,
    ) -> Lease {
        let identity = self.peers[peer.slot as usize].identity.clone();
        let holder = Value::from(&*identity.peer_id);
        let token = self.revision;
        let value = Value::from_compact(format!("{{\"holder\":{},\"token\":{token}}}", holder.json()));
        let expires_at = now.saturating_add(ttl_ms);
        let name = self.keys[slot.index as usize].key.strip_prefix(LOCK_KEY_PREFIX).unwrap_or_default().into();
        let staged = Staged { value, cause: Cause::Written, deadline: expires_at, owner: Some(peer) };
        self.commit(now, slot, staged, Some(identity), more, events);
        self.keys[slot.index as usize].lock.get_or_insert_default();
        Lease { name, token, expires_at }
    }

    /// Takes a lock from its holder, in the current revision, and gives it to who has waited longest.
    /// Returns what is to be told after all changes of the revision.
    pub(super) fn pass_on(
        &mut self,
        now: Time,
        slot: KeySlot,
        cause: Cause,
        author: Option<Arc<Author>>,
        more: bool,
        events: &mut Vec<Event>,
    ) -> Option<Event> {
        let lock = self.keys[slot.index as usize].lock.as_mut();
        if let Some(Waiter { number, peer, ttl_ms, until }) = lock.and_then(|lock| lock.queue.pop_front()) {
            self.waiting -= 1;
            self.count_for(peer, |peer| peer.waits -= 1);
            self.timers.remove(&(until, Due::Wait(slot, number)));
            let lease = self.grant(now, slot, peer, ttl_ms, more, events);
            self.wait_ended(peer, number, Ok(Reply::Lock(lease.clone())));
            return Some(Event::LockGranted { wait: number, peer, lease });
        }
        self.keys[slot.index as usize].lock = None;
        let staged = Staged { value: Value::null(), cause, deadline: 0, owner: None };
        self.commit(now, slot, staged, author, more, events);
        None
    }

    /// A peer no longer waits for any lock.
    pub(super) fn stop_waiting(&mut self, peer: PeerHandle) {
        // There may be many keys to look at, and as a rule the peer waits for none.
        if self.peers[peer.slot as usize].waits > 0 {
            self.stop_waits(|waiter| waiter.peer == peer);
        }
    }

    /// Nobody waits under this number any more.
    pub(super) fn stop_wait(&mut self, number: u64) {
        self.stop_waits(|waiter| waiter.number == number);
    }

    fn stop_waits(&mut self, stops: impl Fn(&Waiter) -> bool) {
        if self.waiting == 0 {
            return;
        }
        for (index, key) in &mut self.keys {
            let Some(lock) = &mut key.lock else { continue };
            let slot = KeySlot { index: index as u32, serial: key.serial };
            lock.queue.retain(|waiter| {
                let stays = !stops(waiter);
                if !stays {
                    self.timers.remove(&(waiter.until, Due::Wait(slot, waiter.number)));
                    self.waiting -= 1;
                    let peer = self.peers.get_mut(waiter.peer.slot as usize);
                    if let Some(peer) = peer.filter(|peer| peer.serial == waiter.peer.serial) {
                        peer.waits -= 1;
                    }
                }
                stays
            });
        }
    }

    /// The time of one who waits is over.
    pub(super) fn give_up_waiting(&mut self, slot: KeySlot, wait: u64, events: &mut Vec<Event>) {
        let mut error = Error::new(ErrorCode::LockHeld, "the lock was held for as long as was waited for it");
        if let Some(state) = &self.keys[slot.index as usize].state {
            error = error.with_current(state.clone());
        }
        self.refuse_wait(slot, wait, error, events);
    }

    /// Whoever may by now not take the lock it waits for waits no more.
    pub(super) fn refuse_waits(&mut self, events: &mut Vec<Event>) {
        if self.waiting == 0 {
            return;
        }
        let own = &*self;
        let waits = own.key_index.iter().flat_map(|(key, slot)| {
            let name = key.strip_prefix(LOCK_KEY_PREFIX).unwrap_or_default();
            let queue = own.keys[slot.index as usize].lock.iter().flat_map(|lock| &lock.queue);
            queue.filter_map(move |waiter| {
                let error = own.check_right(waiter.peer, Right::Lock, name).err()?;
                Some((slot, waiter.number, error))
            })
        });
        for (slot, wait, error) in waits.collect::<Vec<_>>() {
            self.refuse_wait(slot, wait, error, events);
        }
    }

    fn refuse_wait(&mut self, slot: KeySlot, wait: u64, error: Error, events: &mut Vec<Event>) {
        self.timers.retain(|(_, due)| *due != Due::Wait(slot, wait));
        let lock = self.keys[slot.index as usize].lock.as_mut();
        let Some(queue) = lock.map(|lock| &mut lock.queue) else { return };
        let Some(place) = queue.iter().position(|waiter| waiter.number == wait) else { return };
        if let Some(Waiter { peer, .. }) = queue.remove(place) {
            self.waiting -= 1;
            self.count_for(peer, |peer| peer.waits -= 1);
            self.wait_ended(peer, wait, Err(error.clone()));
            events.push(Event::LockRefused { wait, peer, error });
        }
    }
}
