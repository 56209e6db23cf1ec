//! One decoder block: attention with the adaption prompt beside it, then the MLP.

use crate::gpu::{Buffer, GpuError, PlanBuilder};
use crate::llama::Config;
use crate::ops::attention::{self, Heads, Stretches};
use crate::ops::gated_attention::{self, PromptCache};
use crate::ops::kv_cache::{self, LayerCache};
use crate::ops::matmul::{self, Epilogue, Matrix, Norm};
use crate::ops::rope::Packed;
use crate::ops::swiglu;

/// The frozen weights of one block.
#[derive(Debug)]
pub struct Block {
    /// `[C]`
    pub attention_norm: Buffer,
    /// q, k and v below each other: `[(H+2K)D, C]`
    pub qkv: Matrix,
    /// `[C, H D]`
    pub output: Matrix,
    /// `[C]`
    pub mlp_norm: Buffer,
    /// Gate and up: tiles alternating `[2F, C]`, or two matrices when their formats differ.
    pub gate_up: GateUp,
    /// `[C, F]`
    pub down: Matrix,
}

/// The two input matrices of the MLP.
#[derive(Debug)]
pub enum GateUp {
    /// One product that ends in swiglu.
    Fused(Matrix),
    /// Two products, then swiglu.
    Apart {
        /// `[F, C]`
        gate: Matrix,
        /// `[F, C]`
        up: Matrix,
    },
}

/// Activations of a step, all f32; `T` is the most tokens a step may have.
#[derive(Debug)]
pub struct Activations {
    /// The residual stream `[T, C]`.
    pub x: Buffer,
    /// `x` after a norm `[T, C]`.
    pub normed: Buffer,
    /// `[T, (H+2K)D]`
    pub qkv: Buffer,
    /// Queries, turned `[T, H, D]`.
    pub q: Buffer,
    /// Attention's output before its projection `[T, H, D]`.
    pub attended: Buffer,
    /// The MLP's middle `[T, F]`.
    pub hidden: Buffer,
    /// Gate and up apart `[T, F]` each; only for models that need them.
    pub gate_and_up: Option<(Buffer, Buffer)>,
}

/// What a block's launch needs beside its weights.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Sizes.
    pub config: &'a Config,
    /// Activations.
    pub activations: &'a Activations,
    /// The step's uniform.
    pub step: &'a Buffer,
    /// Rope angles.
    pub rope_table: &'a Buffer,
    /// T
    pub n_tokens: u32,
    /// Several texts side by side (training), or one conversation.
    pub packed: Option<Packed<'a>>,
    /// Attention in stretches of the context: one token behind many.
    pub stretches: Option<Stretches<'a>>,
}

impl Block {
    /// `x += attention(norm(x)); x += mlp(norm(x))` for T tokens at positions `past..past+T`.
    ///
    /// The prompt's part is added after the base attention, which is the same launch with and without an adapter: a
    /// closed gate leaves every bit as it was.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn launch(
        &self,
        plan: &mut PlanBuilder<'_>,
        context: Context<'_>,
        cache: &LayerCache,
        prompt: Option<(&PromptCache, u32)>,
    ) -> Result<(), GpuError> {
        let Context { config, activations: act, step, rope_table, n_tokens, packed, stretches } = context;
        let heads = config.heads();
        let norm = |weight| Norm { weight, eps: config.eps, first_token: 0, scratch: &act.normed };
        let product = |y_stride| matmul::Shape { n_tokens, y_stride, y_offset: 0 };

        let qkv_shape = product(qkv_width(heads));
        matmul::launch_normed(
            plan,
            &self.qkv,
            &act.x,
            norm(&self.attention_norm),
            &act.qkv,
            qkv_shape,
            Epilogue::Store,
        )?;
        kv_cache::launch(plan, step, rope_table, &act.qkv, &act.q, cache, heads, n_tokens, packed)?;
        let operands = attention::Operands { step, q: &act.q, cache, o: &act.attended, heads, n_tokens };
        match stretches {
            None => attention::launch(plan, operands, packed)?,
            Some(parts) => {
                let variant = attention::Variant::choose(plan.gpu(), heads, n_tokens);
                attention::launch_stretches(plan, variant, operands, parts)?;
            }
        }
        if let Some((prompt, adapter_len)) = prompt {
            let (q, o) = (&act.q, &act.attended);
            let operands = gated_attention::Operands { q, prompt, o, o_base: None, heads, n_tokens, adapter_len };
            gated_attention::launch(plan, operands)?;
        }
        matmul::launch(plan, &self.output, &act.attended, &act.x, product(config.n_channels), Epilogue::Add)?;

        let (norm, ffn) = (norm(&self.mlp_norm), product(config.n_ffn));
        match (&self.gate_up, &act.gate_and_up) {
            (GateUp::Fused(gate_up), _) => {
                matmul::launch_normed(plan, gate_up, &act.x, norm, &act.hidden, ffn, Epilogue::Swiglu)?;
            }
            (GateUp::Apart { gate, up }, Some((gate_out, up_out))) => {
                matmul::launch_normed(plan, gate, &act.x, norm, gate_out, ffn, Epilogue::Store)?;
                matmul::launch_normed(plan, up, &act.x, norm, up_out, ffn, Epilogue::Store)?;
                swiglu::launch(plan, gate_out, up_out, &act.hidden, n_tokens * config.n_ffn)?;
            }
            (GateUp::Apart { .. }, None) => {
                return Err(GpuError::Validation { message: "no buffers for gate and up apart".to_owned() });
            }
        }
        matmul::launch(plan, &self.down, &act.hidden, &act.x, product(config.n_channels), Epilogue::Add)
    }
}

/// Columns of the fused q, k, v product.
pub fn qkv_width(heads: Heads) -> u32 {
    (heads.n_heads + 2 * heads.n_kv_heads) * heads.head_dim
}
