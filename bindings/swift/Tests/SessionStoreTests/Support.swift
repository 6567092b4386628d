import Foundation
import SessionStore
import XCTest

/// How long a test waits for something that must come, at most.
let safety = Duration.seconds(30)

struct TookTooLong: Error {}

/// Fails when something does not end.
func within<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) async throws -> T {
    try await withThrowingTaskGroup(of: T.self) { group in
        defer { group.cancelAll() }
        group.addTask(operation: body)
        group.addTask {
            try await Task.sleep(for: safety)
            throw TookTooLong()
        }
        return try await group.next()!
    }
}

/// What is expected to be thrown.
@discardableResult
func thrown<T>(
    _ code: SessionStoreError.Code, file: StaticString = #filePath, line: UInt = #line,
    _ body: () async throws -> T
) async -> SessionStoreError? {
    do {
        let result = try await body()
        XCTFail("\(result) instead of \(code.name)", file: file, line: line)
    } catch let error as SessionStoreError {
        XCTAssertEqual(error.code, code, "\(error)", file: file, line: line)
        return error
    } catch {
        XCTFail("\(error) instead of \(code.name)", file: file, line: line)
    }
    return nil
}

/// A member of a room.
struct Member {
    let client: Client
    let store: Store

    init(
        _ server: Server, _ name: String, change: (inout ClientOptions) -> Void = { _ in },
        onUpdate: @escaping @Sendable (Update) -> Void = { _ in }
    ) async throws {
        var options = ClientOptions(url: server.url, room: "room", name: name)
        options.peerID = name
        options.failFast = true
        change(&options)
        let client = try Client(options, onUpdate: onUpdate)
        self.client = client
        store = try await client.join(timeout: safety)
    }
}

/// A member whose callbacks come when the test polls.
struct Polled {
    let client: Client
    let store: Store
    private let woken: Signal

    init(_ server: Server, _ name: String) async throws {
        let woken = Signal()
        let joined = Shared<Store?>(nil)
        var options = ClientOptions(url: server.url, room: "room", name: name)
        options.peerID = name
        options.dispatch = .polled(onWake: { woken.raise() })
        client = try Client(options) { update in
            if case .storeAvailable(let store) = update { joined.change { $0 = store } }
        }
        self.woken = woken
        while joined.value == nil {
            try await woken.wait()
            try client.poll()
        }
        store = joined.value!
    }

    /// Polls whenever there is something to poll for, until something is so.
    func poll(until done: () -> Bool) async throws {
        while !done() {
            try await woken.wait()
            try client.poll()
        }
    }
}

/// Something several threads change.
final class Shared<State: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var state: State

    init(_ state: State) { self.state = state }

    var value: State { lock.withLock { state } }

    func change<R>(_ body: (inout State) -> R) -> R { lock.withLock { body(&state) } }
}

/// Something a test waits for.
final class Signal: Sendable {
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream() }

    func raise() { continuation.yield() }

    func wait() async throws {
        let stream = stream
        try await within { for await _ in stream { return } }
    }
}

/// The next event, however many marks come before.
extension Changes.AsyncIterator {
    func nextEvent() async throws -> Event? {
        while let change = try await next() {
            if let event = change.event { return event }
        }
        return nil
    }
}

/// The project's own tree, which this package is tested in.
let tree = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../../..").standardizedFileURL

func project(_ path: String) throws -> String {
    try String(contentsOf: tree.appendingPathComponent(path), encoding: .utf8)
}
