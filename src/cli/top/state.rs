//! What `sstore top` knows, and what keys do to it. No terminal, no server, no clock: times are given.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;
use serde::Deserialize;

use crate::cli::api::{Bounds, Peer, Room};
use crate::cli::events::Happening;
use crate::core::limits::MAX_ROOM_BYTES;
use crate::core::names::LOCK_KEY_PREFIX;
use crate::Change;

/// Lines that a page key moves by until the height of the screen is known.
const PAGE: usize = 10;

/// The server, as it says itself.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct About {
    pub version: String,
    /// Its clock and its start, in milliseconds since 1970.
    pub now: u64,
    pub started_at: u64,
    pub rooms: usize,
    pub peers: usize,
    pub connections: usize,
    pub sockets: usize,
    pub limits: Bounds,
    /// The only room that the token is for; then the numbers above tell nothing.
    pub room: Option<String>,
}

/// One look at the server.
pub(super) struct Look {
    pub server: About,
    pub rooms: Vec<Room>,
    /// When, since the program began.
    pub at: Duration,
}

/// A room in the list.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub room: Room,
    /// Changes a second since the look before; none after the first.
    pub rate: Option<f64>,
}

/// What the rooms are sorted by: the largest first, and what is equal by what comes next here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Order {
    /// Changes a second
    Changes,
    /// Peers
    Peers,
    /// Keys that are set
    Keys,
    /// Bytes of keys and values
    Bytes,
}

impl Order {
    fn next(self) -> Order {
        match self {
            Order::Changes => Order::Peers,
            Order::Peers => Order::Keys,
            Order::Keys => Order::Bytes,
            Order::Bytes => Order::Changes,
        }
    }
}

/// How a room that is open fares.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Asked,
    Live,
    /// The room has no session.
    Closed,
    /// There is none, and why; it is asked for again.
    Lost(String),
}

/// The room that is looked into.
pub(super) struct Open {
    pub name: String,
    pub stream: Stream,
    pub session_id: String,
    pub revision: u64,
    /// In the order in which they joined.
    pub peers: Vec<Peer>,
    pub keys: BTreeMap<Arc<str>, Arc<Change>>,
    pub locks: BTreeMap<Arc<str>, Arc<Change>>,
    /// The first line that is shown.
    pub scroll: usize,
}

/// What is asked by a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Quit,
    /// Look into the room that `open` is now.
    Open,
    /// Back to the list.
    Close,
}

/// Everything that is shown.
pub(super) struct Top {
    pub url: String,
    pub server: Option<About>,
    /// When the server was seen last.
    pub seen_at: Duration,
    /// In the order in which they are shown, and only those that the filter has.
    pub rows: Vec<Row>,
    all: Vec<Row>,
    pub order: Order,
    pub filter: String,
    pub is_typing: bool,
    /// Why the server was not seen just now.
    pub problem: Option<String>,
    pub open: Option<Open>,
    /// The room that somebody moved to.
    selected: Option<String>,
    pub table: TableState,
    /// Lines that the list or the room has on the screen.
    pub page: usize,
}

impl Top {
    pub(super) fn new(url: &str, order: Order) -> Top {
        Top {
            url: url.to_owned(),
            server: None,
            seen_at: Duration::ZERO,
            rows: Vec::new(),
            all: Vec::new(),
            order,
            filter: String::new(),
            is_typing: false,
            problem: None,
            open: None,
            selected: None,
            table: TableState::default(),
            page: PAGE,
        }
    }

    /// Takes what a look has shown.
    pub(super) fn saw(&mut self, look: Look) {
        let since = look.at.saturating_sub(self.seen_at).as_secs_f64();
        let before: HashMap<String, (String, u64)> =
            self.all.drain(..).map(|row| (row.room.room, (row.room.session_id, row.room.revision))).collect();
        let is_first = self.server.is_none() || since <= 0.0;
        let row = |room: Room| {
            let changes = match before.get(&room.room) {
                Some((session, revision)) if *session == room.session_id => room.revision.saturating_sub(*revision),
                // Since it began, which was after the last look.
                _ => room.revision,
            };
            let rate = (!is_first).then(|| changes as f64 / since);
            Row { room, rate }
        };
        self.all = look.rooms.into_iter().map(row).collect();
        (self.server, self.seen_at, self.problem) = (Some(look.server), look.at, None);
        self.arrange();
    }

    /// The server was not seen.
    pub(super) fn missed(&mut self, why: String) {
        self.problem = Some(why);
    }

    /// The server's clock, in milliseconds since 1970.
    pub(super) fn server_time(&self, now: Duration) -> u64 {
        let passed = now.saturating_sub(self.seen_at).as_millis();
        self.server.as_ref().map_or(0, |server| server.now.saturating_add(u64::try_from(passed).unwrap_or(0)))
    }

    /// Changes a second in all rooms that are known.
    pub(super) fn rate(&self) -> Option<f64> {
        let rates: Vec<f64> = self.all.iter().filter_map(|row| row.rate).collect();
        (rates.len() == self.all.len() && self.server.is_some()).then(|| rates.iter().sum())
    }

    /// A room that is known, whether it is shown or not.
    pub(super) fn row(&self, name: &str) -> Option<&Row> {
        self.all.iter().find(|row| row.room.room == name)
    }

    /// Rooms and peers: the server's, or what the token shows of them.
    pub(super) fn totals(&self) -> (usize, usize) {
        match &self.server {
            Some(server) if server.room.is_none() => (server.rooms, server.peers),
            _ => (self.all.len(), self.all.iter().map(|row| row.room.peers).sum()),
        }
    }

    /// Sorts and filters, and keeps the selection on its room.
    fn arrange(&mut self) {
        let by = |room: &Room| match self.order {
            // The rate comes before, for this order.
            Order::Changes | Order::Peers => [room.peers, room.keys, room.bytes],
            Order::Keys => [room.keys, room.bytes, room.peers],
            Order::Bytes => [room.bytes, room.keys, room.peers],
        };
        self.rows = self.all.iter().filter(|row| row.room.room.contains(&self.filter)).cloned().collect();
        self.rows.sort_by(|a, b| {
            let by_rate = match self.order {
                Order::Changes => b.rate.unwrap_or(0.0).total_cmp(&a.rate.unwrap_or(0.0)),
                _ => std::cmp::Ordering::Equal,
            };
            by_rate.then_with(|| by(&b.room).cmp(&by(&a.room))).then_with(|| a.room.room.cmp(&b.room.room))
        });
        let place = match &self.selected {
            // Where nobody moved to, the largest is selected, whichever that is.
            None => 0,
            Some(name) => {
                let found = self.rows.iter().position(|row| row.room.room == *name);
                found.or(self.table.selected()).unwrap_or(0)
            }
        };
        let last = self.rows.len().checked_sub(1);
        self.table.select(last.map(|last| place.min(last)));
    }

    /// Moves to a place in the list.
    fn select(&mut self, place: usize) {
        let place = place.min(self.rows.len().saturating_sub(1));
        self.selected = self.rows.get(place).map(|row| row.room.room.clone());
        self.table.select(self.selected.is_some().then_some(place));
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: KeyEvent) -> Asked {
        if key.kind == KeyEventKind::Release {
            return Asked::Nothing;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control {
            return if matches!(key.code, KeyCode::Char('c' | 'C')) { Asked::Quit } else { Asked::Nothing };
        }
        if self.is_typing {
            return self.type_filter(key.code);
        }
        if matches!(key.code, KeyCode::Char('q')) {
            return Asked::Quit;
        }
        let place = match &self.open {
            Some(open) => open.scroll,
            None => self.table.selected().unwrap_or(0),
        };
        let moved = match key.code {
            KeyCode::Up | KeyCode::Char('k') => place.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => place.saturating_add(1),
            KeyCode::PageUp => place.saturating_sub(self.page),
            KeyCode::PageDown => place.saturating_add(self.page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            other => return self.press_other(other),
        };
        match &mut self.open {
            // What is behind the end is corrected when it is drawn.
            Some(open) => open.scroll = moved,
            None => self.select(moved),
        }
        Asked::Nothing
    }

    fn press_other(&mut self, code: KeyCode) -> Asked {
        if self.open.is_some() {
            if matches!(code, KeyCode::Esc | KeyCode::Backspace | KeyCode::Left) {
                self.open = None;
                return Asked::Close;
            }
            return Asked::Nothing;
        }
        match code {
            KeyCode::Char('s') => {
                self.order = self.order.next();
                self.arrange();
            }
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => {
                self.filter.clear();
                self.arrange();
            }
            KeyCode::Enter | KeyCode::Right => {
                let Some(row) = self.table.selected().and_then(|place| self.rows.get(place)) else {
                    return Asked::Nothing;
                };
                self.selected = Some(row.room.room.clone());
                self.open = Some(Open::new(&row.room.room));
                return Asked::Open;
            }
            _ => {}
        }
        Asked::Nothing
    }

    fn type_filter(&mut self, code: KeyCode) -> Asked {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => (self.is_typing, self.filter) = (false, String::new()),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) if self.filter.len() + character.len_utf8() <= MAX_ROOM_BYTES => {
                self.filter.push(character);
            }
            _ => {}
        }
        self.arrange();
        Asked::Nothing
    }
}

impl Open {
    pub(super) fn new(name: &str) -> Open {
        Open {
            name: name.to_owned(),
            stream: Stream::Asked,
            session_id: String::new(),
            revision: 0,
            peers: Vec::new(),
            keys: BTreeMap::new(),
            locks: BTreeMap::new(),
            scroll: 0,
        }
    }

    /// Takes what happened in the room.
    pub(super) fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Snapshot { session_id, revision, peers, values } => {
                *self = Open { scroll: self.scroll, session_id, peers, ..Open::new(&self.name) };
                self.stream = Stream::Live;
                self.changed(revision, values);
            }
            Happening::Changes { revision, values } => self.changed(revision, values),
            Happening::Peer(peer) => match self.peers.iter_mut().find(|known| known.peer_id == peer.peer_id) {
                Some(known) => *known = peer,
                None => self.peers.push(peer),
            },
            Happening::PeerLeft(id) => self.peers.retain(|peer| peer.peer_id != id),
            Happening::Closed => *self = Open { stream: Stream::Closed, ..Open::new(&self.name) },
        }
    }

    fn changed(&mut self, revision: u64, values: Vec<Arc<Change>>) {
        self.revision = self.revision.max(revision);
        for change in values {
            let (kept, name) = match change.key.strip_prefix(LOCK_KEY_PREFIX) {
                Some(name) => (&mut self.locks, Arc::from(name)),
                None => (&mut self.keys, change.key.clone()),
            };
            match change.value.is_null() {
                true => kept.remove(&name),
                false => kept.insert(name, change),
            };
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{Author, Value};

    pub(in crate::cli::top) fn room(name: &str, revision: u64, peers: usize, keys: usize, bytes: usize) -> Room {
        let (room, session_id) = (name.to_owned(), "session-1".to_owned());
        Room { room, session_id, started_at: 1_000, revision, peers, connections: peers, keys, bytes }
    }

    pub(in crate::cli::top) fn look(at_ms: u64, rooms: Vec<Room>) -> Look {
        let limits = Bounds { max_keys: 100, max_store_bytes: 65_536, max_peers: 1_000 };
        let peers = rooms.iter().map(|room| room.peers).sum();
        let server = About {
            version: "0.1.0".into(),
            now: 1_000_000 + at_ms,
            started_at: 1_000,
            rooms: rooms.len(),
            peers,
            connections: 4,
            sockets: 5,
            limits,
            room: None,
        };
        Look { server, rooms, at: Duration::from_millis(at_ms) }
    }

    pub(in crate::cli::top) fn change(key: &str, value: &str, version: u64) -> Arc<Change> {
        let author = Author { peer_id: "p-1".into(), user_id: "".into(), name: "Ana".into() };
        let value = Value::parse(value).expect("JSON");
        let (author, updated_at) = (Some(Arc::new(author)), 999_000);
        Arc::new(Change { value, version, updated_at, author, ..Change::absent(key.into()) })
    }

    pub(in crate::cli::top) fn press(top: &mut Top, code: KeyCode) -> Asked {
        top.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn names(top: &Top) -> Vec<&str> {
        top.rows.iter().map(|row| &*row.room.room).collect()
    }

    fn selected(top: &Top) -> Option<&str> {
        top.table.selected().and_then(|place| top.rows.get(place)).map(|row| &*row.room.room)
    }

    #[test]
    fn rates_are_differences_and_a_new_session_begins_at_nothing() {
        let mut top = Top::new("http://x", Order::Changes);
        top.saw(look(0, vec![room("a", 10, 1, 1, 1), room("b", 500, 1, 1, 1)]));
        assert_eq!((top.rows[0].rate, top.rate()), (None, None));
        let again = Room { session_id: "session-2".into(), ..room("b", 4, 1, 1, 1) };
        top.saw(look(2_000, vec![room("a", 40, 1, 1, 1), again, room("new", 2, 0, 1, 1)]));
        let rates: Vec<_> = top.rows.iter().map(|row| (&*row.room.room, row.rate)).collect();
        assert_eq!(rates, [("a", Some(15.0)), ("b", Some(2.0)), ("new", Some(1.0))]);
        assert_eq!(top.rate(), Some(18.0));
        top.saw(look(3_000, vec![room("a", 40, 1, 1, 1)]));
        assert_eq!(top.rate(), Some(0.0));
    }

    #[test]
    fn a_key_goes_through_the_orders_and_the_selection_stays_on_its_room() {
        let mut top = Top::new("http://x", Order::Changes);
        let rooms = || vec![room("a", 0, 1, 9, 5), room("b", 0, 7, 2, 6), room("c", 0, 3, 3, 700)];
        top.saw(look(0, rooms()));
        let mut busy = rooms();
        busy[0].revision = 8;
        top.saw(look(1_000, busy));
        assert_eq!(names(&top), ["a", "b", "c"]);
        press(&mut top, KeyCode::Down);
        press(&mut top, KeyCode::Down);
        assert_eq!(selected(&top), Some("c"));
        for (order, expected) in [
            (Order::Peers, ["b", "c", "a"]),
            (Order::Keys, ["a", "c", "b"]),
            (Order::Bytes, ["c", "b", "a"]),
            (Order::Changes, ["a", "b", "c"]),
        ] {
            press(&mut top, KeyCode::Char('s'));
            assert_eq!((top.order, &*names(&top)), (order, &expected[..]));
            assert_eq!(selected(&top), Some("c"));
        }
        press(&mut top, KeyCode::End);
        press(&mut top, KeyCode::Down);
        assert_eq!(selected(&top), Some("c"));
        press(&mut top, KeyCode::PageUp);
        assert_eq!(selected(&top), Some("a"));
    }

    #[test]
    fn a_filter_is_typed_and_dropped() {
        let mut top = Top::new("http://x", Order::Peers);
        top.saw(look(0, vec![room("quiz-1", 0, 1, 0, 0), room("quiz-2", 0, 2, 0, 0), room("talk", 0, 3, 0, 0)]));
        for code in ['/', 'q', 'u', 'i'] {
            assert_eq!(press(&mut top, KeyCode::Char(code)), Asked::Nothing, "{code} is typed");
        }
        assert_eq!(names(&top), ["quiz-2", "quiz-1"]);
        press(&mut top, KeyCode::Backspace);
        press(&mut top, KeyCode::Enter);
        assert!(!top.is_typing && top.filter == "qu");
        top.saw(look(1_000, vec![room("talk", 0, 3, 0, 0)]));
        assert_eq!((names(&top).len(), selected(&top)), (0, None));
        assert_eq!(press(&mut top, KeyCode::Enter), Asked::Nothing, "nothing is selected");
        press(&mut top, KeyCode::Esc);
        assert_eq!(names(&top), ["talk"]);
        assert_eq!(press(&mut top, KeyCode::Char('q')), Asked::Quit);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(top.press(control_c), Asked::Quit);
    }

    #[test]
    fn a_room_follows_what_happens_in_it() {
        let mut open = Open::new("r");
        let peer = |id: &str, name: &str| Peer {
            peer_id: id.into(),
            user_id: "".into(),
            name: name.into(),
            role: "host".into(),
            joined_at: 1,
            connected: true,
        };
        open.happened(Happening::Closed);
        assert_eq!(open.stream, Stream::Closed);
        let values = vec![change("a", "1", 3), change("$lock/turn", "{}", 4)];
        let (session_id, peers) = ("s".to_owned(), vec![peer("p", "Ana")]);
        open.happened(Happening::Snapshot { session_id, revision: 4, peers, values });
        assert_eq!((open.stream == Stream::Live, open.keys.len(), open.locks.contains_key("turn")), (true, 1, true));
        open.happened(Happening::Changes { revision: 5, values: vec![change("a", "null", 5), change("b", "2", 5)] });
        assert_eq!((open.revision, open.keys.keys().map(|key| &**key).collect::<Vec<_>>()), (5, vec!["b"]));
        open.happened(Happening::Changes { revision: 6, values: vec![change("$lock/turn", "null", 6)] });
        assert!(open.locks.is_empty());
        open.happened(Happening::Peer(peer("q", "Ben")));
        open.happened(Happening::Peer(peer("p", "Anna")));
        open.happened(Happening::PeerLeft("q".into()));
        assert_eq!(open.peers.iter().map(|peer| &*peer.name).collect::<Vec<_>>(), ["Anna"]);
        open.happened(Happening::Closed);
        assert!(open.peers.is_empty() && open.keys.is_empty());
    }
}
