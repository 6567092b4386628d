import type { State } from "./values.js";

/** Numbers, each followed by the names of the codes from there on; `!` marks those after which the same call may succeed later. */
const table =
  "1 NULL_ARGUMENT INVALID_ARGUMENT INVALID_UTF8 INVALID_JSON INVALID_KEY INVALID_ROOM INVALID_PEER INVALID_URL " +
  "INVALID_STRUCT_SIZE UNKNOWN_OPTION WRONG_TYPE WOULD_DEADLOCK FORKED UNKNOWN_METHOD MALFORMED_MESSAGE " +
  "INVALID_CONFIG WRONG_MODE BUSY! INVALID_LOCK 100 NOT_JOINED CLOSED TIMEOUT! CONNECTION_LOST! " +
  "CONNECTION_FAILED! HOST_NOT_FOUND! HANDSHAKE_FAILED! SESSION_LOST REPLACED SHUTTING_DOWN! ADDRESS_IN_USE! " +
  "ADDRESS_UNAVAILABLE QUEUE_FULL! IDLE_TIMEOUT! SLOW_READER! OUTCOME_UNKNOWN PEER_IN_USE! TLS_FAILED! " +
  "DATA_DIRECTORY_UNUSABLE! DATA_DAMAGED DATA_NEWER CANCELLED 200 UNAUTHORIZED TOKEN_EXPIRED VALUE_TOO_LARGE TOO_MANY_KEYS " +
  "STORE_FULL VERSION_CONFLICT MESSAGE_TOO_LARGE TOO_MANY_LISTENED_KEYS ROOM_FULL! SERVER_FULL! PEER_MISMATCH " +
  "FORBIDDEN CHECK_FAILED LOCK_HELD! LOCK_LOST NUMBER_OVERFLOW RESERVED_KEY KEY_ABSENT TOO_MANY_LOCKS! " +
  "ORIGIN_NOT_ALLOWED RATE_LIMITED! TOO_MANY_CONNECTIONS! TOO_MANY_ROOMS! KICKED ROOM_CLOSED ROOM_OPEN NOT_FOUND " +
  "900 INTERNAL PANIC OUT_OF_RESOURCES! 999 UNKNOWN";

/** The name of an error code, such as `"VERSION_CONFLICT"`. */
export type ErrorName =
  | "NULL_ARGUMENT"
  | "INVALID_ARGUMENT"
  | "INVALID_UTF8"
  | "INVALID_JSON"
  | "INVALID_KEY"
  | "INVALID_ROOM"
  | "INVALID_PEER"
  | "INVALID_URL"
  | "INVALID_STRUCT_SIZE"
  | "UNKNOWN_OPTION"
  | "WRONG_TYPE"
  | "WOULD_DEADLOCK"
  | "FORKED"
  | "UNKNOWN_METHOD"
  | "MALFORMED_MESSAGE"
  | "INVALID_CONFIG"
  | "WRONG_MODE"
  | "BUSY"
  | "INVALID_LOCK"
  | "NOT_JOINED"
  | "CLOSED"
  | "TIMEOUT"
  | "CONNECTION_LOST"
  | "CONNECTION_FAILED"
  | "HOST_NOT_FOUND"
  | "HANDSHAKE_FAILED"
  | "SESSION_LOST"
  | "REPLACED"
  | "SHUTTING_DOWN"
  | "ADDRESS_IN_USE"
  | "ADDRESS_UNAVAILABLE"
  | "QUEUE_FULL"
  | "IDLE_TIMEOUT"
  | "SLOW_READER"
  | "OUTCOME_UNKNOWN"
  | "PEER_IN_USE"
  | "TLS_FAILED"
  | "DATA_DIRECTORY_UNUSABLE"
  | "DATA_DAMAGED"
  | "DATA_NEWER"
  | "CANCELLED"
  | "UNAUTHORIZED"
  | "TOKEN_EXPIRED"
  | "VALUE_TOO_LARGE"
  | "TOO_MANY_KEYS"
  | "STORE_FULL"
  | "VERSION_CONFLICT"
  | "MESSAGE_TOO_LARGE"
  | "TOO_MANY_LISTENED_KEYS"
  | "ROOM_FULL"
  | "SERVER_FULL"
  | "PEER_MISMATCH"
  | "FORBIDDEN"
  | "CHECK_FAILED"
  | "LOCK_HELD"
  | "LOCK_LOST"
  | "NUMBER_OVERFLOW"
  | "RESERVED_KEY"
  | "KEY_ABSENT"
  | "TOO_MANY_LOCKS"
  | "ORIGIN_NOT_ALLOWED"
  | "RATE_LIMITED"
  | "TOO_MANY_CONNECTIONS"
  | "TOO_MANY_ROOMS"
  | "KICKED"
  | "ROOM_CLOSED"
  | "ROOM_OPEN"
  | "NOT_FOUND"
  | "INTERNAL"
  | "PANIC"
  | "OUT_OF_RESOURCES"
  | "UNKNOWN";

/**
 * Every error code: its name and its number, the same in every language. 1–99 are the caller's mistake, 100–199 concern
 * the connection or the state of the client, 200–299 are refusals by the room, 900 and above are faults of SessionStore.
 */
export const ErrorCode = {} as { readonly [Name in ErrorName]: number };

/** The names by their numbers; undefined for a number that this version does not know. */
export const names: ErrorName[] = [];
let number = 0;
for (const word of table.split(" ")) {
  if (+word) number = +word;
  else {
    const name = (names[number] = word.replace("!", "") as ErrorName);
    (ErrorCode as Record<string, number>)[name] = number++;
  }
}

/** What may come with an error. */
interface Details {
  current?: State | undefined;
  check?: number | undefined;
  write?: number | undefined;
  retryAfterMs?: number | undefined;
}

/** What to do, unless it is to try again; a refusal by the room brings its own sentence. */
const advice: Partial<Record<ErrorName, string>> = {
  CLOSED: "open a new client",
  CONNECTION_FAILED: "check address, token and origin",
  SESSION_LOST: "this is a new peer; look at the current state",
  REPLACED: "give each client its own peer id",
  UNAUTHORIZED: "get a valid token",
  TOKEN_EXPIRED: "get a valid token",
  OUTCOME_UNKNOWN: "it may have been applied; look at the current state",
  LOCK_LOST: "take the lock again",
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
  declare readonly name: ErrorName;
  /** The number of the code, the same in every language: `ErrorCode.VERSION_CONFLICT`. */
  declare readonly code: number;
  /** Whether the same call may succeed later without being changed. */
  declare readonly retryable: boolean;
  /** What the key holds now, for `VERSION_CONFLICT` and `CHECK_FAILED`; for `LOCK_HELD`, who holds the lock. */
  declare readonly current: State | undefined;
  /** Which check of a transaction failed, counted from 0. */
  declare readonly check: number | undefined;
  /** Which write of a transaction was refused, counted from 0. */
  declare readonly write: number | undefined;
  /** After how many milliseconds to try again, for `RATE_LIMITED` and for a server that is full. */
  declare readonly retryAfterMs: number | undefined;

  /** @internal */
  constructor(name: ErrorName, message?: string, details?: Details) {
    const code = ErrorCode[name];
    const retryable = table.includes(` ${name}!`);
    super(message ?? `${name.toLowerCase().replaceAll("_", " ")}; ${advice[name] ?? (retryable ? "try again later" : "ask the operator")}`);
    Object.assign(this, details, { name, code, retryable });
  }
}

export const fault = (name: ErrorName, message?: string): SessionStoreError => new SessionStoreError(name, message);
