//! Products with a frozen matrix. Shapes: `x: [T, I]`, `w: [O, I]`, `y: [T, O]`.
//! Kernels: `shaders/matvec.wgsl`, `shaders/matmul.wgsl`, `shaders/matmul_tiled.wgsl`.

/// `y[t,o] = sum_i x[t,i] w[o,i]`
pub fn forward(x: &[f64], w: &[f64], n_in: usize) -> Vec<f64> {
    assert!(x.len().is_multiple_of(n_in) && w.len().is_multiple_of(n_in), "x is [T, I], w is [O, I]");
    let mut y = Vec::with_capacity(x.len() / n_in * (w.len() / n_in));
    for x in x.chunks_exact(n_in) {
        y.extend(w.chunks_exact(n_in).map(|w| dot(x, w)));
    }
    y
}

/// `dx[t,i] = sum_o dy[t,o] w[o,i]`; the matrix is frozen and has no gradient.
pub fn backward(dy: &[f64], w: &[f64], n_in: usize) -> Vec<f64> {
    let n_out = w.len() / n_in;
    assert!(w.len().is_multiple_of(n_in) && dy.len().is_multiple_of(n_out), "dy is [T, O], w is [O, I]");
    let mut dx = vec![0.0; dy.len() / n_out * n_in];
    for (dy, dx) in dy.chunks_exact(n_out).zip(dx.chunks_exact_mut(n_in)) {
        for (dy, w) in dy.iter().zip(w.chunks_exact(n_in)) {
            add_scaled(dx, *dy, w);
        }
    }
    dx
}

/// `sum_i a[i] b[i]`, in four running sums: one would wait for each addition before the next.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<4>();
    let (b, b_rest) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        sums[0] += a[0] * b[0];
        sums[1] += a[1] * b[1];
        sums[2] += a[2] * b[2];
        sums[3] += a[3] * b[3];
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// `y[i] += scale x[i]`
pub(crate) fn add_scaled(y: &mut [f64], scale: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}
