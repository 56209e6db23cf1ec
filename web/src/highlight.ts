// Colours for code, loaded when the first code appears. The tree of spans is built as elements; no HTML is parsed.

import { append, h } from "./dom.js";

/** The part of a highlighted tree that is used here. */
type Part = { type: string; value?: string; properties?: { className?: string[] }; children?: Part[] };
interface Highlighter {
  registered(language: string): boolean;
  highlight(language: string, code: string): Part;
}

/** Longer code stays plain: colouring it would take longer than a frame. */
const MAX_LENGTH = 20_000;
let loading: Promise<Highlighter> | undefined;
let ready: Highlighter | undefined;

async function load(): Promise<Highlighter> {
  const { common, createLowlight } = await import("lowlight");
  ready = createLowlight(common) as unknown as Highlighter;
  return ready;
}

function build(part: Part): Node {
  if (part.type === "text") return document.createTextNode(part.value ?? "");
  return h("span", { class: (part.properties?.className ?? []).join(" ") }, ...(part.children ?? []).map(build));
}

function colour(highlighter: Highlighter, element: HTMLElement, code: string, language: string): void {
  if (!highlighter.registered(language)) return;
  const tree = highlighter.highlight(language, code);
  element.replaceChildren();
  append(element, ...(tree.children ?? []).map(build));
}

/** Loads the colours ahead, so that an answer never has to ask the network for them. */
export const prepare = (): void => { loading ??= load(); };

/** Colours `element`, which holds `code`, at once or when the colours have been loaded. */
export function highlight(element: HTMLElement, code: string, language: string): void {
  if (!language || code.length > MAX_LENGTH) return;
  if (ready) {
    colour(ready, element, code, language);
  } else {
    loading ??= load();
    loading.then((highlighter) => colour(highlighter, element, code, language), () => { loading = undefined; });
  }
}
