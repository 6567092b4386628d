//! One peer of each language in one room, each setting and each hearing all; and an operator, who prepared the room by
//! the HTTP API and is the author of what it set without being a peer.
//!
//! Rust plays here; `SESSIONSTORE_EVERYONE` names the programs of the others, a line each: a name, `=`, and a command
//! that is given the server's URL, the room, the peer's name and how many peers there are. `make test-everyone` has
//! them all; without the variable Rust plays with itself.

mod support;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use jsonwebtoken::{encode, EncodingKey, Header};
use serde_json::{json, Value as Json};
use sessionstore::{Client, ClientOptions, KeyChange, Selector, Server, ServerOptions, Store, Subscription, Value};
use support::SAFETY;

const ROOM: &str = "everyone";

const API_SECRET: &str = "an API secret for this test";

/// The name of the one who is no peer.
const OPERATOR: &str = "operator";

/// What each peer shows of itself: a text, an integer that no double holds, and a truth that is no number.
fn shown(name: &str) -> Json {
    json!({"from": name, "n": 9_007_199_254_740_993_i64, "on": true})
}

/// Sets what a peer would, before the first of them is there.
fn prepare(server: &Server, count: usize) {
    let claims = json!({"scope": "write", "name": OPERATOR, "exp": 4_000_000_000_u64});
    let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(API_SECRET.as_bytes())).expect("signed");
    let values = json!({format!("here/{OPERATOR}"): shown(OPERATOR), format!("heard/{OPERATOR}"): count});
    let url = format!("http://{}/v1/rooms/{ROOM}", server.local_addr());
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().timeout_global(Some(SAFETY)).build());
    let request = agent.post(url).header("Authorization", format!("Bearer {token}"));
    request.send_json(json!({"values": values})).expect("a room that is prepared");
}

/// Hears of the keys with a prefix that are set: what follows the prefix, which is also the author's name, and the value.
fn listen(store: &Store, prefix: &'static str) -> (Subscription, mpsc::Receiver<(String, Json)>) {
    let (tell, told) = mpsc::channel();
    let listener = move |change: KeyChange<'_>| {
        if let KeyChange::Event(event) = change {
            let name = event.change.key.strip_prefix(prefix).expect("of the prefix").to_owned();
            let author = event.change.author.as_ref().expect("somebody set it");
            assert_eq!((&*author.name, &*author.peer_id), (&*name, if name == OPERATOR { "" } else { &*name }));
            let _ = tell.send((name, serde_json::from_str(event.change.value.json()).expect("JSON")));
        }
    };
    (store.listen_to(&Selector::prefix(prefix), listener).expect("listens"), told)
}

/// Waits until so many different peers have set their key, each to what it must be.
fn hear(told: &mpsc::Receiver<(String, Json)>, count: usize, expected: impl Fn(&str) -> Json) -> BTreeSet<String> {
    let mut heard = BTreeSet::new();
    while heard.len() < count {
        let (name, shows) = told.recv_timeout(SAFETY).unwrap_or_else(|_| panic!("only {heard:?} were heard"));
        assert_eq!(shows, expected(&name), "{name}");
        heard.insert(name);
    }
    heard
}

fn play(url: &str, name: &str, count: usize) -> BTreeSet<String> {
    let options = ClientOptions { peer_id: name.into(), name: name.into(), ..ClientOptions::new(url, ROOM) };
    let client = Client::open(options, ()).expect("opens");
    let store = client.join_wait(SAFETY).expect("joins");
    let (_here, here) = listen(&store, "here/");
    let (_heard, heard) = listen(&store, "heard/");
    let set = |key: String, json: Json| {
        store.set(&key, Value::parse(&json.to_string()).expect("JSON")).wait(SAFETY).expect("set");
    };
    set(format!("here/{name}"), shown(name));
    let names = hear(&here, count, shown);
    set(format!("heard/{name}"), json!(count));
    assert_eq!(hear(&heard, count, |_| json!(count)), names);
    client.leave().wait(SAFETY).expect("leaves");
    names
}

#[test]
fn a_peer_of_each_language_sets_and_hears_all() {
    let options = ServerOptions { api_secret: Some(API_SECRET.into()), ..ServerOptions::default() };
    let server = Server::start(options).expect("a server");
    let programs = std::env::var("SESSIONSTORE_EVERYONE").unwrap_or_default();
    let programs: Vec<(&str, &str)> = (programs.lines().map(str::trim).filter(|line| !line.is_empty()))
        .map(|line| line.split_once('=').unwrap_or_else(|| panic!("{line} is no name and command")))
        .collect();
    let mut names: BTreeSet<String> = programs.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.extend(["rust".into(), "rust-too".into(), OPERATOR.into()]);
    let count = names.len();
    prepare(&server, count);
    let processes: Vec<_> = (programs.iter())
        .map(|(name, command)| {
            let script = format!("exec {command} \"$@\"");
            let arguments = ["-c", &script, name, &server.url(), ROOM, name, &count.to_string()];
            let process = Command::new("sh").args(arguments).stdout(Stdio::piped()).spawn();
            (name, process.unwrap_or_else(|error| panic!("{command}: {error}")))
        })
        .collect();
    std::thread::scope(|scope| {
        let url = server.url();
        let too = scope.spawn(move || play(&url, "rust-too", count));
        assert_eq!(play(&server.url(), "rust", count), names);
        assert_eq!(too.join().expect("the other one"), names);
    });
    for (name, process) in processes {
        let ended = process.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success(), "{name}: {}", ended.status);
        assert_eq!(said.trim(), format!("{name} heard {count}"));
    }
    support::patient("the room ends with its last peer", || server.stats().rooms == 0);
}
