//! Rows of the embedding table. Shapes: `ids: [T]`, `w: [V, C]`, `y: [T, C]`. Kernel: `shaders/embedding.wgsl`.
//!
//! There is no gradient: the table is frozen and nothing that learns lies below it.

/// `y[t,:] = w[ids[t],:]`
///
/// # Panics
/// An id is not below V.
pub fn forward(ids: &[u32], w: &[f64], n_channels: usize) -> Vec<f64> {
    let mut y = Vec::with_capacity(ids.len() * n_channels);
    for id in ids {
        let row = *id as usize * n_channels;
        y.extend_from_slice(&w[row..row + n_channels]);
    }
    y
}
