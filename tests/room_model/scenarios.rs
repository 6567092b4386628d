//! Named scenarios in simulated time.

use std::sync::Arc;

use sessionstore::core::limits::Limits;
use sessionstore::core::names::{self, KeyList};
use sessionstore::core::room::{Cause, Change, Command, Ended, Event, Introduction, PeerHandle, Reply, Room, Time};
use sessionstore::{Error, ErrorCode, Expiry, Value, Write};

/// A room and what has happened in it since it was last asked.
pub struct Scene {
    pub room: Room,
    events: Vec<Event>,
}

impl Scene {
    pub fn new(limits: Limits) -> Scene {
        Scene { room: Room::new("lobby", limits.into()), events: Vec::new() }
    }

    pub fn apply(&mut self, now: Time, command: Command<'_>) -> Result<Reply, Error> {
        self.room.apply(now, command, &mut self.events)
    }

    pub fn introduce(&mut self, now: Time, peer: Introduction<'_>) -> Result<(PeerHandle, bool), Error> {
        match self.apply(now, Command::Join { peer, new_session_id: &format!("session of {now}") })? {
            Reply::Joined { peer, returned } => Ok((peer, returned)),
            other => panic!("a join was answered with {other:?}"),
        }
    }

    pub fn join(&mut self, now: Time, peer_id: &str) -> PeerHandle {
        let peer =
            Introduction { peer_id, user_id: "", name: Some(peer_id), role: "guest", metadata: None, secret: None };
        self.introduce(now, peer).expect("the peer may join").0
    }

    pub fn set(&mut self, now: Time, peer: PeerHandle, key: &str, json: &str) -> Result<Arc<Change>, Error> {
        self.set_if(now, peer, key, json, None)
    }

    pub fn set_if(
        &mut self,
        now: Time,
        peer: PeerHandle,
        key: &str,
        json: &str,
        expected: Option<u64>,
    ) -> Result<Arc<Change>, Error> {
        let value = Value::parse(json)?;
        match self.apply(now, Command::Set { peer, key, value, expected })? {
            Reply::State(state) => Ok(state),
            other => panic!("a set was answered with {other:?}"),
        }
    }

    pub fn listen(&mut self, now: Time, peer: PeerHandle, keys: &[&str]) -> Result<Reply, Error> {
        self.apply(now, Command::Listen { peer, keys: &KeyList::of(keys), prefixes: &KeyList::default() })
    }

    /// What a peer that listens now gets first: every key of its set with its value.
    pub fn snapshot(&self, peer: PeerHandle) -> Vec<(String, String)> {
        let states = self.room.listen_set(peer).filter_map(|slot| self.room.state_of(slot));
        let mut pairs: Vec<_> = states.map(|state| (state.key.to_string(), state.value.json().to_owned())).collect();
        pairs.sort();
        pairs
    }

    /// What happened since the last call, in words; a change with the names of its listeners.
    pub fn story(&mut self) -> Vec<String> {
        let room = &self.room;
        let id = |handle: &PeerHandle| room.peer(*handle).map_or("?".to_owned(), |p| p.identity.peer_id.to_string());
        let tell = |event: Event| match event {
            Event::SessionStarted => "session started".to_owned(),
            Event::SessionEnded(_) => "session ended".to_owned(),
            Event::PeerJoined(peer) => format!("{} joined", id(&peer)),
            Event::PeerUpdated(peer) => format!("{} updated", id(&peer)),
            Event::PeerLeft { peer_id, connection_lost: true, .. } => format!("{peer_id} lost"),
            Event::PeerLeft { peer_id, connection_lost: false, .. } => format!("{peer_id} left"),
            Event::Changed { slot, change, .. } => {
                let slots: Vec<u32> = room.listeners(slot).collect();
                let mut to: Vec<String> =
                    room.peers().filter(|(peer, _)| slots.contains(&peer.slot)).map(|(peer, _)| id(&peer)).collect();
                to.sort();
                let cause = match change.cause {
                    Cause::Written => "",
                    Cause::Expired => " expired",
                    Cause::PeerLeft => " peer left",
                    Cause::Cleared => " cleared",
                };
                format!("{}={} #{}{cause} to [{}]", change.key, change.value.json(), change.version, to.join(" "))
            }
            Event::ListeningChanged { peer, revoked } => format!("{} listens anew without {revoked:?}", id(&peer)),
            Event::LockTaken { peer, name, token } => format!("{} lost {name} with {token}", id(&peer)),
            Event::LockGranted { wait, peer, lease } => {
                format!("{} holds {} as {} (wait {wait})", id(&peer), lease.name, lease.token)
            }
            Event::LockRefused { wait, peer, error } => format!("{} gave up wait {wait}: {}", id(&peer), error.code()),
        };
        self.events.drain(..).map(tell).collect()
    }
}

pub fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorCode {
    result.expect_err("this must be refused").code()
}

/// A JSON string whose compact text has this many bytes.
fn text_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

#[test]
fn a_late_joiner_gets_the_current_values() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join(0, "ada");
    scene.set(1, ada, "pinned", "\"old\"").unwrap();
    scene.set(2, ada, "pinned", "\"welcome\"").unwrap();
    let grace = scene.join(100, "grace");
    scene.listen(100, grace, &["pinned", "spotlight"]).unwrap();
    let expected = [("pinned".to_owned(), "\"welcome\"".to_owned()), ("spotlight".to_owned(), "null".to_owned())];
    assert_eq!(scene.snapshot(grace), expected);
}

#[test]
fn the_spotlight_is_moved_and_cleared() {
    let mut scene = Scene::new(Limits::default());
    let (ada, grace) = (scene.join(0, "ada"), scene.join(0, "grace"));
    scene.listen(0, ada, &["spotlight"]).unwrap();
    scene.listen(0, grace, &["spotlight"]).unwrap();
    scene.story();
    scene.set(1, ada, "spotlight", "\"ada\"").unwrap();
    scene.set(2, grace, "spotlight", "\"grace\"").unwrap();
    let cleared = scene.set(3, ada, "spotlight", "null").unwrap();
    let again = scene.set(4, ada, "spotlight", "null").unwrap();
    assert_eq!(
        scene.story(),
        [
            "spotlight=\"ada\" #1 to [ada grace]",
            "spotlight=\"grace\" #2 to [ada grace]",
            "spotlight=null #3 to [ada grace]",
        ],
        "clearing what is clear is no change"
    );
    assert_eq!((cleared.version, cleared.updated_at), (3, 3));
    assert_eq!((again.version, again.author.is_none()), (0, true));
    assert_eq!(scene.room.usage(), (0, 0));
    assert_eq!(scene.snapshot(grace), [("spotlight".to_owned(), "null".to_owned())]);
}

#[test]
fn listening_replaces_the_set_and_leaving_ends_it() {
    let mut scene = Scene::new(Limits::default());
    let (ada, grace) = (scene.join(0, "ada"), scene.join(0, "grace"));
    scene.listen(0, grace, &["a", "b", "a"]).unwrap();
    scene.listen(0, grace, &["b", "c"]).unwrap();
    scene.story();
    for key in ["a", "b", "c"] {
        scene.set(1, ada, key, "1").unwrap();
    }
    assert_eq!(scene.story(), ["a=1 #1 to []", "b=1 #2 to [grace]", "c=1 #3 to [grace]"]);
    scene.apply(2, Command::Leave { peer: grace }).unwrap();
    scene.set(3, ada, "b", "2").unwrap();
    assert_eq!(scene.story(), ["grace left", "b=2 #4 to []"]);
}

#[test]
fn a_killed_peer_goes_when_its_grace_ends() {
    let mut scene = Scene::new(Limits::default());
    let (ada, _) = (scene.join(0, "ada"), scene.join(0, "grace"));
    scene.story();
    scene.apply(1_000, Command::ConnectionLost { peer: ada }).unwrap();
    scene.apply(9_000, Command::ConnectionLost { peer: ada }).unwrap();
    assert_eq!(scene.room.next_deadline(), Some(31_000), "the grace counts from the first loss");
    scene.apply(30_999, Command::Tick).unwrap();
    assert_eq!((scene.story(), scene.room.peer_count()), (vec![], 2));
    scene.apply(31_000, Command::Tick).unwrap();
    assert_eq!((scene.story(), scene.room.peer_count()), (vec!["ada lost".to_owned()], 1));
    assert_eq!(scene.room.next_deadline(), None);
}

#[test]
fn a_peer_that_comes_back_in_time_keeps_everything() {
    let mut scene = Scene::new(Limits::default());
    let (ada, grace) = (scene.join(0, "ada"), scene.join(0, "grace"));
    scene.listen(0, ada, &["pinned"]).unwrap();
    scene.story();
    scene.apply(1_000, Command::ConnectionLost { peer: ada }).unwrap();
    scene.set(2_000, grace, "pinned", "1").unwrap();
    assert_eq!(scene.story(), ["pinned=1 #1 to [ada]"], "it is still a listener");
    let back = scene.apply(30_999, Command::Return { peer_id: "ada", user_id: "" }).unwrap();
    assert!(matches!(back, Reply::Joined { peer, returned: true } if peer == ada));
    assert_eq!(scene.room.next_deadline(), None);
    scene.apply(1_000_000, Command::Tick).unwrap();
    assert_eq!((scene.story(), scene.room.peer_count()), (vec![], 2));

    let again =
        Introduction { peer_id: "ada", user_id: "", name: None, role: "other", metadata: Some("{}"), secret: None };
    assert_eq!(scene.introduce(1_000_001, again).unwrap(), (ada, true));
    assert_eq!(scene.story(), ["ada updated"]);
    let peer = scene.room.peer(ada).unwrap();
    assert_eq!((&*peer.identity.name, &*peer.metadata, &*peer.role), ("ada", "{}", "guest"));
}

#[test]
fn a_peer_that_comes_back_too_late_is_new() {
    let mut scene = Scene::new(Limits::default());
    let (ada, _) = (scene.join(0, "ada"), scene.join(0, "grace"));
    scene.apply(0, Command::ConnectionLost { peer: ada }).unwrap();
    let late = scene.apply(30_000, Command::Return { peer_id: "ada", user_id: "" });
    assert_eq!(code(late), ErrorCode::NotJoined);
    let joined = scene.join(30_001, "ada");
    assert_ne!(joined, ada);
    assert_eq!(joined.slot, ada.slot, "the place is used again, and the old handle is refused all the same");
    assert_eq!(code(scene.set(30_002, ada, "a", "1")), ErrorCode::NotJoined);
}

#[test]
fn another_user_cannot_take_a_peer_over() {
    let mut scene = Scene::new(Limits::default());
    let ada =
        Introduction { peer_id: "p", user_id: "ada", name: Some("Ada"), role: "host", metadata: None, secret: None };
    let (handle, _) = scene.introduce(0, ada).unwrap();
    scene.apply(1, Command::ConnectionLost { peer: handle }).unwrap();
    scene.story();
    let eve = Introduction { user_id: "eve", name: Some("Eve"), ..ada };
    assert_eq!(code(scene.introduce(2, eve)), ErrorCode::PeerMismatch);
    assert_eq!(code(scene.apply(3, Command::Return { peer_id: "p", user_id: "eve" })), ErrorCode::PeerMismatch);
    let peer = scene.room.peer(handle).unwrap();
    assert_eq!((&*peer.identity.name, peer.lost_until), ("Ada", Some(30_001)), "and its grace runs on");
    assert_eq!(scene.story(), Vec::<String>::new());
}

#[test]
fn the_store_is_gone_when_the_last_peer_leaves() {
    let mut scene = Scene::new(Limits::default());
    let (ada, grace) = (scene.join(5, "ada"), scene.join(5, "grace"));
    scene.set(6, ada, "pinned", "1").unwrap();
    scene.apply(7, Command::Leave { peer: ada }).unwrap();
    assert_eq!(scene.room.usage().0, 1, "what a peer wrote stays when it goes");
    scene.story();
    scene.apply(8, Command::Leave { peer: grace }).unwrap();
    assert_eq!(scene.story(), ["grace left", "session ended"]);
    assert!(!scene.room.is_open());
    assert_eq!((scene.room.usage(), scene.room.revision(), scene.room.next_deadline()), ((0, 0), 0, None));
    scene.join(9, "ada");
    assert_eq!(scene.room.session_id().map(|id| &**id), Some("session of 9"));
    assert_eq!((scene.room.started_at(), &scene.room.state("pinned").version), (Some(9), &0));
}

/// What the session that has just ended held last.
fn ended(scene: &mut Scene) -> Ended {
    let ends = scene.events.drain(..).filter_map(|event| match event {
        Event::SessionEnded(ended) => Some(*ended),
        _ => None,
    });
    let ends: Vec<Ended> = ends.collect();
    let [ended] = ends.as_slice() else { panic!("not one session ended: {ends:?}") };
    ended.clone()
}

fn held(ended: &Ended) -> Vec<(&str, &str)> {
    ended.entries.iter().map(|state| (&*state.key, state.value.json())).collect()
}

#[test]
fn the_end_of_a_session_tells_what_its_store_held_last() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join(7, "ada");
    scene.set(8, ada, "quiz", "{\"question\":3}").unwrap();
    scene.set(9, ada, "pinned", "\"welcome\"").unwrap();
    scene.set(10, ada, "gone", "1").unwrap();
    scene.set(11, ada, "gone", "null").unwrap();
    let hand = Write { bound: Some(true), ..Write::set("hand/ada", true.into()) };
    scene.apply(12, Command::Write { peer: ada, write: hand, lock: None }).unwrap();
    let brief = Write { expiry: Some(Expiry::After(5)), ..Write::set("timer", 1.into()) };
    scene.apply(13, Command::Write { peer: ada, write: brief, lock: None }).unwrap();
    scene.apply(14, Command::Acquire { peer: ada, name: "turn", ttl_ms: 10_000, wait_ms: 0 }).unwrap();
    let revision = scene.room.revision() + 1; // The timer's end.
    scene.apply(20, Command::Leave { peer: ada }).unwrap();
    let ended = ended(&mut scene);
    assert_eq!(held(&ended), [("pinned", "\"welcome\""), ("quiz", "{\"question\":3}")]);
    assert_eq!(ended.entries[0].author.as_ref().map(|author| &*author.peer_id), Some("ada"));
    assert_eq!((&*ended.session_id, ended.started_at, ended.ended_at), ("session of 7", 7, 20));
    assert_eq!(ended.revision, revision);
}

#[test]
fn a_session_ends_when_its_time_was_over_however_late_that_is_noticed() {
    let mut scene = Scene::new(Limits { grace_ms: 10, linger_ms: 50, ..Limits::default() });
    let ada = scene.join(0, "ada");
    scene.set(1, ada, "pinned", "1").unwrap();
    scene.apply(2, Command::ConnectionLost { peer: ada }).unwrap();
    scene.join(1_000, "grace");
    let first = ended(&mut scene);
    assert_eq!((&*first.session_id, first.ended_at, held(&first)), ("session of 0", 62, vec![("pinned", "1")]));
    let now = scene.room.ending(1_001).expect("a session");
    assert_eq!((&*now.session_id, now.entries.len()), ("session of 1000", 0), "the next begins with an empty store");
}

#[test]
fn the_store_is_gone_when_the_last_grace_ends() {
    let mut scene = Scene::new(Limits { grace_ms: 10, ..Limits::default() });
    let (ada, grace) = (scene.join(0, "ada"), scene.join(0, "grace"));
    scene.apply(0, Command::ConnectionLost { peer: ada }).unwrap();
    scene.apply(5, Command::ConnectionLost { peer: grace }).unwrap();
    scene.story();
    // A late tick catches up with all that was due, in order.
    scene.apply(1_000, Command::Tick).unwrap();
    assert_eq!(scene.story(), ["ada lost", "grace lost", "session ended"]);
}

#[test]
fn without_grace_a_lost_connection_is_a_leave() {
    let mut scene = Scene::new(Limits { grace_ms: 0, ..Limits::default() });
    let ada = scene.join(0, "ada");
    scene.story();
    scene.apply(1, Command::ConnectionLost { peer: ada }).unwrap();
    assert_eq!(scene.story(), ["ada lost", "session ended"]);
}

#[test]
fn an_empty_session_lingers_as_long_as_it_is_told() {
    let mut scene = Scene::new(Limits { linger_ms: 50, ..Limits::default() });
    let ada = scene.join(0, "ada");
    scene.set(1, ada, "pinned", "1").unwrap();
    scene.apply(10, Command::Leave { peer: ada }).unwrap();
    assert_eq!(scene.room.next_deadline(), Some(60));
    let grace = scene.join(59, "grace");
    assert_eq!(scene.room.state("pinned").value.json(), "1", "it came in time");
    assert_eq!(scene.room.next_deadline(), None);
    assert_eq!(scene.room.session_id().map(|id| &**id), Some("session of 0"));
    scene.apply(100, Command::Leave { peer: grace }).unwrap();
    scene.story();
    scene.join(150, "late");
    assert_eq!(scene.story(), ["session ended", "session started", "late joined"]);
    assert_eq!((scene.room.usage().0, scene.room.revision()), (0, 0));
}

#[test]
fn linger_counts_from_the_end_of_the_grace_not_from_when_it_was_noticed() {
    let mut scene = Scene::new(Limits { grace_ms: 10, linger_ms: 50, ..Limits::default() });
    let ada = scene.join(0, "ada");
    scene.apply(0, Command::ConnectionLost { peer: ada }).unwrap();
    scene.apply(40, Command::Tick).unwrap();
    assert_eq!(scene.room.next_deadline(), Some(60));
}

#[test]
fn a_handle_of_a_session_that_is_over_means_nothing_in_the_next() {
    let mut scene = Scene::new(Limits::default());
    let old = scene.join(0, "ada");
    scene.listen(0, old, &["a"]).unwrap();
    let old_key = scene.room.listen_set(old).next().unwrap();
    scene.apply(1, Command::Leave { peer: old }).unwrap();
    let grace = scene.join(2, "grace");
    scene.listen(2, grace, &["secret"]).unwrap();
    assert_eq!(code(scene.set(3, old, "a", "1")), ErrorCode::NotJoined);
    assert_eq!(code(scene.apply(3, Command::Leave { peer: old })), ErrorCode::NotJoined);
    assert!(scene.room.state_of(old_key).is_none());
    assert_eq!(scene.room.listeners(old_key).count(), 0);
}

#[test]
fn nobody_acts_before_joining_or_after_leaving() {
    let mut scene = Scene::new(Limits::default());
    let (ada, _) = (scene.join(0, "ada"), scene.join(0, "grace"));
    scene.apply(1, Command::Leave { peer: ada }).unwrap();
    scene.story();
    let (listened, nothing) = (KeyList::of(&["a"]), KeyList::default());
    let commands = [
        Command::Leave { peer: ada },
        Command::ConnectionLost { peer: ada },
        Command::UpdatePeer { peer: ada, name: Some("x"), metadata: None },
        Command::Set { peer: ada, key: "a", value: Value::from(1), expected: None },
        Command::Get { peer: ada, key: "a" },
        Command::Listen { peer: ada, keys: &listened, prefixes: &nothing },
        Command::Return { peer_id: "ada", user_id: "" },
    ];
    for command in commands {
        let refused = scene.apply(2, command.clone());
        assert_eq!(code(refused), ErrorCode::NotJoined, "{command:?}");
    }
    assert_eq!(scene.story(), Vec::<String>::new());
}

#[test]
fn a_value_of_1024_bytes_fits_and_one_of_1025_does_not() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join(0, "ada");
    scene.set(1, ada, "a", &text_of(1_024)).unwrap();
    let before = format!("{:?}", scene.room);
    assert_eq!(code(scene.set(2, ada, "a", &text_of(1_025))), ErrorCode::ValueTooLarge);
    assert_eq!(format!("{:?}", scene.room), before);
    // What counts is the compact text in UTF-8: white space is free, letters cost their bytes.
    scene.set(3, ada, "a", &format!("[ {} ]", text_of(1_022))).unwrap();
    assert_eq!(code(scene.set(4, ada, "a", &format!("\"{}\"", "é".repeat(512)))), ErrorCode::ValueTooLarge);
}

#[test]
fn removing_is_no_matter_of_size() {
    let mut scene = Scene::new(Limits { max_value_bytes: 3, ..Limits::default() });
    let ada = scene.join(0, "ada");
    scene.set(1, ada, "a", "1").unwrap();
    assert_eq!(code(scene.set(2, ada, "a", "true")), ErrorCode::ValueTooLarge);
    assert_eq!(scene.set(3, ada, "a", "null").unwrap().version, 2);
}

#[test]
fn the_101st_key_is_refused_and_the_hundred_can_be_changed() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join(0, "ada");
    for number in 0..100 {
        scene.set(1, ada, &format!("key{number}"), "1").unwrap();
    }
    let before = format!("{:?}", scene.room);
    assert_eq!(code(scene.set(2, ada, "one more", "1")), ErrorCode::TooManyKeys);
    assert_eq!(format!("{:?}", scene.room), before);
    scene.set(3, ada, "key7", "2").unwrap();
    scene.set(4, ada, "one more", "null").unwrap();
    scene.set(5, ada, "key7", "null").unwrap();
    scene.set(6, ada, "one more", "1").unwrap();
    assert_eq!(scene.room.usage().0, 100);
}

#[test]
fn the_store_holds_65536_bytes_and_not_one_more() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join(0, "ada");
    // 64 entries of 1,024 bytes, keys included.
    for number in 0..64 {
        scene.set(1, ada, &format!("{number:04}"), &text_of(1_020)).unwrap();
    }
    assert_eq!(scene.room.usage(), (64, 65_536));
    let before = format!("{:?}", scene.room);
    assert_eq!(code(scene.set(2, ada, "0007", &text_of(1_021))), ErrorCode::StoreFull, "65,537");
    assert_eq!(code(scene.set(2, ada, "x", "1")), ErrorCode::StoreFull);
    assert_eq!(format!("{:?}", scene.room), before);
    // Full is not stuck: the same size, a smaller one, and then a larger one in the space it left.
    scene.set(3, ada, "0007", &text_of(1_020)).unwrap();
    scene.set(4, ada, "0007", &text_of(1_018)).unwrap();
    scene.set(5, ada, "x", "1").unwrap();
    assert_eq!(scene.room.usage(), (65, 65_536));
}

#[test]
fn a_peer_listens_to_200_keys_and_no_more() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join(0, "ada");
    let names: Vec<String> = (0..201).map(|number| format!("key{number}")).collect();
    let mut keys: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(code(scene.listen(1, ada, &keys)), ErrorCode::TooManyListenedKeys);
    assert_eq!(scene.room.listen_set(ada).count(), 0);
    keys[200] = "key0";
    scene.listen(2, ada, &keys).unwrap();
    assert_eq!(scene.room.listen_set(ada).count(), 200, "a double counts once");
}

#[test]
fn the_room_is_full_for_newcomers_only() {
    let mut scene = Scene::new(Limits { max_peers: 2, ..Limits::default() });
    let (ada, _) = (scene.join(0, "ada"), scene.join(0, "grace"));
    let third = Introduction { peer_id: "third", user_id: "", name: None, role: "guest", metadata: None, secret: None };
    assert_eq!(code(scene.introduce(1, third)), ErrorCode::RoomFull);
    scene.apply(2, Command::ConnectionLost { peer: ada }).unwrap();
    assert_eq!(code(scene.introduce(3, third)), ErrorCode::RoomFull, "a peer in its grace has its place");
    assert_eq!(scene.join(4, "ada"), ada);
    scene.apply(5, Command::Leave { peer: ada }).unwrap();
    assert!(!scene.introduce(6, third).unwrap().1);
}

#[test]
fn compare_and_set_takes_the_version_it_was_told() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join(0, "ada");
    assert_eq!(scene.set_if(1, ada, "a", "1", Some(0)).unwrap().version, 1);
    let conflict = scene.set_if(2, ada, "a", "2", Some(0)).unwrap_err();
    let current = conflict.current().expect("a conflict has the current state");
    assert_eq!((current.version, current.value.json(), current.updated_at), (1, "1", 1));
    assert_eq!(scene.room.revision(), 1);
    assert_eq!(scene.set_if(3, ada, "a", "3", Some(1)).unwrap().version, 2);
    assert_eq!(code(scene.set_if(4, ada, "a", "null", Some(1))), ErrorCode::VersionConflict);
    assert_eq!(scene.set_if(5, ada, "a", "null", Some(2)).unwrap().version, 3);
    let gone = scene.set_if(6, ada, "a", "4", Some(3)).unwrap_err();
    assert_eq!(gone.current().map(|current| (current.version, current.value.is_null())), Some((0, true)));
    assert_eq!(scene.set_if(7, ada, "a", "null", Some(0)).unwrap().version, 0, "absent it was and is");
    assert_eq!(scene.set_if(8, ada, "a", "5", Some(0)).unwrap().version, 4);
}

#[test]
fn an_entry_keeps_the_name_its_author_had() {
    let mut scene = Scene::new(Limits::default());
    let who =
        Introduction { peer_id: "p", user_id: "u", name: Some("Ada"), role: "host", metadata: None, secret: None };
    let (ada, _) = scene.introduce(0, who).unwrap();
    scene.set(1, ada, "old", "1").unwrap();
    scene.apply(2, Command::UpdatePeer { peer: ada, name: Some("Countess"), metadata: None }).unwrap();
    scene.set(3, ada, "new", "1").unwrap();
    let author = |key| scene.room.state(key).author.clone().expect("it was written");
    assert_eq!((&*author("old").name, &*author("new").name), ("Ada", "Countess"));
    assert_eq!((&*author("old").peer_id, &*author("old").user_id), ("p", "u"));
}

#[test]
fn an_update_that_changes_nothing_is_not_told() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join(0, "ada");
    scene.story();
    scene.apply(1, Command::UpdatePeer { peer: ada, name: Some("ada"), metadata: Some("") }).unwrap();
    scene.apply(2, Command::UpdatePeer { peer: ada, name: None, metadata: None }).unwrap();
    assert_eq!(scene.story(), Vec::<String>::new());
    // Half of an update is none: the good name does not come through with the bad metadata.
    let long = "x".repeat(2_049);
    let half = Command::UpdatePeer { peer: ada, name: Some("new"), metadata: Some(&long) };
    assert_eq!(code(scene.apply(3, half)), ErrorCode::InvalidPeer);
    assert_eq!(&*scene.room.peer(ada).unwrap().identity.name, "ada");
}

#[test]
fn keys_have_1_to_256_bytes_and_no_control_characters() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join(0, "ada");
    let before = format!("{:?}", scene.room);
    for bad in ["", &"k".repeat(257), &"é".repeat(129), "tab\tkey", "nul\0", "del\u{7f}", "c1\u{85}"] {
        assert_eq!(code(scene.set(1, ada, bad, "1")), ErrorCode::InvalidKey, "{bad:?}");
        assert_eq!(code(scene.apply(1, Command::Get { peer: ada, key: bad })), ErrorCode::InvalidKey, "{bad:?}");
        assert_eq!(code(scene.listen(1, ada, &["fine", bad])), ErrorCode::InvalidKey, "{bad:?}");
    }
    assert_eq!(format!("{:?}", scene.room), before);
    for good in ["k", &"k".repeat(256), &"é".repeat(128), "a b", "日本/🎉"] {
        scene.set(2, ada, good, "1").unwrap();
        scene.set(3, ada, good, "null").unwrap();
    }
}

#[test]
fn rooms_and_peers_have_their_rules() {
    for bad in ["", &"r".repeat(129), "a\nb"] {
        assert_eq!(code(names::check_room(bad)), ErrorCode::InvalidRoom, "{bad:?}");
    }
    for good in ["r", &"r".repeat(128), "Büro 7"] {
        names::check_room(good).unwrap();
    }
    let mut scene = Scene::new(Limits::default());
    let ada = Introduction {
        peer_id: "ada",
        user_id: "u",
        name: Some("Ada"),
        role: "host",
        metadata: Some("{}"),
        secret: None,
    };
    let (id, name, role, metadata) = ("i".repeat(129), "n".repeat(257), "r".repeat(65), "m".repeat(2_049));
    let bad = [
        Introduction { peer_id: "", ..ada },
        Introduction { peer_id: &id, ..ada },
        Introduction { peer_id: "a\u{1}", ..ada },
        Introduction { user_id: &id, ..ada },
        Introduction { name: Some(&name), ..ada },
        Introduction { name: Some("a\rb"), ..ada },
        Introduction { role: "", ..ada },
        Introduction { role: &role, ..ada },
        Introduction { metadata: Some(&metadata), ..ada },
    ];
    for introduction in bad {
        assert_eq!(code(scene.introduce(0, introduction)), ErrorCode::InvalidPeer, "{introduction:?}");
        assert!(!scene.room.is_open() && scene.events.is_empty(), "a refused join begins no session");
    }
    let longest = Introduction {
        peer_id: &id[..128],
        user_id: &id[..128],
        name: Some(&name[..256]),
        role: &role[..64],
        metadata: Some(&metadata[..2_048]),
        secret: None,
    };
    scene.introduce(0, longest).unwrap();
}

#[test]
fn rules_and_roles_that_change_nothing_for_a_listener_leave_it_alone() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join(0, "ada");
    let (keys, prefixes) = (KeyList::of(&["k"]), KeyList::of(&["hand/"]));
    scene.apply(0, Command::Listen { peer: ada, keys: &keys, prefixes: &prefixes }).unwrap();
    scene.story();
    for command in [Command::SetRules { rules: None }, Command::ChangeRole { peer: ada, role: "host" }] {
        scene.apply(1, command).unwrap();
    }
    assert_eq!(scene.story(), ["ada updated"]);
    scene.set(2, ada, "hand/1", "1").unwrap();
    assert_eq!(scene.snapshot(ada), [("hand/1".into(), "1".into()), ("k".into(), "null".into())]);
}
