//! `sessionstore_event`

use std::ffi::c_char;
use std::sync::{Arc, OnceLock};

use triomphe::{ArcBorrow, UniqueArc};

use super::guard::getter;
use super::text::OutText;
use super::value::sessionstore_value;
use crate::core::replica::KeyEvent;
use crate::Cause;

/// A peer wrote the key; if the value is `null`, a peer removed it. Also of a key that was never set.
pub const SESSIONSTORE_CAUSE_WRITTEN: i32 = 0;
/// The key's time to live ran out. The value is `null`, and there is no author.
pub const SESSIONSTORE_CAUSE_EXPIRED: i32 = 1;
/// The key was bound to a peer that is gone, who is the author. The value is `null`.
pub const SESSIONSTORE_CAUSE_PEER_LEFT: i32 = 2;
/// The session in which the key was set is over, and its store was cleared. The value is `null`.
pub const SESSIONSTORE_CAUSE_CLEARED: i32 = 3;

/// One state of one key: what a listener, a get or a set is told. It never changes, is counted by
/// reference, and may be used from any thread.
///
/// Events given to callbacks are borrowed until the callback returns; `sessionstore_event_retain`
/// keeps one.
pub struct sessionstore_event {
    event: KeyEvent,
    value: OnceLock<Arc<sessionstore_value>>,
    /// Made when one is first asked for: most callbacks look at the value alone.
    texts: OnceLock<Box<Texts>>,
}

#[derive(Default)]
struct Texts {
    key: OutText,
    author_peer_id: OutText,
    author_user_id: OutText,
    author_name: OutText,
}

/// One reference to an event. Nearly all events have one reference all their life, given to a callback or
/// freed right after `cached`: it is the last one, and seen to be so by a plain load, which
/// `std::sync::Arc` with its second count cannot do. Never `None` before it is dropped.
pub(super) struct EventHandle(Option<triomphe::Arc<sessionstore_event>>);

impl EventHandle {
    #[inline]
    pub(super) fn new(event: KeyEvent) -> EventHandle {
        let event = sessionstore_event { event, value: OnceLock::new(), texts: OnceLock::new() };
        EventHandle(Some(triomphe::Arc::new(event)))
    }

    pub(super) fn as_ptr(&self) -> *const sessionstore_event {
        self.0.as_ref().map_or(std::ptr::null(), triomphe::Arc::as_ptr)
    }

    /// The reference for C, which gives it back with `sessionstore_event_free`.
    pub(super) fn into_raw(mut self) -> *mut sessionstore_event {
        self.0.take().map_or(std::ptr::null_mut(), |event| triomphe::Arc::into_raw(event).cast_mut())
    }
}

impl Drop for EventHandle {
    #[inline]
    fn drop(&mut self) {
        if let Some(Ok(last)) = self.0.take().map(triomphe::Arc::try_unique) {
            drop(UniqueArc::into_inner(last));
        }
    }
}

impl sessionstore_event {
    fn texts(&self) -> &Texts {
        self.texts.get_or_init(Box::default)
    }

    fn value(&self) -> &Arc<sessionstore_value> {
        self.value.get_or_init(|| Arc::new(sessionstore_value::new(self.event.change.value.clone())))
    }
}

/// The key, with a NUL after it. Lives as long as the event. `len_out` may be NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_key(
    event: *const sessionstore_event,
    len_out: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live event, as the caller owes.
    unsafe { text(event, len_out, |event| (&event.texts().key, &event.event.change.key)) }
}

/// The value as compact JSON text, with a NUL after it; `"null"` when the key is absent. Lives as
/// long as the event. `len_out` may be NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_json(
    event: *const sessionstore_event,
    len_out: *mut usize,
) -> *const c_char {
    getter(c"null".as_ptr(), || {
        // SAFETY: NULL or a live event, as the caller owes; its value lives as long.
        unsafe {
            let value = event.as_ref().map_or(std::ptr::null(), |event| Arc::as_ptr(event.value()));
            super::value::sessionstore_value_json(value, len_out)
        }
    })
}

/// The value, borrowed from the event; `sessionstore_value_retain` keeps it. Its kind is
/// `SESSIONSTORE_KIND_NULL` when the key is absent.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_value(event: *const sessionstore_event) -> *const sessionstore_value {
    getter(std::ptr::null(), || {
        // SAFETY: NULL or a live event, as the caller owes.
        unsafe { event.as_ref() }.map_or(std::ptr::null(), |event| Arc::as_ptr(event.value()))
    })
}

/// The key's version: the revision of the store that this change made, a removal too. 0 for a key that was
/// never set, or whose removal is no longer known.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_version(event: *const sessionstore_event) -> u64 {
    // SAFETY: NULL or a live event, as the caller owes.
    getter(0, || unsafe { event.as_ref() }.map_or(0, |event| event.event.change.version))
}

/// When the change was made: server time in milliseconds since 1970-01-01 UTC; 0 when the version
/// is 0.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_updated_at(event: *const sessionstore_event) -> u64 {
    // SAFETY: NULL or a live event, as the caller owes.
    getter(0, || unsafe { event.as_ref() }.map_or(0, |event| event.event.change.updated_at))
}

/// Why the key has this state: one of `SESSIONSTORE_CAUSE_…`. Tells a key that was removed (the value is
/// `null`, the cause `SESSIONSTORE_CAUSE_WRITTEN`) from one that expired or went with its peer.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_cause(event: *const sessionstore_event) -> i32 {
    // SAFETY: NULL or a live event, as the caller owes.
    getter(SESSIONSTORE_CAUSE_WRITTEN, || match unsafe { event.as_ref() }.map(|event| event.event.change.cause) {
        None | Some(Cause::Written) => SESSIONSTORE_CAUSE_WRITTEN,
        Some(Cause::Expired) => SESSIONSTORE_CAUSE_EXPIRED,
        Some(Cause::PeerLeft) => SESSIONSTORE_CAUSE_PEER_LEFT,
        Some(Cause::Cleared) => SESSIONSTORE_CAUSE_CLEARED,
    })
}

/// When the key goes by itself: server time in milliseconds since 1970-01-01 UTC; 0 for never.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_expires_at(event: *const sessionstore_event) -> u64 {
    // SAFETY: NULL or a live event, as the caller owes.
    getter(0, || unsafe { event.as_ref() }.map_or(0, |event| event.event.change.expires_at))
}

/// The id of the peer that made the change; `""` when the version is 0, or the key expired, and when an operator made it,
/// who is no peer but has a user id. Known also after that peer has left. Lives as long as the event. `len_out` may be NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_author_peer_id(
    event: *const sessionstore_event,
    len_out: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live event, as the caller owes.
    unsafe { author_text(event, len_out, |texts| &texts.author_peer_id, |author| &author.peer_id) }
}

/// The user id of the peer or operator that made the change, from its token; `""` if it has none. Lives as long
/// as the event. `len_out` may be NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_author_user_id(
    event: *const sessionstore_event,
    len_out: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live event, as the caller owes.
    unsafe { author_text(event, len_out, |texts| &texts.author_user_id, |author| &author.user_id) }
}

/// The name the author had when it made the change. Lives as long as the event. `len_out` may be
/// NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_author_name(
    event: *const sessionstore_event,
    len_out: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live event, as the caller owes.
    unsafe { author_text(event, len_out, |texts| &texts.author_name, |author| &author.name) }
}

/// How many older states of this key this event stands for, which this listener missed because it,
/// or its connection, did not keep up. Usually 0.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_replaced(event: *const sessionstore_event) -> u64 {
    // SAFETY: NULL or a live event, as the caller owes.
    getter(0, || unsafe { event.as_ref() }.map_or(0, |event| event.event.replaced))
}

/// 1 for a current value from before the end-of-snapshot mark, 0 for a change.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_is_snapshot(event: *const sessionstore_event) -> i32 {
    // SAFETY: NULL or a live event, as the caller owes.
    getter(0, || unsafe { event.as_ref() }.map_or(0, |event| i32::from(event.event.snapshot)))
}

/// Another reference to the same event, to be freed too. NULL for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_retain(event: *const sessionstore_event) -> *mut sessionstore_event {
    if !event.is_null() {
        // SAFETY: a live event, which always comes from an `EventHandle`.
        let event = unsafe { ArcBorrow::from_ptr(event) };
        return EventHandle(Some(event.clone_arc())).into_raw();
    }
    std::ptr::null_mut()
}

/// Frees one reference to an event. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_free(event: *mut sessionstore_event) {
    if !event.is_null() {
        // SAFETY: a reference the caller owns, from an `EventHandle`. Events are plain memory: a forked
        // child may free its own.
        drop(EventHandle(Some(unsafe { triomphe::Arc::from_raw(event) })));
    }
}

/// # Safety
/// `event` is NULL or live; `len_out` is NULL or the place of one size.
unsafe fn text(
    event: *const sessionstore_event,
    len_out: *mut usize,
    parts: impl FnOnce(&sessionstore_event) -> (&OutText, &str),
) -> *const c_char {
    getter(c"".as_ptr(), || {
        // SAFETY: as the caller says.
        let Some(event) = (unsafe { event.as_ref() }) else { return super::text::empty(len_out) };
        let (out, text) = parts(event);
        out.get(text, len_out)
    })
}

/// # Safety
/// As for `text`.
unsafe fn author_text(
    event: *const sessionstore_event,
    len_out: *mut usize,
    out: impl FnOnce(&Texts) -> &OutText,
    field: impl FnOnce(&crate::Author) -> &str,
) -> *const c_char {
    let parts = |event: &sessionstore_event| -> *const c_char {
        let author = event.event.change.author.as_ref().map_or("", |author| field(author));
        out(event.texts()).get(author, len_out)
    };
    // SAFETY: as the caller says.
    getter(c"".as_ptr(), || unsafe { event.as_ref() }.map_or_else(|| super::text::empty(len_out), parts))
}
