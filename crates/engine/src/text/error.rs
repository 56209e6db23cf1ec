//! What can go wrong between text and token ids.

/// An error of the tokenizer, the chat templates or the text stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    // ---- vocabulary ---------------------------------------------------------------------------
    /// `tokenizer.ggml.model` names a tokenizer this engine does not have.
    #[error(
        "tokenizer model {model:?} is not supported (known: \"gpt2\" for byte-level BPE, \"llama\" for SentencePiece)"
    )]
    UnsupportedModel {
        /// The name found in the file.
        model: String,
    },
    /// `tokenizer.ggml.pre` names a way of splitting words this engine does not have.
    #[error("pre-tokenizer {name:?} is not supported; known: {known}")]
    UnknownPreTokenizer {
        /// The name found in the file.
        name: String,
        /// Every name that is known, separated by commas.
        known: String,
    },
    /// A count or a length is over its limit, or a list is empty.
    #[error("vocabulary: {field} is {found}, it must be {minimum} to {limit}")]
    Limit {
        /// What was counted.
        field: &'static str,
        /// The figure found.
        found: u64,
        /// The least that is accepted.
        minimum: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// A list that goes with the tokens has another length than they have.
    #[error("vocabulary: {found} {field} for {expected} tokens")]
    LengthMismatch {
        /// Which list.
        field: &'static str,
        /// Its length.
        found: usize,
        /// The number of tokens.
        expected: usize,
    },
    /// A token's type is not one of 0 to 6.
    #[error("vocabulary: token {id} has type {found}, known types are 0 to 6")]
    TokenType {
        /// The token.
        id: u32,
        /// The type found.
        found: i32,
    },
    /// A token's score is not a number, so that merges have no order.
    #[error("vocabulary: the score of token {id} is not a number")]
    Score {
        /// The token.
        id: u32,
    },
    /// A token of type "byte" is not written `<0xHH>`.
    #[error("vocabulary: byte token {id} is {text:?}, it must be <0x00> to <0xFF>")]
    ByteToken {
        /// The token.
        id: u32,
        /// Its text.
        text: String,
    },
    /// A SentencePiece vocabulary can spell neither some byte nor the unknown token.
    #[error("vocabulary: {missing} of 256 byte tokens are missing and there is no unknown token to stand for them")]
    MissingByteTokens {
        /// How many are missing.
        missing: usize,
    },
    /// Two tokens have one text.
    #[error("vocabulary: tokens {first} and {second} are both {text:?}")]
    DuplicateToken {
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
        /// Their text.
        text: String,
    },
    /// A token or merge is not UTF-8.
    #[error("vocabulary: entry {index} of the {list} is not UTF-8")]
    NotUtf8 {
        /// Which list.
        list: &'static str,
        /// Its place there.
        index: usize,
    },
    /// The metadata of the model file are of other types.
    #[error(transparent)]
    Metadata(crate::formats::GgufError),
    /// A merge is not two non-empty parts with a space between them.
    #[error("vocabulary: merge {index} is {merge:?}, it must be two parts with one space between them")]
    Merge {
        /// Its place in the list.
        index: usize,
        /// Its text.
        merge: String,
    },
    /// An id names no token.
    #[error("{field} is {id}, the vocabulary has {vocab_size} tokens")]
    IdOutOfRange {
        /// Where the id came from.
        field: &'static str,
        /// The id.
        id: u32,
        /// The size of the vocabulary.
        vocab_size: u32,
    },
    /// The file asks for a begin (or end) token without naming one.
    #[error("vocabulary: {flag} is set but {missing} is not given")]
    MissingSpecial {
        /// The flag in the file.
        flag: &'static str,
        /// The id it needs.
        missing: &'static str,
    },
    /// The tokenizer could not be built or did not answer.
    #[error("tokenizer: {0}")]
    Backend(String),

    // ---- text ---------------------------------------------------------------------------------
    /// One text is too long to be tokenized at once.
    #[error("the text has {bytes} bytes, one call takes at most {limit}")]
    TextTooLong {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A stop string is empty, too long, or there are too many of them.
    #[error("stop strings: {found} {what}, it must be 1 to {limit}")]
    StopStrings {
        /// What was counted.
        what: &'static str,
        /// The figure.
        found: usize,
        /// The most that is accepted.
        limit: usize,
    },

    // ---- chat templates -----------------------------------------------------------------------
    /// There is no built-in template of this name.
    #[error("chat template {name:?} is not known; known: {known}")]
    UnknownTemplate {
        /// The name asked for.
        name: String,
        /// Every name that is known.
        known: &'static str,
    },
    /// The template's source is too long.
    #[error("the chat template has {bytes} bytes, the limit is {limit}")]
    TemplateTooLong {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The template is not valid Jinja.
    #[error("the chat template does not parse: {0}")]
    TemplateSyntax(#[source] minijinja::Error),
    /// The template does what cannot be kept within bounds.
    #[error("the chat template {what}, which cannot be kept within bounds")]
    TemplateUnbounded {
        /// What it does.
        what: &'static str,
    },
    /// The template failed while it was run, or ran out of its budget.
    #[error("the chat template failed: {0}")]
    TemplateFailed(#[source] minijinja::Error),
    /// The template itself refused the messages (`raise_exception`).
    #[error("the chat template refuses these messages: {0}")]
    TemplateRefused(String),
    /// The template does not come to an end within its budget.
    #[error("the chat template does more work than it may ({limit} steps)")]
    TemplateWork {
        /// Steps it may do.
        limit: u64,
        /// Where it was stopped.
        source: minijinja::Error,
    },
    /// The messages are too long.
    #[error("the messages have {bytes} bytes together, the limit is {limit}")]
    ChatTooLong {
        /// Their size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The rendered prompt is too long.
    #[error("the chat template wrote more than {limit} bytes")]
    TemplateOutput {
        /// The limit.
        limit: usize,
    },
    /// The template changes message texts so that they can no longer be told from its own control tokens.
    #[error("the chat template rewrites messages, and one of them holds the text of a control token")]
    TemplateMixesContent,
    /// A role is not a plain name.
    #[error("role {role:?} is not allowed: use 1 to 32 of the characters a-z and _")]
    Role {
        /// The role.
        role: String,
    },
    /// A date that is none.
    #[error("the date is \"{found}\", it must be written as 2026-11-23 or 2026-11-23T08:30:00")]
    Date {
        /// What was given.
        found: String,
    },
    /// There are no messages.
    #[error("a chat needs at least one message")]
    NoMessages,
}

impl TextError {
    /// What to do next, as one sentence.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Metadata(error) => error.hint(),
            Self::UnsupportedModel { .. } | Self::UnknownPreTokenizer { .. } => {
                "use a LLaMA 1/2/3, TinyLlama, SmolLM2, Mistral or Qwen model; llama.cpp runs models with other tokenizers"
            }
            Self::IdOutOfRange { .. } => "the ids belong to another model, or the file is damaged: fetch it again",
            Self::TextTooLong { .. } => "split the text",
            Self::StopStrings { .. } => "give fewer or shorter stop strings",
            Self::UnknownTemplate { .. } => "choose one of the names listed, or give the template itself",
            Self::TemplateRefused(_) => "change the order or the roles of the messages as the template asks",
            Self::TemplateTooLong { .. }
            | Self::TemplateSyntax(_)
            | Self::TemplateUnbounded { .. }
            | Self::TemplateFailed(_) => "use a built-in template, for instance chatml",
            Self::ChatTooLong { .. } => "shorten or split the messages",
            Self::TemplateOutput { .. } | Self::TemplateWork { .. } => "shorten the chat, or use a built-in template",
            Self::TemplateMixesContent => "remove that text, or use a built-in template, for instance chatml",
            Self::Role { .. } => "use the roles system, user and assistant",
            Self::Date { .. } => "give year, month and day",
            Self::NoMessages => "write a message",
            _ => "the file is damaged or was converted wrongly: fetch it again, or convert the model again",
        }
    }
}

impl TextError {
    /// A short name that programs can match on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        if matches!(self, Self::TemplateMixesContent) { "template" } else { "text" }
    }
}

/// A text of a file as it can be shown in a message: at most 96 characters.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(96).collect()
}
