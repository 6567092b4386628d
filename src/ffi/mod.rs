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
//!
//! `include/sessionstore.h` is generated from these files (`make header`) and is the manual: the
//! doc comments here are written for C programmers.
#![allow(non_camel_case_types)]
// What a caller owes is said in each function's documentation, and once for all in the header's
// introduction (cbindgen.toml).
#![allow(clippy::missing_safety_doc)]

pub mod callback;
mod guard;
mod structs;
mod text;

pub mod client;
pub mod error;
pub mod event;
pub mod peer;
#[cfg(feature = "server")]
pub mod server;
pub mod store;
pub mod subscription;
pub mod value;
pub mod version;
