//! `sstore token`

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{ArgMatches, Args};

use super::exit::Failure;
use super::span::Span;
use super::{output, settings};
use crate::core::names;
use crate::server::token;
use crate::{Error, ErrorCode};

/// Make a token for a room
///
/// For trying things out, and for scripts: an application makes its tokens itself, where its users log in. The secret is that of
/// the server, in the environment variable SSTORE_SECRET or in a file. The token is printed on stdout.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The room it opens
    #[arg(long, env = "SSTORE_ROOM", value_name = "NAME")]
    room: String,
    /// Who the user is; others see it as the author of changes
    #[arg(long, value_name = "ID")]
    user: String,
    /// The role in the room
    #[arg(long, value_name = "ROLE", default_value = "guest")]
    role: String,
    /// How long it lasts, from 1s on
    #[arg(long, value_name = "TIME", default_value_t = Span::from_ms(3_600_000))]
    lifetime: Span,
    /// File with the secret that tokens are signed with
    #[arg(long, env = "SSTORE_SECRET_FILE", value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, matches: Option<&ArgMatches>) -> Result<(), Failure> {
    let Arguments { room, user, role, lifetime, secret_file } = arguments;
    names::check_room(room)?;
    names::check_user_id(user)?;
    names::check_role(role)?;
    let seconds = lifetime.duration().as_secs();
    if seconds == 0 {
        return Err(Failure::usage("a token lasts 1s at least"));
    }
    let matches = matches.ok_or_else(|| Failure::from(Error::from(ErrorCode::Internal)))?;
    let secret = settings::SECRET.read(secret_file.as_deref(), matches)?.filter(|secret| !secret.is_empty());
    let secret = secret.ok_or_else(|| {
        Failure::usage("there is no secret to sign with; set SSTORE_SECRET, or name its file with --secret-file")
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| Error::from(ErrorCode::Internal))?;
    output::print_line(&token::sign(&secret, room, user, role, now.as_secs() + seconds)?)
}
