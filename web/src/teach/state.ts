// The state of the Teach view and everything that changes it. Nothing in this file touches an element.

import example from "../../../crates/finetune/src/data/example.jsonl?raw";
import { EngineError } from "../../engine/src/index.js";
import { app, checkedBefore } from "../app.js";
import { loadSetting, saveSetting } from "../chats.js";
import { explain, type Failure } from "../failures.js";
import { Teacher } from "./client.js";
import type { CheckedEvent, Plan, RunEvent, StageEvent, TrainEnd, TrainSettings } from "./protocol.js";

/** What the reader can set, as it is remembered. */
export interface Draft {
  rows: string;
  name: string;
  settings: TrainSettings;
  /** Questions to ask before, during and after, one a line. */
  questions: string;
}

export interface LossPoint { step: number; train?: number; validation?: number; }
export interface Sample { step: number; answer: string; cut: boolean; }

/** A finished adapter. */
export interface Taught { bytes: Uint8Array; step: number; }

/** Where a lesson is. */
export type Phase = "ready" | "starting" | "teaching" | "stopping" | "stopped" | "ended";

/** Rows longer than this are not put into the text field: it would be slow. */
const MAX_SHOWN_BYTES = 200_000;
/** Pause in typing after which rows are read. */
const TYPING_MS = 400;

export const EXAMPLE = example.trim();

type Events = { change: () => void; say: (sentence: string) => void };

export class Lesson {
  draft: Draft = { rows: "", name: "", settings: {}, questions: "" };
  /** Rows from a file that is too long to be shown. */
  file: File | undefined;
  /** Begin with the adapter in use instead of a fresh one. */
  goOnWithAdapter = false;
  plan: Plan | undefined;
  /** The training module is on its way. */
  preparing = true;
  /** Rows are being read. */
  planning = false;
  /** Why there is no plan, or why a run broke off. */
  failure: Failure | undefined;
  phase: Phase = "ready";
  stage: StageEvent | undefined;
  /** How far a validation is. */
  validating: { done: number; total: number } | undefined;
  step = 0;
  points: LossPoint[] = [];
  gates: number[][] = [];
  /** Answers by question, in the order of steps. */
  readonly samples = new Map<string, Sample[]>();
  /** The rate of the last step. */
  learningRate = 0;
  /** Tokens a second in the last steps. */
  speed: number | undefined;
  /** Seconds to go. */
  left: number | undefined;
  /** Steps left out because a number was not finite. */
  skipped = 0;
  reason: TrainEnd["reason"] | "failed" | undefined;
  last: Taught | undefined;
  best: (Taught & { loss: number }) | undefined;
  readonly #teacher = new Teacher();
  readonly #listeners: { [E in keyof Events]: Set<Events[E]> } = { change: new Set(), say: new Set() };
  #model: File | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #plans = 0;
  #runs = 0;
  #drawing = false;

  on<E extends keyof Events>(event: E, listener: Events[E]): void {
    this.#listeners[event].add(listener);
  }

  changed = (): void => {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.draw();
    });
  };

  /** Has the view show what is here, at once. */
  draw(): void {
    for (const listener of this.#listeners.change) listener();
  }

  #say(sentence: string): void {
    for (const listener of this.#listeners.say) listener(sentence);
  }

  get busy(): boolean {
    return this.phase === "starting" || this.phase === "teaching" || this.phase === "stopping" || this.phase === "stopped";
  }

  get name(): string {
    return this.draft.name.trim() || "my-adapter";
  }

  /** The adapter in use, where training can begin with it: one of our files. */
  get start(): Blob | undefined {
    const source = app.adapter === undefined ? undefined : app.adapterSources.get(app.adapter);
    return source?.form === "safetensors" && source.kind === undefined ? source.weights : undefined;
  }

  /** Brings back what was set on the last visit; before anything can be set on this one. */
  async restore(): Promise<void> {
    const kept = await loadSetting<Draft>("teach").catch(() => undefined);
    if (kept) Object.assign(this.draft, kept);
  }

  /** Fetches the training module, then reads the rows that are there. */
  async prepare(): Promise<void> {
    try {
      await this.#teacher.prepare();
      this.preparing = false;
      this.replan(0);
    } catch (error) {
      this.preparing = false;
      this.#failed(error);
    }
  }

  set(change: Partial<Draft>): void {
    Object.assign(this.draft, change);
    if (change.rows !== undefined) this.file = undefined;
    void saveSetting("teach", this.draft).catch(app.fail);
    this.replan();
  }

  /** Takes rows from a file. */
  async useFile(file: File): Promise<void> {
    if (this.busy) return;
    const named = this.draft.name ? {} : { name: file.name.replace(/\.[^.]+$/, "") };
    if (file.size <= MAX_SHOWN_BYTES) return this.set({ rows: await file.text(), ...named });
    this.set({ rows: "", ...named });
    this.file = file;
    this.changed();
  }

  /** Reads the rows anew, once the reader has paused. */
  replan(pause = TYPING_MS): void {
    if (this.busy) return;
    clearTimeout(this.#timer);
    this.plan = undefined;
    this.failure = undefined;
    const some = this.file !== undefined || this.draft.rows.trim() !== "";
    this.planning = some && app.source !== undefined && app.loaded !== undefined;
    this.changed();
    if (this.planning) this.#timer = setTimeout(() => void this.#plan(), pause);
  }

  async #plan(): Promise<void> {
    const mine = ++this.#plans;
    try {
      const file = await app.modelFile();
      const rows = this.file ?? new Blob([this.draft.rows]);
      const start = this.goOnWithAdapter ? this.start : undefined;
      const source = { file, rows, name: this.file?.name ?? "the rows", settings: this.draft.settings, ...(start ? { start } : {}) };
      const plan = await this.#teacher.plan(source);
      if (mine !== this.#plans || this.busy) return;
      this.#model = file;
      this.plan = plan;
    } catch (error) {
      if (mine !== this.#plans) return;
      this.#failed(error);
    }
    this.planning = false;
    this.changed();
  }

  #failed(error: unknown): void {
    this.failure = explain(error);
    this.planning = false;
    this.changed();
  }

  async begin(): Promise<void> {
    const [plan, file, source] = [this.plan, this.#model, app.source];
    if (!plan || !file || !source || this.busy) return;
    const steps = plan.steps;
    const mine = ++this.#runs;
    Object.assign(this, {
      phase: "starting", stage: undefined, failure: undefined, step: 0, points: [], gates: [], speed: undefined, left: undefined, skipped: 0,
      reason: undefined, last: undefined, best: undefined,
    });
    this.samples.clear();
    this.changed();
    this.#say(`Teaching begins: ${steps} steps.`);
    const questions = this.draft.questions.split("\n").map((line) => line.trim()).filter(Boolean);
    try {
      const checked = await checkedBefore("training self-test", source);
      const end = await this.#teacher.teach({ file, questions, sampleTokens: plan.sampleTokens, ...checked.options }, (event) => {
        // A chat's kernels are measured the same: what was found serves both.
        if (event.kind === "checked") void checked.keep(event.tuning).catch(app.fail);
        else this.#heard(event, steps);
      });
      if (mine !== this.#runs) return;
      this.last = { bytes: end.last, step: end.step };
      if (end.best && end.bestStep !== undefined) this.best = { bytes: end.best, step: end.bestStep, loss: end.bestLoss ?? NaN };
      this.reason = end.reason;
      this.#say(end.reason === "stopped" ? `Stopped after step ${end.step}. The adapter is kept.` : `Done after ${end.step} steps. The adapter is ready.`);
    } catch (error) {
      // The reader ended the lesson.
      if (mine !== this.#runs) return;
      this.reason = "failed";
      const lost = error instanceof EngineError && error.code === "device-lost";
      this.failure = explain(lost ? new EngineError({ code: "teach-lost", message: error.message }) : error);
      if (error instanceof EngineError && ["device-lost", "teach-crashed", "engine-bug", "out-of-memory"].includes(error.code)) this.#teacher.close();
    }
    this.phase = "ended";
    this.left = undefined;
    this.changed();
  }

  #heard(event: Exclude<RunEvent, CheckedEvent>, steps: number): void {
    this.validating = event.kind === "validating" ? event : undefined;
    switch (event.kind) {
      case "stage":
        this.stage = event;
        break;
      case "sample": {
        const answers = this.samples.get(event.question) ?? [];
        answers.push({ step: event.step, answer: event.answer, cut: event.cut });
        this.samples.set(event.question, answers);
        break;
      }
      case "step": {
        if (this.phase === "starting") this.phase = "teaching";
        this.step = event.step;
        if (event.loss !== null && !event.skipped) this.points.push({ step: event.step, train: event.loss });
        if (event.skipped) this.skipped++;
        this.gates = event.gates;
        this.learningRate = event.learningRate;
        // The first step compiles shaders: it says nothing about the others.
        const speed = event.tokens / event.seconds;
        if (event.step > 1) this.speed = this.speed === undefined ? speed : this.speed + (speed - this.speed) * 0.2;
        this.left = event.step > 1 ? ((event.elapsed / event.step) * (steps - event.step)) : undefined;
        break;
      }
      case "validation":
        if (this.phase === "starting") this.phase = "teaching";
        if (event.loss !== null) {
          this.points.push({ step: event.step, validation: event.loss });
          if (event.best && event.step > 0) this.best = { bytes: event.adapter, step: event.step, loss: event.loss };
          this.#say(`Step ${event.step} of ${steps}: validation loss ${event.loss.toFixed(2)}.`);
        }
        if (event.step > 0) this.last = { bytes: event.adapter, step: event.step };
        break;
      case "stopped":
        this.phase = "stopped";
        this.last = { bytes: event.adapter, step: event.step };
        this.#say(`Stopped after step ${event.step}. The adapter is kept.`);
        break;
      case "kept":
        this.last = { bytes: event.adapter, step: event.step };
        break;
    }
    this.changed();
  }

  stop(): void {
    if (this.phase !== "teaching" && this.phase !== "starting") return;
    this.phase = "stopping";
    this.#teacher.stop();
    this.changed();
  }

  resume(): void {
    if (this.phase !== "stopped") return;
    this.phase = "teaching";
    this.#teacher.resume();
    this.changed();
  }

  /** Back to the rows; what the run holds on the GPU is given back. */
  finish(): void {
    this.#runs++;
    this.#teacher.close();
    this.phase = "ready";
    this.replan(0);
  }

  /** What a run left that is worth keeping: the best by validation, unless it was stopped later on purpose. */
  get result(): Taught | undefined {
    return this.best && this.reason !== "stopped" && this.phase !== "stopped" ? this.best : this.last;
  }

  async toPeft(taught: Taught): Promise<Uint8Array> {
    return this.#teacher.peft(taught.bytes, this.name);
  }

  async useInChat(taught: Taught): Promise<void> {
    await app.addAdapter({ form: "safetensors", name: this.name, weights: new Blob([taught.bytes as BlobPart]) });
  }
}
