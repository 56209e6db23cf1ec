//! Products with quantized weights: one token (`shaders/matvec.wgsl`), many tokens (`shaders/matmul.wgsl`, and
//! `shaders/matmul_tiled.wgsl` on wide GPUs, or `shaders/matmul_cooperative.wgsl` on those with units for matrices);
//! `shaders/matmul_lanes.wgsl` is both on CPU adapters without subgroups.

use super::matrix::Matrix;
use super::rms_norm;
use crate::formats::{Layout, TensorType};
use crate::gpu::{
    Arg, Buffer, Constants, Gpu, GpuError, MatrixUnits, PlanBuilder, Tier, Tuning, constants, fold_groups,
};
use crate::tuning::Slot;

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
    Tiled {
        /// What weights and input are in there.
        tiles: Tiles,
    },
    /// The same, multiplied by a GPU's units for matrices; weights and input are rounded to f16.
    Cooperative(MatrixUnits),
    /// `lanes` threads share a row, each with `blocks` blocks of its channels, for `tokens` tokens.
    Lanes {
        /// 1, or the tokens a row is unpacked for.
        tokens: u32,
        /// Threads that share a row, a multiple of 4.
        lanes: u32,
        /// Blocks of 32 channels a thread owns.
        blocks: u32,
        /// Workgroups it is spread over, about.
        groups: u32,
    },
}

/// Numbers in workgroup memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiles {
    /// As they are.
    F32,
    /// Rounded.
    F16,
}

impl Tiles {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

/// From this many rows on a product with one token has a [choice](Slot::MatvecManyRows) of its own: 32 workgroups of 8 tiles.
pub const MANY_ROWS: u32 = 2048;
/// From this many tokens on a product in registers has a [choice](Slot::MatmulManyTokens) of its own.
pub const MANY_TOKENS: u32 = 128;
/// From this many tokens on a plan that [may](PlanBuilder::rounded) round its products to f16. Fewer tokens are what prompt lookup
/// guessed: they are checked with all bits.
pub const ROUNDED_TOKENS: u32 = 32;
/// Threads of a workgroup of [`Variant::Cooperative`].
const COOPERATIVE_THREADS: u32 = 128;
/// Most floats of workgroup memory in [`Variant::Lanes`]: the 16 KiB that every WebGPU has.
const SHARES: u32 = 4096;

/// How a product reads its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Once a lane, then around the subgroup.
    Broadcast,
    /// From storage.
    Storage,
}

impl Variant {
    /// The variant that runs on `gpu`.
    pub fn choose(gpu: &Gpu, n_tokens: u32, n_rows: u32, n_cols: u32) -> Self {
        Self::of(gpu.tier(), gpu.tuning(), n_tokens, n_rows, n_cols)
    }

    /// The variant for a GPU of this tier that is tuned like this.
    pub fn of(tier: Tier, tuning: Tuning, n_tokens: u32, n_rows: u32, n_cols: u32) -> Self {
        if tier.cpu
            && !tier.broadcast
            && let [groups, _] = Slot::Lanes.chosen(tier, tuning)
            && let Some(lanes) = Self::lanes(n_tokens, n_cols, groups)
        {
            return lanes;
        }
        let x = if tier.cpu && tier.broadcast { Input::Broadcast } else { Input::Storage };
        match (n_tokens, tier.cpu) {
            (1, cpu) => {
                let slot = if n_rows >= MANY_ROWS { Slot::MatvecManyRows } else { Slot::Matvec };
                let [rows, wg] = slot.chosen(tier, tuning);
                Self::Matvec { x, rows, slices: if cpu { 1 } else { 8 }, wg }
            }
            (_, true) => {
                let slot = if n_tokens >= MANY_TOKENS { Slot::MatmulManyTokens } else { Slot::Matmul };
                let [rows, tokens] = slot.chosen(tier, tuning);
                Self::Registers { x, rows, tokens }
            }
            (_, false) => Self::Tiled { tiles: Tiles::F32 },
        }
    }

    /// The variant for many tokens that rounds to f16, if a GPU of this tier that is tuned like this has one that is faster.
    pub fn rounded(tier: Tier, tuning: Tuning) -> Option<Self> {
        match (Slot::Tiles.chosen(tier, tuning), tier.matrix_units) {
            ([16, 0], _) => Some(Self::Tiled { tiles: Tiles::F16 }),
            ([16, _], Some(units)) => Some(Self::Cooperative(units)),
            _ => None,
        }
    }

    /// The variant for a launch in `plan`.
    fn in_plan(plan: &PlanBuilder<'_>, matrix: &Matrix, n_tokens: u32) -> Self {
        may_round(plan, matrix, n_tokens)
            .unwrap_or_else(|| Self::choose(plan.gpu(), n_tokens, matrix.n_rows, matrix.n_cols))
    }

    /// Whether it reads its input in f16.
    fn rounds(self) -> bool {
        matches!(self, Self::Tiled { tiles: Tiles::F16 } | Self::Cooperative(_))
    }

    /// [`Variant::Lanes`] for these sizes over `groups` workgroups, or `None` when a row is too long for its workgroup memory.
    pub fn lanes(n_tokens: u32, n_cols: u32, groups: u32) -> Option<Self> {
        // More blocks a thread are more unrolled text: compiling takes as long as a hundred tokens.
        let (tokens, most_blocks) = if n_tokens == 1 { (1, 12) } else { (4, 6) };
        let n_blocks = n_cols / 32;
        let lanes = 4 * n_blocks.div_ceil(4 * most_blocks);
        let variant = Self::Lanes { tokens, lanes, blocks: n_blocks.div_ceil(lanes), groups };
        (variant.chunk() >= 2).then_some(variant)
    }

    /// Tiles between two barriers of [`Variant::Lanes`]: even, so that gate and up stay together; 0 if not even two fit.
    fn chunk(self) -> u32 {
        let Self::Lanes { tokens, lanes, .. } = self else { return 0 };
        (SHARES / (8 * tokens * lanes)).min(16 / tokens) & !1
    }

    /// Whether the kernel can norm its input on the way ([`launch_normed`]). [`Variant::Lanes`] would load every norm weight
    /// once a workgroup, which costs more there than the launch it saves.
    pub fn norms(self) -> bool {
        matches!(self, Self::Matvec { .. })
    }

    /// Kernel and constants for a part's format; `norm`: see [`Variant::norms`].
    pub fn kernel(self, layout: &Layout, epilogue: Epilogue, norm: bool) -> (&'static str, Constants) {
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
                set("NORM", u32::from(norm));
                ("matvec", Some(x))
            }
            Self::Registers { x, rows, tokens } => {
                set("ROWS", rows);
                set("PAIRS", rows / 2);
                set("TOKENS", tokens);
                ("matmul", Some(x))
            }
            Self::Tiled { tiles } => {
                constants.insert("TILES", tiles.name().to_owned());
                ("matmul_tiled", None)
            }
            Self::Cooperative(units) => {
                constants.extend(cooperative(units, false));
                ("matmul_cooperative", None)
            }
            Self::Lanes { tokens, lanes, blocks, .. } => {
                set("TOKENS", tokens);
                set("LANES", lanes);
                set("BLOCKS", blocks);
                set("CHUNK", self.chunk());
                ("matmul_lanes", None)
            }
        };
        if let Some(x) = x {
            let name = match x {
                Input::Broadcast => "broadcast",
                Input::Storage => "storage",
            };
            constants.insert("X", name.to_owned());
        }
        (kernel, constants)
    }
}

/// [`Variant::rounded`], if `plan` lets this product have it.
fn may_round(plan: &PlanBuilder<'_>, matrix: &Matrix, n_tokens: u32) -> Option<Variant> {
    // Weights that are more exact or larger than f16 were chosen for that.
    let rounds = plan.may_round()
        && n_tokens >= ROUNDED_TOKENS
        && !matrix.parts.iter().any(|part| matches!(part.tensor_type, TensorType::F32 | TensorType::BF16));
    if rounds { Variant::rounded(plan.gpu().tier(), plan.gpu().tuning()) } else { None }
}

/// How 64 rows (of w, or of its transpose) and 64 tokens are shared among the subgroups of a workgroup with matrix units.
fn cooperative(MatrixUnits { size, subgroups: (smallest, largest) }: MatrixUnits, transposed: bool) -> Constants {
    // More of up to 16 subgroups along the tokens; 16 rows at least each, so that gate and up stay together.
    let (rows, columns) = match COOPERATIVE_THREADS / largest {
        1 => (1, 1),
        2 => (1, 2),
        4 => (2, 2),
        8 => (2, 4),
        _ => (4, 4),
    };
    let numbers = [
        ("SIZE", size),
        ("STEPS", 32 / size),
        ("SUBGROUPS", rows * columns),
        ("STAGES", COOPERATIVE_THREADS / smallest),
        ("COLUMNS", columns),
        ("ROW_MATRICES", 64 / rows / size),
        ("COLUMN_MATRICES", 64 / columns / size),
        ("PIECES", 4 / rows),
        ("TRANSPOSED", u32::from(transposed)),
    ];
    constants(numbers.map(|(name, number)| (name, number.to_string())))
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
    launch_variant(plan, Variant::in_plan(plan, matrix, shape.n_tokens), matrix, x, y, shape, epilogue)
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
    let variant = Variant::in_plan(plan, matrix, shape.n_tokens);
    if variant.norms() {
        return launch_parts(plan, variant, matrix, x, Some(norm), y, shape, epilogue);
    }
    let Norm { weight, eps, first_token, scratch } = norm;
    let rows = rms_norm::Shape { n_tokens: shape.n_tokens, n_channels: matrix.n_cols, first_token, eps };
    rms_norm::launch(plan, x, weight, scratch, rows)?;
    launch_variant(plan, variant, matrix, scratch, y, shape, epilogue)
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
    launch_parts(plan, variant, matrix, x, None, y, shape, epilogue)
}

/// Bytes of a band's activations: half of a second cache of 512 KiB.
const BAND_BYTES: u32 = 256 << 10;

/// How many tiles of `tokens` take turns before the next rows (or channels) of the weights come: as many as leave their rows of
/// `width` numbers in the second cache of a CPU. Without bands either the weights or the activations come from further away
/// for every tile.
fn band(tokens: u32, width: u32) -> u32 {
    (BAND_BYTES / 4 / (tokens * width)).max(1)
}

/// [`launch_variant`], with a norm for those variants that take one.
///
/// # Errors
/// As [`PlanBuilder::launch`].
#[expect(clippy::too_many_arguments, reason = "the operands of one op, in the kernel's binding order")]
pub fn launch_parts(
    plan: &mut PlanBuilder<'_>,
    variant: Variant,
    matrix: &Matrix,
    x: &Buffer,
    norm: Option<Norm<'_>>,
    y: &Buffer,
    shape: Shape,
    epilogue: Epilogue,
) -> Result<(), GpuError> {
    let n_blocks = matrix.n_cols / 32;
    let (eps, first_token) = norm.map_or((0.0f32, 0), |norm| (norm.eps, norm.first_token));
    let whole = Columns { first: 0, n: matrix.n_cols, of: matrix.n_cols };
    let halves = if variant.rounds() { Some(launch_half_rows(plan, x, shape.n_tokens, whole)?) } else { None };
    for part in &matrix.parts {
        let (kernel, constants) = variant.kernel(&part.layout, epilogue, norm.is_some());
        // With swiglu two tiles of the matrix make one of the result.
        let fold = if epilogue == Epilogue::Swiglu { 2 } else { 1 };
        let (n_rows, y_offset) = (part.n_rows / fold, shape.y_offset + part.first_row / fold);
        let row_bytes = u64::from(matrix.n_cols) * 4;
        let (params, groups): ([u32; 8], u64) = match variant {
            Variant::Matvec { rows, slices, wg, .. } => (
                [n_rows, part.n_tiles, n_blocks, y_offset, eps.to_bits(), first_token * n_blocks * 8, 0, 0],
                u64::from(part.n_tiles.div_ceil(rows * (wg / (8 * slices)))),
            ),
            Variant::Registers { rows, tokens, .. } => {
                let token_tiles = shape.n_tokens.div_ceil(tokens);
                let band = band(tokens, matrix.n_cols);
                (
                    [n_rows, part.n_tiles, n_blocks, y_offset, shape.y_stride, shape.n_tokens, token_tiles, band],
                    u64::from(token_tiles) * u64::from(part.n_tiles.div_ceil(rows)),
                )
            }
            Variant::Tiled { .. } | Variant::Cooperative(_) => {
                let token_tiles = shape.n_tokens.div_ceil(64);
                (
                    [n_rows, part.n_tiles, n_blocks, y_offset, shape.y_stride, shape.n_tokens, token_tiles, 0],
                    u64::from(token_tiles) * u64::from(part.n_tiles.div_ceil(8)),
                )
            }
            Variant::Lanes { tokens, groups, .. } => {
                let token_tiles = shape.n_tokens.div_ceil(tokens);
                let tiles = part.n_tiles.div_ceil(groups.div_ceil(token_tiles)).next_multiple_of(2);
                (
                    [n_rows, part.n_tiles, n_blocks, y_offset, shape.y_stride, shape.n_tokens, token_tiles, tiles],
                    u64::from(token_tiles) * u64::from(part.n_tiles.div_ceil(tiles)),
                )
            }
        };
        let mut args = vec![
            Arg::Params(bytemuck::bytes_of(&params)),
            Arg::Whole(&part.q),
            Arg::Whole(&part.s),
            match &halves {
                Some((x_half, _)) => Arg::Whole(x_half),
                None => Arg::Range(x, 0, u64::from(first_token + shape.n_tokens) * row_bytes),
            },
            Arg::Whole(y),
        ];
        args.extend(halves.as_ref().map(|(_, scale)| Arg::Whole(scale)));
        args.extend(norm.map(|norm| Arg::Whole(norm.weight)));
        plan.launch(kernel, &constants, &args, fold_groups(groups))?;
    }
    Ok(())
}

/// Which columns of rows: all in fours.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// The first.
    pub first: u32,
    /// How many.
    pub n: u32,
    /// Of how many.
    pub of: u32,
}

/// `x[:, columns]` in f16, `[T, columns.n]`, and what undoes the scale of each row `[T]`, until the next product that rounds: see
/// `shaders/half_rows.wgsl`.
///
/// # Errors
/// As [`PlanBuilder::launch`], or too little memory.
pub fn launch_half_rows(
    plan: &mut PlanBuilder<'_>,
    x: &Buffer,
    n_tokens: u32,
    columns: Columns,
) -> Result<(Buffer, Buffer), GpuError> {
    let gpu = plan.gpu();
    let [half_bytes, scale_bytes] = half_row_bytes(n_tokens, columns.n);
    let x_half = gpu.scratch("activations in f16", half_bytes)?;
    let scale = gpu.scratch("scales of activations", scale_bytes)?;
    let params = [columns.n / 4, n_tokens, columns.of / 4, columns.first / 4];
    plan.launch(
        "half_rows",
        &constants([]),
        &[
            Arg::Params(bytemuck::bytes_of(&params)),
            Arg::Range(x, 0, u64::from(n_tokens) * u64::from(columns.of) * 4),
            Arg::Whole(&x_half),
            Arg::Whole(&scale),
        ],
        fold_groups(u64::from(n_tokens)),
    )?;
    Ok((x_half, scale))
}

/// Bytes of the two buffers of [`launch_half_rows`].
#[must_use]
pub fn half_row_bytes(n_tokens: u32, n_cols: u32) -> [u64; 2] {
    [u64::from(n_tokens) * u64::from(n_cols) * 2, u64::from(n_tokens) * 4]
}

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

    /// The variant for a launch in `plan`, of this shape; what rounds reads its input four numbers at a time.
    fn in_plan(plan: &PlanBuilder<'_>, matrix: &Matrix, shape: Shape) -> Self {
        let Shape { n_tokens, y_stride, y_offset } = shape;
        let starts = matrix.parts.iter().map(|part| part.first_row);
        let in_fours = [y_stride, y_offset, matrix.n_rows].into_iter().chain(starts).all(|n| n.is_multiple_of(4));
        match may_round(plan, matrix, n_tokens).filter(|_| in_fours) {
            Some(Variant::Tiled { tiles }) => Self::Tiled { tiles },
            Some(Variant::Cooperative(units)) => Self::Cooperative(units),
            _ => Self::choose(plan.gpu(), n_tokens),
        }
    }

    /// Whether it reads its input in f16.
    fn rounds(self) -> bool {
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
                constants.extend(cooperative(units, true));
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
        let halves = if variant.rounds() { Some(launch_half_rows(plan, dy, n_tokens, from)?) } else { None };
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
