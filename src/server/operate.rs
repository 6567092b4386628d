//! What operators ask of the rooms of a loop, from another thread; and what follows for the connections there.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::connection::{Connection, Dialect};
use super::room_host::{close_code, Inner};
use super::shard::{Shard, Shared, ToShard};
use crate::core::error::{Error, ErrorCode};
use crate::core::limits::Limits;
use crate::core::room::{Action, Change, Command, Operator, Peer, Reply, Time};
use crate::core::wire;
use crate::core::write::Transaction;

/// An operator, as its token says.
#[derive(Clone, Debug, Default)]
pub(super) struct Who {
    pub user_id: Arc<str>,
    pub name: Arc<str>,
    pub role: Option<Arc<str>>,
}

impl Who {
    pub fn operator(&self) -> Operator<'_> {
        Operator { user_id: &self.user_id, name: &self.name, role: self.role.as_deref() }
    }
}

/// A peer at a moment.
#[derive(Clone, Debug)]
pub(super) struct PeerView {
    pub peer_id: Arc<str>,
    pub user_id: Arc<str>,
    pub name: Arc<str>,
    pub role: Arc<str>,
    pub metadata: Arc<str>,
    pub joined_at: Time,
    /// Whether it has a connection, and not only its grace period.
    pub connected: bool,
}

impl PeerView {
    pub fn of(peer: &Peer) -> PeerView {
        let identity = &peer.identity;
        PeerView {
            peer_id: identity.peer_id.clone(),
            user_id: identity.user_id.clone(),
            name: identity.name.clone(),
            role: peer.role.clone(),
            metadata: peer.metadata.clone(),
            joined_at: peer.joined_at,
            connected: peer.lost_until.is_none(),
        }
    }
}

/// A lock that is held. The state of its key says by whom.
#[derive(Clone, Debug)]
pub(super) struct LockView {
    pub name: String,
    pub state: Arc<Change>,
    pub expires_at: Time,
}

/// A room at a moment.
#[derive(Clone, Debug)]
pub(super) struct RoomView {
    pub room: Arc<str>,
    pub session_id: Arc<str>,
    pub started_at: Time,
    pub revision: u64,
    pub peers: usize,
    pub connections: usize,
    pub keys: usize,
    pub bytes: usize,
}

/// The states of keys at one revision.
pub(super) struct States {
    pub revision: u64,
    pub states: Vec<Arc<Change>>,
}

impl TryFrom<Reply> for States {
    type Error = Error;

    fn try_from(reply: Reply) -> Result<States, Error> {
        match reply {
            Reply::States { revision, states } => Ok(States { revision, states }),
            _ => Err(ErrorCode::Internal.into()),
        }
    }
}

/// Has something done on a loop. The answer comes when what it did is kept; `SHUTTING_DOWN` if it never does.
pub(super) async fn ask<T: Send + 'static>(
    shared: &Shared,
    shard: usize,
    act: impl FnOnce(&Rc<Shard>) -> T + Send + 'static,
) -> Result<T, Error> {
    let gone = || Error::from(ErrorCode::ShuttingDown);
    let (tell, told) = oneshot::channel();
    let task = move |shard: &Rc<Shard>| {
        let result = act(shard);
        if shard.keep() {
            // Fails when nobody waits for it any more.
            let _ = tell.send(result);
        }
    };
    shared.shards.get(shard).ok_or_else(gone)?.send(ToShard::Do(Box::new(task))).map_err(|_| gone())?;
    told.await.map_err(|_| gone())
}

/// Has something done with a room that has a session; `NOT_FOUND` otherwise.
pub(super) async fn in_room<T: Send + 'static>(
    shared: &Shared,
    room: String,
    act: impl FnOnce(&mut Inner, Time) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let act = |inner: &mut Inner, now| match inner.room.is_open() {
        true => act(inner, now),
        false => Err(Error::new(ErrorCode::NotFound, "nobody is in this room")),
    };
    in_any_room(shared, room, act).await
}

/// The same with a room that need not have one.
pub(super) async fn in_any_room<T: Send + 'static>(
    shared: &Shared,
    room: String,
    act: impl FnOnce(&mut Inner, Time) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let shard = shared.shard_of(&room);
    ask(shared, shard, move |shard| {
        if shard.is_stopping() {
            return Err(ErrorCode::ShuttingDown.into());
        }
        let (host, now) = (shard.room(&room), shard.now());
        let result = host.turn(|inner| act(inner, now)).unwrap_or_else(|| Err(ErrorCode::Internal.into()));
        shard.drop_if_unused(&host);
        result
    })
    .await?
}

impl Inner {
    /// What can be said of a room in one line; none without a session.
    pub fn view(&self) -> Option<RoomView> {
        let (keys, bytes) = self.room.usage();
        Some(RoomView {
            room: self.room.name().clone(),
            session_id: self.room.session_id()?.clone(),
            started_at: self.room.started_at()?,
            revision: self.room.revision(),
            peers: self.room.peer_count(),
            connections: self.connections,
            keys,
            bytes,
        })
    }

    pub fn limits(&self) -> Limits {
        self.room.limits().clone()
    }

    pub fn may_see_peers(&self, who: &Who) -> bool {
        let (rules, role) = (self.room.rules(), who.role.as_deref());
        role.is_none_or(|role| rules.is_none_or(|rules| rules.sees_peers(role)))
    }

    pub fn may_see(&self, who: &Who, key: &str) -> bool {
        // Without a session there is no value to hide.
        who.role.is_none() || !self.room.is_open() || self.room.shows(who.operator(), key)
    }

    /// The peers that an operator may know of, in the order in which they joined.
    pub fn peers_for(&self, who: &Who) -> Vec<PeerView> {
        if !self.may_see_peers(who) {
            return Vec::new();
        }
        let mut peers: Vec<PeerView> = self.room.peers().map(|(_, peer)| PeerView::of(peer)).collect();
        peers.sort_by(|a, b| (a.joined_at, &a.peer_id).cmp(&(b.joined_at, &b.peer_id)));
        peers
    }

    /// The locks that an operator may know of, in the order of their names.
    pub fn locks_for(&self, who: &Who) -> Vec<LockView> {
        let locks = self.room.locks().filter(|(state, _)| self.may_see(who, &state.key));
        let view = |(state, expires_at): (&Arc<Change>, Time)| {
            let name = state.key.strip_prefix(crate::core::room::LOCK_KEY_PREFIX)?.to_owned();
            Some(LockView { name, state: state.clone(), expires_at })
        };
        locks.filter_map(view).collect()
    }

    pub fn look(&mut self, now: Time, who: &Who, keys: &[&str], prefixes: &[&str]) -> Result<States, Error> {
        self.apply(now, Command::Look { operator: who.operator(), keys, prefixes })?.try_into()
    }

    pub fn transact_as(&mut self, now: Time, who: &Who, transaction: Transaction<'_>) -> Result<States, Error> {
        self.operate(now, who, Action::Transact(transaction))?.try_into()
    }

    pub fn operate(&mut self, now: Time, who: &Who, action: Action<'_>) -> Result<Reply, Error> {
        self.apply(now, Command::Operate { operator: who.operator(), action })
    }

    /// Begins a session before its first peer.
    pub fn prepare(
        &mut self,
        now: Time,
        who: &Who,
        session_id: &str,
        keep_ms: u64,
        transaction: Transaction<'_>,
    ) -> Result<RoomView, Error> {
        self.check_place("")?;
        self.operate(now, who, Action::Open { session_id, keep_ms, transaction })?;
        self.view().ok_or_else(|| ErrorCode::Internal.into())
    }

    /// Removes a peer and closes its connection. `NOT_FOUND` if it is not in the room.
    pub fn kick(&mut self, now: Time, who: &Who, peer_id: &str, reason: &str) -> Result<(), Error> {
        if let Some((peer, _)) = self.room.peer_by_id(peer_id) {
            if let Some(connection) = self.member(peer) {
                self.dismiss(&connection, now, ErrorCode::Kicked, reason);
            }
            if self.room.peer(peer).is_none() {
                // Without a grace period it has gone with its connection.
                return Ok(());
            }
        }
        self.operate(now, who, Action::Kick { peer_id }).map(drop)
    }

    /// Ends the session and closes the connections of all who are in it.
    pub fn close_room(&mut self, now: Time, who: &Who, reason: &str) -> Result<(), Error> {
        for connection in self.all_members() {
            self.dismiss(&connection, now, ErrorCode::RoomClosed, reason);
        }
        match self.room.is_open() {
            true => self.operate(now, who, Action::Close).map(drop),
            // Without a grace period it has ended with the last connection.
            false => Ok(()),
        }
    }

    fn dismiss(&mut self, connection: &Rc<Connection>, now: Time, code: ErrorCode, reason: &str) {
        if connection.dialect == Dialect::Original {
            let ends = code == ErrorCode::RoomClosed;
            self.answer(connection, |out| wire::write_leave_request(out, reason, ends));
        }
        self.close(connection, now, close_code(code), reason);
    }
}
