//! The gated activation of the MLP on its own; products fuse it where they can. Kernel: `shaders/swiglu.wgsl`.

use crate::gpu::{Arg, Buffer, Constants, GpuError, PlanBuilder, constants, fold_groups};

/// How gate and up lie together in a row of `z [T, 2F]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// 8 of gate, 8 of up, as a product with alternating tiles leaves them.
    Alternating,
    /// F of gate, then F of up: two products.
    Halves,
}

impl Rows {
    fn constants(self) -> Constants {
        constants([(
            "Z",
            match self {
                Self::Alternating => "alternating",
                Self::Halves => "halves",
            }
            .to_owned(),
        )])
    }
}

/// `y = silu(gate) * up`, `n` elements (a multiple of 4).
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(plan: &mut PlanBuilder<'_>, gate: &Buffer, up: &Buffer, y: &Buffer, n: u32) -> Result<(), GpuError> {
    plan.launch(
        "swiglu",
        &constants([("Z", "apart".to_owned())]),
        &[Arg::Params(bytemuck::bytes_of(&[n / 4, 0, 0, 0])), Arg::Whole(gate), Arg::Whole(up), Arg::Whole(y)],
        fold_groups(u64::from(n / 4).div_ceil(64)),
    )
}

/// The same of `z [T, 2F]`, rows of gate and up together; `y [T,F]`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_rows(
    plan: &mut PlanBuilder<'_>,
    z: &Buffer,
    y: &Buffer,
    [n_tokens, n_ffn]: [u32; 2],
    rows: Rows,
) -> Result<(), GpuError> {
    let n_vec4 = n_tokens * (n_ffn / 4);
    plan.launch(
        "swiglu",
        &rows.constants(),
        &[Arg::Params(bytemuck::bytes_of(&[n_vec4, n_ffn / 4, 0, 0])), Arg::Whole(z), Arg::Whole(y)],
        fold_groups(u64::from(n_vec4).div_ceil(64)),
    )
}

/// Gradients to both inputs: `z [T, 2F]`, rows of gate and up together, becomes `(dgate, dup)`; `dy [T,F]`.
/// Kernel: `shaders/swiglu_backward.wgsl`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward(
    plan: &mut PlanBuilder<'_>,
    dy: &Buffer,
    z: &Buffer,
    [n_tokens, n_ffn]: [u32; 2],
    rows: Rows,
) -> Result<(), GpuError> {
    plan.launch(
        "swiglu_backward",
        &rows.constants(),
        &[Arg::Params(bytemuck::bytes_of(&[n_tokens, n_ffn / 4, 0, 0])), Arg::Whole(dy), Arg::Whole(z)],
        fold_groups((u64::from(n_tokens) * u64::from(n_ffn / 4)).div_ceil(64)),
    )
}
