//! Requests that are taken back: what was not sent is not, who waits for a lock no longer gets it, and what was sent
//! is told as it went.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use sessionstore::{
    Cancellation, Client, ClientOptions, ConnectionState, Error, ErrorCode, KeyChange, Lock, LockOptions, Selector,
    Server, Store, Value,
};
use support::cable::Way;
use support::{patient, server, Cable, SAFETY};

/// A client whose connection can be broken.
struct Peer {
    cable: Cable,
    client: Client,
    store: Store,
}

impl Peer {
    fn join(server: &Server, name: &str) -> Peer {
        let cable = Cable::to(server.local_addr());
        let options =
            ClientOptions { name: name.into(), reconnect_min_ms: 1, ..ClientOptions::new(cable.url(), "room") };
        let client = Client::open(options, ()).expect("a client");
        let store = client.join_wait(SAFETY).expect("joined");
        Peer { cable, client, store }
    }

    fn disconnect(&self) {
        self.cable.cut();
        patient("the connection is gone", || self.client.state() != ConnectionState::Connected);
    }

    fn reconnect(&self) {
        self.cable.mend();
        patient("it is back", || self.client.state() == ConnectionState::Connected);
    }
}

type Heard<T> = mpsc::Receiver<Result<T, ErrorCode>>;

/// Who is told a result, and where it arrives.
fn told<T: Send + 'static>() -> (impl FnOnce(Result<T, Error>) + Send + 'static, Heard<T>) {
    let (sender, receiver) = mpsc::channel();
    (move |result: Result<T, Error>| drop(sender.send(result.map_err(|error| error.code()))), receiver)
}

/// The result; `CLOSED` stands for one that never comes.
fn next<T>(heard: &Heard<T>) -> Result<T, ErrorCode> {
    heard.recv_timeout(SAFETY).expect("told")
}

fn code<T>(result: Result<T, ErrorCode>) -> Option<ErrorCode> {
    result.err()
}

const CANCELLED: Option<ErrorCode> = Some(ErrorCode::Cancelled);

#[test]
fn what_was_not_sent_is_taken_back_and_all_else_goes_on() {
    let server = server();
    let ada = Peer::join(&server, "Ada");
    let (screen, other) = (Cancellation::default(), Cancellation::default());
    ada.disconnect();
    let (pinned, pinned_heard) = told();
    ada.store.set("pinned", Value::from(1)).cancelled_by(&screen).on_result(pinned).expect("begun");
    let (added, added_heard) = told();
    ada.store.add("n", 1).cancelled_by(&screen).on_result(added).expect("begun");
    let (asked, asked_heard) = told();
    ada.store.read(&Selector::all()).cancelled_by(&screen).on_result(asked).expect("begun");
    let (locked, locked_heard) = told::<Lock>();
    ada.store.lock("l", LockOptions::default(), |_| ()).cancelled_by(&screen).on_result(locked).expect("begun");
    let (of_other, of_other_heard) = told();
    ada.store.set("other", Value::from(2)).cancelled_by(&other).on_result(of_other).expect("begun");
    let (of_none, of_none_heard) = told();
    ada.store.set("none", Value::from(3)).on_result(of_none).expect("begun");

    screen.cancel();
    screen.cancel();
    assert!(screen.is_cancelled() && !other.is_cancelled());
    assert_eq!(code(next(&pinned_heard)), CANCELLED);
    assert_eq!(code(next(&added_heard)), CANCELLED);
    assert_eq!(code(next(&asked_heard)), CANCELLED);
    assert_eq!(code(next(&locked_heard)), CANCELLED);
    ada.reconnect();
    assert_eq!(code(next(&of_other_heard)), None);
    assert_eq!(code(next(&of_none_heard)), None);
    let set = ada.store.keys("").wait(SAFETY).expect("the keys");
    assert_eq!(set, ["none", "other"], "nothing else was ever sent");
    // Those that ended have nothing more to do with it.
    other.cancel();
    assert!(pinned_heard.try_recv().is_err() && of_other_heard.try_recv().is_err(), "each is told once");
}

#[test]
fn what_was_given_up_stays_given_up() {
    let server = server();
    let (ada, bob) = (Peer::join(&server, "Ada"), Peer::join(&server, "Bob"));
    let held = ada.store.lock("l", LONG, |_| ()).wait(SAFETY).expect("granted");
    ada.disconnect();
    let cancellation = Cancellation::default();
    let (result, heard) = told();
    held.release().cancelled_by(&cancellation).on_result(result).expect("begun");
    cancellation.cancel();
    assert!(!held.is_held());
    ada.reconnect();
    assert_eq!(code(next(&heard)), None);
    bob.store.lock("l", LONG, |_| ()).wait(SAFETY).expect("it is free");
    // The client leaves, cancelled or not.
    let cancellation = Cancellation::default();
    let (result, heard) = told();
    ada.store.get("k").wait(SAFETY).expect("a state");
    ada.client.leave().cancelled_by(&cancellation).on_result(result).expect("begun");
    cancellation.cancel();
    assert_eq!(code(next(&heard)), None);
}

#[test]
fn who_is_cancelled_already_sends_nothing() {
    let server = server();
    let ada = Peer::join(&server, "Ada");
    let over = Cancellation::default();
    over.clone().cancel();
    let (result, heard) = told();
    let refused = ada.store.set("k", Value::from(1)).cancelled_by(&over).on_result(result);
    assert_eq!(code(refused.map_err(|error| error.code())), CANCELLED);
    assert_eq!(heard.recv(), Err(mpsc::RecvError), "dropped untold");
    assert_eq!(
        ada.store.set("k", Value::from(1)).cancelled_by(&over).wait(SAFETY).expect_err("refused"),
        ErrorCode::Cancelled
    );
    let update = ada.store.update("k", |_| Some(Value::from(1))).cancelled_by(&over);
    assert_eq!(update.wait(SAFETY).expect_err("refused"), ErrorCode::Cancelled);
    assert!(ada.store.get("k").wait(SAFETY).expect("a state").value.is_null());
}

#[test]
fn a_change_that_was_sent_goes_on_and_is_told_as_it_went() {
    let server = server();
    let (ada, bob) = (Peer::join(&server, "Ada"), Peer::join(&server, "Bob"));
    let cancellation = Cancellation::default();
    ada.cable.stall_way(Way::ToClient);
    let (result, heard) = told();
    ada.store.add("n", 7).cancelled_by(&cancellation).on_result(result).expect("begun");
    let (asked, asked_heard) = told();
    ada.store.get("n").cancelled_by(&cancellation).on_result(asked).expect("begun");
    patient("it is applied", || bob.store.get("n").wait(SAFETY).expect("a state").value.json() == "7");
    cancellation.cancel();
    assert_eq!(code(next(&asked_heard)), CANCELLED, "what only asks can be left any time");
    assert!(heard.try_recv().is_err());
    // Also when it has to be sent again.
    ada.disconnect();
    cancellation.cancel();
    ada.cable.let_go();
    assert_eq!(next(&heard).expect("applied").value.json(), "7");
    assert_eq!(bob.store.get("n").wait(SAFETY).expect("a state").value.json(), "7");
}

/// The longest lease: a lock that is not given back would not end before the test does.
const LONG: LockOptions = LockOptions { ttl_ms: 300_000, wait_ms: 300_000 };

/// Somebody waits for a lock and stops doing so, as `stop` says. Then it is free as soon as its holder lets it go.
fn gives_up_waiting<T>(stop: impl FnOnce(&Peer, &Cancellation, &Heard<Lock>) -> T) {
    let server = server();
    let (ada, bob, eve) = (Peer::join(&server, "Ada"), Peer::join(&server, "Bob"), Peer::join(&server, "Eve"));
    let held = ada.store.lock("l", LONG, |_| ()).wait(SAFETY).expect("granted");
    let cancellation = Cancellation::default();
    let (result, heard) = told();
    let (lost, lost_heard) = mpsc::channel::<()>();
    let wait = bob.store.lock("l", LONG, move |_| drop(lost)).cancelled_by(&cancellation);
    wait.on_result(result).expect("begun");
    // Answers come in order but for those of locks: when this is answered, the other waits.
    bob.store.get("k").wait(SAFETY).expect("a state");
    let afterwards = stop(&bob, &cancellation, &heard);
    held.release().wait(SAFETY).expect("released");
    eve.store.lock("l", LONG, |_| ()).wait(SAFETY).expect("it was given back");
    drop(afterwards);
    assert_eq!(lost_heard.recv_timeout(SAFETY), Err(mpsc::RecvTimeoutError::Disconnected), "it is dropped untold");
}

#[test]
fn who_waits_for_a_lock_can_stop() {
    gives_up_waiting(|_, cancellation, heard| {
        cancellation.cancel();
        assert_eq!(code(next(heard)), CANCELLED);
    });
}

#[test]
fn who_stops_waiting_for_a_lock_does_not_keep_it_while_a_callback_takes_long() {
    gives_up_waiting(|bob, cancellation, heard| {
        let (go_on, waits) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let long = bob.store.listen(&["k"], move |_: KeyChange<'_>| {
            let _ = begun.send(());
            let _ = waits.recv();
        });
        long.expect("listening").detach();
        has_begun.recv_timeout(SAFETY).expect("a callback runs");
        cancellation.cancel();
        assert_eq!(heard.try_recv().err(), Some(mpsc::TryRecvError::Empty), "the other callback still runs");
        go_on
    });
}

#[test]
fn who_stops_waiting_for_a_lock_while_the_connection_is_broken_does_not_keep_it() {
    gives_up_waiting(|bob, cancellation, heard| {
        bob.disconnect();
        cancellation.cancel();
        assert_eq!(code(next(heard)), CANCELLED);
        bob.reconnect();
    });
    gives_up_waiting(|bob, cancellation, heard| {
        cancellation.cancel();
        assert_eq!(code(next(heard)), CANCELLED);
        bob.disconnect();
        bob.reconnect();
    });
}

#[test]
fn an_update_makes_no_further_attempt() {
    let server = server();
    let ada = Peer::join(&server, "Ada");
    let cancellation = Cancellation::default();
    // The cancellation comes from within the callback.
    let inside = cancellation.clone();
    let update = ada.store.update("k", move |_| {
        inside.cancel();
        Some(Value::from(1))
    });
    let (result, heard) = told();
    update.cancelled_by(&cancellation).on_result(result).expect("begun");
    assert_eq!(code(next(&heard)), CANCELLED);
    // One that is cancelled while its first answer waits behind a callback does not even compute.
    let (cancellation, (go_on, waits)) = (Cancellation::default(), mpsc::channel::<()>());
    let (begun, has_begun) = mpsc::channel();
    let long = ada.store.listen(&["other"], move |_: KeyChange<'_>| {
        let _ = begun.send(());
        let _ = waits.recv();
    });
    has_begun.recv_timeout(SAFETY).expect("a callback runs");
    let (result, heard) = told();
    let bob = Peer::join(&server, "Bob");
    let update = ada.store.update("k", |_| panic!("nobody wants it"));
    update.cancelled_by(&cancellation).on_result(result).expect("begun");
    ada.store.set("sent", Value::from(1)).on_result(drop).expect("begun");
    patient("both are answered", || !bob.store.get("sent").wait(SAFETY).expect("a state").value.is_null());
    // That Bob leaves is told after the answers.
    bob.client.leave().wait(SAFETY).expect("left");
    patient("and the answers have arrived", || ada.client.peers().len() == 1);
    cancellation.cancel();
    drop(go_on);
    assert_eq!(code(next(&heard)), CANCELLED);
    drop(long);
    assert!(ada.store.get("k").wait(SAFETY).expect("a state").value.is_null());
}

#[test]
fn one_cancellation_serves_many_clients_and_outlives_them() {
    let server = server();
    let cancellation = Cancellation::default();
    let peers = [(); 3].map(|()| Peer::join(&server, "Peer"));
    let heard: Vec<_> = peers
        .iter()
        .map(|peer| {
            peer.disconnect();
            let (result, heard) = told();
            peer.store.set("k", Value::from(1)).cancelled_by(&cancellation).on_result(result).expect("begun");
            heard
        })
        .collect();
    let [first, second, third] = peers;
    drop(first);
    assert_eq!(code(next(&heard[0])), Some(ErrorCode::Closed));
    cancellation.cancel();
    assert!(heard[1..].iter().all(|heard| code(next(heard)) == CANCELLED));
    drop((second, third, cancellation));
}

#[test]
fn a_thread_that_waits_is_told_too() {
    let server = server();
    let ada = Peer::join(&server, "Ada");
    ada.disconnect();
    let cancellation = Cancellation::default();
    let set = ada.store.set("k", Value::from(1)).cancelled_by(&cancellation);
    let waiting = std::thread::spawn(move || set.wait(Duration::MAX).map_err(|error| error.code()));
    // Whether it waits already or not: it is refused, or taken back.
    cancellation.cancel();
    assert_eq!(code(waiting.join().expect("no panic")), CANCELLED);
}
