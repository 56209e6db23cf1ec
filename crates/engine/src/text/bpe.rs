//! Byte-level BPE: words of mapped bytes, merged by the `tokenizers` crate.

use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Merges, Vocab as BpeVocab};

use super::error::{TextError, shown};
use super::pre_tokenizer::PreTokenizer;
use super::vocab::{MAX_MERGES, TokenKind, Vocab, byte_alphabet, check_limit};

/// Byte-level BPE over a checked vocabulary.
pub(super) struct ByteLevelBpe {
    pre_tokenizer: PreTokenizer,
    bpe: BPE,
    /// The character that stands for each byte, if the vocabulary has it as a token.
    alphabet: Box<[Option<char>; 256]>,
}

impl ByteLevelBpe {
    pub(super) fn new(vocab: &Vocab, pre: Option<&str>, merges: &[String]) -> Result<Self, TextError> {
        let pre_tokenizer = PreTokenizer::from_name(pre)?;
        check_limit("the number of merges", merges.len(), 0, MAX_MERGES)?;
        // Control tokens stay out: whatever the merges say, words cannot join to one.
        let is_text = |kind: TokenKind| !matches!(kind, TokenKind::Control | TokenKind::Unknown);
        let texts: BpeVocab =
            vocab.iter().filter(|&(_, _, kind)| is_text(kind)).map(|(id, text, _)| (text.to_owned(), id)).collect();

        let mut pairs: Merges = Vec::with_capacity(merges.len());
        for (index, merge) in merges.iter().enumerate() {
            // From the second byte on, as in llama.cpp: the first part may begin with a space in other vocabularies.
            let space = merge.bytes().skip(1).position(|b| b == b' ').map(|at| at + 1);
            let parts = space.and_then(|at| Some((merge.get(..at)?, merge.get(at + 1..)?)));
            let Some((left, right)) = parts.filter(|(_, right)| !right.is_empty()) else {
                return Err(TextError::Merge { index, merge: shown(merge) });
            };
            // llama.cpp ignores merges of or into texts that are no tokens; the builder would refuse the vocabulary.
            if texts.contains_key(left) && texts.contains_key(right) && texts.contains_key(&format!("{left}{right}")) {
                pairs.push((left.to_owned(), right.to_owned()));
            }
        }
        let mut alphabet = Box::new(byte_alphabet().map(Some));
        for slot in alphabet.iter_mut() {
            *slot = slot.filter(|c| texts.contains_key(c.encode_utf8(&mut [0; 4]) as &str));
        }
        let bpe = BPE::builder()
            .vocab_and_merges(texts, pairs)
            .ignore_merges(pre_tokenizer.ignore_merges)
            // Its cache lives in the thread, not in the model, and would outlive it.
            .cache_capacity(0)
            .build()
            .map_err(|error| TextError::Backend(error.to_string()))?;
        Ok(Self { pre_tokenizer, bpe, alphabet })
    }

    pub(super) fn add_bos(&self) -> bool {
        self.pre_tokenizer.add_bos
    }

    /// Appends the ids of `text`.
    ///
    /// Bytes that the vocabulary cannot spell are left out, as in llama.cpp (SmolLM2 lacks eight that occur in UTF-8).
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let mut mapped = String::new();
        for word in self.pre_tokenizer.split(text) {
            mapped.clear();
            for byte in word.bytes() {
                match self.alphabet[usize::from(byte)] {
                    Some(c) => mapped.push(c),
                    // Its neighbours must not merge across it.
                    None => {
                        self.merge(&mapped, ids)?;
                        mapped.clear();
                    }
                }
            }
            self.merge(&mapped, ids)?;
        }
        Ok(())
    }

    fn merge(&self, mapped: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let tokens = self.bpe.tokenize(mapped).map_err(|error| TextError::Backend(error.to_string()))?;
        ids.extend(tokens.iter().map(|token| token.id));
        Ok(())
    }
}

impl std::fmt::Debug for ByteLevelBpe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByteLevelBpe").field("pre_tokenizer", &self.pre_tokenizer).finish_non_exhaustive()
    }
}
