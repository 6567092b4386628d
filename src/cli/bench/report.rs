//! Figures, their medians, and the table.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::json;

use super::goals::{goal, Goal};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Floor,
    Ours,
    Peer(Peer),
}

/// A server that people would otherwise use for this work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// `redis-server`: keys, and channels to subscribe to
    Redis,
    /// `mosquitto`: MQTT with retained messages
    Mosquitto,
    /// This server, with a data directory
    Kept,
    /// This server, with a data directory and fsync
    Synced,
    /// This server without io_uring
    WithoutIoUring,
    /// The floor with as many bytes of state as this server's messages make of it, where somebody joins
    FloorWithOurBytes,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Floor => "floor",
            Side::Ours => "ours",
            Side::Peer(Peer::Redis) => "redis",
            Side::Peer(Peer::Mosquitto) => "mosquitto",
            Side::Peer(Peer::Kept) => "kept",
            Side::Peer(Peer::Synced) => "synced",
            Side::Peer(Peer::WithoutIoUring) => "without io_uring",
            Side::Peer(Peer::FloorWithOurBytes) => "floor with our bytes",
        }
    }
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
    /// Of each side, those of all repetitions.
    values: Vec<(Side, Vec<f64>)>,
}

impl Report {
    /// Adds a figure to its row.
    pub(crate) fn add(&mut self, side: Side, figure: Figure) {
        let found = self.rows.iter().position(|row| row.workload == figure.workload && row.name == figure.name);
        let index = found.unwrap_or_else(|| {
            self.rows.push(Row { workload: figure.workload, name: figure.name, values: Vec::new() });
            self.rows.len() - 1
        });
        let Some(row) = self.rows.get_mut(index) else { return };
        match row.values.iter_mut().find(|(whose, _)| *whose == side) {
            Some((_, values)) => values.push(figure.value),
            None => row.values.push((side, vec![figure.value])),
        }
    }

    /// Adds a line below the table, once.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Says on which machine this is, as far as it can be asked.
    pub(crate) fn notes_machine(&mut self) {
        if let Some(machine) = super::system::machine() {
            self.note(format!("Measured on {machine}."));
        }
    }

    /// The peers that were measured.
    fn peers(&self) -> Vec<Side> {
        let all = self.rows.iter().flat_map(|row| &row.values).map(|(side, _)| *side);
        let mut peers: Vec<Side> = all.filter(|side| matches!(side, Side::Peer(_))).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// The table, its header first: what each of the two is, our ratio to the floor, what it should
    /// be, and the ratios of the peers.
    fn cells(&self) -> Vec<Vec<String>> {
        let peers = self.peers();
        let header = ["workload", "figure", "floor", "ours", "ratio", "goal"];
        let names = header.into_iter().chain(peers.iter().map(|peer| peer.name()));
        let mut cells = vec![names.map(String::from).collect::<Vec<_>>()];
        let mut last = "";
        for row in &self.rows {
            let workload = if row.workload == last { "" } else { &row.workload };
            last = &row.workload;
            let (floor, ours) = (median(row.of(Side::Floor)), median(row.of(Side::Ours)));
            let goal = goal(&row.workload, row.name).map_or(String::new(), |goal| {
                let is_met = ours.is_none_or(|ours| goal.is_met(ours, row.ratio(Side::Ours)));
                format!("{goal}{}", if is_met { "" } else { " missed" })
            });
            let mut line =
                vec![workload.into(), row.name.into(), shown(floor), shown(ours), row.shown_ratio(Side::Ours), goal];
            line.extend(peers.iter().map(|peer| row.shown_ratio(*peer)));
            cells.push(line);
        }
        cells
    }

    /// The table for a terminal.
    pub(crate) fn text(&self) -> String {
        let cells = self.cells();
        let columns = cells.first().map_or(0, Vec::len);
        let width = |column: usize| {
            cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &cells {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Words to the left, numbers to the right. Writing into memory cannot fail.
                let _ = match index {
                    0 | 1 | 5 => write!(line, "{cell:width$}  "),
                    _ => write!(line, "{cell:>width$}  "),
                };
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        out
    }

    /// The same as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        for (index, row) in self.cells().iter().enumerate() {
            let _ = writeln!(out, "| {} |", row.join(" | "));
            if index == 0 {
                let rules: Vec<&str> =
                    (0..row.len()).map(|at| if matches!(at, 0 | 1 | 5) { "---" } else { "--:" }).collect();
                let _ = writeln!(out, "|{}|", rules.join("|"));
            }
        }
        for note in &self.notes {
            let _ = write!(out, "\n{note}\n");
        }
        out
    }

    /// Everything that was measured, for other programs.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let goal = goal(&row.workload, row.name);
                let sides: serde_json::Map<String, serde_json::Value> = row
                    .values
                    .iter()
                    .map(|(side, values)| {
                        let figures = json!({"values": values, "median": median(values), "ratio": row.ratio(*side)});
                        (side.name().into(), figures)
                    })
                    .collect();
                let goal = goal.map(|goal| json!({"text": goal.to_string(), "ratio": Goal::ratio(goal)}));
                json!({"workload": row.workload, "figure": row.name, "goal": goal, "sides": sides})
            })
            .collect();
        format!("{:#}\n", json!({"rows": rows, "notes": self.notes}))
    }
}

impl Row {
    fn of(&self, side: Side) -> &[f64] {
        self.values.iter().find(|(whose, _)| *whose == side).map_or(&[], |(_, values)| values)
    }

    /// The median of the ratios to the floor of each repetition, which a machine that is slower for
    /// a while moves less than the ratio of the medians.
    fn ratio(&self, side: Side) -> Option<f64> {
        let pairs = self.of(side).iter().zip(self.of(Side::Floor));
        let ratios: Vec<f64> = pairs.map(|(value, floor)| value / floor).collect();
        median(&ratios).filter(|ratio| ratio.is_finite())
    }

    fn shown_ratio(&self, side: Side) -> String {
        self.ratio(side).map_or("–".into(), |ratio| format!("{ratio:.2}x"))
    }
}

fn shown(value: Option<f64>) -> String {
    match value {
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
        let figure = |workload: &str, name, value| Figure { workload: workload.into(), name, value };
        for (floor, ours) in [(1.0, 2.0), (10.0, 20.0), (5.0, 15.0)] {
            report.add(Side::Floor, figure("W", "f", floor));
            report.add(Side::Ours, figure("W", "f", ours));
        }
        report.add(Side::Floor, figure("V", "f", 123.4));
        assert_eq!(
            report.markdown(),
            "| workload | figure | floor | ours | ratio | goal |\n|---|---|--:|--:|--:|---|\n\
             | W | f | 5.00 | 15.0 | 2.00x |  |\n| V | f | 123 | – | – |  |\n"
        );
    }

    #[test]
    fn a_missed_goal_is_said_to_be_missed_and_peers_have_columns() {
        let mut report = Report::default();
        for (side, value) in [(Side::Floor, 10.0), (Side::Ours, 12.1), (Side::Peer(Peer::Redis), 13.0)] {
            report.add(side, Figure { workload: "W3".into(), name: "p50 µs", value });
        }
        let text = report.text();
        let row = text.lines().last().unwrap_or_default();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>().join(" "),
            "W3 p50 µs 10.0 12.1 1.21x ≤ 1.20x missed 1.30x"
        );
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["rows"][0]["sides"]["redis"]["ratio"], 1.3);
        assert_eq!(json["rows"][0]["goal"]["ratio"], 1.2);
    }
}
