import type { SessionStoreError } from "./errors.js";
import { stringify } from "./json.js";
import { type State, makeState } from "./values.js";

/** A listener as the replica knows it. */
export interface Listening {
  readonly _keys: readonly string[];
  readonly _prefixes: readonly string[];
  /** The generation of the listen set that first had all of it. */
  _since?: number;
  /** Whether it has been given its snapshot. */
  _live?: boolean;
  /** Tells it a state, or without one that its snapshot is complete. */
  _tell(state?: State): void;
  /** Ends it, with an error if the server does not let it listen. */
  _end(error?: SessionStoreError): void;
}

interface Tracked {
  /** The generation of the listen set that first had it. */
  readonly _since: number;
  /** What the key holds; undefined until the server has said so. */
  _state?: State;
  /** The session the state is from: versions of different sessions do not compare. */
  _session: number;
}

interface Covered {
  readonly _since: number;
  /** Whether a snapshot has said which keys there are. */
  _answered: boolean;
}

/** Whether a prefix means a key. Those that show locks are meant only by one that begins with `$`. */
const beginsWith = (key: string, prefix: string) => key.startsWith(prefix) && (prefix[0] === "$" || !key.startsWith("$lock/"));

const isNull = (state: State) => state.json === "null";

/**
 * A client's copy of the keys it listens to. Many listeners become one listen set on the wire; what comes back is compared
 * with what is known, and only real differences are told. It knows no network and no clock.
 */
export class Replica {
  /** Counts the changes of the listen set, to tell which of them a snapshot answers. */
  _generation = 0;
  /** The keys and the prefixes to listen to. */
  _listenSet: { keys: string[]; prefixes: string[] } = { keys: [], prefixes: [] };
  declare _sessionId: string | undefined;
  readonly _listeners = new Set<Listening>();
  private _named = new Set<string>();
  private readonly _tracked = new Map<string, Tracked>();
  private readonly _covered = new Map<string, Covered>();
  private _session = 0;
  /** The revision at the last join, which all that is told from then on includes. */
  private _joinedAt = 0;
  /** The newest revision that was told. */
  private _told = 0;
  /** The generation of the listen set that the last snapshot was of. */
  declare private _whole: number | undefined;

  private _meaning(key: string): Listening[] {
    const means = ({ _keys, _prefixes }: Listening) => _keys.includes(key) || _prefixes.some((prefix) => beginsWith(key, prefix));
    return [...this._listeners].filter(means);
  }

  /** Adds a listener. Keys that are known already are answered from here. */
  _add(one: Listening): void {
    this._listeners.add(one);
    this._sync();
    one._since = this._generation;
    this._complete(one);
  }

  /** Removes a listener. */
  _remove(one: Listening): void {
    if (this._listeners.delete(one)) this._sync();
  }

  /** Finds out what the listeners listen to now. */
  private _sync(): void {
    const all = [...this._listeners];
    const since = this._generation + 1;
    const prefixes = new Set(all.flatMap((one) => one._prefixes));
    this._named = new Set(all.flatMap((one) => one._keys));
    for (const key of this._named) if (!this._tracked.has(key)) this._track(key, since);
    for (const prefix of prefixes) if (!this._covered.has(prefix)) this._covered.set(prefix, { _since: since, _answered: false });
    for (const prefix of this._covered.keys()) if (!prefixes.has(prefix)) this._covered.delete(prefix);
    this._forget();
    // In a fixed order: who listens to the same asks in the same words.
    const set = { keys: [...this._named].sort(), prefixes: [...prefixes].sort() };
    if (stringify(set) !== stringify(this._listenSet)) this._generation = since;
    this._listenSet = set;
  }

  /** Begins to track a key that the listen set has, or that a prefix has found. */
  private _track(key: string, since: number): Tracked {
    const tracked = { _since: since, _session: this._session };
    this._tracked.set(key, tracked);
    return tracked;
  }

  /** Forgets what nobody asks for any more: no listener is left, or those that are listen to a prefix of a key that is not there. */
  private _forget(): void {
    for (const [key, { _state }] of this._tracked) {
      if (!this._named.has(key) && (!this._meaning(key).length || (_state && isNull(_state)))) this._tracked.delete(key);
    }
  }

  /**
   * A session was joined at a revision of its store, or come back to as the same peer or another. Returns whether it is
   * another session than before, in which case versions start anew and only values are compared.
   */
  _joined(sessionId: string, revision: number, samePeer: boolean): boolean {
    this._joinedAt = revision;
    const before = this._sessionId;
    if (before === sessionId && samePeer) return false;
    this._whole = undefined;
    if (before === sessionId) return false;
    this._sessionId = sessionId;
    this._session++;
    this._told = 0;
    return before !== undefined;
  }

  /** The revision up to which all is known about the listen set as it is now; undefined if the last snapshot was of another. */
  _knownUpTo(): number | undefined {
    return this._whole === this._generation ? this._told : undefined;
  }

  /** The server's answer to the listen set of a generation. */
  _snapshot(generation: number, states: readonly State[]): void {
    for (const covered of this._covered.values()) covered._answered ||= covered._since <= generation;
    // It is later than all that was told before, and than the join.
    this._told = Math.max(this._told, this._joinedAt);
    const found = new Set<string>();
    for (const state of states) {
      const { key } = state;
      this._told = Math.max(this._told, state.version);
      if (!this._tracked.has(key) && this._isCovered(key, generation)) this._track(key, generation);
      found.add(key);
      this._answered(state, generation);
    }
    // What is not in the snapshot though a prefix means it is gone.
    for (const key of [...this._tracked.keys()].sort()) {
      if (!found.has(key) && !this._named.has(key) && this._isCovered(key, generation)) this._answered(makeState({ key }), generation);
    }
    this._forget();
    this._whole = generation;
    this._listeners.forEach((one) => this._complete(one));
  }

  /** Whether a prefix means a key that a snapshot has answered: one of this generation, if it is given. */
  private _isCovered(key: string, generation = Infinity): boolean {
    return [...this._covered].some(([prefix, covered]) => covered._answered && covered._since <= generation && beginsWith(key, prefix));
  }

  /** What a snapshot says of one key. */
  private _answered(state: State, generation: number): void {
    const { key, version } = state;
    const tracked = this._tracked.get(key);
    // What an answered prefix means is known, even if it was named only after this was asked.
    if (!tracked || (tracked._since > generation && !this._isCovered(key, generation))) return;
    const known = tracked._state;
    const sameSession = tracked._session === this._session;
    // A key that a prefix finds only now is new to those who have had their snapshot.
    const isNews = known
      ? !(isNull(known) && isNull(state)) && (sameSession ? known.version !== version : known.json !== state.json)
      : !isNull(state);
    // It went with the session it was set in.
    if (isNews && !sameSession && isNull(state) && !version) state = makeState({ key, cause: "cleared" });
    tracked._session = this._session;
    // Of a key that is gone the server may not know since when, but this replica may.
    if (!known || isNews || !sameSession || version) tracked._state = state;
    if (isNews) this._tell(state);
  }

  private _tell(state: State): void {
    for (const one of this._meaning(state.key)) if (one._live) one._tell(state);
  }

  /** The server told of changes, in the order of their revisions. */
  _notified(states: readonly State[]): void {
    for (const state of states) {
      this._changed(state);
      this._told = Math.max(this._told, state.version);
    }
  }

  /** A request of this client was answered with a state, which is told here if it was not notified before. */
  _acknowledged(state: State): void {
    // An answer that was lost and is given again may be older than what was told at the join.
    if (state.version > this._joinedAt) this._changed(state);
  }

  private _changed(state: State): void {
    const { key } = state;
    let tracked = this._tracked.get(key);
    if (!tracked) {
      // Before its snapshot a prefix has no keys; and what is gone already is no news.
      if (isNull(state) || !this._isCovered(key)) return;
      tracked = this._track(key, this._generation + 1);
      tracked._state = makeState({ key });
    }
    // Before the snapshot nothing is told: the snapshot will hold this change or a newer one.
    if (!tracked._state || tracked._session !== this._session || state.version <= tracked._state.version) return;
    tracked._state = state;
    this._tell(state);
    if (isNull(state)) this._forget();
  }

  /** What is held of a key; undefined if no listener has it, or nothing is known yet. */
  _cached(key: string): State | undefined {
    const tracked = this._tracked.get(key);
    // A key that no answered prefix has found is absent.
    return tracked ? tracked._state : this._isCovered(key) ? makeState({ key }) : undefined;
  }

  /** Gives a listener its snapshot, once all of it is known. */
  private _complete(one: Listening): void {
    const named = one._keys.map((key) => this._tracked.get(key)?._state);
    if (one._live || named.includes(undefined) || !one._prefixes.every((prefix) => this._covered.get(prefix)?._answered)) return;
    one._live = true;
    const meant = ({ _state: state }: Tracked) =>
      state && !isNull(state) && !one._keys.includes(state.key) && one._prefixes.some((prefix) => beginsWith(state.key, prefix));
    const found = [...this._tracked.values()].filter(meant).map((tracked) => tracked._state!);
    found.sort((a, b) => (a.key < b.key ? -1 : 1));
    for (const state of [...named, ...found]) one._tell(makeState({ ...state!, isSnapshot: true, replaced: 0 }));
    one._tell();
  }
}
