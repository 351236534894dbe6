// The live page. It gets the state once and then what changes (JSON merge patches), and shows it. Every text from the gateway is set as text,
// never as markup. Times from the gateway are milliseconds on a clock of its own; `now` in each message tells what it shows.

const TOKEN = "sluicegate-admin-token";
const MOST_FINISHED = 1000;
const MOST_LINES = 500;
const SILENT = 30_000;

let state = null;
let configuration = null;
let finished = [];
let log = [];
let offset = 0; // what to subtract from this page's clock to get the gateway's
let view = "requests";
let chosen = null; // the request whose details are shown
let paused = false;
let sortBy = "age";
let dirty = false;
let limits = null; // what /limits says; read only while it is looked at
const filters = { requests: "", finished: "", log: "" };

// ---- Elements

function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  const shown = children.filter((child) => child !== null && child !== undefined && child !== false);
  element.append(...shown.map((child) => (typeof child === "string" ? clean(child) : child)));
  return element;
}

const byId = (id) => document.getElementById(id);

// A client chooses models and paths: no control characters, and none that turn the direction of what follows.
const HARMFUL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
const clean = (text) => text.replace(HARMFUL, "\ufffd");

function setText(element, text) {
  const shown = clean(text);
  if (element.textContent !== shown) element.textContent = shown;
}

function setClass(element, name) {
  if (element.className !== name) element.className = name;
}

// ---- Numbers for people

function span(milliseconds) {
  if (milliseconds === undefined || milliseconds === null) return "";
  const value = Math.max(0, milliseconds);
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 10_000) return `${(value / 1000).toFixed(1)} s`;
  if (value < 120_000) return `${Math.floor(value / 1000)} s`;
  if (value < 7_200_000) return `${Math.floor(value / 60_000)} min`;
  return `${Math.floor(value / 3_600_000)} h ${Math.floor((value / 60_000) % 60)} min`;
}

function count(number) {
  if (number === undefined || number === null) return "";
  if (number < 10_000) return String(number);
  if (number < 1_000_000) return `${(number / 1000).toFixed(number < 100_000 ? 1 : 0)} k`;
  return `${(number / 1_000_000).toFixed(1)} M`;
}

// A number in full; amounts of money come as text.
const exact = (value) => (typeof value === "number" ? value.toLocaleString("en") : String(value));

const gatewayNow = () => performance.now() - offset;

// ---- The state

// JSON merge patch (RFC 7396). Objects without a prototype, so that no name in them means anything.
function merged(target, patch) {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const own = typeof target === "object" && target !== null && !Array.isArray(target) ? target : Object.create(null);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete own[name];
    else own[name] = merged(own[name], value);
  }
  return own;
}

function take(event, data) {
  if (event === "state") {
    state = merged(null, data.state);
    [finished, log] = [[], []];
  } else if (event === "delta") {
    state = merged(state, data.patch);
  } else if (event === "configuration") {
    configuration = data;
  } else if (event === "finished") {
    finished = finished.concat(data);
    finished.sort((one, other) => endOf(one) - endOf(other));
    finished = finished.slice(-MOST_FINISHED);
  } else if (event === "log" && !paused) {
    log = log.concat(data.map(readLine)).slice(-MOST_LINES);
  }
  if (data.now !== undefined) offset = performance.now() - data.now;
  dirty = true;
}

const endOf = (line) => Date.parse(line.time) + (line.total_ms ?? 0);

function readLine(text) {
  try {
    const line = JSON.parse(text);
    if (typeof line === "object" && line !== null) return { text, line };
  } catch {
    // A line of the text format.
  }
  return { text, line: null };
}

// ---- The connection

let heard = 0;
let stop = null;

async function connect() {
  const token = sessionStorage.getItem(TOKEN);
  stop = new AbortController();
  heard = performance.now();
  const response = await fetch("/live/events", {
    headers: token ? { authorization: `Bearer ${token}` } : {},
    signal: stop.signal,
    cache: "no-store",
  });
  if (response.status === 401) {
    await askForToken(token !== null);
    return;
  }
  if (!response.ok) throw new Error(await response.text());
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard = performance.now();
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const message = rest.slice(0, end);
      rest = rest.slice(end + 2);
      // For `.` and `$` of an expression, U+2028 ends a line too; a model's name may have it.
      const member = (name) => message.split("\n").find((line) => line.startsWith(name))?.slice(name.length);
      const [event, data] = [member("event: "), member("data: ")];
      if (event && data) take(event, JSON.parse(data));
      connected("good", state?.gateway?.ready === false ? "draining" : "live");
    }
  }
}

function connected(kind, text) {
  setText(byId("connection"), text);
  setClass(byId("connection"), `pill ${text === "draining" ? "warn" : kind}`);
}

async function keepConnected() {
  let pause = 500;
  for (;;) {
    const begun = performance.now();
    try {
      await connect();
    } catch {
      // The connection ended, or there was none.
    }
    if (performance.now() - begun > 10_000) pause = 500;
    connected("bad", "no connection");
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, 8000);
  }
}

function askForToken(wasWrong) {
  sessionStorage.removeItem(TOKEN);
  connected("warn", "token needed");
  setText(byId("refused"), wasWrong ? "This token is not accepted." : "");
  byId("login").hidden = false;
  byId("token").focus();
  return new Promise((resolve) => {
    const sent = (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, byId("token").value);
      byId("token").value = "";
      byId("login").hidden = true;
      byId("login").removeEventListener("submit", sent);
      resolve();
    };
    byId("login").addEventListener("submit", sent);
  });
}

async function act(path, button) {
  button.disabled = true;
  const headers = { authorization: `Bearer ${sessionStorage.getItem(TOKEN) ?? ""}` };
  const response = await fetch(`/live/${path}`, { method: "POST", headers }).catch(() => null);
  setText(button, response === null ? "no connection" : (await response.text()).trim());
}

// A button that asks once more before it acts.
function actionButton(label, path) {
  if (!state?.gateway?.actions) return null;
  let sure = false;
  return make("button", {
    class: "danger",
    type: "button",
    onclick: (event) => {
      event.stopPropagation();
      if (sure) return act(path, event.target);
      sure = true;
      setText(event.target, `${label}: sure?`);
    },
  }, label);
}

// ---- Tables that change in place

const nothing = (text) => make("p", { class: "empty" }, text);

// Shows `rows` (each with an `id`) in `table`, with one element for each row as long as the row is there.
class Table {
  constructor(columns, options = {}) {
    this.columns = columns;
    this.options = options;
    this.rows = new Map();
    this.body = make("tbody");
    const heads = columns.map((column) => {
      const name = column.sort
        ? make("button", { type: "button", onclick: () => { sortBy = column.key; dirty = true; } }, column.name)
        : make("span", {}, column.name);
      return (column.head = make("th", { class: column.class, scope: "col" }, name));
    });
    this.empty = nothing(options.empty ?? "nothing here");
    this.table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), this.body);
    this.element = make("div", { class: "table" }, this.table, this.empty);
  }

  show(rows) {
    const ids = new Set(rows.map((row) => row.id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      row.element.remove();
      this.rows.delete(id);
    }
    let before = null;
    for (const row of rows) {
      const known = this.rows.get(row.id) ?? this.add(row.id);
      this.columns.forEach((column, index) => {
        const cell = known.cells[index];
        setText(cell, column.text(row) ?? "");
        if (column.mood) setClass(cell, `${column.class ?? ""} ${column.mood(row) ?? ""}`.trim());
      });
      known.element.setAttribute("aria-current", String(row.id === chosen));
      const place = before ? before.nextSibling : this.body.firstChild;
      if (place !== known.element) this.body.insertBefore(known.element, place);
      before = known.element;
    }
    this.columns.forEach((column, index) => {
      const shown = column.when === undefined || column.when();
      column.head.hidden = !shown;
      for (const row of this.rows.values()) row.cells[index].hidden = !shown;
      if (column.sort) column.head.setAttribute("aria-sort", column.key === sortBy ? "descending" : "none");
    });
    this.empty.hidden = rows.length > 0;
    this.table.hidden = rows.length === 0;
  }

  add(id) {
    const cells = this.columns.map((column) => make("td", { class: column.class, "data-label": column.label ?? column.name }));
    const choose = () => { chosen = id; dirty = true; drawDetail(true); };
    const options = this.options.details
      ? { tabindex: 0, onclick: choose, onkeydown: (event) => event.key === "Enter" && choose() }
      : {};
    const row = { element: make("tr", options, ...cells), cells };
    this.rows.set(id, row);
    return row;
  }
}

// ---- Views

function silenceOf(row) {
  const tried = row.tried?.at(-1);
  const last = row.last ?? (tried ? row.start + tried.start : row.start);
  return gatewayNow() - last;
}

const isWaiting = (row) => row.turns === undefined && ["stream", "first_byte", "connect"].includes(row.phase);

const requestColumns = [
  { key: "age", name: "age", class: "number", sort: true, text: (row) => span(gatewayNow() - row.start) },
  { name: "client", class: "name lead", text: (row) => row.client ?? "–" },
  { name: "route", class: "name", text: (row) => row.route },
  { name: "model", class: "name", text: (row) => row.model },
  { name: "upstream", class: "name", text: (row) => row.upstream },
  { name: "phase", text: (row) => row.phase },
  { key: "first", name: "first token", label: "first", class: "number", sort: true, text: (row) => span(row.first_token) },
  { key: "rate", name: "≈ tok/s", class: "number", sort: true, text: (row) => (row.rate > 0 ? row.rate.toFixed(1) : row.events > 0 ? "0" : "") },
  {
    key: "silence", name: "silent", class: "number", sort: true,
    text: (row) => (silenceOf(row) > 1000 ? span(silenceOf(row)) : ""),
    mood: (row) => (isWaiting(row) && silenceOf(row) > SILENT ? "bad" : isWaiting(row) && silenceOf(row) > SILENT / 3 ? "warn" : ""),
  },
  { key: "attempts", name: "tries", class: "number", sort: true, text: (row) => String(row.attempts), mood: (row) => (row.attempts > 1 ? "warn" : "") },
];

const sortKeys = {
  age: (row) => -row.start,
  first: (row) => row.first_token ?? -1,
  rate: (row) => row.rate,
  silence: (row) => silenceOf(row),
  attempts: (row) => row.attempts,
};

function filterInput(name) {
  const input = make("input", { type: "search", placeholder: "filter: client, model, upstream, id …", "aria-label": "Filter" });
  input.addEventListener("input", () => { filters[name] = input.value.toLowerCase(); dirty = true; });
  return input;
}

function fits(name, ...texts) {
  const wanted = filters[name].split(" ").filter(Boolean);
  const all = texts.filter(Boolean).join(" ").toLowerCase();
  return wanted.every((word) => all.includes(word));
}

function requestsView() {
  const table = new Table(requestColumns, { details: true, empty: "no request in flight" });
  const total = make("span", { class: "count" });
  const element = make("section", {}, make("div", { class: "tools" }, filterInput("requests"), total), table.element);
  const draw = () => {
    const all = Object.entries(state.streams).map(([id, row]) => ({ id, ...row }));
    const rows = all.filter((row) => fits("requests", row.id, row.client, row.route, row.model, row.upstream, row.target, row.phase));
    const key = sortKeys[sortBy] ?? sortKeys.age;
    rows.sort((one, other) => key(other) - key(one) || one.start - other.start);
    table.show(rows);
    const { not_listed: hidden } = state.totals;
    setText(total, `${rows.length} of ${all.length}${hidden > 0 ? `; ${hidden} newer ones are not listed` : ""}`);
  };
  return { element, draw };
}

const isBad = (line) => line.error !== undefined || line.phase !== "done";

const finishedColumns = [
  { name: "ended", class: "number", text: (line) => new Date(endOf(line)).toLocaleTimeString([], { hour12: false }) },
  { name: "client", class: "name lead", text: (line) => line.caller ?? "–" },
  { name: "route", class: "name", text: (line) => line.route },
  { name: "model", class: "name", text: (line) => line.model },
  { name: "upstream", class: "name", text: (line) => line.upstream },
  { name: "status", class: "number", text: (line) => (line.status === undefined ? "–" : String(line.status)), mood: (line) => (line.status >= 400 ? "bad" : "") },
  { name: "ended by", class: "name", text: (line) => `${line.who} ${line.phase}`, mood: (line) => (isBad(line) ? "bad" : "") },
  { name: "error", class: "name", text: (line) => line.error, mood: () => "bad" },
  { name: "first token", label: "first", class: "number", text: (line) => span(line.first_token_ms) },
  { name: "total", class: "number", text: (line) => span(line.total_ms) },
  { name: "tokens", class: "number", text: (line) => count(line.tokens_out ?? line.events) },
  { name: "tries", class: "number", text: (line) => String(line.attempts?.length ?? 0), mood: (line) => (line.attempts?.length > 1 ? "warn" : "") },
];

function finishedView() {
  const table = new Table(finishedColumns, {
    details: true,
    empty: "nothing yet: requests that fail are always kept, others while somebody looks, and 10 minutes longer",
  });
  const bad = make("input", { type: "checkbox", id: "only-bad", onchange: () => { dirty = true; } });
  const total = make("span", { class: "count" });
  const tools = make("div", { class: "tools" }, filterInput("finished"), make("span", {}, bad, make("label", { for: "only-bad" }, " only what went wrong")), total);
  const draw = () => {
    const wanted = (line) => (!bad.checked || isBad(line) || line.attempts?.length > 1)
      && fits("finished", line.request_id, line.caller, line.route, line.model, line.upstream, line.error, line.who);
    const rows = finished.filter(wanted).slice(-300).reverse().map((line) => ({ id: line.request_id, ...line }));
    table.show(rows);
    setText(total, `${rows.length} of ${finished.length}`);
  };
  return { element: make("section", {}, tools, table.element), draw };
}

const circuitMood = (circuit) => ({ closed: "good", open: "bad" })[circuit] ?? "warn";

function targetElement(upstream, target) {
  const left = target.until === undefined ? 0 : target.until - gatewayNow();
  const circuit = `circuit ${target.circuit}${target.circuit === "open" && left > 0 ? `, ${span(left)} left` : ""}`;
  const path = `upstreams/${encodeURIComponent(upstream)}`;
  const meant = `url=${encodeURIComponent(target.url)}`;
  const facts = [`${target.pending} pending`, target.waiting > 0 && `${target.waiting} waiting`, `weight ${target.weight}`, target.opened > 0 && `opened ${target.opened}×`];
  const button = target.circuit === "closed" ? actionButton("open the circuit", `${path}/open?${meant}`) : actionButton("close the circuit", `${path}/close?${meant}`);
  return make("div", { class: "target" },
    make("span", { class: "url" }, target.url),
    make("span", { class: `pill ${circuitMood(target.circuit)}` }, circuit),
    make("span", { class: "more dim" }, facts.filter(Boolean).join(" · "), button));
}

function upstreamElement(name, upstream) {
  const resting = new Set(upstream.keys_in_cooldown);
  const keys = Array.from({ length: Math.min(upstream.keys, 64) }, (_, index) =>
    make("span", { class: resting.has(index + 1) ? "dot bad" : "dot", title: resting.has(index + 1) ? "in cooldown" : "usable" }, String(index + 1)));
  const targets = Object.entries(upstream.targets);
  const broken = targets.some(([, target]) => target.circuit !== "closed") || resting.size > 0;
  return make("article", { class: broken ? "card broken" : "card" },
    make("h2", {}, name, " ", make("small", {}, `${count(upstream.answered)} answered · ${count(upstream.failed)} failed attempts`)),
    ...targets.map(([, target]) => targetElement(name, target)),
    make("div", { class: "target" }, make("span", { class: "dim" }, upstream.keys === 0 ? "no keys" : "keys"), make("span", { class: "dots" }, ...keys)));
}

function upstreamsView() {
  const element = make("section", { class: "cards" });
  let shown = "";
  const draw = () => {
    // Drawn again only when something is different, so that a button that asks "sure?" stays.
    const now = JSON.stringify(state.upstreams) + state.gateway.actions;
    const counts = Object.values(state.upstreams).some((one) => Object.values(one.targets).some((target) => target.until !== undefined));
    if (now === shown && !(counts && !element.contains(document.activeElement))) return;
    shown = now;
    element.replaceChildren(...Object.entries(state.upstreams).map(([name, one]) => upstreamElement(name, one)));
  };
  return { element, draw };
}

const used = new Map(); // tokens of each client when this page first saw it

const hasPrices = () => state.currency !== undefined;
const costText = (row) => (row.cost === undefined ? "" : `${row.cost} ${state.currency}`);

const clientColumns = [
  { name: "client", class: "name lead", text: (row) => row.id },
  { name: "in flight", class: "number", text: (row) => count(row.in_flight) },
  { name: "≈ tok/s", class: "number", text: (row) => (row.rate > 0 ? row.rate.toFixed(1) : "") },
  { name: "input tokens", label: "in", class: "number", text: (row) => count(row.tokens_in) },
  { name: "output tokens", label: "out", class: "number", text: (row) => count(row.tokens_out) },
  { name: "output since this page opened", label: "since opened", class: "number", text: (row) => count(row.since) },
  { name: "cost", class: "number", text: costText, when: hasPrices },
];

const modelColumns = [
  { name: "model", class: "name lead", text: (row) => row.id },
  { name: "requests", class: "number", text: (row) => count(row.requests) },
  { name: "failed", class: "number", text: (row) => count(row.failed), mood: (row) => (row.failed > 0 ? "warn" : "") },
  { name: "input tokens", label: "in", class: "number", text: (row) => count(row.tokens_in) },
  { name: "output tokens", label: "out", class: "number", text: (row) => count(row.tokens_out) },
  { name: "cost", class: "number", text: costText, when: hasPrices },
];

const queueColumns = [
  { name: "queue of limit", class: "name lead", text: (row) => row.id },
  { name: "waiting", class: "number", text: (row) => count(row.waiting), mood: (row) => (row.waiting > 0 ? "warn" : "") },
];

const limitColumns = [
  { name: "limit", class: "name lead", text: (row) => row.limit },
  { name: "of", class: "name", text: (row) => row.subject },
  { name: "unit", text: (row) => row.unit },
  { name: "used", class: "number", text: (row) => row.share, mood: (row) => (row.ratio >= 0.9 ? "bad" : row.ratio >= 0.7 ? "warn" : "") },
  { name: "remaining", class: "number", text: (row) => row.remaining },
];

// One row for each unit of each subject of a limit.
function limitRows({ name, each, enforce, units, subjects }) {
  return subjects.flatMap((subject) => Object.entries(subject.units).map(([unit, { used: spent, remaining }]) => {
    const { quantity, per, currency } = units[unit] ?? {};
    return {
      id: JSON.stringify([name, subject.name ?? "", unit]),
      limit: enforce ? name : `${name} (only counts)`,
      subject: [each, subject.name].filter(Boolean).join(" "),
      unit: [unit, per && `per ${per}`].filter(Boolean).join(" "),
      share: [exact(spent), "of", quantity === undefined ? "–" : exact(quantity), currency].filter(Boolean).join(" "),
      remaining: exact(remaining),
      // With nothing left of its burst, a limit refuses whatever is left of its period.
      ratio: Number(remaining) === 0 ? 1 : Number(spent) / Number(quantity),
    };
  }));
}

async function readLimits() {
  if (view !== "clients" || document.hidden || state === null) return;
  const token = sessionStorage.getItem(TOKEN);
  const response = await fetch("/limits", { headers: token ? { authorization: `Bearer ${token}` } : {} }).catch(() => null);
  if (response === null) return;
  limits = response.ok ? (await response.json()).limits : null;
  dirty = true;
}

// How limits are shared with other gateways.
function storeElement(store) {
  const alone = `limits are not shared: this gateway admits ${Math.round(store.fallback_share * 100)} % of each`;
  const facts = [
    ["gateways", count(store.gateways)], ["decided without Redis", count(store.fallbacks)],
    ["refused without a call", count(store.remembered_refusals)], ["corrections on their way", count(store.pending_corrections)], ["reason", store.reason],
  ];
  return make("article", { class: store.available ? "card" : "card broken" },
    make("p", { class: `pill ${store.available ? "good" : "bad"}` }, store.available ? "limits are shared through Redis" : alone),
    make("dl", { class: "facts" }, ...facts.filter(([, value]) => value !== undefined).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
}

const byName = (object) => Object.entries(object).map(([id, row]) => ({ id, ...row }));

function clientsView() {
  const clients = new Table(clientColumns, { empty: "no client has requests in flight or has used tokens" });
  const table = new Table(limitColumns, { empty: "no limit has counted anything" });
  const limitsTitle = make("h3", {}, "Limits");
  const models = new Table(modelColumns, { empty: "no model has been asked" });
  const queues = new Table(queueColumns);
  const queuesTitle = make("h3", {}, "Queues");
  const store = make("div");
  const storeTitle = make("h3", {}, "Shared limits");
  const draw = () => {
    const rates = new Map();
    for (const row of Object.values(state.streams)) {
      const name = row.client ?? "(no client)";
      rates.set(name, (rates.get(name) ?? 0) + row.rate);
    }
    const rows = Object.entries(state.clients).map(([id, row]) => {
      if (!used.has(id)) used.set(id, row.tokens_out);
      return { id, ...row, rate: rates.get(id) ?? 0, since: row.tokens_out - used.get(id) };
    });
    rows.sort((one, other) => other.in_flight - one.in_flight || other.tokens_out - one.tokens_out);
    clients.show(rows);
    limitsTitle.hidden = table.element.hidden = limits === null || limits.length === 0;
    table.show((limits ?? []).flatMap(limitRows));
    const queued = Object.entries(state.queues).map(([id, waiting]) => ({ id, waiting }));
    queuesTitle.hidden = queues.element.hidden = queued.length === 0;
    queues.show(queued);
    models.show(byName(state.models).sort((one, other) => other.tokens_out - one.tokens_out || other.requests - one.requests));
    storeTitle.hidden = store.hidden = state.store === undefined;
    if (state.store) store.replaceChildren(storeElement(state.store));
  };
  return { element: make("section", {}, clients.element, limitsTitle, table.element, queuesTitle, queues.element, storeTitle, store, make("h3", {}, "Models"), models.element), draw };
}

function lineText({ text, line }) {
  if (line === null) return text;
  const time = String(line.time ?? "").slice(11, 23);
  if (line.kind === "access") {
    const parts = [time, line.status ?? "–", line.caller ?? "–", line.method, line.path, line.model, line.upstream, span(line.total_ms), line.error, line.request_id];
    return parts.filter((part) => part !== undefined && part !== "").join("  ");
  }
  const known = new Set(["time", "kind", "level", "message", "target"]);
  const fields = Object.entries(line).filter(([name]) => !known.has(name)).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return [time, (line.level ?? line.kind ?? "").toUpperCase(), line.message, ...fields].filter(Boolean).join("  ");
}

function lineMood({ line }) {
  if (line === null) return "";
  if (line.level === "error" || line.status >= 500) return "bad";
  return line.level === "warn" || line.error !== undefined ? "warn" : "";
}

function logView() {
  const list = make("ol", { class: "lines", tabindex: 0, "aria-label": "Log lines" });
  const empty = nothing("no line yet: lines appear from now on");
  const pause = make("button", { type: "button", "aria-pressed": "false", onclick: () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    setText(pause, paused ? "go on" : "pause");
  } }, "pause");
  const shown = new Map();
  const draw = () => {
    const lines = log.filter((entry) => fits("log", entry.text));
    const atEnd = list.scrollTop + list.clientHeight > list.scrollHeight - 40;
    const wanted = new Set(lines);
    for (const [entry, element] of shown) if (!wanted.has(entry)) { element.remove(); shown.delete(entry); }
    for (const entry of lines) {
      if (!shown.has(entry)) shown.set(entry, make("li", { class: lineMood(entry) }, lineText(entry)));
      const element = shown.get(entry);
      if (element.parentNode !== list) list.append(element);
    }
    // A filter that was changed brings lines back into their order.
    if (list.childElementCount === lines.length && lines.length > 0 && list.lastChild !== shown.get(lines.at(-1))) list.replaceChildren(...lines.map((entry) => shown.get(entry)));
    empty.hidden = lines.length > 0;
    list.hidden = lines.length === 0;
    if (atEnd) list.scrollTop = list.scrollHeight;
  };
  return { element: make("section", {}, make("div", { class: "tools" }, filterInput("log"), pause), list, empty), draw };
}

function written(value) {
  return value === undefined ? "not set" : JSON.stringify(value);
}

function configurationView() {
  const element = make("section");
  let shown = null;
  const draw = () => {
    const key = `${state.gateway.actions} ${state.gateway.ready}`;
    if (configuration === null || (shown?.configuration === configuration && shown.key === key)) return;
    shown = { configuration, key };
    const { generation, problems, warnings, awaits_restart: waits, changes, config } = configuration;
    const list = (title, texts, kind) => texts.length === 0 ? [] : [make("h3", {}, title), ...texts.map((text) => make("p", { class: `problem ${kind}` }, text))];
    const rows = changes.map((change) => make("tr", {},
      make("td", { class: "lead" }, change.path),
      make("td", { "data-label": "before" }, make("del", {}, written(change.before))),
      make("td", { "data-label": "now" }, make("ins", {}, written(change.after)))));
    const head = make("thead", {}, make("tr", {}, ...["key", "before", "now"].map((name) => make("th", { scope: "col" }, make("span", {}, name)))));
    const table = make("div", { class: "table" }, make("table", {}, head, make("tbody", {}, ...rows)));
    element.replaceChildren(
      make("div", { class: "tools" }, make("h2", {}, `Generation ${generation}`), state.gateway.ready ? actionButton("drain the gateway", "drain") : null),
      ...list("Refused: the last change of the file has problems, and is not in effect", problems, ""),
      ...list("Warnings", warnings, "warn"),
      ...list("In effect only after a restart", waits, "warn"),
      make("h3", {}, generation > 1 ? `Changes from generation ${generation - 1}` : "Changes"),
      rows.length > 0 ? table : nothing(generation > 1 ? "no key differs" : "the configuration has not been changed since the start"),
      make("h3", {}, "In effect, without secrets"),
      make("pre", { tabindex: 0 }, JSON.stringify(config, null, 2)));
  };
  return { element, draw };
}

const views = {
  requests: ["In flight", requestsView()],
  finished: ["Finished", finishedView()],
  upstreams: ["Upstreams", upstreamsView()],
  clients: ["Usage", clientsView()],
  log: ["Log", logView()],
  configuration: ["Configuration", configurationView()],
};

// ---- One request

function bar(kind, from, to, whole) {
  const element = make("i", { class: kind });
  element.style.left = `${(100 * from) / whole}%`;
  element.style.width = kind === "mark" ? "" : `${(100 * Math.max(0, to - from)) / whole}%`;
  return element;
}

function trackOf(attempt, whole, firstToken) {
  const { start } = attempt;
  const end = start + (attempt.end ?? Math.max(0, whole - start));
  const failed = attempt.failed;
  const opened = start + (attempt.connect ?? 0);
  const head = attempt.head === undefined ? null : start + attempt.head;
  const bars = [];
  if (attempt.connect !== undefined && !(failed && head === null)) bars.push(bar("connect", start, Math.min(opened, end), whole));
  bars.push(head === null && failed ? bar("failed", start, end, whole) : bar("head", opened, head ?? end, whole));
  if (head !== null) bars.push(bar(failed ? "failed" : "stream", head, end, whole));
  if (firstToken !== undefined && !failed) bars.push(bar("mark", firstToken, firstToken, whole));
  return make("div", { class: "track" }, ...bars);
}

function waterfall(attempts, whole, firstToken) {
  const first = attempts[0]?.start ?? whole;
  const before = make("div", {}, make("p", {}, `in the gateway: ${span(first)}`), make("div", { class: "track" }, bar("wait", 0, first, whole)));
  const rows = attempts.map((attempt, index) => make("div", {},
    make("p", {}, `${index + 1}. ${attempt.upstream} `,
      make("span", { class: "dim" }, [attempt.target, attempt.key && `key ${attempt.key}`].filter(Boolean).join(" · ")), " ",
      make("span", { class: attempt.failed ? "bad" : "" }, [attempt.status, attempt.result !== String(attempt.status) && attempt.result, attempt.code].filter(Boolean).join(" "))),
    trackOf(attempt, whole, index === attempts.length - 1 ? firstToken : undefined)));
  const legend = [["wait", "in the gateway"], ["connect", "connecting"], ["head", "waiting for the response"], ["stream", "response"], ["failed", "failed"], ["mark", "first token"]];
  return make("div", { class: "fall" }, before, ...rows,
    make("div", { class: "scale" }, make("span", {}, "0"), make("span", {}, span(whole / 2)), make("span", {}, span(whole))),
    make("p", { class: "legend" }, ...legend.map(([kind, text]) => make("span", {}, make("i", { class: kind }), text))));
}

const isGood = (result) => result === undefined || result === "2xx" || result === "3xx";

function openDetail(id, row) {
  const age = gatewayNow() - row.start;
  const attempts = (row.tried ?? []).map((attempt) => ({ ...attempt, failed: !isGood(attempt.result) }));
  const facts = [
    ["client", row.client], ["route", row.route], ["model", row.model], ["phase", row.phase], ["age", span(age)],
    ["first token", span(row.first_token)], ["silent for", silenceOf(row) > 1000 ? span(silenceOf(row)) : ""], ["events", count(row.events)], ["≈ tokens/s", row.rate ? row.rate.toFixed(1) : ""],
    ["bytes", count(row.bytes)], ["turns", row.turns === undefined ? "" : count(row.turns)], ["attempts", String(row.attempts)],
  ];
  return [facts, waterfall(attempts, Math.max(age, 1), row.first_token)];
}

// Tags are an object of texts.
function plain(value) {
  if (typeof value !== "object" || value === null) return String(value);
  return Object.entries(value).map(([name, one]) => `${name}=${typeof one === "string" ? one : JSON.stringify(one)}`).join(", ");
}

function finishedDetail(line) {
  const attempts = (line.attempts ?? []).map((attempt) => ({
    upstream: attempt.upstream, target: attempt.target, key: attempt.key, status: attempt.status, result: attempt.result, code: attempt.code,
    start: attempt.start_ms ?? 0, connect: attempt.connect_ms, head: attempt.head_ms, end: attempt.ms, failed: !isGood(attempt.result),
  }));
  const names = { caller: "client", client: "address" };
  const hidden = new Set(["kind", "attempts", "request_id"]);
  const facts = Object.entries(line).filter(([name]) => !hidden.has(name))
    .map(([name, value]) => [names[name] ?? name.replace(/_ms$/, "").replaceAll("_", " "), name.endsWith("_ms") ? span(value) : plain(value)]);
  return [facts, waterfall(attempts, Math.max(line.total_ms ?? 0, 1), line.first_token_ms)];
}

function drawDetail(focus) {
  const panel = byId("detail");
  const row = chosen !== null && state ? state.streams[chosen] : undefined;
  const line = chosen !== null && row === undefined ? finished.find((one) => one.request_id === chosen) : undefined;
  panel.hidden = row === undefined && line === undefined;
  if (panel.hidden) return;
  const [facts, fall] = row ? openDetail(chosen, row) : finishedDetail(line);
  const shown = make("dl", { class: "facts" }, ...facts.filter(([, value]) => value !== undefined && value !== "").flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const title = panel.querySelector(".title");
  if (title?.dataset.id === chosen && title.dataset.open === String(row !== undefined)) {
    // The buttons stay, and with them the focus.
    panel.querySelector(".facts").replaceWith(shown);
    panel.querySelector(".fall").replaceWith(fall);
  } else {
    const close = make("button", { type: "button", onclick: closeDetail }, "close");
    const cancel = row ? actionButton("cancel the request", `requests/${chosen}/cancel`) : null;
    panel.replaceChildren(make("div", { class: "title", "data-id": chosen, "data-open": String(row !== undefined) }, make("h2", {}, chosen), close),
      row ? "" : make("p", { class: "dim" }, "finished"), fall, shown, cancel ? make("p", {}, cancel) : "");
  }
  if (focus) panel.focus();
}

function closeDetail() {
  const id = chosen;
  chosen = null;
  drawDetail();
  dirty = true;
  document.querySelector(`tr[aria-current="true"]`)?.focus();
  return id;
}

// ---- The page

function drawHeadline() {
  const { totals, gateway } = state;
  setText(byId("version"), gateway.version);
  const shown = [
    ["in flight", count(totals.in_flight)], ["≈ tok/s", totals.rate.toFixed(totals.rate < 100 ? 1 : 0)], ["finished", count(totals.finished)],
    ["failed", count(totals.failed), totals.failed > 0 ? "warn" : ""], ["broken off", count(totals.broken), totals.broken > 0 ? "bad" : ""], ["generation", String(gateway.generation)],
  ];
  byId("headline").replaceChildren(...shown.map(([name, value, mood]) => make("div", {}, make("dt", {}, name), make("dd", { class: mood }, value))));
  const list = byId("notices");
  const key = JSON.stringify(state.notices);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const notices = state.notices.map(({ who, text }) => make("li", {}, make("b", {}, who), ` ${text}`));
  list.replaceChildren(...(notices.length > 0 ? notices : [make("li", { class: "fine" }, "nothing is wrong that this page knows of")]));
}

function drawTabs() {
  const numbers = { requests: state?.totals.in_flight, finished: finished.length, configuration: configuration?.problems.length || undefined };
  for (const [name, button] of tabs) {
    setText(button, numbers[name] === undefined ? views[name][0] : `${views[name][0]} ${count(numbers[name])}`);
    button.setAttribute("aria-selected", String(name === view));
    button.tabIndex = name === view ? 0 : -1;
  }
}

function draw() {
  drawTabs();
  document.querySelector("main").hidden = state === null;
  if (state === null) return;
  drawHeadline();
  views[view][1].draw();
  drawDetail();
}

function choose(name, focus) {
  view = name;
  for (const [other, [, { element }]] of Object.entries(views)) element.hidden = other !== name;
  draw();
  readLimits();
  if (focus) tabs.get(name).focus();
}

const tabs = new Map(Object.keys(views).map((name) => [name, make("button", { type: "button", role: "tab", onclick: () => choose(name) })]));

function moveRow(by) {
  const rows = [...views[view][1].element.querySelectorAll("tr[tabindex]")];
  const at = rows.indexOf(document.activeElement);
  rows[Math.min(Math.max(at + by, 0), rows.length - 1)]?.focus();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return closeDetail();
  if (event.target instanceof HTMLInputElement) return;
  const names = Object.keys(views);
  const number = Number(event.key);
  if (number >= 1 && number <= names.length) return choose(names[number - 1], true);
  if (event.key === "/") { event.preventDefault(); return views[view][1].element.querySelector("input")?.focus(); }
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (event.target.closest?.("aside, pre, ol")) return;
    event.preventDefault();
    return moveRow(event.key === "ArrowDown" ? 1 : -1);
  }
  if (event.target.getAttribute?.("role") === "tab" && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
    const at = names.indexOf(view) + (event.key === "ArrowRight" ? 1 : -1);
    choose(names[(at + names.length) % names.length], true);
  }
}

document.querySelector("nav").append(...tabs.values());
document.querySelector("main").append(...Object.values(views).map(([, { element }]) => element));
document.addEventListener("keydown", onKey);
const named = location.hash.slice(1);
choose(named in views ? named : "requests");
setInterval(() => {
  // Ages grow without a message.
  if (!document.hidden && (dirty || view === "requests" || view === "upstreams" || chosen !== null)) { dirty = false; draw(); }
  if (performance.now() - heard > 15_000) stop?.abort();
}, 500);
setInterval(readLimits, 2000);
keepConnected();
