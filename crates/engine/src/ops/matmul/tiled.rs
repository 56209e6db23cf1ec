//! Many tokens through workgroup memory, 64 rows x 64 tokens x 32 channels: GPUs. Kernel: `shaders/matmul_tiled.wgsl`.

use super::product::{Grid, Product, Size, pick};
use crate::gpu::{Constants, Tier, Tuning, constants};
use crate::ops::matrix::Part;

/// Its shader.
pub(super) const KERNEL: &str = "matmul_tiled";

/// Numbers in workgroup memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiles {
    /// As they are.
    F32,
    /// Rounded.
    F16,
}

impl Tiles {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

/// 64 rows and 64 tokens a workgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiled {
    /// What weights and input are in there.
    pub tiles: Tiles,
}

/// `[bits a number, 1: matrix units]`, of prompts.
pub(super) fn choices(tier: Tier) -> &'static [[u32; 2]] {
    match (tier.cpu, tier.f16, tier.matrix_units.is_some()) {
        (false, true, true) => &[[32, 0], [16, 0], [16, 1]],
        (false, true, false) => &[[32, 0], [16, 0]],
        _ => &[[32, 0]],
    }
}

/// For such a product on a GPU of this tier that is tuned like this.
pub(super) fn choose(tier: Tier, tuning: Tuning, size: Size) -> Option<Tiled> {
    let tiles = match pick(choices(tier), tuning.tiles) {
        _ if !size.f16_products => Tiles::F32,
        [16, 0] => Tiles::F16,
        _ => return None,
    };
    (!tier.cpu).then_some(Tiled { tiles })
}

/// One of every shape that changes the text of the shader.
pub(super) fn examples() -> Vec<Tiled> {
    [Tiles::F32, Tiles::F16].map(|tiles| Tiled { tiles }).into()
}

/// Workgroups of 8 tiles and 64 tokens.
pub(super) fn grid_of_64(part: &Part, size: Size) -> Grid {
    let token_tiles = size.n_tokens.div_ceil(64);
    Grid { token_tiles, share: 0, groups: u64::from(token_tiles) * u64::from(part.n_tiles.div_ceil(8)) }
}

impl Product for Tiled {
    fn constants(&self) -> Constants {
        constants([])
    }

    fn grid(&self, part: &Part, size: Size) -> Grid {
        grid_of_64(part, size)
    }

    fn f16_input(&self) -> bool {
        self.tiles == Tiles::F16
    }
}
