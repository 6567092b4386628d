//! Figures, their medians, and the table.

use std::fmt::Write as _;

/// One figure of one repetition.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Which workload, with its size.
    pub(crate) workload: String,
    /// What was measured, with its unit.
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

/// Whose figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Floor,
    Ours,
}

/// The figures of all repetitions, in the order in which they first came.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Row {
    workload: String,
    name: &'static str,
    floor: Vec<f64>,
    ours: Vec<f64>,
}

impl Report {
    /// Adds a figure to its row.
    pub(crate) fn add(&mut self, side: Side, figure: Figure) {
        let found = self.rows.iter().position(|row| row.workload == figure.workload && row.name == figure.name);
        let index = found.unwrap_or_else(|| {
            let row = Row { workload: figure.workload, name: figure.name, floor: Vec::new(), ours: Vec::new() };
            self.rows.push(row);
            self.rows.len() - 1
        });
        if let Some(row) = self.rows.get_mut(index) {
            match side {
                Side::Floor => row.floor.push(figure.value),
                Side::Ours => row.ours.push(figure.value),
            }
        }
    }

    /// Adds a line below the table, once.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn cells(&self) -> Vec<[String; 5]> {
        let mut last = "";
        let mut cells = Vec::new();
        for row in &self.rows {
            let workload = if row.workload == last { "" } else { &row.workload };
            last = &row.workload;
            let ratio = row.ratio().map_or("–".into(), |ratio| format!("{ratio:.2}x"));
            cells.push([workload.into(), row.name.into(), middle(&row.floor), middle(&row.ours), ratio]);
        }
        cells
    }

    /// The table for a terminal.
    pub(crate) fn text(&self) -> String {
        let header = HEADER.map(String::from);
        let cells = self.cells();
        let width = |column: usize| {
            let all = std::iter::once(&header).chain(&cells);
            all.filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        let mut out = String::new();
        for row in std::iter::once(&header).chain(&cells) {
            let [a, b, c, d, e] = row;
            let [wa, wb, wc, wd, we] = widths;
            // Writing into memory cannot fail.
            let _ = writeln!(out, "{a:wa$}  {b:wb$}  {c:>wc$}  {d:>wd$}  {e:>we$}");
        }
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        out
    }

    /// The same as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("| {} |\n|---|---|--:|--:|--:|\n", HEADER.join(" | "));
        for row in self.cells() {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        for note in &self.notes {
            let _ = write!(out, "\n{note}\n");
        }
        out
    }
}

const HEADER: [&str; 5] = ["workload", "figure", "floor", "ours", "ratio"];

impl Row {
    /// The median of the ratios of each repetition, which a machine that is slower for a while
    /// moves less than the ratio of the medians.
    fn ratio(&self) -> Option<f64> {
        let ratios: Vec<f64> = self.ours.iter().zip(&self.floor).map(|(ours, floor)| ours / floor).collect();
        median(&ratios).filter(|ratio| ratio.is_finite())
    }
}

fn middle(values: &[f64]) -> String {
    match median(values) {
        None => "–".into(),
        Some(value) if value >= 99.95 => format!("{value:.0}"),
        Some(value) if value >= 9.995 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// The median; of an even number of values, the mean of the middle two.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    match sorted.len() % 2 {
        0 => sorted.get(sorted.len() / 2 - 1).map(|lower| (lower + upper) / 2.0),
        _ => Some(upper),
    }
}

/// The value below which the given share (0 to 1) of the sorted values lies.
pub(crate) fn quantile(sorted: &[u64], share: f64) -> Option<u64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let hundred: Vec<u64> = (0..=100).collect();
        assert_eq!((quantile(&hundred, 0.5), quantile(&hundred, 0.99), quantile(&[], 0.5)), (Some(50), Some(99), None));
    }

    #[test]
    fn the_ratio_is_that_of_the_same_repetition() {
        let mut report = Report::default();
        for (floor, ours) in [(1.0, 2.0), (10.0, 20.0), (5.0, 15.0)] {
            report.add(Side::Floor, Figure { workload: "W".into(), name: "f", value: floor });
            report.add(Side::Ours, Figure { workload: "W".into(), name: "f", value: ours });
        }
        report.add(Side::Floor, Figure { workload: "V".into(), name: "f", value: 123.4 });
        assert_eq!(
            report.markdown(),
            "| workload | figure | floor | ours | ratio |\n|---|---|--:|--:|--:|\n\
             | W | f | 5.00 | 15.0 | 2.00x |\n| V | f | 123 | – | – |\n"
        );
    }
}
