//! Frames as a client might send them, one a line, parsed and applied to a room. Whatever they
//! are, the answer is JSON, a refusal changes nothing, the room's sums are right, and what comes again is
//! answered as the first time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sessionstore::core::names::KeyList;
use sessionstore::core::room::{Command, Event, Introduction, PeerHandle, Reply, Room, Time, LOCK_KEY_PREFIX};
use sessionstore::core::secret::Secret;
use sessionstore::core::wire::{self, ClientMessage, Text};
use sessionstore::Error;

fn join(room: &mut Room, peer_id: &str, secret: Option<Secret>) -> PeerHandle {
    let peer = Introduction { peer_id, user_id: "", name: None, role: "guest", metadata: None, secret };
    match room.apply(0, Command::Join { peer, new_session_id: "s" }, &mut Vec::new()) {
        Ok(Reply::Joined { peer, .. }) => peer,
        other => panic!("a plain join was answered with {other:?}"),
    }
}

fn texts<'a>(list: &'a [Text<'a>]) -> Vec<&'a str> {
    list.iter().map(|text| &*text.0).collect()
}

/// The command of a message that is applied once, however often it comes.
fn change<'a>(peer: PeerHandle, message: &'a ClientMessage<'a>) -> Option<Command<'a>> {
    Some(match message {
        ClientMessage::Set { key, value, expected } => {
            Command::Set { peer, key, value: value.clone(), expected: *expected }
        }
        ClientMessage::Write { write, lock } => Command::Write { peer, write: write.clone(), lock: lock.clone() },
        ClientMessage::Transact(transaction) => Command::Transact { peer, transaction: transaction.clone() },
        ClientMessage::Acquire { name, ttl_ms, wait_ms } => {
            Command::Acquire { peer, name, ttl_ms: *ttl_ms, wait_ms: *wait_ms }
        }
        ClientMessage::Release { lock } => Command::Release { peer, lock: lock.clone() },
        _ => return None,
    })
}

fn apply(
    room: &mut Room,
    now: Time,
    peer: PeerHandle,
    message: ClientMessage<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, Error> {
    if let Some(command) = change(peer, &message) {
        return room.apply(now, command, events);
    }
    let command = match &message {
        ClientMessage::Get { key } => Command::Get { peer, key },
        ClientMessage::Renew { lock, ttl_ms } => Command::Renew { peer, lock: lock.clone(), ttl_ms: *ttl_ms },
        ClientMessage::Read { keys, prefixes } => {
            let (keys, prefixes) = (texts(keys), texts(prefixes));
            return room.apply(now, Command::Read { peer, keys: &keys, prefixes: &prefixes }, events);
        }
        ClientMessage::Keys { prefix } => {
            return room.apply(now, Command::Read { peer, keys: &[], prefixes: &[prefix] }, events);
        }
        ClientMessage::Listen { keys, prefixes } => {
            let (keys, prefixes) = (KeyList::of(&texts(keys)), KeyList::of(&texts(prefixes)));
            return room.apply(now, Command::Listen { peer, keys: &keys, prefixes: &prefixes }, events);
        }
        ClientMessage::Join { name, metadata } => {
            let (name, metadata) = (name.as_deref(), metadata.as_deref());
            let peer = Introduction { peer_id: "p1", user_id: "", name, role: "guest", metadata, secret: None };
            Command::Join { peer, new_session_id: "s" }
        }
        ClientMessage::PeerUpdate { name, metadata } => {
            Command::UpdatePeer { peer, name: name.as_deref(), metadata: metadata.as_deref() }
        }
        ClientMessage::Answered { through, except } => Command::Answered { peer, through: *through, except },
        ClientMessage::Leave => Command::Leave { peer },
        ClientMessage::PeerList
        | ClientMessage::Ping { .. }
        | ClientMessage::Usage
        | ClientMessage::RenewToken { .. }
        | ClientMessage::Tracks | ClientMessage::Ignored
        // These are changes.
        | ClientMessage::Set { .. }
        | ClientMessage::Write { .. }
        | ClientMessage::Transact(_)
        | ClientMessage::Acquire { .. }
        | ClientMessage::Release { .. } => Command::Tick,
    };
    room.apply(now, command, events)
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut room = Room::new("lobby", Default::default());
    let peer = join(&mut room, "p1", None);
    join(&mut room, "p2", None);
    let mut twin = Room::new("twin", Default::default());
    let resuming = join(&mut twin, "p1", Some(Secret::new([1; 16])));
    for (now, frame) in (1..).zip(text.split('\n')) {
        let request = wire::parse_request(frame);
        // A space before it keeps a set from the parser that reads it by its form.
        let spaced = format!(" {}", frame.trim_start());
        let other = wire::parse_request(&spaced);
        let trimmed = wire::parse_request(frame.trim_start());
        assert_eq!(trimmed.id.map(|id| id.get()), other.id.map(|id| id.get()), "{frame}");
        match (&trimmed.message, &other.message) {
            (Err(one), Err(other)) => assert_eq!(one.code(), other.code(), "{frame}"),
            (one, other) => assert_eq!(format!("{one:?}"), format!("{other:?}"), "{frame}"),
        }
        let command = request.message.as_ref().ok().and_then(|message| change(resuming, message));
        if let (Some(command), Some(number)) = (command, request.id.and_then(wire::request_number)) {
            let mut answer =
                || format!("{:?}", twin.apply_once(now, resuming, number, command.clone(), &mut Vec::new()));
            let first = answer();
            // A wait begins anew.
            assert!(first.contains("Waiting") || first == answer(), "{frame}");
        }
        let number = serde_json::value::RawValue::from_string("1".to_owned()).expect("a number");
        let id = request.id.unwrap_or(&number);
        let mut answer = Vec::new();
        let mut events = Vec::new();
        match request.message {
            Err(error) => wire::write_error(&mut answer, request.id, &error),
            Ok(message) => {
                // What time brings is no part of what is asked; nor is that the room then forgets the
                // keys that went, which it does once their events were told.
                for _ in 0..2 {
                    room.apply(now, Command::Tick, &mut Vec::new()).expect("time passes");
                }
                let (before, revision) = (format!("{room:?}"), room.revision());
                match apply(&mut room, now, peer, message, &mut events) {
                    Err(error) => {
                        assert_eq!(format!("{room:?}"), before, "a refusal changed something");
                        assert!(events.is_empty(), "a refusal had events");
                        wire::write_error(&mut answer, request.id, &error);
                    }
                    Ok(Reply::State(state)) => wire::write_state_result(&mut answer, id, &state),
                    Ok(Reply::States { revision, states }) => {
                        wire::write_states_result(&mut answer, id, revision, &states);
                    }
                    Ok(Reply::Lock(lease)) => wire::write_lease_result(&mut answer, id, &lease),
                    Ok(_) => wire::write_peer_list(&mut answer, &room, None),
                }
                // Changes of one revision follow each other.
                let revisions =
                    events.iter().filter(|event| matches!(event, Event::Changed { more: false, .. })).count();
                assert_eq!(room.revision(), revision + revisions as u64);
            }
        }
        serde_json::from_slice::<&serde_json::value::RawValue>(&answer).expect("an answer is JSON");
        let kept = room.entries().filter(|entry| !entry.key.starts_with(LOCK_KEY_PREFIX));
        let sizes: Vec<usize> = kept.map(|entry| entry.key.len() + entry.value.json().len()).collect();
        let bytes: usize = sizes.iter().sum();
        assert_eq!(room.usage(), (sizes.len(), bytes));
        assert!(bytes <= room.limits().max_store_bytes);
    }
});
