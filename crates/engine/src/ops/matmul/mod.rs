//! Products with quantized weights: a file a variant, a row each in [`VARIANTS`]; and the transposed product of gradients.

mod backward;
mod cooperative;
mod half_rows;
mod lanes;
mod matvec;
mod operands;
mod product;
mod registers;
mod slot;
mod tiled;
mod variant;

pub use backward::{BackwardVariant, launch_backward, launch_backward_variant};
pub use cooperative::Cooperative;
pub use half_rows::{Columns, half_row_bytes, launch_half_rows};
pub use lanes::Lanes;
pub use matvec::Matvec;
pub use operands::{Epilogue, Norm, Operands, Shape};
pub use product::{F16_TOKENS, Input, MANY_ROWS, MANY_TOKENS, Size};
pub use registers::Registers;
pub use slot::Slot;
pub use tiled::{Tiled, Tiles};
pub use variant::{Kind, VARIANTS, Variant};

use super::matrix::Matrix;
use super::rms_norm;
use crate::gpu::{Arg, Buffer, GpuError, PlanBuilder, fold_groups};

/// `shaders/shared/product.wgsl`
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n_rows: u32,
    n_tiles: u32,
    n_blocks: u32,
    y_offset: u32,
    y_stride: u32,
    n_tokens: u32,
    n_token_tiles: u32,
    share: u32,
    bias_first: u32,
    x_first: u32,
    eps: f32,
    unused: u32,
}

/// `y[t, y_offset + n] (+)= sum_c w[n,c] x[t,c]` with the variant this GPU is best at. Shapes: `x [T,C]`, `y [T,y_stride]`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch(
    plan: &mut PlanBuilder<'_>,
    matrix: &Matrix,
    x: &Buffer,
    y: &Buffer,
    shape: Shape,
    epilogue: Epilogue,
) -> Result<(), GpuError> {
    launch_with(plan, Operands::new(matrix, x, y, shape, epilogue))
}

/// [`launch`] of `norm(x)`: one launch for one token, the norm's and the product's otherwise.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_normed(
    plan: &mut PlanBuilder<'_>,
    matrix: &Matrix,
    x: &Buffer,
    norm: Norm<'_>,
    y: &Buffer,
    shape: Shape,
    epilogue: Epilogue,
) -> Result<(), GpuError> {
    launch_with(plan, Operands { norm: Some(norm), ..Operands::new(matrix, x, y, shape, epilogue) })
}

/// A product with the variant this GPU is best at; a norm in front is a launch of its own where the kernel has none.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_with(plan: &mut PlanBuilder<'_>, operands: Operands<'_>) -> Result<(), GpuError> {
    let variant = Variant::in_plan(plan, operands.matrix, operands.shape.n_tokens);
    launch_variant(plan, variant, operands)
}

/// [`launch_with`] with a given variant.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_variant(plan: &mut PlanBuilder<'_>, variant: Variant, operands: Operands<'_>) -> Result<(), GpuError> {
    let Operands { matrix, bias, x, norm, y, shape, epilogue } = operands;
    if let Some(Norm { weight, eps, first_token, scratch }) = norm.filter(|_| !variant.norms()) {
        let rows = rms_norm::Shape { n_tokens: shape.n_tokens, n_channels: matrix.n_cols, first_token, eps };
        rms_norm::launch(plan, x, weight, scratch, rows)?;
        return launch_variant(plan, variant, Operands { x: scratch, norm: None, ..operands });
    }
    let n_blocks = matrix.n_cols / 32;
    let (eps, first_token) = norm.map_or((0.0f32, 0), |norm| (norm.eps, norm.first_token));
    let whole = Columns { first: 0, n: matrix.n_cols, of: matrix.n_cols };
    let halves = if variant.f16_input() { Some(launch_half_rows(plan, x, shape.n_tokens, whole)?) } else { None };
    let size = Size { n_tokens: shape.n_tokens, n_rows: matrix.n_rows, n_cols: matrix.n_cols, f16_products: false };
    for part in &matrix.parts {
        let (kernel, constants) = variant.kernel(&part.layout, epilogue, norm.is_some(), bias.is_some());
        let grid = variant.product().grid(part, size);
        // With swiglu two tiles of the matrix make one of the result.
        let fold = if epilogue == Epilogue::Swiglu { 2 } else { 1 };
        let params = Params {
            n_rows: part.n_rows / fold,
            n_tiles: part.n_tiles,
            n_blocks,
            y_offset: shape.y_offset + part.first_row / fold,
            y_stride: shape.y_stride,
            n_tokens: shape.n_tokens,
            n_token_tiles: grid.token_tiles,
            share: grid.share,
            bias_first: part.first_row,
            x_first: first_token * n_blocks * 8,
            eps,
            unused: 0,
        };
        let x_bytes = u64::from(first_token + shape.n_tokens) * u64::from(matrix.n_cols) * 4;
        let mut args = vec![
            Arg::Params(bytemuck::bytes_of(&params)),
            Arg::Whole(&part.q),
            Arg::Whole(&part.s),
            match &halves {
                Some((x_half, _)) => Arg::Whole(x_half),
                None => Arg::Range(x, 0, x_bytes),
            },
            Arg::Whole(y),
        ];
        args.extend(halves.as_ref().map(|(_, scale)| Arg::Whole(scale)));
        args.extend(norm.map(|norm| Arg::Whole(norm.weight)));
        args.extend(bias.map(Arg::Whole));
        plan.launch(kernel, &constants, &args, fold_groups(grid.groups))?;
    }
    Ok(())
}
