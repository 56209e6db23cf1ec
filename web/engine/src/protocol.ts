// The messages between a page and the worker that owns the engine. One table: a method's name, what it takes, what it
// returns, and what it tells on the way.

import type { AdapterInfo, AnswerEnd, AnswerRequest, GpuInfo, ModelInfo } from "../wasm/adapter_web.js";

export type {
  AdapterInfo, AnswerEnd, AnswerRequest, ChatMessage, GpuInfo, ModelInfo, SamplingSettings,
} from "../wasm/adapter_web.js";

/** The stages of a load, in order. */
export type LoadStage = "gpu" | "header" | "kernels" | "weights" | "shaders";

export interface LoadEvent { stage: LoadStage; done: number; total: number; }

/** A model ready to answer. */
export interface Loaded {
  model: ModelInfo;
  gpu: GpuInfo;
  /** Positions of a conversation. */
  context: number;
  /** Bytes on the GPU when a conversation fills its context. */
  memoryBytes: number;
  /** Tensors with scales that are not finite. */
  damaged: string[];
  /** The adapter inside the model's file. */
  adapter?: LoadedAdapter;
  /** Milliseconds each stage took. */
  times: Partial<Record<LoadStage, number>>;
  /** Which kernels are the fastest on this GPU, for the next load's `tuning`. */
  tuning: string;
}

export interface LoadedAdapter extends AdapterInfo { key: string; }

/** Where an adapter's bytes are: one file of ours, a PEFT folder's two, or a GGUF. */
export type AdapterSource =
  | { form: "safetensors"; name: string; weights: Blob; kind?: string }
  | { form: "peft"; name: string; weights: Blob; config: Blob }
  | { form: "gguf"; file: Blob };

/** Conversations that exist side by side: the chat, and the two halves of a comparison. */
export type SessionName = "chat" | "left" | "right";

export interface AdapterChoice { key: string; strength: number; }

export interface PromptEvent { kind: "prompt"; done: number; total: number; }
export interface TokenEvent { kind: "token"; id: number; text: string; /** Milliseconds since the request. */ at: number; }
export type AnswerProgress = PromptEvent | TokenEvent;

export interface Finished extends AnswerEnd {
  /** Milliseconds from the request to the first token. */
  firstTokenMs?: number;
  /** Tokens a second after the first one. */
  tokensPerSecond?: number;
}

export interface Status { heapBytes: number; gpuBytes: number; }

/** Every method: parameters, result, events. */
export interface Methods {
  /** Opens the GPU, measures and checks its kernels, streams the weights, compiles the shaders. */
  load: { params: { file: Blob; context?: number; skipSelfTest?: boolean; tuning?: string }; result: Loaded; event: LoadEvent };
  inspect: { params: { file: Blob }; result: ModelInfo; event: never };
  addAdapter: { params: { source: AdapterSource }; result: LoadedAdapter; event: never };
  /** What a conversation answers with; an answer on its way goes on with it. Without a choice: the base model. */
  useAdapter: { params: { session: SessionName; adapter?: AdapterChoice }; result: void; event: never };
  removeAdapter: { params: { key: string }; result: void; event: never };
  answer: {
    params: { session: SessionName; request: AnswerRequest; adapter?: AdapterChoice };
    result: Finished;
    event: AnswerProgress;
  };
  countTokens: { params: { request: AnswerRequest }; result: number; event: never };
  encode: { params: { text: string; parseSpecial?: boolean }; result: number[]; event: never };
  status: { params: Record<string, never>; result: Status; event: never };
}

export type Method = keyof Methods;

/** Page to worker. */
export type Request =
  | { [M in Method]: { id: number; method: M; params: Methods[M]["params"] } }[Method]
  | { id: number; method: "stop" };

/** An error as it crosses: `Error` objects lose their properties on the way. */
export interface ErrorData { code: string; message: string; hint?: string; details?: string; }

/** Worker to page. */
export type Reply =
  | { id: number; kind: "event"; event: unknown }
  | { id: number; kind: "result"; value: unknown }
  | { id: number; kind: "error"; error: ErrorData };
