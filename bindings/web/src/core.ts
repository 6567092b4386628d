import { SessionStoreError, nameOf, type ErrorName } from "./errors.js";
import { stringify } from "./json.js";
import { Replica } from "./replica.js";
import {
  type Peer,
  type Selector,
  type State,
  bytes,
  check,
  checkedSelector,
  count,
  list,
  parseMessage,
  readError,
  readPeer,
  readPeers,
  readState,
  readWelcome,
} from "./values.js";

/** Where a client stands. */
export type ConnectionState = "connecting" | "connected" | "reconnecting" | "closed";

/** A WebSocket as the client needs it: that of browsers, of Node from version 22 on, or of the package `ws`. */
export interface WebSocketLike {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

/** How and where to join. */
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
  /** This peer's name, shown to others, at most 256 bytes. */
  name?: string;
  /** The role asked of an open server. Default: the server's. */
  role?: string;
  /** The user id told to an open server, at most 128 bytes. */
  userId?: string;
  /** This peer's metadata, any text of at most 2,048 bytes. */
  metadata?: string;
  /** This peer's id. Default: a random one. It must not be used by two clients at once. */
  peerId?: string;
  /** How long one request may take, in milliseconds. Default 10,000. Without a connection a request waits within this time. */
  requestTimeoutMs?: number;
  /** How long one attempt to join may take, in milliseconds. Default 10,000. */
  connectTimeoutMs?: number;
  /**
   * Waiting time before the first attempt to reconnect, in milliseconds; doubled for each that fails. The actual time is
   * drawn between half of it and the whole. Default 250.
   */
  reconnectMinMs?: number;
  /** The longest waiting time between two attempts, in milliseconds. Default 10,000. */
  reconnectMaxMs?: number;
  /**
   * After how much silence the client asks the server for a sign, in milliseconds. Default 10,000. After as much again
   * without one the connection counts as broken.
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
  /** It changes nothing: it may be sent any number of times. */
  Read,
  /** It changes something: sent again on the next connection, and applied once. */
  Change,
  /** The same, on a condition that only this session can meet: a version, or a lock. */
  Guarded,
  /** It ends with the connection that it was sent on. */
  OfConnection,
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
  readonly _size: number;
  _stage: Stage;
  _answered(result: unknown): void;
  _failed(error: unknown): void;
}

/** Most requests that change something and that are sent without having their answers: half of those the server remembers. */
const MAX_IN_FLIGHT = 256;

/** Most bytes of their messages, unless there is only one: a quarter of what the server keeps of their answers. */
const MAX_IN_FLIGHT_BYTES = 128 * 1024;

/** So many answers arrive before the server is told that they did: a message for each would cost as much as the request. */
const TOLD_AT_ONCE = 32;

/** So many requests may be named that wait although later ones were answered. */
const MAX_EXCEPTIONS = 16;

/** A listen set whose query would be longer is sent as a message: servers and proxies bound the head of a request, usually at 8 KiB. */
const MAX_QUERY_BYTES = 4096;

/** A longer time would end at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Trying again cannot help. */
const FINAL: ErrorName[] = [
  "UNAUTHORIZED",
  "TOKEN_EXPIRED",
  "REPLACED",
  "PEER_MISMATCH",
  "INVALID_ROOM",
  "INVALID_PEER",
  "INVALID_URL",
  "ORIGIN_NOT_ALLOWED",
];

/** A registered listener, of keys or of the client. */
interface Cell<L extends { onDropped?(): void }> {
  _listener: L;
  _live: boolean;
}

/** Something that lives as long as the connection does: a lock, told when there is a connection again, and when it is lost. */
export interface Tied {
  _connected(): void;
  _lost(error: SessionStoreError): void;
}

const random = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const asError = (name: ErrorName, message?: string) => new SessionStoreError(name, message);

const isChange = (request: Pending) => request._kind === Kind.Change || request._kind === Kind.Guarded;

/** What a request that ends without an answer is told: that nobody knows whether it was applied, if that is so. */
const unanswered = (request: Pending, reason: SessionStoreError) =>
  isChange(request) && request._stage
    ? asError("OUTCOME_UNKNOWN", `The request was sent and may have been applied; look at the current state. Then: ${reason.message}`)
    : reason;

/** Where the server is, without a query. */
function address(url: string): string {
  let parsed: URL | undefined;
  try {
    parsed = new URL(url);
  } catch {}
  const { protocol, search, hash, username, password } = parsed ?? {};
  if (!parsed || !/^wss?:$/.test(protocol!) || search || hash || username || password) {
    throw asError("INVALID_URL", "the URL looks like ws://host:port or wss://host:port/path, without a query, user name or password");
  }
  if (parsed.pathname === "/") parsed.pathname = "/ws";
  return parsed.href;
}

/** The life of one client: joining, requests, listeners, coming back. */
export class Core {
  readonly _peerId: string;
  _state: ConnectionState = "connecting";
  _joinedOnce = false;
  /** Why the client is not connected. */
  _error: SessionStoreError | undefined;
  readonly _replica: Replica;
  readonly _tied = new Set<Tied>();
  readonly _requestTimeoutMs: number;

  private readonly _options: ClientOptions;
  private readonly _url: string;
  private readonly _secret = random();
  private _token: string | undefined;
  private _socket: WebSocketLike | undefined;

  private readonly _cells = new Map<number, Cell<KeyChangeListener>>();
  private readonly _updates = new Set<Cell<ClientListener>>();
  private _lastListener = 0;
  private _peerMap = new Map<string, Peer>();
  private _peerList: readonly Peer[] | undefined;

  private readonly _pending = new Map<number, Pending>();
  private _lastId = 0;
  private _inFlight = 0;
  private _inFlightBytes = 0;
  /** The highest id of a change that was sent and has ended, and how many have since the server was told. */
  private _lastEnded = 0;
  private _ended = 0;
  /** Requests for locks that nobody waits for any more: what is granted yet is given back. */
  private readonly _abandoned = new Set<number>();

  /** The generation of the listen set that the server's next snapshot answers, and the one last sent. */
  private _answeredListen = 0;
  private _sentListen = 0;
  /** Listen requests without an answer: id and generation. */
  private _listens: [id: number, generation: number][] = [];
  private _listenAgain: ReturnType<typeof setTimeout> | undefined;
  /** Whether the last attempt was refused without a reason: then the listen set is not what it is tried with again. */
  private _refusedUnseen = false;

  private _joinId = 0;
  private _peerNumber: number | undefined;
  private _resumes = false;
  private _welcomed = false;
  private _lastHeard = 0;
  private _pinged = false;
  private _comeBackMs: number | undefined;
  private _attempts = 0;
  /** The next attempt, the end of the time for this one, or the next heartbeat: never two at a time. */
  private _timer: ReturnType<typeof setTimeout> | undefined;

  private _queue: (() => void)[] = [];
  private _wakes = false;
  private _drains = false;

  constructor(options: ClientOptions) {
    const { room, token, name = "", role, userId = "", metadata = "" } = options;
    this._url = address(options.url);
    if (room !== undefined || !token) check("INVALID_ROOM", "room name", room ?? "", 1, 128);
    check("INVALID_PEER", "peer name", name, 0, 256);
    check("INVALID_PEER", "user id", userId, 0, 128);
    if (role !== undefined) check("INVALID_PEER", "role", role, 1, 64);
    if (bytes(metadata) > 2048) throw asError("INVALID_PEER", "the peer metadata must have at most 2,048 bytes");
    this._peerId = check("INVALID_PEER", "peer id", options.peerId ?? random(), 1, 128);
    this._options = { requestTimeoutMs: 10_000, connectTimeoutMs: 10_000, reconnectMinMs: 250, reconnectMaxMs: 10_000, heartbeatMs: 10_000, maxPending: 1_024, ...options };
    const { requestTimeoutMs, connectTimeoutMs, reconnectMinMs, reconnectMaxMs, heartbeatMs, maxPending } = this._options;
    const numbers = [requestTimeoutMs, connectTimeoutMs, reconnectMinMs, heartbeatMs, maxPending];
    if (!numbers.every((number) => number! > 0) || !(reconnectMaxMs! >= reconnectMinMs!)) {
      throw asError("INVALID_ARGUMENT", "time-outs and maxPending must be above 0, and reconnectMaxMs not below reconnectMinMs");
    }
    const makeSocket = options.WebSocket ?? (globalThis.WebSocket as (new (url: string) => WebSocketLike) | undefined);
    if (!makeSocket) {
      throw asError("INVALID_ARGUMENT", 'there is no WebSocket here; install the package "ws" and pass its WebSocket with the options');
    }
    this._options.WebSocket = makeSocket;
    this._requestTimeoutMs = requestTimeoutMs!;
    this._token = token;
    this._replica = new Replica((id, state) => {
      const cell = this._cells.get(id);
      if (cell) this._deliver(cell, (listener) => (state ? listener.onKeyChanged?.(state) : listener.onSnapshotEnd?.()));
    });
    // The network is back: nobody waits any longer.
    globalThis.addEventListener?.("online", this._online);
    this._connect();
  }

  private readonly _online = () => {
    if (!this._socket) this._connect();
  };

  // ---------------------------------------------------------------- telling

  /** Does something after everything that was to be told before, and never inside a call of the app. */
  _push(item: () => void): void {
    this._queue.push(item);
    this._wake();
  }

  /** Sends and tells what waits, as soon as the app's own code has run. */
  private _wake(): void {
    if (this._wakes) return;
    this._wakes = true;
    queueMicrotask(() => this._drain());
  }

  private _drain(): void {
    if (this._drains) return;
    this._wakes = this._drains = true;
    for (let at = 0; at < this._queue.length; at++) this._safely(this._queue[at]!);
    this._queue = [];
    this._wakes = this._drains = false;
    this._flush();
  }

  /** What a listener throws, or its promise, concerns nobody else. */
  private _safely(call: () => unknown): void {
    const report = (error: unknown) => (this._options.reportError ?? globalThis.reportError ?? console.error)(error);
    try {
      const result = call();
      if (result instanceof Promise) result.catch(report);
    } catch (error) {
      try {
        report(error);
      } catch {}
    }
  }

  private _deliver<L extends { onDropped?(): void }>(cell: Cell<L>, call: (listener: L) => unknown): void {
    this._push(() => (cell._live ? call(cell._listener) : undefined));
  }

  private _drop<L extends { onDropped?(): void }>(cell: Cell<L>): void {
    cell._live = false;
    this._push(() => cell._listener.onDropped?.());
  }

  private _tell(call: (listener: ClientListener) => unknown): void {
    this._updates.forEach((cell) => this._deliver(cell, call));
  }

  private _tellState(state: ConnectionState, error?: SessionStoreError): void {
    this._state = state;
    this._error = error;
    this._tell((listener) => listener.onState?.(state, error));
  }

  // ---------------------------------------------------------------- listeners

  _listen(selector: Selector, listener: KeyChangeListener): Subscription {
    const { keys, prefixes } = checkedSelector(selector);
    this._mustBeOpen();
    const id = ++this._lastListener;
    const cell = { _listener: listener, _live: true };
    this._cells.set(id, cell);
    this._replica._add(id, keys, prefixes);
    this._wake();
    return {
      cancel: () => {
        if (!cell._live) return;
        this._cells.delete(id);
        this._replica._remove(id);
        this._drop(cell);
      },
    };
  }

  _observe(listener: ClientListener): Subscription {
    this._mustBeOpen();
    const cell = { _listener: listener, _live: true };
    // Those who are here are told to this listener alone.
    this._others().forEach((peer) => this._deliver(cell, (listener) => listener.onPeer?.({ type: "joined", peer })));
    this._updates.add(cell);
    return {
      cancel: () => {
        this._updates.delete(cell);
        if (cell._live) this._drop(cell);
      },
    };
  }

  private _mustBeOpen(): void {
    if (this._state === "closed") throw asError("CLOSED");
  }

  private _endListeners(ids: readonly number[], error: SessionStoreError): void {
    for (const id of ids) {
      const cell = this._cells.get(id);
      this._replica._remove(id);
      if (!cell || !this._cells.delete(id)) continue;
      this._push(() => {
        if (cell._live) this._safely(() => cell._listener.onRefused?.(error));
        if (cell._live) this._drop(cell);
      });
    }
  }

  /** Ends the listeners that wait for a listen set, or all when none waits: then the set as a whole is too much. */
  private _refuseListeners(generation: number, error: SessionStoreError): void {
    const refused = this._replica._waiting(generation);
    this._endListeners(refused.length ? refused : [...this._cells.keys()], error);
  }

  // ---------------------------------------------------------------- peers

  /** Everybody in the room, in the order of their ids; the same array until it changes. */
  _peers(): readonly Peer[] {
    return (this._peerList ??= Object.freeze([...this._peerMap.values()].sort((a, b) => (a.id < b.id ? -1 : 1))));
  }

  private _others(): Peer[] {
    return [...this._peerMap.values()].filter((peer) => peer.id !== this._peerId);
  }

  private _setPeer(id: string, peer: Peer | undefined): void {
    const before = this._peerMap.get(id);
    if (before && peer && stringify(before) === stringify(peer)) return;
    if (peer) this._peerMap.set(id, peer);
    else if (!this._peerMap.delete(id)) return;
    this._peerList = undefined;
    if (id === this._peerId) return;
    const type = !peer ? "left" : before ? "updated" : "joined";
    this._tell((listener) => listener.onPeer?.({ type, peer: (peer ?? before)! }));
  }

  // ---------------------------------------------------------------- requests

  /**
   * Makes a request. What comes with its answer is told before the promise is kept.
   *
   * @param late for a lock that is granted when nobody waits for it any more
   */
  _request<T>(
    method: string,
    params: object,
    kind: Kind,
    read: (result: any) => T,
    { signal, timeoutMs = this._requestTimeoutMs, late = false }: RequestOptions & { timeoutMs?: number; late?: boolean } = {},
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      this._mustBeOpen();
      if (this._pending.size >= this._options.maxPending!) throw asError("QUEUE_FULL");
      const id = ++this._lastId;
      const frame = `{"id":${id},"method":"${method}","params":${stringify(params)}}`;
      const end = (how: () => void) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        this._push(how);
      };
      const request: Pending = {
        _kind: kind,
        _frame: frame,
        _size: bytes(frame),
        _stage: Stage.Unsent,
        _answered: (result) => {
          let value: T;
          try {
            value = read(result);
          } catch {
            return request._failed(asError("INTERNAL", "the server's answer cannot be read"));
          }
          end(() => resolve(value));
        },
        _failed: (error) => end(() => reject(error)),
      };
      const giveUp = (reason: unknown) => {
        if (late && request._stage) this._abandoned.add(id);
        this._take(id)?._failed(reason);
      };
      const timer = setTimeout(() => giveUp(late ? asError("TIMEOUT") : unanswered(request, asError("TIMEOUT"))), Math.min(timeoutMs, LONGEST_TIMER_MS));
      const abort = () => giveUp(signal!.reason);
      signal?.addEventListener("abort", abort);
      this._pending.set(id, request);
      this._wake();
    });
  }

  /** Takes a request out: it has ended. */
  private _take(id: number): Pending | undefined {
    const request = this._pending.get(id);
    if (request && this._pending.delete(id) && isChange(request) && request._stage) {
      if (request._stage === Stage.Sent) {
        this._inFlight--;
        this._inFlightBytes -= request._size;
      }
      this._lastEnded = Math.max(this._lastEnded, id);
      this._ended++;
    }
    return request;
  }

  /** Ends those that meet a condition. */
  private _endThose(wanted: (request: Pending) => boolean, reason: SessionStoreError): void {
    for (const [id, request] of this._pending) {
      if (wanted(request)) this._take(id)!._failed(unanswered(request, reason));
    }
  }

  /** Sends what waits: the listen set if it changed, then the requests in their order. */
  private _flush(): void {
    const socket = this._socket;
    if (!socket || this._state !== "connected") return;
    const generation = this._replica._generation;
    if (generation !== this._sentListen && !this._listenAgain) {
      this._sentListen = generation;
      this._listens.push([++this._lastId, generation]);
      this._send("listen-metadata-change", this._replica._listenSet(), this._lastId);
    }
    for (const request of this._pending.values()) {
      if (request._stage === Stage.Sent) continue;
      if (isChange(request)) {
        const size = this._inFlightBytes + request._size;
        if (this._inFlight && (this._inFlight >= MAX_IN_FLIGHT || size > MAX_IN_FLIGHT_BYTES)) break;
        this._inFlight++;
        this._inFlightBytes = size;
      }
      request._stage = Stage.Sent;
      socket.send(request._frame);
    }
    this._acknowledge(TOLD_AT_ONCE);
  }

  private _send(method: string, params: object, id?: number): void {
    this._socket?.send(stringify({ id, method, params }));
  }

  /** Tells the server, which keeps its answers until then, which of them have arrived; once they are so many. */
  private _acknowledge(least: number): void {
    if (this._ended < least || !this._resumes) return;
    this._ended = 0;
    const open = [...this._pending].filter(([id, request]) => id <= this._lastEnded && isChange(request) && request._stage).map(([id]) => id);
    const next = open[MAX_EXCEPTIONS];
    this._send("answered", { through: next ? next - 1 : this._lastEnded, except: open.slice(0, MAX_EXCEPTIONS) });
  }

  async _leave(options?: RequestOptions): Promise<void> {
    // Without a connection there is nothing to say: the server notices by itself.
    this._mustBeOpen();
    if (this._state !== "connected") return this._close();
    try {
      await this._request("leave", {}, Kind.OfConnection, () => this._close(undefined, true), options);
    } catch (error) {
      if (this._state === "connected" || options?.signal?.aborted) throw error;
      this._close();
    }
  }

  async _updatePeer(name: string | undefined, data: string | undefined, options?: RequestOptions): Promise<void> {
    await this._request("peer-update", { name, data }, Kind.Change, () => {}, options);
    const own = this._peerMap.get(this._peerId);
    if (own) this._setPeer(own.id, Object.freeze({ ...own, name: name ?? own.name, metadata: data ?? own.metadata }));
  }

  async _renewToken(token: string, options?: RequestOptions): Promise<void> {
    await this._request("renew-token", { token }, Kind.Change, () => {}, options);
    this._token = token;
  }

  // ---------------------------------------------------------------- the connection

  private _connect(): void {
    clearTimeout(this._timer);
    this._listens = [];
    this._abandoned.clear();
    this._welcomed = false;
    this._joinId = ++this._lastId;
    const options = this._options;
    const replica = this._replica;
    const { keys, prefixes } = replica._listenSet();
    const url = new URL(this._url);
    const say = (name: string, value: unknown) => {
      if (value !== undefined && value !== "") url.searchParams.set(name, String(value));
    };
    say("room", options.room);
    say("role", options.role);
    say("name", options.name);
    say("user_id", options.userId);
    say("peer", this._peerId);
    say("data", options.metadata);
    say("token", this._token);
    say("join", this._joinId);
    say("secret", this._secret);
    const since = replica._knownUpTo();
    const listen = stringify(keys);
    const cover = stringify(prefixes);
    const listening = bytes(listen + cover) <= MAX_QUERY_BYTES && (since !== undefined || !this._refusedUnseen);
    if (listening) {
      say("listen", listen);
      if (prefixes.length) say("prefixes", cover);
      if (since !== undefined) {
        say("session", replica._sessionId);
        say("since", since);
      }
    }
    this._answeredListen = this._sentListen = listening ? replica._generation : 0;
    let socket: WebSocketLike;
    try {
      socket = new options.WebSocket!(url.href);
    } catch {
      return this._close(asError("INVALID_URL", "a WebSocket to this URL cannot be made here"));
    }
    this._socket = socket;
    let opened = false;
    const isCurrent = () => this._socket === socket;
    socket.onopen = () => {
      opened = true;
    };
    socket.onmessage = ({ data }) => {
      if (!isCurrent()) return;
      this._lastHeard = Date.now();
      this._pinged = false;
      this._handle(data);
      this._drain();
    };
    socket.onclose = ({ code }) => {
      if (!isCurrent()) return;
      this._refusedUnseen = !opened;
      const told = code === 1012 ? "SHUTTING_DOWN" : nameOf(code - 4000);
      this._lost(asError(told !== "UNKNOWN" ? told : opened ? "CONNECTION_LOST" : "CONNECTION_FAILED"));
    };
    // It is closed next.
    socket.onerror = () => {};
    // The package `ws` shows how the server refused; browsers do not.
    (socket as any).on?.("unexpected-response", (_: unknown, response: any) => {
      let body = "";
      response.on("data", (part: unknown) => (body += part));
      response.on("end", () => {
        if (isCurrent()) this._lost(refusal(response.statusCode, body));
      });
    });
    this._timer = setTimeout(
      () => this._lost(asError("CONNECTION_FAILED", `the room was not joined within ${options.connectTimeoutMs} ms`)),
      Math.min(options.connectTimeoutMs!, LONGEST_TIMER_MS),
    );
  }

  /** The connection is gone, or could not be made. */
  private _lost(error: SessionStoreError): void {
    this._disconnect();
    this._inFlight = this._inFlightBytes = 0;
    for (const [id, request] of this._pending) {
      if (!request._stage) continue;
      if (request._kind === Kind.OfConnection) this._take(id)!._failed(error);
      else request._stage = Stage.SentBefore;
    }
    // The handshake carried the whole set; a server whose limit is lower must not keep this client out of the room.
    if (error.name === "TOO_MANY_LISTENED_KEYS") this._refuseListeners(Infinity, error);
    if (FINAL.includes(error.name) || (this._options.failFast && !this._joinedOnce)) return this._close(error);
    this._tellState(this._joinedOnce ? "reconnecting" : "connecting", error);
    this._timer = setTimeout(() => this._connect(), this._pauseMs(error.retryAfterMs ?? 0));
  }

  /**
   * The pause before the next attempt: exponential, and drawn between half of that and the whole, so that clients that
   * lost their server together do not return together. A server that stops tells each client another time.
   */
  private _pauseMs(toldMs: number): number {
    const { reconnectMinMs, reconnectMaxMs } = this._options;
    const most = reconnectMaxMs!;
    const told = this._comeBackMs;
    this._comeBackMs = undefined;
    if (told !== undefined) return Math.min(told, most);
    const half = Math.min(reconnectMinMs! * 2 ** this._attempts++, most) / 2;
    const [least, more] = toldMs > half ? [toldMs, toldMs / 2] : [half, half];
    return Math.min(least + Math.random() * more, most);
  }

  private _disconnect(): void {
    const socket = this._socket;
    this._socket = undefined;
    clearTimeout(this._timer);
    clearTimeout(this._listenAgain);
    this._listenAgain = undefined;
    try {
      socket?.close(1000);
    } catch {}
  }

  /** Ends everything, once: what waits, the locks, every listener. */
  _close(reason?: SessionStoreError, hasLeft = false): void {
    if (this._state === "closed") return;
    if (this._state === "connected" && !hasLeft) this._send("leave", {});
    this._disconnect();
    globalThis.removeEventListener?.("online", this._online);
    const error = reason ?? asError("CLOSED");
    this._endThose(() => true, error);
    this._tied.forEach((one) => one._lost(error));
    this._tied.clear();
    for (const cell of this._cells.values()) this._drop(cell);
    this._cells.clear();
    this._tellState("closed", reason);
    this._updates.forEach((cell) =>
      this._push(() => {
        if (cell._live) this._drop(cell);
      }),
    );
    this._updates.clear();
  }

  private _heartbeat(): void {
    clearTimeout(this._timer);
    const { heartbeatMs } = this._options;
    // In the background timers come late: what counts is whether anything was heard since the last.
    const left = this._lastHeard + heartbeatMs! * (this._pinged ? 2 : 1) - Date.now();
    if (left > 0) {
      this._timer = setTimeout(() => this._heartbeat(), Math.min(left, LONGEST_TIMER_MS));
    } else if (this._pinged) {
      this._lost(asError("CONNECTION_LOST", `nothing was heard from the server for ${heartbeatMs! * 2} ms`));
    } else {
      this._pinged = true;
      this._lastHeard = Date.now() - heartbeatMs!;
      this._acknowledge(1);
      this._send("ping", {}, ++this._lastId);
      this._heartbeat();
    }
  }

  // ---------------------------------------------------------------- what arrives

  private _handle(data: unknown): void {
    try {
      const { id, method, params, result, error } = parseMessage(data as string);
      if (method !== undefined) this._notified(method, params);
      else if (error !== undefined) this._answered(Number(id), undefined, readError(error));
      else this._answered(Number(id), result);
    } catch {
      // A message that this version cannot read is skipped: what it needs of later servers, it asks for by requests, and
      // those are answered or time out.
    }
  }

  private _notified(method: unknown, params: any): void {
    if (method === "on-metadata-change") {
      const states = list(params.values, readState);
      if (params.snapshot) this._replica._snapshot(this._answeredListen, states);
      else this._replica._notified(states);
    } else if (method === "on-listen-revoked") {
      this._endListeners(this._replica._naming(params.keys), readError(params));
    } else if (method === "on-token-expiring") {
      const expiresAt = count(params.expires_at);
      this._tell((listener) => listener.onTokenExpiring?.(expiresAt));
    } else if (method === "on-server-stop") {
      this._comeBackMs = count(params.come_back_ms);
    } else if (method === "peer-list") {
      this._peersListed(readPeers(params));
    } else if (method === "on-peer-join" || method === "on-peer-update") {
      const peer = readPeer(params);
      this._setPeer(peer.id, peer);
    } else if (method === "on-peer-leave") {
      this._setPeer(params.peer_id, undefined);
    }
  }

  private _answered(id: number, result: any, error?: SessionStoreError): void {
    if (id === this._joinId) return error ? this._lost(error) : this._joined(result);
    const [listen] = this._listens;
    if (listen && listen[0] === id) {
      this._listens.shift();
      if (!error) this._answeredListen = listen[1];
      else if (error.name !== "RATE_LIMITED") this._refuseListeners(listen[1], error);
      else {
        // What only came too fast is sent again in a while, and nobody need know.
        this._sentListen = -1;
        clearTimeout(this._listenAgain);
        this._listenAgain = setTimeout(() => {
          this._listenAgain = undefined;
          this._flush();
        }, error.retryAfterMs ?? 1000);
      }
      return;
    }
    const request = this._take(id);
    if (error) request?._failed(error);
    else request?._answered(result);
    // A lock that was granted too late is given back.
    if (this._abandoned.delete(id) && result) this._release(result.name, result.token);
  }

  /** Gives back a lock that nobody waits to hear of. If that fails, it ends with its time. */
  _release(name: string, token: number): void {
    this._request("lock-release", { name, token }, Kind.Guarded, () => {}).catch(() => {});
  }

  private _joined(result: any): void {
    let welcome: ReturnType<typeof readWelcome>;
    try {
      welcome = readWelcome(result);
    } catch {
      return this._lost(asError("HANDSHAKE_FAILED", "the server's answer to the join cannot be read"));
    }
    this._attempts = 0;
    this._refusedUnseen = false;
    // The answer to an earlier join may have been lost: then it was another peer that was come back to.
    const samePeer = welcome.returned && this._peerNumber === welcome.peerNumber;
    this._peerNumber = welcome.peerNumber;
    const anotherSession = this._replica._joined(welcome.sessionId, welcome.revision, samePeer);
    const anotherPeer = anotherSession || !samePeer;
    const error = asError("SESSION_LOST");
    // What was sent before counts as unknown also with a server that does not know what it answered.
    if (anotherPeer || !welcome.resumes) {
      this._endThose((request) => isChange(request) && request._stage !== Stage.Unsent, error);
      // Its answers were the other peer's.
      this._ended = 0;
    }
    // On a condition that only the session before could meet.
    if (anotherSession) this._endThose((request) => request._kind === Kind.Guarded && !request._stage, error);
    this._resumes = welcome.resumes;
    if (anotherPeer && this._joinedOnce) {
      this._tied.forEach((one) => one._lost(error));
      this._tied.clear();
      this._tell((listener) => listener.onError?.(error));
    }
    this._welcomed = true;
  }

  /** The whole list, after a join or instead of news that a slow connection missed. */
  private _peersListed(peers: Peer[]): void {
    if (this._welcomed) {
      // The join is complete only now, so that whoever is told can ask who is in the room.
      this._welcomed = false;
      this._joinedOnce = true;
      this._tellState("connected");
      this._heartbeat();
      this._tied.forEach((one) => one._connected());
    }
    const left = new Set(this._peerMap.keys());
    for (const peer of peers) {
      this._setPeer(peer.id, peer);
      left.delete(peer.id);
    }
    left.forEach((id) => this._setPeer(id, undefined));
  }
}

/** The server's own code where it sent one, or the one that fits the HTTP status. */
function refusal(status: number, body: string): SessionStoreError {
  try {
    const { code, message, retry_after_ms: retryAfterMs } = JSON.parse(body);
    if (status !== 404) return new SessionStoreError(nameOf(code), String(message), { retryAfterMs: retryAfterMs && count(retryAfterMs) });
  } catch {}
  return asError("HANDSHAKE_FAILED", `the server answered the handshake with HTTP status ${status}; a SessionStore server answers at /ws`);
}
