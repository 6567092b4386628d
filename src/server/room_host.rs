//! One room on its loop: the state machine, its members' connections, and the frames it has to
//! send.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::core::error::{Error, ErrorCode};
use crate::core::journal::Origin;
use crate::core::room::{Change, Command, Event, GroupHandle, KeySlot, Peer, PeerHandle, Reply, Room, Time};
use crate::core::rules::Rules;
use crate::core::wire;

use super::batch::{Batch, Concern};
use super::budget::Budget;
use super::connection::{Connection, Dialect, State};
use super::keeper::{Entered, Kept, Ledger};
use super::metrics::Refused;
use super::news::News;
use super::notice::Notice;
use super::options::{CLOSE_WAIT_MS, MAX_BATCH_BYTES, MAX_POLICY_ROLES};
use super::outbox::Conflated;
use super::plan::{Plan, Spares};
use super::sends::Told;
use super::shard::Shard;
#[cfg(feature = "http")]
use super::watch::Watch;
use crate::frames;

/// A close code beyond the standard's: 4000 and the number of the error.
pub(super) fn close_code(code: ErrorCode) -> u16 {
    4_000 + code.number() as u16
}

/// Longest reason in a close frame, in bytes. RFC 6455, 5.5 has 125 with the code; this leaves a few.
#[cfg(feature = "http")]
pub(super) const MAX_CLOSE_REASON_BYTES: usize = 120;

/// Up to so many peers the list is written for each who asks; more are kept for the next.
const SMALL_PEER_LIST: usize = 8;

/// The same for the keys of a snapshot.
const SMALL_SNAPSHOT: usize = 4;

/// A request's id for the log: the client's text, with nothing in it that a terminal would obey.
pub(super) fn shown(id: Option<&RawValue>) -> impl std::fmt::Display + '_ {
    id.map_or("", |id| id.get().trim_matches('"')).escape_debug()
}

fn write_snapshot(out: &mut Vec<u8>, room: &Room, group: GroupHandle) {
    let states: Vec<_> = room.keys_of(group).filter_map(|key| room.state_of(key)).collect();
    wire::write_changes(out, states.iter().map(|state| (&**state, 0)), true);
}

/// A room, shared by its connections.
pub(super) struct RoomHost {
    pub shard: Rc<Shard>,
    pub name: Arc<str>,
    /// Unique on this loop.
    pub number: u64,
    inner: RefCell<Inner>,
}

/// What only one task at a time looks at.
pub(super) struct Inner {
    pub shard: Rc<Shard>,
    pub room: Room,
    ledger: Ledger,
    /// The connections of the peers, by their slots.
    members: Vec<Option<Rc<Connection>>>,
    /// All connections, those included that have not joined.
    pub connections: usize,
    outgoing: Outgoing,
    /// Whether the flusher knows of this room.
    queued: bool,
    /// Readers that wait for the current batch to be on its way.
    waiting: Vec<Waker>,
    news: News,
    /// The change whose state is [`Batch::last_state`].
    told: Option<Arc<Change>>,
    /// The roles of this session that clients of the original are told of; none before one has come.
    roles: Option<BTreeSet<Arc<str>>>,
    /// Changes of one revision that are not all there yet.
    together: Vec<(KeySlot, Arc<Change>)>,
    /// Who watches from outside.
    #[cfg(feature = "http")]
    pub watching: Watch,
    /// Who waits for a lock, by the number of the wait: the connection, and the id of its request.
    waits: BTreeMap<u64, (Rc<Connection>, Box<RawValue>)>,
    /// What peers in their grace period may still ask, by their slots: who comes back does not get more.
    budgets: BTreeMap<u32, (PeerHandle, Box<Budget>)>,
    snapshot: Option<Box<Snapshot>>,
    peer_list: Option<Rc<Vec<u8>>>,
    /// What the shard's counters and its list of deadlines have of this room.
    counted_open: bool,
    counted_peers: usize,
    deadline: Option<Time>,
}

/// The answer to a listen, kept for the next who listens to the same keys.
struct Snapshot {
    /// Who asked last, so that as a rule the keys need not be compared.
    group: GroupHandle,
    keys: Vec<KeySlot>,
    frame: Rc<Vec<u8>>,
}

/// What the room has to send.
#[derive(Default)]
struct Outgoing {
    /// What is appended to; none while there is nothing to say.
    open: Option<(Rc<Batch>, Box<Plan>)>,
    /// The number of the next batch, and where it begins in the stream of the room.
    next_number: u64,
    next_start: u64,
    /// Batches that are being sent, oldest first. As a rule there is one.
    flushing: SmallVec<[Flushing; 1]>,
}

/// A batch on its way.
struct Flushing {
    batch: Rc<Batch>,
    plan: Box<Plan>,
    next_answered: u32,
    next_visit: u32,
    /// When it began, if it is timed.
    begun: Option<Instant>,
}

impl Outgoing {
    fn open(&mut self, spares: &RefCell<Spares>) -> (&mut Batch, &mut Plan) {
        let (number, start) = (self.next_number, self.next_start);
        let (batch, plan) = self.open.get_or_insert_with(|| spares.borrow_mut().take(number, start));
        // Nobody shares it yet, so this copies nothing.
        (Rc::make_mut(batch), plan)
    }

    /// The position after everything so far.
    fn position(&self) -> u64 {
        self.open.as_ref().map_or(self.next_start, |(batch, _)| batch.end())
    }

    /// Bytes for many that wait for the flush.
    fn bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |(batch, _)| batch.stream.len())
    }

    fn has_output(&self) -> bool {
        self.open.as_ref().is_some_and(|(batch, plan)| !batch.is_empty() || !plan.answered.is_empty())
    }
}

impl RoomHost {
    pub fn new(shard: Rc<Shard>, name: &str, number: u64) -> RoomHost {
        let name: Arc<str> = name.into();
        let inner = RefCell::new(Inner::new(shard.clone(), name.clone()));
        RoomHost { shard, name, number, inner }
    }

    /// Does something with the room, then sees to what follows from it: counters, deadlines, and
    /// the flush. `None` if that failed: then the room has been given up, and the loop goes on.
    pub fn turn<T>(self: &Rc<Self>, act: impl FnOnce(&mut Inner) -> T) -> Option<T> {
        let turn = || {
            let mut inner = self.inner.borrow_mut();
            let result = act(&mut inner);
            inner.settle(self);
            result
        };
        let result = catch_unwind(AssertUnwindSafe(turn)).ok();
        if result.is_none() {
            self.shard.give_up(self);
        }
        result
    }

    /// Sends for a while what is to be sent, counting down `writes`. Returns whether there is more.
    pub fn flush(self: &Rc<Self>, writes: &mut usize) -> bool {
        match catch_unwind(AssertUnwindSafe(|| self.inner.borrow_mut().flush(writes))) {
            Ok(more) => more,
            Err(_) => {
                // Before anything else is written to its connections.
                self.shard.send();
                // The flusher has taken it off its list.
                self.inner.borrow_mut().queued = false;
                self.shard.give_up(self);
                false
            }
        }
    }

    /// Whether its readers have to wait for the flusher.
    pub fn is_overfull(&self) -> bool {
        self.inner.try_borrow().is_ok_and(|inner| inner.batch_is_full())
    }

    pub fn wake_when_flushed(&self, waker: &Waker) {
        self.inner.borrow_mut().waiting.push(waker.clone());
    }

    /// Whether nobody needs it any more.
    pub fn is_unused(&self) -> bool {
        let inner = self.inner.borrow();
        inner.connections == 0 && !inner.room.is_open() && !inner.queued && !inner.is_watched()
    }

    /// What can be said of it in one line, if it has a session.
    #[cfg(feature = "http")]
    pub fn view(&self) -> Option<super::operate::RoomView> {
        self.inner.try_borrow().ok()?.view()
    }

    /// Begins anew after a fault: whoever was in the room is out of it.
    pub fn reset(self: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        let fresh = Inner::new(inner.shard.clone(), self.name.clone());
        let mut old = std::mem::replace(&mut *inner, fresh);
        if let Some(keeper) = &self.shard.keeper {
            keeper.forget(&mut old.ledger);
        }
        // What the fault left of the session is told, if it can be.
        let ended = catch_unwind(AssertUnwindSafe(|| old.room.ending(self.shard.now()))).ok().flatten();
        self.shard.note(|| ended.map(|ended| Notice::closed(&self.name, Box::new(ended))));
        inner.outgoing.next_number = old.outgoing.next_number + 1;
        inner.outgoing.next_start = old.outgoing.position();
        inner.news = old.news;
        inner.news.forget();
        inner.connections = old.connections;
        inner.queued = old.queued;
        inner.counted_open = old.counted_open;
        inner.counted_peers = old.counted_peers;
        inner.deadline = old.deadline;
        inner.settle(self);
        old.waiting.into_iter().for_each(Waker::wake);
    }

    /// The server ends, and with it the session.
    pub fn note_end(&self) {
        let inner = self.inner.borrow();
        let ended = || inner.room.ending(self.shard.now());
        self.shard.note(|| ended().map(|ended| Notice::closed(&self.name, Box::new(ended))));
    }

    /// Lets go of all connections, when the loop ends.
    pub fn clear(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.members.clear();
        inner.waits.clear();
        inner.outgoing = Outgoing::default();
    }
}

impl Inner {
    fn new(shard: Rc<Shard>, name: Arc<str>) -> Inner {
        let room = Room::new(name, shard.shared.limits.clone()).with_rules(shard.rules.borrow().clone());
        Inner {
            shard,
            room,
            ledger: None,
            members: Vec::new(),
            connections: 0,
            outgoing: Outgoing::default(),
            queued: false,
            waiting: Vec::new(),
            news: News::default(),
            told: None,
            roles: None,
            together: Vec::new(),
            #[cfg(feature = "http")]
            watching: Watch::default(),
            waits: BTreeMap::new(),
            budgets: BTreeMap::new(),
            snapshot: None,
            peer_list: None,
            counted_open: false,
            counted_peers: 0,
            deadline: None,
        }
    }

    #[cfg(feature = "http")]
    fn is_watched(&self) -> bool {
        !self.watching.is_empty()
    }

    #[cfg(not(feature = "http"))]
    fn is_watched(&self) -> bool {
        false
    }

    #[cfg(feature = "http")]
    fn has_untold(&self) -> bool {
        self.watching.has_untold()
    }

    #[cfg(not(feature = "http"))]
    fn has_untold(&self) -> bool {
        false
    }

    fn settle(&mut self, host: &Rc<RoomHost>) {
        let (open, peers) = (self.room.is_open(), self.room.peer_count());
        if (open, peers) != (self.counted_open, self.counted_peers) {
            self.shard.count(self.counted_open, open, self.counted_peers, peers);
            (self.counted_open, self.counted_peers) = (open, peers);
        }
        let deadline = [self.room.next_deadline(), self.news.due()].into_iter().flatten().min();
        if deadline != self.deadline {
            self.shard.reschedule(host, self.deadline, deadline);
            self.deadline = deadline;
        }
        if !self.queued && (self.outgoing.has_output() || self.has_untold()) {
            self.queued = true;
            self.shard.queue_flush(host.clone());
        }
        self.shard.keep_soon();
    }

    /// The room goes on as it was kept.
    pub fn adopt(&mut self, kept: Kept, rules: Option<Arc<Rules>>, now: Time) {
        self.ledger = Some(Box::new(Entered::of(kept.id, &kept.room)));
        self.room = kept.room;
        if kept.is_new_session {
            self.shard.note(|| Notice::opened(&self.room));
        }
        if self.room.rules() != rules.as_ref() {
            self.set_rules(rules, now);
        }
        self.pass_time(now);
    }

    // ------------------------------------------------------------------ commands and events

    /// Applies a command and turns what happened into frames.
    pub fn apply(&mut self, now: Time, command: Command<'_>) -> Result<Reply, Error> {
        self.apply_as(now, Origin::Once, command)
    }

    /// The same for a request that may come again, which is then answered as it was the first time.
    pub fn apply_once(
        &mut self,
        now: Time,
        peer: PeerHandle,
        id: Option<&RawValue>,
        command: Command<'_>,
    ) -> Result<Reply, Error> {
        let request = id.and_then(wire::request_number);
        self.apply_as(now, request.map_or(Origin::Once, |id| Origin::Request { peer, id }), command)
    }

    fn apply_as(&mut self, now: Time, origin: Origin, command: Command<'_>) -> Result<Reply, Error> {
        let begun = self.shard.meters.as_ref().and_then(|meters| meters.begin_command());
        let mut events = self.shard.events.take();
        let reply = match &self.shard.keeper {
            Some(keeper) => keeper.apply(&mut self.room, &mut self.ledger, now, origin, command, &mut events),
            None => origin.apply(&mut self.room, now, command, &mut events),
        };
        for event in events.drain(..) {
            #[cfg(feature = "http")]
            self.note(&event);
            self.announce(event, now);
        }
        self.shard.events.set(events);
        if self.news.due().is_some_and(|due| due <= now) {
            self.tell_news(now);
        }
        if let (Some(begun), Some(meters)) = (begun, &self.shard.meters) {
            meters.end_command(begun);
        }
        reply
    }

    /// Does what was waiting for this time.
    pub fn pass_time(&mut self, now: Time) {
        // Fails for nobody: there is no one who asked.
        let _ = self.apply(now, Command::Tick);
    }

    /// Puts what is new about peers into what is sent next.
    pub fn tell_news(&mut self, now: Time) {
        if self.news.due().is_some() {
            self.news.tell(self.outgoing.open(&self.shard.spares).0, now);
        }
    }

    fn announce(&mut self, event: Event, now: Time) {
        match event {
            Event::SessionStarted => {
                if let Some(meters) = &self.shard.meters {
                    meters.sessions_started.add(1);
                }
                self.shard.note(|| Notice::opened(&self.room));
            }
            Event::PeerJoined(peer) => {
                if let Some(meters) = &self.shard.meters {
                    meters.peers_joined.add(1);
                }
                self.peer_list = None;
                self.learn_role(peer);
                // It is not a member yet, and begins after this.
                self.tell_peers(peer, None, wire::write_peer_join);
            }
            Event::PeerUpdated(peer) => {
                self.peer_list = None;
                self.learn_role(peer);
                self.tell_peers(peer, Some(peer), wire::write_peer_update);
            }
            Event::PeerLeft { peer, peer_id, connection_lost } => {
                self.peer_list = None;
                self.take_member(peer);
                self.budgets.remove(&peer.slot);
                if self.members.iter().any(Option::is_some) {
                    self.news.add(None, |out| wire::write_peer_leave(out, &peer_id, connection_lost));
                }
            }
            Event::Changed { slot, change, more } => {
                if let Some(meters) = &self.shard.meters {
                    meters.changes.add(1);
                }
                self.snapshot = None;
                if more || !self.together.is_empty() || self.room.is_fading(slot) {
                    self.together.push((slot, change));
                    if !more {
                        self.tell_together(now);
                    }
                } else if self.room.groups(slot).next().is_some() {
                    // Its author is known before it is.
                    self.tell_news(now);
                    let (batch, _) = self.outgoing.open(&self.shard.spares);
                    batch.push_change(slot, &change);
                    self.told = Some(change);
                }
            }
            Event::ListeningChanged { peer, revoked } => {
                self.snapshot = None;
                let member = self.members.get(peer.slot as usize).and_then(Option::clone);
                if let Some(connection) = member.filter(|connection| connection.peer.get() == Some(peer)) {
                    let refusal = revoked.first().and_then(|key| self.room.check_read(peer, key).err());
                    if let Some(error) = refusal {
                        let keys = revoked.iter().map(|key| &**key);
                        self.answer(&connection, |out| wire::write_listen_revoked(out, keys, &error));
                    }
                    self.answer_snapshot(&connection, peer);
                }
            }
            Event::LockGranted { wait, lease, .. } => {
                if let Some((connection, id)) = self.waits.remove(&wait) {
                    self.answer(&connection, |out| wire::write_lease_result(out, &id, &lease));
                }
            }
            Event::LockRefused { wait, error, .. } => {
                if let Some((connection, id)) = self.waits.remove(&wait) {
                    self.refuse(&connection, Some(&id), &error);
                }
            }
            Event::SessionEnded(ended) => {
                self.shard.note(|| Some(Notice::closed(self.room.name(), ended)));
                self.snapshot = None;
                self.roles = None;
                self.news.forget();
                self.members = Vec::new();
                self.budgets = BTreeMap::new();
            }
        }
    }

    /// Tells a client of the original its role, and the roles there are.
    pub fn answer_policy(&mut self, connection: &Rc<Connection>, role: &str) {
        let peers = self.room.peers();
        let roles = self.roles.get_or_insert_with(|| {
            let all: BTreeSet<Arc<str>> = peers.map(|(_, peer)| peer.role.clone()).collect();
            all.into_iter().take(MAX_POLICY_ROLES).collect()
        });
        // Who may not know of others learns nothing of their roles.
        let sees = self.room.rules().is_none_or(|rules| rules.sees_peers(role));
        let roles = if sees { roles.clone() } else { BTreeSet::new() };
        self.answer(connection, |out| wire::write_policy(out, role, roles.iter().map(|role| &**role)));
    }

    /// Clients of the original are told of a role before the first peer that has it.
    fn learn_role(&mut self, peer: PeerHandle) {
        let (Some(roles), Some(peer)) = (&mut self.roles, self.room.peer(peer)) else { return };
        if roles.len() >= MAX_POLICY_ROLES || !roles.insert(peer.role.clone()) {
            return;
        }
        for connection in self.all_members().iter().filter(|connection| connection.dialect == Dialect::Original) {
            let own = connection.peer.get().and_then(|own| self.room.peer(own)).map(|own| own.role.clone());
            if let Some(own) = own {
                self.answer_policy(connection, &own);
            }
        }
    }

    /// Puts other rules in force.
    pub fn set_rules(&mut self, rules: Option<Arc<Rules>>, now: Time) {
        // What was said so far goes to whom the old rules allow it.
        self.freeze();
        // Fails for nobody: there is no one who asked.
        let _ = self.apply(now, Command::SetRules { rules });
        #[cfg(feature = "http")]
        self.unwatch_roles();
        self.all_members().iter().for_each(|connection| self.look_again(connection));
    }

    /// Gives a peer another role, by a fresh token.
    pub fn change_role(&mut self, connection: &Rc<Connection>, peer: PeerHandle, role: &str, now: Time) {
        self.bring_up_to_date(connection);
        if self.apply(now, Command::ChangeRole { peer, role }).is_ok() {
            self.look_again(connection);
        }
    }

    /// Whether a peer may know of the others may have changed: then it is told who they are, or that there
    /// is nobody.
    fn look_again(&mut self, connection: &Rc<Connection>) {
        let Some(peer) = connection.peer.get() else { return };
        let sees = self.room.sees_peers(peer);
        if connection.sees_peers.replace(sees) != sees {
            connection.news_from.set(self.news.next_number());
            self.answer_peer_list(connection);
        }
    }

    /// Tells the changes of one revision: each group hears of all that concern it in one message, so that
    /// nobody sees half of them.
    fn tell_together(&mut self, now: Time) {
        let together = std::mem::take(&mut self.together);
        let mut heard: BTreeMap<GroupHandle, Vec<usize>> = BTreeMap::new();
        for (nth, (slot, _)) in together.iter().enumerate() {
            self.room.groups(*slot).for_each(|group| heard.entry(group).or_default().push(nth));
        }
        if heard.is_empty() {
            return;
        }
        let mut groups: BTreeMap<Vec<usize>, Vec<GroupHandle>> = BTreeMap::new();
        for (group, changes) in heard {
            groups.entry(changes).or_default().push(group);
        }
        self.tell_news(now);
        let (batch, _) = self.outgoing.open(&self.shard.spares);
        for (changes, groups) in groups {
            let keys = changes.iter().map(|nth| together[*nth].0).collect();
            let changes: Vec<&Arc<Change>> = changes.iter().map(|nth| &together[*nth].1).collect();
            batch.push_changes(Concern { keys, groups }, &changes);
        }
    }

    /// A request for a lock will be answered when the lock is there, or when the time for it is over.
    pub fn answer_later(&mut self, connection: &Rc<Connection>, id: &RawValue, wait: u64) {
        self.waits.insert(wait, (connection.clone(), id.to_owned()));
    }

    /// Tells everybody but one of a peer.
    fn tell_peers(&mut self, subject: PeerHandle, except: Option<PeerHandle>, write: fn(&mut Vec<u8>, &Peer)) {
        if self.members.iter().any(Option::is_some) {
            if let Some(peer) = self.room.peer(subject) {
                self.news.add(except, |out| write(out, peer));
            }
        }
    }

    // ------------------------------------------------------------------ members

    fn take_member(&mut self, peer: PeerHandle) -> Option<Rc<Connection>> {
        let member = self.members.get_mut(peer.slot as usize)?;
        if member.as_ref().is_some_and(|connection| connection.peer.get() == Some(peer)) {
            let connection = member.take()?;
            connection.peer.set(None);
            self.waits.retain(|_, (waiting, _)| !Rc::ptr_eq(waiting, &connection));
            if let Some(budget) = connection.budget.take() {
                self.budgets.insert(peer.slot, (peer, budget));
            }
            return Some(connection);
        }
        None
    }

    /// The connection of a peer, if it has one.
    #[cfg(feature = "http")]
    pub fn member(&self, peer: PeerHandle) -> Option<Rc<Connection>> {
        let member = self.members.get(peer.slot as usize)?.as_ref()?;
        (member.peer.get() == Some(peer)).then(|| member.clone())
    }

    /// The connections of all peers.
    pub fn all_members(&self) -> Vec<Rc<Connection>> {
        self.members.iter().flatten().cloned().collect()
    }

    /// Makes a connection the one of a peer, in place of an older one. Returns whether it is new
    /// to the peer.
    pub fn attach(&mut self, connection: &Rc<Connection>, peer: PeerHandle, now: Time) -> bool {
        if connection.peer.get() == Some(peer) {
            return false;
        }
        if let Some(old) = self.take_member(peer) {
            self.close(&old, now, close_code(ErrorCode::Replaced), "another connection came as this peer");
        }
        if let Some((_, budget)) = self.budgets.remove(&peer.slot).filter(|(whose, _)| *whose == peer) {
            connection.budget.replace(Some(budget));
        }
        let slot = peer.slot as usize;
        if self.members.len() <= slot {
            self.members.resize(slot + 1, None);
        }
        self.members[slot] = Some(connection.clone());
        connection.peer.set(Some(peer));
        *connection.identity.borrow_mut() = None;
        // What happened before is in the peer list and the snapshot it is sent.
        connection.outbox.borrow_mut().cursor = self.outgoing.position();
        connection.news_from.set(self.news.next_number());
        connection.sees_peers.set(self.room.sees_peers(peer));
        true
    }

    /// The connection no longer speaks for its peer, which has its grace period from now.
    pub fn detach(&mut self, connection: &Connection, now: Time) {
        let Some(peer) = connection.peer.get() else { return };
        self.take_member(peer);
        if !self.shard.is_stopping() {
            let _ = self.apply(now, Command::ConnectionLost { peer });
        }
    }

    // ------------------------------------------------------------------ frames for one

    /// Appends a message for one connection, after everything so far.
    pub fn answer(&mut self, connection: &Rc<Connection>, write: impl FnOnce(&mut Vec<u8>)) {
        self.answer_raw(connection, |out| frames::write_text(out, write));
    }

    /// Answers a request with an error; without an id, what could not be understood.
    pub fn refuse(&mut self, connection: &Rc<Connection>, id: Option<&RawValue>, error: &Error) {
        self.note_refusal(connection, id, error);
        let number = connection.dialect.number(error);
        self.answer(connection, |out| wire::write_error_as(out, id, number, error));
    }

    /// Counts a request that is refused, and says so in the log.
    pub fn note_refusal(&self, connection: &Connection, id: Option<&RawValue>, error: &Error) {
        self.shard.count_refusal(Refused::Request, error.code());
        #[cfg(feature = "otel")]
        super::spans::refused(error);
        tracing::debug!(
            room = %self.room.name(),
            peer = %self.peer_id(connection),
            request = %shown(id),
            error = error.code().name(),
            "a request is refused"
        );
    }

    /// Who a connection speaks for, or will when it joins.
    pub fn peer_id(&self, connection: &Connection) -> Arc<str> {
        let peer = connection.peer.get().and_then(|peer| self.room.peer(peer));
        let identity = connection.identity.borrow();
        match (peer, identity.as_ref()) {
            (Some(peer), _) => peer.identity.peer_id.clone(),
            (None, Some(identity)) => identity.peer_id.as_str().into(),
            (None, None) => "".into(),
        }
    }

    /// The same for bytes that are framed already.
    pub fn answer_raw(&mut self, connection: &Rc<Connection>, write: impl FnOnce(&mut Vec<u8>)) {
        self.answer_with(connection, |out, _| write(out));
    }

    /// The same for a message about the room.
    pub fn answer_from_room(&mut self, connection: &Rc<Connection>, write: impl FnOnce(&mut Vec<u8>, &Room)) {
        self.answer_with(connection, |out, room| frames::write_text(out, |out| write(out, room)));
    }

    /// The answer to a set: as a rule the text of the new state has just been written for everybody.
    pub fn answer_set(&mut self, connection: &Rc<Connection>, id: &RawValue, state: &Arc<Change>) {
        let is_told = self.told.take().is_some_and(|told| Arc::ptr_eq(&told, state));
        let (batch, plan) = self.outgoing.open(&self.shard.spares);
        let start = batch.answers.len();
        let Batch { stream, answers, last_state, .. } = batch;
        frames::write_text(answers, |out| match stream.get(last_state.clone()).filter(|_| is_told) {
            Some(written) => wire::write_written_state_result(out, id, written),
            None => wire::write_state_result(out, id, state),
        });
        if connection.outbox.borrow_mut().insert_answer(batch, start) {
            plan.answered.push(connection.clone());
        }
    }

    fn answer_with(&mut self, connection: &Rc<Connection>, write: impl FnOnce(&mut Vec<u8>, &Room)) {
        let (batch, plan) = self.outgoing.open(&self.shard.spares);
        let start = batch.answers.len();
        write(&mut batch.answers, &self.room);
        if connection.outbox.borrow_mut().insert_answer(batch, start) {
            plan.answered.push(connection.clone());
        }
    }

    fn answer_shared(&mut self, connection: &Rc<Connection>, frame: Rc<Vec<u8>>) {
        let (batch, plan) = self.outgoing.open(&self.shard.spares);
        if connection.outbox.borrow_mut().insert_shared(batch, frame) {
            plan.answered.push(connection.clone());
        }
    }

    /// Everybody in the room, or the peer alone if it may not know of others.
    pub fn answer_peer_list(&mut self, connection: &Rc<Connection>) {
        if !connection.sees_peers.get() {
            let own = connection.peer.get();
            return self.answer_from_room(connection, |out, room| wire::write_peer_list(out, room, own));
        }
        if self.room.peer_count() <= SMALL_PEER_LIST {
            return self.answer_from_room(connection, |out, room| wire::write_peer_list(out, room, None));
        }
        let room = &self.room;
        let list = self.peer_list.get_or_insert_with(|| {
            let mut frame = Vec::new();
            frames::write_text(&mut frame, |out| wire::write_peer_list(out, room, None));
            frame.shrink_to_fit();
            Rc::new(frame)
        });
        let list = list.clone();
        self.answer_shared(connection, list);
    }

    /// What the peer missed since a revision of this session, if that can be told; otherwise the state of every
    /// key it listens to.
    pub fn answer_missed(&mut self, connection: &Rc<Connection>, peer: PeerHandle, since: Option<&(String, u64)>) {
        let since = since.filter(|(session, _)| self.room.session_id().is_some_and(|id| **id == **session));
        match since.and_then(|(_, revision)| self.room.changes_since(peer, *revision)) {
            Some(missed) if missed.is_empty() => {}
            Some(missed) => self.answer(connection, |out| {
                wire::write_changes(out, missed.iter().map(|change| (&**change, 0)), false);
            }),
            None => self.answer_snapshot(connection, peer),
        }
    }

    /// The state of every key the peer listens to; nothing if there is none.
    pub fn answer_snapshot(&mut self, connection: &Rc<Connection>, peer: PeerHandle) {
        let Some(group) = self.room.group_of(peer) else { return };
        if self.room.keys_of(group).nth(SMALL_SNAPSHOT).is_none() {
            return self.answer_from_room(connection, |out, room| write_snapshot(out, room, group));
        }
        let room = &self.room;
        let same = |have: &Snapshot| have.group == group || room.keys_of(group).eq(have.keys.iter().copied());
        let snapshot = match self.snapshot.take().filter(|have| same(have)) {
            Some(mut snapshot) => {
                snapshot.group = group;
                snapshot
            }
            None => {
                let mut frame = Vec::new();
                frames::write_text(&mut frame, |out| write_snapshot(out, room, group));
                frame.shrink_to_fit();
                Box::new(Snapshot { group, keys: room.keys_of(group).collect(), frame: Rc::new(frame) })
            }
        };
        let frame = snapshot.frame.clone();
        self.snapshot = Some(snapshot);
        self.answer_shared(connection, frame);
    }

    /// Sends a close frame after everything else, and lets the connection's peer go.
    pub fn close(&mut self, connection: &Rc<Connection>, now: Time, code: u16, reason: &str) {
        if connection.state.get() != State::Open {
            return;
        }
        if let Some(meters) = &self.shard.meters {
            meters.close(code);
        }
        tracing::debug!(room = %self.room.name(), peer = %self.peer_id(connection), code, reason, "a connection is closed");
        if connection.peer.get().is_some() {
            self.bring_up_to_date(connection);
            self.detach(connection, now);
        }
        self.answer_raw(connection, |out| frames::write_close(out, code, reason));
        connection.close_by.set(now.saturating_add(CLOSE_WAIT_MS));
        connection.state.set(State::Closing);
    }

    /// Closes a connection that takes nothing: all that waits for it is dropped.
    pub fn close_slow(&mut self, connection: &Rc<Connection>, now: Time) {
        self.shard.count_refusal(Refused::Close, ErrorCode::SlowReader);
        tracing::debug!(room = %self.room.name(), peer = %self.peer_id(connection), "a slow connection is closed");
        self.detach(connection, now);
        let mut outbox = connection.outbox.borrow_mut();
        outbox.forget_insertions();
        if let Some(parked) = &mut outbox.parked {
            let mut frame = Vec::new();
            frames::write_close(&mut frame, close_code(ErrorCode::SlowReader), "nothing was read for too long");
            parked.keep_begun_only();
            parked.push_answer(frame);
        }
        connection.close_by.set(now.saturating_add(CLOSE_WAIT_MS));
        connection.state.set(State::Closing);
    }

    // ------------------------------------------------------------------ flushing

    pub fn batch_is_full(&self) -> bool {
        self.outgoing.bytes() > MAX_BATCH_BYTES
    }

    /// Begins to send the current batch. Returns whether there is one.
    fn freeze(&mut self) -> bool {
        if !self.outgoing.has_output() {
            return false;
        }
        let Some((batch, mut plan)) = self.outgoing.open.take() else { return false };
        (self.outgoing.next_number, self.outgoing.next_start) = (batch.number + 1, batch.end());
        plan.make(&batch, &self.room, &self.members);
        let begun = self.shard.meters.as_ref().and_then(|meters| meters.begin_batch());
        self.outgoing.flushing.push(Flushing { batch, plan, next_answered: 0, next_visit: 0, begun });
        self.waiting.drain(..).for_each(Waker::wake);
        true
    }

    fn flush(&mut self, writes: &mut usize) -> bool {
        #[cfg(feature = "http")]
        self.tell_watchers();
        if self.outgoing.flushing.is_empty() {
            self.freeze();
        }
        #[cfg(feature = "otel")]
        let _span = super::spans::fan_out(self.room.name());
        while let Some(flushing) = self.outgoing.flushing.first_mut() {
            // Who asked something is answered first.
            let plan = &flushing.plan;
            while let Some(connection) = plan.answered.get(flushing.next_answered as usize).filter(|_| *writes > 0) {
                connection.deliver(&flushing.batch, &plan.filter(connection), true);
                flushing.next_answered += 1;
                *writes -= 1;
            }
            while let Some(slot) = plan.visits.get(flushing.next_visit as usize).filter(|_| *writes > 0) {
                if let Some(Some(connection)) = self.members.get(*slot as usize) {
                    if connection.outbox.borrow().cursor < flushing.batch.end() {
                        connection.deliver(&flushing.batch, &plan.filter(connection), true);
                        *writes -= 1;
                    }
                }
                flushing.next_visit += 1;
            }
            if (flushing.next_visit as usize) < plan.visits.len()
                || (flushing.next_answered as usize) < plan.answered.len()
            {
                return true;
            }
            let Flushing { batch, plan, begun, .. } = self.outgoing.flushing.remove(0);
            self.shard.told(Told { batch, plan, begun });
        }
        self.queued = self.outgoing.has_output();
        self.queued
    }

    /// Sends one connection everything up to now, ahead of its turn: what it listens to is about
    /// to change, or it is about to go.
    pub fn bring_up_to_date(&mut self, connection: &Rc<Connection>) {
        if !self.shard.keep() {
            return;
        }
        self.freeze();
        for flushing in &self.outgoing.flushing {
            let waits = connection.outbox.borrow().cursor < flushing.batch.end();
            if waits || !connection.outbox.borrow().is_flushed() {
                connection.deliver(&flushing.batch, &flushing.plan.filter(connection), false);
            }
        }
    }

    /// Makes up for what a slow connection was not sent, now that it has taken the rest.
    pub fn catch_up(&mut self, connection: &Rc<Connection>, missed: Conflated) {
        // A list of peers is not to be followed by what is older.
        self.tell_news(self.shard.now());
        // What is not yet flushed has newer states, which must not be sent twice.
        let mut missed = missed;
        {
            let mut outbox = connection.outbox.borrow_mut();
            if let Some(parked) = &mut outbox.parked {
                parked.conflate_from_now();
            }
        }
        self.bring_up_to_date(connection);
        let mut outbox = connection.outbox.borrow_mut();
        let Some(parked) = &mut outbox.parked else { return };
        if let Some(more) = parked.take_conflated() {
            missed.add(more);
        }
        if connection.peer.get().is_none() {
            return;
        }
        // A key that is forgotten has no state to tell; that it is not in a snapshot says that it is gone.
        let is_forgotten = missed.keys.keys().any(|key| self.room.state_of(*key).is_none());
        let group = connection.peer.get().and_then(|peer| self.room.group_of(peer)).filter(|_| is_forgotten);
        let keys: Vec<KeySlot> = match group {
            Some(group) => self.room.keys_of(group).collect(),
            None => missed.keys.keys().copied().collect(),
        };
        let replaced = |key: &KeySlot| missed.keys.get(key).map_or(0, |count| count - 1);
        let states = keys.iter().filter_map(|key| Some((self.room.state_of(*key)?, replaced(key))));
        let mut states: Vec<_> = states.collect();
        states.sort_by_key(|(state, _)| state.version);
        if let Some(meters) = &self.shard.meters {
            let told = missed.keys.keys().filter(|key| self.room.state_of(**key).is_some()).count() as u64;
            meters.conflated.add(missed.keys.values().sum::<u64>().saturating_sub(told));
        }
        if !states.is_empty() || group.is_some() {
            let mut frame = Vec::new();
            frames::write_text(&mut frame, |out| {
                let written = states.iter().map(|(state, replaced)| (&**state, *replaced));
                wire::write_changes(out, written, group.is_some());
            });
            parked.push_states(frame, states.len());
        }
        if missed.peers {
            let own = connection.peer.get().filter(|_| !connection.sees_peers.get());
            let mut frame = Vec::new();
            frames::write_text(&mut frame, |out| wire::write_peer_list(out, &self.room, own));
            parked.push_answer(frame);
        }
    }
}
