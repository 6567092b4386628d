//! Coming back after the connection broke: requests that come again are applied once, what was missed is told,
//! and a peer is come back as by its own client alone.

mod common;
mod support;

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use common::{encode, until, Client as Raw};
use serde_json::{json, Value as Json};
use sessionstore::core::limits::MAX_ANSWERS;
use sessionstore::core::write::{Check, Transaction, Write};
use sessionstore::{Client, ClientOptions, ConnectionState, Error, ErrorCode, KeyChange, UpdateListener, Value};
use support::{patient, server, server_with, Cable, SAFETY};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

const SECRET: &str = "&secret=000102030405060708090a0b0c0d0e0f";
const OTHER: &str = "&secret=100102030405060708090a0b0c0d0e0f";

fn join(server: &sessionstore::Server, peer: &str) -> Raw {
    Raw::join_with(server, &format!("room=r&peer={peer}{SECRET}"))
}

fn code(code: ErrorCode) -> i64 {
    i64::from(code.number())
}

/// Sends a request under a given id.
fn send(client: &mut Raw, id: u64, method: &str, params: Json) {
    client.send_text(json!({"id": id.to_string(), "method": method, "params": params}).to_string());
}

/// The same, and the result or the code of the refusal.
fn ask(client: &mut Raw, id: u64, method: &str, params: Json) -> Result<Json, i64> {
    send(client, id, method, params);
    let answer = client.read();
    assert_eq!(answer["id"], id.to_string(), "{answer}");
    match answer["error"]["code"].as_i64() {
        Some(code) => Err(code),
        None => Ok(answer["result"].clone()),
    }
}

#[test]
fn whatever_comes_again_is_answered_as_the_first_time() {
    let server = server();
    let mut ada = join(&server, "ada");
    let (mut bob, _) = Raw::listening(&server, "r", "bob", &["n", "a", "b"]);
    ada.expect("on-peer-join");
    let requests = [
        ("merge-metadata", json!({"key": "n", "op": "add", "data": 1})),
        ("set-metadata", json!({"key": "a", "data": "first", "if_change_version": 0})),
        ("set-metadata", json!({"key": "a", "data": "second", "if_change_version": 0})),
        (
            "transact",
            json!({"checks": [{"key": "b", "exists": false}],
                   "writes": [{"op": "add", "key": "n", "data": 10}, {"op": "set", "key": "b", "data": 1}]}),
        ),
        ("lock-acquire", json!({"name": "turn"})),
        ("lock-release", json!({"name": "turn", "token": 4})),
        ("merge-metadata", json!({"key": "a", "op": "add", "data": 1})),
        ("touch-metadata", json!({"key": "b", "ttl_ms": 60_000})),
    ];
    let all = |client: &mut Raw| -> Vec<Result<Json, i64>> {
        (1..).zip(&requests).map(|(id, (method, params))| ask(client, id, method, params.clone())).collect()
    };
    let first = all(&mut ada);
    let refused: Vec<_> = first.iter().filter_map(|answer| answer.as_ref().err().copied()).collect();
    assert_eq!(refused, [code(ErrorCode::VersionConflict), code(ErrorCode::WrongType)]);
    assert_eq!(first[4].as_ref().expect("granted")["token"], 4);
    // The same connection, another one, and once more after others have gone on.
    assert_eq!(all(&mut ada), first);
    ada.cut();
    let mut ada = join(&server, "ada");
    assert_eq!(all(&mut ada), first);
    bob.set("n", json!(100));
    assert_eq!(all(&mut ada), first);
    assert_eq!(ask(&mut ada, 9, "get-metadata", json!({"key": "n"})).expect("a state")["data"], 100);
    // Each was told once.
    let mut told: Vec<String> = Vec::new();
    while !told.iter().any(|text| text == "n=100") {
        let message = bob.read();
        let values = message["params"]["values"].as_array().cloned().unwrap_or_default();
        told.extend(values.iter().map(|state| format!("{}={}", state["key"].as_str().unwrap_or(""), state["data"])));
    }
    assert_eq!(told, ["n=1", "a=\"first\"", "n=11", "b=1", "b=1", "n=100"]);
}

#[test]
fn an_answer_is_kept_until_its_peer_has_it_or_has_too_many() {
    let server = server();
    let mut ada = join(&server, "ada");
    let add = json!({"key": "n", "op": "add", "data": 1});
    for id in 1..=4 {
        ask(&mut ada, id, "merge-metadata", add.clone()).expect("added");
    }
    ada.send_text(json!({"method": "answered", "params": {"through": 3, "except": [2]}}).to_string());
    assert_eq!(ask(&mut ada, 1, "merge-metadata", add.clone()), Err(code(ErrorCode::OutcomeUnknown)));
    assert_eq!(ask(&mut ada, 2, "merge-metadata", add.clone()).expect("kept")["data"], 2);
    assert_eq!(ask(&mut ada, 4, "merge-metadata", add.clone()).expect("kept")["data"], 4);
    let last = 4 + MAX_ANSWERS as u64;
    for id in 5..=last {
        ask(&mut ada, id, "merge-metadata", add.clone()).expect("added");
    }
    assert_eq!(ask(&mut ada, 4, "merge-metadata", add.clone()), Err(code(ErrorCode::OutcomeUnknown)));
    assert_eq!(ask(&mut ada, 5, "merge-metadata", add.clone()).expect("kept")["data"], 5);
    assert_eq!(ask(&mut ada, last + 1, "get-metadata", json!({"key": "n"})).expect("a state")["data"], last);
    let too_many: Vec<u64> = (0..=last).collect();
    let bad = [json!({"through": -1}), json!({}), json!({"through": 1, "except": "2"}), json!([1])];
    for params in bad {
        assert_eq!(ask(&mut ada, last + 2, "answered", params), Err(code(ErrorCode::MalformedMessage)));
    }
    let refused = ask(&mut ada, last + 2, "answered", json!({"through": 1, "except": too_many}));
    assert_eq!(refused, Err(code(ErrorCode::InvalidArgument)));
}

#[test]
fn without_a_secret_nobody_takes_a_peer_over_and_with_it_the_newest_connection_counts() {
    let server = server();
    let mut ada = join(&server, "ada");
    for wrong in ["", OTHER] {
        let mut eve = Raw::try_connect(&server, &format!("room=r&peer=ada&join=j{wrong}"), &[]).expect("a WebSocket");
        assert_eq!(eve.refusal("j").0, code(ErrorCode::PeerInUse));
    }
    // The original client's way of coming back does not work for a peer that has a secret.
    let mut eve = Raw::connect(&server, "room=r&peer=ada");
    assert_eq!(eve.refused("get-metadata", json!({"key": "k"})), code(ErrorCode::NotJoined));
    assert_eq!(eve.refused("join", json!({})), code(ErrorCode::PeerInUse));
    ada.nothing_waits();
    let mut newer = join(&server, "ada");
    assert_eq!(ada.closed(), 4000 + code(ErrorCode::Replaced) as u16);
    newer.set("k", json!(1));
    // A peer that joined without one can be given one, which then counts.
    Raw::join(&server, "r", "old").cut();
    let mut old = join(&server, "old");
    old.set("k", json!(2));
    let mut eve = Raw::try_connect(&server, "room=r&peer=old&join=j", &[]).expect("a WebSocket");
    assert_eq!(eve.refusal("j").0, code(ErrorCode::PeerInUse));
    let (status, body) = Raw::try_connect(&server, "room=r&join=j&secret=short", &[]).err().expect("refused");
    assert_eq!((status, body["code"].as_i64()), (400, Some(code(ErrorCode::InvalidArgument))));
}

#[test]
fn a_wait_for_a_lock_that_is_cut_off_begins_anew_and_a_lost_grant_is_told_again() {
    let server = server();
    let mut holder = Raw::join(&server, "r", "holder");
    let lease = holder.call("lock-acquire", json!({"name": "turn"}));
    let mut ada = join(&server, "ada");
    let wait = json!({"name": "turn", "wait_ms": 60_000});
    send(&mut ada, 1, "lock-acquire", wait.clone());
    send(&mut ada, 2, "lock-acquire", json!({"name": "other", "ttl_ms": 300_000}));
    assert_eq!(ada.read()["id"], "2", "the first waits");
    ada.cut();
    let mut ada = join(&server, "ada");
    send(&mut ada, 1, "lock-acquire", wait.clone());
    let other = ask(&mut ada, 2, "lock-acquire", json!({"name": "other", "ttl_ms": 300_000})).expect("held");
    holder.call("lock-release", json!({"name": "turn", "token": lease["token"]}));
    let granted = ada.read();
    assert_eq!(granted["id"], "1");
    ada.cut();
    let mut ada = join(&server, "ada");
    assert_eq!(ask(&mut ada, 1, "lock-acquire", wait), Ok(granted["result"].clone()));
    assert_eq!(ask(&mut ada, 2, "lock-acquire", json!({"name": "other"})), Ok(other));
}

#[test]
fn who_comes_back_is_told_what_it_missed_and_no_more() {
    let server = server();
    let listen = format!("listen={}&prefixes={}", encode(r#"["a","b"]"#), encode(r#"["hand/"]"#));
    let come = |more: &str| Raw::join_with(&server, &format!("room=r&peer=ada{SECRET}&{listen}{more}"));
    let mut ada = come("");
    ada.expect("on-metadata-change");
    let mut bob = Raw::join(&server, "r", "bob");
    let session = bob.call("join", json!({}))["session_id"].as_str().expect("an id").to_owned();
    ada.expect("on-peer-join");
    for (key, data) in [("a", json!(1)), ("b", json!(1)), ("hand/1", json!(1)), ("hand/2", json!(1))] {
        bob.set(key, data);
        ada.change();
    }
    let back = format!("&session={session}&since=4");
    ada.cut();
    let mut ada = come(&back);
    ada.nothing_waits();
    ada.cut();
    for (key, data) in
        [("b", json!(2)), ("hand/1", json!(null)), ("other", json!(1)), ("hand/3", json!(1)), ("b", json!(3))]
    {
        bob.set(key, data);
    }
    let mut ada = come(&back);
    let missed = ada.expect("on-metadata-change");
    assert!(missed.get("snapshot").is_none(), "{missed}");
    let told = |params: &Json| -> Vec<(Json, Json, Json)> {
        let values = params["values"].as_array().expect("values").iter();
        values.map(|state| (state["key"].clone(), state["data"].clone(), state["change_version"].clone())).collect()
    };
    let expected = [("hand/1", json!(null), 6), ("hand/3", json!(1), 8), ("b", json!(3), 9)];
    assert_eq!(told(&missed), expected.map(|(key, data, version)| (json!(key), data, json!(version))));
    ada.nothing_waits();
    // A snapshot for who knows another session, listens to something else, or is not back but new.
    let mut other = come("&session=another&since=4");
    assert_eq!(other.expect("on-metadata-change")["snapshot"], true);
    let more = format!("room=r&peer=ada{SECRET}&listen={}{back}", encode(r#"["a"]"#));
    let mut other = Raw::join_with(&server, &more);
    assert_eq!(told(&other.expect("on-metadata-change")), [(json!("a"), json!(1), json!(1))]);
    let mut new = Raw::join_with(&server, &format!("room=r&peer=new{OTHER}&{listen}{back}"));
    assert_eq!(new.expect("on-metadata-change")["snapshot"], true);
}

// ------------------------------------------------------------------ our client

struct Updates(mpsc::Sender<(ConnectionState, Option<ErrorCode>)>);

impl UpdateListener for Updates {
    fn on_connection_state(&mut self, state: ConnectionState, error: Option<&Error>) {
        let _ = self.0.send((state, error.map(Error::code)));
    }
}

fn wait_for(updates: &mpsc::Receiver<(ConnectionState, Option<ErrorCode>)>, wanted: ConnectionState) {
    while updates.recv_timeout(SAFETY).expect("the state comes").0 != wanted {}
}

/// A client behind a cable, in the room, and what it hears of its connection.
fn behind(cable: &Cable) -> (Client, sessionstore::Store, mpsc::Receiver<(ConnectionState, Option<ErrorCode>)>) {
    let (told, updates) = mpsc::channel();
    let options = ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(cable.url(), "room") };
    let client = Client::open(options, Updates(told)).expect("opens");
    let store = client.join_wait(SAFETY).expect("joins");
    (client, store, updates)
}

/// Sends it, and hands over how it ends.
fn begin<T: Send + 'static>(action: sessionstore::Action<T>) -> mpsc::Receiver<Result<T, ErrorCode>> {
    let (told, result) = mpsc::channel();
    action.on_result(move |outcome| drop(told.send(outcome.map_err(|error| error.code())))).expect("sent");
    result
}

fn outcome<T>(result: &mpsc::Receiver<Result<T, ErrorCode>>) -> Result<(), ErrorCode> {
    result.recv_timeout(SAFETY).expect("a result").map(drop)
}

#[test]
fn with_another_session_what_was_sent_is_unknown_and_what_waited_goes_on() {
    let (first, second) = (server(), server());
    let cable = Cable::to(first.local_addr());
    let (_client, store, updates) = behind(&cable);
    let version = store.set("k", Value::from(0)).wait(SAFETY).expect("set").version;
    cable.stall();
    let sent = begin(store.set("sent", Value::from(1)));
    let read = begin(store.get("read"));
    cable.wait_until_held();
    cable.cut();
    wait_for(&updates, ConnectionState::Reconnecting);
    let unsent = begin(store.set("unsent", Value::from(1)));
    let absent = begin(store.set_if("absent", Value::from(1), 0));
    // Versions of one session mean nothing in another, where this one may be any key's.
    let conditional = begin(store.set_if("k", Value::from(1), version));
    let transaction = Transaction {
        checks: vec![Check::Version { key: "k".into(), version }],
        writes: vec![Write::set("t", Value::from(1))],
    };
    let transacted = begin(store.transact(transaction));
    cable.lead_to(second.local_addr());
    cable.mend();
    assert_eq!(outcome(&sent), Err(ErrorCode::OutcomeUnknown));
    assert_eq!(outcome(&conditional), Err(ErrorCode::SessionLost));
    assert_eq!(outcome(&transacted), Err(ErrorCode::SessionLost));
    assert_eq!((outcome(&read), outcome(&unsent), outcome(&absent)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(store.keys("").wait(SAFETY).expect("keys"), ["absent", "unsent"]);
}

/// The query of the next client that connects, and its WebSocket.
fn accept(listener: &TcpListener) -> (String, WebSocket<TcpStream>) {
    let (stream, _) = listener.accept().expect("a client");
    let mut query = String::new();
    #[allow(clippy::result_large_err)] // The type is tungstenite's.
    let read = |request: &Request, response: Response| {
        query = request.uri().query().unwrap_or("").to_owned();
        Ok(response)
    };
    let socket = tungstenite::accept_hdr(stream, read).expect("a WebSocket");
    (query, socket)
}

#[test]
fn our_client_asks_for_what_it_missed_only_when_it_knows_the_rest() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("the port is known"));
    let options = ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(url, "room") };
    let client = Client::open(options, ()).expect("opens");
    let welcome = |query: &str, socket: &mut WebSocket<TcpStream>, returned: bool| {
        let id = query.split('&').find_map(|pair| pair.strip_prefix("join=")).expect("it joins");
        let result = json!({"peer_id": "p", "session_id": "s", "revision": 0, "returned": returned, "resumes": true});
        socket.send(Message::text(json!({"id": id, "result": result}).to_string())).expect("sent");
        let list = json!({"method": "peer-list", "params": {"peers": {}}});
        socket.send(Message::text(list.to_string())).expect("sent");
    };
    let changes = |socket: &mut WebSocket<TcpStream>, version: u64, snapshot: bool| {
        let values = json!([{"key": "k", "data": version, "change_version": version}]);
        let params = if snapshot { json!({"values": values, "snapshot": true}) } else { json!({ "values": values }) };
        socket
            .send(Message::text(json!({"method": "on-metadata-change", "params": params}).to_string()))
            .expect("sent");
    };
    let secret = |query: &str| {
        let secret = query.split('&').find_map(|pair| pair.strip_prefix("secret=")).expect("a secret").to_owned();
        assert_eq!(secret.len(), 32);
        secret
    };
    let (first, mut socket) = accept(&listener);
    assert!(!first.contains("since="), "{first}");
    welcome(&first, &mut socket, false);
    let store = client.join_wait(SAFETY).expect("joins");
    let (told, heard) = mpsc::channel();
    let _listening = store
        .listen(&["k"], move |change: KeyChange<'_>| {
            if let KeyChange::Event(event) = change {
                let _ = told.send(event.change.version);
            }
        })
        .expect("listens");
    let request: Json = serde_json::from_str(socket.read().expect("a request").to_text().expect("text")).expect("JSON");
    assert_eq!(request["method"], "listen-metadata-change");
    // Cut before the snapshot: it knows nothing yet.
    drop(socket);
    let (second, mut socket) = accept(&listener);
    assert!(second.contains("listen=") && !second.contains("since="), "{second}");
    assert_eq!(secret(&second), secret(&first));
    welcome(&second, &mut socket, true);
    changes(&mut socket, 5, true);
    changes(&mut socket, 7, false);
    assert_eq!([5, 7], [(); 2].map(|()| heard.recv_timeout(SAFETY).expect("told")));
    drop(socket);
    let (third, mut socket) = accept(&listener);
    assert!(third.contains("session=s") && third.contains("since=7"), "{third}");
    welcome(&third, &mut socket, true);
    changes(&mut socket, 9, false);
    assert_eq!(heard.recv_timeout(SAFETY), Ok(9));
    drop(socket);
    let (fourth, mut socket) = accept(&listener);
    assert!(fourth.contains("since=9"), "{fourth}");
    // Another peer now: what it knows counts for nothing until the next snapshot.
    welcome(&fourth, &mut socket, false);
    drop(socket);
    let (fifth, _socket) = accept(&listener);
    assert!(!fifth.contains("since="), "{fifth}");
}

#[test]
fn another_peer_with_the_same_id_is_not_taken_for_the_one_that_was_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("the port is known"));
    let options = ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(url, "room") };
    let client = Client::open(options, ()).expect("opens");
    let welcome = |number: u32, returned: bool| {
        let (query, mut socket) = accept(&listener);
        let id = query.split('&').find_map(|pair| pair.strip_prefix("join=")).expect("it joins");
        let result = json!({"peer_id": "p", "session_id": "s", "revision": 0, "returned": returned,
                            "peer_number": number, "resumes": true});
        socket.send(Message::text(json!({"id": id, "result": result}).to_string())).expect("sent");
        let list = json!({"method": "peer-list", "params": {"peers": {}}});
        socket.send(Message::text(list.to_string())).expect("sent");
        socket
    };
    let mut socket = welcome(1, false);
    let store = client.join_wait(SAFETY).expect("joins");
    let sent = begin(store.add("n", 1));
    let request = socket.read().expect("a request").to_text().expect("text").to_owned();
    drop(socket);
    // The same peer: it is asked again, in the same words.
    let mut socket = welcome(1, true);
    assert_eq!(socket.read().expect("a request").to_text().expect("text"), request);
    drop(socket);
    // Another came in its place, by a join whose answer was lost. It is in the room, and knows of no request.
    drop(accept(&listener));
    let _socket = welcome(2, true);
    assert_eq!(outcome(&sent), Err(ErrorCode::OutcomeUnknown));
}

#[test]
fn a_peer_that_comes_back_too_late_is_another_and_says_so() {
    let server = server_with(|options| options.limits.grace_ms = 1);
    let (_keeper, keeper) = {
        let client = Client::open(ClientOptions::new(server.url(), "room"), ()).expect("opens");
        let store = client.join_wait(SAFETY).expect("joins");
        (client, store)
    };
    let cable = Cable::to(server.local_addr());
    let (client, store, updates) = behind(&cable);
    let session = store.session_id();
    cable.stall();
    let sent = begin(store.add("n", 1));
    cable.wait_until_held();
    cable.cut();
    wait_for(&updates, ConnectionState::Reconnecting);
    until("the peer to be gone", || server.stats().peers == 1);
    cable.mend();
    assert_eq!(outcome(&sent), Err(ErrorCode::OutcomeUnknown));
    assert_eq!(store.session_id(), session, "the others have kept the session");
    assert_eq!(store.add("n", 1).wait(SAFETY).expect("added").value, Value::from(2), "it was applied");
    assert_eq!(client.peers().len(), 2);
    drop(keeper);
}

#[test]
fn who_leaves_when_the_server_is_lost_does_not_wait_for_it() {
    let server = server();
    let cable = Cable::to(server.local_addr());
    let (client, _store, _updates) = behind(&cable);
    cable.stall();
    let left = begin(client.leave());
    cable.wait_until_held();
    cable.cut();
    // It was said, and nothing answers: neither this connection nor the next.
    assert_eq!(outcome(&left), Ok(()));
}

#[test]
fn a_deadline_says_for_certain_what_was_never_sent() {
    let server = server();
    let cable = Cable::to(server.local_addr());
    let (told, updates) = mpsc::channel();
    let options =
        ClientOptions { reconnect_min_ms: 1, request_timeout_ms: 50, ..ClientOptions::new(cable.url(), "room") };
    let client = Client::open(options, Updates(told)).expect("opens");
    let store = client.join_wait(SAFETY).expect("joins");
    cable.stall();
    let (sent, read) = (begin(store.add("n", 1)), begin(store.get("n")));
    assert_eq!((outcome(&sent), outcome(&read)), (Err(ErrorCode::OutcomeUnknown), Err(ErrorCode::Timeout)));
    let waited = store.add("n", 1).wait(Duration::from_millis(50));
    assert_eq!(waited.unwrap_err(), ErrorCode::OutcomeUnknown);
    cable.cut();
    wait_for(&updates, ConnectionState::Reconnecting);
    let unsent = begin(store.add("n", 100));
    assert_eq!(outcome(&unsent), Err(ErrorCode::Timeout));
    assert_eq!(store.add("n", 100).wait(Duration::from_millis(50)).unwrap_err(), ErrorCode::Timeout);
    cable.mend();
    // The deadline of the check itself is not what is tested.
    let mut now = None;
    patient("an answer", || {
        now = store.get("n").wait(SAFETY).ok();
        now.is_some()
    });
    assert_eq!(now.expect("an answer").value, Value::from(2), "what timed out unsent was not applied");
}

#[test]
fn a_wait_that_ends_with_the_request_still_knows_that_it_was_not_sent() {
    let server = server();
    let cable = Cable::to(server.local_addr());
    let (client, store, _updates) = behind(&cable);
    let (entered, inside) = mpsc::channel();
    let (go_on, held) = mpsc::channel::<()>();
    let hold = move |_| {
        let _ = entered.send(());
        let _ = held.recv();
    };
    store.get("k").on_result(hold).expect("sent");
    inside.recv_timeout(SAFETY).expect("a callback that takes long");
    cable.cut();
    patient("the cut to be noticed", || client.state() == ConnectionState::Reconnecting);
    // Who waits and who sees to time-outs wake at the same time, and either may be the first.
    for nth in 0..100 {
        let waited = store.set("k", Value::from(1)).wait(Duration::from_millis(1));
        assert_eq!(waited.unwrap_err(), ErrorCode::Timeout, "wait {nth}");
    }
    drop(go_on);
}

#[test]
fn closing_tells_what_was_sent_from_what_was_not() {
    let server = server();
    let cable = Cable::to(server.local_addr());
    let (client, store, updates) = behind(&cable);
    cable.stall();
    let sent = begin(store.add("n", 1));
    cable.wait_until_held();
    cable.cut();
    wait_for(&updates, ConnectionState::Reconnecting);
    let unsent = begin(store.add("n", 1));
    drop(client);
    assert_eq!((outcome(&sent), outcome(&unsent)), (Err(ErrorCode::OutcomeUnknown), Err(ErrorCode::Closed)));
}

#[test]
fn a_burst_far_beyond_what_is_remembered_is_applied_once_through_many_cuts() {
    let server = server();
    let cable = Cable::to(server.local_addr());
    let (told, updates) = mpsc::channel();
    let options = ClientOptions { reconnect_min_ms: 1, max_pending: 5_000, ..ClientOptions::new(cable.url(), "room") };
    let client = Client::open(options, Updates(told)).expect("opens");
    let store = client.join_wait(SAFETY).expect("joins");
    let (sums, heard) = mpsc::channel();
    for _ in 0..4 * MAX_ANSWERS {
        let sums = sums.clone();
        let told = move |outcome: Result<std::sync::Arc<sessionstore::Change>, Error>| {
            let _ = sums.send(outcome.and_then(|state| state.value.as_integer()).map_err(|error| error.code()));
        };
        store.add("n", 1).on_result(told).expect("queued");
    }
    for nth in 1..=4 * MAX_ANSWERS as i64 {
        assert_eq!(heard.recv_timeout(SAFETY).expect("a result"), Ok(nth), "each in its order, each once");
        if nth % 300 == 0 {
            cable.cut();
            wait_for(&updates, ConnectionState::Reconnecting);
            cable.mend();
        }
    }
}
