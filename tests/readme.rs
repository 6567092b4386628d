//! README does what it says: its program compiles and prints what it should, its `sstore` lines
//! work, the demo's output is of this demo, and the examples do what their first lines say.
#![cfg(all(feature = "cli", unix))]

mod compiled;
mod process;

use std::path::Path;
use std::process::Command;

use compiled::compile;
use process::{run, sstore, Running, Serving};

const README: &str = include_str!("../README.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The first block of this language after a heading.
fn block(heading: &str, language: &str) -> &'static str {
    let (_, section) = README.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let section = section.split("\n## ").next().expect("a section");
    let (_, block) = section.split_once(&format!("\n```{language}\n")).expect("the block");
    block.split_once("```").expect("the end of the block").0
}

#[test]
fn the_shortest_program_prints_what_readme_says() {
    let server = Serving::start(&[]);
    let text = block("The shortest program", "c");
    let here = text.replace("ws://127.0.0.1:7350", &server.url);
    assert_ne!(text, here, "README's program does not use the default port");
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme.c");
    std::fs::write(&source, here).expect("a file");
    let ended = run(Command::new(compile(&source, "readme")));
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(ended.stdout, block("The shortest program", "text"));
}

#[test]
fn the_five_lines_of_sstore_work() {
    let lines: Vec<_> = block("`sstore` in five lines", "sh").lines().collect();
    assert_eq!(lines.len(), 5);
    let bin = Path::new(env!("CARGO_BIN_EXE_sstore")).parent().expect("a directory");
    let shell = |line: &str| {
        let mut command = Command::new("/bin/sh");
        // `exec`, so that a signal reaches the program itself.
        command.arg("-c").arg(format!("exec {}", line.trim_end_matches(" &"))).env_clear().env("PATH", bin);
        command
    };
    let mut serve = shell(lines[0]);
    serve.env("SSTORE_PORT", "0");
    let server = Serving::command(serve);
    let here = |line: &str| {
        let mut command = shell(line);
        command.env("SSTORE_URL", &server.url);
        command
    };
    let watching = Running::start(here(lines[1]));
    watching.stdout.with("pinned = null");
    assert_eq!(run(here(lines[2])).code(), 0);
    watching.stdout.with("spotlight = \"peer-1\"");
    assert_eq!(run(here(lines[3])).stdout, "\"peer-1\"\n");
    assert_eq!(run(here(lines[4])).stdout.lines().count(), 2);
}

#[test]
fn the_demo_in_readme_is_this_demo() {
    let conductor = std::fs::read_to_string(root().join("demo/conductor.c")).expect("the demo");
    let steps: Vec<_> = conductor.lines().filter_map(|line| line.trim().strip_prefix("step(\"")).collect();
    assert!(steps.len() > 5, "the steps were not found");
    let shown = block("What it looks like", "text");
    for (number, step) in steps.iter().enumerate() {
        let step = step.strip_suffix("\");").expect("a step");
        assert!(shown.contains(&format!("\n{}. {step}\n", number + 1)), "README's demo lacks the step: {step}");
    }
    assert!(shown.ends_with(&format!("All {} steps happened as they should.\n", steps.len())));
}

#[test]
fn spotlight_moves_and_clears() {
    let server = Serving::start(&[]);
    let program = compile(&root().join("bindings/c/examples/spotlight.c"), "spotlight");
    let start = |name: &str| {
        let mut command = Command::new(&program);
        command.args([&*server.url, "r", name]);
        Running::start(command)
    };
    let mut ana = start("Ana");
    assert_eq!(ana.stdout.next(), "nobody is in the spotlight");
    let mut ben = start("Ben");
    assert_eq!(ben.stdout.next(), "nobody is in the spotlight");
    ana.tell("Ben");
    ben.stdout.with("Ben is in the spotlight (set by Ana)");
    ana.stdout.with("Ben is in the spotlight (set by Ana)");
    ben.tell("Ana");
    ana.stdout.with("Ana is in the spotlight (set by Ben)");
    let late = start("Late");
    assert_eq!(late.stdout.next(), "Ana is in the spotlight (set by Ben)");
    ana.tell("");
    ben.stdout.with("nobody is in the spotlight");
    for peer in [late, ben, ana] {
        assert_eq!(peer.end().code(), 0);
    }
    assert_eq!(server.output(&["peers", "--json"]), "[]\n", "they have left");

    let mut nowhere = Command::new(&program);
    nowhere.args(["ws://127.0.0.1:1", "r", "Ana"]);
    let ended = run(nowhere);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("CONNECTION_FAILED (104)"), "{ended:?}");
}

#[test]
fn pinned_text_is_pinned_and_refused() {
    let server = Serving::start(&[]);
    let program = compile(&root().join("bindings/c/examples/pinned_text.c"), "pinned_text");
    let mut command = Command::new(&program);
    command.args([&*server.url, "r", "Ana"]);
    let mut ana = Running::start(command);
    assert_eq!(ana.stdout.next(), "nothing is pinned");
    ana.tell("Welcome!");
    assert_eq!(ana.stdout.next(), "pinned by Ana: Welcome!");
    assert_eq!(server.output(&["get", "pinned"]), "\"Welcome!\"\n");
    ana.tell(&"x".repeat(1_500));
    assert!(ana.stdout.next().starts_with("not pinned, VALUE_TOO_LARGE: "));
    ana.tell("");
    assert_eq!(ana.stdout.next(), "nothing is pinned");
    assert_eq!(ana.end().code(), 0);
}

fn example(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(compile(&root().join(format!("bindings/c/examples/{name}.c")), name));
    command.args(arguments);
    command
}

#[test]
fn a_hundred_votes_at_once_add_up() {
    let server = Serving::start(&[]);
    let ended = run(example("poll", &[&server.url, "r", "100"]));
    assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{ended:?}");
    assert_eq!(ended.stdout, "votes/yes: 34\nvotes/no: 33\nvotes/maybe: 33\n");
    assert_eq!(run(example("poll", &[&server.url, "r", "none"])).code(), 2);
}

#[test]
fn two_players_share_a_board() {
    let server = Serving::start(&[]);
    let start = |mark: &str| Running::start(example("tic_tac_toe", &[&server.url, "r", mark]));
    let (mut x, mut o) = (start("x"), start("o"));
    assert_eq!((x.stdout.next(), o.stdout.next()), ("board .........".into(), "board .........".into()));
    o.tell("5");
    assert_eq!(o.stdout.next(), "it is not your turn");
    x.tell("5");
    assert_eq!((x.stdout.next(), o.stdout.next()), ("board ....x....".into(), "board ....x....".into()));
    o.tell("5");
    assert_eq!(o.stdout.next(), "that field is taken");
    o.tell("ten");
    assert_eq!(o.stdout.next(), "type a field, 1 to 9");
    // Both at once, whoever is faster: no mark is lost.
    o.tell("1");
    x.tell("9");
    let last = x.stdout.with("o...x...");
    if last == "board o...x...." {
        x.tell("9");
        x.stdout.with("board o...x...x");
    }
    o.stdout.with("board o...x...x");
    assert_eq!((x.end().code(), o.end().code()), (0, 0));
}

#[test]
fn the_next_presents_when_the_presenter_is_killed() {
    let server = Serving::start(&["--grace", "200ms"]);
    let watching = server.watch(&["slide"]);
    let start = |name: &str| Running::start(example("presenter", &[&server.url, "r", name]));
    let mut ana = start("Ana");
    assert_eq!((ana.stdout.next(), ana.stdout.next()), ("Ana waits".into(), "Ana presents".into()));
    ana.tell("Welcome");
    watching.stdout.with("slide = \"Welcome\"");
    let mut ben = start("Ben");
    assert_eq!(ben.stdout.next(), "Ben waits");
    ana.signal("KILL");
    assert_eq!(ben.stdout.next(), "Ben presents");
    ben.tell("Thank you");
    watching.stdout.with("Ben  slide = \"Thank you\"");
    assert_eq!(ben.end().code(), 0);
    assert_eq!(server.output(&["keys", "$lock/"]), "", "handed back at the end");
}

#[test]
fn the_settings_of_the_manual_are_those_of_the_program() {
    let manual = include_str!("../docs/operate.md");
    let (_, file) = manual.split_once("```toml\n").expect("the file");
    let file = file.split_once("```").expect("its end").0;
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let secret = directory.join("readme-secret");
    std::fs::write(&secret, "s3cret").expect("a file");
    let here = file.replace("/etc/sstore/secret", secret.to_str().expect("UTF-8")).replace("0.0.0.0", "127.0.0.1");
    let config = directory.join("readme.toml");
    std::fs::write(&config, here).expect("a file");
    let mut serve = sstore(&["serve", "--port", "0"]);
    serve.arg("--config").arg(config);
    let server = Serving::command(serve);
    assert_eq!(server.run(&["get", "a"]).code(), 4, "it asks for a token");
}

#[test]
fn the_requests_of_the_page_about_the_http_api_are_answered_as_it_says() {
    let page = include_str!("../docs/http-api.md");
    let script =
        page.split("\n```sh\n").nth(2).and_then(|block| block.split("\n```").next()).expect("the second block");
    let secret = ("SSTORE_API_SECRET", "a secret of the test");
    let mut serve = sstore(&["serve", "--port", "0"]);
    serve.env(secret.0, secret.1);
    let server = Serving::command(serve);
    let here = script.replace("http://127.0.0.1:7350", &server.url.replace("ws://", "http://"));
    let bin = Path::new(env!("CARGO_BIN_EXE_sstore")).parent().expect("a directory");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
    let mut shell = Command::new("/bin/sh");
    shell.arg("-euc").arg(here).env(secret.0, secret.1).env("PATH", path);
    let ended = run(shell);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let answers: Vec<serde_json::Value> = serde_json::Deserializer::from_str(&ended.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let [prepared, set, keys, transacted] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((&prepared["room"], &prepared["keys"]), (&"lobby".into(), &1.into()), "{prepared}");
    assert_eq!(set["data"], "peer-1", "{set}");
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2), "{keys}");
    assert_eq!((&transacted["revision"], &transacted["states"][0]["data"]), (&3.into(), &1.into()), "{transacted}");
    assert_eq!(server.run(&["get", "--room", "lobby", "votes"]).code(), 5, "the room was closed");
}
