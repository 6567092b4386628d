//! Clients under full load: many of them, floods, and the contract of callbacks while a flood runs.

#[path = "c_side/mod.rs"]
mod c_side;
mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Arc};

use c_side::{CClient, Flag, Flood, Record, SAFETY};
use sessionstore::ErrorCode;

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|key| format!("key-{key}")).collect()
}

/// The listener has heard, or was told to have missed, every one of the changes, and ends with what
/// the server has.
fn check_book(record: &'static Record, changes: u64, asker: &CClient, keys: &[String]) {
    let book = record.wait("every change is accounted for", |book| book.told + book.replaced >= changes);
    assert_eq!((book.told + book.replaced, &book.faults[..]), (changes, &[][..]));
    for key in keys {
        assert_eq!(book.newest[key], asker.get(key), "the last state of {key}");
    }
}

/// A writer with 64 requests outstanding, a listener that keeps up as well as it can, and one that is
/// held up in its first callback until all is written.
fn flood(count: usize) {
    const CHANGES: u64 = 20_000;
    let (server, keys) = (support::server(), keys(count));
    let flood = Flood::prepare(&server.url(), "room", &keys, CHANGES);
    let (quick, slow) = (CClient::join(&server.url(), "room"), CClient::join(&server.url(), "room"));
    let heard = Record::new(&quick.turnstile);
    let written = Arc::new(Flag::default());
    let over = written.clone();
    let held_up = Record::doing(&slow.turnstile, move |record| {
        if !over.waited() {
            record.fault("the flood did not end");
        }
    });
    let _subscriptions = [quick.listen(&keys, heard), slow.listen(&keys, held_up)];
    for record in [heard, held_up] {
        drop(record.wait("the snapshot", |book| book.live));
    }
    flood.begin(64);
    assert_eq!(flood.wait(), CHANGES);
    written.raise();
    check_book(heard, CHANGES, &quick, &keys);
    check_book(held_up, CHANGES, &slow, &keys);
    assert!(held_up.book().replaced > 0, "what is held up misses states, and is told so");
}

#[test]
fn a_flood_of_one_key_loses_nothing_uncounted() {
    flood(1);
}

#[test]
fn a_flood_of_a_hundred_keys_loses_nothing_uncounted() {
    flood(100);
}

#[test]
fn a_hundred_polled_clients_are_served_by_one_thread_that_only_polls_those_that_wake_it() {
    const CHANGES: u64 = 1_000;
    let (server, keys) = (support::server(), keys(10));
    let flood = Flood::prepare(&server.url(), "room", &keys, CHANGES);
    let (wake, woken) = mpsc::channel();
    let clients: Vec<CClient> = (0..100)
        .map(|index| {
            let wake = wake.clone();
            CClient::join_polled(&server.url(), "room", move || wake.send(index).unwrap_or_default())
        })
        .collect();
    let records: Vec<&'static Record> = clients.iter().map(|client| Record::new(&client.turnstile)).collect();
    let subscriptions: Vec<_> =
        clients.iter().zip(&records).map(|(client, record)| client.listen(&keys, record)).collect();
    let serve_until = |what: &str, done: &dyn Fn(&Record) -> bool| {
        while !records.iter().all(|record| done(record)) {
            let index: usize = woken.recv_timeout(SAFETY).unwrap_or_else(|_| panic!("no client woke us: {what}"));
            // Not everything at once: what is left must wake us again.
            clients[index].poll(64);
        }
    };
    serve_until("snapshots", &|record| record.book().live);
    flood.begin(64);
    serve_until("changes", &|record| {
        let book = record.book();
        book.told + book.replaced >= CHANGES
    });
    assert_eq!(flood.wait(), CHANGES);
    for (client, record) in clients.iter().zip(&records) {
        check_book(record, CHANGES, client, &keys);
    }
    drop(subscriptions);
    drop(clients);
    records.iter().for_each(|record| record.check_dropped());
}

#[test]
fn a_thousand_clients_of_one_process_hear_one_change_and_leave() {
    // Everybody in a room hears of everybody, so one room of all would be a test of that.
    const ROOMS: usize = 10;
    const CLIENTS: usize = 1_000;
    // Both ends of each connection are in this process; as much again for what runs beside.
    let needed = 4 * CLIENTS as u64;
    let descriptors = support::allow_descriptors(needed);
    assert!(descriptors >= needed, "{CLIENTS} clients need {needed} descriptors; the system allows {descriptors}");
    let (server, keys) = (support::server(), keys(1));
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count());
    let before = threads();
    let room = |index: usize| format!("room-{}", index % ROOMS);
    let mut clients: Vec<CClient> = (0..CLIENTS).map(|index| CClient::begin(&server.url(), &room(index))).collect();
    clients.iter_mut().for_each(CClient::finish);
    let records: Vec<&'static Record> = clients.iter().map(|client| Record::new(&client.turnstile)).collect();
    let subscriptions: Vec<_> =
        clients.iter().zip(&records).map(|(client, record)| client.listen(&keys, record)).collect();
    for record in &records {
        drop(record.wait("the snapshot", |book| book.live));
    }
    for index in 0..ROOMS {
        let flood = Flood::prepare(&server.url(), &room(index), &keys, 1);
        flood.begin(1);
        flood.wait();
    }
    for record in &records {
        let book = record.wait("the change", |book| book.told > 0);
        assert_eq!((book.told, book.replaced, book.newest[&keys[0]].1), (1, 0, 0));
    }
    // Other tests run beside this one; a thread for each client would show all the same.
    assert!(threads() < before + 100, "{before} threads before, {} now", threads());
    clients.iter().for_each(CClient::leave);
    records.iter().for_each(|record| record.check_dropped());
    drop((subscriptions, clients));
}

#[test]
fn callbacks_that_block_hold_up_no_other_client() {
    const BLOCKED: usize = 20;
    let (server, keys) = (support::server(), keys(1));
    let heard_all = Arc::new(Flag::default());
    let clients: Vec<CClient> = (0..=BLOCKED).map(|_| CClient::join(&server.url(), "room")).collect();
    let (free, blocked) = clients.split_first().unwrap();
    let block = |client: &CClient| {
        let heard_all = heard_all.clone();
        let record = Record::doing(&client.turnstile, move |record| {
            if !heard_all.waited() {
                record.fault("the others were held up");
            }
        });
        std::mem::forget(client.listen(&keys, record));
        record
    };
    let blocking: Vec<&'static Record> = blocked.iter().map(block).collect();
    let record = Record::new(&free.turnstile);
    let _subscription = free.listen(&keys, record);
    for record in blocking.iter().chain([&record]) {
        drop(record.wait("the snapshot", |book| book.live));
    }
    // Each write waits for its result, which is a callback of the writer's.
    for written in 1..=20 {
        let flood = Flood::prepare(&server.url(), "room", &keys, 1);
        flood.begin(1);
        flood.wait();
        drop(record.wait("the change", |book| book.told == written));
    }
    heard_all.raise();
    blocking.iter().for_each(|record| check_book(record, 20, free, &keys));
}

#[test]
fn listeners_come_and_go_while_a_flood_runs() {
    const ROUNDS: usize = 100;
    let (server, keys) = (support::server(), keys(10));
    let flood = Flood::prepare(&server.url(), "room", &keys, u64::MAX);
    let client = CClient::join(&server.url(), "room");
    flood.begin(64);
    let mut stopped = Vec::new();
    for round in 0..ROUNDS {
        let ways: [fn(&CClient, &[String]) -> &'static Record; 5] =
            [cancelled_and_waited_for, cancelled, freed, stopped_by_itself, stopped_by_another];
        let way = ways[round % ways.len()];
        stopped.push(way(&client, &keys));
    }
    stopped.iter().for_each(|record| record.check_dropped());
    flood.stop();
    flood.wait();
    // Whatever came after they were stopped would stand in the book by now.
    drop(client);
    stopped.iter().for_each(|record| record.check_dropped());
}

fn cancelled_and_waited_for(client: &CClient, keys: &[String]) -> &'static Record {
    let record = Record::new(&client.turnstile);
    let subscription = client.listen(keys, record);
    drop(record.wait("changes", |book| book.told >= 3));
    assert_eq!(subscription.cancel_wait(), 0);
    record.silence();
    assert_eq!(record.book().drops, 1, "on_drop was called before cancel_wait returned");
    record
}

fn cancelled(client: &CClient, keys: &[String]) -> &'static Record {
    let record = Record::new(&client.turnstile);
    let subscription = client.listen(keys, record);
    drop(record.wait("a change", |book| book.told >= 1));
    subscription.cancel();
    subscription.cancel();
    record
}

fn freed(client: &CClient, keys: &[String]) -> &'static Record {
    let record = Record::new(&client.turnstile);
    drop(client.listen(keys, record));
    record
}

/// Inside its own callback, where waiting is refused.
fn stopped_by_itself(client: &CClient, keys: &[String]) -> &'static Record {
    let (give, given) = mpsc::channel::<c_side::CSubscription>();
    let record = Record::doing(&client.turnstile, move |record| {
        let Ok(subscription) = given.try_recv() else { return };
        let code = subscription.cancel_wait();
        if code != ErrorCode::WouldDeadlock.number() {
            record.fault(format!("cancel_wait inside a callback answered {code}"));
        }
        record.silence();
        drop(subscription);
    });
    give.send(client.listen(keys, record)).unwrap();
    record
}

/// Inside the callback of another listener of the same client.
fn stopped_by_another(client: &CClient, keys: &[String]) -> &'static Record {
    let (give, given) = mpsc::channel::<c_side::CSubscription>();
    let record = Record::new(&client.turnstile);
    let subscription = client.listen(keys, record);
    let other = Record::doing(&client.turnstile, move |_| {
        let Ok(subscription) = given.try_recv() else { return };
        subscription.cancel();
        record.silence();
    });
    let others = client.listen(keys, other);
    give.send(subscription).unwrap();
    record.check_dropped();
    assert_eq!(others.cancel_wait(), 0);
    other.check_dropped();
    record
}

#[test]
fn clients_are_freed_while_their_callbacks_run() {
    const CLIENTS: u64 = 40;
    static UPDATE_LISTENERS: AtomicU64 = AtomicU64::new(0);
    let (server, keys) = (support::server(), keys(10));
    let flood = Flood::prepare(&server.url(), "room", &keys, u64::MAX);
    flood.begin(64);
    let mut records = Vec::new();
    for round in 0..CLIENTS {
        let mut client = CClient::join_counted(&server.url(), "room", &UPDATE_LISTENERS);
        if round % 2 == 0 {
            // By another thread.
            let record = Record::new(&client.turnstile);
            let subscription = client.listen(&keys, record);
            drop(record.wait("changes", |book| book.told >= 3));
            client.free_client();
            // The store and the subscription outlive it.
            record.check_dropped();
            assert_eq!(subscription.cancel_wait(), 0, "it is stopped already");
            drop((client, subscription));
            records.push(record);
        } else {
            // Inside a callback, with everything that belongs to it.
            let (give, given) = mpsc::channel::<(CClient, c_side::CSubscription)>();
            let record = Record::doing(&client.turnstile, move |record| {
                if let Ok((client, subscription)) = given.try_recv() {
                    drop((client, subscription));
                    record.silence();
                }
            });
            let subscription = client.listen(&keys, record);
            give.send((client, subscription)).unwrap_or_else(|_| panic!("the listener is there"));
            records.push(record);
        }
    }
    records.iter().for_each(|record| record.check_dropped());
    support::patient("each update listener is dropped", || UPDATE_LISTENERS.load(Ordering::SeqCst) >= CLIENTS);
    flood.stop();
    flood.wait();
    records.iter().for_each(|record| record.check_dropped());
    assert_eq!(UPDATE_LISTENERS.load(Ordering::SeqCst), CLIENTS, "each once");
}

#[test]
fn cached_answers_while_a_callback_of_the_same_client_blocks() {
    let (server, keys) = (support::server(), keys(1));
    let flood = Flood::prepare(&server.url(), "room", &keys, 10);
    let client = CClient::join(&server.url(), "room");
    let (answered, blocks) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
    let (released, blocked) = (answered.clone(), blocks.clone());
    let record = Record::doing(&client.turnstile, move |record| {
        blocked.raise();
        if !released.waited() {
            record.fault("cached did not answer while this callback ran");
        }
    });
    let _subscription = client.listen(&keys, record);
    drop(record.wait("the snapshot", |book| book.live));
    flood.begin(1);
    blocks.wait("the callback has begun");
    flood.wait();
    // The replica goes on although the callback does not.
    support::patient("cached has the last write", || client.cached(&keys[0]) == Some((10, 9)));
    answered.raise();
    check_book(record, 10, &client, &keys);
}
