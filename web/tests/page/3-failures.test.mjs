// Every failure has its own sentence and its own next step.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { engineOf, launch, load, open, ready, send, set, settled, texts, tiny, url } from "../browser.mjs";

/** The card with this code, as text. */
async function card(page, code, timeout = 60_000) {
  const card = page.locator(`[data-code="${code}"]`).first();
  await card.waitFor({ timeout });
  return (await card.innerText()).replace(/\s+/g, " ");
}

const seen = new Map();
/** Notes a card and that no other failure says the same. */
function distinct(code, text) {
  for (const [other, said] of seen) assert.notEqual(said, text, `${code} and ${other} say the same`);
  seen.set(code, text);
}

test("a browser without WebGPU is told so", async (t) => {
  const context = await launch(t);
  await context.addInitScript(() => { delete Navigator.prototype.gpu; });
  const page = await open(context);
  const text = await card(page, "no-webgpu");
  assert.match(text, /This browser has no WebGPU.*Chrome or Edge/);
  // Nothing to press that cannot work.
  await page.locator(".own-file").first().waitFor({ state: "hidden" });
  distinct("no-webgpu", text);
});

test("a browser that gives no adapter is told so", async (t) => {
  const page = await open(await launch(t, { args: ["--enable-unsafe-webgpu", "--use-webgpu-adapter=default", "--disable-gpu", "--disable-software-rasterizer"] }));
  const text = await card(page, "no-gpu");
  assert.match(text, /No GPU was given to this page.*hardware acceleration/);
  distinct("no-gpu", text);
});

test("an address that is not secure is told so", async (t) => {
  const context = await launch(t, { args: ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--host-resolver-rules=MAP insecure.test 127.0.0.1"] });
  const page = await open(context, url.replace("localhost", "insecure.test"));
  const text = await card(page, "insecure-context");
  assert.match(text, /This address is not secure.*https/);
  distinct("insecure-context", text);
});

test("failures of a load and of an answer, one browser", async (t) => {
  const context = await launch(t);
  const folder = mkdtempSync(join(tmpdir(), "models-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const page = await open(context);
  const model = readFileSync(tiny);
  const choose = async (name, bytes) => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    const chooser = page.waitForEvent("filechooser");
    await page.locator("#welcome").getByRole("button", { name: "Open a file" }).click();
    await (await chooser).setFiles(path);
  };
  const dismiss = (code) => page.locator(`[data-code="${code}"]`).getByRole("button", { name: "Dismiss" }).click();

  await t.test("a message without a model stays in its box", async () => {
    await page.getByLabel("Message", { exact: true }).fill("Hello");
    await page.keyboard.press("Enter");
    const text = await card(page, "no-model");
    assert.match(text, /no model to answer.*your message is kept/i);
    assert.equal(await page.getByLabel("Message", { exact: true }).inputValue(), "Hello");
    await page.getByLabel("Message", { exact: true }).fill("");
    distinct("no-model", text);
    await dismiss("no-model");
  });

  await t.test("hostile files end in a sentence that names the field", async () => {
    for (const [name, bytes, words] of [
      ["not.gguf", Buffer.from("this is no model"), /GGUF/],
      ["short.gguf", model.subarray(0, 300_000), /bytes|end/],
      ["counts.gguf", Buffer.concat([model.subarray(0, 8), Buffer.alloc(16, 0xff), model.subarray(24)]), /tensor|limit|count/i],
      ["empty.gguf", Buffer.alloc(0), /bytes|empty|end/i],
    ]) {
      await choose(name, bytes);
      const text = await card(page, "gguf");
      assert.match(text, /This file is not a complete model/);
      assert.match(text, words, name);
      distinct(name, text);
      await dismiss("gguf");
    }
  });

  await t.test("a model of another family is named", async () => {
    const other = Buffer.from(model);
    // "llama" as the value of general.architecture, of the same length.
    const at = other.indexOf("general.architecture") + "general.architecture".length + 4 + 8;
    other.write("gemma", at);
    await choose("gemma.gguf", other);
    const text = await card(page, "wrong-architecture");
    assert.match(text, /another family.*gemma/);
    distinct("wrong-architecture", text);
    await dismiss("wrong-architecture");
  });

  await t.test("a GPU below core WebGPU is named with its limit", async () => {
    const worker = await engineOf(page);
    await worker.evaluate(() => {
      const get = Object.getOwnPropertyDescriptor(GPUSupportedLimits.prototype, "maxComputeInvocationsPerWorkgroup").get;
      self.restoreLimits = () => Object.defineProperty(GPUSupportedLimits.prototype, "maxComputeInvocationsPerWorkgroup", { get, configurable: true });
      Object.defineProperty(GPUSupportedLimits.prototype, "maxComputeInvocationsPerWorkgroup", { get: () => 128, configurable: true });
    });
    await choose("model.gguf", model);
    const text = await card(page, "limit-too-small");
    assert.match(text, /too small.*128 of maxComputeInvocationsPerWorkgroup.*256/);
    distinct("limit-too-small", text);
    await dismiss("limit-too-small");
    await worker.evaluate(() => self.restoreLimits());
  });

  await t.test("a GPU that computes wrong numbers is caught before the first answer", async () => {
    const worker = await engineOf(page);
    await worker.evaluate(() => {
      const create = GPUDevice.prototype.createShaderModule;
      self.restoreShaders = () => { GPUDevice.prototype.createShaderModule = create; };
      GPUDevice.prototype.createShaderModule = function (descriptor) {
        return create.call(this, { ...descriptor, code: descriptor.code.replace("inverseSqrt(", "1.01 * inverseSqrt(") });
      };
    });
    await choose("model.gguf", model);
    const text = await card(page, "wrong-numbers");
    assert.match(text, /computes wrong numbers.*rms_norm/i);
    distinct("wrong-numbers", text);
    await worker.evaluate(() => self.restoreShaders());
    await page.reload();
  });

  await t.test("a lost GPU keeps the chat, and one press brings the model back", async () => {
    await page.waitForFunction(() => document.querySelector("#views a") !== null);
    const worker = await engineOf(page);
    await worker.evaluate(() => {
      const request = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = async function (...args) {
        self.device = await request.apply(this, args);
        return self.device;
      };
    });
    await load(page);
    await set(page, { Temperature: "0", "Longest answer": "80" });
    // In the middle of the answer, however fast it comes and however late this test would hear of it.
    await worker.evaluate(() => {
      const submit = GPUQueue.prototype.submit;
      let left = 30;
      GPUQueue.prototype.submit = function (...args) {
        if (--left === 0) {
          console.log("the GPU goes");
          self.device.destroy();
        }
        return submit.apply(this, args);
      };
    });
    const lost = page.waitForEvent("console", { predicate: (message) => message.text() === "the GPU goes" }).then(() => Date.now());
    await send(page, "Hello");
    const text = await card(page, "device-lost", 20_000);
    const took = Date.now() - (await lost);
    console.log(`the loss was shown after ${took} ms`);
    assert.ok(took < 1500, `${took} ms`);
    assert.match(text, /The GPU was lost.*Your chat is kept/);
    distinct("device-lost", text);
    const partial = (await texts(page))[0];
    assert.ok(partial.length > 0);
    assert.equal(await page.locator("#model-name").innerText(), "GPU lost");
    await page.getByRole("button", { name: "Load the model again" }).click();
    await ready(page);
    await page.getByRole("button", { name: "Answer again" }).click();
    await settled(page);
    const whole = (await texts(page))[0];
    assert.ok(whole.startsWith(partial.slice(0, -1)), `${whole} does not begin with ${partial}`);
    await page.locator('[data-code="device-lost"]').waitFor({ state: "detached" });
  });
});
