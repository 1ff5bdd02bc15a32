// The operator's console in a real browser: what a person does there, what it keeps, and what other pages get.
//
// Arguments, as one JSON object: console, edge (origins), key, token (a tenant's), hostile (how many tenants have hostile names),
// chromium, screenshots (a folder).

import { mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

import { chromium } from "playwright-core";

const given = JSON.parse(process.argv[2]);
const flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";
const browser = await chromium.launch({ executablePath: given.chromium, headless: true, args: flags.split(" ") });
mkdirSync(given.screenshots, { recursive: true });
const result = { violations: [], errors: [], too_wide: [], elsewhere: [], chats: [] };

const at = (path) => given.console + path;
const path = (page) => new URL(page.url()).pathname;

/** A page that tells what its policy refused, and what it loaded from elsewhere. */
async function open(context) {
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && !message.text().includes("status of 4") && result.violations.push(message.text()));
  page.on("pageerror", (error) => result.errors.push(String(error)));
  page.on("dialog", (dialog) => (result.errors.push(dialog.message()), dialog.dismiss()));
  page.on("request", (request) => {
    const to = new URL(request.url());
    if (page.url().startsWith(given.console) && to.origin !== given.console && to.origin !== given.edge) result.elsewhere.push(request.url());
  });
  return page;
}

/** Sends the form of a page that this selector is in, and waits for the page that follows. */
async function submit(page, button) {
  const [answer] = await Promise.all([page.waitForResponse((response) => response.request().method() === "POST"), page.click(button)]);
  await page.waitForLoadState();
  return answer.status();
}

/** A chat with this token; the status. */
async function chat(token) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const body = JSON.stringify({ model: "alpha", max_tokens: 4, messages: [{ role: "user", content: "hi" }] });
  const reply = await fetch(`${given.edge}/v1/chat/completions`, { method: "POST", headers, body });
  await reply.text();
  result.chats.push(reply.status);
}

async function logIn(page) {
  await page.goto(at("/console"));
  await page.fill("#key", given.key);
  await submit(page, ".login button");
}

try {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
  const page = await open(context);

  // In, with an admin key and nothing else.
  await page.goto(at("/console/tenants"));
  result.led = path(page);
  await page.fill("#key", given.token);
  await submit(page, ".login button");
  result.refused = await page.textContent("#problem");
  await logIn(page);
  const [cookie] = await context.cookies(at("/console"));
  result.session = cookie.value;
  result.cookie = { httpOnly: cookie.httpOnly, sameSite: cookie.sameSite, path: cookie.path };
  result.script_sees = await page.evaluate(() => [document.cookie, JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage })]);

  // A tenant, whose token is shown once.
  await page.goto(at("/console/new-tenant"));
  await page.fill("[name=id]", "shop");
  await page.fill("[name=name]", "Shop & Söhne");
  await page.fill("[name='quota.usd_per_day']", "0.000000001");
  await submit(page, "main form button.primary");
  result.made_secret = await page.textContent("#secret");
  const first = (await page.content()).includes(result.made_secret);
  await page.reload();
  result.shown_once = [first, (await page.content()).includes(result.made_secret)];

  // Its quota is raised: wrongly first, which is said at the field.
  await chat(result.made_secret);
  await page.goto(at("/console/tenants/shop/settings"));
  await page.fill("[name='quota.usd_per_day']", "much");
  await submit(page, "main section:first-of-type button.primary");
  result.wrong = await page.evaluate(() => {
    const wrong = document.querySelector("[aria-invalid=true]");
    return [wrong.name, wrong.value];
  });
  await page.fill("[name='quota.usd_per_day']", "50");
  await submit(page, "main section:first-of-type button.primary");
  await chat(result.made_secret);

  // Another page sends the console's forms: of another site, and of another port, whose requests carry the cookie.
  const thief = createServer((_, answer) => {
    const action = at("/console/tenants/shop/suspend");
    answer.writeHead(200, { "content-type": "text/html" }).end(`<form method=post action="${action}"><input name=csrf value=x><button>Win a prize</button></form>`);
  });
  await new Promise((listening) => thief.listen(0, "127.0.0.1", listening));
  result.cross = [];
  for (const host of ["localhost", "127.0.0.1"]) {
    const prize = await context.newPage();
    await prize.goto(`http://${host}:${thief.address().port}`);
    result.cross.push(await submit(prize, "button"));
    await prize.close();
  }
  thief.close();
  await page.goto(at("/console/tenants/shop"));
  result.after_cross = await page.textContent(".head .mark");
  const byCookie = await fetch(at("/v1/tenants"), { headers: { cookie: `${cookie.name}=${cookie.value}` } });
  result.api_by_cookie = byCookie.status;
  await chat(result.made_secret);

  // Its token is revoked: the next request fails.
  await page.goto(at("/console/tenants/shop/tokens"));
  await page.click("td summary");
  await submit(page, "td button.bad");
  await chat(result.made_secret);

  // Every page, with hostile names in it: text, in both schemes, and no wider than a phone.
  const tabs = ["", "/usage", "/requests", "/tokens", "/money", "/keys", "/terminals", "/backups", "/settings"];
  const pages = ["/console", "/console/tenants", "/console/new-tenant", "/console/rates", "/console/rates/history", "/console/reports", "/console/upkeep", "/console/audit", "/console/config"];
  const of = (n) => tabs.map((tab) => `/console/tenants/x${n}${tab}`);
  const hostile = Array.from({ length: given.hostile }, (_, n) => n);
  const visit = async (page, paths, shot) => {
    for (const path of paths) {
      await page.goto(at(path));
      result.hacked ??= await page.evaluate(() => window.hacked ?? null);
      if (await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth)) result.too_wide.push(path);
      if (shot) await page.screenshot({ path: join(given.screenshots, `console${path.replace("/console", "").replaceAll("/", "-")}-${shot}.png`) });
    }
  };
  await visit(page, [...pages, ...hostile.flatMap((n) => (n === 0 ? of(n) : [`/console/tenants/x${n}`, `/console/tenants/x${n}/settings`]))], "light");
  await page.goto(at("/console/tenants"));
  result.as_text = await page.evaluate(() => [...document.querySelectorAll("tbody tr td:nth-child(2)")].filter((cell) => cell.textContent.includes("hacked")).length);
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 390, height: 800 });
  await visit(page, [...pages, ...of(1)], "dark-narrow");
  await page.setViewportSize({ width: 1200, height: 900 });

  // A ticket opens the tenant's terminal once; the console shows it, and ends it.
  await page.goto(at("/console/tenants/acme/terminals"));
  await page.fill("[name=reason]", "a look at the build");
  await page.selectOption("[name=role]", "driver");
  await submit(page, "main button.primary");
  const ticket = await page.textContent("#secret");
  const terminal = await browser.newPage();
  const enter = async (page) => {
    await page.goto(`${given.edge}/v1/terminal/ui`);
    await page.fill("[name=credential]", ticket);
    await page.click("#enter button");
  };
  await enter(terminal);
  await terminal.waitForSelector("body[data-state=open]");
  const again = await browser.newPage();
  await enter(again);
  await again.waitForFunction(() => document.querySelector("#problem").textContent !== "");
  await page.goto(at("/console/tenants/acme/terminals"));
  const shown = (await page.textContent("section:first-of-type tbody")).includes("admin.key");
  await submit(page, "section:first-of-type button.bad");
  await terminal.waitForFunction(() => document.querySelector("#problem").textContent !== "");
  await page.goto(at("/console/tenants/acme/terminals"));
  const recorded = (await page.locator("a", { hasText: "Fetch" }).count()) === 1;
  result.terminal = [shown, recorded, (await page.textContent("section:first-of-type")).includes("No terminal is open")];

  await page.goto(at("/console/audit"));
  await submit(page, ".head button");
  result.verified = (await page.textContent("main")).includes("as they were written");

  // Its end, which is typed.
  await page.goto(at("/console/tenants/shop/settings"));
  await page.fill("[name=confirm]", "shopp");
  const refused = await submit(page, "section.danger button");
  await page.fill("[name=confirm]", "shop");
  await submit(page, "section.danger button");
  result.deleted = [refused, path(page) === "/console/tenants" && !(await page.textContent("tbody")).includes("shop")];

  // Out: the cookie is gone here, and good for nothing there.
  await submit(page, ".who button");
  const replayed = await fetch(at("/console"), { headers: { cookie: `${cookie.name}=${cookie.value}` }, redirect: "manual" });
  result.left = [replayed.status, replayed.headers.get("location")];
} finally {
  await browser.close();
}
console.log(JSON.stringify(result));
