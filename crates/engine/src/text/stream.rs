//! Token ids to text, piece by piece as they come.

use std::borrow::Cow;

use super::error::TextError;
use super::tokenizer::Tokenizer;
use super::vocab::{Shown, TokenKind};

/// The most stop strings.
const MAX_STOPS: usize = 64;
/// The longest stop string in bytes.
const MAX_STOP_BYTES: usize = 1024;

/// Turns ids into pieces of text that can be shown at once and never have to be taken back.
///
/// - A character whose bytes come in several tokens is held back until it is whole; bytes that are not UTF-8 become
///   U+FFFD in the same places as in [`String::from_utf8_lossy`] of everything.
/// - What may be the beginning of a stop string is held back; a stop string is never shown, not even in part.
/// - The space that SentencePiece puts before a text is taken away again.
///
/// All pieces of [`push`](Self::push) and [`finish`](Self::finish) joined are the whole text, up to the first stop.
#[derive(Clone, Debug)]
pub struct TextStream {
    shown: Shown,
    stops: Vec<String>,
    /// Bytes of a character that is not whole yet, at most three.
    partial: Vec<u8>,
    /// Text that may be the beginning of a stop string.
    held: String,
    strip_space: bool,
    stopped: bool,
}

impl TextStream {
    /// A stream for the beginning of a text or of an answer.
    ///
    /// # Errors
    /// If there are more than 64 stop strings, or one is empty or longer than 1,024 bytes.
    pub fn new(tokenizer: &Tokenizer, shown: Shown, stops: &[&str]) -> Result<Self, TextError> {
        if stops.len() > MAX_STOPS {
            return Err(TextError::StopStrings { what: "strings", found: stops.len(), limit: MAX_STOPS });
        }
        if let Some(stop) = stops.iter().find(|stop| !(1..=MAX_STOP_BYTES).contains(&stop.len())) {
            return Err(TextError::StopStrings { what: "bytes in one", found: stop.len(), limit: MAX_STOP_BYTES });
        }
        Ok(Self {
            shown,
            stops: stops.iter().map(|&stop| stop.to_owned()).collect(),
            partial: Vec::new(),
            held: String::new(),
            strip_space: tokenizer.add_space_prefix(),
            stopped: false,
        })
    }

    /// Takes the next token; returns what can be shown now, often nothing.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, TextError> {
        let mut bytes = tokenizer.token_bytes(id)?;
        let is_control = matches!(tokenizer.token_kind(id)?, TokenKind::Control | TokenKind::Unknown);
        if self.stopped || (is_control && self.shown == Shown::TextOnly) {
            return Ok(String::new());
        }
        if !bytes.is_empty() && std::mem::take(&mut self.strip_space) {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.partial.extend_from_slice(bytes);
        let (text, rest) = decode_whole_characters(&self.partial);
        let (text, rest) = (text.into_owned(), rest.to_vec());
        self.partial = rest;
        Ok(self.hold_stops(text))
    }

    /// Ends the text; returns what was held back.
    pub fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        let rest = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned();
        let mut text = self.hold_stops(rest);
        text.push_str(&std::mem::take(&mut self.held));
        text
    }

    /// Whether a stop string was reached: nothing more will be shown.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Adds `text` to what is held and returns what can be no part of a stop string.
    fn hold_stops(&mut self, text: String) -> String {
        if self.stops.is_empty() {
            return text;
        }
        self.held.push_str(&text);
        // The stop that is complete first counts, so that the result does not depend on how the text is cut into tokens.
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str()).map(|at| (at + stop.len(), at)));
        if let Some((_, at)) = first.min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }
}

/// Length of the longest end of `text` that is a beginning of `stop`, but not all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    let fits = |&len: &usize| stop.is_char_boundary(len) && text.as_bytes().ends_with(&stop.as_bytes()[..len]);
    (1..=longest).rev().find(fits).unwrap_or(0)
}

/// The text of all bytes but those of an unfinished character at the end, which are returned.
fn decode_whole_characters(bytes: &[u8]) -> (Cow<'_, str>, &[u8]) {
    let unfinished = match bytes.utf8_chunks().last() {
        // An error that more bytes could mend: the longest beginning of a character that is one.
        Some(chunk) if is_beginning(chunk.invalid()) => chunk.invalid().len(),
        _ => 0,
    };
    let (whole, rest) = bytes.split_at(bytes.len() - unfinished);
    (String::from_utf8_lossy(whole), rest)
}

/// Whether `bytes` are the beginning of a UTF-8 character, but not all of it.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// The text of `ids`, as [`TextStream`] would give it.
///
/// # Errors
/// If one of them is no token.
pub fn decode(tokenizer: &Tokenizer, ids: &[u32], shown: Shown) -> Result<String, TextError> {
    let mut stream = TextStream::new(tokenizer, shown, &[])?;
    let mut text = String::new();
    for &id in ids {
        text.push_str(&stream.push(tokenizer, id)?);
    }
    text.push_str(&stream.finish());
    Ok(text)
}
