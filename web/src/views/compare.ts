// The same question to the base model and to the model with its adapter, side by side, with the same random numbers.

import type { Finished } from "../../engine/src/index.js";
import { app } from "../app.js";
import { REMARKS } from "../chats.js";
import { byId, h } from "../dom.js";
import { integer, seconds } from "../format.js";
import { announce } from "../live.js";
import { MarkdownView } from "../markdown.js";

interface Half { element: HTMLElement; view: MarkdownView; title: HTMLElement; figures: HTMLElement; text: string; }

function half(id: string): Half {
  const body = h("div", { class: "markdown" });
  const title = h("h2", { id: `${id}-title` });
  const figures = h("p", { class: "figures" });
  const element = h("article", { id, aria: { labelledby: `${id}-title` } }, h("header", {}, title, figures), body);
  return { element, view: new MarkdownView(body), title, figures, text: "" };
}

/** Where two answers part, in words. */
function parting(left: string, right: string): string {
  if (left === right) return "Both answers are the same.";
  const [a, b] = [left.split(/\s+/), right.split(/\s+/)];
  const common = a.findIndex((word, index) => word !== b[index]);
  const n = common < 0 ? a.length : common;
  return n === 0 ? "The answers part at the first word." : `The answers are the same for ${integer(n)} ${n === 1 ? "word" : "words"}, then they part.`;
}

export function startCompare(): void {
  const [left, right] = [half("compare-left"), half("compare-right")];
  const box = h("textarea", { id: "compare-prompt", rows: 2, placeholder: "Ask both the same" });
  const run = h("button", { type: "submit", class: "primary" }, "Compare");
  const stop = h("button", { type: "button", id: "compare-stop", hidden: true, title: "Stop (Esc)" }, "Stop");
  const verdict = h("p", { class: "verdict", role: "status" });
  const need = h("p", { class: "need" });
  const form = h("form", { class: "composer compare-form" }, need, h("div", { class: "box" },
    h("label", { htmlFor: "compare-prompt", class: "visually-hidden" }, "Question for both"), box, run, stop));
  byId("view-compare").append(h("div", { class: "halves", tabIndex: 0, role: "region", aria: { label: "Both answers" } }, left.element, right.element), verdict, form);
  let abort: AbortController | undefined;

  const draw = () => {
    const adapter = app.activeAdapter;
    left.title.textContent = "Base model";
    right.title.textContent = adapter ? `With ${adapter.name}${app.strength === 1 ? "" : ` × ${app.strength}`}` : "With an adapter";
    const ready = app.loaded !== undefined && !app.lost && adapter !== undefined;
    run.disabled = !ready;
    run.hidden = abort !== undefined;
    stop.hidden = abort === undefined;
    need.hidden = ready;
    need.textContent = !app.loaded || app.lost ? "Load a model first, then add an adapter." : "Add an adapter in the chat (or drop one anywhere), then compare.";
  };

  const stream = async (into: Half, session: "left" | "right", text: string, seed: number, signal: AbortSignal): Promise<void> => {
    into.text = "";
    into.view.show("");
    into.figures.textContent = "Reading the prompt";
    const answer = app.compare(session, text, seed, signal);
    let scheduled = false;
    for await (const piece of answer) {
      into.text += piece;
      into.figures.textContent = `${integer(answer.ids.length)} tokens`;
      if (scheduled) continue;
      scheduled = true;
      requestAnimationFrame(() => { scheduled = false; into.view.show(into.text); });
    }
    into.view.show(into.text);
    into.figures.textContent = figures(await answer.end);
  };

  const start = async () => {
    const text = box.value.trim();
    if (!text || abort) return;
    const controller = (abort = new AbortController());
    verdict.textContent = "";
    draw();
    announce("Comparing");
    const seed = app.settings.seed ?? Math.floor(Math.random() * 2 ** 32);
    try {
      await Promise.all([stream(left, "left", text, seed, controller.signal), stream(right, "right", text, seed, controller.signal)]);
      verdict.textContent = parting(left.text, right.text);
    } catch {
      for (const each of [left, right]) each.figures.textContent = REMARKS.failed; // The page has said why.
    } finally {
      abort = undefined;
      draw();
    }
  };

  form.addEventListener("submit", (event) => { event.preventDefault(); void start(); });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); void start(); }
  });
  const end = () => abort?.abort();
  stop.addEventListener("click", end);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") end(); });
  app.on("change", draw);
}

function figures(end: Finished): string {
  return [
    `${integer(end.tokens)} tokens`,
    end.tokensPerSecond ? `${end.tokensPerSecond.toFixed(1)} tokens/s` : "",
    end.firstTokenMs ? `first after ${seconds(end.firstTokenMs / 1000)}` : "",
    REMARKS[end.finish],
  ].filter(Boolean).join(" · ");
}
