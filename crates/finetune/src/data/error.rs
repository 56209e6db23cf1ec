//! What can go wrong with a data set as a whole; single rows have a [`RowProblem`](super::RowProblem).

use adapter_engine::text::TextError;

use super::formats::Format;
use super::problem::{Place, RowProblem};

/// A failure to read a data set or to make batches of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file cannot be read.
    #[error("cannot read the data: {source}: {name}")]
    Io {
        /// What the system says.
        source: std::io::Error,
        /// The file.
        name: String,
    },
    /// The file is of another kind.
    #[error("the data are {found}, they must be JSON or JSON Lines in UTF-8: {name}")]
    NotJson {
        /// `a gzip archive`
        found: &'static str,
        /// The file.
        name: String,
    },
    /// There is not one row.
    #[error("there are no rows in {name}")]
    NoRows {
        /// The file.
        name: String,
    },
    /// Not one row can be used.
    #[error("none of {rows} rows can be used; the first: {first}: {name}")]
    AllRowsBad {
        /// Rows of the file.
        rows: u64,
        /// The first of them.
        first: Box<RowProblem>,
        /// The file.
        name: String,
    },
    /// More rows cannot be used than can.
    #[error("{skipped} of {rows} rows cannot be used ({reasons}); the first: {first}: {name}")]
    MostRowsBad {
        /// Rows that cannot be used.
        skipped: u64,
        /// Rows of the file.
        rows: u64,
        /// `30 empty, 30 not valid JSON`
        reasons: String,
        /// The first of them.
        first: Box<RowProblem>,
        /// The file.
        name: String,
    },
    /// Every row says that it is not to be learnt.
    #[error("no row is to be learnt: all {rows} are marked with weight 0, train false or label false: {name}")]
    AllRowsMarked {
        /// Rows that are marked.
        rows: u64,
        /// The file.
        name: String,
    },
    /// A bad row, where none are accepted.
    #[error("{0}")]
    BadRow(Box<RowProblem>),
    /// Rows of two formats.
    #[error("{place}: the row is of the format {found}, those before it are {expected}: {name}")]
    MixedFormats {
        /// The first row of another format.
        place: Place,
        /// Its format.
        found: Format,
        /// The format of the file.
        expected: Format,
        /// The file.
        name: String,
    },
    /// A JSON array without its end.
    #[error("the file ends at line {line} before the array is closed; the last row begins at line {row_line}: {name}")]
    Truncated {
        /// The last line.
        line: u64,
        /// Where the last row begins.
        row_line: u64,
        /// The file.
        name: String,
    },
    /// A JSON array with more behind it.
    #[error("line {line}: there is more text after the end of the array: {name}")]
    AfterArray {
        /// The line.
        line: u64,
        /// The file.
        name: String,
    },
    /// All rows went to the validation side, or none were left.
    #[error("no rows are left to train on: all {rows} are for validation")]
    NoTrainingRows {
        /// Rows for validation.
        rows: u64,
    },
    /// A setting outside its range.
    #[error("{field} is {found}, it must be {wanted}")]
    Setting {
        /// Which.
        field: &'static str,
        /// Its value.
        found: String,
        /// The range.
        wanted: &'static str,
    },
    /// A row that does not fit a batch.
    #[error("row {row} has {tokens} tokens, a batch has room for {batch_tokens}")]
    RowOverBatch {
        /// Its number among the examples, from 1.
        row: u64,
        /// Its tokens.
        tokens: u64,
        /// Tokens of a batch.
        batch_tokens: u32,
    },
    /// A place in other data.
    #[error("the position is row {index} of an epoch, the data have {rows} rows")]
    Position {
        /// Rows already used in the epoch.
        index: u64,
        /// Rows there are.
        rows: u64,
    },
    /// The chat template.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The caller stopped it.
    #[error("stopped")]
    Cancelled,
}

impl DataError {
    /// What to do next, as one sentence.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { .. } => Some("check the path and that the file may be read"),
            Self::NotJson { .. } => {
                Some("unpack or convert the file: one JSON object a line (.jsonl), or an array (.json)")
            }
            Self::NoRows { .. } => {
                Some("write one JSON object a line, for instance {\"instruction\": \"...\", \"output\": \"...\"}")
            }
            Self::AllRowsBad { first, .. } | Self::MostRowsBad { first, .. } => Some(first.reason.hint()),
            Self::AllRowsMarked { .. } => Some("give rows that are to be learnt, too"),
            Self::BadRow(_) => Some("correct the row, or accept that bad rows are skipped"),
            Self::MixedFormats { .. } => Some("put each format in its own file"),
            Self::Truncated { .. } => {
                Some("the file is cut off or a quote or bracket is missing: fetch it again, or correct that row")
            }
            Self::AfterArray { .. } => Some("use one array, or one object a line without an array"),
            Self::NoTrainingRows { .. } => {
                Some("choose a smaller share for validation, more rows, or a validation file with other rows")
            }
            Self::Setting { .. } => None,
            Self::RowOverBatch { .. } => {
                Some("make the batch at least as large as the longest row, or cut rows shorter")
            }
            Self::Position { .. } => Some("go on with the data the training began with, or begin anew"),
            Self::Text(error) => Some(error.hint()),
            Self::Cancelled => None,
        }
    }

    /// A short name that programs can match on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "data-file",
            Self::Setting { .. } => "data-setting",
            Self::Text(error) => error.code(),
            Self::Cancelled => "cancelled",
            Self::NotJson { .. }
            | Self::NoRows { .. }
            | Self::AllRowsBad { .. }
            | Self::MostRowsBad { .. }
            | Self::AllRowsMarked { .. }
            | Self::BadRow(_)
            | Self::MixedFormats { .. }
            | Self::Truncated { .. }
            | Self::AfterArray { .. }
            | Self::NoTrainingRows { .. }
            | Self::RowOverBatch { .. }
            | Self::Position { .. } => "rows",
        }
    }
}
