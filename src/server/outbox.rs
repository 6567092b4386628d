//! The write side of one connection: where it is in the stream of its room, its own answers, and
//! what its socket has not taken.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

use smallvec::SmallVec;

use crate::core::room::{KeySlot, Time};

use super::batch::{Audience, Batch, Concern, Filter, Topic};
use super::options::{COPIED_BYTES, MAX_SLICES};
use super::stream::Stream;

/// What waits for one connection.
#[derive(Default)]
pub(super) struct Outbox {
    /// Everything before this position of the room's stream is dealt with.
    pub cursor: u64,
    /// Answers that the next flush sends, in order.
    insertions: SmallVec<[Insertion; 1]>,
    /// Bytes of these answers.
    inserted_bytes: usize,
    /// Whether the socket is closed as soon as everything is written.
    pub ends: bool,
    /// Whether something was taken that is not settled yet.
    pub is_on_its_way: bool,
    /// Present while the socket would block.
    pub parked: Option<Box<Parked>>,
}

struct Insertion {
    /// The batch it is flushed with.
    batch: u64,
    /// It goes after everything before this position.
    position: u64,
    piece: Piece,
}

enum Piece {
    /// A part of the batch's answers.
    Answer { start: u32, end: u32 },
    /// Frames that are shared with others, such as a snapshot.
    Shared(Rc<Vec<u8>>),
}

/// A part of a shared buffer that is to be written.
#[derive(Clone)]
pub(super) struct Segment {
    data: Data,
    start: u32,
    end: u32,
}

#[derive(Clone)]
enum Data {
    Stream(Rc<Batch>),
    Answers(Rc<Batch>),
    Shared(Rc<Vec<u8>>),
}

/// What the socket has not taken, and what was dropped because it did not.
pub(super) struct Parked {
    queue: VecDeque<Parcel>,
    bytes: usize,
    /// Whether the first parcel lacks its beginning, which is written already.
    begun: bool,
    /// Present from when the queue was full until everything in it is written.
    conflated: Option<Conflated>,
    /// Changes that were written and are not counted yet.
    delivered: u64,
    /// When the socket took something last.
    pub progress_at: Time,
}

/// Notifications that were dropped: the newest state of each key makes up for them.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Conflated {
    /// Keys, with how many of their changes were dropped.
    pub keys: BTreeMap<KeySlot, u64>,
    /// Whether something about peers was dropped.
    pub peers: bool,
}

impl Conflated {
    /// Adds what was dropped later.
    pub fn add(&mut self, later: Conflated) {
        for (key, count) in later.keys {
            *self.keys.entry(key).or_default() += count;
        }
        self.peers |= later.peers;
    }
}

struct Parcel {
    segment: Segment,
    what: What,
}

#[derive(Clone)]
enum What {
    /// Must be sent.
    Answer,
    /// So must the newest of so many keys, which stand for what was dropped.
    States(u32),
    /// Frames a newer one can stand for.
    Key(KeySlot),
    Keys(Rc<Concern>),
    Peers,
}

impl What {
    /// Takes note that frames are dropped; `false` for one that must be sent.
    fn drop_into(&self, conflated: &mut Conflated) -> bool {
        let keys = match self {
            What::Answer | What::States(_) => return false,
            What::Key(key) => std::slice::from_ref(key),
            What::Keys(concern) => &concern.keys,
            What::Peers => {
                conflated.peers = true;
                &[]
            }
        };
        keys.iter().for_each(|key| *conflated.keys.entry(*key).or_default() += 1);
        true
    }
}

impl What {
    /// How many changes of keys it tells.
    fn changes(&self) -> u64 {
        match self {
            What::Answer | What::Peers => 0,
            What::States(count) => u64::from(*count),
            What::Key(_) => 1,
            What::Keys(concern) => concern.keys.len() as u64,
        }
    }
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// There was nothing to write.
    Nothing,
    Written,
    /// The socket would block from now on: a writer has to take over.
    Blocked,
    /// Added to what waits already.
    Parked,
    /// The connection is gone.
    Broken,
}

impl Segment {
    pub fn bytes(&self) -> &[u8] {
        self.bytes_until(self.end)
    }

    /// The bytes of the buffer from the segment's start to `end`.
    fn bytes_until(&self, end: u32) -> &[u8] {
        let all: &[u8] = match &self.data {
            Data::Stream(batch) => &batch.stream,
            Data::Answers(batch) => &batch.answers,
            Data::Shared(bytes) => bytes,
        };
        all.get(self.start as usize..end as usize).unwrap_or(&[])
    }

    fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// How many changes of keys it tells.
    fn changes(&self) -> u64 {
        match &self.data {
            Data::Stream(batch) => batch.changes_in(self.start..self.end),
            Data::Answers(_) | Data::Shared(_) => 0,
        }
    }

    /// Keeps the part alone when it is small, so that a slow connection does not hold the whole
    /// of many buffers.
    fn detached(mut self) -> Segment {
        let whole = match &self.data {
            Data::Stream(batch) => batch.stream.len(),
            Data::Answers(batch) => batch.answers.len(),
            Data::Shared(bytes) => bytes.len(),
        };
        if self.len() * 2 < whole {
            let copy = self.bytes().to_vec();
            self = Segment { start: 0, end: copy.len() as u32, data: Data::Shared(Rc::new(copy)) };
        }
        self
    }

    fn has_the_buffer_of(&self, other: &Segment) -> bool {
        match (&self.data, &other.data) {
            (Data::Stream(a), Data::Stream(b)) | (Data::Answers(a), Data::Answers(b)) => Rc::ptr_eq(a, b),
            (Data::Shared(a), Data::Shared(b)) => Rc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_flushed(&self) -> bool {
        self.insertions.is_empty() && self.parked.is_none()
    }

    /// Bytes of answers that wait for the flush.
    pub fn inserted_bytes(&self) -> usize {
        self.inserted_bytes
    }

    /// Notes an answer, a part of the current batch's. Returns whether it is this connection's
    /// first in that batch.
    pub fn insert_answer(&mut self, batch: &Batch, start: usize) -> bool {
        let (start, end) = (start as u32, batch.answers.len() as u32);
        self.inserted_bytes += (end - start) as usize;
        let (number, position) = (batch.number, batch.end());
        match self.insertions.last_mut() {
            Some(Insertion { batch, position: at, piece: Piece::Answer { end: before, .. } })
                if *batch == number && *at == position && *before == start =>
            {
                *before = end;
                false
            }
            _ => self.insert(number, position, Piece::Answer { start, end }),
        }
    }

    /// The same for frames that are shared with others.
    pub fn insert_shared(&mut self, batch: &Batch, bytes: Rc<Vec<u8>>) -> bool {
        self.inserted_bytes += bytes.len();
        self.insert(batch.number, batch.end(), Piece::Shared(bytes))
    }

    fn insert(&mut self, batch: u64, position: u64, piece: Piece) -> bool {
        let first = self.insertions.last().is_none_or(|last| last.batch != batch);
        self.insertions.push(Insertion { batch, position, piece });
        first
    }

    /// Drops the answers that wait for the flush.
    pub fn forget_insertions(&mut self) {
        self.insertions = SmallVec::new();
        self.inserted_bytes = 0;
    }

    /// How many changes of keys a batch has for this connection.
    pub fn changes_in(&self, batch: &Batch, filter: &Filter<'_>) -> u64 {
        batch.changes_from(batch.place_of(self.cursor), filter)
    }

    /// How many changes of keys were written of what waited, since this was asked last.
    pub fn take_delivered(&mut self) -> u64 {
        self.parked.as_mut().map_or(0, |parked| std::mem::take(&mut parked.delivered))
    }

    /// Appends what a batch has for this connection to `segments`, to be [written](Self::write), or written otherwise
    /// and then [settled](Self::settle). What came of it if there is nothing to write now.
    pub fn take(
        &mut self,
        batch: &Rc<Batch>,
        filter: &Filter<'_>,
        segments: &mut Vec<Segment>,
        queue_bytes: usize,
    ) -> Option<Delivery> {
        let from = segments.len();
        debug_assert!(!self.is_on_its_way, "what was taken before may be parked, and comes first");
        self.collect(batch, filter, segments);
        self.cursor = self.cursor.max(batch.end());
        if segments.len() == from {
            return Some(Delivery::Nothing);
        }
        let parked = self.parked.as_mut()?;
        for segment in segments.drain(from..) {
            parked.push(segment, 0);
        }
        parked.bound(queue_bytes);
        Some(Delivery::Parked)
    }

    /// Writes segments that were taken, and settles that.
    pub fn write(
        &mut self,
        socket: &Stream,
        segments: &[Segment],
        queue_bytes: usize,
        now: impl FnOnce() -> Time,
    ) -> Delivery {
        let written = write(socket, segments, self.ends);
        self.settle(segments, written, socket.holds_back(), queue_bytes, now)
    }

    /// Parks what the socket did not take of segments that were taken: all behind so many bytes.
    pub fn settle(
        &mut self,
        segments: &[Segment],
        written: io::Result<usize>,
        is_held_back: bool,
        queue_bytes: usize,
        now: impl FnOnce() -> Time,
    ) -> Delivery {
        self.is_on_its_way = false;
        let Ok(bytes) = written else { return Delivery::Broken };
        let (whole, rest) = taken_segments(segments, bytes);
        if whole == segments.len() && !is_held_back {
            return Delivery::Written;
        }
        let mut parked = Box::new(Parked::new(now()));
        for (nth, segment) in segments.iter().enumerate().skip(whole) {
            parked.push(segment.clone(), if nth == whole { rest } else { 0 });
        }
        let all: u64 = segments.iter().map(Segment::changes).sum();
        parked.delivered = all.saturating_sub(parked.changes());
        parked.bound(queue_bytes);
        self.parked = Some(parked);
        Delivery::Blocked
    }

    /// The segments of a batch for this connection, in order.
    fn collect(&mut self, batch: &Rc<Batch>, filter: &Filter<'_>, segments: &mut Vec<Segment>) {
        let end = batch.stream.len() as u32;
        let mut at = batch.place_of(self.cursor);
        let stream = |segments: &mut Vec<Segment>, from: u32, to: u32| {
            batch.select(from..to, filter, |range| {
                let data = Data::Stream(batch.clone());
                segments.push(Segment { data, start: range.start, end: range.end });
            });
        };
        let due = self.insertions.iter().take_while(|insertion| insertion.batch <= batch.number).count();
        for insertion in self.insertions.drain(..due) {
            let position = batch.place_of(insertion.position);
            if position > at {
                stream(segments, at, position);
                at = position;
            }
            let segment = match insertion.piece {
                Piece::Answer { start, end } => Segment { data: Data::Answers(batch.clone()), start, end },
                Piece::Shared(bytes) => Segment { end: bytes.len() as u32, data: Data::Shared(bytes), start: 0 },
            };
            self.inserted_bytes = self.inserted_bytes.saturating_sub(segment.len());
            segments.push(segment);
        }
        if self.insertions.is_empty() {
            // One has its place here; idle connections keep no memory for more.
            self.insertions = SmallVec::new();
        }
        stream(segments, at, end);
    }
}

/// Writes segments until the socket takes no more. Returns how many bytes it took.
fn write(socket: &Stream, segments: &[Segment], are_last_words: bool) -> io::Result<usize> {
    if let [one] = segments {
        return offer(socket, &[IoSlice::new(one.bytes())], are_last_words);
    }
    let mut joined = [0; COPIED_BYTES];
    if let Some(length) = join(segments, &mut joined) {
        return offer(socket, &[IoSlice::new(&joined[..length])], are_last_words);
    }
    let mut done = 0;
    for segments in segments.chunks(MAX_SLICES) {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut offered = 0;
        for (slice, segment) in slices.iter_mut().zip(segments) {
            *slice = IoSlice::new(segment.bytes());
            offered += segment.len();
        }
        let taken = offer(socket, &slices[..segments.len()], are_last_words)?;
        done += taken;
        if taken < offered {
            break;
        }
    }
    Ok(done)
}

/// Copies segments together, which is cheaper than having the system collect a little from several places. `None` if
/// they are too long for that.
pub(super) fn join(segments: &[Segment], joined: &mut [u8; COPIED_BYTES]) -> Option<usize> {
    let mut length = 0;
    for segment in segments {
        let end = length + segment.len();
        joined.get_mut(length..end)?.copy_from_slice(segment.bytes());
        length = end;
    }
    Some(length)
}

/// Writes once. Returns how many bytes were taken.
pub(super) fn offer(socket: &Stream, slices: &[IoSlice<'_>], are_last_words: bool) -> io::Result<usize> {
    match socket.try_write(slices, are_last_words) {
        Ok(0) => Err(ErrorKind::WriteZero.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

/// How many segments so many bytes are, and how many of the next.
fn taken_segments(segments: &[Segment], mut bytes: usize) -> (usize, usize) {
    let mut whole = 0;
    while let Some(segment) = segments.get(whole).filter(|segment| segment.len() <= bytes) {
        bytes -= segment.len();
        whole += 1;
    }
    (whole, bytes)
}

impl Parked {
    fn new(now: Time) -> Parked {
        Parked { queue: VecDeque::new(), bytes: 0, begun: false, conflated: None, delivered: 0, progress_at: now }
    }

    /// Appends what is left of a segment after `written` bytes, a stream's frame by frame.
    fn push(&mut self, segment: Segment, written: usize) {
        let batch = match &segment.data {
            Data::Stream(batch) => batch.clone(),
            Data::Answers(_) | Data::Shared(_) => {
                let segment = Segment { start: segment.start + written as u32, ..segment };
                return self.push_parcel(segment.detached(), What::Answer, written > 0);
            }
        };
        let from = segment.start + written as u32;
        let rest = Segment { start: from, ..segment.clone() };
        let kept = rest.clone().detached();
        let begins_within =
            written > 0 && batch.marks_after(from.saturating_sub(1)).first().is_none_or(|mark| mark.end != from);
        let mut begin = from;
        for mark in batch.marks_after(from) {
            if begin >= segment.end {
                break;
            }
            let what = match mark.audience {
                Audience::Topic(index) => match batch.topics.get(index as usize) {
                    Some(Topic::Key(key)) => What::Key(*key),
                    Some(Topic::Groups(concern)) => What::Keys(concern.clone()),
                    None => What::Answer,
                },
                Audience::Peers { .. } => What::Peers,
            };
            let range = Segment {
                data: kept.data.clone(),
                start: begin - from + kept.start,
                end: mark.end - from + kept.start,
            };
            self.push_parcel(range, what, begins_within && begin == from);
            begin = mark.end;
        }
    }

    fn push_parcel(&mut self, segment: Segment, what: What, begun: bool) {
        if self.conflated.as_mut().is_some_and(|conflated| !begun && what.drop_into(conflated)) {
            return;
        }
        self.begun |= begun;
        self.bytes += segment.len();
        self.queue.push_back(Parcel { segment, what });
    }

    /// The bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes of keys that wait.
    fn changes(&self) -> u64 {
        self.queue.iter().map(|parcel| parcel.what.changes()).sum()
    }

    /// Appends frames that must be sent.
    pub fn push_answer(&mut self, bytes: Vec<u8>) {
        self.push_whole(bytes, What::Answer);
    }

    /// The same for the newest states of so many keys.
    pub fn push_states(&mut self, bytes: Vec<u8>, count: usize) {
        self.push_whole(bytes, What::States(count as u32));
    }

    fn push_whole(&mut self, bytes: Vec<u8>, what: What) {
        let segment = Segment { start: 0, end: bytes.len() as u32, data: Data::Shared(Rc::new(bytes)) };
        self.push_parcel(segment, what, false);
    }

    /// Falls back to the newest of each key when more waits than may: frames that are not begun
    /// and that a newer one can stand for are dropped.
    fn bound(&mut self, queue_bytes: usize) {
        if self.conflated.is_some() || self.bytes <= queue_bytes {
            return;
        }
        let mut conflated = Conflated::default();
        let mut first_is_begun = self.begun;
        self.queue.retain(|parcel| {
            let keep = std::mem::take(&mut first_is_begun);
            keep || !parcel.what.drop_into(&mut conflated)
        });
        self.bytes = self.queue.iter().map(|parcel| parcel.segment.len()).sum();
        self.conflated = Some(conflated);
    }

    /// Drops everything but the rest of a frame that is begun.
    pub fn keep_begun_only(&mut self) {
        // An answer may hold several frames, and then its end is not the end of the one begun; it
        // is kept whole.
        self.queue.truncate(usize::from(self.begun));
        self.bytes = self.queue.iter().map(|parcel| parcel.segment.len()).sum();
        self.conflated = None;
    }

    /// Whether everything is written.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What was dropped, once: then changes are queued again.
    pub fn take_conflated(&mut self) -> Option<Conflated> {
        self.conflated.take()
    }

    /// Drops notifications from now on, and counts them.
    pub fn conflate_from_now(&mut self) {
        self.conflated.get_or_insert_default();
    }

    /// Writes once. An error of the kind `WouldBlock` means that the socket took nothing.
    pub fn write(&mut self, socket: &Stream, now: impl FnOnce() -> Time) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        let mut parcels = self.queue.iter().map(|parcel| &parcel.segment).peekable();
        while count < MAX_SLICES {
            let Some(segment) = parcels.next() else { break };
            let mut end = segment.end;
            while let Some(next) = parcels.next_if(|next| next.start == end && next.has_the_buffer_of(segment)) {
                end = next.end;
            }
            slices[count] = IoSlice::new(segment.bytes_until(end));
            count += 1;
        }
        let mut taken = match socket.try_write(&slices[..count], false) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            other => other?,
        };
        self.progress_at = now();
        self.bytes = self.bytes.saturating_sub(taken);
        while let Some(parcel) = self.queue.front_mut() {
            if parcel.segment.len() > taken {
                if taken > 0 {
                    parcel.segment.start += taken as u32;
                    self.begun = true;
                }
                break;
            }
            taken -= parcel.segment.len();
            self.delivered += parcel.what.changes();
            self.begun = false;
            self.queue.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::room::PeerHandle;
    use crate::frames::write_text;
    use crate::server::batch::tests::slots;
    use crate::server::stream::TestSocket;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// A key changes; even ones are listened to.
        Change(usize),
        /// Something about a peer; the receiver itself or another.
        Peer {
            itself: bool,
        },
        /// An answer to this connection, of that many bytes.
        Answer(usize),
        Shared(usize),
        /// The socket takes so many bytes from now on.
        Allow(usize),
        Flush,
        Drain,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0usize..4).prop_map(Step::Change),
            1 => any::<bool>().prop_map(|itself| Step::Peer { itself }),
            2 => (0usize..300).prop_map(Step::Answer),
            1 => (0usize..300).prop_map(Step::Shared),
            3 => (0usize..120).prop_map(Step::Allow),
            4 => Just(Step::Flush),
            3 => Just(Step::Drain),
        ];
        proptest::collection::vec(step, 1..80)
    }

    /// One connection, driven without a room.
    struct Bench {
        keys: Vec<KeySlot>,
        peer: PeerHandle,
        batch: Batch,
        outbox: Outbox,
        socket: Rc<TestSocket>,
        stream: Stream,
        queue_bytes: usize,
        /// All that concerns the connection, in order; notifications with their key.
        said: Vec<(Option<usize>, String)>,
        /// How many notifications of each key were dropped, and of peers whether.
        missed: Conflated,
        next: usize,
    }

    impl Bench {
        fn new(queue_bytes: usize) -> Bench {
            let (peer, keys) = slots(4);
            let socket = Rc::new(TestSocket::default());
            Bench {
                keys,
                peer,
                batch: Batch::default(),
                outbox: Outbox::default(),
                stream: socket.clone().into(),
                socket,
                queue_bytes,
                said: Vec::new(),
                missed: Conflated::default(),
                next: 0,
            }
        }

        fn text(&mut self, kind: &str, pad: usize) -> String {
            self.next += 1;
            format!("{kind}{}{}", self.next, ".".repeat(pad))
        }

        fn step(&mut self, step: &Step) {
            match *step {
                Step::Change(key) => {
                    let text = self.text(&format!("change{key}:"), 20);
                    self.batch.push(self.keys[key], |out| out.extend_from_slice(text.as_bytes()));
                    if key % 2 == 0 {
                        self.said.push((Some(key), text));
                    }
                }
                Step::Peer { itself } => {
                    let text = self.text("peer:", 30);
                    let except = itself.then_some(self.peer);
                    let mut frame = Vec::new();
                    write_text(&mut frame, |out| out.extend_from_slice(text.as_bytes()));
                    self.batch.push_to_peers(except, 0, &frame);
                    if !itself {
                        self.said.push((Some(usize::MAX), text));
                    }
                }
                Step::Answer(pad) => {
                    let text = self.text("answer:", pad);
                    let start = self.batch.answers.len();
                    write_text(&mut self.batch.answers, |out| out.extend_from_slice(text.as_bytes()));
                    self.outbox.insert_answer(&self.batch, start);
                    self.said.push((None, text));
                }
                Step::Shared(pad) => {
                    let text = self.text("shared:", pad);
                    let mut frame = Vec::new();
                    write_text(&mut frame, |out| out.extend_from_slice(text.as_bytes()));
                    self.outbox.insert_shared(&self.batch, Rc::new(frame));
                    self.said.push((None, text));
                }
                Step::Allow(bytes) => self.socket.allowance.set(bytes),
                Step::Flush => self.flush(),
                Step::Drain => self.drain(),
            }
        }

        fn flush(&mut self) {
            let next = Batch { number: self.batch.number + 1, start: self.batch.end(), ..Batch::default() };
            let batch = Rc::new(std::mem::replace(&mut self.batch, next));
            // The connection listens to the even keys.
            let mut mask = 0;
            for (nth, key) in batch.topics.iter().enumerate() {
                let key = self.keys.iter().position(|have| Topic::Key(*have) == *key).expect("one of the keys");
                mask |= u64::from(key % 2 == 0) << nth;
            }
            let filter = Filter { peer: Some(self.peer), news_from: 0, topics: &[mask][..batch.topics.len().min(1)] };
            let mut segments = Vec::new();
            if self.outbox.take(&batch, &filter, &mut segments, self.queue_bytes).is_none() {
                self.outbox.write(&self.stream, &segments, self.queue_bytes, || 0);
            }
        }

        /// What the writer task does.
        fn drain(&mut self) {
            while let Some(parked) = &mut self.outbox.parked {
                if !parked.is_empty() {
                    if parked.write(&self.stream, || 0).is_err() {
                        return;
                    }
                } else if let Some(conflated) = parked.take_conflated() {
                    self.missed.add(conflated);
                } else {
                    self.outbox.parked = None;
                }
            }
        }

        /// Everything the socket took, which must be whole frames.
        fn received(&mut self) -> Vec<String> {
            self.flush();
            self.socket.allowance.set(usize::MAX);
            self.drain();
            assert!(self.outbox.is_flushed());
            assert_eq!(self.outbox.inserted_bytes(), 0);
            let bytes = self.socket.taken.borrow();
            let mut frames = Vec::new();
            let mut rest = &bytes[..];
            while let [first, second, after @ ..] = rest {
                assert_eq!(*first, 0x81, "not the beginning of a frame");
                let (length, after) = match second {
                    126 => (usize::from(u16::from_be_bytes([after[0], after[1]])), &after[2..]),
                    short => (usize::from(*short), after),
                };
                frames.push(String::from_utf8(after[..length].to_vec()).expect("text"));
                rest = &after[length..];
            }
            assert!(rest.is_empty());
            frames
        }
    }

    #[test]
    fn a_full_queue_keeps_answers_and_counts_what_it_drops() {
        let mut bench = Bench::new(100);
        let change = Step::Change(0);
        // The first is begun when the socket blocks, so it is finished; the rest is dropped.
        for step in [change.clone(), Step::Allow(5), Step::Flush, change.clone(), change.clone(), Step::Answer(5)] {
            bench.step(&step);
        }
        for step in [Step::Flush, change.clone(), change, Step::Peer { itself: false }, Step::Flush] {
            bench.step(&step);
        }
        let received = bench.received();
        assert_eq!(received.len(), 2, "{received:?}");
        assert!(received[0].starts_with("change0:1.") && received[1].starts_with("answer:4."), "{received:?}");
        assert_eq!(bench.missed.keys, BTreeMap::from([(bench.keys[0], 4)]));
        assert!(bench.missed.peers);
    }

    proptest! {
        #[test]
        fn everything_arrives_in_order_whatever_the_socket_takes(steps in steps()) {
            let mut bench = Bench::new(usize::MAX);
            steps.iter().for_each(|step| bench.step(step));
            let received = bench.received();
            let said: Vec<String> = bench.said.iter().map(|(_, text)| text.clone()).collect();
            prop_assert_eq!(received, said);
        }

        #[test]
        fn a_full_queue_loses_nothing_uncounted(steps in steps(), queue_bytes in 0usize..400) {
            let mut bench = Bench::new(queue_bytes);
            steps.iter().for_each(|step| bench.step(step));
            let received = bench.received();
            let mut expected = bench.said.iter();
            let mut dropped = BTreeMap::<KeySlot, u64>::new();
            let mut peers = false;
            let mut drop_one = |(key, text): &(Option<usize>, String)| match key {
                None => panic!("the answer {text} was dropped"),
                Some(usize::MAX) => peers = true,
                Some(key) => *dropped.entry(bench.keys[*key]).or_default() += 1,
            };
            for frame in &received {
                // What comes is in order; what was skipped before it was dropped.
                loop {
                    let Some(said) = expected.next() else { panic!("{frame} came twice or out of order") };
                    if said.1 == *frame {
                        break;
                    }
                    drop_one(said);
                }
            }
            expected.for_each(drop_one);
            prop_assert_eq!(&bench.missed.keys, &dropped);
            prop_assert_eq!(bench.missed.peers, peers);
        }
    }
}
