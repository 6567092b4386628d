//! Setting one key of a `sessionstore_store`.

use std::ffi::c_char;
use std::sync::Arc;

use super::action::{give_state, start, wait};
use super::callback::sessionstore_action_result;
use super::error::sessionstore_error;
use super::event::sessionstore_event;
use super::guard::clear;
use super::store::{guarded, sessionstore_store};
use super::text::required;
use crate::client::{Action, Store};
use crate::core::room::Change;
use crate::{Error, Value};

/// Sets a key to a JSON value, given as text; `null` removes the key.
///
/// `result` may be NULL; it is consumed, also when the call fails. On success it has the key's new
/// state, and this client's listeners were told before it.
///
/// Errors of the call: `INVALID_JSON`, `INVALID_UTF8`, `INVALID_KEY`, `NULL_ARGUMENT`, `CLOSED`,
/// `QUEUE_FULL`. Errors of the request: `VALUE_TOO_LARGE`, or `MESSAGE_TOO_LARGE` for what is larger than
/// anything the server takes; `TOO_MANY_KEYS`, `STORE_FULL`; `FORBIDDEN` by the rules, `RESERVED_KEY` for the keys
/// that show locks; `TIMEOUT`, `SESSION_LOST`, `CLOSED`: all of these change nothing. `OUTCOME_UNKNOWN`, after
/// which it may have been applied.
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
    unsafe { set(store, key, key_len, || Value::parse(required("value", json, json_len)?), result, error_out) }
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
        set_wait(
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
    unsafe { set(store, key, key_len, || required("text", text, text_len).map(Value::from), result, error_out) }
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
        set_wait(
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
    unsafe { set(store, key, key_len, || Ok(Value::from(integer)), result, error_out) }
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
    unsafe { set_wait(store, key, key_len, || Ok(Value::from(integer)), timeout_ms, event_out, error_out) }
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
    unsafe { set(store, key, key_len, || Value::try_from(number), result, error_out) }
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
    unsafe { set_wait(store, key, key_len, || Value::try_from(number), timeout_ms, event_out, error_out) }
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
    unsafe { set(store, key, key_len, || Ok(Value::from(boolean != 0)), result, error_out) }
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
    unsafe { set_wait(store, key, key_len, || Ok(Value::from(boolean != 0)), timeout_ms, event_out, error_out) }
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
    unsafe { set(store, key, key_len, || Ok(Value::null()), result, error_out) }
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
    unsafe { set_wait(store, key, key_len, || Ok(Value::null()), timeout_ms, event_out, error_out) }
}

/// Sends a set whose result goes to a callback struct.
///
/// # Safety
/// A store, a text and a struct as the functions above say.
unsafe fn set(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    value: impl FnOnce() -> Result<Value, Error>,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, a text and a struct as the caller says.
    unsafe { act(store, key, key_len, |store, key| Ok(store.set(key, value()?)), result, error_out) }
}

/// Sends a set and waits for its result.
///
/// # Safety
/// A store, a text and places for the outputs as the functions above say.
unsafe fn set_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    value: impl FnOnce() -> Result<Value, Error>,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, a text and places for the outputs as the caller says.
    unsafe {
        act_wait(store, key, key_len, |store, key| Ok(store.set(key, value()?)), timeout_ms, event_out, error_out)
    }
}

/// Does something to a key, whose result goes to a callback struct.
///
/// # Safety
/// As for `set`.
pub(super) unsafe fn act(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    ask: impl FnOnce(&Store, &str) -> Result<Action<Arc<Change>>, Error>,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, a text and a struct as the caller says.
    unsafe { start(guarded(store), result, error_out, |store| ask(store, required("key", key, key_len)?)) }
}

/// Does something to a key and waits for the result.
///
/// # Safety
/// As for `set_wait`.
pub(super) unsafe fn act_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    ask: impl FnOnce(&Store, &str) -> Result<Action<Arc<Change>>, Error>,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(event_out);
    // SAFETY: NULL or a live store, as the caller says.
    let store = unsafe { guarded(store) };
    // SAFETY: a text as the caller says.
    let ask = |store: &Store| ask(store, unsafe { required("key", key, key_len) }?);
    wait(store, timeout_ms, error_out, ask, |change| give_state(change, event_out))
}
