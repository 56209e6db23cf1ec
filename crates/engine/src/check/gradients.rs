//! The self-test's cases of a training: gradients, and what a training step runs forward that a chat does not.

use super::bench::{Bench, VARIANT};
use super::forward::{products, prompt};
use super::inputs::{HEADS, LENGTHS, PRODUCT, STARTS, Scales, angles, inputs, matrix, sampled, weights};
use crate::Error;
use crate::formats::TensorType;
use crate::gpu::{Buffer, Step};
use crate::ops::attention;
use crate::ops::gated_attention;
use crate::ops::head_norm::{self, HeadNorm};
use crate::ops::heads::Heads;
use crate::ops::kv_cache::{self, CacheFormat, LayerCache};
use crate::ops::matmul::{self, BackwardVariant, MANY_TOKENS, Shape};
use crate::ops::rope::{self, Packed};
use crate::ops::swiglu::Rows;
use crate::ops::{cross_entropy, rms_norm, swiglu};

/// All of them, products in `formats`.
pub(super) async fn run(bench: &mut Bench<'_>, formats: &[TensorType]) -> Result<(), Error> {
    for tensor_type in formats {
        products(bench, *tensor_type, |n_tokens| n_tokens >= MANY_TOKENS).await?;
        transposed_products(bench, *tensor_type).await?;
    }
    norms(bench).await?;
    activations(bench).await?;
    attentions(bench).await?;
    losses(bench).await
}

/// The gradient to a product's input, in every variant in use.
async fn transposed_products(bench: &mut Bench<'_>, tensor_type: TensorType) -> Result<(), Error> {
    let (n_rows, n_cols, n_tokens) = PRODUCT;
    let gpu = bench.gpu;
    let n = n_tokens * n_cols;
    let plain = weights(tensor_type, n_rows * n_cols, Scales::Ordinary);
    let whole = matrix(gpu, tensor_type, &plain, [n_rows, n_cols])?;
    // Rows that cannot be read four at a time: a vocabulary may have any number.
    let row_bytes = plain.len() / n_rows;
    let odd = matrix(gpu, tensor_type, &plain[..plain.len() - row_bytes], [n_rows - 1, n_cols])?;
    let small = weights(tensor_type, n_rows * n_cols, Scales::Subnormal);
    let small = matrix(gpu, tensor_type, &small, [n_rows, n_cols])?;
    for (index, variant) in BackwardVariant::in_use(gpu).into_iter().enumerate() {
        let suffix = if index > 0 { format!("{VARIANT}{variant:?}") } else { String::new() };
        let mut cases = vec![("", &whole, false)];
        if !variant.f16_input() {
            cases.extend([(" added", &whole, true), (" of odd rows", &odd, false)]);
            cases.extend((!tensor_type.scale_offsets().is_empty()).then_some((
                " with subnormal scales",
                &small,
                false,
            )));
        }
        // The ending and the width of reads do not depend on how many tokens a lane has.
        cases.truncate(if index > 0 { 1 } else { cases.len() });
        for (case, w, add) in cases {
            let dy = gpu.buffer_with("dy", &inputs(12, n_tokens * w.n_rows as usize))?;
            let dx = gpu.buffer_with("dx", &inputs(13, n))?;
            let shape = Shape { n_tokens: n_tokens as u32, y_stride: w.n_rows, y_offset: 0 };
            let name = format!("matmul_backward{case} {tensor_type}{suffix}");
            let launch = |plan: &mut _| matmul::launch_backward_variant(plan, variant, w, &dy, &dx, shape, add);
            bench.sampled(&name, &dx, n, launch).await?;
        }
    }
    Ok(())
}

async fn norms(bench: &mut Bench<'_>) -> Result<(), Error> {
    let gpu = bench.gpu;
    let filled = |seed| gpu.buffer_with("norm", &inputs(seed, 192));
    let (x, weight, dy) = (filled(1)?, filled(2)?, filled(14)?);
    let rows = gpu.buffer_with("rows", &[2u32, 0])?;
    let y = gpu.buffer("y", 128 * 4)?;
    let shape = rms_norm::Shape { n_tokens: 2, n_channels: 64, first_token: 0, eps: 1e-5 };
    bench.case("rms_norm gather", &y, 128, |plan| rms_norm::launch_gather(plan, &x, &weight, &y, &rows, shape)).await?;
    let all = rms_norm::Shape { n_tokens: 3, ..shape };
    for (name, rows, shape) in [("rms_norm_backward", None, all), ("rms_norm_backward scatter", Some(&rows), shape)] {
        let dx = filled(15)?;
        bench.case(name, &dx, 192, |plan| rms_norm::launch_backward(plan, &dy, &x, &weight, &dx, rows, shape)).await?;
    }
    let n = (3 * HEADS.qkv_width()) as usize;
    let (x, d) = (gpu.buffer_with("qkv", &inputs(1, n))?, gpu.buffer_with("gradient", &inputs(14, n))?);
    let weights = gpu.buffer_with("norms", &inputs(2, 2 * HEADS.head_dim as usize))?;
    let norm = HeadNorm { weights: &weights, eps: 1e-5 };
    bench.sampled("head_norm backward", &d, n, |plan| head_norm::launch_backward(plan, &x, norm, &d, HEADS, 3)).await
}

async fn activations(bench: &mut Bench<'_>) -> Result<(), Error> {
    let gpu = bench.gpu;
    let dy = gpu.buffer_with("dy", &inputs(14, 96))?;
    for (rows, name) in [(Rows::Alternating, "alternating"), (Rows::Halves, "halves")] {
        let (z, y) = (gpu.buffer_with("z", &inputs(1, 192))?, gpu.buffer("y", 96 * 4)?);
        let forward = format!("swiglu of rows {name}");
        bench.case(&forward, &y, 96, |plan| swiglu::launch_rows(plan, &z, &y, [3, 32], rows)).await?;
        let backward = format!("swiglu_backward {name}");
        bench.case(&backward, &z, 192, |plan| swiglu::launch_backward(plan, &dy, &z, [3, 32], rows)).await?;
    }
    Ok(())
}

/// Two texts side by side: the cache's write, attention and the adapter's part, and back.
async fn attentions(bench: &mut Bench<'_>) -> Result<(), Error> {
    let Heads { n_heads, n_kv_heads, head_dim } = HEADS;
    let (n_tokens, adapter_len) = (STARTS.len() as u32, LENGTHS.2);
    let (width, q_row) = (HEADS.qkv_width(), n_heads * head_dim);
    let (n, n_rows) = ((n_tokens * q_row) as usize, (n_tokens * n_heads) as usize);
    let gpu = bench.gpu;
    let buffer = |what, n: usize| gpu.buffer(what, n as u64 * 4);
    let step = gpu.buffer_with("step", &[Step { past: 0, n_tokens, ..Step::default() }])?;
    let table = gpu.buffer_with("table", &angles().table(0..n_tokens))?;
    let starts = gpu.buffer_with("starts", &STARTS)?;
    let stats = buffer("statistics", 2 * n_rows)?;
    let packed = Packed { starts: &starts, stats: &stats };
    let size = kv_cache::plane_bytes(HEADS, n_tokens);
    let cache = LayerCache { k: gpu.buffer("keys", size)?, v: gpu.buffer("values", size)?, format: CacheFormat::F32 };
    let (q, o) = (buffer("q", n)?, buffer("o", n)?);

    let qkv = gpu.buffer_with("qkv", &inputs(1, (n_tokens * width) as usize))?;
    let operands = kv_cache::Operands {
        step: &step,
        table: &table,
        qkv: &qkv,
        norm: None,
        q: &q,
        cache: &cache,
        heads: HEADS,
        n_tokens,
        packed: Some(packed),
    };
    bench.sampled("kv_cache_write of two texts", &q, n, |plan| kv_cache::launch(plan, operands)).await?;
    let operands = attention::Operands { step: &step, q: &q, cache: &cache, o: &o, heads: HEADS, n_tokens };
    let variants = [1, attention::MANY_TOKENS].map(|n_tokens| attention::Variant::choose(gpu, HEADS, n_tokens));
    let many = format!("{VARIANT}many tokens");
    for (variant, name) in variants.into_iter().zip(["", &many]) {
        let kernels = bench.launch(|plan| attention::launch_variant(plan, variant, operands, Some(packed)))?;
        let values: Vec<f32> = gpu.read(&o, 0, n).await?;
        bench.keep(format!("attention of two texts{name}"), &kernels, sampled(&values));
        let pairs: Vec<f32> = gpu.read(&stats, 0, 2 * n_rows).await?;
        let sums = pairs.chunks_exact(2).map(|pair| pair[0]).collect();
        bench.keep(format!("attention's log-sum-exp{name}"), &kernels, sums);
    }
    let prompt = prompt(bench, (adapter_len * n_kv_heads * head_dim) as usize, n_heads)?;
    let both = buffer("o", n)?;
    let operands = gated_attention::Operands {
        q: &q,
        prompt: &prompt,
        o: &both,
        o_base: Some(&o),
        heads: HEADS,
        n_tokens,
        adapter_len,
    };
    for (variant, name) in variants.into_iter().zip(["", &many]) {
        let name = format!("gated_attention apart{name}");
        bench.sampled(&name, &both, n, |plan| gated_attention::launch_variant(plan, variant, operands)).await?;
    }

    let d_o = gpu.buffer_with("d_o", &inputs(14, n))?;
    let dqkv = buffer("dqkv", (n_tokens * width) as usize)?;
    let operands = attention::BackwardOperands {
        d_o: &d_o,
        q: &q,
        cache: &cache,
        o: &o,
        packed,
        dqkv: &dqkv,
        heads: HEADS,
        n_tokens,
    };
    let n_dqkv = (n_tokens * width) as usize;
    bench.sampled("attention_backward", &dqkv, n_dqkv, |plan| attention::launch_backward(plan, operands)).await?;
    let (n_dprompt, n_weights) = ((adapter_len * width) as usize, n_rows * adapter_len as usize * 2);
    let (weights, dgates) = (buffer("weights", n_weights)?, buffer("dgates", n_rows)?);
    let (dprompt, dgate): (Buffer, Buffer) = (buffer("dprompt", n_dprompt)?, buffer("dgate", n_heads as usize)?);
    let operands = gated_attention::BackwardOperands {
        d_o: &d_o,
        q: &q,
        prompt: &prompt,
        weights: &weights,
        dgates: &dgates,
        dqkv: &dqkv,
        add_dq: true,
        dprompt: &dprompt,
        dgate: &dgate,
        heads: HEADS,
        n_tokens,
        adapter_len,
    };
    let kernels = bench.launch(|plan| gated_attention::launch_backward(plan, operands))?;
    let all = [("queries", &dqkv, n_dqkv), ("prompt", &dprompt, n_dprompt), ("gates", &dgate, n_heads as usize)];
    for (what, buffer, n) in all {
        let values: Vec<f32> = gpu.read(buffer, 0, n).await?;
        bench.keep(format!("gated_attention_backward to {what}"), &kernels, sampled(&values));
    }
    let rotated = n_heads + n_kv_heads;
    bench
        .sampled("rope back", &dqkv, n_dqkv, |plan| {
            rope::launch_backward(
                plan,
                &step,
                &table,
                &dqkv,
                packed,
                [n_tokens, rotated + n_kv_heads, head_dim],
                rotated,
            )
        })
        .await
}

/// Losses of two rows, behind one that was there, and their gradient.
async fn losses(bench: &mut Bench<'_>) -> Result<(), Error> {
    let gpu = bench.gpu;
    let (n_rows, n_vocab) = (2, 300);
    let logits = gpu.buffer_with("logits", &inputs(16, n_rows * n_vocab))?;
    let targets = gpu.buffer_with("targets", &[1u32, 7, 299])?;
    let losses = gpu.buffer_with("losses", &[0.5f32; 3])?;
    let sizes = [n_rows as u32, n_vocab as u32, 1];
    let kernels = bench.launch(|plan| cross_entropy::launch(plan, &targets, &logits, &losses, sizes, 0.25))?;
    bench.keep("cross_entropy".to_owned(), &kernels, gpu.read(&losses, 0, 3).await?);
    let gradient: Vec<f32> = gpu.read(&logits, 0, n_rows * n_vocab).await?;
    bench.keep("cross_entropy's gradient".to_owned(), &kernels, sampled(&gradient));
    Ok(())
}
