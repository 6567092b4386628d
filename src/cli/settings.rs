//! What `sstore serve` can be told: each setting once, for the flag, the environment and the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use serde::Deserialize;

use super::connection::read_text;
use super::exit::Failure;
use super::logs::{Filter, LogFormat};
use super::span::Span;
use super::DEFAULT_PORT;
use crate::core::rules::Rules;
use crate::{Error, ErrorCode, Limits, ServerOptions, TlsOptions, WebhookOptions};

/// Where a secret may be found, beside a file.
pub(super) struct Secret {
    /// The environment variable with the secret itself. It is no flag: arguments are public.
    variable: &'static str,
    /// The setting with the name of a file; its environment variable is the other with `_FILE`.
    setting: &'static str,
    what: &'static str,
}

/// What peers' tokens are signed with.
pub(super) const PEERS: Secret = Secret { variable: "SSTORE_SECRET", setting: "secret_file", what: "the secret" };

/// What the tokens of operators and back ends are signed with.
pub(super) const OPERATORS: Secret =
    Secret { variable: "SSTORE_API_SECRET", setting: "api_secret_file", what: "the API secret" };

/// What webhooks are signed with.
const WEBHOOKS: Secret =
    Secret { variable: "SSTORE_WEBHOOK_SECRET", setting: "webhook_secret_file", what: "the webhooks' secret" };

macro_rules! settings {
    ($( $(#[$attribute:meta])* $name:ident: $type:ty, )*) => {
        /// Every setting, from the flags, the environment or the defaults.
        #[derive(Debug, Args)]
        pub(super) struct Settings {
            $( $(#[$attribute])* pub $name: $type, )*
        }

        /// The same from a file, where each may be missing.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct FileSettings {
            $( $name: Option<$type>, )*
        }

        impl Settings {
            /// Takes from the file what neither a flag nor the environment says.
            fn fill(&mut self, file: FileSettings, matches: &ArgMatches) {
                $(
                    if let Some(value) = file.$name {
                        let source = matches.value_source(stringify!($name));
                        if !matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
                            self.$name = value;
                        }
                    }
                )*
            }

            #[cfg(test)]
            const NAMES: &[&str] = &[$( stringify!($name), )*];
        }
    };
}

settings! {
    /// IP address to listen on, or `localhost`; 0.0.0.0 is every IPv4 network
    #[arg(long, env = "SSTORE_ADDRESS", value_name = "IP", help_heading = "Listening", default_value_t = options().address)]
    address: String,
    /// Port; 0 takes any free one, and the line on stdout tells which
    #[arg(long, env = "SSTORE_PORT", value_name = "PORT", help_heading = "Listening", default_value_t = DEFAULT_PORT)]
    port: u16,
    /// Threads that serve rooms, each room on one of them; 0: one per core
    #[arg(long, env = "SSTORE_THREADS", value_name = "N", help_heading = "Listening", default_value_t = options().threads)]
    threads: usize,

    /// File with the server's certificate (PEM), followed by those between it and an authority that clients
    /// trust. With it and --tls-key the server speaks wss://. The files are read again on SIGHUP and when
    /// they change
    #[arg(long, env = "SSTORE_TLS_CERT", value_name = "FILE", help_heading = "TLS")]
    tls_cert: Option<PathBuf>,
    /// File with the private key (PEM) of that certificate
    #[arg(long, env = "SSTORE_TLS_KEY", value_name = "FILE", help_heading = "TLS")]
    tls_key: Option<PathBuf>,
    /// File with the authorities (PEM) of clients' certificates. With it every client must show a certificate
    /// that one of them signed
    #[arg(long, env = "SSTORE_TLS_CLIENT_CA", value_name = "FILE", help_heading = "TLS")]
    tls_client_ca: Option<PathBuf>,

    /// File with the secret that tokens are signed with (HS256). The environment variable
    /// SSTORE_SECRET can have the secret itself; there is no flag for it, because other users of a
    /// machine can read the arguments of a process. Without a secret the server is open: everybody
    /// may join every room
    #[arg(long, env = "SSTORE_SECRET_FILE", value_name = "FILE", help_heading = "Who may join")]
    secret_file: Option<PathBuf>,

    /// File with the secret that the tokens of operators and back ends are signed with (HS256), another than that of
    /// peers. With it the server has an HTTP API under /v1; see docs/http-api.md. The environment variable
    /// SSTORE_API_SECRET can have the secret itself
    #[arg(long, env = "SSTORE_API_SECRET_FILE", value_name = "FILE", help_heading = "Operators")]
    api_secret_file: Option<PathBuf>,

    /// Serve the inspector at /inspect/: a page on which people look into rooms, with a token of `sstore token --api`.
    /// Needs the secret of operators; see docs/inspector.md
    #[arg(long, env = "SSTORE_INSPECT", help_heading = "Operators")]
    inspect: bool,

    /// Web page that may connect, by its origin, such as `https://example.org`; may be given several times, in the
    /// environment with commas. Without one all pages may. Programs that are no browsers always may
    #[arg(long, env = "SSTORE_ALLOW_ORIGIN", value_name = "ORIGIN", help_heading = "Who may join", value_delimiter = ',')]
    allow_origin: Vec<String>,

    /// Where clients reach this server, when that is not where it listens: behind a proxy, say
    /// `https://rooms.example.org`. Handed out by /init, which the hosted original's web client asks first
    #[arg(long, env = "SSTORE_PUBLIC_URL", value_name = "URL", help_heading = "Listening")]
    public_url: Option<String>,

    /// TOML file with rules: which roles may read, write, create, remove and lock what; see
    /// docs/rules.md. Without one everybody may do everything. SIGHUP reads it again; if it has an error,
    /// the old rules stay in force
    #[arg(long, env = "SSTORE_RULES", value_name = "FILE", help_heading = "Who may do what")]
    rules: Option<PathBuf>,

    /// Directory in which rooms are kept, so that sessions go on after a restart and nothing that anybody was told
    /// is lost when the server is killed. It is made if it is not there, and belongs to one server at a time.
    /// Without one rooms live in memory
    #[arg(long, env = "SSTORE_DATA_DIR", value_name = "DIRECTORY", help_heading = "Keeping rooms")]
    data_dir: Option<PathBuf>,
    /// Wait for the disk before anybody is told anything: then nothing is lost when the machine loses power either
    #[arg(long, env = "SSTORE_FSYNC", help_heading = "Keeping rooms")]
    fsync: bool,

    /// Where it is told that rooms open and close, by signed requests; see docs/webhooks.md. Needs a secret
    #[arg(long, env = "SSTORE_WEBHOOK_URL", value_name = "URL", help_heading = "Webhooks", hide_env_values = true)]
    webhook_url: Option<String>,
    /// File with the secret that webhooks are signed with: `whsec_` and the base64 of 24 to 64 random bytes. The
    /// environment variable SSTORE_WEBHOOK_SECRET can have the secret itself
    #[arg(long, env = "SSTORE_WEBHOOK_SECRET_FILE", value_name = "FILE", help_heading = "Webhooks")]
    webhook_secret_file: Option<PathBuf>,
    /// File with the authorities (PEM) of the receiver's certificate, instead of those that the system trusts
    #[arg(long, env = "SSTORE_WEBHOOK_CA", value_name = "FILE", help_heading = "Webhooks")]
    webhook_ca: Option<PathBuf>,
    /// How long the receiver of a webhook may take to answer
    #[arg(long, env = "SSTORE_WEBHOOK_TIMEOUT", value_name = "TIME", help_heading = "Webhooks", default_value_t = Span::from_ms(webhook().timeout_ms))]
    webhook_timeout: Span,
    /// After what time a webhook that was not taken is sent again; then twice as long each time, up to an hour, for
    /// a day
    #[arg(long, env = "SSTORE_WEBHOOK_RETRY", value_name = "TIME", help_heading = "Webhooks", default_value_t = Span::from_ms(webhook().retry_ms))]
    webhook_retry: Span,

    /// Largest value, in bytes of compact JSON
    #[arg(long, env = "SSTORE_MAX_VALUE_BYTES", value_name = "BYTES", help_heading = "Rooms", default_value_t = limits().max_value_bytes)]
    max_value_bytes: usize,
    /// Most keys in a store
    #[arg(long, env = "SSTORE_MAX_KEYS", value_name = "N", help_heading = "Rooms", default_value_t = limits().max_keys)]
    max_keys: usize,
    /// Most bytes of keys and values together in a store
    #[arg(long, env = "SSTORE_MAX_STORE_BYTES", value_name = "BYTES", help_heading = "Rooms", default_value_t = limits().max_store_bytes)]
    max_store_bytes: usize,
    /// Most keys that one peer listens to
    #[arg(long, env = "SSTORE_MAX_LISTENED_KEYS", value_name = "N", help_heading = "Rooms", default_value_t = limits().max_listened_keys)]
    max_listened_keys: usize,
    /// Most rooms at once
    #[arg(long, env = "SSTORE_MAX_ROOMS", value_name = "N", help_heading = "Rooms", default_value_t = options().max_rooms)]
    max_rooms: usize,
    /// Most peers in a room
    #[arg(long, env = "SSTORE_MAX_PEERS", value_name = "N", help_heading = "Rooms", default_value_t = limits().max_peers)]
    max_peers: usize,
    /// How long a peer whose connection broke stays in its room
    #[arg(long, env = "SSTORE_GRACE", value_name = "TIME", help_heading = "Rooms", default_value_t = Span::from_ms(limits().grace_ms))]
    grace: Span,
    /// How long a store outlives its last peer
    #[arg(long, env = "SSTORE_LINGER", value_name = "TIME", help_heading = "Rooms", default_value_t = Span::from_ms(limits().linger_ms))]
    linger: Span,

    /// Most connections at once. Each needs a file descriptor: see `ulimit -Hn`
    #[arg(long, env = "SSTORE_MAX_CONNECTIONS", value_name = "N", help_heading = "Connections", default_value_t = options().max_connections)]
    max_connections: usize,
    /// Most connections from one IPv4 address, or one IPv6 network of 64 bits; 0: no limit of its own.
    /// Behind a proxy, all come from the proxy's address
    #[arg(long, env = "SSTORE_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", help_heading = "Connections", default_value_t = options().max_connections_per_address)]
    max_connections_per_address: usize,
    /// Requests that one peer may make per second, on average; 0: no limit
    #[arg(long, env = "SSTORE_MAX_REQUESTS_PER_SECOND", value_name = "N", help_heading = "Connections", default_value_t = options().max_requests_per_second)]
    max_requests_per_second: u32,
    /// Requests that one peer may make at once; 0: those of five seconds
    #[arg(long, env = "SSTORE_MAX_REQUEST_BURST", value_name = "N", help_heading = "Connections", default_value_t = options().max_request_burst)]
    max_request_burst: u32,
    /// Bytes that one peer may send per second, on average; 0: no limit
    #[arg(long, env = "SSTORE_MAX_REQUEST_BYTES_PER_SECOND", value_name = "BYTES", help_heading = "Connections", default_value_t = options().max_request_bytes_per_second)]
    max_request_bytes_per_second: u32,
    /// Largest message of a client, in bytes
    #[arg(long, env = "SSTORE_MAX_MESSAGE_BYTES", value_name = "BYTES", help_heading = "Connections", default_value_t = options().max_message_bytes)]
    max_message_bytes: usize,
    /// Bytes that wait for one slow connection before its changes fall back to the newest of each key
    #[arg(long, env = "SSTORE_QUEUE_BYTES", value_name = "BYTES", help_heading = "Connections", default_value_t = options().queue_bytes)]
    queue_bytes: usize,
    /// After how much silence a connection is pinged
    #[arg(long, env = "SSTORE_PING_INTERVAL", value_name = "TIME", help_heading = "Connections", default_value_t = Span::from_ms(options().ping_interval_ms))]
    ping_interval: Span,
    /// After how much silence a connection is closed
    #[arg(long, env = "SSTORE_IDLE_TIMEOUT", value_name = "TIME", help_heading = "Connections", default_value_t = Span::from_ms(options().idle_timeout_ms))]
    idle_timeout: Span,
    /// How long a new connection may take to ask for its room, and a request to the HTTP API for its body
    #[arg(long, env = "SSTORE_HANDSHAKE_TIMEOUT", value_name = "TIME", help_heading = "Connections", default_value_t = Span::from_ms(options().handshake_timeout_ms))]
    handshake_timeout: Span,
    /// How long connections are given to take what waits for them when the server stops
    #[arg(long, env = "SSTORE_SHUTDOWN_TIMEOUT", value_name = "TIME", help_heading = "Connections", default_value_t = Span::from_ms(options().shutdown_ms))]
    shutdown_timeout: Span,
    /// After what time clients are told to come back when the server stops; each at another, up to twice as late
    #[arg(long, env = "SSTORE_COME_BACK", value_name = "TIME", help_heading = "Connections", default_value_t = Span::from_ms(options().come_back_ms))]
    come_back: Span,

    /// Write to each socket with a system call of its own, instead of to many with one by io_uring, which takes less of
    /// the processor where the system allows it
    #[arg(long, env = "SSTORE_NO_IO_URING", help_heading = "Connections")]
    no_io_uring: bool,

    /// Count what the server does, and answer GET /metrics in Prometheus' text format, to whoever reaches the port;
    /// see docs/operate.md
    #[arg(long, env = "SSTORE_METRICS", help_heading = "Metrics")]
    metrics: bool,

    /// How log lines on stderr look
    #[arg(long, env = "SSTORE_LOG_FORMAT", value_name = "FORMAT", help_heading = "Logs", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: off, error, warn, info, debug, trace, or a list such as
    /// info,sessionstore::server=debug
    #[arg(long, env = "SSTORE_LOG_LEVEL", value_name = "FILTER", help_heading = "Logs", default_value_t = Filter::default())]
    log_level: Filter,
}

fn options() -> ServerOptions {
    ServerOptions::default()
}

fn webhook() -> WebhookOptions {
    WebhookOptions::new("", "")
}

fn limits() -> Limits {
    Limits::default()
}

fn invalid(message: String) -> Failure {
    Error::new(ErrorCode::InvalidConfig, message).into()
}

impl Settings {
    /// Adds what a file says.
    pub(super) fn read_file(&mut self, path: &Path, matches: &ArgMatches) -> Result<(), Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| invalid(format!("{shown} cannot be read: {}", error.kind())))?;
        let file: FileSettings = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            let line = before.matches('\n').count() + 1;
            invalid(format!("{shown}, line {line}: {}", error.message()))
        })?;
        self.fill(file, matches);
        Ok(())
    }

    /// What the rules file says, if there is one.
    pub(super) fn rules(&self) -> Result<Option<Arc<Rules>>, Failure> {
        let Some(path) = &self.rules else { return Ok(None) };
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| invalid(format!("{shown} cannot be read: {}", error.kind())))?;
        let rules = Rules::from_toml(&text).map_err(|error| invalid(format!("{shown}, {}", error.message())))?;
        Ok(Some(Arc::new(rules)))
    }

    /// The files for TLS, if there are any.
    fn tls(&self) -> Result<Option<TlsOptions>, Failure> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (certificate.clone(), key.clone());
                Ok(Some(TlsOptions { certificate, key, client_ca: self.tls_client_ca.clone() }))
            }
            (None, None) if self.tls_client_ca.is_none() => Ok(None),
            _ => Err(invalid("TLS needs both tls_cert and tls_key".into())),
        }
    }

    /// Who is told that rooms open and close, if anybody is.
    fn webhook(&self, matches: &ArgMatches) -> Result<Option<WebhookOptions>, Failure> {
        let Some(url) = &self.webhook_url else {
            let is_alone = self.webhook_secret_file.is_none() && self.webhook_ca.is_none();
            // The variable alone may be there for other servers.
            return if is_alone { Ok(None) } else { Err(invalid("webhooks need webhook_url".into())) };
        };
        let secret = WEBHOOKS.read(self.webhook_secret_file.as_deref(), matches)?;
        let Some(secret) = secret else {
            return Err(invalid("webhooks need webhook_secret_file, or SSTORE_WEBHOOK_SECRET".into()));
        };
        Ok(Some(WebhookOptions {
            ca: self.webhook_ca.clone(),
            timeout_ms: self.webhook_timeout.ms(),
            retry_ms: self.webhook_retry.ms(),
            ..WebhookOptions::new(url, secret)
        }))
    }

    /// What the server is started with.
    pub(super) fn server_options(&self, matches: &ArgMatches) -> Result<ServerOptions, Failure> {
        Ok(ServerOptions {
            address: self.address.clone(),
            port: self.port,
            secret: PEERS.read(self.secret_file.as_deref(), matches)?,
            api_secret: OPERATORS.read(self.api_secret_file.as_deref(), matches)?,
            inspect: self.inspect,
            rules: self.rules()?,
            tls: self.tls()?,
            allowed_origins: self.allow_origin.clone(),
            public_url: self.public_url.clone(),
            data_dir: self.data_dir.clone(),
            fsync: self.fsync,
            webhook: self.webhook(matches)?,
            limits: Limits {
                max_value_bytes: self.max_value_bytes,
                max_keys: self.max_keys,
                max_store_bytes: self.max_store_bytes,
                max_listened_keys: self.max_listened_keys,
                max_peers: self.max_peers,
                grace_ms: self.grace.ms(),
                linger_ms: self.linger.ms(),
            },
            threads: self.threads,
            ping_interval_ms: self.ping_interval.ms(),
            idle_timeout_ms: self.idle_timeout.ms(),
            handshake_timeout_ms: self.handshake_timeout.ms(),
            max_message_bytes: self.max_message_bytes,
            queue_bytes: self.queue_bytes,
            max_connections: self.max_connections,
            max_connections_per_address: self.max_connections_per_address,
            max_rooms: self.max_rooms,
            max_requests_per_second: self.max_requests_per_second,
            max_request_burst: self.max_request_burst,
            max_request_bytes_per_second: self.max_request_bytes_per_second,
            shutdown_ms: self.shutdown_timeout.ms(),
            come_back_ms: self.come_back.ms(),
            metrics: self.metrics,
            io_uring: !self.no_io_uring,
        })
    }
}

impl Secret {
    /// The secret, from the place that counts most: the flag, then the environment, then the file of settings.
    pub(super) fn read(&self, file: Option<&Path>, matches: &ArgMatches) -> Result<Option<String>, Failure> {
        let Secret { variable, setting, what } = *self;
        let source = matches.value_source(setting);
        let read = match std::env::var(variable) {
            Ok(secret) => Some(secret),
            Err(std::env::VarError::NotPresent) => None,
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(invalid(format!("{variable} is not UTF-8")));
            }
        };
        match (read, source) {
            (Some(_), Some(ValueSource::EnvVariable)) => {
                Err(invalid(format!("both {variable} and {variable}_FILE are set; keep one")))
            }
            (Some(secret), source) if source != Some(ValueSource::CommandLine) => Ok(Some(secret)),
            _ => file.map(|path| read_text(path, what)).transpose(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_setting() {
        let manual = include_str!("../../docs/operate.md");
        for name in Settings::NAMES {
            assert!(manual.contains(&format!("| `{name}` |")), "docs/operate.md lacks a row for {name}");
        }
    }
}
