// Makes the calls that it is given, with the client that each of them names, and says what came of it. Nothing is judged here.
//
//     node calls.mjs CASES RESULTS     the calls of a JSON file; the results, by the id of the call

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import Anthropic, { toFile as anthropicFile } from "@anthropic-ai/sdk";
import OpenAI, { AzureOpenAI, toFile } from "openai";
import { CLIENTS } from "./clients.mjs";
import { CALLS } from "./sockets.mjs";

const HELLO = [{ role: "user", content: "Hello" }];
const TOOLS = [{ type: "function", function: { name: "look", parameters: { type: "object", properties: {} } } }];

// --- the official SDKs: a method is called by its name ----------------------------------------------------------------------

const SDKS = {
  "openai-node": (at, options) => new OpenAI({ baseURL: `${at}/v1`, adminAPIKey: options.apiKey, ...options }),
  "azure-node": (at, options) => new AzureOpenAI({ endpoint: at, apiVersion: "2025-04-01-preview", ...options }),
  "anthropic-node": (at, options) => new Anthropic({ baseURL: at, ...options }),
};

/** The member of a resource that Python calls so: `action_urls` is `actionURLs`. */
function named(resource, python) {
  const wanted = python.replaceAll("_", "");
  const own = resource ? [...Object.keys(resource), ...Object.getOwnPropertyNames(Object.getPrototypeOf(resource))] : [];
  return own.find((name) => name.toLowerCase() === wanted);
}

async function call(of) {
  if (CALLS[of.call]) return CALLS[of.call](of);
  const options = {
    apiKey: of.key,
    defaultHeaders: { "x-simulate-id": of.id },
    timeout: 60_000,
    maxRetries: of.retries ?? 0,
    ...(of.organization && { organization: of.organization, project: "proj_1" }),
  };
  const path = of.call.split(".");
  let resource = SDKS[of.client](of.base, options);
  for (const part of path.slice(0, -1)) resource = resource?.[named(resource, part)];
  const name = named(resource, path.at(-1));
  if (typeof resource?.[name] !== "function") return { absent: true };
  const file = of.client === "anthropic-node" ? anthropicFile : toFile;
  const given = await value(of.with, file);
  const promise = resource[name](...(of.ids ?? []), ...(given ? [given] : []));
  if (typeof promise.withResponse !== "function") return dump(await promise);
  const { data, response } = await promise.withResponse();
  return { ...(await dump(data)), ...(of.answer === "sdp" && { location: response.headers.get("location") }) };
}

/** An argument as the data has it, or what its name stands for. */
async function value(argument, file) {
  if (argument === "@hello") return HELLO;
  if (argument === "@tools") return TOOLS;
  if (Array.isArray(argument)) return Promise.all(argument.map((each) => value(each, file)));
  if (typeof argument === "string" && argument.startsWith("@file:")) {
    const name = argument.slice("@file:".length);
    const all = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    return file(Buffer.concat([Buffer.from(`the bytes of ${name}`), all]), name);
  }
  if (argument && typeof argument === "object") {
    const pairs = Object.entries(argument).map(async ([name, one]) => [name, await value(one, file)]);
    return Object.fromEntries(await Promise.all(pairs));
  }
  return argument;
}

/** A result as JSON. */
async function dump(result) {
  if (result instanceof Response) {
    const content = Buffer.from(await result.arrayBuffer());
    return { bytes: content.length, sha256: createHash("sha256").update(content).digest("hex") };
  }
  const isPage = typeof result?.getPaginatedItems === "function";
  if (result && typeof result === "object" && !isPage && result[Symbol.asyncIterator]) {
    const events = [];
    try {
      for await (const event of result) events.push(event);
    } catch (error) {
      return { events, error: described(error) };
    }
    return { events };
  }
  const plain = isPage ? { ...result.body } : (result ?? null);
  return { class: result?.constructor?.name ?? typeof result, value: plain, request_id: Boolean(result?._request_id) };
}

/** An exception: its class, what programs look at, and how its message begins. */
export function described(error) {
  const body = error.error;
  const known = {
    class: error?.constructor?.name,
    name: error.name,
    status: error.status ?? error.statusCode,
    code: error.code,
    type: error.type,
    param: error.param,
    retry_after: error.headers?.get?.("retry-after"),
    should_retry: error.headers?.get?.("x-should-retry"),
    body: body && typeof body === "object" ? Object.keys(body).sort() : typeof body,
    request_id: Boolean(error.requestID),
    message: String(error.message ?? error),
  };
  return Object.fromEntries(Object.entries(known).filter(([, one]) => one !== undefined && one !== null && one !== false));
}

// --- all clients --------------------------------------------------------------------------------------------------------------

async function run(of) {
  try {
    return await (SDKS[of.client] ? call(of) : CLIENTS[of.client](of));
  } catch (error) {
    return { error: described(error) };
  }
}

const [cases, results] = process.argv.slice(2);
const found = {};
const byClient = Map.groupBy
  ? Map.groupBy(JSON.parse(readFileSync(cases)), (one) => one.client)
  : JSON.parse(readFileSync(cases)).reduce((all, one) => all.set(one.client, [...(all.get(one.client) ?? []), one]), new Map());
const all = [...byClient.values()].map(async (own) => {
  for (const one of own) found[one.id] = await run(one);
});
await Promise.all(all);
writeFileSync(results, JSON.stringify(found));
process.exit(0);
