//! Attention over the cache, causal or not, grouped queries, online softmax. Kernels:
//! `shaders/{attention,attention_lanes,attention_queries,attention_keys,attention_merge}.wgsl`.

use super::heads::Heads;
use super::kv_cache::LayerCache;
use super::rope::Packed;
use crate::gpu::{Arg, Buffer, Gpu, GpuError, PlanBuilder, constants, fold_groups};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_vec4: u32,
    scale: f32,
}

/// Which kernel computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Through workgroup memory: every GPU.
    Workgroup,
    /// In the lanes of a subgroup, no barrier: CPU adapters, heads of 32, 64, 96 or 128.
    Lanes,
    /// A lane owns some of the queries, no barrier and no reduction: many tokens where [`Variant::Lanes`] takes one.
    Queries,
    /// A lane owns some of the keys, no barrier but the last: CPU adapters without subgroups, heads of at most 128.
    Keys,
}

/// From this many tokens on there are enough queries to fill the lanes of [`Variant::Queries`].
pub const MANY_TOKENS: u32 = 16;

impl Variant {
    /// The variant that runs on `gpu`.
    pub fn choose(gpu: &Gpu, heads: Heads, n_tokens: u32) -> Self {
        let tier = gpu.tier();
        if !tier.cpu || heads.head_dim > 128 {
            Self::Workgroup
        } else if !tier.broadcast {
            Self::Keys
        } else if heads.head_dim.is_multiple_of(32) {
            if n_tokens >= MANY_TOKENS { Self::Queries } else { Self::Lanes }
        } else {
            Self::Workgroup
        }
    }
}

impl Variant {
    /// Whether its kernels, and those of the gradient beside them, hand rows round the lanes of a subgroup.
    pub(super) fn in_lanes(self) -> bool {
        matches!(self, Self::Lanes | Self::Queries)
    }

    /// The most slots of a workgroup, or of a lane of [`Variant::Queries`]. A slot is a (token, query head of a group).
    pub(super) fn most_slots(self, heads: Heads) -> u32 {
        match self {
            // What registers, or for a lane of its own the first cache, carry of a head of 64; one vector of keys.
            Self::Lanes | Self::Keys => 4,
            Self::Queries => (256 / heads.head_dim).min(4),
            // Workgroup memory (16 KiB everywhere) carries 8 slots of a head of 128.
            Self::Workgroup if heads.head_dim > 128 => 4,
            Self::Workgroup => 8,
        }
    }
}

/// What attention reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// [`Step`](crate::gpu::Step), of which the past counts.
    pub step: &'a Buffer,
    /// `[T, H, D]`, rotated.
    pub q: &'a Buffer,
    /// Keys and values, those of this step included.
    pub cache: &'a LayerCache,
    /// `[T, H, D]`, written.
    pub o: &'a Buffer,
    /// H, K and D.
    pub heads: Heads,
    /// T
    pub n_tokens: u32,
}

/// `o[t,h,:] = softmax(q[t,h,:] k^T / sqrt(D)) v` over positions up to `step.past + t`.
///
/// With `packed` several texts lie side by side (`step.past` is 0) and each token sees its own.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(plan: &mut PlanBuilder<'_>, operands: Operands<'_>, packed: Option<Packed<'_>>) -> Result<(), GpuError> {
    launch_variant(plan, Variant::choose(plan.gpu(), operands.heads, operands.n_tokens), operands, packed)
}

/// [`launch`] with a given variant.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_variant(
    plan: &mut PlanBuilder<'_>,
    variant: Variant,
    operands: Operands<'_>,
    packed: Option<Packed<'_>>,
) -> Result<(), GpuError> {
    attend(plan, variant, operands, packed.map_or(Mode::Plain, Mode::Packed))
}

/// [`launch_variant`] without the causal mask, as encoders have it: every token sees all.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_whole(plan: &mut PlanBuilder<'_>, variant: Variant, operands: Operands<'_>) -> Result<(), GpuError> {
    attend(plan, variant, operands, Mode::Whole)
}

/// Positions from which on more workgroups than one a kv head pay, and that each gets then.
const KV_SPLIT_POSITIONS: u32 = 256;
/// Most KV splits of a context.
pub const MAX_KV_SPLITS: u32 = 16;

/// KV splits: parts of the context that one token's attention is cut into, so that a long one keeps more than K workgroups busy.
#[derive(Debug, Clone, Copy)]
pub struct KvSplits<'a> {
    /// How many: [`kv_splits`] of the cache's positions.
    pub n: u32,
    /// `[n, T, H, D]`, between the two launches.
    pub sums: &'a Buffer,
    /// `[n, T, H, 2]`, between the two launches.
    pub stats: &'a Buffer,
}

/// How many KV splits a cache of `positions` is worth; 1: none.
pub fn kv_splits(positions: u32) -> u32 {
    (positions / KV_SPLIT_POSITIONS).clamp(1, MAX_KV_SPLITS)
}

/// [`launch`] in KV splits, whose sums a second launch puts together. Kernel: `shaders/attention_merge.wgsl`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_split(
    plan: &mut PlanBuilder<'_>,
    variant: Variant,
    operands: Operands<'_>,
    kv_splits: KvSplits<'_>,
) -> Result<(), GpuError> {
    let KvSplits { n, sums, stats } = kv_splits;
    attend(plan, variant, Operands { o: sums, ..operands }, Mode::KvSplits(kv_splits))?;
    let Operands { o, heads, n_tokens, .. } = operands;
    let (n_rows, head_vec4) = (n_tokens * heads.n_heads, heads.head_dim / 4);
    let params = [n_rows, n, head_vec4, 0];
    let params = Arg::Params(bytemuck::bytes_of(&params));
    let args = [params, Arg::Whole(sums), Arg::Whole(stats), Arg::Whole(o)];
    let groups = fold_groups((u64::from(n_rows) * u64::from(head_vec4)).div_ceil(64));
    plan.launch("attention_merge", &constants([]), &args, groups)
}

/// What else a launch does.
#[derive(Clone, Copy)]
enum Mode<'a> {
    Plain,
    Whole,
    Packed(Packed<'a>),
    KvSplits(KvSplits<'a>),
}

fn attend(
    plan: &mut PlanBuilder<'_>,
    variant: Variant,
    operands: Operands<'_>,
    mode: Mode<'_>,
) -> Result<(), GpuError> {
    let Operands { step, q, cache, o, heads, n_tokens } = operands;
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let params = Params { n_heads, n_kv_heads, head_vec4: head_dim / 4, scale: heads.scale() };
    // For one token as many slots as the group has, for many tokens enough to reuse each key.
    let n_slots = n_tokens * (n_heads / n_kv_heads);
    let most = variant.most_slots(heads);
    let slots = if variant == Variant::Queries { most } else { n_slots.min(most) };
    let kernel = match variant {
        Variant::Lanes => "attention_lanes",
        Variant::Queries => "attention_queries",
        Variant::Keys => "attention_keys",
        Variant::Workgroup => "attention",
    };
    let mut args = vec![
        Arg::Params(bytemuck::bytes_of(&params)),
        Arg::Whole(step),
        Arg::Whole(q),
        Arg::Whole(&cache.k),
        Arg::Whole(&cache.v),
        Arg::Whole(o),
    ];
    match mode {
        Mode::Plain | Mode::Whole => {}
        Mode::Packed(Packed { starts, stats }) => args.extend([Arg::Whole(starts), Arg::Whole(stats)]),
        Mode::KvSplits(KvSplits { stats, .. }) => args.push(Arg::Whole(stats)),
    }
    let mut constants = constants([
        ("SLOTS", slots.to_string()),
        ("LAST_SLOT", (slots - 1).to_string()),
        ("HEAD_VEC4", (head_dim / 4).to_string()),
        ("REGS", (head_dim / 32).to_string()),
        ("CAUSAL", u32::from(!matches!(mode, Mode::Whole)).to_string()),
        ("PACKED", u32::from(matches!(mode, Mode::Packed(_))).to_string()),
        ("SPLIT", u32::from(matches!(mode, Mode::KvSplits(_))).to_string()),
    ]);
    constants.extend(cache.format.constants());
    if variant == Variant::Keys {
        constants.insert("LANES", "4".to_owned()); // one vector: more lanes are more shares to merge
    }
    let group_slots = if variant == Variant::Queries { 8 * slots } else { slots };
    let parts = if let Mode::KvSplits(kv_splits) = mode { kv_splits.n } else { 1 };
    plan.launch(kernel, &constants, &args, [n_slots.div_ceil(group_slots), n_kv_heads, parts])
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct BackwardParams {
    n_tokens: u32,
    n_heads: u32,
    n_kv_heads: u32,
    scale: f32,
}

/// What the backward pass of attention reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct BackwardOperands<'a> {
    /// `[T, H, D]`, the gradient to `o`.
    pub d_o: &'a Buffer,
    /// `[T, H, D]`, rotated.
    pub q: &'a Buffer,
    /// Keys and values.
    pub cache: &'a LayerCache,
    /// `[T, H, D]`, what the forward pass gave.
    pub o: &'a Buffer,
    /// Where each text begins, and the log-sum-exp of the forward pass.
    pub packed: Packed<'a>,
    /// `[T, (H+2K)D]`, written: gradients to queries, keys and values, still rotated.
    pub dqkv: &'a Buffer,
    /// H, K and D.
    pub heads: Heads,
    /// T
    pub n_tokens: u32,
}

/// Gradients to queries, keys and values. Probabilities are computed again from the log-sum-exp: no T x T buffer.
/// Kernels: `shaders/{attention_backward_q,attention_backward_kv}.wgsl`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward(plan: &mut PlanBuilder<'_>, operands: BackwardOperands<'_>) -> Result<(), GpuError> {
    launch_backward_variant(plan, Variant::choose(plan.gpu(), operands.heads, operands.n_tokens), operands)
}

/// [`launch_backward`] with a given variant; [`Variant::Workgroup`] is the one for every GPU.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward_variant(
    plan: &mut PlanBuilder<'_>,
    variant: Variant,
    operands: BackwardOperands<'_>,
) -> Result<(), GpuError> {
    let BackwardOperands { d_o, q, cache, o, packed, dqkv, heads, n_tokens } = operands;
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let params = BackwardParams { n_tokens, n_heads, n_kv_heads, scale: heads.scale() };
    let params = Arg::Params(bytemuck::bytes_of(&params));
    let constants = constants([
        ("HEAD_VEC4", (head_dim / 4).to_string()),
        ("REGS", (head_dim / 32).to_string()),
        ("LANES", u32::from(variant.in_lanes()).to_string()),
    ]);
    let [d_o, q, k, v, o] = [d_o, q, &cache.k, &cache.v, o].map(Arg::Whole);
    let [starts, stats, dqkv] = [packed.starts, packed.stats, dqkv].map(Arg::Whole);
    let groups = |heads| [n_tokens.div_ceil(8), heads, 1];
    plan.launch("attention_backward_q", &constants, &[params, d_o, q, k, v, o, starts, stats, dqkv], groups(n_heads))?;
    plan.launch("attention_backward_kv", &constants, &[params, d_o, q, k, v, starts, stats, dqkv], groups(n_kv_heads))
}
