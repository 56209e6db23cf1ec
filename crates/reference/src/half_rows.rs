//! Rows in f16, each brought into its range by a power of two. Shapes: `x: [T, C]`, scale `[T]`. Kernel: `shaders/half_rows.wgsl`.

/// (x in f16, what a product of the row is multiplied by): the largest number of a row comes to lie in [8, 16).
pub fn forward(x: &[f64], n_channels: usize) -> (Vec<f64>, Vec<f64>) {
    let mut halves = Vec::new();
    let mut scales = Vec::new();
    for row in x.chunks_exact(n_channels) {
        let largest = row.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let power = largest.max(2f64.powi(-123)).log2().floor();
        let factor = 2f64.powf(3.0 - power);
        halves.extend(row.iter().map(|value| round(value * factor)));
        scales.push(1.0 / factor);
    }
    (halves, scales)
}

/// The nearest number of f16: 11 bits, none below 2^-24.
fn round(value: f64) -> f64 {
    let unit = 2f64.powf((value.abs().log2().floor() - 10.0).max(-24.0));
    (value / unit).round_ties_even() * unit
}
