// @ts-check
// What the page knows of one room: nothing here touches the document.
import { same } from "./json.js";

/** @typedef {import("./json.js").Json} Json */
/** @typedef {import("./json.js").JsonMap} JsonMap */
/** @typedef {{ peer_id: string, user_id: string, name: string }} Author */
/** @typedef {{ key: string, data: Json, version: number, at: number, by: Author | null, expiresAt: number | null, reason: string | null }} State */
/** @typedef {{ id: string, user: string, name: string, role: string, metadata: string, joinedAt: number, connected: boolean }} Peer */
/** @typedef {{ name: string, token: number, holder: Author | null, expiresAt: number }} Lock */
/** @typedef {{ room: string, session: string, startedAt: number, revision: number, peers: number, connections: number, keys: number, bytes: number }} Summary */
/** What happened to a key. `missed`: noticed after a gap, in which more may have happened.
 * @typedef {{ kind: "change", state: State, before: State | null, at: number, missed: boolean }} Change */
/** @typedef {{ kind: "peer", what: "joined" | "left" | "lost" | "updated", peer: Peer, at: number }} PeerNews */
/** @typedef {{ kind: "note", text: string, at: number }} Note */
/** @typedef {Change | PeerNews | Note} News */

/** States kept of each key, of all keys together, and news in the list: what a person looks back to, in some MB at most. */
export const KEPT = { perKey: 50, inAll: 5_000, news: 200 };

export const LOCK_PREFIX = "$lock/";

/** @param {unknown} value */
const text = (value) => (typeof value === "string" ? value : "");
/** @param {unknown} value */
const number = (value) => (typeof value === "number" ? value : 0);

/** @param {any} value whose members are the user id and the name @param {string} peer @returns {Author | null} */
function author(value, peer) {
  return value instanceof Map ? { peer_id: peer, user_id: text(value.get("user_id")), name: text(value.get("name")) } : null;
}

/** @param {JsonMap} map @returns {State} */
export function toState(map) {
  const expires = map.get("expires_at");
  const reason = map.get("reason");
  return {
    key: text(map.get("key")),
    data: map.get("data") ?? null,
    version: number(map.get("change_version")),
    at: number(map.get("updated_at")),
    by: author(map.get("author"), text(map.get("updated_by"))),
    expiresAt: typeof expires === "number" ? expires : null,
    reason: typeof reason === "string" ? reason : null,
  };
}

/** @param {JsonMap} map @returns {Peer} */
export function toPeer(map) {
  return {
    id: text(map.get("peer_id")),
    user: text(map.get("user_id")),
    name: text(map.get("name")),
    role: text(map.get("role")),
    metadata: text(map.get("metadata")),
    joinedAt: number(map.get("joined_at")),
    connected: map.get("connected") !== false,
  };
}

/** @param {JsonMap} map @returns {Lock} */
export function toLock(map) {
  const holder = map.get("held_by");
  return { name: text(map.get("name")), token: number(map.get("token")), holder: author(holder, text(holder?.get?.("peer_id"))), expiresAt: number(map.get("expires_at")) };
}

/** @param {JsonMap} map @returns {Summary} */
export function toSummary(map) {
  return {
    room: text(map.get("room")),
    session: text(map.get("session_id")),
    startedAt: number(map.get("started_at")),
    revision: number(map.get("revision")),
    peers: number(map.get("peers")),
    connections: number(map.get("connections")),
    keys: number(map.get("keys")),
    bytes: number(map.get("bytes")),
  };
}

/** A list of maps in an answer. @param {JsonMap} map @param {string} name @returns {JsonMap[]} */
export function maps(map, name) {
  const list = map.get(name);
  return Array.isArray(list) ? list.filter((item) => item instanceof Map) : [];
}

/** How somebody is called, with the most that is known. @param {{ name: string, peer_id?: string, user_id?: string } | null} by */
export function called(by) {
  return by ? by.name || by.user_id || by.peer_id || "unnamed" : "nobody";
}

export class RoomModel {
  constructor() {
    /** null: not known yet. @type {boolean | null} */
    this.open = null;
    this.session = "";
    this.revision = 0;
    /** @type {Map<string, Peer>} */
    this.peers = new Map();
    /** The keys that are set, those of locks not among them. @type {Map<string, State>} */
    this.values = new Map();
    /** Who holds a lock, by the lock's name. @type {Map<string, State>} */
    this.locks = new Map();
    /** What was seen of each key, the newest first. @type {Map<string, Change[]>} */
    this.history = new Map();
    this.kept = 0;
    /** The newest first. @type {News[]} */
    this.news = [];
    /** News and changes so far; the latter tell the rate. */
    this.told = 0;
    this.changes = 0;
    /** Counts up whenever keys come or go, or peers or locks are others, so that views need not compare. */
    this.shape = 0;
    this.company = 0;
    /** Since when this page watches. */
    this.since = 0;
  }

  /**
   * Takes in one event.
   * @param {string} name
   * @param {JsonMap} data
   * @param {number} now
   */
  apply(name, data, now) {
    if (name.startsWith("peer-") || name === "snapshot") this.company++;
    if (name === "snapshot") this.snapshot(data, now);
    else if (name === "changes") {
      this.revision = Math.max(this.revision, number(data.get("revision")));
      for (const map of maps(data, "values")) this.change(toState(map), now, false);
    } else if (name === "peer-join" || name === "peer-update") {
      const peer = toPeer(data);
      const known = this.peers.get(peer.id);
      this.peers.set(peer.id, peer);
      if (name === "peer-join" && !known) this.tell({ kind: "peer", what: "joined", peer, at: now });
      else if (known && (known.name !== peer.name || known.metadata !== peer.metadata || known.role !== peer.role))
        this.tell({ kind: "peer", what: "updated", peer, at: now });
    } else if (name === "peer-leave") {
      const peer = this.peers.get(text(data.get("peer_id")));
      if (!peer) return;
      this.peers.delete(peer.id);
      this.tell({ kind: "peer", what: data.get("connection_lost") === true ? "lost" : "left", peer, at: now });
    } else if (name === "closed") {
      if (this.open) this.tell({ kind: "note", text: "The session ended; its store is gone.", at: now });
      this.forget();
      this.open = false;
    }
  }

  /** @param {JsonMap} data @param {number} now */
  snapshot(data, now) {
    const session = text(data.get("session_id"));
    const known = this.open === true && session === this.session;
    if (!known) {
      if (this.session && session !== this.session) this.tell({ kind: "note", text: "A new session began.", at: now });
      this.forget();
      this.history.clear();
      this.kept = 0;
      this.since = now;
    }
    this.open = true;
    this.session = session;
    this.revision = number(data.get("revision"));
    const states = maps(data, "values").map(toState);
    const there = new Set(states.filter((state) => state.data !== null).map((state) => state.key));
    for (const state of states) {
      const before = this.get(state.key);
      if (!known) this.put(state);
      else if (before?.version !== state.version || !same(before.data, state.data)) this.change(state, now, true);
    }
    for (const before of [...this.values.values(), ...this.locks.values()]) {
      if (there.has(before.key)) continue;
      // Who removed it, when and why is not told any more.
      this.change({ key: before.key, data: null, version: 0, at: 0, by: null, expiresAt: null, reason: null }, now, true);
    }
    this.peers = new Map(maps(data, "peers").map(toPeer).map((peer) => [peer.id, peer]));
  }

  /** @param {State} state @param {number} now @param {boolean} missed */
  change(state, now, missed) {
    const before = this.get(state.key);
    this.put(state);
    this.changes++;
    /** @type {Change} */
    const change = { kind: "change", state, before, at: now, missed };
    const seen = this.history.get(state.key) ?? [];
    // The most recently changed keys last: when all together are too many, the ones at rest lose theirs first.
    this.history.delete(state.key);
    this.history.set(state.key, seen);
    seen.unshift(change);
    this.kept++;
    if (seen.length > KEPT.perKey) this.kept -= seen.splice(KEPT.perKey).length;
    while (this.kept > KEPT.inAll) {
      const [oldest, changes] = /** @type {[string, Change[]]} */ (this.history.entries().next().value);
      this.history.delete(oldest);
      this.kept -= changes.length;
    }
    this.tell(change);
  }

  /** @param {string} key @returns {State | null} */
  get(key) {
    return (key.startsWith(LOCK_PREFIX) ? this.locks.get(key.slice(LOCK_PREFIX.length)) : this.values.get(key)) ?? null;
  }

  /** @param {State} state */
  put(state) {
    const isLock = state.key.startsWith(LOCK_PREFIX);
    const [map, name] = isLock ? [this.locks, state.key.slice(LOCK_PREFIX.length)] : [this.values, state.key];
    if (isLock) this.company++;
    else if (map.has(name) === (state.data === null)) this.shape++;
    if (state.data === null) map.delete(name);
    else map.set(name, state);
  }

  /** @param {News} news */
  tell(news) {
    this.news.unshift(news);
    this.told++;
    if (this.news.length > KEPT.news) this.news.length = KEPT.news;
  }

  forget() {
    this.shape++;
    this.company++;
    this.peers.clear();
    this.values.clear();
    this.locks.clear();
  }
}
