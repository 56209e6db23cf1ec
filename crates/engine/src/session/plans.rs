//! The plans of a session: made when first asked for, kept while they are used.

use super::Session;
use super::buffers::Buffers;
use super::conversation::Conversation;
use crate::Error;
use crate::gpu::{Buffer, Plan, PlanBuilder};
use crate::model::Model;
use crate::model::block::{Activations, Context};
use crate::ops::attention::{KvSplits, kv_splits};
use crate::ops::embedding;
use crate::ops::matmul::{self, Epilogue, Norm};
use crate::ops::sample;
use crate::sampler::Sampling;

/// Plans that are kept beside the one of decoding: those of prompts' odd last chunks are not worth keeping for ever.
const MOST: usize = 32;

/// What a plan does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PlanKey {
    /// All blocks for this many tokens, read from `input_ids` (or from `next_id`).
    Blocks { n_tokens: u32, from_next_id: bool },
    /// Final norm and output head for rows `first..first + n`.
    Head { first: u32, n: u32 },
    /// The next id from one row of logits.
    Sample(Sampling),
    /// The most likely id of each of so many rows of logits.
    Verify { n_rows: u32 },
}

impl PlanKey {
    /// The blocks of one token, whose id is on the GPU: what every token of an answer takes.
    pub(super) const DECODE: Self = Self::Blocks { n_tokens: 1, from_next_id: true };
}

/// Plans by what they do.
pub(super) struct Plans<P = Plan> {
    /// The one used last at the end.
    made: Vec<(PlanKey, P)>,
}

impl<P> Plans<P> {
    pub(super) fn new() -> Self {
        Self { made: Vec::new() }
    }

    /// The plan of `key`, which `make` makes if there is none. When there are too many, the one used longest ago goes, but never
    /// that of decoding.
    pub(super) fn get<E>(&mut self, key: &PlanKey, make: impl FnOnce() -> Result<P, E>) -> Result<&P, E> {
        match self.made.iter().position(|(made, _)| made == key) {
            Some(at) => self.made[at..].rotate_left(1),
            None => {
                let plan = make()?;
                if matches!(key, PlanKey::Sample(_)) {
                    // Every answer has another seed: the settings of the one before do not come back.
                    self.made.retain(|(made, _)| !matches!(made, PlanKey::Sample(_)));
                }
                if self.made.len() > MOST
                    && let Some(oldest) = self.made.iter().position(|(made, _)| *made != PlanKey::DECODE)
                {
                    self.made.remove(oldest);
                }
                self.made.push((key.clone(), plan));
            }
        }
        // Either arm has put it at the end.
        let last = self.made.len() - 1;
        Ok(&self.made[last].1)
    }

    /// After the cache or the adapter became other buffers.
    pub(super) fn forget_blocks(&mut self) {
        self.made.retain(|(key, _)| !matches!(key, PlanKey::Blocks { .. }));
    }

    /// After the logits became another buffer.
    pub(super) fn forget_logits(&mut self) {
        self.made.retain(|(key, _)| matches!(key, PlanKey::Blocks { .. }));
    }
}

impl Session {
    /// The plan of `key`; its buffers are large enough already ([`Self::reserve`], [`Self::reserve_logits`]).
    ///
    /// # Errors
    /// Too little memory, a shader that cannot be made.
    pub(super) fn plan(&mut self, key: &PlanKey) -> Result<&Plan, Error> {
        let Self { model, plans, buffers, activations, conversation, exact, .. } = self;
        plans.get(key, || match key {
            PlanKey::Blocks { n_tokens, from_next_id } => {
                let ids = if *from_next_id { &buffers.next_id } else { &buffers.input_ids };
                blocks(model, (buffers, activations), conversation, ids, *n_tokens, *exact)
            }
            PlanKey::Head { first, n } => head(model, buffers, *first, *n),
            PlanKey::Sample(sampling) => {
                let mut plan = PlanBuilder::new(model.gpu());
                let n_vocab = model.config().n_vocab;
                sample::launch(&mut plan, &buffers.step, of_sampling(buffers, &buffers.next_id), n_vocab, sampling)?;
                Ok(plan.build()?)
            }
            PlanKey::Verify { n_rows } => {
                let mut plan = PlanBuilder::new(model.gpu());
                let (n_vocab, sampled) = (model.config().n_vocab, of_sampling(buffers, &buffers.checked_ids));
                sample::launch_greedy(&mut plan, &buffers.step, sampled, n_vocab, *n_rows)?;
                Ok(plan.build()?)
            }
        })
    }

    /// Makes room for `n` rows of logits.
    ///
    /// # Errors
    /// Too little memory.
    pub(super) fn reserve_logits(&mut self, n: u32) -> Result<(), Error> {
        let bytes = u64::from(n) * u64::from(self.model.config().n_vocab) * 4;
        if self.buffers.logits.size() < bytes {
            self.buffers.logits = self.model.gpu().buffer("logits", bytes)?;
            self.plans.forget_logits();
        }
        Ok(())
    }
}

fn of_sampling<'a>(buffers: &'a Buffers<Buffer>, next_id: &'a Buffer) -> sample::Buffers<'a> {
    sample::Buffers { logits: &buffers.logits, next_id, history: &buffers.history }
}

/// All blocks for `n_tokens` of `ids` at the end of the cache.
fn blocks(
    model: &Model,
    (buffers, activations): (&Buffers<Buffer>, &Activations),
    conversation: &Conversation,
    ids: &Buffer,
    n_tokens: u32,
    exact: bool,
) -> Result<Plan, Error> {
    let mut plan = PlanBuilder::new(model.gpu()).f16_products(!exact);
    embedding::launch(&mut plan, &model.0.embedding, ids, &buffers.x, n_tokens)?;
    let n = kv_splits(conversation.capacity);
    let splits = KvSplits { n, sums: &buffers.kv_split_sums, stats: &buffers.kv_split_stats };
    let context = Context {
        config: model.config(),
        activations,
        step: &buffers.step,
        rope_table: &conversation.rope_table,
        n_tokens,
        packed: None,
        kv_splits: (n_tokens == 1 && n > 1).then_some(splits),
        saving: None,
    };
    // Whole layers, so a submit can be more.
    let block_macs = model.config().block_weights() * u64::from(n_tokens);
    let layers_a_piece = (model.gpu().tier().submit_macs() / block_macs.max(1)).max(1) as usize;
    for (layer, (block, cache)) in model.0.blocks.iter().zip(&conversation.layers).enumerate() {
        if layer > 0 && layer.is_multiple_of(layers_a_piece) {
            plan.cut();
        }
        let prompt = conversation.adapter.as_ref().and_then(|active| active.applied.beside_attention(layer));
        block.launch(&mut plan, context, cache, prompt)?;
    }
    Ok(plan.build()?)
}

/// Logits of the rows `first..first + n` of the residual stream.
fn head(model: &Model, buffers: &Buffers<Buffer>, first: u32, n: u32) -> Result<Plan, Error> {
    let config = model.config();
    let mut plan = PlanBuilder::new(model.gpu());
    let norm = Norm { weight: &model.0.output_norm, eps: config.eps, first_token: first, scratch: &buffers.head_input };
    let shape = matmul::Shape { n_tokens: n, y_stride: config.n_vocab, y_offset: 0 };
    matmul::launch_normed(&mut plan, model.0.head(), &buffers.x, norm, &buffers.logits, shape, Epilogue::Store)?;
    Ok(plan.build()?)
}

#[cfg(test)]
mod tests {
    use super::{MOST, PlanKey, Plans};
    use crate::sampler::Sampling;

    #[test]
    fn the_plan_used_longest_ago_goes_first_and_decoding_never() {
        let mut plans = Plans::<u32>::new();
        let chunk = |n_tokens| PlanKey::Blocks { n_tokens, from_next_id: false };
        let made = |plans: &mut Plans<u32>, key: &PlanKey| {
            let mut made = false;
            plans
                .get(key, || {
                    Ok::<u32, ()>({
                        made = true;
                        0
                    })
                })
                .expect("it cannot fail");
            made
        };
        assert!(made(&mut plans, &PlanKey::DECODE) && made(&mut plans, &chunk(7)));
        for n_tokens in 100..100 + 3 * MOST as u32 {
            assert!(made(&mut plans, &chunk(n_tokens)));
            assert!(!made(&mut plans, &chunk(7)), "used all the time");
            assert!(plans.made.len() <= MOST + 1);
        }
        assert!(!made(&mut plans, &PlanKey::DECODE) && made(&mut plans, &chunk(100)));
        plans.forget_blocks();
        assert!(plans.made.is_empty());
        // One answer's settings at a time.
        for seed in 0..5 {
            assert!(made(&mut plans, &PlanKey::Sample(Sampling { seed, ..Sampling::default() })));
            assert_eq!(plans.made.len(), 1);
        }
        assert!(made(&mut plans, &PlanKey::Head { first: 0, n: 1 }) && made(&mut plans, &PlanKey::DECODE));
        plans.forget_logits();
        assert_eq!(plans.made.len(), 1);
    }

    #[test]
    fn what_cannot_be_made_leaves_the_rest() {
        let mut plans = Plans::<u32>::new();
        let key = PlanKey::Head { first: 0, n: 1 };
        assert!(plans.get(&key, || Err("no memory")).is_err() && plans.made.is_empty());
        assert_eq!(plans.get(&key, || Ok::<_, ()>(3)), Ok(&3));
    }
}
