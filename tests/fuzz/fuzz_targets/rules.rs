//! A rules file, then a caller and keys, each after a NUL. Whatever they are, a mistake has its line, and
//! asking with a reason and without one is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sessionstore::core::rules::{Caller, Right, Rules};
use sessionstore::ErrorCode;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\0');
    let rules = match Rules::from_toml(parts.next().unwrap_or("")) {
        Ok(rules) => rules,
        Err(error) => {
            assert!(error == ErrorCode::InvalidConfig && error.message().starts_with("line "), "{error}");
            return;
        }
    };
    let mut next = || parts.next().unwrap_or("");
    let caller = Caller { role: next(), peer_id: next(), user_id: next() };
    assert_eq!(rules.view(caller), rules.view(caller));
    rules.sees_peers(caller.role);
    for key in parts {
        for right in Right::ALL {
            let checked = rules.check(caller, right, key);
            assert_eq!(checked.is_ok(), rules.allows(caller, right, key));
            assert!(checked.err().is_none_or(|error| error == ErrorCode::Forbidden));
        }
    }
});
