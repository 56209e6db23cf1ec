//! The element types of ggml tensors and the one place where a tensor's size in bytes is computed.
//!
//! A quantized type stores a row as blocks: `block_len` weights in `block_bytes` bytes, scales included.
//! Source: `ggml.h` (`enum ggml_type`) and `ggml-common.h` (block structs) of ggml.

/// How the weights of a tensor are stored.
#[expect(non_camel_case_types, reason = "the names ggml and its files use")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TensorType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `F32`.
    BF16,
    /// 32 weights of 4 bits, one f16 scale.
    Q4_0,
    /// 32 weights of 4 bits, f16 scale and minimum.
    Q4_1,
    /// 32 weights of 5 bits, one f16 scale.
    Q5_0,
    /// 32 weights of 5 bits, f16 scale and minimum.
    Q5_1,
    /// 32 weights of 8 bits, one f16 scale.
    Q8_0,
    /// 256 weights of 2 bits with 4-bit scales and minimums in 16 groups.
    Q2_K,
    /// 256 weights of 3 bits with 6-bit scales in 16 groups.
    Q3_K,
    /// 256 weights of 4 bits with 6-bit scales and minimums in 8 groups.
    Q4_K,
    /// 256 weights of 5 bits with 6-bit scales and minimums in 8 groups.
    Q5_K,
    /// 256 weights of 6 bits with 8-bit scales in 16 groups.
    Q6_K,
    /// A type with this number in ggml that the engine has no kernel for. It can be named and measured, not computed.
    Other(u32),
}

/// (ggml's number, type, name, weights a block, bytes a block); `None` where the engine has no kernel.
/// Numbers that ggml gave up (4, 5, 31 to 33, 36 to 38) have no layout and are left out.
type Row = (u32, Option<TensorType>, &'static str, u64, u64);

const TABLE: &[Row] = &[
    (0, Some(TensorType::F32), "F32", 1, 4),
    (1, Some(TensorType::F16), "F16", 1, 2),
    (2, Some(TensorType::Q4_0), "Q4_0", 32, 18),
    (3, Some(TensorType::Q4_1), "Q4_1", 32, 20),
    (6, Some(TensorType::Q5_0), "Q5_0", 32, 22),
    (7, Some(TensorType::Q5_1), "Q5_1", 32, 24),
    (8, Some(TensorType::Q8_0), "Q8_0", 32, 34),
    (9, None, "Q8_1", 32, 36),
    (10, Some(TensorType::Q2_K), "Q2_K", 256, 84),
    (11, Some(TensorType::Q3_K), "Q3_K", 256, 110),
    (12, Some(TensorType::Q4_K), "Q4_K", 256, 144),
    (13, Some(TensorType::Q5_K), "Q5_K", 256, 176),
    (14, Some(TensorType::Q6_K), "Q6_K", 256, 210),
    (15, None, "Q8_K", 256, 292),
    (16, None, "IQ2_XXS", 256, 66),
    (17, None, "IQ2_XS", 256, 74),
    (18, None, "IQ3_XXS", 256, 98),
    (19, None, "IQ1_S", 256, 50),
    (20, None, "IQ4_NL", 32, 18),
    (21, None, "IQ3_S", 256, 110),
    (22, None, "IQ2_S", 256, 82),
    (23, None, "IQ4_XS", 256, 136),
    (24, None, "I8", 1, 1),
    (25, None, "I16", 1, 2),
    (26, None, "I32", 1, 4),
    (27, None, "I64", 1, 8),
    (28, None, "F64", 1, 8),
    (29, None, "IQ1_M", 256, 56),
    (30, Some(TensorType::BF16), "BF16", 1, 2),
    (34, None, "TQ1_0", 256, 54),
    (35, None, "TQ2_0", 256, 66),
    (39, None, "MXFP4", 32, 17),
    (40, None, "NVFP4", 64, 36),
    (41, None, "Q1_0", 128, 18),
];

impl TensorType {
    /// The type with this number in ggml, `None` when its layout is not known here.
    #[must_use]
    pub fn from_ggml(id: u32) -> Option<Self> {
        TABLE.iter().find(|row| row.0 == id).map(|row| row.1.unwrap_or(Self::Other(id)))
    }

    /// ggml's number of this type, as GGUF stores it.
    #[must_use]
    pub fn ggml_id(self) -> u32 {
        match self {
            Self::Other(id) => id,
            known => known.row().map_or(u32::MAX, |row| row.0),
        }
    }

    /// ggml's name, such as `Q4_K`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().map_or("unknown", |row| row.2)
    }

    /// Weights a block; a row of a tensor is a whole number of blocks. 0 for an `Other` that ggml does not have.
    #[must_use]
    pub fn block_len(self) -> u64 {
        self.row().map_or(0, |row| row.3)
    }

    /// Bytes a block. 0 for an `Other` that ggml does not have.
    #[must_use]
    pub fn block_bytes(self) -> u64 {
        self.row().map_or(0, |row| row.4)
    }

    /// Where in a block its f16 numbers lie: the scale, and the minimum or offset where there is one. Empty for types without, and
    /// for those the engine cannot compute with.
    #[must_use]
    pub fn scale_offsets(self) -> &'static [usize] {
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 => &[0],
            Self::Q4_1 | Self::Q5_1 | Self::Q4_K | Self::Q5_K => &[0, 2],
            Self::Q2_K => &[80, 82],
            Self::Q3_K => &[108],
            Self::Q6_K => &[208],
            Self::F32 | Self::F16 | Self::BF16 | Self::Other(_) => &[],
        }
    }

    /// Whether the engine can compute with this type.
    #[must_use]
    pub fn is_supported(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// All types the engine can compute with, in ggml's order.
    pub fn supported() -> impl Iterator<Item = Self> {
        TABLE.iter().filter_map(|row| row.1)
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| match self {
            Self::Other(id) => row.0 == id,
            known => row.1 == Some(known),
        })
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Other(id) if self.row().is_none() => write!(f, "type {id}"),
            known => f.write_str(known.name()),
        }
    }
}

/// The size in bytes of a tensor with this shape (innermost dimension first) and type.
///
/// This is the only place that multiplies sizes which come from a file. `None` when a dimension is 0, the shape is
/// empty, the element count is not below 2^63, the innermost dimension is no whole number of blocks, or the bytes do
/// not fit 64 bits.
#[must_use]
pub fn checked_tensor_bytes(shape: &[u64], tensor_type: TensorType) -> Option<u64> {
    let innermost = *shape.first()?;
    let elements = shape.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim))?;
    if elements == 0 || elements >= 1 << 63 || innermost.checked_rem(tensor_type.block_len())? != 0 {
        return None;
    }
    elements.checked_div(tensor_type.block_len())?.checked_mul(tensor_type.block_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_table_comes_back() {
        for &(id, known, name, block_len, block_bytes) in TABLE {
            let tensor_type = TensorType::from_ggml(id).expect("it is in the table");
            assert_eq!((tensor_type.ggml_id(), tensor_type.name()), (id, name));
            assert_eq!((tensor_type.block_len(), tensor_type.block_bytes()), (block_len, block_bytes));
            assert_eq!(tensor_type.is_supported(), known.is_some());
        }
        assert_eq!(TensorType::supported().count(), 13);
        assert_eq!(TensorType::from_ggml(4), None, "Q4_2 was removed from ggml");
        assert_eq!(TensorType::Other(999).to_string(), "type 999");
    }

    #[test]
    fn sizes_are_exact_or_absent() {
        use TensorType::{F32, Other, Q4_0, Q6_K};
        assert_eq!(checked_tensor_bytes(&[4096, 11008], Q4_0), Some(25_362_432));
        assert_eq!(checked_tensor_bytes(&[256, 1, 1, 3], Q6_K), Some(630));
        assert_eq!(checked_tensor_bytes(&[33], Q4_0), None);
        assert_eq!(checked_tensor_bytes(&[], F32), None);
        assert_eq!(checked_tensor_bytes(&[8, 0], F32), None);
        assert_eq!(checked_tensor_bytes(&[8], Other(999)), None);
        // 64 bits hold the bytes of 2^62 - 1 elements of f32, not of 2^62.
        assert_eq!(checked_tensor_bytes(&[(1 << 62) - 1], F32), Some(u64::MAX - 3));
        assert_eq!(checked_tensor_bytes(&[1 << 62], F32), None);
        assert_eq!(checked_tensor_bytes(&[1 << 32, 1 << 32], F32), None);
        assert_eq!(checked_tensor_bytes(&[1 << 32, 1 << 31], Other(24)), None, "2^63 elements");
        // Multiplied before it is divided, this one wraps to 2 bytes.
        assert_eq!(checked_tensor_bytes(&[5_124_095_576_030_431_008], Q4_0), Some(2_882_303_761_517_117_442));
    }
}
