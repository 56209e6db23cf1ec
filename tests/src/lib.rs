//! What several test files share: test data, the GPU, comparing numbers.

use std::path::PathBuf;

/// A file of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// Normalized mean squared error of `found` against `wanted`: `sum((found - wanted)^2) / sum(wanted^2)`.
pub fn nmse(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len(), "lengths differ");
    let (mut error, mut power) = (0.0, 0.0);
    for (found, wanted) in found.iter().zip(wanted) {
        error += (f64::from(*found) - f64::from(*wanted)).powi(2);
        power += f64::from(*wanted).powi(2);
    }
    if power == 0.0 { error } else { error / power }
}
