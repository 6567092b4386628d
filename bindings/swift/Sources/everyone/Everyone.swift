// One peer of many languages in one room: everyone URL ROOM NAME COUNT
//
// It shows who is here, waits until COUNT peers have shown the same, each in its own language, says how many it heard,
// waits until everybody heard everybody, and leaves.

import Foundation
import SessionStore

/// Why it ends with 1.
struct Failure: Error {
    let description: String
}

func everyone(url: String, room: String, name: String, count: Int) async throws {
    var options = ClientOptions(url: url, room: room, name: name)
    options.peerID = name
    let client = try Client(options)
    let store = try await client.join(timeout: .seconds(60))

    // Members of another type, or of another number, would be another peer's mistake.
    let here = try store.changes(of: .prefix("here/"))
    let members: KeyValuePairs<String, Value> = ["from": Value(name), "n": 9_007_199_254_740_993, "on": true]
    try await store.set("here/\(name)", to: Value(members))
    var heard: Set<String> = []
    for try await change in here {
        guard let event = change.event, !event.value.isNull else { continue }
        let from = String(event.key.dropFirst("here/".count))
        let members = try event.value.members
        guard members == ["from": Value(from), "n": 9_007_199_254_740_993, "on": true] else {
            throw Failure(description: "\(event.key) is not what \(from) should have set.")
        }
        guard event.author?.name == from else {
            throw Failure(description: "\(event.key) is of \(event.author?.name ?? "nobody").")
        }
        heard.insert(from)
        if heard.count == count { break }
    }
    guard heard.count == count else { throw Failure(description: "The listener of here/ has ended.") }

    let counts = try store.changes(of: .prefix("heard/"))
    try await store.set("heard/\(name)", to: count)
    var agreed: Set<String> = []
    for try await change in counts {
        guard let event = change.event, !event.value.isNull else { continue }
        guard try event.value.integer == count else {
            throw Failure(description: "\(event.key) is not \(count).")
        }
        agreed.insert(event.key)
        if agreed.count == count { break }
    }
    guard agreed.count == count else { throw Failure(description: "The listener of heard/ has ended.") }
    try await client.leave()
    print("\(name) heard \(count)")
}

@main
enum Everyone {
    static func main() async {
        let arguments = CommandLine.arguments
        guard arguments.count == 5, let count = Int(arguments[4]), count > 0 else {
            end("usage: everyone URL ROOM NAME COUNT")
        }
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                defer { group.cancelAll() }
                group.addTask {
                    try await everyone(url: arguments[1], room: arguments[2], name: arguments[3], count: count)
                }
                group.addTask {
                    try await Task.sleep(for: .seconds(60))
                    throw Failure(description: "\(arguments[3]) has not heard \(count) peers in 60 s.")
                }
                try await group.next()
            }
        } catch let failure as Failure {
            end(failure.description)
        } catch {
            end("\(error)")
        }
    }

    static func end(_ sentence: String) -> Never {
        FileHandle.standardError.write(Data("everyone: \(sentence)\n".utf8))
        exit(1)
    }
}
