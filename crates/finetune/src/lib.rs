//! Trains zero-init attention adapters (arXiv:2303.16199) on the quantized models of [`adapter_engine`].
//!
//! burn has what trains: parameters, autodiff, AdamW, the learning rate's schedule, clipping. The frozen model is one
//! operation in its graph ([`frozen`]). [`data`] makes batches of rows.

mod adaption_prompt;
#[cfg(not(target_arch = "wasm32"))]
pub mod checkpoint;
pub mod data;
mod error;
mod exact;
pub mod frozen;
pub mod metrics;
pub mod plot;
#[cfg(not(target_arch = "wasm32"))]
pub mod pth;
mod random;
pub mod recipe;
mod run;
mod trainer;
pub mod usual;
mod zero_init_attention;

pub use adaption_prompt::{AdapterShape, AdaptionPrompt};
pub use error::TrainError;
pub use frozen::Frozen;
pub use recipe::Recipe;
pub use run::{Best, Event, Place, Run, RunSettings, steps_of_epochs};
pub use trainer::{Moments, Snapshot, StepReport, Trainer};
pub use zero_init_attention::{ZeroInitAttention, ZeroInitAttentionConfig};
