// The conversation and the box to write in.

import { app } from "../app.js";
import { branch, REMARKS, siblings, type Message } from "../chats.js";
import { byId, h, iconButton } from "../dom.js";
import { integer, seconds } from "../format.js";
import { announce, announceEnd, announcePiece } from "../live.js";
import { MarkdownView } from "../markdown.js";
import { toast } from "../notices.js";

/** How near its end a conversation has to be scrolled to stay there. */
const STICKY_PX = 120;
/** Share of the context from which on the reader is told. */
const NEARLY_FULL = 0.8;
const EXAMPLES = ["Why is the sky blue?", "Write a haiku about a lighthouse.", "Explain recursion to a ten-year-old.", "Give me three names for a black cat."];

interface Row { element: HTMLLIElement; view: MarkdownView; key: string; }
const rows = new Map<string, Row>();
let editing: string | undefined;
let pending: Message | undefined;
let reading = "";

const atEnd = () => {
  const scroller = byId("scroller");
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < STICKY_PX;
};
const scrollToEnd = () => { byId("scroller").scrollTop = byId("scroller").scrollHeight; };

async function copy(text: string): Promise<void> {
  await navigator.clipboard.writeText(text);
  toast("Copied");
}

function footer(message: Message): HTMLElement {
  const others = siblings(app.chat, message);
  const at = others.indexOf(message);
  const go = (step: number) => () => { const other = others[at + step]; if (other) app.showBranch(other); };
  const pager = others.length > 1
    ? h("span", { class: "pager" },
      iconButton("left", "Previous version", go(-1)),
      h("span", { aria: { label: `Version ${at + 1} of ${others.length}` } }, `${at + 1}/${others.length}`),
      iconButton("right", "Next version", go(1)))
    : null;
  const { note } = message;
  const figures = note && [
    note.tokens > 0 ? `${integer(note.tokens)} tokens` : "",
    note.tokensPerSecond ? `${note.tokensPerSecond.toFixed(1)} tokens/s` : "",
    note.firstTokenMs ? `first after ${seconds(note.firstTokenMs / 1000)}` : "",
    note.adapter ? `with ${note.adapter} × ${note.strength}` : "",
    REMARKS[note.finish],
  ].filter(Boolean).join(" · ");
  const busy = app.answering?.message === message;
  return h("div", { class: "message-foot" },
    pager,
    iconButton("copy", "Copy", () => void copy(message.content)),
    message.role === "user"
      ? iconButton("edit", "Edit and ask again", () => { editing = message.id; app.changed(); })
      : iconButton("again", "Answer again", () => void app.again(message)),
    figures && !busy ? h("span", { class: "figures" }, figures) : null);
}

function editor(message: Message): HTMLElement {
  const done = () => { editing = undefined; app.changed(); };
  const box = h("textarea", { value: message.content, rows: Math.min(10, message.content.split("\n").length + 1), aria: { label: "Edit your message" } });
  const save = () => { const text = box.value.trim(); done(); if (text) void app.edit(message, text); };
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); save(); }
    if (event.key === "Escape") { event.stopPropagation(); done(); }
  });
  queueMicrotask(() => box.focus());
  return h("div", { class: "editor" }, box, h("div", { class: "buttons" },
    h("button", { type: "button", on: { click: done } }, "Cancel"),
    h("button", { type: "button", class: "primary", on: { click: save } }, "Send")));
}

/** Everything about a message's row that is not its text. */
function keyOf(message: Message): string {
  const others = siblings(app.chat, message);
  const busy = app.answering?.message === message;
  return JSON.stringify([message.note, others.length, others.indexOf(message), busy, editing === message.id]);
}

function row(message: Message): Row {
  let found = rows.get(message.id);
  const key = keyOf(message);
  if (!found) {
    const body = h("div", { class: "markdown" });
    found = { element: h("li", { class: `message ${message.role}`, data: { id: message.id } }), view: new MarkdownView(body), key: "" };
    rows.set(message.id, found);
  }
  if (found.key !== key) {
    found.key = key;
    const busy = app.answering?.message === message;
    found.element.classList.toggle("busy", busy);
    found.element.replaceChildren(
      h("span", { class: "who visually-hidden" }, message.role === "user" ? "You" : message.role === "system" ? "System" : "Answer"),
      editing === message.id ? editor(message) : message.role === "user" ? h("div", { class: "bubble" }, found.view.element) : found.view.element,
      ...(editing === message.id ? [] : [footer(message)]));
    show(found, message);
  }
  return found;
}

function show({ view }: Row, message: Message): void {
  if (message.role === "assistant") view.show(message.content);
  else view.element.textContent = message.content;
}

let drawnChat: string | undefined;

function drawMessages(): void {
  const list = byId<HTMLOListElement>("messages");
  const path = branch(app.chat);
  if (drawnChat !== app.chat.id) {
    drawnChat = app.chat.id;
    rows.clear();
    editing = undefined;
  }
  const wanted = path.map((message) => row(message).element);
  if (wanted.length !== list.children.length || wanted.some((element, index) => list.children[index] !== element)) {
    list.replaceChildren(...wanted);
    scrollToEnd();
  }
  byId("welcome").hidden = path.length > 0;
}

/** Pieces that came since the last frame are drawn together. */
function drawPiece(): void {
  const message = pending;
  pending = undefined;
  const found = message && rows.get(message.id);
  if (!found) return;
  const stick = atEnd();
  show(found, message);
  if (stick) scrollToEnd();
}

function drawStatus(): void {
  const busy = app.answering !== undefined;
  byId("send").hidden = busy;
  byId("stop").hidden = !busy;
  const { loaded, used } = app;
  const limit = loaded?.context ?? 0;
  const meter = byId<HTMLMeterElement>("context");
  byId("context-meter").hidden = limit === 0;
  meter.max = limit || 1;
  meter.high = limit * NEARLY_FULL;
  meter.optimum = 0;
  meter.value = used;
  meter.textContent = `${used} of ${limit}`;
  byId("context-text").textContent = used >= limit * NEARLY_FULL && limit > 0
    ? `Context nearly full: ${integer(used)} of ${integer(limit)}. Nothing is cut; start a new chat or raise it in the settings`
    : `Context ${integer(used)} of ${integer(limit)}`;
  byId("context-meter").classList.toggle("warn", used >= limit * NEARLY_FULL && limit > 0);
  const answering = app.answering?.message;
  const note = answering?.note;
  byId("speed").textContent = busy
    ? note && note.tokens > 0 ? `Answering, ${integer(note.tokens)} tokens` : reading || "Reading the prompt"
    : "";
}

function resize(): void {
  const box = byId<HTMLTextAreaElement>("message");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight, innerHeight * 0.4)}px`;
}

function submit(): void {
  const box = byId<HTMLTextAreaElement>("message");
  const text = box.value.trim();
  if (!text || app.answering) return;
  if (!app.loaded || app.lost) {
    // The message stays in the box: it can be sent when the model is there.
    return app.refuse();
  }
  box.value = "";
  resize();
  void app.send(text);
}

/** What stands in an empty conversation once a model is there. */
export function examples(): HTMLElement {
  return h("div", { class: "examples" },
    h("h2", {}, "What would you like to know?"),
    h("div", { class: "example-list" }, ...EXAMPLES.map((text) =>
      h("button", { type: "button", class: "example", on: { click: () => void app.send(text) } }, text))));
}

export function startChat(): void {
  const box = byId<HTMLTextAreaElement>("message");
  byId("composer").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  byId("stop").addEventListener("click", () => app.stop());
  box.addEventListener("input", resize);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
  });
  byId("messages").addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLElement>("[data-copy=code]");
    if (button) void copy(button.closest(".code")?.querySelector("code")?.textContent ?? "");
  });
  let wasBusy = false;
  app.on("change", () => {
    drawMessages();
    drawStatus();
    const busy = app.answering !== undefined;
    if (busy !== wasBusy) {
      wasBusy = busy;
      if (busy) {
        reading = "";
        announce("Answering");
        scrollToEnd();
      } else {
        announceEnd();
        drawPiece();
        const last = branch(app.chat).at(-1);
        if (last) { const found = rows.get(last.id); if (found) show(found, last); }
      }
    }
  });
  app.on("piece", (message, piece) => {
    announcePiece(piece);
    if (!pending) requestAnimationFrame(() => { drawPiece(); drawStatus(); });
    pending = message;
  });
  app.on("prompt", ({ done, total }) => {
    reading = total > 0 ? `Reading the prompt, ${integer(done)} of ${integer(total)} tokens` : "";
    drawStatus();
  });
}
