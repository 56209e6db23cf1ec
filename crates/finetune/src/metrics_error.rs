//! What can go wrong with the log of a training.

use std::io;
use std::path::PathBuf;

/// A failure to write or read the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// What the system says.
    #[error("cannot use the log of the training: {source}: {}", path.display())]
    Io {
        /// What the system says.
        source: io::Error,
        /// The file.
        path: PathBuf,
    },
    /// A line in the middle that is no record.
    #[error("line {line} of the log is no record ({reason}): {}", path.display())]
    Line {
        /// Which, from 1.
        line: u64,
        /// The parser's words.
        reason: String,
        /// The file.
        path: PathBuf,
    },
}

impl MetricsError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "check the folder of the training, who may write there, and the room on the disk",
            Self::Line { .. } => "the file was changed by something else: correct or remove that line",
        }
    }
}
