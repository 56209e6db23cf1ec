//! A `Blob` (a picked file, or one in the browser's private file system) as a source of bytes. Reads are synchronous,
//! which browsers allow in workers only.

use std::io;

use adapter_engine::formats::ReadAt;
use wasm_bindgen::prelude::*;
use web_sys::{Blob, FileReaderSync};

/// A `Blob` and the reader for it.
pub struct BlobSource {
    blob: Blob,
    reader: FileReaderSync,
}

impl BlobSource {
    /// A source of the bytes of `blob`.
    ///
    /// # Errors
    /// Outside a worker, where browsers have no `FileReaderSync`.
    pub fn new(blob: Blob) -> Result<Self, JsValue> {
        Ok(Self { reader: FileReaderSync::new()?, blob })
    }
}

impl ReadAt for BlobSource {
    fn len(&self) -> u64 {
        // A Blob's size is a double that holds an integer.
        self.blob.size() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.len() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} bytes were wanted at offset {offset}, the file has {} bytes", buf.len(), self.len()),
            ));
        }
        let bytes = self
            .blob
            .slice_with_f64_and_f64(offset as f64, end as f64)
            .and_then(|part| self.reader.read_as_array_buffer(&part))
            .map_err(|error| io::Error::other(format!("the browser could not read the file: {}", said(&error))))?;
        let bytes = js_sys::Uint8Array::new(&bytes);
        if bytes.length() as usize != buf.len() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        bytes.copy_to(buf);
        Ok(())
    }
}

/// What an exception says.
fn said(error: &JsValue) -> String {
    error.dyn_ref::<js_sys::Error>().map_or_else(|| format!("{error:?}"), |error| String::from(error.message()))
}
