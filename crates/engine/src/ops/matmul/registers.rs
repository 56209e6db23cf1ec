//! Many tokens in registers, no barrier: CPU adapters. Kernel: `shaders/matmul.wgsl`.

use super::product::{Grid, Input, MANY_TOKENS, Product, Size, band, pick};
use crate::gpu::{Constants, Tier, Tuning, constants};
use crate::ops::matrix::Part;

/// Its shader.
pub(super) const KERNEL: &str = "matmul";

/// `rows` tiles and `tokens` tokens a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// How the input is read.
    pub x: Input,
    /// Tiles a thread owns.
    pub rows: u32,
    /// Tokens a thread owns.
    pub tokens: u32,
}

/// `[tiles a thread, tokens a thread]`. More results a thread share each dequantized block and each input; the widest one takes a
/// second to compile and pays for itself in a training step, not in a prompt.
pub(super) fn choices(tier: Tier, many_tokens: bool) -> &'static [[u32; 2]] {
    match (tier.cpu && tier.broadcast, many_tokens) {
        (true, false) => &[[4, 8], [4, 4], [8, 8]],
        (true, true) => &[[8, 16], [4, 16], [8, 8]],
        (false, _) => &[[4, 4]],
    }
}

/// For such a product on a GPU of this tier that is tuned like this.
pub(super) fn choose(tier: Tier, tuning: Tuning, size: Size) -> Option<Registers> {
    if !tier.cpu {
        return None;
    }
    let many_tokens = size.n_tokens >= MANY_TOKENS;
    let choice = if many_tokens { tuning.matmul_many_tokens } else { tuning.matmul };
    let [rows, tokens] = pick(choices(tier, many_tokens), choice);
    Some(Registers { x: Input::of(tier), rows, tokens })
}

/// One of every shape that changes the text of the shader.
pub(super) fn examples() -> Vec<Registers> {
    let shapes = [(4, 4), (4, 8), (8, 16)];
    let of = |x| shapes.map(|(rows, tokens)| Registers { x, rows, tokens });
    [Input::Broadcast, Input::Storage].into_iter().flat_map(of).collect()
}

impl Product for Registers {
    fn constants(&self) -> Constants {
        let Self { x, rows, tokens } = *self;
        let numbers = [("ROWS", rows), ("PAIRS", rows / 2), ("TOKENS", tokens)];
        let mut constants = constants(numbers.map(|(name, number)| (name, number.to_string())));
        constants.insert("X", x.name().to_owned());
        constants
    }

    fn grid(&self, part: &Part, size: Size) -> Grid {
        let token_tiles = size.n_tokens.div_ceil(self.tokens);
        let groups = u64::from(token_tiles) * u64::from(part.n_tiles.div_ceil(self.rows));
        Grid { token_tiles, share: band(self.tokens, size.n_cols), groups }
    }

    fn subgroups(&self) -> bool {
        self.x == Input::Broadcast
    }
}
