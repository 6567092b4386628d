//! Every dependency is under a licence that deny.toml allows, and comes from crates.io. `make audit` asks more,
//! with a tool that takes minutes to build; this much is looked at with every change.
#![cfg(feature = "server")]

use std::process::Command;

fn root() -> &'static str {
    env!("CARGO_MANIFEST_DIR")
}

/// What is linked into the library and `sstore` on this machine: each package with its licence. What only
/// tests and tools use is not given to anybody.
fn linked() -> Vec<(String, String)> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--all-features", "--edges", "normal,build", "--prefix", "none"])
        .args(["--format", "{p}|{l}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("text");
    let packages = tree.lines().filter_map(|line| line.split_once('|'));
    packages.map(|(package, licence)| (package.to_owned(), licence.trim_end_matches(" (*)").to_owned())).collect()
}

/// Whether an SPDX expression can be met with the licences that are allowed.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    // Older crates write a slash for OR.
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = text.split_whitespace().collect::<Vec<_>>().into_iter().peekable();
    any_of(&mut words, allowed)
}

type Words<'a> = std::iter::Peekable<std::vec::IntoIter<&'a str>>;

fn any_of(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any_of(words, allowed);
        words.next_if_eq(&")");
        return met;
    }
    let licence = words.next().unwrap_or("");
    // An exception gives more rights, not fewer.
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    allowed.iter().any(|one| one == licence)
}

/// A list of deny.toml.
fn list(section: &str, name: &str) -> Vec<String> {
    let deny = std::fs::read_to_string(format!("{}/deny.toml", root())).expect("deny.toml");
    let deny: toml::Table = deny.parse().expect("TOML");
    let list = deny[section][name].as_array().expect("a list").iter();
    list.map(|one| one.as_str().expect("text").to_owned()).collect()
}

#[test]
fn licences_are_those_of_deny_toml() {
    let allowed = list("licenses", "allow");
    let linked = linked();
    assert!(linked.len() > 50, "only {} packages were found", linked.len());
    for (package, licence) in linked {
        assert!(is_met(&licence, &allowed), "{package} is under {licence}; deny.toml allows {allowed:?}");
    }
}

#[test]
fn everything_comes_from_the_registry_of_deny_toml() {
    let allowed = list("sources", "allow-registry");
    let lock = std::fs::read_to_string(format!("{}/Cargo.lock", root())).expect("Cargo.lock");
    let lock: toml::Table = lock.parse().expect("TOML");
    for package in lock["package"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        match package.get("source").and_then(toml::Value::as_str) {
            None => assert_eq!(name, "sessionstore", "{name} is not of crates.io"),
            Some(source) => {
                let known = allowed.iter().any(|registry| source == format!("registry+{registry}"));
                assert!(known, "{name} comes from {source}; deny.toml allows {allowed:?}");
            }
        }
    }
}

#[test]
fn expressions_are_understood() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned()];
    for met in ["MIT", "MIT/Apache-2.0", "X OR MIT", "MIT AND ISC", "(X OR MIT) AND ISC", "MIT WITH some-exception"] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in ["", "none", "X", "MIT AND X", "X OR (MIT AND Y)", "MIT-0"] {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}
