//! `sessionstore_transaction`

use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::action::{start, wait};
use super::error::sessionstore_error;
use super::event_list::{give_list, sessionstore_event_list, sessionstore_event_list_result};
use super::guard::{call, call_on, clear, give_box, Guarded};
use super::lock::{grant, sessionstore_lock};
use super::store::{guarded as guarded_store, sessionstore_store};
use super::text::required;
use super::write::{convert, sessionstore_write_options};
use crate::client::{Action, Store};
use crate::{Check, Error, ErrorCode, Snapshot, Transaction, Value};

/// What is added to from any thread.
type Parts = Mutex<Transaction<'static>>;

/// Checks and writes that happen together or not at all.
///
/// The checks look at the store as it was before. The writes are made in their order, and each sees what
/// those before it did; all of them have one revision, and those who listen hear of each key once. The
/// room's limits hold for the result as a whole.
///
/// A transaction is only a description: it belongs to no store, is not used up by being sent, and may be
/// added to and sent again.
pub struct sessionstore_transaction {
    transaction: Guarded<Parts>,
}

/// Makes an empty transaction. Free it with `sessionstore_transaction_free`. Error: `NULL_ARGUMENT`.
///
/// ```c
/// sessionstore_transaction *turn = NULL;
/// sessionstore_transaction_new(&turn, NULL);
/// sessionstore_transaction_check_equals(turn, "turn", SESSIONSTORE_NUL_TERMINATED,
///                                       "\"x\"", SESSIONSTORE_NUL_TERMINATED, NULL);
/// sessionstore_transaction_write(turn, "board/4", SESSIONSTORE_NUL_TERMINATED, SESSIONSTORE_OPERATION_SET,
///                                "\"x\"", SESSIONSTORE_NUL_TERMINATED, NULL, NULL);
/// sessionstore_transaction_write(turn, "turn", SESSIONSTORE_NUL_TERMINATED, SESSIONSTORE_OPERATION_SET,
///                                "\"o\"", SESSIONSTORE_NUL_TERMINATED, NULL, NULL);
/// sessionstore_store_transact(store, turn, NULL, NULL);
/// sessionstore_transaction_free(turn);
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_transaction_new(
    transaction_out: *mut *mut sessionstore_transaction,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(transaction_out);
    call(error_out, || {
        let transaction = Guarded::new(Mutex::default());
        give_box(sessionstore_transaction { transaction }, transaction_out)
    })
}

/// Adds a check: the key has this version; 0: it is absent. Errors, here and for the other checks:
/// `INVALID_UTF8`, `NULL_ARGUMENT`. What breaks the rules for keys is refused when the transaction is sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_transaction_check_version(
    transaction: *mut sessionstore_transaction,
    key: *const c_char,
    key_len: usize,
    version: u64,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a transaction and a text as the caller owes.
    unsafe { check(transaction, key, key_len, |key| Ok(Check::Version { key: key.into(), version }), error_out) }
}

/// Adds a check: the key is set.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_transaction_check_exists(
    transaction: *mut sessionstore_transaction,
    key: *const c_char,
    key_len: usize,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a transaction and a text as the caller owes.
    unsafe { check(transaction, key, key_len, |key| Ok(Check::Exists { key: key.into() }), error_out) }
}

/// Adds a check: the key is not set.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_transaction_check_absent(
    transaction: *mut sessionstore_transaction,
    key: *const c_char,
    key_len: usize,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a transaction and a text as the caller owes.
    unsafe { check(transaction, key, key_len, |key| Ok(Check::Absent { key: key.into() }), error_out) }
}

/// Adds a check: the key holds this JSON value, whatever its spelling: the order of members and the escapes
/// in strings make no difference; numbers are the same when they are written alike, so 1 and 1.0 differ.
/// `null`: the key is absent. Further error: `INVALID_JSON`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_transaction_check_equals(
    transaction: *mut sessionstore_transaction,
    key: *const c_char,
    key_len: usize,
    json: *const c_char,
    json_len: usize,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    let equals = |key: String| {
        // SAFETY: a text as the caller owes.
        let value = Value::parse(unsafe { required("value", json, json_len) }?)?;
        Ok(Check::Equals { key: key.into(), value })
    };
    // SAFETY: a transaction and texts as the caller owes.
    unsafe { check(transaction, key, key_len, equals, error_out) }
}

/// Adds a check: the lock is held under this grant. The lock is not kept: it may be freed, after which the
/// check fails, as it does when the lock is lost, with `LOCK_LOST`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_transaction_check_lock(
    transaction: *mut sessionstore_transaction,
    lock: *const sessionstore_lock,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live transaction, as the caller owes.
    call_on(unsafe { guarded(transaction) }, error_out, |transaction| {
        // SAFETY: NULL or a live lock, as the caller owes.
        let check = Check::Lock(unsafe { grant(lock) }?);
        open(transaction).checks.push(check);
        Ok(())
    })
}

/// Adds a write, as `sessionstore_store_write` has it, which says what `operation`, `json` and `options` are.
/// A lock in the options is refused with `INVALID_ARGUMENT`: in a transaction it is a check. Other errors:
/// those of the call of `sessionstore_store_write`, but for its store.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_transaction_write(
    transaction: *mut sessionstore_transaction,
    key: *const c_char,
    key_len: usize,
    operation: i32,
    json: *const c_char,
    json_len: usize,
    options: *const sessionstore_write_options,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live transaction, as the caller owes.
    call_on(unsafe { guarded(transaction) }, error_out, |transaction| {
        // SAFETY: texts and a struct as the caller owes.
        let (write, lock) = unsafe {
            let key = required("key", key, key_len)?.to_owned();
            convert(key, operation, json, json_len, options)?
        };
        if lock.is_some() {
            let message = "a lock of a transaction is one of its checks: sessionstore_transaction_check_lock";
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        open(transaction).writes.push(write);
        Ok(())
    })
}

/// Frees a transaction; one that was sent goes on. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_transaction_free(transaction: *mut sessionstore_transaction) {
    if !transaction.is_null() {
        // SAFETY: given out by Box::into_raw and not freed before, as the caller owes. Transactions are plain
        // memory: a forked child may free its own.
        drop(unsafe { Box::from_raw(transaction) });
    }
}

/// Sends a transaction as it is now: all of its checks hold and all of its writes are made, in one revision,
/// or nothing is changed.
///
/// `result` may be NULL; it is consumed, also when the call fails. On success it has the state of each key
/// that is written, in the order of their first writes, and this client's listeners were told before it.
///
/// Errors of the call: `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`.
/// Errors of the request: `CHECK_FAILED`, or `LOCK_LOST`, whose `sessionstore_error_check` says which check,
/// and `sessionstore_error_current` what the key holds; what a write of it is refused with, whose
/// `sessionstore_error_write` says which; `INVALID_ARGUMENT` for more than 200 checks and writes;
/// `MESSAGE_TOO_LARGE` when they do not fit one message, which has 64 KiB unless the server is told otherwise; `TIMEOUT`,
/// `SESSION_LOST`, `CLOSED`; `OUTCOME_UNKNOWN`, after which it may have been made.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_transact(
    store: *const sessionstore_store,
    transaction: *const sessionstore_transaction,
    result: *const sessionstore_event_list_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live store and transaction, and a struct, as the caller owes.
    unsafe { start(guarded_store(store), result, error_out, |store| transact(store, transaction)) }
}

/// The same, waiting for the result. `list_out`, which may be NULL, is given the states; free them with
/// `sessionstore_event_list_free`.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_transact_wait(
    store: *const sessionstore_store,
    transaction: *const sessionstore_transaction,
    timeout_ms: u32,
    list_out: *mut *mut sessionstore_event_list,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(list_out);
    // SAFETY: NULL or a live store and transaction, as the caller owes.
    let (store, ask) = unsafe { (guarded_store(store), |store: &Store| transact(store, transaction)) };
    wait(store, timeout_ms, error_out, ask, |snapshot| give_list(snapshot, list_out))
}

/// # Safety
/// NULL or a live transaction.
unsafe fn transact(store: &Store, transaction: *const sessionstore_transaction) -> Result<Action<Snapshot>, Error> {
    // SAFETY: as the caller says.
    let transaction = unsafe { guarded(transaction) };
    let transaction = transaction.ok_or_else(|| Error::new(ErrorCode::NullArgument, "the transaction is NULL"))?;
    let copy = open(transaction.usable()?).clone();
    Ok(store.transact(copy))
}

/// Adds a check of a key.
///
/// # Safety
/// A transaction and a text as the functions above say.
unsafe fn check(
    transaction: *mut sessionstore_transaction,
    key: *const c_char,
    key_len: usize,
    check: impl FnOnce(String) -> Result<Check<'static>, Error>,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live transaction, as the caller says.
    call_on(unsafe { guarded(transaction) }, error_out, |transaction| {
        // SAFETY: a text as the caller says.
        let check = check(unsafe { required("key", key, key_len) }?.to_owned())?;
        open(transaction).checks.push(check);
        Ok(())
    })
}

/// # Safety
/// NULL or a live transaction.
unsafe fn guarded<'a>(transaction: *const sessionstore_transaction) -> Option<&'a Guarded<Parts>> {
    // SAFETY: as the caller says.
    unsafe { transaction.as_ref() }.map(|transaction| &transaction.transaction)
}

fn open<'a>(transaction: &'a Parts) -> MutexGuard<'a, Transaction<'static>> {
    transaction.lock().unwrap_or_else(PoisonError::into_inner)
}
