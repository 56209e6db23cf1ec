//! The frozen model as one operation of burn's graph: what the blocks take of an adapter in, loss out.
//!
//! Two forms of the same function. [`GpuLlama`] launches the engine's kernels on burn's own buffers (`gpu.rs`, the only file
//! that names cubecl) and has a hand-written backward pass (`op.rs`). [`CpuLlama`] is written in plain burn operations on
//! dequantized weights and leaves the backward pass to burn: slow and independent, for machines without a GPU and as a second
//! opinion.

#[cfg(not(target_arch = "wasm32"))]
mod cpu;
mod gpu;
mod op;

use std::sync::Arc;

use adapter_engine::adapter::Method;
use adapter_engine::model::Config;
use adapter_engine::train::Batch;
use burn::tensor::{Device, Tensor};

#[cfg(not(target_arch = "wasm32"))]
pub use cpu::CpuLlama;
pub use gpu::GpuLlama;

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

    /// Before anything is computed with it: that the GPU's kernels compute right, those of gradients as well. Once an open GPU;
    /// programs that [remember](adapter_engine::check::self_test::trust) a pass spare it.
    ///
    /// # Errors
    /// A kernel that computes wrong numbers, with its name and the GPU's; a GPU that fails.
    pub async fn require_right_kernels(&self) -> Result<(), TrainError> {
        match self {
            Self::Gpu(llama) => llama.require_right_kernels().await,
            #[cfg(not(target_arch = "wasm32"))]
            Self::Cpu(_) => Ok(()),
        }
    }

    /// Mean cross entropy `[1]` over the targets of `batch`, with an adapter of `method`: its numbers as the blocks take them, in
    /// the order of [`Method::applied`].
    ///
    /// # Errors
    /// A batch or an adapter that does not fit the model, and what the GPU reports.
    pub fn loss(&self, applied: Tensor<1>, method: &Method, batch: &Batch) -> Result<Tensor<1>, TrainError> {
        match self {
            Self::Gpu(llama) => {
                // The trainer's buffers are of the method's sizes already.
                let _ = method;
                llama.loss(applied, batch)
            }
            #[cfg(not(target_arch = "wasm32"))]
            Self::Cpu(llama) => llama.loss(applied, method, batch),
        }
    }
}
