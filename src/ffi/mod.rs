//! The C API: everything `extern "C"` and nearly all `unsafe`. It converts and never decides.
//!
//! One file per C object, and the shared machinery, one idea a file:
//!
//! | module | what it holds |
//! |---|---|
//! | `guard` | what stands inside every exported function: panics, forked children, error outputs |
//! | `text` | texts in and out |
//! | `structs` | structs that grow: `struct_size`, flags, callback structs |
//! | `callback` | callback structs as Rust listeners whose `Drop` is `on_drop` |
//! | `action` | requests whose result is told or waited for |
//!
//! `include/sessionstore.h` is generated from these files (`make header`) and is the manual: the
//! doc comments here are written for C programmers.
#![allow(non_camel_case_types)]
// What a caller owes is said in each function's documentation, and once for all in the header's
// introduction (cbindgen.toml).
#![allow(clippy::missing_safety_doc)]

mod action;
pub mod callback;
mod guard;
mod structs;
mod text;

pub mod cancellation;
pub mod client;
pub mod error;
pub mod event;
pub mod event_list;
pub mod lock;
pub mod peer;
pub mod select;
#[cfg(feature = "server")]
pub mod server;
pub mod set;
pub mod store;
pub mod subscription;
pub mod transaction;
pub mod update;
pub mod value;
pub mod version;
pub mod write;
