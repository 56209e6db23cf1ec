//! The vocabulary of a model: checked once, then read without further checks.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::{TextError, shown};

/// The most tokens a vocabulary may have. The largest in use have 262,144.
pub(super) const MAX_TOKENS: usize = 1 << 20;
/// The most merges. LLaMA 3 has 280,147.
pub(super) const MAX_MERGES: usize = 1 << 22;
/// The longest token in bytes. The longest in use have 512.
const MAX_TOKEN_BYTES: usize = 4096;
/// All tokens together in bytes. LLaMA 3 has 0.9 MB.
const MAX_VOCAB_BYTES: usize = 1 << 28;

/// What a model file says about its tokenizer, unchecked. [`super::Tokenizer::from_vocab`] checks it.
#[derive(Clone, Debug, Default)]
pub struct VocabSource {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece).
    pub model: String,
    /// `tokenizer.ggml.pre`: how text is split into words before BPE.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`: the text of each id.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`: the order of SentencePiece merges; empty means all 0.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`: 0 to 6 for each id; empty means all 1 (normal).
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`: pairs `left right`, the most urgent first.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`
    pub bos_id: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`
    pub eos_id: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`
    pub eot_id: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`
    pub eom_id: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`
    pub unk_id: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`
    pub pad_id: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.remove_extra_whitespaces`. llama.cpp reads it for other models than these two; so it has no effect.
    pub remove_extra_whitespaces: Option<bool>,
    /// `tokenizer.chat_template`: Jinja.
    pub chat_template: Option<String>,
}

/// What a token is for. The numbers in a file are given at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// 0: nothing is known; it has no text.
    Undefined,
    /// 1: ordinary text.
    Normal,
    /// 2: stands for text that cannot be spelled.
    Unknown,
    /// 3: steers the model, for instance `<|im_end|>`.
    Control,
    /// 4: matched as a whole in any text, before words are split.
    UserDefined,
    /// 5: left free; it has no text.
    Unused,
    /// 6: one byte, `<0x00>` to `<0xFF>`.
    Byte,
}

/// Whether control tokens are seen in decoded text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Control and unknown tokens have no text: what a person reads.
    TextOnly,
    /// They are written as in the vocabulary, `<|im_end|>`: what a developer reads.
    WithControl,
}

/// Which of the two families of tokenizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// `gpt2`
    Bpe,
    /// `llama`
    SentencePiece,
}

/// Ends of generation by name, from llama.cpp (`llama_vocab::impl::load`). Its order is that of a hash map; here the
/// first name present is the end of a turn where the file names none.
const END_OF_TURN: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
/// More names that end generation.
const END_OF_GENERATION: &[&str] = &["<|return|>", "<|call|>", "</s>", "<|eom_id|>", "[EOS]", "<eos>"];
/// Fill-in-the-middle tokens that end generation, in groups of which the first present counts.
const FILL_IN_ENDS: &[&[&str]] = &[
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];
/// Fill-in-the-middle tokens that are control tokens whatever type the file gives them.
const FILL_IN_CONTROL: &[&[&str]] = &[
    &["<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "▁<PRE>", "<|code_prefix|>", "<|prefix|>"],
    &["<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>"],
    &["<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "▁<MID>", "<|code_middle|>", "<|middle|>"],
];

/// The checked vocabulary.
#[derive(Debug)]
pub(super) struct Vocab {
    pub(super) family: Family,
    texts: Vec<Arc<str>>,
    kinds: Vec<TokenKind>,
    scores: Vec<f32>,
    ids: HashMap<Arc<str>, u32>,
    /// The bytes of all tokens one after the other, and where each begins (and the last ends).
    bytes: Vec<u8>,
    starts: Vec<u32>,
    end_of_generation: Vec<u32>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    pub(super) unk: Option<u32>,
    pub(super) pad: Option<u32>,
    pub(super) max_token_bytes: usize,
}

impl Vocab {
    /// Checks `source` and takes what is needed out of it. Merges are left for the BPE.
    ///
    /// # Errors
    /// Any inconsistency of the file, named with its figure.
    pub(super) fn new(source: &mut VocabSource) -> Result<Self, TextError> {
        let family = match source.model.as_str() {
            "gpt2" => Family::Bpe,
            "llama" => Family::SentencePiece,
            other => return Err(TextError::UnsupportedModel { model: shown(other) }),
        };
        let tokens = std::mem::take(&mut source.tokens);
        let n = tokens.len();
        check_limit("the number of tokens", n, 1, MAX_TOKENS)?;
        let vocab_size = n as u32; // <= MAX_TOKENS
        let kinds = token_kinds(&source.token_types, n)?;
        let scores = std::mem::take(&mut source.scores);
        if !scores.is_empty() && scores.len() != n {
            return Err(TextError::LengthMismatch { field: "scores", found: scores.len(), expected: n });
        }
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(TextError::Score { id: id as u32 });
        }

        let mut texts: Vec<Arc<str>> = Vec::with_capacity(n);
        let mut ids = HashMap::with_capacity(n);
        check_limit("the bytes of all tokens", tokens.iter().map(String::len).sum(), 1, MAX_VOCAB_BYTES)?;
        let mut max_token_bytes = 0;
        for (id, token) in tokens.into_iter().enumerate() {
            check_limit("the bytes of a token", token.len(), 1, MAX_TOKEN_BYTES)?;
            max_token_bytes = max_token_bytes.max(token.len());
            let text: Arc<str> = token.into();
            if let Some(first) = ids.insert(Arc::clone(&text), id as u32) {
                return Err(TextError::DuplicateToken { first, second: id as u32, text: shown(&text) });
            }
            texts.push(text);
        }

        // A SentencePiece file without these keys means 1, 2 and 0, as in llama.cpp.
        let default = |id: u32| (family == Family::SentencePiece && id < vocab_size).then_some(id);
        let check = |field: &'static str, id: Option<u32>, default: Option<u32>| match id {
            Some(id) if id >= vocab_size => Err(TextError::IdOutOfRange { field, id, vocab_size }),
            given => Ok(given.or(default)),
        };
        let bos = check("bos_token_id", source.bos_id, default(1))?;
        let eos = check("eos_token_id", source.eos_id, default(2))?;
        let eot = check("eot_token_id", source.eot_id, None)?;
        let eom = check("eom_token_id", source.eom_id, None)?;
        let unk = check("unknown_token_id", source.unk_id, default(0))?;
        let pad = check("padding_token_id", source.pad_id, None)?;

        let mut vocab = Self {
            family,
            texts,
            kinds,
            scores,
            ids,
            bytes: Vec::new(),
            starts: Vec::new(),
            end_of_generation: Vec::new(),
            bos,
            eos,
            eot,
            unk,
            pad,
            max_token_bytes,
        };
        vocab.find_ends(eom);
        vocab.spell_tokens()?;
        Ok(vocab)
    }

    /// Finds the tokens that end generation, and makes control tokens of those that are so by name.
    fn find_ends(&mut self, eom: Option<u32>) {
        let mut ends: Vec<u32> = Vec::new();
        for name in END_OF_TURN.iter().chain(END_OF_GENERATION) {
            if let Some(id) = self.make_control(name) {
                ends.push(id);
            }
        }
        for group in FILL_IN_ENDS {
            ends.extend(group.iter().find_map(|name| self.make_control(name)));
        }
        for group in FILL_IN_CONTROL {
            let _ = group.iter().find_map(|name| self.make_control(name));
        }
        if self.eot.is_none() {
            self.eot = END_OF_TURN.iter().find_map(|name| self.id(name));
        }
        ends.extend([self.eos, self.eot, eom].into_iter().flatten());
        ends.sort_unstable();
        ends.dedup();
        self.end_of_generation = ends;
    }

    fn make_control(&mut self, name: &str) -> Option<u32> {
        let id = self.id(name)?;
        if let Some(kind) = self.kinds.get_mut(id as usize) {
            *kind = TokenKind::Control;
        }
        Some(id)
    }

    /// Writes down the bytes that each token stands for.
    fn spell_tokens(&mut self) -> Result<(), TextError> {
        let byte_of_char = byte_of_char();
        self.starts.reserve(self.texts.len() + 1);
        self.starts.push(0);
        for (id, (text, kind)) in self.texts.iter().zip(&self.kinds).enumerate() {
            match kind {
                TokenKind::Unknown | TokenKind::Control | TokenKind::UserDefined => {
                    self.bytes.extend_from_slice(text.as_bytes());
                }
                TokenKind::Normal => match self.family {
                    Family::SentencePiece => self.bytes.extend_from_slice(text.replace('▁', " ").as_bytes()),
                    Family::Bpe => {
                        for c in text.chars() {
                            match byte_of_char.get(&c) {
                                Some(&byte) => self.bytes.push(byte),
                                // Outside the byte alphabet: no text encodes to it, but a model may still emit it.
                                None => self.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                            }
                        }
                    }
                },
                TokenKind::Byte => self.bytes.push(parse_byte_token(id as u32, text)?),
                TokenKind::Undefined | TokenKind::Unused => {}
            }
            self.starts.push(self.bytes.len() as u32); // <= MAX_VOCAB_BYTES
        }
        Ok(())
    }

    pub(super) fn len(&self) -> u32 {
        self.texts.len() as u32
    }

    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(|text| &**text)
    }

    pub(super) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// A score, 0 where the file gives none.
    pub(super) fn score(&self, id: u32) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or(0.0)
    }

    pub(super) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let (&start, &end) = (self.starts.get(id)?, self.starts.get(id + 1)?);
        self.bytes.get(start as usize..end as usize)
    }

    pub(super) fn is_end_of_generation(&self, id: u32) -> bool {
        self.end_of_generation.binary_search(&id).is_ok()
    }

    pub(super) fn end_of_generation(&self) -> &[u32] {
        &self.end_of_generation
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, TokenKind)> {
        self.texts.iter().zip(&self.kinds).enumerate().map(|(id, (text, &kind))| (id as u32, &**text, kind))
    }
}

/// `Ok` if `minimum <= found <= limit`.
pub(super) fn check_limit(field: &'static str, found: usize, minimum: usize, limit: usize) -> Result<(), TextError> {
    if (minimum..=limit).contains(&found) {
        return Ok(());
    }
    Err(TextError::Limit { field, found: found as u64, minimum: minimum as u64, limit: limit as u64 })
}

fn token_kinds(types: &[i32], n: usize) -> Result<Vec<TokenKind>, TextError> {
    if types.is_empty() {
        return Ok(vec![TokenKind::Normal; n]);
    }
    if types.len() != n {
        return Err(TextError::LengthMismatch { field: "token types", found: types.len(), expected: n });
    }
    let kind = |(id, &found): (usize, &i32)| match found {
        0 => Ok(TokenKind::Undefined),
        1 => Ok(TokenKind::Normal),
        2 => Ok(TokenKind::Unknown),
        3 => Ok(TokenKind::Control),
        4 => Ok(TokenKind::UserDefined),
        5 => Ok(TokenKind::Unused),
        6 => Ok(TokenKind::Byte),
        _ => Err(TextError::TokenType { id: id as u32, found }),
    };
    types.iter().enumerate().map(kind).collect()
}

/// The byte of `<0xHH>`. Exactly two hexadecimal digits: `<0x-1>` made llama.cpp write out of bounds (PR 25969).
fn parse_byte_token(id: u32, text: &str) -> Result<u8, TextError> {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits
        .filter(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        .ok_or_else(|| TextError::ByteToken { id, text: shown(text) })
}

/// The alphabet of byte-level BPE, as in GPT-2 (`encoder.py`, `bytes_to_unicode`): the character that stands for each byte in a
/// vocabulary. Printable bytes stand for themselves, the other 68 for U+0100 upwards in order.
#[must_use]
pub fn byte_alphabet() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            return char::from(byte);
        }
        let c = char::from_u32(next).unwrap_or(char::REPLACEMENT_CHARACTER);
        next += 1;
        c
    })
}

fn byte_of_char() -> HashMap<char, u8> {
    (0..=255).zip(byte_alphabet()).map(|(byte, c)| (c, byte)).collect()
}
