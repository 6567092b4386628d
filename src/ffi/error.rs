//! `sessionstore_error` and the codes.

use std::ffi::c_char;

use super::callback::plain;
use super::event::{sessionstore_event, EventHandle};
use super::guard::getter;
use super::text::OutText;
use crate::{Error, ErrorCode};

/// Success.
pub const SESSIONSTORE_OK: i32 = 0;
/// A pointer that must not be NULL was NULL.
pub const SESSIONSTORE_NULL_ARGUMENT: i32 = 1;
/// An argument has a value outside its range.
pub const SESSIONSTORE_INVALID_ARGUMENT: i32 = 2;
/// A text is not valid UTF-8.
pub const SESSIONSTORE_INVALID_UTF8: i32 = 3;
/// A value is not valid JSON.
pub const SESSIONSTORE_INVALID_JSON: i32 = 4;
/// A key breaks the rules for keys.
pub const SESSIONSTORE_INVALID_KEY: i32 = 5;
/// A room name breaks the rules for rooms.
pub const SESSIONSTORE_INVALID_ROOM: i32 = 6;
/// A peer's id, name, role, user id or metadata breaks its rules.
pub const SESSIONSTORE_INVALID_PEER: i32 = 7;
/// The server's address is not a usable URL.
pub const SESSIONSTORE_INVALID_URL: i32 = 8;
/// An options or callback struct has an impossible `struct_size`.
pub const SESSIONSTORE_INVALID_STRUCT_SIZE: i32 = 9;
/// An option or flag is set that this version does not know.
pub const SESSIONSTORE_UNKNOWN_OPTION: i32 = 10;
/// A value is of another type than the one asked for.
pub const SESSIONSTORE_WRONG_TYPE: i32 = 11;
/// Waiting here would wait for the calling thread itself.
pub const SESSIONSTORE_WOULD_DEADLOCK: i32 = 12;
/// The library is used in a forked child process.
pub const SESSIONSTORE_FORKED: i32 = 13;
/// A message names a method the server does not have.
pub const SESSIONSTORE_UNKNOWN_METHOD: i32 = 14;
/// A message is not a request of the protocol.
pub const SESSIONSTORE_MALFORMED_MESSAGE: i32 = 15;
/// The server's configuration cannot be used.
pub const SESSIONSTORE_INVALID_CONFIG: i32 = 16;
/// The call does not fit the mode of the client, such as polling one that is not in poll mode.
pub const SESSIONSTORE_WRONG_MODE: i32 = 17;
/// Two calls that exclude each other were made at once, such as two polls of one client.
pub const SESSIONSTORE_BUSY: i32 = 18;
/// A lock's name breaks the rules for locks.
pub const SESSIONSTORE_INVALID_LOCK: i32 = 19;
/// A request came before the peer joined, or after it left.
pub const SESSIONSTORE_NOT_JOINED: i32 = 100;
/// The object was closed.
pub const SESSIONSTORE_CLOSED: i32 = 101;
/// The time given to a call ran out.
pub const SESSIONSTORE_TIMEOUT: i32 = 102;
/// The connection broke before the answer came.
pub const SESSIONSTORE_CONNECTION_LOST: i32 = 103;
/// No connection to the server could be made.
pub const SESSIONSTORE_CONNECTION_FAILED: i32 = 104;
/// The host name of the server does not resolve.
pub const SESSIONSTORE_HOST_NOT_FOUND: i32 = 105;
/// What answered at the address is not a SessionStore server.
pub const SESSIONSTORE_HANDSHAKE_FAILED: i32 = 106;
/// The session this client was in has ended; it joined a new one.
pub const SESSIONSTORE_SESSION_LOST: i32 = 107;
/// Another connection came with the same peer id.
pub const SESSIONSTORE_REPLACED: i32 = 108;
/// The server is shutting down.
pub const SESSIONSTORE_SHUTTING_DOWN: i32 = 109;
/// The address to listen on is in use.
pub const SESSIONSTORE_ADDRESS_IN_USE: i32 = 110;
/// The address to listen on cannot be used.
pub const SESSIONSTORE_ADDRESS_UNAVAILABLE: i32 = 111;
/// Too many requests wait for their answer.
pub const SESSIONSTORE_QUEUE_FULL: i32 = 112;
/// The client sent nothing, not even an answer to a ping, for too long.
pub const SESSIONSTORE_IDLE_TIMEOUT: i32 = 113;
/// The client did not read what it was sent.
pub const SESSIONSTORE_SLOW_READER: i32 = 114;
/// A request was sent, and its answer is lost: it may have been applied or not. A request that ends with
/// any other error was not applied.
pub const SESSIONSTORE_OUTCOME_UNKNOWN: i32 = 115;
/// A peer with this id is in the room, and it is not this client.
pub const SESSIONSTORE_PEER_IN_USE: i32 = 116;
/// TLS could not be agreed on: a certificate that is not trusted, or a side that does not speak it.
pub const SESSIONSTORE_TLS_FAILED: i32 = 117;
/// The directory for the data of a server cannot be used.
pub const SESSIONSTORE_DATA_DIRECTORY_UNUSABLE: i32 = 118;
/// What a server kept is not what it wrote.
pub const SESSIONSTORE_DATA_DAMAGED: i32 = 119;
/// A newer version of the server wrote what is kept.
pub const SESSIONSTORE_DATA_NEWER: i32 = 120;
/// The app took the request back.
pub const SESSIONSTORE_CANCELLED: i32 = 121;
/// The token is missing, malformed, or signed with another secret.
pub const SESSIONSTORE_UNAUTHORIZED: i32 = 200;
/// The token has expired.
pub const SESSIONSTORE_TOKEN_EXPIRED: i32 = 201;
/// A value is larger than the limit.
pub const SESSIONSTORE_VALUE_TOO_LARGE: i32 = 202;
/// The store has as many keys as it may have.
pub const SESSIONSTORE_TOO_MANY_KEYS: i32 = 203;
/// Keys and values together would be larger than the limit.
pub const SESSIONSTORE_STORE_FULL: i32 = 204;
/// The key has another version than the one expected.
pub const SESSIONSTORE_VERSION_CONFLICT: i32 = 205;
/// A message is larger than the server accepts.
pub const SESSIONSTORE_MESSAGE_TOO_LARGE: i32 = 206;
/// The peer listens to as many keys as it may.
pub const SESSIONSTORE_TOO_MANY_LISTENED_KEYS: i32 = 207;
/// The room has as many peers as it may have.
pub const SESSIONSTORE_ROOM_FULL: i32 = 208;
/// The server has as many connections as it may have.
pub const SESSIONSTORE_SERVER_FULL: i32 = 209;
/// The peer id is in use in a way that cannot be taken over.
pub const SESSIONSTORE_PEER_MISMATCH: i32 = 210;
/// The room's rules do not allow it.
pub const SESSIONSTORE_FORBIDDEN: i32 = 211;
/// A check of a transaction failed.
pub const SESSIONSTORE_CHECK_FAILED: i32 = 212;
/// Somebody holds the lock.
pub const SESSIONSTORE_LOCK_HELD: i32 = 213;
/// The lock is not held with this token.
pub const SESSIONSTORE_LOCK_LOST: i32 = 214;
/// A sum leaves the range of numbers.
pub const SESSIONSTORE_NUMBER_OVERFLOW: i32 = 215;
/// The key is one that only the server writes.
pub const SESSIONSTORE_RESERVED_KEY: i32 = 216;
/// The key is absent.
pub const SESSIONSTORE_KEY_ABSENT: i32 = 217;
/// The room has as many locks as it may have.
pub const SESSIONSTORE_TOO_MANY_LOCKS: i32 = 218;
/// A web page of this origin may not connect.
pub const SESSIONSTORE_ORIGIN_NOT_ALLOWED: i32 = 219;
/// The connection asks more than it may.
pub const SESSIONSTORE_RATE_LIMITED: i32 = 220;
/// Too many connections come from one address.
pub const SESSIONSTORE_TOO_MANY_CONNECTIONS: i32 = 221;
/// The server has as many rooms as it may have.
pub const SESSIONSTORE_TOO_MANY_ROOMS: i32 = 222;
/// The peer was removed from the room by whoever runs it.
pub const SESSIONSTORE_KICKED: i32 = 223;
/// The room was closed by whoever runs it.
pub const SESSIONSTORE_ROOM_CLOSED: i32 = 224;
/// The room has a session already.
pub const SESSIONSTORE_ROOM_OPEN: i32 = 225;
/// There is no such room, peer or lock.
pub const SESSIONSTORE_NOT_FOUND: i32 = 226;
/// A fault of the library or the server.
pub const SESSIONSTORE_INTERNAL: i32 = 900;
/// The library panicked; the object is not usable any more.
pub const SESSIONSTORE_PANIC: i32 = 901;
/// The system refused a resource: memory, a thread, a descriptor.
pub const SESSIONSTORE_OUT_OF_RESOURCES: i32 = 902;
/// The server answered with a code this version does not know.
pub const SESSIONSTORE_UNKNOWN: i32 = 999;

/// What went wrong: a code, a sentence, and for conflicts what the key holds now.
///
/// Functions that can fail return the code and, if their `error_out` is not NULL, also give an error
/// object, which you free with `sessionstore_error_free`. The object never changes and may be read
/// from any thread.
pub struct sessionstore_error {
    error: Error,
    message: OutText,
    name: OutText,
    current: Option<EventHandle>,
}

impl sessionstore_error {
    pub(super) fn new(error: Error) -> sessionstore_error {
        let current = error.current().map(|change| EventHandle::new(plain(change.clone())));
        sessionstore_error { error, message: OutText::default(), name: OutText::default(), current }
    }
}

/// The code, one of `SESSIONSTORE_…`; 0 for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_error_code(error: *const sessionstore_error) -> i32 {
    // SAFETY: NULL or a live error, as the caller owes.
    getter(SESSIONSTORE_OK, || unsafe { error.as_ref() }.map_or(SESSIONSTORE_OK, |error| error.error.code().number()))
}

/// The code's name, such as `"VALUE_TOO_LARGE"`; `"OK"` for NULL. Lives as long as the error.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_error_name(error: *const sessionstore_error) -> *const c_char {
    getter(c"OK".as_ptr(), || {
        // SAFETY: NULL or a live error, as the caller owes.
        unsafe { error.as_ref() }
            .map_or(c"OK".as_ptr(), |error| error.name.get(error.error.code().name(), std::ptr::null_mut()))
    })
}

/// A sentence for people: what happened and what to do. It holds no value, token or secret. Lives
/// as long as the error; `""` for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_error_message(error: *const sessionstore_error) -> *const c_char {
    getter(c"".as_ptr(), || {
        // SAFETY: NULL or a live error, as the caller owes.
        unsafe { error.as_ref() }
            .map_or(c"".as_ptr(), |error| error.message.get(error.error.message(), std::ptr::null_mut()))
    })
}

/// 1 if the same call may succeed later without being changed, otherwise 0.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_error_is_retryable(error: *const sessionstore_error) -> i32 {
    // SAFETY: NULL or a live error, as the caller owes.
    getter(0, || unsafe { error.as_ref() }.map_or(0, |error| i32::from(error.error.is_retryable())))
}

/// For `SESSIONSTORE_VERSION_CONFLICT`, and for `SESSIONSTORE_CHECK_FAILED` of a key, what the key holds
/// now; for `SESSIONSTORE_LOCK_HELD`, the key that shows who holds the lock; otherwise NULL. Borrowed from
/// the error; `sessionstore_event_retain` keeps it.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_error_current(error: *const sessionstore_error) -> *const sessionstore_event {
    getter(std::ptr::null(), || {
        // SAFETY: NULL or a live error, as the caller owes.
        unsafe { error.as_ref() }.and_then(|error| error.current.as_ref()).map_or(std::ptr::null(), EventHandle::as_ptr)
    })
}

/// Which check of a transaction failed, counted from 0 in the order in which they were added; -1 when it
/// was none.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_error_check(error: *const sessionstore_error) -> i32 {
    // SAFETY: NULL or a live error, as the caller owes.
    unsafe { part(error, Error::check) }
}

/// Which write of a transaction was refused, counted from 0 in the order in which they were added; -1 when
/// it was none.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_error_write(error: *const sessionstore_error) -> i32 {
    // SAFETY: NULL or a live error, as the caller owes.
    unsafe { part(error, Error::write) }
}

/// For `SESSIONSTORE_RATE_LIMITED`, and for a server that is full, how long to wait before trying again, in
/// milliseconds; -1 when the error does not say, and for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_error_retry_after_ms(error: *const sessionstore_error) -> i64 {
    // SAFETY: NULL or a live error, as the caller owes.
    let time = || unsafe { error.as_ref() }.and_then(|error| error.error.retry_after_ms());
    getter(-1, || time().map_or(-1, |time| i64::try_from(time).unwrap_or(i64::MAX)))
}

/// # Safety
/// NULL or a live error.
unsafe fn part(error: *const sessionstore_error, number: fn(&Error) -> Option<usize>) -> i32 {
    // SAFETY: as the caller says.
    let number = || unsafe { error.as_ref() }.and_then(|error| number(&error.error));
    getter(-1, || number().and_then(|number| i32::try_from(number).ok()).unwrap_or(-1))
}

/// Frees an error. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_error_free(error: *mut sessionstore_error) {
    if !error.is_null() {
        // SAFETY: given out by Box::into_raw and not freed before, as the caller owes. Errors are
        // plain memory: a forked child may free its own.
        drop(unsafe { Box::from_raw(error) });
    }
}

/// The name of a code, such as `"VALUE_TOO_LARGE"`; `"UNKNOWN"` for a number that is none. Lives for
/// ever.
#[no_mangle]
pub extern "C" fn sessionstore_code_name(code: i32) -> *const c_char {
    table_text(code, |row| &row.name, c"OK")
}

/// What a code means and what to do, as a sentence. Lives for ever.
#[no_mangle]
pub extern "C" fn sessionstore_code_advice(code: i32) -> *const c_char {
    table_text(code, |row| &row.advice, c"All is well.")
}

struct Row {
    code: ErrorCode,
    name: std::ffi::CString,
    advice: std::ffi::CString,
}

fn table_text(code: i32, column: fn(&Row) -> &std::ffi::CString, ok: &'static std::ffi::CStr) -> *const c_char {
    static TABLE: std::sync::OnceLock<Vec<Row>> = std::sync::OnceLock::new();
    getter(c"".as_ptr(), || {
        if code == SESSIONSTORE_OK {
            return ok.as_ptr();
        }
        let text = |text: &str| std::ffi::CString::new(text).unwrap_or_default();
        let row = |&code: &ErrorCode| Row { code, name: text(code.name()), advice: text(code.advice()) };
        let table = TABLE.get_or_init(|| ErrorCode::ALL.iter().map(row).collect());
        let wanted = ErrorCode::from_number(code).unwrap_or(ErrorCode::Unknown);
        table.iter().find(|row| row.code == wanted).map_or(c"".as_ptr(), |row| column(row).as_ptr())
    })
}
