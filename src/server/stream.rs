//! The transport under a connection: TCP, or TLS over it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::ring::Target;
use super::tls;

/// A plain vectored write to a peer that is gone would raise SIGPIPE, and kill a host program that
/// leaves it at its default. Apple has no such flag but a socket option, which socket2 sets.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const NO_SIGNAL: std::ffi::c_int = 0;

/// The end of the stream follows at once: Linux sends it with what is written before it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MORE_FOLLOWS: libc::c_int = libc::MSG_MORE;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const MORE_FOLLOWS: std::ffi::c_int = 0;

/// Read by the task of the connection, written to by whoever flushes. Borrowed for the length of one
/// call only.
pub(super) struct Stream(RefCell<Transport>);

enum Transport {
    Tcp(TcpStream),
    /// In a box, so that plain connections stay as small as they are.
    Tls(Box<tls::Session>),
    #[cfg(test)]
    Test(std::rc::Rc<TestSocket>),
}

/// Every idle connection pays for the size of a stream.
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(test)))]
const _: () = assert!(size_of::<Stream>() == size_of::<RefCell<TcpStream>>(), "TLS makes plain connections larger");

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream(RefCell::new(Transport::Tcp(stream)))
    }
}

impl From<tls::Session> for Stream {
    fn from(session: tls::Session) -> Stream {
        Stream(RefCell::new(Transport::Tls(Box::new(session))))
    }
}

#[cfg(test)]
impl From<std::rc::Rc<TestSocket>> for Stream {
    fn from(socket: std::rc::Rc<TestSocket>) -> Stream {
        Stream(RefCell::new(Transport::Test(socket)))
    }
}

/// A stream on its way to another thread.
pub(super) enum Unbound {
    Tcp(std::net::TcpStream),
    Tls(Box<tls::Unbound>),
}

impl Unbound {
    /// The stream, for the loop of this thread.
    pub fn bind(self) -> io::Result<Stream> {
        match self {
            Unbound::Tcp(stream) => TcpStream::from_std(stream).map(Stream::from),
            Unbound::Tls(session) => session.bind().map(Stream::from),
        }
    }
}

fn flags(are_last_words: bool) -> std::ffi::c_int {
    if are_last_words {
        NO_SIGNAL | MORE_FOLLOWS
    } else {
        NO_SIGNAL
    }
}

/// Sends what the socket takes at once.
pub(super) fn send(stream: &TcpStream, slices: &[IoSlice<'_>], are_last_words: bool) -> io::Result<usize> {
    let socket = socket2::SockRef::from(stream);
    let flags = flags(are_last_words);
    let written = match slices {
        [one] => socket.send_with_flags(one, flags),
        many => socket.send_vectored_with_flags(many, flags),
    };
    match written {
        // tokio is only asked, and its records fetched from memory, when there is something to wait for.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.try_io(Interest::WRITABLE, || Err(error)),
        other => other,
    }
}

impl Stream {
    /// Takes the stream from this thread's loop.
    pub fn unbind(self) -> io::Result<Unbound> {
        match self.0.into_inner() {
            Transport::Tcp(stream) => stream.into_std().map(Unbound::Tcp),
            Transport::Tls(session) => session.unbind().map(|session| Unbound::Tls(Box::new(session))),
            #[cfg(test)]
            Transport::Test(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Reads what there is into `buffer`; 0 at the end of the stream.
    pub fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut *self.0.borrow_mut() {
            // poll_read rather than try_read: a short read tells tokio that there is no more, which
            // saves the system call that would find out.
            Transport::Tcp(stream) => {
                let mut buffer = ReadBuf::new(buffer);
                Pin::new(stream).poll_read(context, &mut buffer).map_ok(|()| buffer.filled().len())
            }
            Transport::Tls(session) => session.poll_read(context, buffer),
            #[cfg(test)]
            Transport::Test(_) => Poll::Pending,
        }
    }

    /// Reads what there is, whatever it means, to throw it away.
    pub fn poll_drain(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Transport::Tls(session) = &mut *self.0.borrow_mut() {
            return session.poll_drain(context, buffer);
        }
        self.poll_read(context, buffer)
    }

    /// Writes what the socket takes at once. After the last words it has to be closed: that sends them.
    /// Of what TLS takes, something may be held back.
    pub fn try_write(&self, slices: &[IoSlice<'_>], are_last_words: bool) -> io::Result<usize> {
        match &mut *self.0.borrow_mut() {
            Transport::Tcp(stream) => send(stream, slices, are_last_words),
            Transport::Tls(session) => session.try_write(slices),
            #[cfg(test)]
            Transport::Test(socket) => socket.try_write(slices),
        }
    }

    /// Where a ring sends what is written, if it is sent as it is.
    pub fn target(&self, are_last_words: bool) -> Option<Target> {
        match &*self.0.borrow() {
            Transport::Tcp(stream) => Target::of(stream, flags(are_last_words)),
            _ => None,
        }
    }

    /// Whether something was taken that the socket has not: a record that TLS made. Somebody has to
    /// `flush` it.
    pub fn holds_back(&self) -> bool {
        matches!(&*self.0.borrow(), Transport::Tls(session) if session.holds_back())
    }

    /// Sends of what is held back what the socket takes; `WouldBlock` when that is nothing.
    pub fn flush(&self) -> io::Result<()> {
        match &mut *self.0.borrow_mut() {
            Transport::Tls(session) => session.flush(),
            _ => Ok(()),
        }
    }

    /// Writes the last words, waits for the socket to take them, and says that nothing more will come.
    pub async fn write_last(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await?;
        self.say_goodbye();
        self.write_all(&[]).await?;
        self.shut_down(Shutdown::Write);
        Ok(())
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() || self.holds_back() {
            let step = match bytes {
                [] => self.flush().map(|()| 0),
                bytes => self.try_write(&[IoSlice::new(bytes)], false),
            };
            match step {
                Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|context| self.poll_writable(context)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the socket may take more. For one task at a time.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &*self.0.borrow() {
            Transport::Tcp(stream) => stream.poll_write_ready(context),
            Transport::Tls(session) => session.socket().poll_write_ready(context),
            #[cfg(test)]
            Transport::Test(_) => Poll::Ready(Ok(())),
        }
    }

    /// Says that nothing more will be written, at once or not at all.
    pub fn finish(&self) {
        self.say_goodbye();
        self.shut_down(Shutdown::Write);
    }

    /// What TLS says before the end, so that it cannot be mistaken for one that somebody else brought
    /// about. Closing a TCP socket says it by itself.
    pub fn say_goodbye(&self) {
        if let Transport::Tls(session) = &mut *self.0.borrow_mut() {
            session.say_goodbye();
        }
    }

    /// Ends the connection in both directions, which wakes whoever waits for it.
    pub fn cut(&self) {
        self.shut_down(Shutdown::Both);
    }

    fn shut_down(&self, how: Shutdown) {
        let transport = self.0.borrow();
        let socket = match &*transport {
            Transport::Tcp(stream) => stream,
            Transport::Tls(session) => session.socket(),
            #[cfg(test)]
            Transport::Test(_) => return,
        };
        // Fails when the other side was first, which is as good.
        let _ = socket2::SockRef::from(socket).shutdown(how);
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static SIGNALS: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn count(_: libc::c_int) {
        SIGNALS.fetch_add(1, Ordering::SeqCst);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn writing_to_a_peer_that_is_gone_raises_no_signal() {
        // SAFETY: the handler does nothing but add to an atomic number.
        let before = unsafe { libc::signal(libc::SIGPIPE, count as *const () as libc::sighandler_t) };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut ours, _) = listener.accept().unwrap();
        let stream = Stream::from(peer);
        // Closed in order, so that the first write is answered with a reset and the next one fails.
        stream.try_write(&[IoSlice::new(b"hello")], false).unwrap();
        ours.read_exact(&mut [0; 5]).unwrap();
        drop(ours);
        let two = [IoSlice::new(b"one"), IoSlice::new(b"two")];
        let error = loop {
            std::future::poll_fn(|context| stream.poll_writable(context)).await.unwrap();
            if let Err(error) = stream.try_write(&two, false) {
                break error;
            }
        };
        assert!(matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{error}");
        assert!(stream.try_write(&two, false).is_err());
        assert_eq!(SIGNALS.load(Ordering::SeqCst), 0, "a host program that keeps the default would be killed");
        // SAFETY: what was there before.
        unsafe { libc::signal(libc::SIGPIPE, before) };
    }
}
