// The page of a terminal. It keeps no token: a token is spent on a ticket at once, and what survives a reload is the credential
// that the gateway handed out on this very terminal, good for coming back to it once.

import { FitAddon } from "./addon-fit.mjs";
import * as frame from "./frame.mjs";
import { play } from "./playback.mjs";
import { Terminal } from "./xterm.mjs";

const PROTOCOL = "openclawmu.terminal.v1";
/** Bytes that are shown before the gateway is told. */
const ACK_EVERY = 128 * 1024;
/** Milliseconds between two attempts to come back. */
const AGAIN = [250, 500, 1000, 2000, 4000, 8000];
const PING_EVERY = 20_000;
const KEPT = "openclawmu.terminal";

const $ = (id) => document.getElementById(id);
const place = (path) => new URL(path, location.href);

// xterm.js makes style elements, which the page's policy takes with its nonce alone.
const nonce = document.querySelector("meta[name=style-nonce]").content;
const createElement = document.createElement.bind(document);
document.createElement = (name, options) => {
  const element = createElement(name, options);
  if (String(name).toLowerCase() === "style") element.nonce = nonce;
  return element;
};

const screen = new Terminal({
  cursorBlink: true,
  scrollback: 5000,
  // What a program writes opens nothing: a link is text.
  linkHandler: { activate() {} },
  // A program may neither read the title back nor move the window.
  windowOptions: {},
});
const fit = new FitAddon();
screen.loadAddon(fit);

/** The terminal that is shown: its socket, and how far it is. */
let live = null;
let playing = null;

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

function keep(value) {
  if (value) sessionStorage.setItem(KEPT, JSON.stringify(value));
  else sessionStorage.removeItem(KEPT);
}

function tell(state) {
  $("state").textContent = state;
}

function problem(text) {
  $("problem").textContent = text ?? "";
  $("problem").hidden = !text;
}

function show(isOpen) {
  $("enter").hidden = isOpen;
  for (const id of ["bar", "screen"]) $(id).hidden = !isOpen;
  if (!isOpen) return;
  if (!screen.element) screen.open($("screen"));
  fit.fit();
  screen.focus();
}

/** Spends a token on a ticket. */
async function ticketFor(token, role, session) {
  const body = { role, ...(session && { session }), ...(role === "driver" && !session && { cols: screen.cols, rows: screen.rows }) };
  const answer = await fetch(place("tickets"), {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    credentials: "omit",
    body: JSON.stringify(body),
  });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error.message);
  return said.ticket;
}

/** Attaches with a ticket; who comes back to `session` has seen `seen` bytes of it. */
function attach(ticket, session = null, seen = 0) {
  const url = place("../terminal");
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url, [PROTOCOL, `ticket.${ticket}`]);
  socket.binaryType = "arraybuffer";
  live = { socket, session, seen, shown: seen, acked: seen, until: 0, role: null, back: null, tries: 0, error: null, ended: null };
  const me = live;
  // The first message says where this page was, or is any other.
  socket.onopen = () => socket.send(session ? frame.resume(session, seen) : frame.resize(screen.cols, screen.rows));
  socket.onmessage = ({ data }) => me === live && (typeof data === "string" ? said(me, JSON.parse(data)) : got(me, frame.read(data)));
  socket.onclose = ({ code }) => me === live && closed(me, code);
}

function send(bytes) {
  if (live?.socket.readyState === WebSocket.OPEN) live.socket.send(bytes);
}

/** A message in words: a greeting, or what went wrong. */
function said(me, message) {
  if (message.type === "hello") {
    if (message.start !== "exact") screen.reset();
    // What a program asked a terminal before is not answered again, while it is shown once more.
    const { session, role, return_ticket: back, end_seq: until, seq } = message;
    Object.assign(me, { session, role, back, until, seen: seq, shown: seq, acked: seq, tries: 0 });
    keep({ session: me.session, back: me.back });
    screen.options.disableStdin = me.role !== "driver";
    if (me.role !== "driver" && message.cols) screen.resize(message.cols, message.rows);
    $("end").hidden = me.role === "observer";
    tell(`${me.role} of ${me.session}`);
    document.body.dataset.state = "open";
    if (me.role === "driver") resized();
  } else if (message.type === "error") {
    me.error = message.message;
  }
}

function got(me, { kind, seq, bytes, code, observers, moderators }) {
  if (kind === "output") {
    me.seen = seq + bytes.length;
    const end = me.seen;
    screen.write(bytes, () => {
      me.shown = end;
      if (me === live && me.shown - me.acked >= ACK_EVERY) acknowledge(me);
    });
  } else if (kind === "exit") {
    me.ended = `The shell has ended with ${code}.`;
  } else if (kind === "viewers") {
    $("watched").hidden = me.role !== "driver" || observers + moderators === 0;
  }
}

function acknowledge(me) {
  me.acked = me.shown;
  send(frame.ack(me.acked));
}

function closed(me, code) {
  document.body.dataset.state = "closed";
  // Whoever is told why is not to come back.
  if (me.ended || me.error || code === 1000) return over(me.error ?? me.ended ?? "The terminal has ended.");
  const pause = AGAIN[me.tries];
  if (!me.back || pause === undefined) return over("The terminal can't be reached. A ticket is good once, and for a minute.");
  tell("coming back ...");
  setTimeout(() => {
    if (me !== live) return;
    const { back, session, seen, role, tries } = me;
    attach(back, session, seen);
    Object.assign(live, { back, role, tries: tries + 1 });
  }, pause);
}

function over(why) {
  keep(null);
  live = null;
  tell("");
  problem(why);
  $("watched").hidden = true;
  show(false);
  document.body.dataset.state = "over";
}

function resized() {
  if (!$("screen").hidden && !playing && live?.role !== "observer" && live?.role !== "moderator") {
    fit.fit();
    if (live?.role === "driver") send(frame.resize(screen.cols, screen.rows));
  }
}

/** Answers to what a program asked before are not typed into what runs now. */
const isLive = () => live?.role === "driver" && live.shown >= live.until;

screen.onData((data) => isLive() && [...frame.input(data)].forEach(send));
screen.onBinary((data) => isLive() && [...frame.input(Uint8Array.from(data, (letter) => letter.charCodeAt(0)))].forEach(send));
screen.onResize(({ cols, rows }) => live?.role === "driver" && send(frame.resize(cols, rows)));
new ResizeObserver(resized).observe($("screen"));
setInterval(() => live && (send(frame.ping()), live.shown > live.acked && acknowledge(live)), PING_EVERY);

$("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { credential, role, session } = event.target.elements;
  const value = credential.value.trim();
  credential.value = "";
  problem();
  try {
    show(true);
    screen.reset();
    const named = session.value.trim();
    attach(value.startsWith("tk_") ? await ticketFor(value, role.value, named) : value);
  } catch (error) {
    over(error.message);
  }
});

$("end").addEventListener("click", () => live?.socket.send(JSON.stringify({ type: "end" })));

$("leave").addEventListener("click", () => {
  playing?.abort();
  playing = null;
  const left = live;
  live = null;
  keep(null);
  left?.socket.close(1000);
  show(false);
  document.body.dataset.state = "left";
});

$("enter").elements.recording.addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  problem();
  show(true);
  playing = new AbortController();
  screen.options.disableStdin = true;
  tell(`playing ${file.name}`);
  document.body.dataset.state = "playing";
  try {
    await play(await file.text(), screen, playing.signal);
    document.body.dataset.state = "played";
  } catch (error) {
    problem(error.message);
  }
});

const before = kept();
if (before?.back) {
  show(true);
  attach(before.back, before.session);
} else {
  show(false);
}
