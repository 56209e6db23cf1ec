//! The GPU of the browser.

use adapter_engine::formats::Gguf;
use adapter_engine::gpu::{Gpu, GpuOptions};
use wasm_bindgen::prelude::*;
use web_sys::Blob;

use crate::blob::BlobSource;
use crate::failure::Failure;
use crate::model::{self, Model};
use crate::types::{GpuInfo, to_js};

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

    /// Compares every kernel that `file` needs with stored answers on this GPU; returns how many there were. Compiling
    /// them takes most of the time.
    ///
    /// # Errors
    /// `wrong-numbers` with the kernel's name, or a file that is no model.
    #[wasm_bindgen(js_name = selfTest)]
    pub async fn self_test(&self, file: Blob) -> Result<usize, Failure> {
        let gguf = Gguf::read(&BlobSource::new(file)?)?;
        Ok(model::self_test(&self.0, &gguf).await?)
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

/// What the header of a model file says; nothing is loaded.
///
/// # Errors
/// A damaged file or another family of models.
#[wasm_bindgen(unchecked_return_type = "ModelInfo")]
pub fn inspect(file: Blob) -> Result<JsValue, Failure> {
    let source = BlobSource::new(file)?;
    let gguf = Gguf::read(&source)?;
    to_js(&model::describe(&gguf, &source)?)
}

/// Bytes of the module's memory: it only ever grows, so this is its high-water mark.
#[wasm_bindgen(js_name = heapBytes)]
#[must_use]
pub fn heap_bytes() -> f64 {
    let memory = wasm_bindgen::memory();
    let buffer = memory.dyn_ref::<js_sys::WebAssembly::Memory>().map(js_sys::WebAssembly::Memory::buffer);
    buffer.and_then(|buffer| buffer.dyn_into::<js_sys::ArrayBuffer>().ok()).map_or(0.0, |b| f64::from(b.byte_length()))
}
