// A real model in the browser: its ids are those that transformers computed in f32, as the native engine's are.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { data, fine, launch, loadPackage, open, openPackage, picture, ready, send, set } from "../browser.mjs";

const json = (name) => JSON.parse(readFileSync(data(`smollm2/${name}.json`), "utf8"));
const model = process.env.ADAPTER_SMOLLM2 ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "adapter-engine/SmolLM2-135M-Instruct.Q4_1.gguf");

test("SmolLM2 gives the ids of the golden file, and its tokenizer those of llama.cpp", async (t) => {
  const page = await openPackage(await launch(t));
  const loaded = await loadPackage(page, model);
  console.log(`loaded: ${Object.entries(loaded.times).map(([stage, ms]) => `${stage} ${(ms / 1000).toFixed(1)} s`).join(", ")}`);

  const cases = json("tokenize");
  const encoded = await page.evaluate((texts) => Promise.all(texts.map((text) => engine.encode(text, true))), cases.map(({ text }) => text));
  assert.deepEqual(encoded, cases.map(({ ids }) => ids));
  console.log(`${cases.length} texts have llama.cpp's ids`);

  const [{ ids, greedy, greedy_margins: margins }] = json("golden");
  const { got, end } = await page.evaluate(async ({ ids, n }) => {
    const answer = engine.answer({ ids }, { sampling: { temperature: 0 }, maxTokens: n, ignoreEnd: true });
    const end = await answer.end;
    return { got: answer.ids, end };
  }, { ids, n: greedy.length });
  const close = margins.findIndex((margin) => margin < 0.1);
  const n = close < 0 ? greedy.length : close;
  assert.deepEqual(got.slice(0, n), greedy.slice(0, n));
  assert.ok(n >= 10, "too few ids were compared");
  console.log(`${n} greedy ids equal; ${end.tokensPerSecond.toFixed(2)} tokens/s, first after ${(end.firstTokenMs / 1000).toFixed(1)} s`);
});

test("a chat with SmolLM2, as the README shows it", async (t) => {
  const context = await launch(t, { viewport: { width: 1180, height: 760 }, deviceScaleFactor: 2 });
  const page = await open(context);
  const offer = page.locator("#welcome .model-card", { hasText: "SmolLM2" });
  await offer.getByRole("button", { name: /Load/ }).click();
  await ready(page);
  await set(page, { Temperature: "0", "Longest answer": "128" });
  await send(page, "Write a short Python function that reverses a string, with an example.");
  await page.locator("#messages > .message.assistant:last-child:not(.busy)").waitFor({ timeout: 240_000 });
  assert.match(await page.locator(".message.assistant code").first().innerText(), /def \w+\(/);
  await picture(page, "web");
  fine(page);
});
