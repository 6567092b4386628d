//! What a room is told, what it answers, and what everybody concerned is to be told.

use super::*;

/// What a peer says of itself when it joins.
#[derive(Clone, Copy, Debug)]
pub struct Introduction<'a> {
    /// Chosen by the client, unique in the room; the same id comes back after a broken connection.
    pub peer_id: &'a str,
    /// From the token; empty when the server is open.
    pub user_id: &'a str,
    /// Shown to others. `None`: empty for a new peer, unchanged for one that is back.
    pub name: Option<&'a str>,
    /// From the token, or what an open server was asked for.
    pub role: &'a str,
    /// The peer's metadata: any text, usually JSON. `None` as for the name.
    pub metadata: Option<&'a str>,
    /// If given, only who says it too comes back as this peer, and requests of this peer that come again are
    /// answered as they were the first time.
    pub secret: Option<Secret>,
}

/// What can happen to a room.
#[derive(Clone, Debug)]
pub enum Command<'a> {
    /// A peer joins. If its id is in the room already, its connection is back (or a newer one
    /// replaces it): it keeps its place, its listen set and its metadata unless new are given. To come back as
    /// one that has a secret takes that secret: otherwise `PEER_IN_USE`.
    Join {
        /// Who joins.
        peer: Introduction<'a>,
        /// The id that a new session gets, should this join begin one.
        new_session_id: &'a str,
    },
    /// A connection came back without a join of its own: the peer with this id keeps everything.
    /// `NOT_JOINED` if it is not in the room, `PEER_IN_USE` if it has a secret.
    Return {
        /// The peer's id.
        peer_id: &'a str,
        /// The user id of the connection; `PEER_MISMATCH` if the peer has another.
        user_id: &'a str,
    },
    /// The peer leaves for good.
    Leave {
        /// Who.
        peer: PeerHandle,
    },
    /// The peer's connection broke; it stays for the grace period.
    ConnectionLost {
        /// Whose.
        peer: PeerHandle,
    },
    /// The peer changes its name or its metadata; what is `None` stays.
    UpdatePeer {
        /// Who.
        peer: PeerHandle,
        /// The new name.
        name: Option<&'a str>,
        /// The new metadata.
        metadata: Option<&'a str>,
    },
    /// Sets a key; `null` removes it.
    Set {
        /// Who writes.
        peer: PeerHandle,
        /// The key.
        key: &'a str,
        /// The value.
        value: Value,
        /// Only if the key has this version now; 0: only if it is absent.
        expected: Option<u64>,
    },
    /// Writes a key on conditions, merges into it, or lets it live longer. The reply is its state.
    Write {
        /// Who writes.
        peer: PeerHandle,
        /// What.
        write: Write<'a>,
        /// Only while this lock is held.
        lock: Option<LockGuard<'a>>,
    },
    /// Checks and writes several keys in one revision, or changes nothing.
    Transact {
        /// Who writes.
        peer: PeerHandle,
        /// What.
        transaction: Transaction<'a>,
    },
    /// Takes a lock. The reply is a [`Reply::Lock`] or a [`Reply::Waiting`].
    Acquire {
        /// Who wants it.
        peer: PeerHandle,
        /// The lock's name.
        name: &'a str,
        /// How long it is held unless it is renewed, in milliseconds.
        ttl_ms: u64,
        /// How long to wait for it behind those who came before, in milliseconds; 0: `LOCK_HELD` at once.
        wait_ms: u64,
    },
    /// Holds a lock for longer. `LOCK_LOST` if this peer does not hold it with this token, `FORBIDDEN` if it may not
    /// take it any more.
    Renew {
        /// Who holds it.
        peer: PeerHandle,
        /// Which lock, under which grant.
        lock: LockGuard<'a>,
        /// How long from now, in milliseconds.
        ttl_ms: u64,
    },
    /// Gives a lock up. `LOCK_LOST` if this peer does not hold it with this token.
    Release {
        /// Who holds it.
        peer: PeerHandle,
        /// Which lock, under which grant.
        lock: LockGuard<'a>,
    },
    /// Reads a key.
    Get {
        /// Who reads.
        peer: PeerHandle,
        /// The key.
        key: &'a str,
    },
    /// Reads several keys at one revision.
    Read {
        /// Who reads.
        peer: PeerHandle,
        /// Keys, absent ones included.
        keys: &'a [&'a str],
        /// And every key that is set and begins with one of these.
        prefixes: &'a [&'a str],
    },
    /// Replaces the set of keys the peer listens to.
    Listen {
        /// Who listens.
        peer: PeerHandle,
        /// Single keys; doubles count once.
        keys: &'a KeyList,
        /// And every key that begins with one of these, `""` being all keys. Keys that show locks
        /// ([`LOCK_KEY_PREFIX`]) are meant only by a prefix that begins with `$`.
        prefixes: &'a KeyList,
    },
    /// From now on these rules are in force, or none. Whoever may no longer read what it listens to hears
    /// of it no more ([`Event::ListeningChanged`]), and waits no more for a lock that it may no longer take.
    SetRules {
        /// The rules; `None`: everybody may do everything.
        rules: Option<Arc<Rules>>,
    },
    /// The peer has another role, by a fresh token.
    ChangeRole {
        /// Who.
        peer: PeerHandle,
        /// Its role from now on.
        role: &'a str,
    },
    /// A peer has the answers to its requests: they are no longer kept.
    Answered {
        /// Who.
        peer: PeerHandle,
        /// To all requests with this id or a lower one,
        through: u64,
        /// but for these.
        except: &'a [u64],
    },
    /// A peer asked for something faster than it may: refused with [`ErrorCode::RateLimited`], whatever it was. By
    /// [`Room::apply_once`], so that it is refused when it comes again too, and not done behind what came after it.
    Refuse {
        /// Who.
        peer: PeerHandle,
        /// How long it is told to wait, in milliseconds.
        retry_after_ms: u64,
    },
    /// Whoever runs the room does something to it. `NOT_FOUND` without a session, but for opening one.
    Operate {
        /// Who.
        operator: Operator<'a>,
        /// What.
        action: Action<'a>,
    },
    /// Whoever runs the room reads several keys at one revision, as [`Command::Read`] does.
    Look {
        /// Who.
        operator: Operator<'a>,
        /// Keys, absent ones included.
        keys: &'a [&'a str],
        /// And every key that is set and begins with one of these.
        prefixes: &'a [&'a str],
    },
    /// Nothing but time has passed.
    Tick,
}

/// The answer to a command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The peer is in the room.
    Joined {
        /// Its handle from now on.
        peer: PeerHandle,
        /// Whether it was in the room already.
        returned: bool,
    },
    /// The change that was made, or the current state that was asked for.
    State(Arc<Change>),
    /// The states of several keys at one revision: of those that were asked for, or of those that a
    /// transaction wrote, in the order in which it named them first.
    States {
        /// The store's revision.
        revision: u64,
        /// The states.
        states: Vec<Arc<Change>>,
    },
    /// The lock is held.
    Lock(Lease),
    /// The peer waits for a lock. [`Event::LockGranted`] or [`Event::LockRefused`] with this number
    /// follows, unless the peer leaves or its connection is lost before.
    Waiting(u64),
    /// Done, with nothing to say.
    Done,
}

/// What everybody concerned is to be told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session has begun with the join that follows.
    SessionStarted,
    /// A peer is new in the room.
    PeerJoined(PeerHandle),
    /// The name or metadata of a peer changed.
    PeerUpdated(PeerHandle),
    /// A peer is gone. Its slot may be used again from the next command on.
    PeerLeft {
        /// Which it was.
        peer: PeerHandle,
        /// Its id.
        peer_id: Arc<str>,
        /// Whether its grace period ran out, rather than that it left.
        connection_lost: bool,
    },
    /// A key has a new state; all who listen to it ([`Room::groups`], until the next command) are
    /// concerned.
    Changed {
        /// Where the key is indexed; once nobody listens to an absent key, it has no listeners.
        slot: KeySlot,
        /// Its state.
        change: Arc<Change>,
        /// Whether the event that follows is a change of the same revision, which belongs to this one.
        more: bool,
    },
    /// What a peer may read is not what it was: its listen set is another from now on, and what it knows
    /// must be told anew.
    ListeningChanged {
        /// Who.
        peer: PeerHandle,
        /// Keys it named that it may no longer read; they are no longer in the set.
        revoked: Vec<Arc<str>>,
    },
    /// An operator has taken a lock from the peer that held it. Whoever gets it is told after this.
    LockTaken {
        /// Who held it.
        peer: PeerHandle,
        /// The lock's name.
        name: Arc<str>,
        /// The token of the grant that is over.
        token: u64,
    },
    /// A peer that waited holds the lock now.
    LockGranted {
        /// The number of the wait.
        wait: u64,
        /// Who.
        peer: PeerHandle,
        /// The grant.
        lease: Lease,
    },
    /// A peer has waited for as long as it wanted to, or may not have the lock any more.
    LockRefused {
        /// The number of the wait.
        wait: u64,
        /// Who.
        peer: PeerHandle,
        /// `LOCK_HELD`, with what shows the holder, or `FORBIDDEN`.
        error: Error,
    },
    /// The session is over and its store is gone.
    SessionEnded(Box<Ended>),
}

/// A session that is over, with what its store held last.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its id.
    pub session_id: Arc<str>,
    /// When it began.
    pub started_at: Time,
    /// When it ended.
    pub ended_at: Time,
    /// The revision of its store.
    pub revision: u64,
    /// The keys that were set, in the order of their names. What goes with a peer went with the last one, and what
    /// shows a lock is none of them.
    pub entries: Vec<Arc<Change>>,
}
