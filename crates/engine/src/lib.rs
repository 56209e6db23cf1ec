//! Quantized LLaMA with zero-init attention adapters (arXiv:2303.16199) in hand-written WGSL: one engine for native
//! programs and for the browser.
//!
//! The engine has no file system, network, clock, threads or user interface: it reads models through
//! [`formats::ReadAt`] and computes on a [`gpu::Gpu`].
//!
//! # Example
//! A file, a GPU, a conversation, tokens:
//!
//! ```
//! use std::ops::ControlFlow::Continue;
//!
//! use adapter_engine::formats::{Gguf, ReadAtFile};
//! use adapter_engine::gpu::{Gpu, GpuOptions};
//! use adapter_engine::session::SessionOptions;
//! use adapter_engine::text::{Special, Tokenizer, VocabSource};
//! use adapter_engine::{Model, Sampling, Session};
//! # pollster::block_on(async {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/tiny-llama/tiny-q4_1.gguf");
//!
//! let file = ReadAtFile::open(std::path::Path::new(path))?;
//! let gguf = Gguf::read(&file)?;
//! let tokenizer = Tokenizer::from_vocab(VocabSource::from_gguf(&gguf)?)?;
//! let gpu = Gpu::open(&GpuOptions::default()).await?;
//! let model = Model::load(&gpu, &gguf, &file, &mut |_, _| Continue(()))?;
//!
//! let mut session = Session::new(&model, &SessionOptions::default())?;
//! let prompt = tokenizer.encode("Once upon a time", Special::AsText)?;
//! let mut answer = session.generate(&prompt, &Sampling::greedy(), &mut |_, _| Continue(())).await?;
//! let mut ids = Vec::new();
//! while ids.len() < 8 {
//!     let Some(id) = answer.next().await? else { break };
//!     ids.push(id);
//! }
//! assert_eq!(ids.len(), 8);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

pub mod adapter;
pub mod answer;
pub mod check;
pub mod encoder;
mod error;
pub mod formats;
pub mod gpu;
pub mod model;
pub mod ops;
pub mod sampler;
pub mod session;
pub mod text;
pub mod train;

pub use adapter::Adapter;
pub use encoder::Encoder;
pub use error::Error;
pub use model::Model;
pub use sampler::Sampling;
pub use session::Session;
