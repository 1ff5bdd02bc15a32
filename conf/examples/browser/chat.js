// Chats with the gateway from the page. It holds a client secret, in memory alone: one that has ended is asked for anew.

const [login, chat, answer, problem] = ["login", "chat", "answer", "problem"].map((id) => document.getElementById(id));
let access; // { secret, model, base_url }

/** Asks the page's own backend. */
async function backend(path, body) {
  const reply = await fetch(path, { method: "POST", body: JSON.stringify(body ?? {}) });
  const said = await reply.json();
  if (!reply.ok) throw new Error(said.error);
  return said;
}

/** Asks the gateway; a secret that has ended is renewed once. */
async function ask(message, renewed = false) {
  access ??= await backend("/client-secret");
  const reply = await fetch(`${access.base_url}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${access.secret}`, "content-type": "application/json" },
    body: JSON.stringify({
      model: access.model,
      stream: true,
      max_tokens: 200,
      messages: [{ role: "user", content: message }],
    }),
  });
  if (reply.ok) return reply;
  if (reply.status === 401 && !renewed) {
    access = undefined;
    return ask(message, true);
  }
  throw new Error((await reply.json()).error.message);
}

/** The pieces of text in a stream of server-sent events. */
async function* texts(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter((line) => line.startsWith("data: ") && line !== "data: [DONE]")) {
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Error(event.error.message);
      yield event.choices[0]?.delta.content ?? "";
    }
  }
}

/** Runs `act` on the form's fields instead of sending it. */
function onSubmit(form, act) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = "";
    form.ariaBusy = "true";
    try {
      await act(Object.fromEntries(new FormData(form)));
    } catch (error) {
      problem.textContent = error.message;
    }
    form.ariaBusy = "false";
  });
}

onSubmit(login, async (fields) => {
  await backend("/login", fields);
  [login.hidden, chat.hidden] = [true, false];
});

onSubmit(chat, async ({ message }) => {
  answer.textContent = "";
  for await (const text of texts(await ask(message))) answer.textContent += text;
});
