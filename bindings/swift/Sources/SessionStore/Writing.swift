import CSessionStore
import Foundation

/// Something that is done to a key, on the server.
public struct WriteOperation: Sendable {
    let number: Int32
    /// Nil for `touch`.
    let json: String?
    let cap: UInt64

    private init(_ number: Int32, _ value: Value?, cap: UInt64 = 0) {
        self.number = number
        self.json = value?.json
        self.cap = cap
    }

    /// Replaces the value; ``Value/null`` removes the key. What is not said of the key's expiry and of its peer is forgotten:
    /// it stays until it is removed.
    public static func set(_ value: Value) -> WriteOperation { WriteOperation(SESSIONSTORE_OPERATION_SET, value) }

    /// Adds a number, which may be negative, to the key's number; an absent key counts as 0. Two integers are added exactly,
    /// others as `Double`.
    public static func add(_ number: Value) -> WriteOperation { WriteOperation(SESSIONSTORE_OPERATION_ADD, number) }

    /// A JSON merge patch (RFC 7396): members of an object are set, members that are `null` are removed, at every depth. An
    /// absent key counts as an empty object.
    public static func patch(_ patch: Value) -> WriteOperation { WriteOperation(SESSIONSTORE_OPERATION_PATCH, patch) }

    /// Adds each value of an array to the key's array unless it is in it. An absent key counts as an empty array, here and
    /// below.
    public static func setAdd(_ values: Value) -> WriteOperation { WriteOperation(SESSIONSTORE_OPERATION_SET_ADD, values) }

    /// Removes each value of an array from the key's array; that one is not in it is fine.
    public static func setRemove(_ values: Value) -> WriteOperation { WriteOperation(SESSIONSTORE_OPERATION_SET_REMOVE, values) }

    /// Appends the values of an array to the key's array, then drops the oldest, which are the first, until at most `cap` are
    /// left. Without it only the room's limits bound it.
    public static func append(_ values: Value, cap: UInt64? = nil) -> WriteOperation {
        // 0 is none for the library; the most there can be is all.
        WriteOperation(SESSIONSTORE_OPERATION_APPEND, values, cap: cap ?? 0)
    }

    /// Leaves the value as it is and gives the key the expiry that the options say. Refused with
    /// ``SessionStoreError/Code/keyAbsent`` if there is none.
    public static let touch = WriteOperation(SESSIONSTORE_OPERATION_TOUCH, nil)
}

/// On which condition a key is written, and how long it stays. What is nil is not said: after a set the key stays for good,
/// after every other operation as long as it did before.
public struct WriteOptions: Sendable {
    /// When a key goes by itself.
    public enum Expiry: Sendable, Hashable {
        /// After this time, at least a millisecond and at most a year.
        case after(Duration)
        /// When it did before this write, or never.
        case keep
        /// Not by itself.
        case never
    }

    /// The version the key must have, 0 meaning that it must be absent; otherwise
    /// ``SessionStoreError/Code/versionConflict``.
    public var ifVersion: UInt64?
    /// When the key goes by itself.
    public var expiry: Expiry?
    /// Whether the key goes when this peer leaves, or its grace period ends.
    public var bound: Bool?
    /// A lock whose grant must hold; otherwise ``SessionStoreError/Code/lockLost``.
    public var lock: Lock?

    /// What is nil has its default.
    public init(ifVersion: UInt64? = nil, expiry: Expiry? = nil, bound: Bool? = nil, lock: Lock? = nil) {
        self.ifVersion = ifVersion
        self.expiry = expiry
        self.bound = bound
        self.lock = lock
    }

    /// Nothing is said.
    public static let none = WriteOptions()

    var isNone: Bool { ifVersion == nil && expiry == nil && bound == nil && lock == nil }

    /// As the library takes it.
    struct Prepared {
        fileprivate var options: sessionstore_write_options
        fileprivate let lock: Lock?

        func use<R>(_ body: (UnsafePointer<sessionstore_write_options>) throws -> R) rethrows -> R {
            var options = options
            guard let lock else { return try body(&options) }
            return try lock.handle.use {
                options.lock = $0
                return try body(&options)
            }
        }
    }

    func prepared(for operation: WriteOperation) throws -> Prepared {
        var options = sessionstore_write_options.sized()
        var flags: Int32 = 0
        if let ifVersion {
            flags |= SESSIONSTORE_WRITE_IF_VERSION
            options.if_version = ifVersion
        }
        switch expiry {
        case .after(let time):
            guard let milliseconds = time.wholeMilliseconds, milliseconds > 0 else {
                throw SessionStoreError(.invalidArgument, "A key cannot go before it is there: its time must be more than 0.")
            }
            options.ttl_ms = milliseconds
        case .keep: flags |= SESSIONSTORE_WRITE_KEEP_EXPIRY
        case .never: flags |= SESSIONSTORE_WRITE_NEVER_EXPIRES
        case nil: break
        }
        switch bound {
        case true?: flags |= SESSIONSTORE_WRITE_BOUND
        case false?: flags |= SESSIONSTORE_WRITE_UNBOUND
        case nil: break
        }
        options.flags = UInt32(flags)
        options.cap = operation.cap
        return Prepared(options: options, lock: lock)
    }
}

/// Checks and writes that happen together or not at all.
///
/// The checks look at the store as it was before. The writes are made in their order, and each sees what those before it did;
/// all of them have one revision, and those who listen hear of each key once. The room's limits hold for the result as a
/// whole.
///
/// It is only a description: it belongs to no store, is not used up by being sent, and may be added to and sent again.
///
/// ```swift
/// var turn = Transaction()
/// turn.check("turn", equals: "x")
/// turn.check(absent: "board/4")
/// turn.set("board/4", to: "x")
/// turn.set("turn", to: "o")
/// try await store.transact(turn)
/// ```
public struct Transaction: Sendable {
    private var steps: [@Sendable (OpaquePointer) throws -> Void] = []

    /// Nothing is checked or written yet.
    public init() {}

    /// The key has this version; 0: it is absent.
    public mutating func check(_ key: String, version: UInt64) {
        add(key) { sessionstore_transaction_check_version($0, $1, $2, version, $3) }
    }

    /// The key is set.
    public mutating func check(exists key: String) {
        add(key) { sessionstore_transaction_check_exists($0, $1, $2, $3) }
    }

    /// The key is not set.
    public mutating func check(absent key: String) {
        add(key) { sessionstore_transaction_check_absent($0, $1, $2, $3) }
    }

    /// The key holds this value: the order of members makes no difference; numbers are the same when they are written alike,
    /// so 1 and 1.0 differ. ``Value/null``: the key is absent.
    public mutating func check(_ key: String, equals value: Value) {
        let json = value.json
        add(key) { transaction, key, length, error in
            withText(json) { sessionstore_transaction_check_equals(transaction, key, length, $0, $1, error) }
        }
    }

    /// The key holds this value of its type. Throws ``SessionStoreError/Code/invalidJSON`` for what JSON cannot say.
    public mutating func check<Content>(_ key: Key<Content>, equals value: Content) throws {
        check(key.name, equals: try Value(encoding: value))
    }

    /// The lock is held under this grant; otherwise ``SessionStoreError/Code/lockLost``.
    public mutating func check(_ lock: Lock) {
        steps.append { transaction in
            try lock.handle.use { lock in try call { sessionstore_transaction_check_lock(transaction, lock, $0) } }
        }
    }

    /// Adds a write. A lock in the options is refused with ``SessionStoreError/Code/invalidArgument`` when the transaction is
    /// sent: here it is a check.
    public mutating func write(_ key: String, _ operation: WriteOperation, _ options: WriteOptions = .none) {
        steps.append { transaction in
            try options.prepared(for: operation).use { options in
                try withTexts(key, operation.json) { key, length, json, jsonLength in
                    try call {
                        sessionstore_transaction_write(
                            transaction, key, length, operation.number, json, jsonLength, options, $0)
                    }
                }
            }
        }
    }

    /// Sets a key; ``Value/null`` removes it.
    public mutating func set(_ key: String, to value: Value, options: WriteOptions = .none) {
        write(key, .set(value), options)
    }

    /// Sets a key to a value of its type. Throws ``SessionStoreError/Code/invalidJSON`` for what JSON cannot say.
    public mutating func set<Content>(_ key: Key<Content>, to value: Content, options: WriteOptions = .none) throws {
        write(key.name, .set(try Value(encoding: value)), options)
    }

    /// Removes a key.
    public mutating func remove(_ key: String) {
        write(key, .set(.null))
    }

    private mutating func add(
        _ key: String, _ check: @escaping @Sendable (OpaquePointer, UnsafePointer<CChar>?, Int, ErrorOut) -> Int32
    ) {
        steps.append { transaction in
            try withText(key) { key, length in try call { check(transaction, key, length, $0) } }
        }
    }

    /// As the library has it.
    func build() throws -> Handle {
        // A transaction is given whenever the call succeeds.
        let built = try make(sessionstore_transaction_free) { sessionstore_transaction_new($0, $1) }!
        try built.use { transaction in try steps.forEach { try $0(transaction) } }
        return built
    }
}
