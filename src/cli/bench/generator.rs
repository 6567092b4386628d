//! The load: one thread, one epoll, any number of connections to one server.
//!
//! It keeps the book of what must arrive: every set is numbered, and every observer must be
//! brought every number once, in order, or a newer one that says how many it replaced.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::failure::Failure;
use super::wire::{Heard, Observe, Wire, STATE_KEYS};

/// Sets of one room that may be under way at once: more than the 64 of the saturated workload.
const RING: usize = 128;
/// Free space for one read: a join's 64 KB, or what 64 sets bring, in one system call.
const READ_BYTES: usize = 128 * 1024;
/// A server that says nothing for so long while something is due has lost it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections that are being made at once while a workload is set up.
const SETUP_AT_ONCE: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The TCP connection is being made.
    Connecting,
    /// The HTTP answer is awaited.
    Handshake,
    /// The answer to the join, or its snapshot, is awaited.
    Joining,
    Ready,
    /// Nothing more is due; the server closes.
    Leaving,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    room: usize,
    observe: Observe,
    phase: Phase,
    /// Just before the connection was made.
    started: Instant,
    /// A frame whose end has not come.
    partial: Partial,
    /// What is still to be written.
    pending: Vec<u8>,
    /// The newest set it was brought.
    last: u64,
    /// Keys of the state it was brought, where each is a message of its own.
    parts: usize,
    reading: Reading,
}

/// Bytes that were read, of which some are still to be dealt with.
#[derive(Debug, Default)]
struct Partial {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Partial {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.from..self.to).unwrap_or_default()
    }
}

/// What a connection does with what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Reads all, and all count.
    Usual,
    /// Reads nothing.
    Stopped,
    /// Reads again; nobody waits for it.
    Late,
}

#[derive(Debug)]
struct Room {
    name: String,
    /// The connection that sets.
    writer: usize,
    observers: u32,
    sent: u64,
    /// Every set up to this one has reached every observer.
    done: u64,
    acknowledged: u64,
    /// For the sets under way, how many observers lack them, and when they were sent.
    lacking: [u32; RING],
    sent_at: [Instant; RING],
}

/// When sets are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// One set in this time, the rooms by turns.
    Every(Duration),
    /// This many outstanding in each room.
    Outstanding(u64),
}

/// What a load has brought.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// States delivered to observers.
    pub(crate) deliveries: u64,
    /// States that were replaced by newer ones, as the server said.
    pub(crate) replaced: u64,
    /// Sets that reached all observers.
    pub(crate) sets: u64,
    /// From the first set to the last delivery.
    pub(crate) elapsed: Duration,
    /// Nanoseconds from just before a set to its decoding by an observer (or to its
    /// acknowledgement where nobody observes), sorted; empty unless asked for.
    pub(crate) latencies: Vec<u64>,
}

/// Connections to one server, and the book of what they are due.
pub(crate) struct Generator {
    poll: Poll,
    events: Events,
    address: SocketAddr,
    wire: Rc<Wire>,
    connections: Slab<Connection>,
    rooms: Vec<Room>,
    /// Buffers for reads, of [`READ_BYTES`] at least.
    buffers: Vec<Vec<u8>>,
    outcome: Outcome,
    records: bool,
    /// Rooms in which a set was completed since they were last looked at.
    completed: Vec<usize>,
    joins_done: Vec<usize>,
    /// Length of a state snapshot that was looked through.
    known_state: Option<usize>,
    peers: u64,
    heard_at: Instant,
}

impl Generator {
    pub(crate) fn new(address: SocketAddr, wire: Wire) -> Result<Generator, Failure> {
        Generator::at(address, Rc::new(wire))
    }

    /// Another one to the same server, with connections of its own.
    pub(crate) fn another(&self) -> Result<Generator, Failure> {
        Generator::at(self.address, self.wire.clone())
    }

    fn at(address: SocketAddr, wire: Rc<Wire>) -> Result<Generator, Failure> {
        Ok(Generator {
            poll: Poll::new().map_err(|error| Failure::system("making an epoll", &error))?,
            events: Events::with_capacity(1024),
            address,
            wire,
            connections: Slab::new(),
            rooms: Vec::new(),
            buffers: Vec::new(),
            outcome: Outcome::default(),
            records: false,
            completed: Vec::new(),
            joins_done: Vec::new(),
            known_state: None,
            peers: 0,
            heard_at: Instant::now(),
        })
    }

    /// Makes a room of one writer and some other members, all of them observers but the writer
    /// only if asked.
    pub(crate) fn add_room(&mut self, name: String, others: usize, writer_observes: bool) -> Result<(), Failure> {
        self.add_rooms(std::iter::once(name), others, writer_observes)
    }

    /// The same for many rooms, [`SETUP_AT_ONCE`] connections at a time.
    pub(crate) fn add_rooms(
        &mut self,
        names: impl Iterator<Item = String>,
        others: usize,
        writer_observes: bool,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        let first = self.rooms.len();
        let observers = others as u32 + u32::from(writer_observes);
        self.rooms.extend(names.map(|name| Room {
            name,
            writer: usize::MAX,
            observers,
            sent: 0,
            done: 0,
            acknowledged: 0,
            lacking: [0; RING],
            sent_at: [now; RING],
        }));
        let writer = if writer_observes { Observe::Key } else { Observe::Nothing };
        let members = std::iter::once(writer).chain(std::iter::repeat_n(Observe::Key, others));
        let rooms = first..self.rooms.len();
        self.join_all(
            rooms.flat_map(|room| members.clone().enumerate().map(move |(index, one)| (room, one, index == 0))),
        )
    }

    /// Lets so many more observers into the first room.
    pub(crate) fn add_observers(&mut self, count: usize) -> Result<(), Failure> {
        if let Some(room) = self.rooms.first_mut() {
            room.observers += count as u32;
        }
        self.join_all(std::iter::repeat_n((0, Observe::Key, false), count))
    }

    /// Joins members, each of a room, and the one who writes in it or not.
    fn join_all(&mut self, mut wanted: impl Iterator<Item = (usize, Observe, bool)>) -> Result<(), Failure> {
        let mut under_way = 0;
        loop {
            while under_way < SETUP_AT_ONCE {
                let Some((room, observe, is_writer)) = wanted.next() else { break };
                let token = self.connect(room, observe)?;
                if is_writer {
                    if let Some(room) = self.rooms.get_mut(room) {
                        room.writer = token;
                    }
                }
                under_way += 1;
            }
            if under_way == 0 {
                return Ok(());
            }
            self.turn(None, "an answer to a join")?;
            under_way -= self.joins_done.drain(..).len();
        }
    }

    /// Reads until nothing has come for a moment, so that what joining caused is over.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        const QUIET: Duration = Duration::from_millis(200);
        let began = Instant::now();
        while began.max(self.heard_at).elapsed() < QUIET {
            self.turn(Some(QUIET), "")?;
        }
        Ok(())
    }

    /// Sets at this pace for so long, then waits until everybody has everything.
    pub(crate) fn load(&mut self, pace: Pace, time: Duration, records: bool) -> Result<Outcome, Failure> {
        self.records = records;
        self.outcome = Outcome::default();
        let sets_before: u64 = self.rooms.iter().map(|room| room.done).sum();
        let began = Instant::now();
        let end = began + time;
        match pace {
            Pace::Outstanding(most) => {
                self.completed = (0..self.rooms.len()).collect();
                while Instant::now() < end {
                    for room in std::mem::take(&mut self.completed) {
                        self.top_up(room, most.min(RING as u64))?;
                    }
                    self.turn(Some(end.saturating_duration_since(Instant::now())), "")?;
                    self.check_patience()?;
                }
            }
            Pace::Every(interval) => {
                let (mut next, mut room) = (began, 0);
                while next < end {
                    while next <= Instant::now() && next < end {
                        // A room that cannot keep up is passed over rather than piled upon.
                        self.top_up_by_one(room)?;
                        room = (room + 1) % self.rooms.len().max(1);
                        next += interval;
                    }
                    self.turn(Some(next.saturating_duration_since(Instant::now())), "")?;
                }
            }
        }
        self.heard_at = Instant::now();
        while self.rooms.iter().any(|room| room.done < room.sent || room.acknowledged < room.sent) {
            self.turn(Some(PATIENCE), "")?;
            self.check_patience()?;
        }
        self.completed.clear();
        let sets_after: u64 = self.rooms.iter().map(|room| room.done).sum();
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.elapsed = began.elapsed();
        outcome.sets = sets_after - sets_before;
        outcome.latencies.sort_unstable();
        Ok(outcome)
    }

    /// One set in each room, and waits until they are delivered.
    pub(crate) fn set_once_in_each_room(&mut self) -> Result<(), Failure> {
        for room in 0..self.rooms.len() {
            self.top_up(room, 1)?;
        }
        self.load(Pace::Outstanding(0), Duration::ZERO, false).map(drop)
    }

    /// Fills the room's store with the 64 KB that joins receive.
    pub(crate) fn fill_state(&mut self) -> Result<(), Failure> {
        if self.wire.is_floor() {
            return Ok(());
        }
        let Some(room) = self.rooms.first_mut() else { return Ok(()) };
        let writer = room.writer;
        // These are not deliveries: the book only has their acknowledgements.
        room.sent += STATE_KEYS as u64;
        room.done = room.sent;
        let due = room.sent;
        if let Some(connection) = self.connections.get_mut(writer) {
            for index in 0..STATE_KEYS {
                self.wire.set_state_key(&mut connection.pending, index, &room.name);
            }
        }
        self.write(writer)?;
        self.heard_at = Instant::now();
        while self.rooms.first().is_some_and(|room| room.acknowledged < due) {
            self.turn(Some(PATIENCE), "")?;
            self.check_patience()?;
        }
        Ok(())
    }

    /// Joins the first room and leaves it again, so many at a time, for so long. The latencies are
    /// from just before connecting to having the state.
    pub(crate) fn join_and_leave(&mut self, at_once: usize, time: Duration) -> Result<Outcome, Failure> {
        self.records = true;
        self.outcome = Outcome::default();
        let began = Instant::now();
        let end = began + time;
        let mut under_way = 0;
        loop {
            while under_way < at_once && Instant::now() < end {
                self.connect(0, Observe::State)?;
                under_way += 1;
            }
            if under_way == 0 {
                break;
            }
            self.turn(None, "the state of the room")?;
            for token in std::mem::take(&mut self.joins_done) {
                under_way -= 1;
                self.outcome.sets += 1;
                self.leave(token)?;
            }
        }
        self.heard_at = Instant::now();
        while self.connections.iter().any(|(_, connection)| connection.phase == Phase::Leaving) {
            self.turn(Some(PATIENCE), "")?;
            self.check_patience()?;
        }
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.elapsed = began.elapsed();
        outcome.latencies.sort_unstable();
        Ok(outcome)
    }

    /// From now on one observer of the first room reads nothing, and nobody waits for it.
    pub(crate) fn stop_reading_one(&mut self) {
        let observes = |connection: &Connection| connection.room == 0 && connection.observe == Observe::Key;
        let Some((_, connection)) = self.connections.iter_mut().find(|(_, connection)| observes(connection)) else {
            return;
        };
        connection.reading = Reading::Stopped;
        if let Some(room) = self.rooms.first_mut() {
            room.observers -= 1;
        }
    }

    /// It reads again, until it has the newest. Returns how many sets were replaced by newer ones
    /// for it.
    pub(crate) fn read_again(&mut self) -> Result<u64, Failure> {
        let stopped = self.connections.iter().find(|(_, connection)| connection.reading == Reading::Stopped);
        let Some(token) = stopped.map(|(token, _)| token) else { return Ok(0) };
        self.outcome = Outcome::default();
        if let Some(connection) = self.connections.get_mut(token) {
            connection.reading = Reading::Late;
        }
        let due = self.rooms.first().map_or(0, |room| room.sent);
        self.heard_at = Instant::now();
        self.read(token)?;
        while self.connections.get(token).is_some_and(|connection| connection.last < due) {
            self.turn(Some(PATIENCE), "")?;
            self.check_patience()?;
        }
        Ok(std::mem::take(&mut self.outcome).replaced)
    }

    fn leave(&mut self, token: usize) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(token) else { return Ok(()) };
        connection.phase = Phase::Leaving;
        self.wire.leave(&mut connection.pending);
        self.write(token)
    }

    fn connect(&mut self, room: usize, observe: Observe) -> Result<usize, Failure> {
        let started = Instant::now();
        let mut socket = TcpStream::connect(self.address).map_err(|error| match error.kind() {
            // The loopback interface refuses at once.
            ErrorKind::ConnectionRefused => Failure::Server(format!("cannot connect to {}: {error}", self.address)),
            _ => Failure::system("connecting to the server", &error),
        })?;
        // Only saves time; a socket that is not connected yet may refuse it on other systems.
        let _ = socket.set_nodelay(true);
        let entry = self.connections.vacant_entry();
        let token = entry.key();
        self.poll
            .registry()
            .register(&mut socket, Token(token), Interest::READABLE | Interest::WRITABLE)
            .map_err(|error| Failure::system("registering a connection", &error))?;
        let mut pending = Vec::with_capacity(512);
        self.peers += 1;
        let name = self.rooms.get(room).map_or("", |room| &room.name);
        self.wire.join(&mut pending, name, &format!("peer-{}", self.peers), observe);
        let (partial, phase) = (Partial::default(), Phase::Connecting);
        // Newer than anything sent before it joined.
        let last = self.rooms.get(room).map_or(0, |room| room.sent);
        entry.insert(Connection {
            socket,
            room,
            observe,
            phase,
            started,
            partial,
            pending,
            last,
            parts: 0,
            reading: Reading::Usual,
        });
        // On the loopback interface the connection is there already, and no turn has to be waited for.
        self.write(token)?;
        Ok(token)
    }

    fn top_up(&mut self, index: usize, most: u64) -> Result<(), Failure> {
        let Some(room) = self.rooms.get_mut(index) else { return Ok(()) };
        let Some(connection) = self.connections.get_mut(room.writer) else { return Ok(()) };
        let writer = room.writer;
        // Where nobody observes, a set is done when it is acknowledged; `lacking` says so too.
        let now = Instant::now();
        while room.sent - room.done < most {
            room.sent += 1;
            let place = room.sent as usize % RING;
            room.lacking[place] = room.observers.max(1);
            room.sent_at[place] = now;
            let is_observed = room.observers > 0;
            self.wire.set(&mut connection.pending, room.sent, index, &room.name, is_observed);
        }
        self.write(writer)
    }

    fn top_up_by_one(&mut self, index: usize) -> Result<(), Failure> {
        let outstanding = self.rooms.get(index).map_or(0, |room| room.sent - room.done);
        self.top_up(index, (outstanding + 1).min(RING as u64))
    }

    /// Waits for something to happen and deals with it. With `due`, waits as long as the patience
    /// lasts, and fails when that is over.
    fn turn(&mut self, timeout: Option<Duration>, due: &str) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, Some(timeout.unwrap_or(PATIENCE))) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(Failure::system("waiting for the server", &error)),
        }
        if self.events.is_empty() && timeout.is_none() {
            let text = format!("the server at {} gave no sign for {PATIENCE:?} while {due} was due", self.address);
            return Err(Failure::Server(text));
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let token = event.token().0;
            if event.is_writable() {
                self.write(token)?;
            }
            let is_stopped = self.connections.get(token).is_some_and(|one| one.reading == Reading::Stopped);
            if !is_stopped && (event.is_readable() || event.is_read_closed() || event.is_error()) {
                self.read(token)?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn check_patience(&self) -> Result<(), Failure> {
        if self.heard_at.elapsed() < PATIENCE {
            return Ok(());
        }
        let sets: u64 = self.rooms.iter().map(|room| room.sent.saturating_sub(room.acknowledged)).sum();
        let joined = self.connections.iter().filter(|(_, connection)| connection.phase == Phase::Ready);
        let deliveries: u64 = joined
            .filter(|(_, connection)| connection.observe == Observe::Key)
            .filter_map(|(_, connection)| Some(self.rooms.get(connection.room)?.sent - connection.last))
            .sum();
        let text = format!("{sets} acknowledgements and {deliveries} deliveries are missing after {PATIENCE:?}");
        Err(Failure::Wrong(text))
    }

    fn write(&mut self, token: usize) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(token) else { return Ok(()) };
        while !connection.pending.is_empty() {
            match connection.socket.write(&connection.pending) {
                Ok(written) => {
                    if connection.phase == Phase::Connecting {
                        connection.phase = if self.wire.has_handshake() { Phase::Handshake } else { Phase::Joining };
                    }
                    connection.pending.drain(..written);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(token, &error)),
            }
        }
        Ok(())
    }

    fn broken(&self, token: usize, error: &io::Error) -> Failure {
        match self.connections.get(token).map(|connection| connection.phase) {
            Some(Phase::Connecting) => Failure::Server(format!("cannot connect to {}: {error}", self.address)),
            _ => Failure::Server(format!("the connection to {} broke: {error}", self.address)),
        }
    }

    fn read(&mut self, token: usize) -> Result<(), Failure> {
        loop {
            let Some(connection) = self.connections.get_mut(token) else { return Ok(()) };
            let mut partial = std::mem::take(&mut connection.partial);
            if partial.buffer.len() - partial.to < READ_BYTES / 2 {
                // What lies in a buffer of its own stays there: copying 64 KB would be most of the work.
                let rest = partial.bytes();
                let mut buffer = self.buffers.pop().unwrap_or_default();
                buffer.resize(buffer.len().max(rest.len() + READ_BYTES), 0);
                buffer[..rest.len()].copy_from_slice(rest);
                let to = rest.len();
                let old = std::mem::replace(&mut partial, Partial { buffer, from: 0, to });
                self.keep_buffer(old.buffer);
            }
            let Some(connection) = self.connections.get_mut(token) else { return Ok(()) };
            let space = &mut partial.buffer[partial.to..];
            let read = match connection.socket.read(space) {
                Ok(read) if read > 0 => read,
                other => {
                    self.keep(token, partial);
                    match other {
                        Ok(_) => return self.ended(token),
                        Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                            return Ok(());
                        }
                        Err(error) => return self.failed(token, &error),
                    }
                }
            };
            let is_drained = read < space.len();
            partial.to += read;
            self.heard_at = Instant::now();
            partial.from += self.take_bytes(token, partial.bytes())?;
            self.keep(token, partial);
            // A read that left space has emptied the socket; the next arrival is a new event.
            if is_drained {
                return Ok(());
            }
        }
    }

    /// Keeps for a connection what it is not done with. A little has no large buffer to itself.
    fn keep(&mut self, token: usize, partial: Partial) {
        let rest = partial.bytes();
        let Some(connection) = self.connections.get_mut(token).filter(|_| !rest.is_empty()) else {
            return self.keep_buffer(partial.buffer);
        };
        if rest.len() < READ_BYTES / 8 {
            connection.partial = Partial { from: 0, to: rest.len(), buffer: rest.to_vec() };
            self.keep_buffer(partial.buffer);
        } else {
            connection.partial = partial;
        }
    }

    fn keep_buffer(&mut self, buffer: Vec<u8>) {
        if buffer.len() >= READ_BYTES && self.buffers.len() < SETUP_AT_ONCE {
            self.buffers.push(buffer);
        }
    }

    fn ended(&mut self, token: usize) -> Result<(), Failure> {
        if self.connections.get(token).is_some_and(|connection| connection.phase == Phase::Leaving) {
            self.connections.remove(token);
            self.heard_at = Instant::now();
            return Ok(());
        }
        let text = format!("the server at {} closed a connection that had not left", self.address);
        Err(Failure::Server(text))
    }

    fn failed(&mut self, token: usize, error: &io::Error) -> Result<(), Failure> {
        if self.connections.get(token).is_some_and(|connection| connection.phase == Phase::Leaving) {
            self.connections.remove(token);
            return Ok(());
        }
        Err(self.broken(token, error))
    }

    /// Deals with all whole frames, and says how many bytes they took.
    fn take_bytes(&mut self, token: usize, bytes: &[u8]) -> Result<usize, Failure> {
        let mut used = 0;
        if self.connections.get(token).is_some_and(|connection| connection.phase == Phase::Handshake) {
            match self.handshake(bytes)? {
                Some(end) => used = end,
                None => return Ok(0),
            }
            if let Some(connection) = self.connections.get_mut(token) {
                connection.phase = Phase::Joining;
            }
        }
        let wire = self.wire.clone();
        while let Some((heard, payload, length)) =
            wire.frame(bytes.get(used..).unwrap_or_default()).map_err(Failure::Server)?
        {
            self.take_frame(&wire, token, &heard, payload)?;
            used += length;
        }
        Ok(used)
    }

    fn handshake(&self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        if bytes.starts_with(b"HTTP/1.1 101 ") {
            return Ok(Some(end + 4));
        }
        let text = String::from_utf8_lossy(bytes);
        let status: String = text.lines().next().unwrap_or("").chars().filter(|c| !c.is_control()).take(100).collect();
        let text = format!("what answers at {} did not accept the WebSocket handshake: {status}", self.address);
        Err(Failure::Server(text))
    }

    fn take_frame(&mut self, wire: &Wire, token: usize, heard: &Heard, payload: &[u8]) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(token) else { return Ok(()) };
        match heard {
            Heard::Change => {
                if connection.phase != Phase::Ready || connection.observe != Observe::Key {
                    return match connection.phase {
                        // Other joins' state is nobody's delivery.
                        Phase::Leaving => Ok(()),
                        _ => Err(Failure::Wrong("a change came that nobody listens to, or before its snapshot".into())),
                    };
                }
                self.take_changes(wire, token, payload)
            }
            Heard::Joined => self.joined(wire, token, payload),
            Heard::Welcome if connection.observe == Observe::Nothing => self.joined(wire, token, payload),
            Heard::Subscribed if connection.observe == Observe::Key => self.joined(wire, token, payload),
            Heard::StatePart => {
                connection.parts += 1;
                match connection.parts {
                    STATE_KEYS => self.joined(wire, token, payload),
                    _ => Ok(()),
                }
            }
            Heard::Stored if connection.phase == Phase::Leaving => {
                // The server waits for nothing more; its end of the connection follows.
                let _ = connection.socket.shutdown(std::net::Shutdown::Write);
                Ok(())
            }
            // Its last words. The end of its side comes with them.
            Heard::Close if connection.phase == Phase::Leaving => self.ended(token),
            Heard::Stored if self.rooms.get(connection.room).is_none_or(|room| room.observers > 0) => Ok(()),
            Heard::Other | Heard::Welcome | Heard::Subscribed => Ok(()),
            Heard::Ack | Heard::Stored => {
                let index = connection.room;
                let Some(room) = self.rooms.get_mut(index) else { return Ok(()) };
                room.acknowledged += 1;
                if room.observers == 0 && room.done < room.acknowledged {
                    room.done = room.acknowledged;
                    self.completed.push(index);
                    if self.records {
                        let sent_at = room.sent_at[room.done as usize % RING];
                        self.outcome.latencies.push(sent_at.elapsed().as_nanos() as u64);
                    }
                }
                Ok(())
            }
            Heard::Refused => Err(Failure::Wrong("the server refused a request".into())),
            Heard::Ping => {
                wire.pong(&mut connection.pending, payload);
                self.write(token)
            }
            Heard::Close => {
                let code = payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code));
                Err(Failure::Server(format!("the server closed a connection with code {code}")))
            }
        }
    }

    fn joined(&mut self, wire: &Wire, token: usize, payload: &[u8]) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(token) else { return Ok(()) };
        if connection.phase != Phase::Joining {
            return Err(Failure::Wrong("a join was answered twice".into()));
        }
        connection.phase = Phase::Ready;
        if connection.observe == Observe::State {
            // The state does not change, so one as long as one that was whole is whole.
            if self.known_state != Some(payload.len()) {
                if !wire.is_whole_state(payload) {
                    return Err(Failure::Wrong("a join did not receive the whole state".into()));
                }
                self.known_state = Some(payload.len());
            }
            if self.records {
                self.outcome.latencies.push(connection.started.elapsed().as_nanos() as u64);
            }
        }
        self.joins_done.push(token);
        Ok(())
    }

    fn take_changes(&mut self, wire: &Wire, token: usize, payload: &[u8]) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(token) else { return Ok(()) };
        let index = connection.room;
        let Some(room) = self.rooms.get_mut(index) else { return Ok(()) };
        let (outcome, records) = (&mut self.outcome, self.records);
        let mut wrong = None;
        let mut completed = false;
        let found = wire.states(payload, |delivery| {
            let (from, to) = (connection.last + 1, delivery.sequence);
            if delivery.room != index as u64 {
                wrong = Some("a delivery was of another room".to_string());
            } else if to < from || to > room.sent {
                wrong = Some(format!("set {to} came after set {}, of {} sent", connection.last, room.sent));
            } else if to - from != delivery.replaced {
                wrong = Some(format!(
                    "{} deliveries were lost before set {to}",
                    to - from - delivery.replaced.min(to - from)
                ));
            } else {
                connection.last = to;
                outcome.replaced += delivery.replaced;
                if connection.reading == Reading::Late {
                    return;
                }
                outcome.deliveries += 1;
                if records {
                    let sent_at = room.sent_at[to as usize % RING];
                    outcome.latencies.push(self.heard_at.saturating_duration_since(sent_at).as_nanos() as u64);
                }
                for sequence in from..=to {
                    room.lacking[sequence as usize % RING] -= 1;
                }
                while room.done < room.sent && room.lacking[(room.done + 1) as usize % RING] == 0 {
                    room.done += 1;
                    completed = true;
                }
            }
        });
        found.map_err(|text| Failure::Wrong(text.into()))?;
        if completed {
            self.completed.push(index);
        }
        wrong.map_or(Ok(()), |text| Err(Failure::Wrong(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead as _;
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::super::wire::{floor_frame, FLOOR_ACK, FLOOR_JOINED, FLOOR_SET, STATE_VALUE_BYTES};

    fn floor() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || super::super::floor::serve(listener, STATE_KEYS * STATE_VALUE_BYTES));
        address
    }

    #[test]
    fn the_floor_delivers_everything_to_everybody() {
        let mut generator = Generator::new(floor(), Wire::Floor).unwrap();
        generator.add_rooms((0..3).map(|room| format!("room {room}")), 4, true).unwrap();
        let outcome = generator.load(Pace::Outstanding(64), Duration::from_millis(50), true).unwrap();
        assert!(outcome.sets >= 3 * 64, "{}", outcome.sets);
        assert_eq!(outcome.deliveries, outcome.sets * 5);
        assert_eq!(outcome.latencies.len() as u64, outcome.deliveries);
        let paced = generator.load(Pace::Every(Duration::from_millis(1)), Duration::from_millis(30), false).unwrap();
        assert_eq!((paced.sets, paced.deliveries), (30, 150));
    }

    #[test]
    fn every_member_of_a_large_room_is_there_before_the_first_set() {
        let mut generator = Generator::new(floor(), Wire::Floor).unwrap();
        generator.add_room("room".into(), 3 * SETUP_AT_ONCE, false).unwrap();
        assert_eq!(generator.connections.len(), 3 * SETUP_AT_ONCE + 1);
        assert!(generator.connections.iter().all(|(_, connection)| connection.phase == Phase::Ready));
    }

    #[test]
    fn joins_of_the_floor_receive_the_state() {
        let mut generator = Generator::new(floor(), Wire::Floor).unwrap();
        generator.add_room("room".into(), 0, false).unwrap();
        let outcome = generator.join_and_leave(4, Duration::from_millis(50)).unwrap();
        assert!(outcome.sets >= 4);
        assert_eq!(outcome.latencies.len() as u64, outcome.sets);
    }

    /// A server for one connection that answers each set with what `answer` makes of its frame.
    fn server(answer: fn(u64, &[u8], &mut Vec<u8>)) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut input = io::BufReader::new(stream.try_clone().unwrap());
            let mut out = Vec::new();
            floor_frame(&mut out, FLOOR_JOINED, b"");
            let mut sets = 0;
            while stream.write_all(&out).is_ok() && !input.fill_buf().unwrap_or_default().is_empty() {
                out.clear();
                let mut length = [0; 4];
                input.read_exact(&mut length).unwrap();
                let mut frame = vec![0; u32::from_be_bytes(length) as usize];
                input.read_exact(&mut frame).unwrap();
                if frame[0] == FLOOR_SET {
                    sets += 1;
                    floor_frame(&mut out, FLOOR_ACK, b"");
                    answer(sets, &frame[1..], &mut out);
                }
            }
        });
        address
    }

    fn fault(answer: fn(u64, &[u8], &mut Vec<u8>)) -> String {
        let mut generator = Generator::new(server(answer), Wire::Floor).unwrap();
        generator.add_room("room".into(), 0, true).unwrap();
        let failure = generator.load(Pace::Outstanding(8), Duration::from_secs(30), false).unwrap_err();
        assert!(matches!(failure, Failure::Wrong(_)), "{failure}");
        failure.to_string()
    }

    #[test]
    fn a_lost_a_repeated_and_a_changed_delivery_are_noticed() {
        let lost = fault(|set, value, out| match set {
            5 => {}
            _ => floor_frame(out, FLOOR_SET, value),
        });
        assert_eq!(lost, "1 deliveries were lost before set 6");
        let repeated = fault(|set, value, out| {
            for _ in 0..=u32::from(set == 5) {
                floor_frame(out, FLOOR_SET, value);
            }
        });
        assert!(repeated.starts_with("set 5 came after set 5"), "{repeated}");
        let cut = fault(|_, value, out| floor_frame(out, FLOOR_SET, &value[..50]));
        assert!(cut.contains("not of the value"), "{cut}");
    }

    #[test]
    fn an_absent_server_gives_a_sentence() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut generator = Generator::new(address, Wire::Floor).unwrap();
        let failure = generator.add_room("room".into(), 0, false).unwrap_err();
        assert!(matches!(&failure, Failure::Server(text) if text.contains("cannot connect")), "{failure}");
    }
}
