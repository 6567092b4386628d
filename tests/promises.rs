//! P2, P3, P4 and P7 of the design with many clients writing at once, over real connections.

mod support;

use std::collections::BTreeMap;
use std::sync::{mpsc, Arc, Mutex};

use sessionstore::{Change, Client, ClientOptions, Error, KeyChange, Store, Value};
use support::SAFETY;

const KEYS: [&str; 3] = ["pinned", "spotlight", "poll"];
const CLIENTS: usize = 4;
const SETS: usize = 300;

/// What one client's listener has seen.
#[derive(Default)]
struct Seen {
    /// The newest version of each key.
    versions: BTreeMap<Arc<str>, u64>,
    last_revision: u64,
    /// Changes told, and those that told ones stand for.
    changes: u64,
    /// What must not happen, in words.
    faults: Vec<String>,
}

impl Seen {
    fn note(&mut self, change: KeyChange<'_>) {
        let KeyChange::Event(event) = change else { return };
        let (change, fault) = (&event.change, &mut self.faults);
        if !event.snapshot {
            if change.version <= self.last_revision {
                fault.push(format!("revision {} after {}", change.version, self.last_revision));
            }
            self.last_revision = change.version;
            self.changes += 1 + event.replaced;
            // Each value names its writer and so does its author.
            let author = change.author.as_ref().map(|author| author.name.to_string()).unwrap_or_default();
            if !change.value.json().starts_with(&format!("\"{author} ")) {
                fault.push(format!("revision {} is attributed to {author}", change.version));
            }
        }
        self.versions.insert(change.key.clone(), change.version);
    }
}

struct Member {
    client: Client,
    store: Store,
    seen: Arc<Mutex<Seen>>,
}

fn join(url: &str, name: String) -> Member {
    let options = ClientOptions { name, max_pending: SETS * 2, ..ClientOptions::new(url, "room") };
    let client = Client::open(options, ()).unwrap();
    let store = client.join_wait(SAFETY).unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (ready, is_ready) = mpsc::channel();
    let own = seen.clone();
    let listener = move |change: KeyChange<'_>| {
        if matches!(change, KeyChange::SnapshotEnd) {
            let _ = ready.send(());
        }
        own.lock().unwrap().note(change);
    };
    store.listen(&KEYS, listener).unwrap().detach();
    is_ready.recv_timeout(SAFETY).expect("the snapshot ends");
    Member { client, store, seen }
}

#[test]
fn all_see_every_change_in_the_order_of_revisions_and_results_keep_their_word() {
    let server = support::server();
    let members: Vec<Member> = (0..CLIENTS).map(|n| join(&server.url(), format!("peer{n}"))).collect();
    let (result, results) = mpsc::channel();
    for round in 0..SETS {
        for (number, member) in members.iter().enumerate() {
            let (seen, result) = (member.seen.clone(), result.clone());
            let told = move |outcome: Result<Arc<Change>, Error>| {
                let kept = outcome.map_err(|error| error.to_string()).and_then(|change| {
                    let known = seen.lock().unwrap().versions.get(&change.key).copied();
                    match known {
                        Some(version) if version >= change.version => Ok(change.version),
                        known => {
                            Err(format!("result for version {} while the listener is at {known:?}", change.version))
                        }
                    }
                });
                let _ = result.send(kept);
            };
            let value = Value::from(&*format!("peer{number} {round}"));
            member.store.set(KEYS[(round + number) % KEYS.len()], value).on_result(told).unwrap();
        }
    }
    let total = CLIENTS * SETS;
    let mut versions: Vec<u64> = (0..total)
        .map(|_| results.recv_timeout(SAFETY).expect("every result comes").expect("and keeps its word"))
        .collect();
    versions.sort_unstable();
    assert!(versions.iter().copied().eq(1..=total as u64), "each set has its own revision");
    // One last change, which all hear of; before it they have heard everything.
    let last = members[0].store.set(KEYS[0], Value::from("peer0 last")).wait(SAFETY).unwrap();
    for member in &members {
        support::patient("the last change is told", || member.seen.lock().unwrap().last_revision == last.version);
        let seen = member.seen.lock().unwrap();
        assert_eq!(seen.faults, Vec::<String>::new(), "{}", member.client.peer_id());
        assert_eq!(seen.changes, total as u64 + 1, "nothing is lost uncounted");
        for key in KEYS {
            assert_eq!(member.store.cached(key).unwrap().version, seen.versions[key]);
        }
    }
}
