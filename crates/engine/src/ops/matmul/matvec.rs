//! One token: a thread owns rows, several threads may share one. Kernel: `shaders/matvec.wgsl`.

use super::product::{Grid, Input, MANY_ROWS, Product, Size, pick};
use crate::gpu::{Constants, Tier, Tuning, constants};
use crate::ops::matrix::Part;

/// Its shader.
pub(super) const KERNEL: &str = "matvec";

/// One token, `rows` tiles a thread, `slices` threads share a row, `wg` threads a workgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matvec {
    /// How the input is read.
    pub x: Input,
    /// Tiles a thread owns; even, so that swiglu finds its pairs.
    pub rows: u32,
    /// Threads that share a row.
    pub slices: u32,
    /// Threads in a workgroup: a multiple of `8 * slices`.
    pub wg: u32,
}

/// `[tiles of 8 rows a thread, threads a workgroup]`.
pub(super) fn choices(tier: Tier, many_rows: bool) -> &'static [[u32; 2]] {
    match (tier.cpu, tier.broadcast, many_rows) {
        // A CPU adapter runs the 8 lanes of a tile as one vector: rows of several tiles share a read of the input, and
        // small workgroups spread evenly over few cores. More rows share more, as long as every core has a workgroup.
        (true, true, false) => &[[4, 8], [2, 8], [8, 8]],
        (true, true, true) => &[[8, 8], [4, 8]],
        (true, false, false) => &[[4, 8]],
        (true, false, true) => &[[8, 8]],
        (false, ..) => &[[2, 64], [2, 128], [4, 64], [2, 256]],
    }
}

/// For such a product on a GPU of this tier that is tuned like this.
pub(super) fn choose(tier: Tier, tuning: Tuning, size: Size) -> Option<Matvec> {
    if size.n_tokens != 1 {
        return None;
    }
    let many_rows = size.n_rows >= MANY_ROWS;
    let choice = if many_rows { tuning.matvec_many_rows } else { tuning.matvec };
    let [rows, wg] = pick(choices(tier, many_rows), choice);
    let slices = if tier.cpu { 1 } else { 8 };
    Some(Matvec { x: Input::of(tier), rows, slices, wg })
}

/// One of every shape that changes the text of the shader.
pub(super) fn examples() -> Vec<Matvec> {
    let shapes = [(4, 1, 8), (8, 1, 8), (2, 8, 64)];
    let of = |x| shapes.map(|(rows, slices, wg)| Matvec { x, rows, slices, wg });
    [Input::Broadcast, Input::Storage].into_iter().flat_map(of).collect()
}

impl Product for Matvec {
    fn constants(&self) -> Constants {
        let Self { x, rows, slices, wg } = *self;
        let numbers =
            [("ROWS", rows), ("PAIRS", rows / 2), ("SLICES", slices), ("WG", wg), ("TILES", wg / (8 * slices))];
        let mut constants = constants(numbers.map(|(name, number)| (name, number.to_string())));
        constants.insert("X", x.name().to_owned());
        constants
    }

    fn grid(&self, part: &Part, _: Size) -> Grid {
        let groups = part.n_tiles.div_ceil(self.rows * (self.wg / (8 * self.slices)));
        Grid { token_tiles: 1, share: 0, groups: groups.into() }
    }

    /// With subgroups the sum of squares is a subgroup's, which has to be the whole workgroup.
    fn norms(&self) -> bool {
        self.x == Input::Storage || self.wg == 8
    }

    fn subgroups(&self) -> bool {
        self.x == Input::Broadcast
    }
}
