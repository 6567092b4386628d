// For everybody: by keyboard, with a screen reader, on a phone, in light and dark.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { eventually, logIn, row, scene, token } from "./support.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A room with something of everything. */
async function lively(server) {
  const ana = await server.join("lobby", "Ana", { role: "host", metadata: '{"camera":true}' });
  const ben = await server.join("lobby", "Ben");
  await ana.room.set("poll/options", ["tea", "coffee"]);
  await ana.room.set("poll/votes/tea", 1);
  await ana.room.set("pinned", { text: "Welcome!", on: true, n: 1.5, none: null });
  await ana.room.lock("presenter");
  return { ana, ben };
}

/** Whatever a person meets on the way through the page. */
async function tour(page, { ana, ben }, stop) {
  await stop("the token");
  await page.fill("#token", "no token");
  await page.getByRole("button", { name: "Look" }).click();
  await page.locator("#token-error", { hasText: "not a token" }).waitFor();
  await stop("a refused token");
  await logIn(page);
  await page.getByRole("link", { name: "lobby" }).waitFor();
  await stop("rooms");
  await page.getByRole("link", { name: "lobby" }).click();
  await page.locator("#locks-title", { hasText: "Locks (1)" }).waitFor();
  await stop("a quiet room");
  await ben.room.set("pinned", { text: "Hello!", on: true, more: [1] });
  await ben.room.set("poll/votes/water", 1);
  await ana.room.remove("poll/votes/tea");
  await page.locator(".news.change .badge.gone").waitFor();
  await row(page, "pinned").click();
  await page.locator(".detail .history .news").waitFor();
  await page.locator("details summary").first().click();
  await page.getByRole("button", { name: "Pause" }).click();
  await stop("a room with a key open");
  await page.getByRole("button", { name: "Edit", exact: true }).click();
  await stop("editing");
  await page.fill("#edit-value", '{"text":"Mine"}');
  await ana.room.set("pinned", "theirs");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Somebody was faster").waitFor();
  await stop("a conflict");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Kick Ben" }).click();
  await stop("a question");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Keyboard shortcuts" }).click();
  await stop("the shortcuts");
  await page.keyboard.press("Escape");
}

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing to complain of in ${colorScheme}`, scene(async ({ server, open }) => {
    const people = await lively(server);
    // What flashes has other colours for a moment.
    const page = await open({ options: { colorScheme, reducedMotion: "reduce" } });
    // Past the page's own policy, by which no page could bring scripts along.
    const inspector = await page.context().newCDPSession(page);
    let checks = 0;
    await tour(page, people, async (where) => {
      const { result, exceptionDetails } = await inspector.send("Runtime.evaluate", {
        expression: `${AXE}; axe.run(document, { resultTypes: ["violations", "passes"] }).then(({ violations, passes }) => JSON.stringify({ passes: passes.length, violations: violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map(({ html, failureSummary }) => html.slice(0, 200) + " " + failureSummary) })) }))`,
        awaitPromise: true,
        returnByValue: true,
      });
      assert.ok(!exceptionDetails, JSON.stringify(exceptionDetails));
      const { passes, violations } = JSON.parse(result.value);
      assert.deepEqual(violations, [], `${where}: ${JSON.stringify(violations, null, 1)}`);
      assert.ok(passes > 10, `${where}: axe looked at nothing`);
      checks++;
    });
    assert.equal(checks, 9);
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor !== "rgb(244, 245, 249)"), colorScheme === "dark");
  }));
}

test("on a phone nothing is wider than the screen", scene(async ({ server, open }) => {
  const people = await lively(server);
  await people.ana.room.set(`long/${"name".repeat(40)}`, "value".repeat(150));
  await people.ana.room.set(`deep/${"a/".repeat(40)}b`, 1);
  const page = await open({ options: { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true } });
  await tour(page, people, async (where) => {
    const [width, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(width <= 360 && inner === 360, `${where}: ${width} in ${inner}`);
    // And nothing reaches beyond it that could not be scrolled to.
    const beyond = await page.evaluate(() =>
      [...document.querySelectorAll("button, input, textarea, select, a, h1, h2")].filter((element) => {
        const { right, width } = element.getBoundingClientRect();
        return width > 1 && right > innerWidth + 1 && !element.closest(".jump, pre");
      }).map((element) => element.outerHTML.slice(0, 120)),
    );
    assert.deepEqual(beyond, [], where);
  });
}));

test("everything is reached and done without a mouse, and where one is can be seen", scene(async ({ server, open }) => {
  const { ana } = await lively(server);
  const page = await open();
  const press = (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
  const focused = () => page.evaluate(() => {
    const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
    const { id, textContent, dataset } = document.activeElement;
    return { id, text: textContent.trim().slice(0, 40), path: dataset.path, seen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
  });
  const until = async (what, is) => eventually(what, async () => is(await focused()));
  const tabTo = async (what, is) => {
    for (let i = 0; i < 40; i++) {
      await press("Tab");
      const now = await focused();
      assert.ok(now.seen || now.id === "main", `no focus is seen on ${JSON.stringify(now)}`);
      if (is(now)) return;
    }
    assert.fail(`Tab does not come to ${what}`);
  };
  await until("the field for the token has the focus", ({ id }) => id === "token");
  await page.keyboard.insertText(token());
  await press("Enter");
  await page.getByRole("link", { name: "lobby" }).waitFor();
  await until("the title has the focus", ({ text }) => text === "Rooms");
  await tabTo("the room", ({ text }) => text === "lobby");
  await press("Enter");
  await page.locator("#locks-title", { hasText: "Locks (1)" }).waitFor();
  await tabTo("the keys", ({ path }) => path === "pinned");
  await press("ArrowDown");
  assert.equal((await focused()).path, "poll");
  await press("ArrowLeft");
  assert.equal(await row(page, "poll").getAttribute("aria-expanded"), "false");
  await press("ArrowRight", "ArrowRight");
  assert.equal((await focused()).path, "poll/options");
  await press("End");
  assert.equal((await focused()).path, "poll/votes/tea");
  await press("ArrowLeft");
  assert.equal((await focused()).path, "poll/votes");
  await press("End", "Enter");
  await until("the key's own part has the focus", ({ id }) => id === "detail-title");
  await tabTo("the way to edit", ({ id }) => id === "detail-edit");
  // The focus stays where it is while the key changes.
  await ana.room.set("poll/votes/tea", 2);
  await page.locator(".detail .history .news").waitFor();
  assert.equal((await focused()).id, "detail-edit");
  await press("Enter");
  await until("the value has the focus", ({ id }) => id === "edit-value");
  await press("Control+a");
  await page.keyboard.insertText("3");
  await tabTo("saving", ({ text }) => text === "Save");
  await press("Enter");
  await page.locator("#status", { hasText: "Saved poll/votes/tea." }).waitFor();
  await press("Escape");
  await until("the row has the focus again", ({ path }) => path === "poll/votes/tea");
  await press("Delete");
  await page.getByRole("dialog").waitFor();
  await tabTo("removing", ({ text }) => text === "Remove");
  await press("Enter");
  await until("the row before has the focus", ({ path }) => path === "poll/options");
  await press("/");
  await until("the filter has the focus", ({ id }) => id === "filter");
  await page.keyboard.insertText("pin");
  await eventually("the filtered keys", async () => (await page.locator(".tree [data-path]").count()) === 1);
  await press("Escape");
  await eventually("all keys", async () => (await page.locator(".tree [data-path]").count()) === 3);
  await tabTo("kicking", ({ text }) => text === "Kick");
  await press("?");
  await page.getByRole("heading", { name: "Keyboard" }).waitFor();
  await press("Escape");
  await until("the focus is where it was", ({ text }) => text === "Kick");
  await press("r");
  await page.getByRole("link", { name: "lobby" }).waitFor();
  // Who speaks to the computer turns single keys off.
  await press("?");
  await page.locator("#single").focus();
  await press("Space", "Escape", "?", "r", "/");
  // One that is closed stays in the page until the browser comes to say so.
  assert.equal(await page.locator("dialog[open]").count(), 0);
}));

test("light and dark follow the system until the person says otherwise", scene(async ({ open }) => {
  const page = await open({ options: { colorScheme: "dark" } });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await page.getByLabel("Colours").selectOption("light");
  const light = await ground();
  assert.notEqual(light, dark);
  await page.reload();
  assert.equal(await ground(), light);
  await page.getByLabel("Colours").selectOption("system");
  assert.equal(await ground(), dark);
  await page.emulateMedia({ colorScheme: "light" });
  assert.equal(await ground(), light);
}));

test("screen readers are told of what they did and of the connection, not of every change", scene(async ({ server, look }) => {
  const { ana } = await lively(server);
  const page = await look("lobby");
  await page.evaluate(() => {
    window.spoken = [];
    const watch = (region) => new MutationObserver(() => region.textContent && window.spoken.push(region.textContent)).observe(region, { childList: true, subtree: true, characterData: true });
    for (const region of document.querySelectorAll("[role=status], [role=alert], [aria-live]")) watch(region);
  });
  for (let i = 0; i < 20; i++) await ana.room.set("pinned", i);
  await row(page, "pinned").locator(".value", { hasText: "19" }).waitFor();
  assert.deepEqual(await page.evaluate(() => window.spoken), []);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.locator("#status", { hasText: "Paused." }).waitFor();
  assert.equal(await page.evaluate(() => window.spoken.length), 1);
  for (const landmark of ["banner", "main", "navigation"]) assert.ok((await page.getByRole(landmark).count()) > 0, landmark);
  assert.equal(await page.getByRole("treegrid").getAttribute("aria-label"), "Keys");
}));
