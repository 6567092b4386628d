//! Texts in and out.

use std::ffi::{c_char, CStr};
use std::sync::OnceLock;

use crate::{Error, ErrorCode};

/// Stands for the length of a text that ends at its first NUL byte.
pub const SESSIONSTORE_NUL_TERMINATED: usize = usize::MAX;

/// A text that came with a length. NULL is fine for a length of 0.
///
/// # Safety
/// `text` points to `length` readable bytes, or to a text that ends with NUL for
/// `SESSIONSTORE_NUL_TERMINATED`; they stay unchanged for `'a`.
#[inline]
pub(super) unsafe fn required<'a>(what: &str, text: *const c_char, length: usize) -> Result<&'a str, Error> {
    let bytes: &[u8] = if text.is_null() {
        if length != 0 {
            return Err(refused(ErrorCode::NullArgument, format_args!("the {what} is NULL but its length is not 0")));
        }
        &[]
    } else if length == SESSIONSTORE_NUL_TERMINATED {
        // SAFETY: the caller says that the text ends with NUL.
        unsafe { CStr::from_ptr(text) }.to_bytes()
    } else if length > isize::MAX as usize {
        return Err(refused(
            ErrorCode::InvalidArgument,
            format_args!("the length of the {what} is larger than memory"),
        ));
    } else {
        // SAFETY: the caller says that so many bytes are there.
        unsafe { std::slice::from_raw_parts(text.cast(), length) }
    };
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8. Nearly all keys are, and short: finding that out takes a quarter of
        // the time of `from_utf8`.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        refused(ErrorCode::InvalidUtf8, format_args!("the {what} is not valid UTF-8 (byte {at})"))
    })
}

/// Out of the way of texts that are fine, whose reading is then inlined.
#[cold]
fn refused(code: ErrorCode, message: std::fmt::Arguments<'_>) -> Error {
    Error::new(code, message.to_string())
}

/// A NUL-terminated text of an options struct; NULL is the empty text.
///
/// # Safety
/// `text` is NULL or ends with NUL, and stays unchanged for `'a`.
pub(super) unsafe fn optional<'a>(what: &str, text: *const c_char) -> Result<&'a str, Error> {
    if text.is_null() {
        return Ok("");
    }
    // SAFETY: as the caller says.
    unsafe { required(what, text, SESSIONSTORE_NUL_TERMINATED) }
}

/// A text that is handed out: with a length, and a NUL after it, made when it is first asked for.
#[derive(Default)]
pub(super) struct OutText(OnceLock<Box<[u8]>>);

impl OutText {
    pub(super) fn new(text: &str) -> OutText {
        let out = OutText::default();
        out.get(text, std::ptr::null_mut());
        out
    }

    /// The pointer, and the length where it is wanted. `text` must be the same each time.
    pub(super) fn get(&self, text: &str, length_out: *mut usize) -> *const c_char {
        let bytes = self.0.get_or_init(|| {
            let mut bytes = Vec::with_capacity(text.len() + 1);
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
            bytes.into_boxed_slice()
        });
        if !length_out.is_null() {
            // SAFETY: not NULL, and the caller gave it as the place of one size.
            unsafe { length_out.write(bytes.len() - 1) };
        }
        bytes.as_ptr().cast()
    }
}

/// The empty text, for getters of an object that is NULL.
pub(super) fn empty(length_out: *mut usize) -> *const c_char {
    if !length_out.is_null() {
        // SAFETY: not NULL, and the caller gave it as the place of one size.
        unsafe { length_out.write(0) };
    }
    c"".as_ptr()
}
