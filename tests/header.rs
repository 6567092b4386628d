//! `include/sessionstore.h` is what src/ffi says, its error codes are those of the table, and every
//! function has its row in docs/functions.md.
//!
//! `UPDATE_HEADER=1 cargo test --test header` (`make header`) writes the header.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sessionstore::ErrorCode;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn generated() -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml is readable");
    // In a fixed order: errors first, because everything speaks of them, then in the order a reader
    // meets the objects.
    let files =
        "error version value event event_list peer cancellation callback server client store set write update lock transaction select \
                 subscription";
    let builder = files.split(' ').fold(cbindgen::Builder::new().with_config(config), |builder, file| {
        builder.with_src(root().join("src/ffi").join(file).with_extension("rs"))
    });
    let mut text = Vec::new();
    builder.generate().expect("cbindgen understands src/ffi").write(&mut text);
    String::from_utf8(text).expect("the header is UTF-8")
}

fn header_path() -> PathBuf {
    root().join("include/sessionstore.h")
}

/// Names of the functions a header declares.
fn functions(header: &str) -> BTreeSet<String> {
    let code: String =
        header.lines().filter(|line| !line.starts_with("//") && !line.starts_with(" *")).collect::<Vec<_>>().join("\n");
    let words = code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '('));
    words
        .filter_map(|word| word.split_once('('))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("sessionstore_"))
        .collect()
}

#[test]
fn the_checked_in_header_is_current() {
    let generated = generated();
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(header_path(), &generated).expect("the header can be written");
    }
    let checked_in = std::fs::read_to_string(header_path()).unwrap_or_default();
    assert!(checked_in == generated, "include/sessionstore.h is stale: run `make header` and commit it");
}

#[test]
fn the_header_has_every_error_code_and_no_other() {
    let header = std::fs::read_to_string(header_path()).expect("the header is there");
    let number = |name: &str| {
        let line = header.lines().find(|line| line.starts_with(&format!("#define SESSIONSTORE_{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<i32>().ok())
    };
    assert_eq!(number("OK"), Some(0));
    for code in ErrorCode::ALL {
        assert_eq!(number(code.name()), Some(code.number()), "{code} in the header");
    }
}

#[test]
fn the_version_is_the_same_everywhere() {
    let header = std::fs::read_to_string(header_path()).expect("the header is there");
    let line = format!("#define SESSIONSTORE_VERSION \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(header.contains(&line), "the header should say: {line}");
}

#[test]
fn every_function_has_its_row_in_the_table() {
    let header = std::fs::read_to_string(header_path()).expect("the header is there");
    let table = std::fs::read_to_string(root().join("docs/functions.md")).expect("docs/functions.md is there");
    let rows: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|r| r.0).collect();
    let unique: BTreeSet<String> = rows.iter().map(|row| row.to_string()).collect();
    assert_eq!(rows.len(), unique.len(), "a function has two rows");
    assert_eq!(unique, functions(&header), "rows of docs/functions.md and functions of the header");
}
