//! `sessionstore_store`

use std::ffi::c_char;
use std::sync::Arc;

use super::action::{give_event, give_state, start, wait};
use super::callback::{sessionstore_action_result, sessionstore_key_change_listener, Taken};
use super::error::sessionstore_error;
use super::event::sessionstore_event;
use super::guard::{call_on, clear, needed, release, Guarded};
use super::subscription::{give_subscription, sessionstore_subscription};
use super::text::{required, SESSIONSTORE_NUL_TERMINATED};
use crate::client::Store;
use crate::{Error, ErrorCode};

/// The store of the room a client is in. It is counted by reference and may outlive its client, after
/// which calls that ask the server answer `CLOSED`. `sessionstore_store_cached` asks nobody.
pub struct sessionstore_store {
    store: Guarded<Store>,
}

impl sessionstore_store {
    pub(super) fn new(store: Store) -> sessionstore_store {
        sessionstore_store { store: Guarded::new(store) }
    }
}

/// Another reference to the same store, to be freed too. NULL for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_retain(store: *const sessionstore_store) -> *mut sessionstore_store {
    if !store.is_null() {
        // SAFETY: a live store, which always comes from an Arc.
        unsafe { Arc::increment_strong_count(store) };
    }
    store.cast_mut()
}

/// Frees one reference to a store. It stops nothing. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_free(store: *mut sessionstore_store) {
    if !store.is_null() {
        // SAFETY: a reference the caller owns, from an Arc.
        release(|| unsafe { Arc::decrement_strong_count(store.cast_const()) });
    }
}

/// Asks the server for a key's current state; an absent key has the value `null`. Otherwise as
/// `sessionstore_store_set`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_get(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, a text and a struct as the caller owes.
    unsafe { start(guarded(store), result, error_out, |store| Ok(store.get(required("key", key, key_len)?))) }
}

/// The same, waiting for the result, which is what `event_out` is for: it must not be NULL. Free the
/// event with `sessionstore_event_free`.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_get_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(event_out);
    // SAFETY: NULL or a live store, as the caller owes.
    let store = unsafe { guarded(store) };
    let ask = |store: &Store| {
        needed("event_out", event_out)?;
        // SAFETY: a text as the caller owes.
        Ok(store.get(unsafe { required("key", key, key_len) }?))
    };
    wait(store, timeout_ms, error_out, ask, |change| give_state(change, event_out))
}

/// Gives what this client knows of a key it listens to, without asking the server: no round trip, and
/// no waiting for callbacks. `*event_out` is NULL when no listener has the key, or its first value is
/// still under way.
///
/// Errors: `INVALID_UTF8`, `NULL_ARGUMENT`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_cached(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(event_out);
    // SAFETY: NULL or a live store, as the caller owes.
    call_on(unsafe { guarded(store) }, error_out, |store| {
        needed("event_out", event_out)?;
        // SAFETY: a text as the caller owes.
        let key = unsafe { required("key", key, key_len) }?;
        store.cached(key).map_or(Ok(()), |change| give_event(change, event_out))
    })
}

/// Listens to `count` keys: the listener first gets the current value of each (`null` when absent),
/// then `on_snapshot_end`, then every change.
///
/// `key_lens` has the keys' lengths in bytes, or is NULL when all end with NUL. `listener` is consumed,
/// also when the call fails. `subscription_out` may be NULL: the listener then stays for as long as the
/// client does. Any number of listeners may have the same keys.
///
/// Errors: `INVALID_KEY`, `INVALID_ARGUMENT` when there are no keys, `INVALID_UTF8`, `NULL_ARGUMENT`,
/// `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`. If the server refuses
/// (`TOO_MANY_LISTENED_KEYS`, `FORBIDDEN`), or the names are too long for one message to it (`MESSAGE_TOO_LARGE`),
/// the listener's `on_refused` hears of it.
///
/// ```c
/// const char *keys[] = {"spotlight", "pinned"};
/// sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
/// listener.on_key_changed = on_key_changed;
/// sessionstore_subscription *subscription = NULL;
/// sessionstore_store_listen(store, keys, NULL, 2, &listener, &subscription, NULL);
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_listen(
    store: *const sessionstore_store,
    keys: *const *const c_char,
    key_lens: *const usize,
    count: usize,
    listener: *const sessionstore_key_change_listener,
    subscription_out: *mut *mut sessionstore_subscription,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(subscription_out);
    // SAFETY: consumed whatever follows; a struct as the caller owes.
    let listener = unsafe { Taken::take(listener) };
    // SAFETY: NULL or a live store, as the caller owes.
    call_on(unsafe { guarded(store) }, error_out, |store| {
        // SAFETY: arrays as the caller owes.
        let keys = unsafe { text_array("key", keys, key_lens, count) }?;
        let subscription = store.listen(&keys, listener?)?;
        give_subscription(subscription, subscription_out)
    })
}

/// # Safety
/// `texts` and, unless NULL, `lengths` have `count` elements, which are texts.
pub(super) unsafe fn text_array<'a>(
    what: &str,
    texts: *const *const c_char,
    lengths: *const usize,
    count: usize,
) -> Result<Vec<&'a str>, Error> {
    if texts.is_null() && count > 0 {
        let message = format!("the array of each {what} is NULL but its count is not 0");
        return Err(Error::new(ErrorCode::NullArgument, message));
    }
    let mut list = Vec::new();
    for index in 0..count {
        // SAFETY: within the arrays.
        let (text, length) = unsafe {
            let length = if lengths.is_null() { SESSIONSTORE_NUL_TERMINATED } else { *lengths.add(index) };
            (*texts.add(index), length)
        };
        // SAFETY: a text as the caller says.
        list.push(unsafe { required(what, text, length) }?);
    }
    Ok(list)
}

/// # Safety
/// NULL or a live store.
pub(super) unsafe fn guarded<'a>(store: *const sessionstore_store) -> Option<&'a Guarded<Store>> {
    // SAFETY: as the caller says.
    unsafe { store.as_ref() }.map(|store| &store.store)
}
