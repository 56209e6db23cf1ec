//! How rows are read: the template, the limits, the split.

use adapter_engine::text::{ChatTemplate, TextError, Tokenizer};

use super::split::Split;

/// Which chat template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Template {
    /// That of the model file, or one that fits its vocabulary.
    #[default]
    OfModel,
    /// A built-in one: `alpaca`, `chatml`, `llama3`, `llama2`, `zephyr`.
    Named(String),
    /// Jinja.
    Source(String),
}

impl Template {
    /// The template for a model with this tokenizer.
    ///
    /// # Errors
    /// If there is none of this name, or it does not parse.
    pub fn build(&self, tokenizer: &Tokenizer) -> Result<ChatTemplate, TextError> {
        match self {
            Self::OfModel => ChatTemplate::from_vocab(tokenizer),
            Self::Named(name) => ChatTemplate::built_in(name, tokenizer),
            Self::Source(source) => ChatTemplate::new(source, tokenizer),
        }
    }
}

impl DataOptions {
    /// The same options, with the template that an adapter was trained with, `kept`, where none is named.
    #[must_use]
    pub fn or_template(mut self, kept: Option<&str>) -> Self {
        if let (Template::OfModel, Some(kept)) = (&self.template, kept) {
            self.template = Template::Source(kept.to_owned());
        }
        self
    }
}

/// How a data set is read.
#[derive(Clone, Debug, PartialEq)]
pub struct DataOptions {
    /// The chat template.
    pub template: Template,
    /// The most tokens of a row; what is longer is cut at its end.
    pub max_tokens: u32,
    /// Whether the prompt is a target, too.
    pub train_on_prompt: bool,
    /// Texts and what to put in their place, for instance `{{name}}`.
    pub substitutions: Vec<(String, String)>,
    /// Which rows are kept for validation, where there is no file for it.
    pub split: Split,
    /// Whether one bad row is an error.
    pub refuse_bad_rows: bool,
    /// How many bad rows the report names.
    pub problems_kept: usize,
}

impl Default for DataOptions {
    fn default() -> Self {
        Self {
            template: Template::OfModel,
            max_tokens: 512,
            train_on_prompt: false,
            substitutions: Vec::new(),
            split: Split::default(),
            refuse_bad_rows: false,
            problems_kept: 20,
        }
    }
}
