//! `sstore serve` of a build with OpenTelemetry sends its spans to a collector.
#![cfg(all(feature = "otel", unix))]

mod process;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{channel, Sender};

use process::{sstore, Serving, PATIENCE};

/// Takes what is sent to a collector: the line of each request and its body.
fn collect(listener: TcpListener, sender: Sender<(String, Vec<u8>)>) {
    for stream in listener.incoming() {
        let mut stream = BufReader::new(stream.expect("a connection"));
        stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let (mut request, mut length) = (String::new(), 0);
        if stream.read_line(&mut request).expect("a request") == 0 {
            continue;
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a header");
            if line.trim().is_empty() {
                break;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("a body");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.get_mut().write_all(answer).expect("answered");
        if sender.send((request, body)).is_err() {
            return;
        }
    }
}

#[test]
fn spans_of_requests_come_out_and_say_no_more_than_they_may() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a collector");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, collected) = channel();
    std::thread::spawn(move || collect(listener, sender));
    let mut command = sstore(&["serve", "--port", "0", "--log-level", "off"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let serving = Serving::command(command);
    serving.output(&["set", "the-key", "\"the-value\"", "--name", "Ana-Maria"]);
    let conflict = serving.run(&["set", "the-key", "1", "--if-version", "77"]);
    assert!(conflict.stderr.contains("VERSION_CONFLICT"), "{conflict:?}");
    // What is left is sent when it stops.
    serving.process.signal("TERM");
    assert_eq!(serving.process.end().code(), 0);

    let mut spans = Vec::new();
    while !["sstore", "request", "fan_out", "set-metadata", "room", "VERSION_CONFLICT"]
        .iter()
        .all(|text| has(&spans, text))
    {
        let (request, body) = collected.recv_timeout(PATIENCE).expect("spans that are not there were sent");
        assert!(request.starts_with("POST /v1/traces "), "{request}");
        spans.extend(body);
    }
    for secret in ["the-key", "the-value", "Ana-Maria"] {
        assert!(!has(&spans, secret), "{secret} is in a span");
    }
}

/// The text of a field stands in the protocol's bytes as it is.
fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
