//! The families that run, one row each. What differs between them stands here and nowhere else: the metadata are read under
//! the family's prefix ([`config`](super::config)), tensors are asked for by it ([`tensors`](super::tensors)).
//!
//! Sources: `src/models/*.cpp` and `llama_model_rope_type` of llama.cpp; the families' reports, Touvron et al. 2023,
//! arXiv:2302.13971 (LLaMA), Yang et al. 2024, arXiv:2407.10671 (Qwen2), Yang et al. 2025, arXiv:2505.09388 (Qwen3).

use crate::Error;

/// Which channels of a head rotate together, in the order that the rows of q and k have in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// Neighbours, `2i` and `2i + 1`, as the kernels have them: ggml's NORM.
    Neighbours,
    /// Halves, `i` and `i + n/2`: ggml's NEOX. The rows are rearranged when the model is loaded; a dot product of q and k adds the
    /// same channels in another order.
    Halves,
}

/// What tells one family of decoders from another. All of them are pre-norm blocks of grouped attention with rotary positions
/// and a gated MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// `general.architecture`, and the first part of its metadata keys.
    pub name: &'static str,
    /// How rows of q and k lie in the file.
    pub rope_pairs: RopePairs,
    /// Whether a bias is added to q, k and v.
    pub qkv_bias: bool,
    /// Whether each head of q and k goes through an RMS norm before it is rotated.
    pub head_norm: bool,
}

/// LLaMA 1, 2 and 3, TinyLlama, SmolLM2, Mistral.
pub const LLAMA: Architecture =
    Architecture { name: "llama", rope_pairs: RopePairs::Neighbours, qkv_bias: false, head_norm: false };

/// Qwen2, Qwen2.5 and their Coder models.
pub const QWEN2: Architecture =
    Architecture { name: "qwen2", rope_pairs: RopePairs::Halves, qkv_bias: true, head_norm: false };

/// The dense models of Qwen3.
pub const QWEN3: Architecture =
    Architecture { name: "qwen3", rope_pairs: RopePairs::Halves, qkv_bias: false, head_norm: true };

/// Every family that runs.
pub const ARCHITECTURES: [&Architecture; 3] = [&LLAMA, &QWEN2, &QWEN3];

impl Architecture {
    /// The family of that name.
    ///
    /// # Errors
    /// [`Error::WrongArchitecture`], with those that run.
    pub fn find(name: &str) -> Result<&'static Self, Error> {
        let known = || ARCHITECTURES.map(|architecture| format!("{:?}", architecture.name)).join(", ");
        let found = ARCHITECTURES.into_iter().find(|architecture| architecture.name == name);
        found.ok_or_else(|| Error::WrongArchitecture { found: name.to_owned(), known: known() })
    }

    /// A metadata key of this family: `llama.block_count`.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }
}
