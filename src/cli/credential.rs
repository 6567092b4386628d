//! A token that is given as it is or in a file, by a flag or in the environment.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::connection::read_text;
use super::exit::Failure;

/// Where a token is.
#[derive(Debug)]
pub(super) enum Credential {
    Text(String),
    File(PathBuf),
}

impl Credential {
    pub(super) fn read(&self) -> Result<String, Failure> {
        match self {
            Credential::Text(token) => Ok(token.clone()),
            Credential::File(path) => read_text(path, "the token"),
        }
    }
}

/// The one that counts of a token and of a file with it, which are the arguments of these names: a flag before the
/// environment, as everywhere. clap would refuse a flag for what the environment has beside it.
fn chosen(matches: &ArgMatches, text: &str, file: &str) -> Result<Option<Credential>, clap::Error> {
    // An empty variable is as good as none.
    let token = matches.get_one::<String>(text).filter(|token| !token.is_empty()).cloned().map(Credential::Text);
    let path = matches.get_one::<PathBuf>(file).cloned().map(Credential::File);
    let is_flag = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
    match (token, path) {
        (Some(token), Some(path)) => match (is_flag(text), is_flag(file)) {
            (true, false) => Ok(Some(token)),
            (false, true) => Ok(Some(path)),
            (is_flag, _) => {
                let [text, file] = [text, file].map(|name| match is_flag {
                    true => format!("--{}", name.replace('_', "-")),
                    false => format!("SSTORE_{}", name.to_uppercase()),
                });
                let message = format!("there are both {text} and {file}; keep one\n");
                Err(clap::Error::raw(ErrorKind::ArgumentConflict, message))
            }
        },
        (token, path) => Ok(token.or(path)),
    }
}

macro_rules! credential {
    ($(#[$attribute:meta])* $name:ident from $flags:ident: $text:ident, $file:ident) => {
        $(#[$attribute])*
        #[derive(Debug)]
        pub(super) struct $name(pub Option<Credential>);

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<$name, clap::Error> {
                chosen(matches, stringify!($text), stringify!($file)).map($name)
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = $name::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                $flags::augment_args(command)
            }

            fn augment_args_for_update(command: Command) -> Command {
                $flags::augment_args_for_update(command)
            }
        }
    };
}

/// The flags of a peer's token.
#[derive(Args)]
#[allow(dead_code)] // It describes them.
struct PeerFlags {
    /// The token, for servers that ask for one. Other users of this machine can read the arguments
    /// of a process: --token-file or the environment are better
    #[arg(long, env = "SSTORE_TOKEN", value_name = "JWT", hide_env_values = true)]
    token: Option<String>,
    /// Read the token from a file
    #[arg(long, env = "SSTORE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

credential! {
    /// The token of a peer.
    PeerToken from PeerFlags: token, token_file
}

/// The flags of an operator's.
#[derive(Args)]
#[allow(dead_code)] // It describes them.
struct OperatorFlags {
    /// The token of an operator, from `sstore token --api`. Other users of this machine can read the arguments of a
    /// process: --api-token-file or the environment are better
    #[arg(long, env = "SSTORE_API_TOKEN", value_name = "JWT", hide_env_values = true)]
    api_token: Option<String>,
    /// Read that token from a file
    #[arg(long, env = "SSTORE_API_TOKEN_FILE", value_name = "FILE")]
    api_token_file: Option<PathBuf>,
}

credential! {
    /// The token of an operator.
    OperatorToken from OperatorFlags: api_token, api_token_file
}
