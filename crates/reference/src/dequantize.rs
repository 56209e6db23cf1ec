//! Weights as numbers: every ggml block format, bit-equal to ggml and to gguf-py. Kernels: `shaders/shared/<format>.wgsl`.
//!
//! Each format is written as a formula for weight `i` of a block, from the layout of ggml's `ggml-common.h`.
//!
//! On rounding: all products here are exact in f32, in any order. An f16 scale has 11 significant bits, and the widest product
//! (`Q6_K`: 11 bits of scale, 7 of sub-scale, 5 of quant) has 23. Only the one addition or subtraction of the formats with a
//! minimum rounds, and a fused multiply-add rounds it the same way. So ggml-quants.c, gguf-py and a GPU that contracts
//! `a * b + c` all agree bit for bit; only the sign of a zero can depend on the order (`(d * 0) * -1` is -0,
//! `d * (0 * -1)` in integers is +0), and here it follows gguf-py: floats, scales first.

mod k_quants;
mod legacy;

use half::{bf16, f16};

use crate::Error;

/// ggml's numbers of the types that have a twin.
pub mod ggml_type {
    /// 32-bit floats.
    pub const F32: u32 = 0;
    /// IEEE half floats.
    pub const F16: u32 = 1;
    /// 4 bits, scale.
    pub const Q4_0: u32 = 2;
    /// 4 bits, scale and minimum.
    pub const Q4_1: u32 = 3;
    /// 5 bits, scale.
    pub const Q5_0: u32 = 6;
    /// 5 bits, scale and minimum.
    pub const Q5_1: u32 = 7;
    /// 8 bits, scale.
    pub const Q8_0: u32 = 8;
    /// 2 bits, 4-bit scales and minimums.
    pub const Q2_K: u32 = 10;
    /// 3 bits, 6-bit scales.
    pub const Q3_K: u32 = 11;
    /// 4 bits, 6-bit scales and minimums.
    pub const Q4_K: u32 = 12;
    /// 5 bits, 6-bit scales and minimums.
    pub const Q5_K: u32 = 13;
    /// 6 bits, 8-bit scales.
    pub const Q6_K: u32 = 14;
    /// The upper half of 32-bit floats.
    pub const BF16: u32 = 30;
}

/// The weights of whole blocks.
///
/// # Errors
/// The type has no twin, or `bytes` ends inside a block.
pub fn dequantize(ggml_type: u32, bytes: &[u8]) -> Result<Vec<f32>, Error> {
    match ggml_type {
        ggml_type::F32 => blocks(bytes, |b: &[u8; 4], w: &mut [f32; 1]| *w = [f32::from_le_bytes(*b)]),
        ggml_type::F16 => blocks(bytes, |b: &[u8; 2], w: &mut [f32; 1]| *w = [f16::from_le_bytes(*b).to_f32()]),
        ggml_type::BF16 => blocks(bytes, |b: &[u8; 2], w: &mut [f32; 1]| *w = [bf16::from_le_bytes(*b).to_f32()]),
        ggml_type::Q4_0 => blocks(bytes, legacy::q4_0),
        ggml_type::Q4_1 => blocks(bytes, legacy::q4_1),
        ggml_type::Q5_0 => blocks(bytes, legacy::q5_0),
        ggml_type::Q5_1 => blocks(bytes, legacy::q5_1),
        ggml_type::Q8_0 => blocks(bytes, legacy::q8_0),
        ggml_type::Q2_K => blocks(bytes, k_quants::q2_k),
        ggml_type::Q3_K => blocks(bytes, k_quants::q3_k),
        ggml_type::Q4_K => blocks(bytes, k_quants::q4_k),
        ggml_type::Q5_K => blocks(bytes, k_quants::q5_k),
        ggml_type::Q6_K => blocks(bytes, k_quants::q6_k),
        _ => Err(Error::UnsupportedType { ggml_type }),
    }
}

fn blocks<const BYTES: usize, const WEIGHTS: usize>(
    bytes: &[u8],
    one: impl Fn(&[u8; BYTES], &mut [f32; WEIGHTS]),
) -> Result<Vec<f32>, Error> {
    let (whole, rest) = bytes.as_chunks::<BYTES>();
    if !rest.is_empty() {
        return Err(Error::PartialBlock { len: bytes.len(), block_bytes: BYTES });
    }
    let mut weights = vec![0.0; whole.len() * WEIGHTS];
    for (block, weights) in whole.iter().zip(weights.as_chunks_mut::<WEIGHTS>().0) {
        one(block, weights);
    }
    Ok(weights)
}

/// The f16 at byte `at` of a block.
fn scale<const BYTES: usize>(block: &[u8; BYTES], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}
