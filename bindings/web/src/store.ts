import { type Core, Kind, type KeyChangeListener, type RequestOptions, type Subscription } from "./core.js";
import { type SessionStoreError, fault } from "./errors.js";
import { iterate } from "./iterate.js";
import { JsonText, stringify } from "./json.js";
import { Lock } from "./lock.js";
import {
  type KeyOf,
  type Selector,
  type State,
  type States,
  type Usage,
  checkedSelector,
  keyName,
  must,
} from "./values.js";

/** How a key is written. */
export interface WriteOptions extends RequestOptions {
  /** The key must have this version now, or be absent for 0; `VERSION_CONFLICT` otherwise. */
  ifVersion?: number | undefined;
  /**
   * How long the key lives from now on, in milliseconds (at most a year), `"keep"` or `"never"`. Without it a set lets the
   * key live for ever, and every other write leaves its time as it is.
   */
  ttlMs?: number | "keep" | "never" | undefined;
  /**
   * Whether the key goes when this peer does. Without it a set binds the key to nobody, and every other write leaves that
   * as it is.
   */
  bind?: boolean | undefined;
  /** Writes only while this lock is held; `LOCK_LOST` otherwise. */
  lock?: LockToken | undefined;
}

/** A lock as a write names it: a {@link Lock}, or its name and token. */
export interface LockToken {
  /** The lock's name. */
  readonly name: string;
  /** The fencing token. */
  readonly token: number;
}

/** What is done to a key, on the server. */
export interface Write {
  /** The key. */
  key: KeyOf<any>;
  /** What is done; `"set"` if it is not said. */
  operation?: "set" | "add" | "patch" | "set-add" | "set-remove" | "append" | "touch";
  /** What with. Not for `"touch"`. */
  value?: unknown;
  /** For `"append"`: how many values are left at most. */
  cap?: number | undefined;
}

/** What must hold for a transaction to be made. `equals: null` means that the key is absent. */
export type Check =
  | { key: KeyOf<any>; version: number }
  | { key: KeyOf<any>; exists: boolean }
  | { key: KeyOf<any>; equals: unknown }
  | { lock: LockToken };

/** Checks and writes that are made together or not at all, at most 200. */
export interface Transaction {
  /** What must hold before. */
  checks?: readonly Check[];
  /** What is done then, in this order. */
  writes?: readonly (Write & Pick<WriteOptions, "ifVersion" | "ttlMs" | "bind">)[];
}

/** How a lock is taken. */
export interface LockOptions extends RequestOptions {
  /** How long the lock outlives its last renewal, in milliseconds, 1,000 to 300,000. Default 15,000. */
  ttlMs?: number;
  /** How long to wait for it behind those who came before, in milliseconds, at most 300,000. Default 0: `LOCK_HELD` at once. */
  waitMs?: number;
}

/** The longest pause between two attempts of an update, in milliseconds: some round trips. */
const LONGEST_PAUSE_MS = 128;

/** A value as it goes over the wire. */
const encode = (value: unknown) => new JsonText(stringify(value));

const guard = (lock: LockToken | undefined) => lock && { name: lock.name, token: lock.token };

const wireWrite = ({ key, operation = "set", value, cap, ifVersion, ttlMs, bind, lock }: Write & WriteOptions) => ({
  key: keyName(key),
  op: operation,
  data: operation === "touch" ? undefined : encode(value),
  cap,
  if_change_version: ifVersion,
  ttl_ms: ttlMs,
  bind,
  lock: guard(lock),
});

const wireCheck = ({ key, version, exists, equals, lock }: any) => ({
  key: key && keyName(key),
  change_version: version,
  exists: equals === null ? false : exists,
  // Nothing equals what is absent but an absent key.
  equals: equals == null ? undefined : encode(equals),
  lock: guard(lock),
});

/**
 * The store of the room a client is in. Without a connection requests wait for it; once the client is closed they are
 * refused with `CLOSED`.
 *
 * Who reads a value, changes it and sets all of it undoes what somebody else did meanwhile. Instead: one key each
 * (`hand/<peer id>`, listened to by its prefix); {@link add}, {@link patch}, {@link setAdd}, {@link setRemove} and
 * {@link append}, which change a value on the server; {@link update}, which computes a value anew until nobody was faster;
 * {@link transact} for several keys; {@link withLock} to do something one at a time.
 *
 * Whatever waits can be given up with `{ signal }`. All of it rejects with {@link SessionStoreError}: what writes also
 * with `INVALID_KEY`, `INVALID_JSON`, `VALUE_TOO_LARGE`, `TOO_MANY_KEYS`, `STORE_FULL`, `FORBIDDEN`, `RESERVED_KEY`,
 * `RATE_LIMITED` and `SESSION_LOST`, which change nothing, and with `OUTCOME_UNKNOWN`.
 */
export class Store {
  readonly #core: Core;

  /** @internal */
  constructor(core: Core) {
    this.#core = core;
  }

  // ---------------------------------------------------------------- reading

  /** Asks the server for a key's current state; an absent key has the value `null`. */
  async get<T = any>(key: KeyOf<T>, options?: RequestOptions): Promise<State<T>> {
    return this.#core._request("get-metadata", { key: keyName(key) }, Kind.Read, this.#core._readState, options);
  }

  /**
   * What this client knows of a key that somebody listens to, without asking the server; undefined when no listener has
   * the key, or its first value is still under way. The same object until the key changes.
   */
  cached<T = any>(key: KeyOf<T>): State<T> | undefined {
    return this.#core._replica._cached(keyName(key));
  }

  /**
   * Asks the server for the states of several keys at one revision: the single keys of the selector in their order, absent
   * ones with the value `null`, then those its prefixes mean in alphabetical order.
   */
  async read(selector: Selector, options?: RequestOptions): Promise<States> {
    return this.#core._request("read-metadata", checkedSelector(selector), Kind.Read, this.#core._readStates, options);
  }

  /** Asks the server for the names of the keys that are set and begin with a text, in alphabetical order. */
  async keys(prefix = "", options?: RequestOptions): Promise<string[]> {
    return this.#core._request("key-list", { prefix }, Kind.Read, ({ keys }) => keys, options);
  }

  /** Asks the server how much of its limits the store uses. */
  async usage(options?: RequestOptions): Promise<Usage> {
    return this.#core._request("usage", {}, Kind.Read, (usage) => usage, options);
  }

  // ---------------------------------------------------------------- listening

  /**
   * Listens to keys: the listener first gets the current values (`null` when absent), then the end of the snapshot, then
   * each change once and in order, this peer's own included. Listeners are never called inside a call of the app.
   *
   * ```ts
   * const subscription = store.listen({ keys: ["pinned"], prefixes: ["hand/"] }, (state) => show(state.key, state.value));
   * subscription.cancel();
   * ```
   *
   * @param what a key, or a selector
   * @param listener a function that is told of states, or an object with more
   * @returns the registration; the listener stays for as long as the client does if nobody cancels it
   * @throws {@link SessionStoreError} `INVALID_KEY`; `INVALID_ARGUMENT` without keys; `CLOSED`. When the server refuses,
   *   `onRefused` hears of it
   */
  listen<T = any>(what: KeyOf<T> | Selector, listener: KeyChangeListener | ((state: State<T>) => void)): Subscription {
    const selector = typeof what === "string" || "name" in what ? { keys: [what] } : what;
    return this.#core._listen(selector, typeof listener === "function" ? { onKeyChanged: listener } : listener);
  }

  /**
   * The same for `for await`: the states of keys, first the current ones, then each change. Each loop is a listener of its
   * own, which ends with it. A slow loop holds nobody up: older states of a key that still wait give way to newer ones, and
   * `state.replaced` tells how many did. The newest is never missed.
   *
   * It ends when the client is closed or has left, and throws what the client ended with otherwise, such as `REPLACED`,
   * and what the server refuses to listen with, such as `FORBIDDEN`. To end it from elsewhere use `{ signal }`: `return()`
   * waits until a `next()` that was called before it has been answered.
   *
   * ```ts
   * for await (const state of store.states({ prefixes: ["hand/"] })) show(state.key, state.value);
   * ```
   */
  states<T = any>(what: KeyOf<T> | Selector, { signal }: RequestOptions = {}): AsyncGenerator<State<T>, void, void> {
    return iterate(
      (listener) => this.listen(what, listener),
      () => this.#core._error,
      signal,
    );
  }

  /**
   * The value of a key: first the current one, then each that follows; null when it is absent. See {@link states}.
   *
   * ```ts
   * for await (const text of store.watch(pinned, { signal })) show(text);
   * ```
   */
  async *watch<T = any>(key: KeyOf<T>, options?: RequestOptions): AsyncGenerator<T | null, void, void> {
    for await (const state of this.states(key, options)) yield state.value;
  }

  // ---------------------------------------------------------------- writing

  /**
   * Sets a key; `null` removes it. A `bigint` is written as an integer.
   *
   * @returns the key's new state, which this client's listeners were told before
   */
  async set<T = any>(key: KeyOf<T>, value: NoInfer<T> | null | JsonText, options?: WriteOptions): Promise<State<T>> {
    return this.write({ ...options, key, value });
  }

  /**
   * Sets a key only if it has this version now, 0 meaning that it is absent. Otherwise it rejects with `VERSION_CONFLICT`,
   * whose `current` has what the key holds. {@link update} does this until it lands.
   */
  async setIfVersion<T = any>(key: KeyOf<T>, value: NoInfer<T> | null | JsonText, version: number, options?: WriteOptions): Promise<State<T>> {
    return this.write({ ...options, key, value, ifVersion: version });
  }

  /** Removes a key; that it was absent already is fine. */
  async remove(key: KeyOf<any>, options?: WriteOptions): Promise<State> {
    return this.write({ ...options, key, value: null });
  }

  /**
   * Adds to a key's number, integers exactly over the range of 64 bits; an absent key counts as 0. However many peers add
   * at once, none of it is lost. Rejects with `WRONG_TYPE` when the key holds something else, and `NUMBER_OVERFLOW`.
   */
  async add(key: KeyOf<any>, amount: number | bigint = 1, options?: WriteOptions): Promise<State> {
    return this.write({ ...options, key, operation: "add", value: amount });
  }

  /** Merges into a key's value: a JSON merge patch (RFC 7396), in which null removes a member. */
  async patch(key: KeyOf<any>, patch: unknown, options?: WriteOptions): Promise<State> {
    return this.write({ ...options, key, operation: "patch", value: patch });
  }

  /** Appends the values to a key's list that it does not have yet; an absent key counts as `[]`. */
  async setAdd(key: KeyOf<any>, values: readonly unknown[], options?: WriteOptions): Promise<State> {
    return this.write({ ...options, key, operation: "set-add", value: values });
  }

  /** Removes values from a key's list. */
  async setRemove(key: KeyOf<any>, values: readonly unknown[], options?: WriteOptions): Promise<State> {
    return this.write({ ...options, key, operation: "set-remove", value: values });
  }

  /** Appends values to a key's list; with a `cap`, the first are dropped until so many are left. */
  async append(key: KeyOf<any>, values: readonly unknown[], options?: WriteOptions & { cap?: number }): Promise<State> {
    return this.write({ ...options, key, operation: "append", value: values });
  }

  /** Gives a key another time to live and leaves its value; `KEY_ABSENT` if there is none. */
  async touch(key: KeyOf<any>, ttlMs: number | "keep" | "never", options?: WriteOptions): Promise<State> {
    return this.write({ ...options, key, operation: "touch", ttlMs });
  }

  /** Does something to a key, on the server; the functions above say it shorter. */
  async write<T = any>(write: Write & WriteOptions): Promise<State<T>> {
    const { operation = "set", ifVersion, lock } = write;
    const method = /^(set|touch)$/.test(operation) ? operation : "merge";
    const kind = ifVersion || lock ? Kind.Guarded : Kind.Change;
    return this.#core._request(`${method}-metadata`, wireWrite(write), kind, this.#core._readState, write);
  }

  /**
   * Reads a key, has its new value computed, and sets it if nobody changed it meanwhile; otherwise again, with what it
   * holds by then. That is also done when the session has become another meanwhile, as versions say nothing there. No further
   * attempt is made after `requestTimeoutMs`: then it rejects with `VERSION_CONFLICT` or `SESSION_LOST`, and nothing was changed.
   *
   * ```ts
   * await store.update(key<number>("stakes"), (stakes) => (stakes ?? 1) * 2);
   * ```
   *
   * @param compute is given the value, null when the key is absent, and returns the one it is to have: null to remove the
   *   key, undefined to leave it as it is. Called again whenever somebody else was faster, so it should do nothing but
   *   compute. The value it is given cannot be changed. What it throws, this throws
   */
  async update<T = any>(
    key: KeyOf<T>,
    compute: (value: T | null, state: State<T>) => T | null | undefined | Promise<T | null | undefined>,
    options: WriteOptions = {},
  ): Promise<State<T>> {
    const endsAt = Date.now() + this.#core._requestTimeoutMs;
    for (let made = 1; ; made++) {
      const state = await this.get(key, options);
      const session = this.#core._replica._sessionId;
      const value = await compute(state.value, state);
      options.signal?.throwIfAborted();
      if (value === undefined) return state;
      try {
        // In another session its version is that of something else.
        if (session !== this.#core._replica._sessionId) throw fault("SESSION_LOST");
        return await this.setIfVersion<any>(key, value, state.value === null ? 0 : state.version, options);
      } catch (error) {
        // Longer each time, so that those who conflict with each other come apart.
        const pauseMs = Math.random() * Math.min(LONGEST_PAUSE_MS, 2 ** made);
        if (!/VERSION_CONFLICT|SESSION_LOST/.test((error as SessionStoreError)?.name) || Date.now() + pauseMs >= endsAt) throw error;
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    }
  }

  /**
   * Checks and writes several keys in one revision, or changes nothing.
   *
   * ```ts
   * await store.transact({
   *   checks: [{ key: "board/4", exists: false }, { key: "turn", equals: "x" }],
   *   writes: [{ key: "board/4", value: "x" }, { key: "turn", value: "o" }, { key: "moves", operation: "add", value: 1 }],
   * });
   * ```
   *
   * @returns the state of each key that is written, in the order of their first writes
   * @throws {@link SessionStoreError} `CHECK_FAILED` or `LOCK_LOST`, whose `check` says which and `current` what the key
   *   holds; what a write is refused with, whose `write` says which
   */
  async transact({ checks = [], writes = [] }: Transaction, options?: RequestOptions): Promise<States> {
    const params = { checks: checks.map(wireCheck), writes: writes.map(wireWrite) };
    const isGuarded = checks.some((one: any) => one.lock || one.version) || writes.some((write) => write.ifVersion);
    return this.#core._request("transact", params, isGuarded ? Kind.Guarded : Kind.Change, this.#core._readStates, options);
  }

  // ---------------------------------------------------------------- locks

  /**
   * Takes a lock of the room, which is this client's until it is released or lost. Who holds it is shown to everybody by
   * the key `$lock/` and its name.
   *
   * @param name 1 to 200 bytes
   * @throws {@link SessionStoreError} `LOCK_HELD`, whose `current` shows by whom, after as much waiting as was asked for;
   *   `INVALID_LOCK`, `INVALID_ARGUMENT`, `TOO_MANY_LOCKS`, `FORBIDDEN`; `TIMEOUT` and `SESSION_LOST`, after which the lock is
   *   given back, or ends with its time
   */
  async lock(name: string, { ttlMs = 15_000, waitMs = 0, signal }: LockOptions = {}): Promise<Lock> {
    const core = this.#core;
    const read = (result: any, sentAt: number) => new Lock(core, name, must(result.token, 0), ttlMs, waitMs > 0 ? 0 : sentAt);
    const params = { name, ttl_ms: ttlMs, wait_ms: waitMs };
    return core._request("lock-acquire", params, Kind.Acquire, read, { signal, timeoutMs: core._requestTimeoutMs + waitMs });
  }

  /**
   * Does something while holding a lock, and releases it.
   *
   * ```ts
   * await store.withLock("presenter", (lock) => store.set("slide", 1, { lock }), { waitMs: 60_000 });
   * ```
   *
   * @param act what to do; `lock.signal` is aborted if the lock is lost meanwhile
   */
  async withLock<T>(name: string, act: (lock: Lock) => T | Promise<T>, options?: LockOptions): Promise<T> {
    const lock = await this.lock(name, options);
    try {
      return await act(lock);
    } finally {
      // One that was lost is somebody else's already.
      if (lock.isHeld) await lock.release().catch(() => {});
    }
  }
}
