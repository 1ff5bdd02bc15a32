// The page of a terminal in a real browser: what it shows, what it survives, what it keeps, and who watches.
//
// Arguments, as one JSON object: page, token, admin, key, tenant, tokenId, chromium, screenshots (a folder).

import { mkdirSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";

import { chromium } from "playwright-core";

const given = JSON.parse(process.argv[2]);
const flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";
const browser = await chromium.launch({ executablePath: given.chromium, headless: true, args: flags.split(" ") });
mkdirSync(given.screenshots, { recursive: true });
const result = { violations: [], errors: [] };

// A network that can fail, in front of the gateway.
const edge = new URL(given.page);
const connections = new Set();
const network = createServer((near) => {
  const far = connect(Number(edge.port), edge.hostname);
  connections.add(near);
  for (const [from, to] of [[near, far], [far, near]]) {
    from.on("error", () => to.destroy()).on("close", () => to.destroy()).pipe(to);
  }
});
await new Promise((listening) => network.listen(0, "127.0.0.1", listening));
given.page = given.page.replace(edge.host, `127.0.0.1:${network.address().port}`);

/** A page that tells what its policy refused. */
async function open(context) {
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && result.violations.push(message.text()));
  page.on("pageerror", (error) => result.errors.push(String(error)));
  await page.goto(given.page);
  return page;
}

async function enter(page, credential, role = "driver") {
  await page.fill("[name=credential]", credential);
  await page.selectOption("[name=role]", role);
  await page.click("#enter button");
  await page.waitForSelector("body[data-state=open]");
}

/** What is on the screen, as text. */
const screen = (page) => page.evaluate(() => [...document.querySelectorAll(".xterm-rows > div")].map((row) => row.textContent).join("\n"));
const until = (page, text) =>
  page.waitForFunction((text) => [...document.querySelectorAll(".xterm-rows > div")].some((row) => row.textContent.includes(text)), text);
const type = (page, text) => page.locator(".xterm-helper-textarea").pressSequentially(text);
const press = (page, key) => page.locator(".xterm-helper-textarea").press(key);
const line = async (page, text) => (await type(page, text), await press(page, "Enter"));
const shot = (page, name) => page.screenshot({ path: join(given.screenshots, `terminal-${name}.png`) });

async function staff(role, session) {
  const answer = await fetch(`${given.admin}/v1/tenants/${given.tenant}/terminal_tickets`, {
    method: "POST",
    headers: { authorization: `Bearer ${given.key}`, "content-type": "application/json" },
    body: JSON.stringify({ role, reason: "a test", session }),
  });
  return (await answer.json()).ticket;
}

try {
  const context = await browser.newContext({ viewport: { width: 1000, height: 600 } });
  const page = await open(context);
  const headers = (await page.request.get(given.page)).headers();
  result.headers = { policy: headers["content-security-policy"], nosniff: headers["x-content-type-options"], store: headers["cache-control"] };
  result.title = await page.title();
  await enter(page, given.token);
  const kept = () => page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]));
  result.token_kept = (await kept()).includes(given.token) || (await page.content()).includes(given.token);

  // Type, colours, the title and the clipboard.
  await line(page, "printf '\\033[31mred\\033[0m \\033[38;2;1;200;3mtrue\\033[0m\\n'; printf '\\033]0;stolen\\007\\033]52;c;c3RvbGVu\\007'; echo t$((6*7))x");
  await until(page, "t42x");
  result.colours = await page.evaluate(() => {
    const of = (text) => [...document.querySelectorAll(".xterm-rows span")].find((span) => span.textContent.startsWith(text));
    return ["red", "true"].map((text) => getComputedStyle(of(text)).color);
  });
  result.title_after = await page.title();
  result.title_report = await (async () => {
    await line(page, "printf '\\033[21t'; read -t 1 -n 1 x; echo \"r[$x]$((6*7))\"");
    await until(page, "]42");
    return (await screen(page)).includes("r[]42");
  })();
  await shot(page, "colours");

  // Resize.
  await line(page, "clear; stty size; echo a$((6*7))x");
  await until(page, "a42x");
  const before = /(\d+) (\d+)/.exec(await screen(page)).slice(1).map(Number);
  await page.setViewportSize({ width: 700, height: 400 });
  await page.waitForFunction((rows) => document.querySelectorAll(".xterm-rows > div").length < rows, before[0]);
  await line(page, "clear; stty size; echo b$((6*7))x");
  await until(page, "b42x");
  const after = /(\d+) (\d+)/.exec(await screen(page)).slice(1).map(Number);
  result.sizes = [before, after];
  await page.setViewportSize({ width: 1000, height: 600 });

  // Signals and jobs.
  // What says so is in front of the terminal: no key comes before it.
  await line(page, "clear; sh -c 'echo s$((1+1))y; exec sleep 1000'");
  await until(page, "s2y");
  await press(page, "Control+c");
  await line(page, "echo c$((6*7))x");
  await until(page, "c42x");
  await line(page, `sh -c 'trap "echo w$((1+2))z" CONT; echo k$((1+1))y; while :; do sleep 0.1; done'`);
  await until(page, "k2y");
  await press(page, "Control+z");
  await until(page, "Stopped");
  await line(page, "jobs; fg");
  await until(page, "w3z");
  await press(page, "Control+c");
  await line(page, "echo d$((6*7))x $(jobs | wc -l)jobs");
  await until(page, "d42x 0jobs");

  // An editor.
  await line(page, "clear; vim -u NONE -N note.txt");
  await page.waitForFunction(() => document.querySelectorAll(".xterm-rows > div")[1].textContent.startsWith("~"));
  await type(page, "ihello from vim");
  await until(page, "hello from vim");
  await shot(page, "vim");
  await press(page, "Escape");
  await line(page, ":wq");
  await line(page, "clear; cat note.txt; echo e$((6*7))x");
  await until(page, "e42x");
  result.vim = (await screen(page)).includes("hello from vim");

  // Reload: everything is there once more, and nothing is typed by it.
  await line(page, "clear; for i in $(seq 1 12); do echo line-$i-$((i*i)); done; echo f$((6*7))x");
  await until(page, "f42x");
  const shown = await screen(page);
  await page.reload();
  await page.waitForSelector("body[data-state=open]");
  await until(page, "f42x");
  result.reloaded = (await screen(page)) === shown;
  await line(page, "echo g$((6*7))x");
  await until(page, "g42x");

  // A lost connection comes back by itself, where it was.
  const lost = await screen(page);
  for (const connection of connections) connection.destroy();
  await page.waitForSelector("body[data-state=closed]", { state: "attached" });
  await page.waitForSelector("body[data-state=open]");
  result.returned = (await screen(page)) === lost;
  await line(page, "echo i$((6*7))x");
  await until(page, "i42x");
  const { session } = JSON.parse(await page.evaluate(() => sessionStorage.getItem("openclawmu.terminal")));
  result.session = session;

  // Somebody watches, and can't type.
  const other = await (await browser.newContext({ viewport: { width: 1000, height: 600 } })).newPage();
  await other.goto(given.page);
  await enter(other, await staff("observer", session));
  await until(other, "i42x");
  await page.waitForSelector("#watched:not([hidden])");
  result.banner = await page.textContent("#watched");
  await shot(page, "watched");
  await other.locator(".xterm-helper-textarea").pressSequentially("echo typed", { timeout: 5000 });
  await line(page, "echo h$((6*7))x");
  await until(other, "h42x");
  result.observer_typed = (await screen(page)).includes("typed");
  result.observer_end = await other.locator("#end").isVisible();
  await shot(other, "observer");
  await other.click("#leave");
  await page.waitForSelector("#watched[hidden]", { state: "attached" });

  // A recording.
  const recording = await fetch(`${given.admin}/v1/tenants/${given.tenant}/recordings/${session}`, { headers: { authorization: `Bearer ${given.key}` } });
  const file = join(given.screenshots, "recording.cast");
  writeFileSync(file, await recording.text());
  await other.setInputFiles("[name=recording]", file);
  await until(other, "t42x");
  result.played = true;
  await shot(other, "playback");

  // Revoked.
  const revoked = await fetch(`${given.admin}/v1/tenants/${given.tenant}/tokens/${given.tokenId}`, { method: "DELETE", headers: { authorization: `Bearer ${given.key}` } });
  result.revoked = revoked.status;
  await page.waitForSelector("body[data-state=over]");
  result.told = await page.textContent("#problem");
  result.forgotten = await page.evaluate(() => sessionStorage.length);
  await shot(page, "revoked");
} catch (error) {
  for (const [number, page] of browser.contexts().flatMap((context) => context.pages()).entries()) await shot(page, `failed-${number}`).catch(() => {});
  throw new Error(`${error}\nso far: ${JSON.stringify(result)}`);
} finally {
  network.close();
  for (const connection of connections) connection.destroy();
  await browser.close();
}
console.log(JSON.stringify(result));
