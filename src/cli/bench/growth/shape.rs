//! Whether a curve is what it should be: the straight line through it, or how flat it is.

use std::fmt;

/// What a curve should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The same everywhere.
    Flat,
    /// A fixed part and as much again for each.
    Linear,
}

/// Farthest a point may be from what is expected, as a share of it. Twice what a point differs
/// between two runs; a curve that grows with the square is off by several times its value.
const TOLERANCE: f64 = 0.3;

/// What a curve is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    expected: Expected,
    /// Cost at 0.
    fixed: f64,
    /// Cost of each.
    each: f64,
    /// How far the farthest point is off, as a share.
    off: f64,
}

impl Shape {
    /// Fits what is expected to the points, which have positive values. Distances count in
    /// proportion, so that small values weigh as much as large ones.
    pub(super) fn of(expected: Expected, points: &[(f64, f64)]) -> Shape {
        // Sums of the weighted least squares of y = fixed + each·x, with weights 1/y².
        let (mut s, mut sx, mut sxx, mut sy, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for &(x, y) in points {
            let weight = 1.0 / (y * y).max(f64::MIN_POSITIVE);
            s += weight;
            sx += weight * x;
            sxx += weight * x * x;
            sy += weight * y;
            sxy += weight * x * y;
        }
        let determinant = s * sxx - sx * sx;
        let (mut fixed, mut each) = match expected {
            Expected::Linear if determinant > 0.0 => {
                ((sxx * sy - sx * sxy) / determinant, (s * sxy - sx * sy) / determinant)
            }
            _ => (sy / s, 0.0),
        };
        // Nothing costs less than nothing: then it is all proportional.
        if fixed < 0.0 {
            (fixed, each) = (0.0, sxy / sxx);
        }
        let distance = |&(x, y): &(f64, f64)| (y / (fixed + each * x) - 1.0).abs();
        let off = points.iter().map(distance).fold(0.0, f64::max);
        Shape { expected, fixed, each, off }
    }

    /// Whether the curve is as expected.
    pub(super) fn holds(&self) -> bool {
        // What is linear must grow; a fit through noise does not.
        self.off <= TOLERANCE && (self.expected == Expected::Flat || self.each > 0.0)
    }
}

/// Such as `linear: 9.1 + 5.2 each, within 8 %`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (not, off) = (if self.holds() { "" } else { "NOT " }, self.off * 100.0);
        match self.expected {
            Expected::Flat => write!(f, "{not}flat: {}, within {off:.0} %", digits(self.fixed)),
            Expected::Linear => {
                write!(f, "{not}linear: {} + {} each, within {off:.0} %", digits(self.fixed), digits(self.each))
            }
        }
    }
}

/// Three digits, whatever the size.
pub(super) fn digits(value: f64) -> String {
    let places = match value.abs() {
        large if large >= 99.95 => 0,
        large if large >= 9.995 => 1,
        large if large >= 0.9995 || large == 0.0 => 2,
        large if large >= 0.09995 => 3,
        _ => 4,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(cost: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0].iter().map(|&x| (x, cost(x))).collect()
    }

    #[test]
    fn a_line_is_found_and_a_constant_is_flat() {
        let line = Shape::of(Expected::Linear, &points(|x| 9.0 + 5.0 * x));
        assert!(line.holds() && line.off < 1e-9);
        assert_eq!(line.to_string(), "linear: 9.00 + 5.00 each, within 0 %");
        let flat = Shape::of(Expected::Flat, &points(|x| 7.0 + 0.0001 * x));
        assert!(flat.holds(), "{flat}");
    }

    #[test]
    fn what_grows_otherwise_is_called_so() {
        for (expected, cost) in [
            (Expected::Linear, (|x| 9.0 + 0.01 * x * x) as fn(f64) -> f64),
            (Expected::Linear, |x| 9.0 + x * x.sqrt()),
            (Expected::Linear, |_| 9.0),
            (Expected::Flat, |x| 9.0 + 0.01 * x),
            (Expected::Flat, |x| 5.0 + x.ln()),
        ] {
            let shape = Shape::of(expected, &points(cost));
            assert!(!shape.holds() && shape.to_string().starts_with("NOT "), "{shape}");
        }
    }

    #[test]
    fn ten_percent_of_noise_is_no_shape() {
        let noisy = |x: f64| (9.0 + 5.0 * x) * if (x as u64).is_multiple_of(4) { 1.1 } else { 0.9 };
        assert!(Shape::of(Expected::Linear, &points(noisy)).holds());
    }
}
