import { type ClientListener, type ClientOptions, type ConnectionState, type Core, makeCore, onAbort, type RequestOptions, type Subscription } from "./core.js";
import { type SessionStoreError, fault } from "./errors.js";
import { Store } from "./store.js";
import type { Peer } from "./values.js";

/**
 * A client: one peer in one room. It joins in the background and reconnects by itself.
 *
 * ```ts
 * const client = new Client({ url: "ws://127.0.0.1:7350", room: "lobby", name: "Ana" });
 * const store = await client.join();
 * await store.set("spotlight", client.peerId);
 * await client.leave();
 * ```
 */
export class Client {
  /** The store of the room. It may be used at once: until the room is joined, requests wait. */
  declare readonly store: Store;
  readonly #core: Core;

  /**
   * Opens a client and returns at once.
   *
   * @throws {@link SessionStoreError} `INVALID_URL`, `INVALID_ROOM`, `INVALID_PEER`, `INVALID_ARGUMENT`. That the server
   *   cannot be reached is no error here: {@link join} and listeners tell it
   */
  constructor(options: ClientOptions) {
    this.#core = makeCore(options);
    this.store = new Store(this.#core);
  }

  /** This peer's id. */
  get peerId(): string {
    return this.#core._peerId;
  }

  /** Where the client stands. */
  get state(): ConnectionState {
    return this.#core._state;
  }

  /** Why the client is not connected; undefined while it is, and when the app has closed it. */
  get error(): SessionStoreError | undefined {
    return this.#core._error;
  }

  /** The id of the session; undefined before the first join. */
  get sessionId(): string | undefined {
    return this.#core._replica._sessionId;
  }

  /**
   * Waits until the room is joined.
   *
   * @returns the store of the room
   * @throws {@link SessionStoreError} `CLOSED`, or the reason for which the client closed, such as `UNAUTHORIZED`
   */
  async join({ signal }: RequestOptions = {}): Promise<Store> {
    const { _state, _error, _joining } = this.#core;
    if (_state === "closed") throw _error ?? fault("CLOSED");
    return new Promise((resolve, reject) => {
      const forget = onAbort(signal, reject);
      void _joining.then(() => resolve(this.store), reject).then(forget);
    });
  }

  /** Everybody in the room as this client knows it, itself included, in the order of their ids. The same array until it changes. */
  peers(): readonly Peer[] {
    return this.#core._peers();
  }

  /**
   * Tells a listener of the connection, of other peers, of errors that no request is waiting for, and of a token that
   * expires.
   *
   * @throws {@link SessionStoreError} `CLOSED`
   */
  listen(listener: ClientListener): Subscription {
    return this.#core._observe(listener);
  }

  /** Changes this peer's name, its metadata, or both; what is left out stays. The client also comes back with them. */
  updatePeer(change: { name?: string; metadata?: string } & RequestOptions): Promise<void> {
    return this.#core._updatePeer(change);
  }

  /**
   * Hands in a fresh token before the old one expires, without a break: for the same room and user, maybe with another
   * role, which counts from then on. From now on the client connects with it, at once also while it has no connection:
   * so one whose token has expired meanwhile comes back, whatever becomes of this call.
   *
   * @throws {@link SessionStoreError} `UNAUTHORIZED`, `TOKEN_EXPIRED`, after which the old token counts; `INVALID_ARGUMENT`
   *   when the server is open
   */
  renewToken(token: string, options?: RequestOptions): Promise<void> {
    return this.#core._renewToken(token, options);
  }

  /**
   * Leaves the room and waits until the server knows: everybody is told at once, instead of after the grace period, and
   * the client closes. Without a connection, or when it breaks, the client closes all the same, and the others are told
   * after the grace period.
   */
  leave(options?: RequestOptions): Promise<void> {
    return this.#core._leave(options);
  }

  /**
   * Closes the client at once, and leaves the room in the background: what waits ends with `CLOSED`, then every listener is
   * dropped. May be called anywhere, and again.
   */
  close(): void {
    this.#core._close();
  }
}
