// Two tabs of one browser, and answers as a screen reader gets them.

import assert from "node:assert/strict";
import test from "node:test";
import { fine, launch, load, open, send, set, settled } from "../browser.mjs";

test("a second tab that fetches the same model is told so", async (t) => {
  const context = await launch(t);
  const [first, second] = [await open(context), await open(context)];
  const card = (page) => page.locator("#welcome .model-card", { hasText: "SmolLM2" });
  // The first tab writes while its server dawdles.
  await context.route(/SmolLM2.*gguf/, async () => { /* never answered */ });
  await first.bringToFront();
  await card(first).getByRole("button", { name: /Load/ }).click();
  await first.locator("#welcome .progress .stage", { hasText: "Fetching" }).first().waitFor();
  await second.bringToFront();
  await card(second).getByRole("button", { name: /Load/ }).click();
  const notice = second.locator('[data-code="busy-elsewhere"]');
  await notice.waitFor();
  assert.match(await notice.innerText(), /Another tab is writing this model[\s\S]*close that tab/);
});

test("a screen reader hears sentences, not tokens", async (t) => {
  const page = await open(await launch(t));
  await load(page);
  await set(page, { Temperature: "0", "Longest answer": "20" });
  const worker = (await Promise.all(page.workers().map(async (worker) => [await worker.evaluate(() => self.name), worker]))).find(([name]) => name === "engine")[1];
  await worker.evaluate((text) => {
    const post = self.postMessage.bind(self);
    let rest = text;
    self.postMessage = (reply) => {
      if (reply.kind !== "event" || reply.event.kind !== "token") return post(reply);
      const piece = rest.slice(0, 7);
      rest = rest.slice(7);
      return post({ ...reply, event: { ...reply.event, text: piece } });
    };
  }, "The sky is **blue**. Light of short waves is scattered more! Is that all? Almost");
  await page.evaluate(() => {
    globalThis.heard = [];
    new MutationObserver((records) => heard.push(...records.flatMap(({ addedNodes }) => [...addedNodes].map((node) => node.textContent))))
      .observe(document.getElementById("live"), { childList: true });
  });
  await send(page, "Why?");
  await settled(page);
  const heard = await page.evaluate(() => heard);
  assert.deepEqual(heard.slice(0, 4), ["Answering", "The sky is blue.", "Light of short waves is scattered more!", "Is that all?"]);
  assert.ok(heard.length <= 6, heard.join(" | "));
  assert.match(heard.at(-1), /^Almost/);
  fine(page);
});
