// What the `ws` package and openai-node make of a server: prints it as JSON.
// Arguments: URL of an echo server, base URL of a provider over TLS, key, base URL of the simulator over TLS.
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { ResponsesWS } from "openai/resources/responses/ws";
import WebSocket from "ws";

const [echo, provider, key, simulator] = process.argv.slice(2);
const headers = { authorization: `Bearer ${key}` };

// `ws` offers compression, and browsers offer subprotocols.
async function echoed() {
  const socket = new WebSocket(echo, ["realtime", "other"], { headers });
  const results = [];
  await new Promise((resolve, reject) => {
    socket.on("open", resolve);
    socket.on("error", reject);
  });
  results.push(socket.protocol, socket.extensions);
  for (const message of ["", "text", "é".repeat(40_000), Buffer.alloc(1 << 20, 7)]) {
    socket.send(message);
    const [data, isBinary] = await new Promise((resolve) => socket.once("message", (...all) => resolve(all)));
    results.push(data.equals(Buffer.from(message)) && isBinary === (typeof message !== "string"));
  }
  socket.ping("beat");
  results.push(String(await new Promise((resolve) => socket.once("pong", resolve))));
  socket.close(4000, "enough");
  const [code, reason] = await new Promise((resolve) => socket.once("close", (...all) => resolve(all)));
  results.push(code, String(reason));
  return results;
}

async function refused() {
  const socket = new WebSocket(echo, { headers: { authorization: "Bearer wrong" } });
  return new Promise((resolve) => {
    socket.on("unexpected-response", (_, response) => resolve(response.statusCode));
    socket.on("error", (error) => resolve(error.message));
    socket.on("open", () => resolve("open"));
  });
}

// It always speaks TLS.
async function realtime(baseURL) {
  const client = new OpenAI({ apiKey: key, baseURL });
  const connection = new OpenAIRealtimeWS({ model: "gpt-realtime" }, client);
  const types = [];
  await new Promise((resolve, reject) => {
    connection.on("error", reject);
    connection.on("event", (event) => {
      types.push(event.type);
      if (event.type === "response.done") resolve();
    });
    connection.socket.on("open", () => {
      const content = [{ type: "input_text", text: "hello" }];
      connection.send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
      connection.send({ type: "response.create" });
    });
  });
  connection.close();
  return types;
}

// Two turns, the second continuing the first, and a mistake.
async function responses(baseURL) {
  const socket = new ResponsesWS(new OpenAI({ apiKey: key, baseURL }));
  const seen = [];
  const ask = (more) => socket.send({ type: "response.create", model: "gpt-4o", input: "hello", ...more });
  await new Promise((resolve) => {
    socket.on("error", (error) => {
      seen.push(error.error?.error?.code ?? String(error));
      resolve();
    });
    socket.on("event", (event) => {
      if (event.type !== "response.completed") return;
      seen.push(event.response.usage.output_tokens);
      if (seen.length === 1) ask({ previous_response_id: event.response.id });
      else ask({ previous_response_id: "resp_none" });
    });
    ask({});
  });
  socket.close();
  return seen;
}

const result = {
  echoed: await echoed(),
  refused: await refused(),
  realtime: await realtime(provider),
  simulated: await realtime(simulator),
  responses: await responses(simulator),
};
console.log(JSON.stringify(result));
process.exit(0);
