//! Moments that know how long the machine slept meanwhile.

use std::time::{Duration, Instant};

/// A moment by two clocks: the one that timers go by, which on most systems stands still while the machine sleeps, and, where
/// there is one, another that goes on. What another machine counts down meanwhile, such as a lease, is over by the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// For timers.
    pub(crate) at: Instant,
    asleep_or_not: Option<Duration>,
}

/// How late something is noticed after a sleep that is over by the second clock: a sleep stops timers.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Moment {
    pub(crate) fn now() -> Moment {
        Moment { at: Instant::now(), asleep_or_not: asleep_or_not() }
    }

    pub(crate) fn after(self, time: Duration) -> Moment {
        Moment { at: self.at + time, asleep_or_not: self.asleep_or_not.and_then(|own| own.checked_add(time)) }
    }

    /// When to look again whether something has come, if the first clock alone does not tell.
    pub(crate) fn look_again_at(self) -> Option<Instant> {
        self.asleep_or_not.map(|_| self.at + LOOK_AGAIN_AFTER)
    }

    /// Whether it has come.
    pub(crate) fn is_over(self, now: Moment) -> bool {
        let slept = self.asleep_or_not.zip(now.asleep_or_not).is_some_and(|(own, now)| own <= now);
        slept || self.at <= now.at
    }
}

/// How long the machine has been on, sleep included.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn asleep_or_not() -> Option<Duration> {
    // Apple's clock of this name goes on; the others' stands still.
    #[cfg(target_vendor = "apple")]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    #[cfg(not(target_vendor = "apple"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place of one struct of numbers, which the system fills.
    if unsafe { libc::clock_gettime(CLOCK, &mut time) } != 0 {
        return None;
    }
    Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn asleep_or_not() -> Option<Duration> {
    None
}

#[cfg(test)]
impl Moment {
    /// The same moment, had the machine slept so long before it.
    pub(crate) fn having_slept(self, time: Duration) -> Moment {
        Moment { asleep_or_not: self.asleep_or_not.map(|own| own + time), ..self }
    }
}
