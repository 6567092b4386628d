// Builds dist: one minified module, and its types.
import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { minify } from "terser";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
rmSync("dist", { recursive: true, force: true });
execFileSync("node_modules/.bin/tsc", ["--emitDeclarationOnly", "--outDir", "dist"], { stdio: "inherit" });
const { outputFiles } = await build({
  entryPoints: ["src/index.ts"],
  bundle: true,
  minifySyntax: true,
  format: "esm",
  target: "es2022",
  // Members that begin with an underscore are the module's own.
  mangleProps: /^_./,
  legalComments: "none",
  write: false,
});
const { code } = await minify(outputFiles[0].text, { module: true, ecma: 2022, compress: { passes: 3, sequences: false, unsafe_arrows: true, unsafe_methods: true, keep_fargs: false, pure_getters: true } });
writeFileSync("dist/sessionstore.js", code);
// What is packed must have its licence.
copyFileSync("../../LICENSE", "LICENSE");
