import CSessionStore
import Foundation

/// What went wrong. Everything here throws it, but for `CancellationError` of tasks that were cancelled, and what a
/// closure of yours throws.
///
/// ```swift
/// do {
///     try await store.set("turn", to: "o", ifVersion: seen.version)
/// } catch let error as SessionStoreError where error.code == .versionConflict {
///     print("it is \(error.current!.value) already")
/// }
/// ```
///
/// No message holds a value, a token or a secret.
public struct SessionStoreError: Error, Sendable {
    /// What it is. A number that this version does not know is ``Code/unknown``; ``number`` has it.
    public let code: Code
    /// The code as a number, the same on the wire and in every language.
    public let number: Int32
    /// The code's name, such as `VALUE_TOO_LARGE`.
    public let name: String
    /// A sentence for people: what happened and what to do.
    public let message: String
    /// Whether the same call may succeed later without being changed.
    public let isRetryable: Bool
    /// For ``Code/versionConflict``, and ``Code/checkFailed`` of a key, what the key holds now; for ``Code/lockHeld``, the
    /// key that shows who holds the lock.
    public let current: Event?
    /// Which check of a transaction failed, counted from 0 in the order in which they were added.
    public let check: Int?
    /// Which write of a transaction was refused, counted from 0 in the order in which they were added.
    public let write: Int?
    /// For ``Code/rateLimited``, and for a server that is full: how long to wait before trying again.
    public let retryAfter: Duration?

    /// Reads an error of the library, which stays its owner's.
    init(borrowing error: OpaquePointer?, number: Int32) {
        self.number = number
        code = Code(rawValue: number) ?? .unknown
        name = String(cString: sessionstore_error_name(error))
        message = String(cString: sessionstore_error_message(error))
        isRetryable = sessionstore_error_is_retryable(error) != 0
        current = sessionstore_error_current(error).map(Event.init(borrowing:))
        check = Int(exactly: sessionstore_error_check(error)).flatMap { $0 < 0 ? nil : $0 }
        write = Int(exactly: sessionstore_error_write(error)).flatMap { $0 < 0 ? nil : $0 }
        let wait = sessionstore_error_retry_after_ms(error)
        retryAfter = wait < 0 ? nil : Duration(milliseconds: UInt64(wait))
    }

    /// An error that a callback was told.
    init(borrowing error: OpaquePointer) {
        self.init(borrowing: error, number: sessionstore_error_code(error))
    }

    /// An error that is found here, with the same codes. Without a message it has the code's advice.
    public init(_ code: Code, _ message: String? = nil) {
        self.code = code
        number = code.rawValue
        name = code.name
        self.message = message ?? code.advice
        isRetryable = code.isRetryable
        current = nil
        check = nil
        write = nil
        retryAfter = nil
    }

    /// Every code. 1 to 99: the caller's mistake. 100 to 199: the connection, or the state of an object. 200 to 299:
    /// refused by the room, nothing changed. 900 and above: ours.
    public enum Code: Int32, Sendable, CaseIterable {
        /// A pointer that must not be NULL was NULL.
        case nullArgument = 1
        /// An argument has a value outside its range.
        case invalidArgument = 2
        /// A text is not valid UTF-8.
        case invalidUTF8 = 3
        /// A value is not valid JSON.
        case invalidJSON = 4
        /// A key breaks the rules for keys.
        case invalidKey = 5
        /// A room name breaks the rules for rooms.
        case invalidRoom = 6
        /// A peer's id, name, role, user id or metadata breaks its rules.
        case invalidPeer = 7
        /// The server's address is not a usable URL.
        case invalidURL = 8
        /// An options or callback struct has an impossible `struct_size`.
        case invalidStructSize = 9
        /// An option or flag is set that this version does not know.
        case unknownOption = 10
        /// A value is of another type than the one asked for.
        case wrongType = 11
        /// Waiting here would wait for the calling thread itself.
        case wouldDeadlock = 12
        /// The library is used in a forked child process.
        case forked = 13
        /// A message names a method the server does not have.
        case unknownMethod = 14
        /// A message is not a request of the protocol.
        case malformedMessage = 15
        /// The server's configuration cannot be used.
        case invalidConfig = 16
        /// The call does not fit the mode of the client, such as polling one that is not in poll mode.
        case wrongMode = 17
        /// Two calls that exclude each other were made at once, such as two polls of one client.
        case busy = 18
        /// A lock's name breaks the rules for locks.
        case invalidLock = 19
        /// A request came before the peer joined, or after it left.
        case notJoined = 100
        /// The object was closed.
        case closed = 101
        /// The time given to a call ran out.
        case timeout = 102
        /// The connection broke before the answer came.
        case connectionLost = 103
        /// No connection to the server could be made.
        case connectionFailed = 104
        /// The host name of the server does not resolve.
        case hostNotFound = 105
        /// What answered at the address is not a SessionStore server.
        case handshakeFailed = 106
        /// The session this client was in has ended; it joined a new one.
        case sessionLost = 107
        /// Another connection came with the same peer id.
        case replaced = 108
        /// The server is shutting down.
        case shuttingDown = 109
        /// The address to listen on is in use.
        case addressInUse = 110
        /// The address to listen on cannot be used.
        case addressUnavailable = 111
        /// Too many requests wait for their answer.
        case queueFull = 112
        /// The client sent nothing, not even an answer to a ping, for too long.
        case idleTimeout = 113
        /// The client did not read what it was sent.
        case slowReader = 114
        /// A request was sent, and its answer is lost: it may have been applied or not. A request that ends with
        /// any other error was not applied.
        case outcomeUnknown = 115
        /// A peer with this id is in the room, and it is not this client.
        case peerInUse = 116
        /// TLS could not be agreed on: a certificate that is not trusted, or a side that does not speak it.
        case tlsFailed = 117
        /// The directory for the data of a server cannot be used.
        case dataDirectoryUnusable = 118
        /// What a server kept is not what it wrote.
        case dataDamaged = 119
        /// A newer version of the server wrote what is kept.
        case dataNewer = 120
        /// A request was taken back before it changed anything. A task whose request it was is told `CancellationError`
        /// instead.
        case cancelled = 121
        /// The token is missing, malformed, or signed with another secret.
        case unauthorized = 200
        /// The token has expired.
        case tokenExpired = 201
        /// A value is larger than the limit.
        case valueTooLarge = 202
        /// The store has as many keys as it may have.
        case tooManyKeys = 203
        /// Keys and values together would be larger than the limit.
        case storeFull = 204
        /// The key has another version than the one expected.
        case versionConflict = 205
        /// A message is larger than the server accepts.
        case messageTooLarge = 206
        /// The peer listens to as many keys as it may.
        case tooManyListenedKeys = 207
        /// The room has as many peers as it may have.
        case roomFull = 208
        /// The server has as many connections as it may have.
        case serverFull = 209
        /// The peer id is in use in a way that cannot be taken over.
        case peerMismatch = 210
        /// The room's rules do not allow it.
        case forbidden = 211
        /// A check of a transaction failed.
        case checkFailed = 212
        /// Somebody holds the lock.
        case lockHeld = 213
        /// The lock is not held with this token.
        case lockLost = 214
        /// A sum leaves the range of numbers.
        case numberOverflow = 215
        /// The key is one that only the server writes.
        case reservedKey = 216
        /// The key is absent.
        case keyAbsent = 217
        /// The room has as many locks as it may have.
        case tooManyLocks = 218
        /// A web page of this origin may not connect.
        case originNotAllowed = 219
        /// The connection asks more than it may.
        case rateLimited = 220
        /// Too many connections come from one address.
        case tooManyConnections = 221
        /// The server has as many rooms as it may have.
        case tooManyRooms = 222
        /// The peer was removed from the room by whoever runs it.
        case kicked = 223
        /// The room was closed by whoever runs it.
        case roomClosed = 224
        /// The room has a session already.
        case roomOpen = 225
        /// There is no such room, peer or lock.
        case notFound = 226
        /// A fault of the library or the server.
        case `internal` = 900
        /// The library panicked; the object is not usable any more.
        case panic = 901
        /// The system refused a resource: memory, a thread, a descriptor.
        case outOfResources = 902
        /// The server answered with a code this version does not know.
        case unknown = 999

        /// The name, such as `VALUE_TOO_LARGE`.
        public var name: String { String(cString: sessionstore_code_name(rawValue)) }

        /// What it means and what to do, as a sentence.
        public var advice: String { String(cString: sessionstore_code_advice(rawValue)) }

        /// Whether the same call may succeed later without being changed.
        public var isRetryable: Bool {
            switch self {
            case .busy, .timeout, .connectionLost, .connectionFailed, .hostNotFound, .handshakeFailed, .shuttingDown,
                .addressInUse, .queueFull, .idleTimeout, .slowReader, .peerInUse, .tlsFailed, .dataDirectoryUnusable,
                .roomFull, .serverFull, .lockHeld, .tooManyLocks, .rateLimited, .tooManyConnections, .tooManyRooms,
                .outOfResources:
                return true
            default:
                return false
            }
        }
    }
}

extension SessionStoreError: CustomStringConvertible, LocalizedError {
    public var description: String { "\(name): \(message)" }
    public var errorDescription: String? { message }
}

/// The version of the library that is running, such as `0.1.0`; ``headerVersion`` is that of the header this was
/// compiled with. Within one SONAME the library may be newer.
public var libraryVersion: String { String(cString: sessionstore_version()) }

/// The version of the header that this was compiled with.
public var headerVersion: String { SESSIONSTORE_VERSION }
