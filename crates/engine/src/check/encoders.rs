//! The self-test's cases of an encoder: its norm, its activations, attention to all tokens. Its products are those of a chat.

use super::bench::Bench;
use super::inputs::{ENCODER_TOKENS, HEADS, inputs, sampled};
use crate::Error;
use crate::gpu::Step;
use crate::ops::attention::{self, Operands, Variant};
use crate::ops::gelu::Gelu;
use crate::ops::heads::Heads;
use crate::ops::kv_cache::{CacheFormat, LayerCache};
use crate::ops::layer_norm::LayerNorm;

/// All of them.
pub(super) async fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    let gpu = bench.gpu;
    let (x, y) = (gpu.buffer_with("x", &inputs(1, 192))?, gpu.buffer("y", 192 * 4)?);
    let vector = |seed| gpu.buffer_with("norm", &inputs(seed, 64));
    let norm = LayerNorm { weight: vector(2)?, bias: vector(3)?, eps: 1e-5 };
    bench.case("layer_norm", &y, 192, |plan| norm.launch(plan, &x, &y, [3, 64])).await?;
    for form in Gelu::ALL {
        let x = gpu.buffer_with("x", &inputs(1, 192))?;
        bench.case(&format!("gelu {}", form.name()), &x, 192, |plan| form.launch(plan, &x, 192)).await?;
    }
    let Heads { n_heads, n_kv_heads, head_dim } = HEADS;
    let (n, row) = (ENCODER_TOKENS * n_heads * head_dim, ENCODER_TOKENS * n_kv_heads * head_dim);
    let step = gpu.buffer_with("step", &[Step { past: 0, n_tokens: ENCODER_TOKENS, ..Step::default() }])?;
    let (q, k, v) = (inputs(5, n as usize), inputs(6, row as usize), inputs(7, row as usize));
    let q = gpu.buffer_with("q", &q)?;
    let cache =
        LayerCache { k: gpu.buffer_with("keys", &k)?, v: gpu.buffer_with("values", &v)?, format: CacheFormat::F32 };
    let o = gpu.buffer("o", u64::from(n) * 4)?;
    let operands = Operands { step: &step, q: &q, cache: &cache, o: &o, heads: HEADS, n_tokens: ENCODER_TOKENS };
    let variants = [1, attention::MANY_TOKENS].map(|n_tokens| Variant::choose(gpu, HEADS, n_tokens));
    for (variant, name) in variants.into_iter().zip(["attention to all", "attention to all of many tokens"]) {
        let kernels = bench.launch(|plan| attention::launch_whole(plan, variant, operands))?;
        let values: Vec<f32> = gpu.read(&o, 0, n as usize).await?;
        bench.keep(name.to_owned(), &kernels, sampled(&values));
    }
    Ok(())
}
