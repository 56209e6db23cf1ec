// Conversations: a tree of messages each, so that an edit or another answer never overwrites what was there; kept in
// IndexedDB, with JSON in and out.

import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import type { AnswerEnd, ChatMessage } from "../engine/src/index.js";

/** How an answer came about. */
export interface AnswerNote {
  model: string;
  adapter?: string;
  strength?: number;
  tokens: number;
  tokensPerSecond?: number;
  firstTokenMs?: number;
  finish: AnswerEnd["finish"] | "failed";
}

/** What a person is told of how an answer ended: the window's words. */
export const REMARKS: Record<AnswerNote["finish"], string> = {
  stop: "", length: "cut at the token limit", context: "context full", stopped: "stopped", failed: "broken off",
};

/** A message and its place in the tree. */
export interface Message extends ChatMessage {
  id: string;
  /** The message before it; none for a first one. */
  parent: string | null;
  note?: AnswerNote;
}

export interface Chat {
  id: string;
  title: string;
  created: number;
  updated: number;
  messages: Message[];
  /** The last message of the branch that is shown. */
  leaf: string | null;
}

/** A name nobody else has. (`crypto.randomUUID` is missing where the address is not secure, and the page has to get as far
 * as saying that.) */
export const newId = () => [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16).padStart(8, "0")).join("");

export function newChat(): Chat {
  const now = Date.now();
  return { id: newId(), title: "New chat", created: now, updated: now, messages: [], leaf: null };
}

/** The shown branch, first message first. */
export function branch(chat: Chat): Message[] {
  const byId = new Map(chat.messages.map((message) => [message.id, message]));
  const path: Message[] = [];
  // A damaged import may have a ring of parents.
  for (let at = chat.leaf; at !== null && path.length < chat.messages.length;) {
    const message = byId.get(at);
    if (!message) break;
    path.unshift(message);
    at = message.parent;
  }
  return path;
}

/** Messages with the same parent, oldest first. */
export const siblings = (chat: Chat, message: Message) =>
  chat.messages.filter((other) => other.parent === message.parent && other.role === message.role);

/** Shows the branch that `message` is on, followed by the newest message after each. */
export function show(chat: Chat, message: Message): void {
  let leaf = message;
  for (let steps = 0; steps <= chat.messages.length; steps++) {
    const next = chat.messages.findLast((other) => other.parent === leaf.id);
    if (!next) break;
    leaf = next;
  }
  chat.leaf = leaf.id;
}

/** Adds a message after `parent` and shows it. */
export function add(chat: Chat, parent: string | null, role: Message["role"], content: string): Message {
  const message: Message = { id: newId(), parent, role, content };
  chat.messages.push(message);
  chat.leaf = message.id;
  chat.updated = Date.now();
  if (role === "user" && parent === null && chat.title === "New chat") chat.title = titleOf(content);
  return message;
}

function titleOf(text: string): string {
  const line = text.trim().split("\n")[0] ?? "";
  return line.length > 48 ? `${line.slice(0, 47).trimEnd()}…` : line || "New chat";
}

interface Schema extends DBSchema {
  chats: { key: string; value: Chat };
  settings: { key: string; value: unknown };
}

let database: Promise<IDBPDatabase<Schema>> | undefined;
const open = () => (database ??= openDB<Schema>("llama-adapter", 1, {
  upgrade(db) {
    db.createObjectStore("chats", { keyPath: "id" });
    db.createObjectStore("settings");
  },
}));

export const loadChats = async (): Promise<Chat[]> =>
  (await (await open()).getAll("chats")).sort((a, b) => b.updated - a.updated);
export const saveChat = async (chat: Chat) => { await (await open()).put("chats", structuredClone(chat)); };
export const deleteChat = async (id: string) => { await (await open()).delete("chats", id); };
export const loadSetting = async <T>(key: string) => (await (await open()).get("settings", key)) as T | undefined;
export const saveSetting = async (key: string, value: unknown) => { await (await open()).put("settings", value, key); };

/** Forgets every chat and setting. */
export async function deleteEverything(): Promise<void> {
  const db = await open();
  await Promise.all([db.clear("chats"), db.clear("settings")]);
}

const FORMAT = "llama-adapter-chats";

/** Chats as a file. */
export const exportChats = (chats: Chat[]) => JSON.stringify({ format: FORMAT, version: 1, chats }, null, 1);

/** Chats of a file: ours, or a transcript that the terminal program saved. New ids, so that nothing is overwritten. */
export function importChats(text: string): Chat[] {
  const data = JSON.parse(text) as { format?: unknown; chats?: unknown; messages?: unknown };
  if (data?.format === "adapter-chat" && Array.isArray(data.messages)) {
    const chat = newChat();
    for (const { role, content } of data.messages.filter(isMessage)) add(chat, chat.leaf, role, content);
    return [chat];
  }
  if (data?.format !== FORMAT || !Array.isArray(data.chats)) {
    throw new Error("this file holds no chats of this page or of `adapter-cli chat`");
  }
  return data.chats.map((raw) => fresh(raw as Partial<Chat>)).filter((chat) => chat.messages.length > 0);
}

const isMessage = (value: unknown): value is ChatMessage => {
  const { role, content } = (value ?? {}) as Partial<ChatMessage>;
  return typeof content === "string" && (role === "user" || role === "assistant" || role === "system");
};

function fresh(raw: Partial<Chat>): Chat {
  const chat = newChat();
  const ids = new Map<unknown, string>();
  for (const message of Array.isArray(raw.messages) ? raw.messages : []) {
    if (!isMessage(message)) continue;
    const { id, parent, role, content, note } = message as Message;
    const fresh: Message = { id: newId(), parent: ids.get(parent) ?? null, role, content };
    if (note && typeof note === "object") fresh.note = note;
    ids.set(id, fresh.id);
    chat.messages.push(fresh);
  }
  chat.leaf = ids.get(raw.leaf) ?? chat.messages.at(-1)?.id ?? null;
  if (typeof raw.title === "string") chat.title = raw.title.slice(0, 200);
  if (typeof raw.updated === "number" && Number.isFinite(raw.updated)) chat.updated = raw.updated;
  return chat;
}

/** The shown branch as markdown. */
export function asMarkdown(chat: Chat): string {
  const turns = branch(chat).map(({ role, content }) => `**${role === "user" ? "You" : role === "assistant" ? "Model" : "System"}**\n\n${content}\n`);
  return `# ${chat.title}\n\n${turns.join("\n")}`;
}
