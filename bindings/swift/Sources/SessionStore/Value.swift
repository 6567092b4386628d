import CSessionStore
import Foundation

/// A JSON value. It never changes.
///
/// Its types are JSON's: `true` is not 1, 1 is not `"1"`, and numbers keep every digit, so that 9007199254740993 stays
/// that. `null` means that a key is absent.
///
/// ```swift
/// let pinned: Value = ["text": "Welcome!", "by": "ada"]
/// let votes = Value(9_007_199_254_740_993)
/// let any = try Value(json: #"{"a": [1, 2]}"#)
/// let mine = try Value(encoding: Poll(question: "Tea?", votes: [:]))
/// ```
///
/// Arrays and objects nest at most 100 levels deep, the outermost included. Where nothing can be thrown, in literals,
/// `Value([one, other])` and `Value(["name": one])`, deeper ones can be written all the same. Such a one has its ``json``, ``data``
/// and ``kind``, and is equal to what is written alike; everything else that is had or made from it, and every store that is given
/// it, throws ``SessionStoreError/Code/invalidJSON``. So whoever wraps what a peer has set is told, at the latest when it is sent.
public struct Value: Sendable {
    private let content: Content

    private enum Content: Sendable {
        /// What the library has.
        case made(Handle)
        /// JSON that was put together where nothing could be thrown, and why it is no value.
        indirect case refused(json: String, why: any Error)
    }

    /// What kind of JSON a value is.
    public enum Kind: Int32, Sendable, CaseIterable {
        /// `null`; the key is absent.
        case null = 0
        /// `true` or `false`.
        case boolean = 1
        /// A number without fraction and exponent that fits an `Int64`.
        case integer = 2
        /// Any other number.
        case number = 3
        /// A text.
        case string = 4
        /// An array.
        case array = 5
        /// An object.
        case object = 6
    }

    init(borrowing value: OpaquePointer?) {
        content = .made(Handle(owning: sessionstore_value_retain(value), sessionstore_value_free))
    }

    private init(make body: (UnsafeMutablePointer<OpaquePointer?>, ErrorOut) -> Int32) throws {
        // A value is given whenever the call succeeds.
        content = .made(try SessionStore.make(sessionstore_value_free, body)!)
    }

    /// For what is a value whatever it is made of, and so cannot fail but in a forked child process, where nothing of Swift
    /// works either.
    private init(certain body: (UnsafeMutablePointer<OpaquePointer?>, ErrorOut) -> Int32) {
        do { try self.init(make: body) } catch { fatalError("\(error)") }
    }

    /// JSON text, which is checked and compacted: blanks go, everything else stays as it is written.
    ///
    /// Throws ``SessionStoreError/Code/invalidJSON``.
    public init(json: String) throws {
        try self.init(make: { value, error in
            withText(json) { sessionstore_value_from_json($0, $1, value, error) }
        })
    }

    /// JSON as bytes in UTF-8.
    ///
    /// Throws ``SessionStoreError/Code/invalidJSON`` and ``SessionStoreError/Code/invalidUTF8``.
    public init(data: Data) throws {
        try self.init(make: { value, error in
            data.withUnsafeBytes {
                sessionstore_value_from_json(
                    $0.bindMemory(to: CChar.self).baseAddress, $0.count, value, error)
            }
        })
    }

    /// A string; quotes and escapes are added.
    public init(_ text: String) {
        self.init(certain: { value, error in
            withText(text) { sessionstore_value_from_string($0, $1, value, error) }
        })
    }

    /// An integer, kept exactly.
    public init(_ integer: Int64) {
        self.init(certain: { sessionstore_value_from_integer(integer, $0, $1) })
    }

    /// An integer, kept exactly.
    public init(_ integer: Int) {
        self.init(Int64(integer))
    }

    /// A number. Throws ``SessionStoreError/Code/invalidArgument`` for NaN and the infinities, which JSON cannot say.
    public init(_ number: Double) throws {
        try self.init(make: { sessionstore_value_from_number(number, $0, $1) })
    }

    /// `true` or `false`.
    public init(_ boolean: Bool) {
        self.init(certain: { sessionstore_value_from_boolean(boolean ? 1 : 0, $0, $1) })
    }

    /// An array. If it nests too deep for a value, that is thrown where it is used; `Value(encoding:)` throws it at once.
    public init(_ elements: [Value]) {
        self.init(joining: "[" + elements.map(\.json).joined(separator: ",") + "]")
    }

    /// An object, with its members in this order. If it nests too deep for a value, that is thrown where it is used;
    /// `Value(encoding:)` throws it at once.
    public init(_ members: KeyValuePairs<String, Value>) {
        self.init(members: members.map { ($0.key, $0.value) })
    }

    private init(members: [(String, Value)]) {
        self.init(
            joining: "{" + members.map { "\(Value($0.0).json):\($0.1.json)" }.joined(separator: ",") + "}")
    }

    /// Always the same text for the same members.
    private init(sorting members: [String: Value]) {
        self.init(members: members.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
    }

    /// An array or object that was put together from JSON. What is in it may be a peer's, so that it may be too deep.
    private init(joining json: String) {
        do {
            let handle = try SessionStore.make(sessionstore_value_free) { value, error in
                withText(json) { sessionstore_value_from_json($0, $1, value, error) }
            }
            content = .made(handle!)
        } catch {
            content = .refused(json: json, why: error)
        }
    }

    /// Itself, if it is a value.
    private func checked() throws -> Value {
        _ = try handle
        return self
    }

    /// What the library has of it.
    private var handle: Handle {
        get throws {
            switch content {
            case .made(let handle): return handle
            case .refused(_, let why): throw why
            }
        }
    }

    /// `null`: the key is absent, or goes.
    public static let null = Value(certain: { sessionstore_value_from_json("null", 4, $0, $1) })

    /// What kind of JSON it is.
    public var kind: Kind {
        switch content {
        case .made(let handle): return handle.use { Kind(rawValue: sessionstore_value_kind($0)) } ?? .null
        case .refused(let json, _): return json.hasPrefix("{") ? .object : .array
        }
    }

    /// A reference of its own, to be given away.
    func retained() throws -> OpaquePointer? { try handle.use(sessionstore_value_retain) }

    /// Whether it is `null`.
    public var isNull: Bool { kind == .null }

    /// Compact JSON text.
    public var json: String {
        switch content {
        case .made(let handle): return handle.use { value in text { sessionstore_value_json(value, $0) } }
        case .refused(let json, _): return json
        }
    }

    /// Compact JSON as bytes in UTF-8.
    public var data: Data {
        switch content {
        case .made(let handle):
            return handle.use { value in
                var length = 0
                let start = sessionstore_value_json(value, &length)!
                return Data(bytes: start, count: length)
            }
        case .refused(let json, _): return Data(json.utf8)
        }
    }

    /// The boolean. Throws ``SessionStoreError/Code/wrongType`` if it is anything else; 1 is not `true`.
    public var boolean: Bool {
        get throws {
            var boolean: Int32 = 0
            try handle.use { value in try call { sessionstore_value_get_boolean(value, &boolean, $0) } }
            return boolean != 0
        }
    }

    /// The integer, exactly. Throws ``SessionStoreError/Code/wrongType`` if it is anything else, a number with a fraction,
    /// an exponent or a larger range included.
    public var integer: Int64 {
        get throws {
            var integer: Int64 = 0
            try handle.use { value in try call { sessionstore_value_get_integer(value, &integer, $0) } }
            return integer
        }
    }

    /// Any number as the nearest `Double`. Throws ``SessionStoreError/Code/wrongType`` if it is none.
    public var number: Double {
        get throws {
            var number: Double = 0
            try handle.use { value in try call { sessionstore_value_get_number(value, &number, $0) } }
            return number
        }
    }

    /// The string, its escapes undone. Throws ``SessionStoreError/Code/wrongType`` if it is anything else.
    public var string: String {
        get throws {
            try handle.use { value in
                var start: UnsafePointer<CChar>?
                var length = 0
                try call { sessionstore_value_get_string(value, &start, &length, $0) }
                return text {
                    $0.pointee = length
                    return start
                }
            }
        }
    }

    /// The elements of an array, as they are written. Throws ``SessionStoreError/Code/wrongType`` if it is anything else.
    public var elements: [Value] {
        get throws { try parts(of: .array) }
    }

    /// The members of an object, as they are written but in no order. Of several with one name it has the first, as `decode` has.
    /// Throws ``SessionStoreError/Code/wrongType`` if it is anything else.
    public var members: [String: Value] {
        get throws {
            let parts = try parts(of: .object)
            let members = try stride(from: 0, to: parts.count, by: 2).map { (try parts[$0].string, parts[$0 + 1]) }
            return Dictionary(members) { first, _ in first }
        }
    }

    /// The elements of an array; the names and values of an object in turn. `JSONDecoder` would make 1.0 into 1.
    private func parts(of wanted: Kind) throws -> [Value] {
        let handle = try handle
        guard kind == wanted else { throw SessionStoreError(.wrongType, "The value is not what was asked for.") }
        return try handle.use { value in
            var length = 0
            let json = sessionstore_value_json(value, &length)!
            var parts: [Value] = []
            // The text was checked and has no blanks, so that quotes and brackets are all there is to look at.
            var (at, start, depth, isQuoted) = (1, 1, 0, false)
            while at < length {
                switch UInt8(bitPattern: json[at]) {
                case UInt8(ascii: "\\"): at += 1
                case UInt8(ascii: "\""): isQuoted.toggle()
                case _ where isQuoted: break
                case UInt8(ascii: "["), UInt8(ascii: "{"): depth += 1
                case UInt8(ascii: "]") where depth > 0, UInt8(ascii: "}") where depth > 0: depth -= 1
                case UInt8(ascii: "]"), UInt8(ascii: "}"), UInt8(ascii: ","), UInt8(ascii: ":"):
                    guard depth == 0 else { break }
                    // What is empty has nothing here.
                    if at > start {
                        parts.append(try Value(make: { sessionstore_value_from_json(json + start, at - start, $0, $1) }))
                    }
                    start = at + 1
                default: break
                }
                at += 1
            }
            return parts
        }
    }
}

// MARK: Codable

extension Value {
    /// What `Encodable` makes of something. Strings, booleans, numbers and ``Value`` are what they are; nil is `null`. So are the
    /// values of a `[Value]` and a `[String: Value]`, whose members are ordered by their names.
    ///
    /// Throws ``SessionStoreError/Code/invalidJSON`` for what JSON cannot say, and for what nests too deep.
    public init<T: Encodable>(encoding value: T) throws {
        switch value {
        case let value as Value: self = try value.checked()
        case let value as String: self.init(value)
        case let value as Bool: self.init(value)
        case let value as any FixedWidthInteger & Encodable:
            try self.init(json: "\(value)")
        case let value as Double: try self.init(value)
        case let value as Float: try self.init(Double(value))
        case let elements as [Value]: self = try Value(elements).checked()
        case let members as [String: Value]: self = try Value(sorting: members).checked()
        default:
            let data: Data
            do {
                let encoder = JSONEncoder()
                // Always the same text for the same value.
                encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
                data = try encoder.encode(value)
            } catch let error as SessionStoreError {
                // Why a value in it is none.
                throw error
            } catch {
                // Its own description can have the value in it.
                throw SessionStoreError(.invalidJSON, "What was to be stored cannot be said in JSON.")
            }
            try self.init(data: data)
        }
    }

    /// What `Decodable` makes of it. `true` is no number, 1 is no boolean, and integers are exact.
    ///
    /// Throws ``SessionStoreError/Code/wrongType`` when it is something else; the message says at which member.
    public func decode<T: Decodable>(_ type: T.Type = T.self) throws -> T {
        let found: Any?
        switch type {
        case is Value.Type: found = try checked()
        case is String.Type: found = try string
        case is Bool.Type: found = try boolean
        case is Int64.Type: found = try integer
        case is Int.Type: found = try Int(exactly: integer)
        case is Double.Type: found = try number
        case is [Value].Type: found = try elements
        case is [String: Value].Type: found = try members
        default: found = nil
        }
        if let found = found as? T { return found }
        do {
            return try JSONDecoder().decode(type, from: checked().data)
        } catch let error as DecodingError {
            throw SessionStoreError(.wrongType, "The value is not what was asked for\(error.place).")
        }
    }
}

extension DecodingError {
    /// Where it is, without what is there.
    fileprivate var place: String {
        let path: [any CodingKey]
        switch self {
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
            path = context.codingPath
        case .keyNotFound(let key, let context): path = context.codingPath + [key]
        @unknown default: path = []
        }
        return path.isEmpty ? "" : " at " + path.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
    }
}

/// A value inside of a `Codable` type of yours, and through encoders and decoders of yours. It means the same, but is not written
/// the same: integers of `Int64` and `UInt64` keep every digit; every other number is the nearest `Double` as the encoder writes it,
/// and comes back as an integer if it is whole and fits, so that 1.0 becomes 1; the members of objects are ordered by their names,
/// and of several with one name one stays.
///
/// By itself a value stays as it is written, as do those of a `[Value]` and a `[String: Value]`: in `Value(encoding:)` and
/// ``Value/decode(_:)``, and so in a ``Key`` of these types.
extension Value: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let boolean = try? container.decode(Bool.self) {
            self.init(boolean)
        } else if let integer = try? container.decode(Int64.self) {
            self.init(integer)
        } else if let integer = try? container.decode(UInt64.self) {
            try self.init(json: "\(integer)")
        } else if let number = try? container.decode(Double.self) {
            try self.init(number)
        } else if let string = try? container.decode(String.self) {
            self.init(string)
        } else {
            // What nests too deep is no reason to look for something else.
            do {
                self = try Value(container.decode([Value].self)).checked()
            } catch is DecodingError {
                self = try Value(sorting: container.decode([String: Value].self)).checked()
            }
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch kind {
        case .null: try container.encodeNil()
        case .boolean: try container.encode(boolean)
        case .integer: try container.encode(integer)
        case .number:
            if let large = UInt64(json) { try container.encode(large) } else { try container.encode(number) }
        case .string: try container.encode(string)
        case .array: try container.encode(elements)
        case .object: try container.encode(members)
        }
    }
}

/// Values are equal when they are written alike: 1 and 1.0 differ, and so do objects whose members have another order.
extension Value: Hashable {
    // By bytes: texts that look alike need not be the same, as they are for `String`.
    public static func == (one: Value, other: Value) -> Bool { one.data == other.data }
    public func hash(into hasher: inout Hasher) { hasher.combine(data) }
}

extension Value: CustomStringConvertible {
    /// The JSON text.
    public var description: String { json }
}

extension Value: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByFloatLiteral, ExpressibleByNilLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(stringLiteral text: String) { self.init(text) }
    public init(integerLiteral integer: Int64) { self.init(integer) }
    /// A literal that no `Double` can hold is a mistake in the program.
    public init(floatLiteral number: Double) { self.init(certain: { sessionstore_value_from_number(number, $0, $1) }) }
    public init(booleanLiteral boolean: Bool) { self.init(boolean) }
    public init(nilLiteral: ()) { self = .null }
    public init(arrayLiteral elements: Value...) { self.init(elements) }
    public init(dictionaryLiteral members: (String, Value)...) { self.init(members: members) }
}
