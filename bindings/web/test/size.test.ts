// What is promised of the package itself.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

test("the built module has less than 8,192 bytes gzipped, and needs nothing", () => {
  const built = readFileSync("dist/sessionstore.js");
  const size = gzipSync(built, { level: 9 }).length;
  console.log(`dist/sessionstore.js has ${built.length} bytes, ${size} gzipped`);
  assert.ok(size < 8_192, `${size} bytes`);
  assert.doesNotMatch(built.toString(), /\bimport\b|\brequire\(/);
  const { dependencies, peerDependencies } = JSON.parse(readFileSync("package.json", "utf8"));
  assert.deepEqual([dependencies, peerDependencies], [undefined, undefined]);
});
