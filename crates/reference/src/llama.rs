//! The whole model: LLaMA with an optional adapter, forward, and backward to prompts and gates. The specification in code.
//!
//! Sources: Touvron et al. 2023, arXiv:2302.13971, section 2.2; the adapter: Zhang et al. 2023, arXiv:2303.16199, section 3.
//! Only prompts and gates have gradients; below the lowest adapted layer nothing is computed backward.

mod block;
mod weights;

pub use weights::{Config, Weights};

use crate::adaption_prompt::AdaptionPrompt;
use crate::{Error, cross_entropy, embedding, matmul, rms_norm};

/// Loss and what training needs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// Mean cross entropy over the targets.
    pub loss: f64,
    /// `[L_a, A, C]`
    pub dprompts: Vec<f64>,
    /// Shaped as the adapter's gates.
    pub dgates: Vec<f64>,
}

/// A model ready to run: configuration and dequantized weights, checked against each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Llama {
    config: Config,
    weights: Weights,
}

/// What the forward pass leaves for the backward pass.
struct Saved {
    /// One a layer, lowest first.
    blocks: Vec<block::Saved>,
    /// [T, C], the input of the output norm.
    x: Vec<f64>,
    /// [T]
    r: Vec<f64>,
    /// [T, V]
    logits: Vec<f64>,
}

impl Llama {
    /// A model of these weights.
    ///
    /// # Errors
    /// A weight is missing or has another length than the configuration says.
    pub fn new(config: Config, weights: Weights) -> Result<Self, Error> {
        weights.check(&config)?;
        Ok(Self { config, weights })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Logits `[T, V]` of the tokens at positions 0..T.
    ///
    /// # Errors
    /// An id is not below V, or the adapter does not fit the model.
    pub fn forward(&self, ids: &[u32], adaption: Option<&AdaptionPrompt>) -> Result<Vec<f64>, Error> {
        Ok(self.forward_saved(ids, &[], adaption)?.logits)
    }

    /// Mean loss of predicting the tokens from `first_target` on, and its gradients.
    ///
    /// # Errors
    /// As [`Self::forward`]; or `first_target` is not in 1..T.
    pub fn loss_and_gradients(
        &self,
        ids: &[u32],
        first_target: usize,
        adaption: &AdaptionPrompt,
    ) -> Result<Gradients, Error> {
        if first_target == 0 || first_target >= ids.len() {
            return Err(Error::Range {
                what: "first target less one",
                found: first_target.wrapping_sub(1),
                limit: ids.len(),
            });
        }
        // Row t predicts token t + 1; the last row predicts nothing.
        let target = |t: usize| if t + 1 >= first_target { ids.get(t + 1).copied() } else { None };
        let targets: Vec<Option<u32>> = (0..ids.len()).map(target).collect();
        self.packed_loss_and_gradients(ids, &targets, &[], adaption)
    }

    /// The same for several texts laid end to end: `starts` says where each begins, its positions count from there, and no
    /// token sees another text. `targets[t]` is what row t should predict.
    ///
    /// # Errors
    /// As [`Self::forward`]; or there is not one target a token; or a target is not below V.
    pub fn packed_loss_and_gradients(
        &self,
        ids: &[u32],
        targets: &[Option<u32>],
        starts: &[usize],
        adaption: &AdaptionPrompt,
    ) -> Result<Gradients, Error> {
        let n_vocab = self.config.n_vocab;
        if targets.len() != ids.len() {
            return Err(Error::Length { what: "targets".to_owned(), found: targets.len(), wanted: ids.len() });
        }
        check_ids(targets.iter().flatten(), n_vocab)?;
        let saved = self.forward_saved(ids, starts, Some(adaption))?;
        let (losses, lse) = cross_entropy::forward(&saved.logits, n_vocab, targets);
        let scale = cross_entropy::scale(targets);
        let dlogits = cross_entropy::backward(scale, &saved.logits, n_vocab, targets, &lse);
        let (dprompts, dgates) = self.backward(&dlogits, &saved, starts, adaption);
        Ok(Gradients { loss: cross_entropy::mean(&losses, targets), dprompts, dgates })
    }

    fn forward_saved(&self, ids: &[u32], starts: &[usize], adaption: Option<&AdaptionPrompt>) -> Result<Saved, Error> {
        let Config { n_layers, n_channels, n_heads, n_vocab, eps, .. } = self.config;
        check_ids(ids.iter(), n_vocab)?;
        if let Some(adaption) = adaption {
            adaption.check(n_layers, n_channels, n_heads)?;
        }
        let positions = positions(ids.len(), starts);
        let mut x = embedding::forward(ids, self.weights.get("token_embd.weight"), n_channels);
        let mut blocks = Vec::with_capacity(n_layers);
        for i in 0..n_layers {
            let prompt = adaption.and_then(|a| Some((a.kind, a.layer(adapted(i, n_layers, a)?))));
            let (out, saved) = block::forward(&self.config, &self.weights, i, x, &positions, starts, prompt);
            x = out;
            blocks.push(saved);
        }
        let (y, r) = rms_norm::forward(&x, self.weights.get("output_norm.weight"), eps);
        let logits = matmul::forward(&y, self.weights.output(), n_channels);
        Ok(Saved { blocks, x, r, logits })
    }

    /// (dprompts, dgates)
    fn backward(
        &self,
        dlogits: &[f64],
        saved: &Saved,
        starts: &[usize],
        adaption: &AdaptionPrompt,
    ) -> (Vec<f64>, Vec<f64>) {
        let n_layers = self.config.n_layers;
        let positions = positions(saved.r.len(), starts);
        let dy = matmul::backward(dlogits, self.weights.output(), self.config.n_channels);
        let mut dx = rms_norm::backward(&dy, &saved.x, self.weights.get("output_norm.weight"), &saved.r);
        let mut by_layer = Vec::with_capacity(adaption.n_layers);
        for i in (0..n_layers).rev() {
            let Some(j) = adapted(i, n_layers, adaption) else { break };
            let prompt = (adaption.kind, adaption.layer(j));
            let d = block::backward(
                &self.config,
                &self.weights,
                i,
                &dx,
                &saved.blocks[i],
                &positions,
                starts,
                prompt,
                j > 0,
            );
            by_layer.push((d.dprompt, d.dgates));
            dx = d.dx;
        }
        let (dprompts, dgates): (Vec<_>, Vec<_>) = by_layer.into_iter().rev().unzip();
        (dprompts.concat(), dgates.concat())
    }
}

/// Which of the adapter's layers sits in layer i of the model.
fn adapted(i: usize, n_layers: usize, adaption: &AdaptionPrompt) -> Option<usize> {
    (i + adaption.n_layers).checked_sub(n_layers)
}

/// Positions of packed tokens, counted from the start of their text.
fn positions(n_tokens: usize, starts: &[usize]) -> Vec<usize> {
    let start = |t: usize| starts.iter().copied().filter(|start| *start <= t).max().unwrap_or(0);
    (0..n_tokens).map(|t| t - start(t)).collect()
}

fn check_ids<'a>(ids: impl Iterator<Item = &'a u32>, n_vocab: usize) -> Result<(), Error> {
    match ids.map(|id| *id as usize).find(|id| *id >= n_vocab) {
        Some(found) => Err(Error::Range { what: "token id", found, limit: n_vocab }),
        None => Ok(()),
    }
}
