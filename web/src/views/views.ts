// The page's views. One that needs something this build or this browser lacks is not in the list.

import { byId, h } from "../dom.js";

export interface View { id: string; name: string; }

const VIEWS: View[] = [{ id: "chat", name: "Chat" }, { id: "compare", name: "Compare" }];

/** Shows the view that the address names. */
function show(): void {
  const wanted = location.hash.replace(/^#\/?/, "");
  const current = VIEWS.find((view) => view.id === wanted) ?? VIEWS[0]!;
  for (const view of VIEWS) {
    byId(`view-${view.id}`).hidden = view !== current;
    const tab = byId(`tab-${view.id}`);
    if (view === current) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.title = `${current.name} · LLaMA-Adapter`;
}

export function startViews(): void {
  byId("views").append(...VIEWS.map((view) => h("a", { id: `tab-${view.id}`, href: `#/${view.id}` }, view.name)));
  window.addEventListener("hashchange", show);
  show();
}
