//! Teaching an adapter on a thread beside the engine's: the trainer of the terminal program, its folder of a run, and events for
//! the window. The model's weights are shared, so that one can talk to it meanwhile.
mod run;

use std::path::PathBuf;
use std::sync::Arc;

use crate::{ModelFile, Problem};
use adapter_engine::Model;
use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_engine::text::Tokenizer;
use adapter_finetune::checkpoint::Checkpoint;
use adapter_finetune::data::{DataError, DataOptions, Dataset, Question, Renderer};
use adapter_finetune::metrics::Record;
use adapter_finetune::settings::rows_over_context;
use adapter_finetune::{Backend, RunMemory, RunOptions, RunSettings, TrainError, defaults, samples};

use super::{Event, Events, Stop};

/// What to teach and how.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSettings {
    /// Rows to learn, .json or .jsonl.
    pub data: PathBuf,
    /// Folder of the run.
    pub out: PathBuf,
    /// Times all rows are used.
    pub epochs: f64,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// A: prompt tokens a layer.
    pub adapter_len: u32,
    /// L_a: adapted layers; 0: all but two.
    pub adapter_layers: u32,
    /// What the gates mean.
    pub gate: GateKind,
    /// Tokens of a batch at most.
    pub batch_tokens: u32,
    /// Same seed, same rows, same machine: same run.
    pub seed: u64,
    /// Asked before, during and after; empty: two rows that are not learnt.
    pub question: String,
}

impl Default for TrainSettings {
    /// As the terminal program has them.
    fn default() -> Self {
        Self {
            data: PathBuf::new(),
            out: PathBuf::new(),
            epochs: defaults::EPOCHS,
            learning_rate: defaults::LEARNING_RATE,
            adapter_len: defaults::ADAPTER_LEN,
            adapter_layers: 0,
            gate: GateKind::default(),
            batch_tokens: defaults::BATCH_TOKENS,
            seed: 0,
            question: String::new(),
        }
    }
}

impl TrainSettings {
    /// As options of a run.
    fn options(&self) -> RunOptions {
        let question = self.question.trim();
        RunOptions {
            data: Some(self.data.clone()),
            adapter_len: Some(self.adapter_len),
            adapter_layers: (self.adapter_layers > 0).then_some(self.adapter_layers),
            gate: Some(self.gate),
            lr: Some(self.learning_rate),
            epochs: Some(self.epochs),
            batch_tokens: Some(self.batch_tokens),
            seed: Some(self.seed),
            sample: if question.is_empty() { Vec::new() } else { vec![question.to_owned()] },
            ..RunOptions::default()
        }
    }
}

/// What learning would take.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What was found in the rows, as a few lines.
    pub report: String,
    /// Rows that are trained on.
    pub n_rows: u64,
    /// Optimizer steps.
    pub n_steps: u64,
    /// Trainable parameters.
    pub n_parameters: u64,
    /// Weights of the model, which are not.
    pub n_frozen: u64,
    /// Bytes on the GPU, the model's weights included.
    pub memory_bytes: u64,
}

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainEnd {
    /// All steps are done.
    Done,
    /// The person stopped it; it can go on.
    Stopped,
}

/// What happened in a training.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainEvent {
    /// It begins, or goes on after a step.
    Started {
        /// What it takes.
        plan: Box<Plan>,
        /// Its folder.
        folder: PathBuf,
        /// What happened before, when it goes on.
        before: Vec<Record>,
    },
    /// A step, a validation, a sample, a checkpoint.
    Happened(Record),
    /// How far the gates are open, `[L_a][H or 1]`, activation applied.
    Gates {
        /// The lowest adapted layer.
        first_layer: u32,
        /// By layer and head.
        gates: Vec<Vec<f32>>,
    },
    /// An adapter lies in the folder and can be used.
    Usable(PathBuf),
    /// It is over.
    Ended(TrainEnd),
    /// It went wrong.
    Failed(Problem),
}

/// What a training stands on.
pub(in crate::worker) struct Ground {
    pub file: Arc<ModelFile>,
    pub tokenizer: Arc<Tokenizer>,
    pub model: Model,
}

/// Reads the rows on a thread of its own and says what learning them would take.
pub(in crate::worker) fn start_plan(ground: Ground, ticket: u64, settings: TrainSettings, events: Events) {
    let said = events.clone();
    let started = std::thread::Builder::new().name("rows".to_owned()).spawn(move || {
        let outcome = prepare(&ground, &settings.options(), None, None).map(|prepared| Box::new(prepared.plan));
        said.send(Event::Planned { ticket, outcome });
    });
    if let Err(error) = started {
        events.send(Event::Planned { ticket, outcome: Err(no_thread(&error)) });
    }
}

/// Trains on a thread of its own.
pub(in crate::worker) fn start(
    ground: Ground,
    settings: TrainSettings,
    resume: bool,
    stops: [Stop; 2],
    events: Events,
) -> Result<(), Problem> {
    let work = move || {
        let event = match run::train(&ground, settings, resume, &stops, &events) {
            Ok(end) => TrainEvent::Ended(end),
            Err(problem) => TrainEvent::Failed(problem),
        };
        events.send(Event::Train(event));
    };
    let started = std::thread::Builder::new().name("trainer".to_owned()).spawn(work);
    started.map(|_| ()).map_err(|error| no_thread(&error))
}

fn no_thread(error: &std::io::Error) -> Problem {
    Problem::new(format!("the system gives no thread: {error}"), "close other programs")
}

/// Rows and settings that fit each other.
struct Prepared {
    dataset: Dataset,
    options: DataOptions,
    questions: Vec<Question>,
    run: RunSettings,
    plan: Plan,
}

/// Reads the rows; `found` is the checkpoint the run goes on from, `start` the adapter it begins with.
fn prepare(
    ground: &Ground,
    wanted: &RunOptions,
    found: Option<&Checkpoint>,
    start: Option<&AdapterFile>,
) -> Result<Prepared, Problem> {
    let config = &ground.file.config;
    if wanted.backend() == Backend::Cpu {
        let hint = "go on with it in the terminal: adapter-cli finetune --resume";
        return Err(Problem::new("this run computes on the processor, and the window trains on the GPU", hint));
    }
    wanted.check(config).map_err(of_training)?;
    let shape = match found {
        Some(checkpoint) => wanted.shape_of_checkpoint(config, &checkpoint.snapshot.adapter),
        None => wanted.shape(config, start),
    };
    let shape = shape.map_err(of_training)?;
    // A run that goes on, or goes on with an adapter, asks as before.
    let before = found.map(|found| &found.snapshot.adapter).or(start);
    let options = wanted.data_options().map_err(of_training)?;
    let options = options.or_template(before.and_then(|file| file.chat_template.as_deref()));
    let Some(data) = &wanted.data else {
        return Err(Problem::new("this run does not say which rows it trains on", "begin a new one with your rows"));
    };
    let mut go_on = |_| std::ops::ControlFlow::Continue(());
    let dataset = Dataset::open(data, wanted.val.as_deref(), &ground.tokenizer, &options, &mut go_on);
    let dataset = dataset.map_err(of_data)?;
    let run = wanted.run_settings(&dataset, shape).map_err(of_training)?;
    let renderer = Renderer::new(&ground.tokenizer, &options).map_err(of_data)?;
    let (tokens, n_context) = (wanted.sample_tokens(), config.n_context);
    let questions = samples::questions(&renderer, &ground.tokenizer, &dataset, &wanted.sample, tokens, n_context);
    let questions = questions.map_err(of_training)?;
    let memory = RunMemory::predict(&ground.file.gguf, config, &run, wanted.f16, &questions, tokens);
    let memory = memory.map_err(of_training)?;
    let mut report = dataset.report.to_string();
    let too_long = [&dataset.training, &dataset.validation].map(|rows| rows_over_context(rows, config.n_context));
    if let n @ 1.. = too_long.into_iter().sum::<u64>() {
        report += &format!("\n{n} rows with more tokens than the model's context of {}", config.n_context);
    }
    if crate::built_in(&ground.file, None).is_ok_and(|inside| inside.is_some()) && found.is_none() && start.is_none() {
        report += "\nThe model's file holds an adapter, which this run does not begin with.";
    }
    let plan = Plan {
        report,
        n_rows: dataset.report.training.rows,
        n_steps: run.recipe.n_steps,
        n_parameters: shape.n_parameters(),
        n_frozen: ground.file.gguf.n_parameters(),
        memory_bytes: memory.total(),
    };
    Ok(Prepared { dataset, options, questions, run, plan })
}

fn of_data(error: DataError) -> Problem {
    Problem { message: error.to_string(), hint: error.hint().map(str::to_owned), code: error.code() }
}

fn of_training(error: TrainError) -> Problem {
    match error {
        TrainError::Engine(error) => Problem::from(*error),
        TrainError::Data(error) => of_data(error),
        error => {
            let (message, hint, code) = (error.to_string(), error.hint(), error.code());
            Problem { message, hint, code }
        }
    }
}
