//! Examples as tokens, one after the other in memory.

use adapter_engine::text::{Shown, TextError, TextStream, TokenKind, Tokenizer};
use serde::Serialize;

use super::split::Hash;

/// A row as the model sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The ids of [`encode_chat`](adapter_engine::text::encode_chat) for the whole chat, cut to the most tokens.
    pub ids: Vec<u32>,
    /// Which of them are target tokens: those that the loss counts.
    pub trained: Vec<bool>,
    /// Tokens that were cut off.
    pub cut: usize,
    /// The prompt that the model will be asked with has other tokens than what stands before the answer here: the tokenizer
    /// joins or parts letters there, or the template writes a chat with more answers in another way than their prompts.
    /// A token that begins in the prompt is no target: the model never has to say it.
    pub unlike_prompt: bool,
    /// The template writes no token after the last answer by which the model could learn to end.
    pub without_end: bool,
    /// A control token, of this vocabulary or of a usual template, is spelled as letters in it.
    pub markup: bool,
}

/// One side of a data set, ready to be trained or measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examples {
    ids: Vec<u32>,
    trained: Vec<bool>,
    /// Where each example ends.
    ends: Vec<usize>,
}

/// One example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// Which of them are target tokens; never the first.
    pub trained: &'a [bool],
}

/// An example to be shown to a person. The texts come from the data: show them through
/// [`TerminalSanitizer`](adapter_engine::text::TerminalSanitizer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Its number among the examples, from 0.
    pub row: u64,
    /// Its tokens.
    pub tokens: Vec<SampleToken>,
}

/// A token to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SampleToken {
    /// Its id.
    pub id: u32,
    /// Its text; control tokens are written as in the vocabulary. A character of several tokens is the last one's.
    pub text: String,
    /// Whether it is a target token.
    pub trained: bool,
    /// Whether it is a control token, not letters that look like one.
    pub control: bool,
}

impl Examples {
    /// Adds an example.
    pub fn push(&mut self, encoded: &Encoded) {
        let len = encoded.ids.len().min(encoded.trained.len());
        self.ids.extend(encoded.ids.iter().take(len));
        self.trained.extend(encoded.trained.iter().take(len));
        self.ends.push(self.ids.len());
    }

    /// Number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Example `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Example<'_>> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        Some(Example { ids: self.ids.get(start..end)?, trained: self.trained.get(start..end)? })
    }

    /// All examples in order.
    pub fn iter(&self) -> impl Iterator<Item = Example<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Tokens of all examples.
    #[must_use]
    pub fn n_tokens(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Target tokens.
    #[must_use]
    pub fn n_trained(&self) -> u64 {
        self.trained.iter().filter(|trained| **trained).count() as u64
    }

    /// A number that differs if any token, mask or border differs: kept in a checkpoint, it shows whether training would
    /// go on with other data.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Hash::new();
        for example in self.iter() {
            hash.bytes(&(example.ids.len() as u64).to_le_bytes());
            for (id, trained) in example.ids.iter().zip(example.trained) {
                hash.bytes(&id.to_le_bytes());
                hash.bytes(&[u8::from(*trained)]);
            }
        }
        hash.finish()
    }

    /// The first `n` examples as they are trained, to be shown.
    ///
    /// # Errors
    /// If the ids are not those of `tokenizer`.
    pub fn show_sample(&self, tokenizer: &Tokenizer, n: usize) -> Result<Vec<Sample>, TextError> {
        let mut samples = Vec::new();
        for (row, example) in self.iter().take(n).enumerate() {
            let mut stream = TextStream::new(tokenizer, Shown::WithControl, &[])?;
            let mut tokens = Vec::with_capacity(example.ids.len());
            for (id, trained) in example.ids.iter().zip(example.trained) {
                let text = stream.push(tokenizer, *id)?;
                let control = matches!(tokenizer.token_kind(*id)?, TokenKind::Control | TokenKind::Unknown);
                tokens.push(SampleToken { id: *id, text, trained: *trained, control });
            }
            if let Some(last) = tokens.last_mut() {
                last.text.push_str(&stream.finish());
            }
            samples.push(Sample { row: row as u64, tokens });
        }
        Ok(samples)
    }
}
