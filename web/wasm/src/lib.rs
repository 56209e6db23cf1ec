//! The module of the chat: the engine for the browser and nothing else, so that it stays small. Training has a module of its
//! own (`web/teach`), which is fetched when its view is opened.
#![cfg(target_arch = "wasm32")]

pub use adapter_browser::*;
