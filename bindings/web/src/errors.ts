import type { State } from "./state.js";

/** Every error code by its name, the same numbers as in every language. */
export const ErrorCode = {
    NULL_ARGUMENT: 1,
    INVALID_ARGUMENT: 2,
    INVALID_UTF8: 3,
    INVALID_JSON: 4,
    INVALID_KEY: 5,
    INVALID_ROOM: 6,
    INVALID_PEER: 7,
    INVALID_URL: 8,
    INVALID_STRUCT_SIZE: 9,
    UNKNOWN_OPTION: 10,
    WRONG_TYPE: 11,
    WOULD_DEADLOCK: 12,
    FORKED: 13,
    UNKNOWN_METHOD: 14,
    MALFORMED_MESSAGE: 15,
    INVALID_CONFIG: 16,
    WRONG_MODE: 17,
    BUSY: 18,
    INVALID_LOCK: 19,
    NOT_JOINED: 100,
    CLOSED: 101,
    TIMEOUT: 102,
    CONNECTION_LOST: 103,
    CONNECTION_FAILED: 104,
    HOST_NOT_FOUND: 105,
    HANDSHAKE_FAILED: 106,
    SESSION_LOST: 107,
    REPLACED: 108,
    SHUTTING_DOWN: 109,
    ADDRESS_IN_USE: 110,
    ADDRESS_UNAVAILABLE: 111,
    QUEUE_FULL: 112,
    IDLE_TIMEOUT: 113,
    SLOW_READER: 114,
    OUTCOME_UNKNOWN: 115,
    PEER_IN_USE: 116,
    TLS_FAILED: 117,
    DATA_DIRECTORY_UNUSABLE: 118,
    DATA_DAMAGED: 119,
    DATA_NEWER: 120,
    UNAUTHORIZED: 200,
    TOKEN_EXPIRED: 201,
    VALUE_TOO_LARGE: 202,
    TOO_MANY_KEYS: 203,
    STORE_FULL: 204,
    VERSION_CONFLICT: 205,
    MESSAGE_TOO_LARGE: 206,
    TOO_MANY_LISTENED_KEYS: 207,
    ROOM_FULL: 208,
    SERVER_FULL: 209,
    PEER_MISMATCH: 210,
    FORBIDDEN: 211,
    CHECK_FAILED: 212,
    LOCK_HELD: 213,
    LOCK_LOST: 214,
    NUMBER_OVERFLOW: 215,
    RESERVED_KEY: 216,
    KEY_ABSENT: 217,
    TOO_MANY_LOCKS: 218,
    ORIGIN_NOT_ALLOWED: 219,
    RATE_LIMITED: 220,
    TOO_MANY_CONNECTIONS: 221,
    TOO_MANY_ROOMS: 222,
    INTERNAL: 900,
    PANIC: 901,
    OUT_OF_RESOURCES: 902,
    UNKNOWN: 999,
} as const;

/** Where the same call may succeed later without being changed. */
const RETRYABLE = new Set([
    18, 102, 103, 104, 105, 106, 109, 110, 112, 113, 114, 116, 117, 118, 208, 209, 213, 218, 220, 221, 222,
    902,
]);

/** The name of an error code, such as `VALUE_TOO_LARGE`. */
export type ErrorName = keyof typeof ErrorCode;

/** What an error tells besides its code and sentence. */
export interface ErrorDetails {
    /** `VERSION_CONFLICT`, and `CHECK_FAILED` of a key: what the key holds now. `LOCK_HELD`: the key that shows the holder. */
    readonly current?: State | undefined;
    /** Which check of a transaction failed, counted from 0. */
    readonly check?: number | undefined;
    /** Which write of a transaction was refused, counted from 0. */
    readonly write?: number | undefined;
    /** `RATE_LIMITED`, and a server that is full: after how many milliseconds to try again. */
    readonly retryAfterMs?: number | undefined;
}

/**
 * What went wrong. The sentence holds no value, token or secret.
 *
 * ```ts
 * try {
 *     await store.set("pinned", text);
 * } catch (error) {
 *     if (error instanceof SessionStoreError && error.name === "VALUE_TOO_LARGE") shorten();
 *     else throw error;
 * }
 * ```
 */
export class SessionStoreError extends Error implements ErrorDetails {
    /** The name of the code; `UNKNOWN` for one that this version does not know. */
    override readonly name: ErrorName;
    /** The number of the code. */
    readonly code: number;
    /** Whether the same call may succeed later without being changed. */
    readonly retryable: boolean;
    declare readonly current?: State | undefined;
    declare readonly check?: number | undefined;
    declare readonly write?: number | undefined;
    declare readonly retryAfterMs?: number | undefined;

    /** An error with a code, by name or number, a sentence for people, and what else there is to tell. */
    constructor(code: ErrorName | number, message: string, details?: ErrorDetails) {
        super(message);
        Object.assign(this, details);
        this.code = typeof code === "number" ? code : ErrorCode[code];
        this.name = typeof code === "number" ? errorName(code) : code;
        this.retryable = RETRYABLE.has(this.code);
    }
}

function errorName(code: number): ErrorName {
    for (const name in ErrorCode) if (ErrorCode[name as ErrorName] === code) return name as ErrorName;
    return "UNKNOWN";
}
