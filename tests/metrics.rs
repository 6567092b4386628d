//! What a server tells of itself: `GET /metrics`, the dashboard that shows it, and requests in the log.
#![cfg(all(feature = "cli", unix))]

mod common;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{encode, raw, until, Client};
use process::Serving;
use serde_json::{json, Value};
use sessionstore::{ErrorCode, Server, ServerOptions};
use tungstenite::Message;

/// One loop, so that what is scraped is told between two turns of everything.
fn server_with(change: impl FnOnce(&mut ServerOptions)) -> Server {
    common::server_with(|options| {
        (options.metrics, options.threads) = (true, 1);
        change(options);
    })
}

fn server() -> Server {
    server_with(|_| {})
}

/// The text that a server answers to Prometheus.
fn scraped(server: &Server) -> String {
    let answer = raw(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    text.to_owned()
}

/// Every sample, by its name and labels as they are written.
fn samples(server: &Server) -> BTreeMap<String, f64> {
    let text = scraped(server);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| -> Option<(String, f64)> {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    lines.map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line}"))).collect()
}

/// The one of a name without `sessionstore_`; 0 for a reason for which nothing was refused yet.
fn sample(server: &Server, name: &str) -> u64 {
    let samples = samples(server);
    let value = samples.get(&format!("sessionstore_{name}"));
    let may_lack = name.starts_with("refused_total{");
    assert!(value.is_some() || may_lack, "there is no sessionstore_{name}");
    value.map_or(0, |value| *value as u64)
}

fn writes(server: &Server, operation: &str, outcome: &str) -> u64 {
    sample(server, &format!("writes_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}"))
}

fn refused(server: &Server, kind: &str, reason: ErrorCode) -> u64 {
    sample(server, &format!("refused_total{{kind=\"{kind}\",reason=\"{}\"}}", reason.name()))
}

#[test]
fn nothing_is_told_unless_it_is_asked_for() {
    let server = common::server();
    assert!(raw(&server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 "));
    let server = self::server();
    assert!(raw(&server, b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(raw(&server, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_comes_and_goes_is_counted() {
    let server = server();
    let now = |name: &str| sample(&server, name);
    assert_eq!((now("rooms"), now("peers"), now("connections")), (0, 0, 0));
    let mut ada = Client::join(&server, "r", "ada");
    let bob = Client::join(&server, "s", "bob");
    let _nobody = Client::connect(&server, "room=r");
    assert_eq!((now("rooms"), now("peers"), now("connections")), (2, 2, 3));
    // Whoever asks has a socket.
    assert_eq!(now("sockets"), 4);
    assert_eq!(now("connections_opened_total"), 3);
    assert_eq!((now("sessions_started_total"), now("peers_joined_total")), (2, 2));

    // Bob is kept for a while, Ada is not.
    bob.cut();
    ada.call("leave", json!({}));
    ada.closed();
    until("the end of two connections", || now("connections") == 1);
    assert_eq!((now("rooms"), now("peers")), (1, 1));
    assert_eq!((now("connections_opened_total"), now("sessions_started_total")), (3, 2));
}

#[test]
fn writes_are_counted_by_what_became_of_them_and_changes_by_who_heard() {
    let server = server();
    let (mut ada, _) = Client::listening(&server, "r", "ada", &["k", "l"]);
    let (mut bob, _) = Client::listening(&server, "r", "bob", &["k"]);
    let mut eve = Client::join(&server, "r", "eve");
    let (requests, commands) = (sample(&server, "requests_total"), sample(&server, "commands_total"));

    eve.set("k", json!(1));
    eve.set("k", json!(2));
    eve.set("unheard", json!(1));
    let conflict = eve.refused("set-metadata", json!({"key": "k", "data": 3, "if_change_version": 0}));
    assert_eq!(conflict, i64::from(ErrorCode::VersionConflict.number()));
    eve.refused("set-metadata", json!({"key": "", "data": 3}));
    eve.call("merge-metadata", json!({"key": "k", "op": "add", "data": 5}));
    eve.refused("touch-metadata", json!({"key": "absent", "ttl_ms": 1_000}));
    let both = json!([{"op": "set", "key": "k", "data": 1}, {"op": "set", "key": "l", "data": 2}]);
    eve.call("transact", json!({"writes": both}));
    eve.refused("transact", json!({"checks": [{"key": "k", "exists": false}], "writes": both}));
    eve.refused("dance", json!({}));
    eve.send_text(json!({"method": "get-metadata", "params": {"key": ""}}).to_string());
    eve.call("get-metadata", json!({"key": "k"}));
    ada.call("ping", json!({}));
    bob.call("ping", json!({}));

    let of = |operation: &str| ["applied", "conflict", "refused"].map(|outcome| writes(&server, operation, outcome));
    assert_eq!(of("set"), [3, 1, 1]);
    assert_eq!(of("merge"), [1, 0, 0]);
    assert_eq!(of("touch"), [0, 0, 1]);
    assert_eq!(of("transact"), [1, 1, 0]);
    let refused = |reason| refused(&server, "request", reason);
    assert_eq!(refused(ErrorCode::VersionConflict), 1);
    // Once without an id, so that nobody is told.
    assert_eq!(refused(ErrorCode::InvalidKey), 2);
    assert_eq!((refused(ErrorCode::CheckFailed), refused(ErrorCode::KeyAbsent)), (1, 1));
    assert_eq!(refused(ErrorCode::UnknownMethod), 1);
    assert_eq!(sample(&server, "requests_total") - requests, 14);
    assert!(sample(&server, "commands_total") - commands >= 10);

    // k three times and unheard once alone, k and l together.
    assert_eq!(sample(&server, "changes_total"), 6);
    // Ada hears k four times and l; Bob hears k four times.
    assert_eq!(sample(&server, "deliveries_total"), 9);
    assert_eq!(sample(&server, "conflated_total"), 0);
    assert!(sample(&server, "batches_total") > 0);
}

#[test]
fn times_are_taken_of_some() {
    let server = server();
    let (mut ada, _) = Client::listening(&server, "r", "ada", &["k"]);
    let count = |name: &str| sample(&server, &format!("{name}_seconds_count"));
    assert!(count("apply") == 1 && count("fan_out") == 1, "the first of each is timed");
    for n in 0..640 {
        ada.set("k", json!(n));
    }
    let (commands, batches) = (sample(&server, "commands_total"), sample(&server, "batches_total"));
    assert_eq!(count("apply"), commands.div_ceil(64));
    assert_eq!(count("fan_out"), batches.div_ceil(16));
    let samples = samples(&server);
    for name in ["apply", "fan_out"] {
        let of = |what: &str| samples[&format!("sessionstore_{name}_seconds{what}")];
        assert_eq!(of("_bucket{le=\"+Inf\"}"), of("_count"));
        assert!(of("_bucket{le=\"1e-06\"}") <= of("_bucket{le=\"1\"}"), "{samples:?}");
        let bounds = samples.keys().filter(|key| key.starts_with(&format!("sessionstore_{name}_seconds_bucket")));
        assert_eq!(bounds.count(), 20);
        assert!(of("_sum") > 0.0, "{samples:?}");
    }
    assert_eq!(samples["sessionstore_journal_commit_seconds_count"], 0.0);
}

#[test]
fn handshakes_and_closes_have_their_reasons() {
    let server = server_with(|options| {
        options.secret = Some("secret".into());
        options.max_message_bytes = 4_096;
        options.max_connections_per_address = 1;
    });
    let claims = json!({"room_id": "r", "user_id": "u", "role": "host", "exp": 4_000_000_000u64});
    let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token");
    assert_eq!(Client::try_connect(&server, "room=r&token=nonsense", &[]).err().expect("refused").0, 401);
    assert!(raw(&server, b"GET /wrong HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert_eq!(refused(&server, "handshake", ErrorCode::Unauthorized), 1);
    assert_eq!(refused(&server, "handshake", ErrorCode::MalformedMessage), 1);

    let mut ada = Client::join_with(&server, &format!("peer=ada&token={token}"));
    let second = Client::try_connect(&server, &format!("peer=bob&join=1&token={token}"), &[]);
    assert_eq!(second.err().expect("refused").0, 429);
    assert_eq!(refused(&server, "handshake", ErrorCode::TooManyConnections), 1);
    ada.send_text("x".repeat(5_000));
    assert_eq!(ada.closed(), 1009);
    assert_eq!(refused(&server, "close", ErrorCode::MessageTooLarge), 1);
    assert!(!scraped(&server).contains(&token));
}

#[test]
fn what_a_slow_reader_is_spared_is_counted() {
    let server = server_with(|options| options.queue_bytes = 16 * 1024);
    let mut slow = Client::narrow(&server, "r", "slow", "k");
    let mut writer = Client::join(&server, "r", "writer");
    slow.expect("on-peer-join");
    let now = |name: &str| sample(&server, name);
    let payload = "x".repeat(1_000);
    let mut written = 0;
    // Until the system's buffers are full, and then the queue.
    until("a queue", || {
        for _ in 0..100 {
            written += 1;
            writer.set("k", json!(format!("{written}{payload}")));
        }
        now("slow_connections") == 1 && now("queue_bytes") > 0
    });
    assert!(now("deliveries_total") < written, "nothing waits, so this test shows nothing");
    while written < now("deliveries_total") + 100 {
        written += 1;
        writer.set("k", json!(format!("{written}{payload}")));
    }

    // Now it reads to the last.
    let (mut seen, mut replaced) = (0, 0);
    let mut version = 0;
    while version < written {
        let params = slow.expect("on-metadata-change");
        for state in params["values"].as_array().expect("values") {
            version = state["change_version"].as_u64().expect("a version");
            seen += 1;
            replaced += state["replaced"].as_u64().unwrap_or(0);
        }
    }
    assert!(replaced > 0, "nothing was dropped, so this test shows nothing");
    assert_eq!((now("deliveries_total"), now("conflated_total")), (seen, replaced));
    assert_eq!(seen + replaced, written);
    until("an empty queue", || now("slow_connections") == 0 && now("queue_bytes") == 0);
}

#[cfg(feature = "durable")]
#[test]
fn the_journal_is_counted() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("metrics-{}", std::process::id()));
    let server = server_with(|options| options.data_dir = Some(directory.clone()));
    let now = |name: &str| sample(&server, name);
    let before = ["journal_records_total", "journal_written_bytes_total", "journal_commit_seconds_count"].map(now);
    let mut ada = Client::join(&server, "r", "ada");
    for _ in 0..10 {
        ada.set("k", json!("x".repeat(500)));
    }
    let after = ["journal_records_total", "journal_written_bytes_total", "journal_commit_seconds_count"].map(now);
    assert!(after[0] >= before[0] + 10 && after[1] >= before[1] + 5_000 && after[2] >= before[2] + 10, "{after:?}");
    server.stop_wait(common::PATIENCE).expect("stops");
    std::fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn all_loops_are_summed() {
    let server = server_with(|options| options.threads = 4);
    for room in 0..20 {
        let mut ada = Client::join(&server, &format!("r{room}"), "ada");
        for n in 0..5 {
            ada.set("k", json!(n));
        }
    }
    // Loops go on counting after they have answered.
    until("the last count", || writes(&server, "set", "applied") == 100 && sample(&server, "changes_total") == 100);
    assert_eq!((sample(&server, "sessions_started_total"), sample(&server, "connections_opened_total")), (20, 20));
}

#[test]
fn no_name_and_no_value_is_told() {
    let server = server();
    let listen = encode(&json!(["the-key"]).to_string());
    let query = format!("room=the-room&peer=the-peer&name=the-name&user_id=the-user&role=the-role&listen={listen}");
    let mut peer = Client::join_with(&server, &query);
    peer.set("the-key", json!("the-value"));
    peer.refused("set-metadata", json!({"key": "the-key", "data": 1, "if_change_version": 9}));
    peer.refused("the-method", json!({}));
    let text = scraped(&server);
    assert!(!text.contains("the-"), "{text}");
}

// ------------------------------------------------------------------ what others make of it

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a server that has done something of each kind.
fn lively() -> String {
    let server = server();
    let (mut ada, _) = Client::listening(&server, "r", "ada", &["k"]);
    ada.set("k", json!(1));
    ada.refused("set-metadata", json!({"key": "k", "data": 1, "if_change_version": 9}));
    scraped(&server)
}

/// The names of the metrics, as they are declared, with their kinds.
fn declared(text: &str) -> BTreeMap<String, String> {
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    kinds.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// Debian's promtool, of the package `prometheus`, which is only unpacked: it would start a server.
fn promtool() -> PathBuf {
    let installed = Path::new("/usr/bin/promtool");
    if installed.exists() {
        return installed.to_owned();
    }
    let directory = root().join("target/tools/promtool");
    let made = Command::new("sh").arg(root().join("mk/promtool.sh")).arg(&directory).output().expect("sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    directory.join("promtool")
}

#[test]
fn promtool_finds_no_fault() {
    let lint = |text: &str| {
        let mut promtool = Command::new(promtool());
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = promtool.spawn().expect("promtool starts");
        running.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("written");
        let ended = running.wait_with_output().expect("promtool ends");
        let said = [ended.stdout, ended.stderr].concat();
        (ended.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    assert_eq!(lint(&lively()), (true, String::new()));
    // It would say so.
    let (passes, said) = lint("# TYPE things counter\nthings 1\n");
    assert!(!passes && said.contains("things"), "{said}");
}

#[test]
fn the_manual_has_every_metric_and_no_other() {
    let manual = std::fs::read_to_string(root().join("docs/operate.md")).expect("the manual");
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| `sessionstore_")?.split_once('`'));
    let documented: BTreeSet<String> = rows.map(|(name, _)| format!("sessionstore_{name}")).collect();
    let told: BTreeSet<String> = declared(&lively()).into_keys().collect();
    assert_eq!(documented, told);
}

/// Every text in a JSON document under one of these names.
fn texts(json: &Value, names: &[&str], found: &mut Vec<String>) {
    match json {
        Value::Array(all) => all.iter().for_each(|one| texts(one, names, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if names.contains(&&**name) => found.push(text.clone()),
                    value => texts(value, names, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let file = std::fs::read_to_string(root().join("docs/grafana.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&file).expect("JSON");
    assert!(dashboard["uid"].is_string() && dashboard["title"].is_string() && dashboard["schemaVersion"].is_u64());
    assert!(dashboard["id"].is_null(), "an id is the database's that it is imported into");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have the same id");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap_or_else(|| panic!("no place: {panel}"));
        assert!(place("x") + place("w") <= 24, "{panel}");
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            assert!(taken.insert((place("x") + x, place("y") + y)), "it lies over another: {panel}");
        }
        if panel["type"] != "row" {
            assert!(!panel["title"].as_str().expect("a title").is_empty());
            assert!(!panel["targets"].as_array().expect("targets").is_empty(), "{panel}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        }
    }
    let mut expressions = Vec::new();
    texts(&dashboard, &["expr", "query"], &mut expressions);
    // What a metric is called in queries: histograms have three series.
    let mut series = BTreeSet::new();
    for (name, kind) in declared(&lively()) {
        match &*kind {
            "histogram" => series.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}"))),
            _ => drop(series.insert(name)),
        }
    }
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = expressions.iter().flat_map(|text| text.split(|letter| !is_word(letter)));
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("sessionstore_")).collect();
    for name in &named {
        assert!(series.contains(*name), "the dashboard names {name}, which there is not");
    }
    assert!(named.len() > 15, "{named:?}");
}

// ------------------------------------------------------------------ requests in the log

/// A client of a server that is a process, which is told the ids of its requests.
fn talk(serving: &Serving, query: &str, messages: &[Value]) {
    let address = serving.url.trim_start_matches("ws://");
    let stream = common::patient(std::net::TcpStream::connect(address).expect("connects"));
    let url = format!("{}/ws?{query}", serving.url);
    let (mut socket, _) = tungstenite::client(url, stream).expect("a WebSocket");
    for message in messages {
        socket.send(Message::text(message.to_string())).expect("sent");
        loop {
            let answer = socket.read().expect("an answer").into_text().expect("text");
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            if answer["id"] == message["id"] {
                break;
            }
        }
    }
}

#[test]
fn a_request_is_found_in_the_log_by_its_id() {
    let serving = Serving::start(&["--log-level", "info,sessionstore::server=trace", "--log-format", "json"]);
    let query = "room=lobby&peer=ana&join=join-1&name=Ana-Maria";
    let set = |id: &str, extra: Value| {
        let mut params = json!({"key": "the-key", "data": "the-value"});
        params.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        json!({"jsonrpc": "2.0", "id": id, "method": "set-metadata", "params": params})
    };
    talk(
        &serving,
        query,
        &[set("set-7", json!({})), set("set-8", json!({"if_change_version": 9})), set("\u{1b}\u{9b}[1m", json!({}))],
    );

    let line = |part: &str| -> Value { serde_json::from_str(&serving.process.stderr.with(part)).expect("JSON") };
    let fields = |line: &Value| {
        let field = |name: &str| line["fields"][name].as_str().unwrap_or("").to_owned();
        ["message", "room", "peer", "request"].map(field)
    };
    assert_eq!(fields(&line("join-1")), ["connected", "lobby", "ana", "join-1"]);
    let asked = line("set-7");
    assert_eq!(fields(&asked), ["a request", "lobby", "ana", "set-7"]);
    assert_eq!((&asked["level"], &asked["fields"]["method"]), (&json!("TRACE"), &json!("set-metadata")));
    assert_eq!(fields(&line("set-8")), ["a request", "lobby", "ana", "set-8"]);
    let refused = line("set-8");
    assert_eq!(fields(&refused), ["a request is refused", "lobby", "ana", "set-8"]);
    assert_eq!((&refused["level"], &refused["fields"]["error"]), (&json!("DEBUG"), &json!("VERSION_CONFLICT")));
    // An id is any text; a terminal is not to obey it.
    let odd = line("[1m");
    let shown = odd["fields"]["request"].as_str().expect("text");
    assert!(!shown.contains(char::is_control) && shown.contains("[1m"), "{shown:?}");

    let all = serving.process.stderr.so_far();
    for secret in ["the-value", "the-key", "Ana-Maria"] {
        assert!(!all.contains(secret), "{secret} is in the log: {all}");
    }
}

#[test]
fn the_program_serves_metrics() {
    let serving = Serving::start(&["--metrics"]);
    let mut stream = std::net::TcpStream::connect(serving.url.trim_start_matches("ws://")).expect("connects");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut common::patient(stream), &mut answer).expect("an answer");
    let version = format!("sessionstore_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
    assert!(answer.contains(&version), "{answer}");
}
