// The messages between the Teach view and its worker. One table: a method's name, what it takes, what it returns, and what it
// tells on the way.

import type { ErrorData } from "../../engine/src/index.js";
import type { Plan, TrainEnd, TrainEvent, TrainSettings } from "../../teach/pkg/adapter_teach.js";

export type { Plan, RowProblem, TrainEnd, TrainSettings } from "../../teach/pkg/adapter_teach.js";

/** What a lesson is made of. */
export interface LessonSource {
  /** The model. */
  file: Blob;
  /** The rows, JSON or JSON Lines. */
  rows: Blob;
  /** What they are called in messages. */
  name: string;
  settings: TrainSettings;
  /** The adapter to begin with, a safetensors file of ours. */
  start?: Blob;
}

/** The stages before the first step. */
export type TeachStage = "module" | "gpu" | "kernels" | "weights" | "asking" | "shaders";

export interface StageEvent { kind: "stage"; stage: TeachStage; done: number; total: number; }
/** The GPU's kernels compute right; which are the fastest. */
export interface CheckedEvent { kind: "checked"; tuning: string; }
type With<E, T> = E extends unknown ? E & T : never;
/** A run's events, with the time they took: `seconds` for what was done, `elapsed` since the first step began. */
export type RunEvent = StageEvent | CheckedEvent | With<TrainEvent, { seconds: number; elapsed: number }>;

export interface TeachMethods {
  /** Fetches and starts the module. */
  prepare: { params: Record<string, never>; result: void; event: never };
  plan: { params: LessonSource; result: Plan; event: never };
  /** Runs the lesson that was planned last. `skipSelfTest`: it passed on this GPU before, with these kernels. */
  teach: {
    params: { file: Blob; questions: string[]; sampleTokens: number; skipSelfTest: boolean; tuning?: string };
    result: TrainEnd;
    event: RunEvent;
  };
  /** A PEFT folder of an adapter, as a zip archive. */
  peft: { params: { adapter: Uint8Array; folder: string }; result: Uint8Array; event: never };
}

export type TeachMethod = keyof TeachMethods;

/** Page to worker. `stop` ends the step on its way and waits; then `resume` goes on and `end` ends the run. */
export type TeachRequest =
  | { [M in TeachMethod]: { id: number; method: M; params: TeachMethods[M]["params"] } }[TeachMethod]
  | { method: "stop" | "resume" | "end" };

/** Worker to page. */
export type TeachReply =
  | { id: number; kind: "event"; event: RunEvent }
  | { id: number; kind: "result"; value: unknown }
  | { id: number; kind: "error"; error: ErrorData };
