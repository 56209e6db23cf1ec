//! One conversation: its KV cache, its adapter, and tokens out.

mod buffers;
mod conversation;
mod generation;
mod lookup;
mod memory;
mod plans;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::Error;
use crate::adapter::Adapter;
use crate::gpu::{Buffer, Gpu, Step, Tier};
use crate::model::Model;
use crate::model::block::{Activations, GateUp};
use crate::ops::kv_cache::CacheFormat;
use crate::ops::matmul;
use crate::sampler::{HISTORY, Sampling};

pub use generation::Generation;
pub use memory::{Memory, memory};

use buffers::{Buffers, Sizes};
use conversation::{ActiveAdapter, Conversation, PrefixCache, Room, same_setting};
use lookup::Lookup;
use plans::{PlanKey, Plans};

/// Tokens submitted ahead of the one the caller has seen: the GPU never waits for a read-back.
const AHEAD: usize = 2;
/// Rows of logits computed at once when all are wanted.
const LOGIT_ROWS: u32 = 16;
/// Tokens that one step of prompt lookup may guess: with the one that is known they fill the rows of logits.
pub const MAX_GUESSED: u32 = LOGIT_ROWS - 1;

/// How a session is made.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Positions the conversation may have; `None`: what the model was trained for, at most 4096.
    pub context: Option<u32>,
    /// Tokens of a prompt computed at once; `None`: what was measured to be fast, 120 on a CPU adapter (16 without subgroups),
    /// 512 on a GPU. However many, a submit stays short: the layers are cut into several.
    pub prefill_chunk: Option<u32>,
    /// Tokens that prompt lookup may guess at a time (at most [`MAX_GUESSED`]), where the most likely token is taken; `None` and 0:
    /// none, since a step for several tokens costs more than most texts gain.
    ///
    /// Where the text repeats what was said before, the model checks several guessed tokens in one step (Saxena 2023, prompt
    /// lookup decoding; Leviathan et al. 2023, arXiv:2211.17192). The ids are those of one token at a time, up to the rounding
    /// of the product for many tokens.
    pub prompt_lookup: Option<u32>,
    /// Other conversations whose keys and values stay on the GPU, so that going back to one, to another adapter or strength,
    /// or to an earlier answer computes only what is new. Each takes as much memory as this one's cache.
    pub cached_conversations: u32,
    /// How keys and values are stored.
    pub cache_format: CacheFormat,
    /// Prompts are computed in f32 even where rounding their products to f16 was measured to be faster: for logits that are
    /// compared with something.
    pub exact: bool,
}

impl SessionOptions {
    /// Positions and tokens a chunk, for a model trained for `n_context` positions.
    fn sizes(&self, n_context: u32, tier: Tier) -> (u32, u32) {
        let context = self.context.unwrap_or(4096).min(n_context).max(1);
        // bench/NOTES.md, section 11.
        let chunk = self.prefill_chunk.unwrap_or(match tier {
            Tier { cpu: false, .. } => 512,
            // Just below the cut of a product that takes a second to compile: a training repays that, a prompt does not.
            Tier { broadcast: true, .. } => matmul::MANY_TOKENS - 8,
            _ => 16,
        });
        (context, chunk.clamp(1, context))
    }
}

/// Which rows of logits to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The last token's `[V]`.
    Last,
    /// Every token's `[T, V]`.
    All,
}

/// A conversation with a model.
pub struct Session {
    model: Model,
    context: u32,
    chunk: u32,
    exact: bool,
    max_guessed: u32,
    conversation: Conversation,
    prefix_cache: PrefixCache,
    buffers: Buffers<Buffer>,
    /// Those of `buffers` that a block computes in.
    activations: Activations,
    plans: Plans,
    read_back: VecDeque<wgpu::Buffer>,
}

impl Session {
    /// An empty conversation.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Self, Error> {
        let (gpu, config) = (model.gpu(), model.config());
        let (context, chunk) = options.sizes(config.n_context, gpu.tier());
        let apart = model.0.blocks.iter().any(|block| matches!(block.gate_up, GateUp::Apart { .. }));
        let sizes = Sizes { config, context, chunk, apart };
        let buffers = Buffers::make(sizes, |what, bytes| gpu.buffer(what, bytes))?;
        let guessed = options.prompt_lookup.unwrap_or(lookup::DEFAULT_GUESSED);
        Ok(Self {
            context,
            chunk,
            exact: options.exact,
            max_guessed: guessed.min(MAX_GUESSED).min(chunk - 1),
            conversation: Conversation::new(model, Room { context, format: options.cache_format }, None)?,
            prefix_cache: PrefixCache::new(options.cached_conversations as usize),
            activations: buffers.activations(),
            buffers,
            plans: Plans::new(),
            read_back: (0..=AHEAD).map(|_| gpu.staging(4)).collect(),
            model: model.clone(),
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Most positions this conversation may have.
    pub fn context(&self) -> u32 {
        self.context
    }

    /// Ids whose keys and values are cached.
    pub fn ids(&self) -> &[u32] {
        &self.conversation.ids
    }

    fn gpu(&self) -> &Gpu {
        self.model.gpu()
    }

    /// Forgets everything after the first `len` ids; their memory is kept for reuse.
    pub fn truncate(&mut self, len: usize) {
        self.conversation.ids.truncate(len);
    }

    /// Keeps the longest cached beginning of `ids`, but not all of it (the last id has to be computed again for its
    /// logits), and returns its length. Conversations that were kept are looked through, too.
    pub fn reuse_prefix(&mut self, ids: &[u32]) -> usize {
        self.return_to(ids);
        let kept = self.conversation.n_common(ids).min(ids.len().saturating_sub(1));
        self.branch_at(kept);
        self.forget_oldest();
        self.truncate(kept);
        kept
    }

    /// Switches the adapter and its strength (1 as trained, 0 off, up to 2). Nothing is reloaded; what is cached belongs
    /// to the old setting: it is set aside ([`SessionOptions::cached_conversations`]) or forgotten.
    ///
    /// # Errors
    /// Too little memory for the gates.
    pub fn set_adapter(&mut self, adapter: Option<(&Adapter, f32)>) -> Result<(), Error> {
        // Strength 0 is no adapter at all: not one launch differs from the base model's.
        let wanted = adapter.filter(|(_, strength)| *strength != 0.0);
        if same_setting(self.adapter(), wanted) {
            return Ok(());
        }
        // Made before anything is given up: what fails here leaves the session as it was.
        let next = match wanted {
            None => None,
            Some((adapter, strength)) => Some(ActiveAdapter {
                adapter: adapter.clone(),
                strength,
                applied: Arc::new(adapter.at_strength(&self.model, strength)?),
            }),
        };
        self.begin(next)
    }

    /// The adapter in use and its strength.
    pub fn adapter(&self) -> Option<(&Adapter, f32)> {
        self.conversation.setting()
    }

    /// Whether [`Session::set_adapter`] with this setting would change nothing.
    #[must_use]
    pub fn is_set_to(&self, adapter: Option<(&Adapter, f32)>) -> bool {
        same_setting(self.adapter(), adapter.filter(|(_, strength)| *strength != 0.0))
    }

    /// Appends `ids` and returns their logits: `[V]` of the last one, or `[T, V]`.
    ///
    /// # Errors
    /// No ids, ids outside the vocabulary, a full context, too little memory, a lost GPU.
    pub async fn logits(&mut self, ids: &[u32], rows: Rows) -> Result<Vec<f32>, Error> {
        self.check_ids(ids)?;
        let gpu = self.model.gpu().clone();
        let n_vocab = self.model.config().n_vocab as usize;
        let mut out = Vec::new();
        let mut left = ids.len();
        for chunk in ids.chunks(self.chunk as usize) {
            let (key, n_pieces) = self.prepare_blocks(chunk)?;
            for piece in 0..n_pieces {
                self.submit_piece(&key, piece)?;
            }
            let n = chunk.len() as u32;
            left -= chunk.len();
            let (mut first, step) = match rows {
                Rows::All => (0, LOGIT_ROWS),
                Rows::Last if left == 0 => (n - 1, 1),
                Rows::Last => (n, 1),
            };
            while first < n {
                let count = step.min(n - first);
                self.reserve_logits(count)?;
                let mut encoder = gpu.encoder();
                self.plan(&PlanKey::Head { first, n: count })?.encode(&gpu, &mut encoder);
                gpu.submit(encoder);
                out.extend(gpu.read::<f32>(&self.buffers.logits, 0, count as usize * n_vocab).await?);
                first += count;
            }
            self.conversation.ids.extend_from_slice(chunk);
        }
        Ok(out)
    }

    /// Starts an answer to `prompt`, all ids of the conversation so far: what is cached of it is reused, the rest is
    /// computed in chunks, `progress` is told tokens done and in all after each and may stop.
    ///
    /// # Errors
    /// As [`Session::logits`], settings out of range, or [`Error::Cancelled`].
    pub async fn generate(
        &mut self,
        prompt: &[u32],
        sampling: &Sampling,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Generation<'_>, Error> {
        sampling.check()?;
        let reused = self.reuse_prefix(prompt);
        self.check_ids(&prompt[reused..])?;
        self.write_history(prompt);
        let mut done = reused;
        let mut last = 1;
        for chunk in prompt[reused..].chunks(self.chunk as usize) {
            let (key, n_pieces) = self.prepare_blocks(chunk)?;
            for piece in 0..n_pieces {
                if progress(done + chunk.len() * piece / n_pieces, prompt.len()).is_break() {
                    return Err(Error::Cancelled);
                }
                self.submit_piece(&key, piece)?;
                if piece + 1 < n_pieces || done + chunk.len() < prompt.len() {
                    self.gpu().finished().await?; // otherwise a stop would have to wait for all that was submitted ahead
                }
            }
            self.conversation.ids.extend_from_slice(chunk);
            last = chunk.len() as u32;
            done += chunk.len();
        }
        if progress(done, prompt.len()).is_break() {
            return Err(Error::Cancelled);
        }
        let on_cpu = sampling.needs_cpu(self.model.config().n_vocab);
        let guesses = self.max_guessed > 0 && sampling.is_greedy() && !sampling.has_penalty() && !on_cpu;
        let lookup = guesses.then(|| Lookup::new(self.max_guessed, self.gpu().tier()));
        let mut generation = Generation::new(self, sampling.clone(), on_cpu, prompt.len() as u32, lookup);
        generation.sample_row(last - 1)?;
        Ok(generation)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), Error> {
        if ids.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let n_vocab = self.model.config().n_vocab;
        if let Some(id) = ids.iter().find(|id| **id >= n_vocab) {
            return Err(Error::TokenOutOfRange { id: *id, n_vocab });
        }
        let wanted = (self.conversation.ids.len() + ids.len()) as u64;
        if wanted > u64::from(self.context) {
            return Err(Error::ContextFull { wanted: wanted.min(u64::from(u32::MAX)) as u32, limit: self.context });
        }
        Ok(())
    }

    /// Makes room for `len` positions.
    fn reserve(&mut self, len: u32) -> Result<(), Error> {
        if self.conversation.reserve(&self.model, len)? {
            self.plans.forget_blocks();
        }
        Ok(())
    }

    /// Makes everything ready to submit the blocks for `ids` at the end of the cache, piece by piece; returns their plan's key and
    /// the number of its pieces.
    fn prepare_blocks(&mut self, ids: &[u32]) -> Result<(PlanKey, usize), Error> {
        let (past, n_tokens) = (self.conversation.ids.len() as u32, ids.len() as u32);
        self.reserve(past + n_tokens)?;
        let key = PlanKey::Blocks { n_tokens, from_next_id: false };
        let n_pieces = self.plan(&key)?.n_pieces();
        self.gpu().write(&self.buffers.input_ids, 0, ids);
        self.write_step(Step { past, n_tokens, ..Step::default() });
        Ok((key, n_pieces))
    }

    fn submit_piece(&mut self, key: &PlanKey, piece: usize) -> Result<(), Error> {
        let gpu = self.model.gpu().clone();
        let mut encoder = gpu.encoder();
        self.plan(key)?.encode_piece(piece, &gpu, &mut encoder);
        gpu.submit(encoder);
        Ok(())
    }

    fn write_step(&self, step: Step) {
        self.gpu().write(&self.buffers.step, 0, &[step]);
    }

    fn write_history(&self, ids: &[u32]) {
        let mut ring = vec![0u32; HISTORY as usize];
        for (index, id) in ids.iter().enumerate().skip(ids.len().saturating_sub(HISTORY as usize)) {
            ring[index % HISTORY as usize] = *id;
        }
        self.gpu().write(&self.buffers.history, 0, &ring);
    }
}
