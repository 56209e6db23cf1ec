//! The frozen model as one operation of burn's graph: prompts and gate strengths in, loss out.
//!
//! Two forms of the same function. [`GpuLlama`] launches the engine's kernels on burn's own buffers (`seam.rs`, the only file
//! that names cubecl) and has a hand-written backward pass (`op.rs`). [`CpuLlama`] is written in plain burn operations on
//! dequantized weights and leaves the backward pass to burn: slow and independent, for machines without a GPU and as a second
//! opinion.

#[cfg(not(target_arch = "wasm32"))]
mod cpu;
mod op;
mod seam;

use std::sync::Arc;

use adapter_engine::model::Config;
use adapter_engine::train::Batch;
use burn::tensor::{Device, Tensor};

#[cfg(not(target_arch = "wasm32"))]
pub use cpu::CpuLlama;
pub use seam::GpuLlama;

use crate::TrainError;

/// A frozen model on one of the two backends.
#[derive(Debug, Clone)]
pub enum Frozen {
    /// Quantized, on the engine's GPU.
    Gpu(Arc<GpuLlama>),
    /// Dequantized, on the CPU. Not in a browser: pages have a GPU or nothing.
    #[cfg(not(target_arch = "wasm32"))]
    Cpu(Arc<CpuLlama>),
}

impl Frozen {
    /// Sizes of the model.
    pub fn config(&self) -> &Config {
        match self {
            Self::Gpu(llama) => llama.config(),
            #[cfg(not(target_arch = "wasm32"))]
            Self::Cpu(llama) => llama.config(),
        }
    }

    /// The burn device that what trains must lie on.
    pub fn device(&self) -> &Device {
        match self {
            Self::Gpu(llama) => llama.device(),
            #[cfg(not(target_arch = "wasm32"))]
            Self::Cpu(llama) => llama.device(),
        }
    }

    /// Mean cross entropy `[1]` over the targets of `batch`, with adaption prompts `[L_a, A, C]` and effective gate
    /// strengths `[L_a, H]` in the last `L_a` layers.
    ///
    /// # Errors
    /// A batch or an adapter that does not fit the model, and what the GPU reports.
    pub fn loss(&self, prompts: Tensor<3>, strengths: Tensor<2>, batch: &Batch) -> Result<Tensor<1>, TrainError> {
        match self {
            Self::Gpu(llama) => llama.loss(prompts, strengths, batch),
            #[cfg(not(target_arch = "wasm32"))]
            Self::Cpu(llama) => llama.loss(prompts, strengths, batch),
        }
    }
}
