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
use sessionstore::ffi::cancellation::*;
use sessionstore::ffi::client::*;
use sessionstore::ffi::error::*;
use sessionstore::ffi::event::*;
use sessionstore::ffi::event_list::*;
use sessionstore::ffi::lock::*;
use sessionstore::ffi::peer::*;
use sessionstore::ffi::select::*;
use sessionstore::ffi::set::*;
use sessionstore::ffi::store::*;
use sessionstore::ffi::subscription::*;
use sessionstore::ffi::transaction::*;
use sessionstore::ffi::update::*;
use sessionstore::ffi::value::*;
use sessionstore::ffi::write::*;
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

unsafe extern "C" fn on_list(ctx: *mut c_void, error: *const sessionstore_error, list: *const sessionstore_event_list) {
    unsafe {
        used(ctx);
        assert_ne!(error.is_null(), list.is_null());
        assert!(sessionstore_event_list_get(list, sessionstore_event_list_count(list)).is_null());
        sessionstore_event_list_free(sessionstore_event_list_retain(list));
    }
}

unsafe extern "C" fn on_keys(ctx: *mut c_void, error: *const sessionstore_error, keys: *const sessionstore_key_list) {
    unsafe {
        used(ctx);
        assert_ne!(error.is_null(), keys.is_null());
        assert!(sessionstore_key_list_get(keys, sessionstore_key_list_count(keys), null_mut()).is_null());
        sessionstore_key_list_free(sessionstore_key_list_retain(keys));
    }
}

unsafe extern "C" fn on_usage(ctx: *mut c_void, error: *const sessionstore_error, usage: *const sessionstore_usage) {
    unsafe { used(ctx) };
    assert_ne!(error.is_null(), usage.is_null());
}

unsafe extern "C" fn on_lock(ctx: *mut c_void, error: *const sessionstore_error, lock: *const sessionstore_lock) {
    unsafe {
        used(ctx);
        assert_ne!(error.is_null(), lock.is_null());
        sessionstore_lock_free(sessionstore_lock_retain(lock));
    }
}

/// Doubles what is there, or leaves it when it is not a number.
unsafe extern "C" fn on_update(ctx: *mut c_void, current: *const sessionstore_event) -> *mut sessionstore_value {
    let (mut number, mut doubled) = (1, null_mut());
    unsafe {
        used(ctx);
        sessionstore_value_get_integer(sessionstore_event_value(current), &mut number, null_mut());
        sessionstore_value_from_integer(number.wrapping_mul(2), &mut doubled, null_mut());
    }
    doubled
}

unsafe extern "C" fn on_expiring(ctx: *mut c_void, _: u64) {
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
        on_token_expiring: Some(on_expiring),
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

/// A callback struct whose only callback is named.
macro_rules! callbacks {
    ($name:ident { $member:ident: $callback:expr $(, $more:ident)? }) => {
        $name {
            struct_size: size_of::<$name>() as u32,
            flags: 0,
            ctx: context(),
            on_drop: Some(on_drop),
            $member: Some($callback),
            $($more,)?
        }
    };
}

type By = *const sessionstore_cancellation;

fn action_result(cancellation: By) -> sessionstore_action_result {
    callbacks!(sessionstore_action_result { on_result: on_result, cancellation })
}

fn list_result(cancellation: By) -> sessionstore_event_list_result {
    callbacks!(sessionstore_event_list_result { on_result: on_list, cancellation })
}

fn key_list_result(cancellation: By) -> sessionstore_key_list_result {
    callbacks!(sessionstore_key_list_result { on_result: on_keys, cancellation })
}

fn usage_result(cancellation: By) -> sessionstore_usage_result {
    callbacks!(sessionstore_usage_result { on_result: on_usage, cancellation })
}

fn lock_result(cancellation: By) -> sessionstore_lock_result {
    callbacks!(sessionstore_lock_result { on_result: on_lock, cancellation })
}

fn lock_listener() -> sessionstore_lock_listener {
    callbacks!(sessionstore_lock_listener { on_lost: on_error })
}

fn updater() -> sessionstore_updater {
    callbacks!(sessionstore_updater { on_update: on_update })
}

fn wake_hook() -> sessionstore_wake_hook {
    callbacks!(sessionstore_wake_hook { on_wake: on_ctx })
}

fn pointer<T>(one: &Option<T>) -> *const T {
    one.as_ref().map_or(null(), |one| one)
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
    locks: Vec<*mut sessionstore_lock>,
    transactions: Vec<*mut sessionstore_transaction>,
    cancellations: Vec<*mut sessionstore_cancellation>,
    lists: Vec<*mut sessionstore_event_list>,
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
fn text(input: &mut &[u8]) -> (*const c_char, usize) {
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
    options.wake_hook = pointer(&wake);
    let listener = (how & 4 != 0).then(update_listener);
    let (mut client, mut error) = (null_mut(), null_mut());
    unsafe {
        sessionstore_client_open(&options, pointer(&listener), &mut client, &mut error);
    }
    keep(&mut held.clients, client);
    keep(&mut held.errors, error);
}

/// Options of a write; most are meaningful.
fn write_options(held: &Held, input: &mut &[u8]) -> sessionstore_write_options {
    let mut options: sessionstore_write_options = unsafe { std::mem::zeroed() };
    options.struct_size = size_of::<sessionstore_write_options>() as u32;
    options.flags = u32::from(byte(input) % 64);
    (options.if_version, options.ttl_ms) = (u64::from(byte(input)), u64::from(byte(input)));
    options.cap = u64::from(byte(input) % 4);
    options.lock = pick(&held.locks, byte(input));
    options
}

unsafe fn step(held: &mut Held, input: &mut &[u8]) {
    let (what, which) = (byte(input), byte(input));
    let (store, client) = (pick(&held.stores, which), pick(&held.clients, which));
    let mut error = null_mut();
    let with = what & 0x80 != 0;
    // What takes the request back, if anything.
    let by: By = if which & 2 != 0 { pick(&held.cancellations, which >> 2) } else { null() };
    let result = || with.then(|| action_result(by));
    let (mut event, mut value) = (null_mut(), null_mut());
    unsafe {
        match what & 0x3f {
            0 if held.clients.len() < 3 => open(held, which),
            1 => {
                let mut joined = null_mut();
                sessionstore_client_join_wait(client, 50, &mut joined, &mut error);
                keep(&mut held.stores, joined);
            }
            2 => {
                let ((key, key_len), (json, json_len)) = (text(input), text(input));
                sessionstore_store_set(store, key, key_len, json, json_len, pointer(&result()), &mut error);
            }
            3 => {
                let ((key, key_len), (plain, length)) = (text(input), text(input));
                sessionstore_store_set_string_wait(store, key, key_len, plain, length, 20, &mut event, &mut error);
            }
            4 => {
                let (key, key_len) = text(input);
                sessionstore_store_remove(store, key, key_len, pointer(&result()), &mut error);
            }
            5 => {
                let (key, key_len) = text(input);
                sessionstore_store_get(store, key, key_len, pointer(&result()), null_mut());
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
            15 => drop(sessionstore_client_leave(client, pointer(&result()), &mut error)),
            16 => {
                let ((name, name_len), (data, data_len)) = (text(input), text(input));
                let result = result();
                sessionstore_client_update_peer(client, name, name_len, data, data_len, pointer(&result), &mut error);
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
            26 => {
                let ((key, key_len), (json, json_len)) = (text(input), text(input));
                let (options, operation) = (write_options(held, input), i32::from(which % 9));
                let (result, options) = (result(), if with { &options } else { null() });
                sessionstore_store_write(
                    store,
                    key,
                    key_len,
                    operation,
                    json,
                    json_len,
                    options,
                    pointer(&result),
                    &mut error,
                );
            }
            27 => {
                let (key, key_len) = text(input);
                sessionstore_store_add_wait(store, key, key_len, i64::from(which), 20, &mut event, &mut error);
            }
            28 => {
                let ((key, key_len), result, with) = (text(input), result(), (which != 0).then(updater));
                sessionstore_store_update(store, key, key_len, pointer(&with), pointer(&result), &mut error);
            }
            29 => {
                let ((key, key_len), updater) = (text(input), updater());
                sessionstore_store_update_wait(store, key, key_len, &updater, 20, &mut event, &mut error);
            }
            30 | 31 => {
                let (name, name_len) = text(input);
                let (listener, mut lock) = (with.then(lock_listener), null_mut());
                let mut options: sessionstore_lock_options = std::mem::zeroed();
                options.struct_size = size_of::<sessionstore_lock_options>() as u32;
                options.wait_ms = u32::from(which) * 4;
                if what & 1 == 0 {
                    let result = (which != 0).then(|| lock_result(by));
                    let (listener, result) = (pointer(&listener), pointer(&result));
                    sessionstore_store_lock(store, name, name_len, &options, listener, result, &mut error);
                } else {
                    let listener = pointer(&listener);
                    sessionstore_store_lock_wait(store, name, name_len, &options, listener, 20, &mut lock, &mut error);
                }
                keep(&mut held.locks, lock);
            }
            32 => {
                let (lock, result) = (pick(&held.locks, which), result());
                sessionstore_lock_release(lock, pointer(&result), &mut error);
            }
            33 => drop(sessionstore_lock_release_wait(pick(&held.locks, which), 20, &mut error)),
            34 => sessionstore_lock_free(take(&mut held.locks, which)),
            35 => {
                let (lock, mut length) = (pick(&held.locks, which), 0);
                assert!(!sessionstore_lock_name(lock, &mut length).is_null());
                assert_eq!(length == 0, lock.is_null());
                assert_eq!(sessionstore_lock_token(lock) == 0, lock.is_null());
                sessionstore_lock_is_held(lock);
                keep(&mut held.locks, sessionstore_lock_retain(lock));
            }
            36 => {
                let mut transaction = null_mut();
                sessionstore_transaction_new(&mut transaction, &mut error);
                keep(&mut held.transactions, transaction);
            }
            37 => {
                let (transaction, (key, key_len)) = (pick(&held.transactions, which), text(input));
                match byte(input) % 5 {
                    0 => {
                        sessionstore_transaction_check_version(transaction, key, key_len, u64::from(which), &mut error)
                    }
                    1 => sessionstore_transaction_check_exists(transaction, key, key_len, &mut error),
                    2 => sessionstore_transaction_check_absent(transaction, key, key_len, &mut error),
                    3 => {
                        let (json, length) = text(input);
                        sessionstore_transaction_check_equals(transaction, key, key_len, json, length, &mut error)
                    }
                    _ => sessionstore_transaction_check_lock(transaction, pick(&held.locks, which), &mut error),
                };
            }
            38 => {
                let (transaction, (key, key_len)) = (pick(&held.transactions, which), text(input));
                let ((json, json_len), options) = (text(input), write_options(held, input));
                let (options, operation) = (if with { &options } else { null() }, i32::from(which % 9));
                sessionstore_transaction_write(
                    transaction,
                    key,
                    key_len,
                    operation,
                    json,
                    json_len,
                    options,
                    &mut error,
                );
            }
            39 => {
                let (transaction, result) = (pick(&held.transactions, which), with.then(|| list_result(by)));
                sessionstore_store_transact(store, transaction, pointer(&result), &mut error);
            }
            40 => {
                let (transaction, mut list) = (pick(&held.transactions, which), null_mut());
                sessionstore_store_transact_wait(store, transaction, 20, &mut list, &mut error);
                keep(&mut held.lists, list);
            }
            41 => sessionstore_transaction_free(take(&mut held.transactions, which)),
            42..=44 => {
                let texts = [text(input), text(input), text(input)];
                let (parts, lengths) = (texts.map(|text| text.0), texts.map(|text| text.1));
                let mut selector: sessionstore_selector = std::mem::zeroed();
                selector.struct_size = size_of::<sessionstore_selector>() as u32;
                selector.flags = u32::from(with);
                (selector.keys, selector.key_lens) = (parts.as_ptr(), lengths.as_ptr());
                selector.key_count = usize::from(which % 3);
                (selector.prefixes, selector.prefix_lens) = (parts[1..].as_ptr(), lengths[1..].as_ptr());
                selector.prefix_count = usize::from(which / 3 % 3);
                match what & 0x3f {
                    42 => {
                        let (listener, mut subscription) = (listener(0), null_mut());
                        sessionstore_store_listen_to(store, &selector, &listener, &mut subscription, &mut error);
                        keep(&mut held.subscriptions, subscription);
                    }
                    43 => {
                        let result = (which != 0).then(|| list_result(by));
                        sessionstore_store_read(store, &selector, pointer(&result), &mut error);
                    }
                    _ => {
                        let mut list = null_mut();
                        sessionstore_store_read_wait(store, &selector, 20, &mut list, &mut error);
                        keep(&mut held.lists, list);
                    }
                }
            }
            45 => {
                let ((prefix, length), result) = (text(input), (which != 0).then(|| key_list_result(by)));
                sessionstore_store_keys(store, prefix, length, pointer(&result), &mut error);
            }
            46 => {
                let result = (which != 0).then(|| usage_result(by));
                sessionstore_store_usage(store, pointer(&result), &mut error);
            }
            47 => {
                let list = take(&mut held.lists, which);
                for at in 0..sessionstore_event_list_count(list) {
                    keep(&mut held.events, sessionstore_event_retain(sessionstore_event_list_get(list, at)));
                }
                sessionstore_event_list_free(list);
            }
            48 => {
                let error = pick(&held.errors, which);
                assert!(sessionstore_error_check(error) >= -1 && sessionstore_error_write(error) >= -1);
                keep(&mut held.events, sessionstore_event_retain(sessionstore_error_current(error)));
            }
            49 => {
                let ((token, length), result) = (text(input), result());
                sessionstore_client_renew_token(client, token, length, pointer(&result), &mut error);
            }
            50 => {
                let ((key, key_len), (json, json_len), result) = (text(input), text(input), result());
                let (version, result) = (u64::from(which), pointer(&result));
                sessionstore_store_set_if_version(store, key, key_len, json, json_len, version, result, &mut error);
            }
            51 => {
                let mut cancellation = null_mut();
                sessionstore_cancellation_new(&mut cancellation, &mut error);
                keep(&mut held.cancellations, cancellation);
            }
            52 => {
                let cancellation = pick(&held.cancellations, which);
                sessionstore_cancellation_cancel(cancellation, &mut error);
                assert_ne!(sessionstore_cancellation_is_cancelled(cancellation) == 1, cancellation.is_null());
            }
            53 => sessionstore_cancellation_free(take(&mut held.cancellations, which)),
            _ => {}
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
        held.locks.drain(..).for_each(|one| sessionstore_lock_free(one));
        held.transactions.drain(..).for_each(|one| sessionstore_transaction_free(one));
        held.cancellations.drain(..).for_each(|one| sessionstore_cancellation_free(one));
        held.lists.drain(..).for_each(|one| sessionstore_event_list_free(one));
        held.errors.drain(..).for_each(|one| sessionstore_error_free(one));
        free_clients(&mut held);
    }
    let alive = ALIVE.0.lock().unwrap();
    let (alive, waited) = ALIVE.1.wait_timeout_while(alive, Duration::from_secs(9), |alive| *alive > 0).unwrap();
    assert!(!waited.timed_out(), "{} contexts were not dropped", *alive);
});
