//! Layer norm over channels. Shapes: `x, y: [T, C]`, `weight, bias: [C]`. Kernel: `shaders/layer_norm.wgsl`.
//!
//! Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450, eq. 3.

/// `y[t,c] = (x[t,c] - m[t]) weight[c] / sqrt(mean_c (x[t,c] - m[t])^2 + eps) + bias[c]`, `m[t] = mean_c x[t,c]`.
pub fn forward(x: &[f64], weight: &[f64], bias: &[f64], eps: f64) -> Vec<f64> {
    let n_channels = weight.len();
    assert!(x.len().is_multiple_of(n_channels) && bias.len() == n_channels, "x is [T, C], bias [C]");
    let mut y = Vec::with_capacity(x.len());
    for x in x.chunks_exact(n_channels) {
        let mean = x.iter().sum::<f64>() / n_channels as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n_channels as f64;
        let scale = 1.0 / (variance + eps).sqrt();
        y.extend(x.iter().zip(weight).zip(bias).map(|((x, weight), bias)| (x - mean) * scale * weight + bias));
    }
    y
}
