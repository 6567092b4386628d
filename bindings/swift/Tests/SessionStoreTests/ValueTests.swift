import Foundation
import SessionStore
import SessionStoreCompatibility
import XCTest

/// The deepest value that there may be.
private let deepest = String(repeating: "[", count: 100) + String(repeating: "]", count: 100)

private struct Wrapped: Codable, Sendable {
    var last: Value
}

/// What values are made of others, and taken apart.
final class ValueTests: XCTestCase {
    private func refuses<T>(
        _ code: SessionStoreError.Code = .invalidJSON, file: StaticString = #filePath, line: UInt = #line,
        _ body: () throws -> T
    ) {
        XCTAssertThrowsError(try body(), file: file, line: line) { error in
            XCTAssertEqual((error as? SessionStoreError)?.code, code, "\(error)", file: file, line: line)
            // It is the library's own sentence, which says why.
            XCTAssertEqual(
                (error as? SessionStoreError)?.message.contains("100 levels"), true, "\(error)", file: file, line: line)
        }
    }

    /// What a peer may set, whoever wraps it must survive.
    func testValuesThatAreTooDeepAreRefusedWhereTheyAreUsed() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let bob = try await Member(server, "bob")
        let store = bob.store
        try await ada.store.set("deep", to: Value(json: deepest))
        let received = try await store.get("deep").value
        XCTAssertEqual(received.json, deepest)

        let array: Value = [received]
        let object: Value = ["last": received]
        let made: [Value] = [
            array, object, Value([received]), Value(["last": received] as KeyValuePairs), [1, [2, received]], ["a": object],
        ]
        for value in made {
            // It is what it says, and nothing more can be had from it.
            XCTAssertTrue(value.json.contains(deepest))
            XCTAssertEqual(value.data, Data(value.json.utf8))
            XCTAssertEqual(value.kind, value.json.hasPrefix("[") ? .array : .object)
            XCTAssertFalse(value.isNull)
            XCTAssertNotEqual(value, received)
            XCTAssertEqual(value.description, value.json)
            refuses { try value.boolean }
            refuses { try value.integer }
            refuses { try value.number }
            refuses { try value.string }
            refuses { try value.elements }
            refuses { try value.members }
            refuses { try value.decode(Value.self) }
            refuses { try value.decode([String].self) }
            refuses { try Value(json: value.json) }
            refuses { try Value(data: value.data) }
            refuses { try Value(encoding: value) }
            refuses { try Value(encoding: [value]) }
            refuses { try Value(encoding: ["a": value]) }
            refuses { try Value(encoding: Wrapped(last: value)) }
            refuses { try JSONEncoder().encode(value) }
            refuses { try Value(any: value) }
            XCTAssertNil(value.any)

            let refused: [(String, () async throws -> Void)] = [
                ("set", { try await store.set("k", to: value) }),
                ("set with options", { try await store.set("k", to: value, options: WriteOptions(bound: true)) }),
                ("set a typed key", { try await store.set(Key<Value>("k"), to: value) }),
                ("set if", { try await store.set("k", to: value, ifVersion: 0) }),
                ("set what has it", { try await store.set(Key<Wrapped>("k"), to: Wrapped(last: value)) }),
                ("write", { try await store.write("k", .set(value)) }),
                ("append", { try await store.write("k", .append(value)) }),
                ("patch", { try await store.write("k", .patch(value)) }),
                ("update", { try await store.update("k") { _ in value } }),
                ("update a typed key", { try await store.update(Key<Value>("k")) { $0 = value } }),
                ("transact", { try await store.transact { $0.set("k", to: value) } }),
                ("check", { try await store.transact { $0.check("k", equals: value) } }),
                ("check a typed key", { try await store.transact { try $0.check(Key<Value>("k"), equals: value) } }),
            ]
            for (name, send) in refused {
                let error = await thrown(.invalidJSON, send)
                XCTAssertEqual(error?.message.contains("100 levels"), true, name)
            }
        }
        XCTAssertEqual(array, [received])
        XCTAssertEqual(Set(made).count, 4, "they are equal when they are written alike")
        refuses { try Value(json: String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)) }
        refuses { try Value(encoding: [received]) }
        refuses { try Value(encoding: ["last": received]) }
        refuses { try Value(encoding: Wrapped(last: received)) }
        refuses { try Value(any: [received]) }
        refuses { try Value(any: ["last": received]) }
        refuses { try Value(any: [received.any]) }
        refuses { try Value(any: ["last": received.any]) }
        refuses { try JSONDecoder().decode(Value.self, from: Data("[\(deepest)]".utf8)) }
        refuses { try JSONDecoder().decode(Value.self, from: Data("{\"last\":\(deepest)}".utf8)) }
        refuses { try JSONDecoder().decode(Wrapped.self, from: Data("{\"last\":[[\(deepest)]]}".utf8)) }

        // Nothing was changed, and what is not too deep still is a value.
        let keys = try await store.keys()
        XCTAssertEqual(keys, ["deep"])
        let inner = try XCTUnwrap(try received.elements.first)
        XCTAssertEqual([inner], received)
        try await store.set("k", to: ["last": inner] as Value)
    }

    func testTheOriginalsNamesRefuseWhatIsTooDeep() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        try await ada.store.set("deep", to: Value(json: deepest))
        let store = HMSSessionStore(ada.store, queue: DispatchQueue(label: "test"))
        let received = Shared<UncheckedAny>(UncheckedAny(nil))
        let signal = Signal()
        store.object(forKey: "deep") { value, error in
            XCTAssertNil(error)
            let value = UncheckedAny(value)
            received.change { $0 = value }
            signal.raise()
        }
        try await signal.wait()
        let value = try XCTUnwrap(received.value.any)
        for object in [[value], ["last": value], [1, [value]] as [Any]] as [Any] {
            let told = Shared<(any Error)?>(nil)
            store.set(object, forKey: "k") { _, error in
                told.change { $0 = error }
                signal.raise()
            }
            try await signal.wait()
            let error = try XCTUnwrap(told.value as? SessionStoreError)
            XCTAssertEqual(error.code, .invalidJSON)
            XCTAssertTrue(error.message.contains("100 levels"), error.message)
        }
    }

    private struct UncheckedAny: @unchecked Sendable {
        let any: Any?
        init(_ any: Any?) { self.any = any }
    }

    func testPartsStayAsTheyAreWritten() throws {
        let parts = [
            "1.0", "-0", "1e2", "0.1000000000000000055511151231257827", "18446744073709551616", "9007199254740993",
            "1e300", "null", "true", #""a,b]}:\"[{\\""#, #""\u00e9\u0000""#, "\"\u{e9}\u{1F388}\"", #""""#, "[]", "{}",
            #"[1.0,{"a":[2.50,"x]"]}]"#, #"{"b":1.0,"a":{"}":"{"}}"#,
        ]
        let array = try Value(json: "[\(parts.joined(separator: " ,\n"))]")
        XCTAssertEqual(try array.elements.map(\.json), parts)
        XCTAssertEqual(try array.decode([Value].self).map(\.json), parts)
        XCTAssertEqual(try Value(array.elements), array)
        XCTAssertEqual(try Value(encoding: array.elements), array)
        XCTAssertEqual(try array.elements.first?.kind, .number)
        for part in parts {
            let part = try Value(json: part)
            XCTAssertEqual(try Value([part]).elements, [part])
            XCTAssertEqual(try Value([part, part]).elements, [part, part])
            XCTAssertEqual(try Value(["a": part, "b": part] as KeyValuePairs).members, ["a": part, "b": part])
            XCTAssertEqual(try Value(encoding: ["a": part]).json, "{\"a\":\(part)}")
            XCTAssertEqual(try Value(encoding: ["a": part]).decode([String: Value].self), ["a": part])
        }
        XCTAssertEqual(try Value([] as [Value]).elements, [])
        XCTAssertEqual(try Value([:] as KeyValuePairs<String, Value>).members, [:])

        // Names are plain texts.
        let object = try Value(json: #"{"a\n\"b":1.0,"":2,"é}":[null],"c":null}"#)
        XCTAssertEqual(try object.members, ["a\n\"b": 1.0, "": 2, "é}": [nil], "c": nil])
        XCTAssertEqual(
            try object.members.mapValues(\.json), ["a\n\"b": "1.0", "": "2", "é}": "[null]", "c": "null"])

        for value in [1, true, "[]", "{}", nil, object] as [Value] {
            XCTAssertThrowsError(try value.elements) { XCTAssertEqual(($0 as? SessionStoreError)?.code, .wrongType) }
        }
        for value in [1, true, "[]", "{}", nil, array] as [Value] {
            XCTAssertThrowsError(try value.members) { XCTAssertEqual(($0 as? SessionStoreError)?.code, .wrongType) }
        }
    }

    /// What is said of values inside of a type.
    func testPartsOfATypeMeanTheSame() throws {
        let written = try Value(
            json: "[1.0,1e2,-9223372036854775808,18446744073709551615,18446744073709551616,0.10,{\"b\":2.5,\"a\":null}]")
        let read = #"[1,100,-9223372036854775808,18446744073709551615,1.8446744073709552e+19,0.1,{"a":null,"b":2.5}]"#
        XCTAssertEqual(try Value(encoding: Wrapped(last: written)).json, "{\"last\":\(read)}")
        XCTAssertEqual(try Value(encoding: [[written]]).json, "[[\(read)]]")
        let wrapped = try Value(["last": written] as KeyValuePairs).decode(Wrapped.self)
        XCTAssertEqual(wrapped.last.json.replacingOccurrences(of: "1.8446744073709552e19", with: "1.8446744073709552e+19"), read)
        XCTAssertEqual(try wrapped.last.elements.first?.kind, .integer)
    }

    func testTypedKeysOfValuesKeepThem() async throws {
        let server = try Server()
        let ada = try await Member(server, "ada")
        let list = try [Value(json: "1.0"), Value(json: "[2.50]"), nil]
        try await ada.store.set(Key<[Value]>("list"), to: list)
        let same = try await ada.store.get(Key<[Value]>("list"))
        XCTAssertEqual(same, list)
        let members = try ["b": Value(json: "1.0"), "a": Value(json: "[2.50]"), "c": nil]
        let set = try await ada.store.set(Key<[String: Value]>("members"), to: members)
        XCTAssertEqual(set.json, #"{"a":[2.50],"b":1.0,"c":null}"#)
        let found = try await ada.store.get(Key<[String: Value]>("members"))
        XCTAssertEqual(found, members)
    }

    /// A name that is there twice is a peer's doing, and what only looks alike is one name for a dictionary. Of them the first
    /// counts, as it does for `decode`.
    func testNamesThatAreThereTwice() throws {
        for json in [#"{"a":1,"b":2,"a":3}"#, #"{"a":1,"\u0061":3,"b":2}"#] {
            XCTAssertEqual(try Value(json: json).members, ["a": 1, "b": 2])
            XCTAssertEqual(try Value(json: json).decode([String: Int].self), ["a": 1, "b": 2])
        }
        let alike = try Value(json: "{\"\u{e9}\":1,\"e\u{301}\":3}")
        XCTAssertEqual(try alike.members, ["\u{e9}": 1])
        XCTAssertEqual(try alike.decode([String: Int].self), ["\u{e9}": 1])
    }

    func testTheOriginalsNamesKeepTypesWithin() throws {
        let given: [String: Any] = ["list": [1.0, 2, 2.5] as [Any], "one": 1.0]
        let value = try Value(any: given)
        XCTAssertEqual(value.json, #"{"list":[1.0,2,2.5],"one":1.0}"#)
        let told = try XCTUnwrap(value.any as? [String: Any])
        XCTAssertEqual(told["one"] as? Double, 1)
        XCTAssertNil(told["one"] as? Int)
        let list = try XCTUnwrap(told["list"] as? [Any])
        XCTAssertNil(list[0] as? Int)
        XCTAssertEqual(list[1] as? Int, 2)
    }
}
