//! Taking requests back.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::api::Shared;
use super::dispatch::lock;
use crate::{Error, ErrorCode};

/// Takes back the requests that it was given to, of any clients: with
/// [`Action::cancelled_by`](super::Action::cancelled_by) and
/// [`Update::cancelled_by`](super::Update::cancelled_by). Cloning shares it.
///
/// ```no_run
/// # use sessionstore::{Cancellation, Store, Value};
/// # fn on_screen(store: &Store) -> Result<(), sessionstore::Error> {
/// let screen = Cancellation::default();
/// store.set("pinned", Value::from("hello")).cancelled_by(&screen).on_result(|result| match result {
///     Ok(change) => println!("pinned at version {}", change.version),
///     Err(error) => println!("{error}"),
/// })?;
/// // The screen is left while there is no connection: nothing will be pinned when there is one again.
/// screen.cancel();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Cancellation(Arc<Inner>);

#[derive(Default)]
struct Inner {
    is_cancelled: AtomicBool,
    /// The clients that it was given to. It does not keep them.
    clients: Mutex<Vec<Weak<Shared>>>,
}

impl Cancellation {
    /// Takes back what can be taken back, for good: each such request ends with `CANCELLED`, which means that it has
    /// changed nothing and will not. That is a request which was not sent yet, as all are while there is no connection;
    /// one that only asks; an update between two attempts; one that waits for a lock, which is given back should it be
    /// granted yet. A change that was sent goes on, as leaving and releasing a lock do, and its result comes as ever.
    ///
    /// Requests that are begun with it from now on are refused with `CANCELLED`. Cancelling again does nothing.
    pub fn cancel(&self) {
        // Who begins a request looks at this while it holds the lock that `take_back` takes.
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        let clients = std::mem::take(&mut *lock(&self.0.clients));
        for client in clients.iter().filter_map(Weak::upgrade) {
            client.take_back(self);
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }

    /// Takes note of a client, before it is given the first request.
    pub(super) fn concerns(&self, client: &Arc<Shared>) {
        let mut clients = lock(&self.0.clients);
        if !clients.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(client))) {
            clients.retain(|known| known.strong_count() > 0);
            clients.push(Arc::downgrade(client));
        }
    }

    /// Refuses a request once this was cancelled.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.is_cancelled() {
            true => Err(ErrorCode::Cancelled.into()),
            false => Ok(()),
        }
    }

    pub(super) fn is(&self, other: &Cancellation) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}
