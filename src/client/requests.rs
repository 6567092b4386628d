//! What a client knows of each of its requests.

use std::sync::Arc;
use std::time::Instant;

use super::api::Completion;
use super::cancellation::Cancellation;
use super::lock::{Acquire, Held};
use crate::core::requests::{self, Kind};
use crate::core::room::Change;
use crate::core::wire::{Snapshot, Usage};
use crate::{Error, ErrorCode};

/// A request that has no answer yet.
pub(crate) type Pending = requests::Pending<Asked, Instant>;

/// The requests of one client.
#[derive(Default)]
pub(crate) struct Requests {
    pub(crate) pending: requests::Requests<Asked, Instant>,
    /// The client is closed: none may be added.
    pub(crate) closed: bool,
}

/// What is asked, and by whom.
pub(crate) struct Asked {
    pub(crate) kind: RequestKind,
    pub(crate) completion: Completion,
    pub(crate) cancellation: Option<Cancellation>,
}

impl Asked {
    /// What the client asks for itself.
    pub(crate) fn own(kind: RequestKind) -> Asked {
        Asked { kind, completion: Completion::Untold, cancellation: None }
    }

    /// Nobody is to be told of it any more; returns who was.
    pub(crate) fn leave(&mut self) -> Completion {
        if let RequestKind::Acquire(acquire) = &self.kind {
            acquire.wanted.leave();
        }
        self.cancellation = None;
        std::mem::replace(&mut self.completion, Completion::Untold)
    }

    fn is_cancelled_by(&self, cancellation: &Cancellation) -> bool {
        self.cancellation.as_ref().is_some_and(|own| own.is(cancellation))
    }
}

impl Requests {
    /// Takes back what can be, and returns who is to be told of that.
    pub(crate) fn take_back(&mut self, cancellation: &Cancellation) -> Vec<Completion> {
        // From when it is asked for, the client is about to end, and the lock is not held any more.
        let is_final = |asked: &Asked| matches!(asked.kind, RequestKind::Leave | RequestKind::Release);
        let wanted = |asked: &Asked| asked.is_cancelled_by(cancellation) && !is_final(asked);
        let mut told: Vec<_> = self.pending.take_back(wanted).into_iter().map(|one| one.what.completion).collect();
        // A request for a lock that was sent stays, so that the lock is given back if it is granted yet.
        for asked in self.pending.iter_mut().filter(|asked| asked.is_cancelled_by(cancellation)) {
            if matches!(asked.kind, RequestKind::Acquire(_)) {
                told.push(asked.leave());
            }
        }
        told
    }
}

/// What a request does, as far as its answer and a broken connection are concerned.
pub(crate) enum RequestKind {
    /// Changes the room.
    Write(Expected),
    /// Changes the room on a condition that only this session can meet: a version, or a lock.
    Guarded(Expected),
    /// Asks for something.
    Read(Expected),
    /// Takes a lock, which is renewed from then on; what is told when it is lost.
    Acquire(Acquire),
    /// Gives a lock back.
    Release,
    /// Renews a lock.
    Renew(Arc<Held>),
    /// Asks nothing: something goes on when its time is over.
    Pause,
    /// Changes this peer's name or metadata.
    PeerUpdate { name: Option<Arc<str>>, metadata: Option<Arc<str>> },
    /// Leaves the room.
    Leave,
}

/// What the answer to a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    State,
    States,
    Keys,
    Usage,
}

/// What a request was answered.
pub(crate) enum Answer {
    Nothing,
    State(Arc<Change>),
    States(Snapshot),
    Keys(Vec<String>),
    Usage(Usage),
    Lock(Arc<Held>),
}

impl RequestKind {
    /// What a broken connection means for it.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            RequestKind::Write(_) | RequestKind::Acquire(_) | RequestKind::PeerUpdate { .. } => {
                Kind::Change { of_session: false }
            }
            RequestKind::Guarded(_) | RequestKind::Release => Kind::Change { of_session: true },
            // Without a connection a leave is as good as done.
            RequestKind::Read(_) | RequestKind::Leave => Kind::Repeatable,
            RequestKind::Renew(_) => Kind::OfConnection,
            RequestKind::Pause => Kind::Pause,
        }
    }
}

/// What a request that ends without an answer is told: that nobody knows whether it was applied, if that is so,
/// and otherwise the reason.
pub(crate) fn unanswered(request: &Pending, reason: Error) -> Error {
    // A lock that is granted too late is given back, so it counts as not taken.
    if !request.may_be_applied() || matches!(request.what.kind, RequestKind::Acquire(_)) {
        return reason;
    }
    let message = format!("the request was sent and may have been applied; then: {}", reason.message());
    Error::new(ErrorCode::OutcomeUnknown, message)
}
