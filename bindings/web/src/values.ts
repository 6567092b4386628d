import { SessionStoreError, fault, names, type ErrorName } from "./errors.js";
import { parse } from "./json.js";

/**
 * A key with the type of its value, said in one place: {@link key} makes it. Every function that takes a key takes its
 * name or one of these.
 */
export interface Key<T> {
  /** The name of the key. */
  readonly name: string;
  /** The type of its value; there is nothing at run time. */
  readonly type?: (value: T) => T;
}

/**
 * A key and the type of its value. The type is what the app agrees on; it is not checked at run time.
 *
 * ```ts
 * const pinned = key<{ text: string; by: string }>("pinned");
 * await store.set(pinned, { text: "Welcome!", by: "Ana" });
 * ```
 */
export const key = <T>(name: string): Key<T> => ({ name });

/** The name of a key, or a typed key. */
export type KeyOf<T> = string | Key<T>;

/** Which keys are listened to, or read: single ones, all that begin with a prefix (`""` means all keys), or both. */
export interface Selector {
  /** Single keys, absent ones included. */
  keys?: readonly KeyOf<any>[];
  /**
   * And every key that is set and begins with one of these. Keys that show locks (`$lock/…`) are meant only by a prefix
   * that begins with `$`.
   */
  prefixes?: readonly string[];
}

/** Who made a change, as they were when they made it. */
export interface Author {
  /** The id of the peer; empty for an operator, who writes by the HTTP API and is no peer. */
  readonly peerId: string;
  /** The user id from its token; empty if it had none. */
  readonly userId: string;
  /** Its name. */
  readonly name: string;
}

/**
 * Why a key has a state: a peer wrote or removed it, its time to live ran out, the peer it was bound to is gone, or its
 * session is over.
 */
export type Cause = "written" | "expired" | "peer_left" | "cleared";

/** One state of one key: what a listener, a get or a set is told. It never changes. */
export interface State<T = any> {
  /** The key. */
  readonly key: string;
  /**
   * The value; `null` when the key is absent. It cannot be changed, as others are given it too. An integer that a number
   * cannot hold exactly is a `bigint`.
   */
  readonly value: T | null;
  /** The value as compact JSON, as it was written; `"null"` when the key is absent. */
  readonly json: string;
  /** The revision of the store that this change made; 0 for a key that was never set, or whose removal is forgotten. */
  readonly version: number;
  /** When the change was made: server time in milliseconds since 1970; 0 when the version is 0. */
  readonly updatedAt: number;
  /** Why the key has this state. */
  readonly cause: Cause;
  /** When the key goes by itself: server time in milliseconds since 1970; undefined for never. */
  readonly expiresAt: number | undefined;
  /** Who made the change; undefined when the version is 0, or the key expired. */
  readonly author: Author | undefined;
  /** How many older states of this key this one stands for, which its listener missed; usually 0. */
  readonly replaced: number;
  /** True for a current value from before the end of the snapshot, false for a change. */
  readonly isSnapshot: boolean;
}

/** The states of several keys at one revision of the store. */
export interface States {
  /** The revision. */
  readonly revision: number;
  /** The states. */
  readonly states: readonly State[];
}

/** How much of its limits a store uses. */
export interface Usage {
  /** How many times the store has changed. */
  readonly revision: number;
  /** Keys that are set. */
  readonly keys: number;
  /** The most there may be. */
  readonly maxKeys: number;
  /** Bytes of keys and values together. */
  readonly bytes: number;
  /** The most there may be. */
  readonly maxBytes: number;
  /** The most bytes of one value. */
  readonly maxValueBytes: number;
}

/** A peer as it was when it was told of. */
export interface Peer {
  /** Its id, unique in the room. */
  readonly id: string;
  /** The user id from its token; empty if it has none. */
  readonly userId: string;
  /** Its name; empty if it gave none. */
  readonly name: string;
  /** Its role. */
  readonly role: string;
  /** Its metadata: any text. */
  readonly metadata: string;
  /** When it joined: server time in milliseconds since 1970. */
  readonly joinedAt: number;
}

const encoder = new TextEncoder();
/** Of a text, in UTF-8. */
export const byteLength = (text: string): number => encoder.encode(text).length;

/** Checks a text that the server would refuse, and with it perhaps the whole connection. */
export function check(error: ErrorName, text: string = "", least: number, most: number, forbidden = /[\p{Cc}\p{Cs}]/u): string {
  const length = byteLength(text);
  if (typeof text !== "string" || length < least || length > most || forbidden.test(text)) {
    throw fault(error, `it is text of ${least} to ${most} bytes, no control characters`);
  }
  return text;
}

/** The checked name of a key. */
export const keyName = (key: KeyOf<any>): string => check("INVALID_KEY", typeof key === "string" ? key : key.name, 1, 256);

/** A selector with checked names, each once. */
export function checkedSelector({ keys = [], prefixes = [] }: Selector): { keys: string[]; prefixes: string[] } {
  if (!keys.length && !prefixes.length) throw fault("INVALID_ARGUMENT", "no key is named");
  return { keys: [...new Set(keys.map(keyName))], prefixes: prefixes.map((prefix) => check("INVALID_KEY", prefix, 0, 256)) };
}

export const makeState = (fields: Partial<State> & { key: string }): State =>
  Object.freeze({
    value: null,
    json: "null",
    version: 0,
    updatedAt: 0,
    cause: "written",
    expiresAt: undefined,
    author: undefined,
    replaced: 0,
    isSnapshot: false,
    ...fields,
  } satisfies State);

// ------------------------------------------------------------------ what arrives

/** A message whose values are still texts. Every member may be missing, or anything else: what reads them says so. */
export const parseMessage = (text: string): any => parse(text, true);

/** Reads what may still be a text. */
const unwrap = (value: any, read: (json: string) => unknown): any => (typeof value === "function" ? read(value()) : value);

/** A text, a version: what is something else, or missing, makes a message one that this version cannot read. */
export const must = <T extends string | number>(value: T, like: T): T => {
  if (typeof value !== typeof like) throw new TypeError();
  return value;
};

export const readState = ({ key, data, changeVersion, updatedBy, author, updatedAt = 0, expiresAt, reason, replaced = 0 }: any): State => {
  const json = unwrap(data, String);
  return makeState({
    key: must(key, ""),
    value: parse(must(json, "")),
    json,
    version: must(changeVersion, 0),
    updatedAt,
    cause: reason === "expired" ? reason : reason === "peer-left" ? "peer_left" : "written",
    expiresAt,
    // An operator has no peer, and an empty id is no reason to be nobody.
    author: updatedBy == null ? undefined : { peerId: updatedBy, userId: "", name: "", ...author },
    replaced,
  });
};

export const readPeer = ({ peerId, info, role = "", joinedAt = 0 }: any): Peer => ({
  id: must(peerId, ""),
  userId: info?.userId ?? "",
  name: info?.name ?? "",
  role,
  metadata: String(unwrap(info?.data, parse) ?? ""),
  joinedAt,
});

/** The peers of a `peer-list`, one of which may have the id `data`. */
export const readPeers = ({ peers }: any): Peer[] => Object.values(peers).map((peer) => readPeer(unwrap(peer, parseMessage)));

export const readError = ({ code, message, data, retryAfterMs }: any): SessionStoreError => {
  const details = { retryAfterMs, ...unwrap(data, parseMessage) };
  if (details.current) details.current = readState(details.current);
  return new SessionStoreError(names[+code] ?? "UNKNOWN", must(message, ""), details);
};
