//! Super-blocks of 256 weights: one f16 scale (and minimum) over the quantized scales of 8 or 16 parts.

use super::scale;

/// 2 bits of weight `i`, from 64 bytes at `at`: 32 bytes for each half, four weights of a half in a byte, 32 apart.
fn two_bits<const BYTES: usize>(block: &[u8; BYTES], at: usize, i: usize) -> u8 {
    (block[at + 32 * (i / 128) + i % 32] >> (2 * ((i / 32) % 4))) & 3
}

/// 4 bits of weight `i`, from 128 bytes at `at`: 32 bytes for each quarter, two weights of a quarter in a byte, 32 apart.
fn four_bits<const BYTES: usize>(block: &[u8; BYTES], at: usize, i: usize) -> u8 {
    (block[at + 32 * (i / 64) + i % 32] >> (4 * ((i / 32) % 2))) & 15
}

/// One bit of weight `i`, from 32 bytes at `at`: eight weights in a byte, 32 apart.
fn one_bit<const BYTES: usize>(block: &[u8; BYTES], at: usize, i: usize) -> u8 {
    (block[at + i % 32] >> (i / 32)) & 1
}

/// 6-bit scale and minimum of part `j` of 8, from 12 bytes at `at`: the low 6 bits of bytes 0-3 and 4-7 for parts 0-3; for
/// parts 4-7 the nibbles of bytes 8-11 below the top 2 bits of bytes 0-3 and 4-7.
fn scale_and_minimum<const BYTES: usize>(block: &[u8; BYTES], at: usize, j: usize) -> (f32, f32) {
    let (low, high) = (block[at + j % 4], block[at + 4 + j % 4]);
    let (s, m) = if j < 4 {
        (low & 63, high & 63)
    } else {
        let nibbles = block[at + 4 + j];
        ((nibbles & 15) | ((low >> 6) << 4), (nibbles >> 4) | ((high >> 6) << 4))
    };
    (f32::from(s), f32::from(m))
}

/// 16 bytes of 4-bit scales and minimums, 2-bit quants, f16 d, f16 dmin: w = (d s) q - dmin m, parts of 16.
pub(super) fn q2_k(block: &[u8; 84], weights: &mut [f32; 256]) {
    let (d, dmin) = (scale(block, 80), scale(block, 82));
    for i in 0..256 {
        let part = block[i / 16];
        let (s, m) = (f32::from(part & 15), f32::from(part >> 4));
        weights[i] = (d * s) * f32::from(two_bits(block, 16, i)) - dmin * m;
    }
}

/// 32 bytes of third bits, 2-bit quants, 12 bytes of 6-bit scales, f16 d: w = (d (s - 32)) (q - 4), parts of 16.
pub(super) fn q3_k(block: &[u8; 110], weights: &mut [f32; 256]) {
    let d = scale(block, 108);
    for i in 0..256 {
        // Scales: nibbles of the first 8 bytes, their upper 2 bits in the last 4.
        let j = i / 16;
        let nibble = (block[96 + j % 8] >> (4 * (j / 8))) & 15;
        let upper = (block[104 + j % 4] >> (2 * (j / 4))) & 3;
        let s = f32::from(nibble | (upper << 4)) - 32.0;
        let q = two_bits(block, 32, i) | (one_bit(block, 0, i) << 2);
        weights[i] = (d * s) * (f32::from(q) - 4.0);
    }
}

/// f16 d, f16 dmin, 12 bytes of scales and minimums, nibbles: w = (d s) q - dmin m, parts of 32.
pub(super) fn q4_k(block: &[u8; 144], weights: &mut [f32; 256]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    for i in 0..256 {
        let (s, m) = scale_and_minimum(block, 4, i / 32);
        weights[i] = (d * s) * f32::from(four_bits(block, 16, i)) - dmin * m;
    }
}

/// As `Q4_K`, with 32 bytes of fifth bits before the nibbles.
pub(super) fn q5_k(block: &[u8; 176], weights: &mut [f32; 256]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    for i in 0..256 {
        let (s, m) = scale_and_minimum(block, 4, i / 32);
        let q = four_bits(block, 48, i) | (one_bit(block, 16, i) << 4);
        weights[i] = (d * s) * f32::from(q) - dmin * m;
    }
}

/// Nibbles, 2 upper bits, 16 signed 8-bit scales, f16 d: w = (d s) (q - 32), parts of 16.
pub(super) fn q6_k(block: &[u8; 210], weights: &mut [f32; 256]) {
    let d = scale(block, 208);
    for i in 0..256 {
        // Unlike in the other formats the two weights of a byte are 64 apart.
        let nibble = (block[64 * (i / 128) + i % 64] >> (4 * ((i / 64) % 2))) & 15;
        let q = nibble | (two_bits(block, 128, i) << 4);
        let s = f32::from(block[192 + i / 16].cast_signed());
        weights[i] = (d * s) * (f32::from(q) - 32.0);
    }
}
