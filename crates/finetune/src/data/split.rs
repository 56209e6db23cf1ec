//! Which rows are for validation: decided by each row's own hash.
//!
//! So adding, removing or moving rows moves no other row to the other side, and equal rows are on the same side.

use serde::{Deserialize, Serialize};

/// The share of rows kept for validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// 0 for none, at most 0.9.
    pub fraction: f64,
    /// Another seed keeps other rows. Stored with the adapter, for the same split when training goes on.
    pub seed: u64,
}

impl Default for Split {
    fn default() -> Self {
        Self { fraction: 0.02, seed: 0 }
    }
}

impl Split {
    /// Whether the row with this hash is for validation.
    #[must_use]
    pub fn is_validation(&self, row_hash: u64) -> bool {
        // 53 bits: what an f64 holds exactly.
        let share = (mix(row_hash ^ mix(self.seed)) >> 11) as f64 / (1_u64 << 53) as f64;
        share < self.fraction
    }
}

/// A number as if by chance from each number: the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// FNV-1a with a final mix: the standard library's hash may change from one release to the next, a split may not.
#[derive(Debug)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// With its length, so that where one text ends counts.
    pub(super) fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u64).to_le_bytes());
        self.bytes(text.as_bytes());
    }

    pub(super) fn finish(&self) -> u64 {
        mix(self.0)
    }
}
