//! Zero-init gated attention to the adaption prompt. Kernels: `shaders/{gated_attention,gated_attention_queries}.wgsl`.

use super::attention::{Heads, Variant};
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
/// With `o_base` the result is `o = o_base + ...`: the gradient needs the base attention's output as well.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(
    plan: &mut PlanBuilder<'_>,
    q: &Buffer,
    prompt: &PromptCache,
    o: &Buffer,
    o_base: Option<&Buffer>,
    heads: Heads,
    lengths: [u32; 2],
) -> Result<(), GpuError> {
    let variant = Variant::choose(plan.gpu(), heads, lengths[0]);
    launch_variant(plan, variant, q, prompt, o, o_base, heads, lengths)
}

/// [`launch`] with the kernel that goes with a variant of [`attention`](super::attention).
///
/// # Errors
/// As [`PlanBuilder::launch`].
#[expect(clippy::too_many_arguments, reason = "the operands of one op, in the kernel's binding order")]
pub fn launch_variant(
    plan: &mut PlanBuilder<'_>,
    variant: Variant,
    q: &Buffer,
    prompt: &PromptCache,
    o: &Buffer,
    o_base: Option<&Buffer>,
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
    let mut args = vec![
        Arg::Params(bytemuck::bytes_of(&params)),
        Arg::Whole(q),
        Arg::Whole(&prompt.k),
        Arg::Whole(&prompt.v),
        Arg::Whole(&prompt.gate),
        Arg::Whole(o),
    ];
    args.extend(o_base.map(Arg::Whole));
    let apart = ("APART", u32::from(o_base.is_some()).to_string());
    if variant == Variant::Queries {
        let slots = variant.most_slots(heads);
        let constants = constants([
            apart,
            ("SLOTS", slots.to_string()),
            ("HEAD_VEC4", (head_dim / 4).to_string()),
            ("REGS", (head_dim / 32).to_string()),
            ("SCALES", "0".to_owned()),
        ]);
        let n_slots = n_tokens * (n_heads / n_kv_heads);
        return plan.launch("gated_attention_queries", &constants, &args, [n_slots.div_ceil(8 * slots), n_kv_heads, 1]);
    }
    let wg = if plan.gpu().tier().cpu { 8 } else { 64 };
    let constants = constants([apart, ("WG", wg.to_string())]);
    plan.launch("gated_attention", &constants, &args, fold_groups(u64::from(n_tokens) * u64::from(n_heads)))
}

impl PromptCache {
    /// Takes keys and values out of a fused product of the prompt, `[A, (H+2K)D]`.
    pub fn copy_from_product(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        product: &Buffer,
        heads: Heads,
        adapter_len: u32,
    ) {
        let q_bytes = u64::from(heads.n_heads * heads.head_dim) * 4;
        let row_bytes = u64::from(heads.n_kv_heads * heads.head_dim) * 4;
        for a in 0..u64::from(adapter_len) {
            let from = a * (q_bytes + 2 * row_bytes) + q_bytes;
            encoder.copy_buffer_to_buffer(product.raw(), from, self.k.raw(), a * row_bytes, row_bytes);
            encoder.copy_buffer_to_buffer(product.raw(), from + row_bytes, self.v.raw(), a * row_bytes, row_bytes);
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct BackwardParams {
    n_tokens: u32,
    n_heads: u32,
    n_kv_heads: u32,
    adapter_len: u32,
    scale: f32,
    add_dq: u32,
    unused: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct ReduceParams {
    n_tokens: u32,
    n_heads: u32,
    n_kv_heads: u32,
    adapter_len: u32,
    head_vec4: u32,
    unused: [u32; 3],
}

/// Where the gradient of the prompt's part goes, and what its two stages pass on.
#[derive(Debug, Clone, Copy)]
pub struct Gradients<'a> {
    /// `[T, H, A, 2]`, between the stages.
    pub weights: &'a Buffer,
    /// `[T, H]`, between the stages.
    pub dgates: &'a Buffer,
    /// `[T, (H+2K)D]`: its q part is added to, unless nothing below this layer learns (`None` leaves it alone).
    pub dqkv: &'a Buffer,
    /// Whether `dqkv` is wanted.
    pub add_dq: bool,
    /// `[A, (H+2K)D]`: keys' and values' gradients, the q part 0.
    pub dprompt: &'a Buffer,
    /// `[H]`, to the effective gates.
    pub dgate: &'a Buffer,
}

/// Gradients to the prompt's keys and values, to the gates, and to the queries. Shapes: `d_o, q [T,H,D]`.
/// Kernels: `shaders/{gated_attention_backward,gated_attention_reduce,gated_attention_reduce_lanes}.wgsl`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward(
    plan: &mut PlanBuilder<'_>,
    d_o: &Buffer,
    q: &Buffer,
    prompt: &PromptCache,
    gradients: Gradients<'_>,
    heads: Heads,
    lengths: [u32; 2],
) -> Result<(), GpuError> {
    let variant = Variant::choose(plan.gpu(), heads, lengths[0]);
    launch_backward_variant(plan, variant, d_o, q, prompt, gradients, heads, lengths)
}

/// [`launch_backward`] with the kernels that go with a variant of [`attention`](super::attention).
///
/// # Errors
/// As [`PlanBuilder::launch`].
#[expect(clippy::too_many_arguments, reason = "the operands of one op, in the kernel's binding order")]
pub fn launch_backward_variant(
    plan: &mut PlanBuilder<'_>,
    variant: Variant,
    d_o: &Buffer,
    q: &Buffer,
    prompt: &PromptCache,
    gradients: Gradients<'_>,
    heads: Heads,
    [n_tokens, adapter_len]: [u32; 2],
) -> Result<(), GpuError> {
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let Gradients { weights, dgates, dqkv, add_dq, dprompt, dgate } = gradients;
    let params = BackwardParams {
        n_tokens,
        n_heads,
        n_kv_heads,
        adapter_len,
        scale: heads.scale(),
        add_dq: u32::from(add_dq),
        unused: [0; 2],
    };
    let [d_o, q] = [d_o, q].map(Arg::Whole);
    let [k, v, gate] = [&prompt.k, &prompt.v, &prompt.gate].map(Arg::Whole);
    let [weights, dgates] = [weights, dgates].map(Arg::Whole);
    plan.launch(
        "gated_attention_backward",
        &constants([
            ("HEAD_VEC4", (head_dim / 4).to_string()),
            ("REGS", (head_dim / 32).to_string()),
            ("LANES", u32::from(variant.in_lanes()).to_string()),
        ]),
        &[Arg::Params(bytemuck::bytes_of(&params)), d_o, q, k, v, gate, weights, dgates, Arg::Whole(dqkv)],
        [n_tokens.div_ceil(8), n_heads, 1],
    )?;
    let params = ReduceParams { n_tokens, n_heads, n_kv_heads, adapter_len, head_vec4: head_dim / 4, unused: [0; 3] };
    let args =
        [Arg::Params(bytemuck::bytes_of(&params)), d_o, q, weights, dgates, Arg::Whole(dprompt), Arg::Whole(dgate)];
    if variant.in_lanes() {
        // Evenly filled chunks of at most the 8 prompt tokens whose weights one load brings.
        let chunk = adapter_len.div_ceil(adapter_len.div_ceil(8));
        let constants = constants([("CHUNK", chunk.to_string()), ("REGS", (head_dim / 32).to_string())]);
        let groups = [adapter_len.div_ceil(chunk), 2 * n_kv_heads, 1];
        return plan.launch("gated_attention_reduce_lanes", &constants, &args, groups);
    }
    let n_vec4 = u64::from(adapter_len) * u64::from(n_heads + 2 * n_kv_heads) * u64::from(head_dim / 4);
    plan.launch("gated_attention_reduce", &constants([]), &args, fold_groups(n_vec4.div_ceil(64)))
}
