"""Golden fixtures for Qwen2 and Qwen3 with zero-init gated attention, tiny random models in float64 with PyTorch.

    python make.py --out DIR [--seed 1]

needs: torch, transformers, numpy, safetensors, gguf. Every model's logits are compared with those of transformers'
Qwen2ForCausalLM and Qwen3ForCausalLM (float64) before anything is written.

Writes into DIR for each FAMILY of qwen2 (tied embeddings, bias of q, k, v) and qwen3 (norm of each head of q and k,
heads wider than C / H, an output matrix of its own)
  FAMILY-f32.gguf, FAMILY-q8_0.gguf, FAMILY-q4_0.gguf   the model as llama.cpp's converter writes it: q and k in the order
                                 of the checkpoint (rope pairs are halves of a head), norms and biases F32
  FAMILY.json                    ids, first target, loss of the base model, and AdamW's settings
  FAMILY-golden.safetensors      logits [T, V] of the base model; `q8_0`, `q4_0`: of the quantized files (weights dequantized,
                                 arithmetic in float64); and for each KIND of gates
    KIND.prompts, KIND.gates     an adapter of the last L_a layers
    KIND.logits, KIND.loss, KIND.d_prompts, KIND.d_gates      at that adapter
    KIND.train.init_prompts, .losses, .prompts, .gates        ten AdamW steps from zero gates
  with KIND paper (gate a head, tanh), linear (a head), peft (one a layer), scalar-tanh (one a layer, tanh).
Prompt keys are norm(Wk P + b), values Wv P + b: not rotated. Their attention has a softmax of its own; its output is scaled
by the gate and added before the output projection (arXiv:2303.16199, section 3).
"""
import argparse, json, math, os
from dataclasses import dataclass
import numpy as np, torch
from safetensors.numpy import save_file

KINDS = ("paper", "linear", "peft", "scalar-tanh")
A, L_A, T, FIRST = 7, 2, 40, 13                         # adapter length and layers, tokens, first target
ADAMW = dict(lr=3e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.02)


@dataclass
class Family:
    name: str
    C: int
    F: int
    H: int
    K: int
    D: int
    L: int
    V: int
    eps: float
    theta: float
    bias: bool
    head_norm: bool
    tied: bool


FAMILIES = (Family("qwen2", 96, 160, 6, 2, 16, 3, 288, 1e-6, 1e6, True, False, True),
            Family("qwen3", 96, 160, 4, 2, 32, 3, 288, 1e-6, 1e6, False, True, False))


def weights(m, seed):
    g = torch.Generator().manual_seed(seed)
    r = lambda *s, scale: (torch.randn(*s, generator=g, dtype=torch.float64) * scale).float().double()
    w = {"token_embd.weight": r(m.V, m.C, scale=0.2 if m.tied else 1.0), "output_norm.weight": 1 + r(m.C, scale=0.1).float().double()}
    if not m.tied: w["output.weight"] = r(m.V, m.C, scale=0.08)
    for i in range(m.L):
        for name, shape in dict(attn_q=(m.H * m.D, m.C), attn_k=(m.K * m.D, m.C), attn_v=(m.K * m.D, m.C), attn_output=(m.C, m.H * m.D),
                                ffn_gate=(m.F, m.C), ffn_up=(m.F, m.C), ffn_down=(m.C, m.F)).items():
            w[f"blk.{i}.{name}.weight"] = r(*shape, scale=1.2 / math.sqrt(shape[1]))
        for name in ("attn_norm", "ffn_norm"): w[f"blk.{i}.{name}.weight"] = 1 + r(m.C, scale=0.1)
        if m.bias:
            for name, n in dict(attn_q=m.H * m.D, attn_k=m.K * m.D, attn_v=m.K * m.D).items(): w[f"blk.{i}.{name}.bias"] = r(n, scale=0.7)
        if m.head_norm:
            for name in ("attn_q_norm", "attn_k_norm"): w[f"blk.{i}.{name}.weight"] = 1 + r(m.D, scale=0.3)
    return {n: x.float().double() for n, x in w.items()}


def norm(m, x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + m.eps) * w


def rope(m, x):                                         # [T, heads, D], pairs are halves of a head
    t = torch.arange(x.shape[0], dtype=torch.float64)
    f = m.theta ** (-torch.arange(0, m.D, 2, dtype=torch.float64) / m.D)
    a = torch.outer(t, f)
    cos, sin = torch.cat([a.cos()] * 2, -1)[:, None], torch.cat([a.sin()] * 2, -1)[:, None]
    rot = torch.cat([-x[..., m.D // 2:], x[..., :m.D // 2]], -1)
    return x * cos + rot * sin


def strength(kind, gate, H):
    return (gate.tanh() if kind in ("paper", "scalar-tanh") else gate).expand(H)


def forward(m, w, ids, prompts=None, gates=None, kind="paper"):
    x = w["token_embd.weight"][ids]
    mask = torch.full((len(ids), len(ids)), -math.inf, dtype=torch.float64).triu(1)
    groups = m.H // m.K
    for i in range(m.L):
        b = lambda n: w[f"blk.{i}.{n}.weight"]
        def linear(x, n):
            y = x @ b(n).T
            return y + w[f"blk.{i}.{n}.bias"] if f"blk.{i}.{n}.bias" in w else y
        keyed = lambda k: norm(m, k, b("attn_k_norm")) if m.head_norm else k
        h = norm(m, x, b("attn_norm"))
        q, k, v = linear(h, "attn_q").view(-1, m.H, m.D), keyed(linear(h, "attn_k").view(-1, m.K, m.D)), linear(h, "attn_v").view(-1, m.K, m.D)
        if m.head_norm: q = norm(m, q, b("attn_q_norm"))
        q, k, v = rope(m, q), rope(m, k).repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        o = torch.einsum("htu,uhd->thd", (torch.einsum("thd,uhd->htu", q, k) / math.sqrt(m.D) + mask).softmax(-1), v)
        j = i - (m.L - L_A)
        if prompts is not None and j >= 0:
            pk = keyed(linear(prompts[j], "attn_k").view(A, m.K, m.D)).repeat_interleave(groups, 1)
            pv = linear(prompts[j], "attn_v").view(A, m.K, m.D).repeat_interleave(groups, 1)
            p = (torch.einsum("thd,ahd->hta", q, pk) / math.sqrt(m.D)).softmax(-1)
            o = o + torch.einsum("hta,ahd->thd", p, pv) * strength(kind, gates[j], m.H)[None, :, None]
        x = x + o.reshape(len(ids), m.H * m.D) @ b("attn_output").T
        h = norm(m, x, b("ffn_norm"))
        x = x + (torch.nn.functional.silu(h @ b("ffn_gate").T) * (h @ b("ffn_up").T)) @ b("ffn_down").T
    return norm(m, x, w["output_norm.weight"]) @ w["token_embd.weight" if m.tied else "output.weight"].T


def loss_of(logits, ids):
    return torch.nn.functional.cross_entropy(logits[FIRST - 1:-1], ids[FIRST:])


def check(m, w, ids):
    """transformers says the same."""
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM
    config, model = (Qwen3Config, Qwen3ForCausalLM) if m.head_norm else (Qwen2Config, Qwen2ForCausalLM)
    config = config(hidden_size=m.C, intermediate_size=m.F, num_attention_heads=m.H, num_key_value_heads=m.K, num_hidden_layers=m.L,
                    vocab_size=m.V, rms_norm_eps=m.eps, tie_word_embeddings=m.tied, max_position_embeddings=256, head_dim=m.D,
                    rope_parameters={"rope_type": "default", "rope_theta": m.theta})
    config._attn_implementation = "eager"
    model = model(config).double().eval()
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
    state = {"model.embed_tokens.weight": w["token_embd.weight"], "model.norm.weight": w["output_norm.weight"],
             "lm_head.weight": w["token_embd.weight" if m.tied else "output.weight"]}
    for n, x in w.items():
        if n.startswith("blk."):
            _, i, part, kind = n.split(".")
            state[f"model.layers.{i}.{names[part]}.{kind}"] = x
    model.load_state_dict(state)
    with torch.no_grad(): worst = (model(ids[None]).logits[0] - forward(m, w, ids)).abs().max().item()
    print(f"{m.name}: max |transformers - ours| {worst:.3g}")
    assert worst < 1e-5                                 # transformers keeps its rotation angles in f32


def gguf_bytes(a, qtype):
    import gguf
    return gguf.quants.quantize(a, gguf.GGMLQuantizationType[qtype])


def quantized(w, qtype):
    import gguf
    def through(n, x):
        if x.ndim == 1: return x
        a = np.ascontiguousarray(x.float().numpy())
        return torch.from_numpy(gguf.quants.dequantize(gguf_bytes(a, qtype), gguf.GGMLQuantizationType[qtype]).reshape(a.shape)).double()
    return {n: through(n, x) for n, x in w.items()}


def write_gguf(m, w, path, qtype):
    import gguf
    out = gguf.GGUFWriter(path, m.name)
    out.add_name(f"tiny-{m.name}"); out.add_context_length(256); out.add_embedding_length(m.C); out.add_block_count(m.L)
    out.add_feed_forward_length(m.F); out.add_head_count(m.H); out.add_head_count_kv(m.K); out.add_layer_norm_rms_eps(m.eps)
    out.add_rope_freq_base(m.theta)
    if m.head_norm: out.add_key_length(m.D); out.add_value_length(m.D)
    bs = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    cs = bs[:]; n = 0
    for b in range(256):
        if b not in bs: bs.append(b); cs.append(256 + n); n += 1
    tok = [chr(c) for _, c in sorted(zip(bs, cs))]
    merges = ["\u0120 t", "h e", "\u0120 a", "i n", "\u0120t he", "r e", "o n", "\u0120 w"]
    tok += ["".join(x.split(" ")) for x in merges] + ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    kinds = [1] * (len(tok) - 3) + [3] * 3
    while len(tok) < m.V: tok.append(f"<unused{len(tok)}>"); kinds.append(5)
    out.add_tokenizer_model("gpt2"); out.add_tokenizer_pre("qwen2"); out.add_token_list(tok); out.add_token_types(kinds)
    out.add_token_merges(merges); out.add_bos_token_id(264); out.add_eos_token_id(266); out.add_add_bos_token(False)
    for n, x in w.items():
        a = np.ascontiguousarray(x.float().numpy())
        if a.ndim == 1 or qtype == "F32": out.add_tensor(n, a); continue
        raw = gguf_bytes(a, qtype)
        out.add_tensor(n, raw, raw_shape=raw.shape, raw_dtype=gguf.GGMLQuantizationType[qtype])
    out.write_header_to_file(); out.write_kv_data_to_file(); out.write_tensors_to_file(); out.close()


def train(m, w, ids, kind, prompts, gates, steps=10):
    p, g = prompts.clone().requires_grad_(True), torch.zeros_like(gates).requires_grad_(True)
    opt, losses = torch.optim.AdamW([p, g], **ADAMW), []
    for _ in range(steps):
        opt.zero_grad(); loss = loss_of(forward(m, w, ids, p, g, kind), ids); loss.backward(); opt.step()
        losses.append(loss.item())
    return np.array(losses), p.detach(), g.detach()


def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--out", required=True); ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args(); os.makedirs(a.out, exist_ok=True)
    f32 = lambda x: np.ascontiguousarray(x.detach().float().numpy())
    for m in FAMILIES:
        w, g = weights(m, a.seed), torch.Generator().manual_seed(a.seed + 1000)
        ids = torch.randint(0, m.V, (T,), generator=g)
        check(m, w, ids)
        base = forward(m, w, ids)
        json.dump({"ids": ids.tolist(), "first_target": FIRST, "loss": loss_of(base, ids).item(), "adapter_len": A, "adapter_layers": L_A,
                   "adamw": {**ADAMW, "steps": 10}}, open(f"{a.out}/{m.name}.json", "w"), indent=1)
        golden = {"logits": f32(base)}
        for qtype in ("F32", "Q8_0", "Q4_0"):
            write_gguf(m, w, f"{a.out}/{m.name}-{qtype.lower()}.gguf", qtype)
            if qtype != "F32": golden[qtype.lower()] = f32(forward(m, quantized(w, qtype), ids))
        for kind in KINDS:
            n_gates = m.H if kind in ("paper", "linear") else 1
            random = lambda *s: torch.randn(*s, generator=g, dtype=torch.float64).float().double()
            init, prompts, gates = random(L_A, A, m.C), random(L_A, A, m.C).requires_grad_(True), (random(L_A, n_gates) * 0.7).float().double().requires_grad_(True)
            logits = forward(m, w, ids, prompts, gates, kind); loss = loss_of(logits, ids); loss.backward()
            losses, p, q = train(m, w, ids, kind, init, gates.detach())
            golden |= {f"{kind}.{n}": x for n, x in {
                "prompts": f32(prompts), "gates": f32(gates), "logits": f32(logits), "loss": np.array([loss.item()]),
                "d_prompts": f32(prompts.grad), "d_gates": f32(gates.grad), "train.init_prompts": f32(init), "train.losses": losses,
                "train.prompts": f32(p), "train.gates": f32(q)}.items()}
            print(m.name, kind, "loss", round(loss.item(), 6), "train", [round(x, 4) for x in losses])
        save_file(golden, f"{a.out}/{m.name}-golden.safetensors")


main()
