//! Clients and a server of several rooms on simulated time and a simulated network, which delays messages, loses
//! connections, tells the two sides of it at different times, delivers on an old connection what overtakes the new
//! one or is overtaken by it, and starts the server anew. The whole is deterministic: a seed
//! that fails is run again by its number.
//!
//! `SESSIONSTORE_SEED=17 cargo test --test simulation` runs one seed, `SESSIONSTORE_SEEDS=100000` many.
//!
//! The clients are driven by the library's own replica and requests, the server by its room and messages.
//! Faults that are planted in one or the other show that the checks bite.

mod client;
mod server;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

/// What is wrong, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server applies what comes again once more.
    AppliedAgain,
    /// The server gives no peer a secret, and so remembers no answers.
    NoSecrets,
    /// The client takes what was sent for not applied when the connection breaks.
    NotSentAgain,
    /// The client says that it has answers which it does not have.
    AnsweredTooEarly,
    /// The client takes back what was sent.
    TakenBackTooLate,
    /// The client says that it knows everything up to a revision though it asks for other keys now.
    KnowsTooMuch,
    /// The client takes a peer that is in the room for the one it was, though that one may have gone meanwhile.
    TrustsReturned,
    /// A message is lost in the middle of a connection.
    LosesMessages,
    /// The server says what it has done before it is kept.
    KeptTooLate,
    /// The server goes on with the same session though the last of what was kept is lost.
    SameSession,
    /// The server does not remember what it refused for coming too fast.
    RefusalForgotten,
    /// The server does not look at the version that a write expects.
    ConditionForgotten,
    /// The server does not look at the lock that a write requires.
    GuardForgotten,
    /// The server does not let a key go at its time.
    ExpiryForgotten,
    /// The server does not let a key go with its peer.
    OwnerForgotten,
    /// The server keeps a peer in the room that has left.
    StaysAfterLeave,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// What comes of the numbers from 0 on, worked on by all cores; ends with the first that fails.
fn on_all_cores<T: Send>(numbers: u64, work: impl Fn(u64) -> Result<T, String> + Sync) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let one_after_the_other = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers {
                return done;
            }
            let result = work(number);
            if result.is_err() {
                next.store(numbers, Ordering::Relaxed);
            }
            done.push((number, result));
        }
    };
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(one_after_the_other)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker ends")).collect()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result.unwrap_or_else(|fault| panic!("{fault}"))).collect()
}

#[test]
fn whatever_breaks_nothing_is_lost_or_done_twice_and_all_end_with_the_same() {
    if let Some(seed) = number("SESSIONSTORE_SEED") {
        return World::run(seed, None).map(|summary| println!("{summary:?}")).unwrap_or_else(|fault| panic!("{fault}"));
    }
    let mut sum = world::Summary::default();
    let seeds = number("SESSIONSTORE_SEEDS").unwrap_or(100);
    for summary in on_all_cores(seeds, |seed| World::run(seed, None).map_err(|fault| format!("seed {seed}: {fault}"))) {
        sum += summary;
    }
    println!("{sum:?}");
    // Otherwise this has tested nothing.
    let counts = [
        sum.applied,
        sum.cuts,
        sum.restarts,
        sum.kept,
        sum.sent_again,
        sum.unknown,
        sum.told,
        sum.net_changes,
        sum.too_fast,
        sum.given_up,
        sum.left,
        sum.sessions,
        sum.expired,
        sum.gone_with_a_peer,
        sum.guarded,
        sum.conditional,
        sum.too_many,
        sum.taken_back,
    ];
    assert!(counts.iter().all(|count| *count > seeds / 2) && sum.power_cuts > seeds / 10, "{sum:?}");
}

#[test]
fn the_same_seed_is_the_same_story() {
    let story = |seed| World::run(seed, None).unwrap_or_else(|fault| panic!("{fault}"));
    for seed in [1, 2, 3] {
        assert_eq!(format!("{:?}", story(seed)), format!("{:?}", story(seed)));
    }
}

#[test]
fn every_planted_fault_is_found() {
    let faults = [
        Fault::AppliedAgain,
        Fault::NoSecrets,
        Fault::NotSentAgain,
        Fault::AnsweredTooEarly,
        Fault::TakenBackTooLate,
        Fault::KnowsTooMuch,
        Fault::TrustsReturned,
        Fault::LosesMessages,
        Fault::KeptTooLate,
        Fault::SameSession,
        Fault::RefusalForgotten,
        Fault::ConditionForgotten,
        Fault::GuardForgotten,
        Fault::ExpiryForgotten,
        Fault::OwnerForgotten,
        Fault::StaysAfterLeave,
    ];
    let found = on_all_cores(faults.len() as u64, |nth| {
        let fault = faults[nth as usize];
        let found = (0..2_000).find_map(|seed| World::run(seed, Some(fault)).err().map(|story| (seed, story)));
        let (seed, story) = found.ok_or_else(|| format!("{fault:?} was not found in 2,000 seeds"))?;
        Ok(format!("{fault:?}: seed {seed}: {story}"))
    });
    found.iter().for_each(|found| println!("{found}"));
}
