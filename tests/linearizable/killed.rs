//! A server that is killed again and again, and each time goes on from its data directory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sessionstore::{Client, ClientOptions, Error, ErrorCode, KeyChange, UpdateListener};

use super::process::{sstore, Serving};
use super::store::{Answer, Asked, KEYS};
use super::support::{patient, SAFETY};
use super::{explained, hammer, rounds, History, Real};

/// How often the server is killed.
fn kills() -> u64 {
    std::env::var("SESSIONSTORE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// So many in one room, whose history is then looked at.
const KILLS_PER_ROOM: u64 = 4;
const CLIENTS: u64 = 4;

/// Nothing but the state of the connection may change.
struct NothingIsLost;

impl UpdateListener for NothingIsLost {
    fn on_error(&mut self, error: &Error) {
        panic!("{error}");
    }
}

/// Says that it is over when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn it_is_also_when_the_server_is_killed_and_goes_on_from_its_journal() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("killed-{}", std::process::id()));
    let serve = |port: &str| {
        // Two loops, and a grace period that no pause of a busy machine reaches.
        let arguments = ["serve", "--port", port, "--threads", "2", "--grace", "10m", "--log-level", "warn"];
        let mut command = sstore(&arguments);
        command.arg("--data-dir").arg(&directory);
        Serving::command(command)
    };
    let first = serve("0");
    let url = first.url.clone();
    let mut serving = Some(first);
    let port = url.rsplit(':').next().expect("a port").to_owned();
    let (mut unknown, mut answered) = (0, 0);
    for round in 0..kills().div_ceil(KILLS_PER_ROOM) {
        let room = format!("room {round}");
        let history = History::default();
        let heard: [Mutex<Vec<u64>>; KEYS.len()] = std::array::from_fn(|_| Mutex::new(Vec::new()));
        let listener = Client::open(ClientOptions::new(&url, &room), NothingIsLost).expect("opens");
        let store = listener.join_wait(SAFETY).expect("joins");
        let heard = std::sync::Arc::new(heard);
        let own = heard.clone();
        let listen = store.listen(&KEYS, move |change: KeyChange<'_>| {
            if let KeyChange::Event(event) = change {
                let nth = KEYS.iter().position(|key| **key == *event.change.key).expect("one of the keys");
                own[nth].lock().unwrap().push(event.change.version);
            }
        });
        let _subscription = listen.expect("listens");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Also if something below fails, so that the failure is told.
            let _over = Over(&over);
            for nth in 0..CLIENTS {
                let (history, over, room, url) = (&history, &over, &room, &url);
                scope.spawn(move || {
                    let mut target = Real::open(url, room);
                    let mut random = StdRng::seed_from_u64(round * 1_000 + nth);
                    while !over.load(Ordering::SeqCst) {
                        let seed = random.random_range(0..u64::MAX);
                        hammer(history, &mut *target, StdRng::seed_from_u64(seed), 4);
                    }
                });
            }
            let mut random = StdRng::seed_from_u64(round);
            for _ in 0..KILLS_PER_ROOM {
                // Under load, at any moment.
                let calls = history.clock.load(Ordering::SeqCst) + random.random_range(4..40);
                patient("clients go on", || history.clock.load(Ordering::SeqCst) >= calls);
                // Killed with SIGKILL, and waited for: until then it has the port and the directory.
                drop(serving.take());
                serving = Some(serve(&port));
            }
        });
        // What is there in the end is part of the story.
        let mut reader = Real::open(&url, &room);
        for (key, heard) in heard.iter().enumerate() {
            let Answer::State { version, .. } = history.record(&mut *reader, Asked::Get { key }) else { panic!() };
            if version > 0 {
                patient("the listener hears the last", || heard.lock().unwrap().last() == Some(&version));
            }
            let heard = heard.lock().unwrap();
            assert!(heard.iter().filter(|version| **version > 0).is_sorted_by(|a, b| a < b), "{heard:?}");
        }
        let history = history.calls.into_inner().unwrap();
        let asked = history.iter().filter(|recorded| !matches!(recorded.call.0, Asked::LockEnds { .. }));
        for recorded in asked {
            answered += 1;
            unknown += u64::from(recorded.call.1 == Answer::Unknown);
        }
        explained(&history, round);
    }
    drop(serving);
    let _ = std::fs::remove_dir_all(&directory);
    println!("{} kills, {answered} requests, {unknown} of which gave up without an answer", kills());
    assert!(answered > 100 && rounds(1) > 0);
}

#[test]
fn the_code_of_an_answer_that_is_lost_is_known() {
    assert!(matches!(Real::answer(Asked::Get { key: 0 }, Err(ErrorCode::OutcomeUnknown.into())), Answer::Unknown));
}
