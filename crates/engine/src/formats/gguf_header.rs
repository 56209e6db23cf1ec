//! A cursor over the header of a GGUF file: reads in chunks, asks for no memory that the file does not cover.

use std::io;

use super::gguf_error::{Field, GgufError};
use super::gguf_metadata::StringArray;
use super::read_at::ReadAt;

/// The most bytes a header may have. One with 1,048,576 tokens, their scores, types and merges has about 50 MB.
pub const MAX_HEADER_BYTES: u64 = 128 << 20;
/// The longest text in the metadata; chat templates have some KiB.
pub const MAX_STRING_BYTES: u64 = 16 << 20;

/// Bytes asked of the source at once. The header of a model with 128,000 tokens, 8 MB, takes 128 reads.
const CHUNK_BYTES: u64 = 64 << 10;

/// Memory for the ends of strings is asked for in one piece up to here, then by doubling as strings really come.
const STRINGS_AT_ONCE: u64 = 16 << 10;

pub(super) struct HeaderReader<'a> {
    source: &'a dyn ReadAt,
    file_bytes: u64,
    chunk: Vec<u8>,
    /// The first byte of `chunk` that was not handed out yet.
    at: usize,
    /// Its offset in the file.
    position: u64,
}

impl<'a> HeaderReader<'a> {
    pub(super) fn new(source: &'a dyn ReadAt) -> Self {
        Self { source, file_bytes: source.len(), chunk: Vec::new(), at: 0, position: 0 }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    fn left(&self) -> u64 {
        self.file_bytes.saturating_sub(self.position)
    }

    /// Checks that `count` things of at least `size` bytes can be in the rest of the file and within the limit.
    pub(super) fn need(&self, count: u64, size: u64, field: Field<'_>) -> Result<(), GgufError> {
        let needed_bytes = count.saturating_mul(size);
        if needed_bytes > self.left() {
            return Err(GgufError::Truncated {
                field: field.to_string(),
                position: self.position,
                needed_bytes,
                left_bytes: self.left(),
            });
        }
        let end = self.position.saturating_add(needed_bytes);
        if end > MAX_HEADER_BYTES {
            return Err(GgufError::Limit {
                field: "end of the header".to_owned(),
                found: end,
                limit: MAX_HEADER_BYTES,
                position: self.position,
            });
        }
        Ok(())
    }

    fn ready(&self) -> &[u8] {
        self.chunk.get(self.at..).unwrap_or_default()
    }

    fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
        self.position = self.position.saturating_add(bytes as u64);
    }

    /// Gets the next chunk; called when the last one is used up and the file is known to go on.
    fn refill(&mut self) -> Result<(), GgufError> {
        let length = self.left().min(CHUNK_BYTES);
        self.chunk.resize(length as usize, 0);
        self.at = 0;
        let result = self.source.read_exact_at(self.position, &mut self.chunk);
        result.map_err(|source| {
            self.chunk.clear();
            read_error(source, self.position, length, self.file_bytes)
        })
    }

    pub(super) fn bytes<const N: usize>(&mut self, field: Field<'_>) -> Result<[u8; N], GgufError> {
        self.need(1, N as u64, field)?;
        if let Some(&bytes) = self.ready().first_chunk::<N>() {
            self.advance(N);
            return Ok(bytes);
        }
        let mut bytes = [0; N];
        let mut rest = bytes.as_mut_slice();
        while !rest.is_empty() {
            if self.ready().is_empty() {
                self.refill()?;
            }
            let take = self.ready().len().min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            now.copy_from_slice(self.ready().get(..take).unwrap_or_default());
            rest = later;
            self.advance(take);
        }
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, field: Field<'_>) -> Result<u32, GgufError> {
        self.bytes(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: Field<'_>) -> Result<u64, GgufError> {
        self.bytes(field).map(u64::from_le_bytes)
    }

    pub(super) fn bool(&mut self, field: Field<'_>) -> Result<bool, GgufError> {
        let position = self.position;
        match self.bytes(field)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(GgufError::InvalidBool { field: field.to_string(), found, position }),
        }
    }

    /// Appends the next `count` bytes to `out`.
    fn append(&mut self, out: &mut Vec<u8>, count: u64, field: Field<'_>) -> Result<(), GgufError> {
        self.need(count, 1, field)?;
        // `count` is below the limit on a header here, so it fits a usize of any size.
        out.try_reserve(count as usize).map_err(|_| no_memory(field, count))?;
        let mut left = count as usize;
        while left > 0 {
            if self.ready().is_empty() {
                self.refill()?;
            }
            let take = self.ready().len().min(left);
            out.extend_from_slice(self.ready().get(..take).unwrap_or_default());
            self.advance(take);
            left -= take;
        }
        Ok(())
    }

    /// A string's length, checked.
    fn string_len(&mut self, limit: u64, field: Field<'_>) -> Result<u64, GgufError> {
        let position = self.position;
        let found = self.u64(field)?;
        if found > limit && found <= self.left() {
            return Err(GgufError::Limit { field: field.to_string(), found, limit, position });
        }
        self.need(found, 1, field)?;
        Ok(found)
    }

    pub(super) fn string(&mut self, field: Field<'_>) -> Result<Vec<u8>, GgufError> {
        let length = self.string_len(MAX_STRING_BYTES, field)?;
        let mut out = Vec::new();
        self.append(&mut out, length, field)?;
        Ok(out)
    }

    /// A name: not empty, at most `limit` bytes of UTF-8.
    pub(super) fn name(&mut self, limit: u64, field: Field<'_>) -> Result<String, GgufError> {
        let start = self.position;
        let length = self.string_len(limit, field)?;
        if length == 0 {
            return Err(GgufError::EmptyName { field: field.to_string(), position: start });
        }
        let position = self.position;
        let mut out = Vec::new();
        out.try_reserve_exact(length as usize).map_err(|_| no_memory(field, length))?;
        self.append(&mut out, length, field)?;
        String::from_utf8(out).map_err(|_| GgufError::InvalidUtf8 { field: field.to_string(), position })
    }

    /// `count` numbers of `N` bytes each.
    pub(super) fn numbers<const N: usize, T>(
        &mut self,
        count: u64,
        key: &str,
        number: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        let field = Field::Named(key);
        self.need(count, N as u64, field)?;
        let mut left = count as usize; // below the limit on a header, see `need`
        let mut out = Vec::new();
        out.try_reserve_exact(left).map_err(|_| no_memory(field, count.saturating_mul(N as u64)))?;
        while left > 0 {
            let (whole, _) = self.ready().as_chunks::<N>();
            let take = whole.len().min(left);
            out.extend(whole.iter().take(take).map(|&bytes| number(bytes)));
            self.advance(take.saturating_mul(N));
            left -= take;
            if left > 0 {
                // One number across the border of two chunks.
                out.push(number(self.bytes(field)?));
                left -= 1;
            }
        }
        Ok(out)
    }

    /// `count` truth values.
    pub(super) fn bools(&mut self, count: u64, key: &str) -> Result<Vec<bool>, GgufError> {
        let start = self.position;
        let bytes = self.numbers(count, key, |[byte]: [u8; 1]| byte)?;
        if let Some((index, &found)) = bytes.iter().enumerate().find(|(_, byte)| **byte > 1) {
            let field = Field::Element(key, index as u64).to_string();
            return Err(GgufError::InvalidBool { field, found, position: start.saturating_add(index as u64) });
        }
        Ok(bytes.into_iter().map(|byte| byte == 1).collect())
    }

    /// `count` strings.
    pub(super) fn strings(&mut self, count: u64, key: &str) -> Result<StringArray, GgufError> {
        self.need(count, 8, Field::Named(key))?;
        let mut strings = StringArray::with_capacity(count.min(STRINGS_AT_ONCE) as usize);
        for index in 0..count {
            let field = Field::Element(key, index);
            let length = self.string_len(MAX_STRING_BYTES, field)?;
            strings.push_with(|bytes| self.append(bytes, length, field))?;
        }
        strings.shrink();
        Ok(strings)
    }
}

fn no_memory(field: Field<'_>, needed_bytes: u64) -> GgufError {
    GgufError::OutOfMemory { field: field.to_string(), needed_bytes }
}

/// The error of a read whose range was inside the file when it was opened.
pub(super) fn read_error(source: io::Error, position: u64, length: u64, file_bytes: u64) -> GgufError {
    if source.kind() == io::ErrorKind::UnexpectedEof {
        return GgufError::FileChanged { end: position.saturating_add(length), file_bytes };
    }
    GgufError::Read { position, length, source }
}
