//! The gated activation of the MLP on its own; products fuse it where they can. Kernel: `shaders/swiglu.wgsl`.

use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

/// `y = silu(gate) * up`, `n` elements (a multiple of 4).
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(plan: &mut PlanBuilder<'_>, gate: &Buffer, up: &Buffer, y: &Buffer, n: u32) -> Result<(), GpuError> {
    plan.launch(
        "swiglu",
        &constants([]),
        &[Arg::Params(bytemuck::bytes_of(&[n / 4, 0, 0, 0])), Arg::Whole(gate), Arg::Whole(up), Arg::Whole(y)],
        fold_groups(u64::from(n / 4).div_ceil(64)),
    )
}

/// Gradients to both inputs: `z [T, 2F]`, the alternating rows of a gate-and-up product, becomes `(dgate, dup)`; `dy [T,F]`.
/// Kernel: `shaders/swiglu_backward.wgsl`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward(
    plan: &mut PlanBuilder<'_>,
    dy: &Buffer,
    z: &Buffer,
    [n_tokens, n_ffn]: [u32; 2],
) -> Result<(), GpuError> {
    plan.launch(
        "swiglu_backward",
        &constants([]),
        &[Arg::Params(bytemuck::bytes_of(&[n_tokens, n_ffn / 4, 0, 0])), Arg::Whole(dy), Arg::Whole(z)],
        fold_groups((u64::from(n_tokens) * u64::from(n_ffn / 4)).div_ceil(64)),
    )
}
