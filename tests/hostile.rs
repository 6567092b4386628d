//! What hostile and broken clients do to a server: each attack is ended or answered with its code, costs
//! bounded memory, and leaves others alone, in its own room and elsewhere. `docs/operate.md` has the table of
//! the bounds.
//!
//! A binary of its own, one test at a time, because it looks at the memory of the process, which is the
//! server's and that of the clients alike. With `--nocapture` each attack says what it has cost: memory, and time
//! of the room next door.

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::*;
use serde_json::{json, Value};
use sessionstore::{ErrorCode, KeyChange, Server, ServerOptions};
use tungstenite::Message;

/// The room that is attacked.
const ROOM: &str = "attacked";
/// More than any attack here may cost: a flood that is kept would cost as much within a second.
const MOST_BYTES: usize = 48 << 20;

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes this process has resident.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4_096
}

/// A frame of a client, masked with zeros, which is a mask like any other.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend_from_slice(payload);
    out
}

fn number(code: ErrorCode) -> i64 {
    code.number().into()
}

fn close_code(code: ErrorCode) -> u16 {
    4_000 + code.number() as u16
}

/// One who writes, and one who listens to it.
struct Pair {
    writer: Client,
    listener: Client,
    written: u64,
}

impl Pair {
    fn join(server: &Server, room: &str) -> Pair {
        let (listener, _) = Client::listening(server, room, "honest-listener", &["honest"]);
        Pair { writer: Client::join(server, room, "honest-writer"), listener, written: 0 }
    }

    /// A set is confirmed and seen.
    fn works(&mut self) {
        self.written += 1;
        self.writer.set("honest", json!(self.written));
        loop {
            // What is told of peers comes in between.
            let message = self.listener.read();
            if message["method"] == "on-metadata-change" {
                let states = message["params"]["values"].as_array().expect("values");
                assert_eq!(states[0]["data"], self.written, "{message}");
                return;
            }
        }
    }
}

/// The honest: a pair in the room that is attacked, and one in another.
struct Honest {
    same: Pair,
    other: Pair,
    before: usize,
    /// How long it took in the other room until a change was confirmed and told, before the attack and since.
    quiet: Vec<Duration>,
    attacked: Vec<Duration>,
}

impl Honest {
    const PEERS: usize = 4;
    const QUIET: usize = 50;

    fn join(server: &Server) -> Honest {
        let (same, other) = (Pair::join(server, ROOM), Pair::join(server, "quiet"));
        let mut honest = Honest { same, other, before: 0, quiet: Vec::new(), attacked: Vec::new() };
        // The rates of some tests allow for no more.
        (0..Self::QUIET).for_each(|_| honest.work());
        honest.quiet = std::mem::take(&mut honest.attacked);
        honest.before = resident();
        honest
    }

    fn work(&mut self) {
        self.same.works();
        let begun = Instant::now();
        self.other.works();
        self.attacked.push(begun.elapsed());
    }

    /// They go on working until something holds.
    fn work_until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        until(what, || {
            self.work();
            holds()
        });
        // And afterwards.
        self.work();
    }

    /// All that the attack has cost is within bounds.
    fn check_memory(&mut self) {
        let grown = resident().saturating_sub(self.before);
        let middle = |times: &mut [Duration]| {
            times.sort_unstable();
            (times[times.len() / 2], times[times.len() * 99 / 100])
        };
        let ((quiet, rarely), (attacked, most)) = (middle(&mut self.quiet), middle(&mut self.attacked));
        println!(
            "{}: {} KiB more; next door {quiet:?}, 99 of 100 within {rarely:?}; attacked {attacked:?}, {most:?}",
            std::thread::current().name().unwrap_or("an attack"),
            grown / 1_024
        );
        assert!(grown < MOST_BYTES, "{grown} bytes more resident");
    }

    /// The same where the honest have a rate as well: they wait for the end before they go on.
    fn leave_in_peace(&mut self, server: &Server) {
        until("the end of the hostile connections", || server.stats().sockets == Honest::PEERS);
        self.work();
        self.check_memory();
    }

    /// Only the honest are left.
    fn outlive(&mut self, server: &Server) {
        self.work_until("the end of the hostile connections", || {
            let stats = server.stats();
            stats.connections == Honest::PEERS && stats.sockets == Honest::PEERS
        });
        self.check_memory();
    }
}

/// Time-outs that a test can wait for, and that the honest, who say something all the time, keep on a machine that
/// does much else.
fn impatient(options: &mut ServerOptions) {
    options.threads = 1;
    options.handshake_timeout_ms = 500;
    options.ping_interval_ms = 500;
    options.idle_timeout_ms = 5_000;
    options.limits.grace_ms = 100;
    options.queue_bytes = 16 * 1024;
}

/// The same bytes again and again, from a thread of their own, until the connection takes no more.
struct Flood {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn on(stream: &TcpStream, begin: &[u8], bytes: Vec<u8>) -> Flood {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let stream = stream.try_clone().expect("a second handle");
        let mut out = stream.try_clone().expect("a third handle");
        let begin = begin.to_vec();
        let (counted, stopped) = (sent.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut next = &begin;
            while !stopped.load(Ordering::Relaxed) && out.write_all(next).is_ok() {
                counted.fetch_add(next.len() as u64, Ordering::Relaxed);
                next = &bytes;
            }
        });
        Flood { sent, stop, stream, thread: Some(thread) }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Everything until the end of the connection, however it ends.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    all
}

// ------------------------------------------------------------------ the request head

#[test]
fn heads_that_come_byte_by_byte_and_never_end_are_cut_off() {
    let _alone = alone();
    let server = server_with(impatient);
    let mut honest = Honest::join(&server);
    let mut slow: Vec<TcpStream> = (0..100).map(|_| reach(&server)).collect();
    let head = format!("GET /ws?room={ROOM}&join=1 HTTP/1.1\r\nHost: localhost\r\nX-Endless: ");
    let mut bytes = head.bytes().chain(std::iter::repeat(b'x'));
    // The time-out counts from the beginning, so that bytes in between do not help.
    let mut ended = 0;
    honest.work_until("the end of the slow heads", || {
        let byte = [bytes.next().unwrap_or(b'x')];
        slow.retain_mut(|stream| stream.write_all(&byte).is_ok());
        ended = 100 - slow.len();
        ended == 100
    });
    honest.outlive(&server);
}

#[test]
fn a_head_that_is_too_large_is_refused_before_it_ends() {
    let _alone = alone();
    let server = server_with(impatient);
    let mut honest = Honest::join(&server);
    for (begin, more) in [("GET /ws?room=", "x"), ("GET /ws HTTP/1.1\r\n", "X-One: more\r\n")] {
        let mut stream = reach(&server);
        let flood = Flood::on(&stream, begin.as_bytes(), more.repeat(1_000).into_bytes());
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer while the head goes on");
        assert_eq!(&answer, b"HTTP/1.1 431");
        // Who goes on is cut off.
        honest.work_until("the end of the flood", || flood.is_over());
    }
    honest.outlive(&server);
}

// ------------------------------------------------------------------ frames

#[test]
fn messages_that_never_end_are_refused_when_they_are_too_large() {
    let _alone = alone();
    let server = server_with(impatient);
    let mut honest = Honest::join(&server);
    let begin = frame(TEXT, b"{");
    for more in [frame(CONTINUATION, &[b' '; 1_000]), frame(CONTINUATION, b" "), frame(CONTINUATION, b"")] {
        let mut hostile = Client::join(&server, ROOM, "hostile");
        let flood = Flood::on(hostile.socket.get_ref(), &begin, more.repeat(100));
        honest.work();
        assert_eq!(raw_close(&mut hostile), 1009);
        drop(flood);
    }
    honest.outlive(&server);
}

/// Reads frames to the close frame and returns its code; what this side sends is not changed by it.
fn raw_close(client: &mut Client) -> u16 {
    loop {
        match client.socket.read() {
            Ok(Message::Close(frame)) => return frame.map_or(1005, |frame| frame.code.into()),
            Ok(_) => {}
            Err(error) => panic!("expected a close frame: {error}"),
        }
    }
}

#[test]
fn what_is_no_frame_of_a_message_is_refused_by_its_header() {
    let _alone = alone();
    let server = server_with(impatient);
    let mut honest = Honest::join(&server);
    let announcing = |bytes: u64| {
        let mut header = vec![FIN | TEXT, 0x80 | 127];
        header.extend(bytes.to_be_bytes());
        header.extend([0; 4]);
        header
    };
    let attacks = [
        (announcing(1 << 63), 1009),
        (announcing(u64::MAX), 1009),
        (announcing(64 * 1024 + 1), 1009),
        // Compressed, which was not agreed upon.
        (frame(FIN | 0x40 | TEXT, b"\x2a\x00"), 1002),
        (frame(FIN | BINARY, b"x"), 1003),
        (frame(FIN | CONTINUATION, b"x"), 1002),
        (frame(FIN | TEXT, b"\xc3("), 1007),
        (frame(FIN | PING, &[0; 126]), 1002),
        (vec![FIN | TEXT, 1, b'x'], 1002),
    ];
    for (bytes, code) in attacks {
        let mut hostile = Client::join(&server, ROOM, "hostile");
        hostile.socket.get_mut().write_all(&bytes).expect("sent");
        assert_eq!(raw_close(&mut hostile), code, "{bytes:?}");
        honest.work();
    }
    honest.outlive(&server);
}

#[test]
fn pings_are_answered_and_their_answers_do_not_pile_up() {
    let _alone = alone();
    let server = server_with(impatient);
    let mut honest = Honest::join(&server);
    for kind in [PING, PONG] {
        // One who reads the answers.
        let mut reading = Client::join(&server, ROOM, "reading");
        let pings = frame(FIN | kind, &[b'p'; 125]).repeat(50);
        let flood = Flood::on(reading.socket.get_ref(), &[], pings.clone());
        if kind == PING {
            for _ in 0..2_000 {
                while !matches!(reading.socket.read(), Ok(Message::Pong(_))) {}
            }
        }
        honest.work_until("more pings", || flood.sent() > 1 << 20);
        drop(flood);
    }
    // One who does not: it is not read from any more, and closed after a while.
    let hostile = Client::narrow(&server, ROOM, "hostile", "honest");
    let flood = Flood::on(hostile.socket.get_ref(), &[], frame(FIN | PING, &[b'p'; 125]).repeat(50));
    honest.work_until("the end of the flood", || flood.is_over());
    honest.outlive(&server);
}

#[test]
fn many_close_frames_are_answered_once() {
    let _alone = alone();
    let server = server_with(impatient);
    let mut honest = Honest::join(&server);
    let mut hostile = Client::join(&server, ROOM, "hostile");
    let close = frame(FIN | CLOSE, &1000u16.to_be_bytes());
    let flood = Flood::on(hostile.socket.get_ref(), &[], close.repeat(1_000));
    let answer = read_to_end(hostile.socket.get_mut());
    // What still comes after that resets the connection, which may overtake the answer.
    assert!(answer.is_empty() || answer == [FIN | CLOSE, 2, 0x03, 0xE8], "one close frame and the end: {answer:?}");
    honest.work_until("the end of the flood", || flood.is_over());
    honest.outlive(&server);
}

// ------------------------------------------------------------------ reading nothing, doing nothing

#[test]
fn who_never_reads_costs_its_queue_and_then_its_connection() {
    let _alone = alone();
    let server = server_with(impatient);
    let mut honest = Honest::join(&server);
    let deaf: Vec<Client> = (0..20).map(|nth| Client::narrow(&server, ROOM, &format!("deaf-{nth}"), "loud")).collect();
    let text = "x".repeat(1_000);
    let mut written = 0u64;
    honest.work_until("the end of those who do not read", || {
        // Elsewhere somebody goes on saying much.
        let mut writer = Client::join(&server, ROOM, "loud");
        for _ in 0..100 {
            written += 1;
            writer.set("loud", json!(format!("{written:09}{text}")));
        }
        writer.call("leave", json!({}));
        drop(writer);
        server.stats().peers <= Honest::PEERS + 1
    });
    assert!(written > 0);
    honest.outlive(&server);
    drop(deaf);
}

#[test]
fn who_connects_and_never_joins_is_no_peer_and_goes_when_it_is_silent() {
    let _alone = alone();
    let server = server_with(impatient);
    let mut honest = Honest::join(&server);
    let mut strangers: Vec<Client> = (0..200).map(|nth| Client::connect(&server, &format!("room=r{nth}"))).collect();
    let stats = server.stats();
    assert_eq!((stats.rooms, stats.peers), (2, Honest::PEERS), "no room is open for them");
    assert!(stats.connections > Honest::PEERS);
    let refused = strangers[199].refused("set-metadata", json!({"key": "k", "data": 1}));
    assert_eq!(refused, number(ErrorCode::NotJoined));
    honest.outlive(&server);
    let heard = read_to_end(strangers[0].socket.get_mut());
    let [high, low] = close_code(ErrorCode::IdleTimeout).to_be_bytes();
    assert!(heard.windows(2).any(|bytes| bytes == [high, low]), "no close code in {heard:?}");
}

// ------------------------------------------------------------------ coming and going, asking much

#[test]
fn thousands_who_come_and_go_leave_nothing_behind() {
    let _alone = alone();
    let server = Arc::new(server_with(impatient));
    let mut honest = Honest::join(&server);
    let threads: Vec<JoinHandle<()>> = (0..4)
        .map(|thread| {
            let server = server.clone();
            std::thread::spawn(move || {
                for nth in 0..500 {
                    // In the same room and in one of its own, with a leave and without.
                    let room = if nth % 2 == 0 { ROOM.to_owned() } else { format!("r{thread}-{nth}") };
                    let mut client = Client::join(&server, &room, &format!("p{thread}-{nth}"));
                    if nth % 4 < 2 {
                        client.call("leave", json!({}));
                    }
                    client.cut();
                }
            })
        })
        .collect();
    honest.work_until("the last of them", || threads.iter().all(JoinHandle::is_finished));
    threads.into_iter().for_each(|thread| thread.join().expect("they joined"));
    honest.work_until("the end of their grace periods", || {
        (server.stats().rooms, server.stats().peers) == (2, Honest::PEERS)
    });
    honest.outlive(&server);
}

#[test]
fn peers_in_their_grace_period_are_no_more_than_twice_the_connections() {
    let _alone = alone();
    let server = server_with(|options| {
        impatient(options);
        options.max_connections = 10;
        options.limits.grace_ms = 600_000;
    });
    let mut honest = Honest::join(&server);
    let mut joined = Honest::PEERS;
    let refusal = loop {
        match Client::try_connect(&server, &format!("room={ROOM}&peer=p{joined}&join=1"), &[]) {
            Ok(client) => client.cut(),
            Err(refusal) => break refusal,
        }
        joined += 1;
        honest.work_until("the end of its connection", || server.stats().connections == Honest::PEERS);
    };
    assert_eq!(joined, 20);
    assert_eq!((refusal.0, refusal.1["code"].as_i64()), (503, Some(number(ErrorCode::ServerFull))));
    assert_eq!(refusal.1["retry_after_ms"], 5_000);
    // By a message it is the same, and who comes back finds its place.
    let mut late = Client::connect(&server, &format!("room={ROOM}&peer=late"));
    assert_eq!(late.refused("join", json!({})), number(ErrorCode::ServerFull));
    late.cut();
    let mut back = Client::join(&server, ROOM, "p5");
    back.set("k", json!(1));
    back.cut();
    honest.outlive(&server);
}

#[test]
fn the_largest_listen_sets_in_quick_succession_are_answered_and_forgotten() {
    let _alone = alone();
    let server = server_with(impatient);
    let mut honest = Honest::join(&server);
    let mut hostile = Client::join(&server, ROOM, "hostile");
    for round in 0..100 {
        // Other keys each time: 200 of the longest.
        let keys: Vec<String> = (0..200).map(|nth| format!("{round:03}-{nth:03}-{}", "k".repeat(248))).collect();
        let id = hostile.ask("listen-metadata-change", json!({ "keys": keys }));
        while hostile.read()["id"] != *id {}
        honest.work();
    }
    let too_many: Vec<String> = (0..201).map(|nth| format!("k{nth}")).collect();
    let refused = hostile.refused("listen-metadata-change", json!({ "keys": too_many }));
    assert_eq!(refused, number(ErrorCode::TooManyListenedKeys));
    hostile.cut();
    honest.outlive(&server);
}

#[test]
fn one_peer_cannot_take_every_lock() {
    let _alone = alone();
    let server = server_with(impatient);
    let mut honest = Honest::join(&server);
    let mut hostile = Client::join(&server, ROOM, "hostile");
    let mut take = |nth: u32| hostile.ask("lock-acquire", json!({"name": format!("l{nth}"), "ttl_ms": 60_000}));
    let ids: Vec<String> = (0..26).map(&mut take).collect();
    for id in &ids[..25] {
        hostile.result(id);
    }
    assert_eq!(hostile.refusal(&ids[25]).0, number(ErrorCode::TooManyLocks));
    honest.same.writer.call("lock-acquire", json!({"name": "mine", "ttl_ms": 60_000}));
    // What one waits for counts as well.
    let mut other = Client::join(&server, ROOM, "other");
    let params = json!({"name": "l0", "ttl_ms": 60_000, "wait_ms": 60_000});
    let waits: Vec<String> = (0..26).map(|_| other.ask("lock-acquire", params.clone())).collect();
    assert_eq!(other.refusal(&waits[25]).0, number(ErrorCode::TooManyLocks));
    other.cut();
    hostile.cut();
    honest.outlive(&server);
}

#[test]
fn requests_without_end_cost_others_no_more_than_their_turns() {
    let _alone = alone();
    let server = server_with(impatient);
    let mut honest = Honest::join(&server);
    let request = |method: &str, params: Value| {
        let request = json!({"jsonrpc": "2.0", "id": "f", "method": method, "params": params});
        frame(FIN | TEXT, request.to_string().as_bytes())
    };
    let listen = |begin: &str| {
        let keys: Vec<String> = (0..200).map(|nth| format!("{begin}-{nth:03}-{}", "k".repeat(240))).collect();
        request("listen-metadata-change", json!({ "keys": keys }))
    };
    let lock = |nth: u32| request("lock-acquire", json!({"name": format!("l{nth}"), "wait_ms": 60_000}));
    let floods: [Vec<u8>; 4] = [
        (0..50).flat_map(|nth| request("set-metadata", json!({"key": format!("k{}", nth % 5), "data": nth}))).collect(),
        [listen("one"), listen("two")].concat(),
        (0..50).flat_map(lock).collect(),
        frame(FIN | TEXT, b"{").repeat(50),
    ];
    for bytes in &floods {
        // One who reads what it is answered.
        let reading = Client::join(&server, ROOM, "reading");
        let heard = Arc::new(AtomicU64::new(0));
        let reader = std::thread::spawn({
            let (mut stream, heard) = (reading.socket.get_ref().try_clone().expect("a handle"), heard.clone());
            move || {
                let mut buffer = [0; 4_096];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    heard.fetch_add(read as u64, Ordering::Relaxed);
                }
            }
        });
        let flood = Flood::on(reading.socket.get_ref(), &[], bytes.clone());
        honest.work_until("many answers", || heard.load(Ordering::Relaxed) > 1 << 18);
        let lock = honest.same.writer.call("lock-acquire", json!({"name": "mine"}));
        honest.same.writer.call("lock-release", json!({"name": "mine", "token": lock["token"]}));
        drop(flood);
        reader.join().expect("it read");
    }
    // And all at once by those who do not: they are not read from any more, and closed after a while.
    let deaf: Vec<(Client, Flood)> = (0..)
        .zip(floods)
        .map(|(nth, bytes)| {
            let deaf = Client::narrow(&server, ROOM, &format!("deaf-{nth}"), "honest");
            let flood = Flood::on(deaf.socket.get_ref(), &[], bytes);
            (deaf, flood)
        })
        .collect();
    honest.work_until("the end of the floods", || deaf.iter().all(|(_, flood)| flood.is_over()));
    honest.outlive(&server);
}

// ------------------------------------------------------------------ too many, too fast

/// A client on a connection from another address of this machine.
fn from_elsewhere(server: &Server, query: &str) -> Result<Client, (u16, Value)> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0);
    socket.bind(&address.into()).expect("all of 127.0.0.0/8 is this machine");
    socket.connect(&server.local_addr().into()).expect("connects");
    Client::over(patient(socket.into()), server, query, &[])
}

#[test]
#[cfg(target_os = "linux")]
fn one_address_has_only_so_many_connections() {
    let _alone = alone();
    let server = server_with(|options| {
        impatient(options);
        options.max_connections_per_address = 5;
        // They are silent, and so would be closed for that.
        (options.ping_interval_ms, options.idle_timeout_ms) = (60_000, 600_000);
    });
    let mut honest = Honest::join(&server);
    let query = |nth: usize| format!("room={ROOM}&peer=p{nth}&join=1");
    let mut hostile: Vec<Client> =
        (0..5).map(|nth| from_elsewhere(&server, &query(nth)).expect("one of five")).collect();
    for nth in 5..50 {
        let (status, body) = from_elsewhere(&server, &query(nth)).err().expect("one too many");
        assert_eq!((status, body["code"].as_i64()), (429, Some(number(ErrorCode::TooManyConnections))));
        assert_eq!(body["retry_after_ms"], 5_000);
        honest.work();
    }
    // Whoever says nothing has a few places more, and then none.
    let silent: Vec<TcpStream> = (0..100)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("an address");
            socket.connect(&server.local_addr().into()).expect("connects");
            socket.into()
        })
        .collect();
    assert!(server.stats().sockets <= Honest::PEERS + 5 + 16 + 1, "{:?}", server.stats());
    drop(silent);
    // A place that is given up is free for the next.
    hostile.remove(0).cut();
    honest.work_until("the place is free", || from_elsewhere(&server, &query(0)).is_ok());
    drop(hostile);
    honest.outlive(&server);
}

#[test]
fn there_are_only_so_many_rooms() {
    let _alone = alone();
    let server = server_with(|options| {
        impatient(options);
        options.max_rooms = 3;
    });
    let mut honest = Honest::join(&server);
    let third = Client::join(&server, "third", "p");
    for nth in 0..50 {
        let (status, body) = Client::try_connect(&server, &format!("room=r{nth}&join=1"), &[]).err().expect("full");
        assert_eq!((status, body["code"].as_i64()), (503, Some(number(ErrorCode::TooManyRooms))));
        honest.work();
    }
    let mut by_message = Client::connect(&server, "room=fourth");
    assert_eq!(by_message.refused("join", json!({})), number(ErrorCode::TooManyRooms));
    // Rooms that are open take more, and a room that ends makes place for another.
    Client::join(&server, ROOM, "one-more").call("leave", json!({}));
    third.cut();
    honest.work_until("the place is free", || Client::try_connect(&server, "room=r&join=1", &[]).is_ok());
    drop(by_message);
    honest.outlive(&server);
}

/// Rates that a test meets however slow the machine is. The honest have them too, and are silent meanwhile.
fn limited(options: &mut ServerOptions, requests: u32, bytes: u32) {
    impatient(options);
    (options.ping_interval_ms, options.idle_timeout_ms) = (60_000, 600_000);
    options.max_requests_per_second = requests;
    options.max_request_burst = if requests > 0 { 200 } else { 0 };
    options.max_request_bytes_per_second = bytes;
}

#[test]
fn requests_beyond_the_rate_are_refused_and_change_nothing() {
    let _alone = alone();
    let server = server_with(|options| limited(options, 1, 0));
    let mut honest = Honest::join(&server);
    let mut hasty = Client::join(&server, ROOM, "hasty");
    let ids: Vec<String> = (0..300).map(|n| hasty.ask("set-metadata", json!({"key": "k", "data": n}))).collect();
    let (mut last, mut retry_after) = (Value::Null, None);
    for id in &ids {
        let message = hasty.read();
        assert_eq!(message["id"], **id, "refusals come in order too");
        match message.get("result") {
            Some(result) => last = result["data"].clone(),
            None => {
                assert_eq!(message["error"]["code"], number(ErrorCode::RateLimited), "{message}");
                retry_after = message["error"]["data"]["retry_after_ms"].as_u64();
            }
        }
    }
    let retry_after = retry_after.expect("three hundred at once are more than two hundred");
    assert!((1..=1_000).contains(&retry_after), "{retry_after} ms for one of one a second");
    assert_eq!(honest.same.writer.call("get-metadata", json!({"key": "k"}))["data"], last);
    honest.work();
    // Who leaves is let go, however much it has asked.
    let ids: Vec<String> = (0..100).map(|_| hasty.ask("ping", json!({}))).collect();
    let leave = hasty.ask("leave", json!({}));
    ids.iter().for_each(|id| assert_eq!(hasty.read()["id"], **id));
    hasty.result(&leave);
    hasty.cut();
    honest.leave_in_peace(&server);
}

#[test]
fn an_app_is_told_of_its_rate_and_its_listeners_and_locks_come_through() {
    let _alone = alone();
    let server = server_with(|options| limited(options, 1, 0));
    let app = sessionstore::Client::open(sessionstore::ClientOptions::new(server.url(), ROOM), ()).expect("opened");
    let store = app.join_wait(PATIENCE).expect("joined");
    let lock = store.lock("turn", sessionstore::LockOptions::default(), |_| ()).wait(PATIENCE).expect("a lock");
    let (ended, outcomes) = channel();
    for n in 0..300 {
        let ended = ended.clone();
        store.set("k", n.into()).on_result(move |outcome| drop(ended.send(outcome))).expect("asked");
    }
    let outcomes: Vec<_> = (0..300).map(|_| outcomes.recv_timeout(PATIENCE).expect("a result")).collect();
    let last = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).next_back().expect("some were granted");
    let error = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).next_back().expect("and some were not");
    assert_eq!(*error, ErrorCode::RateLimited);
    assert!(error.is_retryable() && error.retry_after_ms() > Some(0));
    // While the server refuses what is asked, the client waits and asks again for what nobody else would.
    let (told, changes) = channel();
    let listening = store.listen(&["k"], move |change: KeyChange<'_>| {
        let _ = told.send(match change {
            KeyChange::Event(event) => Ok(Some(event.change.value.json().to_owned())),
            KeyChange::SnapshotEnd => Ok(None),
            KeyChange::Refused(error) => Err(error.clone()),
        });
    });
    let next = || changes.recv_timeout(PATIENCE).expect("a snapshot").expect("it is asked for again");
    assert_eq!((next(), next()), (Some(last.value.json().to_owned()), None));
    lock.release().wait(PATIENCE).expect("what is given up is never too much");
    drop((lock, listening, store, app));
}

#[test]
fn what_comes_again_is_answered_as_the_first_time_whatever_the_rate() {
    let _alone = alone();
    let server = server_with(|options| limited(options, 1, 0));
    let mut honest = Honest::join(&server);
    let query = format!("room={ROOM}&peer=hasty&secret=000102030405060708090a0b0c0d0e0f");
    let mut hasty = Client::join_with(&server, &query);
    let add = json!({"key": "n", "op": "add", "data": 1});
    let send = |hasty: &mut Client, id: u64, method: &str, params: &Value| {
        hasty.send_text(json!({"id": id.to_string(), "method": method, "params": params}).to_string());
    };
    let read = |hasty: &mut Client, id: u64| {
        let message = hasty.read();
        assert_eq!(message["id"], id.to_string(), "{message}");
        match message["error"]["code"].as_i64() {
            Some(code) => Err(code),
            None => Ok(message["result"].clone()),
        }
    };
    let limited = Err(number(ErrorCode::RateLimited));
    send(&mut hasty, 1, "merge-metadata", &add);
    send(&mut hasty, 2, "lock-acquire", &json!({"name": "turn"}));
    let first = [read(&mut hasty, 1), read(&mut hasty, 2)];
    (3..300).for_each(|id| send(&mut hasty, id, "merge-metadata", &add));
    let added = 1 + (3..300).filter(|id| read(&mut hasty, *id) != limited).count();
    hasty.cut();
    let mut hasty = Client::join_with(&server, &query);
    // One that was refused and may be asked for again, after two that were applied, between two that are new.
    (300..350).for_each(|id| send(&mut hasty, id, "merge-metadata", &add));
    send(&mut hasty, 1, "merge-metadata", &add);
    send(&mut hasty, 2, "lock-acquire", &json!({"name": "turn"}));
    send(&mut hasty, 350, "merge-metadata", &add);
    let release = json!({"name": "turn", "token": first[1].as_ref().expect("granted")["token"]});
    send(&mut hasty, 351, "lock-release", &release);
    let before = (300..350).filter(|id| read(&mut hasty, *id) != limited).count();
    assert_eq!([read(&mut hasty, 1), read(&mut hasty, 2)], first);
    let after = usize::from(read(&mut hasty, 350) != limited);
    assert!(before + after < 51, "the new connection has not more to ask");
    read(&mut hasty, 351).expect("what is given up is never too much");
    let sum = honest.same.writer.call("get-metadata", json!({"key": "n"}))["data"].clone();
    assert_eq!(sum, added + before + after, "each that was not refused was applied once, and no other");
    hasty.cut();
    honest.leave_in_peace(&server);
}

#[test]
fn what_was_refused_for_its_rate_is_refused_again_when_it_comes_again() {
    let _alone = alone();
    let server = server_with(|options| {
        options.max_requests_per_second = 100;
        options.max_request_burst = 20;
    });
    let query = format!("room={ROOM}&peer=hasty&secret=000102030405060708090a0b0c0d0e0f");
    let send = |hasty: &mut Client, id: u64| {
        let params = json!({"key": "n", "op": "add", "data": 1});
        hasty.send_text(json!({"id": id.to_string(), "method": "merge-metadata", "params": params}).to_string());
    };
    // How long it is told to wait, if it is refused.
    let read = |hasty: &mut Client, id: u64| {
        let answer = hasty.read();
        assert_eq!(answer["id"], id.to_string(), "{answer}");
        answer.get("error").map(|error| {
            assert_eq!(error["code"], number(ErrorCode::RateLimited), "{answer}");
            error["data"]["retry_after_ms"].as_u64().expect("a time")
        })
    };
    let mut honest = Client::join(&server, ROOM, "honest");
    let mut hasty = Client::join_with(&server, &query);
    let (mut next, mut added, mut refused) = (1, 0, Vec::new());
    while refused.len() < 3 {
        let many = next..next + 40;
        many.clone().for_each(|id| send(&mut hasty, id));
        for id in many.clone() {
            match read(&mut hasty, id) {
                Some(_) => refused.push(id),
                None => added += 1,
            }
        }
        next = many.end;
    }
    hasty.cut();
    let mut hasty = Client::join_with(&server, &query);
    for again in refused.into_iter().take(3) {
        // Waits as it is told until there is room for two more, so that the first could be done now.
        for _ in 0..2 {
            loop {
                send(&mut hasty, next);
                next += 1;
                match read(&mut hasty, next - 1) {
                    Some(retry_after_ms) => std::thread::sleep(Duration::from_millis(retry_after_ms + 20)),
                    None => break added += 1,
                }
            }
        }
        send(&mut hasty, again);
        assert!(read(&mut hasty, again).is_some(), "it was refused, and is behind what was done since");
    }
    assert_eq!(honest.call("get-metadata", json!({"key": "n"}))["data"], added);
}

#[test]
fn a_flood_is_closed_and_the_one_who_comes_back_has_not_more() {
    let _alone = alone();
    let server = server_with(|options| {
        limited(options, 1, 0);
        options.limits.grace_ms = 600_000;
    });
    let mut honest = Honest::join(&server);
    let request = json!({"jsonrpc": "2.0", "id": "f", "method": "set-metadata", "params": {"key": "k", "data": 1}});
    let floods = [frame(FIN | TEXT, request.to_string().as_bytes()), frame(FIN | PING, b"p"), frame(FIN | PONG, b"p")];
    for (nth, bytes) in floods.iter().enumerate() {
        let peer = format!("hostile-{nth}");
        let mut hostile = Client::join(&server, ROOM, &peer);
        let flood = Flood::on(hostile.socket.get_ref(), &[], bytes.repeat(100));
        assert_eq!(raw_close(&mut hostile), close_code(ErrorCode::RateLimited));
        drop(flood);
        honest.work();
        let mut back = Client::join(&server, ROOM, &peer);
        let ids: Vec<String> = (0..150).map(|_| back.ask("ping", json!({}))).collect();
        let refused = ids.iter().any(|id| {
            let message = loop {
                let message = back.read();
                if message["id"] == **id {
                    break message;
                }
            };
            message["error"]["code"] == number(ErrorCode::RateLimited)
        });
        assert!(refused, "a new connection came with a new budget");
        back.cut();
    }
    honest.leave_in_peace(&server);
}

#[test]
fn bytes_beyond_the_rate_are_refused() {
    let _alone = alone();
    let server = server_with(|options| limited(options, 0, 10_000));
    let mut honest = Honest::join(&server);
    let mut hostile = Client::join(&server, ROOM, "hostile");
    let keys: Vec<String> = (0..200).map(|nth| format!("{nth:03}-{}", "k".repeat(240))).collect();
    // About 49,000 bytes each: the second is read within the burst of 50,000, and the third is too much.
    let mut answer = || {
        let id = hostile.ask("listen-metadata-change", json!({ "keys": keys }));
        loop {
            let message = hostile.read();
            if message["id"] == *id {
                return message;
            }
        }
    };
    let answers: Vec<Value> = (0..4).map(|_| answer()).collect();
    assert!(answers[0].get("result").is_some(), "{}", answers[0]);
    assert_eq!(answers[3]["error"]["code"], number(ErrorCode::RateLimited));
    assert!(answers[3]["error"]["data"]["retry_after_ms"].as_u64() > Some(1_000), "{}", answers[3]);
    honest.work();
    // A flood of whatever is no request at all counts too.
    let mut flooding = Client::join(&server, ROOM, "flooding");
    let flood = Flood::on(flooding.socket.get_ref(), &frame(TEXT, b"{"), frame(FIN | PONG, &[0; 125]).repeat(50));
    assert_eq!(raw_close(&mut flooding), close_code(ErrorCode::RateLimited));
    drop(flood);
    hostile.cut();
    honest.leave_in_peace(&server);
}
