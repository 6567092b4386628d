//! Drives a room and the model side by side, and says what differs first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sessionstore::core::limits::Limits;
use sessionstore::core::names::KeyList;
use sessionstore::core::room::{self, Change, Command, KeySlot, PeerHandle, Room, Time};
use sessionstore::{Error, ErrorCode, Value};

use crate::model::{self, Dump, Groups, Model, Refusal, State};
use crate::steps::{pick, Expect, Op, Step, Who, KEYS, PEERS, TEXTS, USERS, VALUES};

/// The room as the checker sees it. A planted fault overrides one of these.
pub trait Subject {
    fn room(&self) -> &Room;
    fn apply(&mut self, now: Time, command: Command<'_>, events: &mut Vec<room::Event>) -> Result<room::Reply, Error>;
    fn revision(&self) -> u64 {
        self.room().revision()
    }
    fn usage(&self) -> (usize, usize) {
        self.room().usage()
    }
    fn next_deadline(&self) -> Option<Time> {
        self.room().next_deadline()
    }
    fn state(&self, key: &str) -> Arc<Change> {
        self.room().state(key)
    }
    fn listeners(&self, slot: KeySlot) -> Vec<u32> {
        self.room().listeners(slot).collect()
    }
}

impl Subject for Room {
    fn room(&self) -> &Room {
        self
    }
    fn apply(&mut self, now: Time, command: Command<'_>, events: &mut Vec<room::Event>) -> Result<room::Reply, Error> {
        Room::apply(self, now, command, events)
    }
}

/// What was seen of a run. Two runs of the same steps must give the same.
pub type Trace = Vec<String>;

/// Runs the steps and compares everything after each, writing down what was seen when there is
/// where to. `Err` says which step broke which promise.
pub fn check(
    subject: &mut impl Subject,
    limits: &Limits,
    steps: &[Step],
    trace: Option<&mut Trace>,
) -> Result<(), String> {
    let mut run = Run {
        subject,
        model: Model::new(limits.clone()),
        now: 1_000,
        handles: Vec::new(),
        ids: BTreeMap::new(),
        key_slots: BTreeMap::new(),
        sessions: 0,
        trace,
    };
    for (number, step) in steps.iter().enumerate() {
        run.step(step).map_err(|broken| format!("step {number}, {step:?} at {}: {broken}", run.now))?;
    }
    Ok(())
}

struct Run<'a, S> {
    subject: &'a mut S,
    model: Model,
    now: Time,
    /// Every handle ever given out, and to whom.
    handles: Vec<PeerHandle>,
    ids: BTreeMap<PeerHandle, String>,
    /// Every key slot ever seen in an event, and of which session and key.
    key_slots: BTreeMap<KeySlot, (String, String)>,
    sessions: u32,
    trace: Option<&'a mut Trace>,
}

fn plain(change: &Change) -> State {
    let author = change.author.as_ref();
    State {
        key: change.key.to_string(),
        value: change.value.json().to_owned(),
        version: change.version,
        updated_at: change.updated_at,
        author: author.map(|a| (a.peer_id.to_string(), a.user_id.to_string(), a.name.to_string())),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, room: &T, model: &T) -> Result<(), String> {
    if room == model {
        return Ok(());
    }
    Err(format!("{what}: the room has {room:?}, the model {model:?}"))
}

impl<S: Subject> Run<'_, S> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        self.now += step.wait;
        if let (Op::TickWhenDue, Some(due)) = (&step.op, self.subject.next_deadline()) {
            self.tick_when_due(due)?;
        }
        if step.tick_first {
            self.perform(&Op::Tick)?;
        }
        let before = step.tick_first.then(|| format!("{:?}", self.subject.room()));
        let refused = self.perform(&step.op)?;
        if let (true, Some(before)) = (refused, before) {
            same("a refusal changed something", &format!("{:?}", self.subject.room()), &before)?;
        }
        Ok(())
    }

    /// A millisecond early nothing happens, and on time something does.
    fn tick_when_due(&mut self, due: Time) -> Result<(), String> {
        if due > self.now {
            self.now = due - 1;
            self.perform(&Op::Tick)?;
            same("the deadline moved by an early tick", &self.subject.next_deadline(), &Some(due))?;
        }
        self.now = self.now.max(due);
        let before = self.model.dump();
        self.perform(&Op::Tick)?;
        if self.model.dump() == before {
            return Err(format!("the tick due at {due} had no effect"));
        }
        Ok(())
    }

    fn handle(&self, who: Who) -> Result<PeerHandle, String> {
        let found = match who {
            Who::Peer(index) => {
                let id = pick(&PEERS, index);
                let last = || self.handles.iter().rev().find(|handle| self.ids.get(handle).is_some_and(|i| i == id));
                self.model.handle(id).or_else(|| last().copied())
            }
            Who::Handle(_) if self.handles.is_empty() => None,
            Who::Handle(index) => Some(self.handles[index % self.handles.len()]),
        };
        found.ok_or_else(|| format!("{who:?} never had a handle"))
    }

    /// Applies one command to both and compares all there is to see; whether it was refused.
    fn perform(&mut self, op: &Op) -> Result<bool, String> {
        if op.who().is_some_and(|who| self.handle(who).is_err()) {
            return self.perform(&Op::Tick);
        }
        let text = |index: Option<usize>| index.map(|index| pick(&TEXTS, index));
        let now = self.now;
        let mut events = Vec::new();
        let mut expected_events = Groups::new();
        self.model.pass_time(now, &mut expected_events);
        let groups = &mut expected_events;
        let session_id = format!("s{}", self.sessions);
        self.sessions += 1;
        let (reply, expected): (Result<room::Reply, Error>, Result<model::Reply, Refusal>) = match op {
            Op::Join { peer, user, name, metadata, role } => {
                let (peer_id, user_id) = (pick(&PEERS, *peer), pick(&USERS, *user));
                let (name, metadata, role) = (text(*name), text(*metadata), if *role { "host" } else { "guest" });
                let command = Command::Join {
                    peer: room::Introduction { peer_id, user_id, name, role, metadata, secret: None },
                    new_session_id: &session_id,
                };
                let reply = self.subject.apply(now, command, &mut events);
                let handle = match &reply {
                    Ok(room::Reply::Joined { peer, .. }) => Some(*peer),
                    _ => None,
                };
                let who = model::Introduction { peer_id, user_id, name, role, metadata };
                let expected = self.model.join(now, &who, &session_id, handle, groups);
                (reply, expected)
            }
            Op::Return { peer, user } => {
                let (peer_id, user_id) = (pick(&PEERS, *peer), pick(&USERS, *user));
                let reply = self.subject.apply(now, Command::Return { peer_id, user_id }, &mut events);
                (reply, self.model.come_back(peer_id, user_id))
            }
            Op::Leave(who) => {
                let peer = self.handle(*who)?;
                let reply = self.subject.apply(now, Command::Leave { peer }, &mut events);
                (reply, self.model.leave(now, peer, groups))
            }
            Op::ConnectionLost(who) => {
                let peer = self.handle(*who)?;
                let reply = self.subject.apply(now, Command::ConnectionLost { peer }, &mut events);
                (reply, self.model.connection_lost(now, peer, groups))
            }
            Op::Update { who, name, metadata } => {
                let peer = self.handle(*who)?;
                let (name, metadata) = (text(*name), text(*metadata));
                let reply = self.subject.apply(now, Command::UpdatePeer { peer, name, metadata }, &mut events);
                (reply, self.model.update(peer, name, metadata, groups))
            }
            Op::Set { who, key, value, expect } => {
                let peer = self.handle(*who)?;
                let (key, json) = (pick(&KEYS, *key), pick(&VALUES, *value));
                let value = Value::parse(json).map_err(|error| format!("{json} is no value: {error}"))?;
                let expected = match expect {
                    Expect::Nothing => None,
                    Expect::Absent => Some(0),
                    Expect::Current => Some(self.model.state(key).version),
                    Expect::Version(version) => Some(*version),
                };
                let reply = self.subject.apply(now, Command::Set { peer, key, value, expected }, &mut events);
                (reply, self.model.set(now, peer, key, json, expected, groups))
            }
            Op::Get { who, key } => {
                let peer = self.handle(*who)?;
                let key = pick(&KEYS, *key);
                let reply = self.subject.apply(now, Command::Get { peer, key }, &mut events);
                (reply, self.model.get(peer, key))
            }
            Op::Listen { who, keys } => {
                let peer = self.handle(*who)?;
                let keys: Vec<&str> = keys.iter().map(|key| pick(&KEYS, *key)).collect();
                let (named, begun) = (KeyList::of(&keys), KeyList::default());
                let listen = Command::Listen { peer, keys: &named, prefixes: &begun };
                let reply = self.subject.apply(now, listen, &mut events);
                (reply, self.model.listen(peer, &keys))
            }
            Op::Tick | Op::TickWhenDue => {
                let reply = self.subject.apply(now, Command::Tick, &mut events);
                (reply, Ok(model::Reply::Done))
            }
        };
        self.compare_reply(&reply, expected)?;
        let seen = self.compare_events(&events, expected_events)?;
        self.compare_room()?;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{reply:?} {seen:?} {:?}", self.subject.room()));
        }
        Ok(reply.is_err())
    }

    fn compare_reply(
        &mut self,
        reply: &Result<room::Reply, Error>,
        expected: Result<model::Reply, Refusal>,
    ) -> Result<(), String> {
        match (reply, expected) {
            (Ok(room::Reply::Joined { peer, returned }), Ok(expected)) => {
                if let (false, Some(owner)) = (*returned, self.ids.get(peer)) {
                    return Err(format!(
                        "{peer:?} was the handle of {owner} before: an old handle would be taken for new"
                    ));
                }
                if let model::Reply::Joined { peer_id, returned: false } = &expected {
                    self.handles.push(*peer);
                    self.ids.insert(*peer, peer_id.clone());
                }
                let peer_id = self.ids.get(peer).cloned().unwrap_or_default();
                same("reply", &model::Reply::Joined { peer_id, returned: *returned }, &expected)
            }
            (Ok(room::Reply::State(change)), Ok(expected)) => {
                same("reply", &model::Reply::State(plain(change)), &expected)
            }
            (Ok(room::Reply::Done), Ok(expected)) => same("reply", &model::Reply::Done, &expected),
            (Err(error), Err(refusal)) => {
                if !refusal.codes.contains(&error.code()) {
                    return Err(format!("refused with {}; right would be {:?}", error.code(), refusal.codes));
                }
                let is_conflict = error.code() == ErrorCode::VersionConflict;
                let current = error.current().map(|change| Box::new(plain(change)));
                same("what a refusal reports", &current, &refusal.current.filter(|_| is_conflict))
            }
            (room, model) => Err(format!("reply: the room has {room:?}, the model {model:?}")),
        }
    }

    fn compare_events(&mut self, events: &[room::Event], expected: Groups) -> Result<Vec<model::Event>, String> {
        let id = |handle: &PeerHandle| self.ids.get(handle).cloned().unwrap_or_else(|| format!("unknown {handle:?}"));
        let mut seen: Vec<model::Event> = events
            .iter()
            .map(|event| match event {
                room::Event::SessionStarted => model::Event::SessionStarted,
                room::Event::PeerJoined(peer) => model::Event::PeerJoined(id(peer)),
                room::Event::PeerUpdated(peer) => model::Event::PeerUpdated(id(peer)),
                room::Event::PeerLeft { peer, peer_id, connection_lost } if id(peer) == **peer_id => {
                    model::Event::PeerLeft { peer_id: id(peer), connection_lost: *connection_lost }
                }
                room::Event::PeerLeft { peer, peer_id, connection_lost } => model::Event::PeerLeft {
                    peer_id: format!("{peer_id} by the handle of {}", id(peer)),
                    connection_lost: *connection_lost,
                },
                room::Event::Changed { change, .. } => model::Event::Changed(plain(change)),
                room::Event::SessionEnded(_) => model::Event::SessionEnded,
                room::Event::LockTaken { .. }
                | room::Event::LockGranted { .. }
                | room::Event::LockRefused { .. }
                | room::Event::ListeningChanged { .. } => unreachable!("no step has locks or rules"),
            })
            .collect();
        let total: usize = expected.iter().map(Vec::len).sum();
        if total == seen.len() {
            let mut rest = seen.as_mut_slice();
            for group in &expected {
                let (these, others) = rest.split_at_mut(group.len());
                these.sort();
                rest = others;
            }
        }
        let expected: Vec<model::Event> = expected.into_iter().flat_map(sorted).collect();
        same("events", &seen, &expected)?;
        for event in events {
            if let room::Event::Changed { slot, change, .. } = event {
                self.compare_listeners(*slot, &change.key)?;
                let session = self.subject.room().session_id().map(|id| id.to_string()).unwrap_or_default();
                self.key_slots.insert(*slot, (session, change.key.to_string()));
            }
        }
        Ok(seen)
    }

    fn compare_listeners(&self, slot: KeySlot, key: &str) -> Result<(), String> {
        let slots = self.subject.listeners(slot);
        let mut listeners = BTreeSet::new();
        for peer_slot in &slots {
            let mut peers = self.subject.room().peers().filter(|(handle, _)| handle.slot == *peer_slot);
            let Some((_, peer)) = peers.next() else {
                return Err(format!("{key} has a listener in slot {peer_slot}, where nobody is"));
            };
            listeners.insert(peer.identity.peer_id.to_string());
        }
        if listeners.len() != slots.len() {
            return Err(format!("{key} has a listener twice"));
        }
        same(&format!("listeners of {key}"), &listeners, &self.model.listeners(key))
    }

    fn compare_room(&mut self) -> Result<(), String> {
        let model = self.model.dump();
        same("the room", &dump(self.subject)?, &model)?;
        if let Some(due) = self.subject.next_deadline().filter(|due| *due <= self.now) {
            return Err(format!("the next deadline is {due}, which has passed"));
        }
        for key in KEYS {
            same("state", &plain(&self.subject.state(key)), &self.model.state(key))?;
        }
        let room = self.subject.room();
        for (handle, id) in &self.ids {
            let current = model.peers.get(id).is_some_and(|peer| peer.handle == *handle);
            same(&format!("whether {handle:?} of {id} is current"), &room.peer(*handle).is_some(), &current)?;
        }
        for (handle, peer) in room.peers() {
            for slot in room.listen_set(handle) {
                let state = room.state_of(slot).ok_or_else(|| format!("a key of {handle:?} is not there"))?;
                self.compare_listeners(slot, &state.key)?;
            }
            let found = room.peer_by_id(&peer.identity.peer_id).map(|(handle, _)| handle);
            same("the peer found by its id", &found, &Some(handle))?;
        }
        // A slot seen in an old event stands for that key of that session, or for nothing.
        let session = room.session_id().map(|id| id.to_string());
        for (slot, (then, key)) in &self.key_slots {
            let Some(state) = room.state_of(*slot) else { continue };
            same("the session of a key slot", &session.as_deref(), &Some(then.as_str()))?;
            same("the state in a key slot", &plain(&state), &self.model.state(key))?;
        }
        Ok(())
    }
}

fn sorted(mut group: Vec<model::Event>) -> Vec<model::Event> {
    group.sort();
    group
}

/// Everything the room shows, in the model's types.
fn dump(subject: &impl Subject) -> Result<Dump, String> {
    let room = subject.room();
    let mut peers = BTreeMap::new();
    for (handle, peer) in room.peers() {
        let mut listens = BTreeSet::new();
        for slot in room.listen_set(handle) {
            let state = room.state_of(slot).ok_or_else(|| format!("a key of {handle:?} is not there"))?;
            if !listens.insert(state.key.to_string()) {
                return Err(format!("{handle:?} listens to {} twice", state.key));
            }
        }
        let peer = (
            peer.identity.peer_id.to_string(),
            model::Peer {
                handle,
                user_id: peer.identity.user_id.to_string(),
                name: peer.identity.name.to_string(),
                role: peer.role.to_string(),
                metadata: peer.metadata.to_string(),
                joined_at: peer.joined_at,
                lost_until: peer.lost_until,
                listens,
            },
        );
        if peers.insert(peer.0.clone(), peer.1).is_some() {
            return Err(format!("{} is in the room twice", peer.0));
        }
    }
    same("the count of peers", &room.peer_count(), &peers.len())?;
    same("whether there is a session", &room.is_open(), &room.session_id().is_some())?;
    let id = room.session_id().map(|id| id.to_string());
    Ok(Dump {
        session: id.zip(room.started_at()),
        revision: subject.revision(),
        usage: subject.usage(),
        next_deadline: subject.next_deadline(),
        peers,
        entries: room.entries().map(|change| (change.key.to_string(), plain(change))).collect(),
    })
}
