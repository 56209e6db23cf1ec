//! What a conversation takes on the GPU, foretold.

use super::{LOGIT_ROWS, SessionOptions};
use crate::gpu::Tier;
use crate::model::Config;
use crate::ops::attention::stretches;
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

/// Bytes on the GPU of a conversation that has reached `n_tokens` tokens: keys and values, activations, logits. Beside it there
/// are the [weights](crate::model::weight_bytes), and some kilobytes a plan.
#[must_use]
pub fn memory(config: &Config, tier: Tier, options: &SessionOptions, n_tokens: u32) -> u64 {
    let (context, chunk) = options.sizes(config.n_context, tier);
    let n_tokens = n_tokens.min(context);
    // A long prompt comes in chunks, each of which may make it grow.
    let ends = (chunk..n_tokens).step_by(chunk as usize).chain([n_tokens.max(1)]);
    let capacity = ends.fold(0, |capacity, len| grown(capacity, len, context));
    let heads = config.heads();
    let rope = u64::from(capacity) * u64::from(heads.head_dim) * 4;
    let cache = 2 * u64::from(config.n_layers) * options.cache_format.plane_bytes(heads, capacity);
    let (attended, channels) = (heads.n_heads * heads.head_dim, config.n_channels);
    let floats_a_row = 2 * channels + heads.qkv_width() + 2 * attended + config.n_ffn + 1;
    let rows = u64::from(chunk) * u64::from(floats_a_row) * 4;
    let head = u64::from(LOGIT_ROWS * channels + config.n_vocab) * 4;
    let stretched = u64::from(stretches(context.next_multiple_of(PAGE)) * heads.n_heads * (heads.head_dim + 2)) * 4;
    let widest = channels.max(attended).max(config.n_ffn);
    let rounded: u64 = if tier.f16 && !tier.cpu { half_row_bytes(chunk, widest).iter().sum() } else { 0 };
    cache + rope + rows + head + stretched + rounded
}
