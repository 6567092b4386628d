//! A server and its clients on two machines, as far as the system can play that: two network namespaces with links
//! between them, which go down and up, and a client that moves from one network to another.
//!
//! Everything happens in namespaces of its own, which end with the test; root is not needed where the system lets
//! users have them. Where it lets nobody, the test says so and has shown nothing.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod compiled;
mod process;
mod support;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

use process::{run, sstore, Running, Serving};
use sessionstore::{Client, ClientOptions, ConnectionState, Error, ErrorCode, Store, UpdateListener, Value};
use support::SAFETY;

/// Set in the namespace of the clients.
const INSIDE: &str = "SESSIONSTORE_INSIDE_NAMESPACE";
/// Where the server is reached, by whichever network.
const SERVER: &str = "10.20.0.1";

fn program(words: &str) -> Command {
    let mut words = words.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    command
}

/// Runs something that has to work.
fn works(words: &str) {
    let ended = run(program(words));
    assert!(ended.status.success(), "{words}: {ended:?}");
}

/// What begins a command in a network namespace of its own, if anything does.
fn unshare() -> Option<&'static str> {
    let ways = ["unshare --net", "unshare --user --map-root-user --net"];
    ways.into_iter().find(|way| program(&format!("{way} true")).output().is_ok_and(|output| output.status.success()))
}

/// Runs a test of this file again, in a namespace of its own.
fn within_a_namespace(test: &str) {
    let installed = |tool: &str| program(&format!("{tool} --version")).output().is_ok();
    assert!(installed("unshare") && installed("nsenter"), "this test needs the package util-linux, please install it");
    assert!(program("ip -V").output().is_ok(), "this test needs the program ip, please install the package iproute2");
    let Some(unshare) = unshare() else {
        // Not by the macro, whose words the test harness keeps to itself when all is well.
        let sentence = "NOT TESTED: this system forbids network namespaces (`unshare --net true` fails)";
        writeln!(std::io::stderr(), "{test}: {sentence}").expect("written");
        return;
    };
    let mut command = program(unshare);
    command.arg(std::env::current_exe().expect("this test")).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let ended = command.output().expect("this test again");
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

// ------------------------------------------------------------------ the two machines

struct Machines {
    serving: Serving,
    url: String,
}

impl Machines {
    /// This machine, which has no network yet, and that of a server.
    fn start() -> Machines {
        works("ip link set lo up");
        let mut command = program("unshare --net");
        command.arg(sstore(&[]).get_program());
        command.args("serve --address 0.0.0.0 --port 0 --grace 10m --log-level warn".split(' '));
        let serving = Serving::command(command);
        let port = serving.url.rsplit(':').next().expect("a port");
        let machines = Machines { url: format!("ws://{SERVER}:{port}"), serving };
        machines.there("ip link set lo up");
        machines.there(&format!("ip address add {SERVER}/32 dev lo"));
        machines
    }

    fn there(&self, words: &str) {
        works(&format!("nsenter --target {} --net {words}", self.serving.process.id()));
    }

    /// A network between both.
    fn connect(&self, name: &str, number: u8) {
        works(&format!("ip link add {name} type veth peer name {name} netns {}", self.serving.process.id()));
        works(&format!("ip address add 10.20.{number}.2/24 dev {name}"));
        self.there(&format!("ip address add 10.20.{number}.1/24 dev {name}"));
        self.there(&format!("ip link set {name} up"));
        works(&format!("ip link set {name} up"));
    }

    /// The server is reached by this network from now on.
    fn go_by(&self, name: &str, number: u8) {
        works(&format!("ip route replace {SERVER}/32 via 10.20.{number}.1 dev {name}"));
    }
}

struct Updates(mpsc::Sender<ConnectionState>);

impl UpdateListener for Updates {
    fn on_connection_state(&mut self, state: ConnectionState, _: Option<&Error>) {
        let _ = self.0.send(state);
    }

    fn on_error(&mut self, error: &Error) {
        panic!("{error}");
    }
}

/// A client in this process and a C program, both of which add to keys of their own.
struct Adding {
    _client: Client,
    store: Store,
    updates: mpsc::Receiver<ConnectionState>,
    told: mpsc::Sender<Result<i64, ErrorCode>>,
    results: mpsc::Receiver<Result<i64, ErrorCode>>,
    c_program: Running,
    asked: i64,
    answered: i64,
}

impl Adding {
    fn join(url: &str) -> Adding {
        let (sender, updates) = mpsc::channel();
        let options = ClientOptions {
            reconnect_min_ms: 1,
            reconnect_max_ms: 50,
            heartbeat_ms: 200,
            connect_timeout_ms: 500,
            // No request is given up here.
            request_timeout_ms: SAFETY.as_millis() as u64,
            ..ClientOptions::new(url, "r")
        };
        let client = Client::open(options, Updates(sender)).expect("opens");
        let store = client.join_wait(SAFETY).expect("joins");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/asked.c");
        let mut command = Command::new(compiled::compile(&source, &format!("asked-{}", std::process::id())));
        command.arg(url).arg("r").arg(SAFETY.as_millis().to_string());
        let c_program = Running::start(command);
        assert_eq!(c_program.stdout.next(), "joined");
        let (told, results) = mpsc::channel();
        let adding = Adding { _client: client, store, updates, told, results, c_program, asked: 0, answered: 0 };
        adding.hears(ConnectionState::Connected);
        adding
    }

    fn hears(&self, wanted: ConnectionState) {
        while self.updates.recv_timeout(SAFETY).expect("the state comes") != wanted {}
    }

    /// Asks without waiting.
    fn begin(&mut self, times: usize) {
        for _ in 0..times {
            let told = self.told.clone();
            let outcome = move |outcome: Result<std::sync::Arc<sessionstore::Change>, Error>| {
                let _ = told.send(outcome.and_then(|state| state.value.as_integer()).map_err(|error| error.code()));
            };
            self.store.add("rust", 1).on_result(outcome).expect("queued");
            self.asked += 1;
            self.c_program.tell(&format!("{} add c 1 0", self.asked));
        }
    }

    /// Every request is answered, once and in its order, and was applied once.
    fn finish(&mut self) {
        while self.answered < self.asked {
            self.answered += 1;
            assert_eq!(self.results.recv_timeout(SAFETY).expect("a result"), Ok(self.answered));
            let result = self.c_program.stdout.with("result ");
            let words: Vec<&str> = result.split(' ').collect();
            let nth = self.answered.to_string();
            assert_eq!((words[1], words[2], words[4]), (&*nth, "0", &*nth), "{result}");
        }
    }
}

/// Does something to the network while requests are under way, and undoes it when the client has noticed.
fn while_asking(adding: &mut Adding, change: impl FnOnce(), undo: impl FnOnce()) {
    adding.begin(50);
    change();
    adding.begin(50);
    adding.hears(ConnectionState::Reconnecting);
    adding.begin(50);
    undo();
    adding.hears(ConnectionState::Connected);
    adding.begin(50);
    adding.finish();
}

fn in_the_end(machines: Machines, adding: Adding) {
    // Somebody on the server's machine, who never noticed anything.
    let url = format!("--url=ws://127.0.0.1:{}", machines.url.rsplit(':').next().expect("a port"));
    let look = |key: &str| {
        let mut command = program(&format!("nsenter --target {} --net", machines.serving.process.id()));
        command.arg(sstore(&[]).get_program()).args(["get", key, "--room=r", &url]);
        run(command)
    };
    let sum = format!("{}\n", adding.asked);
    assert_eq!((look("rust").stdout, look("c").stdout), (sum.clone(), sum));
    // What others write arrives too.
    adding.store.set("last", Value::from(1)).wait(SAFETY).expect("set");
    let heard = adding.c_program.stdout.with("heard last ");
    assert!(heard.ends_with(" 1"), "{heard}");
    let ended = adding.c_program.end();
    assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{ended:?}");
    drop(adding.store);
}

#[test]
fn a_link_goes_down_and_up() {
    if std::env::var_os(INSIDE).is_none() {
        return within_a_namespace("a_link_goes_down_and_up");
    }
    let machines = Machines::start();
    machines.connect("wire", 1);
    machines.go_by("wire", 1);
    let mut adding = Adding::join(&machines.url);
    // Far away, where this side sees no carrier.
    while_asking(&mut adding, || machines.there("ip link set wire down"), || machines.there("ip link set wire up"));
    // Here, where with the link its routes go.
    let up = || {
        works("ip link set wire up");
        machines.go_by("wire", 1);
    };
    while_asking(&mut adding, || works("ip link set wire down"), up);
    // So shortly that it may go unnoticed.
    adding.begin(50);
    machines.there("ip link set wire down");
    adding.begin(50);
    machines.there("ip link set wire up");
    adding.finish();
    in_the_end(machines, adding);
}

#[test]
fn a_client_moves_to_another_network_and_has_another_address() {
    if std::env::var_os(INSIDE).is_none() {
        return within_a_namespace("a_client_moves_to_another_network_and_has_another_address");
    }
    let machines = Machines::start();
    machines.connect("wifi", 1);
    machines.connect("mobile", 2);
    machines.go_by("wifi", 1);
    let mut adding = Adding::join(&machines.url);
    // One network goes, and then there is another. The server is told nothing of the address that is gone.
    while_asking(&mut adding, || works("ip link set wifi down"), || machines.go_by("mobile", 2));
    // And back while both are there: what is under way has an address that no answer comes to.
    works("ip link set wifi up");
    let leave = || {
        machines.go_by("wifi", 1);
        works("ip address delete 10.20.2.2/24 dev mobile");
    };
    while_asking(&mut adding, leave, || ());
    in_the_end(machines, adding);
}
