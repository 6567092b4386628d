// What users install: the package as npm packs it, in an empty project, in Node and bundled by Vite in Chromium.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createReadStream, existsSync, readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, resolve } from "node:path";
import { test } from "node:test";
import { chromium } from "playwright-core";
import { build } from "vite";
import { BROWSER_ARGUMENTS, Room, inDirectory, read, within, write } from "./support.js";

const own = resolve(".");

/** Makes an empty project with the packed package and `ws`. */
function install(directory: string): void {
  const npm = (...args: string[]) => execFileSync("npm", ["--no-audit", "--no-fund", "--loglevel=error", ...args], { cwd: directory, encoding: "utf8" });
  npm("pack", own, "--ignore-scripts", "--pack-destination", directory);
  const packed = readdirSync(directory).filter((name) => name.endsWith(".tgz"));
  assert.equal(packed.length, 1);
  write(directory, "package.json", '{"name":"empty","private":true,"type":"module"}');
  npm("install", "--ignore-scripts", join(directory, packed[0]!), join(own, "node_modules/ws"));
  const files = readdirSync(join(directory, "node_modules/sessionstore"), { recursive: true }).map(String);
  // One module, the types that its types are made of, and nothing else.
  const types = readdirSync(join(own, "src")).map((name) => join("dist", name.replace(".ts", ".d.ts")));
  assert.deepEqual(files.sort(), ["LICENSE", "README.md", "dist", join("dist", "sessionstore.js"), "package.json", ...types].sort());
  assert.equal(readFileSync(join(directory, "node_modules/sessionstore/LICENSE"), "utf8"), read("LICENSE"));
}

const program = `import { Client, key, type State } from "sessionstore";
import WebSocket from "ws";
const pinned = key<{ text: string }>("pinned");
const [url] = process.argv.slice(2);
const client = new Client({ url: url!, room: "room", name: "Node", WebSocket: WebSocket as any });
const store = await client.join();
const state: State<{ text: string }> = await store.set(pinned, { text: "from Node" });
// @ts-expect-error The text is not a number.
const wrong: number = state.value!.text;
console.log(state.value!.text, typeof wrong);
await client.leave();
`;

test("the packed package is used in Node, with its types", () =>
  inDirectory((directory) =>
    Room.with([], async (room) => {
      install(directory);
      write(directory, "main.ts", program);
      const options = { compilerOptions: { strict: true, module: "NodeNext", target: "ES2022", lib: ["ES2022", "DOM"], types: ["node"], typeRoots: [join(own, "node_modules/@types")], skipLibCheck: false }, files: ["main.ts", "ws.d.ts"] };
      write(directory, "tsconfig.json", JSON.stringify(options));
      write(directory, "ws.d.ts", 'declare module "ws" { const WebSocket: any; export default WebSocket; }');
      const checked = spawnSync(join(own, "node_modules/.bin/tsc"), ["--project", directory], { encoding: "utf8" });
      assert.equal(checked.status, 0, checked.stdout);
      const said = execFileSync(process.execPath, ["main.js", room.server.url], { cwd: directory, encoding: "utf8", timeout: 60_000 });
      assert.equal(said, "from Node string\n");
    }),
  ));

const page = `import { Client, SessionStoreError, stringify } from "sessionstore";
const query = new URLSearchParams(location.search);
const client = new Client({ url: query.get("url"), room: "room", name: query.get("name"), peerId: query.get("name") });
const store = await client.join();
const told = [];
store.listen({ keys: ["spotlight", "big"] }, (state) => {
  told.push(state.key + "=" + stringify(state.value) + " by " + (state.author?.name ?? "nobody"));
  document.body.textContent = told.at(-1);
});
Object.assign(window, { client, store, told, SessionStoreError });
`;

test("bundled by Vite, two pages in Chromium share a room with a program", () =>
  inDirectory((directory) =>
    Room.with([], async (room) => {
      install(directory);
      write(directory, "page.js", page);
      write(directory, "index.html", '<!doctype html><title>Room</title><body><script type="module" src="/page.js"></script>');
      await build({ root: directory, logLevel: "error", configFile: false, build: { target: "es2022" } });
      const types: Record<string, string> = { ".html": "text/html", ".js": "text/javascript" };
      const web = createServer((request, response) => {
        const path = join(directory, "dist", new URL(request.url!, "http://localhost").pathname.replace(/\/$/, "/index.html"));
        if (!existsSync(path)) return void response.writeHead(404).end();
        response.writeHead(200, { "content-type": types[extname(path)] ?? "text/plain" });
        createReadStream(path).pipe(response);
      });
      web.listen(0, "127.0.0.1");
      await once(web, "listening");
      const executablePath = execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim();
      const browser = await chromium.launch({
        executablePath,
        args: BROWSER_ARGUMENTS,
      });
      try {
        const failures: unknown[] = [];
        const proxy = await room.proxy();
        const open = async (name: string, server = room.server.url) => {
          const tab = await browser.newPage();
          tab.on("pageerror", (error) => failures.push(error));
          const query = new URLSearchParams({ url: server, name });
          await tab.goto(`http://127.0.0.1:${(web.address() as AddressInfo).port}/?${query}`);
          await tab.waitForFunction("window.told?.length === 2");
          return tab;
        };
        const [ana, ben] = [await open("Ana", proxy.url), await open("Ben")];
        const shows = (tab: typeof ana, text: string) => tab.waitForFunction((text) => document.body.textContent === text, text);
        await ana.evaluate('store.set("spotlight", "Ben")');
        await shows(ana, 'spotlight="Ben" by Ana');
        await shows(ben, 'spotlight="Ben" by Ana');
        const { store } = await room.join("program");
        await store.set("big", 2n ** 60n);
        for (const tab of [ana, ben]) await shows(tab, `big=${2n ** 60n} by program`);
        assert.equal(await ben.evaluate('typeof store.cached("big").value'), "bigint");
        await ben.evaluate('store.add("big", -1n)');
        assert.equal((await store.get("big")).value, 2n ** 60n - 1n);
        const refused = 'store.set("k", "x".repeat(2000)).catch((error) => [error instanceof SessionStoreError, error.name, error.code])';
        assert.deepEqual(await ana.evaluate(refused), [true, "VALUE_TOO_LARGE", 202]);
        assert.deepEqual(await ana.evaluate("client.peers().map((peer) => peer.name)"), ["Ana", "Ben", "program"]);
        // Ana's connection breaks; she comes back as the same peer, with what she asked for meanwhile and what she missed.
        await ana.evaluate('client.listen({ onError: (error) => told.push(error.name) })');
        proxy.refuses = true;
        proxy.cut();
        await ana.waitForFunction('client.state === "reconnecting"');
        await ana.evaluate('void store.add("big", 1)');
        await ben.evaluate('store.set("spotlight", "while Ana was away")');
        proxy.refuses = false;
        await ben.waitForFunction((value) => document.body.textContent === `big=${value} by Ana`, String(2n ** 60n));
        await ana.waitForFunction('client.state === "connected" && told.includes(`spotlight="while Ana was away" by Ben`)');
        assert.ok(!(await ana.evaluate<string[]>("told")).includes("SESSION_LOST"));
        await within("leaving", ben.evaluate("client.leave()"));
        await ana.waitForFunction("client.peers().length === 2");
        assert.deepEqual(failures, []);
      } finally {
        await browser.close();
        web.close();
      }
    }),
  ));
