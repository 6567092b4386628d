//! One room on its loop: the state machine, its members' connections, and the frames it has to
//! send.

mod answers;
mod flushing;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::core::error::{Error, ErrorCode};
use crate::core::journal::Origin;
use crate::core::room::{Change, Command, Event, GroupHandle, KeySlot, Peer, PeerHandle, Reply, Room, Time};
use crate::core::rules::Rules;
use crate::core::wire;

use super::batch::Concern;
use super::budget::Budget;
use super::connection::{Connection, Dialect};
use super::keeper::{Entered, Kept, Ledger};
use super::news::News;
use super::notice::Notice;
use super::options::MAX_POLICY_ROLES;
use super::peer_list::PeerList;
use super::shard::Shard;
#[cfg(feature = "http")]
use super::watch::Watch;

use answers::Snapshot;
use flushing::Outgoing;

/// A close code beyond the standard's: 4000 and the number of the error.
pub(super) fn close_code(code: ErrorCode) -> u16 {
    4_000 + code.number() as u16
}

/// Longest reason in a close frame, in bytes. RFC 6455, 5.5 has 125 with the code; this leaves a few.
#[cfg(feature = "http")]
pub(super) const MAX_CLOSE_REASON_BYTES: usize = 120;

/// A request's id for the log: the client's text, with nothing in it that a terminal would obey.
pub(super) fn shown(id: Option<&RawValue>) -> impl std::fmt::Display + '_ {
    id.map_or("", |id| id.get().trim_matches('"')).escape_debug()
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
    members: SmallVec<[Option<Rc<Connection>>; 2]>,
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
    /// Who watches from outside, while there is anybody.
    #[cfg(feature = "http")]
    pub watching: Option<Box<Watch>>,
    /// Who waits for a lock, by the number of the wait: the connection, and the id of its request.
    waits: BTreeMap<u64, (Rc<Connection>, Box<RawValue>)>,
    /// What peers in their grace period may still ask, by their slots: who comes back does not get more.
    budgets: BTreeMap<u32, (PeerHandle, Box<Budget>)>,
    snapshot: Option<Box<Snapshot>>,
    peer_list: Option<Box<PeerList>>,
    /// What the shard's counters and its list of deadlines have of this room.
    counted_open: bool,
    counted_peers: usize,
    deadline: Option<Time>,
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
        // Nobody is in it any more.
        inner.shard.count(inner.counted_open, false, inner.counted_peers, 0);
        (inner.counted_open, inner.counted_peers) = (false, 0);
    }
}

impl Inner {
    fn new(shard: Rc<Shard>, name: Arc<str>) -> Inner {
        let room = Room::new(name, shard.shared.limits.clone()).with_rules(shard.rules.borrow().clone());
        Inner {
            shard,
            room,
            ledger: None,
            members: SmallVec::new(),
            connections: 0,
            outgoing: Outgoing::default(),
            queued: false,
            waiting: Vec::new(),
            news: News::default(),
            told: None,
            roles: None,
            together: Vec::new(),
            #[cfg(feature = "http")]
            watching: None,
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
        self.watching.is_some()
    }

    #[cfg(not(feature = "http"))]
    fn is_watched(&self) -> bool {
        false
    }

    #[cfg(feature = "http")]
    fn has_untold(&self) -> bool {
        self.watching.as_ref().is_some_and(|watching| watching.has_untold())
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

    /// The connection of a peer, if it has one now.
    fn connection_of(&self, peer: PeerHandle) -> Option<Rc<Connection>> {
        let member = self.members.get(peer.slot as usize).and_then(Option::clone);
        member.filter(|connection| connection.peer.get() == Some(peer))
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
                self.change_peer_list(|list| list.joined(peer));
                self.learn_role(peer);
                // It is not a member yet, and begins after this.
                self.tell_peers(peer, None, wire::write_peer_join);
            }
            Event::PeerUpdated(peer) => {
                self.change_peer_list(|list| list.updated(peer));
                self.learn_role(peer);
                self.tell_peers(peer, Some(peer), wire::write_peer_update);
            }
            Event::PeerLeft { peer, peer_id, connection_lost } => {
                self.change_peer_list(PeerList::left);
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
                if let Some(connection) = self.connection_of(peer) {
                    let refusal = revoked.first().and_then(|key| self.room.check_read(peer, key).err());
                    if let Some(error) = refusal {
                        let keys = revoked.iter().map(|key| &**key);
                        self.answer(&connection, |out| wire::write_listen_revoked(out, keys, &error));
                    }
                    self.answer_snapshot(&connection, peer);
                }
            }
            Event::LockTaken { peer, name, token } => {
                if let Some(connection) = self.connection_of(peer) {
                    self.answer(&connection, |out| wire::write_lock_lost(out, &name, token));
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
                self.peer_list = None;
                self.roles = None;
                self.news.forget();
                self.members = SmallVec::new();
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
    pub fn change_role(
        &mut self,
        connection: &Rc<Connection>,
        peer: PeerHandle,
        role: &str,
        now: Time,
    ) -> Result<(), Error> {
        self.bring_up_to_date(connection);
        let is_another = self.room.peer(peer).is_some_and(|known| *known.role != *role);
        self.apply(now, Command::ChangeRole { peer, role })?;
        self.look_again(connection);
        // Others are told with the news, but what this client asked for says nothing of a role.
        if is_another && connection.dialect != Dialect::Original {
            self.answer_from_room(connection, |out, room| {
                if let Some(known) = room.peer(peer) {
                    wire::write_peer_update(out, known);
                }
            });
        }
        Ok(())
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
        *connection.admission.borrow_mut() = None;
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
}
