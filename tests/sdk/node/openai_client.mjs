// The official OpenAI client for Node, unmodified, against the gateway. Prints one JSON object; asserts nothing itself.
//
// Arguments: base URL, a good token, a token whose budget is spent, a token that may call only `alpha`, a token with a low request rate, and
// the mode: `all`; `spent`, only the two calls on the spent budget, so that they can be counted; `wire`, only good answers.

import OpenAI from "openai";
import { VERSION } from "openai/version";

const [baseURL, good, spent, narrow, limited, mode] = process.argv.slice(2);

const client = (apiKey, options = {}) => new OpenAI({ baseURL, apiKey, ...options });

async function errorOf(call) {
  try {
    await call();
  } catch (error) {
    return {
      class: error.constructor.name,
      status: error.status,
      code: error.code,
      type: error.type,
      has_message: Boolean(error.error?.message ?? error.message),
      request_id: Boolean(error.requestID),
      message: error.message,
    };
  }
  return null;
}

function ask(token, { model = "alpha", content = "hello", maxRetries, ...options } = {}) {
  const retries = maxRetries === undefined ? {} : { maxRetries };
  const body = { model, messages: [{ role: "user", content }], max_tokens: 10, ...options };
  return client(token, retries).chat.completions.create(body);
}

async function collected(token, options) {
  const chunks = [];
  for await (const chunk of await ask(token, { ...options, stream: true })) chunks.push(chunk);
  return chunks;
}

if (mode === "spent") {
  console.log(JSON.stringify({ whole: await errorOf(() => ask(spent)), stream: await errorOf(() => ask(spent, { stream: true })) }));
  process.exit(0);
}

const result = { version: VERSION };

const answer = await ask(good);
result.chat = {
  text: answer.choices[0].message.content,
  finish: answer.choices[0].finish_reason,
  prompt: answer.usage.prompt_tokens,
  completion: answer.usage.completion_tokens,
  request_id: Boolean(answer._request_id),
};

let chunks = await collected(good, {});
result.stream = {
  text: chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""),
  usage_chunks: chunks.filter((chunk) => chunk.usage).length,
  finish: chunks.at(-1).choices[0].finish_reason,
};

chunks = await collected(good, { stream_options: { include_usage: true } });
result.stream_with_usage = {
  usage_chunks: chunks.filter((chunk) => chunk.usage).length,
  total: chunks.at(-1).usage.total_tokens,
  choices_of_last: chunks.at(-1).choices.length,
};

const vectors = await client(good).embeddings.create({ model: "embed", input: ["one", "two"] });
result.embeddings = { vectors: vectors.data.map((item) => Array.from(item.embedding)), prompt: vectors.usage.prompt_tokens };

const completion = await client(good).completions.create({ model: "instruct", prompt: "once upon a time", max_tokens: 10 });
result.completion = { text: completion.choices[0].text };

if (mode === "wire") {
  console.log(JSON.stringify(result));
  process.exit(0);
}

result.models = [];
for await (const model of client(good).models.list()) result.models.push(model.id);
result.models.sort();
result.model = (await client(good).models.retrieve("alpha")).id;

result.errors = {
  no_token: await errorOf(() => ask("tk_nobody")),
  forbidden_model: await errorOf(() => ask(narrow, { model: "beta" })),
  unknown_model: await errorOf(() => ask(good, { model: "nobody" })),
  bad_request: await errorOf(() => client(good).chat.completions.create({ model: "alpha", messages: [{ role: "user", content: "x" }], max_tokens: -1 })),
  upstream_down: await errorOf(() => ask(good, { content: "please-fail-500", maxRetries: 0 })),
  broken_stream: await errorOf(() => collected(good, { content: "please-break" })),
};

result.retried = (await ask(good, { content: "please-limit-once" })).choices[0].message.content;
result.limited = [];
for (let count = 0; count < 32; count += 1) result.limited.push((await ask(limited, { content: "quick" })).choices[0].finish_reason);

console.log(JSON.stringify(result));
