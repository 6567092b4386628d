//! What can be asked of a store beyond setting one key: conditions, merges, expiry, transactions.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::merge::Merge;
use super::value::Value;

/// A write of one key.
///
/// ```
/// use sessionstore::core::write::{Expiry, Operation, Write};
/// let raised = Write { expiry: Some(Expiry::After(30_000)), bound: Some(true), ..Write::set("hand/p1", true.into()) };
/// assert!(matches!(raised.operation, Operation::Set(_)));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Write<'a> {
    /// The key.
    pub key: Cow<'a, str>,
    /// What happens to it.
    pub operation: Operation,
    /// Only if the key has this version now; 0: only if it is absent.
    pub expected: Option<u64>,
    /// When the key goes by itself. `None`: after a set never, after a merge when it did before.
    pub expiry: Option<Expiry>,
    /// Whether the key goes when the peer that writes it does. `None`: after a set it does not, after a
    /// merge it stays as it was.
    pub bound: Option<bool>,
}

impl<'a> Write<'a> {
    /// A set without conditions.
    pub fn set(key: &'a str, value: Value) -> Write<'a> {
        Write { key: key.into(), operation: Operation::Set(value), expected: None, expiry: None, bound: None }
    }

    /// A merge without conditions.
    pub fn merge(key: &'a str, merge: Merge) -> Write<'a> {
        Write { operation: Operation::Merge(merge), ..Write::set(key, Value::null()) }
    }

    /// A touch: the key gets another expiry and keeps its value.
    pub fn touch(key: &'a str, expiry: Expiry) -> Write<'a> {
        Write { operation: Operation::Touch, expiry: Some(expiry), ..Write::set(key, Value::null()) }
    }
}

/// What a write does to its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Replaces the value; `null` removes the key.
    Set(Value),
    /// Changes the value where it is.
    Merge(Merge),
    /// Leaves the value as it is: for another expiry. `KEY_ABSENT` if there is none.
    Touch,
}

/// When a key goes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiry {
    /// When it did before this write, or never.
    Keep,
    /// Never.
    Never,
    /// So many milliseconds after this write, from 1 to [`MAX_TTL_MS`](super::limits::MAX_TTL_MS).
    After(u64),
}

/// A lock that must be held for a write to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockGuard<'a> {
    /// The lock's name.
    pub name: Cow<'a, str>,
    /// The token of the grant: the lock must be held under this very one.
    pub token: u64,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Check<'a> {
    /// The key has this version; 0: it is absent.
    Version {
        /// The key.
        key: Cow<'a, str>,
        /// Its version.
        version: u64,
    },
    /// The key is set.
    Exists {
        /// The key.
        key: Cow<'a, str>,
    },
    /// The key is not set.
    Absent {
        /// The key.
        key: Cow<'a, str>,
    },
    /// The key holds this value: the same JSON, whatever its spelling; see [`Merge::SetAdd`].
    Equals {
        /// The key.
        key: Cow<'a, str>,
        /// What it must hold; `null`: it is absent.
        value: Value,
    },
    /// The lock is held with this token.
    Lock(LockGuard<'a>),
}

/// Checks and writes that happen together or not at all.
///
/// The checks look at the store as it was before. The writes are made in their order, and each sees
/// what those before it did; all of them have one revision, and those who listen hear of each key once.
/// The room's limits hold for the result as a whole; on the way a value may be twice as large.
///
/// ```
/// use sessionstore::core::write::{Check, Transaction, Write};
/// let pass_the_turn = Transaction {
///     checks: vec![Check::Equals { key: "turn".into(), value: "x".into() }],
///     writes: vec![Write::set("board/4", "x".into()), Write::set("turn", "o".into())],
/// };
/// assert_eq!(pass_the_turn.writes.len(), 2);
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Transaction<'a> {
    /// All must hold; the first that does not is named by the refusal.
    pub checks: Vec<Check<'a>>,
    /// What is done, in this order.
    pub writes: Vec<Write<'a>>,
}
