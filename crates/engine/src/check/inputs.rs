//! Fixed inputs of the self-test and the tuner, and the measure of an error.

use std::ops::ControlFlow;

use crate::Error;
use crate::formats::{TensorInfo, TensorType};
use crate::gpu::Gpu;
use crate::model::loader::{Loader, Order};
use crate::ops::heads::Heads;
use crate::ops::matrix::Matrix;
use crate::ops::rope::{Rope, Scaling};

/// What a kernel may be off by: far above rounding, far below a wrong index.
pub(crate) const BUDGET: f64 = 1e-6;

/// Tokens of an encoder's attention.
pub const ENCODER_TOKENS: u32 = 8;
/// Rows, columns and tokens of the products.
pub const PRODUCT: (usize, usize, usize) = (24, 256, 5);
/// The heads of the attention cases.
pub const HEADS: Heads = Heads { n_heads: 4, n_kv_heads: 2, head_dim: 32 };
/// Past, tokens and prompt length of the attention cases.
pub const LENGTHS: (u32, u32, u32) = (9, 3, 5);
/// For each token of a training step the first token of its text: two texts side by side.
pub const STARTS: [u32; 7] = [0, 0, 0, 0, 0, 5, 5];

/// How large the f16 scales of blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    /// 0.01 to 0.07.
    Ordinary,
    /// Subnormal in f16, from 2e-5 down to the smallest there is, minimums as well: most scales of real Q6_K and many of real
    /// Q4_K files are, and WGSL lets a GPU take them for 0.
    Subnormal,
}

impl Scales {
    fn of(self, index: usize) -> f32 {
        match self {
            Self::Ordinary => 0.01 * (1 + index % 7) as f32,
            Self::Subnormal => [2e-5, 4e-6, 6e-7, 6e-8][index % 4],
        }
    }
}

/// Fixed inputs in (-1, 1), exact in f32: the top bits of a hash of `seed` and the index.
pub fn inputs(seed: u32, n: usize) -> Vec<f32> {
    bytes(seed, n * 2).chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0).collect()
}

/// Fixed bytes.
pub fn bytes(seed: u32, n: usize) -> Vec<u8> {
    (0..n as u32)
        .map(|i| {
            // The finalizer of MurmurHash3.
            let mut h = i.wrapping_add(seed.wrapping_mul(0x9e37_79b9));
            h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
            h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
            (h >> 24) as u8
        })
        .collect()
}

/// Fixed blocks of a format, `n` weights; the first of more are the same.
pub fn weights(tensor_type: TensorType, n: usize, scales: Scales) -> Vec<u8> {
    let (len, size) = match tensor_type {
        TensorType::F32 => return inputs(3, n).iter().flat_map(|value| value.to_le_bytes()).collect(),
        TensorType::F16 => {
            return inputs(3, n).iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect();
        }
        TensorType::BF16 => {
            return inputs(3, n).iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect();
        }
        other => (other.block_len() as usize, other.block_bytes() as usize),
    };
    let mut out = bytes(5, n / len * size);
    for (index, block) in out.chunks_exact_mut(size).enumerate() {
        for (place, at) in tensor_type.scale_offsets().iter().enumerate() {
            let value = half::f16::from_f32(scales.of(index + place));
            block[*at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
    out
}

/// A matrix on the GPU of `data` in a format, `[rows, columns]`.
///
/// # Errors
/// Too little memory.
pub fn matrix(gpu: &Gpu, tensor_type: TensorType, data: &[u8], [n_rows, n_cols]: [usize; 2]) -> Result<Matrix, Error> {
    let mut go_on = |_, _| ControlFlow::Continue(());
    Loader::new(gpu, &data, 0, &mut go_on).matrix(&[&tensor(tensor_type, data, 0, [n_rows, n_cols])], Order::Stacked)
}

/// A matrix on the GPU whose tiles alternate between the first and the second half of `data`, `[rows, columns]` each.
///
/// # Errors
/// Too little memory.
pub(super) fn gate_up(gpu: &Gpu, tensor_type: TensorType, data: &[u8], size: [usize; 2]) -> Result<Matrix, Error> {
    let (gate, up) = data.split_at(data.len() / 2);
    let tensors = [tensor(tensor_type, gate, 0, size), tensor(tensor_type, up, gate.len(), size)];
    let mut go_on = |_, _| ControlFlow::Continue(());
    Loader::new(gpu, &data, 0, &mut go_on).matrix(&tensors.each_ref(), Order::Alternating)
}

fn tensor(tensor_type: TensorType, data: &[u8], offset: usize, [n_rows, n_cols]: [usize; 2]) -> TensorInfo {
    TensorInfo {
        name: "self test".to_owned(),
        shape: vec![n_cols as u64, n_rows as u64],
        tensor_type,
        offset: offset as u64,
        size_bytes: data.len() as u64,
    }
}

/// The angles of the rope and attention cases.
pub fn angles() -> Rope {
    Rope { head_dim: HEADS.head_dim, n_rot: HEADS.head_dim, theta: 10_000.0, scaling: Scaling::None }
}

/// About 48 of many numbers, evenly spread over rows, lanes and tokens: all that is stored of a large answer.
pub fn sampled(values: &[f32]) -> Vec<f32> {
    let stride = if values.len() > 64 { (values.len() / 48) | 1 } else { 1 };
    values.iter().copied().step_by(stride).collect()
}

/// Mean square of the difference over that of `wanted`; infinite when the lengths differ or a number is none.
pub(super) fn nmse(found: &[f32], wanted: &[f32]) -> f64 {
    let power: f64 = wanted.iter().map(|value| f64::from(*value).powi(2)).sum();
    let difference: f64 = found.iter().zip(wanted).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    let error = difference / power.max(1e-30);
    if wanted.len() == found.len() && !error.is_nan() { error } else { f64::INFINITY }
}
