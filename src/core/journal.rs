//! What happened to a room, as bytes: each command that changed something, in order. Applied again to the room
//! as it was before, they give the room as it is.
//!
//! A store of the server keeps these bytes (feature `durable`); this module says what is in them. Reads are
//! not kept, as they change nothing. A refusal is, if the request may come again: it must be refused then too,
//! and not be done behind those that came after it.
//!
//! ```
//! use sessionstore::core::journal::{self, Origin};
//! use sessionstore::core::room::{Command, Introduction, Room};
//! let mut room = Room::new("lobby", Default::default());
//! let peer = Introduction { peer_id: "p1", user_id: "", name: None, role: "guest", metadata: None, secret: None };
//! let join = Command::Join { peer, new_session_id: "s1" };
//! let (mut entries, mut events) = (Vec::new(), Vec::new());
//! journal::apply(&mut room, &mut entries, 17, Origin::Once, join, &mut events).unwrap();
//!
//! let mut again = Room::new("lobby", Default::default());
//! assert_eq!(journal::replay(&mut again, &entries).unwrap().entries, 1);
//! assert_eq!(again.checkpoint(), room.checkpoint());
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::{Error, ErrorCode};
use super::names::KeyList;
use super::room::{Action, Command, Event, Introduction, Operator, Peer, PeerHandle, Reply, Room, Time};
use super::rules::{Rule, Rules};
use super::secret::Secret;
use super::value::Value;
use super::write::{LockGuard, Transaction, Write};

/// The version of what is written here and in [`Room::checkpoint`]. It changes whenever an older program could
/// not read it, or would make another room of it.
pub const FORMAT: u32 = 1;

/// Whether a command may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// It went through [`Room::apply`].
    Once,
    /// It went through [`Room::apply_once`].
    Request {
        /// Who asked.
        peer: PeerHandle,
        /// Under which id.
        id: u64,
    },
}

impl Origin {
    /// Applies a command this way.
    pub fn apply(
        self,
        room: &mut Room,
        at: Time,
        command: Command<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Error> {
        match self {
            Origin::Once => room.apply(at, command, events),
            Origin::Request { peer, id } => room.apply_once(at, peer, id, command, events),
        }
    }
}

/// One command, with what else `apply` was told. New kinds of commands are added at the end: the place of each
/// is its number in the journal.
#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    /// Whether the room refused it. The first byte, because it is known last.
    is_refused: bool,
    at: Time,
    origin: Origin,
    #[serde(borrow)]
    command: Kept<'a>,
}

#[derive(Serialize, Deserialize)]
enum Kept<'a> {
    Tick,
    Join { peer: Joining<'a>, new_session_id: &'a str },
    Return { peer_id: &'a str, user_id: &'a str },
    Leave { peer: PeerHandle },
    ConnectionLost { peer: PeerHandle },
    UpdatePeer { peer: PeerHandle, name: Option<&'a str>, metadata: Option<&'a str> },
    Set { peer: PeerHandle, key: &'a str, value: Value, expected: Option<u64> },
    Write { peer: PeerHandle, write: Write<'a>, lock: Option<LockGuard<'a>> },
    Transact { peer: PeerHandle, transaction: Transaction<'a> },
    Acquire { peer: PeerHandle, name: &'a str, ttl_ms: u64, wait_ms: u64 },
    Renew { peer: PeerHandle, lock: LockGuard<'a>, ttl_ms: u64 },
    Release { peer: PeerHandle, lock: LockGuard<'a> },
    Listen { peer: PeerHandle, keys: Vec<&'a str>, prefixes: Vec<&'a str> },
    SetRules { rules: Option<KeptRules> },
    ChangeRole { peer: PeerHandle, role: &'a str },
    Answered { peer: PeerHandle, through: u64, except: Cow<'a, [u64]> },
    Refuse { peer: PeerHandle, retry_after_ms: u64 },
    Operate { operator: Operator<'a>, action: Action<'a> },
}

#[derive(Serialize, Deserialize)]
struct Joining<'a> {
    peer_id: &'a str,
    user_id: &'a str,
    name: Option<&'a str>,
    role: &'a str,
    metadata: Option<&'a str>,
    secret: Option<Secret>,
}

/// Rules as they were written.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptRules(Vec<Rule>, Option<Vec<String>>);

impl KeptRules {
    pub fn of(rules: &Rules) -> KeptRules {
        let (rules, see_peers) = rules.document();
        KeptRules(rules, see_peers)
    }

    pub fn rules(self) -> Result<Arc<Rules>, Error> {
        Ok(Arc::new(Rules::new(self.0, self.1)?))
    }
}

/// What damaged or foreign bytes are refused with.
pub(super) fn damaged(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorCode::DataDamaged, what)
}

impl<'a> Kept<'a> {
    /// `None` for what changes nothing.
    fn of(command: &'a Command<'a>) -> Option<Kept<'a>> {
        Some(match *command {
            Command::Get { .. } | Command::Read { .. } | Command::Look { .. } => return None,
            Command::Tick => Kept::Tick,
            Command::Join { peer, new_session_id } => {
                let Introduction { peer_id, user_id, name, role, metadata, secret } = peer;
                Kept::Join { peer: Joining { peer_id, user_id, name, role, metadata, secret }, new_session_id }
            }
            Command::Return { peer_id, user_id } => Kept::Return { peer_id, user_id },
            Command::Leave { peer } => Kept::Leave { peer },
            Command::ConnectionLost { peer } => Kept::ConnectionLost { peer },
            Command::UpdatePeer { peer, name, metadata } => Kept::UpdatePeer { peer, name, metadata },
            Command::Set { peer, key, ref value, expected } => Kept::Set { peer, key, value: value.clone(), expected },
            Command::Write { peer, ref write, ref lock } => {
                Kept::Write { peer, write: write.clone(), lock: lock.clone() }
            }
            Command::Transact { peer, ref transaction } => Kept::Transact { peer, transaction: transaction.clone() },
            Command::Acquire { peer, name, ttl_ms, wait_ms } => Kept::Acquire { peer, name, ttl_ms, wait_ms },
            Command::Renew { peer, ref lock, ttl_ms } => Kept::Renew { peer, lock: lock.clone(), ttl_ms },
            Command::Release { peer, ref lock } => Kept::Release { peer, lock: lock.clone() },
            Command::Listen { peer, keys, prefixes } => {
                Kept::Listen { peer, keys: keys.iter().collect(), prefixes: prefixes.iter().collect() }
            }
            Command::SetRules { ref rules } => Kept::SetRules { rules: rules.as_deref().map(KeptRules::of) },
            Command::ChangeRole { peer, role } => Kept::ChangeRole { peer, role },
            Command::Answered { peer, through, except } => Kept::Answered { peer, through, except: except.into() },
            Command::Refuse { peer, retry_after_ms } => Kept::Refuse { peer, retry_after_ms },
            Command::Operate { operator, ref action } => Kept::Operate { operator, action: action.clone() },
        })
    }
}

/// Where entries are appended.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Applies a command to a room and appends it to the entries, if it changed something.
///
/// Of a command that was refused and will not come again only the time is kept, and only if something happened by
/// itself by then.
pub fn apply(
    room: &mut Room,
    entries: &mut Vec<u8>,
    at: Time,
    origin: Origin,
    command: Command<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, Error> {
    let (start, told) = (entries.len(), events.len());
    let is_change = write(entries, at, origin, &command) && !matches!(command, Command::Tick);
    let reply = origin.apply(room, at, command, events);
    let is_kept = match (&reply, origin) {
        (Ok(_), _) => is_change,
        (Err(_), Origin::Once) => false,
        (Err(_), Origin::Request { peer, .. }) => is_change && room.peer(peer).is_some_and(Peer::resumes),
    };
    if !is_kept {
        entries.truncate(start);
        if events.len() > told {
            write(entries, at, Origin::Once, &Command::Tick);
        }
    } else if reply.is_err() {
        entries[start] = 1;
    }
    reply
}

/// Appends a command. Returns whether there was something to append: reads change nothing.
fn write(out: &mut Vec<u8>, at: Time, origin: Origin, command: &Command<'_>) -> bool {
    let Some(command) = Kept::of(command) else { return false };
    // Fails for nothing: every length is known, and there is no end of the buffer.
    let _ = postcard::serialize_with_flavor(&Entry { is_refused: false, at, origin, command }, Append(out));
    true
}

/// What was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// How many commands.
    pub entries: usize,
    /// The time of the last; 0 if there was none.
    pub at: Time,
}

/// Applies commands again, which [`apply`] wrote, to the room as it was before the first of them.
///
/// Errors: [`ErrorCode::DataDamaged`] when the bytes are no such commands, or the room refuses one, so that they are
/// those of another room. What came before that is applied.
pub fn replay(room: &mut Room, mut entries: &[u8]) -> Result<Replayed, Error> {
    let mut replayed = Replayed::default();
    let mut events = Vec::new();
    while !entries.is_empty() {
        let (entry, rest) = postcard::take_from_bytes::<Entry<'_>>(entries)
            .map_err(|error| damaged(format!("an entry of the journal cannot be read: {error}")))?;
        let at = entry.at;
        entry.apply(room, &mut events)?;
        replayed = Replayed { entries: replayed.entries + 1, at };
        entries = rest;
        events.clear();
    }
    Ok(replayed)
}

impl Entry<'_> {
    fn apply(self, room: &mut Room, events: &mut Vec<Event>) -> Result<(), Error> {
        // A room that was restored has its peers in other slots.
        let find = |peer: PeerHandle| room.find(peer).ok_or_else(|| damaged("the journal speaks of an unknown peer"));
        let (named, begun, exceptions);
        let command = match self.command {
            Kept::Tick => Command::Tick,
            Kept::Join { peer, new_session_id } => {
                let Joining { peer_id, user_id, name, role, metadata, secret } = peer;
                let peer = Introduction { peer_id, user_id, name, role, metadata, secret };
                Command::Join { peer, new_session_id }
            }
            Kept::Return { peer_id, user_id } => Command::Return { peer_id, user_id },
            Kept::Leave { peer } => Command::Leave { peer: find(peer)? },
            Kept::ConnectionLost { peer } => Command::ConnectionLost { peer: find(peer)? },
            Kept::UpdatePeer { peer, name, metadata } => Command::UpdatePeer { peer: find(peer)?, name, metadata },
            Kept::Set { peer, key, value, expected } => Command::Set { peer: find(peer)?, key, value, expected },
            Kept::Write { peer, write, lock } => Command::Write { peer: find(peer)?, write, lock },
            Kept::Transact { peer, transaction } => Command::Transact { peer: find(peer)?, transaction },
            Kept::Acquire { peer, name, ttl_ms, wait_ms } => {
                Command::Acquire { peer: find(peer)?, name, ttl_ms, wait_ms }
            }
            Kept::Renew { peer, lock, ttl_ms } => Command::Renew { peer: find(peer)?, lock, ttl_ms },
            Kept::Release { peer, lock } => Command::Release { peer: find(peer)?, lock },
            Kept::Listen { peer, keys, prefixes } => {
                (named, begun) = (KeyList::of(&keys), KeyList::of(&prefixes));
                Command::Listen { peer: find(peer)?, keys: &named, prefixes: &begun }
            }
            Kept::SetRules { rules } => Command::SetRules { rules: rules.map(KeptRules::rules).transpose()? },
            Kept::ChangeRole { peer, role } => Command::ChangeRole { peer: find(peer)?, role },
            Kept::Answered { peer, through, except } => {
                exceptions = except;
                Command::Answered { peer: find(peer)?, through, except: &exceptions }
            }
            Kept::Refuse { peer, retry_after_ms } => Command::Refuse { peer: find(peer)?, retry_after_ms },
            Kept::Operate { operator, action } => Command::Operate { operator, action },
        };
        let origin = match self.origin {
            Origin::Once => Origin::Once,
            Origin::Request { peer, id } => Origin::Request { peer: find(peer)?, id },
        };
        let applied = origin.apply(room, self.at, command, events);
        match (applied, self.is_refused) {
            (Ok(_), false) | (Err(_), true) => Ok(()),
            (Ok(_), true) => Err(damaged("the room does what it once refused")),
            (Err(error), false) => Err(damaged(format!("the room refuses what it once did: {}", error.code()))),
        }
    }
}
