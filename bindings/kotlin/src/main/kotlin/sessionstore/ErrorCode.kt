package sessionstore

import sessionstore.internal.C
import sessionstore.internal.staticText

/**
 * What kind of error it is: the same number on the wire and in every language.
 *
 * 1-99: the caller's mistake. 100-199: the connection, or the state of an object. 200-299: refused by the room, nothing
 * changed. 900 and above: ours. Newer versions of the library may have further codes, which [of] gives the name
 * `"UNKNOWN"`, so this is no enum.
 *
 * ```
 * try {
 *     store.setIfVersion("turn", "o", seen.version)
 * } catch (error: SessionStoreException) {
 *     if (error.code != ErrorCode.VERSION_CONFLICT) throw error
 * }
 * ```
 *
 * @property number the number, as on the wire
 * @property name such as `"VALUE_TOO_LARGE"`
 * @property isRetryable whether the same call may succeed later without being changed
 */
public class ErrorCode private constructor(
    public val number: Int,
    public val name: String,
    public val isRetryable: Boolean,
) {
    /** What the code means and what to do, as a sentence. */
    public val advice: String
        get() = staticText(C.sessionstore_code_advice(number))

    /** Codes are the same when their numbers are. */
    override fun equals(other: Any?): Boolean = other is ErrorCode && other.number == number

    /** The number. */
    override fun hashCode(): Int = number

    /** The name and the number. */
    override fun toString(): String = "$name ($number)"

    /** Every code this version knows, under its name. */
    public companion object {
        private val known = LinkedHashMap<Int, ErrorCode>()

        private fun code(number: Int, name: String, isRetryable: Boolean = false): ErrorCode =
            ErrorCode(number, name, isRetryable).also { known[number] = it }

        /** A pointer that must not be NULL was NULL. */
        public val NULL_ARGUMENT: ErrorCode = code(1, "NULL_ARGUMENT")

        /** An argument has a value outside its range. */
        public val INVALID_ARGUMENT: ErrorCode = code(2, "INVALID_ARGUMENT")

        /** A text is not valid UTF-8. */
        public val INVALID_UTF8: ErrorCode = code(3, "INVALID_UTF8")

        /** A value is not valid JSON. */
        public val INVALID_JSON: ErrorCode = code(4, "INVALID_JSON")

        /** A key breaks the rules for keys. */
        public val INVALID_KEY: ErrorCode = code(5, "INVALID_KEY")

        /** A room name breaks the rules for rooms. */
        public val INVALID_ROOM: ErrorCode = code(6, "INVALID_ROOM")

        /** A peer's id, name, role, user id or metadata breaks its rules. */
        public val INVALID_PEER: ErrorCode = code(7, "INVALID_PEER")

        /** The server's address is not a usable URL. */
        public val INVALID_URL: ErrorCode = code(8, "INVALID_URL")

        /** An options or callback struct has an impossible `struct_size`. */
        public val INVALID_STRUCT_SIZE: ErrorCode = code(9, "INVALID_STRUCT_SIZE")

        /** An option or flag is set that this version does not know. */
        public val UNKNOWN_OPTION: ErrorCode = code(10, "UNKNOWN_OPTION")

        /** A value is of another type than the one asked for. */
        public val WRONG_TYPE: ErrorCode = code(11, "WRONG_TYPE")

        /** Waiting here would wait for the calling thread itself. */
        public val WOULD_DEADLOCK: ErrorCode = code(12, "WOULD_DEADLOCK")

        /** The library is used in a forked child process. */
        public val FORKED: ErrorCode = code(13, "FORKED")

        /** A message names a method the server does not have. */
        public val UNKNOWN_METHOD: ErrorCode = code(14, "UNKNOWN_METHOD")

        /** A message is not a request of the protocol. */
        public val MALFORMED_MESSAGE: ErrorCode = code(15, "MALFORMED_MESSAGE")

        /** The server's configuration cannot be used. */
        public val INVALID_CONFIG: ErrorCode = code(16, "INVALID_CONFIG")

        /** The call does not fit the mode of the client, such as polling one that is not in poll mode. */
        public val WRONG_MODE: ErrorCode = code(17, "WRONG_MODE")

        /** Two calls that exclude each other were made at once, such as two polls of one client. */
        public val BUSY: ErrorCode = code(18, "BUSY", isRetryable = true)

        /** A lock's name breaks the rules for locks. */
        public val INVALID_LOCK: ErrorCode = code(19, "INVALID_LOCK")

        /** A request came before the peer joined, or after it left. */
        public val NOT_JOINED: ErrorCode = code(100, "NOT_JOINED")

        /** The object was closed. */
        public val CLOSED: ErrorCode = code(101, "CLOSED")

        /** The time given to a call ran out. */
        public val TIMEOUT: ErrorCode = code(102, "TIMEOUT", isRetryable = true)

        /** The connection broke before the answer came. */
        public val CONNECTION_LOST: ErrorCode = code(103, "CONNECTION_LOST", isRetryable = true)

        /** No connection to the server could be made. */
        public val CONNECTION_FAILED: ErrorCode = code(104, "CONNECTION_FAILED", isRetryable = true)

        /** The host name of the server does not resolve. */
        public val HOST_NOT_FOUND: ErrorCode = code(105, "HOST_NOT_FOUND", isRetryable = true)

        /** What answered at the address is not a SessionStore server. */
        public val HANDSHAKE_FAILED: ErrorCode = code(106, "HANDSHAKE_FAILED", isRetryable = true)

        /** The session this client was in has ended; it joined a new one. */
        public val SESSION_LOST: ErrorCode = code(107, "SESSION_LOST")

        /** Another connection came with the same peer id. */
        public val REPLACED: ErrorCode = code(108, "REPLACED")

        /** The server is shutting down. */
        public val SHUTTING_DOWN: ErrorCode = code(109, "SHUTTING_DOWN", isRetryable = true)

        /** The address to listen on is in use. */
        public val ADDRESS_IN_USE: ErrorCode = code(110, "ADDRESS_IN_USE", isRetryable = true)

        /** The address to listen on cannot be used. */
        public val ADDRESS_UNAVAILABLE: ErrorCode = code(111, "ADDRESS_UNAVAILABLE")

        /** Too many requests wait for their answer. */
        public val QUEUE_FULL: ErrorCode = code(112, "QUEUE_FULL", isRetryable = true)

        /** The client sent nothing, not even an answer to a ping, for too long. */
        public val IDLE_TIMEOUT: ErrorCode = code(113, "IDLE_TIMEOUT", isRetryable = true)

        /** The client did not read what it was sent. */
        public val SLOW_READER: ErrorCode = code(114, "SLOW_READER", isRetryable = true)

        /**
         * A request was sent, and its answer is lost: it may have been applied or not. A request that ends with any
         * other error was not applied.
         */
        public val OUTCOME_UNKNOWN: ErrorCode = code(115, "OUTCOME_UNKNOWN")

        /** A peer with this id is in the room, and it is not this client. */
        public val PEER_IN_USE: ErrorCode = code(116, "PEER_IN_USE", isRetryable = true)

        /** TLS could not be agreed on: a certificate that is not trusted, or a side that does not speak it. */
        public val TLS_FAILED: ErrorCode = code(117, "TLS_FAILED", isRetryable = true)

        /** The directory for the data of a server cannot be used. */
        public val DATA_DIRECTORY_UNUSABLE: ErrorCode = code(118, "DATA_DIRECTORY_UNUSABLE", isRetryable = true)

        /** What a server kept is not what it wrote. */
        public val DATA_DAMAGED: ErrorCode = code(119, "DATA_DAMAGED")

        /** A newer version of the server wrote what is kept. */
        public val DATA_NEWER: ErrorCode = code(120, "DATA_NEWER")

        /** The app took the request back. Nothing here throws it: a coroutine that is cancelled ends as all such do. */
        public val CANCELLED: ErrorCode = code(121, "CANCELLED")

        /** The token is missing, malformed, or signed with another secret. */
        public val UNAUTHORIZED: ErrorCode = code(200, "UNAUTHORIZED")

        /** The token has expired. */
        public val TOKEN_EXPIRED: ErrorCode = code(201, "TOKEN_EXPIRED")

        /** A value is larger than the limit. */
        public val VALUE_TOO_LARGE: ErrorCode = code(202, "VALUE_TOO_LARGE")

        /** The store has as many keys as it may have. */
        public val TOO_MANY_KEYS: ErrorCode = code(203, "TOO_MANY_KEYS")

        /** Keys and values together would be larger than the limit. */
        public val STORE_FULL: ErrorCode = code(204, "STORE_FULL")

        /** The key has another version than the one expected. */
        public val VERSION_CONFLICT: ErrorCode = code(205, "VERSION_CONFLICT")

        /** A message is larger than the server accepts. */
        public val MESSAGE_TOO_LARGE: ErrorCode = code(206, "MESSAGE_TOO_LARGE")

        /** The peer listens to as many keys as it may. */
        public val TOO_MANY_LISTENED_KEYS: ErrorCode = code(207, "TOO_MANY_LISTENED_KEYS")

        /** The room has as many peers as it may have. */
        public val ROOM_FULL: ErrorCode = code(208, "ROOM_FULL", isRetryable = true)

        /** The server has as many connections as it may have. */
        public val SERVER_FULL: ErrorCode = code(209, "SERVER_FULL", isRetryable = true)

        /** The peer id is in use in a way that cannot be taken over. */
        public val PEER_MISMATCH: ErrorCode = code(210, "PEER_MISMATCH")

        /** The room's rules do not allow it. */
        public val FORBIDDEN: ErrorCode = code(211, "FORBIDDEN")

        /** A check of a transaction failed. */
        public val CHECK_FAILED: ErrorCode = code(212, "CHECK_FAILED")

        /** Somebody holds the lock. */
        public val LOCK_HELD: ErrorCode = code(213, "LOCK_HELD", isRetryable = true)

        /** The lock is not held with this token. */
        public val LOCK_LOST: ErrorCode = code(214, "LOCK_LOST")

        /** A sum leaves the range of numbers. */
        public val NUMBER_OVERFLOW: ErrorCode = code(215, "NUMBER_OVERFLOW")

        /** The key is one that only the server writes. */
        public val RESERVED_KEY: ErrorCode = code(216, "RESERVED_KEY")

        /** The key is absent. */
        public val KEY_ABSENT: ErrorCode = code(217, "KEY_ABSENT")

        /** The room has as many locks as it may have. */
        public val TOO_MANY_LOCKS: ErrorCode = code(218, "TOO_MANY_LOCKS", isRetryable = true)

        /** A web page of this origin may not connect. */
        public val ORIGIN_NOT_ALLOWED: ErrorCode = code(219, "ORIGIN_NOT_ALLOWED")

        /** The connection asks more than it may. */
        public val RATE_LIMITED: ErrorCode = code(220, "RATE_LIMITED", isRetryable = true)

        /** Too many connections come from one address. */
        public val TOO_MANY_CONNECTIONS: ErrorCode = code(221, "TOO_MANY_CONNECTIONS", isRetryable = true)

        /** The server has as many rooms as it may have. */
        public val TOO_MANY_ROOMS: ErrorCode = code(222, "TOO_MANY_ROOMS", isRetryable = true)

        /** The peer was removed from the room by whoever runs it. */
        public val KICKED: ErrorCode = code(223, "KICKED")

        /** The room was closed by whoever runs it. */
        public val ROOM_CLOSED: ErrorCode = code(224, "ROOM_CLOSED")

        /** The room has a session already. */
        public val ROOM_OPEN: ErrorCode = code(225, "ROOM_OPEN")

        /** There is no such room, peer or lock. */
        public val NOT_FOUND: ErrorCode = code(226, "NOT_FOUND")

        /** A fault of the library or the server. */
        public val INTERNAL: ErrorCode = code(900, "INTERNAL")

        /** The library panicked; the object is not usable any more. */
        public val PANIC: ErrorCode = code(901, "PANIC")

        /** The system refused a resource: memory, a thread, a descriptor. */
        public val OUT_OF_RESOURCES: ErrorCode = code(902, "OUT_OF_RESOURCES", isRetryable = true)

        /** The server answered with a code this version does not know. */
        public val UNKNOWN: ErrorCode = code(999, "UNKNOWN")

        /** All of them, by number. */
        public val all: List<ErrorCode> = known.values.toList()

        /** The code with this number, known or not. */
        public fun of(number: Int): ErrorCode = known[number] ?: ErrorCode(number, "UNKNOWN", false)
    }
}
