//! An answer on its way.

use std::time::Instant;

use adapter_host::worker::{LiveChoice, Stop};

/// An answer on its way.
pub(crate) struct Answering {
    pub id: u64,
    pub chat: String,
    pub message: String,
    pub stop: Stop,
    pub live: LiveChoice,
    /// Tokens of the prompt read so far, and in all.
    pub prompt: Option<(usize, usize)>,
    pub since: Instant,
    pub first: Option<Instant>,
    pub n_tokens: u32,
    /// Tokens that the message had before, when it is continued.
    pub before: u32,
    pub saved: Instant,
}

impl Answering {
    /// Tokens a second so far.
    pub fn speed(&self) -> Option<f64> {
        let seconds = self.first?.elapsed().as_secs_f64();
        (self.n_tokens > 1 && seconds > 0.2).then(|| f64::from(self.n_tokens - 1) / seconds)
    }
}
