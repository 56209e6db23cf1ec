//! One decoder block: attention, with what stands beside it, then the MLP. Its backward pass: [`block_backward`](super::block_backward).

use super::architecture::RopePairs;
use super::config::Config;
use super::linear::Linear;
use super::loader::{Loader, Order};
use super::tensors::Tensors;
use crate::Error;
use crate::gpu::{Buffer, Gpu, GpuError, PlanBuilder};
use crate::ops::attention::{self, KvSplits};
use crate::ops::gated_attention::{self, PromptCache};
use crate::ops::head_norm::{self, HeadNorm};
use crate::ops::kv_cache::{self, CacheFormat, LayerCache};
use crate::ops::matmul::{Epilogue, Norm, Shape};
use crate::ops::rope::Packed;
use crate::ops::swiglu::{self, Rows};

/// The frozen weights of one block.
#[derive(Debug)]
pub struct Block {
    /// `[C]`
    pub attention_norm: Buffer,
    /// q, k and v below each other: `[(H+2K)D, C]`
    pub qkv: Linear,
    /// Weights of the norm of each head, `[2, D]` of q and of k, in families that have one.
    pub head_norm: Option<Buffer>,
    /// `[C, H D]`
    pub output: Linear,
    /// `[C]`
    pub mlp_norm: Buffer,
    /// Gate and up: tiles alternating `[2F, C]`, or two matrices when their formats differ.
    pub gate_up: GateUp,
    /// `[C, F]`
    pub down: Linear,
}

/// The two input matrices of the MLP.
#[derive(Debug)]
pub enum GateUp {
    /// One product that ends in swiglu.
    Fused(Linear),
    /// Two products, then swiglu.
    Apart {
        /// `[F, C]`
        gate: Linear,
        /// `[F, C]`
        up: Linear,
    },
}

impl GateUp {
    /// How gate and up lie in a row of `[T, 2F]`.
    pub fn rows(&self) -> Rows {
        match self {
            Self::Fused(_) => Rows::Alternating,
            Self::Apart { .. } => Rows::Halves,
        }
    }
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
    /// Queries, rotated `[T, H, D]`.
    pub q: Buffer,
    /// Attention's output before its projection `[T, H, D]`.
    pub attended: Buffer,
    /// The MLP's activations between its products `[T, F]`.
    pub hidden: Buffer,
    /// Gate and up `[T, 2F]`, where a block of the model has both apart; nobody uses it elsewhere.
    pub gate_and_up: Buffer,
}

/// Saved activations: what the backward pass needs of a block's forward pass beside the block's input.
#[derive(Debug)]
pub struct SavedActivations<B> {
    /// Product of q, k and v `[T, (H+2K)D]`: a family whose backward pass does not need it lets all blocks share one.
    pub qkv: B,
    /// Queries, rotated `[T, H, D]`.
    pub q: B,
    /// Keys in the cache's layout.
    pub k: B,
    /// Values in the cache's layout.
    pub v: B,
    /// Output of the attention to the text alone `[T, H, D]`.
    pub attended: B,
    /// Log-sum-exp and delta `[T, H, 2]`.
    pub stats: B,
    /// The residual stream between attention and MLP `[T, C]`.
    pub residual: B,
    /// Gate and up `[T, 2F]`, then their gradients.
    pub gate_and_up: B,
}

impl SavedActivations<Buffer> {
    /// Keys and values as the kernels of attention take them.
    pub fn cache(&self) -> LayerCache {
        LayerCache { k: self.k.clone(), v: self.v.clone(), format: CacheFormat::F32 }
    }
}

/// Where training leaves what the backward pass needs.
#[derive(Debug, Clone, Copy)]
pub struct Saving<'a> {
    /// The block's own.
    pub activations: &'a SavedActivations<Buffer>,
    /// Attention's output with the prompt's part `[T, H, D]`: the backward pass needs the output without it, too.
    pub with_prompt: &'a Buffer,
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
    /// Attention in KV splits: one token behind many.
    pub kv_splits: Option<KvSplits<'a>>,
    /// Activations that are kept for the backward pass, instead of those that the next block overwrites.
    pub saving: Option<Saving<'a>>,
}

impl Context<'_> {
    /// `[T, y_stride]`
    fn rows(&self, y_stride: u32) -> Shape {
        Shape { n_tokens: self.n_tokens, y_stride, y_offset: 0 }
    }

    fn norm<'b>(&'b self, weight: &'b Buffer) -> Norm<'b> {
        Norm { weight, eps: self.config.eps, first_token: 0, scratch: &self.activations.normed }
    }
}

/// An adaption prompt whose keys and values are wanted, and where they go.
#[derive(Clone, Copy)]
pub struct Prompt<'a> {
    /// `[A, C]`
    pub embeddings: &'a Buffer,
    /// `[A, (H+2K)D]`, overwritten.
    pub product: &'a Buffer,
    /// Keys and values `[A, K, D]`.
    pub cache: &'a PromptCache,
    /// A
    pub adapter_len: u32,
    /// Whether long prompts may be multiplied in f16: see [`PlanBuilder::f16_products`].
    pub f16_products: bool,
}

impl Block {
    /// Streams the weights of a block to the GPU.
    ///
    /// # Errors
    /// Missing or misshapen tensors, too little memory, a file that changed, or [`Error::Cancelled`].
    pub(super) fn load(loader: &mut Loader<'_>, tensors: Tensors<'_>, layer: u32) -> Result<Self, Error> {
        let (config, tensor) = (tensors.config(), |name: &str| tensors.block(layer, name));
        let attention_norm = loader.vector(tensor("attn_norm.weight")?)?;
        let order = match config.architecture.rope_pairs {
            RopePairs::Neighbours => Order::Stacked,
            RopePairs::Halves => Order::Rotated { heads: config.halves(), n_rotated: 2 },
        };
        let qkv = [tensor("attn_q.weight")?, tensor("attn_k.weight")?, tensor("attn_v.weight")?];
        let mut qkv = Linear::from(loader.matrix(&qkv, order)?);
        if config.architecture.qkv_bias {
            let bias = [tensor("attn_q.bias")?, tensor("attn_k.bias")?, tensor("attn_v.bias")?];
            qkv.bias = Some(loader.vectors(&bias, order)?);
        }
        let head_norm = match config.architecture.head_norm {
            true => Some(loader.vectors(&[tensor("attn_q_norm.weight")?, tensor("attn_k_norm.weight")?], order)?),
            false => None,
        };
        let output = loader.matrix(&[tensor("attn_output.weight")?], Order::Stacked)?.into();
        let mlp_norm = loader.vector(tensor("ffn_norm.weight")?)?;
        let (gate, up) = (tensor("ffn_gate.weight")?, tensor("ffn_up.weight")?);
        let gate_up = if gate.tensor_type == up.tensor_type {
            GateUp::Fused(loader.matrix(&[gate, up], Order::Alternating)?.into())
        } else {
            GateUp::Apart {
                gate: loader.matrix(&[gate], Order::Stacked)?.into(),
                up: loader.matrix(&[up], Order::Stacked)?.into(),
            }
        };
        let down = loader.matrix(&[tensor("ffn_down.weight")?], Order::Stacked)?.into();
        Ok(Self { attention_norm, qkv, head_norm, output, mlp_norm, gate_up, down })
    }

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
        let x = &context.activations.x;
        self.attention(plan, context, x, cache, prompt)?;
        self.mlp(plan, context, x)
    }

    /// The first half of [`Block::launch`]: `x += attention(norm(x))`.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn attention(
        &self,
        plan: &mut PlanBuilder<'_>,
        context: Context<'_>,
        x: &Buffer,
        cache: &LayerCache,
        prompt: Option<(&PromptCache, u32)>,
    ) -> Result<(), GpuError> {
        let Context { config, activations: act, step, rope_table, n_tokens, packed, kv_splits, saving } = context;
        let heads = config.heads();
        let (qkv, q, attended) = match saving {
            Some(Saving { activations: saved, .. }) => (&saved.qkv, &saved.q, &saved.attended),
            None => (&act.qkv, &act.q, &act.attended),
        };
        let norm = context.norm(&self.attention_norm);
        self.qkv.launch_normed(plan, x, norm, qkv, context.rows(heads.qkv_width()), Epilogue::Store)?;
        let norm = self.head_norm(config);
        let operands = kv_cache::Operands { step, table: rope_table, qkv, norm, q, cache, heads, n_tokens, packed };
        kv_cache::launch(plan, operands)?;
        let operands = attention::Operands { step, q, cache, o: attended, heads, n_tokens };
        match kv_splits {
            None => attention::launch(plan, operands, packed)?,
            Some(parts) => {
                let variant = attention::Variant::choose(plan.gpu(), heads, n_tokens);
                attention::launch_split(plan, variant, operands, parts)?;
            }
        }
        let mut output = attended;
        if let Some((prompt, adapter_len)) = prompt {
            let (o, o_base) = match saving {
                Some(Saving { with_prompt, .. }) => (with_prompt, Some(attended)),
                None => (attended, None),
            };
            let operands = gated_attention::Operands { q, prompt, o, o_base, heads, n_tokens, adapter_len };
            gated_attention::launch(plan, operands)?;
            output = o;
        }
        self.output.launch(plan, output, x, context.rows(config.n_channels), Epilogue::Add)
    }

    /// The second half of [`Block::launch`]: `x += mlp(norm(x))`.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn mlp(&self, plan: &mut PlanBuilder<'_>, context: Context<'_>, x: &Buffer) -> Result<(), GpuError> {
        let Context { config, activations: act, n_tokens, saving, .. } = context;
        match (&self.gate_up, saving) {
            (GateUp::Fused(both), None) => {
                let (norm, shape) = (context.norm(&self.mlp_norm), context.rows(config.n_ffn));
                both.launch_normed(plan, x, norm, &act.hidden, shape, Epilogue::Swiglu)?;
            }
            _ => {
                let z = self.gate_and_up(plan, context, x)?;
                swiglu::launch_rows(plan, z, &act.hidden, [n_tokens, config.n_ffn], self.gate_up.rows())?;
            }
        }
        self.down.launch(plan, &act.hidden, x, context.rows(config.n_channels), Epilogue::Add)
    }

    /// Gate and up of `norm(x)` in a buffer of their own, `[T, 2F]`, as [`GateUp::rows`] says.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn gate_and_up<'b>(
        &self,
        plan: &mut PlanBuilder<'_>,
        context: Context<'b>,
        x: &Buffer,
    ) -> Result<&'b Buffer, GpuError> {
        let n_ffn = context.config.n_ffn;
        let saved = context.saving.map(|saving| &saving.activations.gate_and_up);
        let z = saved.unwrap_or(&context.activations.gate_and_up);
        let norm = context.norm(&self.mlp_norm);
        match &self.gate_up {
            GateUp::Fused(both) => both.launch_normed(plan, x, norm, z, context.rows(2 * n_ffn), Epilogue::Store)?,
            GateUp::Apart { gate, up } => {
                let half = |y_offset| Shape { y_offset, ..context.rows(2 * n_ffn) };
                gate.launch_normed(plan, x, norm, z, half(0), Epilogue::Store)?;
                up.launch_normed(plan, x, norm, z, half(n_ffn), Epilogue::Store)?;
            }
        }
        Ok(z)
    }

    /// The norm of each head of q and k, where the family has one.
    pub(super) fn head_norm(&self, config: &Config) -> Option<HeadNorm<'_>> {
        self.head_norm.as_ref().map(|weights| HeadNorm { weights, eps: config.eps })
    }

    /// Encodes keys and values of an adaption prompt, through the block's own frozen weights: `k = norm(Wk P + b)`,
    /// `v = Wv P + b`, the norm being that of heads where the family has one, without rope or position (arXiv:2303.16199, section 3.2).
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn prompt_keys_and_values(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        config: &Config,
        prompt: Prompt<'_>,
    ) -> Result<(), GpuError> {
        let Prompt { embeddings, product, cache, adapter_len, f16_products } = prompt;
        let heads = config.heads();
        let shape = Shape { n_tokens: adapter_len, y_stride: heads.qkv_width(), y_offset: 0 };
        let mut plan = PlanBuilder::new(gpu).f16_products(f16_products);
        self.qkv.launch(&mut plan, embeddings, product, shape, Epilogue::Store)?;
        plan.build()?.encode(gpu, encoder);
        cache.copy_from_product(encoder, product, heads, adapter_len);
        if let Some(norm) = self.head_norm(config) {
            let mut plan = PlanBuilder::new(gpu);
            head_norm::launch_keys(&mut plan, product, norm, &cache.k, heads, adapter_len)?;
            plan.build()?.encode(gpu, encoder);
        }
        Ok(())
    }
}
