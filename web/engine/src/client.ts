// The page's side of the engine: promises, async iteration and abort signals over the worker's messages.

import type {
  AdapterChoice, AdapterSource, AnswerProgress, AnswerRequest, ErrorData, Finished, Loaded, LoadedAdapter, LoadEvent,
  Method, Methods, ModelInfo, Reply, Request, SessionName, Status,
} from "./protocol.js";

/** What every failing call rejects with. */
export class EngineError extends Error {
  override readonly name = "EngineError";
  /** A short name to match on, such as "device-lost". */
  readonly code: string;
  /** What to do next. */
  readonly hint: string | undefined;
  /** For a bug report. */
  readonly details: string | undefined;

  constructor(data: ErrorData) {
    super(data.message);
    this.code = data.code;
    this.hint = data.hint;
    this.details = data.details;
  }
}

/** How a load is asked for. */
export interface LoadOptions {
  /** Positions of a conversation; the model's own, at most 4096, where it is left out. */
  context?: number;
  /** Leave out the check of every kernel against stored answers: it passed on this GPU before. */
  skipSelfTest?: boolean;
  /** `tuning` of an earlier load on this GPU: without it, which kernels are the fastest here is measured, for about a second. */
  tuning?: string;
  onProgress?: (event: LoadEvent) => void;
  /** Aborting ends the worker, and with it everything that was loaded. */
  signal?: AbortSignal;
}

/** How an answer is asked for. */
export interface AnswerOptions extends Omit<AnswerRequest, "messages" | "ids"> {
  session?: SessionName;
  adapter?: AdapterChoice;
  /** Stops the answer; what was said so far stays valid. */
  signal?: AbortSignal;
  onPrompt?: (done: number, total: number) => void;
}

interface Pending {
  resolve: (value: never) => void;
  reject: (error: EngineError) => void;
  onEvent: ((event: never) => void) | undefined;
}

/** An answer in the making: iterate over its pieces of text, then see how it `end`ed. */
export class Answer implements AsyncIterable<string> {
  /** Resolves when the answer is complete or stopped; rejects as the iteration does. */
  readonly end: Promise<Finished>;
  /** Ids of the tokens so far. */
  readonly ids: number[] = [];
  #pieces: string[] = [];
  #wake: (() => void) | undefined;
  #done = false;
  #error: unknown;

  constructor(start: (onEvent: (event: AnswerProgress) => void) => Promise<Finished>, onPrompt: AnswerOptions["onPrompt"]) {
    this.end = start((event) => {
      if (event.kind === "prompt") return onPrompt?.(event.done, event.total);
      this.ids.push(event.id);
      this.#push(event.text);
    });
    this.end.then(
      (end) => { this.#push(end.text); this.#finish(); },
      (error: unknown) => { this.#error = error; this.#finish(); },
    );
  }

  #push(text: string): void {
    if (text) this.#pieces.push(text);
    this.#wake?.();
  }

  #finish(): void {
    this.#done = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    for (;;) {
      const piece = this.#pieces.splice(0).join("");
      if (piece) {
        yield piece;
      } else if (this.#done) {
        if (this.#error) throw this.#error;
        return;
      } else {
        await new Promise<void>((resolve) => { this.#wake = resolve; });
      }
    }
  }
}

/** The engine in its worker. */
export class Engine {
  readonly #start: () => Worker;
  #worker: Worker | undefined;
  #nextId = 1;
  readonly #pending = new Map<number, Pending>();

  /** `start` makes the worker that runs `worker.js`; it is made when it is first needed, and again after `close`. */
  constructor(start: () => Worker) {
    this.#start = start;
  }

  /** Loads a model from a file; replaces the one before. */
  async load(file: Blob, { onProgress, signal, ...options }: LoadOptions = {}): Promise<Loaded> {
    signal?.throwIfAborted();
    // A load keeps the worker busy from end to end, so it can only be ended from outside.
    const cancel = () => this.close({ code: "cancelled", message: "the load was cancelled" });
    signal?.addEventListener("abort", cancel);
    try {
      return await this.#call("load", { file, ...options }, onProgress);
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  /** What the header of a model file says. */
  inspect(file: Blob): Promise<ModelInfo> {
    return this.#call("inspect", { file });
  }

  /** Loads an adapter for the model. */
  addAdapter(source: AdapterSource): Promise<LoadedAdapter> {
    return this.#call("addAdapter", { source });
  }

  /** What a conversation answers with from now on: an answer on its way goes on under it at its next token. Every answer brings its
   *  own choice, too. */
  useAdapter(adapter?: AdapterChoice, session: SessionName = "chat"): Promise<void> {
    return this.#call("useAdapter", { session, ...(adapter ? { adapter } : {}) });
  }

  /** Lets an adapter go. */
  removeAdapter(key: string): Promise<void> {
    return this.#call("removeAdapter", { key });
  }

  /** Answers a conversation, or a prompt of ids. */
  answer(prompt: NonNullable<AnswerRequest["messages"]> | { ids: number[] }, options: AnswerOptions = {}): Answer {
    const { session = "chat", adapter, signal, onPrompt, ...request } = options;
    const asked: AnswerRequest = Array.isArray(prompt) ? { ...request, messages: prompt } : { ...request, ids: prompt.ids };
    return new Answer((onEvent) => {
      const params = { session, request: asked, ...(adapter ? { adapter } : {}) };
      return this.#call("answer", params, onEvent, signal);
    }, onPrompt);
  }

  /** How many positions a conversation takes. */
  countTokens(messages: NonNullable<AnswerRequest["messages"]>): Promise<number> {
    return this.#call("countTokens", { request: { messages } });
  }

  /** Ids of a text. */
  encode(text: string, parseSpecial = false): Promise<number[]> {
    return this.#call("encode", { text, parseSpecial });
  }

  /** Memory in use. */
  status(): Promise<Status> {
    return this.#call("status", {});
  }

  /** Ends the worker and everything in it; the next call starts another one. */
  close(reason: ErrorData = { code: "closed", message: "the engine was closed" }): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(new EngineError(reason));
  }

  #call<M extends Method>(
    method: M, params: Methods[M]["params"], onEvent?: (event: Methods[M]["event"]) => void, signal?: AbortSignal,
  ): Promise<Methods[M]["result"]> {
    const worker = (this.#worker ??= this.#open());
    const id = this.#nextId++;
    const result = new Promise<Methods[M]["result"]>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onEvent });
    });
    worker.postMessage({ id, method, params } as Request);
    const stop = () => worker.postMessage({ id, method: "stop" } satisfies Request);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop);
    return result.finally(() => signal?.removeEventListener("abort", stop));
  }

  #open(): Worker {
    const worker = this.#start();
    worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => {
      const pending = this.#pending.get(data.id);
      if (!pending) return;
      if (data.kind === "event") return pending.onEvent?.(data.event as never);
      this.#pending.delete(data.id);
      if (data.kind === "result") pending.resolve(data.value as never);
      else pending.reject(new EngineError(data.error));
    });
    worker.addEventListener("error", (event) => {
      const message = event.message || "the engine's worker could not be started";
      this.close({ code: "crashed", message, hint: "reload the page" });
    });
    return worker;
  }
}
