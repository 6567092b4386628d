//! `wss`: whom a client trusts, whom a server lets in, and that everything else is as without TLS.
#![cfg(all(feature = "client", feature = "server", feature = "tls"))]

mod certificates;
mod support;

use std::path::Path;
use std::sync::mpsc;

use certificates::{Authority, Identity};
use sessionstore::{Client, ClientOptions, Error, KeyChange, Server, Store, TlsOptions};
use support::{server_with, SAFETY};

fn tls(identity: &Identity) -> Option<TlsOptions> {
    Some(TlsOptions { certificate: identity.certificate.clone(), key: identity.key.clone(), client_ca: None })
}

fn secure(identity: &Identity) -> Server {
    server_with(|options| options.tls = tls(identity))
}

fn trusting(url: &str, ca: &Path) -> ClientOptions {
    ClientOptions { ca_file: Some(ca.to_owned()), fail_fast: true, ..ClientOptions::new(url, "r") }
}

fn try_join(options: ClientOptions) -> Result<(Client, Store), Error> {
    let client = Client::open(options, ())?;
    let store = client.join_wait(SAFETY)?;
    Ok((client, store))
}

fn join(url: &str, ca: &Path) -> (Client, Store) {
    try_join(trusting(url, ca)).expect("joined")
}

/// The error of a join that must fail, with everything a person is told.
fn refused(options: ClientOptions) -> Error {
    match try_join(options) {
        Ok(_) => panic!("joined"),
        Err(error) => error,
    }
}

#[test]
fn a_room_is_shared_over_wss() {
    let authority = Authority::new();
    let server = secure(&authority.server());
    assert!(server.url().starts_with("wss://127.0.0.1:"), "{}", server.url());
    let (_ana, ours) = join(&server.url(), &authority.file());
    let (_ben, theirs) = join(&server.url().replace("127.0.0.1", "localhost"), &authority.file());
    let (told, heard) = mpsc::channel();
    let _listening = theirs
        .listen(&["k"], move |change: KeyChange<'_>| {
            if let KeyChange::Event(event) = change {
                let _ = told.send(event.change.value.json().to_owned());
            }
        })
        .expect("listening");
    assert_eq!(heard.recv_timeout(SAFETY).expect("the snapshot"), "null");
    ours.set("k", "hello".into()).wait(SAFETY).expect("set");
    assert_eq!(heard.recv_timeout(SAFETY).expect("the change"), "\"hello\"");
}
