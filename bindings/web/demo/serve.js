// Serves the page, and a room for it: node demo/serve.js SSTORE [ADDRESS]. `make demo-web` builds what it needs.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { hostname, networkInterfaces } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const [program, address = "127.0.0.1"] = process.argv.slice(2);
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const { outputFiles } = await build({ entryPoints: [here("room.ts")], bundle: true, format: "esm", target: "es2022", write: false, tsconfigRaw: {} });

const files = {
  "/": ["text/html; charset=utf-8", readFileSync(here("index.html"))],
  "/room.css": ["text/css; charset=utf-8", readFileSync(here("room.css"))],
  "/room.js": ["text/javascript; charset=utf-8", outputFiles[0].contents],
};
const pages = createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  // The host by which the page was reached is the one by which the room is.
  const room = () => `ws://${(request.headers.host ?? hosts[0]).replace(/:\d+$/, "")}:${roomPort}`;
  const [type, body] = pathname === "/server" ? ["text/plain", room()] : (files[pathname] ?? []);
  response.writeHead(body ? 200 : 404, { "content-type": type ?? "text/plain", "x-content-type-options": "nosniff" }).end(body ?? "");
});
pages.listen(0, address);
await once(pages, "listening");

// Under these names the page can be reached; pages from elsewhere may not join.
const everywhere = ["0.0.0.0", "::"].includes(address);
const found = Object.values(networkInterfaces()).flat().filter(({ family }) => family === "IPv4");
const hosts = everywhere ? [...found.map((one) => one.address), hostname(), `${hostname()}.local`] : [address.includes(":") ? `[${address}]` : address];
const origins = [...hosts, "localhost"].map((host) => `http://${host.toLowerCase()}:${pages.address().port}`);

const allowed = origins.flatMap((origin) => ["--allow-origin", origin]);
const server = spawn(program, ["serve", "--address", address, "--port", "0", ...allowed], { stdio: ["ignore", "pipe", "inherit"] });
server.on("exit", (code) => process.exit(code ?? 1));
const [said] = await once(createInterface(server.stdout), "line");
const roomPort = new URL(said).port;
for (const origin of everywhere ? origins : origins.slice(0, 1)) console.log(`${origin}/`);
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => server.kill(signal));
