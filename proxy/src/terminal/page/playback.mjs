// Plays a recording (asciicast v2) as it was shown; pauses are cut short.

/** The longest pause, in seconds. */
const LONGEST = 2;

/** Plays `text` on a screen, until its end or until `signal` aborts. */
export async function play(text, screen, signal) {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const head = JSON.parse(lines.shift() ?? "null");
  if (head?.version !== 2) throw new Error("This is no asciicast of version 2.");
  screen.reset();
  screen.resize(head.width, head.height);
  let before = 0;
  for (const line of lines) {
    const [at, kind, data] = JSON.parse(line);
    await pause(Math.min(at - before, LONGEST), signal);
    if (signal.aborted) return;
    before = at;
    if (kind === "o") screen.write(data);
    if (kind === "r") screen.resize(...data.split("x").map(Number));
  }
}

function pause(seconds, signal) {
  return new Promise((over) => {
    const timer = setTimeout(over, Math.max(0, seconds) * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), over()), { once: true });
  });
}
