//! What a server can be told, and every number that bounds it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::core::error::{Error, ErrorCode};
use crate::core::limits::{Limits, MAX_KEY_BYTES};
use crate::core::rules::Rules;

/// Largest HTTP request head, in bytes. Other servers take 8 to 16 KiB; a token and a listen set
/// in the query stay well below.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Most header lines of a request. Browsers send about 20.
pub(super) const MAX_HEADERS: usize = 64;

/// How long a connection that was sent its close frame may take to answer with its own, in
/// milliseconds. Dropping the socket at once would lose the close frame behind unread input.
pub(super) const CLOSE_WAIT_MS: u64 = 5_000;

/// Sockets beyond `max_connections` that are still read from, so that they can be told
/// `SERVER_FULL` instead of being cut off.
pub(super) const REFUSED_SOCKETS: usize = 256;

/// The same for one address beyond `max_connections_per_address`, where that is limited.
pub(super) const REFUSED_SOCKETS_PER_ADDRESS: usize = 16;

/// Roles of a room that the original's web client is told of. A room has a handful; on an open server whoever joins
/// could invent one.
pub(super) const MAX_POLICY_ROLES: usize = 64;

/// Members of a room that are written to before other tasks of the loop get their turn. A write
/// costs about 8 µs, so other rooms wait 2 ms at most.
pub(super) const WRITES_PER_TURN: usize = 256;

/// Fewer sockets than this are each written to by a system call of their own, as that is no dearer: with two the one and
/// the other took the same time in a bare loop, with four io_uring took some percent less.
pub(super) const FEWEST_SENDS_TOGETHER: usize = 4;

/// What is new about peers is told at most so often, in milliseconds. Nobody sees a face appear 20 ms
/// late, and however many come at once, each costs every other at most 50 writes a second.
pub(super) const NEWS_INTERVAL_MS: u64 = 20;

/// Unsent bytes of one room above which nobody in it is read from until they are on their way.
/// Four times a full store: reached only when writers outrun the loop.
pub(super) const MAX_BATCH_BYTES: usize = 4 * 65_536;

/// When so many rooms have something to say, it is sent before any more is read: what they say is
/// still in the processor's cache, and is there only so often in memory.
pub(super) const ROOMS_PER_TURN: usize = 64;

/// Memory of batches that are sent which a loop keeps for the next, in bytes: one of the largest, or
/// several times what [`ROOMS_PER_TURN`] small rooms say.
pub(super) const SPARE_BYTES: usize = MAX_BATCH_BYTES;

/// Size of the buffer that a loop lends to the connection that is read from, in bytes.
pub(super) const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Slices handed to the system in one vectored write. Linux takes 1,024; this many fit the stack.
pub(super) const MAX_SLICES: usize = 64;

/// So many bytes for one connection are copied together rather than handed over in slices: an answer
/// and a few changes.
pub(super) const COPIED_BYTES: usize = 1_024;

/// How far the clocks of token issuer and server may differ, in seconds.
pub(super) const TOKEN_LEEWAY_S: u64 = 5;

/// How long before its token expires a connection is told, in milliseconds: time to ask an app's server for
/// another.
pub(super) const TOKEN_WARNING_MS: u64 = 30_000;

/// How long the acceptor rests when the system has no descriptor left, in milliseconds.
pub(super) const ACCEPT_PAUSE_MS: u64 = 100;

/// How often it is said that no connection can be accepted, at most, in milliseconds: it may be so for hours, and the
/// log must not fill the disk meanwhile.
pub(super) const ACCEPT_WARNING_MS: u64 = 10_000;

/// Plaintext that is encrypted at once, in bytes: the largest record of TLS. What the socket does not take
/// of a record is kept, so this bounds what a slow connection holds beyond its queue.
#[cfg(feature = "tls")]
pub(super) const TLS_RECORD_BYTES: usize = 16 * 1024;

/// Most bytes of a client's part in the handshake of TLS. A hello has 300 to 2,000; a chain of client
/// certificates takes a few thousand.
#[cfg(feature = "tls")]
pub(super) const MAX_TLS_HANDSHAKE_BYTES: usize = 64 * 1024;

/// How often the files of certificates are looked at, at most, in milliseconds. Three times stat() in two
/// seconds cost nothing, and who renews a certificate does not wait for it.
#[cfg(feature = "tls")]
pub(super) const TLS_FILE_CHECK_MS: u64 = 2_000;
/// Unless said otherwise, what may be asked at once is what may be asked in so many seconds: a program that
/// begins, comes back or loads a page asks a lot, and then little.
pub(super) const BURST_SECONDS: i64 = 5;

/// After so many bursts of refused requests, more than are granted meanwhile, a connection is closed. Who heeds
/// the time that comes with a refusal is refused once for each request; ten bursts are a program that does not
/// listen.
pub(super) const BURSTS_REFUSED: i64 = 10;

/// Most peers in all rooms, for each connection there may be: all may break at once and come back as others,
/// as when everybody loads a page anew, while the old ones have their grace period.
pub(super) const PEERS_PER_CONNECTION: usize = 2;

/// How long a client that finds the server full is asked to wait, in milliseconds: until somebody leaves.
pub(super) const FULL_RETRY_MS: u64 = 5_000;

/// Most connections of operators and back ends at once: an inspector has two, and a back end a few.
#[cfg(feature = "http")]
pub(super) const MAX_API_CONNECTIONS: usize = 256;

/// Largest body of a request to the API, in bytes: a full store whose every key is written, with room for what JSON
/// escapes.
#[cfg(feature = "http")]
pub(super) const MAX_API_BODY_BYTES: usize = 256 * 1024;

/// Most bytes of webhooks that wait or are being sent, counted as memory: 130,000 that say that a room opened, or 900
/// of full stores. A receiver that is away while that much happens misses the oldest.
#[cfg(feature = "http")]
pub(super) const MAX_WEBHOOK_BYTES: usize = 64 * 1024 * 1024;

/// Webhooks that are sent at once, each of another room: at 50 ms each 320 a second, and a receiver that answers
/// nothing is kept waiting on 16 connections.
#[cfg(feature = "http")]
pub(super) const WEBHOOKS_AT_ONCE: usize = 16;

/// Longest pause before a webhook is sent again, in milliseconds, whatever the receiver asks for: who repairs it sees
/// within the hour that it works.
#[cfg(feature = "http")]
pub(super) const MAX_WEBHOOK_RETRY_MS: u64 = 3_600_000;

/// For how long a webhook is sent again, in milliseconds. In a day somebody has looked at a receiver that fails; what
/// it missed is in memory only, and would not outlive a restart anyway.
#[cfg(feature = "http")]
pub(super) const WEBHOOK_TRIED_FOR_MS: u64 = 86_400_000;

/// So much of an answer to a webhook is read, in bytes, so that the connection serves for the next. Its status says
/// all that counts.
#[cfg(feature = "http")]
pub(super) const MAX_WEBHOOK_ANSWER_BYTES: usize = 16 * 1024;

/// How often it is said that webhooks were dropped, at most, in milliseconds.
#[cfg(feature = "http")]
pub(super) const WEBHOOK_WARNING_MS: u64 = 10_000;

/// Secrets that webhooks are signed with at once: while they are changed there are two.
#[cfg(feature = "http")]
pub(super) const MAX_WEBHOOK_SECRETS: usize = 4;

/// What a secret of webhooks may have, in bytes: as the Standard Webhooks specification has it.
#[cfg(feature = "http")]
pub(super) const WEBHOOK_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Smallest queue: a notification of the largest message must fit.
const MIN_QUEUE_BYTES: usize = 1_024;

/// What a message needs beside its value: method, key, id and punctuation.
const MESSAGE_OVERHEAD_BYTES: usize = 512 + MAX_KEY_BYTES;

/// Most loops. More threads than cores gain nothing, and no machine has more cores than this.
const MAX_THREADS: usize = 1_024;

/// How a server listens, whom it admits, and what it spends on them.
///
/// ```
/// use sessionstore::ServerOptions;
/// let options = ServerOptions { port: 7350, secret: Some("s3cret".into()), ..Default::default() };
/// ```
#[derive(Clone)]
pub struct ServerOptions {
    /// The address to listen on: an IPv4 or IPv6 address, or `localhost`. Default `127.0.0.1`:
    /// this machine only. `0.0.0.0` is every IPv4 network.
    pub address: String,
    /// The port; 0 takes any free one, see [`Server::local_addr`](super::Server::local_addr).
    /// Default 0.
    pub port: u16,
    /// The secret that tokens (HS256 JWTs) are signed with. Without one the server is open:
    /// everybody may join every room. Default none.
    pub secret: Option<String>,
    /// The secret that the tokens of operators and back ends are signed with, another than
    /// [`secret`](Self::secret). With it the server has an HTTP API under `/v1`, described by `/v1/openapi.json`.
    /// Default none: there is no API. Needs the feature `http`.
    pub api_secret: Option<String>,
    /// Whether the server has a page at `/inspect/` on which people look into rooms, with a token for its HTTP API.
    /// Needs [`api_secret`](Self::api_secret). Default false.
    pub inspect: bool,
    /// Who may do what, by role. Default none: everybody may do everything. See
    /// [`Server::set_rules`](super::Server::set_rules) for later ones.
    pub rules: Option<Arc<Rules>>,
    /// TLS, with a certificate from files. Default none: plain `ws://`, for this machine or behind a proxy
    /// that speaks TLS.
    pub tls: Option<TlsOptions>,
    /// The web pages that may connect, by their origin: `https://example.org`, or with a port. Default none
    /// named: all. Requests without an `Origin` header always may: only browsers send it, and a program
    /// could send what it likes.
    pub allowed_origins: Vec<String>,
    /// Where clients reach this server, when that is not where it listens: behind a proxy that speaks TLS, say
    /// `https://rooms.example.org`, or with a path. `GET /init`, which the hosted original's web client asks first,
    /// hands it out. Default none: the host that the request was sent to.
    pub public_url: Option<String>,
    /// A directory in which rooms are kept: sessions then go on after the server was stopped, killed, or restarted,
    /// and nothing that anybody was told is lost. It is made if it is not there, on a disk of this machine, and
    /// belongs to one server at a time. Who has it has what rooms hold and can come back as any peer; what it holds
    /// of a session goes with the session. Default none: rooms live in memory. Needs the feature `durable`.
    pub data_dir: Option<PathBuf>,
    /// With [`data_dir`](Self::data_dir): wait for the disk before anybody is told anything, so that nothing is lost
    /// when the machine loses power either. Each turn of a loop then takes as long as the disk does. Default `false`:
    /// when the machine stops without warning, the last changes may be lost, and sessions begin anew with the rest.
    pub fsync: bool,
    /// Who is told when a room opens and closes. Default none. Needs the feature `http`.
    pub webhook: Option<WebhookOptions>,
    /// The limits of each room.
    pub limits: Limits,
    /// Threads that serve rooms; a room lives on one of them. 0, the default: one per core.
    pub threads: usize,
    /// A connection that was silent for so many milliseconds is sent a ping. Default 15,000.
    pub ping_interval_ms: u64,
    /// A connection that was silent, or took nothing of what waits for it, for so many
    /// milliseconds is closed. Default 45,000: three pings.
    pub idle_timeout_ms: u64,
    /// How long a new connection may take for its request head, and a request to the HTTP API for its body, in
    /// milliseconds. Default 10,000.
    pub handshake_timeout_ms: u64,
    /// Largest message of a client, in bytes. Default 64 KiB: a listen set of 200 of the longest
    /// keys.
    pub max_message_bytes: usize,
    /// Bytes that wait for one connection that does not keep up, before the changes among them
    /// fall back to the newest of each key. Default 256 KiB: four full stores.
    pub queue_bytes: usize,
    /// Most connections at once. Default 50,000.
    pub max_connections: usize,
    /// Most connections from one IPv4 address, or one IPv6 network of 64 bits. 0, the default: as many as
    /// there may be, because behind one address may be a proxy, or a school.
    pub max_connections_per_address: usize,
    /// Most rooms at once, those included that nobody is in and that have not ended. Default 50,000: each
    /// connection may be in a room of its own. With several threads that begin rooms in the same instant
    /// there may be as many more as there are other threads.
    pub max_rooms: usize,
    /// Requests (pings count too) that one peer may make per second, on average. Beyond it they are refused
    /// with `RATE_LIMITED`, and change nothing. 0, the default: no limit. A server gives all rooms and
    /// connections their turn anyway; this bounds how much of its time one peer can take. 1,000 suits a
    /// server that is open to the world.
    pub max_requests_per_second: u32,
    /// Requests that one peer may make at once, when it was quiet before. 0, the default: those of five
    /// seconds.
    pub max_request_burst: u32,
    /// Bytes that one peer may send per second, on average, and five times as many at once. 0, the default:
    /// no limit.
    pub max_request_bytes_per_second: u32,
    /// What stopping may take: the time given to connections to take what waits for them and to
    /// close, in milliseconds, and after that as much again to webhooks. Default 2,000.
    pub shutdown_ms: u64,
    /// After how many milliseconds clients are told to come back when the server stops: each at another time, up to
    /// twice as late, so that they do not all come at once. About as long as a restart takes. Default 1,000.
    pub come_back_ms: u64,
    /// Whether the server counts what it does and answers `GET /metrics`, in Prometheus' text format, to whoever
    /// reaches its port. There are no names of rooms, peers or keys in it. Default `false`: nothing is counted.
    pub metrics: bool,
    /// Whether many sockets are written to by one system call, by io_uring, where the system has it (Linux 6.1 or newer)
    /// and allows it; containers often do not. Takes less of the processor and changes nothing else. Default `false`,
    /// because a program may have forbidden itself that call; `sstore serve` does it unless told otherwise. Needs the
    /// feature `io-uring`, and is without effect in builds without it.
    pub io_uring: bool,
}

/// The files a server that speaks TLS needs, all in PEM. They are read when it starts, by
/// [`Server::reload_tls`](super::Server::reload_tls), and when they change.
///
/// ```no_run
/// use sessionstore::{Server, ServerOptions, TlsOptions};
/// let tls = TlsOptions { certificate: "fullchain.pem".into(), key: "privkey.pem".into(), client_ca: None };
/// let server = Server::start(ServerOptions { tls: Some(tls), ..Default::default() })?;
/// assert!(server.url().starts_with("wss://"));
/// # Ok::<(), sessionstore::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// The server's certificate, followed by those between it and an authority that clients trust.
    pub certificate: PathBuf,
    /// The private key of the first certificate: PKCS #8, SEC 1 or PKCS #1, not encrypted.
    pub key: PathBuf,
    /// Authorities of clients' certificates. With it every client must show a certificate that one of
    /// them signed: mutual TLS. Default none: nobody is asked for one.
    pub client_ca: Option<PathBuf>,
}

/// Where it is told that rooms open and close: `POST` requests by the Standard Webhooks specification, signed, and
/// sent again until they are taken. docs/webhooks.md has what is in them.
///
/// ```
/// use sessionstore::{ServerOptions, WebhookOptions};
/// let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// let webhook = WebhookOptions::new("https://app.example.org/rooms", secret);
/// let options = ServerOptions { webhook: Some(webhook), ..Default::default() };
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookOptions {
    /// Where: `https://` or `http://`, without a user or password. Redirects are not followed.
    pub url: String,
    /// What requests are signed with: `whsec_` and the base64 of 24 to 64 random bytes. While it is changed it may be
    /// both, the new one first, with white space between them: then there are two signatures.
    pub secret: String,
    /// A file with the authorities (PEM) of the receiver's certificate. Default none: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// How long a receiver may take to answer, in milliseconds. Default 10,000.
    pub timeout_ms: u64,
    /// After about how many milliseconds a request that was not taken is sent again; then twice as long each time, up
    /// to an hour, for a day. Default 1,000.
    pub retry_ms: u64,
}

impl WebhookOptions {
    /// With the defaults for everything else.
    pub fn new(url: impl Into<String>, secret: impl Into<String>) -> WebhookOptions {
        WebhookOptions { url: url.into(), secret: secret.into(), ca: None, timeout_ms: 10_000, retry_ms: 1_000 }
    }
}

/// Neither the secret is shown nor the URL, which may have a token in its path or query.
impl std::fmt::Debug for WebhookOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookOptions")
            .field("url", &"(set)")
            .field("secret", &"(set)")
            .field("ca", &self.ca)
            .field("timeout_ms", &self.timeout_ms)
            .field("retry_ms", &self.retry_ms)
            .finish()
    }
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            address: "127.0.0.1".into(),
            port: 0,
            secret: None,
            api_secret: None,
            inspect: false,
            rules: None,
            tls: None,
            allowed_origins: Vec::new(),
            public_url: None,
            data_dir: None,
            fsync: false,
            webhook: None,
            limits: Limits::default(),
            threads: 0,
            ping_interval_ms: 15_000,
            idle_timeout_ms: 45_000,
            handshake_timeout_ms: 10_000,
            max_message_bytes: 64 * 1024,
            queue_bytes: 256 * 1024,
            max_connections: 50_000,
            max_connections_per_address: 0,
            max_rooms: 50_000,
            max_requests_per_second: 0,
            max_request_burst: 0,
            max_request_bytes_per_second: 0,
            shutdown_ms: 2_000,
            come_back_ms: 1_000,
            metrics: false,
            io_uring: false,
        }
    }
}

/// The secret is not shown.
impl std::fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerOptions")
            .field("address", &self.address)
            .field("port", &self.port)
            .field("secret", &self.secret.as_ref().map(|_| "(set)"))
            .field("api_secret", &self.api_secret.as_ref().map(|_| "(set)"))
            .field("inspect", &self.inspect)
            .field("rules", &self.rules.as_ref().map(|_| "(set)"))
            .field("tls", &self.tls)
            .field("allowed_origins", &self.allowed_origins)
            .field("public_url", &self.public_url)
            .field("data_dir", &self.data_dir)
            .field("fsync", &self.fsync)
            .field("webhook", &self.webhook)
            .field("limits", &self.limits)
            .field("threads", &self.threads)
            .field("ping_interval_ms", &self.ping_interval_ms)
            .field("idle_timeout_ms", &self.idle_timeout_ms)
            .field("handshake_timeout_ms", &self.handshake_timeout_ms)
            .field("max_message_bytes", &self.max_message_bytes)
            .field("queue_bytes", &self.queue_bytes)
            .field("max_connections", &self.max_connections)
            .field("max_connections_per_address", &self.max_connections_per_address)
            .field("max_rooms", &self.max_rooms)
            .field("max_requests_per_second", &self.max_requests_per_second)
            .field("max_request_burst", &self.max_request_burst)
            .field("max_request_bytes_per_second", &self.max_request_bytes_per_second)
            .field("shutdown_ms", &self.shutdown_ms)
            .field("come_back_ms", &self.come_back_ms)
            .field("metrics", &self.metrics)
            .finish()
    }
}

impl ServerOptions {
    /// Where to listen, once everything makes sense; `INVALID_CONFIG` otherwise.
    pub(super) fn check(&self) -> Result<SocketAddr, Error> {
        let address = self.address.trim().trim_start_matches('[').trim_end_matches(']');
        let address: IpAddr = match address {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            text => text.parse().map_err(|_| invalid("address is neither an IP address nor localhost"))?,
        };
        let limits = &self.limits;
        let rules = [
            (self.secret.as_deref() != Some(""), "secret is empty; leave it out for an open server"),
            (
                self.api_secret.is_some() || !self.inspect,
                "inspect is set without api_secret, with which the tokens of those who look are signed",
            ),
            (self.data_dir.is_some() || !self.fsync, "fsync is set without data_dir"),
            (self.threads <= MAX_THREADS, "threads is more than 1,024"),
            (self.ping_interval_ms > 0, "ping_interval_ms is 0"),
            (self.ping_interval_ms < self.idle_timeout_ms, "ping_interval_ms must be below idle_timeout_ms"),
            (self.handshake_timeout_ms > 0, "handshake_timeout_ms is 0"),
            (self.max_connections > 0, "max_connections is 0"),
            (self.max_rooms > 0, "max_rooms is 0"),
            (
                self.max_request_burst == 0 || self.max_requests_per_second > 0,
                "max_request_burst needs max_requests_per_second",
            ),
            (self.webhook.as_ref().is_none_or(|webhook| webhook.timeout_ms > 0), "the webhooks' timeout_ms is 0"),
            (self.webhook.as_ref().is_none_or(|webhook| webhook.retry_ms > 0), "the webhooks' retry_ms is 0"),
            (self.queue_bytes >= MIN_QUEUE_BYTES, "queue_bytes is below 1,024"),
            (limits.max_value_bytes > 0, "max_value_bytes is 0"),
            (limits.max_keys > 0, "max_keys is 0"),
            (limits.max_peers > 0, "max_peers is 0"),
            (limits.max_store_bytes > limits.max_value_bytes, "max_store_bytes must be above max_value_bytes"),
            (
                self.max_message_bytes >= limits.max_value_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES),
                "max_message_bytes must be above max_value_bytes by 768 at least, so that a set fits",
            ),
            (self.max_message_bytes <= u32::MAX as usize / 2, "max_message_bytes is over 2 GiB"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(invalid(broken)),
            None => Ok(SocketAddr::new(address, self.port)),
        }
    }

    pub(super) fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            threads => threads,
        }
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorCode::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(change: impl FnOnce(&mut ServerOptions)) -> String {
        let mut options = ServerOptions::default();
        change(&mut options);
        options.check().expect_err("refused").message().to_owned()
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_build_without_tls_says_so() {
        let tls = TlsOptions { certificate: "cert.pem".into(), key: "key.pem".into(), client_ca: None };
        let options = ServerOptions { tls: Some(tls), ..Default::default() };
        let error = crate::Server::start(options).map(drop).expect_err("no TLS");
        assert!(error == ErrorCode::InvalidConfig && error.message().contains("has no TLS"), "{error}");
    }

    #[test]
    fn says_which_option_makes_no_sense() {
        assert!(ServerOptions::default().check().is_ok());
        assert!(message(|o| o.address = "nowhere at all".into()).contains("address"));
        assert!(message(|o| o.secret = Some(String::new())).contains("secret"));
        assert!(message(|o| o.ping_interval_ms = o.idle_timeout_ms).contains("ping_interval_ms"));
        assert!(message(|o| o.limits.max_value_bytes = 1 << 20).contains("max_store_bytes"));
        assert!(message(|o| o.max_message_bytes = 1_024).contains("max_message_bytes"));
        assert!(message(|o| o.limits.max_keys = 0).contains("max_keys"));
        assert!(message(|o| o.max_rooms = 0).contains("max_rooms"));
        assert!(message(|o| o.max_request_burst = 9).contains("max_requests_per_second"));
        let webhook = WebhookOptions::new("https://example.org/", "whsec_");
        let never = WebhookOptions { timeout_ms: 0, ..webhook.clone() };
        assert!(message(|o| o.webhook = Some(never)).contains("timeout_ms"));
        let at_once = WebhookOptions { retry_ms: 0, ..webhook };
        assert!(message(|o| o.webhook = Some(at_once)).contains("retry_ms"));
    }

    #[cfg(not(feature = "http"))]
    #[test]
    fn a_build_without_http_says_so() {
        let webhook = Some(WebhookOptions::new("https://example.org/", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        let options = ServerOptions { webhook, ..Default::default() };
        let error = crate::Server::start(options).map(drop).expect_err("no HTTP");
        assert!(error == ErrorCode::InvalidConfig && error.message().contains("has no webhooks"), "{error}");
    }

    #[test]
    fn takes_addresses_of_both_kinds_and_keeps_the_secret_to_itself() {
        for address in ["::1", "[::1]", "localhost", "0.0.0.0"] {
            let options = ServerOptions { address: address.into(), ..Default::default() };
            assert!(options.check().is_ok(), "{address}");
        }
        let secret = || Some("hunter2".to_owned());
        let options = ServerOptions { secret: secret(), api_secret: secret(), ..Default::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
        let webhook = WebhookOptions::new("https://example.org/?token=hunter2", "whsec_hunter2");
        let options = ServerOptions { webhook: Some(webhook), ..Default::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
