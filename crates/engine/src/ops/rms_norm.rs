//! Root-mean-square norm over channels. Kernel: `shaders/rms_norm.wgsl`.

use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n_tokens: u32,
    n_vec4: u32,
    first_token: u32,
    eps: f32,
}

/// What is normed: `n_tokens` rows of `n_channels` from row `first_token` of `x` on.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// T
    pub n_tokens: u32,
    /// C, a multiple of 4
    pub n_channels: u32,
    /// Rows of `x` to skip.
    pub first_token: u32,
    /// Added to the mean square.
    pub eps: f32,
}

/// `y[t,:] = x[t0+t,:] / sqrt(mean(x[t0+t,:]^2) + eps) * weight`. Shapes: `x [T0+T,C]`, `weight [C]`, `y [T,C]`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(
    plan: &mut PlanBuilder<'_>,
    x: &Buffer,
    weight: &Buffer,
    y: &Buffer,
    shape: Shape,
) -> Result<(), GpuError> {
    let Shape { n_tokens, n_channels, first_token, eps } = shape;
    let params = Params { n_tokens, n_vec4: n_channels / 4, first_token, eps };
    let wg = if plan.gpu().tier().cpu { 8 } else { 256 };
    plan.launch(
        "rms_norm",
        &constants([("WG", wg.to_string())]),
        &[Arg::Params(bytemuck::bytes_of(&params)), Arg::Whole(x), Arg::Whole(weight), Arg::Whole(y)],
        fold_groups(u64::from(n_tokens)),
    )
}
