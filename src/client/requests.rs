//! Requests without an answer, in the order of their ids and of their deadlines.
//!
//! What is done for each request does not grow with how many others wait: looking for the next
//! deadline and for what is to be sent looks at no others.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::api::Completion;
use super::lock::{Acquire, Held};
use crate::core::room::Change;
use crate::core::wire::{Snapshot, Usage};

/// A request that has no answer yet.
pub(crate) struct Waiting {
    pub(crate) frame: Vec<u8>,
    pub(crate) kind: RequestKind,
    pub(crate) completion: Completion,
    pub(crate) deadline: Instant,
    pub(crate) sent: bool,
}

/// What a request does, as far as its answer and a broken connection are concerned.
pub(crate) enum RequestKind {
    /// Changes the room.
    Write(Expected),
    /// May be asked again.
    Read(Expected),
    /// Takes a lock, which is renewed from then on; what is told when it is lost.
    Acquire(Acquire),
    /// Renews a lock.
    Renew(Arc<Held>),
    /// Asks nothing: something goes on when its time is over.
    Pause,
    /// Changes this peer's name or metadata.
    PeerUpdate { name: Option<Arc<str>>, metadata: Option<Arc<str>> },
    /// Leaves the room.
    Leave,
}

/// What the answer to a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    State,
    States,
    Keys,
    Usage,
}

/// What a request was answered.
pub(crate) enum Answer {
    Nothing,
    State(Arc<Change>),
    States(Snapshot),
    Keys(Vec<String>),
    Usage(Usage),
    Lock(Arc<Held>),
}

impl RequestKind {
    /// Whether it may be sent again after the connection broke: it does no harm twice.
    pub(crate) fn may_be_repeated(&self) -> bool {
        matches!(self, RequestKind::Read(_) | RequestKind::Pause)
    }
}

/// The requests of one client.
#[derive(Default)]
pub(crate) struct Requests {
    waiting: BTreeMap<u64, Waiting>,
    /// Of all that wait.
    deadlines: BTreeSet<Due>,
    /// None with an id below this one is to be sent.
    unsent_from: u64,
    last_id: u64,
    pub(crate) closed: bool,
}

impl Requests {
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn insert(&mut self, id: u64, request: Waiting) {
        self.deadlines.insert(Due { at: request.deadline, id });
        self.waiting.insert(id, request);
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Waiting> {
        let request = self.waiting.remove(&id)?;
        self.deadlines.remove(&Due { at: request.deadline, id });
        Some(request)
    }

    /// When the first of the deadlines is.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|due| due.at)
    }

    /// Takes one request whose deadline has come, with its id.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(u64, Waiting)> {
        let id = self.deadlines.first().filter(|due| due.at <= now)?.id;
        Some((id, self.remove(id)?))
    }

    /// Marks what is to be sent as sent, in the order of the ids, and hands each over.
    pub(crate) fn send(&mut self, mut send: impl FnMut(&mut Waiting)) {
        for request in self.waiting.range_mut(self.unsent_from..).map(|(_, request)| request) {
            if !std::mem::replace(&mut request.sent, true) {
                send(request);
            }
        }
        self.unsent_from = self.last_id + 1;
    }

    /// After the connection broke: those that may be asked again are to be sent again; takes the
    /// others that were sent.
    pub(crate) fn take_lost(&mut self) -> Vec<Waiting> {
        let lost = |request: &Waiting| request.sent && !request.kind.may_be_repeated();
        let lost = self.take_where(lost);
        self.waiting.values_mut().for_each(|request| request.sent = false);
        self.unsent_from = 0;
        lost
    }

    pub(crate) fn take_leaves(&mut self) -> Vec<Waiting> {
        self.take_where(|request| matches!(request.kind, RequestKind::Leave))
    }

    /// Takes them all.
    pub(crate) fn take_all(&mut self) -> Vec<Waiting> {
        self.deadlines.clear();
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    fn take_where(&mut self, wanted: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let ids: Vec<u64> = self.waiting.iter().filter(|(_, request)| wanted(request)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Due {
    at: Instant,
    id: u64,
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> Ordering {
        #[cfg(test)]
        tests::look();
        (self.at, self.id).cmp(&(other.at, other.id))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    thread_local! {
        static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    /// An entry was looked at.
    pub(super) fn look() {
        LOOKS.set(LOOKS.get() + 1);
    }

    fn begin(requests: &mut Requests, kind: RequestKind, deadline: Instant) -> u64 {
        let (id, completion) = (requests.next_id(), Completion::Dispatched(Box::new(|_| ())));
        requests.insert(id, Waiting { frame: Vec::new(), kind, completion, deadline, sent: false });
        id
    }

    fn send(requests: &mut Requests) -> u64 {
        let mut sent = 0;
        requests.send(|_| {
            look();
            sent += 1;
        });
        sent
    }

    #[test]
    fn a_request_looks_at_no_more_entries_when_many_others_wait() {
        let now = Instant::now();
        let looks = |others: u64| {
            let mut requests = Requests::default();
            for other in 0..others {
                // Deadlines in another order than the ids.
                let later = Duration::from_millis(10_000 + (other * 7_919) % 10_007);
                begin(&mut requests, RequestKind::Write(Expected::State), now + later);
            }
            assert_eq!(send(&mut requests), others);
            LOOKS.set(0);
            let id = begin(&mut requests, RequestKind::Write(Expected::State), now + Duration::from_millis(15_000));
            assert_eq!(send(&mut requests), 1);
            assert!(requests.next_deadline().is_some());
            assert!(requests.take_due(now).is_none());
            assert!(requests.remove(id).is_some());
            assert_eq!(requests.len() as u64, others);
            LOOKS.get()
        };
        let figures = [1, 1_000, 100_000].map(looks);
        // A search tree of 100,000 is five nodes of at most eleven entries deep, and it is searched
        // twice: to put the deadline in and to take it out.
        assert!(figures.into_iter().all(|looks| looks < 2 * 5 * 11 + 10), "{figures:?}");
        assert!(figures[0] > 0);
    }

    #[test]
    fn requests_end_at_their_deadlines_in_order() {
        let now = Instant::now();
        let mut requests = Requests::default();
        let ids = [30, 10, 20, 10]
            .map(|at| begin(&mut requests, RequestKind::Read(Expected::State), now + Duration::from_secs(at)));
        assert_eq!(requests.next_deadline(), Some(now + Duration::from_secs(10)));
        assert!(requests.take_due(now + Duration::from_secs(9)).is_none());
        let until = now + Duration::from_secs(20);
        let due: Vec<Instant> = std::iter::from_fn(|| requests.take_due(until)).map(|(_, due)| due.deadline).collect();
        assert_eq!(due, [10, 10, 20].map(|at| now + Duration::from_secs(at)));
        assert!(requests.remove(ids[1]).is_none(), "each ends once");
        assert!(requests.remove(ids[0]).is_some());
        assert_eq!((requests.len(), requests.next_deadline()), (0, None));
    }

    #[test]
    fn after_a_broken_connection_reads_are_sent_again_before_what_came_later() {
        let now = Instant::now();
        let mut requests = Requests::default();
        let read = begin(&mut requests, RequestKind::Read(Expected::State), now);
        begin(&mut requests, RequestKind::Write(Expected::State), now);
        assert_eq!((send(&mut requests), send(&mut requests)), (2, 0));
        begin(&mut requests, RequestKind::Write(Expected::State), now);
        let lost = requests.take_lost();
        assert!(matches!(lost[..], [Waiting { kind: RequestKind::Write(_), sent: true, .. }]));
        let mut kinds = Vec::new();
        requests.send(|request| kinds.push(matches!(request.kind, RequestKind::Read(_))));
        assert_eq!(kinds, [true, false]);
        assert!(requests.remove(read).is_some());
        begin(&mut requests, RequestKind::Leave, now);
        assert_eq!((requests.take_leaves().len(), requests.take_all().len()), (1, 1));
        assert!(requests.next_deadline().is_none());
    }
}
