//! Encoders: transformers in which every token sees all. What sees pictures (ViT, DINOv2, the image halves of CLIP and SigLIP) and
//! what reads sentences (BERT, RoBERTa), from the safetensors file and `config.json` that Hugging Face keeps of them.
//!
//! One block for all of them ([`block`]): layer norms before (ViT) or behind (BERT), the products and the attention that the
//! decoder has, a GELU between. A family is a row of names and numbers ([`family`]).
//!
//! Sources: Dosovitskiy et al. 2020, arXiv:2010.11929; Oquab et al. 2023, arXiv:2304.07193; Radford et al. 2021, arXiv:2103.00020;
//! Zhai et al. 2023, arXiv:2303.15343; Devlin et al. 2018, arXiv:1810.04805; Liu et al. 2019, arXiv:1907.11692.

mod block;
mod config;
mod embedding;
mod family;
mod load;
mod positions;
mod run;
mod weights;

pub use config::{EncoderConfig, Input};
pub use family::Family;
pub use run::{Encoded, Pixels};

use crate::formats::TensorType;
use crate::gpu::Gpu;
use crate::ops::layer_norm::LayerNorm;
use block::Block;
use embedding::Embedding;

/// An encoder whose weights are on a GPU.
#[derive(Debug)]
pub struct Encoder {
    gpu: Gpu,
    config: EncoderConfig,
    embedding: Embedding,
    blocks: Vec<Block>,
    formats: Vec<TensorType>,
    /// Behind the last block, in families whose norms come first.
    last_norm: Option<LayerNorm>,
}

impl Encoder {
    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Formats of its products, for the self-test.
    #[must_use]
    pub fn formats(&self) -> &[TensorType] {
        &self.formats
    }

    /// The GPU it is on.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }
}
