//! The network and the clock, what users do, and what must hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::ops::{AddAssign, RangeInclusive};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sessionstore::core::limits::Limits;
use sessionstore::core::replica::Notice;
use sessionstore::core::room::{Cause, Change, Time};
use sessionstore::ErrorCode;

use super::client::{Asked, Client, Op, Outcome};
use super::server::{Connection, Hello, Server};
use super::Fault;

const KEYS: [&str; 5] = ["a", "b", "hand/1", "hand/2", "c"];
const LOCK: &str = "$lock/turn";
const ROOMS: RangeInclusive<usize> = 1..=3;
/// Who acts in a room; each with a listener that is there from the beginning, and one that comes and goes.
const CLIENTS: RangeInclusive<usize> = 1..=3;
/// In a room that is small, keys are refused.
const FEW_KEYS: usize = 3;
/// So long users act and the network fails, in milliseconds; then all is well until all is said.
const BUSY_MS: Time = 20_000;
/// Far more than any request or reconnect takes.
const CALM_MS: Time = 120_000;

/// What happens at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A user does something.
    Act(usize),
    /// A client tries to connect.
    Connect(usize),
    /// A connection reaches the server, with the join of this client.
    Arrive(Connection),
    /// The next message on its way to the server, or to the client, arrives.
    ToServer(Connection),
    ToClient(Connection),
    /// One side notices that the connection is gone.
    ServerNotices(Connection),
    ClientNotices(Connection),
    /// A connection breaks.
    Cut,
    /// A client gives a connection up that is not broken yet: what it has sent arrives still, before or after
    /// what it says on the next.
    GiveUp,
    Break(Connection),
    /// The server is killed and started anew: without what it knew, or with what was kept.
    Restart,
}

struct Link {
    client: usize,
    hello: Option<Hello>,
    to_server: std::collections::VecDeque<String>,
    to_client: std::collections::VecDeque<String>,
    /// The last arrival in each direction: what is sent later arrives later.
    last: [Time; 2],
    is_cut: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub applied: u64,
    pub cuts: u64,
    pub restarts: u64,
    /// Restarts of a server that keeps its room, and those among them that lost what was kept last.
    pub kept: u64,
    pub power_cuts: u64,
    pub too_fast: u64,
    pub sent_again: u64,
    pub unknown: u64,
    pub told: u64,
    pub net_changes: u64,
    pub given_up: u64,
    pub left: u64,
    /// Sessions that began.
    pub sessions: u64,
    pub expired: u64,
    pub gone_with_a_peer: u64,
    /// Writes that were done because a lock was held, or a key had a version.
    pub guarded: u64,
    pub conditional: u64,
    /// Keys that were refused because the room had enough.
    pub too_many: u64,
    pub taken_back: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Summary) {
        self.applied += other.applied;
        self.cuts += other.cuts;
        self.restarts += other.restarts;
        self.kept += other.kept;
        self.power_cuts += other.power_cuts;
        self.too_fast += other.too_fast;
        self.sent_again += other.sent_again;
        self.unknown += other.unknown;
        self.told += other.told;
        self.net_changes += other.net_changes;
        self.given_up += other.given_up;
        self.left += other.left;
        self.sessions += other.sessions;
        self.expired += other.expired;
        self.gone_with_a_peer += other.gone_with_a_peer;
        self.guarded += other.guarded;
        self.conditional += other.conditional;
        self.too_many += other.too_many;
        self.taken_back += other.taken_back;
    }
}

pub struct World {
    random: StdRng,
    now: Time,
    happenings: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    next: u64,
    limits: Limits,
    /// The longest time without a connection that breaks, while they do.
    calm_ms: Time,
    /// Whether the server keeps its room.
    is_durable: bool,
    /// The server is killed in its next turn, before that is kept.
    is_doomed: bool,
    fault: Option<Fault>,
    /// One of each room; all are killed together.
    servers: Vec<Server>,
    /// Those of room r are r, r + rooms, r + 2 * rooms, and so on.
    clients: Vec<Client>,
    lives: u64,
    links: BTreeMap<Connection, Link>,
    next_connection: Connection,
    next_number: i64,
    asked: u64,
    /// All that ever was, in its order, and by session, revision and key.
    history: Vec<(Arc<str>, Arc<Change>)>,
    states: HashMap<(Arc<str>, u64, Arc<str>), Arc<Change>>,
    ended: Vec<(usize, Asked, Outcome)>,
    /// Where the requests that have ended are in `ended`, by their numbers.
    places: HashMap<i64, usize>,
    /// The newest version of each key of each room that anybody was told of, by the answer to a request, with its
    /// session.
    answered: Vec<BTreeMap<String, (Arc<str>, u64)>>,
    /// What the listeners of each client were told last of each key.
    heard: Vec<BTreeMap<(u64, String), Arc<Change>>>,
    /// Listeners that were told that their snapshot is complete.
    whole: BTreeSet<(usize, u64)>,
    tokens: BTreeSet<(Arc<str>, u64)>,
    /// The last revision of each session.
    revisions: HashMap<Arc<str>, u64>,
    /// What was written for a time, and until its writer goes.
    passing: HashSet<i64>,
    bound: HashSet<i64>,
    summary: Summary,
}

macro_rules! hold {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}

impl World {
    /// Runs a story to its end; what did not hold, if something did not.
    pub fn run(seed: u64, fault: Option<Fault>) -> Result<Summary, String> {
        let mut random = StdRng::seed_from_u64(seed);
        // Sometimes peers are lost, and sometimes the whole session.
        let grace_ms = [50, 3_000, 30_000][random.random_range(0..3)];
        let calm_ms = [300, 3_000, 3_000, 3_000][random.random_range(0..4)];
        let max_keys = if random.random_range(0..3) == 0 { FEW_KEYS } else { 100 };
        let limits = Limits { grace_ms, max_keys, ..Limits::default() };
        let is_durable = random.random_bool(0.5);
        let rooms = random.random_range(ROOMS);
        let clients = rooms * random.random_range(CLIENTS);
        let server = |room| Server::new(&format!("room {room}"), limits.clone(), 0, is_durable, fault);
        let mut world = World {
            random,
            now: 0,
            happenings: BinaryHeap::new(),
            next: 0,
            servers: (0..rooms).map(server).collect(),
            limits,
            is_durable,
            is_doomed: false,
            // Some networks are hardly there at all.
            calm_ms,
            fault,
            clients: (0..clients).map(|number| Client::new(number, 0, fault)).collect(),
            lives: 0,
            links: BTreeMap::new(),
            next_connection: 0,
            next_number: 1,
            asked: 0,
            history: Vec::new(),
            states: HashMap::new(),
            ended: Vec::new(),
            places: HashMap::new(),
            answered: vec![BTreeMap::new(); rooms],
            heard: vec![BTreeMap::new(); clients],
            whole: BTreeSet::new(),
            tokens: BTreeSet::new(),
            revisions: HashMap::new(),
            passing: HashSet::new(),
            bound: HashSet::new(),
            summary: Summary::default(),
        };
        world.story()?;
        Ok(world.summary)
    }

    fn at(&mut self, time: Time, happening: Happening) {
        self.next += 1;
        self.happenings.push(Reverse((time, self.next, happening)));
    }

    fn soon(&mut self, within: Time, happening: Happening) {
        let time = self.now + self.random.random_range(1..=within);
        self.at(time, happening);
    }

    /// The room of a client.
    fn room_of(&self, number: usize) -> usize {
        number % self.servers.len()
    }

    fn server_of(&mut self, connection: Connection) -> &mut Server {
        let room = self.links.get(&connection).map_or(0, |link| self.room_of(link.client));
        &mut self.servers[room]
    }

    /// A client begins to listen, and to connect.
    fn begin(&mut self, number: usize) {
        let mut notices = Vec::new();
        let sets: [(&[&str], &[&str]); 3] = [(&KEYS[..2], &[]), (&[], &["hand/"]), (&[], &[""])];
        let (keys, prefixes) = sets[number % 3];
        self.clients[number].replica.add(1, keys, prefixes, &mut notices);
        self.soon(50, Happening::Connect(number));
    }

    fn story(&mut self) -> Result<(), String> {
        for number in 0..self.clients.len() {
            self.begin(number);
            self.soon(200, Happening::Act(number));
        }
        self.soon(self.calm_ms, Happening::Cut);
        self.soon(2 * self.calm_ms, Happening::GiveUp);
        let restarts = if self.is_durable { 4 } else { u32::from(self.random.random_range(0..4) == 0) };
        for _ in 0..restarts {
            let time = self.random.random_range(2_000..BUSY_MS);
            self.at(time, Happening::Restart);
        }
        while self.now < BUSY_MS + CALM_MS {
            let room = self.servers.iter().filter_map(|server| server.room.next_deadline()).min();
            let clients = self.clients.iter().filter_map(Client::next_deadline).min();
            let next = self.happenings.peek().map(|Reverse((time, ..))| *time);
            let Some(time) = [room, clients, next].into_iter().flatten().min() else { break };
            self.now = self.now.max(time);
            let now = self.now;
            let is_due = |server: &&mut Server| server.room.next_deadline().is_some_and(|due| due <= now);
            self.servers.iter_mut().filter(is_due).for_each(|server| server.pass_time(now));
            for client in &mut self.clients {
                client.pass_time(self.now);
            }
            if next.is_some_and(|next| next <= self.now) {
                if let Some(Reverse((_, _, happening))) = self.happenings.pop() {
                    self.happens(happening)?;
                }
            }
            self.settle()?;
        }
        self.check_end()
    }

    fn is_calm(&self) -> bool {
        self.now > BUSY_MS
    }

    fn happens(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Act(client) if !self.is_calm() => {
                self.act(client);
                if self.random.random_range(0..10) == 0 {
                    self.summary.taken_back += self.clients[client].take_back();
                }
                self.soon(300, Happening::Act(client));
            }
            Happening::Connect(number) if self.clients[number].connection.is_none() => {
                let connection = self.next_connection;
                self.next_connection += 1;
                let hello = self.clients[number].connect(connection);
                self.summary.net_changes += u64::from(hello.since.is_some());
                let (to_server, to_client) = Default::default();
                let link =
                    Link { client: number, hello: Some(hello), to_server, to_client, last: [0; 2], is_cut: false };
                self.links.insert(connection, link);
                self.deliver(connection, 0, Happening::Arrive(connection));
            }
            Happening::Arrive(connection) => {
                let now = self.now;
                if let Some(hello) =
                    self.links.get_mut(&connection).filter(|link| !link.is_cut).and_then(|link| link.hello.take())
                {
                    self.server_of(connection).connect(now, connection, &hello);
                }
            }
            Happening::ToServer(connection) => {
                let link = self.links.get_mut(&connection).filter(|link| !link.is_cut);
                if let Some(message) = link.and_then(|link| link.to_server.pop_front()) {
                    let (now, is_too_fast) = (self.now, self.random.random_range(0..20) == 0);
                    self.server_of(connection).receive(now, connection, &message, is_too_fast);
                }
            }
            Happening::ToClient(connection) => {
                let link = self.links.get_mut(&connection).filter(|link| !link.is_cut);
                let Some((number, message)) = link.and_then(|link| Some((link.client, link.to_client.pop_front()?)))
                else {
                    return Ok(());
                };
                if self.clients[number].connection == Some(connection) && !self.clients[number].receive(&message) {
                    // The join was refused: it tries again later.
                    self.clients[number].lost();
                    self.soon(1_000, Happening::Connect(number));
                }
            }
            Happening::ServerNotices(connection) => {
                let now = self.now;
                self.server_of(connection).lost(now, connection);
            }
            Happening::ClientNotices(connection) => self.client_notices(connection),
            Happening::Cut if !self.is_calm() => {
                if let Some(connection) = self.any_open() {
                    self.cut(connection);
                }
                self.soon(self.calm_ms, Happening::Cut);
            }
            Happening::GiveUp if !self.is_calm() => {
                if let Some(connection) = self.any_open() {
                    self.summary.given_up += 1;
                    self.client_notices(connection);
                    self.soon(2_000, Happening::Break(connection));
                }
                self.soon(2 * self.calm_ms, Happening::GiveUp);
            }
            Happening::Break(connection) => self.cut(connection),
            Happening::Restart if self.is_durable && self.random.random_bool(0.5) => self.is_doomed = true,
            Happening::Restart => self.restart()?,
            Happening::Act(_) | Happening::Connect(_) | Happening::Cut | Happening::GiveUp => {}
        }
        Ok(())
    }

    fn any_open(&mut self) -> Option<Connection> {
        let open: Vec<Connection> = self.links.iter().filter(|(_, link)| !link.is_cut).map(|(id, _)| *id).collect();
        (!open.is_empty()).then(|| open[self.random.random_range(0..open.len())])
    }

    fn client_notices(&mut self, connection: Connection) {
        let number = self.links[&connection].client;
        if self.clients[number].connection == Some(connection) {
            self.summary.sent_again += self.clients[number].pending() as u64;
            self.clients[number].lost();
            self.soon(1_000, Happening::Connect(number));
        }
    }

    /// The server is killed, and with it every connection; another begins.
    fn restart(&mut self) -> Result<(), String> {
        self.is_doomed = false;
        self.summary.restarts += 1;
        self.summary.kept += u64::from(self.is_durable);
        let open: Vec<Connection> = self.links.iter().filter(|(_, link)| !link.is_cut).map(|(id, _)| *id).collect();
        open.into_iter().for_each(|connection| self.cut(connection));
        let power_fails = self.is_durable && self.random.random_range(0..8) == 0;
        self.summary.power_cuts += u64::from(power_fails);
        for server in std::mem::take(&mut self.servers) {
            let lost = if power_fails { self.random.random_range(1..30) } else { 0 };
            let mut next = server.after_a_kill(self.now, self.limits.clone(), lost);
            if let Some(session) = next.room.session_id().filter(|_| next.is_waiting) {
                self.revisions.insert(session.clone(), next.room.revision());
            }
            // What should have happened while it was away, or did in a turn that nobody has heard of.
            next.pass_time(self.now);
            self.servers.push(next);
        }
        self.collect_history()
    }

    /// A connection breaks: what is under way on it is lost, and each side notices in its own time.
    fn cut(&mut self, connection: Connection) {
        self.summary.cuts += 1;
        if let Some(link) = self.links.get_mut(&connection) {
            link.is_cut = true;
        }
        // Often the server learns of it only from the next connection.
        self.soon(4_000, Happening::ServerNotices(connection));
        self.soon(500, Happening::ClientNotices(connection));
    }

    /// Something arrives after a while, and after what was sent before it.
    fn deliver(&mut self, connection: Connection, direction: usize, happening: Happening) {
        let delay = self.random.random_range(1..=40);
        let Some(link) = self.links.get_mut(&connection) else { return };
        let time = (self.now + delay).max(link.last[direction]);
        link.last[direction] = time;
        self.at(time, happening);
    }

    fn act(&mut self, number: usize) {
        let key = KEYS[self.random.random_range(0..KEYS.len())];
        let other = KEYS[self.random.random_range(0..KEYS.len())];
        let holds = self.clients[number].lock.is_some();
        if self.clients[number].is_leaving() {
            return;
        }
        let op = match self.random.random_range(0..22) {
            0..=3 => Op::Set(key),
            4 => Op::SetIf(key),
            5 | 6 => Op::Remove(key),
            7..=9 => Op::Add,
            10 if key != other => Op::Both(key, other),
            11 if holds => Op::Release,
            11 => Op::Acquire,
            12 => {
                // A listener comes, or goes.
                let (replica, mut notices) = (&mut self.clients[number].replica, Vec::new());
                if !replica.remove(2) {
                    let (keys, prefixes): (&[&str], &[&str]) =
                        [(&KEYS[2..], &[][..]), (&["$lock/turn"], &["hand/1"])][self.random.random_range(0..2)];
                    replica.add(2, keys, prefixes, &mut notices);
                    self.clients[number].notices.append(&mut notices);
                }
                self.heard[number].retain(|(listener, _), _| *listener != 2);
                self.whole.remove(&(number, 2));
                return self.clients[number].speak();
            }
            13 => return self.clients[number].leave(),
            14 => Op::SetFor(key, self.random.random_range(50..5_000)),
            15 | 16 => Op::SetBound(key),
            17 | 18 => Op::SetLocked(key),
            19 => Op::SetIf(key),
            _ => Op::Get(key),
        };
        match &op {
            Op::SetFor(..) => drop(self.passing.insert(self.next_number)),
            Op::SetBound(_) => drop(self.bound.insert(self.next_number)),
            _ => {}
        }
        let before = self.answered[self.room_of(number)].clone();
        let asked = Asked { number: self.next_number, op, expected: None, guard: None, before };
        self.next_number += 1;
        self.asked += 1;
        // A burst now and then, more than is told as answered at once.
        let deadline = self.now + self.random.random_range(200..8_000);
        self.clients[number].ask(asked, deadline);
        let client = number;
        if self.random.random_range(0..100) == 0 {
            for _ in 0..60 {
                let (number, before) = (self.next_number, BTreeMap::new());
                let asked = Asked { number, op: Op::Add, expected: None, guard: None, before };
                self.next_number += 1;
                self.asked += 1;
                self.clients[client].ask(asked, deadline);
            }
        }
    }

    fn collect_history(&mut self) -> Result<(), String> {
        for mut server in std::mem::take(&mut self.servers) {
            let kept = self.keep_history(&mut server);
            self.servers.push(server);
            kept?;
        }
        Ok(())
    }

    /// Takes note of what was: each change has the next revision of its session, or that of the change with it.
    fn keep_history(&mut self, server: &mut Server) -> Result<(), String> {
        for (session, state) in server.carried_over.drain(..) {
            self.states.insert((session, state.version, state.key.clone()), state);
        }
        for (session, change) in server.history.drain(..) {
            let last = self.revisions.entry(session.clone()).or_default();
            let is_next = change.version == *last || change.version == *last + 1;
            hold!(is_next, "{session}: {change:?} after revision {last}");
            *last = change.version;
            hold!(change.updated_at <= self.now, "{session}: {change:?} at {}", self.now);
            match change.cause {
                Cause::Expired => self.summary.expired += 1,
                Cause::PeerLeft => self.summary.gone_with_a_peer += 1,
                _ => hold!(change.author.is_some(), "{session}: {change:?} by nobody"),
            }
            let place = (session.clone(), change.version, change.key.clone());
            let before = self.states.insert(place, change.clone());
            hold!(before.is_none(), "{session}: {change:?} in the revision of {before:?}");
            self.history.push((session, change));
        }
        Ok(())
    }

    /// What must hold of each room at any time.
    fn check_rooms(&mut self) -> Result<(), String> {
        for server in &mut self.servers {
            let room = &server.room;
            let name = room.name();
            server.is_waiting &= room.is_open() && room.peer_count() == 0;
            let is_right = room.is_open() == (room.peer_count() > 0 || server.is_waiting);
            hold!(is_right, "{name}: open: {}, with {} peers", room.is_open(), room.peer_count());
            let (mut keys, mut bytes) = (0, 0);
            for state in room.entries() {
                hold!(!state.value.is_null() && state.version <= room.revision(), "{name} holds {state:?}");
                let is_due = state.expires_at != 0 && state.expires_at <= self.now;
                hold!(!is_due, "{name} holds {state:?} at {}", self.now);
                let is_here = |author: &str| room.peer_by_id(author).is_some();
                let author = state.author.as_ref().map_or("", |author| &author.peer_id);
                if *state.key == *LOCK {
                    let (holder, token) = holder(state);
                    hold!(is_here(&holder) && token == state.version, "{name}: the lock is {state:?}");
                    continue;
                }
                keys += 1;
                bytes += state.key.len() + state.value.json().len();
                let number = state.value.as_integer().unwrap_or(0);
                if *state.key != *"sum" {
                    let passes = state.expires_at != 0;
                    hold!(self.passing.contains(&number) == passes, "{name} holds {state:?}, written otherwise");
                    let stays = !self.bound.contains(&number) || is_here(author);
                    hold!(stays, "{name} holds {state:?} of a peer that is gone");
                }
            }
            hold!(room.usage() == (keys, bytes), "{name}: {:?} is not {keys} keys, {bytes} bytes", room.usage());
            let fits = keys <= self.limits.max_keys && bytes <= self.limits.max_store_bytes;
            hold!(fits, "{name} has {keys} keys, {bytes} bytes");
        }
        Ok(())
    }

    /// Puts what was said on its way, and looks at what was told.
    fn settle(&mut self) -> Result<(), String> {
        if self.is_doomed && self.servers.iter().any(Server::is_in_turn) {
            // Nobody has heard of this turn, and nobody will.
            self.restart()?;
        }
        let checkpoint = self.is_durable && self.random.random_range(0..100) == 0;
        self.servers.iter_mut().for_each(|server| server.keep(checkpoint));
        self.collect_history()?;
        self.check_rooms()?;
        let said: Vec<_> = self.servers.iter_mut().flat_map(|server| std::mem::take(&mut server.out)).collect();
        for (connection, message) in said {
            if self.fault == Some(Fault::LosesMessages) && self.random.random_range(0..50) == 0 {
                continue;
            }
            if let Some(link) = self.links.get_mut(&connection) {
                link.to_client.push_back(message);
                self.deliver(connection, 1, Happening::ToClient(connection));
            }
        }
        let closed: Vec<_> = self.servers.iter_mut().flat_map(|server| std::mem::take(&mut server.closed)).collect();
        for connection in closed {
            // Its client has another by now, or hears of it.
            self.soon(100, Happening::ClientNotices(connection));
        }
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            let (out, notices, ended) = (
                std::mem::take(&mut client.out),
                std::mem::take(&mut client.notices),
                std::mem::take(&mut client.ended),
            );
            if let Some(connection) = client.connection {
                for message in out {
                    if let Some(link) = self.links.get_mut(&connection) {
                        link.to_server.push_back(message);
                        self.deliver(connection, 0, Happening::ToServer(connection));
                    }
                }
            }
            for notice in notices {
                self.heard(number, notice)?;
            }
            for (asked, outcome) in ended {
                self.ended(number, asked, outcome)?;
            }
            if self.clients[number].has_left {
                self.left(number)?;
            }
        }
        Ok(())
    }

    /// A client is told that it has left; after a while another comes in its place.
    fn left(&mut self, number: usize) -> Result<(), String> {
        let room = &self.servers[self.room_of(number)].room;
        let is_there = room.peer_by_id(&self.clients[number].peer_id).is_some();
        hold!(!is_there, "client {number} has left and is in the room");
        self.summary.left += 1;
        self.lives += 1;
        if let Some(link) = self.clients[number].connection.and_then(|connection| self.links.get_mut(&connection)) {
            link.is_cut = true;
        }
        self.clients[number] = Client::new(number, self.lives, self.fault);
        self.heard[number].clear();
        self.whole.retain(|(client, _)| *client != number);
        self.begin(number);
        Ok(())
    }

    /// Whether a key had this state in a session.
    fn was(&self, session: &Arc<str>, state: &Change) -> bool {
        let was = self.states.get(&(session.clone(), state.version, state.key.clone()));
        was.is_some_and(|was| {
            let author = |of: &Change| of.author.as_ref().map(|author| author.peer_id.clone());
            (&was.value, was.updated_at, author(was)) == (&state.value, state.updated_at, author(state))
        })
    }

    /// What a listener is told was so, and is newer than what it was told before.
    fn heard(&mut self, number: usize, notice: Notice) -> Result<(), String> {
        let (listener, event) = match notice {
            Notice::Changed { listener, event } => (listener, event),
            Notice::SnapshotEnd { listener } => {
                let is_first = self.whole.insert((number, listener));
                hold!(is_first, "client {number} was told twice that its snapshot is complete");
                return Ok(());
            }
        };
        let is_whole = self.whole.contains(&(number, listener));
        hold!(event.snapshot != is_whole, "client {number} was told {event:?}; its snapshot is complete: {is_whole}");
        self.summary.told += 1;
        let session = self.clients[number].session.clone();
        let change = event.change;
        if change.version > 0 {
            // Who begins to listen is told what the client knows, which may be of the session before until the
            // snapshot of this one is here.
            let was_once = |session: String| self.was(&session.into(), &change);
            let mut sessions = self.servers[self.room_of(number)].sessions();
            let was = self.was(&session, &change) || (event.snapshot && sessions.any(was_once));
            hold!(was, "client {number} was told what never was: {change:?} in {session}");
        }
        let place = (listener, change.key.to_string());
        if let Some(before) = self.heard[number].get(&place).filter(|_| !event.snapshot) {
            let same_session = self.was(&session, before);
            let goes_back =
                same_session && change.version > 0 && change.version <= before.version && before.version > 0;
            hold!(!goes_back, "client {number} was told {change:?} after {before:?}");
            // In another session it may have come and gone anew, at the same version.
            let same_version = change.version == before.version && (same_session || change.version == 0);
            let again = before.value.is_null() && change.value.is_null() && same_version;
            hold!(!again, "client {number} was told twice that {} is gone", change.key);
        }
        self.heard[number].insert(place, change);
        Ok(())
    }

    fn ended(&mut self, number: usize, asked: Asked, outcome: Outcome) -> Result<(), String> {
        let session = self.clients[number].session.clone();
        let states = match &outcome {
            Outcome::State(state) => std::slice::from_ref(state),
            Outcome::States(states) => &states[..],
            Outcome::Refused(ErrorCode::OutcomeUnknown) => {
                self.summary.unknown += 1;
                &[]
            }
            Outcome::Refused(ErrorCode::RateLimited) => {
                self.summary.too_fast += 1;
                &[]
            }
            Outcome::Refused(ErrorCode::TooManyKeys) => {
                self.summary.too_many += 1;
                &[]
            }
            _ => &[],
        };
        for state in states {
            if let (Op::Get(key), Some((of, version))) = (&asked.op, asked.before.get(&*state.key)) {
                // A key that is gone has no version any more; that it is, is newer.
                let is_older = *of == session && state.version < *version && !state.value.is_null();
                hold!(!is_older, "a read of {key} gave {state:?}, older than {version} that was known before it");
            }
            let room = self.room_of(number);
            let known = self.answered[room].entry(state.key.to_string()).or_insert((session.clone(), 0));
            if known.0 != session {
                *known = (session.clone(), 0);
            }
            known.1 = known.1.max(state.version);
        }
        if let Outcome::Lock(token) = outcome {
            hold!(self.tokens.insert((session, token)), "the grant {token} was told to two requests");
        }
        hold!(!matches!(outcome, Outcome::Forgotten), "the answer to {asked:?} of client {number} was forgotten");
        let before = self.places.insert(asked.number, self.ended.len());
        hold!(before.is_none(), "the request {asked:?} ended twice");
        self.ended.push((number, asked, outcome));
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), String> {
        hold!(self.ended.len() as u64 == self.asked, "{} of {} requests ended", self.ended.len(), self.asked);
        self.check_applied()?;
        self.check_conditions()?;
        self.summary.sessions = self.servers.iter().map(|server| server.sessions().count() as u64).sum();
        for (number, client) in self.clients.iter().enumerate() {
            hold!(client.is_joined, "client {number} is not in the room in the end");
            for key in KEYS.iter().chain(&["sum", LOCK]) {
                let Some(known) = client.replica.cached(key) else { continue };
                let is = self.servers[self.room_of(number)].room.state(key);
                hold!(known.value == is.value, "client {number} ends with {known:?} where the room has {is:?}");
                for ((_, _), told) in self.heard[number].iter().filter(|((_, heard), _)| heard == key) {
                    hold!(told.value == is.value, "a listener of client {number} ends with {told:?}, not {is:?}");
                }
            }
        }
        Ok(())
    }

    /// What was acknowledged was done once, in the order in which it was asked; what was refused was not; the rest
    /// once at most.
    fn check_applied(&mut self) -> Result<(), String> {
        let mut applied: BTreeMap<i64, BTreeSet<(&str, u64)>> = BTreeMap::new();
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for (session, change) in &self.history {
            match (&*change.key, change.value.as_integer()) {
                ("sum", _) => *sums.entry(session).or_default() += 1,
                (_, Ok(number)) => {
                    let asked = self.ended.get(self.places.get(&number).copied().unwrap_or(usize::MAX));
                    let author = change.author.as_ref().map_or("", |author| &author.peer_id);
                    let is_its = asked.is_some_and(|(client, ..)| *author == *self.clients[*client].peer_id);
                    hold!(is_its, "{change:?} is not of who asked for it: {asked:?}");
                    applied.entry(number).or_default().insert((session, change.version));
                }
                _ => {}
            }
        }
        let (mut certain, mut possible) = (0, 0);
        let mut last: BTreeMap<(usize, &str), (i64, u64)> = BTreeMap::new();
        for (client, asked, outcome) in &self.ended {
            let is_unknown = matches!(outcome, Outcome::Refused(ErrorCode::OutcomeUnknown));
            match asked.op {
                Op::Add => {
                    certain += i64::from(!matches!(outcome, Outcome::Refused(_)));
                    possible += i64::from(is_unknown);
                    continue;
                }
                Op::Set(_) | Op::SetIf(_) | Op::SetFor(..) | Op::SetBound(_) | Op::SetLocked(_) | Op::Both(..) => {}
                _ => continue,
            }
            let times = applied.get(&asked.number);
            let count = times.map_or(0, BTreeSet::len);
            let right = match outcome {
                Outcome::Refused(_) if is_unknown => count <= 1,
                Outcome::Refused(_) => count == 0,
                _ => count == 1,
            };
            hold!(
                right,
                "the request {asked:?} of client {client} was applied {count} times, and ended with {outcome:?}"
            );
            if let Some((session, version)) = times.and_then(BTreeSet::first) {
                self.summary.applied += 1;
                let before = last.entry((*client, session)).or_insert((0, 0));
                let in_order = (asked.number < before.0) == (*version < before.1);
                hold!(in_order, "the requests of client {client} were applied in another order: {asked:?}");
                *before = (*before).max((asked.number, *version));
            }
        }
        let applied: i64 = sums.values().sum();
        let fits = (certain..=certain + possible).contains(&applied);
        hold!(fits, "{applied} additions were applied, {certain} acknowledged, {possible} unknown");
        Ok(())
    }

    /// What was done on a condition was done while that held.
    fn check_conditions(&mut self) -> Result<(), String> {
        // Each key's states in each session, in their order; those a session began with are among them.
        let mut states: BTreeMap<(&str, &str), BTreeMap<u64, &Change>> = BTreeMap::new();
        for ((session, version, key), state) in &self.states {
            states.entry((session, key)).or_default().insert(*version, state);
        }
        let before = |session: &str, key: &str, version: u64| -> Option<&Change> {
            let (_, state) = states.get(&(session, key))?.range(..version).next_back()?;
            Some(*state).filter(|state| !state.value.is_null())
        };
        for (session, change) in &self.history {
            let Ok(number) = change.value.as_integer() else { continue };
            if *change.key == *"sum" {
                continue;
            }
            let Some((_, asked, _)) = self.places.get(&number).map(|place| &self.ended[*place]) else { continue };
            if let Some(expected) = asked.expected {
                let was = before(session, &change.key, change.version).map_or(0, |state| state.version);
                // A key that the client knows to be gone is expected to be absent, whatever the version of that.
                let is_met = was == expected || (was == 0 && self.was_removed(session, &change.key, expected));
                hold!(is_met, "{change:?} was written on version {expected}, over {was}");
                self.summary.conditional += 1;
            }
            if let Some(guard) = asked.guard {
                let lock = before(session, LOCK, change.version).map(holder);
                let is_held = lock.as_ref().is_some_and(|(_, token)| *token == guard);
                hold!(is_held, "{change:?} was written with the token {guard} while the lock was {lock:?}");
                self.summary.guarded += 1;
            }
        }
        Ok(())
    }

    fn was_removed(&self, session: &Arc<str>, key: &Arc<str>, version: u64) -> bool {
        let state = self.states.get(&(session.clone(), version, key.clone()));
        state.is_some_and(|state| state.value.is_null())
    }
}

/// Who holds a lock, by its state, and under which token.
fn holder(lock: &Change) -> (String, u64) {
    let shown: serde_json::Value = serde_json::from_str(lock.value.json()).expect("JSON");
    let holder = shown["holder"].as_str().expect("an id").to_owned();
    (holder, shown["token"].as_u64().expect("a token"))
}
