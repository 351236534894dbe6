// What openai-node sees in a web page: does what the address of the page asks for, and sends what it has seen to the test.
import OpenAI from "openai";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket.mjs";

const settings = await (await fetch("/settings")).json();
const { key, model } = settings;
const messages = [{ role: "user", content: "Hello" }];

const client = (baseURL, options = {}) =>
  new OpenAI({ baseURL, apiKey: key, maxRetries: 0, dangerouslyAllowBrowser: true, ...options });

const simulated = (text) => ({ headers: { "x-simulate": text } });

async function errorOf(promise) {
  try {
    return { answered: await promise };
  } catch (error) {
    const { status = null, code = null, requestID = null, headers } = error;
    const seen = ["retry-after", "x-should-retry", "x-request-id", "x-upstream-request-id"];
    return {
      kind: error.constructor.name,
      status,
      code,
      requestID,
      headers: seen.filter((name) => headers?.get(name)),
      retryAfter: headers?.get("retry-after") ?? null,
    };
  }
}

async function chat(openai) {
  const { data, response, request_id } = await openai.chat.completions.create({ model, messages }).withResponse();
  const { content } = data.choices[0].message;
  return { content, status: response.status, id: request_id, upstreamId: response.headers.get("x-upstream-request-id") };
}

async function stream(openai) {
  const chunks = [];
  const events = await openai.chat.completions.create({ model, messages, stream: true });
  for await (const chunk of events) chunks.push(chunk);
  return { chunks: chunks.length, content: chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("") };
}

// The rest of the stream never comes.
async function aborted(openai) {
  const events = await openai.chat.completions.create({ model, messages, stream: true }, simulated("stall=600"));
  for await (const chunk of events) {
    if (chunk.choices[0]?.delta?.content) break;
  }
  return events.controller.signal.aborted;
}

async function errors(openai, base) {
  const embed = (options) => openai.embeddings.create({ model, input: "x" }, options);
  return {
    limited: await errorOf(embed(simulated("status=429; retry-after=7"))),
    unknownKey: await errorOf(client(base, { apiKey: "sk-wrong" }).models.list()),
    noRoute: await errorOf(client(base.replace("/v1", "/none")).models.list()),
    unreachable: await errorOf(client(base.replace("/v1", "/gone")).models.list()),
  };
}

// As @openai/agents-realtime does, which needs the `location` to hang up.
async function created(base) {
  const headers = {
    authorization: `Bearer ${key}`,
    "content-type": "application/sdp",
    "x-openai-agents-sdk": "0.20.0",
    "x-simulate-id": `call ${base}`,
  };
  const response = await fetch(`${base}/realtime/calls`, { method: "POST", headers, body: "v=0" });
  return { status: response.status, location: response.headers.get("location") };
}

const closed = (socket) =>
  new Promise((resolve) => socket.addEventListener("close", ({ code, reason }) => resolve([code, reason])));

async function realtime(base, apiKey = key) {
  const connection = new OpenAIRealtimeWebSocket({ model: "gpt-realtime" }, client(base, { apiKey }));
  const response = { output_modalities: ["text"] };
  const [types, deltas] = [[], []];
  const over = closed(connection.socket);
  connection.on("error", (error) => types.push(`error: ${error.message}`));
  connection.on("event", (event) => types.push(event.type));
  connection.on("session.created", () => connection.send({ type: "response.create", response }));
  connection.on("response.output_text.delta", (event) => deltas.push(event.delta));
  connection.on("response.done", () => connection.close());
  const [code, reason] = await over;
  return { protocol: connection.socket.protocol, types, content: deltas.join(""), code, reason };
}

// With a key that lasts for minutes, which the page's own server would ask for.
async function ephemeral(base) {
  const response = await fetch(`${base}/realtime/client_secrets`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json", "x-simulate-id": "secret" },
    body: JSON.stringify({ session: { type: "realtime", model: "gpt-realtime" } }),
  });
  const { value } = await response.json();
  return { isOfGateway: value.startsWith("ek_sg_"), ...(await realtime(base, value)) };
}

// What any page can send without a preflight.
async function plain(base, mode) {
  try {
    const body = JSON.stringify({ model, messages });
    const response = await fetch(`${base}/chat/completions`, { method: "POST", body, mode });
    return response.type;
  } catch (error) {
    return error.constructor.name;
  }
}

async function listed() {
  const seen = {};
  for (const base of settings.bases) {
    const openai = client(base);
    seen[base] = {
      chat: await chat(openai),
      stream: await stream(openai),
      aborted: await aborted(openai),
      errors: await errors(openai, base),
      created: await created(base),
    };
  }
  const [secure] = settings.bases;
  return {
    seen,
    realtime: await realtime(secure),
    ephemeral: await ephemeral(secure),
    wrongKey: await realtime(secure, "sk-wrong"),
  };
}

async function unlisted() {
  const [secure] = settings.bases;
  const url = `${secure.replace("https", "wss")}/realtime`;
  return {
    chat: await errorOf(client(secure).chat.completions.create({ model, messages })),
    plain: await plain(secure, "cors"),
    opaque: await plain(secure, "no-cors"),
    realtime: await realtime(secure),
    withoutSubprotocol: await closed(new WebSocket(url)),
  };
}

const what = { listed, unlisted }[location.hash.slice(1)];
await fetch("/report", { method: "POST", body: JSON.stringify(await what()) });
