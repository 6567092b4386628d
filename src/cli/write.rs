//! What `sstore set`, `remove` and `merge` can be told beside what they write.

use std::sync::Arc;

use clap::Args;

use super::connection::ConnectionArguments;
use super::exit::Failure;
use super::output;
use crate::{Change, LockGuard, Write};

#[derive(Debug, Args)]
pub(super) struct WriteArguments {
    /// Only if the key has this version; 0: only if it is absent
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    /// Only while this lock is held under this token
    #[arg(long, value_name = "NAME:TOKEN", value_parser = guard)]
    lock: Option<LockGuard<'static>>,
    /// Print the key's new state as one JSON object; if it has another version than --if-version says, the
    /// state it has
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
}

/// What came of a write.
pub(super) struct Written {
    pub state: Arc<Change>,
    /// Whether nobody else was in the room.
    pub alone: bool,
}

impl WriteArguments {
    /// Makes a write on these conditions. With `--json` the key's state is printed.
    pub(super) fn make(&self, write: Write<'_>) -> Result<Written, Failure> {
        let write = Write { expected: self.if_version, ..write };
        let (outcome, alone) = self.connection.once(|room| {
            let outcome = room.store.write(write, self.lock.clone()).wait(room.time_left());
            // The list of peers came before the answer.
            Ok((outcome, room.client.peers().len() == 1))
        })?;
        let state = match &outcome {
            Ok(state) => Some(state),
            Err(error) => error.current(),
        };
        if let Some(state) = state.filter(|_| self.json) {
            output::print_state(state)?;
        }
        Ok(Written { state: outcome?, alone })
    }
}

/// A lock's name and token. The name may have colons, the token has none.
fn guard(text: &str) -> Result<LockGuard<'static>, String> {
    let (name, token) = text.rsplit_once(':').ok_or("it looks like presenter:17")?;
    let token = token.parse().map_err(|_| "the token is a number")?;
    Ok(LockGuard { name: name.to_owned().into(), token })
}
