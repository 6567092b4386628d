//! `sstore` and a C program over `wss`, the origins that are allowed, and what logs must not have.
#![cfg(all(feature = "cli", feature = "tls", unix))]

mod certificates;
mod compiled;
mod process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use certificates::{Authority, Identity};
use jsonwebtoken::{encode, EncodingKey, Header};
use process::{run, sstore, Ended, Serving, PATIENCE};
use serde_json::json;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A file of this test.
fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-tls-{name}"));
    std::fs::write(&path, text).expect("a file");
    path
}

fn serving(identity: &Identity, more: &[&str]) -> Serving {
    let files = ["--tls-cert", text(&identity.certificate), "--tls-key", text(&identity.key), "--linger", "1h"];
    Serving::start(&[&files, more].concat())
}

/// Asserts that a command ended with this code and one line that has this in it.
fn told(ended: &Ended, code: i32, part: &str) {
    assert!(ended.code() == code && ended.stderr.contains(part), "{ended:?}, not {code} and {part:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

#[test]
fn commands_reach_a_server_over_wss() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let identity = authority.server();
    let server = serving(&identity, &["--tls-client-ca", text(&clients.file())]);
    assert!(server.url.starts_with("wss://"), "{}", server.url);
    let (ana, ca) = (clients.identity(&["ana"]), authority.file());
    let shown = ["--client-cert", text(&ana.certificate), "--client-key", text(&ana.key), "--ca-file", text(&ca)];
    assert_eq!(server.output(&[&["set", "a", "1"], &shown[..]].concat()), "");
    let mut by_environment = server.sstore(&["get", "a"]);
    by_environment.env("SSTORE_CA_FILE", &ca);
    by_environment.env("SSTORE_CLIENT_CERT", &ana.certificate).env("SSTORE_CLIENT_KEY", &ana.key);
    let ended = run(by_environment);
    assert_eq!((ended.code(), &*ended.stdout), (0, "1\n"), "{ended:?}");

    told(&server.run(&["get", "a", "--ca-file", text(&ca)]), 3, "TLS_FAILED");
    told(&server.run(&["get", "a", "--ca-file", text(&clients.file())]), 3, "signed by nobody this client trusts");
    told(&server.run(&["get", "a", "--ca-file", "/no/such/file"]), 2, "/no/such/file cannot be read");
    assert_eq!(server.run(&["get", "a", "--client-cert", text(&ana.certificate)]).code(), 2);
    let plain = server.url.replace("wss", "ws");
    told(&server.run(&["get", "a", "--url", &plain]), 3, "use wss://");
    let elsewhere = server.url.replace("127.0.0.1", "[::ffff:127.0.0.1]");
    let ended = server.run(&[&["get", "a", "--url", &elsewhere], &shown[..]].concat());
    assert_eq!(ended.code(), 3, "the certificate is for another name: {ended:?}");
}

#[test]
fn a_c_program_hosts_and_joins_over_wss() {
    let (authority, other) = (Authority::new(), Authority::new());
    let identity = authority.server();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/secure.c");
    let mut command = Command::new(compiled::compile(&source, "secure"));
    command.args([authority.file(), identity.certificate, identity.key, other.file()]);
    let ended = run(command);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[0] == "\"peer-1\"", "{ended:?}");
    assert!(lines[1].starts_with("TLS_FAILED: the server's certificate is signed by nobody"), "{ended:?}");
}

#[test]
fn a_hangup_reads_the_certificate_again() {
    let (authority, other) = (Authority::new(), Authority::new());
    let identity = authority.server().copy();
    let settings = format!("tls_cert = {:?}\ntls_key = {:?}\n", text(&identity.certificate), text(&identity.key));
    let config = file("config.toml", &settings);
    let server = Serving::start(&["--config", text(&config), "--linger", "1h"]);
    server.output(&["set", "a", "1", "--ca-file", text(&authority.file())]);
    identity.replace_with(&other.server());
    server.process.signal("HUP");
    server.process.stderr.with("the certificate was read again");
    assert_eq!(server.output(&["get", "a", "--ca-file", text(&other.file())]), "1\n");
    std::fs::write(&identity.key, "no key").expect("written");
    server.process.signal("HUP");
    let said = server.process.stderr.with("the old certificate stays in force");
    assert!(said.contains("has no private key in PEM") && said.contains(text(&identity.key)), "{said}");
    assert_eq!(server.output(&["get", "a", "--ca-file", text(&other.file())]), "1\n");
    assert_eq!(server.stop().code(), 0);
}

#[test]
fn a_server_with_bad_files_does_not_start() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (identity, stranger) = (authority.server(), other.server());
    let serve = |arguments: &[&str]| run(sstore(&[&["serve", "--port", "0"], arguments].concat()));
    let certificate = ["--tls-cert", text(&identity.certificate)];
    told(&serve(&certificate), 2, "TLS needs both");
    told(&serve(&["--tls-client-ca", text(&authority.file())]), 2, "TLS needs both");
    let ended = serve(&[&certificate[..], &["--tls-key", "/no/such/key.pem"]].concat());
    assert!(ended.code() == 2 && ended.stderr.contains("/no/such/key.pem cannot be read"), "{ended:?}");
    let ended = serve(&[&certificate[..], &["--tls-key", text(&stranger.key)]].concat());
    assert!(ended.code() == 2 && ended.stderr.contains("is not that of the first certificate"), "{ended:?}");
    let ended = serve(&["--allow-origin", "example.org"]);
    assert!(ended.code() == 2 && ended.stderr.contains("looks like https://example.org"), "{ended:?}");
}

/// Sends a request over plain TCP and returns what comes back until the connection ends.
fn ask(server: &Serving, request: &str) -> String {
    let address = server.url.trim_start_matches("ws://");
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8(answer).expect("text")
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn pages_may_connect_as_the_settings_say() {
    let by_flags = Serving::start(&["--allow-origin", "https://a.example", "--allow-origin", "https://b.example"]);
    let mut command = sstore(&["serve", "--port", "0"]);
    command.env("SSTORE_ALLOW_ORIGIN", "https://a.example,https://b.example");
    let by_environment = Serving::command(command);
    let config = file("origins.toml", "allow_origin = [\"https://a.example\", \"https://b.example\"]\n");
    let by_file = Serving::start(&["--config", text(&config)]);
    for server in [by_flags, by_environment, by_file] {
        let request = |origin: &str| format!("GET /ws?room= HTTP/1.1\r\nHost: x\r\n{UPGRADE}Origin: {origin}\r\n\r\n");
        let answer = ask(&server, &request("https://c.example"));
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("allowed origins"), "{answer}");
        // Allowed, and then refused for another reason.
        for origin in ["https://a.example", "https://B.example"] {
            let answer = ask(&server, &request(origin));
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
        server.output(&["usage"]);
    }
}

/// At every level: the tokens of headers and queries, good ones and bad ones, the rest of a query, values,
/// metadata, the secret.
#[test]
fn logs_have_no_secrets() {
    let secret = "the-secret-that-nobody-sees";
    let claims = json!({"room_id": "r", "user_id": "ana", "role": "host", "exp": 4_000_000_000u64});
    let good = encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token");
    let bad = encode(&Header::default(), &claims, &EncodingKey::from_secret(b"another")).expect("a token");
    for format in ["text", "json"] {
        let mut command = sstore(&["serve", "--port", "0", "--log-level", "trace", "--log-format", format]);
        command.env("SSTORE_SECRET", secret);
        let server = Serving::command(command);
        let mut answers = String::new();
        for token in [&*good, &*bad, "marked-as-no-token"] {
            let join = "&join=1&data=marked-as-metadata";
            for request in [
                // Answered with an error each: the room is not the token's, the path is not there, ...
                format!("GET /ws?room=other{join}&token={token} HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n"),
                format!(
                    "GET /ws?room=other{join} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{UPGRADE}\r\n"
                ),
                format!("GET /elsewhere?token={token} HTTP/1.1\r\nHost: x\r\n\r\n"),
                format!("POST /ws?token={token} HTTP/1.1\r\nHost: x\r\n\r\n"),
                format!("GET /ws?token={token} HTTP/1.1\r\nHost: x\r\n\r\n"),
                format!("GET /healthz?token={token} HTTP/1.1\r\nHost: x\r\n\r\n"),
                format!("GET /ws?token={token} HTTP/1.1\r\nHost x\r\n\r\n"),
            ] {
                answers += &ask(&server, &request);
            }
            let mut command = server.sstore(&["set", "a", "\"marked-as-value\"", "--token", token]);
            command.env("RUST_LOG", "trace");
            let ended = run(command);
            assert_eq!(ended.code(), if token == good { 0 } else { 4 }, "{ended:?}");
            answers += &(ended.stdout + &ended.stderr);
        }
        let ended = server.stop();
        assert!(ended.stderr.contains("a handshake is refused"), "nothing was logged of it: {}", ended.stderr);
        let all = ended.stdout + &ended.stderr + &answers;
        // Its signature alone would do as well.
        let signatures = [&good, &bad].map(|token| token.rsplit('.').next().unwrap_or_default().to_owned());
        let marks = [secret, &good, &bad, &signatures[0], &signatures[1], "marked-as", "?token", "&token"];
        for mark in marks {
            assert!(!all.contains(mark), "{mark:?} was said: {all}");
        }
    }
}
