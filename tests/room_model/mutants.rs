//! Rooms with a planted fault each. If the checker misses one, it is the checker that is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use sessionstore::core::names::KeyList;
use sessionstore::core::room::{Author, Change, Command, Event, KeySlot, Reply, Room, Time};
use sessionstore::{Error, ErrorCode};

use crate::check::Subject;

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    DropsEverySeventhEvent,
    RepeatsAnEvent,
    ReversesEvents,
    ForgetsToBumpTheRevision,
    AnswersGetFromMemory,
    NoticesTimeLate,
    RewritesHistoryOnRename,
    NeverGivesBytesBack,
    LosesAListener,
    ChangesSomethingWhenItRefuses,
    MixesUpTheLimits,
    IgnoresTheExpectedVersion,
    ReportsNoCurrentState,
    AddsToTheListenSet,
    LengthensTheGrace,
    ForgetsTheDeadline,
}

impl Fault {
    pub const ALL: [Fault; 16] = [
        Fault::DropsEverySeventhEvent,
        Fault::RepeatsAnEvent,
        Fault::ReversesEvents,
        Fault::ForgetsToBumpTheRevision,
        Fault::AnswersGetFromMemory,
        Fault::NoticesTimeLate,
        Fault::RewritesHistoryOnRename,
        Fault::NeverGivesBytesBack,
        Fault::LosesAListener,
        Fault::ChangesSomethingWhenItRefuses,
        Fault::MixesUpTheLimits,
        Fault::IgnoresTheExpectedVersion,
        Fault::ReportsNoCurrentState,
        Fault::AddsToTheListenSet,
        Fault::LengthensTheGrace,
        Fault::ForgetsTheDeadline,
    ];
}

pub struct Mutant {
    room: Room,
    fault: Fault,
    events: usize,
    most_bytes: usize,
    remembered: BTreeMap<String, Arc<Change>>,
}

impl Mutant {
    pub fn new(room: Room, fault: Fault) -> Mutant {
        Mutant { room, fault, events: 0, most_bytes: 0, remembered: BTreeMap::new() }
    }

    fn apply_altered(&mut self, now: Time, command: Command<'_>, events: &mut Vec<Event>) -> Result<Reply, Error> {
        match (self.fault, command) {
            (Fault::NoticesTimeLate, command) => self.room.apply(now - 1, command, events),
            (Fault::AnswersGetFromMemory, Command::Get { peer, key }) => {
                let fresh = match self.room.apply(now, Command::Get { peer, key }, events)? {
                    Reply::State(state) => state,
                    other => return Ok(other),
                };
                Ok(Reply::State(self.remembered.entry(key.to_owned()).or_insert(fresh).clone()))
            }
            (Fault::ChangesSomethingWhenItRefuses, Command::Set { peer, key, value, expected }) => {
                let reply = self.room.apply(now, Command::Set { peer, key, value, expected }, events);
                if reply.is_err() {
                    let rename = Command::UpdatePeer { peer, name: Some("refused"), metadata: None };
                    let _ = self.room.apply(now, rename, &mut Vec::new());
                }
                reply
            }
            (Fault::IgnoresTheExpectedVersion, Command::Set { peer, key, value, .. }) => {
                self.room.apply(now, Command::Set { peer, key, value, expected: None }, events)
            }
            (Fault::AddsToTheListenSet, Command::Listen { peer, keys, prefixes }) if prefixes.is_empty() => {
                let have: Vec<Arc<str>> = self
                    .room
                    .listen_set(peer)
                    .filter_map(|slot| self.room.state_of(slot))
                    .map(|state| state.key.clone())
                    .collect();
                let all: KeyList = have.iter().map(|key| &**key).chain(keys.iter()).collect();
                self.room.apply(now, Command::Listen { peer, keys: &all, prefixes }, events)
            }
            (Fault::LengthensTheGrace, Command::ConnectionLost { peer }) => {
                let again = self.room.peer(peer).filter(|peer| peer.lost_until.is_some_and(|until| until > now));
                if let Some(again) = again {
                    let (peer_id, user_id) = (again.identity.peer_id.clone(), again.identity.user_id.clone());
                    let back = Command::Return { peer_id: &peer_id, user_id: &user_id };
                    self.room.apply(now, back, events)?;
                }
                self.room.apply(now, Command::ConnectionLost { peer }, events)
            }
            (_, command) => self.room.apply(now, command, events),
        }
    }
}

impl Subject for Mutant {
    fn room(&self) -> &Room {
        &self.room
    }

    fn apply(&mut self, now: Time, command: Command<'_>, events: &mut Vec<Event>) -> Result<Reply, Error> {
        let reply = self.apply_altered(now, command, events);
        self.most_bytes = self.most_bytes.max(self.room.usage().1);
        match self.fault {
            Fault::DropsEverySeventhEvent => events.retain(|_| {
                self.events += 1;
                !self.events.is_multiple_of(7)
            }),
            Fault::RepeatsAnEvent => {
                if let Some(event @ Event::Changed { .. }) = events.last().cloned() {
                    events.push(event);
                }
            }
            Fault::ReversesEvents => events.reverse(),
            _ => {}
        }
        match reply {
            Err(error) if matches!(self.fault, Fault::MixesUpTheLimits) && error.code() == ErrorCode::StoreFull => {
                Err(ErrorCode::TooManyKeys.into())
            }
            Err(error) if matches!(self.fault, Fault::ReportsNoCurrentState) => Err(error.code().into()),
            reply => reply,
        }
    }

    fn revision(&self) -> u64 {
        let revision = self.room.revision();
        let forgets = matches!(self.fault, Fault::ForgetsToBumpTheRevision) && revision > 1;
        revision - u64::from(forgets)
    }

    fn usage(&self) -> (usize, usize) {
        let (keys, bytes) = self.room.usage();
        (keys, if matches!(self.fault, Fault::NeverGivesBytesBack) { self.most_bytes } else { bytes })
    }

    fn next_deadline(&self) -> Option<Time> {
        self.room.next_deadline().filter(|_| !matches!(self.fault, Fault::ForgetsTheDeadline))
    }

    fn state(&self, key: &str) -> Arc<Change> {
        let state = self.room.state(key);
        let Some(author) = state.author.as_ref().filter(|_| matches!(self.fault, Fault::RewritesHistoryOnRename))
        else {
            return state;
        };
        let Some((_, writer)) = self.room.peer_by_id(&author.peer_id) else { return state };
        let (peer_id, user_id) = (author.peer_id.clone(), author.user_id.clone());
        let author = Author { peer_id, user_id, name: writer.identity.name.clone() };
        Arc::new(Change {
            value: state.value.clone(),
            version: state.version,
            updated_at: state.updated_at,
            author: Some(Arc::new(author)),
            ..Change::absent(state.key.clone())
        })
    }

    fn listeners(&self, slot: KeySlot) -> Vec<u32> {
        let mut listeners: Vec<u32> = self.room.listeners(slot).collect();
        if matches!(self.fault, Fault::LosesAListener) && listeners.len() > 1 {
            listeners.pop();
        }
        listeners
    }
}
