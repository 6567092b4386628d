//! Who is in the room: how peers come, come back, and go.

use super::*;

/// One peer, as others see it.
#[derive(Debug)]
pub struct Peer {
    /// Who it is; the name is the current one.
    pub identity: Arc<Author>,
    /// Its role.
    pub role: Arc<str>,
    /// Its metadata.
    pub metadata: Arc<str>,
    /// When it joined.
    pub joined_at: Time,
    /// When it goes unless its connection comes back; `None` while it is connected.
    pub lost_until: Option<Time>,
    pub(super) serial: u32,
    /// With which secret it comes back, and what it was answered.
    pub(super) answers: Option<Box<Answers>>,
    /// From this revision on it knows what it may read, if it knows the revision: before, its listen set was
    /// changed for it.
    pub(super) regrouped: u64,
    /// The group it listens with, and its place among the members; none while it listens to nothing.
    pub(super) listens: Option<(u32, u32)>,
    /// How many locks it holds, and how many it waits for.
    pub(super) locks: u32,
    pub(super) waits: u32,
}

impl Peer {
    /// Counts the peers of the room: with the same id but another number it is another peer.
    pub fn number(&self) -> u32 {
        self.serial
    }

    /// Whether it has a secret, so that it comes back as itself and its requests are applied once.
    pub fn resumes(&self) -> bool {
        self.answers.is_some()
    }
}

impl Room {
    pub(super) fn join(
        &mut self,
        now: Time,
        peer: Introduction<'_>,
        new_session_id: &str,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Error> {
        names::check_peer_id(peer.peer_id)?;
        names::check_user_id(peer.user_id)?;
        names::check_role(peer.role)?;
        let (name, metadata) = (peer.name.unwrap_or(""), peer.metadata.unwrap_or(""));
        names::check_peer_name(name)?;
        names::check_peer_metadata(metadata)?;
        let place = self.session.as_ref().map_or(Err(0), |session| session.peer_place(peer.peer_id));
        let Err(place) = place else {
            let back = self.come_back(peer.peer_id, peer.user_id, peer.secret)?;
            if let Reply::Joined { peer: handle, .. } = back {
                self.update_peer(handle, peer.name, peer.metadata, events)?;
            }
            return Ok(back);
        };
        if self.peer_count() >= self.limits.max_peers {
            let message = format!("the room has {} peers, as many as it may have", self.limits.max_peers);
            return Err(Error::new(ErrorCode::RoomFull, message));
        }
        let session = self.begin(now, new_session_id, events);
        session.linger_until = None;
        session.next_serial = session.next_serial.wrapping_add(1);
        let serial = session.next_serial;
        let identity =
            Author { peer_id: peer.peer_id.into(), user_id: session.text(peer.user_id), name: session.text(name) };
        if *session.last_role != *peer.role {
            session.last_role = peer.role.into();
        }
        let metadata = session.text(metadata);
        let slot = session.peers.insert(Peer {
            identity: Arc::new(identity),
            role: session.last_role.clone(),
            metadata,
            joined_at: now,
            lost_until: None,
            serial,
            answers: peer.secret.map(|secret| Box::new(Answers::new(secret))),
            regrouped: 0,
            listens: None,
            locks: 0,
            waits: 0,
        }) as u32;
        session.peer_index.insert(place, slot);
        let handle = PeerHandle { slot, serial };
        events.push(Event::PeerJoined(handle));
        Ok(Reply::Joined { peer: handle, returned: false })
    }

    pub(super) fn come_back(&mut self, peer_id: &str, user_id: &str, secret: Option<Secret>) -> Result<Reply, Error> {
        let session = self.session.as_mut().ok_or(ErrorCode::NotJoined)?;
        let slot = session.find_peer(peer_id).map_err(|_| ErrorCode::NotJoined)?;
        let peer = session.peers.get_mut(slot as usize).ok_or(ErrorCode::NotJoined)?;
        if &*peer.identity.user_id != user_id {
            return Err(ErrorCode::PeerMismatch.into());
        }
        let own = peer.answers.as_ref().map(|answers| answers.secret);
        if own.is_some() && own != secret {
            return Err(ErrorCode::PeerInUse.into());
        }
        if own.is_none() {
            peer.answers = secret.map(|secret| Box::new(Answers::new(secret)));
        }
        let handle = PeerHandle { slot, serial: peer.serial };
        if let Some(until) = peer.lost_until.take() {
            session.timers.remove(&(until, Due::Grace(handle)));
        }
        // Whoever waited did so on another connection.
        session.stop_waiting(handle);
        Ok(Reply::Joined { peer: handle, returned: true })
    }

    pub(super) fn connection_lost(
        &mut self,
        now: Time,
        peer: PeerHandle,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Error> {
        let grace_ms = self.limits.grace_ms;
        let session = self.session_of(peer)?;
        session.stop_waiting(peer);
        let lost = &mut session.peers[peer.slot as usize];
        if lost.lost_until.is_none() {
            let until = now.saturating_add(grace_ms);
            lost.lost_until = Some(until);
            session.timers.insert((until, Due::Grace(peer)));
            self.pass_time(now, events);
        }
        Ok(Reply::Done)
    }

    pub(super) fn update_peer(
        &mut self,
        peer: PeerHandle,
        name: Option<&str>,
        metadata: Option<&str>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Error> {
        name.map_or(Ok(()), names::check_peer_name)?;
        metadata.map_or(Ok(()), names::check_peer_metadata)?;
        let updated = &mut self.session_of(peer)?.peers[peer.slot as usize];
        let mut changed = false;
        if let Some(name) = name.filter(|name| **name != *updated.identity.name) {
            let old = &updated.identity;
            updated.identity =
                Arc::new(Author { peer_id: old.peer_id.clone(), user_id: old.user_id.clone(), name: name.into() });
            changed = true;
        }
        if let Some(metadata) = metadata.filter(|metadata| **metadata != *updated.metadata) {
            updated.metadata = metadata.into();
            changed = true;
        }
        if changed {
            events.push(Event::PeerUpdated(peer));
        }
        Ok(Reply::Done)
    }

    pub(super) fn remove_peer(&mut self, now: Time, peer: PeerHandle, connection_lost: bool, events: &mut Vec<Event>) {
        let linger_ms = self.limits.linger_ms;
        let Some(session) = &mut self.session else { return };
        let goes_on = session.peers.len() > 1 || linger_ms > 0;
        session.leave(now, peer, connection_lost, goes_on, events);
        if !goes_on {
            self.end_session(now, events);
        } else if session.peers.is_empty() {
            session.linger_until = Some(now.saturating_add(linger_ms));
        }
    }
}

impl Session {
    /// A peer is gone, and what goes with it, unless the session ends with it.
    pub(super) fn leave(
        &mut self,
        now: Time,
        peer: PeerHandle,
        connection_lost: bool,
        goes_on: bool,
        events: &mut Vec<Event>,
    ) {
        self.leave_group(peer.slot);
        self.stop_waiting(peer);
        if goes_on {
            self.remove_what_goes_with(now, peer, events);
        }
        if let Ok(place) = self.peer_place(&self.peers[peer.slot as usize].identity.peer_id) {
            self.peer_index.remove(place);
        }
        let gone = self.peers.remove(peer.slot as usize);
        self.answer_bytes -= gone.answers.as_ref().map_or(0, |answers| answers.bytes());
        if let Some(until) = gone.lost_until {
            self.timers.remove(&(until, Due::Grace(peer)));
        }
        events.push(Event::PeerLeft { peer, peer_id: gone.identity.peer_id.clone(), connection_lost });
    }

    /// A text that is empty as a rule, like a peer's user id and metadata: then it is one that all share.
    pub(super) fn text(&self, text: &str) -> Arc<str> {
        match text {
            "" => self.empty.clone(),
            text => text.into(),
        }
    }

    /// Where a peer is in the index, or where it belongs.
    pub(super) fn peer_place(&self, peer_id: &str) -> Result<usize, usize> {
        self.peer_index.binary_search_by(|slot| (*self.peers[*slot as usize].identity.peer_id).cmp(peer_id))
    }

    /// The slot of a peer.
    pub(super) fn find_peer(&self, peer_id: &str) -> Result<u32, usize> {
        self.peer_place(peer_id).map(|place| self.peer_index[place])
    }
}
