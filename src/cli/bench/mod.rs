//! `sstore bench`: what a server costs, as ratios to the least that the same work can cost.
//!
//! The server under measurement and the floor (`floor`) are processes of their own, on one core;
//! the generator (`generator`) is this process, on another. They take turns, repetition by
//! repetition, so that a machine that is slower for a while is slower for both. A server's CPU is
//! the time of its own threads, so what the generator costs is not charged to it.
//!
//! Exit codes: 0 all was delivered, 1 something was lost or wrong, 2 wrong arguments, 3 the server
//! cannot be reached, 4 this machine does not give what is needed.

mod failure;
mod floor;
mod generator;
mod goals;
pub mod growth;
mod process;
mod report;
mod system;
mod wire;
mod workloads;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Args, Subcommand};
use tungstenite::http::Uri;

use crate::cli::output::{tell, write_line};
use crate::{Server, ServerOptions};
use failure::Failure;
use generator::Generator;
use process::ServerProcess;
use report::{Peer, Report, Side};
use wire::{Wire, STATE_KEYS, STATE_VALUE_BYTES};
use workloads::{Part, Scale, Subject, Workload};

/// Descriptors of this process besides its connections, with room to spare.
const OTHER_DESCRIPTORS: u64 = 64;

/// What to measure, and how.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// What to measure; everything if none is named
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<Workload>,
    /// A short run with fewer connections: less steady figures, the same checks
    #[arg(long)]
    quick: bool,
    /// How often each workload is run; the figures are medians [default: 3, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: Option<u32>,
    /// Fan out to this many observers [default: 10, 100 and 1000, with --quick 10 and 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    observers: Option<u32>,
    /// Measure a server that runs already, in open mode, from outside; no CPU and memory figures
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Measure these too, with the same work; their programs must be installed
    #[arg(long, value_name = "PEER", value_delimiter = ',', conflicts_with = "url")]
    peers: Vec<Peer>,
    /// Write the table to a file, as Markdown; only between its marker lines if the file has them
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write everything that was measured to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The lines of a file between which the table is written.
const MARKERS: [&str; 2] = ["<!-- measured: begin -->", "<!-- measured: end -->"];

/// Measurements that are not of a workload.
#[derive(Debug, Subcommand)]
enum Other {
    /// How the server's cost grows: with peers, keys, listeners, rooms, bytes.
    Growth(growth::Arguments),
}

/// What a server process of the benchmark is told.
#[derive(Debug, Args)]
pub struct ChildArguments {
    /// The core to stay on.
    #[arg(long)]
    core: Option<usize>,
    /// Loops of the server.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Where the server keeps its rooms.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Whether it waits for the disk.
    #[arg(long)]
    fsync: bool,
    /// Whether each socket is written to by a system call of its own.
    #[arg(long)]
    no_io_uring: bool,
    /// Bytes of state that the floor sends to who joins.
    #[arg(long, default_value_t = STATE_KEYS * STATE_VALUE_BYTES)]
    state_bytes: usize,
}

/// Runs the benchmark and prints its table.
pub fn run(arguments: &Arguments) -> ExitCode {
    if let Some(Other::Growth(arguments)) = &arguments.other {
        return growth::run(arguments);
    }
    let written = measure(arguments).and_then(|report| {
        print(&report.text())?;
        if let Some(path) = &arguments.markdown {
            write(path, &between_markers(path, &report.markdown()))?;
        }
        if let Some(path) = &arguments.json {
            write(path, &report.json())?;
        }
        Ok(())
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(&failure),
    }
}

/// Prints a table. That nobody reads it any more is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match write_line(text.trim_end_matches('\n')) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::system("writing to stdout", &error)),
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::system(&format!("writing {}", path.display()), &error))
}

/// The file with the table between its markers, or the table alone.
fn between_markers(path: &Path, table: &str) -> String {
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let [begin, end] = MARKERS;
    match before.split_once(begin).and_then(|(head, rest)| Some((head, rest.split_once(end)?.1))) {
        Some((head, tail)) => format!("{head}{begin}\n\n{table}\n{end}{tail}"),
        None => table.into(),
    }
}

fn end(failure: &Failure) -> ExitCode {
    tell(format_args!("sstore: {failure}"));
    failure.exit_code()
}

/// Runs the floor until the parent is gone.
pub fn run_floor(arguments: &ChildArguments) -> ExitCode {
    process::become_child(arguments.core);
    let served = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
        process::announce(listener.local_addr()?)?;
        floor::serve(listener, arguments.state_bytes)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&Failure::system("running the floor", &error)),
    }
}

/// Runs the server until the parent is gone.
pub fn run_server(arguments: &ChildArguments) -> ExitCode {
    serve(arguments, ServerOptions::default())
}

fn serve(arguments: &ChildArguments, options: ServerOptions) -> ExitCode {
    process::become_child(arguments.core);
    let options = ServerOptions {
        address: Ipv4Addr::LOCALHOST.to_string(),
        port: 0,
        threads: arguments.threads,
        data_dir: arguments.data_dir.clone(),
        fsync: arguments.fsync,
        io_uring: !arguments.no_io_uring,
        ..options
    };
    let server = match Server::start(options) {
        Ok(server) => server,
        Err(error) => return end(&Failure::Server(format!("the server did not start: {error}"))),
    };
    if let Err(error) = process::announce(server.local_addr()) {
        return end(&Failure::system("telling the port", &error));
    }
    loop {
        // The end of the parent ends the process; nothing else does.
        std::thread::park();
    }
}

/// A server that somebody else has started.
struct Remote {
    address: SocketAddr,
    wire: Wire,
}

fn remote(url: &str) -> Result<Remote, Failure> {
    let wrong = |reason: &str| Failure::Usage(format!("the URL is not usable: {reason}"));
    let uri: Uri = url.parse().map_err(|_| wrong("it looks like ws://host:port or ws://host:port/path"))?;
    if uri.scheme_str() != Some("ws") {
        return Err(wrong("it has to begin with ws://; TLS is not measured"));
    }
    let host = uri.host().ok_or_else(|| wrong("it has no host"))?;
    let port = uri.port_u16().unwrap_or(80);
    let address = (host.trim_matches(['[', ']']), port).to_socket_addrs().ok().and_then(|mut all| all.next());
    let address = address.ok_or_else(|| Failure::Server(format!("the host {host} does not resolve")))?;
    let path = if uri.path() == "/" { "/ws" } else { uri.path() };
    Ok(Remote { address, wire: Wire::WebSocket { host: format!("{host}:{port}"), path: path.into() } })
}

fn measure(arguments: &Arguments) -> Result<Report, Failure> {
    let mut scale = if arguments.quick { Scale::quick() } else { Scale::full() };
    if let Some(observers) = arguments.observers {
        scale.observers = vec![observers as usize];
    }
    let repetitions = arguments.repetitions.unwrap_or(if arguments.quick { 1 } else { 3 });
    let remote = arguments.url.as_deref().map(remote).transpose()?;

    let (limit, needed) = (system::raise_descriptor_limit(), scale.connections() as u64 + OTHER_DESCRIPTORS);
    if limit < needed {
        let text =
            format!("{needed} file descriptors are needed and {limit} are allowed; raise the limit with `ulimit -Hn`");
        return Err(Failure::Resources(text));
    }
    let mut report = Report::default();
    report.notes_machine();
    let cores = match (&remote, system::cores().as_slice()) {
        (None, [server, generator, ..]) => system::stay_on(&[*generator]).ok().map(|()| (*server, *generator)),
        _ => None,
    };
    if remote.is_some() {
        // On the core of the generator a server answers without waking another core, which beats
        // any floor that is kept on a core of its own. So neither is kept on one.
        report.note("No process was kept on a core: where the system puts the servers moves the ratios.".into());
    } else if cores.is_none() {
        report.note("Server and generator share their cores: only the CPU figures mean much.".into());
    }

    if repetitions > 1 {
        let text = "Figures are medians; a ratio is the median of the ratios within each repetition.";
        report.note(text.into());
    }
    let parts = workloads::parts(&arguments.workloads, &scale);
    for repetition in 0..repetitions {
        for part in &parts {
            let mut sides: Vec<Side> = [Side::Floor, Side::Ours]
                .into_iter()
                .chain(arguments.peers.iter().map(|peer| Side::Peer(*peer)))
                .collect();
            sides.retain(|side| *side == Side::Ours || !part.is_ours_alone());
            sides.retain(|side| *side != Side::Peer(Peer::FloorWithOurBytes) || matches!(part, Part::Joins));
            // The side that goes first changes, in case the machine remembers.
            if repetition % 2 == 1 {
                sides.reverse();
            }
            for side in sides {
                tell(format_args!("repetition {} of {repetitions}: {side:?}, {part:?}", repetition + 1));
                let measured = measure_side(part, side, &scale, cores, remote.as_ref())?;
                for figure in measured.figures {
                    report.add(side, figure);
                }
                measured.notes.into_iter().for_each(|note| report.note(note));
                for workload in measured.generator_bound {
                    report.note(format!("{workload}: the generator was the bottleneck for {side:?}, not the server."));
                }
            }
        }
    }
    Ok(report)
}

fn measure_side(
    part: &Part,
    side: Side,
    scale: &Scale,
    cores: Option<(usize, usize)>,
    remote: Option<&Remote>,
) -> Result<workloads::Measured, Failure> {
    let core = cores.map(|(server, _)| server);
    if let (Part::Cores, None) = (part, remote) {
        return measure_cores(scale, cores);
    }
    let (process, wire) = match (side, remote) {
        (Side::Ours, Some(_)) => (None, None),
        (Side::Floor, _) => (Some(ServerProcess::start("bench-floor", core)?), Some(Wire::Floor)),
        (Side::Ours, None) => (Some(ServerProcess::start("bench-serve", core)?), None),
        (Side::Peer(Peer::Kept), _) => (Some(ServerProcess::start_kept(core, false)?), None),
        (Side::Peer(Peer::Synced), _) => (Some(ServerProcess::start_kept(core, true)?), None),
        (Side::Peer(Peer::WithoutIoUring), _) => (Some(ServerProcess::start_without_io_uring(core)?), None),
        (Side::Peer(Peer::FloorWithOurBytes), _) => {
            (Some(ServerProcess::start_floor_with(core, wire::our_state_bytes())?), Some(Wire::Floor))
        }
        (Side::Peer(Peer::Redis), _) => (Some(ServerProcess::start_redis(cores)?), Some(Wire::Redis)),
        (Side::Peer(Peer::Mosquitto), _) => (Some(ServerProcess::start_mosquitto(cores)?), Some(Wire::Mqtt)),
    };
    part.measure(&mut subject(process, wire, remote)?, scale)
}

/// What is measured: a process of this benchmark that speaks our protocol unless another is named,
/// or a server that runs already.
fn subject(process: Option<ServerProcess>, wire: Option<Wire>, remote: Option<&Remote>) -> Result<Subject, Failure> {
    let (address, wire) = match (&process, remote) {
        (Some(process), _) => {
            let address = process.address();
            (address, wire.unwrap_or_else(|| Wire::WebSocket { host: address.to_string(), path: "/ws".into() }))
        }
        (None, Some(remote)) => (remote.address, remote.wire.clone()),
        (None, None) => return Err(Failure::Server("there is no server to measure".into())),
    };
    // A server that runs already still has the last part's peers, for their grace period.
    static PART: AtomicU64 = AtomicU64::new(0);
    let room_prefix = format!("bench-{}-{}", std::process::id(), PART.fetch_add(1, Ordering::Relaxed));
    Ok(Subject { generator: Generator::new(address, wire)?, process, room_prefix })
}

/// One loop on one core, then two loops on all of them.
fn measure_cores(scale: &Scale, cores: Option<(usize, usize)>) -> Result<workloads::Measured, Failure> {
    let one = ServerProcess::start("bench-serve", cores.map(|(server, _)| server))?;
    let one = workloads::saturated_rooms(&mut subject(Some(one), None, None)?, scale)?;
    let two = match cores {
        None => ServerProcess::start_with("bench-serve", None, 2)?,
        Some((server, own)) => {
            let moved =
                |cores: &[usize]| system::stay_on(cores).map_err(|error| Failure::system("changing cores", &error));
            moved(&[server, own])?;
            let two = ServerProcess::start_with("bench-serve", None, 2);
            moved(&[own])?;
            two?
        }
    };
    let two = workloads::saturated_rooms(&mut subject(Some(two), None, None)?, scale)?;
    Ok(workloads::compare_cores(scale, &one, &two))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_replaces_what_is_between_the_markers_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("sstore-bench-markers-{}", std::process::id()));
        let [begin, end] = MARKERS;
        std::fs::write(&path, format!("# Head\n{begin}\nold\n{end}\ntail\n")).unwrap();
        assert_eq!(between_markers(&path, "new\n"), format!("# Head\n{begin}\n\nnew\n\n{end}\ntail\n"));
        std::fs::write(&path, "no markers").unwrap();
        assert_eq!(between_markers(&path, "new\n"), "new\n");
        std::fs::remove_file(&path).unwrap();
    }
}
