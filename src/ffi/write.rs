//! Writing one key of a `sessionstore_store` on conditions, and changing it where it is.

use std::borrow::Cow;
use std::ffi::c_char;
use std::mem::size_of;

use super::callback::sessionstore_action_result;
use super::error::sessionstore_error;
use super::event::sessionstore_event;
use super::lock::sessionstore_lock;
use super::set::{act, act_wait};
use super::store::sessionstore_store;
use super::structs::{check_flags, read, Sized32};
use super::text::required;
use crate::client::Store;
use crate::{Error, ErrorCode, Expiry, LockGuard, Merge, Operation, Value, Write};

/// Replaces the value; `null` removes the key. What is not said of the key's expiry and of its peer is
/// forgotten: it stays until it is removed.
pub const SESSIONSTORE_OPERATION_SET: i32 = 1;
/// Adds a number, which may be negative, to the key's number; an absent key counts as 0. Two integers
/// (`int64_t`) are added exactly, others as `double`.
pub const SESSIONSTORE_OPERATION_ADD: i32 = 2;
/// A JSON merge patch (RFC 7396): members of an object are set, members that are `null` are removed, at
/// every depth. An absent key counts as an empty object.
pub const SESSIONSTORE_OPERATION_PATCH: i32 = 3;
/// Adds each value of a JSON array to the key's array unless it is in it. An absent key counts as an empty
/// array, here and below.
pub const SESSIONSTORE_OPERATION_SET_ADD: i32 = 4;
/// Removes each value of a JSON array from the key's array; that one is not in it is fine.
pub const SESSIONSTORE_OPERATION_SET_REMOVE: i32 = 5;
/// Appends the values of a JSON array to the key's array, then drops the oldest, which are the first, until
/// at most `cap` are left.
pub const SESSIONSTORE_OPERATION_APPEND: i32 = 6;
/// Leaves the value as it is and gives the key the expiry that the options say. `KEY_ABSENT` if there is
/// none.
pub const SESSIONSTORE_OPERATION_TOUCH: i32 = 7;

/// Flag of a write's options: only if the key has the version `if_version` now.
pub const SESSIONSTORE_WRITE_IF_VERSION: u32 = 1;
/// Flag of a write's options: the key goes when this peer leaves, or its grace period ends.
pub const SESSIONSTORE_WRITE_BOUND: u32 = 2;
/// Flag of a write's options: the key goes with no peer.
pub const SESSIONSTORE_WRITE_UNBOUND: u32 = 4;
/// Flag of a write's options: the key goes by itself when it did before this write, or never.
pub const SESSIONSTORE_WRITE_KEEP_EXPIRY: u32 = 8;
/// Flag of a write's options: the key does not go by itself.
pub const SESSIONSTORE_WRITE_NEVER_EXPIRES: u32 = 16;

const KNOWN_FLAGS: u32 = SESSIONSTORE_WRITE_IF_VERSION
    | SESSIONSTORE_WRITE_BOUND
    | SESSIONSTORE_WRITE_UNBOUND
    | SESSIONSTORE_WRITE_KEEP_EXPIRY
    | SESSIONSTORE_WRITE_NEVER_EXPIRES;

/// On which condition a key is written, and how long it stays. Begin with
/// `SESSIONSTORE_WRITE_OPTIONS_INIT`; what stays 0 or NULL is not said: after a set the key stays for good,
/// after every other operation as long as it did before.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_write_options {
    /// Set by `SESSIONSTORE_WRITE_OPTIONS_INIT`.
    pub struct_size: u32,
    /// Any of `SESSIONSTORE_WRITE_…`.
    pub flags: u32,
    /// With `SESSIONSTORE_WRITE_IF_VERSION`: the version the key must have, 0 meaning that it must be
    /// absent. Otherwise 0.
    pub if_version: u64,
    /// After how many milliseconds the key goes by itself, at most a year (31,536,000,000). 0: not said.
    pub ttl_ms: u64,
    /// With `SESSIONSTORE_OPERATION_APPEND`: the most values the array may have afterwards. 0: only the
    /// room's limits bound it.
    pub cap: u64,
    /// If not NULL, a lock whose grant must hold; otherwise `LOCK_LOST`. Borrowed until the call returns.
    pub lock: *const sessionstore_lock,
}

// SAFETY: repr(C), beginning with struct_size; integers and pointers.
unsafe impl Sized32 for sessionstore_write_options {
    const FIRST_SIZE: usize = std::mem::offset_of!(sessionstore_write_options, lock) + size_of::<usize>();
    const NAME: &'static str = "write options";
}

/// Sets a key to a JSON value only if it has this version now, 0 meaning that it is absent. Otherwise as
/// `sessionstore_store_set`. A key that was removed is absent: what is expected of it is 0, not the version of
/// the removal, which `sessionstore_event_version` is where the value is null.
///
/// Further error of the request: `VERSION_CONFLICT`, whose `sessionstore_error_current` has what the key
/// holds. `sessionstore_store_update` does this until it lands.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set_if_version(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    json: *const c_char,
    json_len: usize,
    version: u64,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a text as the caller owes.
    let ask = |store: &Store, key: &str| {
        Ok(store.set_if(key, Value::parse(unsafe { required("value", json, json_len) }?)?, version))
    };
    // SAFETY: a store, texts and a struct as the caller owes.
    unsafe { act(store, key, key_len, ask, result, error_out) }
}

/// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
///
/// ```c
/// sessionstore_error *error = NULL;
/// if (sessionstore_store_set_if_version_wait(store, "turn", SESSIONSTORE_NUL_TERMINATED, "\"o\"",
///                                            SESSIONSTORE_NUL_TERMINATED, sessionstore_event_version(seen),
///                                            10000, NULL, &error) == SESSIONSTORE_VERSION_CONFLICT)
///     printf("it is %s already\n", sessionstore_event_json(sessionstore_error_current(error), NULL));
/// sessionstore_error_free(error);
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_set_if_version_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    json: *const c_char,
    json_len: usize,
    version: u64,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a text as the caller owes.
    let ask = |store: &Store, key: &str| {
        Ok(store.set_if(key, Value::parse(unsafe { required("value", json, json_len) }?)?, version))
    };
    // SAFETY: a store, texts and places for the outputs as the caller owes.
    unsafe { act_wait(store, key, key_len, ask, timeout_ms, event_out, error_out) }
}

/// Adds an integer, which may be negative, to a key's number, exactly; an absent key counts as 0. However
/// many peers add at once, none of it is lost. Otherwise as `sessionstore_store_set`; the state that the
/// result has holds the sum.
///
/// Further errors of the request: `WRONG_TYPE` when the key holds something else, `NUMBER_OVERFLOW`.
///
/// ```c
/// sessionstore_store_add(store, "votes/yes", SESSIONSTORE_NUL_TERMINATED, 1, NULL, NULL);
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_add(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    amount: i64,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a store, a text and a struct as the caller owes.
    unsafe { act(store, key, key_len, |store, key| Ok(store.add(key, amount)), result, error_out) }
}

/// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_add_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    amount: i64,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    let ask = |store: &Store, key: &str| Ok(store.add(key, amount));
    // SAFETY: a store, a text and places for the outputs as the caller owes.
    unsafe { act_wait(store, key, key_len, ask, timeout_ms, event_out, error_out) }
}

/// Does one of `SESSIONSTORE_OPERATION_…` to a key, on the server: nobody has to read a value, change it
/// and write all of it back, and nobody's change is lost.
///
/// `json` is the value that is set or added, the patch, or, for `SET_ADD`, `SET_REMOVE` and `APPEND`, an
/// array of values; NULL with length 0 for `TOUCH`. `options` may be NULL, but not for `TOUCH`, which needs
/// `ttl_ms` or one of the flags about the expiry. `result` may be NULL; it is consumed, also when the call
/// fails. On success it has the key's state after it.
///
/// Errors of the call: those of `sessionstore_store_set`; `WRONG_TYPE` when `json` should be an array;
/// `INVALID_ARGUMENT` for an operation that does not exist, and for options that contradict each other or
/// do not fit the operation; `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`. Errors of the request: those of
/// `sessionstore_store_set`; `WRONG_TYPE` when the key holds something that the operation is not for;
/// `NUMBER_OVERFLOW`, `KEY_ABSENT`, `VERSION_CONFLICT`, `LOCK_LOST`; `INVALID_ARGUMENT` for a `ttl_ms` that
/// is too long.
///
/// ```c
/// sessionstore_write_options options = SESSIONSTORE_WRITE_OPTIONS_INIT;
/// options.cap = 3;
/// sessionstore_store_write(store, "pinned", SESSIONSTORE_NUL_TERMINATED, SESSIONSTORE_OPERATION_APPEND,
///                          "[\"Welcome!\"]", SESSIONSTORE_NUL_TERMINATED, &options, NULL, NULL);
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_write(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    operation: i32,
    json: *const c_char,
    json_len: usize,
    options: *const sessionstore_write_options,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    let ask = |store: &Store, key: &str| {
        // SAFETY: a text and a struct as the caller owes.
        let (write, lock) = unsafe { convert(key, operation, json, json_len, options) }?;
        Ok(store.write(write, lock))
    };
    // SAFETY: a store, a text and a struct as the caller owes.
    unsafe { act(store, key, key_len, ask, result, error_out) }
}

/// The same, waiting for the result. `event_out`, which may be NULL, is given the key's state after it.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_write_wait(
    store: *const sessionstore_store,
    key: *const c_char,
    key_len: usize,
    operation: i32,
    json: *const c_char,
    json_len: usize,
    options: *const sessionstore_write_options,
    timeout_ms: u32,
    event_out: *mut *mut sessionstore_event,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    let ask = |store: &Store, key: &str| {
        // SAFETY: a text and a struct as the caller owes.
        let (write, lock) = unsafe { convert(key, operation, json, json_len, options) }?;
        Ok(store.write(write, lock))
    };
    // SAFETY: a store, a text and places for the outputs as the caller owes.
    unsafe { act_wait(store, key, key_len, ask, timeout_ms, event_out, error_out) }
}

/// What a write says, and the lock it depends on.
///
/// # Safety
/// A text, and NULL or a struct, as the functions above say.
pub(super) unsafe fn convert<'a>(
    key: impl Into<Cow<'a, str>>,
    operation: i32,
    json: *const c_char,
    json_len: usize,
    options: *const sessionstore_write_options,
) -> Result<(Write<'a>, Option<LockGuard<'static>>), Error> {
    let mut write = Write { key: key.into(), ..Write::set("", Value::null()) };
    // SAFETY: a text as the caller says.
    write.operation = unsafe { convert_operation(operation, json, json_len) }?;
    if options.is_null() {
        return Ok((fitting(write)?, None));
    }
    // SAFETY: a struct as the caller says.
    let options = unsafe { read(options) }?.whole()?;
    check_flags::<sessionstore_write_options>(options.flags, KNOWN_FLAGS)?;
    let has = |flag: u32| options.flags & flag != 0;
    write.expected = match (has(SESSIONSTORE_WRITE_IF_VERSION), options.if_version) {
        (true, version) => Some(version),
        (false, 0) => None,
        (false, _) => return Err(contradiction("if_version is set without SESSIONSTORE_WRITE_IF_VERSION")),
    };
    write.bound = match (has(SESSIONSTORE_WRITE_BOUND), has(SESSIONSTORE_WRITE_UNBOUND)) {
        (true, true) => return Err(contradiction("a key cannot be both bound and unbound")),
        (false, false) => None,
        (bound, _) => Some(bound),
    };
    let (keeps, never) = (has(SESSIONSTORE_WRITE_KEEP_EXPIRY), has(SESSIONSTORE_WRITE_NEVER_EXPIRES));
    write.expiry = match (options.ttl_ms, keeps, never) {
        (0, false, false) => None,
        (0, true, false) => Some(Expiry::Keep),
        (0, false, true) => Some(Expiry::Never),
        (ms, false, false) => Some(Expiry::After(ms)),
        _ => return Err(contradiction("ttl_ms, KEEP_EXPIRY and NEVER_EXPIRES exclude each other")),
    };
    match (options.cap, &mut write.operation) {
        (0, _) => {}
        (most, Operation::Merge(Merge::Append { cap, .. })) => *cap = Some(most.try_into().unwrap_or(usize::MAX)),
        _ => return Err(contradiction("cap is for SESSIONSTORE_OPERATION_APPEND")),
    }
    // SAFETY: NULL or a live lock, as the caller says.
    let lock = unsafe { options.lock.as_ref() }.map(sessionstore_lock::guard).transpose()?;
    Ok((fitting(write)?, lock))
}

fn fitting(write: Write<'_>) -> Result<Write<'_>, Error> {
    if write.operation == Operation::Touch && write.expiry.is_none() {
        return Err(contradiction("a touch needs ttl_ms, KEEP_EXPIRY or NEVER_EXPIRES"));
    }
    Ok(write)
}

/// # Safety
/// A text as for `required`.
unsafe fn convert_operation(operation: i32, json: *const c_char, json_len: usize) -> Result<Operation, Error> {
    // SAFETY: as the caller says.
    let text = unsafe { required("value", json, json_len) }?;
    let value = || Value::parse(text);
    let values = || value()?.as_elements();
    Ok(match operation {
        SESSIONSTORE_OPERATION_SET => Operation::Set(value()?),
        SESSIONSTORE_OPERATION_ADD => Operation::Merge(Merge::Add(value()?)),
        SESSIONSTORE_OPERATION_PATCH => Operation::Merge(Merge::Patch(value()?)),
        SESSIONSTORE_OPERATION_SET_ADD => Operation::Merge(Merge::SetAdd(values()?)),
        SESSIONSTORE_OPERATION_SET_REMOVE => Operation::Merge(Merge::SetRemove(values()?)),
        SESSIONSTORE_OPERATION_APPEND => Operation::Merge(Merge::Append { values: values()?, cap: None }),
        SESSIONSTORE_OPERATION_TOUCH if text.is_empty() => Operation::Touch,
        SESSIONSTORE_OPERATION_TOUCH => return Err(contradiction("a touch has no value")),
        other => return Err(Error::new(ErrorCode::InvalidArgument, format!("there is no operation {other}"))),
    })
}

fn contradiction(message: &'static str) -> Error {
    Error::new(ErrorCode::InvalidArgument, message)
}
