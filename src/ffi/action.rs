//! How requests are made: with a callback struct for the result, or by waiting for it.

use std::sync::Arc;
use std::time::Duration;

use super::callback::{plain, Callbacks, Taken};
use super::cancellation::{cancellation, sessionstore_cancellation};
use super::error::sessionstore_error;
use super::event::{sessionstore_event, EventHandle};
use super::guard::{call_on, needed, Guarded};
use crate::client::{Action, Cancellation, Update};
use crate::core::room::Change;
use crate::Error;

/// Something that is asked of the room once it is told how its result is wanted.
pub(super) trait Request: Sized {
    type Answer: 'static;
    fn cancelled_by(self, cancellation: &Cancellation) -> Self;
    fn told(self, told: impl FnOnce(Result<Self::Answer, Error>) + Send + 'static) -> Result<(), Error>;
    fn waited(self, timeout: Duration) -> Result<Self::Answer, Error>;
}

impl<T: 'static> Request for Action<T> {
    type Answer = T;
    fn cancelled_by(self, cancellation: &Cancellation) -> Action<T> {
        Action::cancelled_by(self, cancellation)
    }
    fn told(self, told: impl FnOnce(Result<T, Error>) + Send + 'static) -> Result<(), Error> {
        self.on_result(told)
    }
    fn waited(self, timeout: Duration) -> Result<T, Error> {
        self.wait(timeout)
    }
}

impl Request for Update {
    type Answer = Arc<Change>;
    fn cancelled_by(self, cancellation: &Cancellation) -> Update {
        Update::cancelled_by(self, cancellation)
    }
    fn told(self, told: impl FnOnce(Result<Arc<Change>, Error>) + Send + 'static) -> Result<(), Error> {
        self.on_result(told)
    }
    fn waited(self, timeout: Duration) -> Result<Arc<Change>, Error> {
        self.wait(timeout)
    }
}

/// A callback struct for a request, with what takes it back.
pub(super) trait Cancellable: Callbacks {
    /// NULL, or live during the call that takes the struct.
    fn cancellation(&self) -> *const sessionstore_cancellation;
}

/// A callback struct that is told an answer of this kind.
pub(super) trait Hears<T>: Cancellable {
    /// Tells it, if it wants to hear.
    fn hear(&self, outcome: Result<T, Error>);
}

/// Asks for something whose result goes to a callback struct, which is consumed whatever follows; NULL for
/// nobody.
///
/// # Safety
/// `result` is NULL or points to such a struct.
pub(super) unsafe fn start<O, R: Request, C: Hears<R::Answer> + 'static>(
    object: Option<&Guarded<O>>,
    result: *const C,
    error_out: *mut *mut sessionstore_error,
    ask: impl FnOnce(&O) -> Result<R, Error>,
) -> i32 {
    // SAFETY: as the caller says.
    let result = unsafe { Taken::take_optional(result) };
    // SAFETY: as the caller says.
    call_on(object, error_out, |object| unsafe { begin(ask(object)?, result?) })
}

/// The same with a result that was taken over already.
///
/// # Safety
/// Its cancellation is NULL or live.
pub(super) unsafe fn begin<R: Request, C: Hears<R::Answer> + 'static>(
    request: R,
    result: Option<Taken<C>>,
) -> Result<(), Error> {
    match result {
        Some(result) => {
            // SAFETY: as the caller says.
            let request = match unsafe { cancellation(result.known().cancellation()) }? {
                Some(cancellation) => request.cancelled_by(&cancellation),
                None => request,
            };
            request.told(move |outcome| {
                // The whole struct is moved in, so that its `Drop` comes after the call.
                let taken = result;
                taken.known().hear(outcome);
            })
        }
        None => request.told(|_| ()),
    }
}

/// Asks for something, waits, and gives what it is answered.
pub(super) fn wait<O, R: Request>(
    object: Option<&Guarded<O>>,
    timeout_ms: u32,
    error_out: *mut *mut sessionstore_error,
    ask: impl FnOnce(&O) -> Result<R, Error>,
    give: impl FnOnce(R::Answer) -> Result<(), Error>,
) -> i32 {
    call_on(object, error_out, |object| give(ask(object)?.waited(Duration::from_millis(timeout_ms.into()))?))
}

/// Gives a key's state, where it is wanted.
pub(super) fn give_state(change: Arc<Change>, event_out: *mut *mut sessionstore_event) -> Result<(), Error> {
    if event_out.is_null() {
        return Ok(());
    }
    give_event(change, event_out)
}

#[inline]
pub(super) fn give_event(change: Arc<Change>, event_out: *mut *mut sessionstore_event) -> Result<(), Error> {
    needed("the place for the event", event_out)?;
    // SAFETY: not NULL, and the caller gave it as the place of one pointer.
    unsafe { event_out.write(EventHandle::new(plain(change)).into_raw()) };
    Ok(())
}
