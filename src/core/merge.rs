//! Changes that are computed where the value is, so that nobody has to read it, change it and write all
//! of it back: two peers that do so at once would undo each other's work.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::error::{Error, ErrorCode};
use super::limits::MAX_VALUE_DEPTH;
use super::value::{Kind, Value};

/// How a key's value becomes another.
///
/// An absent key counts as 0, as an empty object, or as an empty array, whichever the merge is about.
/// A value of another type is refused with `WRONG_TYPE`.
///
/// ```
/// use sessionstore::{Merge, Value};
/// let votes = Value::from(41);
/// assert_eq!(Merge::Add(Value::from(1)).apply(&votes).unwrap(), Value::from(42));
/// let blocked = Value::parse(r#"["eve"]"#).unwrap();
/// let both = Merge::SetAdd(vec!["mallory".into(), "eve".into()]).apply(&blocked).unwrap();
/// assert_eq!(both.json(), r#"["eve","mallory"]"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// Adds a number, which may be negative. Two integers (`i64`) are added exactly; if one of the two
    /// has a fraction, an exponent, or is beyond an `i64`, both are added as `f64`. A sum beyond the
    /// range is refused with `NUMBER_OVERFLOW`.
    Add(Value),
    /// A JSON merge patch (RFC 7396): members of an object are set, members that are `null` are
    /// removed, at every depth; anything but an object replaces the whole value. Members that stay keep
    /// their order and their text, digit by digit.
    Patch(Value),
    /// Adds values to an array unless they are in it. Values are the same when they mean the same JSON:
    /// the order of members and the escapes in strings make no difference; numbers are the same when
    /// they are written alike, so 1 and 1.0 differ.
    SetAdd(Vec<Value>),
    /// Removes values from an array, wherever they are; that one is not in it is fine.
    SetRemove(Vec<Value>),
    /// Appends values to an array, then drops the oldest, which are the first, until at most so many are
    /// left.
    Append {
        /// What is appended, in order.
        values: Vec<Value>,
        /// The most the array may hold afterwards; `None`: only the room's limits bound it.
        cap: Option<usize>,
    },
}

impl Merge {
    /// The value after the merge. Errors: `WRONG_TYPE`, `NUMBER_OVERFLOW`; `INVALID_JSON` when the array
    /// around it makes a value nest too deep.
    pub fn apply(&self, current: &Value) -> Result<Value, Error> {
        match self {
            Merge::Add(amount) => add(current, amount),
            Merge::Patch(patch) => {
                let mut out = String::new();
                let target = (!current.is_null()).then(|| current.json());
                merge_patch(target, patch.json(), &mut out)?;
                Ok(Value::from_compact(out))
            }
            Merge::SetAdd(values) => {
                let mut list = elements(current)?;
                let mut known: BTreeSet<String> = list.iter().map(|text| canonical(text)).collect();
                let added = values.iter().map(Value::json).filter(|text| known.insert(canonical(text)));
                list.extend(added);
                array(&list)
            }
            Merge::SetRemove(values) => {
                let gone: BTreeSet<String> = values.iter().map(|value| canonical(value.json())).collect();
                let mut list = elements(current)?;
                list.retain(|text| !gone.contains(&canonical(text)));
                if current.is_null() {
                    Ok(Value::null())
                } else {
                    array(&list)
                }
            }
            Merge::Append { values, cap } => {
                let mut list = elements(current)?;
                list.extend(values.iter().map(Value::json));
                let surplus = cap.map_or(0, |cap| list.len().saturating_sub(cap));
                array(list.get(surplus..).unwrap_or_default())
            }
        }
    }
}

fn add(current: &Value, amount: &Value) -> Result<Value, Error> {
    let overflow = |range: &str| {
        Error::new(ErrorCode::NumberOverflow, format!("the sum is beyond the range of {range}; nothing was changed"))
    };
    let is_number = |value: &Value| matches!(value.kind(), Kind::Integer | Kind::Number);
    if !is_number(amount) {
        return Err(Error::new(ErrorCode::WrongType, format!("{} cannot be added, only a number", amount.kind())));
    }
    let zero = Value::from(0);
    let current = match current.kind() {
        Kind::Null => &zero,
        Kind::Integer | Kind::Number => current,
        kind => return Err(Error::new(ErrorCode::WrongType, format!("the key holds {kind}, not a number"))),
    };
    if let (Ok(current), Ok(amount)) = (current.as_integer(), amount.as_integer()) {
        return current.checked_add(amount).map(Value::from).ok_or_else(|| overflow("64-bit integers"));
    }
    let sum = current.as_number()? + amount.as_number()?;
    Value::try_from(sum).map_err(|_| overflow("doubles"))
}

/// The members of a JSON object in their order; of doubles, the last counts.
struct Members<'a> {
    list: Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>,
    places: BTreeMap<Cow<'a, str>, usize>,
}

impl<'a> Members<'a> {
    fn empty() -> Members<'a> {
        Members { list: Vec::new(), places: BTreeMap::new() }
    }

    fn read(json: &'a str) -> Result<Members<'a>, Error> {
        serde_json::from_str(json).map_err(|_| unreadable())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).and_then(|place| self.list[*place].1.as_deref())
    }

    /// Sets a member, or removes it.
    fn put(&mut self, name: Cow<'a, str>, value: Option<Cow<'a, str>>) {
        match self.places.get(&name) {
            Some(place) => self.list[*place].1 = value,
            None if value.is_some() => {
                self.places.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
            None => {}
        }
    }

    fn write(&self, out: &mut String) {
        out.push('{');
        let members = self.list.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        for (nth, (name, value)) in members.enumerate() {
            if nth > 0 {
                out.push(',');
            }
            out.push_str(Value::from(&**name).json());
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members::empty();
                while let Some((name, value)) = map.next_entry::<super::wire::Text<'de>, &'de RawValue>()? {
                    members.put(name.0, Some(Cow::Borrowed(value.get())));
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// RFC 7396, section 2, on the texts: what does not change is copied as it is. Values nest at most
/// [`MAX_VALUE_DEPTH`] deep, and so does this.
fn merge_patch(target: Option<&str>, patch: &str, out: &mut String) -> Result<(), Error> {
    if !patch.starts_with('{') {
        out.push_str(patch);
        return Ok(());
    }
    let mut members = match target {
        Some(target) if target.starts_with('{') => Members::read(target)?,
        _ => Members::empty(),
    };
    for (name, value) in Members::read(patch)?.list {
        let value = value.unwrap_or_default();
        let merged = if value == "null" {
            None
        } else {
            let mut merged = String::new();
            merge_patch(members.get(&name), &value, &mut merged)?;
            Some(Cow::Owned(merged))
        };
        // The name outlives the patch's members, whose text it may borrow.
        members.put(Cow::Owned(name.into_owned()), merged);
    }
    members.write(out);
    Ok(())
}

/// The texts of an array's elements; none for `null`.
fn elements(value: &Value) -> Result<Vec<&str>, Error> {
    match value.kind() {
        Kind::Null => Ok(Vec::new()),
        Kind::Array => texts(value.json()).ok_or_else(unreadable),
        kind => Err(Error::new(ErrorCode::WrongType, format!("the key holds {kind}, not an array"))),
    }
}

fn texts(array: &str) -> Option<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(array).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
}

fn array(elements: &[&str]) -> Result<Value, Error> {
    let array = format!("[{}]", elements.join(","));
    // Only what is as long as that many brackets can have become too deep by the array around it.
    match elements.iter().any(|element| element.len() >= 2 * MAX_VALUE_DEPTH) {
        true => Value::parse(&array),
        false => Ok(Value::from_compact(array)),
    }
}

/// Whether two values are the same JSON, whatever its spelling; see [`Merge::SetAdd`].
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    one == other || canonical(one.json()) == canonical(other.json())
}

/// A text that is the same for all texts of the same value.
fn canonical(json: &str) -> String {
    let mut out = String::new();
    write_canonical(json, &mut out);
    out
}

fn write_canonical(json: &str, out: &mut String) {
    match json.as_bytes().first() {
        Some(b'"') if json.contains('\\') => match serde_json::from_str::<String>(json) {
            Ok(text) => out.push_str(Value::from(&*text).json()),
            Err(_) => out.push_str(json),
        },
        Some(b'[') => {
            out.push('[');
            for (nth, element) in texts(json).unwrap_or_default().into_iter().enumerate() {
                if nth > 0 {
                    out.push(',');
                }
                write_canonical(element, out);
            }
            out.push(']');
        }
        Some(b'{') => {
            let Ok(mut members) = Members::read(json) else { return out.push_str(json) };
            for (_, value) in &mut members.list {
                *value = value.as_deref().map(|value| Cow::Owned(canonical(value)));
            }
            members.list.sort();
            members.write(out);
        }
        _ => out.push_str(json),
    }
}

/// A value was checked when it was made, so this is a fault.
fn unreadable() -> Error {
    Error::new(ErrorCode::Internal, "a stored value cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(json: &str) -> Value {
        Value::parse(json).expect("a value")
    }

    fn merged(current: &str, merge: Merge) -> Result<String, ErrorCode> {
        merge.apply(&value(current)).map(|value| value.json().to_owned()).map_err(|error| error.code())
    }

    fn values(json: &[&str]) -> Vec<Value> {
        json.iter().map(|json| value(json)).collect()
    }

    #[test]
    fn adds_integers_exactly_and_refuses_what_leaves_their_range() {
        let add = |current: &str, amount: &str| merged(current, Merge::Add(value(amount)));
        assert_eq!(add("null", "5").unwrap(), "5");
        assert_eq!(add("9007199254740993", "1").unwrap(), "9007199254740994");
        assert_eq!(add("9223372036854775806", "1").unwrap(), "9223372036854775807");
        assert_eq!(add("-9223372036854775807", "-1").unwrap(), "-9223372036854775808");
        assert_eq!(add("9223372036854775807", "1"), Err(ErrorCode::NumberOverflow));
        assert_eq!(add("-9223372036854775808", "-1"), Err(ErrorCode::NumberOverflow));
        assert_eq!(add("1", "0.5").unwrap(), "1.5");
        assert_eq!(add("0.5", "0.5").unwrap(), "1.0");
        assert_eq!(add("1e308", "1e308"), Err(ErrorCode::NumberOverflow));
        for other in ["\"1\"", "true", "[1]", "{}"] {
            assert_eq!(add(other, "1"), Err(ErrorCode::WrongType), "{other}");
            assert_eq!(add("1", other), Err(ErrorCode::WrongType), "{other}");
        }
        assert_eq!(add("1", "null"), Err(ErrorCode::WrongType));
    }

    /// The test cases of RFC 7396, appendix A: original, patch, result.
    const RFC_7396: [(&str, &str, &str); 15] = [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
        (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, "null", "null"),
        (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
        ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
    ];

    #[test]
    fn patches_as_the_test_cases_of_rfc_7396_say() {
        for (original, patch, result) in RFC_7396 {
            assert_eq!(merged(original, Merge::Patch(value(patch))).unwrap(), result, "{original} with {patch}");
        }
    }

    #[test]
    fn a_patch_leaves_every_digit_and_the_order_of_what_stays() {
        let patched = merged(r#"{"z":9007199254740993.10,"a":1e5,"z2":[ 1.0 ]}"#, Merge::Patch(value(r#"{"a":2}"#)));
        assert_eq!(patched.unwrap(), r#"{"z":9007199254740993.10,"a":2,"z2":[1.0]}"#);
        // Escaped and plain names are the same name; of doubles the last counts.
        let patched = merged(r#"{"a":1,"\u0061":2,"q\"":3}"#, Merge::Patch(value(r#"{"q\u0022":null}"#)));
        assert_eq!(patched.unwrap(), r#"{"a":2}"#);
    }

    #[test]
    fn sets_have_each_value_once_whatever_its_spelling() {
        let add = |current: &str, all: &[&str]| merged(current, Merge::SetAdd(values(all)));
        assert_eq!(add("null", &["1", "1", "\"a\""]).unwrap(), r#"[1,"a"]"#);
        assert_eq!(add(r#"[{"a":1,"b":[2]}]"#, &[r#"{"b":[2],"a":1}"#]).unwrap(), r#"[{"a":1,"b":[2]}]"#);
        assert_eq!(add(r#"["é"]"#, &[r#""\u00e9""#]).unwrap(), r#"["é"]"#);
        assert_eq!(add("[1]", &["1.0", "null", "\"1\""]).unwrap(), r#"[1,1.0,null,"1"]"#);
        assert_eq!(add("{}", &["1"]), Err(ErrorCode::WrongType));
        let remove = |current: &str, all: &[&str]| merged(current, Merge::SetRemove(values(all)));
        assert_eq!(remove(r#"[1,2,1,{"b":1,"a":2}]"#, &["1", r#"{"a":2,"b":1}"#, "7"]).unwrap(), "[2]");
        assert_eq!(remove("[1]", &["1"]).unwrap(), "[]", "an empty set is not an absent key");
        assert_eq!(remove("null", &["1"]).unwrap(), "null");
        assert_eq!(remove("\"a\"", &["1"]), Err(ErrorCode::WrongType));
    }

    #[test]
    fn a_list_with_a_cap_drops_its_oldest() {
        let append = |current: &str, all: &[&str], cap| merged(current, Merge::Append { values: values(all), cap });
        assert_eq!(append("null", &["1"], Some(3)).unwrap(), "[1]");
        assert_eq!(append("[1,2,3]", &["4", "5"], Some(3)).unwrap(), "[3,4,5]");
        assert_eq!(append("[1,2,3]", &["4"], None).unwrap(), "[1,2,3,4]");
        assert_eq!(append("[1]", &["2", "3", "4"], Some(2)).unwrap(), "[3,4]");
        assert_eq!(append("[1]", &["2"], Some(0)).unwrap(), "[]");
        assert_eq!(append("1", &["2"], None), Err(ErrorCode::WrongType));
        let deepest = "[".repeat(MAX_VALUE_DEPTH) + &"]".repeat(MAX_VALUE_DEPTH);
        assert_eq!(append("[]", &[&deepest], None), Err(ErrorCode::InvalidJson));
        assert!(append("[]", &[&deepest[1..deepest.len() - 1]], None).is_ok());
    }

    /// RFC 7396's pseudocode on serde_json's own trees.
    fn naive_patch(target: serde_json::Value, patch: &serde_json::Value) -> serde_json::Value {
        let Some(patch) = patch.as_object() else { return patch.clone() };
        let mut target = target.as_object().cloned().unwrap_or_default();
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                let before = target.remove(name).unwrap_or_default();
                target.insert(name.clone(), naive_patch(before, value));
            }
        }
        serde_json::Value::Object(target)
    }

    fn json(depth: u32) -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            (-3i64..3).prop_map(Into::into),
            "[ab\"\\\\é]{0,2}".prop_map(Into::into),
        ];
        leaf.prop_recursive(depth, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::vec(("[abc]", inner), 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_patch_does_what_the_pseudocode_does(target in json(4), patch in json(4)) {
            let merged = Merge::Patch(value(&patch.to_string())).apply(&value(&target.to_string())).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(merged.json()).unwrap(), naive_patch(target, &patch));
            let again = Value::parse(merged.json()).unwrap();
            prop_assert_eq!(again.json(), merged.json());
        }

        #[test]
        fn a_set_is_a_set(before in proptest::collection::vec(json(2), 0..6), more in proptest::collection::vec(json(2), 0..6)) {
            let merge = Merge::SetAdd(more.iter().map(|json| value(&json.to_string())).collect());
            let start = value(&serde_json::Value::from(before.clone()).to_string());
            let after = merge.apply(&start).unwrap();
            let list: Vec<serde_json::Value> = serde_json::from_str(after.json()).unwrap();
            let mut expected = before;
            for one in &more {
                if !expected.contains(one) {
                    expected.push(one.clone());
                }
            }
            prop_assert_eq!(&list, &expected);
            prop_assert_eq!(&merge.apply(&after).unwrap(), &after);
            let gone = Merge::SetRemove(more.iter().map(|json| value(&json.to_string())).collect()).apply(&after).unwrap();
            let list: Vec<serde_json::Value> = serde_json::from_str(gone.json()).unwrap();
            expected.retain(|one| !more.contains(one));
            prop_assert_eq!(list, expected);
        }
    }
}
