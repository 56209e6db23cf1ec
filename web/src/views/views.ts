// The tabs of the page, and the view that is shown.

import { app } from "../app.js";
import { byId, h } from "../dom.js";
import { current, VIEWS } from "../route.js";
import type { Lesson } from "../teach/state.js";

let teach: Promise<Lesson> | undefined;

/** The Teach view, fetched when it is first needed: most visits are chats. */
export function openTeach(): Promise<Lesson> {
  teach ??= import("./teach.js").then(({ startTeach }) => startTeach());
  // Without a network it may be missing now and there later.
  teach.catch(() => { teach = undefined; });
  return teach;
}

/** Shows the view that the address names. */
function show(): void {
  const shown = current();
  for (const view of VIEWS) {
    byId(`view-${view.id}`).hidden = view !== shown;
    const tab = byId(`tab-${view.id}`);
    if (view === shown) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.title = `${shown.name} · LLaMA-Adapter`;
  if (shown.id === "teach") void openTeach().catch(app.fail);
}

export function startViews(): void {
  byId("views").append(...VIEWS.map((view) => h("a", { id: `tab-${view.id}`, href: `#/${view.id}` }, view.name)));
  window.addEventListener("hashchange", show);
  show();
}
