//! `sstore token`

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use serde_json::json;

use super::exit::Failure;
use super::span::Span;
use super::{output, settings};
use crate::core::names;
use crate::server::token;
use crate::{Error, ErrorCode};

/// Make a token for a room, or for the HTTP API
///
/// For trying things out, and for scripts: an application makes its tokens itself, where its users log in. The secret is that of
/// the server, in the environment variable SSTORE_SECRET or in a file; with --api, SSTORE_API_SECRET. The token is printed on
/// stdout.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The room it opens; with --api, the only room it is for
    #[arg(long, env = "SSTORE_ROOM", value_name = "NAME", required_unless_present = "api")]
    room: Option<String>,
    /// Who the user is; others see it as the author of changes
    #[arg(long, value_name = "ID", required_unless_present = "api")]
    user: Option<String>,
    /// The role in the room [default: guest]; with --api, whose rights to keys it has [default: all]
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// How long it lasts, from 1s on
    #[arg(long, value_name = "TIME", default_value_t = Span::from_ms(3_600_000))]
    lifetime: Span,
    /// File with the secret that tokens are signed with
    #[arg(long, env = "SSTORE_SECRET_FILE", value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Make a token for operators and back ends: for the HTTP API and the inspector
    #[arg(long)]
    api: bool,
    /// What that token may; with commas between
    #[arg(long, value_name = "SCOPES", requires = "api", value_delimiter = ',', default_value = "read",
        value_parser = ["read", "write", "manage", "metrics"])]
    scope: Vec<String>,
    /// The name that others see beside what is written with that token
    #[arg(long, value_name = "NAME", requires = "api", default_value = "")]
    name: String,
    /// File with the secret that such tokens are signed with
    #[arg(long, env = "SSTORE_API_SECRET_FILE", value_name = "FILE")]
    api_secret_file: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, matches: Option<&ArgMatches>) -> Result<(), Failure> {
    let Arguments { room, user, role, lifetime, secret_file, api, scope, name, api_secret_file } = arguments;
    room.as_deref().map_or(Ok(()), names::check_room)?;
    user.as_deref().map_or(Ok(()), names::check_user_id)?;
    role.as_deref().map_or(Ok(()), names::check_role)?;
    names::check_peer_name(name)?;
    let seconds = lifetime.duration().as_secs();
    if seconds == 0 {
        return Err(Failure::usage("a token lasts 1s at least"));
    }
    let matches = matches.ok_or_else(|| Failure::from(Error::from(ErrorCode::Internal)))?;
    let is_from = |setting: &str, source: ValueSource| matches.value_source(setting) == Some(source);
    // Otherwise the token would be signed with another secret than the one that was named.
    if *api && is_from("secret_file", ValueSource::CommandLine) {
        return Err(Failure::usage("--secret-file is for tokens of peers; with --api it is --api-secret-file"));
    }
    if !*api && is_from("api_secret_file", ValueSource::CommandLine) {
        return Err(Failure::usage(
            "--api-secret-file is for tokens with --api; for those of peers it is --secret-file",
        ));
    }
    let (secret, advice) = if *api {
        let secret = settings::OPERATORS.read(api_secret_file.as_deref(), matches)?;
        (secret, "there is no secret to sign with; set SSTORE_API_SECRET, or name its file with --api-secret-file")
    } else {
        let secret = settings::PEERS.read(secret_file.as_deref(), matches)?;
        (secret, "there is no secret to sign with; set SSTORE_SECRET, or name its file with --secret-file")
    };
    let secret = secret.filter(|secret| !secret.is_empty()).ok_or_else(|| Failure::usage(advice))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| Error::from(ErrorCode::Internal))?;
    let exp = now.as_secs() + seconds;
    let mut claims = if *api {
        json!({"scope": scope.join(" "), "sub": user, "name": name, "room_id": room, "role": role, "exp": exp})
    } else {
        json!({"room_id": room, "user_id": user, "role": role.as_deref().unwrap_or("guest"), "exp": exp})
    };
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, claim| !claim.is_null());
    }
    if let (true, true, Some(room)) = (*api, is_from("room", ValueSource::EnvVariable), room) {
        output::tell(format_args!(
            "sstore: hint: this token is for the room {} only, because SSTORE_ROOM says so; to every other one it is blind",
            output::printable(room)
        ));
    }
    output::print_line(&token::sign(&secret, &claims)?)
}
