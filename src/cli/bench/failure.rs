//! Why a benchmark ended early, as a sentence and an exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why a benchmark could not give its figures.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server lost, repeated or mixed up what it had to deliver, or refused it. Exit code 1.
    Wrong(String),
    /// What was asked for makes no sense. Exit code 2, as of clap.
    Usage(String),
    /// The server is not there, is no SessionStore server, or went away. Exit code 3.
    Server(String),
    /// This machine does not give what the benchmark needs, such as descriptors. Exit code 4.
    Resources(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Wrong(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Server(_) => 3,
            Failure::Resources(_) => 4,
        })
    }

    /// The failure of a system call made for `what`.
    pub(crate) fn system(what: &str, error: &io::Error) -> Failure {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Failure::Resources(format!(
                "{what}: too few file descriptors ({error}); raise the limit with `ulimit -n`"
            )),
            _ => Failure::Resources(format!("{what}: {error}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Wrong(text) | Failure::Usage(text) | Failure::Server(text) | Failure::Resources(text) => {
                f.write_str(text)
            }
        }
    }
}
