//! The servers under measurement, as processes of their own.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use super::failure::Failure;
use super::system;

/// A server that this program has started; it ends with this.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts this program again with a hidden subcommand, on a core of its own if one is given.
    pub(crate) fn start(subcommand: &str, core: Option<usize>) -> Result<ServerProcess, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::system("finding this program", &error))?;
        let mut command = Command::new(program);
        command.arg(subcommand).stdin(Stdio::piped()).stdout(Stdio::piped());
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
        Ok(ServerProcess { child, address: (Ipv4Addr::LOCALHOST, port).into() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prepares a child: its core, its descriptors, and its end when the parent is gone.
pub(crate) fn become_child(core: Option<usize>) {
    if let Some(core) = core {
        if let Err(error) = system::stay_on_core(core) {
            eprintln!("sstore: cannot stay on core {core}: {error}; the figures will be less steady");
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
