//! Layer norm over channels. Kernel: `shaders/layer_norm.wgsl`.

use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n_tokens: u32,
    n_vec4: u32,
    eps: f32,
    unused: u32,
}

/// Frozen weights of a layer norm.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// `[C]`
    pub weight: Buffer,
    /// `[C]`
    pub bias: Buffer,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// `y[t,:] = (x[t,:] - mean) / sqrt(variance + eps) * weight + bias`. Shapes: `x, y [T,C]`, C a multiple of 4.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn launch(&self, plan: &mut PlanBuilder<'_>, x: &Buffer, y: &Buffer, [t, c]: [u32; 2]) -> Result<(), GpuError> {
        let params = Params { n_tokens: t, n_vec4: c / 4, eps: self.eps, unused: 0 };
        let wg = if plan.gpu().tier().cpu { 8 } else { 256 };
        plan.launch(
            "layer_norm",
            &constants([("WG", wg.to_string())]),
            &[
                Arg::Params(bytemuck::bytes_of(&params)),
                Arg::Whole(x),
                Arg::Whole(&self.weight),
                Arg::Whole(&self.bias),
                Arg::Whole(y),
            ],
            fold_groups(u64::from(t)),
        )
    }
}
