//! Rotary position embedding. Shapes: `x: [T, heads, D]`, `positions: [T]`. Kernel: `shaders/rope.wgsl`.
//!
//! Source: Su et al. 2021, arXiv:2104.09864, eq. 34. The channels that turn together are neighbours, `(x[2i], x[2i+1])`: GGUF
//! stores the rows of q and k so (llama.cpp's "norm" order; Hugging Face pairs `x[i]` with `x[i + D/2]`).

use std::f64::consts::TAU;

/// How a model stretches its positions beyond the context it was first trained with.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// Position interpolation (Chen et al. 2023, arXiv:2306.15595): every angle divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1 (Grattafiori et al. 2024, arXiv:2407.21783; the rule is in Meta's `apply_scaling`): low frequencies divided
    /// by `factor`, high ones kept, a linear ramp between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The context of the first training.
        original_context: f64,
    },
    /// One divisor a pair, as GGUF's `rope_freqs.weight` holds them.
    Factors(Vec<f64>),
}

/// All that decides the angles.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// How many channels of a head turn, from the first on; even.
    pub n_rot: usize,
    /// Base of the frequencies, 10,000 in LLaMA 1.
    pub theta: f64,
    /// Stretching.
    pub scaling: Scaling,
}

/// Angles in radians at `position`, one a pair: `[n_rot / 2]`.
pub fn angles(rope: &Rope, position: usize) -> Vec<f64> {
    let angle = |pair: usize| {
        let plain = rope.theta.powf(-2.0 * pair as f64 / rope.n_rot as f64);
        let frequency = match &rope.scaling {
            Scaling::None => plain,
            Scaling::Linear { factor } => plain / factor,
            Scaling::Factors(factors) => plain / factors[pair],
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                // How many turns the original context holds, placed between the two borders.
                let turns = original_context * plain / TAU;
                let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                (1.0 - kept) * plain / factor + kept * plain
            }
        };
        position as f64 * frequency
    };
    (0..rope.n_rot / 2).map(angle).collect()
}

/// Each pair of the first n_rot channels of each head rotated by its angle; the other channels unchanged.
pub fn forward(rope: &Rope, x: &[f64], head_dim: usize, positions: &[usize]) -> Vec<f64> {
    rotated(rope, x, head_dim, positions, 1.0)
}

/// dx: a rotation's gradient is the rotation back.
pub fn backward(rope: &Rope, dy: &[f64], head_dim: usize, positions: &[usize]) -> Vec<f64> {
    rotated(rope, dy, head_dim, positions, -1.0)
}

fn rotated(rope: &Rope, x: &[f64], head_dim: usize, positions: &[usize], sign: f64) -> Vec<f64> {
    assert!(rope.n_rot.is_multiple_of(2) && rope.n_rot <= head_dim, "n_rot is even and at most D");
    let mut y = x.to_vec();
    if positions.is_empty() {
        return y;
    }
    let row = x.len() / positions.len();
    assert!(x.len() == row * positions.len() && row.is_multiple_of(head_dim), "x is [T, heads, D]");
    for (y, position) in y.chunks_exact_mut(row).zip(positions) {
        let angles = angles(rope, *position);
        for head in y.chunks_exact_mut(head_dim) {
            for (pair, angle) in head.as_chunks_mut::<2>().0.iter_mut().zip(&angles) {
                let (sin, cos) = (sign * angle).sin_cos();
                let [a, b] = *pair;
                *pair = [a * cos - b * sin, a * sin + b * cos];
            }
        }
    }
    y
}
