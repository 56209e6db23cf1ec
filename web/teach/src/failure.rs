//! What training has to say when it fails, as the page knows it.

use adapter_browser::Failure;
use adapter_engine::adapter::{AdapterError, AdapterWriteError};
use adapter_engine::text::TextError;
use adapter_finetune::TrainError;
use adapter_finetune::data::DataError;

/// Errors of training become the page's.
pub trait OrFailure<T> {
    /// The same, as a [`Failure`].
    fn or_failure(self) -> Result<T, Failure>;
}

impl<T> OrFailure<T> for Result<T, TrainError> {
    fn or_failure(self) -> Result<T, Failure> {
        self.map_err(|error| {
            let hint = error.hint().unwrap_or_default();
            match error {
                TrainError::Engine(error) => (*error).into(),
                TrainError::Adapter(error) => error.into(),
                TrainError::Data(error) => of_data(&error),
                TrainError::Setting { .. } => Failure::new("teach-setting", error.to_string(), hint),
                TrainError::Diverged { .. } => Failure::new("diverged", error.to_string(), hint),
                TrainError::AdapterWrite(_) => Failure::new("adapter", error.to_string(), hint),
                other => Failure::new("engine-bug", other.to_string(), hint),
            }
        })
    }
}

impl<T> OrFailure<T> for Result<T, DataError> {
    fn or_failure(self) -> Result<T, Failure> {
        self.map_err(|error| of_data(&error))
    }
}

impl<T> OrFailure<T> for Result<T, TextError> {
    fn or_failure(self) -> Result<T, Failure> {
        self.map_err(Failure::from)
    }
}

impl<T> OrFailure<T> for Result<T, adapter_engine::Error> {
    fn or_failure(self) -> Result<T, Failure> {
        self.map_err(Failure::from)
    }
}

impl<T> OrFailure<T> for Result<T, AdapterError> {
    fn or_failure(self) -> Result<T, Failure> {
        self.map_err(Failure::from)
    }
}

impl<T> OrFailure<T> for Result<T, AdapterWriteError> {
    fn or_failure(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::new("adapter", error.to_string(), error.hint().unwrap_or_default()))
    }
}

fn of_data(error: &DataError) -> Failure {
    let code = match error {
        DataError::Setting { .. } | DataError::RowOverBatch { .. } => "teach-setting",
        _ => "rows",
    };
    Failure::new(code, error.to_string(), error.hint().unwrap_or_default())
}
