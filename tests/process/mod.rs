//! Programs as processes: started, read line by line, waited for. Every wait ends after
//! [`PATIENCE`] with a sentence, and nothing that was started outlives its test.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Longest wait for anything; far beyond what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// `sstore` with these arguments and nothing in its environment.
pub fn sstore(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sstore"));
    command.args(arguments).env_clear();
    command
}

/// A program that runs, with its output as lines.
pub struct Running {
    name: String,
    child: Option<Child>,
    pub stdin: Option<ChildStdin>,
    pub stdout: Lines,
    pub stderr: Lines,
}

/// The lines of one stream.
pub struct Lines {
    name: String,
    lines: Receiver<String>,
    /// All that came, also what was not waited for.
    all: Arc<Mutex<String>>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }
}

impl Lines {
    fn of(name: String, stream: impl Read + Send + 'static) -> Lines {
        let (sender, lines) = channel();
        let all = Arc::new(Mutex::new(String::new()));
        let kept = all.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).into_owned();
                kept.lock().expect("lines").push_str(&text);
                line.clear();
                // The test may have stopped reading.
                let _ = sender.send(text.trim_end_matches('\n').to_owned());
            }
        });
        Lines { name, lines, all }
    }

    /// The next line.
    pub fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => panic!("{}: no line came in time", self.name),
            RecvTimeoutError::Disconnected => panic!("{}: ended where a line was to come", self.name),
        })
    }

    /// The next line that has this in it; others are passed over.
    pub fn with(&self, part: &str) -> String {
        loop {
            let line = self.next();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// All that came so far.
    pub fn so_far(&self) -> String {
        self.all.lock().expect("lines").clone()
    }

    /// Waits for the end of the stream and gives all of it.
    fn rest(&self) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.all.lock().expect("lines").clone(),
                Err(RecvTimeoutError::Timeout) => panic!("{}: did not end in time", self.name),
            }
        }
    }
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let name = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let stdin = child.stdin.take();
        let stdout = Lines::of(format!("stdout of {name}"), child.stdout.take().expect("stdout"));
        let stderr = Lines::of(format!("stderr of {name}"), child.stderr.take().expect("stderr"));
        Running { name, child: Some(child), stdin, stdout, stderr }
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().expect("kill");
        assert!(status.success(), "{} takes no signal", self.name);
    }

    /// Writes a line to its stdin.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("an open stdin");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("a program that reads");
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        drop(self.stdin.take());
        let mut child = self.child.take().expect("running");
        let id = child.id();
        let (sender, ended) = channel();
        thread::spawn(move || sender.send(child.wait()));
        let status = match ended.recv_timeout(PATIENCE) {
            Ok(status) => status.expect("a status"),
            Err(_) => {
                let _ = Command::new("kill").arg("-KILL").arg(id.to_string()).status();
                panic!("{} did not end in time; stderr: {}", self.name, self.stderr.all.lock().expect("lines"));
            }
        };
        Ended { status, stdout: self.stdout.rest(), stderr: self.stderr.rest() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a program to its end.
pub fn run(command: Command) -> Ended {
    Running::start(command).end()
}

/// A server of this test, as a process.
pub struct Serving {
    pub process: Running,
    pub url: String,
}

impl Serving {
    pub fn start(arguments: &[&str]) -> Serving {
        let mut command = sstore(&["serve", "--port", "0"]);
        command.args(arguments);
        Serving::command(command)
    }

    pub fn command(command: Command) -> Serving {
        let process = Running::start(command);
        let url = process.stdout.next();
        assert!(url.starts_with("ws://127.0.0.1:") || url.starts_with("wss://127.0.0.1:"), "{url}");
        Serving { process, url }
    }

    /// `sstore` in room `r` of this server.
    pub fn sstore(&self, arguments: &[&str]) -> Command {
        let mut command = sstore(arguments);
        command.env("SSTORE_URL", &self.url).env("SSTORE_ROOM", "r");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        run(self.sstore(arguments))
    }

    /// Runs something that has to work, and gives its output.
    pub fn output(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code(), 0, "{arguments:?}: {ended:?}");
        ended.stdout
    }

    /// Somebody who stays in room `r`, so that its store does.
    pub fn watch(&self, arguments: &[&str]) -> Running {
        let mut command = self.sstore(&["watch"]);
        command.args(arguments);
        Running::start(command)
    }

    /// Stops the server as an administrator does.
    pub fn stop(self) -> Ended {
        self.process.signal("TERM");
        self.process.end()
    }
}
