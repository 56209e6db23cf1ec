//! The module of the Teach view: everything the chat's module has, and training on burn (`adapter-finetune`) on the same GPU.
//! It is several times the size of the chat's and is fetched only when its view is opened.
//!
//! A [`Training`] is rows, a model's header and settings: it says what a run will take before a GPU is touched, then runs.
#![cfg(target_arch = "wasm32")]

mod failure;
mod peft;
mod run;
mod settings;
mod training;
mod types;

pub use adapter_browser::*;
pub use training::Training;
