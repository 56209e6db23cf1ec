//! A training and what is to be trained.

use std::path::{Path, PathBuf};

use adapter_finetune::checkpoint::write_atomically;
use adapter_finetune::metrics::Record;
use adapter_finetune::run_folder;
use adapter_host::{Problem, folders};

use adapter_host::worker::{Command, Plan, Stop, TrainEnd, TrainEvent, TrainSettings};

/// How a training stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing runs; settings can be changed.
    Idle,
    /// Rows are read, the trainer is made.
    Starting,
    /// Steps are made.
    Running,
    /// The step under way is finished and saved.
    Stopping,
}

/// A training and what is to be trained.
#[derive(Debug)]
pub struct Teach {
    form: Form,
    /// Where everything of the user lies.
    folder_of_all: Option<PathBuf>,
    plan: Option<Plan>,
    /// Plans asked for so far; what is said about an earlier one comes too late.
    plans: u64,
    planning: bool,
    /// These rows and settings cannot be learnt: nobody asks again before they change.
    refused: bool,
    phase: Phase,
    stop: Stop,
    folder: Option<PathBuf>,
    /// An adapter lies in the folder.
    usable: bool,
    /// Runs that can go on, those of other sittings and other programs, too.
    unfinished: Vec<PathBuf>,
    records: Vec<Record>,
    gates: Option<(u32, Vec<Vec<f32>>)>,
}

/// What is to be trained, as it is being typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    /// Rows and how they are learnt.
    pub settings: TrainSettings,
    /// Name of the adapter.
    pub name: String,
    /// Path of the rows.
    pub typed_rows: String,
    /// Rows that are typed or pasted.
    pub pasted: String,
}

impl Teach {
    /// Nothing to learn yet; `folder` is where pasted rows and adapters go.
    pub(crate) fn new(folder: Option<&Path>) -> Self {
        let mut teach = Self {
            form: Form {
                settings: TrainSettings::default(),
                name: String::new(),
                typed_rows: String::new(),
                pasted: String::new(),
            },
            folder_of_all: folder.map(Path::to_owned),
            plan: None,
            plans: 0,
            planning: false,
            refused: false,
            phase: Phase::Idle,
            stop: Stop::default(),
            folder: None,
            usable: false,
            unfinished: Vec::new(),
            records: Vec::new(),
            gates: None,
        };
        teach.look_for_unfinished();
        teach
    }

    /// How it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// All that happened.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Where the run lies.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// What learning would take.
    #[doc(hidden)]
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Changes what is trained, for tests that have little time.
    #[doc(hidden)]
    pub fn settings_mut(&mut self) -> &mut TrainSettings {
        self.plan = None;
        &mut self.form.settings
    }

    /// What is being typed.
    pub(crate) fn form(&self) -> &Form {
        &self.form
    }

    /// Takes what was typed. What it takes follows the settings.
    pub(crate) fn set_form(&mut self, form: Form) {
        if form.settings != self.form.settings {
            (self.plan, self.refused) = (None, false);
        }
        self.form = form;
    }

    /// Whether it has to be asked what learning would take.
    pub(crate) fn needs_plan(&self) -> bool {
        self.plan.is_none() && !self.planning && !self.refused && self.form.settings.data.is_file()
    }

    /// Whether rows are being read.
    pub(crate) fn is_planning(&self) -> bool {
        self.planning
    }

    /// Whether an adapter of this run can be talked to.
    pub(crate) fn is_usable(&self) -> bool {
        self.usable
    }

    /// The runs that can go on.
    #[must_use]
    pub fn unfinished(&self) -> &[PathBuf] {
        &self.unfinished
    }

    /// Looks for runs that can go on.
    fn look_for_unfinished(&mut self) {
        self.unfinished = run_folder::unfinished(&self.adapters());
    }

    /// The first adapted layer, and the gates of each layer's heads, activation applied.
    pub(crate) fn gates(&self) -> Option<&(u32, Vec<Vec<f32>>)> {
        self.gates.as_ref()
    }

    /// Begins, or goes on with a run.
    pub(crate) fn start(&mut self, run: Option<PathBuf>) -> Command {
        let mut settings = self.settings();
        let resume = run.is_some();
        if run.is_none() || run != self.folder {
            self.records.clear();
            self.gates = None;
            self.usable = false;
            self.folder.clone_from(&run);
        }
        if let Some(run) = run {
            settings.out = run;
        }
        self.phase = Phase::Starting;
        self.stop = Stop::default();
        Command::Train { settings: Box::new(settings), resume, stop: self.stop.clone() }
    }

    /// Asks it to stop after the step under way.
    pub(crate) fn stop(&mut self) {
        self.stop.stop();
        self.phase = Phase::Stopping;
    }

    /// Keeps pasted rows as a file, since a run that goes on reads them again, and returns its path. The same rows again are the
    /// same file.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub(crate) fn keep_pasted(&self, text: &str) -> Result<PathBuf, Problem> {
        let folder = self.folder_of_all.clone().unwrap_or_else(std::env::temp_dir).join("rows");
        folders::make_private(&folder).map_err(|error| Problem::file("cannot make the folder", &folder, &error))?;
        let ending = if text.trim_start().starts_with('[') { "json" } else { "jsonl" };
        let paths = (1..).map(|n| match n {
            1 => folder.join(format!("pasted.{ending}")),
            n => folder.join(format!("pasted-{n}.{ending}")),
        });
        for path in paths {
            match std::fs::read(&path) {
                Ok(kept) if kept == text.as_bytes() => return Ok(path),
                Ok(_) => {}
                Err(_) => {
                    return write_atomically(&path, text.as_bytes()).map(|()| path).map_err(|error| {
                        Problem::new(error.to_string(), "make room on the disk, or check who may write there")
                    });
                }
            }
        }
        Err(Problem::new("there are too many pasted rows", "delete some of them").at(&folder))
    }

    pub(crate) fn choose(&mut self, path: &Path) {
        if self.phase != Phase::Idle {
            return;
        }
        path.clone_into(&mut self.form.settings.data);
        self.form.typed_rows = path.display().to_string();
        self.plan = None;
        let stem = path.file_stem().map_or_else(|| "adapter".to_owned(), |stem| stem.to_string_lossy().into_owned());
        self.form.name = self.free_name(&stem);
    }

    /// Where adapters go.
    fn adapters(&self) -> PathBuf {
        self.folder_of_all.clone().unwrap_or_else(std::env::temp_dir).join("adapters")
    }

    /// A name that no run has yet.
    fn free_name(&self, stem: &str) -> String {
        let taken = |name: &str| self.adapters().join(name).exists();
        if !taken(stem) {
            return stem.to_owned();
        }
        (2..).map(|n| format!("{stem}-{n}")).find(|name| !taken(name)).unwrap_or_else(|| stem.to_owned())
    }

    /// The settings with the folder that the name stands for.
    #[must_use]
    pub fn settings(&self) -> TrainSettings {
        let name: String = self
            .form
            .name
            .trim()
            .chars()
            .map(|c| if c.is_alphanumeric() || "-_. ".contains(c) { c } else { '-' })
            .collect();
        let name = name.trim_matches(['.', ' ']).to_owned();
        let folder = self.adapters();
        TrainSettings {
            out: folder.join(if name.is_empty() { "adapter" } else { &name }),
            ..self.form.settings.clone()
        }
    }

    /// Asks what learning would take.
    pub(crate) fn planning(&mut self) -> Command {
        self.plans += 1;
        (self.planning, self.refused) = (true, false);
        Command::Plan { ticket: self.plans, settings: Box::new(self.settings()) }
    }

    pub(crate) fn planned(&mut self, ticket: u64, outcome: Result<Box<Plan>, Problem>) -> Option<Problem> {
        if ticket != self.plans {
            return None;
        }
        self.planning = false;
        match outcome {
            Ok(plan) => {
                self.plan = Some(*plan);
                None
            }
            Err(problem) => {
                self.plan = None;
                self.refused = true;
                Some(problem)
            }
        }
    }

    /// Takes an event; returns what is to be told.
    pub(crate) fn event(&mut self, event: TrainEvent) -> Option<Result<String, Problem>> {
        match event {
            TrainEvent::Started { plan, folder, before } => {
                self.phase = if self.stop.is_set() { Phase::Stopping } else { Phase::Running };
                self.plan = Some(*plan);
                self.folder = Some(folder);
                self.records = before;
                None
            }
            TrainEvent::Happened(record) => {
                self.records.push(record);
                None
            }
            TrainEvent::Gates { first_layer, gates } => {
                self.gates = Some((first_layer, gates));
                None
            }
            TrainEvent::Usable(_) => {
                self.usable = true;
                None
            }
            TrainEvent::Ended(end) => {
                self.phase = Phase::Idle;
                self.look_for_unfinished();
                Some(Ok(match end {
                    TrainEnd::Done => "The adapter is taught".to_owned(),
                    TrainEnd::Stopped => "The training is stopped and saved; it can go on later".to_owned(),
                }))
            }
            TrainEvent::Failed(problem) => {
                self.phase = Phase::Idle;
                self.look_for_unfinished();
                Some(Err(problem))
            }
        }
    }

    /// The GPU took the training along.
    pub(crate) fn lost(&mut self) {
        self.stop.stop();
        if self.phase != Phase::Idle {
            self.phase = Phase::Idle;
            self.look_for_unfinished();
        }
    }

    /// Steps done, and in all.
    #[must_use]
    pub fn step(&self) -> (u64, u64) {
        let done = self.records.iter().rev().find_map(|record| match record {
            Record::Step(step) => Some(step.step),
            _ => None,
        });
        (done.unwrap_or(0), self.plan.as_ref().map_or(0, |plan| plan.n_steps))
    }
}
