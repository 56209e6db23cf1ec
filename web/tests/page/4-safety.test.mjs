// An answer cannot do anything: 60 attacks, streamed piece by piece through the page's own renderer.

import assert from "node:assert/strict";
import test from "node:test";
import AxeModule from "axe-core";
import { fine, launch, load, open, send, set, settled } from "../browser.mjs";

const EVIL = "https://evil.test/x";
const PAYLOADS = [
  "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>", "<svg><script>alert(1)</script></svg>",
  `<iframe src="javascript:alert(1)"></iframe>`, `<iframe srcdoc="<script>alert(1)</script>"></iframe>`, "<body onload=alert(1)>",
  "<details open ontoggle=alert(1)>", "<video><source onerror=alert(1)></video>", "<audio src=x onerror=alert(1)>",
  "<input autofocus onfocus=alert(1)>", "<select autofocus onfocus=alert(1)>", "<textarea autofocus onfocus=alert(1)>",
  "<marquee onstart=alert(1)>", `<a href="javascript:alert(1)">x</a>`, `<a href="java\nscript:alert(1)">x</a>`, "<math><mi//xlink:href=\"data:x,<script>alert(1)</script>\">",
  `<form action="javascript:alert(1)"><button>x</button></form>`, `<button formaction="javascript:alert(1)">x</button>`, `<object data="javascript:alert(1)">`,
  `<embed src="javascript:alert(1)">`, `<link rel=stylesheet href="${EVIL}">`, `<style>@import "${EVIL}";</style>`, `<div style="background:url(${EVIL})">x</div>`,
  `<meta http-equiv="refresh" content="0;url=${EVIL}">`, `<base href="${EVIL}">`, `<img src="${EVIL}">`, `<img srcset="${EVIL} 1x">`,
  `![x](${EVIL})`, `![x](javascript:alert(1))`, `![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)`, `[![x](${EVIL})](javascript:alert(1))`,
  "[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))", "[x](javascript&colon;alert(1))", "[x](&#106;avascript:alert(1))", "[x](  javascript:alert(1))",
  "[x](java%73cript:alert(1))", "[x](vbscript:msgbox(1))", "[x](data:text/html,<script>alert(1)</script>)", "[x](file:///etc/passwd)", "[x](ms-msdt:/id)",
  "<javascript:alert(1)>", "<data:text/html,<script>alert(1)</script>>", "[x]: javascript:alert(1)\n\n[x]", "[x][y]\n\n[y]: <javascript:alert(1)>",
  "```html\n<script>alert(1)</script>\n```", "```\"><img src=x onerror=alert(1)>\ncode\n```", "`<img src=x onerror=alert(1)>`", "``` <svg/onload=alert(1)>",
  "# <img src=x onerror=alert(1)>", "> <script>alert(1)</script>", "- <img src=x onerror=alert(1)>\n- [ ] <svg onload=alert(1)>",
  "| <img src=x onerror=alert(1)> | b |\n|---|---|\n| <script>alert(1)</script> | [x](javascript:alert(1)) |", "**<img src=x onerror=alert(1)>**",
  "<!--><img src=x onerror=alert(1)>-->", "<![CDATA[<script>alert(1)</script>]]>", "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
  "<template><script>alert(1)</script></template>", "{{constructor.constructor('alert(1)')()}}", "\u202e<script>alert(1)</script>", "<scr\u0000ipt>alert(1)</script>",
];

test(`${PAYLOADS.length} attacks in answers do nothing`, async (t) => {
  assert.ok(PAYLOADS.length >= 60);
  const context = await launch(t);
  let [alerts, requests] = [0, []];
  const page = await open(context);
  page.on("dialog", (dialog) => { alerts++; void dialog.dismiss(); });
  await load(page);
  await page.waitForTimeout(500);
  context.on("request", (request) => requests.push(request.url()));
  // The engine's worker is made to say the attack, a few characters at a time, where it would say its own tokens.
  const worker = (await Promise.all(page.workers().map(async (worker) => [await worker.evaluate(() => self.name), worker]))).find(([name]) => name === "engine")[1];
  await worker.evaluate(() => {
    const post = self.postMessage.bind(self);
    self.postMessage = (reply) => {
      if (reply.kind === "event" && reply.event.kind === "token") {
        const text = self.attack.slice(0, 3);
        self.attack = self.attack.slice(3);
        return post({ ...reply, event: { ...reply.event, text } });
      }
      if (reply.kind === "result" && reply.value?.finish) {
        return post({ ...reply, value: { ...reply.value, text: self.attack } });
      }
      return post(reply);
    };
  });
  await set(page, { Temperature: "0", "Longest answer": "20" });
  for (const payload of PAYLOADS) {
    await worker.evaluate((attack) => { self.attack = attack; }, payload);
    await page.getByRole("button", { name: "New chat" }).click();
    await send(page, "x");
    await settled(page);
    const found = await page.evaluate(() => {
      const root = document.querySelector(".message.assistant .markdown");
      const bad = [...root.querySelectorAll("*")].filter((element) =>
        /^(script|img|svg|iframe|object|embed|link|style|meta|base|form|video|audio|math|template|noscript)$/i.test(element.tagName)
        || [...element.attributes].some(({ name }) => name.startsWith("on") || name === "style" || name === "srcdoc"));
      const links = [...root.querySelectorAll("[href]")].map((element) => new URL(element.href).protocol);
      return { bad: bad.map((element) => element.outerHTML), links, text: root.textContent };
    });
    assert.deepEqual(found.bad, [], payload);
    assert.ok(found.links.every((protocol) => ["https:", "http:", "mailto:"].includes(protocol)), `${payload}: ${found.links}`);
  }
  console.log(`${PAYLOADS.length} attacks: ${alerts} alerts, ${requests.length} requests`);
  assert.equal(alerts, 0);
  assert.deepEqual(requests, []);
  fine(page);
});

test("nobody is shut out: 0 violations of WCAG in every view, light and dark", async (t) => {
  for (const colorScheme of ["light", "dark"]) {
    const page = await open(await launch(t, { colorScheme }));
    const check = async (what) => {
      await page.waitForTimeout(150);
      // Under `require-trusted-types-for` a script cannot be added as text from inside; the test driver may.
      await page.evaluate(AxeModule.source);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`), [], `${what}, ${colorScheme}`);
    };
    await check("welcome");
    await load(page);
    await set(page, { Temperature: "0", "Longest answer": "8" });
    await check("examples");
    await send(page, "Hello");
    await settled(page);
    await check("chat");
    await page.getByRole("link", { name: "Compare" }).click();
    await check("compare");
    await page.getByRole("link", { name: "Teach" }).click();
    await page.getByRole("button", { name: "Try an example" }).click();
    await page.locator(".teach-settings summary").click();
    await page.getByLabel("Steps", { exact: true }).fill("2");
    await page.getByLabel("Steps", { exact: true }).blur();
    await page.locator("#teach-start:not(:disabled)").waitFor({ timeout: 60_000 });
    await check("teach, before");
    await page.locator("#teach-start").click();
    await page.locator(".run .stage", { hasText: /^Done/ }).waitFor({ timeout: 180_000 });
    await check("teach, after");
    await page.locator("#model-button").click();
    await check("models");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Settings" }).click();
    await check("settings");
    fine(page);
  }
});
