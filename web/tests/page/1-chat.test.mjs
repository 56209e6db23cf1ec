// Load, chat, stop, answer again, edit, come back: with the tiny model, whose answers are noise of a fixed kind.

import assert from "node:assert/strict";
import test from "node:test";
import { answers, fine, launch, load, open, ready, send, set, settled, texts } from "../browser.mjs";

test("a chat from the first load to the next visit", async (t) => {
  const context = await launch(t);
  const page = await open(context);

  await t.test("the model is loaded from a file", async () => {
    assert.match(await page.locator("#welcome").innerText(), /Chat with a model on your own GPU/);
    await load(page);
    assert.equal(await page.locator("#model-name").innerText(), "tiny-q4_1");
    await set(page, { Temperature: "0", "Longest answer": "12" });
  });

  let first;
  await t.test("an answer streams in and says how it went", async () => {
    await send(page, "Hello");
    await settled(page);
    [first] = await texts(page);
    assert.ok(first.length > 0);
    assert.match(await page.locator(".message.assistant .figures").innerText(), /12 tokens · [\d.]+ tokens\/s · first after .* · cut at the token limit/);
    assert.match(await page.locator("#context-text").innerText(), /Context \d+ of 128/);
  });

  await t.test("the same question at temperature 0 has the same answer, as a second version", async () => {
    await page.getByRole("button", { name: "Answer again" }).click();
    await settled(page);
    assert.deepEqual(await texts(page), [first]);
    await page.locator(".message.assistant .pager", { hasText: "2/2" }).waitFor();
    await page.getByRole("button", { name: "Previous version" }).click();
    await page.locator(".message.assistant .pager", { hasText: "1/2" }).waitFor();
  });

  await t.test("an edited question is a branch, and the old one is kept", async () => {
    await page.locator(".message.user").hover();
    await page.getByRole("button", { name: "Edit and ask again" }).click();
    await page.getByLabel("Edit your message").fill("Goodbye");
    await page.keyboard.press("Enter");
    await page.locator(".message.user .bubble", { hasText: "Goodbye" }).waitFor();
    await settled(page);
    assert.equal(await page.locator(".message.user .bubble").innerText(), "Goodbye");
    await page.locator(".message.user .pager", { hasText: "2/2" }).waitFor();
    const [edited] = await texts(page);
    assert.notEqual(edited, first);
    await page.getByRole("button", { name: "Previous version" }).first().click();
    await page.locator(".message.user .pager", { hasText: "1/2" }).waitFor();
    assert.equal(await page.locator(".message.user .bubble").innerText(), "Hello");
    assert.deepEqual(await texts(page), [first]);
  });

  await t.test("the context meter moves while an answer streams", async () => {
    await set(page, { "Longest answer": "40" });
    await page.getByRole("button", { name: "New chat" }).click();
    await page.evaluate(() => {
      globalThis.seen = [];
      const status = document.querySelector("#composer .status");
      new MutationObserver(() => {
        const figure = (id, words) => Number(words.exec(document.getElementById(id).textContent)?.[1].replaceAll(",", "") ?? NaN);
        const [used, tokens] = [figure("context-text", /([\d,]+) of/), figure("speed", /([\d,]+) tokens$/)];
        if (document.getElementById("speed").textContent.startsWith("Answering")) seen.push([used, tokens, document.getElementById("context").value]);
      }).observe(status, { subtree: true, childList: true, characterData: true });
    });
    await send(page, "Count on");
    await settled(page);
    const seen = await page.evaluate(() => seen);
    const used = [...new Set(seen.map(([used]) => used))];
    console.log(`the meter showed ${used.join(", ")}`);
    assert.ok(used.length >= 3, `it moved: ${used}`);
    const number = async (selector) => Number(/\d+/.exec(await page.locator(selector).innerText())[0]);
    const prompt = await number("#context-text") - await number(".message.assistant .figures");
    for (const [used, tokens, meter] of seen) {
      assert.equal(used, prompt + tokens, "the prompt and what has come");
      assert.equal(meter, used);
    }
  });

  await t.test("Esc stops an answer in under 300 ms, and what came stays", async () => {
    await set(page, { "Longest answer": "90" });
    await page.getByRole("button", { name: "New chat" }).click();
    await send(page, "Go on");
    await answers(page).first().filter({ hasText: /\S/ }).waitFor();
    const took = await page.evaluate(() => new Promise((resolve) => {
      const start = performance.now();
      new MutationObserver((_, observer) => {
        if (document.getElementById("stop").hidden) { observer.disconnect(); resolve(performance.now() - start); }
      }).observe(document.getElementById("stop"), { attributes: true });
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    }));
    console.log(`stopped after ${took.toFixed(0)} ms`);
    assert.ok(took < 300, `${took} ms`);
    // The engine has stopped, too, when the figures of the answer stand.
    await page.locator(".message.assistant .figures", { hasText: "stopped" }).waitFor({ timeout: 2000 });
    assert.ok((await texts(page))[0].length > 0);
  });

  await t.test("a full context says so, and nothing is cut", async () => {
    await page.getByRole("button", { name: "New chat" }).click();
    await send(page, "x".repeat(300));
    const notice = page.locator('[data-code="context-full"]');
    await notice.waitFor();
    assert.match(await notice.innerText(), /does not fit the context[\s\S]*\d+ tokens do not fit the context of 128[\s\S]*Nothing was cut/);
    assert.equal(await page.locator(".message.user .bubble").innerText(), "x".repeat(300));
    await notice.getByRole("button", { name: "Dismiss" }).click();
  });

  await t.test("chats are there after a reload, and leave and enter as files", async () => {
    await page.locator("#chat-list .chat-title", { hasText: "Hello" }).click();
    await page.locator(".message.assistant").waitFor();
    await page.waitForTimeout(300);
    await page.reload();
    await page.locator(".message.assistant").waitFor();
    assert.deepEqual(await texts(page), [first]);
    const saved = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export all" }).click();
    const path = await (await saved).path();
    const before = await page.locator("#chat-list li").count();
    const chooser = page.waitForEvent("filechooser");
    await page.getByRole("button", { name: "Import" }).click();
    await (await chooser).setFiles(path);
    await page.waitForFunction((n) => document.querySelectorAll("#chat-list li").length === n, before * 2);
  });
  fine(page);
});

test("one title, one main, headings in order, and everything by keyboard", async (t) => {
  const page = await open(await launch(t));
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the message box");
  await page.keyboard.press("Enter");
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "message");
  await page.keyboard.press("Control+,");
  // Views draw with the next frame, which a busy machine may show late.
  await page.locator("#settings-dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#settings-dialog").waitFor({ state: "hidden" });
  await load(page);
  await ready(page);
  fine(page);
});
