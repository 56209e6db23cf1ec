//! What can be wrong with weights, adapters and token ids.

use std::fmt;

/// Why the reference cannot compute.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A tensor type that no twin exists for.
    UnsupportedType {
        /// ggml's number of the type.
        ggml_type: u32,
    },
    /// Bytes that end inside a block.
    PartialBlock {
        /// How many there are.
        len: usize,
        /// How many make a block.
        block_bytes: usize,
    },
    /// A weight that the model needs and does not have.
    MissingWeight {
        /// Its name in GGUF.
        name: String,
    },
    /// Something has another number of elements than the configuration says.
    Length {
        /// What it is.
        what: String,
        /// How many elements it has.
        found: usize,
        /// How many it should have.
        wanted: usize,
    },
    /// A number outside its range.
    Range {
        /// What it is.
        what: &'static str,
        /// Its value.
        found: usize,
        /// The first value that is too large.
        limit: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedType { ggml_type } => {
                write!(f, "ggml type {ggml_type} has no twin; the types are listed in dequantize.rs")
            }
            Self::PartialBlock { len, block_bytes } => {
                write!(f, "{len} bytes are not a whole number of blocks of {block_bytes} bytes")
            }
            Self::MissingWeight { name } => write!(f, "the model has no weight {name:?}; insert it under this name"),
            Self::Length { what, found, wanted } => {
                write!(f, "{what} has {found} elements, the configuration asks for {wanted}")
            }
            Self::Range { what, found, limit } => write!(f, "{what} is {found}, it must be below {limit}"),
        }
    }
}

impl std::error::Error for Error {}
