//! What happened to a room that the administrator's own programs are told, by [webhooks](super::webhooks).

use std::sync::Arc;

use crate::core::room::{Ended, Room, Time};

/// A session began or ended.
#[derive(Debug)]
#[cfg_attr(not(feature = "http"), allow(dead_code))] // Nobody is there to read it.
pub(super) struct Notice {
    pub room: Arc<str>,
    pub what: What,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "http"), allow(dead_code))] // Nobody is there to read it.
pub(super) enum What {
    Opened { session_id: Arc<str>, started_at: Time },
    Closed(Box<Ended>),
}

impl Notice {
    /// That the room's session began, if it has one.
    pub fn opened(room: &Room) -> Option<Notice> {
        let (session_id, started_at) = (room.session_id()?.clone(), room.started_at()?);
        Some(Notice { room: room.name().clone(), what: What::Opened { session_id, started_at } })
    }

    /// That a session of the room is over.
    pub fn closed(room: &Arc<str>, ended: Box<Ended>) -> Notice {
        Notice { room: room.clone(), what: What::Closed(ended) }
    }
}
