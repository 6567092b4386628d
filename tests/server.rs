//! The server over real sockets, spoken to as `docs/protocol.md` says.

mod common;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use serde_json::{json, Value};
use sessionstore::core::rules::Rules;
use sessionstore::{ErrorCode, Server, ServerOptions};
use tungstenite::Message;

// ------------------------------------------------------------------ joining

#[test]
fn joins_by_the_query_in_one_round_trip() {
    let server = server();
    let mut ada = Client::try_connect(&server, "room=r&peer=ada&name=Ada&role=host&user_id=u1&join=7&data=%7B%7D", &[])
        .expect("admitted");
    let result = ada.result("7");
    assert_eq!(
        (&result["peer_id"], &result["returned"], &result["revision"]),
        (&json!("ada"), &json!(false), &json!(0))
    );
    assert_eq!(result["session_id"].as_str().map(str::len), Some(36));
    let list = ada.expect("peer-list");
    let peer = &list["peers"]["ada"];
    assert_eq!(peer["role"], "host");
    assert_eq!(peer["info"], json!({"name": "Ada", "data": "{}", "user_id": "u1", "type": "regular"}));
    assert_eq!(list["room"]["name"], "r");
    assert_eq!(list["room"]["session_id"], result["session_id"]);
    assert_eq!(server.stats().rooms, 1);
    assert_eq!(server.stats().peers, 1);
    ada.nothing_waits();
}

#[test]
fn joins_by_a_message_after_the_policy() {
    let server = server();
    let mut ada = Client::connect(&server, "room=r&role=guest");
    for (method, params) in [
        ("set-metadata", json!({"key": "k", "data": 1})),
        ("get-metadata", json!({"key": "k"})),
        ("listen-metadata-change", json!({"keys": ["k"]})),
        ("peer-list", json!({})),
        ("peer-update", json!({"name": "x"})),
        ("leave", json!({})),
    ] {
        assert_eq!(ada.refused(method, params), i64::from(ErrorCode::NotJoined.number()), "{method}");
    }
    assert_eq!(server.stats().rooms, 0);
    // What the original's client sends before and beside it.
    ada.send_text(r#"{"method":"analytics","params":{"name":"x","info":{},"timestamp":1}}"#);
    assert_eq!(ada.call("ping", json!({"timestamp": 5}))["timestamp"], 5);
    let params = json!({"name": "Ada", "disableVidAutoSub": true, "data": "d", "simulcast": false});
    let result = ada.call("join", params);
    let peer_id = result["peer_id"].as_str().expect("made by the server").to_owned();
    assert_eq!(peer_id.len(), 36);
    assert_eq!(ada.expect("peer-list")["peers"][&peer_id]["info"]["data"], "d");
    // Joining again is no error.
    assert_eq!(ada.call("join", json!({}))["returned"], true);
    ada.expect("peer-list");
    ada.nothing_waits();
}

#[test]
fn the_policy_comes_first_with_the_role() {
    let server = server();
    let mut client = Client::try_connect(&server, "room=r&role=host", &[]).expect("admitted");
    let policy = client.expect("on-policy-change");
    assert_eq!(policy["name"], "host");
    assert_eq!(policy["known_roles"]["host"], json!({"name": "host", "publishParams": {}, "subscribeParams": {}}));
}

/// A connection of the original's client, which waits for its policy.
fn original(server: &Server, query: &str) -> Client {
    Client::try_connect(server, &format!("{query}&dialect=original"), &[]).expect("admitted")
}

/// The roles a policy names.
fn known_roles(policy: &Value) -> Vec<&str> {
    policy["known_roles"].as_object().expect("roles").keys().map(String::as_str).collect()
}

#[test]
fn the_originals_client_is_told_a_role_before_the_first_who_has_it() {
    let server = server();
    let _host = Client::join_with(&server, "room=r&peer=host&role=host");
    let mut ada = original(&server, "room=r&peer=ada&role=guest");
    assert_eq!(known_roles(&ada.expect("on-policy-change")), ["guest", "host"]);
    let asked = ada.ask("join", json!({}));
    ada.result(&asked);
    ada.expect("peer-list");
    let _second = Client::join_with(&server, "room=r&peer=second&role=host");
    assert_eq!(ada.expect("on-peer-join")["peer_id"], "second");
    let _coach = Client::join_with(&server, "room=r&peer=coach&role=coach");
    let policy = ada.expect("on-policy-change");
    assert_eq!((policy["name"].as_str(), known_roles(&policy)), (Some("guest"), vec!["coach", "guest", "host"]));
    assert_eq!(ada.expect("on-peer-join")["peer_id"], "coach");
}

#[test]
fn who_may_not_know_of_others_is_told_of_no_roles() {
    let rules = Rules::from_toml(
        "see_peers = ['host']\n[[rule]]\nname = 'all'\nroles = ['host']\nkeys = ['*']\nallow = ['read']",
    )
    .expect("rules");
    let server = server_with(|options| options.rules = Some(Arc::new(rules)));
    let _host = Client::join_with(&server, "room=r&peer=host&role=host");
    let mut ada = original(&server, "room=r&peer=ada&role=guest");
    assert_eq!(known_roles(&ada.expect("on-policy-change")), ["guest"]);
}

#[test]
fn errors_of_the_original_are_statuses() {
    let server = server();
    let mut ada = original(&server, "room=r&peer=ada");
    ada.expect("on-policy-change");
    let asked = ada.ask("get-metadata", json!({"key": "k"}));
    assert_eq!(ada.refusal(&asked).0, 409, "NOT_JOINED");
    // It says so when it is back; without a peer there is nothing to come back to.
    ada.ask("track-update", json!({"tracks": {}}));
    assert_eq!(ada.expect("on-error")["code"], 410);
    let asked = ada.ask("join", json!({}));
    ada.result(&asked);
    ada.expect("peer-list");
    assert_eq!(ada.call("track-update", json!({"tracks": {}})), json!({}));
    for (method, params, status, name) in [
        ("set-metadata", json!({"key": "k", "data": "x".repeat(2_000)}), 413, "VALUE_TOO_LARGE"),
        ("set-metadata", json!({"key": "k", "data": 1, "if_change_version": 7}), 412, "VERSION_CONFLICT"),
        ("set-metadata", json!({"key": "$lock/x", "data": 1}), 403, "RESERVED_KEY"),
        ("no-such-method", json!({}), 404, "UNKNOWN_METHOD"),
    ] {
        let asked = ada.ask(method, params);
        let (code, error) = ada.refusal(&asked);
        assert_eq!((code, error["name"].as_str()), (status, Some(name)), "{error}");
    }
}

// ------------------------------------------------------------------ the store

#[test]
fn a_snapshot_has_every_key_and_absent_ones_are_null() {
    let server = server();
    let mut ada = Client::join(&server, "r", "ada");
    let set = ada.call("set-metadata", json!({"key": "pinned", "data": {"text": "hi"}}));
    assert_eq!(
        (&set["data"], &set["change_version"], &set["updated_by"]),
        (&json!({"text": "hi"}), &json!(1), &json!("ada"))
    );
    assert_eq!(set["author"]["name"], "ada");
    assert!(set["updated_at"].as_u64() > Some(1_600_000_000_000), "{set}");

    let (mut bob, snapshot) = Client::listening(&server, "r", "bob", &["pinned", "absent"]);
    assert_eq!(snapshot.len(), 2);
    let state = |key: &str| snapshot.iter().find(|state| state["key"] == key).expect("in the snapshot");
    assert_eq!(state("pinned"), &set);
    assert_eq!(state("absent"), &json!({"key": "absent", "data": null, "change_version": 0}));

    let id = bob.ask("listen-metadata-change", json!({"keys": ["absent"]}));
    assert_eq!(bob.result(&id), json!({}));
    let again = bob.expect("on-metadata-change");
    assert_eq!((&again["snapshot"], again["values"].as_array().map(Vec::len)), (&json!(true), Some(1)));
    let id = bob.ask("listen-metadata-change", json!({"keys": []}));
    assert_eq!(bob.result(&id), json!({}));
    bob.nothing_waits();
}

#[test]
fn a_result_comes_right_after_its_own_notification() {
    let server = server();
    let (mut ada, _) = Client::listening(&server, "r", "ada", &["k"]);
    let (mut bob, _) = Client::listening(&server, "r", "bob", &["k"]);
    ada.expect("on-peer-join");
    // Many at once, so that they are handled in one turn.
    let ids: Vec<String> = (0..50).map(|n| ada.ask("set-metadata", json!({"key": "k", "data": n}))).collect();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(ada.change(), ("k".into(), json!(n), n as u64 + 1));
        assert_eq!(ada.result(id)["change_version"], n as u64 + 1);
        assert_eq!(bob.change(), ("k".into(), json!(n), n as u64 + 1));
    }
    // A writer that does not listen gets its results alone.
    let mut eve = Client::join(&server, "r", "eve");
    let id = eve.ask("set-metadata", json!({"key": "k", "data": "eve"}));
    assert_eq!(eve.result(&id)["change_version"], 51);
    eve.nothing_waits();
}

#[test]
fn a_listen_set_replaces_the_last_one_and_nothing_slips_between() {
    let server = server();
    let (mut ada, _) = Client::listening(&server, "r", "ada", &["a"]);
    // All in one turn of the server: sets on both sides of the change of the set.
    let frames = [
        ("set-metadata", json!({"key": "a", "data": 1})),
        ("set-metadata", json!({"key": "b", "data": 2})),
        ("listen-metadata-change", json!({"keys": ["b"]})),
        ("set-metadata", json!({"key": "a", "data": 3})),
        ("set-metadata", json!({"key": "b", "data": 4})),
    ];
    let ids: Vec<String> = frames.into_iter().map(|(method, params)| ada.ask(method, params)).collect();
    assert_eq!(ada.change(), ("a".into(), json!(1), 1));
    ada.result(&ids[0]);
    ada.result(&ids[1]);
    ada.result(&ids[2]);
    let snapshot = ada.expect("on-metadata-change");
    assert_eq!((&snapshot["snapshot"], &snapshot["values"][0]["data"]), (&json!(true), &json!(2)));
    ada.result(&ids[3]);
    assert_eq!(ada.change(), ("b".into(), json!(4), 4));
    ada.result(&ids[4]);
    ada.nothing_waits();
}

#[test]
fn each_listener_gets_its_keys_only_and_all_of_them_in_order() {
    let server = server();
    let keys: Vec<String> = (0..90).map(|n| format!("k{n}")).collect();
    // The first listens to all, the second to every third, the third to one, the last to none.
    let every = |step: usize| keys.iter().step_by(step).map(String::as_str).collect::<Vec<_>>();
    let mut listeners: Vec<(Client, usize)> = Vec::new();
    for (peer, step) in [("one", 1), ("two", 3), ("three", 90)] {
        let (client, snapshot) = Client::listening(&server, "r", peer, &every(step));
        assert_eq!(snapshot.len(), every(step).len());
        listeners.push((client, step));
    }
    let mut none = Client::join(&server, "r", "none");
    let mut writer = Client::join(&server, "r", "writer");
    let ids: Vec<String> =
        (0..270).map(|n| writer.ask("set-metadata", json!({"key": keys[n % 90], "data": n}))).collect();
    for id in &ids {
        writer.result(id);
    }
    for (nth, (client, step)) in listeners.iter_mut().enumerate() {
        for _ in nth..4 {
            client.expect("on-peer-join");
        }
        for n in (0..270).filter(|n| (n % 90) % *step == 0) {
            assert_eq!(client.change(), (keys[n % 90].clone(), json!(n), n as u64 + 1));
        }
        client.nothing_waits();
    }
    none.expect("on-peer-join");
    none.nothing_waits();
}

#[test]
fn null_removes_and_later_gets_are_absent() {
    let server = server();
    let (mut ada, _) = Client::listening(&server, "r", "ada", &["k"]);
    ada.set("k", json!("x"));
    ada.change();
    // `data` null, and `data` left out, are the same.
    let id = ada.ask("set-metadata", json!({"key": "k", "data": null}));
    assert_eq!(ada.change(), ("k".into(), Value::Null, 2));
    assert_eq!(ada.result(&id)["data"], Value::Null);
    assert_eq!(ada.call("get-metadata", json!({"key": "k"})), json!({"key": "k", "data": null, "change_version": 0}));
    // Removing what is absent changes nothing.
    let id = ada.ask("set-metadata", json!({"key": "k"}));
    assert_eq!(ada.result(&id)["change_version"], 0);
    ada.nothing_waits();
}

#[test]
fn a_conflict_tells_the_current_state() {
    let server = server();
    let mut ada = Client::join(&server, "r", "ada");
    ada.set("k", json!("first"));
    let id = ada.ask("set-metadata", json!({"key": "k", "data": "x", "if_change_version": 0}));
    let (code, data) = ada.refusal(&id);
    assert_eq!(code, i64::from(ErrorCode::VersionConflict.number()));
    assert_eq!(data["name"], "VERSION_CONFLICT");
    assert_eq!((&data["current"]["data"], &data["current"]["change_version"]), (&json!("first"), &json!(1)));
    let second = ada.call("set-metadata", json!({"key": "k", "data": "second", "if_change_version": 1}));
    assert_eq!(second["change_version"], 2);
    assert_eq!(ada.call("get-metadata", json!({"key": "k"})), second);
}

#[test]
fn the_limits_have_codes_and_refusals_change_nothing() {
    let server = server();
    let (mut ada, _) = Client::listening(&server, "r", "ada", &["big"]);
    let code = |code: ErrorCode| i64::from(code.number());
    // 1,024 bytes of JSON with the quotes; one more is too many.
    ada.call("set-metadata", json!({"key": "k0", "data": "x".repeat(1_022)}));
    assert_eq!(
        ada.refused("set-metadata", json!({"key": "big", "data": "x".repeat(1_023)})),
        code(ErrorCode::ValueTooLarge)
    );
    assert_eq!(ada.refused("set-metadata", json!({"key": "", "data": 1})), code(ErrorCode::InvalidKey));
    assert_eq!(ada.refused("set-metadata", json!({"key": "x".repeat(257), "data": 1})), code(ErrorCode::InvalidKey));
    for n in 1..63 {
        ada.call("set-metadata", json!({"key": format!("k{n}"), "data": "x".repeat(1_022)}));
    }
    assert_eq!(
        ada.refused("set-metadata", json!({"key": "big", "data": "x".repeat(1_022)})),
        code(ErrorCode::StoreFull)
    );
    for n in 63..100 {
        ada.call("set-metadata", json!({"key": format!("k{n}"), "data": 1}));
    }
    assert_eq!(ada.refused("set-metadata", json!({"key": "big", "data": 1})), code(ErrorCode::TooManyKeys));
    let keys: Vec<String> = (0..201).map(|n| n.to_string()).collect();
    assert_eq!(ada.refused("listen-metadata-change", json!({"keys": keys})), code(ErrorCode::TooManyListenedKeys));
    assert_eq!(ada.refused("peer-update", json!({"name": "x".repeat(257)})), code(ErrorCode::InvalidPeer));
    assert_eq!(ada.call("get-metadata", json!({"key": "big"}))["change_version"], 0);
    // Not one of the refusals reached the listener.
    ada.nothing_waits();
}

// ------------------------------------------------------------------ peers

#[test]
fn peers_hear_of_each_other_and_never_of_themselves() {
    let server = server();
    let mut ada = Client::join(&server, "r", "ada");
    let mut bob = Client::join_with(&server, "room=r&peer=bob&name=Bob&role=host");
    let joined = ada.expect("on-peer-join");
    assert_eq!(
        (&joined["peer_id"], &joined["role"], &joined["info"]["name"]),
        (&json!("bob"), &json!("host"), &json!("Bob"))
    );
    assert_eq!((&joined["realtime"], &joined["tracks"], &joined["groups"]), (&json!(true), &json!({}), &json!([])));

    assert_eq!(bob.call("peer-update", json!({"data": "hand"})), json!({}));
    let updated = ada.expect("on-peer-update");
    assert_eq!((&updated["info"]["name"], &updated["info"]["data"]), (&json!("Bob"), &json!("hand")));
    assert_eq!(bob.call("peer-update", json!({"data": "hand"})), json!({}));

    let list = ada.call("peer-list", json!({}));
    assert_eq!(list["peers"].as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(list["peers"]["bob"]["info"]["data"], "hand");

    let id = bob.ask("leave", json!({"client_reason": "user request"}));
    assert_eq!(bob.result(&id), json!({}));
    assert_eq!(bob.closed(), 1000);
    assert_eq!(ada.expect("on-peer-leave"), json!({"peer_id": "bob", "reason": "left"}));
    ada.nothing_waits();
}

#[test]
fn a_peer_that_comes_back_keeps_its_place_and_its_listen_set() {
    let server = server();
    let mut ada = Client::join(&server, "r", "ada");
    let (bob, _) = Client::listening(&server, "r", "bob", &["k"]);
    ada.expect("on-peer-join");
    bob.cut();
    let missed = ada.set("k", json!("missed"));

    // As the original's client: neither join nor listen.
    let mut bob = Client::connect(&server, "room=r&peer=bob");
    let list = bob.expect("peer-list");
    assert_eq!(list["peers"]["bob"]["info"]["name"], "bob");
    let snapshot = bob.expect("on-metadata-change");
    assert_eq!((&snapshot["snapshot"], &snapshot["values"][0]["change_version"]), (&json!(true), &json!(missed)));
    ada.set("k", json!("live"));
    assert_eq!(bob.change().1, json!("live"));

    // As our client: both, in the query. The old connection is told that it was replaced.
    let keys = encode("[\"other\"]");
    let mut newer =
        Client::try_connect(&server, &format!("room=r&peer=bob&join=9&listen={keys}"), &[]).expect("admitted");
    assert_eq!(newer.result("9")["returned"], true);
    newer.expect("peer-list");
    assert_eq!(newer.expect("on-metadata-change")["values"][0]["key"], "other");
    assert_eq!(bob.closed(), 4108);
    // The closing of the old one did not make the peer lost.
    newer.set("other", json!(1));
    assert_eq!(newer.change().1, json!(1));
    assert_eq!(server.stats().peers, 2);

    // With a join but no listen set it keeps the one it has.
    let mut newest = Client::connect(&server, "room=r&peer=bob");
    newest.expect("peer-list");
    newest.expect("on-metadata-change");
    assert_eq!(newest.call("join", json!({"name": "Robert"}))["returned"], true);
    newest.expect("peer-list");
    newest.nothing_waits();
    assert_eq!(newer.closed(), 4108);
    // Nobody was told of a leave or a join in between, only of the new name.
    assert_eq!(ada.expect("on-peer-update")["info"]["name"], "Robert");
    ada.nothing_waits();
}

#[test]
fn who_comes_back_has_the_role_it_comes_back_with() {
    let rules = r#"
see_peers = ["host"]
[[rule]]
roles = ["host"]
keys = ["*"]
allow = ["read", "write", "create"]
[[rule]]
roles = ["viewer"]
keys = ["pinned"]
allow = ["read"]
"#;
    let server = server_with(|options| options.rules = Some(Arc::new(Rules::from_toml(rules).expect("rules"))));
    let mut ada = Client::join_with(&server, "room=r&peer=ada&role=host");
    let keys = encode(&json!(["pinned", "secret"]).to_string());
    let mut bob = Client::join_with(&server, &format!("room=r&peer=bob&role=host&listen={keys}"));
    bob.expect("on-metadata-change");
    bob.set("secret", json!(1));
    assert_eq!(ada.expect("on-peer-join")["role"], "host");
    bob.cut();

    // As the original's client, with a token that says less than the last one.
    let mut bob = Client::connect(&server, "room=r&peer=bob&role=viewer");
    let list = bob.expect("peer-list");
    assert_eq!(
        (list["peers"].as_object().map(|peers| peers.len()), &list["peers"]["bob"]["role"]),
        (Some(1), &json!("viewer"))
    );
    let snapshot = bob.expect("on-metadata-change");
    assert_eq!(
        (snapshot["values"].as_array().map(Vec::len), &snapshot["values"][0]["key"]),
        (Some(1), &json!("pinned"))
    );
    let forbidden = i64::from(ErrorCode::Forbidden.number());
    assert_eq!(bob.refused("get-metadata", json!({"key": "secret"})), forbidden);
    assert_eq!(bob.refused("set-metadata", json!({"key": "secret", "data": 2})), forbidden);
    assert_eq!(ada.expect("on-peer-update")["role"], "viewer");
    bob.cut();

    // As our client, which asks for what it listened to.
    let mut bob = Client::try_connect(&server, &format!("room=r&peer=bob&role=host&join=1&listen={keys}"), &[])
        .expect("admitted");
    assert_eq!(bob.result("1")["returned"], true);
    assert_eq!(bob.expect("peer-list")["peers"]["bob"]["role"], "host");
    assert_eq!(bob.expect("on-metadata-change")["values"].as_array().map(Vec::len), Some(2));
    bob.set("secret", json!(3));
    assert_eq!(ada.expect("on-peer-update")["role"], "host");
    bob.cut();
    let mut bob = Client::try_connect(&server, &format!("room=r&peer=bob&role=viewer&join=1&listen={keys}"), &[])
        .expect("admitted");
    bob.result("1");
    bob.expect("peer-list");
    let revoked = bob.expect("on-listen-revoked");
    assert_eq!((&revoked["keys"], &revoked["code"]), (&json!(["secret"]), &json!(forbidden)));
    assert_eq!(bob.expect("on-metadata-change")["values"].as_array().map(Vec::len), Some(1));
}

#[test]
fn another_user_cannot_take_a_peer_over() {
    let server = server();
    let mut ada = Client::join_with(&server, "room=r&peer=p&user_id=ada");
    let mut eve = Client::connect(&server, "room=r&peer=p&user_id=eve");
    assert_eq!(eve.refused("join", json!({})), i64::from(ErrorCode::PeerMismatch.number()));
    ada.nothing_waits();
}

#[test]
fn a_lost_peer_goes_after_the_grace_period_and_the_store_with_the_last() {
    let server = server_with(|options| options.limits.grace_ms = 20);
    let mut ada = Client::join(&server, "r", "ada");
    let bob = Client::join(&server, "r", "bob");
    ada.expect("on-peer-join");
    ada.set("k", json!(1));
    bob.cut();
    assert_eq!(ada.expect("on-peer-leave"), json!({"peer_id": "bob", "reason": "connection-lost"}));
    ada.cut();
    until("the end of the session", || server.stats().rooms == 0);
    assert_eq!(server.stats().peers, 0);
    let mut ada = Client::join(&server, "r", "ada");
    assert_eq!(ada.call("get-metadata", json!({"key": "k"}))["change_version"], 0);
}

#[test]
fn closing_without_leave_is_a_lost_connection() {
    let server = server();
    let mut ada = Client::join(&server, "r", "ada");
    let mut bob = Client::join(&server, "r", "bob");
    ada.expect("on-peer-join");
    bob.socket.close(None).expect("closing");
    while bob.socket.read().is_ok() {}
    until("the end of the connection", || server.stats().connections == 1);
    assert_eq!(server.stats().peers, 2);
    ada.nothing_waits();
}

#[test]
fn the_store_is_cleared_with_the_last_leave_unless_it_lingers() {
    for (linger_ms, kept) in [(0, false), (3_600_000, true)] {
        let server = server_with(|options| options.limits.linger_ms = linger_ms);
        let mut ada = Client::join(&server, "r", "ada");
        ada.set("k", json!("kept"));
        let id = ada.ask("leave", json!({}));
        ada.result(&id);
        assert_eq!(ada.closed(), 1000);
        assert_eq!(server.stats().rooms, usize::from(kept));
        let mut bob = Client::join(&server, "r", "bob");
        let state = bob.call("get-metadata", json!({"key": "k"}));
        assert_eq!(state["data"], if kept { json!("kept") } else { Value::Null });
    }
}

// ------------------------------------------------------------------ tokens

fn token(secret: &str, room: &str, expires: u64) -> String {
    let claims = json!({"room_id": room, "user_id": "u1", "role": "host", "exp": expires});
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("encoded")
}

const FAR: u64 = 4_000_000_000;

#[test]
fn tokens_say_room_user_and_role() {
    let server = server_with(|options| options.secret = Some("secret".into()));
    let good = token("secret", "r", FAR);
    let mut ada = Client::join_with(&server, &format!("peer=ada&role=admin&user_id=other&token={good}"));
    let ada_is = ada.call("peer-list", json!({}));
    assert_eq!(
        (&ada_is["peers"]["ada"]["role"], &ada_is["peers"]["ada"]["info"]["user_id"]),
        (&json!("host"), &json!("u1"))
    );
    assert_eq!(ada_is["room"]["name"], "r");

    let bearer = format!("Bearer {good}");
    let mut bob =
        Client::try_connect(&server, "room=r&peer=bob&join=1", &[("Authorization", &bearer)]).expect("admitted");
    bob.result("1");

    let refused = |query: &str| {
        let (status, body) = Client::try_connect(&server, query, &[]).err().expect("refused");
        assert_eq!(status, 401, "{body}");
        body["code"].as_i64().expect("a code")
    };
    let unauthorized = i64::from(ErrorCode::Unauthorized.number());
    assert_eq!(refused("room=r&join=1"), unauthorized);
    assert_eq!(refused("token=nonsense"), unauthorized);
    assert_eq!(refused(&format!("token={}", token("other", "r", FAR))), unauthorized);
    assert_eq!(refused(&format!("room=s&token={good}")), unauthorized);
    assert_eq!(refused(&format!("token={}", token("secret", "r", 1_000))), i64::from(ErrorCode::TokenExpired.number()));
}

// ------------------------------------------------------------------ bad input

#[test]
fn requests_over_http_are_answered_as_documented() {
    let server = server();
    let _ada = Client::join(&server, "r", "ada");
    assert_eq!(get(&server, "/healthz"), (200, json!({"status": "ok", "rooms": 1, "peers": 1, "connections": 1})));
    assert_eq!(get(&server, "/readyz"), (200, json!({"status": "ready"})));
    assert_eq!(get(&server, "/").0, 404);
    assert_eq!(get(&server, "/ws?room=r").0, 426);
    assert!(raw(&server, b"POST /ws HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 405 "));
    // As some who look whether a server is there ask: the head alone, and how long the rest would be.
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/ws", 405), ("/nothing", 404)] {
        let told = raw(&server, format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")) && told.ends_with("\r\n\r\n"), "{path}: {told}");
        assert!(told.contains("\r\nContent-Length: ") && !told.contains("\r\nContent-Length: 0\r\n"), "{told}");
    }
    assert!(raw(&server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = format!("GET /ws?room={} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000));
    assert!(raw(&server, long.as_bytes()).starts_with("HTTP/1.1 431 "));
    let endless = format!("GET /ws HTTP/1.1\r\n{}", "A: b\r\n".repeat(4_000));
    assert!(raw(&server, endless.as_bytes()).starts_with("HTTP/1.1 431 "));
    let (status, body) = Client::try_connect(&server, "role=r", &[]).err().expect("refused");
    assert_eq!((status, &body["code"]), (400, &json!(ErrorCode::InvalidRoom.number())));
    let (status, body) = Client::try_connect(&server, "room=r&join=1&listen=%5B", &[]).err().expect("refused");
    assert_eq!((status, &body["code"]), (400, &json!(ErrorCode::InvalidArgument.number())));
}

#[test]
fn half_a_handshake_is_cut_off_and_a_slow_one_is_served() {
    let server = server_with(|options| options.handshake_timeout_ms = 50);
    assert_eq!(raw(&server, b"GET /ws?room=r HTTP/1.1\r\nHost: x\r\n"), "");
    assert_eq!(raw(&server, b""), "");

    let server = common::server();
    let mut stream = TcpStream::connect(server.local_addr()).expect("connects");
    stream.set_nodelay(true).expect("set");
    for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r" {
        stream.write_all(&[*byte]).expect("written");
    }
    stream.write_all(b"\n").expect("written");
    let mut answer = String::new();
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    std::io::Read::read_to_string(&mut stream, &mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn a_full_server_is_healthy_and_not_ready() {
    let server = server_with(|options| options.max_connections = 1);
    assert_eq!(get(&server, "/readyz").0, 200);
    let _ada = Client::join(&server, "r", "ada");
    let (status, body) = get(&server, "/readyz");
    assert_eq!((status, &body["code"]), (503, &json!(ErrorCode::ServerFull.number())));
    assert!(body["retry_after_ms"].as_u64().is_some_and(|time| time > 0), "{body}");
    assert_eq!(get(&server, "/healthz").0, 200);
}

#[test]
fn what_is_no_request_is_answered_without_an_id() {
    let server = server();
    let mut ada = Client::join(&server, "r", "ada");
    let malformed = i64::from(ErrorCode::MalformedMessage.number());
    for text in ["", "{", "[]", "nul", "\"x\"", "{\"id\":1,", "[{\"id\":1,\"method\":\"ping\"}]", "\u{1F600}"] {
        ada.send_text(text);
        let answer = ada.read();
        assert_eq!(
            (&answer["id"], answer["error"]["code"].as_i64()),
            (&Value::Null, Some(malformed)),
            "{text}: {answer}"
        );
    }
    for (text, code) in [
        (r#"{"id":"x","method":"no-such-method","params":{}}"#, ErrorCode::UnknownMethod),
        (r#"{"id":"x"}"#, ErrorCode::MalformedMessage),
        (r#"{"id":"x","method":"set-metadata","params":{"data":1}}"#, ErrorCode::MalformedMessage),
        (r#"{"id":"x","method":"set-metadata","params":{"key":7,"data":1}}"#, ErrorCode::MalformedMessage),
        (r#"{"id":"x","method":"set-metadata","params":{"key":"k","data":"\ud800"}}"#, ErrorCode::InvalidJson),
        (r#"{"id":"x","method":"listen-metadata-change","params":{"keys":"k"}}"#, ErrorCode::MalformedMessage),
        (r#"{"id":"x","method":"listen-metadata-change","params":{"keys":[""]}}"#, ErrorCode::InvalidKey),
        (r#"{"id":"x","method":"get-metadata","params":{"key":"a\u0000"}}"#, ErrorCode::InvalidKey),
    ] {
        ada.send_text(text);
        assert_eq!(ada.refusal("x").0, i64::from(code.number()), "{text}");
    }
    // A number as id is echoed as a number; without an id there is no answer.
    ada.send_text(r#"{"id":5,"method":"ping"}"#);
    assert_eq!(ada.read()["id"], 5);
    ada.send_text(r#"{"method":"set-metadata","params":{"key":"k","data":1}}"#);
    ada.send_text(r#"{"method":"set-metadata","params":{"key":"k","data":2,"if_change_version":9}}"#);
    assert_eq!(ada.call("get-metadata", json!({"key": "k"}))["data"], 1);
    ada.nothing_waits();
}

#[test]
fn broken_frames_close_with_their_code_and_hurt_nobody() {
    let server = server_with(|options| options.threads = 1);
    let (mut bob, _) = Client::listening(&server, "r", "bob", &["k"]);

    let mut binary = Client::join(&server, "r", "binary");
    binary.socket.send(Message::binary(vec![1, 2, 3])).expect("sent");
    assert_eq!(binary.closed(), 1003);

    let frames: [(&[u8], u16); 4] = [
        (&[0x81, 0x81, 0, 0, 0, 0, 0xFF], 1007),
        (&[0x81, 1, b'x'], 1002),
        (&[0xF1, 0x81, 0, 0, 0, 0, b'x'], 1002),
        // 10 MB announced, and not sent.
        (&[0x81, 0xFF, 0, 0, 0, 0, 0, 0x98, 0x96, 0x80, 0, 0, 0, 0], 1009),
    ];
    for (bytes, code) in frames {
        let mut client = Client::join(&server, "s", "broken");
        client.socket.get_mut().write_all(bytes).expect("written");
        assert_eq!(client.closed(), code);
    }

    // 10 MB announced and sent: the code arrives all the same.
    let mut large = Client::join(&server, "s", "large");
    let _ = large.socket.send(Message::text("x".repeat(10_000_000)));
    assert_eq!(large.closed(), 1009);

    bob.set("k", json!("still here"));
    bob.expect("on-peer-join");
    assert_eq!(bob.change().1, json!("still here"));
}

#[test]
fn pings_of_clients_are_answered_and_silent_clients_are_pinged_then_closed() {
    let server = server_with(|options| (options.ping_interval_ms, options.idle_timeout_ms) = (20, 1_000));
    let mut ada = Client::join(&server, "r", "ada");
    ada.socket.send(Message::Ping(b"abc".to_vec().into())).expect("sent");
    loop {
        match ada.socket.read().expect("a pong") {
            Message::Pong(payload) => break assert_eq!(&payload[..], b"abc"),
            Message::Ping(_) => {}
            other => panic!("expected a pong, got {other:?}"),
        }
    }
    // Its library answers pings while it reads, so this one stays: it sees many of them.
    let mut pings = 0;
    while pings < 5 {
        pings += usize::from(ada.socket.read().expect("a ping").is_ping());
    }
    // This one reads without answering.
    let bob = Client::join(&server, "r", "bob");
    let mut stream = bob.socket.get_ref().try_clone().expect("cloned");
    let mut seen = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut seen).expect("closed by the server");
    let close = seen.windows(4).any(|window| window[0] == 0x88 && window[2..] == 4113u16.to_be_bytes());
    assert!(close, "no close frame with 4113 among {} bytes", seen.len());
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let server = server_with(|options| options.max_connections = 1);
    let ada = Client::join(&server, "r", "ada");
    let (status, body) = Client::try_connect(&server, "room=r", &[]).err().expect("refused");
    assert_eq!((status, &body["code"]), (503, &json!(ErrorCode::ServerFull.number())));
    ada.cut();
    until("room for one more", || server.stats().connections == 0);
    Client::join(&server, "r", "bob");

    let server = server_with(|options| options.limits.max_peers = 1);
    let _ada = Client::join(&server, "r", "ada");
    let mut bob = Client::connect(&server, "room=r");
    assert_eq!(bob.refused("join", json!({})), i64::from(ErrorCode::RoomFull.number()));
}

// ------------------------------------------------------------------ slow readers

#[test]
fn who_reads_nothing_for_too_long_is_closed_and_its_peer_is_lost() {
    let server = server_with(|options| {
        options.queue_bytes = 4 * 1024;
        // Large values fill the system's buffers long before the time-out.
        options.limits.max_value_bytes = 50_000;
        options.limits.grace_ms = 1;
        (options.ping_interval_ms, options.idle_timeout_ms) = (500, 2_000);
    });
    let mut slow = Client::narrow(&server, "r", "slow", "k");
    let mut writer = Client::join(&server, "r", "writer");
    slow.expect("on-peer-join");
    // Writes until the server has given the slow one up.
    let payload = "x".repeat(49_000);
    let leave = 'leave: loop {
        // It is alive, it only does not read.
        let _ = slow.socket.send(Message::Ping(Default::default()));
        for _ in 0..10 {
            writer.ask("set-metadata", json!({"key": "k", "data": payload}));
        }
        for _ in 0..10 {
            let message = writer.read();
            if message["method"] == "on-peer-leave" {
                break 'leave message;
            }
        }
    };
    assert_eq!(leave["params"], json!({"peer_id": "slow", "reason": "connection-lost"}));
    // What was in the pipe is whole frames, and then it is told why.
    assert_eq!(slow.closed(), 4114);
}

// ------------------------------------------------------------------ the server itself

#[test]
fn stops_gracefully_with_what_waits_and_a_code_to_come_back() {
    let server = server();
    let (mut ada, _) = Client::listening(&server, "r", "ada", &["k"]);
    let mut bob = Client::join(&server, "other", "bob");
    let unjoined = Client::connect(&server, "room=third");
    let id = ada.ask("set-metadata", json!({"key": "k", "data": 1}));
    ada.change();
    ada.result(&id);
    let address = server.local_addr();
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| server.stop_wait(PATIENCE));
        let come_back = ada.expect("on-server-stop")["come_back_ms"].as_u64().expect("a time");
        assert!((1_000..2_000).contains(&come_back), "{come_back}");
        assert_eq!(ada.closed(), 1012);
        assert_eq!(bob.closed(), 1012);
        drop(unjoined);
        stopped.join().expect("no panic").expect("stopped in time");
    });
    assert!(TcpStream::connect(address).is_err(), "the port is closed");
    server.stop();
    server.stop_wait(Duration::ZERO).expect("stopped already");
    assert_eq!(server.stats().connections, 0);
    // The port can be taken again at once.
    let options = ServerOptions { port: address.port(), ..Default::default() };
    Server::start(options).expect("starts on the same port");
}

#[test]
fn a_client_that_does_not_answer_holds_the_stop_up_no_longer_than_allowed() {
    let server = server_with(|options| options.shutdown_ms = 50);
    let ada = Client::join(&server, "r", "ada");
    server.stop_wait(PATIENCE).expect("stopped");
    drop(ada);
}

#[test]
fn dropping_the_server_stops_it() {
    let server = server();
    let mut ada = Client::join(&server, "r", "ada");
    drop(server);
    assert_eq!(ada.closed(), 1012);
}

#[test]
fn says_why_it_cannot_start() {
    let start = |change: &dyn Fn(&mut ServerOptions)| {
        let mut options = ServerOptions::default();
        change(&mut options);
        Server::start(options).expect_err("refused").code()
    };
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = taken.local_addr().expect("an address").port();
    assert_eq!(start(&|options| options.port = port), ErrorCode::AddressInUse);
    // 192.0.2.0/24 belongs to nobody's machine (RFC 5737).
    assert_eq!(start(&|options| options.address = "192.0.2.1".into()), ErrorCode::AddressUnavailable);
    assert_eq!(start(&|options| options.address = "not an address".into()), ErrorCode::InvalidConfig);
    assert_eq!(start(&|options| options.limits.max_peers = 0), ErrorCode::InvalidConfig);
    fn anywhere<T: Send + Sync>() {}
    anywhere::<Server>();
}

#[test]
fn many_rooms_on_two_loops_do_not_mix() {
    let server = server_with(|options| options.threads = 2);
    let mut rooms: Vec<(Client, Client)> = (0..40)
        .map(|n| {
            let room = format!("room{n}");
            let (mut listener, _) = Client::listening(&server, &room, "listener", &["k"]);
            let writer = Client::join(&server, &room, "writer");
            listener.expect("on-peer-join");
            (listener, writer)
        })
        .collect();
    assert_eq!((server.stats().rooms, server.stats().peers, server.stats().connections), (40, 80, 80));
    for (n, (_, writer)) in rooms.iter_mut().enumerate() {
        writer.ask("set-metadata", json!({"key": "k", "data": n}));
    }
    for (n, (listener, writer)) in rooms.iter_mut().enumerate() {
        assert_eq!(listener.change(), ("k".into(), json!(n), 1));
        assert_eq!(writer.result("1")["data"], n);
        listener.nothing_waits();
    }
    for (listener, writer) in &mut rooms {
        listener.ask("leave", json!({}));
        writer.ask("leave", json!({}));
    }
    until("the end of all rooms", || server.stats().rooms == 0 && server.stats().peers == 0);
}

#[test]
fn a_large_room_is_flushed_whole() {
    // More members than one turn of the flusher writes to.
    let server = server_with(|options| options.threads = 1);
    let mut members: Vec<Client> =
        (0..300).map(|n| Client::listening(&server, "r", &format!("p{n}"), &["k"]).0).collect();
    let mut writer = Client::join(&server, "r", "writer");
    for n in 0..20 {
        writer.ask("set-metadata", json!({"key": "k", "data": n}));
    }
    for (nth, member) in members.iter_mut().enumerate() {
        for _ in nth..300 {
            member.expect("on-peer-join");
        }
        for n in 0..20 {
            assert_eq!(member.change().1, json!(n));
        }
    }
}
