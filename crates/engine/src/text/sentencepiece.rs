//! SentencePiece BPE as llama.cpp does it (`llm_tokenizer_spm_session`): of all neighbours whose texts join to a token,
//! the pair with the best score is joined first, the leftmost of equals; what stays no token is written as bytes.
//!
//! A merge list for a rank-based BPE, derived from the scores, would not be the same: there both halves must be tokens
//! and equal scores have an order.

use std::collections::BinaryHeap;

use super::error::TextError;
use super::vocab::{TokenKind, Vocab};

const NONE: u32 = u32::MAX;

/// What SentencePiece needs besides the vocabulary: the token of each byte.
#[derive(Debug)]
pub(super) struct SentencePiece {
    byte_ids: Box<[u32; 256]>,
}

/// A stretch of text in a linked list; a merged-away symbol has length 0.
struct Symbol {
    start: u32,
    len: u32,
    prev: u32,
    next: u32,
}

/// Two neighbours that join to a token. The greatest is joined first.
struct Pair {
    score: f32,
    left: u32,
    right: u32,
    /// Length when the pair was found; another length now means that one side has changed.
    len: u32,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}
impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Pair {}

impl SentencePiece {
    /// Finds the byte tokens; a byte without one is written as the token of that character, else as the unknown token.
    ///
    /// # Errors
    /// If some byte could not be written at all.
    pub(super) fn new(vocab: &Vocab) -> Result<Self, TextError> {
        let mut byte_ids = Box::new([NONE; 256]);
        let mut missing = 0;
        for (byte, slot) in (0..=255_u8).zip(byte_ids.iter_mut()) {
            let by_name = vocab.id(&format!("<0x{byte:02X}>"));
            // Only a byte or a plain token: text must never become a control token.
            let usable = |id: &u32| matches!(vocab.kind(*id), Some(TokenKind::Byte | TokenKind::Normal));
            let by_text = || byte.is_ascii().then(|| vocab.id(char::from(byte).encode_utf8(&mut [0; 4]))).flatten();
            match by_name.filter(usable).or_else(|| by_text().filter(usable)).or(vocab.unk) {
                Some(id) => *slot = id,
                None => missing += 1,
            }
        }
        if missing > 0 {
            return Err(TextError::MissingByteTokens { missing });
        }
        Ok(Self { byte_ids })
    }

    /// Appends the ids of `text`, in which `▁` already stands for spaces. O(n log n) for n characters.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let index = symbols.len() as u32;
            let prev = index.checked_sub(1).unwrap_or(NONE);
            symbols.push(Symbol { start: start as u32, len: c.len_utf8() as u32, prev, next: index + 1 });
        }
        let Some(last) = symbols.last_mut() else { return };
        last.next = NONE;

        let mut queue = BinaryHeap::new();
        for right in 1..symbols.len() as u32 {
            queue.extend(pair(vocab, text, &symbols, right - 1, right));
        }
        while let Some(Pair { left, right, len, .. }) = queue.pop() {
            let (l, r) = (&symbols[left as usize], &symbols[right as usize]);
            if l.len == 0 || r.len == 0 || l.len + r.len != len {
                continue;
            }
            let (prev, next) = (l.prev, r.next);
            symbols[left as usize].len = len;
            symbols[left as usize].next = next;
            symbols[right as usize].len = 0;
            if next != NONE {
                symbols[next as usize].prev = left;
            }
            queue.extend(pair(vocab, text, &symbols, prev, left));
            queue.extend(pair(vocab, text, &symbols, left, next));
        }

        let mut at = 0;
        while at != NONE {
            let symbol = &symbols[at as usize];
            let piece = &text[symbol.start as usize..(symbol.start + symbol.len) as usize];
            match token_of(vocab, piece) {
                Some(id) => ids.push(id),
                None => ids.extend(piece.bytes().map(|byte| self.byte_ids[usize::from(byte)])),
            }
            at = symbol.next;
        }
    }
}

/// The pair (left, right) if both exist and join to a token.
fn pair(vocab: &Vocab, text: &str, symbols: &[Symbol], left: u32, right: u32) -> Option<Pair> {
    if left == NONE || right == NONE {
        return None;
    }
    let (l, r) = (&symbols[left as usize], &symbols[right as usize]);
    let len = l.len + r.len;
    if len as usize > vocab.max_token_bytes {
        return None;
    }
    let id = token_of(vocab, &text[l.start as usize..(l.start + len) as usize])?;
    Some(Pair { score: vocab.score(id), left, right, len })
}

/// The token with this text, unless it is a control token.
///
/// llama.cpp would join `</s>` from its letters if merges led there; in LLaMA's vocabularies none do. Here text cannot
/// become a control token whatever the vocabulary.
fn token_of(vocab: &Vocab, text: &str) -> Option<u32> {
    vocab.id(text).filter(|&id| !matches!(vocab.kind(id), Some(TokenKind::Control | TokenKind::Unknown)))
}
