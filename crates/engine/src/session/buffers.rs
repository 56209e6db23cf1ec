//! The buffers of a session beside its conversations: one list, which the session allocates and the prediction of memory adds up.

use super::LOGIT_ROWS;
use crate::gpu::{Buffer, Step};
use crate::model::Config;
use crate::model::block::Activations;
use crate::ops::attention::kv_splits;
use crate::ops::kv_cache::PAGE;
use crate::sampler::HISTORY;

/// What decides every size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes<'a> {
    pub(super) config: &'a Config,
    /// Positions a conversation may have.
    pub(super) context: u32,
    /// T: tokens of a prompt computed at once.
    pub(super) chunk: u32,
    /// Gate and up of some layer are stored in different formats.
    pub(super) apart: bool,
}

/// All of them. Rows are of `T` tokens where nothing else is said.
#[derive(Debug)]
pub(super) struct Buffers<B> {
    /// The residual stream `[T, C]`.
    pub(super) x: B,
    pub(super) normed: B,
    pub(super) qkv: B,
    pub(super) q: B,
    pub(super) attended: B,
    pub(super) hidden: B,
    /// `[T, 2F]` where some layer needs it.
    pub(super) gate_and_up: B,
    /// The step's uniform.
    pub(super) step: B,
    /// `[T]`
    pub(super) input_ids: B,
    /// `[1]`, what was sampled last.
    pub(super) next_id: B,
    /// `[LOGIT_ROWS]`, the most likely ids after guessed ones.
    pub(super) checked_ids: B,
    /// A ring of recent ids.
    pub(super) history: B,
    /// `[LOGIT_ROWS, C]`
    pub(super) head_input: B,
    /// `[1, V]`, or as many rows as were asked for once.
    pub(super) logits: B,
    /// Sums of attention in KV splits `[n, H, D]`.
    pub(super) kv_split_sums: B,
    /// Their statistics `[n, H, 2]`.
    pub(super) kv_split_stats: B,
}

impl<B> Buffers<B> {
    /// Calls `make` with name and bytes of every buffer.
    pub(super) fn make<E>(
        sizes: Sizes<'_>,
        mut make: impl FnMut(&'static str, u64) -> Result<B, E>,
    ) -> Result<Self, E> {
        let Sizes { config, context, chunk, apart } = sizes;
        let heads = config.heads();
        let q_width = heads.n_heads * heads.head_dim;
        let bytes = |rows: u32, width: u32| u64::from(rows) * u64::from(width) * 4;
        let tokens = |width: u32| bytes(chunk, width);
        let n_splits = kv_splits(context.next_multiple_of(PAGE));
        Ok(Self {
            x: make("residual stream", tokens(config.n_channels))?,
            normed: make("normed activations", tokens(config.n_channels))?,
            qkv: make("queries, keys, values", tokens(heads.qkv_width()))?,
            q: make("queries", tokens(q_width))?,
            attended: make("attention output", tokens(q_width))?,
            hidden: make("MLP activations", tokens(config.n_ffn))?,
            gate_and_up: make("MLP gate and up", if apart { tokens(2 * config.n_ffn) } else { 0 })?,
            step: make("step", size_of::<Step>() as u64)?,
            input_ids: make("token ids", tokens(1))?,
            next_id: make("next id", 4)?,
            checked_ids: make("checked ids", bytes(LOGIT_ROWS, 1))?,
            history: make("recent ids", bytes(HISTORY, 1))?,
            head_input: make("last activations", bytes(LOGIT_ROWS, config.n_channels))?,
            logits: make("logits", bytes(1, config.n_vocab))?,
            kv_split_sums: make("attention sums", bytes(n_splits, q_width))?,
            kv_split_stats: make("attention statistics", bytes(n_splits, heads.n_heads * 2))?,
        })
    }
}

impl Buffers<Buffer> {
    /// Those that a block computes in.
    pub(super) fn activations(&self) -> Activations {
        Activations {
            x: self.x.clone(),
            normed: self.normed.clone(),
            qkv: self.qkv.clone(),
            q: self.q.clone(),
            attended: self.attended.clone(),
            hidden: self.hidden.clone(),
            gate_and_up: self.gate_and_up.clone(),
        }
    }
}
