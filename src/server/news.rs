//! What is new about peers, held back for a moment so that it is told together.
//!
//! Everybody in a room hears of everybody who comes and goes: when a hundred peers join within a
//! moment, one write each for the hundred of them is worth a hundred times the writes. So what is
//! new is told at once in a quiet room, and once in an interval in a busy one. A change of a key
//! takes it along, so nobody hears from a peer before hearing of it.

use crate::core::room::{PeerHandle, Time};

use super::batch::Batch;
use super::options::NEWS_INTERVAL_MS;
use crate::frames;

/// The news of one room.
#[derive(Default)]
pub(super) struct News {
    frames: Vec<u8>,
    /// For each frame its end and whom it is not for.
    marks: Vec<(u32, Option<PeerHandle>)>,
    /// Number of the first frame that waits.
    first: u64,
    /// When something was told last.
    told_at: Time,
}

impl News {
    /// The number that the next gets. Who joins now has what is older in its list of peers.
    pub fn next_number(&self) -> u64 {
        self.first + self.marks.len() as u64
    }

    /// Adds a message for everybody but one.
    pub fn add(&mut self, except: Option<PeerHandle>, write: impl FnOnce(&mut Vec<u8>)) {
        frames::write_text(&mut self.frames, write);
        self.marks.push((self.frames.len() as u32, except));
    }

    /// When it has to be told; `None` when there is nothing new.
    pub fn due(&self) -> Option<Time> {
        (!self.marks.is_empty()).then(|| self.told_at.saturating_add(NEWS_INTERVAL_MS))
    }

    /// Appends everything to what the room sends.
    pub fn tell(&mut self, batch: &mut Batch, now: Time) {
        let mut begin = 0;
        for (number, (end, except)) in (self.first..).zip(&self.marks) {
            let frame = self.frames.get(begin as usize..*end as usize).unwrap_or(&[]);
            batch.push_to_peers(*except, number, frame);
            begin = *end;
        }
        self.first = self.next_number();
        // A room where nothing happens keeps no memory for it.
        (self.frames, self.marks) = (Vec::new(), Vec::new());
        self.told_at = now;
    }

    /// Drops what waits: there is nobody to be told.
    pub fn forget(&mut self) {
        self.first = self.next_number();
        (self.frames, self.marks) = (Vec::new(), Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_due_at_once_in_a_quiet_room_and_an_interval_later_in_a_busy_one() {
        let mut news = News::default();
        let mut batch = Batch::default();
        assert_eq!(news.due(), None);
        news.add(None, |out| out.extend_from_slice(b"one"));
        assert!(news.due().is_some_and(|due| due <= 1_000));
        news.tell(&mut batch, 1_000);
        assert_eq!((batch.stream.len(), news.due(), news.next_number()), (5, None, 1));
        news.add(None, |out| out.extend_from_slice(b"two"));
        news.add(None, |out| out.extend_from_slice(b"three"));
        assert_eq!((news.due(), news.next_number()), (Some(1_000 + NEWS_INTERVAL_MS), 3));
        news.tell(&mut batch, 1_001);
        assert_eq!(batch.stream, b"\x81\x03one\x81\x03two\x81\x05three");
        assert_eq!(batch.first_news, Some(0));
    }

    #[test]
    fn what_nobody_was_told_keeps_its_number() {
        let mut news = News::default();
        news.add(None, |out| out.extend_from_slice(b"one"));
        news.forget();
        assert_eq!((news.due(), news.next_number()), (None, 1));
    }
}
