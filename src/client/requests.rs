//! What a client knows of each of its requests.

use std::sync::Arc;
use std::time::Instant;

use super::api::Completion;
use super::cancellation::Cancellation;
use super::lock::{Acquire, Held};
use super::moment::Moment;
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
    /// A token that was handed in, and that the server has neither taken nor refused: what the client comes back with when
    /// the old one is refused. It stays when the time of its request is over, as the app may have no other to hand in.
    pub(crate) fresh_token: Option<String>,
    /// Who asked to leave, which has happened: they are told when the client is closed.
    pub(crate) left: Vec<Completion>,
    /// The client is closed: none may be added.
    pub(crate) closed: bool,
    /// How many sessions this client has lost: a number for the one it is in.
    pub(crate) sessions_lost: u64,
}

/// What is asked, and by whom.
pub(crate) struct Asked {
    pub(crate) kind: RequestKind,
    pub(crate) completion: Completion,
    pub(crate) cancellation: Option<Cancellation>,
    /// The number of the session that it is for; `None` for any.
    pub(crate) session: Option<u64>,
}

impl Asked {
    /// What the client asks for itself.
    pub(crate) fn own(kind: RequestKind) -> Asked {
        Asked { kind, completion: Completion::Untold, cancellation: None, session: None }
    }

    /// Nobody is to be told of it any more; returns who was.
    pub(crate) fn leave(&mut self) -> Completion {
        if let RequestKind::Acquire(acquire) = &self.kind {
            acquire.wanted.leave();
        }
        self.cancellation = None;
        std::mem::replace(&mut self.completion, Completion::Untold)
    }

    /// It has not been sent yet: the lease of a lock that it asks for cannot have begun before.
    pub(crate) fn not_sent_yet(&mut self) {
        if let RequestKind::Acquire(acquire) = &mut self.kind {
            acquire.asked_at = Moment::now();
        }
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
        let taken_back = self.pending.take_back(wanted);
        taken_back.iter().for_each(|one| self.forget_token(&one.what.kind));
        let mut told: Vec<_> = taken_back.into_iter().map(|one| one.what.completion).collect();
        // A request for a lock that was sent stays, so that the lock is given back if it is granted yet.
        for asked in self.pending.iter_mut().filter(|asked| asked.is_cancelled_by(cancellation)) {
            if matches!(asked.kind, RequestKind::Acquire(_)) {
                told.push(asked.leave());
            }
        }
        told
    }

    /// The token that this request handed in, if it is still the newest, is not to be used any more, or is already.
    pub(crate) fn forget_token(&mut self, kind: &RequestKind) {
        self.fresh_token.take_if(|fresh| matches!(kind, RequestKind::RenewToken(token) if token == fresh));
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
    /// Hands in a fresh token.
    RenewToken(String),
    /// Changes this peer's name or metadata.
    PeerUpdate { name: Option<Arc<str>>, metadata: Option<Arc<str>> },
    /// Leaves the room.
    Leave,
}

/// What the answer to a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
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
            RequestKind::Write(_)
            | RequestKind::Acquire(_)
            | RequestKind::RenewToken(_)
            | RequestKind::PeerUpdate { .. } => Kind::Change { of_session: false },
            RequestKind::Guarded(_) | RequestKind::Release => Kind::Change { of_session: true },
            // Without a connection a leave is as good as done.
            RequestKind::Read(_) | RequestKind::Leave => Kind::Repeatable,
            RequestKind::Renew(_) => Kind::OfConnection,
            RequestKind::Pause => Kind::Pause,
        }
    }
}

/// What is said of a request that was sent when its time is over.
pub(crate) const NO_ANSWER: &str = "there was no answer within the time given";

/// What a request that ends without an answer is told: that nobody knows whether it was applied, if that is so,
/// and otherwise the reason.
pub(crate) fn unanswered(request: &Pending, reason: Error) -> Error {
    // A lock that is granted too late is given back, so it counts as not taken.
    if !request.may_be_applied() || matches!(request.what.kind, RequestKind::Acquire(_)) {
        return reason;
    }
    let reason = match reason.code() {
        // What is said of a time-out otherwise is that nothing was applied.
        ErrorCode::Timeout => NO_ANSWER,
        _ => reason.message(),
    };
    let message = format!("the request was sent and may have been applied; then: {reason}");
    Error::new(ErrorCode::OutcomeUnknown, message)
}
