//! What can be wrong with a GGUF file: which field, where, the figure found and the figure allowed.

use std::fmt;

/// A GGUF file that cannot be read, or a value in it that is not what was asked for.
///
/// Names that come from the file are escaped and cut, so that a message can be shown in a terminal as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    // The source of the bytes.
    /// The system could not read.
    #[error("GGUF: reading {length} bytes at byte {position} failed: {source}")]
    Read {
        /// Offset in the file.
        position: u64,
        /// How many bytes were asked for.
        length: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// Bytes that were there when the file was opened are not there any more.
    #[error("GGUF: the file had {file_bytes} bytes when it was opened and now ends before byte {end}")]
    FileChanged {
        /// End of the read that came up short.
        end: u64,
        /// Length when the file was opened.
        file_bytes: u64,
    },
    /// The field needs more bytes than the file has left.
    #[error("GGUF: {field} at byte {position} needs {needed_bytes} bytes, the file has {left_bytes} left")]
    Truncated {
        /// What was being read.
        field: String,
        /// Where it starts.
        position: u64,
        /// Its size, at least.
        needed_bytes: u64,
        /// Bytes from `position` to the end of the file.
        left_bytes: u64,
    },
    /// The memory for a field could not be had.
    #[error("GGUF: no memory for {field}, {needed_bytes} bytes")]
    OutOfMemory {
        /// What was being read.
        field: String,
        /// How much was asked for.
        needed_bytes: u64,
    },

    // The first 24 bytes.
    /// The file does not begin with `GGUF`.
    #[error("GGUF: magic is {}, wanted \"GGUF\"", Magic(found))]
    BadMagic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// A version other than 2 and 3.
    #[error("GGUF: version is {found}, this program reads versions 2 and 3")]
    UnsupportedVersion {
        /// The version in the file.
        found: u32,
    },
    /// The numbers of the file have their most significant byte first.
    #[error("GGUF: the file is big-endian (version {found}), this program reads little-endian files")]
    BigEndian {
        /// The version after its bytes were swapped.
        found: u32,
    },

    // Any field.
    /// A count, length or size above what this program accepts.
    #[error("GGUF: {field} at byte {position} is {found}, the limit is {limit}")]
    Limit {
        /// What was being read.
        field: String,
        /// The figure in the file.
        found: u64,
        /// The figure allowed.
        limit: u64,
        /// Where it stands.
        position: u64,
    },
    /// A key or a tensor name of no characters.
    #[error("GGUF: {field} at byte {position} is empty")]
    EmptyName {
        /// What was being read.
        field: String,
        /// Where it stands.
        position: u64,
    },
    /// A name that is not UTF-8.
    #[error("GGUF: {field} at byte {position} is not UTF-8")]
    InvalidUtf8 {
        /// What was being read.
        field: String,
        /// Where its text starts.
        position: u64,
    },

    // Metadata.
    /// A value type that GGUF does not have.
    #[error("GGUF: {field} at byte {position} is {found}, GGUF has the types 0 to 12")]
    UnknownValueType {
        /// What was being read.
        field: String,
        /// The number in the file.
        found: u32,
        /// Where it stands.
        position: u64,
    },
    /// An array of arrays.
    #[error("GGUF: {field} at byte {position} is an array inside an array, which no model uses")]
    NestedArray {
        /// What was being read.
        field: String,
        /// Where it stands.
        position: u64,
    },
    /// A truth value other than 0 and 1.
    #[error("GGUF: {field} at byte {position} is {found}, a bool is 0 or 1")]
    InvalidBool {
        /// What was being read.
        field: String,
        /// The byte in the file.
        found: u8,
        /// Where it stands.
        position: u64,
    },
    /// A key that stands twice in the metadata.
    #[error("GGUF: metadata key {key} at byte {position} is there a second time")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where the second one starts.
        position: u64,
    },
    /// An alignment that is no power of two.
    #[error("GGUF: general.alignment is {found}, it has to be a power of two")]
    Alignment {
        /// The value in the file.
        found: u64,
    },
    /// An alignment larger than this program accepts.
    #[error("GGUF: general.alignment is {found}, the limit is {limit}")]
    AlignmentTooLarge {
        /// The value in the file.
        found: u64,
        /// The largest accepted.
        limit: u64,
    },
    /// A key that is not in the metadata.
    #[error("GGUF: metadata key {key} is missing, wanted {wanted}")]
    MissingKey {
        /// The key that was asked for.
        key: String,
        /// The type that was asked for.
        wanted: &'static str,
    },
    /// A value of another type than asked for.
    #[error("GGUF: {key} is of type {found}, wanted {wanted}")]
    WrongType {
        /// The key that was asked for.
        key: String,
        /// The type in the file.
        found: String,
        /// The type that was asked for.
        wanted: &'static str,
    },
    /// A number that does not fit the type asked for.
    #[error("GGUF: {key} is {found}, which is no {wanted}")]
    OutOfRange {
        /// The key that was asked for.
        key: String,
        /// The number in the file.
        found: String,
        /// The type that was asked for.
        wanted: &'static str,
    },

    // Tensors.
    /// No dimension, or more than four.
    #[error("GGUF: tensor {tensor} at byte {position} has {found} dimensions, wanted 1 to {limit}")]
    DimensionCount {
        /// The tensor's name.
        tensor: String,
        /// The number in the file.
        found: u64,
        /// The most there may be.
        limit: u64,
        /// Where it stands.
        position: u64,
    },
    /// A dimension of 0.
    #[error("GGUF: dimension {dimension} of tensor {tensor} at byte {position} is 0")]
    ZeroDimension {
        /// The tensor's name.
        tensor: String,
        /// Which dimension, innermost is 0.
        dimension: u64,
        /// Where it stands.
        position: u64,
    },
    /// An element type whose layout is not known.
    #[error("GGUF: the type of tensor {tensor} at byte {position} is {found}, which this program does not know")]
    UnknownTensorType {
        /// The tensor's name.
        tensor: String,
        /// The number in the file.
        found: u32,
        /// Where it stands.
        position: u64,
    },
    /// A row that is no whole number of blocks.
    #[error("GGUF: a row of tensor {tensor} has {found} elements, {tensor_type} is stored in blocks of {block_len}")]
    PartialBlock {
        /// The tensor's name.
        tensor: String,
        /// The innermost dimension.
        found: u64,
        /// The name of the element type.
        tensor_type: &'static str,
        /// Elements a block.
        block_len: u64,
    },
    /// A shape whose element count or byte count cannot be.
    #[error("GGUF: tensor {tensor} of shape {shape:?} has 2^63 elements or its data ends beyond 2^64 bytes")]
    TensorTooLarge {
        /// The tensor's name.
        tensor: String,
        /// The dimensions, innermost first.
        shape: Vec<u64>,
    },
    /// An offset that does not follow from the tensors before.
    #[error(
        "GGUF: the offset of tensor {tensor} at byte {position} is {found}, the tensors before it end at {expected}"
    )]
    TensorOffset {
        /// The tensor's name.
        tensor: String,
        /// The offset in the file, from the start of the data.
        found: u64,
        /// Where the tensors before it end, padding included.
        expected: u64,
        /// Where the offset stands.
        position: u64,
    },
    /// Two tensors of one name.
    #[error("GGUF: tensors {first} and {second} are both named {tensor}")]
    DuplicateTensor {
        /// The name.
        tensor: String,
        /// Number of the first, counted from 0.
        first: u64,
        /// Number of the second.
        second: u64,
    },
    /// A tensor's data is not in the file.
    #[error("GGUF: tensor {tensor} ends at byte {end}, the file has {file_bytes} bytes and should have {needed_bytes}")]
    TensorPastEnd {
        /// The first tensor that is not complete.
        tensor: String,
        /// Where it ends.
        end: u64,
        /// Length of the file.
        file_bytes: u64,
        /// Length of the file if it were complete.
        needed_bytes: u64,
    },
    /// A tensor that the file does not have.
    #[error("GGUF: there is no tensor {tensor} among the {n_tensors} of this file")]
    MissingTensor {
        /// The name that was asked for.
        tensor: String,
        /// How many there are.
        n_tensors: u64,
    },
    /// A read outside of a tensor; a mistake of the caller, not of the file.
    #[error("GGUF: bytes {start} to {end} of tensor {tensor} were asked for, it has {size_bytes}")]
    OutsideTensor {
        /// The tensor's name.
        tensor: String,
        /// First byte asked for, counted in the tensor.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
        /// The size of the tensor.
        size_bytes: u64,
    },
}

impl GgufError {
    /// The field, key or tensor the error is about, in the words of the message.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::Read { .. } | Self::FileChanged { .. } => "file",
            Self::BadMagic { .. } => "magic",
            Self::UnsupportedVersion { .. } | Self::BigEndian { .. } => "version",
            Self::Alignment { .. } | Self::AlignmentTooLarge { .. } => "general.alignment",
            Self::Truncated { field, .. }
            | Self::OutOfMemory { field, .. }
            | Self::Limit { field, .. }
            | Self::EmptyName { field, .. }
            | Self::InvalidUtf8 { field, .. }
            | Self::UnknownValueType { field, .. }
            | Self::NestedArray { field, .. }
            | Self::InvalidBool { field, .. } => field,
            Self::DuplicateKey { key, .. }
            | Self::MissingKey { key, .. }
            | Self::WrongType { key, .. }
            | Self::OutOfRange { key, .. } => key,
            Self::DimensionCount { tensor, .. }
            | Self::ZeroDimension { tensor, .. }
            | Self::UnknownTensorType { tensor, .. }
            | Self::PartialBlock { tensor, .. }
            | Self::TensorTooLarge { tensor, .. }
            | Self::TensorOffset { tensor, .. }
            | Self::DuplicateTensor { tensor, .. }
            | Self::TensorPastEnd { tensor, .. }
            | Self::MissingTensor { tensor, .. }
            | Self::OutsideTensor { tensor, .. } => tensor,
        }
    }

    /// What to do next, as one sentence.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the disk or the connection and try again",
            Self::FileChanged { .. } => {
                "something wrote to the file while it was in use: load it again when that is done"
            }
            Self::TensorPastEnd { .. } => "the download is incomplete: fetch the file again and compare its size",
            Self::Truncated { position, .. } if *position < 24 => "this is too short for a model: fetch the file again",
            Self::Truncated { .. } => "the file is cut off or damaged: fetch it again and compare its size or checksum",
            Self::OutOfMemory { .. } => "close other programs or tabs, or choose a smaller model",
            Self::BadMagic { found } => match found {
                b"ggml" | b"lmgg" | b"tjgg" | b"fmgg" | b"algg" => {
                    "this is a model file from before GGUF: convert the original model again with a current llama.cpp"
                }
                [b'P', b'K', 3, 4] => "this is a zip archive or a PyTorch file: unpack it, or convert it to GGUF",
                b"vers" => "this is a Git LFS pointer, not the model: run `git lfs pull` or download the file itself",
                b"<!DO" | b"<!do" | b"<htm" | b"<HTM" => {
                    "this is a web page, not the model: use the direct download link"
                }
                [_, _, _, 0] => {
                    "this may be a safetensors file: adapters are loaded with their own option, models as GGUF"
                }
                _ => "name a .gguf file",
            },
            Self::UnsupportedVersion { found: 1 } => "convert the original model again with a current llama.cpp",
            Self::UnsupportedVersion { found: 0 } => "the file is damaged: fetch it again",
            Self::UnsupportedVersion { .. } => "update this program, or convert the model to GGUF version 3",
            Self::BigEndian { .. } => {
                "download the little-endian file, or convert it with gguf-py's gguf_convert_endian.py"
            }
            Self::MissingKey { key, .. } => missing_key_hint(key),
            Self::MissingTensor { .. } => {
                "the model is of another architecture, or it was converted by a tool that leaves this out"
            }
            Self::UnknownTensorType { .. } => "choose a file with a common quantization, such as Q4_K_M or Q8_0",
            Self::OutsideTensor { .. } => "this is a mistake in this program: please report it",
            _ => "the file is damaged or was not written by a GGUF tool: fetch it again, or convert the model again",
        }
    }
}

/// What converters write under a key that is missing, by the end of its name: llama.cpp's `convert_hf_to_gguf.py` takes it out of
/// the original model's files.
fn missing_key_hint(key: &str) -> &'static str {
    /// The end of the key, and what to do.
    macro_rules! from_config {
        ($($end:literal <- $field:literal),* $(,)?) => {
            &[$(($end, concat!(
                "converters write it from ", $field, " of the original model's config.json (a number): convert the model again \
                 with a current convert_hf_to_gguf.py of llama.cpp, or set the key with gguf-py's editor"
            ))),*]
        };
    }
    const KEYS: &[(&str, &str)] = from_config![
        ".context_length" <- "max_position_embeddings",
        ".block_count" <- "num_hidden_layers",
        ".embedding_length" <- "hidden_size",
        ".feed_forward_length" <- "intermediate_size",
        ".attention.head_count" <- "num_attention_heads",
        ".attention.layer_norm_rms_epsilon" <- "rms_norm_eps",
        ".rope.scaling.factor" <- "rope_scaling",
    ];
    if key == "general.architecture" {
        return "the file is no model, or it was written by a tool that leaves this out: convert the original model again with \
                llama.cpp's convert_hf_to_gguf.py";
    }
    if key.starts_with("tokenizer.") {
        return "the file holds no whole tokenizer: convert the original model again with its tokenizer files beside it";
    }
    let found = KEYS.iter().find(|(end, _)| key.ends_with(end));
    found.map_or(
        "the model was converted by a tool that leaves this out: convert the original model again",
        |(_, hint)| hint,
    )
}

/// A name from a file as it can be shown: control characters escaped, at most 96 characters.
pub(super) fn shown(name: &str) -> String {
    const MAX_CHARS: usize = 96;
    let mut out: String = name.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX_CHARS).is_some() {
        out.push_str("...");
    }
    out
}

/// What is being read, put into words only when it goes wrong.
#[derive(Clone, Copy)]
pub(super) enum Field<'a> {
    /// `n_kv`
    Plain(&'static str),
    /// `metadata key 3`
    Nth(&'static str, u64),
    /// `type of general.name`
    Of(&'static str, &'a str),
    /// `general.name`
    Named(&'a str),
    /// `tokenizer.ggml.tokens[17]`
    Element(&'a str, u64),
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(what) => f.write_str(what),
            Self::Nth(what, index) => write!(f, "{what} {index}"),
            Self::Of(what, name) => write!(f, "{what} of {}", shown(name)),
            Self::Named(name) => f.write_str(&shown(name)),
            Self::Element(name, index) => write!(f, "{}[{index}]", shown(name)),
        }
    }
}

struct Magic<'a>(&'a [u8; 4]);

impl fmt::Display for Magic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_without_control_characters() {
        assert_eq!(shown("blk.0.attn_q.weight"), "blk.0.attn_q.weight");
        assert_eq!(shown("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(shown(&"k".repeat(65_535)).len(), 99);
    }

    #[test]
    fn a_wrong_file_is_told_by_its_first_bytes() {
        let pointer = GgufError::BadMagic { found: *b"vers" };
        assert_eq!(pointer.to_string(), "GGUF: magic is \"vers\", wanted \"GGUF\"");
        assert!(pointer.hint().contains("Git LFS"));
        let binary = GgufError::BadMagic { found: [0xff, 0, 7, b'x'] };
        assert_eq!(binary.to_string(), "GGUF: magic is \"\\xff\\x00\\x07x\", wanted \"GGUF\"");
    }
}
