//! The transposed product, for gradients: `dx[t,c] = sum_n dy[t,n] w[n,c]`; the weights are frozen. Kernels:
//! `shaders/{matmul_backward,matmul_backward_tokens,matmul_backward_tiled,matmul_backward_cooperative}.wgsl`.

use super::cooperative::{Cooperative, UNITS, shares};
use super::half_rows::{Columns, launch_half_rows};
use super::operands::{Epilogue, Shape};
use super::product::band;
use super::tiled::{Tiled, Tiles};
use super::variant::{Variant, f16_variant};
use crate::formats::Layout;
use crate::gpu::{Arg, Buffer, Constants, Gpu, GpuError, MatrixUnits, PlanBuilder, Tier, constants, fold_groups};
use crate::ops::matrix::Matrix;

/// Which kernel computes the transposed product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackwardVariant {
    /// In registers, 8 lanes a workgroup, lanes share rows: CPU adapters.
    Registers,
    /// In registers, 8 lanes a workgroup with `octets` tokens each: CPU adapters with subgroups.
    Tokens {
        /// 1 to 4
        octets: u32,
    },
    /// Through workgroup memory, 64 x 64 x 32.
    Tiled {
        /// What weights and gradient are in there.
        tiles: Tiles,
    },
    /// The same on a GPU's units for matrices, rounded to f16.
    Cooperative(MatrixUnits),
}

/// Most octets of [`BackwardVariant::Tokens`]: what is unpacked once meets 32 tokens.
const MOST_OCTETS: u32 = 4;

impl BackwardVariant {
    /// The variant that runs on `gpu`.
    pub fn choose(gpu: &Gpu, n_tokens: u32) -> Self {
        match gpu.tier() {
            Tier { cpu: false, .. } => Self::Tiled { tiles: Tiles::F32 },
            Tier { broadcast: false, .. } => Self::Registers,
            _ => {
                // As few workgroups as can be, filled evenly.
                let octets = n_tokens.div_ceil(8).max(1);
                Self::Tokens { octets: octets.div_ceil(octets.div_ceil(MOST_OCTETS)) }
            }
        }
    }

    /// Every variant that `gpu` gets for some number of tokens, each once.
    pub fn in_use(gpu: &Gpu) -> Vec<Self> {
        let mut all: Vec<Self> = (1..=8 * MOST_OCTETS).step_by(8).map(|n_tokens| Self::choose(gpu, n_tokens)).collect();
        all.extend(Variant::f16_products(gpu.tier(), gpu.tuning()).and_then(Self::like));
        all.dedup();
        all
    }

    /// One of every shape that changes the text of the shader.
    pub fn examples() -> Vec<Self> {
        let mut all = vec![Self::Registers, Self::Tiled { tiles: Tiles::F32 }, Self::Tiled { tiles: Tiles::F16 }];
        all.extend((1..=MOST_OCTETS).map(|octets| Self::Tokens { octets }));
        all.extend(UNITS.map(Self::Cooperative));
        all
    }

    /// Whether it runs only where there are subgroups.
    pub fn needs_subgroups(self) -> bool {
        matches!(self, Self::Tokens { .. } | Self::Cooperative(_))
    }

    /// The transposed product that goes with a variant whose inputs are f16.
    fn like(variant: Variant) -> Option<Self> {
        match variant {
            Variant::Tiled(Tiled { tiles }) => Some(Self::Tiled { tiles }),
            Variant::Cooperative(Cooperative(units)) => Some(Self::Cooperative(units)),
            _ => None,
        }
    }

    /// The variant for a launch in `plan`, of this shape; what rounds reads its input four numbers at a time.
    fn in_plan(plan: &PlanBuilder<'_>, matrix: &Matrix, shape: Shape) -> Self {
        let Shape { n_tokens, y_stride, y_offset } = shape;
        let starts = matrix.parts.iter().map(|part| part.first_row);
        let in_fours = [y_stride, y_offset, matrix.n_rows].into_iter().chain(starts).all(|n| n.is_multiple_of(4));
        let f16 = f16_variant(plan, matrix, n_tokens).filter(|_| in_fours);
        f16.and_then(Self::like).unwrap_or_else(|| Self::choose(plan.gpu(), n_tokens))
    }

    /// Whether it reads its input in f16.
    pub fn f16_input(self) -> bool {
        matches!(self, Self::Tiled { tiles: Tiles::F16 } | Self::Cooperative(_))
    }

    /// Blocks and tokens that a workgroup owns.
    fn tile(self) -> [u32; 2] {
        match self {
            // With more of either the 16 KiB of sums leave the first cache.
            Self::Registers => [2, 8],
            // 4 blocks are no faster and twice the text to compile.
            Self::Tokens { octets } => [2, 8 * octets],
            Self::Tiled { .. } | Self::Cooperative(_) => [2, 64],
        }
    }

    /// Kernel and constants for a part's format; `wide`: rows of `dy` can be read four at a time.
    pub fn kernel(self, layout: &Layout, add: bool, wide: bool) -> (&'static str, Constants) {
        let epilogue = if add { Epilogue::Add } else { Epilogue::Store };
        let mut constants =
            constants([("FORMAT", layout.fragment.to_owned()), ("EPILOGUE", epilogue.name().to_owned())]);
        let [blocks, tokens] = self.tile();
        let mut set = |name, value: u32| constants.insert(name, value.to_string());
        let kernel = match self {
            Self::Registers => {
                set("TOKENS", tokens);
                "matmul_backward"
            }
            Self::Tokens { octets } => {
                set("OCTETS", octets);
                "matmul_backward_tokens"
            }
            Self::Tiled { tiles } => {
                constants.insert("TILES", tiles.name().to_owned());
                return ("matmul_backward_tiled", constants);
            }
            Self::Cooperative(units) => {
                constants.extend(shares(units, true));
                return ("matmul_backward_cooperative", constants);
            }
        };
        set("BLOCKS", blocks);
        set("WIDE", u32::from(wide));
        (kernel, constants)
    }
}

/// The gradient to the input: `dx[t,c] (+)= sum_n dy[t, y_offset + n] w[n,c]`; the weights are frozen. Shapes: `dy
/// [T,y_stride]`, `dx [T,C]`. Kernels:
/// `shaders/{matmul_backward,matmul_backward_tokens,matmul_backward_tiled}.wgsl`.
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
    launch_backward_variant(plan, BackwardVariant::in_plan(plan, matrix, shape), matrix, dy, dx, shape, add)
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
        let from = Columns { first: y_offset, n: part.n_rows, of: y_stride };
        let halves = if variant.f16_input() { Some(launch_half_rows(plan, dy, n_tokens, from)?) } else { None };
        let wide = y_stride.is_multiple_of(4) && y_offset.is_multiple_of(4);
        // What an earlier part has stored is added to.
        let (kernel, constants) = variant.kernel(&part.layout, add || index > 0, wide);
        let [blocks, tokens] = variant.tile();
        let blocks = n_blocks.div_ceil(blocks);
        let band = band(tokens, part.n_rows);
        let params = [part.n_rows, part.n_tiles, n_blocks, y_offset, y_stride, n_tokens, blocks, band];
        let mut args = vec![
            Arg::Params(bytemuck::bytes_of(&params)),
            Arg::Whole(&part.q),
            Arg::Whole(&part.s),
            Arg::Whole(halves.as_ref().map_or(dy, |(dy_half, _)| dy_half)),
            Arg::Whole(dx),
        ];
        args.extend(halves.as_ref().map(|(_, scale)| Arg::Whole(scale)));
        plan.launch(kernel, &constants, &args, fold_groups(u64::from(blocks) * u64::from(n_tokens.div_ceil(tokens))))?;
    }
    Ok(())
}
