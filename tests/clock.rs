//! A server on a machine whose clock is set while it runs: by NTP after a start without a battery, or by hand. What rooms
//! are told of the time goes on as it began; tokens are compared with the clock of the system. And a client on a machine
//! that sleeps.
#![cfg(all(feature = "cli", feature = "http", feature = "durable", target_os = "linux", target_env = "gnu"))]

mod process;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{encode, EncodingKey, Header};
use process::{sstore, Running, Serving, PATIENCE};
use serde_json::{json, Value};
use sessionstore::ErrorCode;
use tungstenite::{Message, WebSocket};

const SECRET: &str = "correct-horse-battery";
const API_SECRET: &str = "staple-for-operators";

/// How far the clock is off, in seconds.
const WRONG: i64 = 3_600;

/// A clock of one test.
struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    fn new(test: &str) -> Clock {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let library = directory.join(format!("clock-{test}.so"));
        let mut cc = Command::new(std::env::var_os("CC").unwrap_or("cc".into()));
        cc.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&library);
        let ended = cc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clock/clock.c")).output().expect("a C compiler");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        Clock { library, offset: directory.join(format!("clock-{test}.offset")) }
    }

    fn set(&self, offset: i64) {
        // Another file in its place, so that nobody reads half of it.
        let draft = self.offset.with_extension("new");
        std::fs::write(&draft, offset.to_string()).expect("a file");
        std::fs::rename(draft, &self.offset).expect("renamed");
    }

    /// A server that starts while the clock is off by so much.
    fn serve(&self, offset: i64, arguments: &[&str]) -> Serving {
        self.set(offset);
        // It looks at its connections at least every 20 ms, and pings them.
        let mut command = sstore(&["serve", "--port", "0", "--ping-interval", "80ms", "--idle-timeout", "10s"]);
        command.args(arguments).env("SSTORE_SECRET", SECRET).env("SSTORE_API_SECRET", API_SECRET);
        command.env("LD_PRELOAD", &self.library).env("CLOCK_OFFSET", &self.offset);
        Serving::command(command)
    }
}

/// A token that expires so many seconds from now, as the system says.
fn token(secret: &str, mut claims: Value, seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    claims["exp"] = (now + seconds).into();
    encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

fn reach(server: &Serving) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("ws://")).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// Somebody who watches a room with a token that lasts so many seconds.
struct Watch {
    stream: TcpStream,
    seen: String,
}

impl Watch {
    fn begin(server: &Serving, seconds: u64) -> Watch {
        let mut stream = reach(server);
        let token = token(API_SECRET, json!({"scope": "read"}), seconds);
        let request = format!("GET /v1/rooms/r/watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut watch = Watch { stream, seen: String::new() };
        watch.expect("event: snapshot");
        watch
    }

    /// Reads on; returns whether there was anything.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4_096];
        let read = self.stream.read(&mut bytes).expect("an event, or the end");
        self.seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        read > 0
    }

    fn expect(&mut self, what: &str) {
        while !self.seen.contains(what) {
            assert!(self.read(), "the stream ended before {what}: {}", self.seen);
        }
    }
}

fn join(server: &Serving, seconds: u64) -> WebSocket<TcpStream> {
    let token = token(SECRET, json!({"room_id": "r", "user_id": "ana", "role": "host"}), seconds);
    let url = format!("{}/ws?join=1&token={token}", server.url);
    tungstenite::client(url, reach(server)).expect("a WebSocket").0
}

/// What comes of a connection: the code it is closed with, or none if it was looked after so often.
fn closed_before(client: &mut WebSocket<TcpStream>, mut pings: u32) -> Option<u16> {
    while pings > 0 {
        match client.read().expect("a message") {
            Message::Ping(_) => pings -= 1,
            Message::Close(frame) => return Some(frame.expect("a code").code.into()),
            _ => {}
        }
    }
    None
}

#[test]
fn a_clock_that_was_ahead_ends_no_token_before_its_time() {
    let clock = Clock::new("ahead");
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("clock-kept");
    // There is none the first time.
    let _ = std::fs::remove_dir_all(&directory);
    let keeping = ["--data-dir", directory.to_str().expect("UTF-8"), "--grace", "10h"];

    let server = clock.serve(WRONG, &keeping);
    clock.set(0);
    let mut client = join(&server, 600);
    assert_eq!(closed_before(&mut client, 3), None);

    // Nor one of an operator who watches.
    let mut watch = Watch::begin(&server, 600);
    for nth in 0..10 {
        let set = json!({"id": nth, "method": "set-metadata", "params": {"key": format!("k{nth}"), "data": nth}});
        client.send(Message::text(set.to_string())).expect("sent");
        watch.expect(&format!("\"k{nth}\""));
    }
    server.stop();

    // The time of rooms never runs backwards, so the next server goes on where that one was: an hour ahead.
    let server = clock.serve(0, &keeping);
    assert_eq!(closed_before(&mut join(&server, 600), 3), None);
}

#[test]
fn a_clock_that_was_behind_keeps_no_token_beyond_its_time() {
    let clock = Clock::new("behind");
    let server = clock.serve(-WRONG, &[]);
    clock.set(0);
    let mut client = join(&server, 600);
    let mut watch = Watch::begin(&server, 600);
    clock.set(WRONG);
    while watch.read() {
        assert!(watch.seen.matches(":\n\n").count() < 3, "it goes on: {}", watch.seen);
    }
    let closed = closed_before(&mut client, 300);
    assert_eq!(closed.map(i32::from), Some(4_000 + ErrorCode::TokenExpired.number()));
}

#[test]
fn who_holds_a_lock_hears_of_its_loss_after_a_sleep_also_without_a_connection() {
    let clock = Clock::new("slept");
    clock.set(0);
    let server = Serving::start(&[]);
    let mut command = server.sstore(&["lock", "--ttl", "5m", "turn", "--", "sh", "-c", "echo held; exec sleep 900"]);
    command.env("LD_PRELOAD", &clock.library).env("CLOCK_SLEPT", &clock.offset);
    let holder = Running::start(command);
    assert_eq!(holder.stdout.next(), "held");
    let address = server.url.trim_start_matches("ws://").to_owned();
    server.process.signal("KILL");
    server.process.end();
    // When it tries to come back it knows that it has no connection.
    TcpListener::bind(address).expect("the port of the server").accept().expect("the holder");
    clock.set(WRONG);
    let ended = holder.end();
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.stderr.contains("ran out"), "{ended:?}");
}
