//! A server of one room on simulated time: messages in, messages out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use sessionstore::core::journal::{self, Origin};
use sessionstore::core::limits::Limits;
use sessionstore::core::names::KeyList;
use sessionstore::core::room::{Change, Command, Event, Introduction, KeySlot, PeerHandle, Reply, Room, Time};
use sessionstore::core::secret::Secret;
use sessionstore::core::wire::{self, ClientMessage};
use sessionstore::Error;

use super::Fault;

/// What a client says when it connects.
#[derive(Clone, Debug)]
pub struct Hello {
    pub peer_id: String,
    pub secret: Secret,
    pub join_id: u64,
    pub keys: Vec<String>,
    pub prefixes: Vec<String>,
    pub since: Option<(String, u64)>,
}

/// Names a connection; never used again.
pub type Connection = usize;

/// What is kept of the room, so that the server can be started anew with it.
#[derive(Default)]
struct Journal {
    checkpoint: Option<Vec<u8>>,
    /// What each turn has done since.
    turns: Vec<Vec<u8>>,
    /// What this turn has done so far.
    turn: Vec<u8>,
}

pub struct Server {
    name: String,
    pub room: Room,
    journal: Option<Journal>,
    fault: Option<Fault>,
    members: BTreeMap<Connection, PeerHandle>,
    /// Who waits for a lock, by the number of the wait: the connection, and the id of its request.
    waits: BTreeMap<u64, (Connection, Box<RawValue>)>,
    /// Changes of one revision that are not all there yet.
    together: Vec<(KeySlot, Arc<Change>)>,
    sessions: u64,
    session: Arc<str>,
    /// Whether it has begun a session with what was kept of another, and nobody has come yet.
    pub is_waiting: bool,
    /// Every change there was, in its order, with its session.
    pub history: Vec<(Arc<str>, Arc<Change>)>,
    /// What a new session began with, because the end of the one before is lost.
    pub carried_over: Vec<(Arc<str>, Arc<Change>)>,
    /// What is to be sent.
    pub out: Vec<(Connection, String)>,
    /// Connections that it has closed.
    pub closed: Vec<Connection>,
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("messages are UTF-8")
}

impl Server {
    pub fn new(name: &str, limits: Limits, sessions: u64, is_durable: bool, fault: Option<Fault>) -> Server {
        Server {
            name: name.to_owned(),
            room: Room::new(name, limits.into()),
            journal: is_durable.then(Journal::default),
            fault,
            members: BTreeMap::new(),
            waits: BTreeMap::new(),
            together: Vec::new(),
            sessions,
            session: "".into(),
            is_waiting: false,
            history: Vec::new(),
            carried_over: Vec::new(),
            out: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// The ids of the sessions there were: a server that is started anew gives none the same.
    pub fn sessions(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.sessions).map(|number| self.session_id(number))
    }

    fn session_id(&self, number: u64) -> String {
        format!("session {number} of {}", self.name)
    }

    /// Whether something has happened that is not kept yet.
    pub fn is_in_turn(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| !journal.turn.is_empty())
    }

    /// Keeps what happened, before anybody is told; sometimes the whole room.
    pub fn keep(&mut self, checkpoint: bool) {
        let Some(journal) = &mut self.journal else { return };
        if self.fault == Some(Fault::KeptTooLate) && journal.turn.len() < 400 {
            return;
        }
        match checkpoint.then(|| self.room.checkpoint()).flatten() {
            Some(checkpoint) => *journal = Journal { checkpoint: Some(checkpoint), ..Journal::default() },
            None if journal.turn.is_empty() => {}
            None => journal.turns.push(std::mem::take(&mut journal.turn)),
        }
    }

    /// The server that is started after this one, which was killed: it knows what was kept, but for the last turns
    /// when the machine stopped with it.
    pub fn after_a_kill(self, now: Time, limits: Limits, lost: usize) -> Server {
        let mut next = Server::new(&self.name, limits.clone(), self.sessions, self.journal.is_some(), self.fault);
        let Some(Journal { checkpoint, mut turns, .. }) = self.journal else { return next };
        turns.truncate(turns.len() - lost.min(turns.len()));
        if let Some(checkpoint) = &checkpoint {
            next.room = Room::restore(&*next.name, checkpoint).expect("a checkpoint");
        }
        for turn in &turns {
            journal::replay(&mut next.room, turn).expect("entries of this room");
        }
        let fresh = (lost > 0 && self.fault != Some(Fault::SameSession)).then(|| next.session_id(next.sessions));
        let mut events = Vec::new();
        next.room.resume(now, limits.clone().into(), fresh.as_deref(), &mut events);
        if !next.room.is_open() {
            // Nothing is kept of a room without a session.
            next.room = Room::new(&*next.name, limits.into());
        }
        if let Some(session) = next.room.session_id() {
            next.session = session.clone();
        }
        next.is_waiting = next.room.is_open() && (fresh.is_some() || self.is_waiting);
        if fresh.is_some() {
            next.sessions += 1;
            // What there was is there in the new session too.
            next.carried_over = next.room.entries().map(|state| (next.session.clone(), state.clone())).collect();
        }
        next.journal = Some(Journal { checkpoint: next.room.checkpoint(), ..Journal::default() });
        next
    }

    fn say(&mut self, to: Connection, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.push((to, text(write)));
    }

    pub fn connect(&mut self, now: Time, connection: Connection, hello: &Hello) {
        let id = RawValue::from_string(format!("\"{}\"", hello.join_id)).expect("a string");
        let secret = (self.fault != Some(Fault::NoSecrets)).then_some(hello.secret);
        let peer =
            Introduction { peer_id: &hello.peer_id, user_id: "", name: None, role: "guest", metadata: None, secret };
        let session = self.session_id(self.sessions);
        let before = self.room.peer_by_id(&hello.peer_id).and_then(|(peer, _)| self.room.group_of(peer));
        let (peer, returned) = match self.once(now, Command::Join { peer, new_session_id: &session }) {
            Ok(Reply::Joined { peer, returned }) => (peer, returned),
            Ok(other) => panic!("a join was answered with {other:?}"),
            Err(error) => return self.say(connection, |out| wire::write_error(out, Some(&id), &error)),
        };
        if let Some(old) = self.members.iter().find(|(_, other)| **other == peer).map(|(old, _)| *old) {
            self.members.remove(&old);
            self.waits.retain(|_, (waiting, _)| *waiting != old);
            self.closed.push(old);
        }
        self.members.insert(connection, peer);
        let room = &self.room;
        let found = room.peer(peer).expect("it has joined");
        let joined = text(|out| wire::write_join_result(out, &id, room, found, returned, 65_536));
        self.out.push((connection, joined));
        let keys: KeyList = hello.keys.iter().map(String::as_str).collect();
        let prefixes: KeyList = hello.prefixes.iter().map(String::as_str).collect();
        let listen = Command::Listen { peer, keys: &keys, prefixes: &prefixes };
        self.once(now, listen).expect("the set is small");
        let goes_on = returned && self.room.group_of(peer) == before;
        let session = self.room.session_id().expect("it is open").clone();
        let since = hello.since.as_ref().filter(|(known, _)| goes_on && **known == *session);
        match since.and_then(|(_, revision)| self.room.changes_since(peer, *revision)) {
            Some(missed) if missed.is_empty() => {}
            Some(missed) => {
                self.say(connection, |out| wire::write_changes(out, missed.iter().map(|one| (&**one, 0)), false));
            }
            None => self.snapshot(connection, peer),
        }
    }

    fn snapshot(&mut self, connection: Connection, peer: PeerHandle) {
        let states: Vec<_> = self.room.listen_set(peer).filter_map(|slot| self.room.state_of(slot)).collect();
        if self.room.group_of(peer).is_some() {
            self.say(connection, |out| wire::write_changes(out, states.iter().map(|one| (&**one, 0)), true));
        }
    }

    /// The connection is gone, as far as the server knows.
    pub fn lost(&mut self, now: Time, connection: Connection) {
        if let Some(peer) = self.members.remove(&connection) {
            self.waits.retain(|_, (waiting, _)| *waiting != connection);
            let _ = self.once(now, Command::ConnectionLost { peer });
        }
    }

    pub fn pass_time(&mut self, now: Time) {
        let _ = self.once(now, Command::Tick);
    }

    fn once(&mut self, now: Time, command: Command<'_>) -> Result<Reply, Error> {
        self.apply(now, Origin::Once, command)
    }

    fn apply(&mut self, now: Time, origin: Origin, command: Command<'_>) -> Result<Reply, Error> {
        let mut events = Vec::new();
        let reply = match &mut self.journal {
            Some(kept) => journal::apply(&mut self.room, &mut kept.turn, now, origin, command, &mut events),
            None => origin.apply(&mut self.room, now, command, &mut events),
        };
        for event in events {
            match event {
                Event::SessionStarted => {
                    self.sessions += 1;
                    self.session = self.room.session_id().expect("it is open").clone();
                }
                Event::Changed { slot, change, more } => {
                    self.history.push((self.session.clone(), change.clone()));
                    self.together.push((slot, change));
                    if !more {
                        self.tell();
                    }
                }
                Event::LockGranted { wait, lease, .. } => {
                    if let Some((connection, id)) = self.waits.remove(&wait) {
                        self.say(connection, |out| wire::write_lease_result(out, &id, &lease));
                    }
                }
                Event::LockRefused { wait, error, .. } => {
                    if let Some((connection, id)) = self.waits.remove(&wait) {
                        self.say(connection, |out| wire::write_error(out, Some(&id), &error));
                    }
                }
                _ => {}
            }
        }
        let room = &self.room;
        self.members.retain(|_, peer| room.peer(*peer).is_some());
        reply
    }

    /// Tells the changes of one revision to all who listen, each in one message.
    fn tell(&mut self) {
        let together = std::mem::take(&mut self.together);
        for (connection, peer) in self.members.clone() {
            let hears = |slot: KeySlot| self.room.listeners(slot).any(|listener| listener == peer.slot);
            let heard: Vec<_> = together.iter().filter(|(slot, _)| hears(*slot)).map(|(_, one)| one.clone()).collect();
            if !heard.is_empty() {
                self.say(connection, |out| wire::write_changes(out, heard.iter().map(|one| (&**one, 0)), false));
            }
        }
    }

    /// A message arrived; if it came too fast and would change something, that is refused.
    pub fn receive(&mut self, now: Time, connection: Connection, frame: &str, is_too_fast: bool) {
        let Some(peer) = self.members.get(&connection).copied() else { return };
        let request = wire::parse_request(frame);
        let message = request.message.expect("our clients make sense");
        let id = request.id;
        let changes = !matches!(
            message,
            ClientMessage::Release { .. }
                | ClientMessage::Leave
                | ClientMessage::Answered { .. }
                | ClientMessage::Get { .. }
                | ClientMessage::Listen { .. }
        );
        let number = id.and_then(wire::request_number).filter(|_| changes && is_too_fast);
        if number.is_some_and(|number| !self.room.knows_request(peer, number)) {
            if self.fault == Some(Fault::RefusalForgotten) {
                return self.answer(connection, id, Err(Error::too_fast(1)));
            }
            return self.change(now, connection, peer, id, Command::Refuse { peer, retry_after_ms: 1 });
        }
        let keys = |list: &[wire::Text<'_>]| list.iter().map(|text| text.0.to_string()).collect::<Vec<_>>();
        match message {
            ClientMessage::Set { key, value, expected } => {
                let expected = expected.filter(|_| self.fault != Some(Fault::ConditionForgotten));
                self.change(now, connection, peer, id, Command::Set { peer, key: &key, value, expected });
            }
            ClientMessage::Write { mut write, lock } => {
                let lock = lock.filter(|_| self.fault != Some(Fault::GuardForgotten));
                write.expiry = write.expiry.filter(|_| self.fault != Some(Fault::ExpiryForgotten));
                write.bound = write.bound.filter(|_| self.fault != Some(Fault::OwnerForgotten));
                self.change(now, connection, peer, id, Command::Write { peer, write, lock });
            }
            ClientMessage::Transact(transaction) => {
                self.change(now, connection, peer, id, Command::Transact { peer, transaction });
            }
            ClientMessage::Acquire { name, ttl_ms, wait_ms } => {
                let acquire = Command::Acquire { peer, name: &name, ttl_ms, wait_ms };
                self.change(now, connection, peer, id, acquire);
            }
            ClientMessage::Release { lock } => {
                self.change(now, connection, peer, id, Command::Release { peer, lock });
            }
            ClientMessage::Leave => {
                if self.fault != Some(Fault::StaysAfterLeave) {
                    self.once(now, Command::Leave { peer }).expect("it is in the room");
                }
                self.answer(connection, id, Ok(Reply::Done));
            }
            ClientMessage::Answered { through, except } => {
                let command = Command::Answered { peer, through, except: &except };
                self.once(now, command).expect("few exceptions");
            }
            ClientMessage::Get { key } => {
                let reply = self.once(now, Command::Get { peer, key: &key });
                self.answer(connection, id, reply);
            }
            ClientMessage::Listen { keys: wanted, prefixes } => {
                let (wanted, prefixes) = (keys(&wanted), keys(&prefixes));
                let (wanted, prefixes): (KeyList, KeyList) =
                    (wanted.iter().map(String::as_str).collect(), prefixes.iter().map(String::as_str).collect());
                let listen = Command::Listen { peer, keys: &wanted, prefixes: &prefixes };
                let reply = self.once(now, listen);
                self.answer(connection, id, reply);
                self.snapshot(connection, peer);
            }
            other => panic!("no client of this simulation says {other:?}"),
        }
    }

    /// Applies a change once, and answers.
    fn change(
        &mut self,
        now: Time,
        connection: Connection,
        peer: PeerHandle,
        id: Option<&RawValue>,
        command: Command<'_>,
    ) {
        let request = id.and_then(wire::request_number).expect("our clients count");
        let origin = match self.fault {
            Some(Fault::AppliedAgain) => Origin::Once,
            _ => Origin::Request { peer, id: request },
        };
        let reply = self.apply(now, origin, command);
        if let (Ok(Reply::Waiting(wait)), Some(id)) = (&reply, id) {
            self.waits.insert(*wait, (connection, id.to_owned()));
            return;
        }
        self.answer(connection, id, reply);
    }

    fn answer(&mut self, connection: Connection, id: Option<&RawValue>, reply: Result<Reply, Error>) {
        let Some(id) = id else { return };
        self.say(connection, |out| match &reply {
            Ok(Reply::State(state)) => wire::write_state_result(out, id, state),
            Ok(Reply::States { revision, states }) => wire::write_states_result(out, id, *revision, states),
            Ok(Reply::Lock(lease)) => wire::write_lease_result(out, id, lease),
            Ok(_) => wire::write_empty_result(out, id),
            Err(error) => wire::write_error(out, Some(id), error),
        });
    }
}
