//! What a webhook says.

use std::time::{Duration, UNIX_EPOCH};

use crate::core::room::{Change, Ended, Time};
use crate::core::wire;
use crate::server::notice::{Notice, What};

/// The last moment that RFC 3339 can write: the end of the year 9999, in milliseconds since 1970.
const LAST_DATE: Time = 253_402_300_799_999;

/// Counted for a notice and for a state beside their texts: what they take in memory at most.
const OVERHEAD_BYTES: usize = 512;

/// What the notice is called.
pub(super) fn kind(notice: &Notice) -> &'static str {
    match notice.what {
        What::Opened { .. } => "room.opened",
        What::Closed(_) => "room.closed",
    }
}

/// About how much memory a notice takes while it waits, if nobody else has its states any more.
pub(super) fn bytes(notice: &Notice) -> usize {
    let state = |change: &Change| {
        let author = change.author.as_ref().map_or(0, |a| a.peer_id.len() + a.user_id.len() + a.name.len());
        OVERHEAD_BYTES + change.key.len() + change.value.json().len() + author
    };
    let states = match &notice.what {
        What::Opened { .. } => 0,
        What::Closed(ended) => ended.entries.iter().map(|change| state(change)).sum(),
    };
    OVERHEAD_BYTES + notice.room.len() + states
}

/// The body: the same however often it is written.
pub(super) fn write(notice: &Notice) -> Vec<u8> {
    let mut out = Vec::new();
    match &notice.what {
        What::Opened { session_id, started_at } => {
            begin(&mut out, notice, *started_at, session_id, *started_at);
        }
        What::Closed(ended) => {
            let Ended { session_id, started_at, ended_at, revision, entries } = &**ended;
            begin(&mut out, notice, *ended_at, session_id, *started_at);
            out.extend_from_slice(format!(r#","ended_at":{ended_at},"revision":{revision},"state":["#).as_bytes());
            for (nth, change) in entries.iter().enumerate() {
                if nth > 0 {
                    out.push(b',');
                }
                wire::write_state(&mut out, change, 0);
            }
            out.push(b']');
        }
    }
    out.extend_from_slice(b"}}");
    out
}

fn begin(out: &mut Vec<u8>, notice: &Notice, at: Time, session_id: &str, started_at: Time) {
    let kind = kind(notice);
    let date = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at.min(LAST_DATE)));
    out.extend_from_slice(format!(r#"{{"type":"{kind}","timestamp":"{date}","data":{{"room":"#).as_bytes());
    string(out, &notice.room);
    out.extend_from_slice(br#","session_id":"#);
    string(out, session_id);
    out.extend_from_slice(format!(r#","started_at":{started_at}"#).as_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Fails for nothing: a vector takes all there is.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn hostile_names_and_times_stay_json() {
        let room: Arc<str> = "\"}],\\\u{1}</script>\u{2028}".into();
        let ended =
            Ended { session_id: "s\"".into(), started_at: 5, ended_at: u64::MAX, revision: 3, entries: Vec::new() };
        let body = write(&Notice::closed(&room, Box::new(ended)));
        let read: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(read["type"], "room.closed");
        assert_eq!(read["timestamp"], "9999-12-31T23:59:59.999Z");
        assert_eq!((&read["data"]["room"], &read["data"]["session_id"]), (&(&*room).into(), &"s\"".into()));
        assert_eq!((&read["data"]["revision"], &read["data"]["state"]), (&3.into(), &serde_json::json!([])));
    }
}
