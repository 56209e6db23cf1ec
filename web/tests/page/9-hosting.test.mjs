// What is built runs from any server that knows nothing of it: any folder, no headers, no list of models but its own.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import test from "node:test";
import { fine, launch, open } from "../browser.mjs";

const DIST = new URL("../../dist/", import.meta.url);
const KINDS = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml", wasm: "application/wasm" };

/** A plain server of `web/dist` under `folder`; `change` may rewrite the page. */
async function host(t, folder, change = (page) => page) {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const name = path.startsWith(folder) ? path.slice(folder.length) || "index.html" : "";
    try {
      const content = readFileSync(new URL(name, DIST));
      response.setHeader("Content-Type", KINDS[name.split(".").at(-1)] ?? "application/octet-stream");
      response.end(name === "index.html" ? change(content.toString()) : content);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return `http://localhost:${server.address().port}${folder}`;
}

/** The page at this address, and the answers that were errors. */
async function visit(t, address) {
  const context = await launch(t);
  const refused = [];
  context.on("response", (response) => { if (response.status() >= 400) refused.push(response.url()); });
  const page = await open(context, address);
  await page.locator("#welcome").getByRole("button", { name: "Open a file" }).waitFor();
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  return [page, refused];
}

const cards = (page) => page.locator("#welcome .model-list > li");
const LIST = /(<script type="application\/json" id="offers">)([\s\S]*?)(<\/script>)/;

test("the build brings its list of models, under any path", async (t) => {
  const built = LIST.exec(readFileSync(new URL("index.html", DIST), "utf8"))?.[2];
  const offers = JSON.parse(built);
  assert.ok(offers.length > 0);
  for (const { name, url, bytes, sha256, licence, about } of offers) {
    assert.match(url, /^https:\/\//);
    assert.match(sha256, /^[0-9a-f]{64}$/);
    assert.ok(name.endsWith(".gguf") && bytes > 0 && licence && about, name);
  }
  for (const folder of ["/", "/some/where/"]) {
    const [page, refused] = await visit(t, await host(t, folder));
    assert.equal(await cards(page).count(), offers.length);
    assert.match(await cards(page).first().innerText(), /SmolLM2[\s\S]*Apache 2\.0[\s\S]*Load \(93\.8 MiB\)/);
    assert.deepEqual(refused, []);
    fine(page);
  }
});

test("a list that is empty, missing or no list is no error", async (t) => {
  const changes = {
    empty: (page) => page.replace(LIST, "$1[]$3"),
    missing: (page) => page.replace(LIST, ""),
    "no list": (page) => page.replace(LIST, "$1{\"models\": 7$3"),
    "of other things": (page) => page.replace(LIST, "$1[null, 7, {\"name\": \"x\"}]$3"),
  };
  for (const [what, change] of Object.entries(changes)) {
    const [page, refused] = await visit(t, await host(t, "/page/", change));
    assert.equal(await cards(page).count(), 0, what);
    assert.deepEqual(refused, [], what);
    fine(page);
  }
});
