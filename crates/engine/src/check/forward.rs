//! The self-test's cases of a chat: products, norms, caches, attention, sampling.

use super::bench::{Bench, F16, VARIANT};
use super::inputs::{HEADS, LENGTHS, PRODUCT, Scales, angles, gate_up, inputs, matrix, sampled, weights};
use crate::Error;
use crate::formats::TensorType;
use crate::gpu::{Buffer, Step};
use crate::ops::attention::{self, KvSplits};
use crate::ops::gated_attention::{self, PromptCache};
use crate::ops::head_norm::{self, HeadNorm};
use crate::ops::heads::Heads;
use crate::ops::kv_cache::{self, CacheFormat, LayerCache};
use crate::ops::matmul::{self, Epilogue, MANY_TOKENS, Norm, Operands, Shape, Variant};
use crate::ops::matrix::Matrix;
use crate::ops::rope;
use crate::ops::sample::{self, Buffers, HISTORY};
use crate::ops::{embedding, residual_add, rms_norm, swiglu};
use crate::sampler::Sampling;

/// All of them, products in `formats`.
pub(super) async fn run(bench: &mut Bench<'_>, formats: &[TensorType]) -> Result<(), Error> {
    for tensor_type in formats {
        products(bench, *tensor_type, |n_tokens| n_tokens < MANY_TOKENS).await?;
        embeddings(bench, *tensor_type).await?;
    }
    pointwise(bench).await?;
    head_norms(bench).await?;
    for format in [CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8] {
        attentions(bench, format).await?;
    }
    sampling(bench).await
}

/// The products of a format, in every variant in use that is for `wanted` tokens.
pub(super) async fn products(
    bench: &mut Bench<'_>,
    tensor_type: TensorType,
    wanted: impl Fn(u32) -> bool,
) -> Result<(), Error> {
    let (n_rows, n_cols, _) = PRODUCT;
    let variants = Variant::in_use(bench.gpu.tier(), bench.gpu.tuning(), n_cols as u32);
    let variants: Vec<_> = variants.into_iter().filter(|(_, n_tokens)| wanted(*n_tokens)).collect();
    let plain =
        matrix(bench.gpu, tensor_type, &weights(tensor_type, n_rows * n_cols, Scales::Ordinary), [n_rows, n_cols])?;
    let both = weights(tensor_type, 2 * n_rows * n_cols, Scales::Ordinary);
    let both = gate_up(bench.gpu, tensor_type, &both, [n_rows, n_cols])?;
    for (index, (variant, n_tokens)) in variants.iter().enumerate() {
        // Of several for as many tokens, all but the first say what they are for.
        let suffix = match (*n_tokens, variant.f16_input()) {
            (_, true) => format!("{VARIANT}{F16}"),
            (1, _) if index > 0 => format!("{VARIANT}many rows"),
            (MANY_TOKENS.., _) => format!("{VARIANT}many tokens"),
            _ => String::new(),
        };
        let kind = if *n_tokens > 1 { "matmul" } else { "matvec" };
        product(bench, *variant, &plain, *n_tokens, &format!("{kind} {tensor_type}{suffix}"), Epilogue::Store).await?;
        product(bench, *variant, &plain, *n_tokens, &format!("{kind} add {tensor_type}{suffix}"), Epilogue::Add)
            .await?;
        product(bench, *variant, &both, *n_tokens, &format!("{kind} swiglu {tensor_type}{suffix}"), Epilogue::Swiglu)
            .await?;
        // What is rounded to f16 once more would be subnormal there: no model's weights are.
        if !tensor_type.scale_offsets().is_empty() && !variant.f16_input() {
            let data = weights(tensor_type, n_rows * n_cols, Scales::Subnormal);
            let small = matrix(bench.gpu, tensor_type, &data, [n_rows, n_cols])?;
            let name = format!("{kind} {tensor_type} with subnormal scales{suffix}");
            product(bench, *variant, &small, *n_tokens, &name, Epilogue::Store).await?;
        }
    }
    Ok(())
}

/// One product, and for one token the same with a norm in front, as decoding runs it.
async fn product(
    bench: &mut Bench<'_>,
    variant: Variant,
    matrix: &Matrix,
    n_tokens: u32,
    name: &str,
    epilogue: Epilogue,
) -> Result<(), Error> {
    let (n_rows, n_cols, many) = PRODUCT;
    let n_tokens = if n_tokens > 1 { many } else { 1 };
    let gpu = bench.gpu;
    let (x, scratch) = (gpu.buffer_with("x", &inputs(1, n_tokens * n_cols))?, gpu.buffer("x", n_cols as u64 * 4)?);
    let weight = gpu.buffer_with("norm", &inputs(4, n_cols))?;
    let norm = Norm { weight: &weight, eps: 1e-5, first_token: 0, scratch: &scratch };
    let norms = variant.norms() && epilogue != Epilogue::Add && !name.contains("subnormal");
    let in_front = if norms { vec![None, Some(norm)] } else { vec![None] };
    for norm in in_front {
        let n = n_tokens * n_rows;
        let y = gpu.buffer_with("y", &inputs(2, n))?;
        let shape = Shape { n_tokens: n_tokens as u32, y_stride: n_rows as u32, y_offset: 0 };
        let name = if norm.is_some() { format!("normed {name}") } else { name.to_owned() };
        let operands = Operands { norm, ..Operands::new(matrix, &x, &y, shape, epilogue) };
        let kernels = bench.launch(|plan| matmul::launch_variant(plan, variant, operands))?;
        let values: Vec<f32> = gpu.read(&y, 0, n).await?;
        // Of the endings a part: what is before them is all there.
        let plain = epilogue == Epilogue::Store && !name.contains("subnormal");
        bench.keep(name, &kernels, if plain { values } else { sampled(&values) });
    }
    Ok(())
}

/// Rows of a table of a format.
async fn embeddings(bench: &mut Bench<'_>, tensor_type: TensorType) -> Result<(), Error> {
    let (n_rows, n_cols, _) = PRODUCT;
    let ids = bench.gpu.buffer_with("ids", &[7u32, 0, 23])?;
    for (scales, name) in [(Scales::Ordinary, ""), (Scales::Subnormal, " with subnormal scales")] {
        if scales == Scales::Subnormal && tensor_type.scale_offsets().is_empty() {
            continue;
        }
        let table = matrix(bench.gpu, tensor_type, &weights(tensor_type, n_rows * n_cols, scales), [n_rows, n_cols])?;
        let y = bench.gpu.buffer("y", 3 * n_cols as u64 * 4)?;
        let name = format!("embedding {tensor_type}{name}");
        bench.case(&name, &y, 64, |plan| embedding::launch(plan, &table, &ids, &y, 3)).await?;
    }
    Ok(())
}

async fn pointwise(bench: &mut Bench<'_>) -> Result<(), Error> {
    let gpu = bench.gpu;
    let (a, b) = (gpu.buffer_with("a", &inputs(1, 192))?, gpu.buffer_with("b", &inputs(2, 192))?);
    let y = gpu.buffer("y", 192 * 4)?;
    let shape = rms_norm::Shape { n_tokens: 2, n_channels: 64, first_token: 1, eps: 1e-5 };
    bench.case("rms_norm", &y, 128, |plan| rms_norm::launch(plan, &a, &b, &y, shape)).await?;
    bench.case("swiglu", &y, 192, |plan| swiglu::launch(plan, &a, &b, &y, 192)).await?;
    bench.case("residual_add", &b, 192, |plan| residual_add::launch(plan, &a, &b, 192)).await?;
    let step = gpu.buffer_with("step", &[Step { past: 9, n_tokens: 3, ..Step::default() }])?;
    let table = gpu.buffer_with("table", &angles().table(0..12))?;
    bench.case("rope", &a, 192, |plan| rope::launch(plan, &step, &table, &a, [3, 2, 32], true)).await
}

/// The norm of each head of q and k: of a prompt's keys, and on the way into the cache.
async fn head_norms(bench: &mut Bench<'_>) -> Result<(), Error> {
    let (gpu, n_tokens) = (bench.gpu, 3);
    let Heads { n_heads, n_kv_heads, head_dim } = HEADS;
    let qkv = gpu.buffer_with("qkv", &inputs(1, (n_tokens * HEADS.qkv_width()) as usize))?;
    let weights = gpu.buffer_with("norms", &inputs(2, 2 * head_dim as usize))?;
    let norm = HeadNorm { weights: &weights, eps: 1e-5 };
    let n = (n_tokens * n_kv_heads * head_dim) as usize;
    let keys = gpu.buffer("normed keys", n as u64 * 4)?;
    bench.case("head_norm", &keys, n, |plan| head_norm::launch_keys(plan, &qkv, norm, &keys, HEADS, n_tokens)).await?;
    let step = gpu.buffer_with("step", &[Step { past: 0, n_tokens, ..Step::default() }])?;
    let table = gpu.buffer_with("table", &angles().table(0..n_tokens))?;
    let (format, size) = (CacheFormat::F32, kv_cache::plane_bytes(HEADS, n_tokens));
    let cache = LayerCache { k: gpu.buffer("keys", size)?, v: gpu.buffer("values", size)?, format };
    let n = (n_tokens * n_heads * head_dim) as usize;
    let q = gpu.buffer("q", n as u64 * 4)?;
    let operands = kv_cache::Operands {
        step: &step,
        table: &table,
        qkv: &qkv,
        norm: Some(norm),
        q: &q,
        cache: &cache,
        heads: HEADS,
        n_tokens,
        packed: None,
    };
    bench.sampled("kv_cache_write with a norm", &q, n, |plan| kv_cache::launch(plan, operands)).await
}

/// The caches' write, attention over them and the adapter's part.
async fn attentions(bench: &mut Bench<'_>, format: CacheFormat) -> Result<(), Error> {
    let (past, n_tokens, adapter_len) = LENGTHS;
    let Heads { n_heads, n_kv_heads, head_dim } = HEADS;
    let gpu = bench.gpu;
    let n = (n_tokens * n_heads * head_dim) as usize;
    let table = gpu.buffer_with("table", &angles().table(0..past + n_tokens))?;
    let size = format.plane_bytes(HEADS, past + n_tokens);
    let cache = LayerCache { k: gpu.buffer("keys", size)?, v: gpu.buffer("values", size)?, format };
    let (q, o) = (gpu.buffer("q", n as u64 * 4 * 3)?, gpu.buffer("o", n as u64 * 4)?);
    let of = |name: &str| match format {
        CacheFormat::F32 => name.to_owned(),
        _ => format!("{name} with a cache in {}", format.name()),
    };
    let kept = |values: Vec<f32>| if format == CacheFormat::F32 { values } else { sampled(&values) };
    // The past comes through the same kernel as the present.
    for (past, n_tokens, seed, name) in
        [(0, past, 1, "kv_cache_write of the past"), (past, n_tokens, 2, "kv_cache_write")]
    {
        let step = gpu.buffer_with("step", &[Step { past, n_tokens, ..Step::default() }])?;
        let qkv = gpu.buffer_with("qkv", &inputs(seed, (n_tokens * HEADS.qkv_width()) as usize))?;
        let n = (n_tokens * n_heads * head_dim) as usize;
        let operands = kv_cache::Operands {
            step: &step,
            table: &table,
            qkv: &qkv,
            norm: None,
            q: &q,
            cache: &cache,
            heads: HEADS,
            n_tokens,
            packed: None,
        };
        let kernels = bench.launch(|plan| kv_cache::launch(plan, operands))?;
        let values = gpu.read(&q, 0, n).await?;
        bench.keep(of(name), &kernels, kept(values));
    }
    let step = gpu.buffer_with("step", &[Step { past, n_tokens, ..Step::default() }])?;
    let operands = attention::Operands { step: &step, q: &q, cache: &cache, o: &o, heads: HEADS, n_tokens };
    let few = attention::Variant::choose(gpu, HEADS, n_tokens);
    let many = attention::Variant::choose(gpu, HEADS, attention::MANY_TOKENS);
    for (variant, name) in [(few, "attention"), (many, "attention of many tokens")] {
        let kernels = bench.launch(|plan| attention::launch_variant(plan, variant, operands, None))?;
        let values = gpu.read(&o, 0, n).await?;
        bench.keep(of(name), &kernels, kept(values));
    }
    let parts = 3; // more than there are keys for
    let sums = gpu.buffer("sums", u64::from(parts) * n as u64 * 4)?;
    let stats = gpu.buffer("statistics", u64::from(parts * n_tokens * n_heads) * 8)?;
    let variant = attention::Variant::choose(gpu, HEADS, 1);
    let parts = KvSplits { n: parts, sums: &sums, stats: &stats };
    let kernels = bench.launch(|plan| attention::launch_split(plan, variant, operands, parts))?;
    let values = gpu.read(&o, 0, n).await?;
    bench.keep(of("attention in KV splits"), &kernels, kept(values));
    if format != CacheFormat::F32 {
        return Ok(());
    }
    let row = (adapter_len * n_kv_heads * head_dim) as usize;
    let prompt = prompt(bench, row, n_heads)?;
    let operands =
        gated_attention::Operands { q: &q, prompt: &prompt, o: &o, o_base: None, heads: HEADS, n_tokens, adapter_len };
    bench.case("gated_attention", &o, n, |plan| gated_attention::launch(plan, operands)).await?;
    bench
        .case("gated_attention of many tokens", &o, n, |plan| gated_attention::launch_variant(plan, many, operands))
        .await
}

/// Keys, values and gates of an adapter.
pub(super) fn prompt(bench: &Bench<'_>, row: usize, n_heads: u32) -> Result<PromptCache, Error> {
    let filled = |what, seed, n| -> Result<Buffer, Error> { Ok(bench.gpu.buffer_with(what, &inputs(seed, n))?) };
    Ok(PromptCache {
        k: filled("prompt keys", 6, row)?,
        v: filled("prompt values", 7, row)?,
        gate: filled("gates", 8, n_heads as usize)?,
    })
}

async fn sampling(bench: &mut Bench<'_>) -> Result<(), Error> {
    let gpu = bench.gpu;
    let history = gpu.buffer_with("history", &vec![3u32; HISTORY as usize])?;
    let next_id = gpu.buffer("next id", 4)?;
    let step = gpu.buffer_with("step", &[Step { past: 4, n_tokens: 1, draw: 0.5, history: 5 }])?;
    let penalized = Sampling { repeat_penalty: 1.5, ..Sampling::greedy() };
    for (name, sampling) in [("argmax", penalized), ("sample", Sampling::default())] {
        let logits = gpu.buffer_with("logits", &inputs(11, 1000))?;
        let buffers = Buffers { logits: &logits, next_id: &next_id, history: &history };
        let kernels = bench.launch(|plan| sample::launch(plan, &step, buffers, 1000, &sampling))?;
        let id: Vec<u32> = gpu.read(&next_id, 0, 1).await?;
        bench.keep(name.to_owned(), &kernels, id.iter().map(|id| *id as f32).collect());
        let touched = gpu.read(&logits, 0, 8).await?;
        bench.keep(format!("repeat_penalty before {name}"), &kernels, touched);
    }
    Ok(())
}
