//! SessionStore: the shared realtime key-value store for everyone in a room.
#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod core;

pub use crate::core::error::{Error, ErrorCode};
pub use crate::core::value::{Kind, Value};
