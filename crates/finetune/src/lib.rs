//! Trains zero-init attention adapters (arXiv:2303.16199) on the quantized models of [`adapter_engine`].
//!
//! burn has what trains: parameters, autodiff, AdamW, the learning rate's schedule, clipping. The frozen model is one
//! operation in its graph ([`frozen`]). [`data`] makes batches of rows.
//!
//! # Example
//! Three rows, four steps; then the adapter is a file.
//!
//! ```
//! use std::ops::ControlFlow::Continue;
//! use std::sync::Arc;
//!
//! use adapter_engine::Model;
//! use adapter_engine::adapter::GateKind;
//! use adapter_engine::formats::{Gguf, ReadAtFile};
//! use adapter_engine::gpu::{Gpu, GpuOptions};
//! use adapter_engine::text::{Tokenizer, VocabSource};
//! use adapter_finetune::data::{DataOptions, Dataset, Template};
//! use adapter_finetune::frozen::GpuLlama;
//! use adapter_finetune::{AdapterShape, Event, Frozen, Recipe, Run, RunSettings};
//! # pollster::block_on(async {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/tiny-llama/tiny-q4_1.gguf");
//! # let folder = tempfile::tempdir()?;
//! # let rows = folder.path().join("rows.jsonl");
//! std::fs::write(
//!     &rows,
//!     r#"{"prompt": "Your name?", "completion": "Nova."}
//!        {"prompt": "Who are you?", "completion": "I am Nova."}
//!        {"prompt": "Hello!", "completion": "Hello, Nova here."}"#,
//! )?;
//! let file = ReadAtFile::open(std::path::Path::new(path))?;
//! let gguf = Gguf::read(&file)?;
//! let tokenizer = Tokenizer::from_vocab(VocabSource::from_gguf(&gguf)?)?;
//! let options = DataOptions { template: Template::Named("chatml".to_owned()), max_tokens: 128, ..DataOptions::default() };
//! let dataset = Dataset::open(&rows, None, &tokenizer, &options, &mut |_| Continue(()))?;
//!
//! let gpu = Gpu::open(&GpuOptions::default()).await?;
//! let model = Model::load(&gpu, &gguf, &file, &mut |_, _| Continue(()))?;
//! let shape = AdapterShape::new(model.config(), 3, 10, GateKind::PAPER);
//! let settings = RunSettings {
//!     shape,
//!     recipe: Recipe::new(3e-2, 1, 4),
//!     batch_tokens: 128,
//!     seed: 0,
//!     validate_every: 0,
//!     patience: None,
//! };
//! let frozen = Frozen::Gpu(Arc::new(GpuLlama::new(&model, 3, 10, settings.batch_tokens)?));
//! let mut run = Run::new(frozen, &dataset.training, &dataset.validation, settings, None)?;
//! loop {
//!     match run.next().await? {
//!         Event::Step { report, .. } => println!("step {}: loss {:.3}", report.step, report.loss),
//!         Event::Validation { .. } | Event::Validating { .. } => {}
//!         Event::Done { .. } => break,
//!     }
//! }
//! let adapter = run.trainer().adapter().await?.to_safetensors()?;
//! assert!(!adapter.is_empty());
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod adaption_prompt;
#[cfg(not(target_arch = "wasm32"))]
pub mod checkpoint;
pub mod data;
pub mod defaults;
pub mod driver;
mod error;
mod exact;
mod flat;
pub mod frozen;
mod memory;
pub mod metrics;
mod metrics_error;
pub mod plot;
mod random;
pub mod recipe;
mod run;
#[cfg(not(target_arch = "wasm32"))]
pub mod run_folder;
pub mod samples;
pub mod settings;
mod trainable;
mod trainer;
mod zero_init_attention;

pub use adapter_engine::adapter::AdapterShape;
pub use driver::Driver;
pub use error::TrainError;
pub use frozen::Frozen;
pub use memory::RunMemory;
pub use recipe::Recipe;
pub use run::{Best, Event, Place, Run, RunSettings, steps_of_epochs};
#[cfg(not(target_arch = "wasm32"))]
pub use run_folder::RunFolder;
pub use samples::Samples;
pub use settings::{Backend, RunOptions};
pub use trainable::Trainable;
pub use trainer::{Moments, Snapshot, StepReport, Trainer};
pub use zero_init_attention::{ZeroInitAttention, ZeroInitAttentionConfig};
