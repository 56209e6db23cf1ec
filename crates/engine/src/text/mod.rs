//! From text to token ids and back: vocabulary, tokenizer, chat templates, and what is shown of an answer.
//!
//! Every input here is untrusted: the vocabulary and the chat template come with a model file, messages come from
//! people and data sets, and token ids come from a model that may have learnt anything. Three rules follow.
//!
//! 1. A damaged vocabulary or template is a [`TextError`], never a panic, a hang or a large allocation.
//! 2. Text of a person or a data set never becomes a control token ([`Special::AsText`], [`ChatTemplate`]).
//! 3. What a model writes reaches a terminal only through [`TerminalSanitizer`].

mod bpe;
mod builtin_templates;
mod chat_template;
mod error;
mod local_time;
mod pre_tokenizer;
mod sentencepiece;
mod special;
mod stream;
mod template_guard;
mod terminal;
mod tokenizer;
mod unicode;
mod vocab;
mod vocab_gguf;

pub use chat_template::{ChatTemplate, Message, RenderOptions, Rendered, Segment, encode_chat};
pub use error::TextError;
pub use local_time::LocalTime;
pub use stream::{TextStream, decode};
pub use terminal::TerminalSanitizer;
pub use tokenizer::{Part, Special, Tokenizer};
pub use vocab::{Shown, TokenKind, VocabSource, byte_alphabet};
