"""Golden logits of Qwen2.5-Coder-0.5B-Instruct Q4_K_M (`cargo xtask model --qwen`): what llama.cpp said, and float32 on the CPU
through transformers.

    python make.py --gguf FILE --llama-cpp llama_cpp.json --out golden.json

llama_cpp.json comes from `llama_cpp.mjs`: ids of texts, and for each case its ids, the 20 likeliest next ids with llama.cpp's
log-probabilities, and its greedy ids and text. This adds to each case: f32_top (ids and logits of the 20 largest at the last
position), mean_nll over the given ids, and for each greedy id the margin between the two likeliest (smallest first for whoever
compares greedy ids).
needs: torch, transformers, gguf.
"""
import argparse, json, os
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from transformers import AutoModelForCausalLM

ap = argparse.ArgumentParser(); ap.add_argument("--gguf", required=True); ap.add_argument("--llama-cpp", required=True)
ap.add_argument("--out", required=True); a = ap.parse_args()
folder, name = os.path.split(os.path.abspath(a.gguf))
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
golden = json.load(open(a.llama_cpp))
for case in golden["cases"]:
    ids = case["ids"] + case["greedy"]
    with torch.no_grad(): logits = model(torch.tensor([ids])).logits[0].double()
    n = len(case["ids"])
    nll = -torch.log_softmax(logits[:n - 1], -1)[torch.arange(n - 1), torch.tensor(ids[1:n])]
    top = logits[n - 1].topk(20)
    two = logits[n - 1:-1].topk(2)
    case["f32_top"] = [[int(i), round(float(v), 4)] for v, i in zip(top.values, top.indices)]
    case["mean_nll"] = round(float(nll.mean()), 6)
    case["margins"] = [round(float(m), 4) for m in two.values[:, 0] - two.values[:, 1]]
    agree = [int(i) for i in two.indices[:, 0]] == case["greedy"]
    print(case["name"], n, case["mean_nll"], "greedy", "equal" if agree else "other", min(case["margins"]))
json.dump(golden, open(a.out, "w"), indent=0, ensure_ascii=False)
