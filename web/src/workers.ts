// The page's workers. Under `require-trusted-types-for 'script'` their addresses have to come from a policy, and this is
// the only one: it lets files of this page's own origin through and nothing else.

import engineUrl from "../engine/src/worker.ts?worker&url";
import { Engine } from "../engine/src/index.js";
import storeUrl from "./store/worker.ts?worker&url";
import { ModelStore } from "./store/client.js";

interface Policy { createScriptURL(url: string): unknown; }
interface TrustedTypes { createPolicy(name: string, rules: { createScriptURL(url: string): string }): Policy; }

const rules = {
  createScriptURL(address: string): string {
    const url = new URL(address, location.href);
    if (url.origin !== location.origin) throw new TypeError(`${url.origin} is not this page's origin`);
    return url.href;
  },
};
const policy: Policy =
  (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes?.createPolicy("own-files", rules) ?? rules;

/** A worker from one of this page's own files. */
export const startWorker = (url: string, name: string) =>
  new Worker(policy.createScriptURL(url) as string, { type: "module", name });

export const engine = new Engine(() => startWorker(engineUrl, "engine"));
export const store = new ModelStore(startWorker(storeUrl, "models"));

/** Keeps the page for times without a network. */
export async function registerServiceWorker(): Promise<void> {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  const url = policy.createScriptURL("./service-worker.js") as string;
  await navigator.serviceWorker.register(url).catch(() => undefined);
}
