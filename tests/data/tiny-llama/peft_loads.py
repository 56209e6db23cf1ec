"""Loads a PEFT folder of `adapter-cli export --to peft` into real PEFT, and keeps the logits PEFT computes with it.

    adapter-cli export -m tiny-f32.gguf -a adapter-peft.safetensors --gate peft --to peft --out FOLDER
    python peft_loads.py --base tiny-f32.gguf --folder FOLDER --ids base.json --out golden-peft-export.safetensors

OUT holds `ids` (i64 [T]) and `logits` (f32 [T, V]: transformers' own LLaMA on the CPU in f32, the adapter loaded by
`PeftModel.from_pretrained`); its metadata holds the SHA-256 of the folder's two files under their names, and versions.

PEFT loads a folder with misspelt names, or with a tensor too few, without a word and then answers as the base model.
So the script stops unless the loaded model holds every tensor of the folder bit for bit and no other of an adapter, and
the logits differ from the base model's.
needs: torch, transformers, peft, gguf, safetensors (made with torch 2.15.0, transformers 5.23.0, peft 0.21.2).
"""

import argparse
import hashlib
import json
import os
import pathlib
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # no progress bars

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore", category=FutureWarning)  # of transformers' names, as PEFT uses them

FILES = ("adapter_config.json", "adapter_model.safetensors")


def load_base(path):
    """The GGUF file as a transformers model in f32: the very file that the engine runs."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def load_adapter(base, folder):
    """The base model with the folder's adapter in it, after a check that all of it arrived."""
    model = peft.PeftModel.from_pretrained(base, folder).eval()
    wanted = load_file(folder / FILES[1])
    found = {name: tensor.detach() for name, tensor in model.named_parameters() if ".adaption_" in name}
    if found.keys() != wanted.keys():
        raise SystemExit(f"in the folder or in PEFT's model, not in both: {sorted(found.keys() ^ wanted.keys())}")
    for name, tensor in wanted.items():
        if not torch.equal(found[name].view(torch.int32), tensor.view(torch.int32)):
            raise SystemExit(f"{name} is not in PEFT's model as it is in the folder")
    return model


@torch.no_grad()
def logits_of(model, ids):
    """Logits [T, V] of one sequence of ids [T]."""
    return model(input_ids=ids[None], use_cache=False).logits[0].contiguous()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=pathlib.Path, required=True, help="GGUF file of the model, in F32")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="PEFT folder that adapter-cli wrote")
    parser.add_argument("--ids", type=pathlib.Path, required=True, help='JSON: an object with a list under "ids"')
    parser.add_argument("--out", type=pathlib.Path, required=True, help="safetensors file to write")
    args = parser.parse_args()

    ids = torch.tensor(json.loads(args.ids.read_text())["ids"])
    base = load_base(args.base)
    without = logits_of(base, ids)
    logits = logits_of(load_adapter(base, args.folder), ids)
    effect = (logits - without).abs().max().item()
    if effect == 0:
        raise SystemExit("the adapter changes no logit")

    metadata = {name: hashlib.sha256((args.folder / name).read_bytes()).hexdigest() for name in FILES}
    metadata |= {module.__name__: module.__version__ for module in (peft, torch, transformers)}
    save_file({"ids": ids, "logits": logits}, args.out, metadata)
    print(f"{len(ids)} ids, the adapter moves a logit by up to {effect:.4g}; wrote {args.out}")


if __name__ == "__main__":
    main()
