//! Everything the window knows, but for what one view alone remembers. What happens to it stands in `answering.rs`, `loading.rs`,
//! `events.rs` and `action.rs`; views only read it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use adapter_engine::adapter::GateKind;
use adapter_engine::gpu::GpuOptions;
use adapter_host::Problem;
use eframe::egui::Context;

use crate::answer_state::Answering;
use crate::chat::Chat;
use crate::compare::Compare;
use crate::dialogs::{Ask as AskFile, Dialogs};
use crate::history::History;
use crate::notices::Notices;
use crate::offer::{Fetching, Offer};
use crate::settings::Settings;
use crate::teach::Teach;
use adapter_host::ModelCard;
use adapter_host::worker::{AdapterKey, LoadStage, LoadedAdapter, LoadedModel, Stop, Worker};

/// Frames whose times are kept.
const FRAMES: usize = 512;

/// The views there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Talk.
    Chat,
    /// The model and an adapter side by side.
    Compare,
    /// Teach an adapter.
    Teach,
    /// Models and adapters.
    Models,
    /// Everything that can be set.
    Settings,
}

impl View {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Chat, "Chat"),
        (Self::Compare, "Compare"),
        (Self::Teach, "Teach"),
        (Self::Models, "Models"),
        (Self::Settings, "Settings"),
    ];
}

/// The model, as far as there is one.
#[derive(Debug)]
pub enum ModelState {
    /// None yet.
    None,
    /// On its way.
    Loading(Loading),
    /// It can answer.
    Ready(Box<LoadedModel>),
    /// The GPU was lost, or the engine stopped: it has to be loaded again.
    Lost(Box<LoadedModel>),
}

/// A model on its way.
#[derive(Debug)]
pub struct Loading {
    /// Its file.
    pub path: PathBuf,
    /// What is being done.
    pub stage: LoadStage,
    /// Bytes done and in all.
    pub progress: (u64, u64),
    /// Since when.
    pub since: Instant,
    /// Breaks it off.
    pub stop: Stop,
}

/// What is asked before it is done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Question {
    DeleteChat(String),
    DeleteAllChats,
    /// Whether the model on offer is to be fetched.
    Fetch,
    Rename {
        chat: String,
        title: String,
    },
    /// What the gates of this adapter mean.
    Gates(PathBuf, Option<GateKind>),
}

/// What a file is that hovers over the window or is dropped on it, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    Model,
    /// A file or a folder.
    Adapter,
    /// Chats or rows.
    Json,
    Unknown,
}

impl Dropped {
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            _ if path.is_dir() => Self::Adapter,
            Some("gguf") => Self::Model,
            Some("safetensors" | "pth" | "pt" | "ckpt" | "bin") => Self::Adapter,
            Some("json" | "jsonl") => Self::Json,
            _ => Self::Unknown,
        }
    }

    /// What dropping it would do.
    pub fn words(self) -> &'static str {
        match self {
            Self::Model => "Load this model",
            Self::Adapter => "Add this adapter",
            Self::Json => "Import its chats, or teach its rows",
            Self::Unknown => "This cannot be opened here",
        }
    }
}

/// A model file and what its header says.
pub(crate) type ReadCard = (PathBuf, Result<ModelCard, Problem>);

/// How the window begins.
#[derive(Default)]
pub struct Start {
    /// Where chats and settings lie; `None`: nothing is kept.
    pub folder: Option<PathBuf>,
    /// A model to load at once.
    pub model: Option<PathBuf>,
    /// A question to ask as soon as there is a model.
    pub ask: Option<String>,
    /// How the GPU is opened.
    pub gpu: GpuOptions,
    /// What a first start offers to fetch; `None`: the small model.
    pub offer: Option<Offer>,
    /// How files are chosen; `None`: by the system's dialogs.
    pub dialogs: Option<AskFile>,
}

/// What the window knows.
pub struct State {
    pub(crate) settings: Settings,
    written: Settings,
    pub(crate) history: Option<History>,
    pub(crate) chats: Vec<Chat>,
    /// Id of the chat that is open; it is always in `chats`.
    pub(crate) open: String,
    pub(crate) view: View,
    pub(crate) model: ModelState,
    pub(crate) adapters: Vec<LoadedAdapter>,
    pub(crate) active: Option<AdapterKey>,
    pub(crate) adapter_on: bool,
    pub(crate) strength: f32,
    pub(crate) cards: HashMap<PathBuf, Result<ModelCard, Problem>>,
    pub(crate) reading: Vec<PathBuf>,
    pub(crate) read: (Sender<ReadCard>, Receiver<ReadCard>),
    /// The box to write in is to get the keys.
    pub(crate) focus_draft: bool,
    pub(crate) answering: Option<Answering>,
    /// Ids of the answers of this sitting, by message: what goes on behind them joins without a seam.
    pub(crate) answered_ids: HashMap<String, Vec<u32>>,
    /// Tokens of the open conversation, as far as known.
    pub(crate) used: u32,
    pub(crate) counts: u64,
    pub(crate) asks: u64,
    pub(crate) compare: Compare,
    pub(crate) teach: Teach,
    pub(crate) notices: Notices,
    pub(crate) question: Option<Question>,
    pub(crate) dialogs: Dialogs,
    pub(crate) worker: Worker,
    pub(crate) offer: Offer,
    pub(crate) fetching: Option<Fetching>,
    pub(crate) gpu: GpuOptions,
    pub(crate) ctx: Context,
    pub(crate) ask_when_ready: Option<String>,
    frames: Vec<f32>,
}

impl State {
    /// Chats and settings of the folder, and the engine's thread, which wakes `ctx`.
    ///
    /// # Errors
    /// A system that gives no thread.
    pub fn new(ctx: &Context, start: Start) -> std::io::Result<Self> {
        let mut notices = Notices::default();
        let history = start.folder.as_deref().and_then(|folder| match History::open(folder) {
            Ok(history) => Some(history),
            Err(problem) => {
                notices.fail(&problem);
                notices
                    .warn("Chats are not kept", "They last until the window is closed; export what you want to keep.");
                None
            }
        });
        let mut settings = Settings::default();
        let mut chats = Vec::new();
        if let Some(history) = &history {
            match history.load_settings() {
                Ok(kept) => settings = kept,
                Err(problem) => notices.fail(&problem),
            }
            let (kept, problems) = history.load();
            chats = kept;
            problems.iter().for_each(|problem| notices.fail(problem));
        }
        let open = settings.chat.clone().filter(|id| chats.iter().any(|chat| chat.id == *id));
        let open = open.unwrap_or_else(|| {
            let chat = Chat::default();
            let id = chat.id.clone();
            chats.insert(0, chat);
            id
        });
        let worker = Self::start_worker(ctx, &start.gpu)?;
        let mut state = Self {
            written: settings.clone(),
            settings,
            teach: Teach::new(history.as_ref().map(History::folder)),
            history,
            chats,
            open,
            view: View::Chat,
            model: ModelState::None,
            adapters: Vec::new(),
            active: None,
            adapter_on: true,
            strength: 1.0,
            cards: HashMap::new(),
            reading: Vec::new(),
            read: channel(),
            focus_draft: true,
            answering: None,
            answered_ids: HashMap::new(),
            used: 0,
            counts: 0,
            asks: 0,
            compare: Compare::default(),
            notices,
            question: None,
            dialogs: Dialogs::new(start.dialogs.unwrap_or_else(crate::dialogs::system)),
            worker,
            offer: start.offer.unwrap_or_default(),
            fetching: None,
            gpu: start.gpu,
            ctx: ctx.clone(),
            ask_when_ready: start.ask,
            frames: Vec::new(),
        };
        // The model of the last time comes back by itself: that is what people sit down for.
        let last = state.settings.recent.first().filter(|path| path.is_file()).cloned();
        if let Some(path) = start.model.or(last) {
            state.load(&path);
        }
        Ok(state)
    }

    pub(crate) fn start_worker(ctx: &Context, options: &GpuOptions) -> std::io::Result<Worker> {
        let ctx = ctx.clone();
        Worker::start(options.clone(), move || ctx.request_repaint())
    }

    /// Keeps the time of a frame.
    pub(crate) fn frame(&mut self, seconds: f32) {
        if self.frames.len() >= FRAMES {
            self.frames.remove(0);
        }
        self.frames.push(seconds * 1000.0);
    }

    /// The model's state.
    #[doc(hidden)]
    #[must_use]
    pub fn model_state(&self) -> &ModelState {
        &self.model
    }

    /// The chat that is open.
    #[must_use]
    pub fn chat(&self) -> &Chat {
        // `open` names a chat of the list: every way to change either keeps it so.
        self.chats.iter().find(|chat| chat.id == self.open).unwrap_or(&self.chats[0])
    }

    /// Whether an answer is on its way.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        self.answering.is_some()
    }

    /// Whether headers of model files are being read in the background.
    #[doc(hidden)]
    #[must_use]
    pub fn is_reading(&self) -> bool {
        !self.reading.is_empty()
    }

    /// Whether a comparison is on its way.
    #[doc(hidden)]
    #[must_use]
    pub fn is_comparing(&self) -> bool {
        self.compare.is_running()
    }

    /// How the training goes.
    #[doc(hidden)]
    #[must_use]
    pub fn teach(&self) -> &Teach {
        &self.teach
    }

    /// The training, for tests that have little time.
    #[doc(hidden)]
    pub fn teach_mut(&mut self) -> &mut Teach {
        &mut self.teach
    }

    /// What was told last.
    #[doc(hidden)]
    #[must_use]
    pub fn newest_notice(&self) -> Option<String> {
        self.notices.newest()
    }

    /// Everything on disk.
    #[doc(hidden)]
    pub fn flush(&mut self) {
        self.write_settings();
        if let Some(history) = &self.history {
            history.flush();
        }
    }

    /// The settings.
    #[doc(hidden)]
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sets what answers are chosen by.
    #[doc(hidden)]
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Tokens of the open conversation.
    #[doc(hidden)]
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used
    }

    /// The engine.
    #[doc(hidden)]
    #[must_use]
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Milliseconds of the last frames, as eframe counts them: from the input to the paint commands.
    #[doc(hidden)]
    #[must_use]
    pub fn frame_times(&self) -> &[f32] {
        &self.frames
    }

    /// Both answers of the comparison.
    #[doc(hidden)]
    #[must_use]
    pub fn compare(&self) -> &Compare {
        &self.compare
    }

    /// Writes the settings, where one has changed.
    pub(crate) fn write_settings(&mut self) {
        if self.settings != self.written
            && let Some(history) = &self.history
        {
            history.save_settings(&self.settings);
            self.written = self.settings.clone();
        }
    }
}
