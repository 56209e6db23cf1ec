"""A LLaMA as transformers.js wants it: dequantized from a GGUF file, exported to ONNX, quantized to 4 bits.

    python gguf_to_onnx.py --gguf FILE --out FOLDER

FOLDER gets `config.json`, `generation_config.json`, the tokenizer's files and `onnx/model_q4.onnx` (weights inside). The
graph is that of onnxruntime-genai's model builder for WebGPU with f32 activations (its default, f16, needs a feature that a
software GPU lacks): GroupQueryAttention with rotary embedding inside, MatMulNBits with blocks of 32. That is the graph that
ONNX Runtime's WebGPU kernels are made for; the published models of transformers.js are made with the same builder.
The weights are those of the GGUF file rounded a second time: what they say may differ, what they cost does not.
Exit code 3, with a sentence on standard error, where a package is missing.
needs: torch, transformers, gguf, onnx, onnx-ir, onnxruntime, onnxruntime-genai; nothing is downloaded.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

try:
    import gguf  # noqa: F401  transformers reads GGUF files with it
    import onnx
    import onnx_ir  # noqa: F401  the builder needs it
    import onnxruntime_genai  # noqa: F401
    import torch
    import transformers
except ImportError as error:
    print(f"the ONNX model cannot be made with {sys.executable}: {error}", file=sys.stderr)
    sys.exit(3)


def dequantized(source, folder):
    """Writes the model in f32 as a folder of Hugging Face; the size of its heads."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    )
    config = loaded.config
    # A model read from GGUF refuses to be saved, whatever its weights are now: so they move into one that was not.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    return config.head_dim


def built(folder, out, cache):
    """The graph, with weights of 4 bits."""
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    flags = ["-i", folder, "-o", out, "-c", cache, "-p", "int4", "-e", "webgpu"]
    log = subprocess.run(
        [*builder, *flags, "--extra_options", "use_webgpu_fp32=1"], capture_output=True, text=True, check=False
    )
    if log.returncode != 0:
        sys.exit(f"the model builder of onnxruntime-genai failed:\n{log.stderr[-4000:]}")


def with_head_dim(model, head_dim):
    """The builder leaves the last dimension of the cache open; transformers.js makes its first, empty cache from it."""
    for value in [*model.graph.input, *model.graph.output]:
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.shape.dim[3].dim_value = head_dim
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=pathlib.Path, required=True, help="model file")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write")
    args = parser.parse_args()
    if not args.gguf.is_file():
        sys.exit(f"{args.gguf} is not a file")
    with tempfile.TemporaryDirectory() as scratch:
        plain, graph = pathlib.Path(scratch, "plain"), pathlib.Path(scratch, "graph")
        head_dim = dequantized(args.gguf, plain)
        built(plain, graph, pathlib.Path(scratch, "cache"))
        args.out.joinpath("onnx").mkdir(parents=True, exist_ok=True)
        # One file: transformers.js looks for outside weights under a name of its own.
        onnx.save(with_head_dim(onnx.load(graph / "model.onnx"), head_dim), args.out / "onnx" / "model_q4.onnx")
        for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]:
            shutil.copy(plain / name, args.out / name)


if __name__ == "__main__":
    main()
