import Foundation
import SessionStore
import XCTest

private struct Poll: Codable, Equatable, Sendable {
    var question: String
    var votes: [String: Int64]
    var open: Bool
    var note: String?
    var extra: Value
}

extension Key where Value == String {
    fileprivate static var spotlight: Key { Key("spotlight") }
}

/// What stores do, but for what the vectors play.
final class StoreTests: XCTestCase {
    func testTypedKeys() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let poll = Key<Poll>("poll")
        let before = try await ada.store.get(poll)
        XCTAssertNil(before)
        let set = Poll(
            question: "Tea?", votes: ["yes": 9_007_199_254_740_993, "no": .min], open: true, note: nil,
            extra: ["list": [1.5, "1"], "null": nil, "one": 1, "true": true])
        try await ada.store.set(poll, to: set)
        let got = try await ada.store.get(poll)
        XCTAssertEqual(got, set)
        XCTAssertNil(try ada.store.cached(poll))

        // True is not 1, and 1 is not true, within what is decoded too.
        let counts = Key<[String: Int]>("counts")
        try await ada.store.set(counts.name, to: ["yes": true])
        let error = await thrown(.wrongType) { try await ada.store.get(counts) }
        XCTAssertTrue(error!.message.contains("yes"), error!.message)
        XCTAssertFalse(error!.message.contains("true"), error!.message)
        try await ada.store.set("flag", to: 1)
        await thrown(.wrongType) { try await ada.store.get(Key<Bool>("flag")) }
        await thrown(.wrongType) { try await ada.store.get(Key<[Bool]>("flag")) }

        try await ada.store.set(.spotlight, to: "bob")
        let who = try await ada.store.get(.spotlight)
        XCTAssertEqual(who, "bob")
        try await ada.store.remove(.spotlight)
        let nobody = try await ada.store.get(.spotlight)
        XCTAssertNil(nobody)
        try await ada.store.set("spotlight", to: "bob")
        let removed = try await ada.store.set("spotlight", to: String?.none)
        XCTAssertTrue(removed.value.isNull)
        XCTAssertEqual(removed.cause, .written)

        await thrown(.invalidJSON) { try await ada.store.set("k", to: [Double.nan]) }
        await thrown(.invalidArgument) { try await ada.store.set("k", to: Double.infinity) }
        let large = try await ada.store.set("k", to: UInt64.max)
        XCTAssertEqual(large.json, "18446744073709551615")
        XCTAssertEqual(try large.value(as: UInt64.self), .max)
    }

    func testValues() throws {
        XCTAssertEqual(try Value(data: Data(#"{ "a" : [1, 2.0] }"#.utf8)).json, #"{"a":[1,2.0]}"#)
        XCTAssertEqual(String(decoding: Value("a\u{0}b").data, as: UTF8.self), #""a\u0000b""#)
        XCTAssertEqual(try Value("a\u{0}b").string, "a\u{0}b")
        XCTAssertThrowsError(try Value(data: Data([0x22, 0xff, 0x22]))) {
            XCTAssertEqual(($0 as? SessionStoreError)?.code, .invalidUTF8)
        }
        XCTAssertThrowsError(try Value(json: "")) { XCTAssertEqual(($0 as? SessionStoreError)?.code, .invalidJSON) }
        XCTAssertNotEqual(Value("\u{e9}"), Value("e\u{301}"), "texts that only look alike")
        XCTAssertNotEqual(Value(1), Value(true))
        let members: Value = ["b": 1, "a": ["x", nil, false]]
        XCTAssertEqual(members.json, #"{"b":1,"a":["x",null,false]}"#)
        XCTAssertEqual(try members.members["a"]?.elements.map(\.kind), [.string, .null, .boolean])
        XCTAssertEqual(try Value(encoding: [members]).elements.first?.members, try members.members)
        XCTAssertEqual(try Value(encoding: Int8(-3)), -3)
        XCTAssertEqual(try Value(encoding: Float(0.5)).number, 0.5)
        XCTAssertEqual(Set([Value(1), 1, 1.0, true, "1"]).count, 4)
    }

    func testMergesAndOptions() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let store = ada.store
        let total = try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<50 { group.addTask { try await store.add(3, to: Key<Int>("n")) } }
            try await group.waitForAll()
            return try await store.get(Key<Int>("n"))
        }
        XCTAssertEqual(total, 150)
        let appended = try await store.write(Key<[String]>("list"), .append(["a", "b", "c"], cap: 2))
        XCTAssertEqual(try appended.value(as: [String].self), ["b", "c"])

        let soon = try await store.set("soon", to: 1, options: WriteOptions(expiry: .after(.seconds(3600))))
        XCTAssertGreaterThan(soon.expiresAt!, soon.updatedAt!)
        let never = try await store.write("soon", .touch, WriteOptions(expiry: .never))
        XCTAssertNil(never.expiresAt)
        await thrown(.invalidArgument) {
            try await store.set("soon", to: 1, options: WriteOptions(expiry: .after(.zero)))
        }
        await thrown(.invalidArgument) {
            try await store.set("soon", to: 1, options: WriteOptions(expiry: .after(.seconds(-1))))
        }
        await thrown(.keyAbsent) { try await store.write("nothing", .touch, WriteOptions(expiry: .never)) }
        await thrown(.versionConflict) {
            try await store.set("soon", to: 2, options: WriteOptions(ifVersion: 1, bound: true))
        }

        // A bound key goes with its peer, and an unbound one stays.
        let bob = try await Member(server, "bob")
        try await bob.store.set("hand/bob", to: true, options: WriteOptions(bound: true))
        try await bob.store.set("stays", to: true, options: WriteOptions(bound: true))
        try await bob.store.write("stays", .touch, WriteOptions(expiry: .never, bound: false))
        let hands = try store.changes(of: .prefix("hand/")).makeAsyncIterator()
        let raised = try await within { try await hands.nextEvent() }
        XCTAssertEqual(raised?.isSnapshot, true)
        try await bob.client.leave()
        let gone = try await within { try await hands.nextEvent() }
        XCTAssertEqual(gone?.cause, .peerLeft)
        XCTAssertEqual(gone?.author?.peerID, "bob")
        XCTAssertEqual(gone?.author?.name, "bob")
        let stays = try await store.get("stays")
        XCTAssertEqual(stays.value, true)
    }

    func testConflictsTellWhatHolds() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let turn = Key<String>("turn")
        let first = try await ada.store.set(turn, to: "x", ifVersion: 0)
        let error = await thrown(.versionConflict) { try await ada.store.set(turn, to: "o", ifVersion: 0) }
        XCTAssertEqual(error?.current?.version, first.version)
        XCTAssertEqual(error?.current?.value, "x")
        XCTAssertNil(error?.check)
        XCTAssertNil(error?.retryAfter)
        XCTAssertEqual(error?.isRetryable, false)
        XCTAssertEqual(error?.description.hasPrefix("VERSION_CONFLICT: "), true)
        XCTAssertEqual(error?.localizedDescription, error?.message)
        let failed = await thrown(.checkFailed) {
            try await ada.store.transact {
                $0.check(absent: "board/4")
                try $0.check(turn, equals: "o")
                try $0.set(turn, to: "x")
            }
        }
        XCTAssertEqual(failed?.check, 1)
        XCTAssertEqual(failed?.current?.value, "x")
        let refused = await thrown(.wrongType) {
            try await ada.store.transact {
                $0.remove("board/4")
                $0.write("turn", .add(1))
            }
        }
        XCTAssertEqual(refused?.write, 1)
        await thrown(.invalidKey) { try await ada.store.transact { $0.set("", to: 1) } }
    }

    func testUpdatesLoseNothing() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let bob = try await Member(server, "bob")
        let stakes = Key<Int>("stakes")
        try await within {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for store in [ada.store, bob.store] {
                    for _ in 0..<10 {
                        group.addTask { try await store.update(stakes) { $0 = ($0 ?? 0) + 1 } }
                    }
                }
                try await group.waitForAll()
            }
        }
        let sum = try await ada.store.get(stakes)
        XCTAssertEqual(sum, 20)

        // What the closure throws leaves the key as it is.
        struct Enough: Error {}
        do {
            try await ada.store.update(stakes) { _ in throw Enough() }
            XCTFail("it did not throw")
        } catch is Enough {}
        let same = try await ada.store.update(stakes.name) { _ in nil }
        XCTAssertEqual(same.value, 20)
        let removed = try await ada.store.update(stakes) { $0 = nil }
        XCTAssertTrue(removed.value.isNull)
    }

    func testLocks() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let bob = try await Member(server, "bob")
        let first = try await ada.store.lock("presenter", ttl: .seconds(5))
        XCTAssertEqual(first.name, "presenter")
        XCTAssertTrue(first.isHeld)
        let held = await thrown(.lockHeld) { try await bob.store.lock("presenter") }
        XCTAssertEqual(held?.current?.key, "$lock/presenter")
        XCTAssertEqual(held?.isRetryable, true)
        await thrown(.invalidArgument) { try await bob.store.lock("presenter", ttl: .zero) }
        await thrown(.invalidLock) { try await bob.store.lock("") }

        // Who waits is next, with a larger token.
        let shown = try ada.store.changes(of: .prefix("$lock/")).makeAsyncIterator()
        let next = Task { try await bob.store.lock("presenter", wait: .seconds(60)) }
        _ = try await within { try await shown.nextEvent() }
        try await first.release()
        XCTAssertFalse(first.isHeld)
        let end = try await within { try await first.end() }
        XCTAssertNil(end)
        let second = try await within { try await next.value }
        XCTAssertGreaterThan(second.token, first.token)
        await thrown(.lockLost) { try await first.release() }
        await thrown(.lockLost) {
            try await ada.store.set("slide", to: 7, options: WriteOptions(lock: first))
        }
        try await bob.store.set("slide", to: 7, options: WriteOptions(lock: second))

        // Losing it is told, and why.
        let lost = Shared<SessionStoreError?>(nil)
        let told = Signal()
        let third = try await bob.store.lock("other") { error in
            lost.change { $0 = error }
            told.raise()
        }
        try await bob.client.leave()
        try await told.wait()
        let why = try await within { try await third.end() }
        XCTAssertEqual(why?.code, lost.value?.code)
        XCTAssertFalse(third.isHeld)

        // Bob's lock is free: he left. A lock that nobody knows any more is released.
        _ = try await ada.store.lock("presenter")
        let fencing = try await within { try await ada.store.withLock("presenter", wait: .seconds(60)) { $0.token } }
        XCTAssertGreaterThan(fencing, second.token)
        struct Enough: Error {}
        do {
            try await ada.store.withLock("presenter", wait: .seconds(60)) { _ in throw Enough() }
            XCTFail("it did not throw")
        } catch is Enough {}
        let again = try await ada.store.lock("presenter")
        XCTAssertTrue(again.isHeld)
    }

    func testReading() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        for name in ["b", "a", "c/1", "c/2"] { try await ada.store.set(name, to: name) }
        let snapshot = try await ada.store.read(KeySelector(keys: ["b", "absent"], prefixes: ["c/"]))
        XCTAssertEqual(snapshot.events.map(\.key), ["b", "absent", "c/1", "c/2"])
        XCTAssertEqual(snapshot.revision, 4)
        XCTAssertEqual(snapshot.events[1].version, 0)
        XCTAssertNil(snapshot.events[1].author)
        XCTAssertNil(snapshot.events[1].updatedAt)
        let all = try await ada.store.read(.all)
        XCTAssertEqual(all.events.count, 4)
        let keys = try await ada.store.keys(prefix: "c/")
        XCTAssertEqual(keys, ["c/1", "c/2"])
        let usage = try await ada.store.usage()
        XCTAssertEqual(usage.keys, 4)
        XCTAssertEqual(usage.maxValueBytes, 1_024)
        await thrown(.invalidArgument) { try await ada.store.read(KeySelector()) }
        await thrown(.invalidArgument) { try ada.store.changes(of: KeySelector()) }
        await thrown(.invalidKey) { try await ada.store.keys(prefix: "a\nb") }
    }

    func testRateLimitsSayHowLongToWait() async throws {
        var options = ServerOptions()
        options.maxRequestsPerSecond = 1
        options.maxRequestBurst = 2
        let server = try Server(options)
        let ada = try await Member(server, "ada")
        do {
            for _ in 0..<100 { try await ada.store.set("k", to: 1) }
            XCTFail("nothing was refused")
        } catch let error as SessionStoreError {
            XCTAssertEqual(error.code, .rateLimited)
            XCTAssertGreaterThan(try XCTUnwrap(error.retryAfter), .zero)
        }
    }
}
