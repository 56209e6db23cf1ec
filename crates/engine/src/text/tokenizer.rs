//! Text to token ids as llama.cpp does it, and ids back to bytes.

use std::ops::Range;

use super::bpe::ByteLevelBpe;
use super::error::TextError;
use super::sentencepiece::SentencePiece;
use super::special::SpecialTokens;
use super::vocab::{Family, TokenKind, Vocab, VocabSource};

/// The longest text of one call, in bytes.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// Whether control tokens written out in a text count as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `<|im_end|>` becomes the control token: for text of a chat template only.
    Parse,
    /// `<|im_end|>` stays the ten characters it is: for text of people, data sets and files.
    AsText,
}

/// A stretch of text and who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The text.
    pub text: &'a str,
    /// Whether its control tokens count.
    pub special: Special,
}

/// A tokenizer, built from the metadata of a model file.
///
/// Ids agree with llama.cpp's `llama_tokenize` for the families `gpt2` (byte-level BPE) and `llama` (SentencePiece).
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    model: Model,
    special: SpecialTokens,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
    chat_template: Option<String>,
}

#[derive(Debug)]
enum Model {
    Bpe(Box<ByteLevelBpe>),
    SentencePiece(SentencePiece),
}

impl Tokenizer {
    /// Checks a vocabulary and builds the tokenizer.
    ///
    /// # Errors
    /// Whatever is inconsistent or unknown in it: see [`TextError`].
    pub fn from_vocab(mut source: VocabSource) -> Result<Self, TextError> {
        let vocab = Vocab::new(&mut source)?;
        let (model, default_bos, default_prefix) = match vocab.family {
            Family::Bpe => {
                let bpe = ByteLevelBpe::new(&vocab, source.pre.as_deref(), &source.merges)?;
                let add_bos = bpe.add_bos();
                (Model::Bpe(Box::new(bpe)), add_bos, false)
            }
            Family::SentencePiece => (Model::SentencePiece(SentencePiece::new(&vocab)?), true, true),
        };
        let special = SpecialTokens::new(&vocab)?;
        let flag = |set: Option<bool>, default: bool, id: Option<u32>, flag, missing| match (set, id) {
            (Some(true), None) => Err(TextError::MissingSpecial { flag, missing }),
            (set, id) => Ok(set.unwrap_or(default) && id.is_some()),
        };
        let add_bos = flag(source.add_bos, default_bos, vocab.bos, "add_bos_token", "bos_token_id")?;
        let add_eos = flag(source.add_eos, false, vocab.eos, "add_eos_token", "eos_token_id")?;
        // Byte-level BPE has no use for it: SmolLM2's file says false, and llama.cpp never looks.
        let add_space_prefix = default_prefix && source.add_space_prefix.unwrap_or(true);
        let chat_template = source.chat_template;
        Ok(Self { vocab, model, special, add_bos, add_eos, add_space_prefix, chat_template })
    }

    /// The ids of `text`, without begin and end tokens.
    ///
    /// # Errors
    /// If the text is longer than 16 MiB.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TextError> {
        self.encode_parts(&[Part { text, special }])
    }

    /// The ids of parts that follow each other, as if they were one text.
    ///
    /// The parts are tokenized together, so words and merges run over the seams as they do in llama.cpp; only control
    /// tokens are looked for in the parts that may hold them, and never across into one that may not. If no part of
    /// [`Special::AsText`] holds the text of a control token, the ids are exactly those of the joined text.
    ///
    /// # Errors
    /// If the parts are together longer than 16 MiB.
    pub fn encode_parts(&self, parts: &[Part<'_>]) -> Result<Vec<u32>, TextError> {
        let mut text = String::new();
        let mut trusted: Vec<Range<usize>> = Vec::new();
        for part in parts {
            let start = text.len();
            text.push_str(part.text);
            if part.special == Special::Parse {
                match trusted.last_mut().filter(|last| last.end == start) {
                    Some(last) => last.end = text.len(),
                    None => trusted.push(start..text.len()),
                }
            }
        }
        if text.len() > MAX_TEXT_BYTES {
            return Err(TextError::TextTooLong { bytes: text.len(), limit: MAX_TEXT_BYTES });
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        let mut at = 0;
        for found in self.special.find(&text, &trusted)? {
            self.encode_between(&text[at..found.start], at, &mut ids)?;
            ids.push(found.id);
            at = found.end;
        }
        self.encode_between(&text[at..], at, &mut ids)?;
        Ok(ids)
    }

    /// The ids of text between special tokens.
    fn encode_between(&self, text: &str, at: usize, ids: &mut Vec<u32>) -> Result<(), TextError> {
        if text.is_empty() {
            return Ok(());
        }
        match &self.model {
            Model::Bpe(bpe) => bpe.encode(text, ids),
            Model::SentencePiece(model) => {
                // Text always begins here, or after a special token: there are no two stretches of text in a row.
                debug_assert!(at == 0 || !ids.is_empty());
                let prefix = if self.add_space_prefix { "▁" } else { "" };
                model.encode(&self.vocab, &format!("{prefix}{}", text.replace(' ', "▁")), ids);
                Ok(())
            }
        }
    }

    /// The ids of control tokens in `text`, in order; the text is taken as a template's.
    pub(super) fn control_tokens(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let found = self.special.find(text, std::slice::from_ref(&(0..text.len())))?;
        let is_control = |id: &u32| self.vocab.kind(*id) != Some(TokenKind::UserDefined);
        Ok(found.into_iter().map(|found| found.id).filter(is_control).collect())
    }

    /// Whether `text` spells a control token of the vocabulary, which as text of people it would not become.
    #[must_use]
    pub fn spells_control_token(&self, text: &str) -> bool {
        // Too many to be counted are some.
        self.control_tokens(text).map_or(true, |found| !found.is_empty())
    }

    /// Where the first control token in `text` begins; the text is taken as a template's.
    pub(super) fn first_control_token(&self, text: &str) -> Option<usize> {
        let found = self.special.find(text, std::slice::from_ref(&(0..text.len()))).ok()?;
        found
            .into_iter()
            .find(|found| self.vocab.kind(found.id) != Some(TokenKind::UserDefined))
            .map(|found| found.start)
    }

    /// The bytes a token stands for; a control token's are its text as written in the vocabulary.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn token_bytes(&self, id: u32) -> Result<&[u8], TextError> {
        self.vocab.bytes(id).ok_or_else(|| self.no_such(id))
    }

    /// A token's text as written in the vocabulary: `Ġthe`, `▁the`, `<0x0A>`.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn token_text(&self, id: u32) -> Result<&str, TextError> {
        self.vocab.text(id).ok_or_else(|| self.no_such(id))
    }

    /// What a token is for.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn token_kind(&self, id: u32) -> Result<TokenKind, TextError> {
        self.vocab.kind(id).ok_or_else(|| self.no_such(id))
    }

    fn no_such(&self, id: u32) -> TextError {
        TextError::IdOutOfRange { field: "token id", id, vocab_size: self.vocab.len() }
    }

    /// The token with this text, for instance `<|im_end|>`.
    #[must_use]
    pub fn id_of(&self, text: &str) -> Option<u32> {
        self.vocab.id(text)
    }

    /// Number of tokens, V.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.vocab.len()
    }

    /// Whether an answer ends with this token: the end token, or one that llama.cpp knows by name.
    #[must_use]
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.vocab.is_end_of_generation(id)
    }

    /// All tokens that end an answer, in ascending order.
    #[must_use]
    pub fn end_of_generation(&self) -> &[u32] {
        self.vocab.end_of_generation()
    }

    /// The begin token.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.vocab.bos
    }

    /// The end token.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.vocab.eos
    }

    /// The token that ends a turn of a chat.
    #[must_use]
    pub fn eot(&self) -> Option<u32> {
        self.vocab.eot
    }

    /// The unknown token.
    #[must_use]
    pub fn unk(&self) -> Option<u32> {
        self.vocab.unk
    }

    /// The padding token.
    #[must_use]
    pub fn pad(&self) -> Option<u32> {
        self.vocab.pad
    }

    /// Whether a prompt begins with [`Self::bos`].
    #[must_use]
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether a text that is complete ends with [`Self::eos`].
    #[must_use]
    pub fn add_eos(&self) -> bool {
        self.add_eos
    }

    /// Whether text is encoded with a space in front, which decoding takes away again.
    #[must_use]
    pub fn add_space_prefix(&self) -> bool {
        self.add_space_prefix
    }

    /// The chat template of the model file, as it stands there.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }
}
