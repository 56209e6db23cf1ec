//! The system's dialogs for files, on a thread of their own: a window that waits for one would not draw.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use eframe::egui::Context;

/// What a file is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// A model to load.
    Model,
    /// An adapter that is one file.
    AdapterFile,
    /// A PEFT folder, or the folder of a run.
    AdapterFolder,
    /// Rows to learn.
    Rows,
    /// Chats to bring in.
    Import,
    /// Where to write chats; the text, and the name that is offered.
    Export {
        /// What is written.
        text: String,
        /// The name that is offered.
        name: String,
    },
}

/// Asks the user; `None`: nothing was chosen.
pub type Ask = Arc<dyn Fn(&Pick) -> Option<PathBuf> + Send + Sync>;

/// Dialogs that are open, and their answers.
pub struct Dialogs {
    ask: Ask,
    sender: Sender<(Pick, PathBuf)>,
    answers: Receiver<(Pick, PathBuf)>,
}

impl Dialogs {
    /// Dialogs by `ask`.
    #[must_use]
    pub fn new(ask: Ask) -> Self {
        let (sender, answers) = channel();
        Self { ask, sender, answers }
    }

    /// Opens a dialog.
    pub fn open(&self, ctx: &Context, pick: Pick) {
        let (ask, sender, ctx) = (Arc::clone(&self.ask), self.sender.clone(), ctx.clone());
        let work = move || {
            if let Some(path) = ask(&pick) {
                let _ = sender.send((pick, path));
                ctx.request_repaint();
            }
        };
        // macOS shows dialogs from the main thread only.
        if cfg!(target_os = "macos") {
            work();
        } else {
            // Without a thread there is no dialog; a path can still be typed.
            let _ = std::thread::Builder::new().name("dialog".to_owned()).spawn(work);
        }
    }

    /// The next answer.
    #[must_use]
    pub fn next(&self) -> Option<(Pick, PathBuf)> {
        self.answers.try_recv().ok()
    }
}

/// The system's own dialogs.
#[must_use]
pub fn system() -> Ask {
    Arc::new(|pick| {
        let dialog = rfd::FileDialog::new();
        match pick {
            Pick::Model => dialog.set_title("Open a model").add_filter("GGUF models", &["gguf"]).pick_file(),
            Pick::AdapterFile => dialog
                .set_title("Add an adapter")
                .add_filter("Adapters", &["safetensors", "gguf", "pth", "pt", "ckpt"])
                .pick_file(),
            Pick::AdapterFolder => dialog.set_title("Add an adapter's folder").pick_folder(),
            Pick::Rows => dialog.set_title("Choose rows to learn").add_filter("Rows", &["json", "jsonl"]).pick_file(),
            Pick::Import => dialog.set_title("Import chats").add_filter("Chats", &["json", "jsonl"]).pick_file(),
            Pick::Export { name, .. } => dialog.set_title("Export").set_file_name(name).save_file(),
        }
    })
}
