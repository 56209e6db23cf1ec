//! The GPU of the browser.

use adapter_engine::check::self_test::{self, Set};
use adapter_engine::check::tuning;
use adapter_engine::formats::Gguf;
use adapter_engine::gpu::{Gpu, GpuOptions};
use wasm_bindgen::prelude::*;
use web_sys::Blob;

use crate::blob::BlobSource;
use crate::failure::Failure;
use crate::model::{Model, describe};
use crate::types::{GpuInfo, to_js};

/// Seconds that measuring may take, about.
const TUNING_SECONDS: f64 = 1.0;

/// An open GPU.
#[wasm_bindgen]
pub struct Engine(Gpu);

#[wasm_bindgen]
impl Engine {
    /// Opens the browser's GPU.
    ///
    /// # Errors
    /// `no-gpu`, `limit-too-small`, or what the driver says.
    pub async fn open() -> Result<Engine, Failure> {
        Ok(Self(Gpu::open(&GpuOptions::default()).await?))
    }

    /// What it is and can.
    ///
    /// # Errors
    /// None that is known.
    #[wasm_bindgen(unchecked_return_type = "GpuInfo")]
    pub fn gpu(&self) -> Result<JsValue, Failure> {
        let summary = self.0.summary();
        to_js(&GpuInfo {
            name: summary.name.clone(),
            tier: self.0.tier().to_string(),
            max_binding_bytes: summary.max_binding_bytes,
            max_buffer_bytes: summary.max_buffer_bytes,
            subgroups: summary.subgroup_sizes,
            features: summary.features.clone(),
        })
    }

    /// Bytes in GPU buffers that live now.
    #[wasm_bindgen(js_name = usedBytes)]
    #[must_use]
    pub fn used_bytes(&self) -> f64 {
        self.0.used_bytes() as f64
    }

    /// Measures for about a second which variants of the kernels are the fastest here, chooses them, and returns the choice as
    /// JSON for [`Self::set_tuning`]. `now` is a clock in milliseconds, such as `performance.now`.
    ///
    /// # Errors
    /// A GPU that fails.
    pub async fn tune(
        &self,
        #[wasm_bindgen(unchecked_param_type = "() => number")] now: &js_sys::Function,
    ) -> Result<String, Failure> {
        let clock = || now.call0(&JsValue::NULL).ok().and_then(|now| now.as_f64()).unwrap_or_default() / 1e3;
        let (tuning, _) = tuning::measure(&self.0, TUNING_SECONDS, &clock).await?;
        self.0.set_tuning(tuning);
        Ok(serde_json::to_string(&tuning).unwrap_or_default())
    }

    /// Chooses what [`Self::tune`] found before. False: the text is no choice, nothing is changed.
    #[wasm_bindgen(js_name = setTuning)]
    #[must_use]
    pub fn set_tuning(&self, kept: &str) -> bool {
        let found = serde_json::from_str(kept).ok();
        if let Some(tuning) = found {
            self.0.set_tuning(tuning);
        }
        found.is_some()
    }

    /// Compares every kernel that a chat with `file` needs with stored answers on this GPU; returns how many formats there were.
    /// Compiling them takes most of the time.
    ///
    /// # Errors
    /// `wrong-numbers` with the kernel's name, or a file that is no model.
    #[wasm_bindgen(js_name = selfTest)]
    pub async fn self_test(&self, file: Blob) -> Result<usize, Failure> {
        let formats = Gguf::read(&BlobSource::new(file)?)?.formats();
        self_test::require(&self.0, Set::Forward, &formats).await?;
        Ok(formats.len())
    }

    /// Streams the weights of `file` to the GPU.
    ///
    /// # Errors
    /// A damaged file, another family of models, too little memory, `cancelled`.
    pub fn load(
        &self,
        file: Blob,
        #[wasm_bindgen(unchecked_param_type = "ProgressListener")] progress: &js_sys::Function,
    ) -> Result<Model, Failure> {
        Model::load(&self.0, BlobSource::new(file)?, progress)
    }
}

impl Engine {
    /// The GPU itself, for what trains.
    #[must_use]
    pub fn engine_gpu(&self) -> &Gpu {
        &self.0
    }
}

/// What the header of a model file says; nothing is loaded.
///
/// # Errors
/// A damaged file or another family of models.
#[wasm_bindgen(unchecked_return_type = "ModelInfo")]
pub fn inspect(file: Blob) -> Result<JsValue, Failure> {
    let source = BlobSource::new(file)?;
    let gguf = Gguf::read(&source)?;
    to_js(&describe(&gguf, &source)?)
}

/// Bytes of the module's memory: it only ever grows, so this is its high-water mark.
#[wasm_bindgen(js_name = heapBytes)]
#[must_use]
pub fn heap_bytes() -> f64 {
    let memory = wasm_bindgen::memory();
    let buffer = memory.dyn_ref::<js_sys::WebAssembly::Memory>().map(js_sys::WebAssembly::Memory::buffer);
    buffer.and_then(|buffer| buffer.dyn_into::<js_sys::ArrayBuffer>().ok()).map_or(0.0, |b| f64::from(b.byte_length()))
}
