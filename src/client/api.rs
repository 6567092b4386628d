//! `Client`, `Action` and `Subscription`: what an app holds beside its [`Store`].

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::cancellation::Cancellation;
use super::dispatch::{lock, may_wait, wait, Dispatcher, Item, ListenerCell, UpdateNotice};
use super::listener::{ConnectionState, UpdateListener};
use super::lock::Locks;
use super::options::{Address, ClientOptions};
use super::requests::{unanswered, Answer, Asked, RequestKind, Requests};
use super::runtime::NetworkThread;
use super::store::Store;
use super::task;
use crate::core::names;
use crate::core::replica::{KeyEvent, ListenerId, Notice, Replica};
use crate::core::requests::Kind;
use crate::core::secret::Secret;
use crate::core::wire::{self, PeerInfo};
use crate::{Error, ErrorCode};

/// Stands for ever, and for times beyond the clock's range: a year.
pub(crate) const A_LONG_TIME: Duration = Duration::from_secs(365 * 86_400);

/// What a request ends with.
pub(crate) type Outcome = Result<Answer, Error>;

/// Who is told the outcome.
pub(crate) enum Completion {
    /// Told through the dispatcher, after everything that came before.
    Dispatched(Box<dyn FnOnce(Outcome) + Send>),
    /// A thread that waits is told through the dispatcher, but of its time being over at once.
    Awaited(Arc<Waiter>),
    /// Told at once: a thread that waits, in poll mode, where nobody may be polling.
    Direct(Arc<Waiter>),
    /// Nobody: the client asked for itself.
    Untold,
}

/// Whether a request ended because its own time was over, sent or not.
fn is_timeout(outcome: &Outcome) -> bool {
    let timed_out = |code| matches!(code, ErrorCode::Timeout | ErrorCode::OutcomeUnknown);
    outcome.as_ref().is_err_and(|error| timed_out(error.code()))
}

/// A thread waits here for one outcome.
#[derive(Default)]
pub(crate) struct Waiter {
    outcome: Mutex<Option<Outcome>>,
    arrived: Condvar,
}

impl Waiter {
    pub(crate) fn complete(&self, outcome: Outcome) {
        *lock(&self.outcome) = Some(outcome);
        self.arrived.notify_all();
    }

    fn is_told(&self) -> bool {
        lock(&self.outcome).is_some()
    }

    fn wait(&self, timeout: Duration) -> Result<Outcome, Error> {
        let deadline = Instant::now().checked_add(timeout);
        let mut outcome = lock(&self.outcome);
        loop {
            if let Some(outcome) = outcome.take() {
                return Ok(outcome);
            }
            outcome = wait(&self.arrived, outcome, deadline)?;
        }
    }
}

/// Listeners and the replica they share.
#[derive(Default)]
pub(crate) struct Listening {
    pub(crate) replica: Replica,
    pub(crate) cells: BTreeMap<ListenerId, Arc<ListenerCell>>,
    pub(super) last_id: ListenerId,
    pub(super) closed: bool,
}

/// Where the client stands.
pub(crate) struct Status {
    pub(crate) state: ConnectionState,
    pub(crate) joined: bool,
    pub(crate) error: Option<Error>,
    pub(crate) session_id: Arc<str>,
    /// What this peer is called, and its metadata: what it joins with.
    pub(crate) name: Arc<str>,
    pub(crate) metadata: Arc<str>,
    pub(crate) peers: BTreeMap<Arc<str>, Arc<PeerInfo>>,
}

/// What the handles, the network task and the dispatcher share. Locks are taken in the order
/// `listening`, `requests`, `locks`, `status`, the dispatcher's queue, and never while a callback runs.
pub(crate) struct Shared {
    pub(crate) options: ClientOptions,
    pub(crate) address: Address,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) listening: Mutex<Listening>,
    pub(crate) requests: Mutex<Requests>,
    pub(crate) locks: Locks,
    /// By which the server knows that a connection is this client's.
    pub(crate) secret: Secret,
    /// What the next connection is made with: that of the options, or a fresher one.
    pub(crate) token: Mutex<Option<String>>,
    pub(crate) status: Mutex<Status>,
    pub(crate) status_changed: Condvar,
    /// Tells the network task that there is something to send, or that the client is closed.
    pub(crate) work: Notify,
}

/// The notices with the listeners they are for; `None` is the end of the snapshot.
pub(crate) fn addressed<'a>(
    listening: &'a Listening,
    notices: &'a mut Vec<Notice>,
) -> impl Iterator<Item = (Arc<ListenerCell>, Option<KeyEvent>)> + 'a {
    let cell = |listener: ListenerId| listening.cells.get(&listener).cloned();
    notices.drain(..).filter_map(move |notice| match notice {
        Notice::Changed { listener, event } => Some((cell(listener)?, Some(event))),
        Notice::SnapshotEnd { listener } => Some((cell(listener)?, None)),
    })
}

impl Shared {
    /// Takes note of a request to be sent.
    pub(crate) fn begin(
        &self,
        mut asked: Asked,
        timeout: Duration,
        write: impl FnOnce(&mut Vec<u8>, u64),
    ) -> Result<u64, Error> {
        let mut requests = lock(&self.requests);
        if requests.closed {
            return Err(ErrorCode::Closed.into());
        }
        asked.cancellation.as_ref().map_or(Ok(()), Cancellation::check)?;
        if asked.session.is_some_and(|session| session != requests.sessions_lost) {
            return Err(ErrorCode::SessionLost.into());
        }
        // What the client asks for itself keeps locks, and gives back those that nobody wants: as many as there are locks.
        let is_own = matches!(asked.completion, Completion::Untold);
        if !is_own && requests.pending.len() >= self.options.max_pending {
            return Err(ErrorCode::QueueFull.into());
        }
        if let RequestKind::RenewToken(token) = &asked.kind {
            requests.fresh_token = Some(token.clone());
        }
        let id = requests.pending.next_id();
        let mut frame = Vec::with_capacity(128);
        write(&mut frame, id);
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or(now + A_LONG_TIME);
        asked.not_sent_yet();
        requests.pending.insert(id, asked.kind.kind(), frame, deadline, asked);
        drop(requests);
        self.work.notify_one();
        Ok(id)
    }

    /// The number of the session that this client is in, for [`Action::of_session`].
    pub(super) fn session(&self) -> u64 {
        lock(&self.requests).sessions_lost
    }

    /// Takes back the requests that this cancels, where that is possible.
    pub(super) fn take_back(&self, cancellation: &Cancellation) {
        let mut requests = lock(&self.requests);
        for completion in requests.take_back(cancellation) {
            self.complete(completion, Err(ErrorCode::Cancelled.into()));
        }
        drop(requests);
        self.dispatcher.announce();
    }

    /// A thread no longer waits for a change, for a reason that is returned if it was not applied.
    fn give_up(&self, id: u64, waiter: &Waiter, reason: Error) -> Outcome {
        // Who ends a request because its time is over holds this lock until the waiter is told.
        match lock(&self.requests).pending.remove(id) {
            Some(request) => Err(unanswered(&request, reason)),
            // Its time was over for both at once, and this thread came second.
            None if waiter.is_told() => waiter.wait(Duration::ZERO)?,
            // Its outcome stands behind a callback that takes long.
            None => {
                let message = "the request has ended, but callbacks that came before its result took too long";
                Err(Error::new(ErrorCode::OutcomeUnknown, message))
            }
        }
    }

    /// Tells an outcome. The dispatcher is announced by the caller, who holds the lock of the requests
    /// since it took this one out: so closing comes before both or after both, and every request
    /// ends once, before the last item.
    pub(crate) fn complete(&self, completion: Completion, outcome: Outcome) {
        match completion {
            Completion::Dispatched(tell) => self.dispatcher.push(Item::Call(Box::new(move || tell(outcome)))),
            Completion::Awaited(waiter) if !is_timeout(&outcome) => {
                self.dispatcher.push(Item::Call(Box::new(move || waiter.complete(outcome))));
            }
            Completion::Awaited(waiter) | Completion::Direct(waiter) => waiter.complete(outcome),
            Completion::Untold => {}
        }
    }

    /// Hands notices of the replica to the listeners they are for, while the lock is held, so
    /// that their order is that of the replica.
    pub(crate) fn queue_notices(&self, listening: &Listening, notices: &mut Vec<Notice>) {
        self.dispatcher.push_all(addressed(listening, notices).map(Item::from));
    }

    /// Ends everything, once: requests end with `CLOSED`, listeners are dropped, then the update
    /// listener. `announce_state` tells the update listener why before it goes.
    pub(crate) fn close(&self, reason: Option<Error>, announce_state: bool) {
        let mut listening = lock(&self.listening);
        if std::mem::replace(&mut listening.closed, true) {
            return;
        }
        // The lock is kept to the end: who closes second finds everything queued. Whoever is told of it, by a result too,
        // finds the client closed and its locks gone.
        let mut status = lock(&self.status);
        status.state = ConnectionState::Closed;
        status.error = reason.clone();
        drop(status);
        let error = reason.clone().unwrap_or_else(|| ErrorCode::Closed.into());
        self.locks.lose_all(&self.dispatcher, &error);
        let cells = std::mem::take(&mut listening.cells);
        let mut requests = lock(&self.requests);
        requests.closed = true;
        let (left, waiting) = (std::mem::take(&mut requests.left), requests.pending.take_all());
        drop(requests);
        left.into_iter().for_each(|leave| self.complete(leave, Ok(Answer::Nothing)));
        for request in waiting {
            let error = unanswered(&request, error.clone());
            self.complete(request.what.completion, Err(error));
        }
        for cell in cells.into_values() {
            cell.cancel();
            self.dispatcher.push(Item::Ended(cell));
        }
        self.status_changed.notify_all();
        if announce_state {
            self.dispatcher.push(Item::Update(UpdateNotice::State(ConnectionState::Closed, reason)));
        }
        self.dispatcher.push(Item::Last);
        drop(listening);
        self.dispatcher.announce();
        self.work.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.requests).closed
    }
}

/// A client: one peer in one room. Dropping it leaves the room; nothing waits for that, so a program
/// that ends right after says [`leave`](Client::leave) and waits first, or the peer stays in the room
/// for the grace period.
///
/// It is `Send` and `Sync`; all calls are short unless their name ends in `wait`.
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// Opens a client, which joins in the background and tells `listener` how it goes.
    ///
    /// A client takes about 10 KiB of memory, with callbacks as in poll mode (measured on 64-bit Linux
    /// with 1,000 clients in one process that listen to one key each), and no thread unless it has
    /// thread hooks: all clients share one network thread and the threads that run callbacks.
    ///
    /// Errors: `INVALID_URL`, `INVALID_ROOM`, `INVALID_PEER`, `INVALID_ARGUMENT` for the options and their
    /// files; `TLS_FAILED` when the URL asks for TLS and the system has no authorities to trust;
    /// `OUT_OF_RESOURCES` when the system refuses a thread. The listener is then dropped before
    /// this returns.
    pub fn open(options: ClientOptions, listener: impl UpdateListener + 'static) -> Result<Client, Error> {
        let (options, address) = options.checked()?;
        let network = NetworkThread::get()?;
        let dispatcher = Dispatcher::start(Box::new(listener), options.wake.clone(), options.thread_hooks.clone())?;
        let token = Mutex::new(options.token.clone());
        let (name, metadata) = (options.name.as_str().into(), options.metadata.as_str().into());
        let shared = Arc::new(Shared {
            options,
            address,
            dispatcher,
            listening: Mutex::default(),
            requests: Mutex::default(),
            locks: Locks::default(),
            secret: crate::ids::secret()?,
            token,
            status: Mutex::new(Status {
                state: ConnectionState::Connecting,
                joined: false,
                error: None,
                session_id: "".into(),
                name,
                metadata,
                peers: BTreeMap::new(),
            }),
            status_changed: Condvar::new(),
            work: Notify::new(),
        });
        network.spawn(task::run(shared.clone(), network.clone()));
        Ok(Client { shared })
    }

    /// Waits until the room is joined and returns its store.
    ///
    /// Errors: `WOULD_DEADLOCK` inside a callback; `CLOSED`, or the reason for which the client
    /// closed, such as `UNAUTHORIZED`; when the time runs out, the last failure to connect
    /// (`HOST_NOT_FOUND`, `CONNECTION_FAILED`, ...) or `TIMEOUT`. The client goes on trying.
    pub fn join_wait(&self, timeout: Duration) -> Result<Store, Error> {
        may_wait()?;
        let deadline = Instant::now().checked_add(timeout);
        let mut status = lock(&self.shared.status);
        loop {
            if status.state == ConnectionState::Closed {
                return Err(status.error.clone().unwrap_or_else(|| ErrorCode::Closed.into()));
            }
            if status.joined {
                return Ok(Store { shared: self.shared.clone() });
            }
            let last = status.error.clone();
            status = wait(&self.shared.status_changed, status, deadline).map_err(|timeout| last.unwrap_or(timeout))?;
        }
    }

    /// Where the client stands.
    pub fn state(&self) -> ConnectionState {
        lock(&self.shared.status).state
    }

    /// This peer's id.
    pub fn peer_id(&self) -> &str {
        &self.shared.options.peer_id
    }

    /// Everybody in the room as this client knows it, itself included, in the order of their ids.
    pub fn peers(&self) -> Vec<Arc<PeerInfo>> {
        lock(&self.shared.status).peers.values().cloned().collect()
    }

    /// Changes this peer's name, its metadata, or both.
    pub fn update_peer(&self, name: Option<&str>, metadata: Option<&str>) -> Action<()> {
        let checked = name.map_or(Ok(()), names::check_peer_name);
        let checked = checked.and(metadata.map_or(Ok(()), names::check_peer_metadata));
        let (name, metadata): (Option<Arc<str>>, Option<Arc<str>>) = (name.map(Into::into), metadata.map(Into::into));
        let kind = RequestKind::PeerUpdate { name: name.clone(), metadata: metadata.clone() };
        let write = move |out: &mut Vec<u8>, id| {
            wire::write_introduction(out, id, "peer-update", name.as_deref(), metadata.as_deref());
        };
        Action::new(&self.shared, kind, checked, write, |_| Ok(()))
    }

    /// Hands in a fresh token before the old one expires, without a break: for the same room and user, maybe
    /// with another role. From when the server has taken it this client connects with it; without a connection
    /// already when the old one is refused, so that it comes back also if that has expired meanwhile, also where this ended
    /// with `TIMEOUT`.
    ///
    /// Errors: `UNAUTHORIZED`, `TOKEN_EXPIRED`, after which the old one counts; `INVALID_ARGUMENT` when the
    /// server is open.
    pub fn renew_token(&self, token: &str) -> Action<()> {
        let checked = super::options::check_token(token);
        let (token, sent) = (token.to_owned(), token.to_owned());
        let write = move |out: &mut Vec<u8>, id| wire::write_renew_token(out, id, &sent);
        Action::new(&self.shared, RequestKind::RenewToken(token), checked, write, |_| Ok(()))
    }

    /// Leaves the room: everybody is told, the keys listened to fall silent, the client closes.
    /// The result comes before the client's last callback. Without a connection, or when it breaks and the next cannot
    /// be made at once, that is all there is to do: the others are told after the grace period.
    pub fn leave(&self) -> Action<()> {
        Action::new(&self.shared, RequestKind::Leave, Ok(()), |out, id| wire::write_bare(out, id, "leave"), |_| Ok(()))
    }

    /// In poll mode, runs waiting callbacks on this thread, at most `most`; returns how many.
    ///
    /// Errors: `WRONG_MODE` when the client is not in poll mode; `WOULD_DEADLOCK` inside a
    /// callback; `BUSY` when another thread polls.
    pub fn poll(&self, most: usize) -> Result<usize, Error> {
        self.shared.dispatcher.poll(most)
    }

    /// The queue to poll, which lives on if a callback drops the client meanwhile.
    pub(crate) fn polled(&self) -> Arc<Dispatcher> {
        self.shared.dispatcher.clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.close(None, false);
        self.shared.dispatcher.drain_after_close();
    }
}

/// Writes a request's frame, given its id.
type WriteFrame = Box<dyn FnOnce(&mut Vec<u8>, u64) + Send>;

/// Makes of an answer what the app is given.
type Convert<T> = Box<dyn FnOnce(Answer) -> Result<T, Error> + Send>;

/// A request that is sent once it is told how its result is wanted: by callback
/// ([`on_result`](Action::on_result)), by waiting ([`wait`](Action::wait)), or by `.await`.
///
/// The result comes exactly once. Success is told after this client's listeners were told of the
/// change. While the connection is broken the request waits; if it was sent before, it is sent again, and applied
/// once. After `OUTCOME_UNKNOWN` it may have been applied or not; after any other error it was not.
#[must_use = "an action is sent by on_result, wait or await"]
pub struct Action<T> {
    shared: Arc<Shared>,
    kind: RequestKind,
    timeout: Duration,
    cancellation: Option<Cancellation>,
    session: Option<u64>,
    checked: Result<(), Error>,
    write: WriteFrame,
    convert: Convert<T>,
}

impl<T: 'static> Action<T> {
    pub(super) fn new(
        shared: &Arc<Shared>,
        kind: RequestKind,
        checked: Result<(), Error>,
        write: impl FnOnce(&mut Vec<u8>, u64) + Send + 'static,
        convert: impl FnOnce(Answer) -> Result<T, Error> + Send + 'static,
    ) -> Action<T> {
        let timeout = Duration::from_millis(shared.options.request_timeout_ms);
        let (write, convert): (WriteFrame, Convert<T>) = (Box::new(write), Box::new(convert));
        let (cancellation, session) = (None, None);
        Action { shared: shared.clone(), kind, timeout, cancellation, session, checked, write, convert }
    }

    /// Lets this cancellation take the request back. The request is refused with `CANCELLED` if that was used
    /// already.
    pub fn cancelled_by(mut self, cancellation: &Cancellation) -> Action<T> {
        cancellation.concerns(&self.shared);
        self.cancellation = Some(cancellation.clone());
        self
    }

    /// The same, taking so much longer.
    pub(super) fn within(mut self, more: Duration) -> Action<T> {
        self.timeout = self.timeout.saturating_add(more);
        self
    }

    /// The request is made in the session of this [number](Shared::session) only, and otherwise refused with
    /// `SESSION_LOST`.
    pub(super) fn of_session(mut self, session: u64) -> Action<T> {
        self.session = Some(session);
        self
    }

    /// Sends the request and calls `told` with the result, on a dispatch thread.
    ///
    /// When this fails, nothing was sent and `told` is dropped uncalled.
    pub fn on_result(self, told: impl FnOnce(Result<T, Error>) + Send + 'static) -> Result<(), Error> {
        let Action { shared, kind, timeout, cancellation, session, checked, write, convert } = self;
        checked?;
        let completion = Completion::Dispatched(Box::new(move |outcome| told(outcome.and_then(convert))));
        shared.begin(Asked { kind, completion, cancellation, session }, timeout, write).map(drop)
    }

    /// Sends the request and waits for the result.
    ///
    /// Errors: those of the request; `WOULD_DEADLOCK` inside a callback, where nothing is sent. When the time
    /// runs out first, `OUTCOME_UNKNOWN` for a change that was sent, otherwise `TIMEOUT`, and nothing is applied.
    pub fn wait(self, timeout: Duration) -> Result<T, Error> {
        may_wait()?;
        let Action { shared, kind, cancellation, session, checked, write, convert, .. } = self;
        checked?;
        let waiter = Arc::new(Waiter::default());
        let completion = if shared.dispatcher.is_polled() {
            Completion::Direct(waiter.clone())
        } else {
            Completion::Awaited(waiter.clone())
        };
        // A lock that comes too late is given back when it comes, and what was only asked does no harm.
        let is_change = matches!(kind.kind(), Kind::Change { .. }) && !matches!(kind, RequestKind::Acquire(_));
        let id = shared.begin(Asked { kind, completion, cancellation, session }, timeout, write)?;
        let outcome = waiter.wait(timeout);
        let given_up = |reason| if is_change { shared.give_up(id, &waiter, reason) } else { Err(reason) };
        outcome.unwrap_or_else(given_up).and_then(convert)
    }
}

impl<T: Send + 'static> IntoFuture for Action<T> {
    type Output = Result<T, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sent = self.on_result(move |result| drop(sender.send(result)));
        Box::pin(async move {
            sent?;
            receiver.await.unwrap_or_else(|_| Err(ErrorCode::Closed.into()))
        })
    }
}

impl Subscription {
    pub(super) fn new(shared: Arc<Shared>, cell: Arc<ListenerCell>) -> Subscription {
        Subscription { shared, cell, detached: false }
    }
}

/// A registered listener. Dropping it asks the listener to stop, as [`cancel`](Self::cancel) does.
pub struct Subscription {
    shared: Arc<Shared>,
    cell: Arc<ListenerCell>,
    detached: bool,
}

impl Subscription {
    /// Asks the listener to stop. A call that is running goes on; none begins after it; then the
    /// listener is dropped on a dispatch thread.
    pub fn cancel(&self) {
        if !self.cell.cancel() {
            return;
        }
        let mut listening = lock(&self.shared.listening);
        // Under the lock, so that it comes before the last item; if the client was closed, that did it.
        if listening.cells.remove(&self.cell.id).is_some() {
            self.shared.dispatcher.push(Item::Ended(self.cell.clone()));
        }
        let shrunk = listening.replica.remove(self.cell.id);
        drop(listening);
        self.shared.dispatcher.announce();
        if shrunk {
            self.shared.work.notify_one();
        }
    }

    /// Stops the listener and returns after its last call has returned and it was dropped.
    ///
    /// Errors: `WOULD_DEADLOCK` inside a callback: the listener is then stopped as by
    /// [`cancel`](Self::cancel), without waiting.
    pub fn cancel_wait(&self) -> Result<(), Error> {
        self.cancel_wait_for(Duration::MAX)
    }

    /// The same with a time limit; after `TIMEOUT` the listener is still stopping.
    pub fn cancel_wait_for(&self, timeout: Duration) -> Result<(), Error> {
        // The last thing the listener does may be to free this handle, its client and its store.
        let (shared, cell) = (self.shared.clone(), self.cell.clone());
        self.cancel();
        shared.dispatcher.wait_until_done(&cell, timeout)
    }
}

impl Subscription {
    /// Gives the handle up without stopping the listener, which then stays for as long as the
    /// client does.
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.detached {
            self.cancel();
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.shared.options).field("state", &self.state()).finish()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("cancelled", &self.cell.is_cancelled()).finish_non_exhaustive()
    }
}
