//! Values: any JSON, kept as compact text.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::error::{Error, ErrorCode};
use super::limits::MAX_VALUE_DEPTH;

/// A JSON value as its compact text: no white space outside strings, otherwise as it was written.
///
/// The text is checked once, when the value is made; numbers keep every digit
/// (2^53+1 stays 2^53+1). Cloning shares the text.
///
/// ```
/// use sessionstore::Value;
/// let value = Value::parse(r#"{ "peer": "p1", "since": 9007199254740993 }"#).unwrap();
/// assert_eq!(value.json(), r#"{"peer":"p1","since":9007199254740993}"#);
/// assert_eq!(Value::from("hi").json(), r#""hi""#);
/// assert!(Value::null().is_null());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(Text);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Text {
    Null,
    Json(Arc<str>),
}

/// The JSON type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `null`: the key is absent.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number without fraction and exponent that fits an `i64`.
    Integer,
    /// Any other number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// With its article, as in "the value is a string".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Null => "null",
            Kind::Boolean => "a boolean",
            Kind::Integer => "an integer",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Array => "an array",
            Kind::Object => "an object",
        })
    }
}

impl Value {
    /// The value `null`, which means absent.
    pub const fn null() -> Value {
        Value(Text::Null)
    }

    /// Checks a JSON text and compacts it.
    ///
    /// Errors: [`ErrorCode::InvalidJson`] when it is not one JSON value, nests deeper than 100
    /// levels, has a number beyond the range of an `f64`, or an escaped half of a surrogate pair,
    /// which is no text in UTF-8.
    pub fn parse(json: &str) -> Result<Value, Error> {
        let raw: &RawValue = serde_json::from_str(json).map_err(not_json)?;
        Value::from_raw(raw)
    }

    /// The same for a text whose syntax serde_json has checked already.
    pub fn from_raw(raw: &RawValue) -> Result<Value, Error> {
        let raw = raw.get();
        if raw.starts_with('"') && !raw.contains('\\') {
            return Ok(Value::from_plain_string(raw));
        }
        let text = compact(raw)?;
        Ok(if text == "null" { Value::null() } else { Value(Text::Json(Arc::from(text))) })
    }

    /// A string in JSON, its quotes included, that has no escapes and no control characters: it is
    /// compact, and nothing in it is left to check.
    pub(super) fn from_plain_string(json: &str) -> Value {
        debug_assert!(json.len() >= 2 && json.starts_with('"') && json.ends_with('"') && !json.contains('\\'));
        Value(Text::Json(Arc::from(json)))
    }

    /// A text that was put together from compact texts of values.
    pub(super) fn from_compact(json: String) -> Value {
        if json == "null" {
            return Value::null();
        }
        Value(Text::Json(json.into()))
    }

    /// The compact JSON text.
    pub fn json(&self) -> &str {
        match &self.0 {
            Text::Null => "null",
            Text::Json(text) => text,
        }
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.0, Text::Null)
    }

    /// The JSON type.
    pub fn kind(&self) -> Kind {
        match self.json().as_bytes()[0] {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Boolean,
            b'"' => Kind::String,
            b'[' => Kind::Array,
            b'{' => Kind::Object,
            _ if self.json().parse::<i64>().is_ok() => Kind::Integer,
            _ => Kind::Number,
        }
    }

    /// The integer, exact over the whole range of `i64`; `WRONG_TYPE` otherwise.
    pub fn as_integer(&self) -> Result<i64, Error> {
        self.json().parse().map_err(|_| self.wrong_type("an integer"))
    }

    /// The number as the nearest `f64`; `WRONG_TYPE` for anything else.
    pub fn as_number(&self) -> Result<f64, Error> {
        match self.kind() {
            Kind::Integer | Kind::Number => self.json().parse().map_err(|_| self.wrong_type("a number")),
            _ => Err(self.wrong_type("a number")),
        }
    }

    /// The boolean; `WRONG_TYPE` for anything else.
    pub fn as_boolean(&self) -> Result<bool, Error> {
        match self.json() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.wrong_type("a boolean")),
        }
    }

    /// The text of a string, its escapes undone; `WRONG_TYPE` for anything else.
    pub fn as_text(&self) -> Result<Cow<'_, str>, Error> {
        let json = self.json();
        if self.kind() != Kind::String {
            return Err(self.wrong_type("a string"));
        }
        if !json.contains('\\') {
            return Ok(Cow::Borrowed(&json[1..json.len() - 1]));
        }
        serde_json::from_str(json).map(Cow::Owned).map_err(not_json)
    }

    /// The elements of an array; `WRONG_TYPE` for anything else.
    pub fn as_elements(&self) -> Result<Vec<Value>, Error> {
        if self.kind() != Kind::Array {
            return Err(self.wrong_type("an array"));
        }
        let elements: Vec<&RawValue> = serde_json::from_str(self.json()).map_err(not_json)?;
        elements.into_iter().map(Value::from_raw).collect()
    }

    fn wrong_type(&self, wanted: &str) -> Error {
        Error::new(ErrorCode::WrongType, format!("the value is {}, not {wanted}", self.kind()))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value(Text::Json(serde_json::Value::from(text).to_string().into()))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value(Text::Json(number.to_string().into()))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value(Text::Json(if truth { "true" } else { "false" }.into()))
    }
}

/// `INVALID_ARGUMENT` for NaN and the infinities, which JSON cannot say.
impl TryFrom<f64> for Value {
    type Error = Error;
    fn try_from(number: f64) -> Result<Value, Error> {
        match serde_json::Number::from_f64(number) {
            Some(number) => Ok(Value(Text::Json(number.to_string().into()))),
            None => Err(Error::new(ErrorCode::InvalidArgument, "JSON has no NaN and no infinity")),
        }
    }
}

/// Shows the kind and the size only: values stay out of logs.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({:?}, {} bytes)", self.kind(), self.json().len())
    }
}

fn not_json(error: serde_json::Error) -> Error {
    // serde_json's own text may quote the input; the position does not.
    let message = format!("the value is not valid JSON (line {}, column {})", error.line(), error.column());
    Error::new(ErrorCode::InvalidJson, message)
}

/// Removes white space outside strings from a valid JSON text and checks what the grammar leaves
/// open: nesting, the range of numbers, and surrogate halves. One pass; borrows when there is nothing to remove.
fn compact(text: &str) -> Result<Cow<'_, str>, Error> {
    let bytes = text.as_bytes();
    let mut removed: Option<Vec<u8>> = None;
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b' ' | b'\t' | b'\n' | b'\r' => {
                removed.get_or_insert_with(|| bytes[..at].to_vec());
                at += 1;
                continue;
            }
            b'"' => {
                let end = string_end(bytes, at)?;
                if let Some(kept) = &mut removed {
                    kept.extend_from_slice(&bytes[at..end]);
                }
                at = end;
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_VALUE_DEPTH {
                    let message = format!("the value nests deeper than {MAX_VALUE_DEPTH} levels");
                    return Err(Error::new(ErrorCode::InvalidJson, message));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let end = number_end(text, at)?;
                if let Some(kept) = &mut removed {
                    kept.extend_from_slice(&bytes[at..end]);
                }
                at = end;
                continue;
            }
            _ => {}
        }
        if let Some(kept) = &mut removed {
            kept.push(bytes[at]);
        }
        at += 1;
    }
    match removed {
        None => Ok(Cow::Borrowed(text)),
        // Only ASCII white space was left out, so what remains is still UTF-8.
        Some(kept) => String::from_utf8(kept).map(Cow::Owned).map_err(|_| ErrorCode::InvalidUtf8.into()),
    }
}

/// The index after the number that starts at `start`. One beyond the range of an `f64`, such as
/// `1e400`, is refused: many readers could not read it.
fn number_end(text: &str, start: usize) -> Result<usize, Error> {
    let rest = &text[start..];
    let length = rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
    let number = &rest[..length];
    // Without an exponent it takes 309 digits to leave the range.
    let may_leave = number.len() > 308 || number.contains(['e', 'E']);
    if may_leave && !number.parse::<f64>().is_ok_and(f64::is_finite) {
        return Err(Error::new(ErrorCode::InvalidJson, "a number is beyond the range of a double"));
    }
    Ok(start + length)
}

/// The index after the closing quote of the string that starts at `start`.
fn string_end(bytes: &[u8], start: usize) -> Result<usize, Error> {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Ok(at + 1),
            b'\\' if bytes.get(at + 1) == Some(&b'u') => {
                let half = Error::new(ErrorCode::InvalidJson, "a string has half of a surrogate pair");
                match escaped_unit(bytes, at) {
                    Some(0xD800..=0xDBFF) => match escaped_unit(bytes, at + 6) {
                        Some(0xDC00..=0xDFFF) => at += 12,
                        _ => return Err(half),
                    },
                    Some(0xDC00..=0xDFFF) => return Err(half),
                    _ => at += 6,
                }
            }
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Err(Error::new(ErrorCode::InvalidJson, "a string does not end"))
}

/// The UTF-16 unit of a `\uXXXX` escape at `at`.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u32> {
    let escape = bytes.get(at..at + 6)?;
    if !escape.starts_with(b"\\u") {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(&escape[2..]).ok()?, 16).ok()
}

/// In JSON the value itself; in a binary format its JSON text.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.json().serialize(serializer);
        }
        let raw: &RawValue = serde_json::from_str(self.json()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        let value = if deserializer.is_human_readable() {
            Value::from_raw(&Box::<RawValue>::deserialize(deserializer)?)
        } else {
            Value::parse(&Cow::<'_, str>::deserialize(deserializer)?)
        };
        value.map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(json: &str) -> Option<ErrorCode> {
        Value::parse(json).err().map(|error| error.code())
    }

    #[test]
    fn compacts_without_touching_strings_and_numbers() {
        let value = Value::parse(" { \"a b\" : [ 1.50 , \"x\\\" y\" ,\n9007199254740993 ] } ").unwrap();
        assert_eq!(value.json(), "{\"a b\":[1.50,\"x\\\" y\",9007199254740993]}");
        assert!(Value::parse(" null ").unwrap().is_null());
    }

    #[test]
    fn refuses_what_is_not_one_json_value() {
        for bad in ["", " ", "{", "nul", "1 2", "'a'", "{a:1}", "[1,]", "\"\u{1}\"", "NaN", "+1", "01"] {
            assert_eq!(code(bad), Some(ErrorCode::InvalidJson), "{bad:?}");
        }
        for half in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#"{"\ud800":1}"#] {
            assert_eq!(code(half), Some(ErrorCode::InvalidJson), "{half}");
        }
        for (number, refused) in [("1e400", true), ("[-1E+309]", true), ("{\"a\":1e308}", false), ("1e-400", false)] {
            assert_eq!(code(number), refused.then_some(ErrorCode::InvalidJson), "{number}");
        }
        assert_eq!(code(&"9".repeat(400)), Some(ErrorCode::InvalidJson));
        assert_eq!(code(r#""\ud83d\ude00""#), None);
        assert_eq!(code(&("[".repeat(100) + &"]".repeat(100))), None);
        assert_eq!(code(&("[".repeat(101) + &"]".repeat(101))), Some(ErrorCode::InvalidJson));
    }

    #[test]
    fn reads_each_kind_as_itself_and_nothing_else() {
        assert_eq!(Value::parse("9223372036854775807").unwrap().as_integer().unwrap(), i64::MAX);
        assert_eq!(Value::parse("9223372036854775808").unwrap().kind(), Kind::Number);
        assert_eq!(Value::parse("true").unwrap().as_integer().unwrap_err(), ErrorCode::WrongType);
        assert_eq!(Value::parse("1").unwrap().as_boolean().unwrap_err(), ErrorCode::WrongType);
        assert_eq!(Value::parse(r#""a\n\u00e9""#).unwrap().as_text().unwrap(), "a\né");
        assert_eq!(Value::try_from(f64::NAN).unwrap_err(), ErrorCode::InvalidArgument);
        assert_eq!(Value::try_from(0.5).unwrap().as_number().unwrap(), 0.5);
        let elements = Value::parse(r#"[1, "a,b", [2]]"#).unwrap().as_elements().unwrap();
        assert_eq!(elements.iter().map(Value::json).collect::<Vec<_>>(), ["1", r#""a,b""#, "[2]"]);
        assert_eq!(Value::null().as_elements().unwrap_err(), ErrorCode::WrongType);
        assert_eq!(
            Value::parse("{}").unwrap().as_elements().unwrap_err().message(),
            "the value is an object, not an array"
        );
    }

    proptest! {
        #[test]
        fn compact_text_means_the_same(json in "[ \\[\\]{}:,\"\\\\a0u\\n]{0,40}") {
            if let (Ok(value), Ok(tree)) = (Value::parse(&json), serde_json::from_str::<serde_json::Value>(&json)) {
                let again: serde_json::Value = serde_json::from_str(value.json()).unwrap();
                prop_assert_eq!(again, tree);
                let compacted = Value::parse(value.json()).unwrap();
                prop_assert_eq!(compacted.json(), value.json());
            }
        }
    }
}
