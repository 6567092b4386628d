//! Updates: read, compute, set if nobody was faster.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::action::{begin, give_state, wait};
use super::callback::{callback_struct, plain, sessionstore_action_result, Taken};
use super::error::sessionstore_error;
use super::event::{sessionstore_event, EventHandle};
use super::guard::{call_on, clear};
use super::store::{guarded, sessionstore_store};
use super::text::required;
use super::value::{sessionstore_value, take};
use crate::client::{Store, Update};
use crate::core::room::Change;
use crate::{Error, ErrorCode, Value};

/// Computes the new value of a key from its state.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_updater {
    /// Set by `SESSIONSTORE_UPDATER_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Yours; passed to every call.
    pub ctx: *mut c_void,
    /// The last call: nothing uses `ctx` after it.
    pub on_drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// The key has this state; returns the value it is to have, which becomes the library's, or NULL to
    /// leave the key as it is. (A value of the kind null removes it.) The event is borrowed. Called again
    /// whenever somebody else was faster, so it should do nothing but compute. Must not be NULL.
    pub on_update:
        Option<unsafe extern "C" fn(ctx: *mut c_void, current: *const sessionstore_event) -> *mut sessionstore_value>,
}

callback_struct!(sessionstore_updater, "updater", on_update);

/// Reads a key, has its new value computed, and sets it if nobody changed it meanwhile; otherwise again, with
/// what it holds by then. For what no operation of `sessionstore_store_write` does.
///
/// The updater is called on a dispatch thread. It is consumed, also when the call fails, and so is `result`,
/// which may be NULL; on success it has the key's state after the update. No further attempt is made after
/// the client's `request_timeout_ms`.
///
/// Errors of the call: `INVALID_KEY`, `INVALID_UTF8`, `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`,
/// `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`. Errors of the request: `VERSION_CONFLICT` when others were
/// faster until the time ran out, and nothing was changed; those of `sessionstore_store_set`.
///
/// ```c
/// static sessionstore_value *doubled(void *ctx, const sessionstore_event *current) {
///     int64_t stakes = 1;
///     sessionstore_value *next = NULL;
///     (void)ctx;
///     sessionstore_value_get_integer(sessionstore_event_value(current), &stakes, NULL);
///     sessionstore_value_from_integer(stakes * 2, &next, NULL);
///     return next;
/// }
///
/// sessionstore_updater updater = SESSIONSTORE_UPDATER_INIT;
/// updater.on_update = doubled;
/// sessionstore_store_update(store, "stakes", SESSIONSTORE_NUL_TERMINATED, &updater, NULL, NULL);
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_update(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    updater: *const sessionstore_updater,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: consumed whatever follows; structs as the caller owes.
    let (updater, result) = unsafe { (Taken::take(updater), Taken::take_optional(result)) };
    // SAFETY: NULL or a live store, as the caller owes.
    call_on(unsafe { guarded(store) }, error_out, |store| {
        // SAFETY: a text as the caller owes.
        unsafe { begin(update(store, key, key_len, updater)?, result?) }
    })
}

/// The same, waiting for the result: the updater is called on this thread, before this returns. It is a
/// callback all the same: a `_wait` inside it returns `WOULD_DEADLOCK`. `timeout_ms` bounds all attempts
/// together. `event_out`, which may be NULL, is given the key's state after the update.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent; `OUTCOME_UNKNOWN` when the
/// last attempt has no answer by then, which may have been made.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_update_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    updater: *const sessionstore_updater,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(event_out);
    // SAFETY: consumed whatever follows; a struct as the caller owes.
    let updater = unsafe { Taken::take(updater) };
    // SAFETY: NULL or a live store, as the caller owes.
    let store = unsafe { guarded(store) };
    // SAFETY: a text as the caller owes.
    let ask = |store: &Store| unsafe { update(store, key, key_len, updater) };
    wait(store, timeout_ms, error_out, ask, |change| give_state(change, event_out))
}

/// # Safety
/// A text as for `required`.
unsafe fn update(
    store: &Store,
    key: *const c_char,
    key_len: usize,
    updater: Result<Taken<sessionstore_updater>, Error>,
) -> Result<Update, Error> {
    // SAFETY: as the caller says.
    let key = unsafe { required("key", key, key_len) }?;
    let updater = updater?;
    let Some(on_update) = updater.known().on_update else {
        return Err(Error::new(ErrorCode::NullArgument, "the updater's on_update is NULL"));
    };
    let compute = move |state: &Arc<Change>| -> Option<Value> {
        let event = EventHandle::new(plain(state.clone()));
        // SAFETY: the app's function, called as its struct says; what it returns is a reference it owned.
        unsafe { take(on_update(updater.known().ctx, event.as_ptr())) }
    };
    Ok(store.update_shared(key, compute))
}
