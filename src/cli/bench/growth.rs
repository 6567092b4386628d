//! `sstore bench growth`: how the server's cost grows with peers, keys, listeners, rooms and sizes.
//!
//! One thing happens at a time, and it is over when everybody concerned has heard of it; its cost
//! is the time that the server's threads spent on a core for it. That is the dearest way to run a
//! server: under load, what comes together shares its system calls. Each curve is compared with
//! what it should be, flat or a straight line.

mod crowd;
mod shape;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::failure::Failure;
use super::process::ServerProcess;
use super::{between_markers, end, print, serve, system, write, ChildArguments, OTHER_DESCRIPTORS};
use crate::cli::output::tell;
use crate::{Limits, ServerOptions};
use crowd::{Counts, Crowd, Listens};
use shape::{digits, Expected, Shape};

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dimension {
    /// Peers in a room, all of whom listen to the key that is set
    Peers,
    /// Keys in a store
    Keys,
    /// Listeners to a key, of the peers in a room
    Listeners,
    /// Rooms on a server
    Rooms,
    /// Bytes of a value
    Bytes,
}

impl Dimension {
    /// The most connections at once.
    fn connections(self, most: u64) -> u64 {
        match self {
            Dimension::Peers => most + CROWD,
            Dimension::Keys => 2,
            // Two rooms, each with a writer besides.
            Dimension::Listeners => 2 * (most + 1),
            Dimension::Rooms => 2 * most + 1,
            Dimension::Bytes => LISTENERS_OF_A_SIZE as u64,
        }
    }
}

/// What to let grow, and how far.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to let grow; everything if nothing is named
    #[arg(value_name = "DIMENSION")]
    dimensions: Vec<Dimension>,
    /// How far peers, keys, listeners and rooms grow
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=15_000))]
    most: u32,
    /// How often everything is measured; the figures are the least, since a busy machine only adds to them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repetitions: u32,
    /// Write what the curves are to a file, as Markdown; only between its marker lines if the file has them
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the points to a directory, as JSON, one file for each chart
    #[arg(long, value_name = "DIR")]
    json: Option<PathBuf>,
}

/// Time that each cost is measured for, and time before that.
const TIME: Duration = Duration::from_millis(300);
const WARM_UP: Duration = Duration::from_millis(30);
/// Work of a new server before anything is measured: its first rounds were up to 1.4 times as long as later ones.
const FIRST_WORK: Duration = Duration::from_millis(500);
/// Joins that everybody must hear of take the time for which news are held back, twice.
const JOINING_TIME: Duration = Duration::from_millis(800);
/// Rounds that are measured, however long they take.
const LEAST_ROUNDS: u32 = 5;
/// Peers who join at once where a crowd does: the end of a break, not a stampede.
const CROWD: u64 = 32;
/// Listeners to the key whose value grows.
const LISTENERS_OF_A_SIZE: usize = 10;
/// The largest value: as much as fits one message of a client by default, with its request.
const MOST_BYTES: u64 = 60_000;
/// Bytes of each value where the size is not what grows: an ordinary one.
const VALUE_BYTES: u64 = 100;
const KEY: &str = "spotlight";

const CPU: &str = "server CPU, µs";
const MEMORY: &str = "resident memory of the server, KiB";

/// A picture: curves over the same axes.
struct Chart {
    dimension: Dimension,
    file: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    curves: &'static [(&'static str, Expected)],
}

const SET: &str = "a set";
const SET_AT_ONCE: &str = "a set in every room at once, together";
const JOIN_TOLD: &str = "a join and its leave, all told";
const JOIN_CROWD: &str = "a join and its leave, 32 at once, all told";
const JOIN_ONE: &str = "a join and leave, one key";
const JOIN_ALL: &str = "a join and leave, all keys";
const JOIN_CHANGED: &str = "the same after a set";
const JOIN_ROOM: &str = "a room opened and left";
const SAME_SET: &str = "a set, one listen set";
const OWN_SETS: &str = "a set, a listen set each";
const RESIDENT: &str = "memory";

const CHARTS: &[Chart] = &[
    Chart {
        dimension: Dimension::Peers,
        file: "peers",
        title: "Peers in a room, all listening",
        x: "peers",
        y: CPU,
        curves: &[(SET, Expected::Linear), (JOIN_TOLD, Expected::Linear), (JOIN_CROWD, Expected::Linear)],
    },
    Chart {
        dimension: Dimension::Peers,
        file: "peers-memory",
        title: "Peers in a room",
        x: "peers",
        y: MEMORY,
        curves: &[(RESIDENT, Expected::Linear)],
    },
    Chart {
        dimension: Dimension::Keys,
        file: "keys",
        title: "Keys of 100 bytes in a store",
        x: "keys",
        y: CPU,
        curves: &[
            (SET, Expected::Flat),
            (JOIN_ONE, Expected::Flat),
            (JOIN_ALL, Expected::Linear),
            (JOIN_CHANGED, Expected::Linear),
        ],
    },
    Chart {
        dimension: Dimension::Keys,
        file: "keys-memory",
        title: "Keys of 100 bytes in a store",
        x: "keys",
        y: MEMORY,
        curves: &[(RESIDENT, Expected::Linear)],
    },
    Chart {
        dimension: Dimension::Listeners,
        file: "listeners",
        title: "Listeners to a key in a large room",
        x: "listeners",
        y: CPU,
        curves: &[(SAME_SET, Expected::Linear), (OWN_SETS, Expected::Linear)],
    },
    Chart {
        dimension: Dimension::Rooms,
        file: "rooms",
        title: "Rooms of two on a server",
        x: "rooms",
        y: CPU,
        curves: &[(SET, Expected::Flat), (SET_AT_ONCE, Expected::Linear), (JOIN_ROOM, Expected::Flat)],
    },
    Chart {
        dimension: Dimension::Rooms,
        file: "rooms-memory",
        title: "Rooms of two on a server",
        x: "rooms",
        y: MEMORY,
        curves: &[(RESIDENT, Expected::Linear)],
    },
    Chart {
        dimension: Dimension::Bytes,
        file: "bytes",
        title: "Size of a value that 10 listen to",
        x: "bytes",
        y: CPU,
        curves: &[(SET, Expected::Linear)],
    },
];

/// Runs the measurement and prints what the curves are.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let measured = measure(arguments).and_then(|points| {
        print(&points.text())?;
        if let Some(path) = &arguments.markdown {
            write(path, &between_markers(path, &points.markdown()))?;
        }
        if let Some(directory) = &arguments.json {
            std::fs::create_dir_all(directory)
                .map_err(|error| Failure::system(&format!("making {}", directory.display()), &error))?;
            for chart in points.charts() {
                write(&directory.join(format!("{}.json", chart.file)), &points.json(chart))?;
            }
        }
        Ok(())
    });
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(&failure),
    }
}

/// Runs the server for this measurement until the parent is gone. Its limits are the default ones
/// but for what grows beyond them.
pub fn run_server(arguments: &ChildArguments) -> ExitCode {
    let limits = Limits {
        max_value_bytes: MOST_BYTES as usize,
        max_keys: 20_000,
        max_store_bytes: 64 << 20,
        max_listened_keys: 20_000,
        ..Limits::default()
    };
    serve(arguments, ServerOptions { limits, max_message_bytes: 1 << 20, ..ServerOptions::default() })
}

fn measure(arguments: &Arguments) -> Result<Points, Failure> {
    let most = u64::from(arguments.most);
    let all = Dimension::value_variants();
    let dimensions = if arguments.dimensions.is_empty() { all } else { &arguments.dimensions };
    let connections = dimensions.iter().map(|dimension| dimension.connections(most)).max().unwrap_or(0);
    let (limit, needed) = (system::raise_descriptor_limit(), connections + OTHER_DESCRIPTORS);
    if limit < needed {
        let text = format!("{needed} file descriptors are needed and {limit} are allowed; raise it with `ulimit -Hn`");
        return Err(Failure::Resources(text));
    }
    let core = match system::cores().as_slice() {
        [server, own, ..] => system::stay_on(&[*own]).ok().map(|()| *server),
        _ => None,
    };
    let mut points = Points::default();
    for repetition in 1..=arguments.repetitions {
        for &dimension in dimensions {
            tell(format_args!("repetition {repetition} of {}: {dimension:?}", arguments.repetitions));
            let process = ServerProcess::start("bench-growth-serve", core)?;
            let crowd = Crowd::new(process.address())?;
            let mut bench = Bench { crowd, process, points: &mut points, dimension, sets: 0 };
            bench.begin()?;
            match dimension {
                Dimension::Peers => bench.peers(most)?,
                Dimension::Keys => bench.keys(most)?,
                Dimension::Listeners => bench.listeners(most)?,
                Dimension::Rooms => bench.rooms(most)?,
                Dimension::Bytes => bench.bytes()?,
            }
        }
    }
    Ok(points)
}

/// 1, 3, 10, 30, ... up to the most.
fn steps(most: u64) -> impl Iterator<Item = u64> {
    let decades = std::iter::successors(Some(1), |decade| Some(decade * 10)).take_while(move |decade| *decade <= most);
    let steps = decades.flat_map(|decade| [decade, decade * 3]).filter(move |step| *step <= most);
    // The end itself, where it is no step.
    let is_step = steps.clone().any(|step| step == most);
    steps.chain((!is_step).then_some(most))
}

/// A JSON value of so many bytes (1, or 3 and more) that differs from the one before.
fn value(bytes: u64, number: u64) -> String {
    let digit = number % 10;
    match bytes {
        0..3 => digit.to_string(),
        _ => format!("\"{digit:x>width$}\"", width = bytes as usize - 2),
    }
}

fn state_key(index: u64) -> String {
    format!("k{index:05}")
}

/// One server under measurement.
struct Bench<'a> {
    crowd: Crowd,
    process: ServerProcess,
    points: &'a mut Points,
    dimension: Dimension,
    sets: u64,
}

impl Bench<'_> {
    /// Gives the server its first work, in a room that is gone afterwards.
    fn begin(&mut self) -> Result<(), Failure> {
        let keys = [KEY.to_owned()];
        let members = self.crowd.fill(&[("first".into(), Listens::To(&keys))])?;
        let writer = members.first().copied().unwrap_or_default();
        let began = Instant::now();
        while began.elapsed() < FIRST_WORK {
            self.set_and_wait(writer, KEY, VALUE_BYTES, 1)?;
            self.join_and_leave("another", &keys)?;
        }
        let due = Counts { news: Counts::ANY, ..self.crowd.counts() };
        self.crowd.leave(writer)?;
        self.crowd.wait_for(Counts { gone: due.gone + 1, ..due })
    }

    fn peers(&mut self, most: u64) -> Result<(), Failure> {
        let keys = [KEY.to_owned()];
        let mut members = Vec::new();
        for peers in steps(most) {
            let joins: Vec<_> =
                (members.len() as u64..peers).map(|_| ("room".to_owned(), Listens::To(&keys))).collect();
            members.extend(self.crowd.fill(&joins)?);
            self.add_memory(peers)?;
            let writer = members.first().copied().unwrap_or_default();
            let cost = self.cost(TIME, |bench| bench.set_and_wait(writer, KEY, VALUE_BYTES, peers))?;
            self.add(SET, peers, cost);
            let cost = self.cost(JOINING_TIME, |bench| {
                let mut due = bench.crowd.counts();
                let member = bench.crowd.join("room", Listens::To(&keys))?;
                due = Counts { joined: due.joined + 1, snapshots: due.snapshots + 1, news: due.news + peers, ..due };
                bench.crowd.wait_for(due)?;
                bench.crowd.leave(member)?;
                due = Counts { gone: due.gone + 1, news: due.news + peers, ..due };
                bench.crowd.wait_for(due)
            })?;
            self.add(JOIN_TOLD, peers, cost);
            let cost = self.cost(JOINING_TIME, |bench| bench.join_and_leave_together("room", &keys))?;
            self.add(JOIN_CROWD, peers, cost / CROWD as f64);
        }
        Ok(())
    }

    fn keys(&mut self, most: u64) -> Result<(), Failure> {
        let one = [state_key(0)];
        let writer = self.crowd.fill(&[("room".into(), Listens::To(&one))])?.first().copied().unwrap_or_default();
        let mut keys: Vec<String> = Vec::new();
        for count in steps(most) {
            for index in keys.len() as u64..count {
                keys.push(state_key(index));
                let heard = u64::from(index == 0);
                self.set_and_wait(writer, &state_key(index), VALUE_BYTES, heard)?;
            }
            self.add_memory(count)?;
            let cost = self.cost(TIME, |bench| bench.set_and_wait(writer, &state_key(0), VALUE_BYTES, 1))?;
            self.add(SET, count, cost);
            let cost = self.cost(TIME, |bench| bench.join_and_leave("room", &one))?;
            self.add(JOIN_ONE, count, cost);
            let cost = self.cost(TIME, |bench| bench.join_and_leave("room", &keys))?;
            self.add(JOIN_ALL, count, cost);
            let cost = self.cost(TIME, |bench| {
                bench.set_and_wait(writer, &state_key(0), VALUE_BYTES, 1)?;
                bench.join_and_leave("room", &keys)
            })?;
            self.add(JOIN_CHANGED, count, cost);
        }
        Ok(())
    }

    fn listeners(&mut self, most: u64) -> Result<(), Failure> {
        for (curve, own) in [(SAME_SET, false), (OWN_SETS, true)] {
            let joins: Vec<_> = (0..=most).map(|_| (format!("room-{own}"), Listens::Nothing)).collect();
            let members = self.crowd.fill(&joins)?;
            let Some((writer, others)) = members.split_first() else { return Ok(()) };
            let mut listening = 0;
            for count in steps(most) {
                for member in others.get(listening..count as usize).unwrap_or_default() {
                    let mut keys = vec![KEY.to_owned()];
                    if own {
                        keys.push(format!("own-{member}"));
                    }
                    let due = self.crowd.counts();
                    self.crowd.listen(*member, &keys)?;
                    let due = Counts { answers: due.answers + 1, snapshots: due.snapshots + 1, ..due };
                    self.crowd.wait_for(due)?;
                }
                listening = count as usize;
                let cost = self.cost(TIME, |bench| bench.set_and_wait(*writer, KEY, VALUE_BYTES, count))?;
                self.add(curve, count, cost);
            }
        }
        Ok(())
    }

    fn rooms(&mut self, most: u64) -> Result<(), Failure> {
        let keys = [KEY.to_owned()];
        let mut writers = Vec::new();
        for rooms in steps(most) {
            let joins: Vec<_> = (writers.len() as u64..rooms)
                .flat_map(|room| [room, room])
                .map(|room| (format!("room-{room}"), Listens::To(&keys)))
                .collect();
            let members = self.crowd.fill(&joins)?;
            writers.extend(members.iter().step_by(2).copied());
            self.add_memory(rooms)?;
            let mut next = writers.iter().cycle();
            let cost = self.cost(TIME, |bench| {
                let writer = next.next().copied().unwrap_or_default();
                bench.set_and_wait(writer, KEY, VALUE_BYTES, 2)
            })?;
            self.add(SET, rooms, cost);
            let cost = self.cost(TIME, |bench| {
                let due = Counts { news: Counts::ANY, ..bench.crowd.counts() };
                for writer in &writers {
                    bench.set(*writer, KEY, VALUE_BYTES)?;
                }
                let due = Counts { answers: due.answers + rooms, changes: due.changes + 2 * rooms, ..due };
                bench.crowd.wait_for(due)
            })?;
            self.add(SET_AT_ONCE, rooms, cost);
            let cost = self.cost(TIME, |bench| bench.join_and_leave("another", &keys))?;
            self.add(JOIN_ROOM, rooms, cost);
        }
        Ok(())
    }

    fn bytes(&mut self) -> Result<(), Failure> {
        let keys = [KEY.to_owned()];
        let joins: Vec<_> = (0..LISTENERS_OF_A_SIZE).map(|_| ("room".to_owned(), Listens::To(&keys))).collect();
        let writer = self.crowd.fill(&joins)?.first().copied().unwrap_or_default();
        for bytes in steps(MOST_BYTES) {
            let heard = LISTENERS_OF_A_SIZE as u64;
            let cost = self.cost(TIME, |bench| bench.set_and_wait(writer, KEY, bytes, heard))?;
            self.add(SET, bytes, cost);
        }
        Ok(())
    }

    fn set(&mut self, writer: usize, key: &str, bytes: u64) -> Result<(), Failure> {
        self.sets += 1;
        self.crowd.set(writer, key, &value(bytes, self.sets))
    }

    /// Sets a key and waits until so many have heard of it, and the writer its answer.
    fn set_and_wait(&mut self, writer: usize, key: &str, bytes: u64, listeners: u64) -> Result<(), Failure> {
        // A change takes along the news of who came and went before it.
        let due = Counts { news: Counts::ANY, ..self.crowd.counts() };
        self.set(writer, key, bytes)?;
        self.crowd.wait_for(Counts { answers: due.answers + 1, changes: due.changes + listeners, ..due })
    }

    /// Joins with a snapshot and leaves. Others hear of it when their room tells its news.
    fn join_and_leave(&mut self, room: &str, keys: &[String]) -> Result<(), Failure> {
        let due = Counts { news: Counts::ANY, ..self.crowd.counts() };
        let member = self.crowd.join(room, Listens::To(keys))?;
        let due = Counts { joined: due.joined + 1, snapshots: due.snapshots + 1, ..due };
        self.crowd.wait_for(due)?;
        self.crowd.leave(member)?;
        self.crowd.wait_for(Counts { gone: due.gone + 1, ..due })
    }

    /// The same by several at once, who share what the others hear of them; until the others have heard,
    /// or else several rounds would share it too, and the more of them the shorter they are.
    fn join_and_leave_together(&mut self, room: &str, keys: &[String]) -> Result<(), Failure> {
        let due = Counts { news: Counts::ANY, ..self.crowd.counts() };
        let members: Vec<_> =
            (0..CROWD).map(|_| self.crowd.join(room, Listens::To(keys))).collect::<Result<_, Failure>>()?;
        let due = Counts { joined: due.joined + CROWD, snapshots: due.snapshots + CROWD, ..due };
        self.crowd.wait_for(due)?;
        self.crowd.settle()?;
        for member in members {
            self.crowd.leave(member)?;
        }
        self.crowd.wait_for(Counts { gone: due.gone + CROWD, ..due })?;
        self.crowd.settle()
    }

    /// Microseconds of the server for one round of the work.
    fn cost(
        &mut self,
        time: Duration,
        mut round: impl FnMut(&mut Self) -> Result<(), Failure>,
    ) -> Result<f64, Failure> {
        let began = Instant::now();
        while began.elapsed() < WARM_UP {
            round(self)?;
        }
        let (began, before) = (Instant::now(), self.cpu()?);
        let mut rounds = 0;
        while rounds < LEAST_ROUNDS || began.elapsed() < time {
            round(self)?;
            rounds += 1;
        }
        // What a round has caused without anybody waiting for it, such as news, belongs to it.
        self.crowd.settle()?;
        Ok((self.cpu()? - before) / f64::from(rounds))
    }

    /// Microseconds that the server's threads have spent on a core.
    fn cpu(&self) -> Result<f64, Failure> {
        match system::cpu_nanoseconds(self.process.id()) {
            Some(nanoseconds) => Ok(nanoseconds as f64 / 1e3),
            None => Err(Failure::Resources("this system does not say what a process's threads cost".into())),
        }
    }

    fn add_memory(&mut self, x: u64) -> Result<(), Failure> {
        match system::resident_kib(self.process.id()) {
            Some(kib) => self.add(RESIDENT, x, kib as f64),
            None => return Err(Failure::Resources("this system does not say what memory a process has".into())),
        }
        Ok(())
    }

    fn add(&mut self, curve: &'static str, x: u64, y: f64) {
        self.points.add(self.dimension, curve, x, y);
    }
}

/// The points of all curves: for each place on it, its value in each repetition.
#[derive(Default)]
struct Points {
    curves: BTreeMap<(u8, &'static str), BTreeMap<u64, Vec<f64>>>,
}

impl Points {
    fn add(&mut self, dimension: Dimension, curve: &'static str, x: u64, y: f64) {
        self.curves.entry((dimension as u8, curve)).or_default().entry(x).or_default().push(y);
    }

    /// The least values: what disturbs a measurement adds to it, and never takes away.
    fn curve(&self, dimension: Dimension, curve: &'static str) -> Vec<(f64, f64)> {
        let places = self.curves.get(&(dimension as u8, curve)).into_iter().flatten();
        places.map(|(x, values)| (*x as f64, values.iter().copied().fold(f64::INFINITY, f64::min))).collect()
    }

    /// The charts that have points.
    fn charts(&self) -> impl Iterator<Item = &'static Chart> + '_ {
        CHARTS.iter().filter(|chart| self.curves.keys().any(|(dimension, _)| *dimension == chart.dimension as u8))
    }

    /// For a terminal: every point, and what each curve is.
    fn text(&self) -> String {
        let mut out = String::new();
        for chart in self.charts() {
            // Writing into memory cannot fail.
            let _ = writeln!(out, "{}: {}", chart.title, chart.y);
            for (name, expected) in chart.curves {
                let points = self.curve(chart.dimension, name);
                let _ = writeln!(out, "  {name}: {}", Shape::of(*expected, &points));
                let list: Vec<String> = points.iter().map(|(x, y)| format!("{x}: {}", digits(*y))).collect();
                let _ = writeln!(out, "    {}", list.join("  "));
            }
        }
        out
    }

    /// As a Markdown table: what grows, the figure, its value at the first and at the last place, and
    /// what the curve is.
    fn markdown(&self) -> String {
        let mut out =
            String::from("| what grows | what is measured | first | last | what it is |\n|---|---|--:|--:|---|\n");
        for chart in self.charts() {
            for (name, expected) in chart.curves {
                let points = self.curve(chart.dimension, name);
                let [Some((from, first)), Some((to, last))] = [points.first(), points.last()] else { continue };
                let _ = writeln!(
                    out,
                    "| {from} to {to} {} | {name} ({}) | {} | {} | {} |",
                    chart.x,
                    chart.y,
                    digits(*first),
                    digits(*last),
                    Shape::of(*expected, &points)
                );
            }
        }
        out
    }

    /// What `benches/plots.rs` draws.
    fn json(&self, chart: &Chart) -> String {
        let series: Vec<_> = chart
            .curves
            .iter()
            .map(|(name, _)| serde_json::json!({"name": name, "points": self.curve(chart.dimension, name)}))
            .collect();
        // Memory has a large fixed part: only plain axes show that the rest is a straight line.
        let has_memory = chart.y == MEMORY;
        let chart = serde_json::json!({
            "title": chart.title, "x": chart.x, "y": chart.y,
            "log_x": !has_memory, "log_y": !has_memory, "series": series,
        });
        format!("{chart}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end_where_they_should() {
        assert_eq!(steps(1_000).collect::<Vec<_>>(), [1, 3, 10, 30, 100, 300, 1_000]);
        assert_eq!(steps(60).collect::<Vec<_>>(), [1, 3, 10, 30, 60]);
    }

    #[test]
    fn values_have_the_size_asked_for_and_differ() {
        for bytes in [1, 3, 4, 100, 60_000] {
            let (one, other) = (value(bytes, 1), value(bytes, 2));
            assert_eq!((one.len() as u64, other.len() as u64), (bytes, bytes));
            assert_ne!(one, other);
            assert!(crate::Value::parse(&one).is_ok(), "{bytes}");
        }
    }

    #[test]
    fn the_charts_have_the_points_of_their_curves() {
        let mut points = Points::default();
        for (x, y) in [(1, 14.0), (1, 15.0), (10, 70.0), (10, 59.0)] {
            points.add(Dimension::Peers, SET, x, y);
        }
        let table = points.markdown();
        assert_eq!(
            table.lines().nth(2).unwrap_or_default(),
            "| 1 to 10 peers | a set (server CPU, µs) | 14.0 | 59.0 | linear: 9.00 + 5.00 each, within 0 % |"
        );
        let chart = points.charts().next().unwrap();
        let json: serde_json::Value = serde_json::from_str(&points.json(chart)).unwrap();
        assert_eq!(json["series"][0]["points"], serde_json::json!([[1.0, 14.0], [10.0, 59.0]]));
    }
}
