//! `sstore`: serves rooms, and looks into them from a terminal.

use std::process::ExitCode;

fn main() -> ExitCode {
    sessionstore::cli::main()
}
