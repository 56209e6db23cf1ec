//! A product with frozen weights.

use crate::gpu::{Buffer, GpuError, PlanBuilder};
use crate::ops::matmul::{self, Epilogue, Norm, Operands, Shape};
use crate::ops::matrix::Matrix;

/// Frozen weights of one product, `y = w x + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[N, C]`
    pub matrix: Matrix,
    /// `[N]`, in families that have one.
    pub bias: Option<Buffer>,
}

impl From<Matrix> for Linear {
    /// Without a bias.
    fn from(matrix: Matrix) -> Self {
        Self { matrix, bias: None }
    }
}

impl Linear {
    /// `y[t, y_offset + n] (+)= sum_c w[n,c] x[t,c] + b[n]`. Shapes: `x [T,C]`, `y [T,y_stride]`.
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
        let operands = Operands::new(&self.matrix, x, y, shape, epilogue);
        matmul::launch_with(plan, Operands { bias: self.bias.as_ref(), ..operands })
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
        let operands = Operands::new(&self.matrix, x, y, shape, epilogue);
        matmul::launch_with(plan, Operands { bias: self.bias.as_ref(), norm: Some(norm), ..operands })
    }

    /// The gradient to `x` from that to `y`, stored or added; the bias has no part in it: `dx[t,c] (+)= sum_n w[n,c] dy[t, y_offset + n]`.
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
