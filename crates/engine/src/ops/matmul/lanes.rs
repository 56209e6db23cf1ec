//! Lanes that share a row and keep its inputs, for one token and for many: CPU adapters without subgroups (SwiftShader).
//! Kernel: `shaders/matmul_lanes.wgsl`.

use super::product::{Grid, Product, Size, pick};
use crate::gpu::{Constants, Tier, Tuning, constants};
use crate::ops::matrix::Part;

/// Its shader.
pub(super) const KERNEL: &str = "matmul_lanes";

/// Most floats of workgroup memory: the 16 KiB that every WebGPU has.
const SHARES: u32 = 4096;

/// `lanes` threads share a row, each with `blocks` blocks of its channels, for `tokens` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes {
    /// 1, or the tokens a row is unpacked for.
    pub tokens: u32,
    /// Threads that share a row, a multiple of 4.
    pub lanes: u32,
    /// Blocks of 32 channels a thread owns.
    pub blocks: u32,
    /// Workgroups it is spread over, about.
    pub groups: u32,
}

/// `[workgroups, 0]`: a multiple of any usual number of cores, and few enough that loading the inputs into registers, once a
/// workgroup, does not count.
pub(super) fn choices(tier: Tier) -> &'static [[u32; 2]] {
    if tier.cpu && !tier.broadcast { &[[16, 0], [8, 0], [32, 0]] } else { &[[16, 0]] }
}

/// For such a product on a GPU of this tier that is tuned like this.
pub(super) fn choose(tier: Tier, tuning: Tuning, size: Size) -> Option<Lanes> {
    let [groups, _] = pick(choices(tier), tuning.lanes);
    if tier.cpu && !tier.broadcast { Lanes::of(size.n_tokens, size.n_cols, groups) } else { None }
}

/// Short and long rows of one token and of many.
/// One of every shape that changes the text of the shader.
pub(super) fn examples() -> Vec<Lanes> {
    let sizes = [(1, 256), (1, 8192), (2, 256), (2, 12_288)];
    sizes.into_iter().filter_map(|(n_tokens, n_cols)| Lanes::of(n_tokens, n_cols, 16)).collect()
}

impl Lanes {
    /// For these sizes over `groups` workgroups, or `None` when a row is too long for its workgroup memory.
    #[must_use]
    pub fn of(n_tokens: u32, n_cols: u32, groups: u32) -> Option<Self> {
        // More blocks a thread are more unrolled text: compiling takes as long as a hundred tokens.
        let (tokens, most_blocks) = if n_tokens == 1 { (1, 12) } else { (4, 6) };
        let n_blocks = n_cols / 32;
        let lanes = 4 * n_blocks.div_ceil(4 * most_blocks);
        let variant = Self { tokens, lanes, blocks: n_blocks.div_ceil(lanes), groups };
        (variant.chunk() >= 2).then_some(variant)
    }

    /// Tiles between two barriers: even, so that gate and up stay together; 0 if not even two fit.
    fn chunk(self) -> u32 {
        (SHARES / (8 * self.tokens * self.lanes)).min(16 / self.tokens) & !1
    }
}

impl Product for Lanes {
    fn constants(&self) -> Constants {
        let numbers =
            [("TOKENS", self.tokens), ("LANES", self.lanes), ("BLOCKS", self.blocks), ("CHUNK", self.chunk())];
        constants(numbers.map(|(name, number)| (name, number.to_string())))
    }

    fn grid(&self, part: &Part, size: Size) -> Grid {
        let token_tiles = size.n_tokens.div_ceil(self.tokens);
        let share = part.n_tiles.div_ceil(self.groups.div_ceil(token_tiles)).next_multiple_of(2);
        Grid { token_tiles, share, groups: u64::from(token_tiles) * u64::from(part.n_tiles.div_ceil(share)) }
    }
}
