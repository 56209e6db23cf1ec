//! A model, its adapters, and conversations with it.

use std::ops::ControlFlow;
use std::rc::Rc;

use adapter_engine::Session;
use adapter_engine::adapter::{AdapterFile, BaseModel, GateKind};
use adapter_engine::formats::Gguf;
use adapter_engine::gpu::{Gpu, Tier};
use adapter_engine::model::Config;
use adapter_engine::session::{self, Rows, SessionOptions};
use adapter_engine::text::{ChatTemplate, Special, Tokenizer, VocabSource};
use wasm_bindgen::prelude::*;
use web_sys::Blob;

use crate::answer::Chat;
use crate::blob::BlobSource;
use crate::failure::Failure;
use crate::shared::{Adapter, Shared};
use crate::types::{ModelInfo, to_js};

/// Positions of a conversation where nobody asks for more.
const DEFAULT_CONTEXT: u32 = 4096;
/// Tokens of the prompt that warms up: enough for the kernels of many tokens.
const WARM_UP_TOKENS: u32 = 16;

/// A model on the GPU.
#[wasm_bindgen]
pub struct Model(Rc<Shared>);

impl Model {
    /// The model itself, for what trains.
    pub fn engine_model(&self) -> &adapter_engine::Model {
        &self.0.model
    }

    /// Reads the header, then streams the weights.
    pub fn load(gpu: &Gpu, source: BlobSource, progress: &js_sys::Function) -> Result<Self, Failure> {
        let gguf = Gguf::read(&source)?;
        let tokenizer = Tokenizer::from_vocab(VocabSource::from_gguf(&gguf)?)?;
        let template = ChatTemplate::from_vocab(&tokenizer)?;
        let mut report = |done: u64, total: u64| {
            let answer = progress.call2(&JsValue::NULL, &(done as f64).into(), &(total as f64).into());
            if answer.is_ok_and(|answer| answer.is_truthy()) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let model = adapter_engine::Model::load(gpu, &gguf, &source, &mut report)?;
        Ok(Self(Rc::new(Shared { model, tokenizer, template, gguf, source })))
    }

    fn adapter(&self, name: &str, file: &AdapterFile) -> Result<Adapter, Failure> {
        file.check_fits(self.0.model.config())?;
        let mut warning = None;
        // Reading samples of all weights is worth it only for an adapter that says something about them.
        if file.base_model.is_some() || file.base_hash.is_some() {
            let found = file.compare_base(&BaseModel::of(&self.0.gguf, &self.0.source)?);
            warning = found.is_doubtful().then(|| found.to_string());
        }
        Ok(Adapter { resident: adapter_engine::Adapter::load(&self.0.model, name, file)?, warning })
    }
}

#[wasm_bindgen]
impl Model {
    /// What the file's header says.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    #[wasm_bindgen(unchecked_return_type = "ModelInfo")]
    pub fn info(&self) -> Result<JsValue, Failure> {
        to_js(&describe(&self.0.gguf, &self.0.source)?)
    }

    /// Tensors with scales that are not finite: such a file computes nonsense.
    #[wasm_bindgen(js_name = damagedTensors)]
    #[must_use]
    pub fn damaged_tensors(&self) -> Vec<String> {
        self.0.model.damaged_tensors().iter().map(|(name, count)| format!("{name} ({count})")).collect()
    }

    /// Ids of a text. Control tokens in it are read as such only with `parseSpecial`.
    ///
    /// # Errors
    /// A text that is too long.
    pub fn encode(
        &self,
        text: &str,
        #[wasm_bindgen(js_name = parseSpecial)] parse_special: bool,
    ) -> Result<Vec<u32>, Failure> {
        let special = if parse_special { Special::Parse } else { Special::AsText };
        Ok(self.0.tokenizer.encode(text, special)?)
    }

    /// The chat template in use, Jinja.
    #[wasm_bindgen(getter, js_name = chatTemplate)]
    #[must_use]
    pub fn chat_template(&self) -> String {
        self.0.template.source().to_owned()
    }

    /// An empty conversation with at most `context` positions.
    ///
    /// # Errors
    /// Too little memory.
    pub fn chat(&self, context: Option<u32>) -> Result<Chat, Failure> {
        let session = Session::new(&self.0.model, &chat_options(context.unwrap_or(DEFAULT_CONTEXT)))?;
        Ok(Chat::new(Rc::clone(&self.0), session))
    }

    /// Bytes on the GPU for weights and a conversation that fills `context` positions.
    ///
    /// # Errors
    /// None for a model that is loaded.
    #[wasm_bindgen(js_name = memoryBytes)]
    pub fn memory_bytes(&self, context: u32) -> Result<f64, Failure> {
        let (config, tier) = (self.0.model.config(), self.0.model.gpu().tier());
        Ok(session::memory(&self.0.gguf, config, tier, &chat_options(context), context)?.total() as f64)
    }

    /// Runs one token and one chunk through the model, so that its shaders are compiled before anybody waits for them.
    ///
    /// # Errors
    /// A lost GPU or too little memory.
    #[wasm_bindgen(js_name = warmUp)]
    pub async fn warm_up(&self) -> Result<(), Failure> {
        let shared = Rc::clone(&self.0);
        let options =
            SessionOptions { context: Some(32), prefill_chunk: Some(WARM_UP_TOKENS), ..SessionOptions::default() };
        let mut session = Session::new(&shared.model, &options)?;
        for n_tokens in [1, WARM_UP_TOKENS as usize] {
            session.logits(&vec![0; n_tokens], Rows::Last).await?;
        }
        Ok(())
    }

    /// An adapter from a safetensors file, ours or a bare one (then `kind` says what its gates mean), or, with `config`,
    /// from the two files of a PEFT folder.
    ///
    /// # Errors
    /// No adapter, one of another model, one whose gates are not explained.
    #[wasm_bindgen(js_name = adapterFromSafetensors)]
    pub fn adapter_from_safetensors(
        &self,
        name: &str,
        weights: &[u8],
        config: Option<Vec<u8>>,
        kind: Option<String>,
    ) -> Result<Adapter, Failure> {
        let unknown = |kind: &str| Failure::new("bad-request", format!("there are no gates {kind:?}"), "");
        let kind = kind.map(|kind| GateKind::from_name(&kind).ok_or_else(|| unknown(&kind))).transpose()?;
        let file = match config {
            Some(config) => AdapterFile::from_peft(&config, weights)?,
            None => AdapterFile::from_safetensors(weights, kind)?,
        };
        self.adapter(name, &file)
    }

    /// The adapter in a GGUF file.
    ///
    /// # Errors
    /// A file without one, or one of another model.
    #[wasm_bindgen(js_name = adapterFromGguf)]
    pub fn adapter_from_gguf(&self, file: Blob) -> Result<Adapter, Failure> {
        let source = BlobSource::new(file)?;
        let gguf = Gguf::read(&source)?;
        let (name, file) = AdapterFile::required_from_gguf(&gguf, &source)?;
        self.adapter(&name, &file)
    }

    /// The adapter inside the model's own file, if there is one.
    ///
    /// # Errors
    /// A damaged one.
    #[wasm_bindgen(js_name = adapterInside)]
    pub fn adapter_inside(&self) -> Result<Option<Adapter>, Failure> {
        let found = AdapterFile::from_gguf(&self.0.gguf, &self.0.source)?;
        found.map(|(name, file)| self.adapter(&name, &file)).transpose()
    }
}

/// How a chat's conversation is made.
fn chat_options(context: u32) -> SessionOptions {
    // The same chat with and without its adapter.
    SessionOptions { context: Some(context), cached_conversations: 1, ..SessionOptions::default() }
}

/// What the header of a model says.
pub fn describe(gguf: &Gguf, source: &BlobSource) -> Result<ModelInfo, Failure> {
    let config = Config::from_gguf(gguf, source)?;
    let default_context = DEFAULT_CONTEXT.min(config.n_context);
    let memory = session::memory(gguf, &config, Tier::default(), &chat_options(default_context), default_context)?;
    let licence = gguf.metadata.optional::<&str>("general.license")?.map(str::to_owned);
    let adapter = AdapterFile::from_gguf(gguf, source)?.map(|(name, _)| name);
    Ok(ModelInfo {
        quantization: gguf.main_type(),
        licence,
        file_bytes: gguf.file_bytes,
        parameters: gguf.n_parameters(),
        layers: config.n_layers,
        channels: config.n_channels,
        heads: config.n_heads,
        vocabulary: config.n_vocab,
        context: config.n_context,
        memory_bytes: memory.total(),
        default_context,
        adapter,
        name: config.name,
    })
}
