//! What happens in a room, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{poll_fn, Stream};
use serde::Serialize;
use tokio::sync::mpsc::{channel, Receiver, Sender};
use utoipa::ToSchema;

use super::answer::{Parted, Peer, Refusal, State as KeyState, Told as Error};
use super::caller::{Caller, Scope};
use super::{Context, Shown};
use crate::core::error::ErrorCode;
use crate::core::limits::MAX_TRANSACTION_PARTS;
use crate::core::names;
use crate::core::room::{Change, Time};
use crate::server::clock::Clock;
use crate::server::operate::{in_any_room, Who};
use crate::server::shard::ToShard;
use crate::server::watch::{Selection, Told};

/// A line without meaning is sent after so much silence, in milliseconds, so that no proxy takes the connection for
/// dead: most wait for 30 s or more.
const KEEP_ALIVE_MS: u64 = 15_000;

/// So often it is looked whether a token has expired, in milliseconds: the clock may be set meanwhile.
const LOOK_MS: u64 = 1_000;

/// Events that are made ready for a socket that does not take them yet.
const READY: usize = 16;

/// Everything that holds now; again after what the reader missed, and when a session begins.
#[derive(Serialize, ToSchema)]
pub(super) struct Snapshot {
    session_id: String,
    revision: u64,
    /// In the order in which they joined
    peers: Vec<Peer>,
    /// The keys that are set
    values: Vec<KeyState>,
}

/// The changes of one revision.
#[derive(Serialize, ToSchema)]
pub(super) struct Changes {
    revision: u64,
    values: Vec<KeyState>,
}

/// Who has gone.
#[derive(Serialize, ToSchema)]
pub(super) struct Gone {
    peer_id: String,
    /// Whether its grace period ran out, rather than that it left
    connection_lost: bool,
}

/// One event. Its name is `snapshot`, `changes`, `peer-join`, `peer-update`, `peer-leave` or `closed`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code)] // It describes the stream.
pub(super) enum Happening {
    Snapshot(Snapshot),
    Changes(Changes),
    Peer(Peer),
    Gone(Gone),
    Closed {},
}

fn event(told: Told) -> Result<Event, axum::Error> {
    let states = |states: Vec<Arc<Change>>| states.into_iter().map(KeyState).collect::<Vec<_>>();
    match told {
        Told::Snapshot { session_id, revision, peers, states: values } => {
            Event::default().event("snapshot").json_data(Snapshot {
                session_id: session_id.to_string(),
                revision,
                peers: peers.into_iter().map(Peer::from).collect(),
                values: states(values),
            })
        }
        Told::Changes(changes) => {
            let revision = changes.first().map_or(0, |change| change.version);
            Event::default().event("changes").json_data(Changes { revision, values: states(changes) })
        }
        Told::PeerJoined(peer) => Event::default().event("peer-join").json_data(Peer::from(peer)),
        Told::PeerUpdated(peer) => Event::default().event("peer-update").json_data(Peer::from(peer)),
        Told::PeerLeft { peer_id, connection_lost } => {
            Event::default().event("peer-leave").json_data(Gone { peer_id: peer_id.to_string(), connection_lost })
        }
        Told::Closed => Ok(Event::default().event("closed").data("{}")),
    }
}

/// What the query selects: any number of `key` and `prefix`.
fn selection(query: Option<&str>) -> Result<Selection, Refusal> {
    let mut selection = Selection::default();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "key" => {
                names::check_key(&value)?;
                selection.keys.push(value.into_owned());
            }
            "prefix" => {
                names::check_prefix(&value)?;
                selection.prefixes.push(value.into_owned());
            }
            _ => {
                let message = "a parameter is neither key nor prefix";
                return Err(Refusal::new(400, ErrorCode::InvalidArgument, message));
            }
        }
    }
    if selection.keys.len() + selection.prefixes.len() > MAX_TRANSACTION_PARTS {
        let message = "too many keys and prefixes; leave them out to watch everything";
        return Err(Refusal::new(400, ErrorCode::InvalidArgument, message));
    }
    Ok(selection)
}

/// Watch a room
///
/// Server-sent events: `snapshot` with everything that holds, then `changes`, `peer-join`, `peer-update`, `peer-leave`; `closed`
/// when the session ends, or if there is none. The stream goes on with the next session, and ends with the token.
/// Without keys and prefixes everything is watched, locks (`$lock/`) too.
#[utoipa::path(get, path = "/v1/rooms/{room}/watch", tag = "keys", params(
        ("room" = String, Path, description = "The room's name"),
        ("key" = Option<Vec<String>>, Query, description = "A key to watch; may be given several times"),
        ("prefix" = Option<Vec<String>>, Query, description = "The beginning of keys to watch; may be given several times")),
    responses(
        (status = 200, description = "Events, until one side has enough", content_type = "text/event-stream", body = Happening),
        (status = 400, description = "This cannot be a room's name, a key or a prefix", body = Error),
        (status = 401, description = "No token, or a wrong one", body = Error),
        (status = 403, description = "The token lacks the scope `read`, or is for another room", body = Error)))]
pub(super) async fn watch(
    State(context): Shown,
    caller: Caller,
    Parted(room): Parted<String>,
    RawQuery(query): RawQuery,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    caller.needs(Scope::Read, &room)?;
    let selection = selection(query.as_deref())?;
    let watched = Watched { context, room, who: caller.who, selection };
    let told = watched.begin().await?;
    let (send, mut receive) = channel(READY);
    tokio::task::spawn_local(watched.pass_on(told, send, caller.expires_at));
    let events = poll_fn(move |context| receive.poll_recv(context).map(|event| event.map(Ok)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_millis(KEEP_ALIVE_MS))))
}

struct Watched {
    context: Arc<Context>,
    room: String,
    who: Who,
    selection: Selection,
}

impl Watched {
    async fn begin(&self) -> Result<Receiver<Told>, Refusal> {
        let (who, selection) = (self.who.clone(), self.selection.clone());
        Ok(in_any_room(&self.context.shared, self.room.clone(), move |inner, _| Ok(inner.watch(who, selection)))
            .await?)
    }

    /// Passes on what is told, until the reader has gone, the token has expired, or the server stops.
    async fn pass_on(self, mut told: Receiver<Told>, send: Sender<Event>, expires_at: Time) {
        let mut stopping = self.context.stopping.clone();
        let all = async {
            loop {
                let Some(next) = told.recv().await else {
                    // It did not keep up, or its rights are others now.
                    match self.begin().await {
                        Ok(again) => told = again,
                        Err(_) => return,
                    }
                    continue;
                };
                let Ok(event) = event(next) else { return };
                if send.send(event).await.is_err() {
                    return;
                }
            }
        };
        let expired = async {
            loop {
                match expires_at.saturating_sub(Clock::wall()) {
                    0 => return,
                    left => tokio::time::sleep(Duration::from_millis(left.min(LOOK_MS))).await,
                }
            }
        };
        tokio::select! {
            () = all => {}
            () = send.closed() => {}
            () = expired => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        drop(told);
        let (shared, room) = (&self.context.shared, self.room);
        let shard = shared.shards.get(shared.shard_of(&room));
        let forget = move |shard: &std::rc::Rc<crate::server::shard::Shard>| {
            if let Some(host) = shard.existing_room(&room) {
                host.turn(|inner| inner.unwatch());
                shard.drop_if_unused(&host);
            }
        };
        // Fails when that loop has ended, and all is forgotten.
        let _ = shard.map(|shard| shard.send(ToShard::Do(Box::new(forget))));
    }
}
