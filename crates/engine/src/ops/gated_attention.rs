//! Zero-init gated attention to the adaption prompt. Kernel: `shaders/gated_attention.wgsl`.

use super::attention::Heads;
use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

/// Longest adaption prompt the kernel takes.
pub const MAX_ADAPTER_LEN: u32 = 256;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n_tokens: u32,
    n_heads: u32,
    n_kv_heads: u32,
    head_vec4: u32,
    adapter_len: u32,
    scale: f32,
    unused: [u32; 2],
}

/// Keys and values of one layer's prompt, `[A, K, D]`, and its gates `[H]` (activation and strength applied).
#[derive(Debug, Clone)]
pub struct PromptCache {
    /// Keys: no rope, no position.
    pub k: Buffer,
    /// Values.
    pub v: Buffer,
    /// One number a query head.
    pub gate: Buffer,
}

/// `o[t,h,:] += gate[h] * softmax(q[t,h,:] k_prompt^T / sqrt(D)) v_prompt`. Shapes: `q, o [T,H,D]`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(
    plan: &mut PlanBuilder<'_>,
    q: &Buffer,
    prompt: &PromptCache,
    o: &Buffer,
    heads: Heads,
    [n_tokens, adapter_len]: [u32; 2],
) -> Result<(), GpuError> {
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let params = Params {
        n_tokens,
        n_heads,
        n_kv_heads,
        head_vec4: head_dim / 4,
        adapter_len,
        scale: heads.scale(),
        unused: [0; 2],
    };
    plan.launch(
        "gated_attention",
        &constants([]),
        &[
            Arg::Params(bytemuck::bytes_of(&params)),
            Arg::Whole(q),
            Arg::Whole(&prompt.k),
            Arg::Whole(&prompt.v),
            Arg::Whole(&prompt.gate),
            Arg::Whole(o),
        ],
        fold_groups(u64::from(n_tokens) * u64::from(n_heads)),
    )
}
