// The example page in a real browser: it chats, its backend's token is nowhere in it, and other pages get nothing.
//
// Arguments, as one JSON object: page (the example's origin), password, gateway, token, admin, key, tenant, tokenId.

import { createServer } from "node:http";

import OpenAI from "openai";
import { chromium } from "playwright-core";

const given = JSON.parse(process.argv[2]);
const flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";
const browser = await chromium.launch({ executablePath: given.chromium, headless: true, args: flags.split(" ") });
const result = {};

/** Everything that a page has sent and got, as text. */
function watch(context) {
  const seen = [];
  const bodies = [];
  context.on("request", async (request) => {
    seen.push(request.url(), request.postData() ?? "", JSON.stringify(await request.allHeaders().catch(() => ({}))));
  });
  context.on("response", (response) => {
    seen.push(JSON.stringify(response.headers()));
    bodies.push(response.text().then((text) => seen.push(text)).catch(() => {}));
  });
  return { text: async () => (await Promise.all(bodies), seen.join("\n")) };
}

/** A chat from inside a page with this credential; what the page learns. */
const chatFrom = (page, gateway, secret, credentials = "omit") =>
  page.evaluate(
    async ([gateway, secret, credentials]) => {
      const headers = { "content-type": "application/json", ...(secret && { authorization: `Bearer ${secret}` }) };
      const body = JSON.stringify({ model: "alpha", max_tokens: 4, messages: [{ role: "user", content: "hi" }] });
      try {
        const reply = await fetch(`${gateway}/v1/chat/completions`, { method: "POST", headers, body, credentials });
        return { status: reply.status, id: reply.headers.get("x-request-id"), cost: reply.headers.get("x-openclawmu-cost-usd") };
      } catch (error) {
        return { refused: error.name };
      }
    },
    [gateway, secret, credentials],
  );

try {
  const context = await browser.newContext();
  const seen = watch(context);
  const page = await context.newPage();
  await page.goto(given.page);
  await page.fill("#login [name=user]", "ann");
  await page.fill("#login [name=password]", given.password);
  await page.click("#login button");
  const asked = page.waitForRequest((request) => request.url().endsWith("/chat/completions") && request.method() === "POST");
  await page.fill("#chat [name=message]", "hello");
  await page.click("#chat button");
  const secret = (await (await asked).headerValue("authorization")).replace("Bearer ", "");
  await page.waitForFunction(() => document.querySelector("#chat").ariaBusy === "false");
  result.answer = await page.textContent("#answer");
  result.problem = await page.textContent("#problem");

  const storage = () => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, document.documentElement.outerHTML]);
  const kept = await page.evaluate(storage);
  const cookies = JSON.stringify(await context.cookies());
  const all = [await seen.text(), kept, cookies].join("\n");
  result.watched = all.includes(secret);
  result.token_seen = all.includes(given.token) || all.includes(given.token.slice(-30));
  result.secret_kept = kept.includes(secret) || cookies.includes(secret);
  result.readable = await chatFrom(page, given.gateway, secret);

  // The same server under another name is another origin.
  const other = await context.newPage();
  await other.goto(given.page.replace("localhost", "127.0.0.1"));
  result.other_origin = await chatFrom(other, given.gateway, secret);

  // The official client in a page: its own headers pass the browser's question. Run from here, with the page's fetch.
  const fetchFrom = async (url, init) => {
    const sent = { method: init.method, headers: Object.fromEntries(new Headers(init.headers)), body: init.body };
    const got = await page.evaluate(
      async ([url, sent]) => {
        const reply = await fetch(url, sent);
        return { status: reply.status, headers: [...reply.headers], body: await reply.text() };
      },
      [String(url), sent],
    );
    return new Response(got.body, { status: got.status, headers: got.headers });
  };
  const client = new OpenAI({
    baseURL: `${given.gateway}/v1`, apiKey: secret, dangerouslyAllowBrowser: true, fetch: fetchFrom, maxRetries: 0,
  });
  const reply = await client.chat.completions.create({ model: "alpha", max_tokens: 4, messages: [{ role: "user", content: "hi" }] });
  result.client = reply.choices[0].message.content;

  // The cookie, set by a server of the gateway's own host, as a backend beside it would.
  const cookie = { value: "" };
  const beside = createServer((_, answer) => {
    answer.writeHead(200, { "content-type": "text/html", "set-cookie": cookie.value }).end("<p>beside</p>");
  });
  await new Promise((listening) => beside.listen(0, "127.0.0.1", listening));
  const origin = `http://localhost:${beside.address().port}`;
  const minted = await fetch(`${given.gateway}/v1/client_secrets`, {
    method: "POST", headers: { authorization: `Bearer ${given.token}` }, body: JSON.stringify({ origin }),
  });
  cookie.value = (await minted.json()).cookie;
  const own = await browser.newContext();
  const withCookie = await own.newPage();
  await withCookie.goto(origin);
  result.cookie_script = await withCookie.evaluate(() => document.cookie);
  result.cookie = await chatFrom(withCookie, given.gateway, null, "include");
  result.cookie_left_out = await chatFrom(withCookie, given.gateway, null, "omit");
  const thief = await own.newPage();
  await thief.goto(given.page);
  result.cookie_other_origin = await chatFrom(thief, given.gateway, null, "include");
  beside.close();

  // Its token is revoked: the secret is dead, and there is no other.
  const path = `/v1/tenants/${given.tenant}/tokens/${given.tokenId}`;
  const revoked = await fetch(`${given.admin}${path}`, { method: "DELETE", headers: { authorization: `Bearer ${given.key}` } });
  result.revoked = revoked.status;
  result.dead = await chatFrom(page, given.gateway, secret);
  await page.fill("#chat [name=message]", "again");
  await page.click("#chat button");
  await page.waitForFunction(() => document.querySelector("#problem").textContent !== "");
  result.told = await page.textContent("#problem");
} finally {
  await browser.close();
}
console.log(JSON.stringify(result));
