//! What can go wrong when an adapter is written.

use super::error::AdapterError;
use crate::formats::{GgufError, GgufWriteError};

/// Why an adapter could not be written as GGUF, alone or inside its model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterWriteError {
    /// The adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The model.
    #[error(transparent)]
    Model(Box<crate::Error>),
    /// The new file could not be written.
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    /// The caller stopped it.
    #[error("stopped")]
    Cancelled,
}

impl AdapterWriteError {
    /// What to do next, where the system has not said it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Adapter(error) => Some(error.hint()),
            Self::Model(error) => error.hint(),
            Self::Write(GgufWriteError::Refused(error)) => Some(error.hint()),
            Self::Write(GgufWriteError::Write(_)) => Some("make room on the disk, or write to another folder"),
            Self::Write(_) => Some("this is a mistake in this program: please report it"),
            Self::Cancelled => None,
        }
    }

    /// A short name that programs can match on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Adapter(error) => error.code(),
            Self::Model(error) => error.code(),
            Self::Write(GgufWriteError::Refused(_)) => "gguf",
            Self::Write(_) => "write",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<crate::Error> for AdapterWriteError {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Adapter(error) => Self::Adapter(error),
            other => Self::Model(Box::new(other)),
        }
    }
}

impl From<GgufError> for AdapterWriteError {
    fn from(error: GgufError) -> Self {
        crate::Error::from(error).into()
    }
}
