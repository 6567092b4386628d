import CSessionStore
import Foundation

/// A lock that this client holds, or held. It is released when the last one who knows it is gone, which never blocks, and
/// ends with its client.
///
/// While the client is connected it renews the lock by itself. Who holds a lock is shown to everybody by the key `$lock/` and
/// its name, which can be listened to as any other.
public final class Lock: Sendable {
    let handle: Handle
    private let ended: Outcome<SessionStoreError?>

    fileprivate init(borrowing lock: OpaquePointer, _ ended: Outcome<SessionStoreError?>) {
        handle = Handle(owning: sessionstore_lock_retain(lock), sessionstore_lock_free)
        self.ended = ended
    }

    /// The name it was taken by.
    public var name: String { handle.use { lock in text { sessionstore_lock_name(lock, $0) } } }

    /// The fencing token of this grant: larger than that of every grant before it in the session. Who guards something outside
    /// the room can refuse tokens that are smaller than one it has seen.
    public var token: UInt64 { handle.use(sessionstore_lock_token) }

    /// Whether it is held as far as this client knows: it was neither released nor lost, and its time is not over, of which
    /// ``end()`` tells a moment later. What must not be written by one who has lost the lock without knowing yet is written with the
    /// lock in its ``WriteOptions``.
    public var isHeld: Bool { handle.use(sessionstore_lock_is_held) != 0 }

    /// Gives the lock up: the next who waits gets it. From here on it is not held any more, so a task that is cancelled
    /// while it waits for this takes nothing back: the lock is given up all the same.
    ///
    /// Throws ``SessionStoreError/Code/lockLost`` if it was not held any more, ``SessionStoreError/Code/closed``.
    public func release() async throws {
        _ = try await actionRequest(goesOn: true) { result, error in
            handle.use { sessionstore_lock_release($0, result, error) }
        }
    }

    /// Waits until the lock is not held any more. Nil when it was released; otherwise why it is lost:
    /// ``SessionStoreError/Code/lockLost`` when it could not be renewed in time or an operator took it away,
    /// ``SessionStoreError/Code/forbidden`` when the rules do not allow it any more,
    /// ``SessionStoreError/Code/sessionLost``, or what the client ended with.
    ///
    /// Throws `CancellationError` when the waiting task is cancelled.
    public func end() async throws -> SessionStoreError? {
        try await ended.wait()
    }
}

/// The context of a lock's listener. Its calls never overlap.
private final class LockListener {
    let ended: Outcome<SessionStoreError?>
    private let onLost: @Sendable (SessionStoreError) -> Void

    init(_ ended: Outcome<SessionStoreError?>, _ onLost: @escaping @Sendable (SessionStoreError) -> Void) {
        self.ended = ended
        self.onLost = onLost
    }

    deinit { ended.finish(.success(nil)) }

    var callbacks: sessionstore_lock_listener {
        var callbacks = sessionstore_lock_listener.holding(self)
        callbacks.on_lost = { pointer, error in
            let listener = context(pointer, as: LockListener.self)
            let error = SessionStoreError(borrowing: error!)
            listener.ended.finish(.success(error))
            listener.onLost(error)
        }
        return callbacks
    }
}

/// The context of a request for a lock.
private final class LockAnswer: Sendable {
    let answer = Answer<Lock>()
    let ended = Outcome<SessionStoreError?>()
}

extension Store {
    /// Takes a lock of the room, which is this client's until it is released, lost, or nobody knows it any more.
    ///
    /// ```swift
    /// let presenter = try await store.lock("presenter", wait: .seconds(60))
    /// try await store.set("slide", to: 7, options: WriteOptions(lock: presenter))
    /// try await presenter.release()
    /// ```
    ///
    /// A task that is cancelled while it waits stops waiting; if the lock is granted nevertheless, it is given back at once.
    ///
    /// - Parameters:
    ///   - name: 1 to 200 bytes, without control characters.
    ///   - ttl: How long the lock outlives its last renewal, 1 s to 300 s: so long it stays taken when its holder vanishes. 15 s
    ///     if it is nil.
    ///   - wait: How long to wait for it behind those who came before, at most 300 s.
    ///   - onLost: Called once if the lock is lost, never after a release, on the threads of the client's listeners.
    ///
    /// Throws ``SessionStoreError/Code/lockHeld``, after as much waiting as was asked for, whose ``SessionStoreError/current``
    /// shows by whom; ``SessionStoreError/Code/invalidLock``, ``SessionStoreError/Code/invalidArgument`` for times out of their
    /// range, ``SessionStoreError/Code/tooManyLocks``; what a request is refused with.
    public func lock(
        _ name: String, ttl: Duration? = nil, wait: Duration = .zero,
        onLost: @escaping @Sendable (SessionStoreError) -> Void = { _ in }
    ) async throws -> Lock {
        let request = LockAnswer()
        return try await request.answer.sent { cancellation in
            var options = sessionstore_lock_options.sized()
            options.ttl_ms = try more(ttl, "ttl")
            options.wait_ms = try plain(wait, "wait")
            var listener = LockListener(request.ended, onLost).callbacks
            var result = sessionstore_lock_result.holding(request, cancellation)
            result.on_result = { pointer, error, lock in
                let request = context(pointer, as: LockAnswer.self)
                request.answer.finish(error) { Lock(borrowing: lock!, request.ended) }
            }
            try handle.use { store in
                try withText(name) { name, length in
                    try call { sessionstore_store_lock(store, name, length, &options, &listener, &result, $0) }
                }
            }
        }
    }

    /// Does something while holding a lock, and releases it, however that ends. Otherwise as
    /// ``lock(_:ttl:wait:onLost:)``.
    ///
    /// ```swift
    /// try await store.withLock("presenter", wait: .seconds(60)) { lock in
    ///     try await store.set("slide", to: 7, options: WriteOptions(lock: lock))
    /// }
    /// ```
    @discardableResult
    public func withLock<R: Sendable>(
        _ name: String, ttl: Duration? = nil, wait: Duration = .zero,
        _ body: @Sendable (Lock) async throws -> R
    ) async throws -> R {
        let held = try await lock(name, ttl: ttl, wait: wait)
        let result: R
        do {
            result = try await body(held)
        } catch {
            // Released even when this task is cancelled; that it could not be is not what went wrong.
            await Task { try? await held.release() }.value
            throw error
        }
        try await Task { try await held.release() }.value
        return result
    }
}
