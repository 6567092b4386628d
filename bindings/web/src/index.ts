/**
 * A shared realtime key-value store for everyone in a room: the client for browsers and Node.
 *
 * @packageDocumentation
 */
export { Client } from "./client.js";
export type {
  ClientListener,
  ClientOptions,
  ConnectionState,
  KeyChangeListener,
  PeerChange,
  RequestOptions,
  Subscription,
  WebSocketLike,
} from "./core.js";
export { ErrorCode, SessionStoreError, type ErrorName } from "./errors.js";
export { JsonText, stringify } from "./json.js";
export type { Lock } from "./lock.js";
export type { Check, LockOptions, LockToken, Store, Transaction, Write, WriteOptions } from "./store.js";
export { key } from "./values.js";
export type { Author, Cause, Key, KeyOf, Peer, Selector, State, States, Usage } from "./values.js";
