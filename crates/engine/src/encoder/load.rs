//! From a safetensors file to a GPU.

use super::Encoder;
use super::block::Block;
use super::config::EncoderConfig;
use super::embedding::Embedding;
use super::weights::Weights;
use crate::Error;
use crate::formats::{ReadAt, Safetensors, TensorType};
use crate::gpu::Gpu;
use crate::model::loader::Progress;

impl Encoder {
    /// Streams the weights of `source`, a safetensors file, to the GPU; `config` is that of the `config.json` beside it. `progress` is
    /// told the bytes loaded and in all, and may stop the load.
    ///
    /// # Errors
    /// A file that is none or lacks a tensor, tensors of other shapes than `config` says, too little memory, [`Error::Cancelled`].
    pub fn load(gpu: &Gpu, source: &dyn ReadAt, config: EncoderConfig, progress: Progress<'_>) -> Result<Self, Error> {
        let file = Safetensors::read(source)?;
        let names = config.family.names();
        let mut weights = Weights::new(gpu, source, &file, &config, progress);
        let embedding = Embedding::load(&mut weights)?;
        let blocks = (0..config.n_layers).map(|layer| Block::load(&mut weights, layer)).collect::<Result<_, _>>()?;
        // What is computed on the way to the GPU is f32.
        let mut formats: Vec<TensorType> =
            file.names().filter_map(|name| file.get(name)).map(|tensor| tensor.tensor_type).collect();
        formats.push(TensorType::F32);
        formats.sort_by_key(|format| format.ggml_id());
        formats.dedup();
        let last_norm = names.last_norm.map(|name| weights.norm(name)).transpose()?;
        Ok(Self { gpu: gpu.clone(), embedding, blocks, formats, last_norm, config })
    }
}
