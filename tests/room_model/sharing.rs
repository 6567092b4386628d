//! Writes, transactions, locks, expiry and belonging against a naive room: plain maps, everything looked
//! for by going through all there is. It shares nothing with the room but codes and limits.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sessionstore::core::limits::{Limits, LARGER_ON_THE_WAY};
use sessionstore::core::room::{Cause, Command, Event, Introduction, PeerHandle, Reply, Room, Time};
use sessionstore::core::write::{Check, Expiry, LockGuard, Operation, Transaction, Write};
use sessionstore::{Error, ErrorCode, Merge, Value};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const LOCKS: [&str; 2] = ["l", "m"];
const GRACE_MS: u64 = 4_000;
const MAX_KEYS: usize = 3;
const MAX_VALUE_BYTES: usize = 13;
/// Held by no key.
const NEVER: i64 = 77_777;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Set(i64),
    Remove,
    Add(i64),
    SetAdd(i64),
    SetRemove(i64),
    /// Keeps two.
    Append(i64),
    /// Sets a member, or removes it.
    Patch(usize, Option<i64>),
    Touch,
}

#[derive(Clone, Copy, Debug)]
struct Writing {
    key: usize,
    kind: Kind,
    /// Of those that are asked for: whether the version is the right one.
    expects: Option<bool>,
    expiry: Option<Expiry>,
    bound: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
enum Checking {
    Version(usize, bool),
    Exists(usize),
    Absent(usize),
    Equals(usize, bool),
    Lock(usize, bool),
}

#[derive(Clone, Debug)]
enum Op {
    Write(Writing, Option<(usize, bool)>),
    Transact(Vec<Checking>, Vec<Writing>),
    Acquire {
        lock: usize,
        ttl_ms: u64,
        wait_ms: u64,
    },
    Renew {
        lock: usize,
        rightly: bool,
        ttl_ms: u64,
    },
    Release {
        lock: usize,
        rightly: bool,
    },
    Get(usize),
    /// A key, and whatever else is set.
    Read(usize),
    Join,
    Leave,
    Lose,
    Pass,
}

/// A value: a number, a list of numbers, or an object whose members are numbers, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Number(i64),
    List(Vec<i64>),
    Object(Vec<(usize, i64)>),
}

impl Held {
    fn json(&self) -> String {
        match self {
            Held::Number(number) => number.to_string(),
            Held::List(list) => format!("[{}]", list.iter().map(i64::to_string).collect::<Vec<_>>().join(",")),
            Held::Object(members) => {
                let members = members.iter().map(|(name, value)| format!("\"{}\":{value}", KEYS[*name]));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    value: Held,
    version: u64,
    deadline: Option<Time>,
    owner: Option<usize>,
}

#[derive(Clone, Debug)]
struct Grant {
    holder: usize,
    token: u64,
    deadline: Time,
}

#[derive(Clone, Debug)]
struct Wait {
    number: u64,
    lock: usize,
    peer: usize,
    ttl_ms: u64,
    until: Time,
}

/// Peers by number; `None` is out of the room.
#[derive(Clone, Debug, Default)]
struct Naive {
    revision: u64,
    peers: BTreeMap<usize, Option<Time>>,
    keys: BTreeMap<usize, Entry>,
    locks: BTreeMap<usize, Grant>,
    waits: Vec<Wait>,
    last_wait: u64,
    events: Vec<String>,
}

/// Two things are due at once, whose order is not defined: the run ends here.
struct Tie;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Key(usize),
    Lock(usize),
    Grace(usize),
    Wait(u64),
}

impl Naive {
    fn change(&mut self, key: usize, json: &str, cause: &str, more: bool) {
        let more = if more { " +" } else { "" };
        self.events.push(format!("{}={json} #{}{cause}{more}", KEYS[key], self.revision));
    }

    fn lock_change(&mut self, lock: usize, cause: &str, more: bool) {
        let more = if more { " +" } else { "" };
        let json = self
            .locks
            .get(&lock)
            .map_or("null".into(), |grant| format!("{{\"holder\":\"p{}\",\"token\":{}}}", grant.holder, grant.token));
        self.events.push(format!("$lock/{}={json} #{}{cause}{more}", LOCKS[lock], self.revision));
    }

    fn due(&self) -> Vec<(Time, Due)> {
        let keys = self.keys.iter().filter_map(|(key, entry)| Some((entry.deadline?, Due::Key(*key))));
        let locks = self.locks.iter().map(|(lock, grant)| (grant.deadline, Due::Lock(*lock)));
        let graces = self.peers.iter().filter_map(|(peer, until)| Some(((*until)?, Due::Grace(*peer))));
        let waits = self.waits.iter().map(|wait| (wait.until, Due::Wait(wait.number)));
        let mut due: Vec<_> = keys.chain(locks).chain(graces).chain(waits).collect();
        due.sort();
        due
    }

    fn pass_time(&mut self, now: Time) -> Result<(), Tie> {
        loop {
            let due = self.due();
            let Some((at, first)) = due.first().copied().filter(|(at, _)| *at <= now) else { return Ok(()) };
            if due.get(1).is_some_and(|(second, _)| *second == at) {
                return Err(Tie);
            }
            match first {
                Due::Key(key) => {
                    self.revision += 1;
                    self.keys.remove(&key);
                    self.change(key, "null", " expired", false);
                }
                Due::Lock(lock) => {
                    self.revision += 1;
                    let granted = self.pass_on(at, lock, " expired", false);
                    self.events.extend(granted);
                }
                Due::Grace(peer) => self.go(at, peer),
                Due::Wait(number) => {
                    self.waits.retain(|wait| wait.number != number);
                    self.events.push(format!("wait {number} refused"));
                }
            }
        }
    }

    /// The lock goes to who waits, or is free. Returns what is told after the changes.
    fn pass_on(&mut self, now: Time, lock: usize, cause: &str, more: bool) -> Option<String> {
        self.locks.remove(&lock);
        let next = self.waits.iter().position(|wait| wait.lock == lock);
        let next = next.map(|place| self.waits.remove(place));
        if let Some(Wait { number, peer, ttl_ms, .. }) = next {
            let grant = Grant { holder: peer, token: self.revision, deadline: now + ttl_ms };
            self.locks.insert(lock, grant);
            self.lock_change(lock, "", more);
            return Some(format!("wait {number} granted {} until {}", self.revision, now + ttl_ms));
        }
        self.lock_change(lock, cause, more);
        None
    }

    fn go(&mut self, now: Time, peer: usize) {
        self.waits.retain(|wait| wait.peer != peer);
        let locks: Vec<usize> =
            (0..LOCKS.len()).filter(|l| self.locks.get(l).is_some_and(|g| g.holder == peer)).collect();
        let keys: Vec<usize> =
            (0..KEYS.len()).filter(|key| self.keys.get(key).is_some_and(|entry| entry.owner == Some(peer))).collect();
        let mut left = locks.len() + keys.len();
        self.revision += u64::from(left > 0);
        let mut granted = Vec::new();
        // "$lock/..." comes before letters.
        for lock in locks {
            left -= 1;
            granted.extend(self.pass_on(now, lock, " peer left", left > 0));
        }
        for key in keys {
            left -= 1;
            self.keys.remove(&key);
            self.change(key, "null", " peer left", left > 0);
        }
        self.events.append(&mut granted);
        self.peers.remove(&peer);
        self.events.push(format!("p{peer} left"));
    }

    fn token(&self, lock: usize, rightly: bool) -> u64 {
        self.locks.get(&lock).map_or(77_777, |grant| grant.token) + u64::from(!rightly)
    }

    fn version(&self, key: usize, rightly: bool) -> u64 {
        self.keys.get(&key).map_or(0, |entry| entry.version) + u64::from(!rightly)
    }

    fn holds(&self, lock: usize, rightly: bool) -> bool {
        rightly && self.locks.contains_key(&lock)
    }

    /// The entry after a write; `None` when the key is removed.
    fn written(&self, now: Time, peer: usize, writing: &Writing, most: usize) -> Result<Option<Entry>, ErrorCode> {
        let before = self.keys.get(&writing.key);
        if writing.expects == Some(false) {
            return Err(ErrorCode::VersionConflict);
        }
        let list = || match before.map(|entry| &entry.value) {
            None => Ok(Vec::new()),
            Some(Held::List(list)) => Ok(list.clone()),
            Some(Held::Number(_) | Held::Object(_)) => Err(ErrorCode::WrongType),
        };
        let value = match writing.kind {
            Kind::Set(number) => Some(Held::Number(number)),
            Kind::Remove => None,
            Kind::Add(amount) => match before.map(|entry| &entry.value) {
                None => Some(Held::Number(amount)),
                Some(Held::Number(number)) => {
                    Some(Held::Number(number.checked_add(amount).ok_or(ErrorCode::NumberOverflow)?))
                }
                Some(Held::List(_) | Held::Object(_)) => return Err(ErrorCode::WrongType),
            },
            Kind::SetAdd(number) => {
                let mut list = list()?;
                if !list.contains(&number) {
                    list.push(number);
                }
                Some(Held::List(list))
            }
            Kind::SetRemove(number) => {
                let mut list = list()?;
                list.retain(|have| *have != number);
                before.map(|_| Held::List(list))
            }
            Kind::Append(number) => {
                let mut list = list()?;
                list.push(number);
                let surplus = list.len().saturating_sub(2);
                Some(Held::List(list.split_off(surplus)))
            }
            Kind::Patch(name, value) => {
                let mut members = match before.map(|entry| &entry.value) {
                    Some(Held::Object(members)) => members.clone(),
                    _ => Vec::new(),
                };
                match (members.iter().position(|(have, _)| *have == name), value) {
                    (Some(place), Some(value)) => members[place].1 = value,
                    (None, Some(value)) => members.push((name, value)),
                    (_, None) => members.retain(|(have, _)| *have != name),
                }
                Some(Held::Object(members))
            }
            Kind::Touch => Some(before.ok_or(ErrorCode::KeyAbsent)?.value.clone()),
        };
        let replaces = matches!(writing.kind, Kind::Set(_) | Kind::Remove);
        let kept = before.filter(|_| !replaces);
        let deadline = match writing.expiry {
            Some(Expiry::After(0)) => return Err(ErrorCode::InvalidArgument),
            Some(Expiry::After(ms)) => Some(now + ms),
            Some(Expiry::Never) => None,
            Some(Expiry::Keep) => before.and_then(|entry| entry.deadline),
            None => kept.and_then(|entry| entry.deadline),
        };
        let owner = match writing.bound {
            Some(bound) => bound.then_some(peer),
            None => kept.and_then(|entry| entry.owner),
        };
        let Some(value) = value else { return Ok(None) };
        if value.json().len() > most {
            return Err(ErrorCode::ValueTooLarge);
        }
        let version = match before {
            Some(same) if !replaces && (&same.value, same.deadline, same.owner) == (&value, deadline, owner) => {
                same.version
            }
            _ => self.revision + 1,
        };
        Ok(Some(Entry { value, version, deadline, owner }))
    }

    fn put(&mut self, key: usize, entry: Option<Entry>) {
        match entry {
            Some(entry) => self.keys.insert(key, entry),
            None => self.keys.remove(&key),
        };
    }

    /// What a state answers: value, version and expiry.
    fn shown(&self, key: usize) -> String {
        self.keys.get(&key).map_or(format!("{}=null", KEYS[key]), |entry| {
            format!("{}={} #{} until {}", KEYS[key], entry.value.json(), entry.version, entry.deadline.unwrap_or(0))
        })
    }

    fn perform(&mut self, now: Time, peer: usize, op: &Op) -> Result<String, ErrorCode> {
        match op {
            Op::Join => {
                self.waits.retain(|wait| wait.peer != peer);
                if self.peers.insert(peer, None).is_none() {
                    self.events.push(format!("p{peer} joined"));
                }
                return Ok("joined".into());
            }
            Op::Pass => return Ok("done".into()),
            _ if !self.peers.contains_key(&peer) => return Err(ErrorCode::NotJoined),
            _ => {}
        }
        match op {
            Op::Write(writing, guard) => {
                if guard.is_some_and(|(lock, rightly)| !self.holds(lock, rightly)) {
                    return Err(ErrorCode::LockLost);
                }
                let entry = self.written(now, peer, writing, MAX_VALUE_BYTES)?;
                let mut after = self.clone();
                after.put(writing.key, entry.clone());
                if after.keys.len() > MAX_KEYS && after.keys.len() > self.keys.len() {
                    return Err(ErrorCode::TooManyKeys);
                }
                if self.keys.get(&writing.key) == entry.as_ref() {
                    return Ok(self.shown(writing.key));
                }
                after.revision += 1;
                *self = after;
                let json = entry.map_or("null".into(), |entry| entry.value.json());
                self.change(writing.key, &json, "", false);
                Ok(if json == "null" { format!("{}=null", KEYS[writing.key]) } else { self.shown(writing.key) })
            }
            Op::Transact(checks, writes) => {
                for check in checks {
                    match check {
                        Checking::Lock(lock, rightly) if !self.holds(*lock, *rightly) => {
                            return Err(ErrorCode::LockLost)
                        }
                        Checking::Version(_, false) => return Err(ErrorCode::CheckFailed),
                        Checking::Exists(key) if !self.keys.contains_key(key) => return Err(ErrorCode::CheckFailed),
                        Checking::Absent(key) if self.keys.contains_key(key) => return Err(ErrorCode::CheckFailed),
                        Checking::Equals(_, false) => return Err(ErrorCode::CheckFailed),
                        _ => {}
                    }
                }
                let mut after = self.clone();
                let mut named = Vec::new();
                let mut touched = Vec::new();
                for writing in writes {
                    let entry = after.written(now, peer, writing, LARGER_ON_THE_WAY * MAX_VALUE_BYTES)?;
                    if !named.contains(&writing.key) {
                        named.push(writing.key);
                    }
                    if after.keys.get(&writing.key) != entry.as_ref() || matches!(writing.kind, Kind::Set(_)) {
                        touched.push(writing.key);
                    }
                    after.put(writing.key, entry);
                }
                let changed: Vec<usize> = named
                    .iter()
                    .copied()
                    .filter(|key| touched.contains(key))
                    .filter(|key| after.keys.contains_key(key) || self.keys.contains_key(key))
                    .collect();
                if after.keys.values().any(|entry| entry.value.json().len() > MAX_VALUE_BYTES) {
                    return Err(ErrorCode::ValueTooLarge);
                }
                if after.keys.len() > MAX_KEYS && after.keys.len() > self.keys.len() {
                    return Err(ErrorCode::TooManyKeys);
                }
                after.revision += u64::from(!changed.is_empty());
                *self = after;
                for (nth, key) in changed.iter().enumerate() {
                    // Whatever was done on the way, it has the one revision.
                    if let Some(entry) = self.keys.get_mut(key) {
                        entry.version = self.revision;
                    }
                    let json = self.keys.get(key).map_or("null".into(), |entry| entry.value.json());
                    self.change(*key, &json, "", nth + 1 < changed.len());
                }
                let states: Vec<String> = named.iter().map(|key| self.shown(*key)).collect();
                Ok(format!("{} {}", self.revision, states.join(", ")))
            }
            Op::Acquire { lock, ttl_ms, wait_ms } => {
                if self.locks.contains_key(lock) {
                    if *wait_ms == 0 {
                        return Err(ErrorCode::LockHeld);
                    }
                    self.last_wait += 1;
                    let (number, until) = (self.last_wait, now + wait_ms);
                    self.waits.push(Wait { number, lock: *lock, peer, ttl_ms: *ttl_ms, until });
                    return Ok(format!("waits {number}"));
                }
                self.revision += 1;
                self.locks.insert(*lock, Grant { holder: peer, token: self.revision, deadline: now + ttl_ms });
                self.lock_change(*lock, "", false);
                Ok(format!("lease {} until {}", self.revision, now + ttl_ms))
            }
            Op::Renew { lock, rightly, ttl_ms } => match self.locks.get_mut(lock) {
                Some(grant) if *rightly && grant.holder == peer => {
                    grant.deadline = now + ttl_ms;
                    Ok(format!("lease {} until {}", grant.token, grant.deadline))
                }
                _ => Err(ErrorCode::LockLost),
            },
            Op::Release { lock, rightly } => match self.locks.get(lock) {
                Some(grant) if *rightly && grant.holder == peer => {
                    self.revision += 1;
                    let granted = self.pass_on(now, *lock, "", false);
                    self.events.extend(granted);
                    Ok("done".into())
                }
                _ => Err(ErrorCode::LockLost),
            },
            Op::Get(key) => Ok(self.shown(*key)),
            Op::Read(key) => {
                let others = self.keys.keys().filter(|other| *other != key);
                let states: Vec<String> = [key].into_iter().chain(others).map(|key| self.shown(*key)).collect();
                Ok(format!("{} {}", self.revision, states.join(", ")))
            }
            Op::Leave => {
                self.go(now, peer);
                Ok("done".into())
            }
            Op::Lose => {
                self.waits.retain(|wait| wait.peer != peer);
                let until = self.peers.entry(peer).or_default();
                *until = until.or(Some(now + GRACE_MS));
                Ok("done".into())
            }
            Op::Join | Op::Pass => unreachable!("handled above"),
        }
    }
}

/// The room under test, asked the same.
struct Subject {
    room: Room,
    handles: BTreeMap<usize, PeerHandle>,
    events: Vec<Event>,
}

impl Subject {
    fn guard(naive: &Naive, lock: usize, rightly: bool) -> LockGuard<'static> {
        LockGuard { name: LOCKS[lock].into(), token: naive.token(lock, rightly) }
    }

    fn write(naive: &Naive, writing: &Writing) -> Write<'static> {
        let number = |number: i64| Value::from(number);
        let operation = match writing.kind {
            Kind::Set(value) => Operation::Set(number(value)),
            Kind::Remove => Operation::Set(Value::null()),
            Kind::Add(amount) => Operation::Merge(Merge::Add(number(amount))),
            Kind::SetAdd(value) => Operation::Merge(Merge::SetAdd(vec![number(value)])),
            Kind::SetRemove(value) => Operation::Merge(Merge::SetRemove(vec![number(value)])),
            Kind::Patch(name, value) => {
                let value = value.map_or("null".to_owned(), |value| value.to_string());
                let patch = format!("{{\"{}\":{value}}}", KEYS[name]);
                Operation::Merge(Merge::Patch(Value::parse(&patch).expect("a patch")))
            }
            Kind::Append(value) => Operation::Merge(Merge::Append { values: vec![number(value)], cap: Some(2) }),
            Kind::Touch => Operation::Touch,
        };
        let expected = writing.expects.map(|rightly| naive.version(writing.key, rightly));
        let key = KEYS[writing.key].into();
        Write { key, operation, expected, expiry: writing.expiry, bound: writing.bound }
    }

    fn perform(&mut self, naive: &Naive, now: Time, peer: usize, op: &Op) -> Result<String, Error> {
        let id = format!("p{peer}");
        let handle = self.handles.get(&peer).copied();
        let command = match (op, handle) {
            (Op::Join, _) => {
                let peer =
                    Introduction { peer_id: &id, user_id: "", name: None, role: "r", metadata: None, secret: None };
                Command::Join { peer, new_session_id: "s" }
            }
            (Op::Pass, _) => Command::Tick,
            (_, None) => return Err(ErrorCode::NotJoined.into()),
            (Op::Write(writing, guard), Some(peer)) => Command::Write {
                peer,
                write: Subject::write(naive, writing),
                lock: guard.map(|(lock, rightly)| Subject::guard(naive, lock, rightly)),
            },
            (Op::Transact(checks, writes), Some(peer)) => {
                let checks = checks.iter().map(|check| match *check {
                    Checking::Version(key, rightly) => {
                        Check::Version { key: KEYS[key].into(), version: naive.version(key, rightly) }
                    }
                    Checking::Exists(key) => Check::Exists { key: KEYS[key].into() },
                    Checking::Absent(key) => Check::Absent { key: KEYS[key].into() },
                    Checking::Equals(key, rightly) => {
                        let held = naive.keys.get(&key).map_or("null".to_owned(), |entry| entry.value.json());
                        let value = if rightly { Value::parse(&held).expect("a value") } else { NEVER.into() };
                        Check::Equals { key: KEYS[key].into(), value }
                    }
                    Checking::Lock(lock, rightly) => Check::Lock(Subject::guard(naive, lock, rightly)),
                });
                let writes = writes.iter().map(|writing| Subject::write(naive, writing));
                Command::Transact {
                    peer,
                    transaction: Transaction { checks: checks.collect(), writes: writes.collect() },
                }
            }
            (Op::Acquire { lock, ttl_ms, wait_ms }, Some(peer)) => {
                Command::Acquire { peer, name: LOCKS[*lock], ttl_ms: *ttl_ms, wait_ms: *wait_ms }
            }
            (Op::Renew { lock, rightly, ttl_ms }, Some(peer)) => {
                Command::Renew { peer, lock: Subject::guard(naive, *lock, *rightly), ttl_ms: *ttl_ms }
            }
            (Op::Release { lock, rightly }, Some(peer)) => {
                Command::Release { peer, lock: Subject::guard(naive, *lock, *rightly) }
            }
            (Op::Get(key), Some(peer)) => Command::Get { peer, key: KEYS[*key] },
            (Op::Read(key), Some(peer)) => Command::Read { peer, keys: &KEYS[*key..=*key], prefixes: &[""] },
            (Op::Leave, Some(peer)) => Command::Leave { peer },
            (Op::Lose, Some(peer)) => Command::ConnectionLost { peer },
        };
        let reply = self.room.apply(now, command, &mut self.events)?;
        Ok(match reply {
            Reply::Joined { peer: handle, .. } => {
                self.handles.insert(peer, handle);
                "joined".into()
            }
            Reply::State(state) => shown(&state),
            Reply::States { revision, states } => {
                format!("{revision} {}", states.iter().map(|state| shown(state)).collect::<Vec<_>>().join(", "))
            }
            Reply::Lock(lease) => format!("lease {} until {}", lease.token, lease.expires_at),
            Reply::Waiting(number) => format!("waits {number}"),
            Reply::Done => "done".into(),
        })
    }

    fn told(&mut self) -> Vec<String> {
        let name = |event| match event {
            Event::SessionStarted => "session".to_owned(),
            Event::SessionEnded(_) => "over".to_owned(),
            Event::PeerJoined(handle) => {
                format!(
                    "{} joined",
                    self.room.peer(handle).map_or("?".into(), |peer| peer.identity.peer_id.to_string())
                )
            }
            Event::PeerLeft { peer_id, .. } => format!("{peer_id} left"),
            Event::Changed { change, more, .. } => {
                let cause = match change.cause {
                    Cause::Written => "",
                    Cause::Expired => " expired",
                    Cause::PeerLeft => " peer left",
                    Cause::Cleared => " cleared",
                };
                let more = if more { " +" } else { "" };
                format!("{}={} #{}{cause}{more}", change.key, change.value.json(), change.version)
            }
            Event::LockGranted { wait, lease, .. } => {
                format!("wait {wait} granted {} until {}", lease.token, lease.expires_at)
            }
            Event::LockRefused { wait, .. } => format!("wait {wait} refused"),
            Event::PeerUpdated(_) | Event::ListeningChanged { .. } | Event::LockTaken { .. } => "unexpected".to_owned(),
        };
        std::mem::take(&mut self.events).into_iter().map(name).collect()
    }
}

fn shown(state: &sessionstore::Change) -> String {
    if state.value.is_null() {
        return format!("{}=null", state.key);
    }
    format!("{}={} #{} until {}", state.key, state.value.json(), state.version, state.expires_at)
}

fn writing() -> impl Strategy<Value = Writing> {
    let number = -3i64..40;
    let kind = prop_oneof![
        4 => number.clone().prop_map(Kind::Set),
        2 => Just(Kind::Remove),
        2 => number.clone().prop_map(Kind::Add),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX)].prop_map(Kind::Add),
        2 => (0..2usize, proptest::option::of(number.clone())).prop_map(|(name, value)| Kind::Patch(name, value)),
        2 => (0i64..3).prop_map(Kind::SetAdd),
        1 => (0i64..3).prop_map(Kind::SetRemove),
        2 => (0i64..2_000).prop_map(Kind::Append),
        2 => Just(Kind::Touch),
    ];
    let expiry = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Expiry::Keep)),
        1 => Just(Some(Expiry::Never)),
        3 => (1u64..9_000).prop_map(|ms| Some(Expiry::After(ms))),
        1 => Just(Some(Expiry::After(0))),
    ];
    let expects = prop_oneof![6 => Just(None), 2 => Just(Some(true)), 1 => Just(Some(false))];
    let bound = prop_oneof![4 => Just(None), 2 => Just(Some(true)), 1 => Just(Some(false))];
    (0..KEYS.len(), kind, expects, expiry, bound).prop_map(|(key, kind, expects, expiry, bound)| Writing {
        key,
        kind,
        expects,
        expiry,
        bound,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let rightly = prop_oneof![3 => Just(true), 1 => Just(false)];
    let check = prop_oneof![
        (0..KEYS.len(), rightly.clone()).prop_map(|(key, rightly)| Checking::Version(key, rightly)),
        (0..KEYS.len()).prop_map(Checking::Exists),
        (0..KEYS.len()).prop_map(Checking::Absent),
        (0..KEYS.len(), rightly.clone()).prop_map(|(key, rightly)| Checking::Equals(key, rightly)),
        (0..LOCKS.len(), rightly.clone()).prop_map(|(lock, rightly)| Checking::Lock(lock, rightly)),
    ];
    // Versions change within a transaction; those of its checks do not.
    let part = writing().prop_map(|writing| Writing { expects: None, ..writing });
    let wait = prop_oneof![Just(0), 1u64..9_000];
    prop_oneof![
        8 => (writing(), proptest::option::weighted(0.2, (0..LOCKS.len(), rightly.clone()))).prop_map(|(w, g)| Op::Write(w, g)),
        4 => (proptest::collection::vec(check, 0..2), proptest::collection::vec(part, 0..4))
            .prop_map(|(checks, writes)| Op::Transact(checks, writes)),
        4 => (0..LOCKS.len(), 1_000u64..9_000, wait).prop_map(|(lock, ttl_ms, wait_ms)| Op::Acquire { lock, ttl_ms, wait_ms }),
        2 => (0..LOCKS.len(), rightly.clone(), 1_000u64..9_000)
            .prop_map(|(lock, rightly, ttl_ms)| Op::Renew { lock, rightly, ttl_ms }),
        2 => (0..LOCKS.len(), rightly).prop_map(|(lock, rightly)| Op::Release { lock, rightly }),
        1 => (0..KEYS.len()).prop_map(Op::Get),
        1 => (0..KEYS.len()).prop_map(Op::Read),
        3 => Just(Op::Join),
        1 => Just(Op::Leave),
        1 => Just(Op::Lose),
        3 => Just(Op::Pass),
    ]
}

/// Runs the same on both; what they differ in, or all they said.
fn compare(steps: &[(u64, usize, Op)]) -> Result<Vec<String>, String> {
    let limits =
        Limits { max_keys: MAX_KEYS, max_value_bytes: MAX_VALUE_BYTES, grace_ms: GRACE_MS, ..Limits::default() };
    let mut naive = Naive::default();
    let room = Room::new("r", limits.into());
    let mut subject = Subject { room, handles: BTreeMap::new(), events: Vec::new() };
    let mut all = Vec::new();
    // One stays, so that the session does.
    let keeper = Introduction { peer_id: "keeper", user_id: "", name: None, role: "r", metadata: None, secret: None };
    let join = Command::Join { peer: keeper, new_session_id: "s" };
    subject.room.apply(0, join, &mut Vec::new()).map_err(|error| error.to_string())?;
    let mut now = 0;
    for (pause, peer, op) in steps {
        now += pause;
        if naive.pass_time(now).is_err() {
            break;
        }
        // What is asked depends on what there is, which time may have changed.
        subject.room.apply(now, Command::Tick, &mut subject.events).map_err(|error| error.to_string())?;
        let before = naive.clone();
        let expected = naive.perform(now, *peer, op);
        let given = subject.perform(&before, now, *peer, op);
        let given_code = given.as_ref().map_err(Error::code);
        if given_code.map(String::as_str) != expected.as_ref().map(String::as_str).map_err(|code| *code) {
            return Err(format!("{op:?} by p{peer} at {now}: {given:?}, not {expected:?}"));
        }
        let told = subject.told();
        let events = std::mem::take(&mut naive.events);
        if told != events {
            return Err(format!("{op:?} by p{peer} at {now} told {told:?}, not {events:?}"));
        }
        all.push(format!("{expected:?}"));
        all.extend(told);
        let room = &subject.room;
        let kept = (room.revision(), room.usage().0, room.next_deadline());
        let wanted = (naive.revision, naive.keys.len(), naive.due().first().map(|(at, _)| *at));
        if kept != wanted {
            return Err(format!("after {op:?} by p{peer} at {now} the room has {kept:?}, not {wanted:?}"));
        }
        for (key, name) in KEYS.iter().enumerate() {
            let state = shown(&room.state(name));
            if state != naive.shown(key) {
                return Err(format!("after {op:?}: {state}, not {}", naive.shown(key)));
            }
        }
    }
    Ok(all)
}

fn steps() -> impl Strategy<Value = Vec<(u64, usize, Op)>> {
    let pause = prop_oneof![3 => 1u64..200, 2 => 200u64..5_000];
    proptest::collection::vec((pause, 0..3usize, op()), 1..60)
}

proptest! {
    #[test]
    fn the_room_writes_locks_and_forgets_as_the_naive_one_does(steps in steps()) {
        compare(&steps).map_err(TestCaseError::fail)?;
    }
}

/// The random runs reach what they are meant to test.
#[test]
fn random_runs_reach_what_can_happen() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut all = String::new();
    for _ in 0..300 {
        let steps = proptest::strategy::ValueTree::current(&steps().new_tree(&mut runner).expect("a run"));
        all += &compare(&steps).expect("they agree").join("\n");
    }
    for wanted in [
        "VersionConflict",
        "WrongType",
        "NumberOverflow",
        "\\\"a\\\":",
        "ValueTooLarge",
        "TooManyKeys",
        "KeyAbsent",
        "InvalidArgument",
        "CheckFailed",
        "LockLost",
        "LockHeld",
        "NotJoined",
        " expired",
        " peer left",
        " +",
        "granted",
        "refused",
        "waits",
        "lease",
    ] {
        assert!(all.contains(wanted), "no random run had {wanted}");
    }
}
