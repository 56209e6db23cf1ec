//! The engine on a thread of its own, with a device of its own: a lost GPU does not take the window. Messages in, events out.

mod answer;
mod engine;
mod train;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::Problem;
use adapter_engine::adapter::GateKind;
use adapter_engine::answer::Finish;
use adapter_engine::gpu::{Gpu, GpuOptions};
use adapter_engine::{Sampling, text};
use serde::{Deserialize, Serialize};

use crate::ModelCard;

pub use train::{Plan, TrainEnd, TrainEvent, TrainSettings};

/// Asks for work to end soon. Clones share the wish.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends the work.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it should end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// As the engine's callbacks want it.
    pub(crate) fn flow(&self) -> std::ops::ControlFlow<()> {
        if self.is_set() { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    }
}

/// An adapter that is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdapterKey(u64);

/// Which adapter answers, and how strongly; `None`: the model alone.
pub type AdapterChoice = Option<(AdapterKey, f32)>;

/// The choice that an answer on its way follows: it may change in the middle of a sentence.
#[derive(Debug, Clone, Default)]
pub struct LiveChoice(Arc<Mutex<AdapterChoice>>);

impl LiveChoice {
    /// Begins with `choice`.
    #[must_use]
    pub fn new(choice: AdapterChoice) -> Self {
        Self(Arc::new(Mutex::new(choice)))
    }

    /// Changes it; the next token follows.
    pub fn set(&self, choice: AdapterChoice) {
        if let Ok(mut held) = self.0.lock() {
            *held = choice;
        }
    }

    /// What it is now.
    #[must_use]
    pub fn get(&self) -> AdapterChoice {
        self.0.lock().map_or(None, |held| *held)
    }
}

/// The beginning of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Begun {
    /// There is none.
    #[default]
    Nothing,
    /// As it came: bytes that are no text yet are in it.
    Ids(Vec<u32>),
    /// As it was kept.
    Text(String),
}

/// A question.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Comes back with every event of the answer.
    pub id: u64,
    /// The conversation; its last message is the question.
    pub messages: Vec<text::Message>,
    /// What was answered already: the answer goes on behind it.
    pub begun: Begun,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end an answer, beside that of the model's template.
    pub stops: Vec<String>,
    /// The most tokens.
    pub max_tokens: u32,
    /// The adapter.
    pub adapter: LiveChoice,
    /// Ends the answer; what came stays.
    pub stop: Stop,
}

/// What the engine is asked.
#[derive(Debug)]
pub enum Command {
    /// Loads a model in place of the one there is, and adapters for it.
    Load {
        /// A GGUF file.
        path: PathBuf,
        /// Positions of a conversation.
        context: u32,
        /// Adapters to load with it.
        adapters: Vec<AdapterSource>,
        /// Breaks it off.
        stop: Stop,
    },
    /// Loads an adapter beside those there are.
    AddAdapter(AdapterSource),
    /// Forgets an adapter.
    RemoveAdapter(AdapterKey),
    /// Answers.
    Ask(Ask),
    /// Counts the tokens of a conversation.
    Count {
        /// Comes back.
        ticket: u64,
        /// The conversation.
        messages: Vec<text::Message>,
    },
    /// Reads rows and says what learning them would take.
    Plan {
        /// Comes back.
        ticket: u64,
        /// What and how.
        settings: Box<TrainSettings>,
    },
    /// Trains an adapter, beside everything else.
    Train {
        /// What and how.
        settings: Box<TrainSettings>,
        /// Goes on with the run of its folder.
        resume: bool,
        /// Ends it after the step under way, with a checkpoint.
        stop: Stop,
    },
    /// Ends the thread as a bug would: the window has to survive that, and tests ask for it.
    Panic,
}

/// What is being done before a model is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadStage {
    /// The file's header and vocabulary are read.
    Header,
    /// The GPU is opened.
    Gpu,
    /// Its kernels are checked, once for each driver.
    Kernels,
    /// Weights go to the GPU.
    Weights,
    /// Adapters are loaded.
    Adapters,
}

impl LoadStage {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Header => "Reading its header",
            Self::Gpu => "Opening the GPU",
            Self::Kernels => "Checking the GPU's kernels, once for each driver",
            Self::Weights => "Streaming the weights to the GPU",
            Self::Adapters => "Loading its adapters",
        }
    }
}

/// Where an adapter comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterSource {
    /// A file or a folder.
    pub path: PathBuf,
    /// What its gates mean, where it does not say so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateKind>,
}

/// An adapter that is ready.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedAdapter {
    /// Names it in [`Command`]s.
    pub key: AdapterKey,
    /// Its name.
    pub name: String,
    /// Where it came from; `None`: from inside the model's file.
    pub source: Option<AdapterSource>,
    /// Kind and sizes in words.
    pub about: String,
}

/// A model that is ready.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedModel {
    /// What it is.
    pub card: ModelCard,
    /// Positions of a conversation.
    pub context: u32,
    /// The GPU it is on.
    pub gpu: String,
    /// Bytes in use there.
    pub gpu_bytes: u64,
    /// Seconds it took.
    pub seconds: f64,
    /// Adapters that are ready.
    pub adapters: Vec<LoadedAdapter>,
}

/// How an answer went.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of this answer.
    pub n_tokens: u32,
    /// Tokens of the whole conversation.
    pub used: u32,
    /// From the question to the first token.
    pub first_token: Option<Duration>,
    /// Tokens a second after the first.
    pub tokens_per_second: Option<f64>,
}

/// What the engine says.
#[derive(Debug)]
pub enum Event {
    /// How a load goes on.
    Loading {
        /// What is being done.
        stage: LoadStage,
        /// Bytes done; 0 of 0 where nothing is counted.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A model is ready.
    Loaded(Box<LoadedModel>),
    /// A load failed or was broken off; there is no model now.
    NotLoaded(Problem),
    /// An adapter is ready.
    AdapterAdded(LoadedAdapter),
    /// An adapter cannot be used.
    NotAdded {
        /// Which one.
        path: PathBuf,
        /// Why.
        problem: Problem,
    },
    /// How much of a prompt is read.
    Prompt {
        /// Of which answer.
        id: u64,
        /// Tokens read.
        done: usize,
        /// Tokens in all.
        total: usize,
    },
    /// More of an answer.
    Piece {
        /// Of which answer.
        id: u64,
        /// What came.
        text: String,
        /// The text is the whole answer so far, in place of what there was.
        whole: bool,
        /// What is new, as ids.
        ids: Vec<u32>,
        /// Tokens of the answer so far.
        n_tokens: u32,
        /// Tokens of the whole conversation so far.
        used: u32,
    },
    /// An answer ended.
    Answered {
        /// Which one.
        id: u64,
        /// How.
        outcome: Result<Answered, Problem>,
    },
    /// Tokens of a conversation.
    Counted {
        /// Of [`Command::Count`].
        ticket: u64,
        /// How many.
        tokens: u32,
    },
    /// Something to be told.
    Warning(String),
    /// What learning would take.
    Planned {
        /// Of [`Command::Plan`].
        ticket: u64,
        /// What it takes, or why it cannot be.
        outcome: Result<Box<Plan>, Problem>,
    },
    /// How a training goes on.
    Train(TrainEvent),
}

/// Sends events and wakes the window.
#[derive(Clone)]
pub(crate) struct Events {
    sender: Sender<Event>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Events {
    pub(crate) fn send(&self, event: Event) {
        // A window that is gone needs no events.
        let _ = self.sender.send(event);
        (self.wake)();
    }
}

/// The engine's thread.
pub struct Worker {
    commands: Sender<Command>,
    events: Receiver<Event>,
    gpu: Arc<Mutex<Option<Gpu>>>,
    quit: Stop,
}

impl Worker {
    /// Starts the thread; `wake` is called whenever there is an event.
    ///
    /// # Errors
    /// A system that gives no thread.
    pub fn start(options: GpuOptions, wake: impl Fn() + Send + Sync + 'static) -> std::io::Result<Self> {
        let (commands, queue) = channel();
        let (sender, events) = channel();
        let (gpu, quit) = (Arc::new(Mutex::new(None)), Stop::default());
        let events_out = Events { sender, wake: Arc::new(wake) };
        let (held, ends) = (Arc::clone(&gpu), quit.clone());
        std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            // Whatever way the thread ends, the window has to look.
            let _last = WakeLast(Arc::clone(&events_out.wake));
            engine::Engine::new(options, events_out, held, ends).run(&queue);
        })?;
        Ok(Self { commands, events, gpu, quit })
    }

    /// Asks for something. False: the thread is gone.
    pub fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// The next event, if there is one.
    ///
    /// # Errors
    /// The thread is gone, by a bug.
    pub fn next(&self) -> Result<Option<Event>, Gone> {
        match self.events.try_recv() {
            Ok(event) => Ok(Some(event)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Gone),
        }
    }

    /// The GPU in use, for tests that take it away.
    #[doc(hidden)]
    #[must_use]
    pub fn gpu(&self) -> Option<Gpu> {
        self.gpu.lock().ok().and_then(|gpu| gpu.clone())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // An answer or a training under way ends soon; nobody waits for it.
        self.quit.stop();
    }
}

/// The engine's thread ended.
#[derive(Debug)]
pub struct Gone;

struct WakeLast(Arc<dyn Fn() + Send + Sync>);

impl Drop for WakeLast {
    fn drop(&mut self) {
        (self.0)();
    }
}
