//! Callback structs, and how they become Rust listeners whose `Drop` is `on_drop`.
//!
//! Each begins with the same four fields, so that `on_drop` is found in a struct of any version.

use std::ffi::c_void;
use std::sync::Arc;

use super::action::Hears;
use super::cancellation::sessionstore_cancellation;
use super::client::{
    SESSIONSTORE_PEER_JOINED, SESSIONSTORE_PEER_LEFT, SESSIONSTORE_PEER_UPDATED, SESSIONSTORE_STATE_CLOSED,
    SESSIONSTORE_STATE_CONNECTED, SESSIONSTORE_STATE_CONNECTING, SESSIONSTORE_STATE_RECONNECTING,
};
use super::error::sessionstore_error;
use super::event::{sessionstore_event, EventHandle};
use super::peer::sessionstore_peer;
use super::store::sessionstore_store;
use super::structs::{check_flags, read, Read, Sized32};
use crate::client::{ConnectionState, KeyChange, KeyChangeListener, PeerChange, Store, ThreadHooks, UpdateListener};
use crate::core::replica::KeyEvent;
use crate::core::room::Change;
use crate::{Error, PeerInfo};

/// Hears what concerns the client as a whole. Members that are NULL are not called.
///
/// See the introduction for what all callback structs have in common: `ctx` is passed to each call,
/// calls never overlap and come in order on a dispatch thread, and `on_drop` is called
/// exactly once, after the last of them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_update_listener {
    /// Set by `SESSIONSTORE_UPDATE_LISTENER_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Yours; passed to every call.
    pub ctx: *mut c_void,
    /// The last call: nothing uses `ctx` after it.
    pub on_drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// The room was joined. Called once. The store is borrowed; `sessionstore_store_retain` keeps it.
    pub on_store_available: Option<unsafe extern "C" fn(ctx: *mut c_void, store: *const sessionstore_store)>,
    /// The connection's state is now one of `SESSIONSTORE_STATE_…`. The error says why, or is NULL;
    /// it is borrowed.
    pub on_connection_state:
        Option<unsafe extern "C" fn(ctx: *mut c_void, state: i32, error: *const sessionstore_error)>,
    /// Another peer joined, changed or left: `change` is one of `SESSIONSTORE_PEER_…`. Those who are
    /// in the room already are told as joined. The peer is borrowed.
    pub on_peer: Option<unsafe extern "C" fn(ctx: *mut c_void, change: i32, peer: *const sessionstore_peer)>,
    /// Something went wrong that no request is waiting for, such as `SESSION_LOST`. The error is
    /// borrowed.
    pub on_error: Option<unsafe extern "C" fn(ctx: *mut c_void, error: *const sessionstore_error)>,
    /// The token expires at this server time, in milliseconds since 1970. Soon after, the client closes with
    /// `TOKEN_EXPIRED`, unless `sessionstore_client_renew_token` hands in a fresh one. Told 30 s before, or
    /// at once when less is left.
    pub on_token_expiring: Option<unsafe extern "C" fn(ctx: *mut c_void, expires_at: u64)>,
}

/// Hears of changes of some keys. Members that are NULL are not called.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_key_change_listener {
    /// Set by `SESSIONSTORE_KEY_CHANGE_LISTENER_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Yours; passed to every call.
    pub ctx: *mut c_void,
    /// The last call: nothing uses `ctx` after it.
    pub on_drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// A key has this state. First comes the current value of each key (`null` when absent), then
    /// `on_snapshot_end`, then each change, this peer's own included. The event is borrowed.
    pub on_key_changed: Option<unsafe extern "C" fn(ctx: *mut c_void, event: *const sessionstore_event)>,
    /// All current values were given.
    pub on_snapshot_end: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// The server refused to listen to these keys; only `on_drop` follows. The error is borrowed.
    pub on_refused: Option<unsafe extern "C" fn(ctx: *mut c_void, error: *const sessionstore_error)>,
}

/// Hears how one request ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_action_result {
    /// Set by `SESSIONSTORE_ACTION_RESULT_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Yours; passed to every call.
    pub ctx: *mut c_void,
    /// The last call: nothing uses `ctx` after it.
    pub on_drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// The request ended; called exactly once if the call that took this succeeded, otherwise never.
    /// `error` is NULL on success. `event` is the key's state after a set, remove or get that
    /// succeeded, otherwise NULL. Both are borrowed.
    pub on_result: Option<
        unsafe extern "C" fn(ctx: *mut c_void, error: *const sessionstore_error, event: *const sessionstore_event),
    >,
    /// What may take the request back, or NULL. It is borrowed for the call, and may be freed after it.
    pub cancellation: *const sessionstore_cancellation,
}

/// Poll mode: tells that there is something for `sessionstore_client_poll`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_wake_hook {
    /// Set by `SESSIONSTORE_WAKE_HOOK_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Yours; passed to every call.
    pub ctx: *mut c_void,
    /// The last call: nothing uses `ctx` after it. It comes on whichever thread lets go last.
    pub on_drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// Called from any thread, also while another such call runs. It must return at once and call
    /// nothing of this library: write to a pipe, post a message, signal a condition.
    pub on_wake: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
}

/// Gives a client a dispatch thread of its own, on which all its callbacks come, and is called there when
/// it starts and just before it ends: for hosts that must make threads known, such as a JVM.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sessionstore_thread_hooks {
    /// Set by `SESSIONSTORE_THREAD_HOOKS_INIT`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Yours; passed to every call.
    pub ctx: *mut c_void,
    /// The last call: nothing uses `ctx` after it. It comes on whichever thread lets go last.
    pub on_drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// Before the first callback.
    pub on_start: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// After the last callback.
    pub on_stop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
}

macro_rules! callback_struct {
    ($type:ty, $name:literal, $last:ident) => {
        // SAFETY: repr(C), beginning with struct_size; integers, pointers and nullable functions.
        unsafe impl $crate::ffi::structs::Sized32 for $type {
            const FIRST_SIZE: usize = std::mem::offset_of!($type, $last) + std::mem::size_of::<usize>();
            const NAME: &'static str = $name;
        }
        impl $crate::ffi::callback::Callbacks for $type {
            fn flags(&self) -> u32 {
                self.flags
            }
            fn end(&self) {
                if let Some(on_drop) = self.on_drop {
                    // SAFETY: the app's function, called as its struct says.
                    unsafe { on_drop(self.ctx) };
                }
            }
        }
    };
}

/// A callback struct for the result of a request, which may be taken back.
macro_rules! result_struct {
    ($type:ty, $name:literal) => {
        $crate::ffi::callback::callback_struct!($type, $name, on_result);
        impl $crate::ffi::action::Cancellable for $type {
            fn cancellation(&self) -> *const $crate::ffi::cancellation::sessionstore_cancellation {
                self.cancellation
            }
        }
    };
}

pub(super) use {callback_struct, result_struct};

callback_struct!(sessionstore_update_listener, "update listener", on_token_expiring);
callback_struct!(sessionstore_key_change_listener, "key change listener", on_refused);
result_struct!(sessionstore_action_result, "action result");
callback_struct!(sessionstore_wake_hook, "wake hook", on_wake);
callback_struct!(sessionstore_thread_hooks, "thread hooks", on_stop);

/// What all callback structs have.
pub(super) trait Callbacks: Sized32 {
    fn flags(&self) -> u32;
    fn end(&self);
}

/// A callback struct that was taken over. Dropping it calls `on_drop`, so every path ends it.
pub(super) struct Taken<C: Callbacks>(C);

// SAFETY: the contract of callback structs is that their functions and ctx may be used from the
// dispatch thread, or any thread where the struct says so; what is called from several threads at
// once (the wake hook) says so too.
unsafe impl<C: Callbacks> Send for Taken<C> {}
// SAFETY: as above.
unsafe impl<C: Callbacks> Sync for Taken<C> {}

impl<C: Callbacks> Taken<C> {
    /// Takes the struct over: from here on `on_drop` is owed, whatever happens.
    ///
    /// # Safety
    /// `source` is NULL or points to such a struct with `struct_size` bytes.
    pub(super) unsafe fn take(source: *const C) -> Result<Taken<C>, Error> {
        // SAFETY: as the caller says.
        let Read { known, checked } = unsafe { read(source) }?;
        let taken = Taken(known);
        checked?;
        check_flags::<C>(taken.0.flags(), 0)?;
        Ok(taken)
    }

    /// The same where NULL is fine.
    ///
    /// # Safety
    /// As for `take`.
    pub(super) unsafe fn take_optional(source: *const C) -> Result<Option<Taken<C>>, Error> {
        if source.is_null() {
            return Ok(None);
        }
        // SAFETY: as the caller says.
        unsafe { Taken::take(source) }.map(Some)
    }

    /// What the struct says.
    pub(super) fn known(&self) -> &C {
        &self.0
    }
}

impl<C: Callbacks> Drop for Taken<C> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// An error object that lives for one callback.
pub(super) fn with_error(error: Option<&Error>, told: impl FnOnce(*const sessionstore_error)) {
    let object = error.map(|error| sessionstore_error::new(error.clone()));
    told(object.as_ref().map_or(std::ptr::null(), |object| object));
}

impl UpdateListener for Taken<sessionstore_update_listener> {
    fn on_store_available(&mut self, store: &Store) {
        if let Some(told) = self.0.on_store_available {
            let store = Arc::new(sessionstore_store::new(store.clone()));
            // SAFETY: the app's function, called as its struct says.
            unsafe { told(self.0.ctx, Arc::as_ptr(&store)) };
        }
    }

    fn on_connection_state(&mut self, state: ConnectionState, error: Option<&Error>) {
        if let Some(told) = self.0.on_connection_state {
            // SAFETY: the app's function, called as its struct says.
            with_error(error, |error| unsafe { told(self.0.ctx, state_number(state), error) });
        }
    }

    fn on_peer(&mut self, change: PeerChange, peer: &Arc<PeerInfo>) {
        if let Some(told) = self.0.on_peer {
            let change = match change {
                PeerChange::Joined => SESSIONSTORE_PEER_JOINED,
                PeerChange::Updated => SESSIONSTORE_PEER_UPDATED,
                PeerChange::Left => SESSIONSTORE_PEER_LEFT,
            };
            let peer = Arc::new(sessionstore_peer::new(peer.clone()));
            // SAFETY: the app's function, called as its struct says.
            unsafe { told(self.0.ctx, change, Arc::as_ptr(&peer)) };
        }
    }

    fn on_token_expiring(&mut self, expires_at: u64) {
        if let Some(told) = self.0.on_token_expiring {
            // SAFETY: the app's function, called as its struct says.
            unsafe { told(self.0.ctx, expires_at) };
        }
    }

    fn on_error(&mut self, error: &Error) {
        if let Some(told) = self.0.on_error {
            // SAFETY: the app's function, called as its struct says.
            with_error(Some(error), |error| unsafe { told(self.0.ctx, error) });
        }
    }
}

pub(super) fn state_number(state: ConnectionState) -> i32 {
    match state {
        ConnectionState::Connecting => SESSIONSTORE_STATE_CONNECTING,
        ConnectionState::Connected => SESSIONSTORE_STATE_CONNECTED,
        ConnectionState::Reconnecting => SESSIONSTORE_STATE_RECONNECTING,
        ConnectionState::Closed => SESSIONSTORE_STATE_CLOSED,
    }
}

impl KeyChangeListener for Taken<sessionstore_key_change_listener> {
    fn on_change(&mut self, change: KeyChange<'_>) {
        match change {
            KeyChange::Event(event) => {
                if let Some(told) = self.0.on_key_changed {
                    let event = EventHandle::new(event.clone());
                    // SAFETY: the app's function, called as its struct says.
                    unsafe { told(self.0.ctx, event.as_ptr()) };
                }
            }
            KeyChange::SnapshotEnd => {
                if let Some(told) = self.0.on_snapshot_end {
                    // SAFETY: the app's function, called as its struct says.
                    unsafe { told(self.0.ctx) };
                }
            }
            KeyChange::Refused(error) => {
                if let Some(told) = self.0.on_refused {
                    // SAFETY: the app's function, called as its struct says.
                    with_error(Some(error), |error| unsafe { told(self.0.ctx, error) });
                }
            }
        }
    }
}

impl sessionstore_action_result {
    fn hear_of(&self, outcome: Result<Option<Arc<Change>>, Error>) {
        let Some(told) = self.on_result else { return };
        let (event, error) = match outcome {
            Ok(change) => (change.map(|change| EventHandle::new(plain(change))), None),
            Err(error) => (None, Some(error)),
        };
        let event = event.as_ref().map_or(std::ptr::null(), EventHandle::as_ptr);
        // SAFETY: the app's function, called as its struct says.
        with_error(error.as_ref(), |error| unsafe { told(self.ctx, error, event) });
    }
}

impl Hears<Arc<Change>> for sessionstore_action_result {
    fn hear(&self, outcome: Result<Arc<Change>, Error>) {
        self.hear_of(outcome.map(Some));
    }
}

impl Hears<()> for sessionstore_action_result {
    fn hear(&self, outcome: Result<(), Error>) {
        self.hear_of(outcome.map(|()| None));
    }
}

/// A state that was asked for, as an event.
pub(super) fn plain(change: Arc<Change>) -> KeyEvent {
    KeyEvent { change, replaced: 0, snapshot: false }
}

impl Taken<sessionstore_wake_hook> {
    pub(super) fn hook(self) -> crate::Hook {
        Arc::new(move || {
            let taken = &self;
            if let Some(wake) = taken.0.on_wake {
                // SAFETY: the app's function, called as its struct says.
                unsafe { wake(taken.0.ctx) };
            }
        })
    }
}

impl Taken<sessionstore_thread_hooks> {
    pub(super) fn hooks(self) -> ThreadHooks {
        let shared = Arc::new(self);
        let hook = |function: Option<unsafe extern "C" fn(*mut c_void)>| -> crate::Hook {
            let shared = shared.clone();
            Arc::new(move || {
                if let Some(function) = function {
                    // SAFETY: the app's function, called as its struct says.
                    unsafe { function(shared.0.ctx) };
                }
            })
        };
        ThreadHooks { started: hook(shared.0.on_start), stopping: hook(shared.0.on_stop) }
    }
}
