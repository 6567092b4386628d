//! The life of one client's connection: join, requests, changes, reconnect.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::FutureExt;

use super::api::{addressed, Listening, Outcome, Shared, Status, A_LONG_TIME};
use super::dispatch::{lock, Item, ListenerCell, UpdateNotice};
use super::listener::{ConnectionState, PeerChange};
use super::requests::{unanswered, Answer, Asked, Expected, RequestKind, Requests, NO_ANSWER};
use super::runtime::NetworkThread;
use super::socket::{Ended, Socket};
use super::store::Store;
use super::transport::{self, Opened};
use crate::core::replica::{KeyEvent, ListenerId, Notice};
use crate::core::room::Change;
use crate::core::wire::{self, Body, Known, PeerInfo, ServerMessage};
use crate::core::write::LockGuard;
use crate::{ClientOptions, Error, ErrorCode};

/// The largest message of servers that do not say theirs: what they have unless told otherwise.
const MAX_MESSAGE_BYTES_UNSAID: usize = 64 * 1024;

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
    /// The largest message that the server takes.
    max_message_bytes: usize,
    /// The join was granted on this connection, and the peer list is still to come.
    welcomed: bool,
    last_heard: Instant,
    pinged: bool,
    /// When this attempt to connect is given up unless it has brought the client into the room, or more of a message has
    /// arrived.
    join_by: Option<Instant>,
    /// Texts of changes that come again and again.
    known: Known,
    notices: Vec<Notice>,
    /// Changes of this turn on their way to the listeners. Whatever else is queued comes after them.
    changes: Vec<(Arc<ListenerCell>, Option<KeyEvent>)>,
    /// After what time the server said to come back when it stopped, in milliseconds.
    come_back_ms: Option<u64>,
    /// When the room was joined on this connection.
    joined_at: Option<Instant>,
    /// Attempts to connect since the last connection that proved good.
    attempts: u32,
    /// How long was waited before the last of them, or would have been had the server not said another time, in
    /// milliseconds.
    paused_ms: u64,
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
            max_message_bytes: MAX_MESSAGE_BYTES_UNSAID,
            welcomed: false,
            last_heard: Instant::now(),
            pinged: false,
            join_by: None,
            known: Known::default(),
            notices: Vec::new(),
            changes: Vec::new(),
            come_back_ms: None,
            joined_at: None,
            attempts: 0,
            paused_ms: 0,
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
                // A leave whose connection broke is said again on the next, if there is one at once.
                Err(End::Lost(_)) if self.has_left() => return None,
                Err(End::Lost(error)) => error,
            };
            self.requeue();
            if self.joined_at.take().is_some_and(|joined_at| proved_good(joined_at.elapsed(), self.paused_ms)) {
                self.attempts = 0;
            }
            if error.code() == ErrorCode::TooManyListenedKeys {
                // The handshake carried the whole set; a server whose limit is lower than the last
                // one's must not keep this client out of the room.
                self.refuse_listeners(u64::MAX, &error);
            }
            let joined = lock(&self.shared.status).joined;
            let is_final = transport::is_final(&error) && !self.take_fresh_token(&error);
            if is_final || (self.shared.options.fail_fast && !joined) {
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

    /// The token was refused, maybe because it has expired while there was no connection: whether the app has handed in
    /// another meanwhile. The next connection is made with that.
    fn take_fresh_token(&self, error: &Error) -> bool {
        if !matches!(error.code(), ErrorCode::Unauthorized | ErrorCode::TokenExpired) {
            return false;
        }
        let Some(fresh) = lock(&self.shared.requests).fresh_token.take() else { return false };
        let mut token = lock(&self.shared.token);
        let is_another = token.as_ref() != Some(&fresh);
        *token = Some(fresh);
        is_another
    }

    fn join_deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(Duration::from_millis(self.shared.options.connect_timeout_ms))
    }

    /// Opens a connection and joins; meanwhile requests may time out and the client may be closed.
    async fn connect(&mut self) -> Result<Opened, End> {
        let shared = self.shared;
        self.listens.clear();
        self.welcomed = false;
        // A server may take connections and answer pings without ever answering the join.
        self.join_by = self.join_deadline();
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
        let mut random = [0u8; 8];
        // Without random bytes the pause is as long as it can be.
        let random = getrandom::fill(&mut random).map_or(u64::MAX, |()| u64::from_le_bytes(random));
        let own = pause_ms(options, self.attempts, retry_after_ms, random);
        let pause = match self.come_back_ms.take() {
            // Once: who is sent away as soon as it is there comes no faster than others.
            Some(told) if self.attempts == 0 => told.min(options.reconnect_max_ms),
            Some(told) => own.max(told.min(options.reconnect_max_ms)),
            None => own,
        };
        self.paused_ms = own.max(pause);
        self.attempts = self.attempts.saturating_add(1);
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
            () = sleep_until(deadline) => {}
        }
        self.expire();
        (self.has_left() || self.shared.is_closed()).then_some(None)
    }

    /// Whether somebody asked to leave, which then has happened: without a connection there is nothing to say, and the
    /// server notices by itself.
    fn has_left(&self) -> bool {
        let mut requests = lock(&self.shared.requests);
        let leaving = requests.pending.take_those(|asked| matches!(asked.kind, RequestKind::Leave));
        requests.left.extend(leaving.into_iter().map(|leave| leave.what.completion));
        !requests.left.is_empty()
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
            // Nobody waits for what follows.
            self.shared.close(None, true);
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
            if self.join_by.is_some() && socket.is_within_message() {
                // A list of thousands of peers takes its time where bytes are few.
                self.join_by = self.join_deadline();
            }
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
            ServerMessage::LockLost { name, token } => {
                self.shared.locks.taken(&name, token, &self.shared.dispatcher);
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

    fn joined(&mut self, body: Body<'_>) -> Result<(), End> {
        let welcome = wire::parse_welcome(body).map_err(|_| {
            End::Lost(Error::new(ErrorCode::HandshakeFailed, "the server's answer to the join cannot be read"))
        })?;
        self.joined_at = Some(Instant::now());
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
        self.max_message_bytes = welcome.max_message_bytes.unwrap_or(MAX_MESSAGE_BYTES_UNSAID);
        lock(&self.shared.requests).pending.bound_frames(self.max_message_bytes);
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
        self.join_by = None;
        lock(&self.shared.requests).pending.unsent_mut().for_each(Asked::not_sent_yet);
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

    fn answered(&mut self, id: u64, answer: Result<Body<'_>, Error>) -> Result<(), End> {
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
        requests.forget_token(&kind);
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
                let Status { name: own_name, metadata: own_metadata, peers, .. } = &mut *status;
                // It comes back with them, too.
                name.into_iter().for_each(|name| *own_name = name);
                metadata.into_iter().for_each(|metadata| *own_metadata = metadata);
                if let Some(own) = peers.get_mut(&*self.shared.options.peer_id) {
                    let (name, metadata) = (own_name.clone(), own_metadata.clone());
                    *own = Arc::new(PeerInfo { name, metadata, ..PeerInfo::clone(own) });
                }
                Ok(Answer::Nothing)
            }
            (RequestKind::RenewToken(token), Ok(_)) => {
                // At once, as the connection may break before the result is told.
                *lock(&self.shared.token) = Some(token);
                Ok(Answer::Nothing)
            }
            (RequestKind::Leave | RequestKind::Release | RequestKind::Pause, Ok(_)) => Ok(Answer::Nothing),
        };
        let left = is_leave && outcome.is_ok();
        match left {
            true => requests.left.push(completion),
            false => self.shared.complete(completion, outcome),
        }
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
                Some(known) if is_news(&known, &peer) => told.push((PeerChange::Updated, peer.clone())),
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
            Some(known) if is_news(&known, &peer) => self.tell_peer(PeerChange::Updated, peer),
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
        while let Some(error) = self.queue_listen(socket) {
            // Those who came last end; what is left is asked for anew.
            self.refuse_listeners(u64::MAX, &error);
            self.shared.dispatcher.announce();
        }
        let mut requests = lock(&self.shared.requests);
        let too_large = requests.pending.send(|frame| socket.queue_text(frame));
        self.acknowledge(&mut requests, socket, false);
        for request in too_large {
            let error = unanswered(&request, too_large_for(self.max_message_bytes, request.frame_bytes()));
            self.end_renewal(&request.what.kind, error.code());
            self.shared.complete(request.what.completion, Err(error));
        }
        drop(requests);
        self.shared.dispatcher.announce();
    }

    /// Queues the listen set if the server does not know it; or says why it cannot be told.
    fn queue_listen(&mut self, socket: &mut Socket) -> Option<Error> {
        let listening = lock(&self.shared.listening);
        let generation = listening.replica.generation();
        let is_due = match self.listen_again_at {
            Some(again_at) => again_at <= Instant::now(),
            None => generation != self.sent,
        };
        if !is_due {
            return None;
        }
        let id = lock(&self.shared.requests).pending.next_id();
        let mut text = Vec::new();
        wire::write_listen(&mut text, id, listening.replica.listen_set(), listening.replica.prefixes());
        if text.len() > self.max_message_bytes {
            if listening.cells.is_empty() {
                // Nobody is left whom to refuse, and what the server goes on telling reaches nobody.
                self.sent = generation;
                return None;
            }
            return Some(too_large_for(self.max_message_bytes, text.len()));
        }
        self.sent = generation;
        self.listen_again_at = None;
        self.listens.push_back((id, generation));
        socket.queue_text(&text);
        None
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
            requests.sessions_lost += 1;
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
        for held in self.shared.locks.expire(self.is_connected(), &self.shared.dispatcher) {
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
        let at = self.last_heard + if self.pinged { silence * 2 } else { silence };
        self.join_by.map_or(at, |join_by| at.min(join_by))
    }

    fn heartbeat(&mut self, socket: &mut Socket) -> Result<(), End> {
        let now = Instant::now();
        if self.join_by.is_some_and(|join_by| join_by <= now) {
            let within = self.shared.options.connect_timeout_ms;
            let message = format!("the server took the connection, but did not let the client join within {within} ms");
            return Err(End::Lost(Error::new(ErrorCode::ConnectionFailed, message)));
        }
        if now < self.heartbeat_at() {
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

/// What does not fit into a message, of so many bytes.
fn too_large_for(max_message_bytes: usize, bytes: usize) -> Error {
    let message = format!("this would be a message of {bytes} bytes; the server takes {max_message_bytes} at most");
    Error::new(ErrorCode::MessageTooLarge, message)
}

/// Whether a connection that lasted so long counts as one that works: a server that lets a client in and closes the
/// connection at once must not be asked again and again without pauses that grow.
fn proved_good(lasted: Duration, paused_ms: u64) -> bool {
    lasted >= Duration::from_millis(paused_ms)
}

/// Whether something about a peer has changed; that it had to join another session is none of it.
fn is_news(known: &PeerInfo, now: &PeerInfo) -> bool {
    known != &PeerInfo { joined_at: known.joined_at, ..now.clone() }
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

    #[test]
    fn pauses_grow_until_a_connection_lasts_longer_than_the_pause_before_it() {
        assert!(proved_good(Duration::from_millis(3), 0), "the first");
        assert!(!proved_good(Duration::from_millis(249), 250));
        assert!(proved_good(Duration::from_millis(250), 250));
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
