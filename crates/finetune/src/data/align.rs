//! Where in a text each of its tokens begins.
//!
//! The tokenizer works on a whole chat, so that words and merges run over the seams as they do when the model is used;
//! which tokens belong to the answer is then a question of bytes.

use adapter_engine::text::{TokenKind, Tokenizer, byte_alphabet};

/// SentencePiece's sign for a space.
const SPACE_SIGN: &[u8] = "▁".as_bytes();

/// What has to be known of a tokenizer.
#[derive(Debug)]
pub(super) struct Aligner {
    /// Bytes that byte-level BPE leaves out, as its vocabulary cannot spell them.
    left_out: Box<[bool; 256]>,
}

impl Aligner {
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let mut left_out = Box::new([true; 256]);
        for (sign, slot) in byte_alphabet().into_iter().zip(left_out.iter_mut()) {
            let id = tokenizer.id_of(sign.encode_utf8(&mut [0; 4]));
            let kind = id.and_then(|id| tokenizer.token_kind(id).ok());
            *slot = matches!(kind, None | Some(TokenKind::Control | TokenKind::Unknown));
        }
        Self { left_out }
    }

    /// The byte of `text` at which each of `ids` begins; `None` if `ids` do not spell `text`.
    pub(super) fn starts(&self, tokenizer: &Tokenizer, ids: &[u32], text: &str) -> Option<Vec<usize>> {
        let text = text.as_bytes();
        let mut starts = Vec::with_capacity(ids.len());
        let mut at = 0;
        // SentencePiece puts a space that is not in the text before each stretch between special tokens.
        let mut added_space = tokenizer.add_space_prefix();
        for id in ids {
            let bytes = tokenizer.token_bytes(*id).ok()?;
            let kind = tokenizer.token_kind(*id).ok()?;
            if matches!(kind, TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined) {
                let start = self.skip(text, at, |rest| rest.starts_with(bytes));
                if let Some(start) = start {
                    starts.push(start);
                    at = start + bytes.len();
                    added_space = tokenizer.add_space_prefix();
                    continue;
                }
                if kind == TokenKind::Unknown {
                    // SentencePiece without byte tokens: one for each byte.
                    starts.push(at);
                    at += 1;
                    continue;
                }
            }
            let bytes = match bytes.strip_prefix(b" ") {
                Some(rest) if added_space => rest,
                _ => bytes,
            };
            added_space = false;
            at = match bytes {
                [] => at,
                bytes => self.skip(text, at, |rest| spelled(bytes, rest).is_some())?,
            };
            starts.push(at);
            at += spelled(bytes, text.get(at..)?)?;
        }
        let rest = text.get(at..)?;
        (!self.spells(rest)).then_some(starts)
    }

    /// Whether a token stands for one of these bytes.
    pub(super) fn spells(&self, bytes: &[u8]) -> bool {
        bytes.iter().any(|byte| !self.left_out[usize::from(*byte)])
    }

    /// The first place from `at` on that `fits`, passing over nothing but bytes that are left out.
    fn skip(&self, text: &[u8], mut at: usize, fits: impl Fn(&[u8]) -> bool) -> Option<usize> {
        loop {
            let rest = text.get(at..)?;
            if fits(rest) {
                return Some(at);
            }
            if !self.left_out[usize::from(*rest.first()?)] {
                return None;
            }
            at += 1;
        }
    }
}

/// How many bytes of `text` a token with these bytes stands for; SentencePiece takes `▁` and a space for the same.
fn spelled(mut token: &[u8], text: &[u8]) -> Option<usize> {
    let mut rest = text;
    while let [first, after @ ..] = token {
        match rest.split_first() {
            Some((byte, tail)) if byte == first => (token, rest) = (after, tail),
            Some((b' ', tail)) if token.starts_with(SPACE_SIGN) => {
                (token, rest) = (token.get(SPACE_SIGN.len()..)?, tail);
            }
            _ if *first == b' ' => (token, rest) = (after, rest.strip_prefix(SPACE_SIGN)?),
            _ => return None,
        }
    }
    Some(text.len() - rest.len())
}
