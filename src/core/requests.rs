//! A client's requests without an answer, in the order of their ids and of their deadlines.
//!
//! Pure: it is told what was sent, what arrived and what broke, and says what is to be sent and what has ended.
//! What is done for each request does not grow with how many others wait: looking for the next
//! deadline and for what is to be sent looks at no others.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::limits::{MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES};

/// What a broken connection means for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It changes something. It is sent again on the next connection, and applied once, as long as the peer is
    /// still in the room.
    Change {
        /// Whether it is on a condition that another session cannot meet, such as a version.
        of_session: bool,
    },
    /// It changes nothing, or the same again: it may be sent to anybody, any number of times.
    Repeatable,
    /// It ends with the connection that it was sent on.
    OfConnection,
    /// It is not sent: something goes on when its time is over.
    Pause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unsent,
    /// On the current connection.
    Sent,
    /// On one that broke.
    SentBefore,
}

/// A request that has no answer yet.
#[derive(Debug)]
pub struct Pending<T, D> {
    /// What the client wants to know of it.
    pub what: T,
    /// When it ends without an answer.
    pub deadline: D,
    frame: Vec<u8>,
    kind: Kind,
    stage: Stage,
}

impl<T, D> Pending<T, D> {
    /// How long the message is that it takes.
    pub fn frame_bytes(&self) -> usize {
        self.frame.len()
    }

    /// Whether it may have been applied, which cannot be known without its answer.
    pub fn may_be_applied(&self) -> bool {
        matches!(self.kind, Kind::Change { .. }) && self.was_sent()
    }

    /// Whether it was ever sent.
    pub fn was_sent(&self) -> bool {
        self.stage != Stage::Unsent
    }
}

/// The requests of one client: `T` is what it wants to know of each, `D` a moment of its clock.
///
/// ```
/// use sessionstore::core::requests::{Kind, Requests};
/// let mut requests = Requests::default();
/// let id = requests.next_id();
/// requests.insert(id, Kind::Change { of_session: false }, b"{...}".to_vec(), 10, "a set");
/// let sent = |requests: &mut Requests<&str, u64>| {
///     let mut sent = 0;
///     requests.send(|_| sent += 1);
///     sent
/// };
/// assert_eq!((sent(&mut requests), sent(&mut requests)), (1, 0));
/// assert!(requests.connection_lost().is_empty());
/// assert_eq!(sent(&mut requests), 1, "it is sent again");
/// assert!(requests.remove(id).is_some_and(|request| request.may_be_applied()));
/// ```
#[derive(Debug)]
pub struct Requests<T, D> {
    waiting: BTreeMap<u64, Pending<T, D>>,
    /// Of all that wait.
    deadlines: BTreeSet<Due<D>>,
    /// None with an id below this one is to be sent.
    unsent_from: u64,
    last_id: u64,
    /// The largest frame that the server takes.
    max_frame_bytes: usize,
    /// Changes that are sent and have no answer, and the bytes of their frames.
    in_flight: (usize, usize),
    /// The highest id of a change that was sent and has ended, and how many have since the server was told.
    ended: (u64, u32),
}

impl<T, D: Ord + Copy> Default for Requests<T, D> {
    fn default() -> Requests<T, D> {
        Requests {
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            unsent_from: 0,
            last_id: 0,
            max_frame_bytes: usize::MAX,
            in_flight: (0, 0),
            ended: (0, 0),
        }
    }
}

/// So many answers arrive before the server is told that they did: a message for each would cost as much as
/// the request itself.
const TOLD_AT_ONCE: u32 = 32;

/// So many requests may be named that wait although later ones were answered; they are the ones that wait for
/// locks.
const MAX_EXCEPTIONS: usize = 16;

impl<T, D: Ord + Copy> Requests<T, D> {
    /// An id that none had before.
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// How many have no answer yet.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether all are answered.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes note of a request, to be sent.
    pub fn insert(&mut self, id: u64, kind: Kind, frame: Vec<u8>, deadline: D, what: T) {
        self.deadlines.insert(Due { at: deadline, id });
        self.waiting.insert(id, Pending { what, deadline, frame, kind, stage: Stage::Unsent });
    }

    /// A request has ended: it was answered, or nobody waits for it any more.
    pub fn remove(&mut self, id: u64) -> Option<Pending<T, D>> {
        let request = self.waiting.remove(&id)?;
        self.deadlines.remove(&Due { at: request.deadline, id });
        if let Kind::Change { .. } = request.kind {
            if request.stage == Stage::Sent {
                self.in_flight.0 -= 1;
                self.in_flight.1 -= request.frame.len();
            }
            if request.was_sent() {
                self.ended = (self.ended.0.max(id), self.ended.1 + 1);
            }
        }
        Some(request)
    }

    /// When the first of the deadlines is.
    pub fn next_deadline(&self) -> Option<D> {
        self.deadlines.first().map(|due| due.at)
    }

    /// Takes one request whose deadline has come, with its id.
    pub fn take_due(&mut self, now: D) -> Option<(u64, Pending<T, D>)> {
        let (id, _) = self.due(now)?;
        Some((id, self.remove(id)?))
    }

    /// One request whose deadline has come, with its id.
    pub fn due(&self, now: D) -> Option<(u64, &Pending<T, D>)> {
        let id = self.deadlines.first().filter(|due| due.at <= now)?.id;
        Some((id, self.waiting.get(&id)?))
    }

    /// Gives a request another deadline.
    pub fn postpone(&mut self, id: u64, deadline: D) -> Option<&mut T> {
        let request = self.waiting.get_mut(&id)?;
        self.deadlines.remove(&Due { at: request.deadline, id });
        self.deadlines.insert(Due { at: deadline, id });
        request.deadline = deadline;
        Some(&mut request.what)
    }

    /// What the client wants to know of each.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.waiting.values_mut().map(|request| &mut request.what)
    }

    /// The same of those that were never sent.
    pub fn unsent_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.waiting.values_mut().filter(|request| !request.was_sent()).map(|request| &mut request.what)
    }

    /// The server takes no larger frame than this: it would close the connection, again and again.
    pub fn bound_frames(&mut self, max_frame_bytes: usize) {
        self.max_frame_bytes = max_frame_bytes;
    }

    /// Hands over the frames that are to be sent, in the order of the ids: until as many changes are under way
    /// as the server keeps answers for. Takes the requests whose frames are too large for the server.
    pub fn send(&mut self, mut send: impl FnMut(&[u8])) -> Vec<Pending<T, D>> {
        let mut too_large = Vec::new();
        let mut all_sent = true;
        for (id, request) in self.waiting.range_mut(self.unsent_from..) {
            if request.stage == Stage::Sent {
                continue;
            }
            if request.frame.len() > self.max_frame_bytes {
                too_large.push(*id);
                continue;
            }
            if let Kind::Change { .. } = request.kind {
                let (count, bytes) = (self.in_flight.0 + 1, self.in_flight.1 + request.frame.len());
                if count > 1 && (count > MAX_IN_FLIGHT || bytes > MAX_IN_FLIGHT_BYTES) {
                    self.unsent_from = *id;
                    all_sent = false;
                    break;
                }
                self.in_flight = (count, bytes);
            }
            request.stage = Stage::Sent;
            if request.kind != Kind::Pause {
                send(&request.frame);
            }
        }
        if all_sent {
            self.unsent_from = self.last_id + 1;
        }
        too_large.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// What the server is to be told of the answers that have arrived: they did up to an id, but for some. `None`
    /// while they are few, unless `few` are enough.
    pub fn acknowledge(&mut self, few: bool) -> Option<(u64, Vec<u64>)> {
        if self.ended.1 < if few { 1 } else { TOLD_AT_ONCE } {
            return None;
        }
        self.ended.1 = 0;
        let is_open = |request: &Pending<T, D>| matches!(request.kind, Kind::Change { .. }) && request.was_sent();
        let mut open = self.waiting.range(..=self.ended.0).filter(|(_, request)| is_open(request)).map(|(id, _)| *id);
        let except: Vec<u64> = open.by_ref().take(MAX_EXCEPTIONS).collect();
        Some((open.next().map_or(self.ended.0, |next| next - 1), except))
    }

    /// The connection broke: what was sent is to be sent again. Takes what ends with the connection.
    pub fn connection_lost(&mut self) -> Vec<Pending<T, D>> {
        let ended = self.take_where(|request| request.kind == Kind::OfConnection && request.was_sent());
        for request in self.waiting.values_mut().filter(|request| request.stage == Stage::Sent) {
            request.stage = Stage::SentBefore;
        }
        self.unsent_from = 0;
        self.in_flight = (0, 0);
        ended
    }

    /// Another peer than before has joined: nobody knows what became of the changes that were sent. Takes them.
    pub fn peer_lost(&mut self) -> Vec<Pending<T, D>> {
        let lost = self.take_where(Pending::may_be_applied);
        // Its answers were the other peer's.
        self.ended.1 = 0;
        lost
    }

    /// Another session than before was joined. Takes the changes that were not sent and that only the session
    /// before could have made.
    pub fn session_lost(&mut self) -> Vec<Pending<T, D>> {
        self.take_where(|request| request.kind == Kind::Change { of_session: true } && !request.was_sent())
    }

    /// Takes them all.
    pub fn take_all(&mut self) -> Vec<Pending<T, D>> {
        self.deadlines.clear();
        self.in_flight = (0, 0);
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    /// Takes those of the wanted ones that have changed nothing, and will not when their answers come.
    pub fn take_back(&mut self, wanted: impl Fn(&T) -> bool) -> Vec<Pending<T, D>> {
        self.take_where(|request| !request.may_be_applied() && wanted(&request.what))
    }

    /// Takes those the client knows by what they are.
    pub fn take_those(&mut self, wanted: impl Fn(&T) -> bool) -> Vec<Pending<T, D>> {
        self.take_where(|request| wanted(&request.what))
    }

    fn take_where(&mut self, wanted: impl Fn(&Pending<T, D>) -> bool) -> Vec<Pending<T, D>> {
        let ids: Vec<u64> = self.waiting.iter().filter(|(_, request)| wanted(request)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due<D> {
    at: D,
    id: u64,
}

impl<D: Ord> Ord for Due<D> {
    fn cmp(&self, other: &Due<D>) -> Ordering {
        #[cfg(test)]
        tests::look();
        self.at.cmp(&other.at).then(self.id.cmp(&other.id))
    }
}

impl<D: Ord> PartialOrd for Due<D> {
    fn partial_cmp(&self, other: &Due<D>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const CHANGE: Kind = Kind::Change { of_session: false };

    type Numbered = Requests<(), u64>;

    thread_local! {
        static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    /// An entry was looked at.
    pub(super) fn look() {
        LOOKS.set(LOOKS.get() + 1);
    }

    fn begin(requests: &mut Numbered, kind: Kind, deadline: u64) -> u64 {
        let id = requests.next_id();
        requests.insert(id, kind, id.to_string().into_bytes(), deadline, ());
        id
    }

    /// The ids that are sent now.
    fn send(requests: &mut Numbered) -> Vec<u64> {
        let mut sent = Vec::new();
        requests.send(|frame| {
            look();
            sent.push(std::str::from_utf8(frame).expect("text").parse().expect("an id"));
        });
        sent
    }

    #[test]
    fn a_request_looks_at_no_more_entries_when_many_others_wait() {
        let looks = |others: u64| {
            let mut requests = Numbered::default();
            for other in 0..others {
                // Deadlines in another order than the ids.
                begin(&mut requests, Kind::Repeatable, 10_000 + (other * 7_919) % 10_007);
            }
            assert_eq!(send(&mut requests).len() as u64, others);
            LOOKS.set(0);
            let id = begin(&mut requests, CHANGE, 15_000);
            assert_eq!(send(&mut requests), [id]);
            assert!(requests.next_deadline().is_some());
            assert!(requests.take_due(0).is_none());
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
        let mut requests = Numbered::default();
        let ids = [30, 10, 20, 10].map(|at| begin(&mut requests, Kind::Repeatable, at));
        assert_eq!(requests.next_deadline(), Some(10));
        assert!(requests.take_due(9).is_none());
        let due: Vec<u64> = std::iter::from_fn(|| requests.take_due(20)).map(|(_, due)| due.deadline).collect();
        assert_eq!(due, [10, 10, 20]);
        assert!(requests.remove(ids[1]).is_none(), "each ends once");
        assert!(requests.postpone(ids[1], 40).is_none());
        assert!(requests.postpone(ids[0], 40).is_some());
        assert_eq!((requests.take_due(30).is_none(), requests.next_deadline()), (true, Some(40)));
        assert!(requests.remove(ids[0]).is_some());
        assert_eq!((requests.len(), requests.next_deadline()), (0, None));
    }

    #[test]
    fn after_a_broken_connection_all_is_sent_again_in_its_order() {
        let mut requests = Numbered::default();
        let ids =
            [Kind::Repeatable, CHANGE, Kind::OfConnection, Kind::Pause].map(|kind| begin(&mut requests, kind, 10));
        assert_eq!(send(&mut requests), ids[..3]);
        let later = begin(&mut requests, CHANGE, 10);
        let ended = requests.connection_lost();
        assert!(matches!(&ended[..], [one] if one.kind == Kind::OfConnection && !one.may_be_applied()));
        let renewal = begin(&mut requests, Kind::OfConnection, 10);
        assert_eq!(send(&mut requests), [ids[0], ids[1], later, renewal]);
        assert!(send(&mut requests).is_empty());
    }

    #[test]
    fn with_another_peer_what_was_sent_is_unknown_and_the_rest_goes_on() {
        let mut requests = Numbered::default();
        let of_session = Kind::Change { of_session: true };
        for kind in [CHANGE, Kind::Repeatable, of_session] {
            begin(&mut requests, kind, 10);
        }
        send(&mut requests);
        let unsent = [CHANGE, of_session].map(|kind| begin(&mut requests, kind, 10));
        requests.connection_lost();
        assert!(requests.session_lost().into_iter().all(|one| one.kind == of_session && !one.may_be_applied()));
        let lost = requests.peer_lost();
        assert!(lost.len() == 2 && lost.iter().all(Pending::may_be_applied));
        assert_eq!(send(&mut requests), [2, unsent[0]]);
        assert_eq!(requests.take_all().len(), 2);
        assert!(requests.next_deadline().is_none());
    }

    #[test]
    fn what_was_not_sent_or_only_asks_can_be_taken_back() {
        let mut requests = Numbered::default();
        let (sent, asked) = (begin(&mut requests, CHANGE, 10), begin(&mut requests, Kind::Repeatable, 10));
        assert_eq!(send(&mut requests), [sent, asked]);
        let unsent = begin(&mut requests, CHANGE, 10);
        assert!(requests.take_back(|()| false).is_empty());
        assert_eq!(requests.take_back(|()| true).len(), 2);
        assert!(requests.remove(unsent).is_none() && requests.remove(asked).is_none());
        requests.connection_lost();
        assert!(requests.take_back(|()| true).is_empty(), "nobody knows whether it was applied");
        assert_eq!(send(&mut requests), [sent], "it is sent again");
    }

    #[test]
    fn what_is_too_large_for_the_server_is_taken_and_the_rest_is_sent() {
        let mut requests = Numbered::default();
        let (small, large) = (begin(&mut requests, CHANGE, 10), requests.next_id());
        requests.insert(large, CHANGE, vec![b'1'; 9], 10, ());
        let next = begin(&mut requests, CHANGE, 10);
        requests.bound_frames(8);
        let mut sent = Vec::new();
        let taken = requests.send(|frame| sent.push(frame.len()));
        assert_eq!((sent, taken.len(), requests.len()), (vec![1, 1], 1, 2));
        assert_eq!(taken.first().map(|request| (request.frame_bytes(), request.may_be_applied())), Some((9, false)));
        assert!(requests.remove(large).is_none() && requests.send(|_| panic!("all was sent")).is_empty());
        assert!(requests.remove(small).is_some() && requests.remove(next).is_some());
    }

    #[test]
    fn no_more_is_under_way_than_is_remembered() {
        let mut requests = Numbered::default();
        let ids: Vec<u64> = (0..MAX_IN_FLIGHT + 3).map(|_| begin(&mut requests, CHANGE, 10)).collect();
        let read = begin(&mut requests, Kind::Repeatable, 10);
        assert_eq!(send(&mut requests), ids[..MAX_IN_FLIGHT]);
        assert!(send(&mut requests).is_empty());
        requests.remove(ids[5]);
        requests.remove(ids[6]);
        assert_eq!(send(&mut requests), ids[MAX_IN_FLIGHT..MAX_IN_FLIGHT + 2]);
        requests.remove(ids[7]);
        assert_eq!(send(&mut requests), [ids[MAX_IN_FLIGHT + 2], read], "what comes later waits its turn");
        let mut requests = Numbered::default();
        for _ in 0..2 {
            let id = requests.next_id();
            requests.insert(id, CHANGE, vec![b'1'; MAX_IN_FLIGHT_BYTES + 1], 10, ());
        }
        let mut sent = 0;
        requests.send(|_| sent += 1);
        assert_eq!(sent, 1, "one may be as large as it likes");
        requests.connection_lost();
        requests.send(|_| sent += 1);
        assert_eq!(sent, 2);
    }

    #[test]
    fn the_server_is_told_which_answers_arrived() {
        let mut requests = Numbered::default();
        let ids: Vec<u64> = (0..40).map(|_| begin(&mut requests, CHANGE, 10)).collect();
        send(&mut requests);
        assert!(requests.acknowledge(true).is_none());
        requests.remove(ids[0]);
        assert!(requests.acknowledge(false).is_none());
        assert_eq!(requests.acknowledge(true), Some((ids[0], vec![])));
        assert!(requests.acknowledge(true).is_none());
        for id in &ids[3..35] {
            requests.remove(*id);
        }
        assert_eq!(requests.acknowledge(false), Some((ids[34], vec![ids[1], ids[2]])));
        let more: Vec<u64> = (0..40).map(|_| begin(&mut requests, CHANGE, 10)).collect();
        send(&mut requests);
        requests.remove(more[39]);
        // 2 + 5 before them, so nine of these.
        assert_eq!(requests.acknowledge(true).map(|(through, except)| (through, except.len())), Some((more[8], 16)));
        begin(&mut requests, CHANGE, 5);
        assert!(requests.take_due(5).is_some(), "never sent, so nobody is told");
        assert!(requests.acknowledge(true).is_none());
    }
}
