//! Read, compute, compare and set, until it lands.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api::{Action, Completion};
use super::cancellation::Cancellation;
use super::dispatch::{in_callback, may_wait};
use super::requests::{Asked, RequestKind};
use super::store::Store;
use crate::core::room::Change;
use crate::core::value::Value;
use crate::{Error, ErrorCode};

/// The longest pause between two attempts, in milliseconds: some round trips, after which whoever was
/// faster has mostly finished.
const LONGEST_PAUSE_MS: u64 = 128;

/// Computes a key's new value from its state; `None` leaves it.
pub(super) type Compute = Box<dyn FnMut(&Arc<Change>) -> Option<Value> + Send>;

/// An update that is begun once it is told how its result is wanted: by callback
/// ([`on_result`](Update::on_result)), by waiting ([`wait`](Update::wait)), or by `.await`.
///
/// What was computed for one session is not set in another: then it is read anew. The result is the key's state after
/// it. When others are faster until the time runs out, it is
/// `VERSION_CONFLICT`, and nothing was changed. `OUTCOME_UNKNOWN` means, as with a set, that the last
/// attempt may have been applied.
#[must_use = "an update is begun by on_result, wait or await"]
pub struct Update {
    store: Store,
    key: String,
    compute: Compute,
    timeout: Duration,
    cancellation: Option<Cancellation>,
}

impl Update {
    pub(super) fn new(store: Store, key: &str, compute: Compute) -> Update {
        let timeout = Duration::from_millis(store.shared.options.request_timeout_ms);
        Update { store, key: key.to_owned(), compute, timeout, cancellation: None }
    }

    /// Lets this cancellation end the update with `CANCELLED`: no further attempt is made. The result of one that was
    /// sent comes as ever. The update is refused with `CANCELLED` if that was used already.
    pub fn cancelled_by(mut self, cancellation: &Cancellation) -> Update {
        self.cancellation = Some(cancellation.clone());
        self
    }

    /// The time after which no further attempt is made; the client's `request_timeout_ms` otherwise.
    pub fn within(mut self, timeout: Duration) -> Update {
        self.timeout = timeout;
        self
    }

    /// Begins the update and calls `told` with the result, on a dispatch thread.
    ///
    /// When this fails, nothing was sent and `told` is dropped uncalled.
    pub fn on_result(self, told: impl FnOnce(Result<Arc<Change>, Error>) + Send + 'static) -> Result<(), Error> {
        let Update { store, key, compute, timeout, cancellation } = self;
        let ends_at = Instant::now().checked_add(timeout);
        let told = Box::new(told);
        let (attempts, begun) =
            Attempts { store, key, compute, ends_at, cancellation, session: 0, made: 0, told }.read();
        if begun.is_err() {
            drop(attempts.take());
        }
        begun
    }

    /// Begins the update and waits for the result; the function runs on this thread. It is a callback
    /// here too: waiting inside it is refused with `WOULD_DEADLOCK`.
    ///
    /// Errors: those of a set; `WOULD_DEADLOCK` inside a callback, where nothing is sent.
    pub fn wait(self, timeout: Duration) -> Result<Arc<Change>, Error> {
        may_wait()?;
        let Update { store, key, mut compute, cancellation, .. } = self;
        let ends_at = Instant::now().checked_add(timeout);
        let left = || ends_at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        let read = || {
            // Whatever session answers, what is computed of it is set in this one only.
            let session = store.shared.session();
            Ok::<_, Error>((session, with(store.get(&key), cancellation.as_ref()).wait(left())?))
        };
        let (mut session, mut state) = read()?;
        for made in 1.. {
            let Some(value) = in_callback(|| compute(&state)) else { break };
            let attempt = with(store.set_if(&key, value, state.current_version()), cancellation.as_ref());
            match attempt.of_session(session).wait(left()) {
                Err(error) if error == ErrorCode::SessionLost && !left().is_zero() => (session, state) = read()?,
                Err(error) if error == ErrorCode::VersionConflict => {
                    let pause = pause_after(made);
                    match error.current() {
                        Some(current) if left() > pause => state = current.clone(),
                        _ => return Err(error),
                    }
                    std::thread::sleep(pause);
                }
                landed_or_failed => return landed_or_failed,
            }
        }
        Ok(state)
    }
}

impl IntoFuture for Update {
    type Output = Result<Arc<Change>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Arc<Change>, Error>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let begun = self.on_result(move |result| drop(sender.send(result)));
        Box::pin(async move {
            begun?;
            receiver.await.unwrap_or_else(|_| Err(ErrorCode::Closed.into()))
        })
    }
}

/// An update under way.
struct Attempts {
    store: Store,
    key: String,
    compute: Compute,
    ends_at: Option<Instant>,
    cancellation: Option<Cancellation>,
    /// The number of the session that is computed for.
    session: u64,
    made: u32,
    told: Box<dyn FnOnce(Result<Arc<Change>, Error>) + Send>,
}

impl Attempts {
    /// Reads the key and goes on with its state. Returns those who could not ask for it, too.
    fn read(mut self) -> (Handed, Result<(), Error>) {
        // Whatever session answers, what is computed of it is set in this one only.
        self.session = self.store.shared.session();
        let action = with(self.store.get(&self.key), self.cancellation.as_ref());
        let attempts = Handed::new(self);
        let again = attempts.clone();
        let sent = action.on_result(move |read| match (again.take(), read) {
            (Some(attempts), Ok(state)) => attempts.attempt(state),
            (Some(attempts), Err(error)) => (attempts.told)(Err(error)),
            (None, _) => {}
        });
        (attempts, sent)
    }

    /// Computes and sets. Runs on a dispatch thread.
    fn attempt(mut self, state: Arc<Change>) {
        if let Err(cancelled) = self.cancellation.as_ref().map_or(Ok(()), Cancellation::check) {
            return (self.told)(Err(cancelled));
        }
        let Some(value) = (self.compute)(&state) else { return (self.told)(Ok(state)) };
        self.made += 1;
        let set = self.store.set_if(&self.key, value, state.current_version());
        let action = with(set, self.cancellation.as_ref()).of_session(self.session);
        // One who is not told is told here.
        let attempts = Handed::new(self);
        let again = attempts.clone();
        let sent = action.on_result(move |result| {
            if let Some(attempts) = again.take() {
                attempts.answered(result);
            }
        });
        if let Err(error) = sent {
            if let Some(attempts) = attempts.take() {
                attempts.answered(Err(error));
            }
        }
    }

    fn answered(self, result: Result<Arc<Change>, Error>) {
        let ends_at = self.ends_at;
        let is_over_after = |pause| ends_at.is_some_and(|at| Instant::now() + pause >= at);
        let conflict = match result {
            Err(error) if error == ErrorCode::VersionConflict => error,
            Err(error) if error == ErrorCode::SessionLost && !is_over_after(Duration::ZERO) => {
                let (attempts, asked) = self.read();
                return attempts.fail(asked);
            }
            landed_or_failed => return (self.told)(landed_or_failed),
        };
        let pause = pause_after(self.made);
        let is_over = is_over_after(pause);
        let Some(current) = conflict.current().cloned().filter(|_| !is_over) else {
            return (self.told)(Err(conflict));
        };
        let (shared, cancellation) = (self.store.shared.clone(), self.cancellation.clone());
        let attempts = Handed::new(self);
        let again = attempts.clone();
        let go_on = move |paused: Result<_, Error>| match (again.take(), paused) {
            (Some(attempts), Err(error)) if error != ErrorCode::Timeout => (attempts.told)(Err(error)),
            (Some(attempts), _) => attempts.attempt(current),
            (None, _) => {}
        };
        let completion = Completion::Dispatched(Box::new(go_on));
        let paused =
            shared.begin(Asked { kind: RequestKind::Pause, completion, cancellation, session: None }, pause, |_, _| {});
        attempts.fail(paused.map(drop));
    }
}

/// Attempts that either an answer takes on, or who could not ask for it.
#[derive(Clone)]
struct Handed(Arc<std::sync::Mutex<Option<Attempts>>>);

impl Handed {
    fn new(attempts: Attempts) -> Handed {
        Handed(Arc::new(std::sync::Mutex::new(Some(attempts))))
    }

    fn take(&self) -> Option<Attempts> {
        super::dispatch::lock(&self.0).take()
    }

    /// Ends the attempts if asking failed.
    fn fail(&self, sent: Result<(), Error>) {
        if let Err(error) = sent {
            if let Some(attempts) = self.take() {
                (attempts.told)(Err(error));
            }
        }
    }
}

impl Change {
    /// What a conditional write must expect of this state: 0 when the key is absent.
    fn current_version(&self) -> u64 {
        if self.value.is_null() {
            0
        } else {
            self.version
        }
    }
}

fn with(action: Action<Arc<Change>>, cancellation: Option<&Cancellation>) -> Action<Arc<Change>> {
    match cancellation {
        Some(cancellation) => action.cancelled_by(cancellation),
        None => action,
    }
}

/// A random pause, on average longer with each attempt, so that those who conflict with each other come
/// apart; none after the first, because the conflict has told what is needed.
fn pause_after(attempts: u32) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let longest = LONGEST_PAUSE_MS.min(1 << attempts.min(20));
    let mut random = [0u8; 8];
    // Without random bytes the pause is the whole.
    let random = getrandom::fill(&mut random).map_or(longest, |()| u64::from_le_bytes(random) % (longest + 1));
    Duration::from_millis(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_random_and_longer_with_each_attempt_up_to_the_longest() {
        assert_eq!(pause_after(1), Duration::ZERO, "the first conflict has told what is needed");
        let longest = |attempts: u32| (0..400).map(|_| pause_after(attempts)).max().unwrap_or_default();
        for attempts in 2..=7 {
            let most = Duration::from_millis(1 << attempts);
            let (now, before) = (longest(attempts), longest(attempts - 1));
            assert!(now <= most && now > before, "{now:?} after attempt {attempts}, {before:?} before");
        }
        for attempts in [8, 31, 32, u32::MAX] {
            assert!(longest(attempts) <= Duration::from_millis(LONGEST_PAUSE_MS));
        }
        let several: std::collections::BTreeSet<_> = (0..400).map(|_| pause_after(7)).collect();
        assert!(several.len() > 20, "those who conflict come apart");
    }
}
