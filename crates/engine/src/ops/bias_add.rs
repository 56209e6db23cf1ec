//! The bias of a product. Kernel: `shaders/bias_add.wgsl`.

use super::matmul::Shape;
use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

/// `y[t, y_offset + n] += bias[n]`. Shapes: `bias [N]`, `y [T, y_stride]`; all multiples of 4.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(plan: &mut PlanBuilder<'_>, bias: &Buffer, y: &Buffer, n: u32, shape: Shape) -> Result<(), GpuError> {
    let params = [shape.n_tokens, n / 4, shape.y_offset / 4, shape.y_stride / 4];
    plan.launch(
        "bias_add",
        &constants([]),
        &[Arg::Params(bytemuck::bytes_of(&params)), Arg::Whole(bias), Arg::Whole(y)],
        fold_groups((u64::from(shape.n_tokens) * u64::from(n / 4)).div_ceil(64)),
    )
}
