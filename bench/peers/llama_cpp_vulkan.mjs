// llama.cpp's Vulkan backend as a peer: the same GGUF, the same driver, the same token counts.
//
// It is driven a repetition at a time, so that ours and theirs can take turns: it prints `{"ready":true}` when the model
// is loaded and the pipelines are compiled; then every line on standard input runs one repetition and prints one JSON
// line; the end of input ends the process. `cargo xtask bench --peers` does that.
//
//   node bench/peers/llama_cpp_vulkan.mjs --modules DIR --model FILE [--prefill 256] [--decode 32]
//
// DIR holds `node-llama-cpp` and `@node-llama-cpp/linux-x64-vulkan` (npm), whose prebuilt libraries are used as they
// are: nothing is compiled or fetched. Without GGML_VK_VISIBLE_DEVICES=0 llama.cpp leaves out devices of type CPU
// (lavapipe is one) and computes on the CPU in silence, so the device and the offloaded layers are read from its own
// log, and no figure is given where they are not what the name of this file says.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({
    options: {
        modules: { type: "string" },
        model: { type: "string" },
        prefill: { type: "string", default: "256" },
        decode: { type: "string", default: "32" },
    },
});
const nPrefill = Number(args.prefill);
const nDecode = Number(args.decode);
if (!args.modules || !args.model || !(nPrefill > 0) || !(nDecode > 0)) {
    console.error("usage: llama_cpp_vulkan.mjs --modules DIR --model FILE [--prefill N] [--decode N]");
    process.exit(2);
}

process.env.GGML_VK_VISIBLE_DEVICES ??= "0";
const entry = join(args.modules, "node_modules", "node-llama-cpp", "dist", "index.js");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href);

/** llama.cpp's own log: the only witness of where the layers went. */
const log = [];
const logger = (_level, message) => log.push(message);
const refuse = (why) => {
    console.error(`llama.cpp did not run on the GPU: ${why}\n${log.slice(-40).join("\n")}`);
    process.exit(1);
};

const llama = await getLlama({ gpu: "vulkan", build: "never", skipDownload: true, logLevel: LlamaLogLevel.debug, logger });
const [device] = await llama.getGpuDeviceNames();
if (llama.gpu !== "vulkan" || !device) refuse(`backend ${llama.gpu}, device ${device}`);

const loadStart = performance.now();
const model = await llama.loadModel({ modelPath: args.model, gpuLayers: "max" });
const context = await model.createContext({
    contextSize: nPrefill + nDecode + 8,
    batchSize: nPrefill,
    sequences: 1,
});
const load_s = (performance.now() - loadStart) / 1000;
const sequence = context.getSequence();

const offloaded = log.join("\n").match(/offloaded (\d+)\/(\d+) layers to GPU/);
if (!offloaded || offloaded[1] !== offloaded[2]) refuse(`offloaded layers: ${offloaded?.[0] ?? "no such line"}`);

// Ids spread over the first 30,000, which every LLaMA vocabulary has, by a fixed generator: what they say does not
// change what they cost.
let state = 1;
const ids = Array.from({ length: nPrefill }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 100 + (state % 29900);
});

async function repetition(decodeCount) {
    await sequence.clearHistory();
    const prefillStart = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(ids);
    const prefill_s = (performance.now() - prefillStart) / 1000;

    // From an empty context, as llama-bench and `adapter-cli bench` do.
    await sequence.clearHistory();
    let count = 0;
    const decodeStart = performance.now();
    for await (const _ of sequence.evaluate([ids[0]], { temperature: 0, yieldEogToken: true })) {
        count += 1;
        if (count === decodeCount) break;
    }
    const decode_s = (performance.now() - decodeStart) / 1000;
    return { prefill_tps: nPrefill / prefill_s, decode_tps: count / decode_s, decode_tokens: count };
}

await repetition(2); // pipelines are compiled on first use
const packageOf = (...path) => JSON.parse(readFileSync(join(args.modules, "node_modules", ...path), "utf8"));
const version = `node-llama-cpp ${packageOf("node-llama-cpp", "package.json").version}, llama.cpp ${packageOf("node-llama-cpp", "llama", "llama.cpp.info.json").tag}`;
console.log(JSON.stringify({ ready: true }));
for await (const _ of createInterface({ input: process.stdin })) {
    const figures = await repetition(nDecode);
    const peak_rss_mb = process.resourceUsage().maxRSS / 1024;
    console.log(JSON.stringify({ peer: "llama.cpp Vulkan", load_s, ...figures, peak_rss_mb, device, layers: offloaded[0], version }));
}
process.exit(0);
