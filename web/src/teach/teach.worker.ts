// The worker that trains: it has its own module (the engine and burn), its own GPU device and its own copy of the model, so that
// the chat stays as it is. It is ended with the training, and with it goes all of that.

import type { ErrorData } from "../../engine/src/index.js";
import type * as Wasm from "../../teach/pkg/adapter_teach.js";
import type { RunEvent, TeachMethod, TeachMethods, TeachReply, TeachRequest, TeachStage } from "./protocol.js";

type Params<M extends TeachMethod> = TeachMethods[M]["params"];
type Result<M extends TeachMethod> = TeachMethods[M]["result"];
type Tell = (event: RunEvent) => void;

let wasm: typeof Wasm | undefined;
let training: Wasm.Training | undefined;
let engine: Wasm.Engine | undefined;
let model: Wasm.Model | undefined;
/** The reader wants to stop: after the step on its way. */
let stopping = false;
/** Lets a stopped run go on, or ends it. */
let wake: ((wish: "stop" | undefined) => void) | undefined;

function failure(code: string, message: string, hint: string): Error {
  return Object.assign(new Error(message), { code, hint });
}

let sayLost: (error: Error) => void;
/** Fails when a device of this worker is lost: burn then waits for numbers that never come. */
const lost = new Promise<never>((_, reject) => { sayLost = reject; });
lost.catch(() => {}); // It may happen while nobody waits.

interface LosableDevice { lost: Promise<{ message: string }>; }
const { GPUAdapter } = globalThis as unknown as { GPUAdapter?: { prototype: { requestDevice(...args: unknown[]): Promise<LosableDevice> } } };
if (GPUAdapter) {
  const request = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (...args) {
    const device = await request.apply(this, args);
    void device.lost.then(({ message }) => sayLost(failure("device-lost", `the GPU was lost: ${message}`, "begin again")));
    return device;
  };
}

async function module(): Promise<typeof Wasm> {
  if (!wasm) {
    try {
      const loaded = await import("../../teach/pkg/adapter_teach.js");
      await loaded.default();
      wasm = loaded;
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) throw error;
      throw failure("teach-module", `the training module could not be fetched: ${(error as Error).message}`, "connect to the network once; after that it is kept");
    }
  }
  return wasm;
}

function planned(): Wasm.Training {
  if (!training) throw failure("teach-setting", "no rows were read yet", "paste rows first");
  return training;
}

const bytes = async (blob: Blob) => new Uint8Array(await blob.arrayBuffer());

const methods: { [M in TeachMethod]: (params: Params<M>, tell: Tell) => Promise<Result<M>> } = {
  async prepare() {
    await module();
  },

  async plan({ file, rows, name, settings, start }) {
    const { Training } = await module();
    const read = Training.read(file, await bytes(rows), name, settings, start ? await bytes(start) : undefined);
    training?.free();
    training = read;
    return training.plan();
  },

  async teach({ file, questions, sampleTokens, skipSelfTest, tuning: kept }, tell) {
    stopping = false;
    const stage = (name: TeachStage, done = 0, total = 1) => tell({ kind: "stage", stage: name, done, total });
    const { Engine } = await module();
    const run = planned();
    if (!model) {
      stage("gpu");
      const open = (engine ??= await Engine.open());
      stage("kernels");
      // Measured before they are checked: what is checked is what will run.
      const tuning = kept !== undefined && open.setTuning(kept) ? kept : await open.tune(() => performance.now());
      if (skipSelfTest) run.trustSelfTest(open);
      else await run.selfTest(open);
      tell({ kind: "checked", tuning });
      let told = 0;
      model = open.load(file, (done, total) => {
        const now = performance.now();
        if (now - told < 50 && done < total) return;
        told = now;
        stage("weights", done, total);
      });
    }
    stage(sampleTokens > 0 ? "asking" : "shaders");
    let began = performance.now();
    let last = began;
    return run.teach(model, { questions, tokens: sampleTokens }, async (event) => {
      const now = performance.now();
      tell({ ...event, seconds: (now - last) / 1000, elapsed: (now - began) / 1000 });
      if (event.kind === "sample" && event.step === 0 && event.last) {
        stage("shaders");
        began = performance.now();
      }
      let wish: "stop" | undefined;
      if (event.kind === "stopped") {
        stopping = false;
        wish = await new Promise<"stop" | undefined>((resolve) => { wake = resolve; });
        wake = undefined;
      }
      last = performance.now();
      return wish;
    }, () => stopping);
  },

  async peft({ adapter, folder }) {
    return planned().toPeft(adapter, folder);
  },
};

function errorData(error: unknown): ErrorData {
  if (error instanceof WebAssembly.RuntimeError) {
    const message = wasm?.lastPanic() ?? error.message;
    return { code: "teach-crashed", message: `training stopped: ${message}`, hint: "start again", details: String(error.stack) };
  }
  const { code, message, hint, details } = error as Partial<ErrorData>;
  return { code: code ? String(code) : "browser", message: message ?? String(error), ...(hint ? { hint } : {}), ...(details ? { details } : {}) };
}

const post = (reply: TeachReply) => postMessage(reply);

async function handle<M extends TeachMethod>(id: number, method: M, params: Params<M>): Promise<void> {
  try {
    const value = await Promise.race([methods[method](params, (event) => post({ id, kind: "event", event })), lost]);
    post({ id, kind: "result", value });
  } catch (error) {
    // burn may notice first that it cannot read any more, and does not know why; the device says so soon after.
    const why = await Promise.race([lost.catch((reason: unknown) => reason), new Promise((resolve) => setTimeout(resolve, 300))]);
    post({ id, kind: "error", error: errorData(why ?? error) });
  }
}

addEventListener("message", ({ data }: MessageEvent<TeachRequest>) => {
  switch (data.method) {
    case "stop": stopping = true; return;
    case "resume": return wake?.(undefined);
    case "end": stopping = true; return wake?.("stop");
    default: void handle(data.id, data.method, data.params);
  }
});
