//! The C functions as a careful C program uses them, with a book of all that its callbacks were told.
#![allow(dead_code)]

use std::collections::HashMap;
use std::ffi::{c_char, c_void, CString};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sessionstore::ffi::callback::*;
use sessionstore::ffi::client::*;
use sessionstore::ffi::event::*;
use sessionstore::ffi::set::*;
use sessionstore::ffi::store::*;
use sessionstore::ffi::subscription::*;
use sessionstore::ffi::value::sessionstore_value_get_integer;

/// How long anything is waited for before the test fails. Never reached when all is well.
pub const SAFETY: Duration = Duration::from_secs(30);

const SAFETY_MS: u32 = 30_000;

/// A struct of the C surface as its `_INIT` macro makes it.
macro_rules! init {
    ($type:ty) => {{
        // SAFETY: a plain struct of numbers, pointers and nullable functions, for which zero is a value.
        let mut made: $type = unsafe { std::mem::zeroed() };
        made.struct_size = size_of::<$type>() as u32;
        made
    }};
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that is waited for: raised once, never lowered.
#[derive(Default)]
pub struct Flag(Mutex<bool>, Condvar);

impl Flag {
    pub fn raise(&self) {
        *lock(&self.0) = true;
        self.1.notify_all();
    }

    /// Returns whether it was raised within the safety time: callbacks must not panic.
    pub fn waited(&self) -> bool {
        let raised = lock(&self.0);
        let (raised, _) = self.1.wait_timeout_while(raised, SAFETY, |raised| !*raised).unwrap();
        *raised
    }

    pub fn wait(&self, what: &str) {
        assert!(self.waited(), "waited in vain: {what}");
    }
}

/// What a callback of one listener was told.
#[derive(Default, Debug)]
pub struct Book {
    /// Changes told, without the current values at the beginning.
    pub told: u64,
    /// States that the events stood for.
    pub replaced: u64,
    /// The newest version and value of each key.
    pub newest: HashMap<String, (u64, i64)>,
    /// The snapshot is over.
    pub live: bool,
    /// Calls of any kind, `on_drop` left out.
    pub calls: u64,
    pub drops: u64,
    /// What broke the contract.
    pub faults: Vec<String>,
}

/// Callbacks of one client never overlap: whoever finds it occupied has found a fault.
#[derive(Default)]
pub struct Turnstile(AtomicBool);

type Script = Box<dyn FnMut(&Record) + Send>;

/// The context of one listener. It is never freed, so that a call that comes too late is found
/// instead of being undefined.
pub struct Record {
    book: Mutex<Book>,
    changed: Condvar,
    turnstile: Arc<Turnstile>,
    /// What the callback does besides, for each change.
    script: Mutex<Option<Script>>,
    /// Nothing may be told from here on.
    silenced: AtomicBool,
}

impl Record {
    pub fn new(turnstile: &Arc<Turnstile>) -> &'static Record {
        Record::with_script(turnstile, None)
    }

    pub fn doing(turnstile: &Arc<Turnstile>, script: impl FnMut(&Record) + Send + 'static) -> &'static Record {
        Record::with_script(turnstile, Some(Box::new(script)))
    }

    fn with_script(turnstile: &Arc<Turnstile>, script: Option<Script>) -> &'static Record {
        Box::leak(Box::new(Record {
            book: Mutex::default(),
            changed: Condvar::new(),
            turnstile: turnstile.clone(),
            script: Mutex::new(script),
            silenced: AtomicBool::new(false),
        }))
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    pub fn fault(&self, fault: impl Into<String>) {
        self.book().faults.push(fault.into());
    }

    /// From here on every call is a fault.
    pub fn silence(&self) {
        self.silenced.store(true, Ordering::SeqCst);
    }

    /// Waits until the book says so.
    pub fn wait(&self, what: &str, holds: impl Fn(&Book) -> bool) -> MutexGuard<'_, Book> {
        let book = self.book();
        let (book, waited) = self.changed.wait_timeout_while(book, SAFETY, |book| !holds(book)).unwrap();
        assert!(!waited.timed_out(), "waited in vain: {what}; the book: {book:?}");
        book
    }

    /// The listener was dropped once, and nothing broke the contract.
    pub fn check_dropped(&self) {
        let book = self.wait("on_drop", |book| book.drops > 0);
        assert_eq!((book.drops, &book.faults[..]), (1, &[][..]));
    }

    /// Enters something in the book, as one callback.
    fn enter(&self, entry: impl FnOnce(&mut Book)) {
        let alone = !self.turnstile.0.swap(true, Ordering::SeqCst);
        let mut book = self.book();
        if !alone {
            book.faults.push("two callbacks of one client at once".into());
        }
        if book.drops > 0 {
            book.faults.push("a call after on_drop".into());
        }
        if self.silenced.load(Ordering::SeqCst) {
            book.faults.push("a call after the listener was stopped".into());
        }
        entry(&mut book);
        drop(book);
        self.changed.notify_all();
    }

    fn leave(&self) {
        self.turnstile.0.store(false, Ordering::SeqCst);
    }
}

unsafe extern "C" fn on_key_changed(ctx: *mut c_void, event: *const sessionstore_event) {
    // SAFETY: a record, which is never freed.
    let record = unsafe { &*ctx.cast::<Record>() };
    // SAFETY: the event of this call.
    let (key, version, replaced, snapshot, value) = unsafe {
        let mut value = 0;
        // An absent key has no integer.
        sessionstore_value_get_integer(sessionstore_event_value(event), &mut value, null_mut());
        let key = std::ffi::CStr::from_ptr(sessionstore_event_key(event, null_mut()));
        let (version, replaced) = (sessionstore_event_version(event), sessionstore_event_replaced(event));
        (key.to_string_lossy().into_owned(), version, replaced, sessionstore_event_is_snapshot(event) == 1, value)
    };
    record.enter(|book| {
        book.calls += 1;
        if !snapshot {
            book.told += 1;
            book.replaced += replaced;
            if !book.live {
                book.faults.push("a change before the end of the snapshot".into());
            }
        }
        let before = book.newest.insert(key, (version, value));
        if before.is_some_and(|(before, _)| before >= version) {
            book.faults.push(format!("version {version} after {before:?}"));
        }
    });
    if !snapshot {
        if let Some(script) = &mut *lock(&record.script) {
            script(record);
        }
    }
    record.leave();
}

unsafe extern "C" fn on_snapshot_end(ctx: *mut c_void) {
    // SAFETY: a record, which is never freed.
    let record = unsafe { &*ctx.cast::<Record>() };
    record.enter(|book| {
        book.calls += 1;
        if std::mem::replace(&mut book.live, true) {
            book.faults.push("two ends of the snapshot".into());
        }
    });
    record.leave();
}

unsafe extern "C" fn on_drop(ctx: *mut c_void) {
    // SAFETY: a record, which is never freed.
    let record = unsafe { &*ctx.cast::<Record>() };
    // Not within the turnstile: where nothing polls, `on_drop` comes inside the call that stops.
    let mut book = record.book();
    book.drops += 1;
    drop(book);
    record.changed.notify_all();
}

/// Something for which `on_drop` alone is counted.
unsafe extern "C" fn count_drop(ctx: *mut c_void) {
    // SAFETY: a counter, which is never freed.
    unsafe { &*ctx.cast::<AtomicU64>() }.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn on_wake(ctx: *mut c_void) {
    // SAFETY: a hook, which is never freed.
    let wake = unsafe { &*ctx.cast::<Box<dyn Fn() + Send + Sync>>() };
    wake();
}

/// A client and its store, each freed once.
pub struct CClient {
    client: *mut sessionstore_client,
    store: *mut sessionstore_store,
    pub turnstile: Arc<Turnstile>,
}

// SAFETY: handles of the C surface may be used from any thread.
unsafe impl Send for CClient {}
// SAFETY: as above.
unsafe impl Sync for CClient {}

impl CClient {
    /// Opens a client and waits until it has joined.
    pub fn join(url: &str, room: &str) -> CClient {
        let mut client = CClient::begin(url, room);
        client.finish();
        client
    }

    /// The same in poll mode; `wake` is called when there is something to poll for.
    pub fn join_polled(url: &str, room: &str, wake: impl Fn() + Send + Sync + 'static) -> CClient {
        let mut client = CClient::open(url, room, Some(Box::new(wake)), None);
        client.finish();
        client
    }

    /// Opens a client whose update listener counts nothing but its `on_drop`.
    pub fn join_counted(url: &str, room: &str, drops: &'static AtomicU64) -> CClient {
        let mut client = CClient::open(url, room, None, Some(drops));
        client.finish();
        client
    }

    /// Opens a client without waiting.
    pub fn begin(url: &str, room: &str) -> CClient {
        CClient::open(url, room, None, None)
    }

    /// Waits until a client that was begun has joined.
    pub fn finish(&mut self) {
        // SAFETY: a live client and the place of the handle.
        let code = unsafe { sessionstore_client_join_wait(self.client, SAFETY_MS, &mut self.store, null_mut()) };
        assert_eq!(code, 0, "joined");
    }

    fn open(
        url: &str,
        room: &str,
        wake: Option<Box<dyn Fn() + Send + Sync>>,
        drops: Option<&'static AtomicU64>,
    ) -> CClient {
        let (url, room) = (CString::new(url).unwrap(), CString::new(room).unwrap());
        let mut options = init!(sessionstore_client_options);
        (options.url, options.room) = (url.as_ptr(), room.as_ptr());
        // As many as the most that a test has waiting.
        options.max_pending = 100_000;
        let mut hook = init!(sessionstore_wake_hook);
        if let Some(wake) = wake {
            hook.ctx = std::ptr::from_mut(Box::leak(Box::new(wake))).cast();
            hook.on_wake = Some(on_wake);
            options.wake_hook = &hook;
        }
        let mut updates = init!(sessionstore_update_listener);
        if let Some(drops) = drops {
            updates.ctx = std::ptr::from_ref(drops).cast_mut().cast();
            updates.on_drop = Some(count_drop);
        }
        let mut client = null_mut();
        // SAFETY: valid structs and the place of the handle.
        let code = unsafe { sessionstore_client_open(&options, &updates, &mut client, null_mut()) };
        assert_eq!(code, 0, "opened");
        CClient { client, store: null_mut(), turnstile: Arc::default() }
    }

    /// Listens without waiting.
    pub fn listen(&self, keys: &[String], record: &'static Record) -> CSubscription {
        let keys: Vec<CString> = keys.iter().map(|key| CString::new(key.as_str()).unwrap()).collect();
        let pointers: Vec<*const c_char> = keys.iter().map(|key| key.as_ptr()).collect();
        let mut listener = init!(sessionstore_key_change_listener);
        listener.ctx = std::ptr::from_ref(record).cast_mut().cast();
        listener.on_key_changed = Some(on_key_changed);
        listener.on_snapshot_end = Some(on_snapshot_end);
        listener.on_drop = Some(on_drop);
        let mut subscription = null_mut();
        // SAFETY: a live store, arrays of `count` elements, a valid struct, the place of the handle.
        let code = unsafe {
            let count = pointers.len();
            let store = self.store;
            sessionstore_store_listen(store, pointers.as_ptr(), null(), count, &listener, &mut subscription, null_mut())
        };
        assert_eq!(code, 0, "listens");
        CSubscription(subscription)
    }

    /// Runs what waits in poll mode, at most `most`; returns how many.
    pub fn poll(&self, most: usize) -> usize {
        let mut ran = 0;
        // SAFETY: a live client and the place of a size.
        let code = unsafe { sessionstore_client_poll(self.client, most, &mut ran, null_mut()) };
        assert_eq!(code, 0, "polled");
        ran
    }

    /// What the client knows of a key: version and value.
    pub fn cached(&self, key: &str) -> Option<(u64, i64)> {
        let key = CString::new(key).unwrap();
        let mut event = null_mut();
        // SAFETY: a live store, a text, the place of the handle.
        let code =
            unsafe { sessionstore_store_cached(self.store, key.as_ptr(), key.count_bytes(), &mut event, null_mut()) };
        assert_eq!(code, 0, "asked");
        take(event)
    }

    /// What the server has for a key: version and value.
    pub fn get(&self, key: &str) -> (u64, i64) {
        let key = CString::new(key).unwrap();
        let (length, mut event) = (key.count_bytes(), null_mut());
        // SAFETY: a live store, a text, the place of the handle.
        let code =
            unsafe { sessionstore_store_get_wait(self.store, key.as_ptr(), length, SAFETY_MS, &mut event, null_mut()) };
        assert_eq!(code, 0, "got");
        take(event).expect("get always gives an event")
    }

    /// Says that it leaves, without waiting; its listeners are dropped once the server has taken it.
    pub fn leave(&self) {
        // SAFETY: a live client.
        let code = unsafe { sessionstore_client_leave(self.client, null(), null_mut()) };
        assert_eq!(code, 0, "leaves");
    }

    /// Frees the client now, its store later.
    pub fn free_client(&mut self) {
        // SAFETY: live or NULL, and not used again.
        unsafe { sessionstore_client_free(std::mem::replace(&mut self.client, null_mut())) };
    }
}

impl Drop for CClient {
    fn drop(&mut self) {
        // SAFETY: live or NULL, and not used again.
        unsafe {
            sessionstore_store_free(self.store);
            sessionstore_client_free(self.client);
        }
    }
}

/// The version and value of an event, which is freed.
fn take(event: *mut sessionstore_event) -> Option<(u64, i64)> {
    if event.is_null() {
        return None;
    }
    let mut value = 0;
    // SAFETY: a live event, freed once.
    unsafe {
        let version = sessionstore_event_version(event);
        sessionstore_value_get_integer(sessionstore_event_value(event), &mut value, null_mut());
        sessionstore_event_free(event);
        Some((version, value))
    }
}

/// A subscription, freed once.
pub struct CSubscription(*mut sessionstore_subscription);

// SAFETY: handles of the C surface may be used from any thread.
unsafe impl Send for CSubscription {}

impl CSubscription {
    pub fn cancel(&self) {
        // SAFETY: a live subscription.
        assert_eq!(unsafe { sessionstore_subscription_cancel(self.0, null_mut()) }, 0, "cancelled");
    }

    /// The code that the call answers with.
    pub fn cancel_wait(&self) -> i32 {
        // SAFETY: a live subscription.
        unsafe { sessionstore_subscription_cancel_wait(self.0, SAFETY_MS, null_mut()) }
    }
}

impl Drop for CSubscription {
    fn drop(&mut self) {
        // SAFETY: live, and not used again.
        unsafe { sessionstore_subscription_free(self.0) };
    }
}

/// Writes numbers with a fixed count of requests outstanding: each result sends the next.
pub struct Flood {
    client: CClient,
    keys: Vec<CString>,
    /// How many to write.
    total: u64,
    begun: AtomicU64,
    confirmed: AtomicU64,
    drops: AtomicU64,
    stopping: AtomicBool,
    /// The writer's own listener, which is told before the result.
    own: &'static Record,
    faults: Mutex<Vec<String>>,
    ended: Flag,
}

impl Flood {
    /// A writer that also listens to what it writes.
    pub fn prepare(url: &str, room: &str, keys: &[String], total: u64) -> &'static Flood {
        let client = CClient::join(url, room);
        let own = Record::new(&client.turnstile);
        std::mem::forget(client.listen(keys, own));
        drop(own.wait("the writer's snapshot", |book| book.live));
        Box::leak(Box::new(Flood {
            client,
            keys: keys.iter().map(|key| CString::new(key.as_str()).unwrap()).collect(),
            total,
            begun: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            drops: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            own,
            faults: Mutex::default(),
            ended: Flag::default(),
        }))
    }

    pub fn begin(&'static self, outstanding: u64) {
        (0..outstanding).for_each(|_| self.next());
    }

    /// No more are begun.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Waits until every result has come; returns how many writes there were.
    pub fn wait(&self) -> u64 {
        self.ended.wait("every write of the flood is confirmed");
        let confirmed = self.confirmed.load(Ordering::SeqCst);
        assert_eq!(*lock(&self.faults), [""; 0], "after {confirmed} writes");
        let book = self.own.wait("the writer has heard itself", |book| book.told + book.replaced >= confirmed);
        assert_eq!((book.told + book.replaced, &book.faults[..]), (confirmed, &[][..]));
        confirmed
    }

    /// Whoever begins a write after the last ends its chain.
    fn next(&'static self) {
        let number = self.begun.fetch_add(1, Ordering::SeqCst);
        if number >= self.total || self.stopping.load(Ordering::SeqCst) {
            self.begun.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        let key = &self.keys[number as usize % self.keys.len()];
        let mut result = init!(sessionstore_action_result);
        result.ctx = std::ptr::from_ref(self).cast_mut().cast();
        result.on_result = Some(flood_result);
        result.on_drop = Some(flood_drop);
        let (store, length) = (self.client.store, key.count_bytes());
        // SAFETY: a live store, a text, a valid struct.
        let code =
            unsafe { sessionstore_store_set_integer(store, key.as_ptr(), length, number as i64, &result, null_mut()) };
        if code != 0 {
            lock(&self.faults).push(format!("a write was refused with {code}"));
            self.ended.raise();
        }
    }
}

unsafe extern "C" fn flood_result(
    ctx: *mut c_void,
    error: *const sessionstore::ffi::error::sessionstore_error,
    event: *const sessionstore_event,
) {
    // SAFETY: a flood, which is never freed.
    let flood = unsafe { &*ctx.cast::<Flood>() };
    if !error.is_null() {
        lock(&flood.faults).push("a write failed".into());
        flood.ended.raise();
        return;
    }
    // SAFETY: the event of this call.
    let (key, version) = unsafe {
        let key = std::ffi::CStr::from_ptr(sessionstore_event_key(event, null_mut()));
        (key.to_string_lossy(), sessionstore_event_version(event))
    };
    // P3: success is told after this client's listeners and its replica have the change or a newer one.
    let heard = flood.own.book().newest.get(&*key).map_or(0, |newest| newest.0);
    let cached = flood.client.cached(&key).map_or(0, |state| state.0);
    if heard < version || cached < version {
        let fault = format!("version {version} is confirmed, {heard} was heard, {cached} is cached");
        lock(&flood.faults).push(fault);
    }
    flood.confirmed.fetch_add(1, Ordering::SeqCst);
    flood.next();
}

unsafe extern "C" fn flood_drop(ctx: *mut c_void) {
    // SAFETY: a flood, which is never freed.
    let flood = unsafe { &*ctx.cast::<Flood>() };
    let drops = flood.drops.fetch_add(1, Ordering::SeqCst) + 1;
    let over = flood.stopping.load(Ordering::SeqCst) || drops == flood.total;
    if over && drops == flood.begun.load(Ordering::SeqCst) {
        flood.ended.raise();
    }
}
