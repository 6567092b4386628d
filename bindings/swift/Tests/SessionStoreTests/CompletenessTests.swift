import Foundation
import SessionStore
import XCTest

/// Nothing of the C API is missed, nor of its errors: its header is read as text.
final class CompletenessTests: XCTestCase {
    private func matches(_ pattern: String, in text: String) throws -> [[String]] {
        let expression = try NSRegularExpression(pattern: pattern, options: [.anchorsMatchLines])
        return expression.matches(in: text, range: NSRange(text.startIndex..., in: text)).map { match in
            (0..<match.numberOfRanges).map { Range(match.range(at: $0), in: text).map { String(text[$0]) } ?? "" }
        }
    }

    /// The code of the wrapper, without what is only written about it.
    private func wrapper() throws -> String {
        let sources = tree.appendingPathComponent("bindings/swift/Sources/SessionStore")
        let files = try FileManager.default.contentsOfDirectory(at: sources, includingPropertiesForKeys: nil)
        XCTAssertGreaterThan(files.count, 5)
        let text = try files.map { try String(contentsOf: $0, encoding: .utf8) }.joined(separator: "\n")
        return text.split(separator: "\n").filter { !$0.drop { $0 == " " }.hasPrefix("//") }.joined(separator: "\n")
    }

    func testEveryFunctionIsUsed() throws {
        let header = try project("include/sessionstore.h")
        let functions = Set(try matches("^[a-z].*?\\b(sessionstore_[a-z0-9_]+)\\(", in: header).map { $0[1] })
        XCTAssertGreaterThan(functions.count, 100)
        let used = Set(try matches("\\b(sessionstore_[a-z0-9_]+)\\b", in: wrapper()).map { $0[1] })

        // What is not used, and why. Each must be there, and unused.
        var exceptions: [String: String] = [:]
        for function in functions where function.hasSuffix("_wait") && function != "sessionstore_server_stop_wait" {
            exceptions[function] = "a task waits for the form that does not block"
        }
        for type in ["string", "integer", "number", "boolean"] {
            exceptions["sessionstore_store_set_\(type)"] = "`set` makes JSON of every type"
        }
        exceptions["sessionstore_store_listen"] = "`sessionstore_store_listen_to` does it too"
        exceptions["sessionstore_event_list_retain"] = "a list is given as an array"
        exceptions["sessionstore_event_list_free"] = "lists are only borrowed by callbacks"
        exceptions["sessionstore_key_list_retain"] = "a list is given as an array"
        exceptions["sessionstore_key_list_free"] = "lists are only borrowed by callbacks"
        exceptions["sessionstore_cancellation_is_cancelled"] = "a task knows whether it is cancelled"

        XCTAssertEqual(functions.subtracting(used).sorted(), exceptions.keys.sorted())
    }

    func testEveryErrorCodeIsThere() throws {
        let header = try project("include/sessionstore.h")
        let after = try XCTUnwrap(header.range(of: "#define SESSIONSTORE_OK 0"))
        let before = try XCTUnwrap(header.range(of: "#define SESSIONSTORE_KIND_NULL"))
        let codes = try matches(
            "^#define SESSIONSTORE_([A-Z0-9_]+) (\\d+)$", in: String(header[after.upperBound..<before.lowerBound]))
        XCTAssertGreaterThan(codes.count, 50)
        XCTAssertEqual(
            Dictionary(uniqueKeysWithValues: codes.map { ($0[1], Int32($0[2])!) }),
            Dictionary(uniqueKeysWithValues: SessionStoreError.Code.allCases.map { ($0.name, $0.rawValue) }))
    }

    func testEveryMemberOfEveryStructIsUsed() throws {
        let header = try project("include/sessionstore.h")
        let code = try wrapper()
        let structs = try matches("typedef struct \\{([^}]*)\\} (sessionstore_[a-z_]+);", in: header)
        XCTAssertGreaterThan(structs.count, 10)
        for found in structs {
            for member in try matches("(?:\\(\\*|\\b)([a-z_]+)(?:\\)\\([^;]*)?;$", in: found[1]).map({ $0[1] })
            where member != "struct_size" && member != "flags" {
                XCTAssertNotNil(
                    code.range(of: "\\.\(member)\\b", options: .regularExpression), "\(found[2]).\(member) is not used")
            }
        }
    }

    func testEveryConstantIsKnown() throws {
        let header = try project("include/sessionstore.h")
        // What stands behind the errors.
        let constants = String(header[try XCTUnwrap(header.range(of: "#define SESSIONSTORE_KIND_NULL")).lowerBound...])
        func numbers(_ prefix: String) throws -> [Int32] {
            try matches("^#define SESSIONSTORE_\(prefix)_[A-Z_]+ (\\d+)$", in: constants).map { Int32($0[1])! }
        }
        XCTAssertEqual(try numbers("KIND"), Value.Kind.allCases.map(\.rawValue))
        XCTAssertEqual(try numbers("CAUSE"), Event.Cause.allCases.map(\.rawValue))
        XCTAssertEqual(try numbers("STATE"), ConnectionState.allCases.map(\.rawValue))
        XCTAssertEqual(try numbers("PEER"), PeerChange.allCases.map(\.rawValue))
        let code = try wrapper()
        let flags = try matches("^#define (SESSIONSTORE_(?:WRITE|SELECT|CLIENT|SERVER|OPERATION)_[A-Z_]+) \\d+$", in: constants)
            .map { $0[1] }
        XCTAssertGreaterThan(flags.count, 10)
        for flag in flags { XCTAssertTrue(code.contains(flag), "\(flag) is not used") }
    }

    /// What is public has a sentence. What a protocol of Swift's asks for has that of the protocol.
    func testEverythingPublicIsDocumented() throws {
        let asked = [
            "typealias Element", "func makeAsyncIterator", "struct AsyncIterator", "func next", "Literal ", "nilLiteral",
            "from decoder", "to encoder", "static func ==", "into hasher", "var description", "var errorDescription",
            "func on(error: any Error) {}",
        ]
        var count = 0
        for module in ["SessionStore", "SessionStoreCompatibility"] {
            let sources = tree.appendingPathComponent("bindings/swift/Sources/\(module)")
            for file in try FileManager.default.contentsOfDirectory(at: sources, includingPropertiesForKeys: nil) {
                var documented = false
                for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
                    let line = line.drop { $0 == " " }
                    let isCase = line.hasPrefix("case ") && line.dropFirst(5).first?.isLetter == true && !line.contains(":")
                    if line.hasPrefix("public ") || isCase, !asked.contains(where: { line.contains($0) }) {
                        XCTAssertTrue(documented, "\(file.lastPathComponent): \(line)")
                        count += 1
                    }
                    if !line.hasPrefix("@") { documented = line.hasPrefix("///") }
                }
            }
        }
        XCTAssertGreaterThan(count, 200)
    }

    func testTheLanguageMode() {
        #if swift(>=6)
        let mode = "6"
        #else
        let mode = "5"
        #endif
        #if compiler(>=6)
        let newest = "6"
        #else
        let newest = "5"
        #endif
        XCTAssertEqual(mode, ProcessInfo.processInfo.environment["SESSIONSTORE_LANGUAGE_MODE"] ?? newest)
    }

    func testTheVersionIsThatOfTheHeader() {
        XCTAssertEqual(libraryVersion, headerVersion)
    }
}
