// The page's side of the worker that trains.

import { EngineError, type ErrorData } from "../../engine/src/index.js";
import { startWorker } from "../workers.js";
import workerUrl from "./teach.worker.ts?worker&url";
import type { RunEvent, TeachMethod, TeachMethods, TeachReply, TeachRequest } from "./protocol.js";

type OnEvent = ((event: RunEvent) => void) | undefined;

/** Training in a worker of its own, which is made when it is first needed. */
export class Teacher {
  #worker: Worker | undefined;
  #nextId = 1;
  readonly #pending = new Map<number, { resolve: (value: never) => void; reject: (error: EngineError) => void; onEvent: OnEvent }>();

  prepare = () => this.#call("prepare", {});
  plan = (params: TeachMethods["plan"]["params"]) => this.#call("plan", params);
  teach = (params: TeachMethods["teach"]["params"], onEvent: OnEvent) => this.#call("teach", params, onEvent);
  peft = (adapter: Uint8Array, folder: string) => this.#call("peft", { adapter, folder });

  /** Ends the step on its way and waits. */
  stop = () => this.#tell("stop");
  /** A stopped run goes on. */
  resume = () => this.#tell("resume");
  /** A stopped run ends. */
  end = () => this.#tell("end");

  /** Ends the worker and with it everything it has on the GPU. */
  close(reason: ErrorData = { code: "closed", message: "the training was closed" }): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(new EngineError(reason));
  }

  #tell(method: "stop" | "resume" | "end"): void {
    this.#worker?.postMessage({ method } satisfies TeachRequest);
  }

  #call<M extends TeachMethod>(method: M, params: TeachMethods[M]["params"], onEvent?: OnEvent): Promise<TeachMethods[M]["result"]> {
    const worker = (this.#worker ??= this.#open());
    const id = this.#nextId++;
    const result = new Promise<TeachMethods[M]["result"]>((resolve, reject) => this.#pending.set(id, { resolve, reject, onEvent }));
    worker.postMessage({ id, method, params } as TeachRequest);
    return result;
  }

  #open(): Worker {
    const worker = startWorker(workerUrl, "teach");
    worker.addEventListener("message", ({ data }: MessageEvent<TeachReply>) => {
      const pending = this.#pending.get(data.id);
      if (!pending) return;
      if (data.kind === "event") return pending.onEvent?.(data.event);
      this.#pending.delete(data.id);
      if (data.kind === "result") pending.resolve(data.value as never);
      else pending.reject(new EngineError(data.error));
    });
    worker.addEventListener("error", (event) => {
      this.close({ code: "teach-crashed", message: event.message || "the training worker could not be started", hint: "reload the page" });
    });
    return worker;
  }
}
