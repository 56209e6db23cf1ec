//! The gate of the feed-forward part. Shapes: `gate, up, y: [T, F]`. Kernel: `shaders/swiglu.wgsl`.
//!
//! Source: Shazeer 2020, arXiv:2002.05202, eq. 5.

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// `y = silu(gate) up`, `silu(z) = z sigmoid(z)`
pub fn forward(gate: &[f64], up: &[f64]) -> Vec<f64> {
    assert_eq!(gate.len(), up.len(), "gate and up have one shape");
    gate.iter().zip(up).map(|(gate, up)| gate * sigmoid(*gate) * up).collect()
}

/// (dgate, dup): `dup = dy silu(gate)`, `dgate = dy up s (1 + gate (1 - s))` with `s = sigmoid(gate)`.
pub fn backward(dy: &[f64], gate: &[f64], up: &[f64]) -> (Vec<f64>, Vec<f64>) {
    assert!(dy.len() == gate.len() && gate.len() == up.len(), "dy, gate and up have one shape");
    let one = |((dy, gate), up): ((&f64, &f64), &f64)| {
        let s = sigmoid(*gate);
        (dy * up * s * (1.0 + gate * (1.0 - s)), dy * gate * s)
    };
    dy.iter().zip(gate).zip(up).map(one).unzip()
}
