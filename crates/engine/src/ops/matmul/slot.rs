//! The choices of the tuner: which tile shapes there are for what, on which tier.

use super::product::pick;
#[cfg(doc)]
use super::product::{MANY_ROWS, MANY_TOKENS};
use super::{lanes, matvec, registers, tiled};
use crate::gpu::{Tier, Tuning};

/// What is decided, a row of the table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// What a product of a prompt is computed from on a GPU that has f16: where it gains most, so it is measured first.
    Tiles,
    /// A product with one token and fewer than [`MANY_ROWS`] rows.
    Matvec,
    /// A product with one token and that many rows or more.
    MatvecManyRows,
    /// A product in registers with fewer than [`MANY_TOKENS`] tokens.
    Matmul,
    /// A product in registers with that many tokens or more.
    MatmulManyTokens,
    /// The workgroups a product of [`Lanes`](lanes::Lanes) is spread over.
    Lanes,
}

impl Slot {
    /// All there are, in the order of the table.
    pub const ALL: [Self; 6] =
        [Self::Tiles, Self::Matvec, Self::MatvecManyRows, Self::Matmul, Self::MatmulManyTokens, Self::Lanes];

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiles => "prompts",
            Self::Matvec => "one token",
            Self::MatvecManyRows => "one token, many rows",
            Self::Matmul => "some tokens",
            Self::MatmulManyTokens => "many tokens",
            Self::Lanes => "workgroups",
        }
    }

    /// The choices on such a GPU, the default first; what the numbers mean stands where they are used: [`matvec`],
    /// [`registers`], [`lanes`], [`tiled`]. One choice: nothing to decide there.
    #[must_use]
    pub fn choices(self, tier: Tier) -> &'static [[u32; 2]] {
        match self {
            Self::Tiles => tiled::choices(tier),
            Self::Matvec => matvec::choices(tier, false),
            Self::MatvecManyRows => matvec::choices(tier, true),
            Self::Matmul => registers::choices(tier, false),
            Self::MatmulManyTokens => registers::choices(tier, true),
            Self::Lanes => lanes::choices(tier),
        }
    }

    /// The choice that `tuning` makes; the default where it names none that there is.
    #[must_use]
    pub fn chosen(self, tier: Tier, mut tuning: Tuning) -> [u32; 2] {
        pick(self.choices(tier), *self.field(&mut tuning))
    }

    /// `tuning` with another choice for this slot.
    #[must_use]
    pub fn set(self, mut tuning: Tuning, choice: usize) -> Tuning {
        *self.field(&mut tuning) = choice as u8;
        tuning
    }

    fn field(self, tuning: &mut Tuning) -> &mut u8 {
        match self {
            Self::Tiles => &mut tuning.tiles,
            Self::Matvec => &mut tuning.matvec,
            Self::MatvecManyRows => &mut tuning.matvec_many_rows,
            Self::Matmul => &mut tuning.matmul,
            Self::MatmulManyTokens => &mut tuning.matmul_many_tokens,
            Self::Lanes => &mut tuning.lanes,
        }
    }
}
