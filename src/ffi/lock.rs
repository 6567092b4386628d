//! `sessionstore_lock`

use std::ffi::{c_char, c_void};
use std::mem::size_of;
use std::sync::Arc;

use super::action::{begin, start, wait, Hears};
use super::callback::{callback_struct, result_struct, sessionstore_action_result, with_error, Taken};
use super::cancellation::sessionstore_cancellation;
use super::error::sessionstore_error;
use super::guard::{call_on, clear, forked, getter, give_arc, needed, release, Guarded};
use super::store::{guarded as guarded_store, sessionstore_store};
use super::structs::{check_flags, read, Sized32};
use super::text::{empty, required, OutText};
use crate::client::{Action, Lock, LockOptions, Store};
use crate::{Error, ErrorCode, LockGuard};

/// A lock that this client holds, or held. It is counted by reference; freeing the last reference releases
/// the lock. It may outlive its client, with which the lock ends.
///
/// While the client is connected it renews the lock by itself. Who holds a lock is shown to everybody by the
/// key `$lock/` and its name, which can be listened to as any other.
pub struct sessionstore_lock {
    lock: Guarded<Lock>,
    name: OutText,
}

impl sessionstore_lock {
    fn new(lock: Lock) -> sessionstore_lock {
        sessionstore_lock { lock: Guarded::new(lock), name: OutText::default() }
    }

    /// What makes something depend on this grant.
    pub(super) fn guard(&self) -> Result<LockGuard<'static>, Error> {
        self.lock.usable().map(Lock::guard)
    }
}

/// How a lock is taken. Begin with `SESSIONSTORE_LOCK_OPTIONS_INIT`; what stays 0 has its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_lock_options {
    /// Set by `SESSIONSTORE_LOCK_OPTIONS_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// How long the lock outlives its last renewal, in milliseconds, 1,000 to 300,000: so long it stays
    /// taken when its holder vanishes. Default 15,000.
    pub ttl_ms: u32,
    /// How long to wait for it behind those who came before, in milliseconds, at most 300,000. Default 0:
    /// `LOCK_HELD` at once.
    pub wait_ms: u32,
}

// SAFETY: repr(C), beginning with struct_size; integers.
unsafe impl Sized32 for sessionstore_lock_options {
    const FIRST_SIZE: usize = std::mem::offset_of!(sessionstore_lock_options, wait_ms) + size_of::<u32>();
    const NAME: &'static str = "lock options";
}

/// Hears of the loss of a lock. Members that are NULL are not called.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_lock_listener {
    /// Set by `SESSIONSTORE_LOCK_LISTENER_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Yours; passed to every call.
    pub ctx: *mut c_void,
    /// The last call: nothing uses `ctx` after it. It comes when the lock was lost, released or refused.
    pub on_drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// The lock is lost: `LOCK_LOST` when it could not be renewed in time or an operator took it away, `FORBIDDEN`
    /// when the rules do not allow it any more, `SESSION_LOST`, or what the client ended with, such as `CLOSED`. Called once, and never after a
    /// release. The error is borrowed.
    pub on_lost: Option<unsafe extern "C" fn(ctx: *mut c_void, error: *const sessionstore_error)>,
}

callback_struct!(sessionstore_lock_listener, "lock listener", on_lost);

/// Hears how a request for a lock ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_lock_result {
    /// Set by `SESSIONSTORE_LOCK_RESULT_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Yours; passed to every call.
    pub ctx: *mut c_void,
    /// The last call: nothing uses `ctx` after it.
    pub on_drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// The request ended; called exactly once if the call that took this succeeded, otherwise never.
    /// `error` is NULL on success, `lock` otherwise. Both are borrowed: if nobody retains the lock with
    /// `sessionstore_lock_retain`, it is released when this returns.
    pub on_result: Option<
        unsafe extern "C" fn(ctx: *mut c_void, error: *const sessionstore_error, lock: *const sessionstore_lock),
    >,
    /// What may take the request back, or NULL. It is borrowed for the call, and may be freed after it.
    pub cancellation: *const sessionstore_cancellation,
}

result_struct!(sessionstore_lock_result, "lock result");

impl Hears<Lock> for sessionstore_lock_result {
    fn hear(&self, outcome: Result<Lock, Error>) {
        let Some(told) = self.on_result else { return };
        let (lock, error) = match outcome {
            Ok(lock) => (Some(Arc::new(sessionstore_lock::new(lock))), None),
            Err(error) => (None, Some(error)),
        };
        let lock = lock.as_ref().map_or(std::ptr::null(), Arc::as_ptr);
        // SAFETY: the app's function, called as its struct says.
        with_error(error.as_ref(), |error| unsafe { told(self.ctx, error, lock) });
    }
}

/// Takes a lock of the room, which is this client's until it is released, lost, or its last handle is
/// freed.
///
/// `options` and `listener` may be NULL, `result` may not. Listener and result are consumed, also when the
/// call fails. When the lock is refused, the listener's `on_drop` comes before the result.
///
/// Errors of the call: `INVALID_LOCK` unless the name has 1 to 200 bytes and no control characters;
/// `INVALID_UTF8`, `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`. Errors
/// of the request: `LOCK_HELD`, after as much waiting as was asked for, whose `sessionstore_error_current`
/// shows by whom; `INVALID_ARGUMENT` for times out of their range; `TOO_MANY_LOCKS`, `FORBIDDEN`; `TIMEOUT`,
/// `SESSION_LOST` and `CLOSED`, after which the lock is given back, or ends with its time.
///
/// ```c
/// static void on_lock(void *ctx, const sessionstore_error *error, const sessionstore_lock *lock) {
///     if (error == NULL) ((struct app *)ctx)->presenter = sessionstore_lock_retain(lock);
/// }
///
/// sessionstore_lock_options options = SESSIONSTORE_LOCK_OPTIONS_INIT;
/// sessionstore_lock_result result = SESSIONSTORE_LOCK_RESULT_INIT;
/// options.wait_ms = 60000;
/// result.ctx = &app;
/// result.on_result = on_lock;
/// sessionstore_store_lock(store, "presenter", SESSIONSTORE_NUL_TERMINATED, &options, NULL, &result, NULL);
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_lock(
    store: *const sessionstore_store,
    name: *const c_char,
    name_len: usize,
    options: *const sessionstore_lock_options,
    listener: *const sessionstore_lock_listener,
    result: *const sessionstore_lock_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: consumed whatever follows; structs as the caller owes.
    let (listener, result) = unsafe { (Taken::take_optional(listener), Taken::take(result)) };
    // SAFETY: NULL or a live store, as the caller owes.
    call_on(unsafe { guarded_store(store) }, error_out, |store| {
        // SAFETY: a text and a struct as the caller owes.
        unsafe { begin(acquire(store, name, name_len, options, listener)?, Some(result?)) }
    })
}

/// The same, waiting for the lock, which is what `lock_out` is for: it must not be NULL. Free the lock with
/// `sessionstore_lock_free`, which releases it. `timeout_ms` bounds the whole call and should be more than
/// the `wait_ms` of the options. When the call fails, the listener's `on_drop` is called before it returns.
///
/// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_store_lock_wait(
    store: *const sessionstore_store,
    name: *const c_char,
    name_len: usize,
    options: *const sessionstore_lock_options,
    listener: *const sessionstore_lock_listener,
    timeout_ms: u32,
    lock_out: *mut *mut sessionstore_lock,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(lock_out);
    // SAFETY: consumed whatever follows; a struct as the caller owes.
    let listener = unsafe { Taken::take_optional(listener) };
    // SAFETY: NULL or a live store, as the caller owes.
    let store = unsafe { guarded_store(store) };
    let ask = |store: &Store| {
        needed("lock_out", lock_out)?;
        // SAFETY: a text and a struct as the caller owes.
        unsafe { acquire(store, name, name_len, options, listener) }
    };
    wait(store, timeout_ms, error_out, ask, |lock| give_arc(Arc::new(sessionstore_lock::new(lock)), lock_out))
}

/// # Safety
/// A text as for `required`; `options` is NULL or points to such a struct.
unsafe fn acquire(
    store: &Store,
    name: *const c_char,
    name_len: usize,
    options: *const sessionstore_lock_options,
    listener: Result<Option<Taken<sessionstore_lock_listener>>, Error>,
) -> Result<Action<Lock>, Error> {
    // SAFETY: as the caller says.
    let name = unsafe { required("lock name", name, name_len) }?;
    let mut asked = LockOptions::default();
    if !options.is_null() {
        // SAFETY: as the caller says.
        let given = unsafe { read(options) }?.whole()?;
        check_flags::<sessionstore_lock_options>(given.flags, 0)?;
        asked.wait_ms = given.wait_ms.into();
        if given.ttl_ms != 0 {
            asked.ttl_ms = given.ttl_ms.into();
        }
    }
    let listener = listener?;
    let lost = move |error: Error| {
        // The whole struct is moved in, so that its `Drop` comes after the call.
        let Some(taken) = listener else { return };
        if let Some(told) = taken.known().on_lost {
            // SAFETY: the app's function, called as its struct says.
            with_error(Some(&error), |error| unsafe { told(taken.known().ctx, error) });
        }
    };
    Ok(store.lock(name, asked, lost))
}

/// The lock's name, with a NUL after it. Lives as long as the lock object; `""` for NULL. `len_out` may be NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_lock_name(lock: *const sessionstore_lock, len_out: *mut usize) -> *const c_char {
    getter(c"".as_ptr(), || {
        // SAFETY: NULL or a live lock, as the caller owes.
        let Some(lock) = (unsafe { lock.as_ref() }) else { return empty(len_out) };
        lock.name.get(lock.lock.get().name(), len_out)
    })
}

/// The fencing token of this grant: larger than that of every grant before it in the session. Who guards
/// something outside the room can refuse tokens that are smaller than one it has seen. 0 for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_lock_token(lock: *const sessionstore_lock) -> u64 {
    // SAFETY: NULL or a live lock, as the caller owes.
    getter(0, || unsafe { lock.as_ref() }.map_or(0, |lock| lock.lock.get().token()))
}

/// 1 while the lock is held as far as this client knows: it was neither released nor lost, and its time is
/// not over, of which its listener hears a moment later; time goes on while the machine sleeps. 0 otherwise, for
/// NULL, and in a forked child. What must not be written by one who has lost the lock without knowing yet is
/// written with the lock in its options.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_lock_is_held(lock: *const sessionstore_lock) -> i32 {
    getter(0, || {
        // In a child the mutex could have been held at the fork.
        if forked() {
            return 0;
        }
        // SAFETY: NULL or a live lock, as the caller owes.
        unsafe { lock.as_ref() }.map_or(0, |lock| i32::from(lock.lock.get().is_held()))
    })
}

/// Gives the lock up: the next who waits gets it. From here on it is not held any more, and its listener's
/// `on_drop` comes on a dispatch thread. `result` may be NULL; it is consumed, also when the call fails. The
/// handle is still to be freed.
///
/// Errors of the call, after which it is held as before: `CLOSED`, `QUEUE_FULL`, `NULL_ARGUMENT`,
/// `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`. Errors of the request: `LOCK_LOST` if it was not held any more;
/// `TIMEOUT`, `OUTCOME_UNKNOWN`, after which it ends with its time at the latest.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_lock_release(
    lock: *const sessionstore_lock,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live lock, and a struct, as the caller owes.
    unsafe { start(guarded(lock), result, error_out, |lock| Ok(lock.release())) }
}

/// The same, waiting until it is free. Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is
/// sent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_lock_release_wait(
    lock: *const sessionstore_lock,
    timeout_ms: u32,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live lock, as the caller owes.
    wait(unsafe { guarded(lock) }, timeout_ms, error_out, |lock| Ok(lock.release()), Ok)
}

/// Another reference to the same lock, to be freed too. NULL for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_lock_retain(lock: *const sessionstore_lock) -> *mut sessionstore_lock {
    if !lock.is_null() {
        // SAFETY: a live lock, which always comes from an Arc.
        unsafe { Arc::increment_strong_count(lock) };
    }
    lock.cast_mut()
}

/// Frees one reference to a lock; the last one releases the lock in the background if it is still held. It
/// never blocks and is legal anywhere, in callbacks too. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_lock_free(lock: *mut sessionstore_lock) {
    if !lock.is_null() {
        // SAFETY: a reference the caller owns, from an Arc.
        release(|| unsafe { Arc::decrement_strong_count(lock.cast_const()) });
    }
}

/// # Safety
/// NULL or a live lock.
unsafe fn guarded<'a>(lock: *const sessionstore_lock) -> Option<&'a Guarded<Lock>> {
    // SAFETY: as the caller says.
    unsafe { lock.as_ref() }.map(|lock| &lock.lock)
}

/// The grant that a lock stands for; NULL is refused.
///
/// # Safety
/// NULL or a live lock.
pub(super) unsafe fn grant(lock: *const sessionstore_lock) -> Result<LockGuard<'static>, Error> {
    // SAFETY: as the caller says.
    let lock = unsafe { lock.as_ref() };
    lock.ok_or_else(|| Error::new(ErrorCode::NullArgument, "the lock is NULL"))?.guard()
}
