//! The RMS norm of each head of q and k in a fused product. Kernel: `shaders/head_norm.wgsl`; for tokens `kv_cache_write.wgsl` does it on
//! the way into the cache.

use super::heads::Heads;
use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n_tokens: u32,
    n_heads: u32,
    n_kv_heads: u32,
    head_vec4: u32,
    eps: f32,
    unused: [u32; 3],
}

/// The norm's weights.
#[derive(Debug, Clone, Copy)]
pub struct HeadNorm<'a> {
    /// `[2, D]`: of q, of k.
    pub weights: &'a Buffer,
    /// Added to the mean square.
    pub eps: f32,
}

/// The normed keys of a product: `x [T, (H+2K)D]`, `y [T, K, D]`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_keys(
    plan: &mut PlanBuilder<'_>,
    x: &Buffer,
    norm: HeadNorm<'_>,
    y: &Buffer,
    heads: Heads,
    n_tokens: u32,
) -> Result<(), GpuError> {
    launch(plan, [x, y], norm, heads, n_tokens, false)
}

/// The gradient to the product `x [T, (H+2K)D]`: `d`, of the same shape, holds those to normed queries and keys, and to values,
/// which have no norm and stay. The weights are frozen.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward(
    plan: &mut PlanBuilder<'_>,
    x: &Buffer,
    norm: HeadNorm<'_>,
    d: &Buffer,
    heads: Heads,
    n_tokens: u32,
) -> Result<(), GpuError> {
    launch(plan, [x, d], norm, heads, n_tokens, true)
}

fn launch(
    plan: &mut PlanBuilder<'_>,
    [x, y]: [&Buffer; 2],
    norm: HeadNorm<'_>,
    heads: Heads,
    n_tokens: u32,
    backward: bool,
) -> Result<(), GpuError> {
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let params = Params { n_tokens, n_heads, n_kv_heads, head_vec4: head_dim / 4, eps: norm.eps, unused: [0; 3] };
    let normed = if backward { n_heads + n_kv_heads } else { n_kv_heads };
    plan.launch(
        "head_norm",
        &constants([("BACKWARD", u32::from(backward).to_string())]),
        &[Arg::Params(bytemuck::bytes_of(&params)), Arg::Whole(x), Arg::Whole(norm.weights), Arg::Whole(y)],
        fold_groups((u64::from(n_tokens) * u64::from(normed)).div_ceil(64)),
    )
}
