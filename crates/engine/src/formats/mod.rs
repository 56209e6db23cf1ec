//! Files the engine reads: where bytes come from ([`ReadAt`]), tensor types of ggml, and GGUF itself.
//!
//! A model file is input from a stranger. Every count, length and offset in it is compared with the bytes that are
//! really there, and with a named limit, before anything is reserved; no input makes these parsers panic or hang.

pub mod adapter_tensors;
pub mod gguf;
mod gguf_error;
mod gguf_header;
mod gguf_metadata;
pub mod gguf_writer;
pub mod read_at;
mod repack;
pub mod safetensors;
pub mod tensor_type;

pub use gguf::{Gguf, PartialGguf, TensorInfo};
pub use gguf_error::GgufError;
pub use gguf_metadata::{Array, FromValue, Metadata, Mismatch, StringArray, Value, ValueType};
pub use gguf_writer::{GgufDataWriter, GgufWriteError, GgufWriter};
pub use read_at::ReadAt;
#[cfg(any(unix, windows))]
pub use read_at::ReadAtFile;
pub use repack::{Layout, TILE_ROWS, repack_tile};
pub use safetensors::{Safetensors, SafetensorsError};
pub use tensor_type::{TensorType, checked_tensor_bytes};
