//! Processes that hold the lock are killed while others ask for it and for everything else. What they were granted is
//! part of the history, and so is what is still written in their name.

use rand::rngs::StdRng;
use rand::SeedableRng;
use sessionstore::{ClientOptions, Lock};

use super::process::{sstore, Running, Serving};
use super::store::{Answer, Asked};
use super::support::patient;
use super::{explained, hammer, rounds, History, Real, LOCK};

const CLIENTS: u64 = 3;
const CALLS: usize = 12;

/// All clients ask at once, while something happens beside it.
fn burst(history: &History, clients: &mut [Real], seed: u64, beside: impl FnOnce()) {
    std::thread::scope(|scope| {
        for (nth, client) in clients.iter_mut().enumerate() {
            let random = StdRng::seed_from_u64(seed * 100 + nth as u64);
            scope.spawn(move || {
                hammer(history, client, random, CALLS);
                if let Some(token) = client.held.as_ref().map(Lock::token) {
                    history.record(client, Asked::Release { token });
                }
            });
        }
        beside();
    });
}

#[test]
fn what_a_killed_holder_was_granted_is_worth_nothing_once_another_has_it() {
    // Long enough that it is the lease that ends.
    let server = Serving::start(&["--grace", "10m"]);
    for round in 0..rounds(3) {
        let room = format!("room {round}");
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Real::with(ClientOptions::new(&server.url, &room))).collect();
        let mut late = Real::with(ClientOptions::new(&server.url, &room));
        let watching = late.store.clone();
        let shown = || watching.get(&format!("$lock/{LOCK}")).wait(super::SAFETY).expect("who holds the lock").version;
        let history = History::default();
        burst(&history, &mut clients, 2 * round, || ());

        let begun = history.tick();
        let script = "echo $SSTORE_LOCK_TOKEN; read line";
        let mut command = sstore(&["lock", LOCK, "--ttl", "1s", "--", "/bin/sh", "-c", script]);
        command.env("SSTORE_URL", &server.url).env("SSTORE_ROOM", &room);
        let holder = Running::start(command);
        let token: u64 = holder.stdout.next().parse().expect("a token");
        history.granted(token, begun);
        let guarded = |value| Asked::Guarded { key: 0, value, token };
        burst(&history, &mut clients, 2 * round + 1, || {
            holder.signal("KILL");
            // Until the lease ends it is held, if only by one who is dead.
            history.record(&mut late, guarded(1_001));
        });
        patient("the lease of one who was killed to end", || shown() != token);
        assert_eq!(history.record(&mut late, guarded(1_002)), Answer::Lost);
        burst(&history, &mut clients, 1_000 + round, || {
            assert_eq!(history.record(&mut late, guarded(1_003)), Answer::Lost);
        });
        explained(&history.calls.into_inner().unwrap(), round);
    }
}
