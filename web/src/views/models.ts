// Choosing a model: what is kept here, what is on offer, a file of the reader's, an address; and how a load goes on.

import { app, plain, type Loading } from "../app.js";
import { branch } from "../chats.js";
import { byId, h, icon, iconButton } from "../dom.js";
import { card } from "../notices.js";
import { bytes, count, seconds } from "../format.js";
import type { Offer } from "../offers.js";
import type { StoredModel } from "../store/client.js";
import { store } from "../workers.js";
import { examples } from "./chat.js";

const STAGES: [Loading["stage"], string][] = [
  ["transfer", "Fetching the file"],
  ["check", "Checking the file"],
  ["header", "Reading its header"],
  ["gpu", "Opening the GPU"],
  ["kernels", "Checking the GPU's kernels"],
  ["weights", "Streaming the weights to the GPU"],
  ["shaders", "Compiling shaders"],
];

/** Picks a file with the system's dialog. */
export function pick(accept: string, multiple: boolean, chosen: (files: File[]) => void): void {
  const input = h("input", { type: "file", accept, multiple });
  input.addEventListener("change", () => chosen([...(input.files ?? [])]));
  input.click();
}

function progress(): HTMLElement {
  const bar = h("progress", { max: 1, aria: { label: "Progress" } });
  const title = h("strong", {});
  const stage = h("span", { class: "stage", role: "status" });
  const figures = h("span", { class: "figures" });
  const element = h("div", { class: "progress card" },
    h("div", { class: "progress-head" }, title,
      h("button", { type: "button", on: { click: () => app.loading?.abort.abort() } }, "Cancel")),
    bar, h("div", { class: "progress-foot" }, stage, figures));
  let shownStage: string | undefined;
  const draw = () => {
    const { loading } = app;
    element.hidden = !loading;
    if (!loading) { shownStage = undefined; return; }
    title.textContent = plain(loading.name);
    const words = STAGES.find(([name]) => name === loading.stage)?.[1] ?? "Loading";
    // Set only when it changes: it is read out.
    if (words !== shownStage) stage.textContent = shownStage = words;
    const sized = loading.total > 1;
    if (sized) bar.value = loading.done / loading.total;
    else bar.removeAttribute("value");
    const left = loading.speed && loading.speed > 0 ? (loading.total - loading.done) / loading.speed : undefined;
    figures.textContent = !sized ? "" : [
      `${bytes(loading.done)} of ${bytes(loading.total)}`,
      loading.speed ? `${bytes(loading.speed)}/s` : "",
      left !== undefined && left > 0.5 ? `${seconds(left)} left` : "",
    ].filter(Boolean).join(" · ");
  };
  app.on("change", draw);
  draw();
  return element;
}

function storedCard(model: StoredModel): HTMLElement {
  const active = app.source?.kind === "stored" && app.source.model.key === model.key && app.loaded !== undefined;
  return h("li", { class: "card model-card" },
    h("div", {}, h("strong", {}, plain(model.name)), h("span", { class: "figures" }, `${bytes(model.bytes)}, kept in this browser`)),
    active ? h("span", { class: "badge" }, "In use") : h("button", { type: "button", class: "primary", disabled: busy(), on: { click: () => void app.open({ kind: "stored", model }) } }, "Load"),
    iconButton("trash", `Delete ${model.name}`, () => void app.removeModel(model)));
}

function offerCard(offer: Offer): HTMLElement {
  return h("li", { class: "card model-card" },
    h("div", {}, h("strong", {}, plain(offer.name)),
      h("span", { class: "figures" }, [offer.about, offer.licence].filter(Boolean).join(" · "))),
    h("button", { type: "button", class: "primary", disabled: busy(), on: { click: () => void app.download(offer) } },
      icon("download"), `Load (${bytes(offer.bytes)})`));
}

const busy = () => app.loading !== undefined || app.blocked !== undefined;

/** What is on offer and what is kept, with buttons to load it. */
function list(): HTMLElement {
  const element = h("ul", { class: "model-list" });
  let drawn = "";
  const draw = () => {
    const offers = app.offers.filter((offer) => !app.storedOffer(offer));
    const key = JSON.stringify([app.stored, offers, busy(), app.loaded !== undefined && app.source?.kind === "stored" ? app.source.model.key : ""]);
    if (key === drawn) return;
    drawn = key;
    element.replaceChildren(...app.stored.map(storedCard), ...offers.map(offerCard));
    element.hidden = element.childElementCount === 0 || app.loading !== undefined;
  };
  app.on("change", draw);
  draw();
  return element;
}

/** Hidden while a model is being loaded: one at a time. */
function ownFile(): HTMLElement {
  const open = (keep: boolean) => () => pick(".gguf", false, ([file]) => {
    if (file) void (keep ? app.keep(file) : app.open({ kind: "file", file }));
  });
  const element = h("div", { class: "card own-file" }, icon("file"),
    h("div", {}, h("strong", {}, "Your own .gguf file"),
      h("span", { class: "figures" }, "Drop it anywhere on the page. It is read in slices, not copied.")),
    h("button", { type: "button", on: { click: open(false) } }, "Open a file"),
    h("button", { type: "button", class: "quiet", on: { click: open(true) } }, "Open and keep"));
  app.on("change", () => { element.hidden = app.loading !== undefined; });
  return element;
}

function fromAddress(): HTMLElement {
  const field = h("input", { type: "url", placeholder: "https://huggingface.co/…/model.gguf", autocomplete: "off", aria: { label: "Address of a .gguf file" } });
  const answer = h("div", { class: "address-answer", role: "status" });
  const ask = async () => {
    const url = field.value.trim();
    if (!url) return;
    answer.replaceChildren("Asking for its size…");
    try {
      const { bytes: size } = await store.size(url);
      const name = decodeURIComponent(new URL(url, location.href).pathname.split("/").at(-1) || "model.gguf");
      const offer: Offer = { name, url, bytes: size };
      answer.replaceChildren(`${name}: ${size ? bytes(size) : "size unknown"} `,
        h("button", { type: "button", class: "primary", on: { click: () => { answer.replaceChildren(); void app.download(offer); } } }, size ? `Load (${bytes(size)})` : "Load"));
    } catch (error) {
      answer.replaceChildren();
      app.fail(error);
    }
  };
  field.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); void ask(); } });
  return h("details", { class: "address" }, h("summary", {}, "Load from an address"),
    h("div", { class: "address-row" }, field, h("button", { type: "button", on: { click: () => void ask() } }, "Look it up")), answer);
}

function aboutModel(): HTMLElement {
  const element = h("dl", { class: "facts" });
  const draw = () => {
    const { loaded } = app;
    element.hidden = !loaded;
    if (!loaded) return;
    const { model, gpu } = loaded;
    const facts: [string, string][] = [
      ["Model", model.name],
      ["Weights", `${count(model.parameters)} parameters, ${model.quantization}, ${bytes(model.fileBytes)}`],
      ["Shape", `${model.layers} layers of ${model.channels} channels, ${model.heads} heads`],
      ["Context", `${loaded.context.toLocaleString("en-US")} of ${model.context.toLocaleString("en-US")} tokens`],
      ["GPU memory", `about ${bytes(loaded.memoryBytes)} when the context is full`],
      ["Licence", model.licence ?? "not stated in the file"],
      ["GPU", `${gpu.name || "not named by the browser"}, ${gpu.tier}`],
    ];
    element.replaceChildren(...facts.flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
  };
  app.on("change", draw);
  draw();
  return element;
}

function storage(): HTMLElement {
  const text = h("span", { class: "figures" });
  const draw = async () => {
    const { usage = 0, quota = 0 } = await navigator.storage.estimate();
    const kept = await navigator.storage.persisted();
    text.textContent = `${bytes(usage)} of ${bytes(quota)} used${kept ? "" : ". The browser may delete this when it runs short of space"}`;
  };
  const dialog = byId<HTMLDialogElement>("models-dialog");
  app.on("change", () => { if (dialog.open && !app.loading) void draw(); });
  return h("p", { class: "storage" }, text);
}

/** Above the message box of a chat whose model is not loaded, as after a reload: the last one with one press. */
function modelBar(): HTMLElement {
  const text = h("span", { class: "grow" });
  const load = h("button", { type: "button", class: "primary", on: { click: () => { if (app.last) void app.open({ kind: "stored", model: app.last }); } } }, "Load it");
  const other = h("button", { type: "button", on: { click: () => byId("model-button").click() } }, "Choose a model");
  const bar = h("div", { class: "card model-bar" }, text, load, other);
  const element = h("div", {}, progress(), bar);
  const draw = () => {
    // Asked of the state, not of what another view shows: that one may not have drawn yet.
    element.hidden = branch(app.chat).length === 0;
    bar.hidden = app.loading !== undefined || app.blocked !== undefined || app.lost || app.loaded !== undefined;
    load.hidden = !app.last;
    text.textContent = app.last ? `${plain(app.last.name)} is not loaded.` : "No model is loaded.";
  };
  app.on("change", draw);
  return element;
}

export function startModels(): void {
  byId("composer").prepend(modelBar());
  const dialog = byId<HTMLDialogElement>("models-dialog");
  byId("models-body").append(progress(), aboutModel(), list(), ownFile(), fromAddress(), storage());
  byId("model-button").addEventListener("click", () => { dialog.showModal(); app.changed(); });

  const choose = h("div", { class: "choose" },
    h("h2", {}, "Chat with a model on your own GPU"),
    h("p", {}, "Pick a model. It is fetched once, kept in this browser and runs here, in this tab: no account, no server, no network afterwards."),
    progress(), list(), ownFile());
  const ready = examples();
  const blocked = h("div", { class: "blocked" });
  byId("welcome").append(blocked, choose, ready);

  app.on("change", () => {
    const usable = app.loaded !== undefined && !app.lost;
    choose.hidden = usable || app.blocked !== undefined;
    ready.hidden = !usable;
    const shown = (blocked.firstElementChild as HTMLElement | null)?.dataset["code"];
    if (shown !== app.blocked?.code) blocked.replaceChildren(...(app.blocked ? [card(app.blocked, () => location.reload())] : []));
    const name = app.loading ? `Loading ${plain(app.loading.name)}` : app.lost ? "GPU lost" : app.modelName || "Choose a model";
    byId("model-name").textContent = name;
    const button = byId("model-button");
    button.dataset["state"] = app.loading ? "loading" : usable ? "ready" : "none";
    button.title = usable && app.loaded ? `${app.loaded.model.quantization}, ${bytes(app.loaded.model.fileBytes)}` : "Models";
    // A dialog over a model that has just become ready would be in the way.
    if (usable && !app.loading && dialog.open && dialog.dataset["loading"] === "true") dialog.close();
    dialog.dataset["loading"] = String(app.loading !== undefined);
  });
}
