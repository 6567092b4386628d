//! What one connection is told: answers to its requests, the state of what it listens to, and why it is closed.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::core::error::{Error, ErrorCode};
use crate::core::room::{Change, GroupHandle, KeySlot, PeerHandle, Room, Time};
use crate::core::wire;
use crate::frames;
use crate::server::batch::Batch;
use crate::server::connection::{Connection, State};
use crate::server::metrics::Refused;
use crate::server::options::CLOSE_WAIT_MS;
use crate::server::peer_list::PeerList;

use super::{close_code, shown, Inner};

/// Up to so many peers the list is written for each who asks; more are kept for the next.
const SMALL_PEER_LIST: usize = 8;

/// The same for the keys of a snapshot.
const SMALL_SNAPSHOT: usize = 4;

/// The answer to a listen, kept for the next who listens to the same keys.
pub(super) struct Snapshot {
    /// Who asked last, so that as a rule the keys need not be compared.
    group: GroupHandle,
    keys: Vec<KeySlot>,
    frame: Rc<Vec<u8>>,
}

fn write_snapshot(out: &mut Vec<u8>, room: &Room, group: GroupHandle) {
    let states: Vec<_> = room.keys_of(group).filter_map(|key| room.state_of(key)).collect();
    wire::write_changes(out, states.iter().map(|state| (&**state, 0)), true);
}

impl Inner {
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
        crate::server::spans::refused(error);
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
        let admission = connection.admission.borrow();
        match (peer, admission.as_ref()) {
            (Some(peer), _) => peer.identity.peer_id.clone(),
            (None, Some(admission)) => admission.peer_id.as_str().into(),
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
        let list = self.peer_list.get_or_insert_with(|| Box::new(PeerList::new(&self.room)));
        list.renew(&self.room);
        let (batch, plan) = self.outgoing.open(&self.shard.spares);
        let mut outbox = connection.outbox.borrow_mut();
        let start = batch.answers.len();
        list.write_begin(&mut batch.answers);
        let mut is_first = outbox.insert_answer(batch, start);
        for block in list.shared() {
            is_first |= outbox.insert_shared(batch, block.clone());
        }
        let start = batch.answers.len();
        list.write_end(&mut batch.answers);
        is_first |= outbox.insert_answer(batch, start);
        if is_first {
            plan.answered.push(connection.clone());
        }
    }

    /// Somebody has come, changed or gone: the list of peers is mended when it is wanted, or begun anew.
    pub(super) fn change_peer_list(&mut self, change: impl FnOnce(&mut PeerList)) {
        if let Some(list) = &mut self.peer_list {
            change(list);
            if list.is_outdated() {
                self.peer_list = None;
            }
        }
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
}
