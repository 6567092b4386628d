//! What a room has to say until it is flushed: every frame encoded once, for whoever it concerns.
//!
//! Frames for many stand one after the other in the *stream*, each with a mark that says whom it
//! concerns; a listener is given one contiguous slice of it. Frames for one connection, the
//! *answers*, are kept apart so that they leave no gaps in the slices of others, and are inserted
//! at their position when that connection is written to.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::core::room::{Change, GroupHandle, KeySlot, PeerHandle};
use crate::core::wire;

use crate::frames;

/// What a frame is about, which says whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// One key: whoever listens to it.
    Key(KeySlot),
    /// Several keys that changed in one revision, or one that is forgotten: these groups.
    Groups(Rc<Concern>),
}

impl Topic {
    /// The keys that a frame about it tells changes of.
    pub fn keys(&self) -> &[KeySlot] {
        match self {
            Topic::Key(key) => std::slice::from_ref(key),
            Topic::Groups(concern) => &concern.keys,
        }
    }
}

/// Keys, and the groups that listen to exactly these of what changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Concern {
    pub keys: Vec<KeySlot>,
    pub groups: Vec<GroupHandle>,
}

/// Whom a frame of the stream concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Who listens to this, by its index in [`Batch::topics`].
    Topic(u32),
    /// Every peer but one, of those that were in the room when it happened: the number of the news.
    Peers { except: Option<PeerHandle>, number: u64 },
}

/// The end of a frame, which begins where the one before ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub end: u32,
    pub audience: Audience,
}

/// What a batch's buffers hold at least, in bytes.
const FIRST_BYTES: usize = 512;

/// The frames between two flushes.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// The batches of a room are numbered.
    pub number: u64,
    /// Position of the first byte in the stream of the room.
    pub start: u64,
    pub stream: Vec<u8>,
    pub marks: Vec<Mark>,
    /// What the frames are about, each key once.
    pub topics: Vec<Topic>,
    /// The number of the first news of peers in it.
    pub first_news: Option<u64>,
    /// Peers that some frame leaves out.
    pub exceptions: Vec<PeerHandle>,
    pub answers: Vec<u8>,
    /// Changes of keys in all frames.
    pub changes: u64,
    /// Where in the stream the state is that was told last.
    pub last_state: Range<usize>,
}

impl Batch {
    /// The position after the last byte.
    pub fn end(&self) -> u64 {
        self.start + self.stream.len() as u64
    }

    /// Where a position of the room's stream is in this one, or the end that is nearer.
    pub fn place_of(&self, position: u64) -> u32 {
        position.saturating_sub(self.start).min(self.stream.len() as u64) as u32
    }

    pub fn is_empty(&self) -> bool {
        self.stream.is_empty() && self.answers.is_empty()
    }

    /// Appends a change for who listens to its key.
    pub fn push_change(&mut self, key: KeySlot, change: &Change) {
        let mut state = (0, 0);
        self.push(key, |out| state = wire::write_change(out, change));
        let (length, after) = state;
        let end = self.stream.len() - after;
        self.last_state = end - length..end;
    }

    /// Appends a frame for who listens to `key`.
    pub fn push(&mut self, key: KeySlot, write: impl FnOnce(&mut Vec<u8>)) {
        // The key that changed last is the likeliest to change again.
        let topic = Topic::Key(key);
        let index = self.topics.iter().rposition(|have| *have == topic).unwrap_or_else(|| {
            self.topics.push(topic);
            self.topics.len() - 1
        });
        frames::write_text(&mut self.stream, write);
        self.changes += 1;
        self.mark(Audience::Topic(index as u32));
    }

    /// Appends a frame with the changes of one revision for the groups that listen to all of them.
    pub fn push_changes(&mut self, concern: Concern, changes: &[&Arc<Change>]) {
        self.topics.push(Topic::Groups(Rc::new(concern)));
        let index = self.topics.len() - 1;
        self.changes += changes.len() as u64;
        frames::write_text(&mut self.stream, |out| {
            wire::write_changes(out, changes.iter().map(|change| (&***change, 0)), false);
        });
        self.mark(Audience::Topic(index as u32));
    }

    /// Appends a frame that is encoded already, for all peers but one.
    pub fn push_to_peers(&mut self, except: Option<PeerHandle>, number: u64, frame: &[u8]) {
        self.first_news.get_or_insert(number);
        self.exceptions.extend(except);
        self.stream.extend_from_slice(frame);
        self.mark(Audience::Peers { except, number });
    }

    fn mark(&mut self, audience: Audience) {
        self.marks.push(Mark { end: self.stream.len() as u32, audience });
    }

    /// Makes a batch that is empty the next of a room.
    pub fn begin(&mut self, number: u64, start: u64) {
        (self.number, self.start) = (number, start);
        // Enough for a change and its answer, so that they need not grow bit by bit.
        self.stream.reserve(FIRST_BYTES);
        self.answers.reserve(FIRST_BYTES);
    }

    /// Empties it, but keeps the memory for the next.
    pub fn clear(&mut self) {
        self.stream.clear();
        self.marks.clear();
        self.topics.clear();
        self.first_news = None;
        self.last_state = 0..0;
        self.exceptions.clear();
        self.changes = 0;
        self.answers.clear();
    }

    /// The bytes of memory it holds, about.
    pub fn size(&self) -> usize {
        self.stream.capacity() + self.answers.capacity() + self.marks.capacity() * size_of::<Mark>()
    }

    /// The mark of the frame that has the byte before `end`, and those after it.
    pub fn marks_after(&self, from: u32) -> &[Mark] {
        let first = self.marks.partition_point(|mark| mark.end <= from);
        self.marks.get(first..).unwrap_or(&[])
    }

    /// How many changes of keys pass the filter from a place on.
    pub fn changes_from(&self, from: u32, filter: &Filter<'_>) -> u64 {
        if filter.passes_nothing() {
            return 0;
        }
        // As a rule all is about one key, or nobody has to walk through the frames.
        if from == 0 && self.topics.len() == 1 && self.first_news.is_none() {
            return if filter.passes(Audience::Topic(0)) { self.changes } else { 0 };
        }
        if from == 0 && filter.passes_all_of(self) {
            return self.changes;
        }
        let passed = self.marks_after(from).iter().filter(|mark| filter.passes(mark.audience));
        passed.map(|mark| self.changes_of(mark.audience)).sum()
    }

    /// How many changes of keys the frames between two frame ends tell.
    pub fn changes_in(&self, range: Range<u32>) -> u64 {
        let frames = self.marks_after(range.start).iter().take_while(|mark| mark.end <= range.end);
        frames.map(|mark| self.changes_of(mark.audience)).sum()
    }

    fn changes_of(&self, audience: Audience) -> u64 {
        match audience {
            Audience::Topic(index) => self.topics.get(index as usize).map_or(0, |topic| topic.keys().len() as u64),
            Audience::Peers { .. } => 0,
        }
    }

    /// Calls `each` with the ranges of the stream between two frame ends that pass the filter, as
    /// few as possible.
    pub fn select(&self, range: Range<u32>, filter: &Filter<'_>, mut each: impl FnMut(Range<u32>)) {
        if range.is_empty() || filter.passes_nothing() {
            return;
        }
        if filter.passes_all_of(self) {
            return each(range);
        }
        let mut begin = range.start;
        let mut open: Option<Range<u32>> = None;
        for mark in self.marks_after(range.start) {
            if begin >= range.end {
                break;
            }
            match (&mut open, filter.passes(mark.audience)) {
                (Some(open), true) => open.end = mark.end,
                (none @ None, true) => *none = Some(begin..mark.end),
                (some, false) => {
                    if let Some(done) = some.take() {
                        each(done);
                    }
                }
            }
            begin = mark.end;
        }
        if let Some(done) = open {
            each(done);
        }
    }
}

/// Which frames of a batch concern one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter<'a> {
    /// The peer; none for a connection that is not in the room.
    pub peer: Option<PeerHandle>,
    /// News of peers with a lower number are older than it is; all are for one that may not know of them.
    pub news_from: u64,
    /// One bit for each of the batch's topics that it listens to.
    pub topics: &'a [u64],
}

impl Filter<'_> {
    fn passes_nothing(&self) -> bool {
        self.peer.is_none()
    }

    fn passes_all_of(&self, batch: &Batch) -> bool {
        let listened: u32 = self.topics.iter().map(|word| word.count_ones()).sum();
        listened as usize == batch.topics.len()
            && batch.first_news.is_none_or(|first| first >= self.news_from)
            && !self.peer.is_some_and(|peer| batch.exceptions.contains(&peer))
    }

    /// Whether a frame concerns the connection.
    pub fn passes(&self, audience: Audience) -> bool {
        match audience {
            _ if self.peer.is_none() => false,
            Audience::Peers { except, number } => self.peer != except && number >= self.news_from,
            Audience::Topic(index) => {
                self.topics.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::names::KeyList;
    use crate::core::room::{Command, Introduction, Reply, Room};

    /// A room with one peer that listens to `count` keys, and their slots.
    pub fn slots(count: usize) -> (PeerHandle, Vec<KeySlot>) {
        let mut room = Room::new("r", Default::default());
        let mut events = Vec::new();
        let peer = Introduction { peer_id: "p", user_id: "", name: None, role: "r", metadata: None, secret: None };
        let joined = room.apply(0, Command::Join { peer, new_session_id: "s" }, &mut events).expect("joined");
        let Reply::Joined { peer, .. } = joined else { panic!("not joined") };
        let keys: Vec<String> = (0..count).map(|index| format!("k{index:03}")).collect();
        let keys: KeyList = keys.iter().map(String::as_str).collect();
        let listen = Command::Listen { peer, keys: &keys, prefixes: &KeyList::default() };
        room.apply(0, listen, &mut events).expect("listens");
        let slots = room.listen_set(peer).collect();
        (peer, slots)
    }

    fn selected(batch: &Batch, range: Range<u32>, filter: Filter<'_>) -> Vec<(u32, u32)> {
        let mut ranges = Vec::new();
        batch.select(range, &filter, |range| ranges.push((range.start, range.end)));
        ranges
    }

    #[test]
    fn gives_one_slice_where_it_can_and_merges_around_gaps() {
        let (peer, slots) = slots(70);
        let mut batch = Batch::default();
        // Frames of 10 bytes: header 2, payload 8.
        for key in [0, 69, 69, 0, 0] {
            batch.push(slots[key], |out| out.extend_from_slice(b"8 bytes."));
        }
        assert_eq!(batch.topics.len(), 2);
        let some = Some(peer);
        assert_eq!(selected(&batch, 0..50, Filter { peer: some, news_from: 0, topics: &[0b11] }), [(0, 50)]);
        assert_eq!(selected(&batch, 0..50, Filter { peer: some, news_from: 0, topics: &[0b01] }), [(0, 10), (30, 50)]);
        assert_eq!(selected(&batch, 10..40, Filter { peer: some, news_from: 0, topics: &[0b10] }), [(10, 30)]);
        assert_eq!(selected(&batch, 0..50, Filter { peer: some, news_from: 0, topics: &[0] }), []);
        assert_eq!(selected(&batch, 0..50, Filter { peer: None, news_from: 0, topics: &[0b11] }), []);

        batch.push_to_peers(some, 7, b"10  bytes.");
        batch.push_to_peers(None, 8, b"10  bytes.");
        assert_eq!(selected(&batch, 0..70, Filter { peer: some, news_from: 0, topics: &[0b11] }), [(0, 50), (60, 70)]);
        assert_eq!(selected(&batch, 0..70, Filter { peer: some, news_from: 0, topics: &[0] }), [(60, 70)]);
        // One that was not there yet.
        assert_eq!(selected(&batch, 50..70, Filter { peer: some, news_from: 8, topics: &[0] }), [(60, 70)]);
        assert_eq!(selected(&batch, 50..70, Filter { peer: None, news_from: 0, topics: &[0] }), []);
        assert_eq!(selected(&batch, 0..70, Filter { peer: some, news_from: 9, topics: &[0b11] }), [(0, 50)]);
    }

    #[test]
    fn knows_the_text_of_the_state_it_told_last() {
        let (_, slots) = slots(2);
        let mut batch = Batch::default();
        for (slot, size) in slots.iter().zip([2, 200]) {
            let value = "v".repeat(size);
            let change = Change { value: value.as_str().into(), ..Change::absent("k".into()) };
            batch.push_change(*slot, &change);
            let text = format!("{{\"key\":\"k\",\"data\":\"{value}\",\"change_version\":0}}");
            assert_eq!(batch.stream.get(batch.last_state.clone()), Some(text.as_bytes()));
        }
    }

    #[test]
    fn tells_keys_apart_beyond_one_word_of_the_mask() {
        let (peer, slots) = slots(70);
        let mut batch = Batch::default();
        for slot in &slots {
            batch.push(*slot, |out| out.extend_from_slice(b"8 bytes."));
        }
        let filter = Filter { peer: Some(peer), news_from: 0, topics: &[1, 1 << 5] };
        assert_eq!(selected(&batch, 0..700, filter), [(0, 10), (690, 700)]);
        let filter = Filter { peer: Some(peer), news_from: 0, topics: &[u64::MAX, (1 << 6) - 1] };
        assert_eq!(selected(&batch, 0..700, filter), [(0, 700)]);
    }
}
