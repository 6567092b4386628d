import { type Core, Kind, type RequestOptions, type Tied, LONGEST_TIMER_MS } from "./core.js";
import { type SessionStoreError, fault } from "./errors.js";

/** A lock is renewed when a third of its time has passed, so that two renewals may fail. */
const RENEWALS_PER_LEASE = 3;

/** How often within its time a renewal that failed is tried again, at most. */
const RETRIES_PER_LEASE = 30;

/**
 * A lock that this client holds, or held. While it is connected it renews the lock by itself.
 *
 * What must not be written by one who has lost the lock without knowing yet is written with the lock:
 * `store.set("slide", 1, { lock })` is refused with `LOCK_LOST` then.
 */
export class Lock implements Tied {
  /** The lock's name. */
  readonly name: string;
  /** The fencing token of this grant: larger than that of every grant before it in the session. */
  readonly token: number;
  readonly #core: Core;
  readonly #ttlMs: number;
  readonly #lost = new AbortController();
  #held = true;
  /** By when the server surely still holds it for us. */
  #endsAt: number;
  #renewAt: number;
  #renewing = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @internal */
  constructor(core: Core, name: string, token: number, ttlMs: number, askedAt: number, waited: boolean) {
    this.#core = core;
    this.name = name;
    this.token = token;
    this.#ttlMs = ttlMs;
    // When the grant was made is not known if it was waited for; the renewal that follows at once tells.
    this.#endsAt = (waited ? Date.now() : askedAt) + ttlMs;
    this.#renewAt = waited ? Date.now() : askedAt + ttlMs / RENEWALS_PER_LEASE;
    core._tied.add(this);
    this._connected();
  }

  /**
   * Aborted when the lock is lost, with the reason: `LOCK_LOST` when it could not be renewed in time, `SESSION_LOST`,
   * `CLOSED`. Not when it is released.
   *
   * ```ts
   * lock.signal.addEventListener("abort", () => stopPresenting());
   * ```
   */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  /** Whether the lock is held as far as this client knows: it was neither released nor lost. */
  get isHeld(): boolean {
    return this.#held && Date.now() < this.#endsAt;
  }

  /**
   * Gives the lock up: the next who waits gets it. From now on it is not held any more.
   *
   * @throws {@link SessionStoreError} `LOCK_LOST` if it was lost before
   */
  release(options?: RequestOptions): Promise<void> {
    this.#end();
    return this.#core._request("lock-release", { name: this.name, token: this.token }, Kind.Guarded, () => {}, options);
  }

  #end(): boolean {
    clearTimeout(this.#timer);
    this.#core._tied.delete(this);
    const held = this.#held;
    this.#held = false;
    return held;
  }

  /** @internal Sees to what is due, and comes back when the next thing is. */
  _connected(): void {
    clearTimeout(this.#timer);
    if (!this.#held) return;
    const now = Date.now();
    if (this.#endsAt <= now) return this._lost(fault("LOCK_LOST"));
    const renews = this.#core._state === "connected" && !this.#renewing;
    if (renews && this.#renewAt <= now) {
      void this.#renew(now);
      return this._connected();
    }
    const next = renews ? Math.min(this.#endsAt, this.#renewAt) : this.#endsAt;
    this.#timer = setTimeout(() => this._connected(), Math.min(next - now, LONGEST_TIMER_MS));
  }

  async #renew(askedAt: number): Promise<void> {
    this.#renewing = true;
    const ttlMs = this.#ttlMs;
    const params = { name: this.name, token: this.token, ttl_ms: ttlMs };
    try {
      await this.#core._request("lock-renew", params, Kind.OfConnection, () => {}, { timeoutMs: ttlMs / RENEWALS_PER_LEASE });
      this.#endsAt = askedAt + ttlMs;
      this.#renewAt = askedAt + ttlMs / RENEWALS_PER_LEASE;
    } catch (error) {
      if (!(error as SessionStoreError).retryable) return this._lost(error as SessionStoreError);
      // Whether it was renewed is not known: it is asked again, in a moment.
      this.#renewAt = Date.now() + ttlMs / RETRIES_PER_LEASE;
    }
    this.#renewing = false;
    this._connected();
  }

  /** @internal */
  _lost(error: SessionStoreError): void {
    if (this.#end()) this.#core._push(() => this.#lost.abort(error));
  }
}
