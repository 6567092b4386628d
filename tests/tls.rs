//! `wss`: whom a client trusts, whom a server lets in, and that everything else is as without TLS.
#![cfg(all(feature = "client", feature = "server", feature = "tls"))]

mod certificates;
mod common;
mod support;

use std::ffi::{CStr, CString};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::mpsc;

use certificates::{Authority, Identity};
use common::{patient, reach, Client as Plain};
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;
use sessionstore::ffi::client::*;
use sessionstore::ffi::error::*;
use sessionstore::ffi::server::*;
use sessionstore::ffi::set::sessionstore_store_set_string_wait;
use sessionstore::ffi::store::*;
use sessionstore::{
    Client, ClientOptions, ConnectionState, Error, ErrorCode, KeyChange, Server, ServerOptions, Store, TlsOptions,
    UpdateListener,
};
use support::{server_with, Cable, SAFETY};

fn secure(identity: &Identity) -> Server {
    server_with(|options| options.tls = Some(identity.options()))
}

/// A server that lets in who shows a certificate of this authority.
fn mutual(identity: &Identity, clients: &Authority) -> Server {
    let tls = TlsOptions { client_ca: Some(clients.file()), ..identity.options() };
    server_with(|options| options.tls = Some(tls))
}

fn trusting(url: &str, ca: &Path) -> ClientOptions {
    ClientOptions { ca_file: Some(ca.to_owned()), fail_fast: true, ..ClientOptions::new(url, "r") }
}

fn showing(identity: &Identity, options: ClientOptions) -> ClientOptions {
    ClientOptions {
        client_cert_file: Some(identity.certificate.clone()),
        client_key_file: Some(identity.key.clone()),
        ..options
    }
}

fn try_join(options: ClientOptions) -> Result<(Client, Store), Error> {
    let client = Client::open(options, ())?;
    let store = client.join_wait(SAFETY)?;
    Ok((client, store))
}

fn join(url: &str, ca: &Path) -> (Client, Store) {
    try_join(trusting(url, ca)).expect("joined")
}

/// Asserts that a join fails with this code and a sentence that has this in it.
fn refused(options: ClientOptions, code: ErrorCode, part: &str) {
    match try_join(options) {
        Ok(_) => panic!("joined, where the reason not to has {part:?} in it"),
        Err(error) => assert!(error.code() == code && error.message().contains(part), "{error}, not {part:?}"),
    }
}

/// The states a client goes through, with their errors.
struct States(mpsc::Sender<(ConnectionState, Option<ErrorCode>)>);

impl UpdateListener for States {
    fn on_connection_state(&mut self, state: ConnectionState, error: Option<&Error>) {
        let _ = self.0.send((state, error.map(Error::code)));
    }
}

/// Listens to one key; tells its values as JSON.
fn listen(store: &Store, key: &str) -> (sessionstore::Subscription, mpsc::Receiver<String>) {
    let (told, heard) = mpsc::channel();
    let told = move |change: KeyChange<'_>| {
        if let KeyChange::Event(event) = change {
            let _ = told.send(event.change.value.json().to_owned());
        }
    };
    (store.listen(&[key], told).expect("listening"), heard)
}

fn next(heard: &mpsc::Receiver<String>) -> String {
    heard.recv_timeout(SAFETY).expect("the listener should have been told")
}

/// Reads until the connection ends; whether it ended as TLS ends, and what came.
fn read_out(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> (bool, Vec<u8>) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => (true, bytes),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => (false, bytes),
        Err(error) => panic!("the connection did not end: {error}"),
    }
}

/// Waits until the server has ended a plain connection, however.
fn wait_for_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection did not end: {error}"),
    }
    bytes
}

/// The serial number of the certificate a new connection is shown.
fn shown(authority: &Authority, server: &Server) -> Vec<u8> {
    let mut stream = authority.secure(reach(server), None);
    stream.conn.complete_io(&mut stream.sock).expect("a handshake");
    stream.conn.peer_certificates().and_then(|chain| chain.first()).expect("a certificate").to_vec()
}

// ------------------------------------------------------------------ a room

#[test]
fn a_room_is_shared_over_wss() {
    let authority = Authority::new();
    let server = secure(&authority.server());
    assert!(server.url().starts_with("wss://127.0.0.1:"), "{}", server.url());
    let (_ana, ours) = join(&server.url(), &authority.file());
    // By its name, and as the other kind of URL that a certificate can be for.
    let (ben, theirs) = join(&server.url().replace("127.0.0.1", "localhost"), &authority.file());
    let (_listening, heard) = listen(&theirs, "k");
    assert_eq!(next(&heard), "null");
    ours.set("k", "hello".into()).wait(SAFETY).expect("set");
    assert_eq!(next(&heard), "\"hello\"");
    ben.leave().wait(SAFETY).expect("left");
}

/// This is a library in somebody's program, which may use rustls in its own way.
#[test]
fn nothing_is_set_for_the_whole_process() {
    let authority = Authority::new();
    let server = secure(&authority.server());
    join(&server.url(), &authority.file());
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[test]
fn the_c_functions_join_over_wss() {
    let text = |path: &Path| CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    let authority = Authority::new();
    let (identity, clients) = (authority.server(), Authority::new());
    let user = clients.identity(&["ana"]);
    let files =
        [&identity.certificate, &identity.key, &clients.file(), &authority.file(), &user.certificate, &user.key];
    let files = files.map(|path| text(path));
    // SAFETY: structs as their _INIT macros make them, texts that end with NUL and live long enough, handles
    // that are freed once.
    unsafe {
        let mut options: sessionstore_server_options = std::mem::zeroed();
        options.struct_size = size_of::<sessionstore_server_options>() as u32;
        options.tls_cert_file = files[0].as_ptr();
        options.tls_key_file = files[1].as_ptr();
        options.tls_client_ca_file = files[2].as_ptr();
        options.allowed_origins = c"https://example.org, https://other.example:8443".as_ptr();
        let mut server = null_mut();
        assert_eq!(sessionstore_server_start(&options, &mut server, null_mut()), SESSIONSTORE_OK);
        assert!(CStr::from_ptr(sessionstore_server_url(server)).to_bytes().starts_with(b"wss://"));
        assert_eq!(sessionstore_server_reload_tls(server, null_mut()), SESSIONSTORE_OK);

        let mut options: sessionstore_client_options = std::mem::zeroed();
        options.struct_size = size_of::<sessionstore_client_options>() as u32;
        options.flags = SESSIONSTORE_CLIENT_FAIL_FAST;
        options.url = sessionstore_server_url(server);
        options.room = c"r".as_ptr();
        options.ca_file = files[3].as_ptr();
        let (mut client, mut store, mut error) = (null_mut(), null_mut(), null_mut());
        assert_eq!(sessionstore_client_open(&options, null(), &mut client, null_mut()), SESSIONSTORE_OK);
        let refused = sessionstore_client_join_wait(client, 30_000, &mut store, &mut error);
        assert_eq!(refused, SESSIONSTORE_TLS_FAILED);
        let message = CStr::from_ptr(sessionstore_error_message(error)).to_str().expect("UTF-8");
        assert!(message.contains("client_cert_file"), "{message}");
        sessionstore_error_free(error);
        sessionstore_client_free(client);

        options.client_cert_file = files[4].as_ptr();
        options.client_key_file = files[5].as_ptr();
        assert_eq!(sessionstore_client_open(&options, null(), &mut client, null_mut()), SESSIONSTORE_OK);
        assert_eq!(sessionstore_client_join_wait(client, 30_000, &mut store, null_mut()), SESSIONSTORE_OK);
        let (key, value) = (c"k".as_ptr(), c"hello".as_ptr());
        let end = usize::MAX;
        let set = sessionstore_store_set_string_wait(store, key, end, value, end, 30_000, null_mut(), null_mut());
        assert_eq!(set, SESSIONSTORE_OK);
        sessionstore_store_free(store);
        sessionstore_client_free(client);
        sessionstore_server_free(server);
    }
}

#[test]
fn rooms_of_every_thread_are_reached() {
    let authority = Authority::new();
    let identity = authority.server();
    let server = server_with(|options| {
        options.threads = 2;
        options.tls = Some(identity.options());
    });
    // One thread accepts; of so many rooms some live on the other.
    let rooms: Vec<_> = (0..16)
        .map(|room| {
            let options = ClientOptions { room: format!("r{room}"), ..trusting(&server.url(), &authority.file()) };
            let (client, store) = try_join(options).expect("joined");
            store.set("k", i64::from(room).into()).wait(SAFETY).expect("set");
            (client, store)
        })
        .collect();
    for (room, (_, store)) in rooms.iter().enumerate() {
        assert_eq!(store.get("k").wait(SAFETY).expect("got").value.json(), room.to_string());
    }
    // What comes with the handshake, behind the request's head, travels along.
    for room in 0..16 {
        let mut stream = authority.secure(reach(&server), None);
        let mask = [0u8; 4];
        let ping = br#"{"jsonrpc":"2.0","id":"early","method":"ping"}"#;
        let mut bytes = format!(
            "GET /ws?room=r{room}&join=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes();
        bytes.extend_from_slice(&[0x81, 0x80 | ping.len() as u8]);
        bytes.extend_from_slice(&mask);
        bytes.extend_from_slice(ping);
        stream.write_all(&bytes).expect("written");
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains("\"early\"") {
            let mut some = [0; 4_096];
            let read = stream.read(&mut some).expect("an answer");
            assert!(read > 0, "the connection ended: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&some[..read]);
        }
    }
}

#[test]
fn values_larger_than_a_record_go_both_ways() {
    let authority = Authority::new();
    let identity = authority.server();
    let server = server_with(|options| {
        options.tls = Some(identity.options());
        options.limits.max_value_bytes = 1 << 20;
        options.limits.max_store_bytes = 8 << 20;
        options.max_message_bytes = 2 << 20;
    });
    let (_ana, ours) = join(&server.url(), &authority.file());
    let (_ben, theirs) = join(&server.url(), &authority.file());
    let (_listening, heard) = listen(&theirs, "k");
    assert_eq!(next(&heard), "null");
    // Around the size of a record, of a read buffer, and of many of both.
    for size in [16_300, 16_384, 16_500, 65_536, 70_000, 1_000_000] {
        let text = "x".repeat(size);
        ours.set("k", (*text).into()).wait(SAFETY).expect("set");
        assert_eq!(next(&heard), format!("\"{text}\""));
    }
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let authority = Authority::new();
    let server = secure(&authority.server());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = authority.secure_by(&[version], reach(&server), None);
        let mut client = Plain::join_over(stream, &server, "room=r&peer=a");
        assert_eq!(client.socket.get_ref().conn.protocol_version(), Some(version.version));
        assert!(client.set("k", json!("x".repeat(1_000))) > 0);
        // Within TLS 1.3 a client may change its keys at any time, and have the server change its own.
        if version.version == rustls::ProtocolVersion::TLSv1_3 {
            client.socket.get_mut().conn.refresh_traffic_keys().expect("fresh keys");
        }
        for _ in 0..3 {
            assert!(client.set("k", json!("y".repeat(1_000))) > 0);
        }
        client.socket.close(None).expect("a close frame");
        client.closed();
    }
}

#[test]
fn a_client_comes_back_over_wss() {
    let authority = Authority::new();
    let server = secure(&authority.server());
    let cable = Cable::to(server.local_addr());
    let (told, states) = mpsc::channel();
    let options = ClientOptions {
        reconnect_min_ms: 1,
        reconnect_max_ms: 10,
        ..trusting(&cable.url().replace("ws://", "wss://"), &authority.file())
    };
    let client = Client::open(options, States(told)).expect("open");
    let store = client.join_wait(SAFETY).expect("joined");
    store.set("k", 1.into()).wait(SAFETY).expect("set");
    cable.cut();
    while states.recv_timeout(SAFETY).expect("told").0 != ConnectionState::Reconnecting {}
    cable.mend();
    while states.recv_timeout(SAFETY).expect("told").0 != ConnectionState::Connected {}
    assert_eq!(store.get("k").wait(SAFETY).expect("got").value.json(), "1");
}

// ------------------------------------------------------------------ whom a client trusts

#[test]
fn a_server_that_cannot_be_trusted_is_refused_with_the_reason() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = secure(&authority.server());
    refused(trusting(&server.url(), &other.file()), ErrorCode::TlsFailed, "signed by nobody this client trusts");
    // Of the same name, as when an authority was made anew.
    let (old, new) = (Authority::named("Ours"), Authority::named("Ours"));
    let renewed = secure(&new.server());
    refused(trusting(&renewed.url(), &old.file()), ErrorCode::TlsFailed, "signed by nobody this client trusts");
    let elsewhere = secure(&authority.identity(&["example.org"]));
    refused(trusting(&elsewhere.url(), &authority.file()), ErrorCode::TlsFailed, "another host name");
    let late = secure(&authority.expired(&["localhost", "127.0.0.1"]));
    refused(trusting(&late.url(), &authority.file()), ErrorCode::TlsFailed, "has expired");
    // The system's authorities do not know ours.
    let by_system = ClientOptions { fail_fast: true, ..ClientOptions::new(server.url(), "r") };
    match try_join(by_system) {
        Ok(_) => panic!("joined"),
        Err(error) => assert_eq!(error, ErrorCode::TlsFailed, "{error}"),
    }
}

#[test]
fn a_client_tries_on_until_the_certificate_is_right() {
    let authority = Authority::new();
    let identity = authority.expired(&["127.0.0.1"]);
    let server = secure(&identity);
    let (told, states) = mpsc::channel();
    let options = ClientOptions {
        fail_fast: false,
        reconnect_min_ms: 1,
        reconnect_max_ms: 10,
        ..trusting(&server.url(), &authority.file())
    };
    let client = Client::open(options, States(told)).expect("open");
    while states.recv_timeout(SAFETY).expect("told").1 != Some(ErrorCode::TlsFailed) {}
    identity.replace_with(&authority.server());
    server.reload_tls().expect("read again");
    client.join_wait(SAFETY).expect("joined");
}

#[test]
fn who_speaks_tls_and_who_does_not_is_told() {
    let authority = Authority::new();
    let server = secure(&authority.server());
    let plain = server_with(|_| ());
    let fast = |url: String| ClientOptions { fail_fast: true, ..ClientOptions::new(url, "r") };
    refused(fast(server.url().replace("wss", "ws")), ErrorCode::TlsFailed, "use wss://");
    let url = plain.url().replace("ws://", "wss://");
    refused(trusting(&url, &authority.file()), ErrorCode::TlsFailed, "write ws://");
    // Whatever else speaks HTTP gets a status, and the connection ends.
    let mut browser = reach(&server);
    browser.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    browser.shutdown(std::net::Shutdown::Write).expect("shut down");
    let answer = String::from_utf8(wait_for_end(&browser)).expect("text");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
}

#[test]
fn files_that_cannot_be_used_are_named_at_once() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (identity, ca) = (authority.server(), authority.file());
    let server = secure(&identity);
    let open = |options: ClientOptions, part: &str| {
        let error = Client::open(options, ()).map(drop).expect_err(part);
        assert!(error == ErrorCode::InvalidArgument && error.message().contains(part), "{error}, not {part:?}");
    };
    let nowhere = Path::new("/no/such/file.pem");
    open(trusting(&server.url(), nowhere), "/no/such/file.pem cannot be read");
    open(trusting(&server.url(), &identity.key), "has no certificate in PEM");
    open(trusting(&server.url(), Path::new("/dev/zero")), "larger than");
    let no_key = Identity { certificate: identity.certificate.clone(), key: ca.clone() };
    open(showing(&no_key, trusting(&server.url(), &ca)), "has no private key");
    let mixed = Identity { certificate: identity.certificate.clone(), key: other.server().key };
    open(showing(&mixed, trusting(&server.url(), &ca)), "is not that of the first certificate");
    let half = ClientOptions { client_key_file: None, ..showing(&identity, trusting(&server.url(), &ca)) };
    open(half, "needs both files");
    open(trusting(&server.url().replace("wss", "ws"), &ca), "write wss://");

    let start = |tls: TlsOptions, part: &str| {
        let error = Server::start(ServerOptions { tls: Some(tls), ..Default::default() }).map(drop).expect_err(part);
        assert!(error == ErrorCode::InvalidConfig && error.message().contains(part), "{error}, not {part:?}");
    };
    let good = identity.options();
    start(TlsOptions { certificate: nowhere.into(), ..good.clone() }, "/no/such/file.pem cannot be read");
    start(TlsOptions { key: nowhere.into(), ..good.clone() }, "/no/such/file.pem cannot be read");
    start(TlsOptions { client_ca: Some(nowhere.into()), ..good.clone() }, "/no/such/file.pem cannot be read");
    start(TlsOptions { client_ca: Some(identity.key.clone()), ..good }, "has no certificate");
    start(mixed.options(), "is not that of the first certificate");
}

// ------------------------------------------------------------------ whom a server lets in

#[test]
fn with_mutual_tls_only_known_clients_are_let_in() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = mutual(&authority.server(), &clients);
    let options = || trusting(&server.url(), &authority.file());
    try_join(showing(&clients.identity(&["ana"]), options())).expect("joined");
    refused(options(), ErrorCode::TlsFailed, "client_cert_file");
    let stranger = Authority::new().identity(&["ana"]);
    refused(showing(&stranger, options()), ErrorCode::TlsFailed, "does not accept the client certificate");
    let late = clients.expired(&["ana"]);
    refused(showing(&late, options()), ErrorCode::TlsFailed, "does not accept the client certificate");
    assert_eq!(server.stats().connections, 0);
}

#[test]
fn pages_of_other_origins_are_refused() {
    let authority = Authority::new();
    let identity = authority.server();
    let server = server_with(|options| {
        options.tls = Some(identity.options());
        options.allowed_origins = vec!["https://example.org".into(), "https://app.example.org:8443".into()];
        options.secret = None;
    });
    let connect = |headers: &[(&str, &str)]| {
        Plain::over(authority.secure(reach(&server), None), &server, "room=r", headers).map(drop)
    };
    for headers in [
        &[][..],
        &[("Origin", "https://example.org")],
        &[("Origin", "https://EXAMPLE.org")],
        &[("origin", "https://app.example.org:8443")],
    ] {
        assert_eq!(connect(headers), Ok(()), "{headers:?}");
    }
    for origin in ["http://example.org", "https://app.example.org", "https://evil.example", "null", ""] {
        let (status, body) = connect(&[("Origin", origin)]).expect_err(origin);
        assert_eq!((status, &body["code"]), (403, &json!(ErrorCode::OriginNotAllowed.number())), "{origin}: {body}");
        assert!(body["message"].as_str().is_some_and(|text| text.contains("allowed origins")), "{body}");
    }
}

#[test]
fn the_health_check_is_served_over_tls() {
    let authority = Authority::new();
    let server = secure(&authority.server());
    let mut stream = authority.secure(reach(&server), None);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    let (in_order, answer) = read_out(&mut stream);
    let answer = String::from_utf8(answer).expect("text");
    assert!(in_order && answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"status\":\"ok\""), "{answer}");
}

#[test]
fn half_a_handshake_is_dropped() {
    let authority = Authority::new();
    let identity = authority.server();
    let server = server_with(|options| {
        options.tls = Some(identity.options());
        options.handshake_timeout_ms = 300;
    });
    // A client's hello, as far as it goes.
    let mut session = authority.secure(reach(&server), None).conn;
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("a hello");
    let sent: Vec<TcpStream> = [0, 1, 3, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()]
        .into_iter()
        .map(|length| {
            let mut stream = reach(&server);
            stream.write_all(&hello[..length]).expect("written");
            stream
        })
        .collect();
    for stream in &sent {
        wait_for_end(stream);
    }
    // The whole of TLS, and then half a request.
    let mut half = authority.secure(reach(&server), None);
    half.write_all(b"GET /ws?room=r HTTP/1.1\r\nHost:").expect("written");
    read_out(&mut half);
    // Others are let in all the while.
    join(&server.url(), &authority.file());
}

#[test]
fn a_handshake_without_end_is_dropped_for_its_size() {
    let authority = Authority::new();
    let identity = authority.server();
    let server = server_with(|options| {
        options.tls = Some(identity.options());
        // Time is not what ends it.
        options.handshake_timeout_ms = 3_600_000;
    });
    // A hello of 64 KiB, which is what the protocol allows; each record says that more follows.
    let mut endless = reach(&server);
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    record.resize(5 + 0x4000, 0);
    let more = [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
    let _ = endless.write_all(&record);
    for _ in 0..16 {
        let _ = endless.write_all(&more);
    }
    wait_for_end(&endless);
}

// ------------------------------------------------------------------ certificates that change

#[test]
fn a_new_certificate_is_for_new_connections() {
    let (authority, other) = (Authority::new(), Authority::new());
    let identity = authority.server().copy();
    let server = secure(&identity);
    let (_ana, store) = join(&server.url(), &authority.file());
    identity.replace_with(&other.server());
    server.reload_tls().expect("read again");
    refused(trusting(&server.url(), &authority.file()), ErrorCode::TlsFailed, "signed by nobody");
    join(&server.url(), &other.file());
    store.set("k", 1.into()).wait(SAFETY).expect("the old connection stays");

    // A bad file: the error has its name, and the certificate in force stays.
    std::fs::write(&identity.certificate, "-----BEGIN CERTIFICATE-----\nno").expect("written");
    let error = server.reload_tls().expect_err("bad");
    let name = identity.certificate.display().to_string();
    assert!(error == ErrorCode::InvalidConfig && error.message().contains(&name), "{error}");
    join(&server.url(), &other.file());
    std::fs::remove_file(&identity.key).expect("removed");
    assert_eq!(server.reload_tls().expect_err("gone"), ErrorCode::InvalidConfig);
    join(&server.url(), &other.file());
    assert_eq!(server_with(|_| ()).reload_tls().expect_err("no TLS"), ErrorCode::WrongMode);
}

#[test]
fn files_that_change_are_read_again() {
    let authority = Authority::new();
    let identity = authority.server().copy();
    let server = secure(&identity);
    let first = shown(&authority, &server);
    // Half of the change, which must not harm, and then the other half.
    let second = authority.server();
    std::fs::copy(&second.certificate, &identity.certificate).expect("copied");
    assert_eq!(shown(&authority, &server), first);
    std::fs::copy(&second.key, &identity.key).expect("copied");
    support::patient("the new certificate", || shown(&authority, &server) != first);
    let third = authority.server();
    let second = shown(&authority, &server);
    identity.replace_with(&third);
    support::patient("the one after it", || shown(&authority, &server) != second);
}

// ------------------------------------------------------------------ the end

#[test]
fn every_connection_ends_in_order() {
    let authority = Authority::new();
    let server = secure(&authority.server());
    // The client closes.
    let mut leaving = Plain::join_over(authority.secure(reach(&server), None), &server, "room=r&peer=a");
    leaving.socket.close(None).expect("a close frame");
    assert_eq!(leaving.closed(), 1000);
    assert!(read_out(leaving.socket.get_mut()).0, "there was no close_notify after the close frame");
    // The client only says the end of TLS.
    let mut silent = Plain::join_over(authority.secure(reach(&server), None), &server, "room=r&peer=b");
    let stream = silent.socket.get_mut();
    stream.conn.send_close_notify();
    stream.conn.complete_io(&mut stream.sock).expect("sent");
    assert!(read_out(stream).0, "there was no close_notify after the client's");
    // The server stops, with somebody there who reads and somebody who does not.
    let mut staying = Plain::join_over(authority.secure(reach(&server), None), &server, "room=r&peer=c");
    let _asleep = Plain::join_over(authority.secure(patient(reach(&server)), None), &server, "room=q&peer=d");
    server.stop();
    assert_eq!(staying.closed(), 1012);
    assert!(read_out(staying.socket.get_mut()).0, "there was no close_notify when the server stopped");
    server.stop_wait(SAFETY).expect("stopped");
}
