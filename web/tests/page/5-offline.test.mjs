// Fetching, keeping, mending; then without a network; and nothing is sent once a model is there.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { lateFrames, launch, open, ready, send, set, settled, texts, url } from "../browser.mjs";

const offer = (page) => page.locator("#welcome .model-card", { hasText: "tiny-q4_1" });

test("a model is fetched, kept, mended and used without a network", async (t) => {
  const context = await launch(t);
  const page = await open(context);
  let answer;

  await t.test("its size is said first, and it is fetched and kept", async () => {
    await offer(page).waitFor();
    assert.match(await offer(page).innerText(), /Load \(1\.5 MiB\)/);
    await offer(page).getByRole("button", { name: /Load/ }).click();
    await ready(page);
    await set(page, { Temperature: "0", "Longest answer": "8" });
    await send(page, "Hello");
    await settled(page);
    [answer] = await texts(page);
    await page.locator("#model-button").click();
    assert.match(await page.locator("#models-dialog .model-card", { hasText: "tiny-q4_1" }).innerText(), /kept in this browser[\s\S]*In use/);
    await page.keyboard.press("Escape");
  });

  await t.test("three chats send nothing anywhere", async () => {
    const requests = [];
    const note = (request) => requests.push(request.url());
    context.on("request", note);
    for (const text of ["One", "Two", "Three"]) {
      await page.getByRole("button", { name: "New chat" }).click();
      await send(page, text);
      await settled(page);
    }
    context.off("request", note);
    console.log(`3 chats: ${requests.length} requests`);
    assert.deepEqual(requests, []);
  });

  await t.test("the page, the chat and the model are there without a network", async () => {
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.waitForTimeout(500);
    await context.setOffline(true);
    await page.reload();
    await page.getByText("tiny-q4_1 is not loaded.").waitFor();
    await page.getByRole("button", { name: "Load it" }).click();
    await ready(page);
    await page.getByRole("button", { name: "New chat" }).click();
    await send(page, "Hello");
    await settled(page);
    assert.deepEqual(await texts(page), [answer]);
    await context.setOffline(false);
  });

  await t.test("the last model is offered, however late the first frame comes", async () => {
    // On a slow machine all that the page reads at its start has arrived before anything is drawn: one frame shows it all.
    const late = await context.newPage();
    await lateFrames(late, 3000, 3000);
    await late.goto(url);
    await late.getByText("tiny-q4_1 is not loaded.").waitFor({ timeout: 20_000 });
    await late.close();
  });

  await t.test("a flipped byte is found and only its piece is fetched again", async () => {
    await page.reload();
    await page.evaluate(async () => {
      const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("models");
      for await (const [name, handle] of models) {
        if (!name.endsWith(".gguf")) continue;
        const writer = await handle.createWritable({ keepExistingData: true });
        await writer.write({ type: "write", position: 700_000, data: new Uint8Array([1, 2, 3, 4]) });
        await writer.close();
      }
    });
    const ranges = [];
    context.on("request", (request) => { if (request.url().includes("/models/")) ranges.push(request.headers().range); });
    await page.locator("#model-button").click();
    await page.locator("#models-dialog .model-card", { hasText: "tiny-q4_1" }).getByRole("button", { name: "Load" }).click();
    await ready(page);
    assert.deepEqual(ranges, ["bytes=0-1594271"]);
    await page.getByRole("button", { name: "New chat" }).click();
    await send(page, "Hello");
    await settled(page);
    assert.deepEqual(await texts(page), [answer]);
  });

  await t.test("a model that is gone in part says what to do", async () => {
    await page.reload();
    await page.evaluate(async () => {
      const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("models");
      const names = [];
      for await (const name of models.keys()) names.push(name);
      await models.removeEntry(names.find((name) => name.endsWith(".gguf")));
    });
    await page.locator("#model-button").click();
    await page.locator("#models-dialog .model-card", { hasText: "tiny-q4_1" }).getByRole("button", { name: "Load" }).click();
    const notice = page.locator('[data-code="cache"]');
    await notice.waitFor();
    assert.match(await notice.innerText(), /stored model is damaged[\s\S]*not complete any more[\s\S]*load it again/i);
  });
});

test("a download that breaks off goes on where it stopped; a wrong file is thrown away; a full browser is told first", async (t) => {
  const context = await launch(t);
  const page = await open(context);
  const card = (code) => page.locator(`[data-code="${code}"]`);
  const press = () => page.locator("#welcome .model-card", { hasText: "SmolLM2" }).getByRole("button", { name: /Load/ }).click();
  await offer(page).waitFor();

  await t.test("broken off, then resumed by range", async () => {
    const ranges = [];
    // Whole pieces of 8 MiB are kept, so some have to have come.
    context.on("request", (request) => { if (request.url().includes("SmolLM2")) ranges.push(request.headers().range ?? "all"); });
    await press();
    await page.locator("#welcome .progress .figures", { hasText: /[1-9]\d(\.\d)? MiB of 93\.8 MiB/ }).first().waitFor();
    await page.locator("#welcome .progress").getByRole("button", { name: "Cancel" }).click();
    await offer(page).waitFor();
    assert.equal(await page.locator(".notice").count(), 0, "what the reader wants is no failure");
    await press();
    await page.locator("#welcome .progress .stage", { hasText: /header|GPU|kernels|weights|shaders/ }).first().waitFor({ timeout: 60_000 });
    await page.locator("#welcome .progress").getByRole("button", { name: "Cancel" }).click();
    assert.equal(ranges[0], "all");
    console.log(`first ${ranges[0]}, then ${ranges[1]}`);
    assert.match(ranges[1], /^bytes=[1-9]\d*-$/);
  });

  await t.test("a wrong file is thrown away", async () => {
    await context.route(/tiny-q4_1\.gguf/, (route) => route.fulfill({ body: Buffer.alloc(1000, 1), headers: { "content-length": "1000" } }));
    await offer(page).getByRole("button", { name: /Load/ }).click();
    await card("hash").waitFor();
    assert.match(await card("hash").innerText(), /not the promised file[\s\S]*SHA-256/);
    await context.unroute(/tiny-q4_1\.gguf/);
  });

  await t.test("a server that is gone is named", async () => {
    await context.route(/tiny-q4_1\.gguf/, (route) => route.abort());
    await offer(page).getByRole("button", { name: /Load/ }).click();
    await card("download").waitFor();
    assert.match(await card("download").innerText(), /localhost:\d+ could not be reached/);
    await context.unroute(/tiny-q4_1\.gguf/);
  });

  await t.test("what would not fit is refused before it is fetched", async () => {
    const session = await context.newCDPSession(page);
    await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(url).origin, quotaSize: 10 << 20 });
    await offer(page).getByRole("button", { name: /Load/ }).click();
    await card("quota").waitFor();
    assert.match(await card("quota").innerText(), /storage is full[\s\S]*needs 2 MiB more than[\s\S]*Delete models/);
    await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(url).origin });
  });
});

/** npm is on the PATH, or a script for this Node.js. */
const npm = (...args) => process.env.NPM_SCRIPT ? [process.execPath, [process.env.NPM_SCRIPT, ...args]] : ["npm", args];

test("the published package packs, with the module, its types and a README", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "pack-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const packed = spawnSync(...npm("pack", "--json", "--pack-destination", folder), { cwd: new URL("../../engine", import.meta.url).pathname, encoding: "utf8" });
  assert.equal(packed.status, 0, packed.stderr);
  const [{ files, size }] = JSON.parse(packed.stdout);
  const names = files.map(({ path }) => path);
  for (const name of ["README.md", "dist/index.js", "dist/index.d.ts", "dist/worker.js", "wasm/adapter_web_bg.wasm", "wasm/adapter_web.d.ts"]) {
    assert.ok(names.includes(name), `${name} is missing: ${names}`);
  }
  console.log(`npm pack: ${files.length} files, ${size} bytes`);
});


