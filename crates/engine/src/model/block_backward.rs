//! The backward pass of a block: gradients to its input and to the adaption prompt beside its attention. The weights are frozen.

use super::block::{Block, GateUp, SavedActivations};
use super::config::Config;
use crate::gpu::{Buffer, GpuError, PlanBuilder};
use crate::ops::gated_attention::{self, PromptCache};
use crate::ops::matmul::Shape;
use crate::ops::rope::{self, Packed};
use crate::ops::{attention, head_norm, rms_norm, swiglu};

/// What the backward pass of a block reads and writes; all f32.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    /// Sizes.
    pub config: &'a Config,
    /// What the forward pass left.
    pub saved: &'a SavedActivations<Buffer>,
    /// The block's input `[T, C]`.
    pub input: &'a Buffer,
    /// The step's uniform.
    pub step: &'a Buffer,
    /// Rope angles.
    pub rope_table: &'a Buffer,
    /// `[T]`, for each token the first token of its text.
    pub starts: &'a Buffer,
    /// T
    pub n_tokens: u32,
    /// The gradient at the block's output, which becomes that at its input `[T, C]`.
    pub dx: &'a Buffer,
    /// Gradient after a norm `[T, C]`.
    pub dnormed: &'a Buffer,
    /// Gradient of the MLP's activations between its products `[T, F]`.
    pub dhidden: &'a Buffer,
    /// Gradient of attention's output `[T, H, D]`.
    pub dattended: &'a Buffer,
    /// Gradients of queries, keys and values `[T, (H+2K)D]`.
    pub dqkv: &'a Buffer,
}

/// The adaption prompt of the block, and its gradients.
#[derive(Clone, Copy)]
pub struct PromptOperands<'a> {
    /// Keys, values and gates.
    pub cache: &'a PromptCache,
    /// Its product with the weights of q, k and v `[A, (H+2K)D]`, where the family needs it.
    pub product: &'a Buffer,
    /// A
    pub adapter_len: u32,
    /// Between the stages `[T, H, A, 2]`.
    pub weights: &'a Buffer,
    /// Between the stages `[T, H]`.
    pub dgates: &'a Buffer,
    /// Gradients of its keys and values `[A, (H+2K)D]`, the queries' part 0.
    pub dproduct: &'a Buffer,
    /// Gradient of the prompt `[A, C]`.
    pub dembeddings: &'a Buffer,
    /// Gradient of the effective gates `[H]`.
    pub dgate: &'a Buffer,
    /// Nothing below this block learns: the block's input has no gradient.
    pub lowest: bool,
}

impl Operands<'_> {
    fn rows(&self, y_stride: u32) -> Shape {
        Shape { n_tokens: self.n_tokens, y_stride, y_offset: 0 }
    }

    fn norm(&self) -> rms_norm::Shape {
        let Config { n_channels, eps, .. } = *self.config;
        rms_norm::Shape { n_tokens: self.n_tokens, n_channels, first_token: 0, eps }
    }
}

impl Block {
    /// Backward of [`Block::mlp`]: `dx` goes from the block's output to between attention and MLP.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn mlp_backward(&self, plan: &mut PlanBuilder<'_>, operands: Operands<'_>) -> Result<(), GpuError> {
        let Operands { config, saved, n_tokens, dx, dnormed, dhidden, .. } = operands;
        let (n_ffn, z) = (config.n_ffn, &saved.gate_and_up);
        self.down.launch_backward(plan, dx, dhidden, operands.rows(config.n_channels), false)?;
        swiglu::launch_backward(plan, dhidden, z, [n_tokens, n_ffn], self.gate_up.rows())?;
        match &self.gate_up {
            GateUp::Fused(both) => both.launch_backward(plan, z, dnormed, operands.rows(2 * n_ffn), false)?,
            GateUp::Apart { gate, up } => {
                let half = |y_offset| Shape { y_offset, ..operands.rows(2 * n_ffn) };
                gate.launch_backward(plan, z, dnormed, half(0), false)?;
                up.launch_backward(plan, z, dnormed, half(n_ffn), true)?;
            }
        }
        rms_norm::launch_backward(plan, dnormed, &saved.residual, &self.mlp_norm, dx, None, operands.norm())
    }

    /// Backward of [`Block::attention`] with the adaption prompt beside it. In the lowest adapted block it ends with the prompt.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn attention_backward(
        &self,
        plan: &mut PlanBuilder<'_>,
        operands: Operands<'_>,
        prompt: PromptOperands<'_>,
    ) -> Result<(), GpuError> {
        let Operands { config, saved, n_tokens, dx, dnormed, dattended, dqkv, .. } = operands;
        let PromptOperands { adapter_len, lowest, .. } = prompt;
        let heads = config.heads();
        let packed = Packed { starts: operands.starts, stats: &saved.stats };
        self.output.launch_backward(plan, dx, dattended, operands.rows(config.n_channels), false)?;
        if !lowest {
            attention::launch_backward(
                plan,
                attention::BackwardOperands {
                    d_o: dattended,
                    q: &saved.q,
                    cache: &saved.cache(),
                    o: &saved.attended,
                    packed,
                    dqkv,
                    heads,
                    n_tokens,
                },
            )?;
        }
        gated_attention::launch_backward(
            plan,
            gated_attention::BackwardOperands {
                d_o: dattended,
                q: &saved.q,
                prompt: prompt.cache,
                weights: prompt.weights,
                dgates: prompt.dgates,
                dqkv,
                add_dq: !lowest,
                dprompt: prompt.dproduct,
                dgate: prompt.dgate,
                heads,
                n_tokens,
                adapter_len,
            },
        )?;
        let width = heads.qkv_width();
        let shape = Shape { n_tokens: adapter_len, y_stride: width, y_offset: 0 };
        let norm = self.head_norm(config);
        if let Some(norm) = norm {
            head_norm::launch_backward(plan, prompt.product, norm, prompt.dproduct, heads, adapter_len)?;
        }
        self.qkv.launch_backward(plan, prompt.dproduct, prompt.dembeddings, shape, false)?;
        if lowest {
            return Ok(());
        }
        let rotated = heads.n_heads + heads.n_kv_heads;
        let sizes = [n_tokens, rotated + heads.n_kv_heads, heads.head_dim];
        rope::launch_backward(plan, operands.step, operands.rope_table, dqkv, packed, sizes, rotated)?;
        if let Some(norm) = norm {
            head_norm::launch_backward(plan, &saved.qkv, norm, dqkv, heads, n_tokens)?;
        }
        self.qkv.launch_backward(plan, dqkv, dnormed, operands.rows(width), false)?;
        rms_norm::launch_backward(plan, dnormed, operands.input, &self.attention_norm, dx, None, operands.norm())
    }
}
