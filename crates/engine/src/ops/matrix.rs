//! Weights on the GPU, as products and the embedding read them.

use crate::formats::{Layout, TensorType};
use crate::gpu::Buffer;

/// A weight matrix `[N, C]` on the GPU, still quantized, in one or more parts that each fit a binding.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// N
    pub n_rows: u32,
    /// C, a multiple of 32
    pub n_cols: u32,
    /// Tiles alternate between a gate matrix and an up matrix: a product can end in swiglu.
    pub gate_up: bool,
    /// The parts, rows in order.
    pub parts: Vec<Part>,
}

/// Neighbouring rows of a matrix that share a format and a pair of buffers.
#[derive(Debug, Clone)]
pub struct Part {
    /// Format of its rows.
    pub tensor_type: TensorType,
    /// Layout of that format.
    pub layout: Layout,
    /// First row of the matrix in this part.
    pub first_row: u32,
    /// Rows in this part.
    pub n_rows: u32,
    /// Tiles of 8 rows, the last one filled up with zeros.
    pub n_tiles: u32,
    /// Quantized weights.
    pub q: Buffer,
    /// Scales.
    pub s: Buffer,
}
