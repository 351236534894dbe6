// The official Node SDK against the gateway.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { after, test } from "node:test";

import OpenAI, { toFile } from "openai";

const { GATEWAY_URL, SIMULATOR_URL, KEY_ALL, KEY_ROUTES, KEY_MODELS, REPORT } = process.env;

const TEXT = "The sluice opens, and the words flow through one by one — nothing held back, nothing lost.";
const HELLO = [{ role: "user", content: "Hello" }];
const COMPLETE = { who: "upstream", phase: "done", error: null };

const report = { requests: 0, ids: [], expect: {} };

after(() => writeFileSync(REPORT, JSON.stringify(report)));

// Counts what the SDK sends, and changes nothing of it.
async function counted(url, options) {
  // It also asks for a `data:` URL, to see whether multipart bodies can be made.
  if (!String(url).startsWith(GATEWAY_URL)) return fetch(url, options);
  report.requests += 1;
  const answer = await fetch(url, options);
  report.ids.push(answer.headers.get("x-request-id"));
  return answer;
}

function client({ route = "/v1", key = KEY_ALL, ...options } = {}) {
  const baseURL = GATEWAY_URL + route;
  return new OpenAI({ baseURL, apiKey: key, maxRetries: 0, timeout: 60_000, fetch: counted, ...options });
}

function expect(id, fields) {
  report.expect[id] = { ...report.expect[id], ...fields };
}

// --- the simulator, asked directly ---------------------------------------------------------------------------------------

async function simulator(method, path, query = {}) {
  const answer = await fetch(`${SIMULATOR_URL}/simulator/${path}?${new URLSearchParams(query)}`, { method });
  return answer.json();
}

let last = 0;
const freshId = () => `node-${(last += 1)}`;

function simulated(script, id) {
  const headers = {};
  if (script) headers["x-simulate"] = script;
  if (id) headers["x-simulate-id"] = id;
  return { headers };
}

const header = (record, name) => Object.fromEntries(record.headers)[name];

async function records(id) {
  return (await simulator("GET", "records")).filter((record) => header(record, "x-simulate-id") === id);
}

// The record of the one request with this id, once it has ended so.
async function record(id, ended = "any") {
  const found = await simulator("GET", "wait", { id, ended });
  assert.equal(found.length, 1, `requests ${id} that have ended as ${ended}`);
  return found[0];
}

// --- what works --------------------------------------------------------------------------------------------------------------

const ask = (openai, model = "gpt-4o", options = {}) =>
  openai.chat.completions.create({ model, messages: HELLO }, options);

// A stream, and its request id.
async function asked(openai, script, id) {
  const body = { model: "gpt-4o", messages: HELLO, stream: true };
  const { data, request_id } = await openai.chat.completions.create(body, simulated(script, id)).withResponse();
  return { stream: data, id: request_id };
}

async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

test("chat", async () => {
  const completion = await ask(client());
  assert.equal(completion.choices[0].message.content, TEXT);
  assert.equal(completion.choices[0].finish_reason, "stop");
  const { prompt_tokens, completion_tokens, total_tokens } = completion.usage;
  assert.deepEqual([prompt_tokens, completion_tokens, total_tokens], [9, 20, 29]);
  expect(completion._request_id, { ...COMPLETE, status: 200, tokens_in: 9, tokens_out: 20, stream: false });
});

test("chat, streamed", async () => {
  const body = { model: "gpt-4o", messages: HELLO, stream: true, stream_options: { include_usage: true } };
  const sent = client().chat.completions.create(body, simulated("usage=11,7"));
  const { data: stream, request_id } = await sent.withResponse();
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  // A role, twenty words, an end, the usage.
  assert.equal(chunks.length, 23);
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), TEXT);
  assert.equal(chunks.at(-2).choices[0].finish_reason, "stop");
  const { prompt_tokens, completion_tokens } = chunks.at(-1).usage;
  assert.deepEqual([prompt_tokens, completion_tokens], [11, 7]);
  expect(request_id, { ...COMPLETE, status: 200, stream: true, tokens_in: 11, tokens_out: 7, events: 24 });
});

test("completions", async () => {
  const completion = await client().completions.create({ model: "gpt-4o", prompt: "Hello" });
  assert.equal(completion.choices[0].text, TEXT);
  assert.equal(completion.usage.total_tokens, 29);
  const stream = await client().completions.create({ model: "gpt-4o", prompt: "Hello", stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0].text;
  assert.equal(text, TEXT);
});

test("embeddings", async () => {
  const body = { model: "text-embedding-3-small", input: ["one", "two"], dimensions: 4 };
  const created = await client().embeddings.create(body);
  const row = [-0.5, -0.375, -0.25, -0.125];
  assert.deepEqual(created.data.map((entry) => [...entry.embedding]), [row, row]);
  assert.equal(created.usage.prompt_tokens, 9);
});

test("models of the gateway", async () => {
  const openai = client({ route: "/listed/v1" });
  const listed = [];
  for await (const model of await openai.models.list()) listed.push(model.id);
  assert.deepEqual(listed, ["default", "gpt-4o", "org/gpt-4o"]);
  for (const name of [...listed, "gpt-4o-2024"]) assert.equal((await openai.models.retrieve(name)).id, name);
  const limited = client({ route: "/listed/v1", key: KEY_MODELS });
  assert.deepEqual((await limited.models.list()).data.map((model) => model.id), ["default", "gpt-4o"]);
  for (const call of [() => openai.models.retrieve("gpt-5"), () => limited.models.retrieve("org/gpt-4o")]) {
    const error = await call().then(() => assert.fail("no error"), (error) => error);
    assert.ok(error instanceof OpenAI.NotFoundError, `${error}`);
    assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
  }
});

test("models", async () => {
  const listed = [];
  for await (const model of await client().models.list()) listed.push(model.id);
  assert.deepEqual(listed, ["gpt-4o", "gpt-4o-mini", "sim", "text-embedding-3-small", "whisper-1"]);
  assert.equal((await client().models.retrieve("ft:gpt-4o:team a")).id, "ft:gpt-4o:team a");
});

test("responses", async () => {
  const response = await client().responses.create({ model: "gpt-4o", input: "Hello" });
  assert.equal(response.output_text, TEXT);
  assert.deepEqual([response.usage.input_tokens, response.usage.output_tokens], [9, 20]);
});

test("responses, streamed", async () => {
  const sent = client().responses.create({ model: "gpt-4o", input: "Hello", stream: true });
  const { data: stream, request_id } = await sent.withResponse();
  const events = [];
  for await (const event of stream) events.push(event);
  assert.deepEqual(events.map((event) => event.type), [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    ...Array(20).fill("response.output_text.delta"),
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
  ]);
  assert.deepEqual(events.map((event) => event.sequence_number), [...Array(28).keys()]);
  assert.equal(events.slice(4, 24).map((event) => event.delta).join(""), TEXT);
  const { input_tokens, output_tokens } = events.at(-1).response.usage;
  assert.deepEqual([input_tokens, output_tokens], [9, 20]);
  expect(request_id, { ...COMPLETE, stream: true, tokens_in: 9, tokens_out: 20, events: 28 });
});

// --- uploads -----------------------------------------------------------------------------------------------------------------

// The hash of the body that the SDK must have sent: what the record kept of its beginning says how it was put together.
function multipart(record, content) {
  const boundary = header(record, "content-type").match(/boundary=([^;]+)/)[1];
  const name = record.body.indexOf('filename="');
  const start = record.body.indexOf("\r\n\r\n", name) + 4;
  assert.ok(name > 0 && start > name && start < 1000, record.body.slice(0, 1000));
  const hash = createHash("sha256").update(record.body.slice(0, start)).update(content);
  for (const end of [`\r\n--${boundary}--\r\n`, `\r\n--${boundary}--`]) {
    if (start + content.length + end.length === record.body_length) return hash.update(end).digest("hex");
  }
  assert.fail(`${record.body_length} bytes arrived`);
}

test("upload", async () => {
  const [id, content] = [freshId(), randomBytes(20 * 1024 * 1024)];
  const file = await toFile(content, "lines.jsonl");
  const created = await client().files.create({ purpose: "batch", file }, simulated(null, id));
  assert.equal(created.filename, "lines.jsonl");
  const arrived = await record(id);
  assert.equal(arrived.body_sha256, multipart(arrived, content));
  expect(created._request_id, { ...COMPLETE, status: 200, bytes_in: arrived.body_length });
});

test("transcription", async () => {
  const [id, content] = [freshId(), randomBytes(300_000)];
  const body = { model: "whisper-1", file: await toFile(content, "speech.wav") };
  const created = await client().audio.transcriptions.create(body, simulated(null, id));
  assert.equal(created.text, TEXT);
  const arrived = await record(id);
  assert.equal(arrived.body_sha256, multipart(arrived, content));
});

// --- errors ------------------------------------------------------------------------------------------------------------------

async function refused(call, errorClass, status, code, type) {
  const error = await call().then(() => assert.fail("it succeeded"), (error) => error);
  assert.equal(error.constructor, errorClass, String(error));
  assert.deepEqual([error.status, error.code], [status, code]);
  if (type) assert.equal(error.type, type);
  assert.equal(error.requestID, report.ids.at(-1));
  expect(error.requestID, { status });
  return error;
}

const INVALID = "invalid_request_error";

test("400", async () => {
  const upstream = () => ask(client(), "gpt-4o", simulated("status=400"));
  const error = await refused(upstream, OpenAI.BadRequestError, 400, null, INVALID);
  expect(error.requestID, { ...COMPLETE, error: INVALID });
  const gateway = () => ask(client(), "gpt-4o", { headers: { "x-api-key": KEY_MODELS } });
  await refused(gateway, OpenAI.BadRequestError, 400, "conflicting_credentials", INVALID);
});

test("401", async () => {
  const wrong = () => ask(client({ key: "sk-sg-nobody's" }));
  await refused(wrong, OpenAI.AuthenticationError, 401, "invalid_api_key", INVALID);
  const none = () => ask(client(), "gpt-4o", { headers: { Authorization: null } });
  await refused(none, OpenAI.AuthenticationError, 401, "missing_api_key", INVALID);
});

test("403", async () => {
  const route = () => ask(client({ key: KEY_ROUTES }));
  await refused(route, OpenAI.PermissionDeniedError, 403, "route_not_allowed");
  const allowed = await ask(client({ key: KEY_ROUTES, route: "/small" }));
  assert.equal(allowed.choices[0].message.content, TEXT);
  const model = () => ask(client({ key: KEY_MODELS }), "gpt-5");
  await refused(model, OpenAI.PermissionDeniedError, 403, "model_not_allowed", "permission_error");
});

test("404", async () => {
  await refused(() => ask(client(), "missing-model"), OpenAI.NotFoundError, 404, "model_not_found", INVALID);
  const nowhere = () => ask(client({ route: "/nowhere" }));
  await refused(nowhere, OpenAI.NotFoundError, 404, "route_not_found", INVALID);
});

test("413, while the body is being sent", async () => {
  const [id, openai] = [freshId(), client({ route: "/small" })];
  const messages = [{ role: "user", content: "x".repeat(8 * 1024 * 1024) }];
  const call = () => openai.chat.completions.create({ model: "gpt-4o", messages }, simulated(null, id));
  for (let turn = 0; turn < 20; turn += 1) {
    const error = await refused(call, OpenAI.APIError, 413, "request_too_large", INVALID);
    expect(error.requestID, { who: "downstream", phase: "intake", error: "request_too_large" });
  }
  assert.deepEqual(await records(id), []);
  assert.equal((await ask(openai)).choices[0].message.content, TEXT);
});

test("429", async () => {
  const call = () => ask(client(), "gpt-4o", simulated("status=429; retry-after=7"));
  const error = await refused(call, OpenAI.RateLimitError, 429, "rate_limit_exceeded", "requests");
  assert.equal(error.headers.get("retry-after"), "7");
});

const CHINESE = { "accept-language": "zh-CN" };

test("errors in Chinese", async () => {
  const wrong = client({ key: "sk-sg-nobody's", defaultHeaders: CHINESE });
  const error = await refused(() => ask(wrong), OpenAI.AuthenticationError, 401, "invalid_api_key", INVALID);
  assert.match(error.message, /API 密钥不正确/);
  assert.equal(error.headers.get("content-language"), "zh");
  // An event of a stream is, too.
  const { stream, id } = await asked(client({ defaultHeaders: CHINESE }), "cut=0; by=close");
  const broken = await textOf(stream).then(() => assert.fail("it is whole"), (error) => error);
  assert.equal(broken.code, "upstream_truncated");
  assert.match(broken.message, /响应不完整/);
  expect(id, { error: "upstream_truncated" });
  // Without a language, Node sends `*`.
  const none = await refused(() => ask(client({ key: "sk-x" })), OpenAI.AuthenticationError, 401, "invalid_api_key");
  assert.equal(none.headers.get("content-language"), "en");
});

test("errors in other words", async () => {
  for (const [defaultHeaders, words] of [[{}, /All capacity is in use\./], [CHINESE, /当前容量已满/]]) {
    const call = () => ask(client({ route: "/busy", defaultHeaders }), "gpt-4o", simulated("status=429; retry-after=7"));
    const error = await refused(call, OpenAI.InternalServerError, 503, "capacity", "requests");
    assert.match(error.message, words);
    assert.equal(error.headers.get("retry-after"), "7");
    // The log has the original.
    expect(error.requestID, { status: 429, error: "rate_limit_exceeded" });
  }
});

test("500 and 503", async () => {
  for (const [status, code] of [[500, null], [503, "server_is_overloaded"]]) {
    const call = () => ask(client(), "gpt-4o", simulated(`status=${status}`));
    await refused(call, OpenAI.InternalServerError, status, code, "server_error");
  }
});

test("who may retry", async () => {
  // The upstream's own 500 is the SDK's to retry ...
  const own = freshId();
  const failing = () => ask(client({ maxRetries: 1 }), "gpt-4o", simulated("status=500", own));
  await refused(failing, OpenAI.InternalServerError, 500, null);
  assert.equal((await records(own)).length, 2);
  // ... its refusal of the gateway's key is for nobody to retry.
  const id = freshId();
  const refusing = () => ask(client({ route: "/refusing", maxRetries: 3 }), "gpt-4o", simulated(null, id));
  const error = await refused(refusing, OpenAI.InternalServerError, 503, "upstream_unavailable", "server_error");
  assert.equal(error.headers.get("x-should-retry"), "false");
  assert.equal((await records(id)).length, 1);
  expect(error.requestID, { who: "gateway", error: "upstream_unavailable" });
});

test("502", async () => {
  const gone = () => ask(client({ route: "/gone" }));
  const error = await refused(gone, OpenAI.InternalServerError, 502, "upstream_unreachable", "server_error");
  expect(error.requestID, { who: "upstream", phase: "connect" });
});

test("one upstream is gone, one refuses the gateway's key, the third answers", async () => {
  const elsewhere = client({ route: "/elsewhere-0", maxRetries: 0 });
  const completion = await ask(elsewhere);
  assert.equal(completion.choices[0].message.content, TEXT);
  expect(completion._request_id, { ...COMPLETE, upstream: "main", attempts: 3 });
  const stream = await elsewhere.chat.completions.create({ model: "gpt-4o", messages: HELLO, stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  assert.equal(text, TEXT);
});

test("what the gateway has tried again is not tried again by the SDK", async () => {
  const id = freshId();
  const again = () => ask(client({ route: "/again", maxRetries: 3 }), "gpt-4o", simulated("status=503", id));
  const error = await refused(again, OpenAI.InternalServerError, 503, "server_is_overloaded", "server_error");
  assert.equal(error.headers.get("x-should-retry"), "false");
  assert.equal((await records(id)).length, 4);
});

// --- endings -----------------------------------------------------------------------------------------------------------------

const TRUNCATED = { who: "upstream", phase: "stream", error: "upstream_truncated" };

test("a stream that is cut raises", async () => {
  for (const by of ["reset", "close", "chunk-error"]) {
    for (const at of [0, ...Array.from({ length: 11 }, (_, turn) => 1 + turn * 449)]) {
      const { stream, id } = await asked(client(), `cut=${at}; by=${by}`);
      const error = await textOf(stream).then(
        (text) => assert.fail(`cut at ${at} by ${by}, it ended as if it were whole: ${text}`),
        (error) => error,
      );
      // At the very beginning it is certain to be between events: there the gateway can say what happened.
      if (at === 0) assert.deepEqual([error.code, error.type], ["upstream_truncated", "server_error"]);
      assert.notEqual(error.name, "AssertionError", String(error));
      expect(id, TRUNCATED);
    }
  }
});

test("half an answer that is not streamed raises", async () => {
  const call = () => ask(client(), "gpt-4o", simulated("cut=100; by=close"));
  const error = await call().then(() => assert.fail("it was taken for a whole one"), (error) => error);
  assert.notEqual(error.name, "AssertionError", String(error));
  expect(report.ids.at(-1), TRUNCATED);
});

test("a stream of responses that is cut raises", async () => {
  const body = { model: "gpt-4o", input: "Hello", stream: true };
  const { data: stream, request_id } = await client().responses.create(body, simulated("cut=0; by=close")).withResponse();
  const events = [];
  const read = async () => {
    for await (const event of stream) events.push(event);
  };
  await assert.rejects(read);
  assert.ok(events.length <= 1, JSON.stringify(events));
  expect(request_id, TRUNCATED);
});

test("a stream closed early ends the upstream's request", async () => {
  const id = freshId();
  // The script never ends by itself: it stalls with most of its frames unsent.
  const { stream, id: request } = await asked(client(), "frames=1000; stall=3000", id);
  let text = "";
  for await (const chunk of stream) {
    text += chunk.choices[0].delta.content;
    if (text === "The sluice") break;
  }
  const left = await record(id, "peer-left");
  assert.equal(left.sent, 3000);
  expect(request, { who: "downstream", phase: "stream", error: "caller_left" });
});

test("a stream read to its end is complete, and its upstream connection is used again", async () => {
  const [id, openai] = [freshId(), client()];
  for (let turn = 0; turn < 6; turn += 1) {
    const { stream, id: request } = await asked(openai, null, id);
    assert.equal(await textOf(stream), TEXT);
    expect(request, COMPLETE);
  }
  const all = await records(id);
  assert.equal(all.length, 6);
  // The gateway has two workers, each with connections of its own; without reuse there would be six.
  assert.ok(new Set(all.map((record) => record.connection)).size <= 2, JSON.stringify(all));
});

test("frames come as they are sent", async () => {
  const id = freshId();
  // The gate stands in the middle of the second event.
  const { stream } = await asked(client(), "gate=400", id);
  const chunks = stream[Symbol.asyncIterator]();
  assert.equal((await chunks.next()).value.choices[0].delta.role, "assistant");
  assert.equal((await records(id))[0].ended, null);
  await simulator("POST", "gate");
  let text = "";
  for (let next = await chunks.next(); !next.done; next = await chunks.next()) {
    text += next.value.choices[0].delta.content ?? "";
  }
  assert.equal(text, TEXT);
});
