// Tools, schemas and images by the official clients for Node and by Vercel's AI SDK, unmodified. Prints one JSON object; asserts
// nothing itself.
//
// Each client asks for the weather in two places, runs the calls that come back, and sends the results; once whole, once streamed.
// Arguments: the gateway's URL without a path, a token, a model.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import Anthropic from "@anthropic-ai/sdk";
import { APICallError, generateText, jsonSchema, Output, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";

const [url, token, model] = process.argv.slice(2);
const ASK = "What is the weather in Paris and in Rome?";
const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const PARAMETERS = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const REPORT = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "integer" } },
  required: ["city", "degrees"],
  additionalProperties: false,
};
const weather = ({ city }) => ({ Paris: "sun", Rome: "rain" })[city];

async function openai() {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token });
  const tools = [{ type: "function", function: { name: "weather", description: "The weather.", parameters: PARAMETERS } }];
  const asked = [{ role: "user", content: ASK }];
  const options = { model, tools, max_tokens: 200 };
  const results = (message) =>
    message.tool_calls.map((call) => ({
      role: "tool",
      tool_call_id: call.id,
      content: weather(JSON.parse(call.function.arguments)),
    }));
  const said = {};
  const [choice] = (await client.chat.completions.create({ ...options, messages: asked })).choices;
  said.finish = choice.finish_reason;
  const turn = (message) => [...asked, message, ...results(message)];
  const whole = await client.chat.completions.create({ ...options, messages: turn(choice.message) });
  said.whole = whole.choices[0].message.content;
  const first = await client.chat.completions.stream({ ...options, messages: asked }).finalMessage();
  said.stream = await client.chat.completions.stream({ ...options, messages: turn(first) }).finalContent();
  const response_format = { type: "json_schema", json_schema: { name: "report", strict: true, schema: REPORT } };
  const hello = [{ role: "user", content: "hello" }];
  const parsed = await client.chat.completions.parse({ model, messages: hello, response_format, max_tokens: 200 });
  said.schema = JSON.parse(parsed.choices[0].message.content);
  const content = [
    { type: "text", text: "look" },
    { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } },
  ];
  const seen = await client.chat.completions.create({ model, max_tokens: 200, messages: [{ role: "user", content }] });
  said.image = seen.choices[0].message.content;
  return said;
}

async function anthropic() {
  const client = new Anthropic({ baseURL: url, apiKey: token, maxRetries: 0 });
  const options = {
    model,
    max_tokens: 200,
    tools: [{ name: "weather", description: "The weather.", input_schema: PARAMETERS }],
  };
  const asked = [{ role: "user", content: ASK }];
  const results = (content) =>
    content
      .filter((block) => block.type === "tool_use")
      .map((block) => ({ type: "tool_result", tool_use_id: block.id, content: weather(block.input) }));
  const turn = ({ content }) => [...asked, { role: "assistant", content }, { role: "user", content: results(content) }];
  const said = {};
  const answer = await client.messages.create({ ...options, messages: asked });
  said.finish = answer.stop_reason;
  said.whole = (await client.messages.create({ ...options, messages: turn(answer) })).content[0].text;
  const first = await client.messages.stream({ ...options, messages: asked }).finalMessage();
  said.stream = await client.messages.stream({ ...options, messages: turn(first) }).finalText();
  const parsed = await client.messages.create({
    model,
    max_tokens: 200,
    messages: [{ role: "user", content: "hello" }],
    output_config: { format: { type: "json_schema", schema: REPORT } },
  });
  said.schema = JSON.parse(parsed.content[0].text);
  const source = { type: "base64", media_type: "image/png", data: PIXEL };
  const content = [{ type: "text", text: "look" }, { type: "image", source }];
  const seen = await client.messages.create({ model, max_tokens: 200, messages: [{ role: "user", content }] });
  said.image = seen.content[0].text;
  return said;
}

// The AI SDK runs the tools itself, step by step.
async function vercel(language) {
  const tools = {
    weather: tool({ description: "The weather.", inputSchema: jsonSchema(PARAMETERS), execute: async (input) => weather(input) }),
  };
  const options = { model: language, tools, stopWhen: stepCountIs(3), maxOutputTokens: 200, maxRetries: 0, prompt: ASK };
  const said = {};
  said.whole = (await generateText(options)).text;
  said.stream = "";
  for await (const part of streamText(options).fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") said.stream += part.text;
  }
  const parsed = await generateText({
    model: language,
    prompt: "hello",
    output: Output.object({ schema: jsonSchema(REPORT) }),
    maxOutputTokens: 200,
    maxRetries: 0,
  }).catch((error) => {
    said.schema = error.statusCode ?? String(error);
  });
  said.schema = parsed?.output ?? said.schema;
  const content = [
    { type: "text", text: "look" },
    { type: "image", image: Buffer.from(PIXEL, "base64"), mediaType: "image/png" },
  ];
  const seen = await generateText({
    model: language,
    messages: [{ role: "user", content }],
    maxOutputTokens: 200,
    maxRetries: 0,
  });
  said.image = seen.text;
  return said;
}

async function errors() {
  const raised = async (call) => {
    try {
      await call();
    } catch (error) {
      return [APICallError.isInstance(error) ? error.name : error.constructor.name, error.status ?? error.statusCode];
    }
    return null;
  };
  const messages = [{ role: "user", content: "hello" }];
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token });
  const stranger = new Anthropic({ baseURL: url, apiKey: "nobody", maxRetries: 0 });
  const nobody = createOpenAI({ baseURL: `${url}/v1`, apiKey: "nobody" });
  return {
    openai: await raised(() => client.chat.completions.create({ model: "nobody", messages })),
    anthropic: await raised(() => stranger.messages.create({ model, max_tokens: 10, messages })),
    vercel: await raised(() => generateText({ model: nobody.chat(model), prompt: "hello", maxRetries: 0 })),
  };
}

const providers = {
  vercel_chat: () => createOpenAI({ baseURL: `${url}/v1`, apiKey: token }).chat(model),
  vercel_responses: () => createOpenAI({ baseURL: `${url}/v1`, apiKey: token }).responses(model),
  vercel_anthropic: () => createAnthropic({ baseURL: `${url}/v1`, apiKey: token })(model),
  vercel_google: () => createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey: token })(model),
};
const clients = { openai, anthropic, errors };
for (const [name, language] of Object.entries(providers)) clients[name] = () => vercel(language());
const result = {};
for (const [name, client] of Object.entries(clients)) {
  try {
    result[name] = await client();
  } catch (error) {
    // Told, and judged by who reads it.
    result[name] = { error: String(error), body: error.responseBody ?? error.stack };
  }
}
console.log(JSON.stringify(result));
