//! Plain-Rust twins of every kernel, in f64, written from the papers, for tests; [`dequantize`] also serves training on
//! the CPU. Knows nothing of the engine.
//!
//! One file an operation, named as its kernel in `shaders/`; the gradient stands below the forward, in the same order of
//! arguments, and a gradient is called `d` + the name of what it is the gradient of. All arrays are row-major slices.
//!
//! Letters: T tokens, S positions in the cache, C channels, H query heads, K key/value heads, D channels of a head, F channels
//! of the feed-forward part, V vocabulary, A prompt length, L layers, `L_a` adapted layers (the last ones).
//!
//! Operations panic when lengths do not fit together: that is an error in the test that calls them. What is read from files
//! ([`dequantize`], [`llama`]) gives an [`Error`] instead.
#![allow(
    clippy::needless_range_loop,
    reason = "indices keep the loops comparable to the kernels and to the papers' sums"
)]
#![allow(clippy::too_many_arguments, reason = "an operation takes what its formula names")]

pub mod adamw;
pub mod adaption_prompt;
pub mod attention;
pub mod cross_entropy;
pub mod dequantize;
pub mod embedding;
mod error;
pub mod gated_attention;
pub mod gelu;
pub mod half_rows;
pub mod kv_cache;
pub mod layer_norm;
pub mod llama;
pub mod matmul;
pub mod residual_add;
pub mod rms_norm;
pub mod rope;
pub mod sampling;
pub mod softmax;
pub mod swiglu;

pub use error::Error;

/// The same numbers in f64. Exact.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// The same numbers rounded to f32, to compare with a kernel's.
pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}
