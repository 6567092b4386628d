//! The transport under a connection. TCP now; TLS becomes another variant of both halves.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::TcpStream;

/// What is read from, by the task of the connection.
pub(super) enum ReadHalf {
    Tcp(OwnedReadHalf),
}

/// What is written to, by whoever flushes.
pub(super) enum WriteHalf {
    Tcp(OwnedWriteHalf),
    #[cfg(test)]
    Test(std::rc::Rc<TestSocket>),
}

/// A socket that takes as many bytes as a test allows.
#[cfg(test)]
#[derive(Default)]
pub(super) struct TestSocket {
    pub allowance: std::cell::Cell<usize>,
    pub taken: std::cell::RefCell<Vec<u8>>,
}

#[cfg(test)]
impl TestSocket {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = offered.len().min(self.allowance.get());
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.allowance.set(self.allowance.get() - taken);
        self.taken.borrow_mut().extend_from_slice(&offered[..taken]);
        Ok(taken)
    }
}

pub(super) fn split(stream: TcpStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = stream.into_split();
    (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
}

impl ReadHalf {
    /// Reads what there is into `buffer`; 0 at the end of the stream.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        match self {
            // poll_read rather than try_read: a short read tells tokio that there is no more, which
            // saves the system call that would find out.
            ReadHalf::Tcp(half) => Pin::new(half).poll_read(context, &mut buffer).map_ok(|()| buffer.filled().len()),
        }
    }
}

impl WriteHalf {
    /// Writes what the socket takes at once.
    pub fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            (WriteHalf::Tcp(half), [one]) => half.try_write(one),
            (WriteHalf::Tcp(half), many) => half.try_write_vectored(many),
            #[cfg(test)]
            (WriteHalf::Test(socket), many) => socket.try_write(many),
        }
    }

    /// Waits until the socket may take more.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            WriteHalf::Tcp(half) => half.writable().await,
            #[cfg(test)]
            WriteHalf::Test(_) => Ok(()),
        }
    }

    /// Says that nothing more will be written.
    pub fn finish(&self) {
        match self {
            WriteHalf::Tcp(half) => {
                let _ = socket2::SockRef::from(half.as_ref()).shutdown(Shutdown::Write);
            }
            #[cfg(test)]
            WriteHalf::Test(_) => {}
        }
    }

    /// Ends the connection in both directions, which wakes whoever waits for it.
    pub fn shut_down(&self) {
        match self {
            WriteHalf::Tcp(half) => {
                // Fails when the other side was first, which is as good.
                let _ = socket2::SockRef::from(half.as_ref()).shutdown(Shutdown::Both);
            }
            #[cfg(test)]
            WriteHalf::Test(_) => {}
        }
    }
}
