//! Gaussian error linear units. Kernel: `shaders/gelu.wgsl`.
//!
//! Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2 and its two approximations.

/// `x Phi(x)`, Phi the distribution function of the standard normal distribution.
pub fn erf(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x * distribution(*x)).collect()
}

/// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`
pub fn tanh(x: &[f64]) -> Vec<f64> {
    let scale = std::f64::consts::FRAC_2_PI.sqrt();
    x.iter().map(|x| 0.5 * x * (1.0 + (scale * (x + 0.044_715 * x.powi(3))).tanh())).collect()
}

/// `x sigmoid(1.702 x)`
pub fn quick(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x / (1.0 + (-1.702 * x).exp())).collect()
}

/// `Phi(x) = 1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 5) + ...)` (Abramowitz and Stegun 1964, 26.2.11), for what a kernel computes with an
/// approximation. All terms have one sign, so nothing cancels but the sum with 1/2.
fn distribution(x: f64) -> f64 {
    if x.abs() > 12.0 {
        // Within 2e-33 of it; the series would leave f64's range further out.
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > sum.abs() * 1e-17 {
        n += 2.0;
        term *= x * x / n;
        sum += term;
    }
    0.5 + density * sum
}
