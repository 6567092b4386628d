//! How many instructions the processor executes for each case, counted by valgrind's callgrind.
//! Unlike times, counts do not jitter, so they are compared with the ones that are checked in.
//!
//! `cargo bench --bench instructions` compares, with `-- --update` it writes the file anew, and
//! words that are no options pick the cases whose names contain them. Each case is counted in a
//! process of its own, so that what the allocator remembers of one does not show in another.

mod cases;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde::Deserialize;

/// The checked-in figures.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");
/// Rounds that are not counted: buffers grow, lazy things are made.
const WARM_UP: usize = 3;
/// Rounds that are counted.
const ROUNDS: usize = 20;
/// What a count may be above the checked-in one, or below before it is worth checking in: the same
/// program counts the same, so this is for changes that are elsewhere and move what is inlined.
const TOLERANCE: f64 = 0.05;
/// The same when another compiler or C library made the program. That moves a count by a few
/// percent, rarely more; what costs more than this is not the compiler.
const TOLERANCE_OF_OTHER_TOOLS: f64 = 0.25;
/// A difference of so few is one of where the compiler keeps its registers, however small the count.
const SLACK: f64 = 50.0;
/// The argument with which this program is started under valgrind, before the number of the case.
const COUNTED: &str = "--counted";

/// What makes counts differ though our code is the same.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Tools {
    target: String,
    rustc: String,
    libc: String,
}

#[derive(Deserialize)]
struct CheckedIn {
    tools: Tools,
    instructions: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, number] = arguments.as_slice() {
        if flag == COUNTED {
            return run_counted(number);
        }
    }
    let update = arguments.iter().any(|argument| argument == "--update");
    // cargo says `--bench`.
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    match if update { write_file() } else { compare(&words) } {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// The process that valgrind watches.
fn run_counted(number: &str) -> ExitCode {
    let case = number.parse::<usize>().ok().and_then(|number| cases::all().into_iter().nth(number));
    let Some(case) = case else { return ExitCode::FAILURE };
    let mut work = (case.prepare)();
    for _ in 0..WARM_UP {
        black_box(work());
    }
    counted_rounds(&mut work);
    ExitCode::SUCCESS
}

/// What is counted; callgrind knows it by this name.
#[inline(never)]
fn counted_rounds(work: &mut cases::Work) {
    for _ in 0..ROUNDS {
        black_box(work());
    }
}

/// The instructions of one round.
fn count(number: usize, name: &str, directory: &Path) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    let profile = directory.join(format!("{}.callgrind", name.replace([' ', ','], "-")));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=instructions::counted_rounds*"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args([COUNTED, &number.to_string()])
        .output()
        .map_err(|error| format!("valgrind counts the instructions, and cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{name}` failed under valgrind:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let profile = std::fs::read_to_string(&profile).map_err(|error| format!("{}: {error}", profile.display()))?;
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
    match total {
        Some(total) if total > 0 => Ok(total / ROUNDS as u64),
        _ => Err(format!("valgrind counted nothing for `{name}`")),
    }
}

fn count_all(wanted: impl Fn(&str) -> bool) -> Result<Vec<(&'static str, u64)>, String> {
    let directory = profiles();
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let cases = cases::all();
    let wanted = cases.iter().enumerate().filter(|(_, case)| wanted(case.name));
    wanted.map(|(number, case)| Ok((case.name, count(number, case.name, &directory)?))).collect()
}

/// Where callgrind's profiles stay, for `callgrind_annotate`.
fn profiles() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("instructions")
}

fn compare(words: &[&String]) -> Result<ExitCode, String> {
    let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
    let checked_in: CheckedIn = toml::from_str(&text).map_err(|error| format!("{FILE}: {error}"))?;
    let here = Tools::here()?;
    let there = &checked_in.tools;
    let counts = count_all(|name| words.iter().all(|word| name.contains(word.as_str())))?;
    if here.target != there.target {
        print!("{}", table(&counts, &BTreeMap::new(), TOLERANCE).0);
        println!("The checked-in counts are of {}, this is {}: nothing is compared.", there.target, here.target);
        return Ok(ExitCode::SUCCESS);
    }
    let is_same = here == *there;
    let tolerance = if is_same { TOLERANCE } else { TOLERANCE_OF_OTHER_TOOLS };
    let (table, above, below) = table(&counts, &checked_in.instructions, tolerance);
    print!("{table}");
    if !is_same {
        println!(
            "Checked in with rustc {} and {}, counted here with rustc {} and {}: {:.0} % more are accepted instead of {:.0} %.",
            there.rustc, there.libc, here.rustc, here.libc, tolerance * 100.0, TOLERANCE * 100.0
        );
    }
    let known = checked_in.instructions.keys().map(String::as_str);
    let gone: Vec<&str> = known.filter(|name| cases::all().iter().all(|case| case.name != *name)).collect();
    let unknown: Vec<&str> =
        counts.iter().map(|(name, _)| *name).filter(|name| !checked_in.instructions.contains_key(*name)).collect();
    if !gone.is_empty() || !unknown.is_empty() {
        let names = [gone, unknown].concat().join("`, `");
        return Err(format!("The cases and {FILE} differ in `{names}`: `make instructions` writes it anew."));
    }
    if below > 0 {
        println!(
            "{below} of the counts are more than {:.0} % below the checked-in ones. Please run `make instructions` and \
             commit the file, so that it cannot be lost again unnoticed.",
            tolerance * 100.0
        );
    }
    if above > 0 {
        return Err(format!(
            "{above} of the counts are more than {:.0} % above the checked-in ones. `callgrind_annotate` shows where, for \
             the profiles in {}. If it is worth it, `make instructions` writes the new counts; say why in the commit.",
            tolerance * 100.0,
            profiles().display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The table, how many counts are too high, and how many are worth writing down.
fn table(counts: &[(&'static str, u64)], checked_in: &BTreeMap<String, u64>, tolerance: f64) -> (String, usize, usize) {
    let width = counts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = format!("{:width$}  {:>12}  {:>12}  {:>8}\n", "instructions for", "checked in", "now", "change");
    let (mut above, mut below) = (0, 0);
    for (name, now) in counts {
        // Writing into memory cannot fail.
        let _ = match checked_in.get(*name) {
            None => writeln!(out, "{name:width$}  {:>12}  {now:>12}", "-"),
            Some(before) => {
                let (now, before) = (*now as f64, *before as f64);
                let (change, allowed) = (now - before, (before * tolerance).max(SLACK));
                let mark = match change {
                    change if change > allowed => {
                        above += 1;
                        "  too many"
                    }
                    change if change < -allowed => {
                        below += 1;
                        "  fewer"
                    }
                    _ => "",
                };
                let change = change / before.max(1.0);
                writeln!(out, "{name:width$}  {before:>12}  {now:>12}  {:>+7.1}%{mark}", change * 100.0)
            }
        };
    }
    (out, above, below)
}

fn write_file() -> Result<ExitCode, String> {
    let tools = Tools::here()?;
    let mut out = String::from(
        "# Instructions for one round of each case of benches/cases, in user space, the allocator's included.\n\
         # `make instructions` writes this file, `make test-instructions` compares with it.\n\n[tools]\n",
    );
    let _ = writeln!(out, "target = {:?}\nrustc = {:?}\nlibc = {:?}\n", tools.target, tools.rustc, tools.libc);
    out.push_str("[instructions]\n");
    for (name, count) in count_all(|_| true)? {
        let _ = writeln!(out, "{name:?} = {count}");
    }
    std::fs::write(FILE, &out).map_err(|error| format!("{FILE}: {error}"))?;
    print!("{out}");
    Ok(ExitCode::SUCCESS)
}

impl Tools {
    fn here() -> Result<Tools, String> {
        let rustc = say("rustc", &["-vV"])?;
        let field = |name: &str| {
            let found = rustc.lines().find_map(|line| line.strip_prefix(name));
            found.map(|value| value.trim().to_owned()).ok_or(format!("`rustc -vV` has no line {name:?}"))
        };
        Ok(Tools {
            target: field("host:")?,
            rustc: field("release:")?,
            libc: say("getconf", &["GNU_LIBC_VERSION"])?.trim().to_owned(),
        })
    }
}

fn say(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    String::from_utf8(output.stdout).map_err(|_| format!("`{program}` did not answer in UTF-8"))
}
