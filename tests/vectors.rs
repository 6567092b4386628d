//! Plays the test vectors with the Rust API; tests/vectors/README.md says what they mean.

mod support;

use std::collections::BTreeMap;
use std::sync::{mpsc, Arc};

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Map, Value as Json};
use sessionstore::core::rules::Rules;
use sessionstore::{
    Cause, Change, Check, Client, ClientOptions, Error, ErrorCode, Expiry, KeyChange, Kind, Lock, LockOptions, Merge,
    Operation, Selector, Server, ServerOptions, Store, Subscription, Transaction, Usage, Value, Write,
};
use support::SAFETY;

const ERRORS: &str = include_str!("vectors/errors.json");
const VALUES: &str = include_str!("vectors/values.json");
const SCENARIOS: &str = include_str!("vectors/scenarios.json");

/// The file as the table of codes makes it.
fn errors_file() -> String {
    let lines: Vec<String> = (ErrorCode::ALL.iter())
        .map(|code| {
            let (number, name, retryable) = (*code as i32, code.name(), code.is_retryable());
            format!(r#"  {{"number": {number}, "name": "{name}", "retryable": {retryable}}}"#)
        })
        .collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

#[test]
fn errors_are_those_of_the_table() {
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/errors.json");
        std::fs::write(path, errors_file()).expect("written");
        return;
    }
    assert!(ERRORS == errors_file(), "run `UPDATE_VECTORS=1 cargo test --test vectors`");
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Values {
    values: Vec<Stored>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    name: String,
    json: String,
    stored: Option<String>,
    kind: String,
    #[serde(default)]
    absent: bool,
    string: Option<String>,
    integer: Option<String>,
    number: Option<f64>,
    boolean: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    name: String,
    json: String,
    error: String,
    /// For languages whose values are no texts.
    #[serde(rename = "text_only")]
    _text_only: bool,
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Boolean => "boolean",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::String => "string",
        Kind::Array => "array",
        Kind::Object => "object",
    }
}

/// What a getter gives is what stands in the vector, or it is of another type.
fn same<T: PartialEq + std::fmt::Debug>(name: &str, got: Result<T, Error>, expected: Option<T>) {
    match expected {
        Some(expected) => assert_eq!(got.unwrap(), expected, "{name}"),
        None => assert_eq!(got.unwrap_err().code(), ErrorCode::WrongType, "{name}"),
    }
}

fn look_at(vector: &Stored, value: &Value) {
    let name = &vector.name;
    assert_eq!(value.json(), vector.stored.as_ref().unwrap_or(&vector.json), "{name}");
    assert_eq!(kind(value.kind()), vector.kind, "{name}");
    same(name, value.as_text().map(|text| text.into_owned()), vector.string.clone());
    same(name, value.as_integer().map(|integer| integer.to_string()), vector.integer.clone());
    same(name, value.as_number(), vector.number);
    same(name, value.as_boolean(), vector.boolean);
}

#[test]
fn values() {
    let vectors: Values = serde_json::from_str(VALUES).expect("the file");
    let server = Server::start(ServerOptions::default()).expect("a server");
    let join = |name: &str| {
        let client =
            Client::open(ClientOptions { peer_id: name.into(), ..ClientOptions::new(server.url(), "room") }, ());
        let client = client.expect("opens");
        let store = client.join_wait(SAFETY).expect("joins");
        let (tell, told) = mpsc::channel();
        let listener = move |change: KeyChange<'_>| {
            if let KeyChange::Event(event) = change {
                let _ = tell.send(event.change.clone());
            }
        };
        let subscription = store.listen(&["value"], listener).expect("listens");
        assert!(told.recv_timeout(SAFETY).expect("the current value").value.is_null());
        (client, store, subscription, told)
    };
    let (_ada, ada, _adas, ada_hears) = join("ada");
    let (_bob, bob, _bobs, bob_hears) = join("bob");
    for vector in &vectors.values {
        ada.set("value", Value::from("before")).wait(SAFETY).expect("set");
        let value = Value::parse(&vector.json).unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        look_at(vector, &value);
        let set = ada.set("value", value).wait(SAFETY).unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        look_at(vector, &set.value);
        for (store, hears) in [(&ada, &ada_hears), (&bob, &bob_hears)] {
            assert_eq!(hears.recv_timeout(SAFETY).expect("heard").value, Value::from("before"), "{}", vector.name);
            look_at(vector, &hears.recv_timeout(SAFETY).expect("heard").value);
            look_at(vector, &store.get("value").wait(SAFETY).expect("got").value);
            let cached = store.cached("value").expect("it is listened to");
            look_at(vector, &cached.value);
            let keys = store.keys("").wait(SAFETY).expect("keys");
            assert_eq!(keys.is_empty(), vector.absent, "{}", vector.name);
        }
    }
    for Refused { name, json, error, .. } in &vectors.refused {
        assert_eq!(Value::parse(json).unwrap_err().code().name(), error, "{name}");
    }
}

/// The members of an object, taken out one by one: what is left at the end nobody knew.
struct Members {
    of: String,
    left: Map<String, Json>,
}

impl Members {
    fn of(what: impl ToString, object: &Json) -> Members {
        let of = what.to_string();
        let left = object.as_object().unwrap_or_else(|| panic!("{of} is no object")).clone();
        Members { of, left }
    }

    fn maybe<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let member = self.left.remove(name)?;
        Some(serde_json::from_value(member).unwrap_or_else(|error| panic!("{}: {name}: {error}", self.of)))
    }

    fn take<T: DeserializeOwned>(&mut self, name: &str) -> T {
        self.maybe(name).unwrap_or_else(|| panic!("{}: there is no {name}", self.of))
    }

    fn flag(&mut self, name: &str) -> bool {
        self.maybe(name).unwrap_or(false)
    }

    fn value(&mut self, name: &str) -> Value {
        Value::parse(&self.take::<String>(name)).expect("JSON")
    }

    fn selector(&mut self) -> Selector {
        let all: Option<String> = self.flag("all").then(String::new);
        let prefixes: Vec<String> = self.maybe("prefixes").unwrap_or_default();
        Selector { keys: self.maybe("keys").unwrap_or_default(), prefixes: prefixes.into_iter().chain(all).collect() }
    }

    /// A write without its condition on a lock.
    fn write(&mut self) -> Write<'static> {
        let operation: String = self.take("operation");
        let operation = match operation.as_str() {
            "set" => Operation::Set(self.value("json")),
            "add" => Operation::Merge(Merge::Add(self.value("json"))),
            "patch" => Operation::Merge(Merge::Patch(self.value("json"))),
            "set_add" => Operation::Merge(Merge::SetAdd(self.value("json").as_elements().expect("an array"))),
            "set_remove" => Operation::Merge(Merge::SetRemove(self.value("json").as_elements().expect("an array"))),
            "append" => Operation::Merge(Merge::Append {
                values: self.value("json").as_elements().expect("an array"),
                cap: self.maybe("cap"),
            }),
            "touch" => Operation::Touch,
            other => panic!("{}: the operation {other} is unknown", self.of),
        };
        let (keep, never) = (self.flag("keep_expiry"), self.flag("never_expires"));
        let (bound, unbound) = (self.flag("bound"), self.flag("unbound"));
        Write {
            key: self.take::<String>("key").into(),
            operation,
            expected: self.maybe("if_version"),
            expiry: (self.maybe("ttl_ms").map(Expiry::After))
                .or(keep.then_some(Expiry::Keep))
                .or(never.then_some(Expiry::Never)),
            bound: bound.then_some(true).or(unbound.then_some(false)),
        }
    }

    fn done(self) {
        assert!(self.left.is_empty(), "{}: not known: {:?}", self.of, self.left);
    }
}

fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Written => "written",
        Cause::Expired => "expired",
        Cause::PeerLeft => "peer_left",
        Cause::Cleared => "cleared",
    }
}

/// Whether a state is as it should be; `members` may be more than those of a state.
fn compare(members: &mut Members, change: &Change) {
    let of = members.of.clone();
    assert_eq!(members.take::<String>("key"), *change.key, "{of}");
    assert_eq!(members.take::<String>("json"), change.value.json(), "{of}");
    if let Some(version) = members.maybe::<u64>("version") {
        assert_eq!(change.version, version, "{of}: version");
    }
    if let Some(expires) = members.maybe::<bool>("expires") {
        assert_eq!(change.expires_at != 0, expires, "{of}: expires");
    }
    if let Some(author) = members.left.remove("author") {
        let peer_id = change.author.as_ref().map(|author| author.peer_id.to_string());
        assert_eq!(json!(peer_id), author, "{of}: author");
    }
    if let Some(user_id) = members.maybe::<String>("user_id") {
        assert_eq!(*change.author.as_ref().expect("an author").user_id, user_id, "{of}: user_id");
    }
}

fn compare_state(of: &str, expected: &Json, change: &Change) {
    let mut members = Members::of(of, expected);
    compare(&mut members, change);
    members.done();
}

/// What a listener was told.
enum Told {
    Change(Arc<Change>, bool),
    SnapshotEnd,
    Refused(ErrorCode),
}

struct Watch {
    subscription: Subscription,
    /// Ends when the listener is dropped.
    told: mpsc::Receiver<Told>,
    dropped: bool,
}

impl Watch {
    fn expect(&mut self, of: &str, expected: &Json) {
        let told = self.told.recv_timeout(SAFETY);
        match (told, expected) {
            (Ok(Told::SnapshotEnd), Json::String(mark)) if mark == "snapshot_end" => {}
            (Err(mpsc::RecvTimeoutError::Disconnected), Json::String(mark)) if mark == "dropped" => self.dropped = true,
            (Ok(Told::Refused(code)), Json::Object(members)) if members.contains_key("refused") => {
                assert_eq!(json!({"refused": code.name()}), *expected, "{of}");
            }
            (Ok(Told::Change(change, snapshot)), Json::Object(_)) => {
                let mut members = Members::of(format!("{of}: {expected}"), expected);
                compare(&mut members, &change);
                assert_eq!(snapshot, members.flag("snapshot"), "{}: snapshot", members.of);
                let expected: Option<String> = members.maybe("cause");
                assert_eq!(cause(change.cause), expected.as_deref().unwrap_or("written"), "{}", members.of);
                members.done();
            }
            (Ok(Told::Change(change, snapshot)), _) => panic!("{of}: {change:?} ({snapshot}) instead of {expected}"),
            (Ok(Told::SnapshotEnd), _) => panic!("{of}: the end of the snapshot instead of {expected}"),
            (Ok(Told::Refused(code)), _) => panic!("{of}: refused with {code:?} instead of {expected}"),
            (Err(end), _) => panic!("{of}: {end} instead of {expected}"),
        }
    }
}

struct Member {
    client: Client,
    store: Store,
    left: bool,
    watches: BTreeMap<String, Watch>,
    locks: BTreeMap<String, Lock>,
}

/// How an action ended that succeeded.
enum Outcome {
    Nothing,
    State(Option<Arc<Change>>),
    States(Vec<Arc<Change>>),
    Keys(Vec<String>),
    Peers(Vec<String>),
    Usage(Usage),
}

fn join(url: &str, peer: &str, members: &mut Members) -> Result<Member, Error> {
    let client = Client::open(
        ClientOptions {
            peer_id: peer.into(),
            name: peer.into(),
            role: members.maybe("role").unwrap_or_default(),
            user_id: members.maybe("user_id").unwrap_or_default(),
            fail_fast: true,
            ..ClientOptions::new(url, "room")
        },
        (),
    )?;
    let store = client.join_wait(SAFETY)?;
    Ok(Member { client, store, left: false, watches: BTreeMap::new(), locks: BTreeMap::new() })
}

impl Member {
    fn act(&mut self, action: &str, members: &mut Members) -> Result<Outcome, Error> {
        let store = &self.store;
        let state = |change: Arc<Change>| Outcome::State(Some(change));
        match action {
            "leave" => {
                self.client.leave().wait(SAFETY)?;
                self.left = true;
                Ok(Outcome::Nothing)
            }
            "listen" => {
                let (tell, told) = mpsc::channel();
                let listener = move |change: KeyChange<'_>| {
                    let _ = tell.send(match change {
                        KeyChange::Event(event) => Told::Change(event.change.clone(), event.snapshot),
                        KeyChange::SnapshotEnd => Told::SnapshotEnd,
                        KeyChange::Refused(error) => Told::Refused(error.code()),
                    });
                };
                let name = members.take("as");
                let subscription = store.listen_to(&members.selector(), listener)?;
                self.watches.insert(name, Watch { subscription, told, dropped: false });
                Ok(Outcome::Nothing)
            }
            "cancel" => {
                let watch = self.watches.get(&members.take::<String>("as")).expect("a subscription");
                watch.subscription.cancel_wait_for(SAFETY).map(|()| Outcome::Nothing)
            }
            "set" => store.set(&members.take::<String>("key"), members.value("json")).wait(SAFETY).map(state),
            "set_if_version" => {
                let (key, version) = (members.take::<String>("key"), members.take("version"));
                store.set_if(&key, members.value("json"), version).wait(SAFETY).map(state)
            }
            "remove" => store.remove(&members.take::<String>("key")).wait(SAFETY).map(state),
            "get" => store.get(&members.take::<String>("key")).wait(SAFETY).map(state),
            "cached" => Ok(Outcome::State(store.cached(&members.take::<String>("key")))),
            "add" => store.add(&members.take::<String>("key"), members.take("by")).wait(SAFETY).map(state),
            "write" => {
                let lock = members.maybe::<String>("lock").map(|name| self.locks[&name].guard());
                store.write(members.write(), lock).wait(SAFETY).map(state)
            }
            "update" => {
                let amount: i64 = members.take("add");
                let change = move |current: &Change| {
                    let now = if current.value.is_null() { 0 } else { current.value.as_integer().expect("an integer") };
                    Some(Value::from(now + amount))
                };
                store.update(&members.take::<String>("key"), change).wait(SAFETY).map(state)
            }
            "transact" => {
                let mut transaction = Transaction::default();
                for check in members.take::<Vec<Json>>("checks") {
                    let mut check = Members::of(format!("{}: {check}", members.of), &check);
                    transaction.checks.push(self.check(&mut check));
                    check.done();
                }
                for write in members.take::<Vec<Json>>("writes") {
                    let mut write = Members::of(format!("{}: {write}", members.of), &write);
                    transaction.writes.push(write.write());
                    write.done();
                }
                store.transact(transaction).wait(SAFETY).map(|snapshot| Outcome::States(snapshot.states))
            }
            "read" => {
                let snapshot = store.read(&members.selector()).wait(SAFETY)?;
                Ok(Outcome::States(snapshot.states))
            }
            "keys" => store.keys(&members.take::<String>("prefix")).wait(SAFETY).map(Outcome::Keys),
            "usage" => store.usage().wait(SAFETY).map(Outcome::Usage),
            "lock" => {
                let name: String = members.take("lock");
                let lock = store.lock(&name, LockOptions::default(), |_| ()).wait(SAFETY)?;
                self.locks.insert(name, lock);
                Ok(Outcome::Nothing)
            }
            "release" => self.locks[&members.take::<String>("lock")].release().wait(SAFETY).map(|()| Outcome::Nothing),
            "peers" => {
                let mut peers: Vec<String> = self.client.peers().iter().map(|peer| peer.peer_id.to_string()).collect();
                peers.sort();
                Ok(Outcome::Peers(peers))
            }
            other => panic!("{}: the action {other} is unknown", members.of),
        }
    }

    fn check(&self, members: &mut Members) -> Check<'static> {
        if let Some(name) = members.maybe::<String>("lock") {
            return Check::Lock(self.locks[&name].guard());
        }
        let key = members.take::<String>("key").into();
        if let Some(version) = members.maybe("version") {
            Check::Version { key, version }
        } else if members.flag("exists") {
            Check::Exists { key }
        } else if members.flag("absent") {
            Check::Absent { key }
        } else {
            Check::Equals { key, value: members.value("equals") }
        }
    }
}

/// Whether an action ended as its step says.
fn ended(members: &mut Members, outcome: Result<Outcome, Error>) {
    let of = members.of.clone();
    let outcome = match (members.maybe::<String>("error"), outcome) {
        (Some(expected), Err(error)) => {
            assert_eq!(error.code().name(), expected, "{of}: {error}");
            if let Some(current) = members.maybe::<Json>("current") {
                compare_state(&of, &current, error.current().expect("the current state"));
            }
            assert_eq!(error.check(), members.maybe("check"), "{of}: check");
            assert_eq!(error.write(), members.maybe("write"), "{of}: write");
            return;
        }
        (Some(expected), Ok(_)) => panic!("{of}: succeeded instead of {expected}"),
        (None, Err(error)) => panic!("{of}: {error}"),
        (None, Ok(outcome)) => outcome,
    };
    match outcome {
        Outcome::Nothing => {}
        Outcome::State(None) => assert_eq!(members.left.remove("state"), Some(Json::Null), "{of}: no state"),
        Outcome::State(Some(change)) => compare_state(&of, &members.take::<Json>("state"), &change),
        Outcome::States(states) => {
            let expected: Vec<Json> = members.take("states");
            assert_eq!(expected.len(), states.len(), "{of}: {states:?}");
            for (expected, state) in expected.iter().zip(&states) {
                compare_state(&of, expected, state);
            }
        }
        Outcome::Keys(keys) => assert_eq!(members.take::<Vec<String>>("keys"), keys, "{of}"),
        Outcome::Peers(peers) => assert_eq!(members.take::<Vec<String>>("peers"), peers, "{of}"),
        Outcome::Usage(usage) => {
            let told = json!({
                "revision": usage.revision, "keys": usage.keys, "max_keys": usage.max_keys, "bytes": usage.bytes,
                "max_bytes": usage.max_bytes, "max_value_bytes": usage.max_value_bytes,
            });
            let expected: Map<String, Json> = members.take("usage");
            assert!(!expected.is_empty(), "{of}");
            for (name, expected) in &expected {
                assert_eq!(&told[name], expected, "{of}: {name}");
            }
        }
    }
}

fn server(mut settings: Members) -> Server {
    let mut options = ServerOptions::default();
    let limits = &mut options.limits;
    for (name, limit) in [
        ("max_value_bytes", &mut limits.max_value_bytes),
        ("max_keys", &mut limits.max_keys),
        ("max_store_bytes", &mut limits.max_store_bytes),
        ("max_listened_keys", &mut limits.max_listened_keys),
        ("max_peers", &mut limits.max_peers),
    ] {
        *limit = settings.maybe(name).unwrap_or(*limit);
    }
    options.rules = settings.maybe("rules").map(|text: String| Arc::new(Rules::from_toml(&text).expect("rules")));
    settings.done();
    Server::start(options).expect("a server")
}

fn play(scenario: &Json) {
    let mut scenario = Members::of("a scenario", scenario);
    let name: String = scenario.take("name");
    assert!(!scenario.take::<String>("why").is_empty(), "{name}");
    let server = server(Members::of(&name, &scenario.take("server")));
    let mut present: BTreeMap<String, Member> = BTreeMap::new();
    for (nth, step) in scenario.take::<Vec<Json>>("steps").iter().enumerate() {
        let of = format!("{name}, step {nth}, {step}");
        let mut members = Members::of(&of, step);
        let peer: String = members.take("peer");
        if let Some(watch) = members.maybe::<String>("hears") {
            let member = present.get_mut(&peer).expect("a peer that joined");
            for expected in &members.take::<Vec<Json>>("events") {
                member.watches.get_mut(&watch).expect("a subscription").expect(&of, expected);
            }
        } else {
            let action: String = members.take("do");
            let outcome = if action == "join" {
                let joined = join(&server.url(), &peer, &mut members);
                joined.map(|member| drop(present.insert(peer, member))).map(|()| Outcome::Nothing)
            } else {
                present.get_mut(&peer).expect("a peer that joined").act(&action, &mut members)
            };
            ended(&mut members, outcome);
        }
        members.done();
    }
    scenario.done();
    for (peer, member) in &mut present {
        if !member.left {
            member.store.keys("").wait(SAFETY).expect("all that went before was told");
        }
        for (watch, watched) in member.watches.iter().filter(|(_, watched)| !watched.dropped) {
            assert!(watched.told.try_recv().is_err(), "{name}: {watch} of {peer} was told more");
        }
    }
}

#[test]
fn scenarios() {
    let scenarios: Vec<Json> = serde_json::from_str(SCENARIOS).expect("the file");
    assert!(!scenarios.is_empty());
    scenarios.iter().for_each(play);
}
