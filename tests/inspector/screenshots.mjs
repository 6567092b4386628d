// The pictures of docs/inspector.md: a lesson in full swing, seen on a desk and on a phone. `make inspector-screenshots`.
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { Server, browse, logIn, look, open, row } from "./support.mjs";

const OUT = "../../docs/inspector";
mkdirSync(OUT, { recursive: true });
const server = await Server.start("--grace", "5m");
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const ROOM = "biology-7b";
const peer = (name, role, metadata) => server.join(ROOM, name, { role, metadata, peerId: `${name.toLowerCase()}-4f1c`, userId: `u-${name.length}0${name.charCodeAt(0)}` });
const ana = await peer("Ana", "host", '{"camera":true,"language":"en"}');
const ben = await peer("Ben", "guest", '{"camera":false}');
const cleo = await peer("Cleo", "guest", '{"camera":true}');
await peer("Dan", "guest", '{"camera":false}');
await ana.room.set("pinned", { text: "Welcome! We start in five minutes.", by: "Ana" });
await ana.room.set("spotlight", "ben-4f1c");
await ana.room.set("quiz/question", "Which part of a cell makes energy?");
await ana.room.set("quiz/options", ["nucleus", "mitochondrion", "ribosome"]);
await ana.room.set("quiz/seconds", 30, { ttlMs: 240_000 });
const votes = { nucleus: 3, mitochondrion: 11, ribosome: 1 };
for (const [name, n] of Object.entries(votes)) await cleo.room.set(`quiz/votes/${name}`, n);
await ben.room.set("hands/ben-4f1c", true, { bind: true });
await cleo.room.set("board/background", "#fdf6e3");
await cleo.room.set("board/shapes", [{ id: 1, kind: "circle", x: 10, y: 20 }, { id: 2, kind: "arrow", x: 44, y: 8 }]);
await ana.room.lock("presenter");
await cleo.room.lock("board");
for (const [i, name] of ["chemistry-7a", "english-6c", "maths-9", "music-club", "staff"].entries()) {
  for (let n = 0; n <= i; n++) await (await server.join(name, `P${n}`, { peerId: `p${n}` })).room.set(`note/${n}`, "x".repeat(20 * (n + 1)));
}

/** What happens in the lesson, again and again. */
let turn = 0;
async function play() {
  turn++;
  const who = [ben, cleo, ana][turn % 3];
  votes.mitochondrion++;
  await who.room.set("quiz/votes/mitochondrion", votes.mitochondrion);
  if (turn % 3 === 0) await cleo.room.set("board/shapes", [{ id: 1, kind: "circle", x: 10 + turn, y: 20 }, { id: 2, kind: "arrow", x: 44, y: 8 + (turn % 7) }, ...(turn % 2 ? [{ id: 3, kind: "star", x: turn, y: 5 }] : [])]);
  if (turn % 4 === 0) await ana.room.set("spotlight", ["ben-4f1c", "cleo-4f1c", "ana-4f1c"][turn % 3]);
  if (turn % 6 === 1) await ben.room.set("hands/cleo-4f1c", turn % 12 === 1 ? true : null);
  if (turn % 9 === 5) await ana.room.set("pinned", { text: turn % 18 === 5 ? "Welcome! We start now." : "Page 42, exercise 3.", by: "Ana" });
}

await browse(async (browser) => {
  const desk = { viewport: { width: 1440, height: 900 } };
  const pages = [];
  for (const colorScheme of ["light", "dark"]) pages.push([colorScheme, await look(browser, server, ROOM, { options: { ...desk, colorScheme } })]);
  pages.push(["phone", await look(browser, server, ROOM, { options: { viewport: { width: 360, height: 720 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: "light" } })]);
  const rooms = await open(browser, server, { options: { viewport: { width: 1440, height: 560 }, colorScheme: "light" } });
  await logIn(rooms);
  pages.push(["rooms", rooms]);
  for (const [name, page] of pages) {
    if (["light", "dark"].includes(name)) await row(page, "board/shapes").click();
    if (name === "phone") await page.getByRole("button", { name: "Changes", exact: true }).click();
  }
  server.lose("dan-4f1c");
  for (let i = 0; i < 40; i++) {
    await play();
    await pause(250 + (i % 5) * 120);
  }
  for (const [name, page] of pages) {
    await page.bringToFront();
    for (let i = 0; i < 8; i++) {
      await play();
      await pause(400);
    }
    const path = `${OUT}/${name}.png`;
    await page.screenshot({ path });
    // A quarter of the bytes, and nobody sees it.
    if (spawnSync("pngquant", ["--force", "--strip", "--ext", ".png", "128", path]).status !== 0) console.error(`${path} is large; install pngquant`);
  }
});
await server.end();
