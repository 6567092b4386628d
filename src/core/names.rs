//! The rules for keys, rooms and what a peer says of itself.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::{Error, ErrorCode};
use super::limits::*;

fn check(code: ErrorCode, what: &str, text: &str, least: usize, most: usize) -> Result<(), Error> {
    if text.len() < least {
        return Err(Error::new(code, format!("the {what} is empty")));
    }
    if text.len() > most {
        return Err(Error::new(code, format!("the {what} has {} bytes; at most {most} are allowed", text.len())));
    }
    // Most are ASCII, which needs no decoding. All bytes are looked at, so that many can be at once.
    let is_plain = text.bytes().fold(true, |plain, byte| plain & (0x20..0x7f).contains(&byte));
    if !is_plain && text.chars().any(char::is_control) {
        return Err(Error::new(code, format!("the {what} has a control character")));
    }
    Ok(())
}

/// A key is 1 to 256 bytes of UTF-8 without control characters.
pub fn check_key(key: &str) -> Result<(), Error> {
    check(ErrorCode::InvalidKey, "key", key, 1, MAX_KEY_BYTES)
}

/// A prefix of keys is at most 256 bytes, as a key is; the empty one means all keys.
pub fn check_prefix(prefix: &str) -> Result<(), Error> {
    check(ErrorCode::InvalidKey, "prefix", prefix, 0, MAX_KEY_BYTES)
}

/// What the keys begin with that show who holds a lock.
pub const LOCK_KEY_PREFIX: &str = "$lock/";

/// Whether a prefix means a key. Keys that show locks are not everybody's business: `""` leaves them out,
/// and only a prefix that begins with `$` means them.
pub fn begins_with(key: &str, prefix: &str) -> bool {
    key.starts_with(prefix) && (prefix.starts_with('$') || !key.starts_with(LOCK_KEY_PREFIX))
}

/// A lock's name is 1 to 200 bytes of UTF-8 without control characters.
pub fn check_lock(name: &str) -> Result<(), Error> {
    check(ErrorCode::InvalidLock, "lock name", name, 1, MAX_LOCK_NAME_BYTES)
}

/// A room name is 1 to 128 bytes of UTF-8 without control characters.
pub fn check_room(room: &str) -> Result<(), Error> {
    check(ErrorCode::InvalidRoom, "room name", room, 1, MAX_ROOM_BYTES)
}

/// A peer id is 1 to 128 bytes of UTF-8 without control characters.
pub fn check_peer_id(id: &str) -> Result<(), Error> {
    check(ErrorCode::InvalidPeer, "peer id", id, 1, MAX_ID_BYTES)
}

/// A user id is at most 128 bytes; empty when nobody said who it is.
pub fn check_user_id(id: &str) -> Result<(), Error> {
    check(ErrorCode::InvalidPeer, "user id", id, 0, MAX_ID_BYTES)
}

/// A peer's name is at most 256 bytes; it may be empty.
pub fn check_peer_name(name: &str) -> Result<(), Error> {
    check(ErrorCode::InvalidPeer, "peer name", name, 0, MAX_NAME_BYTES)
}

/// A role is 1 to 64 bytes.
pub fn check_role(role: &str) -> Result<(), Error> {
    check(ErrorCode::InvalidPeer, "role", role, 1, MAX_ROLE_BYTES)
}

/// Peer metadata is any text of at most 2,048 bytes; apps usually put JSON in it.
pub fn check_peer_metadata(data: &str) -> Result<(), Error> {
    if data.len() > MAX_PEER_METADATA_BYTES {
        let message =
            format!("the peer metadata has {} bytes; at most {MAX_PEER_METADATA_BYTES} are allowed", data.len());
        return Err(Error::new(ErrorCode::InvalidPeer, message));
    }
    Ok(())
}

/// A list of keys, or of prefixes of keys. Copies are the same memory, which is little however many keys they are, and
/// compared at a glance: everybody in a room, and in many rooms, listens to the same as a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyList(
    /// None without keys.
    Option<Arc<Keys>>,
);

#[derive(Debug, Default, PartialEq, Eq)]
struct Keys {
    text: String,
    /// Where each key ends in the text.
    ends: Vec<u32>,
}

impl KeyList {
    /// These keys, in this order.
    pub fn of(keys: &[&str]) -> KeyList {
        keys.iter().copied().collect()
    }

    /// The keys, in the order in which they were listed.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let (text, ends) = self.0.as_ref().map_or(("", &[][..]), |keys| (&keys.text, &keys.ends));
        let mut begin = 0;
        ends.iter().map(move |end| {
            let end = *end as usize;
            text.get(std::mem::replace(&mut begin, end)..end).unwrap_or_default()
        })
    }

    /// The same set: each key once, in the order of the keys. Lists that mean the same are the same by that.
    pub fn sorted(&self) -> Cow<'_, KeyList> {
        let mut keys: Vec<&str> = self.iter().collect();
        if keys.is_sorted_by(|a, b| a < b) {
            return Cow::Borrowed(self);
        }
        keys.sort_unstable();
        keys.dedup();
        Cow::Owned(keys.into_iter().collect())
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |keys| keys.ends.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Keys {
    fn push(&mut self, key: &str) {
        self.text.push_str(key);
        // A message has far fewer bytes than a u32 counts.
        self.ends.push(self.text.len() as u32);
    }

    fn into_list(mut self) -> KeyList {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        KeyList((!self.ends.is_empty()).then(|| Arc::new(self)))
    }
}

impl<'a> FromIterator<&'a str> for KeyList {
    fn from_iter<I: IntoIterator<Item = &'a str>>(keys: I) -> KeyList {
        let keys = keys.into_iter();
        let mut list = Keys { text: String::new(), ends: Vec::with_capacity(keys.size_hint().0) };
        keys.for_each(|key| list.push(key));
        list.into_list()
    }
}

impl Ord for KeyList {
    fn cmp(&self, other: &KeyList) -> Ordering {
        // Lists that are equal are so at a glance, and others differ early.
        if self == other {
            return Ordering::Equal;
        }
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for KeyList {
    fn partial_cmp(&self, other: &KeyList) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// From an array of strings.
impl<'de> Deserialize<'de> for KeyList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeyList, D::Error> {
        /// Borrowed where it has no escapes.
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Array;

        impl<'de> Visitor<'de> for Array {
            type Value = KeyList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of keys")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut keys: A) -> Result<KeyList, A::Error> {
                let mut list = Keys::default();
                while let Some(Key(key)) = keys.next_element()? {
                    list.push(&key);
                }
                Ok(list.into_list())
            }
        }

        deserializer.deserialize_seq(Array)
    }
}
