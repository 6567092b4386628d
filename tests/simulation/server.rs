//! A server of one room on simulated time: messages in, messages out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use sessionstore::core::limits::Limits;
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

pub struct Server {
    pub room: Room,
    fault: Option<Fault>,
    members: BTreeMap<Connection, PeerHandle>,
    /// Who waits for a lock, by the number of the wait: the connection, and the id of its request.
    waits: BTreeMap<u64, (Connection, Box<RawValue>)>,
    /// Changes of one revision that are not all there yet.
    together: Vec<(KeySlot, Arc<Change>)>,
    sessions: u64,
    session: Arc<str>,
    /// Every change there was, in its order, with its session.
    pub history: Vec<(Arc<str>, Arc<Change>)>,
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
    pub fn new(limits: Limits, sessions: u64, fault: Option<Fault>) -> Server {
        Server {
            room: Room::new("room", limits.into()),
            fault,
            members: BTreeMap::new(),
            waits: BTreeMap::new(),
            together: Vec::new(),
            sessions,
            session: "".into(),
            history: Vec::new(),
            out: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// How many sessions there were, so that a server that is started anew gives none the same name.
    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    fn say(&mut self, to: Connection, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.push((to, text(write)));
    }

    pub fn connect(&mut self, now: Time, connection: Connection, hello: &Hello) {
        let id = RawValue::from_string(format!("\"{}\"", hello.join_id)).expect("a string");
        let secret = (self.fault != Some(Fault::NoSecrets)).then_some(hello.secret);
        let peer =
            Introduction { peer_id: &hello.peer_id, user_id: "", name: None, role: "guest", metadata: None, secret };
        let session = format!("session {}", self.sessions);
        let before = self.room.peer_by_id(&hello.peer_id).and_then(|(peer, _)| self.room.group_of(peer));
        let (peer, returned) = match self
            .apply(|room, events| room.apply(now, Command::Join { peer, new_session_id: &session }, events))
        {
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
        let joined = text(|out| wire::write_join_result(out, &id, room, found, returned));
        self.out.push((connection, joined));
        let keys: Vec<&str> = hello.keys.iter().map(String::as_str).collect();
        let prefixes: Vec<&str> = hello.prefixes.iter().map(String::as_str).collect();
        let listen = Command::Listen { peer, keys: &keys, prefixes: &prefixes };
        self.apply(|room, events| room.apply(now, listen, events)).expect("the set is small");
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
            let _ = self.apply(|room, events| room.apply(now, Command::ConnectionLost { peer }, events));
        }
    }

    pub fn pass_time(&mut self, now: Time) {
        let _ = self.apply(|room, events| room.apply(now, Command::Tick, events));
    }

    fn apply(
        &mut self,
        apply: impl FnOnce(&mut Room, &mut Vec<Event>) -> Result<Reply, Error>,
    ) -> Result<Reply, Error> {
        let mut events = Vec::new();
        let reply = apply(&mut self.room, &mut events);
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

    pub fn receive(&mut self, now: Time, connection: Connection, frame: &str) {
        let Some(peer) = self.members.get(&connection).copied() else { return };
        let request = wire::parse_request(frame);
        let message = request.message.expect("our clients make sense");
        let id = request.id;
        let keys = |list: &[wire::Text<'_>]| list.iter().map(|text| text.0.to_string()).collect::<Vec<_>>();
        match message {
            ClientMessage::Set { key, value, expected } => {
                self.change(now, connection, peer, id, Command::Set { peer, key: &key, value, expected });
            }
            ClientMessage::Write { write, lock } => {
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
            ClientMessage::Answered { through, except } => {
                let command = Command::Answered { peer, through, except: &except };
                self.apply(|room, events| room.apply(now, command, events)).expect("few exceptions");
            }
            ClientMessage::Get { key } => {
                let reply = self.apply(|room, events| room.apply(now, Command::Get { peer, key: &key }, events));
                self.answer(connection, id, reply);
            }
            ClientMessage::Listen { keys: wanted, prefixes } => {
                let (wanted, prefixes) = (keys(&wanted), keys(&prefixes));
                let (wanted, prefixes): (Vec<&str>, Vec<&str>) =
                    (wanted.iter().map(String::as_str).collect(), prefixes.iter().map(String::as_str).collect());
                let listen = Command::Listen { peer, keys: &wanted, prefixes: &prefixes };
                let reply = self.apply(|room, events| room.apply(now, listen, events));
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
        let once = self.fault != Some(Fault::AppliedAgain);
        let reply = self.apply(|room, events| match once {
            true => room.apply_once(now, peer, request, command, events),
            false => room.apply(now, command, events),
        });
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
