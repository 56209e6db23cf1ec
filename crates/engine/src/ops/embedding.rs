//! Rows of the embedding table. Kernel: `shaders/embedding.wgsl`.

use super::matrix::Matrix;
use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n_tokens: u32,
    n_blocks: u32,
    first_row: u32,
    n_rows: u32,
}

/// `y[t,:] = table[ids[t],:]`. Shapes: `table [V,C]`, `ids [T]` (u32), `y [T,C]`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(
    plan: &mut PlanBuilder<'_>,
    table: &Matrix,
    ids: &Buffer,
    y: &Buffer,
    n_tokens: u32,
) -> Result<(), GpuError> {
    for part in &table.parts {
        let n_blocks = table.n_cols / 32;
        let params = Params { n_tokens, n_blocks, first_row: part.first_row, n_rows: part.n_rows };
        plan.launch(
            "embedding",
            &constants([("FORMAT", part.layout.fragment.to_owned())]),
            &[
                Arg::Params(bytemuck::bytes_of(&params)),
                Arg::Whole(&part.q),
                Arg::Whole(&part.s),
                Arg::Whole(ids),
                Arg::Whole(y),
            ],
            fold_groups((u64::from(n_tokens) * u64::from(n_blocks)).div_ceil(64)),
        )?;
    }
    Ok(())
}
