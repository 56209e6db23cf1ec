//! How a training ends when it does not end well.

use adapter_finetune::TrainError;
use adapter_finetune::data::DataError;
use adapter_finetune::metrics::MetricsError;

use crate::failure::Failure;

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        match error {
            TrainError::Engine(error) => (*error).into(),
            TrainError::Data(error) => error.into(),
            TrainError::Setting { .. } => Self::WrongUse { message, hint },
            _ => Self::Failed { message, hint },
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
        let (message, hint) = (error.to_string(), error.hint().map(str::to_owned));
        match error {
            DataError::Cancelled => Self::Interrupted,
            DataError::Setting { .. } => Self::WrongUse { message, hint },
            _ => Self::Failed { message, hint },
        }
    }
}
