//! Webhooks, as a receiver sees them: plain HTTP on a socket of the test, which answers what it is told to.
#![cfg(all(feature = "http", feature = "client"))]

mod certificates;
mod common;
#[cfg(feature = "cli")]
mod process;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use certificates::{Authority, Identity};
use common::Client as Raw;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{json, Value as Json};
use sessionstore::{ErrorCode, Server, ServerOptions, WebhookOptions};
use standardwebhooks::{Webhook, WebhookError};
use support::SAFETY;
use tungstenite::http::HeaderMap;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request that the receiver got.
#[derive(Clone, Debug)]
struct Call {
    /// The first line.
    request: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Call {
    fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    fn json(&self) -> Json {
        serde_json::from_str(&self.body).expect("JSON")
    }

    fn kind(&self) -> String {
        self.json()["type"].as_str().expect("a type").to_owned()
    }

    fn room(&self) -> String {
        self.json()["data"]["room"].as_str().expect("a room").to_owned()
    }
}

/// What is sent to a caller; then the connection is closed.
type Answer = Box<dyn FnOnce(&mut dyn Write) -> std::io::Result<()> + Send>;

fn answer(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()> + Send + 'static) -> Answer {
    Box::new(write)
}

fn bytes(text: impl Into<String>) -> Answer {
    let text = text.into();
    answer(move |stream| stream.write_all(text.as_bytes()))
}

fn status(status: u16) -> Answer {
    bytes(format!("HTTP/1.1 {status} Some\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
}

/// A server for webhooks, one a connection, so that what it answers may be anything. How it answers, a closure says.
struct Receiver {
    url: String,
    /// What it got, in order.
    calls: mpsc::Receiver<Call>,
    /// Connections that brought none.
    empty: mpsc::Receiver<()>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn read_call(stream: &mut dyn Stream) -> Option<Call> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let request = line()?;
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line()?.split_once(':') {
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Call { request, headers, body: String::from_utf8(body).expect("UTF-8") })
}

impl Receiver {
    fn new(answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Receiver {
        Receiver::with_tls(None, answer)
    }

    fn with_tls(identity: Option<&Identity>, answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("the port is known").port();
        let scheme = if identity.is_some() { "https" } else { "http" };
        let tls = identity.map(|identity| {
            let chain = CertificateDer::pem_file_iter(&identity.certificate).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(chain.map(|one| one.expect("PEM")).collect(), key);
            Arc::new(config.expect("a configuration"))
        });
        let ((told, calls), (missed, empty)) = (mpsc::channel(), mpsc::channel());
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (told, missed, answer, tls) = (told.clone(), missed.clone(), answer.clone(), tls.clone());
                std::thread::spawn(move || {
                    // Nobody hears of it once the test is over.
                    let serve = |mut stream: &mut dyn Stream| {
                        let Some(call) = read_call(stream) else {
                            let _ = missed.send(());
                            return;
                        };
                        let _ = told.send(call.clone());
                        let _ = answer(&call)(&mut stream);
                    };
                    match tls {
                        None => serve(&mut common::patient(stream)),
                        Some(config) => {
                            let session = rustls::ServerConnection::new(config).expect("a session");
                            let mut stream = rustls::StreamOwned::new(session, common::patient(stream));
                            serve(&mut stream);
                            stream.conn.send_close_notify();
                            let _ = stream.flush();
                        }
                    }
                });
            }
        });
        Receiver { url: format!("{scheme}://localhost:{port}/hooks?from=test"), calls, empty }
    }

    fn next(&self) -> Call {
        self.calls.recv_timeout(SAFETY).expect("a webhook comes")
    }

    fn expect(&self, kind: &str) -> Call {
        let call = self.next();
        assert_eq!(call.kind(), kind, "{call:?}");
        call
    }
}

fn webhook(receiver: &Receiver) -> WebhookOptions {
    WebhookOptions { retry_ms: 1, ..WebhookOptions::new(&receiver.url, SECRET) }
}

fn server(receiver: &Receiver, change: impl FnOnce(&mut ServerOptions)) -> Server {
    support::server_with(|options| {
        options.webhook = Some(webhook(receiver));
        options.limits.grace_ms = 600_000;
        change(options);
    })
}

fn stop(server: &Server) {
    server.stop_wait(SAFETY).expect("stops");
}

/// What the specification's own library makes of a call.
fn verify(secret: &str, call: &Call) -> Result<(), WebhookError> {
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, call.headers[name].parse().expect("a header"));
    }
    Webhook::new(secret).expect("a secret").verify(call.body.as_bytes(), &headers)
}

fn leave(mut client: Raw) {
    client.call("leave", json!({}));
}

#[test]
fn a_room_is_told_when_it_opens_and_with_its_last_state_when_it_closes() {
    let receiver = Receiver::new(|_| status(204));
    let server = server(&receiver, |_| ());
    let mut ada = Raw::join(&server, "lobby", "ada");
    let opened = receiver.expect("room.opened");
    assert_eq!(opened.request, "POST /hooks?from=test HTTP/1.1");
    assert_eq!(opened.headers["content-type"], "application/json");
    assert!(opened.headers["user-agent"].starts_with("SessionStore/"));
    let data = opened.json()["data"].clone();
    assert_eq!(data["room"], "lobby");
    let started_at = data["started_at"].as_u64().expect("a time");
    assert_eq!(data.as_object().expect("an object").len(), 3, "{data}");

    ada.set("pinned", json!("hello"));
    let version = ada.set("quiz", json!({"question": 3}));
    ada.set("gone", json!(1));
    ada.set("gone", Json::Null);
    ada.call("set-metadata", json!({"key": "hand/ada", "data": true, "bind": true}));
    let grace = Raw::join(&server, "lobby", "grace");
    leave(ada);
    leave(grace);
    let closed = receiver.expect("room.closed");
    let body = closed.json();
    let data = &body["data"];
    assert_eq!((&data["room"], &data["session_id"]), (&json!("lobby"), &opened.json()["data"]["session_id"]));
    assert_eq!((data["started_at"].as_u64(), data["revision"].as_u64()), (Some(started_at), Some(6)), "{data}");
    let ended_at = data["ended_at"].as_u64().expect("a time");
    assert!(ended_at >= started_at, "{data}");
    let timestamp = body["timestamp"].as_str().expect("a date");
    let told_at = humantime::parse_rfc3339(timestamp).expect("RFC 3339");
    assert_eq!(told_at.duration_since(std::time::UNIX_EPOCH).expect("since 1970").as_millis() as u64, ended_at);
    let states = data["state"].as_array().expect("states");
    let keys: Vec<&str> = states.iter().map(|state| state["key"].as_str().expect("a key")).collect();
    assert_eq!(keys, ["pinned", "quiz"]);
    assert_eq!((&states[1]["data"], &states[1]["updated_by"]), (&json!({"question": 3}), &json!("ada")));
    assert_eq!(states[1]["change_version"], version);
    assert_ne!(opened.id(), closed.id());
    stop(&server);
    assert!(receiver.calls.try_recv().is_err(), "nothing else was told");
}

#[test]
fn who_has_the_secret_can_tell_what_was_tampered_with() {
    let receiver = Receiver::new(|_| status(200));
    let newer = format!("whsec_{}", STANDARD.encode([9; 32]));
    let both = format!("{newer} {SECRET}");
    let server = server(&receiver, |options| {
        options.webhook = Some(WebhookOptions::new(&receiver.url, both));
    });
    let ada = Raw::join(&server, "lobby", "ada");
    let call = receiver.next();
    for secret in [SECRET, &newer] {
        verify(secret, &call).expect("it is from the server");
        let tampered = Call { body: call.body.replace("lobby", "l0bby"), ..call.clone() };
        assert!(matches!(verify(secret, &tampered), Err(WebhookError::InvalidSignature)));
        let mut other = call.clone();
        other.headers.insert("webhook-id".into(), "msg_another".into());
        assert!(matches!(verify(secret, &other), Err(WebhookError::InvalidSignature)));
    }
    let stranger = format!("whsec_{}", STANDARD.encode([8; 32]));
    assert!(matches!(verify(&stranger, &call), Err(WebhookError::InvalidSignature)));
    drop(ada);
    stop(&server);
}

#[test]
fn what_was_not_taken_is_sent_again_under_the_same_id_and_in_order() {
    let count = AtomicUsize::new(0);
    let receiver = Receiver::new(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => status(500),
        1 => bytes("HTTP/1.1 429 Slowly\r\nConnection: close\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"),
        2 => status(408),
        // It is gone before it has answered.
        3 => bytes(""),
        4 => bytes("garbage, which is no HTTP\r\n\r\n"),
        5 => bytes("HTTP/1.1 20"),
        _ => status(200),
    });
    let server = server(&receiver, |_| ());
    leave(Raw::join(&server, "lobby", "ada"));
    let first = receiver.expect("room.opened");
    for _ in 0..6 {
        let again = receiver.expect("room.opened");
        assert_eq!((again.id(), &again.body), (first.id(), &first.body));
        verify(SECRET, &again).expect("signed anew");
    }
    let closed = receiver.expect("room.closed");
    assert_ne!(closed.id(), first.id());
    stop(&server);
    assert!(receiver.calls.try_recv().is_err(), "what was taken is not sent again");
}

#[test]
fn what_is_refused_is_given_up_and_redirects_are_not_followed() {
    let elsewhere = Receiver::new(|_| status(200));
    let place = elsewhere.url.clone();
    let count = AtomicUsize::new(0);
    let receiver = Receiver::new(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => {
            bytes(format!("HTTP/1.1 307 There\r\nConnection: close\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"))
        }
        1 => status(404),
        _ => status(200),
    });
    let server = server(&receiver, |_| ());
    leave(Raw::join(&server, "lobby", "ada"));
    receiver.expect("room.opened");
    receiver.expect("room.closed");
    leave(Raw::join(&server, "lobby", "grace"));
    receiver.expect("room.opened");
    receiver.expect("room.closed");
    stop(&server);
    assert!(receiver.calls.try_recv().is_err(), "each was sent once");
    assert!(elsewhere.calls.try_recv().is_err(), "nothing went where the receiver pointed");
}

#[test]
fn an_endless_answer_is_an_answer() {
    let receiver = Receiver::new(|_| {
        answer(|stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            // Until the other end has had enough.
            loop {
                stream.write_all(format!("1000\r\n{}\r\n", "x".repeat(4_096)).as_bytes())?;
            }
        })
    });
    let server = server(&receiver, |_| ());
    leave(Raw::join(&server, "lobby", "ada"));
    receiver.expect("room.opened");
    receiver.expect("room.closed");
    stop(&server);
    assert!(receiver.calls.try_recv().is_err(), "each was sent once");
}

#[test]
fn an_endless_head_is_no_answer() {
    let count = AtomicUsize::new(0);
    let receiver = Receiver::new(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => answer(|stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
            loop {
                stream.write_all(&[b'x'; 4_096])?;
            }
        }),
        _ => status(200),
    });
    let server = server(&receiver, |_| ());
    let ada = Raw::join(&server, "lobby", "ada");
    let first = receiver.expect("room.opened");
    assert_eq!(receiver.expect("room.opened").id(), first.id());
    drop(ada);
    stop(&server);
}

/// Holds each answer back until the test lets go.
fn silent() -> (Receiver, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let receiver = Receiver::new(move |_| {
        // Whoever waits first is let go when the test drops its end.
        let _ = held.lock().map(|held| held.recv_timeout(SAFETY));
        status(200)
    });
    (receiver, release)
}

#[test]
fn a_receiver_that_never_answers_holds_no_room_up() {
    let (receiver, release) = silent();
    let server = server(&receiver, |options| options.shutdown_ms = 1);
    for nth in 0..40 {
        let mut ada = Raw::join(&server, &format!("room {nth}").replace(' ', "-"), "ada");
        assert_eq!(ada.set("k", json!(nth)), 1);
        leave(ada);
    }
    assert_eq!(server.stats().rooms, 0);
    // More wait than are ever sent at once, and stopping waits for none of them.
    stop(&server);
    drop(release);
}

#[test]
fn what_is_not_answered_in_time_is_sent_again() {
    let (receiver, release) = silent();
    let server = server(&receiver, |options| {
        options.webhook.as_mut().expect("webhooks").timeout_ms = 10;
        options.shutdown_ms = 1;
    });
    let _ada = Raw::join(&server, "lobby", "ada");
    let first = receiver.expect("room.opened");
    assert_eq!(receiver.expect("room.opened").id(), first.id());
    stop(&server);
    drop(release);
}

#[test]
fn other_rooms_do_not_wait_for_one_that_is_not_taken() {
    let receiver = Receiver::new(|call| match &*call.room() {
        "bad" => status(503),
        _ => status(200),
    });
    let server = server(&receiver, |options| options.shutdown_ms = 1);
    leave(Raw::join(&server, "bad", "ada"));
    leave(Raw::join(&server, "good", "ada"));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "good room.closed") {
        let call = receiver.next();
        seen.push(format!("{} {}", call.room(), call.kind()));
    }
    assert!(!seen.contains(&"bad room.closed".to_owned()), "it waits for its turn: {seen:?}");
    let good: Vec<&String> = seen.iter().filter(|call| call.starts_with("good")).collect();
    assert_eq!(good, ["good room.opened", "good room.closed"]);
    stop(&server);
}

#[test]
fn a_server_that_stops_tells_what_its_rooms_held() {
    let receiver = Receiver::new(|_| status(200));
    let server = server(&receiver, |options| options.shutdown_ms = 20_000);
    let mut ada = Raw::join(&server, "lobby", "ada");
    ada.set("score", json!(7));
    receiver.expect("room.opened");
    drop(ada);
    stop(&server);
    let closed = receiver.expect("room.closed");
    assert_eq!(closed.json()["data"]["state"][0]["data"], 7);
}

#[test]
fn what_waits_to_be_sent_again_is_sent_once_more_when_the_server_stops() {
    let count = AtomicUsize::new(0);
    let receiver = Receiver::new(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => status(500),
        _ => status(200),
    });
    let server = server(&receiver, |options| {
        // Not by itself, as far as this test is concerned.
        options.webhook.as_mut().expect("webhooks").retry_ms = 3_000_000;
        options.shutdown_ms = 20_000;
    });
    leave(Raw::join(&server, "lobby", "ada"));
    let first = receiver.expect("room.opened");
    stop(&server);
    assert_eq!(receiver.expect("room.opened").id(), first.id());
    receiver.expect("room.closed");
}

#[test]
fn a_server_that_stops_does_not_wait_for_a_receiver_that_is_away() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", gone.local_addr().expect("the port is known"));
    drop(gone);
    let server = support::server_with(|options| {
        options.webhook = Some(WebhookOptions::new(url, SECRET));
        options.shutdown_ms = 1;
    });
    leave(Raw::join(&server, "lobby", "ada"));
    stop(&server);
}

#[test]
fn over_tls_a_receiver_must_be_who_it_says_it_is() {
    let (authority, other) = (Authority::new(), Authority::new());
    let receiver = Receiver::with_tls(Some(&authority.server()), |_| status(200));
    let trusts = |file: PathBuf| {
        let url = &receiver.url;
        support::server_with(|options| {
            options.webhook = Some(WebhookOptions { ca: Some(file), retry_ms: 1, ..WebhookOptions::new(url, SECRET) });
            options.shutdown_ms = 1;
        })
    };
    let server = trusts(other.file());
    let _ada = Raw::join(&server, "wrong", "ada");
    receiver.empty.recv_timeout(SAFETY).expect("it calls, and goes no further");
    stop(&server);
    let server = trusts(authority.file());
    let _ada = Raw::join(&server, "right", "ada");
    let call = receiver.expect("room.opened");
    assert_eq!(call.room(), "right", "who is not trusted is sent nothing");
    verify(SECRET, &call).expect("signed");
    stop(&server);
}

#[test]
fn what_makes_no_sense_is_refused_with_what_is_wrong_and_nothing_secret() {
    let good = || WebhookOptions::new("https://hooks.example.org/", SECRET);
    let bad = |url: &str| WebhookOptions { url: url.into(), ..good() };
    let missing = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no such file");
    for (webhook, why) in [
        (bad("ftp://hooks.example.org/"), "http://"),
        (bad("hooks.example.org"), "http://"),
        (bad("https://ada:hunter2@hooks.example.org/"), "password"),
        (bad("https://hunter2 /"), "no URL"),
        (WebhookOptions { secret: String::new(), ..good() }, "empty"),
        (WebhookOptions { secret: "hunter2".into(), ..good() }, "whsec_"),
        (WebhookOptions { secret: "whsec_aHVudGVyMg==".into(), ..good() }, "24"),
        (WebhookOptions { ca: Some(missing), ..good() }, "no such file"),
        (WebhookOptions { timeout_ms: 0, ..good() }, "timeout_ms"),
        (WebhookOptions { retry_ms: 0, ..good() }, "retry_ms"),
    ] {
        let options = ServerOptions { webhook: Some(webhook), ..Default::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
        let error = Server::start(options).map(drop).expect_err(why);
        let said = error.message();
        assert!(error == ErrorCode::InvalidConfig && said.contains(why) && !said.contains("hunter2"), "{said}");
    }
}

#[cfg(feature = "durable")]
#[test]
fn sessions_that_are_kept_are_told_once() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("webhooks-{}", std::process::id()));
    std::fs::create_dir(&path).expect("a directory");
    let receiver = Receiver::new(|_| status(200));
    let kept = |options: &mut ServerOptions| {
        options.data_dir = Some(path.clone());
        options.shutdown_ms = 20_000;
    };
    let first = server(&receiver, kept);
    let mut ada = Raw::join(&first, "lobby", "ada");
    ada.set("score", json!(7));
    let opened = receiver.expect("room.opened");
    drop(ada);
    stop(&first);
    assert!(receiver.calls.try_recv().is_err(), "it goes on");
    let second = server(&receiver, kept);
    leave(Raw::join(&second, "lobby", "ada"));
    let closed = receiver.expect("room.closed");
    let (opened, closed) = (opened.json()["data"].clone(), closed.json()["data"].clone());
    assert_eq!((&closed["session_id"], &closed["state"][0]["data"]), (&opened["session_id"], &json!(7)));
    assert_eq!(closed["started_at"], opened["started_at"]);
    stop(&second);
    let _ = std::fs::remove_dir_all(&path);
}

#[cfg(feature = "cli")]
#[test]
fn the_program_tells_too_and_logs_nothing_of_what_it_tells() {
    let count = AtomicUsize::new(0);
    let receiver = Receiver::new(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => status(500),
        1 => status(404),
        _ => status(200),
    });
    let mut command = process::sstore(&["serve", "--port", "0", "--log-level", "trace"]);
    command.args(["--webhook-url", &receiver.url, "--webhook-retry", "1ms"]).env("SSTORE_WEBHOOK_SECRET", SECRET);
    let serving = process::Serving::command(command);
    serving.output(&["set", "pinned", "\"classified\"", "--room", "lobby"]);
    let first = receiver.expect("room.opened");
    verify(SECRET, &first).expect("signed");
    assert_eq!(receiver.expect("room.opened").id(), first.id());
    let closed = receiver.expect("room.closed");
    assert_eq!(closed.json()["data"]["state"][0]["data"], "classified");
    let log = serving.stop().stderr;
    for said in ["the receiver answered 500", "the receiver answered 404", first.id()] {
        assert!(log.contains(said), "{said} is not in {log}");
    }
    for secret in [SECRET, "from=test", "classified", &first.headers["webhook-signature"]] {
        assert!(!log.contains(secret), "the log has {secret}: {log}");
    }
}

/// A file may not grow beyond a size, as when the disk is full.
#[cfg(all(feature = "cli", feature = "durable", unix))]
#[test]
fn what_could_not_be_kept_nobody_is_told() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("webhooks-full-{}", std::process::id()));
    let receiver = Receiver::new(|_| status(200));
    let mut command = std::process::Command::new("sh");
    let script =
        "trap '' XFSZ; ulimit -f 800; exec \"$0\" serve --port 0 --grace 10m --data-dir \"$1\" --webhook-url \"$2\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_sstore")]).arg(&path).arg(&receiver.url);
    command.env("SSTORE_WEBHOOK_SECRET", SECRET);
    let serving = process::Serving::command(command);
    // Each with enough that the file is full soon.
    let metadata = "x".repeat(1_000);
    let mut joined = Vec::new();
    while let Some(socket) = joins(&format!("{}/ws?room=r{}&join=j&metadata={metadata}", serving.url, joined.len())) {
        joined.push(socket);
        assert!(joined.len() < 10_000, "the disk is never full");
    }
    let ended = serving.process.end();
    assert!(ended.stderr.contains("the journal cannot be written"), "{}", ended.stderr);
    let told: Vec<Call> = receiver.calls.try_iter().collect();
    assert!(!told.is_empty(), "of {} rooms", joined.len());
    let next = Receiver::new(|_| status(200));
    let server = server(&next, |options| {
        options.data_dir = Some(path.clone());
        options.shutdown_ms = 20_000;
    });
    for call in &told {
        leave(Raw::join(&server, &call.room(), "ada"));
    }
    server.stop_wait(SAFETY).expect("stops");
    assert!(next.calls.try_iter().all(|call| call.kind() != "room.opened"), "all that was told goes on");
    let _ = std::fs::remove_dir_all(&path);
}

/// Joins a room of another process; nothing if that has gone.
#[cfg(all(feature = "cli", feature = "durable", unix))]
fn joins(url: &str) -> Option<impl Sized> {
    let (mut socket, _) = tungstenite::connect(url).ok()?;
    loop {
        let message = socket.read().ok()?;
        if message.to_text().ok()?.contains(r#""id":"j""#) {
            return Some(socket);
        }
    }
}
