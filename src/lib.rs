//! SessionStore: the shared realtime key-value store for everyone in a room.
//!
//! A room's store exists from the first join of a session and is cleared when the last peer
//! leaves. Everyone in the room sets, gets and listens: pinned text, spotlight, hand raise, poll.
//!
//! - [`Client`] joins a room; its [`Store`] is what apps use (feature `client`).
//! - [`Server`] hosts rooms inside a process (feature `server`); `sstore serve` is the same from a
//!   box of its own (feature `cli`).
//! - [`core`] is the room itself, pure: no I/O, no clock, no randomness.
//! - [`ffi`] is the C API; `include/sessionstore.h` is its manual.
//!
//! Client and server speak `wss://` with the features `tls` (TLS 1.3) and `tls12`, which are on by default. Their
//! cryptography is this library's own: the process-wide default of rustls is neither used nor set.
#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod core;
#[cfg(feature = "client")]
pub mod ffi;
#[cfg(feature = "server")]
pub mod server;

#[cfg(all(any(feature = "client", feature = "server"), not(fuzzing)))]
mod frames;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod frames;
#[cfg(feature = "http")]
mod http_client;
#[cfg(any(feature = "client", feature = "server"))]
mod ids;
#[cfg(any(all(feature = "client", feature = "tls"), feature = "http"))]
mod quiet;
#[cfg(all(feature = "tls", any(feature = "client", feature = "server")))]
mod tls;

#[cfg(feature = "client")]
pub use crate::client::{
    Action, Cancellation, Client, ClientOptions, ConnectionState, Hook, KeyChange, KeyChangeListener, Lock,
    LockOptions, PeerChange, Selector, Store, Subscription, ThreadHooks, Update, UpdateListener,
};
pub use crate::core::error::{Error, ErrorCode};
pub use crate::core::limits::Limits;
pub use crate::core::merge::Merge;
pub use crate::core::replica::KeyEvent;
pub use crate::core::room::{Author, Cause, Change};
pub use crate::core::value::{Kind, Value};
pub use crate::core::wire::{PeerInfo, Snapshot, Usage};
pub use crate::core::write::{Check, Expiry, LockGuard, Operation, Transaction, Write};
#[cfg(feature = "server")]
pub use crate::server::{Server, ServerOptions, TlsOptions, WebhookOptions};
