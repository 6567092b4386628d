//! Those who watch a room from outside, by the HTTP API: they are told what happens in it, and are no peers.

use std::sync::Arc;

use tokio::sync::mpsc::{channel, Receiver, Sender};

use super::operate::{PeerView, Who};
use super::room_host::Inner;
use crate::core::names;
use crate::core::room::{Change, Event, Peer};

/// What may wait for one who watches. Who does not keep up is let go, and begins again with a snapshot: this is some
/// seconds of a busy room.
const QUEUE: usize = 256;

/// What one who watches wants to see; neither keys nor prefixes: everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub keys: Vec<String>,
    pub prefixes: Vec<String>,
}

impl Selection {
    fn has(&self, key: &str) -> bool {
        (self.keys.is_empty() && self.prefixes.is_empty())
            || self.keys.iter().any(|have| have == key)
            || self.prefixes.iter().any(|prefix| names::begins_with(key, prefix))
    }
}

/// What is told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// Where everything begins: who is there, and what is set.
    Snapshot {
        session_id: Arc<str>,
        revision: u64,
        peers: Vec<PeerView>,
        states: Vec<Arc<Change>>,
    },
    /// The changes of one revision.
    Changes(Vec<Arc<Change>>),
    PeerJoined(PeerView),
    PeerUpdated(PeerView),
    PeerLeft {
        peer_id: Arc<str>,
        connection_lost: bool,
    },
    /// There is no session, or no longer.
    Closed,
}

/// One who watches.
pub(super) struct Watcher {
    who: Who,
    selection: Selection,
    send: Sender<Told>,
    /// So many of the happenings that wait are in the snapshot it has had.
    knows: usize,
}

/// What happened and has not been told, because it has not been kept; and to whom it will be.
#[derive(Default)]
pub(super) struct Watch {
    watchers: Vec<Watcher>,
    untold: Vec<Told>,
    /// Changes of a revision that are not all there yet.
    together: Vec<Arc<Change>>,
}

impl Watch {
    pub fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }
}

impl Inner {
    /// Begins to tell somebody what happens. What comes first is what holds now.
    pub fn watch(&mut self, who: Who, selection: Selection) -> Receiver<Told> {
        let (send, receive) = channel(QUEUE);
        // The queue is empty, so there is room.
        let _ = send.try_send(self.snapshot_for(&who, &selection));
        self.unwatch();
        let watching = self.watching.get_or_insert_default();
        let knows = watching.untold.len();
        watching.watchers.push(Watcher { who, selection, send, knows });
        receive
    }

    /// Forgets those who have gone.
    pub fn unwatch(&mut self) {
        self.keep_watchers(|watcher| !watcher.send.is_closed());
    }

    /// Lets go those whose rights may be others now: they come again.
    pub fn unwatch_roles(&mut self) {
        self.keep_watchers(|watcher| watcher.who.role.is_none());
    }

    fn keep_watchers(&mut self, stays: impl FnMut(&Watcher) -> bool) {
        let Some(watching) = &mut self.watching else { return };
        watching.watchers.retain(stays);
        if watching.watchers.is_empty() {
            self.watching = None;
        }
    }

    fn snapshot_for(&self, who: &Who, selection: &Selection) -> Told {
        let Some(session_id) = self.room.session_id().cloned() else { return Told::Closed };
        let is_meant = |state: &&Arc<Change>| selection.has(&state.key) && self.room.shows(who.operator(), &state.key);
        Told::Snapshot {
            session_id,
            revision: self.room.revision(),
            peers: self.peers_for(who),
            states: self.room.entries().filter(is_meant).cloned().collect(),
        }
    }

    /// Remembers what is to be told.
    pub(super) fn note(&mut self, event: &Event) {
        let Some(watching) = &mut self.watching else { return };
        let view = |peer: &Peer| PeerView::of(peer);
        let told = match event {
            Event::PeerJoined(peer) => self.room.peer(*peer).map(view).map(Told::PeerJoined),
            Event::PeerUpdated(peer) => self.room.peer(*peer).map(view).map(Told::PeerUpdated),
            Event::PeerLeft { peer_id, connection_lost, .. } => {
                Some(Told::PeerLeft { peer_id: peer_id.clone(), connection_lost: *connection_lost })
            }
            Event::Changed { change, more, .. } => {
                watching.together.push(change.clone());
                (!more).then(|| Told::Changes(std::mem::take(&mut watching.together)))
            }
            Event::SessionEnded(_) => Some(Told::Closed),
            Event::SessionStarted => {
                let session_id = self.room.session_id().cloned().unwrap_or_default();
                Some(Told::Snapshot { session_id, revision: 0, peers: Vec::new(), states: Vec::new() })
            }
            Event::ListeningChanged { .. }
            | Event::LockTaken { .. }
            | Event::LockGranted { .. }
            | Event::LockRefused { .. } => None,
        };
        watching.untold.extend(told);
    }

    /// Tells what happened, once it has been kept.
    pub(super) fn tell_watchers(&mut self) {
        let Some(mut watching) = self.watching.take_if(|watching| watching.has_untold()) else { return };
        let untold = std::mem::take(&mut watching.untold);
        watching.watchers.retain_mut(|watcher| {
            let knows = std::mem::take(&mut watcher.knows);
            let news = untold.iter().skip(knows).filter_map(|told| self.as_seen_by(watcher, told));
            // Fails when it has gone, or does not keep up: then it comes again.
            news.into_iter().try_for_each(|told| watcher.send.try_send(told)).is_ok()
        });
        if !watching.watchers.is_empty() {
            self.watching = Some(watching);
        }
    }

    fn as_seen_by(&self, watcher: &Watcher, told: &Told) -> Option<Told> {
        let Watcher { who, selection, .. } = watcher;
        match told {
            Told::Changes(changes) => {
                let is_meant = |key: &str| selection.has(key) && self.may_see(who, key);
                let seen: Vec<_> = changes.iter().filter(|change| is_meant(&change.key)).cloned().collect();
                (!seen.is_empty()).then_some(Told::Changes(seen))
            }
            Told::PeerJoined(_) | Told::PeerUpdated(_) | Told::PeerLeft { .. } if !self.may_see_peers(who) => None,
            told => Some(told.clone()),
        }
    }
}
