//! Writes GGUF files: describe everything first, then stream the data of one tensor after the other.
//!
//! The finished header is read back by this crate's own reader before the first byte is written, so that the writer
//! has no rules of its own: a file is written exactly when it can be read.

use std::io::{self, Write};

use super::gguf::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, Gguf, MAX_ALIGNMENT, TensorInfo};
use super::gguf_error::{GgufError, shown};
use super::gguf_metadata::{Array, Metadata, Value};
use super::read_at::ReadAt;
use super::tensor_type::{TensorType, checked_tensor_bytes};

/// Why a GGUF file could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufWriteError {
    /// The described file is one that nobody could read.
    #[error("cannot write this file: {0}")]
    Refused(#[from] GgufError),
    /// The system could not write.
    #[error("GGUF: writing tensor data failed: {0}")]
    Write(#[from] io::Error),
    /// Data of another tensor than the next one.
    #[error("GGUF: data of tensor {found} came, the next tensor is {expected}")]
    Order {
        /// The tensor whose data is due.
        expected: String,
        /// The tensor whose data came.
        found: String,
    },
    /// More or less data than the tensor has.
    #[error("GGUF: {found_bytes} bytes came for tensor {tensor}, it has {size_bytes}")]
    Size {
        /// The tensor.
        tensor: String,
        /// Bytes that came for it.
        found_bytes: u64,
        /// Bytes that it has.
        size_bytes: u64,
    },
    /// Data after the last tensor.
    #[error("GGUF: {found_bytes} bytes came after the last tensor")]
    NoTensorLeft {
        /// Bytes that came.
        found_bytes: u64,
    },
}

/// The description of a file to be written.
///
/// ```
/// # use adapter_engine::formats::{GgufWriter, Gguf, TensorType};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut writer = GgufWriter::new();
/// writer.metadata("general.architecture", "llama");
/// writer.tensor("output_norm.weight", &[2], TensorType::F32);
/// let mut data = writer.start(Vec::new())?;
/// data.tensor("output_norm.weight", &[0, 0, 128, 63, 0, 0, 128, 63])?;
/// let file = data.finish()?;
/// assert_eq!(Gguf::read(&file)?.tensors().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct GgufWriter {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<u64>, TensorType)>,
}

impl GgufWriter {
    /// A file without metadata and tensors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key. `general.alignment`, a `u32`, also decides the padding of the data.
    pub fn metadata(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Adds all keys of another file, for a changed copy of it.
    pub fn copy_metadata(&mut self, metadata: &Metadata) -> &mut Self {
        self.metadata.extend(metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())));
        self
    }

    /// Adds a tensor; `shape` has its innermost dimension first. Data is written in the order of these calls.
    pub fn tensor(&mut self, name: impl Into<String>, shape: &[u64], tensor_type: TensorType) -> &mut Self {
        self.tensors.push((name.into(), shape.to_vec(), tensor_type));
        self
    }

    /// Checks the description and writes the header to `out`.
    ///
    /// # Errors
    /// [`GgufWriteError::Refused`] when the file could not be read again, with what is wrong with it.
    pub fn start<W: Write>(&self, mut out: W) -> Result<GgufDataWriter<W>, GgufWriteError> {
        let alignment = match self.metadata.iter().find(|(key, _)| key == ALIGNMENT_KEY) {
            // Anything else is refused by the reader below; the padding until then does not matter.
            Some((_, Value::U32(found))) if found.is_power_of_two() && u64::from(*found) <= MAX_ALIGNMENT => {
                u64::from(*found)
            }
            _ => DEFAULT_ALIGNMENT,
        };
        let mut header = Vec::new();
        header.extend(b"GGUF");
        header.extend(3u32.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_bytes(&mut header, key.as_bytes());
            header.extend(value.value_type().gguf_id().to_le_bytes());
            put_value(&mut header, value);
        }
        let mut data_end = 0u64;
        for (name, shape, tensor_type) in &self.tensors {
            put_bytes(&mut header, name.as_bytes());
            header.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|dim| header.extend(dim.to_le_bytes()));
            header.extend(tensor_type.ggml_id().to_le_bytes());
            header.extend(data_end.to_le_bytes());
            // A tensor whose size cannot be is refused by the reader below, before it looks at the next offset.
            let size_bytes = checked_tensor_bytes(shape, *tensor_type).unwrap_or(0);
            data_end = padded(data_end.saturating_add(size_bytes), alignment);
        }
        let data_offset = padded(header.len() as u64, alignment);
        let gguf = Gguf::read(&Planned { header: &header, len: data_offset.saturating_add(data_end) })?;
        header.resize(data_offset as usize, 0);
        out.write_all(&header)?;
        let tensors = gguf.tensors().to_vec();
        let mut writer = GgufDataWriter { out, alignment, tensors, next: 0, written_bytes: 0 };
        writer.skip_complete()?;
        Ok(writer)
    }
}

/// Takes the data of the tensors, in the order in which they were described.
#[derive(Debug)]
pub struct GgufDataWriter<W> {
    out: W,
    alignment: u64,
    tensors: Vec<TensorInfo>,
    next: usize,
    /// Bytes of tensor `next` that are written.
    written_bytes: u64,
}

impl<W: Write> GgufDataWriter<W> {
    /// The tensor whose data is due, `None` when all are complete.
    #[must_use]
    pub fn next_tensor(&self) -> Option<&TensorInfo> {
        self.tensors.get(self.next)
    }

    /// Writes the whole data of the next tensor, which has to be the one named.
    ///
    /// # Errors
    /// [`GgufWriteError::Order`], [`GgufWriteError::Size`], [`GgufWriteError::NoTensorLeft`] or a write error.
    pub fn tensor(&mut self, name: &str, data: &[u8]) -> Result<(), GgufWriteError> {
        let found_bytes = self.written_bytes.saturating_add(data.len() as u64);
        match self.next_tensor() {
            None => Err(GgufWriteError::NoTensorLeft { found_bytes }),
            Some(due) if due.name != name => {
                Err(GgufWriteError::Order { expected: shown(&due.name), found: shown(name) })
            }
            Some(due) if due.size_bytes != found_bytes => Err(size_error(due, found_bytes)),
            Some(_) => self.chunk(data),
        }
    }

    /// Writes a piece of the next tensor's data; when that is complete, the tensor after it is next. A piece may not
    /// reach into another tensor.
    ///
    /// # Errors
    /// [`GgufWriteError::Size`], [`GgufWriteError::NoTensorLeft`] or a write error.
    pub fn chunk(&mut self, data: &[u8]) -> Result<(), GgufWriteError> {
        let found_bytes = self.written_bytes.saturating_add(data.len() as u64);
        match self.next_tensor() {
            None if data.is_empty() => return Ok(()),
            None => return Err(GgufWriteError::NoTensorLeft { found_bytes }),
            Some(due) if found_bytes > due.size_bytes => return Err(size_error(due, found_bytes)),
            Some(_) => {}
        }
        self.out.write_all(data)?;
        self.written_bytes = found_bytes;
        self.skip_complete()
    }

    /// Ends the file and gives the writer back.
    ///
    /// # Errors
    /// [`GgufWriteError::Size`] when data is missing, or a write error.
    pub fn finish(mut self) -> Result<W, GgufWriteError> {
        if let Some(due) = self.next_tensor() {
            return Err(size_error(due, self.written_bytes));
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn skip_complete(&mut self) -> Result<(), GgufWriteError> {
        while let Some(due) = self.tensors.get(self.next)
            && due.size_bytes == self.written_bytes
        {
            let padding = padded(due.size_bytes, self.alignment).saturating_sub(due.size_bytes);
            io::copy(&mut io::Read::take(io::repeat(0), padding), &mut self.out)?;
            self.next += 1;
            self.written_bytes = 0;
        }
        Ok(())
    }
}

fn size_error(tensor: &TensorInfo, found_bytes: u64) -> GgufWriteError {
    GgufWriteError::Size { tensor: shown(&tensor.name), found_bytes, size_bytes: tensor.size_bytes }
}

fn padded(bytes: u64, alignment: u64) -> u64 {
    bytes.checked_next_multiple_of(alignment).unwrap_or(u64::MAX)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(x) => out.push(*x),
        Value::I8(x) => out.extend(x.to_le_bytes()),
        Value::U16(x) => out.extend(x.to_le_bytes()),
        Value::I16(x) => out.extend(x.to_le_bytes()),
        Value::U32(x) => out.extend(x.to_le_bytes()),
        Value::I32(x) => out.extend(x.to_le_bytes()),
        Value::F32(x) => out.extend(x.to_le_bytes()),
        Value::Bool(x) => out.push(u8::from(*x)),
        Value::String(text) => put_bytes(out, text),
        Value::Array(array) => put_array(out, array),
        Value::U64(x) => out.extend(x.to_le_bytes()),
        Value::I64(x) => out.extend(x.to_le_bytes()),
        Value::F64(x) => out.extend(x.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend(array.element_type().gguf_id().to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(items) => out.extend(items),
        Array::I8(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::U16(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I16(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::U32(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I32(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::F32(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::Bool(items) => out.extend(items.iter().map(|&x| u8::from(x))),
        Array::String(items) => items.iter().for_each(|text| put_bytes(out, text)),
        Array::U64(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I64(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::F64(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
    }
}

/// A file that is not written yet: its header and its length.
struct Planned<'a> {
    header: &'a [u8],
    len: u64,
}

impl ReadAt for Planned<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(0);
        let written = usize::try_from(offset).ok().and_then(|start| self.header.get(start..)).unwrap_or_default();
        buf.iter_mut().zip(written).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}
