//! LLaMA-Adapter in a window: chat, adapters side by side, and teaching them. [`State`] is what the window knows; the files
//! `*_ui.rs` draw it and say what is wanted; [`App`] is the frame around them. The engine works on a thread of its own ([`adapter_host::worker`]);
//! `main.rs` is the shell around it all.

mod action;
mod answer_state;
mod answering;
mod app;
pub mod chat;
mod chat_ui;
mod compare;
mod compare_ui;
pub mod dialogs;
pub mod diff;
mod events;
mod fetching;
pub mod history;
pub mod links;
mod loading;
mod look;
pub mod markdown;
mod models_ui;
mod notices;
mod offer;
mod overlays_ui;
pub mod screenshot;
pub mod settings;
mod settings_ui;
mod sidebar_ui;
mod state;
mod teach;
mod teach_ui;
mod views;
pub mod words;

pub use app::App;
pub use compare::Compare;
pub use offer::Offer;
pub use state::{Loading, ModelState, Start, State, View};
pub use teach::{Form, Phase, Teach};
