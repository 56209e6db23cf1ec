//! Splits the fused q, k, v product, turns q and k, appends k and v to the cache. Kernel: `shaders/kv_cache_write.wgsl`.

use super::attention::Heads;
use super::rope::Packed;
use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n_tokens: u32,
    n_heads: u32,
    n_kv_heads: u32,
    head_vec4: u32,
}

/// The keys and values of one layer. `k [positions/8, K, D/4, 8]` of vec4, `v [positions, K, D]`, f32.
#[derive(Debug, Clone)]
pub struct LayerCache {
    /// Keys, already turned.
    pub k: Buffer,
    /// Values.
    pub v: Buffer,
}

/// Positions a cache grows by, a multiple of the 8 that its layout needs.
pub const PAGE: u32 = 64;

/// Bytes of the keys (and of the values) of one layer for `positions`.
pub fn plane_bytes(heads: Heads, positions: u32) -> u64 {
    u64::from(positions.next_multiple_of(8)) * u64::from(heads.n_kv_heads) * u64::from(heads.head_dim) * 4
}

/// Shapes: `qkv [T, (H+2K)D]`, `table [positions, D/2, 2]`, `q [T,H,D]`; positions are `step.past + t`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
#[expect(clippy::too_many_arguments, reason = "the operands of one op, in the kernel's binding order")]
pub fn launch(
    plan: &mut PlanBuilder<'_>,
    step: &Buffer,
    table: &Buffer,
    qkv: &Buffer,
    q: &Buffer,
    cache: &LayerCache,
    heads: Heads,
    n_tokens: u32,
    packed: Option<Packed<'_>>,
) -> Result<(), GpuError> {
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let params = Params { n_tokens, n_heads, n_kv_heads, head_vec4: head_dim / 4 };
    let n_vec4 = u64::from(n_tokens) * u64::from(n_heads + 2 * n_kv_heads) * u64::from(head_dim / 4);
    let mut args = vec![
        Arg::Params(bytemuck::bytes_of(&params)),
        Arg::Whole(step),
        Arg::Whole(table),
        Arg::Whole(qkv),
        Arg::Whole(q),
        Arg::Whole(&cache.k),
        Arg::Whole(&cache.v),
    ];
    args.extend(packed.map(|packed| Arg::Whole(packed.starts)));
    let constants = constants([("PACKED", u32::from(packed.is_some()).to_string())]);
    plan.launch("kv_cache_write", &constants, &args, fold_groups(n_vec4.div_ceil(64)))
}
