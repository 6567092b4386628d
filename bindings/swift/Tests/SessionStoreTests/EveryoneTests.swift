import Foundation
import SessionStore
import XCTest

/// The program `everyone`, as the one test of all languages starts it.
final class EveryoneTests: XCTestCase {
    private struct Ended: Sendable {
        let status: Int32
        let output: String
        let errors: String
    }

    /// Beside the tests, where the package was built.
    private func start(_ arguments: [String]) throws -> Task<Ended, any Error> {
        let process = Process()
        #if canImport(Darwin)
        let tests = Bundle(for: EveryoneTests.self).bundleURL
        #else
        let tests = URL(fileURLWithPath: CommandLine.arguments[0])
        #endif
        process.executableURL = tests.deletingLastPathComponent().appendingPathComponent("everyone")
        process.arguments = arguments
        let output = Pipe()
        let errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        let ended = Signal()
        process.terminationHandler = { _ in ended.raise() }
        try process.run()
        let running = Unchecked(value: (process, output, errors))
        return Task {
            let (process, output, errors) = running.value
            try await ended.wait()
            func text(_ pipe: Pipe) -> String {
                String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            }
            return Ended(status: process.terminationStatus, output: text(output), errors: text(errors))
        }
    }

    private struct Unchecked<T>: @unchecked Sendable { let value: T }

    func testEveryoneHearsEveryone() async throws {
        let server = try Server()
        let names = ["ada", "bob", "cyd"]
        for (name, task) in try names.map({ ($0, try start([server.url, "room", $0, "3"])) }) {
            let ended = try await task.value
            XCTAssertEqual(ended.errors, "")
            XCTAssertEqual(ended.output, "\(name) heard 3\n")
            XCTAssertEqual(ended.status, 0)
        }
    }

    func testWhatIsWrongIsSaid() async throws {
        let server = try Server()
        let usage = try await start(["x"]).value
        XCTAssertEqual(usage.status, 1)
        XCTAssertTrue(usage.errors.contains("usage"), usage.errors)

        let ada = try await Member(server, "ada")
        try await ada.store.set("here/ada", to: Value(json: #"{"from":"ada","n":9007199254740993,"on":1}"#))
        let wrong = try await start([server.url, "room", "bob", "2"]).value
        XCTAssertEqual(wrong.status, 1)
        XCTAssertTrue(wrong.errors.contains("here/ada"), wrong.errors)
        XCTAssertEqual(wrong.output, "")
    }
}
