import Foundation
import XCTest

@testable import SessionStore

/// Joining, peers, tokens, updates, dispatch, and the server.
final class ClientTests: XCTestCase {
    func testPeersAndUpdates() async throws {
        let server = try Server()
        let updates = Updates()
        var options = ClientOptions(url: server.url, room: "room", name: "Ada")
        options.metadata = "green"
        options.userID = "u-ada"
        options.role = "host"
        let client = try Client(options, updates: updates)
        let store = try await client.join(timeout: safety)
        XCTAssertEqual(client.state, .connected)
        XCTAssertFalse(client.peerID.isEmpty)

        let told = updates.makeAsyncIterator()
        func next(_ wanted: @escaping @Sendable (String) -> Bool) async throws -> String {
            try await within {
                while let update = try await told.next() {
                    let text: String
                    switch update {
                    case .storeAvailable: text = "store"
                    case .connectionState(let state, _): text = "\(state)"
                    case .peer(let change, let peer): text = "\(change) \(peer.id) \(peer.name) \(peer.metadata)"
                    case .error(let error): text = "\(error)"
                    case .tokenExpiring(let date): text = "\(date)"
                    }
                    if wanted(text) { return text }
                }
                return "the end"
            }
        }
        let early = [try await next { _ in true }, try await next { _ in true }, try await next { _ in true }]
        XCTAssertEqual(early.sorted(), ["connected", "connecting", "store"])

        let bob = try await Member(server, "bob")
        let isOfBob: @Sendable (String) -> Bool = { $0.contains("bob") }
        var heard = try await next(isOfBob)
        XCTAssertEqual(heard, "joined bob bob ")
        XCTAssertEqual(try client.peers().map(\.id).contains("bob"), true)
        try await bob.client.updatePeer(metadata: "a\u{0}b")
        heard = try await next(isOfBob)
        XCTAssertEqual(heard, "updated bob bob a\u{0}b")
        try await bob.client.updatePeer(name: "Robert", metadata: "")
        heard = try await next(isOfBob)
        XCTAssertEqual(heard, "updated bob Robert ")
        try await bob.client.leave()
        heard = try await next(isOfBob)
        XCTAssertEqual(heard, "left bob Robert ")
        let own = try client.peers()
        XCTAssertEqual(own.map(\.name), ["Ada"])
        XCTAssertEqual(own.map(\.metadata), ["green"])
        XCTAssertEqual(own.map(\.userID), ["u-ada"])
        XCTAssertEqual(own.map(\.role), ["host"])
        XCTAssertGreaterThan(own[0].joinedAt.timeIntervalSince1970, 1_700_000_000)
        try await client.leave()
        heard = try await next { _ in true }
        XCTAssertEqual(heard, "closed")
        heard = try await next { _ in true }
        XCTAssertEqual(heard, "the end")
        XCTAssertEqual(client.state, .closed)
        await thrown(.closed) { try await store.get("k") }
        await thrown(.closed) { try await client.join() }
    }

    func testJoiningSaysWhyNot() async throws {
        var options = ServerOptions()
        options.maxPeers = 1
        let server = try Server(options)
        let ada = try await Member(server, "ada")
        await thrown(.roomFull) { try await Member(server, "bob") }
        await thrown(.invalidURL) { try Client(ClientOptions(url: "nonsense", room: "room")) }
        await thrown(.invalidRoom) { try Client(ClientOptions(url: server.url, room: "")) }
        await thrown(.invalidArgument) { try Client(ClientOptions(url: server.url, room: "a\u{0}b")) }
        var refused = ClientOptions(url: server.url, room: "room")
        refused.requestTimeout = .zero
        await thrown(.invalidArgument) { try Client(refused) }
        refused.requestTimeout = .seconds(-1)
        await thrown(.invalidArgument) { try Client(refused) }

        // Nobody is there, and the time runs out: the last failure is told, and the client goes on.
        let port = server.port
        _ = ada
        try await server.stopped(timeout: safety)
        let failed = Signal()
        let lonely = try Client(ClientOptions(url: "ws://127.0.0.1:\(port)", room: "room")) { update in
            if case .connectionState(_, _?) = update { failed.raise() }
        }
        try await failed.wait()
        await thrown(.connectionFailed) { try await lonely.join(timeout: .milliseconds(1)) }
        var again = ServerOptions()
        again.port = port
        let back = try Server(again)
        XCTAssertEqual(back.port, port)
        let store = try await lonely.join(timeout: safety)
        try await store.set("k", to: 1)
        await thrown(.addressInUse) { try Server(again) }
    }

    func testTokensAreRenewed() async throws {
        var options = ServerOptions()
        options.secret = "a secret of this test"
        let server = try Server(options)
        func token(_ seconds: Double, role: String, secret: String = "a secret of this test") -> String {
            sign(
                ["room_id": "room", "user_id": "u-ada", "role": Value(role),
                 "exp": Value(Int64(Date().timeIntervalSince1970 + seconds))], with: secret)
        }
        await thrown(.unauthorized) { try await Member(server, "ada") }
        await thrown(.unauthorized) {
            try await Member(server, "ada") { $0.token = token(60, role: "guest", secret: "another") }
        }
        await thrown(.tokenExpired) { try await Member(server, "ada") { $0.token = token(-3600, role: "guest") } }

        // One that expires soon is told of at once.
        let expiring = Signal()
        var mine = ClientOptions(url: server.url, name: "ada", token: token(20, role: "guest"))
        mine.failFast = true
        let client = try Client(mine) { update in
            if case .tokenExpiring(let date) = update, date > Date(timeIntervalSince1970: 1_700_000_000) {
                expiring.raise()
            }
        }
        let store = try await client.join(timeout: safety)
        try await expiring.wait()
        XCTAssertEqual(try client.peers().map(\.role), ["guest"])
        try await client.renewToken(token(3600, role: "host"))
        let set = try await store.set("k", to: 1)
        XCTAssertEqual(set.author?.userID, "u-ada")
        await thrown(.unauthorized) { try await client.renewToken(token(3600, role: "host", secret: "another")) }
        await thrown(.unauthorized) { try await client.renewToken("nonsense") }
    }

    func testRulesChange() async throws {
        var options = ServerOptions()
        options.rules = "[[rule]]\nroles = [\"*\"]\nkeys = [\"*\"]\nallow = [\"read\", \"write\", \"create\", \"remove\"]\n"
        let server = try Server(options)
        let ada = try await Member(server, "ada")
        let changes = try ada.store.changes(of: ["secret"]).makeAsyncIterator()
        _ = try await within { try await changes.nextEvent() }
        try server.setRules("[[rule]]\nroles = [\"*\"]\nkeys = [\"open\"]\nallow = [\"read\"]\n")
        await thrown(.forbidden) { try await within { while try await changes.next() != nil {} } }
        let end = try await changes.next()
        XCTAssertNil(end)
        await thrown(.forbidden) { try await ada.store.set("open", to: 1) }
        await thrown(.invalidConfig) { try server.setRules("nonsense") }
        try server.setRules(nil)
        try await within {
            // The room has other rules some time after the call.
            while true {
                do {
                    try await ada.store.set("open", to: 1)
                    return
                } catch let error as SessionStoreError where error.code == .forbidden {
                    continue
                }
            }
        }
        await thrown(.wrongMode) { try server.reloadTLS() }
        XCTAssertEqual(try server.statistics(), try Server.Statistics.one(server))
    }

    func testServerOptions() async throws {
        var refused = ServerOptions()
        refused.maxKeys = -1
        await thrown(.invalidArgument) { try Server(refused) }
        var none = ServerOptions()
        none.maxKeys = 0
        await thrown(.invalidConfig) { try Server(none) }
        var options = ServerOptions()
        options.grace = .zero
        options.linger = .seconds(60)
        options.allowedOrigins = ["https://example.org", "https://app.example.org:8443"]
        let server = try Server(options)
        // What is not said has its default.
        let ada = try await Member(server, "ada")
        let usage = try await ada.store.usage()
        XCTAssertEqual(usage.maxKeys, 100)
        try server.stop()
        try await server.stopped(timeout: safety)
    }

    func testRoomsAreKept() async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: directory) }
        var options = ServerOptions()
        options.dataDirectory = directory.path
        options.fsync = true
        options.ioUring = true
        let first = try Server(options)
        await thrown(.dataDirectoryUnusable) { try Server(options) }
        options.port = first.port
        let ada = try await Member(first, "ada")
        let set = try await ada.store.set("k", to: 1)
        try await first.stopped(timeout: safety)
        let second = try Server(options)
        let got = try await within { try await ada.store.get("k") }
        XCTAssertEqual(got.version, set.version)
        XCTAssertEqual(second.port, first.port)
    }

    func testTLS() async throws {
        // test.sh makes them.
        let certificates = tree.appendingPathComponent("build/swift/certificates")
        var options = ServerOptions()
        options.tlsCertificateFile = certificates.appendingPathComponent("server.pem").path
        options.tlsKeyFile = certificates.appendingPathComponent("server.key").path
        options.tlsClientCAFile = certificates.appendingPathComponent("ca.pem").path
        let server = try Server(options)
        XCTAssertTrue(server.url.hasPrefix("wss://"))
        try server.reloadTLS()
        let ada = try await Member(server, "ada") {
            $0.url = "wss://localhost:\(server.port)"
            $0.caFile = certificates.appendingPathComponent("ca.pem").path
            $0.clientCertificateFile = certificates.appendingPathComponent("client.pem").path
            $0.clientKeyFile = certificates.appendingPathComponent("client.key").path
        }
        try await ada.store.set("k", to: 1)
        await thrown(.tlsFailed) {
            try await Member(server, "bob") {
                $0.url = "wss://localhost:\(server.port)"
                $0.caFile = certificates.appendingPathComponent("ca.pem").path
            }
        }
    }

    func testPolling() async throws {
        let server = try Server()
        let woken = Signal()
        var options = ClientOptions(url: server.url, room: "room")
        options.dispatch = .polled(onWake: { woken.raise() })
        let polls = Shared<[ObjectIdentifier]>([])
        let client = try Client(options) { _ in polls.change { $0.append(ObjectIdentifier(Thread.current)) } }
        let store = try await poll(client, woken) { try await client.join(timeout: safety) } poll: {
            _ = try client.poll(most: 1)
        }
        XCTAssertFalse(polls.value.isEmpty)
        let heard = Shared<[String]>([])
        let subscription = try store.listen(to: ["k"]) { change in
            heard.change { $0.append(change.event?.json ?? "end") }
        }
        try await poll(client, woken) { _ = try await store.set("k", to: 1) } poll: { try client.poll() }
        XCTAssertEqual(heard.value, ["null", "end", "1"])
        subscription.cancel()
        try await poll(client, woken) { try await subscription.end() } poll: { try client.poll() }
        XCTAssertEqual(try client.poll(most: 0), 0)

        let other = try await Member(server, "other")
        await thrown(.wrongMode) { try other.client.poll() }
    }

    /// Polls whenever the client asks for it until something is done.
    private func poll<R: Sendable>(
        _ client: Client, _ woken: Signal, _ body: @escaping @Sendable () async throws -> R,
        poll: @escaping @Sendable () throws -> Void
    ) async throws -> R {
        try await withThrowingTaskGroup(of: R?.self) { group in
            defer { group.cancelAll() }
            group.addTask(operation: body)
            group.addTask {
                while !Task.isCancelled {
                    try await woken.wait()
                    try poll()
                }
                return nil
            }
            while let result = try await group.next() {
                if let result { return result }
            }
            throw TookTooLong()
        }
    }

    func testAThreadOfItsOwn() async throws {
        let server = try Server()
        let threads = Shared<[ObjectIdentifier]>([])
        let note: @Sendable () -> Void = { threads.change { $0.append(ObjectIdentifier(Thread.current)) } }
        let stopped = Signal()
        var client: Client?
        do {
            var options = ClientOptions(url: server.url, room: "room")
            options.dispatch = .ownThread(onStart: note, onStop: {
                note()
                stopped.raise()
            })
            client = try Client(options) { _ in note() }
            let store = try await client!.join(timeout: safety)
            try await store.set("k", to: 1)
        }
        client = nil
        try await stopped.wait()
        XCTAssertGreaterThan(threads.value.count, 3)
        XCTAssertEqual(Set(threads.value).count, 1)
    }

    func testUpdatesAreBounded() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let bob = try await Member(server, "bob")
        let peers = try bob.client.peers()
        let (first, second) = (peers[0], peers[1])
        let updates = Updates()
        for _ in 0..<3_000 {
            updates.mailbox.put(.peer(.joined, first))
            updates.mailbox.put(.peer(.left, first))
            updates.mailbox.put(.peer(.updated, second))
            updates.mailbox.put(.connectionState(.reconnecting, nil))
            updates.mailbox.put(.error(SessionStoreError(.sessionLost)))
        }
        updates.mailbox.put(.peer(.joined, first))
        updates.mailbox.end(nil)
        var told: [String: Int] = [:]
        var last = ""
        for try await update in updates {
            switch update {
            case .peer(let change, let peer): last = "\(change) \(peer.id)"
            case .connectionState: last = "state"
            case .error: last = "error"
            default: last = "other"
            }
            told[last, default: 0] += 1
        }
        XCTAssertEqual(last, "joined \(first.id)")
        XCTAssertLessThan(told.values.reduce(0, +), 4_200)
        XCTAssertNil(told["other"])
        XCTAssertEqual(told["joined \(first.id)"]! - 1, told["left \(first.id)"] ?? 0)
        _ = ada
    }
}

extension Server.Statistics {
    /// Of a server with one member.
    fileprivate static func one(_ server: Server) throws -> Server.Statistics {
        let told = try server.statistics()
        XCTAssertEqual(told.rooms, 1)
        XCTAssertEqual(told.peers, 1)
        XCTAssertEqual(told.connections, 1)
        return told
    }
}
