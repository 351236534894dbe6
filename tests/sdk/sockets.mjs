// WebSocket APIs, by the clients that have them. Each function has one turn and says which events came of it, as JSON.

import { Agent, OpenAIResponsesWSModel, run } from "@openai/agents";
import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession } from "@openai/agents/realtime";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { ResponsesWS } from "openai/resources/responses/ws";
import WebSocket from "ws";

// Node 20 has none of its own, which the Agents SDK needs.
globalThis.WebSocket ??= WebSocket;

const ITEM = { type: "message", role: "user", content: [{ type: "input_text", text: "hello" }] };

/** What the turns of two connections have in common. */
const seen = (event) => [event.type, { delta: event.delta, usage: event.response?.usage }];

// --- openai --------------------------------------------------------------------------------------------------------------------

/** Sends what begins a turn, and collects events up to one of these kinds. */
function turn(connection, begin, last) {
  const events = [];
  return new Promise((resolve, reject) => {
    connection.on("error", reject);
    connection.on("event", (event) => {
      events.push(seen(event));
      if (last.includes(event.type)) resolve(events);
    });
    begin(connection);
  });
}

const client = (of) => new OpenAI({ baseURL: `${of.base}/v1`, apiKey: of.key, maxRetries: 0 });

async function realtime(of) {
  const connection = new OpenAIRealtimeWS({ model: "gpt-realtime" }, client(of));
  const begin = () =>
    connection.socket.on("open", () => {
      connection.send({ type: "session.update", session: { type: "realtime", output_modalities: ["text"] } });
      connection.send({ type: "conversation.item.create", item: ITEM });
      connection.send({ type: "response.create" });
    });
  const events = await turn(connection, begin, ["response.done"]);
  connection.close();
  return { events };
}

async function responses(of) {
  const connection = new ResponsesWS(client(of));
  const begin = () => connection.send({ type: "response.create", model: "gpt-4o", input: "hello" });
  const events = await turn(connection, begin, ["response.completed"]);
  connection.close();
  return { events };
}

export const CALLS = { "realtime.connect": realtime, "responses.connect": responses };

// --- @openai/agents ----------------------------------------------------------------------------------------------------------------

export async function agentsResponses(of, resultOf) {
  const model = new OpenAIResponsesWSModel(client(of), "gpt-4o");
  const result = await run(new Agent({ name: "one", instructions: "Be brief.", model }), "hello", { stream: true });
  const events = [];
  for await (const event of result) events.push([event.type, event.data?.event?.type ?? event.data?.type ?? null]);
  await result.completed;
  await model.close();
  return { events, ...resultOf(result) };
}

export async function agentsRealtime(of) {
  const url = `${of.base.replace("http", "ws")}/v1/realtime?model=gpt-realtime`;
  const transport = new OpenAIRealtimeWebSocket({ url });
  const session = new RealtimeSession(new RealtimeAgent({ name: "one" }), { transport, tracingDisabled: true });
  const events = [];
  const done = new Promise((resolve, reject) => {
    transport.on("error", ({ error }) => reject(error));
    transport.on("*", (event) => {
      if (event.type === "error") reject(new Error(JSON.stringify(event)));
      events.push([event.type, event.delta ?? null]);
      if (event.type === "response.done") resolve();
    });
  });
  await session.connect({ apiKey: of.key, url });
  session.sendMessage("hello");
  await done;
  session.close();
  return { events };
}
