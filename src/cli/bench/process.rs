//! The servers under measurement, as processes of their own.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::system;
use crate::cli::output::tell;

/// A server that this program has started; it ends with this.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    address: SocketAddr,
    /// Removed with it.
    directory: Option<PathBuf>,
}

impl ServerProcess {
    /// Starts this program again with a hidden subcommand, on a core of its own if one is given.
    pub(crate) fn start(subcommand: &str, core: Option<usize>) -> Result<ServerProcess, Failure> {
        ServerProcess::start_with(subcommand, core, 1)
    }

    /// The same with so many threads.
    pub(crate) fn start_with(subcommand: &str, core: Option<usize>, threads: u32) -> Result<ServerProcess, Failure> {
        ServerProcess::start_itself(subcommand, core, &["--threads".into(), threads.to_string().into()])
    }

    /// Starts our server with a data directory of its own.
    pub(crate) fn start_kept(core: Option<usize>, fsync: bool) -> Result<ServerProcess, Failure> {
        let directory = new_directory("kept")?;
        let mut arguments: Vec<OsString> = vec!["--data-dir".into(), directory.clone().into()];
        arguments.extend(fsync.then(|| "--fsync".into()));
        let mut process = ServerProcess::start_itself("bench-serve", core, &arguments)?;
        process.directory = Some(directory);
        Ok(process)
    }

    /// Starts our server so that it writes to each socket with a system call of its own.
    pub(crate) fn start_without_io_uring(core: Option<usize>) -> Result<ServerProcess, Failure> {
        ServerProcess::start_itself("bench-serve", core, &["--no-io-uring".into()])
    }

    /// Starts the floor with so many bytes of state.
    pub(crate) fn start_floor_with(core: Option<usize>, state_bytes: usize) -> Result<ServerProcess, Failure> {
        ServerProcess::start_itself("bench-floor", core, &["--state-bytes".into(), state_bytes.to_string().into()])
    }

    fn start_itself(subcommand: &str, core: Option<usize>, more: &[OsString]) -> Result<ServerProcess, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::system("finding this program", &error))?;
        let mut command = Command::new(program);
        command.arg(subcommand).args(more).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(core) = core {
            command.args(["--core", &core.to_string()]);
        }
        let mut child = command.spawn().map_err(|error| Failure::system("starting the server", &error))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            // A server that dies leaves the line empty.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let Ok(port) = line.trim().parse() else {
            let _ = child.kill();
            let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            return Err(Failure::Server(format!("`sstore {subcommand}` did not say its port ({status})")));
        };
        Ok(ServerProcess { child, address: (Ipv4Addr::LOCALHOST, port).into(), directory: None })
    }

    /// Starts Redis, without persistence and with nothing held back, on the core of the servers.
    pub(crate) fn start_redis(cores: Option<(usize, usize)>) -> Result<ServerProcess, Failure> {
        ServerProcess::start_peer("redis-server", cores, |command, directory, port| {
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(directory);
            command.args(["--save", "", "--appendonly", "no", "--maxclients", "20000", "--logfile", "/dev/null"]);
            // A subscriber that reads late would be cut off.
            command.args(["--client-output-buffer-limit", "pubsub 0 0 0"]);
            Ok(())
        })
    }

    /// The same with Mosquitto.
    pub(crate) fn start_mosquitto(cores: Option<(usize, usize)>) -> Result<ServerProcess, Failure> {
        ServerProcess::start_peer("mosquitto", cores, |command, directory, port| {
            let text = format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
                 max_queued_messages 0\nmax_inflight_messages 0\nlog_dest none\nuser root\n"
            );
            let file = directory.join("mosquitto.conf");
            std::fs::write(&file, text).map_err(|error| Failure::system("writing a configuration", &error))?;
            command.arg("-c").arg(file);
            Ok(())
        })
    }

    /// Starts a peer's program, which its Debian package is named after, on a port that the system picks.
    fn start_peer(
        program: &str,
        cores: Option<(usize, usize)>,
        configure: impl FnOnce(&mut Command, &Path, u16) -> Result<(), Failure>,
    ) -> Result<ServerProcess, Failure> {
        let directory = new_directory(program)?;
        // Free a moment ago; none of them can pick a port itself and say which.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = port.map_err(|error| Failure::system("finding a port", &error))?;
        let mut command = Command::new(program);
        configure(&mut command, &directory, address.port())?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A child stays where its parent is.
        let on_core = |core: Option<usize>| core.is_none_or(|core| system::stay_on(&[core]).is_ok());
        on_core(cores.map(|(server, _)| server));
        let child = command.spawn();
        on_core(cores.map(|(_, own)| own));
        let child = child.map_err(|error| {
            Failure::Resources(format!(
                "`{program}` cannot be started ({error}); on Debian it is in the package {program}"
            ))
        })?;
        let mut process = ServerProcess { child, address, directory: Some(directory) };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            let has_ended = process.child.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || began.elapsed() > Duration::from_secs(30) {
                return Err(Failure::Server(format!("`{program}` does not listen")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

fn new_directory(name: &str) -> Result<PathBuf, Failure> {
    let directory = std::env::temp_dir().join(format!("sstore-bench-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).map_err(|error| Failure::system("making a directory", &error))?;
    Ok(directory)
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

/// Prepares a child: its core, its descriptors, and its end when the parent is gone.
pub(crate) fn become_child(core: Option<usize>) {
    if let Some(core) = core {
        if let Err(error) = system::stay_on(&[core]) {
            tell(format_args!("sstore: cannot stay on core {core}: {error}; the figures will be less steady"));
        }
    }
    system::raise_descriptor_limit();
    std::thread::spawn(|| {
        // The parent holds the other end and writes nothing: the end of input is its end.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

/// Tells the parent, which waits for it, where the server listens.
pub(crate) fn announce(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{}", address.port())?;
    out.flush()
}
