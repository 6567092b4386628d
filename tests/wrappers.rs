//! Wrappers have all that the C library has: each exported function, each error code.

use std::collections::BTreeSet;

use sessionstore::ErrorCode;

const HEADER: &str = include_str!("../include/sessionstore.h");
const CPP: &str = include_str!("../bindings/cpp/include/sessionstore.hpp");

/// The words of a text that begin with a prefix.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_word(c)).filter(|word| word.starts_with(prefix)).collect()
}

/// The functions of the header: what stands before a parenthesis outside of comments.
fn functions() -> BTreeSet<&'static str> {
    let code = HEADER.lines().filter(|line| !line.starts_with("//") && !line.starts_with(" *"));
    let names = code.filter_map(|line| line.split_once('(')?.0.split_whitespace().last());
    let functions: BTreeSet<&str> =
        names.map(|name| name.trim_start_matches('*')).filter(|name| name.starts_with("sessionstore_")).collect();
    assert!(functions.len() > 100, "{functions:?}");
    functions
}

#[test]
fn cpp_uses_every_function() {
    let used = words(CPP, "sessionstore_");
    let missing: Vec<&str> = functions().into_iter().filter(|name| !used.contains(name)).collect();
    // A value is turned into JSON by its type already. Lists are copied, so nobody keeps one. A code has its name.
    let unneeded = |name: &&str| {
        ["set_string", "set_integer", "set_number", "set_boolean"].iter().any(|kind| name.contains(kind))
            || name.ends_with("_list_retain")
            || *name == "sessionstore_error_name"
    };
    let missing: Vec<&str> = missing.into_iter().filter(|name| !unneeded(name)).collect();
    assert!(missing.is_empty(), "sessionstore.hpp does not use {missing:?}");
}

#[test]
fn cpp_has_every_code_and_no_other() {
    let (_, table) = CPP.split_once("enum class errc").expect("the table");
    let (table, _) = table.split_once("};").expect("its end");
    let codes: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| format!("{} = SESSIONSTORE_{},", code.name().to_lowercase(), code.name()))
        .collect();
    let lines: Vec<&str> = table.lines().map(str::trim).filter(|line| line.contains("SESSIONSTORE_")).collect();
    assert_eq!(lines[0], "ok = SESSIONSTORE_OK,");
    assert_eq!(lines[1..], codes);
}

#[test]
fn cpp_fills_every_member_of_the_options() {
    for name in ["client_options", "server_options", "write_options", "lock_options"] {
        let (before, _) = HEADER.split_once(&format!("}} sessionstore_{name};")).expect("the struct");
        let (_, members) = before.rsplit_once("typedef struct {").expect("its beginning");
        let declared = members.lines().map(str::trim).filter(|line| !line.starts_with("//") && line.ends_with(';'));
        for member in declared.map(|line| line.trim_end_matches(';').rsplit([' ', '*']).next().expect("a name")) {
            let fills = [".", "->"].iter().any(|access| CPP.contains(&format!("{access}{member}")));
            assert!(fills || ["struct_size", "flags"].contains(&member), "{name}.{member} is not filled");
        }
    }
}

/// The text of all files below a directory that have this extension.
fn sources(directory: &str, extension: &str) -> String {
    let mut all = String::new();
    let mut directories = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|have| have == extension) {
                all += &std::fs::read_to_string(&path).expect("a text");
            }
        }
    }
    assert!(!all.is_empty(), "{directory}");
    all
}

#[test]
fn the_page_for_users_of_the_original_names_what_there_is() {
    const PAGE: &str = include_str!("../docs/coming-from-the-original.md");
    let kotlin = sources("bindings/kotlin/src/main", "kt");
    let swift = sources("bindings/swift/Sources", "swift");
    let web = include_str!("original/page.js");
    // What a cell has in backticks, as the words of its calls.
    let names = |cell: &'static str| {
        let codes = cell.split('`').skip(1).step_by(2);
        codes.flat_map(|code| code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| word.len() > 2))
    };
    let has =
        |text: &str, name: &str| text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == name);
    let rows: Vec<Vec<&str>> =
        PAGE.lines().filter(|line| line.starts_with("| ")).map(|line| line.split('|').collect()).collect();
    let calls = rows.iter().filter(|row| row.len() == 7 && row[1].trim() != "what");
    let mut looked_at = 0;
    for row in calls {
        for (cell, text, whose) in
            [(2, HEADER, "C"), (3, &kotlin, "Kotlin"), (4, &swift, "Swift"), (5, web, "JavaScript")]
        {
            for name in names(row[cell]).filter(|name| !["dart", "ffi", "null", "key"].contains(name)) {
                assert!(has(text, name), "{whose} has no {name}, which the page names");
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 30, "{looked_at}");
    let originals = rows.iter().filter(|row| row.len() == 5 && row[1].contains('`'));
    for row in originals {
        for (cell, text, whose) in [(2, &kotlin, "Kotlin"), (3, &swift, "Swift")] {
            for name in names(row[cell]).filter(|name| !["data", "key", "listener"].contains(name)) {
                assert!(has(text, name), "{whose} has no {name}, which the page names");
            }
        }
    }
}
