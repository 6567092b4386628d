//! The room, pure: no I/O, no clock, no randomness, no async.
//!
//! Everything that decides what a room does lives here, so that it can be
//! driven by a server, by a simulation, or by a journal, with the same result.
//!
//! | module | what it holds |
//! |---|---|
//! | [`room`] | the room state machine: `apply(time, command) -> (reply, events)` |
//! | [`write`](mod@write), [`merge`] | what can be asked of a store |
//! | `journal` | what happened to a room, as bytes (feature `server`) |
//! | [`rules`] | who may do what |
//! | [`requests`] | a client's requests without an answer |
//! | [`secret`] | by which a peer comes back as itself |
//! | [`replica`] | a client's copy of the keys it listens to |
//! | [`wire`] | the JSON-RPC messages, parsed and written |
//! | [`value`], [`names`] | values as compact JSON text; the rules for keys, rooms and names |
//! | [`limits`] | every number that bounds a room, with its reason |
//! | [`error`] | the one table of error codes |

mod canonical;
pub mod error;
#[cfg(feature = "server")]
pub mod journal;
pub mod limits;
pub mod merge;
pub mod names;
pub mod replica;
pub mod requests;
pub mod room;
pub mod rules;
pub mod secret;
pub mod value;
pub mod wire;
pub mod write;
