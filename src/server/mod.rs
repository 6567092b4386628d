//! The server: hosts rooms for whoever connects, embedded in a program or as `sstore serve`.
//!
//! ```
//! use sessionstore::{Server, ServerOptions};
//! let server = Server::start(ServerOptions::default())?;
//! println!("join at {}/ws?room=lobby", server.url());
//! # server.stop();
//! # Ok::<(), sessionstore::Error>(())
//! ```
//!
//! A server is a few threads, its *loops*, each with the rooms that hash to it. All of a room
//! happens on its loop, so nothing in it is locked. What a room has to say between two turns is
//! encoded once into a batch, and every listener is given one contiguous slice of it; what a
//! socket does not take is kept for that connection alone, within bounds.
//!
//! | module | what it does |
//! |---|---|
//! | `options` | what a server can be told; every bound with its reason |
//! | `acceptor` | new sockets, up to the point where their room is known |
//! | `http`, `handshake`, `origin`, `token` | a request head, what it asks for, and whether that is granted |
//! | `init` | what the hosted original's web client asks first |
//! | `rules` | rules from a file |
//! | `shard` | a loop: its rooms, its connections, flusher, timers, stopping |
//! | `room_host`, `requests` | one room with its members, and what they ask of it |
//! | `api` | the HTTP API, on a thread of its own |
//! | `operate`, `watch` | what it asks of the loops, and what they tell it |
//! | `budget` | how much one peer may ask |
//! | `batch`, `plan`, `outbox` | what a room has to say, and to whom; where one connection is in it |
//! | `news`, `peer_list` | what is new about peers, and the list of all of them |
//! | `sends`, `ring` | the writes of a turn, handed to the system together |
//! | `metrics`, `spans` | what is counted, and how Prometheus is told; spans for traces |
//! | `keeper`, `journal`, `wal` | what a loop has to keep of its rooms, and where it is kept |
//! | `notice`, `webhooks` | what programs of the administrator are told of rooms, and how it gets there |
//! | `connection`, `frames`, `stream`, `tls` | one WebSocket, its frames, the transport under it |

mod acceptor;
#[cfg(feature = "http")]
mod api;
#[cfg(not(feature = "http"))]
#[path = "api_absent.rs"]
mod api;
mod batch;
mod budget;
mod clock;
mod connection;
mod handshake;
mod http;
mod init;
#[cfg(feature = "durable")]
mod journal;
#[cfg(not(feature = "durable"))]
#[path = "journal_absent.rs"]
mod journal;
mod keeper;
mod metrics;
mod news;
mod notice;
#[cfg(feature = "http")]
mod operate;
mod options;
mod origin;
mod outbox;
mod peer_list;
mod plan;
mod requests;
#[cfg(all(feature = "io-uring", target_os = "linux"))]
mod ring;
#[cfg(not(all(feature = "io-uring", target_os = "linux")))]
#[path = "ring_absent.rs"]
mod ring;
mod room_host;
mod rules;
mod sends;
mod shard;
mod signal;
#[cfg(feature = "otel")]
mod spans;
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls_absent.rs"]
mod tls;
#[cfg(not(fuzzing))]
pub(crate) mod token;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod token;
#[cfg(all(feature = "durable", not(fuzzing)))]
mod wal;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod wal;
#[cfg(feature = "http")]
mod watch;
#[cfg(feature = "http")]
mod webhooks;
#[cfg(not(feature = "http"))]
#[path = "webhooks_absent.rs"]
mod webhooks;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc::unbounded_channel;

use crate::core::error::{Error, ErrorCode};
use crate::core::rules::Rules;

#[cfg(feature = "http")]
#[doc(hidden)]
pub use api::openapi;
pub use options::{ServerOptions, TlsOptions, WebhookOptions};
use shard::{Running, Shared, ToShard};

/// Connections that may wait to be accepted. The system caps it (4,096 on Linux).
const BACKLOG: i32 = 4_096;

/// A running server.
///
/// It runs on threads of its own and needs no runtime. All methods may be called from any
/// thread. Dropping it asks it to stop, and does not wait.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What a server has at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Rooms with a session.
    pub rooms: usize,
    /// Peers in all rooms, those in their grace period included.
    pub peers: usize,
    /// Open WebSocket connections.
    pub connections: usize,
    /// Sockets, those included that have not yet asked for a room.
    pub sockets: usize,
}

impl Server {
    /// Begins to listen, and returns when connections are accepted.
    ///
    /// Errors: `INVALID_CONFIG` with the option at fault, `ADDRESS_IN_USE`,
    /// `ADDRESS_UNAVAILABLE`, `OUT_OF_RESOURCES`.
    pub fn start(options: ServerOptions) -> Result<Server, Error> {
        let address = options.check()?;
        let has_api = api::check(&options)?;
        let threads = options.thread_count();
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..threads).map(|_| unbounded_channel()).unzip();
        // Before the port is opened: nobody should find it and be cut off over a file that is not there.
        #[cfg_attr(not(feature = "http"), allow(unused_mut))]
        let (mut shared, kept) = Shared::new(options, senders)?;
        #[cfg(feature = "http")]
        let api_inbox = has_api.then(|| shared.open_api());
        let shared = Arc::new(shared);
        let listener = listen(address)?;
        let address = listener.local_addr().map_err(out_of_resources)?;
        // From here on an early return drops the server, and with it stops the loops begun.
        let server = Server { address, shared };
        let mut listener = Some(listener);
        for (index, (inbox, kept)) in inboxes.into_iter().zip(kept).enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(out_of_resources)?;
            let shared = server.shared.clone();
            let listener = listener.take();
            let thread = std::thread::Builder::new().name(format!("sstore-loop-{index}"));
            let started = thread.spawn(move || shard::run(runtime, shared, inbox, index, listener, kept));
            started.map_err(out_of_resources)?;
        }
        #[cfg(feature = "http")]
        if let Some(inbox) = api_inbox {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(out_of_resources)?;
            let running = Running::helper(server.shared.clone());
            let thread = std::thread::Builder::new().name("sstore-http".into());
            thread.spawn(move || running.api(runtime, inbox)).map_err(out_of_resources)?;
        }
        if server.shared.webhooks.is_some() {
            // Last: it ends when the loops have.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(out_of_resources)?;
            let running = Running::helper(server.shared.clone());
            let thread = std::thread::Builder::new().name("sstore-webhooks".into());
            thread.spawn(move || running.webhooks(runtime)).map_err(out_of_resources)?;
        }
        tracing::info!(%address, threads, api = has_api, tls = server.shared.tls.is_some(), "listening");
        Ok(server)
    }

    /// Where it listens; with port 0 in the options, the port it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL for clients on this machine, such as `ws://127.0.0.1:7350`, or with `wss` when it has a
    /// certificate.
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let scheme = if self.shared.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}", SocketAddr::new(ip, self.address.port()))
    }

    /// Why the server stopped by itself, if it did: what happens in its rooms can no longer be kept in
    /// [`ServerOptions::data_dir`]. Nobody was told of what was not kept.
    pub fn failure(&self) -> Option<Error> {
        self.shared.failure.get().cloned()
    }

    /// Waits until the server has ended: because it was stopped, or by itself, which is the error.
    pub fn wait(&self) -> Result<(), Error> {
        let mut running = self.shared.running.lock().map_err(|_| Error::from(ErrorCode::Internal))?;
        while running.any() {
            running = self.shared.ended.wait(running).map_err(|_| Error::from(ErrorCode::Internal))?;
        }
        self.failure().map_or(Ok(()), Err)
    }

    /// How much is going on.
    pub fn stats(&self) -> Stats {
        Stats {
            rooms: self.shared.rooms.load(Ordering::Relaxed),
            peers: self.shared.peers.load(Ordering::Relaxed),
            connections: self.shared.connections.load(Ordering::Relaxed),
            sockets: self.shared.sockets.load(Ordering::Relaxed),
        }
    }

    /// Puts other rules in force, in every room, without dropping a connection; `None`: everybody may do
    /// everything. Whoever may no longer read a key stops hearing of it; who listens to it by its name is
    /// told `FORBIDDEN`. Returns before all rooms have them.
    pub fn set_rules(&self, rules: Option<Arc<Rules>>) {
        for shard in &self.shared.shards {
            // Fails when that loop has ended already.
            let _ = shard.send(ToShard::Rules(rules.clone()));
        }
    }

    /// Reads the files of [`ServerOptions::tls`] again; connections that come from now on get what is in
    /// them, and those there are stay. The server also looks by itself whether the files changed, when
    /// a connection comes and at most once in two seconds.
    ///
    /// It reads on the thread that calls.
    ///
    /// Errors: `INVALID_CONFIG` with the file and the reason, after which the old certificate stays in
    /// force; `WRONG_MODE` for a server without TLS.
    ///
    /// ```
    /// # let server = sessionstore::Server::start(Default::default())?;
    /// // Say, in a handler of SIGHUP, or after the certificate was renewed.
    /// if let Err(error) = server.reload_tls() {
    ///     eprintln!("the old certificate stays in force: {error}");
    /// }
    /// # Ok::<(), sessionstore::Error>(())
    /// ```
    pub fn reload_tls(&self) -> Result<(), Error> {
        match &self.shared.tls {
            Some(tls) => tls.reload(),
            None => Err(Error::new(ErrorCode::WrongMode, "the server was started without TLS")),
        }
    }

    /// Asks the server to stop, and returns at once. Its port is closed, connections get what
    /// waits for them and close code 1012 (come back in a moment), within
    /// [`ServerOptions::shutdown_ms`]. Asking again does nothing.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// The same, and waits until all is over; `TIMEOUT` if it is not in time.
    pub fn stop_wait(&self, timeout: Duration) -> Result<(), Error> {
        self.stop();
        let begun = Instant::now();
        let fault = |_| Error::from(ErrorCode::Internal);
        let mut running = self.shared.running.lock().map_err(fault)?;
        while running.any() {
            let Some(left) = timeout.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else {
                return Err(Error::new(ErrorCode::Timeout, "the server is still stopping"));
            };
            running = self.shared.ended.wait_timeout(running, left).map_err(|_| Error::from(ErrorCode::Internal))?.0;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).field("stats", &self.stats()).finish()
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let attempt = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // So that a server that was stopped can be started again at once. On Windows the option
        // means something else: it would let two servers share the port.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Messages are written when they are complete, so none should wait for the next.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    attempt().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            Error::new(ErrorCode::AddressInUse, format!("another program listens on {address}; choose another port"))
        }
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => {
            let message = format!(
                "{address} cannot be listened on; check that it belongs to this machine and that the port is allowed"
            );
            Error::new(ErrorCode::AddressUnavailable, message)
        }
        _ => out_of_resources(error),
    })
}

fn out_of_resources(error: io::Error) -> Error {
    Error::new(ErrorCode::OutOfResources, format!("the system refused a socket or a thread: {error}"))
}
