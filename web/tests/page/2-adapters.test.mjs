// Adapters while chatting, and base against adapter side by side.

import assert from "node:assert/strict";
import test from "node:test";
import { data, fine, launch, load, open, ready, send, set, settled, texts } from "../browser.mjs";

async function add(page, files) {
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Add an adapter" }).click();
  await (await chooser).setFiles(files);
}

async function ask(page) {
  await page.getByRole("button", { name: "New chat" }).click();
  await send(page, "Hello");
  await settled(page);
  return (await texts(page))[0];
}

test("adapters change answers, and off is the base model", async (t) => {
  const page = await open(await launch(t));
  await load(page);
  await set(page, { Temperature: "0", "Longest answer": "16" });
  const base = await ask(page);
  const peft = [data("tiny-llama/peft/adapter_config.json"), data("tiny-llama/peft/adapter_model.safetensors")];
  let adapted;

  await t.test("a PEFT folder's two files are one adapter", async () => {
    await add(page, peft);
    await page.locator("#strength").waitFor();
    adapted = await ask(page);
    assert.notEqual(adapted, base);
    assert.match(await page.locator(".message.assistant .figures").innerText(), /with PEFT adapter × 1/);
  });

  await t.test("strength 0 and off are the base model, strength 1 is the adapter again", async () => {
    const slide = (value) => page.locator("#strength").evaluate((slider, value) => {
      slider.value = value;
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    }, value);
    await slide("0");
    assert.equal(await ask(page), base);
    await slide("1");
    assert.equal(await ask(page), adapted);
    await page.getByLabel("Adapter", { exact: true }).selectOption("");
    assert.equal(await ask(page), base);
    await page.getByLabel("Adapter", { exact: true }).selectOption({ label: "PEFT adapter" });
    assert.equal(await ask(page), adapted);
  });

  await t.test("a bare file is asked what its gates mean", async () => {
    await add(page, data("tiny-llama/adapter-paper.safetensors"));
    await page.getByRole("dialog", { name: "What the gates mean" }).getByRole("button", { name: /the paper/ }).click();
    await page.waitForFunction(() => document.querySelector("#adapter-bar select").selectedOptions[0]?.textContent === "adapter-paper");
    assert.notEqual(await ask(page), base);
  });

  await t.test("compare shows the base left and the adapter right", async () => {
    await page.getByRole("link", { name: "Compare" }).click();
    await page.getByLabel("Question for both").fill("Hello");
    await page.getByRole("button", { name: "Compare" }).click();
    await page.locator(".verdict", { hasText: /\S/ }).waitFor();
    const left = (await page.locator("#compare-left .markdown").innerText()).trim();
    const right = (await page.locator("#compare-right .markdown").innerText()).trim();
    assert.equal(left, base);
    assert.notEqual(right, base);
    assert.match(await page.locator("#compare-right h2").innerText(), /With adapter-paper/);
    assert.match(await page.locator("#compare-left .figures").innerText(), /16 tokens · [\d.]+ tokens\/s/);
    assert.match(await page.locator(".verdict").innerText(), /part/);
    await page.getByRole("link", { name: "Chat" }).click();
  });

  await t.test("what is no adapter is refused by name", async () => {
    await add(page, data("tiny-llama/base.safetensors"));
    const notice = page.locator('[data-code="adapter"]');
    await notice.waitFor();
    assert.match(await notice.innerText(), /This adapter cannot be used[\s\S]*tensor/);
    await notice.getByRole("button", { name: "Dismiss" }).click();
    await add(page, data("tiny-llama/peft/adapter_model.safetensors"));
    await notice.waitFor();
    assert.match(await notice.innerText(), /adapter_config\.json is missing/);
    await notice.getByRole("button", { name: "Dismiss" }).click();
  });

  await t.test("the adapters of a model are there on the next visit", async () => {
    const select = page.getByLabel("Adapter", { exact: true });
    await select.selectOption({ label: "PEFT adapter" });
    await page.waitForTimeout(800);
    await page.reload();
    await page.getByText("No model is loaded.").waitFor();
    await page.getByRole("button", { name: "New chat" }).click();
    await load(page);
    assert.deepEqual(await select.locator("option").allInnerTexts(), ["Off (base model)", "PEFT adapter", "adapter-paper"]);
    assert.equal(await ask(page), adapted);
  });
  fine(page);
});

test("files dropped on the page are opened for what they are", async (t) => {
  const page = await open(await launch(t));
  const drop = async (...names) => {
    const transfer = await page.evaluateHandle(async (names) => {
      const transfer = new DataTransfer();
      for (const name of names) transfer.items.add(new File([await (await fetch(`/data/${name}`)).blob()], name.split("/").at(-1)));
      return transfer;
    }, names);
    await page.dispatchEvent("body", "dragenter", { dataTransfer: transfer });
    await page.locator("#drop").waitFor();
    await page.dispatchEvent("body", "drop", { dataTransfer: transfer });
    await page.locator("#drop").waitFor({ state: "hidden" });
  };
  await drop("tiny-llama/tiny-q8_0.gguf");
  await ready(page);
  assert.equal(await page.locator("#model-name").innerText(), "tiny-q8_0");
  await drop("tiny-llama/peft/adapter_model.safetensors", "tiny-llama/peft/adapter_config.json");
  await page.locator("#strength").waitFor();
  await drop("smollm2/make.py");
  const notice = page.locator('[data-code="drop"]');
  await notice.waitFor();
  assert.match(await notice.innerText(), /make\.py is neither a model, an adapter nor a list of chats/i);
});
