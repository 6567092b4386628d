//! What a client asks, put to the room and answered.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use serde_json::value::RawValue;

use crate::core::error::{Error, ErrorCode};
use crate::core::names::KeyList;
use crate::core::room::{Command, Introduction, PeerHandle, Reply, Time};
use crate::core::wire::{self, ClientMessage, Text, Usage};

use super::budget::Budget;
use super::connection::{Connection, Dialect, State};
use super::handshake::Admission;
use super::http;
use super::metrics::Written;
use super::options::{CLOSE_WAIT_MS, FULL_RETRY_MS, PEERS_PER_CONNECTION};
use super::room_host::{close_code, shown, Inner};
use crate::frames::{self, Decoder, Event};

impl Inner {
    /// A connection has come: it is given the WebSocket, and what its query asks for.
    pub fn admit(&mut self, connection: &Rc<Connection>, admission: &Admission, now: Time) {
        self.connections += 1;
        tracing::debug!(
            room = %self.room.name(), peer = %self.peer_id(connection), request = %admission.shown_id(), "connected"
        );
        self.answer_raw(connection, |out| http::write_upgrade(out, &admission.accept_key));
        if frames::ECHOES {
            return;
        }
        if let Some(id) = &admission.join {
            let Some((peer, is_back)) = self.join(connection, Some(id), None, None, now) else { return };
            let nothing = KeyList::default();
            let (keys, prefixes) = (admission.listen.as_ref(), admission.prefixes.as_ref());
            let (keys, prefixes) = (keys.unwrap_or(&nothing), prefixes.unwrap_or(&nothing));
            if admission.listen.is_none() && admission.prefixes.is_none() {
                return self.answer_snapshot(connection, peer);
            }
            let before = self.room.group_of(peer);
            return match self.listen(connection, peer, keys, prefixes, now) {
                Ok(()) => {
                    // Only who goes on listening to the same may know some of it.
                    let goes_on = is_back && self.room.group_of(peer) == before;
                    let since = admission.since.as_ref().filter(|_| goes_on);
                    self.answer_missed(connection, peer, since);
                }
                // The handshake has checked the keys, so this is a fault; the client is told.
                Err(error) => self.refuse(connection, None, &error),
            };
        }
        self.answer_policy(connection, &admission.role);
        let command = Command::Return { peer_id: &admission.peer_id, user_id: &admission.user_id };
        if let Ok(Reply::Joined { peer, .. }) = self.apply(now, command) {
            self.take_role(peer, &admission.role, now);
            self.attach(connection, peer, now);
            self.answer_peer_list(connection);
            self.answer_snapshot(connection, peer);
        }
    }

    /// Handles the bytes of one read. Returns how many; the rest has to wait.
    pub fn receive(&mut self, connection: &Rc<Connection>, decoder: &mut Decoder, data: &mut [u8], now: Time) -> usize {
        let (max_message, queue_bytes) = (self.shard.options().max_message_bytes, self.shard.options().queue_bytes);
        connection.spend(|budget| budget.refill(now));
        let decoded = decoder.decode(data, max_message, &mut |event| {
            self.event(connection, event, now);
            let go_on = match connection.state.get() {
                State::Open => connection.outbox.borrow().inserted_bytes() <= queue_bytes && !self.batch_is_full(),
                State::Closing => true,
                State::Ending | State::Closed => false,
            };
            if go_on {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        match decoded {
            Ok(used) => {
                // Frames that are no requests cost time too.
                let was_abused = connection.spend(|budget| {
                    budget.spend_bytes(used);
                    budget.was_abused()
                });
                if was_abused == Some(true) {
                    let code = close_code(ErrorCode::RateLimited);
                    self.close(connection, now, code, "asked too much, too fast, for too long");
                }
                used
            }
            Err(violation) => {
                decoder.fail();
                self.close(connection, now, violation.code, violation.reason);
                data.len()
            }
        }
    }

    fn event(&mut self, connection: &Rc<Connection>, event: Event<'_>, now: Time) {
        if let Event::Close(code, _) = event {
            return self.close_frame(connection, code, now);
        }
        // Nothing else counts of a connection that was sent its close frame.
        if connection.state.get() != State::Open {
            return;
        }
        if let (Event::Text(_), Some(meters)) = (&event, &self.shard.meters) {
            meters.requests.add(1);
        }
        let refusal = connection.spend(Budget::spend_request).and_then(Result::err);
        match (event, refusal) {
            (Event::Text(text), Some(error)) => self.request_beyond_the_rate(connection, text, &error, now),
            // Who has asked too much is alive all the same. It counts, so that it comes to an end.
            (Event::Ping(payload), _) => self.answer_raw(connection, |out| frames::write_pong(out, payload)),
            (Event::Pong | Event::Close(..), _) | (_, Some(_)) => {}
            (Event::Text(text), None) if frames::ECHOES => {
                self.answer(connection, |out| out.extend_from_slice(text.as_bytes()));
            }
            (Event::Text(text), None) => self.request(connection, text, now),
            (Event::Binary(bytes), None) => self.answer_raw(connection, |out| frames::write_binary(out, bytes)),
        }
    }

    fn close_frame(&mut self, connection: &Rc<Connection>, code: Option<u16>, now: Time) {
        if connection.state.get() == State::Open {
            self.detach(connection, now);
            self.answer_raw(connection, |out| frames::write_close(out, code.unwrap_or(1000), ""));
            connection.close_by.set(now.saturating_add(CLOSE_WAIT_MS));
        }
        connection.state.set(State::Ending);
        connection.outbox.borrow_mut().ends = true;
    }

    /// A request that came too fast changes nothing, and is told so. Two kinds are not refused: what gives
    /// something up, which helps everybody, and what comes again and was applied before, because of that it
    /// would not be true. What may come again is refused by the room, which then refuses it again.
    fn request_beyond_the_rate(&mut self, connection: &Rc<Connection>, text: &str, error: &Error, now: Time) {
        let request = wire::parse_request(text);
        let is_once = match request.message {
            Ok(ClientMessage::Leave | ClientMessage::Release { .. } | ClientMessage::Answered { .. }) => {
                return self.request(connection, text, now);
            }
            Ok(
                ClientMessage::Set { .. }
                | ClientMessage::Write { .. }
                | ClientMessage::Transact(_)
                | ClientMessage::Acquire { .. },
            ) => true,
            _ => false,
        };
        if let (Some(peer), Some(number), true) =
            (connection.peer.get(), request.id.and_then(wire::request_number), is_once)
        {
            if self.room.knows_request(peer, number) {
                return self.request(connection, text, now);
            }
            let retry_after_ms = error.retry_after_ms().unwrap_or(0);
            // Refused whatever it says; it is answered below.
            let _ = self.apply_once(now, peer, request.id, Command::Refuse { peer, retry_after_ms });
        }
        match request.id {
            Some(id) => self.refuse(connection, Some(id), error),
            None => self.note_refusal(connection, None, error),
        }
    }

    /// Whether the server has a place for this peer, and for this room if it is not open.
    pub fn check_place(&self, peer_id: &str) -> Result<(), Error> {
        if self.room.peer_by_id(peer_id).is_some() {
            return Ok(());
        }
        let shared = &self.shard.shared;
        let (most_rooms, most_peers) =
            (shared.options.max_rooms, shared.options.max_connections.saturating_mul(PEERS_PER_CONNECTION));
        let error = if !self.room.is_open() && shared.rooms.load(Ordering::Relaxed) >= most_rooms {
            let message = format!("there are {most_rooms} rooms, as many as there may be");
            Error::new(ErrorCode::TooManyRooms, message)
        } else if shared.peers.load(Ordering::Relaxed) >= most_peers {
            let message = "too many peers have lost their connection and not come back yet; try again later";
            Error::new(ErrorCode::ServerFull, message)
        } else {
            return Ok(());
        };
        Err(error.with_retry_after_ms(FULL_RETRY_MS))
    }

    fn request(&mut self, connection: &Rc<Connection>, text: &str, now: Time) {
        #[cfg(test)]
        assert_ne!(text, tests::FAULT, "a test asks for this fault");
        let request = wire::parse_request(text);
        let id = request.id;
        let message = match request.message {
            Ok(message) => message,
            Err(error) => return self.refuse(connection, id, &error),
        };
        tracing::trace!(
            room = %self.room.name(), peer = %self.peer_id(connection), request = %shown(id), method = message.method(),
            "a request"
        );
        #[cfg(feature = "otel")]
        let _span = super::spans::request(self.room.name(), &self.peer_id(connection), shown(id), message.method());
        let (message, peer) = match (message, connection.peer.get()) {
            // It is back, and will not join again: its peer is gone, and so is its session.
            (ClientMessage::Tracks, None) if connection.dialect == Dialect::Original => {
                let error = Error::from(ErrorCode::SessionLost);
                self.note_refusal(connection, id, &error);
                let number = connection.dialect.number(&error);
                return self.answer(connection, |out| wire::write_connection_error(out, number, &error));
            }
            (ClientMessage::Ignored | ClientMessage::Tracks, _) => return self.done(connection, id, Ok(())),
            (ClientMessage::Ping { timestamp }, _) => {
                if let Some(id) = id {
                    self.answer(connection, |out| wire::write_pong(out, id, timestamp));
                }
                return;
            }
            (ClientMessage::Join { name, metadata }, member) => {
                if member.is_none() {
                    // Whose query joins has been asked before it became a WebSocket.
                    let place = connection.admission.borrow().as_ref().map(|found| self.check_place(&found.peer_id));
                    if let Some(Err(error)) = place {
                        return self.done(connection, id, Err(error));
                    }
                }
                let joined = self.join(connection, id, name.as_deref(), metadata.as_deref(), now);
                if let Some((peer, true)) = joined {
                    self.answer_snapshot(connection, peer);
                }
                return;
            }
            (_, None) => return self.done(connection, id, Err(ErrorCode::NotJoined.into())),
            (message, Some(peer)) => (message, peer),
        };
        match message {
            ClientMessage::Set { key, value, expected } => {
                let reply = self.apply_once(now, peer, id, Command::Set { peer, key: &key, value, expected });
                self.count_write(Written::Set, &reply);
                match (reply, id) {
                    (Ok(Reply::State(state)), Some(id)) => self.answer_set(connection, id, &state),
                    (reply, _) => self.state(connection, id, reply),
                }
            }
            ClientMessage::Get { key } => {
                let reply = self.apply(now, Command::Get { peer, key: &key });
                self.state(connection, id, reply);
            }
            ClientMessage::Write { write, lock } => {
                let what = Written::of(&write.operation);
                let reply = self.apply_once(now, peer, id, Command::Write { peer, write, lock });
                self.count_write(what, &reply);
                self.state(connection, id, reply);
            }
            ClientMessage::Transact(transaction) => {
                let reply = self.apply_once(now, peer, id, Command::Transact { peer, transaction });
                self.count_write(Written::Transact, &reply);
                self.state(connection, id, reply);
            }
            ClientMessage::Acquire { name, ttl_ms, wait_ms } => {
                let reply = self.apply_once(now, peer, id, Command::Acquire { peer, name: &name, ttl_ms, wait_ms });
                match (reply, id) {
                    (Ok(Reply::Waiting(wait)), Some(id)) => self.answer_later(connection, id, wait),
                    (reply, _) => self.state(connection, id, reply),
                }
            }
            ClientMessage::Renew { lock, ttl_ms } => {
                let reply = self.apply(now, Command::Renew { peer, lock, ttl_ms });
                self.state(connection, id, reply);
            }
            ClientMessage::Release { lock } => {
                let reply = self.apply_once(now, peer, id, Command::Release { peer, lock });
                self.state(connection, id, reply);
            }
            ClientMessage::Read { keys, prefixes } => {
                let (keys, prefixes) = (texts(&keys), texts(&prefixes));
                let reply = self.apply(now, Command::Read { peer, keys: &keys, prefixes: &prefixes });
                self.state(connection, id, reply);
            }
            ClientMessage::Keys { prefix } => {
                match (self.apply(now, Command::Read { peer, keys: &[], prefixes: &[&prefix] }), id) {
                    (Ok(Reply::States { revision, states }), Some(id)) => {
                        self.answer(connection, |out| wire::write_keys_result(out, id, revision, &states));
                    }
                    (reply, _) => self.state(connection, id, reply),
                }
            }
            ClientMessage::Usage => {
                if let Some(id) = id {
                    let usage = Usage::of(&self.room);
                    self.answer(connection, |out| wire::write_usage_result(out, id, &usage));
                }
            }
            ClientMessage::Listen { keys, prefixes } => {
                // What was said so far is filtered by the old set.
                self.bring_up_to_date(connection);
                let list = |texts: &[Text<'_>]| texts.iter().map(|text| &*text.0).collect::<KeyList>();
                let (keys, prefixes) = (list(&keys), list(&prefixes));
                let listens = self.listen(connection, peer, &keys, &prefixes, now);
                let is_ok = listens.is_ok();
                self.done(connection, id, listens);
                if is_ok {
                    self.answer_snapshot(connection, peer);
                }
            }
            ClientMessage::PeerUpdate { name, metadata } => {
                let command = Command::UpdatePeer { peer, name: name.as_deref(), metadata: metadata.as_deref() };
                let reply = self.apply(now, command);
                self.done(connection, id, reply.map(drop));
            }
            ClientMessage::PeerList => {
                if let Some(id) = id {
                    self.tell_news(now);
                    let own = Some(peer).filter(|_| !connection.sees_peers.get());
                    self.answer_from_room(connection, |out, room| wire::write_peer_list_result(out, id, room, own));
                }
            }
            ClientMessage::RenewToken { token } => match (self.renew_token(connection, peer, &token, now), id) {
                (Ok(expires_at), Some(id)) => {
                    self.answer(connection, |out| wire::write_token_result(out, id, expires_at));
                }
                (outcome, _) => self.done(connection, id, outcome.map(drop)),
            },
            ClientMessage::Answered { through, except } => {
                let reply = self.apply(now, Command::Answered { peer, through, except: &except });
                self.done(connection, id, reply.map(drop));
            }
            ClientMessage::Leave => {
                // Who goes need not hear what others said last, but its own writes come before
                // their results.
                if connection.outbox.borrow().inserted_bytes() > 0 {
                    self.bring_up_to_date(connection);
                }
                let reply = self.apply(now, Command::Leave { peer });
                self.done(connection, id, reply.map(drop));
                self.close(connection, now, 1000, "left");
            }
            ClientMessage::Join { .. }
            | ClientMessage::Ping { .. }
            | ClientMessage::Tracks
            | ClientMessage::Ignored => {}
        }
    }

    /// Listens to what may be read of this; the client is told what may not, key by key.
    fn listen(
        &mut self,
        connection: &Rc<Connection>,
        peer: PeerHandle,
        keys: &KeyList,
        prefixes: &KeyList,
        now: Time,
    ) -> Result<(), Error> {
        let refusal = |key: &str| self.room.check_read(peer, key).err().filter(|e| e.code() == ErrorCode::Forbidden);
        let Some(error) = self.room.rules().and_then(|_| keys.iter().find_map(refusal)) else {
            return self.apply(now, Command::Listen { peer, keys, prefixes }).map(drop);
        };
        let (refused, allowed): (Vec<&str>, Vec<&str>) = keys.iter().partition(|key| refusal(key).is_some());
        self.apply(now, Command::Listen { peer, keys: &KeyList::of(&allowed), prefixes })?;
        self.answer(connection, |out| wire::write_listen_revoked(out, refused.iter().copied(), &error));
        Ok(())
    }

    /// A fresh token on the same connection: for the same room and user, maybe with another role.
    fn renew_token(
        &mut self,
        connection: &Rc<Connection>,
        peer: PeerHandle,
        token: &str,
        now: Time,
    ) -> Result<Time, Error> {
        let shared = self.shard.shared.clone();
        let verifier = shared
            .verifier
            .as_ref()
            .ok_or_else(|| Error::new(ErrorCode::InvalidArgument, "this server is open and takes no tokens"))?;
        let claims = verifier.verify(token)?;
        let is_same = self.room.peer(peer).is_some_and(|known| *known.identity.user_id == *claims.user_id);
        if !is_same || *claims.room_id != **self.room.name() {
            return Err(Error::new(ErrorCode::Unauthorized, "the token is for another room or another user"));
        }
        self.change_role(connection, peer, &claims.role, now)?;
        connection.expires_at.set(claims.expires_at());
        connection.warned.set(false);
        Ok(claims.expires_at())
    }

    fn state(&mut self, connection: &Rc<Connection>, id: Option<&RawValue>, reply: Result<Reply, Error>) {
        let Some(id) = id else {
            if let Err(error) = reply {
                self.note_refusal(connection, None, &error);
            }
            return;
        };
        match reply {
            Ok(Reply::State(state)) => self.answer(connection, |out| wire::write_state_result(out, id, &state)),
            Ok(Reply::States { revision, states }) => {
                self.answer(connection, |out| wire::write_states_result(out, id, revision, &states));
            }
            Ok(Reply::Lock(lease)) => self.answer(connection, |out| wire::write_lease_result(out, id, &lease)),
            Ok(_) => self.answer(connection, |out| wire::write_empty_result(out, id)),
            Err(error) => self.refuse(connection, Some(id), &error),
        }
    }

    fn count_write(&self, what: Written, reply: &Result<Reply, Error>) {
        if let Some(meters) = &self.shard.meters {
            meters.write(what, reply);
        }
    }

    fn done(&mut self, connection: &Rc<Connection>, id: Option<&RawValue>, outcome: Result<(), Error>) {
        self.state(connection, id, outcome.map(|()| Reply::Done));
    }

    /// Joins, or comes back, or says again what it said. Answers with the result and the peer
    /// list. Returns the peer, and whether it is back on a connection new to it.
    fn join(
        &mut self,
        connection: &Rc<Connection>,
        id: Option<&RawValue>,
        name: Option<&str>,
        metadata: Option<&str>,
        now: Time,
    ) -> Option<(PeerHandle, bool)> {
        let (peer, returned) = match self.introduce(connection, name, metadata, now) {
            Ok(Reply::Joined { peer, returned }) => (peer, returned),
            Ok(_) => return None,
            Err(error) => {
                self.done(connection, id, Err(error));
                return None;
            }
        };
        let is_new_here = self.attach(connection, peer, now);
        if !is_new_here {
            self.tell_news(now);
        }
        if let Some(id) = id {
            let max_message_bytes = self.shard.options().max_message_bytes;
            self.answer_from_room(connection, |out, room| {
                if let Some(found) = room.peer(peer) {
                    wire::write_join_result(out, id, room, found, returned, max_message_bytes);
                }
            });
        }
        self.answer_peer_list(connection);
        Some((peer, returned && is_new_here))
    }

    /// Applies the join of a connection, with what it said of itself when it came.
    fn introduce(
        &mut self,
        connection: &Rc<Connection>,
        name: Option<&str>,
        metadata: Option<&str>,
        now: Time,
    ) -> Result<Reply, Error> {
        if let Some(peer) = connection.peer.get() {
            self.apply(now, Command::UpdatePeer { peer, name, metadata })?;
            return Ok(Reply::Joined { peer, returned: true });
        }
        let admission = connection.admission.borrow();
        let admission = admission.as_ref().ok_or(ErrorCode::NotJoined)?;
        let begins = !self.room.is_open() || self.room.next_deadline().is_some_and(|deadline| deadline <= now);
        let new_session_id = if begins { crate::ids::uuid()? } else { String::new() };
        let peer = Introduction {
            peer_id: &admission.peer_id,
            user_id: &admission.user_id,
            name: name.or(admission.name.as_deref()),
            role: &admission.role,
            metadata: metadata.or(admission.metadata.as_deref()),
            secret: admission.secret,
        };
        let joined = self.apply(now, Command::Join { peer, new_session_id: &new_session_id })?;
        if let Reply::Joined { peer, returned: true } = joined {
            self.take_role(peer, &admission.role, now);
        }
        Ok(joined)
    }

    /// A peer that is back has the role of the token it came back with, before it is told anything.
    fn take_role(&mut self, peer: PeerHandle, role: &str, now: Time) {
        if self.room.peer(peer).is_some_and(|known| *known.role != *role) {
            // The handshake has checked the role, and the peer is there.
            let _ = self.apply(now, Command::ChangeRole { peer, role });
        }
    }
}

fn texts<'a>(list: &'a [Text<'a>]) -> Vec<&'a str> {
    list.iter().map(|text| &*text.0).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use tungstenite::{Message, WebSocket};

    use crate::{Server, ServerOptions};

    /// A message that makes the room panic.
    pub const FAULT: &str = "fault";

    fn join(server: &Server, room: &str) -> WebSocket<TcpStream> {
        let stream = TcpStream::connect(server.local_addr()).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        let url = format!("{}/ws?room={room}&join=1", server.url());
        let (mut socket, _) = tungstenite::client(url, stream).expect("admitted");
        assert!(socket.read().expect("the result").to_text().expect("text").contains("\"result\""));
        socket
    }

    fn close_code(socket: &mut WebSocket<TcpStream>) -> u16 {
        loop {
            if let Message::Close(Some(frame)) = socket.read().expect("a close frame") {
                return frame.code.into();
            }
        }
    }

    #[test]
    fn a_fault_in_one_room_closes_it_and_leaves_the_others() {
        let server = Server::start(ServerOptions { threads: 1, ..Default::default() }).expect("starts");
        let (mut first, mut second, mut other) = (join(&server, "a"), join(&server, "a"), join(&server, "b"));
        first.send(Message::text(FAULT)).expect("sent");
        assert_eq!(close_code(&mut first), 1011);
        assert_eq!(close_code(&mut second), 1011);
        // The loop, the other room and the same room go on.
        other.send(Message::text("{\"id\":1,\"method\":\"ping\"}")).expect("sent");
        while !other.read().expect("the pong").to_text().expect("text").contains("timestamp") {}
        join(&server, "a");
        drop((first, second));
        let stats = server.stats();
        assert_eq!((stats.rooms, stats.peers), (2, 2));
    }
}
