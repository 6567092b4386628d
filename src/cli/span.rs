//! Times as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Longest time that makes sense here. It keeps sums of times far from the end of a `u64`.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// A time such as `250ms`, `30s`, `1m 30s` or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(Duration);

impl Span {
    pub(super) const fn from_ms(ms: u64) -> Span {
        Span(Duration::from_millis(ms))
    }

    pub(super) fn ms(self) -> u64 {
        // LONGEST fits by far.
        self.0.as_millis() as u64
    }

    pub(super) fn duration(self) -> Duration {
        self.0
    }
}

/// A time that something is waited for, as an argument: with none at all nothing could come in time.
pub(super) fn above_zero(text: &str) -> Result<Span, String> {
    match text.parse()? {
        Span(Duration::ZERO) => Err("it has to be above 0".into()),
        span => Ok(span),
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        match humantime::parse_duration(text) {
            Ok(time) if time > LONGEST => Err("it is longer than 366 days".into()),
            Ok(time) if time.subsec_nanos() % 1_000_000 != 0 => Err("it is not whole milliseconds".into()),
            Ok(time) => Ok(Span(time)),
            Err(error) => Err(format!("{error}; a time looks like 250ms, 30s or 5m")),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_waited_for_no_time_at_all() {
        assert_eq!(above_zero("1ms"), Ok(Span::from_ms(1)));
        for bad in ["0", "0s", "0ms", "soon"] {
            assert!(above_zero(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, ms) in [("250ms", 250), ("30s", 30_000), ("1m 30s", 90_000), ("0", 0), ("0s", 0)] {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.ms(), ms);
            assert_eq!(span.to_string().parse::<Span>(), Ok(span), "{text}");
        }
        for bad in ["", "30", "soon", "-1s", "400days", "1us"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
