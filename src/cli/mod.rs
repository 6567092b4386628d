//! The command line program `sstore`: its subcommands, and what their exit codes mean.
//!
//! | module | what it does |
//! |---|---|
//! | [`bench`] | `sstore bench` |
//! | `serve`, `settings`, `logs` | `sstore serve`: the server, what it is told, what it says |
//! | `get`, `set`, `remove`, `watch`, `lock`, `peers` | one subcommand each |
//! | `store` | `merge`, `touch`, `transact`, `keys`, `usage` |
//! | `rooms`, `operate` | `rooms`, `room`; `prepare`, `kick`, `close`, `unlock`: for operators, by the HTTP API |
//! | `write` | what those that write have in common |
//! | `top` | `sstore top` |
//! | `token` | `sstore token` |
//! | `made` | `completions`, and the manual pages |
//! | `connection` | how those reach a room, as peers |
//! | `credential` | the tokens that they show |
//! | `api`, `events` | how operators reach a server, and watch a room |
//! | `exit` | exit codes and the line an error is told with |
//! | `output`, `span`, `signals` | lines and JSON, times as people write them, SIGINT and SIGTERM |

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod api;
pub mod bench;
mod connection;
mod credential;
mod events;
mod exit;
mod get;
mod lock;
mod logs;
mod made;
mod operate;
mod output;
mod peers;
mod remove;
mod rooms;
mod serve;
mod set;
mod settings;
mod signals;
mod span;
mod store;
mod token;
mod top;
#[cfg(feature = "otel")]
mod traces;
#[cfg(not(feature = "otel"))]
#[path = "traces_absent.rs"]
mod traces;
mod watch;
mod write;

/// The port that `serve` listens on and the other subcommands connect to, unless they are told.
const DEFAULT_PORT: u16 = 7350;

#[derive(Debug, Parser)]
#[command(name = "sstore", version, about = "A shared realtime key-value store for everyone in a room")]
#[command(after_help = exit::help())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Arguments>),
    Get(get::Arguments),
    Set(set::Arguments),
    Remove(remove::Arguments),
    Merge(store::MergeArguments),
    Touch(store::TouchArguments),
    Transact(store::TransactArguments),
    Lock(lock::Arguments),
    Keys(store::KeysArguments),
    Usage(store::UsageArguments),
    Watch(watch::Arguments),
    Peers(peers::Arguments),
    Rooms(rooms::ListArguments),
    Room(rooms::ShowArguments),
    Prepare(operate::PrepareArguments),
    Kick(operate::KickArguments),
    Close(operate::CloseArguments),
    Unlock(operate::UnlockArguments),
    Top(top::Arguments),
    Token(token::Arguments),
    /// Measure a server against a floor without a store, in one run.
    Bench(bench::Arguments),
    Completions(made::CompletionsArguments),
    /// For `make install`.
    #[command(hide = true)]
    Man(made::ManArguments),
    /// The floor of `bench`, as a process of its own.
    #[command(hide = true)]
    BenchFloor(bench::ChildArguments),
    /// The server of `bench`, as a process of its own.
    #[command(hide = true)]
    BenchServe(bench::ChildArguments),
    /// The server of `bench growth`, as a process of its own.
    #[command(hide = true)]
    BenchGrowthServe(bench::ChildArguments),
}

/// Runs the subcommand that the process's arguments name, and gives its exit code.
pub fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let outcome = match arguments.command {
        Command::Serve(arguments) => serve::run(*arguments, matches.subcommand_matches("serve")),
        Command::Get(arguments) => get::run(&arguments),
        Command::Set(arguments) => set::run(&arguments),
        Command::Remove(arguments) => remove::run(&arguments),
        Command::Merge(arguments) => store::merge(&arguments),
        Command::Touch(arguments) => store::touch(&arguments),
        Command::Transact(arguments) => store::transact(&arguments),
        Command::Lock(arguments) => match lock::run(&arguments) {
            Ok(code) => return ExitCode::from(code),
            Err(failure) => Err(failure),
        },
        Command::Keys(arguments) => store::keys(&arguments),
        Command::Usage(arguments) => store::usage(&arguments),
        Command::Watch(arguments) => watch::run(&arguments),
        Command::Peers(arguments) => peers::run(&arguments),
        Command::Rooms(arguments) => rooms::list(&arguments),
        Command::Room(arguments) => rooms::show(&arguments),
        Command::Prepare(arguments) => operate::prepare(&arguments),
        Command::Kick(arguments) => operate::kick(&arguments),
        Command::Close(arguments) => operate::close(&arguments),
        Command::Unlock(arguments) => operate::unlock(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Token(arguments) => token::run(&arguments, matches.subcommand_matches("token")),
        Command::Bench(arguments) => return bench::run(&arguments),
        Command::Completions(arguments) => made::completions(&arguments, &Arguments::command()),
        Command::Man(arguments) => made::man(&arguments, Arguments::command()),
        Command::BenchFloor(arguments) => return bench::run_floor(&arguments),
        Command::BenchServe(arguments) => return bench::run_server(&arguments),
        Command::BenchGrowthServe(arguments) => return bench::growth::run_server(&arguments),
    };
    exit::code(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_arguments_holds_together() {
        Arguments::command().debug_assert();
    }
}
