import CSessionStore
import Foundation

/// A peer as it was when it was told of. It never changes.
public struct Peer: Sendable, Identifiable {
    private let handle: Handle

    init(borrowing peer: OpaquePointer) {
        handle = Handle(owning: sessionstore_peer_retain(peer), sessionstore_peer_free)
    }

    /// Unique in the room.
    public var id: String { handle.use { peer in text { sessionstore_peer_id(peer, $0) } } }

    /// The user id from the peer's token; empty if it has none.
    public var userID: String { handle.use { peer in text { sessionstore_peer_user_id(peer, $0) } } }

    /// The peer's name; empty if it gave none.
    public var name: String { handle.use { peer in text { sessionstore_peer_name(peer, $0) } } }

    /// Its role, which rules go by.
    public var role: String { handle.use { peer in text { sessionstore_peer_role(peer, $0) } } }

    /// The peer's metadata, any text.
    public var metadata: String { handle.use { peer in text { sessionstore_peer_metadata(peer, $0) } } }

    /// When the peer joined, by the server's clock.
    public var joinedAt: Date {
        Date(timeIntervalSince1970: Double(handle.use(sessionstore_peer_joined_at)) / 1_000)
    }
}
