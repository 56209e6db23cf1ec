// From a small phone to a wide screen: words stay whole, nothing leaves the screen, the list of chats makes room.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import test from "node:test";
import { drawn, fine, launch, load, open, send, set, settled } from "../browser.mjs";

const SIZES = [[360, 740], [390, 844], [768, 1024], [1280, 800], [1920, 1080]];

/** Words of usual length that are on two lines, and controls that are cut or lie outside the screen. */
function faults() {
  const found = [];
  const isShown = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest(".visually-hidden, .skip, svg");
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    // What the model says breaks where it has to.
    if (!isShown(node.parentElement) || node.parentElement.closest(".message")) continue;
    for (const { 0: word, index } of node.data.matchAll(/[\p{L}\p{N}]+/gu)) {
      if (word.length > 16) continue;
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      const lines = new Set([...range.getClientRects()].filter(({ width }) => width > 0).map(({ top }) => Math.round(top)));
      if (lines.size > 1) found.push(`"${word}" is broken`);
    }
  }
  for (const element of document.querySelectorAll("button, a, input, select, textarea, summary")) {
    if (!isShown(element)) continue;
    const name = element.innerText || element.ariaLabel || element.id;
    const { left, right, width } = element.getBoundingClientRect();
    if (left < -0.5 || right > innerWidth + 0.5) found.push(`${name} leaves the screen: ${left} to ${right}`);
    if (width < 24 && !element.matches("[type=radio], [type=checkbox]")) found.push(`${name} is ${width} px wide`);
    if (element.matches("#views a, button:not(.chip, .chat-title)") && element.scrollWidth > element.clientWidth + 1) found.push(`${name} is cut`);
  }
  // What hides or scrolls sideways what does not fit.
  for (const element of document.querySelectorAll("html, dialog[open], dialog[open] .dialog-body, #page > header, main, main > section, #scroller, .halves, .teach, .panel, .card")) {
    const { scrollWidth, clientWidth, id, className, localName } = element;
    if (isShown(element) && scrollWidth > clientWidth + 1) found.push(`${id || className || localName} holds ${scrollWidth} px in ${clientWidth}`);
  }
  return found;
}

test("words stay whole and everything stays on the screen at 360, 390, 768, 1280 and 1920 px", async (t) => {
  const page = await open(await launch(t));
  const found = [];
  const check = async (where, width) => {
    await drawn(page);
    found.push(...(await page.evaluate(faults)).map((fault) => `${where} at ${width} px: ${fault}`));
    if (!process.env.LOOK_AT) return;
    mkdirSync(process.env.LOOK_AT, { recursive: true });
    await page.screenshot({ path: `${process.env.LOOK_AT}/${where}-${width}.png` });
  };
  const everywhere = async (state) => {
    for (const [width, height] of SIZES) {
      await page.setViewportSize({ width, height });
      for (const view of ["Chat", "Compare", "Teach"]) {
        await page.locator("#views").getByRole("link", { name: view }).click();
        await page.locator(`#view-${view.toLowerCase()}`).waitFor();
        if (view === "Teach") await page.locator("#view-teach textarea").first().waitFor();
        await check(`${state}-${view.toLowerCase()}`, width);
      }
      await page.locator("#views").getByRole("link", { name: "Chat" }).click();
      for (const [button, dialog] of [["#model-button", "#models-dialog"], ["#settings-button", "#settings-dialog"]]) {
        await page.locator(button).click();
        await page.locator(dialog).waitFor();
        await check(`${state}-${dialog.slice(1)}`, width);
        await page.locator(dialog).getByRole("button", { name: "Close" }).click();
      }
    }
  };
  await everywhere("empty");
  await page.setViewportSize({ width: 1280, height: 800 });
  await load(page);
  await set(page, { Temperature: "0", "Longest answer": "8" });
  await send(page, "Hello");
  await settled(page);
  await everywhere("answered");
  assert.deepEqual(found, []);
  fine(page);
});

test("the list of chats makes room when a tablet is turned, and comes back", async (t) => {
  const page = await open(await launch(t, { viewport: { width: 1024, height: 768 } }));
  const list = page.locator("#sidebar");
  const isShown = (shown) => list.waitFor({ state: shown ? "visible" : "hidden" });
  const turn = async (width, height) => { await page.setViewportSize({ width, height }); await drawn(page); };
  await isShown(true);

  // Upright there is no room: what has the focus there gives it up.
  await page.getByLabel("Search chats").focus();
  await turn(768, 1024);
  await isShown(false);
  assert.equal(await page.evaluate(() => document.activeElement.id), "toggle-sidebar");
  assert.equal(await page.locator("#toggle-sidebar").getAttribute("aria-expanded"), "false");
  assert.equal(await page.evaluate(() => document.elementFromPoint(40, 500).closest("#sidebar")), null, "nothing covers the chat");

  // Opened it lies over the page, until something in it is chosen.
  await page.locator("#toggle-sidebar").click();
  await isShown(true);
  await page.getByRole("button", { name: "New chat" }).click();
  await isShown(false);
  await turn(1024, 768);
  await isShown(true);

  // Who closed it where there was room keeps it closed.
  await page.locator("#toggle-sidebar").click();
  await isShown(false);
  await turn(768, 1024);
  await turn(1024, 768);
  await isShown(false);
  fine(page);
});
