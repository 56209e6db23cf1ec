//! Rotary position embedding: the table of angles (made here, in f64) and the rotation. Kernel: `shaders/rope.wgsl`.

use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

/// How a model stretches its positions beyond the context it was first trained with.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// Position interpolation (arXiv:2306.15595): every angle divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1's rule: low frequencies divided by `factor`, high ones kept, a smooth ramp between.
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
    /// One divisor a frequency, as GGUF's `rope_freqs.weight` holds them (llama.cpp writes Llama 3.1's rule like this).
    Factors(Vec<f32>),
}

/// All that decides the angles.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// D: channels of a head.
    pub head_dim: u32,
    /// How many of them turn, from the first on; even.
    pub n_rot: u32,
    /// Base of the frequencies, 10,000 in LLaMA 1.
    pub theta: f64,
    /// Stretching.
    pub scaling: Scaling,
}

impl Rope {
    /// Angle a position of rotation pair `pair`, radians.
    pub fn frequency(&self, pair: u32) -> f64 {
        let plain = self.theta.powf(-2.0 * f64::from(pair) / f64::from(self.n_rot));
        match &self.scaling {
            Scaling::None => plain,
            Scaling::Linear { factor } => plain / factor,
            Scaling::Factors(factors) => plain / factors.get(pair as usize).map_or(1.0, |factor| f64::from(*factor)),
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let wavelength = std::f64::consts::TAU / plain;
                if wavelength < original_context / high_freq_factor {
                    plain
                } else if wavelength > original_context / low_freq_factor {
                    plain / factor
                } else {
                    let smooth =
                        (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * plain / factor + smooth * plain
                }
            }
        }
    }

    /// `(cos, sin)` of every pair for `positions`: `[positions, D/2, 2]`. Pairs past `n_rot` do not turn.
    pub fn table(&self, positions: std::ops::Range<u32>) -> Vec<f32> {
        let frequencies: Vec<f64> =
            (0..self.head_dim / 2).map(|pair| if 2 * pair < self.n_rot { self.frequency(pair) } else { 0.0 }).collect();
        positions
            .flat_map(|position| frequencies.iter().map(move |frequency| f64::from(position) * frequency))
            .flat_map(|angle| [angle.cos() as f32, angle.sin() as f32])
            .collect()
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n_tokens: u32,
    n_heads: u32,
    head_vec4: u32,
    sign: f32,
    n_rotated: u32,
    unused: [u32; 3],
}

/// Several texts side by side, each counting its positions from 0: what training uses.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    /// `[T]`, for each token the first token of its text; ascending.
    pub starts: &'a Buffer,
    /// `[T, H, 2]`: log-sum-exp of the attention scores (written by the forward pass), and delta (by the backward pass).
    pub stats: &'a Buffer,
}

/// Turns `x [T, heads, D]` in place by the angles of positions `step.past + t`; `inverse` turns back.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(
    plan: &mut PlanBuilder<'_>,
    step: &Buffer,
    table: &Buffer,
    x: &Buffer,
    [n_tokens, n_heads, head_dim]: [u32; 3],
    inverse: bool,
) -> Result<(), GpuError> {
    let sign = if inverse { -1.0 } else { 1.0 };
    let params = Params { n_tokens, n_heads, head_vec4: head_dim / 4, sign, n_rotated: n_heads, unused: [0; 3] };
    plan.launch(
        "rope",
        &constants([("PACKED", "0".to_owned())]),
        &[Arg::Params(bytemuck::bytes_of(&params)), Arg::Whole(step), Arg::Whole(table), Arg::Whole(x)],
        fold_groups((u64::from(n_tokens) * u64::from(n_heads) * u64::from(head_dim / 4)).div_ceil(64)),
    )
}

/// The gradient of the rotation in a fused `dqkv [T, heads, D]`: the first `n_rotated` heads are rotated back, each token by
/// its position in its own text.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward(
    plan: &mut PlanBuilder<'_>,
    step: &Buffer,
    table: &Buffer,
    dqkv: &Buffer,
    packed: Packed<'_>,
    [n_tokens, n_heads, head_dim]: [u32; 3],
    n_rotated: u32,
) -> Result<(), GpuError> {
    let params = Params { n_tokens, n_heads, head_vec4: head_dim / 4, sign: -1.0, n_rotated, unused: [0; 3] };
    plan.launch(
        "rope",
        &constants([("PACKED", "1".to_owned())]),
        &[
            Arg::Params(bytemuck::bytes_of(&params)),
            Arg::Whole(step),
            Arg::Whole(table),
            Arg::Whole(dqkv),
            Arg::Whole(packed.starts),
        ],
        fold_groups((u64::from(n_tokens) * u64::from(n_heads) * u64::from(head_dim / 4)).div_ceil(64)),
    )
}
