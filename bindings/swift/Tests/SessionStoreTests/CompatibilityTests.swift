import Foundation
import SessionStore
import SessionStoreCompatibility
import XCTest

/// What a completion is told.
private struct Told: @unchecked Sendable {
    let value: Any?
    let error: (any Error)?
}

/// Waits until a completion is told.
private func ending(_ start: (@escaping @Sendable (Told) -> Void) -> Void) async throws -> Told {
    let told = Shared<Told?>(nil)
    let signal = Signal()
    start { result in
        told.change { $0 = result }
        signal.raise()
    }
    try await signal.wait()
    return told.value!
}

/// The calls under the original's names.
final class CompatibilityTests: XCTestCase {
    private final class Meeting: HMSUpdateListener {
        let store = Shared<HMSSessionStore?>(nil)
        let errors = Shared<[any Error]>([])
        let told = Signal()

        func on(sessionStoreAvailable store: HMSSessionStore) {
            self.store.change { $0 = store }
            told.raise()
        }

        func on(error: any Error) {
            errors.change { $0.append(error) }
            told.raise()
        }
    }

    private func set(_ store: HMSSessionStore, _ object: Any?, _ key: String) async throws -> Told {
        try await ending { done in store.set(object, forKey: key) { done(Told(value: $0, error: $1)) } }
    }

    private func get(_ store: HMSSessionStore, _ key: String) async throws -> Told {
        try await ending { done in store.object(forKey: key) { done(Told(value: $0, error: $1)) } }
    }

    private func join(
        _ server: Server, _ meeting: Meeting, queue: DispatchQueue
    ) async throws -> (Client, HMSSessionStore) {
        let client = try Client(ClientOptions(url: server.url, room: "room"), delegate: meeting, queue: queue)
        try await meeting.told.wait()
        return (client, try XCTUnwrap(meeting.store.value))
    }

    func testTypesAreKept() async throws {
        let server = try Server()
        let meeting = Meeting()
        let (client, store) = try await join(server, meeting, queue: DispatchQueue(label: "test"))
        let other = try await Member(server, "other")

        // D4: true comes as true, 1 as 1, "1" as "1".
        var told = try await set(store, true, "a")
        XCTAssertEqual(told.value as? Bool, true)
        XCTAssertNil(told.value as? Int)
        told = try await get(store, "a")
        XCTAssertEqual(told.value as? Bool, true)
        XCTAssertNil(told.value as? Int)
        told = try await set(store, 1, "a")
        XCTAssertEqual(told.value as? Int, 1)
        XCTAssertNil(told.value as? Bool)
        told = try await set(store, "1", "a")
        XCTAssertEqual(told.value as? String, "1")
        told = try await set(store, 9_007_199_254_740_993, "a")
        XCTAssertEqual(told.value as? Int, 9_007_199_254_740_993)
        told = try await set(store, 1.5, "a")
        XCTAssertEqual(told.value as? Double, 1.5)
        told = try await set(store, ["n": 1, "t": true, "l": [1, "x", NSNull()] as [Any], "s": "x"] as [String: Any], "a")
        let members = try XCTUnwrap(told.value as? [String: Any])
        XCTAssertEqual(members["t"] as? Bool, true)
        XCTAssertEqual(members["n"] as? Int, 1)
        let elements = try XCTUnwrap(members["l"] as? [Any])
        XCTAssertTrue(elements[2] is NSNull)
        XCTAssertEqual(elements[1] as? String, "x")
        let event = try await other.store.get("a")
        XCTAssertEqual(try event.value.members, ["n": 1, "t": true, "l": [1, "x", nil], "s": "x"])

        for nothing in [nil, NSNull()] as [Any?] {
            told = try await set(store, nothing, "a")
            XCTAssertNil(told.value)
            XCTAssertNil(told.error)
        }
        told = try await get(store, "a")
        XCTAssertNil(told.value)
        XCTAssertNil(told.error)
        told = try await set(store, NSObject(), "a")
        XCTAssertEqual((told.error as? SessionStoreError)?.code, .invalidJSON)
        told = try await set(store, String(repeating: "x", count: 2_000), "a")
        XCTAssertEqual((told.error as? SessionStoreError)?.code, .valueTooLarge)

        // What is set one after the other is so for everybody.
        for number in 0..<20 { store.set(number, forKey: "a") }
        told = try await get(store, "a")
        XCTAssertEqual(told.value as? Int, 19)

        // D6: a store that is gone says so, each time.
        try await client.leave()
        told = try await set(store, 1, "a")
        XCTAssertEqual((told.error as? SessionStoreError)?.code, .closed)
        told = try await get(store, "a")
        XCTAssertEqual((told.error as? SessionStoreError)?.code, .closed)
    }

    func testObservers() async throws {
        let server = try Server()
        let meeting = Meeting()
        let queue = DispatchQueue(label: "test")
        let (client, store) = try await join(server, meeting, queue: queue)
        try await client.join().set("spotlight", to: "ada")

        // D5, D7: two observers of one moment each hear everything once.
        let heard = Shared<[[String]]>([[], []])
        let observers = Shared<[Told]>([])
        let ready = Signal()
        for index in 0..<2 {
            store.observeChanges(forKeys: ["spotlight", "pinned"]) { key, value in
                heard.change { $0[index].append("\(key) \(value as? String ?? "nothing")") }
            } completion: { observer, error in
                XCTAssertNil(error)
                let told = Told(value: observer, error: error)
                observers.change { $0.append(told) }
                ready.raise()
            }
        }
        try await ready.wait()
        try await ready.wait()
        let before = ["spotlight ada", "pinned nothing"]
        XCTAssertEqual(heard.value, [before, before])
        let changed = before + ["pinned Welcome!"]
        _ = try await set(store, "Welcome!", "pinned")
        XCTAssertEqual(heard.value, [changed, changed])

        // Who is removed on the queue hears nothing any more, the other goes on.
        let first = try XCTUnwrap(observers.value.first?.value as? any NSObjectProtocol)
        queue.sync { store.removeObserver(first) }
        _ = try await set(store, nil, "pinned")
        XCTAssertEqual(heard.value.map(\.count).sorted(), [3, 4])
        store.removeObserver(first)
        store.removeObserver(NSObject())

        let refused = try await ending { done in
            store.observeChanges(forKeys: []) { _, _ in } completion: { done(Told(value: $0, error: $1)) }
        }
        XCTAssertEqual((refused.error as? SessionStoreError)?.code, .invalidArgument)
        let tooMany = try await ending { done in
            store.observeChanges(forKeys: (0..<201).map { "k\($0)" }) { _, _ in } completion: {
                done(Told(value: $0, error: $1))
            }
        }
        XCTAssertEqual((tooMany.error as? SessionStoreError)?.code, .tooManyListenedKeys)
    }

    func testACompletionIsToldOnce() async throws {
        let server = try Server()
        let meeting = Meeting()
        var client: Client?
        let store: HMSSessionStore
        (client, store) = try await join(server, meeting, queue: DispatchQueue(label: "test"))
        let told = Shared<[Told]>([])
        let completed = Signal()
        let observe = { key in
            store.observeChanges(forKeys: [key]) { _, _ in } completion: { observer, error in
                let one = Told(value: observer, error: error)
                told.change { $0.append(one) }
                completed.raise()
            }
        }
        observe("spotlight")
        try await completed.wait()
        XCTAssertEqual(told.value.map { $0.error == nil }, [true])

        // Refused later, it is not told again; who comes then is refused.
        try server.setRules("[[rule]]\nroles = [\"*\"]\nkeys = [\"pinned\"]\nallow = [\"read\"]\n")
        try await within {
            while try await ending({ done in
                store.observeChanges(forKeys: ["spotlight"]) { _, _ in } completion: { done(Told(value: $0, error: $1)) }
            }).error == nil {}
        }
        _ = try await get(store, "pinned")
        XCTAssertEqual(told.value.count, 1)
        try server.setRules(nil)

        // D6: nobody answers any more, and the client goes.
        try await server.stopped()
        observe("other")
        withExtendedLifetime(client) {}
        client = nil
        try await completed.wait()
        XCTAssertEqual(told.value.count, 2)
        XCTAssertEqual((told.value.last?.error as? SessionStoreError)?.code, .closed)
    }

    func testTheDelegateHearsErrorsAndIsNotHeld() async throws {
        let server = try Server()
        let queue = DispatchQueue(label: "test")
        weak var gone: Meeting?
        let client: Client
        do {
            let meeting = Meeting()
            gone = meeting
            client = try await join(server, meeting, queue: queue).0
        }
        // What was under way to it is over.
        queue.sync {}
        XCTAssertNil(gone)

        let refused = Meeting()
        var options = ClientOptions(url: server.url, room: "room")
        options.peerID = client.peerID
        options.failFast = true
        let second = try Client(options, delegate: refused, queue: DispatchQueue(label: "test"))
        try await refused.told.wait()
        XCTAssertEqual(refused.errors.value.map { ($0 as? SessionStoreError)?.code }, [.peerInUse])
        withExtendedLifetime((client, second)) {}
    }

    func testOnTheMainQueue() async throws {
        let server = try Server()
        let meeting = Meeting()
        let (client, store) = try await join(server, meeting, queue: .main)
        let main = Shared(false)
        let told = try await ending { done in
            store.set("x", forKey: "k") { value, error in
                main.change { $0 = Thread.isMainThread }
                done(Told(value: value, error: error))
            }
        }
        XCTAssertEqual(told.value as? String, "x")
        XCTAssertTrue(main.value)
        withExtendedLifetime(client) {}
    }
}
