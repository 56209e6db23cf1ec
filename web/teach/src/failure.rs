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
        self.map_err(|error| match error {
            TrainError::Engine(error) => (*error).into(),
            TrainError::Adapter(error) => error.into(),
            error => Failure::new(error.code(), error.to_string(), error.hint().unwrap_or_default()),
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
        self.map_err(|error| Failure::new(error.code(), error.to_string(), error.hint().unwrap_or_default()))
    }
}

fn of_data(error: &DataError) -> Failure {
    Failure::new(error.code(), error.to_string(), error.hint().unwrap_or_default())
}
