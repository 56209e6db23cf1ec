//! LLaMA-Adapter in a window: chat, adapters side by side, and teaching them. [`App`] is state and user interface; the engine works
//! on a thread of its own ([`worker`]); `main.rs` is the shell around both.

mod answering;
mod app;
pub mod chat;
mod chat_ui;
mod compare_ui;
pub mod dialogs;
pub mod diff;
mod events;
pub mod history;
pub mod links;
mod loading;
mod look;
pub mod markdown;
mod models_ui;
mod notices;
mod overlays_ui;
pub mod screenshot;
pub mod settings;
mod settings_ui;
mod sidebar_ui;
mod teach_ui;
pub mod words;
pub mod worker;

pub use app::{App, Loading, ModelState, Start, View};
pub use compare_ui::Compare;
pub use teach_ui::{Phase, Teach};
