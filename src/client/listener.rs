//! The traits an app implements, and what they are told.

use std::sync::Arc;

use super::store::Store;
use crate::core::replica::KeyEvent;
use crate::core::wire::PeerInfo;
use crate::Error;

/// Where a client stands with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// The first join is under way.
    Connecting,
    /// Joined.
    Connected,
    /// The connection broke and is being made anew; requests wait.
    Reconnecting,
    /// Over, for good.
    Closed,
}

/// What happened to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// It is in the room: it joined, or was there before this client.
    Joined,
    /// Its name or metadata changed.
    Updated,
    /// It left, or its grace period ended.
    Left,
}

/// Hears what concerns the client as a whole. Every method does nothing unless implemented; `()`
/// hears nothing. Dropped after the last call.
pub trait UpdateListener: Send {
    /// The room was joined and its store can be used. Called once; the store may be kept.
    fn on_store_available(&mut self, store: &Store) {
        let _ = store;
    }

    /// The connection's state changed; the error says why, where there is a reason.
    fn on_connection_state(&mut self, state: ConnectionState, error: Option<&Error>) {
        let _ = (state, error);
    }

    /// Another peer joined, changed or left. While thousands of changes wait because a listener takes
    /// long, at most two are kept of each peer: who came and went meanwhile is not told.
    fn on_peer(&mut self, change: PeerChange, peer: &Arc<PeerInfo>) {
        let _ = (change, peer);
    }

    /// The token expires at this server time, in milliseconds since 1970, and the client is closed with
    /// `TOKEN_EXPIRED` soon after, unless [`Client::renew_token`](super::Client::renew_token) hands in a
    /// fresh one. Told 30 s before, or at once when less is left.
    fn on_token_expiring(&mut self, expires_at: u64) {
        let _ = expires_at;
    }

    /// Something went wrong that no request is waiting for, such as `SESSION_LOST`.
    fn on_error(&mut self, error: &Error) {
        let _ = error;
    }
}

impl UpdateListener for () {}

/// What a key change listener is told.
#[derive(Debug)]
pub enum KeyChange<'a> {
    /// A key has this state: a current value first, later a change.
    Event(&'a KeyEvent),
    /// All current values were given.
    SnapshotEnd,
    /// The server refused to listen to these keys; this is the last call.
    Refused(&'a Error),
}

/// Hears of changes of its keys. Any `FnMut(KeyChange)` is one. Dropped after the last call.
pub trait KeyChangeListener: Send {
    /// Something happened; called in order, never twice at once.
    fn on_change(&mut self, change: KeyChange<'_>);
}

impl<F: FnMut(KeyChange<'_>) + Send> KeyChangeListener for F {
    fn on_change(&mut self, change: KeyChange<'_>) {
        self(change)
    }
}
