//! The room as bytes, and back: so that a journal need not begin with the first command of a session.
//!
//! What follows from something else (indexes, counters, timers) is made anew.

use std::collections::HashMap;

use super::answers::Answer;
use super::listening::Selection;
use super::locks::Waiter;
use super::*;
use crate::core::journal::{damaged, KeptRules};

/// A room with a session.
#[derive(Serialize, Deserialize)]
struct Checkpoint<'a> {
    limits: Limits,
    rules: Option<KeptRules>,
    id: &'a str,
    started_at: Time,
    revision: u64,
    last_serials: [u32; 3],
    next_wait: u64,
    removals_forgotten: u64,
    linger_until: Option<Time>,
    authors: Vec<KeptAuthor<'a>>,
    #[serde(borrow)]
    changes: Vec<KeptChange<'a>>,
    peers: Vec<KeptPeer<'a>>,
    keys: Vec<KeptKey<'a>>,
    #[serde(borrow)]
    groups: Vec<KeptGroup<'a>>,
    /// Numbers of changes.
    removals: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct KeptAuthor<'a> {
    peer_id: &'a str,
    user_id: &'a str,
    name: &'a str,
}

/// A state of a key. Its author is one of the authors, by its number.
#[derive(Serialize, Deserialize)]
struct KeptChange<'a> {
    key: &'a str,
    value: Value,
    version: u64,
    updated_at: Time,
    author: Option<u32>,
    cause: Cause,
    expires_at: Time,
}

#[derive(Serialize, Deserialize)]
struct KeptPeer<'a> {
    serial: u32,
    identity: u32,
    role: &'a str,
    metadata: &'a str,
    joined_at: Time,
    lost_until: Option<Time>,
    regrouped: u64,
    #[serde(borrow)]
    answers: Option<KeptAnswers<'a>>,
}

#[derive(Serialize, Deserialize)]
struct KeptAnswers<'a> {
    secret: Secret,
    forgotten: u64,
    #[serde(borrow)]
    kept: Vec<(u64, KeptAnswer<'a>)>,
}

/// An answer to a request. States are changes, by their numbers.
#[derive(Serialize, Deserialize)]
enum KeptAnswer<'a> {
    State(u32),
    States {
        revision: u64,
        states: Vec<u32>,
    },
    Lock {
        name: &'a str,
        token: u64,
        expires_at: Time,
    },
    Waiting(u64),
    Done,
    Refused {
        code: i32,
        message: &'a str,
        current: Option<u32>,
        check: Option<usize>,
        write: Option<usize>,
        retry_after_ms: Option<u64>,
    },
}

/// A key that is set, or that somebody listens to by its name.
#[derive(Serialize, Deserialize)]
struct KeptKey<'a> {
    key: &'a str,
    serial: u32,
    state: Option<u32>,
    /// The number of the peer it goes with.
    owner: Option<u32>,
    deadline: Time,
    /// Who waits for the lock that it shows.
    lock: Option<Vec<KeptWaiter>>,
}

#[derive(Serialize, Deserialize)]
struct KeptWaiter {
    number: u64,
    peer: u32,
    ttl_ms: u64,
    until: Time,
}

/// Peers, by their numbers, that listen to the same.
#[derive(Serialize, Deserialize)]
struct KeptGroup<'a> {
    #[serde(borrow)]
    keys: Vec<&'a str>,
    #[serde(borrow)]
    prefixes: Vec<&'a str>,
    members: Vec<u32>,
}

/// Gives what many share its number, and keeps it once.
struct Numbered<'a, T> {
    numbers: HashMap<*const T, u32>,
    all: Vec<&'a Arc<T>>,
}

impl<'a, T> Numbered<'a, T> {
    fn new() -> Numbered<'a, T> {
        Numbered { numbers: HashMap::new(), all: Vec::new() }
    }

    fn number(&mut self, shared: &'a Arc<T>) -> u32 {
        *self.numbers.entry(Arc::as_ptr(shared)).or_insert_with(|| {
            self.all.push(shared);
            (self.all.len() - 1) as u32
        })
    }
}

impl Room {
    /// The session and its store as bytes, from which [`restore`](Room::restore) makes a room that goes on as
    /// this one does. `None` without a session: then there is nothing to keep.
    ///
    /// The bytes hold values, and the secrets of the peers.
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        let session = self.session.as_ref()?;
        let mut changes = Numbered::new();
        let mut authors = Numbered::new();
        // In the order in which they came, whichever their slots are.
        let mut peers: Vec<&Peer> = session.peers.iter().map(|(_, peer)| peer).collect();
        peers.sort_by_key(|peer| peer.serial);
        let peers = peers.into_iter().map(|peer| KeptPeer {
            serial: peer.serial,
            identity: authors.number(&peer.identity),
            role: &peer.role,
            metadata: &peer.metadata,
            joined_at: peer.joined_at,
            lost_until: peer.lost_until,
            regrouped: peer.regrouped,
            answers: peer.answers.as_ref().map(|answers| KeptAnswers {
                secret: answers.secret,
                forgotten: answers.forgotten(),
                kept: answers.kept().map(|(id, answer)| (id, KeptAnswer::of(answer, &mut changes))).collect(),
            }),
        });
        let peers = peers.collect();
        let named = session.key_index.slots().map(|slot| &session.keys[slot.index as usize]);
        let keys = named.filter(|key| !key.is_forgettable()).map(|key| KeptKey {
            key: &key.key,
            serial: key.serial,
            state: key.state.as_ref().map(|state| changes.number(state)),
            owner: key.owner.map(|owner| owner.serial),
            deadline: key.deadline,
            lock: key.lock.as_ref().map(|lock| lock.queue.iter().map(KeptWaiter::of).collect()),
        });
        let keys = keys.collect();
        let removals = session.removals.iter().map(|removal| changes.number(removal)).collect();
        let groups = session.group_index.iter().map(|group| session.keep_group(&session.groups[*group as usize]));
        let states = std::mem::take(&mut changes.all).into_iter().map(|change| KeptChange {
            key: &change.key,
            value: change.value.clone(),
            version: change.version,
            updated_at: change.updated_at,
            author: change.author.as_ref().map(|author| authors.number(author)),
            cause: change.cause,
            expires_at: change.expires_at,
        });
        let changes = states.collect();
        let kept = Checkpoint {
            limits: (*self.limits).clone(),
            rules: self.rules.as_deref().map(KeptRules::of),
            id: &session.id,
            started_at: session.started_at,
            revision: session.revision,
            last_serials: [session.next_serial, session.next_key_serial, session.next_group_serial],
            next_wait: session.next_wait,
            removals_forgotten: session.removals_forgotten,
            linger_until: session.linger_until,
            authors: authors.all.iter().map(|author| KeptAuthor::of(author)).collect(),
            changes,
            peers,
            keys,
            groups: groups.collect(),
            removals,
        };
        // Fails for nothing: every length is known.
        postcard::to_allocvec(&kept).ok()
    }

    /// A room as it was when [`checkpoint`](Room::checkpoint) wrote these bytes, its limits and its rules
    /// included.
    ///
    /// Errors: [`ErrorCode::DataDamaged`] when they are no such bytes.
    pub fn restore(name: impl Into<Arc<str>>, bytes: &[u8]) -> Result<Room, Error> {
        let kept: Checkpoint<'_> =
            postcard::from_bytes(bytes).map_err(|error| damaged(format!("a checkpoint cannot be read: {error}")))?;
        let rules = kept.rules.map(KeptRules::rules).transpose()?;
        let authors = kept.authors.iter().map(|author| Arc::new(author.author())).collect::<Vec<_>>();
        let changes = kept.changes.into_iter().map(|change| change.change(&authors, kept.revision));
        let changes: Vec<Arc<Change>> = changes.collect::<Result<_, _>>()?;
        let [peer_serial, key_serial, group_serial] = kept.last_serials;
        if kept.revision.max(kept.next_wait) > MAX_COUNT {
            return Err(damaged("a checkpoint counts more changes, or more waits, than a session comes to"));
        }
        let mut session = Session::new(kept.id, kept.started_at, (peer_serial, key_serial, group_serial));
        session.rules = rules.clone();
        session.revision = kept.revision;
        session.next_wait = kept.next_wait;
        session.removals_forgotten = kept.removals_forgotten;
        session.linger_until = kept.linger_until;
        session.removals = kept.removals.iter().map(|nth| find(&changes, *nth)).collect::<Result<_, _>>()?;
        if session.removals.len() > MAX_REMOVALS || kept.peers.is_empty() != kept.linger_until.is_some() {
            return Err(damaged("a checkpoint has more removals, or fewer peers, than a room can have"));
        }
        let mut handles = HashMap::new();
        for peer in kept.peers {
            // These numbers begin again at 0 after 2^32 joins, so "before" is less than half of them ago.
            if peer_serial.wrapping_sub(peer.serial) > u32::MAX / 2 {
                return Err(damaged("a peer of a checkpoint has a number that would be given to another one"));
            }
            let handle = session.restore_peer(peer, &authors, &changes)?;
            if handles.insert(handle.serial, handle).is_some() {
                return Err(damaged("two peers of a checkpoint have the same number"));
            }
        }
        for key in kept.keys {
            session.restore_key(key, &changes, &handles)?;
        }
        for group in kept.groups {
            session.restore_group(group, &handles)?;
        }
        session.next_key_serial = key_serial;
        session.next_group_serial = group_serial;
        Ok(Room {
            name: name.into(),
            limits: Arc::new(kept.limits),
            rules,
            session: Some(session),
            last_serials: (0, 0, 0),
        })
    }

    /// What a room does that was restored, before anything else happens to it: it goes on at this time, within these
    /// limits. Every peer is away, and its grace period begins now: nobody could come back before.
    ///
    /// With `new_session_id`, what happened last before the room was kept may be lost. What was told of it must not
    /// be mixed up with what follows, so this is another session that begins with the same store: nobody is in it
    /// yet, it waits as long for somebody to come, and no lock is held. Its tokens are larger than any that may have
    /// been granted.
    pub fn resume(&mut self, now: Time, limits: Arc<Limits>, new_session_id: Option<&str>, events: &mut Vec<Event>) {
        self.limits = limits;
        let Limits { grace_ms, linger_ms, .. } = *self.limits;
        let (until, empty_until) = (now.saturating_add(grace_ms), now.saturating_add(grace_ms.max(linger_ms)));
        let Some(session) = &mut self.session else { return };
        // A room that was prepared may wait longer than one whose last peer has left.
        session.linger_until = session.linger_until.map(|kept| kept.max(empty_until));
        let handle = |(slot, peer): (usize, &Peer)| PeerHandle { serial: peer.serial, slot: slot as u32 };
        let peers: Vec<PeerHandle> = session.peers.iter().map(handle).collect();
        peers.iter().for_each(|peer| session.stop_waiting(*peer));
        for peer in peers {
            if new_session_id.is_some() {
                session.leave(now, peer, true, true, events);
                continue;
            }
            let before = session.peers[peer.slot as usize].lost_until.replace(until);
            before.map(|before| session.timers.remove(&(before, Due::Grace(peer))));
            session.timers.insert((until, Due::Grace(peer)));
        }
        if let Some(id) = new_session_id {
            session.id = id.into();
            session.revision += LOST_REVISIONS;
            session.linger_until = session.linger_until.max(Some(empty_until));
            session.removals = VecDeque::new();
            session.removals_forgotten = session.revision;
        }
    }
}

/// More changes than can have been lost: a session that goes on without knowing its last ones goes on so much
/// further, so that no token of a lock is granted twice.
const LOST_REVISIONS: u64 = 1 << 32;

/// The largest revision of a checkpoint, and the largest number of a wait for a lock: what one million changes a
/// second come to in 285 years, and up to which clients in JavaScript are exact.
const MAX_COUNT: u64 = 1 << 53;

fn find<T>(all: &[Arc<T>], nth: u32) -> Result<Arc<T>, Error> {
    all.get(nth as usize).cloned().ok_or_else(|| damaged("a checkpoint speaks of something that is not in it"))
}

impl Session {
    fn keep_group<'a>(&'a self, group: &'a Group) -> KeptGroup<'a> {
        let mut members: Vec<u32> = group.members.iter().map(|slot| self.peers[*slot as usize].serial).collect();
        members.sort_unstable();
        KeptGroup { keys: group.names.iter().collect(), prefixes: group.prefixes.iter().collect(), members }
    }

    fn restore_peer(
        &mut self,
        kept: KeptPeer<'_>,
        authors: &[Arc<Author>],
        changes: &[Arc<Change>],
    ) -> Result<PeerHandle, Error> {
        let identity = find(authors, kept.identity)?;
        names::check_peer_id(&identity.peer_id)?;
        names::check_role(kept.role)?;
        let place = self.peer_place(&identity.peer_id);
        let Err(place) = place else { return Err(damaged("two peers of a checkpoint have the same id")) };
        let answers = match kept.answers {
            None => None,
            Some(KeptAnswers { secret, forgotten, kept }) => {
                let kept = kept.into_iter().map(|(id, answer)| Ok((id, answer.answer(changes)?)));
                Some(Box::new(Answers::restore(secret, forgotten, kept.collect::<Result<_, Error>>()?)))
            }
        };
        self.answer_bytes += answers.as_ref().map_or(0, |answers| answers.bytes());
        if *self.last_role != *kept.role {
            self.last_role = kept.role.into();
        }
        let metadata = self.text(kept.metadata);
        let slot = self.peers.insert(Peer {
            identity,
            role: self.last_role.clone(),
            metadata,
            joined_at: kept.joined_at,
            lost_until: kept.lost_until,
            serial: kept.serial,
            answers,
            regrouped: kept.regrouped,
            listens: None,
            // Counted with the keys.
            locks: 0,
            waits: 0,
        }) as u32;
        self.peer_index.insert(place, slot);
        let handle = PeerHandle { serial: kept.serial, slot };
        if let Some(until) = kept.lost_until {
            self.timers.insert((until, Due::Grace(handle)));
        }
        Ok(handle)
    }

    fn restore_key(
        &mut self,
        kept: KeptKey<'_>,
        changes: &[Arc<Change>],
        peers: &HashMap<u32, PeerHandle>,
    ) -> Result<(), Error> {
        names::check_key(kept.key)?;
        if self.key_index.get(kept.key).is_some() {
            return Err(damaged("two keys of a checkpoint are the same"));
        }
        let peer = |serial: u32| peers.get(&serial).copied().ok_or_else(|| damaged("a key belongs to an unknown peer"));
        let state = kept.state.map(|nth| find(changes, nth)).transpose()?;
        let owner = kept.owner.map(peer).transpose()?;
        let shows_lock = kept.key.starts_with(LOCK_KEY_PREFIX);
        let fits = match &state {
            None => owner.is_none() && kept.deadline == 0 && kept.lock.is_none(),
            Some(state) => *state.key == *kept.key && !state.value.is_null() && kept.lock.is_some() == shows_lock,
        };
        if !fits || (shows_lock && state.is_some() != owner.is_some()) {
            return Err(damaged("a key of a checkpoint is in no state that a key can be in"));
        }
        // The key is shared with its state.
        let slot =
            self.insert_key(state.as_ref().map_or_else(|| kept.key.into(), |state| state.key.clone()), kept.serial);
        if let Some(state) = &state {
            match shows_lock {
                true => self.locks += 1,
                false => {
                    self.stored += 1;
                    self.bytes += kept.key.len() + state.value.json().len();
                }
            }
        }
        self.owned += usize::from(owner.is_some());
        if let Some(owner) = owner.filter(|_| shows_lock) {
            self.count_for(owner, |peer| peer.locks += 1);
        }
        let mut queue = VecDeque::new();
        for KeptWaiter { number, peer: serial, ttl_ms, until } in kept.lock.iter().flatten() {
            let peer = peer(*serial)?;
            let last = queue.back().map_or(0, |last: &Waiter| last.number);
            if *number <= last || *number > self.next_wait {
                return Err(damaged("a wait of a checkpoint has a number that another one has, or would be given"));
            }
            queue.push_back(Waiter { number: *number, peer, ttl_ms: *ttl_ms, until: *until });
            self.count_for(peer, |peer| peer.waits += 1);
            self.timers.insert((*until, Due::Wait(slot, *number)));
            self.waiting += 1;
        }
        let entry = &mut self.keys[slot.index as usize];
        entry.state = state;
        entry.owner = owner;
        entry.lock = kept.lock.map(|_| Box::new(Lock { queue }));
        self.set_deadline(slot, kept.deadline);
        Ok(())
    }

    fn restore_group(&mut self, kept: KeptGroup<'_>, peers: &HashMap<u32, PeerHandle>) -> Result<(), Error> {
        let KeptGroup { keys, prefixes, members } = kept;
        keys.iter().try_for_each(|key| names::check_key(key))?;
        prefixes.iter().try_for_each(|prefix| names::check_prefix(prefix))?;
        let is_sorted = |list: &[&str]| list.is_sorted_by(|a, b| a < b);
        if keys.len() + prefixes.len() == 0 || !is_sorted(&keys) || !is_sorted(&prefixes) {
            return Err(damaged("a list of a checkpoint that is sorted as a rule is not"));
        }
        let (keys, prefixes) = (KeyList::of(&keys), KeyList::of(&prefixes));
        for serial in members {
            let peer = peers.get(&serial).ok_or_else(|| damaged("a peer listens that is not in the room"))?;
            if self.peers[peer.slot as usize].listens.is_some() {
                return Err(damaged("a peer of a checkpoint listens twice"));
            }
            let view = self.view(peer.slot, &prefixes);
            let wanted = Selection { keys: &keys, prefixes: &prefixes, view: &view };
            let group = self.group_for(self.find_group(wanted), wanted, peer.slot);
            self.move_to(peer.slot, group);
        }
        Ok(())
    }
}

impl<'a> KeptAuthor<'a> {
    fn of(author: &'a Author) -> KeptAuthor<'a> {
        KeptAuthor { peer_id: &author.peer_id, user_id: &author.user_id, name: &author.name }
    }

    fn author(&self) -> Author {
        Author { peer_id: self.peer_id.into(), user_id: self.user_id.into(), name: self.name.into() }
    }
}

impl KeptChange<'_> {
    fn change(self, authors: &[Arc<Author>], revision: u64) -> Result<Arc<Change>, Error> {
        if self.version > revision {
            return Err(damaged("a change of a checkpoint is newer than its store"));
        }
        Ok(Arc::new(Change {
            key: self.key.into(),
            value: self.value,
            version: self.version,
            updated_at: self.updated_at,
            author: self.author.map(|nth| find(authors, nth)).transpose()?,
            cause: self.cause,
            expires_at: self.expires_at,
        }))
    }
}

impl<'a> KeptAnswer<'a> {
    fn of(answer: &'a Answer, changes: &mut Numbered<'a, Change>) -> KeptAnswer<'a> {
        match answer {
            Ok(Reply::State(state)) => KeptAnswer::State(changes.number(state)),
            Ok(Reply::States { revision, states }) => {
                let states = states.iter().map(|state| changes.number(state)).collect();
                KeptAnswer::States { revision: *revision, states }
            }
            Ok(Reply::Lock(Lease { name, token, expires_at })) => {
                KeptAnswer::Lock { name, token: *token, expires_at: *expires_at }
            }
            Ok(Reply::Waiting(number)) => KeptAnswer::Waiting(*number),
            // A join is no request of a peer.
            Ok(Reply::Done | Reply::Joined { .. }) => KeptAnswer::Done,
            Err(error) => KeptAnswer::Refused {
                code: error.code().number(),
                message: error.message(),
                current: error.current().map(|current| changes.number(current)),
                check: error.check(),
                write: error.write(),
                retry_after_ms: error.retry_after_ms(),
            },
        }
    }

    fn answer(self, changes: &[Arc<Change>]) -> Result<Answer, Error> {
        Ok(Ok(match self {
            KeptAnswer::State(nth) => Reply::State(find(changes, nth)?),
            KeptAnswer::States { revision, states } => {
                let states = states.iter().map(|nth| find(changes, *nth)).collect::<Result<_, _>>()?;
                Reply::States { revision, states }
            }
            KeptAnswer::Lock { name, token, expires_at } => Reply::Lock(Lease { name: name.into(), token, expires_at }),
            KeptAnswer::Waiting(number) => Reply::Waiting(number),
            KeptAnswer::Done => Reply::Done,
            KeptAnswer::Refused { code, message, current, check, write, retry_after_ms } => {
                let code = ErrorCode::from_number(code).ok_or_else(|| damaged("an answer has an unknown code"))?;
                let mut error = Error::new(code, message.to_owned());
                if let Some(nth) = current {
                    error = error.with_current(find(changes, nth)?);
                }
                error = check.into_iter().fold(error, Error::at_check);
                error = retry_after_ms.into_iter().fold(error, Error::with_retry_after_ms);
                return Ok(Err(write.into_iter().fold(error, Error::at_write)));
            }
        }))
    }
}

impl KeptWaiter {
    fn of(waiter: &Waiter) -> KeptWaiter {
        let Waiter { number, peer, ttl_ms, until } = *waiter;
        KeptWaiter { number, peer: peer.serial, ttl_ms, until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(room: &mut Room, now: Time, peer_id: &str) -> PeerHandle {
        let peer = Introduction { peer_id, user_id: "", name: None, role: "host", metadata: None, secret: None };
        let joined = room.apply(now, Command::Join { peer, new_session_id: "session" }, &mut Vec::new());
        let Ok(Reply::Joined { peer, .. }) = joined else { panic!("{joined:?}") };
        peer
    }

    /// A room of three: one holds a lock, two wait for it; each listens to another key.
    fn room() -> Room {
        let mut room = Room::new("lobby", Arc::default());
        for peer_id in ["holder", "waiter", "next"] {
            let peer = join(&mut room, 1, peer_id);
            let acquire = Command::Acquire { peer, name: "pen", ttl_ms: 10_000, wait_ms: 10_000 };
            room.apply(2, acquire, &mut Vec::new()).unwrap();
            let (keys, prefixes) = (KeyList::of(&[peer_id]), KeyList::default());
            room.apply(2, Command::Listen { peer, keys: &keys, prefixes: &prefixes }, &mut Vec::new()).unwrap();
        }
        room
    }

    /// Reads the checkpoint of that room again, after this was done to it.
    fn restored(change: impl FnOnce(&mut Checkpoint<'_>)) -> Result<Room, Error> {
        let bytes = room().checkpoint().unwrap();
        let mut kept = postcard::from_bytes(&bytes).unwrap();
        change(&mut kept);
        Room::restore("lobby", &postcard::to_allocvec(&kept).unwrap())
    }

    #[test]
    fn what_no_room_keeps_is_refused() {
        let refused = |change: fn(&mut Checkpoint<'_>)| {
            let error = restored(change).expect_err("it is damaged");
            assert_eq!(error.code(), ErrorCode::DataDamaged);
            error.message().to_owned()
        };
        assert!(refused(|kept| kept.last_serials[0] = 1).contains("a peer of a checkpoint"));
        assert!(refused(|kept| kept.last_serials[0] = u32::MAX / 2 + 2).contains("a peer of a checkpoint"));
        assert!(refused(|kept| kept.peers[1].serial = kept.peers[0].serial).contains("the same number"));
        assert!(refused(|kept| kept.next_wait = 0).contains("a wait of a checkpoint"));
        let same_wait = |kept: &mut Checkpoint<'_>| {
            let queue = kept.keys.iter_mut().find_map(|key| key.lock.as_mut()).unwrap();
            queue[1].number = queue[0].number;
        };
        assert!(refused(same_wait).contains("a wait of a checkpoint"));
        assert!(refused(|kept| kept.groups[0].members = vec![1, 1]).contains("listens twice"));
        assert!(refused(|kept| kept.groups[0].members.push(2)).contains("listens twice"));
        assert!(refused(|kept| kept.next_wait = MAX_COUNT + 1).contains("counts more"));
        assert!(refused(|kept| kept.revision = u64::MAX).contains("counts more"));
    }

    #[test]
    fn numbers_of_peers_that_began_again_are_read() {
        let mut room = restored(|kept| {
            let anew = |serial: &mut u32| *serial = serial.wrapping_sub(2);
            anew(&mut kept.last_serials[0]);
            kept.peers.iter_mut().for_each(|peer| anew(&mut peer.serial));
            for key in &mut kept.keys {
                key.owner.iter_mut().for_each(anew);
                key.lock.iter_mut().flatten().for_each(|waiter| anew(&mut waiter.peer));
            }
            kept.groups.iter_mut().flat_map(|group| &mut group.members).for_each(anew);
        })
        .unwrap();
        join(&mut room, 3, "fourth");
        let checkpoint = room.checkpoint();
        assert_eq!(Room::restore("lobby", &checkpoint.clone().unwrap()).unwrap().checkpoint(), checkpoint);
    }
}
