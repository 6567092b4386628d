//! Many peers on one thread, in rooms of any shape, who count what they hear.
//!
//! The generator of the workloads has rooms of one kind and keeps them busy; here one thing happens
//! at a time, and it is over when everybody concerned has heard of it. So what it cost the server
//! is the difference of two readings, and nothing in it depends on how fast this side is.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::super::failure::Failure;
use super::super::wire::{client_frame, Heard, Wire, OPCODE_TEXT};

/// Bytes of one read; what the largest room is told of its peers comes in several.
const READ_BYTES: usize = 256 * 1024;
/// A server that says nothing for so long while something is due has lost it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nothing has come for so long: what was caused is over. Longer than news of peers are held back.
const QUIET: Duration = Duration::from_millis(200);
/// A listen set that is longer goes behind the handshake rather than in its query, as our client has it.
const MAX_QUERY_BYTES: usize = 4_096;
/// Joins that are under way at once while a room fills up.
const JOINS_AT_ONCE: usize = 32;

/// What a peer listens to from the start.
#[derive(Clone, Copy, Debug)]
pub(super) enum Listens<'a> {
    /// To nothing: its join is complete with the list of peers.
    Nothing,
    /// To these keys: its join is complete with their snapshot.
    To(&'a [String]),
}

/// What was heard, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Changes of keys: one for each peer that was told.
    pub(super) changes: u64,
    /// Answers to sets and listens.
    pub(super) answers: u64,
    /// Snapshots of listen sets.
    pub(super) snapshots: u64,
    /// Joins that are complete.
    pub(super) joined: u64,
    /// Peers that came and went: one for each peer that was told.
    pub(super) news: u64,
    /// Connections that ended after a leave.
    pub(super) gone: u64,
}

struct Member {
    socket: TcpStream,
    /// The HTTP answer has come.
    is_open: bool,
    /// The next snapshot, or else the next list of peers, completes the join.
    completed_by_snapshot: bool,
    is_complete: bool,
    leaves: bool,
    partial: Vec<u8>,
    pending: Vec<u8>,
}

impl Counts {
    /// Due are however many come.
    pub(super) const ANY: u64 = u64::MAX;
}

pub(super) struct Crowd {
    poll: Poll,
    events: Events,
    address: SocketAddr,
    wire: Wire,
    members: Slab<Member>,
    buffer: Vec<u8>,
    peers: u64,
    requests: u64,
    counts: Counts,
    heard_at: Instant,
}

impl Crowd {
    pub(super) fn new(address: SocketAddr) -> Result<Crowd, Failure> {
        Ok(Crowd {
            poll: Poll::new().map_err(|error| Failure::system("making an epoll", &error))?,
            events: Events::with_capacity(1024),
            address,
            wire: Wire::WebSocket { host: address.to_string(), path: "/ws".into() },
            members: Slab::new(),
            buffer: vec![0; READ_BYTES],
            peers: 0,
            requests: 0,
            counts: Counts::default(),
            heard_at: Instant::now(),
        })
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Begins to join a room; the peer is known by the number returned.
    pub(super) fn join(&mut self, room: &str, listens: Listens<'_>) -> Result<usize, Failure> {
        let mut socket =
            TcpStream::connect(self.address).map_err(|error| Failure::system("connecting to the server", &error))?;
        // Only saves time; a socket that is not connected yet may refuse it on other systems.
        let _ = socket.set_nodelay(true);
        self.peers += 1;
        let (peer, address) = (self.peers, self.address);
        let mut pending = Vec::with_capacity(512);
        // Writing into memory cannot fail.
        let _ = write!(pending, "GET /ws?room={room}&peer=peer-{peer:06}&name=bench&join=j");
        let (in_query, in_request) = match listens {
            Listens::To(keys) if listen_set(keys).len() <= MAX_QUERY_BYTES => (keys, &[][..]),
            Listens::To(keys) => (&[][..], keys),
            Listens::Nothing => (&[][..], &[][..]),
        };
        if !in_query.is_empty() {
            let encoded = listen_set(in_query).replace('"', "%22").replace(',', "%2C");
            let _ = write!(pending, "&listen={encoded}");
        }
        let _ = write!(
            pending,
            " HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2Vzc2lvbnN0b3JlLWJlbg==\r\n\r\n"
        );
        if !in_request.is_empty() {
            // Without an id: its snapshot is answer enough.
            client_frame(&mut pending, OPCODE_TEXT, listen_request("", in_request).as_bytes());
        }
        let entry = self.members.vacant_entry();
        let member = entry.key();
        self.poll
            .registry()
            .register(&mut socket, Token(member), Interest::READABLE | Interest::WRITABLE)
            .map_err(|error| Failure::system("registering a connection", &error))?;
        entry.insert(Member {
            socket,
            is_open: false,
            completed_by_snapshot: matches!(listens, Listens::To(_)),
            is_complete: false,
            leaves: false,
            partial: Vec::new(),
            pending,
        });
        Ok(member)
    }

    /// Joins so many peers, some at a time, and waits until nobody has any more to hear of it.
    pub(super) fn fill(&mut self, joins: &[(String, Listens<'_>)]) -> Result<Vec<usize>, Failure> {
        let before = self.counts.joined;
        let mut members = Vec::with_capacity(joins.len());
        while self.counts.joined < before + joins.len() as u64 {
            while members.len() as u64 - (self.counts.joined - before) < JOINS_AT_ONCE as u64 {
                let Some((room, listens)) = joins.get(members.len()) else { break };
                members.push(self.join(room, *listens)?);
            }
            self.turn(PATIENCE)?;
            self.check_patience("joins")?;
        }
        self.settle()?;
        Ok(members)
    }

    /// Reads until nothing has come for a moment.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        self.heard_at = Instant::now();
        while self.heard_at.elapsed() < QUIET {
            self.turn(QUIET)?;
        }
        Ok(())
    }

    /// Asks for a key to be set.
    pub(super) fn set(&mut self, member: usize, key: &str, value: &str) -> Result<(), Failure> {
        self.requests += 1;
        let id = self.requests;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","method":"set-metadata","params":{{"key":"{key}","data":{value}}}}}"#
        );
        self.send(member, &body)
    }

    /// Asks for another listen set.
    pub(super) fn listen(&mut self, member: usize, keys: &[String]) -> Result<(), Failure> {
        self.send(member, &listen_request(r#""id":"l","#, keys))
    }

    /// Leaves the room.
    pub(super) fn leave(&mut self, member: usize) -> Result<(), Failure> {
        if let Some(one) = self.members.get_mut(member) {
            one.leaves = true;
            self.wire.leave(&mut one.pending);
        }
        self.write(member)
    }

    fn send(&mut self, member: usize, body: &str) -> Result<(), Failure> {
        if let Some(one) = self.members.get_mut(member) {
            client_frame(&mut one.pending, OPCODE_TEXT, body.as_bytes());
        }
        self.write(member)
    }

    /// Waits until as much has been heard as is due, and fails if it was more.
    pub(super) fn wait_for(&mut self, due: Counts) -> Result<(), Failure> {
        self.heard_at = Instant::now();
        loop {
            let heard = self.counts;
            let pairs = [
                (heard.changes, due.changes, "changes"),
                (heard.answers, due.answers, "answers"),
                (heard.snapshots, due.snapshots, "snapshots"),
                (heard.joined, due.joined, "joins"),
                (heard.news, due.news, "news of peers"),
                (heard.gone, due.gone, "ends of connections"),
            ];
            if let Some((heard, due, what)) = pairs.iter().find(|(heard, due, _)| heard > due) {
                return Err(Failure::Wrong(format!("{heard} {what} came where {due} were due")));
            }
            let lacks = |(heard, due, _): &&(u64, u64, &str)| heard < due && *due != Counts::ANY;
            let Some((heard, due, what)) = pairs.iter().find(lacks) else { return Ok(()) };
            self.turn(PATIENCE)?;
            self.check_patience(&format!("{} of {due} {what}", due - heard))?;
        }
    }

    fn check_patience(&self, what: &str) -> Result<(), Failure> {
        if self.heard_at.elapsed() < PATIENCE {
            return Ok(());
        }
        Err(Failure::Wrong(format!("{what} are missing after {PATIENCE:?}")))
    }

    fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(Failure::system("waiting for the server", &error)),
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let member = event.token().0;
            if event.is_writable() {
                self.write(member)?;
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.read(member)?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn write(&mut self, member: usize) -> Result<(), Failure> {
        let Some(one) = self.members.get_mut(member) else { return Ok(()) };
        while !one.pending.is_empty() {
            match one.socket.write(&one.pending) {
                Ok(written) => drop(one.pending.drain(..written)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Server(format!("a connection to the server broke: {error}"))),
            }
        }
        Ok(())
    }

    fn read(&mut self, member: usize) -> Result<(), Failure> {
        loop {
            let Some(one) = self.members.get_mut(member) else { return Ok(()) };
            let read = match one.socket.read(&mut self.buffer) {
                Ok(0) if one.leaves => {
                    self.members.remove(member);
                    self.counts.gone += 1;
                    return Ok(());
                }
                Ok(0) => return Err(Failure::Server("the server closed a connection that had not left".into())),
                Ok(read) => read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Server(format!("a connection to the server broke: {error}"))),
            };
            self.heard_at = Instant::now();
            let bytes = self.buffer.get(..read).unwrap_or_default();
            if one.partial.is_empty() {
                let used = one.take(bytes, &self.wire, &mut self.counts)?;
                one.partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
            } else {
                one.partial.extend_from_slice(bytes);
                let mut whole = std::mem::take(&mut one.partial);
                let used = one.take(&whole, &self.wire, &mut self.counts)?;
                whole.drain(..used);
                one.partial = if whole.is_empty() { Vec::new() } else { whole };
            }
            // A read that left space has emptied the socket; the next arrival is a new event.
            if read < READ_BYTES {
                return self.write(member);
            }
        }
    }
}

impl Member {
    /// Counts all whole messages, and says how many bytes they took.
    fn take(&mut self, bytes: &[u8], wire: &Wire, counts: &mut Counts) -> Result<usize, Failure> {
        let mut used = 0;
        if !self.is_open {
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(0) };
            if !bytes.starts_with(b"HTTP/1.1 101 ") {
                return Err(Failure::Server("the server did not accept the WebSocket handshake".into()));
            }
            self.is_open = true;
            used = end + 4;
        }
        while let Some((heard, payload, length)) =
            wire.frame(bytes.get(used..).unwrap_or_default()).map_err(Failure::Server)?
        {
            used += length;
            match heard {
                Heard::Change => counts.changes += 1,
                Heard::Ack => counts.answers += 1,
                Heard::Joined => {
                    counts.snapshots += 1;
                    self.complete(true, counts);
                }
                Heard::Ping => wire.pong(&mut self.pending, payload),
                Heard::Refused => return Err(Failure::Wrong("the server refused a request".into())),
                Heard::Close if self.leaves => {
                    // The server waits for nothing more; its end of the connection follows.
                    let _ = self.socket.shutdown(std::net::Shutdown::Write);
                }
                Heard::Close => return Err(Failure::Server("the server closed a connection".into())),
                Heard::Other if payload.starts_with(br#"{"method":"on-peer-"#) => counts.news += 1,
                Heard::Other if payload.starts_with(br#"{"method":"peer-list"#) => self.complete(false, counts),
                Heard::Welcome => {}
                Heard::Other | Heard::Subscribed | Heard::StatePart | Heard::Stored => {
                    return Err(Failure::Wrong("the server said something that nobody asked for".into()));
                }
            }
        }
        Ok(used)
    }

    fn complete(&mut self, by_snapshot: bool, counts: &mut Counts) {
        if !self.is_complete && self.completed_by_snapshot == by_snapshot {
            self.is_complete = true;
            counts.joined += 1;
        }
    }
}

/// The keys as a JSON array.
fn listen_set(keys: &[String]) -> String {
    format!("[\"{}\"]", keys.join("\",\""))
}

fn listen_request(id: &str, keys: &[String]) -> String {
    let keys = listen_set(keys);
    format!(r#"{{"jsonrpc":"2.0",{id}"method":"listen-metadata-change","params":{{"keys":{keys}}}}}"#)
}
