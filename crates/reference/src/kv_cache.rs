//! Where keys and values of past tokens are kept. Shapes: `qkv: [T, (H + 2K) D]`, `q: [T, H, D]`, `k, v: [S, K, D]`.
//! Kernel: `shaders/kv_cache_write.wgsl` (which stores k in another order; see `shaders/README.md`).

use crate::attention::Heads;
use crate::rope::{self, Rope};

/// Keys (already rotated) and values of all positions so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KvCache {
    /// `[S, K, D]`
    pub k: Vec<f64>,
    /// `[S, K, D]`
    pub v: Vec<f64>,
}

/// Splits the fused product of a step, turns q and k to their positions P.., appends k and v; returns q.
pub fn write(cache: &mut KvCache, rope: &Rope, heads: Heads, qkv: &[f64]) -> Vec<f64> {
    let (width, kv_width) = (heads.n_heads * heads.head_dim, heads.n_kv_heads * heads.head_dim);
    assert!(qkv.len().is_multiple_of(width + 2 * kv_width), "qkv is [T, (H + 2K) D]");
    let past = cache.k.len() / kv_width;
    let mut queries = Vec::new();
    for (t, row) in qkv.chunks_exact(width + 2 * kv_width).enumerate() {
        let (q, rest) = row.split_at(width);
        let (k, v) = rest.split_at(kv_width);
        queries.extend(rope::forward(rope, q, heads.head_dim, &[past + t]));
        cache.k.extend(rope::forward(rope, k, heads.head_dim, &[past + t]));
        cache.v.extend_from_slice(v);
    }
    queries
}
