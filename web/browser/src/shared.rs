//! What a model and its conversations have in common.

use std::cell::RefCell;
use std::rc::Rc;

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

/// The adapter that a conversation answers with. It may change at any time, also while an answer is on its way: the sentence goes
/// on under the new one.
#[wasm_bindgen]
#[derive(Clone, Default)]
pub struct AdapterChoice(Rc<RefCell<Option<(adapter_engine::Adapter, f32)>>>);

impl AdapterChoice {
    /// What is chosen now.
    pub(crate) fn get(&self) -> Option<(adapter_engine::Adapter, f32)> {
        self.0.borrow().clone()
    }
}

#[wasm_bindgen]
impl AdapterChoice {
    /// This adapter from now on: 1 as trained, 0 as if there were none, up to 2.
    pub fn set(&self, adapter: &Adapter, strength: f32) {
        self.0.replace((strength != 0.0).then(|| (adapter.resident.clone(), strength)));
    }

    /// The base model from now on.
    pub fn clear(&self) {
        self.0.replace(None);
    }
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
