//! SessionStore: the shared realtime key-value store for everyone in a room.
#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod core;

#[cfg(feature = "client")]
pub mod ffi;

#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "client", feature = "server"))]
mod ids;

#[cfg(feature = "client")]
pub use crate::client::{
    Action, Client, ClientOptions, ConnectionState, Hook, KeyChange, KeyChangeListener, PeerChange, Store,
    Subscription, ThreadHooks, UpdateListener,
};
pub use crate::core::error::{Error, ErrorCode};
pub use crate::core::limits::Limits;
pub use crate::core::replica::KeyEvent;
pub use crate::core::room::{Author, Change};
pub use crate::core::value::{Kind, Value};
pub use crate::core::wire::PeerInfo;
