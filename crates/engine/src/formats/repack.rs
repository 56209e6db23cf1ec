//! From ggml's blocks to the layout the kernels read, a tile of 8 rows at a time while a model is loaded.
//!
//! A matrix `[N, C]` becomes tiles of 8 rows. Within a tile, block after block, 16-byte units of the 8 rows lie side by
//! side (`weight_q`), and so do the words that hold scales (`weight_s`): 8 neighbouring threads read 128 neighbouring
//! bytes. Four neighbouring weights sit at the same bit offset of a word's four bytes, so a kernel takes four at once.
//! `shaders/README.md` shows the units of every format, `shaders/shared/<format>.wgsl` reads them.

use super::TensorType;

/// Rows in a tile.
pub const TILE_ROWS: usize = 8;

/// How one format is laid out on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The fragment that reads it: `shaders/shared/<fragment>.wgsl`.
    pub fragment: &'static str,
    /// Weights a block here: 32 or 256.
    pub block_len: usize,
    /// 16-byte units a block in `weight_q`.
    pub units: usize,
    /// Words a block in `weight_s`.
    pub words: usize,
}

impl Layout {
    /// The layout of a format, `None` when there is no kernel for it.
    pub fn of(tensor_type: TensorType) -> Option<Self> {
        let (fragment, block_len, units, words) = match tensor_type {
            TensorType::F32 => ("f32", 32, 8, 0),
            TensorType::F16 => ("f16", 32, 4, 0),
            TensorType::BF16 => ("bf16", 32, 4, 0),
            TensorType::Q4_0 => ("q4_0", 32, 1, 1),
            TensorType::Q4_1 => ("q4_1", 32, 1, 1),
            TensorType::Q5_0 => ("q5_0", 32, 1, 2),
            TensorType::Q5_1 => ("q5_1", 32, 1, 2),
            TensorType::Q8_0 => ("q8_0", 32, 2, 1),
            TensorType::Q2_K => ("q2_k", 256, 5, 1),
            TensorType::Q3_K => ("q3_k", 256, 7, 1),
            TensorType::Q4_K => ("q4_k", 256, 9, 1),
            TensorType::Q5_K => ("q5_k", 256, 11, 1),
            TensorType::Q6_K => ("q6_k", 256, 13, 1),
            TensorType::Other(_) => return None,
        };
        Some(Self { fragment, block_len, units, words })
    }

    /// Bytes of `weight_q` for one tile of `n_cols` columns.
    pub fn tile_q_bytes(&self, n_cols: usize) -> usize {
        n_cols / self.block_len * self.units * TILE_ROWS * 16
    }

    /// Bytes of `weight_s` for one tile of `n_cols` columns.
    pub fn tile_s_bytes(&self, n_cols: usize) -> usize {
        n_cols / self.block_len * self.words * TILE_ROWS * 4
    }
}

/// Appends one tile to `q` and `s`: `rows` holds up to 8 rows of ggml blocks, missing rows become zeros.
///
/// Returns how many scales were not finite (a damaged file: the kernels would spread NaN).
pub fn repack_tile(tensor_type: TensorType, rows: &[&[u8]], q: &mut Vec<u32>, s: &mut Vec<u32>) -> u64 {
    let Some(layout) = Layout::of(tensor_type) else { return 0 };
    // Formats without blocks of their own are taken 32 weights at a time.
    let block_bytes = match tensor_type {
        TensorType::F32 => 128,
        TensorType::F16 | TensorType::BF16 => 64,
        _ => tensor_type.block_bytes() as usize,
    };
    let n_blocks = rows.first().map_or(0, |row| row.len() / block_bytes);
    let (q_start, s_start) = (q.len(), s.len());
    q.resize(q_start + n_blocks * layout.units * TILE_ROWS * 4, 0);
    s.resize(s_start + n_blocks * layout.words * TILE_ROWS, 0);
    let (q, s) = (&mut q[q_start..], &mut s[s_start..]);
    let mut not_finite = 0;
    let mut units = [[0u32; 4]; 13];
    let mut words = [0u32; 2];
    for (lane, row) in rows.iter().enumerate().take(TILE_ROWS) {
        for (block, bytes) in row.chunks_exact(block_bytes).enumerate() {
            not_finite += u64::from(!unpack(tensor_type, bytes, &mut units, &mut words));
            for (unit, value) in units.iter().enumerate().take(layout.units) {
                let at = ((block * layout.units + unit) * TILE_ROWS + lane) * 4;
                q[at..at + 4].copy_from_slice(value);
            }
            for (word, value) in words.iter().enumerate().take(layout.words) {
                s[(block * layout.words + word) * TILE_ROWS + lane] = *value;
            }
        }
    }
    not_finite
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// The bits of an f16 as a float: exact, and safe from GPUs that take subnormal halves for 0. A scale that has a word of its own
/// costs nothing like this.
fn scale(bytes: &[u8], at: usize) -> u32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32().to_bits()
}

fn unit(bytes: &[u8], at: usize) -> [u32; 4] {
    [word(bytes, at), word(bytes, at + 4), word(bytes, at + 8), word(bytes, at + 12)]
}

/// One block into units and scale words; whether its scales are finite.
fn unpack(tensor_type: TensorType, bytes: &[u8], units: &mut [[u32; 4]; 13], words: &mut [u32; 2]) -> bool {
    let finite = |bits: u32| bits & 0x7c00 != 0x7c00;
    match tensor_type {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => {
            for (index, target) in units.iter_mut().enumerate().take(bytes.len() / 16) {
                *target = unit(bytes, index * 16);
            }
            true
        }
        TensorType::Q4_0 => {
            words[0] = scale(bytes, 0);
            units[0] = unit(bytes, 2);
            finite(half(bytes, 0))
        }
        TensorType::Q4_1 => {
            words[0] = word(bytes, 0);
            units[0] = unit(bytes, 4);
            finite(words[0]) && finite(words[0] >> 16)
        }
        TensorType::Q5_0 => {
            *words = [scale(bytes, 0), word(bytes, 2)];
            units[0] = unit(bytes, 6);
            finite(half(bytes, 0))
        }
        TensorType::Q5_1 => {
            *words = [word(bytes, 0), word(bytes, 4)];
            units[0] = unit(bytes, 8);
            finite(words[0]) && finite(words[0] >> 16)
        }
        TensorType::Q8_0 => {
            words[0] = scale(bytes, 0);
            units[0] = unit(bytes, 2);
            units[1] = unit(bytes, 18);
            finite(half(bytes, 0))
        }
        TensorType::Q2_K => {
            two_bits(&bytes[16..80], units);
            units[4] = unit(bytes, 0);
            words[0] = half(bytes, 80) | half(bytes, 82) << 16;
            finite(words[0]) && finite(words[0] >> 16)
        }
        TensorType::Q3_K => {
            two_bits(&bytes[32..96], units);
            // hmask: bit `part` of byte l belongs to weight l of that block of 32.
            high_bits(&bytes[0..32], 4, units);
            let scales = &bytes[96..108];
            let mut unpacked = [0u8; 16];
            for (index, scale) in unpacked.iter_mut().enumerate() {
                let low = if index < 8 { scales[index] & 15 } else { scales[index - 8] >> 4 };
                let high = scales[8 + index % 4] >> (2 * (index / 4)) & 3;
                *scale = (low | high << 4).wrapping_sub(32);
            }
            units[6] = unit(&unpacked, 0);
            words[0] = scale(bytes, 108);
            finite(half(bytes, 108))
        }
        TensorType::Q4_K | TensorType::Q5_K => {
            let five = tensor_type == TensorType::Q5_K;
            let quants = if five { &bytes[48..176] } else { &bytes[16..144] };
            // ggml keeps two blocks of 32 in the low and high nibbles of 32 bytes; here each block has its own unit.
            for (pair, chunk) in quants.chunks_exact(32).enumerate() {
                let low: [u8; 16] = std::array::from_fn(|l| chunk[l] & 15 | chunk[l + 16] << 4);
                let high: [u8; 16] = std::array::from_fn(|l| chunk[l] >> 4 | chunk[l + 16] & 0xf0);
                units[2 * pair] = unit(&low, 0);
                units[2 * pair + 1] = unit(&high, 0);
            }
            if five {
                high_bits(&bytes[16..48], 8, units);
            }
            let packed = &bytes[4..16];
            let mut unpacked = [0u8; 16];
            for j in 0..8 {
                let (scale, minimum) = if j < 4 {
                    (packed[j] & 63, packed[j + 4] & 63)
                } else {
                    (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
                };
                unpacked[j] = scale;
                unpacked[j + 8] = minimum;
            }
            units[if five { 10 } else { 8 }] = unit(&unpacked, 0);
            words[0] = word(bytes, 0);
            finite(words[0]) && finite(words[0] >> 16)
        }
        TensorType::Q6_K => {
            let (low, high) = (&bytes[0..128], &bytes[128..192]);
            for part in 0..8 {
                // Block `part` of 32: nibbles of 32 bytes of `low`, two bits of 32 bytes of `high`.
                let (half_at, row) = (part / 4, part % 4);
                let nibble = |l: usize| low[half_at * 64 + (row % 2) * 32 + l] >> (4 * (row / 2)) & 15;
                let merged: [u8; 16] = std::array::from_fn(|l| nibble(l) | nibble(l + 16) << 4);
                units[part] = unit(&merged, 0);
                let pair = |l: usize| u32::from(high[half_at * 32 + l] >> (2 * row) & 3);
                for group in 0..2 {
                    units[8 + part / 2][part % 2 * 2 + group] =
                        (0..16).fold(0, |bits, l| bits | pair(group * 16 + l) << (8 * (l % 4) + 2 * (l / 4)));
                }
            }
            units[12] = unit(bytes, 192);
            words[0] = scale(bytes, 208);
            finite(half(bytes, 208))
        }
        TensorType::Other(_) => true,
    }
}

/// 256 weights of 2 bits: ggml keeps four blocks of 32 in the bit pairs of 32 bytes; here a block of 32 is two words.
fn two_bits(quants: &[u8], units: &mut [[u32; 4]; 13]) {
    for part in 0..8 {
        let pair = |l: usize| u32::from(quants[part / 4 * 32 + l] >> (2 * (part % 4)) & 3);
        for group in 0..2 {
            units[part / 2][part % 2 * 2 + group] =
                (0..16).fold(0, |bits, l| bits | pair(group * 16 + l) << (8 * (l % 4) + 2 * (l / 4)));
        }
    }
}

/// One more bit for each of 256 weights: ggml keeps bit `part` of byte l for weight l of block `part`; here a word a block.
fn high_bits(bytes: &[u8], first_unit: usize, units: &mut [[u32; 4]; 13]) {
    for part in 0..8 {
        units[first_unit + part / 4][part % 4] = (0..32).fold(0, |bits, l| bits | u32::from(bytes[l] >> part & 1) << l);
    }
}
