//! The network and the clock, what users do, and what must hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::ops::AddAssign;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sessionstore::core::limits::Limits;
use sessionstore::core::replica::Notice;
use sessionstore::core::room::{Change, Time};
use sessionstore::ErrorCode;

use super::client::{Asked, Client, Op, Outcome};
use super::server::{Connection, Hello, Server};
use super::Fault;

const KEYS: [&str; 5] = ["a", "b", "hand/1", "hand/2", "c"];
/// Who acts; each with a listener that is there from the beginning, and one that comes and goes.
const CLIENTS: usize = 3;
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
    server: Server,
    clients: Vec<Client>,
    links: BTreeMap<Connection, Link>,
    next_connection: Connection,
    next_number: i64,
    asked: u64,
    /// All that ever was, in its order, and by session, revision and key.
    history: Vec<(Arc<str>, Arc<Change>)>,
    states: HashMap<(Arc<str>, u64, Arc<str>), Arc<Change>>,
    ended: Vec<(usize, Asked, Outcome)>,
    /// Of the requests that have ended.
    numbers: HashSet<i64>,
    /// The newest version of each key that anybody was told of, by the answer to a request, with its session.
    answered: BTreeMap<String, (Arc<str>, u64)>,
    /// What the listeners of each client were told last of each key.
    heard: Vec<BTreeMap<(u64, String), Arc<Change>>>,
    tokens: BTreeSet<(Arc<str>, u64)>,
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
        let limits = Limits { grace_ms, ..Limits::default() };
        let is_durable = random.random_bool(0.5);
        let mut world = World {
            random,
            now: 0,
            happenings: BinaryHeap::new(),
            next: 0,
            server: Server::new(limits.clone(), 0, is_durable, fault),
            limits,
            is_durable,
            is_doomed: false,
            // Some networks are hardly there at all.
            calm_ms,
            fault,
            clients: (0..CLIENTS).map(|number| Client::new(number, fault)).collect(),
            links: BTreeMap::new(),
            next_connection: 0,
            next_number: 1,
            asked: 0,
            history: Vec::new(),
            states: HashMap::new(),
            ended: Vec::new(),
            numbers: HashSet::new(),
            answered: BTreeMap::new(),
            heard: vec![BTreeMap::new(); CLIENTS],
            tokens: BTreeSet::new(),
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

    fn story(&mut self) -> Result<(), String> {
        for number in 0..CLIENTS {
            let mut notices = Vec::new();
            let (keys, prefixes): (&[&str], &[&str]) = [(&KEYS[..2], &[][..]), (&[], &["hand/"]), (&[], &[""])][number];
            self.clients[number].replica.add(1, keys, prefixes, &mut notices);
            self.soon(50, Happening::Connect(number));
            self.soon(200, Happening::Act(number));
        }
        self.soon(self.calm_ms, Happening::Cut);
        let restarts = if self.is_durable { 4 } else { u32::from(self.random.random_range(0..4) == 0) };
        for _ in 0..restarts {
            let time = self.random.random_range(2_000..BUSY_MS);
            self.at(time, Happening::Restart);
        }
        while self.now < BUSY_MS + CALM_MS {
            let room = self.server.room.next_deadline();
            let clients = self.clients.iter().filter_map(Client::next_deadline).min();
            let next = self.happenings.peek().map(|Reverse((time, ..))| *time);
            let Some(time) = [room, clients, next].into_iter().flatten().min() else { break };
            self.now = self.now.max(time);
            if room.is_some_and(|room| room <= self.now) {
                self.server.pass_time(self.now);
            }
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
                    self.server.connect(now, connection, &hello);
                }
            }
            Happening::ToServer(connection) => {
                let link = self.links.get_mut(&connection).filter(|link| !link.is_cut);
                if let Some(message) = link.and_then(|link| link.to_server.pop_front()) {
                    let is_too_fast = self.random.random_range(0..20) == 0;
                    self.server.receive(self.now, connection, &message, is_too_fast);
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
            Happening::ServerNotices(connection) => self.server.lost(self.now, connection),
            Happening::ClientNotices(connection) => {
                let number = self.links[&connection].client;
                if self.clients[number].connection == Some(connection) {
                    self.summary.sent_again += self.clients[number].pending() as u64;
                    self.clients[number].lost();
                    self.soon(1_000, Happening::Connect(number));
                }
            }
            Happening::Cut if !self.is_calm() => {
                let open: Vec<Connection> =
                    self.links.iter().filter(|(_, link)| !link.is_cut).map(|(id, _)| *id).collect();
                if !open.is_empty() {
                    let connection = open[self.random.random_range(0..open.len())];
                    self.cut(connection);
                }
                self.soon(self.calm_ms, Happening::Cut);
            }
            Happening::Restart if self.is_durable && self.random.random_bool(0.5) => self.is_doomed = true,
            Happening::Restart => self.restart(),
            Happening::Act(_) | Happening::Connect(_) | Happening::Cut => {}
        }
        Ok(())
    }

    /// The server is killed, and with it every connection; another begins.
    fn restart(&mut self) {
        self.is_doomed = false;
        self.summary.restarts += 1;
        self.summary.kept += u64::from(self.is_durable);
        let open: Vec<Connection> = self.links.iter().filter(|(_, link)| !link.is_cut).map(|(id, _)| *id).collect();
        open.into_iter().for_each(|connection| self.cut(connection));
        let lost =
            if self.is_durable && self.random.random_range(0..8) == 0 { self.random.random_range(1..30) } else { 0 };
        self.summary.power_cuts += u64::from(lost > 0);
        let next = Server::new(self.limits.clone(), 0, false, None);
        let server = std::mem::replace(&mut self.server, next);
        self.server = server.after_a_kill(self.now, self.limits.clone(), lost);
        self.collect_history();
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
        let op = match self.random.random_range(0..16) {
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
                return self.clients[number].speak();
            }
            _ => Op::Get(key),
        };
        let asked = Asked { number: self.next_number, op, before: self.answered.clone() };
        self.next_number += 1;
        self.asked += 1;
        // A burst now and then, more than is told as answered at once.
        let deadline = self.now + self.random.random_range(200..8_000);
        self.clients[number].ask(asked, deadline);
        if self.random.random_range(0..100) == 0 {
            for _ in 0..60 {
                let asked = Asked { number: self.next_number, op: Op::Add, before: BTreeMap::new() };
                self.next_number += 1;
                self.asked += 1;
                self.clients[number].ask(asked, deadline);
            }
        }
    }

    fn collect_history(&mut self) {
        for (session, state) in self.server.carried_over.drain(..) {
            self.states.insert((session, state.version, state.key.clone()), state);
        }
        for (session, change) in self.server.history.drain(..) {
            self.states.insert((session.clone(), change.version, change.key.clone()), change.clone());
            self.history.push((session, change));
        }
    }

    /// Puts what was said on its way, and looks at what was told.
    fn settle(&mut self) -> Result<(), String> {
        if self.is_doomed && self.server.is_in_turn() {
            // Nobody has heard of this turn, and nobody will.
            self.restart();
        }
        let checkpoint = self.is_durable && self.random.random_range(0..100) == 0;
        self.server.keep(checkpoint);
        self.collect_history();
        for (connection, message) in std::mem::take(&mut self.server.out) {
            if self.fault == Some(Fault::LosesMessages) && self.random.random_range(0..50) == 0 {
                continue;
            }
            if let Some(link) = self.links.get_mut(&connection) {
                link.to_client.push_back(message);
                self.deliver(connection, 1, Happening::ToClient(connection));
            }
        }
        for connection in std::mem::take(&mut self.server.closed) {
            // Its client has another by now, or hears of it.
            self.soon(100, Happening::ClientNotices(connection));
        }
        for number in 0..CLIENTS {
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
        }
        Ok(())
    }

    /// Whether a key had this state in a session.
    fn was(&self, session: &Arc<str>, state: &Change) -> bool {
        let was = self.states.get(&(session.clone(), state.version, state.key.clone()));
        was.is_some_and(|was| (&was.value, was.updated_at) == (&state.value, state.updated_at))
    }

    /// What a listener is told was so, and is newer than what it was told before.
    fn heard(&mut self, number: usize, notice: Notice) -> Result<(), String> {
        let Notice::Changed { listener, event } = notice else { return Ok(()) };
        self.summary.told += 1;
        let session = self.clients[number].session.clone();
        let change = event.change;
        if change.version > 0 {
            // Who begins to listen is told what the client knows, which may be of the session before until the
            // snapshot of this one is here.
            let was_once = |nth| self.was(&format!("session {nth}").into(), &change);
            let was = self.was(&session, &change) || (event.snapshot && (0..self.server.sessions()).any(was_once));
            hold!(was, "client {number} was told what never was: {change:?} in {session}");
        }
        let place = (listener, change.key.to_string());
        if let Some(before) = self.heard[number].get(&place).filter(|_| !event.snapshot) {
            let same_session = self.was(&session, before);
            let goes_back =
                same_session && change.version > 0 && change.version <= before.version && before.version > 0;
            hold!(!goes_back, "client {number} was told {change:?} after {before:?}");
            let again = before.value.is_null() && change.value.is_null() && change.version == before.version;
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
            _ => &[],
        };
        for state in states {
            if let (Op::Get(key), Some((of, version))) = (&asked.op, asked.before.get(&*state.key)) {
                // A key that is gone has no version any more; that it is, is newer.
                let is_older = *of == session && state.version < *version && !state.value.is_null();
                hold!(!is_older, "a read of {key} gave {state:?}, older than {version} that was known before it");
            }
            let known = self.answered.entry(state.key.to_string()).or_insert((session.clone(), 0));
            if known.0 != session {
                *known = (session.clone(), 0);
            }
            known.1 = known.1.max(state.version);
        }
        if let Outcome::Lock(token) = outcome {
            hold!(self.tokens.insert((session, token)), "the grant {token} was told to two requests");
        }
        hold!(!matches!(outcome, Outcome::Forgotten), "the answer to {asked:?} of client {number} was forgotten");
        hold!(self.numbers.insert(asked.number), "the request {asked:?} ended twice");
        self.ended.push((number, asked, outcome));
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), String> {
        hold!(self.ended.len() as u64 == self.asked, "{} of {} requests ended", self.ended.len(), self.asked);
        self.check_applied()?;
        for (number, client) in self.clients.iter().enumerate() {
            hold!(client.is_joined, "client {number} is not in the room in the end");
            for key in KEYS.iter().chain(&["sum", "$lock/turn"]) {
                let Some(known) = client.replica.cached(key) else { continue };
                let is = self.server.room.state(key);
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
                (_, Ok(number)) => drop(applied.entry(number).or_default().insert((session, change.version))),
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
                Op::Set(_) | Op::SetIf(_) | Op::Both(..) => {}
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
}
