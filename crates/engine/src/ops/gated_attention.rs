//! Zero-init gated attention to the adaption prompt. Kernels: `shaders/{gated_attention,gated_attention_queries}.wgsl`.

use super::attention::Variant;
use super::heads::Heads;
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

/// What the prompt's part of attention reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// `[T, H, D]`, rotated.
    pub q: &'a Buffer,
    /// The adapter's side.
    pub prompt: &'a PromptCache,
    /// `[T, H, D]`: added to, or with `o_base` written.
    pub o: &'a Buffer,
    /// `[T, H, D]`, what `o` is added to: the gradient needs the base attention's output as well.
    pub o_base: Option<&'a Buffer>,
    /// H, K and D.
    pub heads: Heads,
    /// T
    pub n_tokens: u32,
    /// A
    pub adapter_len: u32,
}

/// `o[t,h,:] += gate[h] * softmax(q[t,h,:] k_prompt^T / sqrt(D)) v_prompt`, or `o = o_base + ...`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(plan: &mut PlanBuilder<'_>, operands: Operands<'_>) -> Result<(), GpuError> {
    launch_variant(plan, Variant::choose(plan.gpu(), operands.heads, operands.n_tokens), operands)
}

/// [`launch`] with the kernel that goes with a variant of [`attention`](super::attention).
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_variant(plan: &mut PlanBuilder<'_>, variant: Variant, operands: Operands<'_>) -> Result<(), GpuError> {
    let Operands { q, prompt, o, o_base, heads, n_tokens, adapter_len } = operands;
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

/// What the gradient of the prompt's part reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct BackwardOperands<'a> {
    /// `[T, H, D]`, the gradient to the result.
    pub d_o: &'a Buffer,
    /// `[T, H, D]`, rotated.
    pub q: &'a Buffer,
    /// The adapter's side.
    pub prompt: &'a PromptCache,
    /// `[T, H, A, 2]`, between the stages.
    pub weights: &'a Buffer,
    /// `[T, H]`, between the stages.
    pub dgates: &'a Buffer,
    /// `[T, (H+2K)D]`: its q part is added to where that is wanted.
    pub dqkv: &'a Buffer,
    /// Whether it is: something below this layer learns.
    pub add_dq: bool,
    /// `[A, (H+2K)D]`: keys' and values' gradients, the q part 0.
    pub dprompt: &'a Buffer,
    /// `[H]`, to the effective gates.
    pub dgate: &'a Buffer,
    /// H, K and D.
    pub heads: Heads,
    /// T
    pub n_tokens: u32,
    /// A
    pub adapter_len: u32,
}

/// Gradients to the prompt's keys and values, to the gates, and to the queries.
/// Kernels: `shaders/{gated_attention_backward,gated_attention_reduce,gated_attention_reduce_lanes}.wgsl`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward(plan: &mut PlanBuilder<'_>, operands: BackwardOperands<'_>) -> Result<(), GpuError> {
    launch_backward_variant(plan, Variant::choose(plan.gpu(), operands.heads, operands.n_tokens), operands)
}

/// [`launch_backward`] with the kernels that go with a variant of [`attention`](super::attention).
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward_variant(
    plan: &mut PlanBuilder<'_>,
    variant: Variant,
    operands: BackwardOperands<'_>,
) -> Result<(), GpuError> {
    let BackwardOperands { d_o, q, prompt, weights, dgates, dqkv, add_dq, dprompt, dgate, .. } = operands;
    let BackwardOperands { heads, n_tokens, adapter_len, .. } = operands;
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
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
