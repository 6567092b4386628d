//! JSON texts: a value is accepted when serde_json can read it as a tree, its compact text has
//! nothing less than the white space outside strings, and compacting again changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sessionstore::{Kind, Value};

/// The text without white space outside strings, the obvious way.
fn without_space(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    json.chars()
        .filter(|&c| {
            if inside {
                (inside, escaped) = (escaped || c != '"', !escaped && c == '\\');
                return true;
            }
            inside = c == '"';
            !matches!(c, ' ' | '\t' | '\n' | '\r')
        })
        .collect()
}

fn depth(tree: &serde_json::Value) -> usize {
    match tree {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let tree = serde_json::from_str::<serde_json::Value>(text);
    let value = match Value::parse(text) {
        Ok(value) => value,
        Err(error) => {
            assert!(!error.message().is_empty());
            // Doubled fields drop from the tree, so that it may look shallower than the text.
            let deep = text.matches(['[', '{']).count() > 100;
            assert!(tree.is_err() || deep, "a JSON value was refused");
            return;
        }
    };
    assert_eq!(value.json(), without_space(text));
    let again = Value::parse(value.json()).expect("a value stays one");
    assert_eq!(again, value);
    match tree {
        Ok(tree) => {
            assert!(depth(&tree) <= 100);
            assert_eq!(serde_json::from_str::<serde_json::Value>(value.json()).expect("it was JSON before"), tree);
            let kind = match &tree {
                serde_json::Value::Null => Kind::Null,
                serde_json::Value::Bool(_) => Kind::Boolean,
                serde_json::Value::Number(number) if number.is_i64() && !value.json().contains(['.', 'e', 'E']) => {
                    Kind::Integer
                }
                serde_json::Value::Number(_) => Kind::Number,
                serde_json::Value::String(_) => Kind::String,
                serde_json::Value::Array(_) => Kind::Array,
                serde_json::Value::Object(_) => Kind::Object,
            };
            // serde_json has no integer for -0.
            assert!(value.kind() == kind || value.json() == "-0", "{:?} instead of {kind:?}", value.kind());
            assert_eq!(value.as_text().ok().as_deref(), tree.as_str());
            assert_eq!(value.as_boolean().ok(), tree.as_bool());
        }
        // A number that no f64 holds is text to us and an error to a tree.
        Err(error) => assert!(error.to_string().starts_with("number out of range"), "{error}"),
    }
});
