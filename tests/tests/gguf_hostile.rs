//! Files from strangers: every lie a GGUF header can tell is one error with the right name and field, never a panic,
//! a hang, or memory and reads out of proportion to the file.
//!
//! The cases follow llama.cpp's `tests/test-gguf.cpp` (their names are kept where there is one) and the published
//! faults of GGUF readers: counts times sizes that wrap, padding that wraps, unbounded alignments, data past the end.

use std::cell::Cell;
use std::io;

use adapter_engine::formats::gguf::{MAX_HEADER_BYTES, MAX_METADATA_KEYS, MAX_STRING_BYTES, MAX_TENSORS};
use adapter_engine::formats::{
    Gguf, GgufError, GgufWriter, ReadAt, StringArray, TensorType, Value, checked_tensor_bytes,
};

const U32: u32 = 4;
const I32: u32 = 5;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;

const F32: u32 = 0;
const Q4_0: u32 = 2;
const I8: u32 = 24;
const I16: u32 = 25;
const I64: u32 = 27;

/// A file written field by field, so that each can lie.
#[derive(Clone, Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn header(n_tensors: u64, n_kv: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(n_tensors).u64(n_kv)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn string(self, text: &[u8]) -> Self {
        self.u64(text.len() as u64).bytes(text)
    }

    /// A key and a value type; the value follows.
    fn key(self, key: &str, value_type: u32) -> Self {
        self.string(key.as_bytes()).u32(value_type)
    }

    fn array(self, key: &str, element_type: u32, count: u64) -> Self {
        self.key(key, ARRAY).u32(element_type).u64(count)
    }

    fn tensor(self, name: &str, shape: &[u64], tensor_type: u32, offset: u64) -> Self {
        let named = self.string(name.as_bytes()).u32(shape.len() as u32);
        shape.iter().fold(named, |raw, &dim| raw.u64(dim)).u32(tensor_type).u64(offset)
    }

    fn pad(mut self, alignment: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(alignment), 0);
        self
    }

    fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    fn read(&self) -> Result<Gguf, GgufError> {
        let source = Counted { bytes: &self.0, bytes_read: Cell::new(0) };
        let result = Gguf::read(&source);
        assert!(source.bytes_read.get() <= self.0.len() as u64, "nothing is read twice");
        let (partial, error) = Gguf::read_partial(&self.0);
        assert_eq!(error.map(|e| e.to_string()), result.as_ref().err().map(ToString::to_string));
        assert!(partial.position <= self.0.len() as u64);
        result
    }
}

/// Counts the bytes that are read.
struct Counted<'a> {
    bytes: &'a [u8],
    bytes_read: Cell<u64>,
}

impl ReadAt for Counted<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.bytes_read.set(self.bytes_read.get() + buf.len() as u64);
        self.bytes.read_exact_at(offset, buf)
    }
}

/// A file of `len` bytes that begins with `start`, ends with `end` and has zeros between; nothing of it is on disk.
struct Sparse {
    start: Vec<u8>,
    end: Vec<u8>,
    len: u64,
    bytes_read: Cell<u64>,
}

impl ReadAt for Sparse {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.bytes_read.set(self.bytes_read.get() + buf.len() as u64);
        buf.fill(0);
        let end_offset = self.len - self.end.len() as u64;
        for (start, part) in [(0, &self.start), (end_offset, &self.end)] {
            let from = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
            let to = usize::try_from(start.saturating_sub(offset)).unwrap_or(usize::MAX);
            let (part, buf) = (part.get(from..).unwrap_or_default(), buf.get_mut(to..).unwrap_or_default());
            buf.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        }
        Ok(())
    }
}

fn sparse(start: Raw, len: u64) -> Sparse {
    Sparse { start: start.0, end: Vec::new(), len, bytes_read: Cell::new(0) }
}

/// One test a case: the file, the error it has to give, and the field that has to be named.
macro_rules! refused {
    ($($name:ident: $file:expr => $error:pat, $field:expr;)*) => {$(
        #[test]
        fn $name() {
            let error = $file.read().err().expect("the file has to be refused");
            assert!(matches!(error, $error), "another error than wanted: {error:?}");
            assert_eq!(error.field(), $field, "{error}");
            assert!(error.to_string().starts_with("GGUF: ") && !error.hint().is_empty());
        }
    )*};
}

/// One test a case: a file that has to be read.
macro_rules! accepted {
    ($($name:ident: $file:expr, $tensors:expr, $keys:expr;)*) => {$(
        #[test]
        fn $name() {
            let gguf = $file.read().expect("the file is sound");
            assert_eq!((gguf.tensors().len(), gguf.metadata.len()), ($tensors, $keys));
        }
    )*};
}

accepted! {
    header_empty: Raw::header(0, 0), 0, 0;
    header_version_2: Raw(b"GGUF".to_vec()).u32(2).u64(0).u64(0), 0, 0;
    kv_success: Raw::header(0, 2).key("a", BOOL).bytes(&[1]).array("b", STRING, 2).string(b"").string(b"\xff"), 0, 2;
    kv_empty_arrays: Raw::header(0, 2).array("a", U32, 0).array("b", STRING, 0), 0, 2;
    align_1_mib: Raw::header(0, 1).key("general.alignment", U32).u32(1 << 20), 0, 1;
    tensors_success: Raw::header(2, 0).tensor("a", &[1], F32, 0).tensor("b", &[32], Q4_0, 32).pad(32).zeros(50), 2, 0;
    tensors_name_of_64_bytes: Raw::header(1, 0).tensor(&"n".repeat(64), &[1], F32, 0).pad(32).zeros(4), 1, 0;
    tensors_known_type_without_kernel: Raw::header(1, 0).tensor("t", &[256], 21, 0).pad(32).zeros(110), 1, 0;
    data_custom_align: Raw::header(2, 1).key("general.alignment", U32).u32(1)
        .tensor("a", &[3], I8, 0).tensor("b", &[1], I8, 3).zeros(4), 2, 1;
    data_after_the_last_tensor: Raw::header(1, 0).tensor("a", &[1], F32, 0).pad(32).zeros(1000), 1, 0;
}

refused! {
    header_no_bytes: Raw::default() => GgufError::Truncated { position: 0, left_bytes: 0, .. }, "magic";
    header_three_bytes: Raw(b"GGU".to_vec()) => GgufError::Truncated { left_bytes: 3, .. }, "magic";
    header_bad_magic: Raw(b"FUGG".to_vec()).u32(3).u64(0).u64(0) => GgufError::BadMagic { found: [b'F', ..] }, "magic";
    header_git_lfs_pointer: Raw(b"version https://git-lfs".to_vec()) => GgufError::BadMagic { .. }, "magic";
    header_without_version: Raw(b"GGUF\x03".to_vec()) => GgufError::Truncated { position: 4, .. }, "version";
    header_bad_version_0: Raw(b"GGUF".to_vec()).u32(0) => GgufError::UnsupportedVersion { found: 0 }, "version";
    header_bad_version_1: Raw(b"GGUF".to_vec()).u32(1) => GgufError::UnsupportedVersion { found: 1 }, "version";
    header_bad_version_future: Raw(b"GGUF".to_vec()).u32(4) => GgufError::UnsupportedVersion { found: 4 }, "version";
    header_bad_version_max: Raw(b"GGUF".to_vec()).u32(u32::MAX) => GgufError::UnsupportedVersion { .. }, "version";
    header_big_endian: Raw(b"GGUF".to_vec()).u32(3 << 24) => GgufError::BigEndian { found: 3 }, "version";
    header_without_n_tensors: Raw(b"GGUF".to_vec()).u32(3) => GgufError::Truncated { position: 8, .. }, "n_tensors";
    header_without_n_kv: Raw(b"GGUF".to_vec()).u32(3).u64(0) => GgufError::Truncated { position: 16, .. }, "n_kv";
    header_bad_n_tensors: Raw::header(u64::MAX, 0) => GgufError::Limit { limit: MAX_TENSORS, .. }, "n_tensors";
    header_n_tensors_2_63: Raw::header(1 << 63, 0) => GgufError::Limit { .. }, "n_tensors";
    header_n_tensors_2_32: Raw::header(1 << 32, 0) => GgufError::Limit { .. }, "n_tensors";
    header_n_tensors_above_limit: Raw::header(MAX_TENSORS + 1, 0) => GgufError::Limit { position: 8, .. }, "n_tensors";
    header_n_tensors_at_limit: Raw::header(MAX_TENSORS, 0) => GgufError::Truncated { position: 16, .. }, "n_tensors";
    header_bad_n_kv: Raw::header(0, u64::MAX) => GgufError::Limit { limit: MAX_METADATA_KEYS, .. }, "n_kv";
    header_n_kv_2_60: Raw::header(0, 1 << 60) => GgufError::Limit { .. }, "n_kv";
    header_n_kv_2_32: Raw::header(0, 1 << 32) => GgufError::Limit { .. }, "n_kv";
    header_n_kv_above_limit: Raw::header(0, MAX_METADATA_KEYS + 1) => GgufError::Limit { position: 16, .. }, "n_kv";
    header_n_kv_at_limit: Raw::header(0, MAX_METADATA_KEYS) => GgufError::Truncated { position: 24, .. }, "n_kv";

    kv_bad_key_size: Raw::header(0, 1).u64(u64::MAX).zeros(99) => GgufError::Truncated { .. }, "metadata key 0";
    kv_key_size_2_63: Raw::header(0, 1).u64(1 << 63).zeros(99) => GgufError::Truncated { .. }, "metadata key 0";
    kv_key_size_2_32: Raw::header(0, 1).u64(1 << 32).zeros(99) => GgufError::Truncated { .. }, "metadata key 0";
    kv_key_of_64_kib: Raw::header(0, 1).string(&[b'k'; 65_536])
        => GgufError::Limit { found: 65_536, .. }, "metadata key 0";
    kv_empty_key: Raw::header(0, 1).string(b"").zeros(99)
        => GgufError::EmptyName { position: 24, .. }, "metadata key 0";
    kv_key_not_utf8: Raw::header(0, 1).string(b"\xc3(").zeros(99)
        => GgufError::InvalidUtf8 { position: 32, .. }, "metadata key 0";
    kv_duplicate_key: Raw::header(0, 2).key("twice", U32).u32(1).key("twice", U32).u32(1)
        => GgufError::DuplicateKey { position: 45, .. }, "twice";
    kv_key_with_terminal_escape: Raw::header(0, 1).key("\u{1b}]0;owned\u{7}", 99).zeros(9)
        => GgufError::UnknownValueType { .. }, "type of \\u{1b}]0;owned\\u{7}";
    kv_bad_type: Raw::header(0, 1).key("k", 13).zeros(9)
        => GgufError::UnknownValueType { found: 13, position: 33, .. }, "type of k";
    kv_bad_type_max: Raw::header(0, 1).key("k", u32::MAX).zeros(9) => GgufError::UnknownValueType { .. }, "type of k";
    kv_fewer_keys_than_said: Raw::header(0, 2).key("k", STRING).string(b"a text that is long enough")
        => GgufError::Truncated { .. }, "metadata key 1";
    kv_value_cut: Raw::header(0, 1).key("k", U64).u32(0)
        => GgufError::Truncated { needed_bytes: 8, left_bytes: 4, .. }, "k";
    kv_string_length_max: Raw::header(0, 1).key("k", STRING).u64(u64::MAX).zeros(9) => GgufError::Truncated { .. }, "k";
    kv_string_length_2_63: Raw::header(0, 1).key("k", STRING).u64(1 << 63).zeros(9) => GgufError::Truncated { .. }, "k";
    kv_string_length_2_31: Raw::header(0, 1).key("k", STRING).u64(1 << 31).zeros(9) => GgufError::Truncated { .. }, "k";
    kv_string_one_too_long: Raw::header(0, 1).key("k", STRING).u64(10).zeros(9)
        => GgufError::Truncated { needed_bytes: 10, left_bytes: 9, .. }, "k";
    kv_bool_of_2: Raw::header(0, 1).key("k", BOOL).bytes(&[2])
        => GgufError::InvalidBool { found: 2, position: 37, .. }, "k";

    array_of_arrays: Raw::header(0, 1).array("k", ARRAY, 1).zeros(99)
        => GgufError::NestedArray { position: 37, .. }, "k";
    array_of_unknown_type: Raw::header(0, 1).array("k", 13, 1).zeros(99)
        => GgufError::UnknownValueType { found: 13, .. }, "element type of k";
    array_of_unknown_type_without_elements: Raw::header(0, 1).array("k", u32::MAX, 0)
        => GgufError::UnknownValueType { .. }, "element type of k";
    array_length_max: Raw::header(0, 1).array("k", 0, u64::MAX).zeros(99) => GgufError::Truncated { .. }, "k";
    array_bytes_wrap_to_0: Raw::header(0, 1).array("k", U64, 1 << 61).zeros(99)
        => GgufError::Truncated { needed_bytes: u64::MAX, .. }, "k";
    array_bytes_wrap_to_32: Raw::header(0, 1).array("k", U64, (1 << 61) + 4).zeros(99)
        => GgufError::Truncated { .. }, "k";
    array_length_2_32: Raw::header(0, 1).array("k", U32, 1 << 32).zeros(99) => GgufError::Truncated { .. }, "k";
    array_one_too_long: Raw::header(0, 1).array("k", U32, 3).zeros(11)
        => GgufError::Truncated { needed_bytes: 12, left_bytes: 11, .. }, "k";
    array_of_strings_wraps: Raw::header(0, 1).array("k", STRING, 1 << 61).zeros(99) => GgufError::Truncated { .. }, "k";
    array_of_strings_too_long: Raw::header(0, 1).array("k", STRING, 13).zeros(99) => GgufError::Truncated { .. }, "k";
    array_string_length_max: Raw::header(0, 1).array("k", STRING, 2).string(b"").u64(u64::MAX).zeros(99)
        => GgufError::Truncated { .. }, "k[1]";
    array_strings_eat_the_rest: Raw::header(0, 1).array("k", STRING, 3).string(b"0123456789abcdef").string(b"")
        => GgufError::Truncated { .. }, "k[2]";
    array_bool_of_255: Raw::header(0, 1).array("k", BOOL, 3).bytes(&[0, 1, 255])
        => GgufError::InvalidBool { found: 255, position: 51, .. }, "k[2]";

    align_0: Raw::header(0, 1).key("general.alignment", U32).u32(0)
        => GgufError::Alignment { found: 0 }, "general.alignment";
    align_3: Raw::header(0, 1).key("general.alignment", U32).u32(3)
        => GgufError::Alignment { found: 3 }, "general.alignment";
    kv_bad_align: Raw::header(0, 1).key("general.alignment", U32).u32(13)
        => GgufError::Alignment { .. }, "general.alignment";
    align_2_31: Raw::header(0, 1).key("general.alignment", U32).u32(1 << 31)
        => GgufError::AlignmentTooLarge { .. }, "general.alignment";
    align_2_mib: Raw::header(0, 1).key("general.alignment", U32).u32(2 << 20)
        => GgufError::AlignmentTooLarge { limit: 1_048_576, .. }, "general.alignment";
    align_max: Raw::header(0, 1).key("general.alignment", U32).u32(u32::MAX)
        => GgufError::Alignment { .. }, "general.alignment";
    kv_wrong_type_align: Raw::header(0, 1).key("general.alignment", I32).u32(32)
        => GgufError::WrongType { wanted: "u32", .. }, "general.alignment";
    align_as_string: Raw::header(0, 1).key("general.alignment", STRING).string(b"32")
        => GgufError::WrongType { .. }, "general.alignment";
    align_as_u64: Raw::header(0, 1).key("general.alignment", U64).u64(32)
        => GgufError::WrongType { .. }, "general.alignment";
    align_as_array: Raw::header(0, 1).array("general.alignment", U32, 1).u32(32)
        => GgufError::WrongType { .. }, "general.alignment";

    tensors_bad_name_size: Raw::header(1, 0).tensor(&"n".repeat(65), &[1], F32, 0).zeros(99)
        => GgufError::Limit { found: 65, limit: 64, .. }, "name of tensor 0";
    tensors_name_size_max: Raw::header(1, 0).u64(u64::MAX).zeros(99) => GgufError::Truncated { .. }, "name of tensor 0";
    tensors_empty_name: Raw::header(1, 0).tensor("", &[1], F32, 0).zeros(99)
        => GgufError::EmptyName { .. }, "name of tensor 0";
    tensors_name_not_utf8: Raw::header(1, 0).string(b"\xff").zeros(99)
        => GgufError::InvalidUtf8 { .. }, "name of tensor 0";
    tensors_no_dims: Raw::header(1, 0).tensor("t", &[], F32, 0).zeros(99)
        => GgufError::DimensionCount { found: 0, .. }, "t";
    tensors_bad_n_dims: Raw::header(1, 0).tensor("t", &[1; 5], F32, 0).zeros(99)
        => GgufError::DimensionCount { found: 5, .. }, "t";
    tensors_n_dims_max: Raw::header(1, 0).string(b"t").u32(u32::MAX).zeros(99)
        => GgufError::DimensionCount { position: 33, .. }, "t";
    tensors_bad_shape: Raw::header(1, 0).tensor("t", &[u64::MAX, u64::MAX], F32, 0).zeros(99)
        => GgufError::TensorTooLarge { .. }, "t";
    tensors_negative_row_of_blocks: Raw::header(1, 0).tensor("t", &[u64::MAX], Q4_0, 0).zeros(99)
        => GgufError::PartialBlock { .. }, "t";
    tensors_zero_dim: Raw::header(1, 0).tensor("t", &[8, 0], F32, 0).zeros(99)
        => GgufError::ZeroDimension { dimension: 1, .. }, "t";
    tensors_zero_and_huge_dim: Raw::header(1, 0).tensor("t", &[u64::MAX, 0], F32, 0).zeros(99)
        => GgufError::ZeroDimension { .. }, "t";
    tensors_ne_too_big: Raw::header(1, 0).tensor("t", &[4 * 0x7fff_ffff; 2], I8, 0).zeros(99)
        => GgufError::TensorTooLarge { .. }, "t";
    tensors_ne_wraps_to_0: Raw::header(1, 0).tensor("t", &[1 << 32; 2], F32, 0).zeros(99)
        => GgufError::TensorTooLarge { .. }, "t";
    tensors_ne_wraps_to_4: Raw::header(1, 0).tensor("t", &[(1 << 32) + 2, (1 << 32) - 2, 1, 1], F32, 0).zeros(99)
        => GgufError::TensorTooLarge { .. }, "t";
    tensors_ne_2_63: Raw::header(1, 0).tensor("t", &[1 << 63], I8, 0).zeros(99)
        => GgufError::TensorTooLarge { .. }, "t";
    tensors_ne_below_2_63: Raw::header(1, 0).tensor("t", &[(1 << 63) - 1], I8, 0).pad(32)
        => GgufError::TensorPastEnd { .. }, "t";
    tensors_nbytes_too_big: Raw::header(1, 0).tensor("t", &[1_533_916_892, 1_533_916_892], I64, 0).zeros(99)
        => GgufError::TensorTooLarge { .. }, "t";
    tensors_nbytes_wrap_to_2: Raw::header(1, 0).tensor("t", &[5_124_095_576_030_431_008], Q4_0, 0).pad(32).zeros(32)
        => GgufError::TensorPastEnd { file_bytes: 96, .. }, "t";
    tensors_padding_wraps: Raw::header(1, 0).tensor("t", &[(1 << 63) - 1], I16, 0).zeros(99)
        => GgufError::TensorTooLarge { .. }, "t";
    tensors_bad_type: Raw::header(1, 0).tensor("t", &[32], 42, 0).zeros(99)
        => GgufError::UnknownTensorType { found: 42, .. }, "t";
    tensors_type_max: Raw::header(1, 0).tensor("t", &[32], u32::MAX, 0).zeros(99)
        => GgufError::UnknownTensorType { .. }, "t";
    tensors_removed_type: Raw::header(1, 0).tensor("t", &[32], 4, 0).zeros(99)
        => GgufError::UnknownTensorType { found: 4, .. }, "t";
    tensors_partial_block: Raw::header(1, 0).tensor("t", &[33, 32], Q4_0, 0).zeros(2000)
        => GgufError::PartialBlock { found: 33, block_len: 32, .. }, "t";
    tensors_bad_offset: Raw::header(1, 0).tensor("t", &[8], F32, u64::MAX).pad(32).zeros(32)
        => GgufError::TensorOffset { .. }, "t";
    tensors_offset_past_the_end: Raw::header(1, 0).tensor("t", &[8], F32, 1 << 20).pad(32).zeros(32)
        => GgufError::TensorOffset { found: 1_048_576, expected: 0, .. }, "t";
    tensors_overlap: Raw::header(2, 0).tensor("a", &[8], F32, 0).tensor("b", &[8], F32, 0).pad(32).zeros(64)
        => GgufError::TensorOffset { found: 0, expected: 32, .. }, "b";
    tensors_gap: Raw::header(2, 0).tensor("a", &[8], F32, 0).tensor("b", &[8], F32, 64).pad(32).zeros(99)
        => GgufError::TensorOffset { found: 64, expected: 32, .. }, "b";
    tensors_inconsistent_align: Raw::header(2, 0).tensor("a", &[1], F32, 0).tensor("b", &[1], F32, 4).pad(32).zeros(64)
        => GgufError::TensorOffset { found: 4, expected: 32, .. }, "b";
    tensors_bad_align: Raw::header(1, 1).key("general.alignment", U32).u32(13).tensor("a", &[1], F32, 0).zeros(64)
        => GgufError::Alignment { found: 13 }, "general.alignment";
    tensors_duplicate_name: Raw::header(3, 0).tensor("a", &[1], F32, 0).tensor("b", &[1], F32, 32)
        .tensor("a", &[1], F32, 64).zeros(99)
        => GgufError::DuplicateTensor { first: 0, second: 2, .. }, "a";
    tensors_description_cut: Raw::header(1, 0).string(b"a").u32(4).u64(1).u64(1).u64(1)
        => GgufError::Truncated { .. }, "dimension of a";

    data_not_enough: Raw::header(1, 0).tensor("t", &[8], F32, 0).pad(32).zeros(31)
        => GgufError::TensorPastEnd { end: 96, file_bytes: 95, needed_bytes: 96, .. }, "t";
    data_absent: Raw::header(1, 0).tensor("t", &[8], F32, 0) => GgufError::TensorPastEnd { .. }, "t";
    data_second_tensor_absent: Raw::header(2, 0).tensor("a", &[8], F32, 0).tensor("b", &[8], F32, 32).pad(32).zeros(32)
        => GgufError::TensorPastEnd { .. }, "b";
    data_mem_size_overflow: Raw::header(2, 0).tensor("a", &[0x7fff_ffff_ffff_ffc0], I8, 0)
        .tensor("b", &[0x7fff_ffff_ffff_ffc0], I8, 0x7fff_ffff_ffff_ffc0).pad(32).zeros(32)
        => GgufError::TensorPastEnd { needed_bytes: 0xffff_ffff_ffff_ffe0, .. }, "a";
    data_sum_wraps: Raw::header(3, 0).tensor("a", &[(1 << 63) - 32], I8, 0)
        .tensor("b", &[(1 << 63) - 32], I8, (1 << 63) - 32)
        .tensor("c", &[64], I8, u64::MAX - 63).pad(32).zeros(64) => GgufError::TensorTooLarge { .. }, "c";
}

/// A small file with every type of value and a tensor of several types.
fn sound() -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.metadata("general.architecture", "llama");
    writer.metadata("general.alignment", 64u32);
    writer.metadata("llama.block_count", 2u32).metadata("a.u8", 7u8).metadata("a.i64", -7i64).metadata("a.f64", 0.5f64);
    writer.metadata("a.i8", -1i8).metadata("a.u16", 1u16).metadata("a.i16", -1i16).metadata("a.u64", 1u64 << 40);
    writer.metadata("llama.attention.layer_norm_rms_epsilon", 1e-5f32).metadata("a.bool", true);
    let tokens = StringArray::from_strings([&b"<s>"[..], b"", b"\xe2\x96", b" the"]).expect("short");
    writer.metadata("tokenizer.ggml.tokens", tokens).metadata("tokenizer.ggml.scores", vec![0.0f32, -1.0, -2.0, -3.0]);
    writer.metadata("tokenizer.ggml.token_type", vec![3i32, 1, 1, 1]).metadata("a.bools", vec![true, false, true]);
    writer.tensor("token_embd.weight", &[64, 4], TensorType::Q8_0).tensor("output_norm.weight", &[64], TensorType::F32);
    writer.tensor("blk.0.ffn_down.weight", &[256, 3, 1, 2], TensorType::Q4_K);
    let mut data = writer.start(Vec::new()).expect("the description is sound");
    while let Some(tensor) = data.next_tensor() {
        let bytes = vec![0x5a; tensor.size_bytes as usize];
        data.chunk(&bytes).expect("writing to memory works");
    }
    data.finish().expect("all tensors are complete")
}

/// A fixed sequence of numbers (xorshift64*), the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// What holds for every file that is read without error.
fn assert_sound(gguf: &Gguf, file_bytes: u64) {
    let mut end = gguf.data_offset;
    for tensor in gguf.tensors() {
        assert_eq!(Some(tensor.size_bytes), checked_tensor_bytes(&tensor.shape, tensor.tensor_type));
        assert_eq!(tensor.offset, end);
        assert!(tensor.offset + tensor.size_bytes <= file_bytes);
        assert_eq!(gguf.find_tensor(&tensor.name), Some(tensor));
        assert_eq!(tensor.row_bytes() * tensor.rows(), tensor.size_bytes);
        end = (tensor.offset + tensor.size_bytes).next_multiple_of(gguf.alignment);
    }
}

#[test]
fn a_file_cut_at_any_byte_is_refused_and_shown_as_far_as_it_goes() {
    let file = sound();
    let whole = Gguf::read(&file).expect("the whole file is sound");
    let last = whole.tensors().last().expect("it has tensors");
    let data_end = (last.offset + last.size_bytes) as usize;
    let (mut keys_before, mut tensors_before) = (0, 0);
    for len in 0..data_end {
        let error = Raw(file[..len].to_vec()).read().expect_err("a cut file");
        let (partial, _) = Gguf::read_partial(&file[..len].to_vec());
        assert!(partial.metadata.len() >= keys_before && partial.tensors.len() >= tensors_before, "cut at {len}");
        (keys_before, tensors_before) = (partial.metadata.len(), partial.tensors.len());
        match error {
            GgufError::Truncated { position, needed_bytes, left_bytes, .. } => {
                assert!(position as usize <= len && left_bytes as usize == len - position as usize);
                assert!(needed_bytes > left_bytes);
            }
            GgufError::TensorPastEnd { file_bytes, needed_bytes, .. } => {
                assert_eq!((file_bytes as usize, needed_bytes as usize), (len, data_end));
                assert_eq!(partial.data_offset, Some(whole.data_offset));
            }
            other => panic!("cut at {len}: {other}"),
        }
    }
    assert_eq!((keys_before, tensors_before), (whole.metadata.len(), whole.tensors().len()));
    Raw(file[..data_end].to_vec()).read().expect("the padding after the last tensor may be missing");
}

#[test]
fn every_bit_of_a_header_may_flip() {
    let file = sound();
    let header_bytes = Gguf::read(&file).expect("sound").data_offset as usize;
    let (mut read, mut refused) = (0, 0);
    for at in 0..header_bytes {
        for bit in 0..8 {
            let mut broken = file.clone();
            broken[at] ^= 1 << bit;
            match Raw(broken).read() {
                Ok(gguf) => {
                    assert_sound(&gguf, file.len() as u64);
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    eprintln!("{read} files with a flipped bit are still sound, {refused} are refused");
    assert!(read > 0 && refused > header_bytes, "lengths, types and counts are most of a header");
}

#[test]
fn random_damage_is_survived() {
    let file = sound();
    let header_bytes = Gguf::read(&file).expect("sound").data_offset as usize;
    let mut random = Random(0x5eed);
    let odd = [0, 1, 0x7f, 0x80, 0xff];
    for round in 0..20_000 {
        let mut broken = file.clone();
        for _ in 0..=random.below(6) {
            let at = random.below(header_bytes);
            match random.below(4) {
                0 => broken[at] = random.next() as u8,
                1 => broken[at] = odd[random.below(odd.len())],
                2 => drop(broken.drain(at..(at + 1 + random.below(16)).min(header_bytes))),
                _ => drop(broken.splice(at..at, (0..1 + random.below(16)).map(|_| random.0 as u8).collect::<Vec<_>>())),
            }
        }
        let len = broken.len() as u64;
        if let Ok(gguf) = Raw(broken).read() {
            assert_sound(&gguf, len);
        }
        assert!(random.0 != 0, "round {round}");
    }
}

#[test]
fn numbers_near_the_powers_of_two_are_survived_in_every_field() {
    let near = [1 << 31, 1 << 32, 1 << 62, 1 << 63, 0u64];
    let values: Vec<u64> = near.iter().flat_map(|&v| (-2i64..=2).map(move |d| v.wrapping_add_signed(d))).collect();
    let file = sound();
    let header_bytes = Gguf::read(&file).expect("sound").data_offset as usize;
    for at in 4..header_bytes - 8 {
        for value in &values {
            let mut broken = file.clone();
            broken[at..at + 8].copy_from_slice(&value.to_le_bytes());
            if let Ok(gguf) = Raw(broken).read() {
                assert_sound(&gguf, file.len() as u64);
            }
        }
    }
}

#[test]
fn sizes_never_wrap() {
    let dims = [0, 1, 2, 31, 32, 33, 255, 256, 1 << 31, 1 << 32, (1 << 32) + 2, 1 << 62, 1 << 63, u64::MAX];
    for id in 0..64 {
        let Some(tensor_type) = TensorType::from_ggml(id) else { continue };
        let (block_len, block_bytes) = (u128::from(tensor_type.block_len()), u128::from(tensor_type.block_bytes()));
        for &a in &dims {
            for &b in &dims {
                // The same in 128 bits, where these cannot wrap.
                let elements = u128::from(a) * u128::from(b);
                let bytes = (elements / block_len).saturating_mul(block_bytes);
                let fits = elements > 0 && elements < 1 << 63 && u128::from(a) % block_len == 0;
                let wanted = u64::try_from(bytes).ok().filter(|_| fits);
                assert_eq!(checked_tensor_bytes(&[a, b], tensor_type), wanted, "[{a}, {b}] {tensor_type}");
            }
        }
    }
}

#[test]
fn a_tensor_beyond_4_gib_is_found_and_read() {
    // 4.9 GiB of I8 in one tensor, then 8 floats in the last 32 bytes of a file of 5 GiB.
    let big = (5 << 30) - 96 - 32;
    let end: Vec<u8> = (0..8).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let header = Raw::header(2, 0).tensor("a", &[big], I8, 0).tensor("b", &[8], F32, big);
    assert!(header.0.len() <= 96 + 32);
    let data_offset = header.0.len().next_multiple_of(32) as u64;
    let file = Sparse { start: header.0, end, len: data_offset + big + 32, bytes_read: Cell::new(0) };
    let gguf = Gguf::read(&file).expect("sound");
    assert!(file.bytes_read.get() <= 64 << 10, "only the header is read");
    let last = gguf.tensor("b").expect("it is there");
    assert!(last.offset > (49 << 30) / 10);
    let mut floats = [0; 8];
    last.read_data(&file, 24, &mut floats).expect("inside the file");
    assert_eq!(floats, [[0, 0, 192, 64], [0, 0, 224, 64]].concat()[..], "6 and 7");
    let error = last.read_data(&file, 25, &mut floats).expect_err("one byte too many");
    assert!(matches!(error, GgufError::OutsideTensor { start: 25, end: 33, size_bytes: 32, .. }), "{error}");
    let error = last.read_data(&file, u64::MAX, &mut floats).expect_err("far outside");
    assert!(matches!(error, GgufError::OutsideTensor { .. }), "{error}");
}

#[test]
fn a_huge_file_does_not_make_a_lying_header_expensive() {
    const FILE_BYTES: u64 = 1 << 42;
    let text = sparse(Raw::header(0, 1).key("k", STRING).u64(1 << 40), FILE_BYTES);
    let error = Gguf::read(&text).expect_err("a text of 1 TiB");
    assert!(matches!(error, GgufError::Limit { found: 0x100_0000_0000, limit: MAX_STRING_BYTES, .. }), "{error}");
    for element_type in [0, U32, STRING, BOOL] {
        let array = sparse(Raw::header(0, 1).array("k", element_type, 1 << 28), FILE_BYTES);
        let error = Gguf::read(&array).expect_err("an array of 256 Mi elements");
        assert!(matches!(error, GgufError::Limit { limit: MAX_HEADER_BYTES, .. }), "{error}");
        assert_eq!(error.field(), "end of the header");
        assert!(array.bytes_read.get() <= 64 << 10);
    }
    // Strings that are inside the limit together are read, no more.
    let strings = sparse(Raw::header(0, 2).array("k", STRING, 1 << 20), FILE_BYTES);
    let error = Gguf::read(&strings).expect_err("the second key is empty");
    assert!(matches!(error, GgufError::EmptyName { .. }), "{error}");
    assert!(strings.bytes_read.get() <= (8 << 20) + (64 << 10));
}

#[test]
fn a_header_may_reach_its_limit_and_not_a_byte_more() {
    let head_bytes = Raw::header(0, 1).array("k", 0, 0).0.len() as u64;
    let array = |len| sparse(Raw::header(0, 1).array("k", 0, len), 1 << 30);
    let gguf = Gguf::read(&array(MAX_HEADER_BYTES - head_bytes)).expect("as large as it may be");
    assert_eq!(gguf.data_offset, MAX_HEADER_BYTES);
    let error = Gguf::read(&array(MAX_HEADER_BYTES - head_bytes + 1)).expect_err("one byte more");
    assert!(matches!(error, GgufError::Limit { found, .. } if found == MAX_HEADER_BYTES + 1), "{error}");
}

/// Fails the read with this number, or has fewer bytes than it claims.
struct Failing<'a> {
    bytes: &'a [u8],
    claimed: u64,
    reads_left: Cell<u32>,
}

impl ReadAt for Failing<'_> {
    fn len(&self) -> u64 {
        self.claimed
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let left = self.reads_left.get().checked_sub(1).ok_or_else(|| io::Error::other("the disk is gone"))?;
        self.reads_left.set(left);
        self.bytes.read_exact_at(offset, buf)
    }
}

#[test]
fn a_read_that_fails_is_reported_whichever_it_is() {
    let mut file = Raw::header(0, 1).array("tokens", STRING, 40_000);
    for _ in 0..40_000 {
        file = file.string(b"a token");
    }
    let reads = (file.0.len() as u32).div_ceil(64 << 10);
    assert_eq!(reads, 10);
    for good in 0..reads {
        let disk = Failing { bytes: &file.0, claimed: file.0.len() as u64, reads_left: Cell::new(good) };
        let error = Gguf::read(&disk).expect_err("the disk is gone");
        let GgufError::Read { position, source, .. } = error else { panic!("another error: {error}") };
        assert_eq!((position, source.to_string().as_str()), (u64::from(good) << 16, "the disk is gone"));
    }
    let disk = Failing { bytes: &file.0, claimed: file.0.len() as u64, reads_left: Cell::new(reads) };
    assert_eq!(
        Gguf::read(&disk).expect("ten reads are enough").metadata.strings("tokens").expect("there").len(),
        40_000
    );
}

#[test]
fn a_file_that_shrinks_while_it_is_used_is_an_error() {
    let file = sound();
    let gguf = Gguf::read(&file).expect("sound");
    let last = gguf.tensors().last().expect("it has tensors");
    let cut =
        Failing { bytes: &file[..last.offset as usize + 5], claimed: file.len() as u64, reads_left: Cell::new(9) };
    let mut buf = vec![0; last.size_bytes as usize];
    let error = last.read_data(&cut, 0, &mut buf).expect_err("the data is gone");
    assert!(matches!(error, GgufError::FileChanged { .. }), "{error}");
    let empty = Failing { bytes: &[], claimed: file.len() as u64, reads_left: Cell::new(9) };
    let error = Gguf::read(&empty).expect_err("the header is gone");
    assert!(matches!(error, GgufError::FileChanged { .. }), "{error}");
}

#[test]
fn many_tensors_and_keys_are_read_in_little_time() {
    let mut file = Raw::header(MAX_TENSORS, MAX_METADATA_KEYS);
    for index in 0..MAX_METADATA_KEYS {
        file = file.key(&format!("key.{}", index.reverse_bits()), BOOL).bytes(&[1]);
    }
    for index in 0..MAX_TENSORS {
        file = file.tensor(&format!("tensor.{}", index.reverse_bits()), &[8], F32, 32 * index);
    }
    let file = file.pad(32).zeros(32 * MAX_TENSORS as usize);
    let gguf = file.read().expect("sound");
    assert_sound(&gguf, file.0.len() as u64);
    let values: Vec<_> = gguf.metadata.iter().map(|(_, value)| value).collect();
    assert_eq!(values, vec![&Value::Bool(true); MAX_METADATA_KEYS as usize]);
}
