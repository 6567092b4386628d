//! A server wakes for the next thing that is due in its rooms, and not to look whether something is. Alone in its
//! process, because the threads that are looked at belong to all servers of a process.
#![cfg(target_os = "linux")]

mod support;

use std::sync::mpsc;

use sessionstore::core::limits::Limits;
use sessionstore::{Cause, Client, ClientOptions, Expiry, KeyChange, LockOptions, Write};
use support::{server_with, sleeps, SAFETY};

#[test]
fn a_server_wakes_for_the_next_deadline_and_not_before() {
    /// Once for the key; once a second to look after its connections; and the timer may wake once or twice on
    /// its way to each, because it counts in slots of growing length. Looking a hundred times a second would be
    /// two hundred.
    const MOST_WAKES: u64 = 20;
    const TTL_MS: u64 = 2_000;
    let server = server_with(|options| options.limits = Limits { grace_ms: 3_600_000, ..Limits::default() });
    let client = Client::open(ClientOptions::new(server.url(), "room"), ()).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    let (told, heard) = mpsc::channel();
    let listener = move |change: KeyChange<'_>| {
        if let KeyChange::Event(event) = change {
            let _ = told.send(event.change.clone());
        }
    };
    let _listening = store.listen(&["soon"], listener).unwrap();
    // Much else waits for its time, and none of it is due.
    for nth in 0..50 {
        let later = Write { expiry: Some(Expiry::After(3_600_000 + nth)), ..Write::set("", 1.into()) };
        store.write(Write { key: format!("later/{nth}").into(), ..later }, None).wait(SAFETY).unwrap();
    }
    let _lock = store.lock("lock", LockOptions { ttl_ms: 300_000, wait_ms: 0 }, |_| ()).wait(SAFETY).unwrap();
    let soon = Write { expiry: Some(Expiry::After(TTL_MS)), ..Write::set("soon", true.into()) };
    let set = store.write(soon, None).wait(SAFETY).unwrap();
    let before = sleeps("sstore-loop-0").expect("there is a loop");
    let gone = loop {
        let change = heard.recv_timeout(SAFETY).expect("the key expires");
        if change.cause == Cause::Expired {
            break change;
        }
    };
    let woken = sleeps("sstore-loop-0").expect("there is a loop") - before;
    assert_eq!(gone.updated_at, set.expires_at, "it is gone from its time on, whenever that is told");
    assert!((1..=MOST_WAKES).contains(&woken), "{woken} wakes until the key expired");
}
