//! A model: its family and sizes from the metadata, its weights on the GPU, a block forward and backward.
//!
//! A family is a row of [`architecture`]. Nothing here knows of adapters: what stands beside attention comes in as keys, values
//! and gates.

pub mod architecture;
pub mod block;
pub mod block_backward;
pub mod config;
pub mod linear;
pub mod loader;
pub mod tensors;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::Error;
use crate::formats::{Gguf, ReadAt, TensorType};
use crate::gpu::{Buffer, Gpu};
use crate::ops::matrix::Matrix;

pub use architecture::Architecture;
pub use config::{Config, block_count, n_layers};
pub use linear::Linear;
pub use tensors::weight_bytes;

use block::Block;
use loader::{Loader, Order};
use tensors::Tensors;

/// A model on the GPU. Cloning is cheap and shares the weights.
#[derive(Debug, Clone)]
pub struct Model(pub(crate) Arc<Loaded>);

#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) gpu: Gpu,
    pub(crate) config: Config,
    pub(crate) embedding: Matrix,
    pub(crate) blocks: Vec<Block>,
    pub(crate) output_norm: Buffer,
    pub(crate) output: Option<Matrix>,
    damaged: Vec<(String, u64)>,
    formats: Vec<TensorType>,
}

impl Model {
    /// Streams the weights of `gguf` from `source` to the GPU. An adapter in the same file is left out.
    ///
    /// `progress` is told the bytes loaded so far and in all, and may stop the load.
    ///
    /// # Errors
    /// Everything that [`Config::from_gguf`] refuses, missing or misshapen tensors, tensors that its family does not have, too
    /// little memory, a file that changed, or [`Error::Cancelled`].
    pub fn load(
        gpu: &Gpu,
        gguf: &Gguf,
        source: &dyn ReadAt,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Self, Error> {
        let config = Config::from_gguf(gguf, source)?;
        let tensors = Tensors::new(gguf, &config)?;
        let mut loader = Loader::new(gpu, source, tensors.file_bytes(), progress);
        let embedding = loader.matrix(&[tensors.top("token_embd.weight")?], Order::Stacked)?;
        let mut blocks = Vec::with_capacity(config.n_layers as usize);
        for layer in 0..config.n_layers {
            blocks.push(Block::load(&mut loader, tensors, layer)?);
        }
        let output_norm = loader.vector(tensors.top("output_norm.weight")?)?;
        let output = match config.tied {
            true => None,
            false => Some(loader.matrix(&[tensors.top("output.weight")?], Order::Stacked)?),
        };
        let damaged = std::mem::take(&mut loader.damaged);
        gpu.submit(gpu.encoder());
        gpu.wait()?;
        let gpu = gpu.clone();
        Ok(Self(Arc::new(Loaded {
            gpu,
            config,
            embedding,
            blocks,
            output_norm,
            output,
            damaged,
            formats: gguf.formats(),
        })))
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The GPU it lies on.
    pub fn gpu(&self) -> &Gpu {
        &self.0.gpu
    }

    /// Formats of its file's tensors: what the self-test is asked about.
    pub fn formats(&self) -> &[TensorType] {
        &self.0.formats
    }

    /// Tensors with scales that are not finite, and how many: such a file computes nonsense.
    pub fn damaged_tensors(&self) -> &[(String, u64)] {
        &self.0.damaged
    }
}

impl Loaded {
    /// The matrix of the output head.
    pub(crate) fn head(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}
