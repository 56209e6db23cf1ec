// The messages between the page and the worker that keeps models in the browser's private file system.

import type { ErrorData } from "../../engine/src/index.js";

/** A model that is kept in this browser. */
export interface StoredModel {
  /** SHA-256 of the file, its name in the private file system. */
  key: string;
  name: string;
  bytes: number;
  added: number;
  /** Where it came from; none for a file that was copied in. */
  url?: string;
  /** Of every piece of `pieceBytes`, to find what is broken. */
  pieces: string[];
  pieceBytes: number;
}

export interface TransferEvent {
  stage: "transfer" | "check";
  done: number;
  total: number;
  /** Bytes a second, of the last few seconds. */
  speed?: number;
}

export interface StoreMethods {
  list: { params: Record<string, never>; result: StoredModel[] };
  /** Size of what an address leads to; nothing is fetched. */
  size: { params: { url: string }; result: { bytes: number } };
  /** Fetches a model, or goes on with one that was interrupted. */
  download: { params: { url: string; name: string; sha256?: string }; result: StoredModel };
  /** Copies a file of the user's. */
  copy: { params: { file: File }; result: StoredModel };
  /** Compares a stored model with its hashes; fetches pieces that differ again where it knows from where. */
  verify: { params: { key: string }; result: { mended: number } };
  remove: { params: { key: string }; result: void };
  /** Bytes of interrupted downloads, and those themselves. */
  clear: { params: Record<string, never>; result: void };
}

export type StoreMethod = keyof StoreMethods;
export type StoreRequest =
  | { [M in StoreMethod]: { id: number; method: M; params: StoreMethods[M]["params"] } }[StoreMethod]
  | { id: number; method: "cancel" };
export type StoreReply =
  | { id: number; kind: "event"; event: TransferEvent }
  | { id: number; kind: "result"; value: unknown }
  | { id: number; kind: "error"; error: ErrorData };
