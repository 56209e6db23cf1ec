// Elements without strings of HTML: the page never parses any, so no text can become markup.

type Child = Node | string | null | undefined | false;
type Props<E extends Element> = {
  [K in keyof E]?: E[K];
} & {
  class?: string;
  on?: Record<string, (event: never) => void>;
  data?: Record<string, string>;
  aria?: Record<string, string | undefined>;
};

/** A new element. `class`, `data`, `aria` and `on` are attributes and listeners; everything else is a property. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K, props: Props<HTMLElementTagNameMap[K]> = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  const { class: classes, on, data, aria, ...rest } = props;
  if (classes) element.className = classes;
  for (const [key, value] of Object.entries(data ?? {})) element.dataset[key] = value;
  for (const [key, value] of Object.entries(aria ?? {})) if (value !== undefined) element.setAttribute(`aria-${key}`, value);
  for (const [event, listener] of Object.entries(on ?? {})) element.addEventListener(event, listener as EventListener);
  Object.assign(element, rest);
  append(element, ...children);
  return element;
}

/** Appends what is there of `children`. */
export function append(parent: Node, ...children: Child[]): void {
  for (const child of children) {
    if (child) parent.appendChild(typeof child === "string" ? document.createTextNode(child) : child);
  }
}

/** The element of index.html with this id. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found as E;
}

/** A drawing from the sprite at the end of index.html. */
export function icon(name: string): SVGSVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.appendChild(use);
  return svg;
}

/** A button with a drawing and a name that is read out and shown on hover. */
export function iconButton(name: string, label: string, press: (event: MouseEvent) => void, classes = "quiet"): HTMLButtonElement {
  return h("button", { type: "button", class: `icon-button ${classes}`, title: label, aria: { label }, on: { click: press } }, icon(name));
}
