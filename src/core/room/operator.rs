//! What is done to a room from outside: by a back end, or by whoever looks after it. An operator is no peer: it is
//! not in the room, and nothing goes with it.

use super::*;
use crate::core::limits::MAX_KEEP_MS;

/// Who does something to a room from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator<'a> {
    /// Who it is, for the [`Author`] of what it writes, whose peer id is empty.
    pub user_id: &'a str,
    /// The name that peers see beside what it writes.
    pub name: &'a str,
    /// Whose rights it has to read and write keys, by the rules. `None`: all.
    pub role: Option<&'a str>,
}

/// What an operator does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Action<'a> {
    /// Begins a session before its first peer, with what the transaction writes, or not at all. It ends unless
    /// somebody joins in time. `ROOM_OPEN` if there is one. The reply is that of the transaction.
    Open {
        /// The id that the session gets.
        session_id: &'a str,
        /// How long it waits for its first peer, in milliseconds; [`MAX_KEEP_MS`] at most.
        keep_ms: u64,
        /// What it begins with.
        #[serde(borrow)]
        transaction: Transaction<'a>,
    },
    /// As [`Command::Transact`], for a peer; but no key can be bound to who writes.
    Transact(Transaction<'a>),
    /// Removes a peer, as if it had left. `NOT_FOUND` if it is not in the room.
    Kick {
        /// The peer's id.
        peer_id: &'a str,
    },
    /// Takes a lock from whoever holds it; who waits for it gets it. `NOT_FOUND` if nobody holds it.
    Release {
        /// The lock's name.
        lock: &'a str,
    },
    /// Ends the session, whoever is in it.
    Close,
}

/// Who reads or writes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Actor<'a> {
    Peer(PeerHandle),
    Operator(Operator<'a>),
}

impl From<PeerHandle> for Actor<'_> {
    fn from(peer: PeerHandle) -> Self {
        Actor::Peer(peer)
    }
}

impl Actor<'_> {
    /// With whom a key can go.
    pub fn peer(self) -> Result<PeerHandle, Error> {
        match self {
            Actor::Peer(peer) => Ok(peer),
            Actor::Operator(_) => Err(Error::new(
                ErrorCode::InvalidArgument,
                "only what a peer writes can go with it; this writer is none",
            )),
        }
    }
}

fn not_found(what: String) -> Error {
    Error::new(ErrorCode::NotFound, what)
}

impl Room {
    /// The session that somebody may act in.
    pub(super) fn session_for(&mut self, actor: Actor<'_>) -> Result<&mut Session, Error> {
        match (actor, &mut self.session) {
            (Actor::Peer(peer), session) => Session::of(session, peer),
            (Actor::Operator(_), Some(session)) => Ok(session),
            (Actor::Operator(_), None) => Err(not_found("nobody is in this room".into())),
        }
    }

    /// Whether an operator may read a key.
    pub fn shows(&self, operator: Operator<'_>, key: &str) -> bool {
        self.session.as_ref().is_some_and(|session| session.may(Actor::Operator(operator), Right::Read, key))
    }

    pub(super) fn operate(
        &mut self,
        now: Time,
        operator: Operator<'_>,
        action: Action<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Error> {
        names::check_user_id(operator.user_id)?;
        names::check_peer_name(operator.name)?;
        operator.role.map_or(Ok(()), names::check_role)?;
        let actor = Actor::Operator(operator);
        match action {
            Action::Open { session_id, keep_ms, transaction } => {
                if self.is_open() {
                    return Err(ErrorCode::RoomOpen.into());
                }
                if !(1..=MAX_KEEP_MS).contains(&keep_ms) {
                    let message = format!("a session waits 1 to {MAX_KEEP_MS} ms for its first peer");
                    return Err(Error::new(ErrorCode::InvalidArgument, message));
                }
                let told = events.len();
                let session = self.begin(now, session_id, events);
                session.linger_until = Some(now.saturating_add(keep_ms));
                let written = self.transact(now, actor, transaction, events);
                if written.is_err() {
                    // As if it had not begun.
                    self.session = None;
                    events.truncate(told);
                }
                written
            }
            Action::Transact(transaction) => self.transact(now, actor, transaction, events),
            Action::Kick { peer_id } => {
                self.session_for(actor)?;
                let Some((peer, _)) = self.peer_by_id(peer_id) else {
                    return Err(not_found("no peer with this id is in the room".into()));
                };
                self.remove_peer(now, peer, false, events);
                Ok(Reply::Done)
            }
            Action::Release { lock } => {
                names::check_lock(lock)?;
                let session = self.session_for(actor)?;
                let Some(slot) = session.held(lock) else {
                    return Err(not_found("nobody holds this lock".into()));
                };
                let entry = &session.keys[slot.index as usize];
                if let (Some(peer), Some(state)) = (entry.owner, &entry.state) {
                    events.push(Event::LockTaken { peer, name: lock.into(), token: state.version });
                }
                let author = Some(session.author(actor));
                session.revision += 1;
                let granted = session.pass_on(now, slot, Cause::Written, author, false, events);
                events.extend(granted);
                Ok(Reply::Done)
            }
            Action::Close => {
                self.session_for(actor)?;
                self.end_session(now, events);
                Ok(Reply::Done)
            }
        }
    }
}

impl Session {
    /// As whom the rules look at somebody; `None`: they do not.
    pub(super) fn bound_by<'a>(&'a self, actor: Actor<'a>) -> Option<Caller<'a>> {
        match actor {
            Actor::Peer(peer) => Some(self.caller(peer.slot)),
            Actor::Operator(Operator { user_id, role, .. }) => role.map(|role| Caller { role, peer_id: "", user_id }),
        }
    }

    /// Who is named as the author of a change.
    pub(super) fn author(&self, actor: Actor<'_>) -> Arc<Author> {
        match actor {
            Actor::Peer(peer) => self.peers[peer.slot as usize].identity.clone(),
            Actor::Operator(Operator { user_id, name, .. }) => {
                Arc::new(Author { peer_id: self.text(""), user_id: self.text(user_id), name: self.text(name) })
            }
        }
    }
}
