//! The rules for keys, rooms and what a peer says of itself.

use super::error::{Error, ErrorCode};
use super::limits::*;

fn check(code: ErrorCode, what: &str, text: &str, least: usize, most: usize) -> Result<(), Error> {
    if text.len() < least {
        return Err(Error::new(code, format!("the {what} is empty")));
    }
    if text.len() > most {
        return Err(Error::new(code, format!("the {what} has {} bytes; at most {most} are allowed", text.len())));
    }
    // Most are ASCII, which needs no decoding.
    let is_plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if !is_plain && text.chars().any(char::is_control) {
        return Err(Error::new(code, format!("the {what} has a control character")));
    }
    Ok(())
}

/// A key is 1 to 256 bytes of UTF-8 without control characters.
pub fn check_key(key: &str) -> Result<(), Error> {
    check(ErrorCode::InvalidKey, "key", key, 1, MAX_KEY_BYTES)
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
