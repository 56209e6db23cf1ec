//! What can go wrong, in words: what happened, the figure, and (in [`Error::hint`]) what to do next.

use crate::adapter::AdapterError;
use crate::formats::{GgufError, SafetensorsError};
use crate::gpu::GpuError;
use crate::sampler::SamplingError;
use crate::text::TextError;

/// Any failure of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The file of an encoder.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// The GPU.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The adapter file.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A sampling setting.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The file is an adapter, not a model.
    #[error("the file is an adapter{}, not a model", of_method(method))]
    NotAModel {
        /// Its method as the file says it (`adapter.type`), or empty.
        method: String,
    },
    /// The vocabulary, the chat template or a text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The file is a model of another family.
    #[error("the model is a {found:?} (general.architecture), this engine runs {known}")]
    WrongArchitecture {
        /// `general.architecture`
        found: String,
        /// Those that run.
        known: String,
    },
    /// A LLaMA with something this engine does not compute.
    #[error("the model uses {what}, which this engine does not run")]
    Unsupported {
        /// The feature and its value.
        what: String,
    },
    /// A tensor in a format without a kernel.
    #[error("tensor {name:?} is stored as {format}, which this engine does not run")]
    UnsupportedFormat {
        /// The tensor.
        name: String,
        /// ggml's name of the format.
        format: &'static str,
    },
    /// A tensor whose shape contradicts the metadata.
    #[error("tensor {name:?} has the shape {found:?}, expected {wanted}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Innermost dimension first.
        found: Vec<u64>,
        /// What the metadata implies.
        wanted: String,
    },
    /// Metadata that contradict each other or what a kernel can do.
    #[error("the model's {field} is {found}, it must be {wanted}")]
    Config {
        /// The metadata key.
        field: String,
        /// Its value.
        found: String,
        /// The range.
        wanted: String,
    },
    /// An id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {n_vocab}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// V
        n_vocab: u32,
    },
    /// Nothing to run.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// More tokens than the context holds.
    #[error("{wanted} tokens do not fit the context of {limit}")]
    ContextFull {
        /// Tokens asked for.
        wanted: u32,
        /// Tokens that fit.
        limit: u32,
    },
    /// A training batch that teaches nothing.
    #[error("the batch of {n_tokens} tokens has nothing to learn: none of them is a target")]
    NothingToLearn {
        /// T
        n_tokens: u32,
    },
    /// A training batch over the size of the trainer's buffers.
    #[error("the batch has {n_tokens} tokens, the trainer was made for {max_tokens}")]
    BatchTooLarge {
        /// T
        n_tokens: u32,
        /// Tokens that fit.
        max_tokens: u32,
    },
    /// Training buffers that this GPU cannot bind.
    #[error(
        "batches of {max_tokens} tokens need {needed_bytes} bytes in one buffer for {what}, this GPU allows {limit_bytes}; \
         {fits} tokens fit"
    )]
    TrainingBufferTooLarge {
        /// Tokens asked for.
        max_tokens: u32,
        /// The buffer.
        what: &'static str,
        /// Its size.
        needed_bytes: u64,
        /// Bytes this GPU allows.
        limit_bytes: u64,
        /// The most tokens that fit.
        fits: u32,
    },
    /// The caller stopped it.
    #[error("stopped")]
    Cancelled,
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Gguf(error) => Some(error.hint()),
            Self::Gpu(error) => error.hint(),
            Self::Adapter(error) => Some(error.hint()),
            Self::NotAModel { .. } => Some("load it as an adapter, beside the model it was trained on"),
            Self::Text(error) => Some(error.hint()),
            Self::WrongArchitecture { .. } => {
                Some("use a GGUF of LLaMA 1/2/3, TinyLlama, SmolLM2, Mistral, Qwen2, Qwen2.5 or Qwen3")
            }
            Self::Unsupported { .. } => Some("use a plain model of the LLaMA, Qwen2 or Qwen3 family"),
            Self::UnsupportedFormat { .. } => {
                Some("use a file quantized as F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K")
            }
            Self::TensorShape { .. } | Self::Config { .. } | Self::Safetensors(_) => {
                Some("the file is damaged or was converted wrongly: download or convert it again")
            }
            Self::TokenOutOfRange { .. } => Some("the ids belong to another model"),
            Self::EmptyPrompt => Some("write a prompt"),
            Self::ContextFull { .. } => Some("shorten the text, start a new chat, or raise the context"),
            Self::NothingToLearn { .. } => {
                Some("mark the answer's tokens as trained; a text of one token cannot be learnt")
            }
            Self::BatchTooLarge { .. } => Some("put fewer texts into a batch, cut the longest, or raise max_tokens"),
            Self::TrainingBufferTooLarge { .. } => Some("take smaller batches: the sentence says how many tokens fit"),
            Self::Sampling(_) | Self::Cancelled => None,
        }
    }

    /// A short name that programs can match on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Gguf(_) => "gguf",
            Self::Gpu(error) => error.code(),
            Self::Adapter(error) => error.code(),
            Self::NotAModel { .. } => "not-a-model",
            Self::Sampling(_) => "sampling",
            Self::Text(error) => error.code(),
            Self::WrongArchitecture { .. } => "wrong-architecture",
            Self::Unsupported { .. } | Self::UnsupportedFormat { .. } => "unsupported",
            Self::TensorShape { .. } | Self::Config { .. } | Self::Safetensors(_) => "bad-model",
            Self::TokenOutOfRange { .. } => "token-out-of-range",
            Self::EmptyPrompt => "empty-prompt",
            Self::ContextFull { .. } => "context-full",
            Self::NothingToLearn { .. } => "nothing-to-learn",
            Self::BatchTooLarge { .. } | Self::TrainingBufferTooLarge { .. } => "batch-too-large",
            Self::Cancelled => "cancelled",
        }
    }
}

fn of_method(method: &str) -> String {
    if method.is_empty() { String::new() } else { format!(" (adapter.type = {method:?})") }
}
