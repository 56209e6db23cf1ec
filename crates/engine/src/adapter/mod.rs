//! Zero-init attention adapters: their files, and their prompts' keys and values on the GPU.

mod base;
mod error;
mod file;
mod gguf;
mod kind;
mod peft;
mod safetensors;

use std::sync::Arc;

pub use base::{BaseMatch, BaseModel, base_hash};
pub use error::{AdapterError, AdapterWriteError};
pub use file::AdapterFile;
pub use gguf::merge;
pub use kind::{GateActivation, GateKind, GateShape};

use crate::Error;
use crate::gpu::Buffer;
use crate::model::Model;
use crate::model::block::Prompt;
use crate::ops::gated_attention::{MAX_ADAPTER_LEN, PromptCache};

/// An adapter of one model, resident on its GPU. Cloning is cheap and shares it.
#[derive(Debug, Clone)]
pub struct Adapter(Arc<Resident>);

#[derive(Debug)]
struct Resident {
    name: String,
    kind: GateKind,
    adapter_len: u32,
    first_layer: u32,
    /// `[L_a][H]`, activation applied.
    gates: Vec<Vec<f32>>,
    chat_template: Option<String>,
    /// Keys and values of the prompts, `[A, K, D]` each, per adapted layer.
    prompts: Vec<(Buffer, Buffer)>,
}

impl Adapter {
    /// Computes the keys and values of the prompts with the model's own frozen weights, once: `k = Wk P`, `v = Wv P`,
    /// without norm, rope or position (method: arXiv:2303.16199, section 3.2).
    ///
    /// # Errors
    /// An adapter whose shapes are another model's, by name and shape; too little memory.
    pub fn load(model: &Model, name: &str, file: &AdapterFile) -> Result<Self, Error> {
        let (config, gpu) = (model.config(), model.gpu());
        file.check()?;
        file.check_fits(config)?;
        if file.adapter_len > MAX_ADAPTER_LEN {
            return Err(AdapterError::TooLong { found: file.adapter_len, limit: MAX_ADAPTER_LEN }.into());
        }
        let heads = config.heads();
        let kv_width = heads.n_kv_heads * heads.head_dim;
        let first_layer = config.n_layers - file.n_layers;
        let product = gpu.buffer("adapter products", u64::from(file.adapter_len * heads.qkv_width()) * 4)?;
        let mut prompts = Vec::new();
        let per_layer = (file.adapter_len * config.n_channels) as usize;
        for (block, values) in model.0.blocks[first_layer as usize..].iter().zip(file.prompts.chunks_exact(per_layer)) {
            let embeddings = gpu.buffer_with("adaption prompt", values)?;
            let plane_bytes = u64::from(file.adapter_len * kv_width) * 4;
            let (k, v) = (gpu.buffer("prompt keys", plane_bytes)?, gpu.buffer("prompt values", plane_bytes)?);
            // The gates belong to sessions, which differ in strength.
            let cache = PromptCache { k, v, gate: product.clone() };
            let prompt = Prompt {
                embeddings: &embeddings,
                product: &product,
                cache: &cache,
                adapter_len: file.adapter_len,
                f16_products: false,
            };
            let mut encoder = gpu.encoder();
            block.prompt_keys_and_values(gpu, &mut encoder, config, prompt)?;
            gpu.submit(encoder);
            prompts.push((cache.k, cache.v));
        }
        gpu.check()?;
        Ok(Self(Arc::new(Resident {
            name: name.to_owned(),
            kind: file.kind,
            adapter_len: file.adapter_len,
            first_layer,
            gates: file.effective_gates(config.n_heads),
            chat_template: file.chat_template.clone(),
            prompts,
        })))
    }

    /// The name it was loaded under.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Shape and activation of its gates.
    pub fn kind(&self) -> GateKind {
        self.0.kind
    }

    /// A: prompt tokens a layer.
    pub fn adapter_len(&self) -> u32 {
        self.0.adapter_len
    }

    /// The lowest adapted layer.
    pub fn first_layer(&self) -> u32 {
        self.0.first_layer
    }

    /// Strength of every head, `[L_a][H]`, activation applied.
    pub fn gates(&self) -> &[Vec<f32>] {
        &self.0.gates
    }

    /// The chat template it was trained with, as Jinja, where its file says so.
    pub fn chat_template(&self) -> Option<&str> {
        self.0.chat_template.as_deref()
    }

    pub(crate) fn prompts(&self) -> &[(Buffer, Buffer)] {
        &self.0.prompts
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
