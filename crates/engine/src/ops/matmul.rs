//! Products with quantized weights: one token (`shaders/matvec.wgsl`), many tokens (`shaders/matmul.wgsl`, and
//! `shaders/matmul_tiled.wgsl` on wide GPUs).

use crate::formats::{Layout, TensorType};
use crate::gpu::{Arg, Buffer, Constants, Gpu, GpuError, PlanBuilder, constants, fold_groups};

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
    fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Add => "add",
            Self::Swiglu => "swiglu",
        }
    }
}

/// Which kernel computes a product, and how it is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// One token. `rows` tiles a thread, `slices` threads share a row, `wg` threads a workgroup.
    Matvec {
        /// How the input is read.
        x: Input,
        /// Tiles a thread owns; even, so that swiglu finds its pairs.
        rows: u32,
        /// Threads that share a row.
        slices: u32,
        /// Threads in a workgroup: a multiple of `8 * slices`.
        wg: u32,
    },
    /// Many tokens in registers, no barrier. `rows` tiles and `tokens` tokens a thread.
    Registers {
        /// How the input is read.
        x: Input,
        /// Tiles a thread owns.
        rows: u32,
        /// Tokens a thread owns.
        tokens: u32,
    },
    /// Many tokens through workgroup memory, 64 x 64 x 32.
    Tiled,
}

/// How a product reads its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Once a lane, then around the subgroup.
    Broadcast,
    /// From a uniform buffer (one token, at most 64 KiB).
    Uniform,
    /// From storage.
    Storage,
}

impl Variant {
    /// The variant that runs on `gpu`.
    pub fn choose(gpu: &Gpu, n_tokens: u32, n_cols: u32) -> Self {
        let tier = gpu.tier();
        let uniform = u64::from(n_cols) * 4 <= gpu.limits().max_uniform_buffer_binding_size;
        match (n_tokens, tier.cpu) {
            // A CPU adapter runs the 8 lanes of a tile as one vector: rows of several tiles share a read of the input, and
            // small workgroups spread evenly over few cores.
            (1, true) => Self::Matvec {
                x: if tier.broadcast {
                    Input::Broadcast
                } else if uniform {
                    Input::Uniform
                } else {
                    Input::Storage
                },
                rows: 4,
                slices: 1,
                wg: 8,
            },
            (1, false) => Self::Matvec { x: Input::Storage, rows: 2, slices: 8, wg: 64 },
            // More results a thread share each dequantized block and each input; the wide variant takes a second to compile
            // and pays for itself in a training step, not in a prompt.
            (_, true) if !tier.broadcast => Self::Registers { x: Input::Storage, rows: 4, tokens: 4 },
            (..128, true) => Self::Registers { x: Input::Broadcast, rows: 4, tokens: 8 },
            (_, true) => Self::Registers { x: Input::Broadcast, rows: 8, tokens: 16 },
            (_, false) => Self::Tiled,
        }
    }

    /// Kernel and constants for a part's format.
    pub fn kernel(self, layout: &Layout, epilogue: Epilogue, n_cols: u32) -> (&'static str, Constants) {
        let mut constants =
            constants([("FORMAT", layout.fragment.to_owned()), ("EPILOGUE", epilogue.name().to_owned())]);
        let mut set = |name, value: u32| constants.insert(name, value.to_string());
        let (kernel, x) = match self {
            Self::Matvec { x, rows, slices, wg } => {
                set("ROWS", rows);
                set("PAIRS", rows / 2);
                set("SLICES", slices);
                set("WG", wg);
                set("TILES", wg / (8 * slices));
                if x == Input::Uniform {
                    set("X_VEC4", n_cols / 4);
                }
                ("matvec", Some(x))
            }
            Self::Registers { x, rows, tokens } => {
                set("ROWS", rows);
                set("PAIRS", rows / 2);
                set("TOKENS", tokens);
                ("matmul", Some(x))
            }
            Self::Tiled => ("matmul_tiled", None),
        };
        if let Some(x) = x {
            let name = match x {
                Input::Broadcast => "broadcast",
                Input::Uniform => "uniform",
                Input::Storage => "storage",
            };
            constants.insert("X", name.to_owned());
        }
        (kernel, constants)
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
    launch_variant(plan, Variant::choose(plan.gpu(), shape.n_tokens, matrix.n_cols), matrix, x, y, shape, epilogue)
}

/// [`launch`] with a given variant.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_variant(
    plan: &mut PlanBuilder<'_>,
    variant: Variant,
    matrix: &Matrix,
    x: &Buffer,
    y: &Buffer,
    shape: Shape,
    epilogue: Epilogue,
) -> Result<(), GpuError> {
    let n_blocks = matrix.n_cols / 32;
    for part in &matrix.parts {
        let (kernel, constants) = variant.kernel(&part.layout, epilogue, matrix.n_cols);
        // With swiglu two tiles of the matrix make one of the result.
        let fold = if epilogue == Epilogue::Swiglu { 2 } else { 1 };
        let (n_rows, y_offset) = (part.n_rows / fold, shape.y_offset + part.first_row / fold);
        let x_bytes = u64::from(shape.n_tokens) * u64::from(matrix.n_cols) * 4;
        let (params, groups): ([u32; 8], u64) = match variant {
            Variant::Matvec { rows, slices, wg, .. } => (
                [n_rows, part.n_tiles, n_blocks, y_offset, 0, 0, 0, 0],
                u64::from(part.n_tiles.div_ceil(rows * (wg / (8 * slices)))),
            ),
            Variant::Registers { rows, tokens, .. } => {
                let token_tiles = shape.n_tokens.div_ceil(tokens);
                (
                    [n_rows, part.n_tiles, n_blocks, y_offset, shape.y_stride, shape.n_tokens, token_tiles, 0],
                    u64::from(token_tiles) * u64::from(part.n_tiles.div_ceil(rows)),
                )
            }
            Variant::Tiled => {
                let token_tiles = shape.n_tokens.div_ceil(64);
                (
                    [n_rows, part.n_tiles, n_blocks, y_offset, shape.y_stride, shape.n_tokens, token_tiles, 0],
                    u64::from(token_tiles) * u64::from(part.n_tiles.div_ceil(8)),
                )
            }
        };
        plan.launch(
            kernel,
            &constants,
            &[
                Arg::Params(bytemuck::bytes_of(&params)),
                Arg::Whole(&part.q),
                Arg::Whole(&part.s),
                Arg::Range(x, 0, x_bytes),
                Arg::Whole(y),
            ],
            fold_groups(groups),
        )?;
    }
    Ok(())
}

/// Which kernel computes the transposed product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackwardVariant {
    /// In registers, 8 lanes a workgroup: CPU adapters.
    Registers,
    /// Through workgroup memory, 64 x 64 x 32.
    Tiled,
}

impl BackwardVariant {
    /// The variant that runs on `gpu`.
    pub fn choose(gpu: &Gpu) -> Self {
        if gpu.tier().cpu { Self::Registers } else { Self::Tiled }
    }

    /// Kernel and constants for a part's format; `wide`: rows of `dy` can be read four at a time.
    pub fn kernel(self, layout: &Layout, add: bool, wide: bool) -> (&'static str, Constants) {
        let epilogue = if add { Epilogue::Add } else { Epilogue::Store };
        let mut constants =
            constants([("FORMAT", layout.fragment.to_owned()), ("EPILOGUE", epilogue.name().to_owned())]);
        match self {
            Self::Registers => {
                constants.insert("TOKENS", BACKWARD_TOKENS.to_string());
                constants.insert("BLOCKS", BACKWARD_BLOCKS.to_string());
                constants.insert("WIDE", u32::from(wide).to_string());
                ("matmul_backward", constants)
            }
            Self::Tiled => ("matmul_backward_tiled", constants),
        }
    }
}

/// Tokens and blocks of 32 channels that a workgroup of [`BackwardVariant::Registers`] owns: with more of either its sums
/// (16 KiB) leave the first cache.
const BACKWARD_TOKENS: u32 = 8;
const BACKWARD_BLOCKS: u32 = 2;

/// The gradient to the input: `dx[t,c] (+)= sum_n dy[t, y_offset + n] w[n,c]`; the weights are frozen. Shapes: `dy
/// [T,y_stride]`, `dx [T,C]`. Kernels: `shaders/{matmul_backward,matmul_backward_tiled}.wgsl`.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward(
    plan: &mut PlanBuilder<'_>,
    matrix: &Matrix,
    dy: &Buffer,
    dx: &Buffer,
    shape: Shape,
    add: bool,
) -> Result<(), GpuError> {
    launch_backward_variant(plan, BackwardVariant::choose(plan.gpu()), matrix, dy, dx, shape, add)
}

/// [`launch_backward`] with a given variant.
///
/// # Errors
/// As [`PlanBuilder::launch`].
pub fn launch_backward_variant(
    plan: &mut PlanBuilder<'_>,
    variant: BackwardVariant,
    matrix: &Matrix,
    dy: &Buffer,
    dx: &Buffer,
    shape: Shape,
    add: bool,
) -> Result<(), GpuError> {
    let n_blocks = matrix.n_cols / 32;
    let Shape { n_tokens, y_stride, y_offset } = shape;
    for (index, part) in matrix.parts.iter().enumerate() {
        let y_offset = y_offset + part.first_row;
        let wide = y_stride.is_multiple_of(4) && y_offset.is_multiple_of(4);
        // What an earlier part has stored is added to.
        let (kernel, constants) = variant.kernel(&part.layout, add || index > 0, wide);
        let (blocks, tokens) = match variant {
            BackwardVariant::Registers => (n_blocks.div_ceil(BACKWARD_BLOCKS), BACKWARD_TOKENS),
            BackwardVariant::Tiled => (n_blocks.div_ceil(2), 64),
        };
        let params = [part.n_rows, part.n_tiles, n_blocks, y_offset, y_stride, n_tokens, blocks, 0];
        plan.launch(
            kernel,
            &constants,
            &[
                Arg::Params(bytemuck::bytes_of(&params)),
                Arg::Whole(&part.q),
                Arg::Whole(&part.s),
                Arg::Whole(dy),
                Arg::Whole(dx),
            ],
            fold_groups(u64::from(blocks) * u64::from(n_tokens.div_ceil(tokens))),
        )?;
    }
    Ok(())
}
