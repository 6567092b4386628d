//! A room as a stream of server-sent events, as the HTTP API's `watch` sends it.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::CONTENT_TYPE;
use hyper::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::{foreign, parse, room_path, unanswered, Api, Peer};
use super::exit::Failure;
use crate::core::wire::{parse_state, Body, Known};
use crate::http_client::Answer;
use crate::{Change, Error, ErrorCode};

/// Largest event, in bytes: what holds in a room whose limits were raised a hundredfold, with as much again for peers.
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// After so much silence the connection counts as lost: the server sends a line each 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// What happened in a room.
#[derive(Debug)]
pub(super) enum Happening {
    /// Everything that holds now; first, and again after what was missed.
    Snapshot {
        session_id: String,
        revision: u64,
        peers: Vec<Peer>,
        values: Vec<Arc<Change>>,
    },
    Changes {
        revision: u64,
        values: Vec<Arc<Change>>,
    },
    /// A peer came, or is another now.
    Peer(Peer),
    PeerLeft(String),
    /// There is no session; the next one begins with a snapshot.
    Closed,
}

/// The stream.
pub(super) struct Events {
    answer: Answer,
    reader: Reader,
    known: Known,
}

impl Events {
    /// Begins to watch everything in a room.
    pub(super) async fn of_room(api: &Api, room: &str) -> Result<Events, Failure> {
        let answer = api.send(Method::GET, &format!("{}/watch", room_path(room)), None).await?;
        let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return Err(foreign(answer.status.as_str()));
        }
        Ok(Events { answer, reader: Reader::default(), known: Known::default() })
    }

    /// The next event that this version knows. The end of the stream is a failure, as no server ends it but to stop.
    pub(super) async fn next(&mut self) -> Result<Happening, Failure> {
        loop {
            while let Some((name, data)) = self.reader.next() {
                if let Some(happening) = understand(&name, &data, &mut self.known)? {
                    return Ok(happening);
                }
            }
            let lost = |message: &'static str| Failure::from(Error::new(ErrorCode::ConnectionLost, message));
            match tokio::time::timeout(SILENCE, self.answer.more()).await {
                Err(_) => return Err(lost("the server is silent")),
                Ok(Err(error)) => return Err(unanswered(&error, false)),
                Ok(Ok(None)) => return Err(lost("the server ended the stream")),
                Ok(Ok(Some(bytes))) => self.reader.take(&bytes)?,
            }
        }
    }
}

fn understand(name: &str, data: &str, known: &mut Known) -> Result<Option<Happening>, Failure> {
    #[derive(Deserialize)]
    struct Snapshot {
        session_id: String,
        revision: u64,
        peers: Vec<Peer>,
        values: Vec<Box<RawValue>>,
    }
    #[derive(Deserialize)]
    struct Changes {
        revision: u64,
        values: Vec<Box<RawValue>>,
    }
    #[derive(Deserialize)]
    struct Gone {
        peer_id: String,
    }
    let mut states = |values: Vec<Box<RawValue>>| -> Result<Vec<Arc<Change>>, Error> {
        values.iter().map(|state| parse_state(Body::Json(state), known).map(Arc::new)).collect()
    };
    Ok(Some(match name {
        "snapshot" => {
            let Snapshot { session_id, revision, peers, values } = parse(data)?;
            Happening::Snapshot { session_id, revision, peers, values: states(values)? }
        }
        "changes" => {
            let Changes { revision, values } = parse(data)?;
            Happening::Changes { revision, values: states(values)? }
        }
        "peer-join" | "peer-update" => Happening::Peer(parse(data)?),
        "peer-leave" => Happening::PeerLeft(parse::<Gone>(data)?.peer_id),
        "closed" => Happening::Closed,
        _ => return Ok(None),
    }))
}

/// Puts events together from the pieces in which they come.
#[derive(Default)]
struct Reader {
    /// What has come of a line.
    line: Vec<u8>,
    name: String,
    data: String,
    has_data: bool,
    /// Events that are complete, the oldest first.
    ready: std::collections::VecDeque<(String, String)>,
}

impl Reader {
    fn next(&mut self) -> Option<(String, String)> {
        self.ready.pop_front()
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, behind) = rest.split_at(end);
            self.line.extend_from_slice(line);
            rest = behind.get(1..).unwrap_or_default();
            let line = std::mem::take(&mut self.line);
            self.read_line(&String::from_utf8_lossy(&line));
        }
        self.line.extend_from_slice(rest);
        if self.line.len() + self.data.len() > MAX_EVENT_BYTES {
            let message = format!("the server sent an event with more than {MAX_EVENT_BYTES} bytes");
            return Err(Error::new(ErrorCode::MessageTooLarge, message).into());
        }
        Ok(())
    }

    fn read_line(&mut self, line: &str) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            if std::mem::take(&mut self.has_data) {
                self.ready.push_back((name, data));
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data += value;
            }
            // Comments, which keep the connection alive, and what is not used here.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_together_from_any_pieces() {
        let text = "event: closed\r\ndata: {}\r\n\r\n: keep-alive\n\nevent: x\ndata: a\ndata:é\nid: 7\n\ndata: {}\n\n";
        for piece in 1..text.len() {
            let mut reader = Reader::default();
            text.as_bytes().chunks(piece).for_each(|bytes| reader.take(bytes).expect("short enough"));
            let all: Vec<_> = std::iter::from_fn(|| reader.next()).collect();
            let expected = [("closed", "{}"), ("x", "a\né"), ("", "{}")];
            assert_eq!(all, expected.map(|(name, data)| (name.to_owned(), data.to_owned())), "pieces of {piece}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_alike_in_any_pieces(
            bytes in proptest::collection::vec(proptest::sample::select(b"event: data\r\n\xc3\xa9{}0".to_vec()), 0..200),
            piece in 1..40usize,
        ) {
            let read = |piece: usize| {
                let (mut reader, mut known) = (Reader::default(), Known::default());
                bytes.chunks(piece).for_each(|bytes| reader.take(bytes).expect("short enough"));
                let events: Vec<_> = std::iter::from_fn(|| reader.next()).collect();
                // What it means is nothing or an error, and never a fault.
                events.iter().for_each(|(name, data)| drop(understand(name, data, &mut known)));
                events
            };
            proptest::prop_assert_eq!(read(piece), read(bytes.len().max(1)));
        }
    }

    #[test]
    fn an_event_without_an_end_is_not_kept() {
        let mut reader = Reader::default();
        let piece = vec![b'x'; MAX_EVENT_BYTES / 4];
        let failed = (0..8).find_map(|_| reader.take(&piece).err()).expect("refused");
        assert!(failed.to_string().contains("MESSAGE_TOO_LARGE"), "{failed}");
    }

    #[test]
    fn events_are_understood_and_unknown_ones_passed_over() {
        let mut known = Known::default();
        let peer =
            r#"{"peer_id":"p","user_id":"","name":"Ana","role":"host","metadata":"","joined_at":1,"connected":true}"#;
        let state = r#"{"key":"a","data":{"x":1},"change_version":7,"updated_by":"p","author":{"user_id":"","name":"Ana"},"updated_at":5}"#;
        let data = format!(r#"{{"session_id":"s","revision":7,"peers":[{peer}],"values":[{state}]}}"#);
        let Ok(Some(Happening::Snapshot { revision: 7, peers, values, .. })) =
            understand("snapshot", &data, &mut known)
        else {
            panic!("no snapshot")
        };
        assert_eq!((&*peers[0].name, values[0].value.json()), ("Ana", "{\"x\":1}"));
        assert!(matches!(understand("peer-update", peer, &mut known), Ok(Some(Happening::Peer(_)))));
        assert!(matches!(understand("closed", "{}", &mut known), Ok(Some(Happening::Closed))));
        assert!(matches!(understand("weather", "sunny", &mut known), Ok(None)));
        assert!(understand("changes", "{}", &mut known).is_err());
    }
}
