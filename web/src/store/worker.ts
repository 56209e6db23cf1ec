// Keeps models in the browser's private file system. A file is written as `<hash of its address>.part`, and gets its own
// SHA-256 as its name when it is complete and the hash is right; a list of hashes of its pieces lies beside it.

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import type { StoredModel, StoreMethod, StoreMethods, StoreReply, StoreRequest, TransferEvent } from "./protocol.js";

const PIECE_BYTES = 8 << 20;

type Tell = (event: TransferEvent) => void;

function failure(code: string, message: string, hint: string): Error {
  return Object.assign(new Error(message), { code, hint });
}

const folder = async () => (await navigator.storage.getDirectory()).getDirectoryHandle("models", { create: true });
const hexOf = async (data: BufferSource) => bytesToHex(new Uint8Array(await crypto.subtle.digest("SHA-256", data)));

/** Write access, which only one tab can have. */
async function writable(handle: FileSystemFileHandle): Promise<FileSystemSyncAccessHandle> {
  try {
    return await handle.createSyncAccessHandle();
  } catch (error) {
    if ((error as DOMException).name === "NoModificationAllowedError") {
      throw failure("busy-elsewhere", "another tab is writing this model", "wait until it is done there, or close that tab");
    }
    throw error;
  }
}

/** Refuses what would not fit, before anything is fetched. What `estimate()` says is made up by some browsers, so that
 * pages cannot tell disks apart; making the file as long as it will be and short again asks the quota itself. */
function makeRoom(out: FileSystemSyncAccessHandle, bytes: number): void {
  const before = out.getSize();
  try {
    out.truncate(bytes);
  } catch (error) {
    if ((error as DOMException).name !== "QuotaExceededError") throw error;
    const mib = Math.ceil((bytes - before) / 2 ** 20).toLocaleString("en-US");
    throw failure("quota", `the model needs ${mib} MiB more than this browser has room for`, "delete models, or free disk space");
  }
  out.truncate(before);
}

/** Tells bytes done, at most ten times a second, with the speed over the last three seconds. */
function meter(tell: Tell, stage: TransferEvent["stage"], total: number): (done: number) => void {
  const samples: [time: number, done: number][] = [];
  let told = 0;
  return (done) => {
    const now = performance.now();
    if (now - told < 100 && done < total) return;
    told = now;
    samples.push([now, done]);
    while (samples.length > 2 && now - samples[0]![0] > 3000) samples.shift();
    const [from, before] = samples[0]!;
    const speed = now > from ? ((done - before) * 1000) / (now - from) : undefined;
    tell({ stage, done, total, ...(speed === undefined ? {} : { speed }) });
  };
}

/** Writes a stream of bytes in pieces, keeping the hash of each and of all. */
class Writer {
  readonly #out: FileSystemSyncAccessHandle;
  readonly #whole = sha256.create();
  readonly #piece = new Uint8Array(PIECE_BYTES);
  #filled = 0;
  readonly pieces: string[] = [];
  written = 0;

  constructor(out: FileSystemSyncAccessHandle) {
    this.#out = out;
  }

  /** Takes what an earlier attempt has written as its own; only whole pieces count. */
  async resume(): Promise<void> {
    const whole = Math.floor(this.#out.getSize() / PIECE_BYTES);
    for (let index = 0; index < whole; index++) {
      if (this.#out.read(this.#piece, { at: index * PIECE_BYTES }) !== PIECE_BYTES) break;
      this.#whole.update(this.#piece);
      this.pieces.push(await hexOf(this.#piece));
      this.written += PIECE_BYTES;
    }
    this.#out.truncate(this.written);
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + PIECE_BYTES - this.#filled);
      this.#piece.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === PIECE_BYTES) await this.#flush();
    }
  }

  async #flush(): Promise<void> {
    const piece = this.#piece.subarray(0, this.#filled);
    if (piece.length === 0) return;
    this.#out.write(piece, { at: this.written });
    this.#whole.update(piece);
    this.pieces.push(await hexOf(piece));
    this.written += piece.length;
    this.#filled = 0;
  }

  async finish(): Promise<string> {
    await this.#flush();
    this.#out.flush();
    return bytesToHex(this.#whole.digest());
  }

  /** Keeps whole pieces only, so that the next attempt can go on. */
  abandon(): void {
    this.#out.flush();
  }
}

async function readJson(models: FileSystemDirectoryHandle, name: string): Promise<StoredModel | undefined> {
  try {
    return JSON.parse(await (await (await models.getFileHandle(name)).getFile()).text()) as StoredModel;
  } catch {
    return undefined;
  }
}

async function writeJson(models: FileSystemDirectoryHandle, model: StoredModel): Promise<void> {
  const out = await writable(await models.getFileHandle(`${model.key}.json`, { create: true }));
  const data = new TextEncoder().encode(JSON.stringify(model));
  out.truncate(data.length);
  out.write(data, { at: 0 });
  out.flush();
  out.close();
}

/** `.part` becomes the model. */
async function complete(part: FileSystemFileHandle, model: StoredModel): Promise<StoredModel> {
  const models = await folder();
  await (part as FileSystemFileHandle & { move(name: string): Promise<void> }).move(`${model.key}.gguf`);
  await writeJson(models, model);
  return model;
}

async function respond(url: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { ...init, credentials: "omit", referrerPolicy: "no-referrer" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw failure(
      "download", `The server ${new URL(url, location.href).host} could not be reached: ${(error as Error).message}`,
      "check the network and the address; this page may only fetch from the hosts its owner allowed. What was fetched so far is kept",
    );
  }
  if (!response.ok) {
    throw failure("download", `The server ${new URL(url, location.href).host} answers ${response.status} ${response.statusText}`, "check the address");
  }
  return response;
}

const methods: {
  [M in StoreMethod]: (params: StoreMethods[M]["params"], tell: Tell, signal: AbortSignal) => Promise<StoreMethods[M]["result"]>;
} = {
  async list() {
    const models = await folder();
    const found: StoredModel[] = [];
    for await (const name of models.keys()) {
      if (!name.endsWith(".json")) continue;
      const model = await readJson(models, name);
      if (model) found.push(model);
    }
    return found.sort((a, b) => a.added - b.added);
  },

  async size({ url }) {
    const response = await respond(url, { method: "HEAD" });
    return { bytes: Number(response.headers.get("content-length")) || 0 };
  },

  async download({ url, name, sha256: wanted }, tell, signal) {
    const models = await folder();
    const part = await models.getFileHandle(`${await hexOf(new TextEncoder().encode(url))}.part`, { create: true });
    const out = await writable(part);
    try {
      const writer = new Writer(out);
      await writer.resume();
      const from = writer.written;
      const response = await respond(url, { signal, ...(from > 0 ? { headers: { Range: `bytes=${from}-` } } : {}) });
      const resumed = response.status === 206;
      if (from > 0 && !resumed) throw failure("download", "the server cannot continue a download", "delete the interrupted download and start again");
      const total = (Number(response.headers.get("content-length")) || 0) + from;
      makeRoom(out, total);
      const report = meter(tell, "transfer", total);
      let done = from;
      try {
        for (const reader = response.body!.getReader(); ;) {
          const { done: ended, value } = await reader.read();
          if (ended) break;
          await writer.write(value);
          done += value.length;
          report(done);
        }
      } catch (error) {
        writer.abandon();
        if (signal.aborted || (error as { code?: unknown }).code) throw error;
        throw failure("download", `the download broke off after ${done.toLocaleString("en-US")} bytes: ${(error as Error).message}`, "press Load again: it goes on where it stopped");
      }
      if (total > 0 && done !== total) {
        writer.abandon();
        throw failure("download", `the download ended after ${done.toLocaleString("en-US")} of ${total.toLocaleString("en-US")} bytes`, "press Load again: it goes on where it stopped");
      }
      const key = await writer.finish();
      if (wanted && wanted !== key) {
        out.truncate(0);
        throw failure("hash", `the file that came is not the one that was promised (SHA-256 ${key.slice(0, 12)}… instead of ${wanted.slice(0, 12)}…)`, "try again later, or from another address");
      }
      out.close();
      return await complete(part, { key, name, bytes: done, added: Date.now(), url, pieces: writer.pieces, pieceBytes: PIECE_BYTES });
    } finally {
      out.close();
    }
  },

  async copy({ file }, tell, signal) {
    const models = await folder();
    const part = await models.getFileHandle(`${crypto.randomUUID()}.part`, { create: true });
    const out = await writable(part);
    try {
      makeRoom(out, file.size);
      const writer = new Writer(out);
      const report = meter(tell, "transfer", file.size);
      for (let at = 0; at < file.size; at += PIECE_BYTES) {
        signal.throwIfAborted();
        await writer.write(new Uint8Array(await file.slice(at, at + PIECE_BYTES).arrayBuffer()));
        report(Math.min(at + PIECE_BYTES, file.size));
      }
      const key = await writer.finish();
      out.close();
      return await complete(part, { key, name: file.name, bytes: file.size, added: Date.now(), pieces: writer.pieces, pieceBytes: PIECE_BYTES });
    } catch (error) {
      out.close();
      await models.removeEntry(part.name);
      throw error;
    }
  },

  async verify({ key }, tell, signal) {
    const models = await folder();
    const about = await readJson(models, `${key}.json`);
    const gone = () => failure("cache", "the stored model is not complete any more", "delete it below and load it again");
    if (!about) throw gone();
    let handle: FileSystemFileHandle;
    try {
      handle = await models.getFileHandle(`${key}.gguf`);
    } catch {
      await models.removeEntry(`${key}.json`);
      throw gone();
    }
    const file = await handle.getFile();
    const report = meter(tell, "check", about.bytes);
    const broken: number[] = [];
    for (const [index, wanted] of about.pieces.entries()) {
      signal.throwIfAborted();
      const at = index * about.pieceBytes;
      const piece = await file.slice(at, at + about.pieceBytes).arrayBuffer();
      if ((await hexOf(piece)) !== wanted) broken.push(index);
      report(Math.min(at + about.pieceBytes, about.bytes));
    }
    if (broken.length === 0 && file.size === about.bytes) return { mended: 0 };
    if (!about.url) {
      throw failure("cache", `${broken.length} of ${about.pieces.length} pieces of the stored model are damaged`, "delete it below and add the file again");
    }
    const out = await writable(handle);
    try {
      out.truncate(about.bytes);
      for (const index of broken) {
        const at = index * about.pieceBytes;
        const end = Math.min(at + about.pieceBytes, about.bytes);
        const response = await respond(about.url, { signal, headers: { Range: `bytes=${at}-${end - 1}` } });
        const piece = new Uint8Array(await response.arrayBuffer());
        if (response.status !== 206 || (await hexOf(piece)) !== about.pieces[index]) {
          throw failure("cache", "the stored model is damaged, and what its address sends now is another file", "delete it below and load it again");
        }
        out.write(piece, { at });
      }
      out.flush();
    } finally {
      out.close();
    }
    return { mended: broken.length };
  },

  async remove({ key }) {
    const models = await folder();
    for (const name of [`${key}.gguf`, `${key}.json`]) {
      await models.removeEntry(name).catch((error: DOMException) => {
        if (error.name !== "NotFoundError") throw error;
      });
    }
  },

  async clear() {
    const models = await folder();
    for await (const name of models.keys()) {
      // One that another tab is writing stays.
      if (name.endsWith(".part")) await models.removeEntry(name).catch(() => undefined);
    }
  },
};

const running = new Map<number, AbortController>();
const post = (reply: StoreReply) => postMessage(reply);

async function handle<M extends StoreMethod>(id: number, method: M, params: StoreMethods[M]["params"]): Promise<void> {
  const controller = new AbortController();
  running.set(id, controller);
  try {
    const value = await methods[method](params, (event) => post({ id, kind: "event", event }), controller.signal);
    post({ id, kind: "result", value });
  } catch (error) {
    const { code, message, hint, name } = error as { code?: unknown; message: string; hint?: string; name: string };
    const known = typeof code === "string" ? code : name === "AbortError" ? "cancelled" : name === "QuotaExceededError" ? "quota" : "storage";
    const advice = hint ?? (known === "quota" ? "delete models below, or free disk space" : undefined);
    post({ id, kind: "error", error: { code: known, message, ...(advice ? { hint: advice } : {}) } });
  } finally {
    running.delete(id);
  }
}

addEventListener("message", ({ data }: MessageEvent<StoreRequest>) => {
  if (data.method === "cancel") running.get(data.id)?.abort();
  else void handle(data.id, data.method, data.params);
});
