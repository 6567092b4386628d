//! What a server kept of a room: the length of a checkpoint, the checkpoint, and entries. Whatever it is, it is
//! refused or makes a room that goes on like any other, and that is kept and rebuilt as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sessionstore::core::journal;
use sessionstore::core::limits::Limits;
use sessionstore::core::names::KeyList;
use sessionstore::core::room::{Command, Introduction, Reply, Room};
use sessionstore::ErrorCode;

fn rebuilt(room: &Room) -> Option<Room> {
    let checkpoint = room.checkpoint()?;
    let again = match Room::restore("room", &checkpoint) {
        // An input may begin just below the numbers that no session comes to.
        Err(error) if error.message().contains("than a session comes to") => return None,
        again => again.expect("what was written is read"),
    };
    assert_eq!(again.checkpoint().expect("a session"), checkpoint);
    assert_eq!((again.next_deadline(), again.usage()), (room.next_deadline(), room.usage()));
    Some(again)
}

fuzz_target!(|data: &[u8]| {
    let Some((length, data)) = data.split_first_chunk::<2>() else { return };
    let (checkpoint, entries) = data.split_at(data.len().min(u16::from_le_bytes(*length).into()));
    let mut room = match checkpoint {
        [] => Room::new("room", Limits::default().into()),
        checkpoint => match Room::restore("room", checkpoint) {
            Ok(room) => room,
            Err(error) => {
                assert!(!error.message().is_empty() && error != ErrorCode::Internal, "{error}");
                return;
            }
        },
    };
    if let Err(error) = journal::replay(&mut room, entries) {
        assert!(!error.message().is_empty() && error != ErrorCode::Internal, "{error}");
    }
    let Some(mut room) = rebuilt(&room) else { return };
    let mut events = Vec::new();
    let fresh = data.len().is_multiple_of(3).then_some("fresh");
    room.resume(1_000, Limits::default().into(), fresh, &mut events);
    rebuilt(&room);
    // It works like any other.
    let peer = Introduction { peer_id: "new", user_id: "", name: None, role: "guest", metadata: None, secret: None };
    let joined = room.apply(1_001, Command::Join { peer, new_session_id: "next" }, &mut events);
    if let Ok(Reply::Joined { peer, .. }) = joined {
        let keys = ["a", "b"];
        let (named, begun) = (KeyList::of(&keys), KeyList::of(&["", "$lock/"]));
        let _ = room.apply(1_002, Command::Listen { peer, keys: &named, prefixes: &begun }, &mut events);
        for key in keys {
            let _ = room.apply(1_003, Command::Set { peer, key, value: 1.into(), expected: None }, &mut events);
        }
        rebuilt(&room);
        let _ = room.apply(1_004, Command::Leave { peer }, &mut events);
    }
    let mut now = 1_004;
    for _ in 0..100 {
        let Some(deadline) = room.next_deadline() else { break };
        now = deadline.max(now);
        let _ = room.apply(now, Command::Tick, &mut events);
    }
});
