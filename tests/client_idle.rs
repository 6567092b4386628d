//! An idle client wakes the processor only for its ping. Alone in its process, because all clients of
//! a process share the thread that is looked at.
#![cfg(target_os = "linux")]

mod support;

use std::sync::mpsc;

use sessionstore::{Client, ClientOptions};
use support::{scripted, sleeps, SAFETY};

/// A server that lets one client join, answers its pings, and tells of each before it answers.
fn counting_pings(told: mpsc::Sender<()>) -> String {
    scripted(move |mut socket| {
        while let Ok(message) = socket.read() {
            if message.is_ping() && told.send(()).is_err() {
                return;
            }
            // The answer to a ping waits to be flushed.
            let _ = socket.flush();
        }
    })
}

#[test]
fn an_idle_client_wakes_only_for_its_ping() {
    /// A ping and its answer are two reasons to wake; the timer may wake once or twice on its way to
    /// the ping, because it counts in slots of growing length.
    const WAKES_PER_PING: u64 = 5;
    const PINGS: u64 = 6;
    let (told, pings) = mpsc::channel();
    let options = ClientOptions { heartbeat_ms: 500, ..ClientOptions::new(counting_pings(told), "room") };
    let client = Client::open(options, ()).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    let heard = |pings: &mpsc::Receiver<()>| pings.recv_timeout(SAFETY).expect("an idle client pings");
    heard(&pings);
    let network = sleeps("sessionstore-net").expect("there is a network thread");
    let callbacks = sleeps("sessionstore-cb");
    (0..PINGS).for_each(|_| heard(&pings));
    let woken = sleeps("sessionstore-net").expect("there is a network thread") - network;

    assert!(woken >= PINGS, "{woken} wakes for {PINGS} pings: the wrong thread is counted");
    assert!(woken <= WAKES_PER_PING * PINGS, "{woken} wakes for {PINGS} pings");
    let more = sleeps("sessionstore-cb").unwrap_or(0).saturating_sub(callbacks.unwrap_or(0));
    assert_eq!(more, 0, "nothing was told, so no thread of callbacks woke");
    drop((store, client));
}
