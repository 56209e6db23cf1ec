// What a screen reader hears of an answer: whole sentences, when they are complete. Tokens would be noise.

import { byId } from "./dom.js";

const SENTENCE = /^[\s\S]*?(?:[.!?…。！？](?=\s)|\n)/;
let held = "";

/** Says something at once. */
export function announce(text: string): void {
  const line = document.createElement("p");
  line.textContent = text;
  const live = byId("live");
  live.appendChild(line);
  // What was read can go; a long conversation must not pile up here.
  while (live.childElementCount > 20) live.firstElementChild?.remove();
}

/** Takes the next piece of an answer. */
export function announcePiece(piece: string): void {
  held += piece;
  for (let match = SENTENCE.exec(held); match; match = SENTENCE.exec(held)) {
    held = held.slice(match[0].length);
    say(match[0]);
  }
}

/** Says what is left of an answer. */
export function announceEnd(): void {
  say(held);
  held = "";
}

function say(sentence: string): void {
  const words = sentence.replace(/[*_`#>|]+/g, "").trim();
  if (words) announce(words);
}
