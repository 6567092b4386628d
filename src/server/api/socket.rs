//! A connection as hyper wants it, that begins with what a loop has read already.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::server::options::CLOSE_WAIT_MS;
use crate::server::stream::Stream;

/// What is read at once, in bytes: a request of ordinary size.
const READ_BYTES: usize = 4 * 1024;

pub(super) struct Socket {
    stream: Stream,
    /// Read, and not yet asked for.
    read: Vec<u8>,
    at: usize,
    /// After the last word: how long the other side may take to end.
    closing: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub fn new(stream: Stream, read: Vec<u8>) -> Socket {
        Socket { stream, read, at: 0, closing: None }
    }

    /// Sends what the stream holds back of what it took.
    fn poll_held_back(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.stream.holds_back() {
            match self.stream.flush() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.stream.poll_writable(context))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at == self.read.len() {
            let this = &mut *self;
            this.read.resize(READ_BYTES, 0);
            this.at = READ_BYTES;
            let read = ready!(this.stream.poll_read(context, &mut this.read))?;
            (this.at, _) = (0, this.read.truncate(read));
        }
        let rest = self.read.get(self.at..).unwrap_or_default();
        let taken = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..taken]);
        self.at += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_held_back(context))?;
        loop {
            match self.stream.try_write(&[IoSlice::new(bytes)], false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.stream.poll_writable(context))?,
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_held_back(context)
    }

    /// What still comes is read first, because closing on unread bytes would take the answer back.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held_back(context))?;
        let this = &mut *self;
        let (stream, buffer) = (&this.stream, &mut this.read);
        let closing = this.closing.get_or_insert_with(|| {
            stream.finish();
            buffer.resize(READ_BYTES, 0);
            Box::pin(tokio::time::sleep(Duration::from_millis(CLOSE_WAIT_MS)))
        });
        while closing.as_mut().poll(context).is_pending() {
            if ready!(stream.poll_drain(context, buffer)).unwrap_or(0) == 0 {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
