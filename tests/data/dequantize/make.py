"""Golden dequantized blocks: random bytes through gguf-py, which follows ggml-quants.c.

    python make.py          (numpy, gguf 0.19.0)

For each type, <type>.bin holds blocks of ggml's bytes and <type>.f32 the f32 bits they dequantize to, little-endian.
Eight blocks have sane scales; then the f16 scales take every odd value below in turn: zeros of both signs, subnormals,
the largest finite value, infinities, NaN.
"""
import pathlib
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

HERE = pathlib.Path(__file__).parent
ODD = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00], np.uint16)
SCALES_AT = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
             "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "F16": [], "BF16": [], "F32": []}

random = np.random.default_rng(2303_16199)
for name, scales_at in SCALES_AT.items():
    kind = GGMLQuantizationType[name]
    if not scales_at:  # plain floats: every kind of bit pattern, but no signalling NaN (hardware may quieten those)
        width = GGML_QUANT_SIZES[kind][1]
        if width == 2:
            words = np.arange(0, 65536, 7, dtype=np.uint16)
            exponent, quiet, mantissa = (0x7C00, 0x0200, 0x03FF) if name == "F16" else (0x7F80, 0x0040, 0x007F)
            nan = ((words & exponent) == exponent) & ((words & mantissa) != 0)
            words = np.where(nan, words | quiet, words).astype(np.uint16)
        else:
            words = random.standard_normal(512).astype(np.float32)
        blocks = words.view(np.uint8).reshape(1, -1)
    else:
        n = 8 + len(ODD)
        blocks = random.integers(0, 256, (n, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
        for which, at in enumerate(scales_at):
            sane = (random.standard_normal(8) * 0.01).astype(np.float16).view(np.uint16)
            scales = np.concatenate([sane, np.roll(ODD, 5 * which)])
            blocks[:, at : at + 2] = scales[:, None].view(np.uint8)
    with np.errstate(all="ignore"):
        values = quants.dequantize(blocks, kind).astype(np.float32)
    (HERE / f"{name.lower()}.bin").write_bytes(blocks.tobytes())
    (HERE / f"{name.lower()}.f32").write_bytes(values.astype("<f4").tobytes())
