//! How a command ends when it does not end well: a sentence, a next step, an exit code.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use adapter_engine::adapter::{AdapterError, AdapterWriteError};
use adapter_engine::formats::GgufError;
use adapter_engine::gpu::GpuError;
use adapter_engine::text::TextError;
use adapter_host::Problem;

use crate::advice::advice;
use crate::printable::printable;

/// The end of a command that did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It went wrong: exit code 1.
    #[error("{message}")]
    Failed {
        /// What happened.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// It was asked for wrongly: exit code 2.
    #[error("{message}")]
    WrongUse {
        /// What is wrong.
        message: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// Ctrl+C: exit code 130; another signal's where that was taken for it.
    #[error("interrupted")]
    Interrupted,
    /// The same in a training, which had more to do and has saved it: exit code 141, as of a program that SIGPIPE ended.
    #[error("the output is closed; what was done is saved")]
    OutputClosed,
    /// Whoever read our output has seen enough (`| head`): exit code 0.
    #[error("the output is closed")]
    ClosedPipe,
    /// The errors have been reported already, as a chat does after each line: exit code 1.
    #[error("something went wrong above")]
    Reported,
}

impl Failure {
    /// Something that went wrong.
    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: Some(hint.into()) }
    }

    /// Something asked for wrongly.
    pub fn wrong_use(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::WrongUse { message: message.into(), hint: Some(hint.into()) }
    }

    /// A file that cannot be read or written; `doing` as in "cannot read".
    pub fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        Problem::file(doing, path, error).into()
    }

    /// The same failure with the file it is about at the end of the sentence.
    pub fn at(self, path: &Path) -> Self {
        match self {
            Self::Failed { message, hint } => Self::Failed { message: format!("{message}: {}", path.display()), hint },
            other => other,
        }
    }

    /// Says it on standard error and returns the exit code.
    pub fn report(&self) -> ExitCode {
        self.say();
        ExitCode::from(match self {
            Self::Failed { .. } | Self::Reported => 1,
            Self::WrongUse { .. } => 2,
            Self::Interrupted => crate::interrupt::code(),
            Self::OutputClosed => 141,
            Self::ClosedPipe => 0,
        })
    }

    /// Says it on standard error: `error:` and, where there is a next step, `hint:`.
    pub fn say(&self) {
        if let Self::Failed { message, hint } | Self::WrongUse { message, hint } = self {
            let mut stderr = io::stderr().lock();
            // Nobody is left to tell when standard error itself is closed.
            let _ = writeln!(stderr, "error: {}", printable(message));
            if let Some(hint) = hint {
                let _ = writeln!(stderr, "hint: {}", printable(hint));
            }
        }
    }
}

/// An error while writing to standard output. Errors of files are made with [`Failure::file`], which names them.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ClosedPipe;
        }
        Self::failed(format!("cannot write the output: {error}"), "check where standard output goes")
    }
}

impl Failure {
    /// A failure of the engine or the training, with this program's advice.
    pub(crate) fn advised(error: &dyn std::fmt::Display, code: &str, own: Option<&str>) -> Self {
        let (message, hint) = (error.to_string(), advice(code, own));
        match code {
            "cancelled" => Self::Interrupted,
            // Flags that were given.
            "sampling" | "no-such-gpu" | "train-setting" | "data-setting" => Self::WrongUse { message, hint },
            _ => Self::Failed { message, hint },
        }
    }
}

impl From<adapter_engine::Error> for Failure {
    fn from(error: adapter_engine::Error) -> Self {
        Self::advised(&error, error.code(), error.hint())
    }
}

impl From<AdapterWriteError> for Failure {
    fn from(error: AdapterWriteError) -> Self {
        Self::advised(&error, error.code(), error.hint())
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::advised(&problem, problem.code, problem.hint.as_deref())
    }
}

macro_rules! through_engine_error {
    ($($ty:ty)*) => {$(
        impl From<$ty> for Failure {
            fn from(error: $ty) -> Self {
                adapter_engine::Error::from(error).into()
            }
        }
    )*};
}

through_engine_error! { GgufError GpuError AdapterError }

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        Self::advised(&error, error.code(), Some(error.hint()))
    }
}
