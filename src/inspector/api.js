// @ts-check
// The operators' API: requests, and the stream of events of a room.
import { parse, stringify, visible } from "./json.js";

/** @typedef {import("./json.js").Json} Json */
/** @typedef {import("./json.js").JsonMap} JsonMap */

const ROOT = new URL("../v1/", document.baseURI);

/** The server says something every 15 s; after three times of nothing the connection is dead. */
const SILENCE_MS = 45_000;
/** Longest wait for an answer. */
const ANSWER_MS = 20_000;
/** The first wait before the stream is opened again, the longest, and how long it must have lived to count as good. */
const RETRY_MS = { first: 500, most: 10_000, good: 5_000 };
/** Longest event; a snapshot has at most the bytes of a store and of its peers, far below this. */
const MAX_EVENT = 64 * 1024 * 1024;

/** What the server refuses, or that it does not answer (status 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} name of the error, such as `VERSION_CONFLICT`
   * @param {string} message
   * @param {JsonMap} [current] the state that a conflict shows
   */
  constructor(status, name, message, current) {
    super(message);
    this.status = status;
    this.name = name;
    this.current = current;
  }
}

/** One percent-encoded segment of a path for each name. @param {string[]} names */
function path(names) {
  for (const name of names) {
    // Browsers take these two for steps in the path, however they are encoded: it would be another address.
    if (name === "." || name === "..")
      throw new ApiError(0, "INVALID_NAME", `A web page cannot ask for what is named “${name}”; use sstore in a shell.`);
  }
  return names.map(encodeURIComponent).join("/");
}

export class Api {
  /** @param {string} token @param {(why: string) => void} onRefused when the token is no longer taken */
  constructor(token, onRefused) {
    this.token = token;
    this.onRefused = onRefused;
  }

  /**
   * @param {string} method
   * @param {string[]} names the segments of the path
   * @param {{ query?: Record<string, string | number | undefined>, body?: string, signal?: AbortSignal, accept?: string }} [options]
   * @returns {Promise<Response>} whose status says success
   */
  async open(method, names, { query = {}, body, signal, accept = "application/json" } = {}) {
    const url = new URL(path(names), ROOT);
    for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== "") url.searchParams.append(name, String(value));
    /** @type {Record<string, string>} */
    const headers = { Accept: accept, Authorization: `Bearer ${this.token}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(url, {
        method, headers, body: body ?? null, signal: signal ?? null,
        credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer",
      });
    } catch (error) {
      if (signal?.aborted && signal.reason?.name !== "TimeoutError") throw error;
      throw new ApiError(0, "UNREACHABLE", "The server does not answer.");
    }
    if (response.ok) return response;
    const refused = await refusal(response);
    if (response.status === 401) this.onRefused(refused.name);
    throw refused;
  }

  /**
   * @param {string} method
   * @param {string[]} names
   * @param {{ query?: Record<string, string | number | undefined>, body?: JsonMap }} [options]
   * @returns {Promise<any>} a map, or null where there is no body
   */
  async ask(method, names, { query, body } = {}) {
    const signal = AbortSignal.timeout(ANSWER_MS);
    const response = await this.open(method, names, { ...(query && { query }), ...(body && { body: stringify(body) }), signal });
    const text = await response.text().catch(() => {
      throw new ApiError(0, "UNREACHABLE", "The server did not finish its answer.");
    });
    return text ? parse(text) : null;
  }

  /** @param {string[]} names @param {Record<string, string | number | undefined>} [query] */
  get(names, query) {
    return this.ask("GET", names, query ? { query } : {});
  }
}

/** @param {Response} response @returns {Promise<ApiError>} */
async function refusal(response) {
  let name = `HTTP ${response.status}`;
  let message = `The server refuses with status ${response.status}.`;
  try {
    const body = parse(await response.text());
    if (body instanceof Map) {
      if (typeof body.get("name") === "string") name = visible(body.get("name"));
      if (typeof body.get("message") === "string") message = sentence(visible(body.get("message")));
      const current = body.get("current");
      return new ApiError(response.status, name, message, current instanceof Map ? current : undefined);
    }
  } catch {
    // Not one of the server's own answers; a proxy's, perhaps. The status says enough.
  }
  return new ApiError(response.status, name, message);
}

/** @param {string} text */
function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** @typedef {{ state: "connecting" | "live" } | { state: "waiting", why: string, until: number }} Link */

/**
 * The events of one room, again and again until it is stopped.
 */
export class Watch {
  /**
   * @param {Api} api
   * @param {string} room
   * @param {{ onEvent(name: string, data: JsonMap): void, onLink(link: Link): void, onFailed(error: ApiError): void }} listener
   */
  constructor(api, room, listener) {
    this.api = api;
    this.room = room;
    this.listener = listener;
    this.stopped = new AbortController();
    this.wake = () => {};
    addEventListener("online", () => this.wake(), { signal: this.stopped.signal });
    void this.run();
  }

  stop() {
    this.stopped.abort();
    this.wake();
  }

  /** Tries at once instead of when its time has come. */
  now() {
    this.wake();
  }

  /** Drops the connection and opens another, which begins with a snapshot. */
  again() {
    this.attempt?.abort();
    this.wake();
  }

  async run() {
    let wait = RETRY_MS.first;
    while (!this.stopped.signal.aborted) {
      this.listener.onLink({ state: "connecting" });
      const attempt = (this.attempt = new AbortController());
      this.stopped.signal.addEventListener("abort", () => attempt.abort(), { signal: attempt.signal });
      let why = "The connection broke.";
      let lived = 0;
      try {
        lived = await this.once(attempt);
      } catch (error) {
        if (this.stopped.signal.aborted) return;
        if (error instanceof ApiError) {
          if (error.status === 401) return;
          if (error.status >= 400 && error.status < 500 && error.status !== 429 && error.status !== 408) return this.listener.onFailed(error);
          why = error.message;
        }
      }
      attempt.abort();
      if (this.stopped.signal.aborted) return;
      if (lived > RETRY_MS.good) wait = RETRY_MS.first;
      // Not all pages at once when a server comes back.
      const pause = wait * (0.5 + Math.random() / 2);
      wait = Math.min(wait * 2, RETRY_MS.most);
      this.listener.onLink({ state: "waiting", why, until: Date.now() + pause });
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, pause);
        this.wake = () => (clearTimeout(timer), resolve(undefined));
      });
      this.wake = () => {};
    }
  }

  /** @param {AbortController} attempt @returns {Promise<number>} how long it was live, in ms */
  async once(attempt) {
    let timer = setTimeout(() => attempt.abort(), SILENCE_MS);
    let began = 0;
    try {
      const response = await this.api.open("GET", ["rooms", this.room, "watch"], { signal: attempt.signal, accept: "text/event-stream" });
      const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
      const events = new Events((name, data) => {
        if (attempt.signal.aborted) return;
        try {
          const body = parse(data);
          if (body instanceof Map) this.listener.onEvent(name, body);
        } catch (error) {
          // A fault of this page is not one of the connection.
          reportError(error);
        }
      });
      const decoder = new TextDecoder();
      began = Date.now();
      this.listener.onLink({ state: "live" });
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return Date.now() - began;
        clearTimeout(timer);
        timer = setTimeout(() => attempt.abort(), SILENCE_MS);
        events.feed(decoder.decode(value, { stream: true }));
      }
    } catch (error) {
      if (error instanceof ApiError) throw error;
      return began ? Date.now() - began : 0;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Reads `text/event-stream`, as far as the server uses it. */
class Events {
  /** @param {(name: string, data: string) => void} onEvent */
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.rest = "";
    this.name = "";
    /** @type {string[]} */
    this.data = [];
    this.size = 0;
  }

  /** @param {string} text */
  feed(text) {
    const lines = (this.rest + text).split(/\r?\n/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) this.line(line);
    if (this.rest.length + this.size > MAX_EVENT) throw new Error("an event without end");
  }

  /** @param {string} line */
  line(line) {
    if (line === "") {
      if (this.data.length) this.onEvent(this.name || "message", this.data.join("\n"));
      this.name = "";
      this.data = [];
      this.size = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.name = value;
    if (field === "data") {
      this.data.push(value);
      this.size += value.length;
    }
  }
}

