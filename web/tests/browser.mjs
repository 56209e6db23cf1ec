// What the tests share: Chromium on its software GPU, a fresh page, and words for what people do with it.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const url = process.env.PAGE_URL;
export const tiny = new URL("../../tests/data/tiny-llama/tiny-q4_1.gguf", import.meta.url).pathname;
export const data = (name) => new URL(`../../tests/data/${name}`, import.meta.url).pathname;

/** Takes the pictures of a page that the README shows, light and dark; into `docs/` when `UPDATE_PICTURES` is set. */
export async function picture(page, name) {
  const folder = new URL(process.env.UPDATE_PICTURES ? "../../docs/" : "../../target/pictures/", import.meta.url).pathname;
  mkdirSync(folder, { recursive: true });
  await page.mouse.move(0, 0);
  await page.evaluate(() => document.activeElement?.blur());
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(folder, `${name}-${colorScheme}.png`) });
  }
  await page.emulateMedia({ colorScheme: null });
}

const ALWAYS = [
  "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
];
const GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/** A browser with a profile of its own; closed and removed with the test. */
export async function launch(t, { args = GPU, ...options } = {}) {
  const profile = mkdtempSync(join(tmpdir(), "page-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...ALWAYS, ...args], viewport: { width: 1280, height: 800 }, ...options,
  });
  t.after(async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  });
  return context;
}

/** A page that notes what it must not do: throw, log errors, break the security policy. */
export async function open(context, address = url) {
  const page = await context.newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") page.problems.push(`${message.text()} ${message.location().url}`); });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  await page.goto(address);
  await page.locator("html[data-started]").waitFor();
  return page;
}

/** Has every frame come `by` ms late, as on a busy machine; with `until`, only those asked for in the first `until` ms. */
export const lateFrames = (target, by, until) => target.addInitScript(({ by, until }) => {
  const atOnce = requestAnimationFrame;
  globalThis.requestAnimationFrame = (draw) => until !== null && performance.now() > until ? atOnce(draw) : setTimeout(() => atOnce(draw), by);
}, { by, until: until ?? null });

/** Opens a model from a file, as with the button. */
export async function load(page, file = tiny) {
  const chooser = page.waitForEvent("filechooser");
  await page.locator("#welcome").getByRole("button", { name: "Open a file" }).click();
  await (await chooser).setFiles(file);
  await ready(page);
}

/** Waits until a model is ready. */
export const ready = (page) => page.locator('#model-button[data-state="ready"]').waitFor({ timeout: 120_000 });

/** Opens the settings and fills them in; every value by its label. */
export async function set(page, values) {
  await page.getByRole("button", { name: "Settings" }).click();
  const dialog = page.locator("#settings-dialog");
  for (const [label, value] of Object.entries(values)) {
    const field = dialog.getByLabel(label, { exact: true });
    await field.fill(String(value));
    await field.blur();
  }
  await dialog.getByRole("button", { name: "Close" }).click();
}

/** Waits until the page shows what it knows: it draws changes in the next frame, and on a busy machine frames come late. */
export const drawn = (page) => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => resolve())));

/** Sends a message; it is in the conversation when this returns. */
export async function send(page, text) {
  await drawn(page);
  const messages = page.locator("#messages > .message.user");
  const before = await messages.count();
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
  await messages.nth(before).waitFor();
}

/** Waits until the last message is a complete answer. */
export async function settled(page) {
  await drawn(page);
  await page.locator("#messages > .message.assistant:last-child:not(.busy)").waitFor({ timeout: 60_000 });
}

export const answers = (page) => page.locator(".message.assistant .markdown");

/** The answers' text, whitespace evened out. */
export const texts = async (page) => (await answers(page).allInnerTexts()).map((text) => text.trim());

export function fine(page) {
  assert.deepEqual(page.problems, [], "errors on the page");
}

/** The engine's worker, started if it was not: a file that is no model costs nothing. */
export async function engineOf(page) {
  const find = () => page.workers().map((worker) => worker.evaluate(() => self.name).then((name) => [name, worker]));
  for (let attempt = 0; attempt < 50; attempt++) {
    const found = (await Promise.all(find())).find(([name]) => name === "engine");
    if (found) return found[1];
    if (attempt === 0) {
      const chooser = page.waitForEvent("filechooser");
      await page.locator("#welcome").getByRole("button", { name: "Open a file" }).click();
      await (await chooser).setFiles({ name: "none.gguf", mimeType: "", buffer: Buffer.from("none") });
      const notice = page.locator('[data-code="gguf"]');
      await notice.waitFor();
      await notice.getByRole("button", { name: "Dismiss" }).click();
    }
    await page.waitForTimeout(100);
  }
  throw new Error("the engine has no worker");
}

/** A page with the published package loaded and nothing else of ours: `engine` is its client, made as its README says. */
export async function openPackage(context) {
  const page = await open(context);
  await page.evaluate(async (base) => {
    const { Engine } = await import(new URL("engine/dist/client.js", base).href);
    const policy = trustedTypes.createPolicy("test", { createScriptURL: (address) => address });
    globalThis.engine = new Engine(() => new Worker(policy.createScriptURL(new URL("engine/dist/worker.js", base).href), { type: "module" }));
    globalThis.pick = document.createElement("input");
    pick.type = "file";
    pick.id = "test-file";
    document.body.append(pick);
  }, url);
  return page;
}

/** Loads a file into the engine of `openPackage`. */
export async function loadPackage(page, file, options = {}) {
  await page.locator("#test-file").setInputFiles(file);
  return page.evaluate((options) => engine.load(pick.files[0], options), options);
}
