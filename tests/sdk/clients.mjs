// Libraries for OpenAI's API in Node. Each function makes the call that it is given and says what came of it, as JSON.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, run, setTracingDisabled, tool } from "@openai/agents";
import {
  embedMany,
  experimental_generateSpeech as generateSpeech,
  experimental_transcribe as transcribe,
  generateImage,
  generateText,
  jsonSchema,
  stepCountIs,
  streamText,
  tool as aiTool,
} from "ai";
import OpenAI from "openai";
import { z } from "zod";
import { agentsRealtime, agentsResponses } from "./sockets.mjs";

// --- @openai/agents --------------------------------------------------------------------------------------------------------

// It would send traces to OpenAI with the key that it finds.
setTracingDisabled(true);

const look = tool({
  name: "look",
  description: "Looks at something.",
  parameters: z.object({ at: z.string() }),
  execute: ({ at }) => `a ${at}`,
});

async function agents(of) {
  if (of.call === "responses.run_over_websocket") return agentsResponses(of, agentsResult);
  if (of.call === "realtime.run") return agentsRealtime(of);
  const client = new OpenAI({
    baseURL: `${of.base}/v1`,
    apiKey: of.key,
    defaultHeaders: { "x-simulate-id": of.id },
    maxRetries: of.retries,
    timeout: 60_000,
  });
  const [api, way] = of.call.split(".");
  const Model = api === "chat" ? OpenAIChatCompletionsModel : OpenAIResponsesModel;
  const model = new Model(client, of.with.model ?? "gpt-4o");
  const agent = new Agent({ name: "one", instructions: "Be brief.", model, tools: way === "run_with_tools" ? [look] : [] });
  if (way !== "run_streamed") return agentsResult(await run(agent, "Hello"));
  const result = await run(agent, "Hello", { stream: true });
  const events = [];
  for await (const event of result) events.push([event.type, event.name ?? event.data?.event?.type ?? event.data?.type ?? null]);
  await result.completed;
  return { events, ...agentsResult(result) };
}

function agentsResult(result) {
  const { requests, inputTokens, outputTokens, totalTokens } = result.state.usage;
  return {
    output: result.finalOutput ?? null,
    items: result.newItems.map((item) => item.type),
    usage: [requests, inputTokens, outputTokens, totalTokens],
  };
}

// --- ai ------------------------------------------------------------------------------------------------------------------------

const ai = (provider) => async (of) => {
  const { model, embedding, image, speech, transcription } = provider(of);
  const name = of.with.model ?? "gpt-4o";
  const [api, way] = of.call.split(".");
  const options = { maxRetries: of.retries };
  if (way === "embedMany") return { embeddings: (await embedMany({ model: embedding(name), values: ["Hello", "there"], ...options })).embeddings };
  if (way === "generateImage") return { base64: (await generateImage({ model: image(name), prompt: "Hello", ...options })).image.base64 };
  if (way === "generateSpeech") return { bytes: (await generateSpeech({ model: speech(name), text: "Hello", ...options })).audio.uint8Array.length };
  if (way === "transcribe") return { text: (await transcribe({ model: transcription(name), audio: wav(), ...options })).text };
  const asked = { model: model(api, name), prompt: "Hello", ...options };
  if (way === "generateText") return told(await generateText(asked));
  if (way === "generateText_with_tools") {
    const look = aiTool({
      inputSchema: jsonSchema({ type: "object", properties: { at: { type: "string" } } }),
      execute: () => "a river",
    });
    return told(await generateText({ ...asked, tools: { look }, stopWhen: stepCountIs(3) }));
  }
  const parts = [];
  let error;
  const result = streamText({ ...asked, onError: (event) => (error = event.error) });
  for await (const part of result.fullStream) parts.push([part.type, part.text ?? part.finishReason ?? null]);
  if (error) return { parts, error: { class: error.constructor.name, name: error.name, status: error.statusCode, message: error.message } };
  return { parts, usage: usage(await result.usage) };
};

const told = (result) => ({
  text: result.text,
  finish: result.finishReason,
  usage: usage(result.usage),
  steps: result.steps.length,
});

const usage = ({ inputTokens, outputTokens, totalTokens }) => [inputTokens, outputTokens, totalTokens];

/** The smallest sound that is one by its first bytes. */
const wav = () => Buffer.concat([Buffer.from("RIFF\x24\0\0\0WAVEfmt "), Buffer.alloc(64)]);

function openai(of) {
  const one = createOpenAI({ baseURL: `${of.base}/v1`, apiKey: of.key, headers: { "x-simulate-id": of.id } });
  return {
    model: (api, name) => (api === "chat" ? one.chat(name) : one.responses(name)),
    embedding: (name) => one.embedding(name),
    image: (name) => one.image(name),
    speech: (name) => one.speech(name),
    transcription: (name) => one.transcription(name),
  };
}

function compatible(of) {
  const one = createOpenAICompatible({ name: "one", baseURL: `${of.base}/v1`, apiKey: of.key, headers: { "x-simulate-id": of.id } });
  return {
    model: (_, name) => one.chatModel(name),
    embedding: (name) => one.textEmbeddingModel(name),
    image: (name) => one.imageModel(name),
  };
}

export const CLIENTS = { "agents-node": agents, "ai-node": ai(openai), "ai-compatible-node": ai(compatible) };
