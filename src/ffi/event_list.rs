//! Lists of `sessionstore_event`: the states of several keys at one revision.

use std::ffi::c_void;
use std::sync::Arc;

use super::action::Hears;
use super::callback::{plain, result_struct, with_error};
use super::cancellation::sessionstore_cancellation;
use super::error::sessionstore_error;
use super::event::{sessionstore_event, EventHandle};
use super::guard::{getter, give_arc};
use crate::{Error, Snapshot};

/// The states of several keys at one revision of the store: what a transaction wrote, or a read found. It
/// never changes, is counted by reference, and may be used from any thread.
pub struct sessionstore_event_list {
    revision: u64,
    events: Vec<EventHandle>,
}

impl sessionstore_event_list {
    fn new(snapshot: Snapshot) -> sessionstore_event_list {
        let events = snapshot.states.into_iter().map(|change| EventHandle::new(plain(change))).collect();
        sessionstore_event_list { revision: snapshot.revision, events }
    }
}

/// Gives a list, where it is wanted.
pub(super) fn give_list(snapshot: Snapshot, list_out: *mut *mut sessionstore_event_list) -> Result<(), Error> {
    if list_out.is_null() {
        return Ok(());
    }
    give_arc(Arc::new(sessionstore_event_list::new(snapshot)), list_out)
}

/// Hears how one request for several keys ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_event_list_result {
    /// Set by `SESSIONSTORE_EVENT_LIST_RESULT_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Yours; passed to every call.
    pub ctx: *mut c_void,
    /// The last call: nothing uses `ctx` after it.
    pub on_drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// The request ended; called exactly once if the call that took this succeeded, otherwise never.
    /// `error` is NULL on success, `list` otherwise. Both are borrowed.
    pub on_result: Option<
        unsafe extern "C" fn(ctx: *mut c_void, error: *const sessionstore_error, list: *const sessionstore_event_list),
    >,
    /// What may take the request back, or NULL. It is borrowed for the call, and may be freed after it.
    pub cancellation: *const sessionstore_cancellation,
}

result_struct!(sessionstore_event_list_result, "event list result");

impl Hears<Snapshot> for sessionstore_event_list_result {
    fn hear(&self, outcome: Result<Snapshot, Error>) {
        let Some(told) = self.on_result else { return };
        let (list, error) = match outcome {
            Ok(snapshot) => (Some(Arc::new(sessionstore_event_list::new(snapshot))), None),
            Err(error) => (None, Some(error)),
        };
        let list = list.as_ref().map_or(std::ptr::null(), Arc::as_ptr);
        // SAFETY: the app's function, called as its struct says.
        with_error(error.as_ref(), |error| unsafe { told(self.ctx, error, list) });
    }
}

/// How many events are in the list; 0 for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_list_count(list: *const sessionstore_event_list) -> usize {
    // SAFETY: NULL or a live list, as the caller owes.
    getter(0, || unsafe { list.as_ref() }.map_or(0, |list| list.events.len()))
}

/// One event of the list, borrowed from it; NULL beyond its end. `sessionstore_event_retain` keeps it.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_list_get(
    list: *const sessionstore_event_list,
    index: usize,
) -> *const sessionstore_event {
    getter(std::ptr::null(), || {
        // SAFETY: NULL or a live list, as the caller owes.
        let event = unsafe { list.as_ref() }.and_then(|list| list.events.get(index));
        event.map_or(std::ptr::null(), EventHandle::as_ptr)
    })
}

/// The revision of the store at which the keys had these states; 0 for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_list_revision(list: *const sessionstore_event_list) -> u64 {
    // SAFETY: NULL or a live list, as the caller owes.
    getter(0, || unsafe { list.as_ref() }.map_or(0, |list| list.revision))
}

/// Another reference to the same list, to be freed too. NULL for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_list_retain(
    list: *const sessionstore_event_list,
) -> *mut sessionstore_event_list {
    if !list.is_null() {
        // SAFETY: a live list, which always comes from an Arc.
        unsafe { Arc::increment_strong_count(list) };
    }
    list.cast_mut()
}

/// Frees one reference to a list; the last one also frees the list's events. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_event_list_free(list: *mut sessionstore_event_list) {
    if !list.is_null() {
        // SAFETY: a reference the caller owns, from an Arc. Lists are plain memory: a forked child may free
        // its own.
        unsafe { Arc::decrement_strong_count(list.cast_const()) };
    }
}
