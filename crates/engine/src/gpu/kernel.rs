//! Kernels by name, and the text of their variants.

use super::preprocess::{Constants, PreprocessError, preprocess};

/// One file of `shaders/`.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// File name without `.wgsl`.
    pub name: &'static str,
    /// Its text, with preprocessor directives.
    pub text: &'static str,
}

macro_rules! kernels {
    ($($name:literal),* $(,)?) => {
        &[$(Kernel { name: $name, text: include_str!(concat!("../../../../shaders/", $name, ".wgsl")) }),*]
    };
}

/// Every kernel there is.
pub const KERNELS: &[Kernel] = kernels![
    "argmax",
    "attention",
    "attention_backward_kv",
    "attention_backward_q",
    "attention_keys",
    "attention_lanes",
    "attention_merge",
    "attention_queries",
    "cross_entropy",
    "embedding",
    "gated_attention",
    "gated_attention_backward",
    "gated_attention_queries",
    "gated_attention_reduce",
    "gated_attention_reduce_lanes",
    "gelu",
    "half_rows",
    "head_norm",
    "kv_cache_write",
    "layer_norm",
    "matmul",
    "matmul_backward",
    "matmul_backward_cooperative",
    "matmul_backward_tiled",
    "matmul_backward_tokens",
    "matmul_cooperative",
    "matmul_lanes",
    "matmul_tiled",
    "matvec",
    "repeat_penalty",
    "residual_add",
    "rms_norm",
    "rms_norm_backward",
    "rope",
    "sample",
    "swiglu",
    "swiglu_backward",
];

/// Text that kernels import.
pub const FRAGMENTS: &[Kernel] = kernels![
    "shared/attention_head",
    "shared/attention_rows",
    "shared/attention_slots",
    "shared/band",
    "shared/bf16",
    "shared/bits",
    "shared/cooperative_stage",
    "shared/cooperative_step",
    "shared/cooperative_sums",
    "shared/dot_values",
    "shared/epilogue",
    "shared/f16",
    "shared/f32",
    "shared/gated_attention_head",
    "shared/kv",
    "shared/parts",
    "shared/parts_dequantize",
    "shared/parts_whole",
    "shared/product",
    "shared/q2_k",
    "shared/q3_k",
    "shared/q4_0",
    "shared/q4_1",
    "shared/q4_k",
    "shared/q5_0",
    "shared/q5_1",
    "shared/q5_k",
    "shared/q6_k",
    "shared/q8_0",
    "shared/query_round",
    "shared/rotate",
    "shared/silu",
    "shared/step",
];

fn fragment(name: &str) -> Option<&'static str> {
    FRAGMENTS.iter().find(|part| part.name.strip_prefix("shared/") == Some(name)).map(|part| part.text)
}

/// The WGSL of a kernel's variant, ready for naga or a browser.
///
/// # Errors
/// An unknown kernel or a mistake in its directives.
pub fn shader_source(kernel: &str, constants: &Constants) -> Result<String, PreprocessError> {
    let found = KERNELS.iter().find(|candidate| candidate.name == kernel).ok_or_else(|| PreprocessError {
        shader: kernel.to_owned(),
        line: 0,
        message: "no such kernel".to_owned(),
    })?;
    preprocess(kernel, found.text, constants, &fragment)
}
