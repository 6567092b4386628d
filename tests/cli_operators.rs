//! The subcommands of operators: the built program, against a real server with an HTTP API.
#![cfg(all(feature = "cli", feature = "http", unix))]

mod certificates;
mod process;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use certificates::Authority;
use jsonwebtoken::{encode, EncodingKey, Header};
use process::{run, sstore, Ended, Running, Serving, PATIENCE};
use serde_json::{json, Value};

const SECRET: &str = "an API secret for tests";

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A file of this test.
fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-operators-{name}"));
    std::fs::write(&path, text).expect("a file");
    path
}

/// A server with an API, and an operator who may do everything.
struct Operated {
    server: Serving,
    url: String,
    token: String,
}

fn operated(arguments: &[&str]) -> Operated {
    let mut command = sstore(&["serve", "--port", "0"]);
    command.args(arguments).env("SSTORE_API_SECRET", SECRET);
    let server = Serving::command(command);
    let url = server.url.replacen("ws", "http", 1);
    Operated { server, url, token: token(&["--scope", "read,write,manage"]) }
}

/// A token as `sstore token --api` makes it.
fn token(arguments: &[&str]) -> String {
    let mut command = sstore(&["token", "--api"]);
    command.args(arguments).env("SSTORE_API_SECRET", SECRET);
    let ended = run(command);
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended.stdout.trim().to_owned()
}

impl Operated {
    fn sstore(&self, arguments: &[&str]) -> Command {
        let mut command = sstore(arguments);
        command.env("SSTORE_API_URL", &self.url).env("SSTORE_API_TOKEN", &self.token);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        run(self.sstore(arguments))
    }

    fn output(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert!(ended.code() == 0 && ended.stderr.is_empty(), "{arguments:?}: {ended:?}");
        ended.stdout
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.output(arguments)).expect("JSON")
    }

    /// Somebody in a room, who is there once a line of it is printed.
    fn peer(&self, room: &str, name: &str) -> Running {
        let peer = Running::start(self.peer_command(&["watch", "k", "--room", room, "--name", name]));
        peer.stdout.with("k = ");
        peer
    }

    fn peer_command(&self, arguments: &[&str]) -> Command {
        let mut command = sstore(arguments);
        command.env("SSTORE_URL", &self.server.url);
        command
    }

    /// Does something as a peer.
    fn as_peer(&self, arguments: &[&str]) {
        let ended = run(self.peer_command(arguments));
        assert_eq!(ended.code(), 0, "{ended:?}");
    }

    /// The ids of a room's peers.
    fn peer_ids(&self, room: &str) -> Vec<String> {
        let room = self.json(&["room", room, "--json"]);
        let peers = room["peers_list"].as_array().expect("peers");
        peers.iter().map(|peer| peer["peer_id"].as_str().expect("an id").to_owned()).collect()
    }
}

/// Asserts that a command ended with this code and one line that has this in it, and printed nothing.
fn told(ended: &Ended, code: i32, part: &str) {
    assert!(ended.code() == code && ended.stderr.contains(part), "{ended:?}, not {code} and {part:?}");
    assert!(ended.stderr.starts_with("sstore: ") && ended.stderr.lines().count() == 1, "{ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");
}

#[test]
fn rooms_are_listed_and_shown() {
    let server = operated(&[]);
    assert_eq!(server.output(&["rooms"]), "STARTED  PEERS  CONNECTIONS  KEYS  BYTES  REVISION  ROOM\n");
    assert_eq!(server.output(&["rooms", "--json"]), "");
    let _ana = server.peer("a/b c", "Ana");
    let _ben = server.peer("b", "Ben");
    server.as_peer(&["set", "k", "{\"x\":1}", "--room", "a/b c"]);

    let table = server.output(&["rooms"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].ends_with("  a/b c") && lines[2].ends_with("  b"), "{table}");
    let listed = server.output(&["rooms", "--json", "--prefix", "a/"]);
    let room: Value = serde_json::from_str(&listed).expect("one line");
    assert_eq!((&room["room"], &room["keys"], &room["revision"]), (&json!("a/b c"), &json!(1), &json!(1)));

    let shown = server.output(&["room", "a/b c"]);
    for part in ["room         a/b c\n", "keys         1 of 100\n", "bytes        8 of 65536\n", "peers        1 of "] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    assert!(shown.lines().last().is_some_and(|line| line.ends_with("  Ana") && line.contains("  yes  ")), "{shown}");
    let shown = server.json(&["room", "a/b c", "--json"]);
    assert_eq!((&shown["peers_list"][0]["name"], &shown["limits"]["max_keys"]), (&json!("Ana"), &json!(100)));
}

#[test]
fn more_rooms_than_a_page_has_are_all_listed() {
    let server = operated(&["--log-level", "error"]);
    let agent = ureq::Agent::new_with_defaults();
    for number in 0..1_001 {
        let request = agent.post(format!("{}/v1/rooms/r{number}", server.url));
        let request = request.header("Authorization", format!("Bearer {}", server.token));
        request.send_json(json!({"values": {}})).expect("prepared");
    }
    let listed = server.output(&["rooms", "--json"]);
    let names: std::collections::BTreeSet<&str> = listed.lines().collect();
    assert_eq!((listed.lines().count(), names.len()), (1_001, 1_001));
}

#[test]
fn a_room_is_prepared_for_whoever_comes_first() {
    let server = operated(&[]);
    assert_eq!(server.output(&["prepare", "lobby", "topic=\"Wel=come\"", "votes=0", "--keep", "1h"]), "");
    let ana = Running::start(server.peer_command(&["watch", "topic", "votes", "--room", "lobby"]));
    ana.stdout.with("topic = \"Wel=come\"");
    ana.stdout.with("votes = 0");
    told(&server.run(&["prepare", "lobby"]), 1, "sstore: ROOM_OPEN (225): ");

    let values = file("values.json", r#"{"a=b": [1, 2.50], "n": null}"#);
    let prepared = server.json(&["prepare", "second", "--values", text(&values), "--json"]);
    assert_eq!((&prepared["room"], &prepared["keys"]), (&json!("second"), &json!(1)));
    let mut by_stdin = Running::start(server.sstore(&["prepare", "third", "--values", "-"]));
    by_stdin.tell("{\"a\":1}");
    assert_eq!(by_stdin.end().code(), 0);
    assert_eq!(server.json(&["room", "third", "--json"])["keys"], 1);

    for (arguments, code, part) in [
        (&["prepare", "x", "--values", "/no/such/file"][..], 2, "/no/such/file"),
        (&["prepare", "x", "--values", text(&file("no.json", "[1]"))], 2, "INVALID_JSON (4): "),
        (&["prepare", "x", "=1"], 2, "INVALID_KEY (5): "),
        (&["prepare", "x", "--keep", "2days"], 2, "sstore: "),
        (&["prepare", "x", "a=1", "b=1", "a=2"], 2, "sstore: a key is given twice"),
    ] {
        told(&server.run(arguments), code, part);
    }
    for (argument, part) in [("a", "votes=0"), ("a=plain", "text needs quotes")] {
        let ended = server.run(&["prepare", "x", argument]);
        assert!(ended.code() == 2 && ended.stderr.contains(part), "{ended:?}");
    }
    let big = format!("a={}", json!("x".repeat(2_000)));
    told(&server.run(&["prepare", "x", &big]), 1, "sstore: VALUE_TOO_LARGE (202): ");
    told(&server.run(&["room", "x"]), 1, "sstore: NOT_FOUND (226): ");
}

#[test]
fn a_peer_is_removed_and_a_room_closed_with_a_reason() {
    let server = operated(&[]);
    let (ana, ben) = (server.peer("r", "Ana"), server.peer("r", "Ben"));
    let first = server.peer_ids("r")[0].clone();
    assert_eq!(server.output(&["kick", "r", &first, "--reason", "too loud & more"]), "");
    let ended = ana.end();
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.stderr.contains("KICKED (223)"), "{ended:?}");
    told(&server.run(&["kick", "r", &first]), 1, "sstore: NOT_FOUND (226): ");

    assert_eq!(server.output(&["close", "r"]), "");
    let ended = ben.end();
    assert!(ended.code() == 1 && ended.stderr.contains("ROOM_CLOSED (224)"), "{ended:?}");
    told(&server.run(&["close", "r"]), 1, "sstore: NOT_FOUND (226): ");
    let long = "x".repeat(200);
    let _cleo = server.peer("r", "Cleo");
    told(&server.run(&["close", "r", "--reason", &long]), 2, "sstore: INVALID_ARGUMENT (2): ");
    told(&server.run(&["close", "r", "--reason", "\u{1b}[2J"]), 2, "sstore: INVALID_ARGUMENT (2): ");
    assert_eq!(server.peer_ids("r").len(), 1, "refusals change nothing");
}

#[test]
fn a_lock_is_taken_from_its_holder() {
    let server = operated(&[]);
    let watching = Running::start(server.peer_command(&["watch", "$lock/job", "--room", "r"]));
    watching.stdout.with("$lock/job = null");
    let holder = server.peer_command(&["lock", "job", "--room", "r", "--name", "Ana", "--", "sh", "-c", "read line"]);
    let holder = Running::start(holder);
    watching.stdout.with("Ana  $lock/job = ");
    let shown = server.output(&["room", "r"]);
    assert!(shown.lines().last().is_some_and(|line| line.ends_with("  Ana   job")), "{shown}");
    assert_eq!(server.output(&["unlock", "r", "job"]), "");
    watching.stdout.with("$lock/job = null");
    holder.stderr.with("LOCK_LOST (214)");
    assert_eq!(holder.end().code(), 1);
    told(&server.run(&["unlock", "r", "job"]), 1, "sstore: NOT_FOUND (226): ");
}

/// Each subcommand of operators, with arguments that it takes.
const ALL: [&[&str]; 7] = [
    &["rooms"],
    &["room", "r"],
    &["prepare", "r"],
    &["kick", "r", "p"],
    &["close", "r"],
    &["unlock", "r", "l"],
    &["top"],
];

#[test]
fn without_a_good_token_nothing_is_done() {
    let server = operated(&[]);
    let with = |arguments: &[&str], token: &str| {
        let mut command = server.sstore(arguments);
        command.env("SSTORE_API_TOKEN", token);
        run(command)
    };
    let signed = |claims: Value| {
        encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
    };
    let expired = signed(json!({"scope": "read write manage", "exp": 1}));
    for arguments in ALL {
        let mut command = sstore(arguments);
        command.env("SSTORE_API_URL", &server.url);
        told(&run(command), 4, "sstore: UNAUTHORIZED (200): there is no token; make one with `sstore token --api`");
        told(&with(arguments, "x.y.z"), 4, "sstore: UNAUTHORIZED (200): ");
        told(&with(arguments, "a\u{7}b"), 4, "sstore: UNAUTHORIZED (200): ");
        told(&with(arguments, &expired), 4, "sstore: TOKEN_EXPIRED (201): ");
    }
    let lasting = signed(json!({"scope": "read", "exp": 4_000_000_000.25}));
    assert_eq!(with(&["rooms"], &lasting).code(), 0, "a time may have a fraction");
    let mistyped = signed(json!({"scope": ["read"], "exp": 4_000_000_000_u64}));
    told(&with(&["rooms"], &mistyped), 4, "lacks one of the claims scope, exp, or one has the wrong type");
    let metrics = token(&["--scope", "metrics"]);
    let reads = token(&["--scope", "read"]);
    for (arguments, scope) in ALL.iter().zip(["read", "read", "write", "manage", "manage", "manage", "read"]) {
        let ended = with(arguments, if scope == "read" { &metrics } else { &reads });
        told(&ended, 1, "sstore: FORBIDDEN (211): ");
        assert!(ended.stderr.contains(scope), "{ended:?}");
    }
    let only_r = token(&["--scope", "read", "--room", "r"]);
    told(&with(&["room", "other"], &only_r), 1, "sstore: FORBIDDEN (211): ");
    assert_eq!(server.output(&["rooms", "--json"]), "", "nothing was done");

    // From a file, which counts before the environment.
    let in_file = file("token", &format!("{reads}\n"));
    let mut command = sstore(&["rooms", "--url", &server.url, "--api-token-file", text(&in_file)]);
    command.env("SSTORE_API_TOKEN_FILE", "/no/such/file");
    assert_eq!(run(command).code(), 0);
    let mut command = sstore(&["rooms", "--url", &server.url, "--api-token-file", text(&in_file)]);
    command.env("SSTORE_API_TOKEN", &metrics);
    assert_eq!(run(command).code(), 0);
    let mut both = server.sstore(&["rooms"]);
    both.env("SSTORE_API_TOKEN_FILE", &in_file);
    let both = run(both);
    assert!(both.stderr.contains("both SSTORE_API_TOKEN and SSTORE_API_TOKEN_FILE; keep one"), "{both:?}");
    assert_eq!(both.code(), 2, "{both:?}");
    let missing = sstore(&["rooms", "--api-token-file", "/no/such/file"]);
    told(&run(missing), 2, "INVALID_CONFIG (16): the token cannot be read from /no/such/file");
    let log = server.server.stop().stderr;
    for secret in [SECRET, &server.token, &reads] {
        assert!(!log.contains(secret), "the log has a secret: {log}");
    }
}

#[test]
fn a_token_that_is_for_one_room_only_because_of_the_environment_says_so() {
    let make = |arguments: &[&str]| {
        let mut command = sstore(&["token", "--api"]);
        command.args(arguments).env("SSTORE_API_SECRET", SECRET).env("SSTORE_ROOM", "lobby");
        run(command)
    };
    let made = make(&[]);
    assert_eq!((made.code(), made.stdout.lines().count()), (0, 1), "{made:?}");
    assert!(made.stderr.starts_with("sstore: hint: this token is for the room lobby only"), "{made:?}");
    let server = operated(&[]);
    let mut room = server.sstore(&["room", "other"]);
    room.env("SSTORE_API_TOKEN", made.stdout.trim());
    told(&run(room), 1, "sstore: FORBIDDEN (211): ");
    assert_eq!(make(&["--room", "lobby"]).stderr, "", "who said it knows");
}

#[test]
fn urls_and_servers_that_are_wrong_are_said() {
    for arguments in ALL {
        let at = |url: &str| {
            let mut command = sstore(arguments);
            command.env("SSTORE_API_TOKEN", "x").args(["--url", url]);
            run(command)
        };
        told(&at("http://127.0.0.1:1"), 3, "sstore: CONNECTION_FAILED (104): the server cannot be reached");
        told(&at("ws://127.0.0.1:1"), 2, "sstore: INVALID_URL (8): the URL does not begin with http:// or https://");
        told(&at("http://127.0.0.1:1/?room=x"), 2, "sstore: INVALID_URL (8): ");
        told(&at("http://ana:pass@127.0.0.1:1"), 2, "sstore: INVALID_URL (8): ");
    }
    let ended = run(sstore(&["rooms", "--api-token", "x", "--url", "http://no-such-host.invalid"]));
    told(&ended, 3, "sstore: CONNECTION_FAILED (104): ");
    let ended = run(sstore(&["rooms", "--api-token", "x", "--ca-file", "/any"]));
    told(&ended, 2, "sstore: INVALID_URL (8): the URL begins with http://");
    let ended = run(sstore(&["rooms", "--api-token", "x", "--timeout", "0s"]));
    assert!(ended.code() == 2 && ended.stderr.contains("'--timeout <TIME>': it has to be above 0"), "{ended:?}");
    // Names that nothing can have are not asked for.
    let long = "r".repeat(129);
    for (arguments, part) in [
        (&["room", ""][..], "INVALID_ROOM (6)"),
        (&["room", &long], "INVALID_ROOM (6)"),
        (&["prepare", ""], "INVALID_ROOM (6)"),
        (&["close", ""], "INVALID_ROOM (6)"),
        (&["kick", "", "p"], "INVALID_ROOM (6)"),
        (&["kick", "r", ""], "INVALID_PEER (7)"),
        (&["unlock", "", "l"], "INVALID_ROOM (6)"),
        (&["unlock", "r", ""], "INVALID_LOCK"),
    ] {
        let nowhere = ["--api-token", "x", "--url", "http://127.0.0.1:1"];
        told(&run(sstore(&[arguments, &nowhere].concat())), 2, &format!("sstore: {part}"));
    }
    // What comes before the API's own paths is for proxies; without one nothing is there.
    let server = operated(&[]);
    for arguments in ALL {
        let ended = server.run(&[arguments, &["--url", &format!("{}/foo", server.url)]].concat());
        told(&ended, 3, "sstore: HANDSHAKE_FAILED (106): what answers at this URL (HTTP status 404) is no HTTP API");
    }
    // A server that has no API says so.
    let plain = Serving::start(&[]);
    let ended = run(sstore(&["rooms", "--api-token", "x", "--url", &plain.url.replacen("ws", "http", 1)]));
    told(&ended, 1, "without an API secret");
}

/// Something that answers each request with this, and then closes.
fn answering(answer: &str) -> String {
    let answer = answer.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0u8; 4_096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn other_servers_and_none_at_all_are_told_from_refusals() {
    let ask = |arguments: &[&str], url: &str| {
        let mut command = sstore(arguments);
        command.env("SSTORE_API_TOKEN", "x").args(["--url", url, "--timeout", "5s"]);
        run(command)
    };
    let page = answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<h1>");
    told(&ask(&["rooms"], &page), 3, "sstore: HANDSHAKE_FAILED (106): what answers at this URL");
    let moved = answering("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    told(&ask(&["rooms"], &moved), 3, "HTTP status 302");
    let cut = answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"rooms\":");
    told(&ask(&["rooms"], &cut), 3, "sstore: CONNECTION_LOST (103): ");
    // What was sent may have been done.
    let gone = answering("");
    told(&ask(&["close", "r"], &gone), 3, "sstore: OUTCOME_UNKNOWN (115): ");
    let refusal = r#"{"code":211,"name":"FORBIDDEN","message":"\u001b[2Jx\u202ey"}"#;
    let head = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", refusal.len());
    let hostile = answering(&(head + refusal));
    let ended = ask(&["rooms"], &hostile);
    assert!(ended.code() == 1 && !ended.stderr.contains('\u{1b}'), "{ended:?}");
    assert!(ended.stderr.contains("\\u001b[2Jx\\u202ey"), "{ended:?}");
    // Accepted by the system, and never answered.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let mut command = sstore(&["rooms", "--api-token", "x", "--url", &url, "--timeout", "100ms"]);
    command.env_remove("SSTORE_API_TOKEN");
    told(&run(command), 3, "sstore: TIMEOUT (102): the server is silent");
}

#[test]
fn https_is_for_servers_that_are_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let identity = authority.server();
    let files = ["--tls-cert", text(&identity.certificate), "--tls-key", text(&identity.key)];
    let server = operated(&files);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let (ca, foreign) = (authority.file(), other.file());
    assert_eq!(server.output(&["rooms", "--json", "--ca-file", text(&ca)]), "");
    assert_eq!(server.output(&["prepare", "r", "--ca-file", text(&ca)]), "");
    for arguments in ALL {
        let ended = server.run(&[arguments, &["--ca-file", text(&foreign)]].concat());
        told(&ended, 3, "sstore: TLS_FAILED (117): the server's certificate is signed by nobody this client trusts");
    }
    told(&server.run(&["rooms", "--ca-file", "/no/such/file"]), 2, "/no/such/file cannot be read");
    let plain = operated(&[]);
    let https = plain.url.replacen("http", "https", 1);
    let ended = server.run(&["rooms", "--url", &https, "--ca-file", text(&ca)]);
    told(&ended, 3, "does not speak TLS");

    let clients = Authority::new();
    let (strict, ana) =
        (operated(&[&files[..], &["--tls-client-ca", text(&clients.file())]].concat()), clients.identity(&["ana"]));
    told(&strict.run(&["rooms", "--ca-file", text(&ca)]), 3, "sstore: TLS_FAILED (117): the server asks for a client");
    let shown = ["--client-cert", text(&ana.certificate), "--client-key", text(&ana.key)];
    assert_eq!(strict.output(&[&["rooms", "--json", "--ca-file", text(&ca)], &shown[..]].concat()), "");
}

#[test]
fn hostile_names_do_not_steer_the_terminal() {
    let server = operated(&[]);
    // Right-to-left overrides and line separators are no control characters, and names may have them.
    let room = "evil\u{202e}txt.exe\u{2028}";
    let mut peer = server.peer(room, "\u{2066}Mallory\u{2069}");
    let shown = [server.output(&["rooms"]), server.output(&["room", room]), server.output(&["rooms", "--json"])];
    for text in &shown {
        assert!(text.contains("evil\\u202etxt.exe\\u2028"), "{text}");
    }
    assert!(shown[1].contains("\\u2066Mallory\\u2069"), "{shown:?}");
    for character in ['\u{202e}', '\u{2028}', '\u{2066}', '\u{2069}', '\u{1b}'] {
        assert!(!shown.iter().any(|text| text.contains(character)), "{character:?} in {shown:?}");
    }
    let parsed: Value = serde_json::from_str(&shown[2]).expect("JSON");
    assert_eq!(parsed["room"], room, "the JSON is the same");
    drop(peer.stdin.take());
}

// ------------------------------------------------------------------ top

/// A program in a terminal of its own, 60 columns wide and 15 lines high.
struct Screen {
    child: Child,
    stdin: ChildStdin,
    shown: Arc<(Mutex<Shown>, Condvar)>,
}

/// What is on that terminal.
struct Shown {
    terminal: vt100::Parser,
    /// All that was ever written to it.
    written: Vec<u8>,
    has_ended: bool,
}

impl Screen {
    /// `sstore top`. Its process id is the first line.
    fn top(server: &Operated) -> Screen {
        let program = env!("CARGO_BIN_EXE_sstore");
        let shell = format!("stty rows 15 cols 60; echo id $$; exec {program} top --interval 100ms");
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command", &shell, "/dev/null"]);
        command.env("SHELL", "/bin/sh").env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.env("SSTORE_API_URL", &server.url).env("SSTORE_API_TOKEN", &server.token);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script, of util-linux, is installed");
        let (stdin, mut stdout) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        let terminal = vt100::Parser::new(15, 60, 0);
        let shown = Shown { terminal, written: Vec::new(), has_ended: false };
        let shown = Arc::new((Mutex::new(shown), Condvar::new()));
        let kept = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0u8; 4_096];
            loop {
                let count = stdout.read(&mut buffer).unwrap_or(0);
                let bytes = &buffer[..count];
                let Ok(mut shown) = kept.0.lock() else { return };
                shown.terminal.process(bytes);
                shown.written.extend_from_slice(bytes);
                shown.has_ended = count == 0;
                kept.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Screen { child, stdin, shown }
    }

    fn press(&mut self, keys: &str) {
        self.stdin.write_all(keys.as_bytes()).expect("a terminal");
    }

    /// Waits until this holds, and gives what is on the terminal then.
    fn until(&self, what: &str, holds: impl Fn(&Shown) -> bool) -> String {
        let shown = self.shown.0.lock().expect("shown");
        let (shown, waited) =
            self.shown.1.wait_timeout_while(shown, PATIENCE, |shown| !holds(shown) && !shown.has_ended).expect("shown");
        let (contents, holds, timed_out) = (shown.terminal.screen().contents(), holds(&shown), waited.timed_out());
        drop(shown);
        assert!(holds, "there is no {what} (timed out: {timed_out}) on the screen:\n{contents}");
        contents
    }

    /// Waits until this is on the screen that the program has taken.
    fn expect(&self, part: &str) -> String {
        self.until(part, |shown| {
            let screen = shown.terminal.screen();
            screen.alternate_screen() && screen.contents().contains(part)
        })
    }

    /// The program's process.
    fn id(&self) -> String {
        let first = self.until("id", |shown| shown.written.contains(&b'\n'));
        first.lines().next().and_then(|line| line.strip_prefix("id ")).expect("an id").to_owned()
    }

    /// Waits for the program's end: its exit code, what is on the terminal then, and all that was written.
    fn end(mut self) -> (Option<i32>, String, String) {
        let contents = self.until("end", |shown| shown.has_ended);
        let shown = self.shown.0.lock().expect("shown");
        let screen = shown.terminal.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "the terminal was not given back: {contents}");
        let written = String::from_utf8_lossy(&shown.written).into_owned();
        drop(shown);
        (self.child.wait().expect("a status").code(), contents, written)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn top_shows_rooms_and_looks_into_one_in_a_terminal() {
    let server = operated(&[]);
    let room = "lobby\u{202e}";
    let _ana = server.peer(room, "Ana");
    let mut screen = Screen::top(&server);
    let shown = screen.expect("lobby\\u202e");
    assert!(shown.contains("rooms 1  peers 1") && shown.contains("CHANGES/S"), "{shown}");
    screen.press("\r");
    screen.expect("live");
    let shown = screen.expect("PEERS 1");
    assert!(shown.contains("Ana"), "{shown}");
    server.as_peer(&["set", "k", "\"at once\"", "--room", room, "--name", "Ben"]);
    screen.expect("\"at once\"");
    screen.press("\u{1b}");
    screen.expect("CHANGES/S");
    screen.press("/other");
    screen.expect("filter: other");
    screen.until("empty list", |shown| !shown.terminal.screen().contents().contains("lobby"));
    screen.press("\u{1b}");
    screen.expect("lobby");
    screen.press("q");
    let (code, shown, written) = screen.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(!written.contains('\u{202e}'), "{written:?}");
}

#[test]
fn top_says_that_the_server_is_gone_and_goes_on_when_it_is_back() {
    let first = operated(&[]);
    let (url, token) = (first.url.clone(), first.token.clone());
    let port = url.rsplit(':').next().expect("a port").to_owned();
    let ana = first.peer("lobby", "Ana");
    let mut screen = Screen::top(&first);
    screen.expect("lobby");
    screen.press("\r");
    screen.expect("live");
    drop(ana);
    assert_eq!(first.server.stop().code(), 0);
    let shown = screen.expect("the server cannot be reached");
    assert!(shown.contains("lost; trying again"), "{shown}");
    let mut again = sstore(&["serve", "--port", &port]);
    again.env("SSTORE_API_SECRET", SECRET);
    let again = Operated { server: Serving::command(again), url, token };
    screen.expect("no session");
    let _ben = again.peer("lobby", "Ben");
    screen.expect("live");
    screen.expect("Ben");
    screen.press("\u{3}");
    assert_eq!(screen.end().0, Some(0));
}

#[test]
fn top_gives_the_terminal_back_when_it_is_ended() {
    let server = operated(&[]);
    let screen = Screen::top(&server);
    let id = screen.id();
    screen.expect("rooms 0");
    let killed = Command::new("kill").args(["-TERM", &id]).status().expect("kill");
    assert!(killed.success());
    let (code, shown, _) = screen.end();
    assert_eq!((code, shown.trim_end()), (Some(0), &*format!("id {id}")));
}

#[test]
fn top_ends_when_its_token_no_longer_counts() {
    let first = operated(&[]);
    let screen = Screen::top(&first);
    screen.expect("rooms 0");
    let port = first.url.rsplit(':').next().expect("a port").to_owned();
    assert_eq!(first.server.stop().code(), 0);
    screen.expect("the server cannot be reached");
    let mut other = sstore(&["serve", "--port", &port]);
    other.env("SSTORE_API_SECRET", "another API secret for tests");
    let _other = Serving::command(other);
    let (code, shown, _) = screen.end();
    assert_eq!(code, Some(4), "{shown}");
    assert!(shown.contains("sstore: UNAUTHORIZED (200): "), "{shown}");
}

#[test]
fn top_without_a_terminal_prints_one_snapshot() {
    let server = operated(&[]);
    for (room, keys) in [("small", &["a=1"][..]), ("large", &["a=1", "b=2"])] {
        server.output(&[&["prepare", room], keys].concat());
    }
    let printed = server.output(&["top", "--interval", "100ms", "--sort", "keys"]);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].starts_with(&format!("sstore top  {}  ", server.url)), "{printed}");
    assert!(lines[1].starts_with("rooms 2  peers 0  changes/s 0"), "{printed}");
    assert_eq!(lines[3], "CHANGES/S  PEERS  KEYS  BYTES  AGE  ROOM");
    assert!(lines[4].ends_with("  large") && lines[5].ends_with("  small"), "{printed}");
    assert_eq!(lines.len(), 6, "{printed}");
    told(&server.run(&["top", "--interval", "1ms"]), 2, "100ms at least");
}
