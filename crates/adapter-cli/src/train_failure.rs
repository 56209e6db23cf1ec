//! How a training ends when it does not end well.

use adapter_finetune::TrainError;
use adapter_finetune::data::DataError;
use adapter_finetune::metrics::MetricsError;

use crate::failure::Failure;

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        crate::commands::finetune::advice(&error)
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
