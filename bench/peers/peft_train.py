"""Hugging Face PEFT as a peer in training: AdaptionPrompt on the dequantized model, f32 on the CPU, AdamW.

    python peft_train.py --gguf FILE [--batch 4] [--tokens 128] [--steps 3] [--warmup 1] [--threads 2] [--json]

A step is what a training program does with one batch: forward, loss over every next token, backward to the prompts and
gates, clear gradients, AdamW. Prints the median step, tokens (batch times tokens) a second by it, and the peak resident
memory; with --json one line of JSON. Exit code 3, with a sentence on standard error, where a package is missing.
transformers dequantizes the GGUF file to f32 before the first step; that is not timed, and its own peak of memory is
given apart, so that it is seen when it is the higher one. `cores_used` well under `threads` says that others had the
machine: such a figure is not PEFT's speed.
needs: torch, transformers, peft, gguf; nothing is downloaded.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import sys
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # no progress bars
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

try:
    import gguf  # noqa: F401  transformers reads GGUF files with it, and says so only when it loads one
    import peft
    import torch
    import transformers
except ImportError as error:
    print(f"PEFT cannot be measured with {sys.executable}: {error}", file=sys.stderr)
    sys.exit(3)

warnings.filterwarnings("ignore", category=FutureWarning)  # of transformers' names, as PEFT uses them


def parse_args():
    def count(text):
        value = int(text)
        if value < 1:
            raise argparse.ArgumentTypeError(f"{text} is less than 1")
        return value

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=pathlib.Path, required=True, help="model file")
    parser.add_argument("--batch", type=count, default=4, help="sequences a step (4)")
    parser.add_argument("--tokens", type=count, default=128, help="tokens a sequence (128)")
    parser.add_argument("--steps", type=count, default=3, help="timed steps (3)")
    parser.add_argument("--warmup", type=int, default=1, help="steps before them (1)")
    parser.add_argument("--threads", type=count, default=2, help="threads of torch (2)")
    parser.add_argument("--adapter-len", type=count, default=10, help="prompt tokens a layer (10)")
    parser.add_argument("--adapter-layers", type=count, default=28, help="topmost layers that get a prompt (28)")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a sentence")
    return parser.parse_args()


def load(args):
    """The dequantized model with a fresh adapter; only the adapter's tensors take gradients."""
    base = transformers.AutoModelForCausalLM.from_pretrained(
        args.gguf.parent, gguf_file=args.gguf.name, dtype=torch.float32
    )
    settings = peft.AdaptionPromptConfig(
        adapter_len=args.adapter_len, adapter_layers=args.adapter_layers, task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(base, settings).train()


def step(model, optimizer, ids):
    """One training step; the loss before it, its seconds, and the CPU seconds of all threads in it."""
    start, cpu_start = time.perf_counter(), time.process_time()
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    # The device is the CPU: when the call is back, the work is done.
    return loss.item(), time.perf_counter() - start, time.process_time() - cpu_start


def peak_rss_mb():
    """The largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)  # bytes there, KiB elsewhere


def main():
    args = parse_args()
    if not args.gguf.is_file():
        sys.exit(f"{args.gguf} is not a file")
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    load_start = time.perf_counter()
    model = load(args)
    load_s = time.perf_counter() - load_start
    load_peak_rss_mb = peak_rss_mb()

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # The training recipe of the paper, but for a rate that moves the loss within a few steps.
    optimizer = torch.optim.AdamW(trained, lr=9e-3, betas=(0.9, 0.95), weight_decay=0.02)
    # What the ids say does not change what a step costs; the same ids each time, so that the loss falls.
    n_ids = min(model.config.vocab_size, 30_000)
    ids = torch.randint(n_ids, (args.batch, args.tokens), generator=torch.Generator().manual_seed(1))

    results = [step(model, optimizer, ids) for _ in range(args.warmup + args.steps)]
    steps_s = [seconds for _, seconds, _ in results[args.warmup :]]
    cpu_s = sum(seconds for _, _, seconds in results[args.warmup :])
    step_s = statistics.median(steps_s)
    figures = {
        "peer": "PEFT AdaptionPrompt",
        "version": f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}",
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "batch": args.batch,
        "tokens": args.tokens,
        "trained_parameters": sum(parameter.numel() for parameter in trained),
        "tokens_per_s": args.batch * args.tokens / step_s,
        "step_s": step_s,
        "steps_s": steps_s,
        "cores_used": cpu_s / sum(steps_s),
        "losses": [loss for loss, _, _ in results],
        "peak_rss_mb": peak_rss_mb(),
        "load_peak_rss_mb": load_peak_rss_mb,
        "load_s": load_s,
    }
    if args.json:
        print(json.dumps(figures))
    else:
        print(
            f"{figures['peer']} ({figures['version']}), {args.threads} threads, {args.batch} x {args.tokens} tokens: "
            f"{figures['tokens_per_s']:.1f} tokens/s, {step_s:.3f} s a step on {figures['cores_used']:.2f} cores, "
            f"peak {figures['peak_rss_mb']:.0f} MiB"
        )


if __name__ == "__main__":
    main()
