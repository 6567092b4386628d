//! The library's version.

use std::ffi::c_char;

/// The version of the library that is running, such as `"0.1.0"`. Lives for ever.
///
/// Compare it with `SESSIONSTORE_VERSION`, the version of the header you compiled with: within one
/// SONAME the library may be newer.
#[no_mangle]
pub extern "C" fn sessionstore_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
