//! The vocabulary in a GGUF file's metadata.

use super::error::TextError;
use super::vocab::VocabSource;
use crate::formats::{Gguf, GgufError, StringArray};

impl VocabSource {
    /// Takes `tokenizer.*` out of the metadata. Nothing is judged here but types; the tokenizer checks the rest.
    ///
    /// # Errors
    /// If a key has another type, or the model or the tokens are missing, or a text is not UTF-8.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TextError> {
        let metadata = &gguf.metadata;
        let id = |name: &str| metadata.optional::<u32>(&format!("tokenizer.ggml.{name}_token_id"));
        let flag = |name: &str| metadata.optional::<bool>(&format!("tokenizer.ggml.{name}"));
        let text = |key: &str| metadata.optional::<&str>(key).map(|text| text.map(str::to_owned));
        let merges: Option<&StringArray> = metadata.optional("tokenizer.ggml.merges")?;
        Ok(Self {
            model: metadata.required::<&str>("tokenizer.ggml.model")?.to_owned(),
            pre: text("tokenizer.ggml.pre")?,
            tokens: texts("tokens", metadata.required("tokenizer.ggml.tokens")?)?,
            scores: metadata.optional("tokenizer.ggml.scores")?.unwrap_or_default(),
            token_types: metadata.optional("tokenizer.ggml.token_type")?.unwrap_or_default(),
            merges: merges.map_or(Ok(Vec::new()), |merges| texts("merges", merges))?,
            bos_id: id("bos")?,
            eos_id: id("eos")?,
            eot_id: id("eot")?,
            eom_id: id("eom")?,
            unk_id: id("unknown")?,
            pad_id: id("padding")?,
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
            remove_extra_whitespaces: flag("remove_extra_whitespaces")?,
            chat_template: text("tokenizer.chat_template")?,
        })
    }
}

impl From<GgufError> for TextError {
    fn from(error: GgufError) -> Self {
        Self::Metadata(error)
    }
}

fn texts(list: &'static str, strings: &StringArray) -> Result<Vec<String>, TextError> {
    let text = |(index, bytes): (usize, &[u8])| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(TextError::NotUtf8 { list, index }),
    };
    strings.iter().enumerate().map(text).collect()
}
