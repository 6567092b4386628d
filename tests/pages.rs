//! The pages hold together: what one refers to is there, and every table is one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The pages in the root, in `docs` and beside each wrapper.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![root.to_owned(), root.join("docs")];
    directories
        .extend(std::fs::read_dir(root.join("bindings")).expect("bindings").map(|entry| entry.expect("one").path()));
    let files = directories.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten();
    files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect()
}

/// The lines of a page with their numbers, without its blocks of code.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut in_code = false;
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines
        .filter(|(_, line)| {
            let fence = line.trim_start().starts_with("```");
            in_code ^= fence;
            !in_code && !fence
        })
        .collect()
}

/// What a heading is linked to by, as GitHub has it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|sign| sign.is_alphanumeric() || " -_".contains(*sign));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).into_iter().filter(|(_, line)| line.starts_with('#'));
    headings.map(|(_, line)| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn what_a_page_refers_to_is_there() {
    let mut seen = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        for (number, line) in prose(&text) {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
            for target in targets.filter(|target| !target.contains("://")) {
                let (file, wanted) = target.split_once('#').unwrap_or((target, ""));
                let file = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
                let place = format!("{}, line {number}: {target}", page.display());
                assert!(file.exists(), "{place} is not there");
                if !wanted.is_empty() {
                    let there = anchors(&std::fs::read_to_string(&file).expect("a page"));
                    assert!(there.contains(wanted), "{place} is no heading of that page");
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "pages refer to each other: {seen}");
}

/// A row that an empty line separates from its table is shown as text.
#[test]
fn every_table_has_a_head_and_rows_of_its_width() {
    let cells = |row: &str| row.replace("\\|", "").matches('|').count();
    let mut seen = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        let lines = prose(&text);
        let tables = lines.chunk_by(|(before, row), (number, next)| {
            before + 1 == *number && row.starts_with('|') == next.starts_with('|')
        });
        for table in tables.filter(|table| table[0].1.starts_with('|')) {
            let place = format!("{}, line {}", page.display(), table[0].0);
            let rule = table.get(1).map_or("", |(_, line)| line);
            assert!(rule.starts_with("|-"), "{place}: a row without a table");
            for (number, row) in table {
                assert_eq!(cells(row), cells(rule), "{}, line {number}: another number of cells", page.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "pages have tables: {seen}");
}
