// Debian's Chromium, driven over a pipe (Chrome DevTools Protocol) without any library: loads a page, runs steps on it, takes pictures.
//
//   node see.mjs < plan.json > result.json
//
// The plan is { url, steps }. Each step has one of: size [width, height]; scheme "dark" or "light"; wait (an expression that must become true);
// run (an expression whose value is put into the result); picture (a file); key (a key that is pressed).
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const plan = JSON.parse(readFileSync(0, "utf8"));
const profile = mkdtempSync(join(tmpdir(), "sluicegate-see-"));
const options = [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe", `--user-data-dir=${profile}`,
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.*", "about:blank",
];
const browser = spawn("chromium", options, { detached: true, stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"], env: { ...process.env, HOME: profile } });
const [input, output] = [browser.stdio[3], browser.stdio[4]];
const waiting = new Map();
const problems = [];
const requests = [];
let last = 0;

let rest = "";
output.setEncoding("utf8");
output.on("data", (text) => {
  rest += text;
  let end;
  while ((end = rest.indexOf("\0")) >= 0) {
    const message = JSON.parse(rest.slice(0, end));
    rest = rest.slice(end + 1);
    if (message.id) waiting.get(message.id)?.(message);
    else note(message);
  }
});

// What the page must not do: throw, be stopped by its own policy, ask for something else.
function note({ method, params }) {
  if (method === "Runtime.exceptionThrown") problems.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
  if (method === "Log.entryAdded" && params.entry.level === "error") problems.push(`${params.entry.text} ${params.entry.url ?? ""}`);
  if (method === "Runtime.consoleAPICalled") problems.push(JSON.stringify(params.args.map((one) => one.value)));
  if (method === "Page.javascriptDialogOpening") problems.push(`dialog: ${params.message}`);
  if (method === "Network.requestWillBeSent") requests.push(`${params.request.method} ${params.request.url}`);
}

function send(method, params = {}, sessionId) {
  const id = ++last;
  input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
  return new Promise((resolve, reject) => waiting.set(id, ({ error, result }) => (error ? reject(new Error(`${method}: ${error.message}`)) : resolve(result))));
}

async function main() {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const page = (method, params) => send(method, params, sessionId);
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await page(`${domain}.enable`);
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await page("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  };
  const values = [];
  await page("Page.navigate", { url: plan.url });
  for (const step of plan.steps) {
    if (step.size) await page("Emulation.setDeviceMetricsOverride", { width: step.size[0], height: step.size[1], deviceScaleFactor: 1, mobile: step.size[0] < 700 });
    if (step.scheme) await page("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: step.scheme }] });
    if (step.key) {
      const text = step.key === "Enter" ? "\r" : step.key.length === 1 ? step.key : undefined;
      await page("Input.dispatchKeyEvent", { type: "keyDown", key: step.key, text });
      await page("Input.dispatchKeyEvent", { type: "keyUp", key: step.key });
    }
    if (step.wait) {
      const begun = Date.now();
      while (!(await evaluate(step.wait))) {
        if (Date.now() - begun > 60_000) throw new Error(`never true: ${step.wait}\n${await evaluate("document.body.innerText")}\n${problems.join("\n")}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    if (step.run) values.push((await evaluate(step.run)) ?? null);
    if (step.picture) {
      await evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))");
      const { data } = await page("Page.captureScreenshot", { format: "png" });
      writeFileSync(step.picture, Buffer.from(data, "base64"));
    }
  }
  return { values, problems, requests };
}

let failed = false;
try {
  process.stdout.write(JSON.stringify(await main()));
} catch (error) {
  failed = true;
  process.stderr.write(`${error.stack}\n`);
}
// With all of its processes, which write into the profile otherwise.
process.kill(-browser.pid, "SIGKILL");
await new Promise((resolve) => browser.once("exit", resolve));
rmSync(profile, { recursive: true, force: true, maxRetries: 20 });
process.exit(failed ? 1 : 0);
