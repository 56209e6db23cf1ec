//! What a model file is and what it would take, from its header alone.

use std::path::{Path, PathBuf};

use adapter_engine::gpu::Tier;
use adapter_engine::model::Config;
use adapter_engine::session::{self, Memory, SessionOptions};

use crate::{ModelFile, Problem};

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
    /// What it takes on the GPU when the context is full.
    pub memory: Memory,
    /// Positions `memory` is meant for.
    pub context: u32,
}

impl ModelCard {
    /// Reads the header of a file; `context` is the setting.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is no LLaMA of a format with kernels.
    pub fn read(path: &Path, context: u32) -> Result<Self, Problem> {
        Self::of(&ModelFile::open(path)?, context, Tier::default())
    }

    /// The card of an open file, for a GPU of that tier.
    ///
    /// # Errors
    /// A tensor in a format without kernels.
    pub fn of(file: &ModelFile, context: u32, tier: Tier) -> Result<Self, Problem> {
        let licence = file.gguf.metadata.optional::<&str>("general.license").ok().flatten().map(str::to_owned);
        let Config { n_context, n_layers, n_channels, n_vocab, .. } = file.config;
        let context = context.min(n_context).max(1);
        let options = SessionOptions { context: Some(context), ..SessionOptions::default() };
        let memory = session::memory(&file.gguf, &file.config, tier, &options, context)
            .map_err(|error| Problem::from(error).at(&file.path))?;
        Ok(Self {
            path: file.path.clone(),
            name: file.name(),
            format: file.gguf.main_type().to_owned(),
            n_parameters: file.gguf.n_parameters(),
            file_bytes: file.gguf.file_bytes,
            n_context,
            n_layers,
            n_channels,
            n_vocab,
            licence,
            memory,
            context,
        })
    }
}
