// What the package exports.

import { Engine } from "./client.js";

export { Answer, Engine, EngineError, type AnswerOptions, type LoadOptions } from "./client.js";
export type * from "./protocol.js";

/** An engine in a worker of its own. */
export function createEngine(): Engine {
  return new Engine(() => new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "engine" }));
}
