//! The room: a deterministic state machine, `apply(time, command) -> (reply, events)`.
//!
//! The same commands at the same times give the same room, so it can be simulated, rebuilt from a
//! journal, and replicated. It never asks what time it is and draws no random number: ids and
//! times come in with the commands. Time that has passed is noticed by the next command, or by
//! [`Command::Tick`] at [`Room::next_deadline`].
//!
//! | module | what it holds |
//! |---|---|
//! | `command` | what a room is told, what it answers, what everybody is to be told |
//! | `peers` | who comes, comes back, and goes |
//! | `store` | writes, merges, transactions, and what becomes of a key by itself |
//! | `locks` | leases with fencing tokens |
//! | `key_index` | the keys by their names |
//! | `listening` | who listens to what |
//! | `operator` | what is done to a room from outside |
//! | `answers` | what was answered to requests that may come again |
//! | `checkpoint` | the room as bytes, and back (feature `server`) |

mod answers;
#[cfg(feature = "server")]
mod checkpoint;
mod command;
mod key_index;
mod listening;
mod locks;
mod operator;
mod peers;
mod store;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use slab::Slab;
use smallvec::SmallVec;

use super::error::{Error, ErrorCode};
use super::limits::{Limits, MAX_ANSWERS, MAX_REMOVALS};
use super::names::{self, KeyList};
use super::rules::{Caller, Right, Rules};
use super::secret::Secret;
use super::value::Value;
use super::write::{LockGuard, Transaction, Write};

pub use super::names::LOCK_KEY_PREFIX;
pub use command::{Command, Ended, Event, Introduction, Reply};
pub use locks::Lease;
pub use operator::{Action, Operator};
pub use peers::Peer;

use answers::Answers;
use key_index::KeyIndex;
use listening::Group;
use locks::Lock;
use operator::Actor;

/// Milliseconds since 1970-01-01 UTC, as the driver of the room has it. Never runs backwards.
pub type Time = u64;

/// Who wrote a change, captured when it was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Author {
    /// The writing peer's id; empty for an operator, who is no peer.
    pub peer_id: Arc<str>,
    /// The user id from its token; empty for a peer of an open server, never for an operator.
    pub user_id: Arc<str>,
    /// The name it had.
    pub name: Arc<str>,
}

/// Why a key has the state it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// A peer wrote it; with the value `null`, a peer removed it.
    #[default]
    Written,
    /// Its time to live ran out.
    Expired,
    /// It was bound to a peer, and that peer is gone.
    PeerLeft,
    /// The session it was set in is over, and the store was cleared.
    Cleared,
}

/// One state of one key: what was written, by whom and when. A `null` value means absent.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Arc<str>,
    /// The value; `null` when the key was removed or never set.
    pub value: Value,
    /// The store's revision that this change made; 0 for a key that was never set, or whose
    /// removal is no longer known.
    pub version: u64,
    /// Server time of the change; 0 when the version is 0.
    pub updated_at: Time,
    /// Who made it: the writer, or the peer that left. None when the version is 0 or nobody did, because
    /// the key expired.
    pub author: Option<Arc<Author>>,
    /// Why.
    pub cause: Cause,
    /// Server time at which the key goes by itself; 0: never.
    pub expires_at: Time,
}

impl Change {
    /// The state of a key that is absent.
    pub fn absent(key: Arc<str>) -> Change {
        Change {
            key,
            value: Value::null(),
            version: 0,
            updated_at: 0,
            author: None,
            cause: Cause::Written,
            expires_at: 0,
        }
    }
}

/// A peer of the current session. Stale handles are recognized: a slot used again has another
/// serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PeerHandle {
    // First, so that handles are in the order in which the peers came: a room that is restored has other slots.
    serial: u32,
    /// Index of the peer in this session; small, and used again after the peer has gone.
    pub slot: u32,
}

/// A key that is set or listened to. Like a [`PeerHandle`], a stale one is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeySlot {
    // First, for the same reason.
    serial: u32,
    /// Index of the key in this session; small, and used again after the key is forgotten.
    pub index: u32,
}

/// Peers that listen to the same keys. A stale handle is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupHandle {
    /// Index of the group in this session; small, and used again after its last member has gone.
    pub index: u32,
    serial: u32,
}

/// Slots, of which most rooms have so few that they need no memory apart; it has the size of a `Vec`.
type Few = SmallVec<[u32; 4]>;

#[derive(Debug)]
struct KeyState {
    key: Arc<str>,
    serial: u32,
    /// How many of the listeners named this very key.
    named_by: u32,
    state: Option<Arc<Change>>,
    /// Groups that listen, each with the place of this key in that group's list.
    listeners: SmallVec<[(u32, u32); 2]>,
    /// The peer with which the key goes; of a lock, its holder.
    owner: Option<PeerHandle>,
    /// When the key goes by itself, of a lock the end of its lease; 0: never.
    deadline: Time,
    /// Present while the lock that this key shows is held.
    lock: Option<Box<Lock>>,
}

/// What waits for its time, in the order in which it is due at the same time: a lock that expires goes to
/// one who waits for it until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The key goes.
    Key(KeySlot),
    /// The grace period of the peer ends.
    Grace(PeerHandle),
    /// Who waits for this lock under this number does no longer.
    Wait(KeySlot, u64),
}

#[derive(Debug, Default)]
struct Session {
    /// Those of the room.
    rules: Option<Arc<Rules>>,
    /// Counts the rules this session has had.
    rules_generation: u32,
    id: Arc<str>,
    started_at: Time,
    revision: u64,
    bytes: usize,
    stored: usize,
    peers: Slab<Peer>,
    /// The peers in the order of their ids.
    peer_index: Few,
    /// The role of the peer that joined last, which most others have too.
    last_role: Arc<str>,
    empty: Arc<str>,
    next_serial: u32,
    next_key_serial: u32,
    keys: Slab<KeyState>,
    key_index: KeyIndex,
    groups: Slab<Group>,
    /// The groups in the order of what they listen to.
    group_index: Few,
    /// Those among them that listen to prefixes.
    prefix_groups: Few,
    next_group_serial: u32,
    /// Keys that are absent and listened to by prefix alone: forgotten at the next command.
    fading: Vec<KeySlot>,
    timers: BTreeSet<(Time, Due)>,
    /// Keys and locks that go with a peer.
    owned: usize,
    /// Locks that are held.
    locks: usize,
    /// Peers that wait for locks.
    waiting: usize,
    next_wait: u64,
    /// The last removals of keys, oldest first.
    removals: VecDeque<Arc<Change>>,
    /// Of removals up to this revision not all are known.
    removals_forgotten: u64,
    /// Of the answers that are kept for all peers.
    answer_bytes: usize,
    /// When the empty session ends.
    linger_until: Option<Time>,
}

/// A named place and, while it is occupied, its session.
///
/// ```
/// use sessionstore::core::room::{Command, Introduction, Reply, Room};
/// use sessionstore::Value;
/// let mut room = Room::new("lobby", Default::default());
/// let mut events = Vec::new();
/// let peer = Introduction { peer_id: "p1", user_id: "", name: Some("Ada"), role: "host", metadata: None, secret: None };
/// let joined = room.apply(0, Command::Join { peer, new_session_id: "s1" }, &mut events).unwrap();
/// let Reply::Joined { peer, .. } = joined else { panic!() };
/// let set = Command::Set { peer, key: "spotlight", value: Value::from("p1"), expected: None };
/// room.apply(5, set, &mut events).unwrap();
/// assert_eq!(room.revision(), 1);
/// ```
#[derive(Debug)]
pub struct Room {
    name: Arc<str>,
    limits: Arc<Limits>,
    rules: Option<Arc<Rules>>,
    session: Option<Session>,
    /// The last serial numbers of peers, keys and groups that sessions before this one gave out: a
    /// handle of a session that is over must not be taken for one of the next.
    last_serials: (u32, u32, u32),
}

impl Room {
    /// A room without a session.
    pub fn new(name: impl Into<Arc<str>>, limits: Arc<Limits>) -> Room {
        Room { name: name.into(), limits, rules: None, session: None, last_serials: (0, 0, 0) }
    }

    /// The same with rules.
    pub fn with_rules(self, rules: Option<Arc<Rules>>) -> Room {
        Room { rules, ..self }
    }

    /// Applies one command at a time, appending to `events` what happened, in order.
    ///
    /// A command that answers with an error has changed nothing (deadlines that have passed
    /// before it take effect all the same).
    pub fn apply(&mut self, now: Time, command: Command<'_>, events: &mut Vec<Event>) -> Result<Reply, Error> {
        if let Some(session) = self.session.as_mut().filter(|session| !session.fading.is_empty()) {
            session.forget_faded_keys();
        }
        self.pass_time(now, events);
        match command {
            Command::Join { peer, new_session_id } => self.join(now, peer, new_session_id, events),
            Command::Return { peer_id, user_id } => self.come_back(peer_id, user_id, None),
            Command::Leave { peer } => {
                self.session_of(peer)?;
                self.remove_peer(now, peer, false, events);
                Ok(Reply::Done)
            }
            Command::ConnectionLost { peer } => self.connection_lost(now, peer, events),
            Command::UpdatePeer { peer, name, metadata } => self.update_peer(peer, name, metadata, events),
            Command::Set { peer, key, value, expected } => {
                self.write(now, peer, Write { expected, ..Write::set(key, value) }, None, events)
            }
            Command::Write { peer, write, lock } => self.write(now, peer, write, lock, events),
            Command::Transact { peer, transaction } => self.transact(now, Actor::Peer(peer), transaction, events),
            Command::Acquire { peer, name, ttl_ms, wait_ms } => self.acquire(now, peer, name, ttl_ms, wait_ms, events),
            Command::Renew { peer, lock, ttl_ms } => self.renew(now, peer, &lock, ttl_ms),
            Command::Release { peer, lock } => self.release(now, peer, &lock, events),
            Command::Read { peer, keys, prefixes } => self.read(Actor::Peer(peer), keys, prefixes),
            Command::Operate { operator, action } => self.operate(now, operator, action, events),
            Command::Look { operator, keys, prefixes } => self.read(Actor::Operator(operator), keys, prefixes),
            Command::Get { peer, key } => {
                let session = self.session_of(peer)?;
                names::check_key(key)?;
                session.check_right(peer, Right::Read, key)?;
                Ok(Reply::State(self.state(key)))
            }
            Command::Listen { peer, keys, prefixes } => self.listen(peer, keys, prefixes),
            Command::SetRules { rules } => {
                self.rules = rules;
                if let Some(session) = &mut self.session {
                    session.rules = self.rules.clone();
                    session.rules_generation = session.rules_generation.wrapping_add(1);
                    session.regroup_all(events);
                    session.refuse_waits(events);
                }
                Ok(Reply::Done)
            }
            Command::ChangeRole { peer, role } => {
                let session = self.session_of(peer)?;
                names::check_role(role)?;
                if *session.peers[peer.slot as usize].role != *role {
                    session.peers[peer.slot as usize].role = role.into();
                    events.push(Event::PeerUpdated(peer));
                    session.regroup(peer.slot, events);
                    session.refuse_waits(events);
                }
                Ok(Reply::Done)
            }
            Command::Answered { peer, through, except } => {
                if except.len() > MAX_ANSWERS {
                    let message = format!("{} exceptions; at most {MAX_ANSWERS} answers are kept", except.len());
                    return Err(Error::new(ErrorCode::InvalidArgument, message));
                }
                self.session_of(peer)?.forget_answers(peer, through, except);
                Ok(Reply::Done)
            }
            Command::Refuse { peer, retry_after_ms } => {
                self.session_of(peer)?;
                Err(Error::too_fast(retry_after_ms))
            }
            Command::Tick => Ok(Reply::Done),
        }
    }

    /// Applies a command of a peer that may come again under the same id, because its answer may have been
    /// lost: it is applied once, and answered as it was then. Only for a peer that has a secret; for others
    /// this is [`apply`](Self::apply).
    ///
    /// A wait for a lock that was cut off begins anew.
    pub fn apply_once(
        &mut self,
        now: Time,
        peer: PeerHandle,
        request: u64,
        command: Command<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Error> {
        if self.peer(peer).is_none_or(|peer| !peer.resumes()) {
            return self.apply(now, command, events);
        }
        self.apply(now, Command::Tick, events)?;
        let known = self.peer(peer).and_then(|peer| peer.answers.as_ref()?.find(request));
        let waits = match known {
            Some(Ok(Reply::Waiting(number))) => Some(number),
            Some(answer) => return answer,
            None => None,
        };
        let answer = self.apply(now, command, events);
        if let Some(session) = self.session.as_mut().filter(|_| waits.is_none() || answer.is_ok()) {
            waits.into_iter().for_each(|number| session.stop_wait(number));
            session.keep_answer(peer, request, answer.clone());
        }
        answer
    }

    /// Whether a request of this peer was [applied](Self::apply_once) before, or may have been.
    pub fn knows_request(&self, peer: PeerHandle, request: u64) -> bool {
        self.peer(peer).and_then(|peer| peer.answers.as_ref()?.find(request)).is_some()
    }

    /// When the next [`Command::Tick`] is due; `None` when nothing waits for time to pass.
    pub fn next_deadline(&self) -> Option<Time> {
        let session = self.session.as_ref()?;
        let timer = session.timers.first().map(|(at, _)| *at);
        match (timer, session.linger_until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The room's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The rules in force.
    pub fn rules(&self) -> Option<&Arc<Rules>> {
        self.rules.as_ref()
    }

    /// Whether a peer may read a key; `FORBIDDEN` names the rule that says no.
    pub fn check_read(&self, peer: PeerHandle, key: &str) -> Result<(), Error> {
        let (Some(session), Some(_)) = (&self.session, self.peer(peer)) else { return Ok(()) };
        session.check_right(peer, Right::Read, key)
    }

    /// Whether a peer may know who else is in the room.
    pub fn sees_peers(&self, peer: PeerHandle) -> bool {
        let role = self.peer(peer).map_or("", |peer| &peer.role);
        self.rules.as_ref().is_none_or(|rules| rules.sees_peers(role))
    }

    /// Whether there is a session.
    pub fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// The id of the current session.
    pub fn session_id(&self) -> Option<&Arc<str>> {
        self.session.as_ref().map(|session| &session.id)
    }

    /// When the current session began.
    pub fn started_at(&self) -> Option<Time> {
        self.session.as_ref().map(|session| session.started_at)
    }

    /// What would be told of the session if all peers left now; `None` without a session.
    pub fn ending(&self, now: Time) -> Option<Ended> {
        let session = self.session.as_ref()?;
        // What has an owner shows a lock, or goes with a peer.
        let stays = |slot: KeySlot| Some(&session.keys[slot.index as usize]).filter(|key| key.owner.is_none());
        let entries = session.key_index.slots().filter_map(|slot| stays(slot)?.state.clone()).collect();
        Some(Ended {
            session_id: session.id.clone(),
            started_at: session.started_at,
            ended_at: now,
            revision: session.revision,
            entries,
        })
    }

    /// The revision of the store: how many changes its session has seen; 0 without a session.
    pub fn revision(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.revision)
    }

    /// Keys that are set, and the bytes of keys and values together.
    pub fn usage(&self) -> (usize, usize) {
        self.session.as_ref().map_or((0, 0), |session| (session.stored, session.bytes))
    }

    /// How many peers are in the room, those in their grace period included.
    pub fn peer_count(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.peers.len())
    }

    /// All peers, in the order of their slots.
    pub fn peers(&self) -> impl Iterator<Item = (PeerHandle, &Peer)> {
        let peers = self.session.iter().flat_map(|session| session.peers.iter());
        peers.map(|(slot, peer)| (PeerHandle { slot: slot as u32, serial: peer.serial }, peer))
    }

    /// A peer that is in the room.
    pub fn peer(&self, peer: PeerHandle) -> Option<&Peer> {
        let found = self.session.as_ref()?.peers.get(peer.slot as usize)?;
        (found.serial == peer.serial).then_some(found)
    }

    /// The handle of a peer that a handle of the same room meant before the room was restored.
    pub fn find(&self, peer: PeerHandle) -> Option<PeerHandle> {
        let is_it = |(_, found): &(PeerHandle, &Peer)| found.serial == peer.serial;
        self.peer(peer).map(|_| peer).or_else(|| self.peers().find(is_it).map(|(handle, _)| handle))
    }

    /// A peer by its id.
    pub fn peer_by_id(&self, peer_id: &str) -> Option<(PeerHandle, &Peer)> {
        let session = self.session.as_ref()?;
        let slot = session.find_peer(peer_id).ok()?;
        let peer = session.peers.get(slot as usize)?;
        Some((PeerHandle { slot, serial: peer.serial }, peer))
    }

    /// The keys that are set, in the order of their names.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Change>> {
        let session = self.session.as_ref();
        session.into_iter().flat_map(|session| {
            session.key_index.slots().filter_map(|slot| session.keys[slot.index as usize].state.as_ref())
        })
    }

    /// The locks that are held, by the keys that show them, in the order of their names; each with the time at which
    /// it is lost unless it is renewed.
    pub fn locks(&self) -> impl Iterator<Item = (&Arc<Change>, Time)> {
        self.session.iter().flat_map(|session| {
            let shown = session.key_index.iter_from(LOCK_KEY_PREFIX);
            let shown = shown.take_while(|(key, _)| key.starts_with(LOCK_KEY_PREFIX));
            shown.filter_map(|(_, slot)| {
                let key = &session.keys[slot.index as usize];
                key.state.as_ref().map(|state| (state, key.deadline))
            })
        })
    }

    /// The current state of a key that is set or listened to.
    pub fn state_of(&self, slot: KeySlot) -> Option<Arc<Change>> {
        let key = self.key(slot)?;
        Some(key.state.clone().unwrap_or_else(|| Arc::new(Change::absent(key.key.clone()))))
    }

    /// The current state of any key.
    pub fn state(&self, key: &str) -> Arc<Change> {
        let slot = self.session.as_ref().and_then(|session| session.key_index.get(key));
        slot.and_then(|slot| self.state_of(slot)).unwrap_or_else(|| Arc::new(Change::absent(key.into())))
    }

    fn key(&self, slot: KeySlot) -> Option<&KeyState> {
        let key = self.session.as_ref()?.keys.get(slot.index as usize)?;
        (key.serial == slot.serial).then_some(key)
    }

    fn session_of(&mut self, peer: PeerHandle) -> Result<&mut Session, Error> {
        Session::of(&mut self.session, peer)
    }

    fn pass_time(&mut self, now: Time, events: &mut Vec<Event>) {
        while let Some(deadline) = self.next_deadline().filter(|deadline| *deadline <= now) {
            let Some(session) = &mut self.session else { return };
            match session.timers.first().copied() {
                Some((at, Due::Grace(peer))) if at == deadline => self.remove_peer(at, peer, true, events),
                Some((at, Due::Key(slot))) if at == deadline => session.expire(at, slot, events),
                Some((at, Due::Wait(slot, wait))) if at == deadline => session.give_up_waiting(slot, wait, events),
                _ => self.end_session(deadline, events),
            }
        }
    }

    /// The session, which begins unless there is one.
    fn begin(&mut self, now: Time, new_session_id: &str, events: &mut Vec<Event>) -> &mut Session {
        let serials = self.last_serials;
        self.session.get_or_insert_with(|| {
            events.push(Event::SessionStarted);
            Session { rules: self.rules.clone(), ..Session::new(new_session_id, now, serials) }
        })
    }

    fn end_session(&mut self, now: Time, events: &mut Vec<Event>) {
        let Some(ended) = self.ending(now) else { return };
        if let Some(session) = self.session.take() {
            self.last_serials = (session.next_serial, session.next_key_serial, session.next_group_serial);
        }
        events.push(Event::SessionEnded(Box::new(ended)));
    }
}

impl Session {
    /// The session that a peer is in.
    #[inline]
    fn of(session: &mut Option<Session>, peer: PeerHandle) -> Result<&mut Session, Error> {
        match session {
            Some(session) if session.peers.get(peer.slot as usize).is_some_and(|p| p.serial == peer.serial) => {
                Ok(session)
            }
            _ => Err(ErrorCode::NotJoined.into()),
        }
    }

    fn new(id: &str, started_at: Time, serials: (u32, u32, u32)) -> Session {
        let (next_serial, next_key_serial, next_group_serial) = serials;
        Session {
            id: id.into(),
            started_at,
            // Many rooms have one or two peers, and a key or two.
            peers: Slab::with_capacity(1),
            keys: Slab::with_capacity(1),
            groups: Slab::with_capacity(1),
            next_serial,
            next_key_serial,
            next_group_serial,
            ..Session::default()
        }
    }

    /// Who a peer is, as far as the rules are concerned.
    fn caller(&self, peer: u32) -> Caller<'_> {
        let Peer { role, identity, .. } = &self.peers[peer as usize];
        Caller { role, peer_id: &identity.peer_id, user_id: &identity.user_id }
    }

    /// Refuses with `FORBIDDEN` what the rules do not allow.
    fn check_right<'a>(&'a self, actor: impl Into<Actor<'a>>, right: Right, key: &str) -> Result<(), Error> {
        let Some(rules) = &self.rules else { return Ok(()) };
        self.bound_by(actor.into()).map_or(Ok(()), |caller| rules.check(caller, right, key))
    }

    fn may<'a>(&'a self, actor: impl Into<Actor<'a>>, right: Right, key: &str) -> bool {
        let Some(rules) = &self.rules else { return true };
        self.bound_by(actor.into()).is_none_or(|caller| rules.allows(caller, right, key))
    }
}
