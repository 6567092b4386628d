import { absent, type State } from "./state.js";

/** A listener as the replica knows it. @internal */
export interface Cell {
    readonly _keys: ReadonlySet<string>;
    readonly _prefixes: ReadonlySet<string>;
    /** Whether it has been given its snapshot. */
    _isLive: boolean;
    /** Takes a state on its way to the listener, or undefined for the end of its snapshot. */
    _tell(state: State | undefined): void;
}

interface Tracked {
    /** Undefined until the server has said what the key holds. */
    _state: State | undefined;
    /** The session the state is from: versions of different sessions do not compare. */
    _session: number;
    /** The generation of the listen set that first had this key. */
    _since: number;
    /** How many listeners name this key; the others listen to a prefix of it. */
    _named: number;
}

interface Covered {
    _since: number;
    /** Whether a snapshot has said which keys there are. */
    _answered: boolean;
    _count: number;
}

/** Keys that show locks are meant only by a prefix that begins with `$`. */
const beginsWith = (key: string, prefix: string) =>
    key.startsWith(prefix) && (prefix[0] === "$" || !key.startsWith("$lock/"));

/**
 * A client's copy of the keys it listens to. Many listeners become one listen set on the wire; what comes back is
 * compared with what is known, and only real differences reach the listeners. @internal
 */
export class Replica {
    _cells = new Set<Cell>();
    /** Counts the changes of the listen set, to tell which of them a snapshot answers. */
    _generation = 0;
    private _keys = new Map<string, Tracked>();
    private _prefixes = new Map<string, Covered>();
    private _session = 0;
    private _sessionId: string | undefined;
    /** The revision of the store at the last join, which all that is told from then on includes. */
    private _joinedAt = 0;
    /** The newest revision that was told. */
    private _told = 0;
    /** The generation of the listen set that the last snapshot was of. */
    private _whole: number | undefined;

    _add(cell: Cell): void {
        let grown = false;
        for (const key of cell._keys) {
            const tracked = this._keys.get(key) ?? this._track(key, this._generation + 1);
            // Found by a prefix before, it was not asked for by name.
            if (!tracked._named++) grown = true;
        }
        for (const prefix of cell._prefixes) {
            const covered = this._prefixes.get(prefix);
            if (covered) covered._count++;
            else {
                this._prefixes.set(prefix, { _since: this._generation + 1, _answered: false, _count: 1 });
                grown = true;
            }
        }
        if (grown) this._generation++;
        this._cells.add(cell);
        this._complete(cell);
    }

    _remove(cell: Cell): void {
        if (!this._cells.delete(cell)) return;
        let shrunk = false;
        for (const key of cell._keys) {
            const tracked = this._keys.get(key);
            if (tracked && !--tracked._named) shrunk = true;
        }
        for (const prefix of cell._prefixes) {
            const covered = this._prefixes.get(prefix);
            if (covered && !--covered._count) {
                this._prefixes.delete(prefix);
                shrunk = true;
            }
        }
        if (shrunk) {
            this._generation++;
            this._forgetIdle();
        }
    }

    /** The keys and the prefixes to listen to, each in alphabetical order. */
    _listenSet(): { keys: string[]; prefixes: string[] } {
        const named = [...this._keys].filter(([, tracked]) => tracked._named);
        return { keys: named.map(([key]) => key).sort(), prefixes: [...this._prefixes.keys()].sort() };
    }

    /**
     * A session was joined at a revision, or come back to: `returned` says whether as the same peer. Returns whether it
     * is another session than before, in which case versions start anew and only values are compared.
     */
    _joined(sessionId: string, revision: number, returned: boolean): boolean {
        this._joinedAt = revision;
        const before = this._sessionId;
        if (before === sessionId) {
            if (!returned) this._whole = undefined;
            return false;
        }
        this._sessionId = sessionId;
        this._session++;
        this._told = 0;
        this._whole = undefined;
        return before !== undefined;
    }

    /**
     * The session, and the revision up to which everything about the listen set as it is now is known: who comes back
     * need be told only the rest. Undefined if the last snapshot was of another listen set.
     */
    _knownUpTo(): { session: string | undefined; since: number } | undefined {
        return this._whole === this._generation ? { session: this._sessionId, since: this._told } : undefined;
    }

    /** The server's answer to the listen set of a generation. */
    _snapshot(generation: number, states: readonly State[]): void {
        for (const covered of this._prefixes.values()) if (covered._since <= generation) covered._answered = true;
        const found = new Set<string>();
        for (const state of states) {
            this._told = Math.max(this._told, state.version);
            found.add(state.key);
            if (!this._keys.has(state.key) && this._isCovered(state.key, generation)) this._track(state.key, generation);
            this._answer(state, generation);
        }
        // What is not in the snapshot though a prefix means it is gone.
        const gone = [...this._keys].filter(
            ([key, tracked]) => !tracked._named && !found.has(key) && this._isCovered(key, generation),
        );
        for (const key of gone.map(([key]) => key).sort()) this._answer(absent(key), generation);
        this._forgetIdle();
        // It is later than the join.
        this._told = Math.max(this._told, this._joinedAt);
        this._whole = generation;
        for (const cell of this._cells) this._complete(cell);
    }

    /** The server told of changes, in the order of their revisions. */
    _notified(states: readonly State[]): void {
        for (const state of states) {
            this._change(state);
            this._told = Math.max(this._told, state.version);
        }
    }

    /** A request of this client was answered with a state, which is told here if it was not notified before. */
    _acknowledged(state: State): void {
        // An answer that was lost and is given again may be older than what was told at the join.
        if (state.version > this._joinedAt) this._change(state);
    }

    /** What is known of a key; undefined if no listener has it, or nothing is known yet. */
    _cached(key: string): State | undefined {
        const tracked = this._keys.get(key);
        // A key that no answered prefix has found is absent.
        return tracked ? tracked._state : this._isCovered(key) ? absent(key) : undefined;
    }

    /** Listeners that still wait for what a refused listen set of this generation asked for. */
    _waiting(generation: number): Cell[] {
        const isOpen = (key: string) => {
            const tracked = this._keys.get(key);
            return tracked && !tracked._state && tracked._since <= generation;
        };
        const isOpenPrefix = (prefix: string) => {
            const covered = this._prefixes.get(prefix);
            return covered && !covered._answered && covered._since <= generation;
        };
        return [...this._cells].filter(
            (cell) => !cell._isLive && ([...cell._keys].some(isOpen) || [...cell._prefixes].some(isOpenPrefix)),
        );
    }

    private _track(key: string, since: number, state?: State): Tracked {
        const tracked = { _state: state, _session: this._session, _since: since, _named: 0 };
        this._keys.set(key, tracked);
        return tracked;
    }

    /** Forgets what nobody asks for: keys without listeners, and those that only prefixes mean and that are not there. */
    private _forgetIdle(): void {
        for (const [key, tracked] of this._keys) {
            if (tracked._named) continue;
            const isMeant = [...this._prefixes.keys()].some((prefix) => beginsWith(key, prefix));
            if (!isMeant || tracked._state?.isAbsent) this._keys.delete(key);
        }
    }

    /** Whether a prefix means the key that a snapshot has answered, or that one of this generation answers. */
    private _isCovered(key: string, generation?: number): boolean {
        for (const [prefix, covered] of this._prefixes) {
            const counts = generation === undefined ? covered._answered : covered._since <= generation;
            if (counts && beginsWith(key, prefix)) return true;
        }
        return false;
    }

    private _tell(state: State): void {
        for (const cell of this._cells) {
            const means = cell._keys.has(state.key) || [...cell._prefixes].some((prefix) => beginsWith(state.key, prefix));
            if (cell._isLive && means) cell._tell(state);
        }
    }

    /** What a snapshot says of one key. */
    private _answer(state: State, generation: number): void {
        const tracked = this._keys.get(state.key);
        // What an answered prefix means is known, even if it was named only after this was asked.
        if (!tracked || (tracked._since > generation && !this._isCovered(state.key, generation))) return;
        const known = tracked._state;
        const sameSession = tracked._session === this._session;
        // A key that a prefix finds only now is new to those who have had their snapshot.
        const differs = !(state.isAbsent && (known?.isAbsent ?? true)) &&
            !(known && (sameSession ? known.version === state.version : known.json === state.json));
        // It went with the session it was set in.
        if (differs && !sameSession && state.isAbsent && !state.version) state = absent(state.key, "cleared");
        tracked._session = this._session;
        // Of a key that is gone the server may not know since when, but this replica may.
        if (!known || !sameSession || differs || state.version) tracked._state = state;
        if (differs) this._tell(state);
    }

    private _change(state: State): void {
        let tracked = this._keys.get(state.key);
        if (!tracked) {
            // Before its snapshot a prefix has no keys; and what is gone already is no news.
            if (state.isAbsent || !this._isCovered(state.key)) return;
            tracked = this._track(state.key, this._generation + 1, absent(state.key));
        }
        const known = tracked._state;
        // Before the snapshot nothing is told: the snapshot will hold this change or a newer one.
        if (!known || tracked._session !== this._session || state.version <= known.version) return;
        tracked._state = state;
        this._tell(state);
        if (!tracked._named && state.isAbsent) this._keys.delete(state.key);
    }

    /** Gives a listener its snapshot if everything it asks for is known. */
    private _complete(cell: Cell): void {
        if (cell._isLive) return;
        const states: State[] = [];
        for (const key of cell._keys) {
            const state = this._keys.get(key)?._state;
            if (!state) return;
            states.push(state);
        }
        for (const prefix of cell._prefixes) if (!this._prefixes.get(prefix)?._answered) return;
        cell._isLive = true;
        const found = [...this._keys].filter(([key, { _state: state }]) =>
            state && !state.isAbsent && !cell._keys.has(key) && [...cell._prefixes].some((prefix) => beginsWith(key, prefix)));
        found.sort(([one], [other]) => (one < other ? -1 : 1));
        for (const [, { _state: state }] of found) if (state) states.push(state);
        // As a current value it stands for no older ones.
        for (const state of states) cell._tell(state._with({ isSnapshot: true, replaced: 0 }));
        cell._tell(undefined);
    }
}
