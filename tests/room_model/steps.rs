//! What a random run does: small limits so that refusals are common, few names so that
//! collisions are.

use sessionstore::core::limits::Limits;

/// Ids that peers choose; the last two are not allowed.
pub const PEERS: [&str; 6] = ["p1", "p2", "p3", "p4", "", "tab\t"];
/// Users; the same peer id with another user is a mismatch.
pub const USERS: [&str; 3] = ["", "u1", "u2"];
/// Names and metadata.
pub const TEXTS: [&str; 4] = ["", "Ada", "Grace", "{\"hand\":true}"];
/// Keys; the last two are not allowed.
pub const KEYS: [&str; 7] = ["a", "b", "cc", "ddd", "schlüssel", "", "line\nbreak"];
/// Compact values of different sizes, from gone to too large.
pub const VALUES: [&str; 8] =
    ["null", "1", "true", "\"four\"", "[1,2,3]", "\"ten chars\"", "{\"a\":[null]}", "\"too large for it\""];

/// Whose handle a command carries.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// The peer of this id, if it is in the room; otherwise its last handle.
    Peer(usize),
    /// The n-th handle ever given out, whatever became of it.
    Handle(usize),
}

/// What a write expects of the key's version.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    Nothing,
    Absent,
    /// The version it has.
    Current,
    /// Some version.
    Version(u64),
}

#[derive(Clone, Debug)]
pub enum Op {
    Join {
        peer: usize,
        user: usize,
        name: Option<usize>,
        metadata: Option<usize>,
        role: bool,
    },
    Return {
        peer: usize,
        user: usize,
    },
    Leave(Who),
    ConnectionLost(Who),
    Update {
        who: Who,
        name: Option<usize>,
        metadata: Option<usize>,
    },
    Set {
        who: Who,
        key: usize,
        value: usize,
        expect: Expect,
    },
    Get {
        who: Who,
        key: usize,
    },
    Listen {
        who: Who,
        keys: Vec<usize>,
    },
    Tick,
    /// A tick exactly when the room asked for one.
    TickWhenDue,
}

impl Op {
    /// Whose handle the command needs, if any.
    pub fn who(&self) -> Option<Who> {
        match self {
            Op::Leave(who) | Op::ConnectionLost(who) => Some(*who),
            Op::Update { who, .. } | Op::Set { who, .. } | Op::Get { who, .. } | Op::Listen { who, .. } => Some(*who),
            Op::Join { .. } | Op::Return { .. } | Op::Tick | Op::TickWhenDue => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Step {
    /// Milliseconds since the step before.
    pub wait: u64,
    /// Lets time pass by a tick of its own first, so that a refusal can be compared with what
    /// was before it, to the last private field.
    pub tick_first: bool,
    pub op: Op,
}

/// Picks one of a table, whatever the number.
pub fn pick<'a>(table: &[&'a str], index: usize) -> &'a str {
    table[index % table.len()]
}

/// Limits that a few commands reach.
pub fn small_limits(grace_ms: u64, linger_ms: u64) -> Limits {
    Limits {
        max_value_bytes: 12,
        max_keys: 3,
        max_store_bytes: 30,
        max_listened_keys: 3,
        max_peers: 3,
        grace_ms,
        linger_ms,
    }
}
