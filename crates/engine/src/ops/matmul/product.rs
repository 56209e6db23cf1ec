//! What the files of this folder share: the size of a product, what each says about its kernel, and some figures.

use crate::gpu::{Constants, Tier};
use crate::ops::matrix::Part;

/// From this many rows on a product with one token has a choice of its own ([`Slot`](super::Slot)): 32 workgroups of 8 tiles.
pub const MANY_ROWS: u32 = 2048;
/// From this many tokens on a product in registers has a choice of its own ([`Slot`](super::Slot)).
pub const MANY_TOKENS: u32 = 128;
/// From this many tokens on a plan that [takes](crate::gpu::PlanBuilder::f16_products) products of f16 gets them. Fewer tokens are
/// what prompt lookup guessed: they are checked with all bits.
pub const F16_TOKENS: u32 = 32;

/// What a variant is chosen and cut up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// T
    pub n_tokens: u32,
    /// N
    pub n_rows: u32,
    /// C
    pub n_cols: u32,
    /// Inputs may be rounded to f16 where the tuner found that to be faster.
    pub f16_products: bool,
}

/// Workgroups of a launch.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// Tiles of tokens.
    pub(super) token_tiles: u32,
    /// `share` of the kernel's `Params`.
    pub(super) share: u32,
    /// All of them.
    pub(super) groups: u64,
}

/// What a file of this folder says about its kernel.
pub(super) trait Product {
    /// Constants of the shader beside those that all products have.
    fn constants(&self) -> Constants;
    /// The workgroups for a part of a matrix.
    fn grid(&self, part: &Part, size: Size) -> Grid;
    /// Whether it can norm its input on the way.
    fn norms(&self) -> bool {
        false
    }
    /// Whether it reads its input in f16, from `half_rows`.
    fn f16_input(&self) -> bool {
        false
    }
    /// Whether it needs subgroups.
    fn subgroups(&self) -> bool {
        false
    }
}

/// How a product reads its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Once a lane, then around the subgroup.
    Broadcast,
    /// From storage.
    Storage,
}

impl Input {
    pub(super) fn of(tier: Tier) -> Self {
        if tier.cpu && tier.broadcast { Self::Broadcast } else { Self::Storage }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::Storage => "storage",
        }
    }
}

/// The choice with this number; the default where there is none.
pub(super) fn pick(choices: &[[u32; 2]], number: u8) -> [u32; 2] {
    choices.get(usize::from(number)).or(choices.first()).copied().unwrap_or_default()
}

/// Bytes of a band's activations: half of a second cache of 512 KiB.
const BAND_BYTES: u32 = 256 << 10;

/// How many tiles of `tokens` take turns before the next rows (or channels) of the weights come: as many as leave their rows of
/// `width` numbers in the second cache of a CPU. Without bands either the weights or the activations come from further away
/// for every tile.
pub(super) fn band(tokens: u32, width: u32) -> u32 {
    (BAND_BYTES / 4 / (tokens * width)).max(1)
}
