//! `sessionstore_subscription`

use std::time::Duration;

use super::error::sessionstore_error;
use super::guard::{call_on, give_box, release, Guarded};
use crate::client::Subscription;
use crate::Error;

/// A listener that was registered with `sessionstore_store_listen` or `sessionstore_store_listen_to`.
pub struct sessionstore_subscription {
    subscription: Guarded<Subscription>,
}

impl sessionstore_subscription {
    pub(super) fn new(subscription: Subscription) -> sessionstore_subscription {
        sessionstore_subscription { subscription: Guarded::new(subscription) }
    }
}

/// Gives the handle of a listener; where it is not wanted, the listener stays for as long as the client does.
pub(super) fn give_subscription(
    subscription: Subscription,
    subscription_out: *mut *mut sessionstore_subscription,
) -> Result<(), Error> {
    if subscription_out.is_null() {
        subscription.detach();
        return Ok(());
    }
    give_box(sessionstore_subscription::new(subscription), subscription_out)
}

/// Asks the listener to stop, and returns at once. A callback that is running goes on; none begins
/// after it; then `on_drop` is called on a dispatch thread. Cancelling again does nothing.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_subscription_cancel(
    subscription: *const sessionstore_subscription,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live subscription, as the caller owes.
    call_on(unsafe { guarded(subscription) }, error_out, |subscription| {
        subscription.cancel();
        Ok(())
    })
}

/// Stops the listener and returns after its `on_drop`: nothing uses its `ctx` any more. In poll mode
/// `on_drop` is called inside this call, unless a poll that is running does it.
///
/// Errors: `WOULD_DEADLOCK` inside a callback, and `TIMEOUT` when a callback runs for longer; the
/// listener is stopping nevertheless, as after `sessionstore_subscription_cancel`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_subscription_cancel_wait(
    subscription: *const sessionstore_subscription,
    timeout_ms: u32,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live subscription, as the caller owes.
    call_on(unsafe { guarded(subscription) }, error_out, |subscription| {
        subscription.cancel_wait_for(Duration::from_millis(timeout_ms.into()))
    })
}

/// Frees the handle; if the listener was not cancelled, this asks it to stop, as
/// `sessionstore_subscription_cancel` does. It never blocks and is legal anywhere, inside this very
/// listener's callbacks too. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_subscription_free(subscription: *mut sessionstore_subscription) {
    if !subscription.is_null() {
        // SAFETY: given out by Box::into_raw and not freed before, as the caller owes.
        release(|| drop(unsafe { Box::from_raw(subscription) }));
    }
}

/// # Safety
/// NULL or a live subscription.
unsafe fn guarded<'a>(subscription: *const sessionstore_subscription) -> Option<&'a Guarded<Subscription>> {
    // SAFETY: as the caller says.
    unsafe { subscription.as_ref() }.map(|subscription| &subscription.subscription)
}
