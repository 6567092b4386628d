//! The HTTP API for operators and back ends, on a real server: what it answers, what peers notice of it, and what it
//! refuses to whom.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use common::*;
use jsonwebtoken::{encode, EncodingKey, Header};
use serde_json::{json, Value};
use sessionstore::core::limits::Limits;
use sessionstore::{
    Author, ClientOptions, ConnectionState, Error, ErrorCode, KeyChange, LockOptions, Server, ServerOptions,
    UpdateListener,
};

const SECRET: &str = "an API secret for tests";

fn serve() -> Server {
    serve_with(|_| {})
}

fn serve_with(change: impl FnOnce(&mut ServerOptions)) -> Server {
    server_with(|options| {
        options.api_secret = Some(SECRET.into());
        change(options);
    })
}

fn token(claims: Value) -> String {
    let mut all = json!({"exp": 4_000_000_000_u64});
    all.as_object_mut().expect("claims").extend(claims.as_object().expect("claims").clone());
    encode(&Header::default(), &all, &EncodingKey::from_secret(SECRET.as_bytes())).expect("signed")
}

/// Somebody with a token.
struct Operator<'a> {
    server: &'a Server,
    token: String,
}

fn everything(server: &Server) -> Operator<'_> {
    Operator { server, token: token(json!({"scope": "read write manage", "sub": "u-op", "name": "Olga"})) }
}

impl Operator<'_> {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.local_addr())
    }

    /// The status and the body; `null` if there is none.
    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build(),
        );
        let request = ureq::http::Request::builder().method(method).uri(self.url(path));
        let request = request.header("Authorization", format!("Bearer {}", self.token));
        let response = match body {
            Some(body) => {
                agent.run(request.header("Content-Type", "application/json").body(body.to_string()).expect("a request"))
            }
            None => agent.run(request.body(()).expect("a request")),
        };
        let mut response = response.expect("an answer");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert!(response.headers().contains_key("x-request-id"));
        let text = response.body_mut().read_to_string().expect("a body");
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") };
        (response.status().as_u16(), body)
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, None);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The status and the name of the error.
    fn refused(&self, method: &str, path: &str, body: Option<Value>) -> (u16, String) {
        let (status, body) = self.ask(method, path, body);
        assert!(status >= 400, "{method} {path} is answered: {body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        (status, body["name"].as_str().expect("a name").to_owned())
    }

    fn watch(&self, path: &str) -> Events {
        self.watch_over(reach(self.server), path)
    }

    fn watch_over(&self, mut stream: TcpStream, path: &str) -> Events {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.token
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).expect("a head") > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        Events(lines)
    }
}

/// Server-sent events.
struct Events(BufReader<TcpStream>);

impl Events {
    /// The next one: its name and what it says; none at the end of the stream.
    fn read(&mut self) -> Option<(String, Value)> {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("an event, or the end") == 0 {
                return None;
            }
            if let Some(text) = line.strip_prefix("event: ") {
                name = text.trim().to_owned();
            } else if let Some(text) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(text).expect("JSON")));
            }
        }
    }

    fn expect(&mut self, name: &str) -> Value {
        let (have, data) = self.read().expect("an event");
        assert_eq!(have, name, "{data}");
        data
    }
}

#[test]
fn shows_rooms_peers_keys_and_locks() {
    let server = serve();
    let operator = everything(&server);
    let mut ann = Client::join_with(&server, "room=a%2Fb&peer=ann&name=Ann&role=host");
    ann.call("set-metadata", json!({"key": "board/1", "data": {"x": 9_007_199_254_740_993_u64}}));
    ann.call("lock-acquire", json!({"name": "turn"}));
    Client::join(&server, "other", "bob");

    let listed = operator.get("/v1/rooms");
    let names: Vec<_> = listed["rooms"].as_array().expect("rooms").iter().map(|room| &room["room"]).collect();
    assert_eq!(names, ["a/b", "other"]);
    let room = &listed["rooms"][0];
    assert_eq!(
        (&room["peers"], &room["connections"], &room["keys"], &room["revision"]),
        (&json!(1), &json!(1), &json!(1), &json!(2))
    );

    let room = operator.get("/v1/rooms/a%2Fb");
    assert_eq!(room["peers_list"][0]["peer_id"], "ann");
    assert_eq!((&room["peers_list"][0]["role"], &room["peers_list"][0]["connected"]), (&json!("host"), &json!(true)));
    assert_eq!((&room["locks"][0]["name"], &room["locks"][0]["held_by"]["name"]), (&json!("turn"), &json!("Ann")));
    assert_eq!(room["locks"], operator.get("/v1/rooms/a%2Fb/locks")["locks"]);
    assert_eq!(room["peers_list"], operator.get("/v1/rooms/a%2Fb/peers")["peers"]);
    assert_eq!(room["limits"]["max_keys"], 100);

    let keys = operator.get("/v1/rooms/a%2Fb/keys?prefix=board%2F");
    assert_eq!((&keys["revision"], &keys["keys"][0]["updated_by"]), (&json!(2), &json!("ann")));
    let key = operator.get("/v1/rooms/a%2Fb/keys/board%2F1");
    assert_eq!((key["data"]["x"].as_u64(), &key), (Some(9_007_199_254_740_993), &keys["keys"][0]));
    assert_eq!(operator.get("/v1/rooms/other/keys/absent")["data"], Value::Null);

    let about = operator.get("/v1/server");
    assert_eq!((&about["rooms"], &about["peers"], &about["sub"]), (&json!(2), &json!(2), &json!("u-op")));
    assert_eq!(about["scopes"], json!(["read", "write", "manage"]));
    ann.cut();
}

#[test]
fn lists_rooms_page_by_page() {
    let server = serve_with(|options| options.threads = 2);
    let operator = everything(&server);
    let _peers: Vec<_> = (0..7).map(|nth| Client::join(&server, &format!("room-{nth}"), "p")).collect();
    let _other = Client::join(&server, "zoo", "p");
    let mut seen = Vec::new();
    let mut path = "/v1/rooms?prefix=room-&limit=3".to_owned();
    loop {
        let page = operator.get(&path);
        let rooms = page["rooms"].as_array().expect("rooms");
        assert!(rooms.len() <= 3);
        seen.extend(rooms.iter().map(|room| room["room"].as_str().expect("a name").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/rooms?prefix=room-&limit=3&after={next}");
    }
    assert_eq!(seen, (0..7).map(|nth| format!("room-{nth}")).collect::<Vec<_>>());
    for limit in ["0", "1001", "x", "-1"] {
        assert_eq!(
            operator.refused("GET", &format!("/v1/rooms?limit={limit}"), None),
            (400, "INVALID_ARGUMENT".into())
        );
    }
    assert_eq!(operator.refused("GET", "/v1/rooms?colour=red", None), (400, "INVALID_ARGUMENT".into()));
}

#[test]
fn what_is_written_here_reaches_everybody() {
    let server = serve();
    let operator = everything(&server);
    let (mut ann, _) = Client::listening(&server, "r", "ann", &["pinned", "votes"]);
    let (status, state) = operator.ask("PUT", "/v1/rooms/r/keys/pinned", Some(json!({"data": "Welcome"})));
    assert_eq!((status, &state["data"], &state["change_version"]), (200, &json!("Welcome"), &json!(1)));
    assert_eq!((&state["updated_by"], &state["author"]), (&json!(""), &json!({"user_id": "u-op", "name": "Olga"})));
    let told = ann.expect("on-metadata-change");
    assert_eq!(told["values"][0], state);

    let stale = json!({"data": 2, "if_change_version": 0});
    let (status, refusal) = operator.ask("PUT", "/v1/rooms/r/keys/pinned", Some(stale));
    assert_eq!((status, &refusal["name"], &refusal["code"]), (412, &json!("VERSION_CONFLICT"), &json!(205)));
    assert_eq!(refusal["current"], state, "a retry needs no second trip");
    let fresh = json!({"data": 2, "if_change_version": 1, "ttl_ms": 3_600_000});
    let (_, state) = operator.ask("PUT", "/v1/rooms/r/keys/pinned", Some(fresh));
    assert!(state["expires_at"].as_u64() > state["updated_at"].as_u64());

    let body = json!({"checks": [{"key": "pinned", "change_version": 2}], "writes": [{"key": "votes", "op": "add", "data": 3}]});
    let (status, written) = operator.ask("POST", "/v1/rooms/r/transactions", Some(body.clone()));
    assert_eq!((status, &written["revision"], &written["states"][0]["data"]), (200, &json!(3), &json!(3)), "{written}");
    operator.ask("DELETE", "/v1/rooms/r/keys/pinned?if_change_version=2", None);
    let (status, refusal) = operator.ask("POST", "/v1/rooms/r/transactions", Some(body));
    assert_eq!((status, &refusal["name"], &refusal["check"]), (412, &json!("CHECK_FAILED"), &json!(0)));
    let versions: Vec<_> =
        (0..3).map(|_| ann.expect("on-metadata-change")["values"][0]["change_version"].clone()).collect();
    assert_eq!(versions, [2, 3, 4]);
}

#[test]
fn a_client_knows_one_operator_from_another_though_none_is_a_peer() {
    let server = serve();
    let mut options = ClientOptions::new(server.url(), "r");
    options.peer_id = "ann".into();
    let client = sessionstore::Client::open(options, ()).expect("opened");
    let store = client.join_wait(PATIENCE).expect("joined");
    let (tell, told) = std::sync::mpsc::channel();
    let listener = move |change: KeyChange<'_>| {
        if let KeyChange::Event(event) = change {
            tell.send(event.change.clone()).expect("the test waits");
        }
    };
    let _subscription = store.listen(&["pinned"], listener).expect("listens");
    assert_eq!(told.recv_timeout(PATIENCE).expect("the current value").author, None);
    for (claims, user_id, name) in [
        (json!({"sub": "u-op", "name": "Olga"}), "u-op", "Olga"),
        (json!({"sub": "u-op"}), "u-op", ""),
        (json!({}), "api", ""),
        // Without peer, user and name it would be nobody.
        (json!({"sub": ""}), "api", ""),
        (json!({"sub": "u-op", "name": "Olga"}), "u-op", "Olga"),
    ] {
        let mut all = json!({"scope": "write"});
        all.as_object_mut().expect("claims").extend(claims.as_object().expect("claims").clone());
        let operator = Operator { server: &server, token: token(all) };
        assert_eq!(operator.ask("PUT", "/v1/rooms/r/keys/pinned", Some(json!({"data": 1}))).0, 200);
        let change = told.recv_timeout(PATIENCE).expect("the change");
        let expected = Author { peer_id: "".into(), user_id: user_id.into(), name: name.into() };
        assert_eq!(change.author.as_deref(), Some(&expected));
        let got = store.get("pinned").wait(PATIENCE).expect("got");
        assert_eq!(got.author.as_deref(), Some(&expected));
        let cached = store.cached("pinned").expect("it is listened to");
        assert_eq!(cached.author.as_deref(), Some(&expected));
    }
}

#[test]
fn a_room_is_prepared_before_its_first_peer() {
    let server = serve();
    let operator = everything(&server);
    let body = json!({"values": {"pinned": "Welcome", "quiz": {"open": false}}, "keep_ms": 60_000});
    let (status, room) = operator.ask("POST", "/v1/rooms/r", Some(body.clone()));
    assert_eq!((status, &room["peers"], &room["keys"]), (201, &json!(0), &json!(2)), "{room}");
    assert_eq!(operator.refused("POST", "/v1/rooms/r", Some(body)), (409, "ROOM_OPEN".into()));
    let (_ann, values) = Client::listening(&server, "r", "ann", &["pinned"]);
    assert_eq!(values[0]["data"], "Welcome");
    assert_eq!(operator.get("/v1/rooms/r")["session_id"], room["session_id"], "the peer is in that session");
    for (body, status, name) in [
        (json!({"keep_ms": 0}), 400, "INVALID_ARGUMENT"),
        (json!({"keep_ms": 86_400_001}), 400, "INVALID_ARGUMENT"),
        (json!({"values": {"": 1}}), 400, "INVALID_KEY"),
        (json!({"values": {"$lock/a": 1}}), 403, "RESERVED_KEY"),
        (json!({"values": {"a": "x".repeat(1_100)}}), 413, "VALUE_TOO_LARGE"),
        (json!({"value": {}}), 400, "MALFORMED_MESSAGE"),
        (json!([]), 400, "MALFORMED_MESSAGE"),
    ] {
        assert_eq!(operator.refused("POST", "/v1/rooms/new", Some(body)), (status, name.into()));
    }
    assert_eq!(operator.refused("GET", "/v1/rooms/new", None), (404, "NOT_FOUND".into()), "nothing was begun");
}

#[test]
fn a_room_that_is_prepared_for_nobody_ends() {
    let server = serve();
    let operator = everything(&server);
    let mut events = operator.watch("/v1/rooms/r/watch");
    events.expect("closed");
    assert_eq!(operator.ask("POST", "/v1/rooms/r", Some(json!({"values": {"a": 1}, "keep_ms": 50}))).0, 201);
    assert_eq!(events.expect("snapshot")["values"], json!([]));
    assert_eq!(events.expect("changes")["values"][0]["key"], "a");
    events.expect("closed");
    assert_eq!(server.stats().rooms, 0);
}

#[test]
fn who_is_removed_is_told_so_and_does_not_come_back() {
    let server = serve();
    let operator = everything(&server);
    let (mut bob, _) = Client::listening(&server, "r", "bob", &["hand/ann"]);
    let mut ann = Client::join(&server, "r", "ann");
    bob.expect("on-peer-join");
    ann.call("set-metadata", json!({"key": "hand/ann", "data": true, "bind": true}));
    bob.expect("on-metadata-change");
    let path = "/v1/rooms/r/peers/ann?reason=be%20kind";
    assert_eq!(operator.ask("DELETE", path, None), (204, Value::Null));
    assert_eq!(ann.closed_because(), (4223, "be kind".to_owned()));
    let gone = bob.expect("on-metadata-change");
    assert_eq!(gone["values"][0]["reason"], "peer-left");
    assert_eq!(bob.expect("on-peer-leave")["peer_id"], "ann");
    assert_eq!(operator.refused("DELETE", path, None), (404, "NOT_FOUND".into()));
    for reason in ["%0A".to_owned(), "x".repeat(121)] {
        let path = format!("/v1/rooms/r/peers/bob?reason={reason}");
        assert_eq!(operator.refused("DELETE", &path, None), (400, "INVALID_ARGUMENT".into()));
    }
    assert_eq!(operator.get("/v1/rooms/r/peers")["peers"].as_array().map(Vec::len), Some(1));
}

/// Passes on why a client was closed.
struct States(std::sync::mpsc::Sender<ErrorCode>);

impl UpdateListener for States {
    fn on_connection_state(&mut self, state: ConnectionState, error: Option<&Error>) {
        if let (ConnectionState::Closed, Some(error)) = (state, error) {
            self.0.send(error.code()).expect("the test waits");
        }
    }
}

#[test]
fn a_client_that_is_removed_says_so_and_stays_away() {
    let server = serve();
    let operator = everything(&server);
    for (path, code) in [
        ("/v1/rooms/r/peers/ann?reason=be%20kind", ErrorCode::Kicked),
        ("/v1/rooms/r?reason=be%20kind", ErrorCode::RoomClosed),
    ] {
        let mut options = ClientOptions::new(server.url(), "r");
        options.peer_id = "ann".into();
        let (tell, told) = std::sync::mpsc::channel();
        let client = sessionstore::Client::open(options, States(tell)).expect("opened");
        client.join_wait(PATIENCE).expect("joined");
        assert_eq!(operator.ask("DELETE", path, None).0, 204);
        assert_eq!(told.recv_timeout(PATIENCE).expect("it is told"), code);
        let again = client.join_wait(PATIENCE).expect_err("it is closed");
        assert!(again.code() == code && again.message().ends_with("The reason given: be kind"), "{again}");
        assert_eq!(server.stats().rooms, 0);
    }
}

#[test]
fn without_a_grace_period_removing_and_closing_work_as_well() {
    let server = serve_with(|options| options.limits = Limits { grace_ms: 0, ..Limits::default() });
    let operator = everything(&server);
    let mut ann = Client::join(&server, "r", "ann");
    assert_eq!(operator.ask("DELETE", "/v1/rooms/r/peers/ann", None).0, 204);
    assert_eq!(ann.closed_because().0, 4223);
    let mut ann = Client::join(&server, "r", "ann");
    assert_eq!(operator.ask("DELETE", "/v1/rooms/r", None).0, 204);
    assert_eq!(ann.closed_because().0, 4224);
}

#[test]
fn a_room_that_is_closed_is_over_for_everybody() {
    let server = serve();
    let operator = everything(&server);
    let mut peers: Vec<_> = (0..3).map(|nth| Client::join(&server, "r", &format!("p{nth}"))).collect();
    peers[0].call("set-metadata", json!({"key": "a", "data": 1}));
    assert_eq!(operator.ask("DELETE", "/v1/rooms/r", None), (204, Value::Null));
    for peer in &mut peers {
        assert_eq!(peer.closed_because(), (4224, String::new()));
    }
    assert_eq!(operator.refused("DELETE", "/v1/rooms/r", None), (404, "NOT_FOUND".into()));
    let (_again, values) = Client::listening(&server, "r", "p0", &["a"]);
    assert_eq!(values[0]["data"], Value::Null, "a new session begins");
}

/// A proxy that keeps connections sends anything on them, joins too, and only a new connection can be either.
#[test]
fn a_connection_ends_with_its_answer() {
    let server = serve();
    for (request, status) in [("GET /v1/openapi.json", "200"), ("GET /v1/nothing", "404"), ("PATCH /v1/rooms", "405")] {
        let mut socket = TcpStream::connect(server.local_addr()).expect("connects");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(socket, "{request} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n").expect("asks");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an end");
        let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert!(head.contains("\r\nconnection: close"), "{head}");
        assert_eq!(head.contains("\r\nallow: get"), status == "405", "RFC 9110, 15.5.6: {head}");
    }
}

#[test]
fn clients_of_the_original_are_told_in_its_words() {
    let server = serve();
    let operator = everything(&server);
    let mut ann = Client::connect(&server, "room=r&peer=ann&dialect=original");
    ann.call("join", json!({"name": "Ann"}));
    operator.ask("DELETE", "/v1/rooms/r/peers/ann?reason=out", None);
    ann.expect("peer-list");
    let told = ann.expect("on-peer-leave-request");
    assert_eq!((&told["reason"], &told["room_end"], &told["requested_by"]), (&json!("out"), &json!(false), &json!("")));
    let mut ann = Client::connect(&server, "room=r&peer=ann&dialect=original");
    ann.call("join", json!({"name": "Ann"}));
    operator.ask("DELETE", "/v1/rooms/r", None);
    ann.expect("peer-list");
    assert_eq!(ann.expect("on-peer-leave-request")["room_end"], json!(true));
}

#[test]
fn a_lock_that_is_taken_away_goes_to_who_waits() {
    let server = serve();
    let operator = everything(&server);
    let (mut ann, mut bob) = (Client::join(&server, "r", "ann"), Client::join(&server, "r", "bob"));
    let lease = ann.call("lock-acquire", json!({"name": "turn"}));
    let waits = bob.ask("lock-acquire", json!({"name": "turn", "wait_ms": 60_000}));
    bob.call("ping", json!({}));
    assert_eq!(operator.ask("DELETE", "/v1/rooms/r/locks/turn", None).0, 204);
    let token = bob.result(&waits)["token"].clone();
    let guarded = json!({"key": "a", "data": 1, "lock": {"name": "turn", "token": lease["token"]}});
    // The news that Bob is there comes before or after it.
    let told = std::iter::repeat_with(|| ann.read()).find(|message| message["method"] == "on-lock-lost").expect("told");
    assert_eq!(told["params"], json!({"name": "turn", "token": lease["token"]}), "the holder is told at once");
    assert_eq!(ann.refused("set-metadata", guarded), 214, "what the old holder writes with its token");
    assert_eq!(operator.get("/v1/rooms/r/locks")["locks"][0]["token"], token);
    operator.ask("DELETE", "/v1/rooms/r/locks/turn", None);
    assert_eq!(operator.refused("DELETE", "/v1/rooms/r/locks/turn", None), (404, "NOT_FOUND".into()));
}

#[test]
fn the_holder_of_a_lock_that_is_taken_away_hears_of_it_long_before_it_would_be_renewed() {
    let server = serve();
    let operator = everything(&server);
    let client = sessionstore::Client::open(ClientOptions::new(server.url(), "r"), ()).expect("opens");
    let store = client.join_wait(PATIENCE).expect("joins");
    let (told, heard) = std::sync::mpsc::channel();
    let options = LockOptions { ttl_ms: 300_000, wait_ms: 0 };
    let lock = store.lock("turn", options, move |error| drop(told.send(error))).wait(PATIENCE).expect("held");
    operator.ask("DELETE", "/v1/rooms/r/locks/turn", None);
    let error = heard.recv_timeout(PATIENCE).expect("told");
    assert_eq!(error, ErrorCode::LockLost);
    assert!(error.message().contains("an operator took the lock \"turn\" away"), "{error}");
    assert!(!lock.is_held());
}

#[test]
fn watching_tells_what_holds_and_then_what_happens() {
    let server = serve();
    let operator = everything(&server);
    let mut ann = Client::join(&server, "r", "ann");
    ann.call("set-metadata", json!({"key": "a", "data": 1}));
    let mut all = operator.watch("/v1/rooms/r/watch");
    let mut some = operator.watch("/v1/rooms/r/watch?prefix=board%2F&key=a");
    for events in [&mut all, &mut some] {
        let snapshot = events.expect("snapshot");
        assert_eq!((&snapshot["revision"], &snapshot["values"][0]["data"]), (&json!(1), &json!(1)));
        assert_eq!(snapshot["peers"][0]["peer_id"], "ann");
    }
    let body = json!({"writes": [{"key": "b", "op": "set", "data": 1}, {"key": "board/1", "op": "set", "data": 2}]});
    ann.call("transact", body);
    let changes = all.expect("changes");
    assert_eq!((&changes["revision"], changes["values"].as_array().map(Vec::len)), (&json!(2), Some(2)));
    let changes = some.expect("changes");
    assert_eq!(
        (changes["values"].as_array().map(Vec::len), &changes["values"][0]["key"]),
        (Some(1), &json!("board/1"))
    );
    ann.call("lock-acquire", json!({"name": "turn"}));
    assert_eq!(all.expect("changes")["values"][0]["key"], "$lock/turn");
    let mut bob = Client::join(&server, "r", "bob");
    assert_eq!(all.expect("peer-join")["peer_id"], "bob");
    bob.call("peer-update", json!({"data": "{\"hand\":true}"}));
    assert_eq!(all.expect("peer-update")["metadata"], "{\"hand\":true}");
    bob.call("leave", json!({}));
    assert_eq!(all.expect("peer-leave"), json!({"peer_id": "bob", "connection_lost": false}));
    ann.call("leave", json!({}));
    all.expect("peer-leave");
    all.expect("closed");
    let _cleo = Client::join(&server, "r", "cleo");
    assert_eq!(all.expect("snapshot")["values"], json!([]));
    assert_eq!(all.expect("peer-join")["peer_id"], "cleo");
}

const LAST: u64 = 6_000;

#[test]
fn who_watches_too_slowly_is_told_what_holds_instead() {
    let server = serve();
    let operator = everything(&server);
    let mut ann = Client::join(&server, "r", "ann");
    let mut events = operator.watch_over(narrow(&server), "/v1/rooms/r/watch");
    events.expect("snapshot");
    // More than all the buffers on the way take.
    let text = "x".repeat(1_000);
    for nth in 0..LAST {
        ann.call("set-metadata", json!({"key": "a", "data": [nth, text]}));
    }
    let (mut last, mut snapshots) = (0, 0);
    while last < LAST {
        let (name, data) = events.read().expect("an event");
        snapshots += usize::from(name == "snapshot");
        let revision = data["revision"].as_u64().expect("a revision");
        assert!(revision >= last, "{revision} after {last}");
        last = revision;
    }
    assert!(snapshots > 0, "it was told everything, so it was not slow enough");
}

#[test]
fn a_token_opens_what_it_is_for_and_nothing_else() {
    let server = serve();
    let _ann = Client::join(&server, "r", "ann");
    let as_who = |claims| Operator { server: &server, token: token(claims) };
    let reader = as_who(json!({"scope": "read"}));
    reader.get("/v1/rooms/r");
    let set = || Some(json!({"data": 1}));
    for (method, path, body) in [
        ("PUT", "/v1/rooms/r/keys/a", set()),
        ("DELETE", "/v1/rooms/r/keys/a", None),
        ("POST", "/v1/rooms/r/transactions", Some(json!({"writes": []}))),
        ("POST", "/v1/rooms/new", Some(json!({}))),
        ("DELETE", "/v1/rooms/r", None),
        ("DELETE", "/v1/rooms/r/peers/ann", None),
        ("DELETE", "/v1/rooms/r/locks/turn", None),
    ] {
        assert_eq!(reader.refused(method, path, body), (403, "FORBIDDEN".into()), "{method} {path}");
    }
    let writer = as_who(json!({"scope": "write"}));
    assert_eq!(writer.ask("PUT", "/v1/rooms/r/keys/a", set()).0, 200);
    for path in [
        "/v1/server",
        "/v1/rooms",
        "/v1/rooms/r",
        "/v1/rooms/r/keys",
        "/v1/rooms/r/keys/a",
        "/v1/rooms/r/peers",
        "/v1/rooms/r/locks",
        "/v1/rooms/r/watch",
    ] {
        assert_eq!(writer.refused("GET", path, None), (403, "FORBIDDEN".into()), "{path}");
    }
    let _other = Client::join(&server, "other", "bob");
    let one_room = as_who(json!({"scope": "read write manage", "room_id": "r"}));
    assert_eq!(one_room.get("/v1/rooms")["rooms"].as_array().map(Vec::len), Some(1));
    assert_eq!(one_room.get("/v1/server")["rooms"], 0, "it does not learn how many others there are");
    for (method, path) in [
        ("GET", "/v1/rooms/other"),
        ("DELETE", "/v1/rooms/other"),
        ("GET", "/v1/rooms/nowhere"),
        ("GET", "/v1/rooms/other/watch"),
    ] {
        assert_eq!(one_room.refused(method, path, None), (403, "FORBIDDEN".into()), "{method} {path}");
    }
    let nothing = as_who(json!({"scope": ""}));
    assert_eq!(nothing.refused("GET", "/v1/rooms", None), (403, "FORBIDDEN".into()));
}

#[test]
fn without_a_good_token_nothing_is_told() {
    let server = serve_with(|options| options.secret = Some("the secret of peers".into()));
    let peers_secret = EncodingKey::from_secret(b"the secret of peers");
    let claims = json!({"room_id": "r", "user_id": "u", "role": "host", "scope": "read", "exp": 4_000_000_000_u64});
    let of_a_peer = encode(&Header::default(), &claims, &peers_secret).expect("signed");
    for (token, name) in [
        (String::new(), "UNAUTHORIZED"),
        ("x".into(), "UNAUTHORIZED"),
        (of_a_peer, "UNAUTHORIZED"),
        (token(json!({"scope": "read", "exp": 1_000})), "TOKEN_EXPIRED"),
        (token(json!({"sub": "no scope"})), "UNAUTHORIZED"),
    ] {
        let operator = Operator { server: &server, token };
        for (method, path) in [("GET", "/v1/rooms"), ("GET", "/v1/rooms/r/watch"), ("DELETE", "/v1/rooms/r")] {
            assert_eq!(operator.refused(method, path, None), (401, name.into()), "{method} {path}");
        }
    }
    // And the other way round: this token opens no room.
    let query = format!("token={}", token(json!({"scope": "read", "room_id": "r", "user_id": "u", "role": "host"})));
    assert_eq!(Client::try_connect(&server, &query, &[]).map(drop).expect_err("refused").0, 401);
}

#[test]
fn a_role_in_the_token_holds_it_to_the_rules() {
    use sessionstore::core::rules::Rules;
    let rules = Rules::from_toml(
        "see_peers = [\"host\"]\n\
         [[rule]]\nname = \"all\"\nroles = [\"host\"]\nkeys = [\"*\"]\nallow = [\"read\", \"write\", \"create\", \"remove\", \"lock\"]\n\
         [[rule]]\nname = \"own\"\nroles = [\"support\"]\nkeys = [\"ticket/{user_id}\"]\nallow = [\"read\", \"create\"]\n",
    );
    let server = serve_with(|options| options.rules = Some(rules.expect("rules").into()));
    let mut ann = Client::join_with(&server, "room=r&peer=ann&role=host");
    ann.call("set-metadata", json!({"key": "secret", "data": 1}));
    let claims = json!({"scope": "read write", "role": "support", "sub": "u7"});
    let support = Operator { server: &server, token: token(claims) };
    let mut events = support.watch("/v1/rooms/r/watch");
    let snapshot = events.expect("snapshot");
    assert_eq!((&snapshot["values"], &snapshot["peers"]), (&json!([]), &json!([])));
    assert_eq!(support.get("/v1/rooms/r/keys")["keys"], json!([]));
    assert_eq!(support.refused("GET", "/v1/rooms/r/keys/secret", None), (403, "FORBIDDEN".into()));
    assert_eq!(support.ask("PUT", "/v1/rooms/r/keys/ticket%2Fu7", Some(json!({"data": 1}))).0, 200);
    assert_eq!(
        support.refused("PUT", "/v1/rooms/r/keys/ticket%2Fu7", Some(json!({"data": 2}))),
        (403, "FORBIDDEN".into())
    );
    ann.call("set-metadata", json!({"key": "secret", "data": 2}));
    assert_eq!(events.expect("changes")["values"][0]["key"], "ticket/u7");
    server.set_rules(None);
    let snapshot = events.expect("snapshot");
    assert_eq!(snapshot["values"].as_array().map(Vec::len), Some(2), "its rights are others now: {snapshot}");
}

#[test]
fn metrics_take_a_token_where_there_are_tokens() {
    let server = serve_with(|options| options.metrics = true);
    let ask = |scope: &str| {
        let token = token(json!({"scope": scope}));
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
        raw(&server, request.as_bytes())
    };
    for scope in ["metrics", "read"] {
        let answer = ask(scope);
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("# TYPE sessionstore_connections gauge"),
            "{answer}"
        );
    }
    assert!(ask("write").starts_with("HTTP/1.1 403"));
    assert_eq!(get(&server, "/metrics").0, 401);
    assert!(raw(&serve(), b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404"));
}

/// One request as it is, with the end of the stream behind it, and the whole answer.
fn exchange(server: &Server, request: &[u8]) -> String {
    let mut stream = reach(server);
    stream.write_all(request).expect("sent");
    // Fails when it was answered already, and closed.
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn hostile_requests_are_answered_and_cost_nothing() {
    let server = serve();
    let operator = everything(&server);
    let _ann = Client::join(&server, "r", "ann");
    let authorization = format!("Authorization: Bearer {}\r\n", operator.token);
    let put = |headers: &str, body: &str| {
        let head =
            format!("PUT /v1/rooms/r/keys/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}{headers}\r\n");
        exchange(&server, (head + body).as_bytes())
    };
    let json = "Content-Type: application/json\r\n";
    let status = |answer: &str| answer.split(' ').nth(1).map(str::to_owned).unwrap_or_default();

    // A form, or plain text, is what a foreign page can send without asking.
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        assert_eq!(status(&put(&format!("{kind}Content-Length: 10\r\n"), "{\"data\":1}")), "415");
    }
    let large = format!("{{\"data\":\"{}\"}}", "x".repeat(300_000));
    let answer = put(&format!("{json}Content-Length: {}\r\n", large.len()), &large);
    assert_eq!(status(&answer), "413", "{answer}");
    let endless = "10000\r\n".to_owned() + &"x".repeat(0x10000) + "\r\n";
    let answer = put(&format!("{json}Transfer-Encoding: chunked\r\n"), &(endless.repeat(6) + "0\r\n\r\n"));
    assert_eq!(status(&answer), "413", "{answer}");
    let answer = put(&format!("{json}Content-Length: 100\r\n"), "{\"data\":");
    assert!(answer.is_empty() || status(&answer) == "400", "half a body: {answer}");
    for body in [
        "",
        "{",
        "null",
        "{\"data\":NaN}",
        "{\"data\":1,\"data\":2}",
        "{\"data\":1,\"more\":2}",
        "{\"data\":\"\\ud800\"}",
        "{\"ttl_ms\":1}",
    ] {
        let answer = put(&format!("{json}Content-Length: {}\r\n", body.len()), body);
        assert_eq!(status(&answer), "400", "{body}: {answer}");
    }
    let deep = format!("{{\"data\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let answer = put(&format!("{json}Content-Length: {}\r\n", deep.len()), &deep);
    assert_eq!(status(&answer), "400", "{answer}");
    let foreign = put(&format!("{json}Sec-Fetch-Site: cross-site\r\nContent-Length: 10\r\n"), "{\"data\":1}");
    assert_eq!(status(&foreign), "403", "{foreign}");
    assert!(!foreign.to_lowercase().contains("access-control"), "no page of another origin may read: {foreign}");

    for path in [
        "/v1",
        "/v1/",
        "/v1//rooms",
        "/v1/rooms/",
        "/v1/../healthz",
        "/v1/rooms/r/../r",
        "/v1/rooms/%2e%2e/keys",
        "/v1/rooms/r/keys/a/b",
        "/v1/rooms/r/nothing",
        "/v1/nothing",
    ] {
        let (status, body) = operator.ask("GET", path, None);
        assert!(status == 404, "{path}: {status} {body}");
    }
    assert_eq!(operator.refused("GET", "/v1/rooms/%FF", None).0, 400);
    assert_eq!(operator.refused("GET", "/v1/rooms/a%00b", None), (400, "INVALID_ROOM".into()));
    assert_eq!(operator.refused("GET", &format!("/v1/rooms/{}", "x".repeat(200)), None), (400, "INVALID_ROOM".into()));
    assert_eq!(operator.refused("GET", "/v1/rooms/r/keys/a%0Ab", None), (400, "INVALID_KEY".into()));
    assert_eq!(operator.refused("GET", "/v1/rooms/r/watch?colour=red", None).0, 400);
    for (method, path) in
        [("PATCH", "/v1/rooms"), ("POST", "/v1/server"), ("GET", "/v1/rooms/r/transactions"), ("OPTIONS", "/v1/rooms")]
    {
        assert_eq!(operator.refused(method, path, None).0, 405, "{method} {path}");
    }
    assert_eq!(operator.get("/v1/rooms/r")["revision"], 0, "nothing was changed");
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let server = serve_with(|options| options.handshake_timeout_ms = 200);
    // Half a head is given up by the loop, as ever; half a second head by the API.
    let mut stream = reach(&server);
    stream.write_all(b"GET /v1/rooms HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/ro").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered and closed");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let _ann = Client::join(&server, "r", "ann");
    let mut stream = reach(&server);
    let token = everything(&server).token;
    let head = format!("PUT /v1/rooms/r/keys/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    let rest = "Content-Type: application/json\r\nConnection: close\r\nContent-Length: 10\r\n\r\n{\"data\"";
    stream.write_all((head + rest).as_bytes()).expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[test]
fn an_id_of_a_request_comes_back_if_it_can_stand_in_a_log() {
    let server = serve();
    let ask = |header: &str| {
        raw(&server, format!("GET /v1/rooms HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n").as_bytes())
    };
    assert!(ask("X-Request-Id: abc-1_2.3\r\n").contains("x-request-id: abc-1_2.3\r\n"));
    for bad in ["X-Request-Id: a b\r\n", "X-Request-Id: \r\n", "", "X-Request-Id: {\"a\":1}\r\n"] {
        let answer = ask(bad);
        let id = answer.split("x-request-id: ").nth(1).and_then(|rest| rest.lines().next()).expect("an id");
        assert_eq!(id.len(), 36, "a fresh one: {id}");
    }
}

#[test]
fn a_server_that_stops_ends_those_who_watch() {
    let server = serve();
    let operator = everything(&server);
    let _ann = Client::join(&server, "r", "ann");
    let mut events = operator.watch("/v1/rooms/r/watch");
    events.expect("snapshot");
    server.stop_wait(PATIENCE).expect("stopped");
    while events.read().is_some() {}
}

#[test]
fn a_stream_ends_with_its_token() {
    let server = serve();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let short = Operator { server: &server, token: token(json!({"scope": "read", "exp": now + 2})) };
    let mut events = short.watch("/v1/rooms/r/watch");
    events.expect("closed");
    assert!(events.read().is_none(), "the stream ends");
}

#[test]
fn without_an_api_secret_there_is_no_api() {
    let server = server();
    let answer = raw(&server, b"GET /v1/rooms HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("API secret"), "{answer}");
    for change in [
        (|options: &mut ServerOptions| options.api_secret = Some(String::new())) as fn(&mut ServerOptions),
        |options| (options.secret, options.api_secret) = (Some("same".into()), Some("same".into())),
    ] {
        let mut options = ServerOptions::default();
        change(&mut options);
        let error = Server::start(options).map(drop).expect_err("refused");
        assert_eq!(error.code(), ErrorCode::InvalidConfig);
    }
}

#[test]
fn the_checked_in_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let document = sessionstore::server::openapi() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &document).expect("written");
    }
    let have = std::fs::read_to_string(path).unwrap_or_default();
    assert!(have == document, "docs/openapi.json is stale; make openapi writes it");
    let server = serve();
    let served = everything(&server).get("/v1/openapi.json");
    assert_eq!(served, serde_json::from_str::<Value>(&document).expect("JSON"));
    assert_eq!(served["openapi"], "3.1.0");
}
