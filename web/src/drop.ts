// Files dropped on the page: a model, an adapter, a PEFT folder, exported chats.

import { EngineError } from "../engine/src/index.js";
import { app } from "./app.js";
import { byId } from "./dom.js";
import { current } from "./route.js";
import { addAdapterFiles } from "./views/adapters.js";
import { openTeach } from "./views/views.js";

/** More files than this in a folder: it is no adapter's. */
const MAX_FILES = 64;

async function filesOf(folder: FileSystemDirectoryEntry): Promise<File[]> {
  const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => folder.createReader().readEntries(resolve, reject));
  const files = entries.filter((entry): entry is FileSystemFileEntry => entry.isFile).slice(0, MAX_FILES);
  return Promise.all(files.map((entry) => new Promise<File>((resolve, reject) => entry.file(resolve, reject))));
}

/** Does with files what their kind asks for. */
export async function openFiles(files: File[], folder?: string): Promise<void> {
  const [first] = files;
  if (!first) return;
  const ends = (end: string) => files.some((file) => file.name.toLowerCase().endsWith(end));
  if (ends(".safetensors")) return addAdapterFiles(files, folder);
  if (ends(".gguf")) {
    const model = files.find((file) => file.name.toLowerCase().endsWith(".gguf"))!;
    // A GGUF of a few MiB beside a loaded model may be an adapter; its header says.
    if (app.loaded && (await isAdapter(model))) return addAdapterFiles([model]);
    return app.open({ kind: "file", file: model });
  }
  if (ends(".jsonl") || (current().id === "teach" && ends(".json"))) {
    location.hash = "#/teach";
    return (await openTeach()).useFile(first);
  }
  if (ends(".json") && !folder) return app.importChats(await first.text());
  app.fail(new EngineError({ code: "drop", message: `${folder ?? first.name} is neither a model, an adapter nor a list of chats.` }));
}

/** Whether a GGUF says of itself that it is an adapter (`general.type`), near its beginning. */
async function isAdapter(file: File): Promise<boolean> {
  const head = new TextDecoder("latin1").decode(await file.slice(0, 4096).arrayBuffer());
  return /general\.type[\s\S]{12}adapter/.test(head);
}

export function startDrop(): void {
  const overlay = byId("drop");
  let depth = 0;
  const holdsFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") === true;
  document.addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    depth++;
    overlay.hidden = false;
  });
  document.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (depth === 0) overlay.hidden = true;
  });
  document.addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    depth = 0;
    overlay.hidden = true;
    if (!holdsFiles(event) || !event.dataTransfer) return;
    event.preventDefault();
    const folder = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).find((entry) => entry?.isDirectory);
    const files = [...event.dataTransfer.files];
    void (folder ? filesOf(folder as FileSystemDirectoryEntry).then((found) => openFiles(found, folder.name)) : openFiles(files)).catch(app.fail);
  });
}
