// The state of the page and everything that changes it. Views listen for "change" and draw what is here; nothing in this
// file touches an element.

import { EngineError, type ChatMessage, type Finished, type Loaded, type LoadedAdapter, type SessionName } from "../engine/src/index.js";
import type { AdapterSource, LoadStage } from "../engine/src/index.js";
import * as chats from "./chats.js";
import { explain, type Failure } from "./failures.js";
import { offersHere, type Offer } from "./offers.js";
import { applyTheme, loadSettings, sampling, saveSettings, stopTexts, type Settings } from "./settings.js";
import type { StoredModel, TransferEvent } from "./store/client.js";
import { engine, store } from "./workers.js";

/** Where a model's bytes are. */
export type ModelSource = { kind: "stored"; model: StoredModel } | { kind: "file"; file: File };

/** What is going on before a model is ready. */
export interface Loading {
  name: string;
  stage: "transfer" | "check" | LoadStage;
  done: number;
  total: number;
  speed?: number;
  since: number;
  abort: AbortController;
}

/** The adapters of a model, as they are remembered. */
interface KeptAdapters { sources: AdapterSource[]; active: number; strength: number; }

/** An answer on its way. */
export interface Answering { chat: chats.Chat; message: chats.Message; abort: AbortController; }

export interface PromptProgress { done: number; total: number; }

type Events = {
  change: () => void;
  /** The text of the answer that is on its way became longer. */
  piece: (message: chats.Message, piece: string) => void;
  failure: (failure: Failure) => void;
  prompt: (progress: PromptProgress) => void;
};

/** A file's name as people say it. */
export const plain = (name: string) => name.replace(/\.gguf$/i, "");

class App {
  settings!: Settings;
  /** Why this browser cannot compute, once that is known. */
  blocked: Failure | undefined;
  readonly offers: Offer[] = offersHere();
  stored: StoredModel[] = [];
  /** The stored model that was used last, if it is still there. */
  get last(): StoredModel | undefined { return this.stored.find(({ key }) => key === this.#last); }
  #last: string | undefined;
  loading: Loading | undefined;
  loaded: Loaded | undefined;
  source: ModelSource | undefined;
  /** Everything on the GPU is gone: it has to be loaded again. */
  lost = false;
  adapters: LoadedAdapter[] = [];
  /** Where each came from, to load it again. */
  readonly adapterSources = new Map<string, AdapterSource>();
  adapter: string | undefined;
  strength = 1;
  #adapterTimer: ReturnType<typeof setTimeout> | undefined;
  all: chats.Chat[] = [];
  chat: chats.Chat = chats.newChat();
  answering: Answering | undefined;
  /** Tokens the conversation takes, as far as that is known. */
  used = 0;
  readonly #listeners: { [E in keyof Events]?: Set<Events[E]> } = {};

  on<E extends keyof Events>(event: E, listener: Events[E]): void {
    ((this.#listeners[event] ??= new Set() as never) as Set<Events[E]>).add(listener);
  }

  #emit<E extends keyof Events>(event: E, ...args: Parameters<Events[E]>): void {
    for (const listener of this.#listeners[event] ?? []) (listener as (...args: Parameters<Events[E]>) => void)(...args);
  }

  #drawing = false;

  /** Has the views draw themselves anew before the next frame. */
  changed = (): void => {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#emit("change");
    });
  };

  /** Shows an error, unless the reader wanted it. */
  fail = (error: unknown): void => {
    const failure = explain(error);
    if (failure) this.#emit("failure", failure);
  };

  async start(): Promise<void> {
    this.settings = await loadSettings();
    applyTheme(this.settings.theme);
    this.all = await chats.loadChats();
    const last = await chats.loadSetting<string>("chat");
    this.#last = await chats.loadSetting<string>("model");
    this.chat = this.all.find((chat) => chat.id === last) ?? this.chat;
    this.changed();
    await this.refreshStored();
  }

  block(error: unknown): void {
    this.blocked = explain(error);
    this.changed();
  }

  async set(change: Partial<Settings>): Promise<void> {
    Object.assign(this.settings, change);
    applyTheme(this.settings.theme);
    this.changed();
    await saveSettings(this.settings);
  }

  // Models

  /** What the model in use is called: its file, since many models are named after their training runs. */
  get modelName(): string {
    const name = this.source?.kind === "file" ? this.source.file.name : this.source?.model.name;
    return this.loaded ? plain(name ?? "") || this.loaded.model.name : "";
  }

  /** The file of the model in use. */
  async modelFile(): Promise<File> {
    if (!this.source || !this.loaded) throw new EngineError({ code: "no-model", message: "No model is loaded yet." });
    return fileOf(this.source);
  }

  async refreshStored(): Promise<void> {
    // Browsers keep files for secure addresses only; that one is not secure is said elsewhere.
    if (!isSecureContext) return;
    try {
      this.stored = await store.list();
    } catch (error) {
      this.fail(error);
    }
    this.changed();
  }

  /** Whether an offer lies here already. */
  storedOffer(offer: Offer): StoredModel | undefined {
    return this.stored.find((model) => offer.sha256 ? model.key === offer.sha256 : model.url === new URL(offer.url, location.href).href);
  }

  async #busy<T>(name: string, stage: Loading["stage"], run: (loading: Loading) => Promise<T>): Promise<T | undefined> {
    if (this.loading) return undefined;
    const loading: Loading = { name, stage, done: 0, total: 0, since: performance.now(), abort: new AbortController() };
    this.loading = loading;
    this.changed();
    try {
      return await run(loading);
    } catch (error) {
      this.fail(error);
      return undefined;
    } finally {
      if (this.loading === loading) this.loading = undefined;
      await this.refreshStored();
    }
  }

  #transfer = (loading: Loading) => (event: TransferEvent): void => {
    if (loading.stage !== event.stage) loading.since = performance.now();
    Object.assign(loading, { speed: undefined }, event);
    this.changed();
  };

  /** Fetches a model, keeps it and loads it. One that lies here already is loaded: the list may have been pressed before it knew. */
  async download(offer: Offer): Promise<void> {
    await this.refreshStored();
    const model = this.storedOffer(offer);
    if (model) return this.open({ kind: "stored", model });
    const url = new URL(offer.url, location.href).href;
    await this.#busy(offer.name, "transfer", async (loading) => {
      // Without this a browser short of space may throw the model away.
      void navigator.storage.persist();
      const params = { url, name: offer.name, ...(offer.sha256 ? { sha256: offer.sha256 } : {}) };
      const model = await store.download(params, this.#transfer(loading), loading.abort.signal);
      await this.#open({ kind: "stored", model }, loading);
    });
  }

  /** Copies a file of the reader's, so that it is there next time, and loads it. */
  async keep(file: File): Promise<void> {
    await this.#busy(file.name, "transfer", async (loading) => {
      await engine.inspect(file);
      void navigator.storage.persist();
      const model = await store.copy(file, this.#transfer(loading), loading.abort.signal);
      await this.#open({ kind: "stored", model }, loading);
    });
  }

  /** Loads a model. */
  async open(source: ModelSource): Promise<void> {
    const name = source.kind === "file" ? source.file.name : source.model.name;
    await this.#busy(name, "check", async (loading) => {
      if (source.kind === "stored") {
        await store.verify(source.model.key, this.#transfer(loading), loading.abort.signal);
      }
      await this.#open(source, loading);
    });
  }

  async #open(source: ModelSource, loading: Loading): Promise<void> {
    this.stop();
    clearTimeout(this.#keeping);
    const file = await fileOf(source);
    const kept = await chats.loadSetting<KeptAdapters>(`adapters ${nameOf(source)}`).catch(() => undefined);
    if (this.lost) engine.close();
    Object.assign(this, { loaded: undefined, adapters: [], adapter: undefined, lost: false, source, used: 0 });
    this.adapterSources.clear();
    const checked = await checkedBefore("self-test", source);
    const options = {
      context: this.settings.context,
      ...checked.options,
      signal: loading.abort.signal,
      onProgress: (event: { stage: LoadStage; done: number; total: number }) => {
        if (loading.stage !== event.stage) loading.since = performance.now();
        Object.assign(loading, { speed: undefined }, event);
        this.changed();
      },
    };
    const loaded = await engine.load(file, options);
    await checked.keep(loaded.tuning);
    this.#last = source.kind === "stored" ? source.model.key : undefined;
    await chats.saveSetting("model", this.#last);
    this.loaded = loaded;
    if (loaded.adapter) {
      this.adapters.push(loaded.adapter);
      this.adapter = loaded.adapter.key;
    }
    // The adapters of this model come back, too: after a lost GPU and on the next visit.
    for (const [index, adapter] of (kept?.sources ?? []).entries()) {
      const added = await engine.addAdapter(adapter).catch(this.fail);
      if (!added) continue;
      this.adapters.push(added);
      this.adapterSources.set(added.key, adapter);
      if (index === kept?.active) this.adapter = added.key;
    }
    this.strength = kept?.strength ?? 1;
    void this.measure();
    if (loaded.damaged.length > 0) {
      this.fail(new EngineError({ code: "damaged", message: `${loaded.damaged.length} tensors hold scales that are not finite: expect nonsense`, hint: "download the model again" }));
    }
  }

  /** Loads the model again after the GPU was lost. */
  async reload(): Promise<void> {
    if (this.source) await this.open(this.source);
  }

  async removeModel(model: StoredModel): Promise<void> {
    try {
      await store.remove(model.key);
      await chats.saveSetting(`adapters ${model.key}`, undefined);
    } catch (error) {
      this.fail(error);
    }
    await this.refreshStored();
  }

  // Adapters

  async addAdapter(source: AdapterSource): Promise<void> {
    const added = await engine.addAdapter(source);
    this.adapters.push(added);
    this.adapterSources.set(added.key, source);
    this.adapter = added.key;
    this.#keepAdapters();
    this.changed();
  }

  #keeping: ReturnType<typeof setTimeout> | undefined;

  /** Remembers the adapters of this model, files and all; once when a slider has come to rest. */
  #keepAdapters(): void {
    clearTimeout(this.#keeping);
    this.#keeping = setTimeout(() => {
      if (!this.source || !this.loaded) return;
      const active = [...this.adapterSources.keys()].indexOf(this.adapter ?? "");
      const kept: KeptAdapters = { sources: [...this.adapterSources.values()], active, strength: this.strength };
      void chats.saveSetting(`adapters ${nameOf(this.source)}`, kept).catch(this.fail);
    }, 300);
  }

  async removeAdapter(key: string): Promise<void> {
    this.adapters = this.adapters.filter((adapter) => adapter.key !== key);
    this.adapterSources.delete(key);
    if (this.adapter === key) this.useAdapter(undefined);
    this.#keepAdapters();
    this.changed();
    await engine.removeAdapter(key);
  }

  useAdapter(key: string | undefined, strength = this.strength): void {
    this.adapter = key;
    this.strength = strength;
    this.#keepAdapters();
    this.changed();
    // The answer is read again under the new setting: once, when the slider has come to rest.
    clearTimeout(this.#adapterTimer);
    this.#adapterTimer = setTimeout(() => this.#adaptAnswer(), 200);
  }

  /** The answer on its way goes on with the adapter in use. */
  #adaptAnswer(): void {
    const { answering, activeAdapter: adapter } = this;
    if (!answering) return;
    const { note } = answering.message;
    if (note) {
      delete note.adapter;
      delete note.strength;
      if (adapter) Object.assign(note, { adapter: adapter.name, strength: this.strength });
    }
    engine.useAdapter(adapter && { key: adapter.key, strength: this.strength }).catch(this.fail);
  }

  get activeAdapter(): LoadedAdapter | undefined {
    return this.adapters.find((adapter) => adapter.key === this.adapter);
  }

  // Chats

  newChat(): void {
    this.stop();
    this.chat = chats.newChat();
    this.used = 0;
    this.changed();
  }

  async select(chat: chats.Chat): Promise<void> {
    this.stop();
    this.chat = chat;
    this.used = 0;
    this.changed();
    await chats.saveSetting("chat", chat.id);
    await this.measure();
  }

  async save(chat = this.chat): Promise<void> {
    if (!this.all.includes(chat)) this.all.unshift(chat);
    this.all.sort((a, b) => b.updated - a.updated);
    try {
      await chats.saveChat(chat);
      await chats.saveSetting("chat", this.chat.id);
    } catch (error) {
      this.fail(error);
    }
    this.changed();
  }

  async deleteChat(chat: chats.Chat): Promise<void> {
    this.all = this.all.filter((other) => other !== chat);
    if (this.chat === chat) this.newChat();
    await chats.deleteChat(chat.id);
    this.changed();
  }

  async importChats(text: string): Promise<void> {
    let imported: chats.Chat[];
    try {
      imported = chats.importChats(text);
    } catch (error) {
      return this.fail(new EngineError({ code: "import", message: error instanceof Error ? error.message : String(error) }));
    }
    for (const chat of imported) await this.save(chat);
    if (imported[0]) await this.select(imported[0]);
  }

  /** Counts the tokens of the conversation, for the meter. */
  async measure(): Promise<void> {
    if (!this.loaded || this.lost || this.answering) return;
    const messages = this.prompt(chats.branch(this.chat));
    this.used = messages.length === 0 ? 0 : await engine.countTokens(messages).catch(() => 0);
    this.changed();
  }

  /** What the model is given: the system prompt, then the branch. */
  prompt(path: chats.Message[]): ChatMessage[] {
    const system = this.settings.system.trim();
    const spoken = path.filter((message) => message.content !== "").map(({ role, content }) => ({ role, content }));
    return system && spoken[0]?.role !== "system" ? [{ role: "system", content: system }, ...spoken] : spoken;
  }

  // Answers

  /** Says something and has it answered. */
  async send(text: string): Promise<void> {
    const message = chats.add(this.chat, this.chat.leaf, "user", text);
    await this.save();
    await this.answer(message);
  }

  /** Says something else in place of `message`, on a branch of its own. */
  async edit(message: chats.Message, text: string): Promise<void> {
    this.stop();
    const edited = chats.add(this.chat, message.parent, "user", text);
    await this.save();
    await this.answer(edited);
  }

  /** Answers the question before `message` once more, on a branch of its own. */
  async again(message: chats.Message): Promise<void> {
    this.stop();
    const question = this.chat.messages.find((other) => other.id === message.parent);
    if (question) await this.answer(question);
  }

  showBranch(message: chats.Message): void {
    this.stop();
    chats.show(this.chat, message);
    void this.save();
    void this.measure();
  }

  /** Says why nothing can be answered. */
  refuse(): void {
    this.fail(new EngineError(this.lost
      ? { code: "device-lost", message: "The model is not on the GPU any more." }
      : { code: "no-model", message: "No model is loaded yet." }));
  }

  /** Ends the answer on its way; what came stays. */
  stop(): void {
    this.answering?.abort.abort();
  }

  async answer(question: chats.Message): Promise<void> {
    const { chat, loaded } = this;
    if (!loaded || this.lost) return this.refuse();
    chat.leaf = question.id;
    const attempt = chat.messages.filter((other) => other.parent === question.id).length;
    const messages = this.prompt(chats.branch(chat));
    const message = chats.add(chat, question.id, "assistant", "");
    const adapter = this.activeAdapter;
    const note: chats.AnswerNote = { model: this.modelName, tokens: 0, finish: "stopped" };
    if (adapter) Object.assign(note, { adapter: adapter.name, strength: this.strength });
    message.note = note;
    const abort = new AbortController();
    const answering: Answering = { chat, message, abort };
    this.answering = answering;
    this.changed();
    let promptTokens: number | undefined;
    /** What the conversation takes so far; the meter moves with it. */
    const count = () => {
      if (this.answering === answering && promptTokens !== undefined) this.used = promptTokens + note.tokens;
    };
    const answer = engine.answer(messages, {
      ...this.#request(attempt),
      ...(adapter ? { adapter: { key: adapter.key, strength: this.strength } } : {}),
      signal: abort.signal,
      onPrompt: (done, total) => {
        promptTokens = total;
        count();
        this.#emit("prompt", { done, total });
      },
    });
    // Stop shows at once; the engine follows within a token.
    abort.signal.addEventListener("abort", () => this.#ended(answering));
    try {
      let saved = performance.now();
      for await (const piece of answer) {
        if (this.answering !== answering) break;
        message.content += piece;
        note.tokens = answer.ids.length;
        count();
        this.#emit("piece", message, piece);
        if (performance.now() - saved > 2000) {
          saved = performance.now();
          void chats.saveChat(chat).catch(this.fail);
        }
      }
      const end = await answer.end;
      Object.assign(note, noteOf(end));
      if (abort.signal.aborted) note.finish = "stopped";
      if (this.chat === chat) this.used = end.promptTokens + end.tokens;
      if (end.finish === "context") {
        this.fail(new EngineError({ code: "context-full", message: `The context of ${end.context.toLocaleString("en-US")} tokens is full: the answer stops here.` }));
      }
    } catch (error) {
      note.finish = "failed";
      this.#failed(error);
      // An answer of which nothing came leaves no trace, so that the question can be asked again.
      if (message.content === "") {
        chat.messages.splice(chat.messages.indexOf(message), 1);
        if (chat.leaf === message.id) chat.leaf = question.id;
      }
    } finally {
      this.#ended(answering);
      await this.save(chat);
    }
  }

  #ended(answering: Answering): void {
    if (this.answering !== answering) return;
    this.answering = undefined;
    this.changed();
  }

  #failed(error: unknown): void {
    if (error instanceof EngineError && (error.code === "device-lost" || error.code === "crashed")) {
      this.lost = true;
      engine.close({ code: "closed", message: "the engine is gone" });
    }
    this.fail(error);
    this.changed();
  }

  #request(attempt: number) {
    // The clock on the wall, as `2026-11-23T08:30:00`, for templates that ask for it.
    const now = new Date();
    const date = new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
    return { sampling: sampling(this.settings, attempt), maxTokens: this.settings.maxTokens, stops: stopTexts(this.settings), date };
  }

  /** One half of a comparison: the base model left, the adapter right, with the same random numbers. */
  compare(session: SessionName, text: string, seed: number, signal: AbortSignal) {
    const adapter = session === "right" ? this.activeAdapter : undefined;
    const request = this.#request(0);
    const messages = this.prompt([{ id: "", parent: null, role: "user", content: text }]);
    const answer = engine.answer(messages, {
      ...request, sampling: { ...request.sampling, seed }, session, signal,
      ...(adapter ? { adapter: { key: adapter.key, strength: this.strength } } : {}),
    });
    answer.end.catch((error: unknown) => this.#failed(error));
    return answer;
  }
}

function noteOf(end: Finished): Partial<chats.AnswerNote> {
  const { tokens, finish, tokensPerSecond, firstTokenMs } = end;
  return {
    tokens, finish, ...(tokensPerSecond === undefined ? {} : { tokensPerSecond }), ...(firstTokenMs === undefined ? {} : { firstTokenMs }),
  };
}

/** The bytes of a model. */
const fileOf = async (source: ModelSource) => source.kind === "file" ? source.file : store.file(source.model);

/** What a model is remembered by. */
const nameOf = (source: ModelSource) => source.kind === "stored" ? source.model.key : `${source.file.name} ${source.file.size}`;

/** A name for these kernels in this browser on this GPU: what their check and their measurement are remembered by. */
async function kernelsHere(): Promise<string> {
  const info = (await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }))?.info;
  return [navigator.userAgent, info?.vendor, info?.architecture, info?.device, info?.description, __KERNELS__].join("|");
}

/** What is known of this GPU from before: whether the kernels of a chat, or of a training, passed with this model, and which are the
 * fastest. `keep` remembers both. */
export async function checkedBefore(what: "self-test" | "training self-test", source: ModelSource) {
  const kernels = await kernelsHere();
  const [stamp, tuned] = [`${what}|${nameOf(source)}|${kernels}`, `tuning|${kernels}`];
  const tuning = await chats.loadSetting<string>(tuned);
  const skipSelfTest = (await chats.loadSetting<boolean>(stamp)) === true;
  const keep = (found: string) => Promise.all([chats.saveSetting(stamp, true), chats.saveSetting(tuned, found)]);
  return { options: { skipSelfTest, ...(tuning === undefined ? {} : { tuning }) }, keep };
}

export const app = new App();
