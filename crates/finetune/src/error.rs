//! What can go wrong in training.

use adapter_engine::adapter::AdapterError;

/// Why training stopped or could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The engine or the GPU.
    #[error(transparent)]
    Engine(Box<adapter_engine::Error>),
    /// The adapter to go on with.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The data set.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// burn refused something.
    #[error("training failed while {doing}: {reason}")]
    Burn {
        /// What was being done.
        doing: &'static str,
        /// burn's words.
        reason: String,
    },
    /// A setting out of its range.
    #[error("{field} is {found}, it must be {wanted}")]
    Setting {
        /// The flag or field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What is possible.
        wanted: String,
    },
    /// Too many steps in a row gave no finite number.
    #[error(
        "{steps} steps in a row gave no finite {what} (the last at step {step}); the adapter is as it was before them"
    )]
    Diverged {
        /// Steps in a row.
        steps: u32,
        /// The last of them.
        step: u64,
        /// Which number: the loss, or the gradient of one tensor.
        what: &'static str,
    },
    /// A file of a checkpoint could not be written or read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A checkpoint that belongs to another run.
    #[error("the checkpoint {path} was made with another {what}: {found} there, {wanted} here")]
    OtherRun {
        /// The checkpoint.
        path: String,
        /// What differs.
        what: &'static str,
        /// Its value there.
        found: String,
        /// Its value here.
        wanted: String,
    },
}

impl TrainError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Engine(error) => return error.hint().map(str::to_owned),
            Self::Adapter(error) => error.hint().to_owned(),
            Self::Data(error) => return error.hint().map(str::to_owned),
            Self::Burn { .. } => "`adapter-cli doctor` checks the GPU; --backend cpu trains without it".to_owned(),
            Self::Setting { .. } => "see `adapter-cli finetune --help`".to_owned(),
            Self::Diverged { .. } => {
                "use a smaller --lr or a longer --warmup; --resume goes on from the last good checkpoint".to_owned()
            }
            Self::File { .. } => "check that the folder can be written and has space".to_owned(),
            Self::OtherRun { .. } => {
                "resume with the settings of that run (they are in its config.toml), or begin a new run with another --out"
                    .to_owned()
            }
        })
    }
}
