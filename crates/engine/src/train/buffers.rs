//! The buffers of a training run: one list, which the trainer allocates and the prediction of memory adds up.

use crate::gpu::Step;
use crate::model::Config;
use crate::model::block::SavedActivations;
use crate::ops::kv_cache::plane_bytes;

/// Which line of [`Memory`](super::Memory) a buffer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    Activations,
    Saved,
    Logits,
    Adapter,
}

/// What decides every size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes<'a> {
    pub(super) config: &'a Config,
    pub(super) n_layers: u32,
    pub(super) adapter_len: u32,
    pub(super) max_tokens: u32,
    /// Adapted blocks that save their activations, at least 1.
    pub(super) saved_blocks: u32,
}

/// Keys and values of one layer's prompt, and its gates.
#[derive(Debug)]
pub(super) struct Prompt<B> {
    /// Its product with the weights of q, k and v `[A, (H+2K)D]`: one buffer for all layers, where the backward pass does not
    /// need it.
    pub(super) product: B,
    pub(super) k: B,
    pub(super) v: B,
    pub(super) gate: B,
}

/// All of them. Where a gradient takes the place of an activation that nobody reads any more, both share a buffer.
#[derive(Debug)]
pub(super) struct Buffers<B> {
    pub(super) step: B,
    pub(super) rope_table: B,
    /// `[T]` each
    pub(super) ids: B,
    pub(super) starts: B,
    pub(super) rows: B,
    pub(super) targets: B,
    pub(super) losses: B,
    /// The residual stream `[T, C]`.
    pub(super) x: B,
    /// `x` after a norm, then the gradient of that `[T, C]`.
    pub(super) normed: B,
    /// Product of q, k and v `[T, (H+2K)D]`, then its gradient.
    pub(super) qkv: B,
    /// Attention's output with the prompt's part, then the gradient of it `[T, H, D]`.
    pub(super) with_prompt: B,
    /// The MLP's activations between its products, then the gradient of them `[T, F]`.
    pub(super) hidden: B,
    /// Gradient of the residual stream `[T, C]`.
    pub(super) dx: B,
    /// `[T, H, A, 2]`
    pub(super) weights: B,
    /// `[T, H]`
    pub(super) dgates: B,
    /// `[L_a]`, inputs of the adapted blocks `[T, C]`.
    pub(super) inputs: Vec<B>,
    /// One for each block that saves its activations; the first is also where all the others work.
    pub(super) saved: Vec<SavedActivations<B>>,
    /// `[L_a]`
    pub(super) prompts: Vec<Prompt<B>>,
    /// `[A, C]`
    pub(super) prompt: B,
    /// Gradient of a prompt's product `[A, (H+2K)D]`.
    pub(super) prompt_product: B,
    /// `[H]`
    pub(super) dgate: B,
    /// `[R, C]`, then its gradient.
    pub(super) head_input: B,
    /// `[R, V]`
    pub(super) logits: B,
}

/// R: rows of logits computed at once, so many that they stay below 32 MiB.
pub(super) fn logit_rows(config: &Config) -> u32 {
    ((1 << 23) / config.n_vocab.max(1)).clamp(8, 128)
}

impl<B: Clone> Buffers<B> {
    /// Calls `make` with item, name and bytes of every buffer.
    pub(super) fn make<E>(
        sizes: Sizes<'_>,
        mut make: impl FnMut(Item, &'static str, u64) -> Result<B, E>,
    ) -> Result<Self, E> {
        let Sizes { config, n_layers, adapter_len, max_tokens, saved_blocks } = sizes;
        let (heads, channels, n_ffn) = (config.heads(), config.n_channels, config.n_ffn);
        let (q_width, kv_width) = (heads.n_heads * heads.head_dim, heads.n_kv_heads * heads.head_dim);
        let width = heads.qkv_width();
        let bytes = |rows: u32, width: u32| u64::from(rows) * u64::from(width) * 4;
        let tokens = |width: u32| bytes(max_tokens, width);
        let qkv = make(Item::Activations, "queries, keys, values", tokens(width))?;
        let prompt_product = make(Item::Adapter, "prompt products", bytes(adapter_len, width))?;
        let saved = |index, make: &mut dyn FnMut(Item, &'static str, u64) -> Result<B, E>| {
            let item = if index == 0 { Item::Activations } else { Item::Saved };
            Ok(SavedActivations {
                qkv: match config.architecture.head_norm {
                    true => make(item, "saved queries, keys, values", tokens(width))?,
                    false => qkv.clone(),
                },
                q: make(item, "queries", tokens(q_width))?,
                k: make(item, "keys", plane_bytes(heads, max_tokens))?,
                v: make(item, "values", plane_bytes(heads, max_tokens))?,
                attended: make(item, "attention output", tokens(q_width))?,
                stats: make(item, "attention statistics", tokens(heads.n_heads * 2))?,
                residual: make(item, "residual stream before the MLP", tokens(channels))?,
                gate_and_up: make(item, "MLP gate and up", tokens(n_ffn * 2))?,
            })
        };
        let rows = logit_rows(config);
        Ok(Self {
            saved: (0..saved_blocks.max(1)).map(|index| saved(index, &mut make)).collect::<Result<_, _>>()?,
            step: make(Item::Activations, "step", size_of::<Step>() as u64)?,
            rope_table: make(Item::Activations, "rope table", tokens(heads.head_dim))?,
            ids: make(Item::Activations, "token ids", tokens(1))?,
            starts: make(Item::Activations, "text starts", tokens(1))?,
            rows: make(Item::Activations, "trained rows", tokens(1))?,
            targets: make(Item::Activations, "targets", tokens(1))?,
            losses: make(Item::Activations, "losses", tokens(1))?,
            x: make(Item::Activations, "residual stream", tokens(channels))?,
            normed: make(Item::Activations, "normed activations", tokens(channels))?,
            with_prompt: make(Item::Activations, "attention output with prompt", tokens(q_width))?,
            hidden: make(Item::Activations, "MLP activations", tokens(n_ffn))?,
            dx: make(Item::Activations, "gradient of the residual stream", tokens(channels))?,
            weights: make(Item::Activations, "prompt weights", tokens(heads.n_heads * adapter_len * 2))?,
            dgates: make(Item::Activations, "gate gradients by token", tokens(heads.n_heads))?,
            inputs: (0..n_layers)
                .map(|_| make(Item::Saved, "block input", tokens(channels)))
                .collect::<Result<_, _>>()?,
            prompts: (0..n_layers)
                .map(|_| {
                    Ok(Prompt {
                        product: match config.architecture.head_norm {
                            true => make(Item::Adapter, "saved prompt products", bytes(adapter_len, width))?,
                            false => prompt_product.clone(),
                        },
                        k: make(Item::Adapter, "prompt keys", bytes(adapter_len, kv_width))?,
                        v: make(Item::Adapter, "prompt values", bytes(adapter_len, kv_width))?,
                        gate: make(Item::Adapter, "gates", bytes(1, heads.n_heads))?,
                    })
                })
                .collect::<Result<_, _>>()?,
            qkv,
            prompt_product,
            prompt: make(Item::Adapter, "adaption prompt", bytes(adapter_len, channels))?,
            dgate: make(Item::Adapter, "gradient of gates", bytes(1, heads.n_heads))?,
            head_input: make(Item::Logits, "head input", bytes(rows, channels))?,
            logits: make(Item::Logits, "logits", bytes(rows, config.n_vocab))?,
        })
    }
}
