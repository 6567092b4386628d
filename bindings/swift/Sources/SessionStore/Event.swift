import CSessionStore
import Foundation

/// One state of one key: what a listener, a get or a set is told. It never changes.
public struct Event: Sendable {
    private let handle: Handle
    /// States that gave way here, beside those that did in the library.
    private let replacedHere: UInt64
    /// Whether it stands for a current value that gave way here.
    private let snapshotHere: Bool

    /// Why a key has its state.
    public enum Cause: Int32, Sendable, CaseIterable {
        /// A peer wrote the key; if the value is `null`, a peer removed it. Also of a key that was never set.
        case written = 0
        /// The key's time to live ran out. The value is `null`, and there is no author.
        case expired = 1
        /// The key was bound to a peer that is gone, who is the author. The value is `null`.
        case peerLeft = 2
        /// The session in which the key was set is over, and its store was cleared. The value is `null`.
        case cleared = 3
    }

    /// Who made a change, known also after that peer has left.
    public struct Author: Sendable, Hashable {
        /// The id of the peer that wrote.
        public let peerID: String
        /// The user id from the peer's token; empty if it has none.
        public let userID: String
        /// The name it had when it made the change.
        public let name: String
    }

    init(borrowing event: OpaquePointer) {
        handle = Handle(owning: sessionstore_event_retain(event), sessionstore_event_free)
        replacedHere = 0
        snapshotHere = false
    }

    init(owning handle: Handle) {
        self.handle = handle
        replacedHere = 0
        snapshotHere = false
    }

    /// This event, with an older one of its key that it gave way for it.
    init(_ event: Event, replacing older: Event) {
        handle = event.handle
        replacedHere = event.replacedHere + older.replaced + 1
        snapshotHere = event.snapshotHere || older.isSnapshot
    }

    /// The key whose state this is.
    public var key: String { handle.use { event in text { sessionstore_event_key(event, $0) } } }

    /// The value; `null` when the key is absent.
    public var value: Value { handle.use { Value(borrowing: sessionstore_event_value($0)) } }

    /// The value as compact JSON text; `null` when the key is absent.
    public var json: String { handle.use { event in text { sessionstore_event_json(event, $0) } } }

    /// The value as a type of yours; nil when the key is absent.
    ///
    /// Throws ``SessionStoreError/Code/wrongType`` when it is something else.
    public func value<T: Decodable>(as type: T.Type) throws -> T? {
        let value = value
        return value.isNull ? nil : try value.decode(type)
    }

    /// The value as the type of a key; nil when the key is absent.
    public func value<T>(of _: Key<T>) throws -> T? {
        try value(as: T.self)
    }

    /// The key's version: the revision of the store that this change made. 0 for a key that was never set, or whose removal
    /// is no longer known.
    public var version: UInt64 { handle.use(sessionstore_event_version) }

    /// When the change was made, by the server's clock; nil when the version is 0.
    public var updatedAt: Date? { date(handle.use(sessionstore_event_updated_at)) }

    /// Why the key has this state.
    public var cause: Cause { Cause(rawValue: handle.use(sessionstore_event_cause)) ?? .written }

    /// When the key goes by itself, by the server's clock; nil for never.
    public var expiresAt: Date? { date(handle.use(sessionstore_event_expires_at)) }

    /// Who made the change; nil when the version is 0, or the key expired. The peer id of an operator, who writes by the
    /// server's HTTP API, is empty.
    public var author: Author? {
        handle.use { event in
            let author = Author(
                peerID: text { sessionstore_event_author_peer_id(event, $0) },
                userID: text { sessionstore_event_author_user_id(event, $0) },
                name: text { sessionstore_event_author_name(event, $0) })
            // An operator has no peer, but a user id.
            return author == Author(peerID: "", userID: "", name: "") ? nil : author
        }
    }

    /// How many older states of this key this event stands for, which this listener missed because it, or its connection,
    /// did not keep up. Usually 0. The newest state is never missed.
    public var replaced: UInt64 { replacedHere + handle.use(sessionstore_event_replaced) }

    /// Whether it is a current value from before the end of the snapshot, not a change.
    public var isSnapshot: Bool { snapshotHere || handle.use(sessionstore_event_is_snapshot) != 0 }
}

extension Event: CustomStringConvertible {
    /// The key and its version, not the value.
    public var description: String { "\(key) in version \(version)" }
}

/// The states of several keys at one revision of the store: what a transaction wrote, or a read found.
public struct Snapshot: Sendable {
    /// The revision of the store at which the keys had these states.
    public let revision: UInt64
    /// The states, in the order asked for.
    public let events: [Event]

    init(borrowing list: OpaquePointer) {
        revision = sessionstore_event_list_revision(list)
        events = (0..<sessionstore_event_list_count(list)).map {
            Event(borrowing: sessionstore_event_list_get(list, $0))
        }
    }
}

/// How much of its limits a store uses.
public struct Usage: Sendable, Hashable {
    /// The store's revision: how many times it has changed.
    public let revision: UInt64
    /// Keys that are set, and the most there may be.
    public let keys, maxKeys: UInt64
    /// Bytes of keys and values together, and the most there may be.
    public let bytes, maxBytes: UInt64
    /// The most bytes of one value.
    public let maxValueBytes: UInt64

    init(_ usage: sessionstore_usage) {
        revision = usage.revision
        keys = usage.keys
        maxKeys = usage.max_keys
        bytes = usage.bytes
        maxBytes = usage.max_bytes
        maxValueBytes = usage.max_value_bytes
    }
}
