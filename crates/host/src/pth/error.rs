//! What can be wrong with a PyTorch checkpoint.

use adapter_engine::adapter::AdapterError;

/// A failure to read an adapter from a PyTorch checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PthError {
    /// The file cannot be read.
    #[error("cannot read the checkpoint: {0}")]
    Io(std::io::Error),
    /// The file is of another kind.
    #[error("the file is no PyTorch checkpoint: {found}")]
    NotCheckpoint {
        /// What it begins with, or lacks.
        found: &'static str,
    },
    /// The archive or the pickle in it is damaged.
    #[error("the checkpoint is damaged or cut off: {reason}")]
    Damaged {
        /// The reader's words.
        reason: String,
    },
    /// Larger than any adapter is.
    #[error("the checkpoint's {what} is {found}, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        found: u64,
        /// The largest that is read.
        limit: u64,
    },
    /// Compressed parts, which `torch.save` never writes.
    #[error("the checkpoint's part {name:?} is compressed, which torch.save never does")]
    Compressed {
        /// The part.
        name: String,
    },
    /// An adapter or a model of another kind.
    #[error("the checkpoint is {what}: {why}")]
    Foreign {
        /// What it is.
        what: &'static str,
        /// Why it cannot run here.
        why: &'static str,
    },
    /// A tensor that must be there is not.
    #[error("the checkpoint has no tensor {name:?}; it holds {found}")]
    Missing {
        /// The tensor.
        name: String,
        /// Some names that are there.
        found: String,
    },
    /// A tensor that should not be there.
    #[error("the checkpoint holds a tensor {name:?} that is no part of a LLaMA-Adapter")]
    Unknown {
        /// The tensor.
        name: String,
    },
    /// A tensor of another shape or type.
    #[error("the checkpoint's tensor {name:?} is {found}, expected {wanted}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its type and shape.
        found: String,
        /// What fits.
        wanted: String,
    },
    /// Nothing says into how many layers the prompts are divided.
    #[error("{rows} prompt rows can be divided among {n_layers} layers in several ways: {reason}")]
    AmbiguousLength {
        /// Rows of `adapter_query.weight`.
        rows: u32,
        /// N: layers of the model.
        n_layers: u32,
        /// What the gates say, and what the usual length says.
        reason: String,
    },
    /// A prompt length that the file contradicts.
    #[error("{rows} prompt rows cannot be {adapter_len} a layer: {reason}")]
    Length {
        /// Rows of `adapter_query.weight`.
        rows: u32,
        /// A: prompt tokens a layer, as asked for.
        adapter_len: u32,
        /// Why.
        reason: String,
    },
    /// Other gates than were asked for.
    #[error("the checkpoint's gates are raw in the code that wrote it ({written_by}), not through tanh")]
    GatesAreRaw {
        /// The program.
        written_by: &'static str,
    },
    /// Numbers that cannot be an adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

impl PthError {
    /// A short name that programs can match on: `pth`, one that begins with it, or the code of an [`AdapterError`].
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::AmbiguousLength { .. } => "pth-length",
            Self::GatesAreRaw { .. } => "pth-gates-raw",
            Self::Adapter(error) => error.code(),
            _ => "pth",
        }
    }

    /// What to do next, as one sentence.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io(_) => "check the path and that the file may be read",
            Self::NotCheckpoint { .. } => {
                "a checkpoint is what torch.save of PyTorch 1.6 or newer writes: save it again with that"
            }
            Self::Damaged { .. } => "fetch or save the file again",
            Self::TooLarge { .. } | Self::Compressed { .. } => {
                "such a file was not made by training an adapter: use it only if you know where it comes from"
            }
            Self::Foreign { .. } => {
                "adapters of the paper's alpaca_finetuning_v1, of lit-llama and of Hugging Face PEFT run here"
            }
            Self::Missing { .. } | Self::Unknown { .. } => {
                "the names must be adapter_query.weight and layers.N.attention.gate (the paper's code), or \
                 transformer.h.N.attn.adapter_wte.weight and .gating_factor (lit-llama)"
            }
            Self::Shape { .. } => "save the adapter again with the program that trained it",
            Self::AmbiguousLength { .. } => "say how many prompt tokens a layer it was trained with",
            Self::Length { .. } => "give the length it was trained with, or none",
            Self::GatesAreRaw { .. } => "name no kind of gates, or the raw one (linear)",
            Self::Adapter(error) => error.hint(),
        }
    }
}
