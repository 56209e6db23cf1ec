// Markdown as elements. `marked` splits the text into tokens; each kind of token has its element here and nothing else
// has, so an answer cannot bring markup, styles, images or scripts of its own: HTML in it is shown as text, an image
// becomes a link, and a link leads to the web or nowhere.

import { lexer, type Token, type Tokens } from "marked";
import { append, h } from "./dom.js";
import { highlight } from "./highlight.js";

/** Deeper lists and quotes are shown as text: nobody writes them, and recursion has to end somewhere. */
const MAX_DEPTH = 32;

/** Where a link may lead. */
function safeUrl(href: string): URL | undefined {
  try {
    const url = new URL(href);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url : undefined;
  } catch {
    return undefined;
  }
}

function link(href: string, title: string | null | undefined, children: Node[]): Node {
  const url = safeUrl(href);
  if (!url) return h("span", { class: "dead-link", title: "This link leads nowhere safe" }, ...children);
  const where = url.protocol === "mailto:" ? url.pathname : url.host;
  return h("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", title: title ? `${title} (${where})` : where }, ...children);
}

function inline(tokens: Token[] | undefined, depth: number): Node[] {
  return (tokens ?? []).flatMap((token) => inlineOne(token, depth));
}

function inlineOne(token: Token, depth: number): Node[] {
  const inner = () => depth < MAX_DEPTH && "tokens" in token && token.tokens
    ? inline(token.tokens, depth + 1)
    : [document.createTextNode("text" in token ? String(token.text) : token.raw)];
  switch (token.type) {
    case "strong": return [h("strong", {}, ...inner())];
    case "em": return [h("em", {}, ...inner())];
    case "del": return [h("del", {}, ...inner())];
    case "codespan": return [h("code", {}, (token as Tokens.Codespan).text)];
    case "br": return [h("br")];
    case "link": return [link((token as Tokens.Link).href, (token as Tokens.Link).title, inner())];
    case "image": {
      const { href, text, title } = token as Tokens.Image;
      return [link(href, title, [document.createTextNode(`[image: ${text || href}]`)])];
    }
    case "escape": return [document.createTextNode((token as Tokens.Escape).text)];
    case "checkbox": return [];
    case "text": return inner();
    // HTML, and whatever else: as it was written.
    default: return [document.createTextNode(token.raw)];
  }
}

function listItem(item: Tokens.ListItem, depth: number): HTMLLIElement {
  const box = item.task
    ? h("input", { type: "checkbox", checked: item.checked === true, disabled: true, aria: { label: item.checked ? "done" : "to do" } })
    : null;
  return h("li", {}, box, ...item.tokens.flatMap((token) => block(token, depth + 1, !item.loose)));
}

function code({ text, lang }: Tokens.Code): HTMLElement {
  const language = (lang ?? "").trim().split(/\s/)[0] ?? "";
  const content = h("code", {}, text);
  const copy = h("button", { type: "button", class: "copy-code quiet", data: { copy: "code" } }, "Copy");
  highlight(content, text, language);
  return h("div", { class: "code" },
    h("div", { class: "code-head" }, h("span", {}, language || "text"), copy),
    h("pre", { tabIndex: 0, aria: { label: language ? `Code, ${language}` : "Code" } }, content));
}

function table({ header, rows, align }: Tokens.Table, depth: number): HTMLElement {
  const cell = (tag: "th" | "td") => (content: Tokens.TableCell, column: number) =>
    h(tag, { class: align[column] ? `align-${align[column]}` : "" }, ...inline(content.tokens, depth + 1));
  return h("div", { class: "table", tabIndex: 0, role: "region", aria: { label: "Table" } }, h("table", {},
    h("thead", {}, h("tr", {}, ...header.map(cell("th")))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map(cell("td")))))));
}

function block(token: Token, depth: number, tight = false): Node[] {
  if (depth > MAX_DEPTH) return [document.createTextNode(token.raw)];
  switch (token.type) {
    case "space": case "def": return [];
    case "paragraph": return [h("p", {}, ...inline((token as Tokens.Paragraph).tokens, depth + 1))];
    case "text": {
      const children = inlineOne(token, depth + 1);
      return tight ? children : [h("p", {}, ...children)];
    }
    case "heading": {
      // An answer's headings stand below the page's own two levels.
      const level = Math.min((token as Tokens.Heading).depth + 2, 6) as 3 | 4 | 5 | 6;
      return [h(`h${level}`, {}, ...inline((token as Tokens.Heading).tokens, depth + 1))];
    }
    case "code": return [code(token as Tokens.Code)];
    case "blockquote": return [h("blockquote", {}, ...blocks((token as Tokens.Blockquote).tokens, depth + 1))];
    case "list": {
      const { ordered, start, items } = token as Tokens.List;
      const children = items.map((item) => listItem(item, depth + 1));
      return [ordered ? h("ol", { start: Number(start) || 1 }, ...children) : h("ul", {}, ...children)];
    }
    case "table": return [table(token as Tokens.Table, depth)];
    case "hr": return [h("hr")];
    case "html": return [h("p", {}, token.raw.trim())];
    default: return inlineOne(token, depth + 1);
  }
}

const blocks = (tokens: Token[], depth: number): Node[] => tokens.flatMap((token) => block(token, depth));

/** Keeps an element in step with a growing text: only blocks that changed are made anew. */
export class MarkdownView {
  readonly element: HTMLElement;
  #raws: string[] = [];

  constructor(element: HTMLElement) {
    this.element = element;
  }

  /** Shows `text`. */
  show(text: string): void {
    const tokens = lexer(text).filter((token) => token.type !== "space" && token.type !== "def");
    // Reference links change earlier blocks; comparing what was written is enough for all others.
    tokens.forEach((token, index) => {
      if (this.#raws[index] === token.raw) return;
      this.#raws[index] = token.raw;
      const fresh = h("div", { class: "block" });
      append(fresh, ...block(token, 0));
      const old = this.element.children[index];
      if (old) old.replaceWith(fresh);
      else this.element.appendChild(fresh);
    });
    this.#raws.length = tokens.length;
    while (this.element.children.length > tokens.length) this.element.lastElementChild?.remove();
  }
}
