//! Several keys of a `sessionstore_store` at once: listening to them, reading them, counting them.

use std::ffi::{c_char, c_void};
use std::mem::size_of;
use std::sync::Arc;

use super::action::{start, wait, Hears};
use super::callback::{result_struct, sessionstore_key_change_listener, with_error, Taken};
use super::cancellation::sessionstore_cancellation;
use super::error::sessionstore_error;
use super::event_list::{give_list, sessionstore_event_list, sessionstore_event_list_result};
use super::guard::{call_on, clear, getter, give_arc, needed};
use super::store::{guarded, sessionstore_store, text_array};
use super::structs::{check_flags, read, write, Sized32};
use super::subscription::{give_subscription, sessionstore_subscription};
use super::text::{empty, required, OutText};
use crate::client::{Selector, Store};
use crate::{Error, Usage};

/// Flag of a selector: every key of the store.
pub const SESSIONSTORE_SELECT_ALL: u32 = 1;

/// Which keys are listened to, or read: single keys, every key that begins with one of some texts, or all.
/// Begin with `SESSIONSTORE_SELECTOR_INIT`. Everything is copied.
///
/// Keys that show locks (`$lock/…`) are meant only by a prefix that begins with `$`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_selector {
    /// Set by `SESSIONSTORE_SELECTOR_INIT`.
    pub struct_size: u32,
    /// 0 or `SESSIONSTORE_SELECT_ALL`.
    pub flags: u32,
    /// Single keys, absent ones included.
    pub keys: *const *const c_char,
    /// Their lengths in bytes, or NULL when all end with NUL.
    pub key_lens: *const usize,
    /// How many they are.
    pub key_count: usize,
    /// And every key that is set and begins with one of these.
    pub prefixes: *const *const c_char,
    /// Their lengths in bytes, or NULL when all end with NUL.
    pub prefix_lens: *const usize,
    /// How many they are.
    pub prefix_count: usize,
}

// SAFETY: repr(C), beginning with struct_size; integers and pointers.
unsafe impl Sized32 for sessionstore_selector {
    const FIRST_SIZE: usize = std::mem::offset_of!(sessionstore_selector, prefix_count) + size_of::<usize>();
    const NAME: &'static str = "selector";
}

/// How much of its limits a store uses. Begin with `SESSIONSTORE_USAGE_INIT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_usage {
    /// Set by `SESSIONSTORE_USAGE_INIT`; the library sets it to how much of the struct it has filled.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// The store's revision: how many times it has changed.
    pub revision: u64,
    /// Keys that are set.
    pub keys: u64,
    /// The most there may be.
    pub max_keys: u64,
    /// Bytes of keys and values together.
    pub bytes: u64,
    /// The most there may be.
    pub max_bytes: u64,
    /// The most bytes of one value.
    pub max_value_bytes: u64,
}

// SAFETY: repr(C), beginning with struct_size; integers.
unsafe impl Sized32 for sessionstore_usage {
    const FIRST_SIZE: usize = std::mem::offset_of!(sessionstore_usage, max_value_bytes) + size_of::<u64>();
    const NAME: &'static str = "usage";
}

impl From<Usage> for sessionstore_usage {
    fn from(usage: Usage) -> sessionstore_usage {
        sessionstore_usage {
            struct_size: size_of::<sessionstore_usage>() as u32,
            flags: 0,
            revision: usage.revision,
            keys: usage.keys as u64,
            max_keys: usage.max_keys as u64,
            bytes: usage.bytes as u64,
            max_bytes: usage.max_bytes as u64,
            max_value_bytes: usage.max_value_bytes as u64,
        }
    }
}

/// Hears how much of its limits a store uses.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_usage_result {
    /// Set by `SESSIONSTORE_USAGE_RESULT_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Yours; passed to every call.
    pub ctx: *mut c_void,
    /// The last call: nothing uses `ctx` after it.
    pub on_drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// The request ended; called exactly once if the call that took this succeeded, otherwise never.
    /// `error` is NULL on success, `usage` otherwise. Both are borrowed; `usage` can be copied.
    pub on_result: Option<
        unsafe extern "C" fn(ctx: *mut c_void, error: *const sessionstore_error, usage: *const sessionstore_usage),
    >,
    /// What may take the request back, or NULL. It is borrowed for the call, and may be freed after it.
    pub cancellation: *const sessionstore_cancellation,
}

result_struct!(sessionstore_usage_result, "usage result");

impl Hears<Usage> for sessionstore_usage_result {
    fn hear(&self, outcome: Result<Usage, Error>) {
        let Some(told) = self.on_result else { return };
        let (usage, error) = match outcome {
            Ok(usage) => (Some(sessionstore_usage::from(usage)), None),
            Err(error) => (None, Some(error)),
        };
        let usage = usage.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the app's function, called as its struct says.
        with_error(error.as_ref(), |error| unsafe { told(self.ctx, error, usage) });
    }
}

/// Names of keys, in alphabetical order. It never changes, is counted by reference, and may be used from any
/// thread.
pub struct sessionstore_key_list {
    keys: Vec<(String, OutText)>,
}

impl sessionstore_key_list {
    fn new(keys: Vec<String>) -> sessionstore_key_list {
        sessionstore_key_list { keys: keys.into_iter().map(|key| (key, OutText::default())).collect() }
    }
}

/// Hears which keys are set.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_key_list_result {
    /// Set by `SESSIONSTORE_KEY_LIST_RESULT_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Yours; passed to every call.
    pub ctx: *mut c_void,
    /// The last call: nothing uses `ctx` after it.
    pub on_drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// The request ended; called exactly once if the call that took this succeeded, otherwise never.
    /// `error` is NULL on success, `list` otherwise. Both are borrowed.
    pub on_result: Option<
        unsafe extern "C" fn(ctx: *mut c_void, error: *const sessionstore_error, list: *const sessionstore_key_list),
    >,
    /// What may take the request back, or NULL. It is borrowed for the call, and may be freed after it.
    pub cancellation: *const sessionstore_cancellation,
}

result_struct!(sessionstore_key_list_result, "key list result");

impl Hears<Vec<String>> for sessionstore_key_list_result {
    fn hear(&self, outcome: Result<Vec<String>, Error>) {
        let Some(told) = self.on_result else { return };
        let (list, error) = match outcome {
            Ok(keys) => (Some(Arc::new(sessionstore_key_list::new(keys))), None),
            Err(error) => (None, Some(error)),
        };
        let list = list.as_ref().map_or(std::ptr::null(), Arc::as_ptr);
        // SAFETY: the app's function, called as its struct says.
        with_error(error.as_ref(), |error| unsafe { told(self.ctx, error, list) });
    }
}

/// Listens to all keys that a selector means: first come the current values of its single keys (`null` when
/// absent) and of every key that is set and begins with one of its prefixes, then `on_snapshot_end`, then
/// every change, of keys that come later too. Otherwise as `sessionstore_store_listen`.
///
/// ```c
/// const char *prefixes[] = {"hand/"};
/// sessionstore_selector hands = SESSIONSTORE_SELECTOR_INIT;
/// hands.prefixes = prefixes;
/// hands.prefix_count = 1;
/// sessionstore_store_listen_to(store, &hands, &listener, &subscription, NULL);
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_listen_to(
    store: *const sessionstore_store,
    selector: *const sessionstore_selector,
    listener: *const sessionstore_key_change_listener,
    subscription_out: *mut *mut sessionstore_subscription,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(subscription_out);
    // SAFETY: consumed whatever follows; a struct as the caller owes.
    let listener = unsafe { Taken::take(listener) };
    // SAFETY: NULL or a live store, as the caller owes.
    call_on(unsafe { guarded(store) }, error_out, |store| {
        // SAFETY: a struct as the caller owes.
        let selector = unsafe { convert(selector) }?;
        give_subscription(store.listen_to(&selector, listener?)?, subscription_out)
    })
}

/// Asks the server for the states of several keys at one revision: the single keys of the selector in their
/// order, absent ones with the value `null`, then those its prefixes mean in alphabetical order.
///
/// `result` may be NULL; it is consumed, also when the call fails.
///
/// Errors of the call: `INVALID_KEY`, `INVALID_ARGUMENT` when the selector means nothing, `INVALID_UTF8`,
/// `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`. Errors of the request:
/// `FORBIDDEN`, `MESSAGE_TOO_LARGE` when the names do not fit one message, `TIMEOUT`, `CLOSED`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_read(
    store: *const sessionstore_store,
    selector: *const sessionstore_selector,
    result: *const sessionstore_event_list_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store and structs as the caller owes.
    unsafe { start(guarded(store), result, error_out, |store| Ok(store.read(&convert(selector)?))) }
}

/// The same, waiting for the result, which is what `list_out` is for: it must not be NULL. Free the list with
/// `sessionstore_event_list_free`.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_read_wait(
    store: *const sessionstore_store,
    selector: *const sessionstore_selector,
    timeout_ms: u32,
    list_out: *mut *mut sessionstore_event_list,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(list_out);
    // SAFETY: NULL or a live store, as the caller owes.
    let store = unsafe { guarded(store) };
    let ask = |store: &Store| {
        needed("list_out", list_out)?;
        // SAFETY: a struct as the caller owes.
        Ok(store.read(&unsafe { convert(selector) }?))
    };
    wait(store, timeout_ms, error_out, ask, |snapshot| give_list(snapshot, list_out))
}

/// Asks the server for the names of the keys that are set and begin with a text, which may be empty, in
/// alphabetical order. `result` may be NULL; it is consumed, also when the call fails.
///
/// Errors of the call: `INVALID_KEY` for a prefix that no key can have, `INVALID_UTF8`, `NULL_ARGUMENT`,
/// `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`. Errors of the request: `TIMEOUT`,
/// `CLOSED`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_keys(
    store: *const sessionstore_store,
    prefix: *const c_char,
    prefix_len: usize,
    result: *const sessionstore_key_list_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, a text and a struct as the caller owes.
    unsafe { start(guarded(store), result, error_out, |store| Ok(store.keys(required("prefix", prefix, prefix_len)?))) }
}

/// The same, waiting for the result, which is what `list_out` is for: it must not be NULL. Free the list with
/// `sessionstore_key_list_free`.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_keys_wait(
    store: *const sessionstore_store,
    prefix: *const c_char,
    prefix_len: usize,
    timeout_ms: u32,
    list_out: *mut *mut sessionstore_key_list,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(list_out);
    // SAFETY: NULL or a live store, as the caller owes.
    let store = unsafe { guarded(store) };
    let ask = |store: &Store| {
        needed("list_out", list_out)?;
        // SAFETY: a text as the caller owes.
        Ok(store.keys(unsafe { required("prefix", prefix, prefix_len) }?))
    };
    wait(store, timeout_ms, error_out, ask, |keys| give_arc(Arc::new(sessionstore_key_list::new(keys)), list_out))
}

/// How many keys are in the list; 0 for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_key_list_count(list: *const sessionstore_key_list) -> usize {
    // SAFETY: NULL or a live list, as the caller owes.
    getter(0, || unsafe { list.as_ref() }.map_or(0, |list| list.keys.len()))
}

/// One key of the list, with a NUL after it; NULL beyond its end. Lives as long as the list. `len_out` may be
/// NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_key_list_get(
    list: *const sessionstore_key_list,
    index: usize,
    len_out: *mut usize,
) -> *const c_char {
    getter(std::ptr::null(), || {
        // SAFETY: NULL or a live list, as the caller owes.
        let Some((key, out)) = unsafe { list.as_ref() }.and_then(|list| list.keys.get(index)) else {
            empty(len_out);
            return std::ptr::null();
        };
        out.get(key, len_out)
    })
}

/// Another reference to the same list, to be freed too. NULL for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_key_list_retain(
    list: *const sessionstore_key_list,
) -> *mut sessionstore_key_list {
    if !list.is_null() {
        // SAFETY: a live list, which always comes from an Arc.
        unsafe { Arc::increment_strong_count(list) };
    }
    list.cast_mut()
}

/// Frees one reference to a list. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_key_list_free(list: *mut sessionstore_key_list) {
    if !list.is_null() {
        // SAFETY: a reference the caller owns, from an Arc. Lists are plain memory: a forked child may free
        // its own.
        unsafe { Arc::decrement_strong_count(list.cast_const()) };
    }
}

/// Asks the server how much of its limits the store uses. `result` may be NULL; it is consumed, also when the
/// call fails.
///
/// Errors of the call: `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`.
/// Errors of the request: `TIMEOUT`, `CLOSED`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_usage(
    store: *const sessionstore_store,
    result: *const sessionstore_usage_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live store, and a struct, as the caller owes.
    unsafe { start(guarded(store), result, error_out, |store| Ok(store.usage())) }
}

/// The same, waiting for the result, which is written to `usage_out`: it must not be NULL, and is begun with
/// `SESSIONSTORE_USAGE_INIT`. On failure it stays as it is.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback.
///
/// ```c
/// sessionstore_usage usage = SESSIONSTORE_USAGE_INIT;
/// if (sessionstore_store_usage_wait(store, 10000, &usage, NULL) == SESSIONSTORE_OK)
///     printf("%llu of %llu keys\n", (unsigned long long)usage.keys, (unsigned long long)usage.max_keys);
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_usage_wait(
    store: *const sessionstore_store,
    timeout_ms: u32,
    usage_out: *mut sessionstore_usage,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live store, as the caller owes.
    let store = unsafe { guarded(store) };
    let ask = |store: &Store| {
        // What cannot be written to is refused before anything is sent.
        // SAFETY: NULL or a struct as the caller owes.
        unsafe { read(usage_out.cast_const()) }?;
        Ok(store.usage())
    };
    // SAFETY: it was just read.
    wait(store, timeout_ms, error_out, ask, |usage| unsafe { write(usage.into(), usage_out) })
}

/// # Safety
/// NULL or a selector with its arrays.
unsafe fn convert(selector: *const sessionstore_selector) -> Result<Selector, Error> {
    // SAFETY: as the caller says.
    let given = unsafe { read(selector) }?.whole()?;
    check_flags::<sessionstore_selector>(given.flags, SESSIONSTORE_SELECT_ALL)?;
    // SAFETY: as the caller says.
    let (keys, prefixes) = unsafe {
        let keys = text_array("key", given.keys, given.key_lens, given.key_count)?;
        (keys, text_array("prefix", given.prefixes, given.prefix_lens, given.prefix_count)?)
    };
    let selector = prefixes.into_iter().fold(Selector::keys(keys), Selector::and_prefix);
    let all = given.flags & SESSIONSTORE_SELECT_ALL != 0;
    Ok(if all { selector.and_prefix("") } else { selector })
}
