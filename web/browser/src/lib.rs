//! The engine for the browser: what a page's worker calls. Everything here is translation; the engine computes. Two modules
//! are made of it: `web/wasm` for the chat, `web/teach` for training.
//!
//! A model comes in as a `Blob` that is read in slices, so the module's memory holds a few MiB of it at any time. What
//! JavaScript gets back is plain data, described by the TypeScript types in `types.rs`; errors are `Error` objects with
//! `code`, `hint` and `details` beside their message.
#![cfg(target_arch = "wasm32")]

mod answer;
mod blob;
mod engine;
mod failure;
mod model;
mod panics;
mod shared;
mod types;

pub use answer::Chat;
pub use blob::BlobSource;
pub use engine::{Engine, heap_bytes, inspect};
pub use failure::Failure;
pub use model::Model;
pub use shared::{Adapter, AdapterChoice};
pub use types::{from_js, to_js};
