// The worker that owns the engine: the only place where WebAssembly and the GPU are touched, so that no computation ever
// stands in the way of the page.

import type * as Wasm from "../wasm/adapter_web.js";
import type { AdapterChoice, ErrorData, Loaded, LoadStage, Method, Methods, Reply, Request, SessionName } from "./protocol.js";

type Params<M extends Method> = Methods[M]["params"];
type Result<M extends Method> = Methods[M]["result"];
type Tell<M extends Method> = (event: Methods[M]["event"]) => void;

let wasm: typeof Wasm | undefined;
let engine: Wasm.Engine | undefined;
let model: Wasm.Model | undefined;
let context: number | undefined;
let nextAdapter = 1;
const adapters = new Map<string, Wasm.Adapter>();
const chats = new Map<SessionName, Wasm.Chat>();
/** What each conversation answers with: a chat itself cannot be asked while it answers. */
const choices = new Map<SessionName, Wasm.AdapterChoice>();
/** Answers that were asked to stop, by request. */
const stopped = new Set<number>();
/** The last work of each conversation: its next answer waits for it. */
const busy = new Map<SessionName, Promise<unknown>>();

/** A failure of this layer, in the shape of the engine's. */
function failure(code: string, message: string, hint: string): Error {
  return Object.assign(new Error(message), { code, hint });
}

async function module(): Promise<typeof Wasm> {
  if (!wasm) {
    const loaded = await import("../wasm/adapter_web.js");
    await loaded.default();
    wasm = loaded;
  }
  return wasm;
}

function loaded(): Wasm.Model {
  if (!model) throw failure("no-model", "no model is loaded", "load a model first");
  return model;
}

/** Lets everything on the GPU go. */
function unload(): void {
  for (const part of [...choices.values(), ...chats.values()]) part.free();
  choices.clear();
  chats.clear();
  for (const adapter of adapters.values()) adapter.free();
  adapters.clear();
  model?.free();
  model = undefined;
}

function chat(session: SessionName): Wasm.Chat {
  let found = chats.get(session);
  if (!found) {
    found = loaded().chat(context);
    chats.set(session, found);
    choices.set(session, found.adapter());
  }
  return found;
}

function choose(session: SessionName, adapter: AdapterChoice | undefined): void {
  const chosen = adapter && adapters.get(adapter.key);
  if (adapter && !chosen) throw failure("no-adapter", "this adapter is not loaded", "load it again");
  chat(session);
  const choice = choices.get(session);
  if (chosen) choice?.set(chosen, adapter.strength);
  else choice?.clear();
}

function keep(adapter: Wasm.Adapter) {
  const key = `adapter-${nextAdapter++}`;
  adapters.set(key, adapter);
  return { key, ...adapter.info() };
}

const bytes = async (blob: Blob) => new Uint8Array(await blob.arrayBuffer());

const methods: { [M in Method]: (params: Params<M>, tell: Tell<M>, id: number) => Promise<Result<M>> } = {
  async load({ file, context: wanted, skipSelfTest, tuning: kept }, tell) {
    if (!("gpu" in navigator)) {
      throw failure("no-webgpu", "this browser's workers have no WebGPU", "use a current Chrome, Edge or Firefox");
    }
    const times: Loaded["times"] = {};
    const stage = async <T>(name: LoadStage, run: () => T | Promise<T>): Promise<T> => {
      tell({ stage: name, done: 0, total: 1 });
      const start = performance.now();
      const result = await run();
      times[name] = (times[name] ?? 0) + performance.now() - start;
      return result;
    };
    const { Engine, inspect } = await module();
    unload();
    // The header first: a file that is no model should not have to wait for the GPU to be told so.
    await stage("header", () => inspect(file));
    const open = (engine ??= await stage("gpu", () => Engine.open()));
    // Measured before they are checked: what is checked is what will run.
    const isKept = kept !== undefined && open.setTuning(kept);
    const tuning = isKept ? kept : await stage("kernels", () => open.tune(() => performance.now()));
    if (!skipSelfTest) await stage("kernels", () => open.selfTest(file));
    let told = 0;
    const opened = await stage("weights", () => open.load(file, (done, total) => {
      const now = performance.now();
      if (now - told < 50 && done < total) return;
      told = now;
      tell({ stage: "weights", done, total });
    }));
    model = opened;
    context = wanted;
    await stage("shaders", () => opened.warmUp());
    const inside = opened.adapterInside();
    const positions = chat("chat").context;
    return {
      model: opened.info(), gpu: open.gpu(), context: positions, memoryBytes: opened.memoryBytes(positions), damaged: opened.damagedTensors(), times, tuning,
      ...(inside ? { adapter: keep(inside) } : {}),
    };
  },

  async inspect({ file }) {
    return (await module()).inspect(file);
  },

  async addAdapter({ source }) {
    const into = loaded();
    switch (source.form) {
      case "gguf":
        return keep(into.adapterFromGguf(source.file));
      case "peft": {
        const [weights, config] = [await bytes(source.weights), await bytes(source.config)];
        return keep(into.adapterFromSafetensors(source.name, weights, config));
      }
      case "safetensors":
        return keep(into.adapterFromSafetensors(source.name, await bytes(source.weights), undefined, source.kind));
    }
  },

  async useAdapter({ session, adapter }) {
    choose(session, adapter);
  },

  async removeAdapter({ key }) {
    const adapter = adapters.get(key);
    adapters.delete(key);
    // A conversation that uses it keeps its share of it until it is given another one.
    adapter?.free();
  },

  async answer({ session, request, adapter }, tell, id) {
    const asked = performance.now();
    const before = busy.get(session);
    const run = async (): Promise<Result<"answer">> => {
      await before?.catch(() => undefined);
      const into = chat(session);
      choose(session, adapter);
      let [n, first, last] = [0, 0, 0];
      const end = await into.answer(request, (event) => {
        if (event.kind === "token") {
          last = performance.now() - asked;
          if (n++ === 0) first = last;
          tell({ ...event, at: last });
        } else {
          tell(event);
        }
        return stopped.has(id);
      });
      const speed = n > 1 && last > first ? ((n - 1) * 1000) / (last - first) : undefined;
      return {
        ...end, ...(n > 0 ? { firstTokenMs: first } : {}), ...(speed === undefined ? {} : { tokensPerSecond: speed }),
      };
    };
    const work = run().finally(() => stopped.delete(id));
    busy.set(session, work);
    return work;
  },

  async countTokens({ request }) {
    // A conversation that is answering cannot be asked; its reader asks again later.
    await busy.get("chat")?.catch(() => undefined);
    return chat("chat").countTokens(request);
  },

  async encode({ text, parseSpecial }) {
    return Array.from(loaded().encode(text, parseSpecial ?? false));
  },

  async status() {
    return { heapBytes: wasm?.heapBytes() ?? 0, gpuBytes: engine?.usedBytes() ?? 0 };
  },
};

function errorData(error: unknown): ErrorData {
  if (error instanceof WebAssembly.RuntimeError) {
    const message = wasm?.lastPanic() ?? error.message;
    return { code: "crashed", message: `the engine stopped: ${message}`, hint: "load the model again", details: String(error.stack) };
  }
  const { code, message, hint, details } = error as Partial<ErrorData>;
  return {
    code: code ? String(code) : "browser",
    message: message ?? String(error),
    ...(hint ? { hint } : {}),
    ...(details ? { details } : {}),
  };
}

const post = (reply: Reply) => postMessage(reply);

async function handle<M extends Method>(id: number, method: M, params: Params<M>): Promise<void> {
  try {
    const value = await methods[method](params, (event) => post({ id, kind: "event", event }), id);
    post({ id, kind: "result", value });
  } catch (error) {
    post({ id, kind: "error", error: errorData(error) });
  }
}

addEventListener("message", (message: MessageEvent<Request>) => {
  const request = message.data;
  if (request.method === "stop") stopped.add(request.id);
  else void handle(request.id, request.method, request.params);
});
