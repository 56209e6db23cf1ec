// One engine in a Chromium of its own: the page of this repository, or a peer that runs the same model in a browser.
//
// It is driven a repetition at a time, so that all sides can take turns: it prints `{"ready":true}` when the model is loaded
// and one whole repetition has been made (shaders are compiled, code is warm); then every line on standard input runs one
// repetition and prints one JSON line; the end of input ends the process. `cargo xtask bench --web` does that.
//
//   node bench/peers/browser.mjs --side ours|transformers.js|wllama --url ADDRESS --model FILE [--prefill 128] [--decode 16]
//
// A repetition: a prompt of ids, computed from an empty cache, then greedy tokens. `first_token_s` is the time from the
// request to the first token, `decode_tps` the speed of those after it, `peak_rss_mb` the largest sum of resident memory of
// all processes of the browser since it started (Linux; pages that processes share count in each).
// ADDRESS serves, for `ours`, what web/tests/browser.mjs wants; for peers, an empty page with the headers of cross-origin
// isolation (threads of wasm need them) and beside it /transformers, /ort, /onnx, /wllama and /models.
import { readFileSync, readdirSync } from "node:fs";
import { basename } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({
  options: {
    side: { type: "string" },
    url: { type: "string" },
    model: { type: "string" },
    prefill: { type: "string", default: "128" },
    decode: { type: "string", default: "16" },
    threads: { type: "string", default: "2" },
  },
});
const nPrefill = Number(args.prefill);
const nDecode = Number(args.decode);
const sides = { ours, "transformers.js": transformersJs, wllama };
const side = sides[args.side];
if (!side || !args.url || !args.model || !(nPrefill > 0) || !(nDecode > 1)) {
  console.error("usage: browser.mjs --side ours|transformers.js|wllama --url ADDRESS --model FILE [--prefill N] [--decode N, from 2]");
  process.exit(2);
}
process.env.PAGE_URL = args.url;
const { launch, loadPackage, openPackage } = await import("../../web/tests/browser.mjs");

// --- The sides: each loads the model and returns what it is and how it runs one prompt. -------------------------------

async function ours(context) {
  const page = await openPackage(context);
  const loaded = await loadPackage(page, args.model, { context: nPrefill + nDecode + 8 });
  const run = (ids) => page.evaluate(async ({ ids, n }) => {
    const answer = engine.answer({ ids }, { sampling: { temperature: 0 }, maxTokens: n, ignoreEnd: true });
    const end = await answer.end;
    return { first_token_s: end.firstTokenMs / 1000, decode_tps: end.tokensPerSecond, ids: answer.ids };
  }, { ids, n: nDecode });
  return { page, run, version: "this repository", backend: `WebGPU, ${loaded.gpu.tier ?? ""}`.replace(/, $/, "") };
}

async function transformersJs(context) {
  const page = await blank(context);
  const version = await page.evaluate(async () => {
    const { AutoModelForCausalLM, Tensor, env } = await import("/transformers/transformers.js");
    Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "/onnx/", useBrowserCache: false });
    env.backends.onnx.wasm.wasmPaths = "/ort/";
    globalThis.model = await AutoModelForCausalLM.from_pretrained("smollm2", { device: "webgpu", dtype: "q4" });
    globalThis.tensor = (ids) => new Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
    return `transformers.js ${env.version}`;
  });
  const run = (ids) => page.evaluate(async ({ ids, n }) => {
    const times = [];
    const got = [];
    // The first call hands over the prompt, each later one a token.
    const streamer = { put: ([tokens]) => { times.push(performance.now()); got.push(...tokens.map(Number)); }, end() {} };
    const start = performance.now();
    const mask = tensor(ids.map(() => 1));
    const out = await model.generate({
      inputs: tensor(ids), attention_mask: mask, max_new_tokens: n, min_new_tokens: n, do_sample: false, streamer,
    });
    out.dispose?.();
    const told = times.slice(-n);
    return {
      first_token_s: (told[0] - start) / 1000, decode_tps: ((n - 1) * 1000) / (told[n - 1] - told[0]), ids: got.slice(-n),
    };
  }, { ids, n: nDecode });
  return { page, run, version, backend: "WebGPU, ONNX, 4 bits" };
}

async function wllama(context) {
  const page = await blank(context);
  const about = await page.evaluate(async ({ address, nContext, threads }) => {
    const { Wllama } = await import("/wllama/index.js");
    const wasm = (kind) => `/wllama/${kind}/wllama.wasm`;
    globalThis.wllama = new Wllama(
      { "single-thread/wllama.wasm": wasm("single-thread"), "multi-thread/wllama.wasm": wasm("multi-thread") },
      { suppressNativeLog: true },
    );
    const file = await (await fetch(address)).blob();
    await wllama.loadModel([file], { n_ctx: nContext, n_batch: 512, n_threads: threads });
    return { isolated: crossOriginIsolated, threads: wllama.getNumThreads(), multi: wllama.isMultithread() };
  }, { address: `/models/${basename(args.model)}`, nContext: nPrefill + nDecode + 8, threads: Number(args.threads) });
  if (!about.isolated || !about.multi) throw new Error(`wllama runs on one thread: ${JSON.stringify(about)}`);
  const run = (ids) => page.evaluate(async ({ ids, n }) => {
    await wllama.kvClear();
    await wllama.samplingInit({ temp: 0 });
    const start = performance.now();
    await wllama.decode(ids, {});
    const got = [];
    let first = 0;
    for (;;) {
      const { token } = await wllama.samplingSample();
      got.push(token);
      if (got.length === 1) first = performance.now();
      if (got.length === n) break;
      await wllama.samplingAccept([token]);
      await wllama.decode([token], {});
    }
    const last = performance.now();
    return { first_token_s: (first - start) / 1000, decode_tps: ((n - 1) * 1000) / (last - first), ids: got };
  }, { ids, n: nDecode });
  return { page, run, version: "wllama 2.4.0", backend: `wasm on the CPU, ${about.threads} threads` };
}

/** An empty page, and on this standard error what it complains of. */
async function blank(context) {
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error(`page: ${error}`));
  page.on("crash", () => console.error("page: crashed"));
  page.on("console", (message) => { if (message.type() === "error") console.error(`page: ${message.text()}`); });
  await page.goto(args.url);
  return page;
}

// --- Memory. ----------------------------------------------------------------------------------------------------------

/** Resident memory of all processes below this one, MiB; 0 where there is no /proc. */
function browserRss() {
  const parents = new Map();
  const resident = new Map();
  let folders;
  try { folders = readdirSync("/proc").filter((name) => /^\d+$/.test(name)); } catch { return 0; }
  for (const pid of folders) {
    try {
      // Behind the name, which is in brackets and may hold anything.
      const fields = readFileSync(`/proc/${pid}/stat`, "latin1").replace(/^.*\) /s, "").split(" ");
      parents.set(Number(pid), Number(fields[1]));
      resident.set(Number(pid), Number(fields[21]) * 4096);
    } catch { /* it ended meanwhile */ }
  }
  const below = (pid) => pid !== process.pid && (parents.get(pid) === process.pid || (parents.has(pid) && below(parents.get(pid))));
  let bytes = 0;
  for (const pid of resident.keys()) if (below(pid)) bytes += resident.get(pid);
  return bytes / (1024 * 1024);
}

// --- The run. ---------------------------------------------------------------------------------------------------------

let peak = 0;
setInterval(() => { peak = Math.max(peak, browserRss()); }, 250).unref();

const cleanups = [];
const context = await launch({ after: (cleanup) => cleanups.push(cleanup) });
const end = async (code) => {
  for (const cleanup of cleanups) await cleanup().catch(() => {});
  process.exit(code);
};

// Ids spread over the first 30,000, which every LLaMA vocabulary has, by a fixed generator; the first one is another each
// time, so that no side can use what it cached of the prompt before.
let state = 1;
const ids = Array.from({ length: nPrefill }, () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return 100 + (state % 29900);
});
let repetitions = 0;
const prompt = () => [100 + repetitions++, ...ids.slice(1)];

try {
  const loadStart = performance.now();
  const { page, run, version, backend } = await side(context);
  const load_s = (performance.now() - loadStart) / 1000;
  const gpu = await page.evaluate(async () => {
    const adapter = await navigator.gpu?.requestAdapter();
    return adapter ? [adapter.info.vendor, adapter.info.architecture, adapter.info.description].filter(Boolean).join(" ") : "none";
  });
  const browser = await page.evaluate(() => navigator.userAgent.match(/Chrome\/[\d.]+/)?.[0].replace("/", " ") ?? navigator.userAgent);
  await run(prompt());
  console.log(JSON.stringify({ ready: true }));
  for await (const _ of createInterface({ input: process.stdin })) {
    const figures = await run(prompt());
    peak = Math.max(peak, browserRss());
    console.log(JSON.stringify({
      side: args.side, version, backend, gpu, browser, load_s, ...figures, prefill_tokens: nPrefill, decode_tokens: nDecode, peak_rss_mb: peak,
    }));
  }
  await end(0);
} catch (error) {
  console.error(`${args.side}: ${error?.stack ?? error}`);
  await end(1);
}
