//! New sockets: their request head is read, answered, or taken to the room it asks for.

use std::future::{poll_fn, Future};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::core::error::{Error, ErrorCode};

use super::connection::Reader;
use super::handshake::{self, Admission, Asked};
use super::http::{BadHead, Head, Response};
use super::metrics::{self, Refused};
use super::options::{ACCEPT_PAUSE_MS, ACCEPT_WARNING_MS, CLOSE_WAIT_MS, MAX_HEAD_BYTES};
use super::shard::{Shard, Ticket, ToShard};
use super::stream::Stream;
use super::tls::{Accepted, Tls};

/// Accepts until it is dropped.
pub(super) async fn accept(shard: Rc<Shard>, listener: std::net::TcpListener) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the listening socket cannot be used"),
    };
    let mut warned_at = None;
    loop {
        match listener.accept().await {
            Ok((socket, address)) => match shard.shared.ticket(address.ip()) {
                Ok(ticket) => drop(spawn_local(Guest::Newcomer(Box::pin(receive(shard.clone(), socket, ticket))))),
                Err(code) => shard.count_refusal(Refused::Handshake, code),
            },
            Err(error) if is_about_one_socket(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: others have to finish first.
                let now = shard.now();
                if warned_at.is_none_or(|at| now.saturating_sub(at) >= ACCEPT_WARNING_MS) {
                    warned_at = Some(now);
                    tracing::warn!(%error, "no connection can be accepted now");
                } else {
                    tracing::debug!(%error, "no connection can be accepted yet");
                }
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

fn is_about_one_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The task of a socket. One for all of its life, which for most begins with a handshake that needs more memory than
/// what follows: that is in a box, and given back.
enum Guest {
    Newcomer(Pin<Box<dyn Future<Output = Option<Reader>>>>),
    Connected(Reader),
}

impl Future for Guest {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Guest::Newcomer(handshake) = &mut *self {
            match ready!(handshake.as_mut().poll(context)) {
                Some(reader) => *self = Guest::Connected(reader),
                None => return Poll::Ready(()),
            }
        }
        match &mut *self {
            Guest::Connected(reader) => Pin::new(reader).poll(context),
            Guest::Newcomer(_) => Poll::Ready(()),
        }
    }
}

/// Reads what a new socket asks for, and answers. Returns how it goes on as a connection of a room of this loop.
async fn receive(shard: Rc<Shard>, socket: TcpStream, mut ticket: Ticket) -> Option<Reader> {
    // Linux hands the listener's setting down; one system call less for each connection.
    if cfg!(not(target_os = "linux")) {
        let _ = socket.set_nodelay(true);
    }
    let limit = Duration::from_millis(shard.options().handshake_timeout_ms);
    let received = async {
        let socket = match &shard.shared.tls {
            None => Stream::from(socket),
            // In a box, so that the tasks of plain sockets stay small.
            Some(tls) => match Box::pin(secure(&shard, tls, socket)).await? {
                Ok(socket) => socket,
                Err((socket, answer)) => return Ok((socket, Received::Answer(answer))),
            },
        };
        let received = read_head(&shard, &socket, &mut ticket).await?;
        io::Result::Ok((socket, received))
    };
    match timeout(limit, received).await {
        // Half a handshake, or none.
        Err(_) | Ok(Err(_)) => {}
        Ok(Ok((socket, Received::Answer(response)))) => {
            if let Some(code) = response.as_ref().and_then(|response| response.reason) {
                shard.count_refusal(Refused::Handshake, code);
            }
            let answer = response.map_or(Vec::new(), |response| response.bytes());
            let _ = timeout(limit.min(Duration::from_millis(CLOSE_WAIT_MS)), refuse(&shard, socket, &answer)).await;
        }
        #[cfg(feature = "http")]
        Ok(Ok((socket, Received::Api(read)))) => {
            if let (Ok(socket), Some(api)) = (socket.unbind(), &shard.shared.api) {
                // Fails when the server is stopping, and then the socket is closed.
                let _ = api.send(super::api::ToApi::Serve { socket, read, ticket });
            }
        }
        Ok(Ok((socket, Received::Admission(admission, rest)))) => {
            let home = shard.shared.shard_of(&admission.room);
            if home == shard.index {
                return shard.enter(socket, admission, rest, ticket);
            }
            if let (Ok(socket), Some(home)) = (socket.unbind(), shard.shared.shards.get(home)) {
                // Fails when that loop is stopping, and then the socket is closed.
                let _ = home.send(ToShard::Adopt { socket, admission, rest, ticket });
            }
        }
    }
    None
}

enum Received {
    /// None where TLS has said already what is wrong.
    Answer(Option<Response>),
    /// With what came after the head.
    Admission(Arc<Admission>, Vec<u8>),
    /// All that came, for the API.
    #[cfg(feature = "http")]
    Api(Vec<u8>),
}

/// Takes a socket through the handshake of TLS; or gives it back with what it is to be told.
async fn secure(shard: &Shard, tls: &Tls, socket: TcpStream) -> io::Result<Result<Stream, (Stream, Option<Response>)>> {
    Ok(match tls.accept(socket, shard.now()).await? {
        Accepted::Tls(socket) => Ok(socket),
        Accepted::Plain(socket) => {
            let message = "this server speaks TLS; use wss:// (or https://)";
            Err((socket, Some(Response::refusal(400, &Error::new(ErrorCode::TlsFailed, message)))))
        }
        Accepted::Refused(socket, error) => {
            shard.count_refusal(Refused::Handshake, ErrorCode::TlsFailed);
            tracing::debug!(%error, "a TLS handshake failed");
            Err((socket, None))
        }
    })
}

/// Reads until the head is complete. Only a head that comes in pieces is kept.
async fn read_head(shard: &Rc<Shard>, socket: &Stream, ticket: &mut Ticket) -> io::Result<Received> {
    let mut kept = Vec::new();
    poll_fn(|context| loop {
        let mut buffer = shard.buffer.borrow_mut();
        let read = ready!(socket.poll_read(context, &mut buffer))?;
        let read = &buffer[..read];
        if read.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let received = if kept.is_empty() {
            understand(shard, read, ticket)
        } else {
            kept.extend_from_slice(read);
            understand(shard, &kept, ticket)
        };
        if let Some(received) = received {
            return Poll::Ready(Ok(received));
        }
        if kept.is_empty() {
            kept.extend_from_slice(read);
        }
    })
    .await
}

/// What a head asks for; `None` when it is not complete.
fn understand(shard: &Shard, bytes: &[u8], ticket: &mut Ticket) -> Option<Received> {
    let answer = |response| Some(Received::Answer(Some(response)));
    let too_large = || {
        let message = format!("the request head is larger than {MAX_HEAD_BYTES} bytes, or has too many lines");
        Response::refusal(431, &Error::new(ErrorCode::MessageTooLarge, message))
    };
    let head = match Head::parse(bytes) {
        Ok(Some(head)) if head.size > MAX_HEAD_BYTES => return answer(too_large()),
        Ok(Some(head)) => head,
        Ok(None) if bytes.len() > MAX_HEAD_BYTES => return answer(too_large()),
        Ok(None) => return None,
        Err(BadHead::TooManyHeaders) => return answer(too_large()),
        Err(BadHead::Malformed) => {
            let error = Error::new(ErrorCode::MalformedMessage, "this is not an HTTP request");
            return answer(Response::refusal(400, &error));
        }
    };
    let is_head = head.method == "HEAD";
    let answer = |response| answer(Response { is_head, ..response });
    let shared = &shard.shared;
    match handshake::read(
        &head,
        &shared.origins,
        shared.verifier.as_ref(),
        &shared.options.limits,
        &mut shard.last_listen.borrow_mut(),
        &shared.endpoint,
    ) {
        Asked::Health => {
            let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::Relaxed);
            let (rooms, peers, connections) = (count(&shared.rooms), count(&shared.peers), count(&shared.connections));
            let body =
                format!("{{\"status\":\"ok\",\"rooms\":{rooms},\"peers\":{peers},\"connections\":{connections}}}");
            answer(Response::json(200, body))
        }
        Asked::Ready => answer(match shard.has_place() {
            Ok(()) => Response::json(200, "{\"status\":\"ready\"}"),
            Err(error) => Response::too_much(&error),
        }),
        // Where operators have tokens, they show one for this too.
        #[cfg(feature = "http")]
        Asked::Metrics if shared.options.metrics && shared.api.is_some() => Some(Received::Api(bytes.to_vec())),
        Asked::Metrics if shared.options.metrics => {
            let content_type = metrics::CONTENT_TYPE;
            answer(Response { content_type, ..Response::json(200, metrics::render(shared)) })
        }
        Asked::Metrics => answer(handshake::nothing_here()),
        Asked::Told(response) => answer(response),
        #[cfg(feature = "http")]
        Asked::Api if shared.api.is_some() => Some(Received::Api(bytes.to_vec())),
        #[cfg(feature = "http")]
        Asked::Api => {
            let message = "this server has no HTTP API; it was started without an API secret";
            answer(Response::refusal(404, &Error::new(ErrorCode::NotFound, message)))
        }
        Asked::Refused(response) => {
            let error = response.reason.map_or("", ErrorCode::name);
            tracing::debug!(status = response.status, path = head.path, error, "a handshake is refused");
            answer(response)
        }
        Asked::Join(admission) => match ticket.admit() {
            Ok(()) => Some(Received::Admission(admission, bytes.get(head.size..).unwrap_or(&[]).to_vec())),
            Err(error) => answer(Response::too_much(&error)),
        },
    }
}

/// Answers and closes. What still comes is read first, because closing on unread bytes would take
/// the answer back.
pub(super) async fn refuse(shard: &Rc<Shard>, socket: Stream, answer: &[u8]) -> io::Result<()> {
    socket.write_last(answer).await?;
    poll_fn(|context| loop {
        let mut buffer = shard.buffer.borrow_mut();
        if ready!(socket.poll_drain(context, &mut buffer))? == 0 {
            return Poll::Ready(Ok(()));
        }
    })
    .await
}
