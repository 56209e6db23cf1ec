//! Rows of activations in f16, for the products that read them so. Kernel: `shaders/half_rows.wgsl`.

use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

/// Which columns of rows: all in fours.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// The first.
    pub first: u32,
    /// How many.
    pub n: u32,
    /// Of how many.
    pub of: u32,
}

/// `x[:, columns]` in f16, `[T, columns.n]`, and what undoes the scale of each row `[T]`, until the next product that rounds: see
/// `shaders/half_rows.wgsl`.
///
/// # Errors
/// As [`PlanBuilder::launch`], or too little memory.
pub fn launch_half_rows(
    plan: &mut PlanBuilder<'_>,
    x: &Buffer,
    n_tokens: u32,
    columns: Columns,
) -> Result<(Buffer, Buffer), GpuError> {
    let gpu = plan.gpu();
    let [half_bytes, scale_bytes] = half_row_bytes(n_tokens, columns.n);
    let x_half = gpu.scratch("activations in f16", half_bytes)?;
    let scale = gpu.scratch("scales of activations", scale_bytes)?;
    let params = [columns.n / 4, n_tokens, columns.of / 4, columns.first / 4];
    plan.launch(
        "half_rows",
        &constants([]),
        &[
            Arg::Params(bytemuck::bytes_of(&params)),
            Arg::Range(x, 0, u64::from(n_tokens) * u64::from(columns.of) * 4),
            Arg::Whole(&x_half),
            Arg::Whole(&scale),
        ],
        fold_groups(u64::from(n_tokens)),
    )?;
    Ok((x_half, scale))
}

/// Bytes of the two buffers of [`launch_half_rows`].
#[must_use]
pub fn half_row_bytes(n_tokens: u32, n_cols: u32) -> [u64; 2] {
    [u64::from(n_tokens) * u64::from(n_cols) * 2, u64::from(n_tokens) * 4]
}
