//! What a peer was answered, for as long as it may ask again.
//!
//! A client whose connection broke does not know whether its last requests arrived. It sends them again,
//! each under the same id, and gets the first answer: nothing is done twice. It says which answers it has,
//! so that few are kept.

use std::collections::VecDeque;

use super::{PeerHandle, Reply, Session};
use crate::core::error::{Error, ErrorCode};
use crate::core::limits::{MAX_ANSWERS, MAX_ANSWER_BYTES, MAX_ROOM_ANSWER_BYTES};
use crate::core::room::Change;
use crate::core::secret::Secret;

/// How a request ended.
pub(super) type Answer = Result<Reply, Error>;

/// The answers of one peer.
#[derive(Debug)]
pub(super) struct Answers {
    /// Who says it is this peer.
    pub secret: Secret,
    /// In the order of the requests' ids.
    kept: VecDeque<(u64, Answer)>,
    bytes: usize,
    /// Answers to requests with these ids and lower ones are kept no more, except those that are in `kept`.
    forgotten: u64,
}

impl Answers {
    pub fn new(secret: Secret) -> Answers {
        Answers { secret, kept: VecDeque::new(), bytes: 0, forgotten: 0 }
    }

    /// What the request was answered; `None` when it is new. A wait for a lock has no answer yet.
    pub fn find(&self, request: u64) -> Option<Answer> {
        match self.place(request) {
            Ok(place) => Some(self.kept[place].1.clone()),
            Err(_) if request <= self.forgotten => {
                let message = "this request was answered, or may have been, and what is no longer known";
                Some(Err(Error::new(ErrorCode::OutcomeUnknown, message)))
            }
            Err(_) => None,
        }
    }

    /// Keeps an answer, in place of an older one to the same request.
    ///
    /// At most `most` bytes are kept, and the answer that is there last.
    pub fn keep(&mut self, request: u64, answer: Answer, most: usize) {
        self.bytes += weight(&answer);
        match self.place(request) {
            Ok(place) => {
                let old = std::mem::replace(&mut self.kept[place].1, answer);
                self.bytes -= weight(&old);
            }
            Err(place) => self.kept.insert(place, (request, answer)),
        }
        while self.kept.len() > MAX_ANSWERS || (self.bytes > most && self.kept.len() > 1) {
            let Some((oldest, answer)) = self.kept.pop_front() else { return };
            self.bytes -= weight(&answer);
            self.forgotten = self.forgotten.max(oldest);
        }
    }

    /// The peer has the answers to all requests up to this one, but for these.
    pub fn forget(&mut self, through: u64, except: &[u64]) {
        self.kept.retain(|(request, answer)| {
            let stays = *request > through || except.contains(request);
            if !stays {
                self.bytes -= weight(answer);
            }
            stays
        });
        self.forgotten = self.forgotten.max(through);
        if self.kept.is_empty() {
            // A peer that writes nothing for a while costs nothing more.
            self.kept = VecDeque::new();
        }
    }

    fn place(&self, request: u64) -> Result<usize, usize> {
        match self.kept.back() {
            // As a rule it is the next.
            Some((last, _)) if *last < request => Err(self.kept.len()),
            _ => self.kept.binary_search_by_key(&request, |(id, _)| *id),
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(feature = "server")]
impl Answers {
    /// Answers as they were kept.
    pub fn restore(secret: Secret, forgotten: u64, mut kept: Vec<(u64, Answer)>) -> Answers {
        kept.sort_by_key(|(request, _)| *request);
        kept.dedup_by_key(|(request, _)| *request);
        let bytes = kept.iter().map(|(_, answer)| weight(answer)).sum();
        Answers { secret, kept: kept.into(), bytes, forgotten }
    }

    /// The answers, with the ids of their requests.
    pub fn kept(&self) -> impl Iterator<Item = (u64, &Answer)> {
        self.kept.iter().map(|(request, answer)| (*request, answer))
    }

    /// Answers to requests up to this one are known only if they are kept.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

impl Session {
    /// Keeps what a request was answered.
    pub(super) fn keep_answer(&mut self, peer: PeerHandle, request: u64, answer: Answer) {
        let found = self.peers.get_mut(peer.slot as usize).filter(|found| found.serial == peer.serial);
        let Some(answers) = found.and_then(|peer| peer.answers.as_mut()) else { return };
        let (before, is_much) = (answers.bytes(), self.answer_bytes > MAX_ROOM_ANSWER_BYTES);
        answers.keep(request, answer, if is_much { MAX_ANSWER_BYTES / 16 } else { MAX_ANSWER_BYTES });
        self.answer_bytes = self.answer_bytes - before + answers.bytes();
    }

    /// The peer has the answers to these requests.
    pub(super) fn forget_answers(&mut self, peer: PeerHandle, through: u64, except: &[u64]) {
        if let Some(answers) = &mut self.peers[peer.slot as usize].answers {
            let before = answers.bytes();
            answers.forget(through, except);
            self.answer_bytes = self.answer_bytes - before + answers.bytes();
        }
    }

    /// A wait has ended: whoever asks again is told how.
    pub(super) fn wait_ended(&mut self, peer: PeerHandle, wait: u64, answer: Answer) {
        let answers = self.peers.get(peer.slot as usize).and_then(|peer| peer.answers.as_ref());
        let waits = |answer: &Answer| matches!(answer, Ok(Reply::Waiting(number)) if *number == wait);
        let request = answers.and_then(|answers| answers.kept.iter().find(|(_, answer)| waits(answer)));
        if let Some(request) = request.map(|(request, _)| *request) {
            self.keep_answer(peer, request, answer);
        }
    }
}

/// About how much memory an answer keeps.
fn weight(answer: &Answer) -> usize {
    let of_state = |state: &Change| size_of::<Change>() + state.key.len() + state.value.json().len();
    size_of::<(u64, Answer)>()
        + match answer {
            Ok(Reply::State(state)) => of_state(state),
            Ok(Reply::States { states, .. }) => states.iter().map(|state| of_state(state)).sum(),
            Ok(Reply::Lock(_) | Reply::Waiting(_) | Reply::Joined { .. } | Reply::Done) => 0,
            Err(error) => error.message().len() + error.current().map_or(0, |state| of_state(state)),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::value::Value;
    use std::sync::Arc;

    fn revision(answer: Option<Answer>) -> Result<u64, ErrorCode> {
        match answer {
            Some(Ok(Reply::States { revision, .. })) => Ok(revision),
            Some(Err(error)) => Err(error.code()),
            other => panic!("{other:?}"),
        }
    }

    fn answer(revision: u64) -> Answer {
        Ok(Reply::States { revision, states: Vec::new() })
    }

    #[test]
    fn each_request_has_its_first_answer_until_its_peer_has_it() {
        let mut answers = Answers::new(Secret::new([0; 16]));
        for request in [1, 2, 3, 5] {
            answers.keep(request, answer(request * 10), MAX_ANSWER_BYTES);
        }
        assert_eq!(revision(answers.find(2)), Ok(20));
        assert!(answers.find(4).is_none() && answers.find(6).is_none(), "never asked");
        answers.keep(4, answer(40), MAX_ANSWER_BYTES);
        answers.forget(4, &[2]);
        assert_eq!(revision(answers.find(2)), Ok(20));
        assert_eq!(revision(answers.find(3)), Err(ErrorCode::OutcomeUnknown));
        assert_eq!(revision(answers.find(5)), Ok(50));
        answers.forget(9, &[]);
        assert_eq!((answers.len(), answers.bytes), (0, 0));
        assert!(answers.find(10).is_none());
    }

    #[test]
    fn they_are_bounded_in_number_and_in_bytes() {
        let mut answers = Answers::new(Secret::new([0; 16]));
        (1..=MAX_ANSWERS as u64 + 5).for_each(|request| answers.keep(request, answer(request), MAX_ANSWER_BYTES));
        assert_eq!(answers.len(), MAX_ANSWERS);
        assert_eq!(revision(answers.find(5)), Err(ErrorCode::OutcomeUnknown));
        assert_eq!(revision(answers.find(6)), Ok(6));
        let large = |request: u64| {
            let value = Value::from("x".repeat(MAX_ANSWER_BYTES / 4).as_str());
            Ok(Reply::State(Arc::new(Change { value, version: request, ..Change::absent("key".into()) })))
        };
        (1_000..1_010).for_each(|request| answers.keep(request, large(request), MAX_ANSWER_BYTES));
        assert_eq!(answers.len(), 3);
        assert!(answers.bytes <= MAX_ANSWER_BYTES);
        answers.keep(1_009, answer(1), MAX_ANSWER_BYTES);
        assert!(answers.bytes < MAX_ANSWER_BYTES * 3 / 4, "what replaces counts instead");
    }
}
