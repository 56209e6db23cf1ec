//! Quantized LLaMA with zero-init attention adapters (arXiv:2303.16199) in hand-written WGSL: one engine for native
//! programs and for the browser.
//!
//! The engine has no file system, network, clock, threads or user interface: it reads models through
//! [`formats::ReadAt`] and computes on a [`gpu::Gpu`].

pub mod adapter;
mod error;
pub mod formats;
pub mod gpu;
pub mod layers;
pub mod llama;
pub mod ops;
pub mod sampler;
pub mod self_test;
pub mod session;
pub mod text;
pub mod train;
pub mod weights;

pub use adapter::Adapter;
pub use error::Error;
pub use llama::Model;
pub use sampler::Sampling;
pub use session::Session;
