// Failures as the reader sees them: each with its sentence, its next step and a button for it.

import type { Failure, Remedy } from "./failures.js";
import { byId, h, icon, iconButton } from "./dom.js";

const BUTTONS: Record<Remedy, string> = {
  "reload-model": "Load the model again",
  "choose-model": "Choose a model",
  "reload-page": "Reload the page",
  "open-settings": "Open settings",
  "new-chat": "New chat",
};

/** A failure as a card. */
export function card(failure: Failure, remedy: ((remedy: Remedy) => void) | undefined, dismiss?: () => void): HTMLElement {
  const { remedy: offered } = failure;
  return h("div", { class: "notice", role: "alert", data: { code: failure.code } },
    h("div", { class: "notice-text" },
      h("strong", {}, failure.title),
      h("p", { class: "what" }, sentence(failure.message)),
      h("p", { class: "next" }, failure.next),
      failure.details ? h("details", {}, h("summary", {}, "Details"), h("pre", { tabIndex: 0 }, failure.details)) : null),
    offered && remedy ? h("button", { type: "button", class: "primary", on: { click: () => remedy(offered) } }, BUTTONS[offered]) : null,
    dismiss ? iconButton("close", "Dismiss", dismiss) : null);
}

function sentence(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

/** Shows a failure above the conversation; one of the same kind takes the place of the one before. */
export function notify(failure: Failure, remedy: (remedy: Remedy) => void): void {
  const list = byId("notices");
  list.querySelector(`[data-code="${CSS.escape(failure.code)}"]`)?.remove();
  const shown = card(failure, (offered) => { shown.remove(); remedy(offered); }, () => shown.remove());
  list.appendChild(shown);
  while (list.childElementCount > 3) list.firstElementChild?.remove();
}

/** Takes away notices that are no longer true. */
export function settle(...codes: string[]): void {
  for (const code of codes) byId("notices").querySelector(`[data-code="${CSS.escape(code)}"]`)?.remove();
}

/** A short word that something worked. */
export function toast(text: string): void {
  const shown = h("div", { class: "toast", role: "status" }, icon("check"), text);
  byId("notices").appendChild(shown);
  setTimeout(() => shown.remove(), 2500);
}
