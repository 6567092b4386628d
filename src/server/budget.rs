//! How much one peer may ask: a bucket of requests and one of bytes, each refilled as time passes.
//!
//! Time is handed in, and all is integers: what is left is counted in thousandths, of which a rate of so
//! many per second adds just as many per millisecond.

use crate::core::error::Error;
use crate::core::room::Time;

use super::options::{ServerOptions, BURSTS_REFUSED, BURST_SECONDS};

/// Thousandths of one.
const ONE: i64 = 1_000;

/// What everybody is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    requests: Rate,
    bytes: Rate,
}

/// So many per second; 0: without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    per_second: i64,
    /// How many at once, in thousandths.
    burst: i64,
}

/// What one peer has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    rates: Rates,
    /// In thousandths.
    requests: i64,
    /// In thousandths; below 0 what was read beyond it, because bytes are there before they are counted.
    bytes: i64,
    refilled_at: Time,
    /// Requests that were refused since both buckets were full, beyond those that were granted meanwhile: who
    /// comes back at the time it is told is refused once for each that is granted, for as long as it likes.
    refused: i64,
}

impl Rates {
    /// Those of the options; none if nothing is limited.
    pub fn of(options: &ServerOptions) -> Option<Rates> {
        let requests = Rate::new(options.max_requests_per_second, options.max_request_burst);
        let bytes = Rate::new(options.max_request_bytes_per_second, 0);
        (requests.is_limited() || bytes.is_limited()).then_some(Rates { requests, bytes })
    }
}

impl Rate {
    fn new(per_second: u32, burst: u32) -> Rate {
        let burst = match burst {
            0 => i64::from(per_second) * BURST_SECONDS,
            burst => i64::from(burst),
        };
        Rate { per_second: per_second.into(), burst: burst * ONE }
    }

    fn is_limited(self) -> bool {
        self.per_second > 0
    }

    /// What `left` becomes when so many milliseconds pass.
    fn refilled(self, left: i64, elapsed_ms: i64) -> i64 {
        left.saturating_add(self.per_second.saturating_mul(elapsed_ms)).min(self.burst)
    }

    /// Milliseconds until `left` is at least `wanted`.
    fn wait_ms(self, left: i64, wanted: i64) -> u64 {
        if !self.is_limited() || left >= wanted {
            return 0;
        }
        let missing = wanted.saturating_sub(left);
        // Rounded up: who comes back then must not be refused for a fraction.
        (missing.saturating_add(self.per_second - 1) / self.per_second) as u64
    }
}

impl Budget {
    /// Full buckets.
    pub fn new(rates: Rates, now: Time) -> Budget {
        Budget { rates, requests: rates.requests.burst, bytes: rates.bytes.burst, refilled_at: now, refused: 0 }
    }

    /// Takes note of the time: once for each read, whatever is in it.
    pub fn refill(&mut self, now: Time) {
        let elapsed_ms = i64::try_from(now.saturating_sub(self.refilled_at)).unwrap_or(i64::MAX);
        if elapsed_ms == 0 {
            return;
        }
        self.refilled_at = now;
        let Rates { requests, bytes } = self.rates;
        self.requests = requests.refilled(self.requests, elapsed_ms);
        self.bytes = bytes.refilled(self.bytes, elapsed_ms);
        if self.requests == requests.burst && self.bytes == bytes.burst {
            self.refused = 0;
        }
    }

    /// Counts bytes that were read.
    pub fn spend_bytes(&mut self, count: usize) {
        if self.rates.bytes.is_limited() {
            let thousandths = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(ONE);
            self.bytes = self.bytes.saturating_sub(thousandths);
        }
    }

    /// Counts a request, or refuses it with `RATE_LIMITED`.
    pub fn spend_request(&mut self) -> Result<(), Error> {
        let Rates { requests, bytes } = self.rates;
        let wait_ms = requests.wait_ms(self.requests, ONE).max(bytes.wait_ms(self.bytes, 1));
        if wait_ms > 0 {
            self.refused = self.refused.saturating_add(1);
            return Err(Error::too_fast(wait_ms));
        }
        if requests.is_limited() {
            self.requests -= ONE;
        }
        self.refused = self.refused.saturating_sub(1).max(0);
        Ok(())
    }

    /// Whether it was refused so much that it does not look as if it would ever stop. Its connection is
    /// closed then, and who comes back has what is left, with its refusals counted anew.
    pub fn was_abused(&mut self) -> bool {
        let Rates { requests, bytes } = self.rates;
        let (most, most_bytes) =
            (requests.burst.saturating_mul(BURSTS_REFUSED), bytes.burst.saturating_mul(BURSTS_REFUSED));
        let was_abused = (requests.is_limited() && self.refused.saturating_mul(ONE) > most)
            || (bytes.is_limited() && self.bytes < most_bytes.saturating_neg());
        if was_abused {
            self.refused = 0;
        }
        was_abused
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::error::ErrorCode;

    fn budget(requests: u32, burst: u32, bytes: u32) -> Budget {
        let options = ServerOptions {
            max_requests_per_second: requests,
            max_request_burst: burst,
            max_request_bytes_per_second: bytes,
            ..ServerOptions::default()
        };
        Budget::new(Rates::of(&options).expect("something is limited"), 1_000)
    }

    fn refused(budget: &mut Budget) -> u64 {
        let error = budget.spend_request().expect_err("refused");
        assert_eq!(error, ErrorCode::RateLimited);
        error.retry_after_ms().expect("a time")
    }

    #[test]
    fn nothing_is_limited_by_default() {
        assert_eq!(Rates::of(&ServerOptions::default()), None);
    }

    #[test]
    fn a_burst_then_the_rate_and_the_time_it_says_is_the_time_it_takes() {
        let mut budget = budget(3, 10, 0);
        (0..10).for_each(|_| budget.spend_request().expect("within the burst"));
        // A third of a second, rounded up.
        assert_eq!(refused(&mut budget), 334);
        budget.refill(1_333);
        assert_eq!(refused(&mut budget), 1);
        budget.refill(1_334);
        budget.spend_request().expect("the time has come");
        assert!(refused(&mut budget) > 300);
        // However long it was quiet, the burst is all there is.
        budget.refill(Time::MAX);
        (0..10).for_each(|_| budget.spend_request().expect("within the burst"));
        refused(&mut budget);
    }

    #[test]
    fn the_usual_burst_is_some_seconds_worth() {
        let mut budget = budget(7, 0, 0);
        (0..7 * BURST_SECONDS).for_each(|_| budget.spend_request().expect("within the burst"));
        refused(&mut budget);
    }

    #[test]
    fn bytes_are_owed_and_paid_back() {
        let mut budget = budget(0, 0, 1_000);
        budget.spend_request().expect("nothing was read");
        budget.spend_bytes(1_000 * BURST_SECONDS as usize + 250);
        assert_eq!(refused(&mut budget), 251, "what was read too much, and one byte");
        budget.refill(1_251);
        budget.spend_request().expect("paid back");
    }

    #[test]
    fn who_does_not_stop_is_told_apart_from_who_was_hasty() {
        let mut hasty = budget(1, 2, 0);
        for second in 1..1_000 {
            // Three refusals, and then quiet until all is well again.
            (0..2).for_each(|_| hasty.spend_request().expect("within the burst"));
            for _ in 0..3 {
                refused(&mut hasty);
            }
            hasty.refill(1_000 + second * 2_000);
            assert!(!hasty.was_abused());
        }
        let mut flood = budget(1, 2, 0);
        (0..2).for_each(|_| flood.spend_request().expect("within the burst"));
        for nth in 0..2 * BURSTS_REFUSED {
            refused(&mut flood);
            assert!(!flood.was_abused(), "after {nth}");
        }
        refused(&mut flood);
        assert!(flood.was_abused());
        refused(&mut flood);
        assert!(!flood.was_abused(), "counted anew");
        // Who never has enough, and comes back each time when it is told to.
        let mut steady = budget(10, 20, 0);
        let mut now = 1_000;
        for nth in 0..10_000 {
            now += steady.spend_request().map_or_else(|error| error.retry_after_ms().expect("a time"), |()| 0);
            steady.refill(now);
            assert!(!steady.was_abused(), "after {nth}");
        }
        let mut bytes = budget(0, 0, 10);
        bytes.spend_bytes(10 * (BURST_SECONDS * (BURSTS_REFUSED + 1)) as usize);
        assert!(!bytes.was_abused());
        bytes.spend_bytes(1);
        assert!(bytes.was_abused());
    }

    proptest! {
        /// Against the definition: in any stretch of time no more is granted than the burst and what the rate
        /// gives meanwhile.
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            rate in 1u32..2_000, burst in 1u32..50, pauses in proptest::collection::vec(0u64..400, 1..200)
        ) {
            let mut budget = budget(rate, burst, 0);
            let mut now = 1_000;
            let mut granted: Vec<Time> = Vec::new();
            for pause in pauses {
                now += pause;
                budget.refill(now);
                match budget.spend_request() {
                    Ok(()) => granted.push(now),
                    Err(error) => {
                        let wait = error.retry_after_ms().expect("a time");
                        let mut later = budget.clone();
                        later.refill(now + wait);
                        prop_assert!(later.spend_request().is_ok(), "refused at the time it named");
                        let mut earlier = budget.clone();
                        earlier.refill(now + wait - 1);
                        prop_assert!(earlier.spend_request().is_err(), "it named a time too late");
                    }
                }
            }
            for (first, from) in granted.iter().enumerate() {
                for (last, to) in granted.iter().enumerate().skip(first) {
                    let most = u64::from(burst) + (to - from) * u64::from(rate) / 1_000 + 1;
                    prop_assert!((last - first + 1) as u64 <= most);
                }
            }
        }

        #[test]
        fn no_numbers_are_too_large(rate in any::<u32>(), burst in any::<u32>(), bytes in any::<u32>(), now in any::<Time>(), read in any::<usize>()) {
            prop_assume!(rate > 0 || bytes > 0);
            let mut budget = budget(rate, burst, bytes);
            for _ in 0..3 {
                budget.refill(now);
                budget.spend_bytes(read);
                let _ = budget.spend_request();
                let _ = budget.was_abused();
            }
        }
    }
}
