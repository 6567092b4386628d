//! Servers that keep their rooms: whatever ends them, the next one with the same data directory goes on.
#![cfg(all(feature = "durable", feature = "cli"))]

mod common;
mod process;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use common::{encode, until, Client as Raw};
use process::{run, sstore, Running, Serving};
use rusqlite::Connection;
use serde_json::{json, Value as Json};
use sessionstore::{
    Client, ClientOptions, Error, ErrorCode, KeyChange, LockOptions, Server, ServerOptions, UpdateListener, Value,
    Write,
};
use support::SAFETY;

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("durable-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir(&path).expect("a directory");
        Directory(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    fn database(&self) -> Connection {
        Connection::open(self.0.join("rooms.db")).expect("a database")
    }

    /// Every file with what is in it.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(&self.0).expect("a directory").map(|file| file.expect("a file").path());
        files.map(|path| (path.clone(), fs::read(&path).expect("a file"))).collect()
    }

    fn server(&self) -> Server {
        self.start(|_| ()).expect("a server")
    }

    fn start(&self, change: impl FnOnce(&mut ServerOptions)) -> Result<Server, Error> {
        let mut options = ServerOptions { data_dir: Some(self.0.clone()), threads: 1, ..Default::default() };
        change(&mut options);
        Server::start(options)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stop(server: Server) {
    server.stop_wait(SAFETY).expect("stops");
}

const SECRET: &str = "&secret=000102030405060708090a0b0c0d0e0f";

fn join(server: &Server, peer: &str) -> Raw {
    Raw::join_with(server, &format!("room=r&peer={peer}{SECRET}"))
}

/// Asks under a given id; the result, or the code of the refusal.
fn ask(client: &mut Raw, id: u64, method: &str, params: Json) -> Result<Json, i64> {
    client.send_text(json!({"id": id.to_string(), "method": method, "params": params}).to_string());
    let answer = client.read();
    assert_eq!(answer["id"], id.to_string(), "{answer}");
    match answer["error"]["code"].as_i64() {
        Some(code) => Err(code),
        None => Ok(answer["result"].clone()),
    }
}

/// The errors a client hears of that belong to no request.
struct Updates(mpsc::Sender<ErrorCode>);

impl UpdateListener for Updates {
    fn on_error(&mut self, error: &Error) {
        let _ = self.0.send(error.code());
    }
}

#[test]
fn a_session_goes_on_where_it_was_after_the_server_was_killed() {
    let directory = Directory::new();
    let serve = |port: &str| {
        Serving::command(sstore(&["serve", "--port", port, "--data-dir", directory.path(), "--grace", "10m"]))
    };
    let mut serving = serve("0");
    let port = serving.url.rsplit(':').next().expect("a port").to_owned();
    let (told, updates) = mpsc::channel();
    let options = ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(&serving.url, "room") };
    let client = Client::open(options, Updates(told)).expect("opens");
    let store = client.join_wait(SAFETY).expect("joins");
    let (heard, changes) = mpsc::channel();
    let listen = store.listen(&["pinned", "n"], move |change: KeyChange<'_>| {
        if let KeyChange::Event(event) = change {
            let _ = heard.send(format!("{}={}", event.change.key, event.change.value.json()));
        }
    });
    let _subscription = listen.expect("listens");
    let lock = store.lock("turn", LockOptions::default(), |_| panic!("lost")).wait(SAFETY).expect("held");
    let pinned = store.set("pinned", Value::from("hello")).wait(SAFETY).expect("set");
    for round in 1..=3 {
        serving.process.signal("KILL");
        // Sent to nobody, it waits.
        let added = store.add("n", 1);
        let (sent, result) = mpsc::channel();
        added.on_result(move |outcome| drop(sent.send(outcome.map(|state| state.value.clone())))).expect("sent");
        // Waits for its end: until then it has the port and the directory.
        drop(serving);
        serving = serve(&port);
        let value = result.recv_timeout(SAFETY).expect("a result").expect("applied");
        assert_eq!(value, Value::from(round), "applied once");
    }
    let state = store.get("pinned").wait(SAFETY).expect("a state");
    assert_eq!((state.value.json(), state.version), (r#""hello""#, pinned.version));
    let token = lock.token();
    let guarded = store.write(Write::set("guarded", Value::from(1)), Some(lock.guard()));
    guarded.wait(SAFETY).expect("the lock is held as before");
    assert_eq!(lock.token(), token);
    let mut heard: Vec<String> = Vec::new();
    while heard.last().is_none_or(|last| last != "n=3") {
        heard.push(changes.recv_timeout(SAFETY).expect("a change"));
    }
    heard.retain(|change| !change.ends_with("=null"));
    assert_eq!(heard, ["pinned=\"hello\"", "n=1", "n=2", "n=3"], "each change once, and nothing else");
    let errors: Vec<ErrorCode> = updates.try_iter().collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn what_was_answered_is_answered_the_same_by_the_next_server() {
    let directory = Directory::new();
    let server = directory.server();
    let mut ada = join(&server, "ada");
    let requests = [
        ("merge-metadata", json!({"key": "n", "op": "add", "data": 1})),
        ("set-metadata", json!({"key": "a", "data": "first", "if_change_version": 0})),
        ("transact", json!({"writes": [{"op": "add", "key": "n", "data": 10}, {"op": "set", "key": "b", "data": 1}]})),
        ("lock-acquire", json!({"name": "turn"})),
        ("touch-metadata", json!({"key": "b", "ttl_ms": 600_000})),
        (
            "transact",
            json!({"checks": [{"key": "c", "exists": true}], "writes": [{"op": "set", "key": "d", "data": 1}]}),
        ),
        ("set-metadata", json!({"key": "c", "data": 1})),
    ];
    let all = |client: &mut Raw| -> Vec<Result<Json, i64>> {
        (1..).zip(&requests).map(|(id, (method, params))| ask(client, id, method, params.clone())).collect()
    };
    let first = all(&mut ada);
    assert_eq!(first.iter().filter(|answer| answer.is_err()).count(), 1, "a check fails: {first:?}");
    let session = ada.call("join", json!({}))["session_id"].clone();
    stop(server);
    // However many loops there are.
    let server = directory.start(|options| options.threads = 3).expect("a server");
    let mut ada = join(&server, "ada");
    assert_eq!(all(&mut ada), first);
    assert_eq!(ada.call("join", json!({}))["session_id"], session);
    let n = ada.call("get-metadata", json!({"key": "n"}));
    assert_eq!((n["data"].clone(), n["change_version"].clone()), (json!(11), json!(3)));
    assert_eq!(ada.call("get-metadata", json!({"key": "d"}))["data"], Json::Null, "what was refused stays refused");
}

#[test]
fn who_comes_back_to_the_next_server_is_told_what_it_missed_and_no_more() {
    let directory = Directory::new();
    let server = directory.server();
    let query = |more: &str| format!("room=r&peer=ada{SECRET}&listen={}{more}", encode(r#"["a","b"]"#));
    let mut ada = Raw::join_with(&server, &query(""));
    ada.expect("on-metadata-change");
    let session = ada.call("join", json!({}))["session_id"].as_str().expect("an id").to_owned();
    ada.expect("peer-list");
    let mut bob = join(&server, "bob");
    ada.expect("on-peer-join");
    bob.set("a", json!(1));
    bob.set("b", json!(1));
    bob.set("b", json!(null));
    bob.set("other", json!(1));
    stop(server);
    let server = directory.server();
    let mut ada = Raw::join_with(&server, &query(&format!("&session={session}&since=1")));
    let missed = ada.expect("on-metadata-change");
    assert!(missed.get("snapshot").is_none(), "{missed}");
    let values = missed["values"].as_array().expect("values").clone();
    assert_eq!(values.len(), 1, "{missed}");
    assert_eq!((values[0]["key"].as_str(), &values[0]["data"]), (Some("b"), &Json::Null));
    ada.nothing_waits();
}

#[test]
fn grace_begins_with_the_restart_and_a_session_that_is_over_leaves_nothing_behind() {
    // Of two who may come back one does, within the grace period, and is told at its end that the other did not. On a
    // busy machine a short one can be over before it is there.
    let mut grace_ms = 200;
    while !one_of_two_comes_back(grace_ms) {
        assert!(grace_ms < SAFETY.as_millis() as u64, "nobody can come back");
        grace_ms *= 2;
    }
}

/// Whether it came within the grace period.
fn one_of_two_comes_back(grace_ms: u64) -> bool {
    let directory = Directory::new();
    let grace = |options: &mut ServerOptions| options.limits.grace_ms = grace_ms;
    let server = directory.start(grace).expect("a server");
    let session = |client: &mut Raw| client.call("join", json!({}))["session_id"].clone();
    let mut ada = join(&server, "ada");
    let before = session(&mut ada);
    let mut bob = join(&server, "bob");
    bob.set("a", json!("kept"));
    stop(server);
    let server = directory.start(grace).expect("a server");
    let mut ada = join(&server, "ada");
    if session(&mut ada) != before {
        return false;
    }
    // Nothing but lists of the peers, which come with each join, is between.
    let left = std::iter::repeat_with(|| ada.read()).find(|message| message["method"] != "peer-list").expect("endless");
    assert_eq!((&left["method"], &left["params"]["peer_id"]), (&json!("on-peer-leave"), &json!("bob")));
    assert_eq!(ada.call("get-metadata", json!({"key": "a"}))["data"], "kept");
    ada.call("leave", json!({}));
    until("the session ends", || server.stats().rooms == 0);
    stop(server);
    let database = directory.database();
    let count = |table: &str| -> i64 {
        database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a count")
    };
    assert_eq!((count("room"), count("record")), (0, 0));
    drop(database);
    let all: Vec<u8> = directory.contents().into_values().flatten().collect();
    assert!(!all.windows(4).any(|bytes| bytes == b"kept"), "a value outlived its session");
    true
}

#[test]
fn a_session_that_nobody_comes_back_to_ends_after_the_grace_period() {
    let directory = Directory::new();
    let server = directory.server();
    join(&server, "ada").set("a", json!(1));
    stop(server);
    let server = directory.start(|options| options.limits.grace_ms = 1).expect("a server");
    until("the session ends", || server.stats().rooms == 0);
    let mut new = join(&server, "ada");
    assert_eq!(new.call("get-metadata", json!({"key": "a"}))["data"], Json::Null);
}

#[test]
fn many_sessions_with_many_changes_are_all_there() {
    let directory = Directory::new();
    let server = directory.start(|options| options.threads = 2).expect("a server");
    let value = "x".repeat(900);
    for room in 0..20 {
        let mut ada = Raw::join_with(&server, &format!("room=r{room}&peer=ada{SECRET}"));
        // Some write more than a record may have before the next checkpoint.
        for nth in 0..if room < 3 { 200 } else { 5 } {
            ada.set(&format!("k{}", nth % 10), json!(format!("{value}{room}/{nth}")));
        }
    }
    // No goodbye: as if it had been killed.
    let before = directory.contents();
    stop(server);
    let copy = Directory::new();
    for (path, contents) in before {
        fs::write(copy.0.join(path.file_name().expect("a name")), contents).expect("copied");
    }
    for directory in [directory, copy] {
        let server = directory.start(|options| options.threads = 3).expect("a server");
        until("all are there", || server.stats().rooms == 20);
        for room in 0..20 {
            let mut ada = Raw::join_with(&server, &format!("room=r{room}&peer=ada{SECRET}"));
            let last = if room < 3 { 199 } else { 4 };
            let state = ada.call("get-metadata", json!({"key": format!("k{}", last % 10)}));
            assert_eq!(state["data"], json!(format!("{value}{room}/{last}")));
            assert_eq!(state["change_version"], last + 1);
        }
        stop(server);
    }
}

#[test]
fn rules_that_are_others_after_the_restart_count() {
    let directory = Directory::new();
    let rules =
        |text: &str| Some(std::sync::Arc::new(sessionstore::core::rules::Rules::from_toml(text).expect("rules")));
    let rule = |keys: &str| {
        format!("[[rule]]\nname = \"all\"\nroles = [\"*\"]\nkeys = [\"{keys}\"]\nallow = [\"read\", \"create\", \"write\"]\n")
    };
    let server = directory.start(|options| options.rules = rules(&rule("*"))).expect("a server");
    let (mut ada, _) = Raw::listening(&server, "r", "ada", &["a", "b"]);
    ada.set("a", json!(1));
    stop(server);
    let server = directory.start(|options| options.rules = rules(&rule("b"))).expect("a server");
    let mut ada = Raw::join(&server, "r", "ada");
    assert_eq!(ada.refused("get-metadata", json!({"key": "a"})), i64::from(ErrorCode::Forbidden.number()));
    ada.set("b", json!(2));
}

// ------------------------------------------------------------------ what cannot be used

fn refusal(directory: &Directory) -> (ErrorCode, String) {
    let error = directory.start(|_| ()).expect_err("refused");
    (error.code(), error.message().to_owned())
}

#[test]
fn a_directory_belongs_to_one_server_at_a_time() {
    let directory = Directory::new();
    let server = directory.server();
    let (code, message) = refusal(&directory);
    assert_eq!(code, ErrorCode::DataDirectoryUnusable);
    assert!(message.contains("another server uses it") && message.contains(directory.path()), "{message}");
    let ended = run(sstore(&["serve", "--port", "0", "--data-dir", directory.path()]));
    assert_ne!(ended.code(), 0);
    assert!(ended.stderr.contains("another server uses it"), "{}", ended.stderr);
    stop(server);
    stop(directory.server());
}

#[test]
fn what_a_newer_version_wrote_is_refused_untouched() {
    let directory = Directory::new();
    let server = directory.server();
    join(&server, "ada").set("a", json!(1));
    stop(server);
    fs::write(directory.0.join("format"), "SessionStore data, format 2\n").expect("written");
    let before = directory.contents();
    let (code, message) = refusal(&directory);
    assert_eq!(code, ErrorCode::DataNewer);
    assert!(message.contains("format 2; this version reads 1"), "{message}");
    assert!(directory.contents() == before, "something was touched");
}

#[test]
fn a_directory_that_is_none_of_ours_is_refused() {
    let directory = Directory::new();
    fs::write(directory.0.join("format"), "PostgreSQL 17\n").expect("written");
    assert_eq!(refusal(&directory).0, ErrorCode::DataDamaged);
    let file = Directory::new();
    fs::write(file.0.join("file"), "").expect("written");
    let path = file.0.join("file");
    let error = file.start(|options| options.data_dir = Some(path)).expect_err("refused");
    assert_eq!(error.code(), ErrorCode::DataDirectoryUnusable);
    let error = Server::start(ServerOptions { fsync: true, ..Default::default() }).expect_err("refused");
    assert_eq!(error.code(), ErrorCode::InvalidConfig);
    // Without the file that says what it is, a database is not begun anew over it.
    let server = Directory::new();
    stop(server.server());
    fs::remove_file(server.0.join("format")).expect("removed");
    assert_eq!(refusal(&server).0, ErrorCode::DataDamaged);
    // A database that is none.
    let broken = Directory::new();
    stop(broken.server());
    fs::write(broken.0.join("rooms.db"), "x".repeat(20_000)).expect("written");
    let (code, message) = refusal(&broken);
    assert_eq!(code, ErrorCode::DataDamaged);
    assert!(message.contains("rooms.db"), "{message}");
}

#[test]
#[cfg(unix)]
fn nobody_else_may_look_into_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new();
    let path = directory.0.join("a/b");
    stop(directory.start(|options| options.data_dir = Some(path.clone())).expect("a server"));
    let mode = fs::metadata(path).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

// ------------------------------------------------------------------ damage

/// A directory as a server leaves it that is killed: two rooms, with twenty changes each, made in turns.
fn killed() -> (Directory, [String; 2]) {
    let directory = Directory::new();
    let serving = Serving::command(sstore(&["serve", "--port", "0", "--data-dir", directory.path()]));
    let url = serving.url.clone();
    let output = |arguments: &[&str]| {
        let mut command = sstore(arguments);
        command.env("SSTORE_URL", &url);
        Running::start(command)
    };
    let watchers: Vec<Running> = ["one", "two"].map(|room| output(&["watch", "n", "--room", room])).into();
    watchers.iter().for_each(|watcher| drop(watcher.stdout.next()));
    for nth in 1..=20 {
        for room in ["one", "two"] {
            let ended = output(&["set", "n", &nth.to_string(), "--room", room]).end();
            assert_eq!(ended.code(), 0, "{ended:?}");
        }
    }
    // With SIGKILL, and waits for its end.
    drop(serving);
    let ids = sessions(&directory);
    (directory, ids)
}

/// The ids of the two sessions, from a copy of the directory.
fn sessions(directory: &Directory) -> [String; 2] {
    let copy = Directory::new();
    for (path, contents) in directory.contents() {
        fs::write(copy.0.join(path.file_name().expect("a name")), contents).expect("copied");
    }
    let server = copy.server();
    ["one", "two"].map(|room| look(&server, room).0)
}

/// The session of a room, and what it has.
fn look(server: &Server, room: &str) -> (String, Json) {
    let mut client = Raw::join_with(server, &format!("room={room}&peer=looks{SECRET}"));
    let session = client.call("join", json!({}))["session_id"].as_str().expect("an id").to_owned();
    (session, client.call("get-metadata", json!({"key": "n"}))["data"].clone())
}

/// Starts `sstore` on the directory, and gives what it logs until it listens.
fn started(directory: &Directory) -> (Serving, String) {
    let serving = Serving::command(sstore(&["serve", "--port", "0", "--data-dir", directory.path()]));
    let mut log = String::new();
    loop {
        let line = serving.process.stderr.next();
        log += &line;
        log.push('\n');
        if line.contains("listening") {
            return (serving, log);
        }
    }
}

#[test]
fn a_database_that_is_gone_is_missed() {
    let (directory, _) = killed();
    fs::remove_file(directory.0.join("rooms.db")).expect("removed");
    let log = || fs::read(directory.0.join("rooms.db-wal")).expect("the log");
    let before = log();
    let (code, message) = refusal(&directory);
    assert_eq!(code, ErrorCode::DataDamaged);
    assert!(message.contains("rooms.db is missing") && message.contains("rooms.db-wal"), "{message}");
    fs::write(directory.0.join("rooms.db"), "").expect("written");
    assert_eq!(refusal(&directory).0, ErrorCode::DataDamaged, "an empty one is as good as none");
    fs::remove_file(directory.0.join("rooms.db")).expect("removed");
    assert!(log() == before, "something was touched");
    // With the log gone too there is nothing left to tell it from a first start.
    fs::remove_file(directory.0.join("rooms.db-wal")).expect("removed");
    let (_, logged) = started(&directory);
    assert!(logged.contains("WARN") && logged.contains("rooms.db is missing"), "{logged}");
    let (_, logged) = started(&directory);
    assert!(!logged.contains("rooms.db is missing"), "the next start finds one: {logged}");
    let (_, logged) = started(&Directory::new());
    assert!(!logged.contains("rooms.db is missing"), "the first start misses nothing: {logged}");
}

#[test]
fn a_damaged_end_of_the_log_is_dropped_with_a_warning_and_sessions_begin_anew_with_the_rest() {
    let (directory, ids) = killed();
    let log = directory.0.join("rooms.db-wal");
    let mut bytes = fs::read(&log).expect("a log");
    // In the tenth page before the last.
    let at = bytes.len() - 10 * (4_096 + 24) + 1_000;
    bytes[at] ^= 1;
    fs::write(&log, &bytes).expect("written");
    let (serving, logged) = started(&directory);
    assert!(logged.contains("WARN") && logged.contains("the end of the journal is damaged"), "{logged}");
    serving.process.signal("TERM");
    assert_eq!(serving.process.end().code(), 0);
    let server = directory.server();
    for (room, id) in ["one", "two"].into_iter().zip(ids) {
        let (session, n) = look(&server, room);
        assert_ne!(session, id, "what was told of the old one may be lost");
        let n = n.as_i64().expect("a number");
        assert!((1..20).contains(&n), "{n}");
    }
}

#[test]
fn without_damage_killed_sessions_go_on_and_nothing_is_logged() {
    let (directory, ids) = killed();
    let (serving, logged) = started(&directory);
    assert!(!logged.contains("sessionstore::server::journal"), "{logged}");
    serving.process.signal("TERM");
    assert_eq!(serving.process.end().code(), 0);
    let server = directory.server();
    for (room, id) in ["one", "two"].into_iter().zip(ids) {
        assert_eq!(look(&server, room), (id, json!(20)));
    }
}

#[test]
fn a_damaged_record_ends_what_is_known_of_its_room_alone() {
    let (directory, ids) = killed();
    stop(directory.server());
    let server = directory.server();
    // A record after the checkpoint which the restart made.
    let mut one = Raw::join_with(&server, &format!("room=one&peer=looks{SECRET}"));
    one.set("n", json!(21));
    one.set("n", json!(22));
    stop(server);
    let database = directory.database();
    let id: i64 = database.query_row("SELECT id FROM room WHERE name = 'one'", [], |row| row.get(0)).expect("a room");
    let last = "SELECT max(key) FROM record WHERE key >= ?1 << 32 AND key < (?1 + 1) << 32";
    let key: i64 = database.query_row(last, [id], |row| row.get(0)).expect("a record");
    let changed = database
        .execute("UPDATE record SET body = CAST(body || x'00' AS BLOB) WHERE key = ?1", [key])
        .expect("damaged");
    assert_eq!(changed, 1);
    drop(database);
    let (serving, logged) = started(&directory);
    assert!(logged.contains("WARN") && logged.contains("room=\"one\"") && logged.contains("the last 1"), "{logged}");
    assert!(!logged.contains("room=\"two\""), "{logged}");
    serving.process.signal("TERM");
    assert_eq!(serving.process.end().code(), 0);
    let server = directory.server();
    let (session, n) = look(&server, "one");
    assert_ne!(session, ids[0]);
    assert_eq!(n, json!(21));
    assert_eq!(look(&server, "two"), (ids[1].clone(), json!(20)));
}

#[test]
fn a_room_whose_checkpoint_is_damaged_is_dropped_alone() {
    let (directory, ids) = killed();
    stop(directory.server());
    directory.database().execute("UPDATE room SET checkpoint = x'0011' WHERE name = 'one'", []).expect("damaged");
    let (serving, logged) = started(&directory);
    assert!(logged.contains("WARN") && logged.contains("this room is dropped"), "{logged}");
    serving.process.signal("TERM");
    assert_eq!(serving.process.end().code(), 0);
    let server = directory.server();
    assert_eq!(look(&server, "one").1, Json::Null);
    assert_eq!(look(&server, "two"), (ids[1].clone(), json!(20)));
}

/// Nobody can cut the power here; but what the server has to go by is which start of the machine it was.
#[test]
fn after_the_machine_stopped_hard_sessions_begin_anew_unless_there_was_fsync() {
    for fsync in [false, true] {
        let (directory, ids) = killed();
        {
            let database = directory.database();
            let boot = "UPDATE meta SET value = 'another' WHERE name = 'boot'";
            assert_eq!(database.execute(boot, []).expect("changed"), 1);
            let synced = "UPDATE meta SET value = ?1 WHERE name = 'fsync'";
            assert_eq!(database.execute(synced, [if fsync { "1" } else { "0" }]).expect("changed"), 1);
        }
        let (serving, logged) = started(&directory);
        assert_eq!(logged.contains("the machine stopped without fsync"), !fsync, "{logged}");
        serving.process.signal("TERM");
        assert_eq!(serving.process.end().code(), 0);
        let server = directory.server();
        for (room, id) in ["one", "two"].into_iter().zip(&ids) {
            let (session, n) = look(&server, room);
            assert_eq!((session == *id, n), (fsync, json!(20)), "fsync {fsync}");
        }
    }
}

#[test]
fn with_fsync_it_works_the_same() {
    let directory = Directory::new();
    let server = directory.start(|options| options.fsync = true).expect("a server");
    join(&server, "ada").set("a", json!(1));
    stop(server);
    let server = directory.start(|options| options.fsync = true).expect("a server");
    assert_eq!(join(&server, "ada").call("get-metadata", json!({"key": "a"}))["data"], 1);
}

/// A file may not grow beyond a size, as when the disk is full.
#[test]
#[cfg(unix)]
fn when_the_disk_is_full_the_server_stops_and_nobody_was_told_what_is_not_kept() {
    let directory = Directory::new();
    let program = env!("CARGO_BIN_EXE_sstore");
    let mut command = std::process::Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 800; exec \"$0\" serve --port 0 --data-dir \"$1\"";
    command.args(["-c", script, program, directory.path()]);
    let serving = Serving::command(command);
    let (told, updates) = mpsc::channel();
    let request_timeout_ms = SAFETY.as_millis() as u64;
    let options = ClientOptions { reconnect_min_ms: 1, request_timeout_ms, ..ClientOptions::new(&serving.url, "r") };
    let client = Client::open(options, Updates(told)).expect("opens");
    let store = client.join_wait(SAFETY).expect("joins");
    let (ended, acknowledged) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut acknowledged = 0;
            let text = Value::from("x".repeat(1_000).as_str());
            while let Ok(state) = store.set("n", text.clone()).wait(SAFETY) {
                acknowledged = state.version;
                assert!(acknowledged < 100_000, "the disk is never full");
            }
            acknowledged
        });
        let ended = serving.process.end();
        // What is not answered any more would wait for another server.
        drop(client);
        (ended, writer.join().expect("writes"))
    });
    assert_eq!(ended.code(), 3);
    assert!(ended.stderr.contains("the journal cannot be written"), "{}", ended.stderr);
    drop(updates);
    let server = directory.server();
    let mut looks = Raw::join(&server, "r", "looks");
    let version = looks.call("get-metadata", json!({"key": "n"}))["change_version"].as_u64().expect("a version");
    assert!(version >= acknowledged && acknowledged > 10, "{version} of {acknowledged}");
}
