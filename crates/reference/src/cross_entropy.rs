//! Cross entropy of the next token. Shapes: `logits: [T, V]`, `targets: [T]`, `losses, lse: [T]`.
//! Kernel: `shaders/cross_entropy.wgsl`. A row without a target (prompt, padding) has loss 0 and gradient 0.

use crate::softmax::log_sum_exp;

/// `losses[t] = lse[t] - logits[t, targets[t]]`. Returns losses, and `lse[t] = log(sum_v exp(logits[t,v]))` for the gradient.
///
/// # Panics
/// A target is not below V.
pub fn forward(logits: &[f64], n_vocab: usize, targets: &[Option<u32>]) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(logits.len(), n_vocab * targets.len(), "logits are [T, V], targets are [T]");
    let row = |(logits, target): (&[f64], &Option<u32>)| {
        let lse = log_sum_exp(logits);
        (target.map_or(0.0, |target| lse - logits[target as usize]), lse)
    };
    logits.chunks_exact(n_vocab).zip(targets).map(row).unzip()
}

/// The mean over rows with a target; 0 where there is none, not 0 / 0.
pub fn mean(losses: &[f64], targets: &[Option<u32>]) -> f64 {
    losses.iter().sum::<f64>() * scale(targets)
}

/// 1 / the number of targets, 0 where there is none: the `scale` of [`backward`] for the mean.
pub fn scale(targets: &[Option<u32>]) -> f64 {
    let n_targets = targets.iter().flatten().count();
    if n_targets == 0 { 0.0 } else { 1.0 / n_targets as f64 }
}

/// `dlogits[t,v] = scale (exp(logits[t,v] - lse[t]) - (v == targets[t]))`
pub fn backward(scale: f64, logits: &[f64], n_vocab: usize, targets: &[Option<u32>], lse: &[f64]) -> Vec<f64> {
    assert!(logits.len() == n_vocab * targets.len() && lse.len() == targets.len(), "logits are [T, V], lse is [T]");
    let mut dlogits = vec![0.0; logits.len()];
    for (t, target) in targets.iter().enumerate() {
        let Some(target) = target else { continue };
        let row = t * n_vocab;
        for v in 0..n_vocab {
            dlogits[row + v] = scale * (logits[row + v] - lse[t]).exp();
        }
        dlogits[row + *target as usize] -= scale;
    }
    dlogits
}
