//! Time as the rooms have it: wall time when the server started, plus what has passed since.

use std::time::{Duration, Instant, SystemTime};

use crate::core::room::Time;

/// Milliseconds since 1970 that never run backwards, whatever is done to the system's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    wall: Time,
    started: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { wall: Clock::wall(), started: Instant::now() }
    }

    /// The same, but at this time at least: rooms that were kept may know a later one than the system does.
    pub fn not_before(self, time: Time) -> Clock {
        let behind = time.saturating_sub(self.now());
        Clock { wall: self.wall.saturating_add(behind), ..self }
    }

    /// What the system's clock says. Tokens are compared with it: when it is set right while the server runs, what rooms
    /// go on with would end them too early, or too late.
    pub fn wall() -> Time {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as Time
    }

    pub fn now(&self) -> Time {
        self.wall.saturating_add(self.started.elapsed().as_millis() as Time)
    }

    /// How long until `time`; nothing when it has passed.
    pub fn until(&self, time: Time) -> Duration {
        Duration::from_millis(time.saturating_sub(self.now()))
    }
}
