import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { Client, type ClientOptions, type KeyChangeListener, SessionStoreError, type State, type WebSocketLike } from "sessionstore";
import ws from "ws";

export const WebSocket = ws as unknown as new (url: string) => WebSocketLike;

/** The repository: tests are run in bindings/web. */
export const repository = resolve("../..");

/** How Chromium is started. */
export const BROWSER_ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Longest wait for anything; far beyond what a busy machine needs. */
export const SAFETY = 30_000;

/** Waits for something that must come. */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${SAFETY} ms`)), SAFETY);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** What is put in comes out in the same order, and is waited for. */
export class Channel<T> {
  private readonly items: T[] = [];
  private wake = () => {};

  put(item: T): void {
    this.items.push(item);
    this.wake();
  }

  async take(what = "the next item"): Promise<T> {
    const arrived = async () => {
      while (!this.items.length) await new Promise<void>((resolve) => (this.wake = resolve));
      return this.items.shift()!;
    };
    return within(what, arrived());
  }

  /** What is here already, if anything is. */
  peek(): T | undefined {
    return this.items[0];
  }
}

/** The error that something ends with. */
export async function failure(promise: Promise<unknown>): Promise<SessionStoreError> {
  try {
    await within("an error", promise);
  } catch (error) {
    assert.ok(error instanceof SessionStoreError, String(error));
    return error;
  }
  return assert.fail("it succeeded");
}

const PROGRAM = process.env.SSTORE ?? join(repository, "target/debug/sstore");

/** What `sstore` prints. */
export const runSstore = (...settings: string[]): string => execFileSync(PROGRAM, settings, { encoding: "utf8" });

/** `sstore serve` on a port that the system picks. */
export class Server {
  private process: ChildProcess | undefined;
  port = 0;

  private constructor(private readonly settings: string[]) {}

  static async start(...settings: string[]): Promise<Server> {
    const server = new Server(settings);
    await server.run();
    return server;
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}`;
  }

  /** Starts it, or starts it again on the port that it had. */
  async run(): Promise<void> {
    const child = spawn(PROGRAM, ["serve", "--address", "127.0.0.1", "--port", String(this.port), ...this.settings], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.process = child;
    let said = "";
    child.stderr.on("data", (text) => (said += text));
    const listening = new Promise<number>((resolve, reject) => {
      createInterface(child.stdout).on("line", (line) => {
        const port = /:(\d+)\s*$/.exec(line)?.[1];
        if (port) resolve(Number(port));
      });
      child.on("error", reject);
      child.on("exit", () => reject(new Error(`sstore has ended: ${said}`)));
    });
    this.port = await within("a listening server", listening);
  }

  /** Kills it, as when its machine is gone. */
  async kill(): Promise<void> {
    const child = this.process!;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }
}

/** A server, clients and files that are gone when the test is over. */
export class Room {
  private readonly clients: Client[] = [];
  private readonly proxies: Proxy[] = [];
  private constructor(readonly server: Server, readonly name: string) {}

  static async with(settings: string[], play: (room: Room) => Promise<void>): Promise<void> {
    const server = await Server.start(...settings);
    const room = new Room(server, "room");
    try {
      await play(room);
    } finally {
      room.clients.forEach((client) => client.close());
      room.proxies.forEach((proxy) => proxy.close());
      await server.kill();
    }
  }

  open(peer: string, options: Partial<ClientOptions> = {}): Client {
    const client = new Client({ url: this.server.url, room: this.name, peerId: peer, name: peer, reconnectMinMs: 10, reconnectMaxMs: 100, WebSocket, ...options });
    this.clients.push(client);
    return client;
  }

  async join(peer: string, options: Partial<ClientOptions> = {}): Promise<Client> {
    const client = this.open(peer, options);
    await within(`${peer} joins`, client.join());
    return client;
  }

  async proxy(): Promise<Proxy> {
    const proxy = await Proxy.start(() => this.server.port);
    this.proxies.push(proxy);
    return proxy;
  }
}

/** A directory for the time of a test. */
export async function inDirectory(play: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "sessionstore-"));
  try {
    await play(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export const write = (directory: string, name: string, text: string): string => {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
};

export const read = (path: string): string => readFileSync(join(repository, path), "utf8");

/** Passes bytes between clients and the server, until told otherwise. */
export class Proxy {
  private readonly sockets = new Set<net.Socket>();
  /** Connections that came through so far. */
  accepted = 0;
  /** Whether what the server says is dropped, so that answers are lost. */
  deaf = false;
  /** Whether connections are taken at all. */
  refuses = false;
  private constructor(private readonly server: net.Server) {}

  static async start(port: () => number): Promise<Proxy> {
    const server = net.createServer();
    const proxy = new Proxy(server);
    server.on("connection", (client) => {
      if (proxy.refuses) {
        client.destroy();
        return;
      }
      proxy.accepted++;
      const upstream = net.connect(port(), "127.0.0.1");
      for (const [from, to] of [[client, upstream], [upstream, client]] as const) {
        proxy.sockets.add(from);
        from.on("error", () => {});
        from.on("close", () => {
          proxy.sockets.delete(from);
          to.destroy();
        });
        from.on("data", (bytes) => {
          if (from === upstream && proxy.deaf) return;
          to.write(bytes);
        });
      }
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return proxy;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.server.address() as net.AddressInfo).port}`;
  }

  /** Cuts every connection, as when a cable is pulled out. */
  cut(): void {
    this.sockets.forEach((socket) => socket.resetAndDestroy());
  }

  close(): void {
    this.server.close();
    this.cut();
  }
}

/** What a listener was told, in order. */
export type Told = { state: State } | { refused: SessionStoreError } | "snapshot_end" | "dropped";

/** A listener that keeps what it is told. */
export class Watch extends Channel<Told> implements KeyChangeListener {
  onKeyChanged = (state: State) => this.put({ state });
  onSnapshotEnd = () => this.put("snapshot_end");
  onRefused = (refused: SessionStoreError) => this.put({ refused });
  onDropped = () => this.put("dropped");

  /** The next state; what else is told meanwhile must not be. */
  async state(): Promise<State> {
    const told = await this.take("a state");
    assert.ok(typeof told === "object" && "state" in told, String(told));
    return told.state;
  }

  /** States up to one with this value. */
  async until(value: unknown): Promise<State[]> {
    const states: State[] = [];
    for (;;) {
      const told = await this.take(`the value ${value}`);
      if (typeof told !== "object" || !("state" in told)) continue;
      states.push(told.state);
      if (told.state.value === value) return states;
    }
  }
}

/** Waits until a client is in a state. */
export async function until(client: Client, state: string): Promise<void> {
  if (client.state === state) return;
  await within(
    `the state ${state}`,
    new Promise<void>((resolve) => {
      const subscription = client.listen({
        onState: (now) => {
          if (now !== state) return;
          subscription.cancel();
          resolve();
        },
      });
    }),
  );
}
