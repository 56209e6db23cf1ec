//! Trains zero-init attention adapters (arXiv:2303.16199) on the quantized models of [`adapter_engine`].

pub mod data;
pub mod metrics;
pub mod plot;
#[cfg(not(target_arch = "wasm32"))]
pub mod pth;
