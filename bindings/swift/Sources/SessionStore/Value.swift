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
public struct Value: Sendable {
    private let handle: Handle

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
        handle = Handle(owning: sessionstore_value_retain(value), sessionstore_value_free)
    }

    private init(make body: (UnsafeMutablePointer<OpaquePointer?>, ErrorOut) -> Int32) throws {
        // A value is given whenever the call succeeds.
        handle = try SessionStore.make(sessionstore_value_free, body)!
    }

    /// For what cannot fail but in a forked child process, where nothing of Swift works either.
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

    /// An array.
    public init(_ elements: [Value]) {
        self.init(joining: "[" + elements.map(\.json).joined(separator: ",") + "]")
    }

    /// An object, with its members in this order.
    public init(_ members: KeyValuePairs<String, Value>) {
        self.init(members: members.map { ($0.key, $0.value) })
    }

    init(members: [(String, Value)]) {
        self.init(
            joining: "{" + members.map { "\(Value($0.0).json):\($0.1.json)" }.joined(separator: ",") + "}")
    }

    /// Text that was put together from JSON.
    private init(joining json: String) {
        self.init(certain: { value, error in withText(json) { sessionstore_value_from_json($0, $1, value, error) } })
    }

    /// `null`: the key is absent, or goes.
    public static let null = Value(joining: "null")

    /// What kind of JSON it is.
    public var kind: Kind { handle.use { Kind(rawValue: sessionstore_value_kind($0)) } ?? .null }

    /// A reference of its own, to be given away.
    func retained() -> OpaquePointer? { handle.use(sessionstore_value_retain) }

    /// Whether it is `null`.
    public var isNull: Bool { kind == .null }

    /// Compact JSON text.
    public var json: String { handle.use { value in text { sessionstore_value_json(value, $0) } } }

    /// Compact JSON as bytes in UTF-8.
    public var data: Data {
        handle.use { value in
            var length = 0
            let start = sessionstore_value_json(value, &length)!
            return Data(bytes: start, count: length)
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

    /// The elements of an array. Throws ``SessionStoreError/Code/wrongType`` if it is anything else.
    public var elements: [Value] {
        get throws { try decode([Value].self) }
    }

    /// The members of an object, in no order. Throws ``SessionStoreError/Code/wrongType`` if it is anything else.
    public var members: [String: Value] {
        get throws { try decode([String: Value].self) }
    }
}

// MARK: Codable

extension Value {
    /// What `Encodable` makes of something. Strings, booleans, numbers and ``Value`` are what they are; nil is `null`.
    ///
    /// Throws ``SessionStoreError/Code/invalidJSON`` for what JSON cannot say.
    public init<T: Encodable>(encoding value: T) throws {
        switch value {
        case let value as Value: self = value
        case let value as String: self.init(value)
        case let value as Bool: self.init(value)
        case let value as any FixedWidthInteger & Encodable:
            try self.init(json: "\(value)")
        case let value as Double: try self.init(value)
        case let value as Float: try self.init(Double(value))
        default:
            let data: Data
            do {
                let encoder = JSONEncoder()
                // Always the same text for the same value.
                encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
                data = try encoder.encode(value)
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
        case is Value.Type: found = self
        case is String.Type: found = try string
        case is Bool.Type: found = try boolean
        case is Int64.Type: found = try integer
        case is Int.Type: found = try Int(exactly: integer)
        case is Double.Type: found = try number
        default: found = nil
        }
        if let found = found as? T { return found }
        do {
            return try JSONDecoder().decode(type, from: data)
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

/// A value inside of other values: it has the same type and, but for numbers beyond `Int64` and `UInt64`, every digit.
/// The members of objects are ordered by their names. By itself, and in a ``Key`` of type ``Value``, it stays as it is written.
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
        } else if let elements = try? container.decode([Value].self) {
            self.init(elements)
        } else {
            let members = try container.decode([String: Value].self)
            self.init(members: members.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
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
