//! What slow clients cost the server. A binary of its own, one test at a time, because it looks at
//! the memory of the process.

#[cfg(feature = "tls")]
mod certificates;
mod common;

use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::*;
use serde_json::json;
use sessionstore::Server;
use tungstenite::Message;

static ALONE: Mutex<()> = Mutex::new(());

/// Bytes this process has resident.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4_096
}

#[test]
fn a_slow_reader_ends_with_the_newest_values_and_delays_nobody() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = server_with(|options| {
        options.threads = 1;
        options.queue_bytes = 16 * 1024;
    });
    follow_slowly(&server, || reach(&server), 3_000);
}

/// TLS buffers no more than a record beyond the queue, and what it drops is dropped in whole frames.
#[cfg(feature = "tls")]
#[test]
fn a_slow_reader_over_tls_does_so_too() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let authority = certificates::Authority::new();
    let server = server_with(|options| {
        options.threads = 1;
        options.queue_bytes = 16 * 1024;
        options.tls = Some(authority.server().options());
    });
    follow_slowly(&server, || authority.secure(reach(&server), None), 3_000);
}

/// Somebody who does not read, and somebody who does, while far more is written than any buffer holds.
fn follow_slowly<S: Read + Write>(server: &Server, reach: impl Fn() -> S, rounds: u64) {
    let keys: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (mut slow, _) = Client::listening_over(reach(), server, "r", "slow", &names);
    let (mut quick, _) = Client::listening_over(reach(), server, "r", "quick", &["k0"]);
    let mut writer = Client::join_over(reach(), server, "room=r&peer=writer&name=writer");
    quick.expect("on-peer-join");
    slow.expect("on-peer-join");
    slow.expect("on-peer-join");

    // Far more than the system buffers for one socket; `quick` follows all of its part.
    let before = resident();
    let payload = "x".repeat(1_000);
    for round in 0..rounds {
        let ids: Vec<String> = keys
            .iter()
            .map(|key| writer.ask("set-metadata", json!({"key": key, "data": format!("{round:06}{payload}")})))
            .collect();
        for id in ids {
            writer.result(&id);
        }
        assert_eq!(quick.change().2, round * 10 + 1);
    }
    let late = Client::join_over(reach(), server, "room=r&peer=late&name=late");
    quick.expect("on-peer-join");
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more resident after 36 MB of changes to a client that does not read");

    // Now it reads: everything in order, with a gap that is accounted for.
    let mut version = 0;
    let mut seen = 0;
    let mut replaced = 0;
    let mut last = vec![0u64; keys.len()];
    while version < rounds * 10 {
        let params = slow.expect("on-metadata-change");
        for state in params["values"].as_array().expect("values") {
            let newer = state["change_version"].as_u64().expect("a version");
            assert!(newer > version, "{newer} after {version}");
            version = newer;
            seen += 1;
            replaced += state["replaced"].as_u64().unwrap_or(0);
            let key = keys.iter().position(|key| state["key"] == **key).expect("a key listened to");
            last[key] = newer;
        }
    }
    assert!(replaced > 0, "nothing was dropped, so this test shows nothing");
    assert_eq!(seen + replaced, rounds * 10, "every change is seen or counted");
    assert_eq!(last, (0..10).map(|n| (rounds - 1) * 10 + n + 1).collect::<Vec<_>>());
    // What it missed of peers came as one list.
    let list = slow.expect("peer-list");
    assert!(list["peers"].get("late").is_some(), "{list}");
    // And it is whole again.
    slow.set("k3", json!("after"));
    assert_eq!(slow.change().1, json!("after"));
    drop(late);
}

#[test]
fn answers_do_not_pile_up_for_who_does_not_read_them() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = server_with(|options| {
        options.threads = 1;
        options.queue_bytes = 16 * 1024;
    });
    let mut greedy = Client::join(&server, "r", "greedy");
    greedy.set("k", json!("x".repeat(1_000)));
    let before = resident();
    // Requests without reading answers, until the server stops reading them.
    let get = json!({"jsonrpc": "2.0", "id": "g", "method": "get-metadata", "params": {"key": "k"}}).to_string();
    greedy.socket.get_ref().set_write_timeout(Some(Duration::from_millis(200))).expect("set");
    let mut asked = 0;
    while greedy.socket.send(Message::text(get.clone())).is_ok() {
        asked += 1;
        assert!(asked < 10_000_000, "the server reads without end");
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more resident");
    // The rest of the house goes on.
    let mut other = Client::join(&server, "r", "other");
    other.set("k", json!(1));
}
