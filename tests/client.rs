//! The Rust client against a real server: the promises P1–P5 and P7 as an app sees them, and what a
//! broken connection does to them.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use sessionstore::{
    Client, ClientOptions, ConnectionState, Error, ErrorCode, KeyChange, Kind, LockOptions, PeerChange, PeerInfo,
    Selector, Store, ThreadHooks, Transaction, UpdateListener, Value, Write,
};
use support::{patient, Cable, SAFETY};

/// What a listener was told, as short text: `a=1`, `a=null`, `end`.
fn shown(change: KeyChange<'_>) -> String {
    match change {
        KeyChange::Event(event) => format!("{}={}", event.change.key, event.change.value.json()),
        KeyChange::SnapshotEnd => "end".into(),
        KeyChange::Refused(error) => error.code().name().into(),
    }
}

fn listen(store: &Store, keys: &[&str]) -> (sessionstore::Subscription, mpsc::Receiver<String>) {
    let (told, heard) = mpsc::channel();
    let subscription = store.listen(keys, move |change: KeyChange<'_>| drop(told.send(shown(change)))).unwrap();
    (subscription, heard)
}

fn next(heard: &mpsc::Receiver<String>) -> String {
    heard.recv_timeout(SAFETY).expect("the listener should have been told something")
}

fn join(url: &str, room: &str, name: &str) -> (Client, Store) {
    let options = ClientOptions { name: name.into(), ..ClientOptions::new(url, room) };
    let client = Client::open(options, ()).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    (client, store)
}

/// A client that has joined, and what it is told as a whole.
fn watched(options: ClientOptions) -> (Client, Store, mpsc::Receiver<Update>) {
    let (told, updates) = mpsc::channel();
    let client = Client::open(options, Updates(told)).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    (client, store, updates)
}

/// Sends everything the client as a whole is told.
struct Updates(mpsc::Sender<Update>);

#[derive(Debug, PartialEq)]
enum Update {
    Available,
    State(ConnectionState, Option<ErrorCode>),
    Peer(PeerChange, String),
    Error(ErrorCode),
    Dropped,
}

impl UpdateListener for Updates {
    fn on_store_available(&mut self, _: &Store) {
        let _ = self.0.send(Update::Available);
    }
    fn on_connection_state(&mut self, state: ConnectionState, error: Option<&Error>) {
        let _ = self.0.send(Update::State(state, error.map(Error::code)));
    }
    fn on_peer(&mut self, change: PeerChange, peer: &std::sync::Arc<PeerInfo>) {
        let _ = self.0.send(Update::Peer(change, peer.name.to_string()));
    }
    fn on_error(&mut self, error: &Error) {
        let _ = self.0.send(Update::Error(error.code()));
    }
}

impl Drop for Updates {
    fn drop(&mut self) {
        let _ = self.0.send(Update::Dropped);
    }
}

/// Reads on until what is wanted was told.
fn until(updates: &mpsc::Receiver<Update>, wanted: impl Fn(&Update) -> bool) -> Update {
    loop {
        let update = updates.recv_timeout(SAFETY).expect("the update listener should have been told");
        if wanted(&update) {
            return update;
        }
    }
}

#[test]
fn everyone_who_listens_is_told_first_the_snapshot_then_each_change() {
    let server = support::server();
    let (_ada, ada) = join(&server.url(), "room", "Ada");
    let (_bob, bob) = join(&server.url(), "room", "Bob");
    let (_one, heard) = listen(&bob, &["a", "b"]);
    assert_eq!([next(&heard), next(&heard), next(&heard)], ["a=null", "b=null", "end"]);
    let set = ada.set("a", Value::from(1)).wait(SAFETY).unwrap();
    assert_eq!((set.version, set.value.json()), (1, "1"));
    let author = set.author.as_ref().unwrap();
    assert_eq!(&*author.name, "Ada");
    assert_eq!(next(&heard), "a=1");
    bob.set("b", Value::from("x")).wait(SAFETY).unwrap();
    // Success is told after this client's listeners were told: no waiting here.
    assert_eq!(heard.try_recv().as_deref(), Ok("b=\"x\""));
    assert_eq!(bob.cached("b").unwrap().version, 2);
    ada.remove("a").wait(SAFETY).unwrap();
    assert_eq!(next(&heard), "a=null");
    assert_eq!(ada.get("a").wait(SAFETY).unwrap().value.kind(), Kind::Null);
    let (_two, late) = listen(&bob, &["b"]);
    assert_eq!([next(&late), next(&late)], ["b=\"x\"", "end"]);
}

#[test]
fn a_listener_that_panicked_is_stopped_as_any_other() {
    let server = support::server();
    let (_client, store) = join(&server.url(), "room", "Ada");
    let (told, heard) = mpsc::channel();
    let panics = move |_: KeyChange<'_>| {
        told.send(()).unwrap();
        panic!("planted")
    };
    let listening = store.listen(&["a"], panics).unwrap();
    heard.recv_timeout(SAFETY).expect("it is told");
    assert_eq!(heard.recv_timeout(SAFETY), Err(mpsc::RecvTimeoutError::Disconnected), "it is dropped at once");
    listening.cancel_wait_for(SAFETY).unwrap();
}

#[test]
fn a_conditional_write_conflicts_and_says_what_is_there() {
    let server = support::server();
    let (_client, store) = join(&server.url(), "room", "Ada");
    let first = store.set_if("k", Value::from(1), 0).wait(SAFETY).unwrap();
    let conflict = store.set_if("k", Value::from(2), 0).wait(SAFETY).unwrap_err();
    assert_eq!(conflict, ErrorCode::VersionConflict);
    assert_eq!(conflict.current().unwrap().version, first.version);
    assert_eq!(conflict.current().unwrap().value.json(), "1");
    store.set_if("k", Value::from(2), first.version).wait(SAFETY).unwrap();
    assert_eq!(store.get("k").wait(SAFETY).unwrap().value.json(), "2");
}

#[test]
fn peers_are_told_and_listed() {
    let server = support::server();
    let (told, updates) = mpsc::channel();
    let (_ada, _) = join(&server.url(), "room", "Ada");
    let options = ClientOptions { name: "Bob".into(), ..ClientOptions::new(server.url(), "room") };
    let bob = Client::open(options, Updates(told)).unwrap();
    bob.join_wait(SAFETY).unwrap();
    until(&updates, |update| *update == Update::Available);
    until(&updates, |update| *update == Update::Peer(PeerChange::Joined, "Ada".into()));
    let (carol, _) = join(&server.url(), "room", "Carol");
    until(&updates, |update| *update == Update::Peer(PeerChange::Joined, "Carol".into()));
    carol.update_peer(Some("Caroline"), Some("hand up")).wait(SAFETY).unwrap();
    until(&updates, |update| *update == Update::Peer(PeerChange::Updated, "Caroline".into()));
    let mut names: Vec<String> = bob.peers().iter().map(|peer| peer.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["Ada", "Bob", "Caroline"]);
    carol.leave().wait(SAFETY).unwrap();
    until(&updates, |update| *update == Update::Peer(PeerChange::Left, "Caroline".into()));
    drop(bob);
    until(&updates, |update| *update == Update::Dropped);
}

#[test]
fn the_store_goes_with_the_last_peer() {
    let server = support::server();
    let (client, store) = join(&server.url(), "room", "Ada");
    store.set("k", Value::from(1)).wait(SAFETY).unwrap();
    let before = store.session_id();
    client.leave().wait(SAFETY).unwrap();
    assert_eq!(store.set("k", Value::from(2)).wait(SAFETY).unwrap_err(), ErrorCode::Closed);
    let (_again, store) = join(&server.url(), "room", "Ada");
    assert_eq!(store.get("k").wait(SAFETY).unwrap().version, 0);
    assert_ne!(store.session_id(), before);
}

#[test]
fn a_cut_connection_comes_back_as_the_same_peer_and_reports_only_real_differences() {
    let server = support::server();
    let cable = Cable::to(server.local_addr());
    let (told, updates) = mpsc::channel();
    let options = ClientOptions { reconnect_min_ms: 1, name: "Ada".into(), ..ClientOptions::new(cable.url(), "room") };
    let ada = Client::open(options, Updates(told)).unwrap();
    let store = ada.join_wait(SAFETY).unwrap();
    let (_bob, bob) = join(&server.url(), "room", "Bob");
    for (key, value) in [("same", 1), ("other", 2), ("gone", 3)] {
        bob.set(key, Value::from(value)).wait(SAFETY).unwrap();
    }
    let (_listening, heard) = listen(&store, &["same", "other", "gone", "never"]);
    assert_eq!([(); 5].map(|()| next(&heard))[4], "end");
    cable.cut();
    until(&updates, |update| matches!(update, Update::State(ConnectionState::Reconnecting, Some(_))));
    bob.set("other", Value::from(20)).wait(SAFETY).unwrap();
    bob.remove("gone").wait(SAFETY).unwrap();
    // A request made meanwhile waits for the connection.
    let (sent, answered) = mpsc::channel();
    let told = move |result: Result<std::sync::Arc<sessionstore::Change>, Error>| {
        let _ = sent.send(result.map(|change| change.version));
    };
    store.get("other").on_result(told).unwrap();
    cable.mend();
    until(&updates, |update| *update == Update::State(ConnectionState::Connected, None));
    let mut differences = [next(&heard), next(&heard)];
    differences.sort();
    assert_eq!(differences, ["gone=null", "other=20"]);
    assert_eq!(answered.recv_timeout(SAFETY).unwrap().unwrap(), 4);
    bob.set("same", Value::from(10)).wait(SAFETY).unwrap();
    assert_eq!(next(&heard), "same=10", "nothing came between");
    assert_eq!(ada.peers().len(), 2, "the same peer, not a third");
}

#[test]
fn a_new_session_is_told_as_such_and_values_are_compared() {
    let server = support::server();
    let cable = Cable::to(server.local_addr());
    let options = ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(cable.url(), "room") };
    let (_client, store, updates) = watched(options);
    store.set("k", Value::from(1)).wait(SAFETY).unwrap();
    let (_listening, heard) = listen(&store, &["k"]);
    assert_eq!([next(&heard), next(&heard)], ["k=1", "end"]);
    cable.cut();
    until(&updates, |update| matches!(update, Update::State(ConnectionState::Reconnecting, _)));
    // Another server, where the room has never been open, answers at the same address.
    let other = support::server();
    cable.lead_to(other.local_addr());
    cable.mend();
    until(&updates, |update| *update == Update::Error(ErrorCode::SessionLost));
    assert_eq!(next(&heard), "k=null");
    store.set("k", Value::from(1)).wait(SAFETY).unwrap();
    assert_eq!(next(&heard), "k=1");
}

/// Versions begin anew with a session: the same number may stand for something else.
#[test]
fn an_update_that_was_computed_for_one_session_is_not_set_in_another() {
    for waits in [true, false] {
        let server = support::server();
        let cable = Cable::to(server.local_addr());
        let options = ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(cable.url(), "room") };
        let (_client, store, updates) = watched(options);
        store.set("k", Value::from(10)).wait(SAFETY).unwrap();
        let other = support::server();
        let (_bob, others) = join(&other.url(), "room", "Bob");
        others.set("k", Value::from(1_000)).wait(SAFETY).unwrap();

        let old = store.session_id();
        let (asked, computing) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel();
        let mut seen = Vec::new();
        let update = store.update("k", move |state| {
            seen.push(state.value.as_integer().unwrap());
            if seen.len() == 1 {
                asked.send(()).unwrap();
                goes_on.recv_timeout(SAFETY).unwrap();
            }
            Some(Value::from(state.value.as_integer().unwrap() + 1))
        });
        let (ended, result) = mpsc::channel();
        let updating = std::thread::spawn(move || match waits {
            true => drop(ended.send(update.wait(SAFETY))),
            false => update.within(SAFETY).on_result(move |outcome| drop(ended.send(outcome))).unwrap(),
        });
        computing.recv_timeout(SAFETY).unwrap();
        cable.cut();
        cable.lead_to(other.local_addr());
        cable.mend();
        // Where callbacks wait for the function, only this tells.
        patient("another session", || store.session_id() != old);
        go_on.send(()).unwrap();
        let state = result.recv_timeout(SAFETY).unwrap().unwrap();
        assert_eq!(state.value.json(), "1001", "waits: {waits}");
        updating.join().unwrap();
        until(&updates, |update| *update == Update::Error(ErrorCode::SessionLost));
    }
}

#[test]
fn a_peer_that_comes_back_is_called_what_it_was_called_last() {
    let server = support::server();
    let (keeper, _store) = join(&server.url(), "room", "Bob");
    let cable = Cable::to(server.local_addr());
    let options = ClientOptions { reconnect_min_ms: 1, name: "Ann".into(), ..ClientOptions::new(cable.url(), "room") };
    let (client, store, updates) = watched(options);
    client.update_peer(Some("Anna"), Some("speaks")).wait(SAFETY).unwrap();
    client.update_peer(None, Some("listens")).wait(SAFETY).unwrap();
    cable.cut();
    until(&updates, |update| matches!(update, Update::State(ConnectionState::Reconnecting, _)));
    cable.mend();
    until(&updates, |update| matches!(update, Update::State(ConnectionState::Connected, _)));
    // Its author is told before a change is.
    store.set("k", Value::from(1)).wait(SAFETY).unwrap();
    let called = |peers: Vec<std::sync::Arc<PeerInfo>>| {
        let own = peers.into_iter().find(|peer| *peer.peer_id == *client.peer_id()).expect("it is there");
        (own.name.to_string(), own.metadata.to_string())
    };
    let last = ("Anna".to_owned(), "listens".to_owned());
    assert_eq!(called(client.peers()), last);
    patient("the other peer to know", || called(keeper.peers()) == last);
    assert_eq!(&*store.get("k").wait(SAFETY).unwrap().author.as_ref().expect("an author").name, "Anna");
}

#[test]
fn after_the_grace_period_the_client_says_so_joins_anew_and_reports_the_differences() {
    let server = support::server_with(|options| options.limits.grace_ms = 1);
    let (_keeper, others) = join(&server.url(), "room", "Bob");
    let cable = Cable::to(server.local_addr());
    let options = ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(cable.url(), "room") };
    let (client, store, updates) = watched(options);
    for key in ["changed", "gone", "same"] {
        others.set(key, Value::from(1)).wait(SAFETY).unwrap();
    }
    let bound = Write { bound: Some(true), ..Write::set("hand", Value::from(1)) };
    store.write(bound, None).wait(SAFETY).unwrap();
    let (_listening, heard) = listen(&store, &["changed", "gone", "hand", "same"]);
    assert_eq!([(); 5].map(|()| next(&heard)), ["changed=1", "gone=1", "hand=1", "same=1", "end"]);
    cable.cut();
    until(&updates, |update| matches!(update, Update::State(ConnectionState::Reconnecting, _)));
    support::patient("the peer to be gone", || server.stats().peers == 1);
    others.set("changed", Value::from(2)).wait(SAFETY).unwrap();
    others.set("gone", Value::null()).wait(SAFETY).unwrap();
    cable.mend();
    until(&updates, |update| *update == Update::Error(ErrorCode::SessionLost));
    let mut differences = [(); 3].map(|()| next(&heard));
    differences.sort();
    assert_eq!(differences, ["changed=2", "gone=null", "hand=null"]);
    others.set("same", Value::from(2)).wait(SAFETY).unwrap();
    assert_eq!(next(&heard), "same=2", "it listens again, and nothing came between");
    assert_eq!(client.peers().len(), 2);
}

#[test]
fn writes_whose_answers_are_lost_are_sent_again_and_applied_once() {
    let server = support::server();
    let cable = Cable::to(server.local_addr());
    let options = ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(cable.url(), "room") };
    let client = Client::open(options, ()).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    cable.stall();
    let (sent, answered) = mpsc::channel();
    for number in 0..10 {
        let sent = sent.clone();
        // The answer says how often it was applied.
        let add = store.add("k", 10_i64.pow(number));
        let told = move |result: Result<std::sync::Arc<sessionstore::Change>, Error>| {
            let _ = sent.send(result.map(|state| state.value.json().to_owned()).map_err(|error| error.code()));
        };
        add.on_result(told).unwrap();
    }
    cable.wait_until_held();
    cable.cut();
    cable.mend();
    for number in 1..=10 {
        assert_eq!(answered.recv_timeout(SAFETY).unwrap(), Ok("1".repeat(number)));
    }
    assert_eq!(store.get("k").wait(SAFETY).unwrap().value.json(), "1111111111");
    drop((client, sent));
    patient("every result came once", || matches!(answered.try_recv(), Err(mpsc::TryRecvError::Disconnected)));
}

#[test]
fn a_server_that_stops_is_come_back_to_when_it_said() {
    let first = support::server_with(|options| options.come_back_ms = 1);
    let cable = Cable::to(first.local_addr());
    let (told, updates) = mpsc::channel();
    // By itself it would not come back in time.
    let (reconnect_min_ms, reconnect_max_ms) = (600_000, 600_000);
    let options = ClientOptions { reconnect_min_ms, reconnect_max_ms, ..ClientOptions::new(cable.url(), "room") };
    let client = Client::open(options, Updates(told)).unwrap();
    client.join_wait(SAFETY).unwrap();
    until(&updates, |update| *update == Update::State(ConnectionState::Connected, None));
    let second = support::server();
    cable.lead_to(second.local_addr());
    first.stop_wait(SAFETY).unwrap();
    until(&updates, |update| *update == Update::State(ConnectionState::Connected, None));
}

#[test]
fn refusals_end_a_client_and_failures_to_connect_do_not() {
    let server = support::server_with(|options| options.secret = Some("a secret of some length, for tests".into()));
    let (told, updates) = mpsc::channel();
    let client = Client::open(ClientOptions::new(server.url(), "room"), Updates(told)).unwrap();
    assert_eq!(client.join_wait(SAFETY).unwrap_err(), ErrorCode::Unauthorized);
    until(&updates, |update| *update == Update::State(ConnectionState::Closed, Some(ErrorCode::Unauthorized)));
    until(&updates, |update| *update == Update::Dropped);

    let unresolvable = ClientOptions { fail_fast: true, ..ClientOptions::new("ws://no-such-host.invalid:1", "room") };
    let client = Client::open(unresolvable, ()).unwrap();
    assert_eq!(client.join_wait(SAFETY).unwrap_err(), ErrorCode::HostNotFound);

    let open = support::server();
    let elsewhere = format!("{}/elsewhere", open.url());
    let client = Client::open(ClientOptions { fail_fast: true, ..ClientOptions::new(elsewhere, "room") }, ()).unwrap();
    assert_eq!(client.join_wait(SAFETY).unwrap_err(), ErrorCode::HandshakeFailed);

    // A server that comes up later is found.
    let cable = Cable::to(server.local_addr());
    cable.cut();
    let (told, updates) = mpsc::channel();
    let options = ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(cable.url(), "room") };
    let client = Client::open(options, Updates(told)).unwrap();
    until(&updates, |update| matches!(update, Update::State(ConnectionState::Connecting, Some(_))));
    let open = support::server();
    cable.lead_to(open.local_addr());
    cable.mend();
    client.join_wait(SAFETY).unwrap();
}

#[test]
fn the_same_peer_id_elsewhere_replaces_this_client_which_does_not_fight_back() {
    // Nobody else has its secret, so this takes a server that says so.
    let url = support::scripted(|mut socket| {
        let code = (4_000 + ErrorCode::Replaced.number() as u16).into();
        let frame = tungstenite::protocol::CloseFrame { code, reason: "another connection".into() };
        socket.close(Some(frame)).expect("said");
        while socket.read().is_ok() {}
    });
    let (told, updates) = mpsc::channel();
    let first = Client::open(ClientOptions::new(url, "room"), Updates(told)).unwrap();
    until(&updates, |update| *update == Update::State(ConnectionState::Closed, Some(ErrorCode::Replaced)));
    assert_eq!(first.state(), ConnectionState::Closed);
}

#[test]
fn a_peer_id_is_taken_over_by_nobody_and_free_when_its_peer_has_left() {
    let server = support::server();
    let options =
        ClientOptions { peer_id: "twin".into(), reconnect_min_ms: 1, ..ClientOptions::new(server.url(), "room") };
    let (told, first_updates) = mpsc::channel();
    let first = Client::open(options.clone(), Updates(told)).unwrap();
    first.join_wait(SAFETY).unwrap();
    let fast = Client::open(ClientOptions { fail_fast: true, ..options.clone() }, ()).unwrap();
    assert_eq!(fast.join_wait(SAFETY).unwrap_err(), ErrorCode::PeerInUse);
    let (told, updates) = mpsc::channel();
    let second = Client::open(options, Updates(told)).unwrap();
    until(&updates, |update| *update == Update::State(ConnectionState::Connecting, Some(ErrorCode::PeerInUse)));
    assert_eq!(first.state(), ConnectionState::Connected);
    first.leave().wait(SAFETY).unwrap();
    second.join_wait(SAFETY).unwrap();
    until(&first_updates, |update| *update == Update::Dropped);
}

#[test]
fn too_many_keys_end_the_listener_that_asked_and_no_other() {
    let server = support::server_with(|options| options.limits.max_listened_keys = 3);
    let (_client, store) = join(&server.url(), "room", "Ada");
    let (_few, heard) = listen(&store, &["a", "b"]);
    assert_eq!([next(&heard), next(&heard), next(&heard)], ["a=null", "b=null", "end"]);
    let (_many, refused) = listen(&store, &["c", "d"]);
    assert_eq!(next(&refused), "TOO_MANY_LISTENED_KEYS");
    assert!(refused.recv_timeout(SAFETY).is_err(), "the refused listener is dropped");
    let (_one, third) = listen(&store, &["c"]);
    assert_eq!([next(&third), next(&third)], ["c=null", "end"]);
    store.set("a", Value::from(1)).wait(SAFETY).unwrap();
    assert_eq!(next(&heard), "a=1");
}

#[test]
fn a_server_with_a_lower_limit_ends_the_listeners_and_not_the_client() {
    let server = support::server();
    let cable = Cable::to(server.local_addr());
    let options = ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(cable.url(), "room") };
    let client = Client::open(options, ()).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    let (_listening, heard) = listen(&store, &["a", "b", "c"]);
    assert_eq!([(); 4].map(|()| next(&heard))[3], "end");
    let strict = support::server_with(|options| options.limits.max_listened_keys = 2);
    cable.cut();
    cable.lead_to(strict.local_addr());
    cable.mend();
    assert_eq!(next(&heard), "TOO_MANY_LISTENED_KEYS");
    let (_fewer, heard) = listen(&store, &["a"]);
    assert_eq!([next(&heard), next(&heard)], ["a=null", "end"]);
}

#[test]
fn requests_have_deadlines_and_a_bound() {
    let server = support::server();
    let cable = Cable::to(server.local_addr());
    let options = ClientOptions { max_pending: 2, ..ClientOptions::new(cable.url(), "room") };
    let client = Client::open(options, ()).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    cable.stall();
    assert_eq!(store.get("k").wait(Duration::from_millis(1)).unwrap_err(), ErrorCode::Timeout);
    patient("the request that timed out makes room", || store.get("k").on_result(|_| ()).is_ok());
    let mut refused = None;
    for _ in 0..3 {
        refused = store.get("k").on_result(|_| ()).err().or(refused);
    }
    assert_eq!(refused.unwrap(), ErrorCode::QueueFull);
}

#[test]
fn awaiting_an_action_works_on_any_runtime() {
    let server = support::server();
    let (_client, store) = join(&server.url(), "room", "Ada");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let version = runtime.block_on(async {
        store.set("k", Value::from(true)).await.unwrap();
        store.get("k").await.unwrap().version
    });
    assert_eq!(version, 1);
}

#[test]
fn many_clients_share_one_network_thread() {
    let server = support::server();
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count());
    let before = threads();
    let polled = |_| {
        let wake: sessionstore::Hook = std::sync::Arc::new(|| ());
        Client::open(ClientOptions { wake: Some(wake), ..ClientOptions::new(server.url(), "room") }, ()).unwrap()
    };
    let clients: Vec<Client> = (0..200).map(polled).collect();
    for client in &clients {
        client.join_wait(SAFETY).unwrap();
    }
    // Other tests run beside this one; a thread for each client would show all the same.
    assert!(threads() < before + 100, "{before} threads before, {} now", threads());
}

#[test]
fn what_is_no_message_for_the_server_is_refused_without_losing_the_connection() {
    let server = support::server();
    let (told, updates) = mpsc::channel();
    let client = Client::open(ClientOptions::new(server.url(), "room"), Updates(told)).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    until(&updates, |update| *update == Update::State(ConnectionState::Connected, None));
    let large = store.set("a", Value::from(&*"x".repeat(70_000)));
    let error = large.wait(SAFETY).unwrap_err();
    assert_eq!(error, ErrorCode::MessageTooLarge);
    assert!(error.message().contains("65536"), "{error}");
    let keys: Vec<String> = (0..64).map(|nth| format!("key-{nth}")).collect();
    let full = Value::from(&*"x".repeat(1_020));
    let writes = keys.iter().map(|key| Write::set(key, full.clone())).collect();
    let transaction = Transaction { writes, ..Transaction::default() };
    assert_eq!(store.transact(transaction).wait(SAFETY).unwrap_err(), ErrorCode::MessageTooLarge);
    let many: Vec<String> = (0..1_000).map(|nth| format!("{nth:0100}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(store.read(&Selector::keys(many.iter().copied())).wait(SAFETY).unwrap_err(), ErrorCode::MessageTooLarge);
    // A listen set that does not fit ends the listener that came with it, and no other.
    let (_small, heard) = listen(&store, &["a"]);
    assert_eq!([next(&heard), next(&heard)], ["a=null", "end"]);
    let (_large, refused) = listen(&store, &many);
    assert_eq!(next(&refused), "MESSAGE_TOO_LARGE");
    store.set("a", Value::from(1)).wait(SAFETY).unwrap();
    assert_eq!(next(&heard), "a=1");
    assert!(!updates.try_iter().any(|update| matches!(update, Update::State(..))), "the connection never broke");
}

#[test]
fn a_server_that_takes_larger_messages_is_sent_them() {
    let server = support::server_with(|options| {
        (options.limits.max_value_bytes, options.limits.max_store_bytes) = (100_000, 200_000);
        options.max_message_bytes = 120_000;
    });
    let (_client, store) = join(&server.url(), "room", "Ada");
    store.set("a", Value::from(&*"x".repeat(90_000))).wait(SAFETY).unwrap();
    let error = store.set("a", Value::from(&*"x".repeat(130_000))).wait(SAFETY).unwrap_err();
    assert_eq!(error, ErrorCode::MessageTooLarge);
}

#[test]
fn a_lock_that_nobody_wants_is_given_back_also_when_as_many_requests_wait_as_may() {
    let server = support::server();
    let (_bob, bob) = join(&server.url(), "room", "Bob");
    let options = ClientOptions { max_pending: 1, ..ClientOptions::new(server.url(), "room") };
    let client = Client::open(options, ()).unwrap();
    let ada = client.join_wait(SAFETY).unwrap();
    let long = LockOptions { ttl_ms: 300_000, wait_ms: 300_000 };
    let _theirs = bob.lock("theirs", long, |_| ()).wait(SAFETY).unwrap();
    let own = ada.lock("own", long, |_| ()).wait(SAFETY).unwrap();
    // A lock that may have been waited for is renewed at once, which takes the only place for a moment.
    patient("the place for a request", || ada.lock("theirs", long, |_| ()).on_result(|_| ()).is_ok());
    assert_eq!(ada.get("a").wait(SAFETY).unwrap_err(), ErrorCode::QueueFull);
    drop(own);
    bob.lock("own", long, |_| ()).wait(SAFETY).unwrap();
}

#[test]
fn poll_mode_has_no_thread_of_its_own() {
    let wake: sessionstore::Hook = std::sync::Arc::new(|| ());
    let hooks = ThreadHooks { started: wake.clone(), stopping: wake.clone() };
    let options =
        ClientOptions { wake: Some(wake), thread_hooks: Some(hooks), ..ClientOptions::new("ws://127.0.0.1:9", "room") };
    assert_eq!(Client::open(options, ()).unwrap_err(), ErrorCode::InvalidArgument);
}

#[test]
fn a_server_that_has_stopped_counts_nothing() {
    let server = support::server();
    let (_client, _store) = join(&server.url(), "room", "Ada");
    assert_eq!((server.stats().rooms, server.stats().peers), (1, 1));
    server.stop_wait(SAFETY).unwrap();
    let stats = server.stats();
    assert_eq!((stats.rooms, stats.peers, stats.connections), (0, 0, 0));
}
