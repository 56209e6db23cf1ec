//! One conversation: its KV cache, its adapter, and tokens out.

mod generation;
mod kept;
mod lookup;
mod memory;

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use crate::Error;
use crate::adapter::Adapter;
use crate::gpu::{Buffer, Gpu, Plan, PlanBuilder, Step, Tier};
use crate::model::Model;
use crate::model::block::{Activations, Context, GateUp};
use crate::ops::attention::{Stretches, stretches};
use crate::ops::embedding;
use crate::ops::gated_attention::PromptCache;
use crate::ops::kv_cache::{CacheFormat, LayerCache, PAGE};
use crate::ops::matmul::{self, Epilogue, Norm};
use crate::ops::sample::{self, HISTORY};
use crate::sampler::Sampling;

pub use generation::Generation;
pub use memory::memory;

use kept::Kept;
use lookup::Lookup;

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
    /// Tokens that prompt lookup may guess at a time (at most [`MAX_GUESSED`], 0: none), where the most likely token is taken;
    /// `None`: what was measured to gain on this kind of adapter.
    ///
    /// Where the text repeats what was said before, the model checks several guessed tokens in one step (Saxena 2023, prompt
    /// lookup decoding; Leviathan et al. 2023, arXiv:2211.17192). The ids are those of one token at a time, up to the rounding
    /// of the product for many tokens.
    pub prompt_lookup: Option<u32>,
    /// Other conversations whose keys and values stay on the GPU, so that going back to one, to another adapter or strength,
    /// or to an earlier answer computes only what is new. Each takes as much memory as this one's cache.
    pub kept_conversations: u32,
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
    /// Ids whose keys and values are in the cache.
    ids: Vec<u32>,
    capacity: u32,
    cache: Vec<LayerCache>,
    cache_format: CacheFormat,
    exact: bool,
    /// Conversations set aside, the one used last at the end.
    kept: Vec<Kept>,
    max_kept: usize,
    max_guessed: u32,
    guessed_ids: Buffer,
    verify_plan: Option<(u32, Plan)>,
    rope_table: Buffer,
    activations: Activations,
    step: Buffer,
    input_ids: Buffer,
    next_id: Buffer,
    history: Buffer,
    head_input: Buffer,
    logits: Buffer,
    adapter: Option<ActiveAdapter>,
    plans: HashMap<PlanKey, Plan>,
    sampling_plan: Option<(Sampling, Plan)>,
    read_back: VecDeque<wgpu::Buffer>,
    /// Sums and statistics of attention in stretches.
    stretch_scratch: [Buffer; 2],
}

struct ActiveAdapter {
    adapter: Adapter,
    strength: f32,
    /// Per adapted layer; the gates are this session's own, so that two sessions can differ in strength.
    prompts: Vec<PromptCache>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum PlanKey {
    /// All blocks for this many tokens, read from `input_ids` (or from `next_id`).
    Blocks { n_tokens: u32, from_next_id: bool },
    /// Final norm and output head for rows `first..first + n`.
    Head { first: u32, n: u32 },
}

impl Session {
    /// An empty conversation.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Self, Error> {
        let (gpu, config) = (model.gpu(), model.config());
        let (context, chunk) = options.sizes(config.n_context, gpu.tier());
        let rows = |what: &str, width: u32| gpu.buffer(what, u64::from(chunk) * u64::from(width) * 4);
        let heads = config.heads();
        let n_stretches = stretches(context.next_multiple_of(PAGE));
        let apart = model.0.blocks.iter().any(|block| matches!(block.gate_up, GateUp::Apart { .. }));
        let activations = Activations {
            x: rows("residual stream", config.n_channels)?,
            normed: rows("normed activations", config.n_channels)?,
            qkv: rows("queries, keys, values", heads.qkv_width())?,
            q: rows("queries", heads.n_heads * heads.head_dim)?,
            attended: rows("attention output", heads.n_heads * heads.head_dim)?,
            hidden: rows("MLP activations", config.n_ffn)?,
            gate_and_up: rows("MLP gate and up", if apart { 2 * config.n_ffn } else { 0 })?,
        };
        let mut session = Self {
            context,
            chunk,
            ids: Vec::new(),
            capacity: 0,
            cache: Vec::new(),
            cache_format: options.cache_format,
            exact: options.exact,
            kept: Vec::new(),
            max_kept: options.kept_conversations as usize,
            max_guessed: options
                .prompt_lookup
                .unwrap_or(lookup::default_guessed(gpu.tier()))
                .min(MAX_GUESSED)
                .min(chunk - 1),
            guessed_ids: gpu.buffer("checked ids", u64::from(LOGIT_ROWS) * 4)?,
            verify_plan: None,
            rope_table: gpu.buffer("rope table", 16)?,
            activations,
            step: gpu.buffer("step", size_of::<Step>() as u64)?,
            input_ids: rows("token ids", 1)?,
            next_id: gpu.buffer("next id", 4)?,
            history: gpu.buffer("recent ids", u64::from(HISTORY) * 4)?,
            head_input: gpu.buffer("last activations", u64::from(LOGIT_ROWS * config.n_channels) * 4)?,
            logits: gpu.buffer("logits", u64::from(config.n_vocab) * 4)?,
            adapter: None,
            plans: HashMap::new(),
            sampling_plan: None,
            read_back: (0..=AHEAD).map(|_| gpu.staging(4)).collect(),
            stretch_scratch: [
                gpu.buffer("attention sums", u64::from(n_stretches * heads.n_heads * heads.head_dim) * 4)?,
                gpu.buffer("attention statistics", u64::from(n_stretches * heads.n_heads * 2) * 4)?,
            ],
            model: model.clone(),
        };
        session.reserve(1)?;
        Ok(session)
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
        &self.ids
    }

    fn gpu(&self) -> &Gpu {
        self.model.gpu()
    }

    /// Forgets everything after the first `len` ids; their memory is kept for reuse.
    pub fn truncate(&mut self, len: usize) {
        self.ids.truncate(len);
    }

    /// Keeps the longest cached beginning of `ids`, but not all of it (the last id has to be computed again for its
    /// logits), and returns its length. Conversations that were kept are looked through, too.
    pub fn reuse_prefix(&mut self, ids: &[u32]) -> usize {
        self.return_to(ids);
        let kept = kept::n_common(&self.ids, ids).min(ids.len().saturating_sub(1));
        self.branch_at(kept);
        self.forget_oldest();
        self.truncate(kept);
        kept
    }

    /// Switches the adapter and its strength (1 as trained, 0 off, up to 2). Nothing is reloaded; what is cached belongs
    /// to the old setting: it is set aside ([`SessionOptions::kept_conversations`]) or forgotten.
    ///
    /// # Errors
    /// Too little memory for the gates.
    pub fn set_adapter(&mut self, adapter: Option<(&Adapter, f32)>) -> Result<(), Error> {
        // Strength 0 is no adapter at all: not one launch differs from the base model's.
        let wanted = adapter.filter(|(_, strength)| *strength != 0.0);
        if kept::same_setting(self.adapter(), wanted) {
            return Ok(());
        }
        // Made before anything is given up: what fails here leaves the session as it was.
        let next = match wanted {
            None => None,
            Some((adapter, strength)) => {
                let gpu = self.model.gpu();
                let prompts = adapter.prompts().iter().zip(adapter.gates()).map(|((k, v), gates)| {
                    let gate = gpu.buffer_with("gates", &scaled(gates, strength))?;
                    Ok(PromptCache { k: k.clone(), v: v.clone(), gate })
                });
                let prompts = prompts.collect::<Result<_, Error>>()?;
                Some(ActiveAdapter { adapter: adapter.clone(), strength, prompts })
            }
        };
        self.set_aside()?;
        self.adapter = next;
        self.forget_block_plans();
        Ok(())
    }

    /// The adapter in use and its strength.
    pub fn adapter(&self) -> Option<(&Adapter, f32)> {
        self.adapter.as_ref().map(|active| (&active.adapter, active.strength))
    }

    /// Appends `ids` and returns their logits: `[V]` of the last one, or `[T, V]`.
    ///
    /// # Errors
    /// No ids, ids outside the vocabulary, a full context, too little memory, a lost GPU.
    pub async fn logits(&mut self, ids: &[u32], rows: Rows) -> Result<Vec<f32>, Error> {
        self.check_ids(ids)?;
        let n_vocab = self.model.config().n_vocab as usize;
        let mut out = Vec::new();
        let mut left = ids.len();
        for chunk in ids.chunks(self.chunk as usize) {
            self.submit_blocks(chunk)?;
            let n = chunk.len() as u32;
            left -= chunk.len();
            let (mut first, step) = match rows {
                Rows::All => (0, LOGIT_ROWS),
                Rows::Last if left == 0 => (n - 1, 1),
                Rows::Last => (n, 1),
            };
            while first < n {
                let count = step.min(n - first);
                let mut encoder = self.gpu().encoder();
                self.head_plan(first, count)?;
                self.plans[&PlanKey::Head { first, n: count }].encode(self.gpu(), &mut encoder);
                self.gpu().submit(encoder);
                out.extend(self.gpu().read::<f32>(&self.logits, 0, count as usize * n_vocab).await?);
                first += count;
            }
            self.ids.extend_from_slice(chunk);
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
            let key = self.prepare_blocks(chunk)?;
            let n_pieces = self.plans[&key].n_pieces();
            for piece in 0..n_pieces {
                if progress(done + chunk.len() * piece / n_pieces, prompt.len()).is_break() {
                    return Err(Error::Cancelled);
                }
                self.submit_piece(key, piece);
                if piece + 1 < n_pieces || done + chunk.len() < prompt.len() {
                    self.gpu().finished().await?; // otherwise a stop would have to wait for all that was submitted ahead
                }
            }
            self.ids.extend_from_slice(chunk);
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
        let wanted = (self.ids.len() + ids.len()) as u64;
        if wanted > u64::from(self.context) {
            return Err(Error::ContextFull { wanted: wanted.min(u64::from(u32::MAX)) as u32, limit: self.context });
        }
        Ok(())
    }

    /// Makes room for `len` positions. Growing copies what is there: the layout keeps positions outermost.
    fn reserve(&mut self, len: u32) -> Result<(), Error> {
        if len <= self.capacity {
            return Ok(());
        }
        let capacity = memory::grown(self.capacity, len, self.context);
        let (gpu, config) = (self.model.gpu().clone(), self.model.config());
        let format = self.cache_format;
        let size = format.plane_bytes(config.heads(), capacity);
        let mut encoder = gpu.encoder();
        let mut cache = Vec::with_capacity(config.n_layers as usize);
        for layer in 0..config.n_layers as usize {
            let fresh = LayerCache { k: gpu.buffer("KV cache", size)?, v: gpu.buffer("KV cache", size)?, format };
            if let Some(old) = self.cache.get(layer) {
                encoder.copy_buffer_to_buffer(old.k.raw(), 0, fresh.k.raw(), 0, old.k.size());
                encoder.copy_buffer_to_buffer(old.v.raw(), 0, fresh.v.raw(), 0, old.v.size());
            }
            cache.push(fresh);
        }
        gpu.submit(encoder);
        self.rope_table = gpu.buffer_with("rope table", &config.rope.table(0..capacity))?;
        self.cache = cache;
        self.capacity = capacity;
        self.forget_block_plans();
        Ok(())
    }

    /// After the cache or the adapter became other buffers.
    fn forget_block_plans(&mut self) {
        self.plans.retain(|key, _| matches!(key, PlanKey::Head { .. }));
    }

    /// Submits all blocks for `ids` at the end of the cache.
    fn submit_blocks(&mut self, ids: &[u32]) -> Result<(), Error> {
        let key = self.prepare_blocks(ids)?;
        for piece in 0..self.plans[&key].n_pieces() {
            self.submit_piece(key, piece);
        }
        Ok(())
    }

    /// Makes everything ready to submit the blocks for `ids` at the end of the cache, piece by piece.
    fn prepare_blocks(&mut self, ids: &[u32]) -> Result<PlanKey, Error> {
        let (past, n_tokens) = (self.ids.len() as u32, ids.len() as u32);
        self.reserve(past + n_tokens)?;
        let key = PlanKey::Blocks { n_tokens, from_next_id: false };
        self.blocks_plan(key)?;
        self.gpu().write(&self.input_ids, 0, ids);
        self.write_step(Step { past, n_tokens, ..Step::default() });
        Ok(key)
    }

    fn submit_piece(&self, key: PlanKey, piece: usize) {
        let mut encoder = self.gpu().encoder();
        self.plans[&key].encode_piece(piece, self.gpu(), &mut encoder);
        self.gpu().submit(encoder);
    }

    fn write_step(&self, step: Step) {
        self.gpu().write(&self.step, 0, &[step]);
    }

    fn write_history(&self, ids: &[u32]) {
        let mut ring = vec![0u32; HISTORY as usize];
        for (index, id) in ids.iter().enumerate().skip(ids.len().saturating_sub(HISTORY as usize)) {
            ring[index % HISTORY as usize] = *id;
        }
        self.gpu().write(&self.history, 0, &ring);
    }

    fn blocks_plan(&mut self, key: PlanKey) -> Result<(), Error> {
        let PlanKey::Blocks { n_tokens, from_next_id } = key else { return Ok(()) };
        if self.plans.contains_key(&key) {
            return Ok(());
        }
        // Plans of prompts' odd last chunks are not worth keeping for ever.
        if self.plans.len() > 32 {
            self.plans.clear();
        }
        let model = self.model.clone();
        let mut plan = PlanBuilder::new(model.gpu()).rounded(!self.exact);
        let ids = if from_next_id { &self.next_id } else { &self.input_ids };
        embedding::launch(&mut plan, &model.0.embedding, ids, &self.activations.x, n_tokens)?;
        let n = stretches(self.capacity);
        let [sums, stats] = self.stretch_scratch.clone();
        let context = Context {
            config: model.config(),
            activations: &self.activations,
            step: &self.step,
            rope_table: &self.rope_table,
            n_tokens,
            packed: None,
            stretches: (n_tokens == 1 && n > 1).then_some(Stretches { n, sums: &sums, stats: &stats }),
            saving: None,
        };
        // Whole layers, so a submit can be more.
        let block_macs = model.config().block_weights() * u64::from(n_tokens);
        let layers_a_piece = (model.gpu().tier().submit_macs() / block_macs.max(1)).max(1) as usize;
        for (layer, (block, cache)) in model.0.blocks.iter().zip(&self.cache).enumerate() {
            if layer > 0 && layer.is_multiple_of(layers_a_piece) {
                plan.cut();
            }
            let prompt = self.adapter.as_ref().and_then(|active| {
                let index = layer.checked_sub(active.adapter.first_layer() as usize)?;
                Some((active.prompts.get(index)?, active.adapter.adapter_len()))
            });
            block.launch(&mut plan, context, cache, prompt)?;
        }
        self.plans.insert(key, plan.build()?);
        Ok(())
    }

    fn head_plan(&mut self, first: u32, n: u32) -> Result<(), Error> {
        let key = PlanKey::Head { first, n };
        let model = self.model.clone();
        let config = model.config();
        let bytes = u64::from(n) * u64::from(config.n_vocab) * 4;
        if self.logits.size() < bytes {
            self.logits = model.gpu().buffer("logits", bytes)?;
            self.plans.retain(|key, _| matches!(key, PlanKey::Blocks { .. }));
            self.sampling_plan = None;
            self.verify_plan = None;
        }
        if self.plans.contains_key(&key) {
            return Ok(());
        }
        let mut plan = PlanBuilder::new(model.gpu());
        let norm =
            Norm { weight: &model.0.output_norm, eps: config.eps, first_token: first, scratch: &self.head_input };
        let shape = matmul::Shape { n_tokens: n, y_stride: config.n_vocab, y_offset: 0 };
        let (x, head) = (&self.activations.x, model.0.head());
        matmul::launch_normed(&mut plan, head, x, norm, &self.logits, shape, Epilogue::Store)?;
        self.plans.insert(key, plan.build()?);
        Ok(())
    }

    fn make_sampling_plan(&mut self, sampling: &Sampling) -> Result<(), Error> {
        if self.sampling_plan.as_ref().is_some_and(|(made, _)| made == sampling) {
            return Ok(());
        }
        let model = self.model.clone();
        let mut plan = PlanBuilder::new(model.gpu());
        let buffers = sample::Buffers { logits: &self.logits, next_id: &self.next_id, history: &self.history };
        sample::launch(&mut plan, &self.step, buffers, model.config().n_vocab, sampling)?;
        self.sampling_plan = Some((sampling.clone(), plan.build()?));
        Ok(())
    }

    /// The most likely id of each of `n_rows` rows of logits.
    fn make_verify_plan(&mut self, n_rows: u32) -> Result<(), Error> {
        if self.verify_plan.as_ref().is_some_and(|(made, _)| *made == n_rows) {
            return Ok(());
        }
        let model = self.model.clone();
        let mut plan = PlanBuilder::new(model.gpu());
        let buffers = sample::Buffers { logits: &self.logits, next_id: &self.guessed_ids, history: &self.history };
        sample::launch_greedy(&mut plan, &self.step, buffers, model.config().n_vocab, n_rows)?;
        self.verify_plan = Some((n_rows, plan.build()?));
        Ok(())
    }
}

fn scaled(gates: &[f32], strength: f32) -> Vec<f32> {
    gates.iter().map(|gate| gate * strength).collect()
}
