//! Exit codes, and the one line in which an error is told.

use std::fmt;
use std::io;
use std::process::ExitCode;

use super::output::{printable, tell};
use crate::{Error, ErrorCode};

/// What the exit code of a subcommand says. The numbers are for scripts and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    Refused = 1,
    Usage = 2,
    Network = 3,
    Token = 4,
    Absent = 5,
    // What sysexits.h calls EX_SOFTWARE.
    Fault = 70,
}

impl Exit {
    pub(super) const ALL: [Exit; 7] =
        [Exit::Done, Exit::Refused, Exit::Usage, Exit::Network, Exit::Token, Exit::Absent, Exit::Fault];

    pub(super) fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Refused => "the room or the server refused, and nothing was changed",
            Exit::Usage => "wrong arguments, configuration, key, JSON or URL",
            Exit::Network => {
                "the server cannot be reached or went away, or `serve` cannot listen or use its data directory"
            }
            Exit::Token => "the token is missing, wrong or expired",
            Exit::Absent => "`get`: the key is absent",
            Exit::Fault => "a fault of sstore, or the system refused memory, a thread or a descriptor",
        }
    }
}

/// The exit codes as `--help` shows them.
pub(super) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        text += &format!("  {:>2}  {}\n", exit as u8, exit.meaning());
    }
    text + "\n`bench` has its own; see `sstore bench --help`."
}

/// Why a subcommand did not do what it was asked.
#[derive(Debug)]
pub(super) struct Failure {
    pub exit: Exit,
    text: String,
}

impl Failure {
    pub(super) fn usage(text: impl Into<String>) -> Failure {
        Failure { exit: Exit::Usage, text: text.into() }
    }

    pub(super) fn absent(key: &str) -> Failure {
        Failure { exit: Exit::Absent, text: format!("the key {key} is absent") }
    }

    /// What could not be written, read or set up on this machine.
    pub(super) fn system(what: &str, error: &io::Error) -> Failure {
        Failure { exit: Exit::Fault, text: format!("{what}: {error}") }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let exit = match error.code() {
            ErrorCode::Unauthorized | ErrorCode::TokenExpired => Exit::Token,
            // What the room holds has another type than what was asked of it.
            ErrorCode::WrongType => Exit::Refused,
            // These are answers to what this program itself says.
            ErrorCode::UnknownMethod | ErrorCode::MalformedMessage => Exit::Fault,
            code => match code.number() {
                1..=99 => Exit::Usage,
                100..=199 => Exit::Network,
                200..=299 => Exit::Refused,
                _ => Exit::Fault,
            },
        };
        Failure { exit, text: error.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever the parts of it brought along.
        let mut lines = self.text.lines().map(str::trim).filter(|line| !line.is_empty());
        // And nothing that steers the terminal: a server may say anything.
        f.write_str(&printable(lines.next().unwrap_or("")))?;
        lines.try_for_each(|line| write!(f, " {}", printable(line)))
    }
}

/// Tells a failure on stderr and gives the exit code.
pub(super) fn code(outcome: Result<(), Failure>) -> ExitCode {
    let exit = match outcome {
        Ok(()) => Exit::Done,
        Err(failure) => {
            tell(format_args!("sstore: {failure}"));
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_exit_codes_that_scripts_rely_on() {
        for (code, number) in [
            (ErrorCode::InvalidJson, 2),
            (ErrorCode::InvalidConfig, 2),
            (ErrorCode::ConnectionFailed, 3),
            (ErrorCode::AddressInUse, 3),
            (ErrorCode::Unauthorized, 4),
            (ErrorCode::TokenExpired, 4),
            (ErrorCode::ValueTooLarge, 1),
            (ErrorCode::ServerFull, 1),
            (ErrorCode::WrongType, 1),
            (ErrorCode::Internal, 70),
            (ErrorCode::UnknownMethod, 70),
        ] {
            assert_eq!(Failure::from(Error::from(code)).exit as u8, number, "{code}");
        }
    }

    #[test]
    fn a_failure_is_one_line() {
        assert_eq!(Failure::usage("one\n  two\n\nthree\n").to_string(), "one two three");
        assert_eq!(Failure::usage("a\u{1b}[2J\nb").to_string(), "a\\u001b[2J b");
    }

    #[test]
    fn the_manual_has_every_exit_code() {
        let manual = include_str!("../../docs/cli.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit as u8, exit.meaning());
            assert!(manual.contains(&row), "docs/cli.md lacks the row {row}");
        }
    }
}
