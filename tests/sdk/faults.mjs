// Asks what it is told to ask, and says what came of it. Nothing is judged here.

import { readFileSync, writeFileSync } from "node:fs";

import OpenAI from "openai";

const { GATEWAY_URL, KEY_ALL, CASES, REPORT } = process.env;
const HELLO = [{ role: "user", content: "Hello" }];

const asks = {
  async chat(openai, came, options) {
    const completion = await openai.chat.completions.create({ model: "node", messages: HELLO }, options);
    came.text = completion.choices[0].message.content;
  },
  async chat_stream(openai, came, options) {
    const body = { model: "node", messages: HELLO, stream: true };
    const stream = await openai.chat.completions.create(body, options);
    for await (const chunk of stream) came.text += chunk.choices[0].delta.content ?? "";
  },
  async responses_stream(openai, came, options) {
    const stream = await openai.responses.create({ model: "node", input: "Hello", stream: true }, options);
    for await (const event of stream) {
      came.text += event.delta ?? "";
      came.last = event.type;
    }
  },
  async batch(openai, came, options) {
    const body = { input_file_id: "f", endpoint: "/v1/chat/completions", completion_window: "24h" };
    came.text = (await openai.batches.create(body, options)).id;
  },
  async two_batches(openai, came, options) {
    await asks.batch(openai, came, options);
    came.text = "";
    await asks.batch(openai, came, options);
  },
};

const describe = (error) => ({
  class: error.constructor.name,
  status: error.status ?? null,
  code: error.code ?? null,
  retry_after: error.headers?.get("retry-after") ?? null,
  should_retry: error.headers?.get("x-should-retry") ?? null,
  says: String(error),
});

const report = {};

async function ask({ at, ask, retries }) {
  const came = { text: "", last: null, error: null };
  const baseURL = `${GATEWAY_URL}/${at}/node/v1`;
  const openai = new OpenAI({ baseURL, apiKey: KEY_ALL, maxRetries: retries, timeout: 60_000 });
  const options = { headers: { "x-simulate-id": `${at}/node` } };
  await asks[ask](openai, came, options).catch((error) => (came.error = describe(error)));
  report[`${at}/node`] = came;
}

await Promise.all(JSON.parse(readFileSync(CASES)).map(ask));
writeFileSync(REPORT, JSON.stringify(report));
