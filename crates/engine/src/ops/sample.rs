//! The next id, chosen on the GPU. Kernels: `shaders/{repeat_penalty,argmax,sample}.wgsl`.

use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants};
use crate::sampler::Sampling;

pub use crate::sampler::{HISTORY, MAX_TOP_K};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct PenaltyParams {
    n_vocab: u32,
    history_len: u32,
    window: u32,
    penalty: f32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct SampleParams {
    n_vocab: u32,
    history_len: u32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    temperature: f32,
    unused: [u32; 2],
}

/// Where sampling reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    /// `logits [V]`
    pub logits: &'a Buffer,
    /// `next_id [1]`, the next step's input
    pub next_id: &'a Buffer,
    /// `history [HISTORY]`, a ring of ids
    pub history: &'a Buffer,
}

/// Penalty, then argmax (`temperature` 0) or a draw among the `top_k` largest.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(
    plan: &mut PlanBuilder<'_>,
    step: &Buffer,
    buffers: Buffers<'_>,
    n_vocab: u32,
    sampling: &Sampling,
) -> Result<(), GpuError> {
    let Buffers { logits, next_id, history } = buffers;
    if sampling.has_penalty() {
        let params = PenaltyParams {
            n_vocab,
            history_len: HISTORY,
            window: sampling.repeat_last_n.min(HISTORY),
            penalty: sampling.repeat_penalty,
        };
        plan.launch(
            "repeat_penalty",
            &constants([]),
            &[Arg::Params(bytemuck::bytes_of(&params)), Arg::Whole(step), Arg::Whole(history), Arg::Whole(logits)],
            [1, 1, 1],
        )?;
    }
    if sampling.is_greedy() {
        return launch_greedy(plan, step, buffers, n_vocab, 1);
    }
    let drawn = SampleParams {
        n_vocab,
        history_len: HISTORY,
        top_k: sampling.candidates(n_vocab),
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        temperature: sampling.temperature,
        unused: [0; 2],
    };
    let params = Arg::Params(bytemuck::bytes_of(&drawn));
    let args = [params, Arg::Whole(step), Arg::Whole(logits), Arg::Whole(next_id), Arg::Whole(history)];
    plan.launch("sample", &constants([]), &args, [1, 1, 1])
}

/// The most likely id of each of `n_rows` rows: `logits [n_rows, V]`, `next_id [n_rows]`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_greedy(
    plan: &mut PlanBuilder<'_>,
    step: &Buffer,
    buffers: Buffers<'_>,
    n_vocab: u32,
    n_rows: u32,
) -> Result<(), GpuError> {
    let Buffers { logits, next_id, history } = buffers;
    let params = [n_vocab, HISTORY, 0, 0];
    let params = Arg::Params(bytemuck::bytes_of(&params));
    let args = [params, Arg::Whole(step), Arg::Whole(logits), Arg::Whole(next_id), Arg::Whole(history)];
    plan.launch("argmax", &constants([]), &args, [n_rows, 1, 1])
}
