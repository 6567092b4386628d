//! What the client costs from the socket to the app's C function, on one core.
//!
//! A thread of this program plays the server: it sends canned notifications as fast as they are
//! read, from a core of its own. The floor reads the same bytes on the other core and looks at
//! nothing but the frames. CPU is that of all threads but the sender's. `--quick` is a short run
//! with the same checks: nothing may be lost, whatever the speed. Words that are no options pick the
//! rows whose names contain them.

use std::ffi::{c_char, c_void, CString};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use sessionstore::ffi::callback::*;
use sessionstore::ffi::client::*;
use sessionstore::ffi::event::*;
use sessionstore::ffi::store::*;

/// Far above what anything here takes.
const SAFETY: Duration = Duration::from_secs(60);

/// What one run sends.
#[derive(Clone, Copy)]
struct Load {
    changes: u64,
    keys: u64,
}

/// The head of a request.
fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        let read = socket.read(&mut piece).expect("a request head");
        assert!(read > 0, "a request head");
        head.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(head).expect("text")
}

/// Lets the peer in, and tells it that nobody else is there.
fn answer_head(out: &mut Vec<u8>, head: &str) {
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    let accept = tungstenite::handshake::derive_accept_key(key.trim().as_bytes());
    let id = head.split(['?', '&', ' ']).find_map(|pair| pair.strip_prefix("join=")).expect("joins by its query");
    out.extend_from_slice(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .as_bytes(),
    );
    let result = r#"{"peer_id":"me","session_id":"s","revision":0,"returned":false,"protocol":1}"#;
    frame(out, &format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{result}}}"#));
    frame(out, r#"{"method":"peer-list","params":{"peers":{},"room":{"name":"r","session_id":"s","started_at":1}}}"#);
}

/// The WebSocket key is answered as RFC 6455 asks; then the join, everybody, and the first states.
fn welcome(socket: &mut TcpStream, keys: u64) {
    let head = read_head(socket);
    let mut out = Vec::new();
    answer_head(&mut out, &head);
    socket.write_all(&out).expect("sent");
    // The listen request, of which only the id matters.
    let mut request = [0; 8192];
    let mut got = 0;
    let text = loop {
        got += socket.read(&mut request[got..]).expect("a listen request");
        if let Some((text, _)) = client_text(&request[..got]) {
            break text;
        }
    };
    let mut out = Vec::new();
    frame(&mut out, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, id_of(&text)));
    let absent: Vec<String> =
        (0..keys).map(|key| format!(r#"{{"key":"key-{key}","data":null,"change_version":0}}"#)).collect();
    let text =
        format!(r#"{{"method":"on-metadata-change","params":{{"values":[{}],"snapshot":true}}}}"#, absent.join(","));
    frame(&mut out, &text);
    socket.write_all(&out).expect("sent");
}

/// The payload of a client's frame, if it is complete, and the bytes of the frame.
fn client_text(bytes: &[u8]) -> Option<(String, usize)> {
    let short = usize::from(bytes.get(1)? & 0x7f);
    let (begin, length) = match short {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        length => (2, length),
    };
    let mask = bytes.get(begin..begin + 4)?;
    let payload = bytes.get(begin + 4..begin + 4 + length)?;
    let text = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((String::from_utf8(text).ok()?, begin + 4 + length))
}

/// The id of a request, as it was written.
fn id_of(text: &str) -> &str {
    text.split("\"id\":").nth(1).and_then(|rest| rest.split(',').next()).expect("an id")
}

/// Waits for the client's leave, behind what else it says, and answers it. A connection that ends is left.
fn await_leave(socket: &mut TcpStream) {
    let (mut said, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match socket.read(&mut piece) {
            Ok(read) if read > 0 => said.extend_from_slice(&piece[..read]),
            _ => return,
        }
        while let Some((text, length)) = client_text(&said) {
            if text.contains(r#""method":"leave""#) {
                let mut out = Vec::new();
                frame(&mut out, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, id_of(&text)));
                // A client that is gone already needs no answer.
                let _ = socket.write_all(&out);
                return;
            }
            said.drain(..length);
        }
    }
}

fn frame(out: &mut Vec<u8>, text: &str) {
    out.push(0x81);
    match text.len() {
        0..126 => out.push(text.len() as u8),
        126..65_536 => {
            out.push(126);
            out.extend_from_slice(&(text.len() as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// One notification of a 100-byte value, as the server writes it.
fn change(out: &mut Vec<u8>, version: u64, keys: u64) {
    let value = "v".repeat(98);
    let text = format!(
        r#"{{"method":"on-metadata-change","params":{{"values":[{{"key":"key-{}","data":"{value}","change_version":{version},"updated_by":"6f1c3a52-0000-4000-8000-000000000001","author":{{"user_id":"","name":"Ada"}},"updated_at":1767225600000}}]}}}}"#,
        version % keys
    );
    frame(out, &text);
}

/// Sends all changes, then waits for the client to leave. Returns its time on the processor.
fn send_all(mut socket: TcpStream, load: Load) -> Duration {
    let before = thread_time();
    let mut out = Vec::new();
    for version in 1..=load.changes {
        change(&mut out, version, load.keys);
        if out.len() > 128 * 1024 || version == load.changes {
            socket.write_all(&out).expect("sent");
            out.clear();
        }
    }
    let spent = thread_time() - before;
    await_leave(&mut socket);
    spent
}

/// What a listener has heard.
#[derive(Default)]
struct Heard {
    calls: AtomicU64,
    /// Changes, those included that newer ones stand for.
    changes: AtomicU64,
    newest: AtomicU64,
    /// Whether a change came that was not newer than the one before it of its key.
    disorder: AtomicU64,
    live: (Mutex<bool>, Condvar),
    last: u64,
    done: (Mutex<bool>, Condvar),
}

impl Heard {
    fn wait(pair: &(Mutex<bool>, Condvar)) {
        let flag = pair.0.lock().expect("sound");
        let (flag, _) = pair.1.wait_timeout_while(flag, SAFETY, |flag| !*flag).expect("sound");
        assert!(*flag, "nothing came for {SAFETY:?}");
    }

    fn raise(pair: &(Mutex<bool>, Condvar)) {
        *pair.0.lock().expect("sound") = true;
        pair.1.notify_all();
    }
}

unsafe extern "C" fn on_key_changed(ctx: *mut c_void, event: *const sessionstore_event) {
    // SAFETY: the context of this listener, which outlives the client; the event of this call.
    let (heard, version, replaced) =
        unsafe { (&*ctx.cast::<Heard>(), sessionstore_event_version(event), sessionstore_event_replaced(event)) };
    // SAFETY: as above.
    if unsafe { sessionstore_event_is_snapshot(event) } == 1 {
        return;
    }
    heard.calls.fetch_add(1, Ordering::Relaxed);
    let total = heard.changes.fetch_add(1 + replaced, Ordering::Relaxed) + 1 + replaced;
    if heard.newest.swap(version, Ordering::Relaxed) >= version {
        heard.disorder.fetch_add(1, Ordering::Relaxed);
    }
    if total == heard.last {
        Heard::raise(&heard.done);
    }
}

unsafe extern "C" fn on_snapshot_end(ctx: *mut c_void) {
    // SAFETY: the context of this listener, which outlives the client.
    Heard::raise(unsafe { &(*ctx.cast::<Heard>()).live });
}

/// A client of one load, listening with one listener.
struct Listening {
    client: *mut sessionstore_client,
    store: *mut sessionstore_store,
    heard: Box<Heard>,
}

impl Listening {
    /// With `polled`, poll mode with a hook that does nothing.
    fn begin(port: u16, load: Load, polled: Option<&'static sessionstore_wake_hook>) -> Listening {
        let url = CString::new(format!("ws://127.0.0.1:{port}")).expect("no NUL");
        let mut heard = Box::new(Heard::default());
        heard.last = load.changes;
        let mut listening = Listening { client: null_mut(), store: null_mut(), heard };
        // SAFETY: plain structs of numbers, pointers and functions, for which zero is a value.
        let mut options: sessionstore_client_options = unsafe { std::mem::zeroed() };
        options.struct_size = size_of::<sessionstore_client_options>() as u32;
        options.url = url.as_ptr();
        options.room = c"r".as_ptr();
        options.wake_hook = polled.map_or(null(), |hook| hook);
        // SAFETY: as above.
        let mut updates: sessionstore_update_listener = unsafe { std::mem::zeroed() };
        updates.struct_size = size_of::<sessionstore_update_listener>() as u32;
        // SAFETY: valid structs, and the places of the handles.
        let code = unsafe { sessionstore_client_open(&options, &updates, &mut listening.client, null_mut()) };
        assert_eq!(code, 0, "opened");
        // SAFETY: a live client and the place of the store.
        let code = unsafe { sessionstore_client_join_wait(listening.client, 60_000, &mut listening.store, null_mut()) };
        assert_eq!(code, 0, "joined");
        listening
    }
}

impl Listening {
    fn listen(&self, keys: u64) {
        let names: Vec<CString> = (0..keys).map(|key| CString::new(format!("key-{key}")).expect("no NUL")).collect();
        let pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: a plain struct of numbers, pointers and functions, for which zero is a value.
        let mut listener: sessionstore_key_change_listener = unsafe { std::mem::zeroed() };
        listener.struct_size = size_of::<sessionstore_key_change_listener>() as u32;
        listener.ctx = (&raw const *self.heard).cast_mut().cast();
        listener.on_key_changed = Some(on_key_changed);
        listener.on_snapshot_end = Some(on_snapshot_end);
        // SAFETY: a live store, as many names as said, and a listener whose context outlives it.
        let code = unsafe {
            sessionstore_store_listen(
                self.store,
                pointers.as_ptr(),
                null(),
                pointers.len(),
                &listener,
                null_mut(),
                null_mut(),
            )
        };
        assert_eq!(code, 0, "listens");
    }

    /// Nothing lost, nothing twice, nothing out of order.
    fn check(&self, load: Load) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(count(&self.heard.changes), load.changes, "changes heard");
        assert_eq!(count(&self.heard.newest), load.changes, "the newest version");
        assert_eq!(count(&self.heard.disorder), 0, "changes out of order");
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // SAFETY: handles of this struct, freed once; leaving waits until no callback can follow.
        unsafe {
            sessionstore_client_leave_wait(self.client, 60_000, null_mut());
            sessionstore_store_free(self.store);
            sessionstore_client_free(self.client);
        }
    }
}

/// One side of one run: how many changes a second, and the processor's nanoseconds for each.
struct Figure {
    rate: f64,
    nanoseconds: f64,
    /// Callbacks for each hundred changes.
    calls: f64,
}

/// Cores of their own for the sender and for everything else, where there are two.
fn pin(core: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: a set of ours, all zero at first; the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = core;
}

fn time_of(who: libc::c_int) -> Duration {
    // SAFETY: the place of one struct of numbers.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &mut usage);
        usage
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1_000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn process_time() -> Duration {
    time_of(libc::RUSAGE_SELF)
}

#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    time_of(libc::RUSAGE_THREAD)
}

#[cfg(not(target_os = "linux"))]
fn thread_time() -> Duration {
    Duration::ZERO
}

/// `clients` of them, each sent the load; `polled`: by one thread, in turn.
fn run_clients(clients: usize, load: Load, polled: bool) -> Figure {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let hook: &'static sessionstore_wake_hook = {
        // SAFETY: a plain struct of numbers, pointers and functions, for which zero is a value.
        let mut hook: sessionstore_wake_hook = unsafe { std::mem::zeroed() };
        hook.struct_size = size_of::<sessionstore_wake_hook>() as u32;
        Box::leak(Box::new(hook))
    };
    let (go, gone) = (std::sync::Barrier::new(2), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            pin(1);
            // One after the other: each is let in before the next comes.
            let sockets: Vec<TcpStream> = (0..clients)
                .map(|_| {
                    let (mut socket, _) = listener.accept().expect("a client");
                    welcome(&mut socket, load.keys);
                    socket
                })
                .collect();
            go.wait();
            if let [_] = sockets.as_slice() {
                let socket = sockets.into_iter().next().expect("one");
                return send_all(socket, load);
            }
            send_in_turn(sockets, load)
        });
        let listening: Vec<Listening> = (0..clients)
            .map(|_| {
                let one = Listening::begin(port, load, polled.then_some(hook));
                one.listen(load.keys);
                if polled {
                    while !*one.heard.live.0.lock().expect("sound") {
                        poll(&one);
                    }
                } else {
                    Heard::wait(&one.heard.live);
                }
                one
            })
            .collect();
        let (before, began) = (process_time(), Instant::now());
        go.wait();
        if polled {
            let give_up = Instant::now() + SAFETY;
            while listening.iter().any(|one| one.heard.changes.load(Ordering::Relaxed) < load.changes) {
                listening.iter().for_each(poll);
                assert!(Instant::now() < give_up, "changes are missing after {SAFETY:?}");
            }
        } else {
            listening.iter().for_each(|one| Heard::wait(&one.heard.done));
        }
        let (elapsed, spent) = (began.elapsed(), process_time() - before);
        listening.iter().for_each(|one| one.check(load));
        let calls: u64 = listening.iter().map(|one| one.heard.calls.load(Ordering::Relaxed)).sum();
        drop(listening);
        gone.lock().expect("sound").push(server.join().expect("the sender ends"));
        let sender = gone.lock().expect("sound").iter().sum();
        let changes = (load.changes * clients as u64) as f64;
        Figure {
            rate: changes / elapsed.as_secs_f64(),
            nanoseconds: spent.saturating_sub(sender).as_nanos() as f64 / changes,
            calls: 100.0 * calls as f64 / changes,
        }
    })
}

fn poll(one: &Listening) {
    // SAFETY: a live client.
    let code = unsafe { sessionstore_client_poll(one.client, 256, null_mut(), null_mut()) };
    assert_eq!(code, 0, "polled");
}

/// Each socket a piece at a time, so that all clients are busy at once.
fn send_in_turn(mut sockets: Vec<TcpStream>, load: Load) -> Duration {
    let before = thread_time();
    let piece = 32;
    for first in (1..=load.changes).step_by(piece) {
        let mut out = Vec::new();
        for version in first..(first + piece as u64).min(load.changes + 1) {
            change(&mut out, version, load.keys);
        }
        sockets.iter_mut().for_each(|socket| socket.write_all(&out).expect("sent"));
    }
    let spent = thread_time() - before;
    sockets.iter_mut().for_each(await_leave);
    spent
}

/// The least: the same bytes are read and cut into frames.
fn run_floor(load: Load) -> Figure {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            pin(1);
            let (socket, _) = listener.accept().expect("a client");
            send_all(socket, load)
        });
        let mut socket = TcpStream::connect(address).expect("connects");
        let (before, began) = (process_time(), Instant::now());
        let mut buffer = vec![0; 64 * 1024];
        let (mut held, mut changes) = (0, 0);
        while changes < load.changes {
            held += socket.read(&mut buffer[held..]).expect("read");
            let mut at = 0;
            while let Some(&[_, 126, high, low]) = buffer[at..held].first_chunk::<4>() {
                let end = at + 4 + usize::from(u16::from_be_bytes([high, low]));
                if end > held {
                    break;
                }
                std::hint::black_box(&buffer[at..end]);
                (at, changes) = (end, changes + 1);
            }
            buffer.copy_within(at..held, 0);
            held -= at;
        }
        let (elapsed, spent) = (began.elapsed(), process_time() - before);
        drop(socket);
        let sender = server.join().expect("the sender ends");
        let nanoseconds = spent.saturating_sub(sender).as_nanos() as f64 / changes as f64;
        Figure { rate: changes as f64 / elapsed.as_secs_f64(), nanoseconds, calls: 0.0 }
    })
}

/// Nanoseconds that one call of `cached` takes.
fn run_cached() -> f64 {
    let load = Load { changes: 1_000, keys: 100 };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut socket, _) = listener.accept().expect("a client");
            welcome(&mut socket, load.keys);
            send_all(socket, load)
        });
        let one = Listening::begin(port, load, None);
        one.listen(load.keys);
        Heard::wait(&one.heard.done);
        let calls = 1_000_000;
        let began = Instant::now();
        for _ in 0..calls {
            let mut event = null_mut();
            // SAFETY: a live store, a key, and the place of the event, which is freed.
            let code = unsafe { sessionstore_store_cached(one.store, c"key-42".as_ptr(), 6, &mut event, null_mut()) };
            assert_eq!(code, 0, "known");
            // SAFETY: the event of this call.
            unsafe { sessionstore_event_free(event) };
        }
        began.elapsed().as_nanos() as f64 / f64::from(calls)
    })
}

/// Tells whether the store became available.
unsafe extern "C" fn on_store_available(ctx: *mut c_void, _: *const sessionstore_store) {
    // SAFETY: the flag of this run, which outlives the client.
    Heard::raise(unsafe { &*ctx.cast::<(Mutex<bool>, Condvar)>() });
}

/// Lets one peer join, as `welcome` does, without waiting for a listen request.
fn let_in(socket: &mut TcpStream) {
    let head = read_head(socket);
    let mut out = Vec::new();
    answer_head(&mut out, &head);
    socket.write_all(&out).expect("sent");
    // Until the peer goes; a leave is answered by the end of the connection.
    let _ = socket.read(&mut [0; 4096]);
}

/// From nothing to a store that is available: the threads of the library are started too.
fn run_opening(port: u16) -> Duration {
    let url = CString::new(format!("ws://127.0.0.1:{port}")).expect("no NUL");
    let available = (Mutex::new(false), Condvar::new());
    // SAFETY: plain structs of numbers, pointers and functions, for which zero is a value.
    let (mut options, mut updates): (sessionstore_client_options, sessionstore_update_listener) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    options.struct_size = size_of::<sessionstore_client_options>() as u32;
    options.url = url.as_ptr();
    options.room = c"r".as_ptr();
    updates.struct_size = size_of::<sessionstore_update_listener>() as u32;
    updates.ctx = std::ptr::from_ref(&available).cast_mut().cast();
    updates.on_store_available = Some(on_store_available);
    let mut client = null_mut();
    let began = Instant::now();
    // SAFETY: valid structs, and the place of the handle.
    let code = unsafe { sessionstore_client_open(&options, &updates, &mut client, null_mut()) };
    assert_eq!(code, 0, "opened");
    Heard::wait(&available);
    let elapsed = began.elapsed();
    // SAFETY: a live client, freed once; it is told of nothing any more.
    unsafe { sessionstore_client_free(client) };
    // The next run starts from nothing again.
    let give_up = Instant::now() + SAFETY;
    while threads().iter().any(|name| name.starts_with("sessionstore-")) {
        assert!(Instant::now() < give_up, "the library's threads do not end");
        std::thread::yield_now();
    }
    elapsed
}

/// The same by hand: connect, shake hands, read until everybody is told.
fn run_handshake(port: u16) -> Duration {
    let began = Instant::now();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    let request = format!(
        "GET /ws?room=r&join=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("sent");
    let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
    while !got.windows(9).any(|window| window == b"peer-list") {
        let read = socket.read(&mut buffer).expect("read");
        assert!(read > 0, "let in");
        got.extend_from_slice(&buffer[..read]);
    }
    began.elapsed()
}

/// Names of this process's threads; none where the system does not tell.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect()
}

/// Medians of opening a client and of the bare handshake, in microseconds, and of their ratio.
fn run_openings(count: usize) -> (f64, f64, f64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            for _ in 0..2 * count {
                let_in(&mut listener.accept().expect("a peer").0);
            }
        });
        for _ in 0..count {
            bare.push(run_handshake(port).as_secs_f64() * 1e6);
            ours.push(run_opening(port).as_secs_f64() * 1e6);
        }
    });
    let ratios = ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect();
    (median(ours), median(bare), median(ratios))
}

/// What this many clients are in memory and threads: as many as a bot farm has.
const MANY: usize = 1_000;

/// Resident memory of this process, in KiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// Opens many clients, each listening to one key; prints KiB for each, and the library's threads.
/// In a process of its own, whose memory nothing else has used before.
fn run_memory(polled: bool) {
    // SAFETY: the place of one struct of numbers.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let load = Load { changes: 0, keys: 1 };
    // SAFETY: a plain struct of numbers, pointers and functions, for which zero is a value.
    let mut hook: sessionstore_wake_hook = unsafe { std::mem::zeroed() };
    hook.struct_size = size_of::<sessionstore_wake_hook>() as u32;
    let hook: &'static sessionstore_wake_hook = Box::leak(Box::new(hook));
    let (done, over) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let let_in = |_| {
                let mut socket = listener.accept().expect("a client").0;
                welcome(&mut socket, load.keys);
                socket
            };
            let sockets: Vec<TcpStream> = (0..=MANY).map(let_in).collect();
            let _ = over.recv();
            drop(sockets);
        });
        let open = |_| {
            let one = Listening::begin(port, load, polled.then_some(hook));
            one.listen(load.keys);
            while polled && !*one.heard.live.0.lock().expect("sound") {
                poll(&one);
            }
            Heard::wait(&one.heard.live);
            one
        };
        // The first brings what all share.
        let first = open(0);
        let before = resident();
        let many: Vec<Listening> = (1..=MANY).map(open).collect();
        let each = (resident() - before) / MANY as f64;
        let threads = threads().iter().filter(|name| name.starts_with("sessionstore-")).count();
        println!("{each:.2} {threads}");
        std::mem::forget((first, many));
        drop(done);
    });
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let (options, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|one| one.starts_with("--"));
    if let Some(mode) = options.iter().find_map(|option| option.strip_prefix("--memory=")) {
        return run_memory(mode == "polled");
    }
    let quick = options.iter().any(|option| option == "--quick");
    let wanted = |name: &str| words.iter().all(|word| name.contains(word.as_str()));
    let (repetitions, changes) = if quick { (1, 20_000) } else { (5, 1_000_000) };
    pin(0);
    let rows: [(&str, usize, Load, bool); 3] = [
        ("one client, one key", 1, Load { changes, keys: 1 }, false),
        ("one client, 100 keys", 1, Load { changes, keys: 100 }, false),
        ("100 clients, polled by one thread", 100, Load { changes: changes / 50, keys: 1 }, true),
    ];
    println!(
        "{:<36}{:>12}{:>12}{:>12}{:>12}{:>20}",
        "socket to C function", "changes/s", "ns/change", "floor ns", "ratio", "callbacks per 100"
    );
    for (name, clients, load, polled) in rows.into_iter().filter(|row| wanted(row.0)) {
        let (mut ours, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..repetitions {
            floors.push(run_floor(Load { changes, ..load }));
            ours.push(run_clients(clients, load, polled));
        }
        let of = |figures: &[Figure], value: fn(&Figure) -> f64| median(figures.iter().map(value).collect());
        let ratios = ours.iter().zip(&floors).map(|(ours, floor)| ours.nanoseconds / floor.nanoseconds);
        println!(
            "{name:<36}{:>12.0}{:>12.0}{:>12.0}{:>11.1}x{:>20.1}",
            of(&ours, |figure| figure.rate),
            of(&ours, |figure| figure.nanoseconds),
            of(&floors, |figure| figure.nanoseconds),
            median(ratios.collect()),
            of(&ours, |figure| figure.calls),
        );
    }
    let name = "one call of cached";
    if wanted(name) {
        println!("{name:<36}{:>24.0}", run_cached());
    }
    let name = "open a client";
    if wanted(name) {
        let (ours, bare, ratio) = run_openings(if quick { 5 } else { 200 });
        println!("{name:<36}{ours:>9.0} µs, bare handshake and join {bare:.0} µs, {ratio:.1}x");
    }
    for mode in ["callbacks", "polled"] {
        let name = format!("{MANY} clients, {mode}");
        if wanted(&name) && cfg!(target_os = "linux") {
            let program = std::env::current_exe().expect("this program");
            let output = std::process::Command::new(program).arg(format!("--memory={mode}")).output().expect("runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let figures = String::from_utf8(output.stdout).expect("text");
            let (memory, threads) = figures.trim().split_once(' ').expect("two figures");
            println!("{name:<36}{memory:>9} KiB each, {threads} threads in all");
        }
    }
}
