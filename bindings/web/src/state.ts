import { type Json, parseJson } from "./json.js";

/** Who made a change, as they were then: known also after they have left. */
export interface Author {
    /** The id of the peer. */
    readonly peerId: string;
    /** The user id from its token; empty if it had none. */
    readonly userId: string;
    /** Its name. */
    readonly name: string;
}

/**
 * Why a key has a state: a peer wrote or removed it; its time to live ran out; it was bound to a peer that is gone; it
 * went with the session it was set in.
 */
export type Cause = "written" | "expired" | "peerLeft" | "cleared";

/** @internal */
export interface Fields {
    readonly key: string;
    readonly json: string;
    readonly version: number;
    readonly updatedAt: number;
    readonly cause: Cause;
    readonly expiresAt: number | undefined;
    readonly author: Author | undefined;
    readonly replaced: number;
    readonly isSnapshot: boolean;
}

/** One state of one key: what a listener, a get or a set is told. It never changes. */
export class State<T = Json> {
    /** The key. */
    declare readonly key: string;
    /** The value as compact JSON text, byte for byte as everybody sees it; `null` when the key is absent. */
    declare readonly json: string;
    /** The revision of the store that this change made; 0 for a key that was never set, or whose removal is forgotten. */
    declare readonly version: number;
    /** When the change was made: server time in milliseconds since 1970; 0 when the version is 0. */
    declare readonly updatedAt: number;
    /** Why the key has this state. */
    declare readonly cause: Cause;
    /** When the key goes by itself: server time in milliseconds since 1970; undefined for never. */
    declare readonly expiresAt: number | undefined;
    /** Who made the change; undefined when the version is 0, or the key expired. */
    declare readonly author: Author | undefined;
    /** How many older states of this key this one stands for, which were not told because somebody did not keep up. */
    declare readonly replaced: number;
    /** True for a current value from before the end of the snapshot, false for a change. */
    declare readonly isSnapshot: boolean;
    #value: T | null | undefined;

    /** @internal */
    constructor(fields: Fields) {
        Object.assign(this, fields);
    }

    /** Whether the key is absent, which is the same as holding the JSON `null`. */
    get isAbsent(): boolean {
        return this.json === "null";
    }

    /** The value, frozen, because all who listen share it; null when the key is absent. */
    get value(): T | null {
        if (this.#value === undefined) this.#value = freeze(parseJson(this.json) as T | null);
        return this.#value;
    }

    /** @internal */
    _with(fields: Partial<Fields>): State<T> {
        return new State({ ...this, ...fields });
    }
}

function freeze<T>(value: T): T {
    if (typeof value === "object" && value) Object.values(Object.freeze(value)).forEach(freeze);
    return value;
}

/** The state of a key that is not there. @internal */
export function absent(key: string, cause: Cause = "written"): State {
    return new State({
        key, json: "null", version: 0, updatedAt: 0, cause, expiresAt: undefined, author: undefined, replaced: 0,
        isSnapshot: false,
    });
}

/** Reads a state of the wire. Throws for what is none. @internal */
export function readState(wire: Wire): State {
    const { key, data = "null", change_version: version, updated_by: peerId, author, reason } = wire;
    if (typeof key !== "string" || typeof data !== "string" || !Number.isSafeInteger(version)) throw new TypeError();
    return new State({
        key, json: data, version, updatedAt: wire.updated_at ?? 0,
        cause: reason === "expired" ? "expired" : reason === "peer-left" ? "peerLeft" : "written",
        expiresAt: wire.expires_at,
        author: peerId === undefined ? undefined : { peerId, userId: author?.user_id ?? "", name: author?.name ?? "" },
        replaced: wire.replaced ?? 0, isSnapshot: false,
    });
}

/** What came over the wire and was not looked at yet. @internal */
export type Wire = any;
