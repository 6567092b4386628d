// The program of docs/web.md: its types are checked as it stands there, it is run, and what it prints is compared. What the page
// for users of the original shows compiles.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { Room, inDirectory, read, write } from "./support.js";

/** Makes a program of what a page has in blocks of TypeScript, and checks its types. */
function compiled(directory: string, page: string): string[] {
  const blocks = [...page.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((found) => found[1]!);
  const own = resolve(".");
  execFileSync("mkdir", ["-p", join(directory, "node_modules")]);
  execFileSync("ln", ["-s", own, join(directory, "node_modules/sessionstore")]);
  for (const name of ["ws", "@types"]) execFileSync("ln", ["-s", join(own, "node_modules", name), join(directory, "node_modules", name)]);
  write(directory, "package.json", '{"type":"module"}');
  write(directory, "page.ts", blocks.join("\n"));
  const compilerOptions = { strict: true, module: "NodeNext", target: "ES2022", lib: ["ES2023", "DOM"], types: ["node"] };
  write(directory, "tsconfig.json", JSON.stringify({ compilerOptions, files: ["page.ts"] }));
  const checked = spawnSync(join(own, "node_modules/.bin/tsc"), ["--project", directory], { encoding: "utf8" });
  assert.equal(checked.status, 0, checked.stdout);
  return blocks;
}

test("the program of docs/web.md does what the page says", () =>
  inDirectory((directory) =>
    Room.with([], async (room) => {
      const page = read("docs/web.md");
      const prints = /^It prints:\n\n```text\n([\s\S]*?)^```$/m.exec(page)?.[1];
      assert.ok(compiled(directory, page).length === 4 && prints);
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

test("what docs/coming-from-the-original.md shows compiles", () =>
  inDirectory(async (directory) => assert.equal(compiled(directory, read("docs/coming-from-the-original.md")).length, 1)));
