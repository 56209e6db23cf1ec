// Two pictures of a run, drawn as SVG elements: losses over steps, gates by layer and head.

import type { LossPoint } from "./state.js";

const NS = "http://www.w3.org/2000/svg";
/** More points than this are thinned out: a screen has no more columns. */
const MAX_POINTS = 400;
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [440, 200, 44, 14, 12, 28];

function svg<K extends keyof SVGElementTagNameMap>(tag: K, attributes: Record<string, string | number>, text?: string): SVGElementTagNameMap[K] {
  const element = document.createElementNS(NS, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Round numbers that cut `low` to `high` into about `n` parts. */
function ticks(low: number, high: number, n: number): number[] {
  const rough = Math.max(high - low, 1e-9) / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!;
  const found: number[] = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) found.push(Math.round(at / step) * step);
  return found;
}

const label = (n: number) => Number(n.toPrecision(3)).toString();

/** Losses so far; `steps` is where the run will end. */
export function lossChart(points: LossPoint[], steps: number): SVGSVGElement {
  const series = (key: "train" | "validation") => {
    const all = points.flatMap(({ step, [key]: loss }) => loss === undefined ? [] : [{ step, loss }]);
    const stride = Math.ceil(all.length / MAX_POINTS);
    return all.filter((_, index) => index % stride === 0 || index === all.length - 1);
  };
  const [train, validation] = [series("train"), series("validation")];
  const losses = [...train, ...validation].map(({ loss }) => loss);
  const [least, most] = losses.length > 0 ? [Math.min(...losses), Math.max(...losses)] : [0, 1];
  const margin = Math.max((most - least) * 0.08, 0.02);
  const [low, high] = [Math.max(0, least - margin), most + margin];
  const x = (step: number) => LEFT + (step / Math.max(steps, 1)) * (WIDTH - LEFT - RIGHT);
  const y = (loss: number) => TOP + ((high - loss) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const said = ([first, ...rest]: { loss: number }[], what: string) =>
    first ? `${what} loss ${first.loss.toFixed(2)}${rest.length > 0 ? ` to ${rest.at(-1)!.loss.toFixed(2)}` : ""}` : "";
  const words = [said(train, "training"), said(validation, "validation")].filter(Boolean).join(", ");
  const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": words ? `Losses over ${steps} steps: ${words}` : "No loss yet" });
  for (const tick of ticks(low, high, 4)) {
    chart.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }),
      svg("text", { class: "tick", x: LEFT - 7, y: y(tick) + 4, "text-anchor": "end" }, label(tick)));
  }
  for (const tick of ticks(0, steps, 6).filter(Number.isInteger)) {
    chart.append(svg("text", { class: "tick", x: x(tick), y: HEIGHT - 9, "text-anchor": "middle" }, label(tick)));
  }
  const line = (values: { step: number; loss: number }[], kind: string) => {
    if (values.length > 1) chart.append(svg("polyline", { class: `line ${kind}`, points: values.map(({ step, loss }) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(" ") }));
    const marks = kind === "validation" || values.length === 1 ? values : [];
    for (const { step, loss } of marks) chart.append(svg("circle", { class: `mark ${kind}`, cx: x(step), cy: y(loss), r: 3.5 }));
  };
  line(train, "train");
  line(validation, "validation");
  return chart;
}

/** Gates, a row a layer and a column a head: the stronger the fuller, negative ones in another colour. */
export function gateChart(gates: number[][], firstLayer: number): SVGSVGElement {
  const heads = Math.max(1, ...gates.map((layer) => layer.length));
  const [cell, gap, left] = [Math.min(30, 560 / heads), 2, 44];
  const height = Math.min(14, 330 / Math.max(gates.length, 1));
  let strongest = { gate: 0, layer: firstLayer, head: 0 };
  gates.forEach((layer, index) => layer.forEach((gate, head) => {
    if (Math.abs(gate) > Math.abs(strongest.gate)) strongest = { gate, layer: firstLayer + index, head };
  }));
  const most = Math.abs(strongest.gate);
  const where = heads > 1 ? `layer ${strongest.layer}, head ${strongest.head}` : `layer ${strongest.layer}`;
  const words = most > 0 ? `Gates of ${gates.length} layers; the strongest is ${strongest.gate.toPrecision(2)} in ${where}` : `Gates of ${gates.length} layers, all closed`;
  const total = gates.length * height + 4;
  const width = left + heads * cell + 4;
  const chart = svg("svg", { viewBox: `0 0 ${width} ${total}`, width, class: "gates", role: "img", "aria-label": words });
  const every = Math.max(1, Math.ceil(12 / height));
  gates.forEach((layer, index) => {
    if (index % every === 0) chart.append(svg("text", { class: "tick", x: left - 7, y: index * height + height / 2 + 4, "text-anchor": "end" }, String(firstLayer + index)));
    layer.forEach((gate, head) => {
      chart.append(svg("rect", {
        class: gate < 0 ? "gate negative" : "gate", x: left + head * cell, y: index * height, width: cell - gap, height: height - gap, rx: 2,
        "fill-opacity": most > 0 ? (0.06 + 0.94 * Math.abs(gate) / most).toFixed(3) : 0.06,
      }));
    });
  });
  return chart;
}
