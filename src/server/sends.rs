//! The writes of a loop's turn, handed to the system together where that is possible.

use std::io;
use std::ops::Range;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::time::Instant;

use super::batch::{Batch, Filter};
use super::connection::Connection;
use super::options::{COPIED_BYTES, FEWEST_SENDS_TOGETHER};
use super::outbox::{join, offer, Delivery, Segment};
use super::plan::Plan;
use super::ring::{Ring, Target};

/// What waits to be written, until the end of the turn.
#[derive(Default)]
pub(super) struct Sends {
    /// By which writes are made together, where there is one.
    ring: Option<Ring>,
    /// What is to be written, one connection after the other; lent to those that write at once too.
    segments: Vec<Segment>,
    /// Copies of what lies in several places.
    joined: Vec<u8>,
    waiting: Vec<Waiting>,
    /// Lent to the ring.
    outcomes: Vec<io::Result<usize>>,
    /// Batches of which all is written when this is.
    batches: Vec<Told>,
}

/// One connection's.
struct Waiting {
    connection: Rc<Connection>,
    target: Target,
    segments: Range<usize>,
    /// Where they are copied together; one need not be.
    joined: Option<Range<usize>>,
    /// How many changes of keys it tells.
    changes: u64,
}

/// A batch that everybody concerned was given.
pub(super) struct Told {
    pub batch: Rc<Batch>,
    pub plan: Box<Plan>,
    /// When it began, if it is timed.
    pub begun: Option<Instant>,
}

impl Sends {
    pub fn new(ring: Option<Ring>) -> Sends {
        Sends { ring, ..Sends::default() }
    }

    /// Gives a connection its part of a batch; what came of it, unless that is written with the others of the turn.
    pub fn deliver(
        &mut self,
        connection: &Rc<Connection>,
        batch: &Rc<Batch>,
        filter: &Filter<'_>,
        changes: u64,
        may_wait: bool,
    ) -> Option<Delivery> {
        let mut outbox = connection.outbox.borrow_mut();
        let queue_bytes = connection.shard.options().queue_bytes;
        let from = self.segments.len();
        let done = outbox.take(batch, filter, &mut self.segments, queue_bytes);
        if done.is_some() {
            return done;
        }
        let target = match self.ring {
            Some(_) if may_wait => connection.socket.target(outbox.ends),
            _ => None,
        };
        let Some((target, joined)) = target.and_then(|target| Some((target, self.join(from)?))) else {
            let now = || connection.shard.now();
            let delivery = outbox.write(&connection.socket, &self.segments[from..], queue_bytes, now);
            self.segments.truncate(from);
            return Some(delivery);
        };
        outbox.is_on_its_way = true;
        let segments = from..self.segments.len();
        self.waiting.push(Waiting { connection: connection.clone(), target, segments, joined, changes });
        None
    }

    /// Copies the segments from one on together, if there are several. `None` if they are too long for that.
    fn join(&mut self, from: usize) -> Option<Option<Range<usize>>> {
        if self.segments.len() == from + 1 {
            return Some(None);
        }
        let mut buffer = [0; COPIED_BYTES];
        let length = join(&self.segments[from..], &mut buffer)?;
        let start = self.joined.len();
        self.joined.extend_from_slice(&buffer[..length]);
        Some(Some(start..start + length))
    }

    /// Whether something waits to be written.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Keeps a batch until what waits is written.
    pub fn keep(&mut self, told: Told) {
        self.batches.push(told);
    }

    /// The batches of which all is written by now.
    pub fn take_told(&mut self) -> impl Iterator<Item = Told> + '_ {
        self.batches.drain(..)
    }

    /// Makes the writes that wait. Returns the connections at which something failed that should not.
    pub fn send(&mut self) -> Vec<Rc<Connection>> {
        let (segments, joined) = (&self.segments, &self.joined);
        let bytes = |waiting: &Waiting| match &waiting.joined {
            Some(range) => &joined[range.clone()],
            None => segments[waiting.segments.start].bytes(),
        };
        if let Some(ring) = self.ring.as_mut().filter(|_| self.waiting.len() >= FEWEST_SENDS_TOGETHER) {
            let sends = self.waiting.iter().map(|waiting| (waiting.target, bytes(waiting)));
            if let Err(error) = ring.send(sends, &mut self.outcomes) {
                tracing::warn!(%error, "io_uring failed; from now on every write is a system call of its own");
                self.ring = None;
            }
        }
        let mut faulty = Vec::new();
        let mut outcomes = self.outcomes.drain(..);
        for waiting in self.waiting.drain(..) {
            let connection = &waiting.connection;
            let written = outcomes.next().unwrap_or_else(|| {
                let are_last_words = connection.outbox.borrow().ends;
                offer(&connection.socket, &[io::IoSlice::new(bytes(&waiting))], are_last_words)
            });
            let segments = &segments[waiting.segments.clone()];
            let settle = || connection.settle(segments, written, waiting.changes);
            if catch_unwind(AssertUnwindSafe(settle)).is_err() {
                faulty.push(waiting.connection);
            }
        }
        drop(outcomes);
        self.segments.clear();
        self.joined.clear();
        faulty
    }
}
