//! Texts side by side, and which of their tokens are targets.

use crate::Error;

/// Texts side by side and which of their tokens are targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[T]`
    ids: Vec<u32>,
    /// `[T]`, the first token of each token's text.
    starts: Vec<u32>,
    /// Rows that predict a trained token.
    rows: Vec<u32>,
    /// The tokens they should predict.
    targets: Vec<u32>,
}

impl Batch {
    /// Adds a text: its ids, and for each whether the model shall learn to say it. The first token has nothing before it and
    /// is never a target.
    pub fn push(&mut self, ids: &[u32], trained: &[bool]) {
        let start = self.ids.len() as u32;
        self.ids.extend_from_slice(ids);
        self.starts.extend(std::iter::repeat_n(start, ids.len()));
        for (t, (id, trained)) in ids.iter().zip(trained).enumerate().skip(1) {
            if *trained {
                self.rows.push(start + t as u32 - 1);
                self.targets.push(*id);
            }
        }
    }

    /// T: tokens of all texts.
    pub fn n_tokens(&self) -> u32 {
        self.ids.len() as u32
    }

    /// Target tokens.
    pub fn n_targets(&self) -> u32 {
        self.targets.len() as u32
    }

    /// `[T]`
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// `[T]`: for each token the first token of its text.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Tokens whose output predicts a target token; ascending.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The tokens that [`Self::rows`] should predict.
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// Whether a step of at most `max_tokens` tokens can learn from it.
    ///
    /// # Errors
    /// No target, more tokens than `max_tokens`, or an id that is not below `n_vocab`.
    pub fn check(&self, max_tokens: u32, n_vocab: u32) -> Result<(), Error> {
        if self.targets.is_empty() {
            return Err(Error::NothingToLearn { n_tokens: self.n_tokens() });
        }
        if self.n_tokens() > max_tokens {
            return Err(Error::BatchTooLarge { n_tokens: self.n_tokens(), max_tokens });
        }
        match self.ids.iter().find(|id| **id >= n_vocab) {
            Some(id) => Err(Error::TokenOutOfRange { id: *id, n_vocab }),
            None => Ok(()),
        }
    }
}
