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
    let header = ["JOINED", "ROLE", "PEER", "USER", "NAME"].map(String::from);
    let rows = peers.iter().map(|peer| {
        let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let joined = output::time(peer.joined_at);
        [joined, text(&peer.role), text(&peer.peer_id), text(&peer.user_id), text(&peer.name)]
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
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
