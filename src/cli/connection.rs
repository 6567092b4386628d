//! How the subcommands that look into a room reach it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::credential::{Credential, PeerToken};
use super::exit::Failure;
use super::span::{above_zero, Span};
use super::DEFAULT_PORT;
use crate::{Client, ClientOptions, Error, ErrorCode, Store, UpdateListener};

/// How long leaving may take at the end of a subcommand. If it takes longer, the server notices
/// the closed connection and keeps the peer for the grace period.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArguments {
    /// The server
    #[arg(long, env = "SSTORE_URL", value_name = "URL", default_value_t = format!("ws://127.0.0.1:{DEFAULT_PORT}"))]
    url: String,
    /// The room; needed unless the token names it
    #[arg(long, env = "SSTORE_ROOM", value_name = "NAME")]
    room: Option<String>,
    #[command(flatten)]
    token: PeerToken,
    /// Trust the authorities in this file of certificates (PEM) instead of the system's, for wss://
    #[arg(long, env = "SSTORE_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The certificate (PEM) to show to a server that asks for one
    #[arg(long, env = "SSTORE_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The private key (PEM) of that certificate
    #[arg(long, env = "SSTORE_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// The name that others in the room see
    #[arg(long, value_name = "NAME", default_value = "sstore")]
    name: String,
    /// How long to wait for the server, in all
    #[arg(long, value_name = "TIME", value_parser = above_zero, default_value_t = Span::from_ms(10_000))]
    timeout: Span,
}

/// A room that was joined. Leaving it is the caller's last act.
pub(super) struct Connection {
    pub client: Client,
    pub store: Store,
    deadline: Instant,
}

impl ConnectionArguments {
    /// Joins the room. `fail_fast` gives up with the first failure; otherwise it is tried again
    /// until the time is over.
    pub(super) fn join(&self, fail_fast: bool, listener: impl UpdateListener + 'static) -> Result<Connection, Failure> {
        let token = self.token.0.as_ref().map(Credential::read).transpose()?;
        let room = match (&self.room, &token) {
            (Some(room), _) => room.clone(),
            (None, Some(_)) => String::new(),
            (None, None) => {
                return Err(Failure::usage("say which room: --room NAME, SSTORE_ROOM, or a token that names it"))
            }
        };
        let mut options = ClientOptions::new(&self.url, room);
        options.token = token;
        options.name = self.name.clone();
        options.ca_file = self.ca_file.clone();
        options.client_cert_file = self.client_cert.clone();
        options.client_key_file = self.client_key.clone();
        options.fail_fast = fail_fast;
        options.connect_timeout_ms = self.timeout.ms();
        options.request_timeout_ms = self.timeout.ms();
        let deadline = Instant::now() + self.timeout.duration();
        let client = Client::open(options, listener)?;
        let store = client.join_wait(self.timeout.duration())?;
        Ok(Connection { client, store, deadline })
    }

    /// Does one thing in the room and leaves it.
    pub(super) fn once<T>(&self, act: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Failure> {
        let connection = self.join(true, ())?;
        let outcome = act(&connection);
        connection.leave();
        Ok(outcome?)
    }
}

impl Connection {
    /// What is left of the time.
    pub(super) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Leaves, so that others do not have to wait for the grace period.
    pub(super) fn leave(self) {
        // What failed here, the server finds out by itself.
        let _ = self.client.leave().wait(LEAVE_WITHIN);
    }
}

/// A secret from a file, without the newline that editors put at its end.
pub(super) fn read_text(path: &Path, what: &str) -> Result<String, Failure> {
    let bad = |why: String| Failure::from(Error::new(ErrorCode::InvalidConfig, why));
    let bytes = std::fs::read(path)
        .map_err(|error| bad(format!("{what} cannot be read from {}: {}", path.display(), error.kind())))?;
    let text = String::from_utf8(bytes).map_err(|_| bad(format!("{} is not UTF-8", path.display())))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(bad(format!("{} is empty", path.display())));
    }
    Ok(text.to_owned())
}
