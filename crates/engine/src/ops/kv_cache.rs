//! Splits the fused q, k, v product, rotates q and k, appends k and v to the cache. Kernel: `shaders/kv_cache_write.wgsl`.

use super::head_norm::HeadNorm;
use super::heads::Heads;
use super::rope::Packed;
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

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheFormat {
    /// As they were computed.
    #[default]
    F32,
    /// Half the memory: rounded to 11 bits, at most 65,504.
    F16,
    /// A quarter and a little: 8 bits of the largest channel of a head, which stands beside them as a float.
    Q8,
}

impl CacheFormat {
    /// `f32`, `f16` or `q8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
        }
    }

    /// The constants that make a kernel read or write this format.
    pub(crate) fn constants(self) -> [(&'static str, String); 2] {
        [("KV", self.name().to_owned()), ("SCALES", u32::from(self == Self::Q8).to_string())]
    }

    /// Bytes of the keys (and of the values) of one layer for `positions`.
    pub fn plane_bytes(self, heads: Heads, positions: u32) -> u64 {
        let channels = u64::from(heads.head_dim);
        let head_bytes = match self {
            Self::F32 => channels * 4,
            Self::F16 => channels * 2,
            Self::Q8 => channels + 4,
        };
        u64::from(positions.next_multiple_of(8)) * u64::from(heads.n_kv_heads) * head_bytes
    }
}

/// The keys and values of one layer. `k [positions/8, K, D/4, 8]` of vec4, `v [positions, K, D]`.
#[derive(Debug, Clone)]
pub struct LayerCache {
    /// Keys, already rotated.
    pub k: Buffer,
    /// Values.
    pub v: Buffer,
    /// How both are stored.
    pub format: CacheFormat,
}

/// Positions a cache grows by, a multiple of the 8 that its layout needs.
pub const PAGE: u32 = 64;

/// [`CacheFormat::plane_bytes`] of an f32 cache.
pub fn plane_bytes(heads: Heads, positions: u32) -> u64 {
    CacheFormat::F32.plane_bytes(heads, positions)
}

/// What splitting a product reads and writes; positions are `step.past + t`.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// The step's uniform.
    pub step: &'a Buffer,
    /// Rope angles `[positions, D/2, 2]`.
    pub table: &'a Buffer,
    /// `[T, (H+2K)D]`
    pub qkv: &'a Buffer,
    /// The norm of each head of q and k before they are rotated, in families that have one.
    pub norm: Option<HeadNorm<'a>>,
    /// `[T, H, D]`, written.
    pub q: &'a Buffer,
    /// Where keys and values go.
    pub cache: &'a LayerCache,
    /// H, K and D.
    pub heads: Heads,
    /// T
    pub n_tokens: u32,
    /// Several texts side by side.
    pub packed: Option<Packed<'a>>,
}

/// Splits a product: queries are rotated, keys rotated and cached, values cached.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(plan: &mut PlanBuilder<'_>, operands: Operands<'_>) -> Result<(), GpuError> {
    let Operands { step, table, qkv, norm, q, cache, heads, n_tokens, packed } = operands;
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let eps = norm.map_or(0.0, |norm| norm.eps);
    let params = Params { n_tokens, n_heads, n_kv_heads, head_vec4: head_dim / 4, eps, unused: [0; 3] };
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
    let norm_binding = if norm.is_some() { args.len() } else { 0 };
    args.extend(norm.map(|norm| Arg::Whole(norm.weights)));
    let packed = u32::from(packed.is_some()).to_string();
    let [kv, scales] = cache.format.constants();
    let constants = constants([("PACKED", packed), ("NORM", norm_binding.to_string()), kv, scales]);
    plan.launch("kv_cache_write", &constants, &args, fold_groups(n_vec4.div_ceil(64)))
}
