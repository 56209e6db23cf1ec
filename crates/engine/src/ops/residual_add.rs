//! The residual sum on its own; products fuse it where they can. Kernel: `shaders/residual_add.wgsl`.

use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

/// `y += x`, `n` elements (a multiple of 4).
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(plan: &mut PlanBuilder<'_>, x: &Buffer, y: &Buffer, n: u32) -> Result<(), GpuError> {
    plan.launch(
        "residual_add",
        &constants([]),
        &[Arg::Params(bytemuck::bytes_of(&[n / 4, 0, 0, 0])), Arg::Whole(x), Arg::Whole(y)],
        fold_groups(u64::from(n / 4).div_ceil(64)),
    )
}
