//! Many tokens on a GPU's units for matrices, in f16 with sums in f32. Kernel: `shaders/matmul_cooperative.wgsl`.

use super::product::{Grid, Product, Size, pick};
use super::tiled::{choices, grid_of_64};
use crate::gpu::{Constants, MatrixUnits, Tier, Tuning, constants};
use crate::ops::matrix::Part;

/// Its shader.
pub(super) const KERNEL: &str = "matmul_cooperative";

/// Threads of a workgroup.
const THREADS: u32 = 128;

/// 64 rows and 64 tokens a workgroup; weights and input are rounded to f16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cooperative(pub MatrixUnits);

/// For such a product on a GPU of this tier that is tuned like this.
pub(super) fn choose(tier: Tier, tuning: Tuning, size: Size) -> Option<Cooperative> {
    let wanted = size.f16_products && pick(choices(tier), tuning.tiles) == [16, 1];
    tier.matrix_units.filter(|_| wanted).map(Cooperative)
}

/// Matrix units of NVIDIA's, AMD's, Intel's, Apple's GPUs, lavapipe's, and odd ones.
pub(super) const UNITS: [MatrixUnits; 6] = [
    MatrixUnits { size: 16, subgroups: (32, 32) },
    MatrixUnits { size: 16, subgroups: (32, 64) },
    MatrixUnits { size: 16, subgroups: (8, 32) },
    MatrixUnits { size: 8, subgroups: (32, 32) },
    MatrixUnits { size: 8, subgroups: (8, 8) },
    MatrixUnits { size: 16, subgroups: (16, 128) },
];

/// One of every shape that changes the text of the shader.
pub(super) fn examples() -> Vec<Cooperative> {
    UNITS.map(Cooperative).into()
}

/// How 64 rows (of w, or of its transpose) and 64 tokens are shared among the subgroups of a workgroup.
pub(super) fn shares(MatrixUnits { size, subgroups: (smallest, largest) }: MatrixUnits, transposed: bool) -> Constants {
    // More of up to 16 subgroups along the tokens; 16 rows at least each, so that gate and up stay together.
    let (rows, columns) = match THREADS / largest {
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
        ("STAGES", THREADS / smallest),
        ("COLUMNS", columns),
        ("ROW_MATRICES", 64 / rows / size),
        ("COLUMN_MATRICES", 64 / columns / size),
        ("PIECES", 4 / rows),
        ("TRANSPOSED", u32::from(transposed)),
    ];
    constants(numbers.map(|(name, number)| (name, number.to_string())))
}

impl Product for Cooperative {
    fn constants(&self) -> Constants {
        shares(self.0, false)
    }

    fn grid(&self, part: &Part, size: Size) -> Grid {
        grid_of_64(part, size)
    }

    fn f16_input(&self) -> bool {
        true
    }

    fn subgroups(&self) -> bool {
        true
    }
}
