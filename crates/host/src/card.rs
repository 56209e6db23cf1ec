//! What a model file is and what it would take, from its header alone.

use std::path::{Path, PathBuf};

use adapter_engine::model::{Config, weight_bytes};
use adapter_engine::ops::kv_cache::plane_bytes;

use crate::{ModelFile, Problem, main_type};

/// A model before it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCard {
    /// Where it is.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// The format most of its weights have.
    pub format: String,
    /// Its weights, counted.
    pub n_parameters: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// Positions it was trained for.
    pub n_context: u32,
    /// Blocks.
    pub n_layers: u32,
    /// Channels.
    pub n_channels: u32,
    /// Ids.
    pub n_vocab: u32,
    /// `general.license`, where the file has one.
    pub licence: Option<String>,
    /// Bytes of weights on the GPU.
    pub weight_bytes: u64,
    /// Bytes of keys and values for a full context.
    pub cache_bytes: u64,
    /// Positions `cache_bytes` is meant for.
    pub context: u32,
}

impl ModelCard {
    /// Reads the header of a file; `context` is the setting.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is no LLaMA of a format with kernels.
    pub fn read(path: &Path, context: u32) -> Result<Self, Problem> {
        Self::of(&ModelFile::open(path)?, context)
    }

    /// The card of an open file.
    ///
    /// # Errors
    /// A tensor in a format without kernels.
    pub fn of(file: &ModelFile, context: u32) -> Result<Self, Problem> {
        let weight_bytes = weight_bytes(&file.gguf).map_err(|error| Problem::from(error).at(&file.path))?;
        let licence = file.gguf.metadata.optional::<&str>("general.license").ok().flatten().map(str::to_owned);
        let Config { n_context, n_layers, n_channels, n_vocab, .. } = file.config;
        let context = context.min(n_context).max(1);
        Ok(Self {
            path: file.path.clone(),
            name: file.name(),
            format: main_type(file.gguf.tensors()),
            n_parameters: file.gguf.tensors().iter().map(|tensor| tensor.elements()).sum(),
            file_bytes: file.gguf.file_bytes,
            n_context,
            n_layers,
            n_channels,
            n_vocab,
            licence,
            weight_bytes,
            cache_bytes: 2 * u64::from(n_layers) * plane_bytes(file.config.heads(), context),
            context,
        })
    }

    /// Weights and a full cache; activations are some MiB on top.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.weight_bytes + self.cache_bytes
    }
}
