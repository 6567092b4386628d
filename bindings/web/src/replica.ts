import { type State, makeState } from "./values.js";

/** Names a listener; never used again. */
export type ListenerId = number;

interface Tracked {
  /** Undefined until the server has said what the key holds. */
  state: State | undefined;
  /** The session the state is from: versions of different sessions do not compare. */
  _session: number;
  /** The generation of the listen set that first had this key. */
  _since: number;
  /** How many of the listeners name this key; the others listen to a prefix of it. */
  _namedBy: number;
  readonly _listeners: Set<ListenerId>;
}

interface Covered {
  readonly _since: number;
  /** Whether a snapshot has said which keys there are. */
  _answered: boolean;
  readonly _listeners: Set<ListenerId>;
}

interface Listener {
  readonly keys: string[];
  readonly prefixes: string[];
  /** Whether it has been given its snapshot. */
  _live: boolean;
}

/** Whether a prefix means a key. Those that show locks are meant only by one that begins with `$`. */
const beginsWith = (key: string, prefix: string) => key.startsWith(prefix) && (prefix.startsWith("$") || !key.startsWith("$lock/"));

const isNull = (state: State) => state.json === "null";

/** Whether two states of a key differ for somebody who saw only these two. */
const differs = (known: State, now: State, sameSession: boolean) =>
  !(isNull(known) && isNull(now)) && (sameSession ? known.version !== now.version : known.json !== now.json);

/** Whether nobody asks for a key any more: no listener is left, or those that are listen to a prefix of one that is not there. */
const isIdle = ({ _namedBy, _listeners, state }: Tracked) => !_namedBy && (!_listeners.size || (state !== undefined && isNull(state)));

/**
 * A client's copy of the keys it listens to. Many listeners become one listen set on the wire; what comes back is compared
 * with what is known, and only real differences are told. It knows no network and no clock.
 */
export class Replica {
  /** Counts the changes of the listen set, to tell which of them a snapshot answers. */
  _generation = 0;
  _sessionId: string | undefined;
  private readonly _keys = new Map<string, Tracked>();
  private readonly _prefixes = new Map<string, Covered>();
  private readonly _listeners = new Map<ListenerId, Listener>();
  private _session = 0;
  /** The revision at the last join, which all that is told from then on includes. */
  private _joinedAt = 0;
  /** The newest revision that was told. */
  private _told = 0;
  /** The generation of the listen set that the last snapshot was of. */
  private _whole: number | undefined;

  /** @param tell tells a listener a state, or without one that its snapshot is complete */
  constructor(private readonly _tell: (listener: ListenerId, state?: State) => void) {}

  /** Adds a listener. Keys that are known already are answered from here. */
  _add(id: ListenerId, keys: string[], prefixes: string[]): void {
    let grown = false;
    for (const key of keys) {
      const tracked = this._keys.get(key) ?? this._track(key);
      tracked._listeners.add(id);
      // Found by a prefix it was not asked for by name.
      grown ||= !tracked._namedBy;
      tracked._namedBy++;
    }
    for (const prefix of prefixes) {
      let covered = this._prefixes.get(prefix);
      if (!covered) {
        covered = { _since: this._generation + 1, _answered: false, _listeners: new Set() };
        this._prefixes.set(prefix, covered);
        grown = true;
      }
      covered._listeners.add(id);
      for (const [key, tracked] of this._keys) if (beginsWith(key, prefix)) tracked._listeners.add(id);
    }
    if (grown) this._generation++;
    this._listeners.set(id, { keys, prefixes, _live: false });
    this._complete(id);
  }

  /** Begins to track a key that the next listen set has, or that a prefix has found. */
  private _track(key: string, since = this._generation + 1): Tracked {
    const listeners = new Set<ListenerId>();
    for (const [prefix, covered] of this._prefixes) if (beginsWith(key, prefix)) covered._listeners.forEach((id) => listeners.add(id));
    const tracked: Tracked = { state: undefined, _session: this._session, _since: since, _namedBy: 0, _listeners: listeners };
    this._keys.set(key, tracked);
    return tracked;
  }

  /** Removes a listener. */
  _remove(id: ListenerId): void {
    const gone = this._listeners.get(id);
    if (!gone) return;
    this._listeners.delete(id);
    let shrunk = false;
    for (const key of gone.keys) {
      const tracked = this._keys.get(key);
      if (tracked && !--tracked._namedBy) shrunk = true;
    }
    for (const prefix of gone.prefixes) {
      const covered = this._prefixes.get(prefix);
      covered?._listeners.delete(id);
      if (covered && !covered._listeners.size) {
        this._prefixes.delete(prefix);
        shrunk = true;
      }
    }
    for (const [key, tracked] of this._keys) if (tracked._listeners.delete(id) && isIdle(tracked)) this._keys.delete(key);
    if (shrunk) this._generation++;
  }

  /** The keys and the prefixes to listen to, in a fixed order: who listens to the same asks in the same words. */
  _listenSet(): { keys: string[]; prefixes: string[] } {
    const named = [...this._keys].filter(([, tracked]) => tracked._namedBy).map(([key]) => key);
    return { keys: named.sort(), prefixes: [...this._prefixes.keys()].sort() };
  }

  /**
   * A session was joined at a revision of its store, or come back to as the same peer or another. Returns whether it is
   * another session than before, in which case versions start anew and only values are compared.
   */
  _joined(sessionId: string, revision: number, samePeer: boolean): boolean {
    this._joinedAt = revision;
    const before = this._sessionId;
    if (!samePeer || before !== sessionId) this._whole = undefined;
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
    const waiting = new Set<ListenerId>();
    for (const covered of this._prefixes.values()) {
      if (covered._since <= generation && !covered._answered) {
        covered._answered = true;
        covered._listeners.forEach((id) => waiting.add(id));
      }
    }
    // It is later than all that was told before, and than the join.
    this._told = Math.max(this._told, this._joinedAt);
    const found = new Set<string>();
    for (const state of states) {
      this._told = Math.max(this._told, state.version);
      if (!this._keys.has(state.key) && this._isCovered(state.key, generation)) this._track(state.key, generation);
      found.add(state.key);
      this._answered(state, generation, waiting);
    }
    // What is not in the snapshot though a prefix means it is gone.
    for (const key of [...this._keys.keys()].sort()) {
      if (!this._keys.get(key)!._namedBy && !found.has(key) && this._isCovered(key, generation)) {
        this._answered(makeState({ key }), generation, waiting);
      }
    }
    for (const [key, tracked] of this._keys) if (isIdle(tracked)) this._keys.delete(key);
    this._whole = generation;
    waiting.forEach((id) => this._complete(id));
  }

  /** Whether a prefix that a snapshot of this generation answers means a key. */
  private _isCovered(key: string, generation: number): boolean {
    return [...this._prefixes].some(([prefix, covered]) => covered._since <= generation && beginsWith(key, prefix));
  }

  /** What a snapshot says of one key. */
  private _answered(state: State, generation: number, waiting: Set<ListenerId>): void {
    const tracked = this._keys.get(state.key);
    // What an answered prefix means is known, even if it was named only after this was asked.
    if (!tracked || (tracked._since > generation && !this._isCovered(state.key, generation))) return;
    const known = tracked.state;
    const sameSession = tracked._session === this._session;
    // A key that a prefix finds only now is new to those who have had their snapshot.
    const isNews = known ? differs(known, state, sameSession) : !isNull(state);
    // It went with the session it was set in.
    const isCleared = isNews && !sameSession && isNull(state) && !state.version;
    const now = isCleared ? makeState({ key: state.key, cause: "cleared" }) : state;
    tracked._session = this._session;
    // Of a key that is gone the server may not know since when, but this replica may.
    if (!(sameSession && !isNews && known && !state.version)) tracked.state = now;
    for (const id of tracked._listeners) {
      const live = this._listeners.get(id)?._live;
      if (live && isNews) this._tell(id, now);
      else if (!live && !known) waiting.add(id);
    }
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
    let tracked = this._keys.get(state.key);
    if (!tracked) {
      // Before its snapshot a prefix has no keys; and what is gone already is no news.
      if (isNull(state) || !this._isAnswered(state.key)) return;
      tracked = this._track(state.key);
      tracked.state = makeState({ key: state.key });
    }
    // Before the snapshot nothing is told: the snapshot will hold this change or a newer one.
    if (!tracked.state || tracked._session !== this._session || state.version <= tracked.state.version) return;
    tracked.state = state;
    for (const id of tracked._listeners) if (this._listeners.get(id)?._live) this._tell(id, state);
    if (isIdle(tracked)) this._keys.delete(state.key);
  }

  private _isAnswered(key: string): boolean {
    return [...this._prefixes].some(([prefix, covered]) => covered._answered && beginsWith(key, prefix));
  }

  /** What is held of a key; undefined if no listener has it, or nothing is known yet. */
  _cached(key: string): State | undefined {
    const tracked = this._keys.get(key);
    // A key that no answered prefix has found is absent.
    return tracked ? tracked.state : this._isAnswered(key) ? makeState({ key }) : undefined;
  }

  /** Listeners that wait for keys of this generation or an older one: those that a refused listen request concerns. */
  _waiting(generation: number): ListenerId[] {
    const keyWaits = (key: string) => {
      const tracked = this._keys.get(key);
      return tracked && !tracked.state && tracked._since <= generation;
    };
    const prefixWaits = (prefix: string) => {
      const covered = this._prefixes.get(prefix);
      return covered && !covered._answered && covered._since <= generation;
    };
    const waits = ([, one]: [ListenerId, Listener]) => !one._live && (one.keys.some(keyWaits) || one.prefixes.some(prefixWaits));
    return [...this._listeners].filter(waits).map(([id]) => id);
  }

  /** Listeners that name one of these keys. */
  _naming(keys: readonly string[]): ListenerId[] {
    return [...this._listeners].filter(([, one]) => one.keys.some((key) => keys.includes(key))).map(([id]) => id);
  }

  private _complete(id: ListenerId): void {
    const one = this._listeners.get(id);
    if (!one || one._live) return;
    const named = one.keys.map((key) => this._keys.get(key)?.state);
    if (named.includes(undefined) || !one.prefixes.every((prefix) => this._prefixes.get(prefix)?._answered)) return;
    one._live = true;
    const found = [...this._keys.keys()].filter((key) => !one.keys.includes(key) && one.prefixes.some((prefix) => beginsWith(key, prefix)));
    const meant = found.sort().map((key) => this._keys.get(key)!.state);
    for (const state of [...named, ...meant.filter((state) => state && !isNull(state))]) {
      this._tell(id, makeState({ ...state!, isSnapshot: true, replaced: 0 }));
    }
    this._tell(id);
  }
}
