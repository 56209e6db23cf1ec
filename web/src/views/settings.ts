// Everything that can be set, in one form; changes apply at once.

import { app } from "../app.js";
import { deleteEverything } from "../chats.js";
import { byId, h } from "../dom.js";
import { DEFAULTS, type Settings } from "../settings.js";
import { store } from "../workers.js";

type NumberKey = "temperature" | "topK" | "topP" | "minP" | "repeatPenalty" | "maxTokens" | "context";

const NUMBERS: [NumberKey, string, string, [min: number, max: number, step: number]][] = [
  ["temperature", "Temperature", "0 always takes the most likely token, higher is more varied", [0, 2, 0.05]],
  ["topP", "Top-p", "Keep the most likely tokens up to this total probability", [0.05, 1, 0.01]],
  ["topK", "Top-k", "Keep this many of the most likely tokens; 0 keeps all", [0, 200, 1]],
  ["minP", "Min-p", "Drop tokens less likely than this share of the most likely one", [0, 1, 0.01]],
  ["repeatPenalty", "Repeat penalty", "Above 1 makes recent tokens less likely", [1, 2, 0.01]],
  ["maxTokens", "Longest answer", "Tokens", [1, 8192, 1]],
  ["context", "Context", "Tokens a conversation may have; takes effect when a model is loaded", [64, 131072, 1]],
];

export const SHORTCUTS: [string, string][] = [
  ["Enter", "Send"], ["Shift + Enter", "New line"], ["Esc", "Stop the answer"], ["/", "Go to the message box"],
  ["Ctrl + Shift + O", "New chat"], ["Ctrl + B", "Show or hide the chats"], ["Ctrl + ,", "Settings"],
];

function number([key, label, help, [min, max, step]]: (typeof NUMBERS)[number]): HTMLElement {
  const id = `set-${key}`;
  const field = h("input", { type: "number", id, min: String(min), max: String(max), step: String(step), required: true, aria: { describedby: `${id}-help` } });
  field.addEventListener("change", () => {
    // What is out of range is not taken; the field says so itself.
    if (field.reportValidity()) void app.set({ [key]: Number(field.value) });
  });
  draws.push(() => { if (document.activeElement !== field) field.value = String(app.settings[key]); });
  return h("div", { class: "setting" }, h("label", { htmlFor: id }, label), field, h("p", { id: `${id}-help`, class: "help" }, help));
}

const draws: (() => void)[] = [];

export function startSettings(): void {
  const dialog = byId<HTMLDialogElement>("settings-dialog");
  const system = h("textarea", { id: "set-system", rows: 3, placeholder: "You are a helpful assistant." });
  system.addEventListener("change", () => void app.set({ system: system.value }).then(() => app.measure()));
  draws.push(() => { if (document.activeElement !== system) system.value = app.settings.system; });

  const seed = h("input", { type: "number", id: "set-seed", min: "0", max: "4294967295", step: "1", placeholder: "random", aria: { describedby: "set-seed-help" } });
  seed.addEventListener("change", () => { if (seed.reportValidity()) void app.set({ seed: seed.value === "" ? null : Number(seed.value) }); });
  draws.push(() => { if (document.activeElement !== seed) seed.value = app.settings.seed === null ? "" : String(app.settings.seed); });

  const stops = h("textarea", { id: "set-stops", rows: 2, aria: { describedby: "set-stops-help" } });
  stops.addEventListener("change", () => void app.set({ stops: stops.value }));
  draws.push(() => { if (document.activeElement !== stops) stops.value = app.settings.stops; });

  const themes = (["system", "light", "dark"] as Settings["theme"][]).map((theme) => {
    const radio = h("input", { type: "radio", name: "theme", value: theme });
    radio.addEventListener("change", () => void app.set({ theme }));
    draws.push(() => { radio.checked = app.settings.theme === theme; });
    return h("label", {}, radio, ` ${theme.charAt(0).toUpperCase()}${theme.slice(1)}`);
  });
  const shortcuts = h("input", { type: "checkbox", id: "set-shortcuts" });
  shortcuts.addEventListener("change", () => void app.set({ shortcuts: shortcuts.checked }));
  draws.push(() => { shortcuts.checked = app.settings.shortcuts; });

  const forget = h("button", { type: "button", class: "danger" }, "Delete all chats, settings and models");
  forget.addEventListener("click", () => {
    if (!confirm("Delete every chat, setting and model that this page keeps in this browser? This cannot be undone.")) return;
    void (async () => {
      for (const model of app.stored) await store.remove(model.key);
      await store.clear();
      await deleteEverything();
      location.reload();
    })();
  });

  byId("settings-body").append(
    h("section", {}, h("h3", {}, "Conversation"),
      h("div", { class: "setting tall" }, h("label", { htmlFor: "set-system" }, "System prompt"), system, h("p", { class: "help" }, "Instructions before the conversation"))),
    h("section", {}, h("h3", {}, "How answers are chosen"), ...NUMBERS.map(number),
      h("div", { class: "setting" }, h("label", { htmlFor: "set-seed" }, "Seed"), seed, h("p", { id: "set-seed-help", class: "help" }, "The same seed gives the same answer")),
      h("div", { class: "setting tall" }, h("label", { htmlFor: "set-stops" }, "Stop texts"), stops, h("p", { id: "set-stops-help", class: "help" }, "End an answer before one of them; a line each, \\n is a line break")),
      h("button", { type: "button", on: { click: () => void app.set({ ...DEFAULTS, system: app.settings.system, stops: app.settings.stops, theme: app.settings.theme }) } }, "Back to the defaults")),
    h("section", {}, h("h3", {}, "Appearance"), h("fieldset", { class: "themes" }, h("legend", {}, "Colours"), ...themes)),
    h("section", {}, h("h3", {}, "Keyboard"), h("label", { class: "check" }, shortcuts, " Shortcuts with Ctrl and /"),
      h("dl", { class: "facts" }, ...SHORTCUTS.flatMap(([keys, words]) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, words)]))),
    h("section", {}, h("h3", {}, "Your data"), h("p", {}, "Chats and settings lie in this browser's database, models in its private file system. Nothing is sent anywhere."), forget));
  byId("settings-button").addEventListener("click", () => { for (const draw of draws) draw(); dialog.showModal(); });
  app.on("change", () => { if (dialog.open) for (const draw of draws) draw(); });
}
