// The program of docs/web.md: its types are checked as it stands there, it is run, and what it prints is compared. What the page
// for users of the original shows compiles.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { chromium } from "playwright-core";
import { BROWSER_ARGUMENTS, Room, SAFETY, inDirectory, read, write } from "./support.js";

const blocksOf = (page: string): string[] => [...page.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((found) => found[1]!);

/** Makes a program of what a page has in blocks of TypeScript, and others of more pages, and checks their types. */
function compiled(directory: string, page: string, ...more: string[]): string[] {
  const blocks = blocksOf(page);
  const own = resolve(".");
  execFileSync("mkdir", ["-p", join(directory, "node_modules")]);
  execFileSync("ln", ["-s", own, join(directory, "node_modules/sessionstore")]);
  for (const name of ["ws", "@types"]) execFileSync("ln", ["-s", join(own, "node_modules", name), join(directory, "node_modules", name)]);
  write(directory, "package.json", '{"type":"module"}');
  write(directory, "page.ts", blocks.join("\n"));
  const others = more.map((other, nth) => {
    write(directory, `other-${nth}.ts`, blocksOf(other)[0]!);
    return `other-${nth}.ts`;
  });
  const compilerOptions = { strict: true, module: "NodeNext", target: "ES2022", lib: ["ES2023", "DOM"], types: ["node"] };
  write(directory, "tsconfig.json", JSON.stringify({ compilerOptions, files: ["page.ts", ...others] }));
  const checked = spawnSync(join(own, "node_modules/.bin/tsc"), ["--project", directory], { encoding: "utf8" });
  assert.equal(checked.status, 0, checked.stdout);
  return blocks;
}

test("the program of docs/web.md does what the page says", () =>
  inDirectory((directory) =>
    Room.with([], async (room) => {
      const page = read("docs/web.md");
      const prints = /^It prints:\n\n```text\n([\s\S]*?)^```$/m.exec(page)?.[1];
      assert.ok(compiled(directory, page, read("bindings/web/README.md")).length === 4 && prints);
      const ran = spawnSync(process.execPath, ["page.js"], {
        cwd: directory,
        encoding: "utf8",
        env: { ...process.env, SSTORE_URL: room.server.url },
        timeout: 60_000,
      });
      assert.equal(ran.stderr, "");
      assert.equal(ran.stdout, prints);
    }),
  ));

test("the shortest page of docs/web.md shows what is pinned", () =>
  Room.with([], async (room) => {
    const block = /^```html\n([\s\S]*?)^```$/m.exec(read("docs/web.md"))![1]!;
    const here = block.replace("ws://127.0.0.1:7350", room.server.url);
    assert.notEqual(here, block);
    const web = createServer(({ url }, response) => {
      const isModule = url === "/sessionstore.js";
      response.writeHead(200, { "content-type": isModule ? "text/javascript" : "text/html" });
      response.end(isModule ? readFileSync("dist/sessionstore.js") : here);
    });
    web.listen(0, "127.0.0.1");
    await once(web, "listening");
    const executablePath = execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim();
    const browser = await chromium.launch({ executablePath, args: BROWSER_ARGUMENTS });
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout(SAFETY);
      await page.goto(`http://127.0.0.1:${(web.address() as AddressInfo).port}/`);
      const shows = (text: string) => page.locator("#pinned").filter({ hasText: text }).waitFor();
      await shows("Nothing is pinned.");
      const { store } = await room.join("ben", { room: "lobby" });
      await store.set("pinned", "<b>Welcome!</b>");
      await shows("<b>Welcome!</b>");
      // As it is shown again after Back.
      const reloaded = page.waitForEvent("load");
      await page.evaluate(() => {
        for (const type of ["pagehide", "pageshow"]) dispatchEvent(new PageTransitionEvent(type, { persisted: true }));
      });
      await reloaded;
      await store.set("pinned", "Back again");
      await shows("Back again");
    } finally {
      await browser.close();
      web.close();
    }
  }));

test("what docs/coming-from-the-original.md shows compiles", () =>
  inDirectory(async (directory) => assert.equal(compiled(directory, read("docs/coming-from-the-original.md")).length, 1)));
