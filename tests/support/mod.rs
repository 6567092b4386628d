//! What several tests need: a server on a free port, and a cable that can be cut.
#![allow(dead_code)]

pub mod cable;

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

#[allow(unused_imports)] // Some tests have no need of it.
pub use cable::Cable;

use serde_json::{json, Value as Json};
use sessionstore::{Server, ServerOptions};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// How long a test waits for what must come, before it fails. Never reached when all is well.
pub const SAFETY: Duration = Duration::from_secs(30);

/// A server with the usual options.
pub fn server() -> Server {
    server_with(|_| ())
}

/// A server whose options are changed first.
pub fn server_with(change: impl FnOnce(&mut ServerOptions)) -> Server {
    // As `sstore serve` does where it can; other tests' servers write without it.
    let mut options = ServerOptions { threads: 1, port: 0, io_uring: true, ..ServerOptions::default() };
    change(&mut options);
    Server::start(options).expect("a server on a free port")
}

/// A server that lets one client join and then does what it is told to with its connection. Returns its URL.
pub fn scripted(script: impl FnOnce(WebSocket<TcpStream>) + Send + 'static) -> String {
    let (listener, url) = listener();
    std::thread::spawn(move || script(welcome(listener.accept().expect("a client").0, json!({}))));
    url
}

/// A port for clients, and its URL.
pub fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("the port is known"));
    (listener, url)
}

/// Takes a client through the handshake and lets it join, with these fields in the answer beside the usual ones.
pub fn welcome(stream: TcpStream, fields: Json) -> WebSocket<TcpStream> {
    let mut socket = answer_join(stream, fields);
    say(&mut socket, nobody_else());
    socket
}

/// The list of peers that ends a join.
pub fn nobody_else() -> Json {
    json!({"method": "peer-list", "params": {"peers": {}}})
}

/// The same as [`welcome`] without the list of peers that is to follow.
pub fn answer_join(stream: TcpStream, fields: Json) -> WebSocket<TcpStream> {
    let mut join_id = String::new();
    #[allow(clippy::result_large_err)] // The type is tungstenite's.
    let read_id = |request: &Request, response: Response| {
        let query = request.uri().query().unwrap_or("").split('&');
        join_id = query.filter_map(|pair| pair.strip_prefix("join=")).collect();
        Ok(response)
    };
    let mut socket = tungstenite::accept_hdr(stream, read_id).expect("a WebSocket");
    let mut result = json!({"peer_id": "p", "session_id": "s", "revision": 0});
    result.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    say(&mut socket, json!({"id": join_id, "result": result}));
    socket
}

/// Sends a message, if the client is still there.
pub fn say(socket: &mut WebSocket<TcpStream>, message: Json) {
    let _ = socket.send(Message::text(message.to_string()));
}

/// Asks the system for so many descriptors, and returns how many there may be.
pub fn allow_descriptors(needed: u64) -> u64 {
    // SAFETY: the place of one struct of numbers, which the system fills or reads.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return 0;
        }
        if limit.rlim_cur < needed {
            let more = libc::rlimit { rlim_cur: needed.min(limit.rlim_max), ..limit };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &more) == 0 {
                limit = more;
            }
        }
        limit.rlim_cur
    }
}

/// How often threads of this name have gone to sleep; `None` if there is none.
#[cfg(target_os = "linux")]
pub fn sleeps(thread: &str) -> Option<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this process has threads");
    let mut found = None;
    for task in tasks.flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        // The system keeps the first 15 bytes of a name.
        if name.trim_end() != &thread[..thread.len().min(15)] {
            continue;
        }
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count: u64 = line.expect("the system counts switches").trim().parse().expect("a number");
        *found.get_or_insert(0) += count;
    }
    found
}

/// Looks until something holds; for what is not told by an event.
pub fn patient(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SAFETY;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
