//! What a product reads and writes.

use crate::gpu::Buffer;
use crate::ops::matrix::Matrix;

/// What happens to a product before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// `y = w x`
    Store,
    /// `y += w x`
    Add,
    /// `y = silu(w_gate x) * (w_up x)`; the matrix alternates tiles of both.
    Swiglu,
}

impl Epilogue {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Add => "add",
            Self::Swiglu => "swiglu",
        }
    }
}

/// Shapes of a product that the matrix does not know.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// T
    pub n_tokens: u32,
    /// Columns of `y`.
    pub y_stride: u32,
    /// Column of `y` where the matrix's first row goes.
    pub y_offset: u32,
}

/// The RMS norm that a product's input goes through first.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// `weight [C]`
    pub weight: &'a Buffer,
    /// Added to the mean square.
    pub eps: f32,
    /// Row of `x` that is the first token.
    pub first_token: u32,
    /// `[T, C]`, where the normed input goes when the product's kernel cannot norm it on the way.
    pub scratch: &'a Buffer,
}

/// A product: `y[t, y_offset + n] (+)= sum_c w[n,c] x[t,c] + bias[n]`. Shapes: `x [T,C]`, `y [T,y_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// `w [N, C]`
    pub matrix: &'a Matrix,
    /// `[N]`, in the order of the matrix's rows; of gate and up in that of its tiles: 8 of gate, 8 of up.
    pub bias: Option<&'a Buffer>,
    /// `[T, C]`
    pub x: &'a Buffer,
    /// What `x` goes through first.
    pub norm: Option<Norm<'a>>,
    /// `[T, y_stride]`
    pub y: &'a Buffer,
    /// T, and where in `y`.
    pub shape: Shape,
    /// What happens before it is written.
    pub epilogue: Epilogue,
}

impl<'a> Operands<'a> {
    /// `y = w x`, without a norm or a bias.
    pub fn new(matrix: &'a Matrix, x: &'a Buffer, y: &'a Buffer, shape: Shape, epilogue: Epilogue) -> Self {
        Self { matrix, bias: None, x, norm: None, y, shape, epilogue }
    }
}
