// Bundles the tests, leaving packages out, and runs them with node:test. They import the built package by its name, as
// users do. Arguments: which test files, by a part of their name; all of them without.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const wanted = process.argv.slice(2);
const files = readdirSync("test").filter((name) => name.endsWith(".test.ts"));
const chosen = files.filter((name) => !wanted.length || wanted.some((part) => name.includes(part)));
rmSync("build/test", { recursive: true, force: true });
await build({
  entryPoints: chosen.map((name) => `test/${name}`),
  outdir: "build/test",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  packages: "external",
  platform: "node",
  format: "esm",
  target: "node20",
  sourcemap: "inline",
  // Without the paths by which the types of the source are found: what is tested is the built package.
  tsconfigRaw: {},
});
const outputs = chosen.map((name) => `build/test/${name.replace(".ts", ".mjs")}`);
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", "--test-timeout=300000", ...outputs], { stdio: "inherit" });
process.exit(status ?? 1);
