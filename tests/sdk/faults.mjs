// Asks what it is told to ask, and says what came of it. Nothing is judged here.

import { readFileSync, writeFileSync } from "node:fs";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI, { toFile } from "openai";

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
    for await (const chunk of stream) {
      came.text += chunk.choices[0].delta.content ?? "";
      came.events += 1;
    }
  },
  async responses_stream(openai, came, options) {
    const stream = await openai.responses.create({ model: "node", input: "Hello", stream: true }, options);
    for await (const event of stream) {
      came.text += event.delta ?? "";
      came.last = event.type;
      came.events += 1;
    }
  },
  async images_stream(openai, came, options) {
    const stream = await openai.images.generate({ model: "node", prompt: "Hello", stream: true }, options);
    for await (const event of stream) came.text += event.b64_json;
  },
  async transcription_stream(openai, came, options) {
    const file = await toFile(Buffer.from("RIFF"), "speech.wav");
    const stream = await openai.audio.transcriptions.create({ model: "node", file, stream: true }, options);
    for await (const event of stream) came.text += event.delta ?? "";
  },
  async thread_run_stream(openai, came, options) {
    const body = { assistant_id: "asst_1", model: "node", stream: true };
    const stream = await openai.beta.threads.runs.create("thread_1", body, options);
    for await (const { event, data } of stream) {
      if (event === "thread.message.delta") came.text += data.delta.content[0].text.value;
    }
  },
  // The SDK reads no events here, and hands on the bytes.
  async speech_stream(openai, came, options) {
    const body = { model: "node", voice: "alloy", input: "Hello", stream_format: "sse" };
    const response = await openai.audio.speech.create(body, options);
    let read = "";
    for await (const chunk of response.body) {
      read += Buffer.from(chunk).toString();
      came.text = [...read.matchAll(/"audio":"([^"]*)"/g)].map((found) => found[1]).join("");
    }
  },
  async messages_stream(openai, came, options) {
    const baseURL = openai.baseURL.replace(/\/v1$/, "");
    const anthropic = new Anthropic({ baseURL, apiKey: KEY_ALL, maxRetries: 0, timeout: 60_000 });
    const body = { model: "node", max_tokens: 9, messages: HELLO, stream: true };
    for await (const event of await anthropic.messages.create(body, options)) {
      if (event.type === "content_block_delta") came.text += event.delta.text;
      came.events += 1;
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
  const came = { text: "", last: null, events: 0, error: null };
  const baseURL = `${GATEWAY_URL}/${at}/node/v1`;
  const openai = new OpenAI({ baseURL, apiKey: KEY_ALL, maxRetries: retries, timeout: 60_000 });
  const options = { headers: { "x-simulate-id": `${at}/node` } };
  await asks[ask](openai, came, options).catch((error) => (came.error = describe(error)));
  report[`${at}/node`] = came;
}

await Promise.all(JSON.parse(readFileSync(CASES)).map(ask));
writeFileSync(REPORT, JSON.stringify(report));
