//! Many sends by one system call: io_uring.
//!
//! Each send is asked for with `MSG_DONTWAIT`, so the kernel does it, or says that the socket takes nothing, while it
//! is in the call. Nothing is under way after that, so what is sent is only borrowed.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{opcode, squeue, types, IoUring};
use tokio::net::TcpStream;

use super::options::WRITES_PER_TURN;

/// A ring of a loop's own.
pub(super) struct Ring {
    ring: IoUring,
    /// Lent to each call.
    entries: Vec<squeue::Entry>,
}

/// A socket, and the flags of the send.
#[derive(Clone, Copy)]
pub(super) struct Target {
    socket: RawFd,
    flags: libc::c_int,
}

impl Target {
    pub fn of(stream: &TcpStream, flags: libc::c_int) -> Option<Target> {
        Some(Target { socket: stream.as_raw_fd(), flags: flags | libc::MSG_DONTWAIT })
    }
}

impl Ring {
    /// A ring for this thread. Linux 6.1 is the first that has what it needs; many containers forbid it.
    pub fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        // What is left to do after a send is done in the call, rather than by interrupting the thread.
        builder.setup_single_issuer().setup_defer_taskrun();
        // A send that is refused as such does not keep back those behind it.
        builder.setup_submit_all();
        Ok(Ring { ring: builder.build(WRITES_PER_TURN as u32)?, entries: Vec::new() })
    }

    /// Sends to each target what it is to be sent, in order, and appends to `outcomes` how many bytes each took; 0 if
    /// it takes nothing at the moment. After an error there are fewer outcomes than sends: the rest was not tried, and
    /// the ring is not to be used again.
    pub fn send<'a>(
        &mut self,
        sends: impl Iterator<Item = (Target, &'a [u8])>,
        outcomes: &mut Vec<io::Result<usize>>,
    ) -> io::Result<()> {
        let mut sends = sends.peekable();
        while sends.peek().is_some() {
            // All of them before any is in the ring, which `sends` could otherwise leave half filled.
            self.entries.clear();
            for (target, bytes) in sends.by_ref().take(WRITES_PER_TURN) {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let send = opcode::Send::new(types::Fd(target.socket), bytes.as_ptr(), length).flags(target.flags);
                self.entries.push(send.build().user_data(self.entries.len() as u64));
            }
            self.send_entries(outcomes)?;
        }
        Ok(())
    }

    /// The same for what is in `entries`.
    fn send_entries(&mut self, outcomes: &mut Vec<io::Result<usize>>) -> io::Result<()> {
        let count = self.entries.len();
        // SAFETY: the sockets are open, and the bytes are there, until the caller's borrow of them ends, which is after
        // this function; it does not return before everything that the kernel has taken is done.
        unsafe { self.ring.submission().push_multiple(&self.entries) }.map_err(io::Error::other)?;
        let (first, mut done) = (outcomes.len(), 0);
        outcomes.resize_with(first + count, || Ok(0));
        loop {
            let entered = self.ring.submit_and_wait(count - done);
            for completion in self.ring.completion() {
                if let Some(outcome) = outcomes.get_mut(first + completion.user_data() as usize) {
                    *outcome = outcome_of(completion.result());
                }
                done += 1;
            }
            if done == count {
                return Ok(());
            }
            match entered {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    // They are taken in order, and what is not taken by now never will be.
                    let untaken = self.ring.submission().len();
                    if done + untaken == count {
                        outcomes.truncate(first + done);
                        return Err(error);
                    }
                }
                _ => {}
            }
        }
    }
}

/// What a send returned: bytes, or the negative number of an error.
fn outcome_of(result: i32) -> io::Result<usize> {
    match usize::try_from(result) {
        Ok(bytes) => Ok(bytes),
        Err(_) => match io::Error::from_raw_os_error(-result) {
            error if error.kind() == ErrorKind::WouldBlock => Ok(0),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::Shutdown;

    use super::*;

    /// What a test on a system without io_uring says instead.
    fn ring() -> Option<Ring> {
        Ring::new().inspect_err(|error| eprintln!("NOT TESTED: this system forbids io_uring ({error})")).ok()
    }

    async fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (ours, listener.accept().unwrap().0)
    }

    fn target(stream: &TcpStream) -> Target {
        Target::of(stream, libc::MSG_NOSIGNAL).unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn sends_more_than_a_ring_holds_and_in_order() {
        let Some(mut ring) = ring() else { return };
        let (one, mut at_one) = pair().await;
        let (other, mut at_other) = pair().await;
        let texts: Vec<String> = (0..3 * WRITES_PER_TURN + 1).map(|nth| format!("{nth};")).collect();
        let mut outcomes = vec![Ok(7)];
        for turn in 0..2 {
            let sends = texts.iter().enumerate().map(|(nth, text)| {
                let stream = if nth % 3 == 0 { &other } else { &one };
                (target(stream), text.as_bytes())
            });
            ring.send(sends, &mut outcomes).unwrap();
            assert_eq!(outcomes.len(), 1 + texts.len(), "turn {turn}");
            let expected = texts.iter().map(String::len);
            assert!(outcomes.drain(1..).map(Result::unwrap).eq(expected), "turn {turn}");
            for (third, socket) in [(true, &mut at_other), (false, &mut at_one)] {
                let mine = texts.iter().enumerate().filter(|(nth, _)| (nth % 3 == 0) == third);
                let expected: String = mine.map(|(_, text)| text.as_str()).collect();
                let mut received = vec![0; expected.len()];
                socket.read_exact(&mut received).unwrap();
                assert_eq!(String::from_utf8(received).unwrap(), expected, "turn {turn}");
            }
        }
        assert_eq!(outcomes[0].as_ref().unwrap(), &7, "what was there before stays");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn says_what_each_took_and_goes_on_behind_one_that_fails() {
        let Some(mut ring) = ring() else { return };
        let (full, _at_full) = pair().await;
        let (broken, _at_broken) = pair().await;
        let (fine, mut at_fine) = pair().await;
        socket2::SockRef::from(&broken).shutdown(Shutdown::Write).unwrap();
        // More than the buffers of both sides hold: the one that takes part of it, and then nothing.
        let much = vec![0; 64 << 20];
        let sends = [(&full, &much[..]), (&broken, b"lost"), (&full, b"not now"), (&fine, b"hello")];
        let mut outcomes = Vec::new();
        ring.send(sends.iter().map(|(stream, bytes)| (target(stream), *bytes)), &mut outcomes).unwrap();
        let taken = *outcomes[0].as_ref().unwrap();
        assert!(taken > 0 && taken < much.len(), "{taken}");
        assert_eq!(outcomes[1].as_ref().unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(*outcomes[2].as_ref().unwrap(), 0);
        assert_eq!(*outcomes[3].as_ref().unwrap(), 5);
        let mut received = [0; 5];
        at_fine.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"hello");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_ring_that_fails_has_sent_nothing_that_it_does_not_tell() {
        let Some(mut ring) = ring() else { return };
        let (stream, mut peer) = pair().await;
        let null = std::fs::File::open("/dev/null").unwrap();
        // In the place of the ring, which the kernel then refuses to enter.
        // SAFETY: both are open, and the second stays the ring's own.
        assert!(unsafe { libc::dup2(null.as_raw_fd(), ring.ring.as_raw_fd()) } >= 0);
        let mut outcomes = Vec::new();
        let sends = [b"one", b"two"].iter().map(|bytes| (target(&stream), &bytes[..]));
        ring.send(sends, &mut outcomes).unwrap_err();
        assert!(outcomes.is_empty());
        drop((ring, stream));
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "nothing was sent");
    }
}
