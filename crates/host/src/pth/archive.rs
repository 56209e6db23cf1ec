//! Opening a checkpoint that may have been made by an enemy: limits are checked before anything is built from it.
//!
//! A pickle is a program for Python's unpickler. The reader used here (`pytorch-reader`) is not one: it knows the seven
//! functions with which `torch.save` rebuilds tensors and containers, and takes any other name for an opaque value, so
//! nothing in a file is ever run. What is left to fear is memory, and against that stand the limits below.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use pytorch_reader::{DType, PickleError, PickleValue, PytorchError, PytorchReader, Tensor};
use zip::{CompressionMethod, ZipArchive};

use super::error::PthError;

/// Bytes read for the archive's list of parts, and again for their headers. A checkpoint with the weights of a 65B model
/// has 0.2 MiB of each.
const MAX_DIRECTORY_BYTES: u64 = 16 << 20;
/// Parts of the archive: a tensor each. A checkpoint with all weights of a 65B model has about 1,000.
const MAX_PARTS: u64 = 1 << 14;
/// Bytes of the pickle. It names the tensors and holds no numbers; the largest checkpoints have 0.2 MiB.
const MAX_PICKLE_BYTES: u64 = 1 << 20;
/// Bytes of the names of all tensors together, each with the path that leads to it.
const MAX_NAME_BYTES: u64 = 16 << 20;
/// Numbers that are read from all tensors together, which may share their storage. A 65B model's adapter has 6,558,720.
const MAX_NUMBERS: u64 = 1 << 26;
/// Characters of a name in a sentence.
const NAME_CHARS: usize = 96;
/// Characters of the reader's words in a sentence.
const REASON_CHARS: usize = 240;

/// The tensors of a checkpoint by name, none of them read yet.
pub(super) struct Checkpoint {
    tensors: BTreeMap<String, Tensor>,
    /// Numbers that were read.
    numbers: Cell<u64>,
}

impl Checkpoint {
    /// Reads the names and shapes of all tensors.
    pub fn open(path: &Path) -> Result<Self, PthError> {
        check_archive(path)?;
        check_names(path)?;
        let tensors = PytorchReader::new(path).map_err(damaged)?.into_tensors();
        Ok(Self { tensors: tensors.into_iter().collect(), numbers: Cell::new(0) })
    }

    /// The same with `prefix` taken off the names, and without the others.
    pub fn below(self, prefix: &str) -> Self {
        let named = |(name, tensor): (String, Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor));
        Self { tensors: self.tensors.into_iter().filter_map(named).collect(), numbers: self.numbers }
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor, each size below 2^24.
    pub fn shape(&self, name: &str) -> Result<Vec<u32>, PthError> {
        let tensor = self.tensor(name)?;
        let dim = |dim: &usize| u32::try_from(*dim).ok().filter(|dim| *dim < 1 << 24);
        let dims: Option<Vec<u32>> = tensor.shape().iter().map(dim).collect();
        dims.ok_or_else(|| self.wrong(name, "sizes below 16,777,216"))
    }

    /// The numbers of a tensor of floats.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>, PthError> {
        let tensor = self.tensor(name)?;
        let numbers = tensor.shape().iter().try_fold(1u64, |product, dim| product.checked_mul(*dim as u64));
        let numbers = self.numbers.get().saturating_add(numbers.unwrap_or(u64::MAX));
        if numbers > MAX_NUMBERS {
            let what = format!("count of numbers up to {:?}", shortened(name));
            return Err(PthError::TooLarge { what, found: numbers, limit: MAX_NUMBERS });
        }
        self.numbers.set(numbers);
        let known = matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16);
        if !known {
            return Err(self.wrong(name, "F32, F16 or BF16"));
        }
        let bytes = tensor.read().map_err(|error| match error.raw_os_error() {
            Some(_) => PthError::Io(error),
            None => PthError::Damaged { reason: cut(&error.to_string(), REASON_CHARS) },
        })?;
        // The reader hands out the machine's own byte order.
        let two = |bytes: &[u8]| bytes.try_into().map(u16::from_ne_bytes).unwrap_or_default();
        Ok(match tensor.dtype() {
            DType::F16 => bytes.chunks_exact(2).map(|pair| half::f16::from_bits(two(pair)).to_f32()).collect(),
            DType::BF16 => bytes.chunks_exact(2).map(|pair| half::bf16::from_bits(two(pair)).to_f32()).collect(),
            _ => {
                bytes.chunks_exact(4).map(|four| four.try_into().map(f32::from_ne_bytes).unwrap_or(f32::NAN)).collect()
            }
        })
    }

    /// The error for a tensor of another shape or type.
    pub fn wrong(&self, name: &str, wanted: impl Into<String>) -> PthError {
        let found = self.tensors.get(name);
        let found = found.map_or_else(|| "missing".to_owned(), |t| format!("{:?} {:?}", t.dtype(), t.shape()));
        PthError::Shape { name: shortened(name), found: shortened(&found), wanted: wanted.into() }
    }

    /// The error for a tensor that is not there.
    pub fn missing(&self, name: &str) -> PthError {
        let mut found: Vec<String> = self.names().take(3).map(|name| format!("{:?}", shortened(name))).collect();
        match self.tensors.len() {
            0 => found.push("no tensors".to_owned()),
            1..=3 => {}
            count => found.push(format!("{} more", count - 3)),
        }
        PthError::Missing { name: name.to_owned(), found: found.join(", ") }
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, PthError> {
        self.tensors.get(name).ok_or_else(|| self.missing(name))
    }
}

/// Text of a file as it can stand in a sentence.
pub(super) fn shortened(text: &str) -> String {
    cut(text, NAME_CHARS)
}

fn cut(text: &str, most: usize) -> String {
    let mut out: String = text.chars().take(most).collect();
    if text.chars().nth(most).is_some() {
        out.push_str("...");
    }
    out
}

fn damaged(error: PytorchError) -> PthError {
    match error {
        PytorchError::Io(error) if error.raw_os_error().is_some() => PthError::Io(error),
        PytorchError::Pickle(PickleError::Io(error)) if error.raw_os_error().is_some() => PthError::Io(error),
        other => PthError::Damaged { reason: cut(&other.to_string(), REASON_CHARS) },
    }
}

/// A file of which only so many bytes may be read.
struct Budget {
    file: File,
    left: Rc<Cell<u64>>,
}

impl Read for Budget {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64);
        self.left.set(left.ok_or_else(|| io::Error::other("its list of parts is too long"))?);
        Ok(read)
    }
}

impl Seek for Budget {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

/// Looks at the archive alone: what it is, how many parts, how large the pickle, nothing compressed.
///
/// Other containers that PyTorch reads are refused. They are of the years before the method, and one of them (TAR) can
/// claim any amount of memory.
fn check_archive(path: &Path) -> Result<(), PthError> {
    let mut file = File::open(path).map_err(PthError::Io)?;
    if !file.metadata().map_err(PthError::Io)?.is_file() {
        return Err(PthError::NotCheckpoint { found: "it is a folder or a device, not a file" });
    }
    let mut head = Vec::new();
    file.by_ref().take(8).read_to_end(&mut head).map_err(PthError::Io)?;
    if !head.starts_with(b"PK\x03\x04") {
        let found = match head.first() {
            None => "it is empty",
            Some(0x80) => "it is a pickle without an archive around it, as PyTorch before 1.6 wrote",
            Some(_) => "it is no archive of PyTorch 1.6 or newer",
        };
        return Err(PthError::NotCheckpoint { found });
    }
    let left = Rc::new(Cell::new(MAX_DIRECTORY_BYTES));
    let unsound = |error: zip::result::ZipError| match error {
        zip::result::ZipError::Io(error) if error.raw_os_error().is_some() => PthError::Io(error),
        other => PthError::Damaged { reason: cut(&other.to_string(), REASON_CHARS) },
    };
    let budget = Budget { file, left: Rc::clone(&left) };
    let mut archive = ZipArchive::new(BufReader::with_capacity(512, budget)).map_err(unsound)?;
    let parts = archive.len() as u64;
    if parts > MAX_PARTS {
        return Err(PthError::TooLarge { what: "number of parts".to_owned(), found: parts, limit: MAX_PARTS });
    }
    left.set(MAX_DIRECTORY_BYTES);
    let mut pickles = 0;
    for index in 0..archive.len() {
        let part = archive.by_index_raw(index).map_err(unsound)?;
        let name = part.name().map_err(unsound)?;
        if part.compression() != CompressionMethod::Stored {
            return Err(PthError::Compressed { name: shortened(&name) });
        }
        if name.ends_with("data.pkl") {
            pickles += 1;
            if part.size() > MAX_PICKLE_BYTES {
                let what = "pickle (in bytes)".to_owned();
                return Err(PthError::TooLarge { what, found: part.size(), limit: MAX_PICKLE_BYTES });
            }
        }
    }
    match pickles {
        0 => Err(PthError::NotCheckpoint { found: "it is an archive without a data.pkl" }),
        _ => Ok(()),
    }
}

/// Adds up how long the names of all tensors will be: the reader gives each tensor its whole path, and a pickle of a few
/// bytes can put a million of them under a name of a million letters.
fn check_names(path: &Path) -> Result<(), PthError> {
    match PytorchReader::read_pickle_data(path, None).map_err(damaged)? {
        PickleValue::Dict(entries) => dict_bytes(&entries, 0, &mut 0),
        _ => Err(PthError::NotCheckpoint { found: "what it holds is no dictionary of tensors" }),
    }
}

fn dict_bytes(entries: &HashMap<String, PickleValue>, path_bytes: u64, total: &mut u64) -> Result<(), PthError> {
    entries.iter().try_for_each(|(name, value)| value_bytes(value, path_bytes + name.len() as u64 + 1, total))
}

fn value_bytes(value: &PickleValue, path_bytes: u64, total: &mut u64) -> Result<(), PthError> {
    match value {
        PickleValue::Dict(entries) => dict_bytes(entries, path_bytes, total),
        PickleValue::List(items) => {
            // An index has at most 7 digits, because a pickle of 1 MiB holds no more values.
            items.iter().try_for_each(|item| value_bytes(item, path_bytes + 8, total))
        }
        PickleValue::Unsupported(_) => {
            *total += path_bytes;
            match *total > MAX_NAME_BYTES {
                true => {
                    let what = "length of all names (in bytes)".to_owned();
                    Err(PthError::TooLarge { what, found: *total, limit: MAX_NAME_BYTES })
                }
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
