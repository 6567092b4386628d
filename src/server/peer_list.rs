//! The message that lists everybody in a room, kept from one who joins to the next.
//!
//! Everybody who joins is sent all of it. Between two of them one or a few peers came or went as a rule, so the
//! texts of the others are kept, in blocks that are sent as they are: a thousand who join a room together cost a
//! thousand texts of peers, not half a million.

use std::rc::Rc;

use crate::core::room::{PeerHandle, Room};
use crate::core::wire;
use crate::frames;

/// A block that has so many bytes gets no more peers. The last is copied for each who joins, the others are not.
const BLOCK_BYTES: usize = 8 * 1024;

/// So many changed peers are looked for one by one; after more, the list is begun anew.
const MAX_UPDATED: usize = 16;

/// The list of one room, as of the last time that it was asked for, and what has happened since.
pub(super) struct PeerList {
    blocks: Vec<Block>,
    /// What comes after the peers: it says which session this is.
    end: Vec<u8>,
    /// Peers that have no entry yet.
    fresh: Vec<PeerHandle>,
    /// Peers whose entries say what is no longer so.
    updated: Vec<PeerHandle>,
    /// Whether somebody has gone that may have an entry.
    is_outlived: bool,
}

/// Some peers, one after the other.
#[derive(Default)]
struct Block {
    /// Each entry begins with a comma, but for the first of the list.
    text: Rc<Vec<u8>>,
    /// Whose entries they are, and where each ends.
    entries: Vec<(PeerHandle, u32)>,
}

impl PeerList {
    /// The list of everybody in the room.
    pub fn new(room: &Room) -> PeerList {
        let mut end = Vec::new();
        wire::write_peer_list_end(&mut end, room);
        let mut list = PeerList { blocks: Vec::new(), end, fresh: Vec::new(), updated: Vec::new(), is_outlived: false };
        list.begin_anew(room);
        list
    }

    /// A peer is new in the room.
    pub fn joined(&mut self, peer: PeerHandle) {
        self.fresh.push(peer);
    }

    /// What is said of a peer is another.
    pub fn updated(&mut self, peer: PeerHandle) {
        if !self.updated.contains(&peer) {
            self.updated.push(peer);
        }
    }

    /// A peer has gone.
    pub fn left(&mut self) {
        self.is_outlived = true;
    }

    /// Whether beginning anew costs no more than going on.
    pub fn is_outdated(&self) -> bool {
        let known: usize = self.blocks.iter().map(|block| block.entries.len()).sum();
        self.fresh.len() > known.max(MAX_UPDATED) || self.updated.len() > MAX_UPDATED
    }

    /// Makes it the list as of now. What was given out of it before stays as it is.
    pub fn renew(&mut self, room: &Room) {
        if std::mem::take(&mut self.is_outlived) || !self.updated.is_empty() {
            self.remove_outlived(room);
        }
        let (updated, fresh) = (std::mem::take(&mut self.updated), std::mem::take(&mut self.fresh));
        let fresh = fresh.iter().filter(|peer| !updated.contains(peer));
        for (handle, peer) in updated.iter().chain(fresh).filter_map(|handle| Some((*handle, room.peer(*handle)?))) {
            match self.blocks.last_mut() {
                Some(last) if last.text.len() < BLOCK_BYTES => {}
                last => {
                    if let Some(full) = last {
                        Rc::make_mut(&mut full.text).shrink_to_fit();
                        full.entries.shrink_to_fit();
                    }
                    self.blocks.push(Block::default());
                }
            }
            let is_first = self.blocks.len() == 1;
            let Some(block) = self.blocks.last_mut() else { return };
            // Nobody shares the last block, unless others behind it are gone.
            let text = Rc::make_mut(&mut block.text);
            if !is_first || !text.is_empty() {
                text.push(b',');
            }
            wire::write_peer_list_entry(text, peer);
            block.entries.push((handle, text.len() as u32));
        }
    }

    /// Appends the beginning of the message, which is one text frame: its header, and all before the peers.
    pub fn write_begin(&self, out: &mut Vec<u8>) {
        const BEGIN: usize = wire::PEER_LIST_BEGIN.len();
        let peers: usize = self.blocks.iter().map(|block| block.text.len()).sum();
        frames::write_text_header(out, BEGIN + peers + self.end.len());
        out.extend_from_slice(wire::PEER_LIST_BEGIN.as_bytes());
    }

    /// What comes next, for all who are sent it.
    pub fn shared(&self) -> impl Iterator<Item = &Rc<Vec<u8>>> {
        let shared = self.blocks.split_last().map_or(&[][..], |(_, shared)| shared);
        shared.iter().map(|block| &block.text)
    }

    /// Appends the rest.
    pub fn write_end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.blocks.last().map_or(&[], |last| &last.text));
        out.extend_from_slice(&self.end);
    }

    fn begin_anew(&mut self, room: &Room) {
        self.blocks = Vec::new();
        self.fresh = room.peers().map(|(peer, _)| peer).collect();
        self.updated = Vec::new();
    }

    /// Takes out the entries of those who have gone, or have changed.
    fn remove_outlived(&mut self, room: &Room) {
        let updated = &self.updated;
        let stays = |peer: &PeerHandle| room.peer(*peer).is_some() && !updated.contains(peer);
        self.blocks.iter_mut().for_each(|block| block.keep(stays));
        self.blocks.retain(|block| !block.entries.is_empty());
        if let Some(first) = self.blocks.first_mut() {
            first.remove_comma();
        }
        let bytes: usize = self.blocks.iter().map(|block| block.text.len()).sum();
        if self.blocks.len() > 2 + 2 * bytes / BLOCK_BYTES {
            // So many have gone that what is left is in pieces.
            self.begin_anew(room);
        }
    }
}

impl Block {
    fn keep(&mut self, stays: impl Fn(&PeerHandle) -> bool) {
        if self.entries.iter().all(|(peer, _)| stays(peer)) {
            return;
        }
        let text = Rc::make_mut(&mut self.text);
        let (mut from, mut to) = (0, 0);
        self.entries.retain_mut(|(peer, end)| {
            let entry = std::mem::replace(&mut from, *end as usize)..*end as usize;
            if !stays(peer) {
                return false;
            }
            let place = to;
            to += entry.len();
            text.copy_within(entry, place);
            *end = to as u32;
            true
        });
        text.truncate(to);
    }

    /// It is the first from now on.
    fn remove_comma(&mut self) {
        if self.text.first() == Some(&b',') {
            Rc::make_mut(&mut self.text).remove(0);
            self.entries.iter_mut().for_each(|(_, end)| *end -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::core::limits::Limits;
    use crate::core::room::{Command, Event, Introduction};
    use crate::frames::{self, Decoder};

    #[derive(Clone, Debug)]
    enum Step {
        Join(u8),
        Leave(u8),
        /// With metadata of so many bytes.
        Update(u8, u16),
        /// Somebody is sent the list; whether at once.
        Ask(bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => any::<u8>().prop_map(Step::Join),
            2 => any::<u8>().prop_map(Step::Leave),
            1 => (any::<u8>(), 0u16..2_000).prop_map(|(who, length)| Step::Update(who, length)),
            2 => any::<bool>().prop_map(Step::Ask),
        ];
        vec(step, 1..300)
    }

    /// What one who joins is given.
    struct Parts {
        begin: Vec<u8>,
        shared: Vec<Rc<Vec<u8>>>,
        end: Vec<u8>,
    }

    impl Parts {
        fn of(list: &PeerList) -> Parts {
            let (mut begin, mut end) = (Vec::new(), Vec::new());
            list.write_begin(&mut begin);
            list.write_end(&mut end);
            Parts { begin, shared: list.shared().cloned().collect(), end }
        }

        fn whole(&self) -> Vec<u8> {
            let shared = self.shared.iter().flat_map(|block| block.iter());
            self.begin.iter().chain(shared).chain(&self.end).copied().collect()
        }
    }

    /// The payload, which must be one text frame as the protocol wants it.
    fn payload(frame: &[u8]) -> String {
        let mut masked = Vec::new();
        // A decoder reads what clients send: the same with a mask, here of zeros.
        let header = match frame[1] {
            127 => 10,
            126 => 4,
            _ => 2,
        };
        masked.extend_from_slice(&frame[..header]);
        masked[1] |= 0x80;
        masked.extend_from_slice(&[0; 4]);
        masked.extend_from_slice(&frame[header..]);
        let mut text = String::new();
        let used = Decoder::default().decode(&mut masked, usize::MAX, &mut |event| {
            let frames::Event::Text(payload) = event else { panic!("{event:?}") };
            text.push_str(payload);
            std::ops::ControlFlow::Continue(())
        });
        assert!(matches!(used, Ok(used) if used == masked.len()));
        text
    }

    /// What a client makes of it, in which the order of the peers is none.
    fn read(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    fn check(steps: &[Step]) {
        let mut room = Room::new("room", Arc::new(Limits::default()));
        let (mut list, mut given) = (None::<PeerList>, Vec::<(Parts, Value)>::new());
        let mut events = Vec::new();
        for step in steps {
            let peers: Vec<PeerHandle> = room.peers().map(|(peer, _)| peer).collect();
            let pick = |who: &u8| peers.get(usize::from(*who) % peers.len().max(1)).copied();
            let applied = match step {
                Step::Join(who) => {
                    let id = format!("peer-{who}");
                    let (user_id, name, role, metadata, secret) = ("", Some("Ada"), "guest", None, None);
                    let peer = Introduction { peer_id: &id, user_id, name, role, metadata, secret };
                    room.apply(0, Command::Join { peer, new_session_id: "s" }, &mut events).is_ok()
                }
                Step::Leave(who) => match pick(who).filter(|_| peers.len() > 1) {
                    Some(peer) => room.apply(0, Command::Leave { peer }, &mut events).is_ok(),
                    None => continue,
                },
                Step::Update(who, length) => match pick(who) {
                    Some(peer) => {
                        let metadata = "m".repeat(usize::from(*length));
                        let command = Command::UpdatePeer { peer, name: None, metadata: Some(&metadata) };
                        room.apply(0, command, &mut events).is_ok()
                    }
                    None => continue,
                },
                // Only who is in the room asks.
                Step::Ask(_) if peers.is_empty() => continue,
                Step::Ask(is_sent_at_once) => {
                    let list = list.get_or_insert_with(|| PeerList::new(&room));
                    list.renew(&room);
                    let parts = Parts::of(list);
                    let mut whole = Vec::new();
                    wire::write_peer_list(&mut whole, &room, None);
                    let expected = read(std::str::from_utf8(&whole).expect("text"));
                    assert_eq!(read(&payload(&parts.whole())), expected);
                    if !is_sent_at_once {
                        given.push((parts, expected));
                    }
                    continue;
                }
            };
            assert!(applied);
            for event in events.drain(..) {
                let Some(known) = &mut list else { continue };
                match event {
                    Event::PeerJoined(peer) => known.joined(peer),
                    Event::PeerUpdated(peer) => known.updated(peer),
                    Event::PeerLeft { .. } => known.left(),
                    _ => {}
                }
                if known.is_outdated() {
                    list = None;
                }
            }
        }
        for (parts, expected) in given {
            assert_eq!(read(&payload(&parts.whole())), expected, "what was given out has changed");
        }
    }

    #[test]
    fn says_the_same_beyond_64_kilobytes_and_back() {
        let ask = || [Step::Ask(true), Step::Ask(false)];
        let mut steps: Vec<Step> = (0..60).map(Step::Join).collect();
        steps.extend(ask());
        for who in 0..40 {
            steps.push(Step::Update(who, 2_000));
            steps.extend(ask());
        }
        for _ in 0..55 {
            steps.push(Step::Leave(3));
            steps.extend(ask());
        }
        check(&steps);
    }

    proptest! {
        #[test]
        fn says_the_same_as_a_list_that_is_written_anew(steps in steps()) {
            check(&steps);
        }
    }
}
