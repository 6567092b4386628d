//! The same while connections break in every way that networks have, with peers in this process and C programs in
//! processes of their own. Beside the history it is checked that every action result comes once, that what was
//! acknowledged is there, and that every listener ends with what the store holds.
//!
//! `SESSIONSTORE_FAULT_ROUNDS=100 cargo test --test linearizable faults` runs for longer; so does `make faults`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{mpsc, Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use sessionstore::core::limits::Limits;
use sessionstore::{Change, Client, ClientOptions, ErrorCode, KeyChange, Selector, Server, Subscription, Value};

use super::checker::{check, Verdict};
use super::compiled::compile;
use super::process::Running;
use super::store::{Answer, Asked, Store, KEYS};
use super::support::cable::{Believer, Cable, Ending, Way};
use super::support::{server_with, SAFETY};
use super::{explained, run, Real, Target};

/// Shorter than some faults last, so that some outcomes are unknown.
const REQUEST_TIMEOUT_MS: u64 = 250;
/// How many calls of each peer are recorded in a round.
const CALLS: usize = 25;
/// How many additions are under way at once.
const BURST: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Closed,
    Reset,
    StalledToClient,
    StalledToServer,
    StalledBothWays,
    ThrottledToClient,
    ThrottledToServer,
    ClientBelieves,
    ServerBelieves,
    BothBelieve,
    ClosedWithinFrameToClient,
    ClosedWithinFrameToServer,
    ResetWithinFrameToClient,
    ResetWithinFrameToServer,
}

const FAULTS: [Fault; 14] = [
    Fault::Closed,
    Fault::Reset,
    Fault::StalledToClient,
    Fault::StalledToServer,
    Fault::StalledBothWays,
    Fault::ThrottledToClient,
    Fault::ThrottledToServer,
    Fault::ClientBelieves,
    Fault::ServerBelieves,
    Fault::BothBelieve,
    Fault::ClosedWithinFrameToClient,
    Fault::ClosedWithinFrameToServer,
    Fault::ResetWithinFrameToClient,
    Fault::ResetWithinFrameToServer,
];

impl Fault {
    fn strike(self, cable: &Cable, random: &mut StdRng) {
        match self {
            Fault::Closed => cable.cut_by(Ending::Closed),
            Fault::Reset => cable.cut_by(Ending::Reset),
            Fault::StalledToClient => cable.stall_way(Way::ToClient),
            Fault::StalledToServer => cable.stall_way(Way::ToServer),
            Fault::StalledBothWays => {
                [Way::ToClient, Way::ToServer].map(|way| cable.stall_way(way)).into_iter().collect()
            }
            Fault::ThrottledToClient => cable.throttle(Way::ToClient, random.random_range(1..100)),
            Fault::ThrottledToServer => cable.throttle(Way::ToServer, random.random_range(1..100)),
            Fault::ClientBelieves => cable.half_open(Believer::Client),
            Fault::ServerBelieves => cable.half_open(Believer::Server),
            Fault::BothBelieve => cable.half_open(Believer::Both),
            Fault::ClosedWithinFrameToClient => cable.break_within_frame(Way::ToClient, Ending::Closed),
            Fault::ClosedWithinFrameToServer => cable.break_within_frame(Way::ToServer, Ending::Closed),
            Fault::ResetWithinFrameToClient => cable.break_within_frame(Way::ToClient, Ending::Reset),
            Fault::ResetWithinFrameToServer => cable.break_within_frame(Way::ToServer, Ending::Reset),
        }
    }
}

/// Whether those who ask have ended.
#[derive(Default)]
struct Over(Mutex<bool>, Condvar);

impl Over {
    fn say(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn is(&self) -> bool {
        *self.0.lock().unwrap()
    }

    /// Lets a moment go by, unless they end.
    fn comes_within(&self, milliseconds: u64) -> bool {
        let over = self.0.lock().unwrap();
        *self.1.wait_timeout_while(over, Duration::from_millis(milliseconds), |over| !*over).unwrap().0
    }
}

/// One fault after the other until all have ended; how often each struck.
fn weather(cable: &Cable, faults: &[Fault], seed: u64, over: &Over) -> BTreeMap<Fault, usize> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut struck = BTreeMap::new();
    while !over.is() {
        let mut order = faults.to_vec();
        order.shuffle(&mut random);
        for fault in order {
            fault.strike(cable, &mut random);
            *struck.entry(fault).or_default() += 1;
            // Most are over soon; some outlast every request.
            let most = if random.random_range(0..6) == 0 { 2 * REQUEST_TIMEOUT_MS } else { 40 };
            over.comes_within(random.random_range(2..most));
            cable.let_go();
            if over.comes_within(random.random_range(1..30)) {
                break;
            }
        }
    }
    struck
}

// ------------------------------------------------------------------ what listeners are told

/// Keys with version and JSON.
type States = BTreeMap<String, (u64, String)>;

/// The newest of each key.
#[derive(Clone, Debug, Default)]
struct Heard {
    keys: States,
    faults: Vec<String>,
}

impl Heard {
    fn told(&mut self, key: &str, version: u64, json: &str) {
        let (before, known) = self.keys.get(key).cloned().unwrap_or_default();
        // A removal that is only seen by its key not being there has no version.
        let is_gone = version == 0 && json == "null" && known != "null";
        if version <= before && !is_gone {
            self.faults.push(format!("{key}: version {before}, {known}, and then version {version}, {json}"));
        }
        self.keys.insert(key.to_owned(), (version.max(before), json.to_owned()));
    }

    /// Whether that is what the store holds.
    fn compare(&self, truth: &States) -> Result<(), String> {
        let set: BTreeMap<_, _> = self.keys.iter().filter(|(_, state)| state.1 != "null").collect();
        let is_right = self.faults.is_empty() && set == truth.iter().collect();
        is_right.then_some(()).ok_or_else(|| format!("the store holds {truth:?}; a listener has {self:?}"))
    }
}

/// Somebody who asks, and listens to everything.
trait Peer: Target {
    /// Adds 1 to a key so many times at once: the new value, or the code, of each.
    fn add(&mut self, key: &str, times: usize) -> Vec<Result<i64, i32>>;
    /// What its listener was told so far.
    fn heard(&self) -> Heard;
    /// Ends it.
    fn end(self: Box<Self>);
}

/// A peer in this process.
struct Here {
    real: Real,
    heard: Arc<Mutex<Heard>>,
    _subscription: Subscription,
}

impl Here {
    fn join(url: &str, room: &str) -> Box<dyn Peer> {
        let mut real = Real::with(ClientOptions {
            reconnect_min_ms: 1,
            reconnect_max_ms: 50,
            heartbeat_ms: 200,
            connect_timeout_ms: 500,
            request_timeout_ms: REQUEST_TIMEOUT_MS,
            ..ClientOptions::new(url, room)
        });
        real.patience = Duration::from_millis(REQUEST_TIMEOUT_MS);
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let own = heard.clone();
        let listener = move |change: KeyChange<'_>| {
            if let KeyChange::Event(event) = change {
                own.lock().unwrap().told(&event.change.key, event.change.version, event.change.value.json());
            }
        };
        let subscription = real.store.listen_to(&Selector::all(), listener).expect("listens");
        Box::new(Here { real, heard, _subscription: subscription })
    }
}

impl Target for Here {
    fn ask(&mut self, asked: Asked) -> Answer {
        self.real.ask(asked)
    }
}

impl Peer for Here {
    fn add(&mut self, key: &str, times: usize) -> Vec<Result<i64, i32>> {
        let (told, results) = mpsc::channel();
        for nth in 0..times {
            let told = told.clone();
            let action = self.real.store.add(key, 1);
            action.on_result(move |outcome| drop(told.send((nth, outcome)))).expect("queued");
        }
        drop(told);
        // Ends when every one of them is dropped, and not before.
        let mut all = BTreeMap::new();
        while let Some((nth, outcome)) = match results.recv_timeout(SAFETY) {
            Ok(result) => Some(result),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{} of {times} results never came", times - all.len()),
        } {
            let value = outcome.and_then(|state| state.value.as_integer()).map_err(|error| error.code().number());
            assert!(all.insert(nth, value).is_none(), "a second result of one action");
        }
        assert_eq!(all.len(), times, "an action was dropped without a result");
        all.into_values().collect()
    }

    fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    fn end(self: Box<Self>) {}
}

/// A peer that is a C program in a process of its own.
struct There {
    running: Running,
    last_id: usize,
    /// Results whose `on_drop` has not come: code, version and JSON.
    results: BTreeMap<usize, (i32, u64, String)>,
    heard: Heard,
}

impl There {
    fn join(program: &Path, url: &str, room: &str) -> Box<dyn Peer> {
        let mut command = Command::new(program);
        command.arg(url).arg(room).arg(REQUEST_TIMEOUT_MS.to_string());
        let running = Running::start(command);
        assert_eq!(running.stdout.next(), "joined");
        Box::new(There { running, last_id: 0, results: BTreeMap::new(), heard: Heard::default() })
    }

    fn begin(&mut self, verb: &str, key: &str, number: i64, version: u64) -> usize {
        self.last_id += 1;
        self.running.tell(&format!("{} {verb} {key} {number} {version}", self.last_id));
        self.last_id
    }

    fn next_line(&self) -> String {
        let next = std::panic::AssertUnwindSafe(|| self.running.stdout.next());
        std::panic::catch_unwind(next).unwrap_or_else(|_| panic!("it said: {}", self.running.stderr.so_far()))
    }

    /// Reads a line; the request whose `on_drop` it is, and its result.
    fn read(&mut self) -> Option<(usize, (i32, u64, String))> {
        let line = self.next_line();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("no number in: {line}"));
        match words[..] {
            ["heard", key, version, json] => self.heard.told(key, number(version), json),
            ["result", id, code, version, json] => {
                let result = (number(code) as i32, number(version), json.to_owned());
                let id = number(id) as usize;
                assert!(id <= self.last_id && self.results.insert(id, result).is_none(), "a second result: {line}");
            }
            ["drop", id] => {
                let id = number(id) as usize;
                let result = self.results.remove(&id);
                return Some((id, result.unwrap_or_else(|| panic!("dropped without a result, or twice: {line}"))));
            }
            _ => panic!("not understood: {line}"),
        }
        None
    }

    /// The next request that ends.
    fn ended(&mut self) -> (usize, (i32, u64, String)) {
        std::iter::repeat_with(|| self.read()).flatten().next().expect("without end")
    }
}

fn integer(json: &str) -> i64 {
    if json == "null" {
        0
    } else {
        json.parse().expect("an integer")
    }
}

impl Target for There {
    fn ask(&mut self, asked: Asked) -> Answer {
        let (verb, key, number, if_version) = match asked {
            Asked::Set { key, value } => ("set", key, value, 0),
            Asked::SetIf { key, value, version } => ("set_if", key, value, version),
            Asked::Remove { key } => ("remove", key, 0, 0),
            Asked::Get { key } => ("get", key, 0, 0),
            Asked::Add { key, amount } => ("add", key, amount, 0),
            _ => unreachable!("it cannot"),
        };
        let begun = self.begin(verb, KEYS[key], number, if_version);
        let (id, (code, version, json)) = self.ended();
        assert_eq!(id, begun);
        let is = |wanted: ErrorCode| code == wanted.number();
        match code {
            0 => Answer::State { version, value: integer(&json) },
            _ if is(ErrorCode::VersionConflict) => Answer::Conflict { version, value: integer(&json) },
            _ if is(ErrorCode::OutcomeUnknown) => Answer::Unknown,
            _ if is(ErrorCode::Timeout) || is(ErrorCode::ConnectionLost) => Answer::NotDone,
            _ => panic!("{code} is no answer to this"),
        }
    }

    fn can(&self, asked: Asked) -> bool {
        use Asked::{Add, Get, Remove, Set, SetIf};
        matches!(asked, Set { .. } | SetIf { .. } | Remove { .. } | Get { .. } | Add { .. })
    }
}

impl Peer for There {
    fn add(&mut self, key: &str, times: usize) -> Vec<Result<i64, i32>> {
        let first = self.last_id + 1;
        for _ in 0..times {
            self.begin("add", key, 1, 0);
        }
        let ended: BTreeMap<usize, _> = (0..times).map(|_| self.ended()).collect();
        assert!(ended.keys().copied().eq(first..=self.last_id), "each ends once: {ended:?}");
        ended.into_values().map(|(code, _, json)| if code == 0 { Ok(integer(&json)) } else { Err(code) }).collect()
    }

    fn heard(&self) -> Heard {
        self.heard.clone()
    }

    fn end(self: Box<Self>) {
        let before = self.last_id;
        let ended = self.running.end();
        assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{ended:?}");
        // All of its output, from the first line on.
        let count = |word: &str| ended.stdout.lines().filter(|line| line.starts_with(word)).count();
        let last: Vec<&str> = ended.stdout.lines().rev().take(5).collect();
        assert_eq!((count("result "), count("drop ")), (before, before), "each once; the last it said: {last:?}");
    }
}

// ------------------------------------------------------------------ a round

/// What one peer's additions came to.
#[derive(Debug, Default)]
struct Tally {
    asked: usize,
    acknowledged: Vec<i64>,
    unknown: usize,
}

/// Adds without end, many at once.
fn count_up(peer: &mut dyn Peer, over: &Over) -> Tally {
    let mut tally = Tally::default();
    while !over.is() {
        for outcome in peer.add("n", BURST) {
            tally.asked += 1;
            match outcome {
                Ok(value) => tally.acknowledged.push(value),
                Err(code) if code == ErrorCode::OutcomeUnknown.number() => tally.unknown += 1,
                Err(code) if code == ErrorCode::Timeout.number() => {}
                Err(code) => panic!("an addition ended with {code}"),
            }
        }
    }
    tally
}

/// What a room's store holds, as one is told who is behind no cable; and whether all who listen know it. Nobody
/// waits for that: who is answered has been told everything before.
fn everybody_knows(store: &sessionstore::Store, peers: &mut [Box<dyn Peer>]) -> Result<States, String> {
    let states = store.read(&Selector::all()).wait(SAFETY).expect("read").states;
    let state = |state: &Arc<Change>| (state.key.to_string(), (state.version, state.value.json().to_owned()));
    let truth = states.iter().map(state).collect();
    for peer in peers {
        let mut answers = std::iter::repeat_with(|| peer.ask(Asked::Get { key: 0 }));
        answers.find(|answer| *answer != Answer::NotDone).expect("an answer");
        peer.heard().compare(&truth)?;
    }
    Ok(truth)
}

#[derive(Default)]
struct Figures {
    struck: BTreeMap<Fault, usize>,
    broken_frames: usize,
    calls: usize,
    unknown: usize,
    additions: usize,
    unknown_additions: usize,
}

fn watch(server: &Server, room: &str) -> (Client, sessionstore::Store) {
    let client = Client::open(ClientOptions::new(server.url(), room), ()).expect("opens");
    let store = client.join_wait(SAFETY).expect("joins");
    (client, store)
}

/// Everybody joins, asks, and listens while their cables break; then all is well and everything is checked.
fn round(server: &Server, program: &Path, seed: u64, figures: &mut Figures) {
    let (history_room, count_room) = (format!("faults {seed}"), format!("counted {seed}"));
    let (_first, watcher) = watch(server, &history_room);
    let (_second, counter) = watch(server, &count_room);
    let cables: [Cable; 5] = std::array::from_fn(|_| Cable::to(server.local_addr()));
    let mut peers = [
        Here::join(&server.url(), &history_room),
        Here::join(&cables[0].url(), &history_room),
        Here::join(&cables[1].url(), &history_room),
        There::join(program, &cables[2].url(), &history_room),
    ];
    let mut adding = [Here::join(&cables[3].url(), &count_room), There::join(program, &cables[4].url(), &count_room)];
    let over = Over::default();
    let (history, tallies) = std::thread::scope(|scope| {
        let over = &over;
        let weathers: Vec<_> = (0..)
            .zip(&cables)
            .map(|(nth, cable)| scope.spawn(move || weather(cable, &FAULTS, seed * 10 + nth, over)))
            .collect();
        let adding: Vec<_> = adding.iter_mut().map(|peer| scope.spawn(move || count_up(&mut **peer, over))).collect();
        let history = run(&mut peers, seed, CALLS);
        over.say();
        for struck in weathers {
            for (fault, times) in struck.join().expect("no fault of the weather") {
                *figures.struck.entry(fault).or_default() += times;
            }
        }
        let tallies: Vec<Tally> = adding.into_iter().map(|tally| tally.join().expect("counted")).collect();
        (history, tallies)
    });
    explained(&history, seed);
    everybody_knows(&watcher, &mut peers).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    let truth = everybody_knows(&counter, &mut adding).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));

    let sum = truth.get("n").map_or(0, |state| integer(&state.1)) as usize;
    let mut acknowledged: Vec<i64> = tallies.iter().flat_map(|tally| tally.acknowledged.iter().copied()).collect();
    let unknown: usize = tallies.iter().map(|tally| tally.unknown).sum();
    for tally in &tallies {
        assert!(tally.acknowledged.is_sorted_by(|a, b| a < b), "seed {seed}: in the order in which they were asked");
    }
    acknowledged.sort_unstable();
    acknowledged.dedup();
    assert_eq!(
        acknowledged.len(),
        tallies.iter().map(|tally| tally.acknowledged.len()).sum::<usize>(),
        "seed {seed}: once each"
    );
    let bounds = acknowledged.len()..=acknowledged.len() + unknown;
    assert!(bounds.contains(&sum), "seed {seed}: {sum} is not within {bounds:?}");

    peers.into_iter().chain(adding).for_each(|peer| peer.end());
    figures.broken_frames += cables.iter().map(Cable::broken_frames).sum::<usize>();
    // Nobody asks for a lock to end.
    let asked: Vec<_> = history.iter().filter(|made| !matches!(made.call.0, Asked::LockEnds { .. })).collect();
    figures.calls += asked.len();
    figures.unknown += asked.iter().filter(|made| made.call.1 == Answer::Unknown).count();
    figures.additions += tallies.iter().map(|tally| tally.asked).sum::<usize>();
    figures.unknown_additions += unknown;
}

/// Peers that are cut off are never given up, as that ends their locks and their requests' answers.
fn patient_server() -> Server {
    server_with(|options| options.limits = Limits { grace_ms: 300_000, ..Limits::default() })
}

/// Compiled once: what runs cannot be written.
fn c_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/asked.c"), "asked"))
}

#[test]
fn what_everybody_is_told_is_explained_however_connections_break() {
    let server = patient_server();
    let program = c_program();
    let variable = std::env::var("SESSIONSTORE_FAULT_ROUNDS");
    let usual: u64 = variable.map_or(3, |text| text.parse().expect("SESSIONSTORE_FAULT_ROUNDS is a number"));
    let mut figures = Figures::default();
    for seed in 0.. {
        // Without a fault of each kind and a lost answer something was not tried.
        let tried = figures.struck.len() == FAULTS.len() && figures.broken_frames > 0;
        if seed >= usual && tried && figures.unknown > 0 && figures.unknown_additions > 0 {
            break;
        }
        assert!(seed < usual + 100, "in {seed} rounds something never happened: {:?}", figures.struck);
        round(&server, program, seed, &mut figures);
        let Figures { struck, broken_frames, calls, unknown, additions, unknown_additions } = &figures;
        println!(
            "{} rounds: {calls} calls, {unknown} outcomes unknown; {additions} additions, {unknown_additions} unknown; \
             {broken_frames} frames broken, {struck:?}",
            seed + 1
        );
    }
}

// ------------------------------------------------------------------ planted faults

/// A client that takes an unknown outcome for none, and asks anew.
struct AsksAnew(Box<dyn Peer>);

impl Target for AsksAnew {
    fn ask(&mut self, asked: Asked) -> Answer {
        std::iter::repeat_with(|| self.0.ask(asked)).find(|answer| *answer != Answer::Unknown).expect("an answer")
    }

    fn can(&self, asked: Asked) -> bool {
        self.0.can(asked)
    }
}

#[test]
fn clients_that_ask_anew_when_the_outcome_is_unknown_are_found() {
    let (server, program) = (patient_server(), c_program());
    let is_found = |seed: u64| {
        let room = format!("anew {seed}");
        let cable = Cable::to(server.local_addr());
        let mut targets: Vec<Box<dyn Target>> =
            vec![Box::new(AsksAnew(There::join(program, &cable.url(), &room))), Here::join(&server.url(), &room)];
        let over = Over::default();
        let history = std::thread::scope(|scope| {
            scope.spawn(|| weather(&cable, &[Fault::StalledToClient, Fault::BothBelieve], seed, &over));
            let history = run(&mut targets, seed, CALLS);
            over.say();
            history
        });
        matches!(check::<Store>(&history), Err(Verdict::Impossible { .. }))
    };
    assert!((0..100).any(is_found), "100 runs passed unnoticed");
}

#[test]
fn a_message_that_the_network_loses_is_found() {
    let server = patient_server();
    let (_client, watcher) = watch(&server, "lost");
    let cable = Cable::to(server.local_addr());
    let mut peers = [Here::join(&cable.url(), "lost")];
    for is_lost in [false, true] {
        watcher.set("first", Value::from(i64::from(is_lost))).wait(SAFETY).expect("set");
        everybody_knows(&watcher, &mut peers).expect("nothing was lost yet");
        if is_lost {
            cable.lose_message();
        }
        watcher.set("second", Value::from(i64::from(is_lost))).wait(SAFETY).expect("set");
        assert_eq!(everybody_knows(&watcher, &mut peers).is_err(), is_lost);
    }
}

// ------------------------------------------------------------------ the cable itself

#[test]
fn the_cable_breaks_connections_as_it_says() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let cable = Cable::to(listener.local_addr().expect("the port is known"));
    let connect = || {
        let client = TcpStream::connect(cable.url().trim_start_matches("ws://")).expect("connects");
        let (server, _) = listener.accept().expect("the cable connects");
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(SAFETY)).expect("set");
        }
        (client, server)
    };
    let read = |mut stream: &TcpStream, most: usize| {
        let mut bytes = vec![0; most];
        let count = stream.read(&mut bytes).map_err(|error| error.kind())?;
        Ok::<_, ErrorKind>(String::from_utf8_lossy(&bytes[..count]).into_owned())
    };
    // Whoever is carried to must have got it before anything breaks, or it may be lost.
    let whole = |(client, server): &(TcpStream, TcpStream)| {
        (&*client).write_all(b"ask").expect("written");
        (&*server).write_all(b"answer").expect("written");
        assert_eq!((read(server, 99), read(client, 99)), (Ok("ask".into()), Ok("answer".into())));
    };
    let end = Ok(String::new());
    for (ending, expected) in [(Ending::Closed, end.clone()), (Ending::Reset, Err(ErrorKind::ConnectionReset))] {
        let line = connect();
        whole(&line);
        cable.cut_by(ending);
        assert_eq!((read(&line.0, 1), read(&line.1, 1)), (expected.clone(), expected.clone()), "{ending:?}");
        cable.mend();
        for way in [Way::ToClient, Way::ToServer] {
            let line = connect();
            whole(&line);
            cable.break_within_frame(way, ending);
            let (mut from, to) = if way == Way::ToClient { (&line.1, &line.0) } else { (&line.0, &line.1) };
            from.write_all(b"frame").expect("written");
            let mut arrived = String::new();
            let how = loop {
                match read(to, 99) {
                    Ok(more) if !more.is_empty() => arrived += &more,
                    ended => break ended,
                }
            };
            // A reset may overtake what was sent before it.
            assert!(arrived == "fram" || ending == Ending::Reset && arrived.is_empty(), "{way:?}: {arrived}");
            assert_eq!(how, expected, "{way:?}, {ending:?}");
        }
    }
    assert_eq!(cable.broken_frames(), 4);
    for believer in [Believer::Client, Believer::Server, Believer::Both] {
        let line = connect();
        whole(&line);
        cable.half_open(believer);
        let (gone, mut believing) = if believer == Believer::Client { (&line.1, &line.0) } else { (&line.0, &line.1) };
        if believer != Believer::Both {
            assert_eq!(read(gone, 1), end);
        }
        // It goes nowhere, and nobody says so: a new connection is made and used, and still there is nothing to read.
        believing.write_all(b"lost").expect("written");
        whole(&connect());
        for stream in if believer == Believer::Both { vec![&line.0, &line.1] } else { vec![believing] } {
            stream.set_nonblocking(true).expect("set");
            assert_eq!(read(stream, 1), Err(ErrorKind::WouldBlock), "{believer:?}");
        }
    }
    for way in [Way::ToClient, Way::ToServer] {
        let line = connect();
        whole(&line);
        let (mut from, to) = if way == Way::ToClient { (&line.1, &line.0) } else { (&line.0, &line.1) };
        cable.stall_way(way);
        from.write_all(b"held").expect("written");
        cable.wait_until_held();
        to.set_nonblocking(true).expect("set");
        assert_eq!(read(to, 1), Err(ErrorKind::WouldBlock));
        to.set_nonblocking(false).expect("set");
        cable.let_go();
        assert_eq!(read(to, 99), Ok("held".into()));
        cable.throttle(way, 1);
        from.write_all(b"slow").expect("written");
        let pieces: Vec<_> = (0..4).map(|_| read(to, 1).expect("a byte")).collect();
        assert_eq!(pieces.concat(), "slow");
        cable.let_go();
    }
}
