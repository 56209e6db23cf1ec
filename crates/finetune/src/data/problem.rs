//! What is wrong with one row: where, which field, why.

use std::fmt;

use adapter_engine::text::TextError;
use serde::{Serialize, Serializer};

/// The formats for messages.
pub(super) const FORMATS: &str = "use rows with the fields instruction, input, output (alpaca); messages (chat); conversations (ShareGPT); \
     prompt, completion; question, context, answer; prompt, chosen; or text: one object a line, or all in one array";

/// Where a row stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The line, from 1.
    pub line: u64,
    /// Its number in a JSON array, from 1; `None` in a file with one row a line.
    pub row: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row {
            Some(row) => write!(f, "row {row} (line {})", self.line),
            None => write!(f, "line {}", self.line),
        }
    }
}

/// Why a row cannot be used. The text goes on after the field's name, or after "the row".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Not UTF-8.
    #[error("is not UTF-8 from its byte {byte} on")]
    NotUtf8 {
        /// From 1.
        byte: u64,
    },
    /// Not JSON.
    #[error("is not valid JSON: {message} at column {column}")]
    NotJson {
        /// What was expected.
        message: String,
        /// From 1.
        column: usize,
    },
    /// Too many bytes to be looked at.
    #[error("has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Another JSON type than needed.
    #[error("is {found}, it must be {wanted}")]
    WrongType {
        /// `a number`
        found: &'static str,
        /// `a string`
        wanted: &'static str,
    },
    /// A needed field is not there.
    #[error("is missing")]
    Missing,
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// None of the fields by which a format is known.
    #[error("has no field by which a format is known; its fields are {fields}")]
    UnknownFormat {
        /// Names of the fields.
        fields: String,
    },
    /// A speaker that is not known.
    #[error("is \"{found}\", it must be one of {known}")]
    UnknownRole {
        /// The name.
        found: String,
        /// Names that are known.
        known: &'static str,
    },
    /// A number that is no longer what the file says once it is read.
    #[error("is a number of more digits than can be kept: write it in quotes")]
    InexactNumber,
    /// A mark of a message that is neither true nor false.
    #[error("is {found}, it must be 0 or 1, or true or false: an answer is learnt as a whole or not at all")]
    Mark {
        /// Its value.
        found: String,
    },
    /// An answer that only calls functions.
    #[error("is empty: the answer only calls a function, and calls are not read")]
    OnlyCalls,
    /// A part of a message that is no text.
    #[error("is a part of the type \"{found}\"; only text can be read")]
    PartType {
        /// `image_url`
        found: String,
    },
    /// Too many parts of one message.
    #[error("has {found} parts, the limit is {limit}")]
    TooManyParts {
        /// Their number.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many messages.
    #[error("has {found} messages, the limit is {limit}")]
    TooManyMessages {
        /// Their number.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A chat in which the assistant says nothing.
    #[error("has no message of the assistant, so there is nothing to learn")]
    NoAnswer,
    /// The template or the tokenizer refuses it.
    #[error("cannot be written as a prompt: {0}")]
    Text(#[from] TextError),
    /// The template changes answers so that they cannot be found in what it writes.
    #[error("cannot be trained: the template changes answers so that where one begins or ends cannot be told")]
    AnswerNotFound,
    /// The prompt fills all tokens there are.
    #[error("has no token to learn among its first {max_tokens} (of {tokens})")]
    NothingTrained {
        /// Tokens of the row.
        tokens: usize,
        /// Tokens that are kept.
        max_tokens: usize,
    },
}

impl Reason {
    /// A short name under which rows are counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } => "not UTF-8",
            Self::NotJson { .. } => "not valid JSON",
            Self::TooLong { .. } => "too long",
            Self::WrongType { .. } => "wrong type",
            Self::Missing => "field missing",
            Self::Empty => "empty",
            Self::UnknownFormat { .. } => "unknown format",
            Self::UnknownRole { .. } => "unknown role",
            Self::InexactNumber => "number of too many digits",
            Self::Mark { .. } => "weight between 0 and 1",
            Self::OnlyCalls => "only a call of a function",
            Self::PartType { .. } => "part that is no text",
            Self::TooManyParts { .. } => "too many parts",
            Self::TooManyMessages { .. } => "too many messages",
            Self::NoAnswer => "no answer",
            Self::Text(_) => "refused by the template",
            Self::AnswerNotFound => "answer not found",
            Self::NothingTrained { .. } => "nothing to learn within the length limit",
        }
    }

    /// What to do about it, as one sentence.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } => "save the file in UTF-8",
            Self::NotJson { .. } => "correct the row: one JSON object a line (.jsonl), or an array of them (.json)",
            Self::TooLong { .. } => "split the row",
            Self::Text(error) => error.hint(),
            Self::AnswerNotFound => "choose another template",
            Self::NothingTrained { .. } => "allow more tokens for a row, or shorten what stands before the answers",
            Self::Mark { .. } => "write weight as 0 or 1",
            Self::OnlyCalls => "leave out the calls of functions, or write them as text",
            Self::PartType { .. } => "leave out images, sound and other parts that are no text",
            Self::UnknownRole { .. } => "name the speakers system, user and assistant",
            Self::InexactNumber => "write long numbers in quotes",
            Self::TooManyMessages { .. } | Self::TooManyParts { .. } => "split the chat",
            Self::WrongType { .. } | Self::Missing | Self::Empty | Self::UnknownFormat { .. } | Self::NoAnswer => {
                FORMATS
            }
        }
    }

    /// This reason for the row as a whole.
    pub(super) fn of_row(self) -> FieldProblem {
        FieldProblem { field: String::new(), reason: self }
    }

    /// This reason for one field.
    pub(super) fn of(self, field: impl Into<String>) -> FieldProblem {
        FieldProblem { field: field.into(), reason: self }
    }
}

/// A reason with its field, of a row whose place the caller knows.
#[derive(Debug)]
pub(super) struct FieldProblem {
    /// Empty for the row as a whole.
    pub(super) field: String,
    pub(super) reason: Reason,
}

impl FieldProblem {
    pub(super) fn at(self, place: Place) -> RowProblem {
        RowProblem { place, field: self.field, reason: self.reason }
    }
}

/// A row that cannot be used.
#[derive(Debug, Serialize)]
pub struct RowProblem {
    /// Where it stands.
    pub place: Place,
    /// The field, `messages[2].content`; empty if it is the row as a whole.
    pub field: String,
    /// Why.
    #[serde(serialize_with = "as_text")]
    pub reason: Reason,
}

impl fmt::Display for RowProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "{}: the row {}", self.place, self.reason),
            field => write!(f, "{}: `{field}` {}", self.place, self.reason),
        }
    }
}

fn as_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// At most `limit` characters of a text from the file, for messages; characters that steer a terminal are left out.
pub(super) fn shown(text: &str, limit: usize) -> String {
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(limit).collect();
    if text.chars().nth(limit).is_some() {
        shown.push_str("...");
    }
    shown
}
