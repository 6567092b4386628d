//! `sessionstore_value`

use std::ffi::c_char;
use std::sync::Arc;

use super::error::sessionstore_error;
use super::guard::{call, clear, getter, give_arc};
use super::text::{required, OutText};
use crate::{Error, ErrorCode, Kind, Value};

/// The key is absent, or the value is the JSON `null`, which means the same.
pub const SESSIONSTORE_KIND_NULL: i32 = 0;
/// `true` or `false`.
pub const SESSIONSTORE_KIND_BOOLEAN: i32 = 1;
/// A number without fraction and exponent that fits an `int64_t`.
pub const SESSIONSTORE_KIND_INTEGER: i32 = 2;
/// Any other number.
pub const SESSIONSTORE_KIND_NUMBER: i32 = 3;
/// A string.
pub const SESSIONSTORE_KIND_STRING: i32 = 4;
/// An array.
pub const SESSIONSTORE_KIND_ARRAY: i32 = 5;
/// An object.
pub const SESSIONSTORE_KIND_OBJECT: i32 = 6;

/// A JSON value. It never changes, is counted by reference, and may be used from any thread.
///
/// Numbers keep every digit: 9007199254740993 stays that.
pub struct sessionstore_value {
    value: Value,
    json: OutText,
    text: OutText,
}

impl sessionstore_value {
    pub(super) fn new(value: Value) -> sessionstore_value {
        sessionstore_value { value, json: OutText::default(), text: OutText::default() }
    }
}

fn give(value: Value, value_out: *mut *mut sessionstore_value) -> Result<(), Error> {
    give_arc(Arc::new(sessionstore_value::new(value)), value_out)
}

/// Makes a value from JSON text, which is checked and compacted.
///
/// Errors: `INVALID_JSON`, `INVALID_UTF8`, `NULL_ARGUMENT`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_from_json(
    json: *const c_char,
    json_len: usize,
    value_out: *mut *mut sessionstore_value,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(value_out);
    call(error_out, || {
        // SAFETY: a text as the caller owes.
        give(Value::parse(unsafe { required("JSON text", json, json_len) }?)?, value_out)
    })
}

/// Makes a value from a plain text; quotes and escapes are added.
///
/// Errors: `INVALID_UTF8`, `NULL_ARGUMENT`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_from_string(
    text: *const c_char,
    text_len: usize,
    value_out: *mut *mut sessionstore_value,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(value_out);
    call(error_out, || {
        // SAFETY: a text as the caller owes.
        give(Value::from(unsafe { required("text", text, text_len) }?), value_out)
    })
}

/// Makes a value from an integer. Error: `NULL_ARGUMENT`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_from_integer(
    integer: i64,
    value_out: *mut *mut sessionstore_value,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(value_out);
    call(error_out, || give(Value::from(integer), value_out))
}

/// Makes a value from a number. Errors: `INVALID_ARGUMENT` for NaN and the infinities, which JSON
/// cannot say; `NULL_ARGUMENT`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_from_number(
    number: f64,
    value_out: *mut *mut sessionstore_value,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(value_out);
    call(error_out, || give(Value::try_from(number)?, value_out))
}

/// Makes a boolean: `false` from 0, `true` from anything else. Error: `NULL_ARGUMENT`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_from_boolean(
    boolean: i32,
    value_out: *mut *mut sessionstore_value,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    clear(value_out);
    call(error_out, || give(Value::from(boolean != 0), value_out))
}

/// What kind of value it is: one of `SESSIONSTORE_KIND_…`. NULL counts as `null`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_kind(value: *const sessionstore_value) -> i32 {
    // SAFETY: NULL or a live value, as the caller owes.
    getter(SESSIONSTORE_KIND_NULL, || match unsafe { value.as_ref() }.map(|value| value.value.kind()) {
        None | Some(Kind::Null) => SESSIONSTORE_KIND_NULL,
        Some(Kind::Boolean) => SESSIONSTORE_KIND_BOOLEAN,
        Some(Kind::Integer) => SESSIONSTORE_KIND_INTEGER,
        Some(Kind::Number) => SESSIONSTORE_KIND_NUMBER,
        Some(Kind::String) => SESSIONSTORE_KIND_STRING,
        Some(Kind::Array) => SESSIONSTORE_KIND_ARRAY,
        Some(Kind::Object) => SESSIONSTORE_KIND_OBJECT,
    })
}

/// The compact JSON text, with a NUL after it. Lives as long as the value; `"null"` for NULL.
///
/// `len_out` may be NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_json(
    value: *const sessionstore_value,
    len_out: *mut usize,
) -> *const c_char {
    getter(c"null".as_ptr(), || {
        // SAFETY: NULL or a live value, as the caller owes.
        let Some(value) = (unsafe { value.as_ref() }) else {
            if !len_out.is_null() {
                // SAFETY: not NULL, and the caller gave it as the place of one size.
                unsafe { len_out.write(4) };
            }
            return c"null".as_ptr();
        };
        value.json.get(value.value.json(), len_out)
    })
}

/// Reads a boolean: 0 or 1. `WRONG_TYPE` if the value is anything else; 1 is not `true`.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_get_boolean(
    value: *const sessionstore_value,
    boolean_out: *mut i32,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a live value and a place for the result, as the caller owes.
    call(error_out, || unsafe { get(value, boolean_out, |value| value.value.as_boolean().map(i32::from)) })
}

/// Reads an integer, exact over the whole range. `WRONG_TYPE` if the value is anything else, a
/// number with a fraction, an exponent or a larger range included.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_get_integer(
    value: *const sessionstore_value,
    integer_out: *mut i64,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a live value and a place for the result, as the caller owes.
    call(error_out, || unsafe { get(value, integer_out, |value| value.value.as_integer()) })
}

/// Reads any number as the nearest `double`. `WRONG_TYPE` if the value is anything else.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_get_number(
    value: *const sessionstore_value,
    number_out: *mut f64,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    // SAFETY: a live value and a place for the result, as the caller owes.
    call(error_out, || unsafe { get(value, number_out, |value| value.value.as_number()) })
}

/// Reads a string as plain text, its escapes undone, with a NUL after it. The text lives as long as
/// the value. It can hold NUL bytes of its own: `len_out`, which may be NULL, has the whole length.
/// `WRONG_TYPE` if the value is anything else.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_get_string(
    value: *const sessionstore_value,
    text_out: *mut *const c_char,
    len_out: *mut usize,
    error_out: *mut *mut sessionstore_error,
) -> i32 {
    call(error_out, || {
        let read = |value: &sessionstore_value| Ok(value.text.get(&value.value.as_text()?, len_out));
        // SAFETY: a live value and a place for the result, as the caller owes.
        unsafe { get(value, text_out, read) }
    })
}

/// Another reference to the same value, to be freed too. NULL for NULL.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_retain(value: *const sessionstore_value) -> *mut sessionstore_value {
    if !value.is_null() {
        // SAFETY: a live value, which always comes from an Arc.
        unsafe { Arc::increment_strong_count(value) };
    }
    value.cast_mut()
}

/// Frees one reference to a value. NULL is fine.
#[no_mangle]
pub unsafe extern "C" fn sessionstore_value_free(value: *mut sessionstore_value) {
    if !value.is_null() {
        // SAFETY: a reference the caller owns, from an Arc. Values are plain memory: a forked child
        // may free its own.
        unsafe { Arc::decrement_strong_count(value.cast_const()) };
    }
}

/// Takes over a reference that C gives up; `None` for NULL.
///
/// # Safety
/// `value` is NULL or a reference the caller owned.
pub(super) unsafe fn take(value: *mut sessionstore_value) -> Option<Value> {
    // SAFETY: as the caller says; values always come from an Arc.
    let value = (!value.is_null()).then(|| unsafe { Arc::from_raw(value.cast_const()) });
    value.map(|value| value.value.clone())
}

/// # Safety
/// `value` is NULL or live; `out` is NULL or the place of one T.
unsafe fn get<T>(
    value: *const sessionstore_value,
    out: *mut T,
    read: impl FnOnce(&sessionstore_value) -> Result<T, Error>,
) -> Result<(), Error> {
    // SAFETY: as the caller says.
    let value = unsafe { value.as_ref() }.ok_or_else(|| Error::new(ErrorCode::NullArgument, "the value is NULL"))?;
    if out.is_null() {
        return Err(Error::new(ErrorCode::NullArgument, "the place for the result is NULL"));
    }
    let result = read(value)?;
    // SAFETY: not NULL, and as the caller says.
    unsafe { out.write(result) };
    Ok(())
}
