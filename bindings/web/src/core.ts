import { type SessionStoreError, fault, names } from "./errors.js";
import { random, stringify } from "./json.js";
import type { Lock } from "./lock.js";
import { type Listening, Replica } from "./replica.js";
import {
  byteLength,
  type Peer,
  type Selector,
  type State,
  type States,
  check,
  checkedSelector,
  must,
  parseMessage,
  readError,
  readPeer,
  readPeers,
  readState,
} from "./values.js";

/** Where a client stands. */
export type ConnectionState = "connecting" | "connected" | "reconnecting" | "closed";

/** A WebSocket as the client needs it: that of browsers, of Node from version 22 on, or of the package `ws`. */
export interface WebSocketLike {
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

/** How and where to join. Times, and `maxPending`, are above 0 and below 2^31. */
export interface ClientOptions {
  /** `ws://host:port`, or `wss://` for TLS; maybe with a path, without one it is `/ws`. */
  url: string;
  /** The room, 1 to 128 bytes. Left out when the token names it. */
  room?: string;
  /**
   * A JWT for servers that ask for one. It is sent in the query, as web pages cannot set headers: keep the server's
   * access logs without queries.
   */
  token?: string;
  /** This peer's name, shown to others, at most 256 bytes. `updatePeer` changes it for good. */
  name?: string;
  /** The role asked of an open server. Default: the server's. */
  role?: string;
  /** The user id told to an open server, at most 128 bytes. */
  userId?: string;
  /** This peer's metadata, any text of at most 2,048 bytes. */
  metadata?: string;
  /**
   * This peer's id. Default: a random one. It must not be used by two clients at once: the second is refused with
   * `PEER_IN_USE`, and tries on until the first has left, unless it is to `failFast`.
   */
  peerId?: string;
  /**
   * How long one request may take, or one attempt to join, in milliseconds. Default 10,000. Without a connection a request
   * waits within this time.
   */
  requestTimeoutMs?: number;
  /**
   * Waiting time before the first attempt to reconnect, in milliseconds; doubled for each that fails, and for each whose
   * connection breaks before it is `heartbeatMs` old. The actual time is drawn between half of it and the whole. Default 250.
   */
  reconnectMinMs?: number;
  /** The longest waiting time between two attempts, in milliseconds. Default 10,000. */
  reconnectMaxMs?: number;
  /**
   * How often the client looks whether anything was heard from the server, in milliseconds. Default 10,000. If not, it asks
   * for a sign, and if there is none until the next time, the connection counts as broken.
   */
  heartbeatMs?: number;
  /** Most requests that may wait for their answers. Default 1,024; more are refused with `QUEUE_FULL`. */
  maxPending?: number;
  /** Whether a failure of the very first join closes the client, instead of trying on. */
  failFast?: boolean;
  /** The WebSocket to use where there is none, as in Node before version 22: `import WebSocket from "ws"`. */
  WebSocket?: new (url: string) => WebSocketLike;
  /** Is given what a listener throws. Default: `reportError` where there is one, otherwise `console.error`. */
  reportError?: (error: unknown) => void;
}

/** Told what concerns a client as a whole. Every function may be left out. */
export interface ClientListener {
  /** Where the client stands now; with why, unless all is well. */
  onState?(state: ConnectionState, error?: SessionStoreError): void;
  /** Another peer came, changed its name or metadata, or went. Begins with those who are in the room already. */
  onPeer?(change: PeerChange): void;
  /** What `peers()` gives has changed, be it by another peer or by this one. */
  onPeers?(): void;
  /** Something went wrong that no request is waiting for, such as `SESSION_LOST`. */
  onError?(error: SessionStoreError): void;
  /** The token expires at this server time, in milliseconds since 1970; `renewToken` hands in a fresh one. */
  onTokenExpiring?(expiresAt: number): void;
  /** The listener is told nothing any more: it was cancelled, or the client is closed. */
  onDropped?(): void;
}

/** Another peer came, changed or went. */
export interface PeerChange {
  readonly type: "joined" | "updated" | "left";
  /** The peer, as it is now or was last. */
  readonly peer: Peer;
}

/** Told of keys. Every function may be left out. */
export interface KeyChangeListener {
  /** A key has this state: its current value (`state.isSnapshot`), or a change. */
  onKeyChanged?(state: State): void;
  /** All current values were given; what follows are changes. */
  onSnapshotEnd?(): void;
  /** The server does not let this listener listen (any more), such as with `FORBIDDEN`. It is dropped next. */
  onRefused?(error: SessionStoreError): void;
  /** The listener is told nothing any more: it was cancelled or refused, or the client is closed. */
  onDropped?(): void;
}

/** What may be said of any request. */
export interface RequestOptions {
  /**
   * Stops waiting when it is aborted, with its reason. A request that was not sent by then never is; one that was may
   * have been applied or not.
   */
  signal?: AbortSignal | undefined;
}

/** A registration. */
export interface Subscription {
  /** Ends it: from now on the listener is told nothing but `onDropped`. May be called anywhere, and again. */
  cancel(): void;
}

/** What a broken connection means for a request. */
export const enum Kind {
  /** It ends with the connection that it was sent on. */
  OfConnection,
  /** It changes nothing: it may be sent any number of times. */
  Read,
  /** It takes a lock, as a change. One that is granted when nobody waits any more is given back, so it counts as not taken. */
  Acquire,
  /** It changes something: sent again on the next connection, and applied once. */
  Change,
  /** The same, on a condition that only this session can meet: a version, or a lock. */
  Guarded,
}

const enum Stage {
  Unsent,
  /** On the current connection. */
  Sent,
  /** On one that broke. */
  SentBefore,
}

interface Pending {
  readonly _kind: Kind;
  readonly _frame: string;
  _stage: Stage;
  /** When it was sent first, or 0. */
  _sentAt: number;
  /** With an error, or with a result without one. */
  _ended(error: unknown, result?: unknown): void;
}

/** Most requests that change something and that are sent without having their answers: half of those the server remembers. */
const MAX_IN_FLIGHT = 256;

/** Longest their messages may be together, unless there is only one: a quarter of the bytes that the server keeps of their answers. */
const MAX_IN_FLIGHT_LENGTH = 128 * 1024;

/** So many answers arrive before the server is told that they did: a message for each would cost as much as the request. */
const TOLD_AT_ONCE = 32;

/** A longer listen set, with its escapes, is sent as a message: servers and proxies bound the head of a request, usually at 8 KiB. */
const MAX_QUERY_LENGTH = 2048;

/** Does something when it is aborted, until what this returns is called. Throws the reason if it is already. */
export function onAbort(signal: AbortSignal | undefined, act: (reason: unknown) => void): () => void {
  signal?.throwIfAborted();
  const abort = () => act(signal!.reason);
  signal?.addEventListener("abort", abort);
  return () => signal?.removeEventListener("abort", abort);
}

/**
 * Trying again cannot help: INVALID_ROOM, INVALID_PEER, INVALID_URL, REPLACED, UNAUTHORIZED, TOKEN_EXPIRED, PEER_MISMATCH,
 * ORIGIN_NOT_ALLOWED, KICKED, ROOM_CLOSED.
 */
const FINAL = [6, 7, 8, 108, 200, 201, 210, 219, 223, 224];

/** A registered listener, of keys or of the client. */
interface Cell<L extends { onDropped?(): void }> {
  _listener: L;
  _live: boolean;
}

const isChange = ({ _kind }: Pending) => _kind > Kind.Read;

/** What a request that ends without an answer is told: that nobody knows whether it was applied, if that is so. */
const unanswered = (request: Pending, reason: SessionStoreError) =>
  request._kind > Kind.Acquire && request._stage ? fault("OUTCOME_UNKNOWN") : reason;

const badUrl = () => fault("INVALID_URL", "it is like ws://host:port or wss://host/path");

/** Where the server is, without a query. */
function address(url: string): string {
  try {
    const parsed = new URL(url);
    if (parsed.pathname === "/") parsed.pathname = "/ws";
    if (/^wss?:[^?#@]+$/.test(parsed.href)) return parsed.href;
  } catch {}
  throw badUrl();
}

/** The life of one client: joining, requests, listeners, coming back. */
export function makeCore(options: ClientOptions) {
  const { room, role, userId } = options;
  // As they were last changed: the client comes back with them.
  let { name = "", metadata = "", token } = options;
  /** The last token that the server took, or the first. */
  let goodToken = token;
  const peerId = options.peerId || random();
  const baseUrl = address(options.url);
  if (room !== undefined || !token) check("INVALID_ROOM", room, 1, 128);
  const limits = [
    [name, 256],
    [userId, 128],
    [role, 64],
    [peerId, 128],
    // Any text may be metadata.
    [metadata, 2048, /[]/],
  ] as const;
  for (const [text, most, forbidden] of limits) check("INVALID_PEER", text, 0, most, forbidden);
  const {
    requestTimeoutMs = 10_000,
    reconnectMinMs = 250,
    reconnectMaxMs = 10_000,
    heartbeatMs = 10_000,
    maxPending = 1_024,
    failFast,
    reportError = globalThis.reportError ?? console.error,
    WebSocket = globalThis.WebSocket as (new (url: string) => WebSocketLike) | undefined,
  } = options;
  for (const limit of [requestTimeoutMs, reconnectMinMs, reconnectMaxMs, heartbeatMs, maxPending]) {
    // Timers take no more.
    if (!(limit > 0 && limit < 2 ** 31)) throw fault("INVALID_ARGUMENT", "limits are above 0, below 2^31");
  }
  if (!WebSocket) throw fault("INVALID_ARGUMENT", "pass the WebSocket of package ws");

  let state: ConnectionState = "connecting";
  let joinedOnce = false;
  let keepJoining: () => void;
  let breakJoining: (error: SessionStoreError) => void;
  const joining = new Promise<void>((resolve, reject) => {
    keepJoining = resolve;
    breakJoining = reject;
  });
  // Perhaps nobody waits for it.
  joining.catch(() => {});
  /** Why the client is not connected. */
  let lastError: SessionStoreError | undefined;
  /** The locks that this peer holds. */
  const locks = new Set<Lock>();
  const secret = random();
  let current: WebSocketLike | undefined;

  const updates = new Set<Cell<ClientListener>>();
  const peerMap = new Map<string, Peer>();
  let peerList: readonly Peer[] | undefined;

  const pending = new Map<number, Pending>();
  let lastId = 0;
  /** The highest id of a change that was sent and has ended, and how many have since the server was told. */
  let lastEnded = 0;
  let ended = 0;
  /** Not known until the server has said so. */
  let maxMessageBytes = Infinity;
  /** Requests for locks that nobody waits for any more: what is granted yet is given back. */
  const abandoned = new Set<number>();

  /** The generation of the listen set that the server's next snapshot answers, and the one last sent. */
  let answeredListen = 0;
  let sentListen = 0;
  /** Listen requests without an answer: id and generation. */
  let listens: [id: number, generation: number][] = [];
  /** Too much came too fast: the listen set is sent again in a while. */
  let listenPauses = false;

  let joinId = 0;
  let peerNumber: number | undefined;
  /** The join was granted on this connection, and the peer list is still to come. */
  let welcomed = false;
  /** For how many heartbeats nothing was heard. */
  let silence = 0;
  /** After what time the server said to come back when it stopped. */
  let comeBackMs: number | undefined;
  /** Attempts to connect since the last connection that lasted until a heartbeat. */
  let attempts = 0;
  /** The next attempt, the end of the time for this one, or the next heartbeat: never two at a time. */
  let timer: Timer;

  let queue: (() => unknown)[] = [];
  let wakes = false;

  const replica = new Replica();

  // ---------------------------------------------------------------- telling

  /** Does something after everything that was to be told before, and never inside a call of the app. */
  function push(item: () => unknown): void {
    queue.push(item);
    wake();
  }

  /** Sends and tells what waits, as soon as the app's own code has run. */
  function wake(): void {
    if (wakes) return;
    wakes = true;
    queueMicrotask(drain);
  }

  function drain(): void {
    // Also what is put in meanwhile.
    for (const item of queue) safely(item);
    queue = [];
    wakes = false;
    flush();
  }

  /** What a listener throws, or its promise, concerns nobody else. */
  function safely(call: () => any): void {
    // Out of here, whatever it does.
    const report = (error: unknown) => queueMicrotask(() => reportError(error));
    try {
      call()?.catch?.(report);
    } catch (error) {
      report(error);
    }
  }

  function deliver<L extends { onDropped?(): void }>(cell: Cell<L>, call: (listener: L) => unknown): void {
    push(() => cell._live && call(cell._listener));
  }

  function drop(cell: Cell<{ onDropped?(): void }>): void {
    if (!cell._live) return;
    cell._live = false;
    push(() => cell._listener.onDropped?.());
  }

  function tell(call: (listener: ClientListener) => unknown): void {
    updates.forEach((cell) => deliver(cell, call));
  }

  function tellState(now: ConnectionState, why?: SessionStoreError): void {
    state = now;
    lastError = why;
    tell((listener) => listener.onState?.(now, why));
  }

  // ---------------------------------------------------------------- listeners

  function listen(selector: Selector, listener: KeyChangeListener): Subscription {
    const { keys, prefixes } = checkedSelector(selector);
    mustBeOpen();
    const cell = { _listener: listener, _live: true };
    const one: Listening = {
      _keys: keys,
      _prefixes: prefixes,
      _tell: (state) => deliver(cell, () => (state ? listener.onKeyChanged?.(state) : listener.onSnapshotEnd?.())),
      _end: (error) => {
        if (!error) return drop(cell);
        deliver(cell, () => listener.onRefused?.(error));
        push(() => drop(cell));
      },
    };
    replica._add(one);
    wake();
    return {
      cancel: () => {
        replica._remove(one);
        drop(cell);
      },
    };
  }

  function observe(listener: ClientListener): Subscription {
    mustBeOpen();
    const cell = { _listener: listener, _live: true };
    // Those who are here are told to this listener alone.
    peers().forEach((peer) => peer.id === peerId || deliver(cell, (listener) => listener.onPeer?.({ type: "joined", peer })));
    updates.add(cell);
    return {
      cancel: () => {
        updates.delete(cell);
        drop(cell);
      },
    };
  }

  function mustBeOpen(): void {
    if (state === "closed") throw fault("CLOSED");
  }

  function endListeners(ended: readonly Listening[], error?: SessionStoreError): void {
    for (const one of ended) {
      replica._remove(one);
      one._end(error);
    }
  }

  /** Ends the listeners that wait for a listen set, or all when none waits: then the set as a whole is too much. */
  function refuseListeners(generation: number, error: SessionStoreError): void {
    const all = [...replica._listeners];
    const waiting = all.filter((one) => !one._live && one._since! <= generation);
    endListeners(waiting.length ? waiting : all, error);
  }

  // ---------------------------------------------------------------- peers

  /** Everybody in the room, in the order of their ids; the same array until it changes. */
  function peers(): readonly Peer[] {
    return (peerList ??= [...peerMap.values()].sort((a, b) => (a.id < b.id ? -1 : 1)));
  }

  function setPeer(id: string, peer?: Peer): void {
    const before = peerMap.get(id);
    if (before && peer && stringify(before) === stringify(peer)) return;
    if (peer) peerMap.set(id, peer);
    else if (!peerMap.delete(id)) return;
    peerList = undefined;
    tell((listener) => listener.onPeers?.());
    if (id === peerId) return;
    const type = !peer ? "left" : before ? "updated" : "joined";
    tell((listener) => listener.onPeer?.({ type, peer: (peer ?? before)! }));
  }

  // ---------------------------------------------------------------- requests

  /**
   * Makes a request. What comes with its answer is told before the promise is kept.
   */
  function request<T>(
    method: string,
    params: object,
    kind: Kind,
    read: (result: any, sentAt: number) => T,
    { signal, timeoutMs = requestTimeoutMs }: RequestOptions & { timeoutMs?: number } = {},
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      mustBeOpen();
      if (pending.size >= maxPending) throw fault("QUEUE_FULL");
      const id = ++lastId;
      const frame = message(method, params, id);
      const request: Pending = {
        _kind: kind,
        _frame: frame,
        _stage: Stage.Unsent,
        _sentAt: 0,
        _ended: (error, result) => {
          clearTimeout(timeout);
          forget();
          let value: T;
          try {
            // What an app gives up with may be anything else, null included.
            if (error === undefined) value = read(result, request._sentAt);
          } catch {
            error = fault("INTERNAL");
          }
          push(() => (error === undefined ? resolve(value) : reject(error)));
        },
      };
      const giveUp = (reason: unknown) => {
        if (kind === Kind.Acquire && request._stage) abandoned.add(id);
        take(id)?._ended(reason);
      };
      const forget = onAbort(signal, giveUp);
      const timeout = setTimeout(() => giveUp(unanswered(request, fault("TIMEOUT"))), timeoutMs);
      pending.set(id, request);
      wake();
    });
  }

  /** Takes a request out: it has ended. */
  function take(id: number): Pending | undefined {
    const request = pending.get(id);
    if (request && pending.delete(id) && isChange(request) && request._stage) {
      lastEnded = Math.max(lastEnded, id);
      ended++;
    }
    return request;
  }

  /** Ends those that meet a condition. */
  function endThose(wanted: (request: Pending) => unknown, reason: SessionStoreError): void {
    for (const [id, request] of pending) {
      if (wanted(request)) take(id)!._ended(unanswered(request, reason));
    }
  }

  /** Sends what waits: the listen set if it changed, then the requests in their order. */
  function flush(): void {
    if (state !== "connected") return;
    const generation = replica._generation;
    if (generation !== sentListen && !listenPauses) {
      try {
        send("listen-metadata-change", replica._listenSet, ++lastId);
      } catch (error) {
        // Those who came last end; what is left is asked for anew.
        refuseListeners(Infinity, error as SessionStoreError);
        return flush();
      }
      sentListen = generation;
      listens.push([lastId, generation]);
    }
    let inFlight = 0;
    let length = 0;
    for (const request of pending.values()) {
      if (isChange(request)) {
        length += request._frame.length;
        if (inFlight++ && (inFlight > MAX_IN_FLIGHT || length > MAX_IN_FLIGHT_LENGTH)) break;
      }
      if (request._stage === Stage.Sent) continue;
      request._stage = Stage.Sent;
      request._sentAt ||= Date.now();
      current!.send(request._frame);
    }
    acknowledge(TOLD_AT_ONCE);
  }

  /** For a larger message than it takes the server would close the connection, again and again. */
  function message(method: string, params: object, id?: number): string {
    // Values are texts by now: what is no JSON is something else, such as a time.
    const frame = stringify({ id, method, params }, "INVALID_ARGUMENT");
    if (byteLength(frame) > maxMessageBytes) throw fault("MESSAGE_TOO_LARGE");
    return frame;
  }

  function send(method: string, params: object, id?: number): void {
    current?.send(message(method, params, id));
  }

  /** Tells the server, which keeps its answers until then, which of them have arrived; once they are so many. */
  function acknowledge(least: number): void {
    if (ended < least) return;
    ended = 0;
    // What waits although later ones were answered, as for a lock: fewer than the server remembers.
    const except = [...pending].flatMap(([id, request]) => (id <= lastEnded && isChange(request) && request._stage ? id : []));
    send("answered", { through: lastEnded, except });
  }

  async function leave(options?: RequestOptions): Promise<void> {
    // Without a connection there is nothing to say: the server notices by itself.
    mustBeOpen();
    if (state !== "connected") return close();
    try {
      await request("leave", {}, Kind.OfConnection, () => close(undefined, true), options);
    } catch (error) {
      if (state === "connected" || options?.signal?.aborted) throw error;
      close();
    }
  }

  async function updatePeer(change: { name?: string; metadata?: string } & RequestOptions): Promise<void> {
    const { name: newName, metadata: data } = change;
    await request("peer-update", { name: newName, data }, Kind.Change, () => {}, change);
    name = newName ?? name;
    metadata = data ?? metadata;
    const own = peerMap.get(peerId);
    if (own) setPeer(peerId, { ...own, name, metadata });
  }

  async function renewToken(fresh: string, options?: RequestOptions): Promise<void> {
    // Also for a connection that is made before the answer: the old one may have expired.
    token = fresh;
    try {
      await request("renew-token", { token }, Kind.Change, () => {}, options);
      goodToken = fresh;
    } finally {
      if (state === "connected") token = goodToken;
    }
  }

  // ---------------------------------------------------------------- the connection

  function connect(): void {
    if (state === "closed") return;
    listens = [];
    abandoned.clear();
    welcomed = false;
    joinId = ++lastId;
    const { keys, prefixes } = replica._listenSet;
    const url = new URL(baseUrl);
    const since = replica._knownUpTo();
    const named = stringify(keys);
    const covered = stringify(prefixes);
    // Perhaps it was the listen set for which the last attempt was refused, which a web page cannot see.
    const listening = encodeURI(named + covered).length <= MAX_QUERY_LENGTH && (since !== undefined || !attempts);
    const query = {
      room,
      role,
      name,
      user_id: userId,
      peer: peerId,
      data: metadata,
      token,
      join: joinId,
      secret,
      ...(listening && { listen: named, prefixes: covered, session: since! >= 0 && replica._sessionId, since }),
    };
    for (const [parameter, value] of Object.entries(query)) {
      if (value || value === 0) url.searchParams.set(parameter, value as string);
    }
    answeredListen = sentListen = listening ? replica._generation : 0;
    let socket: WebSocketLike;
    try {
      socket = current = new WebSocket!(url.href);
    } catch {
      // As of ws:// on a page that came by https://.
      return close(badUrl());
    }
    socket.onmessage = ({ data }) => {
      silence = 0;
      handle(data);
      wake();
    };
    socket.onclose = ({ code, reason }) => {
      const told = code === 1012 ? "SHUTTING_DOWN" : names[code - 4000];
      // Of a peer that was removed and a room that was closed, the reason is what the operator says.
      const why = (code > 4222 && reason) || undefined;
      lost(fault(told ?? (state === "connected" ? "CONNECTION_LOST" : "CONNECTION_FAILED"), why));
    };
    // It is closed next. The package `ws` says with which HTTP status the server refused; browsers do not.
    socket.onerror = ({ message }) => {
      if (/ 40[13]$/.test(message) && current === socket) lost(fault("UNAUTHORIZED"));
    };
    timer = setTimeout(
      () => lost(fault("CONNECTION_FAILED")),
      requestTimeoutMs,
    );
  }

  /** The connection is gone, or could not be made. */
  function lost(error: SessionStoreError): void {
    disconnect();
    endThose(({ _kind, _stage }) => _kind === Kind.OfConnection && _stage, error);
    pending.forEach((request) => (request._stage &&= Stage.SentBefore));
    if (FINAL.includes(error.code) || (failFast && !joinedOnce)) return close(error);
    tellState(joinedOnce ? "reconnecting" : "connecting", error);
    // Exponential, and drawn between half of that and the whole, so that clients that lost their server together do not
    // return together. A server that stops tells each client another time; who is sent away again at once waits longer.
    const pauseMs = Math.min(reconnectMinMs * 2 ** attempts, reconnectMaxMs) * (1 - Math.random() / 2);
    const toldMs = Math.min(comeBackMs ?? pauseMs, reconnectMaxMs);
    comeBackMs = undefined;
    timer = setTimeout(connect, attempts++ ? Math.max(pauseMs, toldMs) : toldMs);
  }

  function disconnect(): void {
    clearTimeout(timer);
    if (!current) return;
    // Whatever it says from now on is of no interest.
    current.onmessage = current.onclose = null;
    current.close(1000);
    current = undefined;
  }

  /** Ends everything, once: what waits, the locks, every listener. */
  function close(reason?: SessionStoreError, hasLeft = false): void {
    if (state === "closed") return;
    if (state === "connected" && !hasLeft) send("leave", {});
    disconnect();
    const error = reason ?? fault("CLOSED");
    endThose(() => true, error);
    locks.forEach((lock) => lock._lose(error));
    endListeners([...replica._listeners]);
    tellState("closed", reason);
    breakJoining(error);
    updates.forEach((cell) => push(() => drop(cell)));
    updates.clear();
  }

  /** Comes once in a while: the first time in which nothing was heard the server is asked for a sign, the second is the end. */
  function heartbeat(): void {
    // Not before: a server that lets this client in and closes the connection at once must not be asked again and again
    // without pauses that grow.
    attempts = 0;
    if (silence > 1) return lost(fault("CONNECTION_LOST"));
    if (silence++) {
      acknowledge(1);
      send("ping", {}, ++lastId);
    }
  }

  // ---------------------------------------------------------------- what arrives

  function handle(data: unknown): void {
    try {
      const { id, method, params, result, error } = parseMessage(data as string);
      if (method) notified[method]?.(params);
      else answered(+id, result, error ? readError(error) : undefined);
    } catch {
      // A message that this version cannot read is skipped: what it needs of later servers, it asks for by requests, and
      // those are answered or time out.
    }
  }

  /** What the server tells of itself, by its name. */
  const notified: { [method: string]: (params: any) => void } = {
    "on-metadata-change"({ values, snapshot }) {
      const states = values.map(readState);
      if (snapshot) replica._snapshot(answeredListen, states);
      else replica._notified(states);
    },
    "on-listen-revoked"(params) {
      endListeners(
        [...replica._listeners].filter(({ _keys }) => _keys.some((key) => params.keys.includes(key))),
        readError(params),
      );
    },
    "on-token-expiring"({ expiresAt }) {
      must(expiresAt, 0);
      tell((listener) => listener.onTokenExpiring?.(expiresAt));
    },
    "on-lock-lost"({ name, token }) {
      locks.forEach((lock) => lock.name === name && lock.token === token && lock._lose(fault("LOCK_LOST")));
    },
    "on-server-stop"(params) {
      comeBackMs = must(params.comeBackMs, 0);
    },
    "peer-list": listed,
    "on-peer-join": peerChanged,
    "on-peer-update": peerChanged,
    "on-peer-leave"({ peerId }) {
      setPeer(peerId);
    },
  };

  function peerChanged(params: any): void {
    const peer = readPeer(params);
    setPeer(peer.id, peer);
  }

  function answered(id: number, result: any, error?: SessionStoreError): void {
    if (id === joinId) return error ? lost(error) : joined(result);
    const [first] = listens;
    if (first?.[0] === id) {
      listens.shift();
      if (!error) answeredListen = first[1];
      else if (error.name !== "RATE_LIMITED") refuseListeners(first[1], error);
      else {
        // Nobody need know.
        sentListen = -1;
        listenPauses = true;
        setTimeout(() => {
          listenPauses = false;
          flush();
        }, error.retryAfterMs);
      }
      return;
    }
    take(id)?._ended(error, result);
    // A lock that was granted too late is given back.
    if (abandoned.delete(id) && result) release(result).catch(() => {});
  }

  /** Reads a state in an answer, which the listeners are told before whoever asked. */
  function readAnswer(result: unknown): State {
    const state = readState(result);
    replica._acknowledged(state);
    return state;
  }

  function release({ name, token }: { name: string; token: number }, options?: RequestOptions): Promise<void> {
    return request("lock-release", { name, token }, Kind.Guarded, () => {}, options);
  }

  function joined(result: any): void {
    const { sessionId, revision, returned, resumes, peerNumber: number } = result;
    must(sessionId, "");
    // Of servers that do not say theirs: what they have unless told otherwise.
    maxMessageBytes = result.maxMessageBytes ?? 65_536;
    endThose(({ _frame }) => byteLength(_frame) > maxMessageBytes, fault("MESSAGE_TOO_LARGE"));
    // The answer to an earlier join may have been lost: then it was another peer that was come back to.
    const samePeer = returned && peerNumber === number;
    peerNumber = number;
    const anotherSession = replica._joined(sessionId, must(revision, 0), samePeer);
    const anotherPeer = anotherSession || !samePeer;
    const error = fault("SESSION_LOST");
    // What was sent before counts as unknown also with a server that does not know what it answered.
    if (anotherPeer || !resumes) {
      endThose((request) => isChange(request) && request._stage, error);
      // Its answers were the other peer's.
      ended = 0;
    }
    // On a condition that only the session before could meet.
    if (anotherSession) endThose((request) => request._kind === Kind.Guarded && !request._stage, error);
    if (anotherPeer && joinedOnce) {
      locks.forEach((lock) => lock._lose(error));
      tell((listener) => listener.onError?.(error));
    }
    welcomed = true;
  }

  /** The whole list, after a join or instead of news that a slow connection missed. */
  function listed(list: any): void {
    const peers = readPeers(list);
    if (welcomed) {
      // The join is complete only now, so that whoever is told can ask who is in the room.
      welcomed = false;
      joinedOnce = true;
      keepJoining();
      tellState("connected");
      clearTimeout(timer);
      timer = setInterval(heartbeat, heartbeatMs);
    }
    const left = new Set(peerMap.keys());
    for (const peer of peers) {
      setPeer(peer.id, peer);
      left.delete(peer.id);
    }
    left.forEach((id) => setPeer(id));
  }

  // Whoever listens at once is answered with the join.
  queueMicrotask(connect);
  return {
    get _state() {
      return state;
    },
    get _error() {
      return lastError;
    },
    _joining: joining,
    _peerId: peerId,
    _requestTimeoutMs: requestTimeoutMs,
    _replica: replica,
    _locks: locks,
    _push: push,
    _request: request,
    _readState: readAnswer,
    _readStates: ({ revision, values }: any): States => ({ revision: must(revision, 0), states: values.map(readAnswer) }),
    _release: release,
    _listen: listen,
    _observe: observe,
    _peers: peers,
    _updatePeer: updatePeer,
    _renewToken: renewToken,
    _leave: leave,
    _close: close,
  };
}

/** The inside of a client. */
export type Core = ReturnType<typeof makeCore>;

type Timer = ReturnType<typeof setTimeout> | undefined;
