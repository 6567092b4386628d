// What a person sees and does: rooms, one room live, and everything that changes it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { SECRET, SSTORE, eventually, logIn, row, scene, textOf, token, within } from "./support.mjs";

const button = (page, name) => page.getByRole("button", { name, exact: true });

test("a token opens the page, stays in its tab, and is forgotten on the way out", scene(async ({ server, open }) => {
  await server.join("lobby", "Ana");
  const page = await open();
  const made = execFileSync(SSTORE, ["token", "--api", "--scope", "read,write"], { encoding: "utf8", env: { ...process.env, SSTORE_API_SECRET: SECRET } }).trim();
  await page.fill("#token", `  ${made}\n`);
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "lobby" }).waitFor();
  assert.ok(!page.url().includes(made.slice(0, 20)), "the token is in the address");
  const stored = await page.evaluate(() => [JSON.stringify(localStorage), document.cookie, Object.values(sessionStorage)]);
  assert.deepEqual(stored, ["{}", "", [made]]);
  await page.reload();
  await page.getByRole("link", { name: "lobby" }).waitFor();
  await button(page, "Log out").click();
  await page.locator("#token").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.reload();
  await page.locator("#token").waitFor();
}));

test("what is no token, was signed by another, has expired or may too little is told so", scene(async ({ open }) => {
  const page = await open();
  const refused = async (pasted, sentence) => {
    await page.fill("#token", pasted);
    await button(page, "Look").click();
    await page.locator("#token-error").filter({ hasText: sentence }).waitFor();
    assert.equal(await page.inputValue("#token"), "");
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  };
  await refused("not a token at all", "This is not a token");
  await refused("a.b.c", "does not take this token");
  await refused(token({}, "another secret"), "does not take this token");
  await refused(token({ exp: Math.floor(Date.now() / 1000) - 60 }), "has expired");
  await refused(token({ scope: "write manage" }), "it needs the scope read");
  await logIn(page);
}));

test("when the token's time is over, the page asks for another", scene(async ({ server, look }) => {
  await server.join("lobby", "Ana");
  const page = await look("lobby", { claims: { exp: Math.floor(Date.now() / 1000) + 12 } });
  await page.locator("#token-error", { hasText: "has expired" }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
}));

test("a busy room is followed, with the newest of each key", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana");
  const page = await look("lobby");
  for (let i = 1; i <= 50; i++) await Promise.all(Array.from({ length: 40 }, (_, n) => ana.room.set(`k/${n}`, i)));
  await row(page, "k/39").locator(".value", { hasText: /^50$/ }).waitFor();
  await eventually("all keys", async () => (await page.locator(".tree .leaf").count()) === 41);
  assert.deepEqual(new Set(await page.locator(".tree .row:not(.branch) .value").allTextContents()), new Set(["50"]));
  assert.equal(await page.locator(".feed > .news").count(), 200);
}));

test("rooms are listed with what goes on in them, and found by how they begin", scene(async ({ server, open }) => {
  const ana = await server.join("lobby", "Ana");
  await ana.room.set("a", 1);
  for (let i = 0; i < 60; i++) await server.api("POST", `rooms/class-${String(i).padStart(2, "0")}`, { values: { n: i } });
  const page = await open();
  await logIn(page);
  const rooms = page.locator(".rooms .row a");
  await eventually("a full page of rooms", async () => (await rooms.count()) === 50);
  await button(page, "Next →").click();
  await eventually("the rest of the rooms", async () => (await rooms.count()) === 11);
  assert.equal(await rooms.last().textContent(), "lobby");
  // Changes per second come from two looks at the revision.
  const busy = page.locator(".rooms .row.busy", { hasText: "lobby" });
  for (let i = 0, seen = false; !seen; i++) {
    await ana.room.set("a", i);
    seen = (await busy.count()) > 0;
  }
  await button(page, "← Previous").click();
  await eventually("the first page again", async () => (await rooms.count()) === 50);
  await page.fill("#filter", "class-1");
  await eventually("the rooms that begin so", async () => (await rooms.count()) === 10);
  await page.fill("#filter", "nothing");
  await page.getByText("No room begins with that.").waitFor();
  await page.fill("#filter", "lobby");
  await rooms.filter({ hasText: "lobby" }).click();
  await row(page, "a").waitFor();
}));

test("what peers do is seen as it happens", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana", { role: "host", metadata: '{"camera":true}' });
  await ana.room.set("poll/votes", { tea: 1, coffee: 2 });
  await ana.room.set("big", 9007199254740993n);
  const page = await look("lobby");
  assert.match(await textOf(page, ".tree [data-path=big] .value"), /^9007199254740993$/);
  assert.match(await textOf(page, '.tree [data-path="poll"]'), /poll.*1 key/);
  await page.locator("#peers-title", { hasText: "Peers (1)" }).waitFor();
  const peer = page.locator(".list li", { hasText: "id-Ana" });
  assert.match((await peer.textContent()) ?? "", /Ana.*host.*connected/s);

  const ben = await server.join("lobby", "Ben");
  await page.locator(".news.peer.joined", { hasText: "Ben joined" }).waitFor();
  await ben.room.set("poll/votes", { tea: 1, coffee: 3, water: 1 });
  const change = page.locator(".news.change").filter({ hasText: "by Ben" });
  await change.waitFor();
  const lines = change.locator(".diff");
  assert.deepEqual(await lines.allTextContents(), ["~coffee 2 → 3", "+water 1"]);
  await row(page, "poll/votes").locator(".value", { hasText: '{"tea": 1, "coffee": 3, "water": 1}' }).waitFor();
  await row(page, "poll/votes").locator(".author", { hasText: "Ben" }).waitFor();

  await row(page, "poll/votes").click();
  await page.locator(".detail .history .news", { hasText: "by Ben" }).waitFor();
  assert.match(await textOf(page, ".detail"), /What this page has seen since/);
  await ana.room.remove("poll/votes");
  await page.locator(".detail .empty", { hasText: "Absent: removed." }).waitFor();
  assert.equal(await page.locator(".detail .history .news").count(), 2);
  await eventually("the branch goes with its last key", async () => (await row(page, "poll").count()) === 0);

  await ben.leave();
  await page.locator(".news.peer.left", { hasText: "Ben left" }).waitFor();
  await page.locator("#peers-title", { hasText: "Peers (1)" }).waitFor();
  for (const meter of ["Keys", "Bytes", "Largest value", "Peers"]) assert.ok(await page.getByRole("meter", { name: meter, exact: true }).getAttribute("max"), meter);
}));

test("a peer whose connection is lost is shown as one, until it is gone", scene(async ({ server, look }) => {
  await server.join("lobby", "Ana");
  await server.join("lobby", "Ben");
  const page = await look("lobby");
  server.lose("id-Ana");
  await page.locator(".list li", { hasText: "id-Ana" }).filter({ hasText: "connection lost" }).waitFor();
  assert.match(await textOf(page, '.list li:has-text("id-Ben")'), /connected/);
  await page.locator(".news.peer.lost", { hasText: "Ana is gone: connection lost" }).waitFor();
  await page.locator("#peers-title", { hasText: "Peers (1)" }).waitFor();
}, "--grace", "6s"));

test("a value is edited on the version that was shown, and a conflict shows both", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana");
  await ana.room.set("score", { points: 1 });
  const page = await look("lobby", { claims: { sub: "op", name: "Olga" } });
  await row(page, "score").click();
  await button(page, "Edit").click();
  await page.fill("#edit-value", '{"points": 2');
  await button(page, "Save").click();
  await page.locator("#edit-error", { hasText: "nothing was saved" }).waitFor();
  await page.fill("#edit-value", '{"points": 20000000000000000001}');
  await button(page, "Save").click();
  await page.locator("#status", { hasText: "Saved score." }).waitFor();
  assert.deepEqual({ ...(await ana.room.get("score")).value }, { points: 20000000000000000001n });
  const { author } = await (await server.api("GET", "rooms/lobby/keys/score")).json();
  assert.deepEqual(author, { user_id: "op", name: "Olga" });

  await page.locator(".detail dd", { hasText: "Olga" }).waitFor();
  await button(page, "Edit").click();
  await page.fill("#edit-value", '{"points": 3}');
  await ana.room.set("score", { points: 9 });
  await page.locator("dialog .warning", { hasText: "It has changed meanwhile" }).waitFor();
  await button(page, "Save").click();
  await page.getByText("Somebody was faster. Nothing was saved.").waitFor();
  assert.match(await textOf(page, "dialog [aria-label=Theirs]"), /"points": 9/);
  assert.match(await textOf(page, "dialog [aria-label=Yours]"), /"points": 3/);
  assert.equal((await ana.room.get("score")).value.points, 9);
  await button(page, "Take theirs").click();
  assert.match(await page.inputValue("#edit-value"), /"points": 9/);
  await page.fill("#edit-value", '{"points": 4}');
  await ana.room.set("score", { points: 10 });
  await button(page, "Save").click();
  await button(page, "Save mine over theirs").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  assert.equal((await ana.room.get("score")).value.points, 4);
}));

test("what another session holds under the same version is not overwritten or removed unseen", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana");
  const anew = async (value) => {
    await server.kill();
    await server.run();
    assert.equal((await within("a set", ana.room.set("pinned", value))).version, 1);
  };
  await ana.room.set("pinned", "first");
  const page = await look("lobby");
  await row(page, "pinned").click();
  await button(page, "Edit").click();
  await page.getByText("bound to no peer").waitFor();
  await page.fill("#edit-value", '"mine"');
  await anew("second");
  await page.locator("dialog .warning", { hasText: "It has changed meanwhile" }).waitFor();
  await button(page, "Save").click();
  await page.getByText("Somebody was faster. Nothing was saved.").waitFor();
  assert.match(await textOf(page, "dialog [aria-label=Theirs]"), /"second"/);
  await button(page, "Save mine over theirs").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  assert.equal((await ana.room.get("pinned")).value, "mine");

  // A page that does not know yet that the session is another.
  await ana.room.remove("pinned");
  await anew("third");
  await row(page, "pinned").locator(".value", { hasText: "third" }).waitFor();
  await page.route("**/watch*", (route) => route.abort());
  await button(page, "Edit").click();
  await page.fill("#edit-value", '"mine again"');
  await anew("fourth");
  await button(page, "Save").click();
  await page.getByText("Somebody was faster. Nothing was saved.").waitFor();
  assert.match(await textOf(page, "dialog [aria-label=Theirs]"), /"fourth"/);
  await button(page, "Cancel").click();
  await button(page, "Remove").click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await page.locator("#alerts", { hasText: "nothing was removed" }).waitFor();
  assert.equal((await ana.room.get("pinned")).value, "fourth");
}));

test("a new key is set, with a time if wanted, but not over one that is there", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana");
  await ana.room.set("here", "first");
  const page = await look("lobby");
  await button(page, "New key").click();
  await page.fill("#edit-key", "here");
  await page.fill("#edit-value", '"second"');
  await button(page, "Save").click();
  await page.getByText("Somebody was faster. Nothing was saved.").waitFor();
  await button(page, "Cancel").click();
  assert.equal((await ana.room.get("here")).value, "first");
  await button(page, "New key").click();
  await page.fill("#edit-key", "quiz/timer");
  await page.fill("#edit-value", "60");
  await page.fill("#edit-ttl", "3600");
  await button(page, "Save").click();
  await row(page, "quiz/timer").locator(".value", { hasText: /min left|h left/ }).waitFor();
  const { value, expiresAt } = await ana.room.get("quiz/timer");
  assert.ok(value === 60 && expiresAt > Date.now());
}));

test("a key is removed after a question, and not if it has changed meanwhile", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana");
  await ana.room.set("pinned", "hello");
  const page = await look("lobby");
  await row(page, "pinned").click();
  await button(page, "Remove").click();
  await button(page, "Cancel").click();
  await button(page, "Remove").click();
  await ana.room.set("pinned", "hello again");
  await row(page, "pinned").locator(".value", { hasText: "again" }).waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await page.locator("#alerts", { hasText: "nothing was removed" }).waitFor();
  assert.equal((await ana.room.get("pinned")).value, "hello again");
  await button(page, "Remove").click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await page.locator("#status", { hasText: "Removed pinned." }).waitFor();
  assert.equal((await ana.room.get("pinned")).value, null);
}));

test("a lock is taken from its holder", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana");
  const lock = await ana.room.lock("presenter");
  const lost = new Promise((resolve) => lock.signal.addEventListener("abort", resolve));
  const page = await look("lobby");
  const item = page.locator(".list li", { hasText: "presenter" }).filter({ hasText: "held by Ana" });
  await item.filter({ hasText: / s left/ }).waitFor();
  await button(page, "Release presenter").click();
  await page.getByRole("dialog").getByRole("button", { name: "Release" }).click();
  await page.locator("#status", { hasText: "Released presenter." }).waitFor();
  await page.locator("#locks-title", { hasText: "Locks (0)" }).waitFor();
  const ben = await server.join("lobby", "Ben");
  await ben.room.lock("presenter");
  await page.locator(".list li", { hasText: "held by Ben" }).waitFor();
  await within("Ana hears of it", lost);
}));

test("a peer is kicked, and a room is closed", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana");
  const ben = await server.join("lobby", "Ben");
  await ana.room.set("a", 1);
  const failed = (client) => new Promise((resolve) => client.listen({ onState: (state, error) => (state === "closed" || state === "failed") && resolve(error) }));
  const [anaEnds, benEnds] = [failed(ana), failed(ben)];
  const page = await look("lobby");
  await button(page, "Kick Ben").click();
  await page.fill("#reason", "noise");
  await page.getByRole("dialog").getByRole("button", { name: "Kick" }).click();
  await page.locator("#status", { hasText: "Kicked Ben." }).waitFor();
  await page.locator("#peers-title", { hasText: "Peers (1)" }).waitFor();
  await within("Ben hears of it", benEnds);
  await button(page, "Close room").click();
  await page.getByRole("dialog").getByRole("button", { name: "Close room" }).click();
  await page.locator(".banner", { hasText: "it has no session" }).waitFor();
  await within("Ana hears of it", anaEnds);
  assert.equal(await page.locator(".tree [data-path]").count(), 0);
  // The page waits for the next session.
  const cleo = await server.join("lobby", "Cleo");
  await cleo.room.set("b", 2);
  await row(page, "b").waitFor();
  assert.ok(await page.locator(".banner").isHidden());
}));

test("a token for looking has nothing to press, and one for a room sees that room", scene(async ({ server, look, open }) => {
  const ana = await server.join("lobby", "Ana");
  await server.join("other", "Ben");
  await ana.room.set("a", 1);
  await ana.room.lock("x");
  const page = await look("lobby", { claims: { scope: "read" } });
  await row(page, "a").click();
  await page.locator("#locks-title", { hasText: "Locks (1)" }).waitFor();
  for (const name of ["Edit", "Remove", "New key", "Kick Ana", "Release x", "Close room"]) assert.equal(await button(page, name).count(), 0, name);
  await row(page, "a").focus();
  await page.keyboard.press("e");
  await page.locator("#alerts", { hasText: "needs the scope write" }).waitFor();
  const bound = await open();
  await logIn(bound, { room_id: "lobby" });
  await row(bound, "a").waitFor();
  assert.equal(await bound.locator("header nav a").count(), 0);
}));

test("while paused events are counted, and shown on resuming", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana");
  await ana.room.set("n", 0);
  const page = await look("lobby");
  await row(page, "n").waitFor();
  await button(page, "Pause").click();
  for (let i = 1; i <= 3; i++) await ana.room.set("n", i);
  await button(page, "Resume (3 events waiting)").waitFor();
  assert.equal(await row(page, "n").locator(".value").textContent(), "0");
  assert.equal(await page.locator(".news.change").count(), 0);
  await page.keyboard.press("p");
  await row(page, "n").locator(".value", { hasText: "3" }).waitFor();
  assert.equal(await page.locator(".news.change").count(), 3);
  await button(page, "Pause").waitFor();
}));

test("keys are filtered, and what is shown is copied as JSON", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana");
  await ana.room.set("poll/tea", 1);
  await ana.room.set("poll/coffee", 12345678901234567890n);
  await ana.room.set("spotlight", "Ana");
  const page = await look("lobby");
  await row(page, "spotlight").waitFor();
  await page.fill("#filter", "POLL");
  await page.getByText("2 of 3").waitFor();
  assert.equal(await row(page, "spotlight").count(), 0);
  await button(page, "Copy JSON").click();
  await page.locator("#status", { hasText: "Copied 2 keys." }).waitFor();
  const copied = () => page.evaluate(() => navigator.clipboard.readText());
  assert.equal(await copied(), '{\n  "poll/coffee": 12345678901234567890,\n  "poll/tea": 1\n}');
  await row(page, "poll/tea").click();
  await button(page, "Copy").click();
  await page.locator("#status", { hasText: "Copied the value of poll/tea." }).waitFor();
  assert.equal(await copied(), "1");
}));

test("the page comes back by itself, says so, and asks for another token when it must", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana");
  await ana.room.set("a", 1);
  const page = await look("lobby");
  await row(page, "a").waitFor();
  await server.kill();
  await page.locator(".pill[data-state=waiting]", { hasText: "Trying again" }).waitFor();
  await page.locator("#alerts", { hasText: "reconnects by itself" }).waitFor();
  await server.run();
  await page.locator(".pill[data-state=live]").waitFor();
  await page.locator(".list li", { hasText: "id-Ana" }).waitFor();
  await server.kill();
  await server.run("another secret of operators");
  await page.locator("#token-error", { hasText: "does not take this token" }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
}));
