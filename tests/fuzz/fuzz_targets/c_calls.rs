//! Sequences of calls of the C API, against a server in the same process. Whatever is called in
//! whatever order, every callback struct's `on_drop` comes exactly once and nothing is called after
//! it; the sanitizer watches the memory.
#![no_main]

use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sessionstore::ffi::callback::*;
use sessionstore::ffi::client::*;
use sessionstore::ffi::error::*;
use sessionstore::ffi::event::*;
use sessionstore::ffi::peer::*;
use sessionstore::ffi::store::*;
use sessionstore::ffi::subscription::*;
use sessionstore::ffi::value::*;
use sessionstore::{Server, ServerOptions};

/// One for each callback struct given away. Never freed, so that a call that comes too late is
/// seen rather than a crash.
struct Context {
    dropped: AtomicUsize,
}

static ALIVE: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Where the leak checker finds them.
static CONTEXTS: Mutex<Vec<&'static Context>> = Mutex::new(Vec::new());

fn context() -> *mut c_void {
    *ALIVE.0.lock().unwrap() += 1;
    let context: &'static Context = Box::leak(Box::new(Context { dropped: AtomicUsize::new(0) }));
    CONTEXTS.lock().unwrap().push(context);
    (context as *const Context).cast_mut().cast()
}

unsafe fn used(ctx: *mut c_void) {
    assert_eq!(unsafe { &*ctx.cast::<Context>() }.dropped.load(Ordering::SeqCst), 0, "called after on_drop");
}

unsafe extern "C" fn on_drop(ctx: *mut c_void) {
    let before = unsafe { &*ctx.cast::<Context>() }.dropped.fetch_add(1, Ordering::SeqCst);
    assert_eq!(before, 0, "on_drop came twice");
    *ALIVE.0.lock().unwrap() -= 1;
    ALIVE.1.notify_all();
}

unsafe extern "C" fn on_ctx(ctx: *mut c_void) {
    unsafe { used(ctx) };
}

unsafe extern "C" fn on_store(ctx: *mut c_void, store: *const sessionstore_store) {
    unsafe {
        used(ctx);
        sessionstore_store_free(sessionstore_store_retain(store));
    }
}

unsafe extern "C" fn on_state(ctx: *mut c_void, _: i32, error: *const sessionstore_error) {
    unsafe {
        used(ctx);
        assert!(!sessionstore_error_message(error).is_null());
    }
}

unsafe extern "C" fn on_peer(ctx: *mut c_void, _: i32, peer: *const sessionstore_peer) {
    unsafe {
        used(ctx);
        assert!(!sessionstore_peer_id(peer, null_mut()).is_null());
        sessionstore_peer_free(sessionstore_peer_retain(peer));
    }
}

unsafe extern "C" fn on_error(ctx: *mut c_void, error: *const sessionstore_error) {
    unsafe {
        used(ctx);
        assert_ne!(sessionstore_error_code(error), SESSIONSTORE_OK);
    }
}

unsafe extern "C" fn on_event(ctx: *mut c_void, event: *const sessionstore_event) {
    unsafe {
        used(ctx);
        let mut length = 0;
        assert!(!sessionstore_event_json(event, &mut length).is_null());
        assert!(length > 0);
        sessionstore_event_free(sessionstore_event_retain(event));
    }
}

unsafe extern "C" fn on_result(ctx: *mut c_void, _: *const sessionstore_error, _: *const sessionstore_event) {
    unsafe { used(ctx) };
}

fn update_listener() -> sessionstore_update_listener {
    sessionstore_update_listener {
        struct_size: size_of::<sessionstore_update_listener>() as u32,
        flags: 0,
        ctx: context(),
        on_drop: Some(on_drop),
        on_store_available: Some(on_store),
        on_connection_state: Some(on_state),
        on_peer: Some(on_peer),
        on_error: Some(on_error),
    }
}

fn listener(flags: u32) -> sessionstore_key_change_listener {
    sessionstore_key_change_listener {
        struct_size: size_of::<sessionstore_key_change_listener>() as u32,
        flags,
        ctx: context(),
        on_drop: Some(on_drop),
        on_key_changed: Some(on_event),
        on_snapshot_end: Some(on_ctx),
        on_refused: Some(on_error),
    }
}

fn action_result() -> sessionstore_action_result {
    let struct_size = size_of::<sessionstore_action_result>() as u32;
    let on_result = Some(on_result as unsafe extern "C" fn(_, _, _));
    sessionstore_action_result { struct_size, flags: 0, ctx: context(), on_drop: Some(on_drop), on_result }
}

fn wake_hook() -> sessionstore_wake_hook {
    let struct_size = size_of::<sessionstore_wake_hook>() as u32;
    sessionstore_wake_hook { struct_size, flags: 0, ctx: context(), on_drop: Some(on_drop), on_wake: Some(on_ctx) }
}

fn url() -> &'static std::ffi::CStr {
    static SERVER: OnceLock<(Server, std::ffi::CString)> = OnceLock::new();
    let start = || {
        let server = Server::start(ServerOptions { threads: 1, ..ServerOptions::default() }).unwrap();
        let url = std::ffi::CString::new(server.url()).unwrap();
        (server, url)
    };
    &SERVER.get_or_init(start).1
}

/// What the sequence holds; few of each, so that they meet.
#[derive(Default)]
struct Held {
    clients: Vec<*mut sessionstore_client>,
    stores: Vec<*mut sessionstore_store>,
    subscriptions: Vec<*mut sessionstore_subscription>,
    events: Vec<*mut sessionstore_event>,
    values: Vec<*mut sessionstore_value>,
    errors: Vec<*mut sessionstore_error>,
}

/// One of them, or NULL.
fn pick<T>(held: &[*mut T], byte: u8) -> *mut T {
    held.get(usize::from(byte) % (held.len() + 1)).copied().unwrap_or(null_mut())
}

fn take<T>(held: &mut Vec<*mut T>, byte: u8) -> *mut T {
    if held.is_empty() {
        return null_mut();
    }
    held.swap_remove(usize::from(byte) % held.len())
}

fn keep<T>(held: &mut Vec<*mut T>, one: *mut T) {
    if !one.is_null() {
        held.push(one);
    }
}

/// A text of the input: its first byte says how long it is.
fn text<'a>(input: &mut &'a [u8]) -> (*const c_char, usize) {
    let Some((&length, rest)) = input.split_first() else { return (null(), 0) };
    let length = usize::from(length % 24).min(rest.len());
    let (text, rest) = rest.split_at(length);
    *input = rest;
    (if length == 0 { null() } else { text.as_ptr().cast() }, length)
}

fn byte(input: &mut &[u8]) -> u8 {
    input.split_first().map_or(0, |(&byte, rest)| {
        *input = rest;
        byte
    })
}

unsafe fn open(held: &mut Held, how: u8) {
    let wake = (how & 1 != 0).then(wake_hook);
    let mut options: sessionstore_client_options = unsafe { std::mem::zeroed() };
    options.struct_size = size_of::<sessionstore_client_options>() as u32;
    options.flags = u32::from(how >> 4);
    options.url = url().as_ptr();
    options.room = if how & 2 != 0 { c"one".as_ptr() } else { c"other".as_ptr() };
    options.wake_hook = wake.as_ref().map_or(null(), |wake| wake);
    let listener = (how & 4 != 0).then(update_listener);
    let (mut client, mut error) = (null_mut(), null_mut());
    unsafe {
        sessionstore_client_open(&options, listener.as_ref().map_or(null(), |l| l), &mut client, &mut error);
    }
    keep(&mut held.clients, client);
    keep(&mut held.errors, error);
}

unsafe fn step(held: &mut Held, input: &mut &[u8]) {
    let (what, which) = (byte(input), byte(input));
    let (store, client) = (pick(&held.stores, which), pick(&held.clients, which));
    let mut error = null_mut();
    let result = (what & 0x80 != 0).then(action_result);
    let result = result.as_ref().map_or(null(), |result| result as *const _);
    let (mut event, mut value) = (null_mut(), null_mut());
    unsafe {
        match what & 0x1f {
            0 if held.clients.len() < 3 => open(held, which),
            1 => {
                let mut joined = null_mut();
                sessionstore_client_join_wait(client, 50, &mut joined, &mut error);
                keep(&mut held.stores, joined);
            }
            2 => {
                let ((key, key_len), (json, json_len)) = (text(input), text(input));
                sessionstore_store_set(store, key, key_len, json, json_len, result, &mut error);
            }
            3 => {
                let ((key, key_len), (plain, length)) = (text(input), text(input));
                sessionstore_store_set_string_wait(store, key, key_len, plain, length, 20, &mut event, &mut error);
            }
            4 => {
                let (key, key_len) = text(input);
                sessionstore_store_remove(store, key, key_len, result, &mut error);
            }
            5 => {
                let (key, key_len) = text(input);
                sessionstore_store_get(store, key, key_len, result, null_mut());
            }
            6 => {
                let (key, key_len) = text(input);
                sessionstore_store_cached(store, key, key_len, &mut event, &mut error);
            }
            7 => {
                let texts = [text(input), text(input)];
                let (keys, lengths) = (texts.map(|text| text.0), texts.map(|text| text.1));
                let (listener, mut subscription) = (listener(u32::from(what >> 7)), null_mut());
                let count = usize::from(which % 3);
                let out = if which & 0x40 != 0 { null_mut() } else { &mut subscription };
                sessionstore_store_listen(store, keys.as_ptr(), lengths.as_ptr(), count, &listener, out, &mut error);
                keep(&mut held.subscriptions, subscription);
            }
            8 => drop(sessionstore_subscription_cancel(pick(&held.subscriptions, which), &mut error)),
            9 => drop(sessionstore_subscription_cancel_wait(pick(&held.subscriptions, which), 1_000, &mut error)),
            10 => sessionstore_subscription_free(take(&mut held.subscriptions, which)),
            11 => keep(&mut held.stores, sessionstore_store_retain(store)),
            12 => sessionstore_store_free(take(&mut held.stores, which)),
            13 => sessionstore_client_free(take(&mut held.clients, which)),
            14 => {
                let mut ran = 0;
                sessionstore_client_poll(client, usize::from(what >> 5), &mut ran, &mut error);
            }
            15 => drop(sessionstore_client_leave(client, result, &mut error)),
            16 => {
                let ((name, name_len), (data, data_len)) = (text(input), text(input));
                sessionstore_client_update_peer(client, name, name_len, data, data_len, result, &mut error);
            }
            17 => {
                let mut list = null_mut();
                sessionstore_client_peers(client, &mut list, &mut error);
                sessionstore_peer_list_get(list, usize::from(which));
                sessionstore_peer_list_free(list);
            }
            18 => {
                let (json, json_len) = text(input);
                sessionstore_value_from_json(json, json_len, &mut value, &mut error);
            }
            19 => drop(sessionstore_value_from_number(f64::from(which) / 3.0, &mut value, &mut error)),
            20 => {
                let (mut plain, mut length, mut number, mut integer) = (null(), 0, 0.0, 0);
                let value = pick(&held.values, which);
                sessionstore_value_get_string(value, &mut plain, &mut length, null_mut());
                sessionstore_value_get_number(value, &mut number, null_mut());
                sessionstore_value_get_integer(value, &mut integer, &mut error);
                assert!(!sessionstore_value_json(value, &mut length).is_null());
            }
            21 => sessionstore_value_free(take(&mut held.values, which)),
            22 => {
                keep(&mut held.values, sessionstore_value_retain(sessionstore_event_value(pick(&held.events, which))))
            }
            23 => sessionstore_event_free(take(&mut held.events, which)),
            24 => sessionstore_error_free(take(&mut held.errors, which)),
            25 => drop((sessionstore_client_state(client), sessionstore_client_peer_id(client))),
            _ => {}
        }
        // What was not handed to a call is still ours.
        if !matches!(what & 0x1f, 2 | 4 | 5 | 15 | 16) && !result.is_null() {
            on_drop((*result).ctx);
        }
    }
    keep(&mut held.events, event);
    keep(&mut held.values, value);
    keep(&mut held.errors, error);
}

fuzz_target!(|data: &[u8]| {
    let (mut input, mut held) = (data, Held::default());
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        unsafe { step(&mut held, &mut input) };
    }
    let order = data.len() % 2;
    unsafe {
        let free_clients = |held: &mut Held| held.clients.drain(..).for_each(|c| sessionstore_client_free(c));
        if order == 0 {
            free_clients(&mut held);
        }
        held.subscriptions.drain(..).for_each(|one| sessionstore_subscription_free(one));
        held.stores.drain(..).for_each(|one| sessionstore_store_free(one));
        held.events.drain(..).for_each(|one| sessionstore_event_free(one));
        held.values.drain(..).for_each(|one| sessionstore_value_free(one));
        held.errors.drain(..).for_each(|one| sessionstore_error_free(one));
        free_clients(&mut held);
    }
    let alive = ALIVE.0.lock().unwrap();
    let (alive, waited) = ALIVE.1.wait_timeout_while(alive, Duration::from_secs(9), |alive| *alive > 0).unwrap();
    assert!(!waited.timed_out(), "{} contexts were not dropped", *alive);
});
