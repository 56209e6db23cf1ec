//! GGUF, the file format of ggml: a header of metadata and tensor descriptions, then the tensors' data.
//!
//! ```text
//! "GGUF"  version u32  n_tensors u64  n_kv u64
//! n_kv times       key string, value type u32, value
//! n_tensors times  name string, n_dims u32, dimensions u64 each (innermost first), type u32, offset u64
//! padding to general.alignment (32 when absent), then each tensor's data, padded likewise
//! ```
//!
//! Versions 2 and 3, little-endian. Reading touches the header only; data is read per tensor, in pieces of the
//! caller's choice, with [`TensorInfo::read_data`]. Source: `docs/gguf.md` and `src/gguf.cpp` of ggml.

use std::collections::BTreeMap;

use super::gguf_error::{Field, GgufError, shown};
use super::gguf_header::{HeaderReader, read_error};
pub use super::gguf_header::{MAX_HEADER_BYTES, MAX_STRING_BYTES};
use super::gguf_metadata::{Array, Metadata, Value, ValueType};
use super::read_at::ReadAt;
use super::tensor_type::{TensorType, checked_tensor_bytes};

/// The most metadata keys; models have 20 to 60.
pub const MAX_METADATA_KEYS: u64 = 4096;
/// The most tensors; a model of 80 layers has 723.
pub const MAX_TENSORS: u64 = 65_536;
/// The longest key, as GGUF says.
pub const MAX_KEY_BYTES: u64 = 65_535;
/// The longest tensor name, as GGUF says.
pub const MAX_TENSOR_NAME_BYTES: u64 = 64;
/// The most dimensions of a tensor.
pub const MAX_DIMENSIONS: u64 = 4;
/// The largest alignment of tensor data.
pub const MAX_ALIGNMENT: u64 = 1 << 20;
/// The alignment where the file names none.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// The key that names the alignment.
pub const ALIGNMENT_KEY: &str = "general.alignment";

/// Bytes of the shortest key and value: a length, one character, a type, a bool.
const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;
/// Bytes of the shortest tensor description: a length, one character, a count, one dimension, a type, an offset.
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// A tensor of a file: what it is and where its data lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// One to four dimensions, none 0, innermost first: `[columns, rows]` of a matrix, ggml's `ne`.
    pub shape: Vec<u64>,
    /// How its weights are stored.
    pub tensor_type: TensorType,
    /// Where its data starts in the file.
    pub offset: u64,
    /// How many bytes its data has.
    pub size_bytes: u64,
}

impl TensorInfo {
    /// Number of weights.
    #[must_use]
    pub fn elements(&self) -> u64 {
        // Below 2^63 since the file was read; saturating only because the fields are public.
        self.shape.iter().fold(1, |product, &dim| product.saturating_mul(dim))
    }

    /// Number of rows: all dimensions but the innermost.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.shape.iter().skip(1).fold(1, |product, &dim| product.saturating_mul(dim))
    }

    /// Bytes a row, a whole number of blocks.
    #[must_use]
    pub fn row_bytes(&self) -> u64 {
        self.size_bytes.checked_div(self.rows()).unwrap_or(0)
    }

    /// Fills `buf` with the tensor's bytes from `start`, counted in the tensor.
    ///
    /// # Errors
    /// [`GgufError::OutsideTensor`] when the range is not inside the tensor, [`GgufError::FileChanged`] when the file
    /// became shorter since it was opened, [`GgufError::Read`] when the system cannot read.
    pub fn read_data(&self, source: &dyn ReadAt, start: u64, buf: &mut [u8]) -> Result<(), GgufError> {
        let length = buf.len() as u64;
        let end = start.saturating_add(length);
        if end > self.size_bytes {
            let (tensor, size_bytes) = (shown(&self.name), self.size_bytes);
            return Err(GgufError::OutsideTensor { tensor, start, end, size_bytes });
        }
        let position = self.offset.saturating_add(start);
        source.read_exact_at(position, buf).map_err(|error| read_error(error, position, length, source.len()))
    }
}

/// The header of a GGUF file, checked in full: every tensor lies inside the file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Gguf {
    /// 2 or 3; they differ in nothing that matters here.
    pub version: u32,
    /// What tensor data is padded to, in bytes.
    pub alignment: u64,
    /// Keys and values.
    pub metadata: Metadata,
    /// Where the data begins.
    pub data_offset: u64,
    /// Length of the file.
    pub file_bytes: u64,
    tensors: Vec<TensorInfo>,
    /// Places in `tensors`, sorted by name.
    by_name: Vec<u32>,
}

/// As much of a header as could be read, to show where a broken file breaks.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PartialGguf {
    /// The version, once it was read and is one this program reads.
    pub version: Option<u32>,
    /// How many tensors the file says it has.
    pub declared_tensors: Option<u64>,
    /// How many metadata keys the file says it has.
    pub declared_keys: Option<u64>,
    /// What tensor data is padded to, once the metadata was read.
    pub alignment: Option<u64>,
    /// The keys and values before the break.
    pub metadata: Metadata,
    /// The tensors before the break. Their offsets count from the start of the data while `data_offset` is `None`.
    pub tensors: Vec<TensorInfo>,
    /// Where the data begins, once all tensors are described.
    pub data_offset: Option<u64>,
    /// How far reading came.
    pub position: u64,
    /// Length of the file.
    pub file_bytes: u64,
}

impl Gguf {
    /// Reads and checks the header of a file.
    ///
    /// Needs at most four times the header's bytes and 1 MiB of memory, and reads at most 64 KiB beyond the header.
    ///
    /// # Errors
    /// The first thing that is wrong, with the field, the figure found and what was expected.
    pub fn read(source: &dyn ReadAt) -> Result<Self, GgufError> {
        let mut partial = PartialGguf::default();
        let by_name = partial.read(source)?;
        Ok(Self {
            version: partial.version.unwrap_or_default(),
            alignment: partial.alignment.unwrap_or(DEFAULT_ALIGNMENT),
            metadata: partial.metadata,
            data_offset: partial.data_offset.unwrap_or_default(),
            file_bytes: partial.file_bytes,
            tensors: partial.tensors,
            by_name,
        })
    }

    /// Reads as far as the file is sound. The error is the one [`Gguf::read`] gives, `None` for a sound file.
    #[must_use]
    pub fn read_partial(source: &dyn ReadAt) -> (PartialGguf, Option<GgufError>) {
        let mut partial = PartialGguf::default();
        let error = partial.read(source).err();
        (partial, error)
    }

    /// All tensors in the file's order, which is also the order of their data.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Numbers of all tensors.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        self.tensors.iter().map(TensorInfo::elements).fold(0, u64::saturating_add)
    }

    /// ggml's name of the format that most numbers are stored in, as in `Q4_1`; empty without tensors.
    #[must_use]
    pub fn main_type(&self) -> &'static str {
        let mut elements: BTreeMap<&'static str, u64> = BTreeMap::new();
        for tensor in &self.tensors {
            let n = elements.entry(tensor.tensor_type.name()).or_default();
            *n = n.saturating_add(tensor.elements());
        }
        elements.into_iter().max_by_key(|(_, elements)| *elements).map_or("", |(name, _)| name)
    }

    /// Formats of its tensors that the engine has kernels for, each once.
    #[must_use]
    pub fn formats(&self) -> Vec<TensorType> {
        let used = |format: &TensorType| self.tensors.iter().any(|tensor| tensor.tensor_type == *format);
        TensorType::supported().filter(used).collect()
    }

    /// The tensor of this name, if there is one.
    #[must_use]
    pub fn find_tensor(&self, name: &str) -> Option<&TensorInfo> {
        let named = |index: u32| self.tensors.get(index as usize);
        let slot = self.by_name.binary_search_by(|&i| named(i).map_or("", |t| t.name.as_str()).cmp(name)).ok()?;
        named(*self.by_name.get(slot)?)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`] when there is none.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.find_tensor(name)
            .ok_or_else(|| GgufError::MissingTensor { tensor: shown(name), n_tensors: self.tensors.len() as u64 })
    }
}

impl PartialGguf {
    fn read(&mut self, source: &dyn ReadAt) -> Result<Vec<u32>, GgufError> {
        let mut reader = HeaderReader::new(source);
        self.file_bytes = reader.file_bytes();
        let result = self.read_fields(&mut reader);
        self.position = reader.position();
        result
    }

    fn read_fields(&mut self, reader: &mut HeaderReader<'_>) -> Result<Vec<u32>, GgufError> {
        let (n_tensors, n_keys) = self.read_counts(reader)?;
        for index in 0..n_keys {
            self.read_entry(reader, index)?;
        }
        let alignment = alignment_of(&self.metadata)?;
        self.alignment = Some(alignment);

        let needed_bytes = n_tensors.saturating_mul(size_of::<TensorInfo>() as u64);
        let no_memory = |_| GgufError::OutOfMemory { field: "tensors".to_owned(), needed_bytes };
        self.tensors.try_reserve_exact(n_tensors as usize).map_err(no_memory)?; // below MAX_TENSORS
        let mut data_end = 0;
        for index in 0..n_tensors {
            let tensor = read_tensor(reader, index, data_end)?;
            let too_large = || GgufError::TensorTooLarge { tensor: shown(&tensor.name), shape: tensor.shape.clone() };
            data_end = data_end
                .checked_add(tensor.size_bytes)
                .and_then(|end| end.checked_next_multiple_of(alignment))
                .ok_or_else(too_large)?;
            self.tensors.push(tensor);
        }
        let by_name = self.names_in_order()?;
        self.place_data(reader.position(), alignment)?;
        Ok(by_name)
    }

    fn read_counts(&mut self, reader: &mut HeaderReader<'_>) -> Result<(u64, u64), GgufError> {
        let found = reader.bytes::<4>(Field::Plain("magic"))?;
        if found != *b"GGUF" {
            return Err(GgufError::BadMagic { found });
        }
        match reader.u32(Field::Plain("version"))? {
            version @ (2 | 3) => self.version = Some(version),
            swapped if matches!(swapped.swap_bytes(), 1..=3) => {
                return Err(GgufError::BigEndian { found: swapped.swap_bytes() });
            }
            found => return Err(GgufError::UnsupportedVersion { found }),
        }
        let mut count = |name, limit, least_bytes| {
            let position = reader.position();
            let found = reader.u64(Field::Plain(name))?;
            if found > limit {
                return Err(GgufError::Limit { field: name.to_owned(), found, limit, position });
            }
            reader.need(found, least_bytes, Field::Plain(name))?;
            Ok(found)
        };
        let n_tensors = count("n_tensors", MAX_TENSORS, MIN_TENSOR_BYTES)?;
        self.declared_tensors = Some(n_tensors);
        let n_keys = count("n_kv", MAX_METADATA_KEYS, MIN_ENTRY_BYTES)?;
        self.declared_keys = Some(n_keys);
        Ok((n_tensors, n_keys))
    }

    fn read_entry(&mut self, reader: &mut HeaderReader<'_>, index: u64) -> Result<(), GgufError> {
        let position = reader.position();
        let key = reader.name(MAX_KEY_BYTES, Field::Nth("metadata key", index))?;
        let Err(slot) = self.metadata.slot(&key) else {
            return Err(GgufError::DuplicateKey { key: shown(&key), position });
        };
        let value = match read_value_type(reader, Field::Of("type", &key))? {
            ValueType::Array => Value::Array(read_array(reader, &key)?),
            single => read_single(reader, single, &key)?,
        };
        self.metadata.insert(slot, key, value);
        Ok(())
    }

    /// Sorts the tensors by name and refuses two of one name.
    fn names_in_order(&self) -> Result<Vec<u32>, GgufError> {
        let name = |index: u32| self.tensors.get(index as usize).map_or("", |tensor| tensor.name.as_str());
        let mut by_name: Vec<u32> = (0..self.tensors.len() as u32).collect();
        by_name.sort_unstable_by(|&a, &b| name(a).cmp(name(b)).then(a.cmp(&b)));
        for pair in by_name.windows(2) {
            if let &[first, second] = pair
                && name(first) == name(second)
            {
                let tensor = shown(name(first));
                return Err(GgufError::DuplicateTensor { tensor, first: first.into(), second: second.into() });
            }
        }
        Ok(by_name)
    }

    /// Turns offsets into the data into offsets into the file, and checks that every tensor is inside it.
    fn place_data(&mut self, header_end: u64, alignment: u64) -> Result<(), GgufError> {
        // The header's end is below MAX_HEADER_BYTES and the alignment below MAX_ALIGNMENT.
        let data_offset = header_end.next_multiple_of(alignment);
        for tensor in &self.tensors {
            if data_offset.checked_add(tensor.offset).and_then(|start| start.checked_add(tensor.size_bytes)).is_none() {
                let (tensor, shape) = (shown(&tensor.name), tensor.shape.clone());
                return Err(GgufError::TensorTooLarge { tensor, shape });
            }
        }
        for tensor in &mut self.tensors {
            tensor.offset += data_offset;
        }
        self.data_offset = Some(data_offset);
        let end = |tensor: &TensorInfo| tensor.offset.saturating_add(tensor.size_bytes);
        let file_bytes = self.file_bytes;
        match self.tensors.iter().find(|tensor| end(tensor) > file_bytes) {
            None => Ok(()),
            Some(tensor) => Err(GgufError::TensorPastEnd {
                tensor: shown(&tensor.name),
                end: end(tensor),
                file_bytes,
                needed_bytes: self.tensors.last().map_or(0, end),
            }),
        }
    }
}

fn read_value_type(reader: &mut HeaderReader<'_>, field: Field<'_>) -> Result<ValueType, GgufError> {
    let position = reader.position();
    let found = reader.u32(field)?;
    ValueType::from_gguf(found).ok_or_else(|| GgufError::UnknownValueType { field: field.to_string(), found, position })
}

fn read_single(reader: &mut HeaderReader<'_>, value_type: ValueType, key: &str) -> Result<Value, GgufError> {
    let field = Field::Named(key);
    Ok(match value_type {
        ValueType::U8 => Value::U8(u8::from_le_bytes(reader.bytes(field)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(reader.bytes(field)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(reader.bytes(field)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(reader.bytes(field)?)),
        ValueType::U32 => Value::U32(reader.u32(field)?),
        ValueType::I32 => Value::I32(i32::from_le_bytes(reader.bytes(field)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(reader.bytes(field)?)),
        ValueType::Bool => Value::Bool(reader.bool(field)?),
        ValueType::String => Value::String(reader.string(field)?),
        ValueType::Array => Value::Array(read_array(reader, key)?),
        ValueType::U64 => Value::U64(reader.u64(field)?),
        ValueType::I64 => Value::I64(i64::from_le_bytes(reader.bytes(field)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(reader.bytes(field)?)),
    })
}

fn read_array(reader: &mut HeaderReader<'_>, key: &str) -> Result<Array, GgufError> {
    let position = reader.position();
    let element_type = read_value_type(reader, Field::Of("element type", key))?;
    if element_type == ValueType::Array {
        return Err(GgufError::NestedArray { field: shown(key), position });
    }
    let count = reader.u64(Field::Of("length", key))?;
    Ok(match element_type {
        ValueType::U8 => Array::U8(reader.numbers(count, key, u8::from_le_bytes)?),
        ValueType::I8 => Array::I8(reader.numbers(count, key, i8::from_le_bytes)?),
        ValueType::U16 => Array::U16(reader.numbers(count, key, u16::from_le_bytes)?),
        ValueType::I16 => Array::I16(reader.numbers(count, key, i16::from_le_bytes)?),
        ValueType::U32 => Array::U32(reader.numbers(count, key, u32::from_le_bytes)?),
        ValueType::I32 => Array::I32(reader.numbers(count, key, i32::from_le_bytes)?),
        ValueType::F32 => Array::F32(reader.numbers(count, key, f32::from_le_bytes)?),
        ValueType::Bool => Array::Bool(reader.bools(count, key)?),
        ValueType::String => Array::String(reader.strings(count, key)?),
        ValueType::Array => return Err(GgufError::NestedArray { field: shown(key), position }),
        ValueType::U64 => Array::U64(reader.numbers(count, key, u64::from_le_bytes)?),
        ValueType::I64 => Array::I64(reader.numbers(count, key, i64::from_le_bytes)?),
        ValueType::F64 => Array::F64(reader.numbers(count, key, f64::from_le_bytes)?),
    })
}

/// The alignment that the metadata name. As in ggml, it has to be a `u32`.
fn alignment_of(metadata: &Metadata) -> Result<u64, GgufError> {
    let found = match metadata.get(ALIGNMENT_KEY) {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(found)) => u64::from(*found),
        Some(other) => {
            let (key, found) = (ALIGNMENT_KEY.to_owned(), other.type_name());
            return Err(GgufError::WrongType { key, found, wanted: "u32" });
        }
    };
    if !found.is_power_of_two() {
        return Err(GgufError::Alignment { found });
    }
    if found > MAX_ALIGNMENT {
        return Err(GgufError::AlignmentTooLarge { found, limit: MAX_ALIGNMENT });
    }
    Ok(found)
}

/// Reads one tensor description. Its offset has to be `expected`, where the data of the tensors before it ends.
fn read_tensor(reader: &mut HeaderReader<'_>, index: u64, expected: u64) -> Result<TensorInfo, GgufError> {
    let name = reader.name(MAX_TENSOR_NAME_BYTES, Field::Nth("name of tensor", index))?;
    let position = reader.position();
    let n_dims = u64::from(reader.u32(Field::Of("dimension count", &name))?);
    if n_dims == 0 || n_dims > MAX_DIMENSIONS {
        let (tensor, limit) = (shown(&name), MAX_DIMENSIONS);
        return Err(GgufError::DimensionCount { tensor, found: n_dims, limit, position });
    }
    let mut shape = Vec::with_capacity(n_dims as usize);
    for dimension in 0..n_dims {
        let position = reader.position();
        let extent = reader.u64(Field::Of("dimension", &name))?;
        if extent == 0 {
            return Err(GgufError::ZeroDimension { tensor: shown(&name), dimension, position });
        }
        shape.push(extent);
    }
    let position = reader.position();
    let found = reader.u32(Field::Of("type", &name))?;
    let Some(tensor_type) = TensorType::from_ggml(found) else {
        return Err(GgufError::UnknownTensorType { tensor: shown(&name), found, position });
    };
    let Some(size_bytes) = checked_tensor_bytes(&shape, tensor_type) else {
        let (tensor, block_len) = (shown(&name), tensor_type.block_len());
        let found = shape.first().copied().unwrap_or_default();
        return Err(match found.is_multiple_of(block_len) {
            true => GgufError::TensorTooLarge { tensor, shape },
            false => GgufError::PartialBlock { tensor, found, tensor_type: tensor_type.name(), block_len },
        });
    };
    let position = reader.position();
    let offset = reader.u64(Field::Of("offset", &name))?;
    if offset != expected {
        return Err(GgufError::TensorOffset { tensor: shown(&name), found: offset, expected, position });
    }
    Ok(TensorInfo { name, shape, tensor_type, offset, size_bytes })
}
