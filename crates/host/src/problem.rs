//! What went wrong with a file, in words.

use std::io;
use std::path::Path;

use crate::pth::PthError;
use adapter_engine::Error;
use adapter_engine::adapter::AdapterError;
use adapter_engine::formats::GgufError;
use adapter_engine::gpu::GpuError;
use adapter_engine::text::TextError;

/// Why something on this machine cannot be used: a sentence with its figure, and the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// What happened.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// A short name that programs can match on: that of the engine's or the training's error, or `file`, or `network`.
    pub code: &'static str,
}

impl Problem {
    /// Something wrong with a file.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()), code: "file" }
    }

    /// A file that cannot be read or written; `doing` as in "cannot read".
    pub fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "check the spelling of the path, and that its folder exists",
            io::ErrorKind::PermissionDenied => "check who may use the file",
            io::ErrorKind::IsADirectory => "name a file inside the folder",
            io::ErrorKind::StorageFull => "make room on the disk",
            _ => "check the path and the disk",
        };
        Self::new(format!("{doing}: {error}: {}", path.display()), hint)
    }

    /// The same problem with the file it is about at the end of the sentence.
    #[must_use]
    pub fn at(self, path: &Path) -> Self {
        Self { message: format!("{}: {}", self.message, path.display()), ..self }
    }

    /// Whether the user wanted it.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.code == "cancelled"
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { message: error.to_string(), hint: error.hint().map(str::to_owned), code: error.code() }
    }
}

impl From<TextError> for Problem {
    fn from(error: TextError) -> Self {
        Self { message: error.to_string(), hint: Some(error.hint().to_owned()), code: error.code() }
    }
}

impl From<PthError> for Problem {
    fn from(error: PthError) -> Self {
        Self { message: error.to_string(), hint: Some(error.hint().to_owned()), code: error.code() }
    }
}

macro_rules! through_engine_error {
    ($($ty:ty)*) => {$(
        impl From<$ty> for Problem {
            fn from(error: $ty) -> Self {
                Error::from(error).into()
            }
        }
    )*};
}

through_engine_error! { GgufError GpuError AdapterError }
