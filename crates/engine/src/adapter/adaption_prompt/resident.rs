//! A LLaMA-Adapter on the GPU: the keys and values of its prompts, and their gates.

use super::file::AdapterFile;
use super::gate::GateKind;
use crate::Error;
use crate::adapter::AdapterError;
use crate::gpu::{Buffer, Gpu};
use crate::model::Model;
use crate::model::block::Prompt;
use crate::ops::gated_attention::{MAX_ADAPTER_LEN, PromptCache};

/// What all sessions share.
#[derive(Debug)]
pub(in crate::adapter) struct Prompts {
    pub(in crate::adapter) kind: GateKind,
    pub(in crate::adapter) adapter_len: u32,
    pub(in crate::adapter) first_layer: u32,
    /// `[L_a][H]`, activation applied.
    pub(in crate::adapter) gates: Vec<Vec<f32>>,
    /// Keys and values of the prompts, `[A, K, D]` each, per adapted layer.
    keys_and_values: Vec<(Buffer, Buffer)>,
}

/// The prompts with the gates of one session.
#[derive(Debug)]
pub(crate) struct GatedPrompts {
    first_layer: usize,
    adapter_len: u32,
    /// Per adapted layer.
    prompts: Vec<PromptCache>,
}

impl Prompts {
    /// Computes the keys and values of the prompts with the model's own frozen weights, once: `k = Wk P`, `v = Wv P`,
    /// without norm, rope or position (method: arXiv:2303.16199, section 3.2).
    ///
    /// # Errors
    /// An adapter whose shapes are another model's, by name and shape; too little memory.
    pub(in crate::adapter) fn load(model: &Model, file: &AdapterFile) -> Result<Self, Error> {
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
        let mut keys_and_values = Vec::new();
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
            keys_and_values.push((cache.k, cache.v));
        }
        gpu.check()?;
        Ok(Self {
            kind: file.kind,
            adapter_len: file.adapter_len,
            first_layer,
            gates: file.effective_gates(config.n_heads),
            keys_and_values,
        })
    }

    /// With gates scaled by a strength.
    ///
    /// # Errors
    /// Too little memory.
    pub(in crate::adapter) fn at_strength(&self, gpu: &Gpu, strength: f32) -> Result<GatedPrompts, Error> {
        let prompts = self.keys_and_values.iter().zip(&self.gates).map(|((k, v), gates)| {
            let scaled: Vec<f32> = gates.iter().map(|gate| gate * strength).collect();
            Ok(PromptCache { k: k.clone(), v: v.clone(), gate: gpu.buffer_with("gates", &scaled)? })
        });
        Ok(GatedPrompts {
            first_layer: self.first_layer as usize,
            adapter_len: self.adapter_len,
            prompts: prompts.collect::<Result<_, Error>>()?,
        })
    }
}

impl GatedPrompts {
    /// The prompt of a layer and its tokens, if the layer is adapted.
    pub(in crate::adapter) fn of_layer(&self, layer: usize) -> Option<(&PromptCache, u32)> {
        Some((self.prompts.get(layer.checked_sub(self.first_layer)?)?, self.adapter_len))
    }
}
