//! What can be wrong with an adapter, and with writing one.

/// What is wrong with an adapter.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// Not a safetensors file.
    #[error("the adapter is not a safetensors file: {reason}")]
    NotSafetensors {
        /// The parser's words.
        reason: String,
    },
    /// An adapter of another method.
    #[error("the adapter is {what}: {because}")]
    OtherMethod {
        /// The method in words.
        what: String,
        /// By what it was known.
        because: String,
    },
    /// A model where an adapter was wanted.
    #[error("the file is a whole model, not an adapter: {because}")]
    WholeModel {
        /// By what it was known.
        because: String,
    },
    /// `adapter_config.json` cannot be used.
    #[error("adapter_config.json: {reason}")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// A GGUF file without an adapter in it.
    #[error("the GGUF file holds no adapter: it is {what}")]
    NoAdapter {
        /// What its metadata say.
        what: String,
    },
    /// A model that holds an adapter, where the model alone was wanted.
    #[error("the model file already holds the adapter {name:?}")]
    AlreadyMerged {
        /// Its name.
        name: String,
    },
    /// Something the file says about itself is not what it can be.
    #[error("the adapter's {key} is {found}, expected {wanted}")]
    Metadata {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What it can be.
        wanted: String,
    },
    /// A tensor that must be there is not.
    #[error("the adapter has no tensor {name:?}; it holds {found}")]
    Missing {
        /// The tensor.
        name: String,
        /// Some names that are there.
        found: String,
    },
    /// A tensor that should not be there.
    #[error("the adapter holds a tensor {name:?} that is no part of a LLaMA-Adapter")]
    Unknown {
        /// The tensor.
        name: String,
    },
    /// A tensor of another shape or type.
    #[error("the adapter's tensor {name:?} is {found}, expected {wanted}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its type and shape.
        found: String,
        /// What fits.
        wanted: String,
    },
    /// The file does not say what its gates mean.
    #[error("the adapter does not say what its gates mean (no gate_shape and gate_activation in its metadata)")]
    KindUnknown,
    /// The file says something else than the user.
    #[error("the adapter's gates are {found}, not {wanted}")]
    KindMismatch {
        /// What the file says or its shape implies.
        found: String,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Values that are not numbers.
    #[error("the adapter's tensor {name:?} holds {count} values that are not finite")]
    NotFinite {
        /// The tensor.
        name: String,
        /// How many.
        count: usize,
    },
    /// Made for another model.
    #[error("the adapter {adapter:?} does not fit the model {model:?}: {what} is {found} there and {wanted} here")]
    OtherModel {
        /// The base model the adapter names, or its shape.
        adapter: String,
        /// The model that is loaded.
        model: String,
        /// Which size differs.
        what: &'static str,
        /// The adapter's.
        found: u32,
        /// The model's.
        wanted: String,
    },
    /// PEFT's format, or PEFT itself, has no room for it.
    #[error("PEFT cannot hold this adapter: {reason}")]
    PeftCannotHold {
        /// Why.
        reason: String,
    },
    /// A prompt longer than the kernel takes.
    #[error("the adapter's prompt has {found} tokens, the limit is {limit}")]
    TooLong {
        /// A
        found: u32,
        /// The limit.
        limit: u32,
    },
}

impl AdapterError {
    /// A short name that programs can match on: `adapter`, or one that begins with it where a program can say more than
    /// [`Self::hint`] does.
    pub fn code(&self) -> &'static str {
        match self {
            Self::KindUnknown => "adapter-kind",
            Self::KindMismatch { .. } => "adapter-kind-mismatch",
            Self::NoAdapter { .. } => "adapter-none",
            Self::PeftCannotHold { .. } => "adapter-peft",
            Self::TooLong { .. } => "adapter-too-long",
            Self::NotSafetensors { .. } | Self::Config { .. } | Self::Metadata { .. } | Self::Shape { .. } => {
                "adapter-damaged"
            }
            _ => "adapter",
        }
    }

    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::OtherMethod { .. } => {
                "LLaMA-Adapters run here: if it is one, save the adapter again (ADAPTION_PROMPT in PEFT); one of another method can be \
                 merged into its model by the program that made it, and the merged model converted to GGUF"
            }
            Self::WholeModel { .. } => {
                "a GGUF file is loaded as a model; models of other formats are converted with llama.cpp's convert_hf_to_gguf.py"
            }
            Self::KindUnknown => "say which kind it was trained with: paper, linear, peft or scalar-tanh",
            Self::KindMismatch { .. } => "name no kind, or the one the adapter was trained with",
            Self::OtherModel { .. } => "load the model the adapter was trained on",
            Self::Missing { .. } | Self::Unknown { .. } => {
                "the names must be base_model.model.model.layers.N.self_attn.adaption_prompt and .adaption_gate (PEFT), \
                 prompts and gates (our safetensors), or blk.N.adapter_prompt.weight and blk.N.adapter_gate.weight (GGUF)"
            }
            Self::NoAdapter { .. } => "load it as a model, or choose the adapter's own file",
            Self::AlreadyMerged { .. } => "name the model without an adapter, or export the adapter from this file",
            Self::PeftCannotHold { .. } => {
                "export as safetensors or gguf, which hold every kind; PEFT's own kind is one raw gate a layer (peft)"
            }
            Self::NotFinite { .. } => "the training went wrong; take an earlier checkpoint",
            Self::TooLong { .. } => "train with a shorter prompt",
            Self::NotSafetensors { .. } | Self::Config { .. } | Self::Metadata { .. } | Self::Shape { .. } => {
                "save the adapter again with the program that trained it"
            }
        }
    }
}

/// Text of a file as it can stand in a sentence.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 64;
    let mut out: String = text.chars().take(MOST).collect();
    if text.chars().nth(MOST).is_some() {
        out.push_str("...");
    }
    out
}
