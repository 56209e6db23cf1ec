//! Finding tokens that are matched as a whole (control and user-defined ones) in a text.

use std::collections::HashMap;
use std::ops::Range;

use super::error::TextError;
use super::vocab::{TokenKind, Vocab, check_limit};

/// The longest token that is matched as a whole, in bytes. The longest in use have about 60.
const MAX_SPECIAL_BYTES: usize = 512;
/// How many occurrences one text may have before overlaps are resolved; keeps memory below 128 MiB for a vocabulary in
/// which each special token begins another.
const MAX_OCCURRENCES: usize = 1 << 23;

/// A trie over the texts of special tokens: one walk of the text finds all of them, however many there are.
#[derive(Debug, Default)]
pub(super) struct SpecialTokens {
    /// (node, byte) to node; the root is 0.
    edges: HashMap<(u32, u8), u32>,
    /// The token whose text ends at a node.
    ends: Vec<Option<(u32, bool)>>,
}

/// A special token in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Occurrence {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) id: u32,
}

impl SpecialTokens {
    pub(super) fn new(vocab: &Vocab) -> Result<Self, TextError> {
        let mut trie = Self { edges: HashMap::new(), ends: vec![None] };
        for (id, text, kind) in vocab.iter() {
            let anywhere = match kind {
                TokenKind::UserDefined => true,
                TokenKind::Control | TokenKind::Unknown => false,
                _ => continue,
            };
            check_limit("the bytes of a special token", text.len(), 1, MAX_SPECIAL_BYTES)?;
            let mut node = 0;
            for byte in text.bytes() {
                let new = trie.ends.len() as u32;
                node = *trie.edges.entry((node, byte)).or_insert(new);
                if node == new {
                    trie.ends.push(None);
                }
            }
            if let Some(end) = trie.ends.get_mut(node as usize) {
                *end = Some((id, anywhere));
            }
        }
        Ok(trie)
    }

    /// The special tokens of `text` in order. User-defined tokens count anywhere, control and unknown tokens only where
    /// they lie within one of `trusted` (ascending, disjoint; adjacent ranges count as one).
    ///
    /// As in llama.cpp (`tokenizer_st_partition`) the longest token takes its place first, wherever it stands.
    pub(super) fn find(&self, text: &str, trusted: &[Range<usize>]) -> Result<Vec<Occurrence>, TextError> {
        let bytes = text.as_bytes();
        let mut found = Vec::new();
        let mut trusted_ranges = trusted.iter().peekable();
        for start in 0..bytes.len() {
            while trusted_ranges.next_if(|range| range.end <= start).is_some() {}
            let trusted_end =
                trusted_ranges.peek().filter(|range| range.start <= start).map_or(start, |range| range.end);
            let mut node = 0;
            for (end, &byte) in bytes.iter().enumerate().skip(start) {
                let Some(&next) = self.edges.get(&(node, byte)) else { break };
                node = next;
                let Some(&Some((id, anywhere))) = self.ends.get(node as usize) else { continue };
                if anywhere || end < trusted_end {
                    found.push(Occurrence { start, end: end + 1, id });
                }
            }
            if found.len() > MAX_OCCURRENCES {
                let limit = MAX_OCCURRENCES as u64;
                let field = "the number of overlapping special tokens in one text";
                return Err(TextError::Limit { field, found: found.len() as u64, minimum: 0, limit });
            }
        }
        Ok(without_overlaps(found, bytes.len()))
    }
}

/// Keeps the longest, then the lowest id, then the leftmost, and drops what overlaps one that is kept.
fn without_overlaps(mut found: Vec<Occurrence>, len: usize) -> Vec<Occurrence> {
    if found.windows(2).all(|pair| pair[0].end <= pair[1].start) {
        return found;
    }
    found.sort_unstable_by_key(|o| (std::cmp::Reverse(o.end - o.start), o.id, o.start));
    // Kept ones are never longer than those kept before, so one that overlaps them covers a taken first or last byte.
    let mut taken = vec![false; len];
    found.retain(|o| {
        let free = !taken[o.start] && !taken[o.end - 1];
        if free {
            taken[o.start..o.end].fill(true);
        }
        free
    });
    found.sort_unstable_by_key(|o| o.start);
    found
}
