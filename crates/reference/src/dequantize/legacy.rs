//! Blocks of 32 weights with one scale.

use super::scale;

/// 4 bits of weight `i`: the first 16 weights in the low nibbles of the 16 bytes at `at`, the others in the high ones.
fn nibble<const BYTES: usize>(block: &[u8; BYTES], at: usize, i: usize) -> u8 {
    (block[at + i % 16] >> (4 * (i / 16))) & 15
}

/// The fifth bit of weight `i`, from the 32 bits at `at`.
fn fifth_bit<const BYTES: usize>(block: &[u8; BYTES], at: usize, i: usize) -> u8 {
    ((block[at + i / 8] >> (i % 8)) & 1) << 4
}

/// f16 d, nibbles: w = d (q - 8).
pub(super) fn q4_0(block: &[u8; 18], weights: &mut [f32; 32]) {
    let d = scale(block, 0);
    for i in 0..32 {
        weights[i] = d * (f32::from(nibble(block, 2, i)) - 8.0);
    }
}

/// f16 d, f16 m, nibbles: w = d q + m.
pub(super) fn q4_1(block: &[u8; 20], weights: &mut [f32; 32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    for i in 0..32 {
        weights[i] = d * f32::from(nibble(block, 4, i)) + m;
    }
}

/// f16 d, 32 fifth bits, nibbles: w = d (q - 16).
pub(super) fn q5_0(block: &[u8; 22], weights: &mut [f32; 32]) {
    let d = scale(block, 0);
    for i in 0..32 {
        let q = nibble(block, 6, i) | fifth_bit(block, 2, i);
        weights[i] = d * (f32::from(q) - 16.0);
    }
}

/// f16 d, f16 m, 32 fifth bits, nibbles: w = d q + m.
pub(super) fn q5_1(block: &[u8; 24], weights: &mut [f32; 32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    for i in 0..32 {
        let q = nibble(block, 8, i) | fifth_bit(block, 4, i);
        weights[i] = d * f32::from(q) + m;
    }
}

/// f16 d, signed bytes: w = d q.
pub(super) fn q8_0(block: &[u8; 34], weights: &mut [f32; 32]) {
    let d = scale(block, 0);
    for i in 0..32 {
        weights[i] = d * f32::from(block[2 + i].cast_signed());
    }
}
