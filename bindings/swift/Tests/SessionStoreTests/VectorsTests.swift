import Foundation
import SessionStore
import XCTest

/// Plays the test vectors; tests/vectors/README.md says what they mean.
final class VectorsTests: XCTestCase {
    func testErrorsAreThoseOfTheTable() throws {
        var listed: Set<Int32> = []
        for line in try vectors("errors.json").elements() {
            var members = try Members(of: "a code", line)
            let number = Int32(try members.take("number").number())
            let code = try XCTUnwrap(SessionStoreError.Code(rawValue: number), "\(number) is missing")
            XCTAssertEqual(code.name, try members.take("name").text())
            XCTAssertEqual(code.isRetryable, try members.take("retryable").flag(), code.name)
            XCTAssertFalse(code.advice.isEmpty)
            XCTAssertEqual(SessionStoreError(code).isRetryable, code.isRetryable)
            try members.done()
            listed.insert(number)
        }
        XCTAssertEqual(listed, Set(SessionStoreError.Code.allCases.map(\.rawValue)))
    }

    func testValues() async throws {
        var file = try Members(of: "values.json", vectors("values.json"))
        let server = try Server()
        var listening: [(Member, Changes.AsyncIterator)] = []
        for name in ["ada", "bob"] {
            let member = try await Member(server, name)
            let changes = try member.store.changes(of: ["value"]).makeAsyncIterator()
            let current = try await within { try await changes.nextEvent() }
            XCTAssertEqual(current?.value, .null)
            listening.append((member, changes))
        }
        let ada = listening[0].0
        for vector in try file.take("values").elements() {
            let vector = try Stored(vector)
            try await ada.store.set("value", to: "before")
            let value = try Value(json: vector.json)
            try vector.look(at: value)
            try vector.look(at: await ada.store.set("value", to: value).value)
            for (member, changes) in listening {
                let before = try await within { try await changes.nextEvent() }
                XCTAssertEqual(before?.value, "before", vector.name)
                let told = try await within { try await changes.nextEvent() }
                try vector.look(at: XCTUnwrap(told).value)
                XCTAssertEqual(told?.json, vector.stored, vector.name)
                try vector.look(at: await member.store.get("value").value)
                try vector.look(at: XCTUnwrap(member.store.cached("value")).value)
                let keys = try await member.store.keys()
                XCTAssertEqual(keys, vector.absent ? [] : ["value"], vector.name)
            }
        }
        for refused in try file.take("refused").elements() {
            var members = try Members(of: "refused", refused)
            let name = try members.take("name").text()
            let json = try members.take("json").text()
            _ = try members.take("text_only").flag()
            let code = try members.take("error").text()
            XCTAssertThrowsError(try Value(json: json), name) {
                XCTAssertEqual(($0 as? SessionStoreError)?.name, code, name)
            }
            try members.done()
        }
        try file.done()
    }

    func testScenarios() async throws {
        let scenarios = try vectors("scenarios.json").elements()
        XCTAssertFalse(scenarios.isEmpty)
        for scenario in scenarios { try await play(scenario) }
    }
}

private func vectors(_ name: String) throws -> JSON {
    try JSONDecoder().decode(JSON.self, from: Data(project("tests/vectors/\(name)").utf8))
}

/// A vector that does not hold, or that this runner does not understand.
private struct Unfit: Error, CustomStringConvertible {
    let description: String
}

/// What stands in the vectors, whose numbers are small.
private indirect enum JSON: Decodable, Equatable {
    case null
    case flag(Bool)
    case number(Double)
    case text(String)
    case elements([JSON])
    case members([String: JSON])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let flag = try? container.decode(Bool.self) {
            self = .flag(flag)
        } else if let number = try? container.decode(Double.self) {
            self = .number(number)
        } else if let text = try? container.decode(String.self) {
            self = .text(text)
        } else if let elements = try? container.decode([JSON].self) {
            self = .elements(elements)
        } else {
            self = .members(try container.decode([String: JSON].self))
        }
    }

    func flag() throws -> Bool {
        guard case .flag(let flag) = self else { throw Unfit(description: "\(self) is no boolean") }
        return flag
    }

    func number() throws -> Double {
        guard case .number(let number) = self else { throw Unfit(description: "\(self) is no number") }
        return number
    }

    func text() throws -> String {
        guard case .text(let text) = self else { throw Unfit(description: "\(self) is no text") }
        return text
    }

    func elements() throws -> [JSON] {
        guard case .elements(let elements) = self else { throw Unfit(description: "\(self) is no array") }
        return elements
    }

    func texts() throws -> [String] { try elements().map { try $0.text() } }
}

/// The members of an object, taken out one by one: what is left at the end nobody knew.
private struct Members {
    let of: String
    private var left: [String: JSON]

    init(of: String, _ object: JSON) throws {
        guard case .members(let members) = object else { throw Unfit(description: "\(of) is no object") }
        self.of = of
        left = members
    }

    mutating func maybe(_ name: String) -> JSON? { left.removeValue(forKey: name) }

    mutating func take(_ name: String) throws -> JSON {
        guard let member = maybe(name) else { throw Unfit(description: "\(of): there is no \(name)") }
        return member
    }

    mutating func flag(_ name: String) throws -> Bool { try maybe(name)?.flag() ?? false }

    mutating func value(_ name: String) throws -> Value { try Value(json: take(name).text()) }

    mutating func selector() throws -> KeySelector {
        KeySelector(
            keys: try maybe("keys")?.texts() ?? [], prefixes: try maybe("prefixes")?.texts() ?? [],
            all: try flag("all"))
    }

    /// A write without its condition on a lock.
    mutating func write() throws -> (key: String, WriteOperation, WriteOptions) {
        let operation: WriteOperation
        switch try take("operation").text() {
        case "set": operation = .set(try value("json"))
        case "add": operation = .add(try value("json"))
        case "patch": operation = .patch(try value("json"))
        case "set_add": operation = .setAdd(try value("json"))
        case "set_remove": operation = .setRemove(try value("json"))
        case "append": operation = .append(try value("json"), cap: try maybe("cap").map { UInt64(try $0.number()) })
        case "touch": operation = .touch
        case let other: throw Unfit(description: "\(of): the operation \(other) is unknown")
        }
        var options = WriteOptions(ifVersion: try maybe("if_version").map { UInt64(try $0.number()) })
        if let milliseconds = try maybe("ttl_ms")?.number() { options.expiry = .after(.milliseconds(milliseconds)) }
        if try flag("keep_expiry") { options.expiry = .keep }
        if try flag("never_expires") { options.expiry = .never }
        if try flag("bound") { options.bound = true }
        if try flag("unbound") { options.bound = false }
        return (try take("key").text(), operation, options)
    }

    func done() throws {
        guard left.isEmpty else { throw Unfit(description: "\(of): not known: \(left.keys.sorted())") }
    }
}

private func check(_ holds: Bool, _ of: String, _ what: @autoclosure () -> String) throws {
    if !holds { throw Unfit(description: "\(of): \(what())") }
}

/// Texts are compared byte for byte, which `==` does not.
private func same(_ one: String, _ other: String) -> Bool { one.utf8.elementsEqual(other.utf8) }

// MARK: values.json

private struct Stored {
    let name: String, json: String, stored: String, kind: String, absent: Bool
    let string: String?, integer: String?, number: Double?, boolean: Bool?

    init(_ vector: JSON) throws {
        var members = try Members(of: "a value", vector)
        name = try members.take("name").text()
        json = try members.take("json").text()
        stored = try members.maybe("stored")?.text() ?? json
        kind = try members.take("kind").text()
        absent = try members.flag("absent")
        string = try members.maybe("string")?.text()
        integer = try members.maybe("integer")?.text()
        number = try members.maybe("number")?.number()
        boolean = try members.maybe("boolean")?.flag()
        try members.done()
    }

    func look(at value: Value) throws {
        try check(same(value.json, stored), name, "\(value)")
        try check("\(value.kind)" == kind, name, "\(value.kind)")
        try check(value.isNull == absent, name, "absent")
        try look(string, same) { try value.string }
        try look(integer, ==) { String(try value.integer) }
        try look(number, ==) { try value.number }
        try look(boolean, ==) { try value.boolean }
        // The same through Codable.
        try look(string, same) { try value.decode(String.self) }
        try look(integer, ==) { String(try value.decode(Int64.self)) }
        try look(number, ==) { try value.decode(Double.self) }
        try look(boolean, ==) { try value.decode(Bool.self) }
        try check(try Value(encoding: value.decode(Value.self)) == value, name, "as itself")
        // And within others.
        try check(try Value([value]).elements == [value], name, "as an element")
        try check(try Value(["a": value] as KeyValuePairs).members == ["a": value], name, "as a member")
    }

    /// What a getter gives is what stands in the vector, or it is of another type.
    private func look<T>(_ expected: T?, _ equal: (T, T) -> Bool, _ get: () throws -> T) throws {
        do {
            let got = try get()
            guard let expected else { throw Unfit(description: "\(name): \(got) instead of WRONG_TYPE") }
            try check(equal(got, expected), name, "\(got) instead of \(expected)")
        } catch let error as SessionStoreError {
            try check(expected == nil && error.code == .wrongType, name, "\(error)")
        }
    }
}

// MARK: scenarios.json

/// Whether a state is as it should be; `members` may be more than those of a state.
private func compare(_ members: inout Members, _ event: Event) throws {
    let of = members.of
    let key = try members.take("key").text()
    try check(same(event.key, key), of, "the key is \(event.key)")
    let json = try members.take("json").text()
    try check(same(event.json, json) && same(event.value.json, json), of, "the value is \(event.json)")
    if let version = try members.maybe("version")?.number() {
        try check(event.version == UInt64(version), of, "the version is \(event.version)")
        try check((event.updatedAt == nil) == (version == 0), of, "updatedAt is \(String(describing: event.updatedAt))")
    }
    if let expires = try members.maybe("expires")?.flag() {
        try check((event.expiresAt != nil) == expires, of, "expiresAt is \(String(describing: event.expiresAt))")
    }
    if let author = members.maybe("author") {
        let told: JSON = event.author.map { .text($0.peerID) } ?? .null
        try check(told == author, of, "the author is \(told)")
    }
    if let userID = try members.maybe("user_id")?.text() {
        try check(event.author?.userID == userID, of, "the author is \(String(describing: event.author))")
    }
}

private func compareState(_ of: String, _ expected: JSON, _ event: Event) throws {
    var members = try Members(of: of, expected)
    try compare(&members, event)
    try members.done()
}

private func name(_ cause: Event.Cause) -> String {
    switch cause {
    case .written: return "written"
    case .expired: return "expired"
    case .peerLeft: return "peer_left"
    case .cleared: return "cleared"
    }
}

/// What a listener is told.
private enum Told: Sendable {
    case change(Change)
    case refused(String)
    case dropped
}

private struct Watch {
    let changes: Changes
    var dropped = false

    private func next() async throws -> Told {
        let iterator = changes.makeAsyncIterator()
        return try await within {
            do {
                return try await iterator.next().map(Told.change) ?? .dropped
            } catch let error as SessionStoreError {
                return .refused(error.name)
            }
        }
    }

    mutating func expect(_ of: String, _ expected: JSON) async throws {
        let told = try await next()
        switch (told, expected) {
        case (.change(.snapshotEnd), .text("snapshot_end")): break
        case (.dropped, .text("dropped")): dropped = true
        case (.refused(let code), .members(let members)) where members == ["refused": .text(code)]: break
        case (.change(.event(let event)), .members):
            var members = try Members(of: "\(of): \(expected)", expected)
            try compare(&members, event)
            try check(event.isSnapshot == members.flag("snapshot"), members.of, "snapshot is \(event.isSnapshot)")
            let cause = try members.maybe("cause")?.text() ?? "written"
            try check(name(event.cause) == cause, members.of, "the cause is \(event.cause)")
            try members.done()
        default: throw Unfit(description: "\(of): \(told) instead of \(expected)")
        }
    }

    /// Nothing was told that no step has said.
    func nothingMore(_ of: String) async throws {
        guard !dropped else { return }
        changes.cancel()
        let told = try await next()
        guard case .dropped = told else { throw Unfit(description: "\(of) was told more: \(told)") }
    }
}

/// How an action ended that succeeded.
private enum Outcome {
    case nothing
    case state(Event?)
    case states([Event])
    case keys([String])
    case peers([String])
    case usage(Usage)
}

private final class Actor {
    let member: Member
    var left = false
    var watches: [String: Watch] = [:]
    var locks: [String: Lock] = [:]

    init(_ member: Member) { self.member = member }

    func act(_ action: String, _ members: inout Members) async throws -> Outcome {
        let store = member.store
        switch action {
        case "leave":
            try await member.client.leave()
            left = true
            return .nothing
        case "listen":
            let name = try members.take("as").text()
            watches[name] = Watch(changes: try store.changes(of: members.selector()))
            return .nothing
        case "cancel":
            guard let watch = watches[try members.take("as").text()] else {
                throw Unfit(description: "\(members.of): there is no such subscription")
            }
            watch.changes.cancel()
            return .nothing
        case "set":
            return .state(try await store.set(members.take("key").text(), to: members.value("json")))
        case "set_if_version":
            let version = UInt64(try members.take("version").number())
            return .state(
                try await store.set(members.take("key").text(), to: members.value("json"), ifVersion: version))
        case "remove": return .state(try await store.remove(members.take("key").text()))
        case "get": return .state(try await store.get(members.take("key").text()))
        case "cached": return .state(try store.cached(members.take("key").text()))
        case "add":
            return .state(try await store.add(Int64(members.take("by").number()), to: members.take("key").text()))
        case "write":
            let lock = try members.maybe("lock").map { try held($0.text()) }
            var (key, operation, options) = try members.write()
            options.lock = lock
            return .state(try await store.write(key, operation, options))
        case "update":
            let amount = Int64(try members.take("add").number())
            return .state(
                try await store.update(members.take("key").text()) { current in
                    Value((current.value.isNull ? 0 : try current.value.integer) + amount)
                })
        case "transact":
            var transaction = Transaction()
            for check in try members.take("checks").elements() {
                var check = try Members(of: "\(members.of): \(check)", check)
                try add(&check, to: &transaction)
                try check.done()
            }
            for write in try members.take("writes").elements() {
                var write = try Members(of: "\(members.of): \(write)", write)
                let (key, operation, options) = try write.write()
                transaction.write(key, operation, options)
                try write.done()
            }
            return .states(try await store.transact(transaction).events)
        case "read": return .states(try await store.read(members.selector()).events)
        case "keys": return .keys(try await store.keys(prefix: members.take("prefix").text()))
        case "usage": return .usage(try await store.usage())
        case "lock":
            let name = try members.take("lock").text()
            locks[name] = try await store.lock(name)
            return .nothing
        case "release":
            try await held(members.take("lock").text()).release()
            return .nothing
        case "peers": return .peers(try member.client.peers().map(\.id).sorted())
        default: throw Unfit(description: "\(members.of): the action \(action) is unknown")
        }
    }

    private func held(_ name: String) throws -> Lock {
        guard let lock = locks[name] else { throw Unfit(description: "the lock \(name) was never taken") }
        return lock
    }

    private func add(_ check: inout Members, to transaction: inout Transaction) throws {
        if let lock = try check.maybe("lock")?.text() {
            transaction.check(try held(lock))
            return
        }
        let key = try check.take("key").text()
        if let version = try check.maybe("version")?.number() {
            transaction.check(key, version: UInt64(version))
        } else if try check.flag("exists") {
            transaction.check(exists: key)
        } else if try check.flag("absent") {
            transaction.check(absent: key)
        } else {
            transaction.check(key, equals: try check.value("equals"))
        }
    }
}

/// Whether an action ended as its step says.
private func ended(_ members: inout Members, _ outcome: Result<Outcome, any Error>) throws {
    let of = members.of
    let expected = try members.maybe("error")?.text()
    switch outcome {
    case .failure(let error):
        guard let error = error as? SessionStoreError, let expected else { throw error }
        try check(error.name == expected, of, "\(error)")
        if let current = members.maybe("current") {
            guard let told = error.current else { throw Unfit(description: "\(of): there is no current state") }
            try compareState(of, current, told)
        }
        try check(error.check == members.maybe("check").map { Int(try $0.number()) }, of, "check")
        try check(error.write == members.maybe("write").map { Int(try $0.number()) }, of, "write")
        return
    case .success(let outcome):
        try check(expected == nil, of, "succeeded instead of \(expected ?? "")")
        switch outcome {
        case .nothing: break
        case .state(nil):
            let state = try members.take("state")
            try check(state == .null, of, "there is no state")
        case .state(let event?): try compareState(of, members.take("state"), event)
        case .states(let events):
            let states = try members.take("states").elements()
            try check(states.count == events.count, of, "\(events)")
            for (state, event) in zip(states, events) { try compareState(of, state, event) }
        case .keys(let keys):
            let expected = try members.take("keys").texts()
            try check(keys == expected, of, "\(keys)")
        case .peers(let peers):
            let expected = try members.take("peers").texts()
            try check(peers == expected, of, "\(peers)")
        case .usage(let usage):
            var expected = try Members(of: of, members.take("usage"))
            var compared = 0
            for (name, number) in [
                ("revision", usage.revision), ("keys", usage.keys), ("max_keys", usage.maxKeys), ("bytes", usage.bytes),
                ("max_bytes", usage.maxBytes), ("max_value_bytes", usage.maxValueBytes),
            ] {
                guard let expected = try expected.maybe(name)?.number() else { continue }
                try check(number == UInt64(expected), of, "\(name) is \(number)")
                compared += 1
            }
            try check(compared > 0, of, "no usage is given")
            try expected.done()
        }
    }
}

private func start(_ settings: JSON, _ of: String) throws -> Server {
    var settings = try Members(of: of, settings)
    var options = ServerOptions()
    options.maxValueBytes = try settings.maybe("max_value_bytes").map { Int(try $0.number()) }
    options.maxKeys = try settings.maybe("max_keys").map { Int(try $0.number()) }
    options.maxStoreBytes = try settings.maybe("max_store_bytes").map { Int(try $0.number()) }
    options.maxListenedKeys = try settings.maybe("max_listened_keys").map { Int(try $0.number()) }
    options.maxPeers = try settings.maybe("max_peers").map { Int(try $0.number()) }
    options.rules = try settings.maybe("rules")?.text()
    try settings.done()
    return try Server(options)
}

private func play(_ scenario: JSON) async throws {
    var scenario = try Members(of: "a scenario", scenario)
    let name = try scenario.take("name").text()
    try check(!scenario.take("why").text().isEmpty, name, "why")
    let server = try start(scenario.take("server"), name)
    var present: [String: Actor] = [:]
    for (nth, step) in try scenario.take("steps").elements().enumerated() {
        let of = "\(name), step \(nth), \(step)"
        var members = try Members(of: of, step)
        let peer = try members.take("peer").text()
        if let watch = try members.maybe("hears")?.text() {
            for expected in try members.take("events").elements() {
                guard present[peer]?.watches[watch] != nil else { throw Unfit(description: "\(of): who hears?") }
                try await present[peer]!.watches[watch]!.expect(of, expected)
            }
        } else {
            let action = try members.take("do").text()
            let outcome: Result<Outcome, any Error>
            do {
                if action == "join" {
                    let role = try members.maybe("role")?.text()
                    let userID = try members.maybe("user_id")?.text()
                    present[peer] = Actor(
                        try await Member(server, peer) {
                            $0.role = role
                            $0.userID = userID
                        })
                    outcome = .success(.nothing)
                } else if let actor = present[peer] {
                    outcome = .success(try await actor.act(action, &members))
                } else {
                    throw Unfit(description: "\(of): \(peer) has not joined")
                }
            } catch {
                outcome = .failure(error)
            }
            try ended(&members, outcome)
        }
        try members.done()
    }
    try scenario.done()
    for (peer, actor) in present {
        // After the answer, everything that went before was told.
        if !actor.left { _ = try await actor.member.store.keys() }
        for (watch, watched) in actor.watches { try await watched.nothingMore("\(name): \(watch) of \(peer)") }
    }
}
