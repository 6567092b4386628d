//! How a connection is opened, and the ways that can fail.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{lookup_host, TcpStream};
use tokio_tungstenite::client_async_with_config;
use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::http::header::{AUTHORIZATION, CONTENT_LENGTH, RETRY_AFTER};
use tungstenite::http::{HeaderMap, HeaderValue, StatusCode};
use tungstenite::protocol::WebSocketConfig;

use super::api::Shared;
use super::dispatch::lock;
use super::options::Address;
use super::socket::{Socket, Stream};
use super::tls;
use crate::core::replica::Replica;
use crate::core::wire;
use crate::{Error, ErrorCode};

/// A listen set that would make the URL longer is sent as a message instead: servers and proxies bound the head of a
/// request, usually at 8 KiB, and a token and other headers come on top. What is escaped takes three bytes each.
const MAX_URL_BYTES: usize = 6 * 1_024;

/// The body of a refusal of this server's has no more.
const MAX_REFUSAL_BYTES: usize = 4_096;

/// So long the body of a refusal is waited for, which tells more than its status.
const REFUSAL_WITHIN: Duration = Duration::from_secs(1);

/// An address of a host that has several is not the only one tried any more after so long: some are led nowhere, such
/// as IPv6 where only the router next to the device knows it, and say so only after minutes (RFC 8305, 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// The buffers of a handshake: its request and the answer's head fit.
const HANDSHAKE_BYTES: usize = 4_096;

/// An open connection.
pub(crate) struct Opened {
    pub(crate) socket: Socket,
    /// Whether the listen set went with the handshake.
    pub(crate) listening: bool,
}

/// Opens a connection and joins by its query, with the listen set if it is short enough.
pub(crate) async fn open(shared: &Shared, token: Option<&str>, join_id: u64, set: &ListenSet) -> Result<Opened, Error> {
    let timeout_ms = shared.options.connect_timeout_ms;
    match tokio::time::timeout(Duration::from_millis(timeout_ms), connect(shared, token, join_id, set)).await {
        Ok(opened) => opened,
        Err(_) => {
            let message = format!("no connection within {timeout_ms} ms");
            Err(Error::new(ErrorCode::ConnectionFailed, message))
        }
    }
}

async fn connect(shared: &Shared, token: Option<&str>, join_id: u64, set: &ListenSet) -> Result<Opened, Error> {
    let stream = reach(&shared.address).await?;
    // Small messages are sent as they come.
    let _ = stream.set_nodelay(true);
    let stream = match &shared.address.trust {
        None => Stream::Tcp(stream),
        Some(trust) => Stream::Tls(Box::new(trust.connect(bare(&shared.address.host), stream).await?)),
    };
    let listening = set.keys.len() + set.prefixes.len() <= MAX_URL_BYTES;
    let whole = listening.then(|| joining_url(shared, join_id, Some(set))).filter(|url| url.len() <= MAX_URL_BYTES);
    let listening = whole.is_some();
    let url = whole.unwrap_or_else(|| joining_url(shared, join_id, None));
    let unusable = |_| Error::new(ErrorCode::InvalidUrl, "the URL cannot be requested");
    let mut request = url.into_client_request().map_err(unusable)?;
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| Error::from(ErrorCode::Unauthorized))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let config = WebSocketConfig::default().read_buffer_size(HANDSHAKE_BYTES).write_buffer_size(HANDSHAKE_BYTES);
    let mut stream = Recorded { stream, read: Vec::new() };
    match client_async_with_config(request, &mut stream, Some(config)).await.map(drop) {
        Ok(()) => {
            let Recorded { stream, read } = stream;
            // The server may have said more already.
            let early = read.windows(4).position(|bytes| bytes == b"\r\n\r\n").and_then(|end| read.get(end + 4..));
            Ok(Opened { socket: Socket::new(stream, early.unwrap_or_default().to_vec()), listening })
        }
        Err(tungstenite::Error::Http(mut response)) => {
            let mut body = response.body_mut().take().unwrap_or_default();
            let rest = rest_of_body(&mut stream.stream, response.headers(), &mut body);
            // Without its end it counts by its status.
            let _ = tokio::time::timeout(REFUSAL_WITHIN, rest).await;
            Err(refusal(response.status(), response.headers(), &body))
        }
        // A server tells what it thinks of a client's certificate only after the client's last word.
        Err(tungstenite::Error::Io(error)) => Err(tls::explain(&error).unwrap_or_else(closed_early)),
        Err(tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete)) => Err(closed_early()),
        Err(_) => Err(ErrorCode::HandshakeFailed.into()),
    }
}

fn closed_early() -> Error {
    Error::new(ErrorCode::ConnectionFailed, "the server closed the connection during the handshake")
}

/// Reads what is still to come of an answer's body: it may arrive after the head.
async fn rest_of_body(stream: &mut Stream, headers: &HeaderMap, body: &mut Vec<u8>) {
    let length = headers.get(CONTENT_LENGTH).and_then(number).map_or(0, |length| length.min(MAX_REFUSAL_BYTES as u64));
    let missing = length.saturating_sub(body.len() as u64);
    let _ = stream.take(missing).read_to_end(body).await;
}

/// A header that is a number.
fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.trim().parse().ok()
}

/// Keeps what was read, of which the handshake takes the head and would drop the rest.
struct Recorded {
    stream: Stream,
    read: Vec<u8>,
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.read.extend_from_slice(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The address with a query that joins, and listens if there are keys: to what is new since a revision, if one is
/// known.
fn joining_url(shared: &Shared, join_id: u64, set: Option<&ListenSet>) -> String {
    let Shared { options, address, .. } = shared;
    let mut query = form_urlencoded::Serializer::new(String::new());
    let (name, metadata) = {
        let status = lock(&shared.status);
        (status.name.clone(), status.metadata.clone())
    };
    let given = [
        ("room", &*options.room),
        ("role", &*options.role),
        ("name", &*name),
        ("user_id", &*options.user_id),
        ("peer", &*options.peer_id),
        ("data", &*metadata),
    ];
    for (name, value) in given.into_iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    query.append_pair("join", &join_id.to_string());
    query.append_pair("secret", &shared.secret.to_hex());
    if let Some(set) = set {
        query.append_pair("listen", &String::from_utf8_lossy(&set.keys));
        if set.prefixes != b"[]" {
            query.append_pair("prefixes", &String::from_utf8_lossy(&set.prefixes));
        }
        if let Some(revision) = set.since {
            query.append_pair("session", &lock(&shared.status).session_id);
            query.append_pair("since", &revision.to_string());
        }
    }
    let scheme = if address.trust.is_some() { "wss" } else { "ws" };
    format!("{scheme}://{}:{}{}?{}", address.host, address.port, address.path, query.finish())
}

/// A host without the brackets that IPv6 addresses have in URLs.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn reach(address: &Address) -> Result<TcpStream, Error> {
    let host = bare(&address.host);
    let unknown = || Error::new(ErrorCode::HostNotFound, format!("the host name {host} does not resolve"));
    let found = lookup_host((host, address.port)).await.map_err(|_| unknown())?;
    first_reached(found).await.unwrap_or_else(|| Err(unknown()))
}

/// A connection to the first of these addresses that takes it, or why the last does not; `None` if there are none. They
/// are tried in their order, each with a head start.
async fn first_reached(mut candidates: impl Iterator<Item = SocketAddr>) -> Option<Result<TcpStream, Error>> {
    let mut failed = None;
    let mut attempts = FuturesUnordered::new();
    let mut next = candidates.next();
    loop {
        if let Some(candidate) = next.take() {
            attempts.push(TcpStream::connect(candidate).map(move |reached| (candidate, reached)));
        } else if attempts.is_empty() {
            return failed;
        }
        tokio::select! {
            Some((candidate, reached)) = attempts.next() => match reached {
                Ok(stream) => return Some(Ok(stream)),
                Err(error) => {
                    let message = format!("{candidate} cannot be reached: {}", error.kind());
                    failed = Some(Err(Error::new(ErrorCode::ConnectionFailed, message)));
                    next = candidates.next();
                }
            },
            () = tokio::time::sleep(HEAD_START) => next = candidates.next(),
        }
    }
}

/// What an answer other than a WebSocket says, and when to come back: a proxy tells that with a header only.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let error = refused_because(status, body);
    match headers.get(RETRY_AFTER).and_then(number) {
        Some(seconds) if error.retry_after_ms().is_none() => error.with_retry_after_ms(seconds.saturating_mul(1_000)),
        _ => error,
    }
}

/// The server's own code where it sent one, or the one that fits the HTTP status.
fn refused_because(status: StatusCode, body: &[u8]) -> Error {
    #[derive(serde::Deserialize)]
    struct Body {
        code: i32,
        message: String,
        retry_after_ms: Option<u64>,
    }
    if status == StatusCode::NOT_FOUND {
        let message = "there is nothing at this path (HTTP status 404); a SessionStore server answers at /ws";
        return Error::new(ErrorCode::HandshakeFailed, message);
    }
    if let Ok(Body { code, message, retry_after_ms }) = serde_json::from_slice::<Body>(body) {
        if let Some(code) = ErrorCode::from_number(code) {
            let error = Error::new(code, message);
            return match retry_after_ms {
                Some(time) => error.with_retry_after_ms(time),
                None => error,
            };
        }
    }
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorCode::Unauthorized.into(),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => ErrorCode::ServerFull.into(),
        status => {
            let message = format!("the server answered the handshake with HTTP status {}", status.as_u16());
            Error::new(ErrorCode::HandshakeFailed, message)
        }
    }
}

/// What a close frame says, if it says something a client must know. The reason counts where a person gave it.
pub(crate) fn closed_because(code: Option<u16>, reason: &str) -> Error {
    let code = match code {
        Some(1012) => ErrorCode::ShuttingDown,
        Some(number @ 4000..=4999) => {
            ErrorCode::from_number(i32::from(number) - 4000).unwrap_or(ErrorCode::ConnectionLost)
        }
        _ => ErrorCode::ConnectionLost,
    };
    match code {
        ErrorCode::Kicked | ErrorCode::RoomClosed if !reason.is_empty() => {
            Error::new(code, format!("{} The reason given: {reason}", code.advice()))
        }
        code => code.into(),
    }
}

/// Whether trying again cannot help.
pub(crate) fn is_final(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::Unauthorized
            | ErrorCode::TokenExpired
            | ErrorCode::Replaced
            | ErrorCode::Kicked
            | ErrorCode::RoomClosed
            | ErrorCode::PeerMismatch
            | ErrorCode::InvalidRoom
            | ErrorCode::InvalidPeer
            | ErrorCode::InvalidUrl
    )
}

/// The keys and prefixes a client listens to, each as a JSON array, as the query has them.
pub(crate) struct ListenSet {
    keys: Vec<u8>,
    prefixes: Vec<u8>,
    /// The revision of this session up to which everything about them is known.
    since: Option<u64>,
}

impl ListenSet {
    pub(crate) fn of(replica: &Replica) -> ListenSet {
        let since = replica.known_up_to();
        let mut set = ListenSet { keys: Vec::new(), prefixes: Vec::new(), since };
        wire::write_key_array(&mut set.keys, replica.listen_set());
        wire::write_key_array(&mut set.prefixes, replica.prefixes());
        set
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    #[test]
    fn an_address_that_leads_nowhere_does_not_keep_from_the_next() {
        /// Far below what the system waits for an answer.
        const SAFETY: Duration = Duration::from_secs(30);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let here = || "127.0.0.1:0".parse().unwrap();
            let bind = |backlog| {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(here()).unwrap();
                socket.listen(backlog).unwrap()
            };
            // Once so many wait as it has places for, it does not answer at all.
            let (silent, good) = (bind(0), bind(8));
            let (nowhere, there) = (silent.local_addr().unwrap(), good.local_addr().unwrap());
            let mut waiting = Vec::new();
            while let Ok(stream) = tokio::time::timeout(HEAD_START, TcpStream::connect(nowhere)).await {
                waiting.push(stream.unwrap());
            }
            let reached = tokio::time::timeout(SAFETY, first_reached([nowhere, there].into_iter())).await;
            assert_eq!(reached.unwrap().unwrap().unwrap().peer_addr().unwrap(), there);
            drop(good);
            let refused = first_reached([there, there].into_iter()).await.unwrap();
            assert_eq!(refused.map(drop).unwrap_err(), ErrorCode::ConnectionFailed);
            assert!(first_reached([].into_iter()).await.is_none());
        });
    }
}
