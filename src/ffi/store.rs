//! `sessionstore_store`

use std::ffi::c_char;
use std::sync::Arc;
use std::time::Duration;

use super::callback::{plain, sessionstore_action_result, sessionstore_key_change_listener, Taken};
use super::error::sessionstore_error;
use super::event::{sessionstore_event, EventHandle};
use super::guard::{call_on, clear, give_box, needed, release, Guarded};
use super::subscription::sessionstore_subscription;
use super::text::{required, SESSIONSTORE_NUL_TERMINATED};
use crate::client::{Action, Store};
use crate::core::room::Change;
use crate::{Error, ErrorCode, Value};

/// The store of the room a client is in. It is counted by reference and may outlive its client, after
/// which its calls answer `CLOSED`.
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

/// Sets a key to a JSON value, given as text; `null` removes the key.
///
/// `result` may be NULL; it is consumed, also when the call fails. On success it has the key's new
/// state, and this client's listeners were told before it.
///
/// Errors of the call: `INVALID_JSON`, `INVALID_UTF8`, `INVALID_KEY`, `NULL_ARGUMENT`, `CLOSED`,
/// `QUEUE_FULL`. Errors of the request: `VALUE_TOO_LARGE`, `TOO_MANY_KEYS`, `STORE_FULL`, which
/// change nothing; `TIMEOUT`, `CONNECTION_LOST`, `CLOSED`, after which it may have been applied.
///
/// ```c
/// sessionstore_store_set(store, "pinned", SESSIONSTORE_NUL_TERMINATED,
///                        "{\"text\":\"Welcome!\"}", SESSIONSTORE_NUL_TERMINATED, NULL, NULL);
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    json: *const c_char,
    json_len: usize,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and a struct as the caller owes.
    unsafe { write(store, key, key_len, || Value::parse(required("value", json, json_len)?), result, error_out) }
}

/// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    json: *const c_char,
    json_len: usize,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and places for the outputs as the caller owes.
    unsafe {
        write_wait(
            store,
            key,
            key_len,
            || Value::parse(required("value", json, json_len)?),
            timeout_ms,
            event_out,
            error_out,
        )
    }
}

/// Sets a key to a string, given as plain text. Otherwise as `sessionstore_store_set`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set_string(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    text: *const c_char,
    text_len: usize,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and a struct as the caller owes.
    unsafe { write(store, key, key_len, || required("text", text, text_len).map(Value::from), result, error_out) }
}

/// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set_string_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    text: *const c_char,
    text_len: usize,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and places for the outputs as the caller owes.
    unsafe {
        write_wait(
            store,
            key,
            key_len,
            || required("text", text, text_len).map(Value::from),
            timeout_ms,
            event_out,
            error_out,
        )
    }
}

/// Sets a key to an integer, kept exactly. Otherwise as `sessionstore_store_set`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set_integer(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    integer: i64,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and a struct as the caller owes.
    unsafe { write(store, key, key_len, || Ok(Value::from(integer)), result, error_out) }
}

/// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set_integer_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    integer: i64,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and places for the outputs as the caller owes.
    unsafe { write_wait(store, key, key_len, || Ok(Value::from(integer)), timeout_ms, event_out, error_out) }
}

/// Sets a key to a number; `INVALID_ARGUMENT` for NaN and the infinities. Otherwise as
/// `sessionstore_store_set`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set_number(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    number: f64,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and a struct as the caller owes.
    unsafe { write(store, key, key_len, || Value::try_from(number), result, error_out) }
}

/// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set_number_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    number: f64,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and places for the outputs as the caller owes.
    unsafe { write_wait(store, key, key_len, || Value::try_from(number), timeout_ms, event_out, error_out) }
}

/// Sets a key to `false` (0) or `true` (anything else). Otherwise as `sessionstore_store_set`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set_boolean(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    boolean: i32,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and a struct as the caller owes.
    unsafe { write(store, key, key_len, || Ok(Value::from(boolean != 0)), result, error_out) }
}

/// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set_boolean_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    boolean: i32,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and places for the outputs as the caller owes.
    unsafe { write_wait(store, key, key_len, || Ok(Value::from(boolean != 0)), timeout_ms, event_out, error_out) }
}

/// Removes a key; that it was absent already is fine. Otherwise as `sessionstore_store_set`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_remove(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and a struct as the caller owes.
    unsafe { write(store, key, key_len, || Ok(Value::null()), result, error_out) }
}

/// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_remove_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, texts and places for the outputs as the caller owes.
    unsafe { write_wait(store, key, key_len, || Ok(Value::null()), timeout_ms, event_out, error_out) }
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
    // SAFETY: consumed whatever follows; a struct as the caller owes.
    let result = unsafe { Taken::take_optional(result) };
    // SAFETY: NULL or a live store, as the caller owes.
    call_on(unsafe { guarded(store) }, error_out, |store| {
        // SAFETY: a text as the caller owes.
        let key = unsafe { required("key", key, key_len) }?;
        start(store.get(key), result?, Some)
    })
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
    call_on(unsafe { guarded(store) }, error_out, |store| {
        needed("event_out", event_out)?;
        // SAFETY: a text as the caller owes.
        let key = unsafe { required("key", key, key_len) }?;
        finish(store.get(key), timeout_ms, event_out)
    })
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
/// (`TOO_MANY_LISTENED_KEYS`), the listener's `on_refused` hears of it.
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
        let keys = unsafe { key_array(keys, key_lens, count) }?;
        let subscription = store.listen(&keys, listener?)?;
        if subscription_out.is_null() {
            subscription.detach();
            return Ok(());
        }
        give_box(sessionstore_subscription::new(subscription), subscription_out)
    })
}

/// Sends a write whose result goes to a callback struct.
///
/// # Safety
/// A store, a text and a struct as the functions above say.
unsafe fn write(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    value: impl FnOnce() -> Result<Value, Error>,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: consumed whatever follows; a struct as the caller says.
    let result = unsafe { Taken::take_optional(result) };
    // SAFETY: NULL or a live store, as the caller says.
    call_on(unsafe { guarded(store) }, error_out, |store| {
        // SAFETY: a text as the caller says.
        let key = unsafe { required("key", key, key_len) }?;
        start(store.set(key, value()?), result?, Some)
    })
}

/// Sends a write and waits for its result.
///
/// # Safety
/// A store, a text and places for the outputs as the functions above say.
unsafe fn write_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    value: impl FnOnce() -> Result<Value, Error>,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(event_out);
    // SAFETY: NULL or a live store, as the caller says.
    call_on(unsafe { guarded(store) }, error_out, |store| {
        // SAFETY: a text as the caller says.
        let key = unsafe { required("key", key, key_len) }?;
        finish(store.set(key, value()?), timeout_ms, event_out)
    })
}

/// # Safety
/// `keys` and, unless NULL, `key_lens` have `count` elements, which are texts.
unsafe fn key_array<'a>(
    keys: *const *const c_char,
    key_lens: *const usize,
    count: usize,
) -> Result<Vec<&'a str>, Error> {
    if keys.is_null() && count > 0 {
        return Err(Error::new(ErrorCode::NullArgument, "keys is NULL but count is not 0"));
    }
    let mut texts = Vec::new();
    for index in 0..count {
        // SAFETY: within the arrays.
        let (key, length) = unsafe {
            let length = if key_lens.is_null() { SESSIONSTORE_NUL_TERMINATED } else { *key_lens.add(index) };
            (*keys.add(index), length)
        };
        // SAFETY: a text as the caller says.
        texts.push(unsafe { required("key", key, length) }?);
    }
    Ok(texts)
}

/// # Safety
/// NULL or a live store.
unsafe fn guarded<'a>(store: *const sessionstore_store) -> Option<&'a Guarded<Store>> {
    // SAFETY: as the caller says.
    unsafe { store.as_ref() }.map(|store| &store.store)
}

/// Sends an action whose result goes to a callback struct, if there is one.
pub(super) fn start<T: 'static>(
    action: Action<T>,
    result: Option<Taken<sessionstore_action_result>>,
    state: fn(T) -> Option<Arc<Change>>,
) -> Result<(), Error> {
    match result {
        Some(result) => action.on_result(result.told(state)),
        None => action.on_result(|_| ()),
    }
}

fn finish(action: Action<Arc<Change>>, timeout_ms: u32, event_out: *mut *mut sessionstore_event) -> Result<(), Error> {
    let change = action.wait(Duration::from_millis(timeout_ms.into()))?;
    if event_out.is_null() {
        return Ok(());
    }
    give_event(change, event_out)
}

#[inline]
fn give_event(change: Arc<Change>, event_out: *mut *mut sessionstore_event) -> Result<(), Error> {
    needed("the place for the event", event_out)?;
    // SAFETY: not NULL, and the caller gave it as the place of one pointer.
    unsafe { event_out.write(EventHandle::new(plain(change)).into_raw()) };
    Ok(())
}
