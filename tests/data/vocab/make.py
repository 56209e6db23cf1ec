"""Makes the *.json.gz beside it from llama.cpp's vocabulary files, small enough to keep.

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36    # unpack vendor/llama.cpp/models
    pip install gguf
    python make.py MODELS_FOLDER

Merges are two thirds of a vocabulary. Nearly all of them join to a token, in the order of the tokens, so each is stored
as [how far the joined token is from the last merge's, characters of the left part].
"""

import gzip
import json
import pathlib
import sys

from gguf import GGUFReader

NAMES = ["gpt-2", "llama-bpe", "llama-spm"]
HERE = pathlib.Path(__file__).parent


def runs(items):
    """[value, count] of each run of equal items."""
    result = []
    for item in items:
        if result and result[-1][0] == item:
            result[-1][1] += 1
        else:
            result.append([item, 1])
    return result


def compact(fields):
    def get(key):
        field = fields.get("tokenizer.ggml." + key)
        return None if field is None else field.contents()

    tokens = get("tokens")
    ids = {token: i for i, token in enumerate(tokens)}
    merges, last = [], 0
    for merge in get("merges") or []:
        split = merge.index(" ", 1)
        token = ids[merge[:split] + merge[split + 1:]]
        merges += [token - last, split]
        last = token
    scores = get("scores")
    return {
        "model": get("model"),
        "pre": get("pre"),
        "tokens": tokens,
        "merges": merges,
        # LLaMA's scores fall by 1 from token to token; stored as differences they are runs.
        "score_steps": [] if scores is None else runs([b - a for a, b in zip([0.0] + scores, scores)]),
        "token_types": runs(get("token_type")),
        "bos_id": get("bos_token_id"),
        "eos_id": get("eos_token_id"),
        "unk_id": get("unknown_token_id"),
        "add_bos": get("add_bos_token"),
        "add_eos": get("add_eos_token"),
    }


for name in NAMES:
    models = pathlib.Path(sys.argv[1])
    reader = GGUFReader(models / f"ggml-vocab-{name}.gguf")
    text = json.dumps(compact(reader.fields), ensure_ascii=False, separators=(",", ":"))
    # mtime 0: the same input gives the same bytes.
    (HERE / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    (HERE / f"{name}.out").write_bytes((models / f"ggml-vocab-{name}.gguf.out").read_bytes())
    # The texts are the same for all.
    (HERE / "texts.inp").write_bytes((models / f"ggml-vocab-{name}.gguf.inp").read_bytes())
