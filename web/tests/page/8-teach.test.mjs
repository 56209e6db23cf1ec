// Teaching in the tab: burn on the page's own GPU, rows to adapter, and what is said on the way.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";
import { brotliCompressSync, constants } from "node:zlib";
import { data, fine, lateFrames, launch, load, open, openPackage, picture, ready, send, set, settled, texts, tiny, url } from "../browser.mjs";
import * as safetensors from "../safetensors.mjs";

const LONG = 180_000;
const dist = new URL("../../dist/assets/", import.meta.url);
const rows = (n) => Array.from({ length: n }, (_, row) => JSON.stringify({ instruction: `What is ${row}?`, output: `The answer to ${row} is ${row * 7 % 10}.` })).join("\n");

/** Opens the Teach view and pastes rows. */
async function paste(page, text) {
  await page.getByRole("link", { name: "Teach" }).click();
  await page.getByLabel("Rows", { exact: true }).fill(text);
}

/** Fills in settings by their labels. */
async function settings(page, values) {
  const panel = page.locator(".teach-settings");
  if (!(await panel.evaluate((details) => details.open))) await panel.locator("summary").click();
  for (const [label, value] of Object.entries(values)) {
    const field = panel.getByLabel(label, { exact: true });
    if ((await field.evaluate((element) => element.tagName)) === "SELECT") {
      await field.selectOption(value);
    } else {
      await field.fill(String(value));
      await field.blur();
    }
  }
}

/** Waits until what was changed last has been read. */
const planned = async (page) => {
  await page.waitForTimeout(600);
  await page.locator("#teach-start:not(:disabled)").waitFor({ timeout: 60_000 });
};

const begin = async (page) => {
  await planned(page);
  await page.locator("#teach-start").click();
};
const stage = (page, words) => page.locator(".run .stage", { hasText: words });
const done = (page) => stage(page, /^(Done|Stopped early)/).waitFor({ timeout: LONG });

/** What the picture of the losses says in words. */
async function losses(page) {
  const words = await page.locator(".chart").getAttribute("aria-label");
  const of = (what) => new RegExp(`${what} loss ([\\d.]+) to ([\\d.]+)`).exec(words)?.slice(1).map(Number);
  return { words, training: of("training"), validation: of("validation") };
}

async function ask(page) {
  await page.getByRole("link", { name: "Chat" }).click();
  await page.getByRole("button", { name: "New chat" }).click();
  await send(page, "Hello");
  await settled(page);
  return (await texts(page))[0];
}

test("ten steps in the browser equal float64 PyTorch, for three kinds of gates", async (t) => {
  const page = await openPackage(await launch(t));
  await page.locator("#test-file").setInputFiles(data("tiny-llama/tiny-f32.gguf"));
  const base = JSON.parse(readFileSync(data("tiny-llama/base.json"), "utf8"));
  for (const [name, shape, activation] of [["paper", "per_head", "tanh"], ["linear", "per_head", "none"], ["peft", "scalar", "none"]]) {
    const golden = safetensors.read(readFileSync(data(`tiny-llama/golden-${name}.safetensors`))).tensors;
    const width = shape === "scalar" ? 1 : 4;
    const start = safetensors.write(
      { prompts: { data: Float32Array.from(golden["train.init_prompts"].data), shape: [3, 10, 256] }, gates: { data: new Float32Array(3 * width), shape: [3, width] } },
      { format: "llama-adapter", version: "1", gate_shape: shape, gate_activation: activation, n_layers: "3", adapter_len: "10" });
    const found = await page.evaluate(({ ids, firstTarget, start }) => new Promise((resolve) => {
      const policy = trustedTypes.createPolicy(`golden-${Math.random()}`, { createScriptURL: (address) => address });
      const worker = (globalThis.golden ??= new Worker(policy.createScriptURL("/workers/golden.js"), { type: "module" }));
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => resolve({ error: message });
      // What the golden runs did: a constant rate, no warm-up, no clipping.
      const settings = { steps: 10, learningRate: 3e-2, schedule: "constant", warmup: 0, maxGradNorm: 0, batchTokens: 256 };
      worker.postMessage({ file: pick.files[0], ids, firstTarget, settings, start });
    }), { ids: base.ids, firstTarget: base.first_target, start: [...start] });
    assert.equal(found.error, undefined);
    const wanted = [...golden["train.losses"].data];
    const worst = Math.max(...found.losses.map((loss, step) => Math.abs(loss - wanted[step]) / wanted[step]));
    assert.equal(found.losses.length, 10);
    // The bounds of the native test: f32 PyTorch is within 1.2e-7, a decay that forgets the gates is 4e-4 off; where Adam's second
    // moment is near 0 rounding shows most, f32 PyTorch is within 2e-6 there.
    assert.ok(worst < 1e-5, `${name}: losses ${worst}`);
    const { tensors } = safetensors.read(Buffer.from(found.last));
    const off = (what) => {
      const [a, b] = [tensors[what].data, golden[`train.${what}`].data];
      const length = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
      return length(a.map((value, index) => value - b[index])) / length(b);
    };
    const [prompts, gates] = [off("prompts"), off("gates")];
    console.log(`${name}: losses within ${worst.toExponential(1)}, prompts ${prompts.toExponential(1)}, gates ${gates.toExponential(1)}`);
    assert.ok(prompts < 1e-4 && gates < 1e-4, `${name}: prompts ${prompts}, gates ${gates}`);
  }
});

test("rows become an adapter that is used in the chat, downloaded and loaded again", async (t) => {
  const context = await launch(t);
  const page = await open(context);
  const fetched = [];
  context.on("request", (request) => { if (request.url().includes("adapter_teach_bg")) fetched.push(request.url()); });
  await load(page);
  await set(page, { Temperature: "0", "Longest answer": "16" });
  const base = await ask(page);
  assert.deepEqual(fetched, [], "a chat does not need the training module");
  let file;

  await t.test("what it takes is said before it begins", async () => {
    await paste(page, rows(24));
    await settings(page, { "Name of the adapter": "sums", Steps: "10", "Learning rate": "0.03", "Tokens of a step": "256" });
    await planned(page);
    const facts = await page.locator(".plan .facts").innerText();
    assert.ok(fetched.length > 0);
    assert.match(facts, /24 rows \(alpaca\): \d+ rows to train on, \d+ rows? for validation/);
    assert.match(facts, /[\d,]+, of which [\d,]+ are learnt/);
    assert.match(facts, /[\d,]+ trainable parameters .*: 10 prompts in each of the last \d+ layers/);
    assert.match(facts, /10 of up to 256 tokens \(about \d+ rows\)/);
    assert.match(facts, /up to 0\.03 after 1 step; the paper's code would use [\d.e-]+ for such steps/);
    assert.match(facts, /[\d.]+ MiB \(weights [\d.]+ MiB, activations of a block/);
  });

  await t.test("the loss falls, gates open, answers are shown before and after", async () => {
    await page.evaluate(() => {
      globalThis.tasks = [];
      new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask" });
    });
    await begin(page);
    await page.locator(".run .figures", { hasText: /tokens\/s · about .* left/ }).waitFor({ timeout: LONG });
    await done(page);
    const { words, training, validation } = await losses(page);
    console.log(words);
    assert.ok(training[1] < training[0] - 0.05, words);
    assert.ok(validation[1] < validation[0] - 0.05, words);
    assert.match(await page.locator(".gates").getAttribute("aria-label"), /Gates of \d+ layers; the strongest is -?[\d.e-]+ in layer \d+, head \d/);
    const answers = await page.locator(".samples .sample").first().innerText();
    assert.match(answers, /Before[\s\S]*Step 10/);
    // The random model's answers are no picture: rows, losses and gates are.
    const size = page.viewportSize();
    await page.setViewportSize({ width: 1180, height: 720 });
    await page.locator(".teach-settings summary").click();
    await page.locator(".run").evaluate((element) => element.scrollIntoView({ block: "start" }));
    await picture(page, "teach");
    await page.setViewportSize(size);
    console.log(`long tasks while learning: ${await page.evaluate(() => tasks.length)}`);
  });

  await t.test("it is downloaded; PEFT's form is refused with the reason", async () => {
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Download", exact: true }).first().click();
    const saved = await download;
    assert.equal(saved.suggestedFilename(), "sums.safetensors");
    file = await saved.path();
    const { metadata, tensors } = safetensors.read(readFileSync(file));
    assert.equal(metadata.gate_shape, "per_head");
    assert.ok(metadata.base_hash, "it names its model");
    assert.ok(tensors.gates.data.every((gate) => gate !== 0 && Number.isFinite(gate)));
    await page.getByRole("button", { name: "Download for PEFT" }).first().click();
    const notice = page.locator('[data-code="adapter-peft"]');
    await notice.waitFor();
    assert.match(await notice.innerText(), /PEFT cannot hold this adapter[\s\S]*a gate for each of 4 heads, which differ[\s\S]*one gate a layer/);
    await notice.getByRole("button", { name: "Dismiss" }).click();
  });

  await t.test("it answers in the chat, and so does the file", async () => {
    await page.getByRole("button", { name: "Use in chat" }).first().click();
    await page.getByText("Adapter sums is on in the chat").waitFor();
    const adapted = await ask(page);
    assert.notEqual(adapted, base);
    const chooser = page.waitForEvent("filechooser");
    await page.getByRole("button", { name: "Add an adapter" }).click();
    await (await chooser).setFiles({ name: "again.safetensors", mimeType: "", buffer: readFileSync(file) });
    await page.waitForFunction(() => document.querySelector("#adapter-bar select").selectedOptions[0]?.textContent === "again");
    assert.equal(await ask(page), adapted);
    await page.getByLabel("Adapter", { exact: true }).selectOption("");
    assert.equal(await ask(page), base);
    assert.equal(await page.locator("#adapter-bar .warning").innerText(), "");
  });
  fine(page);
});

test("a training is stopped with its adapter kept, goes on, and becomes a PEFT folder", async (t) => {
  const page = await open(await launch(t));
  await load(page);
  await paste(page, rows(24));
  await settings(page, { Steps: "400", "Learning rate": "0.02", "Tokens of a step": "64", "Validation share": "0", Gates: "peft" });
  await begin(page);
  await page.locator(".run .figures", { hasText: /step [2-9]/ }).waitFor({ timeout: LONG });
  const pressed = Date.now();
  await page.locator("#teach-stop").click();
  await stage(page, /^Stopped after step/).waitFor({ timeout: LONG });
  console.log(`stopped after ${Date.now() - pressed} ms`);
  const stepOf = async () => Number(/step (\d+)/.exec(await page.locator(".run .stage").innerText())[1]);
  const first = await stepOf();
  assert.match(await page.locator(".kept").innerText(), new RegExp(`my-adapter after step ${first}`));

  await page.getByRole("button", { name: "Go on" }).click();
  await page.waitForFunction((wanted) => Number(/step (\d+) of/.exec(document.querySelector(".run .figures").textContent)?.[1]) >= wanted, first + 2, { timeout: LONG });
  await page.keyboard.press("Escape");
  await stage(page, /^Stopped after step/).waitFor({ timeout: LONG });
  assert.ok((await stepOf()) >= first + 2);

  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download for PEFT" }).click();
  const zip = readFileSync(await (await download).path());
  const files = Object.fromEntries(unzip(zip));
  assert.deepEqual(Object.keys(files), ["my-adapter/adapter_config.json", "my-adapter/adapter_model.safetensors"]);
  assert.equal(JSON.parse(files["my-adapter/adapter_config.json"]).peft_type, "ADAPTION_PROMPT");
  await page.getByRole("button", { name: "End this training" }).click();
  await page.locator("#teach-start:not(:disabled)").waitFor();

  await page.getByRole("link", { name: "Chat" }).click();
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Add an adapter" }).click();
  await (await chooser).setFiles(Object.entries(files).map(([name, buffer]) => ({ name: name.split("/").at(-1), mimeType: "", buffer })));
  await page.locator("#strength").waitFor();
  fine(page);
});

/** Names and bytes of an archive whose files are stored as they are. */
function* unzip(bytes) {
  for (let at = 0; bytes.readUInt32LE(at) === 0x04034b50;) {
    const [method, size, name, extra] = [bytes.readUInt16LE(at + 8), bytes.readUInt32LE(at + 18), bytes.readUInt16LE(at + 26), bytes.readUInt16LE(at + 28)];
    assert.equal(method, 0);
    const begin = at + 30 + name + extra;
    yield [bytes.toString("utf8", at + 30, at + 30 + name), bytes.subarray(begin, begin + size)];
    at = begin + size;
  }
}

test("rows that cannot be used are named by line, field and reason", async (t) => {
  const page = await open(await launch(t));
  await page.getByRole("link", { name: "Teach" }).click();
  await page.getByText("Load a model first: it is").waitFor();
  await page.getByRole("link", { name: "Chat" }).click();
  await load(page);
  const good = '{"instruction": "Hello", "output": "Hello to you."}';
  await paste(page, [good, '{"instruction": "Hello"}', '{"instruction": [5], "output": "x"}', "{broken", '{"instruction": "x", "output": "  "}', good, "<script>alert(1)</script>", good, good, good].join("\n"));
  const problems = page.locator(".problems");
  await problems.waitFor({ timeout: 60_000 });
  const said = await problems.innerText();
  assert.match(said, /5 rows are left out/);
  for (const line of [/line 2: “output” is missing/, /line 3: “instruction” is an array, it must be a string/, /line 4: the row is not valid JSON/, /line 5: “output” is empty/, /line 7: the row is not valid JSON/]) assert.match(said, line);

  const refused = page.locator(".teach-main .notice");
  const cases = [
    ["nothing but words", "rows", /none of 1 rows can be used; the first: line 1: the row is not valid JSON/i],
    ["[" + good, "rows", /ends at line 1 before the array is closed/],
    [`${good}\n{"instruction": "Hello"}\n{broken`, "rows", /2 of 3 rows cannot be used .*the first: line 2: .output. is missing/i],
    [`${good}\n{"messages": []}`, "rows", /line 2: .*(format|chat)/i],
    ["\u001f\u008b", "rows", /rows|JSON|row/i],
  ];
  for (const [text, code, words] of cases) {
    await page.getByLabel("Rows", { exact: true }).fill(text);
    await page.waitForFunction((words) => new RegExp(words, "i").test(document.querySelector(".teach-main .notice")?.innerText ?? ""), words.source, { timeout: 30_000 });
    assert.equal(await refused.getAttribute("data-code"), code);
    assert.ok(await page.locator("#teach-start").isDisabled());
  }
  await page.getByLabel("Rows", { exact: true }).fill([good, good.replace("Hello", "Bye"), good.replace("Hello", "Oh")].join("\n"));
  await page.locator("#teach-start:not(:disabled)").waitFor();
  await settings(page, { Layers: "99" });
  await page.waitForFunction(() => /number of adapted layers is 99, it must be 1 to \d/.test(document.querySelector(".teach-main .notice")?.innerText ?? ""));
  fine(page);
});

test("a GPU that computes wrong gradients is not taught on", async (t) => {
  const page = await open(await launch(t));
  await load(page);
  await paste(page, rows(24));
  await settings(page, { Steps: "10" });
  await page.locator("#teach-start:not(:disabled)").waitFor({ timeout: 60_000 });
  await (await teacherOf(page)).evaluate(() => {
    const create = GPUDevice.prototype.createShaderModule;
    GPUDevice.prototype.createShaderModule = function (descriptor) {
      const code = descriptor.label?.startsWith("cross_entropy") ? descriptor.code.replaceAll("exp(", "1.01 * exp(") : descriptor.code;
      return create.call(this, { ...descriptor, code });
    };
  });
  await begin(page);
  const notice = page.locator('.run [data-code="wrong-numbers"]');
  await notice.waitFor({ timeout: LONG });
  assert.match(await notice.innerText(), /computes wrong numbers[\s\S]*cross_entropy/i);
  assert.match(await page.locator(".kept").innerText(), /Nothing was learnt yet/);
});

/** The worker that trains. */
async function teacherOf(page) {
  const named = await Promise.all(page.workers().map(async (worker) => [await worker.evaluate(() => self.name), worker]));
  return named.find(([name]) => name === "teach")[1];
}

test("a GPU that is lost while teaching is said, and what was learnt by then is kept", async (t) => {
  const page = await open(await launch(t));
  await load(page);
  await paste(page, rows(24));
  await settings(page, { Steps: "60", "Learning rate": "0.02", "Tokens of a step": "64" });
  await page.locator("#teach-start:not(:disabled)").waitFor({ timeout: 60_000 });
  const worker = await teacherOf(page);
  await worker.evaluate(() => {
    const request = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...args) { return (self.device = await request.apply(this, args)); };
  });
  await begin(page);
  await page.locator(".run .figures", { hasText: /step (9|\d\d) of/ }).waitFor({ timeout: LONG });
  await worker.evaluate(() => self.device.destroy());
  const notice = page.locator('.run [data-code="teach-lost"]');
  await notice.waitFor({ timeout: 60_000 });
  assert.match(await notice.innerText(), /GPU was lost while teaching[\s\S]*begin again/i);
  assert.match(await page.locator(".kept").innerText(), /my-adapter after step \d+/);
  await page.getByRole("button", { name: "Use in chat" }).first().click();
  await page.getByText("Adapter my-adapter is on in the chat").waitFor();
  assert.equal(typeof (await ask(page)), "string");
});

test("dropped rows are taught; the training module is kept for times without a network", async (t) => {
  const context = await launch(t);
  // What cannot be pressed yet must not look so before the first frame either.
  await lateFrames(context, 300);
  const page = await open(context);
  await page.locator("#welcome .model-card", { hasText: "tiny-q4_1" }).getByRole("button", { name: /Load/ }).click();
  await ready(page);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  const questions = (page, n) => page.evaluateHandle((text) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([text], "questions.jsonl"));
    return transfer;
  }, rows(n));
  const transfer = await questions(page, 12);
  await page.dispatchEvent("body", "dragenter", { dataTransfer: transfer });
  await page.dispatchEvent("body", "drop", { dataTransfer: transfer });
  await page.locator("#teach-start:not(:disabled)").waitFor({ timeout: 60_000 });
  assert.match(await page.getByLabel("Rows", { exact: true }).inputValue(), /What is 11\?/);
  const kept = () => page.evaluate(async () => {
    for (const name of await caches.keys()) for (const { url } of await (await caches.open(name)).keys()) if (/adapter_teach_bg/.test(url)) return true;
    return false;
  });
  for (let attempt = 0; attempt < 50 && !(await kept()); attempt++) await page.waitForTimeout(100);
  assert.ok(await kept());

  await context.setOffline(true);
  await page.reload();
  await page.locator("#model-button").click();
  await page.locator("#models-dialog .model-card", { hasText: "tiny-q4_1" }).getByRole("button", { name: "Load" }).click();
  await ready(page);
  await page.locator("#teach-start:not(:disabled)").waitFor({ timeout: 60_000 });
  assert.match(await page.getByLabel("Rows", { exact: true }).inputValue(), /What is 11\?/, "what was pasted is there on the next visit");
  assert.deepEqual(page.problems, [], "nothing that the page shows needs a network");

  // On the next visit what is dropped is what counts, not what is remembered.
  await page.goto(url);
  await page.locator("html[data-started]").waitFor();
  await page.dispatchEvent("body", "drop", { dataTransfer: await questions(page, 5) });
  await page.waitForFunction(() => /What is 4\?.*$/.test(document.getElementById("teach-rows")?.value ?? ""));
});

test("without the training module the view says what to do", async (t) => {
  const context = await launch(t);
  await context.route(/adapter_teach_bg.*\.wasm/, (route) => route.abort());
  const page = await context.newPage();
  await page.goto(`${url}#/teach`);
  const notice = page.locator('.teach-main [data-code="teach-module"]');
  await notice.waitFor();
  assert.match(await notice.innerText(), /training module is not here[\s\S]*connect to the network/i);
});

test("burn is in the training module and in nothing else", () => {
  const names = readdirSync(dist);
  const holds = (name) => /burn-cubecl|cubecl-wgpu|burn_autodiff|burn-autodiff/.test(readFileSync(new URL(name, dist), "latin1"));
  const with_burn = names.filter(holds);
  assert.deepEqual(with_burn, names.filter((name) => /^adapter_teach_bg.*\.wasm$/.test(name)));
  assert.equal(with_burn.length, 1);
  const module = readFileSync(new URL(with_burn[0], dist));
  const packed = brotliCompressSync(module, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }).length;
  console.log(`training module: ${module.length} bytes, ${packed} in brotli`);
  assert.ok(packed < 5_000_000);
  // The service worker fetches it with nobody asking for it: it must not.
  const worker = readFileSync(new URL("../service-worker.js", dist), "utf8");
  assert.equal(/const FILES = (\[.*?\]);/.exec(worker)[1].includes("adapter_teach_bg"), false);
  assert.ok(/const LATER = (\[.*?\]);/.exec(worker)[1].includes("adapter_teach_bg"));
});
