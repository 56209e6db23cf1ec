//! The families that run, one row each. What differs between them stands here and nowhere else: the metadata are read under
//! the family's prefix ([`config`](super::config)), tensors are asked for by it ([`tensors`](super::tensors)).

use crate::Error;

/// What tells one family of decoders from another. All of them are pre-norm blocks of grouped attention with rotary positions
/// and a gated MLP (Touvron et al. 2023, arXiv:2302.13971).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// `general.architecture`, and the first part of its metadata keys.
    pub name: &'static str,
}

/// LLaMA 1, 2 and 3, TinyLlama, SmolLM2, Mistral.
pub const LLAMA: Architecture = Architecture { name: "llama" };

/// Every family that runs.
pub const ARCHITECTURES: [&Architecture; 1] = [&LLAMA];

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
