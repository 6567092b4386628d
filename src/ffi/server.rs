//! `sessionstore_server`

use std::ffi::c_char;
use std::mem::size_of;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::sessionstore_error;
use super::guard::{call, call_on, clear, getter, give_box, release, Guarded};
use super::structs::{check_flags, read, Sized32};
use super::text::{optional, required, OutText};
use crate::core::rules::Rules;
use crate::server::{Server, ServerOptions, TlsOptions, WebhookOptions};
use crate::{Error, ErrorCode};

/// Stands for 0 in a field of the server's options in which 0 means the default, such as a grace period of 0.
pub const SESSIONSTORE_ZERO: u32 = u32::MAX;

/// A flag of the server's options, with `data_dir`: wait for the disk before anybody is told anything, so that
/// nothing is lost when the machine loses power either. Without it the last changes may be lost then, and sessions
/// begin anew with the rest.
pub const SESSIONSTORE_SERVER_FSYNC: u32 = 1;

/// A flag of the server's options: count what the server does, and answer `GET /metrics` at its port in Prometheus'
/// text format, to whoever reaches it. There are no names of rooms, peers or keys in it. docs/operate.md has what
/// each metric is.
pub const SESSIONSTORE_SERVER_METRICS: u32 = 2;

/// A flag of the server's options, with `api_secret`: serve a page at `/inspect/` on which people look into rooms, each
/// with a token for the HTTP API. docs/inspector.md has what is on it.
pub const SESSIONSTORE_SERVER_INSPECT: u32 = 4;

/// A flag of the server's options: write to many sockets with one system call, by io_uring, where the system has it
/// (Linux 6.1 or newer) and allows it; elsewhere it changes nothing. It takes less of the processor. Not for a program
/// that is killed by its own sandbox for that call.
pub const SESSIONSTORE_SERVER_IO_URING: u32 = 8;

/// Where to listen and what to allow. Begin with `SESSIONSTORE_SERVER_OPTIONS_INIT`; what stays 0 or
/// NULL has its default. Texts end with NUL and are copied. An empty one counts as NULL, but for `secret`,
/// `api_secret` and `rules`: those are refused with `INVALID_CONFIG`, so that a variable that is not set opens nothing.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_server_options {
    /// Set by `SESSIONSTORE_SERVER_OPTIONS_INIT`.
    pub struct_size: u32,
    /// 0, or those of `SESSIONSTORE_SERVER_FSYNC`, `SESSIONSTORE_SERVER_METRICS`, `SESSIONSTORE_SERVER_INSPECT` and
    /// `SESSIONSTORE_SERVER_IO_URING` that are wanted, added up.
    pub flags: u32,
    /// The IP address to listen on, or `localhost`. Default `127.0.0.1`: this machine only.
    pub address: *const c_char,
    /// The secret that tokens are signed with (HS256). NULL: an open server, which lets everyone in.
    pub secret: *const c_char,
    /// The port, at most 65,535. Default 0: any free one; `sessionstore_server_port` tells which.
    pub port: u32,
    /// Threads that serve rooms; a room lives on one of them. Default 1; `SESSIONSTORE_ZERO` for one per core.
    pub threads: u32,
    /// How long a peer whose connection broke stays, in milliseconds. Default 30,000;
    /// `SESSIONSTORE_ZERO` for not at all.
    pub grace_ms: u32,
    /// How long a session without peers is kept, in milliseconds. Default 0.
    pub linger_ms: u32,
    /// Largest value, in bytes of compact JSON. Default 1,024.
    pub max_value_bytes: u32,
    /// Most keys in a store. Default 100.
    pub max_keys: u32,
    /// Most bytes of keys and values together in a store. Default 65,536.
    pub max_store_bytes: u32,
    /// Most keys one peer listens to. Default 200.
    pub max_listened_keys: u32,
    /// Most peers in a room. Default 20,000.
    pub max_peers: u32,
    /// Most connections in all. Default: the server's own, see `sstore serve --help`.
    pub max_connections: u32,
    /// After how much silence a connection is pinged, in milliseconds. Default 15,000. It must be below
    /// `idle_timeout_ms`.
    pub ping_interval_ms: u32,
    /// After how much silence a connection is closed, in milliseconds. Default 45,000.
    pub idle_timeout_ms: u32,
    /// Rules, as TOML text: which roles may read, write, create, remove and lock what; docs/rules.md has
    /// how they are written. NULL: everybody may do everything. `sessionstore_server_set_rules` changes
    /// them later.
    pub rules: *const c_char,
    /// The server's certificate: a file in PEM, the server's own first, then those between it and an authority
    /// that clients trust. With it and `tls_key_file` the server speaks `wss://` only. The files are read
    /// again by `sessionstore_server_reload_tls` and when they change. NULL: no TLS.
    pub tls_cert_file: *const c_char,
    /// The private key of that certificate: a file in PEM, not encrypted.
    pub tls_key_file: *const c_char,
    /// The authorities of clients' certificates: a file in PEM. With it every client must show a certificate
    /// that one of them signed. NULL: nobody is asked for one.
    pub tls_client_ca_file: *const c_char,
    /// The web pages that may connect, as their origins with commas between them:
    /// `https://example.org,https://app.example.org:8443`. NULL or empty: all. Programs that are no browsers
    /// send no origin, and always may.
    pub allowed_origins: *const c_char,
    /// A directory in which rooms are kept: sessions then go on after the server was stopped, killed or restarted, and
    /// nothing that anybody was told is lost. It is made if it is not there, on a disk of this machine, and belongs
    /// to one server at a time. NULL: rooms live in memory.
    pub data_dir: *const c_char,
    /// Most connections from one IPv4 address, or one IPv6 network of 64 bits. Default 0: no limit of its own.
    pub max_connections_per_address: u32,
    /// Most rooms at once. Default 50,000.
    pub max_rooms: u32,
    /// Requests that one peer may make per second, on average; what is beyond is refused with
    /// `RATE_LIMITED`. Default 0: no limit.
    pub max_requests_per_second: u32,
    /// Requests that one peer may make at once. Default 0: those of five seconds.
    pub max_request_burst: u32,
    /// Bytes that one peer may send per second, on average. Default 0: no limit.
    pub max_request_bytes_per_second: u32,
    /// Largest message of a client, in bytes. Default 65,536.
    pub max_message_bytes: u32,
    /// Where clients reach this server, when that is not where it listens: `https://rooms.example.org` behind a proxy,
    /// say. It is handed out to the hosted original's web client, which asks for it. NULL or empty: the host that
    /// the client's request was sent to.
    pub public_url: *const c_char,
    /// Where it is told that rooms open and close, by signed requests: `https://` or `http://`, without a user or
    /// password; docs/webhooks.md has what is in them. NULL or empty: nowhere.
    pub webhook_url: *const c_char,
    /// What they are signed with: `whsec_` and the base64 of 24 to 64 random bytes. While it is changed it may be both,
    /// the new one first, with white space between them. Needed with `webhook_url`.
    pub webhook_secret: *const c_char,
    /// A file with the authorities (PEM) of the receiver's certificate. NULL or empty: those that the system trusts.
    pub webhook_ca_file: *const c_char,
    /// How long the receiver may take to answer, in milliseconds. Default 10,000.
    pub webhook_timeout_ms: u32,
    /// After about how many milliseconds a request that was not taken is sent again; then twice as long each time, up
    /// to an hour, for a day. Default 1,000.
    pub webhook_retry_ms: u32,
    /// The secret that the tokens of operators and back ends are signed with (HS256), another than `secret`. With it
    /// the server has an HTTP API under `/v1`; docs/http-api.md has what it can do. NULL: no API.
    pub api_secret: *const c_char,
}

// SAFETY: repr(C), beginning with struct_size; integers and pointers.
unsafe impl Sized32 for sessionstore_server_options {
    const FIRST_SIZE: usize = std::mem::offset_of!(sessionstore_server_options, rules) + size_of::<usize>();
    const NAME: &'static str = "server options";
}

/// A server that hosts rooms inside this process, on threads of its own.
pub struct sessionstore_server {
    server: Guarded<Server>,
    url: OutText,
}

/// Starts a server. When this returns, clients can connect. `options` may be NULL: all defaults.
///
/// Errors: `ADDRESS_IN_USE`, `ADDRESS_UNAVAILABLE`, `INVALID_CONFIG`, `INVALID_ARGUMENT`,
/// `DATA_DIRECTORY_UNUSABLE`, `DATA_DAMAGED` and `DATA_NEWER` of `data_dir`, `TLS_FAILED` when webhooks need
/// authorities and the system has none, `INVALID_UTF8`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `NULL_ARGUMENT`, `OUT_OF_RESOURCES`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_server_start(
    options: *const sessionstore_server_options,
    server_out: *mut *mut sessionstore_server,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(server_out);
    call(error_out, || {
        super::guard::needed("server_out", server_out)?;
        // SAFETY: a struct and texts as the caller owes.
        let options = if options.is_null() { defaults() } else { unsafe { convert(&read(options)?.whole()?) }? };
        let server = Server::start(options)?;
        let url = OutText::new(&server.url());
        give_box(sessionstore_server { server: Guarded::new(server), url }, server_out)
    })
}

fn defaults() -> ServerOptions {
    // An app that hosts a room beside its own work gives it one thread.
    ServerOptions { threads: 1, ..ServerOptions::default() }
}

/// # Safety
/// The texts are NULL or end with NUL.
unsafe fn convert(given: &sessionstore_server_options) -> Result<ServerOptions, Error> {
    let known = SESSIONSTORE_SERVER_FSYNC
        | SESSIONSTORE_SERVER_METRICS
        | SESSIONSTORE_SERVER_INSPECT
        | SESSIONSTORE_SERVER_IO_URING;
    check_flags::<sessionstore_server_options>(given.flags, known)?;
    let mut options = defaults();
    // SAFETY: as the caller says.
    let (address, secret) = unsafe { (optional("address", given.address)?, optional("secret", given.secret)?) };
    if !address.is_empty() {
        options.address = address.to_owned();
    }
    if !given.secret.is_null() {
        options.secret = Some(secret.to_owned());
    }
    if !given.rules.is_null() {
        // SAFETY: as the caller says.
        options.rules = Some(Arc::new(Rules::from_toml(unsafe { optional("rules", given.rules)? })?));
    }
    // SAFETY: as the caller says.
    let path = |what, file| unsafe { optional(what, file) }.map(|path| (!path.is_empty()).then(|| PathBuf::from(path)));
    let client_ca = path("tls_client_ca_file", given.tls_client_ca_file)?;
    options.tls = match (path("tls_cert_file", given.tls_cert_file)?, path("tls_key_file", given.tls_key_file)?) {
        (Some(certificate), Some(key)) => Some(TlsOptions { certificate, key, client_ca }),
        (None, None) if client_ca.is_none() => None,
        _ => return Err(Error::new(ErrorCode::InvalidConfig, "TLS needs both tls_cert_file and tls_key_file")),
    };
    // SAFETY: as the caller says.
    let origins = unsafe { optional("allowed_origins", given.allowed_origins) }?;
    options.allowed_origins =
        origins.split(',').map(str::trim).filter(|origin| !origin.is_empty()).map(str::to_owned).collect();
    // SAFETY: as the caller says.
    let public_url = unsafe { optional("public_url", given.public_url) }?;
    options.public_url = (!public_url.is_empty()).then(|| public_url.to_owned());
    options.data_dir = path("data_dir", given.data_dir)?;
    // SAFETY: as the caller says.
    let (url, secret) =
        unsafe { (optional("webhook_url", given.webhook_url)?, optional("webhook_secret", given.webhook_secret)?) };
    let ca = path("webhook_ca_file", given.webhook_ca_file)?;
    if !url.is_empty() {
        options.webhook = Some(WebhookOptions { ca, ..WebhookOptions::new(url, secret) });
    } else if !secret.is_empty() || ca.is_some() {
        return Err(Error::new(ErrorCode::InvalidConfig, "webhooks need webhook_url"));
    }
    if !given.api_secret.is_null() {
        // SAFETY: as the caller says.
        options.api_secret = Some(unsafe { optional("api_secret", given.api_secret) }?.to_owned());
    }
    options.inspect = given.flags & SESSIONSTORE_SERVER_INSPECT != 0;
    options.fsync = given.flags & SESSIONSTORE_SERVER_FSYNC != 0;
    options.metrics = given.flags & SESSIONSTORE_SERVER_METRICS != 0;
    options.io_uring = given.flags & SESSIONSTORE_SERVER_IO_URING != 0;
    options.port = u16::try_from(given.port)
        .map_err(|_| Error::new(ErrorCode::InvalidArgument, "the port is larger than 65535"))?;
    let or = |given: u32, default: u64| match given {
        0 => default,
        SESSIONSTORE_ZERO => 0,
        given => u64::from(given),
    };
    let size = |given: u32, default: usize| or(given, default as u64) as usize;
    options.threads = size(given.threads, options.threads);
    let limits = &mut options.limits;
    limits.grace_ms = or(given.grace_ms, limits.grace_ms);
    limits.linger_ms = or(given.linger_ms, limits.linger_ms);
    limits.max_value_bytes = size(given.max_value_bytes, limits.max_value_bytes);
    limits.max_keys = size(given.max_keys, limits.max_keys);
    limits.max_store_bytes = size(given.max_store_bytes, limits.max_store_bytes);
    limits.max_listened_keys = size(given.max_listened_keys, limits.max_listened_keys);
    limits.max_peers = size(given.max_peers, limits.max_peers);
    options.max_connections = size(given.max_connections, options.max_connections);
    options.max_connections_per_address = size(given.max_connections_per_address, options.max_connections_per_address);
    options.max_rooms = size(given.max_rooms, options.max_rooms);
    // Here 0 is the default, and means no limit.
    options.max_requests_per_second = given.max_requests_per_second;
    options.max_request_burst = given.max_request_burst;
    options.max_request_bytes_per_second = given.max_request_bytes_per_second;
    options.max_message_bytes = size(given.max_message_bytes, options.max_message_bytes);
    if let Some(webhook) = &mut options.webhook {
        webhook.timeout_ms = or(given.webhook_timeout_ms, webhook.timeout_ms);
        webhook.retry_ms = or(given.webhook_retry_ms, webhook.retry_ms);
    }
    options.ping_interval_ms = or(given.ping_interval_ms, options.ping_interval_ms);
    options.idle_timeout_ms = or(given.idle_timeout_ms, options.idle_timeout_ms);
    Ok(options)
}

/// The port the server listens on; 0 for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_server_port(server: *const sessionstore_server) -> u32 {
    // SAFETY: NULL or a live server, as the caller owes.
    getter(0, || unsafe { guarded(server) }.map_or(0, |server| server.get().local_addr().port().into()))
}

/// The URL for clients on this machine, such as `"ws://127.0.0.1:7350"`, or with `wss` when the server has a
/// certificate. Lives as long as the server;
/// `""` for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_server_url(server: *const sessionstore_server) -> *const c_char {
    getter(c"".as_ptr(), || {
        // SAFETY: NULL or a live server, as the caller owes.
        let server = unsafe { server.as_ref() };
        server.map_or(c"".as_ptr(), |s| s.url.get(&s.server.get().url(), std::ptr::null_mut()))
    })
}

/// Counts open rooms, peers (those in their grace period included) and connections. Each output may be
/// NULL.
///
/// Errors: `DATA_DIRECTORY_UNUSABLE` when the server has stopped by itself, because what happens in its rooms can
/// no longer be kept in its `data_dir`. Nobody was told of what was not kept.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_server_stats(
    server: *const sessionstore_server,
    rooms_out: *mut u64,
    peers_out: *mut u64,
    connections_out: *mut u64,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live server, as the caller owes.
    call_on(unsafe { guarded(server) }, error_out, |server| {
        if let Some(failure) = server.failure() {
            return Err(failure);
        }
        let stats = server.stats();
        let counts = [(rooms_out, stats.rooms), (peers_out, stats.peers), (connections_out, stats.connections)];
        for (out, count) in counts.into_iter().filter(|(out, _)| !out.is_null()) {
            // SAFETY: not NULL, and the caller gave it as the place of one number.
            unsafe { out.write(count as u64) };
        }
        Ok(())
    })
}

/// Puts other rules in force, in every room, without dropping a connection. `rules` is TOML text
/// (docs/rules.md has how it is written); NULL with a length of 0: everybody may do everything.
///
/// Whoever may no longer read a key stops hearing of it; a listener that names it is told `FORBIDDEN`
/// (`on_refused`). Returns before all rooms have the new rules.
///
/// Errors: `INVALID_CONFIG` with the line and the reason, after which the old rules stay in force;
/// `INVALID_UTF8`, `NULL_ARGUMENT`.
///
/// ```c
/// const char *rules = "[[rule]]\nroles = [\"*\"]\nkeys = [\"*\"]\nallow = [\"read\"]\n";
/// sessionstore_server_set_rules(server, rules, SESSIONSTORE_NUL_TERMINATED, NULL);
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_server_set_rules(
    server: *const sessionstore_server,
    rules: *const c_char,
    rules_len: usize,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live server, as the caller owes.
    call_on(unsafe { guarded(server) }, error_out, |server| {
        let rules = match (rules.is_null(), rules_len) {
            (true, 0) => None,
            // SAFETY: a text as the caller owes.
            _ => Some(Arc::new(Rules::from_toml(unsafe { required("rules", rules, rules_len) }?)?)),
        };
        server.set_rules(rules);
        Ok(())
    })
}

/// Reads the certificate's files again. Connections that come from now on get what is in them; those there
/// are stay. The server also looks by itself whether the files changed, when a connection comes and at most
/// once in two seconds.
///
/// Errors: `INVALID_CONFIG` with the file and the reason, after which the old certificate stays in force;
/// `WRONG_MODE` for a server without TLS.
///
/// ```c
/// sessionstore_error *error = NULL;
/// if (sessionstore_server_reload_tls(server, &error) != SESSIONSTORE_OK) {
///     fprintf(stderr, "%s\n", sessionstore_error_message(error));
///     sessionstore_error_free(error);
/// }
/// ```
#[no_mangle]
pub unsafe extern "C" fn sessionstore_server_reload_tls(
    server: *const sessionstore_server,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live server, as the caller owes.
    call_on(unsafe { guarded(server) }, error_out, Server::reload_tls)
}

/// Asks the server to stop, and returns at once: clients are told to come back later, and their rooms
/// end.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_server_stop(
    server: *const sessionstore_server,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live server, as the caller owes.
    call_on(unsafe { guarded(server) }, error_out, |server| {
        server.stop();
        Ok(())
    })
}

/// Stops the server and waits until its threads have ended and its port is free.
///
/// Errors: `WOULD_DEADLOCK` inside a callback; `TIMEOUT`, after which the server is still stopping.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_server_stop_wait(
    server: *const sessionstore_server,
    timeout_ms: u32,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: NULL or a live server, as the caller owes.
    call_on(unsafe { guarded(server) }, error_out, |server| {
        crate::client::may_wait()?;
        server.stop_wait(Duration::from_millis(timeout_ms.into()))
    })
}

/// Frees a server, asking it to stop if it runs. It never blocks and is legal anywhere. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_server_free(server: *mut sessionstore_server) {
    if !server.is_null() {
        // SAFETY: given out by Box::into_raw and not freed before, as the caller owes.
        release(|| drop(unsafe { Box::from_raw(server) }));
    }
}

/// # Safety
/// NULL or a live server.
unsafe fn guarded<'a>(server: *const sessionstore_server) -> Option<&'a Guarded<Server>> {
    // SAFETY: as the caller says.
    unsafe { server.as_ref() }.map(|server| &server.server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_switch_on_what_they_are_named_after() {
        let converted = |flags| {
            // SAFETY: NULL and 0 are values of all fields.
            let given = sessionstore_server_options { flags, ..unsafe { std::mem::zeroed() } };
            // SAFETY: there are no texts.
            let options = unsafe { convert(&given) }.expect("known flags");
            [options.fsync, options.metrics, options.inspect, options.io_uring]
        };
        assert_eq!(converted(0), [false; 4]);
        assert_eq!(converted(SESSIONSTORE_SERVER_FSYNC), [true, false, false, false]);
        assert_eq!(converted(SESSIONSTORE_SERVER_METRICS), [false, true, false, false]);
        assert_eq!(converted(SESSIONSTORE_SERVER_INSPECT), [false, false, true, false]);
        assert_eq!(converted(SESSIONSTORE_SERVER_IO_URING), [false, false, false, true]);
    }
}
