//! The wire messages of both directions: what one end writes the other reads, ids come back as
//! they were, and whatever else arrives gets its code and never a panic.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::value::RawValue;
use sessionstore::core::room::{Author, Cause, Change, Command, Introduction, Lease, PeerHandle, Reply, Room};
use sessionstore::core::wire::*;
use sessionstore::{Check, Error, ErrorCode, Expiry, LockGuard, Merge, Operation, Transaction, Value, Write};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    let text = String::from_utf8(out).expect("messages are UTF-8");
    serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    text
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("the test has valid JSON")
}

fn request(text: &str) -> ClientMessage<'_> {
    parse_request(text).message.unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn refusal(text: &str) -> ErrorCode {
    match parse_request(text).message {
        Err(error) => error.code(),
        Ok(message) => panic!("{text} was taken for {message:?}"),
    }
}

fn server(text: &str) -> ServerMessage<'_> {
    parse_server_message(text, &mut Known::default()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Strings that a careless writer or reader gets wrong.
const UNUSUAL: [&str; 12] = [
    "plain",
    "with \"quotes\" and \\backslashes\\ and /slashes/",
    "línea, 日本語, 🎉, e\u{301}, \u{200b}",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    "\u{2028}\u{2029}\u{feff}\u{ffff}\u{10ffff}",
    "</script><!-- ${x} %s {} {{}}",
    "\\u0041 \\n \\",
    "null",
    "{\"key\":\"value\"}",
    " leading and trailing ",
    "'",
    "},\"result\":{",
];

/// These are allowed where control characters are: in values and metadata.
const CONTROL: [&str; 3] = ["\u{0}", "tab\t line\n return\r bell\u{7} escape\u{1b}", "\u{7f}\u{80}\u{9f}"];

fn change(key: &str, value: Value, version: u64, who: Option<(&str, &str, &str)>) -> Change {
    let author = who.map(|(peer_id, user_id, name)| {
        Arc::new(Author { peer_id: peer_id.into(), user_id: user_id.into(), name: name.into() })
    });
    Change { value, version, updated_at: version, author, ..Change::absent(key.into()) }
}

fn room_with(peer: Introduction<'_>) -> (Room, PeerHandle) {
    let mut room = Room::new("lobby", Default::default());
    let joined = room.apply(7, Command::Join { peer, new_session_id: "session" }, &mut Vec::new());
    match joined {
        Ok(Reply::Joined { peer, .. }) => (room, peer),
        other => panic!("{other:?}"),
    }
}

// ------------------------------------------------------------------ round trips

/// What a write, a transaction or a lock is asked with, read again.
fn asked(method: &str, write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut params = Vec::new();
    write(&mut params);
    written(|out| write_request(out, 1, method, &params))
}

fn writes(key: &str) -> Vec<Write<'_>> {
    let values = || vec![Value::from("a\"b"), Value::null(), Value::parse("[{}]").expect("a value")];
    let operations = [
        Operation::Set(Value::from(key)),
        Operation::Set(Value::null()),
        Operation::Merge(Merge::Add(Value::from(i64::MIN))),
        Operation::Merge(Merge::Patch(Value::parse(r#"{"a":null}"#).expect("a value"))),
        Operation::Merge(Merge::Patch(Value::null())),
        Operation::Merge(Merge::SetAdd(values())),
        Operation::Merge(Merge::SetRemove(Vec::new())),
        Operation::Merge(Merge::Append { values: values(), cap: None }),
        Operation::Merge(Merge::Append { values: values(), cap: Some(3) }),
    ];
    let conditions = [
        (None, Some(Expiry::Keep), None),
        (Some(0), Some(Expiry::Never), Some(true)),
        (Some(u64::MAX), Some(Expiry::After(1)), Some(false)),
    ];
    let mut writes = vec![Write::touch(key, Expiry::After(u64::MAX))];
    for operation in operations {
        for (expected, expiry, bound) in conditions {
            writes.push(Write { key: key.into(), operation: operation.clone(), expected, expiry, bound });
        }
    }
    writes
}

#[test]
fn writes_transactions_and_locks_are_read_as_they_were_written() {
    for key in UNUSUAL {
        let lock = LockGuard { name: key.into(), token: 9_007_199_254_740_993 };
        for write in writes(key) {
            for guard in [None, Some(&lock)] {
                let frame = asked(write_method(&write), |out| write_write(out, &write, guard));
                match request(&frame) {
                    ClientMessage::Write { write: read, lock } => {
                        assert_eq!(format!("{read:?} {lock:?}"), format!("{write:?} {:?}", guard.cloned()), "{frame}");
                    }
                    other => panic!("{frame} was taken for {other:?}"),
                }
            }
        }
        let checks = vec![
            Check::Version { key: key.into(), version: 0 },
            Check::Exists { key: key.into() },
            Check::Absent { key: key.into() },
            Check::Equals { key: key.into(), value: Value::from(key) },
            Check::Lock(lock.clone()),
        ];
        let transaction = Transaction { checks, writes: writes(key) };
        let frame = asked("transact", |out| write_transact(out, &transaction));
        match request(&frame) {
            ClientMessage::Transact(read) => assert_eq!(format!("{read:?}"), format!("{transaction:?}")),
            other => panic!("{frame} was taken for {other:?}"),
        }
        // Nothing but an absent key equals null.
        let absent = Check::Equals { key: key.into(), value: Value::null() };
        let transaction = Transaction { checks: vec![absent], writes: Vec::new() };
        let frame = asked("transact", |out| write_transact(out, &transaction));
        assert!(
            matches!(request(&frame), ClientMessage::Transact(read) if read.checks == [Check::Absent { key: key.into() }])
        );

        let frame = written(|out| write_acquire(out, 1, key, 2, 3));
        assert!(matches!(request(&frame), ClientMessage::Acquire { name, ttl_ms: 2, wait_ms: 3 } if name == key));
        let frame = written(|out| write_renew(out, 1, &lock, 2));
        assert!(matches!(request(&frame), ClientMessage::Renew { lock: read, ttl_ms: 2 } if read == lock));
        let frame = written(|out| write_release(out, 1, &lock));
        assert!(matches!(request(&frame), ClientMessage::Release { lock: read } if read == lock));
        let frame = written(|out| write_read(out, 1, &[key.to_owned()], &["p".to_owned()]));
        assert!(
            matches!(request(&frame), ClientMessage::Read { keys, prefixes } if *keys[0].0 == *key && prefixes.len() == 1)
        );
        let frame = written(|out| write_key_list(out, 1, key));
        assert!(matches!(request(&frame), ClientMessage::Keys { prefix } if prefix == key));
    }
}

#[test]
fn answers_about_several_keys_are_read_as_they_were_written() {
    let id = raw("7");
    fn body(text: &str) -> Body<'_> {
        match server(text) {
            ServerMessage::Result { body, .. } => body,
            other => panic!("{text} was taken for {other:?}"),
        }
    }
    let expired = Change { version: 4, updated_at: 9, cause: Cause::Expired, ..Change::absent("timer".into()) };
    let living =
        Change { value: Value::from(1), version: 5, updated_at: 9, expires_at: 10, ..Change::absent("b".into()) };
    let states: Vec<Arc<Change>> =
        [change("a", Value::from("x"), 3, Some(("p", "u", "n"))), expired, living].into_iter().map(Arc::new).collect();
    let text = written(|out| write_states_result(out, &id, 5, &states));
    let read = parse_states(body(&text), &mut Known::default()).expect("states");
    assert_eq!((read.revision, &read.states), (5, &states));
    let text = written(|out| write_keys_result(out, &id, 5, &states));
    assert_eq!(parse_keys(body(&text)).expect("keys"), ["a", "timer", "b"]);
    let usage = Usage { revision: 1, keys: 2, max_keys: 3, bytes: 4, max_bytes: 5, max_value_bytes: 6 };
    let text = written(|out| write_usage_result(out, &id, &usage));
    assert_eq!(parse_usage(body(&text)).expect("usage"), usage);
    let refusal = Error::new(ErrorCode::Forbidden, "no rule allows it");
    let text = written(|out| write_listen_revoked(out, ["a", "b\"c"].into_iter(), &refusal));
    let ServerMessage::ListenRevoked { keys, error } = server(&text) else { panic!("{text}") };
    assert_eq!(
        (keys, error.code(), error.message()),
        (vec!["a".into(), "b\"c".into()], ErrorCode::Forbidden, "no rule allows it")
    );
    let text = written(|out| write_lock_lost(out, "a\"b", 7));
    assert!(matches!(server(&text), ServerMessage::LockLost { name, token: 7 } if name == "a\"b"));
    let text = written(|out| write_token_expiring(out, 5));
    assert!(matches!(server(&text), ServerMessage::TokenExpiring { expires_at: 5 }));
    let text = written(|out| write_answered(out, 7, &[2, 5]));
    let parsed = parse_request(&text);
    assert!(parsed.id.is_none(), "nothing answers it");
    assert!(matches!(parsed.message, Ok(ClientMessage::Answered { through: 7, except }) if except == [2, 5]));
    let text = written(|out| write_renew_token(out, 1, "a.b.c"));
    assert!(matches!(request(&text), ClientMessage::RenewToken { token } if token == "a.b.c"));
    let lease = Lease { name: "l".into(), token: 7, expires_at: 8 };
    let text = written(|out| write_lease_result(out, &id, &lease));
    assert_eq!(parse_lease(body(&text)).expect("a lease"), lease);
    for (error, check, write) in [
        (Error::from(ErrorCode::CheckFailed).at_check(3), Some(3), None),
        (Error::from(ErrorCode::WrongType).at_write(4), None, Some(4)),
    ] {
        let text = written(|out| write_error(out, Some(&id), &error));
        let ServerMessage::Refused { error: read, .. } = server(&text) else { panic!("{text}") };
        assert_eq!((read.code(), read.check(), read.write()), (error.code(), check, write));
    }
}

#[test]
fn params_that_make_no_sense_are_refused() {
    let bad = [
        ("merge-metadata", r#"{"key":"a","data":1}"#),
        ("merge-metadata", r#"{"key":"a","op":"multiply","data":1}"#),
        ("merge-metadata", r#"{"key":"a","op":"set-add","data":1}"#),
        ("merge-metadata", r#"{"key":"a","op":"append"}"#),
        ("merge-metadata", r#"{"key":"a","op":"append","data":[1],"cap":-1}"#),
        ("merge-metadata", r#"{"key":"a","op":"add","data":NaN}"#),
        ("touch-metadata", r#"{"key":"a"}"#),
        ("touch-metadata", r#"{"key":"a","ttl_ms":"soon"}"#),
        ("touch-metadata", r#"{"key":"a","ttl_ms":-1}"#),
        ("set-metadata", r#"{"key":"a","data":1,"ttl_ms":1.5}"#),
        ("set-metadata", r#"{"key":"a","data":1,"lock":"presenter"}"#),
        ("set-metadata", r#"{"key":"a","data":1,"bind":1}"#),
        ("transact", r#"{"checks":[{}]}"#),
        ("transact", r#"{"checks":[{"key":"a"}]}"#),
        ("transact", r#"{"checks":[{"key":"a","exists":true,"change_version":1}]}"#),
        ("transact", r#"{"writes":[{"op":"set","key":"a","data":1,"lock":{"name":"l","token":1}}]}"#),
        ("transact", r#"{"writes":{}}"#),
        ("lock-acquire", r#"{"ttl_ms":1000}"#),
        ("lock-renew", r#"{"name":"l"}"#),
        ("lock-release", r#"{"name":"l","token":"1"}"#),
        ("read-metadata", "{}"),
        ("key-list", r#"{"prefix":1}"#),
    ];
    for (method, params) in bad {
        let text = format!(r#"{{"id":1,"method":"{method}","params":{params}}}"#);
        assert_eq!(refusal(&text), ErrorCode::MalformedMessage, "{text}");
    }
    let half = r#"{"id":1,"method":"transact","params":{"writes":[{"op":"touch","key":"a"}]}}"#;
    let error = parse_request(half).message.expect_err("refused");
    assert_eq!(error.write(), Some(0), "the write at fault is named");
}

#[test]
fn requests_are_read_as_they_were_written() {
    for text in UNUSUAL.into_iter().chain(CONTROL) {
        let value = Value::from(text);
        for expected in [None, Some(0), Some(9_007_199_254_740_993), Some(u64::MAX)] {
            let frame = written(|out| write_set(out, 1, text, &value, expected));
            match request(&frame) {
                ClientMessage::Set { key, value: read, expected: e } => {
                    assert_eq!((&*key, &read, e), (text, &value, expected));
                    assert_eq!(read.as_text().expect("it is a string"), text);
                }
                other => panic!("{other:?}"),
            }
        }
        let frame = written(|out| write_get(out, 2, text));
        assert!(matches!(request(&frame), ClientMessage::Get { key } if key == text));
        let keys = [text, "other", text];
        let frame = written(|out| write_listen(out, 3, keys.into_iter(), std::iter::empty()));
        assert!(matches!(request(&frame), ClientMessage::Listen { keys: k, .. } if k.iter().map(|k| &*k.0).eq(keys)));
        for (name, metadata) in [(Some(text), Some(text)), (Some(text), None), (None, Some(text)), (None, None)] {
            let frame = written(|out| write_introduction(out, 4, "join", name, metadata));
            match request(&frame) {
                ClientMessage::Join { name: n, metadata: m } => {
                    assert_eq!((n.as_deref(), m.as_deref()), (name, metadata));
                }
                other => panic!("{other:?}"),
            }
            let frame = written(|out| write_introduction(out, 5, "peer-update", name, metadata));
            match request(&frame) {
                ClientMessage::PeerUpdate { name: n, metadata: m } => {
                    assert_eq!((n.as_deref(), m.as_deref()), (name, metadata));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(matches!(request(&written(|out| write_bare(out, 6, "leave"))), ClientMessage::Leave));
    assert!(matches!(request(&written(|out| write_bare(out, 7, "peer-list"))), ClientMessage::PeerList));
    let ping = written(|out| write_bare(out, 8, "ping"));
    assert!(matches!(request(&ping), ClientMessage::Ping { timestamp: None }));
    let frame = written(|out| write_bare(out, u64::MAX, "leave"));
    assert_eq!(parse_request(&frame).id.expect("an id").get(), "\"18446744073709551615\"");
}

#[test]
fn changes_are_read_alike_by_both_parsers() {
    let state = r#"{"key":"k","data":"v","change_version":7,"updated_by":"p","author":{"user_id":"u","name":"n"},"updated_at":9}"#;
    for (from, to) in [
        ("", ""),
        ("\"v\"", "\"\u{e9}\u{1f600}\""),
        ("\"v\"", "\"a\\n\""),
        ("\"v\"", "\"a\nb\""),
        ("\"v\"", "\"v"),
        ("\"v\"", "{ \"a\" : [1, 2.50] }"),
        ("\"v\"", "-1e5"),
        ("\"v\"", "1e999"),
        ("\"v\"", "null"),
        ("\"v\"", "truth"),
        ("\"v\"", "1,2"),
        ("\"v\"", ""),
        (":7,", ":07,"),
        (":7,", ":18446744073709551616,"),
        (":7,", ":-7,"),
        (":7,", ":7.0,"),
        ("\"k\"", "\"\""),
        ("\"k\"", "\"k\\u0041\""),
        (":9}", ":9,\"replaced\":3}"),
        (":9}", ":9,\"more\":3}"),
        (":9}", ":9}{}"),
        (":9}", ":9},"),
        ("\"updated_by\":\"p\",", ""),
    ] {
        let state = state.replacen(from, to, 1);
        for values in
            [state.clone(), format!("{state},{state}"), format!("{state} ,{state}"), format!("{state}],\"x\":[{state}")]
        {
            for end in ["", ",\"snapshot\":true", ",\"snapshot\":false", ",\"snapshot\":true ", ",\"snapshot\":1"] {
                agrees(&format!("{{\"method\":\"on-metadata-change\",\"params\":{{\"values\":[{values}]{end}}}}}"));
            }
        }
        for id in ["\"7\"", "7", "\"07\"", "07", "\"\"", "\"7", "7\"", "null", "-1", "\"18446744073709551616\"", "[7]"]
        {
            for end in ["}", "", "}}", ",\"more\":1}", ",\"error\":{\"code\":1}}", "} "] {
                agrees(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{state}{end}"));
            }
        }
    }
}

#[test]
fn an_answer_with_a_state_is_no_other_answer() {
    let frame = written(|out| write_state_result(out, &raw("\"9\""), &change("k", Value::from("v"), 7, None)));
    let body = || match server(&frame) {
        ServerMessage::Result { id: 9, body: body @ Body::State(_) } => body,
        other => panic!("{frame} was taken for {other:?}"),
    };
    let refusals = [
        parse_welcome(body()).err(),
        parse_peer_list(body()).err(),
        parse_states(body(), &mut Known::default()).err(),
        parse_keys(body()).err(),
        parse_usage(body()).err(),
        parse_lease(body()).err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal.expect("it is the state of a key"), ErrorCode::MalformedMessage);
    }
}

#[test]
fn changes_are_read_as_they_were_written() {
    for text in UNUSUAL {
        let states = [
            change(text, Value::from(text), 9_007_199_254_740_993, Some((text, text, text))),
            change("gone", Value::null(), u64::MAX, Some(("p", "", "\u{0}"))),
            Change::absent("never set".into()),
        ];
        for snapshot in [false, true] {
            let frame = written(|out| write_changes(out, states.iter().zip([0, 1, u64::MAX]), snapshot));
            match server(&frame) {
                ServerMessage::Changes { states: read, snapshot: s } => {
                    assert_eq!(s, snapshot);
                    let read: Vec<(&Change, u64)> =
                        read.iter().map(|(state, replaced)| (&**state, *replaced)).collect();
                    assert_eq!(read, states.iter().zip([0, 1, u64::MAX]).collect::<Vec<_>>());
                }
                other => panic!("{other:?}"),
            }
        }
        for state in &states {
            let frame = written(|out| write_state_result(out, &raw("\"9\""), state));
            match server(&frame) {
                ServerMessage::Result { id: 9, body } => {
                    assert_eq!(&parse_state(body, &mut Known::default()).expect("a state"), state)
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let empty = written(|out| write_changes(out, std::iter::empty(), true));
    assert!(matches!(server(&empty), ServerMessage::Changes { states, snapshot: true } if states.is_empty()));
}

#[test]
fn values_cross_as_the_text_they_are() {
    let values = [
        "9007199254740993",
        "-9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551616",
        "1.10",
        "1e2",
        "-0",
        "0.1000000000000000055511151231257827",
        "true",
        "1",
        "\"1\"",
        "\"\\u00e9\\/\"",
        "[[],{},\"\"]",
        "{\"a\":1,\"a\":2}",
    ];
    for json in values {
        let value = Value::parse(json).expect("a value");
        let frame = written(|out| write_set(out, 1, "k", &value, None));
        let ClientMessage::Set { value: at_server, .. } = request(&frame) else { panic!("{frame}") };
        assert_eq!(at_server.json(), json);
        let state = change("k", at_server, 1, None);
        let frame = written(|out| write_changes(out, [(&state, 0)].into_iter(), false));
        let ServerMessage::Changes { states, .. } = server(&frame) else { panic!("{frame}") };
        assert_eq!(states[0].0.value.json(), json);
    }
    let integer = |json| Value::parse(json).and_then(|value| value.as_integer());
    assert_eq!(integer("9007199254740993").ok(), Some(9_007_199_254_740_993));
    assert_eq!(integer("-9223372036854775808").ok(), Some(i64::MIN));
    assert_eq!(integer("true").unwrap_err(), ErrorCode::WrongType);
    assert_ne!(Value::from(true), Value::from(1));
}

#[test]
fn peers_and_answers_are_read_as_they_were_written() {
    for text in UNUSUAL {
        for metadata in UNUSUAL.into_iter().chain(CONTROL) {
            let who = Introduction {
                peer_id: text,
                user_id: text,
                name: Some(text),
                role: text,
                metadata: Some(metadata),
                secret: None,
            };
            let (room, handle) = room_with(who);
            let peer = room.peer(handle).expect("it has joined");
            let info = PeerInfo {
                peer_id: text.into(),
                user_id: text.into(),
                name: text.into(),
                role: text.into(),
                metadata: metadata.into(),
                joined_at: 7,
            };
            let frame = written(|out| write_peer_join(out, peer));
            assert!(matches!(server(&frame), ServerMessage::PeerJoined(read) if read == info));
            let frame = written(|out| write_peer_update(out, peer));
            assert!(matches!(server(&frame), ServerMessage::PeerUpdated(read) if read == info));
            let frame = written(|out| write_peer_list(out, &room, None));
            assert!(matches!(server(&frame), ServerMessage::PeerList(read) if read == [info.clone()]));
            let frame = written(|out| write_peer_list_result(out, &raw("3"), &room, None));
            match server(&frame) {
                ServerMessage::Result { id: 3, body } => assert_eq!(parse_peer_list(body).expect("a list"), [info]),
                other => panic!("{other:?}"),
            }
            for returned in [false, true] {
                let frame = written(|out| write_join_result(out, &raw("\"4\""), &room, peer, returned, 65_536));
                let ServerMessage::Result { id: 4, body } = server(&frame) else { panic!("{frame}") };
                let welcome = parse_welcome(body).expect("a welcome");
                assert_eq!((welcome.peer_id.as_str(), welcome.session_id.as_str()), (text, "session"));
                assert_eq!((welcome.revision, welcome.returned), (0, returned));
            }
        }
        for lost in [false, true] {
            let frame = written(|out| write_peer_leave(out, text, lost));
            assert!(matches!(server(&frame), ServerMessage::PeerLeft { peer_id } if &*peer_id == text));
        }
        let frame = written(|out| write_policy(out, text, ["b", text].into_iter()));
        assert!(matches!(server(&frame), ServerMessage::Other));
    }
    let frame = written(|out| write_empty_result(out, &raw("\"5\"")));
    assert!(matches!(server(&frame), ServerMessage::Result { id: 5, body: Body::Json(body) } if body.get() == "{}"));
}

#[test]
fn errors_are_read_as_they_were_written() {
    for &code in ErrorCode::ALL {
        let frame = written(|out| write_error(out, Some(&raw("\"17\"")), &Error::new(code, "a \"sentence\"\n")));
        match server(&frame) {
            ServerMessage::Refused { id: Some(17), error } => {
                assert_eq!(error, code);
                assert!(error.message().starts_with("a \"sentence\"\n"), "{error}");
                assert!(error.current().is_none());
            }
            other => panic!("{other:?}"),
        }
    }
    let current = Arc::new(change("k", Value::from(3), 12, Some(("p", "u", "n"))));
    let frame = written(|out| write_error(out, None, &Error::conflict(current.clone())));
    match server(&frame) {
        ServerMessage::Refused { id: None, error } => {
            assert_eq!((error.code(), error.current()), (ErrorCode::VersionConflict, Some(&current)));
        }
        other => panic!("{other:?}"),
    }
    // A code of a newer server is not lost: its number is in the message.
    for code in ["299", "-32601", "99999999999"] {
        let frame = format!("{{\"id\":\"1\",\"error\":{{\"code\":{code}}}}}");
        let ServerMessage::Refused { error, .. } = server(&frame) else { panic!("{frame}") };
        assert_eq!(error, ErrorCode::Unknown);
        assert!(error.message().contains(code), "{error}");
    }
}

#[test]
fn ids_are_echoed_to_the_byte() {
    let longest = format!("\"{}\"", "i".repeat(126));
    let ids = [
        "1",
        "-1",
        "0.50",
        "1e3",
        "9007199254740993",
        "\"\"",
        "\"7\"",
        "\"a\\u0041\\/\\\"\"",
        "\"🎉\"",
        longest.as_str(),
    ];
    for id in ids {
        let frame = format!("{{\"id\": {id} ,\"method\":\"leave\"}}");
        let request = parse_request(&frame);
        assert!(matches!(request.message, Ok(ClientMessage::Leave)), "{frame}");
        let echoed = request.id.expect("an id");
        assert_eq!(echoed.get(), id);
        let answer = written(|out| write_empty_result(out, echoed));
        assert_eq!(answer, format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}"));
        let answer = written(|out| write_error(out, Some(echoed), &ErrorCode::StoreFull.into()));
        assert!(
            answer.starts_with(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":204,")),
            "{answer}"
        );
    }
    for notification in [r#"{"method":"leave"}"#, r#"{"id":null,"method":"leave"}"#] {
        assert!(parse_request(notification).id.is_none());
    }
    for timestamp in ["1700000000000", "\"t\"", "{\"a\":[1]}"] {
        let frame = format!("{{\"id\":1,\"method\":\"ping\",\"params\":{{\"timestamp\":{timestamp}}}}}");
        let ClientMessage::Ping { timestamp: Some(echoed) } = request(&frame) else { panic!("{frame}") };
        let answer = written(|out| write_pong(out, &raw("1"), Some(echoed)));
        assert_eq!(answer, format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"timestamp\":{timestamp}}}}}"));
    }
}

// ------------------------------------------------------------------ what is not right

#[test]
fn what_is_no_request_is_malformed() {
    let nested = "[".repeat(1_000_000);
    let digits = format!("0.{}", "9".repeat(10_000));
    let frames = [
        String::new(),
        " ".into(),
        "{".into(),
        "}".into(),
        "hello".into(),
        "\"ping\"".into(),
        "null".into(),
        "1".into(),
        "[]".into(),
        r#"[{"id":1,"method":"ping"}]"#.into(),
        r#"["1","ping",{}]"#.into(),
        r#"{"id":1,"method":"ping"} trailing"#.into(),
        r#"{"id":1,"method":"ping"}{"id":2,"method":"ping"}"#.into(),
        r#"{"id":1,'method':'ping'}"#.into(),
        r#"{"id":1}"#.into(),
        r#"{"id":1,"method":null}"#.into(),
        r#"{"id":1,"method":5}"#.into(),
        r#"{"id":1,"method":["ping"]}"#.into(),
        r#"{"id":1,"method":"\ud800"}"#.into(),
        r#"{"id":1,"method":"ping","method":"leave"}"#.into(),
        r#"{"id":1,"id":2,"method":"ping"}"#.into(),
        r#"{"id":1,"method":"ping","params":{},"params":{}}"#.into(),
        "{\"id\":1,\"method\":\"pi\nng\"}".into(),
        "\u{feff}{\"id\":1,\"method\":\"ping\"}".into(),
        nested.clone(),
        format!("{{\"a\":{nested}"),
        format!("{{\"id\":{nested}"),
        "{\"a\":".repeat(100_000),
        format!("{{\"id\":{digits},\"method\":\"ping\"}}"),
        digits,
    ];
    for frame in &frames {
        assert_eq!(refusal(frame), ErrorCode::MalformedMessage, "{frame:.200}");
    }
}

#[test]
fn an_id_is_a_short_string_or_a_number() {
    let long_text = format!("\"{}\"", "i".repeat(127));
    let long_number = "1".repeat(129);
    for id in ["{}", "[]", "[1]", "{\"a\":1}", "true", "false", long_text.as_str(), long_number.as_str()] {
        let frame = format!("{{\"id\":{id},\"method\":\"leave\"}}");
        assert_eq!(refusal(&frame), ErrorCode::MalformedMessage, "{frame}");
        assert!(parse_request(&frame).id.is_none(), "what is no id is not echoed: {frame}");
    }
}

#[test]
fn wrong_params_are_malformed_and_keep_the_id() {
    let digits = format!("0.{}", "9".repeat(10_000));
    let params = [
        ("set-metadata", "{}".to_owned()),
        ("set-metadata", "null".into()),
        ("set-metadata", "[]".into()),
        ("set-metadata", r#"["k",1]"#.into()),
        ("set-metadata", r#""k""#.into()),
        ("set-metadata", "5".into()),
        ("set-metadata", r#"{"key":5,"data":1}"#.into()),
        ("set-metadata", r#"{"key":null,"data":1}"#.into()),
        ("set-metadata", r#"{"key":["k"],"data":1}"#.into()),
        ("set-metadata", r#"{"key":"\udfff","data":1}"#.into()),
        ("set-metadata", r#"{"key":"a","key":"b","data":1}"#.into()),
        ("set-metadata", r#"{"key":"a","data":1,"data":2}"#.into()),
        ("set-metadata", r#"{"key":"k","data":1,"if_change_version":true}"#.into()),
        ("set-metadata", r#"{"key":"k","data":1,"if_change_version":"1"}"#.into()),
        ("set-metadata", r#"{"key":"k","data":1,"if_change_version":-1}"#.into()),
        ("set-metadata", r#"{"key":"k","data":1,"if_change_version":1.0}"#.into()),
        ("set-metadata", r#"{"key":"k","data":1,"if_change_version":18446744073709551616}"#.into()),
        ("set-metadata", format!(r#"{{"key":"k","data":1,"if_change_version":{digits}}}"#)),
        ("get-metadata", r#"["k"]"#.into()),
        ("get-metadata", r#"{"key":{}}"#.into()),
        ("listen-metadata-change", "{}".into()),
        ("listen-metadata-change", r#"["a"]"#.into()),
        ("listen-metadata-change", r#"[["a"]]"#.into()),
        ("listen-metadata-change", r#"{"keys":"a"}"#.into()),
        ("listen-metadata-change", r#"{"keys":{"a":1}}"#.into()),
        ("listen-metadata-change", r#"{"keys":[1]}"#.into()),
        ("listen-metadata-change", r#"{"keys":["a",null]}"#.into()),
        ("listen-metadata-change", r#"{"keys":["\ud83d"]}"#.into()),
        ("join", r#"{"name":1}"#.into()),
        ("join", r#"{"data":{}}"#.into()),
        ("join", r#"["Ada"]"#.into()),
        ("peer-update", r#"{"name":true}"#.into()),
        ("peer-update", r#"["Ada","{}"]"#.into()),
        ("ping", "[1]".into()),
        ("ping", "1".into()),
    ];
    for (method, params) in &params {
        let frame = format!("{{\"id\":\"7\",\"method\":\"{method}\",\"params\":{params}}}");
        assert_eq!(refusal(&frame), ErrorCode::MalformedMessage, "{frame:.200}");
        assert_eq!(parse_request(&frame).id.map(RawValue::get), Some("\"7\""), "{frame:.200}");
    }
    for method in ["set-metadata", "get-metadata", "listen-metadata-change"] {
        assert_eq!(refusal(&format!("{{\"id\":1,\"method\":\"{method}\"}}")), ErrorCode::MalformedMessage);
    }
}

#[test]
fn unknown_methods_are_told_apart_and_unknown_fields_do_no_harm() {
    for method in ["", "Ping", "ping ", "set", "on-metadata-change", "\\u0000"] {
        let frame = format!("{{\"id\":1,\"method\":\"{method}\",\"params\":[]}}");
        assert_eq!(refusal(&frame), ErrorCode::UnknownMethod, "{frame}");
    }
    for method in ["analytics", "trickle", "answer", "offer"] {
        let frame = format!("{{\"method\":\"{method}\",\"params\":[{{\"x\":1}}]}}");
        assert!(matches!(request(&frame), ClientMessage::Ignored));
    }
    assert!(matches!(request(r#"{"method":"track-update","params":{"tracks":{}}}"#), ClientMessage::Tracks));
    let frame = r#"{"jsonrpc":2,"new":[{}],"id":1,"method":"get\u002dmetadata","params":{"key":"k","new":{"a":[]}}}"#;
    assert!(matches!(request(frame), ClientMessage::Get { key } if key == "k"));
    let removed = r#"{"method":"set-metadata","params":{"key":"k"}}"#;
    assert!(matches!(request(removed), ClientMessage::Set { value, expected: None, .. } if value.is_null()));
}

#[test]
fn values_that_others_could_not_read_are_no_values() {
    let set =
        |data: &str| format!("{{\"id\":1,\"method\":\"set-metadata\",\"params\":{{\"key\":\"k\",\"data\":{data}}}}}");
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for data in [
        r#""\ud800""#.to_owned(),
        r#"["\udc00\ud800"]"#.into(),
        r#"{"\ud83dx":1}"#.into(),
        nested(101),
        nested(100_000),
        "9".repeat(10_000),
        "[1e400]".into(),
    ] {
        assert_eq!(refusal(&set(&data)), ErrorCode::InvalidJson, "{data:.100}");
    }
    for data in ["01", "+1", ".5", "1.", "NaN", "'a'", "\"\u{1}\"", "\"\\x\"", "tru", ""] {
        assert_eq!(refusal(&set(data)), ErrorCode::MalformedMessage, "the frame as a whole is not JSON: {data:?}");
    }
    let digits = format!("0.{}", "9".repeat(10_000));
    for data in [nested(100), digits, r#""\ud83d\ude00""#.into()] {
        let frame = set(&data);
        assert!(matches!(request(&frame), ClientMessage::Set { value, .. } if value.json() == data), "{data:.100}");
    }
}

#[test]
fn no_value_is_quoted_in_an_error() {
    let frames = [
        r#"{"id":1,"method":"set-metadata","params":{"key":"secret","data":"secret","if_change_version":"secret"}}"#,
        r#"{"id":1,"method":"set-metadata","params":{"key":{"secret":1}}}"#,
        r#"{"id":1,"method":"join","params":{"name":["secret"]}}"#,
        r#"{"id":1,"method":"secret"}"#,
        r#"{"id":1,"method":"set-metadata","params":{"key":"k","data":"secret\ud800"}}"#,
        r#"{"secret"}"#,
    ];
    for frame in frames {
        let error = parse_request(frame).message.expect_err(frame);
        let answer = written(|out| write_error(out, None, &error));
        assert!(!answer.contains("secret"), "{answer}");
    }
}

#[test]
fn what_is_no_server_message_is_refused_or_passed_over() {
    let nested = "[".repeat(1_000_000);
    let frames = [
        "".to_owned(),
        "[]".into(),
        "null".into(),
        r#"[null,"peer-list"]"#.into(),
        nested,
        r#"{"method":1}"#.into(),
        r#"{"method":"on-metadata-change","params":[[]]}"#.into(),
        r#"{"method":"on-metadata-change","params":{}}"#.into(),
        r#"{"method":"on-metadata-change","params":{"values":{}}}"#.into(),
        r#"{"method":"on-metadata-change","params":{"values":[{}]}}"#.into(),
        r#"{"method":"on-metadata-change","params":{"values":[{"key":5}]}}"#.into(),
        r#"{"method":"on-metadata-change","params":{"values":[{"key":"k","change_version":-1}]}}"#.into(),
        r#"{"method":"on-metadata-change","params":{"values":[{"key":"k","change_version":true}]}}"#.into(),
        r#"{"method":"on-metadata-change","params":{"values":[{"key":"k","key":"l"}]}}"#.into(),
        r#"{"method":"on-metadata-change","params":{"values":[],"snapshot":1}}"#.into(),
        r#"{"method":"on-peer-join","params":{}}"#.into(),
        r#"{"method":"on-peer-leave","params":{"peer_id":null}}"#.into(),
        r#"{"method":"peer-list","params":{"peers":[]}}"#.into(),
        r#"{"id":"1","error":5}"#.into(),
        r#"{"id":"1","error":{}}"#.into(),
        r#"{"id":"1","error":{"code":"5"}}"#.into(),
    ];
    for frame in &frames {
        let error = parse_server_message(frame, &mut Known::default()).expect_err(frame);
        assert_eq!(error, ErrorCode::MalformedMessage, "{frame:.200}");
    }
    let bad_key = r#"{"method":"on-metadata-change","params":{"values":[{"key":""}]}}"#;
    assert_eq!(parse_server_message(bad_key, &mut Known::default()).expect_err(bad_key), ErrorCode::InvalidKey);
    let bad_value = r#"{"method":"on-metadata-change","params":{"values":[{"key":"k","data":"\ud800"}]}}"#;
    assert_eq!(parse_server_message(bad_value, &mut Known::default()).expect_err(bad_value), ErrorCode::InvalidJson);
    for frame in
        ["{}", r#"{"method":"new-thing","params":{"a":1}}"#, r#"{"method":"on-peer-join"}"#, r#"{"id":{},"result":{}}"#]
    {
        assert!(matches!(server(frame), ServerMessage::Other), "{frame}");
    }
}

// ------------------------------------------------------------------ whatever the bytes

/// Changes and answers with a state have a parser of their own, which must find what the one for all messages finds.
/// A space before the message keeps it away.
fn agrees(text: &str) {
    let (text, spaced) = (text.trim_start(), format!(" {}", text.trim_start()));
    let mut known = Known::default();
    // Once more with what is known from the first time.
    for _ in 0..2 {
        let pair = (parse_server_message(text, &mut known), parse_server_message(&spaced, &mut Known::default()));
        match pair {
            (
                Ok(ServerMessage::Changes { states: one, snapshot: a }),
                Ok(ServerMessage::Changes { states: other, snapshot: b }),
            ) => assert_eq!((one, a), (other, b), "{text}"),
            (
                Ok(ServerMessage::Result { id: a, body: one }),
                Ok(ServerMessage::Result { id: b, body: other @ Body::Json(_) }),
            ) => {
                let read = [one, other].map(|body| parse_state(body, &mut known).map_err(|error| error.code()));
                assert_eq!((a, &read[0]), (b, &read[1]), "{text}");
            }
            (Ok(one), Ok(other)) => assert_eq!(format!("{one:?}"), format!("{other:?}"), "{text}"),
            (Err(one), Err(other)) => assert_eq!(one.code(), other.code(), "{text}"),
            (one, other) => panic!("{one:?} is not {other:?}: {text}"),
        }
    }
}

/// So do sets, on the server's side.
fn requests_agree(text: &str) {
    let (text, spaced) = (text.trim_start(), format!(" {}", text.trim_start()));
    let (one, other) = (parse_request(text), parse_request(&spaced));
    assert_eq!(one.id.map(RawValue::get), other.id.map(RawValue::get), "{text}");
    match (one.message, other.message) {
        (Ok(one), Ok(other)) => assert_eq!(format!("{one:?}"), format!("{other:?}"), "{text}"),
        (Err(one), Err(other)) => assert_eq!(one.code(), other.code(), "{text}"),
        (one, other) => panic!("{one:?} is not {other:?}: {text}"),
    }
}

#[test]
fn sets_are_read_alike_by_both_parsers() {
    let set = |id: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"set-metadata","params":{{{params}}}}}"#)
    };
    let ids = [r#""1""#, r#""""#, "7", "null", r#""a\u0041""#, "[]", r#""1"x"#, &format!("\"{}\"", "9".repeat(200))];
    let params = [
        r#""key":"k","data":"v""#,
        r#""key":"k","data":null"#,
        r#""key":"k","data":{"a":[1,2.50,"x\n"]}"#,
        r#""key":"k","data": 1"#,
        r#""key":"k","data":1e400"#,
        r#""key":"k","data":"\u00e9""#,
        r#""key":"k","data":"é""#,
        r#""key":"k","data":"v","if_change_version":18446744073709551615"#,
        r#""key":"k","data":"v","if_change_version":18446744073709551616"#,
        r#""key":"k","data":"v","if_change_version":007"#,
        r#""key":"k","data":"v","if_change_version":-1"#,
        r#""key":"k","data":"v","key":"other""#,
        r#""key":"k\u0020","data":"v""#,
        r#""key":"k","data":"v","more":1"#,
        r#""key":"k","data":"#,
        r#""key":"k""#,
        r#""data":"v","key":"k""#,
        "\"key\":\"k\",\"data\":\"a\tb\"",
    ];
    for id in ids {
        for params in params {
            let text = set(id, params);
            requests_agree(&text);
            (0..text.len()).filter(|cut| text.is_char_boundary(*cut)).for_each(|cut| requests_agree(&text[..cut]));
            requests_agree(&format!("{text}}}"));
        }
    }
}

/// Parses a frame as both ends would, and uses what came out as they would.
fn survives(text: &str) {
    agrees(text);
    requests_agree(text);
    let request = parse_request(text);
    if let Some(id) = request.id {
        written(|out| write_empty_result(out, id));
    }
    if let Ok(ClientMessage::Set { value, .. }) = &request.message {
        assert_eq!(Value::parse(value.json()).expect("a value stays one").json(), value.json());
    }
    if let Err(error) = &request.message {
        written(|out| write_error(out, request.id, error));
    }
    match parse_server_message(text, &mut Known::default()) {
        Ok(ServerMessage::Changes { states, snapshot }) => {
            let frame = written(|out| write_changes(out, states.iter().map(|(state, n)| (&**state, *n)), snapshot));
            let ServerMessage::Changes { states: again, .. } = server(&frame) else { panic!("{frame}") };
            let keys_and_values = |states: &[(Arc<Change>, u64)]| -> Vec<_> {
                states.iter().map(|(state, replaced)| (state.key.clone(), state.value.clone(), *replaced)).collect()
            };
            assert_eq!(keys_and_values(&again), keys_and_values(&states));
        }
        Ok(ServerMessage::Result { body: Body::Json(body), .. }) => {
            let body = || Body::Json(body);
            let _ = (
                parse_state(body(), &mut Known::default()).is_ok(),
                parse_welcome(body()).is_ok(),
                parse_peer_list(body()).is_ok(),
            );
        }
        _ => {}
    }
}

/// Valid frames of both directions, to be damaged.
fn valid_frames() -> Vec<String> {
    let who = Introduction {
        peer_id: "p1",
        user_id: "u",
        name: Some("Ada"),
        role: "host",
        metadata: Some("{}"),
        secret: None,
    };
    let (room, handle) = room_with(who);
    let peer = room.peer(handle).expect("it has joined");
    let state = change("spotlight", Value::from("p\"1\u{1f389}"), 9_007_199_254_740_993, Some(("p1", "u", "Ada")));
    let id = raw("\"12\"");
    vec![
        written(|out| write_set(out, 1, "spotlight", &state.value, Some(3))),
        written(|out| write_get(out, 2, "spotlight")),
        written(|out| write_listen(out, 3, ["a", "b"].into_iter(), std::iter::empty())),
        written(|out| write_introduction(out, 4, "join", Some("Ada"), Some("{}"))),
        written(|out| write_bare(out, 5, "ping")),
        written(|out| write_changes(out, [(&state, 4)].into_iter(), true)),
        written(|out| write_state_result(out, &id, &state)),
        written(|out| write_join_result(out, &id, &room, peer, true, 65_536)),
        written(|out| write_error(out, Some(&id), &Error::conflict(Arc::new(change("k", Value::from(1), 2, None))))),
        written(|out| write_peer_list(out, &room, None)),
        written(|out| write_peer_join(out, peer)),
        written(|out| write_peer_leave(out, "p1", true)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text_is_survived(text in "\\PC{0,100}", json in "[ \\[\\]{}:,\"\\\\a0-9u.eE\\-]{0,60}") {
        survives(&text);
        survives(&json);
        survives(&format!("{{\"id\":1,\"method\":\"set-metadata\",\"params\":{{\"key\":\"k\",\"data\":{json}}}}}"));
        survives(&format!("{{\"method\":\"on-metadata-change\",\"params\":{{\"values\":[{{\"key\":\"k\",\"data\":{json}}}]}}}}"));
    }

    #[test]
    fn damaged_frames_are_survived(
        which in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 0..4u8, "[\\[\\]{}:,\"\\\\a0-9\u{0}-\u{1f}\u{e9}]"), 1..5),
    ) {
        let frames = valid_frames();
        let mut text: Vec<char> = which.get(&frames).chars().collect();
        for (place, kind, with) in damage {
            if text.is_empty() {
                break;
            }
            let place = place.index(text.len());
            match kind {
                0 => drop(text.remove(place)),
                1 => text.truncate(place),
                2 => text.splice(place..place, with.chars()).for_each(drop),
                _ => text.splice(place..=place, with.chars()).for_each(drop),
            }
        }
        survives(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_request_is_read_as_it_was_written(
        id: u64, key: String, text: String, expected: Option<u64>, name: Option<String>, metadata: Option<String>,
    ) {
        let value = Value::from(text.as_str());
        let frame = written(|out| write_set(out, id, &key, &value, expected));
        prop_assert_eq!(parse_request(&frame).id.map(|raw| raw.get().to_owned()), Some(format!("\"{id}\"")));
        match request(&frame) {
            ClientMessage::Set { key: k, value: v, expected: e } => prop_assert_eq!((&*k, &v, e), (&*key, &value, expected)),
            other => prop_assert!(false, "{:?}", other),
        }
        let frame = written(|out| write_introduction(out, id, "join", name.as_deref(), metadata.as_deref()));
        match request(&frame) {
            ClientMessage::Join { name: n, metadata: m } => {
                prop_assert_eq!((n.as_deref(), m.as_deref()), (name.as_deref(), metadata.as_deref()));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn integers_keep_every_digit(number: i64) {
        let frame = written(|out| write_set(out, 1, "k", &Value::from(number), None));
        match request(&frame) {
            ClientMessage::Set { value, .. } => prop_assert_eq!(value.as_integer().ok(), Some(number)),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn a_check_may_say_that_a_key_equals_null() {
    let Transaction { checks, .. } = parse_transaction(r#"{"checks":[{"key":"k","equals":null}]}"#).expect("a check");
    assert!(matches!(&checks[..], [Check::Equals { key, value }] if key == "k" && value.is_null()), "{checks:?}");
    let twice = parse_transaction(r#"{"checks":[{"key":"k","equals":null,"exists":false}]}"#);
    assert_eq!(twice.expect_err("one thing only"), ErrorCode::MalformedMessage);
}

#[test]
fn a_transaction_that_is_written_down_has_no_misspelt_fields() {
    let written = [
        r#"{"checks":[{"key":"a","change_version":0}],"writes":[{"op":"set","key":"b","data":1,"if_change_version":0}]}"#,
        r#"{"checks":[{"lock":{"name":"l","token":1}}]}"#,
    ];
    written.iter().for_each(|text| drop(parse_transaction(text).expect(text)));
    let misspelt = [
        (r#"{"writes":[{"op":"set","key":"b","data":1,"if_version":0}]}"#, "writes[0]"),
        (r#"{"checks":[{"key":"a","exists":true},{"key":"a","version":1}]}"#, "checks[1]"),
        (r#"{"write":[{"op":"set","key":"b","data":1}]}"#, "the transaction"),
    ];
    for (text, place) in misspelt {
        let error = parse_transaction(text).expect_err(text);
        assert!(error.message().contains(place), "{error}");
    }
}
