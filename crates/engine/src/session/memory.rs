//! What a conversation takes on the GPU, predicted without one: from a model's header and the options alone.

use std::convert::Infallible;

use super::SessionOptions;
use super::buffers::{Buffers, Sizes};
use crate::Error;
use crate::formats::Gguf;
use crate::gpu::Tier;
use crate::model::{Config, weight_bytes};
use crate::ops::kv_cache::PAGE;
use crate::ops::matmul::half_row_bytes;

/// Positions the cache has room for once it must hold `len`: it doubles, so that growing copies each position once or twice.
pub(super) fn grown(capacity: u32, len: u32, context: u32) -> u32 {
    if len <= capacity {
        return capacity;
    }
    let limit = context.next_multiple_of(8);
    len.max(capacity.saturating_mul(2)).next_multiple_of(PAGE).min(limit).max(len.next_multiple_of(8))
}

/// GPU memory of a conversation by item, bytes. Plans take some kilobytes each beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The model, as it lies on the GPU.
    pub weights: u64,
    /// Keys, values and rope angles of one conversation; each that is kept aside takes as much again.
    pub cache: u64,
    /// Activations of a chunk, logits and all that is small.
    pub activations: u64,
    /// The input of one product in f16, on GPUs that have it.
    pub rounding: u64,
}

impl Memory {
    /// The sum of all items.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.activations + self.rounding
    }
}

/// Predicts the memory of a conversation that has reached `n_tokens` tokens with the model of a GGUF header, whose sizes are
/// `config`. Before a GPU is open, [`Tier::default`] stands for a graphics card.
///
/// # Errors
/// A tensor in a format without kernels.
pub fn memory(
    gguf: &Gguf,
    config: &Config,
    tier: Tier,
    options: &SessionOptions,
    n_tokens: u32,
) -> Result<Memory, Error> {
    let (context, chunk) = options.sizes(config.n_context, tier);
    let n_tokens = n_tokens.min(context);
    // A long prompt comes in chunks, each of which may make it grow.
    let ends = (chunk..n_tokens).step_by(chunk as usize).chain([n_tokens.max(1)]);
    let capacity = ends.fold(grown(0, 1, context), |capacity, len| grown(capacity, len, context));
    let heads = config.heads();
    let rope = u64::from(capacity) * u64::from(heads.head_dim) * 4;
    let planes = 2 * u64::from(config.n_layers) * allocated(options.cache_format.plane_bytes(heads, capacity));
    let mut activations = 0;
    let Ok(_) = Buffers::<()>::make::<Infallible>(Sizes { config, context, chunk, apart: apart(gguf) }, |_, bytes| {
        activations += allocated(bytes);
        Ok(())
    });
    let widest = config.n_channels.max(heads.n_heads * heads.head_dim).max(config.n_ffn);
    let rounding = if tier.f16 && !tier.cpu && !options.exact { half_row_bytes(chunk, widest).iter().sum() } else { 0 };
    Ok(Memory { weights: weight_bytes(gguf)?, cache: planes + allocated(rope), activations, rounding })
}

/// As [`crate::gpu::Gpu::buffer`] rounds.
fn allocated(bytes: u64) -> u64 {
    bytes.max(16).next_multiple_of(16)
}

/// Whether gate and up of some layer are stored in different formats.
fn apart(gguf: &Gguf) -> bool {
    gguf.tensors().iter().any(|gate| {
        let up = gate.name.strip_suffix(".ffn_gate.weight").map(|block| format!("{block}.ffn_up.weight"));
        up.and_then(|up| gguf.find_tensor(&up)).is_some_and(|up| up.tensor_type != gate.tensor_type)
    })
}
