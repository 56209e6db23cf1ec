// The page's views. One that needs something this build or this browser lacks is not in the list.

import { app } from "../app.js";
import { byId, h } from "../dom.js";
import type { Lesson } from "../teach/state.js";

export interface View { id: string; name: string; }

const VIEWS: View[] = [{ id: "chat", name: "Chat" }, { id: "compare", name: "Compare" }, { id: "teach", name: "Teach" }];

let teach: Promise<Lesson> | undefined;

/** The Teach view, fetched when it is first needed: most visits are chats. */
export function openTeach(): Promise<Lesson> {
  teach ??= import("./teach.js").then(({ startTeach }) => startTeach());
  // Without a network it may be missing now and there later.
  teach.catch(() => { teach = undefined; });
  return teach;
}

/** The view that the address names. */
export function current(): View {
  const wanted = location.hash.replace(/^#\/?/, "");
  return VIEWS.find((view) => view.id === wanted) ?? VIEWS[0]!;
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
