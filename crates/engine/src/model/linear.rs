//! A product with frozen weights.

use crate::gpu::{Buffer, GpuError, PlanBuilder};
use crate::ops::matmul::{self, Epilogue, Norm, Shape};
use crate::ops::matrix::Matrix;

/// Frozen weights of one product, `y = w x`; whatever else belongs to the product of a family stands here, too.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[N, C]`
    pub matrix: Matrix,
}

impl Linear {
    /// `y[t, y_offset + n] (+)= sum_c w[n,c] x[t,c]`. Shapes: `x [T,C]`, `y [T,y_stride]`.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn launch(
        &self,
        plan: &mut PlanBuilder<'_>,
        x: &Buffer,
        y: &Buffer,
        shape: Shape,
        epilogue: Epilogue,
    ) -> Result<(), GpuError> {
        matmul::launch(plan, &self.matrix, x, y, shape, epilogue)
    }

    /// [`Linear::launch`] of `norm(x)`.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn launch_normed(
        &self,
        plan: &mut PlanBuilder<'_>,
        x: &Buffer,
        norm: Norm<'_>,
        y: &Buffer,
        shape: Shape,
        epilogue: Epilogue,
    ) -> Result<(), GpuError> {
        matmul::launch_normed(plan, &self.matrix, x, norm, y, shape, epilogue)
    }

    /// The gradient to `x` from that to `y`, stored or added: `dx[t,c] (+)= sum_n w[n,c] dy[t, y_offset + n]`.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn launch_backward(
        &self,
        plan: &mut PlanBuilder<'_>,
        dy: &Buffer,
        dx: &Buffer,
        shape: Shape,
        add: bool,
    ) -> Result<(), GpuError> {
        matmul::launch_backward(plan, &self.matrix, dy, dx, shape, add)
    }
}
