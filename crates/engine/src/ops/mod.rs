//! One file an op: its parameters, its shape checks, the launch of its kernel (`shaders/<name>.wgsl`).
//!
//! Letters: T tokens, P past, C channels, H heads, K kv heads, D head_dim, F ffn, V vocab, A adapter_len.

pub mod attention;
pub mod cross_entropy;
pub mod embedding;
pub mod gated_attention;
pub mod gelu;
pub mod head_norm;
pub mod heads;
pub mod kv_cache;
pub mod layer_norm;
pub mod matmul;
pub mod matrix;
pub mod residual_add;
pub mod rms_norm;
pub mod rope;
pub mod sample;
pub mod swiglu;
