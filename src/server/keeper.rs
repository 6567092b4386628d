//! What a loop has to keep of its rooms, until the turn is over.
//!
//! Nothing of a turn leaves the loop before the journal has what happened in it: so what somebody was told is never
//! lost. What happens in a turn to all rooms is kept at once.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use crate::core::error::Error;
use crate::core::journal::{self, Origin};
use crate::core::room::{Command, Event, Reply, Room, Time};

use super::journal::Journal;
use super::metrics::Meters;

/// The records of a room may have so many bytes, or twice as many as its checkpoint, before it gets another
/// checkpoint: so a journal has three times what its rooms have, and each byte is written twice at most.
const MIN_RECORD_BYTES: usize = 64 * 1024;

/// What is to be kept of a room, at the end of a turn.
#[cfg_attr(not(feature = "durable"), allow(dead_code))] // Nobody is there to read it.
pub(super) struct Keep {
    /// The number of the room's session in the database.
    pub id: i64,
    pub what: What,
}

#[cfg_attr(not(feature = "durable"), allow(dead_code))] // Nobody is there to read it.
pub(super) enum What {
    /// The whole room, in place of what there was of it.
    Checkpoint { name: Arc<str>, bytes: Vec<u8> },
    /// What happened since, after which the store has this revision.
    Record { sequence: u32, revision: u64, entries: Vec<u8> },
    /// The session is over.
    End,
}

impl What {
    /// The bytes that are kept.
    fn len(&self) -> usize {
        match self {
            What::Checkpoint { bytes, .. } | What::Record { entries: bytes, .. } => bytes.len(),
            What::End => 0,
        }
    }
}

/// A room that was kept.
pub(super) struct Kept {
    pub id: i64,
    pub room: Room,
    /// Whether its session is another one than was kept, because the last of that may be lost.
    pub is_new_session: bool,
}

/// What was found in a data directory.
pub(super) struct Found {
    pub rooms: Vec<Kept>,
    /// The latest time that is known of them.
    pub at: Time,
}

/// The part of the journal that a loop has to do with.
pub(super) struct Keeper {
    journal: Arc<Journal>,
    /// What this turn has to be kept.
    keeps: RefCell<Vec<Keep>>,
    /// Counts the turns.
    turn: Cell<u64>,
    /// Lent to the command that is applied.
    entries: Cell<Vec<u8>>,
    meters: Option<Arc<Meters>>,
}

/// What the journal has of a room; nothing of one that is not kept.
pub(super) type Ledger = Option<Box<Entered>>;

/// What has been entered of a room that is kept.
#[derive(Default)]
pub(super) struct Entered {
    /// The number of its session.
    id: i64,
    next_sequence: u32,
    record_bytes: usize,
    checkpoint_bytes: usize,
    /// The record of this turn, if the turn is this.
    open: Option<(u64, usize)>,
}

impl Entered {
    /// Of a room that was rebuilt, whose checkpoint has been written.
    pub fn of(id: i64, room: &Room) -> Entered {
        let checkpoint_bytes = room.checkpoint().map_or(0, |checkpoint| checkpoint.len());
        Entered { id, checkpoint_bytes, ..Entered::default() }
    }
}

impl Keeper {
    pub fn new(journal: Arc<Journal>, meters: Option<Arc<Meters>>) -> Keeper {
        Keeper { journal, keeps: RefCell::default(), turn: Cell::new(0), entries: Cell::default(), meters }
    }

    /// Applies a command to a room and sees to it that what it did is kept.
    pub fn apply(
        &self,
        room: &mut Room,
        ledger: &mut Ledger,
        now: Time,
        origin: Origin,
        command: Command<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Error> {
        let mut entries = self.entries.take();
        entries.clear();
        let reply = journal::apply(room, &mut entries, now, origin, command, events);
        if !entries.is_empty() {
            self.keep(room, ledger, &entries);
        }
        self.entries.set(entries);
        reply
    }

    fn keep(&self, room: &Room, ledger: &mut Ledger, entries: &[u8]) {
        if !room.is_open() {
            return self.forget(ledger);
        }
        let has_room = |entered: &&mut Box<Entered>| {
            entered.record_bytes + entries.len() <= MIN_RECORD_BYTES.max(2 * entered.checkpoint_bytes)
        };
        let id = ledger.as_ref().map(|entered| entered.id);
        let Some(ledger) = ledger.as_mut().filter(has_room) else {
            let Some(bytes) = room.checkpoint() else { return };
            let id = id.unwrap_or_else(|| self.journal.next_id());
            *ledger = Some(Box::new(Entered { id, checkpoint_bytes: bytes.len(), ..Entered::default() }));
            let what = What::Checkpoint { name: room.name().clone(), bytes };
            return self.keeps.borrow_mut().push(Keep { id, what });
        };
        ledger.record_bytes += entries.len();
        let keeps = &mut *self.keeps.borrow_mut();
        let open = ledger.open.filter(|(turn, _)| *turn == self.turn.get());
        if let Some(Keep { what: What::Record { revision, entries: so_far, .. }, .. }) =
            open.and_then(|(_, place)| keeps.get_mut(place))
        {
            *revision = room.revision();
            return so_far.extend_from_slice(entries);
        }
        ledger.open = Some((self.turn.get(), keeps.len()));
        let sequence = ledger.next_sequence;
        ledger.next_sequence += 1;
        let what = What::Record { sequence, revision: room.revision(), entries: entries.to_vec() };
        keeps.push(Keep { id: ledger.id, what });
    }

    /// Nothing is to be kept of a room any more.
    pub fn forget(&self, ledger: &mut Ledger) {
        if let Some(entered) = ledger.take() {
            self.keeps.borrow_mut().push(Keep { id: entered.id, what: What::End });
        }
    }

    /// Whether something waits to be kept.
    pub fn is_waiting(&self) -> bool {
        !self.keeps.borrow().is_empty()
    }

    /// Keeps what waits. After a failure nobody may be told anything any more.
    pub fn commit(&self) -> Result<(), Error> {
        let mut keeps = self.keeps.borrow_mut();
        if keeps.is_empty() {
            return Ok(());
        }
        self.turn.set(self.turn.get() + 1);
        #[cfg(feature = "otel")]
        let _span = super::spans::journal_commit();
        let Some(meters) = &self.meters else { return self.journal.commit(&mut keeps) };
        meters.journal_records.add(keeps.len() as u64);
        meters.journal_bytes.add(keeps.iter().map(|keep| keep.what.len() as u64).sum());
        let begun = Instant::now();
        let committed = self.journal.commit(&mut keeps);
        meters.journal_commit.add(begun.elapsed());
        committed
    }
}
