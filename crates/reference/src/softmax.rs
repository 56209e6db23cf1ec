//! Softmax over rows. Shapes: `x, y: [rows, n]`.

/// `log(sum_i exp(x[i]))`, the largest x taken out first. Minus infinity for an empty row.
pub fn log_sum_exp(x: &[f64]) -> f64 {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return top;
    }
    top + x.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
}

/// `y[i] = exp(x[i]) / sum_j exp(x[j])` in each row of `n`.
pub fn forward(x: &[f64], n: usize) -> Vec<f64> {
    assert!(x.len().is_multiple_of(n), "x is [rows, n]");
    let mut y = Vec::with_capacity(x.len());
    for x in x.chunks_exact(n) {
        // Not exp(x - log_sum_exp): a large log-sum-exp has lost the digits that count here.
        let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = x.iter().map(|x| (x - top).exp()).sum();
        y.extend(x.iter().map(|x| (x - top).exp() / sum));
    }
    y
}

/// `dx[i] = y[i] (dy[i] - sum_j dy[j] y[j])` in each row of `n`.
pub fn backward(dy: &[f64], y: &[f64], n: usize) -> Vec<f64> {
    assert!(dy.len() == y.len() && y.len().is_multiple_of(n), "dy and y are [rows, n]");
    let mut dx = Vec::with_capacity(y.len());
    for (dy, y) in dy.chunks_exact(n).zip(y.chunks_exact(n)) {
        let sum: f64 = dy.iter().zip(y).map(|(dy, y)| dy * y).sum();
        dx.extend(dy.iter().zip(y).map(|(dy, y)| y * (dy - sum)));
    }
    dx
}
