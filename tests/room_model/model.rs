//! The naive room: plain ordered maps, everything recomputed, obviously right. No slots, no
//! serial numbers, no running sums. It shares nothing with the room it is compared to but the
//! error codes and the handles it is given to remember.

use std::collections::{BTreeMap, BTreeSet};

use sessionstore::core::limits::Limits;
use sessionstore::core::room::{PeerHandle, Time};
use sessionstore::ErrorCode;

/// One state of one key, in plain types.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    pub key: String,
    /// Compact JSON.
    pub value: String,
    pub version: u64,
    pub updated_at: Time,
    /// Peer id, user id and name at the time of the write.
    pub author: Option<(String, String, String)>,
}

impl State {
    pub fn absent(key: &str) -> State {
        State { key: key.into(), value: "null".into(), version: 0, updated_at: 0, author: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub handle: PeerHandle,
    pub user_id: String,
    pub name: String,
    pub role: String,
    pub metadata: String,
    pub joined_at: Time,
    pub lost_until: Option<Time>,
    pub listens: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    SessionStarted,
    PeerJoined(String),
    PeerUpdated(String),
    PeerLeft { peer_id: String, connection_lost: bool },
    Changed(State),
    SessionEnded,
}

/// The events of one step in order. Those of one group may come in any order: peers whose grace
/// ends in the same millisecond.
pub type Groups = Vec<Vec<Event>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Joined { peer_id: String, returned: bool },
    State(State),
    Done,
}

/// A refusal: every code that would be right (several rules may be broken at once), and what a
/// conflict has to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub codes: Vec<ErrorCode>,
    pub current: Option<Box<State>>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal { codes: vec![code], current: None }
    }
}

/// Everything a room shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    pub session: Option<(String, Time)>,
    pub revision: u64,
    /// Keys that are set; bytes of keys and values.
    pub usage: (usize, usize),
    pub next_deadline: Option<Time>,
    pub peers: BTreeMap<String, Peer>,
    pub entries: BTreeMap<String, State>,
}

#[derive(Clone, Debug)]
struct Session {
    id: String,
    started_at: Time,
    revision: u64,
    peers: BTreeMap<String, Peer>,
    entries: BTreeMap<String, State>,
    ends_at: Option<Time>,
}

pub struct Model {
    limits: Limits,
    session: Option<Session>,
}

pub struct Introduction<'a> {
    pub peer_id: &'a str,
    pub user_id: &'a str,
    pub name: Option<&'a str>,
    pub role: &'a str,
    pub metadata: Option<&'a str>,
}

fn is_plain(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && !text.chars().any(char::is_control)
}

fn check_key(key: &str) -> Result<(), Refusal> {
    if is_plain(key, 1..=256) {
        Ok(())
    } else {
        Err(ErrorCode::InvalidKey.into())
    }
}

impl Model {
    pub fn new(limits: Limits) -> Model {
        Model { limits, session: None }
    }

    pub fn dump(&self) -> Dump {
        let Some(session) = &self.session else {
            return Dump {
                session: None,
                revision: 0,
                usage: (0, 0),
                next_deadline: None,
                peers: BTreeMap::new(),
                entries: BTreeMap::new(),
            };
        };
        Dump {
            session: Some((session.id.clone(), session.started_at)),
            revision: session.revision,
            usage: (session.entries.len(), bytes_of(&session.entries)),
            next_deadline: session.peers.values().filter_map(|peer| peer.lost_until).chain(session.ends_at).min(),
            peers: session.peers.clone(),
            entries: session.entries.clone(),
        }
    }

    pub fn state(&self, key: &str) -> State {
        let entry = self.session.as_ref().and_then(|session| session.entries.get(key));
        entry.cloned().unwrap_or_else(|| State::absent(key))
    }

    /// The ids of the peers that listen to a key.
    pub fn listeners(&self, key: &str) -> BTreeSet<String> {
        let peers = self.session.iter().flat_map(|session| session.peers.iter());
        peers.filter(|(_, peer)| peer.listens.contains(key)).map(|(id, _)| id.clone()).collect()
    }

    /// The id of the peer that has this handle now.
    pub fn peer_id(&self, handle: PeerHandle) -> Option<String> {
        let mut peers = self.session.iter().flat_map(|session| session.peers.iter());
        peers.find(|(_, peer)| peer.handle == handle).map(|(id, _)| id.clone())
    }

    pub fn handle(&self, peer_id: &str) -> Option<PeerHandle> {
        self.session.as_ref()?.peers.get(peer_id).map(|peer| peer.handle)
    }

    /// Lets peers and the session go whose time has come, in order.
    pub fn pass_time(&mut self, now: Time, events: &mut Groups) {
        while let Some(due) = self.dump().next_deadline.filter(|due| *due <= now) {
            let Some(session) = &mut self.session else { return };
            let gone: Vec<String> = session
                .peers
                .iter()
                .filter(|(_, peer)| peer.lost_until == Some(due))
                .map(|(id, _)| id.clone())
                .collect();
            if gone.is_empty() {
                self.session = None;
                events.push(vec![Event::SessionEnded]);
                continue;
            }
            for peer_id in &gone {
                session.peers.remove(peer_id);
            }
            let left = |peer_id| Event::PeerLeft { peer_id, connection_lost: true };
            events.push(gone.into_iter().map(left).collect());
            self.end_if_empty(due, events);
        }
    }

    fn end_if_empty(&mut self, now: Time, events: &mut Groups) {
        let Some(session) = &mut self.session else { return };
        if !session.peers.is_empty() {
            return;
        }
        if self.limits.linger_ms == 0 {
            self.session = None;
            events.push(vec![Event::SessionEnded]);
        } else {
            session.ends_at = Some(now + self.limits.linger_ms);
        }
    }

    fn peer(&mut self, handle: PeerHandle) -> Result<(&mut Session, String), Refusal> {
        let peer_id = self.peer_id(handle).ok_or(ErrorCode::NotJoined)?;
        let session = self.session.as_mut().ok_or(ErrorCode::NotJoined)?;
        Ok((session, peer_id))
    }

    /// `handle` is what the room under test gave the peer, should it be new.
    pub fn join(
        &mut self,
        now: Time,
        who: &Introduction<'_>,
        new_session_id: &str,
        handle: Option<PeerHandle>,
        events: &mut Groups,
    ) -> Result<Reply, Refusal> {
        let valid = is_plain(who.peer_id, 1..=128)
            && is_plain(who.user_id, 0..=128)
            && is_plain(who.role, 1..=64)
            && is_plain(who.name.unwrap_or(""), 0..=256)
            && who.metadata.unwrap_or("").len() <= 2_048;
        if !valid {
            return Err(ErrorCode::InvalidPeer.into());
        }
        if let Some(handle) = self.handle(who.peer_id) {
            let reply = self.come_back(who.peer_id, who.user_id)?;
            self.update(handle, who.name, who.metadata, events)?;
            return Ok(reply);
        }
        if self.dump().peers.len() >= self.limits.max_peers {
            return Err(ErrorCode::RoomFull.into());
        }
        let session = self.session.get_or_insert_with(|| {
            events.push(vec![Event::SessionStarted]);
            Session {
                id: new_session_id.into(),
                started_at: now,
                revision: 0,
                peers: BTreeMap::new(),
                entries: BTreeMap::new(),
                ends_at: None,
            }
        });
        session.ends_at = None;
        if let Some(handle) = handle {
            let peer = Peer {
                handle,
                user_id: who.user_id.into(),
                name: who.name.unwrap_or("").into(),
                role: who.role.into(),
                metadata: who.metadata.unwrap_or("").into(),
                joined_at: now,
                lost_until: None,
                listens: BTreeSet::new(),
            };
            session.peers.insert(who.peer_id.into(), peer);
        }
        events.push(vec![Event::PeerJoined(who.peer_id.into())]);
        Ok(Reply::Joined { peer_id: who.peer_id.into(), returned: false })
    }

    pub fn come_back(&mut self, peer_id: &str, user_id: &str) -> Result<Reply, Refusal> {
        let peers = self.session.as_mut().map(|session| &mut session.peers);
        let peer = peers.and_then(|peers| peers.get_mut(peer_id)).ok_or(ErrorCode::NotJoined)?;
        if peer.user_id != user_id {
            return Err(ErrorCode::PeerMismatch.into());
        }
        peer.lost_until = None;
        Ok(Reply::Joined { peer_id: peer_id.into(), returned: true })
    }

    pub fn leave(&mut self, now: Time, handle: PeerHandle, events: &mut Groups) -> Result<Reply, Refusal> {
        let (session, peer_id) = self.peer(handle)?;
        session.peers.remove(&peer_id);
        events.push(vec![Event::PeerLeft { peer_id, connection_lost: false }]);
        self.end_if_empty(now, events);
        Ok(Reply::Done)
    }

    pub fn connection_lost(&mut self, now: Time, handle: PeerHandle, events: &mut Groups) -> Result<Reply, Refusal> {
        let until = now + self.limits.grace_ms;
        let (session, peer_id) = self.peer(handle)?;
        if let Some(peer) = session.peers.get_mut(&peer_id) {
            // Losing it twice does not make the grace longer.
            peer.lost_until = peer.lost_until.or(Some(until));
        }
        self.pass_time(now, events);
        Ok(Reply::Done)
    }

    pub fn update(
        &mut self,
        handle: PeerHandle,
        name: Option<&str>,
        metadata: Option<&str>,
        events: &mut Groups,
    ) -> Result<Reply, Refusal> {
        let (session, peer_id) = self.peer(handle)?;
        if !is_plain(name.unwrap_or(""), 0..=256) || metadata.unwrap_or("").len() > 2_048 {
            return Err(ErrorCode::InvalidPeer.into());
        }
        let Some(peer) = session.peers.get_mut(&peer_id) else { return Err(ErrorCode::NotJoined.into()) };
        let before = peer.clone();
        peer.name = name.map_or(before.name.clone(), str::to_owned);
        peer.metadata = metadata.map_or(before.metadata.clone(), str::to_owned);
        if *peer != before {
            events.push(vec![Event::PeerUpdated(peer_id)]);
        }
        Ok(Reply::Done)
    }

    pub fn set(
        &mut self,
        now: Time,
        handle: PeerHandle,
        key: &str,
        value: &str,
        expected: Option<u64>,
        events: &mut Groups,
    ) -> Result<Reply, Refusal> {
        let limits = self.limits.clone();
        let current = self.state(key);
        let (session, peer_id) = self.peer(handle)?;
        check_key(key)?;
        let removes = value == "null";

        // What the store would hold afterwards, to be measured as a whole.
        let peer = session.peers.get(&peer_id).ok_or(ErrorCode::NotJoined)?;
        let next = State {
            key: key.into(),
            value: value.into(),
            version: session.revision + 1,
            updated_at: now,
            author: Some((peer_id, peer.user_id.clone(), peer.name.clone())),
        };
        let mut after = session.entries.clone();
        if removes {
            after.remove(key);
        } else {
            after.insert(key.into(), next.clone());
        }

        let mut codes = Vec::new();
        if expected.is_some_and(|expected| expected != current.version) {
            codes.push(ErrorCode::VersionConflict);
        }
        if !removes && value.len() > limits.max_value_bytes {
            codes.push(ErrorCode::ValueTooLarge);
        }
        if !removes && after.len() > limits.max_keys {
            codes.push(ErrorCode::TooManyKeys);
        }
        if !removes && bytes_of(&after) > limits.max_store_bytes {
            codes.push(ErrorCode::StoreFull);
        }
        if !codes.is_empty() {
            return Err(Refusal { codes, current: Some(Box::new(current)) });
        }
        if removes && current.version == 0 {
            return Ok(Reply::State(current));
        }
        session.entries = after;
        session.revision += 1;
        events.push(vec![Event::Changed(next.clone())]);
        Ok(Reply::State(next))
    }

    pub fn get(&mut self, handle: PeerHandle, key: &str) -> Result<Reply, Refusal> {
        self.peer(handle)?;
        check_key(key)?;
        Ok(Reply::State(self.state(key)))
    }

    pub fn listen(&mut self, handle: PeerHandle, keys: &[&str]) -> Result<Reply, Refusal> {
        let most = self.limits.max_listened_keys;
        let (session, peer_id) = self.peer(handle)?;
        let wanted: BTreeSet<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let mut codes = Vec::new();
        if wanted.iter().any(|key| check_key(key).is_err()) {
            codes.push(ErrorCode::InvalidKey);
        }
        if wanted.len() > most {
            codes.push(ErrorCode::TooManyListenedKeys);
        }
        if !codes.is_empty() {
            return Err(Refusal { codes, current: None });
        }
        if let Some(peer) = session.peers.get_mut(&peer_id) {
            peer.listens = wanted;
        }
        Ok(Reply::Done)
    }
}

fn bytes_of(entries: &BTreeMap<String, State>) -> usize {
    entries.values().map(|state| state.key.len() + state.value.len()).sum()
}
