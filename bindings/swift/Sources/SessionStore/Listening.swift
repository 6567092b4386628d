import CSessionStore
import Foundation

/// Which keys are listened to, or read: single keys, every key that begins with one of some texts, or all.
///
/// Keys that show locks (`$lock/…`) are meant only by a prefix that begins with `$`.
///
/// ```swift
/// let hands: KeySelector = .prefix("hand/")
/// let page: KeySelector = ["spotlight", "pinned"]
/// ```
public struct KeySelector: Sendable, Hashable, ExpressibleByArrayLiteral {
    /// Single keys, absent ones included.
    public var keys: [String]
    /// And every key that is set and begins with one of these.
    public var prefixes: [String]
    /// Every key of the store.
    public var all: Bool

    /// Nothing yet.
    public init() {
        self.init(keys: [])
    }

    /// All that is given, together.
    public init(keys: [String] = [], prefixes: [String] = [], all: Bool = false) {
        self.keys = keys
        self.prefixes = prefixes
        self.all = all
    }

    public init(arrayLiteral keys: String...) {
        self.init(keys: keys)
    }

    /// Single keys.
    public static func keys(_ keys: String...) -> KeySelector { KeySelector(keys: keys) }

    /// Every key that is set and begins with this.
    public static func prefix(_ prefix: String) -> KeySelector { KeySelector(prefixes: [prefix]) }

    /// Every key of the store.
    public static let all = KeySelector(all: true)

    func use<R>(_ body: (UnsafePointer<sessionstore_selector>) throws -> R) rethrows -> R {
        let texts = Texts()
        var selector = sessionstore_selector.sized()
        selector.flags = all ? UInt32(SESSIONSTORE_SELECT_ALL) : 0
        (selector.keys, selector.key_lens, selector.key_count) = texts.list(keys)
        (selector.prefixes, selector.prefix_lens, selector.prefix_count) = texts.list(prefixes)
        return try withExtendedLifetime(texts) { try body(&selector) }
    }
}

/// What a listener is told.
public enum Change: Sendable {
    /// A key has this state. First comes the current value of each key, then ``snapshotEnd``, then each change, this peer's
    /// own included.
    case event(Event)
    /// All current values were given.
    case snapshotEnd

    /// The event, if it is one.
    public var event: Event? {
        if case .event(let event) = self { return event }
        return nil
    }
}

/// A listener that was registered. It stops when this is gone: keep it for as long as you listen.
///
/// Losing it never blocks and is fine anywhere, in the listener itself too.
public final class Subscription: Sendable {
    private let handle: Handle
    private let ended: Outcome<Void>

    fileprivate init(_ handle: Handle, _ ended: Outcome<Void>) {
        self.handle = handle
        self.ended = ended
    }

    /// Asks the listener to stop, and returns at once. A call that is running goes on; none begins after it. Cancelling
    /// again does nothing.
    public func cancel() {
        // It fails in a forked child only, where there is nothing to stop.
        handle.use { _ = sessionstore_subscription_cancel($0, nil) }
    }

    /// Waits until the listener was called for the last time: it was cancelled or refused, or the client is closed.
    ///
    /// Throws `CancellationError` when the waiting task is cancelled.
    public func end() async throws {
        try await ended.wait()
    }
}

/// The context of a listener. Its calls never overlap, so that what changes needs no lock.
private final class Listener {
    let onChange: @Sendable (Change) -> Void
    let onEnd: @Sendable (SessionStoreError?) -> Void
    let ended = Outcome<Void>()
    var refused: SessionStoreError?

    init(
        _ onChange: @escaping @Sendable (Change) -> Void, _ onEnd: @escaping @Sendable (SessionStoreError?) -> Void
    ) {
        self.onChange = onChange
        self.onEnd = onEnd
    }

    /// The library lets go: nothing is called after this.
    deinit {
        onEnd(refused)
        ended.finish(.success(()))
    }

    var callbacks: sessionstore_key_change_listener {
        var callbacks = sessionstore_key_change_listener.holding(self)
        callbacks.on_key_changed = { context($0, as: Listener.self).onChange(.event(Event(borrowing: $1!))) }
        callbacks.on_snapshot_end = { context($0, as: Listener.self).onChange(.snapshotEnd) }
        callbacks.on_refused = { context($0, as: Listener.self).refused = SessionStoreError(borrowing: $1!) }
        return callbacks
    }
}

/// Changes of keys, as they come.
///
/// ```swift
/// for try await change in try store.changes(of: ["spotlight", "pinned"]) {
///     guard let event = change.event else { continue }
///     print(event.key, event.value, event.author?.name ?? "")
/// }
/// ```
///
/// The listener is there from the call that made this until ``cancel()``, or until this and its iterators are gone. The
/// sequence ends when it was cancelled or the client closed, and throws ``SessionStoreError`` when the server refuses to
/// tell the keys, such as ``SessionStoreError/Code/forbidden``. A task that is cancelled while it waits for the next change
/// gets `CancellationError` at once; the listener stays for others who read.
///
/// Whoever reads slowly holds up nobody. What waits is bounded: when it is too much, older changes of a key give way to
/// newer ones, and ``Event/replaced`` tells how many did. The newest is never missed. Each change is read once: of several
/// iterators each gets a part.
public struct Changes: AsyncSequence, Sendable {
    public typealias Element = Change
    private let subscription: Subscription
    private let mailbox: Mailbox<Change>

    fileprivate init(_ store: Store, _ selector: KeySelector) throws {
        let mailbox = Mailbox<Change>(compact: newestOfEachKey)
        self.mailbox = mailbox
        subscription = try store.listen(to: selector, onEnd: { mailbox.end($0) }, { mailbox.put($0) })
    }

    /// Asks the listener to stop: what it was told until now can still be read, then the sequence ends.
    public func cancel() { subscription.cancel() }

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(subscription: subscription, mailbox: mailbox)
    }

    public struct AsyncIterator: AsyncIteratorProtocol, Sendable {
        fileprivate let subscription: Subscription
        fileprivate let mailbox: Mailbox<Change>

        public func next() async throws -> Change? { try await mailbox.next() }
    }
}

/// Keeps the newest state of each key, in the order in which they came; what was a current value stays before the end of
/// the snapshot. The library does the same with what waits for a listener.
@Sendable
private func newestOfEachKey(_ changes: ArraySlice<Change>) -> [Change] {
    // By bytes: two keys that look alike need not be the same, as they are for `String`.
    var newest: [Data: Int] = [:]
    var kept: [Event?] = []
    var others: [Change] = []
    for change in changes {
        guard case .event(var event) = change else {
            others.append(change)
            continue
        }
        if let place = newest.updateValue(kept.count, forKey: Data(event.key.utf8)), let older = kept[place] {
            event = Event(event, replacing: older)
            kept[place] = nil
        }
        kept.append(event)
    }
    return kept.compactMap { $0.map(Change.event) } + others
}

/// The values of one key, as they come: first the current one, then each change; nil when the key is absent.
///
/// As ``Changes``, and `next` throws ``SessionStoreError/Code/wrongType`` for a value of another type, which ends a loop but
/// not the sequence.
public struct Values<Value: Codable & Sendable>: AsyncSequence, Sendable {
    public typealias Element = Value?
    private let changes: Changes

    fileprivate init(_ changes: Changes) {
        self.changes = changes
    }

    /// As ``Changes/cancel()``.
    public func cancel() { changes.cancel() }

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(changes: changes.makeAsyncIterator())
    }

    public struct AsyncIterator: AsyncIteratorProtocol, Sendable {
        fileprivate let changes: Changes.AsyncIterator

        public func next() async throws -> Value?? {
            while let change = try await changes.next() {
                if case .event(let event) = change { return .some(try event.value(as: Value.self)) }
            }
            return nil
        }
    }
}

extension Store {
    /// Listens to keys. First come their current values, then ``Change/snapshotEnd``, then every change, of keys that come
    /// later too.
    ///
    /// Throws ``SessionStoreError/Code/invalidKey``, ``SessionStoreError/Code/invalidArgument`` when the selector means
    /// nothing, ``SessionStoreError/Code/closed``. What the server refuses, the sequence throws.
    public func changes(of selector: KeySelector) throws -> Changes {
        try Changes(self, selector)
    }

    /// Listens to one key: its current value first, then each change.
    ///
    /// ```swift
    /// for try await peer in try store.values(of: .spotlight) { show(peer) }
    /// ```
    public func values<Value>(of key: Key<Value>) throws -> Values<Value> {
        Values(try changes(of: .keys(key.name)))
    }

    /// Listens with a closure, for those who are told without a task of their own: it is called on the threads that the
    /// client's options say, in order, and never twice at once. Otherwise as ``changes(of:)``.
    ///
    /// - Parameters:
    ///   - selector: The keys.
    ///   - onChange: Called with each change. It may take its time: what waits for it is bounded, see ``Changes``.
    ///   - onEnd: Called once, after the last call of `onChange`; with the error when the server refused to tell the keys.
    ///     When this throws, it was called with nil before.
    /// - Returns: What stops the listener when it is gone.
    public func listen(
        to selector: KeySelector, onEnd: @escaping @Sendable (SessionStoreError?) -> Void = { _ in },
        _ onChange: @escaping @Sendable (Change) -> Void
    ) throws -> Subscription {
        let listener = Listener(onChange, onEnd)
        let ended = listener.ended
        var callbacks = listener.callbacks
        let subscription = try selector.use { selector in
            try handle.use { store in
                try make(sessionstore_subscription_free) {
                    sessionstore_store_listen_to(store, selector, &callbacks, $0, $1)
                }
            }
        }
        // A subscription is given whenever the call succeeds.
        return Subscription(subscription!, ended)
    }
}
