//! The life of one client's connection: join, requests, changes, reconnect.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::FutureExt;
use serde_json::value::RawValue;

use super::api::{addressed, Listening, Outcome, Shared, A_LONG_TIME};
use super::dispatch::{lock, Item, ListenerCell, UpdateNotice};
use super::listener::{ConnectionState, PeerChange};
use super::requests::{unanswered, Answer, Asked, Expected, RequestKind, Requests};
use super::runtime::NetworkThread;
use super::socket::{Ended, Socket};
use super::store::Store;
use super::transport::{self, Opened};
use crate::core::replica::{KeyEvent, ListenerId, Notice};
use crate::core::room::Change;
use crate::core::wire::{self, Known, PeerInfo, ServerMessage};
use crate::core::write::LockGuard;
use crate::{ClientOptions, Error, ErrorCode};

/// How long a closing client tries to tell the server that it leaves. Nobody waits for it; it only
/// keeps a dead connection from lingering.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Runs a client until it is closed. Holds the network thread until the leave is said.
pub(crate) async fn run(shared: Arc<Shared>, network: Arc<NetworkThread>) {
    let ended = AssertUnwindSafe(Task::new(&shared).run()).catch_unwind().await;
    match ended {
        Ok(reason) => shared.close(reason, true),
        Err(_) => {
            // The panic ended this client only; its handles now answer with this code.
            let error: Error = ErrorCode::Panic.into();
            shared.dispatcher.push(Item::Update(UpdateNotice::Error(error.clone())));
            shared.close(Some(error), true);
        }
    }
    drop(network);
}

/// What is told of a request that was sent and has no answer in time.
const NO_ANSWER: &str = "there was no answer within the time given";

struct Task<'a> {
    shared: &'a Shared,
    store: Store,
    /// The generation of the listen set that the server's next snapshot answers.
    answered: u64,
    /// The generation last sent.
    sent: u64,
    /// Listen requests without an answer: id and generation.
    listens: VecDeque<(u64, u64)>,
    /// When the listen set is sent again, after the server refused it because too much came too fast.
    listen_again_at: Option<Instant>,
    join_id: u64,
    /// Which peer of the room this client is.
    peer_number: Option<u32>,
    /// Whether the server applies once what is sent again.
    resumes: bool,
    /// The join was granted on this connection, and the peer list is still to come.
    welcomed: bool,
    last_heard: Instant,
    pinged: bool,
    /// Texts of changes that come again and again.
    known: Known,
    notices: Vec<Notice>,
    /// Changes of this turn on their way to the listeners. Whatever else is queued comes after them.
    changes: Vec<(Arc<ListenerCell>, Option<KeyEvent>)>,
    /// After what time the server said to come back when it stopped, in milliseconds.
    come_back_ms: Option<u64>,
    /// Attempts to connect since the last that joined.
    attempts: u32,
}

/// What ended a connection.
enum End {
    /// The client was closed, or left; the reason if it was not the app's wish.
    Closed(Option<Error>),
    /// The connection broke.
    Lost(Error),
}

impl From<Ended> for End {
    fn from(ended: Ended) -> End {
        End::Lost(match ended {
            Ended::Broken => ErrorCode::ConnectionLost.into(),
            Ended::Closed(code, reason) => transport::closed_because(code, &reason),
        })
    }
}

impl<'a> Task<'a> {
    fn new(shared: &'a Arc<Shared>) -> Task<'a> {
        Task {
            shared,
            store: Store { shared: shared.clone() },
            answered: 0,
            sent: 0,
            listens: VecDeque::new(),
            listen_again_at: None,
            join_id: 0,
            peer_number: None,
            resumes: false,
            welcomed: false,
            last_heard: Instant::now(),
            pinged: false,
            known: Known::default(),
            notices: Vec::new(),
            changes: Vec::new(),
            come_back_ms: None,
            attempts: 0,
        }
    }

    /// Returns why the client ended; `None` when the app wanted it.
    async fn run(mut self) -> Option<Error> {
        self.tell_state(ConnectionState::Connecting, None);
        loop {
            let error = match self.connect().await {
                Ok(opened) => match self.serve(opened).await {
                    End::Closed(reason) => return reason,
                    End::Lost(error) => error,
                },
                Err(End::Closed(reason)) => return reason,
                Err(End::Lost(error)) => error,
            };
            self.requeue();
            if error.code() == ErrorCode::TooManyListenedKeys {
                // The handshake carried the whole set; a server whose limit is lower than the last
                // one's must not keep this client out of the room.
                self.refuse_listeners(u64::MAX, &error);
            }
            let joined = lock(&self.shared.status).joined;
            if transport::is_final(&error) || (self.shared.options.fail_fast && !joined) {
                return Some(error);
            }
            let retry_after_ms = error.retry_after_ms();
            let state = if joined { ConnectionState::Reconnecting } else { ConnectionState::Connecting };
            self.tell_state(state, Some(error));
            if let Some(end) = self.pause(retry_after_ms).await {
                return end;
            }
        }
    }

    /// Opens a connection and joins; meanwhile requests may time out and the client may be closed.
    async fn connect(&mut self) -> Result<Opened, End> {
        let shared = self.shared;
        self.listens.clear();
        self.welcomed = false;
        self.join_id = lock(&shared.requests).pending.next_id();
        let (generation, set) = {
            let listening = lock(&shared.listening);
            (listening.replica.generation(), transport::ListenSet::of(&listening.replica))
        };
        let token = lock(&shared.token).clone();
        let opening = transport::open(shared, token.as_deref(), self.join_id, &set);
        let mut opening = std::pin::pin!(opening);
        let opened = loop {
            tokio::select! {
                opened = &mut opening => break opened.map_err(End::Lost)?,
                end = self.meanwhile() => if let Some(reason) = end { return Err(End::Closed(reason)) },
            }
        };
        (self.answered, self.sent) = if opened.listening { (generation, generation) } else { (0, 0) };
        self.last_heard = Instant::now();
        self.pinged = false;
        Ok(opened)
    }

    /// How long to wait before the next attempt, in milliseconds: as the server said when it stopped, which tells each
    /// client another time, and otherwise [`pause_ms`].
    fn next_pause(&mut self, retry_after_ms: Option<u64>) -> u64 {
        let options = &self.shared.options;
        if let Some(told) = self.come_back_ms.take() {
            return told.min(options.reconnect_max_ms);
        }
        let mut random = [0u8; 8];
        // Without random bytes the pause is as long as it can be.
        let random = getrandom::fill(&mut random).map_or(u64::MAX, |()| u64::from_le_bytes(random));
        let pause = pause_ms(options, self.attempts, retry_after_ms, random);
        self.attempts += 1;
        pause
    }

    /// Waits before the next attempt. Returns when that is over; with `Some` when the client is.
    async fn pause(&mut self, retry_after_ms: Option<u64>) -> Option<Option<Error>> {
        let pause = tokio::time::sleep(Duration::from_millis(self.next_pause(retry_after_ms)));
        let mut pause = std::pin::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return None,
                end = self.meanwhile() => if end.is_some() { return end },
            }
        }
    }

    /// What goes on without a connection: requests time out, and the client may be closed or
    /// asked to leave. Returns when something happened; with `Some` when the client is over.
    async fn meanwhile(&mut self) -> Option<Option<Error>> {
        let deadline = self.next_deadline();
        tokio::select! {
            () = self.shared.work.notified() => {}
            () = sleep_until(deadline) => self.expire(),
        }
        (self.complete_leaves() || self.shared.is_closed()).then_some(None)
    }

    /// Ends requests to leave, and returns whether there are any. Without a connection there is
    /// nothing to say: the server notices by itself.
    fn complete_leaves(&self) -> bool {
        let mut requests = lock(&self.shared.requests);
        let leaving = requests.pending.take_those(|asked| matches!(asked.kind, RequestKind::Leave));
        let left = !leaving.is_empty();
        for leave in leaving {
            self.shared.complete(leave.what.completion, Ok(Answer::Nothing));
        }
        drop(requests);
        self.shared.dispatcher.announce();
        left
    }

    /// Serves an open connection until it ends.
    async fn serve(&mut self, opened: Opened) -> End {
        let mut socket = opened.socket;
        let end = loop {
            if self.shared.is_closed() {
                break End::Closed(None);
            }
            self.queue_outgoing(&mut socket);
            let deadline = self.next_deadline().min(self.heartbeat_at());
            let shared = self.shared;
            let turn = tokio::select! {
                turn = std::future::poll_fn(|context| self.turn(&mut socket, context)) => turn,
                () = shared.work.notified() => Ok(()),
                () = sleep_until(deadline) => Ok(()),
            };
            self.queue_changes();
            let turn = turn.and_then(|()| self.heartbeat(&mut socket));
            self.expire();
            if let Err(end) = turn {
                break end;
            }
        };
        if let End::Closed(None) = end {
            let _ = tokio::time::timeout(LEAVE_WITHIN, self.say_leave(&mut socket)).await;
        }
        end
    }

    /// Writes what waits and handles what arrived; ready when something arrived or the connection
    /// ended. Writing never keeps from reading: a server that waits for this client to read is read.
    fn turn(&mut self, socket: &mut Socket, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        if let Poll::Ready(Err(ended)) = socket.poll_write(context) {
            return Poll::Ready(Err(ended.into()));
        }
        let mut end = None;
        let read = socket.poll_read(context, &mut |text| match self.handle(text) {
            Ok(()) => ControlFlow::Continue(()),
            Err(reason) => {
                end = Some(reason);
                ControlFlow::Break(())
            }
        });
        if read.is_ready() {
            self.last_heard = Instant::now();
            self.pinged = false;
        }
        match end {
            Some(end) => Poll::Ready(Err(end)),
            None => read.map_err(End::from),
        }
    }

    fn handle(&mut self, text: &str) -> Result<(), End> {
        #[cfg(test)]
        assert!(!text.contains("planted-panic"), "a fault of this task, planted by a test");
        // A message that this version cannot read is skipped: what it needs of later servers, it
        // asks for by requests, and those are answered or time out.
        let Ok(message) = wire::parse_server_message(text, &mut self.known) else { return Ok(()) };
        if !matches!(message, ServerMessage::Changes { .. }) {
            self.queue_changes();
        }
        match message {
            ServerMessage::Changes { states, snapshot } => {
                let mut listening = lock(&self.shared.listening);
                if snapshot {
                    listening.replica.snapshot(self.answered, states, &mut self.notices);
                } else {
                    listening.replica.notified(&states, &mut self.notices);
                }
                self.changes.extend(addressed(&listening, &mut self.notices));
            }
            ServerMessage::Result { id, body } if id == self.join_id => self.joined(body)?,
            ServerMessage::Refused { id, error } if id == Some(self.join_id) => return Err(End::Lost(error)),
            ServerMessage::Result { id, .. } if self.listens.front().is_some_and(|(first, _)| *first == id) => {
                self.answered = self.listens.pop_front().map_or(self.answered, |(_, generation)| generation);
                self.listen_again_at = None;
            }
            ServerMessage::Refused { id: Some(id), error } if self.listens.front().is_some_and(|l| l.0 == id) => {
                self.listen_refused(error);
            }
            ServerMessage::Result { id, body } => return self.answered(id, Ok(body)),
            ServerMessage::Refused { id: Some(id), error } => return self.answered(id, Err(error)),
            ServerMessage::ListenRevoked { keys, error } => {
                let mut listening = lock(&self.shared.listening);
                let revoked = listening.replica.naming(&keys);
                self.end_listeners(&mut listening, revoked, &error);
            }
            ServerMessage::TokenExpiring { expires_at } => {
                self.shared.dispatcher.push(Item::Update(UpdateNotice::TokenExpiring(expires_at)));
            }
            ServerMessage::ServerStops { come_back_ms } => self.come_back_ms = Some(come_back_ms),
            ServerMessage::PeerList(list) => self.peers_listed(list),
            ServerMessage::PeerJoined(peer) | ServerMessage::PeerUpdated(peer) => self.peer_changed(peer),
            ServerMessage::PeerLeft { peer_id } => {
                let gone = lock(&self.shared.status).peers.remove(&peer_id);
                if let Some(gone) = gone {
                    self.tell_peer(PeerChange::Left, gone);
                }
            }
            ServerMessage::Refused { id: None, .. } | ServerMessage::Other => {}
        }
        Ok(())
    }

    /// Queues the changes of this turn so far.
    fn queue_changes(&mut self) {
        if !self.changes.is_empty() && self.shared.dispatcher.push_all(self.changes.drain(..).map(Item::from)) {
            // On a busy core both threads may share it, and then a listener that keeps up would miss
            // states only because this thread had its turn first.
            std::thread::yield_now();
        }
    }

    fn joined(&mut self, body: &RawValue) -> Result<(), End> {
        let welcome = wire::parse_welcome(body).map_err(|_| {
            End::Lost(Error::new(ErrorCode::HandshakeFailed, "the server's answer to the join cannot be read"))
        })?;
        self.attempts = 0;
        let was_joined = lock(&self.shared.status).joined;
        // The answer to an earlier join may have been lost: then it was another peer that was come back to.
        let same_peer = welcome.returned && self.peer_number == Some(welcome.peer_number);
        self.peer_number = Some(welcome.peer_number);
        let another = lock(&self.shared.listening).replica.joined(&welcome.session_id, welcome.revision, same_peer);
        let mut status = lock(&self.shared.status);
        status.session_id = welcome.session_id.into();
        status.error = None;
        drop(status);
        let another_peer = another || !same_peer;
        // What was sent before counts as unknown also with a server that does not know what it answered.
        self.end_hopeless(another_peer || !welcome.resumes, another);
        self.resumes = welcome.resumes;
        if another_peer && was_joined {
            self.shared.locks.lose_all(&self.shared.dispatcher, &ErrorCode::SessionLost.into());
            self.shared.dispatcher.push(Item::Update(UpdateNotice::Error(ErrorCode::SessionLost.into())));
        }
        self.welcomed = true;
        Ok(())
    }

    /// The join is complete: the peer list that follows the welcome is here, so that whoever is told
    /// can ask who is in the room.
    fn tell_joined(&mut self) {
        let first = !std::mem::replace(&mut lock(&self.shared.status).joined, true);
        self.tell_state(ConnectionState::Connected, None);
        if first {
            self.shared.dispatcher.push(Item::Update(UpdateNotice::StoreAvailable(self.store.clone())));
        }
        self.shared.status_changed.notify_all();
    }

    /// The server refused a listen set: those who wait for it end, and what is left is sent anew. What only
    /// came too fast is sent again in a while, and nobody need know.
    fn listen_refused(&mut self, error: Error) {
        let refused = self.listens.pop_front();
        match (refused, error.code(), error.retry_after_ms()) {
            (_, ErrorCode::RateLimited, Some(pause)) => {
                self.listen_again_at = Instant::now().checked_add(Duration::from_millis(pause));
            }
            (Some((_, generation)), ..) => self.refuse_listeners(generation, &error),
            (None, ..) => {}
        }
    }

    /// Ends the listeners that wait for keys up to a generation of the listen set, or all when none
    /// waits: then the set as a whole is too much for this server.
    fn refuse_listeners(&self, generation: u64, error: &Error) {
        let mut listening = lock(&self.shared.listening);
        let mut refused = listening.replica.waiting(generation);
        if refused.is_empty() {
            refused = listening.cells.keys().copied().collect();
        }
        self.end_listeners(&mut listening, refused, error);
    }

    /// Ends listeners that the server does not let listen.
    fn end_listeners(&self, listening: &mut Listening, refused: Vec<ListenerId>, error: &Error) {
        for id in refused {
            listening.replica.remove(id);
            if let Some(cell) = listening.cells.remove(&id) {
                self.shared.dispatcher.push(Item::Refused(cell, error.clone()));
            }
        }
    }

    fn answered(&mut self, id: u64, answer: Result<&RawValue, Error>) -> Result<(), End> {
        let mut listening = lock(&self.shared.listening);
        let mut requests = lock(&self.shared.requests);
        // Nobody waits for other answers any more.
        let Some(request) = requests.pending.remove(id) else { return Ok(()) };
        let unreadable = |_| Error::new(ErrorCode::Internal, "the server's answer cannot be read");
        let mut tell = |states: &[Arc<Change>]| {
            let mut notices = Vec::new();
            states.iter().for_each(|state| listening.replica.acknowledged(state, &mut notices));
            self.shared.queue_notices(&listening, &mut notices);
        };
        let Asked { kind, completion, .. } = request.what;
        let is_leave = matches!(kind, RequestKind::Leave);
        let mut unwanted = None;
        let outcome: Outcome = match (kind, answer) {
            (RequestKind::Renew(held), answer) => {
                self.shared.locks.renewed(&held, answer.map(drop), &self.shared.dispatcher);
                Ok(Answer::Nothing)
            }
            (_, Err(error)) => Err(error),
            (RequestKind::Write(expected) | RequestKind::Guarded(expected) | RequestKind::Read(expected), Ok(body)) => {
                match expected {
                    Expected::Nothing => Ok(Answer::Nothing),
                    Expected::State => wire::parse_state(body, &mut self.known).map(Arc::new).map(|state| {
                        tell(std::slice::from_ref(&state));
                        Answer::State(state)
                    }),
                    Expected::States => wire::parse_states(body, &mut self.known).map(|snapshot| {
                        tell(&snapshot.states);
                        Answer::States(snapshot)
                    }),
                    Expected::Keys => wire::parse_keys(body).map(Answer::Keys),
                    Expected::Usage => wire::parse_usage(body).map(Answer::Usage),
                }
                .map_err(unreadable)
            }
            (RequestKind::Acquire(acquire), Ok(body)) => {
                wire::parse_lease(body).map_err(unreadable).and_then(|lease| {
                    match self.shared.locks.granted(acquire, lease.name.clone(), lease.token) {
                        Some(held) => Ok(Answer::Lock(held)),
                        None => {
                            unwanted = Some(LockGuard { name: lease.name.to_string().into(), token: lease.token });
                            Err(ErrorCode::Timeout.into())
                        }
                    }
                })
            }
            (RequestKind::PeerUpdate { name, metadata }, Ok(_)) => {
                let mut status = lock(&self.shared.status);
                if let Some(own) = status.peers.get_mut(&*self.shared.options.peer_id) {
                    let mut changed = PeerInfo::clone(own);
                    changed.name = name.clone().unwrap_or(changed.name);
                    changed.metadata = metadata.clone().unwrap_or(changed.metadata);
                    *own = Arc::new(changed);
                }
                Ok(Answer::Nothing)
            }
            (RequestKind::Leave | RequestKind::Release | RequestKind::Pause, Ok(_)) => Ok(Answer::Nothing),
        };
        let left = is_leave && outcome.is_ok();
        self.shared.complete(completion, outcome);
        drop((requests, listening));
        if let Some(guard) = unwanted {
            self.shared.release_unwanted(&guard);
        }
        if left {
            return Err(End::Closed(None));
        }
        Ok(())
    }

    /// The whole list, after a join or instead of peer events that a slow connection missed: what
    /// differs from what is known is told.
    fn peers_listed(&mut self, list: Vec<PeerInfo>) {
        let mut status = lock(&self.shared.status);
        let mut before = std::mem::take(&mut status.peers);
        let mut told = Vec::new();
        for peer in list {
            let peer = Arc::new(peer);
            match before.remove(&peer.peer_id) {
                None => told.push((PeerChange::Joined, peer.clone())),
                Some(known) if known != peer => told.push((PeerChange::Updated, peer.clone())),
                Some(_) => {}
            }
            status.peers.insert(peer.peer_id.clone(), peer);
        }
        told.extend(before.into_values().map(|gone| (PeerChange::Left, gone)));
        drop(status);
        if std::mem::take(&mut self.welcomed) {
            self.tell_joined();
        }
        told.into_iter().for_each(|(change, peer)| self.tell_peer(change, peer));
    }

    fn peer_changed(&mut self, peer: PeerInfo) {
        let peer = Arc::new(peer);
        let before = lock(&self.shared.status).peers.insert(peer.peer_id.clone(), peer.clone());
        match before {
            None => self.tell_peer(PeerChange::Joined, peer),
            Some(known) if known != peer => self.tell_peer(PeerChange::Updated, peer),
            Some(_) => {}
        }
    }

    fn tell_peer(&self, change: PeerChange, peer: Arc<PeerInfo>) {
        // The listener hears of others; what this client itself does, it knows.
        if *peer.peer_id != *self.shared.options.peer_id {
            self.shared.dispatcher.push(Item::Update(UpdateNotice::Peer(change, peer)));
        }
    }

    fn tell_state(&self, state: ConnectionState, error: Option<Error>) {
        let mut status = lock(&self.shared.status);
        if status.state == ConnectionState::Closed {
            return;
        }
        status.state = state;
        status.error = error.clone();
        drop(status);
        self.shared.status_changed.notify_all();
        self.shared.dispatcher.push(Item::Update(UpdateNotice::State(state, error)));
        self.shared.dispatcher.announce();
    }

    /// Takes everything that is to be sent: once joined, the listen set if it changed, then the
    /// requests in their order.
    fn queue_outgoing(&mut self, socket: &mut Socket) {
        let status = lock(&self.shared.status);
        if status.state != ConnectionState::Connected {
            return;
        }
        drop(status);
        let listening = lock(&self.shared.listening);
        let generation = listening.replica.generation();
        let is_due = match self.listen_again_at {
            Some(again_at) => again_at <= Instant::now(),
            None => generation != self.sent,
        };
        if is_due {
            self.sent = generation;
            self.listen_again_at = None;
            let id = lock(&self.shared.requests).pending.next_id();
            self.listens.push_back((id, generation));
            let mut text = Vec::new();
            wire::write_listen(&mut text, id, listening.replica.listen_set(), listening.replica.prefixes());
            socket.queue_text(&text);
        }
        drop(listening);
        let mut requests = lock(&self.shared.requests);
        requests.pending.send(|frame| socket.queue_text(frame));
        self.acknowledge(&mut requests, socket, false);
    }

    /// Tells a server that keeps answers which ones have arrived, as soon as they are many, or a few if nothing
    /// else is going on.
    fn acknowledge(&self, requests: &mut Requests, socket: &mut Socket, few: bool) {
        if let Some((through, except)) = requests.pending.acknowledge(few).filter(|_| self.resumes) {
            let mut text = Vec::new();
            wire::write_answered(&mut text, through, &except);
            socket.queue_text(&text);
        }
    }

    /// After the connection broke: what was sent will be sent again.
    fn requeue(&mut self) {
        // The next connection begins with the listen set.
        self.listen_again_at = None;
        let mut requests = lock(&self.shared.requests);
        for request in requests.pending.connection_lost() {
            self.end_renewal(&request.what.kind, ErrorCode::ConnectionLost);
            self.shared.complete(request.what.completion, Err(ErrorCode::ConnectionLost.into()));
        }
        drop(requests);
        self.shared.dispatcher.announce();
    }

    /// Ends the requests that this join has made hopeless: those whose answers were another peer's, and those
    /// that only another session could apply.
    fn end_hopeless(&self, another_peer: bool, another_session: bool) {
        let mut requests = lock(&self.shared.requests);
        let mut hopeless = if another_peer { requests.pending.peer_lost() } else { Vec::new() };
        if another_session {
            hopeless.extend(requests.pending.session_lost());
        }
        for request in hopeless {
            let error = unanswered(&request, ErrorCode::SessionLost.into());
            self.shared.complete(request.what.completion, Err(error));
        }
        drop(requests);
        self.shared.dispatcher.announce();
    }

    /// A renewal that got no answer is made again.
    fn end_renewal(&self, kind: &RequestKind, code: ErrorCode) {
        if let RequestKind::Renew(held) = kind {
            self.shared.locks.renewed(held, Err(code.into()), &self.shared.dispatcher);
        }
    }

    fn is_connected(&self) -> bool {
        lock(&self.shared.status).state == ConnectionState::Connected
    }

    fn next_deadline(&self) -> Instant {
        let request = lock(&self.shared.requests).pending.next_deadline();
        let renewal = self.shared.locks.next_deadline(self.is_connected());
        let next = request.into_iter().chain(renewal).chain(self.listen_again_at).min();
        // An hour stands for never; waking up then costs nothing.
        next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600))
    }

    /// Ends the requests whose time ran out, and sees to the locks.
    fn expire(&mut self) {
        let now = Instant::now();
        let mut requests = lock(&self.shared.requests);
        while let Some((id, due)) = requests.pending.due(now) {
            if due.was_sent() && matches!(due.what.kind, RequestKind::Acquire(_)) {
                // It stays, so that the lock is given back if it is granted yet.
                let left = requests.pending.postpone(id, now + A_LONG_TIME).map(Asked::leave);
                left.into_iter().for_each(|told| self.shared.complete(told, Err(timed_out(NO_ANSWER))));
                continue;
            }
            let Some(request) = requests.pending.remove(id) else { break };
            self.end_renewal(&request.what.kind, ErrorCode::Timeout);
            let message = match request.was_sent() {
                true => NO_ANSWER,
                false => "there was no connection within the time given; nothing was applied",
            };
            let error = unanswered(&request, timed_out(message));
            self.shared.complete(request.what.completion, Err(error));
        }
        drop(requests);
        for held in self.shared.locks.expire(now, self.is_connected(), &self.shared.dispatcher) {
            let (timeout, guard, ttl_ms) = (held.renewal_timeout(), held.guard(), held.ttl_ms());
            let write = |out: &mut Vec<u8>, id| wire::write_renew(out, id, &guard, ttl_ms);
            let asked = self.shared.begin(Asked::own(RequestKind::Renew(held.clone())), timeout, write);
            if let Err(error) = asked {
                self.shared.locks.renewed(&held, Err(error), &self.shared.dispatcher);
            }
        }
        self.shared.dispatcher.announce();
    }

    fn heartbeat_at(&self) -> Instant {
        let silence = Duration::from_millis(self.shared.options.heartbeat_ms);
        self.last_heard + if self.pinged { silence * 2 } else { silence }
    }

    fn heartbeat(&mut self, socket: &mut Socket) -> Result<(), End> {
        if Instant::now() < self.heartbeat_at() {
            return Ok(());
        }
        if self.pinged {
            let silent = self.shared.options.heartbeat_ms * 2;
            let message = format!("nothing was heard from the server for {silent} ms");
            return Err(End::Lost(Error::new(ErrorCode::ConnectionLost, message)));
        }
        self.pinged = true;
        self.acknowledge(&mut lock(&self.shared.requests), socket, true);
        socket.queue_ping();
        Ok(())
    }

    /// Tells the server that this peer leaves, and closes. An open request of the app's to leave
    /// was answered already.
    async fn say_leave(&mut self, socket: &mut Socket) {
        let mut text = Vec::new();
        wire::write_bare(&mut text, u64::MAX, "leave");
        socket.queue_text(&text);
        socket.queue_close(1000);
        // Reading until the server closes lets it take the leave before the socket goes.
        let ended = std::future::poll_fn(|context| {
            if let Poll::Ready(Err(ended)) = socket.poll_write(context) {
                return Poll::Ready(ended);
            }
            loop {
                match socket.poll_read(context, &mut |_| ControlFlow::Continue(())) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(ended)) => return Poll::Ready(ended),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        let _ = ended.await;
    }
}

/// The pause before an attempt, of which so many have failed, in milliseconds: exponential, and drawn between half of
/// that and the whole, so that clients that lost their server together do not return together. Who was told when to try
/// again does not come sooner, and is spread over half as much again. Never more than the options have as most.
fn pause_ms(options: &ClientOptions, failed: u32, retry_after_ms: Option<u64>, random: u64) -> u64 {
    let doubled = options.reconnect_min_ms.saturating_mul(1u64 << failed.min(20));
    let whole = doubled.min(options.reconnect_max_ms);
    let (least, more) = match retry_after_ms {
        Some(told) if told > whole / 2 => (told, told / 2),
        _ => (whole / 2, whole / 2),
    };
    least.saturating_add(random % (more + 1)).min(options.reconnect_max_ms)
}

fn timed_out(message: &'static str) -> Error {
    Error::new(ErrorCode::Timeout, message)
}

async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::time::Duration;

    use tungstenite::handshake::server::{Request, Response};
    use tungstenite::Message;

    use super::*;
    use crate::{Client, ClientOptions, UpdateListener};

    /// Far above what anything here takes.
    const SAFETY: Duration = Duration::from_secs(30);

    struct Told(mpsc::Sender<Option<ErrorCode>>);

    impl Told {
        /// Stands for any word of a peer.
        const PEER: Option<ErrorCode> = Some(ErrorCode::NotJoined);
    }

    impl UpdateListener for Told {
        fn on_peer(&mut self, _: PeerChange, _: &Arc<PeerInfo>) {
            let _ = self.0.send(Told::PEER);
        }

        fn on_error(&mut self, error: &Error) {
            let _ = self.0.send(Some(error.code()));
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(None);
        }
    }

    #[test]
    fn pauses_grow_to_the_most_and_are_never_shorter_than_the_server_asked_for() {
        let options = ClientOptions { reconnect_min_ms: 100, reconnect_max_ms: 1_000, ..ClientOptions::new("", "") };
        let range = |failed, told| {
            let pauses = (0..2_000).chain([u64::MAX]).map(|random| pause_ms(&options, failed, told, random));
            (pauses.clone().min().unwrap(), pauses.max().unwrap())
        };
        assert_eq!(
            [0, 1, 2, 9, 200].map(|failed| range(failed, None)),
            [(50, 100), (100, 200), (200, 400), (500, 1_000), (500, 1_000)]
        );
        assert_eq!([0, 200].map(|failed| range(failed, Some(600))), [(600, 900); 2]);
        assert_eq!(range(9, Some(20)), (500, 1_000), "less than it would wait by itself");
        assert_eq!(range(0, Some(800)), (800, 1_000));
        assert_eq!(range(0, Some(u64::MAX)), (1_000, 1_000));
    }

    /// A server that lets one client join and then says what it is given.
    fn scripted(says: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut join_id = String::new();
            #[allow(clippy::result_large_err)] // The type is tungstenite's.
            let read_id = |request: &Request, response: Response| {
                let query = request.uri().query().unwrap_or("").split('&');
                join_id = query.filter_map(|pair| pair.strip_prefix("join=")).collect();
                Ok(response)
            };
            let mut socket = tungstenite::accept_hdr(stream, read_id).unwrap();
            let welcome = r#""result":{"peer_id":"p","session_id":"s","revision":0}"#;
            socket.send(Message::text(format!("{{\"id\":\"{join_id}\",{welcome}}}"))).unwrap();
            socket.send(Message::text(r#"{"method":"peer-list","params":{"peers":{}}}"#)).unwrap();
            says.iter().for_each(|text| socket.send(Message::text(*text)).unwrap());
            while socket.read().is_ok() {}
        });
        url
    }

    #[test]
    fn a_panic_inside_the_task_ends_its_client_alone_and_says_so() {
        let (sender, told) = mpsc::channel();
        let broken = Client::open(ClientOptions::new(scripted(&["planted-panic"]), "room"), Told(sender)).unwrap();
        assert_eq!(told.recv_timeout(SAFETY).unwrap(), Some(ErrorCode::Panic));
        assert_eq!(told.recv_timeout(SAFETY).unwrap(), None, "the listener is dropped");
        assert_eq!(broken.join_wait(SAFETY).err().unwrap(), ErrorCode::Panic);
        // The network thread serves others.
        let other = Client::open(ClientOptions::new(scripted(&[]), "room"), ()).unwrap();
        other.join_wait(SAFETY).unwrap();
    }

    #[test]
    fn whatever_a_server_says_does_no_harm() {
        let says = &[
            "",
            "nonsense",
            "[]",
            "{}",
            r#"{"method":1}"#,
            r#"{"method":"on-metadata-change"}"#,
            r#"{"method":"on-metadata-change","params":{"values":[{"key":"","data":1}]}}"#,
            r#"{"method":"peer-list","params":{"peers":7}}"#,
            r#"{"id":"99","result":null}"#,
            r#"{"id":null,"error":{"code":1e99}}"#,
            r#"{"id":"99","error":{"code":202,"message":"too large"}}"#,
            r#"{"method":"on-peer-leave","params":{"peer_id":"never here"}}"#,
            r#"{"method":"on-peer-join","params":{"peer_id":"last"}}"#,
        ];
        let (sender, told) = mpsc::channel();
        let client = Client::open(ClientOptions::new(scripted(says), "room"), Told(sender)).unwrap();
        assert_eq!(told.recv_timeout(SAFETY).unwrap(), Told::PEER, "the last thing said is heard");
        assert_eq!(client.state(), ConnectionState::Connected);
        assert_eq!(client.peers().len(), 1);
    }
}
