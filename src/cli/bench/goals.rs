//! What the figures should be: how near the floor the server is meant to stay.

use std::fmt;

/// The bound of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// At most so many times the floor's.
    RatioUpTo(f64),
    /// At least so many times the floor's.
    RatioFrom(f64),
    /// At most so much, whatever the floor has.
    UpTo(f64, &'static str),
    /// At least so much.
    From(f64, &'static str),
}

/// The figures with a goal, by workload (as far as its name goes) and name, both as in the table.
/// They are those of the full size only: what `--quick` measures has other names.
const GOALS: &[(&str, &str, Goal)] = &[
    ("W1 N=1000", "p50 µs", Goal::RatioUpTo(1.1)),
    ("W1 N=1000", "server CPU µs per delivery", Goal::RatioUpTo(1.05)),
    ("W2 N=1000", "server CPU s per M deliveries", Goal::RatioUpTo(1.5)),
    ("W2one N=1000", "server CPU s per M deliveries", Goal::RatioUpTo(1.1)),
    ("W3", "p50 µs", Goal::RatioUpTo(1.2)),
    ("W4max 500 rooms", "deliveries/s", Goal::RatioFrom(0.95)),
    ("W5 2000 connections in one room", "KiB resident per connection", Goal::UpTo(2.5, "KiB")),
    ("W5 2000 rooms", "KiB resident per connection", Goal::UpTo(4.0, "KiB")),
    ("W6 64 KB, 16 at a time", "joins/s", Goal::RatioFrom(0.95)),
    ("W7 N=1000", "p99 with a slow reader / without", Goal::UpTo(1.25, "")),
    ("W8 500 rooms", "capacity of two cores / one", Goal::From(1.6, "")),
];

/// The goal of a figure, if it has one.
pub(crate) fn goal(workload: &str, name: &str) -> Option<Goal> {
    GOALS.iter().find(|goal| workload.starts_with(goal.0) && name == goal.1).map(|goal| goal.2)
}

impl Goal {
    /// Whether a value, with its ratio to the floor, reaches it.
    pub(crate) fn is_met(self, value: f64, ratio: Option<f64>) -> bool {
        // As it is printed: two digits after the point.
        let rounded = |value: f64| (value * 100.0).round() / 100.0;
        match self {
            Goal::RatioUpTo(most) => ratio.is_some_and(|ratio| rounded(ratio) <= most),
            Goal::RatioFrom(least) => ratio.is_some_and(|ratio| rounded(ratio) >= least),
            Goal::UpTo(most, _) => rounded(value) <= most,
            Goal::From(least, _) => rounded(value) >= least,
        }
    }

    /// The bound as a ratio to the floor, if it is one.
    pub(crate) fn ratio(self) -> Option<f64> {
        match self {
            Goal::RatioUpTo(bound) | Goal::RatioFrom(bound) => Some(bound),
            Goal::UpTo(..) | Goal::From(..) => None,
        }
    }
}

/// Such as `≤ 1.10x` or `≤ 2.50 KiB`.
impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::RatioUpTo(bound) => write!(f, "≤ {bound:.2}x"),
            Goal::RatioFrom(bound) => write!(f, "≥ {bound:.2}x"),
            Goal::UpTo(bound, "") => write!(f, "≤ {bound:.2}"),
            Goal::UpTo(bound, unit) => write!(f, "≤ {bound:.2} {unit}"),
            Goal::From(bound, "") => write!(f, "≥ {bound:.2}"),
            Goal::From(bound, unit) => write!(f, "≥ {bound:.2} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_on_its_side_of_the_bound() {
        let cpu = goal("W1 N=1000 at 20/s", "server CPU µs per delivery").unwrap();
        assert_eq!(cpu.to_string(), "≤ 1.05x");
        assert!(cpu.is_met(7.0, Some(1.054)) && !cpu.is_met(7.0, Some(1.06)) && !cpu.is_met(0.0, None));
        let rate = goal("W4max 500 rooms of 4", "deliveries/s").unwrap();
        assert!(rate.is_met(1.0, Some(0.95)) && !rate.is_met(1e9, Some(0.94)));
        let memory = goal("W5 2000 rooms of one, with a key", "KiB resident per connection").unwrap();
        assert!(memory.is_met(4.0, Some(9.0)) && !memory.is_met(4.1, Some(0.1)));
        assert_eq!(goal("W1 N=100 at 100/s", "p50 µs"), None);
    }
}
