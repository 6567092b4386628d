//! What a client is told when it is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tungstenite::http::Uri;

use super::tls::Trust;
use crate::core::names;
use crate::{Error, ErrorCode};

/// Something the client calls without arguments, from any thread.
pub type Hook = Arc<dyn Fn() + Send + Sync>;

/// Called on a client's own dispatch thread when it starts and just before it ends; a JNI host attaches
/// and detaches the thread here.
#[derive(Clone)]
pub struct ThreadHooks {
    /// Before the first callback.
    pub started: Hook,
    /// After the last callback.
    pub stopping: Hook,
}

/// How and where to join. Make it with [`ClientOptions::new`] and change what differs.
#[derive(Clone)]
pub struct ClientOptions {
    /// `ws://host:port`, or `wss://` for TLS; maybe with a path, without one it is `/ws`. Ports are 80 and 443
    /// if the URL has none. A server's certificate must always be for the host in the URL.
    pub url: String,
    /// The room. Empty when the token names it.
    pub room: String,
    /// A JWT for servers that ask for one; `None` for open servers. It is sent in a header.
    pub token: Option<String>,
    /// This peer's name, shown to others.
    pub name: String,
    /// The role asked of an open server; empty: the server's default.
    pub role: String,
    /// The user id told to an open server; empty: none.
    pub user_id: String,
    /// This peer's metadata, any text of at most 2,048 bytes.
    pub metadata: String,
    /// This peer's id; empty: a random UUID. It must not be used by two clients at once.
    pub peer_id: String,
    /// How long one request may take, in milliseconds. Default 10,000. A request made while the
    /// connection is down waits for it within this time.
    pub request_timeout_ms: u64,
    /// How long one attempt to connect may take until the room is joined, in milliseconds; a long list of peers that is
    /// arriving is waited for. Default 10,000.
    pub connect_timeout_ms: u64,
    /// Waiting time before the first attempt to reconnect, in milliseconds; doubled for each that
    /// fails, or whose connection does not last as long as was waited before it. The actual time is
    /// drawn between half of it and the whole. Default 250.
    pub reconnect_min_ms: u64,
    /// The longest waiting time between two attempts, in milliseconds. Default 10,000: three
    /// attempts within the usual grace period of 30 s even at the longest.
    pub reconnect_max_ms: u64,
    /// After how much silence the client pings the server, in milliseconds. Default 10,000. After
    /// as much again without an answer the connection counts as broken.
    pub heartbeat_ms: u64,
    /// Most requests that may wait for their answers. Default 1,024; more are refused with
    /// `QUEUE_FULL`.
    pub max_pending: usize,
    /// Whether a failure of the very first join closes the client, instead of trying on.
    pub fail_fast: bool,
    /// Authorities to trust instead of the system's, as a file of certificates in PEM: for servers whose
    /// certificate your own authority signed, and on systems whose authorities programs cannot list, such as
    /// Android and iOS. Like the other files it is read when the client is opened.
    pub ca_file: Option<PathBuf>,
    /// The certificate, in PEM, that this client shows to servers that ask for one (mutual TLS).
    pub client_cert_file: Option<PathBuf>,
    /// Its private key, in PEM and not encrypted.
    pub client_key_file: Option<PathBuf>,
    /// Poll mode: no dispatch thread; this hook is called, from any thread, when there is
    /// something for [`Client::poll`](super::Client::poll). It must return at once.
    pub wake: Option<Hook>,
    /// With hooks the client has a dispatch thread of its own, on which all its callbacks come. Not together with
    /// `wake`.
    pub thread_hooks: Option<ThreadHooks>,
}

impl ClientOptions {
    /// The options with every default.
    pub fn new(url: impl Into<String>, room: impl Into<String>) -> ClientOptions {
        ClientOptions {
            url: url.into(),
            room: room.into(),
            token: None,
            name: String::new(),
            role: String::new(),
            user_id: String::new(),
            metadata: String::new(),
            peer_id: String::new(),
            request_timeout_ms: 10_000,
            connect_timeout_ms: 10_000,
            reconnect_min_ms: 250,
            reconnect_max_ms: 10_000,
            heartbeat_ms: 10_000,
            max_pending: 1_024,
            fail_fast: false,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            wake: None,
            thread_hooks: None,
        }
    }

    /// Checks everything that can be checked without the network, and fills in the peer id.
    pub(crate) fn checked(mut self) -> Result<(ClientOptions, Address), Error> {
        let mut address = Address::parse(&self.url)?;
        if !(self.room.is_empty() && self.token.is_some()) {
            names::check_room(&self.room)?;
        }
        names::check_peer_name(&self.name)?;
        names::check_user_id(&self.user_id)?;
        names::check_peer_metadata(&self.metadata)?;
        if !self.role.is_empty() {
            names::check_role(&self.role)?;
        }
        if self.peer_id.is_empty() {
            self.peer_id = crate::ids::uuid()?;
        }
        names::check_peer_id(&self.peer_id)?;
        self.token.as_deref().map_or(Ok(()), check_token)?;
        let times = [self.request_timeout_ms, self.connect_timeout_ms, self.reconnect_min_ms, self.heartbeat_ms];
        if times.contains(&0) || self.reconnect_max_ms < self.reconnect_min_ms || self.max_pending == 0 {
            let message = "time-outs and max_pending must be above 0, and reconnect_max_ms not below reconnect_min_ms";
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        if self.wake.is_some() && self.thread_hooks.is_some() {
            let message =
                "in poll mode there is no dispatch thread, so a wake hook and thread hooks exclude each other";
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        let files = [&self.ca_file, &self.client_cert_file, &self.client_key_file];
        if address.is_secure {
            address.trust = Some(Trust::new(&self)?);
        } else if files.iter().any(|file| file.is_some()) {
            // Whoever gives them believes that the connection is secure.
            let message = "there are files for TLS, but the URL begins with ws://; write wss://, or leave them out";
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        Ok((self, address))
    }
}

/// A token must fit a header.
pub(crate) fn check_token(token: &str) -> Result<(), Error> {
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Unauthorized, "the token has characters a JWT cannot have"))
}

/// Where the server is, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
    is_secure: bool,
    /// Present when the URL asks for TLS.
    pub(crate) trust: Option<Trust>,
}

impl Address {
    fn parse(url: &str) -> Result<Address, Error> {
        let bad = |why: &str| Error::new(ErrorCode::InvalidUrl, format!("{why}; it looks like ws://host:port"));
        let uri: Uri = url.parse().map_err(|_| bad("the URL cannot be read"))?;
        let is_secure = match uri.scheme_str() {
            Some(scheme) if scheme.eq_ignore_ascii_case("ws") => false,
            Some(scheme) if scheme.eq_ignore_ascii_case("wss") => true,
            _ => return Err(bad("the URL must begin with ws:// or wss://")),
        };
        if uri.query().is_some() {
            return Err(bad("the URL must not have a query"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("the URL has no host"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(bad("the URL must not have a user name or password"));
        }
        let port = match uri.port_u16() {
            Some(0) => return Err(bad("port 0 cannot be connected to")),
            Some(port) => port,
            None if authority.ends_with(host) => {
                if is_secure {
                    443
                } else {
                    80
                }
            }
            None => return Err(bad("the port is not a number from 1 to 65535")),
        };
        let path = if uri.path() == "/" || uri.path().is_empty() { "/ws" } else { uri.path() };
        Ok(Address { host: host.to_owned(), port, path: path.to_owned(), is_secure, trust: None })
    }
}

/// Shows no token and no metadata.
impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("url", &self.url)
            .field("room", &self.room)
            .field("peer_id", &self.peer_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_build_without_tls_says_so() {
        let error = ClientOptions::new("wss://example.org", "r").checked().map(drop).unwrap_err();
        assert!(error == ErrorCode::InvalidUrl && error.message().contains("has no TLS"), "{error}");
    }

    #[test]
    fn addresses_are_read_or_refused_with_a_sentence() {
        let address = Address::parse("ws://example.org:7350").unwrap();
        assert_eq!((&*address.host, address.port, &*address.path), ("example.org", 7350, "/ws"));
        let address = Address::parse("ws://[::1]/rooms").unwrap();
        assert_eq!((&*address.host, address.port, &*address.path), ("[::1]", 80, "/rooms"));
        let address = Address::parse("wss://example.org/rooms").unwrap();
        assert_eq!((&*address.host, address.port, &*address.path), ("example.org", 443, "/rooms"));
        // As a phone's keyboard begins a line.
        assert!(Address::parse("Wss://example.org").unwrap().is_secure && !Address::parse("WS://h").unwrap().is_secure);
        for bad in [
            "",
            "host",
            "http://host",
            "ws://",
            "ws://h:0",
            "ws://h:99999",
            "ws://u:p@h",
            "ws://h/?a=b",
            "wss://",
            "WS//h",
        ] {
            assert_eq!(Address::parse(bad).unwrap_err(), ErrorCode::InvalidUrl, "{bad}");
        }
    }
}
