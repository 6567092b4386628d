// A server, peers in Node, and pages in Chromium.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import WebSocket from "ws";
import { Client } from "../../bindings/web/dist/sessionstore.js";

/** Longest wait for anything; far beyond what a busy machine needs. */
export const SAFETY = 30_000;
export const SSTORE = process.env.SSTORE ?? "../../target/debug/sstore";
export const SECRET = "the operators' secret";

const BROWSER_ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** Waits for something that must come. */
export async function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`${what}: not within ${SAFETY} ms`)), SAFETY)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Asks again until it is true, each time after the browser or the server had a turn. */
export async function eventually(what, ask) {
  const end = Date.now() + SAFETY;
  while (!(await ask())) if (Date.now() > end) assert.fail(`${what}: not within ${SAFETY} ms`);
}

/** Connections that can be lost for good, as when a machine is switched off. */
const breakable = () => {
  const lost = new Set();
  const sockets = new Map();
  return class extends WebSocket {
    constructor(url) {
      const peer = new URL(url).searchParams.get("peer");
      // Nobody listens on that port.
      super(lost.has(peer) ? "ws://127.0.0.1:9/" : url);
      sockets.set(peer, this);
    }

    static lose(peer) {
      lost.add(peer);
      sockets.get(peer).terminate();
    }
  };
};

/** A token for the API, signed here so that it can be wrong in every way. */
export function token(claims = {}, secret = SECRET) {
  const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 3600;
  const signed = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded({ scope: "read write manage", exp, ...claims })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** `sstore serve` with an inspector. */
export class Server {
  port = 0;
  peers = [];
  Connection = breakable();

  static async start(...settings) {
    const server = new Server();
    server.settings = settings;
    await server.run();
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts it, or starts it again on the port that it had. */
  async run(secret = SECRET) {
    const child = spawn(SSTORE, ["serve", "--address", "127.0.0.1", "--port", String(this.port), "--inspect", ...this.settings],
      { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, SSTORE_API_SECRET: secret } });
    this.process = child;
    let said = "";
    child.stderr.on("data", (text) => (said += text));
    const listening = new Promise((resolve, reject) => {
      createInterface(child.stdout).on("line", (line) => {
        const port = /:(\d+)\s*$/.exec(line)?.[1];
        if (port) resolve(Number(port));
      });
      child.on("error", reject);
      child.on("exit", () => reject(new Error(`sstore has ended: ${said}`)));
    });
    this.port = await within("a listening server", listening);
  }

  /** A peer that has joined, with its store. */
  async join(room, name, options = {}) {
    const client = new Client({ url: `ws://127.0.0.1:${this.port}`, room, name, peerId: `id-${name}`, reconnectMinMs: 10, reconnectMaxMs: 100, WebSocket: this.Connection, ...options });
    this.peers.push(client);
    client.room = await within(`${name} joins`, client.join());
    return client;
  }

  /** A peer's connection breaks, and does not come back. */
  lose(peer) {
    this.Connection.lose(peer);
  }

  /** A request to the API, outside of any browser. */
  async api(method, path, body, claims = {}) {
    const headers = { Authorization: `Bearer ${token(claims)}`, ...(body && { "Content-Type": "application/json" }) };
    const response = await fetch(`${this.url}/v1/${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) });
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.clone().text()}`);
    return response;
  }

  async kill() {
    const child = this.process;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }

  async end() {
    this.peers.forEach((client) => client.close());
    await this.kill();
  }
}

export async function browse(play) {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, args: BROWSER_ARGUMENTS });
  try {
    return await play(browser);
  } finally {
    await browser.close();
  }
}

/** A page of the inspector. What no page may ever do (throw, open a dialog, break its own policy) fails the test. */
export async function open(browser, server, { at = "", options = {}, allowed = [] } = {}) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 }, permissions: ["clipboard-read", "clipboard-write"], ...options });
  context.setDefaultTimeout(SAFETY);
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(String(error)));
  page.on("dialog", (dialog) => (page.faults.push(`a dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on("console", (message) => {
    // The browser itself notes each refusal of the server.
    const expected = /Failed to load resource/.test(message.text()) || allowed.some((text) => message.text().includes(text));
    if (["error", "warning"].includes(message.type()) && !expected) page.faults.push(message.text());
  });
  await page.goto(`${server.url}/inspect/${at}`);
  return page;
}

/** Pastes a token, and waits until it is taken. */
export async function logIn(page, claims = {}) {
  await page.fill("#token", token(claims));
  await page.getByRole("button", { name: "Look" }).click();
  await page.getByRole("button", { name: "Log out" }).waitFor();
}

/** A page that looks into a room. */
export async function look(browser, server, room, { claims = {}, ...more } = {}) {
  const page = await open(browser, server, { at: `#room=${encodeURIComponent(room)}`, ...more });
  await logIn(page, claims);
  await page.locator(".pill[data-state=live]").waitFor();
  return page;
}

/** Plays a test in a browser with a server of its own. */
export const scene = (play, ...settings) => () =>
  browse(async (browser) => {
    const server = await Server.start(...settings);
    const pages = [];
    const stage = {
      server,
      browser,
      open: async (more) => (pages.push(await open(browser, server, more)), pages.at(-1)),
      look: async (room, more) => (pages.push(await look(browser, server, room, more)), pages.at(-1)),
    };
    try {
      await play(stage);
      for (const page of pages) assert.deepEqual(page.faults, []);
    } finally {
      await server.end();
    }
  });

/** The row of a key, or of a branch. */
export const row = (page, path) => page.locator(`.tree [data-path="${CSS_escape(path)}"]`);
const CSS_escape = (text) => text.replace(/["\\]/g, "\\$&");

/** The text of the one element that matches, once it is there. */
export const textOf = async (page, selector) => (await page.locator(selector).textContent()) ?? "";
