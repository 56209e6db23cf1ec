// Teaching the model something: rows in, an adapter out, with everything that happens in between to be seen.

import { app } from "../app.js";
import { byId, h, icon } from "../dom.js";
import { bytes, count, integer, seconds } from "../format.js";
import { GATES } from "../gates.js";
import { announce } from "../live.js";
import { card, toast } from "../notices.js";
import { current } from "../route.js";
import { gateChart, lossChart } from "../teach/charts.js";
import type { Plan, RowProblem, TrainSettings } from "../teach/protocol.js";
import { EXAMPLE, Lesson, type Sample, type Taught } from "../teach/state.js";
import { pick } from "./models.js";

type NumberKey = { [K in keyof TrainSettings]-?: number extends TrainSettings[K] ? K : never }[keyof TrainSettings];

/** Key, label, usual value, help, smallest, largest, step. */
const NUMBERS: [NumberKey, string, string, string, [min: string, max: string, step: string]][] = [
  ["epochs", "Times all rows are used", "5", "More for few rows; the validation loss says when it is enough", ["0.1", "1000", "any"]],
  ["steps", "Steps", "from the line above", "Optimizer steps, instead of times", ["1", "1000000", "1"]],
  ["learningRate", "Learning rate", "0.005", "The highest; it rises for a tenth of the steps, then falls along a half cosine", ["0.000001", "1", "any"]],
  ["batchTokens", "Tokens of a step", "512", "Rows side by side; longer rows are cut. Fewer need less memory", ["16", "8192", "1"]],
  ["length", "Prompts a layer", "10", "How much an adapter can hold", ["1", "256", "1"]],
  ["layers", "Layers", "all but two", "Counted from the last", ["1", "512", "1"]],
  ["validationShare", "Validation share", "0.1", "Rows that are not trained on: their loss shows overfitting", ["0", "0.9", "any"]],
  ["patience", "Patience", "no limit", "Stop after so many validations without gain", ["1", "1000", "1"]],
  ["seed", "Seed", "0", "The same seed gives the same run on the same machine", ["0", "4294967295", "1"]],
];

const STAGES = { module: "Fetching the training module", gpu: "Opening the GPU", kernels: "Checking the GPU's kernels, once for each browser", weights: "Streaming the weights to the GPU", asking: "Asking before the first step", shaders: "Compiling shaders and taking the first step" };

const lesson = new Lesson();

/** A row's place as people say it. */
const place = ({ line, row }: RowProblem) => row === undefined ? `line ${line}` : `row ${row} (line ${line})`;

/** Offers bytes as a file. */
function save(name: string, parts: Uint8Array): void {
  const url = URL.createObjectURL(new Blob([parts as BlobPart], { type: "application/octet-stream" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Sets a text only where it differs: what is read out must not be set again and again. */
function say(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** The rows and where they come from. */
function rowsPanel(): HTMLElement {
  const box = h("textarea", {
    id: "teach-rows", rows: 10, spellcheck: false, placeholder: '{"instruction": "Who are you?", "output": "I am Nova."}', aria: { describedby: "teach-rows-help" },
  });
  let typed = "";
  box.addEventListener("input", () => { typed = box.value; lesson.set({ rows: typed }); });
  const fromFile = h("p", { class: "figures" });
  lesson.on("change", () => {
    if (typed !== lesson.draft.rows) box.value = typed = lesson.draft.rows;
    fromFile.hidden = !lesson.file;
    say(fromFile, lesson.file ? `${lesson.file.name}, ${bytes(lesson.file.size)}: too long to be shown here.` : "");
  });
  const open = () => pick(".json,.jsonl,.txt", false, ([file]) => { if (file) void lesson.useFile(file); });
  const example = () => { lesson.set({ rows: EXAMPLE, name: lesson.draft.name || "nova", settings: { ...lesson.draft.settings, epochs: lesson.draft.settings.epochs ?? 20 } }); };
  return h("section", { class: "panel", aria: { labelledby: "teach-rows-title" } },
    h("h2", { id: "teach-rows-title" }, "What it should learn"),
    h("label", { htmlFor: "teach-rows" }, "Rows"),
    box, fromFile,
    h("p", { id: "teach-rows-help", class: "help" },
      "Questions with the answers you want, one JSON object a line, or a JSON array: instruction and output, chat messages, sharegpt, prompt and completion, or text. About 30 are enough to see something. They stay in this browser."),
    h("div", { class: "buttons" },
      h("button", { type: "button", on: { click: open } }, icon("file"), "Open a file"),
      h("button", { type: "button", class: "quiet", on: { click: example } }, "Try an example")));
}

function settingsPanel(): HTMLElement {
  const set = (change: TrainSettings, without?: keyof TrainSettings) => {
    const settings: TrainSettings = { ...lesson.draft.settings, ...change };
    if (without) delete settings[without];
    lesson.set({ settings });
  };
  const field = (id: string, label: string, input: HTMLElement, help: string) => {
    input.id = `teach-${id}`;
    input.setAttribute("aria-describedby", `teach-${id}-help`);
    return h("div", { class: "setting" }, h("label", { htmlFor: input.id }, label), input, h("p", { id: `teach-${id}-help`, class: "help" }, help));
  };
  const numbers = NUMBERS.map(([key, label, usual, help, [min, max, step]]) => {
    const input = h("input", { type: "number", min, max, step, placeholder: usual });
    input.addEventListener("change", () => {
      if (!input.reportValidity()) return;
      if (input.value === "") set({}, key);
      else set({ [key]: Number(input.value) });
    });
    lesson.on("change", () => { if (document.activeElement !== input) input.value = lesson.draft.settings[key]?.toString() ?? ""; });
    return field(key, label, input, help);
  });
  const name = h("input", { type: "text", maxLength: 60, placeholder: "my-adapter" });
  name.addEventListener("change", () => lesson.set({ name: name.value.replace(/[^\p{L}\p{N}._ -]/gu, "") }));
  const gate = h("select", {}, ...GATES.map(([kind, words]) => h("option", { value: kind }, words)));
  gate.addEventListener("change", () => set({ gate: gate.value }));
  const questions = h("textarea", { rows: 2, placeholder: "two validation rows" });
  questions.addEventListener("change", () => lesson.set({ questions: questions.value }));
  const prompts = h("input", { type: "checkbox", id: "teach-prompts" });
  prompts.addEventListener("change", () => set({ trainOnPrompt: prompts.checked }));
  const begin = h("input", { type: "checkbox", id: "teach-begin" });
  begin.addEventListener("change", () => { lesson.goOnWithAdapter = begin.checked; lesson.replan(); });
  const beginLabel = h("label", { class: "check" }, begin, h("span", {}));
  const draw = () => {
    if (document.activeElement !== name) name.value = lesson.draft.name;
    gate.value = lesson.draft.settings.gate ?? "paper";
    if (document.activeElement !== questions) questions.value = lesson.draft.questions;
    prompts.checked = lesson.draft.settings.trainOnPrompt ?? false;
    beginLabel.hidden = lesson.start === undefined;
    begin.checked = lesson.goOnWithAdapter && lesson.start !== undefined;
    say(beginLabel.lastElementChild as HTMLElement, ` Begin with ${app.activeAdapter?.name ?? ""}, the adapter in use`);
  };
  lesson.on("change", draw);
  app.on("change", draw);
  return h("details", { class: "panel teach-settings" }, h("summary", {}, "Settings"),
    field("name", "Name of the adapter", name, "It gets this name in the chat and as a file"),
    ...numbers,
    field("gate", "Gates", gate, "What opens an adapter; a closed gate is the base model"),
    field("questions", "Ask before, during, after", questions, "Questions of your own, one a line"),
    h("label", { class: "check" }, prompts, h("span", {}, " Learn the questions, too, not the answers alone")), beginLabel);
}

function facts(pairs: [string, string][]): HTMLElement {
  return h("dl", { class: "facts" }, ...pairs.flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
}

/** A rate as it is used, without the zeros of a computer. */
const rate = (value: number) => value >= 0.001 ? Number(value.toPrecision(2)).toString() : value.toExponential(1);

function planFacts(plan: Plan): [string, string][] {
  const { training, validation } = plan;
  const rows = (n: number) => `${integer(n)} ${n === 1 ? "row" : "rows"}`;
  const loaded = app.loaded ? `; beside it lies the chat's own copy of the model, ${bytes(app.loaded.model.fileBytes)}` : "";
  return [
    ["Rows", `${rows(plan.rows)}${plan.format ? ` (${plan.format})` : ""}: ${rows(training.rows)} to train on, ${rows(validation.rows)} for validation`],
    ["Tokens", `${integer(training.tokens)}, of which ${integer(training.trained_tokens)} are learnt; a row has ${integer(training.median_len)} (median), at most ${integer(training.max_len)}`],
    ["Adapter", `${integer(plan.parameters)} trainable parameters (${((plan.parameters / plan.modelParameters) * 100).toPrecision(2)} % of ${count(plan.modelParameters)}): ${plan.length} prompts in each of the last ${plan.layers} layers`],
    ["Steps", `${integer(plan.steps)} of up to ${integer(plan.batchTokens)} tokens (about ${Math.max(1, Math.round(plan.rowsAStep))} rows)`],
    ["Learning rate", `up to ${rate(plan.learningRate)}${plan.warmup > 0 ? ` after ${integer(plan.warmup)} ${plan.warmup === 1 ? "step" : "steps"}` : ""}; the paper's code would use ${rate(plan.officialRate)} for such steps`],
    ["GPU memory", `${bytes(plan.memoryBytes)} (${plan.memory.map(([what, n]) => `${what} ${bytes(n)}`).join(", ")})${loaded}`],
  ];
}

/** What will happen, or why nothing can; and the button that begins. */
function planPanel(): HTMLElement {
  const need = h("div", { class: "card need-model" }, h("p", {}), h("button", { type: "button", class: "primary", on: { click: () => byId("model-button").click() } }, "Choose a model"));
  const wait = h("p", { class: "figures", role: "status" });
  const failure = h("div", {});
  const about = h("div", { class: "plan" });
  const problems = h("details", { class: "problems", hidden: true });
  const begin = h("button", { type: "button", class: "primary big", id: "teach-start", on: { click: () => void lesson.begin() } }, "Teach");
  let shown: unknown;
  const draw = () => {
    const loaded = app.loaded !== undefined && !app.lost;
    const { plan } = lesson;
    element.hidden = lesson.busy || lesson.phase === "ended";
    need.hidden = loaded;
    say(need.firstElementChild as HTMLElement, app.blocked ? `${app.blocked.title}. ${app.blocked.next}` : "Load a model first: it is the one that is taught. It stays as it is; what it learns is a small file of its own.");
    const empty = lesson.draft.rows.trim() === "" && !lesson.file;
    say(wait, !loaded ? "" : lesson.preparing ? "Fetching the training module, once" : lesson.planning ? "Reading the rows" : empty ? "Paste rows, open a file or drop one: then it says here what teaching them takes." : "");
    wait.hidden = wait.textContent === "";
    begin.disabled = !loaded || !plan || lesson.planning;
    // What stood here stays until the next plan is made: typing must not make it flicker.
    if (lesson.planning || shown === (plan ?? lesson.failure)) return;
    shown = plan ?? lesson.failure;
    failure.replaceChildren(...(lesson.failure ? [card(lesson.failure, undefined)] : []));
    about.replaceChildren(...(plan ? [facts(planFacts(plan)), ...plan.notes.map((note) => h("p", { class: "note" }, `${note}.`))] : []));
    problems.hidden = !plan || plan.skipped === 0;
    if (plan && plan.skipped > 0) {
      const more = plan.skipped - plan.problems.length;
      problems.open = true;
      problems.replaceChildren(
        h("summary", {}, `${integer(plan.skipped)} ${plan.skipped === 1 ? "row is" : "rows are"} left out: ${plan.reasons.map(([reason, n]) => `${integer(n)} ${reason}`).join(", ")}`),
        h("ul", {}, ...plan.problems.map((problem) => h("li", {}, `${place(problem)}: ${problem.field ? `“${problem.field}”` : "the row"} ${problem.reason}`)),
          more > 0 ? h("li", {}, `and ${integer(more)} more`) : null));
      announce(`${plan.skipped} rows are left out.`);
    }
  };
  const element = h("section", { class: "panel", aria: { labelledby: "teach-plan-title" } },
    h("h2", { id: "teach-plan-title" }, "What it takes"), need, wait, failure, about, problems, begin);
  lesson.on("change", draw);
  app.on("change", draw);
  return element;
}

function samplesOf(question: string, answers: Sample[]): HTMLElement {
  const shown = answers.length > 3 ? [answers[0]!, answers[Math.floor(answers.length / 2)]!, answers.at(-1)!] : answers;
  return h("div", { class: "sample" }, h("h4", {}, question), h("dl", {}, ...shown.flatMap(({ step, answer, cut }) => [
    h("dt", {}, step === 0 ? "Before" : `Step ${integer(step)}`),
    h("dd", {}, answer ? `${answer}${cut ? " …" : ""}` : "(nothing)"),
  ])));
}

/** A run: how it goes, and what it left. */
function runPanel(): HTMLElement {
  const title = h("h2", { id: "teach-run-title" }, "Teaching");
  const stop = h("button", { type: "button", id: "teach-stop", title: "Stop after this step; the adapter is kept (Esc)", on: { click: () => lesson.stop() } }, icon("stop"), "Stop");
  const bar = h("progress", { max: 1, aria: { label: "Steps done" } });
  const stage = h("span", { class: "stage", role: "status" });
  const figures = h("span", { class: "figures" });
  const loss = h("figure", {});
  const gates = h("figure", {});
  const samples = h("div", { class: "samples", aria: { label: "Sample answers" }, role: "region" });
  const failure = h("div", {});
  const kept = h("div", { class: "card kept" });
  const legend = h("p", { class: "legend" }, h("span", { class: "key train" }, "training"), h("span", { class: "key validation" }, "validation"), h("span", {}, "loss in nats per token, by step"));
  const pictures = h("div", { class: "pictures" },
    h("div", {}, h("h3", {}, "Loss"), loss, legend),
    h("div", {}, h("h3", {}, "Gates by layer and head"), gates, h("p", { class: "legend" }, h("span", { class: "key positive" }, "positive"), h("span", { class: "key negative" }, "negative"), h("span", {}, "the fuller, the further open"))));
  let drawn: unknown[] = [];
  let keptKey = "";
  const draw = () => {
    const { phase, plan, step, points } = lesson;
    element.hidden = phase === "ready";
    if (element.hidden || !plan) return;
    const { steps } = plan;
    const running = phase === "starting" || phase === "teaching" || phase === "stopping";
    stop.hidden = !running;
    stop.disabled = phase === "stopping";
    if (phase === "starting" && lesson.stage && lesson.stage.total > 1) bar.value = lesson.stage.done / lesson.stage.total;
    else if (phase === "starting") bar.removeAttribute("value");
    else bar.value = step / steps;
    const over = lesson.reason === "early" ? `Stopped early after ${integer(step)} steps: the validation loss no longer fell`
      : lesson.reason === "failed" ? `Broke off after ${integer(step)} steps`
      : lesson.reason === "stopped" ? `Stopped after ${integer(step)} of ${integer(steps)} steps` : `Done: ${integer(step)} steps`;
    say(stage, phase === "starting" ? STAGES[lesson.stage?.stage ?? "module"] : phase === "stopping" ? "Finishing this step" : phase === "stopped" ? `Stopped after step ${integer(step)} of ${integer(steps)}` : phase === "ended" ? over : lesson.validating ? `Validating: ${integer(lesson.validating.done)} of ${integer(lesson.validating.total)} rows` : "Learning");
    const train = points.findLast((point) => point.train !== undefined)?.train;
    say(figures, phase === "starting" ? "" : [
      running ? `step ${integer(step)} of ${integer(steps)}` : "",
      train === undefined ? "" : `loss ${train.toFixed(3)}`,
      running && lesson.learningRate > 0 ? `learning rate ${rate(lesson.learningRate)}` : "",
      lesson.speed ? `${integer(Math.round(lesson.speed))} tokens/s` : "",
      running && lesson.left !== undefined && lesson.left > 1 ? `about ${seconds(lesson.left)} left` : "",
      lesson.skipped > 0 ? `${integer(lesson.skipped)} steps left out, their numbers were not finite` : "",
    ].filter(Boolean).join(" · "));
    pictures.hidden = points.length === 0;
    if (drawn[0] !== points.length || drawn[1] !== points) loss.replaceChildren(lossChart(points, steps));
    if (drawn[2] !== lesson.gates) gates.replaceChildren(gateChart(lesson.gates, plan.firstLayer));
    const answers = [...lesson.samples.values()].reduce((sum, list) => sum + list.length, 0);
    if (drawn[3] !== answers) samples.replaceChildren(...(answers > 0 ? [h("h3", {}, "What it answers"), ...[...lesson.samples].map(([question, list]) => samplesOf(question, list))] : []));
    if (drawn[4] !== lesson.failure) failure.replaceChildren(...(lesson.failure ? [card(lesson.failure, undefined)] : []));
    drawn = [points.length, points, lesson.gates, answers, lesson.failure];
    drawKept();
  };
  const drawKept = () => {
    const { phase, result, last, best } = lesson;
    const over = phase === "stopped" || phase === "ended";
    kept.hidden = !over;
    const key = JSON.stringify([phase, result?.step, last?.step, best?.step, lesson.name]);
    if (!over || key === keptKey) { keptKey = over ? keptKey : ""; return; }
    keptKey = key;
    const goOn = phase === "stopped" ? [
      h("button", { type: "button", class: "primary", on: { click: () => lesson.resume() } }, "Go on"),
      h("button", { type: "button", on: { click: () => lesson.finish() } }, "End this training"),
    ] : [h("button", { type: "button", on: { click: () => lesson.finish() } }, "Back to the rows")];
    const offers: [string, Taught][] = [];
    if (result) offers.push([best && result.step === best.step ? `after step ${integer(result.step)}, validation loss ${best.loss.toFixed(2)}, the lowest` : `after step ${integer(result.step)}`, result]);
    if (last && result && last.step !== result.step) offers.push([`after the last step, ${integer(last.step)}`, last]);
    if (phase === "stopped" && best && best.step !== result?.step) offers.push([`after step ${integer(best.step)}, validation loss ${best.loss.toFixed(2)}, the lowest`, best]);
    kept.replaceChildren(...offers.map(([words, taught], index) => offer(words, taught, index === 0)),
      offers.length === 0 ? h("p", {}, "Nothing was learnt yet: there is no adapter to keep.") : "",
      h("div", { class: "buttons" }, ...goOn));
  };
  const element = h("section", { class: "panel run", hidden: true, aria: { labelledby: "teach-run-title" } },
    h("div", { class: "progress-head" }, title, stop),
    h("div", { class: "progress" }, bar, h("div", { class: "progress-foot" }, stage, figures)),
    failure, kept, pictures, samples);
  lesson.on("change", draw);
  return element;
}

/** An adapter and what can be done with it. */
function offer(words: string, taught: Taught, first: boolean): HTMLElement {
  const fail = (error: unknown) => app.fail(error);
  const chat = async () => {
    try {
      await lesson.useInChat(taught);
      toast(`Adapter ${lesson.name} is on in the chat`);
    } catch (error) {
      fail(error);
    }
  };
  const peft = async () => {
    try {
      save(`${lesson.name}-peft.zip`, await lesson.toPeft(taught));
    } catch (error) {
      fail(error);
    }
  };
  return h("div", { class: "offer" },
    h("p", {}, h("strong", {}, lesson.name), ` ${words}, ${bytes(taught.bytes.length)}`),
    h("div", { class: "buttons" },
      h("button", { type: "button", class: first && lesson.phase === "ended" ? "primary" : "", on: { click: () => void chat() } }, icon("check"), "Use in chat"),
      h("button", { type: "button", on: { click: () => save(`${lesson.name}.safetensors`, taught.bytes) } }, icon("download"), "Download"),
      h("button", { type: "button", on: { click: () => void peft() } }, icon("download"), "Download for PEFT")));
}

/** Fills the view; once, when it is first shown. */
export async function startTeach(): Promise<Lesson> {
  await lesson.restore();
  const inputs = h("fieldset", { class: "inputs", aria: { label: "Rows and settings" } }, rowsPanel(), settingsPanel());
  byId("view-teach").append(h("div", { class: "teach", tabIndex: 0, role: "region", aria: { label: "Lesson" } },
    h("div", { class: "teach-columns" }, inputs, h("div", { class: "teach-main" }, planPanel(), runPanel()))));
  lesson.on("change", () => { inputs.disabled = lesson.busy; });
  lesson.on("say", announce);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && current().id === "teach" && !document.querySelector("dialog[open]")) lesson.stop();
  });
  addEventListener("beforeunload", (event) => { if (lesson.busy) event.preventDefault(); });
  // Another model, or an adapter to begin with: the plan is another one.
  let seen: unknown[] = [app.source, app.loaded, app.adapter];
  app.on("change", () => {
    const now = [app.source, app.loaded, lesson.goOnWithAdapter ? app.adapter : undefined];
    if (now.some((value, index) => value !== seen[index])) { seen = now; if (!lesson.busy && lesson.phase === "ready") lesson.replan(0); }
    else lesson.changed();
  });
  // Not in the next frame: until then a button could be pressed that has nothing to begin.
  lesson.draw();
  void lesson.prepare();
  return lesson;
}
