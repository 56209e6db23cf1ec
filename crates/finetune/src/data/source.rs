//! Cuts a file into rows without parsing it: one a line, or the items of one JSON array.
//!
//! Which of the two it is shows in the first character, whatever the file is called. Items of an array are told apart by
//! quotes and brackets alone, so that one broken item spoils neither the others nor the line numbers.

use std::io::BufRead;

use super::error::DataError;
use super::problem::Place;

/// The longest row in bytes, as JSON.
pub(super) const MAX_ROW_BYTES: usize = 16 << 20;
/// Beginnings of files that people take for data sets.
const OTHER_FILES: [(&[u8], &str); 7] = [
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What was found of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) place: Place,
    /// Its size; the bytes beyond [`MAX_ROW_BYTES`] were passed over.
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Unknown,
    Lines,
    Array,
    Done,
}

/// Reads a file row by row.
pub(super) struct RowReader<'a> {
    reader: &'a mut dyn BufRead,
    name: &'a str,
    shape: Shape,
    line: u64,
    rows: u64,
}

impl<'a> RowReader<'a> {
    pub(super) fn new(reader: &'a mut dyn BufRead, name: &'a str) -> Self {
        Self { reader, name, shape: Shape::Unknown, line: 1, rows: 0 }
    }

    /// The next row, its bytes in `row`; `None` at the end.
    pub(super) fn next(&mut self, row: &mut Vec<u8>) -> Result<Option<Record>, DataError> {
        row.clear();
        if self.shape == Shape::Unknown {
            self.start(row)?;
        }
        match self.shape {
            Shape::Array => self.next_item(row),
            Shape::Lines => self.next_line(row),
            Shape::Unknown | Shape::Done => Ok(None),
        }
    }

    fn chunk(&mut self) -> Result<&[u8], DataError> {
        loop {
            // Twice, as the borrow of the first would last to the end of the function.
            match self.reader.fill_buf() {
                Ok(_) => break,
                Err(source) if source.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(DataError::Io { source, name: self.name.to_owned() }),
            }
        }
        self.reader.fill_buf().map_err(|source| DataError::Io { source, name: self.name.to_owned() })
    }

    fn take(&mut self) -> Result<Option<u8>, DataError> {
        let byte = self.chunk()?.first().copied();
        if byte.is_some() {
            self.reader.consume(1);
        }
        Ok(byte)
    }

    /// Finds the first character. If it begins a line and not an array, it is left in `row`.
    fn start(&mut self, row: &mut Vec<u8>) -> Result<(), DataError> {
        let beginning = self.chunk()?;
        if let Some((_, found)) = OTHER_FILES.iter().find(|(magic, _)| beginning.starts_with(magic)) {
            return Err(DataError::NotJson { found, name: self.name.to_owned() });
        }
        self.shape = Shape::Lines;
        while let Some(byte) = self.take()? {
            match byte {
                b'\n' => self.line += 1,
                _ if byte.is_ascii_whitespace() => {}
                b'[' if row.is_empty() => {
                    self.shape = Shape::Array;
                    break;
                }
                _ => {
                    row.push(byte);
                    if row == BYTE_ORDER_MARK {
                        row.clear();
                    } else if !BYTE_ORDER_MARK.starts_with(row) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// `row` may hold the beginning of the line already.
    fn next_line(&mut self, row: &mut Vec<u8>) -> Result<Option<Record>, DataError> {
        loop {
            let mut bytes = row.len() as u64;
            let mut ended = row.last() == Some(&b'\n');
            let mut at_end = false;
            while !ended {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    at_end = true;
                    break;
                }
                let found = chunk.iter().position(|byte| *byte == b'\n');
                let len = found.map_or(chunk.len(), |at| at + 1);
                let room = MAX_ROW_BYTES.saturating_sub(row.len()).min(len);
                row.extend_from_slice(chunk.get(..room).unwrap_or_default());
                bytes += len as u64;
                ended = found.is_some();
                self.reader.consume(len);
            }
            let line = self.line;
            if ended {
                self.line += 1;
            }
            if row.iter().any(|byte| !byte.is_ascii_whitespace()) || bytes > row.len() as u64 {
                self.rows += 1;
                return Ok(Some(Record { place: Place { line, row: None }, bytes }));
            }
            if at_end {
                self.shape = Shape::Done;
                return Ok(None);
            }
            row.clear();
        }
    }

    fn next_item(&mut self, row: &mut Vec<u8>) -> Result<Option<Record>, DataError> {
        let (mut depth, mut in_text, mut escaped) = (0_u64, false, false);
        let mut row_line = None;
        let mut bytes = 0_u64;
        loop {
            let Some(byte) = self.take()? else {
                return Err(DataError::Truncated {
                    line: self.line,
                    row_line: row_line.unwrap_or(self.line),
                    name: self.name.to_owned(),
                });
            };
            let is_space = byte.is_ascii_whitespace();
            if byte == b'\n' {
                self.line += 1;
                if in_text {
                    // JSON has no line breaks in texts: a quote is missing, and this row is lost. The next one need not be
                    // if each has its own line, as is common.
                    (in_text, escaped) = (false, false);
                    let seen = row.trim_ascii_end();
                    if depth == 1 && seen.ends_with(b"},") {
                        let line = row_line.unwrap_or(self.line);
                        row.truncate(seen.len() - 1);
                        return Ok(Some(self.item(line, row.len() as u64)));
                    }
                    if depth == 1 && seen.ends_with(b"}") {
                        depth = 0;
                    }
                }
            }
            if in_text {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => in_text = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => in_text = true,
                    b'{' | b'[' => depth += 1,
                    b']' if depth == 0 => {
                        self.shape = Shape::Done;
                        self.check_end()?;
                        // `[]` has no row, `[a,]` has an empty second one, which is not worth a word.
                        return Ok(row_line.map(|line| self.item(line, bytes)));
                    }
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    b',' if depth == 0 => {
                        let line = row_line.unwrap_or(self.line);
                        return Ok(Some(self.item(line, bytes)));
                    }
                    _ => {}
                }
            }
            if row_line.is_none() && is_space {
                continue;
            }
            row_line.get_or_insert(self.line);
            bytes += 1;
            if row.len() < MAX_ROW_BYTES {
                row.push(byte);
            }
        }
    }

    fn item(&mut self, line: u64, bytes: u64) -> Record {
        self.rows += 1;
        Record { place: Place { line, row: Some(self.rows) }, bytes }
    }

    /// Nothing but white space may follow an array.
    fn check_end(&mut self) -> Result<(), DataError> {
        while let Some(byte) = self.take()? {
            match byte {
                b'\n' => self.line += 1,
                _ if byte.is_ascii_whitespace() => {}
                _ => return Err(DataError::AfterArray { line: self.line, name: self.name.to_owned() }),
            }
        }
        Ok(())
    }
}
