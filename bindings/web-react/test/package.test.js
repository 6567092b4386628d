// What users install.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { test } from "node:test";

test("the packed package has the module, its types and its licence, and nothing else", () => {
  const said = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts", "--loglevel=error"], { encoding: "utf8" });
  const [{ files }] = JSON.parse(said);
  const built = readdirSync("src").flatMap((name) => [name.replace(".ts", ".js"), name.replace(".ts", ".d.ts")]);
  assert.deepEqual(files.map(({ path }) => path).sort(), ["LICENSE", "README.md", "package.json", ...built.map((name) => `dist/${name}`)].sort());
});
