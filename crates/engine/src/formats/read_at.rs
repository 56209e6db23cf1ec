//! Positioned reads: one road to the bytes of a file, a browser `Blob` or an OPFS handle.
//!
//! Plain reads instead of a memory map: a file that is truncated while it is mapped kills the process without a word,
//! a read that comes up short is an error with a sentence.

use std::io;

/// A source of bytes with a known length that can be read at any offset.
///
/// Offsets are `u64` to the last moment: `usize` has 32 bits in a browser and models are larger than that.
pub trait ReadAt {
    /// Number of bytes, fixed when the source was opened.
    fn len(&self) -> u64;

    /// Fills `buf` with the bytes that begin at `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the source ends before `buf` is full, otherwise what the system said.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn ends_early(offset: u64, wanted: usize, len: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("{wanted} bytes were wanted at offset {offset}, the source has {len} bytes"),
    )
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let found = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(buf.len())?))
            .and_then(|range| self.get(range))
            .ok_or_else(|| ends_early(offset, buf.len(), <[u8]>::len(self) as u64))?;
        buf.copy_from_slice(found);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, buf)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buf)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Box<T> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buf)
    }
}

/// A file on disk, read by position, so that one open file serves many readers.
#[cfg(any(unix, windows))]
#[derive(Debug)]
pub struct ReadAtFile {
    file: std::fs::File,
    len: u64,
}

#[cfg(any(unix, windows))]
impl ReadAtFile {
    /// Opens `path` for reading. The length is taken now; a file that shrinks later gives a read error.
    ///
    /// # Errors
    /// The system's error with the path added, or a sentence when `path` is a folder or a pipe.
    pub fn open(path: impl AsRef<std::path::Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let with_path = |error: io::Error| io::Error::new(error.kind(), format!("{error}: {}", path.display()));
        // Asked before opening, because opening a pipe waits for its writer.
        let about = std::fs::metadata(path).map_err(with_path)?;
        if about.is_dir() {
            let sentence = format!("this is a folder, name the file inside it: {}", path.display());
            return Err(io::Error::new(io::ErrorKind::IsADirectory, sentence));
        }
        if !about.is_file() {
            let sentence = format!("this is no regular file and cannot be read by position: {}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        }
        let file = std::fs::File::open(path).map_err(with_path)?;
        let len = file.metadata().map_err(with_path)?.len();
        Ok(Self { file, len })
    }
}

#[cfg(any(unix, windows))]
impl ReadAt for ReadAtFile {
    fn len(&self) -> u64 {
        self.len
    }

    #[cfg(unix)]
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, buf, offset) {
                Ok(0) => return Err(ends_early(offset, buf.len(), self.len)),
                Ok(read) => {
                    buf = buf.get_mut(read..).unwrap_or_default();
                    offset = offset.saturating_add(read as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_by_position() {
        let bytes = vec![1u8, 2, 3, 4];
        let mut two = [0; 2];
        bytes.read_exact_at(2, &mut two).expect("two bytes are there");
        assert_eq!(two, [3, 4]);
        for offset in [3, 4, 5, u64::from(u32::MAX) + 1, u64::MAX] {
            let error = bytes.read_exact_at(offset, &mut two).expect_err("past the end");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "offset {offset}");
        }
        bytes.read_exact_at(4, &mut []).expect("nothing at the end is there");
    }

    #[cfg(any(unix, windows))]
    #[test]
    fn a_folder_is_refused_with_a_sentence() {
        let error = ReadAtFile::open(std::env::temp_dir()).expect_err("a folder");
        assert!(error.to_string().starts_with("this is a folder"), "{error}");
        let error = ReadAtFile::open("no/such/file.gguf").expect_err("a missing file");
        assert!(error.to_string().ends_with("no/such/file.gguf"), "{error}");
    }
}
