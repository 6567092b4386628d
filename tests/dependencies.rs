//! Every dependency is under a licence that deny.toml allows, comes from crates.io, and has no fault that was known
//! when `tests/advisories.toml` was written. `make audit` asks more, with a tool that takes minutes to build and the
//! list of today; this much is looked at with every change, without a network.
#![cfg(feature = "server")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use semver::{Version, VersionReq};
use serde::Deserialize;

fn root() -> &'static str {
    env!("CARGO_MANIFEST_DIR")
}

/// What cargo says of the packages along such edges, in lines of such a form.
fn tree(edges: &str, format: &str, options: &[&str]) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", edges, "--prefix", "none", "--format", format])
        .args(options)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("text");
    tree.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

/// What is linked into the library and `sstore` on this machine: each package with its licence. What only
/// tests and tools use is not given to anybody.
fn linked() -> Vec<(String, String)> {
    let packages = tree("normal,build", "{p}|{l}", &["--all-features"]);
    let packages = packages.iter().filter_map(|line| line.split_once('|'));
    packages.map(|(package, licence)| (package.to_owned(), licence.to_owned())).collect()
}

#[test]
fn what_is_shipped_is_built_of_the_same_as_what_is_tested() {
    let of_tests = tree("normal,build,dev", "{p} with {f}", &[]);
    for package in tree("normal,build", "{p} with {f}", &[]) {
        assert!(
            of_tests.contains(&package),
            "the tests need other features of {package}: cargo builds it, all above it and this library twice, and again \
             whenever it goes from one to the other. `cargo tree --edges features --invert` says who needs which"
        );
    }
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

/// The packages of a lock file.
fn locked(file: &str) -> Vec<toml::Value> {
    let lock = std::fs::read_to_string(format!("{}/{file}", root())).expect("a lock file");
    let lock: toml::Table = lock.parse().expect("TOML");
    lock["package"].as_array().expect("packages").clone()
}

#[test]
fn everything_comes_from_the_registry_of_deny_toml() {
    let allowed = list("sources", "allow-registry");
    for package in locked("Cargo.lock") {
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

// ------------------------------------------------------------------ known faults

const COPY: &str = "tests/advisories.toml";

/// What is known of the versions of a package.
#[derive(Deserialize)]
struct Advisory {
    package: String,
    /// Versions that are not concerned any more, and that never were.
    #[serde(default)]
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

impl Advisory {
    fn concerns(&self, package: &str, version: &Version) -> bool {
        let is_fine = |which: &VersionReq| which.matches(version);
        self.package == package && !self.patched.iter().chain(&self.unaffected).any(is_fine)
    }
}

/// The copy of RustSec's list that is checked in, by the ids of the advisories.
fn advisories() -> BTreeMap<String, Advisory> {
    let copy = std::fs::read_to_string(format!("{}/{COPY}", root())).expect("the copy");
    let advisories: BTreeMap<String, Advisory> = toml::from_str(&copy).expect("a list of advisories");
    // RustSec had more than 700 when the first copy was made; with fewer this would look for little.
    assert!(advisories.len() > 600, "{COPY} has only {} advisories", advisories.len());
    advisories
}

#[test]
fn nothing_has_a_fault_that_is_known() {
    if let Ok(database) = std::env::var("UPDATE_ADVISORIES") {
        std::fs::write(format!("{}/{COPY}", root()), copy_of(Path::new(&database))).expect("written");
    }
    let advisories = advisories();
    let mut found = Vec::new();
    for package in locked("Cargo.lock").into_iter().chain(locked("tests/fuzz/Cargo.lock")) {
        let (name, version) = (package["name"].as_str().expect("a name"), package["version"].as_str().expect("text"));
        let locked = Version::parse(version).expect("a version");
        let known = advisories.iter().filter(|(_, advisory)| advisory.concerns(name, &locked));
        found.extend(known.map(|(id, _)| format!("{name} {version}: https://rustsec.org/advisories/{id}")));
    }
    assert!(found.is_empty(), "use other versions, or others: {found:#?}");
}

#[test]
fn what_is_known_of_old_versions_is_found() {
    let advisories = advisories();
    let found = |package: &str, version: &str| -> Vec<&str> {
        let version = Version::parse(version).expect("a version");
        let found = advisories.iter().filter(|(_, advisory)| advisory.concerns(package, &version));
        found.map(|(id, _)| id.as_str()).collect()
    };
    assert_eq!(found("tungstenite", "0.20.0"), ["RUSTSEC-2023-0065"]);
    assert_eq!(found("tungstenite", "0.20.1"), [""; 0], "patched");
    assert_eq!(found("smallvec", "1.6.0"), ["RUSTSEC-2021-0003"]);
    assert_eq!(found("smallvec", "0.6.2"), ["RUSTSEC-2018-0003", "RUSTSEC-2018-0018"], "not the later ones");
    assert_eq!(found("no-such-package", "1.0.0"), [""; 0]);
}

/// What is needed of a checkout of RustSec's list.
fn copy_of(database: &Path) -> String {
    let date = Command::new("git").arg("-C").arg(database).args(["log", "-1", "--format=%cs"]).output();
    let date = date.expect("git runs").stdout;
    let date = String::from_utf8(date).expect("text");
    let mut all = BTreeMap::new();
    let packages = std::fs::read_dir(database.join("crates")).expect("a checkout of the list");
    let files = packages.flat_map(|package| std::fs::read_dir(package.expect("a folder").path()).expect("advisories"));
    for file in files {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        let front = text.strip_prefix("```toml\n").and_then(|text| text.split_once("\n```")).expect("a head of TOML").0;
        let front: toml::Table = front.parse().expect("TOML");
        let advisory = &front["advisory"];
        if advisory.get("withdrawn").is_some() {
            continue;
        }
        let text = |name: &str| advisory[name].as_str().expect("text").to_owned();
        let mut line = format!("package = {:?}", text("package"));
        for name in ["patched", "unaffected"] {
            match front["versions"].get(name) {
                Some(toml::Value::Array(versions)) if !versions.is_empty() => {
                    // Nothing in them is written otherwise in TOML.
                    let versions: Vec<&str> = versions.iter().map(|one| one.as_str().expect("text")).collect();
                    write!(line, ", {name} = {versions:?}").expect("a string");
                }
                _ => {}
            }
        }
        all.insert(text("id"), line);
    }
    let mut copy = format!(
        "# The advisories of RustSec as of {}, without their texts: https://rustsec.org/advisories/ID.html has them.\n\
         # By the contributors to https://github.com/RustSec/advisory-db, under CC0-1.0, some under CC-BY-4.0.\n\
         # tests/dependencies.rs looks into it; `make advisories` writes it anew.\n",
        date.trim()
    );
    all.iter().for_each(|(id, line)| writeln!(copy, "{id} = {{ {line} }}").expect("a string"));
    copy
}
