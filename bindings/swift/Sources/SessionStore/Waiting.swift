// What tasks wait for: how something ends, and what comes next.

import Foundation

/// Something behind a lock, and the tasks that wait for it to become so that they can go on, in the order in which they
/// came. A task that is cancelled stops waiting with `CancellationError`, and nothing else happens unless it says what.
///
/// `@unchecked Sendable`: everything that changes is behind the lock.
private final class Guarded<State, Success: Sendable>: @unchecked Sendable {
    typealias Continuation = CheckedContinuation<Success, any Error>
    private let lock = NSLock()
    private var state: State
    private var waiting: [(id: UInt64, continuation: Continuation)] = []
    /// Cancelled before they began to wait.
    private var cancelled: Set<UInt64> = []
    private var lastID: UInt64 = 0

    init(_ state: State) {
        self.state = state
    }

    /// Changes the state. `wake` says what to tell the first who waits, until it says nil.
    func change(_ body: (inout State) -> Void, wake: (inout State) -> Result<Success, any Error>?) {
        let woken = lock.withLock {
            body(&state)
            var woken: [(Continuation, Result<Success, any Error>)] = []
            while !waiting.isEmpty, let result = wake(&state) {
                woken.append((waiting.removeFirst().continuation, result))
            }
            return woken
        }
        for (continuation, result) in woken { continuation.resume(with: result) }
    }

    /// What `take` finds, at once or as soon as a change finds it for us. If the task is cancelled, now or before,
    /// `onCancel` is called before this throws `CancellationError`.
    func wait(
        onCancel: @Sendable () -> Void = {}, _ take: (inout State) -> Result<Success, any Error>?
    ) async throws -> Success {
        let id = lock.withLock {
            lastID += 1
            return lastID
        }
        defer { lock.withLock { _ = cancelled.remove(id) } }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let found: Result<Success, any Error>? = lock.withLock {
                    if cancelled.contains(id) { return .failure(CancellationError()) }
                    if let found = take(&state) { return found }
                    waiting.append((id, continuation))
                    return nil
                }
                if let found { continuation.resume(with: found) }
            }
        } onCancel: {
            onCancel()
            let stopped: Continuation? = lock.withLock {
                guard let index = waiting.firstIndex(where: { $0.id == id }) else {
                    cancelled.insert(id)
                    return nil
                }
                return waiting.remove(at: index).continuation
            }
            stopped?.resume(throwing: CancellationError())
        }
    }
}

/// How something ends, once. Any number of tasks may wait for it.
final class Outcome<Success: Sendable>: Sendable {
    private let guarded = Guarded<Result<Success, any Error>?, Success>(nil)

    /// The first one counts.
    func finish(_ result: Result<Success, any Error>) {
        guarded.change({ $0 = $0 ?? result }, wake: { $0 })
    }

    /// Throws `CancellationError` when the waiting task is cancelled before it is known, after `onCancel`.
    func wait(onCancel: @Sendable () -> Void = {}) async throws -> Success {
        try await guarded.wait(onCancel: onCancel) { $0 }
    }
}

/// What was told and not yet read. It is bounded: when more waits than `compactAbove`, and than twice what was left the
/// last time, `compact` says what is left of it.
final class Mailbox<Element: Sendable>: Sendable {
    private struct State {
        var elements: [Element] = []
        /// How many of them are read.
        var read = 0
        var end: Result<Void, any Error>?
        var compactAbove = Mailbox.compactAbove

        mutating func take() -> Result<Element?, any Error>? {
            if read < elements.count {
                defer { read += 1 }
                return .success(elements[read])
            }
            // An error of the end is told once.
            defer { if case .failure? = end { end = .success(()) } }
            return end.map { $0.map { nil } }
        }
    }

    /// As many as the library keeps for a client before it drops older states.
    private static var compactAbove: Int { 4_096 }

    private let compact: @Sendable (ArraySlice<Element>) -> [Element]
    private let guarded = Guarded<State, Element?>(State())

    init(compact: @escaping @Sendable (ArraySlice<Element>) -> [Element]) {
        self.compact = compact
    }

    func put(_ element: Element) {
        guarded.change {
            guard $0.end == nil else { return }
            if $0.read == $0.elements.count {
                $0.elements.removeAll(keepingCapacity: $0.elements.count <= Mailbox.compactAbove)
                $0.read = 0
            }
            $0.elements.append(element)
            if $0.elements.count > $0.compactAbove {
                $0.elements = compact($0.elements[$0.read...])
                $0.read = 0
                $0.compactAbove = max(Mailbox.compactAbove, 2 * $0.elements.count)
            }
        } wake: {
            $0.take()
        }
    }

    /// What waits is still read before the end.
    func end(_ error: (any Error)?) {
        guarded.change {
            $0.end = $0.end ?? error.map { .failure($0) } ?? .success(())
        } wake: {
            $0.take()
        }
    }

    /// Nil at the end. An error of the end is thrown once; nil follows.
    func next() async throws -> Element? {
        try await guarded.wait { $0.take() }
    }
}
