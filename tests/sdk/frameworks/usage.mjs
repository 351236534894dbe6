// Streams a chat by openai-node and by the AI SDK, neither of which asks for its usage, and prints what they give to their callers.
//
// Environment: BASE_URL, API_KEY. Output: one JSON object, a list of chunks for each client.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";
import OpenAI from "openai";

const { BASE_URL: baseURL, API_KEY: apiKey } = process.env;
const messages = [{ role: "user", content: "Hello" }];

async function openai() {
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  const stream = await client.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true });
  const chunks = [];
  for await (const chunk of stream) {
    // As every loop over chunks does that never asked for a chunk without choices.
    if (chunk.choices[0].index !== 0) throw new Error("another choice");
    chunks.push(chunk);
  }
  return chunks;
}

async function aiSdk() {
  const provider = createOpenAICompatible({ name: "gateway", baseURL, apiKey });
  const result = streamText({ model: provider("gpt-4o-mini"), messages, maxRetries: 0, includeRawChunks: true });
  const parts = [];
  for await (const part of result.fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "raw") parts.push(part.rawValue);
    if (part.type === "text-delta") parts.push(part.text);
    if (part.type === "finish") parts.push({ finishReason: part.finishReason });
  }
  return parts;
}

console.log(JSON.stringify({ openai: await openai(), "ai-sdk": await aiSdk() }));
