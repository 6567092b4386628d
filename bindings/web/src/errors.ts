import type { State } from "./values.js";

/**
 * Every error code: its name and its number, the same in every language. 1–99 are the caller's mistake, 100–199 concern
 * the connection or the state of the client, 200–299 are refusals by the room, 900 and above are faults of SessionStore.
 */
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

/** The name of an error code, such as `"VERSION_CONFLICT"`. */
export type ErrorName = keyof typeof ErrorCode;

/** Those after which the same call may succeed later without being changed. */
const retryable = [18, 102, 103, 104, 105, 106, 109, 110, 112, 113, 114, 116, 117, 118, 208, 209, 213, 218, 220, 221, 222, 902];

/** What the client itself has to say; a refusal by the room brings its own sentence. */
const advice: Partial<Record<ErrorName, string>> = {
  CLOSED: "The client is closed; open a new one.",
  TIMEOUT: "The time given ran out, and nothing was applied; try again, or give more time.",
  CONNECTION_LOST: "The connection broke; the client makes a new one by itself.",
  CONNECTION_FAILED:
    "The server cannot be reached, or refused the connection, which web pages are not told apart; check address, token and allowed origins.",
  SESSION_LOST:
    "The client was away for longer than the grace period, or its session is over: it is a new peer; locks and keys that went with the old one are gone.",
  REPLACED: "Another connection joined with this peer id; give each client a peer id of its own.",
  SHUTTING_DOWN: "The server is shutting down; the client comes back in a moment.",
  QUEUE_FULL: "Too many requests wait for their answer; wait for some of them.",
  TOKEN_EXPIRED: "The token has expired; get a fresh one.",
  LOCK_LOST: "The lock ran out while it could not be renewed; take it again.",
};

/**
 * Every failure that this package reports. Its message is a sentence for people, and holds no value, token or secret.
 *
 * ```ts
 * try {
 *   await store.set("pinned", text);
 * } catch (error) {
 *   if (error instanceof SessionStoreError && error.name === "VALUE_TOO_LARGE") shorten();
 *   else throw error;
 * }
 * ```
 *
 * After `OUTCOME_UNKNOWN` a request may have been applied or not; after any other error it was not.
 */
export class SessionStoreError extends Error {
  /** The name of the code, such as `"VERSION_CONFLICT"`. */
  override readonly name: ErrorName;
  /** The number of the code, the same in every language: `ErrorCode.VERSION_CONFLICT`. */
  readonly code: number;
  /** Whether the same call may succeed later without being changed. */
  readonly retryable: boolean;
  /** What the key holds now, for `VERSION_CONFLICT` and `CHECK_FAILED`; for `LOCK_HELD`, who holds the lock. */
  readonly current: State | undefined;
  /** Which check of a transaction failed, counted from 0. */
  readonly check: number | undefined;
  /** Which write of a transaction was refused, counted from 0. */
  readonly write: number | undefined;
  /** After how many milliseconds to try again, for `RATE_LIMITED` and for a server that is full. */
  readonly retryAfterMs: number | undefined;

  /** @internal */
  constructor(
    name: ErrorName,
    message?: string,
    details: { current?: State | undefined; check?: number | undefined; write?: number | undefined; retryAfterMs?: number | undefined } = {},
  ) {
    super(message ?? advice[name] ?? "The server ended the connection with this code.");
    this.name = name;
    this.code = ErrorCode[name];
    this.retryable = retryable.includes(this.code);
    this.current = details.current;
    this.check = details.check;
    this.write = details.write;
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** The name of a number, `UNKNOWN` for one that this version does not know. */
export const nameOf = (code: unknown): ErrorName =>
  (Object.keys(ErrorCode) as ErrorName[]).find((name) => ErrorCode[name] === code) ?? "UNKNOWN";
