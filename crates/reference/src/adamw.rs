//! One step of AdamW as `torch.optim.AdamW` makes it. Shapes: all `[n]`. Kernel: `shaders/adamw.wgsl`.
//!
//! Source: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2, with the decay multiplied by the learning rate.

/// The settings; torch's names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// How much of the running means stays.
    pub betas: (f64, f64),
    /// Added to the root, after its correction.
    pub eps: f64,
    /// Share of a parameter taken off a step, times `lr`.
    pub weight_decay: f64,
}

/// Running means of gradient and squared gradient, both zero at first.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Mean of the gradient.
    pub m: Vec<f64>,
    /// Mean of its square.
    pub v: Vec<f64>,
}

impl Moments {
    /// Those of `n` parameters before the first step.
    pub fn zeros(n: usize) -> Self {
        Self { m: vec![0.0; n], v: vec![0.0; n] }
    }
}

/// `p = p (1 - lr decay) - lr m' / (sqrt(v') + eps)`, with `m' = m / (1 - beta1^step)`, `v' = v / (1 - beta2^step)`; the
/// first `step` is 1.
pub fn step(settings: AdamW, step: i32, p: &mut [f64], d: &[f64], moments: &mut Moments) {
    assert!(p.len() == d.len() && p.len() == moments.m.len() && p.len() == moments.v.len(), "all have one length");
    let AdamW { lr, betas: (beta1, beta2), eps, weight_decay } = settings;
    let (correction1, correction2) = (1.0 - beta1.powi(step), 1.0 - beta2.powi(step));
    for i in 0..p.len() {
        moments.m[i] = beta1 * moments.m[i] + (1.0 - beta1) * d[i];
        moments.v[i] = beta2 * moments.v[i] + (1.0 - beta2) * d[i] * d[i];
        let (m, v) = (moments.m[i] / correction1, moments.v[i] / correction2);
        p[i] = p[i] * (1.0 - lr * weight_decay) - lr * m / (v.sqrt() + eps);
    }
}
