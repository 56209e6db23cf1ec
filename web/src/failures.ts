// What went wrong, in words: a title, a sentence, the next step, and what the reader can press. The engine's sentences
// carry the figures; this is the page's one table of advice, by the code of an error.

import { EngineError } from "../engine/src/index.js";

/** What a notice offers. */
export type Remedy = "reload-model" | "choose-model" | "reload-page" | "open-settings" | "new-chat";

export interface Failure {
  code: string;
  title: string;
  message: string;
  next: string;
  remedy?: Remedy;
  details?: string;
}

const WORDS: Record<string, { title: string; next: string; remedy?: Remedy }> = {
  "insecure-context": {
    title: "This address is not secure",
    next: "Browsers give WebGPU to https pages and to localhost only: open this page under https://, or as http://localhost.",
  },
  "no-webgpu": {
    title: "This browser has no WebGPU",
    next: "Use a current Chrome or Edge (113 or newer), Firefox (141 or newer) or Safari (26 or newer). If yours is one of these, WebGPU is switched off in its settings or by your organisation.",
  },
  "no-gpu": {
    title: "No GPU was given to this page",
    next: "The browser knows WebGPU but offers no adapter: switch on hardware acceleration in its settings, update the graphics driver, then restart the browser. chrome://gpu says why.",
    remedy: "reload-page",
  },
  "limit-too-small": {
    title: "This GPU is too small for the engine",
    next: "Update the graphics driver, or use a computer with another GPU. Every limit that core WebGPU promises is needed, and no more.",
  },
  "no-such-gpu": { title: "There is no GPU of this name", next: "Reload the page.", remedy: "reload-page" },
  "gpu-open": { title: "The GPU could not be opened", next: "Update the graphics driver or the browser, then restart it.", remedy: "reload-page" },
  "wrong-numbers": {
    title: "This GPU computes wrong numbers",
    next: "A kernel's answer was compared with a stored one and is off, so every answer would be nonsense. Update the graphics driver or the browser.",
  },
  "device-lost": {
    title: "The GPU was lost",
    next: "The driver was reset, or the computer slept. Your chat is kept: load the model again and go on.",
    remedy: "reload-model",
  },
  "out-of-memory": {
    title: "The GPU's memory does not suffice",
    next: "Choose a smaller quantization or a shorter context in the settings, or close other tabs and programs.",
    remedy: "open-settings",
  },
  "no-model": { title: "There is no model to answer", next: "Choose one; your message is kept.", remedy: "choose-model" },
  "no-adapter": { title: "This adapter is not loaded", next: "Add it again." },
  damaged: { title: "The model's weights are damaged", next: "Download the model again.", remedy: "choose-model" },
  crashed: {
    title: "The engine stopped",
    next: "This is a bug. Your chat is kept: load the model again and go on.",
    remedy: "reload-model",
  },
  "engine-bug": {
    title: "The GPU refused a command",
    next: "This is a bug of the engine. Your chat is kept; please report what stands under Details.",
    remedy: "reload-model",
  },
  gguf: {
    title: "This file is not a complete model",
    next: "Download it again, or choose another .gguf file. Nothing of it was run.",
    remedy: "choose-model",
  },
  "bad-model": { title: "This model contradicts itself", next: "The file is damaged or was converted wrongly: download it again.", remedy: "choose-model" },
  "wrong-architecture": {
    title: "This model is of another family",
    next: "Use a GGUF of LLaMA 1, 2 or 3, TinyLlama, SmolLM2, Mistral, Qwen2, Qwen2.5 or Qwen3.",
    remedy: "choose-model",
  },
  "not-a-model": { title: "This file is an adapter, not a model", next: "Load the model it was trained on, then add this file as an adapter.", remedy: "choose-model" },
  unsupported: { title: "This model needs something the engine lacks", next: "Use a plain model of the LLaMA or Qwen family, quantized as F16, Q4_0 to Q8_0 or Q2_K to Q6_K.", remedy: "choose-model" },
  text: { title: "The model's vocabulary or chat template is unusable", next: "The file was converted wrongly, or the text is too long for it: choose another file.", remedy: "choose-model" },
  template: { title: "This message could not be told apart from the model's control words", next: "Write it in other words: the model's chat template rewrites messages." },
  "empty-prompt": { title: "There is nothing to answer", next: "Write a message." },
  "token-out-of-range": { title: "The ids belong to another model", next: "Load the model again.", remedy: "reload-model" },
  "adapter-kind": { title: "The adapter does not say what its gates mean", next: "Add it again and choose how it was trained." },
  "adapter-kind-mismatch": { title: "The adapter's gates are of another kind", next: "Add it again and choose the kind it was trained with." },
  "adapter-damaged": { title: "This is no adapter of this method", next: "Use a PEFT folder (both files), a .safetensors file of this project, or a GGUF with an adapter." },
  "adapter-too-long": { title: "This adapter's prompt is too long", next: "Train it with fewer prompts a layer." },
  "adapter-none": { title: "There is no adapter in this file", next: "Choose a file or folder of an adapter." },
  pth: { title: "PyTorch checkpoints cannot be read here", next: "Convert it in the terminal program, or save it as safetensors." },
  "pth-length": { title: "The checkpoint leaves the prompt's length open", next: "Convert it in the terminal program, which can be told." },
  "pth-gates-raw": { title: "The checkpoint's gates are raw", next: "Choose the kind linear for them." },
  adapter: { title: "This adapter cannot be used", next: "Use an adapter that was trained for this model: a PEFT folder (both files) or a .safetensors file of this project." },
  "context-full": {
    title: "The conversation does not fit the context",
    next: "Nothing was cut. Start a new chat, edit an earlier message to branch off, or raise the context in the settings.",
    remedy: "new-chat",
  },
  quota: { title: "This browser's storage is full", next: "Delete models you no longer need under Models, or open a file from your disk, which takes no storage.", remedy: "choose-model" },
  cache: { title: "The stored model is damaged", next: "Delete it under Models and load it again.", remedy: "choose-model" },
  hash: { title: "The download is not the promised file", next: "It was thrown away. Try again later, or from another address.", remedy: "choose-model" },
  download: { title: "The download did not get through", next: "What came so far is kept: press Load again and it goes on.", remedy: "choose-model" },
  "busy-elsewhere": { title: "Another tab is writing this model", next: "Wait until it is done there, or close that tab." },
  storage: { title: "The browser's storage failed", next: "Reload the page. If it stays so, clear this site's data in the browser's settings.", remedy: "reload-page" },
  sampling: { title: "A setting is out of its range", next: "Change it in the settings.", remedy: "open-settings" },
  import: { title: "This file could not be imported", next: "Choose a file that was exported here, or one that `/save` wrote in the terminal program." },
  rows: { title: "These rows cannot be taught", next: "Write one JSON object a line with the fields of one format, for instance {\"instruction\": \"…\", \"output\": \"…\"}; the sentence above names the line and what is wrong with it." },
  "data-file": { title: "These rows cannot be read", next: "Choose the file again." },
  "data-setting": { title: "A setting of the rows is out of its range", next: "Change it under Settings beside the rows." },
  "nothing-to-learn": { title: "There is nothing to learn in these rows", next: "Every row needs an answer." },
  "batch-too-large": { title: "The steps are too large for this GPU", next: "Take fewer tokens of a step under Settings." },
  "train-setting": { title: "A setting of this training is out of its range", next: "Change it under Settings beside the rows." },
  "train-gpu": { title: "Training failed on this GPU", next: "Update the graphics driver or the browser, then begin again." },
  "train-file": { title: "A file of the run could not be kept", next: "Free some storage, then begin again." },
  metrics: { title: "The log of the run is damaged", next: "Begin a new run." },
  write: { title: "The adapter could not be written", next: "Free some storage, then download it again." },
  "run-exists": { title: "There is a run already", next: "Take another name." },
  "folder-in-use": { title: "Another training uses this folder", next: "Wait until it is done." },
  "no-run": { title: "There is no training that can go on", next: "Begin a new run." },
  "run-config": { title: "The settings of the run cannot be read", next: "Begin a new run." },
  "no-checkpoint": { title: "This run cannot go on", next: "Begin a new one." },
  "checkpoint-damaged": { title: "The checkpoint is damaged", next: "Begin a new run." },
  "checkpoint-version": { title: "The checkpoint is of another version", next: "Begin a new run." },
  "other-run": { title: "The checkpoint is of another run", next: "Begin a new run." },
  "teach-setting": { title: "A setting of this training is out of its range", next: "Change it under Settings beside the rows." },
  "teach-module": { title: "The training module is not here", next: "It is fetched when this view is first opened and then kept: connect to the network and reload the page.", remedy: "reload-page" },
  "teach-crashed": { title: "Training stopped", next: "This is a bug; the chat is not touched by it. Begin again; the adapter of the last validation is offered below." },
  "teach-lost": { title: "The GPU was lost while teaching", next: "The driver was reset, or the computer slept. The adapter of the last validation is kept below; begin again, with it if you like: use it in the chat first." },
  diverged: { title: "The numbers ran away", next: "Nothing was learnt in those steps, and the adapter before them is kept below. Take a smaller learning rate and begin again." },
  "adapter-peft": { title: "Hugging Face PEFT cannot hold this adapter", next: "Choose “one gate a layer, raw” for the gates under Settings and teach it again: such an adapter can be saved for PEFT. The other download holds this one as it is." },
  drop: { title: "This cannot be opened", next: "Drop a .gguf model, a .safetensors adapter, a PEFT folder, rows to teach (.jsonl) or an exported .json file." },
};

/** An error as the reader should see it; nothing for what the reader wanted. */
export function explain(error: unknown): Failure | undefined {
  const { code = "unknown", message, hint, details } =
    error instanceof EngineError ? error : { code: "unknown", message: error instanceof Error ? error.message : String(error), hint: undefined, details: error instanceof Error ? error.stack : undefined };
  if (code === "cancelled" || code === "closed") return undefined;
  const words = WORDS[code];
  return {
    code,
    title: words?.title ?? "Something went wrong",
    message,
    next: words?.next ?? hint ?? "Reload the page. If it happens again, please report what stands under Details.",
    ...(words?.remedy ? { remedy: words.remedy } : {}),
    ...(details ? { details } : {}),
  };
}

/** Whether this page can compute at all; asked once, before anything is loaded. */
export async function checkWebGpu(): Promise<void> {
  const fail = (code: string, message: string) => { throw new EngineError({ code, message }); };
  if (!isSecureContext) fail("insecure-context", `${location.origin} is not a secure context, so the browser hides WebGPU from it.`);
  if (!("gpu" in navigator) || !navigator.gpu) return fail("no-webgpu", "navigator.gpu is not there.");
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) fail("no-gpu", "requestAdapter() found no GPU.");
}
