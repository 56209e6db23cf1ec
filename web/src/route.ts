// Which view the address names. One that needs something this build or this browser lacks is not in the list.

export interface View { id: string; name: string; }

export const VIEWS: readonly View[] = [{ id: "chat", name: "Chat" }, { id: "compare", name: "Compare" }, { id: "teach", name: "Teach" }];

/** The view that the address names. */
export function current(): View {
  const wanted = location.hash.replace(/^#\/?/, "");
  return VIEWS.find((view) => view.id === wanted) ?? VIEWS[0]!;
}
