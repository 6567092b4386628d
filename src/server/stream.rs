//! The transport under a connection. TCP now; TLS becomes another variant.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

/// Read by the task of the connection, written to by whoever flushes.
pub(super) enum Stream {
    /// Borrowed for the length of one call only.
    Tcp(RefCell<TcpStream>),
    #[cfg(test)]
    Test(std::rc::Rc<TestSocket>),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream::Tcp(RefCell::new(stream))
    }
}

impl Stream {
    /// Reads what there is into `buffer`; 0 at the end of the stream.
    pub fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        match self {
            // poll_read rather than try_read: a short read tells tokio that there is no more, which
            // saves the system call that would find out.
            Stream::Tcp(stream) => {
                Pin::new(&mut *stream.borrow_mut()).poll_read(context, &mut buffer).map_ok(|()| buffer.filled().len())
            }
            #[cfg(test)]
            Stream::Test(_) => Poll::Pending,
        }
    }

    /// Writes what the socket takes at once.
    pub fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            (Stream::Tcp(stream), [one]) => stream.borrow().try_write(one),
            (Stream::Tcp(stream), many) => stream.borrow().try_write_vectored(many),
            #[cfg(test)]
            (Stream::Test(socket), many) => socket.try_write(many),
        }
    }

    /// Waits until the socket may take more. For one task at a time.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.borrow().poll_write_ready(context),
            #[cfg(test)]
            Stream::Test(_) => Poll::Ready(Ok(())),
        }
    }

    /// Says that nothing more will be written.
    pub fn finish(&self) {
        self.shut_down(Shutdown::Write);
    }

    /// Ends the connection in both directions, which wakes whoever waits for it.
    pub fn cut(&self) {
        self.shut_down(Shutdown::Both);
    }

    fn shut_down(&self, how: Shutdown) {
        match self {
            Stream::Tcp(stream) => {
                // Fails when the other side was first, which is as good.
                let _ = socket2::SockRef::from(&*stream.borrow()).shutdown(how);
            }
            #[cfg(test)]
            Stream::Test(_) => {}
        }
    }
}

/// A socket that takes as many bytes as a test allows.
#[cfg(test)]
#[derive(Default)]
pub(super) struct TestSocket {
    pub allowance: std::cell::Cell<usize>,
    pub taken: RefCell<Vec<u8>>,
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
