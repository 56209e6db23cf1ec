//! How a training ends when it does not end well.

use adapter_finetune::TrainError;
use adapter_finetune::data::DataError;
use adapter_finetune::metrics::MetricsError;

use crate::failure::Failure;

/// Settings of a training as errors name them, and their flags.
const SETTINGS: [(&str, &str); 5] = [
    ("the learning rate", "--lr"),
    ("the number of steps", "--steps"),
    ("the warm-up", "--warmup"),
    ("the largest gradient norm", "--max-grad-norm"),
    ("the weight decay", "--weight-decay"),
];

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        let failure = Self::advised(&error, error.code(), error.hint().as_deref());
        match (failure, &error) {
            (Self::WrongUse { message, .. }, TrainError::Setting { field, .. }) => {
                let help = "see `adapter-cli finetune --help`";
                let flag = SETTINGS.iter().find(|(known, _)| known == field);
                let hint = flag.map_or_else(|| help.to_owned(), |(_, flag)| format!("it is set with {flag}; {help}"));
                Self::WrongUse { message, hint: Some(hint) }
            }
            (Self::Failed { message, hint }, TrainError::RunExists { path }) => {
                Self::Failed { message, hint: hint.map(|hint| hint.replace("FOLDER", path)) }
            }
            (failure, _) => failure,
        }
    }
}

impl From<MetricsError> for Failure {
    fn from(error: MetricsError) -> Self {
        Self::failed(error.to_string(), error.hint())
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::advised(&error, error.code(), error.hint())
    }
}
