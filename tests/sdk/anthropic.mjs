// The official Anthropic SDK for Node before the gateway's own errors: each exception has its class, its message and its request id.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import Anthropic from "@anthropic-ai/sdk";

const { GATEWAY_URL, KEY_ALL, KEY_MODELS, REPORT } = process.env;
const report = { requests: 0, ids: [], expect: {} };
const HELLO = { max_tokens: 10, messages: [{ role: "user", content: "Hello" }] };

async function counted(url, init) {
  report.requests += 1;
  const response = await fetch(url, init);
  report.ids.push(response.headers.get("x-request-id"));
  return response;
}

const client = (apiKey, path = "") => new Anthropic({ baseURL: GATEWAY_URL + path, apiKey, fetch: counted, maxRetries: 0 });

async function refused(call, errorClass, status, kind, code, param = null) {
  const error = await call().then(
    () => assert.fail(`no ${errorClass.name}`),
    (error) => error,
  );
  assert.equal(error.constructor, errorClass, `${error}`);
  assert.equal(error.status, status);
  const { type, error: told, request_id: id } = error.error;
  assert.deepEqual([type, told.type, told.code, told.param], ["error", kind, code, param]);
  assert.deepEqual([error.requestID, id], [report.ids.at(-1), report.ids.at(-1)]);
  assert.ok(error.message.includes(told.message.slice(0, 10)), error.message);
  report.expect[id] = { status, error: code };
}

const [known, limited] = [client(KEY_ALL), client(KEY_MODELS)];
const answer = await known.messages.create({ model: "claude-x", ...HELLO });
assert.ok(answer.content[0].text);
report.expect[report.ids.at(-1)] = { status: 200 };
const ask = (client, more) => () => client.messages.create({ model: "claude-x", ...HELLO, ...more });
await refused(ask(client("sk-sg-nobodys")), Anthropic.AuthenticationError, 401, "authentication_error", "invalid_api_key");
await refused(ask(limited), Anthropic.PermissionDeniedError, 403, "permission_error", "model_not_allowed", "model");
const nowhere = () => client(KEY_ALL, "/nowhere").models.list();
await refused(nowhere, Anthropic.NotFoundError, 404, "not_found_error", "route_not_found");
await refused(ask(known, { model: 1 }), Anthropic.BadRequestError, 400, "invalid_request_error", "invalid_body", "model");
const lists = client(KEY_ALL, "/listed");
const listed = [];
for await (const model of lists.models.list({ limit: 2 })) listed.push(model.id);
assert.deepEqual(listed, ["default", "gpt-4o", "org/gpt-4o"]);
assert.equal((await lists.models.retrieve("org/gpt-4o")).display_name, "org/gpt-4o");
const unknown = () => lists.models.retrieve("gpt-5");
await refused(unknown, Anthropic.NotFoundError, 404, "not_found_error", "model_not_found", "model");
writeFileSync(REPORT, JSON.stringify(report));
