//! The heads of attention: their numbers, and what follows from them.

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// H: query heads.
    pub n_heads: u32,
    /// K: key and value heads; divides H.
    pub n_kv_heads: u32,
    /// D: channels of a head, a multiple of 4, at most 256.
    pub head_dim: u32,
}

impl Heads {
    /// `1 / sqrt(D)`
    pub fn scale(self) -> f32 {
        (1.0 / f64::from(self.head_dim).sqrt()) as f32
    }

    /// Columns of the fused q, k, v product: `(H + 2K) D`.
    pub fn qkv_width(self) -> u32 {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }
}
