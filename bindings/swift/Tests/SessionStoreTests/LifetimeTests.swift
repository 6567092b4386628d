import Foundation
import SessionStore
import XCTest

/// What is cancelled, dropped, slow, or used by many at once.
final class LifetimeTests: XCTestCase {
    // MARK: Cancellation

    func testATaskThatWaitsForAChangeStopsAtOnce() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let changes = try ada.store.changes(of: ["k"])
        let atTheEnd = Signal()
        let reader = Task {
            for try await change in changes {
                if case .snapshotEnd = change { atTheEnd.raise() }
            }
        }
        try await atTheEnd.wait()
        reader.cancel()
        try await assertCancelled(reader)

        // The listener is still there for who reads on, and nothing is lost.
        try await ada.store.set("k", to: 1)
        let iterator = changes.makeAsyncIterator()
        let event = try await within { try await iterator.nextEvent() }
        XCTAssertEqual(event?.value, 1)
    }

    func testWhatWasNotSentIsNeverSent() async throws {
        let server = try Server()
        let ada = try await withoutConnection(server)
        let waiting = try await allButOne(of: 3, refusedWith: .queueFull) { number in
            try await ada.store.set("k\(number)", to: number)
        }
        waiting[0].task.cancel()
        try await assertCancelled(waiting[0].task)

        try await within {
            let back = try Server(at: server.port)
            _ = try await waiting[1].task.value
            let keys = try await ada.store.keys()
            XCTAssertEqual(keys, ["k\(waiting[1].number)"])
            withExtendedLifetime(back) {}
        }
    }

    func testACancelledRequestIsNotSaidToHaveFailed() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        // Nobody polls, so that the answer cannot come before the task is cancelled.
        let polled = try await Polled(server, "polled")
        let store = polled.store
        let changes = try ada.store.changes(of: ["k"]).makeAsyncIterator()
        let setting = Task { try await store.set("k", to: "set") }
        // It was applied, and its answer waits.
        try await within { while try await changes.nextEvent()?.value != "set" {} }
        setting.cancel()
        try await assertCancelled(setting)
        try polled.client.poll()
        let got = try await ada.store.get("k")
        XCTAssertEqual(got.value, "set")

        // A task that was cancelled before sends nothing.
        let never = Task {
            withUnsafeCurrentTask { $0!.cancel() }
            try await ada.store.set("k", to: "never")
        }
        try await assertCancelled(never)
        let still = try await ada.store.get("k")
        XCTAssertEqual(still.version, got.version)
    }

    func testAnUpdateThatIsCancelledComputesNoMore() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let bob = try await Member(server, "bob")
        try await ada.store.set("k", to: 0)
        let computing = Signal()
        let cancelled = DispatchSemaphore(value: 0)
        let attempts = Shared(0)
        let updating = Task {
            try await ada.store.update("k") { current in
                let attempt = attempts.change {
                    $0 += 1
                    return $0
                }
                computing.raise()
                // What is computed comes too late: somebody else was faster, and nobody waits any more.
                if attempt == 1 { cancelled.wait() }
                return "from ada"
            }
        }
        try await computing.wait()
        try await bob.store.set("k", to: "from bob")
        updating.cancel()
        try await assertCancelled(updating)
        cancelled.signal()
        // After the answer, everything of ada's that went before was answered.
        let got = try await ada.store.get("k")
        let later = try await ada.store.get("k")
        XCTAssertEqual(got.value, "from bob")
        XCTAssertEqual(later.value, "from bob")
        XCTAssertEqual(attempts.value, 1)
    }

    func testAnUpdateThatIsCancelledWhileItComputesMakesNoAttempt() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let own = Shared<Task<Event, any Error>?>(nil)
        let isKnown = Signal()
        let updating = Task {
            try await isKnown.wait()
            return try await ada.store.update("k") { _ in
                own.value?.cancel()
                return "too late"
            }
        }
        own.change { $0 = updating }
        isKnown.raise()
        try await assertCancelled(updating)
        // After the answer, everything of ada's that went before was answered.
        _ = try await ada.store.get("k")
        let later = try await ada.store.get("k")
        XCTAssertEqual(later.version, 0)
    }

    func testTasksThatStopWaitingForALockLeaveItToOthers() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let bob = try await Member(server, "bob")
        let cyd = try await Member(server, "cyd")
        // As long as can be: a lock that is not given back does not end before the test.
        let long = Duration.seconds(300)
        let held = try await ada.store.lock("turn", ttl: long)
        // As many as one peer may wait for, and one more.
        let waiting = try await allButOne(of: 26, refusedWith: .tooManyLocks) { _ in
            try await bob.store.lock("turn", ttl: long, wait: long)
        }
        for (_, task) in waiting { task.cancel() }
        for (_, task) in waiting { try await assertCancelled(task) }
        try await held.release()
        let next = try await within { try await cyd.store.lock("turn", wait: long) }
        XCTAssertTrue(next.isHeld)
        withExtendedLifetime(bob) {}
    }

    func testAReleaseIsNotTakenBack() async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: directory) }
        let server = try Server(dataDirectory: directory)
        let turn = Shared<Lock?>(nil)
        let ada = try await withoutConnection(server) { ada in
            let lock = try await ada.store.lock("turn", ttl: .seconds(300))
            turn.change { $0 = lock }
        }
        let held = try XCTUnwrap(turn.value)
        let releasing = Task { try await held.release() }
        // It is given up as soon as this is asked for, and nothing would do so again.
        let end = try await within { try await held.end() }
        XCTAssertNil(end)
        releasing.cancel()
        try await assertCancelled(releasing)

        let back = try Server(at: server.port, dataDirectory: directory)
        let bob = try await Member(back, "bob")
        let next = try await within { try await bob.store.lock("turn", wait: .seconds(60)) }
        XCTAssertGreaterThan(next.token, held.token)
        withExtendedLifetime(ada) {}
    }

    func testALockThatNobodyWaitsForIsGivenBack() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let cyd = try await Member(server, "cyd")
        let polled = try await Polled(server, "polled")
        let shown = try ada.store.changes(of: .prefix("$lock/")).makeAsyncIterator()
        let held = try await ada.store.lock("turn")
        let waiting = Task { try await polled.store.lock("turn", wait: .seconds(60)) }
        _ = try await within { try await shown.nextEvent() }
        // It may wait already, or not: it is granted in both cases. Nobody polls yet, so that it is not known.
        try await held.release()
        try await within {
            while let event = try await shown.nextEvent() {
                if event.author?.peerID == "polled", !event.value.isNull { return }
            }
        }
        waiting.cancel()
        try await assertCancelled(waiting)
        try polled.client.poll()
        let next = try await within { try await cyd.store.lock("turn", wait: .seconds(60)) }
        XCTAssertTrue(next.isHeld)
    }

    func testJoiningCanBeCancelled() async throws {
        let server = try Server()
        let url = server.url
        try await server.stopped(timeout: safety)
        let client = try Client(ClientOptions(url: url, room: "room"))
        let joining = Task { try await client.join(timeout: .seconds(3600)) }
        joining.cancel()
        try await assertCancelled(joining)
    }

    /// The task ends, because it was cancelled.
    private func assertCancelled<T: Sendable>(
        _ task: Task<T, any Error>, file: StaticString = #filePath, line: UInt = #line
    ) async throws {
        let result = try await within { await task.result }
        XCTAssertThrowsError(try result.get(), file: file, line: line) {
            XCTAssertTrue($0 is CancellationError, "\($0)", file: file, line: line)
        }
    }

    /// A member, after its server was stopped. At most two requests of it may wait.
    private func withoutConnection(_ server: Server, before: (Member) async throws -> Void = { _ in }) async throws -> Member {
        let broken = Signal()
        let member = try await Member(server, "ada") {
            $0.maxPending = 2
            $0.reconnectMin = .milliseconds(1)
            $0.reconnectMax = .milliseconds(10)
            $0.requestTimeout = safety
        } onUpdate: { update in
            if case .connectionState(.reconnecting, _) = update { broken.raise() }
        }
        try await before(member)
        try await server.stopped(timeout: safety)
        try await broken.wait()
        return member
    }

    /// Makes one request more than may wait. That one is refused shows that the others were begun: they are returned, with
    /// their numbers.
    private func allButOne<T: Sendable>(
        of count: Int, refusedWith code: SessionStoreError.Code, _ request: @escaping @Sendable (Int) async throws -> T
    ) async throws -> [(number: Int, task: Task<T, any Error>)] {
        let (refused, refuse) = AsyncStream<Int>.makeStream()
        var tasks = (0..<count).map { number in
            let task = Task {
                do {
                    return try await request(number)
                } catch let error as SessionStoreError where error.code == code {
                    refuse.yield(number)
                    throw error
                }
            }
            return (number: number, task: task)
        }
        let one = try await within { await refused.first { _ in true } }
        tasks.remove(at: try XCTUnwrap(one))
        return tasks
    }

    // MARK: Lifetime

    func testWhoIsGoneHearsNothingAndIsFreed() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        final class Held: Sendable {}
        weak var listening: Held?
        let ended = Signal()
        do {
            let held = Held()
            listening = held
            let subscription = try ada.store.listen(to: ["k"], onEnd: { _ in ended.raise() }) { _ in
                withExtendedLifetime(held) {}
            }
            withExtendedLifetime(subscription) {}
        }
        try await ended.wait()
        _ = try await ada.store.get("k")
        XCTAssertNil(listening)

        // A client that is gone leaves, and its listeners end.
        let closed = Signal()
        var bob: Member? = try await Member(server, "bob")
        let store = bob!.store
        let changes = try store.changes(of: ["k"])
        let subscription = try store.listen(to: ["k"], onEnd: { _ in closed.raise() }) { _ in }
        bob = nil
        try await closed.wait()
        try await within { for try await _ in changes {} }
        try await subscription.end()
        await thrown(.closed) { try await store.get("k") }
        await thrown(.closed) { try store.changes(of: ["k"]) }
        await thrown(.closed) { try store.listen(to: ["k"]) { _ in } }
    }

    func testAListenerMayEndInsideItself() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let polled = try await Polled(server, "polled")
        // The only one who holds the subscription lets go of it in the first call.
        let own = Shared<Subscription?>(nil)
        let calls = Shared(0)
        let ended = Shared(false)
        func listen() throws {
            let subscription = try polled.store.listen(to: ["a", "b"], onEnd: { _ in ended.change { $0 = true } }) { _ in
                calls.change { $0 += 1 }
                let last = own.change { own in
                    defer { own = nil }
                    return own
                }
                XCTAssertNotNil(last)
            }
            own.change { $0 = subscription }
        }
        try listen()
        try await polled.poll { ended.value }
        XCTAssertEqual(calls.value, 1)
        XCTAssertNil(own.value)

        // A client may go inside of one of its listeners.
        let last = Shared<Client?>(nil)
        let over = Signal()
        let store: Store
        do {
            let bob = try await Member(server, "bob")
            store = bob.store
            last.change { $0 = bob.client }
        }
        let listening = try store.listen(to: ["a"], onEnd: { _ in over.raise() }) { _ in
            _ = last.change { last in
                defer { last = nil }
                return last
            }
        }
        try await over.wait()
        XCTAssertNil(last.value)
        listening.cancel()
        await thrown(.closed) { try await store.get("a") }
        withExtendedLifetime(ada) {}
    }

    func testRefusalsAreTold() async throws {
        var options = ServerOptions()
        options.maxListenedKeys = 1
        let server = try Server(options)
        let ada = try await Member(server, "ada")
        let code = Shared<SessionStoreError.Code?>(nil)
        let subscription = try ada.store.listen(to: ["a", "b"], onEnd: { error in code.change { $0 = error?.code } }) { _ in
            XCTFail("it was told something")
        }
        try await within { try await subscription.end() }
        XCTAssertEqual(code.value, .tooManyListenedKeys)
        let values = try ada.store.values(of: Key<String>("a"))
        let first = values.makeAsyncIterator()
        let absent = try await within { try await first.next() }
        guard case .some(nil) = absent else { return XCTFail("the current value is not absent") }
        try await ada.store.set("a", to: 1)
        await thrown(.wrongType) { try await within { try await first.next() } }
        try await ada.store.set("a", to: "text")
        let text = try await within { try await first.next() }
        XCTAssertEqual(text, "text")
        values.cancel()
        let end = try await within { try await first.next() }
        XCTAssertTrue(end == .none, "the sequence goes on")
    }

    // MARK: Many at once

    func testASlowReaderMissesNeverTheNewest() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let changes = try ada.store.changes(of: .all)
        let sets = 6_000
        // As many at once as may wait.
        for batch in 0..<(sets / 500) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<500 {
                    group.addTask { try await ada.store.set("k\(number % 3)", to: batch * 500 + number) }
                }
                try await group.waitForAll()
            }
        }
        // Everything was told before the answer, and nothing is read yet.
        let newest = try await ada.store.read(.all).events
        changes.cancel()
        var told = 0
        var replaced: UInt64 = 0
        var last: [String: Value] = [:]
        var version: UInt64 = 0
        var ends = 0
        for try await change in changes {
            guard let event = change.event else {
                ends += 1
                continue
            }
            told += 1
            replaced += event.replaced
            last[event.key] = event.value
            XCTAssertGreaterThan(event.version, version)
            version = event.version
        }
        XCTAssertEqual(ends, 1)
        XCTAssertLessThan(told, 4_200)
        XCTAssertEqual(told + Int(replaced), sets, "nothing is lost uncounted")
        XCTAssertEqual(last, Dictionary(uniqueKeysWithValues: newest.map { ($0.key, $0.value) }))
    }

    func testManyTasksAtOnce() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let store = ada.store
        try await within {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<8 {
                    group.addTask {
                        let key = Key<Int>("k\(number % 2)")
                        for round in 0..<25 {
                            let changes = try store.changes(of: [key.name])
                            let event = try await store.set(key, to: round)
                            for try await change in changes where change.event?.version ?? 0 >= event.version { break }
                            _ = try store.cached(key)
                            let values = try store.values(of: key)
                            let reader = Task { for try await _ in values {} }
                            _ = try await store.update(key) { $0 = ($0 ?? 0) + 1 }
                            if round % 2 == 0 { reader.cancel() } else { values.cancel() }
                            _ = await reader.result
                            let lock = try await store.lock("turn\(number)")
                            _ = try await (event.value.integer, store.usage(), ada.client.peers(), lock.release())
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    func testOneSequenceForSeveralReaders() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let changes = try ada.store.changes(of: .prefix("k"))
        let heard = Shared<[String]>([])
        let readers = (0..<3).map { _ in
            Task { for try await change in changes { if let key = change.event?.key { heard.change { $0.append(key) } } } }
        }
        for number in 0..<100 { try await ada.store.set("k\(number)", to: number) }
        changes.cancel()
        for reader in readers { _ = try await within { try await reader.value } }
        XCTAssertEqual(Set(heard.value).count, 100)
        XCTAssertEqual(heard.value.count, 100)
    }
}

extension Server {
    /// One that listens on this port, or on any, and keeps its rooms here, if it keeps them.
    fileprivate convenience init(at port: UInt16? = nil, dataDirectory: URL? = nil) throws {
        var options = ServerOptions()
        options.port = port
        options.dataDirectory = dataDirectory?.path
        try self.init(options)
    }
}
