//! What is made of the definition of the arguments: `sstore completions`, and the manual pages that are installed.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use super::exit::Failure;
use super::output;

/// Print completions for a shell
///
/// Packages and `make install` put them where the shell looks. By hand, for bash:
/// `sstore completions bash >~/.local/share/bash-completion/completions/sstore`
#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell they are for
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual pages into a directory
#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// The directory, which is there
    directory: PathBuf,
}

pub(super) fn completions(arguments: &CompletionsArguments, command: &clap::Command) -> Result<(), Failure> {
    // clap_complete offers hidden subcommands too, so it is given the others only.
    let shown = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).cloned();
    let mut shown = clap::Command::new("sstore").version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut shown, "sstore", &mut script);
    output::print_line(String::from_utf8_lossy(&script).trim_end())
}

pub(super) fn man(arguments: &ManArguments, command: clap::Command) -> Result<(), Failure> {
    clap_mangen::generate_to(command, &arguments.directory)
        .map_err(|error| Failure::system("the manual pages cannot be written", &error))
}
