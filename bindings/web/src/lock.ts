import { type Core, Kind, type RequestOptions } from "./core.js";
import { type SessionStoreError, fault } from "./errors.js";

/** A lock is renewed when a third of its time has passed, so that two renewals may fail. */
const RENEWALS_PER_LEASE = 3;

/** Its end comes this part of its time early here, so that who loses it hears of that before another has it. */
const MARGIN = 0.02;

/** How often within its time a renewal that failed is tried again, at most. */
const RETRIES_PER_LEASE = 30;

/**
 * A lock that this client holds, or held. While it is connected it renews the lock by itself.
 *
 * What must not be written by one who has lost the lock without knowing yet is written with the lock:
 * `store.set("slide", 1, { lock })` is refused with `LOCK_LOST` then.
 */
export class Lock {
  /** The lock's name. */
  declare readonly name: string;
  /** The fencing token of this grant: larger than that of every grant before it in the session. */
  declare readonly token: number;
  /**
   * Aborted when the lock is lost, with the reason: `LOCK_LOST` when it could not be renewed in time, or an operator
   * took it away, `FORBIDDEN` when the rules do not allow it any more, `SESSION_LOST`, `CLOSED`. Not when it is released.
   *
   * ```ts
   * lock.signal.addEventListener("abort", () => stopPresenting());
   * ```
   */
  declare readonly signal: AbortSignal;
  readonly #core: Core;
  /** @internal */
  declare readonly _lose: (error: SessionStoreError) => void;
  /** By when the server surely still holds it for us; 0 once it is released or lost. */
  #endsAt: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @internal */
  constructor(core: Core, name: string, token: number, ttlMs: number, askedAt: number) {
    this.#core = core;
    this.name = name;
    this.token = token;
    const lost = new AbortController();
    this.signal = lost.signal;
    this._lose = (error) => {
      if (this.#end()) core._push(() => lost.abort(error));
    };
    core._locks.add(this);
    // When the grant was made is not known (0) if it was waited for; the renewal that follows at once tells.
    this.#endsAt = (askedAt || Date.now()) + ttlMs * (1 - MARGIN);
    this.#renewAfter(askedAt && ttlMs / RENEWALS_PER_LEASE, ttlMs);
  }

  /** Whether the lock is held as far as this client knows: it was neither released nor lost. */
  get isHeld(): boolean {
    return Date.now() < this.#endsAt;
  }

  /**
   * Gives the lock up: the next who waits gets it. From now on it is not held any more. Rejects with `LOCK_LOST` if it was
   * lost before.
   */
  release(options?: RequestOptions): Promise<void> {
    this.#end();
    return this.#core._release(this, options);
  }

  #end(): number {
    clearTimeout(this.#timer);
    this.#core._locks.delete(this);
    const endsAt = this.#endsAt;
    this.#endsAt = 0;
    return endsAt;
  }

  #renewAfter(waitMs: number, ttlMs: number): void {
    this.#timer = setTimeout(async () => {
      const askedAt = Date.now();
      const leftMs = this.#endsAt - askedAt;
      try {
        if (leftMs <= 0) throw fault("LOCK_LOST");
        // Without a connection it waits for one.
        const timeoutMs = Math.min(leftMs, ttlMs / RENEWALS_PER_LEASE);
        await this.#core._request("lock-renew", { name: this.name, token: this.token, ttl_ms: ttlMs }, Kind.OfConnection, () => {}, { timeoutMs });
        if (!this.#endsAt) return;
        this.#endsAt = askedAt + ttlMs * (1 - MARGIN);
        this.#renewAfter(askedAt + ttlMs / RENEWALS_PER_LEASE - Date.now(), ttlMs);
      } catch (error) {
        if (!(error as SessionStoreError).retryable) this._lose(error as SessionStoreError);
        // Whether it was renewed is not known: it is asked again, in a moment.
        else if (this.#endsAt) this.#renewAfter(Math.min(ttlMs / RETRIES_PER_LEASE, this.#endsAt - Date.now()), ttlMs);
      }
    }, waitMs);
  }
}
