import Foundation
import SessionStore

#if canImport(CoreFoundation) && canImport(Darwin)
import CoreFoundation
#endif

/// Hears when the store is there, as in the hosted original.
public protocol HMSUpdateListener: AnyObject, Sendable {
    /// The room was joined. Keep the store for as long as you use it.
    func on(sessionStoreAvailable store: HMSSessionStore)
    /// Something went wrong that no call is waiting for, or the client is closed.
    func on(error: any Error)
}

extension HMSUpdateListener {
    public func on(error: any Error) {}
}

extension Client {
    /// Opens a client that tells a delegate, as the hosted original's `join` does.
    ///
    /// - Parameters:
    ///   - options: How and where to join.
    ///   - delegate: Is told, and not held.
    ///   - queue: On which everything of this store is told: the delegate, completions, observers.
    public convenience init(
        _ options: ClientOptions, delegate: any HMSUpdateListener, queue: DispatchQueue = .main
    ) throws {
        let told = Weak(delegate)
        try self.init(options) { update in
            switch update {
            case .storeAvailable(let store):
                let store = HMSSessionStore(store, queue: queue)
                queue.async { told.delegate?.on(sessionStoreAvailable: store) }
            case .error(let error), .connectionState(.closed, let error?):
                queue.async { told.delegate?.on(error: error) }
            default: break
            }
        }
    }
}

/// `@unchecked Sendable`: a weak reference that is set once may be read from anywhere.
private final class Weak: @unchecked Sendable {
    private(set) weak var delegate: (any HMSUpdateListener)?

    init(_ delegate: any HMSUpdateListener) {
        self.delegate = delegate
    }
}

/// The store under the names that the hosted original has. Everything is told on one queue, the main one if nothing else is said.
///
/// Values are `String`, `Bool`, `Int`, `Double`, `[Any]`, `[String: Any]`, and `NSNull` within them; nil is the absence of a key.
/// They come as they were set: `true` is a `Bool`, which is no `Int`, and 1 is an `Int`, which is no `Bool`.
///
/// ```swift
/// store.observeChanges(forKeys: ["spotlight"]) { key, value in
///     self.spotlight = value as? String
/// } completion: { observer, error in
///     self.observer = observer
/// }
/// store.set("peer-1", forKey: "spotlight")
/// ```
public final class HMSSessionStore: Sendable {
    /// The store itself, for everything that the original has no name for.
    public let store: Store
    private let queue: DispatchQueue

    /// The names of the original for a store.
    ///
    /// - Parameters:
    ///   - store: The store behind it.
    ///   - queue: On which everything is told.
    public init(_ store: Store, queue: DispatchQueue = .main) {
        self.store = store
        self.queue = queue
    }

    /// Sets a key; nil and `NSNull` remove it. The completion is given the latest value, or what went wrong.
    ///
    /// What is no JSON, or nests deeper than 100 levels, fails with `SessionStoreError.Code.invalidJSON`.
    public func set(_ object: Any?, forKey key: String, completion: (@Sendable (Any?, (any Error)?) -> Void)? = nil) {
        store.set(key, to: Result { try Value(any: object) }, then: telling(completion))
    }

    /// Gives a key's current value, nil when it is absent.
    public func object(forKey key: String, completion: @escaping @Sendable (Any?, (any Error)?) -> Void) {
        store.get(key, then: telling(completion))
    }

    /// Tells the current value of each key, nil when it is absent, and then each change. The completion is called once: after the
    /// current values, with what ``removeObserver(_:)`` takes, or with what went wrong.
    ///
    /// Until it is removed, or the client is closed, an observer is there, whoever holds it.
    public func observeChanges(
        forKeys keys: [String], changeObserver: @escaping @Sendable (String, Any?) -> Void,
        completion: (@Sendable ((any NSObjectProtocol)?, (any Error)?) -> Void)? = nil
    ) {
        let observer = Observer { [queue] observer, error in queue.async { completion?(observer, error) } }
        do {
            let subscription = try store.listen(
                to: KeySelector(keys: keys),
                onEnd: { observer.end($0 ?? SessionStoreError(.closed)) },
                { [queue] change in
                    switch change {
                    case .event(let event):
                        queue.async {
                            guard !observer.isRemoved else { return }
                            changeObserver(event.key, event.value.any)
                        }
                    case .snapshotEnd: observer.answer()
                    }
                })
            observer.keep(subscription)
        } catch {
            observer.answer(error)
        }
    }

    /// Stops an observer: when this is called on the queue on which it is told, it hears nothing any more.
    public func removeObserver(_ observer: any NSObjectProtocol) {
        (observer as? Observer)?.remove()
    }

    /// Tells a completion on the queue how a request ended.
    private func telling(
        _ completion: (@Sendable (Any?, (any Error)?) -> Void)?
    ) -> @Sendable (Result<Event, any Error>) -> Void {
        { [queue] result in
            queue.async {
                switch result {
                case .success(let event): completion?(event.value.any, nil)
                case .failure(let error): completion?(nil, error)
                }
            }
        }
    }
}

/// What stands for an observer.
///
/// `@unchecked Sendable`: everything that changes is behind the lock.
private final class Observer: NSObject, @unchecked Sendable {
    private let lock = NSLock()
    /// Hears whether it observes, once.
    private var completion: (@Sendable (Observer?, (any Error)?) -> Void)?
    private var subscription: Subscription?
    private var isKept = false
    private var removed = false
    private var ended: (any Error)?

    init(_ completion: @escaping @Sendable (Observer?, (any Error)?) -> Void) {
        self.completion = completion
    }

    var isRemoved: Bool { lock.withLock { removed } }

    /// It was told all current values, or failed.
    func answer(_ error: (any Error)? = nil) {
        let completion = lock.withLock {
            defer { self.completion = nil }
            return self.completion
        }
        completion?(error == nil ? self : nil, error)
    }

    /// It is told nothing any more. Before it is kept this may be because the call fails, which knows better why.
    func end(_ why: any Error) {
        let isKept = lock.withLock {
            ended = why
            return self.isKept
        }
        if isKept { answer(why) }
    }

    func keep(_ new: Subscription) {
        let ended = lock.withLock {
            isKept = true
            if !removed { subscription = new }
            return self.ended
        }
        if let ended { answer(ended) }
    }

    func remove() {
        let old = lock.withLock {
            removed = true
            defer { subscription = nil }
            return subscription
        }
        old?.cancel()
    }
}

extension Value {
    /// What Swift code that does not know the type is given; nil for `null`, and for what nests too deep to be a value.
    public var any: Any? {
        switch kind {
        case .null: return nil
        case .boolean: return try? boolean
        case .integer: return (try? integer).map { Int(exactly: $0) ?? $0 as Any }
        case .number: return try? number
        case .string: return try? string
        case .array: return try? elements.map { $0.any ?? NSNull() }
        case .object: return try? members.mapValues { $0.any ?? NSNull() }
        }
    }

    /// A value of a type that is not known. Throws `SessionStoreError.Code.invalidJSON` for what is no JSON, and for what nests too
    /// deep.
    public init(any object: Any?) throws {
        guard let object else {
            self = .null
            return
        }
        #if canImport(Darwin)
        // Here `as? Bool` would take 1 for true, and `as? Int` true for 1.
        if let number = object as? NSNumber {
            if CFGetTypeID(number) == CFBooleanGetTypeID() {
                self.init(number.boolValue)
            } else if CFNumberIsFloatType(number) {
                try self.init(number.doubleValue)
            } else {
                try self.init(json: number.stringValue)
            }
            return
        }
        #endif
        switch object {
        case is NSNull: self = .null
        case let elements as [Any?]: try self.init(encoding: Value(elements.map(Value.init(any:))))
        case let members as [String: Any?]:
            try self.init(encoding: members.mapValues(Value.init(any:)))
        case let encodable as any Encodable: try self.init(encoding: encodable)
        default:
            throw SessionStoreError(.invalidJSON, "An object of this type cannot be said in JSON.")
        }
    }
}
