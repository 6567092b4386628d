//! What a server counts of itself, and how it tells Prometheus.
//!
//! Each loop has meters of its own, which only its thread writes: a load, an addition and a store, on cache lines
//! that no other loop touches. Whoever asks sums them up, on any thread. Times are taken of some only, because looking
//! at the clock costs as much as what is timed. A server without metrics has no meters.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{prometheus_text, DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::shard::Shared;
use crate::core::error::{Error, ErrorCode};
use crate::core::room::Reply;
use crate::core::write::Operation;

/// One command of so many is timed, as applying one takes little longer than looking at the clock twice.
const COMMANDS_PER_SAMPLE: u64 = 64;

/// The same for batches, which take a system call for each listener.
const BATCHES_PER_SAMPLE: u64 = 16;

/// What [`render`] answers is of this kind.
pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Not atomic as a whole, and need not be: nobody else writes it.
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where the buckets of times end, in nanoseconds: from a command to a disk that has trouble.
const BOUNDS: [u64; 19] = {
    let mut bounds = [0; 19];
    let (mut nth, mut power) = (0, 1_000);
    while nth < bounds.len() {
        bounds[nth] = [power, power * 5 / 2, power * 5][nth % 3];
        if nth % 3 == 2 {
            power *= 10;
        }
        nth += 1;
    }
    bounds
};

/// How long something took.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// For each bound how many took at most as long, and longer than the bound before; then the rest.
    buckets: [Count; BOUNDS.len() + 1],
    nanoseconds: Count,
}

impl Times {
    pub fn add(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(BOUNDS.partition_point(|bound| *bound < nanoseconds)) {
            bucket.add(1);
        }
        self.nanoseconds.add(nanoseconds);
    }
}

/// What a client writes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Set,
    Merge,
    Touch,
    Transact,
}

impl Written {
    const NAMES: [&'static str; 4] = ["set", "merge", "touch", "transact"];

    pub fn of(operation: &Operation) -> Written {
        match operation {
            Operation::Set(_) => Written::Set,
            Operation::Merge(_) => Written::Merge,
            Operation::Touch => Written::Touch,
        }
    }
}

/// What became of a write.
const OUTCOMES: [&str; 3] = ["applied", "conflict", "refused"];

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Request,
    Handshake,
    /// The server closed a connection.
    Close,
}

impl Refused {
    const NAMES: [&'static str; 3] = ["request", "handshake", "close"];
}

const CODES: usize = ErrorCode::ALL.len();

/// For each kind of refusal and each error code how many.
#[derive(Debug)]
struct Refusals([[Count; CODES]; Refused::NAMES.len()]);

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals(std::array::from_fn(|_| std::array::from_fn(|_| Count::default())))
    }
}

/// The meters of one loop. Its own cache lines, and as processors fetch two at once, its own pairs of them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Meters {
    pub connections_opened: Count,
    pub sessions_started: Count,
    pub peers_joined: Count,
    pub requests: Count,
    commands: Count,
    batches: Count,
    pub changes: Count,
    pub deliveries: Count,
    pub conflated: Count,
    /// As the loop has looked last; so is the next.
    pub queue_bytes: Count,
    pub slow_connections: Count,
    pub journal_records: Count,
    pub journal_bytes: Count,
    writes: [[Count; OUTCOMES.len()]; Written::NAMES.len()],
    refusals: Refusals,
    apply: Times,
    fan_out: Times,
    pub journal_commit: Times,
}

impl Meters {
    /// Counts a command. When it began, if it is one of those that are timed.
    pub fn begin_command(&self) -> Option<Instant> {
        self.commands.add(1);
        (self.commands.get() % COMMANDS_PER_SAMPLE == 1).then(Instant::now)
    }

    pub fn end_command(&self, begun: Instant) {
        self.apply.add(begun.elapsed());
    }

    /// Counts a batch that begins to be written. When, if it is one of those that are timed.
    pub fn begin_batch(&self) -> Option<Instant> {
        self.batches.add(1);
        (self.batches.get() % BATCHES_PER_SAMPLE == 1).then(Instant::now)
    }

    pub fn end_batch(&self, begun: Instant) {
        self.fan_out.add(begun.elapsed());
    }

    pub fn write(&self, what: Written, reply: &Result<Reply, Error>) {
        let outcome = match reply {
            Ok(_) => 0,
            Err(error) if matches!(error.code(), ErrorCode::VersionConflict | ErrorCode::CheckFailed) => 1,
            Err(_) => 2,
        };
        if let Some(count) = self.writes.get(what as usize).and_then(|outcomes| outcomes.get(outcome)) {
            count.add(1);
        }
    }

    pub fn refuse(&self, what: Refused, code: ErrorCode) {
        let place = ErrorCode::ALL.binary_search(&code).ok();
        let counts = self.refusals.0.get(what as usize);
        if let Some(count) = place.and_then(|place| counts?.get(place)) {
            count.add(1);
        }
    }

    /// The same for a connection that is closed with this code.
    pub fn close(&self, code: u16) {
        if let Some(code) = reason(code) {
            self.refuse(Refused::Close, code);
        }
    }
}

/// Why a connection is closed, by the code that its close frame has; none where all is well.
fn reason(close: u16) -> Option<ErrorCode> {
    match close {
        // RFC 6455, 7.4.1: what is no frame, not the kind of it that is wanted, or no text.
        1002 | 1003 | 1007 => Some(ErrorCode::MalformedMessage),
        1009 => Some(ErrorCode::MessageTooLarge),
        1011 => Some(ErrorCode::Internal),
        1012 => Some(ErrorCode::ShuttingDown),
        close => ErrorCode::from_number(i32::from(close) - 4_000),
    }
}

/// The meters for each loop; none if nothing is to be counted.
pub(super) fn meters(loops: usize, wanted: bool) -> Vec<Arc<Meters>> {
    (0..loops).filter(|_| wanted).map(|_| Arc::default()).collect()
}

/// All that the server has counted, in Prometheus' text format. May be called on any thread.
pub(super) fn render(shared: &Shared) -> String {
    let load = |count: &std::sync::atomic::AtomicUsize| count.load(Ordering::Relaxed) as u64;
    let server = Server {
        rooms: load(&shared.rooms),
        peers: load(&shared.peers),
        connections: load(&shared.connections),
        sockets: load(&shared.sockets),
        loops: shared.meters.clone(),
    };
    let mut registry = Registry::with_prefix("sessionstore");
    registry.register_collector(Box::new(server));
    let mut text = String::new();
    // Writing into a string fails for nothing.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}

/// What is told of a server.
#[derive(Debug)]
struct Server {
    rooms: u64,
    peers: u64,
    connections: u64,
    sockets: u64,
    loops: Vec<Arc<Meters>>,
}

impl Server {
    fn sum(&self, of: impl Fn(&Meters) -> &Count) -> u64 {
        self.loops.iter().map(|meters| of(meters).get()).fold(0, u64::wrapping_add)
    }
}

impl Collector for Server {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Out(encoder);
        out.gauge("rooms", "Rooms with a session, those included that nobody is connected to.", self.rooms)?;
        out.gauge("peers", "Peers in all rooms, those in their grace period included.", self.peers)?;
        out.gauge("connections", "Open WebSocket connections.", self.connections)?;
        out.gauge("sockets", "Open sockets, those included that have not yet asked for a room.", self.sockets)?;
        let text = "Connections that do not take what they are sent, of which something waits, at most a second ago.";
        out.gauge("slow_connections", text, self.sum(|meters| &meters.slow_connections))?;
        let text = "Bytes that wait for slow connections, at most a second ago.";
        out.gauge("queue_bytes", text, self.sum(|meters| &meters.queue_bytes))?;

        let text = "WebSocket connections that were opened.";
        out.counter("connections_opened", text, self.sum(|meters| &meters.connections_opened))?;
        let text = "Sessions that began: rooms that were opened.";
        out.counter("sessions_started", text, self.sum(|meters| &meters.sessions_started))?;
        out.counter("peers_joined", "Peers that joined a room.", self.sum(|meters| &meters.peers_joined))?;
        out.counter("requests", "Messages that clients sent.", self.sum(|meters| &meters.requests))?;
        let text = "Commands that were put to rooms: by requests, by connections that came and went, by time.";
        out.counter("commands", text, self.sum(|meters| &meters.commands))?;

        let text = "Writes that clients asked for, by what they write with and by outcome; a request that comes again \
                    counts again, with the outcome it had.";
        let mut writes = out.family("writes", text)?;
        for (what, operation) in Written::NAMES.into_iter().enumerate() {
            for (which, outcome) in OUTCOMES.into_iter().enumerate() {
                let count = self.sum(|meters| &meters.writes[what][which]);
                writes.counter(&[("operation", operation), ("outcome", outcome)], count)?;
            }
        }
        let text = "Requests, handshakes and connections that were refused or closed, by the name of the error.";
        let mut refused = out.family("refused", text)?;
        for (what, kind) in Refused::NAMES.into_iter().enumerate() {
            for (which, code) in ErrorCode::ALL.iter().enumerate() {
                let count = self.sum(|meters| &meters.refusals.0[what][which]);
                // Most codes are never used for most kinds.
                if count > 0 {
                    refused.counter(&[("kind", kind), ("reason", code.name())], count)?;
                }
            }
        }

        let text = "Changes of keys, by clients, by time and by peers that left.";
        out.counter("changes", text, self.sum(|meters| &meters.changes))?;
        let text =
            "Changes of keys that were written to the sockets of who listens, one for each change and listener; \
                    without those that were read in a snapshot.";
        out.counter("deliveries", text, self.sum(|meters| &meters.deliveries))?;
        let text =
            "Changes of keys that slow connections were not sent, because a newer one of the same key stands for \
                    them; counted when the newer one is sent.";
        out.counter("conflated", text, self.sum(|meters| &meters.conflated))?;
        let text = "Batches: what a room had to say between two turns, written to all whom it concerns.";
        out.counter("batches", text, self.sum(|meters| &meters.batches))?;

        let text = "How long a command took to be applied, what others are told of it encoded included; one of 64 is \
                    timed.";
        out.times("apply", text, &self.loops, |meters| &meters.apply)?;
        let text = "How long a batch took to be written to all whom it concerns, the turns of others in between \
                    included; one of 16 is timed.";
        out.times("fan_out", text, &self.loops, |meters| &meters.fan_out)?;

        let text =
            "How long it took to keep what happened in a turn of a loop, waiting for other loops included; every \
                    commit is timed.";
        out.times("journal_commit", text, &self.loops, |meters| &meters.journal_commit)?;
        let text = "Records that were handed to the journal.";
        out.counter("journal_records", text, self.sum(|meters| &meters.journal_records))?;
        let text = "Bytes that were handed to the journal.";
        out.counter("journal_written_bytes", text, self.sum(|meters| &meters.journal_bytes))?;

        let mut info = out.0.encode_descriptor("build", "What runs here.", None, MetricType::Info)?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

struct Family<'a>(prometheus_client::encoding::MetricEncoder<'a>);

impl Family<'_> {
    fn counter(&mut self, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
        self.0.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    }
}

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        // More than i64 holds is not counted here by far.
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&(value as i64))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut counter = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        counter.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    }

    fn family<'s>(&'s mut self, name: &'s str, help: &str) -> Result<Family<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Counter).map(Family)
    }

    fn times(&mut self, name: &str, help: &str, loops: &[Arc<Meters>], of: fn(&Meters) -> &Times) -> fmt::Result {
        let all = || loops.iter().map(|meters| of(meters));
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / 1e9).chain([f64::INFINITY]);
        let in_bucket = |nth: usize| all().map(|times| times.buckets[nth].get()).sum::<u64>();
        let buckets: Vec<(f64, u64)> = bounds.enumerate().map(|(nth, bound)| (bound, in_bucket(nth))).collect();
        // What there is of the buckets, so that the two agree although somebody writes meanwhile.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = all().map(|times| times.nanoseconds.get() as f64).sum::<f64>() / 1e9;
        let mut histogram = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        histogram.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_where_their_bound_is() {
        let times = Times::default();
        for nanoseconds in [0, 1_000, 1_001, 2_500, 1_000_000_000, 1_000_000_001] {
            times.add(Duration::from_nanos(nanoseconds));
        }
        let counts: Vec<u64> = times.buckets.iter().map(Count::get).collect();
        assert_eq!((counts[0], counts[1], counts[18], counts[19]), (2, 2, 1, 1));
        assert_eq!((BOUNDS[0], BOUNDS[4], BOUNDS[18]), (1_000, 25_000, 1_000_000_000));
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn the_first_command_is_timed_and_then_one_of_64() {
        let meters = Meters::default();
        let timed: Vec<bool> = (0..129).map(|_| meters.begin_command().is_some()).collect();
        let places: Vec<usize> = (0..129).filter(|nth| timed[*nth]).collect();
        assert_eq!(places, [0, 64, 128]);
    }

    #[test]
    fn every_code_has_its_place_and_closes_have_their_reason() {
        let meters = Meters::default();
        for code in ErrorCode::ALL {
            meters.refuse(Refused::Handshake, *code);
        }
        assert!(meters.refusals.0[1].iter().all(|count| count.get() == 1));
        assert_eq!(reason(4_114), Some(ErrorCode::SlowReader));
        assert_eq!(reason(1_002), Some(ErrorCode::MalformedMessage));
        assert_eq!((reason(1_000), reason(1_001)), (None, None));
    }

    #[test]
    fn loops_share_no_cache_line() {
        assert_eq!((align_of::<Meters>(), size_of::<Meters>() % 128), (128, 0));
    }
}
