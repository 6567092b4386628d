//! What several tests need: a server on a free port, and a cable that can be cut.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

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
    let mut options = ServerOptions { threads: 1, port: 0, ..ServerOptions::default() };
    change(&mut options);
    Server::start(options).expect("a server on a free port")
}

/// A server that lets one client join and then does what it is told to with its connection. Returns its URL.
pub fn scripted(script: impl FnOnce(WebSocket<TcpStream>) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("the port is known"));
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut join_id = String::new();
        #[allow(clippy::result_large_err)] // The type is tungstenite's.
        let read_id = |request: &Request, response: Response| {
            let query = request.uri().query().unwrap_or("").split('&');
            join_id = query.filter_map(|pair| pair.strip_prefix("join=")).collect();
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, read_id).expect("a WebSocket");
        let welcome = r#""result":{"peer_id":"p","session_id":"s","revision":0}"#;
        socket.send(Message::text(format!("{{\"id\":\"{join_id}\",{welcome}}}"))).expect("sent");
        socket.send(Message::text(r#"{"method":"peer-list","params":{"peers":{}}}"#)).expect("sent");
        script(socket);
    });
    url
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

/// Looks until something holds; for what is not told by an event.
pub fn patient(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SAFETY;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// A TCP proxy: what goes through it can be stalled, cut, led elsewhere.
pub struct Cable {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    target: SocketAddr,
    /// Connections are refused, or rather closed at once.
    is_cut: bool,
    /// Nothing goes from server to client.
    is_stalled: bool,
    /// Bytes from the server that a stalled cable holds.
    held: usize,
    streams: Vec<TcpStream>,
    ended: bool,
}

impl Cable {
    pub fn to(target: SocketAddr) -> Cable {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the port is known");
        let state = State { target, is_cut: false, is_stalled: false, held: 0, streams: Vec::new(), ended: false };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let own = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut now = own.0.lock().unwrap();
                if now.ended {
                    return;
                }
                let server = if now.is_cut { None } else { TcpStream::connect(now.target).ok() };
                let Some(server) = server else { continue };
                now.streams.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                drop(now);
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || carry(from, to, |_| ()));
                let own = own.clone();
                std::thread::spawn(move || carry(server, client, |bytes| hold(&own, bytes)));
            }
        });
        Cable { address, state }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Breaks every connection, without a word, and lets none be made.
    pub fn cut(&self) {
        let mut state = self.state.0.lock().unwrap();
        state.is_cut = true;
        state.is_stalled = false;
        for stream in state.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.state.1.notify_all();
    }

    /// Connections can be made again.
    pub fn mend(&self) {
        self.state.0.lock().unwrap().is_cut = false;
    }

    /// New connections go to another server.
    pub fn lead_to(&self, target: SocketAddr) {
        self.state.0.lock().unwrap().target = target;
    }

    /// What the server says is held back.
    pub fn stall(&self) {
        let mut state = self.state.0.lock().unwrap();
        (state.is_stalled, state.held) = (true, 0);
    }

    /// Waits until a stalled cable holds something.
    pub fn wait_until_held(&self) {
        let (state, changed) = &*self.state;
        let state = state.lock().unwrap();
        let (_state, waited) = changed.wait_timeout_while(state, SAFETY, |state| state.held == 0).unwrap();
        assert!(!waited.timed_out(), "the server said nothing that could be held");
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.state.0.lock().unwrap().ended = true;
        self.cut();
        let _ = TcpStream::connect(self.address);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, mut before: impl FnMut(usize)) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        before(bytes);
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn hold(state: &(Mutex<State>, Condvar), bytes: usize) {
    let mut now = state.0.lock().unwrap();
    if now.is_stalled {
        now.held += bytes;
        state.1.notify_all();
    }
    while now.is_stalled {
        now = state.1.wait(now).unwrap();
    }
}
