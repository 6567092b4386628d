//! One WebSocket connection: the task that reads it, and the one that writes while its socket
//! does not take what waits.

use std::cell::{Cell, RefCell};
use std::future::{poll_fn, Future};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use crate::core::error::Error;
use crate::core::room::{PeerHandle, Time};

use super::batch::{Batch, Filter};
use super::budget::Budget;
use super::handshake::Admission;
use super::http::status;
use super::outbox::{Delivery, Outbox, Segment};
use super::room_host::RoomHost;
use super::shard::{Shard, Ticket};
use super::signal::Signal;
use super::stream::Stream;
use crate::frames::Decoder;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// It was sent a close frame; what it says is ignored until it answers with its own.
    Closing,
    /// Nothing more is read; it ends when everything is written.
    Ending,
    /// The socket is shut down.
    Closed,
}

/// What errors are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dialect {
    /// By the numbers of [`ErrorCode`](crate::ErrorCode).
    #[default]
    Own,
    /// By the statuses of HTTP, as the original's web client expects; what ends its session is `on-error`.
    Original,
}

impl Dialect {
    /// The number of an error.
    pub fn number(self, error: &Error) -> u64 {
        match self {
            Dialect::Own => error.code().number() as u64,
            Dialect::Original => u64::from(status(error.code())),
        }
    }
}

/// What a delivery looks at comes first and lies together: with thousands of connections each of its
/// cache lines has to be fetched from memory.
#[repr(C)]
pub(super) struct Connection {
    /// The peer this connection speaks for, while it is in the room and no newer one came.
    pub peer: Cell<Option<PeerHandle>>,
    pub state: Cell<State>,
    /// The number of the first news of peers that is not in the list of peers it was sent.
    pub news_from: Cell<u64>,
    pub outbox: RefCell<Outbox>,
    pub socket: Stream,
    /// Wakes the reader when it may go on.
    pub resume: Signal,
    pub shard: Rc<Shard>,
    pub host: Rc<RoomHost>,
    /// When it was last heard of.
    pub heard_at: Cell<Time>,
    pub pinged_at: Cell<Time>,
    pub dialect: Dialect,
    /// Whether it may know who else is in the room.
    pub sees_peers: Cell<bool>,
    /// When its token expires, by the clock of the system; `Time::MAX` without one.
    pub expires_at: Cell<Time>,
    /// Whether it was told that its token is about to expire.
    pub warned: Cell<bool>,
    /// In the states `Closing` and `Ending`: when the socket is shut down at the latest.
    pub close_by: Cell<Time>,
    /// Index in the shard's list.
    pub index: Cell<usize>,
    /// Who it says it is, until it has joined.
    pub admission: RefCell<Option<Arc<Admission>>>,
    /// What it may still ask; none without a limit.
    pub budget: RefCell<Option<Box<Budget>>>,
    _ticket: Ticket,
}

impl Connection {
    pub fn new(host: Rc<RoomHost>, socket: Stream, admission: Arc<Admission>, ticket: Ticket) -> Connection {
        let shard = host.shard.clone();
        let now = shard.now();
        let budget = shard.shared.rates.map(|rates| Box::new(Budget::new(rates, now)));
        Connection {
            shard,
            budget: RefCell::new(budget),
            host,
            index: Cell::new(usize::MAX),
            socket,
            peer: Cell::new(None),
            news_from: Cell::new(0),
            state: Cell::new(State::Open),
            heard_at: Cell::new(now),
            pinged_at: Cell::new(now),
            dialect: admission.dialect,
            sees_peers: Cell::new(true),
            expires_at: Cell::new(admission.expires_at),
            admission: RefCell::new(Some(admission)),
            warned: Cell::new(false),
            close_by: Cell::new(Time::MAX),
            outbox: RefCell::default(),
            resume: Signal::default(),
            _ticket: ticket,
        }
    }

    /// The number of the first news of peers that it is told.
    pub fn hears_news_from(&self) -> u64 {
        if self.sees_peers.get() {
            self.news_from.get()
        } else {
            u64::MAX
        }
    }

    /// Gives the connection its part of a batch: at once, or if it may wait, with the others of the turn.
    pub fn deliver(self: &Rc<Self>, batch: &Rc<Batch>, filter: &Filter<'_>, may_wait: bool) {
        if self.state.get() == State::Closed {
            return;
        }
        if self.outbox.borrow().is_on_its_way {
            self.shard.send();
        }
        let changes = self.shard.meters.as_ref().map_or(0, |_| self.outbox.borrow().changes_in(batch, filter));
        let delivery = self.shard.sends.borrow_mut().deliver(self, batch, filter, changes, may_wait);
        if let Some(delivery) = delivery {
            self.conclude(delivery, changes);
        }
    }

    /// What it was to be sent with others is written, or so many bytes of it.
    pub fn settle(self: &Rc<Self>, segments: &[Segment], written: io::Result<usize>, changes: u64) {
        let queue_bytes = self.shard.options().queue_bytes;
        let now = || self.shard.now();
        let delivery = self.outbox.borrow_mut().settle(segments, written, false, queue_bytes, now);
        self.conclude(delivery, changes);
    }

    /// Does what follows from a delivery that told so many changes, if all of it is written.
    fn conclude(self: &Rc<Self>, delivery: Delivery, changes: u64) {
        if let Some(meters) = self.shard.meters.as_deref() {
            match delivery {
                Delivery::Written => meters.deliveries.add(changes),
                Delivery::Blocked => meters.deliveries.add(self.outbox.borrow_mut().take_delivered()),
                Delivery::Nothing | Delivery::Parked | Delivery::Broken => {}
            }
        }
        match delivery {
            Delivery::Blocked => drop(tokio::task::spawn_local(drain(self.clone()))),
            Delivery::Broken => self.abort(),
            Delivery::Written => self.resume.raise(),
            Delivery::Nothing | Delivery::Parked => {}
        }
    }

    /// Ends the connection without further words.
    pub fn abort(&self) {
        self.state.set(State::Closed);
        self.socket.cut();
        self.resume.raise();
    }

    /// The reader has ended, so there is nothing to wake but the writer, should there be one.
    pub fn end(&self) {
        self.state.set(State::Closed);
        if self.outbox.borrow().parked.is_some() {
            self.socket.cut();
        } else {
            self.socket.say_goodbye();
        }
    }

    /// Writes bytes past every queue, if the socket is at the end of a frame and takes them.
    pub fn write_at_once(&self, bytes: &[u8]) {
        if self.outbox.borrow().parked.is_none() {
            let _ = self.socket.try_write(&[std::io::IoSlice::new(bytes)], false);
        }
    }

    /// Changes what it may still ask, if that is limited.
    pub fn spend<T>(&self, spend: impl FnOnce(&mut Budget) -> T) -> Option<T> {
        self.budget.borrow_mut().as_deref_mut().map(spend)
    }

    /// Whether a request may be read: its answers must not pile up.
    fn may_read(&self) -> bool {
        let outbox = self.outbox.borrow();
        let answers_fit = outbox.inserted_bytes() <= self.shard.options().queue_bytes;
        self.state.get() == State::Closing || (outbox.parked.is_none() && answers_fit && !self.host.is_overfull())
    }
}

/// Reads a connection to its end, as its task. A future of its own because an `async fn` keeps what it was
/// given twice, which every idle connection would pay for.
pub(super) struct Reader {
    connection: Rc<Connection>,
    decoder: Decoder,
    /// What was read but has to wait until answers are on their way.
    backlog: Vec<u8>,
    said_goodbye: bool,
}

impl Reader {
    /// Begins with what came behind the request head.
    pub fn new(connection: Rc<Connection>, rest: Vec<u8>) -> Reader {
        Reader { connection, decoder: Decoder::default(), backlog: rest, said_goodbye: false }
    }

    fn read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let connection = &self.connection;
        loop {
            match connection.state.get() {
                State::Closed => return Poll::Ready(()),
                State::Ending => {
                    if connection.outbox.borrow().is_flushed() {
                        return Poll::Ready(());
                    }
                    ready!(connection.resume.poll(context));
                    continue;
                }
                State::Open | State::Closing => {}
            }
            if !connection.may_read() {
                if connection.host.is_overfull() {
                    connection.host.wake_when_flushed(context.waker());
                }
                ready!(connection.resume.poll(context));
                continue;
            }
            if self.decoder.has_failed() && !self.said_goodbye {
                // The close frame cannot be waited for, so the end of the stream is asked for.
                if connection.outbox.borrow().is_flushed() {
                    connection.socket.finish();
                    self.said_goodbye = true;
                } else if connection.resume.poll(context).is_ready() {
                    continue;
                }
            }
            if !self.backlog.is_empty() {
                let mut backlog = std::mem::take(&mut self.backlog);
                let used = process(connection, &mut self.decoder, &mut backlog);
                backlog.drain(..used);
                self.backlog = backlog;
                continue;
            }
            let shard = connection.shard.clone();
            let mut buffer = shard.buffer.borrow_mut();
            match ready!(connection.socket.poll_read(context, &mut buffer)) {
                Ok(0) => return Poll::Ready(()),
                Ok(read) => {
                    let used = process(connection, &mut self.decoder, &mut buffer[..read]);
                    if used < read {
                        self.backlog.extend_from_slice(&buffer[used..read]);
                    }
                    drop(buffer);
                    shard.flush_many();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl Future for Reader {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.read(context));
        self.connection.shard.finish(&self.connection);
        Poll::Ready(())
    }
}

/// Handles what was read; returns how much of it.
fn process(connection: &Rc<Connection>, decoder: &mut Decoder, data: &mut [u8]) -> usize {
    let now = connection.shard.now();
    connection.heard_at.set(now);
    let host = &connection.host;
    let all = data.len();
    host.turn(|inner| inner.receive(connection, decoder, data, now)).unwrap_or(all)
}

/// Writes what is parked, until nothing is. The only task a connection has beside its reader,
/// and only while its socket does not keep up.
async fn drain(connection: Rc<Connection>) {
    loop {
        if poll_fn(|context| connection.socket.poll_writable(context)).await.is_err() {
            return connection.abort();
        }
        loop {
            if connection.state.get() == State::Closed {
                return;
            }
            let mut outbox = connection.outbox.borrow_mut();
            let Some(parked) = &mut outbox.parked else { return };
            if connection.socket.holds_back() {
                match connection.socket.flush() {
                    Ok(()) => {
                        parked.progress_at = connection.shard.now();
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {
                        drop(outbox);
                        return connection.abort();
                    }
                }
            }
            if !parked.is_empty() {
                match parked.write(&connection.socket, || connection.shard.now()) {
                    Ok(()) => {
                        if let Some(meters) = &connection.shard.meters {
                            meters.deliveries.add(outbox.take_delivered());
                        }
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {
                        drop(outbox);
                        return connection.abort();
                    }
                }
            }
            let Some(conflated) = parked.take_conflated() else {
                outbox.parked = None;
                drop(outbox);
                // It takes what it is sent, so it is there.
                connection.heard_at.set(connection.shard.now());
                return connection.resume.raise();
            };
            drop(outbox);
            connection.host.turn(|inner| inner.catch_up(&connection, conflated));
        }
    }
}
