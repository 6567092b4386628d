//! The store as a sequential machine: what each call may answer, and what it leaves behind.

use std::collections::BTreeMap;

use super::checker::Model;

pub const KEYS: [&str; 3] = ["a", "b", "c"];

/// What is asked. Keys are numbers into [`KEYS`]; values are integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Set {
        key: usize,
        value: i64,
    },
    SetIf {
        key: usize,
        value: i64,
        version: u64,
    },
    Remove {
        key: usize,
    },
    Get {
        key: usize,
    },
    Add {
        key: usize,
        amount: i64,
    },
    /// Takes from one and gives to the other, if the first has this version; removes the third.
    Transfer {
        from: usize,
        to: usize,
        amount: i64,
        version: u64,
    },
    Acquire,
    Release {
        token: u64,
    },
    /// Sets a key while the lock is held.
    Guarded {
        key: usize,
        value: i64,
        token: u64,
    },
    /// The lock ends by itself: nobody asks for it, and it may happen at any time after the grant. `None`: of
    /// a grant that was never answered.
    LockEnds {
        token: Option<u64>,
    },
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The key's version and value; 0 and 0 for one that is absent.
    State {
        version: u64,
        value: i64,
    },
    /// The key has another version, and this value.
    Conflict {
        version: u64,
        value: i64,
    },
    /// The revision of a transaction.
    Committed {
        revision: u64,
    },
    CheckFailed,
    Granted {
        token: u64,
    },
    Held,
    Released,
    Lost,
    /// It was certainly not applied.
    NotDone,
    /// None.
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    revision: u64,
    /// Version and value.
    keys: BTreeMap<usize, (u64, i64)>,
    /// The token under which the lock is held.
    lock: Option<u64>,
    /// Whether its grant was never answered, so that nobody knows the token.
    is_anonymous: bool,
}

impl State {
    fn get(&self, key: usize) -> (u64, i64) {
        self.keys.get(&key).copied().unwrap_or_default()
    }

    fn put(&mut self, key: usize, value: i64) {
        self.keys.insert(key, (self.revision, value));
    }

    /// What a call answers here, and what it leaves behind.
    pub fn apply(&self, asked: Asked) -> (Answer, State) {
        let mut next = self.clone();
        next.revision += 1;
        let refused = |answer| (answer, self.clone());
        let (answer, next) = match asked {
            Asked::Set { key, value } | Asked::Guarded { key, value, .. } | Asked::SetIf { key, value, .. } => {
                let (version, known) = self.get(key);
                match asked {
                    Asked::Guarded { token, .. } if self.lock != Some(token) => return refused(Answer::Lost),
                    Asked::SetIf { version: expected, .. } if version != expected => {
                        return refused(Answer::Conflict { version, value: known });
                    }
                    _ => {}
                }
                next.put(key, value);
                (Answer::State { version: next.revision, value }, next)
            }
            Asked::Remove { key } => {
                if next.keys.remove(&key).is_none() {
                    return refused(Answer::State { version: 0, value: 0 });
                }
                (Answer::State { version: next.revision, value: 0 }, next)
            }
            Asked::Get { key } => {
                let (version, value) = self.get(key);
                return refused(Answer::State { version, value });
            }
            Asked::Add { key, amount } => {
                let (version, before) = self.get(key);
                if amount == 0 && version > 0 {
                    return refused(Answer::State { version, value: before });
                }
                next.put(key, before + amount);
                (Answer::State { version: next.revision, value: before + amount }, next)
            }
            Asked::Transfer { from, to, amount, version } => {
                if self.get(from).0 != version {
                    return refused(Answer::CheckFailed);
                }
                next.put(from, self.get(from).1 - amount);
                next.put(to, next.get(to).1 + amount);
                (Answer::Committed { revision: next.revision }, next)
            }
            Asked::Acquire => match self.lock {
                Some(_) => return refused(Answer::Held),
                None => {
                    next.lock = Some(next.revision);
                    (Answer::Granted { token: next.revision }, next)
                }
            },
            Asked::Release { .. } | Asked::LockEnds { .. } => {
                let is_meant = match asked {
                    Asked::Release { token } | Asked::LockEnds { token: Some(token) } => self.lock == Some(token),
                    _ => self.is_anonymous,
                };
                if !is_meant {
                    return refused(Answer::Lost);
                }
                (next.lock, next.is_anonymous) = (None, false);
                (Answer::Released, next)
            }
        };
        (answer, next)
    }
}

/// The specification.
pub struct Store;

impl Model for Store {
    type State = State;
    type Call = (Asked, Answer);

    fn step(state: &State, (asked, recorded): &(Asked, Answer)) -> Vec<State> {
        if *recorded == Answer::NotDone {
            return vec![state.clone()];
        }
        let (answer, mut next) = state.apply(*asked);
        next.is_anonymous |= *recorded == Answer::Unknown && matches!(answer, Answer::Granted { .. });
        // Without an answer anything may have been answered.
        (*recorded == Answer::Unknown || *recorded == answer).then_some(next).into_iter().collect()
    }
}
