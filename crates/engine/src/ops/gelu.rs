//! Gaussian error linear units, in place. Kernel: `shaders/gelu.wgsl`.

use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, constants, fold_groups};

/// How the distribution function is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// By the error function.
    Erf,
    /// By a tangent.
    Tanh,
    /// By a logistic function of 1.702 x (CLIP).
    Quick,
}

impl Gelu {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Erf, Self::Tanh, Self::Quick];

    /// `erf`, `tanh` or `quick`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Erf => "erf",
            Self::Tanh => "tanh",
            Self::Quick => "quick",
        }
    }

    /// `x[i] = x[i] Phi(x[i])` for `n` numbers, a multiple of 4.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn launch(self, plan: &mut PlanBuilder<'_>, x: &Buffer, n: u32) -> Result<(), GpuError> {
        let params = [n / 4, 0, 0, 0];
        let args = [Arg::Params(bytemuck::bytes_of(&params)), Arg::Whole(x)];
        let constants = constants([("FORM", self.name().to_owned())]);
        plan.launch("gelu", &constants, &args, fold_groups(u64::from(n / 4).div_ceil(64)))
    }
}
