//! Our client and servers that are slow, wrong or merely unusual: it says so, gives up or goes on, and nobody else in
//! its process is held up.

mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc};
use std::time::Duration;

use serde_json::{json, Value as Json};
use sessionstore::{Client, ClientOptions, ConnectionState, Error, ErrorCode, KeyChange, LockOptions, UpdateListener};
use support::{answer_join, listener, nobody_else, say, scripted, server, welcome, Cable, SAFETY};
use tungstenite::WebSocket;

/// Tells each state of the connection, with the error.
struct States(mpsc::Sender<(ConnectionState, Option<Error>)>);

impl UpdateListener for States {
    fn on_connection_state(&mut self, state: ConnectionState, error: Option<&Error>) {
        let _ = self.0.send((state, error.cloned()));
    }
}

type Heard = mpsc::Receiver<(ConnectionState, Option<Error>)>;

fn open(options: ClientOptions) -> (Client, Heard) {
    let (told, heard) = mpsc::channel();
    (Client::open(options, States(told)).expect("opens"), heard)
}

/// The error of the next state that has one.
fn next_error(heard: &Heard) -> Error {
    loop {
        if let (_, Some(error)) = heard.recv_timeout(SAFETY).expect("a state with an error") {
            return error;
        }
    }
}

fn wait_for(heard: &Heard, wanted: ConnectionState) {
    while heard.recv_timeout(SAFETY).expect("that state").0 != wanted {}
}

/// The head of the request that a client has sent, which stays to be read.
fn head(stream: &TcpStream) -> String {
    let mut bytes = [0; 16 * 1_024];
    loop {
        let read = stream.peek(&mut bytes).expect("a request");
        let head = String::from_utf8_lossy(&bytes[..read]);
        if read == 0 || head.contains("\r\n\r\n") {
            return head.into_owned();
        }
        std::thread::yield_now();
    }
}

/// Reads until the client asks this, and returns its id.
fn asked(socket: &mut WebSocket<TcpStream>, method: &str) -> Json {
    loop {
        let message = socket.read().expect("a request");
        let Ok(request) = serde_json::from_str::<Json>(message.to_text().unwrap_or_default()) else { continue };
        if request["method"] == method {
            return request["id"].clone();
        }
    }
}

#[test]
fn a_server_that_takes_no_message_at_all_ends_listeners_and_holds_up_nobody() {
    let (listener, url) = listener();
    std::thread::spawn(move || {
        let mut socket = welcome(listener.accept().expect("a client").0, json!({"max_message_bytes": 0}));
        while socket.read().is_ok() {}
    });
    let client = Client::open(ClientOptions::new(url, "room"), ()).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    let (told, heard) = mpsc::channel();
    let listens = store.listen(&["k"], move |change: KeyChange<'_>| {
        if let KeyChange::Refused(error) = change {
            let _ = told.send(error.code());
        }
    });
    assert_eq!(heard.recv_timeout(SAFETY), Ok(ErrorCode::MessageTooLarge));
    // The network thread is there for others.
    let other = Client::open(ClientOptions::new(scripted(|mut socket| while socket.read().is_ok() {}), "room"), ());
    other.unwrap().join_wait(SAFETY).unwrap();
    drop(listens);
}

#[test]
fn a_join_that_is_not_answered_is_given_up_though_the_server_answers_pings() {
    let (listener, url) = listener();
    std::thread::spawn(move || {
        let mut socket = tungstenite::accept(listener.accept().expect("a client").0).expect("a WebSocket");
        while socket.read().is_ok() {
            let _ = socket.flush();
        }
    });
    let options = ClientOptions { fail_fast: true, connect_timeout_ms: 300, ..ClientOptions::new(url, "room") };
    let (client, heard) = open(options);
    assert_eq!(next_error(&heard), ErrorCode::ConnectionFailed);
    assert_eq!(client.join_wait(SAFETY).unwrap_err(), ErrorCode::ConnectionFailed);
}

#[test]
fn a_list_of_peers_that_takes_long_to_arrive_is_waited_for() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    const PIECES: usize = 20;
    let (listener, url) = listener();
    let (gone, goes_on) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let mut socket = answer_join(listener.accept().expect("a client").0, json!({}));
        let list = nobody_else().to_string();
        // A text frame of less than 126 bytes, in pieces.
        let mut frame = vec![0x81, list.len() as u8];
        frame.extend(list.bytes());
        for piece in frame.chunks(frame.len().div_ceil(PIECES)) {
            let _ = socket.get_mut().write_all(piece);
            let _ = goes_on.recv_timeout(2 * TIMEOUT / PIECES as u32);
        }
        while socket.read().is_ok() {}
    });
    let connect_timeout_ms = TIMEOUT.as_millis() as u64;
    let (client, _heard) =
        open(ClientOptions { fail_fast: true, connect_timeout_ms, ..ClientOptions::new(url, "room") });
    client.join_wait(SAFETY).unwrap();
    drop(gone);
}

#[test]
fn a_token_that_is_handed_in_while_the_connection_is_broken_is_what_the_client_comes_back_with() {
    for time_ms in [SAFETY.as_millis() as u64, 1] {
        comes_back_with_a_fresh_token(time_ms);
    }
}

/// Its request may take so long, in milliseconds; the old token is refused only when that has ended if it is 1.
fn comes_back_with_a_fresh_token(time_ms: u64) {
    let (listener, url) = listener();
    let (cut, cutting) = mpsc::channel();
    let is_expired = Arc::new(AtomicBool::new(false));
    let expired = is_expired.clone();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        assert!(head(&stream).contains("Bearer old"));
        let socket = welcome(stream, json!({}));
        cutting.recv().expect("the test goes on");
        drop(socket);
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            if head(&stream).contains("Bearer fresh") {
                let mut socket = welcome(stream, json!({"returned": true, "resumes": true}));
                if time_ms > 1 {
                    let id = asked(&mut socket, "renew-token");
                    say(&mut socket, json!({"id": id, "result": {"expires_at": 1}}));
                }
                while socket.read().is_ok() {}
                return;
            }
            let status = if expired.load(Ordering::SeqCst) { "401 Unauthorized" } else { "503 Service Unavailable" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let token = Some("old".to_owned());
    let (client, heard) = open(ClientOptions {
        token,
        request_timeout_ms: time_ms,
        reconnect_min_ms: 1,
        reconnect_max_ms: 5,
        ..ClientOptions::new(url, "room")
    });
    client.join_wait(SAFETY).unwrap();
    cut.send(()).unwrap();
    wait_for(&heard, ConnectionState::Reconnecting);
    let (told, result) = mpsc::channel();
    client
        .renew_token("fresh")
        .on_result(move |result| {
            let _ = told.send(result.map_err(|error| error.code()));
        })
        .unwrap();
    if time_ms > 1 {
        is_expired.store(true, Ordering::SeqCst);
        assert_eq!(result.recv_timeout(SAFETY), Ok(Ok(())));
        assert_eq!(client.state(), ConnectionState::Connected);
    } else {
        assert_eq!(result.recv_timeout(SAFETY), Ok(Err(ErrorCode::Timeout)));
        is_expired.store(true, Ordering::SeqCst);
        wait_for(&heard, ConnectionState::Connected);
    }
}

#[test]
fn a_lock_that_is_asked_for_without_a_connection_lasts_from_when_it_was_sent() {
    const TTL_MS: u64 = 2_000;
    let (listener, url) = listener();
    let (let_in, may_enter) = mpsc::channel();
    // What becomes of the lock first.
    let (lost, becomes) = mpsc::channel();
    let renewed = lost.clone();
    std::thread::spawn(move || {
        let mut socket = welcome(listener.accept().expect("a client").0, json!({}));
        asked(&mut socket, "usage");
        drop(socket);
        let (stream, _) = listener.accept().expect("it comes back");
        may_enter.recv().expect("the test goes on");
        let mut socket = welcome(stream, json!({"returned": true}));
        let id = asked(&mut socket, "lock-acquire");
        say(&mut socket, json!({"id": id, "result": {"name": "turn", "token": 1, "expires_at": 1}}));
        asked(&mut socket, "lock-renew");
        let _ = renewed.send(None);
        while socket.read().is_ok() {}
    });
    let (client, heard) = open(ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(url, "room") });
    let store = client.join_wait(SAFETY).unwrap();
    let _ = store.usage().on_result(drop);
    wait_for(&heard, ConnectionState::Reconnecting);
    let (told, result) = mpsc::channel();
    let lock = store.lock("turn", LockOptions { ttl_ms: TTL_MS, wait_ms: 0 }, move |error| {
        let _ = lost.send(Some(error.code()));
    });
    lock.on_result(move |lock| drop(told.send(lock))).unwrap();
    // For as long as the lock is to last there is no connection.
    let early = result.recv_timeout(Duration::from_millis(TTL_MS));
    assert!(matches!(early, Err(mpsc::RecvTimeoutError::Timeout)), "{early:?}");
    let_in.send(()).unwrap();
    let _lock = result.recv_timeout(SAFETY).unwrap().expect("granted");
    assert_eq!(becomes.recv_timeout(SAFETY), Ok(None), "it is held until it is renewed");
}

#[test]
fn a_listen_set_that_is_long_in_a_url_is_sent_as_a_message() {
    let server = server();
    let key = |nth: usize| format!("{nth}/{}", "ключ".repeat(24));
    let keys: Vec<String> = (0..20).map(key).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let cable = Cable::to(server.local_addr());
    let options = ClientOptions {
        metadata: "данные".repeat(170),
        reconnect_min_ms: 1,
        ..ClientOptions::new(cable.url(), "room")
    };
    let (client, heard) = open(options);
    let store = client.join_wait(SAFETY).unwrap();
    let _listening = store.listen(&keys, |_: KeyChange<'_>| ()).unwrap();
    store.set("a", 1.into()).wait(SAFETY).unwrap();
    cable.cut();
    wait_for(&heard, ConnectionState::Reconnecting);
    cable.mend();
    // Its request has a head that servers take.
    wait_for(&heard, ConnectionState::Connected);
}

/// What the client is told when its handshake is answered with these pieces, each in a packet of its own.
fn refused_with(pieces: &'static [&'static str]) -> Error {
    let (listener, url) = listener();
    let (next, coming) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.set_nodelay(true);
        head(&stream);
        for piece in pieces {
            let _ = stream.write_all(piece.as_bytes());
            // The other side has most likely read it by then.
            let _ = coming.recv_timeout(Duration::from_millis(50));
        }
    });
    let (_client, heard) = open(ClientOptions { fail_fast: true, ..ClientOptions::new(url, "room") });
    let error = next_error(&heard);
    drop(next);
    error
}

#[test]
fn a_refusal_counts_that_arrives_in_pieces() {
    let error = refused_with(&[
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 37\r\n\r\n",
        "{\"code\":201,",
        "\"message\":\"too late for\"}",
    ]);
    assert_eq!(error.message(), "too late for");
    // One that is cut off counts by its status.
    let error = refused_with(&["HTTP/1.1 401 Unauthorized\r\nContent-Length: 37\r\n\r\n", "{\"code\":201,"]);
    assert_eq!(error, ErrorCode::Unauthorized);
}

#[test]
fn a_proxy_that_says_when_to_come_back_is_heard() {
    for status in ["503 Service Unavailable", "429 Too Many Requests", "502 Bad Gateway"] {
        let text = format!("HTTP/1.1 {status}\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno");
        let error = refused_with(Vec::leak(vec![&*text.leak()]));
        assert_eq!(error.retry_after_ms(), Some(7_000), "{status}");
    }
    let dated = "HTTP/1.1 503 No\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(refused_with(Vec::leak(vec![dated])).retry_after_ms(), None);
}

#[test]
fn who_is_sent_away_again_and_again_comes_back_with_pauses_that_grow() {
    let (listener, url) = listener();
    let (told, attempts) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut socket = welcome(stream.expect("a client"), json!({}));
            say(&mut socket, json!({"method": "on-server-stop", "params": {"come_back_ms": 0}}));
            let _ = socket.close(None);
            let _ = socket.flush();
            if told.send(()).is_err() {
                return;
            }
        }
    });
    let options =
        ClientOptions { reconnect_min_ms: 20_000, reconnect_max_ms: 40_000, ..ClientOptions::new(url, "room") };
    let (_client, _heard) = open(options);
    attempts.recv_timeout(SAFETY).expect("the first");
    attempts.recv_timeout(SAFETY).expect("as it was told");
    let more = attempts.recv_timeout(Duration::from_millis(500));
    assert_eq!(more, Err(mpsc::RecvTimeoutError::Timeout), "it was sent away at once both times");
}
