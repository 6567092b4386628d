// The page of `make demo-web`, in Chromium: what one browser does the others see.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { Client } from "sessionstore";
import { type BrowserContextOptions, type Page, chromium } from "playwright-core";
import { BROWSER_ARGUMENTS, SAFETY, WebSocket, failure, repository, within } from "./support.js";

/** The demo, and pages of it, each in a browser profile of its own; all is gone when the test is over. */
async function inDemo(play: (open: (query: Record<string, string>, options?: BrowserContextOptions) => Promise<Page>, url: string) => Promise<void>): Promise<void> {
  const program = process.env.SSTORE ?? join(repository, "target/debug/sstore");
  const demo = spawn(process.execPath, ["demo/serve.js", program], { stdio: ["ignore", "pipe", "ignore"] });
  const [url] = await within("the demo's address", once(createInterface(demo.stdout), "line"));
  const executablePath = execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim();
  const browser = await chromium.launch({ executablePath, args: BROWSER_ARGUMENTS });
  try {
    const failures: string[] = [];
    await play(async (query, options) => {
      const context = await browser.newContext(options);
      context.setDefaultTimeout(SAFETY);
      const page = await context.newPage();
      page.on("pageerror", (error) => failures.push(String(error)));
      // What the page's security policy forbids, and what the server does not have, is said there.
      page.on("console", (message) => message.type() === "error" && failures.push(message.text()));
      page.on("dialog", (dialog) => {
        failures.push(`a script ran: ${dialog.message()}`);
        void dialog.dismiss();
      });
      await page.goto(`${url}?${new URLSearchParams(query)}`);
      return page;
    }, url);
    assert.deepEqual(failures, []);
  } finally {
    await browser.close();
    const ended = once(demo, "exit");
    demo.kill("SIGTERM");
    await ended;
  }
}

const literally = (text: string) => new RegExp(`^${text.replace(/[^\w ]/g, "\\$&")}$`);
// The page's security policy forbids scripts from outside, those of tests too.
const shows = (page: Page, id: string, text: string) => page.locator(`#${id}`).filter({ hasText: literally(text) }).waitFor();
const pressed = (page: Page, name: string) => page.getByRole("button", { name, exact: true, pressed: true }).waitFor();
const press = (page: Page, name: string) => page.getByRole("button", { name, exact: true }).click();
const script = "<img src=x onerror=alert(1)><script>alert(2)</script>";

test("browsers share the room of the demo, and what they write is text", () =>
  inDemo(async (open) => {
    const ana = await open({ name: "Ana" });
    const ben = await open({ name: script.slice(0, 28) });
    const cleo = await open({ name: "Cleo" });
    const all = [ana, ben, cleo];
    const hisName = script.slice(0, 28);
    for (const page of all) await shows(page, "connection", "connected");
    await shows(ana, "pinned", "Nothing is pinned.");
    await ana.getByLabel("Text to pin").fill(script);
    await ana.getByLabel("Text to pin").press("Enter");
    for (const page of all) await shows(page, "pinned", `${script} (pinned by Ana)`);

    await press(ben, "✋ Raise hand");
    await pressed(ben, "✋ Raise hand");
    await press(ana, `${hisName} ✋`);
    for (const page of [ana, cleo]) await pressed(page, `${hisName} ✋`);
    await pressed(ben, `${hisName} (you) ✋`);
    for (const page of all) await shows(page, "spotlight", hisName);
    await press(ben, "✋ Raise hand");
    await pressed(ana, hisName);
    await press(cleo, hisName);
    for (const page of all) await shows(page, "spotlight", "nobody");

    await press(ana, "Coffee");
    await press(ben, "Coffee");
    for (const page of all) await shows(page, "coffee", "2");
    await press(ben, "Tea");
    for (const [id, count] of [["coffee", "1"], ["tea", "1"]] as const) for (const page of all) await shows(page, id, count);
    await pressed(ben, "Tea");
    assert.equal(await ana.locator("#tea-bar").getAttribute("value"), "0.5");

    // Two fields at once: neither is lost.
    await Promise.all([press(ana, "Row 1, column 3"), press(ben, "Row 1, column 4")]);
    for (const page of all) {
      for (const column of [3, 4]) await pressed(page, `Row 1, column ${column}`);
      assert.equal(await page.locator("#board [aria-pressed=true]").count(), 2);
    }
    await press(cleo, "Row 1, column 3");
    await ana.getByRole("button", { name: "Row 1, column 3", pressed: false }).waitFor();

    await ana.getByLabel("You are").fill("<b>Anna</b>");
    await press(ana, "Rename");
    for (const page of [ben, cleo]) await page.getByRole("button", { name: "<b>Anna</b>", exact: true }).waitFor();

    // Votes and hands go with the page.
    await press(ben, hisName.concat(" (you)"));
    await shows(ana, "spotlight", hisName);
    await ben.close();
    await shows(ana, "tea", "0");
    await shows(ana, "spotlight", "nobody");
    assert.equal(await ana.locator("#peers li").count(), 2);
    await press(ana, "Unpin");
    await shows(cleo, "pinned", "Nothing is pinned.");
    assert.equal(await ana.locator("img, b, #pinned *").count(), 0, "nothing of it is an element");
  }));

test("a page of the demo that is loaded again shows what the room holds, under the same name", () =>
  inDemo(async (open) => {
    const ana = await open({ name: "Ana" });
    const ben = await open({ name: "Ben" });
    await press(ben, "Tea");
    await press(ana, "Row 8, column 8");
    await ana.getByLabel("Text to pin").fill("Welcome!");
    await press(ana, "Pin");
    await ana.getByLabel("You are").fill("Anna");
    await press(ana, "Rename");
    await press(ben, "Anna");
    await shows(ana, "spotlight", "Anna");
    await ana.reload();
    await shows(ana, "connection", "connected");
    await shows(ana, "pinned", "Welcome! (pinned by Ana)");
    await shows(ana, "tea", "1");
    await pressed(ana, "Row 8, column 8");
    await ana.getByRole("button", { name: "Anna (you)", exact: true }).waitFor();
    // It is another peer, the one before is gone, and with it what was its own.
    await shows(ben, "spotlight", "nobody");
    await ben.getByRole("button", { name: "Anna", exact: true }).waitFor();
    assert.deepEqual(await ben.locator("#peers button").allTextContents(), ["Ben (you)", "Anna"]);
  }));

test("the demo keeps the focus, fits phones, and says what is wrong", () =>
  inDemo(async (open) => {
    const phone = await open({ name: "W".repeat(300) }, { viewport: { width: 320, height: 640 }, colorScheme: "dark" });
    await shows(phone, "connection", "connected");
    // Also with a text that has no place to break.
    await phone.getByLabel("Text to pin").fill("W".repeat(200));
    await press(phone, "Pin");
    await shows(phone, "pinned", `${"W".repeat(200)} (pinned by ${"W".repeat(40)})`);
    const wide = await phone.locator("body").evaluate((body) => body.ownerDocument.documentElement.scrollWidth);
    assert.equal(wide, 320, "nobody has to scroll sideways");
    const own = phone.locator("#peers button");
    await own.focus();
    await own.press("Enter");
    await phone.locator("#peers [aria-pressed=true]").waitFor();
    const other = await open({ name: "Ana" });
    await phone.getByRole("button", { name: "Ana", exact: true }).waitFor();
    assert.equal(await phone.locator("#peers button:focus").textContent(), `${"W".repeat(40)} (you)`);
    // Every control has a name.
    for (const control of await other.locator("button, input, progress").all()) {
      assert.doesNotMatch(await control.ariaSnapshot(), /^- (button|textbox|progressbar)(?! ")/);
    }
    // More than a value may have.
    await other.getByLabel("Text to pin").evaluate((field) => field.removeAttribute("maxlength"));
    await other.getByLabel("Text to pin").fill("x".repeat(2000));
    await press(other, "Pin");
    await other.getByRole("alert").filter({ hasText: "VALUE_TOO_LARGE" }).waitFor();
  }));

test("pages from elsewhere do not join the room of the demo", () =>
  inDemo(async (_, url) => {
    const server = await (await fetch(`${url}server`)).text();
    const from = (origin: string) =>
      class extends (WebSocket as any) {
        constructor(address: string) {
          super(address, { headers: { origin } });
        }
      } as any;
    const wrong = new Client({ url: server, room: "demo", failFast: true, WebSocket: from("http://elsewhere.example") });
    assert.equal((await failure(wrong.join())).name, "UNAUTHORIZED");
    const right = new Client({ url: server, room: "demo", failFast: true, WebSocket: from(new URL(url).origin) });
    await within("joins", right.join());
    right.close();
    assert.equal((await fetch(`${url}..%2f..%2fpackage.json`)).status, 404);
  }));
