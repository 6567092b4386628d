//! Whether a history is linearizable: whether there is an order of its calls that a sequential store could
//! have seen, in which no call comes before one that had ended when it began (Wing and Gong, with Lowe's
//! memory of what was tried).

use std::collections::HashSet;
use std::fmt::{self, Debug};
use std::hash::Hash;

/// What a history is checked against.
pub trait Model {
    type State: Clone + Eq + Hash + Default;
    type Call: Debug;

    /// The states that a call with its recorded answer may lead to; none if the answer is impossible here.
    /// A call without an answer may have several.
    fn step(state: &Self::State, call: &Self::Call) -> Vec<Self::State>;
}

/// A call, from when it was made to when its answer was there.
#[derive(Clone, Debug)]
pub struct Recorded<C> {
    pub call: C,
    pub begun: u64,
    /// `None`: there was no answer; it may have happened at any time since, or not at all.
    pub ended: Option<u64>,
}

/// Why a history was not found to be linearizable.
#[derive(Debug)]
pub enum Verdict {
    /// It is not. So many calls could be put into an order, and then none of these could follow.
    Impossible { longest: usize, stuck: Vec<String> },
    /// The search was too long to be finished: a check that gives up must not pass.
    GaveUp,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Impossible { longest, stuck } => {
                write!(f, "{longest} of them have an order, after which none of these can follow: {}", stuck.join("; "))
            }
            Verdict::GaveUp => f.write_str("the search was too long to be finished"),
        }
    }
}

/// Far beyond what any of the histories here needs.
const MOST_TRIED: usize = 2_000_000;

pub fn check<M: Model>(history: &[Recorded<M::Call>]) -> Result<(), Verdict> {
    let words = history.len().div_ceil(64);
    let mut tried: HashSet<(Vec<u64>, M::State)> = HashSet::new();
    let mut stack = vec![(vec![0u64; words], M::State::default())];
    let (mut longest, mut stuck) = (0, Vec::new());
    while let Some((done, state)) = stack.pop() {
        if tried.len() > MOST_TRIED {
            return Err(Verdict::GaveUp);
        }
        let is_done = |nth: usize| done[nth / 64] >> (nth % 64) & 1 == 1;
        let open = |nth: &usize| !is_done(*nth);
        // The first end among those that must still happen: whatever began after it comes later.
        let first_end = (0..history.len()).filter(open).filter_map(|nth| history[nth].ended).min();
        let Some(first_end) = first_end else { return Ok(()) };
        let next = (0..history.len()).filter(open).filter(|nth| history[*nth].begun < first_end);
        let mut went_on = false;
        for nth in next.clone() {
            for after in M::step(&state, &history[nth].call) {
                went_on = true;
                let mut done = done.clone();
                done[nth / 64] |= 1 << (nth % 64);
                if tried.insert((done.clone(), after.clone())) {
                    stack.push((done, after));
                }
            }
        }
        let length = done.iter().map(|word| word.count_ones() as usize).sum();
        if !went_on && length >= longest {
            longest = length;
            stuck = next.map(|nth| format!("{:?}", history[nth].call)).collect();
        }
    }
    Err(Verdict::Impossible { longest, stuck })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A single number.
    struct Register;

    #[derive(Clone, Debug)]
    enum Call {
        Write(u8),
        Read(u8),
        /// Replaces a number, if it is that.
        Swap(u8, u8, bool),
        /// A write without an answer.
        Lost(u8),
    }

    impl Model for Register {
        type State = u8;
        type Call = Call;

        fn step(state: &u8, call: &Call) -> Vec<u8> {
            match call {
                Call::Write(value) | Call::Lost(value) => vec![*value],
                Call::Read(value) if value == state => vec![*state],
                Call::Swap(from, to, true) if from == state => vec![*to],
                Call::Swap(from, _, false) if from != state => vec![*state],
                Call::Read(_) | Call::Swap(..) => vec![],
            }
        }
    }

    fn at(call: Call, begun: u64, ended: u64) -> Recorded<Call> {
        Recorded { call, begun, ended: (ended > 0).then_some(ended) }
    }

    fn is_linearizable(history: &[Recorded<Call>]) -> bool {
        check::<Register>(history).is_ok()
    }

    #[test]
    fn small_histories_are_judged_rightly() {
        use Call::{Lost, Read, Swap, Write};
        // While a write goes on, both values may be read, but not the old one after the new.
        assert!(is_linearizable(&[at(Write(1), 1, 10), at(Read(0), 2, 3), at(Read(1), 4, 5)]));
        assert!(!is_linearizable(&[at(Write(1), 1, 10), at(Read(1), 2, 3), at(Read(0), 4, 5)]));
        // A stale read, a write that vanished, a value that nobody wrote.
        assert!(!is_linearizable(&[at(Write(1), 1, 2), at(Read(0), 3, 4)]));
        assert!(!is_linearizable(&[at(Write(1), 1, 2), at(Write(2), 3, 4), at(Read(1), 5, 6)]));
        assert!(!is_linearizable(&[at(Read(1), 1, 2), at(Write(1), 3, 4)]));
        // Of two swaps from one value, one succeeds.
        assert!(is_linearizable(&[at(Swap(0, 1, true), 1, 9), at(Swap(0, 2, false), 1, 9), at(Read(1), 10, 11)]));
        assert!(!is_linearizable(&[at(Swap(0, 1, true), 1, 9), at(Swap(0, 2, true), 1, 9)]));
        // Without an answer it may have happened, late or never, but not undone.
        assert!(is_linearizable(&[at(Lost(1), 1, 0), at(Read(0), 2, 3), at(Read(1), 4, 5)]));
        assert!(is_linearizable(&[at(Lost(1), 1, 0), at(Read(0), 2, 3)]));
        assert!(!is_linearizable(&[at(Lost(1), 1, 0), at(Read(1), 2, 3), at(Read(0), 4, 5)]));
        assert!(!is_linearizable(&[at(Read(1), 2, 3), at(Lost(1), 4, 0)]));
    }

    /// Every order there is, tried one after the other.
    fn brute_force(history: &[Recorded<Call>], done: &mut Vec<usize>, state: u8) -> bool {
        let open: Vec<usize> = (0..history.len()).filter(|nth| !done.contains(nth)).collect();
        if open.iter().all(|nth| history[*nth].ended.is_none()) {
            return true;
        }
        open.iter().any(|&nth| {
            let is_late = open.iter().any(|&other| history[other].ended.is_some_and(|end| end < history[nth].begun));
            !is_late
                && Register::step(&state, &history[nth].call).into_iter().any(|after| {
                    done.push(nth);
                    let found = brute_force(history, done, after);
                    done.pop();
                    found
                })
        })
    }

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            (0..3u8).prop_map(Call::Write),
            (0..3u8).prop_map(Call::Read),
            (0..3u8, 0..3u8, any::<bool>()).prop_map(|(from, to, done)| Call::Swap(from, to, done)),
            (0..3u8).prop_map(Call::Lost),
        ]
    }

    proptest! {
        #[test]
        fn any_history_is_judged_as_by_trying_every_order(calls in proptest::collection::vec((call(), 0..12u64, 1..6u64), 0..7)) {
            let history: Vec<_> = calls
                .into_iter()
                .enumerate()
                .map(|(nth, (call, begun, length))| {
                    // No two ticks are the same.
                    let (begun, ended) = (begun * 100 + nth as u64, (begun + length) * 100 + nth as u64 + 50);
                    let ended = if matches!(call, Call::Lost(_)) { 0 } else { ended };
                    at(call, begun, ended)
                })
                .collect();
            prop_assert_eq!(is_linearizable(&history), brute_force(&history, &mut Vec::new(), 0));
        }
    }
}
