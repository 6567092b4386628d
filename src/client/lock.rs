//! Locks that this client holds: renewed in time, and reported as soon as they are lost.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::api::{Action, Shared};
use super::dispatch::{lock, Dispatcher, Item};
use super::moment::Moment;
use super::requests::{Asked, RequestKind};
use crate::core::limits::DEFAULT_LOCK_TTL_MS;
use crate::core::wire;
use crate::core::write::LockGuard;
use crate::{Error, ErrorCode};

/// A lock is renewed when a third of its time has passed, so that two renewals may fail.
const RENEWALS_PER_LEASE: u32 = 3;

/// How often within its time a renewal that failed is tried again, at most.
const RETRIES_PER_LEASE: u32 = 30;

/// How a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOptions {
    /// How long the lock outlives its last renewal, in milliseconds, 1,000 to 300,000. Default 15,000.
    /// While the client is connected it renews the lock by itself.
    pub ttl_ms: u64,
    /// How long to wait for it behind those who came before, in milliseconds, at most 300,000. Default 0:
    /// `LOCK_HELD` at once.
    pub wait_ms: u64,
}

impl Default for LockOptions {
    fn default() -> LockOptions {
        LockOptions { ttl_ms: DEFAULT_LOCK_TTL_MS, wait_ms: 0 }
    }
}

/// Told when a lock is lost.
pub(crate) type OnLost = Box<dyn FnOnce(Error) + Send>;

/// A request for a lock.
pub(crate) struct Acquire {
    pub(crate) ttl: Duration,
    /// Before it was sent first: the lease lasts at least so long from then on, unless it was waited for.
    pub(crate) asked_at: Moment,
    pub(crate) waits: bool,
    pub(crate) wanted: Arc<Wanted>,
}

/// What becomes of a request for a lock. The function that is told of a loss is the app's: it is dropped
/// where the result is told, and never by the network task.
pub(crate) struct Wanted(Mutex<Want>);

enum Want {
    Wanted(OnLost),
    /// Nobody wants it any more, and is told so soon.
    Left(OnLost),
    Granted(Arc<Held>),
    /// Nobody waits for it any more, or it was handed over.
    Over,
}

impl Wanted {
    pub(crate) fn new(lost: OnLost) -> Arc<Wanted> {
        Arc::new(Wanted(Mutex::new(Want::Wanted(lost))))
    }

    /// It is not wanted any more, unless it is granted already.
    pub(crate) fn leave(&self) {
        let mut want = lock(&self.0);
        *want = match std::mem::replace(&mut *want, Want::Over) {
            Want::Wanted(lost) => Want::Left(lost),
            other => other,
        };
    }

    fn become_over(&self) -> Want {
        std::mem::replace(&mut *lock(&self.0), Want::Over)
    }
}

/// The side of whoever is told the result. If it goes without having been given the lock, nobody wants
/// it any more.
pub(crate) struct Wanting {
    shared: Arc<Shared>,
    wanted: Arc<Wanted>,
}

impl Wanting {
    pub(crate) fn new(shared: &Arc<Shared>, acquire: &Acquire) -> Wanting {
        Wanting { shared: shared.clone(), wanted: acquire.wanted.clone() }
    }

    /// The lock is handed over.
    pub(crate) fn lock(self, shared: Arc<Shared>, held: Arc<Held>) -> Lock {
        drop(self.wanted.become_over());
        Lock { shared, held }
    }
}

impl Drop for Wanting {
    fn drop(&mut self) {
        match self.wanted.become_over() {
            Want::Wanted(lost) | Want::Left(lost) => drop(lost),
            // It came just when it was given up.
            Want::Granted(held) => {
                if let Some(lost) = self.shared.locks.take(&held) {
                    drop(lost);
                    self.shared.release_unwanted(&held.guard());
                }
            }
            Want::Over => {}
        }
    }
}

/// One grant.
pub(crate) struct Held {
    name: Arc<str>,
    token: u64,
    ttl: Duration,
    lease: Mutex<Lease>,
}

struct Lease {
    /// By when the server surely still holds it for us.
    ends_at: Moment,
    /// Until a renewal is answered: by when it is over if it was granted as soon as it was asked for, of one that was
    /// waited for.
    ends_first_at: Option<Moment>,
    renew_at: Instant,
    /// When the renewal without an answer was asked for.
    renewing: Option<Moment>,
    /// Present while the lock is held.
    lost: Option<OnLost>,
}

/// All locks of a client.
#[derive(Default)]
pub(crate) struct Locks(Mutex<Vec<Arc<Held>>>);

impl Locks {
    /// The server has granted a lock; `None` if nobody waits for it any more.
    pub(crate) fn granted(&self, acquire: Acquire, name: Arc<str>, token: u64) -> Option<Arc<Held>> {
        let Acquire { ttl, asked_at, waits, wanted } = acquire;
        let mut want = lock(&wanted.0);
        let lost = match std::mem::replace(&mut *want, Want::Over) {
            Want::Wanted(lost) => lost,
            other => {
                *want = other;
                return None;
            }
        };
        let now = Moment::now();
        // When the grant was made is not known if it was waited for; the renewal that follows at once tells.
        let ends_first_at = asked_at.after(ttl);
        let (ends_at, ends_first_at, renew_at) = match waits {
            true => (now.after(ttl), Some(ends_first_at), now.at),
            false => (ends_first_at, None, asked_at.at + ttl / RENEWALS_PER_LEASE),
        };
        let lease = Lease { ends_at, ends_first_at, renew_at, renewing: None, lost: Some(lost) };
        let held = Arc::new(Held { name, token, ttl, lease: Mutex::new(lease) });
        *want = Want::Granted(held.clone());
        // While `want` is locked: who gives it up finds it here.
        lock(&self.0).push(held.clone());
        Some(held)
    }

    /// Renews a lock no longer. Returns who would be told of its loss, if it was held.
    fn take(&self, held: &Arc<Held>) -> Option<OnLost> {
        self.forget(held);
        lock(&held.lease).lost.take()
    }

    /// The same, letting go of who would be told, on a dispatch thread. Returns whether it was held.
    fn let_go(&self, held: &Arc<Held>, dispatcher: &Dispatcher) -> bool {
        // Under the lock, so that it comes before the last item; if the client was closed, it was lost.
        let mut locks = lock(&self.0);
        locks.retain(|other| !Arc::ptr_eq(other, held));
        let lost = lock(&held.lease).lost.take();
        let was_held = lost.is_some();
        if let Some(lost) = lost {
            dispatcher.push(Item::Call(Box::new(move || drop(lost))));
        }
        was_held
    }

    /// When something is to be done about a lock; without a connection none can be renewed.
    pub(crate) fn next_deadline(&self, connected: bool) -> Option<Instant> {
        let locks = lock(&self.0);
        let next = |held: &Arc<Held>| {
            let lease = lock(&held.lease);
            if connected && lease.renewing.is_none() {
                lease.ends_at.at.min(lease.renew_at)
            } else {
                lease.ends_at.at
            }
        };
        let next = locks.iter().map(next).min()?;
        Some(Moment::now().look_again_at().map_or(next, |at| at.min(next)))
    }

    /// Reports the locks whose time is over, and returns those that are to be renewed.
    pub(crate) fn expire(&self, connected: bool, dispatcher: &Dispatcher) -> Vec<Arc<Held>> {
        let mut due = Vec::new();
        let mut locks = lock(&self.0);
        if locks.is_empty() {
            return due;
        }
        let now = Moment::now();
        // Its loss is told under the lock, so that it comes before the last item if the client is closed meanwhile.
        locks.retain(|held| {
            let mut lease = lock(&held.lease);
            if lease.ends_at.is_over(now) {
                drop(lease);
                let message = format!("the lock \"{}\" ran out while it could not be renewed", held.name);
                held.lose(Error::new(ErrorCode::LockLost, message), dispatcher);
                return false;
            }
            if connected && lease.renewing.is_none() && lease.renew_at <= now.at {
                lease.renewing = Some(now);
                due.push(held.clone());
            }
            true
        });
        due
    }

    /// A renewal was answered, or will not be.
    pub(crate) fn renewed(&self, held: &Arc<Held>, outcome: Result<(), Error>, dispatcher: &Dispatcher) {
        let mut lease = lock(&held.lease);
        let asked_at = lease.renewing.take().unwrap_or_else(Moment::now);
        match outcome {
            Ok(()) => {
                lease.ends_at = asked_at.after(held.ttl);
                lease.ends_first_at = None;
                lease.renew_at = asked_at.at + held.ttl / RENEWALS_PER_LEASE;
            }
            // Whether it was renewed is not known: it is asked again, in a moment.
            Err(error) if error.is_retryable() => {
                lease.renew_at = Instant::now() + held.ttl / RETRIES_PER_LEASE;
                // The grant may have waited here to be read for as long as the process stood still.
                if let Some(ends_first_at) = lease.ends_first_at.take_if(|_| error != ErrorCode::RateLimited) {
                    lease.ends_at = ends_first_at;
                }
            }
            Err(error) => {
                drop(lease);
                // As above.
                let mut locks = lock(&self.0);
                locks.retain(|other| !Arc::ptr_eq(other, held));
                held.lose(error, dispatcher);
            }
        }
    }

    /// An operator has taken a lock away.
    pub(crate) fn taken(&self, name: &str, token: u64, dispatcher: &Dispatcher) {
        let mut locks = lock(&self.0);
        let Some(place) = locks.iter().position(|held| *held.name == *name && held.token == token) else { return };
        let message = format!("an operator took the lock \"{name}\" away");
        locks.remove(place).lose(Error::new(ErrorCode::LockLost, message), dispatcher);
    }

    /// All are lost, with the session or with the client.
    pub(crate) fn lose_all(&self, dispatcher: &Dispatcher, error: &Error) {
        let mut locks = lock(&self.0);
        for held in locks.drain(..) {
            held.lose(error.clone(), dispatcher);
        }
    }

    fn forget(&self, held: &Arc<Held>) {
        lock(&self.0).retain(|other| !Arc::ptr_eq(other, held));
    }
}

impl Held {
    pub(crate) fn ttl_ms(&self) -> u64 {
        self.ttl.as_millis() as u64
    }

    /// How long a renewal waits for its answer before it is asked again.
    pub(crate) fn renewal_timeout(&self) -> Duration {
        self.ttl / RENEWALS_PER_LEASE
    }

    pub(crate) fn guard(&self) -> LockGuard<'static> {
        LockGuard { name: self.name.to_string().into(), token: self.token }
    }

    /// Whether it is held: it was neither released nor lost, and its time is not over, which may be noticed here first
    /// if the process stood still or the machine slept.
    fn is_held(&self, now: Moment) -> bool {
        let lease = lock(&self.lease);
        lease.lost.is_some() && !lease.ends_at.is_over(now)
    }

    fn lose(&self, error: Error, dispatcher: &Dispatcher) {
        if let Some(lost) = lock(&self.lease).lost.take() {
            dispatcher.push(Item::Call(Box::new(move || lost(error))));
        }
    }
}

/// A lock that this client holds, or held. Dropping it releases the lock.
///
/// While the client is connected it renews the lock by itself. It is lost when the server could not be
/// reached for as long as it lasts, when an operator takes it away, when the session or the client ends,
/// and then the function given to [`Store::lock`](super::Store::lock) is called, once. What must not be written by one who has lost the
/// lock without knowing yet is written with its [`guard`](Lock::guard).
pub struct Lock {
    shared: Arc<Shared>,
    held: Arc<Held>,
}

impl Lock {
    /// The lock's name.
    pub fn name(&self) -> &str {
        &self.held.name
    }

    /// The fencing token of this grant: larger than that of every grant before it in the session.
    pub fn token(&self) -> u64 {
        self.held.token
    }

    /// What makes a write depend on this grant: [`Store::write`](super::Store::write) takes it, and
    /// [`Check::Lock`](crate::core::write::Check::Lock) of a transaction.
    pub fn guard(&self) -> LockGuard<'static> {
        self.held.guard()
    }

    /// Whether the lock is held as far as this client knows: it was neither released nor lost, and its time is not
    /// over, where time goes on while the machine sleeps (Linux, Android, macOS, iOS). A loss is told in a moment.
    pub fn is_held(&self) -> bool {
        self.held.is_held(Moment::now())
    }

    /// Gives the lock up: the next who waits gets it. From when this is sent it is not held any more. The
    /// function that would be told of its loss is dropped, on a dispatch thread and before the result is
    /// told. `LOCK_LOST` if it was lost before.
    pub fn release(&self) -> Action<()> {
        let (shared, held) = (self.shared.clone(), self.held.clone());
        let write = move |out: &mut Vec<u8>, id| {
            shared.locks.let_go(&held, &shared.dispatcher);
            wire::write_release(out, id, &held.guard());
        };
        Action::new(&self.shared, RequestKind::Release, Ok(()), write, |_| Ok(()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.shared.locks.let_go(&self.held, &self.shared.dispatcher) {
            self.shared.dispatcher.announce();
            self.shared.release_unwanted(&self.held.guard());
        }
    }
}

impl Shared {
    /// Gives back a lock that nobody waits to hear of.
    pub(super) fn release_unwanted(&self, guard: &LockGuard<'_>) {
        let timeout = Duration::from_millis(self.options.request_timeout_ms);
        let write = |out: &mut Vec<u8>, id| wire::write_release(out, id, guard);
        // If that fails the client is closed, and the lock goes with it.
        let _ = self.begin(Asked::own(RequestKind::Release), timeout, write);
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("name", &self.held.name).field("token", &self.held.token).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_while_the_machine_sleeps() {
        let ttl = Duration::from_secs(15);
        let asked_at = Moment::now();
        let acquire = Acquire { ttl, asked_at, waits: false, wanted: Wanted::new(Box::new(|_| ())) };
        let held = Locks::default().granted(acquire, "turn".into(), 1).unwrap();
        assert!(held.is_held(asked_at) && held.is_held(asked_at.having_slept(ttl / 2)));
        assert!(!held.is_held(asked_at.after(ttl)), "it was not noticed yet, as when the process stood still");
        if cfg!(any(target_os = "linux", target_vendor = "apple")) {
            assert!(!held.is_held(asked_at.having_slept(ttl)));
        }
    }

    #[test]
    fn a_grant_that_was_waited_for_and_cannot_be_renewed_may_be_an_old_one() {
        let ttl = Duration::from_millis(50);
        let asked_at = Moment::now();
        while !asked_at.after(ttl).is_over(Moment::now()) {
            std::thread::yield_now();
        }
        let dispatcher = Dispatcher::start(Box::new(()), Some(Arc::new(|| {})), None).unwrap();
        let read_at = Moment::now();
        let held = |waits| {
            let wanted = Wanted::new(Box::new(|_| ()));
            Locks::default().granted(Acquire { ttl, asked_at, waits, wanted }, "turn".into(), 1).unwrap()
        };
        for (outcome, is_held) in
            [(Ok(()), true), (Err(ErrorCode::RateLimited.into()), true), (Err(ErrorCode::ConnectionLost.into()), false)]
        {
            let held = held(true);
            assert!(held.is_held(read_at));
            Locks::default().renewed(&held, outcome, &dispatcher);
            assert_eq!(held.is_held(read_at), is_held);
        }
        assert!(!held(false).is_held(read_at), "it was surely granted before");
    }
}
