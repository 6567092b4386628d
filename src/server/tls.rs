//! `wss`: certificates that can change while the server runs, handshakes, and the session of a connection.

use std::fs::Metadata;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{ready, Context, Poll};
use std::time::SystemTime;

use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ServerConfig, ServerConnection};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use super::options::{TlsOptions, MAX_SLICES, MAX_TLS_HANDSHAKE_BYTES, TLS_FILE_CHECK_MS, TLS_RECORD_BYTES};
use super::stream::{self, Stream};
use crate::core::error::{Error, ErrorCode};
use crate::core::room::Time;
use crate::tls;

/// The first byte of every TLS connection: a record of the handshake.
const HANDSHAKE_RECORD: u8 = 22;

/// The certificate in force, and the files it came from.
pub(super) struct Tls {
    files: TlsOptions,
    state: Mutex<InForce>,
}

struct InForce {
    config: Arc<ServerConfig>,
    /// How the files looked when they were read last, whether or not that gave a certificate.
    stamps: Vec<Option<Stamp>>,
    looked_at: Time,
}

/// What changes when somebody writes a file or puts another in its place.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    /// The file's own number: a rename keeps the time of what is renamed.
    #[cfg(unix)]
    inode: u64,
}

impl Stamp {
    fn of(file: &Metadata) -> Stamp {
        Stamp {
            modified: file.modified().ok(),
            bytes: file.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(file),
        }
    }
}

impl Tls {
    /// Reads the files; `INVALID_CONFIG` with the file and the reason.
    pub fn new(files: &TlsOptions, now: Time) -> Result<Tls, Error> {
        let stamps = stamps(files);
        let state = InForce { config: load(files)?, stamps, looked_at: now };
        Ok(Tls { files: files.clone(), state: Mutex::new(state) })
    }

    /// Reads the files again. After an error the old certificate stays in force.
    pub fn reload(&self) -> Result<(), Error> {
        let stamps = stamps(&self.files);
        let loaded = load(&self.files);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stamps = stamps;
        state.config = loaded?;
        Ok(())
    }

    /// What a new connection gets; the files are looked at first when that is a while ago.
    fn current(&self, now: Time) -> Arc<ServerConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(state.looked_at) >= TLS_FILE_CHECK_MS {
            state.looked_at = now;
            let stamps = stamps(&self.files);
            if stamps != state.stamps {
                state.stamps = stamps;
                match load(&self.files) {
                    Ok(config) => {
                        state.config = config;
                        tracing::info!("the certificate was read again");
                    }
                    Err(error) => tracing::error!(error = error.message(), "the old certificate stays in force"),
                }
            }
        }
        state.config.clone()
    }

    /// Takes a new connection through its handshake.
    pub async fn accept(&self, mut socket: TcpStream, now: Time) -> io::Result<Accepted> {
        let mut first = [0];
        if socket.peek(&mut first).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if first != [HANDSHAKE_RECORD] {
            return Ok(Accepted::Plain(Stream::from(socket)));
        }
        let mut session = ServerConnection::new(self.current(now)).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(TLS_RECORD_BYTES));
        let mut room = MAX_TLS_HANDSHAKE_BYTES;
        let outcome = poll_fn(|context| shake_hands(context, &mut socket, &mut session, &mut room)).await;
        let stream = Session { socket, session }.into();
        match outcome {
            Ok(()) => Ok(Accepted::Tls(stream)),
            Err(error) if error.kind() == ErrorKind::InvalidData => Ok(Accepted::Refused(stream, error)),
            Err(error) => Err(error),
        }
    }
}

/// What came of a new connection.
pub(super) enum Accepted {
    Tls(Stream),
    /// It does not speak TLS.
    Plain(Stream),
    /// The handshake failed; the client has been told by an alert.
    Refused(Stream, io::Error),
}

/// Goes on with a handshake until it is complete and everything of it is sent. `InvalidData`: the client
/// breaks the protocol, or is not who it should be.
fn shake_hands(
    context: &mut Context<'_>,
    socket: &mut TcpStream,
    session: &mut ServerConnection,
    room: &mut usize,
) -> Poll<io::Result<()>> {
    loop {
        while session.wants_write() {
            match session.write_tls(&mut Sink(socket)) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(socket.poll_write_ready(context))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if !session.is_handshaking() {
            return Poll::Ready(Ok(()));
        }
        match session.read_tls(&mut Source { socket, context }) {
            Ok(0) => return Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
            Ok(read) if read > *room => {
                return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, "the handshake is too large")));
            }
            Ok(read) => *room -= read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        }
        if let Err(error) = session.process_new_packets() {
            // The alert that says why; what the socket does not take at once is not worth waiting for.
            let _ = session.write_tls(&mut Sink(socket));
            return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, error)));
        }
    }
}

/// The files as a configuration; `INVALID_CONFIG` with the file and the reason.
fn load(files: &TlsOptions) -> Result<Arc<ServerConfig>, Error> {
    let invalid = |message: String| Error::new(ErrorCode::InvalidConfig, message);
    let chain = tls::certificates(&files.certificate).map_err(invalid)?;
    let key = tls::private_key(&files.key).map_err(invalid)?;
    let provider = tls::provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(format!("TLS cannot be set up: {error}")))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(tls::authorities(path).map_err(invalid)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| invalid(format!("{} cannot be used: {error}", path.display())))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let (certificate, key) = (files.certificate.display(), files.key.display());
        invalid(match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the key in {key} is not that of the first certificate in {certificate}")
            }
            error => format!("the certificate in {certificate} with the key in {key} cannot be used: {error}"),
        })
    })?;
    config.alpn_protocols = vec![tls::PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if files.client_ca.is_some() {
        // A ticket would stand for a certificate that has expired since, or whose authority is not
        // trusted any more.
        config.send_tls13_tickets = 0;
    } else {
        // Clients that come back all at once, after a break, are spared half of the work; the server keeps
        // nothing for them.
        config.ticketer = rustls::crypto::ring::Ticketer::new()
            .map_err(|error| invalid(format!("the system gives no random numbers: {error}")))?;
        config.send_tls13_tickets = 1;
    }
    Ok(Arc::new(config))
}

fn stamps(files: &TlsOptions) -> Vec<Option<Stamp>> {
    let stamp = |path: &Path| std::fs::metadata(path).ok().map(|file| Stamp::of(&file));
    [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()]
        .into_iter()
        .flatten()
        .map(|p| stamp(p))
        .collect()
}

/// A connection whose handshake is done. Between two calls it holds no plaintext, and of what is encrypted
/// at most one record that the socket has not taken.
pub(super) struct Session {
    socket: TcpStream,
    session: ServerConnection,
}

/// A session on its way to another thread.
pub(super) struct Unbound {
    socket: std::net::TcpStream,
    session: ServerConnection,
}

impl Session {
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            // What was decrypted already: no socket would ever tell of it.
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // 0 after the client's close_notify; an error when it left without one.
                read => return Poll::Ready(read),
            }
            match self.session.read_tls(&mut Source { socket: &mut self.socket, context }) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if let Err(error) = self.session.process_new_packets() {
                let _ = self.flush();
                return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, error)));
            }
        }
    }

    /// Reads what the socket has, without a look at it.
    pub fn poll_drain(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        Pin::new(&mut self.socket).poll_read(context, &mut buffer).map_ok(|()| buffer.filled().len())
    }

    /// Takes plaintext, a record at a time, as long as the socket takes the records.
    pub fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        while self.holds_back() {
            self.flush()?;
        }
        let mut slices: SmallVec<[IoSlice<'_>; MAX_SLICES]> = slices.iter().copied().collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        let mut taken = 0;
        while !rest.is_empty() {
            let record = self.session.writer().write_vectored(rest)?;
            taken += record;
            IoSlice::advance_slices(&mut rest, record);
            while self.holds_back() {
                match self.flush() {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
                    Err(error) => return Err(error),
                }
            }
            if record == 0 {
                break;
            }
        }
        Ok(taken)
    }

    /// Whether something is encrypted that the socket has not taken.
    pub fn holds_back(&self) -> bool {
        self.session.wants_write()
    }

    /// Sends of what is held back what the socket takes; `WouldBlock` when that is nothing.
    pub fn flush(&mut self) -> io::Result<()> {
        match self.session.write_tls(&mut Sink(&self.socket)) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says that nothing more will be written, if the socket takes that now.
    pub fn say_goodbye(&mut self) {
        self.session.send_close_notify();
        while self.holds_back() && self.flush().is_ok() {}
    }

    pub fn unbind(self) -> io::Result<Unbound> {
        Ok(Unbound { socket: self.socket.into_std()?, session: self.session })
    }
}

impl Unbound {
    pub fn bind(self) -> io::Result<Session> {
        Ok(Session { socket: TcpStream::from_std(self.socket)?, session: self.session })
    }
}

/// Reads for rustls, and has the task woken when there is nothing.
struct Source<'a, 'b> {
    socket: &'a mut TcpStream,
    context: &'a mut Context<'b>,
}

impl Read for Source<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut *self.socket).poll_read(self.context, &mut buffer) {
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

/// Writes for rustls what the socket takes at once.
struct Sink<'a>(&'a TcpStream);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        stream::send(self.0, &[IoSlice::new(bytes)], false)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        stream::send(self.0, slices, false)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rcgen::{generate_simple_self_signed, CertifiedKey};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use super::*;

    /// A stream of the server, and its client, for which the system buffers little.
    async fn pair() -> (Stream, StreamOwned<ClientConnection, std::net::TcpStream>) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".into()]).unwrap();
        static PAIRS: AtomicUsize = AtomicUsize::new(0);
        let number = PAIRS.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("sessionstore-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let files =
            TlsOptions { certificate: directory.join("cert.pem"), key: directory.join("key.pem"), client_ca: None };
        std::fs::write(&files.certificate, cert.pem()).unwrap();
        std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
        let tls = Tls::new(&files, 0).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&listener).set_send_buffer_size(4_096).unwrap();
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(4_096).unwrap();
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let session = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut client = StreamOwned::new(session, std::net::TcpStream::from(client));
        let client = std::thread::spawn(move || {
            client.conn.complete_io(&mut client.sock).unwrap();
            client
        });
        let Accepted::Tls(stream) = tls.accept(TcpStream::from_std(server).unwrap(), 0).await.unwrap() else {
            panic!("not accepted")
        };
        (stream, client.join().unwrap())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_taken_arrives_once_and_little_is_held_back() {
        let (stream, mut client) = pair().await;
        // From short words to several records in many slices; no byte is where another may be.
        let lengths = [1, 2, 100, 5_000, 16_384, 16_385, 40_000, 150_000];
        let mut number = 0u64;
        let mut all = Vec::new();
        let mut next = |length: usize| -> Vec<u8> {
            let bytes: Vec<u8> = (0..length)
                .map(|at| {
                    number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(at as u64 | 1);
                    (number >> 33) as u8
                })
                .collect();
            all.extend_from_slice(&bytes);
            bytes
        };
        let messages: Vec<Vec<Vec<u8>>> = (0..40)
            .map(|nth| (0..=nth % 5).map(|slice| next(lengths[(nth + slice * 3) % lengths.len()])).collect())
            .collect();
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            client.read_to_end(&mut read).map(|_| read)
        });
        let mut blocked = 0;
        for message in &messages {
            let mut slices: Vec<IoSlice<'_>> = message.iter().map(|slice| IoSlice::new(slice)).collect();
            let mut rest = &mut slices[..];
            while !rest.is_empty() {
                match stream.try_write(rest, false) {
                    Ok(taken) => {
                        assert!(taken > 0, "neither taken nor refused");
                        IoSlice::advance_slices(&mut rest, taken);
                        assert!(stream.holds_back() || rest.is_empty(), "what was left, the socket would have taken");
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        assert!(stream.holds_back(), "refused, with nothing in the way");
                        blocked += 1;
                        poll_fn(|context| stream.poll_writable(context)).await.unwrap();
                    }
                }
            }
        }
        assert!(blocked > 10, "the socket took everything, so this test shows nothing");
        stream.write_last(b"").await.unwrap();
        assert!(!stream.holds_back());
        assert!(reader.join().unwrap().expect("an end in order") == all, "what arrived is not what was written");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_read_with_a_record_comes_before_the_next() {
        let (stream, mut client) = pair().await;
        let stream = stream.unbind().unwrap().bind().unwrap();
        let sent: Vec<u8> = (0..100_000u32).map(|at| at as u8).collect();
        let own = sent.clone();
        let writer = std::thread::spawn(move || {
            client.write_all(&own).unwrap();
            client.conn.send_close_notify();
            client.conn.complete_io(&mut client.sock).unwrap();
            client
        });
        let mut read = Vec::new();
        // A buffer far smaller than a record.
        let mut buffer = [0; 100];
        loop {
            match poll_fn(|context| stream.poll_read(context, &mut buffer)).await.unwrap() {
                0 => break,
                count => read.extend_from_slice(&buffer[..count]),
            }
        }
        assert!(read == sent, "what was read is not what was sent");
        drop(writer.join());
    }
}
