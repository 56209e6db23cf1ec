//! What a training run will hold on the GPU, without a GPU: from a model's header alone.

use std::convert::Infallible;

use super::buffers::{Buffers, Item, Sizes, logit_rows};
use crate::Error;
use crate::model::Config;
use crate::ops::matmul::half_row_bytes;

/// Bytes of activations that are saved without being asked: those of all adapted blocks of a small model, of a few for one of
/// 7B weights.
const SAVED_BYTES: u64 = 384 << 20;

/// How many of the adapted blocks, counted from the last, save their activations for the backward pass: attention and the inputs
/// of swiglu. The others save their input alone and compute the rest again (activation checkpointing, Chen et al. 2016,
/// arXiv:1604.06174), a quarter of a step's products. As many as fit 384 MiB beside the inputs, and at least one: the last
/// block's lie in the set of buffers that the others share.
pub(super) fn saved_blocks(config: &Config, n_layers: u32, adapter_len: u32, max_tokens: u32) -> u32 {
    let saved = |saved_blocks| count(Sizes { config, n_layers, adapter_len, max_tokens, saved_blocks }).saved;
    let (one, each) = (saved(1), saved(2).saturating_sub(saved(1)).max(1));
    let more = SAVED_BYTES.saturating_sub(one) / each;
    u32::try_from(more).unwrap_or(u32::MAX).saturating_add(1).min(n_layers)
}

/// GPU memory of a training run by item, bytes. What a step allocates beside it (parameters of its launches) is below 1 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The frozen model, as it lies on the GPU.
    pub weights: u64,
    /// Activations and gradients of one block.
    pub activations: u64,
    /// What the adapted blocks save for the backward pass.
    pub saved: u64,
    /// One chunk of logits and the head's input.
    pub logits: u64,
    /// Keys, values and gates of all prompts.
    pub adapter: u64,
    /// The input of one product in f16, where products are [rounded](super::Trainer::rounded).
    pub rounding: u64,
    /// The adapter's parameters, their gradients and both moments of AdamW, f32; the caller's, not the trainer's.
    pub optimizer: u64,
    /// How many adapted blocks, counted from the last, save more than their input.
    pub saved_blocks: u32,
    /// The largest buffer and its bytes: it has to fit one binding.
    pub largest: (&'static str, u64),
}

impl Memory {
    /// The sum of all items.
    pub fn total(&self) -> u64 {
        self.weights + self.trainer() + self.rounding + self.optimizer
    }

    /// The items that [`Trainer::new`](super::Trainer::new) allocates.
    pub fn trainer(&self) -> u64 {
        self.activations + self.saved + self.logits + self.adapter
    }

    /// The same run with products that are [rounded](super::Trainer::rounded), of batches of `max_tokens`.
    #[must_use]
    pub fn rounded(mut self, config: &Config, max_tokens: u32) -> Self {
        let heads = config.heads();
        let widths = [config.n_channels, heads.n_heads * heads.head_dim, heads.qkv_width(), 2 * config.n_ffn];
        let rows = widths.map(|width| half_row_bytes(max_tokens, width));
        let rows = rows.into_iter().chain([half_row_bytes(logit_rows(config).min(max_tokens), config.n_vocab)]);
        self.rounding = rows.map(|bytes| bytes[0]).max().unwrap_or(0) + half_row_bytes(max_tokens, 0)[1];
        self
    }
}

/// Predicts the memory of training an adapter of the last `n_layers` layers with `adapter_len` prompt tokens in batches of
/// `max_tokens`. `weight_bytes` is [`model::weight_bytes`](crate::model::weight_bytes) of the model's header.
pub fn memory(config: &Config, weight_bytes: u64, n_layers: u32, adapter_len: u32, max_tokens: u32) -> Memory {
    let saved_blocks = saved_blocks(config, n_layers, adapter_len, max_tokens);
    Memory { weights: weight_bytes, ..count(Sizes { config, n_layers, adapter_len, max_tokens, saved_blocks }) }
}

/// All but the weights.
pub(super) fn count(sizes: Sizes<'_>) -> Memory {
    let Sizes { config, n_layers, adapter_len, saved_blocks, .. } = sizes;
    let numbers =
        u64::from(n_layers) * (u64::from(adapter_len) * u64::from(config.n_channels) + u64::from(config.n_heads));
    let mut memory = Memory {
        weights: 0,
        activations: 0,
        saved: 0,
        logits: 0,
        adapter: 0,
        rounding: 0,
        optimizer: numbers * 4 * 4,
        saved_blocks,
        largest: ("", 0),
    };
    let Ok(_) = Buffers::<()>::make::<Infallible>(sizes, |item, what, bytes| {
        // As `Gpu::buffer` rounds.
        let bytes = bytes.max(16).next_multiple_of(16);
        *match item {
            Item::Activations => &mut memory.activations,
            Item::Saved => &mut memory.saved,
            Item::Logits => &mut memory.logits,
            Item::Adapter => &mut memory.adapter,
        } += bytes;
        if bytes > memory.largest.1 {
            memory.largest = (what, bytes);
        }
        Ok(())
    });
    memory
}

/// Whether every buffer of such a run fits one binding of `limit_bytes` ([`Gpu::most_bytes`](crate::gpu::Gpu::most_bytes)).
///
/// # Errors
/// [`Error::TrainingBufferTooLarge`] with the most tokens that do.
pub fn check_buffers(
    config: &Config,
    n_layers: u32,
    adapter_len: u32,
    max_tokens: u32,
    limit_bytes: u64,
) -> Result<(), Error> {
    let sizes = Sizes { config, n_layers, adapter_len, max_tokens, saved_blocks: 1 };
    match count(sizes).largest {
        (what, needed_bytes) if needed_bytes > limit_bytes => {
            let fits = most_tokens(sizes, limit_bytes);
            Err(Error::TrainingBufferTooLarge { max_tokens, what, needed_bytes, limit_bytes, fits })
        }
        _ => Ok(()),
    }
}

/// The most tokens a batch may have so that every buffer fits `limit_bytes`, 0 when none does.
fn most_tokens(sizes: Sizes<'_>, limit_bytes: u64) -> u32 {
    // Sizes grow with the tokens: the first that does not fit, by halving.
    let (mut fits, mut too_many) = (0, sizes.max_tokens.saturating_add(1));
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        if count(Sizes { max_tokens: middle, ..sizes }).largest.1 <= limit_bytes {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    fits
}
