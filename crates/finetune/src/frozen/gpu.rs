//! Where burn's buffers meet the engine's kernels. The only file that names cubecl types.
//!
//! burn works on the engine's own wgpu device and queue, so the order of submits is the order of work: burn's pending work is
//! flushed, the engine submits its own, burn goes on. The engine copies from and to burn's buffers and never binds them, so
//! burn may keep several tensors in one buffer. Nothing but the loss crosses to the CPU.

use std::sync::{Arc, Mutex};

use adapter_engine::check::self_test;
use adapter_engine::gpu::Gpu;
use adapter_engine::model::Config;
use adapter_engine::train::{Batch, Operands, Trainer};
use adapter_engine::{Error, Model};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Cube, DType, Dispatch, ops::FloatTensorOps};
use burn::tensor::wgpu::{MemoryConfiguration, WgpuSetup};
use burn::tensor::{Device, Tensor};
use burn_cubecl::cubecl::server::ServerError;
use burn_cubecl::cubecl::wgpu::{AutoCompiler, WgpuServer};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::op::{Call, FrozenLlama, FrozenStep, Step};
use crate::TrainError;

/// The quantized model on the engine's GPU, and a burn device over the same GPU.
pub struct GpuLlama {
    model: Model,
    trainer: Arc<Trainer>,
    device: Device,
}

impl std::fmt::Debug for GpuLlama {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuLlama").field("model", &self.model.config().name).finish_non_exhaustive()
    }
}

/// burn on the device and queue of `gpu`. burn keeps a device for as long as the process runs: make one a GPU.
///
/// # Errors
/// burn does not take the device.
pub fn burn_device(gpu: &Gpu) -> Result<Device, TrainError> {
    let setup = WgpuSetup {
        instance: gpu.instance().clone(),
        adapter: gpu.adapter().clone(),
        device: gpu.device().clone(),
        queue: gpu.queue().clone(),
        backend: gpu.adapter().get_info().backend,
    };
    // Pages of their own: burn's pools would reserve far more than the few megabytes of an adapter.
    Device::wgpu_options()
        .setup(setup)
        .memory_config(MemoryConfiguration::ExclusivePages)
        .init()
        .map_err(|error| TrainError::Burn { doing: "opening the training device", reason: error.to_string() })
}

impl GpuLlama {
    /// The model with buffers for an adapter of `n_layers` layers with `adapter_len` prompt tokens, and batches of at most
    /// `max_tokens` tokens.
    ///
    /// # Errors
    /// Sizes that the engine refuses, too little memory.
    pub fn new(model: &Model, n_layers: u32, adapter_len: u32, max_tokens: u32) -> Result<Self, TrainError> {
        Self::of(Trainer::new(model, n_layers, adapter_len, max_tokens)?)
    }

    /// The model of a trainer, such as one that is [rounded](Trainer::rounded).
    ///
    /// # Errors
    /// burn does not take the device.
    pub fn of(trainer: Trainer) -> Result<Self, TrainError> {
        let model = trainer.model().clone();
        let device = burn_device(model.gpu())?.autodiff();
        Ok(Self { model, trainer: Arc::new(trainer), device })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        self.model.config()
    }

    /// The burn device, with autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// As [`super::Frozen::require_right_kernels`].
    pub(super) async fn require_right_kernels(&self) -> Result<(), TrainError> {
        for set in self_test::Set::OF_TRAINING {
            self_test::ensure(self.model.gpu(), set, self.model.formats()).await?;
        }
        Ok(())
    }

    /// As [`super::Frozen::loss`].
    pub(super) fn loss(&self, applied: Tensor<1>, batch: &Batch) -> Result<Tensor<1>, TrainError> {
        let call = Call {
            trainer: Arc::clone(&self.trainer),
            batch: Arc::new(batch.clone()),
            failure: Arc::new(Mutex::new(None)),
        };
        let loss = <Dispatch as FrozenLlama>::frozen_llama_loss(applied.into_dispatch(), call.clone());
        match call.failure.lock().ok().and_then(|mut failure| failure.take()) {
            Some(failure) => Err(failure),
            None => Ok(Tensor::from_dispatch(loss)),
        }
    }
}

impl Call {
    fn run(
        &self,
        applied: &CubeTensor,
        gradient: &CubeTensor,
        losses: &CubeTensor,
        backward: bool,
    ) -> Result<(), TrainError> {
        let burn = |doing| move |error: ServerError| TrainError::Burn { doing, reason: format!("{error:?}") };
        // What burn has not submitted yet must run before the engine reads it.
        applied.client.flush().map_err(burn("submitting pending work"))?;
        // The buffer under a tensor; it stays the tensor's for as long as the resource lives.
        let lend = |tensor: &CubeTensor| {
            let resource = tensor.client.get_resource::<WgpuServer<AutoCompiler>>(tensor.handle.clone());
            resource.map_err(burn("lending a buffer to the engine"))
        };
        let (applied, gradient, losses) = (lend(applied)?, lend(gradient)?, lend(losses)?);
        let operands = Operands {
            numbers: &applied.resource().buffer,
            numbers_offset: applied.resource().offset,
            gradient: &gradient.resource().buffer,
            gradient_offset: gradient.resource().offset,
        };
        self.trainer.submit(&self.batch, operands, backward).map_err(TrainError::from)?;
        let losses = losses.resource();
        self.trainer.copy_losses(&self.batch, &losses.buffer, losses.offset);
        Ok(())
    }
}

impl FrozenStep for Cube {
    fn frozen_step(applied: FloatTensor<Self>, call: &Call, backward: bool) -> Step<Self> {
        let applied = into_contiguous(applied);
        let n_targets = (call.batch.n_targets() as usize).max(1);
        let losses = Self::float_empty([n_targets].into(), &applied.device, DType::F32.into());
        let gradient = Self::float_empty(applied.meta.shape().clone(), &applied.device, DType::F32.into());
        if let Err(error) = call.run(&applied, &gradient, &losses, backward)
            && let Ok(mut failure) = call.failure.lock()
        {
            failure.get_or_insert(error);
        }
        Step { loss: Self::float_mean(losses), gradient: backward.then_some(gradient) }
    }
}

impl From<Error> for TrainError {
    fn from(error: Error) -> Self {
        Self::Engine(Box::new(error))
    }
}
