//! An adapter as the folder of Hugging Face PEFT, in a zip archive.

use std::io::{Cursor, Write as _};

use adapter_browser::Failure;
use adapter_engine::adapter::AdapterFile;
use wasm_bindgen::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::failure::OrFailure as _;
use crate::training::Training;

#[wasm_bindgen]
impl Training {
    /// The two files of a PEFT folder for an adapter of this training, in a zip archive with a folder of that name.
    ///
    /// # Errors
    /// `peft` with the reason why PEFT cannot hold it: gates that differ from head to head.
    #[wasm_bindgen(js_name = toPeft)]
    pub fn to_peft(&self, adapter: &[u8], folder: &str) -> Result<Vec<u8>, Failure> {
        let file = AdapterFile::from_safetensors(adapter, None)?;
        let (config, weights) = file.to_peft(&self.config).or_failure()?;
        // Weights are noise: nothing would compress them.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let mut write = |name: &str, bytes: &[u8]| -> zip::result::ZipResult<()> {
            archive.start_file(format!("{folder}/{name}"), options)?;
            Ok(archive.write_all(bytes)?)
        };
        write("adapter_config.json", &config)
            .and_then(|()| write("adapter_model.safetensors", &weights))
            .and_then(|()| archive.finish())
            .map(Cursor::into_inner)
            .map_err(|error| Failure::new("adapter", error.to_string(), "choose a plainer name for the adapter"))
    }
}
