// The list of chats.

import { app } from "../app.js";
import { asMarkdown, branch, exportChats, type Chat } from "../chats.js";
import { byId, h, iconButton } from "../dom.js";
import { pick } from "./models.js";

/** Hands the reader a file. */
export function save(name: string, type: string, content: BlobPart): void {
  const url = URL.createObjectURL(new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const fileName = (chat: Chat) => chat.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 40) || "chat";

function item(chat: Chat): HTMLLIElement {
  const current = chat === app.chat;
  const open = h("button", { type: "button", class: "chat-title quiet", title: chat.title, on: { click: () => { void app.select(chat); chosen(); } } }, chat.title);
  if (current) open.setAttribute("aria-current", "true");
  open.addEventListener("dblclick", () => rename(chat));
  return h("li", { class: current ? "current" : "" }, open,
    iconButton("edit", `Rename ${chat.title}`, () => rename(chat)),
    iconButton("share", `Save ${chat.title} as Markdown`, () => save(`${fileName(chat)}.md`, "text/markdown", asMarkdown(chat))),
    iconButton("trash", `Delete ${chat.title}`, () => { if (confirm(`Delete the chat "${chat.title}"?`)) void app.deleteChat(chat); }));
}

function rename(chat: Chat): void {
  const title = prompt("Name of the chat", chat.title)?.trim();
  if (!title) return;
  chat.title = title.slice(0, 200);
  void app.save(chat);
}

export function startSidebar(): void {
  const search = byId<HTMLInputElement>("search");
  const list = byId("chat-list");
  let drawn = "";
  const draw = () => {
    const words = search.value.trim().toLowerCase();
    const found = app.all.filter((chat) => !words || chat.title.toLowerCase().includes(words)
      || branch(chat).some((message) => message.content.toLowerCase().includes(words)));
    const key = JSON.stringify([found.map(({ id, title }) => [id, title]), app.chat.id]);
    if (key === drawn) return;
    drawn = key;
    list.replaceChildren(...found.map(item));
  };
  search.addEventListener("input", draw);
  app.on("change", draw);
  byId("new-chat").addEventListener("click", () => { app.newChat(); chosen(); byId("message").focus(); });
  byId("export-chats").addEventListener("click", () => save("chats.json", "application/json", exportChats(app.all)));
  byId("import-chats").addEventListener("click", () =>
    pick(".json", false, ([file]) => { if (file) void file.text().then((text) => app.importChats(text)); }));
  byId("toggle-sidebar").addEventListener("click", toggleSidebar);
  // A tablet that is turned, a window that is drawn narrow.
  const fit = () => show(wanted && !narrow.matches);
  narrow.addEventListener("change", fit);
  fit();
}

/** Where there is no room beside the page, the list lies over it: as `layout.css` has it. */
const narrow = matchMedia("(max-width: 800px)");
/** Whether the reader wants the list where there is room for it. */
let wanted = true;

const isShown = () => !document.body.classList.contains("no-sidebar");

function show(shown: boolean): void {
  const button = byId("toggle-sidebar");
  // What is hidden cannot keep the focus.
  if (!shown && byId("sidebar").contains(document.activeElement)) button.focus();
  document.body.classList.toggle("no-sidebar", !shown);
  button.setAttribute("aria-expanded", String(shown));
}

/** Shows or hides the list. */
export function toggleSidebar(): void {
  const shown = !isShown();
  if (!narrow.matches) wanted = shown;
  show(shown);
}

/** A list that lies over the page has done its work when something in it was chosen. */
function chosen(): void {
  if (narrow.matches) show(false);
}
