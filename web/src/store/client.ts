// The page's side of the model store.

import { EngineError } from "../../engine/src/index.js";
import type { StoredModel, StoreMethod, StoreMethods, StoreReply, StoreRequest, TransferEvent } from "./protocol.js";

export type { StoredModel, TransferEvent } from "./protocol.js";

type OnEvent = ((event: TransferEvent) => void) | undefined;

/** Models kept in this browser. */
export class ModelStore {
  readonly #worker: Worker;
  #nextId = 1;
  readonly #pending = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void; onEvent: OnEvent }>();

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.addEventListener("message", ({ data }: MessageEvent<StoreReply>) => {
      const pending = this.#pending.get(data.id);
      if (!pending) return;
      if (data.kind === "event") return pending.onEvent?.(data.event);
      this.#pending.delete(data.id);
      if (data.kind === "result") pending.resolve(data.value as never);
      else pending.reject(new EngineError(data.error));
    });
  }

  list = () => this.#call("list", {});
  size = (url: string) => this.#call("size", { url });
  download = (params: StoreMethods["download"]["params"], onEvent: OnEvent, signal: AbortSignal) =>
    this.#call("download", params, onEvent, signal);
  copy = (file: File, onEvent: OnEvent, signal: AbortSignal) => this.#call("copy", { file }, onEvent, signal);
  verify = (key: string, onEvent: OnEvent, signal: AbortSignal) => this.#call("verify", { key }, onEvent, signal);
  remove = (key: string) => this.#call("remove", { key });
  clear = () => this.#call("clear", {});

  /** The bytes of a stored model. */
  async file({ key, name }: StoredModel): Promise<File> {
    const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("models");
    try {
      return await (await models.getFileHandle(`${key}.gguf`)).getFile();
    } catch {
      throw new EngineError({ code: "cache", message: `the stored model ${name} is not complete any more`, hint: "delete it and load it again" });
    }
  }

  #call<M extends StoreMethod>(method: M, params: StoreMethods[M]["params"], onEvent?: OnEvent, signal?: AbortSignal): Promise<StoreMethods[M]["result"]> {
    const id = this.#nextId++;
    const result = new Promise<StoreMethods[M]["result"]>((resolve, reject) => this.#pending.set(id, { resolve, reject, onEvent }));
    this.#worker.postMessage({ id, method, params } as StoreRequest);
    const cancel = () => this.#worker.postMessage({ id, method: "cancel" } satisfies StoreRequest);
    if (signal?.aborted) cancel();
    signal?.addEventListener("abort", cancel);
    return result.finally(() => signal?.removeEventListener("abort", cancel));
  }
}
