import CSessionStore
import Foundation

/// The store of the room a client is in. It may be used from anywhere, copied, and may outlive its client, after which
/// its calls throw ``SessionStoreError/Code/closed``.
///
/// ```swift
/// try await store.set("spotlight", to: "peer-1")
/// let event = try await store.get("spotlight")
/// ```
///
/// ### What all requests have in common
///
/// They are sent in the order in which they are made, wait while the connection is made anew, and end within
/// ``ClientOptions/requestTimeout``. When one returns, this client's listeners were told of what it changed. They throw
/// ``SessionStoreError``; after ``SessionStoreError/Code/outcomeUnknown`` it may have been applied, after every other code it
/// was not.
///
/// A task that is cancelled stops waiting at once, with `CancellationError`, and its request is taken back: what was not
/// sent, as nothing is while there is no connection, is never sent, and who waits for a lock no longer does. Only a change
/// that was sent already may be applied all the same, as after ``SessionStoreError/Code/outcomeUnknown``. When the answer was
/// there first, it counts.
public struct Store: Sendable {
    let handle: Handle

    init(borrowing store: OpaquePointer) {
        handle = Handle(owning: sessionstore_store_retain(store), sessionstore_store_free)
    }

    // MARK: Reading

    /// Asks the server for a key's current state; an absent key has the value `null`.
    public func get(_ key: String) async throws -> Event {
        try await request { store, result, error in
            withText(key) { sessionstore_store_get(store, $0, $1, result, error) }
        }
    }

    /// Asks the server for a key's current value; nil when it is absent.
    public func get<Value>(_ key: Key<Value>) async throws -> Value? {
        try await get(key.name).value(of: key)
    }

    /// What this client knows of a key it listens to, without asking the server. Nil when no listener has the key, or its
    /// first value is still under way. It asks nobody, so it is no error that the client is closed.
    public func cached(_ key: String) throws -> Event? {
        try handle.use { store in
            try withText(key) { key, length in
                try make(sessionstore_event_free) { sessionstore_store_cached(store, key, length, $0, $1) }
            }
        }.map(Event.init(owning:))
    }

    /// The same as the type of the key; nil also when the key is known to be absent.
    public func cached<Value>(_ key: Key<Value>) throws -> Value? {
        try cached(key.name)?.value(of: key)
    }

    /// Asks the server for the states of several keys at one revision: the single keys of the selector in their order, absent
    /// ones with the value `null`, then those its prefixes mean in alphabetical order.
    public func read(_ selector: KeySelector) async throws -> Snapshot {
        let answer = Answer<Snapshot>()
        return try await answer.sent { cancellation in
            var result = sessionstore_event_list_result.holding(answer, cancellation)
            result.on_result = eventListResult
            try selector.use { selector in
                try handle.use { store in try call { sessionstore_store_read(store, selector, &result, $0) } }
            }
        }
    }

    /// Asks the server for the names of the keys that are set and begin with a text, which may be empty, in alphabetical
    /// order.
    public func keys(prefix: String = "") async throws -> [String] {
        let answer = Answer<[String]>()
        return try await answer.sent { cancellation in
            var result = sessionstore_key_list_result.holding(answer, cancellation)
            result.on_result = { pointer, error, list in
                context(pointer, as: Answer<[String]>.self).finish(error) {
                    (0..<sessionstore_key_list_count(list)).map { index in
                        text { sessionstore_key_list_get(list, index, $0) }
                    }
                }
            }
            try handle.use { store in
                try withText(prefix) { prefix, length in
                    try call { sessionstore_store_keys(store, prefix, length, &result, $0) }
                }
            }
        }
    }

    /// Asks the server how much of its limits the store uses.
    public func usage() async throws -> Usage {
        let answer = Answer<Usage>()
        return try await answer.sent { cancellation in
            var result = sessionstore_usage_result.holding(answer, cancellation)
            result.on_result = { pointer, error, usage in
                context(pointer, as: Answer<Usage>.self).finish(error) { Usage(usage!.pointee) }
            }
            try handle.use { store in try call { sessionstore_store_usage(store, &result, $0) } }
        }
    }

    // MARK: Writing

    /// Sets a key; nil and ``Value/null`` remove it.
    ///
    /// ```swift
    /// try await store.set("hand/ada", to: true, options: WriteOptions(bound: true))
    /// ```
    ///
    /// Refused with ``SessionStoreError/Code/valueTooLarge``, ``SessionStoreError/Code/tooManyKeys``,
    /// ``SessionStoreError/Code/storeFull``, ``SessionStoreError/Code/forbidden``, which change nothing.
    ///
    /// - Returns: The key's new state.
    @discardableResult
    public func set<T: Encodable>(_ key: String, to value: T, options: WriteOptions = .none) async throws -> Event {
        let value = try Value(encoding: value)
        guard options.isNone else { return try await write(key, .set(value), options) }
        return try await request { store, result, error in
            withText(key) { key, length in
                withText(value.json) { sessionstore_store_set(store, key, length, $0, $1, result, error) }
            }
        }
    }

    /// Sets a key to a value of its type.
    @discardableResult
    public func set<Value>(_ key: Key<Value>, to value: Value, options: WriteOptions = .none) async throws -> Event {
        try await set(key.name, to: value, options: options)
    }

    /// Sets a key only if it has this version now, 0 meaning that it is absent.
    ///
    /// Refused with ``SessionStoreError/Code/versionConflict``, whose ``SessionStoreError/current`` has what the key holds.
    /// `update` does this until it lands.
    @discardableResult
    public func set<T: Encodable>(_ key: String, to value: T, ifVersion version: UInt64) async throws -> Event {
        let value = try Value(encoding: value)
        return try await request { store, result, error in
            withText(key) { key, length in
                withText(value.json) {
                    sessionstore_store_set_if_version(store, key, length, $0, $1, version, result, error)
                }
            }
        }
    }

    /// Sets a key to a value of its type only if it has this version now, 0 meaning that it is absent.
    @discardableResult
    public func set<Value>(_ key: Key<Value>, to value: Value, ifVersion version: UInt64) async throws -> Event {
        try await set(key.name, to: value, ifVersion: version)
    }

    /// Removes a key; that it was absent already is fine.
    @discardableResult
    public func remove(_ key: String) async throws -> Event {
        try await request { store, result, error in
            withText(key) { sessionstore_store_remove(store, $0, $1, result, error) }
        }
    }

    /// Removes a key; that it was absent already is fine.
    @discardableResult
    public func remove<Value>(_ key: Key<Value>) async throws -> Event {
        try await remove(key.name)
    }

    // MARK: Changing on the server

    /// Adds an integer, which may be negative, to a key's number, exactly; an absent key counts as 0. However many peers add
    /// at once, none of it is lost.
    ///
    /// Refused with ``SessionStoreError/Code/wrongType`` when the key holds something else, and
    /// ``SessionStoreError/Code/numberOverflow``.
    ///
    /// - Returns: The key's state, with the sum.
    @discardableResult
    public func add(_ amount: Int64, to key: String) async throws -> Event {
        try await request { store, result, error in
            withText(key) { sessionstore_store_add(store, $0, $1, amount, result, error) }
        }
    }

    /// Adds an integer to a key's number, as `add(_:to:)` of a key without type.
    @discardableResult
    public func add<Value: BinaryInteger>(_ amount: Int64, to key: Key<Value>) async throws -> Event {
        try await add(amount, to: key.name)
    }

    /// Does an operation to a key, on the server: nobody has to read a value, change it and write all of it back, and
    /// nobody's change is lost.
    ///
    /// ```swift
    /// try await store.write("pinned", .append(["Welcome!"], cap: 3))
    /// try await store.write("poll", .patch(["open": false]))
    /// ```
    ///
    /// Refused, beside what a set is, with ``SessionStoreError/Code/wrongType`` when the key holds something that the
    /// operation is not for, ``SessionStoreError/Code/numberOverflow``, ``SessionStoreError/Code/keyAbsent``,
    /// ``SessionStoreError/Code/versionConflict``, ``SessionStoreError/Code/lockLost``; and with
    /// ``SessionStoreError/Code/invalidArgument`` for options that contradict each other or do not fit the operation.
    ///
    /// - Returns: The key's state after it.
    @discardableResult
    public func write(_ key: String, _ operation: WriteOperation, _ options: WriteOptions = .none) async throws -> Event {
        let options = try options.prepared(for: operation)
        return try await request { store, result, error in
            options.use { options in
                withTexts(key, operation.json) {
                    sessionstore_store_write(store, $0, $1, operation.number, $2, $3, options, result, error)
                }
            }
        }
    }

    /// Does an operation to a key, on the server.
    @discardableResult
    public func write<Value>(
        _ key: Key<Value>, _ operation: WriteOperation, _ options: WriteOptions = .none
    ) async throws -> Event {
        try await write(key.name, operation, options)
    }

    /// Reads a key, has its new value computed, and sets it if nobody changed it meanwhile; otherwise again, with what it holds
    /// by then. For what no ``WriteOperation`` does.
    ///
    /// `change` is called on a dispatch thread, again whenever somebody else was faster, so it should do nothing but compute.
    /// It returns the new value; ``Value/null`` removes the key, nil leaves it as it is. What it throws, this throws, and the
    /// key stays as it is. No further attempt is made once the task is cancelled, also if that is while `change` is called, or
    /// after ``ClientOptions/requestTimeout``: then ``SessionStoreError/Code/versionConflict`` when others were faster until then.
    @discardableResult
    public func update(
        _ key: String, _ change: @escaping @Sendable (Event) throws -> Value?
    ) async throws -> Event {
        let updater = Updater(change)
        let event = try await request { store, result, error in
            var callbacks = updater.callbacks
            return withText(key) { sessionstore_store_update(store, $0, $1, &callbacks, result, error) }
        }
        if let failure = updater.failure { throw failure }
        return event
    }

    /// Computes the value of a key anew until nobody was faster. Nil is the absence of the key, before and after.
    ///
    /// ```swift
    /// try await store.update(.stakes) { stakes in stakes = (stakes ?? 1) * 2 }
    /// ```
    @discardableResult
    public func update<Content>(
        _ key: Key<Content>, _ change: @escaping @Sendable (inout Content?) throws -> Void
    ) async throws -> Event {
        try await update(key.name) { current in
            var content = try current.value(of: key)
            try change(&content)
            return try Value(encoding: content)
        }
    }

    // MARK: Several keys

    /// Sends a transaction: all of its checks hold and all of its writes are made, in one revision, or nothing is changed.
    ///
    /// Refused with ``SessionStoreError/Code/checkFailed`` or ``SessionStoreError/Code/lockLost``, whose
    /// ``SessionStoreError/check`` says which check and ``SessionStoreError/current`` what the key holds; with what a write is
    /// refused with, whose ``SessionStoreError/write`` says which; and with ``SessionStoreError/Code/invalidArgument`` for
    /// more than 200 checks and writes.
    ///
    /// - Returns: The state of each key that is written, in the order of their first writes.
    @discardableResult
    public func transact(_ transaction: Transaction) async throws -> Snapshot {
        let answer = Answer<Snapshot>()
        return try await answer.sent { cancellation in
            let built = try transaction.build()
            var result = sessionstore_event_list_result.holding(answer, cancellation)
            result.on_result = eventListResult
            try handle.use { store in
                try built.use { transaction in
                    try call { sessionstore_store_transact(store, transaction, &result, $0) }
                }
            }
        }
    }

    /// Sends a transaction that is described by a closure. Otherwise as the other `transact`.
    ///
    /// ```swift
    /// try await store.transact {
    ///     $0.check("turn", equals: "x")
    ///     $0.set("board/4", to: "x")
    ///     $0.set("turn", to: "o")
    /// }
    /// ```
    @discardableResult
    public func transact(_ describe: (inout Transaction) throws -> Void) async throws -> Snapshot {
        var transaction = Transaction()
        try describe(&transaction)
        return try await transact(transaction)
    }

    // MARK: Requests

    /// A request for one key.
    private func request(
        _ send: (OpaquePointer, UnsafePointer<sessionstore_action_result>, ErrorOut) -> Int32
    ) async throws -> Event {
        let event = try await actionRequest { result, error in handle.use { send($0, result, error) } }
        // All of them give one.
        return event!
    }

    /// Asks for a key's state before this returns, for callers that have no task. `then` is called once, on the threads of the
    /// client's listeners, or here when nothing could be sent.
    package func get(_ key: String, then: @escaping @Sendable (Result<Event, any Error>) -> Void) {
        request(then) { store, result, error in
            withText(key) { sessionstore_store_get(store, $0, $1, result, error) }
        }
    }

    /// Sets a key before this returns, as `get(_:then:)`.
    package func set(
        _ key: String, to value: Result<Value, any Error>, then: @escaping @Sendable (Result<Event, any Error>) -> Void
    ) {
        switch value {
        case .failure(let error): then(.failure(error))
        case .success(let value):
            request(then) { store, result, error in
                withText(key) { key, length in
                    withText(value.json) { sessionstore_store_set(store, key, length, $0, $1, result, error) }
                }
            }
        }
    }

    private func request(
        _ then: @escaping @Sendable (Result<Event, any Error>) -> Void,
        _ send: (OpaquePointer, UnsafePointer<sessionstore_action_result>, ErrorOut) -> Int32
    ) {
        // All of them give an event.
        let answer = Answer<Event?> { then($0.map { $0! }) }
        do {
            try sendAction(answer, nil) { result, error in handle.use { send($0, result, error) } }
        } catch {
            then(.failure(error))
        }
    }
}

/// A request that ends with an action result, which has an event or none. If it goes on, it is not taken back when its task is
/// cancelled.
func actionRequest(
    goesOn: Bool = false, _ send: (UnsafePointer<sessionstore_action_result>, ErrorOut) -> Int32
) async throws -> Event? {
    let answer = Answer<Event?>()
    return try await answer.sent { try sendAction(answer, goesOn ? nil : $0, send) }
}

private func sendAction(
    _ answer: Answer<Event?>, _ cancellation: OpaquePointer?,
    _ send: (UnsafePointer<sessionstore_action_result>, ErrorOut) -> Int32
) throws {
    var result = sessionstore_action_result.holding(answer, cancellation)
    result.on_result = { pointer, error, event in
        context(pointer, as: Answer<Event?>.self).finish(error) { event.map(Event.init(borrowing:)) }
    }
    try call { send(&result, $0) }
}

private let eventListResult:
    @convention(c) (UnsafeMutableRawPointer?, OpaquePointer?, OpaquePointer?) -> Void = { pointer, error, list in
        context(pointer, as: Answer<Snapshot>.self).finish(error) { Snapshot(borrowing: list!) }
    }

/// The answer to one request, and the context of its callback.
final class Answer<Success: Sendable>: Sendable {
    private let outcome = Outcome<Success>()
    private let then: (@Sendable (Result<Success, any Error>) -> Void)?

    /// - Parameter then: Is called with the answer, for callers that have no task.
    init(then: (@Sendable (Result<Success, any Error>) -> Void)? = nil) {
        self.then = then
    }

    /// A callback was told the end.
    func finish(_ error: OpaquePointer?, _ success: () -> Success) {
        let result: Result<Success, any Error>
        if let error {
            let failure = SessionStoreError(borrowing: error)
            // It is told while the task, because of which it was taken back, is told that it is cancelled.
            result = .failure(failure.code == .cancelled ? CancellationError() : failure)
        } else {
            result = .success(success())
        }
        outcome.finish(result)
        then?(result)
    }

    /// Sends the request, unless the task is cancelled already, and waits for its answer. `send` is lent what takes the request
    /// back when the task is cancelled: before this throws, and not earlier than the request was begun.
    func sent(_ send: (OpaquePointer) throws -> Void) async throws -> Success {
        try Task.checkCancellation()
        // A cancellation is given whenever the call succeeds.
        let cancellation = try make(sessionstore_cancellation_free) { sessionstore_cancellation_new($0, $1) }!
        try cancellation.use(send)
        return try await outcome.wait(onCancel: {
            // If it fails, as in a forked child, this throws all the same.
            cancellation.use { _ = sessionstore_cancellation_cancel($0, nil) }
        })
    }
}

/// The context of an updater.
///
/// `@unchecked Sendable`: everything that changes is behind the lock.
private final class Updater: @unchecked Sendable {
    private let change: @Sendable (Event) throws -> Value?
    private let lock = NSLock()
    private var thrown: (any Error)?

    init(_ change: @escaping @Sendable (Event) throws -> Value?) {
        self.change = change
    }

    /// What `change` threw, for which the key was left as it is.
    var failure: (any Error)? { lock.withLock { thrown } }

    var callbacks: sessionstore_updater {
        var callbacks = sessionstore_updater.holding(self)
        callbacks.on_update = { context($0, as: Updater.self).next(Event(borrowing: $1!)) }
        return callbacks
    }

    /// A value that becomes the library's, or NULL to leave the key as it is.
    private func next(_ current: Event) -> OpaquePointer? {
        do {
            return try change(current)?.retained()
        } catch {
            lock.withLock { thrown = error }
            return nil
        }
    }
}
