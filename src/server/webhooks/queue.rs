//! The webhooks that wait: which is sent next, when one is tried again, and what goes when there are too many.
//!
//! It never asks what time it is and draws no random number, as the room does not: so the schedule is tested in
//! simulated time. Those of one room are sent one after the other; rooms do not wait for each other.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::payload;
use crate::core::room::Time;
use crate::server::notice::Notice;
use crate::server::options::{MAX_WEBHOOK_RETRY_MS, WEBHOOKS_AT_ONCE, WEBHOOK_TRIED_FOR_MS};

/// A webhook: what it says, under an id that stays the same however often it is sent.
#[derive(Debug)]
pub(super) struct Message {
    pub id: String,
    pub notice: Notice,
}

/// How sending one went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was taken, or refused for good: the next of its room is sent.
    Over,
    /// It is sent again, after so many milliseconds at least, if the receiver named a time.
    Again { retry_after_ms: Option<u64> },
}

/// What becomes of a webhook that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Over,
    /// It is sent again at this time.
    Again(Time),
    /// It was sent for as long as it is worth.
    GivenUp,
}

#[derive(Debug)]
struct Waiting {
    message: Arc<Message>,
    bytes: usize,
    /// How often it was sent, and when first.
    attempts: u32,
    first_at: Time,
    /// When it is sent, once it is the first of its room.
    at: Time,
    /// Whether it need not wait before it is sent again, the next time it is not taken.
    is_urgent: bool,
}

#[derive(Debug, Default)]
struct Line {
    /// The numbers of those that wait, in the order of what happened.
    numbers: VecDeque<u64>,
    /// Whether one of the room is being sent.
    is_busy: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    /// After the first failure of a webhook it is sent again after about so long.
    retry_ms: u64,
    most_bytes: usize,
    next_number: u64,
    /// Those that wait, oldest first.
    waiting: BTreeMap<u64, Waiting>,
    /// Those that are being sent.
    sending: BTreeMap<u64, Waiting>,
    /// The rooms that have any.
    lines: HashMap<Arc<str>, Line>,
    /// Of each room that has none on its way the first, by its time.
    due: BTreeSet<(Time, u64)>,
    /// Of all of them.
    bytes: usize,
    dropped: u64,
}

impl Queue {
    pub fn new(retry_ms: u64, most_bytes: usize) -> Queue {
        Queue {
            retry_ms,
            most_bytes,
            next_number: 0,
            waiting: BTreeMap::new(),
            sending: BTreeMap::new(),
            lines: HashMap::new(),
            due: BTreeSet::new(),
            bytes: 0,
            dropped: 0,
        }
    }

    /// Takes one more, in place of the oldest that wait if there are too many.
    pub fn push(&mut self, now: Time, message: Message) {
        let bytes = payload::bytes(&message.notice);
        let sending: usize = self.sending.values().map(|sent| sent.bytes).sum();
        if sending.saturating_add(bytes) > self.most_bytes {
            // However many others went, there would be no room for it.
            self.dropped += 1;
            return;
        }
        while self.bytes + bytes > self.most_bytes && self.drop_oldest() {}
        self.bytes += bytes;
        self.next_number += 1;
        let number = self.next_number;
        let room = message.notice.room.clone();
        let waiting =
            Waiting { message: Arc::new(message), bytes, attempts: 0, first_at: 0, at: now, is_urgent: false };
        self.waiting.insert(number, waiting);
        let line = self.lines.entry(room).or_default();
        line.numbers.push_back(number);
        if line.numbers.len() == 1 && !line.is_busy {
            self.due.insert((now, number));
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((number, oldest)) = self.waiting.pop_first() else { return false };
        self.due.remove(&(oldest.at, number));
        self.bytes -= oldest.bytes;
        self.dropped += 1;
        let room = &oldest.message.notice.room;
        if let Some(line) = self.lines.get_mut(room) {
            // The oldest of all is the oldest of its room.
            line.numbers.pop_front();
        }
        self.advance(oldest.at, room);
        true
    }

    /// The next of a room is the first now, if there is one.
    fn advance(&mut self, now: Time, room: &Arc<str>) {
        let Some(line) = self.lines.get(room).filter(|line| !line.is_busy) else { return };
        let Some(first) = line.numbers.front() else {
            self.lines.remove(room);
            return;
        };
        if let Some(waiting) = self.waiting.get_mut(first) {
            waiting.at = waiting.at.max(now);
            self.due.insert((waiting.at, *first));
        }
    }

    /// One to be sent now, with its number for [`settle`](Self::settle).
    pub fn next(&mut self, now: Time) -> Option<(u64, Arc<Message>)> {
        if self.sending.len() >= WEBHOOKS_AT_ONCE {
            return None;
        }
        let (at, number) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, number));
        let mut waiting = self.waiting.remove(&number)?;
        waiting.attempts += 1;
        if waiting.attempts == 1 {
            waiting.first_at = now;
        }
        let message = waiting.message.clone();
        if let Some(line) = self.lines.get_mut(&message.notice.room) {
            line.is_busy = true;
            line.numbers.pop_front();
        }
        self.sending.insert(number, waiting);
        Some((number, message))
    }

    /// When [`next`](Self::next) has one; `None` when something else must happen before.
    pub fn next_at(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at).filter(|_| self.sending.len() < WEBHOOKS_AT_ONCE)
    }

    /// One was sent. `random` is any number: those that failed together do not all come again together.
    pub fn settle(&mut self, now: Time, number: u64, outcome: Outcome, random: u32) -> Fate {
        let Some(mut sent) = self.sending.remove(&number) else { return Fate::Over };
        let fate = match outcome {
            Outcome::Over => Fate::Over,
            Outcome::Again { retry_after_ms } => {
                let pause = self.pause(sent.attempts, retry_after_ms, random);
                let at = if std::mem::take(&mut sent.is_urgent) { now } else { now.saturating_add(pause) };
                match at.saturating_sub(sent.first_at) > WEBHOOK_TRIED_FOR_MS {
                    true => Fate::GivenUp,
                    false => Fate::Again(at),
                }
            }
        };
        let room = sent.message.notice.room.clone();
        let line = self.lines.entry(room.clone()).or_default();
        line.is_busy = false;
        if let Fate::Again(at) = fate {
            sent.at = at;
            line.numbers.push_front(number);
            self.waiting.insert(number, sent);
            self.due.insert((at, number));
        } else {
            self.bytes -= sent.bytes;
            self.advance(now, &room);
        }
        fate
    }

    /// How long to wait after so many attempts: twice as long each time, less up to a half of it at random.
    fn pause(&self, attempts: u32, retry_after_ms: Option<u64>, random: u32) -> u64 {
        let factor = 1u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
        let longest = self.retry_ms.saturating_mul(factor).min(MAX_WEBHOOK_RETRY_MS);
        let less = (u128::from(longest / 2) * u128::from(random) / u128::from(u32::MAX)) as u64;
        (longest - less).max(retry_after_ms.unwrap_or(0).min(MAX_WEBHOOK_RETRY_MS))
    }

    /// What waits to be sent again need not wait any longer, and what is being sent need not wait once more.
    pub fn hurry(&mut self, now: Time) {
        self.sending.values_mut().for_each(|sent| sent.is_urgent = true);
        let later: Vec<(Time, u64)> = self.due.iter().copied().filter(|(at, _)| *at > now).collect();
        for (at, number) in later {
            self.due.remove(&(at, number));
            if let Some(waiting) = self.waiting.get_mut(&number) {
                waiting.at = now;
                self.due.insert((now, number));
            }
        }
    }

    /// How many there are, those included that are being sent.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.sending.len()
    }

    pub fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    /// How many were dropped since this was asked last.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::room::{Change, Ended};
    use crate::core::value::Value;

    const RETRY_MS: u64 = 1_000;
    const MOST_BYTES: usize = 100_000;
    const AGAIN: Outcome = Outcome::Again { retry_after_ms: None };
    /// As random as can be: nothing is taken off, or half of it.
    const LATEST: u32 = 0;
    const EARLIEST: u32 = u32::MAX;

    fn closed(room: &str, id: &str, value_bytes: usize) -> Message {
        let text = "x".repeat(value_bytes);
        let change = Change { value: Value::from(text.as_str()), ..Change::absent("k".into()) };
        let ended =
            Ended { session_id: "s".into(), started_at: 0, ended_at: 0, revision: 1, entries: vec![Arc::new(change)] };
        Message { id: id.into(), notice: Notice::closed(&room.into(), Box::new(ended)) }
    }

    fn queue(messages: &[(&str, &str)]) -> Queue {
        let mut queue = Queue::new(RETRY_MS, MOST_BYTES);
        messages.iter().for_each(|(room, id)| queue.push(0, closed(room, id, 1)));
        queue
    }

    /// Everything that can be sent now, by number and id.
    fn take(queue: &mut Queue, now: Time) -> Vec<(u64, String)> {
        std::iter::from_fn(|| queue.next(now)).map(|(number, message)| (number, message.id.clone())).collect()
    }

    fn ids(taken: &[(u64, String)]) -> Vec<&str> {
        taken.iter().map(|(_, id)| &**id).collect()
    }

    #[test]
    fn a_room_sends_one_after_the_other_and_rooms_do_not_wait_for_each_other() {
        let mut queue = queue(&[("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3")]);
        let first = take(&mut queue, 0);
        assert_eq!(ids(&first), ["a1", "b1"]);
        assert_eq!((queue.next_at(), queue.len()), (None, 4));
        assert_eq!(queue.settle(5, first[1].0, Outcome::Over, LATEST), Fate::Over);
        assert!(take(&mut queue, 1_000_000).is_empty(), "a1 is not back");
        let Fate::Again(at) = queue.settle(10, first[0].0, AGAIN, LATEST) else { panic!("given up") };
        assert_eq!((at, queue.next_at()), (1_010, Some(1_010)));
        assert!(take(&mut queue, 1_009).is_empty());
        let again = take(&mut queue, 1_010);
        assert_eq!(ids(&again), ["a1"], "in order, under the same id");
        queue.settle(1_020, again[0].0, Outcome::Over, LATEST);
        for id in ["a2", "a3"] {
            let next = take(&mut queue, 1_020);
            assert_eq!(ids(&next), [id]);
            queue.settle(1_020, next[0].0, Outcome::Over, LATEST);
        }
        assert_eq!((queue.len(), queue.bytes, queue.lines.len(), queue.next_at()), (0, 0, 0, None));
    }

    #[test]
    fn only_so_many_are_sent_at_once() {
        let mut queue = Queue::new(RETRY_MS, MOST_BYTES);
        for nth in 0..WEBHOOKS_AT_ONCE + 3 {
            queue.push(0, closed(&format!("room {nth}"), "m", 1));
        }
        let first = take(&mut queue, 0);
        assert_eq!((first.len(), queue.next_at()), (WEBHOOKS_AT_ONCE, None));
        queue.settle(1, first[0].0, Outcome::Over, LATEST);
        assert_eq!(take(&mut queue, 1).len(), 1);
    }

    /// The pauses of a webhook that is never taken, and how long it was tried.
    fn pauses(retry_ms: u64, retry_after_ms: Option<u64>, random: u32) -> (Vec<u64>, Time) {
        let mut queue = Queue::new(retry_ms, MOST_BYTES);
        queue.push(7, closed("a", "a1", 1));
        queue.push(7, closed("a", "a2", 1));
        let (mut now, mut pauses) = (7, Vec::new());
        loop {
            let (number, message) = queue.next(now).expect("it is due");
            assert_eq!(message.id, "a1");
            match queue.settle(now, number, Outcome::Again { retry_after_ms }, random) {
                Fate::Again(at) => {
                    pauses.push(at - now);
                    now = at;
                }
                Fate::GivenUp => break,
                Fate::Over => panic!("it is not over"),
            }
        }
        assert_eq!(ids(&take(&mut queue, now)), ["a2"], "the next has its turn");
        (pauses, now - 7)
    }

    #[test]
    fn the_schedule_is_that_of_the_manual() {
        let (longest, tried_for) = pauses(RETRY_MS, None, LATEST);
        assert_eq!(longest[..6], [1_000, 2_000, 4_000, 8_000, 16_000, 32_000]);
        assert_eq!(longest[11..14], [2_048_000, MAX_WEBHOOK_RETRY_MS, MAX_WEBHOOK_RETRY_MS]);
        assert!(tried_for <= WEBHOOK_TRIED_FOR_MS && tried_for > WEBHOOK_TRIED_FOR_MS - MAX_WEBHOOK_RETRY_MS);
        assert_eq!(longest.len(), 34, "35 attempts");
        let (shortest, _) = pauses(RETRY_MS, None, EARLIEST);
        assert_eq!(shortest[..3], [500, 1_000, 2_000]);
        assert!(shortest.iter().all(|pause| *pause <= MAX_WEBHOOK_RETRY_MS / 2 && *pause > 0));
    }

    #[test]
    fn the_receiver_may_ask_for_more_time_but_not_for_ever() {
        let (pauses_asked, _) = pauses(RETRY_MS, Some(10_000), LATEST);
        assert_eq!(pauses_asked[..6], [10_000, 10_000, 10_000, 10_000, 16_000, 32_000]);
        let (pauses_hostile, _) = pauses(RETRY_MS, Some(u64::MAX), LATEST);
        assert!(pauses_hostile.iter().all(|pause| *pause == MAX_WEBHOOK_RETRY_MS), "{pauses_hostile:?}");
        let (pauses_longest, _) = pauses(u64::MAX, None, EARLIEST);
        assert!(pauses_longest.iter().all(|pause| *pause == MAX_WEBHOOK_RETRY_MS / 2), "{pauses_longest:?}");
    }

    #[test]
    fn the_oldest_that_wait_go_when_there_are_too_many_bytes() {
        const PART: usize = MOST_BYTES / 4;
        let mut queue = Queue::new(RETRY_MS, MOST_BYTES);
        queue.push(0, closed("a", "a1", 1));
        let sent = take(&mut queue, 0);
        queue.push(1, closed("a", "a2", PART));
        queue.push(2, closed("b", "b1", PART));
        queue.push(3, closed("a", "a3", PART));
        assert_eq!(queue.take_dropped(), 0);
        queue.push(4, closed("c", "c1", PART));
        assert_eq!((queue.take_dropped(), queue.take_dropped()), (1, 0), "a2, as a1 is on its way");
        queue.push(5, closed("d", "d1", MOST_BYTES));
        assert_eq!(queue.take_dropped(), 1, "what can never fit goes alone");
        assert_eq!(queue.settle(6, sent[0].0, Outcome::Over, LATEST), Fate::Over);
        let rest = take(&mut queue, 6);
        assert_eq!(ids(&rest), ["b1", "c1", "a3"]);
        for (number, _) in rest {
            queue.settle(6, number, Outcome::Over, LATEST);
        }
        assert_eq!((queue.len(), queue.bytes, queue.lines.len(), queue.due.len()), (0, 0, 0, 0));
        queue.push(7, closed("a", "a4", 1));
        assert_eq!(ids(&take(&mut queue, 7)), ["a4"]);
    }

    #[test]
    fn one_that_waits_to_be_sent_again_may_be_dropped_too_and_the_next_is_sent() {
        let mut queue = queue(&[("a", "a1"), ("a", "a2")]);
        let sent = take(&mut queue, 0);
        assert_eq!(queue.settle(1, sent[0].0, AGAIN, LATEST), Fate::Again(1_001));
        assert!(queue.drop_oldest());
        assert_eq!(ids(&take(&mut queue, 1_001)), ["a2"]);
        assert!(!queue.drop_oldest(), "what is being sent is not dropped");
    }

    #[test]
    fn in_a_hurry_nothing_waits_but_for_its_turn() {
        let mut queue = queue(&[("a", "a1"), ("a", "a2"), ("b", "b1")]);
        for (number, _) in take(&mut queue, 0) {
            queue.settle(1, number, AGAIN, LATEST);
        }
        queue.hurry(2);
        let again = take(&mut queue, 2);
        assert_eq!(ids(&again), ["a1", "b1"]);
        queue.settle(3, again[0].0, Outcome::Over, LATEST);
        assert_eq!(ids(&take(&mut queue, 3)), ["a2"]);
    }

    #[test]
    fn what_is_on_its_way_when_it_gets_urgent_is_sent_once_more_at_once() {
        let mut queue = queue(&[("a", "a1")]);
        let sent = take(&mut queue, 0);
        queue.hurry(1);
        assert_eq!(queue.settle(2, sent[0].0, AGAIN, LATEST), Fate::Again(2));
        let again = take(&mut queue, 2);
        assert_eq!(queue.settle(3, again[0].0, AGAIN, LATEST), Fate::Again(2_003), "and then as usual");
    }

    #[test]
    fn what_nobody_sent_is_settled_by_nobody() {
        let mut queue = queue(&[("a", "a1")]);
        assert_eq!(queue.settle(0, 99, AGAIN, LATEST), Fate::Over);
        assert_eq!(ids(&take(&mut queue, 0)), ["a1"]);
    }
}
