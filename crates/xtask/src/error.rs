//! What went wrong, in the words that the terminal shows.

use std::fmt;
use std::path::Path;

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a subcommand stopped: what happened and what to do next, ready to print.
#[derive(Debug)]
pub struct Error {
    message: String,
    exit_code: u8,
}

impl Error {
    /// Something failed on the way: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 1 }
    }

    /// The command line asks for what is not there: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: format!("{}\n`cargo xtask help` lists what there is", message.into()), exit_code: 2 }
    }

    /// A file or folder could not be read or written.
    pub fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::failed(format!("cannot {doing} {}: {error}", path.display()))
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
