//! A client on simulated time: the replica and the requests of the library, driven by messages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sessionstore::core::replica::{Notice, Replica};
use sessionstore::core::requests::{Kind, Requests};
use sessionstore::core::room::{Change, Time};
use sessionstore::core::secret::Secret;
use sessionstore::core::wire::{self, Known, ServerMessage};
use sessionstore::core::write::{Check, Expiry, LockGuard, Transaction, Write};
use sessionstore::{Error, ErrorCode, Merge, Value};

use super::server::{Connection, Hello};
use super::Fault;

/// What a user of a client can do.
#[derive(Clone, Debug)]
pub enum Op {
    Set(&'static str),
    /// Only on the version that this client knows.
    SetIf(&'static str),
    Remove(&'static str),
    Add,
    /// For so many milliseconds.
    SetFor(&'static str, u64),
    /// Until this peer goes.
    SetBound(&'static str),
    /// Only while this client holds the lock.
    SetLocked(&'static str),
    /// Two keys at once.
    Both(&'static str, &'static str),
    Get(&'static str),
    Acquire,
    Release,
}

/// A request, as its user knows it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// No other request has it. What it writes is this number.
    pub number: i64,
    pub op: Op,
    /// The version that a key must have, and the token of the lock that must be held.
    pub expected: Option<u64>,
    pub guard: Option<u64>,
    /// The newest version of each key that anybody had been told of when this was asked, with its session.
    pub before: BTreeMap<String, (Arc<str>, u64)>,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    State(Arc<Change>),
    States(Vec<Arc<Change>>),
    Lock(u64),
    Done,
    Refused(ErrorCode),
    /// The server does not know any more what it answered.
    Forgotten,
}

pub struct Client {
    pub peer_id: String,
    secret: Secret,
    fault: Option<Fault>,
    pub replica: Replica,
    requests: Requests<Asked, Time>,
    known: Known,
    pub connection: Option<Connection>,
    pub is_joined: bool,
    was_joined: bool,
    join_id: u64,
    peer_number: Option<u32>,
    answered: u64,
    sent: u64,
    listens: VecDeque<(u64, u64)>,
    /// The newest version it has heard of.
    newest: u64,
    pub session: Arc<str>,
    /// The lock it holds, as far as it knows.
    pub lock: Option<u64>,
    /// The request to leave that is under way; and whether it was answered.
    leaving: Option<u64>,
    pub has_left: bool,
    /// What it says next.
    pub out: Vec<String>,
    /// Requests that have ended.
    pub ended: Vec<(Asked, Outcome)>,
    pub notices: Vec<Notice>,
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

impl Client {
    /// One that knows nothing; `life` counts those that had this number before, which have left.
    pub fn new(number: usize, life: u64, fault: Option<Fault>) -> Client {
        let mut secret = [number as u8; 16];
        secret[..8].copy_from_slice(&life.to_be_bytes());
        Client {
            peer_id: format!("peer {number}"),
            secret: Secret::new(secret),
            fault,
            replica: Replica::default(),
            requests: Requests::default(),
            known: Known::default(),
            connection: None,
            is_joined: false,
            was_joined: false,
            join_id: 0,
            peer_number: None,
            answered: 0,
            sent: 0,
            listens: VecDeque::new(),
            newest: 0,
            session: "".into(),
            lock: None,
            leaving: None,
            has_left: false,
            out: Vec::new(),
            ended: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// A new connection is made.
    pub fn connect(&mut self, connection: Connection) -> Hello {
        self.connection = Some(connection);
        self.is_joined = false;
        self.listens.clear();
        self.out.clear();
        self.join_id = self.requests.next_id();
        let generation = self.replica.generation();
        let known = self.replica.known_up_to();
        let all_of_it = (self.fault == Some(Fault::KnowsTooMuch) && self.was_joined).then_some(self.newest);
        let since = known.or(all_of_it).map(|revision| (self.session.to_string(), revision));
        (self.answered, self.sent) = (generation, generation);
        Hello {
            peer_id: self.peer_id.clone(),
            secret: self.secret,
            join_id: self.join_id,
            keys: self.replica.listen_set().map(str::to_owned).collect(),
            prefixes: self.replica.prefixes().map(str::to_owned).collect(),
            since,
        }
    }

    /// The connection broke, and the client has noticed.
    pub fn lost(&mut self) {
        self.connection = None;
        self.is_joined = false;
        // It stays, or is lost for good if it has left.
        self.leaving = None;
        self.out.clear();
        self.requests.connection_lost();
        if self.fault == Some(Fault::NotSentAgain) {
            for lost in self.requests.peer_lost() {
                self.ended.push((lost.what, Outcome::Refused(ErrorCode::Timeout)));
            }
        }
    }

    /// Leaves the room, if nothing is under way.
    pub fn leave(&mut self) {
        if self.is_joined && self.requests.is_empty() {
            let id = self.requests.next_id();
            self.leaving = Some(id);
            self.out.push(String::from_utf8(text(|out| wire::write_bare(out, id, "leave"))).expect("text"));
        }
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    pub fn ask(&mut self, mut asked: Asked, deadline: Time) {
        let id = self.requests.next_id();
        let value = Value::from(asked.number);
        let lock = self.lock;
        let change = |of_session| Kind::Change { of_session };
        let version = |key: &str| self.replica.cached(key).map_or(0, |state| state.version);
        let guarded = |write: &Write<'_>, guard: Option<&LockGuard<'_>>| {
            let params = text(|out| wire::write_write(out, write, guard));
            text(|out| wire::write_request(out, id, wire::write_method(write), &params))
        };
        let write = |write: &Write<'_>| guarded(write, None);
        let (kind, frame) = match &asked.op {
            Op::Set(key) => (change(false), text(|out| wire::write_set(out, id, key, &value, None))),
            Op::SetIf(key) => {
                let version = version(key);
                asked.expected = Some(version);
                (change(version > 0), text(|out| wire::write_set(out, id, key, &value, Some(version))))
            }
            Op::Remove(key) => (change(false), text(|out| wire::write_set(out, id, key, &Value::null(), None))),
            Op::Add => (change(false), write(&Write::merge("sum", Merge::Add(1.into())))),
            Op::SetFor(key, ms) => {
                let expiry = Some(Expiry::After(*ms));
                (change(false), write(&Write { expiry, ..Write::set(key, value.clone()) }))
            }
            Op::SetBound(key) => (change(false), write(&Write { bound: Some(true), ..Write::set(key, value.clone()) })),
            Op::SetLocked(key) => {
                let guard = LockGuard { name: "turn".into(), token: lock.unwrap_or(1) };
                asked.guard = Some(guard.token);
                (change(true), guarded(&Write::set(key, value.clone()), Some(&guard)))
            }
            Op::Both(first, second) => {
                let transaction = Transaction {
                    checks: vec![Check::Exists { key: (*first).into() }],
                    writes: vec![Write::set(first, value.clone()), Write::set(second, value.clone())],
                };
                let params = text(|out| wire::write_transact(out, &transaction));
                (change(false), text(|out| wire::write_request(out, id, "transact", &params)))
            }
            Op::Get(key) => (Kind::Repeatable, text(|out| wire::write_get(out, id, key))),
            Op::Acquire => (change(false), text(|out| wire::write_acquire(out, id, "turn", 1_000, 2_000))),
            Op::Release => {
                let guard = LockGuard { name: "turn".into(), token: lock.unwrap_or(0) };
                self.lock = None;
                (change(true), text(|out| wire::write_release(out, id, &guard)))
            }
        };
        self.requests.insert(id, kind, frame, deadline, asked);
        self.speak();
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.requests.next_deadline()
    }

    pub fn pass_time(&mut self, now: Time) {
        while let Some((_, request)) = self.requests.take_due(now) {
            let code = if request.may_be_applied() { ErrorCode::OutcomeUnknown } else { ErrorCode::Timeout };
            self.ended.push((request.what, Outcome::Refused(code)));
        }
    }

    /// The user takes back every second request, as far as that goes; returns how many.
    pub fn take_back(&mut self) -> u64 {
        let wanted = |asked: &Asked| asked.number % 2 == 0;
        let taken = match self.fault {
            Some(Fault::TakenBackTooLate) => self.requests.take_those(wanted),
            _ => self.requests.take_back(wanted),
        };
        let count = taken.len() as u64;
        self.ended.extend(taken.into_iter().map(|one| (one.what, Outcome::Refused(ErrorCode::Cancelled))));
        count
    }

    pub fn pending(&self) -> usize {
        self.requests.len()
    }

    /// Says what is to be said: the listen set if it changed, then requests, then what has arrived.
    pub fn speak(&mut self) {
        if !self.is_joined {
            return;
        }
        let generation = self.replica.generation();
        if generation != self.sent {
            self.sent = generation;
            let id = self.requests.next_id();
            self.listens.push_back((id, generation));
            let listen = text(|out| wire::write_listen(out, id, self.replica.listen_set(), self.replica.prefixes()));
            self.out.push(String::from_utf8(listen).expect("text"));
        }
        let out = &mut self.out;
        let too_large = self.requests.send(|frame| out.push(String::from_utf8(frame.to_vec()).expect("text")));
        assert!(too_large.is_empty(), "nothing here is large");
        let few = self.fault == Some(Fault::AnsweredTooEarly);
        if let Some((through, except)) = self.requests.acknowledge(few) {
            let through = if few { through + 3 } else { through };
            let answered = text(|out| wire::write_answered(out, through, &except));
            self.out.push(String::from_utf8(answered).expect("text"));
        }
    }

    /// Handles a message. Returns false when the join was refused.
    pub fn receive(&mut self, message: &str) -> bool {
        let message = wire::parse_server_message(message, &mut self.known).expect("the server makes sense");
        match message {
            ServerMessage::Changes { states, snapshot } => {
                self.newest = states.iter().map(|(change, _)| change.version).fold(self.newest, u64::max);
                if snapshot {
                    self.replica.snapshot(self.answered, states, &mut self.notices);
                } else {
                    self.replica.notified(&states, &mut self.notices);
                }
            }
            ServerMessage::Result { id, body } if id == self.join_id => {
                let welcome = wire::parse_welcome(body).expect("a welcome");
                let same_peer = welcome.returned && self.peer_number == Some(welcome.peer_number);
                let same_peer = same_peer || (welcome.returned && self.fault == Some(Fault::TrustsReturned));
                self.peer_number = Some(welcome.peer_number);
                let another = self.replica.joined(&welcome.session_id, welcome.revision, same_peer);
                self.session = welcome.session_id.into();
                let another_peer = another || !same_peer;
                let mut hopeless = Vec::new();
                if another_peer {
                    self.newest = 0;
                    self.lock = None;
                    hopeless = self.requests.peer_lost();
                }
                if another && self.was_joined {
                    hopeless.extend(self.requests.session_lost());
                }
                for request in hopeless {
                    let unknown = request.may_be_applied();
                    let code = if unknown { ErrorCode::OutcomeUnknown } else { ErrorCode::SessionLost };
                    self.ended.push((request.what, Outcome::Refused(code)));
                }
                (self.is_joined, self.was_joined) = (true, true);
            }
            ServerMessage::Refused { id, .. } if id == Some(self.join_id) => return false,
            ServerMessage::Result { id, .. } if self.listens.front().is_some_and(|(first, _)| *first == id) => {
                self.answered = self.listens.pop_front().map_or(self.answered, |(_, generation)| generation);
            }
            ServerMessage::Result { id, .. } if self.leaving == Some(id) => {
                self.has_left = true;
                return true;
            }
            ServerMessage::Result { id, body } => {
                let Some(request) = self.requests.remove(id) else { return true };
                let outcome = match &request.what.op {
                    Op::Acquire => {
                        let lease = wire::parse_lease(body).expect("a lease");
                        self.lock = Some(lease.token);
                        Outcome::Lock(lease.token)
                    }
                    Op::Release => Outcome::Done,
                    Op::Both(..) => {
                        let states = wire::parse_states(body, &mut self.known).expect("states").states;
                        self.acknowledged(&states);
                        Outcome::States(states)
                    }
                    _ => {
                        let state = Arc::new(wire::parse_state(body, &mut self.known).expect("a state"));
                        self.acknowledged(std::slice::from_ref(&state));
                        Outcome::State(state)
                    }
                };
                self.ended.push((request.what, outcome));
            }
            ServerMessage::Refused { id, error } => self.refused(id.expect("an id"), &error),
            _ => {}
        }
        self.speak();
        true
    }

    fn acknowledged(&mut self, states: &[Arc<Change>]) {
        states.iter().for_each(|state| self.replica.acknowledged(state, &mut self.notices));
    }

    fn refused(&mut self, id: u64, error: &Error) {
        if let Some(request) = self.requests.remove(id) {
            let outcome = match error.code() {
                ErrorCode::OutcomeUnknown => Outcome::Forgotten,
                code => Outcome::Refused(code),
            };
            self.ended.push((request.what, outcome));
        }
    }
}
