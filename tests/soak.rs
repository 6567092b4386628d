//! Rooms that come and go for as long as you like, with everything that clients do and connections that break:
//! memory, descriptors and threads of server and clients together stay where they were.
//!
//! `make soak SECONDS=3600` runs for an hour; `cargo test` for a few rounds.
#![cfg(target_os = "linux")]

mod support;

use std::time::{Duration, Instant};

use sessionstore::{Client, ClientOptions, KeyChange, LockOptions, Selector, Server, Store, Value};
use support::{patient, server_with, Cable, SAFETY};

/// Rounds before the first that counts: allocators and pools grow to their size.
const WARM_UP: usize = 5;
/// Rounds that count at least.
const ROUNDS: usize = 15;
const CLIENTS: usize = 20;

fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: u64 = statm.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("the resident pages");
    pages * 4
}

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

/// Everybody joins, half of them over cables that are cut, and does everything there is to do.
fn round(server: &Server, nth: usize) {
    let room = format!("room {}", nth % 3);
    let cable = Cable::to(server.local_addr());
    let open = |number: usize| {
        let url = if number.is_multiple_of(2) { server.url() } else { cable.url() };
        let options = ClientOptions { reconnect_min_ms: 1, ..ClientOptions::new(url, &room) };
        let client = Client::open(options, ()).expect("opens");
        let store = client.join_wait(SAFETY).expect("joins");
        (client, store)
    };
    let members: Vec<(Client, Store)> = (0..CLIENTS).map(open).collect();
    let subscriptions: Vec<_> = members
        .iter()
        .map(|(_, store)| {
            let selector = Selector::keys(["spotlight", "votes"]).and_prefix("hand/");
            store.listen_to(&selector, |_: KeyChange<'_>| ()).expect("listens")
        })
        .collect();
    for step in 0..10 {
        for (number, (_, store)) in members.iter().enumerate() {
            let key = format!("hand/{number}");
            let value = if step % 2 == 0 { Value::from("x".repeat(200 + number).as_str()) } else { Value::null() };
            store.set(&key, value).on_result(|_| ()).expect("queued");
            store.add("votes", 1).on_result(|_| ()).expect("queued");
        }
        if step % 4 == 3 {
            cable.cut();
            cable.mend();
        }
        let options = LockOptions { wait_ms: 1_000, ..LockOptions::default() };
        if let Ok(lock) = members[step % CLIENTS].1.lock("presenter", options, |_| ()).wait(SAFETY) {
            let _ = lock.release().wait(SAFETY);
        }
    }
    // What was asked before it is answered before it.
    members.iter().for_each(|(_, store)| drop(store.get("votes").wait(SAFETY).expect("an answer")));
    let votes = members[0].1.get("votes").wait(SAFETY).expect("a sum");
    assert_eq!(votes.value, Value::from(10 * CLIENTS as i64), "each was applied once, also where the connection broke");
    for (client, _) in members.iter().step_by(3) {
        client.leave().wait(SAFETY).expect("leaves");
    }
    drop(subscriptions);
    drop(members);
    patient("everybody to be gone", || server.stats().peers == 0 && server.stats().connections == 0);
}

#[test]
fn memory_descriptors_and_threads_stay_flat() {
    let seconds = std::env::var("SESSIONSTORE_SOAK_SECONDS").map_or(0, |text| text.parse().expect("seconds"));
    let until = Instant::now() + Duration::from_secs(seconds);
    // Connections that are cut and never come back must not keep their peers.
    let server = server_with(|options| options.limits.grace_ms = 2_000);
    let mut figures: Vec<(u64, usize, usize)> = Vec::new();
    let mut nth = 0;
    while nth < WARM_UP + ROUNDS || Instant::now() < until {
        round(&server, nth);
        nth += 1;
        if nth <= WARM_UP {
            continue;
        }
        if let Some((_, descriptors, threads)) = figures.first() {
            // Cables and shared threads end a moment after those who used them.
            patient("descriptors and threads to be as many as before", || {
                count("/proc/self/fd") <= *descriptors && count("/proc/self/task") <= *threads
            });
        } else {
            let least = || (count("/proc/self/fd"), count("/proc/self/task"));
            let mut seen = least();
            patient("what the first rounds used to be given back", || {
                let now = least();
                std::mem::replace(&mut seen, now) == now && server.stats().connections == 0
            });
        }
        figures.push((resident_kib(), count("/proc/self/fd"), count("/proc/self/task")));
        if seconds > 0 && figures.len() % 100 == 1 {
            println!("round {nth}: {:?} (KiB, descriptors, threads)", figures[figures.len() - 1]);
        }
    }
    // The allocator keeps what it had at most; what leaks grows with the rounds.
    let third = figures.len() / 3;
    let median = |part: &[(u64, usize, usize)]| {
        let mut memory: Vec<u64> = part.iter().map(|figure| figure.0).collect();
        memory.sort_unstable();
        memory[memory.len() / 2]
    };
    let (before, after) = (median(&figures[..third]), median(&figures[figures.len() - third..]));
    let rounds = figures.len();
    println!("{rounds} rounds of {CLIENTS} clients: {before} KiB resident in the first third, {after} KiB in the last");
    assert!(after <= before + before / 10 + 2_048, "{before} KiB became {after} KiB in {rounds} rounds");
}
