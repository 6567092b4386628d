//! An open WebSocket of a client: frames written and read, without a copy of what arrives.

use std::cell::RefCell;
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::tls;
use crate::core::limits::MAX_SERVER_MESSAGE_BYTES;
use crate::frames::{self, Decoder, Event, Sender};

/// One read takes so much: two hundred changes of ordinary size. The buffer is the network
/// thread's, so a thousand idle clients have none of their own.
const READ_BYTES: usize = 64 * 1_024;

/// While so much waits to be written pings are not answered, so that a server that sends them and does not read costs
/// bounded memory. One that reads takes far less time for it than it waits for an answer.
const PONGS_UP_TO_BYTES: usize = 64 * 1_024;

/// Masks drawn from the system at once, so that not every small message costs a system call.
const MASKS_AT_ONCE: usize = 64;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The transport under a WebSocket.
pub(crate) enum Stream {
    Tcp(TcpStream),
    /// In a box, so that plain clients stay as small as they are.
    Tls(Box<tls::Stream>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}

/// An open WebSocket.
pub(crate) struct Socket {
    stream: Stream,
    decoder: Decoder,
    /// What came with the answer to the handshake.
    early: Vec<u8>,
    /// Whole frames that are still to be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    masks: Vec<[u8; 4]>,
}

/// Why a connection ended by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The stream broke, or the server sent what no server may.
    Broken,
    /// The server closed, with its code if it gave one, and its reason.
    Closed(Option<u16>, String),
}

impl Socket {
    /// A stream on which the handshake is over, and what arrived after it.
    pub(crate) fn new(stream: Stream, early: Vec<u8>) -> Socket {
        let decoder = Decoder::new(Sender::Server);
        Socket { stream, decoder, early, out: Vec::new(), written: 0, masks: Vec::new() }
    }

    /// Queues a text message.
    pub(crate) fn queue_text(&mut self, text: &[u8]) {
        self.queue(|out| frames::write_text(out, |out| out.extend_from_slice(text)));
    }

    /// Queues a ping.
    pub(crate) fn queue_ping(&mut self) {
        self.queue(|out| out.extend_from_slice(&frames::EMPTY_PING));
    }

    /// Queues a close frame.
    pub(crate) fn queue_close(&mut self, code: u16) {
        self.queue(|out| frames::write_close(out, code, ""));
    }

    fn queue(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        // Keeps the buffer in proportion to what waits, also where it never runs empty.
        if self.written > self.out.len() / 2 {
            self.out.drain(..self.written);
            self.written = 0;
        }
        let begin = self.out.len();
        write(&mut self.out);
        let mask = self.mask();
        frames::mask_last(&mut self.out, begin, mask);
    }

    /// Not to be predicted by whoever chooses what is sent (RFC 6455, 10.3).
    fn mask(&mut self) -> [u8; 4] {
        if self.masks.is_empty() {
            let mut bytes = [0; 4 * MASKS_AT_ONCE];
            // Masks protect careless proxies, not this connection, which goes on without.
            let _ = getrandom::fill(&mut bytes);
            self.masks = bytes.chunks_exact(4).map(|mask| [mask[0], mask[1], mask[2], mask[3]]).collect();
        }
        self.masks.pop().unwrap_or_default()
    }

    /// Writes what is queued; ready when nothing is left.
    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Ready(Ok(written)) if written > 0 => self.written += written,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(_) => return Poll::Ready(Err(Ended::Broken)),
                Poll::Pending => return Poll::Pending,
            }
        }
        // TLS may have taken what the socket has not.
        if let Stream::Tls(stream) = &mut self.stream {
            match Pin::new(&mut **stream).poll_flush(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Ended::Broken)),
                Poll::Pending => return Poll::Pending,
            }
        }
        // An idle client keeps no buffer.
        self.out = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Whether a message is arriving.
    pub(crate) fn is_within_message(&self) -> bool {
        self.decoder.is_within_message()
    }

    /// Reads once, telling `each` of every message; ready when something arrived.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        each: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Poll<Result<(), Ended>> {
        if !self.early.is_empty() {
            let mut early = std::mem::take(&mut self.early);
            return Poll::Ready(self.take(&mut early, each));
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(READ_BYTES, 0);
            let mut space = ReadBuf::new(buffer);
            match Pin::new(&mut self.stream).poll_read(context, &mut space) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) if !space.filled().is_empty() => Poll::Ready(self.take(space.filled_mut(), each)),
                Poll::Ready(_) => Poll::Ready(Err(Ended::Broken)),
            }
        })
    }

    fn take(&mut self, bytes: &mut [u8], each: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), Ended> {
        let (mut decoder, mut closed) = (std::mem::take(&mut self.decoder), None);
        let decoded = decoder.decode(bytes, MAX_SERVER_MESSAGE_BYTES, &mut |event| {
            match event {
                Event::Text(text) => return each(text),
                Event::Ping(payload) if self.out.len() - self.written < PONGS_UP_TO_BYTES => {
                    self.queue(|out| frames::write_pong(out, payload));
                }
                Event::Ping(_) | Event::Binary(_) | Event::Pong => {}
                Event::Close(code, reason) => {
                    closed = Some((code, reason.to_owned()));
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        self.decoder = decoder;
        match (decoded, closed) {
            (_, Some((code, reason))) => Err(Ended::Closed(code, reason)),
            (Err(_), None) => Err(Ended::Broken),
            (Ok(_), None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn pings_of_a_server_that_does_not_read_cost_bounded_memory() {
        const PING: [u8; 127] = {
            let mut ping = [7; 127];
            (ping[0], ping[1]) = (frames::EMPTY_PING[0], 125);
            ping
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut socket = Socket::new(Stream::Tcp(stream), PING.repeat(2_000));
            std::future::poll_fn(|context| socket.poll_read(context, &mut |_| ControlFlow::Continue(())))
                .await
                .unwrap();
            let waiting = socket.out.len();
            assert!(waiting > PONGS_UP_TO_BYTES && waiting < PONGS_UP_TO_BYTES + 200, "{waiting} bytes of pongs");
        });
    }
}
