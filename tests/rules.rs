//! Rules and tokens over real connections: what a role may not do is refused with the rule's name, what it
//! may not read it does not hear of, and both can change while everybody stays connected.

mod support;

use std::sync::mpsc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{encode, EncodingKey, Header};
use sessionstore::core::rules::Rules;
use sessionstore::{
    Check, Client, ClientOptions, Error, ErrorCode, KeyChange, LockOptions, Merge, PeerChange, PeerInfo, Selector,
    Server, Store, Transaction, UpdateListener, Value, Write,
};
use support::{patient, server_with, SAFETY};

const SECRET: &str = "correct-horse-battery";

const RULES: &str = r#"
see_peers = ["host"]

[[rule]]
name = "hosts may do everything"
roles = ["host"]
keys = ["*"]
allow = ["read", "write", "create", "remove", "lock"]

[[rule]]
name = "nobody else sees secrets"
roles = ["*"]
keys = ["secret/*"]
deny = ["read", "write", "create", "remove"]

[[rule]]
name = "everybody reads what is shown"
roles = ["*"]
keys = ["pinned", "hand/*", "secret/*"]
allow = ["read"]

[[rule]]
name = "one's own hand"
roles = ["viewer"]
keys = ["hand/{peer_id}"]
allow = ["write", "create", "remove"]

[[rule]]
name = "a vote each"
roles = ["viewer"]
keys = ["vote/{user_id}"]
allow = ["create"]
"#;

fn rules(text: &str) -> Option<Arc<Rules>> {
    Some(Arc::new(Rules::from_toml(text).expect("rules")))
}

fn server() -> Server {
    server_with(|options| options.rules = rules(RULES))
}

fn options(server: &Server, name: &str, role: &str) -> ClientOptions {
    ClientOptions {
        name: name.into(),
        peer_id: name.into(),
        user_id: format!("{name}@example.org"),
        role: role.into(),
        ..ClientOptions::new(server.url(), "room")
    }
}

fn join(server: &Server, name: &str, role: &str) -> (Client, Store) {
    let client = Client::open(options(server, name, role), ()).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    (client, store)
}

fn listen(store: &Store, selector: &Selector) -> (sessionstore::Subscription, mpsc::Receiver<String>) {
    let (told, heard) = mpsc::channel();
    let shown = |change: KeyChange<'_>| match change {
        KeyChange::Event(event) => format!("{}={}", event.change.key, event.change.value.json()),
        KeyChange::SnapshotEnd => "end".into(),
        KeyChange::Refused(error) => error.to_string(),
    };
    let listener = move |change: KeyChange<'_>| drop(told.send(shown(change)));
    (store.listen_to(selector, listener).unwrap(), heard)
}

fn next(heard: &mpsc::Receiver<String>) -> String {
    heard.recv_timeout(SAFETY).expect("the listener should have been told something")
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, why: &str) {
    let error = outcome.expect_err("the rules do not allow it");
    assert_eq!(error.code(), ErrorCode::Forbidden, "{error}");
    assert!(error.message().contains(why), "{error}");
    assert!(error.current().is_none(), "nothing is told to one who may not know");
}

#[test]
fn each_role_does_what_its_rules_allow_and_nothing_else() {
    let server = server();
    let ((_h, host), (_v, viewer)) = (join(&server, "host", "host"), join(&server, "eve", "viewer"));
    host.set("pinned", "hello".into()).wait(SAFETY).unwrap();
    host.set("secret/plan", 1.into()).wait(SAFETY).unwrap();
    assert_eq!(viewer.get("pinned").wait(SAFETY).unwrap().value.json(), "\"hello\"");
    viewer.set("hand/eve", true.into()).wait(SAFETY).unwrap();
    viewer.remove("hand/eve").wait(SAFETY).unwrap();
    refused(viewer.set("hand/adam", true.into()).wait(SAFETY), "no rule");
    refused(viewer.set("pinned", "mine".into()).wait(SAFETY), "no rule");
    refused(viewer.set_if("pinned", "mine".into(), 7).wait(SAFETY), "no rule");
    refused(viewer.remove("pinned").wait(SAFETY), "no rule");
    refused(viewer.get("secret/plan").wait(SAFETY), "nobody else sees secrets");
    refused(viewer.set("secret/plan", 2.into()).wait(SAFETY), "nobody else sees secrets");
    refused(viewer.merge("secret/plan", Merge::Add(1.into())).wait(SAFETY), "nobody else sees secrets");
    refused(viewer.lock("l", LockOptions::default(), |_| ()).wait(SAFETY), "no rule");
    refused(viewer.read(&Selector::keys(["pinned", "secret/plan"])).wait(SAFETY), "nobody else sees secrets");
    // To create is not to change, and what may not be read is not read by writing.
    viewer.set("vote/eve@example.org", 1.into()).wait(SAFETY).unwrap();
    refused(viewer.set("vote/eve@example.org", 2.into()).wait(SAFETY), "no rule");
    refused(viewer.merge("vote/eve@example.org", Merge::Add(1.into())).wait(SAFETY), "no rule");
    refused(viewer.get("vote/eve@example.org").wait(SAFETY), "no rule");
    // Whether there is something one may not read is not told by a refusal either.
    let told = |key: &str| viewer.set(key, 1.into()).wait(SAFETY).unwrap_err().message().to_owned();
    assert_eq!(told("secret/plan"), told("secret/none"));
    // A transaction names the part at fault.
    let transaction = Transaction {
        checks: vec![Check::Exists { key: "pinned".into() }],
        writes: vec![Write::set("hand/eve", true.into()), Write::set("pinned", "mine".into())],
    };
    let error = viewer.transact(transaction).wait(SAFETY).unwrap_err();
    assert_eq!((error.code(), error.check(), error.write()), (ErrorCode::Forbidden, None, Some(1)));
    let spying = Transaction { checks: vec![Check::Exists { key: "secret/plan".into() }], writes: vec![] };
    let error = viewer.transact(spying).wait(SAFETY).unwrap_err();
    assert_eq!((error.code(), error.check()), (ErrorCode::Forbidden, Some(0)));
    // Nothing of it had an effect.
    assert_eq!(host.get("hand/eve").wait(SAFETY).unwrap().version, 0);
    assert_eq!(viewer.keys("").wait(SAFETY).unwrap(), ["pinned"], "only what may be read is listed");
    assert_eq!(host.keys("").wait(SAFETY).unwrap(), ["pinned", "secret/plan", "vote/eve@example.org"]);
    host.lock("l", LockOptions::default(), |_| ()).wait(SAFETY).unwrap();
}

#[test]
fn a_listener_hears_of_what_it_may_read() {
    let server = server();
    let ((_h, host), (_v, viewer)) = (join(&server, "host", "host"), join(&server, "eve", "viewer"));
    let (_everything, heard) = listen(&viewer, &Selector::all());
    let (_secret, told) = listen(&viewer, &Selector::keys(["secret/plan", "pinned"]));
    let (_pinned, pinned) = listen(&viewer, &Selector::keys(["pinned"]));
    assert_eq!(next(&heard), "end");
    assert!(next(&told).contains("nobody else sees secrets"), "a key that may not be read is refused by its rule");
    assert_eq!((next(&pinned), next(&pinned)), ("pinned=null".into(), "end".into()), "others go on");
    for key in ["secret/plan", "pinned", "other", "hand/host"] {
        host.set(key, 1.into()).wait(SAFETY).unwrap();
    }
    // In one revision, each hears of its part of it.
    let both = vec![Write::set("secret/plan", 2.into()), Write::set("pinned", 2.into())];
    host.transact(Transaction { checks: vec![], writes: both }).wait(SAFETY).unwrap();
    assert_eq!([next(&heard), next(&heard), next(&heard)], ["pinned=1", "hand/host=1", "pinned=2"]);
}

#[test]
fn rules_that_change_count_at_once_for_everybody_who_is_connected() {
    let server = server();
    let ((_h, host), (_v, viewer)) = (join(&server, "host", "host"), join(&server, "eve", "viewer"));
    host.set("pinned", 1.into()).wait(SAFETY).unwrap();
    host.set("hand/host", 1.into()).wait(SAFETY).unwrap();
    let (_everything, heard) = listen(&viewer, &Selector::all());
    let (_pinned, told) = listen(&viewer, &Selector::keys(["pinned"]));
    let (_hosts, hosts) = listen(&host, &Selector::all());
    assert_eq!([next(&heard), next(&heard), next(&heard)], ["hand/host=1", "pinned=1", "end"]);
    assert_eq!([next(&told), next(&told)], ["pinned=1", "end"]);
    assert_eq!([next(&hosts), next(&hosts), next(&hosts)], ["hand/host=1", "pinned=1", "end"]);
    // Pins are taken from viewers, secrets are given to them.
    let changed = RULES.replace("[\"pinned\", \"hand/*\"", "[\"hand/*\"").replace("deny = [\"read\", ", "deny = [");
    server.set_rules(rules(&changed));
    assert!(next(&told).contains("FORBIDDEN"));
    assert_eq!(next(&heard), "pinned=null", "gone for who may not read it any more");
    host.set("pinned", 2.into()).wait(SAFETY).unwrap();
    host.set("secret/plan", 2.into()).wait(SAFETY).unwrap();
    assert_eq!(next(&heard), "secret/plan=2");
    assert_eq!([next(&hosts), next(&hosts)], ["pinned=2", "secret/plan=2"]);
    // Without rules everybody may do everything.
    server.set_rules(None);
    assert_eq!(next(&heard), "pinned=2");
    patient("the right to write", || viewer.set("pinned", 3.into()).wait(SAFETY).is_ok());
}

/// The rules that docs/rules.md offers, in force in a webinar.
#[test]
fn a_webinar_is_held_under_the_rules_of_the_docs() {
    let webinar = include_str!("../docs/rules/webinar.toml");
    let server = server_with(|options| options.rules = rules(webinar));
    let (_h, host) = join(&server, "host", "host");
    let (_s, speaker) = join(&server, "sam", "speaker");
    let (eves, eve) = join(&server, "eve", "viewer");
    let (_v, viewer) = join(&server, "vic", "viewer");
    let (_all, seen) = listen(&viewer, &Selector::all());
    let (_hands, hands) = listen(&host, &Selector::prefix("hand/"));
    let (_votes, votes) = listen(&host, &Selector::prefix("poll/vote/"));
    assert_eq!([next(&seen), next(&hands), next(&votes)], ["end", "end", "end"]);

    // Hosts pin and spotlight, and nobody else.
    host.set("pinned", "Welcome".into()).wait(SAFETY).unwrap();
    host.set("spotlight", "sam".into()).wait(SAFETY).unwrap();
    assert_eq!([next(&seen), next(&seen)], ["pinned=\"Welcome\"", "spotlight=\"sam\""]);
    for other in [&speaker, &viewer] {
        refused(other.set("pinned", "mine".into()).wait(SAFETY), "no rule");
        refused(other.remove("spotlight").wait(SAFETY), "no rule");
        refused(other.set("spotlight/2", "me".into()).wait(SAFETY), "no rule");
    }

    // Viewers raise their own hands, which go with them; hosts lower any.
    let hand = |name: &str| format!("hand/{name}");
    let raised = |name: &str| Write { bound: Some(true), key: hand(name).into(), ..Write::set("", true.into()) };
    eve.write(raised("eve"), None).wait(SAFETY).unwrap();
    viewer.write(raised("vic"), None).wait(SAFETY).unwrap();
    refused(viewer.write(raised("sam"), None).wait(SAFETY), "no rule");
    refused(viewer.remove("hand/eve").wait(SAFETY), "no rule");
    assert_eq!([next(&hands), next(&hands)], ["hand/eve=true", "hand/vic=true"]);
    host.remove("hand/vic").wait(SAFETY).unwrap();
    assert_eq!(next(&hands), "hand/vic=null");
    assert_eq!([next(&seen), next(&seen), next(&seen)], ["hand/eve=true", "hand/vic=true", "hand/vic=null"]);

    // Each has one vote, which only hosts see beside.
    host.set("poll/question", "Tea?".into()).wait(SAFETY).unwrap();
    eve.set("poll/vote/eve@example.org", "yes".into()).wait(SAFETY).unwrap();
    viewer.set("poll/vote/vic@example.org", "no".into()).wait(SAFETY).unwrap();
    refused(viewer.set("poll/vote/eve@example.org", "no".into()).wait(SAFETY), "no rule");
    refused(viewer.get("poll/vote/eve@example.org").wait(SAFETY), "no rule");
    assert_eq!(
        [next(&votes), next(&votes)],
        ["poll/vote/eve@example.org=\"yes\"", "poll/vote/vic@example.org=\"no\"",]
    );
    assert_eq!([next(&seen), next(&seen)], ["poll/question=\"Tea?\"", "poll/vote/vic@example.org=\"no\""]);
    drop(eves);
    assert_eq!([next(&hands), next(&seen)], ["hand/eve=null", "hand/eve=null"]);

    // Speakers present in turn, and everybody sees who does.
    let (_presenter, presents) = listen(&viewer, &Selector::keys(["$lock/presenter"]));
    assert_eq!([next(&presents), next(&presents)], ["$lock/presenter=null", "end"]);
    let brief = LockOptions { ttl_ms: 3_000, wait_ms: 0 };
    let (lost, why) = mpsc::channel();
    let held = speaker.lock("presenter", brief, move |error| drop(lost.send(error))).wait(SAFETY).unwrap();
    assert_eq!(next(&presents), format!("$lock/presenter={{\"holder\":\"sam\",\"token\":{}}}", held.token()));
    refused(viewer.lock("presenter", brief, |_| ()).wait(SAFETY), "no rule");
    refused(speaker.lock("another", brief, |_| ()).wait(SAFETY), "no rule");

    // That speakers present is taken back: who presents is told, and the next begins.
    server.set_rules(rules(&webinar.replace("keys = [\"presenter\"]", "keys = [\"nothing\"]")));
    let waits = LockOptions { ttl_ms: 1_000, wait_ms: 60_000 };
    let next_holder = host.lock("presenter", waits, |_| ()).wait(SAFETY).unwrap();
    let error = why.recv_timeout(SAFETY).expect("who held it is told");
    assert_eq!(error, ErrorCode::Forbidden, "{error}");
    assert!(!held.is_held() && next_holder.token() > held.token());

    // Who has none of these roles is alone, and sees nothing.
    let (stranger, store) = join(&server, "who", "stranger");
    assert_eq!((stranger.peers().len(), store.keys("").wait(SAFETY).unwrap().len()), (1, 0));
}

/// Tells of other peers, and of tokens.
struct Told(mpsc::Sender<String>);

impl UpdateListener for Told {
    fn on_peer(&mut self, change: PeerChange, peer: &Arc<PeerInfo>) {
        let _ = self.0.send(format!("{} {change:?} as {}", peer.peer_id, peer.role));
    }

    fn on_token_expiring(&mut self, _: u64) {
        let _ = self.0.send("expiring".into());
    }

    fn on_connection_state(&mut self, state: sessionstore::ConnectionState, error: Option<&Error>) {
        if state == sessionstore::ConnectionState::Closed {
            let _ = self.0.send(format!("closed: {}", error.map_or("", |error| error.code().name())));
        }
    }
}

#[test]
fn who_may_not_know_of_others_is_alone_in_its_list() {
    let server = server();
    let (sees, hosts) = mpsc::channel();
    let host = Client::open(options(&server, "host", "host"), Told(sees)).unwrap();
    host.join_wait(SAFETY).unwrap();
    let (does_not, viewers) = mpsc::channel();
    let viewer = Client::open(options(&server, "eve", "viewer"), Told(does_not)).unwrap();
    let store = viewer.join_wait(SAFETY).unwrap();
    assert_eq!(next(&hosts), "eve Joined as viewer");
    let (_more, _) = join(&server, "adam", "viewer");
    assert_eq!(next(&hosts), "adam Joined as viewer");
    // Whatever was sent of peers would have come before this answer.
    store.usage().wait(SAFETY).unwrap();
    assert_eq!(viewer.peers().len(), 1);
    assert!(viewers.try_recv().is_err());
    assert_eq!(host.peers().len(), 3);
    server.set_rules(None);
    let mut told = [next(&viewers), next(&viewers)];
    told.sort();
    assert_eq!(told, ["adam Joined as viewer", "host Joined as host"]);
}

fn token(role: &str, user: &str, seconds: u64) -> String {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds;
    let claims = serde_json::json!({"room_id": "room", "user_id": user, "role": role, "exp": expires});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn guarded() -> Server {
    server_with(|options| {
        options.rules = rules(RULES);
        options.secret = Some(SECRET.into());
        // Tokens are looked after as often as silence is.
        options.ping_interval_ms = 200;
    })
}

fn with_token(server: &Server, token: String) -> (Client, Store, mpsc::Receiver<String>) {
    let (told, heard) = mpsc::channel();
    let options = ClientOptions { token: Some(token), ..ClientOptions::new(server.url(), "room") };
    let client = Client::open(options, Told(told)).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    (client, store, heard)
}

#[test]
fn a_connection_is_warned_and_ends_with_its_token() {
    let server = guarded();
    let (client, store, told) = with_token(&server, token("host", "ada", 1));
    assert_eq!(next(&told), "expiring");
    assert_eq!(next(&told), "closed: TOKEN_EXPIRED");
    assert_eq!(store.set("a", 1.into()).wait(SAFETY).unwrap_err(), ErrorCode::Closed);
    drop(client);
}

#[test]
fn a_fresh_token_goes_on_without_a_break_and_may_bring_another_role() {
    let server = guarded();
    let (watching, _store, watched) = with_token(&server, token("host", "watcher", 3_600));
    let (client, store, told) = with_token(&server, token("viewer", "ada", 20));
    let peer_id = client.peer_id().to_owned();
    assert_eq!(next(&watched), format!("{peer_id} Joined as viewer"));
    assert_eq!(next(&told), "expiring");
    refused(store.set("pinned", 1.into()).wait(SAFETY), "no rule");
    for (token, code) in [
        (token("host", "somebody else", 60), ErrorCode::Unauthorized),
        ("nonsense".into(), ErrorCode::Unauthorized),
        ("not a header\n".into(), ErrorCode::Unauthorized),
        // Nobody could come back with it.
        (token("", "ada", 60), ErrorCode::InvalidPeer),
    ] {
        assert_eq!(client.renew_token(&token).wait(SAFETY).unwrap_err(), code);
    }
    refused(store.set("pinned", 1.into()).wait(SAFETY), "no rule");
    let (_everything, heard) = listen(&store, &Selector::all());
    assert_eq!(next(&heard), "end");
    client.renew_token(&token("host", "ada", 3_600)).wait(SAFETY).unwrap();
    let own = |peers: Vec<std::sync::Arc<PeerInfo>>| peers.into_iter().find(|peer| *peer.peer_id == *peer_id);
    assert_eq!(&*own(client.peers()).expect("it is there").role, "host", "it knows its own role");
    store.set("pinned", Value::from(1)).wait(SAFETY).unwrap();
    store.set("secret/plan", Value::from(1)).wait(SAFETY).unwrap();
    assert_eq!([next(&heard), next(&heard)], ["pinned=1", "secret/plan=1"]);
    assert_eq!(next(&watched), format!("{peer_id} Updated as host"));
    assert_eq!(next(&told), format!("{} Joined as host", watching.peer_id()), "hosts see who is in the room");
    let open = support::server();
    let (client, _store) = join(&open, "p", "guest");
    assert_eq!(client.renew_token("a.b.c").wait(SAFETY).unwrap_err(), ErrorCode::InvalidArgument);
}
