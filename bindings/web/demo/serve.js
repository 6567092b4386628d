// Serves the page, and a room for it: node demo/serve.js SSTORE [ADDRESS]. `make demo-web` builds what it needs.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const [program, address = "127.0.0.1"] = process.argv.slice(2);
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const { outputFiles } = await build({ entryPoints: [here("room.ts")], bundle: true, format: "esm", target: "es2022", write: false, tsconfigRaw: {} });

const server = spawn(program, ["serve", "--address", address, "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
server.on("exit", (code) => process.exit(code ?? 1));
const [said] = await once(createInterface(server.stdout), "line");

const files = {
  "/": ["text/html; charset=utf-8", readFileSync(here("index.html"))],
  "/room.js": ["text/javascript; charset=utf-8", outputFiles[0].contents],
};
const pages = createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  // The address by which the page was reached is the one by which the server is.
  const room = `ws://${(request.headers.host ?? address).replace(/:\d+$/, "")}:${new URL(said).port}`;
  const [type, body] = pathname === "/server" ? ["text/plain", room] : (files[pathname] ?? []);
  response.writeHead(body ? 200 : 404, { "content-type": type ?? "text/plain", "x-content-type-options": "nosniff" }).end(body ?? "");
});
pages.listen(0, address, () => console.log(`http://${address}:${pages.address().port}/`));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => server.kill(signal));
