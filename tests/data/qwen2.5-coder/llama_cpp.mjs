// What llama.cpp makes of Qwen2.5-Coder-0.5B-Instruct Q4_K_M (`cargo xtask model --qwen`): token ids, the 20 likeliest next
// ids with their log-probabilities, and greedy text. `make.py` adds logits in f32.
//
//   node llama_cpp.mjs --modules DIR --model FILE > llama_cpp.json
//
// DIR holds node-llama-cpp@3.22.1 and @node-llama-cpp/linux-x64@3.22.1 (npm), whose prebuilt library is used as it is.
// llama.cpp multiplies activations of 8 bits: its log-probabilities are off by some hundredths.
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({ options: { modules: { type: "string" }, model: { type: "string" } } });
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(join(args.modules, "node_modules/node-llama-cpp/dist/index.js")).href);

const chat = (system, user) => `<|im_start|>system\n${system}<|im_end|>\n<|im_start|>user\n${user}<|im_end|>\n<|im_start|>assistant\n`;
const QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
const cases = [
    ["chat", chat(QWEN, "What is the capital of France? One word.")],
    ["code", "def fibonacci(n):\n    \"\"\"The n-th Fibonacci number.\"\"\"\n"],
    ["chat-code", chat(QWEN, "Write a Rust function that adds two i32.")],
    ["prose", "The quick brown fox jumps over the lazy dog. In 1969, humans first"],
    ["chinese", chat(QWEN, "你好！用一句话介绍一下长城。")],
];
// What the pre-tokenizer has to split: digits one by one, contractions of any case, white space, marks, other scripts, markup.
const texts = [
    "", " ", "  two", "a  b   c", "\n\n\n  x\n", "\t\ttabs", "1234567890 12.5e-3", "don't DON'T we'Ll I'M", "naïve café — “quotes”",
    "Привет, мир! 日本語のテキスト 한국어", "🙂👩‍👩‍👧‍👦 emoji", "if (x != y) { return x->z; } // done", "snake_case camelCase SCREAMING_CASE",
    "e\u0301 vs \u00e9", "\u00a0nbsp\u2003em", "<|im_start|>user\nhi<|im_end|>", "<|endoftext|><tool_call>{}</tool_call>", "\r\nwindows\r\n",
    "x".repeat(70), "    four\n        eight", "C++20's std::ranges 3.14159", "٣٤٥ ½ ² Ⅻ", "مرحبا بالعالم", "a\u200bb", "\u0000nul",
];

const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: args.model });
const context = await model.createContext({ contextSize: 512, batchSize: 256, sequences: 1, threads: 1 });
const sequence = context.getSequence();
const options = { probabilities: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } };

async function next(ids) {
    const out = await sequence.controlledEvaluate(ids.map((id, index) => (index + 1 < ids.length ? id : [id, { generateNext: options }])));
    const all = [...out[ids.length - 1].next.probabilities].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    return all.slice(0, 20).map(([id, p]) => [id, Number(Math.log(p).toFixed(4))]);
}

const out = { cases: [], texts: [] };
for (const [name, text] of cases) {
    await sequence.clearHistory();
    const ids = model.tokenize(text, true);
    const top = await next(ids);
    const greedy = [];
    for (let [[id]] = top; greedy.length < 24; [[id]] = await next([id])) {
        greedy.push(id);
        if (model.isEogToken(id)) break;
    }
    console.error(name);
    out.cases.push({ name, text, ids, top, greedy, greedy_text: model.detokenize(greedy, true) });
}
for (const text of texts) out.texts.push({ text, ids: model.tokenize(text, false), special: model.tokenize(text, true) });
console.log(JSON.stringify(out, null, 1));
process.exit(0);
