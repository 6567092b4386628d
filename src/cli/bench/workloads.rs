//! The workloads: what each does to one server, and which figures it gives.

use std::time::Duration;

use clap::ValueEnum;

use super::failure::Failure;
use super::generator::{Generator, Outcome, Pace};
use super::process::ServerProcess;
use super::report::{quantile, Figure};
use super::system;

/// A workload, by the name it has on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Fan-out to N observers at a modest rate
    W1,
    /// Fan-out with 64 sets outstanding
    W2,
    /// Fan-out with one set outstanding
    #[value(name = "w2one", alias = "w2b")]
    W2One,
    /// Confirmed sets in sequence
    W3,
    /// Many rooms of 4, one set a second in each
    W4,
    /// Many rooms of 4, one set outstanding in each
    #[value(name = "w4max")]
    W4Max,
    /// Memory per idle connection
    W5,
    /// Joins with 64 KB of state, each followed by a leave
    W6,
    /// Fan-out while one observer reads nothing
    W7,
    /// The saturated rooms of W4 on one core and on two
    W8,
}

/// How large and how long the workloads are.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// Observers of the fan-out workloads.
    pub(crate) observers: Vec<usize>,
    /// Time of each workload that ends by time.
    pub(crate) time: Duration,
    /// Rooms of W4.
    pub(crate) rooms: usize,
    /// Connections of W5.
    pub(crate) idle: usize,
}

/// The load before what is measured: pages touched, buffers grown, branches learned.
const WARM_UP: Duration = Duration::from_millis(200);
/// Rooms that are there before memory is measured.
const FIRST_ROOMS: usize = 5;
/// How often the room with a slow reader and the one without take turns. A single set that the machine holds up is the
/// 99th percentile of its turn; the figure is the median of the turns.
const TURNS: usize = 5;
/// The load that a slow reader does not read: megabytes.
const FILL_UP: Duration = Duration::from_secs(1);
/// Members of each room of W4.
const MEMBERS: usize = 4;
/// Sets a second for 1,000 observers: 100 would be a saturated core, not a modest rate.
const MODEST_RATE_OF_MANY: u32 = 20;
/// Joins at a time in the second half of W6.
const JOINS_AT_ONCE: usize = 16;

impl Scale {
    pub(crate) fn full() -> Scale {
        Scale { observers: vec![10, 100, 1000], time: Duration::from_secs(3), rooms: 500, idle: 2000 }
    }

    /// Short enough for continuous integration, with every workload.
    pub(crate) fn quick() -> Scale {
        Scale { observers: vec![10, 100], time: Duration::from_millis(500), rooms: 100, idle: 500 }
    }

    /// The most connections that any of the workloads holds at once.
    pub(crate) fn connections(&self) -> usize {
        // W7 has two such rooms.
        let fan_out = self.observers.iter().max().map_or(0, |most| 2 * (most + 1));
        fan_out.max(self.rooms * MEMBERS).max(self.idle + 1 + FIRST_ROOMS * MEMBERS)
    }
}

/// A server to be measured, fresh for each part of a run.
pub(crate) struct Subject {
    pub(crate) generator: Generator,
    /// None for a server that somebody else has started: then only what can be seen from outside
    /// is measured.
    pub(crate) process: Option<ServerProcess>,
    /// Rooms of this run begin with this, so that runs against one server do not meet.
    pub(crate) room_prefix: String,
}

/// Figures of one repetition, and whether the generator was busier than the server.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) figures: Vec<Figure>,
    pub(crate) generator_bound: Vec<String>,
    /// What has to be said about the figures.
    pub(crate) notes: Vec<String>,
}

/// Workloads that share their connections, and so are measured one after the other on one server.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    FanOut { observers: usize, modest: bool, saturated: bool, one: bool },
    Sequence,
    Rooms { modest: bool, saturated: bool },
    IdleInOneRoom,
    IdleInRooms,
    Joins,
    SlowReader { observers: usize },
    Cores,
}

/// The parts that the workloads asked for take.
pub(crate) fn parts(workloads: &[Workload], scale: &Scale) -> Vec<Part> {
    let has = |workload| workloads.is_empty() || workloads.contains(&workload);
    let (modest, saturated, one) = (has(Workload::W1), has(Workload::W2), has(Workload::W2One));
    let mut parts = Vec::new();
    if modest || saturated || one {
        parts.extend(scale.observers.iter().map(|&observers| Part::FanOut { observers, modest, saturated, one }));
    }
    if has(Workload::W3) {
        parts.push(Part::Sequence);
    }
    let (modest, saturated) = (has(Workload::W4), has(Workload::W4Max));
    if modest || saturated {
        parts.push(Part::Rooms { modest, saturated });
    }
    if has(Workload::W5) {
        parts.extend([Part::IdleInOneRoom, Part::IdleInRooms]);
    }
    if has(Workload::W6) {
        parts.push(Part::Joins);
    }
    if has(Workload::W7) {
        parts.extend(scale.observers.iter().max().map(|&observers| Part::SlowReader { observers }));
    }
    if has(Workload::W8) {
        parts.push(Part::Cores);
    }
    parts
}

impl Part {
    /// Whether this compares our server with itself: the floor and the peers have no bound on what
    /// a slow reader costs them, or no second loop.
    pub(crate) fn is_ours_alone(&self) -> bool {
        matches!(self, Part::SlowReader { .. } | Part::Cores)
    }

    /// Measures one repetition of this part.
    pub(crate) fn measure(&self, subject: &mut Subject, scale: &Scale) -> Result<Measured, Failure> {
        let mut measured = Measured::default();
        match *self {
            Part::FanOut { observers, modest, saturated, one } => {
                subject.generator.add_room(format!("{}-fan-out", subject.room_prefix), observers, false)?;
                subject.generator.settle()?;
                subject.generator.load(Pace::Outstanding(1), WARM_UP, false)?;
                if modest {
                    let rate = if observers >= 1000 { MODEST_RATE_OF_MANY } else { 100 };
                    let pace = Pace::Every(Duration::from_secs(1) / rate);
                    let label = format!("W1 N={observers} at {rate}/s");
                    let (outcome, usage) = subject.load(pace, scale.time, true)?;
                    measured.latency(&label, &outcome);
                    measured.add_usage(&label, CPU_PER_DELIVERY, usage.per(outcome.deliveries));
                }
                for (name, outstanding, wanted) in [("W2", 64, saturated), ("W2one", 1, one)] {
                    if wanted {
                        let label = format!("{name} N={observers}");
                        let (outcome, usage) = subject.load(Pace::Outstanding(outstanding), scale.time, false)?;
                        measured.rate(&label, "deliveries/s", outcome.deliveries, &outcome);
                        // Microseconds for one are seconds for a million.
                        let per_million = "server CPU s per M deliveries";
                        measured.add_usage(&label, per_million, usage.per(outcome.deliveries));
                        measured.balance(&label, usage, &outcome);
                        if outcome.replaced > 0 {
                            let share = outcome.replaced as f64 / (outcome.replaced + outcome.deliveries) as f64;
                            measured.add(&label, "updates replaced by newer %", share * 100.0);
                        }
                    }
                }
            }
            Part::Sequence => {
                subject.generator.add_room(format!("{}-sequence", subject.room_prefix), 0, false)?;
                subject.generator.load(Pace::Outstanding(1), WARM_UP, false)?;
                let (outcome, usage) = subject.load(Pace::Outstanding(1), scale.time, true)?;
                measured.latency("W3", &outcome);
                measured.rate("W3", "sets/s", outcome.sets, &outcome);
                measured.add_usage("W3", "server CPU µs per set", usage.per(outcome.sets));
            }
            Part::Rooms { modest, saturated } => {
                let names = (0..scale.rooms).map(|room| format!("{}-room-{room}", subject.room_prefix));
                subject.generator.add_rooms(names, MEMBERS - 1, true)?;
                subject.generator.settle()?;
                subject.generator.load(Pace::Outstanding(1), WARM_UP, false)?;
                if modest {
                    let label = format!("W4 {} rooms of {MEMBERS}, 1/s each", scale.rooms);
                    let pace = Pace::Every(Duration::from_secs(1) / scale.rooms as u32);
                    let (outcome, usage) = subject.load(pace, scale.time, true)?;
                    measured.latency(&label, &outcome);
                    measured.rate(&label, "deliveries/s", outcome.deliveries, &outcome);
                    measured.add_usage(&label, CPU_PER_DELIVERY, usage.per(outcome.deliveries));
                }
                if saturated {
                    let label = format!("W4max {} rooms of {MEMBERS}", scale.rooms);
                    let (outcome, usage) = subject.load(Pace::Outstanding(1), scale.time, false)?;
                    measured.rate(&label, "deliveries/s", outcome.deliveries, &outcome);
                    measured.add_usage(&label, CPU_PER_DELIVERY, usage.per(outcome.deliveries));
                    measured.balance(&label, usage, &outcome);
                }
            }
            Part::IdleInOneRoom => {
                subject.begin()?;
                let before = subject.resident_kib();
                subject.generator.add_room(format!("{}-idle", subject.room_prefix), scale.idle, false)?;
                subject.generator.settle()?;
                let label = format!("W5 {} connections in one room", scale.idle);
                measured.memory(&label, before, subject.resident_kib(), scale.idle + 1);
            }
            Part::IdleInRooms => {
                subject.begin()?;
                let before = subject.resident_kib();
                let names = (0..scale.idle).map(|room| format!("{}-idle-{room}", subject.room_prefix));
                subject.generator.add_rooms(names, 0, true)?;
                subject.generator.set_once_in_each_room()?;
                subject.generator.settle()?;
                let label = format!("W5 {} rooms of one, with a key", scale.idle);
                measured.memory(&label, before, subject.resident_kib(), scale.idle);
            }
            Part::Joins => {
                subject.generator.add_room(format!("{}-joins", subject.room_prefix), 0, false)?;
                subject.generator.fill_state()?;
                subject.generator.join_and_leave(1, WARM_UP)?;
                let one = subject.generator.join_and_leave(1, scale.time)?;
                measured.latency("W6 64 KB, one by one", &one);
                let before = Usage::now(subject);
                let many = subject.generator.join_and_leave(JOINS_AT_ONCE, scale.time)?;
                let usage = Usage::now(subject).since(&before);
                let label = format!("W6 64 KB, {JOINS_AT_ONCE} at a time");
                measured.rate(&label, "joins/s", many.sets, &many);
                measured.add_usage(&label, "server CPU µs per join", usage.per(many.sets));
                measured.balance(&label, usage, &many);
            }
            Part::SlowReader { observers } => {
                // Alone with the writer it is soon sent more than its buffers and the server's hold.
                let with = &mut subject.generator;
                with.add_room(format!("{}-slow", subject.room_prefix), 1, false)?;
                with.stop_reading_one();
                with.load(Pace::Outstanding(64), FILL_UP, false)?;
                with.add_observers(observers - 1)?;
                with.settle()?;
                let mut without = with.another()?;
                without.add_room(format!("{}-quick", subject.room_prefix), observers, false)?;
                without.settle()?;
                // By turns, so that what slows the machine down for a while slows both.
                let pace = Pace::Every(Duration::from_secs(1) / MODEST_RATE_OF_MANY);
                let mut ends = [Vec::new(), Vec::new()];
                for _ in 0..TURNS {
                    for (generator, ends) in [&mut *with, &mut without].into_iter().zip(&mut ends) {
                        generator.load(Pace::Outstanding(1), WARM_UP, false)?;
                        ends.extend(quantile(&generator.load(pace, scale.time, true)?.latencies, 0.99));
                    }
                }
                let replaced = with.read_again()?;
                let label = format!("W7 N={observers} at {MODEST_RATE_OF_MANY}/s");
                if let [Some(with), Some(without)] = ends.map(|mut ends| {
                    ends.sort_unstable();
                    quantile(&ends, 0.5)
                }) {
                    measured.add(&label, "p99 µs, all read", without as f64 / 1e3);
                    measured.add(&label, "p99 µs of the others, one does not", with as f64 / 1e3);
                    measured.add(&label, "p99 with a slow reader / without", with as f64 / without as f64);
                }
                if replaced == 0 {
                    measured.notes.push(format!("{label}: what was held back for the slow reader fitted its buffers."));
                }
            }
            Part::Cores => measured.notes.push("W8 is not possible with a server that runs already.".into()),
        }
        Ok(measured)
    }
}

/// What saturated rooms cost a server.
pub(crate) struct Saturated {
    cpu_per_delivery: Option<f64>,
    /// For 1,000 deliveries.
    waits: Option<f64>,
}

/// The load of W4max, with what it costs.
pub(crate) fn saturated_rooms(subject: &mut Subject, scale: &Scale) -> Result<Saturated, Failure> {
    let names = (0..scale.rooms).map(|room| format!("{}-room-{room}", subject.room_prefix));
    subject.generator.add_rooms(names, MEMBERS - 1, true)?;
    subject.generator.settle()?;
    subject.generator.load(Pace::Outstanding(1), WARM_UP, false)?;
    let waits = |subject: &Subject| system::voluntary_switches(subject.process.as_ref()?.id());
    let before = waits(subject);
    let (outcome, usage) = subject.load(Pace::Outstanding(1), scale.time, false)?;
    let waits = waits(subject).zip(before).map(|(after, before)| after.saturating_sub(before));
    let waits = waits.map(|waits| waits as f64 * 1e3 / outcome.deliveries.max(1) as f64);
    Ok(Saturated { cpu_per_delivery: usage.per(outcome.deliveries), waits })
}

/// What a second core brings. The generator needs one of the two itself, so this is not a rate, but
/// how much of a core each delivery takes: what two loops took from each other would show there.
pub(crate) fn compare_cores(scale: &Scale, one: &Saturated, two: &Saturated) -> Measured {
    let mut measured = Measured::default();
    let label = format!("W8 {} rooms of {MEMBERS}", scale.rooms);
    measured.add_usage(&label, "CPU µs per delivery, one loop", one.cpu_per_delivery);
    measured.add_usage(&label, "CPU µs per delivery, two loops", two.cpu_per_delivery);
    let capacity = one.cpu_per_delivery.zip(two.cpu_per_delivery).map(|(one, two)| 2.0 * one / two);
    measured.add_usage(&label, "capacity of two cores / one", capacity);
    measured.add_usage(&label, "waits per 1,000 deliveries, one loop", one.waits);
    measured.add_usage(&label, "waits per 1,000 deliveries, two loops", two.waits);
    measured
}

const CPU_PER_DELIVERY: &str = "server CPU µs per delivery";

impl Subject {
    fn load(&mut self, pace: Pace, time: Duration, records: bool) -> Result<(Outcome, Usage), Failure> {
        let before = Usage::now(self);
        let outcome = self.generator.load(pace, time, records)?;
        Ok((outcome, Usage::now(self).since(&before)))
    }

    /// Has the server do everything once that idle connections are for, so that its program is in memory.
    fn begin(&mut self) -> Result<(), Failure> {
        let names = (0..FIRST_ROOMS).map(|room| format!("{}-first-{room}", self.room_prefix));
        self.generator.add_rooms(names, MEMBERS - 1, true)?;
        self.generator.load(Pace::Outstanding(1), WARM_UP, false)?;
        self.generator.settle()
    }

    fn resident_kib(&self) -> Option<u64> {
        self.process.as_ref().and_then(|process| system::resident_kib(process.id()))
    }
}

/// Time on the processor, in nanoseconds.
#[derive(Clone, Copy)]
struct Usage {
    server: Option<u64>,
    generator: Option<u64>,
}

impl Usage {
    fn now(subject: &Subject) -> Usage {
        Usage {
            server: subject.process.as_ref().and_then(|process| system::cpu_nanoseconds(process.id())),
            generator: system::cpu_nanoseconds(std::process::id()),
        }
    }

    fn since(self, before: &Usage) -> Usage {
        let difference = |now: Option<u64>, before: Option<u64>| now?.checked_sub(before?);
        Usage {
            server: difference(self.server, before.server),
            generator: difference(self.generator, before.generator),
        }
    }

    /// Microseconds of the server for each of so many things.
    fn per(self, count: u64) -> Option<f64> {
        self.server.filter(|_| count > 0).map(|server| server as f64 / 1e3 / count as f64)
    }
}

impl Measured {
    fn add(&mut self, workload: &str, name: &'static str, value: f64) {
        self.figures.push(Figure { workload: workload.into(), name, value });
    }

    fn add_usage(&mut self, workload: &str, name: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.add(workload, name, value);
        }
    }

    fn latency(&mut self, workload: &str, outcome: &Outcome) {
        for (name, share) in [("p50 µs", 0.5), ("p99 µs", 0.99)] {
            let value = quantile(&outcome.latencies, share).map(|nanoseconds| nanoseconds as f64 / 1e3);
            self.add_usage(workload, name, value);
        }
    }

    fn rate(&mut self, workload: &str, name: &'static str, count: u64, outcome: &Outcome) {
        self.add(workload, name, count as f64 / outcome.elapsed.as_secs_f64());
    }

    fn memory(&mut self, workload: &str, before: Option<u64>, after: Option<u64>, connections: usize) {
        if let (Some(before), Some(after)) = (before, after) {
            let value = after.saturating_sub(before) as f64 / connections as f64;
            self.add(workload, "KiB resident per connection", value);
        }
    }

    /// Remembers a rate that the generator set rather than the server.
    fn balance(&mut self, workload: &str, usage: Usage, outcome: &Outcome) {
        let busy = |nanoseconds: u64| nanoseconds as f64 / outcome.elapsed.as_nanos() as f64;
        if let (Some(server), Some(generator)) = (usage.server, usage.generator) {
            // Whoever is idle for a tenth of the time waits for the other.
            if busy(generator) > 0.9 && busy(server) < 0.9 {
                self.generator_bound.push(workload.into());
            }
        }
    }
}
