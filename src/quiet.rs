//! A TCP connection on which no write raises a signal.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// For what TLS and HTTP are spoken over. They write several slices at once where they can, and such a write to a peer
/// that is gone would raise SIGPIPE, and kill a host program that leaves it at its default. A write of one slice does
/// not, so this has no other: of several, the first is written.
pub(crate) struct Quiet(TcpStream);

impl From<TcpStream> for Quiet {
    fn from(stream: TcpStream) -> Quiet {
        Quiet(stream)
    }
}

#[cfg(feature = "http")]
impl hyper_util::client::legacy::connect::Connection for Quiet {
    fn connected(&self) -> hyper_util::client::legacy::connect::Connected {
        self.0.connected()
    }
}

impl AsyncRead for Quiet {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Quiet {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}
