//! `sstore peers`

use clap::Args;

use super::connection::ConnectionArguments;
use super::exit::Failure;
use super::output;
use crate::PeerInfo;

/// List who is in a room
///
/// This joins the room to see; the list does not have this command itself. A peer whose connection
/// broke is listed until its grace period is over.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print one JSON array, with the peers' metadata
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (everybody, own) = arguments.connection.once(|room| {
        // The list comes after the join and before the answer to whatever is asked next.
        room.store.get("peers").wait(room.time_left())?;
        Ok((room.client.peers(), room.client.peer_id().to_owned()))
    })?;
    let mut peers: Vec<&PeerInfo> = everybody.iter().map(|peer| &**peer).filter(|peer| *peer.peer_id != *own).collect();
    peers.sort_by_key(|peer| peer.joined_at);
    if arguments.json {
        return output::print_peers(&peers);
    }
    output::print_line(&table(&peers))
}

fn table(peers: &[&PeerInfo]) -> String {
    let rows = peers.iter().map(|peer| {
        let joined = output::time(peer.joined_at);
        let [role, id, user, name] =
            [&peer.role, &peer.peer_id, &peer.user_id, &peer.name].map(|text| output::cell(text));
        [joined, role, id, user, name]
    });
    output::table(["JOINED", "ROLE", "PEER", "USER", "NAME"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_straight_columns() {
        let peer = PeerInfo {
            peer_id: "p-1".into(),
            user_id: "".into(),
            name: "Zoë".into(),
            role: "guest".into(),
            metadata: "".into(),
            joined_at: 0,
        };
        assert_eq!(
            table(&[&peer]),
            "JOINED                    ROLE   PEER  USER  NAME\n\
             1970-01-01T00:00:00.000Z  guest  p-1   -     Zoë"
        );
    }
}
