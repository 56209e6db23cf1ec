//! The state of the window, what the engine's events do to it, and the frame around the views.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use adapter_engine::gpu::GpuOptions;
use adapter_host::{Problem, file_name};
use eframe::egui::{self, CentralPanel, Context, Key, KeyboardShortcut, Modifiers, Panel, Ui};

use crate::answering::Answering;
use crate::chat::{self, Chat};
use crate::chat_ui::Editing;
use crate::compare_ui::Compare;
use crate::dialogs::{Ask as AskFile, Dialogs};
use crate::history::History;
use crate::links;
use crate::markdown::Markdown;
use crate::notices::Notices;
use crate::settings::Settings;
use crate::teach_ui::Teach;
use crate::words::Remedy;
use crate::worker::{AdapterKey, LoadStage, LoadedAdapter, LoadedModel, Stop, Worker};
use adapter_host::ModelCard;

/// Frames whose times are kept.
const FRAMES: usize = 512;
/// How long a window keeps its size before that is remembered.
const RESTS: Duration = Duration::from_millis(500);

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
    Rename {
        chat: String,
        title: String,
    },
    /// What the gates of this adapter mean.
    Gates(PathBuf),
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
    /// How files are chosen; `None`: by the system's dialogs.
    pub dialogs: Option<AskFile>,
}

/// The window.
pub struct App {
    pub(crate) settings: Settings,
    pub(crate) written: Settings,
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
    pub(crate) typed_path: String,
    pub(crate) draft: String,
    pub(crate) focus_draft: bool,
    pub(crate) focus_search: bool,
    pub(crate) search: String,
    pub(crate) editing: Option<Editing>,
    pub(crate) answering: Option<Answering>,
    /// Ids of the answers of this sitting, by message: what goes on behind them joins without a seam.
    pub(crate) said: HashMap<String, Vec<u32>>,
    /// Tokens of the open conversation, as far as known.
    pub(crate) used: u32,
    pub(crate) counts: u64,
    pub(crate) asks: u64,
    pub(crate) compare: Compare,
    pub(crate) teach: Teach,
    pub(crate) markdown: Markdown,
    pub(crate) heights: HashMap<String, (f32, usize, f32)>,
    pub(crate) notices: Notices,
    pub(crate) question: Option<Question>,
    pub(crate) link: Option<links::Asked>,
    pub(crate) shortcuts_open: bool,
    pub(crate) preset_name: String,
    pub(crate) dialogs: Dialogs,
    pub(crate) worker: Worker,
    pub(crate) gpu: GpuOptions,
    pub(crate) ctx: Context,
    pub(crate) ask_when_ready: Option<String>,
    pub(crate) frames: Vec<f32>,
    /// A size of the window that is not remembered yet, and since when it has it.
    pub(crate) resized: Option<([f32; 2], Instant)>,
}

impl App {
    /// The window's state; `ctx` is woken by the engine.
    ///
    /// # Errors
    /// A system that gives no thread.
    pub fn new(ctx: &Context, start: Start) -> std::io::Result<Self> {
        crate::look::apply(ctx);
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
        ctx.set_theme(settings.theme.preference());
        ctx.set_zoom_factor(settings.zoom.clamp(0.5, 3.0));
        let worker = Self::start_worker(ctx, &start.gpu)?;
        let mut app = Self {
            written: settings.clone(),
            settings,
            teach: Teach::new(history.as_ref().map(History::adapters)),
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
            typed_path: String::new(),
            draft: String::new(),
            focus_draft: true,
            focus_search: false,
            search: String::new(),
            editing: None,
            answering: None,
            said: HashMap::new(),
            used: 0,
            counts: 0,
            asks: 0,
            compare: Compare::default(),
            markdown: Markdown::default(),
            heights: HashMap::new(),
            notices,
            question: None,
            link: None,
            shortcuts_open: false,
            preset_name: String::new(),
            dialogs: Dialogs::new(start.dialogs.unwrap_or_else(crate::dialogs::system)),
            worker,
            gpu: start.gpu,
            ctx: ctx.clone(),
            ask_when_ready: start.ask,
            frames: Vec::new(),
            resized: None,
        };
        // The model of the last time comes back by itself: that is what people sit down for.
        let last = app.settings.recent.first().filter(|path| path.is_file()).cloned();
        if let Some(path) = start.model.or(last) {
            app.load(&path);
        }
        Ok(app)
    }

    pub(crate) fn start_worker(ctx: &Context, options: &GpuOptions) -> std::io::Result<Worker> {
        let ctx = ctx.clone();
        Worker::start(options.clone(), move || ctx.request_repaint())
    }

    // What tests look at.

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

    /// The link that is being asked about.
    #[doc(hidden)]
    #[must_use]
    pub fn asked_link(&self) -> Option<&str> {
        self.link.as_ref().map(|asked| asked.url.as_str())
    }

    fn dropped(&mut self, path: &Path) {
        match Dropped::of(path) {
            Dropped::Model => self.load(path),
            Dropped::Adapter if self.ready().is_some() => self.add_adapter(path, None),
            Dropped::Adapter => self.refuse(),
            Dropped::Json => {
                let chats = self.view != View::Teach
                    && std::fs::read_to_string(path).is_ok_and(|text| chat::import(&text).is_ok());
                if chats { self.import(path) } else { self.choose_rows(path) }
            }
            Dropped::Unknown => self.notices.fail(&Problem::new(
                format!("this cannot be opened here: {}", file_name(path)),
                "drop a .gguf model, a .safetensors adapter, a PEFT folder, rows or exported chats",
            )),
        }
    }

    fn keys(&mut self, ctx: &Context) {
        let pressed =
            |modifiers, key| ctx.input_mut(|input| input.consume_shortcut(&KeyboardShortcut::new(modifiers, key)));
        // Escape closes what is on top, then stops the answer. Popups and dialogs take theirs first.
        if !egui::Popup::is_any_open(ctx)
            && self.question.is_none()
            && self.link.is_none()
            && ctx.input(|input| input.key_pressed(Key::Escape))
        {
            if self.answering.is_some() || self.compare.is_running() {
                self.stop();
                self.compare.stop();
            } else if self.editing.take().is_none() {
                self.notices.close_newest();
            }
        }
        if !self.settings.shortcuts {
            return;
        }
        let command = Modifiers::COMMAND;
        if pressed(command, Key::N) {
            self.new_chat();
        }
        if pressed(command, Key::L) {
            self.view = View::Models;
        }
        if pressed(command, Key::K) {
            self.settings.sidebar = true;
            self.focus_search = true;
        }
        if pressed(command, Key::B) {
            self.settings.sidebar = !self.settings.sidebar;
        }
        if pressed(command, Key::R) && self.view == View::Chat {
            self.again_last();
        }
        if pressed(command, Key::Comma) {
            self.view = View::Settings;
        }
        if pressed(command, Key::Slash) {
            self.shortcuts_open = !self.shortcuts_open;
        }
        if pressed(command, Key::J) {
            self.notices.log_open = !self.notices.log_open;
        }
    }

    /// Remembers the window's size once it rests: while somebody pulls at its edge, every frame has another one.
    fn remember_size(&mut self, ctx: &Context) {
        let filled = ctx.input(|input| {
            let viewport = input.viewport();
            [viewport.maximized, viewport.fullscreen, viewport.minimized].contains(&Some(true))
        });
        let size = (ctx.viewport_rect().size() * ctx.zoom_factor()).round();
        let size = [size.x, size.y];
        if filled || self.settings.window == Some(size) {
            self.resized = None;
            return;
        }
        match self.resized {
            Some((resting, since)) if resting == size => match RESTS.checked_sub(since.elapsed()) {
                Some(left) => ctx.request_repaint_after(left),
                None => (self.settings.window, self.resized) = (Some(size), None),
            },
            _ => {
                self.resized = Some((size, Instant::now()));
                ctx.request_repaint_after(RESTS);
            }
        }
    }

    fn remedy(&mut self, remedy: Remedy) {
        match remedy {
            Remedy::Reload => self.reload(),
            Remedy::ChooseModel => self.view = View::Models,
            Remedy::OpenSettings => self.view = View::Settings,
            Remedy::NewChat => self.new_chat(),
        }
    }

    fn write_settings(&mut self) {
        if self.settings != self.written
            && let Some(history) = &self.history
        {
            history.save_settings(&self.settings);
            self.written = self.settings.clone();
        }
    }

    fn top_bar(&mut self, ui: &mut Ui) {
        ui.horizontal(|ui| {
            for (view, name) in View::ALL {
                if ui.selectable_label(self.view == view, name).clicked() {
                    self.view = view;
                }
            }
            ui.separator();
            self.model_bar(ui);
        });
    }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &Context, frame: &mut eframe::Frame) {
        if let Some(seconds) = frame.info().cpu_usage {
            if self.frames.len() >= FRAMES {
                self.frames.remove(0);
            }
            self.frames.push(seconds * 1000.0);
        }
        self.events();
        let dropped: Vec<PathBuf> =
            ctx.input(|input| input.raw.dropped_files.iter().map(|file| file.path().to_owned()).collect());
        for path in dropped {
            self.dropped(&path);
        }
        self.keys(ctx);
        let zoom = ctx.zoom_factor();
        if (zoom - self.settings.zoom).abs() > f32::EPSILON {
            self.settings.zoom = zoom;
        }
        self.remember_size(ctx);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        Panel::top("views").show(ui, |ui| {
            ui.add_space(4.0);
            self.top_bar(ui);
            ui.add_space(2.0);
        });
        if self.settings.sidebar {
            Panel::left("chats").default_size(266.0).size_range(180.0..=420.0).show(ui, |ui| self.sidebar_ui(ui));
        }
        match self.view {
            View::Chat => self.chat_view(ui),
            View::Compare => _ = CentralPanel::default().show(ui, |ui| self.compare_view(ui)),
            View::Teach => _ = CentralPanel::default().show(ui, |ui| self.teach_view(ui)),
            View::Models => _ = CentralPanel::default().show(ui, |ui| self.models_view(ui)),
            View::Settings => _ = CentralPanel::default().show(ui, |ui| self.settings_view(ui)),
        }
        self.dialogs_ui(&ctx);
        if let Some(remedy) = self.notices.show(&ctx) {
            self.remedy(remedy);
        }
        self.notices.log_ui(&ctx);
        self.drop_overlay(&ctx);

        // Whatever drew a link above, nothing opens by itself.
        let (asked, refused) = links::take(&ctx);
        if refused > 0 {
            self.notices
                .warn("This link is not opened", "Only http and https links can be; this one could start a program.");
        }
        if asked.is_some() {
            self.link = asked;
            ctx.request_repaint();
        } else if let Some(asked) = self.link.clone()
            && links::ask_ui(&ctx, &asked)
        {
            self.link = None;
        }
        self.write_settings();
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }

    fn on_exit(&mut self) {
        self.stop();
        self.flush();
    }
}
