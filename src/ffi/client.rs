//! `sessionstore_client`

use std::ffi::c_char;
use std::mem::size_of;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::action::{start, wait};
use super::callback::{
    sessionstore_action_result, sessionstore_thread_hooks, sessionstore_update_listener, sessionstore_wake_hook,
    state_number, Taken,
};
use super::error::sessionstore_error;
use super::guard::{call, call_on, clear, forked, getter, give_arc, give_box, needed, release, Guarded};
use super::peer::sessionstore_peer_list;
use super::store::sessionstore_store;
use super::structs::{check_flags, read, Sized32};
use super::text::{optional, required, OutText};
use crate::client::{Action, Client, ClientOptions};
use crate::{Error, ErrorCode};

/// The first join is under way.
pub const SESSIONSTORE_STATE_CONNECTING: i32 = 1;
/// Joined.
pub const SESSIONSTORE_STATE_CONNECTED: i32 = 2;
/// The connection broke and is being made anew; requests wait.
pub const SESSIONSTORE_STATE_RECONNECTING: i32 = 3;
/// Over, for good: the client was freed or left, or the server refused it.
pub const SESSIONSTORE_STATE_CLOSED: i32 = 4;

/// The peer is in the room: it joined, or was there before this client.
pub const SESSIONSTORE_PEER_JOINED: i32 = 1;
/// The peer's name or metadata changed.
pub const SESSIONSTORE_PEER_UPDATED: i32 = 2;
/// The peer left, or its grace period ended.
pub const SESSIONSTORE_PEER_LEFT: i32 = 3;

/// Flag of a client's options: a failure of the very first join closes the client with the error,
/// instead of trying on. For programs that rather end than wait.
pub const SESSIONSTORE_CLIENT_FAIL_FAST: u32 = 1;

const KNOWN_FLAGS: u32 = SESSIONSTORE_CLIENT_FAIL_FAST;

/// How and where to join. Begin with `SESSIONSTORE_CLIENT_OPTIONS_INIT`; what stays 0 or NULL has its
/// default. Texts end with NUL and are copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_client_options {
    /// Set by `SESSIONSTORE_CLIENT_OPTIONS_INIT`.
    pub struct_size: u32,
    /// `SESSIONSTORE_CLIENT_…` flags.
    pub flags: u32,
    /// The server: `ws://host:port`, or `wss://` for TLS; or with a path. The certificate of a server must
    /// always be for the host in the URL. Required.
    pub url: *const c_char,
    /// The room, 1 to 128 bytes. Required unless the token names it.
    pub room: *const c_char,
    /// A JWT for servers that ask for one.
    pub token: *const c_char,
    /// This peer's name, shown to others; at most 256 bytes.
    pub name: *const c_char,
    /// The role asked of an open server; at most 64 bytes. Default `guest`.
    pub role: *const c_char,
    /// The user id told to an open server; at most 128 bytes.
    pub user_id: *const c_char,
    /// This peer's metadata: any text of at most 2,048 bytes.
    pub metadata: *const c_char,
    /// This peer's id, at most 128 bytes, unique in the room. Default: a random UUID.
    pub peer_id: *const c_char,
    /// How long one asynchronous request may take, in milliseconds. Default 10,000.
    pub request_timeout_ms: u32,
    /// How long one attempt to connect may take until the room is joined, in milliseconds; a long list of peers that is
    /// arriving is waited for. Default 10,000.
    pub connect_timeout_ms: u32,
    /// Pause before the first attempt to reconnect, in milliseconds, doubled for each that fails, or
    /// whose connection does not last as long as the pause before it; the actual pause is drawn between half of it and
    /// the whole. Default 250.
    pub reconnect_min_ms: u32,
    /// The longest pause between two attempts, in milliseconds. Default 10,000. It must not be below
    /// `reconnect_min_ms`.
    pub reconnect_max_ms: u32,
    /// After how much silence the server is pinged, in milliseconds; after as much again without an
    /// answer the connection counts as broken. Default 10,000.
    pub heartbeat_ms: u32,
    /// Most requests that may wait for their answers; more are refused with `QUEUE_FULL`. Default
    /// 1,024.
    pub max_pending: u32,
    /// Poll mode if not NULL: the client has no dispatch thread, and callbacks run inside
    /// `sessionstore_client_poll`. The struct is copied and consumed.
    pub wake_hook: *const sessionstore_wake_hook,
    /// If not NULL, the client has a dispatch thread of its own, and these are its hooks. Not together with
    /// `wake_hook`: `INVALID_ARGUMENT`. The struct is copied and consumed.
    pub thread_hooks: *const sessionstore_thread_hooks,
    /// For `wss://`: the authorities to trust instead of the system's, a file in PEM. Like the other files it
    /// is read when the client is opened. NULL: the system's.
    pub ca_file: *const c_char,
    /// The certificate to show to a server that asks for one, a file in PEM. NULL: none.
    pub client_cert_file: *const c_char,
    /// The private key of that certificate, a file in PEM, not encrypted.
    pub client_key_file: *const c_char,
}

// SAFETY: repr(C), beginning with struct_size; integers and pointers.
unsafe impl Sized32 for sessionstore_client_options {
    const FIRST_SIZE: usize = std::mem::offset_of!(sessionstore_client_options, thread_hooks) + size_of::<usize>();
    const NAME: &'static str = "client options";
}

/// A client: one peer in one room.
pub struct sessionstore_client {
    client: Guarded<Client>,
    peer_id: OutText,
}

/// Opens a client and returns at once; it joins in the background and reconnects by itself.
///
/// A client takes about 10 KiB of memory, with callbacks as in poll mode (measured on 64-bit Linux with
/// 1,000 clients in one process that listen to one key each), and no thread unless it has
/// `thread_hooks`: all clients share one network thread and the threads that run callbacks.
///
/// `listener` may be NULL. It and the hooks of the options are consumed, also when the call fails:
/// their `on_drop` is then called before it returns, on this thread.
///
/// Errors: `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `INVALID_UTF8`, `INVALID_URL`,
/// `INVALID_ROOM`, `INVALID_PEER`, `INVALID_ARGUMENT` (also for a file that cannot be used), `UNAUTHORIZED` for what
/// cannot be a token, `OUT_OF_RESOURCES`,
/// `TLS_FAILED` when the URL asks for TLS and the system has no authorities to trust. That the server cannot
/// be reached, or is not trusted, is no error here: the listener hears of it.
///
/// ```c
/// sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
/// options.url = "ws://127.0.0.1:7350";
/// options.room = "lobby";
/// sessionstore_client *client = NULL;
/// if (sessionstore_client_open(&options, NULL, &client, NULL) != SESSIONSTORE_OK) return 1;
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_open(
    options: *const sessionstore_client_options,
    listener: *const sessionstore_update_listener,
    client_out: *mut *mut sessionstore_client,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(client_out);
    // Everything is taken over before anything is checked, so that it is consumed either way.
    // SAFETY: structs as the caller owes.
    let (listener, given) = unsafe { (Taken::take_optional(listener), read(options)) };
    let hooks = given.as_ref().ok().map(|given| {
        // SAFETY: as above.
        unsafe { (Taken::take_optional(given.known.wake_hook), Taken::take_optional(given.known.thread_hooks)) }
    });
    call(error_out, || {
        let given = given?.whole()?;
        needed("client_out", client_out)?;
        // SAFETY: texts as the caller owes.
        let mut options = unsafe { convert(&given) }?;
        if let Some((wake_hook, thread_hooks)) = hooks {
            options.wake = wake_hook?.map(Taken::hook);
            options.thread_hooks = thread_hooks?.map(Taken::hooks);
        }
        let client = match listener? {
            Some(listener) => Client::open(options, listener),
            None => Client::open(options, ()),
        }?;
        let peer_id = OutText::new(client.peer_id());
        give_box(sessionstore_client { client: Guarded::new(client), peer_id }, client_out)
    })
}

/// # Safety
/// The texts are NULL or end with NUL.
unsafe fn convert(given: &sessionstore_client_options) -> Result<ClientOptions, Error> {
    check_flags::<sessionstore_client_options>(given.flags, KNOWN_FLAGS)?;
    if given.url.is_null() {
        return Err(Error::new(ErrorCode::NullArgument, "the url is NULL"));
    }
    // SAFETY: as the caller says.
    let text = |what, text| unsafe { optional(what, text) }.map(str::to_owned);
    let mut options = ClientOptions::new(text("url", given.url)?, text("room", given.room)?);
    options.token = if given.token.is_null() { None } else { Some(text("token", given.token)?) };
    options.name = text("name", given.name)?;
    options.role = text("role", given.role)?;
    options.user_id = text("user_id", given.user_id)?;
    options.metadata = text("metadata", given.metadata)?;
    options.peer_id = text("peer_id", given.peer_id)?;
    let or = |given: u32, default: u64| if given == 0 { default } else { u64::from(given) };
    options.request_timeout_ms = or(given.request_timeout_ms, options.request_timeout_ms);
    options.connect_timeout_ms = or(given.connect_timeout_ms, options.connect_timeout_ms);
    options.reconnect_min_ms = or(given.reconnect_min_ms, options.reconnect_min_ms);
    options.reconnect_max_ms = or(given.reconnect_max_ms, options.reconnect_max_ms);
    options.heartbeat_ms = or(given.heartbeat_ms, options.heartbeat_ms);
    options.max_pending = or(given.max_pending, options.max_pending as u64) as usize;
    let path = |what, file| text(what, file).map(|path| (!path.is_empty()).then(|| PathBuf::from(path)));
    options.ca_file = path("ca_file", given.ca_file)?;
    options.client_cert_file = path("client_cert_file", given.client_cert_file)?;
    options.client_key_file = path("client_key_file", given.client_key_file)?;
    options.fail_fast = given.flags & SESSIONSTORE_CLIENT_FAIL_FAST != 0;
    Ok(options)
}

/// Waits until the room is joined and gives its store, to be freed with `sessionstore_store_free`.
///
/// Errors: `WOULD_DEADLOCK` inside a callback; `CLOSED`, or the reason for which the client closed,
/// such as `UNAUTHORIZED`; when the time runs out, the last failure to connect (`HOST_NOT_FOUND`,
/// `CONNECTION_FAILED`, …) or `TIMEOUT`. The client goes on trying.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_join_wait(
    client: *const sessionstore_client,
    timeout_ms: u32,
    store_out: *mut *mut sessionstore_store,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(store_out);
    // SAFETY: NULL or a live client, as the caller owes.
    call_on(unsafe { guarded(client) }, error_out, |client| {
        needed("store_out", store_out)?;
        let store = client.join_wait(Duration::from_millis(timeout_ms.into()))?;
        give_arc(Arc::new(sessionstore_store::new(store)), store_out)
    })
}

/// Where the client stands: one of `SESSIONSTORE_STATE_…`; `SESSIONSTORE_STATE_CLOSED` for NULL and in
/// a forked child.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_state(client: *const sessionstore_client) -> i32 {
    getter(SESSIONSTORE_STATE_CLOSED, || {
        // In a child the lock could have been held at the fork.
        if forked() {
            return SESSIONSTORE_STATE_CLOSED;
        }
        // SAFETY: NULL or a live client, as the caller owes.
        unsafe { guarded(client) }.map_or(SESSIONSTORE_STATE_CLOSED, |client| state_number(client.get().state()))
    })
}

/// This peer's id. Lives as long as the client; `""` for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_peer_id(client: *const sessionstore_client) -> *const c_char {
    getter(c"".as_ptr(), || {
        // SAFETY: NULL or a live client, as the caller owes.
        let client = unsafe { client.as_ref() };
        client.map_or(c"".as_ptr(), |c| c.peer_id.get(c.client.get().peer_id(), std::ptr::null_mut()))
    })
}

/// Gives everybody in the room as this client knows it, itself included, in the order of their ids.
/// Free the list with `sessionstore_peer_list_free`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_peers(
    client: *const sessionstore_client,
    list_out: *mut *mut sessionstore_peer_list,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(list_out);
    // SAFETY: NULL or a live client, as the caller owes.
    call_on(unsafe { guarded(client) }, error_out, |client| {
        give_box(sessionstore_peer_list::new(client.peers()), list_out)
    })
}

/// Changes this peer's name, its metadata, or both; what is NULL with length 0 stays. `result` may be
/// NULL.
///
/// Errors: `INVALID_PEER`, `INVALID_UTF8`, `NULL_ARGUMENT`, `CLOSED`, `QUEUE_FULL`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_update_peer(
    client: *const sessionstore_client,
    name: *const c_char,
    name_len: usize,
    metadata: *const c_char,
    metadata_len: usize,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: texts as the caller owes.
    let ask = |client: &Client| unsafe { peer_update(client, name, name_len, metadata, metadata_len) };
    // SAFETY: NULL or a live client, and a struct, as the caller owes.
    unsafe { start(guarded(client), result, error_out, ask) }
}

/// The same, waiting for the result. Further errors: those of the request; `WOULD_DEADLOCK` inside a
/// callback; `TIMEOUT`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_update_peer_wait(
    client: *const sessionstore_client,
    name: *const c_char,
    name_len: usize,
    metadata: *const c_char,
    metadata_len: usize,
    timeout_ms: u32,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: texts as the caller owes.
    let ask = |client: &Client| unsafe { peer_update(client, name, name_len, metadata, metadata_len) };
    // SAFETY: NULL or a live client, as the caller owes.
    wait(unsafe { guarded(client) }, timeout_ms, error_out, ask, Ok)
}

/// Hands in a fresh token before the old one expires, without a break: for the same room and user, maybe
/// with another role, which counts from then on. Once the server has taken it the client connects with it;
/// while the connection is broken, as soon as the server refuses the old one, also where this has ended with
/// `TIMEOUT` by then. `result` may be NULL.
///
/// Errors of the call: `UNAUTHORIZED` for what cannot be a token, `INVALID_UTF8`, `NULL_ARGUMENT`, `CLOSED`,
/// `QUEUE_FULL`. Errors of the request: `UNAUTHORIZED`, `TOKEN_EXPIRED`, after which the old token counts;
/// `INVALID_ARGUMENT` when the server is open.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_renew_token(
    client: *const sessionstore_client,
    token: *const c_char,
    token_len: usize,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live client, a text and a struct, as the caller owes.
    unsafe {
        start(guarded(client), result, error_out, |client| Ok(client.renew_token(required("token", token, token_len)?)))
    }
}

/// The same, waiting for the result. Further errors: `WOULD_DEADLOCK` inside a callback; `TIMEOUT`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_renew_token_wait(
    client: *const sessionstore_client,
    token: *const c_char,
    token_len: usize,
    timeout_ms: u32,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a text as the caller owes.
    let ask = |client: &Client| Ok(client.renew_token(unsafe { required("token", token, token_len) }?));
    // SAFETY: NULL or a live client, as the caller owes.
    wait(unsafe { guarded(client) }, timeout_ms, error_out, ask, Ok)
}

/// Leaves the room: everybody is told at once, instead of after the grace period, and the client
/// closes. `result` may be NULL; it comes before the client's last callback. Without a connection, or
/// when it breaks and the next cannot be made at once, that is all there is to do: the others are told
/// after the grace period.
///
/// Errors: `CLOSED`, `QUEUE_FULL`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_leave(
    client: *const sessionstore_client,
    result: *const sessionstore_action_result,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live client, and a struct, as the caller owes.
    unsafe { start(guarded(client), result, error_out, |client| Ok(client.leave())) }
}

/// The same, waiting until the server has taken the leave. Further errors: `WOULD_DEADLOCK` inside a
/// callback; `TIMEOUT`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_leave_wait(
    client: *const sessionstore_client,
    timeout_ms: u32,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live client, as the caller owes.
    wait(unsafe { guarded(client) }, timeout_ms, error_out, |client| Ok(client.leave()), Ok)
}

/// Poll mode: runs waiting callbacks on this thread, at most `most` of them (0: all that wait), and
/// writes how many ran to `ran_out`, which may be NULL. If some are left, the wake hook is called
/// again.
///
/// Errors: `WRONG_MODE` without poll mode; `WOULD_DEADLOCK` inside a callback; `BUSY` while another
/// thread polls this client.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_poll(
    client: *const sessionstore_client,
    most: usize,
    ran_out: *mut usize,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live client, as the caller owes. A callback may free the client: nothing here
    // touches it after the poll but what the poll itself keeps alive.
    let client = match unsafe { guarded(client) } {
        Some(client) => client,
        None => return call_on(None::<&Guarded<()>>, error_out, |()| Ok(())),
    };
    let polled = client.get().polled();
    call(error_out, || {
        let ran = polled.poll(if most == 0 { usize::MAX } else { most })?;
        if !ran_out.is_null() {
            // SAFETY: not NULL, and the caller gave it as the place of one size.
            unsafe { ran_out.write(ran) };
        }
        Ok(())
    })
}

/// Frees a client. It leaves the room in the background; requests that wait end with `CLOSED`, then
/// every listener's `on_drop` is called and at last the update listener's. The store may be freed
/// before or after. A program that ends right after this calls `sessionstore_client_leave_wait` first:
/// otherwise the process may be gone before the leave is said, and the peer stays in the room for the
/// grace period.
///
/// It never blocks and is legal anywhere, inside this client's callbacks too. In poll mode the last
/// callbacks run inside this call, or, when it is made inside a callback or while another thread
/// polls, inside that poll. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_client_free(client: *mut sessionstore_client) {
    if !client.is_null() {
        // SAFETY: given out by Box::into_raw and not freed before, as the caller owes.
        release(|| drop(unsafe { Box::from_raw(client) }));
    }
}

/// # Safety
/// NULL or a live client.
unsafe fn guarded<'a>(client: *const sessionstore_client) -> Option<&'a Guarded<Client>> {
    // SAFETY: as the caller says.
    unsafe { client.as_ref() }.map(|client| &client.client)
}

/// # Safety
/// Texts as for `required`.
unsafe fn peer_update(
    client: &Client,
    name: *const c_char,
    name_len: usize,
    metadata: *const c_char,
    metadata_len: usize,
) -> Result<Action<()>, Error> {
    // SAFETY: as the caller says.
    let (name, metadata) = unsafe { (changed("name", name, name_len)?, changed("metadata", metadata, metadata_len)?) };
    Ok(client.update_peer(name, metadata))
}

/// # Safety
/// A text as for `required`.
unsafe fn changed<'a>(what: &str, text: *const c_char, length: usize) -> Result<Option<&'a str>, Error> {
    if text.is_null() && length == 0 {
        return Ok(None);
    }
    // SAFETY: as the caller says.
    unsafe { required(what, text, length) }.map(Some)
}
