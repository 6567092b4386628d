//! Every number that bounds a room, in one place, with its reason.

use serde::{Deserialize, Serialize};

/// Longest key, in bytes of UTF-8. Long enough for a path of ids; a hundred of the longest still
/// leave most of a store to its values.
pub const MAX_KEY_BYTES: usize = 256;

/// Longest room name, in bytes. Room ids of hosted services are 24 to 64 characters.
pub const MAX_ROOM_BYTES: usize = 128;

/// Longest peer id and user id, in bytes. A UUID takes 36; user ids are often mail addresses.
pub const MAX_ID_BYTES: usize = 128;

/// Longest peer name, in bytes: what a video tile can show, in any script, with room to spare.
pub const MAX_NAME_BYTES: usize = 256;

/// Longest role name, in bytes.
pub const MAX_ROLE_BYTES: usize = 64;

/// Longest peer metadata, in bytes. Every joining peer receives everybody's, so it stays small.
pub const MAX_PEER_METADATA_BYTES: usize = 2_048;

/// Deepest nesting of a value. `serde_json` and other readers stop at 128, and everybody in the
/// room must be able to read what one peer writes.
pub const MAX_VALUE_DEPTH: usize = 100;

/// Longest request id that is echoed, in bytes of JSON. A quoted UUID takes 38.
pub const MAX_REQUEST_ID_BYTES: usize = 128;

/// Largest message a client accepts from a server, in bytes: the `peer-list` of the largest room
/// (20,000 peers with names and metadata of ordinary length), with room to spare.
pub const MAX_SERVER_MESSAGE_BYTES: usize = 64 << 20;

/// Longest name of a lock, in bytes: with its prefix it is a key.
pub const MAX_LOCK_NAME_BYTES: usize = 200;

/// Shortest and longest time a lock is held without being renewed, in milliseconds. Below a second a
/// pause of the network would lose it; above five minutes a holder that hangs would keep it too long.
pub const LOCK_TTL_MS: std::ops::RangeInclusive<u64> = 1_000..=300_000;

/// How long a lock is held without being renewed unless the holder says so, in milliseconds: three
/// renewals, and a reconnect, within the usual grace period of 30 s.
pub const DEFAULT_LOCK_TTL_MS: u64 = 15_000;

/// Longest wait for a lock, in milliseconds: five minutes, as long as it can be held at a time.
pub const MAX_LOCK_WAIT_MS: u64 = 300_000;

/// Most locks that are held at once in a room: as many as a store has keys.
pub const MAX_LOCKS: usize = 100;

/// Most locks that one peer holds and waits for, taken together: a quarter of a room's, so that no peer
/// alone, nor two or three, can take them all; who works on more things at once than this locks what has
/// them.
pub const MAX_LOCKS_PER_PEER: u32 = 25;

/// Most peers that wait for locks of a room at once.
pub const MAX_LOCK_WAITS: usize = 1_000;

/// Most answers that are kept for one peer, until it says that it has them: twice as many as our clients have
/// requests under way ([`MAX_IN_FLIGHT`]), as they say so for several at once.
pub const MAX_ANSWERS: usize = 2 * MAX_IN_FLIGHT;

/// Most bytes of them: as many states of the largest values that a room has as a rule as can be under way.
pub const MAX_ANSWER_BYTES: usize = 512 * 1_024;

/// How many bytes the answers of all peers of a room may have together before each peer keeps only a sixteenth
/// of [`MAX_ANSWER_BYTES`]: 32 peers that have as many as they can.
pub const MAX_ROOM_ANSWER_BYTES: usize = 32 * MAX_ANSWER_BYTES;

/// Most requests that change something and that a client has sent without having their answers; what
/// follows waits. As many as a window of 64 KiB has requests of ordinary size.
pub const MAX_IN_FLIGHT: usize = 256;

/// Most bytes of their messages, unless there is only one: a quarter of what the server keeps of their answers,
/// which may be longer.
pub const MAX_IN_FLIGHT_BYTES: usize = MAX_ANSWER_BYTES / 4;

/// How many removals of keys a room remembers, for peers that come back: enough for a busy minute of a store of
/// 100 keys. Who was away for more is sent all keys.
pub const MAX_REMOVALS: usize = 128;

/// Longest time to live of a key, in milliseconds: a year, which no session lasts.
pub const MAX_TTL_MS: u64 = 365 * 86_400_000;

/// Longest time that a session which an operator began waits for its first peer, in milliseconds: a day.
pub const MAX_KEEP_MS: u64 = 86_400_000;

/// Most checks and writes of a transaction together: each key of a full store checked and written.
pub const MAX_TRANSACTION_PARTS: usize = 200;

/// How many times larger than its limit a value may be between the writes of a transaction: the limit holds for the
/// result, so that a full list can have one value added before another is removed; but work that is thrown away has to
/// be bounded too.
pub const LARGER_ON_THE_WAY: usize = 2;

/// Most rules of a room. They are tried one after the other, so they bound what each request costs; an
/// app with this many has a rule for each of its keys.
pub const MAX_RULES: usize = 1_000;

/// Most patterns of one rule: as many as a store has keys.
pub const MAX_PATTERNS_PER_RULE: usize = 100;

/// The limits of one room's store and the times that bound a session.
///
/// The defaults are those of the hosted original, so that an app moves over unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest value, in bytes of compact JSON. Default 1,024.
    pub max_value_bytes: usize,
    /// Most keys in a store. Default 100.
    pub max_keys: usize,
    /// Most bytes of keys and values together. Default 65,536.
    pub max_store_bytes: usize,
    /// Most keys one peer listens to. Default 200: every key of a full store, and as many that
    /// may come.
    pub max_listened_keys: usize,
    /// Most peers in a room. Default 20,000, the largest room of the hosted original.
    pub max_peers: usize,
    /// How long a peer whose connection broke stays in the room, in milliseconds. Default 30,000.
    pub grace_ms: u64,
    /// How long a session without peers is kept, in milliseconds. Default 0: it ends with its
    /// last peer.
    pub linger_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_value_bytes: 1_024,
            max_keys: 100,
            max_store_bytes: 65_536,
            max_listened_keys: 200,
            max_peers: 20_000,
            grace_ms: 30_000,
            linger_ms: 0,
        }
    }
}
