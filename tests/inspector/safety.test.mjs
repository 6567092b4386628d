// Whoever is in a room may call themselves anything, and any page may try to use or show this one.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import http from "node:http";
import { test } from "node:test";
import { Server, eventually, logIn, row, scene, token } from "./support.mjs";

const SCRIPT = `<img src=x onerror="alert(1)"><script>alert(1)</script>'"><svg onload=alert(1)>`;

test("script in every name, key and value is text", scene(async ({ server, open }) => {
  const mean = await server.join(SCRIPT, SCRIPT, { peerId: SCRIPT, userId: SCRIPT, role: "<script>alert(1)</script>", metadata: JSON.stringify({ [SCRIPT]: SCRIPT }) });
  await server.join(SCRIPT, "other", { metadata: SCRIPT });
  await mean.room.set(SCRIPT, { [SCRIPT]: [SCRIPT], "__proto__": 1, "javascript:alert(1)": "javascript:alert(1)" });
  await mean.room.lock(SCRIPT);
  const page = await open();
  await page.evaluate(() => addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective}`)));
  await logIn(page);
  await page.locator(".rooms .row a", { hasText: SCRIPT }).click();
  await page.getByRole("heading", { level: 1, name: SCRIPT }).waitFor();
  await page.locator(".list li", { hasText: SCRIPT }).first().waitFor();
  await mean.room.set(SCRIPT, { [SCRIPT]: [`${SCRIPT}!`] });
  await page.locator(".news.change").first().waitFor();
  await row(page, SCRIPT).click();
  await page.locator(".detail h2", { hasText: SCRIPT }).waitFor();
  for (const details of await page.locator("details").all()) await details.locator("summary").click();
  for (const name of ["Edit", "Remove", "Close room", "New key"]) {
    await page.getByRole("button", { name, exact: true }).first().click();
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
  }
  await page.getByRole("button", { name: `Release ${SCRIPT}`, exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Release" }).click();
  await page.locator("#status", { hasText: `Released ${SCRIPT}.` }).waitFor();
  await page.getByRole("button", { name: `Kick ${SCRIPT}`, exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Kick" }).click();
  await page.locator("#status", { hasText: `Kicked ${SCRIPT}.` }).waitFor();
  // The page's own: one script, one picture.
  const made = await page.evaluate(() => ["script", "img", "iframe", "object", "[onerror]", "[onload]", "a[href^=javascript]", "main svg:not(.curve)"].map((what) => document.querySelectorAll(what).length));
  assert.deepEqual(made, [1, 1, 0, 0, 0, 0, 0, 0]);
}));

test("signs that turn the direction of writing are shown, and do not turn it", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana\u202eanA");
  await ana.room.set("safe\u202egnp.exe", "x\u2066y");
  const page = await look("lobby");
  await page.locator(".tree .leaf", { hasText: "safe\\u202egnp.exe" }).waitFor();
  await page.locator(".list strong", { hasText: "Ana\\u202eanA" }).waitFor();
  assert.ok(!/[\u202e\u2066]/.test((await page.textContent("body")) ?? ""));
}));

test("what a browser cannot name in a path is refused by the page, not asked as something else", scene(async ({ server, look }) => {
  const ana = await server.join("lobby", "Ana");
  await ana.room.set("..", 1);
  await ana.room.set("a/../b", 2);
  await ana.room.set("a", 3);
  const lock = await ana.room.lock("..");
  const page = await look("lobby");
  await page.getByRole("button", { name: "Release ..", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Release" }).click();
  await page.locator("#alerts", { hasText: "cannot ask for what is named" }).waitFor();
  // Keys that are written are named in the body.
  for (const key of ["..", "a/../b"]) {
    await row(page, key).click();
    await page.getByRole("button", { name: "Remove", exact: true }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
    await page.locator("#status", { hasText: `Removed ${key}.` }).waitFor();
  }
  const { states } = await ana.room.read({ keys: ["..", "a/../b", "a"] });
  assert.deepEqual(states.map(({ value }) => value), [null, null, 3]);
  assert.ok(lock.isHeld && !lock.signal.aborted);
}));

/** A page of another origin. */
async function elsewhere(html, play) {
  const server = http.createServer((_, response) => response.setHeader("Content-Type", "text/html").end(html));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    // Another site, too: browsers take addresses and names for different ones.
    return await play(`http://localhost:${server.address().port}/`);
  } finally {
    server.close();
  }
}

test("a page of another origin cannot read the API, nor change anything, nor frame the inspector", scene(async ({ server, browser }) => {
  const ana = await server.join("lobby", "Ana");
  await ana.room.set("a", 1);
  await elsewhere(`<iframe src="${server.url}/inspect/"></iframe>`, async (url) => {
    const page = await browser.newPage();
    const refusals = [];
    page.on("console", (message) => refusals.push(message.text()));
    await page.goto(url);
    const tried = await page.evaluate(
      async ([root, jwt]) => {
        const attempt = (path, init) => fetch(`${root}${path}`, init).then((response) => response.type, (error) => error.name);
        const headers = { Authorization: `Bearer ${jwt}` };
        return [
          await attempt("/v1/rooms", { headers }),
          await attempt("/v1/rooms"),
          await attempt("/v1/rooms/lobby/keys/a", { method: "DELETE", headers }),
          await attempt("/v1/rooms/lobby/keys/a", { method: "PUT", headers: { ...headers, "Content-Type": "application/json" }, body: '{"data":2}' }),
          await attempt("/inspect/inspector.js"),
          await import(`${root}/inspect/json.js`).then(() => "imported", (error) => error.name),
        ];
      },
      [server.url, token()],
    );
    assert.deepEqual(tried, ["TypeError", "TypeError", "TypeError", "TypeError", "TypeError", "TypeError"]);
    await eventually("the refusal to be framed", () => refusals.some((text) => /frame-ancestors/.test(text)));
    assert.equal(await page.frames()[1].locator("#token").count(), 0);
    assert.equal((await ana.room.get("a")).value, 1);
    await page.close();
  });
}));

/** A request whose path is sent as it is. */
async function raw(server, path, method = "GET") {
  const request = http.request({ host: "127.0.0.1", port: server.port, path, method });
  request.end();
  const [response] = await once(request, "response");
  response.setEncoding("utf8");
  let body = "";
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode, headers: response.headers, body };
}

test("every file comes with what browsers need to keep it safe, and nothing else is there", async () => {
  const server = await Server.start();
  try {
    for (const file of readdirSync("../../src/inspector")) {
      const { status, headers, body } = await raw(server, `/inspect/${file === "index.html" ? "" : file}`);
      assert.equal(status, 200, file);
      assert.ok(body.length > 100, file);
      assert.match(headers["content-security-policy"], /^default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'$/);
      assert.equal(headers["referrer-policy"], "no-referrer");
      assert.equal(headers["x-content-type-options"], "nosniff");
      assert.equal(headers["x-frame-options"], "DENY");
      assert.equal(headers["cross-origin-opener-policy"], "same-origin");
      assert.equal(headers["cross-origin-resource-policy"], "same-origin");
      assert.equal(headers["access-control-allow-origin"], undefined);
      assert.equal(headers["cache-control"], "no-store");
      assert.equal(headers["set-cookie"], undefined);
    }
    for (const path of ["/inspect/../Cargo.toml", "/inspect/%2e%2e/Cargo.toml", "/inspect/..%2f..%2fetc/passwd", "/inspect//inspector.js", "/inspect/index.html/", "/inspect/inspector.js%00.css", "/inspect/....//x", "/inspect/\\..\\x"]) {
      const { status, body } = await raw(server, path);
      assert.ok(status === 404 || status === 400, `${path}: ${status}`);
      assert.ok(!/\[package\]|root:/.test(body), path);
    }
    const slash = await raw(server, "/inspect");
    assert.deepEqual([slash.status, slash.headers.location], [308, "inspect/"]);
    assert.equal((await raw(server, "/inspect/", "POST")).status, 405);
  } finally {
    await server.end();
  }
});
