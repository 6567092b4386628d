//! `sstore` as people and scripts use it: the built program, against a real server.
#![cfg(all(feature = "cli", unix))]

mod process;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use jsonwebtoken::{encode, EncodingKey, Header};
use process::{run, sstore, Running, Serving, PATIENCE};
use serde_json::{json, Value};

const SECRET: &str = "correct-horse-battery";

fn token(secret: &str, expires: u64) -> String {
    let claims = json!({"room_id": "r", "user_id": "ana@example.org", "role": "host", "exp": expires});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

const FAR: u64 = 4_000_000_000;

/// A file of this test.
fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}"));
    std::fs::write(&path, text).expect("a file");
    path
}

fn text(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length - 2))
}

#[test]
fn values_go_in_and_out() {
    let server = Serving::start(&[]);
    let watching = server.watch(&["kept", "--name", "Wanda"]);
    watching.stdout.with("kept = null");

    assert_eq!(server.output(&["set", "a", r#"{"x": [1, 2]}"#]), "");
    assert_eq!(server.output(&["get", "a"]), "{\"x\":[1,2]}\n");
    assert_eq!(server.output(&["set", "a", "-5"]), "");
    assert_eq!(server.output(&["get", "a"]), "-5\n");
    server.output(&["set", "a", "--string", "say \"hi\""]);
    assert_eq!(server.output(&["get", "a"]), "\"say \\\"hi\\\"\"\n");
    assert_eq!(server.output(&["get", "a", "--string"]), "say \"hi\"\n");

    let state: Value = serde_json::from_str(&server.output(&["get", "a", "--json"])).expect("JSON");
    assert_eq!(state["key"], "a");
    assert_eq!(state["value"], "say \"hi\"");
    assert_eq!(state["version"], 3);
    assert_eq!(state["author"]["name"], "sstore");
    assert!(state["updated_at"].is_u64(), "{state}");
    let state: Value = serde_json::from_str(&server.output(&["set", "a", "1", "--json"])).expect("JSON");
    assert_eq!((&state["value"], &state["version"]), (&json!(1), &json!(4)));

    let state: Value = serde_json::from_str(&server.output(&["remove", "a", "--json"])).expect("JSON");
    assert_eq!(state["value"], Value::Null);
    let absent = server.run(&["get", "a"]);
    assert_eq!((absent.code(), &*absent.stdout), (5, ""));
    assert!(absent.stderr.starts_with("sstore: ") && absent.stderr.contains("absent"), "{absent:?}");
    assert_eq!(server.output(&["remove", "a"]), "");
}

#[test]
fn what_goes_into_a_pipe_is_the_value_itself() {
    let server = Serving::start(&[]);
    let watching = server.watch(&["hostile", "--json", "--name", "Wanda\u{202e}"]);
    watching.stdout.next();
    let json = "\"x\\u0000y\\u001b[31mz\u{7f}\u{9b}\u{202e}\"";
    let text: String = serde_json::from_str(json).expect("JSON");
    server.output(&["set", "hostile", json]);
    assert_eq!(server.output(&["get", "hostile", "--string"]), format!("{text}\n"));

    let printed = [
        server.output(&["get", "hostile", "--json"]),
        server.output(&["keys", "hostile", "--json"]),
        watching.stdout.next(),
    ];
    for line in &printed {
        let state: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(state["value"], text, "{line:?}");
    }
    let peers = server.output(&["peers", "--json"]);
    let parsed: Value = serde_json::from_str(&peers).expect("JSON");
    assert_eq!(parsed[0]["name"], "Wanda\u{202e}");
    for line in printed.iter().chain([&peers]) {
        let steers = |character: char| character == '\u{202e}' || character.is_control();
        assert!(!line.trim_end().contains(steers), "{line:?}");
    }

    server.output(&["set", "key\u{202e}", "1"]);
    assert_eq!(server.output(&["keys", "key"]), "key\u{202e}\n");
    // On a terminal the same is tame.
    let program = env!("CARGO_BIN_EXE_sstore");
    let mut terminal = std::process::Command::new("script");
    let commands = format!("{program} get hostile --string; {program} keys key");
    terminal.args(["--quiet", "--return", "--flush", "--command", &commands, "/dev/null"]);
    terminal.env("SHELL", "/bin/sh").env("SSTORE_URL", &server.url).env("SSTORE_ROOM", "r");
    let shown = run(terminal);
    let lines: Vec<&str> = shown.stdout.lines().map(str::trim_end).collect();
    assert_eq!(lines, ["x\\u0000y\\u001b[31mz\\u007f\\u009b\\u202e", "key\\u202e"], "{shown:?}");
}

#[test]
fn conditions_merges_and_transactions() {
    let server = Serving::start(&[]);
    let watching = server.watch(&["--all", "--name", "Wanda"]);
    // It prints nothing until there is a key; the room is open once it is listed.
    while !server.output(&["peers"]).contains("Wanda") {}

    assert_eq!(server.output(&["set", "a", "1", "--if-version", "0"]), "");
    let conflict = server.run(&["set", "a", "2", "--if-version", "0"]);
    assert_eq!(conflict.code(), 1);
    assert!(conflict.stderr.contains("VERSION_CONFLICT (205): the key has version 1"), "{conflict:?}");
    // With --json the next try needs no reading.
    let conflict = server.run(&["set", "a", "2", "--if-version", "0", "--json"]);
    let current: Value = serde_json::from_str(&conflict.stdout).expect("JSON");
    assert_eq!((conflict.code(), &current["value"], &current["version"]), (1, &json!(1), &json!(1)));
    assert_eq!(current["author"]["name"], "sstore");
    assert_eq!(server.run(&["remove", "a", "--if-version", "7"]).code(), 1);
    assert_eq!(server.run(&["merge", "a", "add", "5", "--lock", "job:1"]).code(), 1);
    assert_eq!(server.output(&["merge", "a", "add", "-3"]), "-2\n");
    assert_eq!(server.output(&["merge", "l", "append", "1", "2", "3", "--cap", "2"]), "[2,3]\n");
    assert_eq!(server.output(&["merge", "l", "set-add", "\"x\"", "3"]), "[2,3,\"x\"]\n");
    assert_eq!(server.output(&["merge", "l", "set-remove", "2"]), "[3,\"x\"]\n");
    assert_eq!(server.output(&["merge", "o", "patch", r#"{"a":{"b":1}}"#]), "{\"a\":{\"b\":1}}\n");
    let wrong = server.run(&["merge", "o", "add", "1"]);
    assert!(wrong.code() == 1 && wrong.stderr.contains("WRONG_TYPE"), "{wrong:?}");
    let wrong = server.run(&["merge", "a", "add", "\"1\""]);
    assert!(wrong.code() == 2 && wrong.stderr.contains("only a number"), "{wrong:?}");
    assert_eq!(server.run(&["merge", "o", "add", "1", "2"]).code(), 2);
    assert_eq!(server.run(&["merge", "o", "add", "1", "--cap", "2"]).code(), 2);

    let transaction = file(
        "transaction",
        r#"{"checks":[{"key":"a","equals":-2}],"writes":[
        {"op":"set","key":"a","data":"moved"},{"op":"add","key":"n","data":1}]}"#,
    );
    let path = transaction.to_str().expect("a path");
    let done: Vec<Value> =
        server.output(&["transact", path]).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&done[0]["value"], &done[1]["value"]), (&json!("moved"), &json!(1)));
    assert_eq!(done[0]["version"], done[1]["version"]);
    let failed = server.run(&["transact", path]);
    assert!(failed.code() == 1 && failed.stderr.contains("CHECK_FAILED"), "{failed:?}");
    assert!(failed.stderr.contains("(checks[0])"), "{failed:?}");
    let nonsense = file("nonsense", r#"{"writes":[{"op":"set"}]}"#);
    let refused = server.run(&["transact", nonsense.to_str().expect("a path")]);
    assert!(refused.code() == 2 && refused.stderr.contains("INVALID_ARGUMENT"), "{refused:?}");

    // Several keys are read at one revision, in the order in which they are named.
    assert_eq!(server.output(&["get", "n", "a"]), "1\n\"moved\"\n");
    let some = server.run(&["get", "a", "gone", "n", "--json"]);
    let states: Vec<Value> = some.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((some.code(), states.len()), (5, 3), "{some:?}");
    assert_eq!((&states[1]["key"], &states[1]["value"]), (&json!("gone"), &Value::Null));
    assert!(some.stderr.contains("the key gone is absent"), "{some:?}");
    assert_eq!(server.run(&["get", "gone", "n"]).stdout, "null\n1\n");

    assert_eq!(server.output(&["keys"]), "a\nl\nn\no\n");
    assert_eq!(server.output(&["keys", "n"]), "n\n");
    let usage: Value = serde_json::from_str(&server.output(&["usage", "--json"])).expect("JSON");
    assert_eq!((&usage["keys"], &usage["max_keys"]), (&json!(4), &json!(100)));
    assert!(server.output(&["usage"]).contains("keys      4 of 100"));

    // How long a key lives: a set forgets it, keeps it, or says it anew; a merge keeps it.
    let expires = |arguments: &[&str]| {
        let state: Value = serde_json::from_str(&server.output(arguments)).expect("JSON");
        state.get("expires_at").and_then(Value::as_u64)
    };
    let first = expires(&["set", "long", "1", "--ttl", "1h", "--json"]);
    assert!(first.is_some());
    assert_eq!(expires(&["set", "long", "2", "--ttl", "keep", "--json"]), first);
    assert_eq!(expires(&["merge", "long", "add", "1", "--json"]), first);
    assert_eq!(expires(&["merge", "long", "add", "1", "--ttl", "never", "--json"]), None);
    assert!(expires(&["touch", "long", "2h", "--json"]) > first);
    assert_eq!(expires(&["set", "long", "3", "--json"]), None);
    server.output(&["remove", "long"]);

    server.output(&["set", "brief", "1", "--ttl", "50ms"]);
    watching.stdout.with("brief = null  (expired)");
    let state: Value =
        serde_json::from_str(&server.output(&["set", "brief", "1", "--ttl", "1h", "--json"])).expect("JSON");
    assert_eq!(state["expires_at"].as_u64(), state["updated_at"].as_u64().map(|at| at + 3_600_000));
    let touched: Value = serde_json::from_str(&server.output(&["touch", "brief", "never", "--json"])).expect("JSON");
    assert!(touched.get("expires_at").is_none(), "{touched}");
    assert_eq!(server.run(&["touch", "gone", "1s"]).code(), 1);
    assert_eq!(server.run(&["touch", "long", "keep"]).code(), 2);
    assert_eq!(server.run(&["set", "a", "1", "--ttl", "soon"]).code(), 2);
}

#[test]
fn a_command_runs_while_a_lock_is_held() {
    let server = Serving::start(&[]);
    let watching = server.watch(&["$lock/job", "--json", "--name", "Wanda"]);
    watching.stdout.with("\"value\":null");
    // The token is handed on, and works for as long as the lock is held.
    let sets = format!(
        "{} set --url {} --room r result 1 --lock job:$SSTORE_LOCK_TOKEN",
        env!("CARGO_BIN_EXE_sstore"),
        server.url
    );
    let held = server.run(&["lock", "job", "--", "sh", "-c", &format!("{sets} && exit 7")]);
    assert_eq!(held.code(), 7, "{held:?}");
    watching.stdout.with("\"token\":1");
    watching.stdout.with("\"value\":null");
    assert_eq!(server.output(&["get", "result"]), "1\n");
    let late = server.run(&["set", "result", "2", "--lock", "job:1"]);
    assert!(late.code() == 1 && late.stderr.contains("LOCK_LOST"), "{late:?}");

    // Held elsewhere, it is refused, or waited for.
    let mut other = Running::start(server.sstore(&["lock", "job", "--", "sh", "-c", "read line"]));
    watching.stdout.with("\"holder\"");
    let refused = server.run(&["lock", "job", "--", "true"]);
    assert!(refused.code() == 1 && refused.stderr.contains("LOCK_HELD"), "{refused:?}");
    assert!(server.output(&["keys", "$lock/"]).contains("$lock/job"));
    let waits = Running::start(server.sstore(&["lock", "job", "--wait", "1m", "--", "echo", "my turn"]));
    other.tell("done");
    waits.stdout.with("my turn");
    assert_eq!(other.end().code(), 0);
    assert_eq!(server.run(&["lock", "job", "--", "/nonexistent/program"]).code(), 2);
    assert_eq!(server.run(&["lock", "job", "--ttl", "1ms", "--", "true"]).code(), 2);
}

#[test]
fn a_lonely_set_says_that_nothing_stays() {
    let server = Serving::start(&[]);
    let lonely = server.run(&["set", "a", "1"]);
    assert_eq!(lonely.code(), 0);
    assert!(lonely.stderr.contains("hint") && lonely.stderr.contains("watch"), "{lonely:?}");
    assert_eq!(server.run(&["get", "a"]).code(), 5);

    let watching = server.watch(&["a"]);
    watching.stdout.next();
    let together = server.run(&["set", "a", "1"]);
    assert_eq!((together.code(), &*together.stderr), (0, ""));
    assert_eq!(server.output(&["get", "a"]), "1\n");

    let lingering = Serving::start(&["--linger", "1h"]);
    lingering.run(&["set", "a", "1"]);
    assert_eq!(lingering.output(&["get", "a"]), "1\n");
}

#[test]
fn watch_prints_each_change_on_a_line_and_ends_on_sigint() {
    let server = Serving::start(&[]);
    let people = server.watch(&["a", "b"]);
    let mut command = server.sstore(&["watch", "a", "b", "--json", "--name", "Wanda"]);
    command.env("NO_COLOR", "1");
    let programs = Running::start(command);
    for key in ["a", "b"] {
        assert!(people.stdout.next().ends_with(&format!("-  {key} = null")));
        let line: Value = serde_json::from_str(&programs.stdout.next()).expect("JSON");
        assert_eq!((&line["key"], &line["value"], &line["snapshot"]), (&json!(key), &Value::Null, &json!(true)));
    }
    for number in 1..=3 {
        server.output(&["set", "a", &number.to_string(), "--name", "Ana"]);
        let line = people.stdout.next();
        assert!(line.ends_with(&format!("v{number}  Ana  a = {number}")), "{line}");
        assert!(!line.contains('\u{1b}'), "colours without a terminal: {line:?}");
        let line: Value = serde_json::from_str(&programs.stdout.next()).expect("JSON");
        assert_eq!((&line["value"], &line["version"]), (&json!(number), &json!(number)));
        assert_eq!((&line["author"]["name"], &line["snapshot"]), (&json!("Ana"), &json!(false)));
        assert_eq!(line["replaced"], 0);
    }
    people.signal("INT");
    let ended = people.end();
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
    // It has left, and not just gone silent.
    let peers: Value = serde_json::from_str(&server.output(&["peers", "--json"])).expect("JSON");
    let names: Vec<_> = peers.as_array().expect("an array").iter().map(|peer| peer["name"].clone()).collect();
    assert_eq!(names, ["Wanda"]);
    programs.signal("TERM");
    assert_eq!(programs.end().code(), 0);
}

#[test]
fn watch_ends_when_nobody_reads_it() {
    let server = Serving::start(&[]);
    let mut command = server.sstore(&["watch", "a"]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut watching = command.spawn().expect("started");
    let mut first = [0u8; 1];
    let mut stdout = watching.stdout.take().expect("stdout");
    stdout.read_exact(&mut first).expect("a line");
    // It ends at once, and not with the next change.
    drop(stdout);
    let (sender, ended) = std::sync::mpsc::channel();
    let id = watching.id();
    std::thread::spawn(move || sender.send(watching.wait()));
    match ended.recv_timeout(PATIENCE) {
        Ok(status) => assert_eq!(status.expect("a status").code(), Some(0)),
        Err(_) => {
            let _ = std::process::Command::new("kill").arg(id.to_string()).status();
            panic!("watch went on without a reader");
        }
    }
}

/// Where stderr cannot be written, nothing can be told; what is done, and its exit code, stay the same.
#[test]
#[cfg(target_os = "linux")]
fn a_stderr_that_cannot_be_written_changes_no_exit_code() {
    let server = Serving::start(&["--linger", "1h"]);
    let silenced = |arguments: &[&str]| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 2>/dev/full", env!("CARGO_BIN_EXE_sstore")]).args(arguments);
        command.env("SSTORE_URL", &server.url).env("SSTORE_ROOM", "r");
        command
    };
    for (arguments, code) in [
        (&["set", "a", "1"][..], 0),
        (&["get", ""], 2),
        (&["get"], 2),
        (&["set", "a", &text(1_025)], 1),
        (&["get", "gone"], 5),
        (&["get", "a", "--url", "ws://127.0.0.1:1"], 3),
        (&["rooms", "--api-token", ""], 4),
        (&["serve", "--port", "0", "--address", "nowhere at all"], 2),
    ] {
        assert_eq!(run(silenced(arguments)).code(), code, "{arguments:?}");
        // A pipe without a reader is refused in another way.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = server.sstore(arguments);
        let status = command.stderr(writer).stdout(std::process::Stdio::null()).status().expect("started");
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
    // Logs are lines on stderr too.
    let logging = Running::start(silenced(&["serve", "--port", "0", "--log-level", "trace"]));
    let url = logging.stdout.next();
    let watching = Running::start(silenced(&["watch", "a", "--url", &url]));
    watching.stdout.with("a = null");
    assert_eq!(run(silenced(&["set", "a", "1", "--url", &url])).code(), 0);
    watching.stdout.with("a = 1");
    logging.signal("TERM");
    assert_eq!(logging.end().code(), 0);
    let port = url.rsplit(':').next().expect("a port").to_owned();
    let _again = Serving::command(sstore(&["serve", "--port", &port]));
    watching.stdout.with("a = null");
    watching.signal("INT");
    assert_eq!(watching.end().code(), 0);
}

/// A file has no reader that could go.
#[test]
fn watch_writes_into_a_file() {
    let server = Serving::start(&[]);
    let path = file("watched", "");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$0\" watch a --name Wanda >\"$1\"", env!("CARGO_BIN_EXE_sstore")]).arg(&path);
    command.env("SSTORE_URL", &server.url).env("SSTORE_ROOM", "r");
    let watching = Running::start(command);
    while !server.output(&["peers"]).contains("Wanda") {}
    server.output(&["set", "a", "1"]);
    while !std::fs::read_to_string(&path).expect("the file").contains("a = 1") {
        // Asking the server takes some time; were the watch gone, this would fail.
        assert!(server.output(&["peers"]).contains("Wanda"));
    }
    watching.signal("INT");
    let ended = watching.end();
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
}

#[test]
fn watch_reconnects_and_says_so() {
    let server = Serving::start(&[]);
    let watching = server.watch(&["a"]);
    watching.stdout.next();
    server.output(&["set", "a", "1"]);
    watching.stdout.with("a = 1");
    let port = server.url.rsplit(':').next().expect("a port").to_owned();
    assert_eq!(server.stop().code(), 0);
    let line = watching.stderr.next();
    assert!(line.contains("reconnecting") && line.contains("SHUTTING_DOWN (109)"), "{line}");

    let server = Serving::command(sstore(&["serve", "--port", &port]));
    watching.stderr.with("connected again");
    // The old session is over, so the key is absent: a difference, and therefore told.
    watching.stdout.with("a = null");
    server.output(&["set", "a", "2"]);
    watching.stdout.with("a = 2");
    watching.signal("INT");
    assert_eq!(watching.end().code(), 0);
}

#[test]
fn peers_are_listed_without_oneself() {
    let server = Serving::start(&[]);
    assert_eq!(server.output(&["peers", "--json"]), "[]\n");
    let ana = server.watch(&["a", "--name", "Ana"]);
    ana.stdout.next();
    let ben = server.watch(&["a", "--name", "Ben"]);
    ben.stdout.next();
    let table = server.output(&["peers"]);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("JOINED"));
    assert!(lines[1].ends_with("Ana") && lines[2].ends_with("Ben"), "{table}");
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let server = Serving::start(&["--max-keys", "1"]);
    let watching = server.watch(&["a"]);
    watching.stdout.next();
    server.output(&["set", "a", "1"]);
    let long_key = "k".repeat(257);
    let cases: &[(&[&str], i32, &str)] = &[
        (&["set", "a", "{x"], 2, "sstore: INVALID_JSON (4): "),
        (&["set", "a", "plain"], 2, "--string"),
        (&["set", "a", &text(1_025)], 1, "sstore: VALUE_TOO_LARGE (202): "),
        (&["set", "b", "1"], 1, "sstore: TOO_MANY_KEYS (203): "),
        (&["get", ""], 2, "sstore: INVALID_KEY (5): "),
        (&["get", &long_key], 2, "sstore: INVALID_KEY (5): "),
        (&["watch", ""], 2, "sstore: INVALID_KEY (5): "),
        (&["get", "a", "--room", ""], 2, "sstore: INVALID_ROOM (6): "),
        (&["get", "a", "--url", "http://127.0.0.1"], 2, "sstore: INVALID_URL (8): "),
        (&["get", "a", "--url", "ws://no-such-host.invalid"], 3, "sstore: HOST_NOT_FOUND (105): "),
        (&["get", "a", "--url", "ws://127.0.0.1:1"], 3, "sstore: CONNECTION_FAILED (104): "),
        (&["watch", "a", "--url", "ws://127.0.0.1:1", "--timeout", "300ms"], 3, "(104): "),
        (&["get", "a", "--token-file", "/no/such/file"], 2, "sstore: INVALID_CONFIG (16): "),
        (&["get", "a", "--timeout", "soon"], 2, "--timeout"),
        (&["get", "a", "--timeout", "0s"], 2, "'--timeout <TIME>': it has to be above 0"),
        (&["watch", "a", "--timeout", "0s"], 2, "'--timeout <TIME>': it has to be above 0"),
        (&["get"], 2, "Usage"),
        (&["watch"], 2, "Usage"),
        (&["frobnicate"], 2, "frobnicate"),
    ];
    for (arguments, code, part) in cases {
        let ended = server.run(arguments);
        assert_eq!(ended.code(), *code, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(part), "{arguments:?}: {ended:?}");
        assert!(!part.starts_with("sstore: ") || ended.stderr.lines().count() == 1, "{ended:?}");
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
    assert_eq!(server.output(&["get", "a"]), "1\n", "refusals change nothing");

    let nowhere = run(sstore(&["get", "a"]));
    assert_eq!(nowhere.code(), 2);
    assert!(nowhere.stderr.contains("--room"), "{nowhere:?}");
}

#[test]
fn a_benchmark_of_no_url_is_a_wrong_argument() {
    for url in ["nowhere at all", "wss://127.0.0.1:7350", "127.0.0.1:7350"] {
        let ended = run(sstore(&["bench", "--quick", "--url", url]));
        assert_eq!(ended.code(), 2, "{ended:?}");
        assert!(ended.stderr.contains("sstore: the URL is not usable: it "), "{ended:?}");
    }
}

#[test]
fn something_else_at_the_address_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = [0u8; 1024];
        let _ = stream.read(&mut head);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("written");
    });
    let ended = run(sstore(&["get", "a", "--room", "r", "--url", &url]));
    assert_eq!(ended.code(), 3, "{ended:?}");
    assert!(ended.stderr.contains("HANDSHAKE_FAILED (106)"), "{ended:?}");
    other.join().expect("it answered");
}

#[test]
fn makes_tokens_that_its_server_takes() {
    let path = file("secret-to-sign", &format!("{SECRET}\n"));
    let path = path.to_str().expect("UTF-8");
    let server = Serving::start(&["--secret-file", path]);
    let make = |arguments: &[&str]| run(sstore(&[&["token", "--user", "zoë", "--room", "lobby?"], arguments].concat()));
    let made = make(&["--role", "host", "--lifetime", "1m", "--secret-file", path]);
    assert_eq!((made.code(), made.stdout.lines().count()), (0, 1), "{made:?}");
    let set = run(sstore(&["set", "a", "1", "--json", "--url", &server.url, "--token", made.stdout.trim()]));
    assert_eq!(set.code(), 0, "{set:?}");
    let state: Value = serde_json::from_str(&set.stdout).expect("JSON");
    assert_eq!(state["author"]["user_id"], "zoë");

    let mut by_environment = sstore(&["token", "--user", "u", "--room", "r"]);
    by_environment.env("SSTORE_SECRET", SECRET);
    assert_eq!(run(by_environment).code(), 0);
    let long = "r".repeat(129);
    for (arguments, reason) in [
        (&[][..], "SSTORE_SECRET"),
        (&["--secret-file", "/no/such/file"], "cannot be read"),
        (&["--secret-file", path, "--lifetime", "10ms"], "1s at least"),
        (&["--secret-file", path, "--role", &long], "INVALID_PEER"),
        (&["--secret-file", path, "--api"], "with --api it is --api-secret-file"),
        (&["--secret-file", path, "--api-secret-file", path], "--api-secret-file is for tokens with --api"),
    ] {
        let refused = make(arguments);
        assert_eq!(refused.code(), 2, "{arguments:?}: {refused:?}");
        assert!(refused.stderr.contains(reason) && refused.stdout.is_empty(), "{refused:?}");
    }
}

#[test]
fn tokens_open_the_room_they_name() {
    let path = file("secret", &format!("{SECRET}\n"));
    let path = path.to_str().expect("UTF-8");
    let by_file = Serving::start(&["--secret-file", path, "--log-level", "trace"]);
    let mut command = sstore(&["serve", "--port", "0"]);
    command.env("SSTORE_SECRET", SECRET);
    let by_environment = Serving::command(command);
    let good = token(SECRET, FAR);
    for server in [&by_file, &by_environment] {
        for (given, code) in [(None, 4), (Some(token("wrong", FAR)), 4), (Some(token(SECRET, 1)), 4)] {
            let mut command = server.sstore(&["set", "a", "1"]);
            given.map(|token| command.env("SSTORE_TOKEN", token));
            let ended = run(command);
            assert_eq!(ended.code(), code, "{ended:?}");
            assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        }
        let in_file = file("token", &format!("{good}\n"));
        let mut command = sstore(&["set", "a", "\"classified\"", "--url", &server.url, "--json", "--token-file"]);
        command.arg(in_file);
        let ended = run(command);
        assert_eq!(ended.code(), 0, "the token names the room: {ended:?}");
        let state: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        assert_eq!(state["author"]["user_id"], "ana@example.org");
        let other = server.run(&["get", "a", "--room", "other", "--token", &good]);
        assert_ne!(other.code(), 0, "the token is for another room");
    }
    let log = by_file.stop().stderr;
    assert!(log.contains("listening"), "{log}");
    for secret in [SECRET, &good, "classified"] {
        assert!(!log.contains(secret), "the log has a secret: {log}");
    }
    let ended = run(sstore(&["serve", "--secret", "x"]));
    assert_eq!(ended.code(), 2, "secrets are not for arguments");
}

#[test]
fn a_flag_with_a_token_counts_before_the_environment() {
    let mut command = sstore(&["serve", "--port", "0"]);
    command.env("SSTORE_SECRET", SECRET);
    let server = Serving::command(command);
    let (good, bad) = (token(SECRET, FAR), token("wrong", FAR));
    let [good_file, bad_file] = [("good", &good), ("bad", &bad)].map(|(name, token)| file(name, token));
    let [good_file, bad_file] = [&good_file, &bad_file].map(|path| path.to_str().expect("UTF-8"));
    let get = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = server.sstore(&["get", "a"]);
        command.args(arguments).envs(environment.iter().copied());
        run(command)
    };
    for (flag, variable) in [
        (["--token-file", good_file], ("SSTORE_TOKEN", &*bad)),
        (["--token", &good], ("SSTORE_TOKEN_FILE", bad_file)),
        (["--token", &good], ("SSTORE_TOKEN", &bad)),
        (["--token-file", good_file], ("SSTORE_TOKEN_FILE", bad_file)),
        // As it is left by `SSTORE_TOKEN=$(something that failed)`.
        (["--token-file", good_file], ("SSTORE_TOKEN", "")),
    ] {
        let ended = get(&flag, &[variable]);
        assert_eq!(ended.code(), 5, "{flag:?} {variable:?}: {ended:?}");
    }
    // Nothing tells which of two of the same kind is meant.
    let ended = get(&[], &[("SSTORE_TOKEN", &good), ("SSTORE_TOKEN_FILE", good_file)]);
    assert_eq!(ended.code(), 2, "{ended:?}");
    assert!(ended.stderr.contains("both SSTORE_TOKEN and SSTORE_TOKEN_FILE; keep one"), "{ended:?}");
    let ended = get(&["--token", &good, "--token-file", good_file], &[("SSTORE_TOKEN", &good)]);
    assert_eq!(ended.code(), 2, "{ended:?}");
    assert!(ended.stderr.contains("both --token and --token-file; keep one"), "{ended:?}");
    let mut nowhere = sstore(&["get", "a", "--url", &server.url]);
    nowhere.env("SSTORE_TOKEN", "");
    assert!(run(nowhere).stderr.contains("say which room"), "an empty token names none");
}

#[test]
fn flags_count_before_the_environment_before_the_file() {
    let path = file("precedence.toml", "port = 0\nmax_value_bytes = 100\nlinger = \"1h\"\nlog_format = \"json\"\n");
    let path = path.to_str().expect("UTF-8");
    let command = |environment: bool, flag: bool| {
        let mut command = sstore(&["serve"]);
        command.env("SSTORE_CONFIG", path);
        if environment {
            command.env("SSTORE_MAX_VALUE_BYTES", "200");
        }
        if flag {
            command.args(["--max-value-bytes", "300"]);
        }
        command
    };
    for (environment, flag, most) in [(false, false, 100), (true, false, 200), (false, true, 300), (true, true, 300)] {
        let server = Serving::command(command(environment, flag));
        server.output(&["set", "a", &text(most)]);
        assert_eq!(server.run(&["set", "a", &text(most + 1)]).code(), 1, "at most {most}");
        // What neither says is taken from the file.
        assert_eq!(server.output(&["get", "a"]).len(), most + 1);
        let log = server.stop().stderr;
        for line in log.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"].is_string()), "{line}");
        }
        assert!(log.contains("listening"), "{log}");
    }
    // A flag that says just what the default says counts too.
    let mut command = command(true, false);
    command.args(["--max-value-bytes", "1024"]);
    Serving::command(command).output(&["set", "a", &text(1_024)]);
}

#[test]
fn wrong_configuration_is_told_with_its_place() {
    for (text, parts) in [
        ("port = 0\nprot = 1\n", &["line 2", "prot", "`port`"][..]),
        ("port = 70000\n", &["line 1", "70000"]),
        ("\n\ngrace = \"soon\"\n", &["line 3", "30s"]),
        ("grace = 30\n", &["line 1", "string"]),
        ("port = \n", &["line 1"]),
        ("log_level = \"loud\"\n", &["line 1", "loud"]),
        ("secret = \"x\"\n", &["line 1", "secret"]),
        ("max_value_bytes = 0\n", &["max_value_bytes"]),
        ("address = \"nowhere at all\"\n", &["address"]),
        ("webhook_url = \"https://example.org\"\n", &["webhook_secret_file", "SSTORE_WEBHOOK_SECRET"]),
        ("webhook_ca = \"/dev/null\"\n", &["webhook_url"]),
    ] {
        let path = file("wrong.toml", text);
        let ended = run(sstore(&["serve", "--config", path.to_str().expect("UTF-8")]));
        assert_eq!(ended.code(), 2, "{text}: {ended:?}");
        let line = ended.stderr.lines().find(|line| line.starts_with("sstore: INVALID_CONFIG (16): "));
        let line = line.unwrap_or_else(|| panic!("{text}: {ended:?}"));
        assert!(parts.iter().all(|part| line.contains(part)), "{text}: {line}");
        assert_eq!(ended.stdout, "");
    }
    let ended = run(sstore(&["serve", "--config", "/no/such/file.toml"]));
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr.contains("/no/such/file.toml"), "{ended:?}");
    let mut both = sstore(&["serve"]);
    both.env("SSTORE_SECRET", "x").env("SSTORE_SECRET_FILE", "/y");
    let both = run(both);
    assert_eq!(both.code(), 2, "{both:?}");
    for arguments in [&["--port", "x"], &["--grace", "30"], &["--log-level", "loud"], &["--log-format", "xml"]] {
        let mut command = sstore(&["serve"]);
        command.args(arguments);
        let ended = run(command);
        assert_eq!(ended.code(), 2, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(arguments[0]), "{ended:?}");
    }
    let mut empty = sstore(&["serve", "--port", "0"]);
    empty.env("SSTORE_SECRET", "");
    assert_eq!(run(empty).code(), 2, "an empty secret does not open the server");
}

#[test]
fn rules_are_read_again_on_sighup_and_a_mistake_leaves_the_old_ones() {
    let rule = |right: &str| format!("[[rule]]\nroles = [\"guest\"]\nkeys = [\"a\"]\nallow = [\"read\", {right}]\n");
    let path = file("rules", &rule("\"create\""));
    let server = Serving::start(&["--rules", path.to_str().expect("a path"), "--linger", "1h"]);
    server.run(&["set", "a", "1"]);
    let refused = server.run(&["set", "a", "2"]);
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("FORBIDDEN (211): no rule allows the role \"guest\" to write"), "{refused:?}");
    std::fs::write(&path, rule("\"write\"")).expect("written");
    server.process.signal("HUP");
    server.process.stderr.with("the rules were read again");
    server.output(&["set", "a", "2", "--if-version", "1"]);
    std::fs::write(&path, rule("\"wrote\"")).expect("written");
    server.process.signal("HUP");
    let told = server.process.stderr.with("the old rules stay in force");
    assert!(
        told.contains("line 4: \\\"wrote\\\" is no right") || told.contains("line 4: \"wrote\" is no right"),
        "{told}"
    );
    server.output(&["set", "a", "3", "--if-version", "2"]);
    let wrong = run(sstore(&["serve", "--port", "0", "--rules", path.to_str().expect("a path")]));
    assert!(
        wrong.code() == 2 && wrong.stderr.contains("INVALID_CONFIG") && wrong.stderr.contains("line 4"),
        "{wrong:?}"
    );
}

#[test]
fn rights_that_a_sighup_takes_away_end_what_they_allowed_and_no_connection() {
    let rules = |rights: &str| format!("[[rule]]\nroles = [\"guest\"]\nkeys = [\"*\"]\nallow = [{rights}]\n");
    let path = file("taken-rights", &rules("\"read\", \"write\", \"create\", \"lock\""));
    let server = Serving::start(&["--rules", path.to_str().expect("a path")]);
    let watching = server.watch(&["a"]);
    watching.stdout.with("a = null");
    server.output(&["set", "a", "1"]);
    watching.stdout.with("a = 1");
    let script = "trap 'echo told; exit 0' TERM; echo begun; while :; do sleep 0.05; done";
    let holding = Running::start(server.sstore(&["lock", "job", "--ttl", "3s", "--", "sh", "-c", script]));
    holding.stdout.with("begun");
    std::fs::write(&path, rules("\"read\", \"write\"")).expect("written");
    server.process.signal("HUP");
    // The command is told, and so is who started it.
    holding.stdout.with("told");
    let ended = holding.end();
    assert!(ended.code() == 1 && ended.stderr.contains("FORBIDDEN"), "{ended:?}");
    server.output(&["set", "a", "2"]);
    watching.stdout.with("a = 2");
    assert_eq!(watching.stderr.so_far(), "", "who watches stays connected");
    std::fs::write(&path, rules("\"write\"")).expect("written");
    server.process.signal("HUP");
    let ended = watching.end();
    assert!(ended.code() == 1 && ended.stderr.contains("FORBIDDEN"), "{ended:?}");
}

#[test]
fn a_port_in_use_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let ended = run(sstore(&["serve", "--port", &port]));
    assert_eq!(ended.code(), 3);
    assert!(ended.stderr.contains("sstore: ADDRESS_IN_USE (110): "), "{ended:?}");
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_lack_of_descriptors_is_told_but_does_not_fill_the_log() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 32; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_sstore")]).env_clear();
    command.args(["serve", "--port", "0", "--threads", "1", "--log-level", "debug"]);
    let server = Serving::command(command);
    let address = server.url.trim_start_matches("ws://");
    let waiting: Vec<TcpStream> = (0..32).map(|_| TcpStream::connect(address).expect("connected")).collect();
    // It tries again every 100 ms.
    for _ in 0..10 {
        server.process.stderr.with("no connection can be accepted yet");
    }
    let told = server.process.stderr.so_far().matches("WARN sessionstore::server::acceptor").count();
    assert!((1..5).contains(&told), "once in a while, and not {told} times");
    drop(waiting);
    server.output(&["keys"]);
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let server = Serving::start(&["--shutdown-timeout", "20s"]);
    // Somebody who never answers the close frame keeps the server stopping.
    let mut stream = TcpStream::connect(server.url.trim_start_matches("ws://")).expect("connected");
    let head = "GET /ws?room=r HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("written");
    let mut answer = [0u8; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 101");
    server.process.signal("INT");
    server.process.stderr.with("stopping");
    server.process.signal("TERM");
    assert_eq!(server.process.end().code(), 143);
}

#[test]
fn help_has_units_defaults_and_exit_codes() {
    let help = run(sstore(&["--help"])).stdout;
    assert!(help.contains("Exit codes:") && help.contains("70"), "{help}");
    let help = run(sstore(&["serve", "--help"])).stdout;
    for part in ["Who may join:", "[default: 7350]", "[default: 30s]", "SSTORE_SECRET", "bytes of compact JSON"] {
        assert!(help.contains(part), "{part} is not in {help}");
    }
    let help = run(sstore(&["set", "--help"])).stdout;
    assert!(help.contains("SSTORE_TOKEN") && help.contains("--linger"), "{help}");
}

/// A server has a ring, or its log says why not; whichever it is on this system.
#[test]
#[cfg(target_os = "linux")]
fn many_writes_go_by_one_call_unless_it_is_told_or_forbidden() {
    for told_not_to in [false, true] {
        let mut arguments = vec!["--threads", "1", "--log-level", "sessionstore::server=debug"];
        arguments.extend(told_not_to.then_some("--no-io-uring"));
        let server = Serving::start(&arguments);
        // Its loop runs when it has answered.
        server.output(&["set", "a", "1"]);
        let files = std::fs::read_dir(format!("/proc/{}/fd", server.process.id())).expect("the server's files");
        let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        let rings = links.filter(|link| link.to_string_lossy().contains("io_uring")).count();
        assert!(rings == 0 || rings == 1 && !told_not_to, "{rings} rings");
        if rings == 0 && !told_not_to {
            server.process.stderr.with("io_uring cannot be used here");
        }
    }
}
