"""PyTorch checkpoints with adapters, as the programs that train them lay them out, saved by torch.save.

    python make.py

needs: torch (these were made with 1.13, the version of the method's year), and tiny-llama/ beside this folder.

official.pth     what the paper's extract_adapter_from_checkpoint.py writes: prompts in f32, gates of all layers, the
                 untrained ones zeros in f16; the numbers are tiny-llama/adapter-paper
checkpoint.pth   a training checkpoint of the paper's code: the same under "model" in f16, with weights of a model (cut to a
                 few numbers), an optimizer, a scaler and the arguments
lit-llama.pth    what lit-llama writes; the numbers are tiny-llama/adapter-linear
lit-llama-old.pth  its first checkpoints, a gate a layer, in bf16; the numbers are tiny-llama/adapter-peft
refused/         what must be refused: other methods, damaged and hostile files, and a pickle that calls os.system
"""
import argparse, json, os, struct
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "..", "tiny-llama")
N = 4


def read(name):                                         # safetensors of f32, without its library
    data = open(os.path.join(TINY, name), "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    body = bytearray(data[8 + size:])
    return {key: torch.frombuffer(body, dtype=torch.float32, count=(t["data_offsets"][1] - t["data_offsets"][0]) // 4,
                                  offset=t["data_offsets"][0]).reshape(t["shape"]).clone() for key, t in header.items()}


def save(name, thing, **options):
    torch.save(thing, os.path.join(HERE, name), **options)


def official(adapter, dtype):
    prompts, gates = adapter["prompts"], adapter["gates"]
    layers, heads = gates.shape
    out = {"adapter_query.weight": prompts.reshape(-1, prompts.shape[-1]).to(dtype)}
    for i in range(N):
        at = i - (N - layers)
        gate = torch.zeros(heads, dtype=torch.float16) if at < 0 else gates[at].to(dtype)
        out[f"layers.{i}.attention.gate"] = gate.clone().reshape(1, heads, 1, 1)
    return out


def lit(adapter, shape, dtype=torch.float32):
    out = {}
    for at, (prompt, gate) in enumerate(zip(adapter["prompts"], adapter["gates"])):
        i = N - len(adapter["prompts"]) + at
        out[f"transformer.h.{i}.attn.gating_factor"] = gate.clone().reshape(shape).to(dtype)
        out[f"transformer.h.{i}.attn.adapter_wte.weight"] = prompt.clone().to(dtype)
    return out


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch this-pickle-was-run",)


paper, linear, peft = (read(f"adapter-{kind}.safetensors") for kind in ("paper", "linear", "peft"))
save("official.pth", official(paper, torch.float32))
model = official(paper, torch.float16)
for name in ("tok_embeddings.weight", "norm.weight", "output.weight", "rope.freqs"):
    model[name] = torch.ones(2, dtype=torch.float16)
for i in range(N):
    for part in ("attention.wq", "attention.wk", "attention.wv", "attention.wo", "feed_forward.w1", "feed_forward.w2",
                 "feed_forward.w3", "attention_norm", "ffn_norm"):
        model[f"layers.{i}.{part}.weight"] = torch.ones(2, dtype=torch.float16)
weight = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.AdamW([weight])
weight.grad = torch.ones(2)
optimizer.step()
save("checkpoint.pth", {"model": model, "optimizer": optimizer.state_dict(), "epoch": 4,
                        "scaler": {"scale": 65536.0, "growth_tracker": 0}, "args": argparse.Namespace(blr=9e-3)})
save("lit-llama.pth", lit(linear, (1, 4, 1, 1)))
save("lit-llama-old.pth", lit(peft, (1,), torch.bfloat16))

# Small ones from here on: 8 channels, 2 heads.
small = lambda layers=3, length=10: {"prompts": torch.full((layers, length, 8), 0.5), "gates": torch.full((layers, 2), 0.25)}
good = lambda: official(small(), torch.float32)
made = {}
made["litgpt"] = {"model": lit(small(), (1, 1, 2, 1))}
made["litgpt-flat"] = lit(small(), (1, 1, 2, 1))
made["v2-multimodal"] = {"model": {"llama.layers.2.attention.gate": torch.ones(1, 2, 1, 1), "llama.norm.weight": torch.ones(8),
                                   "adapter_query.weight": torch.ones(30, 8), "visual_query.weight": torch.ones(10, 8)},
                         "config": {"w_bias": True, "w_lora": False, "lora_rank": 16}}
made["v2-chat"] = {**good(), "layers.1.attention.wq.bias": torch.ones(8)}
made["imagebind"] = {"model": {"prefix_query.weight": torch.ones(4, 8), "image_bind_proj.weight": torch.ones(8, 8),
                               "llama.norm.weight": torch.ones(8)}}
made["accessory"] = {"model": {"llma.prefix": torch.ones(3, 1, 10, 8), "llma.prefix_gate": torch.ones(3, 2)}}
made["lit-v2"] = {**lit(small(), (1, 2, 1, 1)), "lm_head.adapter_bias": torch.ones(8)}
made["peft-pickle"] = {"base_model.model.model.layers.3.self_attn.adaption_gate": torch.ones(1)}
made["lora"] = {"layers.1.attention.wq.lora_A.weight": torch.ones(8, 2)}
made["nan-prompt"] = good(); made["nan-prompt"]["adapter_query.weight"][7, 3] = float("nan")
made["inf-gate"] = good(); made["inf-gate"]["layers.3.attention.gate"][0, 1] = float("-inf")
made["missing-gate"] = good(); del made["missing-gate"]["layers.2.attention.gate"]
made["no-gates"] = {"adapter_query.weight": torch.ones(30, 8)}
made["no-prompts"] = good(); del made["no-prompts"]["adapter_query.weight"]
made["gate-flat"] = {**good(), "layers.3.attention.gate": torch.ones(2)}
made["gate-heads"] = {**good(), "layers.3.attention.gate": torch.ones(1, 3, 1, 1)}
made["prompts-3d"] = {**good(), "adapter_query.weight": torch.ones(3, 10, 8)}
made["prompts-int"] = {**good(), "adapter_query.weight": torch.ones(30, 8, dtype=torch.int64)}
made["prompts-none"] = {**good(), "adapter_query.weight": torch.ones(0, 8)}
made["extra"] = {**good(), "something.else": torch.ones(1)}
made["far-layer"] = {**good(), "layers.4294967294.attention.gate": torch.ones(1, 2, 1, 1)}
made["ambiguous"] = official({"prompts": torch.full((2, 20, 8), 0.5), "gates": torch.full((2, 2), 0.25)}, torch.float32)
made["undividable"] = {**good(), "adapter_query.weight": torch.ones(31, 8)}
made["lit-gap"] = lit(small(), (1, 2, 1, 1)); del made["lit-gap"]["transformer.h.2.attn.adapter_wte.weight"]
made["lit-shapes"] = {**lit(small(), (1, 2, 1, 1)), "transformer.h.3.attn.adapter_wte.weight": torch.ones(9, 8)}
made["expanded"] = {**good(), "adapter_query.weight": torch.ones(1).expand(30 << 10, 1 << 13)}
made["expanded-far"] = {**good(), "adapter_query.weight": torch.ones(1).expand(1 << 30, 1 << 30)}
made["list"] = [torch.ones(2)]
made["tensor"] = torch.ones(2)
made["runs-code"] = {"adapter_query.weight": RunsCode(), "model": RunsCode()}
for name, thing in made.items():
    save(f"refused/{name}.pth", thing)
save("refused/before-1.6.pth", good(), _use_new_zipfile_serialization=False)
