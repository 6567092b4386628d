//! A loop: one thread that serves the rooms that live on it, without a lock.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use slab::Slab;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::{spawn_local, yield_now, LocalSet};

use crate::core::error::{Error, ErrorCode};
use crate::core::limits::Limits;
use crate::core::room::{Event, Time};
use crate::core::rules::Rules;
use crate::core::wire;

use super::acceptor;
use super::budget::Rates;
use super::clock::Clock;
use super::connection::{Connection, Reader, State};
use super::handshake::{Admission, LastListen};
use super::http::Response;
use super::init::Endpoint;
use super::journal::Journal;
use super::keeper::{Found, Keeper, Kept};
use super::metrics::{self, Meters, Refused};
use super::notice::Notice;
use super::options::{
    ServerOptions, CLOSE_WAIT_MS, FULL_RETRY_MS, READ_BUFFER_BYTES, REFUSED_SOCKETS, REFUSED_SOCKETS_PER_ADDRESS,
    ROOMS_PER_TURN, TOKEN_WARNING_MS, WRITES_PER_TURN,
};
use super::origin::Origins;
use super::plan::Spares;
use super::ring::Ring;
use super::room_host::{close_code, RoomHost};
use super::sends::{Sends, Told};
use super::signal::Signal;
use super::stream::{Stream, Unbound};
use super::tls::Tls;
use super::token::Verifier;
use super::webhooks::Webhooks;
use crate::frames::{self, EMPTY_PING};

/// Close code of a server that goes down and comes back.
const CODE_RESTART: u16 = 1012;
/// Close code of a server that failed.
const CODE_FAULT: u16 = 1011;

/// What all loops of a server share.
pub(super) struct Shared {
    pub options: ServerOptions,
    /// Those of the options, shared by the rooms.
    pub limits: Arc<Limits>,
    pub verifier: Option<Verifier>,
    pub tls: Option<Tls>,
    pub origins: Origins,
    pub endpoint: Endpoint,
    /// Where rooms are kept, if they are.
    pub journal: Option<Arc<Journal>>,
    pub clock: Clock,
    /// Those of each loop; none if nothing is counted.
    pub meters: Vec<Arc<Meters>>,
    pub shards: Vec<UnboundedSender<ToShard>>,
    /// Where requests for the API are handed over, if there is one.
    #[cfg(feature = "http")]
    pub api: Option<super::api::Handle>,
    hasher: RandomState,
    pub rooms: AtomicUsize,
    pub peers: AtomicUsize,
    pub connections: AtomicUsize,
    /// Sockets, those included whose handshake is not done.
    pub sockets: AtomicUsize,
    /// The same by address; empty unless that is limited.
    addresses: Mutex<HashMap<IpAddr, usize>>,
    /// How much a peer may ask.
    pub rates: Option<Rates>,
    /// Why the server stopped by itself, if it did.
    pub failure: OnceLock<Error>,
    /// Who is told of sessions, if anybody is.
    pub webhooks: Option<Arc<Webhooks>>,
    /// Threads that have not ended.
    pub running: Mutex<Threads>,
    pub ended: Condvar,
}

/// Something that another thread wants done on a loop.
#[cfg(feature = "http")]
pub(super) type Deed = Box<dyn FnOnce(&Rc<Shard>) + Send>;

/// The threads of a server.
#[derive(Default)]
pub(super) struct Threads {
    loops: usize,
    /// Those that end after the loops.
    helpers: usize,
}

impl Threads {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.loops + self.helpers > 0
    }
}

/// What a loop is told from outside.
pub(super) enum ToShard {
    /// A connection for one of its rooms.
    Adopt {
        socket: Unbound,
        admission: Arc<Admission>,
        rest: Vec<u8>,
        ticket: Ticket,
    },
    /// The rules in force from now on.
    Rules(Option<Arc<Rules>>),
    /// Something to do, for another thread.
    #[cfg(feature = "http")]
    Do(Deed),
    Stop,
}

impl Shared {
    /// Also returns the rooms that were kept, for each loop.
    pub fn new(
        options: ServerOptions,
        shards: Vec<UnboundedSender<ToShard>>,
    ) -> Result<(Shared, Vec<Vec<Kept>>), Error> {
        let clock = Clock::start();
        let limits = Arc::new(options.limits.clone());
        let origins = Origins::new(&options.allowed_origins)?;
        let endpoint = Endpoint::new(options.public_url.as_deref(), options.tls.is_some())?;
        let tls = options.tls.as_ref().map(|files| Tls::new(files, clock.now())).transpose()?;
        let webhooks = Webhooks::new(&options)?.map(Arc::new);
        // Last, as it writes.
        let open = |directory| Journal::open(directory, options.fsync, clock.now(), &limits);
        let (journal, found) = match options.data_dir.as_deref().map(open).transpose()? {
            Some((journal, found)) => (Some(Arc::new(journal)), found),
            None => (None, Found { rooms: Vec::new(), at: 0 }),
        };
        let clock = clock.not_before(found.at);
        let mut kept: Vec<Vec<Kept>> = shards.iter().map(|_| Vec::new()).collect();
        let shared = Shared {
            origins,
            endpoint,
            tls,
            journal,
            verifier: options.secret.as_deref().map(Verifier::new),
            clock,
            meters: metrics::meters(shards.len(), options.metrics),
            hasher: RandomState::new(),
            rooms: AtomicUsize::new(0),
            peers: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            addresses: Mutex::default(),
            rates: Rates::of(&options),
            failure: OnceLock::new(),
            webhooks,
            running: Mutex::new(Threads { loops: shards.len(), helpers: 0 }),
            ended: Condvar::new(),
            #[cfg(feature = "http")]
            api: None,
            shards,
            limits,
            options,
        };
        for room in found.rooms {
            kept[shared.shard_of(room.room.name())].push(room);
        }
        Ok((shared, kept))
    }

    /// Makes a place where requests for the API are handed over.
    #[cfg(feature = "http")]
    pub fn open_api(&mut self) -> UnboundedReceiver<super::api::ToApi> {
        let (send, inbox) = tokio::sync::mpsc::unbounded_channel();
        self.api = Some(send);
        inbox
    }

    /// Asks every thread to end.
    pub fn stop(&self) {
        for shard in &self.shards {
            // Fails when that loop has ended already.
            let _ = shard.send(ToShard::Stop);
        }
        #[cfg(feature = "http")]
        if let Some(api) = &self.api {
            let _ = api.send(super::api::ToApi::Stop);
        }
    }

    /// The loop a room lives on. The hash is keyed, so that nobody can aim at one loop.
    pub fn shard_of(&self, room: &str) -> usize {
        match self.shards.len() {
            1 => 0,
            count => (self.hasher.hash_one(room) % count as u64) as usize,
        }
    }

    /// Counts a socket in; the reason when there are too many to even tell them.
    pub fn ticket(self: &Arc<Self>, address: IpAddr) -> Result<Ticket, ErrorCode> {
        let sockets = self.sockets.fetch_add(1, Ordering::Relaxed);
        let mut ticket = Ticket { shared: self.clone(), is_connection: false, address: None, is_one_too_many: false };
        let most = self.options.max_connections_per_address;
        if most > 0 {
            let network = network_of(address);
            let before = self.count_address(network, |count| std::mem::replace(count, *count + 1));
            (ticket.address, ticket.is_one_too_many) = (Some(network), before >= most);
            if before >= most.saturating_add(REFUSED_SOCKETS_PER_ADDRESS) {
                return Err(ErrorCode::TooManyConnections);
            }
        }
        match sockets < self.options.max_connections.saturating_add(REFUSED_SOCKETS) {
            true => Ok(ticket),
            false => Err(ErrorCode::ServerFull),
        }
    }

    fn count_address<T>(&self, network: IpAddr, change: impl FnOnce(&mut usize) -> T) -> T {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(network).or_default();
        let result = change(count);
        if *count == 0 {
            addresses.remove(&network);
        }
        result
    }
}

/// Whose sockets are counted together: a household or a machine has 2^64 addresses of IPv6.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// A socket's place in the count.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    is_connection: bool,
    /// Where it is counted by its address.
    address: Option<IpAddr>,
    /// Whether there were as many as there may be from that address.
    is_one_too_many: bool,
}

impl Ticket {
    /// Counts the socket as a connection, if one more may be.
    pub fn admit(&mut self) -> Result<(), Error> {
        if self.is_one_too_many {
            let most = self.shared.options.max_connections_per_address;
            let message = format!("there are {most} connections from this address, as many as there may be");
            return Err(Error::new(ErrorCode::TooManyConnections, message).with_retry_after_ms(FULL_RETRY_MS));
        }
        let most = self.shared.options.max_connections;
        let one_more = |count: usize| (count < most).then_some(count + 1);
        match self.shared.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => {
                self.is_connection = true;
                Ok(())
            }
            Err(_) => Err(Error::from(ErrorCode::ServerFull).with_retry_after_ms(FULL_RETRY_MS)),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.sockets.fetch_sub(1, Ordering::Relaxed);
        if self.is_connection {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(network) = self.address {
            self.shared.count_address(network, |count| *count = count.saturating_sub(1));
        }
    }
}

/// What the tasks of one loop share.
pub(super) struct Shard {
    pub shared: Arc<Shared>,
    /// Which of the loops this is.
    pub index: usize,
    rooms: RefCell<HashMap<Arc<str>, Rc<RoomHost>>>,
    next_room: Cell<u64>,
    connections: RefCell<Slab<Rc<Connection>>>,
    /// Lent to the connection that is read from.
    pub buffer: RefCell<Box<[u8]>>,
    pub last_listen: RefCell<LastListen>,
    /// The rules in force.
    pub rules: RefCell<Option<Arc<Rules>>>,
    pub sends: RefCell<Sends>,
    /// Lent to the room that applies a command.
    pub events: Cell<Vec<Event>>,
    pub spares: RefCell<Spares>,
    pub keeper: Option<Keeper>,
    /// What this loop counts, if it does.
    pub meters: Option<Arc<Meters>>,
    /// What others are told once it is kept.
    notices: RefCell<Vec<Notice>>,
    /// Rooms that have something to send, in the order in which they had.
    to_flush: RefCell<VecDeque<Rc<RoomHost>>>,
    flush: Signal,
    /// Rooms that wait for time to pass.
    deadlines: RefCell<BTreeMap<(Time, u64), Rc<RoomHost>>>,
    deadline_changed: Signal,
    /// Raised when there is a first connection to look after, and when the last has gone.
    population: Signal,
    stopping: Cell<bool>,
}

impl Shard {
    /// On the thread that it is for.
    fn new(shared: Arc<Shared>, index: usize) -> Shard {
        let ring = shared.options.io_uring.then(Ring::new).and_then(|ring| match ring {
            Ok(ring) => Some(ring),
            Err(error) => {
                tracing::debug!(%error, "io_uring cannot be used here; every write is a system call of its own");
                None
            }
        });
        Shard {
            rules: RefCell::new(shared.options.rules.clone()),
            keeper: shared.journal.clone().map(|journal| Keeper::new(journal, shared.meters.get(index).cloned())),
            meters: shared.meters.get(index).cloned(),
            shared,
            index,
            rooms: RefCell::default(),
            next_room: Cell::new(0),
            connections: RefCell::default(),
            buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice()),
            last_listen: RefCell::default(),
            sends: RefCell::new(Sends::new(ring)),
            events: Cell::default(),
            spares: RefCell::default(),
            notices: RefCell::default(),
            to_flush: RefCell::default(),
            flush: Signal::default(),
            deadlines: RefCell::default(),
            deadline_changed: Signal::default(),
            population: Signal::default(),
            stopping: Cell::new(false),
        }
    }

    pub fn options(&self) -> &ServerOptions {
        &self.shared.options
    }

    pub fn now(&self) -> Time {
        self.shared.clock.now()
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Whether one more connection would be taken, from an address that has none.
    pub fn has_place(&self) -> Result<(), Error> {
        if self.is_stopping() {
            return Err(Error::from(ErrorCode::ShuttingDown).with_retry_after_ms(FULL_RETRY_MS));
        }
        match self.shared.connections.load(Ordering::Relaxed) < self.options().max_connections {
            true => Ok(()),
            false => Err(Error::from(ErrorCode::ServerFull).with_retry_after_ms(FULL_RETRY_MS)),
        }
    }

    /// Counts that somebody or something was refused.
    pub fn count_refusal(&self, what: Refused, code: ErrorCode) {
        if let Some(meters) = &self.meters {
            meters.refuse(what, code);
        }
    }

    // ------------------------------------------------------------------ rooms

    /// A room that was kept goes on.
    fn adopt(self: &Rc<Self>, kept: Kept) {
        let (rules, now) = (self.rules.borrow().clone(), self.now());
        let host = self.room(&kept.room.name().clone());
        host.turn(|inner| inner.adopt(kept, rules, now));
    }

    /// Keeps what happened in this turn, before anybody is told. Returns whether somebody may be.
    ///
    /// When it cannot be kept, the server stops: what it would go on with is not what it would come back with.
    pub fn keep(&self) -> bool {
        let Some(Err(error)) = self.keeper.as_ref().map(Keeper::commit) else {
            self.send_notices();
            return true;
        };
        if !self.stopping.replace(true) {
            tracing::error!(%error, "the journal cannot be written; the server stops");
            let _ = self.shared.failure.set(error);
            self.shared.stop();
        }
        self.all_connections().iter().for_each(|connection| connection.abort());
        false
    }

    /// Somebody outside is to know of this, once it is kept.
    pub fn note(&self, notice: impl FnOnce() -> Option<Notice>) {
        if self.shared.webhooks.is_some() {
            self.notices.borrow_mut().extend(notice());
        }
    }

    fn send_notices(&self) {
        let notices = self.notices.take();
        // What is not kept, nobody is told.
        if let Some(webhooks) = self.shared.webhooks.as_ref().filter(|_| self.shared.failure.get().is_none()) {
            webhooks.push(notices);
        }
    }

    /// A room that something is known of.
    #[cfg(feature = "http")]
    pub fn existing_room(&self, name: &str) -> Option<Rc<RoomHost>> {
        self.rooms.borrow().get(name).cloned()
    }

    /// All of them, in no order.
    #[cfg(feature = "http")]
    pub fn all_rooms(&self) -> Vec<Rc<RoomHost>> {
        self.rooms.borrow().values().cloned().collect()
    }

    pub fn room(self: &Rc<Self>, name: &str) -> Rc<RoomHost> {
        if let Some(host) = self.rooms.borrow().get(name) {
            return host.clone();
        }
        self.next_room.set(self.next_room.get() + 1);
        let host = Rc::new(RoomHost::new(self.clone(), name, self.next_room.get()));
        self.rooms.borrow_mut().insert(host.name.clone(), host.clone());
        host
    }

    /// Puts other rules in force, in every room.
    fn set_rules(&self, rules: Option<Arc<Rules>>) {
        self.rules.replace(rules.clone());
        let hosts: Vec<Rc<RoomHost>> = self.rooms.borrow().values().cloned().collect();
        let now = self.now();
        for host in hosts {
            host.turn(|inner| inner.set_rules(rules.clone(), now));
        }
    }

    pub fn drop_if_unused(&self, host: &RoomHost) {
        if host.is_unused() {
            self.rooms.borrow_mut().remove(&host.name);
        }
    }

    /// Keeps the server's counters in step with one room.
    pub fn count(&self, was_open: bool, is_open: bool, peers_before: usize, peers: usize) {
        let add = |counter: &AtomicUsize, before: usize, after: usize| {
            counter.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        };
        add(&self.shared.rooms, usize::from(was_open), usize::from(is_open));
        add(&self.shared.peers, peers_before, peers);
    }

    pub fn queue_flush(&self, host: Rc<RoomHost>) {
        self.to_flush.borrow_mut().push_back(host);
        self.flush.raise();
    }

    /// Sees to it that the turn ends soon, although nobody is to be told anything.
    pub fn keep_soon(&self) {
        if self.keeper.as_ref().is_some_and(Keeper::is_waiting) || !self.notices.borrow().is_empty() {
            self.flush.raise();
        }
    }

    /// Sends what rooms have to say, one after the other, with so many writes. Returns whether
    /// something is left.
    fn flush_rooms(self: &Rc<Self>, writes: &mut usize) -> bool {
        self.keep();
        while *writes > 0 {
            let Some(host) = self.to_flush.borrow_mut().pop_front() else { break };
            if host.flush(writes) {
                self.to_flush.borrow_mut().push_back(host);
            } else {
                self.drop_if_unused(&host);
            }
        }
        self.send();
        !self.to_flush.borrow().is_empty()
    }

    /// Makes the writes that wait for the end of the turn.
    pub fn send(&self) {
        let mut sends = self.sends.borrow_mut();
        if !sends.has_waiting() {
            return;
        }
        let faulty = sends.send();
        sends.take_told().for_each(|told| self.retire(told));
        drop(sends);
        faulty.iter().for_each(|connection| self.give_up(&connection.host));
    }

    /// Everybody concerned was given their part of a batch.
    pub fn told(&self, told: Told) {
        let mut sends = self.sends.borrow_mut();
        match sends.has_waiting() {
            true => sends.keep(told),
            false => self.retire(told),
        }
    }

    fn retire(&self, told: Told) {
        if let (Some(begun), Some(meters)) = (told.begun, &self.meters) {
            meters.end_batch(begun);
        }
        self.spares.borrow_mut().put(told.batch, told.plan);
    }

    /// The same for a reader, when many rooms wait; the flusher sends what is left.
    pub fn flush_many(self: &Rc<Self>) {
        if self.to_flush.borrow().len() >= ROOMS_PER_TURN {
            self.flush_rooms(&mut { WRITES_PER_TURN });
        }
    }

    pub fn reschedule(&self, host: &Rc<RoomHost>, old: Option<Time>, new: Option<Time>) {
        let mut deadlines = self.deadlines.borrow_mut();
        let first = deadlines.first_key_value().map(|((at, _), _)| *at);
        if let Some(at) = old {
            deadlines.remove(&(at, host.number));
        }
        if let Some(at) = new {
            deadlines.insert((at, host.number), host.clone());
            if first.is_none_or(|first| at < first) {
                self.deadline_changed.raise();
            }
        }
    }

    /// After a panic in a room: its connections are closed, and it begins anew.
    pub fn give_up(&self, host: &Rc<RoomHost>) {
        tracing::error!(room = %host.name, "a fault in this room; its connections are closed");
        let mut frame = Vec::new();
        frames::write_close(&mut frame, CODE_FAULT, "the server had a fault");
        for connection in self.all_connections() {
            if Rc::ptr_eq(&connection.host, host) && connection.state.get() != State::Closed {
                connection.peer.set(None);
                self.count_refusal(Refused::Close, ErrorCode::Internal);
                connection.outbox.borrow_mut().forget_insertions();
                connection.write_at_once(&frame);
                connection.close_by.set(self.now().saturating_add(CLOSE_WAIT_MS));
                connection.state.set(State::Closing);
                connection.resume.raise();
            }
        }
        host.reset();
    }

    // ------------------------------------------------------------------ connections

    fn all_connections(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().iter().map(|(_, connection)| connection.clone()).collect()
    }

    /// Takes in a connection whose handshake is granted, for a room of this loop. Returns what reads it from now on,
    /// unless it is refused.
    pub fn enter(
        self: &Rc<Self>,
        socket: Stream,
        admission: Arc<Admission>,
        rest: Vec<u8>,
        ticket: Ticket,
    ) -> Option<Reader> {
        if self.is_stopping() {
            return None;
        }
        let host = self.room(&admission.room);
        if admission.join.is_some() {
            // While it is not a WebSocket yet it can be told by a status, which proxies understand too.
            if let Some(Err(error)) = host.turn(|inner| inner.check_place(&admission.peer_id)) {
                self.count_refusal(Refused::Handshake, error.code());
                tracing::debug!(
                    room = %host.name, peer = %admission.peer_id, request = %admission.shown_id(),
                    error = error.code().name(),
                    "a connection is refused"
                );
                let (shard, limit) = (self.clone(), Duration::from_millis(CLOSE_WAIT_MS));
                spawn_local(async move {
                    let answer = Response::too_much(&error).bytes();
                    let _ = tokio::time::timeout(limit, acceptor::refuse(&shard, socket, &answer)).await;
                    drop(ticket);
                });
                self.drop_if_unused(&host);
                return None;
            }
        }
        let connection = Rc::new(Connection::new(host.clone(), socket, admission.clone(), ticket));
        let index = self.connections.borrow_mut().insert(connection.clone());
        connection.index.set(index);
        if self.connections.borrow().len() == 1 {
            self.population.raise();
        }
        if let Some(meters) = &self.meters {
            meters.connections_opened.add(1);
        }
        let now = self.now();
        host.turn(|inner| inner.admit(&connection, &admission, now));
        Some(Reader::new(connection, rest))
    }

    /// A connection has ended, whichever way.
    pub fn finish(&self, connection: &Rc<Connection>) {
        let now = self.now();
        let host = &connection.host;
        host.turn(|inner| {
            inner.detach(connection, now);
            inner.connections = inner.connections.saturating_sub(1);
        });
        connection.end();
        let mut connections = self.connections.borrow_mut();
        connections.try_remove(connection.index.get());
        if connections.is_empty() {
            self.population.raise();
            self.count_queues(0, 0);
        }
        drop(connections);
        self.drop_if_unused(host);
    }

    /// Pings who is silent, closes who stays so, and cuts off who does not answer its close frame.
    fn sweep(&self) {
        let (now, wall) = (self.now(), Clock::wall());
        let (ping, idle) = (self.options().ping_interval_ms, self.options().idle_timeout_ms);
        let (mut slow, mut queued) = (0, 0);
        for connection in self.all_connections() {
            if let Some(parked) = &connection.outbox.borrow().parked {
                slow += 1;
                queued += parked.bytes();
            }
            match connection.state.get() {
                State::Open => {}
                State::Closing | State::Ending if now >= connection.close_by.get() => {
                    connection.abort();
                    continue;
                }
                State::Closing | State::Ending | State::Closed => continue,
            }
            let left = connection.expires_at.get().saturating_sub(wall);
            if left == 0 {
                let code = close_code(ErrorCode::TokenExpired);
                connection.host.turn(|inner| inner.close(&connection, now, code, "the token has expired"));
                continue;
            }
            if left <= TOKEN_WARNING_MS && !connection.warned.replace(true) {
                let expires_at = connection.expires_at.get();
                let warn = |out: &mut Vec<u8>| wire::write_token_expiring(out, expires_at);
                connection.host.turn(|inner| inner.answer(&connection, warn));
            }
            let progress_at = connection.outbox.borrow().parked.as_ref().map(|parked| parked.progress_at);
            let silent = now.saturating_sub(connection.heard_at.get());
            if let Some(progress_at) = progress_at {
                if now.saturating_sub(progress_at) >= idle {
                    connection.host.turn(|inner| inner.close_slow(&connection, now));
                }
            } else if silent >= idle {
                let code = close_code(ErrorCode::IdleTimeout);
                connection.host.turn(|inner| inner.close(&connection, now, code, "nothing was heard for too long"));
            } else if silent >= ping && now.saturating_sub(connection.pinged_at.get()) >= ping {
                connection.pinged_at.set(now);
                let ping = |out: &mut Vec<u8>| out.extend_from_slice(&EMPTY_PING);
                connection.host.turn(|inner| inner.answer_raw(&connection, ping));
            }
        }
        self.count_queues(slow, queued);
    }

    fn count_queues(&self, connections: u64, bytes: usize) {
        if let Some(meters) = &self.meters {
            meters.slow_connections.set(connections);
            meters.queue_bytes.set(bytes as u64);
        }
    }
}

/// The flusher: sends what rooms have to say, one room after the other, behind the readers that
/// were ready before it.
async fn flusher(shard: Rc<Shard>) {
    let mut writes = WRITES_PER_TURN;
    loop {
        shard.flush.wait().await;
        while shard.flush_rooms(&mut writes) {
            yield_now().await;
            writes = WRITES_PER_TURN;
        }
    }
}

/// Tells rooms when a time they wait for has come.
async fn timekeeper(shard: Rc<Shard>) {
    loop {
        let now = shard.now();
        let first = shard.deadlines.borrow().first_key_value().map(|((at, _), host)| (*at, host.clone()));
        match first {
            Some((at, host)) if at <= now => {
                host.turn(|inner| inner.pass_time(now));
                shard.drop_if_unused(&host);
            }
            Some((at, _)) => {
                tokio::select! {
                    () = tokio::time::sleep(shard.shared.clock.until(at)) => {}
                    () = shard.deadline_changed.wait() => {}
                }
            }
            None => shard.deadline_changed.wait().await,
        }
    }
}

/// One timer for all connections of the loop; none while there are no connections.
async fn sweeper(shard: Rc<Shard>) {
    // Fine enough to be at most a quarter late, and not finer than connections are worth.
    let options = shard.options();
    let shortest = options.ping_interval_ms.min(options.idle_timeout_ms - options.ping_interval_ms);
    let interval = Duration::from_millis((shortest / 4).clamp(5, 1_000));
    loop {
        if shard.connections.borrow().is_empty() {
            shard.population.wait().await;
        }
        tokio::time::sleep(interval).await;
        shard.sweep();
    }
}

/// Counts a thread out, even if it panics.
pub(super) struct Running {
    shared: Arc<Shared>,
    is_helper: bool,
}

impl Running {
    /// One more thread that ends after the loops.
    pub fn helper(shared: Arc<Shared>) -> Running {
        if let Ok(mut running) = shared.running.lock() {
            running.helpers += 1;
        }
        Running { shared, is_helper: true }
    }

    /// The life of the thread of the API.
    #[cfg(feature = "http")]
    pub fn api(self, runtime: tokio::runtime::Runtime, inbox: UnboundedReceiver<super::api::ToApi>) {
        super::api::run(runtime, self.shared.clone(), inbox);
    }

    /// The life of the thread that sends webhooks.
    pub fn webhooks(self, runtime: tokio::runtime::Runtime) {
        if let Some(webhooks) = &self.shared.webhooks {
            webhooks.run(runtime);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(mut running) = self.shared.running.lock() {
            if self.is_helper {
                running.helpers -= 1;
            } else {
                running.loops -= 1;
                if running.loops == 0 {
                    self.shared.journal.as_ref().inspect(|journal| journal.close());
                    self.shared.webhooks.as_ref().inspect(|webhooks| webhooks.finish());
                }
            }
        }
        self.shared.ended.notify_all();
    }
}

/// The life of a loop's thread.
pub(super) fn run(
    runtime: tokio::runtime::Runtime,
    shared: Arc<Shared>,
    mut inbox: UnboundedReceiver<ToShard>,
    index: usize,
    listener: Option<std::net::TcpListener>,
    kept: Vec<Kept>,
) {
    let _running = Running { shared: shared.clone(), is_helper: false };
    let local = LocalSet::new();
    let shard = Rc::new(Shard::new(shared, index));
    local.block_on(&runtime, async {
        spawn_local(flusher(shard.clone()));
        spawn_local(timekeeper(shard.clone()));
        spawn_local(sweeper(shard.clone()));
        kept.into_iter().for_each(|room| shard.adopt(room));
        let acceptor = listener.map(|listener| spawn_local(acceptor::accept(shard.clone(), listener)));
        while let Some(message) = inbox.recv().await {
            match message {
                ToShard::Adopt { socket, admission, rest, ticket } => {
                    let reader = socket.bind().ok().and_then(|socket| shard.enter(socket, admission, rest, ticket));
                    if let Some(reader) = reader {
                        spawn_local(reader);
                    }
                }
                ToShard::Rules(rules) => shard.set_rules(rules),
                #[cfg(feature = "http")]
                ToShard::Do(act) => act(&shard),
                ToShard::Stop => break,
            }
        }
        // Clients that are told to come back find the port closed until the next server opens it.
        if let Some(acceptor) = acceptor {
            acceptor.abort();
            let _ = acceptor.await;
        }
        shut_down(&shard).await;
        if shard.shared.journal.is_none() {
            // Sessions that are kept go on; others end here.
            let hosts: Vec<Rc<RoomHost>> = shard.rooms.borrow().values().cloned().collect();
            hosts.iter().for_each(|host| host.note_end());
        }
        shard.keep();
    });
    // Tasks, rooms and connections hold each other.
    drop(local);
    for host in std::mem::take(&mut *shard.rooms.borrow_mut()).into_values() {
        host.clear();
    }
    shard.connections.borrow_mut().clear();
    shard.to_flush.borrow_mut().clear();
    shard.deadlines.borrow_mut().clear();
}

/// Closes every connection after what waits for it, within the time given to it.
async fn shut_down(shard: &Rc<Shard>) {
    shard.stopping.set(true);
    let now = shard.now();
    let connections = shard.all_connections();
    for (nth, connection) in connections.iter().enumerate() {
        let first = shard.options().come_back_ms;
        let spread = u128::from(first) * nth as u128 / connections.len() as u128;
        let come_back_ms = first.saturating_add(spread as u64);
        connection.host.turn(|inner| {
            if connection.state.get() == State::Open {
                inner.answer(connection, |out| wire::write_server_stop(out, come_back_ms));
            }
            inner.close(connection, now, CODE_RESTART, "the server restarts");
        });
    }
    let limit = Duration::from_millis(shard.options().shutdown_ms);
    let all_gone = async {
        while !shard.connections.borrow().is_empty() {
            shard.population.wait().await;
        }
    };
    if tokio::time::timeout(limit, all_gone).await.is_err() {
        tracing::debug!("connections did not close within the time given to them");
    }
}
