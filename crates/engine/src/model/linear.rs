//! A product with frozen weights.

use crate::gpu::{Buffer, GpuError, PlanBuilder};
use crate::ops::bias_add;
use crate::ops::matmul::{self, Epilogue, Norm, Shape};
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
        matmul::launch(plan, &self.matrix, x, y, shape, epilogue)?;
        self.add_bias(plan, y, shape)
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
        matmul::launch_normed(plan, &self.matrix, x, norm, y, shape, epilogue)?;
        self.add_bias(plan, y, shape)
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

    fn add_bias(&self, plan: &mut PlanBuilder<'_>, y: &Buffer, shape: Shape) -> Result<(), GpuError> {
        match &self.bias {
            Some(bias) => bias_add::launch(plan, bias, y, self.matrix.n_rows, shape),
            None => Ok(()),
        }
    }
}
