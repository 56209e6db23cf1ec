//! Root-mean-square norm over channels. Shapes: `x, y: [T, C]`, `weight: [C]`, `r: [T]`. Kernel: `shaders/rms_norm.wgsl`.
//!
//! Source: Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4.

/// `y[t,c] = x[t,c] r[t] weight[c]`, `r[t] = 1 / sqrt(mean_c(x[t,c]^2) + eps)`. Returns y, and r for the gradient.
pub fn forward(x: &[f64], weight: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>) {
    let n_channels = weight.len();
    assert_eq!(x.len() % n_channels, 0, "x is [T, C]");
    let (mut y, mut r) = (Vec::with_capacity(x.len()), Vec::new());
    for x in x.chunks_exact(n_channels) {
        let mean_square = x.iter().map(|x| x * x).sum::<f64>() / n_channels as f64;
        let scale = 1.0 / (mean_square + eps).sqrt();
        y.extend(x.iter().zip(weight).map(|(x, weight)| x * scale * weight));
        r.push(scale);
    }
    (y, r)
}

/// Gradient to x only, the weight is frozen: with `n = x r` and `dn = weight dy`, `dx = r (dn - n mean_c(dn n))`.
pub fn backward(dy: &[f64], x: &[f64], weight: &[f64], r: &[f64]) -> Vec<f64> {
    let n_channels = weight.len();
    assert!(dy.len() == x.len() && x.len() == r.len() * n_channels, "dy and x are [T, C], r is [T]");
    let mut dx = Vec::with_capacity(x.len());
    for ((dy, x), r) in dy.chunks_exact(n_channels).zip(x.chunks_exact(n_channels)).zip(r) {
        let mean =
            dy.iter().zip(x).zip(weight).map(|((dy, x), weight)| weight * dy * x * r).sum::<f64>() / n_channels as f64;
        dx.extend(dy.iter().zip(x).zip(weight).map(|((dy, x), weight)| r * (weight * dy - x * r * mean)));
    }
    dx
}
