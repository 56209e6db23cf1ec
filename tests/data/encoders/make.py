"""Golden fixtures for encoders: tiny random models of transformers, computed in float64.

    python make.py --out DIR [--seed 1]

needs: torch, transformers, numpy, safetensors. Writes into DIR for each FAMILY of vit, dinov2, clip, siglip, bert, roberta
  FAMILY.json                 its config.json
  FAMILY.safetensors          its weights in f32, as transformers saves them
  FAMILY-golden.safetensors   `pixels` [3, H, W] or `ids` [T] that go in; `layer.N` [T, C]: the tokens behind N blocks (0: what goes into
                              the first); `last` [T, C]: at the end, behind the last norm. For pictures also `wide.*`: the same for a
                              picture of another size and shape, whose positions are interpolated.
"""
import argparse, json, os, tempfile
import numpy as np, torch
import transformers as tf
from safetensors.numpy import save_file

C, H, F, L = 64, 4, 96, 3
common = dict(hidden_size=C, num_attention_heads=H, num_hidden_layers=L)
vision = dict(**common, image_size=40, patch_size=8)


def models():
    yield "vit", tf.ViTModel(tf.ViTConfig(**vision, intermediate_size=F), add_pooling_layer=False)
    yield "dinov2", tf.Dinov2Model(tf.Dinov2Config(**vision, mlp_ratio=2))
    yield "clip", tf.CLIPVisionModel(tf.CLIPVisionConfig(**vision, intermediate_size=F))
    yield "siglip", tf.SiglipVisionModel(tf.SiglipVisionConfig(**vision, intermediate_size=F))
    text = dict(**common, intermediate_size=F, vocab_size=200, max_position_embeddings=48)
    yield "bert", tf.BertModel(tf.BertConfig(**text), add_pooling_layer=False)
    yield "roberta", tf.RobertaModel(tf.RobertaConfig(**text, pad_token_id=1), add_pooling_layer=False)


def randomise(model, seed):
    """Numbers that show a mistake: norms, biases and scales as transformers begins with them are 1 and 0."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        r = torch.randn(p.shape, generator=g, dtype=torch.float64)
        norm = p.dim() == 1 and name.endswith("weight") or "lambda1" in name
        p.data = ((1 + 0.2 * r) if norm else r * (0.3 if p.dim() == 1 else 0.15)).float().double()


def states(model, name, x):
    with torch.no_grad():
        kw = {"input_ids": x[None]} if x.dtype == torch.int64 else {"pixel_values": x[None]}
        if x.dtype != torch.int64 and name != "dinov2": kw["interpolate_pos_encoding"] = True
        out = model(**kw, output_hidden_states=True)
        hidden, last = out.hidden_states, out.last_hidden_state
        if name == "clip": last = getattr(model, "vision_model", model).post_layernorm(last)
    return [h[0] for h in hidden], last[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    torch.set_default_dtype(torch.float64)
    g = torch.Generator().manual_seed(args.seed)
    for name, model in models():
        model = model.double().eval()
        randomise(model, args.seed)
        golden = {}
        if name in ("bert", "roberta"):
            ids = torch.randint(5, 200, (23,), generator=g)
            golden["ids"] = ids.numpy().astype(np.int32)
            inputs = {"": ids}
        else:
            inputs = {"": torch.randn(3, 40, 40, generator=g).float().double(), "wide.": torch.randn(3, 24, 72, generator=g).float().double()}
        for prefix, x in inputs.items():
            hidden, last = states(model, name, x)
            if not prefix == "" or x.dtype != torch.int64:
                golden[prefix + "pixels"] = x.float().numpy()
            golden.update({f"{prefix}layer.{n}": h.float().contiguous().numpy() for n, h in enumerate(hidden)})
            golden[prefix + "last"] = last.float().contiguous().numpy()
        at = lambda ending: os.path.join(args.out, name + ending)
        with open(at(".json"), "w") as f: json.dump(model.config.to_dict(), f, indent=1, sort_keys=True, default=str)
        # Under the names that files on the hub have; within the program they are others.
        with tempfile.TemporaryDirectory() as folder:
            model.float().save_pretrained(folder)
            os.replace(os.path.join(folder, "model.safetensors"), at(".safetensors"))
        save_file(golden, at("-golden.safetensors"))
        print(name, [k for k in model.state_dict()][:3], {k: v.shape for k, v in golden.items() if k in ("last", "wide.last")})


main()
