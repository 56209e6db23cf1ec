//! The header of a safetensors file: where each tensor lies, in the words of the rest of the engine. Data stay in the file.

use std::collections::BTreeMap;

use super::{ReadAt, TensorInfo, TensorType};

/// No header has as much: 100,000 tensors with long names.
const MAX_HEADER_BYTES: u64 = 32 << 20;

/// The tensors of a file by name.
#[derive(Debug, Clone, Default)]
pub struct Safetensors {
    tensors: BTreeMap<String, TensorInfo>,
}

/// Why a file is no safetensors file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file cannot be read.
    #[error("the weights cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The header is longer than any file has.
    #[error("the header has {found} bytes, at most {MAX_HEADER_BYTES} are read: this is no safetensors file")]
    HeaderTooLong {
        /// Bytes it says it has.
        found: u64,
    },
    /// The header cannot be read.
    #[error("this is no safetensors file: {reason}")]
    Header {
        /// What the parser says.
        reason: String,
    },
    /// A tensor ends behind the file.
    #[error("tensor {name:?} ends at byte {end}, the file has {size_bytes}: it is cut off")]
    CutOff {
        /// The tensor.
        name: String,
        /// Where it ends.
        end: u64,
        /// Bytes of the file.
        size_bytes: u64,
    },
}

/// What the header says of a tensor.
#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Safetensors {
    /// Reads a header. Tensors of types that no encoder has (integers, f64) are passed over.
    ///
    /// # Errors
    /// No safetensors file, or one that ends early.
    pub fn read(source: &dyn ReadAt) -> Result<Self, SafetensorsError> {
        let mut length = [0; 8];
        source.read_exact_at(0, &mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES {
            return Err(SafetensorsError::HeaderTooLong { found: length });
        }
        let mut header = vec![0; length as usize + 8];
        source.read_exact_at(0, &mut header)?;
        let header = header.get(8..).unwrap_or_default();
        let of = |reason: String| SafetensorsError::Header { reason };
        let entries: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(header).map_err(|error| of(error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, entry) in entries.into_iter().filter(|(name, _)| name != "__metadata__") {
            let entry: Entry =
                serde_json::from_value(entry).map_err(|error| of(format!("tensor {name:?}: {error}")))?;
            let (tensor_type, width) = match entry.dtype.as_str() {
                "F32" => (TensorType::F32, 4),
                "F16" => (TensorType::F16, 2),
                "BF16" => (TensorType::BF16, 2),
                _ => continue,
            };
            let [start, end] = entry.data_offsets;
            let wanted = entry.shape.iter().try_fold(width, |product: u64, n| product.checked_mul(*n));
            if wanted.is_none() || end.checked_sub(start) != wanted {
                return Err(of(format!("tensor {name:?} of the shape {:?} has bytes {start} to {end}", entry.shape)));
            }
            let offset = (length + 8).saturating_add(start);
            let behind = (length + 8).saturating_add(end);
            if behind > source.len() {
                return Err(SafetensorsError::CutOff { name, end: behind, size_bytes: source.len() });
            }
            let mut shape: Vec<u64> = entry.shape.into_iter().rev().collect();
            if shape.is_empty() {
                shape.push(1);
            }
            if shape.contains(&0) {
                continue;
            }
            tensors.insert(name.clone(), TensorInfo { name, shape, tensor_type, offset, size_bytes: end - start });
        }
        Ok(Self { tensors })
    }

    /// A tensor.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}
