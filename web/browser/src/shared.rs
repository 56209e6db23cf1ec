//! What a model and its conversations have in common.

use adapter_engine::formats::Gguf;
use adapter_engine::text::{ChatTemplate, Tokenizer};
use wasm_bindgen::prelude::*;

use crate::blob::BlobSource;
use crate::failure::Failure;
use crate::types::{AdapterInfo, to_js};

/// A model and what its conversations need of its file.
pub struct Shared {
    pub model: adapter_engine::Model,
    pub tokenizer: Tokenizer,
    pub template: ChatTemplate,
    pub gguf: Gguf,
    pub source: BlobSource,
}

/// An adapter on the GPU.
#[wasm_bindgen]
pub struct Adapter {
    pub(crate) resident: adapter_engine::Adapter,
    pub(crate) warning: Option<String>,
}

#[wasm_bindgen]
impl Adapter {
    /// What it is.
    ///
    /// # Errors
    /// None that is known.
    #[wasm_bindgen(unchecked_return_type = "AdapterInfo")]
    pub fn info(&self) -> Result<JsValue, Failure> {
        to_js(&AdapterInfo {
            name: self.resident.name().to_owned(),
            kind: self.resident.kind().name(),
            length: self.resident.adapter_len(),
            first_layer: self.resident.first_layer(),
            layers: self.resident.gates().len() as u32,
            gates: self.resident.gates().to_vec(),
            template: self.resident.chat_template().map(|kept| ChatTemplate::name_of(kept).unwrap_or("its own")),
            warning: self.warning.clone(),
        })
    }
}
