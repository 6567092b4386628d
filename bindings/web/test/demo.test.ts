// The page of `make demo-web`, in Chromium: what one browser does the other sees.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { type Page, chromium } from "playwright-core";
import { BROWSER_ARGUMENTS, repository, within } from "./support.js";

test("two browsers share the room of the demo", async () => {
  const program = process.env.SSTORE ?? join(repository, "target/debug/sstore");
  const demo = spawn(process.execPath, ["demo/serve.js", program], { stdio: ["ignore", "pipe", "ignore"] });
  const [url] = await within("the demo's address", once(createInterface(demo.stdout), "line"));
  const executablePath = execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim();
  const browser = await chromium.launch({ executablePath, args: BROWSER_ARGUMENTS });
  try {
    const failures: unknown[] = [];
    const literally = (text: string) => new RegExp(`^${text.replace(/[^\w ]/g, "\\$&")}$`);
    // The page's security policy forbids scripts from outside, those of tests too.
    const shows = (page: Page, id: string, text: string) => page.locator(`#${id}`).filter({ hasText: literally(text) }).waitFor();
    const open = async (name: string) => {
      const page = await browser.newPage();
      page.on("pageerror", (error) => failures.push(error));
      await page.goto(`${url}?name=${encodeURIComponent(name)}`);
      await shows(page, "connection", "connected");
      return page;
    };
    const [ana, ben] = [await open("Ana"), await open("<b>Ben</b>")];
    await shows(ana, "pinned", "Nothing is pinned.");
    await ana.fill("[name=text]", "<script>alert(1)</script>");
    await ana.click("#pin button");
    await shows(ben, "pinned", "<script>alert(1)</script> (pinned by Ana)");
    await ben.click("#hand");
    await ana.getByRole("button", { name: "<b>Ben</b> ✋" }).click();
    await ben.waitForSelector("#peers .spotlight");
    assert.equal(await ben.textContent("#peers .spotlight"), "<b>Ben</b> ✋");
    await ana.click("[data-vote=coffee]");
    await ben.click("[data-vote=coffee]");
    await shows(ana, "coffee", "2");
    await ben.click("[data-vote=tea]");
    await shows(ana, "tea", "1");
    await ana.click("#board button:nth-child(3)");
    await ben.click("#board button:nth-child(4)");
    for (const page of [ana, ben]) {
      for (const field of [3, 4]) await page.waitForSelector(`#board button:nth-child(${field})[style*=rgb]`);
      assert.equal(await page.locator("#board [style*=rgb]").count(), 2);
    }
    // Votes and hands go with the page.
    await ben.close({ runBeforeUnload: false });
    await shows(ana, "tea", "0");
    assert.deepEqual(failures, []);
  } finally {
    await browser.close();
    const ended = once(demo, "exit");
    demo.kill("SIGTERM");
    await ended;
  }
});
