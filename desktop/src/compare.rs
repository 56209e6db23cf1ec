//! The same question to the model alone and to the model with its adapter.

use adapter_host::Problem;

use crate::diff;
use adapter_host::worker::{Answered, Stop};

/// One of the two answers.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub text: String,
    pub n_tokens: u32,
    pub answered: Option<Answered>,
    /// An error broke it off.
    pub failed: bool,
}

/// A comparison.
#[derive(Debug, Default)]
pub struct Compare {
    sides: [Side; 2],
    running: Option<([u64; 2], Stop)>,
    /// The adapter and its strength, in words.
    adapter: String,
}

impl Compare {
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn begin(&mut self, ids: [u64; 2], stop: Stop, adapter: String) {
        (self.sides, self.adapter) = (Default::default(), adapter);
        self.running = Some((ids, stop));
    }

    /// The answers of the model alone and with the adapter.
    pub(crate) fn sides(&self) -> &[Side; 2] {
        &self.sides
    }

    /// The adapter of the last comparison and its strength; empty before the first.
    pub(crate) fn adapter(&self) -> &str {
        &self.adapter
    }

    /// Which side an answer is.
    fn side(&self, id: u64) -> Option<usize> {
        self.running.as_ref().and_then(|(ids, _)| ids.iter().position(|known| *known == id))
    }

    pub(crate) fn owns(&self, id: u64) -> bool {
        self.side(id).is_some()
    }

    pub(crate) fn piece(&mut self, id: u64, text: &str, n_tokens: u32) -> bool {
        let Some(side) = self.side(id) else { return false };
        self.sides[side].text.push_str(text);
        self.sides[side].n_tokens = n_tokens;
        true
    }

    pub(crate) fn answered(&mut self, id: u64, outcome: Result<Answered, Problem>) {
        let Some(side) = self.side(id) else { return };
        match outcome {
            Ok(answered) => self.sides[side].answered = Some(answered),
            Err(_) => {
                self.sides[side].failed = true;
                self.stop();
            }
        }
        if side == 1 {
            self.running = None;
        }
    }

    pub(crate) fn failed(&mut self, _problem: &Problem) {
        self.running = None;
    }

    /// Ends both answers.
    pub(crate) fn stop(&mut self) {
        if let Some((_, stop)) = &self.running {
            stop.stop();
        }
    }

    /// Both answers.
    #[doc(hidden)]
    #[must_use]
    pub fn texts(&self) -> [&str; 2] {
        self.sides.each_ref().map(|side| side.text.as_str())
    }

    /// Words of the first answer, and of the second, that the other lacks.
    #[doc(hidden)]
    #[must_use]
    pub fn differing(&self) -> [usize; 2] {
        let (left, right) = diff::compare(&self.sides[0].text, &self.sides[1].text);
        [left, right].map(|side| side.iter().filter(|(_, differs)| *differs).count())
    }
}
