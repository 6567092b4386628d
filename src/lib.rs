//! SessionStore: the shared realtime key-value store for everyone in a room.
#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod core;
#[cfg(feature = "server")]
pub mod server;

pub use crate::core::error::{Error, ErrorCode};
pub use crate::core::value::{Kind, Value};
#[cfg(feature = "server")]
pub use crate::server::{Server, ServerOptions};
