// Adapters while chatting: which one is on, how strongly, and adding more.

import { EngineError } from "../../engine/src/index.js";
import { app } from "../app.js";
import { byId, h, icon, iconButton } from "../dom.js";
import { GATES } from "../gates.js";
import { toast } from "../notices.js";
import { pick } from "./models.js";

const stem = (name: string) => name.replace(/\.[^.]+$/, "");

/** Asks what the gates of a bare file mean. */
function askKind(name: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const buttons = GATES.map(([kind, words]) => h("button", { type: "button", on: { click: () => { resolve(kind); dialog.close(); } } }, words));
    const dialog: HTMLDialogElement = h("dialog", { class: "small", aria: { label: "What the gates mean" } },
      h("div", { class: "dialog-body" }, h("h2", {}, "What do its gates mean?"),
        h("p", {}, `${name} does not say how its gates are to be read, and a wrong guess would answer nonsense.`),
        h("div", { class: "choices" }, ...buttons),
        h("button", { type: "button", class: "quiet", on: { click: () => dialog.close() } }, "Cancel")));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(undefined); });
    document.body.appendChild(dialog);
    dialog.showModal();
  });
}

/** Adds the adapter that these files are. */
export async function addAdapterFiles(files: File[], folder?: string): Promise<void> {
  const find = (test: (name: string) => boolean) => files.find((file) => test(file.name));
  const config = find((name) => name === "adapter_config.json");
  const weights = find((name) => name.endsWith(".safetensors"));
  const gguf = find((name) => name.endsWith(".gguf"));
  try {
    if (!app.loaded) throw new EngineError({ code: "no-model", message: "An adapter belongs to a model, and none is loaded yet." });
    if (config && weights) {
      await app.addAdapter({ form: "peft", name: folder || "PEFT adapter", weights, config });
    } else if (weights?.name === "adapter_model.safetensors") {
      throw new EngineError({ code: "adapter", message: "adapter_model.safetensors is half of a PEFT folder: adapter_config.json is missing." });
    } else if (weights) {
      const source = { form: "safetensors" as const, name: stem(weights.name), weights };
      try {
        await app.addAdapter(source);
      } catch (error) {
        if (!(error instanceof EngineError && error.code === "adapter-kind")) throw error;
        const kind = await askKind(weights.name);
        if (!kind) return;
        await app.addAdapter({ ...source, kind });
      }
    } else if (gguf) {
      await app.addAdapter({ form: "gguf", file: gguf });
    } else {
      throw new EngineError({ code: "drop", message: `${files.map((file) => file.name).join(", ") || "Nothing"} is no adapter.` });
    }
    toast(`Adapter ${app.activeAdapter?.name ?? ""} is on`);
  } catch (error) {
    app.fail(error);
  }
}

export function startAdapters(): void {
  const bar = byId("adapter-bar");
  const select = h("select", { aria: { label: "Adapter" } });
  const slider = h("input", { type: "range", min: "0", max: "2", step: "0.05", id: "strength" });
  const value = h("output", { class: "figures" });
  const remove = iconButton("trash", "Remove this adapter", () => { if (app.adapter) void app.removeAdapter(app.adapter); });
  const strength = h("label", { class: "strength" }, "Strength ", slider, value);
  const add = h("button", { type: "button", class: "quiet", on: { click: () => pick(".safetensors,.json,.gguf", true, (files) => void addAdapterFiles(files)) } },
    icon("plus"), "Add an adapter");
  const warning = h("span", { class: "warning" });
  bar.append(h("label", { class: "adapter-select" }, h("span", {}, "Adapter "), select), strength, remove, warning, h("span", { class: "grow" }), add);
  select.addEventListener("change", () => app.useAdapter(select.value || undefined));
  slider.addEventListener("input", () => app.useAdapter(app.adapter, Number(slider.value)));
  let drawn = "";
  app.on("change", () => {
    bar.hidden = !app.loaded || app.lost;
    const key = JSON.stringify([app.adapters.map(({ key, name }) => [key, name]), app.adapter]);
    if (key !== drawn) {
      drawn = key;
      select.replaceChildren(h("option", { value: "" }, "Off (base model)"),
        ...app.adapters.map((adapter) => h("option", { value: adapter.key, selected: adapter.key === app.adapter }, adapter.name)));
      select.value = app.adapter ?? "";
    }
    const some = app.adapters.length > 0;
    select.parentElement!.hidden = !some;
    const active = app.activeAdapter;
    strength.hidden = remove.hidden = !active;
    warning.textContent = active?.warning ?? "";
    slider.value = String(app.strength);
    value.textContent = `${app.strength.toFixed(2)}${app.strength === 0 ? " (base model)" : ""}`;
  });
}
