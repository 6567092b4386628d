//! What the original's users lose (D1, D2 and D11 of the field's list of defects) is not lost here: merges,
//! transactions, updates, locks, expiry and prefixes, over real connections.

mod support;

use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use sessionstore::core::limits::Limits;
use sessionstore::{
    Cause, Check, Client, ClientOptions, ConnectionState, Error, ErrorCode, Expiry, KeyChange, Lock, LockOptions,
    Merge, Selector, Server, Store, Transaction, Value, Write,
};
use tungstenite::Message;

use support::{patient, scripted, server, server_with, Cable, SAFETY};

fn join(url: &str, name: &str) -> (Client, Store) {
    let options = ClientOptions { name: name.into(), peer_id: name.into(), ..ClientOptions::new(url, "room") };
    let client = Client::open(options, ()).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    (client, store)
}

fn json(store: &Store, key: &str) -> String {
    store.get(key).wait(SAFETY).unwrap().value.json().to_owned()
}

/// What a listener was told, as short text: `a=1`, `a=null peer-left`, `end`.
fn listen(store: &Store, selector: &Selector) -> (sessionstore::Subscription, mpsc::Receiver<String>) {
    let (told, heard) = mpsc::channel();
    let shown = |change: KeyChange<'_>| match change {
        KeyChange::Event(event) => {
            let cause = match event.change.cause {
                Cause::Written => "",
                Cause::Expired => " expired",
                Cause::PeerLeft => " peer-left",
                Cause::Cleared => " cleared",
            };
            format!("{}={}{cause}", event.change.key, event.change.value.json())
        }
        KeyChange::SnapshotEnd => "end".into(),
        KeyChange::Refused(error) => error.code().name().into(),
    };
    let listener = move |change: KeyChange<'_>| drop(told.send(shown(change)));
    (store.listen_to(selector, listener).unwrap(), heard)
}

fn next(heard: &mpsc::Receiver<String>) -> String {
    heard.recv_timeout(SAFETY).expect("the listener should have been told something")
}

/// Runs the same on so many clients at once, each with its own connection.
fn at_once(server: &Server, count: usize, act: impl Fn(usize, &Store) + Send + Sync) {
    let barrier = Barrier::new(count);
    std::thread::scope(|scope| {
        for nth in 0..count {
            let (barrier, act, url) = (&barrier, &act, server.url());
            scope.spawn(move || {
                let (_client, store) = join(&url, &format!("p{nth}"));
                barrier.wait();
                act(nth, &store);
            });
        }
    });
}

/// D1: two moderators block at once; with read-modify-write of a list one block is lost.
#[test]
fn moderators_who_block_at_once_all_succeed() {
    let server = server();
    let (_keeps, store) = join(&server.url(), "keeps the room");
    at_once(&server, 8, |nth, store| {
        for round in 0..5 {
            let user = Value::from(&*format!("user-{nth}-{round}"));
            store.merge("blocked", Merge::SetAdd(vec![user])).wait(SAFETY).unwrap();
        }
    });
    let mut blocked: Vec<String> = serde_json::from_str(&json(&store, "blocked")).unwrap();
    blocked.sort();
    let mut all: Vec<String> = (0..8).flat_map(|n| (0..5).map(move |r| format!("user-{n}-{r}"))).collect();
    all.sort();
    assert_eq!(blocked, all);
    // And they can be let in again, each by itself.
    store.merge("blocked", Merge::SetRemove(vec!["user-3-3".into()])).wait(SAFETY).unwrap();
    assert!(!json(&store, "blocked").contains("user-3-3"));
}

/// D1, second half: 26 ids fill a value of 1 KB, and the 27th block fails. One key each has room for
/// as many as there are keys, and everybody hears of each.
#[test]
fn more_users_are_blocked_than_fit_one_value() {
    let server = server();
    let (_keeps, store) = join(&server.url(), "moderator");
    let id = |nth: usize| format!("5f0c7f0e-8d7e-4a53-9a0a-{nth:012}");
    let ids: Vec<Value> = (0..27).map(|nth| Value::from(&*id(nth))).collect();
    let refused = store.merge("blocked", Merge::SetAdd(ids)).wait(SAFETY).unwrap_err();
    assert_eq!(refused, ErrorCode::ValueTooLarge);
    for nth in 0..100 {
        store.set(&format!("blocked/{}", id(nth)), true.into()).wait(SAFETY).unwrap();
    }
    let (_listening, heard) = listen(&store, &Selector::prefix("blocked/"));
    let told: Vec<String> = (0..100).map(|_| next(&heard)).collect();
    assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "each once, in order");
    assert_eq!(next(&heard), "end");
    assert_eq!(store.keys("blocked/").wait(SAFETY).unwrap().len(), 100);
    let usage = store.usage().wait(SAFETY).unwrap();
    assert_eq!((usage.keys, usage.max_keys, usage.revision), (100, 100, 100));
}

/// D2: pinned messages are cut to three with the oldest dropped, by each client on its own copy. Here the
/// server appends, and drops what is over the cap.
#[test]
fn pins_of_many_are_kept_up_to_the_cap_and_none_is_overwritten() {
    let server = server();
    let (_keeps, store) = join(&server.url(), "keeps the room");
    let (_listening, heard) = listen(&store, &Selector::keys(["pinned"]));
    at_once(&server, 6, |nth, store| {
        let pin = Merge::Append { values: vec![Value::from(nth as i64)], cap: Some(3) };
        store.merge("pinned", pin).wait(SAFETY).unwrap();
    });
    assert_eq!((next(&heard), next(&heard)), ("pinned=null".into(), "end".into()));
    let lists: Vec<Vec<i64>> =
        (0..6).map(|_| serde_json::from_str(next(&heard).strip_prefix("pinned=").unwrap()).unwrap()).collect();
    for (nth, pair) in lists.windows(2).enumerate() {
        let (before, after) = (&pair[0], &pair[1]);
        let kept = &before[before.len().saturating_sub(2)..];
        assert_eq!(&after[..after.len() - 1], kept, "pin {nth} is behind those before it");
    }
    let mut first_to_last: Vec<i64> = lists.iter().filter_map(|list| list.last().copied()).collect();
    first_to_last.sort_unstable();
    assert_eq!(first_to_last, [0, 1, 2, 3, 4, 5]);
}

/// D2, second half: three pins with their text fill a value of 1 KB. One key each has room for as many as the store
/// holds, each in full, and each is pinned and taken down by itself, whoever does so at the same time.
#[test]
fn more_texts_are_pinned_than_fit_one_value_and_each_in_full() {
    const HANDS: usize = 6;
    const PINS_EACH: usize = 10;
    let server = server();
    let (_keeps, store) = join(&server.url(), "keeps the room");
    let text = |nth: usize, pin: usize| format!("pin {pin} of {nth}: {}", "x".repeat(900));
    let three = (0..3).map(|pin| Value::from(&*text(0, pin))).collect();
    let refused = store.merge("pinned", Merge::Append { values: three, cap: Some(3) }).wait(SAFETY).unwrap_err();
    assert_eq!(refused, ErrorCode::ValueTooLarge, "in one value there is no room for them");
    let (_listening, heard) = listen(&store, &Selector::prefix("pinned/"));
    assert_eq!(next(&heard), "end");
    at_once(&server, HANDS, |nth, store| {
        for pin in 0..PINS_EACH {
            store.set(&format!("pinned/{nth}-{pin}"), Value::from(&*text(nth, pin))).wait(SAFETY).unwrap();
        }
        // One of another's is taken down.
        let other = format!("pinned/{}-0", (nth + 1) % HANDS);
        patient("the other's first pin", || !store.get(&other).wait(SAFETY).unwrap().value.is_null());
        store.remove(&other).wait(SAFETY).unwrap();
    });
    let mut expected: Vec<(String, String)> = (0..HANDS)
        .flat_map(|nth| (1..PINS_EACH).map(move |pin| (nth, pin)))
        .map(|(nth, pin)| (format!("pinned/{nth}-{pin}"), Value::from(&*text(nth, pin)).json().to_owned()))
        .collect();
    expected.sort();
    let read = store.read(&Selector::prefix("pinned/")).wait(SAFETY).unwrap();
    let states = read.states.iter().map(|state| (state.key.to_string(), state.value.json().to_owned()));
    assert_eq!(states.collect::<Vec<_>>(), expected);
    // Who listened knows the same.
    let mut known = std::collections::BTreeMap::new();
    while known != expected.iter().cloned().collect() {
        let told = next(&heard);
        let (key, value) = told.split_once('=').unwrap();
        match value {
            "null" => known.remove(key),
            value => known.insert(key.to_owned(), value.to_owned()),
        };
    }
}

/// D11: a board in one key, read, changed and written back: two players overwrite each other.
#[test]
fn two_players_cannot_overwrite_each_others_move() {
    let server = server();
    let (_keeps, store) = join(&server.url(), "keeps the room");
    store.set("board", Value::parse(r#"["","","","","","","","",""]"#).unwrap()).wait(SAFETY).unwrap();
    at_once(&server, 9, |nth, store| {
        let moved = move |state: &sessionstore::Change| {
            let mut board: Vec<String> = serde_json::from_str(state.value.json()).unwrap();
            board[nth] = format!("p{nth}");
            Some(Value::parse(&serde_json::to_string(&board).unwrap()).unwrap())
        };
        // Half of them wait, half are told.
        if nth % 2 == 0 {
            store.update("board", moved).wait(SAFETY).unwrap();
        } else {
            let (told, result) = mpsc::channel();
            let update = store.update("board", moved).within(SAFETY);
            update.on_result(move |outcome| drop(told.send(outcome.map(|state| state.version)))).unwrap();
            result.recv_timeout(SAFETY).unwrap().unwrap();
        }
    });
    let board: Vec<String> = serde_json::from_str(&json(&store, "board")).unwrap();
    assert_eq!(board, (0..9).map(|nth| format!("p{nth}")).collect::<Vec<_>>());
}

#[test]
fn an_update_can_leave_a_key_and_reports_what_it_cannot_do() {
    let server = server();
    let (_client, store) = join(&server.url(), "a");
    let left = store.update("key", |_| None).wait(SAFETY).unwrap();
    assert_eq!(left.version, 0);
    let too_large = Value::from(&*"x".repeat(2_000));
    let refused = store.update("key", move |_| Some(too_large.clone())).wait(SAFETY).unwrap_err();
    assert_eq!(refused, ErrorCode::ValueTooLarge);
    assert_eq!(store.update("", |_| None).wait(SAFETY).unwrap_err(), ErrorCode::InvalidKey);
    // One who is always behind gives up when the time is over, and nothing was changed.
    let other = store.clone();
    let (always_late, seen) = mpsc::channel();
    let begun = store.update("key", move |state| {
        let mine = other.set("key", Value::from(state.version as i64 + 1));
        drop(mine.on_result(|_| ()));
        Some("never".into())
    });
    begun.within(Duration::from_millis(50)).on_result(move |outcome| drop(always_late.send(outcome))).unwrap();
    let conflict = seen.recv_timeout(SAFETY).unwrap().unwrap_err();
    assert_eq!(conflict, ErrorCode::VersionConflict);
    assert!(conflict.current().is_some() && json(&store, "key") != "\"never\"");
}

#[test]
fn adds_of_many_add_up_exactly() {
    let server = server();
    let (_keeps, store) = join(&server.url(), "keeps the room");
    store.set("sum", Value::from(9_007_199_254_740_993)).wait(SAFETY).unwrap();
    at_once(&server, 10, |nth, store| {
        for _ in 0..20 {
            store.add("sum", nth as i64).wait(SAFETY).unwrap();
        }
    });
    assert_eq!(json(&store, "sum"), (9_007_199_254_740_993_i64 + 20 * 45).to_string());
    assert_eq!(store.add("sum", i64::MAX).wait(SAFETY).unwrap_err(), ErrorCode::NumberOverflow);
    store.set("text", "1".into()).wait(SAFETY).unwrap();
    assert_eq!(store.add("text", 1).wait(SAFETY).unwrap_err(), ErrorCode::WrongType);
}

#[test]
fn a_transfer_is_seen_whole_or_not_at_all() {
    let server = server();
    let (_keeps, store) = join(&server.url(), "keeps the room");
    for account in ["a", "b"] {
        store.set(account, Value::from(100)).wait(SAFETY).unwrap();
    }
    // Whoever listens, and whoever reads, never sees money appear or vanish.
    let (told, heard) = mpsc::channel();
    let copy = store.clone();
    let _listening = store
        .listen(&["a", "b"], move |change: KeyChange<'_>| {
            if let KeyChange::Event(_) = change {
                // Both changes of a revision are in the replica before either is told.
                let held = |key: &str| copy.cached(key).map(|state| state.value.as_integer().unwrap());
                let _ = told.send(held("a").zip(held("b")));
            }
        })
        .unwrap();
    at_once(&server, 4, |nth, store| {
        for _ in 0..10 {
            let (from, to) = if nth % 2 == 0 { ("a", "b") } else { ("b", "a") };
            let transfer = Transaction {
                checks: vec![Check::Exists { key: from.into() }],
                writes: vec![
                    Write::merge(from, Merge::Add(Value::from(-7))),
                    Write::merge(to, Merge::Add(Value::from(7))),
                ],
            };
            let done = store.transact(transfer).wait(SAFETY).unwrap();
            assert!(done.states.iter().all(|state| state.version == done.revision));
            let read = store.read(&Selector::keys(["a", "b"])).wait(SAFETY).unwrap();
            let sum: i64 = read.states.iter().map(|state| state.value.as_integer().unwrap()).sum();
            assert_eq!(sum, 200);
        }
    });
    assert_eq!((json(&store, "a"), json(&store, "b")), ("100".into(), "100".into()));
    let failed = Transaction {
        checks: vec![Check::Exists { key: "a".into() }, Check::Version { key: "b".into(), version: 1 }],
        writes: vec![Write::set("a", Value::from(0))],
    };
    let failed = store.transact(failed).wait(SAFETY).unwrap_err();
    assert_eq!((failed.code(), failed.check()), (ErrorCode::CheckFailed, Some(1)));
    assert_eq!(failed.current().unwrap().value.json(), "100");
    for sums in heard.try_iter().flatten() {
        assert_eq!(sums.0 + sums.1, 200, "a listener saw half of a transfer");
    }
}

fn lock(store: &Store, name: &str, options: LockOptions) -> Result<(Lock, mpsc::Receiver<Error>), Error> {
    let (lost, heard) = mpsc::channel();
    let lock = store.lock(name, options, move |error| drop(lost.send(error))).wait(SAFETY)?;
    Ok((lock, heard))
}

#[test]
fn a_lock_goes_from_hand_to_hand_and_everybody_can_watch() {
    let server = server();
    let ((_a, ada), (_b, bob)) = (join(&server.url(), "ada"), join(&server.url(), "bob"));
    let (_listening, heard) = listen(&bob, &Selector::keys(["$lock/presenter"]));
    assert_eq!((next(&heard), next(&heard)), ("$lock/presenter=null".into(), "end".into()));
    let (first, lost) = lock(&ada, "presenter", LockOptions::default()).unwrap();
    assert_eq!(next(&heard), format!(r#"$lock/presenter={{"holder":"ada","token":{}}}"#, first.token()));
    let refused = lock(&bob, "presenter", LockOptions::default()).unwrap_err();
    assert_eq!(refused, ErrorCode::LockHeld);
    assert_eq!(refused.current().unwrap().author.as_ref().unwrap().peer_id.as_ref(), "ada");
    let (told, granted) = mpsc::channel();
    let waits = LockOptions { wait_ms: 60_000, ..LockOptions::default() };
    bob.lock("presenter", waits, |_| ()).on_result(move |lock| drop(told.send(lock))).unwrap();
    ada.write(Write::set("slide", Value::from(1)), Some(first.guard())).wait(SAFETY).unwrap();
    // Bob waits by the time his next request is answered.
    bob.usage().wait(SAFETY).unwrap();
    first.release().wait(SAFETY).unwrap();
    let second = granted.recv_timeout(SAFETY).unwrap().unwrap();
    assert!(second.token() > first.token() && second.is_held() && !first.is_held());
    assert_eq!(next(&heard), format!(r#"$lock/presenter={{"holder":"bob","token":{}}}"#, second.token()));
    let late = ada.write(Write::set("slide", Value::from(2)), Some(first.guard())).wait(SAFETY).unwrap_err();
    assert_eq!((late.code(), json(&ada, "slide").as_str()), (ErrorCode::LockLost, "1"));
    assert_eq!(first.release().wait(SAFETY).unwrap_err(), ErrorCode::LockLost);
    drop(second);
    assert_eq!(next(&heard), "$lock/presenter=null");
    assert!(lost.try_recv().is_err(), "what is released is not lost");
    for (name, options) in [
        ("", LockOptions::default()),
        (&*"n".repeat(1_024), LockOptions::default()),
        ("n", LockOptions { ttl_ms: 1, wait_ms: 0 }),
        ("n", LockOptions { wait_ms: 300_001, ..LockOptions::default() }),
    ] {
        let refused = lock(&ada, name, options).unwrap_err();
        assert!(refused == ErrorCode::InvalidLock || refused == ErrorCode::InvalidArgument, "{refused}");
    }
}

#[test]
fn a_holder_that_leaves_passes_its_lock_on_at_once() {
    let server = server();
    let ((ada_client, ada), (_b, bob)) = (join(&server.url(), "ada"), join(&server.url(), "bob"));
    let (_first, lost) = lock(&ada, "presenter", LockOptions { ttl_ms: 300_000, wait_ms: 0 }).unwrap();
    let (told, granted) = mpsc::channel();
    let waits = LockOptions { wait_ms: 60_000, ..LockOptions::default() };
    bob.lock("presenter", waits, |_| ()).on_result(move |lock| drop(told.send(lock))).unwrap();
    bob.usage().wait(SAFETY).unwrap();
    drop(ada_client);
    assert!(granted.recv_timeout(SAFETY).unwrap().unwrap().is_held());
    assert_eq!(lost.recv_timeout(SAFETY).unwrap(), ErrorCode::Closed);
}

#[test]
fn who_is_told_that_it_has_left_is_closed_and_holds_no_lock() {
    let server = server();
    let cable = Cable::to(server.local_addr());
    // Also where the server cannot be told any more.
    for (name, connected) in (0..40).map(|round| (format!("peer {round}"), round % 2 == 0)) {
        let (client, store) = join(&cable.url(), &name);
        let (held, _lost) = lock(&store, &name, LockOptions::default()).unwrap();
        if !connected {
            cable.cut();
        }
        client.leave().wait(SAFETY).unwrap();
        assert_eq!((client.state(), held.is_held()), (ConnectionState::Closed, false), "connected: {connected}");
        cable.mend();
    }
}

#[test]
fn a_holder_that_is_cut_off_learns_that_its_lock_is_lost_before_another_gets_it() {
    let server = server();
    let cable = Cable::to(server.local_addr());
    let ((_a, ada), (_b, bob)) = (join(&cable.url(), "ada"), join(&server.url(), "bob"));
    let short = LockOptions { ttl_ms: 1_000, wait_ms: 0 };
    let (first, lost) = lock(&ada, "presenter", short).unwrap();
    let (told, granted) = mpsc::channel();
    cable.cut();
    let waits = LockOptions { ttl_ms: 1_000, wait_ms: 60_000 };
    bob.lock("presenter", waits, |_| ()).on_result(move |lock| drop(told.send(lock))).unwrap();
    assert_eq!(lost.recv_timeout(SAFETY).unwrap(), ErrorCode::LockLost);
    assert!(!first.is_held());
    let second = granted.recv_timeout(SAFETY).unwrap().unwrap();
    assert!(second.token() > first.token());
    // Back again, its old token is worth nothing.
    cable.mend();
    let late = ada.write(Write::set("slide", Value::from(2)), Some(first.guard())).wait(SAFETY).unwrap_err();
    assert_eq!(late, ErrorCode::LockLost);
}

/// A server as plain as can be, which grants a lock and then says what it is asked.
fn granting(answers: &'static [&'static str]) -> (String, mpsc::Receiver<String>) {
    let (asked, requests) = mpsc::channel();
    let url = scripted(move |mut socket| {
        let mut answers = answers.iter();
        while let Ok(Message::Text(text)) = socket.read() {
            let request: serde_json::Value = serde_json::from_str(&text).unwrap();
            let _ = asked.send(request["method"].as_str().unwrap().to_owned());
            let Some(answer) = answers.next() else { continue };
            socket.send(Message::text(format!("{{\"id\":{},{answer}}}", request["id"]))).unwrap();
        }
    });
    (url, requests)
}

#[test]
fn a_lock_is_renewed_until_the_server_says_that_it_is_lost() {
    let (url, requests) = granting(&[
        r#""result":{"name":"presenter","token":5,"expires_at":1}"#,
        r#""result":{"name":"presenter","token":5,"expires_at":2}"#,
        r#""error":{"code":900,"message":"a fault"}"#,
    ]);
    let (_client, store) = join(&url, "ada");
    let (held, lost) = lock(&store, "presenter", LockOptions { ttl_ms: 3_000, wait_ms: 0 }).unwrap();
    assert!(held.is_held() && held.token() == 5);
    let asked: Vec<String> = (0..3).map(|_| next(&requests)).collect();
    assert_eq!(asked, ["lock-acquire", "lock-renew", "lock-renew"]);
    assert_eq!(lost.recv_timeout(SAFETY).unwrap(), ErrorCode::Internal);
    assert!(!held.is_held());
}

/// Does something with a store when it goes.
struct Goes(Store, mpsc::Sender<Result<(), Error>>);

impl Drop for Goes {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.usage().on_result(|_| ()));
    }
}

#[test]
fn who_would_be_told_of_a_loss_goes_with_the_refusal_and_may_use_the_store() {
    let server = server();
    let ((_a, ada), (_b, bob)) = (join(&server.url(), "ada"), join(&server.url(), "bob"));
    let (_first, _) = lock(&ada, "presenter", LockOptions::default()).unwrap();
    let (gone, heard) = mpsc::channel();
    let goes = || {
        let goes = Goes(bob.clone(), gone.clone());
        move |_| drop(goes)
    };
    let refused = bob.lock("presenter", LockOptions::default(), goes()).wait(SAFETY).unwrap_err();
    assert_eq!(refused, ErrorCode::LockHeld);
    heard.try_recv().expect("it goes before the wait returns").unwrap();
    let (told, result) = mpsc::channel();
    let refusal = bob.lock("presenter", LockOptions::default(), goes());
    refusal.on_result(move |outcome| drop(told.send(outcome.map(drop)))).unwrap();
    assert_eq!(result.recv_timeout(SAFETY).unwrap().unwrap_err(), ErrorCode::LockHeld);
    heard.try_recv().expect("it goes before the result is told").unwrap();
    drop(bob.lock("presenter", LockOptions::default(), goes()));
    heard.try_recv().expect("it goes with the request that is not made").unwrap();
}

#[test]
fn a_release_that_is_not_sent_releases_nothing() {
    let server = server();
    let (_a, ada) = join(&server.url(), "ada");
    let (first, lost) = lock(&ada, "presenter", LockOptions::default()).unwrap();
    let first = Arc::new(first);
    drop(first.release());
    assert!(first.is_held());
    let (told, result) = mpsc::channel();
    let inside = first.clone();
    let waited = move |_| drop(told.send(inside.release().wait(SAFETY)));
    ada.usage().on_result(waited).unwrap();
    assert_eq!(result.recv_timeout(SAFETY).unwrap().unwrap_err(), ErrorCode::WouldDeadlock);
    assert!(first.is_held());
    first.release().wait(SAFETY).unwrap();
    assert!(!first.is_held());
    assert!(matches!(lost.recv_timeout(SAFETY), Err(mpsc::RecvTimeoutError::Disconnected)), "it goes uncalled");
}

#[test]
fn a_lock_that_comes_too_late_is_given_back() {
    let server = server();
    let ((_a, ada), (_b, bob)) = (join(&server.url(), "ada"), join(&server.url(), "bob"));
    let (first, _) = lock(&ada, "presenter", LockOptions { ttl_ms: 300_000, wait_ms: 0 }).unwrap();
    let waits = LockOptions { wait_ms: 60_000, ..LockOptions::default() };
    let gave_up = bob.lock("presenter", waits, |_| ()).wait(Duration::from_millis(50)).unwrap_err();
    assert_eq!(gave_up, ErrorCode::Timeout);
    first.release().wait(SAFETY).unwrap();
    patient("the lock to be free again", || {
        let state = ada.get("$lock/presenter").wait(SAFETY).unwrap();
        state.value.is_null()
    });
}

#[test]
fn locks_that_are_given_up_just_as_they_come_are_given_back() {
    let server = server();
    let (_a, ada) = join(&server.url(), "ada");
    let long = LockOptions { ttl_ms: 300_000, wait_ms: 10_000 };
    let alive = Arc::new(());
    let (mut taken, mut given_up) = (0, 0);
    for round in 0..400 {
        let counted = alive.clone();
        // About as long as a grant takes, sometimes more, sometimes less.
        let moment = if round % 40 == 39 { SAFETY } else { Duration::from_micros(round % 40 * 25) };
        match ada.lock("presenter", long, move |_| drop(counted)).wait(moment) {
            Ok(_) => taken += 1,
            Err(error) => {
                assert_eq!(error, ErrorCode::Timeout);
                given_up += 1;
            }
        }
    }
    assert!(taken > 0 && given_up > 0, "{taken} taken, {given_up} given up: this tested nothing");
    lock(&ada, "presenter", long).expect("it is free in the end");
    patient("who would be told of a loss to be gone", || Arc::strong_count(&alive) == 1);
}

#[test]
fn keys_expire_and_go_with_their_peer_and_say_why() {
    let server = server_with(|options| options.limits = Limits { grace_ms: 200, ..Limits::default() });
    let cable = Cable::to(server.local_addr());
    let ((_a, ada), (_b, bob)) = (join(&cable.url(), "ada"), join(&server.url(), "bob"));
    let (_listening, heard) = listen(&bob, &Selector::all());
    assert_eq!(next(&heard), "end");
    let timer = Write { expiry: Some(Expiry::After(50)), ..Write::set("timer", Value::from(1)) };
    let set = bob.write(timer, None).wait(SAFETY).unwrap();
    assert_eq!(set.expires_at, set.updated_at + 50);
    assert_eq!((next(&heard), next(&heard)), ("timer=1".into(), "timer=null expired".into()));
    assert_eq!(bob.touch("timer", Expiry::Never).wait(SAFETY).unwrap_err(), ErrorCode::KeyAbsent);
    let hand = Write { bound: Some(true), ..Write::set("hand/ada", true.into()) };
    ada.write(hand, None).wait(SAFETY).unwrap();
    ada.set("pinned", "stays".into()).wait(SAFETY).unwrap();
    assert_eq!((next(&heard), next(&heard)), ("hand/ada=true".into(), "pinned=\"stays\"".into()));
    cable.cut();
    assert_eq!(next(&heard), "hand/ada=null peer-left");
    bob.remove("pinned").wait(SAFETY).unwrap();
    assert_eq!(next(&heard), "pinned=null");
}

#[test]
fn keys_of_a_session_that_is_over_are_reported_as_cleared() {
    let first = server();
    let cable = Cable::to(first.local_addr());
    let (_a, ada) = join(&cable.url(), "ada");
    let (_listening, heard) = listen(&ada, &Selector::keys(["named"]).and_prefix("found/"));
    assert_eq!((next(&heard), next(&heard)), ("named=null".into(), "end".into()));
    ada.set("named", Value::from(1)).wait(SAFETY).unwrap();
    ada.set("found/x", Value::from(2)).wait(SAFETY).unwrap();
    assert_eq!((next(&heard), next(&heard)), ("named=1".into(), "found/x=2".into()));
    let second = server();
    cable.lead_to(second.local_addr());
    cable.cut();
    cable.mend();
    assert_eq!((next(&heard), next(&heard)), ("named=null cleared".into(), "found/x=null cleared".into()));
    // And the listener goes on in the new session.
    ada.set("found/y", Value::from(3)).wait(SAFETY).unwrap();
    assert_eq!(next(&heard), "found/y=3");
}

#[test]
fn a_slow_listener_to_a_prefix_learns_what_is_gone() {
    let server = server_with(|options| options.queue_bytes = 4_096);
    let cable = Cable::to(server.local_addr());
    let ((_a, ada), (_b, bob)) = (join(&cable.url(), "ada"), join(&server.url(), "bob"));
    let (_listening, heard) = listen(&ada, &Selector::prefix("k/"));
    assert_eq!(next(&heard), "end");
    bob.set("k/first", Value::from(1)).wait(SAFETY).unwrap();
    assert_eq!(next(&heard), "k/first=1");
    cable.stall();
    // More than sockets and queue hold; every key is gone again but one.
    let text = Value::from(&*"x".repeat(1_000));
    let pending = Arc::new(());
    for nth in 0..12_000 {
        let key = format!("k/{}", nth % 50);
        let pending = pending.clone();
        let write =
            if nth % 2 == 0 { bob.set(&key, text.clone()) } else { bob.remove(&format!("k/{}", (nth - 1) % 50)) };
        patient("room for another request", || Arc::strong_count(&pending) < 900);
        write.on_result(move |result| drop((pending, result.unwrap()))).unwrap();
    }
    bob.remove("k/first").wait(SAFETY).unwrap();
    bob.set("k/last", Value::from(2)).wait(SAFETY).unwrap();
    cable.cut();
    cable.mend();
    let mut known = std::collections::BTreeMap::from([("k/first".to_owned(), "1".to_owned())]);
    while known.len() != 1 || known.get("k/last").is_none_or(|value| value != "2") {
        let told = next(&heard);
        let (key, value) = told.split_once('=').unwrap();
        match value {
            "null" => known.remove(key),
            value => known.insert(key.into(), value.into()),
        };
    }
}
