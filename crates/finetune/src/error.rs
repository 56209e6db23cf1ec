//! What can go wrong in training.

use adapter_engine::adapter::{AdapterError, AdapterWriteError};

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
    /// The adapter cannot be written.
    #[error(transparent)]
    AdapterWrite(#[from] AdapterWriteError),
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
    #[error("{} is {found}, it must be {wanted}", setting_name(field))]
    Setting {
        /// Its name in `config.toml`, or words where it has none.
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
    /// The log of a run.
    #[error(transparent)]
    Metrics(#[from] crate::metrics_error::MetricsError),
    /// A folder for a new run that has one already.
    #[error("there is a run in the folder already: {path}")]
    RunExists {
        /// The folder.
        path: String,
    },
    /// A folder for a new run that is in use for something else.
    #[error("the folder cannot be used for a run, {found}: {path}")]
    FolderInUse {
        /// The folder.
        path: String,
        /// What is there.
        found: String,
    },
    /// A folder to go on in that is no run.
    #[error("there is no run to go on with: {path} has no config.toml")]
    NoRun {
        /// The folder.
        path: String,
    },
    /// The settings of a run cannot be read.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: String,
        /// The parser's words.
        reason: String,
    },
    /// A run that stopped before its first checkpoint.
    #[error("there is no complete checkpoint in {path}")]
    NoCheckpoint {
        /// The folder of the run.
        path: String,
    },
    /// A folder that is no whole checkpoint.
    #[error("the checkpoint {path} is not whole: {file} {reason}")]
    Incomplete {
        /// The checkpoint's folder.
        path: String,
        /// The file in it.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint of another version of this program.
    #[error("the checkpoint {path} has format version {found}, this program reads version {wanted}")]
    CheckpointVersion {
        /// The checkpoint's folder.
        path: String,
        /// Its version.
        found: u32,
        /// The one that is read.
        wanted: u32,
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

/// A setting in words, from its name in `config.toml`; other texts are words already.
fn setting_name(field: &str) -> &str {
    match field {
        "adapter-layers" => "the number of adapted layers",
        "adapter-len" => "the number of prompt tokens a layer",
        "batch-tokens" => "the number of tokens a batch",
        "epochs" => "the number of epochs",
        "f16" => "f16",
        "lr" => "the learning rate",
        "max-grad-norm" => "the limit of the gradient's norm",
        "max-tokens" => "the number of tokens a row",
        "patience" => "the patience",
        "sample" => "the sample question",
        "set" => "a substitution",
        "steps" => "the number of steps",
        "warmup" => "the number of warm-up steps",
        "weight-decay" => "the weight decay",
        words => words,
    }
}

impl TrainError {
    /// What the system said about a file.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::File { path: path.display().to_string(), reason: error.to_string() }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Engine(error) => return error.hint().map(str::to_owned),
            Self::Adapter(error) => error.hint().to_owned(),
            Self::AdapterWrite(error) => return error.hint().map(str::to_owned),
            Self::Data(error) => return error.hint().map(str::to_owned),
            Self::Burn { .. } => "check the GPU and its driver, or train on the CPU".to_owned(),
            Self::Setting { field: "patience", .. } => {
                "keep some rows for validation, or name some, or run without patience".to_owned()
            }
            Self::Setting { .. } => "change it".to_owned(),
            Self::Diverged { .. } => {
                "begin a new run with the last adapter, at half the learning rate or with a longer warm-up".to_owned()
            }
            Self::Metrics(error) => error.hint().to_owned(),
            Self::RunExists { .. } => "go on with it, or take another folder".to_owned(),
            Self::FolderInUse { .. } => "take a folder that is new or empty".to_owned(),
            Self::NoRun { .. } => "name the folder of an earlier run; to train an adapter further, begin with it".to_owned(),
            Self::Config { .. } => "correct the file, or begin a new run in another folder".to_owned(),
            Self::NoCheckpoint { .. } => {
                "begin a new run in another folder; it may begin with the adapter in this one".to_owned()
            }
            Self::File { .. } => "check that the folder can be written and has space".to_owned(),
            Self::Incomplete { .. } => {
                "name the folder of the run: its newest checkpoint that is whole is taken".to_owned()
            }
            Self::CheckpointVersion { .. } => {
                "go on with the version of the program that wrote it, or begin a new run in another folder".to_owned()
            }
            Self::OtherRun { .. } => {
                "go on with model, rows and settings of that run (its config.toml has them), or begin a new run in another folder"
                    .to_owned()
            }
        })
    }

    /// A short name that programs can match on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.code(),
            Self::Adapter(error) => error.code(),
            Self::AdapterWrite(error) => error.code(),
            Self::Data(error) => error.code(),
            Self::Burn { .. } => "train-gpu",
            Self::Setting { .. } => "train-setting",
            Self::Diverged { .. } => "diverged",
            Self::File { .. } => "train-file",
            Self::Metrics(_) => "metrics",
            Self::RunExists { .. } => "run-exists",
            Self::FolderInUse { .. } => "folder-in-use",
            Self::NoRun { .. } => "no-run",
            Self::Config { .. } => "run-config",
            Self::NoCheckpoint { .. } => "no-checkpoint",
            Self::Incomplete { .. } => "checkpoint-damaged",
            Self::CheckpointVersion { .. } => "checkpoint-version",
            Self::OtherRun { .. } => "other-run",
        }
    }
}
