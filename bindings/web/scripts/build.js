// Builds dist: one minified module, and its types.
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
rmSync("dist", { recursive: true, force: true });
execFileSync("node_modules/.bin/tsc", ["--emitDeclarationOnly", "--outDir", "dist"], { stdio: "inherit" });
await build({
  entryPoints: ["src/index.ts"],
  outfile: "dist/sessionstore.js",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  // Members that begin with an underscore are the module's own.
  mangleProps: /^_./,
});
