//! Cross entropy and its gradient, for the rows that have a target. Kernel: `shaders/cross_entropy.wgsl`.

use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n_rows: u32,
    n_vocab: u32,
    first: u32,
    scale: f32,
}

/// `losses[first + i] = lse(logits[i]) - logits[i, targets[first + i]]`, and `logits [R,V]` becomes their gradient times
/// `scale`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(
    plan: &mut PlanBuilder<'_>,
    targets: &Buffer,
    logits: &Buffer,
    losses: &Buffer,
    [n_rows, n_vocab, first]: [u32; 3],
    scale: f32,
) -> Result<(), GpuError> {
    let params = Params { n_rows, n_vocab, first, scale };
    let wg = if plan.gpu().tier().cpu { 8 } else { 256 };
    plan.launch(
        "cross_entropy",
        &constants([("WG", wg.to_string())]),
        &[Arg::Params(bytemuck::bytes_of(&params)), Arg::Whole(targets), Arg::Whole(logits), Arg::Whole(losses)],
        fold_groups(u64::from(n_rows)),
    )
}
