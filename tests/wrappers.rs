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

/// C or C++ without its comments: what is only written about is not used.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("/*") {
        let (before, comment) = rest.split_at(at);
        code += before;
        rest = comment.split_once("*/").expect("the comment's end").1;
    }
    code += rest;
    // No text in quotes of these headers has two slashes outside of a URL in a comment.
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The functions of the header: what stands before a parenthesis outside of comments.
fn functions() -> BTreeSet<String> {
    let code = code(HEADER);
    let names = code.lines().filter_map(|line| line.split_once('(')?.0.split_whitespace().last());
    let functions: BTreeSet<String> = names
        .map(|name| name.trim_start_matches('*').to_owned())
        .filter(|name| name.starts_with("sessionstore_"))
        .collect();
    assert!(functions.len() > 100, "{functions:?}");
    functions
}

#[test]
fn cpp_uses_every_function() {
    let wrapper = code(CPP);
    let used = words(&wrapper, "sessionstore_");
    let unused: BTreeSet<String> = functions().into_iter().filter(|name| !used.contains(name.as_str())).collect();
    // A value is turned into JSON by its type already. Lists are copied, so nobody keeps one. A code has its name.
    let mut unneeded = BTreeSet::from(["error_name", "event_list_retain", "key_list_retain"].map(str::to_owned));
    for kind in ["string", "integer", "number", "boolean"] {
        unneeded.extend([format!("store_set_{kind}"), format!("store_set_{kind}_wait")]);
    }
    let unneeded: BTreeSet<String> = unneeded.into_iter().map(|name| format!("sessionstore_{name}")).collect();
    assert_eq!(unused, unneeded, "what sessionstore.hpp does not use, beside what it need not");
}

#[test]
fn cpp_uses_every_constant() {
    let (header, wrapper) = (code(HEADER), code(CPP));
    let used = words(&wrapper, "SESSIONSTORE_");
    let defined = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split_whitespace().next());
    // Its own guard, a version that users compare for themselves, and a length that string_view has.
    let unneeded = ["H", "VERSION", "NUL_TERMINATED"].map(|name| format!("SESSIONSTORE_{name}"));
    let mut looked_at = 0;
    for name in defined.filter(|name| !unneeded.iter().any(|unneeded| unneeded == name)) {
        assert!(used.contains(name), "sessionstore.hpp does not use {name}");
        looked_at += 1;
    }
    assert!(looked_at > 100, "{looked_at}");
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
fn cpp_knows_every_member_of_every_struct() {
    let (header, wrapper) = (code(HEADER), code(CPP));
    // Where a member is reached: `own.url`, `options->ctx`.
    let reached: BTreeSet<&str> = wrapper
        .split(|c: char| !(c.is_ascii_alphanumeric() || "_.>".contains(c)))
        .flat_map(|path| path.split(['.', '>']).skip(1))
        .collect();
    let mut looked_at = 0;
    for (declared, name) in
        header.split("typedef struct {").skip(1).filter_map(|text| text.split_once("} sessionstore_"))
    {
        let name = name.split(';').next().expect("its name");
        for member in declared.split(';').map(str::trim).filter(|member| !member.is_empty()) {
            let member = match member.split_once("(*") {
                Some((_, callback)) => callback.split(')').next(),
                None => member.rsplit([' ', '*']).next(),
            };
            let member = member.expect("a name");
            // The size is in what `..._INIT` begins with.
            assert!(member == "struct_size" || reached.contains(member), "{name}.{member} is not used");
            looked_at += 1;
        }
    }
    assert!(looked_at > 100, "{looked_at}");
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
    let web = sources("bindings/web/src", "ts");
    let original = include_str!("original/page.js");
    // What a cell has in backticks, as the words of its calls.
    let names = |cell: &'static str| {
        let codes = cell.split('`').skip(1).step_by(2);
        codes.flat_map(|code| code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| word.len() > 2))
    };
    let has =
        |text: &str, name: &str| text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == name);
    let rows: Vec<Vec<&str>> =
        PAGE.lines().filter(|line| line.starts_with("| ")).map(|line| line.split('|').collect()).collect();
    let calls = rows.iter().filter(|row| row.len() == 8 && row[1].trim() != "what");
    let mut looked_at = 0;
    for row in calls {
        for (cell, text, whose) in [
            (2, HEADER, "C"),
            (3, &kotlin, "Kotlin"),
            (4, &swift, "Swift"),
            (5, &web, "the TypeScript client"),
            (6, original, "the test of the original's SDK"),
        ] {
            for name in names(row[cell]).filter(|name| !["dart", "ffi", "null", "key"].contains(name)) {
                assert!(has(text, name), "{whose} has no {name}, which the page names");
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 40, "{looked_at}");
    // The calls of Dart, beside functions of C.
    let functions = functions();
    let dart: Vec<_> = rows.iter().filter(|row| row.len() == 4 && row[1].contains("_hmsSessionStore")).collect();
    assert_eq!(dart.len(), 5);
    for row in dart {
        let name = row[2].trim().trim_matches('`');
        assert!(functions.contains(name), "C has no {name}, which the page names");
    }
    let originals = rows.iter().filter(|row| row.len() == 5 && row[1].contains('`'));
    for row in originals {
        for (cell, text, whose) in [(2, &kotlin, "Kotlin"), (3, &swift, "Swift")] {
            for name in names(row[cell]).filter(|name| !["data", "key", "listener"].contains(name)) {
                assert!(has(text, name), "{whose} has no {name}, which the page names");
            }
        }
    }
}
