//! The command line program `sstore`: its subcommands, and what their exit codes mean.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod bench;

#[derive(Debug, Parser)]
#[command(name = "sstore", version, about = "A shared realtime key-value store for everyone in a room")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure a server against a floor without a store, in one run.
    Bench(bench::Arguments),
    /// The floor of `bench`, as a process of its own.
    #[command(hide = true)]
    BenchFloor(bench::ChildArguments),
    /// The server of `bench`, as a process of its own.
    #[command(hide = true)]
    BenchServe(bench::ChildArguments),
}

/// Runs the subcommand that the process's arguments name, and gives its exit code.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::BenchFloor(arguments) => bench::run_floor(&arguments),
        Command::BenchServe(arguments) => bench::run_server(&arguments),
    }
}
