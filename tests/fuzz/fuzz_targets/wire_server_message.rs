//! Frames as a server might send them: whatever they are, a client gets a message or an error,
//! and what it can write again it reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sessionstore::core::wire::{self, Body, ServerMessage};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Changes and answers with a state have a parser of their own; a space before the message keeps it away.
    let spaced = format!(" {text}");
    let (one, other) = (
        wire::parse_server_message(text, &mut wire::Known::default()),
        wire::parse_server_message(&spaced, &mut wire::Known::default()),
    );
    match (one, other) {
        (
            Ok(ServerMessage::Changes { states: a, snapshot: s }),
            Ok(ServerMessage::Changes { states: b, snapshot: t }),
        ) => {
            assert_eq!((a, s), (b, t));
        }
        (Ok(ServerMessage::Result { id: a, body: one }), Ok(ServerMessage::Result { id: b, body: other })) => {
            let read = [one, other].map(|body| wire::parse_state(body, &mut wire::Known::default()).ok());
            assert_eq!((a, &read[0]), (b, &read[1]));
        }
        (one, other) => assert_eq!(one.is_ok(), other.is_ok()),
    }
    match wire::parse_server_message(text, &mut wire::Known::default()) {
        Ok(ServerMessage::Changes { states, snapshot }) => {
            let mut frame = Vec::new();
            let pairs = states.iter().map(|(state, replaced)| (&**state, *replaced));
            wire::write_changes(&mut frame, pairs, snapshot);
            let frame = std::str::from_utf8(&frame).expect("frames are UTF-8");
            match wire::parse_server_message(frame, &mut wire::Known::default()) {
                Ok(ServerMessage::Changes { states: again, snapshot: s }) => {
                    assert_eq!((again.len(), s), (states.len(), snapshot));
                    for ((one, n), (other, m)) in states.iter().zip(&again) {
                        assert_eq!(
                            (&one.key, &one.value, one.version, n),
                            (&other.key, &other.value, other.version, m)
                        );
                        assert_eq!((&one.author, one.updated_at), (&other.author, other.updated_at));
                        assert_eq!((one.cause, one.expires_at), (other.cause, other.expires_at));
                    }
                }
                other => panic!("changes became {other:?}"),
            }
        }
        Ok(ServerMessage::Result { body: Body::Json(body), .. }) => {
            let body = || Body::Json(body);
            let _ = (wire::parse_state(body(), &mut wire::Known::default()).is_ok(), wire::parse_welcome(body()).is_ok());
            let _ = (wire::parse_peer_list(body()).is_ok(), wire::parse_lease(body()).is_ok());
            let _ = (wire::parse_states(body(), &mut wire::Known::default()).is_ok(), wire::parse_usage(body()).is_ok());
            let _ = wire::parse_keys(body()).is_ok();
        }
        Ok(ServerMessage::Refused { id: _, error }) => assert!(!error.to_string().is_empty()),
        Ok(_) => {}
        Err(error) => assert!(!error.message().is_empty()),
    }
});
