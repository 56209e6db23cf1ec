//! How a command ends when it does not end well: a sentence, a next step, an exit code.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use adapter_engine::adapter::{AdapterError, AdapterWriteError};
use adapter_engine::formats::GgufError;
use adapter_engine::gpu::GpuError;
use adapter_engine::text::TextError;
use adapter_host::Problem;

use crate::output::printable;

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
    /// Ctrl+C: exit code 130.
    #[error("interrupted")]
    Interrupted,
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
            Self::Interrupted => 130,
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

/// What this program's user can do about an error of the engine, in its flags and commands; by [`adapter_engine::Error::code`].
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "not-a-model" => "give it with --adapter, and the model it was trained on with --model",
        "adapter-kind" => {
            "say it with --gate paper (a head each, tanh), --gate linear (a head each), --gate peft or --gate scalar-tanh"
        }
        "adapter-kind-mismatch" => "leave --gate out, or give the kind the adapter was trained with",
        "adapter-none" => "a model is given with --model; `adapter-cli inspect` shows what a file holds",
        "adapter-peft" => "export as safetensors or gguf, which hold every kind, or train with --gate peft",
        "adapter-too-long" => "train with a shorter --adapter-len",
        "adapter-damaged" => "save the adapter again; `adapter-cli inspect` shows what a file holds",
        "pth-length" => {
            "say how many prompt tokens a layer it was trained with: `adapter-cli export --adapter-len N` writes a file that \
             says so itself"
        }
        "pth-gates-raw" => "leave --gate out, or give --gate linear",
        _ => return None,
    })
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

impl From<adapter_engine::Error> for Failure {
    fn from(error: adapter_engine::Error) -> Self {
        use adapter_engine::Error;
        let hint = advice(error.code()).or(error.hint()).map(str::to_owned);
        let message = error.to_string();
        match error {
            Error::Cancelled => Self::Interrupted,
            Error::Sampling(_) => Self::wrong_use(message, "see the Sampling part of `adapter-cli generate --help`"),
            Error::Gpu(GpuError::NoSuchAdapter { .. }) => Self::WrongUse { message, hint },
            _ => Self::Failed { message, hint },
        }
    }
}

impl From<AdapterWriteError> for Failure {
    fn from(error: AdapterWriteError) -> Self {
        let (message, hint) = (error.to_string(), error.hint().map(str::to_owned));
        match error {
            AdapterWriteError::Adapter(error) => error.into(),
            AdapterWriteError::Cancelled => Self::Interrupted,
            _ => Self::Failed { message, hint },
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        if problem.is_cancelled() {
            return Self::Interrupted;
        }
        let hint = advice(problem.code).map(str::to_owned).or(problem.hint);
        Self::Failed { message: problem.message, hint }
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
        let message = error.to_string();
        Self::failed(message, error.hint())
    }
}
