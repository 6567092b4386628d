//! `sessionstore_peer` and lists of peers.

use std::ffi::c_char;
use std::sync::Arc;

use super::guard::getter;
use super::text::{empty, OutText};
use crate::PeerInfo;

/// A peer as it was when it was told of. It never changes, is counted by reference, and may be used
/// from any thread.
///
/// Peers given to callbacks, and those in a list, are borrowed; `sessionstore_peer_retain` keeps one.
pub struct sessionstore_peer {
    info: Arc<PeerInfo>,
    id: OutText,
    user_id: OutText,
    name: OutText,
    role: OutText,
    metadata: OutText,
}

impl sessionstore_peer {
    pub(super) fn new(info: Arc<PeerInfo>) -> sessionstore_peer {
        sessionstore_peer {
            info,
            id: OutText::default(),
            user_id: OutText::default(),
            name: OutText::default(),
            role: OutText::default(),
            metadata: OutText::default(),
        }
    }
}

/// Everybody who was in the room when the list was made. Freed with `sessionstore_peer_list_free`.
pub struct sessionstore_peer_list {
    peers: Vec<Arc<sessionstore_peer>>,
}

impl sessionstore_peer_list {
    pub(super) fn new(peers: Vec<Arc<PeerInfo>>) -> sessionstore_peer_list {
        let peers = peers.into_iter().map(|peer| Arc::new(sessionstore_peer::new(peer))).collect();
        sessionstore_peer_list { peers }
    }
}

/// The peer's id, unique in the room, with a NUL after it. Lives as long as the peer object, as do
/// the other texts here. `len_out` may be NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_peer_id(peer: *const sessionstore_peer, len_out: *mut usize) -> *const c_char {
    // SAFETY: NULL or a live peer, as the caller owes.
    unsafe { text(peer, len_out, |peer| (&peer.id, &peer.info.peer_id)) }
}

/// The user id from the peer's token; `""` if it has none.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_peer_user_id(
    peer: *const sessionstore_peer,
    len_out: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live peer, as the caller owes.
    unsafe { text(peer, len_out, |peer| (&peer.user_id, &peer.info.user_id)) }
}

/// The peer's name; `""` if it gave none.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_peer_name(peer: *const sessionstore_peer, len_out: *mut usize) -> *const c_char {
    // SAFETY: NULL or a live peer, as the caller owes.
    unsafe { text(peer, len_out, |peer| (&peer.name, &peer.info.name)) }
}

/// The peer's role.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_peer_role(peer: *const sessionstore_peer, len_out: *mut usize) -> *const c_char {
    // SAFETY: NULL or a live peer, as the caller owes.
    unsafe { text(peer, len_out, |peer| (&peer.role, &peer.info.role)) }
}

/// The peer's metadata, any text; it can hold NUL bytes of its own.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_peer_metadata(
    peer: *const sessionstore_peer,
    len_out: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live peer, as the caller owes.
    unsafe { text(peer, len_out, |peer| (&peer.metadata, &peer.info.metadata)) }
}

/// When the peer joined: server time in milliseconds since 1970-01-01 UTC.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_peer_joined_at(peer: *const sessionstore_peer) -> u64 {
    // SAFETY: NULL or a live peer, as the caller owes.
    getter(0, || unsafe { peer.as_ref() }.map_or(0, |peer| peer.info.joined_at))
}

/// Another reference to the same peer object, to be freed too. NULL for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_peer_retain(peer: *const sessionstore_peer) -> *mut sessionstore_peer {
    if !peer.is_null() {
        // SAFETY: a live peer object, which always comes from an Arc.
        unsafe { Arc::increment_strong_count(peer) };
    }
    peer.cast_mut()
}

/// Frees one reference to a peer object. NULL is fine. Nothing happens to the peer itself.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_peer_free(peer: *mut sessionstore_peer) {
    if !peer.is_null() {
        // SAFETY: a reference the caller owns, from an Arc. Peer objects are plain memory: a forked
        // child may free its own.
        unsafe { Arc::decrement_strong_count(peer.cast_const()) };
    }
}

/// How many peers are in the list; 0 for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_peer_list_count(list: *const sessionstore_peer_list) -> usize {
    // SAFETY: NULL or a live list, as the caller owes.
    getter(0, || unsafe { list.as_ref() }.map_or(0, |list| list.peers.len()))
}

/// One peer of the list, borrowed from it; NULL beyond its end.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_peer_list_get(
    list: *const sessionstore_peer_list,
    index: usize,
) -> *const sessionstore_peer {
    getter(std::ptr::null(), || {
        // SAFETY: NULL or a live list, as the caller owes.
        unsafe { list.as_ref() }.and_then(|list| list.peers.get(index)).map_or(std::ptr::null(), Arc::as_ptr)
    })
}

/// Frees a list and its references to the peer objects. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_peer_list_free(list: *mut sessionstore_peer_list) {
    if !list.is_null() {
        // SAFETY: given out by Box::into_raw and not freed before, as the caller owes.
        drop(unsafe { Box::from_raw(list) });
    }
}

/// # Safety
/// `peer` is NULL or live; `len_out` is NULL or the place of one size.
unsafe fn text(
    peer: *const sessionstore_peer,
    len_out: *mut usize,
    parts: impl FnOnce(&sessionstore_peer) -> (&OutText, &str),
) -> *const c_char {
    getter(c"".as_ptr(), || {
        // SAFETY: as the caller says.
        let Some(peer) = (unsafe { peer.as_ref() }) else { return empty(len_out) };
        let (out, text) = parts(peer);
        out.get(text, len_out)
    })
}
