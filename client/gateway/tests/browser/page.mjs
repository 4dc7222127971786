// Uses the page as people do: node page.mjs URL SCENARIO, with PLAYWRIGHT the module to import.
// Exits with 1 and says what was not as it should be.

import assert from "node:assert/strict";
import { createServer } from "node:http";

const [url, scenario] = process.argv.slice(2);
const { chromium } = await import(process.env.PLAYWRIGHT ?? "playwright-core");
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});

/** A page that may ask nobody but the gateway, and may not complain. */
async function open(options = {}) {
  const page = await browser.newPage({ viewport: { width: 1360, height: 900 }, ...options });
  page.complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && page.complaints.push(message.text()));
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.on("request", (request) => request.url().startsWith(url) || request.url().startsWith("data:") || page.complaints.push(`asks ${request.url()}`));
  await page.goto(url);
  await page.locator('#link[data-state="live"]').waitFor();
  return page;
}

async function shot(page, name) {
  if (process.env.MUSTER_SCREENSHOTS) {
    await page.screenshot({ path: `${process.env.MUSTER_SCREENSHOTS}/${name}.png` });
  }
}

/** Until there is something to see; a picture takes longer than a test. */
const watch = (page) => page.waitForTimeout(Number(process.env.MUSTER_WATCH_MS ?? 1000));

const text = (page, selector) => page.locator(selector).innerText();
const eventually = async (what, check) => {
  const end = Date.now() + 15000;
  let last;
  while (Date.now() < end) {
    try {
      if (await check()) return;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`waited in vain for ${what} ${last ?? ""}`);
};

const scenarios = {
  async small() {
    const page = await open();
    assert.match(await text(page, "#cluster"), /crowd/);
    assert.equal(await page.locator(".tile").count(), 12);
    assert.equal(await text(page, "#n-slots"), "6");
    assert.match(await text(page, "#n-slots-of"), /12/);
    // Two snapshots make a rate, and a graph has something to draw.
    await eventually("a rate", async () => /^\d/.test(await text(page, "#n-rate")));
    await eventually("a line", async () => (await page.locator("#rate-graph .line.one").getAttribute("d"))?.includes("L"));
    await watch(page);
    await shot(page, "dashboard-light");
    // A tile tells what it runs, and more when it is clicked.
    const busy = page.locator('.tile[data-state="busy"]').first();
    assert.match(await busy.innerText(), /method_/);
    await busy.click();
    assert.match(await text(page, "#slot"), /host[\s\S]*rack-0/);
    // The legend hides a state.
    await page.locator("#legend button", { hasText: "ready" }).click();
    assert.equal(await page.locator('.tile[data-state="ready"]:visible').count(), 0);
    await page.locator("#legend button", { hasText: "ready" }).click();
    // A failure opens to its traceback, and stays open while snapshots come.
    await page.locator("#failures summary").first().click();
    assert.match(await text(page, "#failures pre"), /Traceback/);
    await page.waitForTimeout(1500);
    assert.match(await text(page, "#failures pre"), /Traceback/);
    // A method is found, filled in and called.
    await page.locator("#find").fill("method_17");
    await eventually("one method", async () => (await page.locator("#methods details:visible").count()) === 1);
    const method = page.locator('#methods details[data-method="method_17"]');
    await method.locator("summary").click();
    await method.locator('input[name="x"]').fill('{"a": [1, "ü"]}');
    await method.getByRole("button", { name: "Call" }).click();
    await eventually("the result", async () => JSON.stringify(JSON.parse(await method.locator("pre").innerText())) === '[{"a":[1,"ü"]}]');
    // Colours change by hand and are remembered.
    await page.locator("#theme").click();
    await page.locator("#theme").click();
    assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
    await page.reload();
    assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
    await page.locator(".tile").first().waitFor();
    // A telephone has room for everything.
    await page.setViewportSize({ width: 360, height: 740 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 360, `the page is ${wide} pixels wide`);
    assert.deepEqual(page.complaints, []);
    // The broker goes away and comes back, and the page says so.
    const tell = (method) => page.evaluate((method) => fetch("/rpc", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ jsonrpc: "2.0", id: 1, method }) }).then((reply) => reply.text()), method);
    await tell("vanish");
    await page.locator('#link[data-state="away"]').waitFor();
    assert.match(await text(page, "#link"), /broker away/);
    await tell("return");
    await page.locator('#link[data-state="live"]').waitFor();
  },

  async crowd() {
    for (const colorScheme of ["light", "dark"]) {
      const page = await open({ colorScheme });
      await eventually("2,000 tiles", async () => (await page.locator(".tile").count()) === 2000);
      assert.equal(await page.locator("#n-workers").innerText(), "500");
      await watch(page);
      if (colorScheme === "dark") await shot(page, "dashboard-dark");
      // How long the page's thread is kept by a snapshot: a click must not wait for it.
      const longest = await page.evaluate(async () => {
        let longest = 0;
        let last = performance.now();
        const end = last + 3000;
        while (last < end) {
          await new Promise((resolve) => setTimeout(resolve));
          const now = performance.now();
          longest = Math.max(longest, now - last);
          last = now;
        }
        return longest;
      });
      console.log(`${colorScheme}: the page was busy for at most ${Math.round(longest)} ms at a stretch`);
      await page.locator(".tile").nth(777).click();
      assert.match(await text(page, "#slot"), /node-194/);
      assert.deepEqual(page.complaints, []);
      await page.close();
    }
  },

  async keyboard() {
    const page = await open();
    const focused = () => page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent);
    await page.keyboard.press("Tab");
    assert.match(await focused(), /Skip/);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    assert.match(await focused(), /busy/);
    const legend = await page.locator("#legend button:visible").count();
    for (let n = 0; n < legend; n++) await page.keyboard.press("Tab");
    // All tiles are one stop; arrows go from one to the next.
    assert.match(await focused(), /node-000\.1: /);
    await page.keyboard.press("ArrowRight");
    assert.match(await focused(), /node-000\.2: /);
    await page.keyboard.press("End");
    assert.match(await focused(), /node-002\.4: /);
    await page.keyboard.press("Enter");
    assert.match(await text(page, "#slot"), /node-002\.4/);
    // The graph reads itself out.
    await page.waitForTimeout(2500);
    await page.locator("#rate-graph svg").focus();
    await page.keyboard.press("ArrowLeft");
    assert.match(await page.locator("#rate-graph [aria-live]").textContent(), /\d\d:\d\d:\d\d: /);
    // Everything that can be used has a name.
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll("button, input, a, textarea, [role=img], [role=region]")]
        .filter((element) => element.checkVisibility())
        .filter((element) => !(element.getAttribute("aria-label") || element.getAttribute("aria-labelledby") || element.textContent.trim() || element.labels?.[0]?.textContent.trim()))
        .map((element) => element.outerHTML),
    );
    assert.deepEqual(nameless, []);
    // A method is called without a mouse.
    await page.locator("#find").focus();
    await page.keyboard.type("method_5");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.locator('details[data-method="method_5"] form').waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.type("42");
    await page.keyboard.press("Enter");
    await eventually("the result", async () => /42/.test(await text(page, 'details[data-method="method_5"] .outcome')));
    assert.deepEqual(page.complaints, []);
  },

  async leave() {
    const page = await open();
    await page.close();
  },

  /** A page of another origin calls in every way that a page has. */
  async foreign() {
    const server = createServer((_, answer) => answer.writeHead(200, { "Content-Type": "text/html" }).end("<p>elsewhere"));
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    const outcomes = await page.evaluate(async (url) => {
      const body = '{"jsonrpc":"2.0","method":"stolen","id":1}';
      const attempt = (request) => request.then((answer) => `${answer.type} ${answer.status}`, () => "refused");
      const json = { "Content-Type": "application/json" };
      const ways = [
        fetch(`${url}rpc`, { method: "POST", body, headers: json }),
        // What needs no leave of the server, as of a form; its answer can't be read, but it arrives.
        fetch(`${url}rpc`, { method: "POST", body, mode: "no-cors", headers: { "Content-Type": "text/plain" } }),
        fetch(`${url}RPC2`, { method: "POST", body: "<methodCall><methodName>stolen</methodName></methodCall>", mode: "no-cors" }),
        fetch(`${url}metrics`),
      ];
      return Promise.all(ways.map(attempt));
    }, url);
    assert.deepEqual(outcomes, ["refused", "opaque 0", "opaque 0", "refused"]);
    await page.setContent(`<form method="post" enctype="text/plain" action="${url}rpc"><input name='{"jsonrpc":"2.0","method":"stolen","x":"' value='"}'></form>`);
    const [answer] = await Promise.all([page.waitForResponse(`${url}rpc`), page.evaluate(() => document.forms[0].submit())]);
    assert.equal(answer.status(), 403);
    server.close();
  },

  /** The broker is killed, and somebody starts it again. */
  async restart() {
    const page = await open();
    await page.locator(".tile").first().waitFor();
    const tiles = await page.locator(".tile").count();
    const started = await text(page, "#about");
    await page.evaluate(async () => {
      const call = (method, params) => fetch("/rpc", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }) });
      const status = await (await call("broker.status", [])).json();
      // Its answer dies with the broker.
      call("end", [status.result.pid]);
    });
    await page.locator('#link[data-state="away"]').waitFor();
    await page.locator('#link[data-state="live"]').waitFor({ timeout: 60000 });
    await eventually("the tiles", async () => (await page.locator(".tile").count()) === tiles);
    await eventually("the new broker", async () => (await text(page, "#about")) !== started);
    assert.deepEqual(page.complaints, []);
  },

  /** A real cluster with the functions of client/python/examples/methods.py. */
  async real() {
    const page = await open();
    await page.locator("#find").fill("multiply");
    const method = page.locator('#methods details[data-method="multiply"]');
    await method.locator("summary").click();
    for (const [place, value] of ["5", "3"].entries()) await method.locator("form input").nth(place).fill(value);
    await method.getByRole("button", { name: "Call" }).click();
    await eventually("15", async () => (await method.locator("pre").innerText()) === "15");
    await page.locator("#find").fill("is_even");
    const even = page.locator('#methods details[data-method="is_even"]');
    await even.locator("summary").click();
    await even.locator("form input").first().fill("text");
    await even.getByRole("button", { name: "Call" }).click();
    await eventually("the error", async () => /TypeError[\s\S]*Traceback/.test(await even.locator("pre").innerText()));
    await eventually("the failure in the list", async () => /is_even/.test(await text(page, "#failures")));
    await page.locator("#failures summary").first().click();
    assert.match(await text(page, "#failures pre"), /Traceback/);
    await eventually("the count", async () => (await text(page, "#n-failed")) !== "0");
    await shot(page, "real");
    assert.deepEqual(page.complaints, []);
  },
};

try {
  await scenarios[scenario]();
} finally {
  await browser.close();
}
