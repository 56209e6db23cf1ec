//! Root-mean-square norm over channels. Kernel: `shaders/rms_norm.wgsl`.

use crate::gpu::{Arg, Buffer, Constants, GpuError, PlanBuilder, constants, fold_groups};

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
    let params = shape.params();
    plan.launch(
        "rms_norm",
        &variant(plan, false),
        &[Arg::Params(bytemuck::bytes_of(&params)), Arg::Whole(x), Arg::Whole(weight), Arg::Whole(y)],
        fold_groups(u64::from(shape.n_tokens)),
    )
}

/// As [`launch`] for the rows of `x` that `rows [..]` names from entry `shape.first_token` on.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_gather(
    plan: &mut PlanBuilder<'_>,
    x: &Buffer,
    weight: &Buffer,
    y: &Buffer,
    rows: &Buffer,
    shape: Shape,
) -> Result<(), GpuError> {
    let params = shape.params();
    plan.launch(
        "rms_norm",
        &variant(plan, true),
        &[Arg::Params(bytemuck::bytes_of(&params)), Arg::Whole(x), Arg::Whole(weight), Arg::Whole(y), Arg::Whole(rows)],
        fold_groups(u64::from(shape.n_tokens)),
    )
}

/// The gradient to `x`, added to `dx`; with `rows` (as in [`launch_gather`]) stored in those rows of `dx`. The weight is
/// frozen. Kernel: `shaders/rms_norm_backward.wgsl`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward(
    plan: &mut PlanBuilder<'_>,
    dy: &Buffer,
    x: &Buffer,
    weight: &Buffer,
    dx: &Buffer,
    rows: Option<&Buffer>,
    shape: Shape,
) -> Result<(), GpuError> {
    let params = shape.params();
    let mut args = vec![
        Arg::Params(bytemuck::bytes_of(&params)),
        Arg::Whole(dy),
        Arg::Whole(x),
        Arg::Whole(weight),
        Arg::Whole(dx),
    ];
    args.extend(rows.map(Arg::Whole));
    let constants = variant(plan, rows.is_some());
    plan.launch("rms_norm_backward", &constants, &args, fold_groups(u64::from(shape.n_tokens)))
}

impl Shape {
    fn params(self) -> Params {
        let Self { n_tokens, n_channels, first_token, eps } = self;
        Params { n_tokens, n_vec4: n_channels / 4, first_token, eps }
    }
}

/// 8 threads where a workgroup runs on one core, 256 on a GPU.
fn variant(plan: &PlanBuilder<'_>, gather: bool) -> Constants {
    let wg = if plan.gpu().tier().cpu { 8 } else { 256 };
    constants([("WG", wg.to_string()), ("GATHER", u32::from(gather).to_string())])
}
