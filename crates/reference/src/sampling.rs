//! Choosing the next token. Shapes: `logits: [V]`. Kernels: `shaders/{argmax,repeat_penalty,sample}.wgsl`.
//!
//! Sources: top-p: Holtzman et al. 2019, arXiv:1904.09751, section 3.1; min-p: Nguyen et al. 2024, arXiv:2407.01082; repeat
//! penalty: Keskar et al. 2019, arXiv:1909.05858, section 4.1. The order is llama.cpp's: penalty, top-k, top-p, min-p on the
//! probabilities at temperature 1, then the temperature, then the draw. Equal logits stand in the order of their ids.

use crate::softmax;

/// The settings. Each can be off: `top_k` 0, `top_p` 1, `min_p` 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits before the draw; 0 takes the most likely token.
    pub temperature: f64,
    /// Keep this many of the most likely tokens.
    pub top_k: usize,
    /// Keep the most likely tokens until their probabilities sum to this.
    pub top_p: f64,
    /// Drop tokens less likely than this share of the most likely one.
    pub min_p: f64,
}

/// The index of the largest logit, the lowest on a tie; none without logits.
pub fn argmax(logits: &[f64]) -> Option<u32> {
    top_k(logits, 1).first().copied()
}

/// The ids of the k largest logits, largest first, the lower id first on a tie.
pub fn top_k(logits: &[f64], k: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    // The sort is stable: equal logits stay in the order of their ids.
    ids.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    ids.truncate(k);
    ids
}

/// The logit of each different id in `recent` divided by `penalty` if positive, else multiplied.
pub fn repeat_penalty(logits: &mut [f64], recent: &[u32], penalty: f64) {
    let mut ids = recent.to_vec();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

/// The ids that a draw can give and their probabilities, most likely first.
pub fn candidates(sampling: Sampling, logits: &[f64]) -> Vec<(u32, f64)> {
    let Sampling { temperature, top_p, min_p, .. } = sampling;
    let k = if temperature == 0.0 {
        1
    } else if sampling.top_k == 0 {
        logits.len()
    } else {
        sampling.top_k
    };
    let ids = top_k(logits, k);
    let kept: Vec<f64> = ids.iter().map(|id| logits[*id as usize]).collect();
    let Some(top) = kept.first() else { return Vec::new() };
    let probabilities = softmax::forward(&kept, kept.len());
    let mut before = 0.0;
    let mut n = 0;
    for p in &probabilities {
        if n > 0 && (before >= top_p || *p < min_p * probabilities[0]) {
            break;
        }
        before += p;
        n += 1;
    }
    let temperature = if temperature == 0.0 { 1.0 } else { temperature };
    let scaled: Vec<f64> = kept[..n].iter().map(|logit| (logit - top) / temperature).collect();
    ids.into_iter().zip(softmax::forward(&scaled, n)).collect()
}

/// The candidate in whose stretch of [0, 1) `draw` falls; none without logits.
pub fn choose(sampling: Sampling, logits: &[f64], draw: f64) -> Option<u32> {
    let candidates = candidates(sampling, logits);
    let mut end = 0.0;
    for (id, p) in &candidates {
        end += p;
        if draw < end {
            return Some(*id);
        }
    }
    // Rounding can leave the sum just below 1.
    candidates.last().map(|(id, _)| *id)
}
