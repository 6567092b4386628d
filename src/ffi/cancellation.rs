//! `sessionstore_cancellation`

use super::error::sessionstore_error;
use super::guard::{call, call_on, clear, getter, give_box, Guarded};
use crate::client::Cancellation;
use crate::Error;

/// Takes back the requests that it was given to, in the `cancellation` of their result structs: any number of
/// them, of any clients. It may be used from any thread.
///
/// ```c
/// sessionstore_cancellation *screen = NULL;
/// sessionstore_action_result result = SESSIONSTORE_ACTION_RESULT_INIT;
/// sessionstore_cancellation_new(&screen, NULL);
/// result.on_result = on_pinned;
/// result.cancellation = screen;
/// sessionstore_store_set_string(store, "pinned", SESSIONSTORE_NUL_TERMINATED,
///                               "hello", SESSIONSTORE_NUL_TERMINATED, &result, NULL);
/// ...
/// sessionstore_cancellation_cancel(screen, NULL); // The screen is left: what was not sent will not be.
/// sessionstore_cancellation_free(screen);
/// ```
pub struct sessionstore_cancellation {
    cancellation: Guarded<Cancellation>,
}

/// Makes a cancellation. Free it with `sessionstore_cancellation_free`. Error: `NULL_ARGUMENT`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_cancellation_new(
    cancellation_out: *mut *mut sessionstore_cancellation,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(cancellation_out);
    call(error_out, || {
        let cancellation = Guarded::new(Cancellation::default());
        give_box(sessionstore_cancellation { cancellation }, cancellation_out)
    })
}

/// Takes back what can be taken back, for good, and returns at once. Each such request ends with `CANCELLED`, which
/// its callback is told as any result: it has changed nothing and will not. That is
///   - a request that was not sent yet, as all are while there is no connection;
///   - one that only asks, such as `sessionstore_store_get`;
///   - `sessionstore_store_update` between two attempts;
///   - a wait for a lock, sent or not: should the lock be granted yet, it is given back.
///
/// A change that was sent goes on, as `sessionstore_client_leave` and `sessionstore_lock_release` do, and its result
/// comes as ever.
///
/// Calls that are given it from now on return `CANCELLED`. Cancelling again does nothing. Legal in callbacks.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_cancellation_cancel(
    cancellation: *const sessionstore_cancellation,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live cancellation, as the caller owes.
    call_on(unsafe { guarded(cancellation) }, error_out, |cancellation| {
        cancellation.cancel();
        Ok(())
    })
}

/// Whether it was cancelled: 1 or 0; 0 for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_cancellation_is_cancelled(cancellation: *const sessionstore_cancellation) -> i32 {
    // SAFETY: NULL or a live cancellation, as the caller owes.
    getter(0, || unsafe { guarded(cancellation) }.map_or(0, |cancellation| cancellation.get().is_cancelled().into()))
}

/// Frees a cancellation. That cancels nothing: requests that it was given to go on. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_cancellation_free(cancellation: *mut sessionstore_cancellation) {
    if !cancellation.is_null() {
        // SAFETY: given out by Box::into_raw and not freed before, as the caller owes. It is plain memory: a forked
        // child may free its own.
        drop(unsafe { Box::from_raw(cancellation) });
    }
}

/// The cancellation behind a handle; `None` for NULL.
///
/// # Safety
/// NULL or a live cancellation.
pub(super) unsafe fn cancellation(handle: *const sessionstore_cancellation) -> Result<Option<Cancellation>, Error> {
    // SAFETY: as the caller says.
    unsafe { guarded(handle) }.map(|cancellation| cancellation.usable().cloned()).transpose()
}

/// # Safety
/// NULL or a live cancellation.
unsafe fn guarded<'a>(cancellation: *const sessionstore_cancellation) -> Option<&'a Guarded<Cancellation>> {
    // SAFETY: as the caller says.
    unsafe { cancellation.as_ref() }.map(|cancellation| &cancellation.cancellation)
}
