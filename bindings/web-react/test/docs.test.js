// The types of the component in docs/web.md and of that in README.md.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";

test("the components of the documentation have the right types", () => {
  const page = mkdtempSync("build-");
  try {
    const block = (path) => /^```tsx\n([\s\S]*?)^```$/m.exec(readFileSync(path, "utf8"))[1];
    const before = 'import { type Client, key } from "sessionstore";\nconst pinned = key<{ text: string }>("pinned");\n';
    writeFileSync(`${page}/docs.tsx`, `${before}${block("../../docs/web.md")}\nvoid Room;\n`);
    writeFileSync(`${page}/readme.tsx`, block("README.md"));
    const compilerOptions = { strict: true, module: "NodeNext", target: "ES2022", lib: ["ES2022", "DOM"], jsx: "react-jsx", noEmit: true, types: [] };
    writeFileSync(`${page}/tsconfig.json`, JSON.stringify({ compilerOptions, files: ["docs.tsx", "readme.tsx"] }));
    const { status, stdout } = spawnSync("node_modules/.bin/tsc", ["--project", page], { encoding: "utf8" });
    assert.equal(status, 0, stdout);
  } finally {
    rmSync(page, { recursive: true, force: true });
  }
});
