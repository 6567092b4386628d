//! How what a room has to say goes out: batches, and what makes up for what a slow connection was not sent.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use smallvec::SmallVec;

use crate::core::room::KeySlot;
use crate::core::wire;
use crate::frames;
use crate::server::batch::Batch;
use crate::server::connection::Connection;
use crate::server::options::MAX_BATCH_BYTES;
use crate::server::outbox::Conflated;
use crate::server::plan::{Plan, Spares};
use crate::server::sends::Told;

use super::Inner;

/// What the room has to send.
#[derive(Default)]
pub(super) struct Outgoing {
    /// What is appended to; none while there is nothing to say.
    pub(super) open: Option<(Rc<Batch>, Box<Plan>)>,
    /// The number of the next batch, and where it begins in the stream of the room.
    pub(super) next_number: u64,
    pub(super) next_start: u64,
    /// Batches that are being sent, oldest first. As a rule there is one.
    pub(super) flushing: SmallVec<[Flushing; 1]>,
}

/// A batch on its way.
pub(super) struct Flushing {
    batch: Rc<Batch>,
    plan: Box<Plan>,
    next_answered: u32,
    next_visit: u32,
    /// When it began, if it is timed.
    begun: Option<Instant>,
}

impl Outgoing {
    pub(super) fn open(&mut self, spares: &RefCell<Spares>) -> (&mut Batch, &mut Plan) {
        let (number, start) = (self.next_number, self.next_start);
        let (batch, plan) = self.open.get_or_insert_with(|| spares.borrow_mut().take(number, start));
        // Nobody shares it yet, so this copies nothing.
        (Rc::make_mut(batch), plan)
    }

    /// The position after everything so far.
    pub(super) fn position(&self) -> u64 {
        self.open.as_ref().map_or(self.next_start, |(batch, _)| batch.end())
    }

    /// Bytes for many that wait for the flush.
    pub(super) fn bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |(batch, _)| batch.stream.len())
    }

    pub(super) fn has_output(&self) -> bool {
        self.open.as_ref().is_some_and(|(batch, plan)| !batch.is_empty() || !plan.answered.is_empty())
    }
}

impl Inner {
    pub fn batch_is_full(&self) -> bool {
        self.outgoing.bytes() > MAX_BATCH_BYTES
    }

    /// Begins to send the current batch. Returns whether there is one.
    pub(super) fn freeze(&mut self) -> bool {
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

    pub(super) fn flush(&mut self, writes: &mut usize) -> bool {
        #[cfg(feature = "http")]
        self.tell_watchers();
        if self.outgoing.flushing.is_empty() {
            self.freeze();
        }
        #[cfg(feature = "otel")]
        let _span = crate::server::spans::fan_out(self.room.name());
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
